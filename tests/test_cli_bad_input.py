"""Bad maps and configurations that do not fit them, through the command line: one line, status 2, nothing written."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from bayesunmix.cli import main
from bayesunmix.config.run_config import RunConfig
from bayesunmix.data.io import save, write_signal
from bayesunmix.simulation.simulate import simulate_map

TOML = """
[sample]
elements = ["Mg", "Si"]
thickness_nm = [100.0, 30.0]
density_g_cm3 = [4.0, 0.5]
[[phases]]
name = "A"
composition = {Mg = 0.5, Si = 0.5}
fraction = 0.5
[[phases]]
name = "B"
absent = ["Si"]
composition = {Mg = 1.0}
fraction = 0.5
[simulate]
shape = [6, 8]
channels = 600
"""
TARGET = "Experiments/simulated, seed 0/data"


@pytest.fixture(scope="module")
def good_map(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("map") / "map.hspy"
    save(simulate_map(RunConfig.from_dict(tomllib.loads(TOML)), 0).image, path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good_map: bytes) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(TOML)
    Path("map.hspy").write_bytes(good_map)
    return tmp_path


def assert_refused(message: str, *arguments: str, name: str = "map.hspy") -> None:
    before = sorted(os.listdir())
    result = CliRunner().invoke(main, ["unmix", name, "--config", "run.toml", "--out", "out", *arguments])
    assert result.exit_code == 2, result.output
    complaints = [line for line in result.stderr.splitlines() if "warning:" not in line]
    assert len(complaints) == 1, result.stderr
    assert re.fullmatch(f"bayesunmix: error: .*{message}.*", complaints[0]), complaints
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert sorted(os.listdir()) == before


def change_counts(values: Any, energy: float | None = None) -> None:  # noqa: ANN401
    """Write a map like the good one with other counts."""
    with h5py.File("map.hspy") as file:
        shape = next(iter(file["Experiments"].values()))["data"].shape
    counts = np.broadcast_to(values, shape).copy()
    axes = [
        {"name": n, "size": s, "scale": 1.0, "offset": 0.0, "units": "nm", "navigate": True}
        for n, s in zip("yx", shape[:2], strict=True)
    ]
    axes.append(
        {
            "name": "Energy",
            "size": shape[2],
            "scale": 0.01,
            "offset": 0.8,
            "units": "keV" if energy is None else "",
            "navigate": False,
        }
    )
    microscope = {"TEM": {"beam_energy": 200.0, "Detector": {"EDS": {"elevation_angle": 22.0}}}}
    metadata = {
        "General": {"title": "map"},
        "Signal": {"signal_type": "EDS_TEM"},
        "Acquisition_instrument": microscope,
    }
    Path("map.hspy").unlink()
    write_signal(Path("map.hspy"), {"data": counts, "axes": axes, "metadata": metadata})


def test_the_good_map_is_good(folder: Path) -> None:
    """What the others change is what is refused."""
    from bayesunmix.data.io import load
    from bayesunmix.fit.preparation import prepare

    assert prepare(load(folder / "map.hspy"), RunConfig.from_toml(folder / "run.toml")).warnings == ()


def test_missing_map() -> None:
    assert_refused('`MAP` must be an existing file, but "none.hspy" does not exist', name="none.hspy")


def test_folder_as_a_map() -> None:
    Path("maps").mkdir()
    assert_refused("`MAP` must be a file, but .* is a folder", name="maps")


def test_text_as_a_map() -> None:
    Path("map.hspy").write_text("this is no map\n" * 50)
    assert_refused("`MAP` must be a whole .hspy file, but .* cannot be read")


def test_unknown_format() -> None:
    Path("notes.txt").write_text("a note")
    assert_refused("`MAP` must be a spectrum image in a format HyperSpy reads", name="notes.txt")


def test_empty_file() -> None:
    Path("map.hspy").write_bytes(b"")
    assert_refused("`MAP` must be a whole .hspy file")


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_map_cut_short(share: float, good_map: bytes) -> None:
    Path("map.hspy").write_bytes(good_map[: int(share * len(good_map))])
    assert_refused("`MAP` must be a whole .hspy file")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.uint8(0), "`counts` must hold at least one photon, but are all zero"),
        (np.int16(-1), "`counts` must .*-1"),
        (np.float32(0.5), "`counts` must .*whole"),
        (np.float32(np.nan), "`counts` must .*(finite|NaN)"),
    ],
)
def test_counts_that_are_none(values: Any, message: str) -> None:  # noqa: ANN401
    change_counts(values)
    assert_refused(message)


def test_axis_without_unit() -> None:
    change_counts(np.uint8(1), energy=1.0)
    assert_refused("`energy axis` must be calibrated in eV or keV")


def test_signal_that_is_not_there() -> None:
    assert_refused("`--signal` must be one of the file's signals .* but is 4", "--signal", "4")


@pytest.mark.parametrize(
    ("option", "value"), [("--exclude-flagged", "x" * 300), ("--mask", "x" * 300), ("--rows", "9:12")]
)
def test_the_option_is_named(option: str, value: str) -> None:
    assert_refused(f"`{option}` must", option, value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_as_a_map() -> None:
    os.mkfifo("pipe.hspy")
    assert_refused("`MAP` must be a file, .* is a pipe, a socket or a device", name="pipe.hspy")


def test_what_is_not_the_users_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file, and of what lies in a folder without access."""
    monkeypatch.setattr(os, "access", lambda path, *_: Path(path).name != "map.hspy")
    assert_refused("`MAP` must be a file that can be read, .* is not yours to read")
    exists = Path.exists

    def locked(path: Path) -> bool:
        if path.parent.name == "locked":
            raise PermissionError(errno.EACCES, "Permission denied")
        return exists(path)

    monkeypatch.setattr(Path, "exists", locked)
    assert_refused('`MAP` .* "locked/map.hspy": Permission denied', name="locked/map.hspy")
    found = CliRunner().invoke(main, ["report", "locked/out"])
    assert found.exit_code == 2
    assert (
        '`DIR` must be the name of a file or folder, but is "locked/out": Permission denied' in found.stderr
    )


