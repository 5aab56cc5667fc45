"""Tasks, episodes and prompts for other programs: lm-eval scores them with the same predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import icl
from icl.episodes import Episode
from icl.errors import IclError
from icl.exchange.formats import dspy_rows, export_episodes, export_task, prompt_rows
from icl.learners import make
from icl.tasks.loaded import TaskFamily
from tests import tiny
from tests.place import FAMILY, LABELS, Place

# The tiny tokenizer has tokens that span "Kind:" and an answer; there lm-eval scores fewer tokens.
APART = FAMILY.replace("Kind:", "Kind?")


@pytest.fixture
def family(place: Place) -> TaskFamily:
    (place.folder / "things.yaml").write_text(APART)
    return icl.load_task(place.folder / "things.yaml", data=place.folder / "data")


@pytest.fixture
def episodes(family: TaskFamily) -> list[Episode]:
    return icl.episodes.draw(family, ways=3, shots=[0, 2], queries=4, count=2)


def lm_eval(folder: Path, names: list[str], model: Path) -> dict[str, Any]:
    """Score tasks of a folder with lm-eval's own Python interface; return what it says."""
    pytest.importorskip("lm_eval", reason="the extra `peers` is not installed")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    peer = HFLM(pretrained=str(model), batch_size=4, device="cpu", add_bos_token=True)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = simple_evaluate(model=peer, tasks=names, task_manager=manager, log_samples=True,
                            bootstrap_iters=0)  # fmt: skip
    assert found is not None
    return dict(found)


def scores(samples: list[dict[str, Any]]) -> dict[str, list[float]]:
    return {s["doc"]["id"]: [float(answer[0]) for answer in s["filtered_resps"]] for s in samples}


def test_lm_eval_reads_tasks_and_predicts_what_zero_shot_does(
    place: Place,
    family: TaskFamily,
) -> None:
    out = place.folder / "lm"
    files = export_task(family, "test", out, languages=["cc"])
    name = files[0].stem
    found = lm_eval(out, [files[-1].stem], place.folder / "model")
    theirs = scores(found["samples"][name])
    task = family.load("kind", "cc")
    examples = family.examples("test", "kind", "cc")
    assert theirs.keys() == {e.id for e in examples}
    from icl.tasks.task import Labels

    labels = Labels(task.labels, tuple(task.words[n] for n in task.labels), task.template)
    predictor = make("zero-shot", tiny.backbone()).adapt([], labels)
    ours = predictor.log_probs([e.fields for e in examples])
    same = torch.tensor([theirs[e.id] for e in examples]).log_softmax(1)
    torch.testing.assert_close(ours, same, atol=1e-3, rtol=0)
    assert (ours.argmax(1) == same.argmax(1)).all()
    gold = torch.tensor([task.labels.index(e.label) for e in examples])
    accuracy = (ours.argmax(1) == gold).float().mean().item()
    assert found["results"][name]["acc,none"] == pytest.approx(accuracy)


def test_lm_eval_scores_episodes_as_in_context_learning_does(
    place: Place,
    episodes: list[Episode],
) -> None:
    path = export_episodes(episodes, place.folder / "lm", "my episodes")
    assert path.name == "my_episodes.yaml"
    theirs = scores(lm_eval(path.parent, [path.stem], place.folder / "model")["samples"][path.stem])
    learner = make("in-context", tiny.backbone())
    for episode in episodes:
        ours = learner.adapt(episode.support, episode.labels).log_probs(
            [e.fields for e in episode.query]
        )
        rows = [theirs[f"{episode.fingerprint}/{e.id}"] for e in episode.query]
        torch.testing.assert_close(ours, torch.tensor(rows).log_softmax(1), atol=1e-3, rtol=0)


def test_prompts_hold_each_query_with_its_demonstrations(episodes: list[Episode]) -> None:
    rows = list(prompt_rows(episodes))
    assert len(rows) == sum(len(e.query) for e in episodes)
    for row in rows:
        assert row["prompt"].count("Kind?") == 3 * row["shots"] + 1
        assert row["choices"][row["gold"]].strip() in LABELS


def test_rows_for_dspy_hold_all_examples_with_words(episodes: list[Episode]) -> None:
    for row, episode in zip(dspy_rows(episodes), episodes, strict=True):
        assert row["inputs"] == ["text"]
        for shown, example in zip(row["queries"], episode.query, strict=True):
            assert shown == {"text": example.fields["text"], "label": example.label}
        assert len(row["demos"]) == len(episode.support)


def test_the_commands_write_every_form(place: Place) -> None:
    (place.folder / "things.yaml").write_text(APART)
    data = ("--data", place.folder / "data")
    code, said, _ = place.icl("tasks", "export", "things.yaml", "lm", *data)
    assert code == 0
    assert "2 tasks" in said
    assert len(list((place.folder / "lm").glob("*.yaml"))) == 3
    made = place.icl("episodes", "make", "things.yaml", "--out", "set", "--ways", 2, "--shots",
                     "0,1", "--queries", 2, "--count", 2, *data)  # fmt: skip
    assert made[0] == 0
    assert place.icl("episodes", "export", "set", "p.jsonl", "--to", "prompts")[0] == 0
    assert len((place.folder / "p.jsonl").read_text().splitlines()) == 8
    assert place.icl("episodes", "export", "set", "d.jsonl", "--to", "dspy")[0] == 0
    rows = [json.loads(x) for x in (place.folder / "d.jsonl").read_text().splitlines()]
    assert [len(row["demos"]) for row in rows] == [0, 2, 0, 2]
    assert place.icl("episodes", "export", "set", "e", "--to", "lm-eval")[0] == 0
    assert (place.folder / "e" / "icl_set.yaml").is_file()
    said = place.refusal("episodes", "export", "set", "x", "--to", "lm-evl")
    assert "Did you mean 'lm-eval'" in said
    assert "can be exported to lm-eval" in place.refusal(
        "tasks", "export", "things.yaml", "lm", "--to", "x", *data
    )


def test_what_has_no_choices_is_refused(tmp_path: Path, family: TaskFamily) -> None:
    with pytest.raises(IclError, match="no split"):
        export_task(family, "tests", tmp_path)
    with pytest.raises(IclError, match="no examples"):
        export_episodes([], tmp_path, "none")
