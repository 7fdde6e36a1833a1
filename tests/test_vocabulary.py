"""One word for one thing: what a user reads keeps to the glossary, and names in code mean one thing each."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = [file for folder in ("bayesunmix", "inference", "models") for file in (ROOT / folder).rglob("*.py")]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")])

# What the glossary has another word for, as it stood in sentences.
BANNED = re.compile(
    r"""\btotal\ spectr(um|a)\b                                      # sum spectrum
    | \batoms?\ of\ the\ (abundance|prior|mixture)                  # support points
    | \b(is|are)\ no\ mixture\b | \bplaces?\ that\ (do|does)\ not\ fit  # region of significant residual
    | \bloose\ ends?\b                                              # non-identifiable
    | \b(an|the)other\ modes?\b | \bnats\ (above|below|worse|better)  # second maximum, with its odds
    | \bleans?\ (on|against)\b | \bcut\ (normal|at\ zero|to\ zero)  # truncated at zero
    | \bveil                                                        # spurious low abundance
    | \bparts\ of\ (the|a)\ map\ (are|differ|scatter|that)          # spatial heterogeneity
    """,
    re.VERBOSE | re.IGNORECASE,
)
# In a sentence, that is, beside other words; alone it is a name in files.
BANNED_IN_SENTENCES = re.compile(r"\s\b[Tt]iles?\b|\b[Tt]iles?\b\s")
# The glossary lists what is not used, and the tutorial shows output of a run; it is rendered anew with each version.
NOT_HELD = {"glossary.md", "tutorial.md"}
# Names that earlier versions wrote, which are still read.
EARLIER = {"Places that do not fit"}


def said(file: Path) -> list[tuple[int, str]]:
    """Every string of a module that is no docstring, with its line; those of one f-string together."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            found.append((node.lineno, "".join(str(part) for part in parts)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if id(node) not in inside | docstrings:
                found.append((node.lineno, node.value))
    return found


def banned(text: str) -> str | None:
    """Return the first banned words of a text on one line."""
    line = " ".join(text.split())
    hit = BANNED.search(line) or BANNED_IN_SENTENCES.search(line)
    return None if hit is None or line in EARLIER else hit.group()


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("The total spectrum shows lines.", "total spectrum"),
        ("Another mode lies only 3.0 nats above the best one.", "Another mode"),
        ("Some places are no mixture of the declared phases.", "are no mixture"),
        ("36 parts of the map differ.", "parts of the map differ"),
        ("tiles", None),
        ("The map has too few blocks for tiles.", " tiles"),
        ("The sum spectrum shows lines.", None),
    ],
)
def test_banned_words_are_found(text: str, hit: str | None) -> None:
    assert banned(text) == hit


def test_what_users_read_keeps_to_the_glossary() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {hit}"
        for file in PACKAGE
        for line, text in said(file)
        if (hit := banned(text)) is not None
    ]
    assert not found


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page.name not in NOT_HELD], ids=lambda page: page.name
)
def test_pages_keep_to_the_glossary(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = [
        f"line {text.count(chr(10), 0, hit.start()) + 1}: {' '.join(hit.group().split())}"
        for hit in re.finditer(BANNED.pattern.replace(r"\ ", r"\s+"), text, BANNED.flags)
    ]
    assert not found


def test_a_public_class_has_a_name_of_its_own() -> None:
    """Parts of the record are named after what they record, in one file of their own."""
    where: dict[str, list[str]] = {}
    for file in PACKAGE:
        if file.name == "record_parts.py":
            continue
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                where.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in where.items() if len(files) > 1} == {}
