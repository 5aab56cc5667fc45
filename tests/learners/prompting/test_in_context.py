from __future__ import annotations

import copy
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import normalizers

from icl.errors import IclError
from icl.evaluation.summary import summarise
from icl.learners.registry import make, methods, validate
from icl.models.backbone import Backbone
from icl.prompting.calibration import domain_inputs
from icl.prompting.fitting import drop_order
from icl.runs.judge import judge
from icl.runs.record import EpisodeRecord
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests import tiny
from tests.learners import problems
from tests.reference import naive_scores

TEXTS = [e.fields for e in problems.query()]
SUPPORT, LABELS = problems.support(3), problems.labels()
ANSWERS = [" month", " weekday", " organ"]

# every way of prompting that must be exact: one query alone, permuted labels, repeated calls
WAYS: dict[str, dict[str, Any]] = {
    "direct": {},
    "channel": {"scoring": "channel"},
    "pmi": {"scoring": "pmi"},
    "token": {"normalise": "token"},
    "byte": {"normalise": "byte"},
    "contextual": {"calibration": "contextual"},
    "domain": {"calibration": "domain"},
    "channel-contextual": {"scoring": "channel", "calibration": "contextual"},
    "random": {"choice": "random", "demonstrations": 4},
    "balanced": {"choice": "balanced", "demonstrations": 6},
    "knn": {"choice": "knn", "demonstrations": 4, "order": "similarity"},
    "bm25": {"choice": "bm25", "demonstrations": 4},
    "mmr": {"choice": "mmr", "demonstrations": 4},
    "dpp": {"choice": "dpp", "demonstrations": 4},
    "channel-knn": {"scoring": "channel", "choice": "knn", "demonstrations": 3},
    "random-order": {"order": "random"},
    "similarity": {"order": "similarity"},
    "global": {"order": "global-entropy", "candidates": 3, "probes": "words", "probe_count": 4},
    "local": {"order": "local-entropy", "candidates": 3, "probes": "words", "probe_count": 4},
    "options": {"template": "options"},
    "best": {"template": "best", "templates": ("task", "question")},
    "ensemble": {"templates": ("question",), "ensemble_orders": 2},
    "letters": {"words": "letter"},
    "knn-contextual": {"choice": "knn", "demonstrations": 3, "calibration": "contextual"},
}


@lru_cache
def gemma() -> Backbone:
    return tiny.backbone("gemma3-hybrid")


def log_probs(
    params: dict[str, Any],
    labels: Labels = LABELS,
    support: list[Example] = SUPPORT,
    texts: Any = TEXTS,
    method: str = "in-context",
) -> torch.Tensor:
    predictor = make(method, params, gemma()).adapt(support, labels)
    return predictor.log_probs(texts)


def prompts(support: list[Example] = SUPPORT, template: Template = LABELS.template) -> list[str]:
    return [template.prompt([(e.fields, e.label) for e in support], text) for text in TEXTS]


