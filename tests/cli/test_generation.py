"""`icl run` on a generation task, from the definition to the report."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from icl.learners.registry import make
from icl.metrics.written import scores
from icl.models.loading.load import load_backbone
from icl.runs.folder import RunFolder
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore
from tests import tiny
from tests.place import run_icl

Patch = pytest.MonkeyPatch
Capture = pytest.CaptureFixture[str]

FAMILY = """\
schema_version: 1
name: echoes
description: the last word again
licence: CC0-1.0
sources:
  - {type: directory, root: ., file: "{language}.csv", columns: {label: word, fields: {text: text}}}
data: [all]
tasks:
  echo:
    kind: generation
    metrics: [token_f1, chrf, exact_match]
    template: {input: "Text: {{ text }}\\nWord:"}
  length:
    labels: [short, long]
    columns: {label: size}
    template: {input: "Text: {{ text }}\\nSize:"}
splits:
  test: {languages: [aa, bb]}
"""

EXPERIMENT = """\
schema_version: 1
name: writing
model: {name: MODEL}
tasks: {family: FAMILY}
episodes:
  tasks: [echo]
  ways: 2
  shots: [0, 2]
  queries: 4
  count: 3
  settings: [{name: within}]
learners:
  zero-shot: {method: zero-shot, max_new_tokens: 4}
  in-context: {method: in-context, max_new_tokens: 4}
  voted: {method: in-context, max_new_tokens: 4, samples: 3, temperature: 1.0}
