"""The benchmarks' own arithmetic, and the one group that is short enough to be a test."""

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from bayesunmix.config.run_config import RunConfig
from bayesunmix.laboratory.maps import KEYS, coverage_of, held_share
from bayesunmix.simulation.simulate import Source, Truth, simulate_map

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


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
    counted = held_share(table).set_index("element")
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


def test_wrong_models_are_wrong_by_what_they_say(load) -> None:  # noqa: ANN001
    wrong, coverage = load("wrong_model"), load("phantom_coverage")
    told = coverage.phantom("laplace")
    source = Source.of(told, told.simulate)
    drawn = [wrong.k_factor_errors(source, seed).factors for seed in range(20)]
    off = np.log([list(factors.values()) for factors in drawn])
    # Five standard errors of a standard deviation.
    assert off.std() == pytest.approx(wrong.K_FACTOR_SD, rel=5.0 / np.sqrt(2.0 * off.size))
    widths = wrong.linear_width(source, 0).response.fwhm_keV([0.0, 10.0])
    np.testing.assert_allclose(widths, [0.065, 0.165])
    # Whatever was drawn for the thickness is replaced.
    thicker = source.with_errors(np.random.default_rng(0))
    films = [wrong.wrong_thickness(thicker, seed) for seed in (0, 1)]
    assert [film.film.thickness_nm[0] for film in films] == pytest.approx([150.0, 50.0])
    assert [film.mass_thickness for film in films] == [1.5, 0.5]
    shifted = wrong.shifted_axis(source, 0).response
    assert shifted.apparent_keV(5.0) - source.response.apparent_keV(5.0) == pytest.approx(0.003)
    kinds = {kind.what: kind for kind in wrong.KINDS}
    bent = kinds["axis bent by 4 eV at 4 keV"].departure(source, 0).response
    detector = kinds["detector with tail, escape peaks and pile-up"].departure(source, 0).response
    assert bent.apparent_keV(4.0) - source.response.apparent_keV(4.0) == pytest.approx(0.004)
    assert (
        detector.columns(np.array([6.4]), np.ones(1), np.zeros(1, int), 1, source.edges)[0, :400].sum() > 1e-3
    )
    cobalt = wrong.undeclared_element(told, None)
    assert set(cobalt.sample.stray) - set(told.sample.stray) == {"Co"}


def test_a_seed_that_fails_is_not_hidden(load, tmp_path: Path) -> None:  # noqa: ANN001
    wrong = load("wrong_model")
    seen = []

    def run(seed: int) -> tuple[object, None]:
        seen.append(seed)
        if seed == 1:
            raise ValueError("no mode")
        return SimpleNamespace(problems=["two modes"] if seed == 2 else []), None

    interval = pd.DataFrame(
        [("composition", "A", "Mg", np.inf, True), ("partition", "A/B", "U", np.nan, None)],
        columns=[*KEYS, "upper", "inside"],
    )
    coverage_of(run, range(1), tmp_path, intervals=lambda result, truth: interval)
    table, failures = coverage_of(run, range(3), tmp_path, intervals=lambda result, truth: interval)
    # The map of the first call is read back.
    assert seen == [0, 1, 2]
    assert table["seed"].tolist() == [0, 0, 2, 2]
    assert table["inside"].tolist() == [True, None, True, None]
    assert table["upper"].iloc[0] == np.inf
    assert np.isnan(table["upper"].iloc[1])
    assert failures == ["seed 1: ValueError: no mode", "seed 2: two modes"]
    row = wrong.verdict_row("test", 3, table, failures)
    assert row.measured.startswith("2 of 3 finish, 1 of them trusted")
    assert not row.holds


def test_the_least_error_is_that_of_maximum_likelihood(load) -> None:  # noqa: ANN001
    """Two phases at known places: amounts found by Newton's steps scatter as the inverse information says."""
    bound = load("information_bound")
    rng = np.random.default_rng(3)
    weights = rng.dirichlet([1.0, 1.0], 60) * 400.0
    lines = rng.dirichlet(np.ones(12), 3)
    spectra = np.zeros((4, 2, 12))
    spectra[[0, 1], 0], spectra[[2, 3], 1] = lines[:2], lines[1:]
    amounts = np.array([0.7, 0.3, 0.4, 0.6])
    per_atom = np.einsum("i,ikc->kc", amounts, spectra)
    information = bound.information(spectra, weights, per_atom)
    expected = weights @ per_atom
    slopes = np.einsum("pk,ikc->ipc", weights, spectra).reshape(4, -1)
    np.testing.assert_allclose(information, (slopes / expected.ravel()) @ slopes.T, rtol=1e-10)
    found = []
    for _ in range(400):
        counts, guess = rng.poisson(expected).ravel(), amounts.copy()
        for _ in range(20):
            mean = guess @ slopes
            guess = guess + np.linalg.solve(
                (slopes * counts / mean**2) @ slopes.T, slopes @ (counts / mean - 1.0)
            )
        found.append(guess)
    least = np.sqrt(np.diag(np.linalg.inv(information)))
    # Four standard errors of a standard deviation from 400 draws.
    np.testing.assert_allclose(np.std(found, axis=0), least, rtol=4.0 / np.sqrt(800.0))


