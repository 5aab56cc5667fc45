"""How fast and how exactly labels are scored, against lm-evaluation-harness and a plain loop.

SIB-200 English, 7 labels, {1, 3, 8} shots a label, {24, 200} queries, one model, one precision, the
same strings for all (found in the folder named by ICL_TEST_DATA, by default ../shared/data). Two
sets of label words, apart: `single` has one token a word, `multi` several, so that lm-eval, which
shares one forward pass among one-token answers, needs seven.

What is timed, in interleaved repeats, tokenising included, loading not:

- icl: `icl.models.scoring.scorer.label_scores` with exact, normalised log-probabilities.
- lm-eval: `HFLM.loglikelihood` on the same (context, continuation) pairs; batch size 1 on a CPU
  (the fastest there: padding is computed), `auto` on a GPU. Its progress bar is off.
- naive: the loop that users write: one forward pass a (prompt, label), logits at every position.

A peer that would need more than --peer-seconds for a case is timed on a stated random sample of the
queries and scaled by queries; each prompt costs it about the same.

The bound is (2 x non-embedding parameters x unique tokens) over the machine's matrix rate, which is
measured between the repeats. Unique tokens are counted independently of icl's own packing. It does
not count what exact scores of words of several tokens need besides: a product with the whole
vocabulary for each distinct place at which a label token is predicted.
`share_of_bound_with_vocabulary` counts these products too; attention's own are in neither. The rate
is that of torch's `@`; icl's products go another way, which is faster (scripts/bench_products.py).

The last line is one JSON object. Its headline figures are those of the case `headline_case` (3
shots, 24 queries, words of several tokens where these are run); every case is listed under `cases`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from icl.models.backbone import Backbone
from icl.models.loading.load import load_backbone
from icl.models.packed.trie import common_prefix
from icl.models.scoring.scorer import label_scores
from icl.models.tokens import encode_pairs
from icl.tasks import Example, load_family

WORDS = {
    "single": ["science", "travel", "politics", "sports", "health", "entertainment", "geography"],
    "multi": [
        "science and technology",
        "travel and tourism",
        "politics and government",
        "sports and games",
        "health and medicine",
        "entertainment and culture",
        "geography and places",
    ],
}
HEADLINE = (3, 24)  # shots, queries


@dataclass(frozen=True)
class Case:
    """Prompts and answers of one size."""

    words: str
    shots: int
    queries: int
    prompts: list[str]
    answers: list[str]


def main() -> None:
    """Run the benchmark and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 shots, 24 queries; lm-eval on 4")
    parser.add_argument("--words", choices=[*WORDS, "both"], default="both")
    parser.add_argument("--model", default="packaged:gemma-3-270m")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--peer-seconds", type=float, default=600, help="a peer's longest time on a case"
    )
    parser.add_argument(
        "--headline-seconds", type=float, default=600, help="lm-eval's at 3 shots, 24 queries"
    )
    options = parser.parse_args()
    backbone = load_backbone(options.model, dtype=options.dtype)
    peers = {"naive": Peer(Naive(backbone)), "lm_eval": Peer(LmEval(backbone))}
    kinds = list(WORDS) if options.words == "both" else [options.words]
    sizes = [HEADLINE] if options.quick else [(s, q) for s in (1, 3, 8) for q in (24, 200)]
    cases = [
        case
        for words in (kinds[-1:] if options.quick else kinds)
        for case in make_cases(words, sizes)
    ]
    repeats = 1 if options.quick else options.repeats
    results = []
    for case in cases:
        results.append(measure(backbone, peers, case, repeats, longest(case, options)))
        print(line(results[-1]), flush=True)
    print(json.dumps(summary(results, backbone, options.dtype)))


