"""Draw the Mermaid diagrams of the pages: python scripts/diagrams.py

GitHub draws a page's ``mermaid`` blocks itself. The site shows the drawings that this script keeps
under docs/diagrams, named by a hash of what they draw, so that neither building nor reading it
needs Mermaid, JavaScript, or the network. mkdocs takes this file as a hook, which puts each drawing
in its block's place. To draw anew wants npm, for Mermaid itself, and Chromium.
"""

from __future__ import annotations

import hashlib
import html
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
DRAWN = DOCS / "diagrams"
MERMAID = "mermaid@11.17.2"
_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PAGE = """<!doctype html><meta charset="utf-8"><script src="mermaid.min.js"></script><body><script>
mermaid.initialize({startOnLoad: false, theme: "neutral", htmlLabels: false,
  flowchart: {htmlLabels: false}, fontFamily: "sans-serif", deterministicIds: true});
mermaid.render("diagram", TEXT).then(({svg}) => { document.body.innerHTML = svg; });
</script>"""


def diagrams() -> dict[str, str]:
    """Return the diagrams of all pages, by the names of their drawings."""
    pages = (page.read_text("utf-8") for page in sorted(DOCS.rglob("*.md")))
    return {_name(text): text for page in pages for text in _BLOCK.findall(page)}


def _name(text: str) -> str:
    return f"{hashlib.sha256(text.encode()).hexdigest()[:12]}.svg"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Show each diagram's drawing, as mkdocs asks of a hook; ``page.url`` says how deep it is."""
    up = "../" * page.url.count("/")

    def shown(block: re.Match[str]) -> str:
        return f'<img class="diagram" alt="Diagram" src="{up}diagrams/{_name(block[1])}">'

    return _BLOCK.sub(shown, markdown)


def main() -> None:
    """Draw what is not drawn yet, and remove what no page shows any more."""
    wanted = diagrams()
    DRAWN.mkdir(exist_ok=True)
    for path in DRAWN.glob("*.svg"):
        if path.name not in wanted:
            path.unlink()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        missing = {n: text for n, text in wanted.items() if not (DRAWN / n).is_file()}
        if missing:
            _fetch(folder)
        for n, text in missing.items():
            (DRAWN / n).write_text(_drawn(folder, text), "utf-8")
            print(DRAWN / n)


def _fetch(folder: Path) -> None:
    subprocess.run(["npm", "pack", "--silent", MERMAID], cwd=folder, check=True)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        member = tar.extractfile("package/dist/mermaid.min.js")
        assert member is not None
        (folder / "mermaid.min.js").write_bytes(member.read())


def _drawn(folder: Path, text: str) -> str:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("There is no Chromium to draw with; install it.")
    page = folder / "page.html"
    page.write_text(_PAGE.replace("TEXT", repr(text)), "utf-8")
    done = subprocess.run(
        [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}",
         "--virtual-time-budget=20000", "--dump-dom", page.as_uri()],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"<svg.*</svg>", done.stdout, re.DOTALL)
    if found is None or "Syntax error" in done.stdout:
        raise SystemExit(f"Mermaid cannot draw this:\n{text}")
    # a drawing of its own, on paper: text must be read in the dark scheme too
    drawn = html.unescape(found[0]).replace("<br>", "<br/>")
    return drawn.replace('style="', 'style="background: white; ', 1) + "\n"


if __name__ == "__main__":
    main()
