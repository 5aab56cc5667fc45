"""How well heads tell queries in scope from queries out of scope: AUROC on CLINC150.

    python scripts/open_set.py --data ../shared/data/clinc150 --episodes 200

Each episode has `--ways` intents of the test split's domains, `--shots` examples of each, and as
many queries in scope as `--queries`; the same number of queries is drawn from the data's own
out-of-scope test rows, which belong to no intent. A learner sees the support set and the texts. Its
score is `in_scope`: the best label's score before the softmax. AUROC is the chance that a query in
scope scores above one out of scope, within one episode; the interval is 1.96 standard errors over
episodes. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from icl.episodes import EpisodeSampler
from icl.learners.embedding.base import HeadPredictor
from icl.learners.registry import make
from icl.models.loading.load import load_backbone
from icl.tasks import load_family

METHODS = {
    "prototypes": ("prototypes", {}),
    "prototypes-cosine": ("prototypes", {"metric": "cosine"}),
    "prototypes-mahalanobis": ("prototypes", {"metric": "mahalanobis"}),
    "matching": ("matching", {}),
    "knn": ("knn", {"k": 1}),
    "logistic": ("logistic", {}),
    "ridge": ("ridge", {}),
    "svm": ("svm", {}),
}


def main() -> None:
    """Score the methods and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder that holds all/*.jsonl")
    parser.add_argument("--model", default="packaged:all-minilm-l6-v2")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--ways", type=int, default=10)
    parser.add_argument("--shots", type=int, default=5)
    parser.add_argument("--queries", type=int, default=50)
    asked = parser.parse_args()
    path = asked.data / "all" / "oos_test.jsonl"
    if not path.is_file():
        sys.exit(f"{path} is not there; name the folder that holds all/oos_test.jsonl with --data.")
    outside = [json.loads(line)["text"] for line in path.read_text("utf-8").splitlines()]
    sampler = EpisodeSampler(
        load_family("clinc150", data=str(asked.data)),
        "test",
        ways=asked.ways,
        shots=[asked.shots],
        queries=asked.queries,
        seed=0,
    )
    backbone = load_backbone(asked.model)
    learners = {name: make(*method, backbone) for name, method in METHODS.items()}
    areas: dict[str, list[float]] = {name: [] for name in learners}
    for index in range(asked.episodes):
        episode = sampler.episode(index, asked.shots)
        generator = np.random.default_rng([0, index])
        foreign = generator.choice(len(outside), asked.queries, replace=False)
        texts = [q.fields for q in episode.query] + [{"text": outside[i]} for i in foreign]
        inside = [1] * asked.queries + [0] * asked.queries
        for name, learner in learners.items():
            predictor = learner.adapt(episode.support, episode.labels)
            assert isinstance(predictor, HeadPredictor)
            areas[name].append(float(roc_auc_score(inside, predictor.in_scope(texts).numpy())))
    result = {}
    for name, values in areas.items():
        half = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
        result[name] = {"auroc": round(float(np.mean(values)), 4), "half_interval": round(half, 4)}
        print(f"{name:24} {100 * np.mean(values):5.1f} ± {100 * half:.1f}")
    print(
        json.dumps({"episodes": asked.episodes, "ways": asked.ways, "shots": asked.shots} | result)
    )


if __name__ == "__main__":
    main()
