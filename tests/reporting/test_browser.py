"""The page in a real browser, where there is one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.evaluation.synthetic import LEARNERS, run_records
from tests.reporting.test_page import write

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not BROWSER, reason="needs Chromium (apt-get install chromium)"),
]
LONG = "a-learner-with-a-very-long-name_that_has_no_place_to_break_at_all"


def browse(
    profile: Path, page: Path, width: int, *options: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            f"--window-size={width},1000",
            *options,
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    learners = {**LEARNERS, LONG: (0.4, 0.1, 3.0), "学習器": (0.5, 0.1, 1.0)}
    records = run_records(learners=learners, shots=(0, 1, 2, 4, 8), episodes_per_cell=1)
    folder = tmp_path_factory.mktemp("run")
    return write(folder, records, command="icl run " + "x" * 300, config={"a": "y" * 300})


@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_itself_never_scrolls_sideways(tmp_path, page, width):
    # The page forbids scripts; to measure it, a copy allows one. It stands in a frame, since a
    # headless window is never narrower than 500 pixels.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text("utf-8"))
    script = (
        "<script>for (const d of document.querySelectorAll('details')) d.open = true;"
        "parent.postMessage([innerWidth, document.documentElement.scrollWidth], '*')</script>"
    )
    (tmp_path / "copy.html").write_text(text.replace("</body>", script + "</body>"), "utf-8")
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<script>onmessage = e => document.body.append(`inner ${e.data[0]} scroll ${e.data[1]}`)"
        f"</script><iframe src='copy.html' style='width:{width}px;height:900px;border:0'></iframe>"
    )
    dom = browse(tmp_path / "profile", frame, 1600, "--dump-dom").stdout
    found = re.search(r"inner (\d+) scroll (\d+)", dom)
    assert found is not None
    assert int(found[1]) == width
    assert int(found[2]) <= width


def test_the_browser_has_nothing_to_complain_about(tmp_path, page):
    done = browse(tmp_path / "profile", page, 1440, "--dump-dom")
    assert "CONSOLE" not in done.stderr
    # two settings by shots, two costs, and the reliability of nine learners
    assert done.stdout.count('role="img"') == 4 + 9


def test_the_complaint_check_can_fail(tmp_path, page):
    broken = tmp_path / "broken.html"
    text = page.read_text("utf-8").replace("</body>", "<script>alert(1)</script></body>")
    broken.write_text(text, encoding="utf-8")
    assert "CONSOLE" in browse(tmp_path / "profile", broken, 1440, "--dump-dom").stderr
