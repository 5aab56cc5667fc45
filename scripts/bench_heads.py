"""How fast embeddings and heads are, against scikit-learn, easyfsl and sentence-transformers.

The data are the test part of CLINC150 (150 intents, 4,500 texts; the folder that holds
`clinc150/all/test.jsonl`, given by --data or by ICL_TEST_DATA, by default ../shared/data), the
model is the packaged all-MiniLM-L6-v2.

Embedding: the same texts through `Embedder` (its store left out) and through
`SentenceTransformer.encode` with its defaults, tokenisation included on both sides, in interleaved
repeats; `embed_throughput_ratio` is the median of the ratios. `embed_matrix_share` is the share of
this machine's matrix rate (measured on a product of the model's own sizes) that ours reaches, with
floating-point operations counted from the model's linear maps and attention, padding left out.

Heads: 5-way 5-shot episodes with 15 queries a class, drawn as rows of the embedded texts before any
clock starts. Ours run all of them in batches; the loops of scikit-learn's `NearestCentroid` and
`LogisticRegression` (its default strength on both sides) and of easyfsl's `PrototypicalNetworks`
(where it is installed) run as many as fit in about --seconds, and the time an episode is compared.
Every prediction that a loop makes is compared with ours; less than 99.9 % (prototypes) or 99.5 %
(logistic regression) agreement ends the benchmark with an error. Times are medians of interleaved
repeats. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from icl.learners.embedding.heads import linear, metric, transductive
from icl.learners.embedding.heads.fitted import Fitted
from icl.models.embedding.embedder import Embedder
from icl.models.encoder import Encoder
from icl.models.loading.load import load_backbone
from icl.models.loading.named import model_path

WAYS, SHOTS, QUERIES = 5, 5, 15
MODEL = "packaged:all-minilm-l6-v2"
REPEATS = 3
AGREEMENT = {"prototypes": 0.999, "logistic": 0.995}

HEADS: dict[str, Callable[[Tensor, Tensor], Fitted]] = {
    "prototypes": lambda s, y: metric.euclidean(s, y, WAYS),
    "cosine": lambda s, y: metric.cosine(s, y, WAYS),
    "mahalanobis": lambda s, y: metric.mahalanobis(s, y, WAYS),
    "matching": lambda s, y: metric.matching(s, y, WAYS, 0.1),
    "knn": lambda s, y: metric.knn(s, y, WAYS, 5, 0.1),
    "ridge": lambda s, y: linear.ridge(s, y, WAYS),
    "logistic": lambda s, y: linear.logistic(s, y, WAYS, tolerance=1e-5),  # scikit-learn: 1e-4
    "soft-k-means": lambda s, y: transductive.soft_k_means(s, y, WAYS, 0.1, 3),
    "laplacian": lambda s, y: transductive.laplacian(s, y, WAYS, 0.1),
}
Rows = tuple[np.ndarray, np.ndarray]
_NUMBERS_AT_ONCE = 2**21  # vectors of a batch together: 8 MB, which stay in a processor's cache


def predict_rows(
    fit: Callable[[Tensor, Tensor], Fitted],
    table: Tensor,
    support: Tensor,
    wanted: Tensor,
    queries: Tensor,
) -> Tensor:
    """Predict the queries of many episodes of one shape whose texts are rows of a table.

    Args:
        fit: fits a head to (tasks, n, width) and (tasks, n).
        table: embeddings, shape (texts, width).
        support: rows of each episode's support, shape (episodes, n).
        wanted: the support's columns, (episodes, n).
        queries: rows of each episode's queries, (episodes, q).

    Returns:
        The best column of each query, int64, shape (episodes, q).
    """
    width = table.shape[1]
    episode = (support.shape[1] + queries.shape[1]) * width
    batch = max(1, _NUMBERS_AT_ONCE // episode)
    # one pair of buffers for all batches: fresh ones would cost page faults
    shown = torch.empty(batch * support.shape[1], width, dtype=table.dtype)
    asked = torch.empty(batch * queries.shape[1], width, dtype=table.dtype)
    found = torch.empty(queries.shape, dtype=torch.long)
    with torch.no_grad():
        for at in range(0, len(support), batch):
            s, q = support[at : at + batch], queries[at : at + batch]
            own, other = shown[: s.numel()], asked[: q.numel()]
            torch.index_select(table, 0, s.reshape(-1), out=own)
            torch.index_select(table, 0, q.reshape(-1), out=other)
            head = fit(own.view(*s.shape, width), wanted[at : at + batch])
            scores = head.scores(other.view(*q.shape, width)).contiguous()  # argmax is slow else
            torch.argmax(scores, -1, out=found[at : at + batch])
    return found


def main() -> None:
    """Run both parts and print the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder that holds clinc150/")
    parser.add_argument("--episodes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="for each loop of a peer")
    parser.add_argument("--quick", action="store_true", help="a hundredth of everything")
    asked = parser.parse_args()
    if asked.quick:
        asked.episodes, asked.seconds = 200, 1.0
    folder = asked.data or Path(os.environ.get("ICL_TEST_DATA", "../shared/data"))
    texts, labels = read(folder / "clinc150" / "all" / "test.jsonl")
    if asked.quick:
        texts, labels = texts[::5], labels[::5]
    embedder = Embedder(load_backbone(MODEL, device="cpu"), keep=False)
    result, vectors = embedding(embedder, texts)
    shots = 2 if asked.quick else SHOTS
    queries = 4 if asked.quick else QUERIES
    episodes = draw(labels, asked.episodes, shots, queries)
    result |= heads(vectors, episodes, shots, queries, asked.seconds)
    print(json.dumps({"quick": asked.quick, "threads": torch.get_num_threads(), **result}))


def read(path: Path) -> tuple[list[str], np.ndarray]:
    """Read texts and label numbers."""
    if not path.is_file():
        sys.exit(f"{path} is not there; name the folder that holds clinc150/ with --data.")
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    names = sorted({row["label"] for row in rows})
    return [row["text"] for row in rows], np.array([names.index(row["label"]) for row in rows])


def embedding(embedder: Embedder, texts: list[str]) -> tuple[dict[str, float], Tensor]:
    """Time both encoders on the same texts; return figures and our unit vectors."""
    ours, theirs = [], []
    vectors = torch.nn.functional.normalize(embedder.embed(texts[:200]))
    peer = _sentence_transformer()
    if peer is not None:
        agree = peer.encode(texts[:200], convert_to_tensor=True, normalize_embeddings=True)
        torch.testing.assert_close(vectors, agree.cpu(), atol=1e-4, rtol=0)
    for _ in range(REPEATS):
        start = time.perf_counter()
        vectors = torch.nn.functional.normalize(embedder.embed(texts))
        ours.append(time.perf_counter() - start)
        if peer is not None:
            start = time.perf_counter()
            peer.encode(texts, show_progress_bar=False)
            theirs.append(time.perf_counter() - start)
    distinct = list(dict.fromkeys(texts))
    flops = sum(_flops(embedder, len(row)) for row in embedder.encode(distinct))
    seconds = statistics.median(ours)
    figures = {
        "texts": len(texts),
        "embed_texts_a_second": round(len(texts) / seconds, 1),
        "embed_matrix_share": round(flops / seconds / _matrix_rate(embedder.width), 3),
    }
    print(f"embedding: {figures['embed_texts_a_second']} texts a second")
    if theirs:
        ratio = statistics.median(t / o for o, t in zip(ours, theirs, strict=True))
        figures["embed_throughput_ratio"] = round(ratio, 2)
        print(f"  sentence-transformers: {len(texts) / statistics.median(theirs):.1f}")
    else:
        print("  sentence-transformers is not installed: no ratio")
    return figures, vectors


def _sentence_transformer() -> Any:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        return None
    return SentenceTransformer(model_path(MODEL), device="cpu")


def _flops(embedder: Embedder, length: int) -> float:
    """Count a text's multiplications and additions in linear maps and attention."""
    encoder = embedder.backbone
    assert isinstance(encoder, Encoder)
    linear_maps = sum(
        module.weight.numel()
        for layer in encoder.layers
        for module in layer.modules()
        if isinstance(module, torch.nn.Linear)
    )
    attention = 2 * len(encoder.layers) * length * embedder.width
    return 2.0 * length * (linear_maps + attention)


def _matrix_rate(width: int) -> float:
    """Measure floating-point operations a second of a product of the model's sizes."""
    a, b = torch.randn(2048, width), torch.randn(width, 4 * width)
    best = 0.0
    for _ in range(20):
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * a.numel() * b.shape[1] / (time.perf_counter() - start))
    return best


