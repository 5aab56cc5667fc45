"""`label_table`: what it writes, what it keeps when it is stopped, and what it refuses."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from torch import Tensor

from icl.errors import IclError
from icl.labelling import job, label_table
from icl.labelling.journal import Journal
from icl.learners.base import Predictor
from icl.learners.registry import is_meta_learner as trained
from icl.learners.registry import make, methods
from icl.tasks.task import Example, Labels
from icl.tasks.template import Fields, Template
from tests import tiny, tiny_encoders
from tests.labelling import place
from tests.learners import problems

COMMON: dict[str, Any] = {"text": ["phrase"], "label": "kind"}
KINDS = sorted(problems.TEXTS)


@pytest.mark.parametrize("method", ["in-context", "lora", "prototypes", "tfidf", "soft-k-means"])
def test_rows_get_what_the_learner_says_of_them(tmp_path: Path, method: str) -> None:
    backbone = tiny.backbone()
    train, new = place.train(tmp_path), place.new(tmp_path)
    out = tmp_path / "out.csv"
    found = label_table(train, new, out, method=method, model=backbone, **COMMON)
    table = pd.read_csv(out, dtype={"number": str})
    given = pd.read_csv(new, dtype=str)
    pd.testing.assert_frame_equal(table[["number", "phrase"]], given)
    labels = Labels(tuple(KINDS), tuple(KINDS), Template(input="Phrase: {{ phrase }}\nLabel:"))
    support = [
        Example(str(i), {"phrase": text}, kind, "und", str(i))
        for i, (text, kind) in enumerate(place.ROWS)
    ]
    own = make(method, {}, backbone).adapt(support, labels)
    scores = own.log_probs([{"phrase": text} for text in given["phrase"]]).exp()
    columns = table[[f"p_{kind}" for kind in KINDS]]
    assert columns.to_numpy() == pytest.approx(scores.numpy(), abs=1e-4)
    assert columns.sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-4)
    best = [KINDS[i] for i in columns.to_numpy().argmax(1)]
    assert list(table["prediction"]) == best
    assert table["probability"].tolist() == pytest.approx(columns.max(axis=1).tolist())
    assert found.counts == {kind: best.count(kind) for kind in set(best)}
    assert list(tmp_path.glob(".*")) == []


@pytest.mark.parametrize("method", [m for m in methods() if not trained(m) and m != "setfit"])
def test_every_method_labels(tmp_path: Path, method: str) -> None:
    backbone: Any = tiny.backbone() if method in ("zero-shot", "in-context", "lora") else (
        tiny_encoders.encoder()
    )  # fmt: skip
    train, new = place.train(tmp_path), place.new(tmp_path)
    found = label_table(train, new, tmp_path / "o.csv", method=method, model=backbone, **COMMON)
    assert sum(found.counts.values()) == len(place.ROWS) + 1


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".json", ".parquet"])
def test_every_format_holds_the_same(tmp_path: Path, ending: str) -> None:
    train, new = place.train(tmp_path), place.new(tmp_path)
    out = tmp_path / f"out{ending}"
    label_table(train, new, out, method="tfidf", **COMMON)
    read: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": pd.read_csv,
        ".tsv": lambda p: pd.read_csv(p, sep="\t"),
        ".jsonl": lambda p: pd.read_json(p, lines=True, dtype=False),
        ".json": lambda p: pd.read_json(p, dtype=False),
        ".parquet": pd.read_parquet,
    }
    plain = tmp_path / "again.csv"
    label_table(train, new, plain, method="tfidf", **COMMON)
    pd.testing.assert_frame_equal(read[ending](out), pd.read_csv(plain), check_dtype=False)


class Stopping(Predictor):
    """Counts rows, and stops like a user when it has labelled so many."""

    def __init__(self, inner: Predictor, seen: list[Fields], most: int) -> None:
        self._inner, self._seen, self._most = inner, seen, most

    def log_probs(self, texts: Sequence[Fields]) -> Tensor:
        if len(self._seen) >= self._most:
            raise KeyboardInterrupt
        self._seen.extend(texts)
        return self._inner.log_probs(texts)


def test_a_stopped_labelling_goes_on_without_doing_a_row_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from icl.learners.baselines.text_baselines import Tfidf

    monkeypatch.setattr(job, "_TOGETHER", 2)
    train, new = place.train(tmp_path), place.new(tmp_path)
    whole = tmp_path / "whole.csv"
    label_table(train, new, whole, method="tfidf", **COMMON)
    plain, seen = Tfidf.adapt, []
    out = tmp_path / "out.csv"

    def watch(most: int) -> None:
        def adapt(self: Any, support: Sequence[Example], labels: Labels) -> Predictor:
            return Stopping(plain(self, support, labels), seen, most)

        monkeypatch.setattr(Tfidf, "adapt", adapt)

    watch(4)
    with pytest.raises(KeyboardInterrupt):
        label_table(train, new, out, method="tfidf", **COMMON)
    assert not out.exists()
    (part,) = tmp_path.glob(".out.csv.*.part")
    part.write_text(part.read_text()[:-9])  # a kill in the middle of a line
    watch(1000)
    found = label_table(train, new, out, method="tfidf", **COMMON)
    assert found.kept == 3 + 1  # the first text comes twice in the table
    assert len(seen) == len(place.ROWS) + 1  # each text once, and the torn one again
    assert out.read_text() == whole.read_text()


def test_another_question_takes_nothing_from_a_stopped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, new = place.train(tmp_path), place.new(tmp_path)
    monkeypatch.setattr(job, "write_table", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        label_table(train, new, tmp_path / "out.csv", method="tfidf", **COMMON)
    monkeypatch.undo()
    other = tmp_path / "other.csv"
    place.write(other, ("phrase", "kind"), place.ROWS[:-1])
    out = tmp_path / "out.csv"
    assert label_table(other, new, out, method="tfidf", **COMMON).kept == 0
    out.unlink()
    assert label_table(train, new, out, method="tfidf", **COMMON).kept == len(place.ROWS) + 1


def test_words_and_template_reach_the_model(tmp_path: Path) -> None:
    train, new = place.train(tmp_path), place.new(tmp_path)

    def probabilities(name: str, **more: Any) -> list[float]:
        out = tmp_path / name
        label_table(train, new, out, method="in-context", model=tiny.backbone(), **COMMON, **more)
        return pd.read_csv(out)["probability"].tolist()

    plain = probabilities("a.csv")
    assert probabilities("b.csv", words={KINDS[0]: "zz"}) != plain
    assert probabilities("c.csv", template="{{ phrase }} is") != plain
    assert probabilities("d.csv", instruction="Sort.\n\n") != plain


def test_labels_of_the_new_table_are_held_against_the_predictions(tmp_path: Path) -> None:
    train = place.train(tmp_path)
    labelled = place.write(
        tmp_path / "new.csv", ("phrase", "kind"), [*place.ROWS, ("something else", "?")]
    )
    out = tmp_path / "out.jsonl"
    found = label_table(train, labelled, out, method="tfidf", **COMMON)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert found.judged == len(place.ROWS) + 1
    assert found.unknown == {"?": 1}  # which no method can give: the row is wrong
    right = sum(row["kind"] == row["prediction"] for row in rows) / len(rows)
    assert found.accuracy is not None
    assert math.isclose(found.accuracy, right)


def test_spellings_of_a_label_that_nobody_sees_are_one_and_others_are_told(tmp_path: Path) -> None:
    kinds = ["café ", "cafe\u0301", "month", " month", "Month"]
    rows = [(text, kinds[i % 5]) for i, (text, _) in enumerate(place.ROWS)]
    train = place.write(tmp_path / "train.csv", ("phrase", "kind"), rows)
    new = place.write(tmp_path / "new.csv", ("phrase", "kind"), rows)
    with pytest.warns(UserWarning, match="the labels 'Month' and 'month', which count as two"):
        found = label_table(train, new, tmp_path / "o.csv", method="tfidf", **COMMON)
    assert set(found.counts) <= {"café", "month", "Month"}
    assert (found.judged, found.unknown) == (len(rows), {})


def test_a_label_that_takes_all_rows_is_told_of(tmp_path: Path) -> None:
    train = place.train(tmp_path)
    new = place.write(tmp_path / "new.csv", ("phrase",), [(f"qqq {i}",) for i in range(12)])
    with pytest.warns(UserWarning, match="'majority' gives '.*' to 12 of 12 rows, and 6 of 18"):
        label_table(train, new, tmp_path / "o.csv", method="majority", **COMMON)


def test_classes_that_datasets_stored_as_numbers_have_their_names(tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"phrase": datasets.Value("string"), "kind": datasets.ClassLabel(names=KINDS)}
    )
    columns = {
        "phrase": [t for t, _ in place.ROWS],
        "kind": [KINDS.index(k) for _, k in place.ROWS],
    }
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path)
    found = label_table(path, place.new(tmp_path), tmp_path / "o.csv", method="tfidf", **COMMON)
    assert set(found.counts) <= set(KINDS)


def test_scores_that_are_no_numbers_label_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from icl.learners.baselines.text_baselines import Tfidf
    from icl.sklearn import FewShotClassifier

    class Broken(Predictor):
        def log_probs(self, texts: Sequence[Fields]) -> Tensor:
            return torch.full((len(texts), len(KINDS)), torch.nan)

    monkeypatch.setattr(Tfidf, "adapt", lambda *_: Broken())
    train, new = place.train(tmp_path), place.new(tmp_path)
    with pytest.raises(IclError, match="'tfidf' gave scores that are not numbers"):
        label_table(train, new, tmp_path / "o.csv", method="tfidf", **COMMON)
    with pytest.raises(IclError, match="'tfidf' gave scores that are not numbers"):
        FewShotClassifier("tfidf").fit(["a", "b"], [0, 1]).predict(["c"])


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        (("phrse", "kind"), place.ROWS, "no column 'phrase'. Did you mean 'phrse'"),
        (("phrase", "kin"), place.ROWS, "no column 'kind'. Did you mean 'kin'"),
        (("phrase", "kind"), [("a", "x"), ("  ", "y")], "row 3: the column 'phrase' is empty"),
        (("phrase", "kind"), [("a", "x"), ("b", "")], "row 3: the column 'kind' is empty"),
        (("phrase", "kind"), [("a", "x"), ("b", "x")], "every row has the label 'x'"),
        (("phrase", "kind"), [(f"t{i}", f"l{i}") for i in range(501)], "501 different labels"),
        (("phrase;kind",), [("a;x",)], "separated by ';'"),
    ],
)
def test_faults_of_the_labelled_table_are_told(
    tmp_path: Path, header: tuple[str, ...], rows: list[tuple[str, ...]], said: str
) -> None:
    train = place.write(tmp_path / "train.csv", header, rows)
    with pytest.raises(IclError, match=r"train\.csv") as told:
        label_table(train, place.new(tmp_path), tmp_path / "o.csv", method="tfidf", **COMMON)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_faults_elsewhere_are_told(tmp_path: Path) -> None:
    train, new = place.train(tmp_path), place.new(tmp_path)

    def refused(said: str, *, to: Path = tmp_path / "o.csv", of: Path = new, **more: Any) -> None:
        with pytest.raises(IclError, match=said):
            label_table(train, of, to, **{"method": "tfidf", **COMMON, **more})

    refused("no column 'phrase'", of=place.write(tmp_path / "n.csv", ("a", "b"), [("x", "y")]))
    written = place.write(tmp_path / "m.csv", ("phrase", "prediction"), [("x", "y")])
    refused("'prediction' already", of=written)
    refused("no rows", of=place.write(tmp_path / "e.csv", ("phrase",), []))
    refused("There is no file", of=tmp_path / "missing.csv")
    refused("is read", to=new)
    refused("ends in one of", to=tmp_path / "o.xlsx")
    refused("'maml' must be meta-trained", method="maml")
    refused("Did you mean 'tfidf'", method="tfidff")
    refused("does not have. Did you mean", words={KINDS[0] + "s": "x"})
    refused("is no text column", template="{{ phrases }}")
    refused("shows no column", template="nothing")
    refused("no run.json", trained=tmp_path)
    (tmp_path / "o.csv").write_text("precious")
    refused("exists")
    assert (tmp_path / "o.csv").read_text() == "precious"


@pytest.mark.parametrize(
    "line",
    [
        '["KEY", [-0.1, -0.2, -0.3]]',  # as it was before there were checksums
        '["KEY", [-0.1, -0.2, -0.3], "CHECK"]',  # other numbers
        '["KEY", [NaN, -0.2, -0.3], "CHECK"]',
        '["KEY", [-Infinity, -0.2, -0.3], "CHECK"]',
        '["KEY", [-1, -1, -1], "CHECK"]',
        f'["KEY", [-{"9" * 400}, -0.2, -0.3], "CHECK"]',
        f'["KEY", [1e999, -0.2, -0.3], "{"é" * 3}"]',
        '["KEY", [-0.1, -0.2], "CHECK"]',
        '["KEY", [null, -0.2, -0.3], "CHECK"]',
        '["KEY", ["-0.1", "-0.2", "-0.3"], "CHECK"]',
        '["KEY", [[-0.1], [-0.2], [-0.3]], "CHECK"]',
        '["KEY", {"0": -0.1, "1": -0.2, "2": -0.3}, "CHECK"]',
        '["KEY", "abc", "CHECK"]',
        '["KEY", null, null]',
        '[["KEY"], [-0.1, -0.2, -0.3], "CHECK"]',
        '[null, [-0.1, -0.2, -0.3], "CHECK"]',
        '{"KEY": [-0.1, -0.2, -0.3], "a": 1, "b": 2}',
        '"abc"',
        "[]",
        "3",
        "true",
    ],
)
def test_a_line_that_no_labelling_wrote_is_refused_in_a_sentence(tmp_path: Path, line: str) -> None:
    out = tmp_path / "out.csv"
    journal = Journal(out, "job", 3)
    journal.add(["first", "second"], [[-0.5, -1.0, -2.0], [-3.0, -0.25, -1.0]])
    first, second = journal.path.read_text().splitlines(keepends=True)
    key, _, check = json.loads(second)
    journal.path.write_text(first + line.replace("KEY", key).replace("CHECK", check) + "\n")
    before = journal.path.read_bytes()
    with pytest.raises(IclError, match=r"\.out\.csv\.job\.part, line 2: this is not what") as told:
        Journal(out, "job", 3)
    assert "\n" not in str(told.value)
    assert journal.path.read_bytes() == before
    journal.path.write_text(first + second)
    assert Journal(out, "job", 3).rows == journal.rows


@pytest.mark.parametrize(
    "torn", [b"", b"\n", b"[", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"\0" * 9 + b"\n", b"null"]
)
def test_a_torn_line_is_done_again(tmp_path: Path, torn: bytes) -> None:
    out = tmp_path / "out.csv"
    journal = Journal(out, "job", 2)
    journal.add(["first"], [[-0.5, -1.0]])
    whole = journal.path.read_bytes()
    for content in (whole + torn, torn + whole if torn.endswith(b"\n") else whole):
        journal.path.write_bytes(content)
        assert Journal(out, "job", 2).rows == {"first": [-0.5, -1.0]}
        assert journal.path.read_bytes() == whole


@pytest.mark.parametrize(
    ("given", "shown", "told"),
    [
        ((9, 1), (10, 10), True),  # nine tenths of ten rows
        ((89, 11), (10, 10), False),
        ((9, 0), (10, 10), False),  # too few rows
        ((10, 0), (15, 5), True),  # a quarter more than among the labelled rows
        ((10, 0), (16, 4), False),
    ],
)
def test_one_label_for_nearly_all_rows_is_told_from_nine_tenths_on(
    given: tuple[int, int], shown: tuple[int, int], told: bool, recwarn: pytest.WarningsRecorder
) -> None:
    support = [
        Example(f"{name}{i}", {"text": "x"}, name, "", f"{name}{i}")
        for name, count in zip("ab", shown, strict=True)
        for i in range(count)
    ]
    labels = Labels(("a", "b"), ("a", "b"), Template("{{ text }}"))
    training = job.Training(tuple(support), labels, {"text": "text"}, "label")
    job._warn_of_one_for_all("in-context", Counter(a=given[0], b=given[1]), training)
    assert [str(w.message).startswith("The method 'in-context' gives 'a'") for w in recwarn] == [
        True
    ] * told
