"""Every example runs, small: the scripts, the configuration, and the README's own code."""

from __future__ import annotations

import dataclasses
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayesunmix as bu
from bayesunmix.config.run_config import RunConfig
from bayesunmix.data.io import save
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import SimulatedMap, simulate_map

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
README = (ROOT / "README.md").read_text(encoding="utf-8")

# Examples leave the density to the program where a newcomer would, and are told so.
pytestmark = pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")


def blocks(language: str) -> list[str]:
    """Return the code blocks of the README."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def only_block(language: str, word: str) -> str:
    """Return the README's code block of a language that holds a word."""
    (block,) = [text for text in blocks(language) if word in text]
    return block


@pytest.fixture(scope="module")
def simulated() -> SimulatedMap:
    """Simulate the embedded phantom on 20 x 20 pixels of 400 counts."""
    config = phantom_config()
    assert config.simulate is not None
    plan = dataclasses.replace(config.simulate, shape=(20, 20), counts_per_pixel=400.0)
    return simulate_map(dataclasses.replace(config, simulate=plan), 1)


@pytest.fixture
def folder(simulated: SimulatedMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder that holds ``map.hspy``."""
    save(simulated.image, tmp_path / "map.hspy")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def example(name: str) -> dict[str, Any]:
    """Run an example as an imported module and return its names."""
    return runpy.run_path(str(EXAMPLES / name), run_name="example")


def without_dots(printed: str, shown: str) -> tuple[str, str]:
    """Leave out of what is printed the lines for which a page has dots, and the dots of the page."""
    left, kept, skip = printed.splitlines(), [], False
    for line in shown.splitlines():
        while skip and left and left[0].split()[:1] != line.split()[:1]:
            left.pop(0)
        skip = line.strip() == "..."
        if not skip:
            kept.append(left.pop(0) if left else "")
    return "\n".join(kept + left), "\n".join(line for line in shown.splitlines() if line.strip() != "...")


@pytest.mark.calibration
@pytest.mark.slow
def test_the_readme_code_prints_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    configured = RunConfig.from_toml(EXAMPLES / "brg_fp_capv.toml")
    simulated = simulate_map(configured, 0)
    save(simulated.image, tmp_path / "map.hspy")
    names: dict[str, Any] = {}
    exec(compile(only_block("python", "bu.unmix"), "README.md", "exec"), names)
    printed, shown = without_dots(capsys.readouterr().out, only_block("text", "Result: "))
    # Machines and versions differ in the last digits, and in nothing else.
    number = r"\d+(?:\.\d+)?"
    assert re.sub(number, "#", printed) == re.sub(number, "#", shown)
    here, there = (np.array(re.findall(number, text), dtype=float) for text in (printed, shown))
    assert np.allclose(here, there, rtol=0.2, atol=0.005)
    table = names["result"].summary().set_index(["phase", "element"])
    # The matrix holds nine tenths of the atoms: its Mg and Si are known far better than to the 5 % of calibration.
    for element in ("Mg", "Si"):
        true = simulated.truth.composition[0, simulated.truth.elements.index(element)]
        row = table.loc[("Brg", element)]
        assert abs(row["mean"] - true) < 4.0 * row["sd"] < 0.2
    assert bu.open_result(tmp_path / "result").phases == names["result"].phases


def test_the_readme_declares_what_the_example_configuration_does() -> None:
    configured = RunConfig.from_toml(EXAMPLES / "brg_fp_capv.toml")
    recorded: dict[str, Any] = {}

    class Recorder:
        Phase = staticmethod(bu.Phase)

        @staticmethod
        def unmix(image: str, **options: Any) -> Any:  # noqa: ANN401
            recorded.update(options)
            raise StopIteration

    code = only_block("python", "bu.unmix").replace("import bayesunmix as bu", "")
    with pytest.raises(StopIteration):
        exec(compile(code, "README.md", "exec"), {"bu": Recorder})
    assert list(configured.phases) == recorded["phases"]
    assert list(configured.sample.elements) == recorded["elements"]
    assert list(configured.sample.stray) == recorded["stray"]
    film = {name: list(getattr(configured.sample, name)) for name in ("thickness_nm", "density_g_cm3")}
    assert film == recorded["sample"]


def test_the_example_configuration_is_the_one_of_the_phantom() -> None:
    config = RunConfig.from_toml(EXAMPLES / "brg_fp_capv.toml")
    # The phantom's axis begins below the lines that a real map is better without.
    assert dataclasses.replace(config, map=phantom_config().map) == phantom_config()


@pytest.mark.calibration
def test_file_to_table_writes_its_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["map.hspy", "--out", "tables", "--crop", "16", "--method", "laplace", "--draws", "50"]
    example("file_to_table.py")["main"](arguments)
    assert "CaPv" in capsys.readouterr().out
    oxides = pd.read_csv(folder / "tables" / "oxide_weight_percent.csv")
    assert set(oxides.unit) == {"oxide_wt_pct"}
    assert np.allclose(oxides.groupby("phase")["mean"].sum(), 100.0, atol=1e-6)
    assert len(pd.read_csv(folder / "tables" / "partition.csv")) == 6 * 10


@pytest.mark.calibration
def test_the_percent_script_goes_from_the_file_to_the_tables(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(EXAMPLES / "real_map_percent.py")
    # The last two arguments are what Jupyter adds.
    given = ["--size", "16", "--draws", "50", "--out", "pictures", "-f", "kernel.json"]
    monkeypatch.setattr(sys, "argv", [script, *given])
    runpy.run_path(script, run_name="__main__")
    said = capsys.readouterr().out
    for heading in ("site ratio of Brg", "Exchange coefficients", "Mass balance", "charge", "Software: "):
        assert heading.lower() in said.lower(), heading
    pictures = {path.stem for path in (folder / "pictures").glob("*.png")}
    drawn = {
        "fit",
        "misfit",
        "maps_four_phases",
        "maps",
        "spectra",
        "compositions",
        "partition",
        "budget",
        "onuma",
    }
    assert pictures == drawn
    assert (folder / "pictures" / "result" / "tables" / "mass_balance.tex").is_file()


@pytest.mark.calibration
def test_the_comparison_prints_both_errors_of_both_methods(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--size", "20", "--counts", "300", "--draws", "50"]
    example("compare_nmf_fcls.py")["main"](arguments)
    said = capsys.readouterr().out
    assert said.count("map MSE") == said.count("spectral angle") == 6
    nmf, bayes = said.split("bayesunmix")
    errors = [[float(x) for x in re.findall(r"MSE ([\d.e+-]+)", part)] for part in (nmf, bayes)]
    # Told what is absent and what the lines are, it must do better than what knows neither.
    assert np.all(np.array(errors[1]) < np.array(errors[0]))


def test_phases_of_the_comparison_come_in_the_order_of_the_truth(simulated: SimulatedMap) -> None:
    names = example("compare_nmf_fcls.py")
    spectra, maps = names["nmf_fcls"](simulated, 0)
    assert maps.shape == simulated.truth.abundances.shape
    assert np.allclose(maps.sum(axis=2), 1.0)
    angles = np.array([[names["angle"](a, b) for b in simulated.truth.endmembers] for a in spectra])
    own = angles.trace()
    assert all(own <= angles[order, range(3)].sum() + 1e-9 for order in ([0, 2, 1], [1, 0, 2], [2, 1, 0]))


def test_a_model_of_ones_own_holds_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    example("own_model.py")["main"](["--size", "7", "--draws", "100"])
    said = capsys.readouterr().out
    assert said.startswith("Prepared map")
    rows = re.findall(r"in (\w+) +[\d.]+ \[([\d.]+), ([\d.]+)\] at% +truth ([\d.]+)", said)
    assert len(rows) == 10
    inside = [float(low) <= float(truth) <= float(high) for _, low, high, truth in rows]
    # Of ten 95 % intervals fewer than seven hold the truth once in 10 000 maps, were they independent.
    assert sum(inside) >= 7
    widths = {phase: float(high) - float(low) for phase, low, high, _ in rows[:1] + rows[5:6]}
    assert all(0.0 < width < 10.0 for width in widths.values())


def test_the_angle_of_spectra() -> None:
    angle = example("compare_nmf_fcls.py")["angle"]
    assert angle(np.array([1.0, 0.0, np.nan]), np.array([1.0, 1.0, 5.0])) == pytest.approx(45.0)
    assert angle(np.array([1.0, 2.0]), np.array([2.0, 4.0])) == pytest.approx(0.0, abs=1e-5)


@pytest.mark.calibration
def test_the_eels_example_finds_its_phases(capsys: pytest.CaptureFixture[str]) -> None:
    example("eels_free_form.py")["main"](["--size", "16", "--counts", "4000", "--bins", "40"])
    said = capsys.readouterr().out
    errors = [float(x) for x in re.findall(r"map rmse ([\d.]+)", said)]
    assert len(errors) == 3
    assert max(errors) < 0.15
    assert said.count("identifiable only where pixels of it are pure") >= 1
    ratio, low, high, true = (
        float(x) for x in re.findall(r"N/Ti in TiN: ([\d.]+) \[([\d.]+), ([\d.]+)\], truth ([\d.]+)", said)[0]
    )
    assert low < ratio < high
    assert ratio == pytest.approx(true, rel=0.25)
