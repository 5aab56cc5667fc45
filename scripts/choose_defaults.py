"""Try layers, poolings and prompts of embeddings on many data sets, and weigh each default.

    python scripts/choose_defaults.py --data ../shared/data --page docs/defaults.md

For every packaged model and data set (`tried_texts.py`), the model reads each text once in each way
of showing it: bare; in the task's template (`prompted`); with --more also without the prompt that
the model's files name, and in the words of the pooling `prompt`. That one pass gives the vectors of
all layers and poolings. On the same episodes, at 1 and at 5 shots, prototypes and logistic
regression, as `prototypes` and `linear-probe` have them, are fitted on each choice's vectors.

A choice's regret on a data set is the accuracy, the mean over heads and shots, that it loses
against that model's best choice there, in points. Part of that is luck, as the best is chosen with
hindsight: where a table says so, the best is chosen on one half of the episodes and judged on the
other. `left out` is what is lost where a choice is made on all data of other families: what it is
worth on data that nobody looked at.

What is found is kept in the folder --runs, a line for each model, data set and way, so that a run
that was stopped goes on where it was; a line of other settings, code or models is not taken. --page
writes the tables into a page, between its two marker comments. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from tried_texts import DATA, SHOTS, episodes_of

from icl.episodes import Episode
from icl.learners.embedding.features import targets
from icl.learners.embedding.heads import linear, metric
from icl.learners.registry import make
from icl.models.backbone import Backbone
from icl.models.context import joined
from icl.models.embedding.batches import by_length
from icl.models.embedding.embedder import Embedder
from icl.models.embedding.pooling import Pooling, pool
from icl.models.embedding.sentence import sentence_of
from icl.models.encoder import Encoder
from icl.models.loading.load import load_backbone
from icl.models.packed.layout import lay_out
from icl.models.packed.trie import IntArray, join
from icl.models.parts import stream
from icl.runs.environment import environment
from icl.tools.closure import code_of

MODELS = ("gemma-3-270m", "multilingual-e5-small", "all-minilm-l6-v2", "smollm2-135m-instruct")
# a model of English: other scripts cost it many tokens a word, and tell nothing
READS = {"smollm2-135m-instruct": ("clinc150", "nusax", "fewrel", "goemotions")}
TWELFTHS = tuple(range(2, 12))  # layers that are tried, as twelfths of the way up; and the last
HEADS = ("prototypes", "logistic")
# way of showing, layer, pooling: what icl did without being told, by the kind of model, and does
BEFORE = {"causal": ("bare", "8/12", "last"), "encoder": ("bare", "last", "mean")}
DEFAULT = {"causal": ("prompted", "11/12", "weighted-mean"), "encoder": ("bare", "last", "mean")}


def ways_of_showing(backbone: Backbone, more: bool) -> dict[str, Embedder]:
    """Return what shows texts to a model, by name; `prompted` shows templates.

    Args:
        backbone: the model.
        more: whether to try them without their prompt, and in the words of `prompt`, too.
    """
    shown = {"bare": Embedder(backbone, pooling="mean", keep=False)}
    shown["prompted"] = shown["bare"]
    if more and (backbone.tokenizer.mask_token or not backbone.bidirectional):
        shown["prompt"] = Embedder(backbone, pooling="prompt", keep=False)
    own = sentence_of(backbone)
    if more and own is not None and own.prompt:
        shown["no prompt"] = Embedder(backbone, pooling="mean", instruction="", keep=False)
    return shown


def layers_of(depth: int) -> dict[str, int]:
    """Return the layers that are tried by their place: twelfths of the way up, and the last."""
    return {f"{k}/12": round(k * depth / 12) for k in TWELFTHS} | {"last": -1}


def poolings_of(backbone: Backbone, way: str) -> tuple[Pooling, ...]:
    """Return the poolings that a way of showing texts is tried with."""
    if way == "prompt":
        return ("prompt",)
    return ("mean", "cls", "max") if backbone.bidirectional else ("mean", "weighted-mean", "last")


@torch.no_grad()
def vectors(
    backbone: Backbone, rows: Sequence[IntArray], layers: Sequence[int], ways: Sequence[Pooling]
) -> dict[tuple[int, Pooling], Tensor]:
    """Embed encoded texts by every layer and pooling in one pass of the model.

    Args:
        backbone: a causal model that runs packed, or an encoder.
        rows: token ids of each text, as `Embedder.encode` gives them.
        layers: states after so many layers; -1 for the last ones.
        ways: the poolings.

    Returns:
        By layer and pooling, float32, shape (texts, width).
    """
    tokenizer: Any = backbone.tokenizer
    whole = backbone.bidirectional
    bos = None if whole else tokenizer.bos_token_id
    mask = tokenizer.mask_token_id if whole else None
    out: dict[tuple[int, Pooling], list[Tensor]] = {(n, w): [] for n in layers for w in ways}
    order: list[int] = []
    for batch, length in by_length(rows):
        some = [rows[i] for i in batch]
        order += batch
        real = torch.arange(length) < torch.tensor([[len(row)] for row in some])
        for layer, states in _states(backbone, some, length, layers):
            for way in ways:
                found = pool(way, states, real, some, bos=bos, mask=mask)
                out[layer, way].append(found.float())
    back = torch.tensor(order).argsort()
    return {key: torch.cat(parts)[back] for key, parts in out.items()}


def _states(
    backbone: Backbone, rows: Sequence[IntArray], length: int, layers: Sequence[int]
) -> Iterator[tuple[int, Tensor]]:
    """Yield each wanted layer's states of one padded batch, shape (texts, length, width)."""
    kept: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(module: Any, args: Any, output: Any) -> None:
            kept[layer] = stream(output[0] if isinstance(output, tuple) else output)

        return hook

    hooks = [backbone.layers[n - 1].register_forward_hook(keep(n)) for n in set(layers) - {-1}]
    try:
        if backbone.bidirectional:
            kept[-1], _ = cast("Encoder", backbone).states(rows, length=length)
        else:
            pad = backbone.tokenizer.pad_token_id or 0
            alike = [torch.nn.functional.pad(torch.from_numpy(r), (0, length - len(r)), value=pad)
                     for r in rows]  # fmt: skip
            spans = backbone.spans
            tries = [spans.pack([a.numpy()], [len(r)]) for a, r in zip(alike, rows, strict=True)]
            kept[-1] = backbone.hidden(lay_out(join(tries), backbone.device))
    finally:
        for hook in hooks:
            hook.remove()
    for layer in dict.fromkeys(layers):
        yield layer, kept[layer].reshape(len(rows), length, -1).float()


