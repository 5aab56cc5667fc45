"""Meta-gradients over LoRA: icl against `higher` and a plain PEFT + autograd loop.

One run, one model (the packaged Gemma 3 270M, float32), one LoRA (r 8 on q and v, B not zero), the
same episodes, and the same objective on both sides, so that the gradients must agree; their largest
relative difference stands in the result. 5-way 5-shot with 10 queries, meta-batch 4, inner descent.
Texts are SIB-200's if ICL_DATA_SIB200 or ICL_TEST_DATA names it, else word tasks of the packaged
family.

The peers are timed in two forms:

- ``labels``: as their users write it: the model's own loss over padded batches, which makes
  logits at every position of a 262k vocabulary. The objective is the label word's negative
  log-probability.
- ``label-only``: logits only after the prompt and only of the label words. The objective is the
  cross-entropy over the episode's label words, icl's own.

A peer takes its tasks one after the other, so its time is measured on --peer-tasks of them and
multiplied by how many padded tokens it processes for the whole meta-batch; icl runs all of it.
icl's trunk starts cold at every meta-gradient; with LoRA on the top third it is also timed with the
trunk kept from an earlier one, as when examples come again. First-order peers use fused attention;
second-order ones need eager attention, since fused kernels have no double backward.

Memory is the peak above what was resident before (VmHWM), of one task. The second-order part has
--second-shots shots, by default 2 and in --quick 1: with 5 the plain loop would need about 22 GiB
for 5 steps. Its peers run in a process of their own, which the system ends before any other if
memory runs out; the row then says so.

`--parts` runs some of the cases, and `--results FILE` adds what was measured to a file whose lines
all count in the end, so that a long run can be done in pieces.

`--quick` takes 1-shot episodes, two tasks, K = 1 in first order and K = 5 in second.

The last line is one JSON object. `speedup_first_order_all_layers` and `_top_third` are the smallest
over the K that were run, against the first form and the faster peer; `_label_only` against the
second; `_kept` with the trunk kept; `memory_ratio_second_order_k5` is icl's peak over the plain
loop's in the second form; `memory_growth_ratio` is what each added step costs icl over what it
costs that peer.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icl.episodes import Episode, EpisodeSampler
from icl.learners.gradient.algorithms import FOMAML, MAML, Problem
from icl.learners.gradient.base import Piece, WordLoss, of_tasks
from icl.models.adapters.lora import Adapter, LoraSpec
from icl.models.adapters.lora_start import init_lora
from icl.models.backbone import Backbone
from icl.models.loading.load import load_backbone
from icl.models.scoring.scorer import score
from icl.tasks import load_family

RATE = 0.01
SPEC = {"rank": 8, "alpha": 16.0, "targets": ("q_proj", "v_proj")}
Gradients = dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    episodes: Sequence[Episode]
    start: Mapping[str, Tensor]
    steps: int
    second_order: bool
    vocabulary: bool  # the first form's objective


class Ours:
    """icl: all tasks of the meta-batch in one packed pass."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone = backbone

    def __call__(self, case: Case) -> Gradients:
        """Return the meta-gradient, with a cold trunk."""
        self.backbone.trunks.clear()
        return self.kept(case)

    def kept(self, case: Case) -> Gradients:
        """Return the meta-gradient with whatever trunk is kept."""
        scale = float(SPEC["alpha"]) / int(SPEC["rank"])  # type: ignore[arg-type, call-overload]
        kind = VocabularyLoss if case.vocabulary else WordLoss
        support, query = (
            kind(
                self.backbone, [(getattr(e, s), e.labels) for e in case.episodes], case.start, scale
            )
            for s in ("support", "query")
        )
        algorithm: type[MAML] = MAML if case.second_order else FOMAML
        problem = Problem(len(case.episodes), support, query)
        step = algorithm(case.steps, RATE).meta_step(case.start, {}, problem, 1.0)
        return dict(step.gradients)


