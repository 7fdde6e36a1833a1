"""Units of composition against textbook values."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from bayesunmix.errors import InputError
from bayesunmix.units import UNITS, convert, oxide_formula


def composition(**amounts: float) -> xr.DataArray:
    values = np.array(list(amounts.values()))[None, None]
    return xr.DataArray(
        values, dims=("chain", "draw", "element"), coords={"element": list(amounts)}, name="composition"
    )


def values(found: xr.DataArray) -> dict[str, float]:
    return {str(e): float(v) for e, v in zip(found["element"].values, found.values.ravel(), strict=True)}


def test_weight_per_cent_of_periclase() -> None:
    # MgO: 24.305 / 40.304 of the mass is magnesium. Tables of atomic weights differ in the fourth digit.
    found = values(convert(composition(Mg=0.5, O=0.5), "wt_pct"))
    assert found["Mg"] == pytest.approx(60.30, abs=0.03)
    assert found["O"] == pytest.approx(39.70, abs=0.03)


def test_weight_per_cent_of_corundum() -> None:
    found = values(convert(composition(Al=0.4, O=0.6), "wt_pct"))
    assert found["Al"] == pytest.approx(52.93, abs=0.03)


def test_oxides_of_a_garnet() -> None:
    # Pyrope Mg3Al2Si3O12: 29.99 MgO, 25.29 Al2O3, 44.71 SiO2 by weight.
    found = convert(composition(Mg=3 / 8, Al=2 / 8, Si=3 / 8), "oxide_wt_pct")
    assert list(found["oxide"].values) == ["MgO", "Al2O3", "SiO2"]
    np.testing.assert_allclose(found.values.ravel(), [29.99, 25.29, 44.71], atol=0.02)


def test_oxygen_is_no_oxide() -> None:
    found = convert(composition(Mg=0.25, Si=0.15, O=0.6), "oxide_wt_pct")
    assert list(found["element"].values) == ["Mg", "Si"]
    assert float(found.sum()) == pytest.approx(100.0)


def test_enstatite_has_one_cation_of_each_in_three_oxygens() -> None:
    found = values(convert(composition(Mg=0.5, Si=0.5), "apfu"))
    assert found == pytest.approx({"Mg": 1.0, "Si": 1.0})
    doubled = convert(composition(Mg=0.5, Si=0.5), "apfu", oxygens=6.0)
    assert values(doubled) == pytest.approx({"Mg": 2.0, "Si": 2.0})
    assert doubled.attrs == {"unit": "apfu", "oxygens": 6.0}


def test_measured_oxygen_takes_the_place_of_valences() -> None:
    found = values(convert(composition(Mg=0.25, Si=0.25, O=0.5), "apfu"))
    assert found == pytest.approx({"Mg": 1.5, "Si": 1.5})


def test_pyrope_in_twelve_oxygens() -> None:
    found = convert(composition(Mg=3 / 8, Al=2 / 8, Si=3 / 8), "apfu", oxygens=12.0)
    assert values(found) == pytest.approx({"Mg": 3.0, "Al": 2.0, "Si": 3.0})


@given(st.lists(st.floats(1e-6, 1.0), min_size=3, max_size=3))
def test_percentages_sum_to_a_hundred(amounts: list[float]) -> None:
    total = sum(amounts)
    made = composition(Mg=amounts[0] / total, Al=amounts[1] / total, Fe=amounts[2] / total)
    for unit in ("wt_pct", "oxide_wt_pct"):
        found = convert(made, unit)
        assert float(found.sum()) == pytest.approx(100.0)
        assert found.attrs["unit"] == unit
    # Charge balance: the cations of a formula unit of three oxygens carry six charges.
    apfu = values(convert(made, "apfu"))
    assert 2 * apfu["Mg"] + 3 * apfu["Al"] + 2 * apfu["Fe"] == pytest.approx(6.0)


def test_draws_are_converted_one_by_one() -> None:
    draws = np.random.default_rng(0).dirichlet([5.0, 3.0, 2.0], size=(2, 4, 2))
    array = xr.DataArray(
        draws, dims=("chain", "draw", "phase", "element"), coords={"element": ["Mg", "Si", "Fe"]}
    )
    found = convert(array, "wt_pct")
    assert found.dims == array.dims
    alone = convert(array[1, 2, 1], "wt_pct")
    np.testing.assert_allclose(found[1, 2, 1], alone)


def test_atom_fractions_are_left_alone() -> None:
    made = composition(Mg=0.5, Si=0.5)
    xr.testing.assert_equal(convert(made, "at_frac"), made)
    assert convert(made, "at_frac").attrs["unit"] == "at_frac"


def test_unknown_unit_is_refused() -> None:
    with pytest.raises(InputError, match=r"`unit` must be one of at_frac, wt_pct, .* but is 'mol'"):
        convert(composition(Mg=1.0), "mol")
    assert UNITS == ("at_frac", "wt_pct", "oxide_wt_pct", "apfu")


@pytest.mark.parametrize(
    ("element", "formula"),
    [("Na", "Na2O"), ("Mg", "MgO"), ("Al", "Al2O3"), ("Si", "SiO2"), ("P", "P2O5"), ("W", "WO3")],
)
def test_oxide_formulas(element: str, formula: str) -> None:
    assert oxide_formula(element) == formula