def longest(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Return how many seconds each peer may take on a case."""
    if options.quick:
        return {"lm_eval": 60, "naive": 15}
    headline = (case.shots, case.queries) == HEADLINE
    most = options.headline_seconds if headline else options.peer_seconds
    return {"lm_eval": most, "naive": options.peer_seconds}


def make_cases(words: str, sizes: Sequence[tuple[int, int]]) -> list[Case]:
    """Build prompts: demonstrations from the training part, queries from the test part."""
    folder = Path(os.environ.get("ICL_TEST_DATA", "../shared/data")) / "sib200"
    if not folder.is_dir():
        sys.exit(f"SIB-200 is not at {folder}; name its parent folder in ICL_TEST_DATA.")
    task = load_family("sib200", data=folder).load("topic", "eng_Latn")
    parts: dict[str, list[Example]] = {"train": [], "test": []}
    for example in task.examples:
        part = example.parallel_id.split("/")[0]
        if part in parts:
            parts[part].append(example)
    word_of = dict(zip(task.labels, WORDS[words], strict=True))
    draw = np.random.default_rng(0)
    queries = [parts["test"][i] for i in draw.permutation(len(parts["test"]))]
    by_label = {label: [e for e in parts["train"] if e.label == label] for label in task.labels}
    order = {label: draw.permutation(len(found)) for label, found in by_label.items()}
    cases = []
    for shots, count in sizes:
        shown = [
            (by_label[label][order[label][k]].fields, word_of[label])
            for k in range(shots)
            for label in task.labels
        ]
        prompts = [task.template.prompt(shown, query.fields) for query in queries[:count]]
        answers = [task.template.answer(word) for word in WORDS[words]]
        cases.append(Case(words, shots, count, prompts, answers))
    return cases


class Naive:
    """One forward pass a (prompt, answer), by plain transformers."""

    def __init__(self, backbone: Backbone) -> None:
        from transformers import AutoModelForCausalLM

        self.tokenizer = backbone.tokenizer
        self.model: Any = AutoModelForCausalLM.from_pretrained(
            backbone.model.config._name_or_path, dtype=backbone.model.dtype
        ).to(backbone.device)
        self.model.eval()

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        """Score, shape (prompts, answers)."""
        rows = []
        for row in encode_pairs(self.tokenizer, prompts, answers):
            for pair in row:
                ids = torch.from_numpy(pair.tokens)[None].to(self.model.device)
                log_probs = self.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
                picked = log_probs.gather(1, ids[0, 1:, None])
                rows.append(float(picked[pair.answer_from - 1 :].sum()))
        return torch.tensor(rows).reshape(len(prompts), len(answers))


class LmEval:
    """lm-evaluation-harness on the same weights."""

    def __init__(self, backbone: Backbone) -> None:
        from lm_eval.models.huggingface import HFLM
        from transformers import AutoModelForCausalLM

        on_gpu = backbone.device.type == "cuda"
        model = AutoModelForCausalLM.from_pretrained(
            backbone.model.config._name_or_path, dtype=backbone.model.dtype
        ).to(backbone.device)
        self.model = HFLM(
            pretrained=model, tokenizer=backbone.tokenizer, batch_size="auto" if on_gpu else 1
        )

    def __call__(self, prompts: Sequence[str], answers: Sequence[str]) -> torch.Tensor:
        """Score, shape (prompts, answers)."""
        from lm_eval.api.instance import Instance

        requests = [
            Instance("loglikelihood", {}, (prompt, answer), i)
            for i, (prompt, answer) in enumerate((p, a) for p in prompts for a in answers)
        ]
        found = self.model.loglikelihood(requests, disable_tqdm=True)
        return torch.tensor([score for score, _ in found]).reshape(len(prompts), len(answers))


class Peer:
    """A peer with the time that it is known to take for a token of a naive run."""

    def __init__(self, score: Callable[[Sequence[str], Sequence[str]], torch.Tensor]) -> None:
        self.score = score
        self.seconds_per_token = dict.fromkeys(WORDS, 0.0)

    def time(self, case: Case, rows: Sequence[int], tokens: float) -> tuple[float, torch.Tensor]:
        """Score some queries; return the seconds that the whole case would take, and the scores."""
        began = time.perf_counter()
        scores = self.score([case.prompts[r] for r in rows], case.answers)
        whole = (time.perf_counter() - began) * case.queries / len(rows)
        self.seconds_per_token[case.words] = whole / tokens
        return whole, scores


def measure(
    backbone: Backbone,
    peers: dict[str, Peer],
    case: Case,
    repeats: int,
    longest: dict[str, float],
) -> dict[str, Any]:
    """Time one case on all sides and compare the scores."""
    unique, whole, predicting = count_tokens(backbone, case)
    sampled: dict[str, list[int]] = {}
    for name, peer in peers.items():
        if not peer.seconds_per_token[case.words]:
            peer.time(case, [0], whole)  # the first case of its kind also warms it up
        fit = case.queries * longest[name] / (peer.seconds_per_token[case.words] * whole)
        draw = np.random.default_rng(1).permutation(case.queries)
        sampled[name] = sorted(draw[: min(case.queries, max(1, int(fit)))].tolist())
    label_scores(backbone, case.prompts[:1], case.answers)  # as warm as the peers
    ours: list[float] = []
    rates: list[float] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    differences: dict[str, float] = {}
    computed = 0.0
    for _ in range(repeats):
        for name, peer in peers.items():
            rates.append(matrix_rate(backbone))
            before = backbone.meter.computed_tokens
            began = time.perf_counter()
            scores = label_scores(backbone, case.prompts, case.answers).cpu()
            ours.append(time.perf_counter() - began)
            computed = backbone.meter.computed_tokens - before
            rows = sampled[name]
            taken, reference = peer.time(case, rows, whole)
            theirs[name].append(taken)
            differences[name] = float((scores[rows] - reference).abs().max())
    seconds, rate = statistics.median(ours), statistics.median(rates)
    bound = 2 * non_embedding_parameters(backbone) * unique / rate
    vocabulary = 2 * backbone.head.weight.numel() * predicting / rate
    return {
        "words": case.words,
        "shots": case.shots,
        "queries": case.queries,
        "seconds": round(seconds, 3),
        "seconds_lm_eval": round(statistics.median(theirs["lm_eval"]), 2),
        "seconds_naive": round(statistics.median(theirs["naive"]), 2),
        "queries_timed_lm_eval": len(sampled["lm_eval"]),
        "queries_timed_naive": len(sampled["naive"]),
        "speedup_vs_lm_eval": round(statistics.median(theirs["lm_eval"]) / seconds, 1),
        "speedup_vs_naive": round(statistics.median(theirs["naive"]) / seconds, 1),
        "naive_tokens": whole,
        "unique_tokens": unique,
        "tokens_computed": round(computed),
        "tokens_computed_per_unique": round(computed / unique, 4),
        "matrix_gflops": round(rate / 1e9, 1),
        "bound_seconds": round(bound, 3),
        "share_of_bound": round(bound / seconds, 3),
        "share_of_bound_with_vocabulary": round((bound + vocabulary) / seconds, 3),
        "max_abs_logprob_diff_lm_eval": differences["lm_eval"],
        "max_abs_logprob_diff_naive": differences["naive"],
    }


def matrix_rate(backbone: Backbone) -> float:
    """Return the rate of a large square matrix product in the model's precision, FLOP/s."""
    size = 8192 if backbone.device.type == "cuda" else 2048
    a, b = torch.randn(2, size, size, device=backbone.device).to(backbone.model.dtype)
    best = 0.0
    for _ in range(3):
        _wait(backbone)
        began = time.perf_counter()
        a @ b
        _wait(backbone)
        best = max(best, 2 * size**3 / (time.perf_counter() - began))
    return best


def _wait(backbone: Backbone) -> None:
    if backbone.device.type == "cuda":
        torch.cuda.synchronize()


def count_tokens(backbone: Backbone, case: Case) -> tuple[int, int, int]:
    """Count the tokens that must be run, those that a naive run runs, and those that predict.

    An answer's last token predicts nothing and need not be run. Sorted sequences share with the
    one before them all that they share with any.
    """
    pairs = [p for row in encode_pairs(backbone.tokenizer, case.prompts, case.answers) for p in row]
    predicting = {
        pair.tokens[:k].tobytes()
        for pair in pairs
        for k in range(pair.answer_from, len(pair.tokens))
    }
    rows = [pair.tokens[:-1] for pair in pairs]
    rows.sort(key=lambda tokens: tokens.tolist())
    shared = [0, *(common_prefix(a, b) for a, b in pairwise(rows))]
    unique = sum(len(r) - s for r, s in zip(rows, shared, strict=True))
    return unique, sum(map(len, rows)), len(predicting)


def non_embedding_parameters(backbone: Backbone) -> int:
    """Count the parameters of all but the embeddings and the head, which is tied to them."""
    embeddings = {
        id(p)
        for module in (backbone.model.get_input_embeddings(), backbone.head)
        for p in module.parameters()
    }
    return sum(p.numel() for p in backbone.model.parameters() if id(p) not in embeddings)


def line(result: dict[str, Any]) -> str:
    """Return one case's figures for people."""
    return (
        f"{result['words']:6} {result['shots']} shots {result['queries']:3} queries: icl"
        f" {result['seconds']:.2f} s; lm-eval {result['seconds_lm_eval']:.1f} s"
        f" (x{result['speedup_vs_lm_eval']:.0f}, timed on {result['queries_timed_lm_eval']});"
        f" naive {result['seconds_naive']:.1f} s (x{result['speedup_vs_naive']:.0f}, timed on"
        f" {result['queries_timed_naive']}); {result['tokens_computed']} tokens for"
        f" {result['unique_tokens']} unique of {result['naive_tokens']};"
        f" {100 * result['share_of_bound']:.0f} % of the bound"
        f" ({100 * result['share_of_bound_with_vocabulary']:.0f} % with the vocabulary's products);"
        f" largest difference {result['max_abs_logprob_diff_lm_eval']:.1e} (lm-eval),"
        f" {result['max_abs_logprob_diff_naive']:.1e} (naive)"
    )


def summary(results: list[dict[str, Any]], backbone: Backbone, dtype: str) -> dict[str, Any]:
    """Return the object of the last line."""
    head = next(r for r in reversed(results) if (r["shots"], r["queries"]) == HEADLINE)
    return {
        "speedup_vs_lm_eval": head["speedup_vs_lm_eval"],
        "speedup_vs_naive": head["speedup_vs_naive"],
        "tokens_computed_per_unique": max(r["tokens_computed_per_unique"] for r in results),
        "share_of_bound": head["share_of_bound"],
        "share_of_bound_with_vocabulary": head["share_of_bound_with_vocabulary"],
        "max_abs_logprob_diff": max(
            r[f"max_abs_logprob_diff_{peer}"] for r in results for peer in ("lm_eval", "naive")
        ),
        "headline_case": f"{head['words']}-token words, {HEADLINE[0]} shots, {HEADLINE[1]} queries",
        "device": str(backbone.device),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "dtype": dtype,
        "date": date.today().isoformat(),
        "cases": results,
    }


if __name__ == "__main__":
    main()
