"""Equal effort: as many trials for each, on validation episodes, and nothing of the test."""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import icl
from icl.episodes import Episode
from icl.errors import IclError
from icl.exchange.trained import find_learner
from icl.experiments.config import ExperimentConfig, load_config
from icl.reporting.comparison import Comparison
from icl.runs.folder import RunFolder
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore, same_outcomes
from icl.runs.trials import Tuned, read_tuning
from tests import forked
from tests.place import FAMILY, Place, must_not_load
from tests.processes import jobs

TOY = '''
import torch
from icl.learners import Learner, Params, Predictor

class ToyParams(Params):
    level: int = 0
    colour: str = "red"

class _Toy(Predictor):
    """Knows an item whose number is at least how far the level is from 3."""
    def __init__(self, labels, level):
        self.labels, self.level = labels, level
    def log_probs(self, texts):
        rows = []
        for fields in texts:
            _, start, _, number = fields["text"].split()
            place = [n[:3] for n in self.labels.names].index(start)
            if int(number) < abs(self.level - 3):
                place = (place + 1) % len(self.labels.names)
            rows.append([0.0 if i == place else -20.0 for i in range(len(self.labels.names))])
        return torch.tensor(rows).log_softmax(1)

class Toy(Learner):
    """Right by its level."""
    method = "toy"
    Params = ToyParams
    search = {"level": (1, 2, 3, 4, 5, 6)}
    @classmethod
    def needs(cls, params):
        return frozenset()
    def __init__(self, backbone, params):
        self.level = params.level
    def adapt(self, support, labels):
        return _Toy(labels, self.level)
'''

SPLITS = """\
  train: {languages: [aa]}
  validation: {languages: [bb]}
  test: {languages: [cc, dd]}
disjoint:
  - [train, test, language]
  - [validation, test, language]
"""

EXPERIMENT = """\
schema_version: 1
name: tuned
seed: 3
model: {name: MODEL}
tasks: {family: FAMILY, data: DATA}
episodes:
  ways: 3
  shots: [1, 2]
  queries: 6
  count: 3
tuning: {trials: 4, episodes: 5}
learners:
  majority: {method: majority}
  toy: {method: "TOY:Toy"}
  tfidf: {method: tfidf}
"""
META = """\
  maml:
    method: fomaml
    inner_steps: 1
    training: {steps: 2, meta_batch: 2, shots: 2, queries: 3}
    search: {inner_rate: [0.01, 0.3], training.learning_rate: [0.001, 0.05]}
"""


@pytest.fixture
def tuned(place: Place) -> Place:
    """A folder with an experiment that is tuned."""
    toy = place.folder / "toy.py"
    toy.write_text(TOY, "utf-8")
    family = FAMILY[: FAMILY.index("  train:")] + SPLITS
    found = replace(place, text=EXPERIMENT.replace("TOY", str(toy)), family=family, name="tuned")
    found.write()
    return found


def run(own: Place, out: str = "run", old: str = "", new: str = "") -> ExperimentConfig:
    config = load_config(own.write(old, new))
    go(config, out)
    return config


def go(config: ExperimentConfig, out: str) -> None:
    """Run an experiment without a report, which would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("icl.experiments.experiment.write_outcome", lambda *_, **__: Comparison(()))
        icl.run(config, out=out)


def records(folder: str) -> list[EpisodeRecord]:
    return RecordStore(Path(folder)).read()


def episodes(folder: str) -> list[Episode]:
    return list(RunFolder(Path(folder)).episodes())


def roster(folder: str) -> dict[str, dict[str, Any]]:
    rows = json.loads(Path(folder, "run.json").read_text("utf-8"))["learners"]
    return {row["name"]: row for row in rows}


def told(learners: Mapping[str, Tuned]) -> dict[str, Any]:
    """Return all that tuning says of some learners but for what it cost."""
    return {
        name: (own.chosen, [(t.values, t.score, t.key) for t in own.trials])
        for name, own in learners.items()
    }


def known(level: int) -> float:
    """Return the toy's score on the validation episodes, from their texts."""
    scores = []
    for episode in episodes("run/tuning"):
        numbers = [int(e.text.split()[-1]) for e in episode.query]
        scores.append(sum(n >= abs(level - 3) for n in numbers) / len(numbers))
    return sum(scores) / len(scores)


