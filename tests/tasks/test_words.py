"""Label words that cannot be told apart are refused wherever words come from; names that Jinja
keeps for itself, and blanks that would stand twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from icl.cli.predict import _words
from icl.errors import IclError
from icl.labelling import label_table
from icl.labelling.data import read_training
from icl.learners.registry import validate
from icl.prompting.channel import cue, split
from icl.sklearn import FewShotClassifier
from icl.tasks import load_family
from icl.tasks.definitions.draft import draft_definition
from icl.tasks.task import Labels
from icl.tasks.template import RESERVED, Template, template_fields
from icl.tasks.words import clash

ROWS = [("a cat", "x"), ("a dog", "y"), ("one cat", "x"), ("one dog", "y")]


def table(folder: Path, column: str) -> Path:
    path = folder / "animals.csv"
    path.write_text("\n".join([f"{column},label", *(f"{t},{label}" for t, label in ROWS)]) + "\n")
    return path


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_words_clash_where_two_answers_look_the_same_and_only_there(words: dict[str, str]) -> None:
    found = clash(words)
    import unicodedata

    shown = [unicodedata.normalize("NFC", word.strip()) for word in words.values()]
    assert (found is None) == (len(set(shown)) == len(shown))


def test_labels_that_a_target_shows_alike_cannot_be_made() -> None:
    for words, target in ((("é", "e\u0301 "), " {{ label }}"), (("a", "A"), " {{ label | lower }}"),
                          (("a", "b"), " same")):  # fmt: skip
        with pytest.raises(IclError, match="the word of both 'one' and 'two'"):
            Labels(("one", "two"), words, Template("{{ text }}", target))
    assert len(Labels(("one", "two"), ("a", "A"), Template("{{ text }}"))) == 2


def test_a_definition_whose_target_shows_labels_alike_is_refused(tmp_path: Path) -> None:
    name, text = draft_definition(table(tmp_path, "text"), tmp_path)
    definition = yaml.safe_load(text)
    task = definition["tasks"][name]
    task["words"] = {"de": {"x": "Ja", "y": "ja"}}
    path = tmp_path / "animals.yaml"
    path.write_text(yaml.safe_dump(definition))
    load_family(str(path))
    task["template"]["languages"] = {"de": {"target": " {{ label | lower }}"}}
    path.write_text(yaml.safe_dump(definition))
    with pytest.raises(IclError, match="'ja' is the word of both 'x' and 'y'"):
        load_family(str(path))


def test_two_spellings_of_one_label_do_not_replace_each_other(tmp_path: Path) -> None:
    name, text = draft_definition(table(tmp_path, "text"), tmp_path)
    definition = yaml.safe_load(text)
    task = definition["tasks"][name]
    path = tmp_path / "animals.yaml"
    for field, said in (("label_map", {"caf\u00e9": "x", "cafe\u0301": "y"}),
                        ("label_map", {1: "x", "1": "y"}),
                        ("words", {"default": {"x": "a", "x ": "b"}})):  # fmt: skip
        path.write_text(yaml.safe_dump({**definition, "tasks": {name: {**task, field: said}}}))
        with pytest.raises(IclError, match="stands twice, in two spellings"):
            load_family(str(path))
    with pytest.raises(IclError, match="'x' stands twice, in two spellings"):
        read_training(tmp_path / "animals.csv", words={"x": "a", "x ": "b"})
    with pytest.raises(IclError, match="stands twice, in two spellings"):
        validate("zero-shot", {"words": {"x": "a", "x ": "b"}})
    labels = Labels(("caf\u00e9", "x"), ("y", "z"), Template("{{ text }}:"))
    asked = validate("zero-shot", {"words": {"cafe\u0301 ": "coffee"}})
    assert asked.worded(labels, "task").words == ("coffee", "z")


def test_a_drafted_definition_calls_numbered_classes_by_their_stored_names(tmp_path: Path) -> None:
    import datasets

    kinds = {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    rows = {"text": [f"text {i}" for i in range(8)], "label": [0, 1] * 4}
    made = datasets.Dataset.from_dict(rows, features=datasets.Features(kinds))
    made.to_parquet(str(tmp_path / "moods.parquet"))
    name, text = draft_definition(tmp_path / "moods.parquet", tmp_path)
    (tmp_path / "moods.yaml").write_text(text)
    task = load_family(str(tmp_path / "moods.yaml")).load(name, "und")
    assert task.labels == ("bad", "good")
    assert [e.label for e in task.examples] == ["bad", "good"] * 4


@pytest.mark.parametrize("column", sorted(RESERVED))
def test_a_column_with_a_name_of_jinjas_is_shown_all_the_same(tmp_path: Path, column: str) -> None:
    path = table(tmp_path, column)
    name, text = draft_definition(path, tmp_path, fields=[column])
    (tmp_path / "animals.yaml").write_text(text)
    task = load_family(str(tmp_path / "animals.yaml")).load(name, "en")
    assert "a cat" in task.template.render(task.examples[0].fields)
    training = read_training(path, text=[column])
    assert "a cat" in training.labels.template.render(training.support[0].fields)
    field = next(iter(task.examples[0].fields))
    (tmp_path / "animals.yaml").write_text(text.replace(field, column))
    with pytest.raises(IclError):
        load_family(str(tmp_path / "animals.yaml"))


def test_a_template_that_shows_a_word_of_jinjas_own_is_refused() -> None:
    for source in ("{{ none }}", "{{ true }}", "{{ False | trim | upper }}", "{{ self }}"):
        with pytest.raises(IclError, match="field"):
            template_fields(source)
    assert template_fields("{{ 1 }}{{ text if text is not none else '' }}") == {"text"}


@pytest.mark.parametrize("target", [" {{ label }}", "{{ label }}"])
def test_a_blank_between_input_and_answer_stands_once(target: str) -> None:
    doubled = Template("Word: {{ text }}\nKind: ", target)
    single = Template("Word: {{ text }}\nKind:", " {{ label }}")
    shown, fields = [({"text": "May"}, "month")], {"text": "Juni"}
    for template in (doubled, single):
        whole = template.prompt(shown, fields) + template.answer("month")
        assert whole == "Word: May\nKind: month\n\nWord: Juni\nKind: month"
    if target[0] == " ":
        assert doubled.prompt(shown, fields) == single.prompt(shown, fields)
        assert cue(doubled) == cue(single)
    turned = split(doubled)
    assert turned.prompt([], "month") + turned.input(fields) == "Kind: month\nWord: Juni"


def test_words_of_parameters_are_held_against_the_tasks_own() -> None:
    labels = Labels(("bad", "good"), ("bad", "good"), Template("{{ text }}:"))
    for params in ({"words": {"bad": "good"}}, {"words": {"good": " bad"}},
                   {"target": " {{ label | first }}", "words": {"bad": "go"}}):  # fmt: skip
        with pytest.raises(IclError, match="the word of both 'bad' and 'good'"):
            validate("in-context", params).check_task(labels, ())
    validate("in-context", {"words": "letter"}).check_task(labels, ())
    with pytest.raises(IclError, match="each its own"):
        validate("zero-shot", {"words": {"bad": "x", "good": "x"}})


def test_predict_refuses_words_that_are_alike_before_a_model_loads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("icl.models.loading.load.load_backbone", None)
    train, new, out = table(tmp_path, "text"), tmp_path / "new.csv", tmp_path / "out.csv"
    new.write_text("text\na cow\n")
    for options in ({"words": {"x": "same", "y": "same "}},
                    {"params": {"words": {"x": "y"}}}):  # fmt: skip
        with pytest.raises(IclError, match="the word of both 'x' and 'y'"):
            label_table(train, new, out, **options)
    with pytest.raises(IclError, match=r"names 'yy', which is no label here.*'y'"):
        label_table(train, new, out, params={"words": {"yy": "no"}})
    with pytest.raises(IclError, match="'x' twice"):
        _words(["x=a", "x=b"])


def test_an_estimator_refuses_words_and_templates_that_are_not_its_own() -> None:
    texts, classes = ["a good day", "a bad day"], [1, 0]
    for options, told in (({"words": {2: "x"}}, "names 2, which is no class"),
                        ({"words": {1: "x", 0: "x "}}, "'x' is the word of both '0' and '1'"),
                        ({"template": "Text:"}, "shows no field"),
                        ({"template": "{{ txt }}"}, "shows txt")):  # fmt: skip
        with pytest.raises(IclError, match=told):
            FewShotClassifier("tfidf", **options).fit(texts, classes)
    FewShotClassifier("tfidf", words={1: "good", 0: "bad"}).fit(texts, classes)
