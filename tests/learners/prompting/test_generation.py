"""Written answers: greedy, voted on, after a chain of thought; and probes that a model writes."""

from __future__ import annotations

import pytest
import torch

from icl.learners.registry import make
from icl.prompting.probes import written
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests import tiny
from tests.learners import problems

FREE = Labels((), (), Template("Q: {{ text }}\nA:", " {{ label }}", "\n\n"))
SHOWN = [
    Example("1", {"text": "May"}, "month", "xx", "1"),
    Example("2", {"text": "Juni"}, "a month", "xx", "2"),
]
TEXTS = [{"text": "Montag"}, {"text": "month"}]


def greedy(prompt: str, count: int) -> str:
    """Token by token through the plain model."""
    model, tokenizer = tiny.model("llama").eval(), tiny.tokenizer()
    ids = list(tokenizer(prompt)["input_ids"])
    start = len(ids)
    for _ in range(count):
        with torch.no_grad():
            token = int(model(torch.tensor([ids])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        ids.append(token)
    return str(tokenizer.decode(ids[start:])).split("\n\n")[0]


def test_a_greedy_answer_is_the_models_own_first_line() -> None:
    predictor = make("in-context", {"max_new_tokens": 6}, tiny.backbone()).adapt(SHOWN, FREE)
    shown = "Q: May\nA: month\n\nQ: Juni\nA: a month\n\n"
    expected = [greedy(f"{shown}Q: {text['text']}\nA:", 6) for text in TEXTS]
    found = predictor.generate(TEXTS)
    for ours, whole in zip(found, expected, strict=True):
        assert ours == (whole.strip().splitlines() or [""])[0].strip()


def test_votes_are_the_same_for_a_query_alone_and_for_the_same_seed() -> None:
    params = {"samples": 5, "temperature": 1.0, "max_new_tokens": 3, "answer_marker": "is"}
    predictor = make("in-context", params, tiny.backbone()).adapt(SHOWN, FREE)
    together = predictor.generate(TEXTS)
    assert together == predictor.generate(TEXTS)
    assert together == [predictor.generate([text])[0] for text in TEXTS]


def test_the_chosen_answer_has_the_most_votes() -> None:
    from icl.models.scoring.generate import generate
    from icl.prompting.consistency import vote

    params = {"samples": 7, "temperature": 2.0, "max_new_tokens": 1, "seed": 3}
    predictor = make("zero-shot", params, tiny.backbone()).adapt([], FREE)
    (sampled,) = generate(
        tiny.backbone(), ["Q: Montag\nA:"], max_new_tokens=1, stop=("\n\n",), samples=7,
        temperature=2.0, seed=3,
    )  # fmt: skip
    firsts = [(text.strip().splitlines() or [""])[0] for text in sampled]
    assert len(set(firsts)) > 1
    assert predictor.generate(TEXTS[:1]) == [vote(firsts)]


def test_probes_that_the_model_writes_follow_the_template(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(backbone: object, prompts: list[str], **options: object) -> list[list[str]]:
        assert options["samples"] == 2
        assert all(prompt.endswith("\n\n") for prompt in prompts)
        return [["Word: maí\nKind: month", "nonsense"] for _ in prompts]

    monkeypatch.setattr("icl.models.scoring.generate.generate", say)
    orders = [tuple(problems.support(1)), tuple(problems.support(1)[::-1])]
    assert written(tiny.backbone(), problems.labels(), orders, 2, 0) == [{"text": "maí"}]


def test_an_order_by_written_probes_is_found_though_the_model_writes_nonsense() -> None:
    params = {"order": "local-entropy", "candidates": 3, "probe_count": 3}
    predictor = make("in-context", params, tiny.backbone()).adapt(
        problems.support(1), problems.labels()
    )
    out = predictor.log_probs([{"text": "May"}])
    torch.testing.assert_close(out.exp().sum(1), torch.ones(1))
