"""Mass balance: shares of the phases from the sum spectrum, recovered against given, who holds what."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr

from bayesunmix.chemistry.mass_balance import (
    BulkAmount,
    balance_table,
    check_bulk,
    count_shares,
    element_budget_table,
)
from bayesunmix.core.errors import InputError
from bayesunmix.xray.atomic import atomic_weight

FloatArray = npt.NDArray[np.float64]

SHARES = np.array([0.9, 0.07, 0.03])


def endmembers(rng: np.random.Generator) -> FloatArray:
    spectra = rng.dirichlet(np.full(60, 0.5), 3)
    return 0.5 * spectra + 0.5 * spectra.mean(axis=0)  # they overlap


def test_shares_of_the_counts_are_found_with_their_error() -> None:
    rng = np.random.default_rng(0)
    spectra = endmembers(rng)
    inside = np.zeros(3)
    replicates, counts = 200, 20_000
    for seed in range(replicates):
        total = rng.poisson(counts * SHARES @ spectra).astype(float)
        drawn = count_shares(total, np.tile(spectra, (400, 1, 1)), seed)
        np.testing.assert_allclose(drawn.sum(axis=1), 1.0)
        lower, upper = np.quantile(drawn, [0.05, 0.95], axis=0)
        inside += (lower <= SHARES) & (upper >= SHARES)
    # 0.9 of 200 within four standard errors.
    assert (np.abs(inside / replicates - 0.9) < 4 * np.sqrt(0.09 / replicates)).all(), inside


def test_exact_counts_give_exact_shares_and_follow_the_endmembers() -> None:
    spectra = endmembers(np.random.default_rng(1))
    found = count_shares(1e6 * SHARES @ spectra, spectra[None], 0)
    np.testing.assert_allclose(found[0], SHARES, rtol=1e-8)
    # A third phase drawn as a half-half mixture with the first is twice as abundant.
    mixed = spectra.copy()
    mixed[2] = 0.5 * (spectra[0] + spectra[2])
    np.testing.assert_allclose(count_shares(1e6 * SHARES @ spectra, mixed[None], 0)[0, 2], 0.06, rtol=1e-8)


def test_a_phase_that_is_not_there_gets_nothing() -> None:
    spectra = endmembers(np.random.default_rng(1))
    found = count_shares(1e6 * np.array([0.6, 0.4, 0.0]) @ spectra, np.tile(spectra, (50, 1, 1)), 0)
    assert (found >= 0.0).all()
    assert found[:, 2].mean() < 0.01


def posterior() -> tuple[xr.DataArray, xr.DataArray]:
    """Two phases of exactly known composition; B is twice as rich in Nd where it is half as abundant."""
    richer = np.linspace(0.8, 1.25, 400).reshape(2, 200)
    values = np.zeros((2, 200, 2, 3))
    values[..., 0, :] = [0.5, 0.5, 0.0]
    values[..., 1, 2] = 0.01 * richer
    values[..., 1, 0] = 0.5 - 0.01 * richer
    values[..., 1, 1] = 0.5
    shares = np.stack([1 - 0.1 / richer, 0.1 / richer], axis=-1)
    coords = {"phase": ["A", "B"], "element": ["Mg", "Si", "Nd"]}
    dims = ("chain", "draw", "phase", "element")
    return xr.DataArray(values, dims=dims, coords=coords), xr.DataArray(
        shares, dims=dims[:3], coords={"phase": ["A", "B"]}
    )


FOUND = {"Mg": ["A", "B"], "Si": ["A", "B"], "Nd": ["B"]}


def test_recovered_weight_per_cent_with_and_without_oxygen() -> None:
    composition, shares = posterior()
    m = {element: atomic_weight(element) for element in ("Mg", "Si", "Nd", "O")}
    nd = 0.1 * 0.01
    metal = (0.5 - nd) * m["Mg"] + 0.5 * m["Si"] + nd * m["Nd"]
    oxygen = ((0.5 - nd) + 1.0 + 1.5 * nd) * m["O"]
    for with_oxygen, mass in ((True, metal + oxygen), (False, metal)):
        table = balance_table(composition, shares, FOUND, {}, 0.95, oxygen=with_oxygen).set_index("element")
        # Rich and rare vary against each other: their product does not vary.
        assert table.loc["Nd", "median"] == pytest.approx(100 * nd * m["Nd"] / mass, rel=1e-9)
        assert table.loc["Nd", "upper"] / table.loc["Nd", "lower"] == pytest.approx(1.0, abs=1e-6)
        assert table["given"].isna().all()
        assert table["agrees"].isna().all()
    assert table["mean"].sum() == pytest.approx(100.0)


def test_recovered_against_given() -> None:
    composition, shares = posterior()
    recovered = balance_table(composition, shares, FOUND, {}, 0.95, oxygen=True).set_index("element")
    amount = float(recovered.loc["Nd", "median"])
    for factor, sd, agrees in ((1.0, 0.01, True), (2.0, 0.0, False), (1.3, 0.3 * amount, True)):
        bulk = {"Nd": BulkAmount(factor * amount, sd * amount if sd == 0.01 else sd)}
        row = (
            balance_table(composition, shares, FOUND, bulk, 0.95, oxygen=True).set_index("element").loc["Nd"]
        )
        assert row["ratio"] == pytest.approx(1 / factor, rel=0.03)
        assert row["agrees"] is agrees
        assert row["kind"] == "interval"


def test_what_is_not_found_may_be_zero() -> None:
    composition, shares = posterior()
    composition = composition.copy()
    composition.loc[{"phase": "A", "element": "Nd"}] = 0.002
    table = balance_table(composition, shares, FOUND, {}, 0.95, oxygen=True).set_index("element")
    # Of the Nd seen in the draws a lot lies in A, where it was not detected: it stretches the upper end only.
    assert table.loc["Nd", "upper"] > 2.5 * table.loc["Nd", "lower"]
    nowhere = balance_table(
        composition, shares, FOUND | {"Nd": []}, {"Nd": BulkAmount(0.3, 0.0)}, 0.95, oxygen=True
    )
    row = nowhere.set_index("element").loc["Nd"]
    assert (row["kind"], row["lower"], row["ratio_lower"]) == ("upper", 0.0, 0.0)


def test_budget() -> None:
    composition, shares = posterior()
    table = element_budget_table(composition, shares, FOUND, 0.9).set_index(["phase", "element"])
    assert table.loc[("B", "Nd"), "median"] == 1.0
    assert table.loc[("A", "Nd"), "upper"] == 0.0
    mg = table.xs("Mg", level="element")["mean"]
    assert mg.sum() == pytest.approx(1.0)
    silicon = table.loc[("B", "Si")]
    assert silicon["lower"] < silicon["median"] < silicon["upper"]


def test_oxides_are_read() -> None:
    found = check_bulk({"Nd2O3": [0.35, 0.01], "CaO": 1.0}, ["Nd", "Ca"])
    share = 2 * atomic_weight("Nd") / (2 * atomic_weight("Nd") + 3 * atomic_weight("O"))
    assert found["Nd"].value == pytest.approx(0.35 * share)
    assert found["Nd"].sd == pytest.approx(0.01 * share)
    assert found["Ca"].value == pytest.approx(
        atomic_weight("Ca") / (atomic_weight("Ca") + atomic_weight("O"))
    )


@pytest.mark.parametrize(
    ("bulk", "message"),
    [
        (0.3, r"`sample.bulk_wt_pct` must be a table such as .* but is 0.3"),
        ({}, r"`sample.bulk_wt_pct` must be a table such as"),
        ({"Sm": 0.3}, r"`sample.bulk_wt_pct.Sm` must name one of Nd, Si, but is not declared"),
        ({"Xx": 0.3}, r"`sample.bulk_wt_pct` must be a chemical symbol such as Mg, but is \"Xx\""),
        ({"Nd": -0.3}, r"`sample.bulk_wt_pct.Nd` must be positive, but is -0.3"),
        ({"Nd": [0.3, 0.1, 0.1]}, r"`sample.bulk_wt_pct.Nd` must be a number or \[value, sd\]"),
        ({"Nd": 0.3, "Nd2O3": 0.3}, r"`sample.bulk_wt_pct` must name each element once, but names Nd twice"),
        ({"Nd": 60.0, "Si": 50.0}, r"`sample.bulk_wt_pct` must sum to at most 100 %.* but sums to 110"),
    ],
)
def test_bulk_compositions_are_checked(bulk: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_bulk(bulk, ["Nd", "Si"])
