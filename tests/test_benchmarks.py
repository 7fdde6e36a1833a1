"""The benchmarks' own arithmetic, and the one group that is short enough to be a test."""

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):  # noqa: ANN201
    """Import a module of the benchmarks, which are scripts beside each other and no package."""
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module


def test_a_program_is_measured(load) -> None:  # noqa: ANN001
    bench: ModuleType = load("bench")
    code = "import sys, time; b = bytearray(80_000_000); time.sleep(0.2); sys.stderr.write('a\\nb\\n\\n'); sys.exit(3)"
    finished = bench.run_program((sys.executable, "-c", code))
    assert finished.code == 3
    assert finished.seconds >= 0.2
    assert finished.peak_bytes >= 80_000_000
    assert bench.last_line(finished.stderr) == "b"


def test_missing_data_are_named(load, tmp_path: Path) -> None:  # noqa: ANN001
    options = load("bench").Options(tmp_path, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"map\.hspy is not there"):
        options.file("map.hspy")


def test_coverage_is_counted_by_phase_and_element(load) -> None:  # noqa: ANN001
    coverage = load("phantom_coverage")
    held = [
        ("A", "Mg", 0.5, 0.4, 0.6, True),
        ("A", "Mg", 0.5, 0.55, 0.6, False),
        ("A", "U", 0.0, 0.0, 0.1, True),
    ]
    columns = ["phase", "element", "truth", "lower", "upper", "inside"]
    table = pd.DataFrame(held, columns=columns).assign(quantity="composition")
    counted = coverage.shares(table).set_index("element")
    assert counted.loc["Mg", ["held", "of"]].tolist() == [1, 2]
    assert counted.loc["Mg", "width"] == pytest.approx(0.25)
    assert np.isnan(counted.loc["U", "width"])
    overall, lowest = (
        next(row for row in coverage.method_rows("laplace", 2, table, []) if part in row.what)
        for part in ("compositions: share", "compositions: lowest")
    )
    assert overall.measured == "0.667 (2 of 3); 0.500 of those not zero"
    assert lowest.measured == "0.50 (A Mg 1/2)"
    assert not overall.holds
    assert not lowest.holds


def test_errors_do_not_depend_on_the_order_of_the_phases(load) -> None:  # noqa: ANN001
    phantom_module = load("espm_phantom")
    rng = np.random.default_rng(0)
    spectra, share = rng.dirichlet(np.ones(20), 3), rng.dirichlet(np.ones(3), 50)
    phantom = phantom_module.Phantom(
        np.zeros((1, 50, 20), np.uint16),
        np.arange(20.0),
        np.ones(20, bool),
        spectra,
        share,
        "ABC",
        35.0,
        200.0,
    )
    shuffled = phantom_module.errors(phantom, spectra[[2, 0, 1]], share[:, [2, 0, 1]])
    np.testing.assert_allclose(shuffled.mse, 0.0)
    np.testing.assert_allclose(shuffled.angle_deg, 0.0, atol=1e-5)
    off = phantom_module.errors(phantom, spectra[[2, 0, 1]], share[:, [2, 0, 1]] + [0.1, 0.0, 0.0])
    np.testing.assert_allclose(off.mse, [0.0, 0.0, 0.01], atol=1e-12)


@pytest.mark.slow
def test_every_kind_of_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    command = [sys.executable, FOLDER / "run.py", "--only", "bad_input", "--out", out]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert finished.returncode == 0, finished.stdout
    assert "15 of 15" in out.read_text()
