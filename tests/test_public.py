"""What users read imports `bayesunmix` alone, and finds everything it needs there."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import bayesunmix as bu

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Studies of coverage are a package of their own, for those who test a model.
PUBLIC = re.compile(r"bayesunmix(\.laboratory(\.\w+)?)?")


def blocks(page: Path) -> Iterator[ast.Module]:
    """Yield the Python of a page, block by block; those of a session are no such."""
    for code in re.findall(
        r"^```(?:\{code-cell\} )?python\n(.*?)^```",
        page.read_text(encoding="utf-8"),
        re.DOTALL | re.MULTILINE,
    ):
        yield ast.parse(code)


def modules(tree: ast.Module) -> list[str]:
    """Return the modules of the package that a tree imports."""
    nodes = list(ast.walk(tree))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return [name for name in names if name.split(".")[0] == "bayesunmix"]


def unknown(tree: ast.Module) -> list[str]:
    """Return what a tree asks of ``bu`` that is not public."""
    asked = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    found = [name.split(".") for name in asked if re.fullmatch(r"bu(\.\w+)+", name)]
    return [
        ".".join(name)
        for name in found
        if name[1] not in bu.__all__
        or (name[1] == "simulate" and name[2:3] and name[2] not in bu.simulate.__all__)
    ]


@pytest.mark.parametrize("path", [*EXAMPLES, *PAGES], ids=lambda path: path.name)
def test_the_package_alone_is_enough(path: Path) -> None:
    trees = [ast.parse(path.read_text(encoding="utf-8"))] if path.suffix == ".py" else list(blocks(path))
    for tree in trees:
        assert [name for name in modules(tree) if not PUBLIC.fullmatch(name)] == []
        assert unknown(tree) == []


def test_what_is_internal_is_found() -> None:
    tree = ast.parse(
        "import bayesunmix as bu\nfrom bayesunmix.core import errors\nbu.core.errors\nbu.simulate.np"
    )
    assert modules(tree) == ["bayesunmix", "bayesunmix.core"]
    assert unknown(tree) == ["bu.core.errors", "bu.simulate.np", "bu.core"]


@pytest.mark.parametrize("name", bu.__all__)
def test_public_names_are_there_and_described(name: str) -> None:
    found = getattr(bu, name)
    assert name == "__version__" or (found.__doc__ or "").strip()
