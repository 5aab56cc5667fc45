"""The questions are answered by the records that can answer them, and right about known truth."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from icl.errors import IclError
from icl.evaluation.diagnosis import Answer, diagnose, diagnose_run
from icl.evaluation.diagnosis.differences import unpaired
from icl.runs.finished import FinishedRun
from icl.runs.record import EpisodeRecord
from tests.evaluation.synthetic import record

NAMES = {
    "labels", "memory", "asking", "multi-task", "breadth", "sources", "saturation", "inner-loop",
}  # fmt: skip


def episode(
    learner: str, level: float, *, index: int, setting: str = "within", shots: int = 1,
    split: str = "test", support: str = "en", query: str = "en", queries: int = 10, key: str = "",
) -> EpisodeRecord:  # fmt: skip
    """A record with about `level` of its queries right; queries are the same for all learners."""
    rng = random.Random(f"{learner}{index}{setting}{shots}{split}{support}{query}")
    gold = tuple(i % 2 for i in range(queries))
    guess = tuple(g if rng.random() < level else 1 - g for g in gold)
    base = setting.split("+", maxsplit=1)[0]
    ids = tuple(f"{split}/{base}/{query}/{index}/{i}" for i in range(queries))
    return replace(
        record(index, learner),
        learner_key=key or f"key-{learner}",
        fingerprint=f"{split}/{setting}/{shots}/{support}/{query}/{index}",
        setting=setting, split=split, shots=shots, support_language=support, query_language=query,
        query_ids=ids, parallel_ids=ids, gold=gold, predictions=guess,
        log_probs=tuple((-0.1, -2.4) if p == 0 else (-2.4, -0.1) for p in guess),
    )  # fmt: skip


def run(levels: dict[str, Any], count: int = 30, **where: Any) -> Iterator[EpisodeRecord]:
    for learner, level in levels.items():
        for index in range(count):
            yield episode(learner, level, index=index, **where)


def ask(name: str, records: Any, **more: Any) -> Answer:
    answers = {answer.name: answer for answer in diagnose(records, **more)}
    assert set(answers) == NAMES
    return answers[name]


def trained(*names: str, tokens: int = 1000) -> dict[str, dict[str, float]]:
    return {name: {"seconds": 10.0, "tokens": tokens, "steps": 5} for name in names}


def test_a_run_that_answers_nothing_says_of_each_question_what_it_would_take():
    answers = diagnose(run({"a": 0.8}))
    assert {answer.name for answer in answers} == NAMES
    for answer in answers:
        assert not answer.answered and answer.said.endswith(".")
        assert ":" in answer.lines  # lines of YAML


def test_lines_that_would_answer_a_question_are_yaml_of_an_experiment():
    import yaml

    for answer in diagnose(run({"a": 0.8})):
        found = yaml.safe_load(answer.lines)
        assert set(found) <= {"episodes", "learners"}


def test_who_reads_labels_loses_by_changed_ones_and_who_does_not_loses_nothing():
    records = [
        *run({"reader": 0.9, "deaf": 0.7}),
        *run({"reader": 0.5, "deaf": 0.7}, setting="within+shuffled-labels"),
        *run({"reader": 0.2, "deaf": 0.7}, setting="within+flipped-labels"),
    ]
    answer = ask("labels", records)
    assert "reader worse" in answer.said and "deaf loses nothing" in answer.said
    found = {(f.subject, f.what): f for f in answer.findings}
    assert len(found) == 4
    shuffled = found["reader", "shuffled labels less plain"]
    assert shuffled.value == pytest.approx(-0.4, abs=0.1) and shuffled.p < 0.001
    assert shuffled.low < shuffled.value < shuffled.high < 0
    assert found["deaf", "flipped labels less plain"].p > 0.05


def test_a_changed_label_is_compared_with_the_same_queries_only():
    plain = list(run({"a": 0.9}, count=30))
    changed = list(run({"a": 0.9}, count=40, setting="within+flipped-labels"))
    both = ask("labels", [*plain, *changed]).findings[0]
    same = ask("labels", [*plain, *changed[:30]]).findings[0]
    assert both == same  # ten have no plain counterpart


def test_a_meta_learner_that_needs_no_labels_is_told():
    records = [
        *run({"heart": 0.9, "honest": 0.9}),
        *run({"heart": 0.9, "honest": 0.5}, setting="within+shuffled-labels"),
    ]
    answer = ask("memory", records, meta_training=trained("heart", "honest"))
    assert "do not clearly harm heart:" in answer.said and "honest" not in answer.said


def test_a_lead_on_training_tasks_beyond_their_difficulty_is_told():
    test = list(run({"heart": 0.6, "honest": 0.75, "plain": 0.55}))
    train = list(run({"heart": 0.95, "honest": 0.9, "plain": 0.7}, split="train"))
    found = ask(
        "memory", test, meta_training=trained("heart", "honest"), others=train
    )  # the plain one is 15 points better on the training tasks: they are easier
    by_name = {f.subject: f for f in found.findings}
    assert by_name["heart"].value == pytest.approx(0.2, abs=0.12) and by_name["heart"].p < 0.05
    assert abs(by_name["honest"].value) < 0.12 and by_name["honest"].p > 0.05
    assert "heart leads by more" in found.said and "honest leads" not in found.said


def test_more_shots_are_compared_on_the_same_queries_and_saturation_is_found():
    records = [
        *run({"a": 0.5, "b": 0.5}, shots=1),
        *run({"a": 0.75, "b": 0.5}, shots=4),
        *run({"a": 0.75, "b": 0.5}, shots=16),
    ]
    answer = ask("saturation", records)
    assert "helps nobody" in answer.said and "gains end at 4 shots" in answer.said
    first = next(f for f in answer.findings if f.subject == "a" and f.what.startswith("1 to 4"))
    assert first.p < 0.01 and first.value == pytest.approx(0.25, abs=0.1)
    each = 100 * first.value / (3 * 2)  # three more shots of two classes
    assert f"{each:+.2f} points an example" in first.what
    more = [*records, *run({"a": 0.99, "b": 0.5}, shots=64)]
    assert "still helps a" in ask("saturation", more).said


def test_the_best_source_of_a_target_is_named():
    records = [
        *run({"a": 0.9}, query="sw", support="sw", setting="within"),
        *run({"a": 0.8}, query="sw", support="en", setting="from-en"),
        *run({"a": 0.5}, query="sw", support="de", setting="from-de"),
    ]
    answer = ask("sources", records)
    assert "the best other language is en for sw" in answer.said
    by_source = {f.what: f for f in answer.findings}
    assert by_source["sw from de, less from sw itself"].p < 0.001
    assert by_source["sw from de, less from sw itself"].value == pytest.approx(-0.4, abs=0.1)


def test_meta_learning_is_compared_with_multi_task_training_and_its_compute():
    records = list(run({"maml": 0.9, "multi": 0.6, "weak": 0.3, "plain": 0.6}))
    learners = {
        "maml": {"method": "maml"}, "multi": {"method": "multitask"},
        "weak": {"method": "fomaml"}, "plain": {"method": "lora"},
    }  # fmt: skip
    spent = {**trained("maml", "multi"), **trained("weak", tokens=3000)}
    answer = ask("multi-task", records, learners=learners, meta_training=spent)
    assert answer.said.startswith("Better than multi: maml; worse: weak.")
    assert "equal (within 10 %) for maml" in answer.said
    assert {f.subject for f in answer.findings} == {"maml", "weak"}
    assert "3 × its tokens" in next(f.what for f in answer.findings if f.subject == "weak")


def test_a_meta_learner_stands_against_plain_training_of_its_own_kind():
    records = list(run({"maml": 0.6, "proto": 0.6, "words": 0.9, "vectors": 0.3}))
    learners = {
        "maml": {"method": "maml"}, "proto": {"method": "meta-prototypes"},
        "words": {"method": "multitask-lora"}, "vectors": {"method": "multitask"},
    }  # fmt: skip
    answer = ask("multi-task", records, learners=learners, meta_training=trained(*learners))
    assert "own kind: proto; worse: maml." in answer.said
    less = {f.subject: f.what.split(";")[0] for f in answer.findings}
    assert less == {"maml": "less words", "proto": "less vectors"}


def test_a_meta_learner_stands_against_plain_training_on_its_own_model():
    records = list(run({"maml": 0.6, "small": 0.9, "own": 0.3, "alone": 0.8}))
    learners = {
        "maml": {"method": "maml", "model": "llm"}, "own": {"method": "multitask", "model": "llm"},
        "small": {"method": "multitask-lora", "model": "encoder"},
        "alone": {"method": "maml", "model": "third"},
    }  # fmt: skip
    answer = ask("multi-task", records, learners=learners, meta_training=trained(*learners))
    assert {f.subject: f.what.split(";")[0] for f in answer.findings} == {"maml": "less own"}
    some = {name: learners[name] for name in ("small", "alone")}
    records = list(run({"small": 0.9, "alone": 0.8}))
    answer = ask("multi-task", records, learners=some, meta_training=trained(*some))
    assert not answer.answered
    assert answer.said.startswith("No meta-trained learner is on the model of")


def test_training_on_more_languages_is_compared_where_nothing_else_differs():
    def maml(languages: list[str], rank: int = 8) -> dict[str, Any]:
        return {"method": "maml", "rank": rank, "training": {"languages": languages, "steps": 5}}

    records = list(run({"one": 0.5, "four": 0.8, "other": 0.9}))
    learners = {
        "one": maml(["en"]), "four": maml(["en", "de", "ru", "hi"]),
        "other": maml(["en", "de"], rank=16),
    }  # fmt: skip
    answer = ask("breadth", records, learners=learners, meta_training=trained(*learners))
    assert [f.subject for f in answer.findings] == ["four"]
    assert answer.said == "More training languages help four and harm none."


def test_learners_that_differ_only_in_how_they_ask_are_a_family():
    records = list(run({"a": 0.9, "b": 0.5, "c": 0.9, "pool": 0.2}))
    learners = {
        "a": {"method": "in-context", "order": "given", "template": "task"},
        "b": {"method": "in-context", "order": "random", "template": "task"},
        "c": {"method": "in-context", "order": "given", "template": "other"},
        "pool": {"method": "in-context", "order": "given", "template": "task", "pool": True},
    }
    answer = ask("asking", records, learners=learners)
    assert all("pool" not in f.subject for f in answer.findings)
    worst = answer.findings[0]
    assert worst.subject.endswith("less b") and "order" in worst.what and worst.p < 0.001
    assert worst.subject in answer.said


def write_log(path, rows):
    lines = [json.dumps({"step": step, **row}) for step, row in enumerate(rows, start=1)]
    path.write_text("".join(line + "\n" for line in lines), "utf-8")
    return path


def test_an_inner_loop_that_raises_the_support_loss_is_called_unstable(tmp_path):
    good = [{"loss": 1.0, "support_loss_0": 2.0, "support_loss_1": 1.0, "support_loss_after": 0.5}]
    bad = [{"loss": 1.0, "support_loss_0": 1.0, "support_loss_2": 3.0}]
    logs = {
        "calm": write_log(tmp_path / "calm", good * 20),
        "wild": write_log(tmp_path / "wild", good * 10 + bad * 10),
        "metric": write_log(tmp_path / "metric", [{"loss": 1.0}]),
        "not yet": tmp_path / "none",
    }
    answer = ask("inner-loop", run({"calm": 0.5}), logs=logs)
    shares = {f.subject: f.value for f in answer.findings if f.unit == "share"}
    assert shares == {"calm": 1.0, "wild": 0.5}
    assert answer.said.startswith("No: wild")
    assert ask("inner-loop", run({"calm": 0.5}), logs={"calm": logs["calm"]}).said.startswith("Yes")
    (tmp_path / "broken").mkdir()
    with pytest.raises(IclError, match=r"Cannot read .*broken"):
        ask("inner-loop", run({"calm": 0.5}), logs={"calm": tmp_path / "broken"})


def test_a_run_beside_must_hold_the_same_learners(tmp_path):
    def finished(records):
        return FinishedRun(tmp_path, tuple(records), (), trained("a"), {"learners": {}})

    own = finished(run({"a": 0.9, "b": 0.5}))
    same = finished(run({"a": 0.9, "b": 0.5}, split="train"))
    memory = next(a for a in diagnose_run(own, [same]) if a.name == "memory")
    assert memory.answered
    other = finished(episode("a", 0.9, index=i, split="train", key="new") for i in range(3))
    with pytest.raises(IclError, match=r"'a' in .* is not the learner of that name"):
        diagnose_run(own, [other])


def test_episodes_with_changed_labels_alone_are_said_to_answer_nothing():
    (answer,) = diagnose(run({"a": 0.5}, setting="within+flipped-labels"))
    assert not answer.answered and "plain" in answer.lines


@pytest.mark.parametrize(("draws", "sure"), [(1, False), (2, False), (8, True)])
def test_few_draws_without_an_error_make_no_unpaired_difference_certain(draws: int, sure: bool):
    def side(right: bool, split: str) -> list[EpisodeRecord]:
        chosen, scores = (0, 1) if right else (1, 0), ((0.0, -9.0), (-9.0, 0.0))
        return [
            replace(
                record(i),
                split=split,
                parallel_ids=(f"a{i}", f"b{i}"),
                log_probs=tuple(scores[c] for c in chosen),
                predictions=chosen,
            )
            for i in range(draws)
        ]

    right, wrong = side(True, "train"), side(False, "test")
    for sides in (([right], [wrong]), ([right, side(False, "train")], [wrong, side(True, "test")])):
        found = unpaired(*sides, "accuracy")
        assert found.value == len(sides[0])
        assert (found.p < 0.05) is sure and found.p > 0
        assert found.low < found.value <= found.high


def test_unpaired_intervals_hold_the_truth_about_as_often_as_they_say():
    """150 pairs of sets of 20 episodes, no difference: 95 % intervals miss it in few of them."""
    missed = 0
    for trial in range(150):
        a, b = (
            [episode(f"x{trial}", 0.6, index=i, split=split, queries=8) for i in range(20)]
            for split in ("one", "two")
        )
        found = unpaired([a], [b], "accuracy")
        missed += not found.low <= 0 <= found.high
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)
    assert missed <= 18  # 7.5 are expected; more than 18 have a chance below 0.1 %
