"""What icl does with each architecture, compared with plain transformers on tiny random models.

    python scripts/architectures.py                        # all of them, some minutes on one core
    python scripts/architectures.py --quick                # a dozen
    python scripts/architectures.py --only gemma3 --only t5
    python scripts/architectures.py --write docs/models.md

Each model of `zoo.py` is saved and loaded as a user loads it, and label scores, greedy generation,
the loss and the gradient of LoRA, a meta-gradient of second order, embeddings and tokens' states
are compared with those that transformers and PEFT give by themselves (`peers.py`), one text at a
time. Each is `equal`; `plain`: equal, but every text runs by itself, or with those of its length;
or refused with a reason. The last line is JSON: how many `architectures`, how many of the
comparisons are `wrong` and have `crashed`, how many architectures run `packed`. It ends with status
1 where anything is wrong or has crashed.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import peers
import peft
import torch
import transformers
import zoo
from torch import Tensor
from transformers import AutoTokenizer

from icl.errors import IclError
from icl.models.adapters.lora import Adapter, LoraSpec, default_targets, init_lora, lowest_layer
from icl.models.backbone import Backbone
from icl.models.embedding.embedder import Embedder
from icl.models.encoder import Encoder
from icl.models.loading.load import load_backbone
from icl.models.scoring.generate import generate
from icl.models.scoring.scorer import label_scores, make_plan, score
from icl.models.seq2seq import Seq2Seq

QUICK = (
    "llama", "gemma3_text", "gemma2", "granite", "bloom", "gemma3n_text", "bert", "albert",
    "deberta-v2", "t5", "mbart", "gemma3", "qwen2_5_vl",
)  # fmt: skip
PROMPTS = ("Word: January\nKind:", "Word: Montag\nKind:")
ANSWERS = (" month", " weekday", " of the animals")
TEXTS = ("the cat sat on the mat", "organ", "Word: January")
_BEGIN, _END = "<!-- table: begin -->", "<!-- table: end -->"
_TOLERANCE = 1e-4  # of the largest number that is compared; gradients ten times that


@dataclass
class Found:
    """What became of one architecture.

    Attributes:
        road: `packed`, `padded` (encoders), `answers packed` or `answers alone`
            (encoder-decoders), `plain`; empty
            where it cannot be loaded.
        targets: the default targets of LoRA, or why there are none.
        said: what was said while it was loaded.
        verdicts: for each ability `equal`, `refused: why`, `wrong: by how much`, `crashed: how`.
    """

    road: str = ""
    targets: str = ""
    said: list[str] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)

    def count(self, kind: str) -> int:
        """Return how many verdicts are of a kind."""
        return sum(v.startswith(kind) for v in self.verdicts.values())


def examine(name: str) -> Found:
    """Compare everything that icl does with one architecture with plain transformers."""
    with tempfile.TemporaryDirectory() as folder:  # a model is known by its files while it is used
        return _examined(name, folder)


def _examined(name: str, folder: str) -> Found:
    found = Found()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            reference = zoo.model(name)
            zoo.save(name, reference, Path(folder))
            tokenizer = AutoTokenizer.from_pretrained(folder)
            backbone = load_backbone(folder, device="cpu")
        except Exception as error:
            reason = _reason(error).replace(folder, name)
            found.verdicts = dict.fromkeys(ABILITIES, reason)
            return found
    backbone.name = name
    found.said = [str(w.message).replace(folder, name) for w in said]
    found.said = [text for text in found.said if text.startswith(("The model", "The encoder"))]
    found.road = _road(backbone)
    try:
        if not isinstance(backbone, Seq2Seq):
            found.targets = ", ".join(default_targets(backbone))
    except IclError:
        found.targets = ""
    if len(found.said) != (found.road == "plain"):
        found.verdicts["loading"] = f"wrong: the fallback was said {len(found.said)} times"
    for ability, compare in ABILITIES.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.verdicts[ability] = compare(backbone, reference, tokenizer)
        except Exception as error:
            found.verdicts[ability] = _reason(error)
    return found


def _road(backbone: Backbone) -> str:
    if isinstance(backbone, Seq2Seq):
        return "answers packed" if backbone.places_by_distance else "answers alone"
    if isinstance(backbone, Encoder):
        return "padded" if backbone.staged else "plain"
    return "packed" if backbone.packed else "plain"


def _reason(error: Exception) -> str:
    if isinstance(error, IclError):
        return f"refused: {error}"
    return f"crashed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _same(found: Tensor, wanted: Tensor, tolerance: float = _TOLERANCE) -> str:
    if found.shape != wanted.shape:
        return f"wrong: shape {tuple(found.shape)} instead of {tuple(wanted.shape)}"
    if not float(wanted.abs().max()) > 0:
        return "wrong: the reference is zero, which compares nothing"
    difference = float((found.double() - wanted.double()).abs().max() / wanted.abs().max())
    return "equal" if difference <= tolerance else f"wrong: by {difference:.2g} of the largest"


def _scores(backbone: Backbone, reference: Any, tokenizer: Any) -> str:
    found = label_scores(backbone, PROMPTS, ANSWERS)
    return _same(found, peers.scores(reference, tokenizer, PROMPTS, ANSWERS))


def _written(backbone: Backbone, reference: Any, tokenizer: Any) -> str:
    found = [texts[0] for texts in generate(backbone, PROMPTS, max_new_tokens=6)]
    wanted = peers.written(reference, tokenizer, PROMPTS, 6)
    return "equal" if found == wanted else f"wrong: {found!r} instead of {wanted!r}"


def _specs(backbone: Backbone) -> list[LoraSpec]:
    """Return LoRA in all layers, and where layers can be told apart in the upper half alone."""
    whole = LoraSpec(rank=2, targets=default_targets(backbone), start="orthogonal")
    upper = LoraSpec(rank=2, targets=whole.targets, start="orthogonal", top_layers=2)
    return [whole, upper] if len(backbone.blocks) > 1 else [whole]


Loss = Callable[[dict[str, Tensor], int], Tensor]


def _losses(backbone: Backbone, spec: LoraSpec, start: int) -> Loss:
    """Return icl's loss of some factors on the first or the second text."""
    if isinstance(backbone, Encoder):
        rows = backbone.encode(TEXTS)
        trunk = backbone.states(rows, layer=start)[0].detach() if start else None

        def of_states(factors: dict[str, Tensor], which: int) -> Tensor:
            states, _ = backbone.states(
                rows, adapter=Adapter(factors, spec.scale), trunk=trunk, start=start
            )
            return peers.toy_loss(states[which, : len(rows[which])])

        return of_states
    plan = make_plan(backbone, PROMPTS, ANSWERS)
    below = backbone.trunk(plan.layout, start) if start else None

    def of_scores(factors: dict[str, Tensor], which: int) -> Tensor:
        adapter = Adapter(factors, spec.scale)
        found = score(backbone, plan, adapter=adapter, trunk=below, start=start)
        return -found[which, which]

    return of_scores


