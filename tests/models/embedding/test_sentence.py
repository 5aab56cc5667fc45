"""A model with sentence-transformers' files embeds as these say, unless it is told otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from icl.errors import IclError
from icl.learners.embedding.features import FeatureParams, Features
from icl.models.backbone import Backbone
from icl.models.embedding.embedder import Embedder
from icl.models.loading.identity import model_identity
from icl.models.loading.load import load_backbone
from icl.tasks.task import Labels
from icl.tasks.template import Template
from tests import tiny, tiny_encoders
from tests.learners import problems

TEXTS = ["Montag", "a b", "The cat sat on the mat, and it sat there for long", "x"]
LONGEST = 12


def save(
    folder: Path,
    pooling: dict[str, Any],
    *,
    causal: bool = False,
    after: tuple[str, ...] = (),
    tokens: dict[str, Any] | None = None,
    prompt: str = "",
) -> Path:
    """Save a tiny model with the files that sentence-transformers writes."""
    (tiny if causal else tiny_encoders).save(folder)
    kinds = ["Transformer", "Pooling", *after]
    paths = ["", *(f"{i + 1}_{kind}" for i, kind in enumerate(kinds[1:]))]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    prompts = {"prompts": {"own": prompt}, "default_prompt_name": "own" if prompt else None}
    written = {
        "modules.json": modules,
        "sentence_bert_config.json": tokens or {"max_seq_length": LONGEST, "do_lower_case": False},
        "config_sentence_transformers.json": prompts,
        "1_Pooling/config.json": {"word_embedding_dimension": 32, **pooling},
    }
    for kind, path in zip(kinds, paths, strict=True):
        if kind == "Dense":
            torch.manual_seed(len(path))
            (folder / path).mkdir()
            tensors = {"linear.weight": torch.randn(20, 32), "linear.bias": torch.randn(20)}
            save_file(tensors, folder / path / "model.safetensors")
            activation = "torch.nn.modules.activation.Tanh"
            sizes = {"in_features": 32, "out_features": 20, "bias": True}
            written[f"{path}/config.json"] = {**sizes, "activation_function": activation}
    for name, content in written.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


def loaded(folder: Path) -> Backbone:
    return load_backbone(str(folder), device="cpu")


CLS = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
MEAN = {"pooling_mode_mean_tokens": True}
CASES: dict[str, dict[str, Any]] = {
    "cls": {"pooling": CLS},
    "max": {"pooling": {"pooling_mode_max_tokens": True, "pooling_mode_mean_tokens": False}},
    "mean": {"pooling": MEAN},
    "square root": {"pooling": {"pooling_mode_mean_sqrt_len_tokens": True}},
    "weighted": {"pooling": {"pooling_mode": "weightedmean"}},
    "last": {"pooling": {"pooling_mode_lasttoken": True}},
    "small letters": {"pooling": MEAN, "tokens": {"max_seq_length": 30, "do_lower_case": True}},
    "prompt": {"pooling": CLS, "prompt": "query: "},
    "dense": {"pooling": CLS, "after": ("Dense",)},
    "all": {"pooling": CLS, "after": ("Dense", "Normalize"), "prompt": "a: "},
}


@pytest.mark.filterwarnings("ignore:.*were cut")
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_vectors_are_those_of_sentence_transformers(
    case: str, causal: bool, tmp_path: Path
) -> None:
    peer = pytest.importorskip("sentence_transformers")
    folder = save(tmp_path, causal=causal, **CASES[case])
    theirs = peer.SentenceTransformer(str(folder), device="cpu").encode(
        TEXTS, convert_to_tensor=True
    )
    embedder = Embedder(loaded(folder), keep=False)
    ours = embedder.embed(TEXTS)
    assert embedder.width == ours.shape[1] == theirs.shape[1]
    if case == "all":
        ours = torch.nn.functional.normalize(ours)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    features = Features(loaded(folder), FeatureParams())
    torch.testing.assert_close(
        features.finish(features.embedder.embed(TEXTS)),
        torch.nn.functional.normalize(theirs),
        atol=1e-5,
        rtol=0,
    )


def test_the_first_token_is_pooled_and_a_text_ends_at_the_models_own_length(tmp_path: Path) -> None:
    """Against the plain model, where sentence-transformers is not installed."""
    folder, tokenizer = save(tmp_path, CLS), tiny_encoders.tokenizer()
    plain = tiny_encoders.model().eval()
    with pytest.warns(UserWarning, match=f"longer than the {LONGEST} tokens"):
        ours = Embedder(loaded(folder), keep=False).embed(TEXTS)
    for vector, text in zip(ours, TEXTS, strict=True):
        ids = tokenizer(text, truncation=True, max_length=LONGEST)["input_ids"]
        with torch.no_grad():
            states = plain(torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(vector, states[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_a_prompt_ends_where_its_template_does_within_the_models_own_length(
    causal: bool, tmp_path: Path
) -> None:
    """It is counted in small letters, as the model reads it: here they are more tokens."""
    tokens = {"max_seq_length": 24, "do_lower_case": True}
    backbone = loaded(save(tmp_path, MEAN, causal=causal, tokens=tokens))
    labels = Labels(problems.NAMES, problems.NAMES, Template("A: {{ a }}\nB: {{ b }}\nKind:"))
    features = Features(backbone, FeatureParams(prompted=True))
    fields = {"a": "MAT " * 40, "b": "on"}
    with pytest.warns(UserWarning, match="lose their end"):
        (row,) = features.embedder.encode(features.shown([fields], labels))
    said = backbone.tokenizer.decode(row, skip_special_tokens=True).replace(" ", "")
    assert 20 < len(row) <= 24 and said.endswith("kind:") and "b:on" in said


def test_what_is_asked_for_wins(tmp_path: Path) -> None:
    folder = save(tmp_path, CLS, after=("Dense",), prompt="query: ")
    model, texts = loaded(folder), ["Mo", "x"]
    plain = tiny_encoders.encoder()
    for pooling in ("mean", "cls"):
        asked = Embedder(model, pooling=pooling, instruction="", keep=False).embed(texts)
        torch.testing.assert_close(asked, Embedder(plain, pooling=pooling, keep=False).embed(texts))
    asked = Embedder(model, layer=1, instruction="", keep=False).embed(texts)
    wanted = Embedder(plain, layer=1, pooling="cls", keep=False).embed(texts)
    torch.testing.assert_close(asked, wanted)


ODD: dict[str, tuple[dict[str, Any], tuple[str, ...], str]] = {
    "module": (CLS, ("LSTM",), "LSTM"),
    "two poolings": (CLS | MEAN, (), "pooling cls_token and mean_tokens"),
    "unknown pooling": ({"pooling_mode": "attention"}, (), "pooling attention"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_not_done_here_is_refused_and_a_given_pooling_is_the_mend(
    case: str, tmp_path: Path
) -> None:
    pooling, after, told = ODD[case]
    model = loaded(save(tmp_path, pooling, after=after))
    with pytest.raises(IclError, match=f"sentence-transformers' {told}, .* give `pooling`"):
        Features(model, FeatureParams())
    assert Features(model, FeatureParams(pooling="mean")).embedder.embed(["x"]).shape == (1, 32)


@pytest.mark.parametrize(
    "name", ["modules.json", "sentence_bert_config.json", "1_Pooling/config.json"]
)
@pytest.mark.parametrize("content", ["{", "3", "[3]", '{"max_seq_length": "x"}'])
def test_damaged_files_are_one_sentence(name: str, content: str, tmp_path: Path) -> None:
    folder = save(tmp_path, CLS)
    (folder / name).write_text(content)
    try:
        loaded(folder).context_length  # noqa: B018
        Features(loaded(folder), FeatureParams())
    except IclError as error:
        assert str(folder) in str(error)


def test_the_files_are_part_of_the_models_identity(tmp_path: Path) -> None:
    folder = save(tmp_path, CLS, after=("Dense",))
    found = {model_identity(str(folder))}
    for name in ("1_Pooling/config.json", "sentence_bert_config.json", "2_Dense/config.json"):
        (folder / name).write_text((folder / name).read_text() + " ")
        found.add(model_identity(str(folder)))
    assert len(found) == 4