def judged(found: Tensor, at: Sequence[Tensor], drawn: Sequence[Episode]) -> list[list[float]]:
    """Return each head's accuracy on the even and on the odd draws: [prototypes, logistic].

    Args:
        found: a vector of each text, shape (texts, width).
        at: of each episode, the places of its support's texts and then of its queries'.
        drawn: the episodes.
    """
    found = torch.nn.functional.normalize(found, dim=1)
    hits = torch.zeros(len(HEADS), 2)
    for shots in SHOTS:
        some = [i for i, e in enumerate(drawn) if e.shots == shots]
        count, ways = len(drawn[some[0]].support), drawn[some[0]].ways
        own = torch.stack([found[at[i]] for i in some])
        wanted = torch.stack([targets(drawn[i].support, drawn[i].labels) for i in some])
        gold = torch.stack([targets(drawn[i].query, drawn[i].labels) for i in some])
        for n, head in enumerate(
            (
                metric.euclidean(own[:, :count], wanted, ways),
                linear.logistic(own[:, :count], wanted, ways, 10.0, 1e-4),
            )
        ):
            right = (head.scores(own[:, count:]).argmax(-1) == gold).float().mean(1)
            hits[n] += torch.stack([right[0::2].mean(), right[1::2].mean()]) / len(SHOTS)
    return [[round(100 * value, 3) for value in row] for row in hits.tolist()]


def baseline(drawn: Sequence[Episode], method: str) -> float:
    """Return a learner's mean accuracy that needs no model, in percent."""
    learner = make(method, {}, None)
    right = []
    for e in drawn:
        scores = learner.adapt(e.support, e.labels).log_probs([q.fields for q in e.query])
        right.append((scores.argmax(1) == targets(e.query, e.labels)).float().mean())
    return 100 * float(torch.stack(right).mean())


