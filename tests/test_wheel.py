"""A wheel holds all that the project needs, and does its job far from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from search.records.tables import COLUMNS

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("data_prep", "trainables", "search")


def call(*words: str, folder: Path, **env: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, env={**os.environ, **env}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays as it is and lends no leftovers."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, folder / "copy" / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(REPOSITORY / name, folder / "copy")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    call(*pip, "wheel", *options, "./copy", folder=folder)
    (built,) = folder.glob("*.whl")
    call(*pip, "install", "--no-deps", "--target", "installed", str(built), folder=folder)
    return built


@pytest.mark.slow
def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    wanted = {
        str(path.relative_to(wheel.parent / "copy"))
        for name in PACKAGES
        for path in (wheel.parent / "copy" / name).rglob("*")
        if path.is_file()
    }
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert {
        "search/ARCHITECTURE.md",
        "search/CLUSTER.md",
        "search/deploy/slurm.sh",
        "search/review/templates/report.html",
    } <= held


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_installed_wheel_does_the_job_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    installed = wheel.parent / "installed"
    python = {"PYTHONPATH": str(installed)}
    code = "import search; print(search.__file__)"
    where = call(sys.executable, "-c", code, folder=tmp_path, **python)
    assert Path(where.strip()) == installed / "search" / "__init__.py"
    small = ["--num-samples", "2", "--num-epochs", "2", "--name", "one", "--no-confirm"]
    program = str(installed / "bin" / "resnet-tune")
    told = call(program, "run", "digits", *small, folder=tmp_path, **python)
    assert "test accuracy: " in told
    found = tmp_path / "results" / "digits" / "one"
    assert (found / "trials.csv").read_text().startswith(",".join(COLUMNS))
    assert "<title>" in (found / "report.html").read_text()
    assert len((found / "submission.csv").read_text().splitlines()) == 365