def test_the_best_of_equally_many_trials_is_chosen_and_the_first_is_as_configured(
    tuned: Place,
) -> None:
    run(tuned, old="trials: 4", new="trials: 7")
    found = read_tuning(RunFolder(Path("run")))
    assert {n: len(own.trials) for n, own in found.learners.items()} == {
        "majority": 1,  # which has nothing to search
        "toy": 7,
        "tfidf": 7,
    }
    toy = found.learners["toy"]
    assert toy.trials[0].values == {"level": 0}
    assert sorted(t.values["level"] for t in toy.trials) == [0, 1, 2, 3, 4, 5, 6]
    for trial in toy.trials:
        assert trial.score == pytest.approx(known(trial.values["level"]), abs=1e-12)
    assert toy.best.values == {"level": 3}
    assert toy.best.score == 1.0
    assert {r.accuracy for r in records("run") if r.learner == "toy"} == {1.0}
    for own in found.learners.values():
        assert own.best.score == max(trial.score for trial in own.trials)
        assert own.best.score >= own.trials[0].score


def test_of_equals_the_first_is_chosen_so_that_the_configured_one_needs_to_be_beaten(
    tuned: Place,
) -> None:
    """Levels 2 and 4 are equally far from 3."""
    config = load_config(tuned.write('Toy"}', 'Toy", level: 4, search: {level: [2, 4, 6]}}'))
    go(config, "run")
    toy = read_tuning(RunFolder(Path("run"))).learners["toy"]
    assert len(toy.trials) == 3
    assert known(2) == known(4) > known(6)
    assert toy.chosen == 0
    assert toy.best.values == {"level": 4}


def test_nothing_of_the_test_is_looked_at_and_all_have_the_same_validation_episodes(
    tuned: Place,
) -> None:
    run(tuned)
    judged, tried = episodes("run"), episodes("run/tuning")
    assert {e.split for e in tried} == {"validation"}
    assert {e.query_language for e in tried} == {"bb"}
    assert not {e.fingerprint for e in judged} & {e.fingerprint for e in tried}
    prints = Counter(e.fingerprint for e in tried)
    assert len(prints) == 5 * 2
    found = read_tuning(RunFolder(Path("run")))
    for name, own in found.learners.items():
        for number in range(len(own.trials)):
            done = [
                r.fingerprint for r in records("run/tuning") if r.learner == f"{name} #{number}"
            ]
            assert Counter(done) == prints
    assert {r.fingerprint for r in records("run")} == {e.fingerprint for e in judged}
    assert {r.learner for r in records("run")} == {"majority", "toy", "tfidf"}


def test_a_tuned_learner_is_the_one_that_is_configured_so_by_hand(tuned: Place) -> None:
    config = run(tuned)
    best = read_tuning(RunFolder(Path("run"))).learners
    by_hand = {n: own.with_values(best[n].best.values) for n, own in config.learners.items()}
    plain = config.model_copy(update={"tuning": None, "learners": by_hand})
    go(plain, "hand")
    keys = {name: row["key"] for name, row in roster("run").items()}
    assert keys == {name: row["key"] for name, row in roster("hand").items()}
    assert [r.outcome() for r in records("run")] == [r.outcome() for r in records("hand")]
    assert "tuned" not in roster("hand")["toy"]
    assert roster("run")["toy"]["tuned"]["values"] == best["toy"].best.values
    # and in the same folder, nothing is left to do
    before = Path("run/records.jsonl").read_bytes()
    go(plain, "run")
    assert Path("run/records.jsonl").read_bytes() == before