def test_a_phase_alone_has_the_error_of_a_multinomial(load) -> None:  # noqa: ANN001
    """Lines apart from each other, one phase, no stray signal to speak of: fractions scatter as counts do."""
    bound, coverage = load("information_bound"), load("phantom_coverage")
    told = coverage.phantom("laplace", calibration_error=False)
    simulate = dataclasses.replace(
        told.simulate, shape=(6, 6), stray=dict.fromkeys(told.sample.stray, 1e-9), continuum=1e-9
    )
    told = dataclasses.replace(told, simulate=simulate)
    kept: list[Source] = []
    simulated = simulate_map(
        told,
        1,
        abundances=np.eye(3)[np.arange(36) % 3].reshape(6, 6, 3),
        departure=lambda s: kept.append(s) or s,
    )
    truth = simulated.truth
    absent = truth.composition == 0.0
    used = np.ones(truth.endmembers.shape[1], dtype=bool)
    least = bound.least_sd(kept[0], truth, simulate.counts_per_pixel, absent, used)
    assert np.array_equal(least == 0.0, absent)
    # Ferropericlase of Mg, Al and Fe: with counts C_e the fractions x_e = n_e / n scatter by x (1 - x) sqrt(sum 1 / C).
    fp = truth.phases.index("Fp")
    one = np.ones(3)
    atoms = truth.thickness[truth.abundances[..., fp] == 1.0].sum()
    scale = simulate.counts_per_pixel * 36 / expected_total(truth)
    lines = {e: kept[0].line_counts(truth.composition, {e: one})[fp].sum() for e in ("Mg", "Fe")}
    counts = {e: scale * atoms * truth.composition[fp, truth.elements.index(e)] * lines[e] for e in lines}
    iron = truth.composition[fp, truth.elements.index("Fe")]
    simple = iron * (1.0 - iron) * np.sqrt(sum(1.0 / count for count in counts.values()))
    assert least[fp, truth.elements.index("Fe")] == pytest.approx(simple, rel=0.05)


def expected_total(truth: Truth) -> float:
    """Return the expected counts of a whole map up to the factor that counts per pixel set."""
    return float((truth.thickness * (truth.abundances @ truth.counts_per_atom)).sum())


def test_moves_are_in_half_widths(load) -> None:  # noqa: ANN001
    thickness = load("thickness")
    columns = [*thickness.KEYS, "median", "lower", "upper"]
    tables = [
        pd.DataFrame([("composition", "A", "Mg", median, 0.3, 0.5), *more], columns=columns)
        for median, more in (
            (0.40, []),
            (0.41, [("composition", "A", "U", 0.1, 0.0, 0.2)]),
            (0.45, [("composition", "A", "U", 0.1, 0.0, 0.2)]),
        )
    ]
    table = thickness.side_by_side(tables).set_index("element")
    assert table.loc["Mg", ["change", "move"]].tolist() == pytest.approx([0.125, 0.5])
    assert np.isnan(table.loc["U", "move"])
    largest, typical = thickness.move_rows("composition", table.reset_index())
    assert largest.measured.startswith("A Mg: +0.50 half widths (0.4, 0.41, 0.45;")
    assert typical.measured == "0.50 half widths; 0 of 1 move by more than 1"
    assert thickness.move_rows("partition", table.reset_index())[0].measured.startswith("none")


@pytest.mark.calibration
def test_every_kind_of_bad_input_is_refused_in_one_line(tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    command = [sys.executable, FOLDER / "run.py", "--only", "bad_input", "--out", out]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert finished.returncode == 0, finished.stdout
    assert "15 of 15" in out.read_text()


def test_the_phantom_of_a_large_map_is_written_as_toml(load, tmp_path: Path) -> None:  # noqa: ANN001
    large = load("large")
    file = tmp_path / "phantom.toml"
    file.write_text(large.toml_of(large.phantom(64)), encoding="utf-8")
    config = RunConfig.from_toml(file)
    assert config.simulate.shape == (64, 64)
    assert config.phases[1].absent == ("Si", "Ca")
    assert config.truth()[1][0].composition["Mg"] == pytest.approx(0.402, abs=1e-3)


def test_times_on_a_line_give_the_line(load, tmp_path: Path) -> None:  # noqa: ANN001
    bench, large = load("bench"), load("large")
    found = [
        large.Measured(
            side,
            bench.Finished(0, "", "", 1.0, 1.0, 10**9),
            bench.Finished(0, "", "", 20.0, 12.0 + 3e-4 * side**2, 10**9),
            {},
        )
        for side in (64, 128, 512)
    ]
    line = large.straight_line(found)
    assert line == pytest.approx((12.0, 3e-4))
    assert large.draw(found, line, tmp_path / "picture.png").stat().st_size > 5000
