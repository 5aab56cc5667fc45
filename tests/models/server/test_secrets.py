"""The server's key goes to the server and nowhere else."""

from __future__ import annotations

import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from icl.errors import IclError
from icl.experiments.config import load_config
from icl.experiments.experiment import run_experiment
from icl.models.server.config import ServerConfig
from icl.models.server.secret import Secret
from tests.models.server.fake import FakeServer, Fault, connect

KEY = "sk-planted-0123456789-abcdefghij"
CONFIG = """
schema_version: 1
name: served
model:
  name: tiny
  server: {{url: "{url}", key_env: PLANTED_KEY, retries: 1{more}}}
tasks: {{family: cldr}}
episodes: {{count: 2, ways: 3, shots: [1], queries: 3, tasks: [word-kind], languages: [sw]}}
learners:
  in-context: {{method: in-context}}
"""


def config(server: FakeServer, folder: Path, more: str = "") -> Any:
    path = folder / "served.yaml"
    path.write_text(CONFIG.format(url=server.url, more=more))
    return load_config(path)


def everything_under(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANTED_KEY", KEY)


def test_a_run_leaves_no_key_in_its_folder_nor_in_the_cache(
    server: FakeServer, planted: None, tmp_path: Path, capfd: Any, caplog: Any
) -> None:
    pytest.importorskip("babel", reason="the extra `offline` is not installed")
    caplog.set_level(logging.DEBUG)
    server.key = KEY
    run_experiment(config(server, tmp_path), tmp_path / "run", command="icl run served.yaml")
    assert (tmp_path / "run" / "report.html").exists()
    # the folder, the config, and the cache of replies all lie under tmp_path
    assert KEY.encode() not in everything_under(tmp_path)
    shown = "".join(capfd.readouterr()) + caplog.text
    assert KEY not in shown
    assert server.log  # the key did reach the server


def test_a_run_that_fails_leaves_no_key_in_its_error_log(
    server: FakeServer, planted: None, tmp_path: Path, caplog: Any
) -> None:
    pytest.importorskip("babel", reason="the extra `offline` is not installed")
    caplog.set_level(logging.DEBUG)
    server.key = KEY
    server.most_logprobs, server.tokenizes = 0, False

    def refuse(body: dict[str, Any]) -> str | None:
        return f"Incorrect API key provided: {KEY}" if "Word" in str(body["prompt"]) else None

    server.refuses = refuse
    with pytest.raises(IclError) as caught:
        run_experiment(config(server, tmp_path), tmp_path / "run", command="icl run")
    assert "[key]" in str(caught.value)
    told = "".join(traceback.format_exception(caught.value))
    assert KEY not in told + caplog.text
    assert (tmp_path / "run" / "error.log").exists()
    assert KEY.encode() not in everything_under(tmp_path)


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_a_wrong_key_is_not_repeated(server: FakeServer, planted: None, api: Any) -> None:
    server.key = "another"  # this server tells what it was given
    with pytest.raises(IclError, match="refuses the key in 'PLANTED_KEY'") as caught:
        connect(server, key_env="PLANTED_KEY", api=api)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert "[key]" in str(caught.value)


def test_a_reply_that_holds_the_key_is_cleaned(
    server: FakeServer, planted: None, tmp_path: Path
) -> None:
    model = connect(server, key_env="PLANTED_KEY")
    server.faults = [Fault(200, body='{"choices": [{"text": "' + KEY + '"}]}')]
    assert model.write(["Word:"], max_new_tokens=2) == [["[key]"]]
    assert KEY.encode() not in everything_under(tmp_path)


def test_a_reply_that_writes_the_key_in_another_way_is_cleaned(
    server: FakeServer, planted: None, tmp_path: Path
) -> None:
    model = connect(server, key_env="PLANTED_KEY")
    escaped = KEY.replace("-", "\\u002d")
    server.faults = [Fault(200, body='{"choices": [{"text": "' + escaped + '"}]}')]
    assert model.write(["Word:"], max_new_tokens=2) == [["[key]"]]
    assert KEY.encode() not in everything_under(tmp_path)


def test_a_key_at_the_end_of_what_is_shown_leaves_no_part(
    server: FakeServer, planted: None
) -> None:
    model = connect(server, key_env="PLANTED_KEY")
    server.faults = [Fault(400, body='{"error": "' + "x" * 290 + " " + KEY + '"}')]
    with pytest.raises(IclError) as caught:
        model.write(["Word:"], max_new_tokens=2)
    assert KEY[:6] not in str(caught.value)


@pytest.mark.parametrize("value", ["two words", "line\nbreak", "umlaut-ü"])
def test_what_no_header_can_carry_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("PLANTED_KEY", value)
    with pytest.raises(IclError, match="PLANTED_KEY") as caught:
        Secret("PLANTED_KEY")
    assert value not in str(caught.value)


def test_a_key_that_is_not_set_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PLANTED_KEY", raising=False)
    with pytest.raises(IclError, match="'PLANTED_KEY', named by `key_env`, is not set"):
        Secret("PLANTED_KEY")


def test_a_key_shows_in_no_representation_and_is_not_pickled(planted: None) -> None:
    secret = Secret("PLANTED_KEY")
    assert KEY not in repr(secret) + str(secret) + f"{secret!r:>40}"
    assert not hasattr(secret, "__dict__")
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    "wrong",
    [
        {"key_env": KEY},
        {"url": f"https://user:{KEY}@host/v1"},
        {"url": f"https://host/v1?api_key={KEY}"},
        {"key": KEY},
        {"api": KEY},
    ],
)
def test_a_key_in_the_configuration_is_refused_and_not_repeated(
    wrong: dict[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ValidationError) as caught:
        ServerConfig.model_validate({"url": "http://host/v1"} | wrong)
    assert KEY not in str(caught.value)
    fields = ", ".join(f"{k}: '{v}'" for k, v in ({"url": "http://host/v1"} | wrong).items())
    path = tmp_path / "wrong.yaml"
    path.write_text(
        f"schema_version: 1\nname: x\nmodel: {{name: m, server: {{{fields}}}}}\n"
        "tasks: {family: cldr}\nepisodes: {count: 1, ways: 2, shots: [1], queries: 1}\n"
        "learners: {a: {method: majority}}\n"
    )
    with pytest.raises(IclError, match=r"line 3, field 'model\.server") as told:
        load_config(path)
    assert KEY not in str(told.value)
