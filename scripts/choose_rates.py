"""Choose the meta-trained learners' learning rates on validation episodes.

    python scripts/choose_rates.py configs/heads_clinc150.yaml --data ../shared/data/clinc150

Every meta-trained learner of the experiment (or those of --only) is trained as its configuration
says, once with each of --rates, and judged on --episodes episodes of each setting of the validation
split, at --shots; test tasks are never drawn. The table shows accuracies over all these episodes,
in percent, the best rate of each learner, and the frozen learners of --beside for comparison. What
is done is kept in `runs/NAME-rates`, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from icl.experiments.config import ExperimentConfig, load_config
from icl.experiments.experiment import run_experiment
from icl.experiments.learner_config import LearnerConfig
from icl.learners.registry import is_meta_learner


def main() -> None:
    """Train with every rate, judge on validation episodes and print what is best."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, help="as for `icl run`")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.0001, 0.0003, 0.001, 0.003])
    parser.add_argument("--only", nargs="+", help="names of learners, by default all meta-trained")
    parser.add_argument("--beside", nargs="+", default=["prototypes", "matching", "linear-probe"])
    parser.add_argument("--episodes", type=int, default=30, help="of each setting")
    parser.add_argument("--shots", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--ways", type=int, help="by default the experiment's")
    parser.add_argument("--queries", type=int, help="by default the experiment's")
    asked = parser.parse_args()
    config = load_config(asked.config)
    config = config if asked.data is None else config.with_data(asked.data)
    trial, trials = on_validation(config, asked)
    folder = Path("runs") / f"{config.name}-rates"
    outcome = run_experiment(trial, folder, command=" ".join(["choose_rates", config.name]))
    hits: dict[str, list[float]] = {name: [] for name in trial.learners}
    for record in outcome.records:
        hits[record.learner].append(record.accuracy)
    found = {name: 100 * sum(values) / len(values) for name, values in hits.items()}
    for name in asked.beside:
        print(f"{name:24} {found[name]:5.1f}")
    for name, rates in trials.items():
        best = max(rates, key=lambda rate: found[rates[rate]])
        shown = "  ".join(f"{rate:g}: {found[key]:5.1f}" for rate, key in rates.items())
        print(f"{name:24} {shown}  best: {best:g}")


def on_validation(
    config: ExperimentConfig, asked: argparse.Namespace
) -> tuple[ExperimentConfig, dict[str, dict[float, str]]]:
    """Return the experiment on validation episodes, and each learner's trials by rate."""
    episodes: dict[str, Any] = {
        "split": "validation",
        "languages": None,
        "shots": asked.shots,
        "count": asked.episodes,
        "ways": asked.ways or config.episodes.ways,
        "queries": asked.queries or config.episodes.queries,
    }
    learners = {name: LearnerConfig(method=name) for name in asked.beside}
    trials: dict[str, dict[float, str]] = {}
    for name, learner in config.learners.items():
        if (asked.only and name not in asked.only) or not is_meta_learner(learner.method):
            continue
        training = learner.complete().training
        assert training is not None
        own = {"ways": training.ways or config.episodes.ways}  # not those of validation
        for rate in asked.rates:
            key = f"{name} {rate:g}"
            trials.setdefault(name, {})[rate] = key
            learners[key] = learner.model_copy(
                update={"training": training.model_copy(update=own | {"learning_rate": rate})}
            )
    drawn = config.episodes.model_copy(update=episodes)
    return config.model_copy(update={"episodes": drawn, "learners": learners}), trials


if __name__ == "__main__":
    main()
