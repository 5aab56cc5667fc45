from __future__ import annotations

import errno
import os
import random
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from icl.errors import IclError
from icl.evaluation import summarise
from icl.reporting import verdict, write_report
from tests.evaluation.synthetic import LEARNERS, run_records

EVIL = """<script>alert("x")</script><img src=x onerror='alert(1)'>&amp;"""
VOID = {"meta", "path", "rect", "br", "link", "img", "use", "input"}


class Page(HTMLParser):
    """Reads a page as a browser would: its elements, attributes and text, and how they nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)


def write(folder: Path, records=None, **changes):
    options = {
        "config": {"name": "quick", "learners": ["lora"]},
        "environment": {"python": "3.11"},
        "meta_training": {"fomaml": {"seconds": 75.0, "tokens": 1000, "steps": 40}},
        "command": "icl run configs/quickstart.yaml",
        **changes,
    }
    return write_report(folder, run_records() if records is None else records, **options)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return Page(write(tmp_path_factory.mktemp("run")).read_text(encoding="utf-8"))


def test_the_verdict_is_the_heading(page):
    assert "".join(page.words).count(verdict(summarise(run_records()))) == 1
    assert page.tags.index("h1") < page.tags.index("table")


def test_everything_promised_is_on_the_page(page):
    for part in (
        "Leader board",
        "Accuracy by shots",
        "Accuracy by language",
        "Cost against accuracy",
        "Reliability",
        "Calibration error",
        "Meta-training",
        "From how many tasks on meta-training pays",
        "icl run configs/quickstart.yaml",
        "python: '3.11'",
        "- lora",
        "zh_Hant",
        "within, 5 shots",
        "not above chance",
        *LEARNERS,
    ):
        assert part in page.text, part


def test_the_page_needs_no_network_and_no_script(page):
    assert not {"script", "link", "img", "iframe", "object", "embed"} & set(page.tags)
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in {"href", "src", "xlink:href", "action", "data"}:
            assert value.startswith("#")
        assert "http://" not in value and "https://" not in value


def test_ids_are_unique_and_every_reference_has_its_target(page):
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    wanted = {value[1:] for name, value in page.attributes if name == "href"}
    for _, value in page.attributes:
        wanted |= set(re.findall(r"url\(#([^)]*)\)", value))
    assert wanted and wanted <= set(ids)


def test_every_element_is_closed(page):
    assert page.open == []


def test_colours_follow_the_page_and_no_stand_in_is_left(tmp_path):
    text = write(tmp_path).read_text(encoding="utf-8")
    assert not re.search(r"#0[123]0[0-9a-f]0[0-9a-f]\b", text)
    assert "var(--ink)" in text and "var(--learner-6)" in text
    defined = set(re.findall(r"(--[\w-]+):", text))
    assert set(re.findall(r"var\((--[\w-]+)\)", text)) <= defined


def test_texts_of_the_user_are_never_markup(tmp_path):
    records = run_records(
        learners={EVIL: (0.5, 0.1, 1.0), "漢字 العربية हिन्दी": (0.6, 0.1, 2.0)},
        settings=("within" + EVIL, "two" + EVIL),
        languages=("de" + EVIL, "ja"),
    )
    path = write(
        tmp_path / ("run " + EVIL.replace("/", "")),
        records,
        config={EVIL: {"a": EVIL}, "語": "漢字"},
        environment={EVIL: EVIL + "</pre></style>"},
        meta_training={EVIL: {"seconds": 1, "tokens": 1, "steps": 1}},
        command="icl run " + EVIL,
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img"} & set(page.tags)
    assert page.open == []
    assert "<script" not in text
    assert EVIL in "".join(page.words)
    assert "漢字 العربية हिन्दी" in page.text and "語: 漢字" in page.text


def test_the_same_records_in_any_order_give_the_same_bytes(tmp_path):
    records = list(run_records())
    first = write(tmp_path / "a" / "run", records).read_bytes()
    random.Random(0).shuffle(records)
    assert write(tmp_path / "b" / "run", records).read_bytes() == first


def test_the_bytes_do_not_depend_on_the_hash_seed_or_the_users_matplotlib(tmp_path):
    code = (
        "import sys; from pathlib import Path; from tests.reporting.test_page import write;"
        "write(Path(sys.argv[1]))"
    )
    found = set()
    for seed, style in (("1", "font.size: 30"), ("2", "svg.fonttype: path")):
        (tmp_path / f"rc{seed}").write_text(style)
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "MATPLOTLIBRC": str(tmp_path / f"rc{seed}"),
        }
        folder = tmp_path / seed / "run"
        subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            env=environment,
            cwd=Path(__file__).resolve().parents[2],
            check=True,
        )
        found.add((folder / "report.html").read_bytes())
    assert len(found) == 1


def test_drawing_leaves_the_users_matplotlib_as_it_was(tmp_path):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    write(tmp_path)
    assert dict(mpl.rcParams) == before


@pytest.mark.parametrize(
    "shape",
    [
        {"learners": {"solo": (0.5, 0.0, 1.0)}},
        {"settings": ("only",), "shots": (3,)},
        {"shots": (0, 1, 2, 4, 8, 16), "languages": ("en",), "episodes_per_cell": 1},
        {"learners": {f"learner {i}": (0.3, 0.1, 10.0**i) for i in range(-6, 6)}},
        {"learners": {"free": (0.9, 0.1, 0.0), "free too": (0.2, 0.0, 0.0)}},
        {"ways": 2, "queries": 1, "languages": ("en",), "episodes_per_cell": 1},
    ],
)
def test_runs_of_any_shape_have_a_page(tmp_path, shape):
    page = Page(write(tmp_path, run_records(**shape), meta_training={}).read_text("utf-8"))
    assert page.open == [] and "Leader board" in page.text


def test_an_unfinished_run_says_so_on_its_page(tmp_path):
    cut = [r for r in run_records() if r.learner != "lora" or r.index < 80]
    assert "Unfinished run" in Page(write(tmp_path, cut).read_text(encoding="utf-8")).text


def test_a_full_disk_leaves_the_old_page_and_no_scraps(tmp_path, monkeypatch):
    path = write(tmp_path)
    before = path.read_bytes()

    def fill(self, text, encoding=None):
        self.write_bytes(text.encode()[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(IclError, match=r"Cannot write .*report\.html: No space left"):
        write(tmp_path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "pairs.csv", "report.html", "table.csv", "table.md", "table.tex",
    ]  # fmt: skip


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, icl.reporting;"
        "print({'numpy', 'torch', 'matplotlib', 'rich', 'jinja2.environment'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
