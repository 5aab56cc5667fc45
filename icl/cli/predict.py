"""The command ``icl predict``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from icl.errors import IclError

_INTERRUPTED = 130


def predict(
    train: Annotated[
        Path, typer.Argument(help="The labelled table: .csv, .tsv, .jsonl, .json or .parquet.")
    ],
    new: Annotated[Path, typer.Argument(help="The table to label, with the same text columns.")],
    text: Annotated[
        list[str] | None,
        typer.Option(help="A column of text, repeat for more; else one with a usual name."),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="The column of labels; else one with a usual name.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="How to learn, by default in-context; see `icl methods`.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A Hub id, a directory or packaged:…; by default packaged:gemma-3-270m."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The table to write; by default NEW with .labelled in it.")
    ] = None,
    word: Annotated[
        list[str] | None,
        typer.Option(help="The word of a label in prompts, as label=word; repeat for more."),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help=r"A row in prompts, such as 'Text: {{ text }}\nLabel:'; \n is a line."),
    ] = None,
    instruction: Annotated[
        str, typer.Option(help=r"Stands once at the start of a prompt; \n is a line.")
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A parameter of the method, as key=value; repeat for more."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="A run's folder: take a learner of it, trained as it is."),
    ] = None,
    learner: Annotated[
        str | None, typer.Option(help="Its name in that run; else the one that was meta-trained.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace the table to write.")] = False,
) -> None:
    """Learn from a labelled table and label another, with a probability for every label.

    Example: icl predict train.csv new.csv --text review --label mood --method prototypes
    """
    from transformers.utils import logging

    from icl.labelling import label_table
    from icl.tools.overrides import nested

    if from_ is not None and (method or model or set_):
        raise IclError("With --from the run says method, model and parameters; drop the others.")
    if learner is not None and from_ is None:
        raise IclError("--learner names a learner of a run; name its folder with --from.")
    # Reading the weights takes a moment and would tear our bar; downloads still show theirs.
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    target = out or new.with_name(f"{new.stem}.labelled{new.suffix}")
    try:
        found = label_table(
            train,
            new,
            target,
            text=text or (),
            label=label,
            method=method or "in-context",
            params=nested(set_ or ()),
            model=model or "packaged:gemma-3-270m",
            trained=from_,
            learner=learner,
            words=_words(word or ()),
            template=None if template is None else _lines(template),
            instruction=_lines(instruction),
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        sys.stderr.write("icl: stopped; what was labelled is kept: run the same command again.\n")
        raise typer.Exit(_INTERRUPTED) from None
    rows = sum(found.counts.values())
    again = f", {found.kept} of them from an earlier start" if found.kept else ""
    typer.echo(f"{found.method}, {found.examples} examples: {rows} rows labelled{again}.")
    for name, number in sorted(found.counts.items(), key=lambda item: (-item[1], item[0])):
        typer.echo(f"  {name}: {number}")
    if found.accuracy is not None:
        typer.echo(f"{found.judged} of them have labels of their own: {found.accuracy:.1%} right.")
    if found.unknown:
        labels = ", ".join(f"{name!r} ({rows})" for name, rows in found.unknown.items())
        typer.echo(
            f"No labelled row of {train} has {labels}: {sum(found.unknown.values())} rows that"
            " count as wrong."
        )
    typer.echo(f"Wrote {found.out}")


def _words(pairs: Sequence[str]) -> dict[str, str]:
    words: dict[str, str] = {}
    for pair in pairs:
        label, sign, word = pair.partition("=")
        if not (label and sign and word.strip()):
            raise IclError(f"--word is {pair!r}; write a label, = and its word, such as pos=good.")
        if label in words:
            raise IclError(f"--word names the label {label!r} twice; give it one word.")
        words[label] = word
    return words


def _lines(text: str) -> str:
    return text.replace("\\n", "\n")
