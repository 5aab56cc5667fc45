"""Self-checks at load time: does a model, run as icl runs it, give its own numbers?

An architecture with attention of its own making (ALiBi, sinks, state spaces) would silently be
wrong; here it is found out by a few tokens, and `load_backbone` takes another road or refuses.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from icl.errors import IclError, in_short
from icl.models.backbone import Backbone
from icl.models.encoder import Encoder
from icl.models.memory import is_out_of_memory
from icl.models.packed.ends import lay_out_ends
from icl.models.packed.layout import lay_out
from icl.models.packed.rope import grows
from icl.models.packed.trie import IntArray, pack
from icl.models.parts import text_config
from icl.models.seq2seq import Seq2Seq, score_tokens
from icl.models.weights.in_dtype import widened

# The mean difference of logits that rounding explains, as a share of their spread. In half
# precision that hides much: the packaged Gemma in bfloat16 stands 2 % from itself in float32,
# packed or not, and ALiBi that is left out makes 0.5 %. So the check is done in float32 where there
# is room for it.
_ROUNDING = {torch.float16: 0.02, torch.bfloat16: 0.1}
_EXACT = 1e-4
_ENCODED = {torch.float32: 2e-3, torch.float16: 0.1, torch.bfloat16: 0.5}  # of the largest state
_SAME = 1e-3  # of the largest state or score
_SEEN = 0.01  # of the logits' spread, the least that a token that is seen would change
WINDOW, SWITCH = 3, 8  # tokens
# Names under which transformers' configurations and modules keep a length behind which something
# else is computed: which keys are seen, and by what positions and queries are scaled.
_NAMES = {
    "sliding_window": WINDOW,
    "sliding_window_size": WINDOW,
    "window_size": WINDOW,
    "attention_window": WINDOW,
    "attention_chunk_size": WINDOW,
    "keep_window_size": WINDOW,
    "local_attention": WINDOW,
    "floor_scale": WINDOW,  # Llama 4's temperature; Ministral 3 takes the length before the switch
    "original_max_position_embeddings": SWITCH,
    "original_max_seq_len": SWITCH,
    "max_seq_len_cached": SWITCH,
}


@contextmanager
def narrowed(model: nn.Module) -> Iterator[None]:
    """Hold every window and switch of a model at a few tokens; afterwards each is as it was.

    A window of 4096 is then passed by a dozen tokens, through the very code that a long text takes.
    Weights and frequencies stay, but for those of dynamic NTK, whose length they are made from.
    """
    configs = {id(c): c for m in model.modules() if (c := getattr(m, "config", None)) is not None}
    homes: list[dict[str, Any]] = [vars(thing) for thing in (*model.modules(), *configs.values())]
    for settings in [s for c in configs.values() if (s := getattr(c, "rope_parameters", None))]:
        homes += [settings, *(s for s in settings.values() if isinstance(s, dict))]
    names = _NAMES | ({"max_position_embeddings": SWITCH} if grows(model) else {})
    before = [
        (home, name, home[name])
        for home in {id(home): home for home in homes}.values()
        for name, small in names.items()
        if type(home.get(name)) is int and home[name] > small
    ]
    for home, name, _ in before:
        home[name] = names[name]
    try:
        yield
    finally:
        for home, name, value in before:
            home[name] = value


@contextmanager
def _running(backbone: Backbone, fails: str) -> Iterator[None]:
    """Run a model for a check, which costs nothing; raise `IclError` where its own code fails."""
    try:
        yield
    except Exception as error:  # the model's code is transformers', and fails as it likes
        if is_out_of_memory(error):
            raise
        raise IclError(f"{fails}: {in_short(error)}.") from error
    finally:
        backbone.meter.computed_tokens = 0.0


def _row(backbone: Backbone, tokens: IntArray) -> Tensor:
    return torch.from_numpy(tokens)[None].to(backbone.device)


def _named(backbone: Backbone, kind: str = "model") -> str:
    return f"The {kind} {backbone.name!r} ({type(backbone.model).__name__})"


@torch.no_grad()
def check_packing(backbone: Backbone) -> None:
    """Compare packed with plain logits on a few tokens, behind every window and switch.

    What a model computes behind a sliding window, a chunk of attention or a switch of its positions
    is looked at too, with the window held at a few tokens (`narrowed`): texts of the real length
    would take minutes for a large model.

    Raises:
        IclError: the two roads differ by more than the dtype's rounding.
    """
    what = _named(backbone)
    size = text_config(backbone.model).vocab_size
    draw = np.random.default_rng(0).integers(0, size, 2 * SWITCH + 4)
    # one text that no switch concerns, and two behind it, which share what all three share
    sequences = [draw[: SWITCH - 1], draw[: 2 * SWITCH], np.delete(draw, slice(5, 9))]
    fails, model = f"{what} cannot be run packed", backbone.model
    with _running(backbone, fails), widened(model) as dtype, narrowed(model):
        trie = backbone.spans.pack(sequences)
        packed = backbone.logits(backbone.hidden(lay_out(trie, backbone.device)))
        plain = [model(input_ids=_row(backbone, s)).logits[0] for s in sequences]
    found = torch.cat([packed[torch.from_numpy(path)] for path in trie.paths])
    wanted = torch.cat(plain).to(found.dtype)
    difference = float((found - wanted).abs().mean() / wanted.std())
    if not difference <= _ROUNDING.get(dtype, _EXACT):
        raise IclError(
            f"{what} gives other numbers when packed (logits differ by {difference:.2g} of their"
            " spread)."
        )


@torch.no_grad()
def has_stages(backbone: Backbone) -> bool:
    """Tell whether the states of a pass that is entered half way up are those of a whole one.

    They are not where layers pass on more than states (Gemma 3n, whose upper layers attend to the
    keys of lower ones). All layers then run each time, which is slower and right.
    """
    draw = np.random.default_rng(1).integers(0, text_config(backbone.model).vocab_size, 12)
    trie = pack([draw[:8], np.concatenate([draw[:5], draw[8:]])])
    layout, middle = lay_out(trie, backbone.device), backbone.depth // 2
    rows = sorted(int(path[-1]) for path in trie.paths)
    lasts = torch.tensor(rows, device=backbone.device)
    ends = lay_out_ends(trie, lasts)
    try:
        with _running(backbone, ""), widened(backbone.model):
            whole = backbone.hidden(layout)[lasts]
            trunk = backbone.trunk(layout, middle)
            entered = backbone.hidden(layout, trunk=trunk, start=middle, ends=ends)
    except IclError:
        return False
    entered = entered[lasts] if ends is None else entered
    return bool((entered - whole).abs().max() <= _SAME * whole.abs().max())


@torch.no_grad()
def check_causal(backbone: Backbone) -> None:
    """See that what is predicted after a token does not depend on later ones.

    PaliGemma without an image reads its whole text in both directions: a pass over a prompt and a
    label would tell the label before it is asked.

    Raises:
        IclError: it depends on them, or the model cannot be run at all.
    """
    what = _named(backbone)
    size = text_config(backbone.model).vocab_size
    draw = np.random.default_rng(0).integers(0, size, (1, 8)).repeat(2, 0)
    draw[1, -1] = (draw[0, -1] + 1) % size
    with _running(backbone, f"{what} cannot be run on text alone"):
        one, other = (
            backbone.model(input_ids=_row(backbone, row)).logits[0, :-1].float() for row in draw
        )
    if not float((one - other).abs().mean() / one.std()) <= _SEEN:
        raise IclError(
            f"{what} reads texts in both directions, so that no label can be scored after its"
            " prompt; take a causal language model, or an encoder for methods on embeddings."
        )


@torch.no_grad()
def check_encoder(encoder: Encoder) -> None:
    """Compare texts run together with each alone, and our inner states with transformers' own.

    Raises:
        IclError: padding changes a text's states, or the layers cannot be entered and left.
    """
    what, model = _named(encoder, "encoder"), encoder.model
    draw = np.random.default_rng(0).integers(5, model.config.vocab_size, 15)
    rows, inner = [draw[:9], draw[9:]], encoder.depth // 2
    how = "layer by layer" if encoder.staged else "on texts of one length"
    with _running(encoder, f"{what} cannot be run {how}"):
        with widened(model), narrowed(model):
            together, _ = encoder.states(rows)
            trunk, _ = encoder.states(rows, layer=inner)
            entered, _ = encoder.states(rows, trunk=trunk, start=inner)
            plain = [
                model(input_ids=_row(encoder, row), output_hidden_states=True).hidden_states
                for row in rows
            ]
        padded, left, again = (
            max(_apart(ours[i, : len(row)], plain[i][layer][0]) for i, row in enumerate(rows))
            for ours, layer in ((together, -1), (trunk, inner), (entered, -1))
        )
    for difference, when in (
        (padded, "texts are padded"),
        (max(left, again), "layers are left and entered half way up"),
    ):
        if not difference <= _ENCODED[together.dtype]:
            raise IclError(
                f"{what} gives other numbers when {when} (states differ by {difference:.2g} of the"
                " largest)."
            )


def _apart(ours: Tensor, theirs: Tensor) -> float:
    """Return by how much states differ: of the largest, or of one where that is less."""
    return float((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1))


@torch.no_grad()
def check_answers(backbone: Seq2Seq) -> None:
    """Compare answers in company, to padded prompts, with each alone through the whole model.

    Raises:
        IclError: the numbers differ, or the model cannot be run.
    """
    model: Any = backbone.model
    what = _named(backbone)
    draw = np.random.default_rng(0).integers(3, text_config(model).vocab_size, 19)
    prompts, targets = [draw[:6], draw[6:10]], [draw[10:13], np.append(draw[10:12], draw[13:])]
    ids = nn.utils.rnn.pad_sequence([torch.from_numpy(p) for p in prompts], batch_first=True)
    mask = torch.arange(6) < torch.tensor([[len(p)] for p in prompts])
    start = backbone.start
    with _running(backbone, f"{what} cannot be run"), widened(model):
        ids, mask = ids.to(backbone.device), mask.to(backbone.device)
        ours = score_tokens(backbone, ids, mask.long(), targets)
        alone = [
            model(
                input_ids=_row(backbone, p),
                decoder_input_ids=_row(backbone, np.append(start, t[:-1])),
                use_cache=False,
            ).logits[0].float().log_softmax(-1)[range(len(t)), torch.from_numpy(t)].sum()
            for p in prompts
            for t in targets
        ]  # fmt: skip
    theirs = torch.stack(alone).reshape(ours.shape)
    difference = float((ours - theirs).abs().max() / theirs.abs().max())
    if not difference <= _SAME:
        raise IclError(
            f"{what} gives other numbers when prompts are padded or answers share a pass (scores"
            f" differ by {difference:.2g} of the largest), so it cannot be scored here."
        )
