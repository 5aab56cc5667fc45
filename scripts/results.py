"""Write runs' tables into a page of results: `python scripts/results.py runs/NAME ...`.

    python scripts/results.py runs/NAME                    # into docs/results.md, or --page
    python scripts/results.py runs/NAME --pairs A:B C:D    # with these differences in a table
    python scripts/results.py --check                      # do the docs' figures stand in blocks?
    python scripts/results.py --withdraw NAME WHY --page docs/results-heads.md

Each run owns the part of the page between its two marker comments; a run that is new to the page
is added at its end. What stands outside the markers is left alone. `icl run configs/NAME.yaml`
made the run; its figures are those of its records, and nothing here is typed by hand.

--check reads the repository that it stands in, or --root. It prints a line for each fault, and its
exit code is 1 where there is one: a block that is not whole or was changed by hand; a block whose
configuration is missing, or gives another experiment now than the run's, unless it is withdrawn; a
figure in remarks that stands in no block (see `traced_figures.py`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path, PurePath
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from marked_blocks import COMPUTED, RUN, Block, blocks, put, sealed
from result_tables import Tables, chosen_values
from traced_figures import of_repository, traced

from icl.errors import IclError
from icl.evaluation.summary import Summary
from icl.experiments.config import load_config
from icl.reporting.effort import effort
from icl.reporting.numbers import episodes_of, percent
from icl.reporting.verdict import DAGGER, models_told, notes, verdict
from icl.runs.finished import FinishedRun, read_run
from icl.runs.folder import RunFolder

ROOT = Path(__file__).parents[1]
_CONFIGURATION = re.compile(
    r"^Configuration: `(?P<file>[^`]+)`, sha256 (?P<sha>[0-9a-f]{16})", re.M
)
_COMMAND = re.compile(r"^`(?P<command>icl [^`]+)` \(", re.M)
_REMARKS = ("docs/results*.md", "README.md", "docs/tutorials/*.md", "docs/index.md",
            "docs/when-it-pays.md")  # fmt: skip


def main() -> None:
    """Replace or add the parts of the page that belong to some runs, or check all pages."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", type=Path, help="runs' folders")
    parser.add_argument("--page", type=Path, default=Path("docs/results.md"))
    parser.add_argument("--command", help="how the run was started, where options were given")
    parser.add_argument("--config", help="the configuration's file, if not configs/NAME.yaml")
    parser.add_argument("--pairs", nargs="+", default=[], metavar="A:B", type=_pair)
    parser.add_argument("--withdraw", nargs=2, metavar=("NAME", "WHY"))
    parser.add_argument("--check", action="store_true", help="check all pages instead")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository that is checked")
    asked = parser.parse_args()
    if asked.check:
        lines, said = check(asked.root)
        print("\n".join([*lines, said]))
        raise SystemExit(1 if lines else 0)
    page = asked.page.read_text(encoding="utf-8") if asked.page.exists() else "# Results\n"
    if asked.withdraw:
        page = withdrawn(page, *asked.withdraw)
    try:
        for folder in asked.runs:
            run = read_run(RunFolder(folder))
            name = run.config["name"]
            file = asked.config or f"configs/{name}.yaml"
            body = part(run, asked.command or f"icl run {file}", file, asked.pairs)
            page = put(page, RUN, name, body)
    except IclError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    asked.page.write_text(page, encoding="utf-8")


def part(run: FinishedRun, command: str, file: str, pairs: Sequence[tuple[str, str]] = ()) -> str:
    """Return one run's part of the page in Markdown."""
    machine: Mapping[str, Any] = RunFolder(run.folder).read_json("environment.json") or {}
    when = datetime.fromtimestamp((run.folder / "records.jsonl").stat().st_mtime, tz=timezone.utc)
    tables = Tables(run, pairs)
    summary, overall = tables.summary, tables.summary.overall
    config = run.config
    models = config.get("models") or {None: config["model"]}
    facts = (
        machine.get("accelerator"),
        f"{machine.get('cores')} cores of {machine.get('processor')}",
        f"{when:%Y-%m-%d}",
    )
    where = ", ".join(str(fact) for fact in facts if fact)
    names = ", ".join(_called(model["name"]) for model in models.values())
    chance = f", chance {percent(overall.chance)}" if overall.chance else ""
    sha = configuration(run.folder / "config.yaml")
    lines = [
        f"### {config['name']}",
        "",
        f"`{command}` ({names}; {where}; icl {machine.get('icl')}).",
        f"Configuration: `{file}`, sha256 {sha} as resolved.",
        f"{episodes_of(overall.episodes, overall.draws)}, {overall.queries} queries{chance}.",
        *filter(None, [models_told(summary)]),
        effort(run.tuning),
        *([chosen_values(run.tuning)] if run.tuning else []),
        "",
        verdict(summary),
        *(
            note.replace("in tables of their own", "in columns of their own")
            for note in notes(summary)
        ),
        *_fewer(summary, config),
        "",
        *tables.accuracies(),
    ]
    if summary.transductive:
        lines += ["", f"{DAGGER} sees all queries of an episode at once."]
    compared = tables.differences()
    if compared:
        lines += ["", "Paired on identical episodes:", "", *compared]
    return "\n".join([*lines, "", "What it took:", "", *tables.costs()])


