"""A map of characters as a trie of bytes: the library tokenizers applies it as it was written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.normalizers import Precompiled

from icl.models.packaged.charsmap import charsmap

CHARACTERS = st.characters(min_codepoint=1, exclude_categories=("Cs", "M", "Cc", "Cf"))


@settings(max_examples=60)
@given(
    replaced=st.dictionaries(CHARACTERS, st.text(CHARACTERS, min_size=1, max_size=5), max_size=80),
    data=st.data(),
)
def test_each_character_becomes_what_the_map_says(
    replaced: dict[str, str], data: st.DataObject
) -> None:
    replaced["½"] = "1/2"
    text = data.draw(st.text(st.one_of(st.sampled_from(sorted(replaced)), CHARACTERS)))
    ours = "".join(Precompiled(charsmap(replaced)).normalize_str(character) for character in text)
    assert ours == "".join(replaced.get(character, character) for character in text)