def test_what_was_killed_goes_on_with_the_same_choice(
    tuned: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tuned, old="learners:\n", new=f"learners:\n{META}")
    whole, journal = roster("run"), read_tuning(RunFolder(Path("run")))
    trials = Path("run/tuning/records.jsonl").read_bytes()
    for kept in (3, 57):
        shutil.copytree("run", "killed")
        lines = trials.splitlines(keepends=True)
        Path("killed/tuning/records.jsonl").write_bytes(b"".join(lines[:kept]) + lines[kept][:50])
        for gone in ("records.jsonl", "run.json", "tuning.json"):
            Path("killed", gone).unlink()
        shutil.rmtree("killed/meta")
        go(load_config(Path("killed/config.yaml")), "killed")
        again = read_tuning(RunFolder(Path("killed")))
        assert {n: r["key"] for n, r in roster("killed").items()} == {
            n: r["key"] for n, r in whole.items()
        }
        assert told(again.learners) == told(journal.learners)
        assert Path("killed/tuning/records.jsonl").read_bytes().startswith(b"".join(lines[:kept]))
        shutil.rmtree("killed")
    from icl.models.loading import load as loading

    monkeypatch.setattr(loading, "load_backbone", must_not_load)
    go(load_config(Path("run/config.yaml")), "run")
    assert Path("run/tuning/records.jsonl").read_bytes() == trials


def test_two_processes_choose_as_one_does(tuned: Place) -> None:
    run(tuned, old="learners:\n", new=f"learners:\n{META}")
    path = tuned.folder / "tuned.yaml"
    group = forked.start_group(2, jobs.experiment, path, tuned.folder / "two")
    assert forked.finish(group) == [0, 0]
    one, two = (read_tuning(RunFolder(Path(name))).learners for name in ("run", "two"))
    assert told(one) == told(two)
    for folder in ("", "tuning"):
        assert same_outcomes(records(f"run/{folder}"), records(f"two/{folder}"))
        assert not list(Path("two", folder).glob("records.*.jsonl"))


def test_more_trials_do_only_what_is_new(tuned: Place) -> None:
    run(tuned)
    before = Path("run/tuning/records.jsonl").read_bytes()
    few = read_tuning(RunFolder(Path("run"))).learners
    run(tuned, old="trials: 4", new="trials: 6")
    assert Path("run/tuning/records.jsonl").read_bytes().startswith(before)
    more = read_tuning(RunFolder(Path("run"))).learners
    assert [t.values for t in more["tfidf"].trials[:4]] == [t.values for t in few["tfidf"].trials]
    assert len(more["tfidf"].trials) == 6


def test_a_learners_name_and_place_decide_nothing(tuned: Place) -> None:
    run(tuned)
    first = read_tuning(RunFolder(Path("run"))).learners["tfidf"]
    text = tuned.text.replace("  tfidf: {method: tfidf}\n", "")
    moved = replace(tuned, text=text.replace("learners:\n", "learners:\n  a: {method: tfidf}\n"))
    run(moved, out="other")
    second = read_tuning(RunFolder(Path("other"))).learners["a"]
    assert [(t.values, t.score, t.key) for t in first.trials] == [
        (t.values, t.score, t.key) for t in second.trials
    ]


def test_a_meta_learner_is_trained_for_each_trial_and_the_chosen_one_handed_on(
    tuned: Place,
) -> None:
    run(tuned, old="learners:\n", new=f"learners:\n{META}")
    own = read_tuning(RunFolder(Path("run"))).learners["maml"]
    tried, row = roster("run/tuning"), roster("run")["maml"]
    rows = [tried[f"maml #{number}"] for number in range(4)]
    assert len({r["folder"] for r in rows}) == 4
    assert all(r["training"]["steps"] == 2 for r in rows)
    best = rows[own.chosen]
    assert (row["key"], row["folder"], row["training"]) == (
        best["key"], best["folder"], best["training"],
    )  # fmt: skip
    by_trial: dict[str, list[EpisodeRecord]] = {}
    for record in records("run/tuning"):
        by_trial.setdefault(record.learner, []).append(record)
    for number, trial in enumerate(own.trials):
        done = by_trial[f"maml #{number}"]
        spent = rows[number]["training"]
        assert trial.tokens == sum(r.cost.computed_tokens for r in done) + spent["computed_tokens"]
        assert trial.seconds >= spent["seconds"]
    # who takes the learner out of the folder gets the chosen one
    found = find_learner(Path("run"), "maml")
    assert found.params["inner_rate"] == own.best.values["inner_rate"]
    assert found.config.learners["maml"].training is not None
    chosen = own.best.values["training.learning_rate"]
    assert found.config.learners["maml"].training.learning_rate == chosen
    assert icl.open_run("run").tuning is not None


