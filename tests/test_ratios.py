"""Ratios: when they are intervals, when bounds, and how often what they say holds."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xarray as xr
from scipy.stats import norm, truncnorm

from bayesunmix.chemistry.ratios import (
    Amounts,
    amounts,
    exchange_rows,
    partition_rows,
    resolved_beyond,
    weighted_quantile,
)

FloatArray = npt.NDArray[np.float64]

ELEMENTS = ["Fe", "Mg", "Nd"]
SHAPE = (2, 2000)


def truncated_normal(position: float, sd: float, seed: int) -> FloatArray:
    """Posterior of an amount whose estimate lies `position` sd above zero."""
    rng = np.random.default_rng(seed)
    return np.asarray(truncnorm(-position, np.inf, position * sd, sd).rvs(SHAPE, random_state=rng))


def made(
    positions: list[list[float]], absent: dict[str, list[str]] | None = None, level: float = 0.95
) -> Amounts:
    """Amounts of two phases, each so many sd above zero; calibration errors of 10 % shared by the phases."""
    rng = np.random.default_rng(3)
    values = np.stack(
        [
            np.stack(
                [truncated_normal(position, 0.01, 10 * k + i) for i, position in enumerate(row)], axis=-1
            )
            for k, row in enumerate(positions)
        ],
        axis=2,
    )
    coords = {"phase": ["A", "B"], "element": ELEMENTS}
    counting = xr.DataArray(values, dims=("chain", "draw", "phase", "element"), coords=coords)
    factor = np.exp(rng.normal(0.0, 0.1, (*SHAPE, 1, len(ELEMENTS))))
    return amounts(counting * factor, counting, absent or {}, level)


def one(table: pd.DataFrame, numerator: str, element: str) -> pd.Series:
    return table[(table.numerator == numerator) & (table.element == element)].iloc[0]


def test_threshold_of_an_interval() -> None:
    # Detected zeros, 5 % of all, get there in one case of forty.
    assert norm.sf(resolved_beyond(0.95)) == pytest.approx(0.05 * 0.025)
    assert norm.sf(resolved_beyond(0.68)) == pytest.approx(0.05 * 0.16)


@pytest.mark.parametrize(
    ("positions", "kind", "reason"),
    [
        ((20.0, 20.0), "interval", ""),
        ((4.0, 5.0), "interval", ""),
        ((2.3, 20.0), "upper", "numerator detected but not resolved"),
        ((0.5, 20.0), "upper", "numerator not detected"),
        ((20.0, 2.3), "lower", "denominator detected but not resolved"),
        ((20.0, -0.5), "lower", "denominator not detected"),
        (
            (2.3, 2.3),
            "undetermined",
            "numerator detected but not resolved; denominator detected but not resolved",
        ),
        ((0.0, 0.0), "undetermined", "numerator not detected; denominator not detected"),
    ],
)
def test_kind_follows_from_the_amounts(positions: tuple[float, float], kind: str, reason: str) -> None:
    top, bottom = positions
    row = one(partition_rows(made([[20.0, 20.0, top], [20.0, 20.0, bottom]])), "A", "Nd")
    assert (row["kind"], row["reason"]) == (kind, reason)
    if kind == "interval":
        assert 0.0 < row["lower"] < row["median"] < row["upper"] < np.inf
    elif kind == "upper":
        assert (row["lower"], np.isfinite(row["upper"])) == (0.0, True)
    elif kind == "lower":
        assert (row["lower"] > 0.0, row["upper"]) == (True, np.inf)
    else:
        assert np.isnan(row[["lower", "upper", "median"]].astype(float)).all()


def test_calibration_cancels_in_the_interval() -> None:
    row = one(partition_rows(made([[20.0, 20.0, 50.0], [20.0, 20.0, 50.0]])), "A", "Nd")
    # Amounts that are not normalised lose a shared factor entirely.
    np.testing.assert_allclose(
        row[["lower", "upper"]].astype(float), row[["lower_counting", "upper_counting"]].astype(float)
    )
    sd = np.sqrt(2) / 50
    assert row["log10_sd"] == pytest.approx(sd / np.log(10), rel=0.06)
    assert row["upper"] == pytest.approx(np.exp(1.96 * sd), rel=0.01)


def test_calibration_that_does_not_cancel_widens_the_interval() -> None:
    found = made([[50.0, 50.0, 50.0], [50.0, 50.0, 50.0]])
    rng = np.random.default_rng(0)
    own = np.exp(rng.normal(0.0, 0.1, (*SHAPE, 2, 3)))
    wide = Amounts(
        draws=found.draws * own,
        counting=found.counting,
        log_weight=found.log_weight,
        words=found.words,
        phases=found.phases,
        elements=found.elements,
        level=0.95,
    )
    row = one(partition_rows(wide), "A", "Nd")
    assert row["upper"] - row["lower"] > 3 * (row["upper_counting"] - row["lower_counting"])


def test_selection_lowers_the_lower_end_near_the_threshold_only() -> None:
    """Conditional on detection, a numerator 3.3 sd above zero may be less; one 10 sd above it is what it is."""
    for position, moved in ((3.3, True), (10.0, False)):
        found = made([[20.0, 20.0, position], [20.0, 20.0, 100.0]])
        row = one(partition_rows(found), "A", "Nd")
        plain = np.quantile(found.draws[:, :, 0, 2] / found.draws[:, :, 1, 2], [0.025, 0.975])
        if moved:
            assert row["lower"] < 0.8 * plain[0]
        else:
            np.testing.assert_allclose([row["lower"], row["upper"]], plain, rtol=1e-6)


@pytest.mark.parametrize(("share", "kind"), [(0.005, "interval"), (0.06, "upper")])
def test_draws_at_zero_keep_their_number(share: float, kind: str) -> None:
    """Some rotations leave none of an element, others much: that is either an interval without zero, or a bound."""
    found = made([[20.0, 20.0, 20.0], [20.0, 20.0, 100.0]])
    several = np.array(found.counting)
    several[:, : round(share * SHAPE[1]), 0, 2] = 1e-9
    coords = {"phase": ["A", "B"], "element": ELEMENTS}
    counting = xr.DataArray(several, dims=("chain", "draw", "phase", "element"), coords=coords)
    row = one(partition_rows(amounts(counting, counting, {}, 0.95)), "A", "Nd")
    plain = np.quantile(several[:, :, 0, 2] / several[:, :, 1, 2], [0.025, 0.95, 0.975])
    assert row["kind"] == kind
    if kind == "interval":
        np.testing.assert_allclose([row["lower"], row["upper"]], plain[[0, 2]], rtol=1e-6)
        assert row["lower"] > 0.5 * row["median"]
    else:
        assert row["reason"] == "numerator detected but not resolved"
        assert (row["lower"], row["upper"]) == (0.0, pytest.approx(plain[1], rel=1e-6))


def test_weighted_quantile_of_equal_weights_is_the_plain_one() -> None:
    values = np.random.default_rng(1).normal(size=101)
    shares = [0.0, 0.025, 0.5, 0.7, 1.0]
    np.testing.assert_allclose(
        weighted_quantile(values, np.full(101, 3.0), shares), np.quantile(values, shares)
    )
    # A weight of two is an entry twice, up to the step between neighbours.
    heavy = np.where(values > 0.5, 2.0, 1.0)
    doubled = np.concatenate([values, values[values > 0.5]])
    assert weighted_quantile(values, heavy, [0.6])[0] == pytest.approx(np.quantile(doubled, 0.6), abs=0.1)


def test_exchange_coefficient() -> None:
    found = made([[30.0, 60.0, 5.0], [90.0, 45.0, 5.0]])
    table = exchange_rows(found, "Fe", "Mg")
    assert table["exchange"].tolist() == ["Fe-Mg", "Fe-Mg"]
    row = table[table.numerator == "A"].iloc[0]
    fe, mg = found.draws[..., 0], found.draws[..., 1]
    by_hand = (fe[:, :, 0] / mg[:, :, 0]) / (fe[:, :, 1] / mg[:, :, 1])
    np.testing.assert_allclose(row["median"], np.median(by_hand))
    assert row["median"] == pytest.approx(0.25, rel=0.02)
    assert row["kind"] == "interval"


@pytest.mark.parametrize(
    ("positions", "kind"),
    [
        ([[0.0, 30.0, 5.0], [30.0, 30.0, 5.0]], "upper"),  # no Fe above
        ([[30.0, 30.0, 5.0], [30.0, 0.0, 5.0]], "upper"),  # no Mg below, which stands above
        ([[30.0, 0.0, 5.0], [30.0, 30.0, 5.0]], "lower"),
        ([[30.0, 30.0, 5.0], [0.0, 30.0, 5.0]], "lower"),
        ([[0.0, 30.0, 5.0], [0.0, 30.0, 5.0]], "undetermined"),
        ([[0.0, 0.0, 5.0], [30.0, 30.0, 5.0]], "undetermined"),
    ],
)
def test_exchange_with_an_amount_that_is_not_there(positions: list[list[float]], kind: str) -> None:
    table = exchange_rows(made(positions), "Fe", "Mg")
    assert table[table.numerator == "A"]["kind"].tolist() == [kind]


def test_declared_absence() -> None:
    table = partition_rows(made([[20.0, 20.0, 20.0], [20.0, 20.0, 20.0]], {"A": ["Nd"]}))
    assert one(table, "A", "Nd")["kind"] == "upper"
    assert one(table, "A", "Nd")["upper"] == 0.0
    assert one(table, "B", "Nd")["kind"] == "undetermined"
    assert one(table, "B", "Nd")["reason"] == "denominator declared absent"
    exchange = exchange_rows(made([[20.0] * 3, [20.0] * 3], {"A": ["Mg"]}), "Fe", "Mg")
    assert exchange["kind"].tolist() == ["undetermined", "upper"]


def test_what_is_said_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """D from 0.001 to 1000 and zeros, by the benchmark's simulation with a tenth of its replicates."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "benchmarks"))
    benchmark = importlib.import_module("partition_coverage")
    table = benchmark.simulate(benchmark.SETTINGS[0], 20, seed=11)
    intervals, bounds = table[table.kind == "interval"], table[table.kind.isin(["upper", "lower"])]
    assert len(intervals) > 100
    assert len(bounds) > 100
    # 0.95 of so many intervals, less four standard errors; never more than all.
    least = 0.95 - 4 * np.sqrt(0.95 * 0.05 / len(intervals))
    assert intervals.inside.mean() >= least
    halved = np.sqrt(intervals.lower * intervals.upper)
    narrow = np.sqrt(np.sqrt(intervals.upper / intervals.lower))
    inside = (halved / narrow <= intervals.truth) & (intervals.truth <= halved * narrow)
    assert inside.mean() < least  # half as wide would be noticed
    assert bounds.inside.mean() >= 0.95
    zeros = table[(table.truth == 0.0) | np.isinf(table.truth)]
    assert set(zeros.kind) <= {"upper", "lower"}
    assert (intervals.reason == "").all()
