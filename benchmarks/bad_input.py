"""Fifteen kinds of bad input: exit 2, one line that names the field, no traceback, nothing written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench import BAYESUNMIX, Options, Row, run_program

# The configuration that each case spoils in one place, and its map.
GOOD = """\
[map]
energy_range = [1.0, 10.0]
[sample]
elements = ["Mg", "Si", "Fe"]
thickness_nm = [100, 30]
density_g_cm3 = [4.5, 0.3]
[simulate]
shape = [12, 12]
counts_per_pixel = 50.0
stray = {}
[[phases]]
name = "A"
matrix = true
composition = {Mg = 0.5, Si = 0.5}
fraction = 0.8
[[phases]]
name = "B"
absent = ["Si"]
composition = {Mg = 0.8, Fe = 0.2}
fraction = 0.2
[inference]
method = "map"
level = 0.95
draws = 500
"""


@dataclass(frozen=True)
class Case:
    """One kind of bad input.

    Parameters
    ----------
    what
        In words.
    field
        What the complaint must name.
    old, new
        Change to the good configuration.
    spoil
        Change to the map's file.
    """

    what: str
    field: str
    old: str = ""
    new: str = ""
    spoil: Callable[[Path], None] | None = None


def _remove(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _text(path: Path) -> None:
    path.write_text("this is no map\n", encoding="utf-8")


def _empty(path: Path) -> None:
    """Set every count to zero and leave the rest of the file as it is."""
    import h5py

    with h5py.File(path, "r+") as file:
        (experiment,) = file["Experiments"].values()
        experiment["data"][...] = 0


CASES = (
    Case("an element that is none", "sample.elements", '"Fe"]', '"Fx"]'),
    Case("an absent element that is not declared", "phases.B.absent", 'absent = ["Si"]', 'absent = ["Ti"]'),
    Case("a phase without any element", "phases.B.absent", 'absent = ["Si"]', 'absent = ["Mg", "Si", "Fe"]'),
    Case("an energy range outside the map", "map.energy_range", "[1.0, 10.0]", "[30.0, 40.0]"),
    Case("a reversed energy range", "map.energy_range", "[1.0, 10.0]", "[10.0, 1.0]"),
    Case("level 95", "inference.level", "level = 0.95", "level = 95"),
    Case("negative draws", "inference.draws", "draws = 500", "draws = -5"),
    Case("two phases of one name", "phases.name", 'name = "B"', 'name = "A"'),
    Case("an unknown method", "inference.method", 'method = "map"', 'method = "guess"'),
    Case("an unknown key", "inference.drawz", "draws = 500", "drawz = 500"),
    Case("broken TOML", "config", "[sample]", "[sample"),
    Case("a missing map", "MAP", spoil=_remove),
    Case("a map cut in half", "MAP", spoil=_cut),
    Case("a text file as a map", "MAP", spoil=_text),
    Case("a map of zeros", "counts", spoil=_empty),
)


def rows(options: Options) -> list[Row]:
    """One row for each case that falls short, and one for all of them."""
    base = options.folder("bad_input")
    (base / "run.toml").write_text(GOOD, encoding="utf-8")
    made = run_program((*BAYESUNMIX, "simulate", "--config", "run.toml", "--out", "map.hspy"), cwd=base)
    if made.code != 0:
        raise RuntimeError(f"the map could not be simulated: {made.stderr}")
    content = (base / "map.hspy").read_bytes()
    faults = {case.what: _fault(case, base / f"case_{number}", content) for number, case in enumerate(CASES)}
    wrong = [
        Row(f"bad input: {what}", "exit 2, one line", fault, False) for what, fault in faults.items() if fault
    ]
    right = len(CASES) - len(wrong)
    asked = "exit 2, one line that names the field, no traceback, nothing written"
    return [
        Row(f"{len(CASES)} kinds of bad input", asked, f"{right} of {len(CASES)}", right == len(CASES)),
        *wrong,
    ]


def _fault(case: Case, folder: Path, content: bytes) -> str:
    """Run one case and return what is wrong with the answer; empty when all is well."""
    folder.mkdir()
    if GOOD.replace(case.old, case.new) == GOOD and case.spoil is None:
        raise ValueError(f"{case.what}: the case does not change the configuration")
    (folder / "run.toml").write_text(GOOD.replace(case.old, case.new) if case.old else GOOD, encoding="utf-8")
    path = folder / "map.hspy"
    path.write_bytes(content)
    if case.spoil is not None:
        case.spoil(path)
    before = _listing(folder)
    arguments = ("unmix", "map.hspy", "--config", "run.toml", "--out", "out")
    program = run_program((*BAYESUNMIX, *arguments), cwd=folder)
    said = program.stderr.splitlines()
    faults = []
    if program.code != 2:
        faults.append(f"exit {program.code}")
    if "Traceback" in program.stderr:
        faults.append("a traceback")
    if len(said) != 1:
        faults.append(f"{len(said)} lines on stderr: {' | '.join(line[:90] for line in said[:4])}")
    elif not re.search(rf"`{re.escape(case.field)}", said[0]):
        faults.append(f'"{case.field}" is not named: {said[0]}')
    if program.stdout:
        faults.append(f"on stdout: {program.stdout[:80]}")
    if _listing(folder) != before:
        faults.append("something was written")
    return "; ".join(faults)


def _listing(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}