def test_the_report_says_what_was_chosen_and_without_tuning_defaults(tuned: Place) -> None:
    code, out, err = tuned.icl("run", tuned.write(), "--out", "run")
    assert code == 0, err
    for part in (
        "4 trials of each learner",
        "10 validation episodes",
        "nothing to search",
        "level",
    ):
        assert part in out
    page = Path("run/report.html").read_text("utf-8")
    assert "All 9 trials" in page
    assert "split &#39;validation&#39;" in page
    code, out, _ = tuned.icl("report", "run")
    assert "4 trials of each learner" in out
    text = tuned.text.replace("tuning: {trials: 4, episodes: 5}\n", "")
    code, out, err = tuned.icl("run", replace(tuned, text=text).write(), "--out", "plain")
    assert code == 0, err
    assert "Effort: defaults." in out
    assert "Effort: defaults." in Path("plain/report.html").read_text("utf-8")
    code, out, err = tuned.icl("compare", "run", "plain")
    assert code == 0, err
    told = "run by 4 trials of each learner on 10 validation episodes; in plain not at all."
    assert told in out and "These efforts differ" in out
    assert "tuning" not in yaml.safe_load(Path("plain/config.yaml").read_text("utf-8"))


def test_a_journal_that_was_changed_is_not_believed(tuned: Place) -> None:
    run(tuned)
    journal = Path("run/tuning.json")
    text = journal.read_text("utf-8")
    journal.write_text(text.replace('"level": 0', '"level": 1', 1), "utf-8")
    with pytest.raises(IclError, match=r"tuning\.json is missing, or was changed"):
        icl.open_run("run")
    assert tuned.icl("resume", "run")[0] == 0
    assert journal.read_text("utf-8") == text


def test_a_journal_of_other_trials_is_not_this_rosters(tuned: Place) -> None:
    run(tuned)
    run(tuned, out="other", old="trials: 4", new="trials: 2")
    shutil.copy("other/tuning.json", "run/tuning.json")
    with pytest.raises(IclError, match=r"tuning\.json is not what '\w+' in run\.json"):
        icl.open_run("run")


