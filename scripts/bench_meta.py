"""Meta-gradients over LoRA: icl against `higher` and a plain PEFT + autograd loop.

One run, one model (the packaged Gemma 3 270M, float32), one LoRA (r 8 on q and v, B not zero), the
same episodes, and the same objective on both sides, so that the gradients must agree; their largest
relative difference stands in the result. 5-way 5-shot with 10 queries, meta-batch 4, inner descent.
Texts are SIB-200's if ICL_DATA_SIB200 or ICL_TEST_DATA names it, else word tasks of the packaged
family.

The peers are timed in two forms:

- ``labels=``: as their users write it: the model's own loss over padded batches, which makes
  logits at every position of a 262k vocabulary. The objective is the label word's negative
  log-probability.
- ``label-only``: logits only after the prompt and only of the label words. The objective is the
  cross-entropy over the episode's label words, icl's own.

A peer takes its tasks one after the other, so its time is measured on --peer-tasks of them and
multiplied; icl runs all four. icl's trunk starts cold at every meta-gradient. First-order peers use
fused attention; second-order ones need eager attention, since fused kernels have no double
backward. Memory is the peak above what was resident before (VmHWM), of one task, with 1-shot
episodes in --quick.

The last line is one JSON object. `speedup_first_order_all_layers` and `_top_third` are the smallest
over the K that were run, against the first form and the faster peer; `_label_only` against the
second; `memory_ratio_second_order_k5` is icl's peak over the plain loop's in the second form;
`memory_growth_ratio` is what each added step costs icl over what it costs that peer.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from icl.episodes import Episode, EpisodeSampler
from icl.learners.gradient import TaskBatch, compile_batch, task_losses
from icl.learners.meta import FOMAML, MAML, MetaAlgorithm, Problem
from icl.models.backbone import Backbone
from icl.models.loading import load_backbone
from icl.models.lora import Adapter, LoraSpec, init_lora
from icl.models.scorer import score
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
        """Return the meta-gradient."""
        self.backbone.trunks.clear()
        sides = [
            compile_batch(self.backbone, [(getattr(e, s), e.labels) for e in case.episodes],
                          case.start)
            for s in ("support", "query")
        ]  # fmt: skip
        support, query = (self._loss(batch, case.vocabulary) for batch in sides)
        kind: type[MAML] = MAML if case.second_order else FOMAML
        algorithm: MetaAlgorithm = kind(case.steps, RATE)
        problem = Problem(len(case.episodes), support, query)
        return dict(algorithm.meta_step(case.start, {}, problem, 1.0).gradients)

    def _loss(self, batch: TaskBatch, vocabulary: bool) -> Callable[[Mapping[str, Tensor]], Tensor]:
        scale = float(SPEC["alpha"]) / int(SPEC["rank"])  # type: ignore[arg-type, call-overload]
        if not vocabulary:
            return lambda params: task_losses(self.backbone, batch, Adapter(params, scale))
        pairs = torch.arange(len(batch.targets)) * batch.plan.answers + batch.targets
        counts = batch.plan.owner.bincount(minlength=batch.plan.prompts * batch.plan.answers)
        tokens = torch.zeros(batch.tasks).index_add(0, batch.owner, counts[pairs].float())
        kept = torch.isin(batch.plan.owner, pairs)  # the other words' tokens play no part
        plan = replace(
            batch.plan,
            **{f: getattr(batch.plan, f)[kept] for f in ("at", "target", "owner", "common")},
        )

        def loss(params: Mapping[str, Tensor]) -> Tensor:
            scores = score(
                self.backbone, plan, adapter=Adapter(params, scale), trunk=batch.trunk,
                start=batch.start,
            )  # fmt: skip
            right = scores.gather(1, batch.targets[:, None])[:, 0]
            return torch.zeros(batch.tasks).index_add(0, batch.owner, -right) / tokens

        return loss


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


def main() -> None:  # noqa: PLR0915
    """Run the comparison and print it; the last line is one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--quick", action="store_true", help="1 shot, K = 1: under two minutes")
    parser.add_argument("--steps", default="1,3,5", help="inner steps K to run")
    parser.add_argument("--peer-tasks", type=int, default=1, help="tasks that a peer is timed on")
    parser.add_argument("--model", default="packaged:gemma-3-270m")
    args = parser.parse_args()
    steps = [1] if args.quick else [int(k) for k in args.steps.split(",")]
    episodes = draw(2 if args.quick else 4, 1 if args.quick else 5, 5 if args.quick else 10)
    backbone = load_backbone(args.model)
    third = len(backbone.layers) // 3
    ours = Ours(backbone)
    result: dict[str, Any] = {}
    speedups: dict[str, list[float]] = {}
    apart: list[float] = []
    failed: dict[str, str] = {}
    few = episodes[: args.peer_tasks]
    for where, top in (("all_layers", None), ("top_third", third)):
        factors = start(backbone, top)
        peers: list[Peer] = [Peer(backbone, factors)]
        try:
            peers.append(Higher(backbone, factors))
        except ImportError:
            print("higher is not installed (pip install higher); only the plain loop is compared")
        for vocabulary in (True, False):
            form = "labels" if vocabulary else "label-only"
            for k in steps:
                case = Case(episodes, factors, k, False, vocabulary)
                mine, seconds, _ = measured(ours, case)
                part = Case(few, factors, k, False, vocabulary)
                small = mine if len(few) == len(episodes) else ours(part)
                fastest = float("inf")
                for peer in list(peers):
                    try:
                        theirs, one, _ = measured(peer, part)
                    except (TypeError, RuntimeError, AttributeError) as error:
                        print(f"{peer.name} fails with torch {torch.__version__}: {error}")
                        peers.remove(peer)
                        failed[peer.name] = str(error).splitlines()[0]
                        continue
                    whole = one * len(episodes) / len(few)
                    fastest = min(fastest, whole)
                    apart.append(difference(small, theirs))
                    print(
                        f"first order, {where}, {form}, K={k}: icl {seconds:.1f} s,"
                        f" {peer.name} {whole:.1f} s, gradients differ by {apart[-1]:.1e}",
                        flush=True,
                    )
                speedups.setdefault(f"{where}/{form}", []).append(fastest / seconds)
    factors = start(backbone, None)
    peers = [Peer(backbone, factors)]
    peaks: dict[int, tuple[int, int]] = {}
    for k in [1, 5] if args.quick else sorted({*steps, 5}):
        part = Case(few, factors, k, True, False)
        mine, seconds, peak = measured(ours, part)
        theirs, whole, other = measured(peers[0], part)
        peaks[k] = (peak, other)
        apart.append(difference(mine, theirs))
        print(
            f"second order, all layers, one task, K={k}: icl {seconds:.1f} s,"
            f" {peak / 2**30:.2f} GiB; peft {whole:.1f} s, {other / 2**30:.2f} GiB;"
            f" gradients differ by {apart[-1]:.1e}",
            flush=True,
        )
        result[f"second_order_seconds_ratio_k{k}"] = round(seconds / whole, 3)
    low = min(peaks)
    grown = [(peaks[5][i] - peaks[low][i]) / (5 - low) for i in (0, 1)]
    result |= {
        "speedup_first_order_all_layers": round(min(speedups["all_layers/labels"]), 2),
        "speedup_first_order_top_third": round(min(speedups["top_third/labels"]), 2),
        "speedup_first_order_all_layers_label_only": round(
            min(speedups["all_layers/label-only"]), 2
        ),
        "speedup_first_order_top_third_label_only": round(min(speedups["top_third/label-only"]), 2),
        "memory_ratio_second_order_k5": round(peaks[5][0] / peaks[5][1], 3),
        "memory_growth_ratio": round(grown[0] / grown[1], 3),
        "max_rel_gradient_diff": float(f"{max(apart):.2e}"),
        "failed_peers": failed,
        "inner_steps": steps,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
