"""`Vocabulary`: the labels of a task, and what stands for them in data and in prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from icl.errors import IclError, did_you_mean
from icl.tasks.sources.schema import Strict, as_text
from icl.tasks.task import keyed_by_label, label_name
from icl.tools.yamlfile import fault

_SCALAR = WithJsonSchema({"type": ["string", "number", "boolean"]})
_Word = Annotated[str, BeforeValidator(as_text), _SCALAR]
Label = Annotated[str, BeforeValidator(as_text), AfterValidator(label_name), _SCALAR]


def _keys_apart(said: Any) -> Any:
    if isinstance(said, Mapping):
        keyed_by_label((str(as_text(name)), value) for name, value in said.items())
    return said


_ByLabel = BeforeValidator(_keys_apart)  # of two spellings of one label the last would count


class Vocabulary(Strict):
    """A task's labels.

    Attributes:
        labels: canonical label names in a fixed order; rows with other labels are an error.
        label_map: what stands in the data -> label, where they differ.
        skip: what stands in the data in place of a label for rows that are left out.
        words: language, or ``default`` -> label -> the word shown for it; by default its name.
    """

    labels: tuple[Label, ...] = ()
    label_map: Annotated[Mapping[Label, Label], _ByLabel] = Field(default_factory=dict)
    skip: tuple[Label, ...] = ()
    words: Mapping[str, Annotated[Mapping[Label, _Word], _ByLabel]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_labels(self) -> Vocabulary:
        for place, label in enumerate(self.labels):
            if not label.strip():
                raise fault("a label is empty; name it", "labels", place)
            if label in self.labels[:place]:
                raise fault(f"{label!r} stands twice; remove one", "labels", place)
        for raw, label in self.label_map.items():
            self._check_label(label, "label_map", raw)
        for language, words in self.words.items():
            for label in words:
                self._check_label(label, "words", language, label)
            for label, word in self.words_in(language).items():
                if not word.strip():
                    raise fault("the word is empty; give one", "words", language, label)
        return self

    def _check_label(self, label: str, *at: str) -> None:
        if label not in self.labels and self.labels:  # of none at all its kind has more to say
            raise fault(f"unknown label {label!r}.{did_you_mean(label, self.labels)}", *at)

    def words_in(self, language: str) -> dict[str, str]:
        """Return the word of each label in a language, else the default one, else its name."""
        own, default = self.words.get(language, {}), self.words.get("default", {})
        return {label: own.get(label, default.get(label, label)) for label in self.labels}

    def find(self, raw: str) -> str:
        """Return the label for which a text stands in the data; raises `IclError` for none."""
        label = self.label_map.get(raw, raw)
        if label not in self.labels:
            known = [*self.labels, *self.label_map]
            raise IclError(
                f"the label {raw!r} is not in the definition; add it to `labels`, `label_map` or "
                f"`skip`, or correct the row.{did_you_mean(raw, known)}"
            )
        return label
