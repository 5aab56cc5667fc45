"""Tasks, episodes and prompts in forms that other programs read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from icl.episodes import Episode
from icl.errors import IclError
from icl.tasks.kinds.posing import asked
from icl.tasks.loaded import TaskFamily
from icl.tasks.task import Labels


@dataclass(frozen=True, slots=True)
class Document:
    """A question of a multiple-choice benchmark.

    Attributes:
        id: names it.
        prompt: all that stands before the answer.
        choices: the answers, each with the blank it begins with.
        gold: the place of the right one.
    """

    id: str
    prompt: str
    choices: tuple[str, ...]
    gold: int


def task_documents(family: TaskFamily, split: str, task: str, language: str) -> Iterator[Document]:
    """Return a task's examples as zero-shot questions, in the task's own template and words.

    Raises:
        IclError: no such split, task or language, or a task that has no labels.
    """
    loaded = family.load(task, language)
    if loaded.kind.writes:
        raise IclError(f"The task {task!r} is a generation task, which has no choices to export.")
    words = tuple(loaded.words.get(name, name) for name in loaded.labels)
    labels = Labels(loaded.labels, words, loaded.template)
    space = loaded.kind.space(labels)
    choices = tuple(map(space.template.answer, space.words))
    for example in family.examples(split, task, language):
        for question in asked(loaded.kind, example, labels, space):
            prompt = space.template.prompt((), question.fields)
            yield Document(question.id, prompt, choices, space.index(question.label))


def episode_documents(episode: Episode) -> Iterator[Document]:
    """Return an episode's queries as questions after its demonstrations, as a plain prompt is."""
    fingerprint, episode = episode.fingerprint, episode.posed()
    labels = episode.labels
    words = dict(zip(labels.names, labels.words, strict=True))
    shown = [(e.fields, words[e.label]) for e in episode.support]
    choices = tuple(labels.template.answer(word) for word in labels.words)
    for example in episode.query:
        name = f"{fingerprint}/{example.id}"
        prompt = labels.template.prompt(shown, example.fields)
        yield Document(name, prompt, choices, labels.index(example.label))


def write_lm_eval(out: Path, name: str, documents: Iterable[Document], about: str) -> Path:
    """Write questions as a task of lm-evaluation-harness: a YAML file and its JSON Lines.

    ``lm_eval --include_path OUT --tasks NAME`` scores it. The prompts stand in the data as they
    are, so that nothing depends on how the harness would build them; its `acc` compares summed
    log-probabilities, as icl's `direct` scores without normalisation do. Where a token spans prompt
    and answer, the harness scores the answer's own tokens only, and the scores differ.

    Args:
        out: the folder; made where it is not there.
        name: the task's name.
        documents: at least one.
        about: what the task is; stands in its metadata.

    Returns:
        The YAML file.

    Raises:
        IclError: there are no documents, or the folder cannot be written.
    """
    rows = [asdict(document) for document in documents]
    if not rows:
        raise IclError(f"{name} has no examples to export.")
    definition = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str((out / f"{name}.jsonl").resolve())}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "prompt",
        "doc_to_choice": "choices",
        "doc_to_target": "gold",
        "target_delimiter": "",  # the choices carry their own
        "num_fewshot": 0,
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in ("acc", "acc_norm")
        ],
        "metadata": {"version": 1.0, "about": about},
    }
    text = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True)
    write_lines(out / f"{name}.jsonl", rows)
    path = out / f"{name}.yaml"
    _write(path, text)
    return path


def export_task(family: TaskFamily, split: str, out: Path, tasks: Sequence[str] = (),
                languages: Sequence[str] = ()) -> list[Path]:  # fmt: skip
    """Write a split's tasks, in each language, for lm-evaluation-harness, and a group of them all.

    Raises:
        IclError: as `task_documents` and `write_lm_eval`.
    """
    meta = family.split(split)
    files, names = [], []
    for task in tasks or meta.tasks:
        for language in languages or meta.languages:
            name = _name("icl", family.name, task, language, split)
            about = f"{family.name}, {task}, {language}, split {split}"
            documents = task_documents(family, split, task, language)
            files.append(write_lm_eval(out, name, documents, about))
            names.append(name)
    group = {"group": _name("icl", family.name, split), "task": names}
    group["aggregate_metric_list"] = [{"metric": "acc", "weight_by_size": True}]  # type: ignore[list-item]
    path = out / f"{group['group']}.yaml"
    _write(path, yaml.safe_dump(group, sort_keys=False, allow_unicode=True))
    return [*files, path]


def export_episodes(episodes: Iterable[Episode], out: Path, name: str) -> Path:
    """Write episodes for lm-evaluation-harness: each query a question after its demonstrations."""
    documents = [document for episode in episodes for document in episode_documents(episode)]
    return write_lm_eval(out, _name(name), documents, "few-shot episodes of icl")


def prompt_rows(episodes: Iterable[Episode]) -> Iterator[dict[str, Any]]:
    """Return a row for each query: its whole prompt, the answers, and which is right."""
    for episode in episodes:
        for document in episode_documents(episode):
            asked_of = {"id": document.id, "task": episode.task, "shots": episode.shots}
            yield {**asked_of, **asdict(document), "choices": list(document.choices)}


def dspy_rows(episodes: Iterable[Episode]) -> Iterator[dict[str, Any]]:
    """Return a row for each episode: demonstrations and queries as DSPy's examples are made.

    ``dspy.Example(**row["demos"][0]).with_inputs(*row["inputs"])`` is an example of it; labels
    stand as words under ``label``.
    """
    for whole in episodes:
        episode = whole.posed()
        labels = episode.labels
        words = dict(zip(labels.names, labels.words, strict=True))
        for example in (*episode.support, *episode.query):
            if "label" in example.fields:
                raise IclError(
                    f"The task {episode.task!r} has a field named 'label', which DSPy's rows need"
                    " for the answer; rename it."
                )
        yield {
            "fingerprint": whole.fingerprint,
            "task": episode.task,
            "labels": list(labels.words),
            "inputs": list(dict.fromkeys(f for e in episode.query for f in e.fields)),
            "demos": [{**e.fields, "label": words[e.label]} for e in episode.support],
            "queries": [{**e.fields, "label": words[e.label]} for e in episode.query],
        }


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as JSON Lines; raises `IclError` where that is not possible."""
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise IclError(f"{path} cannot be written: {error.strerror or error}.") from error


def _name(*parts: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", "_".join(parts)).lower()