def draw(labels: np.ndarray, count: int, shots: int, queries: int) -> Rows:
    """Draw episodes as row numbers: (count, ways * shots) and (count, ways * queries)."""
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(labels == k) for k in range(labels.max() + 1)]
    support, query = [], []
    for _ in range(count):
        chosen = generator.choice(len(members), WAYS, replace=False)
        rows = [generator.permutation(members[k])[: shots + queries] for k in chosen]
        support.append(np.concatenate([r[:shots] for r in rows]))
        query.append(np.concatenate([r[shots:] for r in rows]))
    return np.stack(support), np.stack(query)


def heads(
    vectors: Tensor, episodes: Rows, shots: int, queries: int, seconds: float
) -> dict[str, float]:
    """Time every head of ours on all episodes, and the peers' loops on as many as fit."""
    gold = np.repeat(np.arange(WAYS), queries)
    wanted = torch.arange(WAYS).repeat_interleave(shots).expand(len(episodes[0]), -1)
    rows = [torch.from_numpy(part) for part in episodes]
    figures: dict[str, float] = {"episodes": len(episodes[0])}
    peers = _peers(vectors, np.repeat(np.arange(WAYS), shots))
    times: dict[str, list[float]] = {}
    answers: dict[str, np.ndarray] = {}
    for fit in HEADS.values():  # the first call of each is slower
        predict_rows(fit, vectors, rows[0][:50], wanted[:50], rows[1][:50])
    for _ in range(REPEATS):
        for name, fit in HEADS.items():
            start = time.perf_counter()
            answers[name] = predict_rows(fit, vectors, rows[0], wanted, rows[1]).numpy()
            times.setdefault(name, []).append((time.perf_counter() - start) / len(episodes[0]))
        for name, (equal_to, predict) in peers.items():
            done, start = [], time.perf_counter()
            for support, query in zip(*episodes, strict=True):
                done.append(predict(support, query))
                if time.perf_counter() - start > seconds / REPEATS:
                    break
            times.setdefault(name, []).append((time.perf_counter() - start) / len(done))
            agreement = float((np.stack(done) == answers[equal_to][: len(done)]).mean())
            if agreement < AGREEMENT[equal_to]:
                sys.exit(f"{name} and our {equal_to} agree on {agreement:.2%} of queries only.")
            figures[f"agreement_{name}"] = round(agreement, 5)
    for name, measured in times.items():
        note = f", accuracy {(answers[name] == gold).mean():.3f}" if name in answers else ""
        print(f"{name}: {1e3 * statistics.median(measured):.3f} ms an episode{note}")
        figures[f"ms_{name}"] = round(1e3 * statistics.median(measured), 4)

    def speedup(ours: str, peer: str) -> float:
        pairs = zip(times[ours], times[peer], strict=True)
        return round(statistics.median(theirs / own for own, theirs in pairs), 1)

    figures["speedup_prototypes"] = speedup("prototypes", "sklearn_nearest_centroid")
    figures["speedup_logistic"] = speedup("logistic", "sklearn_logistic")
    if "easyfsl_prototypes" in times:
        figures["speedup_easyfsl"] = speedup("prototypes", "easyfsl_prototypes")
    return figures