def _lora(backbone: Backbone, reference: Any, tokenizer: Any) -> str:
    return _gradients(backbone, reference, tokenizer, peers.gradient)


def _second(backbone: Backbone, reference: Any, tokenizer: Any) -> str:
    return _gradients(backbone, reference, tokenizer, peers.meta_gradient)


def _gradients(
    backbone: Backbone, reference: Any, tokenizer: Any, take: Callable[..., Tensor]
) -> str:
    if "adapt" not in backbone.can:
        label_scores(backbone, PROMPTS, ANSWERS, adapter=Adapter({}, 1.0))  # says why not

    def alone(model: Callable[..., Any], which: int) -> Tensor:
        if not isinstance(backbone, Encoder):
            return -peers.score(model, tokenizer, PROMPTS[which], ANSWERS[which])
        ids = torch.tensor([tokenizer(TEXTS[which])["input_ids"]])
        return peers.toy_loss(model(input_ids=ids).last_hidden_state[0])

    verdict = ""
    for spec in _specs(backbone):
        factors = init_lora(backbone, spec, seed=0)
        ours = take(_losses(backbone, spec, lowest_layer(backbone, factors)), factors)
        theirs = take(peers.losses(reference, alone, factors, spec.scale), factors)
        verdict = _same(ours, theirs, 10 * _TOLERANCE)
        if verdict != "equal":
            return verdict
    return verdict


