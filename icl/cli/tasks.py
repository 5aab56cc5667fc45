"""The commands ``icl tasks list | show | check | new``."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl.cli.say import say
from icl.errors import IclError

if TYPE_CHECKING:
    from icl.tasks.definitions.family import Definition
    from icl.tasks.definitions.task import TaskDefinition

app = typer.Typer(
    help="Look at task families, check definitions, and write one for your own data.",
    no_args_is_help=True,
)

_DATA = typer.Option(help="A local directory with the family's data.")
_EXIT_USER_FAULT = 2


@app.command(name="list")
def list_() -> None:
    """List the families that icl brings along."""
    from icl.tasks.definitions.extends import family_names, find_definition, read_definition
    from icl.tasks.kinds.registry import kind_name

    rows = [("family", "tasks", "languages", "labels", "kind", "what")]
    for name in family_names():
        family = read_definition(find_definition(name))
        kinds = dict.fromkeys(kind_name(task.kind) for task in family.tasks.values())
        labels = max(len(task.labels) for task in family.tasks.values()) or "–"
        numbers = (str(len(family.tasks)), str(len(_languages(family))), str(labels))
        rows.append((name, *numbers, ", ".join(kinds).replace("_", " "), family.description))
    widths = [max(len(row[place]) for row in rows) for place in range(5)]
    for row in rows:
        cells = (
            cell.rjust(width) if place in (1, 2, 3) else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row[:5], widths, strict=True))
        )
        say("  ".join((*cells, row[5])))


@app.command()
def show(
    family: Annotated[str, typer.Argument(help="A task family's name or definition file.")],
    language: Annotated[
        str | None, typer.Option(help="Also read the data and show an example in this language.")
    ] = None,
    data: Annotated[Path | None, _DATA] = None,
) -> None:
    """Show what a family is: its tasks, labels, templates, splits and where it comes from."""
    from icl.tasks import Labels, load_family
    from icl.tasks.definitions.extends import find_definition, read_definition
    from icl.tasks.kinds.posing import asked

    definition = read_definition(find_definition(family))
    for line in _about(definition):
        say(line)
    loaded = None if language is None else load_family(family, data=data)
    for name, task in definition.tasks.items():
        for line in _task_lines(name, task):
            say(line)
        if loaded is None or language is None:
            continue
        examples = loaded.load(name, language).examples
        say(f"  {len(examples)} examples in {language}" + ("; the first:" * bool(examples)))
        for own, template in task.named_templates.items():
            if examples:
                words = tuple(task.words_in(language).values())
                labels = Labels(task.labels, words, template.build(language))
                space = task.kind.space(labels)
                answers = dict(zip(space.names, space.words, strict=True))
                say(f"  template {own}:")
                for one in asked(task.kind, examples[0], labels, space):
                    answer = space.template.answer(answers.get(one.label, one.label))
                    shown = space.template.render(one.fields) + answer
                    say("\n".join(f"    | {line}" for line in shown.split("\n")))


@app.command()
def check(
    what: Annotated[
        list[str], typer.Argument(help="Definition files, folders of them, or families' names.")
    ],
    data: Annotated[Path | None, _DATA] = None,
    hub: Annotated[
        bool, typer.Option(help="Also read data that must be fetched over the network.")
    ] = False,
) -> None:
    """Check definitions, and the data that they name where they are at hand."""
    from icl.tasks.definitions.extends import read_definition
    from icl.tasks.definitions.survey import survey
    from icl.tasks.sources.choose import choose_source

    faults = 0
    for path in _definitions(what):
        try:
            definition = read_definition(path)
            told = f"{_number(definition.tasks, 'task')}, " + _number(
                _languages(definition), "language"
            )
            try:
                reads = hub or not choose_source(definition, data).remote
            except IclError:
                if data is not None:
                    raise
                reads = False  # no source is at hand, which is no fault of the definition
            if reads:
                found = survey(definition, data)
                told += f", {found.examples} examples read"
                for task, label in found.unused:
                    told += f"\n  Note: the task {task!r} has no example of the label {label!r}."
            else:
                told += "; data not read, name them with --data or allow --hub"
            typer.echo(f"{path}: right; {told}")
        except IclError as error:
            faults += 1
            typer.echo(f"icl: {error}", err=True)
    if faults:
        raise typer.Exit(_EXIT_USER_FAULT)


@app.command()
def new(
    data: Annotated[
        Path,
        typer.Argument(help="A table, a directory of train.csv, test.csv …, or of de/train.csv …"),
    ],
    out: Annotated[
        Path | None, typer.Option(help="The definition's file; by default <name>.yaml here.")
    ] = None,
    label: Annotated[str | None, typer.Option(help="The column of labels or references.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A column of text; repeat for more.")
    ] = None,
    id_: Annotated[str | None, typer.Option("--id", help="A column of ids.")] = None,
    kind: Annotated[
        str, typer.Option(help="classification, or generation of free text.")
    ] = "classification",
    language: Annotated[
        str, typer.Option(help="The language of files that are not in folders by language.")
    ] = "en",
) -> None:
    """Write a definition for your own data, with the schema by which editors complete it."""
    from icl.tasks.definitions.draft import draft_definition
    from icl.tasks.definitions.extends import read_definition
    from icl.tasks.definitions.json_schema import SCHEMA_FILE, schema_text
    from icl.tasks.definitions.survey import survey

    folder = Path() if out is None else out.parent
    name, definition = draft_definition(
        data,
        folder,
        kind=kind,
        label=label,
        fields=text or (),
        id_column=id_,
        language=language,
    )
    path = folder / f"{name}.yaml" if out is None else out
    if path.suffix not in (".yaml", ".yml"):
        raise IclError(f"--out is {path}; name a file that ends in .yaml.")
    if path.exists():
        raise IclError(f"{path} exists; name another file with --out.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(definition, encoding="utf-8")
        (folder / SCHEMA_FILE).write_text(schema_text(), encoding="utf-8")
    except OSError as error:
        raise IclError(f"{path} cannot be written: {error.strerror}; name another.") from error
    typer.echo(f"Wrote {path} and {SCHEMA_FILE} beside it.")
    found = survey(read_definition(path), None)
    typer.echo(f"{found.examples} examples read. Now fill in description and licence, then:")
    typer.echo(f"  icl tasks check {path}")
    typer.echo(f"  icl episodes make {path} --out episodes --ways 2 --shots 0,2 --queries 4")


@app.command(name="export")
def export_(
    family: Annotated[str, typer.Argument(help="A task family's name or definition file.")],
    out: Annotated[Path, typer.Argument(help="The folder for the files.")],
    to: Annotated[str, typer.Option(help="The program that will read them: lm-eval.")] = "lm-eval",
    split: Annotated[str, typer.Option(help="The split whose examples are asked.")] = "test",
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeat for more.")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Only this language; repeat for more.")
    ] = None,
    template: Annotated[
        str | None, typer.Option(help="One of the tasks' named templates; else each's first.")
    ] = None,
    data: Annotated[Path | None, _DATA] = None,
) -> None:
    """Write a family's tasks as lm-evaluation-harness reads them: YAML and JSON Lines.

    Example: icl tasks export cldr lm-eval-tasks --language de
    """
    from icl.exchange.formats import export_task
    from icl.tasks import load_family

    if to != "lm-eval":
        raise IclError(f"--to is {to!r}; tasks can be exported to lm-eval.")
    loaded = load_family(family, data=data, template=template)
    files = export_task(loaded, split, out, task or (), language or ())
    typer.echo(f"{out}: {_number(files[:-1], 'task')}, in the group {files[-1].stem}")
    typer.echo(f"Score them: lm_eval --include_path {out} --tasks {files[-1].stem} --model hf …")


def _definitions(what: list[str]) -> Iterator[Path]:
    from icl.tasks.definitions.extends import find_definition

    for name in what:
        if Path(name).is_dir():
            found = sorted(p for p in Path(name).iterdir() if p.suffix in (".yaml", ".yml"))
            if not found:
                raise IclError(f"The folder {name} holds no .yaml file; name a definition.")
            yield from found
        else:
            yield find_definition(name)


def _languages(definition: Definition) -> list[str]:
    named = (language for split in definition.splits.values() for language in split.languages)
    return list(dict.fromkeys(named))


def _number(things: Sized, name: str) -> str:
    return f"{len(things)} {name}{'s' * (len(things) != 1)}"


def _about(definition: Definition) -> Iterator[str]:
    yield f"{definition.name}: {definition.description}"
    parts = {
        "licence": definition.licence,
        "url": definition.url,
        "citation": definition.citation,
        "checked": definition.checked,
    }
    for part, value in parts.items():
        if value:
            yield f"{part}: {' '.join(value.split())}"
    for source in definition.sources:
        said = source.model_dump(exclude={"type", "columns"}, exclude_defaults=True, mode="json")
        values = ", ".join(f"{key} {value}" for key, value in said.items())
        yield f"source: {source.type}" + (f" ({values})" if values else "")
    for name, split in definition.splits.items():
        limits = {"tasks": split.tasks, "data": split.data, "labels": split.labels}
        told = [f"{_number(split.languages, 'language')}: {' '.join(split.languages)}"]
        told += [f"{part}: {' '.join(values)}" for part, values in limits.items() if values]
        told += [f"share {split.share[0]:g}–{split.share[1]:g}"] if split.share else []
        yield f"split {name}: " + "; ".join(told)
    for one, other, apart in definition.disjoint:
        yield f"disjoint: {one} and {other} by {apart}"


def _task_lines(name: str, task: TaskDefinition) -> Iterator[str]:
    from icl.tasks.kinds.registry import KINDS, said

    told = said(task.kind)
    kind = str(told["name"])
    yield f"task {name}: {kind.replace('_', ' ') if kind in KINDS else kind}"
    for part in type(task.kind).model_fields:
        value = told[part]
        yield f"  {part}: {', '.join(map(str, value)) if isinstance(value, list) else value}"
    if task.labels:
        yield f"  {len(task.labels)} labels: {', '.join(task.labels)}"
    for language, words in task.words.items():
        yield f"  words, {language}: " + ", ".join(f"{k} → {v}" for k, v in words.items())
    for own, template in task.named_templates.items():
        variants = f" (otherwise in {' '.join(template.languages)})" if template.languages else ""
        yield f"  template {own}{variants}: {template.input!r} + {template.target!r}"
