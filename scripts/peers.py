"""The same numbers by transformers and PEFT alone: one text at a time, nothing of icl."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor

Factors = Mapping[str, Tensor]
Loss = Callable[[Factors, int], Tensor]
_RATE = 0.002  # Gemma 4's random weights bend the loss so much that float32 shows it at .01


def _ids(tokenizer: Any, text: str) -> Tensor:
    return torch.tensor([tokenizer(text)["input_ids"]])


@torch.no_grad()
def scores(model: Any, tokenizer: Any, prompts: Sequence[str], answers: Sequence[str]) -> Tensor:
    """Return ``log p(answer | prompt)``, shape (prompts, answers)."""
    one = _decoded if model.config.is_encoder_decoder else score
    rows = [[one(model, tokenizer, p, a) for a in answers] for p in prompts]
    return torch.stack([torch.stack(row) for row in rows])


def _decoded(model: Any, tokenizer: Any, prompt: str, answer: str) -> Tensor:
    target = torch.tensor([tokenizer(answer, add_special_tokens=False)["input_ids"]])
    start = _start(model)
    context = torch.cat([start, target[:, :-1]], 1)
    logits = model(
        input_ids=_ids(tokenizer, prompt),
        decoder_input_ids=context,
        use_cache=False,  # FSMT lets answers see their later tokens otherwise
    ).logits
    return logits.log_softmax(-1).gather(2, target[..., None]).sum()


def _start(model: Any) -> Tensor:
    said = model.generation_config
    start = said.decoder_start_token_id
    return torch.tensor([[said.bos_token_id if start is None else start]])


def score(model: Callable[..., Any], tokenizer: Any, prompt: str, answer: str) -> Tensor:
    """Return ``log p(answer | prompt)`` by a decoder."""
    whole, before = _ids(tokenizer, prompt + answer), _ids(tokenizer, prompt)
    length = min(whole.shape[1], before.shape[1])
    same = int((whole[0, :length] == before[0, :length]).long().cumprod(0).sum())
    logits = model(input_ids=whole, use_cache=False).logits[:, same - 1 : -1]
    return logits.log_softmax(-1).gather(2, whole[:, same:, None]).sum()


@torch.no_grad()
def written(model: Any, tokenizer: Any, prompts: Sequence[str], most: int) -> list[str]:
    """Continue prompts by the likeliest tokens, each by a whole pass."""
    texts = []
    for prompt in prompts:
        ids = _ids(tokenizer, prompt)
        decodes = model.config.is_encoder_decoder
        made = _start(model) if decodes else ids
        begin = made.shape[1]
        for _ in range(most):
            both = {"input_ids": ids, "decoder_input_ids": made}
            given = both if decodes else {"input_ids": made}
            token = model(**given, use_cache=False).logits[0, -1].argmax()
            if int(token) == tokenizer.eos_token_id:
                break
            made = torch.cat([made, token[None, None]], 1)
        texts.append(str(tokenizer.decode(made[0, begin:], skip_special_tokens=True)))
    return texts


@torch.no_grad()
def states(model: Any, tokenizer: Any, texts: Sequence[str], layer: int) -> list[Tensor]:
    """Return each text's tokens' states after so many layers (-1: the last, normed ones)."""
    base, found = model.base_model, []
    while base.get_output_embeddings() is not None:  # some call a model with its head their base
        base = base.language_model if hasattr(base, "language_model") else base.model
    for text in texts:
        out = base(input_ids=_ids(tokenizer, text), output_hidden_states=True)
        states = out.last_hidden_state if layer == -1 else out.hidden_states[layer]
        found.append(states[0, 0] if states.dim() == 4 else states[0])  # Gemma 3n has four streams
    return found


def toy_loss(states: Tensor) -> Tensor:
    """Return some number that depends on all states of a text, shape (tokens, width)."""
    place = torch.linspace(0, 3, states.numel()).reshape(states.shape)
    return (states * place.sin()).mean(0).tanh().sum()


def losses(
    model: Any, of_output: Callable[[Any, int], Tensor], factors: Factors, scale: float
) -> Loss:
    """Return PEFT's loss of LoRA factors that are named as icl names them.

    Args:
        model: without adapters; a copy gets them.
        of_output: the loss of an adapted model, as a function, on a text of some number.
        factors: which modules are adapted.
        scale: ``alpha / rank``.
    """
    paths = {_bare(name): name for name, _ in model.named_modules()}
    found = {name: paths[_bare(name.rpartition(".")[0])] for name in factors}
    rank = next(len(factor) for name, factor in factors.items() if name.endswith("lora_A"))
    config = LoraConfig(r=rank, lora_alpha=scale * rank, target_modules=sorted(set(found.values())))
    adapted = get_peft_model(copy.deepcopy(model), config).train(False)

    def loss(factors: Factors, which: int) -> Tensor:
        named = {
            f"base_model.model.{found[name]}.{name.rpartition('.')[2]}.default.weight": value
            for name, value in factors.items()
        }

        def run(**given: Any) -> Any:
            return torch.func.functional_call(adapted, named, kwargs=given)

        return of_output(run, which)

    return loss


def _bare(path: str) -> str:
    """Name a module of a multimodal model as that of its text part alone is named."""
    return path.replace("language_model.", "")


def gradient(loss: Loss, factors: Factors) -> Tensor:
    """Return the loss on the first text, and its gradient for all factors, as one vector."""
    start = {name: factor.detach().requires_grad_() for name, factor in factors.items()}
    value = loss(start, 0)
    found = torch.autograd.grad(value, list(start.values()))
    return torch.cat([value.detach()[None], *(g.flatten() for g in found)])


def meta_gradient(loss: Loss, factors: Factors) -> Tensor:
    """Return the gradient of the second text's loss through a step on the first's: second order."""
    start = {name: factor.detach().requires_grad_() for name, factor in factors.items()}
    steps = torch.autograd.grad(loss(start, 0), list(start.values()), create_graph=True)
    moved = {n: f - _RATE * g for (n, f), g in zip(start.items(), steps, strict=True)}
    found = torch.autograd.grad(loss(moved, 1), list(start.values()))
    return torch.cat([g.flatten() for g in found])
