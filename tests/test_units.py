"""Units of composition against textbook values."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesunmix.chemistry.oxides import oxygen_per_atom
from bayesunmix.chemistry.units import UNITS, atom_fractions, convert, mg_number, oxide_formula, with_oxygen
from bayesunmix.core.errors import InputError
from bayesunmix.xray.atomic import atomic_weight


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


def test_a_phase_without_oxygen_has_no_formula_unit() -> None:
    made = xr.concat([composition(Mg=0.25, Fe=0.25, O=0.5), composition(Mg=0.5, Fe=0.5, O=0.0)], dim="phase")
    found = convert(made, "apfu").isel(chain=0, draw=0).transpose("phase", "element").values
    np.testing.assert_allclose(found, [[1.5, 1.5], [np.nan, np.nan]])


def test_pyrope_in_twelve_oxygens() -> None:
    found = convert(composition(Mg=3 / 8, Al=2 / 8, Si=3 / 8), "apfu", oxygens=12.0)
    assert values(found) == pytest.approx({"Mg": 3.0, "Al": 2.0, "Si": 3.0})


@settings(max_examples=40)
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


# Molar masses by hand from the atomic weights that everything else uses, so that 1e-10 is a matter of arithmetic.
M = {element: atomic_weight(element) for element in ("O", "Mg", "Al", "Si", "Ca", "Fe", "Nd", "U")}
EXACT = {"rtol": 1e-10, "atol": 1e-12}


def test_closed_form_of_an_iron_bridgmanite() -> None:
    # (Mg0.9 Fe0.1)(Si0.9 Al0.1)O3 with all iron ferric is balanced: 0.9 x 2 + 0.1 x 3 + 0.9 x 4 + 0.1 x 3 = 6.
    made = composition(Mg=0.45, Fe=0.05, Si=0.45, Al=0.05)
    apfu = convert(made, "apfu", ferric=1.0)
    np.testing.assert_allclose(apfu.values.ravel(), [0.9, 0.1, 0.9, 0.1], **EXACT)
    weights = {
        "MgO": 0.9 * (M["Mg"] + M["O"]),
        "Fe2O3": 0.05 * (2 * M["Fe"] + 3 * M["O"]),
        "SiO2": 0.9 * (M["Si"] + 2 * M["O"]),
        "Al2O3": 0.05 * (2 * M["Al"] + 3 * M["O"]),
    }
    oxides = convert(made, "oxide_wt_pct", ferric=1.0)
    assert list(oxides["oxide"].values) == list(weights)
    expected = 100 * np.array(list(weights.values())) / sum(weights.values())
    np.testing.assert_allclose(oxides.values.ravel(), expected, **EXACT)
    ferrous = convert(made, "apfu")
    np.testing.assert_allclose(ferrous.values.ravel(), np.array([0.9, 0.1, 0.9, 0.1]) * 3 / 2.95, **EXACT)
    np.testing.assert_allclose(mg_number(made), 90.0, **EXACT)
    np.testing.assert_allclose(mg_number(made, ferric=0.5), 100 * 0.45 / 0.475, **EXACT)


def test_closed_form_of_ferropericlase_on_one_oxygen() -> None:
    made = composition(Mg=0.8, Fe=0.2)
    np.testing.assert_allclose(convert(made, "apfu", oxygens=1.0).values.ravel(), [0.8, 0.2], **EXACT)
    # A tenth of the iron ferric: 1.02 charges / 2 per cation.
    part = convert(made, "apfu", oxygens=1.0, ferric=0.1).values.ravel()
    np.testing.assert_allclose(part, np.array([0.8, 0.2]) / 1.01, **EXACT)


def test_oxygens_by_phase() -> None:
    both = xr.DataArray(
        [[0.5, 0.5, 0.0], [0.8, 0.0, 0.2]],
        dims=("phase", "element"),
        coords={"phase": ["Brg", "Fp"], "element": ["Mg", "Si", "Fe"]},
    )
    found = convert(both, "apfu", oxygens={"Brg": 3.0, "Fp": 1.0})
    np.testing.assert_allclose(found, [[1.0, 1.0, 0.0], [0.8, 0.0, 0.2]], **EXACT)
    assert found.dims == both.dims
    alone = convert(both.sel(phase="Fp"), "apfu", oxygens={"Brg": 3.0, "Fp": 1.0})
    np.testing.assert_allclose(alone, [0.8, 0.0, 0.2], **EXACT)
    with pytest.raises(InputError, match=r"`oxygens` must name every phase, Brg, Fp, but names Brg"):
        convert(both, "apfu", oxygens={"Brg": 3.0})
    with pytest.raises(InputError, match=r"`oxygens` must be positive, but is 0"):
        convert(both, "apfu", oxygens=0)


def test_oxygen_by_stoichiometry_is_part_of_the_weight() -> None:
    full = with_oxygen(composition(Mg=0.5, Si=0.5))
    np.testing.assert_allclose(full.values.ravel(), [0.2, 0.2, 0.6], **EXACT)
    weight = convert(full, "wt_pct").values.ravel()
    total = M["Mg"] + M["Si"] + 3 * M["O"]
    np.testing.assert_allclose(weight, 100 * np.array([M["Mg"], M["Si"], 3 * M["O"]]) / total, **EXACT)
    measured = composition(Mg=0.3, Si=0.2, O=0.5)
    assert with_oxygen(measured) is measured


def test_what_has_no_oxide_is_refused_by_name() -> None:
    made = composition(Mg=0.5, Ar=0.5)
    for unit in ("oxide_wt_pct", "apfu"):
        with pytest.raises(
            InputError, match=r"`unit` must be asked of elements that have an oxide, but Ar has no"
        ):
            convert(made, unit)
    assert float(convert(made, "wt_pct").sum()) == pytest.approx(100.0)
    assert convert(made, "oxide_wt_pct", valences={"Ar": 2.0})["oxide"].values[1] == "ArO"


def test_mg_number_needs_both_elements() -> None:
    with pytest.raises(InputError, match=r"`Mg#` must be asked where Mg and Fe are declared, but Fe is not"):
        mg_number(composition(Mg=0.5, Si=0.5))
    assert np.isnan(mg_number(composition(Mg=0.0, Fe=0.0, Si=1.0))).all()


ELEMENTS = ["Na", "Mg", "Al", "Si", "Ca", "Ti", "Fe", "Nd", "Hf", "U", "P"]


@st.composite
def compositions(draw: st.DrawFn) -> xr.DataArray:
    """Compositions of a few of the elements over several draws and phases, some of them zero."""
    chosen = draw(st.lists(st.sampled_from(ELEMENTS), min_size=2, max_size=8, unique=True))
    size = 6 * len(chosen)
    amounts = draw(st.lists(st.one_of(st.just(0.0), st.floats(1e-7, 1.0)), min_size=size, max_size=size))
    array = np.array(amounts).reshape(1, 3, 2, len(chosen))
    array[..., 0] += 1e-3
    coords = {"phase": ["A", "B"], "element": chosen}
    made = xr.DataArray(array, dims=("chain", "draw", "phase", "element"), coords=coords)
    return made / made.sum("element")


@settings(max_examples=40)
@given(compositions(), st.sampled_from(UNITS), st.floats(0.0, 1.0), st.floats(0.5, 24.0))
def test_round_trips(made: xr.DataArray, unit: str, ferric: float, oxygens: float) -> None:
    valences = {"U": 6.0}
    there = convert(made, unit, oxygens=oxygens, ferric=ferric, valences=valences)
    back = atom_fractions(there, ferric=ferric, valences=valences)
    assert back.attrs["unit"] == "at_frac"
    assert back.dims == made.dims
    np.testing.assert_allclose(back, made, **EXACT)


@settings(max_examples=40)
@given(compositions(), st.floats(0.0, 1.0), st.floats(0.5, 24.0))
def test_units_agree_with_each_other(made: xr.DataArray, ferric: float, oxygens: float) -> None:
    apfu = convert(made, "apfu", oxygens=oxygens, ferric=ferric)
    charge = 2.0 * oxygen_per_atom(made, ferric=ferric)
    # Charge balance is exact on any basis, and the basis is a factor.
    np.testing.assert_allclose((apfu * charge).sum("element"), 2.0 * oxygens, rtol=1e-10)
    np.testing.assert_allclose(apfu, oxygens / 3.0 * convert(made, "apfu", ferric=ferric), **EXACT)
    # Weight per cent with oxygen, oxides lumped by hand, is oxide weight per cent.
    weight = convert(with_oxygen(made, ferric=ferric), "wt_pct")
    metal = weight.sel(element=made["element"].values)
    per_metal = (
        charge
        / 2.0
        * M["O"]
        / xr.DataArray(
            [atomic_weight(e) for e in made["element"].values],
            dims="element",
            coords={"element": made["element"]},
        )
    )
    np.testing.assert_allclose(
        (metal * (1.0 + per_metal)).transpose(*made.dims),
        convert(made, "oxide_wt_pct", ferric=ferric),
        **EXACT,
    )
    np.testing.assert_allclose((metal * per_metal).sum("element"), weight.sel(element="O"), **EXACT)


def test_back_from_a_unit_that_is_not_said() -> None:
    values = composition(Mg=60.0, Si=40.0)
    with pytest.raises(InputError, match=r"`unit` must be one of \"at_frac\", .* but is None"):
        atom_fractions(values)
    found = atom_fractions(values, "wt_pct").values.ravel()
    expected = np.array([60 / M["Mg"], 40 / M["Si"]])
    np.testing.assert_allclose(found, expected / expected.sum(), **EXACT)


def test_draws_of_ferric_iron_go_with_their_draws() -> None:
    made = xr.DataArray(
        np.tile([0.5, 0.5], (2, 3, 1, 1)),
        dims=("chain", "draw", "phase", "element"),
        coords={"phase": ["A"], "element": ["Mg", "Fe"]},
    )
    share = xr.DataArray(
        np.arange(6.0).reshape(2, 3, 1) / 5, dims=("chain", "draw", "phase"), coords={"phase": ["A"]}
    )
    found = convert(made, "apfu", oxygens=1.0, ferric=share)
    assert found.dims == made.dims
    np.testing.assert_allclose(found.sel(element="Mg"), 1.0 / (2.0 + share / 2.0), **EXACT)
