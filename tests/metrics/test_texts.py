"""Metrics of written answers, against the libraries, plain loops and hand-made cases."""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.errors import IclError
from icl.metrics import ngrams, texts, written

WORDS = st.lists(st.sampled_from(["red", "cat", "sat", "3.50", "Straße", "кот"]), max_size=8)


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("Paris", " paris.", True),
        ("„Zürich“", "ZU\u0308RICH", True),
        ("42", "-42", False),
        ("3.5", "35", False),
        ("18 %", "18", False),
        ("दिल्ली।", "दिल्ली", True),
        ("東京。", "東京", True),
        ("", "...", True),
    ],
)
def test_exact_match_drops_what_is_around_an_answer_and_nothing_in_it(answer, reference, same):
    assert texts.exact_match(answer, reference) == float(same)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_token_f1_equals_squads_formula(ours, theirs):
    """Rajpurkar et al.'s script: precision and recall of the common tokens."""
    found = texts.token_f1(" ".join(ours), " ".join(theirs))
    if not ours or not theirs:
        assert found == float(ours == theirs)
        return
    common = sum((Counter(ours) & Counter(theirs)).values())
    if common == 0:
        assert found == 0
        return
    precision, recall = common / len(ours), common / len(theirs)
    assert found == pytest.approx(2 * precision * recall / (precision + recall))


@settings(deadline=None)
@given(st.text(), st.text())
def test_any_texts_score_between_nought_and_one_and_the_same_text_scores_one(a, b):
    for function in (texts.exact_match, texts.token_f1):
        assert 0 <= function(a, b) <= 1
        assert function(a, b) == function(b, a)
        assert function(a, a) == 1


def test_scripts_without_blanks_are_read_by_letters_with_their_marks():
    assert texts.tokens("ภาษาไทย") == ["ภ", "า", "ษ", "า", "ไ", "ท", "ย"]
    assert texts.tokens("กี่") == ["กี่"]
    assert texts.token_f1("東京都", "東京") == pytest.approx(0.8)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_chrf_bleu_and_rouge_are_the_libraries_own(ours, theirs):
    sacrebleu = pytest.importorskip("sacrebleu")
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"])
    answer, reference = " ".join(ours), " ".join(theirs)
    assert ngrams.chrf(answer, reference) == pytest.approx(
        sacrebleu.sentence_chrf(answer, [reference]).score / 100
    )
    assert ngrams.bleu(answer, reference) == pytest.approx(
        sacrebleu.BLEU(effective_order=True).sentence_score(answer, [reference]).score / 100
    )
    if (answer + reference).isascii() and "." not in answer + reference:
        expected = scorer.score(reference, answer)["rougeL"].fmeasure
        assert ngrams.rouge(answer, reference) == pytest.approx(expected)


def longest_common(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return 1 + longest_common(a[:-1], b[:-1])
    return max(longest_common(a[:-1], b), longest_common(a, b[:-1]))


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["दिल", "न", "кот"]), min_size=1, max_size=6),
    st.lists(st.sampled_from(["दिल", "न", "кот"]), min_size=1, max_size=6),
)
def test_rouge_counts_words_of_every_script(ours, theirs):
    pytest.importorskip("rouge_score")
    shared = longest_common(ours, theirs)
    expected = 2 * shared / (len(ours) + len(theirs))
    assert ngrams.rouge(" ".join(ours), " ".join(theirs)) == pytest.approx(expected)


def test_bleu_of_a_script_without_blanks_is_that_of_its_letters():
    sacrebleu = pytest.importorskip("sacrebleu")
    ours, theirs = "今日は寒い日です", "今日は暑い日です"
    spaced = sacrebleu.sentence_bleu(" ".join(ours), [" ".join(theirs)], tokenize="none")
    assert ngrams.bleu(ours, theirs) == pytest.approx(spaced.score / 100)
    assert 0.3 < ngrams.bleu(ours, theirs) < 1


def test_whole_corpora_are_no_means_of_sentences():
    sacrebleu = pytest.importorskip("sacrebleu")
    ours, theirs = ["the cat sat", "a dog ran far away"], ["the cat sat down", "a dog ran away"]
    assert ngrams.corpus_bleu(ours, theirs) == pytest.approx(
        sacrebleu.corpus_bleu(ours, [theirs]).score / 100
    )
    assert ngrams.corpus_chrf(ours, theirs) == pytest.approx(
        sacrebleu.corpus_chrf(ours, [theirs]).score / 100
    )


def test_an_unknown_metric_and_a_missing_library_are_told(monkeypatch):
    with pytest.raises(IclError, match="Did you mean 'exact_match'"):
        written.scores("exact_mach", ["a"], ["a"])
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(IclError, match="needs sacrebleu; install icl with the extra `generation`"):
        written.check(["exact_match", "chrf"])
