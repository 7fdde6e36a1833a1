"""What users read names what is there: links, files, commands, keys, Python names, and the map of the house."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import itertools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import bayesunmix as bu
from bayesunmix.analysis.comparison import Comparison
from bayesunmix.analysis.comparison_tables import ComparisonTables
from bayesunmix.analysis.free_unmixing import FreeUnmixing
from bayesunmix.analysis.onuma import Onuma
from bayesunmix.arguments import TABLES
from bayesunmix.chemistry.compounds import read_compounds
from bayesunmix.cli import main
from bayesunmix.config.cluster import ClusterConfig
from bayesunmix.config.run_config import RunConfig, SimulateConfig
from bayesunmix.config.simulation import PhaseTable
from bayesunmix.plot import ResultPlots
from bayesunmix.results.record import RunRecord
from bayesunmix.results.result_tables import ResultTables
from bayesunmix.results.verdict import Verdict

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
# The tutorial is what its script prints: tests/test_tutorial.py holds the two together.
PAGES = [README, CONTRIBUTING, *sorted(page for page in DOCS.glob("*.md") if page.stem != "tutorial")]
MOST_WORDS = 1100

# What the variables of the examples are, and what hangs on them.
OBJECTS: dict[str, type] = {
    "image": bu.SpectrumImage,
    "result": bu.Result,
    "result.tables": ResultTables,
    "result.plot": ResultPlots,
    "result.verdict": Verdict,
    "result.record": RunRecord,
    "plot": ResultPlots,
    "batch": bu.Batch,
    "comparison": Comparison,
    "comparison.tables": ComparisonTables,
    "unmixed": FreeUnmixing,
    "found": bu.Segmentation,
    "diagram": Onuma,
}
_SUFFIXES = "csv|hspy|html|json|log|md|nc|pdf|png|py|toml"
_FOLDERS = "bayesunmix|models|inference|tests|benchmarks|examples|docs"


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in a language."""
    return re.findall(
        rf"^```(?:\{{code-cell\}} )?{language}\n(.*?)^```", text_of(page), flags=re.DOTALL | re.MULTILINE
    )


def inline(page: Path) -> list[str]:
    """Return what a page sets as code within its sentences."""
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def each(*pages: Path) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages or PAGES, ids=lambda page: page.name)


@each()
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@each()
def test_files_and_modules_that_are_named_exist(page: Path) -> None:
    for name in inline(page):
        if re.fullmatch(rf"(?:{_FOLDERS})/[\w/.-]+", name):
            assert (ROOT / name).exists(), name
        if re.fullmatch(r"bayesunmix(\.\w+)+", name):
            assert found(name), name


