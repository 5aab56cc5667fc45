"""Sources by name, and somebody's own; each reads its part of a definition's YAML."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

from pydantic import GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.base import Source
from icl.tools.own_class import is_own, own_class
from icl.tools.yamlfile import fault, nested

# type -> module:class
_SOURCES = {
    "cldr": "icl.tasks.sources.cldr:CldrSource",
    "directory": "icl.tasks.sources.directory:DirectorySource",
    "hub": "icl.tasks.sources.hub:HubSource",
    "lm-eval": "icl.tasks.sources.lm_eval:LmEvalSource",
    "plugin": "icl.tasks.sources.plugins:PluginSource",
}


def source_class(name: str) -> type[Source]:
    """Return a source's class by its type, or somebody's own by ``file.py:Class``.

    Raises:
        IclError: there is none.
    """
    if name in _SOURCES:
        module, _, kind = _SOURCES[name].partition(":")
        found: type[Source] = getattr(import_module(module), kind)
        return found
    if is_own(name):
        return own_class(name, Source, "source")  # type: ignore[type-abstract]
    raise IclError(f"No source {name!r}.{did_you_mean(name, _SOURCES)}")


def _read(said: Any) -> Source:
    if isinstance(said, Source):
        return said
    if not isinstance(said, Mapping):
        raise fault("a source is a mapping with a `type`; write {type: directory, …}")
    if "type" not in said:
        raise fault(f"`type` is missing; write one of {', '.join(_SOURCES)}, or file.py:Class")
    try:
        kind = source_class(str(said["type"]))
    except IclError as error:
        raise fault(str(error), "type") from error
    try:
        return kind.model_validate(said)
    except ValidationError as error:
        raise nested(error, kind) from error


class _ByType:
    """Reads a source by the class that its `type` names, and describes all that icl knows."""

    @staticmethod
    def __get_pydantic_core_schema__(*_: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(_read)

    @staticmethod
    def __get_pydantic_json_schema__(
        _: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        known: list[CoreSchema | tuple[CoreSchema, str]]
        known = [source_class(name).__pydantic_core_schema__ for name in _SOURCES]
        said = handler(core_schema.union_schema(known))
        for name, one in zip(_SOURCES, said["anyOf"], strict=True):
            handler.resolve_ref_schema(one)["properties"]["type"] = {"const": name}
        own = {"type": "string", "pattern": "^.+:[A-Za-z_]\\w*$"}  # file.py:Class and its like
        said["anyOf"].append({"type": "object", "required": ["type"], "properties": {"type": own}})
        return said


AnySource = Annotated[Source, _ByType]
