"""The commands ``icl episodes make | show | check``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from icl.cli.say import say
from icl.errors import IclError, did_you_mean

if TYPE_CHECKING:
    from icl.episodes import Episode
    from icl.tasks import TaskFamily

app = typer.Typer(
    help="Draw episodes, look at them as a model does, and check them for leaks.",
    no_args_is_help=True,
)

_DATA = typer.Option(help="A local directory with the family's data.")
_TEMPLATE = typer.Option(help="One of the tasks' named templates; else each task's first.")
_NEAR = typer.Option(
    help="Hold texts for copies whose character 3-grams are this similar, e.g. 0.8."
)

_FORMS = ("datasets", "dspy", "lm-eval", "prompts")


@app.command()
def make(
    family: Annotated[str, typer.Argument(help="A task family's name or definition file.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    count: Annotated[int, typer.Option(min=1, help="Indices; each is drawn at all shots.")] = 100,
    split: Annotated[str, typer.Option(help="The meta-split to draw from.")] = "test",
    ways: Annotated[int, typer.Option(help="Classes in an episode.")] = 5,
    shots: Annotated[str, typer.Option(help="Support examples a class, e.g. 0,1,5.")] = "0,1,5",
    queries: Annotated[int, typer.Option(help="Query examples in an episode.")] = 15,
    support_language: Annotated[
        str | None, typer.Option(help="Support always in this language, queries in the others.")
    ] = None,
    setting: Annotated[
        str | None, typer.Option(help="The setting's name in tables; else it names itself.")
    ] = None,
    other_domain: Annotated[
        bool, typer.Option(help="Support always from other domains than the queries' one.")
    ] = False,
    task: Annotated[list[str] | None, typer.Option(help="Only this task; repeat for more.")] = None,
    language: Annotated[
        list[str] | None, typer.Option(help="Only queries in this language; repeat for more.")
    ] = None,
    max_ways: Annotated[
        int | None, typer.Option(help="Vary the ways from --ways up to this.")
    ] = None,
    vary_shots: Annotated[
        bool, typer.Option(help="Vary the size of the support set, up to --shots a class.")
    ] = False,
    natural_support: Annotated[
        bool, typer.Option(help="Share the support out by the classes' sizes.")
    ] = False,
    natural_queries: Annotated[bool, typer.Option(help="Ask frequent classes more often.")] = False,
    imbalance: Annotated[
        float, typer.Option(help="Multiply classes' shares of the support by up to this factor.")
    ] = 1.0,
    pool: Annotated[
        int, typer.Option(min=0, help="Further labelled examples for learners that use a pool.")
    ] = 0,
    variant: Annotated[
        str | None, typer.Option(help="shuffled-labels, flipped-labels or abstract-labels.")
    ] = None,
    near: Annotated[float | None, _NEAR] = None,
    drop_leaks: Annotated[
        bool, typer.Option(help="First drop the texts that a later split holds as well.")
    ] = False,
    seed: Annotated[int, typer.Option(help="The experiment's seed.")] = 0,
    template: Annotated[str | None, _TEMPLATE] = None,
    data: Annotated[Path | None, _DATA] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an episode set that is there.")] = False,
) -> None:
    """Draw episodes from a task family and save them with a manifest."""
    from icl.episodes import Composition, EpisodeSampler, Setting
    from icl.episodes.files import save_episodes
    from icl.episodes.splits import without_leaks
    from icl.tasks import load_family

    own = "within" if support_language is None else "cross-lingual"
    named = setting or ("cross-domain" if other_domain else own)
    loaded = load_family(family, data=data, template=template)
    sampler = EpisodeSampler(
        without_leaks(loaded, near) if drop_leaks else loaded,
        split,
        ways=ways,
        shots=_numbers(shots),
        queries=queries,
        setting=Setting(named, support_language, other_domain),
        tasks=task or None,
        languages=language or None,
        composition=Composition(
            max_ways=max_ways,
            vary_shots=vary_shots,
            support="natural" if natural_support else "balanced",
            imbalance=imbalance,
            queries="natural" if natural_queries else "balanced",
        ),
        pool=pool,
        near=near,
        seed=seed,
    )
    saved = save_episodes(
        out,
        sampler,
        count,
        variant=variant,
        source=family,
        dropped_leaks=drop_leaks,
        overwrite=overwrite,
    )
    typer.echo(f"{out}: {len(saved)} episodes, SHA-256 {saved.manifest['sha256'][:16]}")
    say(
        f"{loaded.name}, split {split}: tasks {len(sampler.tasks)}, "
        f"languages {len(sampler.languages)}, setting {named}"
    )
    lost = sum(one.conflicting for one in sampler.pools())
    if lost:
        say(f"Left out: {lost} examples whose text stands under two labels.")


@app.command()
def show(
    episodes: Annotated[Path, typer.Argument(help="An episode set, or a file of episodes.")],
    index: Annotated[int | None, typer.Option(help="The episode's index; else the first.")] = None,
    shots: Annotated[int | None, typer.Option(help="Its shots; else the most.")] = None,
    query: Annotated[int, typer.Option(min=0, help="Which of its queries.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(help="Count tokens as this model does: a Hub id, a directory or packaged:…"),
    ] = None,
) -> None:
    """Show a prompt as a model sees it, with the boundary of the label marked."""
    from icl.cli.prompt import render
    from icl.models.loading.load import load_tokenizer

    chosen = _find(_file(episodes), index, shots)
    tokenizer = None if model is None else load_tokenizer(model)
    if query >= len(chosen.query):
        raise IclError(
            f"The episode has {len(chosen.query)} queries; --query goes up to "
            f"{len(chosen.query) - 1}."
        )
    for block in render(chosen, query, tokenizer):
        say(block)


@app.command()
def check(
    episodes: Annotated[
        Path | None, typer.Argument(help="An episode set, or a file of episodes.")
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="Draw the set again from this family; alone: check its splits."),
    ] = None,
    near: Annotated[float | None, _NEAR] = None,
    template: Annotated[str | None, _TEMPLATE] = None,
    data: Annotated[Path | None, _DATA] = None,
) -> None:
    """Check episodes for leaks and changes, or a family's splits for what they share."""
    from icl.episodes.files import check_lines, open_episodes
    from icl.tasks import load_family

    loaded = None if family is None else load_family(family, data=data, template=template)
    if episodes is None:
        if loaded is None:
            raise IclError("Nothing to check; name an episode set, a --family, or both.")
        _check_splits(loaded, near)
        return
    if episodes.is_file():
        if loaded is not None:
            raise IclError(f"{episodes} has no manifest to draw it again; name the set's folder.")
        typer.echo(f"{episodes}: {check_lines(episodes, near)} episodes, none leaks.")
        return
    saved = open_episodes(episodes)
    saved.check(near)
    typer.echo(f"{episodes}: {len(saved)} episodes, as written, none leaks.")
    if loaded is not None:
        saved.check_again(loaded)
        typer.echo(f"Drawn again from {family}: the same bytes.")


