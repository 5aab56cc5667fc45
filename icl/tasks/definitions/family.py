"""The schema of a task definition: one YAML file a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from icl.errors import IclError, did_you_mean
from icl.tasks.definitions.consistency import check_definition
from icl.tasks.sources.base import Source
from icl.tasks.sources.registry import AnySource
from icl.tasks.sources.schema import Columns, OwnColumns, Strict, as_text
from icl.tasks.task import keyed_by_label, label_name
from icl.tasks.template import Template, template_fields
from icl.tasks.words import clash
from icl.tools.yamlfile import fault

Metric = Literal["exact_match", "token_f1", "chrf", "bleu", "rouge"]
Apart = Literal["class", "language", "task", "id"]
_Word = Annotated[
    str,
    BeforeValidator(as_text),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]
_Label = Annotated[
    str,
    BeforeValidator(as_text),
    AfterValidator(label_name),
    WithJsonSchema({"type": ["string", "number", "boolean"]}),
]


def _keys_apart(said: Any) -> Any:
    if isinstance(said, Mapping):
        keyed_by_label((str(as_text(name)), value) for name, value in said.items())
    return said


_ByLabel = BeforeValidator(_keys_apart)  # of two spellings of one label the last would count


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


class TaskDefinition(Strict):
    """One task of the family.

    Attributes:
        kind: ``multiple_choice`` has options in each row, which templates see as fields under the
            labels' names (A, B, …); the right one is given by label, by text, or by `label_map`.
            ``generation`` has a reference text in place of a label.
        template, templates: how examples are put before a language model: one, or several by name,
            of which the first is used unless another is asked for.
        labels: canonical label names in a fixed order; rows with other labels are an error.
        label_map: what stands in the data -> label, where they differ.
        skip: what stands in the data in place of a label for rows that are left out.
        incomplete: what becomes of rows with a missing or empty value, with two options alike, or
            with more or fewer options than labels: ``refuse`` tells of the first, ``skip`` leaves
            them out.
        words: language, or ``default`` -> label -> the word shown for it; by default its name.
        metrics: for generation, by which metrics an answer is judged.
        columns: columns that are this task's own.
    """

    kind: Literal["classification", "multiple_choice", "generation"] = "classification"
    template: TemplateDefinition | None = None
    templates: Mapping[str, TemplateDefinition] = Field(default_factory=dict)
    labels: tuple[_Label, ...] = ()
    label_map: Annotated[Mapping[_Label, _Label], _ByLabel] = Field(default_factory=dict)
    skip: tuple[_Label, ...] = ()
    incomplete: Literal["refuse", "skip"] = "refuse"
    words: Mapping[str, Annotated[Mapping[_Label, _Word], _ByLabel]] = Field(default_factory=dict)
    metrics: tuple[Metric, ...] = ()
    columns: OwnColumns | None = None

    @model_validator(mode="after")
    def _labels_fit_the_kind(self) -> TaskDefinition:
        if self.kind == "generation":
            for name in ("labels", "label_map", "words"):
                if getattr(self, name):
                    raise fault("a generation task has no labels; remove them", name)
            if not self.metrics:
                raise fault("a generation task needs `metrics`, e.g. [exact_match]")
        elif self.metrics:
            raise fault("metrics are for generation; remove them or change `kind`", "metrics")
        elif len(self.labels) < 2:
            raise fault("give two labels or more", "labels")
        for place, label in enumerate(self.labels):
            if not label.strip():
                raise fault("a label is empty; name it", "labels", place)
            if label in self.labels[:place]:
                raise fault(f"{label!r} stands twice; remove one", "labels", place)
        for raw, label in self.label_map.items():
            self._check_label(label, "label_map", raw)
        return self

    @model_validator(mode="after")
    def _words_tell_labels_apart(self) -> TaskDefinition:
        for language, words in self.words.items():
            for label in words:
                self._check_label(label, "words", language, label)
            for label, word in self.words_in(language).items():
                if not word.strip():
                    raise fault("the word is empty; give one", "words", language, label)
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

    def _check_label(self, label: str, *at: str) -> None:
        if label not in self.labels:
            raise fault(f"unknown label {label!r}.{did_you_mean(label, self.labels)}", *at)

    @property
    def named_templates(self) -> Mapping[str, TemplateDefinition]:
        """The templates by name; a single one is called ``default``."""
        return {"default": self.template} if self.template else self.templates

    def words_in(self, language: str) -> dict[str, str]:
        """Return the word of each label in a language, else the default one, else its name."""
        own, default = self.words.get(language, {}), self.words.get("default", {})
        return {label: own.get(label, default.get(label, label)) for label in self.labels}

    def columns_in(self, source: Source) -> Columns:
        """Return where a source's rows hold what this task needs."""
        found = source.own_columns
        return self.columns.over(found) if self.columns else found


class SplitDefinition(Strict):
    """One meta-split.

    Attributes:
        languages: which languages it draws from.
        tasks: which tasks; by default all.
        data: which data splits of the source; by default all.
        labels: which labels; by default all.
        share: which share of the items, as two numbers from 0 to 1: items are dealt by a hash of
            their id, so that [0, 0.8] and [0.8, 1] are apart in every language.
    """

    languages: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] | None = Field(default=None, min_length=1)
    data: tuple[str, ...] | None = Field(default=None, min_length=1)
    labels: tuple[_Label, ...] | None = Field(default=None, min_length=1)
    share: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _lists_are_sets_and_share_is_a_range(self) -> SplitDefinition:
        for name in ("languages", "tasks", "data", "labels"):
            values = getattr(self, name) or ()
            for place, value in enumerate(values):
                if value in values[:place]:
                    raise fault(f"{value!r} stands twice; remove one", name, place)
        if self.share and not 0 <= self.share[0] < self.share[1] <= 1:
            raise fault("the share must rise within 0 and 1, e.g. [0, 0.8]", "share")
        return self


class Definition(Strict):
    """A task family as its YAML file gives it.

    Attributes:
        extends: the name or path of a definition that this one changes: mappings are merged, other
            values replaced, and null removes.
        sources: where examples come from; the first that is at hand is read.
        data: names of the source's own splits, where it has any.
        disjoint: pairs of meta-splits that must share no ``class``, ``language``, ``task`` or
            ``id``.
        licence, citation, url: of the data.
        checked: what was looked up about the data, and where.
    """

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str
    licence: str
    sources: tuple[AnySource, ...] = Field(min_length=1)
    tasks: Mapping[str, TaskDefinition] = Field(min_length=1)
    splits: Mapping[str, SplitDefinition] = Field(min_length=1)
    data: tuple[str, ...] = ()
    disjoint: tuple[tuple[str, str, Apart], ...] = ()
    citation: str = ""
    url: str = ""
    checked: str = ""
    extends: str | None = None

    @model_validator(mode="after")
    def _parts_fit_each_other(self) -> Definition:
        check_definition(self)
        return self

    def tasks_of(self, split: SplitDefinition) -> tuple[str, ...]:
        """Return the names of a split's tasks."""
        return split.tasks or tuple(self.tasks)
