"""The wheel equals the checkout, and the package stays light to import."""

import ast
import importlib
import importlib.resources
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import bayesunmix
from bayesunmix.results.run_facts import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def test_every_package_is_declared() -> None:
    found = {
        ".".join((package, *init.parent.relative_to(ROOT / folder).parts))
        for package, folder in SETUPTOOLS["package-dir"].items()
        for init in (ROOT / folder).rglob("__init__.py")
    }
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def test_every_data_file_is_declared() -> None:
    folders = {"bayesunmix": ROOT / "bayesunmix"} | {
        name: ROOT / SETUPTOOLS["package-dir"].get(name, name.replace(".", "/"))
        for name in SETUPTOOLS["packages"]
    }
    for package, folder in folders.items():
        patterns = SETUPTOOLS["package-data"].get(package, [])
        declared = {path for pattern in patterns for path in folder.glob(pattern)}
        present = {path for path in _files(folder) if path.suffix not in (".py", ".pyc")}
        assert present <= declared, f"{package} ships without {present - declared}"


def _files(folder: Path) -> Iterator[Path]:
    """Files of a package, those in folders that are no package of their own with them."""
    for path in folder.iterdir():
        if path.is_file():
            yield path
        elif not (path / "__init__.py").exists():
            yield from _files(path)


@pytest.mark.parametrize("folder", ["benchmarks", "docs", "examples", "tests"])
def test_scripts_import_what_is_there(folder: str) -> None:
    """Imports inside functions run only where the function does, in benchmarks of hours."""
    missing = [
        f"{file.name}: {statement.module}.{name.name}"
        for file in sorted((ROOT / folder).glob("**/*.py"))
        for statement in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("bayesunmix")
        for name in statement.names
        if not _is_there(str(statement.module), name.name)
    ]
    assert not missing


def _is_there(module: str, name: str) -> bool:
    found = importlib.import_module(module)
    return hasattr(found, name) or (
        hasattr(found, "__path__") and importlib.util.find_spec(f"{module}.{name}") is not None
    )


def test_import_loads_nothing_heavy() -> None:
    script = "import sys, json, bayesunmix, bayesunmix.cli; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in json.loads(run.stdout)}
    assert not loaded & {
        "jax",
        "numpyro",
        "hyperspy",
        "exspy",
        "matplotlib",
        "xarray",
        "pandas",
        "sklearn",
        "scipy",
    }


@pytest.mark.parametrize("name", bayesunmix.__all__)
@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_public_name_resolves(name: str) -> None:
    assert getattr(bayesunmix, name) is not None
    assert name in dir(bayesunmix)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'unmixx'"):
        _ = bayesunmix.unmixx


def test_version_is_the_citation_s() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {bayesunmix.__version__}\n" in citation


def test_recorded_versions_are_those_of_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {re.split(r"[\[<>=; ]", line)[0] for line in project["dependencies"]} | {"bayesunmix", "jaxlib"}
    assert set(PACKAGES) <= wanted


def test_the_recipe_asks_for_what_the_package_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (ROOT / ".github" / "recipe" / "recipe.yaml").read_text(encoding="utf-8")
    assert f'\n  version: "{bayesunmix.__version__}"\n' in recipe
    wanted = set(re.findall(r"^    - (\S+(?: \S+)?)$", recipe.split("  run:\n")[1].split("tests:")[0], re.M))
    # What conda-forge calls otherwise.
    names = {"hyperspy": "hyperspy-base", "matplotlib": "matplotlib-base"}
    for line in project["dependencies"]:
        name, limits = re.fullmatch(r"([\w-]+)(?:\[.*\])?([^;]*)(?:;.*)?", line).groups()  # type: ignore[union-attr]
        assert f"{names.get(name, name)} {limits.strip()}" in wanted, line


def test_the_release_names_the_repository_that_publishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pyproject.toml", "README.md"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.chdir(tmp_path)
    script = [sys.executable, str(ROOT / ".github" / "name_home.py"), "https://github.com/Some/where", "v1.2"]
    subprocess.run(script, check=True)
    urls = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    assert urls["Source"] == "https://github.com/Some/where"
    assert urls["Documentation"] == "https://some.github.io/where/"
    readme = Path("README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((?!https:)[^)]*\)", readme) == []
    assert "](https://github.com/Some/where/raw/v1.2/docs/pictures/demo.png)" in readme
    assert "](https://github.com/Some/where/blob/v1.2/docs/tutorial.md)" in readme


def test_the_schemas_ship() -> None:
    for module in ("bayesunmix.config.schema", "bayesunmix.results.record"):
        found = importlib.import_module(module)
        path = Path(found.FILE if hasattr(found, "FILE") else found.SCHEMA)
        assert path.name in {file.name for file in importlib.resources.files(found.__package__).iterdir()}
        assert json.loads(path.read_text(encoding="utf-8"))["$schema"]