@app.command(name="export")
def export_(
    episodes: Annotated[Path, typer.Argument(help="An episode set, or a file of episodes.")],
    out: Annotated[
        Path, typer.Argument(help="A folder for `datasets` or lm-eval, else a file to write.")
    ],
    to: Annotated[
        str,
        typer.Option(
            help="datasets; lm-eval; prompts or dspy: JSON Lines, a prompt or episode each."
        ),
    ] = "datasets",
) -> None:
    """Write episodes so that other programs read them.

    Example: icl episodes export my-episodes out --to lm-eval
    """
    from icl.episodes.as_dataset import save_dataset
    from icl.episodes.files import check_lines, read_lines
    from icl.exchange import formats as exchange

    if to not in _FORMS:
        raise IclError(f"--to is {to!r}.{did_you_mean(to, _FORMS)}")
    file = _file(episodes)
    number = check_lines(file)
    read = (episode for _, episode in read_lines(file))
    if to == "datasets":
        save_dataset(read, out)
    elif to == "lm-eval":
        name = exchange.export_episodes(read, out, f"icl_{episodes.stem}").stem
        typer.echo(f"Score them: lm_eval --include_path {out} --tasks {name} --model hf …")
    else:
        rows = exchange.prompt_rows if to == "prompts" else exchange.dspy_rows
        exchange.write_lines(out, rows(read))
    typer.echo(f"{out}: {number} episodes")


@app.command(name="import")
def import_(
    source: Annotated[Path, typer.Argument(help="What `icl episodes export` wrote.")],
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    overwrite: Annotated[bool, typer.Option(help="Replace an episode set that is there.")] = False,
) -> None:
    """Make an episode set of a data set of episodes, and check it."""
    from icl.episodes.as_dataset import load_dataset
    from icl.episodes.files import write_set

    saved = write_set(out, load_dataset(source), overwrite=overwrite)
    saved.check()
    typer.echo(f"{out}: {len(saved)} episodes, none leaks.")


def _check_splits(family: TaskFamily, near: float | None) -> None:
    """Print what the splits of a family share; raises `IclError` for a broken promise."""
    from collections import Counter

    from icl.episodes.splits import check_disjoint, find_leaks

    check_disjoint(family)
    for one, other, apart in family.disjoint:
        typer.echo(f"{family.name}: {one} and {other} share no {apart}, as promised.")
    if not family.disjoint:
        typer.echo(f"{family.name}: no splits are promised apart.")
    leaks = find_leaks(family, near)
    kinds = Counter((k.split, k.other_split, k.by) for k in leaks)
    for (split, other, by), number in sorted(kinds.items()):
        first = next(k for k in leaks if (k.split, k.other_split, k.by) == (split, other, by))
        typer.echo(
            f"{number} examples of {split} are also in {other} ({_LEAK_NAMES[by]}), first: "
            f"{first.task} {first.example.language} {first.example.id!r} = "
            f"{first.other.language} {first.other.id!r}"
        )
    if not leaks:
        typer.echo("No text or item is in two splits.")


_LEAK_NAMES = {
    "parallel": "the same item, by parallel id",
    "text": "the same text",
    "near": "a near-duplicate text",
}


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise IclError(f"--shots is {text!r}; give numbers such as 0,1,5.") from error


def _file(path: Path) -> Path:
    from icl.episodes.files import EPISODES

    return path / EPISODES if path.is_dir() else path


def _find(file: Path, index: int | None, shots: int | None) -> Episode:
    """Return the episode of an index and shots; by default the first index, the most shots."""
    from icl.episodes.files import read_lines

    best: Episode | None = None
    for _, episode in read_lines(file):
        if index is None:
            index = episode.index
        if episode.index != index or (shots is not None and episode.shots != shots):
            continue
        if best is None or episode.shots > best.shots:
            best = episode
    if best is None:
        wanted = "" if shots is None else f" with {shots} shots"
        raise IclError(f"{file} has no episode {index}{wanted}; see its lines for what it has.")
    return best