class VocabularyLoss(WordLoss):
    """The first form's objective: the right word's tokens against the whole vocabulary."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        pieces = [self._only_right(piece) for piece in self.batch.pieces]
        counts = torch.zeros(len(self.batch.sizes))
        for piece in pieces:
            task = piece.tasks[piece.owner[piece.plan.owner // piece.plan.answers]]
            counts.index_add_(0, task, torch.ones(len(task)))
        self.tokens = counts
        self.parts = [partial(self._part, piece) for piece in pieces]

    def _only_right(self, piece: Piece) -> Piece:
        """Leave out the other words' tokens: they play no part."""
        plan = piece.plan
        pairs = torch.arange(len(piece.targets)) * plan.answers + piece.targets
        kept = torch.isin(plan.owner, pairs)
        fields = {f: getattr(plan, f)[kept] for f in ("at", "target", "owner", "common")}
        return replace(piece, plan=replace(plan, **fields))

    def _part(self, piece: Piece, params: Mapping[str, Tensor]) -> Tensor:
        adapter = of_tasks(Adapter(params, self.scale), piece, len(self.batch.sizes))
        scores = score(
            self.backbone, piece.plan, adapter=adapter, trunk=piece.trunk, start=piece.start
        )
        right = scores.gather(1, piece.targets[:, None])[:, 0]
        sums = torch.zeros(len(self.batch.sizes))
        return sums.index_add(0, piece.tasks[piece.owner], -right) / self.tokens


