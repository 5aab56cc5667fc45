"""Saved episode sets come back whole, and what was spoilt is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from icl.episodes import Composition, EpisodeSampler, Setting
from icl.episodes.files import EpisodeSet, open_episodes, save_episodes, write_set
from icl.episodes.splits import without_leaks
from icl.errors import IclError
from icl.tasks.loaded import Split, TaskFamily
from tests.episodes.toy_families import make_family, regular_family

FAMILY = regular_family()


def sampler(family: TaskFamily = FAMILY, **changes: object) -> EpisodeSampler:
    arguments: dict[str, object] = {"ways": 3, "shots": (0, 2), "queries": 6, "seed": 5}
    return EpisodeSampler(family, "test", **(arguments | changes))  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path: Path) -> EpisodeSet:
    return save_episodes(tmp_path / "set", sampler(), 9, source="toy")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"setting": Setting("cross-lingual", "en"), "tasks": ["task1"], "languages": ["sw", "fr"]},
        {"composition": Composition(max_ways=5, vary_shots=True, imbalance=2.0), "near": 0.9},
    ],
)
@pytest.mark.parametrize("variant", [None, "shuffled-labels"])
def test_a_set_reads_back_and_draws_again_the_same(
    tmp_path: Path, changes: dict[str, object], variant: str | None
) -> None:
    save_episodes(tmp_path / "set", sampler(**changes), 7, variant=variant)
    opened = open_episodes(tmp_path / "set")
    assert len(opened) == len(list(opened)) == 14
    if variant is None:
        assert list(opened) == list(sampler(**changes).episodes(7))
    opened.check()
    opened.check_again(FAMILY)


def test_two_sets_of_one_seed_are_the_same_bytes(tmp_path: Path, saved: EpisodeSet) -> None:
    save_episodes(tmp_path / "again", sampler(), 9, source="toy")
    for name in ("episodes.jsonl", "manifest.json"):
        assert (tmp_path / "again" / name).read_bytes() == (saved.path / name).read_bytes()


def test_a_set_drawn_without_leaks_remembers_so(tmp_path: Path) -> None:
    rows = [(str(i), f"{'ab'[i % 2]}{i}", f"text {i // 2}", "xy"[i // 2 % 2]) for i in range(60)]
    rows += [(str(i), f"a{i}", f"text {i}", "xy"[i % 2]) for i in range(60, 90)]
    splits = {
        name: Split(name, ("t",), ("en",), lambda _t, _l, item, sort=sort: item[0] == sort)
        for name, sort in (("train", "a"), ("test", "b"))
    }
    family = make_family({("t", "en"): rows}, "xy", splits)
    clean = without_leaks(family)
    drawn = EpisodeSampler(clean, "train", ways=2, shots=(2,), queries=4)
    saved = save_episodes(tmp_path / "set", drawn, 5, dropped_leaks=True)
    assert all(int(e.id) >= 60 for episode in saved for e in (*episode.support, *episode.query))
    saved.check_again(family)


def spoil(saved: EpisodeSet, change: str, *, honest: bool = True) -> None:
    """Change a line of a set; with a new hash in the manifest where the spoiler is thorough."""
    import hashlib

    file = saved.path / "episodes.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines()
    episode = json.loads(lines[1])
    if change == "leak":
        episode["query"][0] = episode["support"][0]
    elif change == "text":
        episode["query"][0]["fields"] = {"text": episode["support"][0]["fields"]["text"].upper()}
    elif change == "twice":
        episode["query"][0] = episode["query"][1]
    elif change == "label":
        episode["query"][0]["label"] = "odd"
    elif change == "unpaired":
        episode["query"] = episode["query"][::-1]
    elif change == "no query":
        episode["query"] = []
    lines[1] = "{" if change == "broken" else json.dumps(episode)
    if change == "cut":
        lines = lines[:-1]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if honest:
        manifest = json.loads((saved.path / "manifest.json").read_text())
        manifest["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        (saved.path / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("leak", "line 2: the episode 0 with 2 shots has the id"),
        ("text", "has the normalised text"),
        ("twice", "holds the example .* twice"),
        ("label", "'odd', which is not one of its labels"),
        ("unpaired", "other labels, queries or pool than the one with 0 shots"),
        ("no query", "has no query"),
        ("broken", "line 2 is not an episode"),
        ("cut", "has 17 lines where manifest.json says 18"),
    ],
)
def test_a_spoilt_set_is_told(saved: EpisodeSet, change: str, words: str) -> None:
    spoil(saved, change)
    with pytest.raises(IclError, match=words):
        open_episodes(saved.path).check()


def test_changed_bytes_are_told(saved: EpisodeSet) -> None:
    spoil(saved, "none", honest=False)
    with pytest.raises(IclError, match="SHA-256 differs"):
        open_episodes(saved.path).check()


def test_an_episode_changed_with_its_hash_is_found_by_drawing_again(saved: EpisodeSet) -> None:
    spoil(saved, "none")  # the same values, other blanks
    spoilt = open_episodes(saved.path)
    spoilt.check()
    with pytest.raises(IclError, match="line 2 is not what the sampler draws again"):
        spoilt.check_again(FAMILY)


def test_other_data_is_found_by_its_hash(saved: EpisodeSet) -> None:
    with pytest.raises(IclError, match=r"not what .* was drawn from"):
        saved.check_again(regular_family(each=13))


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        ("", "cannot be read"),
        ("[]", "schema version None"),
        ('{"schema_version": 99}', "schema version 99"),
        ('{"schema_version": 1, "episodes": 1}', "lacks the field 'sha256'"),
    ],
)
def test_a_bad_manifest_is_told(saved: EpisodeSet, manifest: str, words: str) -> None:
    (saved.path / "manifest.json").write_text(manifest)
    with pytest.raises(IclError, match=words):
        open_episodes(saved.path)


def test_a_folder_that_is_there_is_kept_unless_told(tmp_path: Path, saved: EpisodeSet) -> None:
    with pytest.raises(IclError, match="exists"):
        save_episodes(saved.path, sampler(), 2)
    assert len(save_episodes(saved.path, sampler(), 2, overwrite=True)) == 4
    (tmp_path / "mine").mkdir()
    with pytest.raises(IclError, match="is not an episode set and stays"):
        save_episodes(tmp_path / "mine", sampler(), 2, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "set"], "nothing left behind"


def test_an_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IclError, match="cannot be written"):
        save_episodes(tmp_path / "file" / "set", sampler(), 2)


def test_any_episodes_make_a_set_that_can_be_checked_but_not_drawn_again(tmp_path: Path) -> None:
    saved = write_set(tmp_path / "set", sampler().episodes(2))
    saved.check()
    with pytest.raises(IclError, match="names no sampler"):
        saved.sampler(FAMILY)


def test_a_writer_killed_midway_leaves_no_set(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.episodes.test_files import sampler;"
        "from icl.episodes.files import save_episodes;"
        "print('go', flush=True); save_episodes(Path(sys.argv[1]), sampler(), 10**6)"
    )
    here = Path(__file__).parent
    path = tmp_path / "set"
    environment = {**os.environ, "PYTHONPATH": f"{here.parents[1]}{os.pathsep}{here}"}
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=environment
    )
    assert writer.stdout is not None
    writer.stdout.readline()
    while not list(tmp_path.glob(".set.*/set/episodes.jsonl")):
        time.sleep(0.02)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert not path.exists()
    save_episodes(path, sampler(), 2).check()
