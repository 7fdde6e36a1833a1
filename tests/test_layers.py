"""Imports point one way, lazy and type-only ones included: the contracts stand in pyproject.toml."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bayesunmix.core.attached import _found, homes

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that holds the package in one piece, as a wheel does."""
    folder = tmp_path_factory.mktemp("house")
    without = shutil.ignore_patterns("__pycache__")
    for package, source in PROJECT["setuptools"]["package-dir"].items():
        shutil.copytree(ROOT / source, folder.joinpath(*package.split(".")), ignore=without)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the contracts on a folder, on its own copy of the package."""
    # In safe mode the interpreter would not find the copy, and an editable install's finder comes after the path.
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as run; run()",
        "--no-cache",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def test_imports_point_one_way(house: Path) -> None:
    found = lint(house)
    assert found.returncode == 0, found.stdout + found.stderr
    modules = sum(1 for _ in (house / "bayesunmix").rglob("*.py"))
    read = re.search(r"Analyzed (\d+) files", found.stdout)
    assert read is not None, found.stdout
    assert int(read[1]) == modules


@pytest.mark.parametrize("how", ["import", "lazy", "type-only"])
def test_an_import_that_points_up_is_found(house: Path, tmp_path: Path, how: str) -> None:
    folder = tmp_path / "house"
    shutil.copytree(house, folder)
    line = "from bayesunmix.results.result import Result"
    text = {
        "import": f"{line}\n",
        "lazy": f"def up() -> None:\n    {line}\n",
        "type-only": f"from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    {line}\n",
    }[how]
    (folder / "bayesunmix" / "core" / "upward.py").write_text(text, encoding="utf-8")
    found = lint(folder)
    assert found.returncode == 1
    assert "bayesunmix.core.upward -> bayesunmix.results.result" in found.stdout


def test_a_circle_is_found(house: Path, tmp_path: Path) -> None:
    folder = tmp_path / "house"
    shutil.copytree(house, folder)
    for one, other in (("to", "fro"), ("fro", "to")):
        (folder / "bayesunmix" / "core" / f"{one}.py").write_text(
            f"import bayesunmix.core.{other}\n", encoding="utf-8"
        )
    assert lint(folder).returncode == 1


@pytest.mark.parametrize(("owner", "part"), homes())
def test_attached_parts_are_where_the_package_says(owner: str, part: str) -> None:
    assert callable(_found(homes()[owner, part]))