class Peer:
    """What peers share: a PEFT model, padded batches, and the two forms of the loss."""

    name = "peft"

    def __init__(self, backbone: Backbone, start: Mapping[str, Tensor]) -> None:
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        config = type(backbone.model.config).from_dict(backbone.model.config.to_dict())
        config._attn_implementation = "sdpa"
        model = AutoModelForCausalLM.from_config(config)
        model.load_state_dict(backbone.model.state_dict(), strict=False, assign=True)
        model.tie_weights()
        layers = sorted({int(n.split(".layers.")[1].split(".")[0]) for n in start})
        lora = LoraConfig(
            r=SPEC["rank"], lora_alpha=SPEC["alpha"], target_modules=list(SPEC["targets"]),
            layers_to_transform=layers,
        )  # fmt: skip
        self.model = get_peft_model(model, lora).eval()
        self.tokenizer = backbone.tokenizer
        self.names = {n: f"base_model.model.{n}.default.weight" for n in start}  # ours -> PEFT's
        self.parameters = dict(self.model.named_parameters())

    def batch(self, case: Case, e: Episode, side: str) -> dict[str, Any]:
        """Tokenise one side of an episode, padded on the right."""
        template, words = e.labels.template, dict(zip(e.labels.names, e.labels.words, strict=True))
        prompts = [template.render(x.fields) for x in getattr(e, side)]
        answers = [template.answer(words[x.label]) for x in getattr(e, side)]
        wholes = [self.tokenizer(p + a)["input_ids"] for p, a in zip(prompts, answers, strict=True)]
        alone = [len(self.tokenizer(p)["input_ids"]) for p in prompts]
        rows = wholes if case.vocabulary else [w[:n] for w, n in zip(wholes, alone, strict=True)]
        width = max(map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        labels = torch.full_like(ids, -100)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
            labels[i, alone[i] : len(row)] = ids[i, alone[i] : len(row)]
        first = [
            self.tokenizer(prompts[0] + template.answer(w))["input_ids"] for w in e.labels.words
        ]
        return {
            "input_ids": ids, "attention_mask": mask, "labels": labels,
            "last": torch.tensor([len(r) - 1 for r in rows]),
            "words": torch.tensor([w[alone[0]] for w in first]),
            "target": torch.tensor([e.labels.index(x.label) for x in getattr(e, side)]),
        }  # fmt: skip

    def tokens(self, case: Case) -> int:
        """Return how many padded tokens the inner loops and the outer losses process."""
        sizes = {
            side: sum(self.batch(case, e, side)["input_ids"].numel() for e in case.episodes)
            for side in ("support", "query")
        }
        return case.steps * sizes["support"] + sizes["query"]

    def loss(self, case: Case, batch: dict[str, Any], call: Callable[..., Any]) -> Tensor:
        """Return one batch's loss in the form that the case asks for."""
        inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
        if case.vocabulary:
            loss: Tensor = call(**inputs, labels=batch["labels"]).loss
            return loss
        out = call(**inputs, output_hidden_states=True, logits_to_keep=1)
        last = out.hidden_states[-1][torch.arange(len(batch["last"])), batch["last"]]
        head = self.model.get_base_model().get_output_embeddings().weight
        return torch.nn.functional.cross_entropy(last @ head[batch["words"]].T, batch["target"])

    def __call__(self, case: Case) -> Gradients:
        """Return the meta-gradient, task by task."""
        kind = "eager" if case.second_order else "sdpa"
        self.model.get_base_model().set_attn_implementation(kind)
        with torch.no_grad():
            for mine, theirs in self.names.items():
                self.parameters[theirs].copy_(case.start[mine])
        total: Gradients = {}
        for e in case.episodes:
            for name, value in self.task(case, e).items():
                total[name] = total.get(name, 0) + value / len(case.episodes)
        return total

    def task(self, case: Case, e: Episode) -> Gradients:
        """Return one task's meta-gradient by a loop of `autograd.grad` over PEFT's parameters."""
        support, query = (self.batch(case, e, side) for side in ("support", "query"))
        leaves = {n: self.parameters[p].detach().requires_grad_() for n, p in self.names.items()}
        params = dict(leaves)

        def call(**inputs: Any) -> Any:
            swapped = {self.names[n]: v for n, v in params.items()}
            return torch.func.functional_call(self.model, swapped, (), inputs)

        for _ in range(case.steps):
            grads = torch.autograd.grad(
                self.loss(case, support, call), list(params.values()),
                create_graph=case.second_order,
            )  # fmt: skip
            params = {n: p - RATE * g for (n, p), g in zip(params.items(), grads, strict=True)}
            if not case.second_order:
                params = {n: p.detach().requires_grad_() for n, p in params.items()}
        wanted = leaves if case.second_order else params
        found = torch.autograd.grad(self.loss(case, query, call), list(wanted.values()))
        return dict(zip(params, found, strict=True))


class Higher(Peer):
    """The same with `higher`'s inner loop.

    higher 0.2.1 cannot derive from PEFT's classes (Module before ABC) nor slice a model's list of
    layers, so it fails on transformers 5 with PEFT; the run says so and goes on without it.
    """

    name = "higher"

    def __init__(self, backbone: Backbone, start: Mapping[str, Tensor]) -> None:
        import higher  # noqa: F401

        super().__init__(backbone, start)

    def task(self, case: Case, e: Episode) -> Gradients:
        """Return one task's meta-gradient by `higher.innerloop_ctx`."""
        import higher

        support, query = (self.batch(case, e, side) for side in ("support", "query"))
        wanted = [self.parameters[p] for p in self.names.values()]
        optimiser = torch.optim.SGD(wanted, lr=RATE)
        with higher.innerloop_ctx(
            self.model, optimiser, copy_initial_weights=False,
            track_higher_grads=case.second_order,
        ) as (fast, inner):  # fmt: skip
            for _ in range(case.steps):
                inner.step(self.loss(case, support, fast))
            loss = self.loss(case, query, fast)
            if not case.second_order:
                by_name = dict(fast.named_parameters())
                wanted = [by_name[p] for p in self.names.values()]
            found = torch.autograd.grad(loss, wanted)
        return dict(zip(self.names, found, strict=True))


def resident(key: str) -> int:
    """Return VmRSS or VmHWM in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {key}")


def measured(run: Callable[[Case], Gradients], case: Case) -> tuple[Gradients, float, int]:
    """Return the gradients, the seconds, and the peak above what was resident, in bytes."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, began = resident("VmRSS"), time.perf_counter()
    found = run(case)
    seconds = time.perf_counter() - began
    return found, seconds, resident("VmHWM") - before


def difference(a: Gradients, b: Gradients) -> float:
    """Return the relative difference of two gradients, over all factors together."""
    apart = sum(float((a[n] - b[n]).square().sum()) for n in a)
    return (apart / sum(float(v.square().sum()) for v in b.values())) ** 0.5


def draw(count: int, shots: int, queries: int) -> list[Episode]:
    """Draw 5-way episodes: SIB-200's where it is at hand, else word tasks."""
    root = Path(os.environ.get("ICL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    folder = Path(os.environ.get("ICL_DATA_SIB200", root / "sib200"))
    if folder.is_dir():
        family, ways = load_family("sib200", data=str(folder)), 5
    else:
        family, ways = load_family("cldr"), 5
    sampler = EpisodeSampler(family, "train", ways=ways, shots=[shots], queries=queries)
    return [sampler.episode(i, shots) for i in range(count)]


def start(backbone: Backbone, top: int | None) -> Gradients:
    """Draw LoRA factors of which none is zero."""
    factors = init_lora(backbone, LoraSpec(**SPEC, top_layers=top), 0)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    return {n: v + 0.01 * torch.randn(v.shape, generator=generator) for n, v in factors.items()}


PARTS = ("all_layers/labels", "all_layers/label-only", "top_third/labels", "top_third/label-only",
         "second_order")  # fmt: skip


class Bench:
    """Measures cases and keeps what it finds, one mapping a case."""

    def __init__(
        self, model: str, episodes: Sequence[Episode], few: int, second: tuple[int, int]
    ) -> None:
        """Take the model's name, the meta-batch, a peer's tasks, and the second-order episode's
        (shots, queries)."""
        self.model = model
        self.backbone = load_backbone(model)
        self.ours = Ours(self.backbone)
        self.episodes = episodes
        self.few = episodes[:few]
        self.second = second
        self.built: dict[tuple[type[Peer], int], Peer] = {}  # by kind and number of factors
        self.failed: dict[str, str] = {}  # peers that cannot run here, not tried again

    def first_order(self, part: str, steps: int) -> dict[str, Any]:
        """Time one meta-gradient of the whole meta-batch."""
        where, form = part.split("/")
        top = None if where == "all_layers" else len(self.backbone.layers) // 3
        factors = start(self.backbone, top)
        case = Case(self.episodes, factors, steps, False, form == "labels")
        mine, cold, peak = measured(self.ours, case)
        found = {"part": part, "k": steps, "icl_s": cold, "icl_gib": peak / 2**30}
        if top is not None:
            found["icl_kept_s"] = measured(self.ours.kept, case)[1]
        case = replace(case, episodes=self.few)
        small = mine if len(self.few) == len(self.episodes) else self.ours(case)
        return found | self.peers(case, small)

    def second_order(self, steps: int) -> dict[str, Any]:
        """Time and weigh one task's meta-gradient; the peers' in processes of their own."""
        case = second_order_case(self.backbone, self.second, steps)
        mine, seconds, peak = measured(self.ours, case)
        found = {"part": "second_order", "k": steps, "icl_s": seconds, "icl_gib": peak / 2**30}
        found |= {"shots": self.second[0], "failed": dict(self.failed), "differ": 0.0}
        for kind in (Peer, Higher):
            if kind.name in self.failed:
                continue
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                try:
                    theirs, seconds, peak = pool.submit(
                        measured_apart, kind, self.model, self.second, steps
                    ).result()
                except BrokenProcessPool:
                    found["failed"][kind.name] = f"out of memory at K = {steps}"
                    continue
                except FAILURES as error:
                    self.failed[kind.name] = found["failed"][kind.name] = reason(error)
                    continue
            theirs = {n: torch.from_numpy(v) for n, v in theirs.items()}
            found["differ"] = max(found["differ"], difference(mine, theirs))
            found |= {f"{kind.name}_s": seconds, f"{kind.name}_gib": peak / 2**30}
        return found

    def peers(self, case: Case, mine: Gradients) -> dict[str, Any]:
        """Time the peers on the tasks of a case and compare their gradients with icl's."""
        found: dict[str, Any] = {"failed": dict(self.failed), "differ": 0.0}
        for kind in (Peer, Higher):
            if kind.name in self.failed:
                continue
            try:
                built = (kind, len(case.start))
                if built not in self.built:
                    self.built[built] = kind(self.backbone, case.start)
                peer = self.built[built]
                theirs, seconds, _ = measured(peer, case)
            except FAILURES as error:
                self.failed[kind.name] = found["failed"][kind.name] = reason(error)
                continue
            all_tasks = replace(case, episodes=self.episodes)
            seconds *= peer.tokens(all_tasks) / peer.tokens(case)
            found["differ"] = max(found["differ"], difference(mine, theirs))
            found[f"{kind.name}_s"] = seconds
        return found


def second_order_case(backbone: Backbone, second: tuple[int, int], steps: int) -> Case:
    """Return the second-order part's case, the same in every process."""
    return Case(draw(1, *second), start(backbone, None), steps, True, False)


def measured_apart(
    kind: type[Peer], model: str, second: tuple[int, int], steps: int
) -> tuple[dict[str, Any], float, int]:
    """Measure a peer's second-order case; meant for a process of its own."""
    Path("/proc/self/oom_score_adj").write_text("1000")
    backbone = load_backbone(model)
    case = second_order_case(backbone, second, steps)
    theirs, seconds, peak = measured(kind(backbone, case.start), case)
    return {n: v.numpy() for n, v in theirs.items()}, seconds, peak


FAILURES = (ImportError, TypeError, RuntimeError, AttributeError)


def reason(error: Exception) -> str:
    """Say in one line why a peer cannot be measured."""
    return "not installed" if isinstance(error, ImportError) else str(error).splitlines()[0]


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the result of all measured cases."""
    result: dict[str, Any] = {}
    for part in PARTS[:4]:
        where, form = part.split("/")
        name = f"speedup_first_order_{where}" + ("_label_only" if form == "label-only" else "")
        for own, tail in (("icl_s", ""), ("icl_kept_s", "_kept")):
            ratios = [
                min(r[f"{p.name}_s"] for p in (Peer, Higher) if f"{p.name}_s" in r) / r[own]
                for r in rows
                if r["part"] == part and own in r
            ]
            if ratios:
                result[name + tail] = round(min(ratios), 2)
    second = {r["k"]: r for r in rows if r["part"] == "second_order" and "peft_s" in r}
    for k, r in sorted(second.items()):
        result[f"second_order_seconds_ratio_k{k}"] = round(r["icl_s"] / r["peft_s"], 3)
    if 5 in second:
        low = second[min(second)]
        result["memory_ratio_second_order_k5"] = round(
            second[5]["icl_gib"] / second[5]["peft_gib"], 3
        )
        grown = [second[5][f"{n}_gib"] - low[f"{n}_gib"] for n in ("icl", "peft")]
        if low["k"] < 5:
            result["memory_growth_gib_per_step"] = round(grown[0] / (5 - low["k"]), 3)
            result["memory_growth_ratio"] = round(grown[0] / grown[1], 3)
    result["max_rel_gradient_diff"] = float(f"{max(r['differ'] for r in rows):.2e}")
    result["failed_peers"] = {n: why for r in rows for n, why in r["failed"].items()}
    result["inner_steps"] = sorted({r["k"] for r in rows})
    result["threads"] = torch.get_num_threads()
    return result


def main() -> None:
    """Run the comparison and print it; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="small episodes: under two minutes")
    parser.add_argument("--steps", default="1,3,5", help="inner steps K to run")
    parser.add_argument("--parts", default=",".join(PARTS), help="which cases")
    parser.add_argument("--peer-tasks", type=int, default=1, help="tasks that a peer is timed on")
    parser.add_argument("--second-shots", type=int, default=2, help="shots of the second order")
    parser.add_argument("--results", type=Path, help="a file of measured cases, to be added to")
    parser.add_argument("--model", default="packaged:gemma-3-270m")
    args = parser.parse_args()
    steps = [1] if args.quick else [int(k) for k in args.steps.split(",")]
    episodes = draw(2 if args.quick else 4, 1 if args.quick else 5, 5 if args.quick else 10)
    second = (1, 5) if args.quick else (args.second_shots, 10)
    bench = Bench(args.model, episodes, args.peer_tasks, second)
    bench.ours(Case(episodes[:1], start(bench.backbone, None), 1, False, False))  # warm up
    rows: list[dict[str, Any]] = []
    if args.results is not None and args.results.exists():
        rows = [json.loads(line) for line in args.results.read_text().splitlines()]
    for part in args.parts.split(","):
        is_second = part == "second_order"
        for k in [5] if is_second and args.quick else steps:
            row = bench.second_order(k) if is_second else bench.first_order(part, k)
            rows.append(row)
            seconds = {n: round(v, 2) for n, v in row.items() if n.endswith(("_s", "_gib"))}
            print(part, f"K={k}", seconds, f"gradients differ by {row['differ']:.1e}", flush=True)
            if args.results is not None:
                with args.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(json.dumps(summary(rows)))


if __name__ == "__main__":
    main()