def test_a_dry_run_says_that_trials_multiply_the_work(tuned: Place) -> None:
    path = tuned.write("learners:\n", f"learners:\n{META}")
    code, out, err = tuned.icl("run", path, "--dry-run")
    assert code == 0, err
    assert "Tuning multiplies the work: up to 4 trials" in out
    rows = {
        m[1]: m[2].split() for m in re.finditer(r"^(\S+(?:: \d trials?)?)  +(\d.*)$", out, re.M)
    }
    assert rows["maml: 4 trials"][:3] == ["40", "0", "8"]
    assert rows["maml"][:3] == ["6", "0", "0"]  # handed on
    assert rows["majority: 1 trial"][:3] == ["10", "0", "0"]
    run(tuned, out="runs/tuned", old="learners:\n", new=f"learners:\n{META}")
    code, out, _ = tuned.icl("run", path, "--dry-run")
    rows = {
        m[1]: m[2].split() for m in re.finditer(r"^(\S+(?:: \d trials?)?)  +(\d.*)$", out, re.M)
    }
    assert rows["maml: 4 trials"][:3] == ["40", "40", "0"]
    assert rows["maml"][:3] == ["6", "6", "0"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("episodes: 5", "episodes: 5, split: test", r"field 'tuning.split'.*the split that learn"),
        ("episodes: 5", "episodes: 5, split: vlidation", r"no split 'vlidation'.*'validation'\?"),
        ("episodes: 5", "episodes: 0", r"field 'tuning.episodes'.*greater than or equal to 1"),
        ("trials: 4", "trails: 4", r"field 'tuning.trails'.*Did you mean 'trials'\?"),
        (
            "tfidf}",
            "tfidf, search: {c: [1]}}",
            r"'learners.tfidf.search'.*'c', which is no par.*Known: C",
        ),
        ("tfidf}", "tfidf, search: {C: [1, -1]}}", r"gives 'C' the value -1:.*greater than 0"),
        ("tfidf}", "tfidf, search: {C: []}}", r"gives 'C' no values"),
        ("tfidf}", "tfidf, search: {C: [1, 1.0]}}", r"or one twice"),
        (
            "tfidf}",
            "tfidf, search: {training.steps: [1]}}",
            r"'training.steps', which.*not meta-trained; drop it",
        ),
        ("tuning: {trials: 4, episodes: 5}\n", "", None),
        (
            "tfidf}",
            "fomaml, search: {training.steps: [0]}}",
            r"gives 'training.steps' the value 0:.*greater than or equal to 1",
        ),
    ],
)
def test_bad_input_is_told_in_one_sentence_before_anything_loads(
    old: str, new: str, told: str | None, tuned: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icl.models.loading import load as loading

    monkeypatch.setattr(loading, "load_backbone", must_not_load)
    if told is None:  # a search that nothing asks for
        text = tuned.text.replace("tfidf}", "tfidf, search: {C: [1]}}")
        tuned, told = replace(tuned, text=text), r"search.*is for `tuning`, which is missing"
    code, out, err = tuned.icl("run", tuned.write(old, new), "--out", "run")
    assert code == 2, (out, err)
    assert re.search(told, " ".join(err.split())), err
    assert not Path("run/records.jsonl").exists()


def test_what_is_asked_at_test_is_no_validation_episode(
    tuned: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icl.models.loading import load as loading

    monkeypatch.setattr(loading, "load_backbone", must_not_load)
    # the validation split has the very texts of a test language
    shared = Path("data").resolve()
    Path("data").unlink()
    shutil.copytree(shared, "data")
    shutil.copy("data/cc/all.jsonl", "data/bb/all.jsonl")
    code, _, err = tuned.icl("run", tuned.write(), "--out", "run")
    assert code == 2
    assert "hold a text that is asked at test" in " ".join(err.split())
    assert "drop_leaks" in err


def test_items_of_splits_that_promise_nothing_are_not_shared(tuned: Place) -> None:
    """The ids of all languages are the same: translations, which only `language` excuses."""
    family = tuned.family.replace("  - [validation, test, language]\n", "")
    code, _, err = tuned.icl("run", tuned.write(family=family), "--out", "run")
    assert code == 2
    assert "hold an item that is asked at test" in " ".join(err.split())
    assert "tuning.split" in err


def test_saved_episodes_of_the_split_are_refused(tuned: Place) -> None:
    run(tuned)
    saved = "file: run/tuning/episodes.jsonl\n  ways: 3"
    drawn = EXPERIMENT[EXPERIMENT.index("  ways: 3") : EXPERIMENT.index("tuning:")]
    few = replace(
        tuned, text=tuned.text.replace("episodes: 5}", "episodes: 5, shots: [1], queries: 3}")
    )
    code, _, err = few.icl("run", few.write(drawn, f"  {saved}\n"), "--out", "again")
    assert code == 2
    assert "which the saved episodes are of" in " ".join(err.split())
    code, _, err = tuned.icl("run", tuned.write(drawn, f"  {saved}\n"), "--out", "again")
    assert code == 2
    assert "saved episodes do not tell it" in " ".join(err.split())
    drawn_ones = f"  {saved.replace('run/tuning', 'run')}\n"
    code, _, err = few.icl("run", few.write(drawn, drawn_ones), "--out", "again")
    assert code == 0, err
