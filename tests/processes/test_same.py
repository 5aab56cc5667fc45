"""Any number of processes: the same gradients, the same training, the same records."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from icl.runs.store import RecordStore, same_outcomes
from tests import forked
from tests.evaluation import small_run
from tests.processes import jobs


def gradients(
    folder: Path, count: int, batches: dict[str, int], packed: bool = False, double: bool = False
) -> dict[str, list[torch.Tensor]]:
    """Return each process's meta-gradient of each method, as one vector."""
    group = forked.start_group(count, jobs.gradients, folder, batches, packed, double)
    assert forked.finish(group) == [0] * count
    return {
        method: [
            torch.load(folder / f"{method}.{count}.{i}.pt", weights_only=True) for i in range(count)
        ]
        for method in batches
    }


def off(own: torch.Tensor, whole: torch.Tensor) -> float:
    """Return how far a gradient is from another, in terms of its norm."""
    return float((own - whole).norm() / whole.norm())


def test_meta_gradients_are_the_same_for_1_2_and_3_processes(tmp_path: Path) -> None:
    """A batch of 4 is uneven for 3 processes; of 2, one of them gets no episode.

    The loss of `multitask` joins its episodes, so that all processes compute it in full.
    """
    batches = {"maml": 4, "meta-prototypes": 2, "snail": 5, "multitask": 4}
    alone = gradients(tmp_path, 1, batches)
    for count in (2, 3):
        for method, found in gradients(tmp_path, count, batches).items():
            (whole,) = alone[method]
            assert float(whole.norm()) > 1e-3
            assert all(torch.equal(own, found[0]) for own in found)
            assert off(found[0], whole) < 1e-6, method


def test_gradients_of_whole_shares_differ_by_rounding_alone(tmp_path: Path) -> None:
    """On a GPU each process runs its share as one pass, and passes of other sizes round otherwise.

    Where the model computes in double precision, the gradients, in single, are the same.
    """
    for double, limit in ((False, 5e-5), (True, 2e-7)):
        (whole,) = gradients(tmp_path, 1, {"maml": 4}, True, double)["maml"]
        for own in gradients(tmp_path, 3, {"maml": 4}, True, double)["maml"]:
            assert off(own, whole) < limit


def test_training_is_the_same_to_the_bit(tmp_path: Path) -> None:
    """So is the state that a look at three validation episodes keeps."""
    look = {"split": "test", "episodes": 3, "every": 1}
    train = partial(jobs.train, validation=look)
    digests = set()
    for count in (1, 2, 3):
        folder = tmp_path / str(count)
        folder.mkdir()
        assert forked.finish(forked.start_group(count, train, folder)) == [0] * count
        digests |= {f.read_text() for f in folder.glob("digest.*")}
    assert len(digests) == 1


def test_records_are_the_same_for_1_2_and_3_processes(tmp_path: Path) -> None:
    """With one index of two shots, three processes share two episodes, and one gets none."""
    episodes = 1
    for count in (1, 2, 3):
        folder = tmp_path / str(count)
        assert forked.finish(forked.start_group(count, jobs.run, folder, episodes)) == [0] * count
    alone = RecordStore(tmp_path / "1").read()
    assert len(alone) == 2 * episodes * len(small_run.LEARNERS)
    for count in (2, 3):
        assert not list((tmp_path / str(count)).glob("records.*.jsonl"))
        assert same_outcomes(alone, RecordStore(tmp_path / str(count)).read())
        same = (tmp_path / str(count) / "episodes.jsonl").read_bytes()
        assert same == (tmp_path / "1" / "episodes.jsonl").read_bytes()


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    quick = ("majority", "prototypes")
    assert forked.finish(forked.start_group(1, jobs.run, tmp_path / "whole", 3, quick)) == [0]
    assert forked.finish(forked.start_group(3, jobs.run, tmp_path / "grown", 1, quick)) == [0] * 3
    first = RecordStore(tmp_path / "grown").read()
    assert forked.finish(forked.start_group(2, jobs.run, tmp_path / "grown", 3, quick)) == [0] * 2
    whole, grown = (RecordStore(tmp_path / name).read() for name in ("whole", "grown"))
    assert same_outcomes(whole, grown)
    assert grown[: len(first)] == first  # nothing is done twice
