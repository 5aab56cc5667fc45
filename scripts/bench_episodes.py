"""How fast episodes are drawn, against plain pandas.

Two data sets: the training part of CLINC150 (150 intents, 15,000 texts; found in the folder named
by ICL_TEST_DATA, by default ../shared/data), and a Parquet file of 2 million rows in 1,000 classes
of unequal size that is generated here.

What is timed, for 5-way 5-shot episodes with 15 queries, in one process, in interleaved repeats:

- icl: `EpisodeSampler.episodes`: whole `Episode` objects with their texts. Reading the data and
  building the index come before and are reported apart (`build_seconds`). The Parquet file is
  written once as Arrow (`arrow_seconds`), memory-mapped, and only its index is in memory.
- pandas, plain: from a DataFrame in memory, per episode: choose 5 labels, `isin`, `groupby`,
  `sample` of 8 rows a group, and shuffle. The rows stay a DataFrame; making examples of them,
  which icl's time includes, is left out. Loading and removing duplicate texts come before.
- pandas, groups kept (for the record, not in `speedup`): the same with the groups made once and
  `sample` called on each of the 5.

icl draws all the episodes (100,000 a data set); pandas as many as fit in about the time given by
--seconds a data set, and its time an episode is what is compared. Every timed episode on all
sides is checked after its clock has stopped: 5 classes, as many support and query examples of
each as asked, no row and no text twice. icl keeps more besides (nested shots, parallel ids apart,
any index alone, the same bytes everywhere) that pandas is not asked for.

The peak memory is that of a fresh process that does icl's part on the big file, pages of the
mapped file included. The last line is one JSON object; `speedup` is the smaller of the two data
sets' medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from icl.episodes import Episode, EpisodeSampler
from icl.tasks.loaded import Split, Task, TaskFamily
from icl.tasks.sources.spill import ArrowExamples
from icl.tasks.task import Example
from icl.tasks.template import Template

if TYPE_CHECKING:
    import pandas as pd

WAYS, SHOTS, QUERIES = 5, 5, 15
PER_CLASS = SHOTS + QUERIES // WAYS
CLASSES = 1000


def main() -> None:
    """Run the benchmark and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller file, fewer episodes")
    parser.add_argument("--episodes", type=int, help="episodes of icl a data set")
    parser.add_argument("--rows", type=int, help="rows of the generated file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="time for pandas a data set, about")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    episodes = options.episodes or (5_000 if options.quick else 100_000)
    rows = options.rows or (200_000 if options.quick else 2_000_000)
    seconds = options.seconds or (4.0 if options.quick else 30.0)
    if options.memory_of:
        print(json.dumps(_use_of(options.memory_of, episodes)))
        return

    results = {}
    clinc = Path(os.environ.get("ICL_TEST_DATA", _default_data())) / "clinc150/all/train.jsonl"
    if clinc.is_file():
        results["clinc150"] = _compare(*_clinc(clinc), episodes, options.repeats, seconds)
    else:
        print(f"CLINC150 is not at {clinc}; set ICL_TEST_DATA to the folder that holds it.")
    with tempfile.TemporaryDirectory() as folder:
        parquet, arrow = Path(folder) / "rows.parquet", Path(folder) / "rows.arrow"
        _generate(parquet, rows)
        clock = time.perf_counter()
        _to_arrow(parquet, arrow)
        arrow_seconds = time.perf_counter() - clock
        memory = _fresh_process(arrow, episodes)
        result = _compare(*_big(parquet, arrow), episodes, options.repeats, seconds)
        results["parquet"] = {
            "rows": rows,
            "file_mb": round(arrow.stat().st_size / 2**20, 1),
            "arrow_seconds": round(arrow_seconds, 2),
            **result,
        }
    for name, result in results.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in result.items()))
    last = {
        "speedup": min(result["speedup"] for result in results.values()),
        "peak_memory_mb": memory["peak_memory_mb"],
        "start_memory_mb": memory["start_memory_mb"],
        "quick": options.quick,
        "data": results,
    }
    print(json.dumps(last))


def _default_data() -> str:
    return str(Path(__file__).resolve().parents[1] / "../shared/data")


