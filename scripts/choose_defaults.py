"""Try layers, poolings and prompts of embeddings on many data sets, and weigh each default.

    python scripts/choose_defaults.py --data ../shared/data --page docs/defaults.md

For every packaged model and data set, each text is read by the model once a way of showing it (bare;
in the task's template, `prompted`; in the words of the pooling `prompt`; without the prompt that the
model's files name), and that one pass gives the vectors of all layers and poolings. On the same
episodes (--episodes of each data set, at 1 and at 5 shots) prototypes and logistic regression, as
`prototypes` and `linear-probe` have them, are fitted on each choice's vectors. A choice's regret on a
data set is the accuracy that it loses against that model's best choice there, in points. Of that best
choice, some is luck; so a second figure takes the best choice of one half of the episodes and judges
it on the other.

No test part of a data set is read where it has another. What is found is kept in the folder --runs,
a line for each model, data set and way of showing texts, so that a run that was stopped goes on where
it was; a line of other settings, code or models is not taken. --page writes the tables into a page,
between its two marker comments. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from icl.episodes import Episode, EpisodeSampler
from icl.episodes.setting import WITHIN, Setting
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
from icl.tasks import load_family
from icl.tasks.loaded import Split, Task, TaskFamily
from icl.tasks.task import Example
from icl.tasks.template import Template
from icl.tools.closure import code_of

MODELS = ("gemma-3-270m", "multilingual-e5-small", "all-minilm-l6-v2", "smollm2-135m-instruct")
TWELFTHS = tuple(range(2, 12))  # layers that are tried, as twelfths of the way up; and the last
SHOTS = (1, 5)
QUERIES, SEED = 15, 0
HEADS = ("prototypes", "logistic")
_SPLIT = "tried"


@dataclass(frozen=True)
class Source:
    """A data set's rows: which family, of which of its splits, tasks and languages, and how many.

    Attributes:
        family: of icl's own, or one that is read here.
        each: rows of a task, language and label.
        labels: how many of a task's labels; 0 for all.
        support: the language of every support set; None for that of the queries.
    """

    family: str
    languages: tuple[str, ...]
    each: int
    tasks: tuple[str, ...] = ()
    labels: int = 0
    support: str | None = None
    folder: str = ""


_SEEN = ("word-kind", "country-continent", "language-script", "country-currency")
_NEW = ("city-continent", "language-continent", "currency-continent")
DATA: dict[str, Source] = {
    "sib200": Source("sib200", ("eng_Latn", "hin_Deva", "zho_Hans"), 10, folder="sib200"),
    "sib200, less known languages": Source(
        "sib200", ("fin_Latn", "kor_Hang", "ben_Beng"), 10, folder="sib200"
    ),
    "sib200, English support": Source(
        "sib200", ("eng_Latn", "fin_Latn", "kor_Hang"), 10, support="eng_Latn", folder="sib200"
    ),
    "clinc150": Source("clinc150", ("eng",), 10, labels=20, folder="clinc150"),
    "nusax": Source("nusax", ("ind", "jav", "eng"), 22, folder="nusax_senti"),
    "fewrel": Source("fewrel", ("eng",), 25, folder="fewrel"),
    "goemotions": Source("goemotions", ("eng_Latn",), 30, folder="goemotions"),
    "news or encyclopaedia": Source(
        "ud_pud", ("eng_Latn", "arb_Arab", "kor_Hang"), 40, folder="ud_pud"
    ),
    "cldr": Source("cldr", ("de", "ja", "hi"), 9, tasks=_SEEN),
    "cldr, other tasks": Source("cldr", ("fr", "ru", "ar"), 9, tasks=_NEW),
}


def family_of(source: Source, data: Path) -> TaskFamily:
    """Return a family of a data set's chosen rows alone: what is embedded is little."""
    own = _READ.get(source.family)
    if own is not None:
        load, tasks = own(data / source.folder), (source.family,)
    else:
        whole = load_family(source.family, data=data / source.folder if source.folder else None)
        tasks = source.tasks or whole.splits["train"].tasks

        def load(task: str, language: str) -> Task:
            found = whole.load(task, language)
            return replace(found, examples=whole.examples("train", task, language), lone={})

    def thinned(task: str, language: str) -> Task:
        found = load(task, language)
        by_label: dict[str, list[Example]] = {}
        for example in sorted(found.examples, key=lambda e: _lot(e.parallel_id)):
            by_label.setdefault(example.label, []).append(example)
        names = sorted(by_label, key=_lot)[: source.labels or None]
        rows = [e for name in names for e in by_label[name][: source.each]]
        return replace(found, examples=rows)

    split = Split(_SPLIT, tasks, source.languages)
    return TaskFamily(source.family, thinned, {_SPLIT: split})


