"""The inner loop without icl: it stands beside an exported encoder's adapter as ``adapt.py``.

It needs torch, transformers and peft, and takes the steps on a task's examples that
meta-training took::

    task = Start(folder).adapt(texts, labels)
    task.predict(others)
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

WEIGHT, BIAS = "head.weight", "head.bias"
_AT_ONCE = 64  # texts


class Start:
    """A base model with the meta-trained adapter, from which tasks are learnt.

    Attributes:
        model: the PEFT model; no task changes it.
    """

    def __init__(self, folder: str | Path, base: str | None = None) -> None:
        """Load it.

        Args:
            folder: the exported directory.
            base: the base model's directory or Hub id; by default ``base`` in the folder, else the
                one that the adapter's configuration names.
        """
        from peft import PeftModel
        from safetensors.torch import load_file
        from transformers import AutoModel, AutoTokenizer

        folder = Path(folder)
        adapter = folder / "adapter"
        self._said = json.loads((adapter / "icl_meta_learning.json").read_text("utf-8"))
        named = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
        inside = folder / "base"
        base = base or (str(inside) if inside.is_dir() else named["base_model_name_or_path"])
        self._tokenizer = AutoTokenizer.from_pretrained(base)
        self.model: Any = PeftModel.from_pretrained(AutoModel.from_pretrained(base), str(adapter))
        self.model.eval().requires_grad_(False)
        file = self._said["rates_file"]
        self._rates: dict[str, Tensor] = {
            **{n: torch.tensor(v) for n, v in self._said["rates"].items()},
            **(load_file(adapter / file) if file else {}),
        }
        self._factors: dict[str, Tensor] = {
            n: p for n, p in self.model.named_parameters() if ".lora_" in n
        }

    def adapt(self, texts: Sequence[str], labels: Sequence[str]) -> Task:
        """Learn a task from its examples; raises `ValueError` for fewer than two labels."""
        names = sorted(set(labels))
        if len(texts) != len(labels) or len(names) < 2:
            raise ValueError(f"{len(texts)} texts, and {len(labels)} labels of two or more")
        wanted = torch.tensor([names.index(label) for label in labels])
        said = self._said
        steps = said["inner_steps"] if said["adapt_steps"] is None else said["adapt_steps"]
        body = {n: p.detach().clone() for n, p in self._factors.items()}
        anchor = body | self._first_head(self._states(texts, body), wanted, len(names))
        point, state = dict(anchor), dict[str, Tensor]()
        moved = [n for n in point if said["moves_body"] or n in (WEIGHT, BIAS)]
        for step in range(steps):
            point = {n: v.detach().requires_grad_(n in moved) for n, v in point.items()}
            loss = torch.nn.functional.cross_entropy(self._logits(texts, point), wanted)
            if said["strength"]:  # a proximal term
                far = sum((point[n] - anchor[n]).square().sum() for n in moved)
                loss = loss + said["strength"] / 2 * far
            slopes = torch.autograd.grad(loss, [point[n] for n in moved])
            for name, slope in zip(moved, slopes, strict=True):
                change = self._change(name, slope, state, step)
                point[name] = point[name].detach() - self._rate(name, step) * change
        return Task(self, names, {n: v.detach() for n, v in point.items()})

    def _first_head(self, states: Tensor, wanted: Tensor, ways: int) -> dict[str, Tensor]:
        if self._said["head"] == "zero":
            return {WEIGHT: torch.zeros(ways, states.shape[1]), BIAS: torch.zeros(ways)}
        means = torch.stack([states[wanted == k].mean(0) for k in range(ways)])
        return {WEIGHT: 2 * means, BIAS: -means.square().sum(-1)}

    def _logits(self, texts: Sequence[str], point: Mapping[str, Tensor]) -> Tensor:
        return self._states(texts, point) @ point[WEIGHT].T + point[BIAS]

    def _states(self, texts: Sequence[str], point: Mapping[str, Tensor]) -> Tensor:
        """Return the texts' mean states, scaled to ``temperature ** -0.5``: (texts, width)."""
        parts = []
        with self._put(point), torch.set_grad_enabled(any(v.requires_grad for v in point.values())):
            for at in range(0, len(texts), _AT_ONCE):
                batch = self._tokenizer(
                    list(texts[at : at + _AT_ONCE]), padding=True, truncation=True,
                    max_length=self._said["max_length"], return_tensors="pt",
                )  # fmt: skip
                found = self.model(**batch).last_hidden_state.float()
                real = batch["attention_mask"][..., None].float()
                parts.append((found * real).sum(1) / real.sum(1))
        unit = torch.nn.functional.normalize(torch.cat(parts), dim=1)
        return unit * float(self._said["temperature"] ** -0.5)

    @contextmanager
    def _put(self, point: Mapping[str, Tensor]) -> Iterator[None]:
        """Let a task's factors stand in the adapter's place for a while."""
        places = {}
        for name in self._factors:
            module, _, leaf = name.rpartition(".")
            places[name] = (self.model.get_submodule(module), leaf)
        try:
            for name, (module, leaf) in places.items():
                del module._parameters[leaf]
                setattr(module, leaf, point[name])
            yield
        finally:
            for name, (module, leaf) in places.items():
                delattr(module, leaf)
                module._parameters[leaf] = self._factors[name]

    def _rate(self, name: str, step: int) -> Tensor | float:
        """Return a tensor's learned rate, or the one for all."""
        known = name.replace(".default", "")
        rate = self._rates.get(known, self._rates.get(known.removesuffix(".weight")))
        if rate is None:
            return float(self._said["inner_rate"])
        return rate[min(step, len(rate) - 1)] if self._said["rate_a_step"] else rate

    def _change(self, name: str, slope: Tensor, state: dict[str, Tensor], step: int) -> Tensor:
        """Return what the inner optimiser makes of a gradient."""
        optimiser, beta = self._said["inner_optimiser"], self._said["inner_beta"]
        if optimiser == "sgd":
            return slope
        old = state.get(f"m/{name}", torch.zeros_like(slope))
        if optimiser == "momentum":
            state[f"m/{name}"] = beta * old + slope
            return state[f"m/{name}"]
        square = state.get(f"v/{name}", torch.zeros_like(slope))
        state[f"m/{name}"] = mean = beta * old + (1 - beta) * slope
        state[f"v/{name}"] = square = 0.999 * square + 0.001 * slope * slope
        root = (square / (1 - 0.999 ** (step + 1)) + 1e-8).sqrt()
        found: Tensor = mean / (1 - beta ** (step + 1)) / (root + 1e-8)
        return found


class Task:
    """A task that has been learnt.

    Attributes:
        labels: in the order of the columns of `log_probs`.
    """

    def __init__(self, start: Start, labels: list[str], point: Mapping[str, Tensor]) -> None:
        """Take what `Start.adapt` has learnt."""
        self._start, self.labels, self._point = start, labels, point

    def log_probs(self, texts: Sequence[str]) -> Tensor:
        """Return each label's log-probability, shape (texts, labels)."""
        with torch.no_grad():
            return self._start._logits(texts, self._point).log_softmax(1)

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return each text's most likely label."""
        return [self.labels[int(i)] for i in self.log_probs(texts).argmax(1)]
