"""The wheel and the source archive hold all that icl needs outside its checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import icl

ROOT = Path(icl.__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    from hatchling.builders.wheel import WheelBuilder

    out = tmp_path_factory.mktemp("wheel")
    return Path(next(WheelBuilder(str(ROOT)).build(directory=str(out), versions=["standard"])))


def test_the_wheel_holds_every_module_definition_and_experiment(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for path in (ROOT / "icl").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    for folder in ("tasks", "configs"):
        for path in (ROOT / folder).iterdir():
            assert f"icl/_shipped/{folder}/{path.name}" in names
    assert not [name for name in names if "tests/" in name or "__pycache__" in name]


def test_the_wheel_works_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    place, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(place)
    empty.mkdir()
    code = (
        f"import sys; sys.path.insert(0, {str(place)!r})\n"
        "import icl; assert icl.__file__.startswith(sys.path[0]), icl.__file__\n"
        "from icl.experiments.config import load_config\n"
        "from icl.tools.shipped import find_config\n"
        "print(load_config(find_config('quickstart')).name, len(icl.tasks.family_names()))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=empty, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    name, families = done.stdout.split()
    assert (name, int(families)) == ("quickstart", len(list((ROOT / "tasks").glob("*.yaml"))))


def test_the_source_archive_can_be_built_from_and_tested(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    from hatchling.builders.sdist import SdistBuilder

    archive = next(SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    wanted = {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "tasks/cldr.yaml",
              "configs/quickstart.yaml", "tests/test_packaging.py", "icl/__init__.py"}  # fmt: skip
    assert wanted <= names


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == icl.__version__
    assert citation["license"] == "Apache-2.0"
    assert citation["cff-version"] == "1.2.0"


def test_the_release_workflow_is_valid_yaml_with_least_rights() -> None:
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))
    assert flow["permissions"] == {"contents": "read"}
    assert all("steps" in job for job in flow["jobs"].values())
