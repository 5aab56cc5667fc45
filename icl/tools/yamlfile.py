"""YAML files checked by pydantic, with errors that name file, line and field."""

from __future__ import annotations

import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from icl.errors import IclError, did_you_mean

Loc = tuple[str | int, ...]
Places = Mapping[Loc, tuple[Path, int]]
_BOOL = "tag:yaml.org,2002:bool"
_COLLECTIONS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_MOST_VALUES = 200_000  # aliases of aliases can stand for more values than memory holds

ModelT = TypeVar("ModelT", bound=BaseModel)


def load_yaml(path: Path, model: type[ModelT]) -> ModelT:
    """Read a YAML file as a pydantic model.

    Raises:
        IclError: the file cannot be read, is no YAML, or does not fit the model; the sentence names
            the file, the line and the field.
    """
    data, lines = read_yaml(path)
    return validate(data, {loc: (path, line) for loc, line in lines.items()}, model)


def validate(data: Any, places: Places, model: type[ModelT]) -> ModelT:
    """Make a pydantic model of a value that came from YAML files.

    Args:
        data: the value.
        places: the file and line of every key and item, of the whole at least.
        model: what it should be.

    Raises:
        IclError: it does not fit; the sentence names the file, the line and the field.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise IclError(_sentence(places, model, error)) from error


def fault(message: str, *at: str | int) -> PydanticCustomError:
    """Return an error for a validator to raise that points to a field inside the one validated."""
    return PydanticCustomError("fault", "{message}", {"message": message, "at": at})


def read_yaml(path: Path, *, marks: Sequence[str] = ()) -> tuple[Any, Mapping[Loc, int]]:
    """Read a YAML file; return its value and the line (from 1) of every key and item.

    Args:
        path: the file.
        marks: tags whose values become texts with the tag before them; others are refused.

    Raises:
        IclError: the file cannot be read, is no YAML, or names a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise IclError(f"There is no file {path}; check the path.") from error
    except UnicodeDecodeError as error:
        raise IclError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8."
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise IclError(f"{path} cannot be read: {reason}.") from error
    lines: dict[Loc, int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = None if node is None else _Reader(path, lines, marks).value(node, ())
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        problem = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
        raise IclError(f"{path},{where} not valid YAML: {problem}.") from error
    except RecursionError as error:
        raise IclError(f"{path} is nested too deeply to be read; flatten it.") from error
    lines.setdefault((), 1)
    return value, lines


@dataclass(frozen=True, slots=True)
class _Reader:
    """Builds plain values of YAML nodes and notes the lines of what is inside."""

    path: Path
    lines: dict[Loc, int]
    marks: Sequence[str]

    def value(self, node: yaml.Node, loc: Loc) -> Any:
        self.lines.setdefault(loc, node.start_mark.line + 1)
        if len(self.lines) > _MOST_VALUES:
            raise IclError(f"{self.path} holds more than {_MOST_VALUES} values; use fewer aliases.")
        if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
            raise yaml.constructor.ConstructorError(
                None, None, f"the tag {node.tag!r} is not known", node.start_mark
            )
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*loc, i)) for i, item in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return self._scalar(node)
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            # A key that is a collection is not even built: aliases can make it fill the memory.
            key = self._scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str | int) or key in values:
                told = f"the key {key!r} stands twice" if key in values else "this cannot be a key"
                raise IclError(f"{self.path}, line {line}: {told}; rename or remove it.")
            self.lines[(*loc, key)] = line
            values[key] = self.value(value_node, (*loc, key))
        return values

    def _scalar(self, node: yaml.Node) -> Any:
        if node.tag in self.marks:
            return f"{node.tag} {node.value}"
        # YAML 1.1 reads `no:` as False; the language code for Norwegian must stay a word
        if node.tag == _BOOL and node.value.lower() in ("no", "yes", "on", "off"):
            return node.value
        try:
            return yaml.SafeLoader("").construct_object(node, deep=True)
        except (ValueError, OverflowError, KeyError) as error:
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value!r} has no value of its kind", node.start_mark
            ) from error


def _sentence(places: Places, model: type[BaseModel], error: ValidationError) -> str:
    # a misspelt field often explains why another is missing
    errors = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    first = errors[0]
    loc = _known((*first["loc"], *first.get("ctx", {}).get("at", ())), places)
    missing = first["type"] == "missing"
    field = ".".join(str(p) for p in (*loc, first["loc"][-1]) if p != "") if missing else _dots(loc)
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    hint = ""
    if first["type"] == "extra_forbidden":
        message = "no such field"
        names = [name for m in _models_at(model, first["loc"][:-1]) for name in m.model_fields]
        hint = did_you_mean(str(first["loc"][-1]), names) if names else ""
    elif missing:
        message = "this field is missing; add it"
    elif first["type"] == "literal_error" and first["loc"][-1] == "schema_version":
        message = _version(first["input"], int(first["ctx"]["expected"]))
    stop = "" if message.endswith("?") else "."
    return f"{spot(places[loc])}, field {field!r}: {message}{stop}{hint}"


def _version(found: object, known: int) -> str:
    """Say what is wrong with a schema version: there has been one of each schema so far."""
    if isinstance(found, int) and found > known:
        return f"version {found} is a newer icl's, and this one reads {known}; update icl"
    return f"there is no version {found!r}; write {known}, and see whether the fields still fit"


def spot(place: tuple[Path, int]) -> str:
    """Say where a value stands; the line 0 says that it is no file's, see `icl.tools.overrides`."""
    path, line = place
    return f"{path}, line {line}" if line else str(path)


def _dots(loc: Loc) -> str:
    return ".".join(str(part) for part in loc)


def _known(loc: Loc, places: Places) -> Loc:
    """Keep the parts of a pydantic location that stand in the file (it also names union tags)."""
    kept: Loc = ()
    for part in loc:
        if (*kept, part) in places:
            kept = (*kept, part)
    return kept


def _models_at(model: Any, loc: Loc) -> Iterator[type[BaseModel]]:
    """Find the models that a location may lead to, through fields, mappings, lists and unions."""
    models = list(_models_in(model))
    if not loc:
        yield from models
        return
    for candidate in models:
        field = candidate.model_fields.get(str(loc[0]))
        if field is not None:
            yield from _models_at(field.annotation, loc[1:])
    if not any(str(loc[0]) in candidate.model_fields for candidate in models):
        # an index, a mapping's key or a union's tag: the same models stand behind it
        tagged = [m for m in models if _tag(m) == loc[0]] or models
        for candidate in tagged:
            yield from _models_at(candidate, loc[1:])


def _tag(model: type[BaseModel]) -> Any:
    field = model.model_fields.get("type")
    arguments = typing.get_args(field.annotation) if field else ()
    return arguments[0] if arguments else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in typing.get_args(annotation):
        yield from _models_in(argument)
