from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.runs.record import ChangedRecordError, Cost, EpisodeRecord
from tests.evaluation.synthetic import record, written

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXT, TEXT, st.floats(-1e9, 0), st.floats(0, 1e9))
def test_a_record_survives_json_whatever_its_texts_and_figures(task, learner, log_prob, seconds):
    made = replace(
        record(text=task),
        learner=learner,
        log_probs=((log_prob, -math.inf), (0.0, -0.5)),
        cost=Cost(1, 2, seconds, 3.5, 4),
    )
    line = made.to_json()
    assert "\n" not in line
    assert EpisodeRecord.from_json(line) == made


def test_what_records_repeat_stands_in_memory_once():
    first, second = (EpisodeRecord.from_json(record().to_json()) for _ in range(2))
    assert first.task is second.task
    assert first.fingerprint is second.fingerprint
    assert first.query_ids[0] is second.query_ids[0]
    same = EpisodeRecord.from_json(replace(record(), parallel_ids=record().query_ids).to_json())
    assert same.parallel_ids is same.query_ids


def test_the_line_is_strict_json_even_with_labels_ruled_out():
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    line = json.loads(record().to_json(), parse_constant=refuse)
    assert line["log_probs"][0] == [0.0, None]


@pytest.mark.parametrize(
    "change",
    [
        {"predictions": (0,)},
        {"predictions": (0, 2)},
        {"gold": (-1, 0)},
        {"query_ids": ("q1",)},
        {"labels": ("a",)},
        {"log_probs": ((0.0, -1.0), (0.0,))},
        {"log_probs": ((0.0, -1.0), (0.0, math.nan))},
        {"log_probs": ((0.0, -1.0), (0.7, -1.0))},
        {"gold": (), "predictions": (), "query_ids": (), "parallel_ids": (), "log_probs": ()},
    ],
)
def test_parts_that_do_not_fit_together_are_refused(change):
    with pytest.raises(ValueError):
        replace(record(), **change)


@pytest.mark.parametrize("line", ["5", "{}", "null", '{"schema_version": 1}', "{", '{"a": NaN}'])
def test_other_json_is_refused_with_a_value_error(line):
    with pytest.raises(ValueError):
        EpisodeRecord.from_json(line)


def test_another_schema_version_is_refused():
    line = record().to_json().replace('"schema_version":4', '"schema_version":5')
    assert '"schema_version":5' in line
    with pytest.raises(ValueError, match="schema"):
        EpisodeRecord.from_json(line)


# A line as version 1 wrote it.
OLD = (
    '{"learner":"prototypes","method":"prototypes","learner_key":"key-prototypes","fingerprint":'
    '"0000000000000000","task":"x","setting":"within","split":"test","index":0,"ways":2,"shots":1,'
    '"support_language":"en","query_language":"sw","labels":["a","xb"],"query_ids":["q1","q2"],'
    '"parallel_ids":["p1","p2"],"log_probs":[[0.0,null],[-0.25,-1.5]],"predictions":[0,0],"gold":'
    '[0,1],"cost":{"prompt_tokens":100,"computed_tokens":60,"seconds":0.5,"peak_memory_mb":900.0,'
    '"trained_parameters":0},"schema_version":1}'
)


@pytest.mark.parametrize("version", [1, 2])
def test_records_of_earlier_schemas_are_read_and_mean_the_same(version):
    old = OLD.replace('"schema_version":1', f'"schema_version":{version}')
    found = EpisodeRecord.from_json(old)
    assert found == record()
    assert (found.schema_version, found.scored, found.metrics) == (4, False, ("accuracy",))
    body = OLD.replace('"schema_version":1}', '"schema_version":3')
    assert EpisodeRecord.from_json(body + ',"check":"d04cb815d83fd257"}') == found  # sealed by then
    assert found.to_json().startswith(body.replace('"schema_version":3', '"schema_version":4'))
    again = EpisodeRecord.from_json(found.to_json())
    assert again == found