def found(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, last = name.rpartition(".")
        return hasattr(importlib.import_module(module), last)
    return True


def test_the_contents_list_every_page() -> None:
    listed = set(re.findall(r"\]\(([\w.]+)\)", text_of(DOCS / "index.md")))
    assert listed == {path.name for path in DOCS.iterdir() if path.suffix in (".md", ".json")} - {"index.md"}


def test_every_page_is_found_on_the_site() -> None:
    """`docs/conf.py` makes the toctrees of the lines that begin with a link."""
    sections = re.split(r"^## ", text_of(DOCS / "index.md"), flags=re.MULTILINE)[1:]
    found = [
        name for part in sections for name in re.findall(r"^\* \[[^\]]+\]\((\w+)\.md\)", part, re.MULTILINE)
    ]
    assert sorted(found) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")


@each(*sorted(DOCS.glob("*.md")))
def test_a_page_has_one_title_and_no_step_is_left_out(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    levels = [len(marks) for marks in re.findall(r"^(#+) ", prose, flags=re.MULTILINE)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in itertools.pairwise(levels))


@each(*sorted(DOCS.glob("*.md")))
def test_a_page_begins_with_a_sentence(page: Path) -> None:
    after = re.split(r"^# .+$", text_of(page), maxsplit=1, flags=re.MULTILINE)[1].strip()
    assert re.match(r"[\w*`\[]", after), after.splitlines()[0]
    assert not after.startswith(("    ", "```"))


def test_every_public_name_is_in_the_python_reference() -> None:
    parts = re.findall(
        r"^```\{eval-rst\}\n(.*?)^```", text_of(DOCS / "api.md"), flags=re.DOTALL | re.MULTILINE
    )
    listed = []
    for part in parts:
        module = re.findall(r"^\.\. currentmodule:: (\S+)$", part, flags=re.MULTILINE)[0]
        listed += [f"{module}.{name}" for name in re.findall(r"^   (\w[\w.]*)$", part, flags=re.MULTILINE)]
    assert len(listed) == len(set(listed))
    assert all(found(name) for name in listed)
    module = "bayesunmix.simulation.simulate"
    public = {f"bayesunmix.{name}" for name in bu.__all__ if name not in ("__version__", "simulate")}
    assert public | {f"{module}.{name}" for name in bu.simulate.__all__} <= set(listed)


def test_the_readme_is_one_page() -> None:
    assert len(text_of(README).split()) <= MOST_WORDS


def asked(tree: ast.AST) -> Iterator[tuple[type, str]]:
    """Yield what a tree asks of objects that are known by their variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (owner := OBJECTS.get(ast.unparse(node.value))):
            yield owner, node.attr


def has(owner: type, name: str) -> bool:
    fields = {field.name for field in dataclasses.fields(owner)} if dataclasses.is_dataclass(owner) else set()
    return name in {*fields, *getattr(owner, "model_fields", ())} or hasattr(owner, name)


def is_expression(text: str) -> bool:
    """Whether code within a sentence is an expression of an object, and no file name, key or formula."""
    try:
        ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    return "." in text and not re.fullmatch(rf"[\w/.]+\.({_SUFFIXES})", text)


@each()
def test_code_asks_objects_for_what_they_have(page: Path) -> None:
    for text in [*blocks(page, "python"), *(name for name in inline(page) if is_expression(name))]:
        tree = ast.parse(text)
        missing = [f"{owner.__name__}.{name}" for owner, name in asked(tree) if not has(owner, name)]
        assert not missing


@each()
def test_configurations_can_be_read(page: Path) -> None:
    for text in blocks(page, "toml"):
        data = tomllib.loads(text)
        if "cluster" in data:
            ClusterConfig.of(data["cluster"])
        elif "compound" in data:
            assert read_compounds(data, page.name)
        else:
            RunConfig.from_dict(completed(data), folder=ROOT / "docs")


def completed(data: dict[str, Any]) -> dict[str, Any]:
    """Add what a fragment leaves out, and leave out the files that it names."""
    elements = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"]
    sample = {"elements": elements, **data.get("sample", {})}
    xray = {key: value for key, value in data.get("xray", {}).items() if key != "table"}
    phases = data.get("phases", [{"name": name} for name in ("Brg", "Fp", "CaPv")])
    if isinstance(phases, list) and len(phases) == 1:
        phases = [*phases, {"name": "another"}]
    output = {key: value for key, value in data.get("output", {}).items() if key != "compounds"}
    return {**data, "sample": sample, "phases": phases, "xray": xray, "output": output}


def shell_lines(page: Path) -> list[str]:
    """Return the commands of a page: lines that are set apart, and those within sentences."""
    lines = re.findall(r"^    (?:.* && )?(bayesunmix .+)$", text_of(page), flags=re.MULTILINE)
    return lines + [name for name in inline(page) if re.match(r"bayesunmix [a-z]", name)]


@each()
def test_commands_and_options_exist(page: Path) -> None:
    for line in shell_lines(page):
        name, *rest = line.split()[1:]
        if name not in main.commands:
            assert name == "COMMAND", line
            continue
        options = {option for part in main.commands[name].params for option in part.opts}
        assert {word for word in rest if word.startswith("--")} - {"--help"} <= options, line


def test_the_reference_of_commands_is_complete() -> None:
    page = text_of(DOCS / "commands.md")
    for name, command in main.commands.items():
        assert f"`bayesunmix {name}" in page, name
        for part in command.params:
            if isinstance(part, click.Option):
                row = next(
                    (
                        row
                        for row in page.splitlines()
                        if f"`{part.opts[0]} " in row or f"`{part.opts[0]}`" in row
                    ),
                    "",
                )
                assert row, part.opts[0]
                of = row.split("|")[2]
                assert f"`{name}`" in of or ("all but" in of and f"`{name}`" not in of.split("all but")[1])


def keys(table: type) -> list[str]:
    """Return the keys of a table of the configuration."""
    return [field.name for field in dataclasses.fields(table)]


def test_the_reference_of_keys_is_complete() -> None:
    tables = {**TABLES, "simulate": SimulateConfig}
    # The priors have a page of their own.
    priors = keys(tables.pop("priors"))
    assert re.findall(r"^\| `(\w+)`", text_of(DOCS / "priors.md"), flags=re.MULTILINE) == priors
    wanted = {f"[{name}]": keys(table) for name, table in tables.items()}
    wanted["[[phases]]"] = keys(PhaseTable)
    sections = re.split(r"^#+ `(.+)`$", text_of(DOCS / "configuration_keys.md"), flags=re.MULTILINE)
    listed = {
        name: [
            key
            for row in re.findall(r"^\| (`.+?) \|", body, flags=re.MULTILINE)
            for key in re.findall(r"`(\w+)`", row)
        ]
        for name, body in zip(sections[1::2], sections[2::2], strict=True)
        if name.startswith("[") and name != "[priors]"
    }
    assert {name: sorted(found) for name, found in listed.items()} == {
        name: sorted(found) for name, found in wanted.items()
    }


def test_the_keys_of_a_cluster_are_described() -> None:
    section = text_of(DOCS / "batch.md").split("## Where the workers run")[1]
    rows = re.findall(r"^\| (`.+?) \|", section, flags=re.MULTILINE)
    assert sorted(key for row in rows for key in re.findall(r"`(\w+)`", row)) == sorted(keys(ClusterConfig))


def test_the_reference_of_python_names_is_complete() -> None:
    listed = set(re.findall(r"`bu\.(\w+)`", text_of(DOCS / "python.md")))
    assert listed == set(bu.__all__)


def test_the_reference_of_the_record_is_complete() -> None:
    section = text_of(DOCS / "output_folder.md").split("## `run.json`")[1]
    rows = re.findall(r"^\| (`.+?) \|", section, flags=re.MULTILINE)
    listed = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    # The checksum is added when the file is written.
    assert listed == {*RunRecord.model_fields, "checksum"}


def layers() -> list[str]:
    """Return the lines of the map of the house: each layer with the first line of its docstring, the highest first."""
    project = tomllib.loads(text_of(ROOT / "pyproject.toml"))["tool"]
    (contract,) = [one for one in project["importlinter"]["contracts"] if one["type"] == "layers"]
    names = [name for name in contract["layers"] if name != "__main__"]
    found = {name: importlib.import_module(f"bayesunmix.{name}").__doc__ or "" for name in names}
    return [f"- `{name}`: {doc.strip().splitlines()[0].replace('``', '`')}" for name, doc in found.items()]


def test_the_map_of_the_house_is_that_of_the_contract() -> None:
    section = text_of(CONTRIBUTING).split("## The layers")[1].split("\n## ")[0]
    assert re.findall(r"^- `.+$", section, flags=re.MULTILINE) == layers()


def test_the_flow_of_data_names_files_that_exist() -> None:
    table = text_of(CONTRIBUTING).split("## How the data flow")[1].split("\n## ")[0]
    paths = re.findall(r"[\w/]+(?:\.py\b|/(?=\s))", table)
    assert len(paths) > 20
    for path in paths:
        homes = (ROOT / path, ROOT / "bayesunmix" / path)
        assert any(home.exists() for home in homes), path
