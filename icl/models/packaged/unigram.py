"""A unigram vocabulary with a map of characters as a tokenizer of the library tokenizers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from icl.models.packaged.charsmap import charsmap
from icl.models.packaged.e5_file import Pieces

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MASK = "<mask>"
# The map is applied to what a reader sees as one letter, where that is short, and marks behind a
# replaced character would be lost: a control character before each mark keeps the two apart. There
# is none before a text's first character, where the library would lose count.
_APART, _BEFORE_MARKS = "\x01", r"(?!\A)(?=[\p{M}\x{200c}\x{200d}\x{e33}\x{eb3}\x{ff9e}\x{ff9f}])"


def unigram_tokenizer(file: Pieces) -> Tokenizer:
    """Return the tokenizer: characters are replaced, runs of spaces are one, and texts begin so.

    Its tokens are those of the file's own engine, but that a run of unknown characters is one
    unknown token, as in the original tokenizer, where the engine has one for each.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, processors
    from tokenizers.normalizers import Precompiled, Replace, Sequence
    from tokenizers.pre_tokenizers import Metaspace

    names = [name for name, _ in file.pieces]
    begin, end = names[file.begin], names[file.end]
    dropped = "".join(re.escape(old) for old, new in file.replaced.items() if not new)
    raw = Tokenizer(models.Unigram(list(file.pieces), file.unknown, False))
    raw.normalizer = Sequence(
        [
            *([Replace(Regex(f"[{dropped}]"), "")] if dropped else []),
            Replace(Regex(_BEFORE_MARKS), _APART),
            Precompiled(charsmap({old: new for old, new in file.replaced.items() if new})),
            Replace(_APART, ""),
            Replace(Regex(" {2,}"), " "),
        ]
    )
    raw.pre_tokenizer = Metaspace()
    raw.decoder = decoders.Metaspace()
    raw.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, file.begin), (end, file.end)],
    )
    ids = {file.begin, file.end, file.pad, file.unknown}
    special = [AddedToken(names[i], normalized=False) for i in sorted(ids)]
    mask = [AddedToken(MASK, lstrip=True, normalized=False)] if MASK in names else []
    raw.add_special_tokens([*special, *mask])
    return raw