def test_in_context_probabilities_are_the_naive_scorers_normalised() -> None:
    expected = naive_scores(gemma(), prompts(), ANSWERS).log_softmax(1)
    torch.testing.assert_close(log_probs({}), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("way", WAYS)
def test_a_query_alone_equals_it_in_a_batch_of_any_order(way: str) -> None:
    params = WAYS[way]
    together = log_probs(params)
    torch.testing.assert_close(together.exp().sum(1), torch.ones(6), atol=1e-5, rtol=0)
    backwards = log_probs(params, texts=TEXTS[::-1]).flip(0)
    torch.testing.assert_close(backwards, together, atol=3e-5, rtol=0)
    alone = log_probs(params, texts=[TEXTS[4]])
    torch.testing.assert_close(alone[0], together[4], atol=3e-5, rtol=0)


@pytest.mark.parametrize("way", WAYS)
def test_the_order_of_labels_changes_no_probability(way: str) -> None:
    names = (problems.NAMES[2], problems.NAMES[0], problems.NAMES[1])
    turned = log_probs(WAYS[way], labels=problems.labels(names))
    columns = [names.index(name) for name in problems.NAMES]
    torch.testing.assert_close(turned[:, columns], log_probs(WAYS[way]), atol=1e-4, rtol=0)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_takes_an_empty_support_set(way: str) -> None:
    out = log_probs(WAYS[way], support=[])
    torch.testing.assert_close(out.exp().sum(1), torch.ones(6), atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", ["random", "balanced", "random-order", "global", "ensemble"])
def test_what_is_drawn_depends_on_the_seed(way: str) -> None:
    found = [log_probs({**WAYS[way], "seed": seed}) for seed in (0, 0, 1, 2, 3)]
    assert torch.equal(found[0], found[1])
    assert not all(torch.allclose(found[0], other, atol=1e-4) for other in found[2:])


@pytest.mark.parametrize("way", ["random-order", "global", "ensemble"])
def test_drawn_orders_depend_on_the_set_of_examples_not_on_its_order(way: str) -> None:
    backwards = log_probs(WAYS[way], support=SUPPORT[::-1])
    torch.testing.assert_close(backwards, log_probs(WAYS[way]), atol=1e-5, rtol=0)


def test_channel_scores_are_the_naive_scores_of_inputs_given_labels() -> None:
    shown = "".join(f"Kind: {e.label}\nWord: {e.fields['text']}\n\n" for e in SUPPORT)
    heads = [f"{shown}Kind: {name}\n" for name in problems.NAMES]
    scores = naive_scores(gemma(), heads, [f"Word: {text['text']}" for text in TEXTS]).T
    torch.testing.assert_close(
        log_probs({"scoring": "channel"}), scores.log_softmax(1), atol=1e-4, rtol=0
    )


def test_pmi_divides_by_the_probability_after_the_domain_prompt() -> None:
    direct = naive_scores(gemma(), prompts(), ANSWERS)
    for params, domain in (({}, "Kind:"), ({"domain_prompt": "A kind is"}, "A kind is")):
        expected = (direct - naive_scores(gemma(), [domain], ANSWERS)).log_softmax(1)
        out = log_probs({"scoring": "pmi", **params})
        torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("by", ["token", "character", "byte"])
def test_scores_are_divided_by_the_answers_length(by: str) -> None:
    labels = Labels(problems.NAMES, ("月", "weekday", "organ ic"), LABELS.template)
    words = dict(zip(labels.names, labels.words, strict=True))
    shown = [(e.fields, words[e.label]) for e in SUPPORT]
    texts = [LABELS.template.prompt(shown, text) for text in TEXTS]
    answers = [" 月", " weekday", " organ ic"]
    scores = naive_scores(gemma(), texts, answers)

    def tokens(text: str) -> list[int]:
        return list(tiny.tokenizer()(text)["input_ids"])

    for i, text in enumerate(texts):
        for j, answer in enumerate(answers):
            head, whole = tokens(text), tokens(text + answer)
            shared = 0
            while shared < len(head) and head[shared] == whole[shared]:
                shared += 1
            size = {
                "token": len(whole) - shared,
                "character": len(answer.strip()),
                "byte": len(answer.strip().encode()),
            }[by]
            scores[i, j] /= size
    out = log_probs({"normalise": by}, labels=labels)
    torch.testing.assert_close(out, scores.log_softmax(1), atol=1e-4, rtol=0)


def test_contextual_calibration_divides_by_the_content_free_probabilities() -> None:
    pairs = [(e.fields, e.label) for e in SUPPORT]
    free = [LABELS.template.prompt(pairs, {"text": text}) for text in ("N/A", "", "[MASK]")]
    prior = naive_scores(gemma(), free, ANSWERS).softmax(1).mean(0)
    weighed = naive_scores(gemma(), prompts(), ANSWERS).softmax(1) / prior
    expected = weighed / weighed.sum(1, keepdim=True)
    torch.testing.assert_close(
        log_probs({"calibration": "contextual"}).exp(), expected, atol=1e-4, rtol=1e-3
    )


def test_batch_calibration_is_transductive_and_says_so() -> None:
    params = {"calibration": "batch"}
    plain = log_probs({})
    divided = plain.exp() / plain.exp().mean(0)
    expected = (divided / divided.sum(1, keepdim=True)).log()
    together = log_probs(params)
    torch.testing.assert_close(together, expected, atol=1e-5, rtol=0)
    fewer = log_probs(params, texts=TEXTS[:2])
    assert not torch.allclose(fewer, together[:2], atol=1e-3)
    assert make("in-context", params, tiny.backbone()).transductive
    assert not make("in-context", {}, tiny.backbone()).transductive


def test_records_and_summary_mark_batch_calibration_as_transductive() -> None:
    episode, backbone = problems.episode(), tiny.backbone()
    params = {"batch": {"calibration": "batch"}, "plain": {}}
    records = [
        judge(make("in-context", p, backbone), name, name, episode, backbone)
        for name, p in params.items()
    ]
    assert summarise(records).transductive == ("batch",)
    again = [EpisodeRecord.from_json(record.to_json()) for record in records]
    assert again == records
    assert ["transductive" in record.to_json() for record in records] == [True, False]


def test_an_ensemble_is_the_mean_of_its_members_probabilities() -> None:
    members = [log_probs({"template": name}).exp() for name in ("task", "question", "arrow")]
    out = log_probs({"templates": ("question", "arrow")})
    torch.testing.assert_close(out.exp(), torch.stack(members).mean(0), atol=1e-5, rtol=0)


def test_the_best_template_is_the_one_that_foretells_left_out_labels() -> None:
    found: dict[str, float] = {}
    for name in ("task", "question", "bare"):
        total = 0.0
        for left_out in SUPPORT:
            others = [e for e in SUPPORT if e is not left_out]
            out = log_probs({"template": name}, support=others, texts=[left_out.fields])
            total += float(out[0, LABELS.index(left_out.label)])
        found[name] = total
    best = max(found, key=lambda name: found[name])
    out = log_probs({"template": "best", "templates": tuple(found)})
    torch.testing.assert_close(out, log_probs({"template": best}), atol=1e-5, rtol=0)


def test_many_shots_drop_whole_demonstrations_evenly_and_say_it_once() -> None:
    backbone = tiny.backbone()
    backbone.context_length = 120  # type: ignore[misc]
    predictor = make("in-context", {}, backbone).adapt(problems.support(4), LABELS)
    with pytest.warns(UserWarning, match="of 12 demonstrations fit") as told:
        predictor.log_probs(TEXTS)
        predictor.log_probs(TEXTS)
    assert len(told) == 1


def test_a_query_is_refused_where_nothing_of_it_fits() -> None:
    backbone = tiny.backbone()
    backbone.context_length = 5  # type: ignore[misc]
    predictor = make("in-context", {}, backbone).adapt([], LABELS)
    with pytest.raises(
        IclError, match=r"begins 'long long .*' does not fit in the model's context"
    ):
        predictor.log_probs([{"text": "long " * 50}])


def test_zero_shot_ignores_the_support_set() -> None:
    with_support = log_probs({}, method="zero-shot")
    assert torch.equal(with_support, log_probs({}, method="zero-shot", support=[]))


def test_labels_that_score_the_same_are_drawn_by_lot() -> None:
    backbone, episode = tiny.backbone(), problems.episode()
    record = judge(make("majority", {}, backbone), "x", "k", episode, backbone)
    assert len({value for row in record.log_probs for value in row}) == 1
    assert len(set(record.predictions)) > 1  # the first label is not favoured


def test_labels_of_the_same_tokens_are_refused_by_every_method_that_reads_words() -> None:
    backbone = tiny.backbone()
    folding = normalizers.Lowercase()
    backbone.tokenizer = copy.deepcopy(backbone.tokenizer)
    backbone.tokenizer.backend_tokenizer.normalizer = folding
    labels = Labels(problems.NAMES, ("thing", "Thing", "other"), LABELS.template)
    for method in ("zero-shot", "in-context", "metaicl", "lora", "fomaml", "anil"):
        with pytest.raises(IclError, match="'month' and 'weekday' are the same tokens"):
            make(method, {}, backbone).adapt(SUPPORT, labels).log_probs(TEXTS)


def test_a_label_that_begins_another_has_its_own_score() -> None:
    words = ("organ", "organic", "organism")
    labels = Labels(problems.NAMES, words, LABELS.template)
    shown = [(e.fields, dict(zip(problems.NAMES, words, strict=True))[e.label]) for e in SUPPORT]
    texts = [LABELS.template.prompt(shown, text) for text in TEXTS]
    expected = naive_scores(gemma(), texts, [f" {w}" for w in words])
    out = log_probs({}, labels=labels)
    torch.testing.assert_close(out, expected.log_softmax(1), atol=1e-4, rtol=0)


def test_an_empty_label_word_is_refused_in_one_sentence() -> None:
    template = Template("Word: {{ text }}\nKind:", "{{ label }}")
    labels = Labels(problems.NAMES, ("month", "", "organ"), template)
    with pytest.raises(IclError, match="adds no token"):
        log_probs({}, labels=labels)


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"choice": "knn"}, "needs `demonstrations`"),
        ({"demonstrations": 3}, "needs a `choice`"),
        ({"scoring": "channel", "chat": "turns"}, "no chat form"),
        ({"domain_prompt": "x"}, "is for `scoring: pmi`"),
        ({"template": "qestion"}, "Did you mean 'question'"),
        ({"order": "local-entropy", "choice": "knn", "demonstrations": 2}, "same demonstrations"),
        ({"samples": 5}, "`temperature: 0`"),
        ({"template": "best"}, "name two or more"),
        ({"scorng": "pmi"}, "Did you mean 'scoring'"),
        ({"calibration": "batsch"}, "'batch'"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_in_one_sentence(
    params: dict[str, Any], told: str
) -> None:
    with pytest.raises(IclError, match=told):
        validate("in-context", params)


def test_zero_shot_refuses_what_needs_a_support_set() -> None:
    assert "zero-shot" in methods()
    with pytest.raises(IclError, match="support set"):
        validate("zero-shot", {"calibration": "domain"})


def test_label_words_are_scored_under_their_other_names() -> None:
    mapped = log_probs({"words": {"month": "M", "weekday": "W", "organ": "O"}})
    labels = Labels(problems.NAMES, ("M", "W", "O"), LABELS.template)
    assert torch.equal(mapped, log_probs({}, labels=labels))
    letters = Labels(problems.NAMES, ("A", "C", "B"), LABELS.template)  # by name, not by place
    assert torch.equal(log_probs({"words": "letter"}), log_probs({}, labels=letters))


def test_texts_in_any_normal_form_are_scored_as_they_stand() -> None:
    both = [{"text": "ao\u0302ut"}, {"text": "aôut"}, {"text": "مرحبا"}, {"text": "東京"}]
    expected = naive_scores(
        gemma(),
        [LABELS.template.prompt([(e.fields, e.label) for e in SUPPORT], t) for t in both],
        ANSWERS,
    ).log_softmax(1)
    out = log_probs({}, texts=both)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)
    assert not np.allclose(out[0], out[1], atol=1e-6)