def _embeddings(backbone: Backbone, reference: Any, tokenizer: Any) -> str:
    for layer, pooling in ((-1, "mean"), (2, "last")):
        embedder = Embedder(backbone, layer, pooling, keep=False)  # type: ignore[arg-type]
        found = embedder.embed(TEXTS)
        states = peers.states(reference, tokenizer, TEXTS, layer)
        if pooling == "last":
            wanted = torch.stack([s[-1] for s in states])
        else:  # a decoder's first token is the same for all texts and is left out
            first = 0 if isinstance(backbone, Encoder) else 1
            wanted = torch.stack([s[first:].mean(0) for s in states])
        verdict = _same(found, wanted)
        if verdict != "equal":
            return f"{verdict} (layer {layer})"
    return verdict


def _token_states(backbone: Backbone, reference: Any, tokenizer: Any) -> str:
    rows = Embedder(backbone).encode(TEXTS)
    for layer in (-1, 2):
        found = backbone.token_states(rows, layer)
        wanted = peers.states(reference, tokenizer, TEXTS, layer)
        verdict = _same(torch.cat(found), torch.cat(wanted))
        if verdict != "equal":
            return f"{verdict} (layer {layer})"
    return verdict


ABILITIES: dict[str, Callable[[Backbone, Any, Any], str]] = {
    "scores": _scores,
    "generation": _written,
    "LoRA": _lora,
    "second order": _second,
    "embeddings": _embeddings,
    "token states": _token_states,
}


def table(found: dict[str, Found]) -> str:
    """Return what the page shows, between its markers: a table and the reasons of refusals."""
    reasons: list[str] = []
    rows = [
        f"| architecture | kind | runs | {' | '.join(ABILITIES)} | LoRA's default targets |",
        "| --- " * (len(ABILITIES) + 4) + "|",
    ]
    for name, one in found.items():
        cells = [f"`{name}`", zoo.KINDS[name], one.road or "not"]
        for ability in ABILITIES:
            verdict = one.verdicts[ability]
            if verdict.startswith("refused"):
                reason = _general(verdict.removeprefix("refused: "), name)
                if reason not in reasons:
                    reasons.append(reason)
                verdict = f"refused {reasons.index(reason) + 1}"
            equal = "plain" if one.road == "plain" else "="
            cells.append(equal if verdict == "equal" else verdict)
        rows.append(f"| {' | '.join([*cells, one.targets])} |")
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, transformers"
        f" {transformers.__version__}, PEFT {peft.__version__}"
    )
    told = f"`python scripts/architectures.py`, {date.today():%d %B %Y}, {versions}."
    why = [f"{i}. {reason}" for i, reason in enumerate(reasons, start=1)]
    return "\n".join([_BEGIN, told, "", *rows, "", "Refused:", "", *why, "", _END])


def _general(reason: str, name: str) -> str:
    """Leave a model's name out of a sentence, so that many can share it."""
    return re.sub(rf"^The (model|encoder) '{re.escape(name)}'( \(\w+\))?", r"The \1", reason)


def main() -> None:
    """Examine the architectures asked for, print what was found, and write the page's table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a dozen alone")
    parser.add_argument("--only", action="append", choices=list(zoo.KINDS), metavar="NAME")
    parser.add_argument("--write", type=Path, help="the page whose table is written anew")
    options = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    found: dict[str, Found] = {}
    for name in options.only or (QUICK if options.quick else zoo.KINDS):
        found[name] = examine(name)
        print(f"{name}: {found[name].road or 'not loaded'}", flush=True)
        for said in found[name].said:
            print(f"  said: {said}")
        by_verdict: dict[str, list[str]] = {}
        for ability, verdict in found[name].verdicts.items():
            by_verdict.setdefault(verdict, []).append(ability)
        for verdict, abilities in by_verdict.items():
            if verdict != "equal":
                print(f"  {', '.join(abilities)}: {verdict}", flush=True)
    if options.write is not None:
        page = options.write.read_text("utf-8")
        before, rest = page.split(_BEGIN)
        options.write.write_text(f"{before}{table(found)}{rest.split(_END)[1]}", "utf-8")
    summary = {
        "architectures": len(found),
        "wrong": sum(f.count("wrong") for f in found.values()),
        "crashed": sum(f.count("crashed") for f in found.values()),
        "packed": sum(f.road == "packed" for f in found.values()),
    }
    print(json.dumps(summary))
    if summary["wrong"] or summary["crashed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
