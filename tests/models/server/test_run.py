"""Experiments on a server's model: same methods, resumed, budgeted, honest in the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from icl.errors import IclError
from icl.experiments.config import ExperimentConfig, load_config
from icl.experiments.experiment import run_experiment
from icl.models.server.config import ServerConfig
from icl.models.server.model import ServerModel
from icl.runs.record import EpisodeRecord
from icl.runs.store import RecordStore
from tests import tiny, tiny_encoders
from tests.models.server.fake import FakeServer

pytest.importorskip("babel", reason="the extra `offline` is not installed")

CONFIG = """
schema_version: 1
name: served
model:
{model}
tasks: {{family: cldr}}
episodes: {{count: 2, ways: 2, shots: [1], queries: 2, tasks: [word-kind], languages: [sw]}}
learners:
  majority: {{method: majority}}
  zero-shot: {{method: zero-shot}}
  in-context: {{method: in-context}}
  calibrated: {{method: in-context, calibration: contextual, scoring: pmi}}
"""


def write(folder: Path, model: str, **changes: str) -> Path:
    text = CONFIG.format(model=model)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = folder / "served.yaml"
    path.write_text(text)
    return path


def served(server: FakeServer, folder: Path, more: str = "") -> ExperimentConfig:
    model = f"  name: tiny\n  server: {{url: '{server.url}', retries: 0{more}}}"
    return load_config(write(folder, model))


def records(folder: Path) -> dict[tuple[str, str], EpisodeRecord]:
    return {(r.learner, r.fingerprint): r for r in RecordStore(folder).read()}


def test_a_run_on_a_server_equals_the_run_on_the_same_model_here(
    server: FakeServer, tmp_path: Path
) -> None:
    run_experiment(served(server, tmp_path), tmp_path / "there", command="icl run")
    model = f"  name: {tiny.save(tmp_path / 'model')}"
    run_experiment(load_config(write(tmp_path, model)), tmp_path / "here", command="icl run")
    there, here = records(tmp_path / "there"), records(tmp_path / "here")
    assert there.keys() == here.keys()
    assert len(there) == 8
    for key, record in there.items():
        np.testing.assert_allclose(record.log_probs, here[key].log_probs, atol=1e-3)
        assert record.predictions == here[key].predictions
        assert here[key].scoring == {}
        assert record.scoring == {} if key[0] == "majority" else "next-token" in record.scoring
        assert key[0] == "majority" or record.cost.prompt_tokens > 0


def test_a_server_and_a_model_here_stand_together(server: FakeServer, tmp_path: Path) -> None:
    """Each does what it does alone; the model here is let go of, the server's session is not."""
    served_there = f"{{name: tiny, server: {{url: '{server.url}', retries: 0, cache: false}}}}"
    encoder = tiny_encoders.save(tmp_path / "encoder")
    text = CONFIG.format(model="X").replace(
        "model:\nX", f"models:\n  here: {{name: {encoder}}}\n  there: {served_there}"
    )
    for name in ("zero-shot", "in-context"):
        text = text.replace(f"{{method: {name}", f"{{model: there, method: {name}")
    text += "  prototypes: {method: prototypes}\n  after: {method: knn}\n"
    path = tmp_path / "both.yaml"
    path.write_text(text)
    found = run_experiment(load_config(path), tmp_path / "both", command="icl run")
    alone = run_experiment(served(server, tmp_path), tmp_path / "there", command="icl run")
    by_name = {(r.learner, r.fingerprint): r for r in found.records}
    assert len(by_name) == 6 * 2
    for record in alone.records:
        if record.learner != "majority":  # which is on the model here
            other = by_name[record.learner, record.fingerprint]
            assert (other.learner_key, other.log_probs) == (record.learner_key, record.log_probs)
            assert other.cost.prompt_tokens == record.cost.prompt_tokens > 0
    assert {r.model for r in found.summary.overall.rows} == {None, "here", "there"}


def test_a_rerun_asks_for_nothing_and_computes_nothing(server: FakeServer, tmp_path: Path) -> None:
    config = served(server, tmp_path)
    first = run_experiment(config, tmp_path / "run", command="icl run")
    sent = len(server.log)
    again = run_experiment(config, tmp_path / "run", command="icl run")
    assert again.records == first.records
    assert len(server.log) == sent
    # and in another folder every reply is there already
    run_experiment(config, tmp_path / "other", command="icl run")
    assert len(server.log) == sent


