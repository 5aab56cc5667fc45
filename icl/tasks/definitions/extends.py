"""Reading a definition, with the ones that it extends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from icl.errors import IclError, did_you_mean
from icl.tasks.definitions.family import Definition
from icl.tools.shipped import shipped
from icl.tools.yamlfile import Loc, Places, read_yaml, validate


def read_definition(path: Path) -> Definition:
    """Read a definition file and those it extends.

    Raises:
        IclError: a file that cannot be read or is not right; the sentence names file, line, field.
    """
    data, places = _read(path, ())
    return validate(data, places, Definition)


def family_names() -> tuple[str, ...]:
    """Return the names of the families that icl ships."""
    return tuple(sorted(path.stem for path in shipped("tasks").glob("*.yaml")))


def find_definition(name_or_path: str, beside: Path | None = None) -> Path:
    """Return the file of a shipped family by name, or of any by path.

    Args:
        name_or_path: a name, or a path that has a slash or ends in .yaml or .yml.
        beside: the directory that a relative path starts from; by default the current one.
    """
    if name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path:
        path = Path(name_or_path).expanduser()
        return beside / path if beside else path
    if name_or_path not in family_names():
        raise IclError(
            f"No task family {name_or_path!r}." + did_you_mean(name_or_path, family_names())
        )
    return shipped("tasks") / f"{name_or_path}.yaml"


def _read(path: Path, below: tuple[Path, ...]) -> tuple[Any, Places]:
    data, lines = read_yaml(path)
    places: dict[Loc, tuple[Path, int]] = {loc: (path, line) for loc, line in lines.items()}
    if not isinstance(data, dict):
        return data, places
    _anchor(data, path.parent)
    base = data.get("extends")
    if not isinstance(base, str):
        return data, places
    where = f"{path}, line {lines['extends',]}, field 'extends'"
    if path.resolve() in below:
        raise IclError(f"{where}: definitions extend each other in a circle; break it.")
    try:
        found, inherited = _read(find_definition(base, path.parent), (*below, path.resolve()))
    except IclError as error:
        raise IclError(f"{where}: {error}") from error
    merged = dict(inherited)
    value = _merge(found, data, (), merged, places)
    merged[()] = places[()]
    return value, merged


def _merge(base: Any, own: Any, loc: Loc, places: dict[Loc, tuple[Path, int]], new: Places) -> Any:
    """Lay a value over an inherited one and note where its parts now stand."""
    if not isinstance(base, dict) or not isinstance(own, dict):
        for place in [p for p in places if p[: len(loc)] == loc]:
            del places[place]
        places.update({p: where for p, where in new.items() if p[: len(loc)] == loc})
        return own
    places[loc] = new[loc]
    result = dict(base)
    for key, value in own.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _merge(base.get(key), value, (*loc, key), places, new)
    return result


def _anchor(data: dict[Any, Any], folder: Path) -> None:
    """Start `root` and files of sources and of kinds from the definition's own directory."""
    sources = data.get("sources")
    for source in sources if isinstance(sources, list) else ():
        if isinstance(source, dict) and isinstance(source.get("root"), str):
            source["root"] = str(folder / Path(source["root"]).expanduser())
        if isinstance(source, dict) and ".py:" in str(source.get("type")):
            source["type"] = str(folder / Path(source["type"]).expanduser())
    tasks = data.get("tasks")
    for task in tasks.values() if isinstance(tasks, dict) else ():
        if isinstance(task, dict) and ".py:" in str(task.get("kind")):
            task["kind"] = str(folder / Path(task["kind"]).expanduser())
