"""Worst episodes with their prompts, the transfer matrix, all pairs, and plots as files."""

from __future__ import annotations

import csv
import re
from dataclasses import replace

import pytest

from icl.episodes import Episode
from icl.evaluation.diagnosis import diagnose
from icl.evaluation.summary import summarise
from icl.reporting.figures import write_plots
from icl.reporting.palette import LIGHT
from icl.reporting.worst import shown
from icl.tasks.task import Example, Labels
from icl.tasks.template import Template
from tests.evaluation.synthetic import run_records
from tests.reporting.test_page import Page, write

TWO = {"in-context": (0.5, 0.1, 1.0), "$a_b$ 学習": (0.3, 0.1, 2.0)}
HEBREW, AMHARIC = "שלום <b>עולם</b>", "ሰላም ለዓለም"


def records():
    return run_records(learners=TWO, languages=("de", "sw"), episodes_per_cell=1)


def find(fingerprint: str) -> Episode:
    """An episode whose queries say where they stand."""
    found = next(r for r in records() if r.fingerprint == fingerprint)
    template = Template("Text: {{ text }}\nKind:", instruction="Say the kind.\n\n")
    return Episode(
        task=found.task,
        labels=Labels(found.labels, tuple(f"word-{n}" for n in found.labels), template),
        support=(Example("s", {"text": HEBREW}, "a", "he", "s"),),
        query=tuple(
            Example(name, {"text": f"{AMHARIC} {name}"}, found.labels[g], "am", name)
            for name, g in zip(found.query_ids, found.gold, strict=True)
        ),
        seed=0, index=found.index, shots=1, split="test", setting=found.setting,
        support_language="he", query_language="am",
    )  # fmt: skip


def test_a_worst_episode_shows_the_prompt_the_right_answer_and_all_answers():
    summary = summarise(records())
    for worst, episode in zip(summary.worst, shown(summary, find), strict=True):
        own = worst.records[summary.overall.best.learner]
        assert episode.examples == f"Say the kind.\n\nText: {HEBREW}\nKind: word-a"
        assert episode.query == f"Text: {AMHARIC} {own.query_ids[worst.query]}\nKind:"
        assert episode.gold == f"word-{own.labels[own.gold[worst.query]]}"
        assert [a.learner for a in episode.answers] == [r.learner for r in summary.overall.rows]
        assert episode.answers[0].text == f"word-{own.labels[own.predictions[worst.query]]}"
        for answer in episode.answers:
            assert answer.right == (answer.text == episode.gold)
        assert not episode.answers[0].right


def test_a_long_prompt_shows_both_its_ends():
    def long(fingerprint):
        episode = find(fingerprint)
        many = tuple(
            Example(f"s{n}", {"text": f"number {n}. " + "x" * 500}, "a", "he", f"s{n}")
            for n in range(100)
        )
        return replace(episode, support=many)

    text = shown(summarise(records()), long)[0].examples
    assert len(text) < 13_000 and "number 0." in text and "number 99." in text
    assert re.search(r"\[… [\d,]+ characters …\]", text)


def test_prompts_stand_on_the_page_in_their_own_script_and_are_never_markup(tmp_path):
    text = write(tmp_path, list(records()), episodes=find).read_text("utf-8")
    page = Page(text)
    assert AMHARIC in page.text and HEBREW in page.text
    assert "<b>עולם" not in text
    assert ("dir", "auto") in page.attributes
    assert "Worst episodes" in page.text and "From language to language" in page.text


def test_without_episodes_the_page_shows_labels_alone(tmp_path):
    page = Page(write(tmp_path, list(records())).read_text("utf-8"))
    assert "Worst episodes" in page.text and "Examples" not in dict(page.attributes).values()


def test_all_pairs_lie_beside_the_page_in_full(tmp_path):
    write(tmp_path)
    rows = list(csv.DictReader((tmp_path / "pairs.csv").open(encoding="utf-8")))
    assert len(rows) == 7 * 6 / 2
    for row in rows:
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
        assert 0 <= float(row["p_mcnemar"]) <= 1 and 0 < float(row["p_permutation"]) <= 1
        assert float(row["low_bootstrap"]) <= float(row["high_bootstrap"])


def test_questions_are_answered_on_the_page_or_say_what_it_takes(tmp_path):
    made = list(records())
    page = Page(write(tmp_path, made, answers=diagnose(made)).read_text("utf-8"))
    assert "Which language helps which?" in page.text
    assert "de from en, too few episodes to test" in page.text
    assert "variants: [plain, shuffled-labels" in page.text
    assert page.open == []


@pytest.mark.filterwarnings("error")
def test_every_plot_is_a_file_in_real_colours_with_the_names_as_they_are(tmp_path):
    summary = summarise(records())
    written = write_plots(tmp_path, summary)
    stems = {path.stem for path in written}
    assert stems == {
        "shots-within", "shots-cross-lingual", "cost-time", "cost-tokens",
        "languages-within", "languages-cross-lingual", "transfer", "reliability",
    }  # fmt: skip
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == sorted(p.name for p in written)
    for path in written:
        if path.suffix == ".png":
            assert path.read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "plots" / "shots-within.svg").read_text("utf-8")
    assert "$a_b$ 学習" in svg and LIGHT[0] in svg and "#0300" not in svg
    assert "#010101" not in svg and "#020202" not in svg