"""


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    tiny.save(folder / "model")
    (folder / "echoes.yaml").write_text(FAMILY)
    for language in ("aa", "bb"):
        rows = [(f"{language} {i} {'mat' * (i % 3 + 1)}", "mat" * (i % 3 + 1)) for i in range(24)]
        lines = [f"{text},{word},{'short' if word == 'mat' else 'long'}" for text, word in rows]
        (folder / f"{language}.csv").write_text("text,word,size\n" + "\n".join(lines) + "\n")
    return folder


def write(material: Path, folder: Path, old: str = "", new: str = "") -> Path:
    assert old in EXPERIMENT
    text = EXPERIMENT.replace(old, new, 1).replace("MODEL", str(material / "model"))
    path = folder / "writing.yaml"
    path.write_text(text.replace("FAMILY", str(material / "echoes.yaml")))
    return path


def test_learners_that_write_are_compared_on_the_same_generation_episodes(
    material: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    pytest.importorskip("sacrebleu")
    run = tmp_path / "run"
    assert run_icl(monkeypatch, "run", write(material, tmp_path), "--out", run) == 0
    said = capsys.readouterr().out
    assert "Token F1" in said and "chrF" in said and "Exact match" in said
    records = RecordStore(run).read()
    episodes = {e.fingerprint: e for e in RunFolder(run).episodes()}
    assert len(episodes) == 6 and len(records) == 18
    backbone = load_backbone(str(material / "model"))
    for record in records:
        episode = episodes[record.fingerprint]
        assert record.scored and record.metrics == ("token_f1", "chrf", "exact_match")
        assert record.references == tuple(e.label for e in episode.query)
        for metric in record.metrics:
            assert record.outcomes(metric) == scores(metric, record.texts, record.references)
        if record.learner == "in-context":
            learner = make("in-context", {"max_new_tokens": 4}, backbone)
            predictor = learner.adapt(episode.support, episode.labels)
            assert list(record.texts) == predictor.generate([e.fields for e in episode.query])
        assert record.cost.computed_tokens > 0
    assert len({text for record in records for text in record.texts}) > 2
    page = (run / "report.html").read_text("utf-8")
    assert (
        "Token F1 by shots" in page and "chance" not in page.split("</style>")[1].split("<pre>")[0]
    )
    before = (run / "records.jsonl").read_bytes()
    assert run_icl(monkeypatch, "run", write(material, tmp_path), "--out", run) == 0
    assert (run / "records.jsonl").read_bytes() == before
    assert run_icl(monkeypatch, "report", run) == 0


def test_a_run_may_hold_both_kinds_of_task(
    material: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    pytest.importorskip("sacrebleu")
    path = write(material, tmp_path, "tasks: [echo]", "tasks: [echo, length]")
    path.write_text(path.read_text().replace("shots: [0, 2]", "shots: [1]"))
    run = tmp_path / "run"
    assert run_icl(monkeypatch, "run", path, "--out", run) == 0
    said = capsys.readouterr().out
    assert "Accuracy" in said and "Token F1" in said and "chance 50.0" in said
    records = RecordStore(run).read()
    assert {record.scored for record in records} == {True, False}
    kinds = {json.loads(line)["schema_version"] for line in (run / "records.jsonl").open()}
    assert kinds == {4}


def test_answers_that_were_judged_by_other_metrics_are_not_taken_for_these(
    material: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    definition = tmp_path / "echoes.yaml"
    text = FAMILY.replace("[token_f1, chrf, exact_match]", "[exact_match]")
    definition.write_text(text.replace("root: .", f"root: {material}"))
    path = write(material, tmp_path, "  voted: {method", "  # voted: {method")
    path.write_text(path.read_text().replace(str(material / "echoes.yaml"), str(definition)))
    run = tmp_path / "run"
    assert run_icl(monkeypatch, "run", path, "--out", run) == 0
    definition.write_text(definition.read_text().replace("[exact_match]", "[token_f1]"))
    capsys.readouterr()
    assert run_icl(monkeypatch, "run", path, "--out", run) == 0
    said = capsys.readouterr().out
    assert "Token F1" in said and "Exact match" not in said


def test_learners_that_cannot_write_are_refused_before_a_model_loads(
    material: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    path = write(material, tmp_path, "learners:", "learners:\n  near: {method: prototypes}")
    monkeypatch.setattr("icl.models.loading.load.load_backbone", None)
    assert run_icl(monkeypatch, "run", path, "--out", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert "'near' labels queries by the method 'prototypes'" in said
    assert len(said.strip().splitlines()) == 1


def test_a_missing_library_is_told_before_a_model_loads(
    material: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    monkeypatch.setattr("icl.models.loading.load.load_backbone", None)
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    path = write(material, tmp_path)
    assert run_icl(monkeypatch, "run", path, "--out", tmp_path / "run") == 2
    assert "install icl with the extra `generation`" in capsys.readouterr().err


def test_a_predictor_that_only_labels_is_not_asked_to_write(material: Path) -> None:
    from icl.episodes import Episode
    from icl.errors import IclError
    from icl.runs.judge import judge
    from icl.tasks.kinds.generation import Generation
    from icl.tasks.task import Example, Labels
    from icl.tasks.template import Template

    query = (Example("1", {"text": "a"}, "b", "aa", "1"),)
    labels = Labels((), (), Template("{{ text }}"))
    kind = Generation(metrics=("exact_match",))
    episode = Episode("echo", labels, (), query, 0, 0, 0, "test", "within", "aa", "aa", kind=kind)
    backbone = tiny.backbone()
    with pytest.raises(IclError, match="cannot write the answers"):
        judge(make("majority", {}, backbone), "m", "k", episode, backbone)
    writer = make("zero-shot", {"max_new_tokens": 2}, backbone)
    record = judge(writer, "z", "k", episode, backbone)
    assert EpisodeRecord.from_json(record.to_json()) == record
    # saved before episodes said their kind and metrics
    old = json.loads(episode.to_json())
    assert old.pop("kind") == {"name": "generation", "metrics": ["exact_match"]}
    read = Episode.from_json(json.dumps(old))
    assert read == replace(episode, kind=Generation())
    with pytest.raises(IclError, match=r"is judged by nothing.*draw the episodes again"):
        judge(writer, "z", "k", read, backbone)


def test_a_dry_run_counts_prompts_and_what_may_be_written(material: Path, tmp_path: Path) -> None:
    from icl.experiments.config import load_config
    from icl.experiments.forecast import forecast

    path = write(material, tmp_path)
    found = {line.learner: line.tokens for line in forecast(load_config(path), tmp_path).lines}
    plain, shown, voted = (found[name] for name in ("zero-shot", "in-context", "voted"))
    assert plain is not None
    assert shown is not None
    # 2 more samples of 4 tokens for each of the 4 queries of 6 episodes
    assert voted == shown + 2 * 4 * 4 * 6
    assert plain < shown


def test_a_dry_run_counts_every_template_order_and_chat_as_they_are_asked(
    material: Path, tmp_path: Path
) -> None:
    from icl.experiments.config import load_config
    from icl.experiments.forecast import forecast

    chatty = tmp_path / "chatty"
    tiny.save(chatty)
    tokenizer = tiny.tokenizer()
    (chatty / "chat_template.jinja").write_text(
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    path = write(
        material,
        tmp_path,
        "learners:",
        """learners:
  three: {method: in-context, max_new_tokens: 4, templates: [question], ensemble_orders: 2}
  chat: {method: in-context, max_new_tokens: 4, chat: turns}
""",
    )
    path.write_text(path.read_text().replace(str(material / "model"), str(chatty)))
    config = load_config(path)
    found = {line.learner: line.tokens for line in forecast(config, tmp_path).lines}
    plain, three, chat = (found[name] for name in ("in-context", "three", "chat"))
    assert plain is not None
    assert three is not None
    assert chat is not None
    assert 3 * plain < three < 5 * plain
    more = len(tokenizer("<end><assistant><user>", add_special_tokens=False)["input_ids"])
    assert chat > plain + 6 * more


@pytest.mark.parametrize(
    ("line", "told"),
    [("calibration: contextual", "`calibration: contextual` is about labels"),
     ("rationale: why", "`rationale: why` names no field")],
)  # fmt: skip
def test_parameters_that_compare_labels_are_refused_before_a_model_loads(
    line: str, told: str, material: Path, tmp_path: Path, monkeypatch: Patch, capsys: Capture
) -> None:
    path = write(material, tmp_path, "{method: in-context, ", f"{{method: in-context, {line}, ")
    monkeypatch.setattr("icl.models.loading.load.load_backbone", None)
    assert run_icl(monkeypatch, "run", path, "--out", tmp_path / "run") == 2
    said = capsys.readouterr().err
    assert f"The learner 'in-context', on the task 'echo': {told}" in said
    assert len(said.strip().splitlines()) == 1