def _peers(
    vectors: Tensor, wanted: np.ndarray
) -> dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]]:
    """Return by name the head that a peer must agree with, and one step of its loop."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import NearestCentroid

    table = vectors.numpy()

    def centroid(support: np.ndarray, query: np.ndarray) -> np.ndarray:
        return NearestCentroid().fit(table[support], wanted).predict(table[query])

    def logistic(support: np.ndarray, query: np.ndarray) -> np.ndarray:
        model = LogisticRegression(max_iter=1000)
        return model.fit(table[support], wanted).predict(table[query])

    peers = {
        "sklearn_nearest_centroid": ("prototypes", centroid),
        "sklearn_logistic": ("logistic", logistic),
    }
    _stand_in_for_torchvision()
    try:
        from easyfsl.methods import PrototypicalNetworks
    except ImportError:
        print("easyfsl is not installed: its loop is left out")
        return peers
    network, labels = PrototypicalNetworks(torch.nn.Identity()), torch.from_numpy(wanted)

    def easyfsl(support: np.ndarray, query: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            network.process_support_set(vectors[support], labels)
            found: np.ndarray = network(vectors[query]).argmax(1).numpy()
        return found

    return peers | {"easyfsl_prototypes": ("prototypes", easyfsl)}


def _stand_in_for_torchvision() -> None:
    """Let easyfsl be imported where torchvision is not there or does not fit this torch.

    easyfsl imports it for image networks and data sets, which are not used here.
    """
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        parts = ("", ".models", ".models.resnet", ".transforms", ".datasets", ".io")
        for part in parts:
            module = types.ModuleType("torchvision" + part)
            module.__getattr__ = lambda name: type(name, (), {})  # type: ignore[method-assign]
            sys.modules["torchvision" + part] = module


if __name__ == "__main__":
    main()
