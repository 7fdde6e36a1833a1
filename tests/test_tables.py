"""Tables of compositions and partition coefficients: states, kinds of bounds, and columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import truncnorm

from bayesunmix.chemistry.detection import detect
from bayesunmix.chemistry.ratios import amounts, partition_rows
from bayesunmix.results.tables import composition_table, detection_states

FloatArray = npt.NDArray[np.float64]

COMPOSITION = [
    "phase",
    "element",
    "unit",
    "mean",
    "sd",
    "median",
    "lower",
    "upper",
    "level",
    "detected",
    "decision_threshold",
    "detection_limit",
    "upper_bound",
    "rhat",
    "ess_bulk",
    "ess_tail",
]
PARTITION = [
    "element",
    "numerator",
    "denominator",
    "mean",
    "sd",
    "median",
    "lower",
    "upper",
    "level",
    "kind",
    "prob_above_1",
]
# Rows: phases A and B. Ca is a trace that neither holds for sure; Fe is certain in A only; Si is absent from B.
ELEMENTS = ["Mg", "Si", "Ca", "Fe"]
ABSENT = {"B": ["Si"]}
LEVEL = 0.9
SHAPE = (2, 1000)


def draws() -> xr.DataArray:
    rng = np.random.default_rng(1)
    zero = truncnorm(0.0, np.inf, 0.0, 1e-3)
    values = np.empty((*SHAPE, 2, 4))
    values[..., 0, 0] = rng.normal(0.5, 0.01, SHAPE)
    values[..., 1, 0] = rng.normal(0.8, 0.01, SHAPE)
    values[..., 0, 1] = rng.normal(0.4, 0.01, SHAPE)
    values[..., 1, 1] = 0.0
    values[..., 0, 2] = zero.rvs(SHAPE, random_state=rng)
    values[..., 1, 2] = zero.rvs(SHAPE, random_state=rng)
    values[..., 0, 3] = rng.normal(0.1, 0.005, SHAPE)
    values[..., 1, 3] = zero.rvs(SHAPE, random_state=rng)
    return xr.DataArray(
        values,
        dims=("chain", "draw", "phase", "element"),
        coords={"phase": ["A", "B"], "element": ELEMENTS},
        attrs={"unit": "at_frac"},
    )


@pytest.fixture(scope="module")
def counting() -> xr.DataArray:
    return draws()


@pytest.fixture(scope="module")
def table(counting: xr.DataArray) -> pd.DataFrame:
    return composition_table(counting, counting, ABSENT, LEVEL).set_index(["phase", "element"])


def partition_table(counting: xr.DataArray) -> pd.DataFrame:
    return partition_rows(amounts(counting, counting, ABSENT, LEVEL))


@pytest.fixture(scope="module")
def ratios(counting: xr.DataArray) -> pd.DataFrame:
    found = partition_table(counting)
    return found.set_index(["numerator", "denominator", "element"])


def test_columns_of_the_contract(counting: xr.DataArray) -> None:
    assert list(composition_table(counting, counting, ABSENT, LEVEL)) == COMPOSITION
    assert list(partition_table(counting))[: len(PARTITION)] == PARTITION


def test_columns_do_not_depend_on_the_first_row(counting: xr.DataArray) -> None:
    reordered = counting.isel(element=[2, 1, 0, 3])  # the first ratio is undetermined
    found = partition_table(reordered)
    assert list(found)[: len(PARTITION)] == PARTITION


def test_states(counting: xr.DataArray, table: pd.DataFrame) -> None:
    states = detection_states(counting, ABSENT)
    assert states.tolist() == [
        ["true", "true", "false", "true"],
        ["true", "declared_absent", "false", "false"],
    ]
    assert table["detected"].tolist() == states.ravel().tolist()


def test_detected_elements_have_an_interval(counting: xr.DataArray, table: pd.DataFrame) -> None:
    row, values = table.loc["A", "Fe"], counting.values[..., 0, 3].ravel()
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    assert row["median"] == pytest.approx(np.median(values))
    np.testing.assert_allclose([row["lower"], row["upper"]], np.quantile(values, [0.05, 0.95]))
    assert row["level"] == LEVEL
    assert row["unit"] == "at_frac"
    limits = detect(values[:, None])
    assert row["decision_threshold"] == pytest.approx(limits.decision_threshold[0])
    assert row["detection_limit"] == pytest.approx(2 * row["decision_threshold"])
    assert abs(row["rhat"] - 1.0) < 0.01
    assert 1400 < row["ess_bulk"] < 2700


def test_elements_not_detected_have_a_bound(counting: xr.DataArray, table: pd.DataFrame) -> None:
    row, values = table.loc["B", "Fe"], counting.values[..., 1, 3].ravel()
    assert row["lower"] == 0.0
    assert row["upper"] == row["upper_bound"] == pytest.approx(np.quantile(values, LEVEL))
    # A normal truncated at its centre: the bound is the one-sided quantile of its upper half, 1.645 sd at 90 %.
    assert row["upper_bound"] == pytest.approx(1.645e-3, rel=0.08)
    assert row["decision_threshold"] == pytest.approx(1.645e-3, rel=0.15)


def test_declared_absent_elements_are_zero(table: pd.DataFrame) -> None:
    row = table.loc["B", "Si"]
    for name in ("mean", "sd", "median", "lower", "upper", "upper_bound"):
        assert row[name] == 0.0
    assert np.isnan(row[["decision_threshold", "detection_limit", "rhat"]].astype(float)).all()


def test_declared_absence_wins_over_the_draws(counting: xr.DataArray) -> None:
    found = composition_table(counting, counting, {"A": ["Mg"]}, LEVEL).set_index(["phase", "element"])
    assert found.loc[("A", "Mg"), "detected"] == "declared_absent"
    assert found.loc[("A", "Mg"), "mean"] == 0.0
    assert found.loc[("B", "Si"), "detected"] == "false"


def test_counting_decides_on_detection_and_the_unit_scales_its_limits(counting: xr.DataArray) -> None:
    scaled = (100.0 * counting).assign_attrs(unit="wt_pct")
    found = composition_table(scaled, counting, ABSENT, LEVEL).set_index(["phase", "element"])
    plain = composition_table(counting, counting, ABSENT, LEVEL).set_index(["phase", "element"])
    assert found["detected"].tolist() == plain["detected"].tolist()
    assert set(found["unit"]) == {"wt_pct"}
    for name in ("mean", "upper_bound", "decision_threshold", "detection_limit"):
        np.testing.assert_allclose(found[name], 100.0 * plain[name])
    # Errors of calibration that widen a composition do not change whether it is there.
    factor = np.exp(np.random.default_rng(0).normal(0.0, 1.5, SHAPE))[..., None, None]
    wide = composition_table(counting * factor, counting, ABSENT, LEVEL)
    assert wide["detected"].tolist() == plain["detected"].tolist()


def test_a_unit_without_some_elements(counting: xr.DataArray) -> None:
    part = counting.sel(element=["Mg", "Fe"])
    found = composition_table(part, counting, ABSENT, LEVEL)
    assert found["element"].tolist() == ["Mg", "Fe", "Mg", "Fe"]
    assert found["detected"].tolist() == ["true", "true", "true", "false"]


def test_every_ordered_pair_is_there(ratios: pd.DataFrame) -> None:
    expected = {(a, b, e) for a, b in (("A", "B"), ("B", "A")) for e in ELEMENTS}
    assert set(ratios.index) == expected
    assert len(ratios) == len(expected)


def test_kinds_of_ratios(ratios: pd.DataFrame) -> None:
    kinds = {index: kind for index, kind in ratios["kind"].items()}
    assert kinds == {
        ("A", "B", "Mg"): "interval",
        ("A", "B", "Si"): "undetermined",  # divided by what is declared to be nothing
        ("A", "B", "Ca"): "undetermined",  # neither is detected
        ("A", "B", "Fe"): "lower",
        ("B", "A", "Mg"): "interval",
        ("B", "A", "Si"): "upper",
        ("B", "A", "Ca"): "undetermined",
        ("B", "A", "Fe"): "upper",
    }


def test_ratio_of_two_detected_amounts(counting: xr.DataArray, ratios: pd.DataFrame) -> None:
    row = ratios.loc["A", "B", "Mg"]
    values = (counting[:, :, 0, 0] / counting[:, :, 1, 0]).values.ravel()
    assert row["mean"] == pytest.approx(values.mean())
    assert row["sd"] == pytest.approx(values.std(ddof=1))
    np.testing.assert_allclose([row["lower"], row["upper"]], np.quantile(values, [0.05, 0.95]))
    assert row["prob_above_1"] == 0.0
    back = ratios.loc["B", "A", "Mg"]
    assert back["median"] == pytest.approx(1 / row["median"], rel=1e-6)
    np.testing.assert_allclose(
        [back["lower"], back["upper"]], [1 / row["upper"], 1 / row["lower"]], rtol=1e-3
    )
    assert back["prob_above_1"] == 1.0


def test_bounds_are_one_sided(counting: xr.DataArray, ratios: pd.DataFrame) -> None:
    values = (counting[:, :, 1, 3] / counting[:, :, 0, 3]).values.ravel()
    upper = ratios.loc["B", "A", "Fe"]
    assert upper["lower"] == 0.0
    assert upper["upper"] == pytest.approx(np.quantile(values, LEVEL))
    lower = ratios.loc["A", "B", "Fe"]
    assert lower["upper"] == np.inf
    assert lower["lower"] == pytest.approx(1 / np.quantile(values, LEVEL), rel=1e-2)
    assert np.isnan([upper["mean"], upper["sd"], lower["mean"]]).all()


def test_ratios_without_an_answer(ratios: pd.DataFrame) -> None:
    for index in (("A", "B", "Si"), ("A", "B", "Ca")):
        row = ratios.loc[index]
        assert np.isnan(row[["mean", "sd", "median", "lower", "upper", "prob_above_1"]].astype(float)).all()
    nothing = ratios.loc["B", "A", "Si"]
    assert (nothing[["mean", "median", "lower", "upper", "prob_above_1"]] == 0.0).all()


def test_a_single_point_has_no_intervals(counting: xr.DataArray) -> None:
    point = counting.isel(chain=[0], draw=[0])
    found = composition_table(point, point, ABSENT, LEVEL).set_index(["phase", "element"])
    assert found["mean"].tolist() == point.values.ravel().tolist()
    present = found.drop(index=("B", "Si"))
    for name in ("sd", "lower", "upper", "upper_bound", "decision_threshold", "detection_limit", "rhat"):
        assert present[name].isna().all()
    ratios = partition_table(point)
    known = ratios[ratios["kind"] == "point"]
    assert len(known)
    assert known[["sd", "lower", "upper", "prob_above_1"]].isna().all().all()
    assert known["median"].notna().all()
    assert "interval" not in set(ratios["kind"])


def test_a_single_point_tests_nothing_for_detection(counting: xr.DataArray) -> None:
    point = counting.isel(chain=[0], draw=[0])
    found = composition_table(point, point, ABSENT, LEVEL).set_index(["phase", "element"])["detected"]
    assert found["B", "Si"] == "declared_absent"
    assert set(found.drop(index=("B", "Si"))) == {""}
