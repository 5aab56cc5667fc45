"""The schema of a task definition: one YAML file a family."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from icl.errors import did_you_mean
from icl.tasks.template import Template


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Columns(_Strict):
    """Which columns of a table hold what.

    Attributes:
        id: the item's id, shared by its translations; the row's number where there is none.
        label: the label.
        fields: field name in templates -> column.
    """

    label: str
    fields: Mapping[str, str] = Field(min_length=1)
    id: str | None = None


class CldrSource(_Strict):
    """Names from Unicode CLDR through Babel (extra ``offline``), see `icl.tasks.cldr`."""

    type: Literal["cldr"]


class DirectorySource(_Strict):
    """JSON Lines files, one a language and data split, under a directory that the user names.

    Attributes:
        env: the environment variable that may name the directory.
        file: a file's place in it, with ``{language}`` and ``{split}``.
    """

    type: Literal["directory"]
    env: str
    columns: Columns
    file: str = "{language}/{split}.jsonl"


class HubSource(_Strict):
    """A data set on the Hugging Face Hub, read through `datasets`.

    Attributes:
        name: the repository's id.
        config: the configuration, with ``{language}``.
        revision: a commit or tag.
        splits: data split in the definition -> the Hub's name of it, where they differ.
    """

    type: Literal["hub"]
    name: str
    columns: Columns
    config: str | None = None
    revision: str | None = None
    splits: Mapping[str, str] = Field(default_factory=dict)


Source = Annotated[CldrSource | DirectorySource | HubSource, Field(discriminator="type")]


class TemplateDefinition(_Strict):
    """See `icl.tasks.Template`."""

    input: str
    target: str = " {{ label }}"
    separator: str = "\n\n"
    instruction: str = ""

    def build(self) -> Template:
        """Return the template itself."""
        return Template(self.input, self.target, self.separator, self.instruction)


class TaskDefinition(_Strict):
    """One task of the family.

    Attributes:
        template: how examples are put before a language model.
        labels: canonical label names in a fixed order; rows with other labels are an error.
        words: language, or ``default`` -> label -> the word shown for it; by default its name.
    """

    template: TemplateDefinition
    labels: tuple[str, ...] = Field(min_length=2)
    words: Mapping[str, Mapping[str, str]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _words_are_for_labels(self) -> TaskDefinition:
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("a label stands twice in `labels`; remove one")
        for language, words in self.words.items():
            for label in words:
                if label not in self.labels:
                    hint = did_you_mean(label, self.labels)
                    raise ValueError(f"words.{language} names an unknown label {label!r}.{hint}")
        return self

    def words_in(self, language: str) -> dict[str, str]:
        """Return the word of each label in a language, else the default one, else its name."""
        own, default = self.words.get(language, {}), self.words.get("default", {})
        return {label: own.get(label, default.get(label, label)) for label in self.labels}


class SplitDefinition(_Strict):
    """One meta-split.

    Attributes:
        languages: which languages it draws from.
        tasks: which tasks; by default all.
        data: which data splits of the source; by default all.
    """

    languages: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[str, ...] | None = None
    data: tuple[str, ...] | None = None


class Definition(_Strict):
    """A task family as its YAML file gives it.

    Attributes:
        sources: where examples come from; the first that is at hand is read.
        data: names of the source's own splits, where it has any.
        disjoint: pairs of meta-splits are checked to share no ``language`` or no ``id``.
        licence, citation, url: of the data.
    """

    schema_version: Literal[1]
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    description: str
    licence: str
    sources: tuple[Source, ...] = Field(min_length=1)
    tasks: Mapping[str, TaskDefinition] = Field(min_length=1)
    splits: Mapping[str, SplitDefinition] = Field(min_length=1)
    data: tuple[str, ...] = ()
    disjoint: tuple[tuple[str, str, Literal["language", "task", "id"]], ...] = ()
    citation: str = ""
    url: str = ""

    @model_validator(mode="after")
    def _names_are_known(self) -> Definition:
        for name, split in self.splits.items():
            for task in split.tasks or ():
                if task not in self.tasks:
                    hint = did_you_mean(task, self.tasks)
                    raise ValueError(f"split {name!r} names an unknown task {task!r}.{hint}")
            for part in split.data or ():
                if part not in self.data:
                    hint = did_you_mean(part, self.data)
                    raise ValueError(f"split {name!r} names unknown data {part!r}.{hint}")
        for one, other, what in self.disjoint:
            self._check_apart(one, other, what)
        return self

    def _check_apart(self, one: str, other: str, what: str) -> None:
        for name in (one, other):
            if name not in self.splits:
                hint = did_you_mean(name, self.splits)
                raise ValueError(f"`disjoint` names an unknown split {name!r}.{hint}")
        a, b = self.splits[one], self.splits[other]
        shared = {
            "language": set(a.languages) & set(b.languages),
            "task": set(a.tasks or self.tasks) & set(b.tasks or self.tasks),
            # without data splits every id is in every split
            "id": set(a.data or self.data or ("all",)) & set(b.data or self.data or ("all",)),
        }[what]
        if shared:
            raise ValueError(
                f"splits {one!r} and {other!r} are said to share no {what} but share "
                f"{', '.join(sorted(shared))}"
            )
