"""The schema of one task of a definition: its template, and what its kind brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    GetJsonSchemaHandler,
    InstanceOf,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from icl.errors import IclError, did_you_mean
from icl.tasks.kinds.base import Kind
from icl.tasks.kinds.classification import CLASSIFICATION
from icl.tasks.kinds.registry import KINDS, RESERVED, kind_class
from icl.tasks.kinds.task_labels import Vocabulary
from icl.tasks.sources.base import Source
from icl.tasks.sources.schema import Columns, OwnColumns, Strict
from icl.tasks.template import Template, template_fields
from icl.tasks.words import clash
from icl.tools.yamlfile import fault, nested

_OWN = "^.+:[A-Za-z_]\\w*$"  # file.py:Class or package.module:Class
_NAMES = {"anyOf": [{"enum": list(KINDS)}, {"type": "string", "pattern": _OWN}]}


def _check_jinja(source: str) -> str:
    try:
        template_fields(source)
    except IclError as error:
        raise ValueError(str(error)) from error
    return source


_Jinja = Annotated[str, AfterValidator(_check_jinja)]


class TemplateChange(Strict):
    """What a template says otherwise for examples in one language."""

    input: _Jinja | None = None
    target: _Jinja | None = None
    separator: str | None = None
    instruction: str | None = None


class TemplateDefinition(Strict):
    """See `icl.tasks.Template`.

    Attributes:
        languages: what is said otherwise for examples in a language.
    """

    input: _Jinja
    target: _Jinja = " {{ label }}"
    separator: str = "\n\n"
    instruction: str = ""
    languages: Mapping[str, TemplateChange] = Field(default_factory=dict)

    def build(self, language: str) -> Template:
        """Return the template for a language."""
        parts = self.model_dump(include={"input", "target", "separator", "instruction"})
        own = self.languages.get(language)
        return Template(**parts | (own.model_dump(exclude_none=True) if own else {}))


class TaskDefinition(Vocabulary):
    """One task of the family.

    Attributes:
        kind: ``multiple_choice`` has options in each row, which templates see as fields under the
            labels' names (A, B, …); the right one is given by label, by text, or by `label_map`.
            ``generation`` has a reference text in place of a label. Or somebody's own:
            ``file.py:Class``, seen from the definition's file, or ``package.module:Class``.
        template, templates: how examples are put before a language model: one, or several by name,
            of which the first is used unless another is asked for.
        incomplete: what becomes of rows with a missing or empty value, with two options alike, or
            with more or fewer options than labels: ``refuse`` tells of the first, ``skip`` leaves
            them out.
        columns: columns that are this task's own.
    """

    kind: Annotated[InstanceOf[Kind], WithJsonSchema(_NAMES)] = CLASSIFICATION
    template: TemplateDefinition | None = None
    templates: Mapping[str, TemplateDefinition] = Field(default_factory=dict)
    incomplete: Literal["refuse", "skip"] = "refuse"
    columns: OwnColumns | None = None

    @model_validator(mode="before")
    @classmethod
    def _kind_takes_its_part(cls, said: Any) -> Any:
        if not isinstance(said, Mapping):
            return said
        rest = dict(said)
        own = _class_of(rest.pop("kind", KINDS[0]))
        taken = {*cls.model_fields, *RESERVED}.intersection(own.model_fields)
        if taken:
            name = sorted(taken)[0]
            raise fault(f"the kind has a field {name!r}, which all tasks have; rename it", "kind")
        for name in (n for n in rest if n not in {**cls.model_fields, **own.model_fields}):
            others = [k for k in KINDS if name in kind_class(k).model_fields]
            if others:
                told = " and ".join(others)
                raise fault(f"{name} are for {told}; remove them or change `kind`", name)
            hint = did_you_mean(str(name), [*cls.model_fields, *own.model_fields])
            raise fault(f"no such field.{hint}", name)
        part = {name: rest.pop(name) for name in own.model_fields if name in rest}
        try:
            return {**rest, "kind": own.model_validate(part)}
        except ValidationError as error:
            raise nested(error, own) from error

    @model_validator(mode="after")
    def _labels_fit_the_kind(self) -> TaskDefinition:
        self.kind.check(self)
        return self

    @model_validator(mode="after")
    def _words_tell_labels_apart(self) -> TaskDefinition:
        built = [(t, code) for t in self.named_templates.values() for code in t.languages]
        built += [(t, c) for t in self.named_templates.values() for c in ("", *self.words)]
        for template, language in built:
            try:
                same = clash(self.words_in(language), template.build(language).target)
            except IclError as error:  # which does not know where it stands
                field = "templates" if self.template is None else "template"
                raise fault(str(error).rstrip("."), field) from error
            if same is not None:
                at = ("words", language, same.second) if language in self.words else ("labels",)
                raise fault(f"{same}; give each its own", *at)
        return self

    @model_validator(mode="after")
    def _has_a_template(self) -> TaskDefinition:
        if (self.template is None) == (not self.templates):
            raise fault("give either `template` or `templates`")
        return self

    @property
    def named_templates(self) -> Mapping[str, TemplateDefinition]:
        """The templates by name; a single one is called ``default``."""
        return {"default": self.template} if self.template else self.templates

    def columns_in(self, source: Source) -> Columns:
        """Return where a source's rows hold what this task needs."""
        found = source.own_columns
        return self.columns.over(found) if self.columns else found

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Add the fields of each kind of icl's, and leave somebody's own free to have others."""
        reference = handler(core)
        schema = handler.resolve_ref_schema(reference)
        del schema["additionalProperties"]
        shared = set(schema["properties"])
        schema["properties"]["kind"]["default"] = KINDS[0]
        for name in KINDS:
            own = kind_class(name).model_json_schema()
            schema["properties"] |= own.get("properties", {})
        known = {"propertyNames": {"enum": sorted(schema["properties"])}}
        other = {"properties": {"kind": {"pattern": _OWN}}, "required": ["kind"]}
        schema["allOf"] = [{"if": other, "else": known}]
        for name in KINDS:
            theirs = sorted(set(schema["properties"]) - shared - set(kind_class(name).model_fields))
            is_it = {"properties": {"kind": {"const": name}}}
            if name != KINDS[0]:  # the default may be left out
                is_it["required"] = ["kind"]  # type: ignore[assignment]
            if theirs:
                none = {"properties": dict.fromkeys(theirs, False)}
                schema["allOf"].append({"if": is_it, "then": none})
        return reference


def _class_of(said: Any) -> type[Kind]:
    """Return the class of a kind, of which a fault says in one sentence that it is not there."""
    if not isinstance(said, str):
        raise fault(f"{said!r} is no kind of task; name one of {', '.join(KINDS)}", "kind")
    try:
        return kind_class(said)
    except IclError as error:
        raise fault(str(error), "kind") from error


def check_templates(name: str, task: TaskDefinition, columns: Columns) -> None:
    """Check that templates show fields that the rows have, and targets the label."""
    known = [*columns.fields, *task.kind.shows(task.labels)]
    for own, template in task.named_templates.items():
        at = ("tasks", name, *(("template",) if task.template else ("templates", own)))
        _check_template(template, known, at)
        for language, change in template.languages.items():
            _check_template(change, known, (*at, "languages", language))


def _check_template(
    template: TemplateDefinition | TemplateChange, known: Sequence[str], at: Sequence[str]
) -> None:
    if template.input is not None:
        shown = template_fields(template.input)
        if not shown:
            raise fault(f"the template shows no field; known: {', '.join(known)}", *at, "input")
        for field in sorted(shown - set(known)):
            hint = did_you_mean(field, known)
            raise fault(f"the template shows an unknown field {field!r}.{hint}", *at, "input")
    if template.target is not None and template_fields(template.target) != {"label"}:
        raise fault("a target shows {{ label }} and nothing else", *at, "target")