def measure(asked: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Return a line for each model, data set and way of showing, computing what is missing."""
    kept = folder / "choices.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    done = {row["key"]: row for row in map(json.loads, lines)}
    code = code_of("icl.models.embedding.embedder", "icl.models.loading.load", "icl.episodes")
    found = []
    drawn = {name: episodes_of(DATA[name], asked.data, asked.episodes) for name in asked.only}
    for model in asked.models:
        backbone = load_backbone(f"packaged:{model}", device="cpu")
        for name in [name for name in asked.only if name in READS.get(model, DATA)]:
            for way, embedder in ways_of_showing(backbone, asked.more).items():
                episodes = [e.fingerprint for e in drawn[name]]
                told = [backbone.identity, code, way, episodes, TWELFTHS, SHOTS]
                key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
                if key not in done and asked.kept:
                    continue
                if key not in done:
                    done[key] = {"key": key, "model": model, "data": name, "way": way}
                    done[key] |= _measured(backbone, embedder, way, drawn[name])
                    with kept.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(done[key]) + "\n")
                    print(f"{model}, {name}, {way}: {done[key]['seconds']:.0f} s", flush=True)
                found.append(done[key])
    return found


def _measured(
    backbone: Backbone, embedder: Embedder, way: str, drawn: Sequence[Episode]
) -> dict[str, Any]:
    start = time.perf_counter()
    places: dict[str, int] = {}
    at = []
    for e in drawn:
        write = e.labels.template.render if way == "prompted" else joined
        texts = embedder.written([x.fields for x in (*e.support, *e.query)], write)
        at.append(torch.tensor([places.setdefault(text, len(places)) for text in texts]))
    rows = embedder.encode(list(places))
    layers, poolings = layers_of(backbone.depth), poolings_of(backbone, way)
    table = vectors(backbone, rows, list(layers.values()), poolings)
    heads = {
        f"{place} {pooling}": judged(table[layer, pooling], at, drawn)
        for place, layer in layers.items()
        for pooling in poolings
    }
    spent = time.perf_counter() - start
    kind = "encoder" if backbone.bidirectional else "causal"
    return {"kind": kind, "texts": len(rows), "seconds": spent, "heads": heads}


Choice = tuple[str, str, str]  # way of showing, layer, pooling
Scores = Mapping[str, Mapping[str, Mapping[Choice, Tensor]]]  # model, data set, choice: (halves,)


def scores_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, dict[Choice, Tensor]]]:
    """Return each choice's accuracy on each half of the episodes, the mean over heads."""
    found: dict[str, dict[str, dict[Choice, Tensor]]] = {}
    for row in rows:
        own = found.setdefault(row["model"], {}).setdefault(row["data"], {})
        for name, heads in row["heads"].items():
            place, pooling = name.split()
            own[row["way"], place, pooling] = torch.tensor(heads).double().mean(0)
    return found


def regret(own: Mapping[Choice, Tensor], choice: Choice) -> float:
    """Return what a choice loses against the best one on a data set, in points."""
    return float(max(value.mean() for value in own.values()) - own[choice].mean())


def split_regret(own: Mapping[Choice, Tensor], choice: Choice) -> float:
    """Return the same where the best is chosen on one half of the episodes, judged on the other."""
    lost = []
    for half in (0, 1):
        best = max(own.values(), key=lambda value: float(value[1 - half]))
        lost.append(float(best[half] - own[choice][half]))
    return sum(lost) / 2


def mean_regrets(scores: Scores, without: str = "") -> dict[Choice, float]:
    """Return the mean regret of each choice that all models and data sets have, the least first.

    Args:
        scores: of models of one kind.
        without: a family whose data sets are left out.
    """
    cells = [own for by_data in scores.values() for name, own in by_data.items()
             if DATA[name].family != without]  # fmt: skip
    shared = set.intersection(*(set(own) for own in cells))
    found = {c: sum(regret(own, c) for own in cells) / len(cells) for c in sorted(shared)}
    return dict(sorted(found.items(), key=lambda item: item[1]))


def left_out(scores: Scores) -> dict[tuple[str, str], float]:
    """Return the regret on each model's data sets of what data of other families would choose."""
    families = {DATA[name].family for by_data in scores.values() for name in by_data}
    if len(families) < 2:
        return {}
    chosen = {family: next(iter(mean_regrets(scores, family))) for family in families}
    return {
        (model, name): regret(own, chosen[DATA[name].family])
        for model, by_data in scores.items()
        for name, own in by_data.items()
    }


def named(choice: Choice) -> str:
    """Name a choice as a table does."""
    way, place, pooling = choice
    shown = "" if way in ("bare", "prompt") else f", {way}"
    return f"{pooling}, {'last layer' if place == 'last' else place}{shown}"


def regret_table(kinds: Mapping[str, Scores]) -> list[str]:
    """Return the lines of the table of defaults."""
    heads = ("kind", "choice", "model", "mean regret", "worst", "best chosen on other episodes")
    rows = [heads, ("---", "---", "---", "---:", "---", "---:")]
    for kind, scores in kinds.items():
        least = next(iter(mean_regrets(scores)))
        choices = {"before": BEFORE[kind], "default": DEFAULT[kind], "least mean": least}
        for what, choice in choices.items():
            for model, by_data in scores.items():
                lost = {name: regret(own, choice) for name, own in by_data.items()}
                worst = max(lost, key=lambda name: lost[name])
                halves = [split_regret(own, choice) for own in by_data.values()]
                mean = f"{sum(lost.values()) / len(lost):.1f}"
                apart = f"{sum(halves) / len(halves):.1f}"
                told = f"{what}: {named(choice)}"
                rows.append((kind, told, model, mean, f"{lost[worst]:.1f} ({worst})", apart))
        elsewhere = left_out(scores)
        for model in scores if elsewhere else ():
            lost = {name: value for (m, name), value in elsewhere.items() if m == model}
            worst = max(lost, key=lambda name: lost[name])
            rows.append((kind, "left out", model, f"{sum(lost.values()) / len(lost):.1f}",
                         f"{lost[worst]:.1f} ({worst})", ""))  # fmt: skip
    return [f"| {' | '.join(row)} |" for row in rows]


def choice_table(kinds: Mapping[str, Scores], count: int = 8) -> list[str]:
    """Return the lines of the table of the choices that lose least, and of plain ones."""
    rows = ["| kind | choice | mean regret | worst |", "| --- | --- | ---: | ---: |"]
    for kind, scores in kinds.items():
        means = mean_regrets(scores)
        plain = [c for c in means if c[1] == "last" or c in (BEFORE[kind], DEFAULT[kind])]
        for choice in dict.fromkeys([*list(means)[:count], *plain]):
            every = [regret(own, choice) for by_data in scores.values() for own in by_data.values()]
            rows.append(f"| {kind} | {named(choice)} | {means[choice]:.1f} | {max(every):.1f} |")
    return rows


def data_table(kinds: Mapping[str, Scores], floors: Mapping[str, float]) -> list[str]:
    """Return the lines of the table of accuracies, in percent, of each data set and model."""
    rows = ["| data set | tfidf | model | before | default | best | which |",
            "| --- | ---: | --- | ---: | ---: | ---: | --- |"]  # fmt: skip
    for name in DATA:
        for kind, scores in kinds.items():
            for model, by_data in scores.items():
                if name not in by_data:
                    continue
                own = {choice: float(value.mean()) for choice, value in by_data[name].items()}
                best = max(own, key=lambda choice: own[choice])
                cells = [own[BEFORE[kind]], own[DEFAULT[kind]], own[best]]
                told = " | ".join(f"{value:.1f}" for value in cells)
                rows.append(f"| {name} | {floors[name]:.1f} | {model} | {told} | {named(best)} |")
    return rows


def write_page(page: Path, block: str) -> None:
    """Replace what stands between a page's markers, or add it at its end."""
    text = page.read_text(encoding="utf-8")
    begin, end = "<!-- choose_defaults -->", "<!-- end of choose_defaults -->"
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    before, after = text.split(begin)[0], text.split(end)[1]
    page.write_text(f"{before}{begin}\n{block}\n{end}{after}", encoding="utf-8")


def main() -> None:
    """Measure what is missing, then print (and write) what each choice loses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--only", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--episodes", type=int, default=20, help="of each data set, even")
    parser.add_argument("--runs", type=Path, default=Path("runs/defaults"))
    parser.add_argument("--page", type=Path, help="write the tables between its markers")
    parser.add_argument("--more", action="store_true", help="two more ways of showing texts")
    parser.add_argument("--kept", action="store_true", help="tables of what is kept, no more")
    parser.add_argument("--quick", action="store_true", help="two models, two data sets: a minute")
    asked = parser.parse_args()
    if asked.quick:
        asked.models, asked.only = list(MODELS[1:3]), ["nusax", "cldr"]
        asked.episodes = 6
    rows = measure(asked, asked.runs)
    kinds = {
        kind: scores_of([row for row in rows if row["kind"] == kind])
        for kind in dict.fromkeys(row["kind"] for row in rows)
    }
    drawn = {name: episodes_of(DATA[name], asked.data, asked.episodes) for name in asked.only}
    floors = {name: baseline(some, "tfidf") for name, some in drawn.items()}
    written = (asked.runs / "choices.jsonl").stat().st_mtime
    when = datetime.fromtimestamp(written, tz=timezone.utc)
    machine, spent = environment(), sum(row["seconds"] for row in rows)
    block = [
        f"`python scripts/choose_defaults.py{' --quick' * asked.quick}` ({len(rows)} passes over"
        f" {sum(row['texts'] for row in rows)} texts in {spent / 60:.0f} minutes; one of"
        f" {machine['cores']} cores of {machine['processor']}, {when:%Y-%m-%d};"
        f" {asked.episodes} episodes of each data set at {' and '.join(map(str, SHOTS))} shots).",
        *("", *regret_table(kinds), "", *choice_table(kinds), "", *data_table(kinds, floors)),
    ]
    print("\n".join(block))
    if asked.page is not None:
        write_page(asked.page, "\n".join(block))
    told = {}
    for kind, scores in kinds.items():
        means, apart = mean_regrets(scores), list(left_out(scores).values())
        told[kind] = {
            "before": round(means[BEFORE[kind]], 2),
            "default": round(means[DEFAULT[kind]], 2),
            "least": round(min(means.values()), 2),
            "left_out": round(sum(apart) / len(apart), 2) if apart else None,
        }
    print(json.dumps({"mean_regret": told, "passes": len(rows), "seconds": round(spent)}))


if __name__ == "__main__":
    main()
