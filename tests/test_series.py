"""The hierarchical model of a series: its likelihood in closed form, its trend, and what it reports."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner
from scipy.stats import truncnorm

import bayesunmix as bu
from bayesunmix.analysis import series
from bayesunmix.analysis.comparison import Comparison
from bayesunmix.analysis.series import measured_ratios, shift_factor
from bayesunmix.cli import main
from bayesunmix.inference.hierarchical import ModelSampler
from bayesunmix.models.ratio import MeasuredRatios, pivots, ratio_log_likelihood
from bayesunmix.models.series import residual_basis
from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Maker = Callable[..., Result]

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
PHASES, ELEMENTS = ("Brg", "CaPv"), ("Si", "Ca", "Nd", "U", "Hf")
SD = (0.05, 0.05, 0.1, 0.2, 0.1)
PRESSURE = (40.0, 55.0, 71.0, 90.0)
Z = (np.array(PRESSURE) - np.mean(PRESSURE)) / np.std(PRESSURE)
SLOPE = {"Nd": 0.5, "U": -0.4}
ERROR = np.array([0.1, 0.1, 1.0, 1.0, 1.0])
# Nothing is left of Hf in CaPv in the last three maps.
LOST = (False, True, True, True)


def one(
    top: float, bottom: float, top_sd: float, bottom_sd: float, correlation: float = 0.0
) -> MeasuredRatios:
    arrays = [np.array([[value]]) for value in (top, bottom, top_sd, bottom_sd, correlation)]
    return MeasuredRatios(*arrays, precision=np.ones((1, 1, 1)))


def test_pivot_is_fiellers() -> None:
    d = 2.5
    measured = one(3.0, 1.5, 0.3, 0.2, 0.4)
    variance = 0.3**2 - 2 * d * 0.4 * 0.3 * 0.2 + d**2 * 0.2**2
    found = pivots(np.array([[np.log(d)]]), measured)
    assert float(found[0, 0]) == pytest.approx((3.0 - d * 1.5) / np.sqrt(variance), rel=1e-12)
    assert float(ratio_log_likelihood(np.array([[np.log(d)]]), measured)) == pytest.approx(
        -0.5 * float(found[0, 0]) ** 2
    )
    turned = pivots(np.array([[-np.log(d)]]), one(1.5, 3.0, 0.2, 0.3, 0.4))
    assert float(turned[0, 0]) == pytest.approx(-float(found[0, 0]), rel=1e-12)


def test_pivot_is_standard_normal_whatever_the_amounts() -> None:
    rng = np.random.default_rng(0)
    n, sd, rho = 20_000, (0.8, 0.5), -0.3
    covariance = [[sd[0] ** 2, rho * sd[0] * sd[1]], [rho * sd[0] * sd[1], sd[1] ** 2]]
    for top, bottom in ((3.0, 0.2), (0.1, 2.0), (1.0, 1.0)):
        m = rng.multivariate_normal([top, bottom], covariance, n)
        shape = np.ones((n, 1))
        measured = MeasuredRatios(
            m[:, :1], m[:, 1:], sd[0] * shape, sd[1] * shape, rho * shape, np.ones((n, 1, 1))
        )
        t = np.asarray(pivots(np.full((n, 1), np.log(top / bottom)), measured))
        assert t.mean() == pytest.approx(0.0, abs=4 / np.sqrt(n))
        assert t.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * n))


def test_what_was_not_detected_bounds_from_one_side() -> None:
    numerator_lost, denominator_lost = one(0.2, 5.0, 1.0, 0.1), one(5.0, 0.2, 0.1, 1.0)

    def log_density(log_d: float, measured: MeasuredRatios) -> float:
        return float(ratio_log_likelihood(np.array([[log_d]]), measured))

    # Flat towards the side where nothing is known, and falling on the other.
    assert log_density(-20.0, numerator_lost) == pytest.approx(log_density(-40.0, numerator_lost), abs=1e-6)
    assert log_density(2.0, numerator_lost) < log_density(-20.0, numerator_lost) - 10
    assert log_density(20.0, denominator_lost) == pytest.approx(log_density(40.0, denominator_lost), abs=1e-6)
    assert log_density(-2.0, denominator_lost) < log_density(20.0, denominator_lost) - 10


def test_draws_become_estimates_that_undo_the_truncation() -> None:
    rng = np.random.default_rng(1)
    estimate, sd = np.array([[1.0, 0.02], [2.0, 1.0]]), np.array([[0.1, 0.02], [0.1, 0.1]])
    draws = truncnorm(-estimate / sd, np.inf, estimate, sd).rvs((20_000, 2, 2), random_state=rng)
    kinds = np.array(["interval", "upper"])
    found = measured_ratios(draws[:, 0], draws[:, 1], kinds)
    np.testing.assert_allclose(found.top, estimate[0], atol=0.003)
    np.testing.assert_allclose(found.top_sd, sd[0], rtol=0.06)
    np.testing.assert_allclose(found.bottom, estimate[1], atol=0.01)
    np.testing.assert_allclose(found.precision, np.eye(2), atol=0.05)
    common = np.exp(0.1 * rng.normal(size=(20_000, 1)))
    shared = measured_ratios(
        common * [[1.0, 2.0]], np.ones((20_000, 2)) + 1e-3 * rng.normal(size=(20_000, 2)), kinds
    )
    between = np.linalg.inv(shared.precision)
    assert between[0, 1] == pytest.approx(
        0.98, abs=0.01
    )  # the two ratios move together, but for what is held back
    nothing = measured_ratios(draws[:, 0], draws[:, 1], np.array(["interval", "undetermined"]))
    np.testing.assert_array_equal(nothing.precision[1], 0.0)


def test_shift_of_calibration() -> None:
    """To first order h = sum_e (x_e(top) - x_e(bottom)) f_e, the same for maps that share their factors."""
    rng = np.random.default_rng(2)
    pair = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1]])
    sd = np.array([0.02, 0.03, 0.02])
    common, other = sd * rng.normal(size=(2, 50_000, 3))
    factor = shift_factor([pair, pair, pair], (common, common, other))
    covariance = factor @ factor.T
    expected = (((pair[0] - pair[1]) * sd) ** 2).sum()
    assert covariance[0, 0] == pytest.approx(expected, rel=0.03)
    assert covariance[0, 1] == pytest.approx(expected, rel=0.03)
    assert covariance[0, 2] == pytest.approx(0.0, abs=0.03 * expected)


@pytest.mark.parametrize("covariate", [Z, np.zeros(4)])
def test_residual_basis(covariate: FloatArray) -> None:
    basis = residual_basis(covariate)
    np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(basis[:, 0], 0.5)
    if covariate.any():
        np.testing.assert_allclose(basis[:, 1], Z / np.linalg.norm(Z))


def amounts(relative: float) -> list[FloatArray]:
    """Draw amounts of four maps whose D follow the slopes without scatter; measured exactly, known to `relative`."""
    rng = np.random.default_rng(3)
    maps = []
    for z, lost in zip(Z, LOST, strict=True):
        d = {"Nd": 20.0 * np.exp(SLOPE["Nd"] * z), "U": 5.0 * np.exp(SLOPE["U"] * z), "Hf": 1.0}
        brg = np.array([0.5, 0.4984, 0.0004, 0.0002, 0.001])
        traces = [brg[2] * d["Nd"], brg[3] * d["U"], brg[4] * d["Hf"]]
        capv = np.array([0.3, 0.7 - sum(traces), *traces])
        true = np.stack([brg, capv])
        # Major elements are known ten times better, so that the sum of all adds nothing to the traces' errors.
        drawn = true * (1.0 + relative * ERROR * rng.normal(size=(2, 600, 2, 5)))
        if lost:
            drawn[:, :, 1, 4] = truncnorm(0.0, np.inf, 0.0, 1e-4).rvs((2, 600), random_state=rng)
        maps.append(drawn)
    return maps


@pytest.fixture(scope="module")
def comparison(made_result: Maker) -> Comparison:
    results = [made_result(x, PHASES, ELEMENTS, sd=SD, seed=s) for s, x in enumerate(amounts(0.05))]
    # Almost no scatter is allowed: what remains is weighted least squares.
    return bu.compare(results, covariate={"pressure_GPa": PRESSURE}, scatter=1e-3, names=[*"abcd"])


def test_without_scatter_it_is_least_squares(comparison: Comparison) -> None:
    assert comparison.series is not None
    assert comparison.problems == ()
    table = comparison.series.trend().set_index(["numerator", "denominator", "element"])
    spread = np.std(PRESSURE)
    for element, slope in SLOPE.items():
        row = table.loc[("CaPv", "Brg", element)]
        # Two independent errors of 5 % in every map.
        sd = 0.05 * np.sqrt(2.0) / np.sqrt(len(Z)) / spread
        assert row["slope_sd"] == pytest.approx(sd, rel=0.12)
        # The maps were measured exactly: what is left is the error of the mean of 1200 draws.
        assert row["slope_mean"] == pytest.approx(slope / spread, abs=0.25 * sd)
        assert row["kind"] == "interval"
        assert (row["covariate"], row["covariate_centre"]) == ("pressure_GPa", 64.0)
        assert row["prob_slope_positive"] == float(slope > 0)


def test_a_printed_comparison_says_what_differs(comparison: Comparison) -> None:
    said = repr(comparison).splitlines()
    assert said[0] == "Comparison of 4 results: a, b, c, d"
    differ = [line.strip() for line in said if " over " in line and line.strip().startswith("D(")]
    assert any(line.startswith("D(CaPv/Brg) of Nd, a over d: ") for line in differ)
    table = comparison.tables.partition_ratios()
    table = table[(table["kind"] == "interval") & (table["numerator"] == "CaPv")]
    apart = int(((table["ratio_lower"] > 1.0) | (table["ratio_upper"] < 1.0)).sum())
    assert f"  Ratios of partition coefficients whose 95 % interval excludes 1: {apart}" in said
    assert len(differ) == min(apart, 12)
    assert "  Slope of ln D over pressure_GPa, 4 maps:" in said
    assert any(line.startswith("    D(CaPv/Brg) of U: -0.0") for line in said)
    assert not any("not to be trusted" in line for line in said)


@pytest.mark.calibration
def test_a_sampler_with_problems_gets_more_time_and_keeps_those_that_stay(
    made_result: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = [made_result(x, PHASES, ELEMENTS, sd=SD, seed=s) for s, x in enumerate(amounts(0.05))]
    asked: list[int] = []
    made = series._sampler

    def watched(trend: bool, patience: int) -> ModelSampler:
        asked.append(patience)
        return made(trend, patience)

    monkeypatch.setattr(series, "_sampler", watched)
    monkeypatch.setattr(series, "PATIENCE", (1, 2))
    # 2000 draws can never be worth as many as this.
    monkeypatch.setattr(series, "ESS_LEAST", 1e5)
    problems = bu.compare(
        results, covariate={"pressure_GPa": PRESSURE}, scatter=1e-3, names=[*"abcd"]
    ).problems
    assert asked == [1, 2]
    assert len(problems) == 1
    assert "effective draws" in problems[0]


def test_a_turned_pair_has_the_turned_trend(comparison: Comparison) -> None:
    assert comparison.series is not None
    table = comparison.series.trend().set_index(["numerator", "denominator", "element"])
    there, back = table.loc[("CaPv", "Brg", "Nd")], table.loc[("Brg", "CaPv", "Nd")]
    assert back["slope_lower"] == pytest.approx(-there["slope_upper"])
    assert back["D_centre_median"] == pytest.approx(1 / there["D_centre_median"], rel=1e-3)


def test_what_too_few_maps_hold_is_undetermined(comparison: Comparison) -> None:
    assert comparison.series is not None
    row = (
        comparison.series.trend()
        .set_index(["numerator", "denominator", "element"])
        .loc[("CaPv", "Brg", "Hf")]
    )
    assert (row["kind"], row["n_intervals"]) == ("undetermined", 1)
    assert np.isnan(row[["slope_mean", "slope_lower", "D_centre_median"]].astype(float)).all()
    maps = comparison.series.maps()
    hafnium = maps[(maps["element"] == "Hf") & (maps["numerator"] == "CaPv")].set_index("result")
    assert hafnium["kind"].tolist() == ["interval", "upper", "upper", "upper"]
    assert hafnium.loc["b", "D_lower"] == 0.0
    assert hafnium["pooled_median"].isna().all()
    back = maps[(maps["element"] == "Hf") & (maps["numerator"] == "Brg")].set_index("result")
    assert back.loc["b", "kind"] == "lower"
    assert back.loc["b", "D_upper"] == np.inf


def test_pooled_maps_are_narrower_by_the_leverage(comparison: Comparison) -> None:
    """Without scatter each map has the variance of the fitted line there: sigma^2 (1 + z^2) / R."""
    assert comparison.series is not None
    maps = comparison.series.maps()
    for element in SLOPE:
        rows = maps[(maps["element"] == element) & (maps["numerator"] == "CaPv")]
        own, pooled = (np.log(rows[f"{n}_upper"] / rows[f"{n}_lower"]).to_numpy() for n in ("D", "pooled"))
        # Calibration shifts, common to all, are in both.
        np.testing.assert_allclose(pooled / own, np.sqrt((1 + Z**2) / 4), rtol=0.15)


def test_command_writes_the_trend(made_result: Maker, tmp_path: Path) -> None:
    folders = []
    for seed, (name, x) in enumerate(zip("abcd", amounts(0.05), strict=True)):
        folder = tmp_path / name
        folder.mkdir()
        result = made_result(x, PHASES, ELEMENTS, sd=SD, seed=seed)
        result.tree.to_netcdf(folder / "posterior.nc", engine="h5netcdf")
        (folder / "run.json").write_text(json.dumps(result.record.to_dict()))
        folders.append(str(folder))
    out = tmp_path / "out"
    given = ["--covariate", "pressure_GPa=40,55,71,90", "--out", str(out)]
    finished = CliRunner().invoke(main, ["compare", *folders, *given])
    assert finished.exit_code == 0, finished.stderr
    assert {"trend.csv", "trend_maps.csv"} <= {path.name for path in out.iterdir()}
    assert (out / "figures" / "trend.pdf").stat().st_size > 1000
    record = json.loads((out / "comparison.json").read_text())
    assert record["covariate"] == {"pressure_GPa": [40.0, 55.0, 71.0, 90.0]}
    assert record["scatter_prior_sd"] == 0.3


@pytest.mark.calibration
def test_maps_of_one_sample_are_pooled_without_a_trend(made_result: Maker) -> None:
    rng = np.random.default_rng(5)
    true = amounts(0.0)[0][0, 0]
    results = []
    for seed in range(5):
        measured = true * (1.0 + 0.05 * rng.normal(size=true.shape))
        drawn = measured * (1.0 + 0.05 * rng.normal(size=(2, 600, *true.shape)))
        results.append(made_result(drawn, PHASES, ELEMENTS, sd=SD, seed=seed))
    comparison = bu.compare(results, pool=True)
    assert comparison.series is not None
    table = comparison.series.trend().set_index(["numerator", "denominator", "element"])
    row = table.loc[("CaPv", "Brg", "Nd")]
    assert "slope_mean" not in table
    assert row["D_centre_lower"] < true[1, 2] / true[0, 2] < row["D_centre_upper"]
    own = comparison.series.maps()
    one_map = own[(own["element"] == "Nd") & (own["numerator"] == "CaPv")].iloc[0]
    assert row["D_centre_upper"] / row["D_centre_lower"] < one_map["D_upper"] / one_map["D_lower"]
    assert comparison.series.plot().axes


@pytest.mark.calibration
def test_slopes_are_covered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    coverage = importlib.import_module("series_coverage")
    table = coverage.simulate(range(30), None)
    reported = table[table["kind"] == "interval"]
    # Slopes of one series share their scatter: as if 60 of the 150 counted. Three standard errors below 0.95.
    assert reported["inside"].mean() > 0.95 - 3.0 * np.sqrt(0.95 * 0.05 / 60)
    known = table.dropna(subset=["narrower"])
    assert known["narrower"].mean() == pytest.approx(known["theory"].mean(), rel=coverage.THEORY_TOLERANCE)
