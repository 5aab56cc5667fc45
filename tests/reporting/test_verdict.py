from __future__ import annotations

from dataclasses import replace

from icl.evaluation.summary import Summary, summarise
from icl.reporting.numbers import duration, percent
from icl.reporting.verdict import models_told, notes, verdict
from icl.runs.used_models import UsedModel
from tests.evaluation.synthetic import LEARNERS, run_records, written


def with_p(p: dict[str, float]) -> Summary:
    """A summary in which the p-values to the best are as given, and the others below 0.001."""
    summary = summarise(run_records())
    board = summary.overall
    rows = (board.best, *(replace(row, p=p.get(row.learner, 0.0001)) for row in board.rows[1:]))
    return replace(summary, overall=replace(board, rows=rows))


def test_a_clear_winner_is_called_so():
    text = verdict(with_p({}))
    assert text.startswith("prototypes learns best: 68.9")
    assert text.endswith("clearly more than each of the 6 others on the same 88 episodes.")


def test_a_lead_that_may_be_luck_is_called_so_and_says_over_whom():
    assert verdict(with_p({"lora": 0.05})).endswith("its lead over lora may be luck.")
    text = verdict(with_p({"lora": 0.3, "fomaml": 0.2, "in-context": 0.9}))
    assert text.endswith(
        "3 other learners, but its lead over fomaml, in-context and lora may be luck."
    )


def test_many_open_leads_are_counted_not_listed():
    names = ["fomaml", "linear-probe", "in-context", "lora"]
    text = verdict(with_p(dict.fromkeys(names, 0.2)))
    assert text.endswith("2 other learners, but its lead over fomaml and 3 more may be luck.")


def test_no_clear_lead_at_all_is_admitted():
    text = verdict(with_p(dict.fromkeys(LEARNERS, 0.5)))
    assert text.endswith("but its lead over any other learner may be luck on these 88 episodes.")


def test_nobody_above_chance_has_no_winner():
    levels = {"a": (0.25, 0.0, 1.0), "b": (0.22, 0.0, 1.0)}
    text = verdict(summarise(run_records(learners=levels, seed=3)))
    assert text.startswith("No learner is clearly above chance (25.0")


def test_a_single_learner_is_not_called_best():
    text = verdict(summarise(run_records(learners={"solo": (0.6, 0.1, 1.0)})))
    assert "best" not in text and "no other learner" in text


def test_two_learners_are_named():
    text = verdict(summarise(run_records(learners={"good": (0.8, 0.0, 1), "bad": (0.3, 0.0, 1)})))
    assert text.endswith("clearly more than bad on the same 88 episodes.")


def test_a_verdict_is_one_sentence():
    for text in (verdict(with_p({})), verdict(with_p({"lora": 0.5}))):
        assert text.count(". ") == 0 and text.endswith(".")


def test_only_an_unfinished_run_has_a_note():
    records = list(run_records())
    assert notes(summarise(records)) == []
    cut = [r for r in records if r.learner != "lora" or r.index < 80]
    (note,) = notes(summarise(cut))
    assert "compared on the 80 episodes" in note and "48 further records" in note


def test_scores_that_a_server_did_not_give_exactly_are_told_by_learner():
    scoring = {"lora": {"echo": 3, "upper bound": 1}, "fomaml": {"next-token": 4}}
    records = [replace(r, scoring=scoring.get(r.learner, {})) for r in run_records()]
    assert notes(summarise(records)) == [
        "lora's label scores are not all exact, as the server did not give them: upper bound"
        " 25.0\N{NO-BREAK SPACE}% (see docs/servers.md)."
    ]


def test_written_answers_have_a_sentence_without_chance():
    def run(learner, lift):
        return [
            written(["a"], ["b"], {"chrf": [0.4 + lift * (1 + 0.1 * (i % 2)) + 0.01 * (i % 3)]}, i,
                    learner)
            for i in range(20)
        ]  # fmt: skip

    said = verdict(summarise([*run("in-context", 0.1), *run("zero-shot", 0.0)]))
    assert said.startswith("in-context answers best: chrF 51.4")
    assert "clearly more than zero-shot" in said and "chance" not in said
    alone = verdict(summarise(run("in-context", 0.1)))
    assert alone.startswith("in-context's answers have chrF 51.5")
    nothing = [written(["a"], ["b"], {"exact_match": [0.0]}, i, n) for i in range(3) for n in "ab"]
    assert verdict(summarise(nothing)).startswith("No learner's answers have any exact match")


def test_a_transductive_learner_on_balanced_queries_is_told_what_that_gives_away():
    summary = replace(summarise(run_records()), transductive=("fomaml",), balanced=True)
    [note] = notes(summary)
    assert "equally often" in note and "queries: natural" in note
    [note] = notes(replace(summary, balanced=False, commonest=None))
    assert note.endswith("than the other learners answer.")


def test_unbalanced_queries_name_what_the_most_frequent_label_scores():
    def asked(gold: tuple[int, ...]) -> Summary:
        return summarise(
            replace(r, gold=gold, predictions=gold, query_ids=r.query_ids[:4],
                    parallel_ids=r.parallel_ids[:4], log_probs=r.log_probs[:4])
            for r in run_records()
            if r.learner != "majority"  # a floor, which none of these would beat
        )  # fmt: skip

    even, uneven = asked((0, 1, 2, 3)), asked((0, 0, 0, 3))
    assert (even.balanced, even.commonest, notes(even)) == (True, 0.25, [])
    assert (uneven.balanced, uneven.commonest) == (False, 0.75)
    assert "right in 75.0\xa0%, where guessing evenly is in 25.0\xa0%" in notes(uneven)[0]


def on_two_models() -> Summary:
    used = {"prototypes": "encoder", "lora": "llm", "in-context": "llm", "fomaml": "encoder"}
    models = {name: UsedModel(label, f"some/{label}", label) for name, label in used.items()}
    spent = {"fomaml": {"seconds": 90.0, "tokens": 1, "steps": 1}}
    records = run_records(learners={name: LEARNERS[name] for name in (*used, "majority")})
    return summarise(records, spent, models=models)


def test_several_models_are_named_with_their_costs():
    summary = on_two_models()
    rows = {row.learner: row for row in summary.overall.rows}
    (best,) = [name for name in rows if rows[name] is summary.overall.best]
    assert best == "prototypes"
    other = next(row for row in summary.overall.rows if row.model == "llm")
    text = verdict(summary)
    assert text.startswith("prototypes on encoder learns best: ")
    assert text.endswith(
        f"; it takes {duration(rows[best].seconds)} an episode; the best on llm is {other.learner},"
        f" with {percent(other.accuracy)} for {duration(other.seconds)} an episode."
    )
    assert models_told(summary) == "Models: encoder is some/encoder, llm is some/llm."


def test_what_was_meta_trained_says_what_that_took_too():
    summary = on_two_models()
    board = summary.overall
    rows = sorted(board.rows, key=lambda row: row.learner != "fomaml")
    first = replace(summary, overall=replace(board, rows=tuple(rows)))
    cost = f"it takes {duration(rows[0].seconds)} an episode after {duration(90.0)} of meta-"
    assert cost in verdict(first)


def test_one_model_is_not_spoken_of():
    records = list(run_records())
    models = dict.fromkeys(LEARNERS, UsedModel("llm", "some/llm", "x"))
    assert summarise(records, models=models) == summarise(records)
    assert models_told(summarise(records, models=models)) == ""
