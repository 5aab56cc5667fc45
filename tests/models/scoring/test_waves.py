"""Running a trie a stretch at a time gives what running it at once gives."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from icl.models.adapters.lora import Adapter, LoraSpec
from icl.models.adapters.lora_start import init_lora
from icl.models.packed.layout import lay_out
from icl.models.packed.trie import pack
from icl.models.scoring import waves
from icl.models.scoring.waves import hidden_in_waves, wave_cuts
from tests import tiny

sequences = st.lists(
    st.lists(st.integers(1, 4), min_size=1, max_size=12).map(lambda x: np.asarray(x, np.int64)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(sequences, st.integers(1, 20))
def test_states_do_not_depend_on_the_waves(rows: list[np.ndarray], most: int) -> None:
    backbone, trie = tiny.backbone("gemma3-hybrid"), pack(rows)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        whole = backbone.hidden(lay_out(trie))
        patch.setattr(waves, "_ROWS_ON_CPU", most)
        torch.testing.assert_close(hidden_in_waves(backbone, trie), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("architecture", sorted(tiny.CONFIGS))
def test_every_architecture_runs_in_waves(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = tiny.backbone(architecture)
    draw = np.random.default_rng(0)
    shared = draw.integers(1, 300, 20)
    trie = pack([np.append(shared, draw.integers(1, 300, n)) for n in (5, 9, 2, 7, 12, 4)])
    fused = {"gpt2": ("c_attn",), "gpt-neox": ("query_key_value",)}
    spec = LoraSpec(targets=fused.get(architecture, ("q_proj", "v_proj")))
    factors = init_lora(backbone, spec, 0)
    adapter = Adapter({n: v + 0.02 for n, v in factors.items()}, 2.0)
    with torch.no_grad():
        whole = backbone.hidden(lay_out(trie), adapter=adapter)
        monkeypatch.setattr(waves, "_ROWS_ON_CPU", 10)
        before = backbone.meter.computed_tokens
        found = hidden_in_waves(backbone, trie, adapter)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)
    assert backbone.meter.computed_tokens - before == len(trie.tokens)


@given(sequences, st.integers(1, 20))
def test_waves_tile_the_rows_and_begin_with_segments(rows: list[np.ndarray], most: int) -> None:
    trie = pack(rows)
    cuts = wave_cuts(trie, most)
    assert cuts[0] == 0
    assert cuts[-1] == len(trie.tokens)
    assert all(a < b for a, b in pairwise(cuts))
    starts = {s.start for s in trie.segments}
    assert set(cuts[:-1]) <= starts
    longest = max(s.length for s in trie.segments)
    assert max(b - a for a, b in pairwise(cuts)) <= max(most + most // 4 + 1, longest + most)
