from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from icl.prompting.fitting import drop_order, fit
from icl.tasks.task import Example
from tests import tiny

LABELS = st.lists(st.sampled_from("abc"), min_size=1, max_size=12)


def examples(labels: list[str]) -> list[Example]:
    return [Example(str(i), {"text": f"x{i}"}, label, "xx", "") for i, label in enumerate(labels)]


@given(LABELS)
def test_labels_stay_as_balanced_as_they_were_however_many_are_dropped(labels: list[str]) -> None:
    order = drop_order(examples(labels))
    assert sorted(order) == list(range(len(labels)))
    left = Counter(labels)
    for place in order:
        assert left[labels[place]] == max(left.values())
        left[labels[place]] -= 1


@settings(max_examples=40, deadline=None)
@given(LABELS, st.integers(4, 60))
def test_one_demonstration_more_would_not_fit(labels: list[str], room: int) -> None:
    shown = examples(labels)

    def build(some: list[Example]) -> list[str]:
        return ["".join(e.fields["text"] for e in some), "q"]

    def size(some: list[Example]) -> int:
        return max(len(tiny.tokenizer()(text)["input_ids"]) for text in build(some))

    kept = fit(tiny.tokenizer(), shown, build, room)  # type: ignore[arg-type]
    assert size(list(kept)) <= room
    assert [e.id for e in kept] == sorted((e.id for e in kept), key=int)
    if len(kept) < len(shown):
        gone = drop_order(shown)[: len(shown) - len(kept) - 1]
        assert size([e for i, e in enumerate(shown) if i not in gone]) > room
