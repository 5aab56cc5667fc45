"""Made-up records for tests: no model stands behind a figure from here."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace

from icl.runs.record import Cost, EpisodeRecord


def record(index: int = 0, learner: str = "prototypes", text: str = "x") -> EpisodeRecord:
    """One small record; `text` stands where a user's text could."""
    return EpisodeRecord(
        learner=learner,
        method=learner,
        learner_key=f"key-{learner}",
        fingerprint=f"{index:016x}",
        task=text,
        setting="within",
        split="test",
        index=index,
        ways=2,
        shots=1,
        support_language="en",
        query_language="sw",
        labels=("a", text + "b"),
        query_ids=("q1", "q2"),
        parallel_ids=("p1", "p2"),
        log_probs=((0.0, -math.inf), (-0.25, -1.5)),
        predictions=(0, 0),
        gold=(0, 1),
        cost=Cost(100, 60, 0.5, 900.0, 0),
    )


def written(texts, references, scores, index=0, learner="in-context", shots=1) -> EpisodeRecord:
    """A record of written answers."""
    ids = tuple(f"q{index}.{n}" for n in range(len(texts)))
    return replace(
        record(index, learner),
        ways=0,
        shots=shots,
        labels=(),
        query_ids=ids,
        parallel_ids=ids,
        log_probs=(),
        predictions=(),
        gold=(),
        texts=tuple(texts),
        references=tuple(references),
        scores={name: tuple(row) for name, row in scores.items()},
    )


LEARNERS: Mapping[str, tuple[float, float, float]] = {
    # name: (accuracy at one shot, gain at five shots, seconds an episode)
    "majority": (0.25, 0.0, 0.0002),
    "zero-shot": (0.41, 0.0, 0.9),
    "in-context": (0.58, 0.10, 2.6),
    "prototypes": (0.66, 0.14, 0.12),
    "linear-probe": (0.63, 0.15, 0.15),
    "lora": (0.50, 0.18, 7.5),
    "fomaml": (0.60, 0.16, 4.1),
}
LANGUAGES = ("am", "ar", "de", "el", "hi", "ja", "ka", "ru", "sw", "th", "zh_Hant")


def run_records(
    *,
    learners: Mapping[str, tuple[float, float, float]] = LEARNERS,
    settings: tuple[str, ...] = ("within", "cross-lingual"),
    shots: tuple[int, ...] = (1, 5),
    languages: tuple[str, ...] = LANGUAGES,
    episodes_per_cell: int = 2,
    queries: int = 10,
    ways: int = 4,
    seed: int = 0,
) -> Iterator[EpisodeRecord]:
    """A whole made-up run: every learner on the same episodes, as the runner writes it."""
    rng = random.Random(seed)
    words = [f"w{i}" for i in range(60)]
    hardness = {w: rng.gauss(0, 0.1) for w in words}
    index = 0
    for setting in settings:
        for k in shots:
            for language in languages:
                for _ in range(episodes_per_cell):
                    ids = tuple(rng.sample(words, queries))
                    gold = tuple(rng.randrange(ways) for _ in ids)
                    for name, (base, gain, seconds) in learners.items():
                        level = base + gain * (k > 1) - 0.08 * (setting != "within")
                        level += rng.gauss(0, 0.08) if name != "majority" else 0.0
                        hits = [rng.random() < level - hardness[w] for w in ids]
                        predicted = tuple(
                            g if hit else (g + rng.randrange(1, ways)) % ways
                            for g, hit in zip(gold, hits, strict=True)
                        )
                        right, wrong = math.log(0.7), math.log(0.3 / (ways - 1))
                        yield EpisodeRecord(
                            learner=name,
                            method=name,
                            learner_key=f"key-{name}",
                            fingerprint=f"{index:016x}",
                            task="word-kind",
                            setting=setting,
                            split="test",
                            index=index,
                            ways=ways,
                            shots=k,
                            support_language="en" if setting != "within" else language,
                            query_language=language,
                            labels=tuple("abcdefghij"[:ways]),
                            query_ids=tuple(f"{language}:{w}" for w in ids),
                            parallel_ids=ids,
                            log_probs=tuple(
                                tuple(right if c == p else wrong for c in range(ways))
                                for p in predicted
                            ),
                            predictions=predicted,
                            gold=gold,
                            cost=Cost(
                                prompt_tokens=0 if seconds < 0.001 else 200 + 300 * k,
                                computed_tokens=0 if seconds < 0.001 else 90 + 60 * k,
                                seconds=seconds * rng.uniform(0.9, 1.2),
                                peak_memory_mb=1400 + 200 * seconds,
                                trained_parameters={"lora": 368_640, "fomaml": 368_640}.get(
                                    name, 0
                                ),
                            ),
                        )
                    index += 1