def _compare(
    family: Callable[[], TaskFamily],
    frame: Callable[[], pd.DataFrame],
    episodes: int,
    repeats: int,
    seconds: float,
) -> dict[str, Any]:
    """Time all three roads in turns; return seconds and microseconds an episode."""
    clock = time.perf_counter()
    sampler = _sampler(family())
    build_seconds = time.perf_counter() - clock
    clock = time.perf_counter()
    table = frame()
    load_seconds = time.perf_counter() - clock
    generator = np.random.default_rng(0)
    plain, kept = PlainPandas(table, generator), KeptGroups(table, generator)
    plain_count = _affordable(plain.draw, seconds * 0.8 / repeats)
    kept_count = _affordable(kept.draw, seconds * 0.2 / repeats)

    times: dict[str, list[float]] = {"icl": [], "plain": [], "kept": []}
    chunk = episodes // repeats
    for repeat in range(repeats):
        start = repeat * chunk
        times["icl"].append(_time_icl(sampler, range(start, start + chunk)))
        times["plain"].append(_time_pandas(plain.draw, plain_count))
        times["kept"].append(_time_pandas(kept.draw, kept_count))
    ratio = [p / i for p, i in zip(times["plain"], times["icl"], strict=True)]
    ratio_kept = [k / i for k, i in zip(times["kept"], times["icl"], strict=True)]
    micro = {name: round(statistics.median(t) * 1e6, 1) for name, t in times.items()}
    return {
        "speedup": round(statistics.median(ratio), 1),
        "speedup_range": [round(min(ratio), 1), round(max(ratio), 1)],
        "speedup_over_kept_groups": round(statistics.median(ratio_kept), 1),
        "episodes": chunk * repeats,
        "pandas_episodes": plain_count * repeats,
        "microseconds": micro,
        "build_seconds": round(build_seconds, 2),
        "pandas_load_seconds": round(load_seconds, 2),
    }


def _affordable(draw: Callable[[], pd.DataFrame], seconds: float) -> int:
    """Return how many draws fit in some seconds, after a warm-up."""
    draw()
    clock = time.perf_counter()
    for _ in range(3):
        draw()
    return max(3, int(3 * seconds / (time.perf_counter() - clock)))


def _time_icl(sampler: EpisodeSampler, indices: range) -> float:
    """Return seconds an episode; what is drawn is checked when the clock stands still."""
    spent = 0.0
    for start in range(indices.start, indices.stop, 1000):
        part = range(start, min(start + 1000, indices.stop))
        clock = time.perf_counter()
        drawn = list(sampler.episodes(len(part), part.start))
        spent += time.perf_counter() - clock
        for episode in drawn:
            check(_pairs(episode.support), _pairs(episode.query))
        _check_labels(drawn)
    return spent / len(indices)


def _time_pandas(draw: Callable[[], pd.DataFrame], count: int) -> float:
    spent = 0.0
    for _ in range(count):
        clock = time.perf_counter()
        drawn = draw()
        spent += time.perf_counter() - clock
        place = drawn.groupby("label").cumcount()
        support, query = drawn[place < SHOTS], drawn[place >= SHOTS]
        check(
            list(zip(support["text"], support["label"], strict=True)),
            list(zip(query["text"], query["label"], strict=True)),
        )
    return spent / count


