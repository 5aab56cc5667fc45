"""What a smaller base costs and loses: half precision, 8 and 4 bits, layers on disk.

The packaged Gemma 3 270M is loaded in each way, in turn, and learns the same episodes of the family
`cldr` (4 ways, 4 shots, 4 queries) in context and by LoRA (4 steps). Printed for each way: the
bytes of its layers in memory with their constants (the embeddings, two thirds of this model, are
never quantised), accuracy, seconds an episode as a ratio to float32, and how far its
log-probabilities in context are from float32's. `8bit` and `4bit` need the extra `quantise` and are
left out without it. The last line is one JSON object. `--quick` takes few episodes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from typing import Any

import numpy as np

import icl
from icl.episodes.episode import Episode

MODEL = "packaged:gemma-3-270m"
LEARNERS = {"in-context": {}, "lora": {"steps": 4}}
LAYERS = 18


def ways() -> dict[str, dict[str, Any]]:
    """Return the ways of loading the base, as options of `icl.load_model`."""
    half = {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(LAYERS)}
    rest = dict.fromkeys(("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head"), "cpu")
    found: dict[str, dict[str, Any]] = {
        "float32": {"device": "cpu"},
        "bfloat16": {"device": "cpu", "dtype": "bfloat16"},
        "half on disk": {"device_map": half | rest},
    }
    if importlib.util.find_spec("bitsandbytes"):
        found |= {bits: {"device": "cpu", "quantise": bits} for bits in ("8bit", "4bit")}
    return found


def measure(options: dict[str, Any], episodes: list[Episode]) -> dict[str, Any]:
    """Load the base in one way and let both learners learn all episodes."""
    backbone = icl.load_model(MODEL, **options)
    held = [t for t in backbone.layers.state_dict().values() if t.device.type != "meta"]
    frame = icl.compare(LEARNERS, episodes, backbone).records
    return {
        "packed": backbone.packed,
        "layers_mib": sum(t.nbytes for t in held) / 2**20,
        "records": {name: [r for r in frame if r.learner == name] for name in LEARNERS},
    }


def figures(found: dict[str, Any], whole: dict[str, Any]) -> dict[str, Any]:
    """Return what is printed of one way, beside that of float32."""
    out: dict[str, Any] = {"packed": found["packed"], "layers_mib": round(found["layers_mib"], 1)}
    for name, records in found["records"].items():
        right = [np.mean(np.equal(r.predictions, r.gold)) for r in records]
        seconds, base = (
            float(np.median([r.cost.seconds for r in side["records"][name]]))
            for side in (found, whole)
        )
        out[f"{name}_accuracy"] = round(float(np.mean(right)), 4)
        out[f"{name}_seconds_ratio"] = round(seconds / base, 2)
    pairs = zip(found["records"]["in-context"], whole["records"]["in-context"], strict=True)
    apart = [np.abs(np.subtract(a.log_probs, b.log_probs)).ravel() for a, b in pairs]
    out["mean_abs_logprob_diff"] = float(f"{np.concatenate(apart).mean():.2g}")
    return out


def main() -> None:
    """Print a line for each way, and all as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few episodes")
    quick = parser.parse_args().quick
    family = icl.load_task("cldr")
    episodes = icl.episodes.draw(
        family, ways=4, shots=[4], queries=4, count=2 if quick else 12, seed=0
    )
    whole: dict[str, Any] = {}
    printed: dict[str, Any] = {"episodes": len(episodes)}
    for name, options in ways().items():
        found = measure(options, list(episodes))
        whole = whole or found
        printed[name] = figures(found, whole)
        print(name, printed[name], flush=True)
    print(json.dumps(printed))


if __name__ == "__main__":
    main()
