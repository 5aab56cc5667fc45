from __future__ import annotations

from pathlib import Path

import pytest
import torch

from icl.errors import IclError
from icl.models.loading.load import load_backbone, load_tokenizer
from icl.models.scoring.scorer import make_plan, score
from tests import tiny
from tests.reference import naive_scores


def test_a_hub_format_directory_loads_and_scores_as_the_plain_model(tmp_path: Path) -> None:
    backbone = load_backbone(str(tiny.save(tmp_path)), device="cpu")
    prompts, answers = ["Word: May\nKind:"], [" month", " weekday"]
    with torch.no_grad():
        packed = score(backbone, make_plan(backbone, prompts, answers))
    torch.testing.assert_close(packed, naive_scores(backbone, prompts, answers), atol=1e-4, rtol=0)
    assert load_tokenizer(str(tmp_path))("May")["input_ids"] == tiny.tokenizer()("May")["input_ids"]


def test_the_identity_changes_with_the_weights_and_only_with_them(tmp_path: Path) -> None:
    folder = str(tiny.save(tmp_path))
    one, same = (load_backbone(folder, device="cpu") for _ in range(2))
    assert one.identity == same.identity
    next(iter(same.model.parameters())).data[0, 0] += 1
    del same.__dict__["identity"]
    assert one.identity != same.identity


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("packaged:gemma-3-27m", "Did you mean 'gemma-3-270m'"),
        ("gemma-3-270m", "Did you mean 'packaged:gemma-3-270m'"),
        ("someone/no-such-model", "'someone/no-such-model' cannot be loaded"),
        ("./gone", "The model directory './gone' does not exist"),
    ],
)
def test_an_unknown_model_is_told_in_one_sentence_with_the_nearest(
    name: str, expected: str
) -> None:
    with pytest.raises(IclError, match=expected) as caught:
        load_backbone(name)
    assert "\n" not in str(caught.value)


def test_an_unknown_dtype_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(IclError, match="Did you mean 'bfloat16'"):
        load_backbone(str(tmp_path), dtype="bfloat61")


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IclError, match=r"the directory has no config\.json; give one to"):
        load_backbone(str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(IclError, match="cannot be loaded: the directory holds a PEFT adapter"):
        load_backbone(str(tmp_path))
    tiny.model().save_pretrained(tmp_path)
    with pytest.raises(IclError, match="cannot be loaded: the directory has no tokenizer's files"):
        load_backbone(str(tmp_path))
