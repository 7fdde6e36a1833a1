"""Vendor files through the command line: the EDS map is found, and its angle and axis are the file's.

The file's own facts are read by RosettaSciIO's Bruker reader, apart from bayesunmix.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from bench import BAYESUNMIX, FINISHED, Options, Row, last_line, run_program

from bayesunmix.results.record import RunRecord
from bayesunmix.results.record_parts import Map

# What fits each file; the rest are taken as they come, with two unnamed phases.
SAMPLES = {
    "test_TEM.bcf": '[sample]\nelements = ["Ti", "O"]\nstray = ["Si", "N", "Cu"]\n',
    "bcf_v2_50x50px.bcf": '[sample]\nelements = ["Al", "Ag", "Cu"]\nstray = ["C", "O"]\noxygen = "none"\n',
}
SETTINGS = """\
thickness_nm = [100, 50]
density_g_cm3 = [4.0, 1.0]
[inference]
draws = 200
"""
AXIS_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Facts:
    """What a file says of its map."""

    shape: tuple[int, ...]
    images: int
    takeoff_angle_deg: float
    lowest_keV: float
    highest_keV: float


def rows(options: Options) -> list[Row]:
    """Rows of every Bruker file in the data folder's ``vendor``."""
    folder = options.file("vendor")
    files = sorted(folder.glob("*.bcf"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .bcf file")
    work = options.folder("vendor")
    return [row for path in files for row in (_inspect_row(path), *_unmix_rows(path, work))]


def file_facts(path: Path) -> Facts:
    """Read a file's own facts; with an untilted stage the take-off angle is the detector's elevation."""
    from rsciio.bruker import file_reader

    signals = file_reader(str(path))
    (eds,) = [signal for signal in signals if signal["data"].ndim == 3]
    axis = eds["axes"][-1]
    (microscope,) = eds["metadata"]["Acquisition_instrument"].values()
    return Facts(
        eds["data"].shape,
        len(signals) - 1,
        float(microscope["Detector"]["EDS"]["elevation_angle"]),
        axis["offset"],
        axis["offset"] + axis["scale"] * (axis["size"] - 1),
    )


def _inspect_row(path: Path) -> Row:
    """Row of ``inspect``: exit status, and the angle and axis in its text."""
    facts = file_facts(path)
    program = run_program((*BAYESUNMIX, "inspect", path))
    angle = re.search(r"take-off angle ([\d.]+)°", program.stdout)
    axis = re.search(r"eV, (-?[\d.]+) to ([\d.]+) keV", program.stdout)
    same = (
        angle is not None
        and axis is not None
        and abs(float(angle[1]) - facts.takeoff_angle_deg) < 0.05
        and abs(float(axis[1]) - facts.lowest_keV) < AXIS_TOLERANCE
        # The upper end is printed with four digits.
        and abs(float(axis[2]) - facts.highest_keV) < 0.01
    )
    measured = (
        f"exit {program.code}, {angle[1] if angle else 'no'}°, {axis[0][4:] if axis else 'no axis'}; the file: "
        f"{facts.takeoff_angle_deg:g}°, {facts.lowest_keV:.4g} to {facts.highest_keV:.4g} keV, {facts.images} images"
    )
    return Row(
        f"inspect {path.name}", "exit 0, angle and axis of the file", measured, program.code == 0 and same
    )


def _unmix_rows(path: Path, work: Path) -> list[Row]:
    """Rows of ``unmix`` by the mode alone and by Laplace's approximation."""
    facts = file_facts(path)
    config = work / f"{path.stem}.toml"
    sample = SAMPLES.get(path.name, '[sample]\nelements = ["Si", "O"]\n')
    config.write_text("phases = 2\n" + sample + SETTINGS, encoding="utf-8")
    rows = []
    for method in ("map", "laplace"):
        out = work / f"{path.stem}_{method}"
        arguments = ("unmix", path, "--config", config, "--out", out, "--method", method)
        program = run_program((*BAYESUNMIX, *arguments))
        what, asked = f"unmix {path.name}, {method}", "exit 0 or 3; map, angle and axis of the file"
        if program.code not in FINISHED:
            rows.append(Row(what, asked, f"exit {program.code}: {last_line(program.stderr)}", False))
            continue
        record = RunRecord.of(json.loads((out / "run.json").read_text(encoding="utf-8")))
        said = "; ".join(record.judgement().texts("distrust")) or "no complaint"
        measured = f"exit {program.code} in {program.seconds:.0f} s; {said}"
        rows.append(Row(what, asked, measured, _same(record.map, facts)))
    return rows


def _same(found: Map, facts: Facts) -> bool:
    """Whether the record of a run holds the file's map, angle and, for the fitted part, axis."""
    if found.energy_keV is None or found.shape is None or found.acquisition.takeoff_angle_deg is None:
        return False
    low, high = found.energy_keV
    return (
        found.shape[:2] == facts.shape[:2]
        and abs(found.acquisition.takeoff_angle_deg - facts.takeoff_angle_deg) < 0.05
        and facts.lowest_keV - AXIS_TOLERANCE <= low < high <= facts.highest_keV + AXIS_TOLERANCE
    )