def _lot(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _rows(folder: Path, language: str, part: str = "train") -> list[dict[str, Any]]:
    lines = (folder / language / f"{part}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _task(name: str, language: str, rows: Sequence[tuple[str, str, str]], asked: str) -> Task:
    """Return a task of (id, text, label)."""
    labels = tuple(sorted({label for *_, label in rows}))
    examples = [Example(i, {"text": text}, label, language, i) for i, text, label in rows]
    template = Template(f"Text: {{{{ text }}}}\n{asked}:")
    return Task(name, language, examples, labels, {n: n for n in labels}, template)


def _goemotions(folder: Path) -> Any:
    def load(task: str, language: str) -> Task:
        rows = [row for row in _rows(folder, language) if len(row["labels"]) == 1]
        told = [(row["id"], row["text"], row["labels"][0]) for row in rows]
        return _task(task, language, told, "Emotion")

    return load


def _register(folder: Path) -> Any:
    """Whether a sentence stood in the news or in Wikipedia, which its id in PUD tells."""

    def load(task: str, language: str) -> Task:
        kinds = {"n": "news", "w": "encyclopaedia"}
        told = [
            (row["id"], " ".join(row["tokens"]), kinds[row["id"][0]])
            for row in _rows(folder, language)
        ]
        return _task(task, language, told, "Source")

    return load


_READ: Mapping[str, Any] = {"goemotions": _goemotions, "ud_pud": _register}


def episodes_of(source: Source, data: Path, count: int) -> list[Episode]:
    """Draw a data set's episodes, `count` at each number of shots, of five ways or all there are."""
    family = family_of(source, data)
    tasks = family.splits[_SPLIT].tasks
    sizes = (len(family.load(t, n).labels) for t in tasks for n in source.languages)
    setting = WITHIN if source.support is None else Setting("across", source.support)
    ways = min(5, *sizes)
    sampler = EpisodeSampler(
        family, _SPLIT, ways=ways, shots=SHOTS, queries=QUERIES, setting=setting, seed=SEED
    )
    return list(sampler.episodes(count))


def ways_of_showing(backbone: Backbone) -> dict[str, Embedder]:
    """Return what shows texts to a model, by name; `prompted` shows templates."""
    shown = {"bare": Embedder(backbone, pooling="mean", keep=False)}
    shown["prompted"] = shown["bare"]
    if backbone.tokenizer.mask_token or not backbone.bidirectional:
        shown["prompt"] = Embedder(backbone, pooling="prompt", keep=False)
    own = sentence_of(backbone)
    if own is not None and own.prompt:
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
    """Return a line for each model, data set and way of showing texts, computing what is missing."""
    kept = folder / "choices.jsonl"
    folder.mkdir(parents=True, exist_ok=True)
    lines = kept.read_text("utf-8").splitlines() if kept.exists() else []
    done = {row["key"]: row for row in map(json.loads, lines)}
    code = code_of("icl.models.embedding.embedder", "icl.models.loading.load", "icl.episodes")
    found = []
    drawn = {name: episodes_of(DATA[name], asked.data, asked.episodes) for name in asked.only}
    for model in asked.models:
        backbone = load_backbone(f"packaged:{model}", device="cpu")
        for name in asked.only:
            for way, embedder in ways_of_showing(backbone).items():
                episodes = [e.fingerprint for e in drawn[name]]
                told = [backbone.identity, code, way, episodes, TWELFTHS, SHOTS]
                key = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]
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


def main() -> None:
    """Measure what is missing, then print (and write) what each choice loses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--only", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--episodes", type=int, default=20, help="of each data set, even")
    parser.add_argument("--runs", type=Path, default=Path("runs/defaults"))
    parser.add_argument("--page", type=Path, help="write the tables between its markers")
    parser.add_argument("--quick", action="store_true", help="two models, two data sets: a minute")
    asked = parser.parse_args()
    if asked.quick:
        asked.models, asked.only = list(MODELS[1:3]), ["nusax", "cldr"]
        asked.episodes = 6
    measure(asked, asked.runs)


if __name__ == "__main__":
    main()
