"""Episodes survive a trip through `datasets` and Parquet."""

from __future__ import annotations

from pathlib import Path

import pytest

from icl.episodes import EpisodeSampler
from icl.episodes.as_dataset import from_dataset, to_dataset
from icl.errors import IclError
from tests.episodes.test_episode import episode as odd_episode
from tests.episodes.toy_families import regular_family

datasets = pytest.importorskip("datasets")


def test_episodes_come_back_with_their_fingerprints(tmp_path: Path) -> None:
    sampler = EpisodeSampler(regular_family(), "test", ways=3, shots=(0, 2), queries=5)
    episodes = [*sampler.episodes(4), odd_episode()]
    to_dataset(episodes).to_parquet(tmp_path / "episodes.parquet")
    table = datasets.Dataset.from_parquet(
        str(tmp_path / "episodes.parquet"), cache_dir=str(tmp_path)
    )
    back = list(from_dataset(table))
    assert back == episodes
    assert [e.fingerprint for e in back] == [e.fingerprint for e in episodes]


def test_a_dataset_of_something_else_is_told() -> None:
    with pytest.raises(IclError, match=r"no column 'task'.*Did you mean 'tasks'"):
        from_dataset(datasets.Dataset.from_dict({"tasks": ["a"]}))