def test_a_run_stopped_by_its_budget_goes_on_where_it_was(
    server: FakeServer, tmp_path: Path
) -> None:
    whole = run_experiment(
        served(server, tmp_path, ", cache: false"), tmp_path / "whole", command="icl run"
    )
    part = len(server.log) // 3
    server.log.clear()
    starts = 0
    while True:
        starts += 1
        config = served(server, tmp_path, f", budget: {{requests: {part}}}")
        try:
            found = run_experiment(config, tmp_path / "run", command="icl run")
            break
        except IclError as error:
            assert f"budget of {part} requests is spent" in str(error)
            assert starts < 6
    assert starts > 2
    assert [r.log_probs for r in found.records] == [r.log_probs for r in whole.records]
    sent = [str(sorted(body.items(), key=str)) for body in server.log]
    assert len(set(sent)) == len(sent)  # nothing was paid for twice


@pytest.mark.parametrize(
    "learner",
    [
        "{method: prototypes}",
        "{method: linear-probe}",
        "{method: lora}",
        "{method: fomaml}",
        "{method: in-context, choice: knn, demonstrations: 2}",
    ],
)
def test_what_needs_weights_is_refused_before_anything_is_computed(
    server: FakeServer, tmp_path: Path, learner: str
) -> None:
    model = f"  name: tiny\n  server: {{url: '{server.url}'}}"
    path = write(tmp_path, model, **{"{method: zero-shot}": learner})
    with pytest.raises(
        IclError,
        match=r"line 11, field 'learners.zero-shot.method': .*, a model on a server",
    ):
        load_config(path)
    assert not server.log


@pytest.mark.parametrize(
    "field", ["dtype: bfloat16", "device: cpu", "device_map: auto", "quantise: 4bit"]
)
def test_what_is_for_local_models_is_refused_beside_a_server(tmp_path: Path, field: str) -> None:
    path = write(tmp_path, f"  {{name: tiny, {field}, server: {{url: 'http://h/v1'}}}}")
    with pytest.raises(IclError, match="`device_map`, `quantise` and `trust_remote_code`"):
        load_config(path)


def test_a_cost_does_not_depend_on_the_replies_that_were_kept(
    server: FakeServer, tmp_path: Path
) -> None:
    config = served(server, tmp_path)
    run_experiment(config, tmp_path / "first", command="icl run")
    run_experiment(config, tmp_path / "again", command="icl run")  # all replies are kept by now
    first, again = records(tmp_path / "first"), records(tmp_path / "again")
    for key, record in first.items():
        assert record.cost.computed_tokens == again[key].cost.computed_tokens
        assert again[key].cost.shared_tokens == again[key].cost.computed_tokens
    assert max(record.cost.computed_tokens for record in first.values()) > 0


def test_another_context_is_another_model(server: FakeServer, tmp_path: Path) -> None:
    config = ServerConfig(url=server.url, retries=0)
    short = ServerModel("tiny", config.model_copy(update={"context": 64}))
    assert short.identity != ServerModel("tiny", config).identity


def test_chat_servers_have_no_prompt_tokens_to_score(tmp_path: Path) -> None:
    server = "{url: 'http://h/v1', api: chat, scoring: echo}"
    path = write(tmp_path, f"  name: tiny\n  server: {server}")
    with pytest.raises(IclError, match="a chat server has no 'echo' scoring"):
        load_config(path)


def test_a_configuration_survives_being_written_out(server: FakeServer, tmp_path: Path) -> None:
    config = served(server, tmp_path, ", api: chat, key_env: SOME_KEY, budget: {tokens: 9}")
    path = tmp_path / "again.yaml"
    path.write_text(config.to_yaml())
    assert load_config(path) == ExperimentConfig.model_validate(config.resolved())
    assert load_config(path).model == config.model


def test_scoring_in_a_record_survives_json_and_is_left_out_where_it_is_empty() -> None:
    record: Any = EpisodeRecord(
        "a", "b", "c", "d", "e", "f", "g", 0, 2, 1, "sw", "sw", ("x", "y"), ("1",), ("1",),
        ((-0.5, -0.9),), (0,), (1,), cost=_cost(), scoring={"echo": 2},
    )  # fmt: skip
    assert EpisodeRecord.from_json(record.to_json()) == record
    plain = replace(record, scoring={})
    assert "scoring" not in plain.to_json()
    assert EpisodeRecord.from_json(plain.to_json()) == plain


def _cost() -> Any:
    from icl.runs.record import Cost

    return Cost(1, 1, 0.1, 1.0, 0)