def rewrite(old: str, new: str) -> None:
    assert old in TOML
    Path("run.toml").write_text(TOML.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[sample]",
            "[map]\nenergy_range = [0.9, 30.0]\n[sample]",
            "`map.energy_range` must lie on the map's",
        ),
        (
            "[sample]",
            "[map]\nenergy_range = [1.0, 250.0]\n[sample]",
            "`map.energy_range` must end below the beam",
        ),
        (
            "[sample]",
            "[map]\nenergy_range = [2.5, 6.0]\n[sample]",
            "`sample.elements` must have lines on the energy",
        ),
        ("[sample]", "[map]\nenergy_range = [5.0, 1.0]\n[sample]", "`map.energy_range` must be two energies"),
        (
            '"Mg", "Si"]\nthick',
            '"Mg", "Si", "C"]\nthick',
            "`sample.elements` must have lines between .*C has",
        ),
        ('["Mg", "Si"]\nthick', '["Mg", "Si", "Xx"]\nthick', '`sample.elements` must .*"Xx"'),
        ('absent = ["Si"]', 'absent = ["Fe"]', "`phases.B.absent` must name elements of `sample.elements`"),
        ('absent = ["Si"]', 'stoichiometry = "ABOO"', "`phases.B.stoichiometry` must"),
        ('name = "B"', 'name = "A"', '`phases.name` must differ from phase to phase, but "A" appears twice'),
        ("[100.0, 30.0]", "[-100.0, 30.0]", "`sample.thickness_nm` must .*-100"),
        ("[sample]", '[xray]\ntable = "none.json"\n[sample]', "`xray.table` must be an existing JSON file"),
        (
            "[sample]",
            "[xray]\nk_factors = {Mg_L = [1.2, 0.1]}\n[sample]",
            "`xray.k_factors` must be keyed by",
        ),
        ("[sample]", "[instrument]\nbeam_energy_keV = 200000\n[sample]", "`instrument.beam_energy_keV` must"),
        (
            "[sample]",
            "[inference]\nlevel = 95\n[sample]",
            "`inference.level` must lie between 0 and 1, but is 95",
        ),
        ("[sample]", "[inferense]\nlevel = 0.9\n[sample]", "`inferense` must .*Did you mean"),
    ],
)
def test_configuration_that_does_not_fit(old: str, new: str, message: str) -> None:
    rewrite(old, new)
    assert_refused(message)


def test_phases_that_are_no_number() -> None:
    Path("run.toml").write_text('phases = "many"\n[sample]\nelements = ["Mg", "Si"]\n')
    assert_refused('`phases` must be \\[\\[phases\\]\\] tables, names, a number or "auto", but is "many"')


@pytest.mark.filterwarnings("always:The map does not say its beam_energy_keV")
def test_beam_energy_that_nobody_knows() -> None:
    image = simulate_map(RunConfig.from_dict(tomllib.loads(TOML)), 0).image
    facts = dataclasses.replace(image.acquisition, beam_energy_keV=None)
    Path("map.hspy").unlink()
    save(dataclasses.replace(image, acquisition=facts), Path("map.hspy"))
    assert_refused("`instrument.beam_energy_keV` must be known, but is missing from map and configuration")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "`xray.table` must be a JSON file"),
        (json.dumps({"Mg": []}), "`xray.table` must hold lines of"),
        (json.dumps({"Mg": [{"line": "KL3", "family": "K"}]}), "must have the key energy_keV"),
    ],
)
def test_line_table_that_cannot_be_used(content: str, message: str) -> None:
    Path("lines.json").write_text(content)
    rewrite("[sample]", '[xray]\ntable = "lines.json"\n[sample]')
    assert_refused(message)


def test_a_real_process_says_it_too() -> None:
    """As a user meets it: another process, with Python's own warnings and exit."""
    Path("map.hspy").write_text("no map")
    command = [sys.executable, "-P", "-m", "bayesunmix", "unmix", "map.hspy", "--config", "run.toml"]
    done = subprocess.run([*command, "--out", "out"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"bayesunmix: error: `MAP` must be a whole \.hspy file, .*\n", done.stderr)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("option", "value"),
    [("--energy-scale-keV", "1e-5"), ("--energy-scale-keV", "10"), ("--energy-offset-keV", "1e5")],
)
def test_an_axis_given_to_inspect_has_the_configurations_limits(option: str, value: str) -> None:
    done = CliRunner().invoke(main, ["inspect", "map.hspy", option, value])
    assert done.exit_code == 2
    assert done.output.startswith(f"bayesunmix: error: `{option}` must lie between ")