def _called(model: str) -> str:
    """Return a model's name, of a directory its own without where it lies."""
    return PurePath(model).name if model.startswith((".", "/", "~")) else model


def _fewer(summary: Summary, config: Mapping[str, Any]) -> Iterator[str]:
    """Say where fewer episodes were judged than the configuration asks for."""
    count, least = config["episodes"].get("count"), min(b.episodes for b in summary.boards)
    if count and least < count:
        yield (
            f"Not the whole experiment: {least} episodes of a setting and number of shots, where"
            f" the configuration has {count}."
        )


def configuration(file: Path, overrides: Sequence[str] = ()) -> str:
    """Return the hash of an experiment with all its defaults: 16 hexadecimal digits.

    Where its data lies does not count: that is said by the keys of records.
    """
    told = load_config(file, overrides).resolved()
    if told.get("tasks"):
        told["tasks"] = {key: v for key, v in told["tasks"].items() if key != "data"}
    text = json.dumps(told, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def withdrawn(page: str, name: str, why: str) -> str:
    """Return a page whose block of a run says that it is withdrawn, and why."""
    found, faults = blocks(page)
    for block in found:
        if (block.kind, block.name) == (RUN, name):
            if block.seal is None or any(f.at == block.start for f in faults):
                raise SystemExit(f"The block {name!r} was changed by hand; write it again first.")
            head, _, rest = block.body.strip("\n").partition("\n")
            rest = re.sub(r"^\n\*\*Withdrawn\*\*.*\n", "", rest)
            new = sealed(RUN, name, f"{head}\n\n**Withdrawn**: {why}\n{rest}")
            return page[: block.start] + new + page[block.end :]
    raise SystemExit(f"The page has no block {name!r}.")


def check(root: Path) -> tuple[list[str], str]:
    """Return a line for each fault of a repository's pages, and a summary."""
    texts = {p: p.read_text("utf-8") for p in [root / "README.md", *(root / "docs").rglob("*.md")]
             if p.exists()}  # fmt: skip
    everywhere = of_repository([*texts.values()])
    lines, total, tally = [], 0, [0, 0, 0, 0]
    remarks = {path for pattern in _REMARKS for path in root.glob(pattern)}
    for path, page in sorted(texts.items()):
        found, faults = blocks(page)
        total += sum(block.kind != COMPUTED for block in found)
        told = [(f.at, f.says) for f in faults]
        for block in found:
            if block.kind == RUN:
                told += [(block.start, says) for says in _configured(root, block)]
        if path in remarks:
            own = traced(page, path.name, everywhere)
            told += [(f.at, f.says) for f in own.faults]
            counts = (own.found, own.derived, own.given, own.computed)
            tally = [a + b for a, b in zip(tally, counts, strict=True)]
        for at, says in sorted(told):
            lines.append(f"{path.relative_to(root)}:{page.count(chr(10), 0, at) + 1}: {says}")
    return lines, (
        f"{total} blocks between markers. Figures in remarks: {tally[0]} stand in a block,"
        f" {tally[1]} are derived from such, {tally[2]} are given and not measured, {tally[3]} are"
        f" by a computation that the page names and no block shows. Faults: {len(lines)}."
    )


def _configured(root: Path, block: Block) -> Iterator[str]:
    """Say what is wrong with the configuration that a block names."""
    named, made = _CONFIGURATION.search(block.body), _COMMAND.search(block.body)
    if named is None or made is None:
        yield f"the block {block.name!r} names no command or no configuration with its hash"
        return
    if block.withdrawn:
        return
    words = shlex.split(made["command"])
    overrides = [b for a, b in pairwise(words) if a == "--set"]
    overrides += [word[6:] for word in words if word.startswith("--set=")]
    file = root / named["file"]
    if not file.is_file():
        yield f"the block {block.name!r} is of {named['file']}, which is missing"
        return
    try:
        now = configuration(file, overrides)
    except IclError as error:
        yield f"the block {block.name!r} is of {named['file']}, which cannot be read: {error}"
        return
    if now != named["sha"]:
        yield (
            f"the configuration {named['file']} has changed since the block {block.name!r} was"
            f" made ({named['sha']}, now {now}); make the run anew, or withdraw the block"
        )


def _pair(text: str) -> tuple[str, str]:
    first, _, second = text.partition(":")
    if not (first and second):
        raise argparse.ArgumentTypeError(f"{text!r} is no pair; write two learners as A:B")
    return first, second


if __name__ == "__main__":
    main()