def test_scores_of_an_earlier_schema_are_of_answers_that_no_guess_gives():
    line = (
        '{"learner":"l","method":"m","learner_key":"k","fingerprint":"f","task":"t","setting":"s",'
        '"split":"test","index":0,"ways":0,"shots":1,"support_language":"en","query_language":"en",'
        '"labels":[],"query_ids":["q"],"parallel_ids":["q"],"log_probs":[],"predictions":[],'
        '"gold":[],"cost":{"prompt_tokens":1,"computed_tokens":1,"seconds":0.5,"peak_memory_mb":1,'
        '"trained_parameters":0},"schema_version":2,"texts":["a"],"references":["b"],'
        '"scores":{"chrf":[0.25]}}'
    )
    found = EpisodeRecord.from_json(line)
    assert (found.scored, found.outcomes("chrf"), found.guessing("chrf")) == (True, (0.25,), 0.0)
    guessed = replace(found, chance={"chrf": 0.5})
    assert EpisodeRecord.from_json(guessed.to_json()) == guessed
    assert guessed.guessing("chrf") == 0.5
    for wrong in ({"bleu": 0.5}, {"chrf": 1.5}):
        with pytest.raises(ValueError, match="chance"):
            replace(found, chance=wrong)
    with pytest.raises(ValueError, match="chance"):
        replace(record(), chance={"accuracy": 0.5})


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_prediction_is_the_best_of_its_log_probabilities(version):
    line = OLD.replace('"schema_version":1', f'"schema_version":{version}')
    changed = line.replace('"predictions":[0,0]', '"predictions":[0,1]')
    with pytest.raises(ChangedRecordError, match=r"'prototypes' on episode 0{16} was changed"):
        EpisodeRecord.from_json(changed)
    tied = OLD.replace("[-0.25,-1.5]", "[-0.25,-0.25]").replace('"predictions":[0,0]', "%s")
    for chosen in (0, 1):  # by lot, see `judge.predictions`
        assert (
            EpisodeRecord.from_json(tied % f'"predictions":[0,{chosen}]').predictions[1] == chosen
        )


@settings(max_examples=200)
@given(st.data())
def test_no_character_of_a_line_can_be_changed_unnoticed(data):
    line = record(text="é").to_json()
    place = data.draw(st.integers(0, len(line) - 1))
    other = data.draw(st.sampled_from('0123456789"[]{},:.-eaqp \\'))
    changed = line[:place] + other + line[place + 1 :]
    if changed != line:
        with pytest.raises(ValueError):
            EpisodeRecord.from_json(changed)


@given(st.lists(st.tuples(TEXT, TEXT, st.floats(0, 1)), min_size=1, max_size=4))
def test_written_answers_survive_json(answers):
    texts, references, values = zip(*answers, strict=True)
    made = written(texts, references, {"chrf": values, "exact_match": (1.0,) * len(texts)})
    again = EpisodeRecord.from_json(made.to_json())
    assert again == made and again.scored
    assert again.metrics == ("chrf", "exact_match") and again.outcomes("chrf") == values
    with pytest.raises(KeyError):
        _ = again.accuracy


@pytest.mark.parametrize(
    "change",
    [
        {"scores": {}},
        {"scores": {"chrf": (0.5,)}},
        {"scores": {"chrf": (0.5, 1.5)}},
        {"scores": {"chrf": (0.5, math.nan)}},
        {"texts": ("a",)},
        {"references": ()},
        {"ways": 2},
        {"gold": (0, 1)},
        {"log_probs": ((0.0,), (0.0,))},
    ],
)
def test_written_answers_that_do_not_fit_together_are_refused(change):
    made = written(("a", "b"), ("a", "c"), {"chrf": (1.0, 0.0)})
    with pytest.raises(ValueError):
        replace(made, **change)


@pytest.mark.parametrize("change", [{"texts": ("a", "b")}, {"scores": {"chrf": (0.0, 1.0)}}])
def test_labels_and_written_answers_do_not_mix(change):
    with pytest.raises(ValueError, match="not belong to this kind"):
        replace(record(), **change)


def test_accuracy_is_the_share_of_right_queries():
    assert record().accuracy == 0.5


def test_outcome_forgets_cost_and_nothing_else():
    other = replace(record(), cost=Cost(9, 9, 9.0, 9.0, 9))
    assert other.outcome() == record().outcome()
    assert replace(record(), predictions=(1, 0)).outcome() != record().outcome()