def test_a_learner_that_asks_for_the_pool_is_shown_it_after_the_support_set() -> None:
    episode = problems.episode()
    pool = tuple(problems.example(label, 3) for label in problems.NAMES)
    with_pool = replace(episode, pool=pool)
    longer = replace(episode, support=(*episode.support, *pool))
    learner = make("in-context", {"pool": True}, gemma())
    found = judge(learner, "x", "k", with_pool, gemma(), pool=True)
    assert found.log_probs == judge(learner, "x", "k", longer, gemma()).log_probs
    assert found.log_probs != judge(learner, "x", "k", with_pool, gemma()).log_probs
    assert found.fingerprint == with_pool.fingerprint


@pytest.mark.parametrize(
    "template",
    [
        Template("Word: {{ text }}\nKind: ", "{{ label }}"),  # a blank at the prompt's end
        Template("{{ text }}", "{{ label }}", ""),  # a token may span prompt and label
        Template("{{ text }}\n\n", "{{ label }}", "\n"),
    ],
)
def test_blanks_and_tokens_across_the_boundary_are_scored_as_the_whole_text(
    template: Template,
) -> None:
    labels = Labels(problems.NAMES, problems.NAMES, template)
    texts = [{"text": "Mon"}, {"text": " "}, {"text": ""}]
    pairs = [(e.fields, e.label) for e in SUPPORT]
    expected = naive_scores(gemma(), [template.prompt(pairs, t) for t in texts], problems.NAMES)
    out = log_probs({}, labels=labels, texts=texts)
    torch.testing.assert_close(out, expected.log_softmax(1), atol=1e-4, rtol=0)