def check(support: Sequence[tuple[str, str]], query: Sequence[tuple[str, str]]) -> None:
    """Check (text, label) pairs: balance in both sets, nothing twice; raises if not."""
    shown, asked = (Counter(label for _, label in pairs) for pairs in (support, query))
    if set(shown.values()) != {SHOTS} or set(asked.values()) != {QUERIES // WAYS}:
        raise SystemExit(f"unbalanced: {shown} {asked}")
    if len(shown) != WAYS or set(shown) != set(asked):
        raise SystemExit(f"not {WAYS} ways: {shown} {asked}")
    texts = {text for pairs in (support, query) for text, _ in pairs}
    if len(texts) != len(support) + len(query):
        raise SystemExit("a text stands twice")


def _pairs(examples: Iterable[Example]) -> list[tuple[str, str]]:
    return [(e.fields["text"], e.label) for e in examples]


def _check_labels(episodes: Iterable[Episode]) -> None:
    for episode in episodes:
        if {e.label for e in episode.query} != set(episode.labels.names):
            raise SystemExit("the labels are not those of the queries")


class PlainPandas:
    """Group by and sample, as one would write it."""

    def __init__(self, frame: pd.DataFrame, generator: np.random.Generator) -> None:
        self.frame, self.generator = frame, generator
        self.labels = np.asarray(frame["label"].unique())

    def draw(self) -> pd.DataFrame:
        """Draw an episode's rows, shuffled; the first rows of each label are its support."""
        labels = self.generator.choice(self.labels, WAYS, replace=False)
        chosen = self.frame[self.frame["label"].isin(labels)]
        rows = chosen.groupby("label").sample(PER_CLASS, random_state=self.generator)
        return rows.sample(frac=1, random_state=self.generator)


class KeptGroups:
    """The same with the groups made once."""

    def __init__(self, frame: pd.DataFrame, generator: np.random.Generator) -> None:
        self.generator = generator
        self.groups = dict(list(frame.groupby("label")))
        self.labels = list(self.groups)

    def draw(self) -> pd.DataFrame:
        """Draw an episode's rows, as `PlainPandas.draw`."""
        import pandas as pd

        labels = self.generator.choice(self.labels, WAYS, replace=False)
        rows = [self.groups[n].sample(PER_CLASS, random_state=self.generator) for n in labels]
        return pd.concat(rows).sample(frac=1, random_state=self.generator)


def _clinc(file: Path) -> tuple[Callable[[], TaskFamily], Callable[[], pd.DataFrame]]:
    def family() -> TaskFamily:
        with file.open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        examples = tuple(
            Example(str(i), {"text": row["text"]}, row["label"], "eng", str(i))
            for i, row in enumerate(rows)
        )
        return _family(examples, sorted({row["label"] for row in rows}))

    def frame() -> pd.DataFrame:
        import pandas as pd

        table = pd.read_json(file, lines=True, dtype=False)
        return _distinct(table[["text", "label"]])

    return family, frame


def _big(parquet: Path, arrow: Path) -> tuple[Callable[[], TaskFamily], Callable[[], pd.DataFrame]]:
    def frame() -> pd.DataFrame:
        import pandas as pd

        return _distinct(pd.read_parquet(parquet))

    return lambda: _big_family(arrow), frame


def _big_family(arrow: Path) -> TaskFamily:
    examples = ArrowExamples(arrow, "eng")
    return _family(examples, [_class_name(i) for i in range(CLASSES)])


def _distinct(frame: pd.DataFrame) -> pd.DataFrame:
    """Remove texts that stand twice, so that pandas meets the same demand."""
    folded = frame["text"].str.casefold().str.split().str.join(" ")
    return frame[~folded.duplicated(keep=False)].reset_index(drop=True)


def _family(examples: Sequence[Example], labels: Sequence[str]) -> TaskFamily:
    task = Task(
        name="bench",
        language="eng",
        examples=examples,
        labels=tuple(labels),
        words={label: label for label in labels},
        template=Template("{{ text }}"),
    )
    return TaskFamily("bench", lambda *_: task, {"test": Split("test", ("bench",), ("eng",))})


def _sampler(family: TaskFamily) -> EpisodeSampler:
    return EpisodeSampler(family, "test", ways=WAYS, shots=(SHOTS,), queries=QUERIES, seed=1)


def _class_name(number: int) -> str:
    return f"class {number:04d}"


def _generate(path: Path, rows: int) -> None:
    """Write rows of made-up words, in classes whose sizes fall by a factor of about 20."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    generator = np.random.default_rng(7)
    syllables = np.array(["ka", "lo", "mi", "ren", "tu", "sha", "bor", "qi", "ne", "vul"])
    weights = 1 / (np.arange(CLASSES) + 50)
    schema = pa.schema([("id", pa.string()), ("text", pa.string()), ("label", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 50_000):
            count = min(50_000, rows - start)
            label = generator.choice(CLASSES, count, p=weights / weights.sum())
            words = [
                " ".join("".join(w) for w in syllables[row])
                for row in generator.integers(0, 10, (count, 8, 3))
            ]
            columns = {
                "id": [str(start + i) for i in range(count)],
                "text": words,
                "label": [_class_name(n) for n in label],
            }
            writer.write_table(pa.table(columns, schema=schema))


def _to_arrow(source: Path, target: Path) -> None:
    """Write the rows as `icl.tasks.sources.spill.write_examples` does, without going row by row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["text", "icl.id", "icl.label", "icl.parallel", "icl.domain"]
    schema = pa.schema([(name, pa.string()) for name in names])
    with (
        pq.ParquetFile(source) as parquet,
        pa.OSFile(str(target), "wb") as sink,
        pa.ipc.new_file(sink, schema) as writer,
    ):
        for batch in parquet.iter_batches(batch_size=1 << 16):
            item = batch.column("id")
            nowhere = pa.array([""] * len(batch))
            columns = [batch.column("text"), item, batch.column("label"), item, nowhere]
            writer.write_batch(pa.record_batch(columns, schema=schema))


def _use_of(arrow: Path, episodes: int) -> dict[str, float]:
    """Do icl's part on the big file and tell the peak memory of this process in MiB."""
    import pyarrow  # noqa: F401

    start = _peak()
    sampler = _sampler(_big_family(arrow))
    for _ in sampler.episodes(episodes):
        pass
    return {"start_memory_mb": start, "peak_memory_mb": _peak()}


def _peak() -> float:
    """Return the peak resident memory of this process in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():  # a new program's own peak; getrusage would count its parent's
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1024, 1)
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _fresh_process(arrow: Path, episodes: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--memory-of", str(arrow), "--episodes", str(episodes)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    measured: dict[str, float] = json.loads(run.stdout)
    return measured


if __name__ == "__main__":
    main()