def test_in_the_channel_every_label_sees_the_demonstrations_that_fit_the_longest() -> None:
    words = ("month", "weekday", "organ" * 12)
    labels = Labels(problems.NAMES, words, LABELS.template)
    backbone = tiny.backbone()
    backbone.context_length = 80  # type: ignore[misc]
    support = problems.support(2)
    with pytest.warns(UserWarning, match=r"Only \d of 6 demonstrations fit") as told:
        out = make("in-context", {"scoring": "channel"}, backbone).adapt(support, labels)
        found = out.log_probs(TEXTS[:1])
    kept = int(str(told[0].message).split()[1])
    gone = drop_order(support)[: 6 - kept]
    shown = "".join(
        f"Kind: {words[LABELS.index(e.label)]}\nWord: {e.fields['text']}\n\n"
        for i, e in enumerate(support)
        if i not in gone
    )
    heads = [f"{shown}Kind: {word}\n" for word in words]
    scores = naive_scores(tiny.backbone(), heads, [f"Word: {TEXTS[0]['text']}"]).T
    torch.testing.assert_close(found, scores.log_softmax(1), atol=1e-4, rtol=0)


def test_domain_calibration_divides_by_the_probabilities_of_random_words() -> None:
    pairs = [(e.fields, e.label) for e in SUPPORT]
    free = [LABELS.template.prompt(pairs, fields) for fields in domain_inputs(SUPPORT, 5)]
    prior = naive_scores(gemma(), free, ANSWERS).softmax(1).mean(0)
    weighed = naive_scores(gemma(), prompts(), ANSWERS).softmax(1) / prior
    expected = weighed / weighed.sum(1, keepdim=True)
    out = log_probs({"calibration": "domain", "seed": 5}).exp()
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-3)
