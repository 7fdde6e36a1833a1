"""Site sums, charge and vacancies against formulas written by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesunmix.chemistry.sites import site_quantities, site_table, vacancy_notes
from bayesunmix.core.errors import InputError

EXACT = {"rtol": 1e-10, "atol": 1e-12}


def phase(**amounts: float) -> xr.DataArray:
    values = np.array(list(amounts.values()), dtype=float)
    return xr.DataArray(
        np.tile(values / values.sum(), (1, 1, 1)),
        dims=("chain", "draw", "element"),
        coords={"element": list(amounts)},
    )


def found(formula: str, ferric: float = 0.0, **amounts: float) -> dict[str, float]:
    quantities = site_quantities(phase(**amounts), formula, list(amounts), ferric=ferric)
    return {name: float(draws.squeeze()) for name, (draws, _) in quantities.items()}


def test_ideal_perovskite_has_nothing_left_over() -> None:
    sums = found("ABO3", Mg=0.9, Fe=0.1, Si=1.0)
    assert sums["large site"] == pytest.approx(1.0, abs=1e-10)
    assert sums["small site"] == pytest.approx(1.0, abs=1e-10)
    assert sums["cations"] == pytest.approx(2.0, abs=1e-10)
    for name in ("excess charge", "vacancies", "vacancies of the large site, at most"):
        assert sums[name] == pytest.approx(0.0, abs=1e-10)


def test_rare_earth_and_uranium_leave_vacancies_on_the_calcium_site() -> None:
    # Ca(1 - 3x/2 - 2y) Nd(x) U(y) []( x/2 + y) SiO3.
    x, y = 0.06, 0.02
    sums = found("ABO3", Ca=1 - 1.5 * x - 2 * y, Nd=x, U=y, Si=1.0)
    for name in (
        "vacancies",
        "vacancies of the large site, at least",
        "vacancies of the large site, at most",
    ):
        assert sums[name] == pytest.approx(x / 2 + y, abs=1e-10)
    assert sums["excess charge of the large site"] == pytest.approx(x + 2 * y, abs=1e-10)
    assert sums["large site"] == pytest.approx(1 - x / 2 - y, abs=1e-10)
    # On two cations the vacancies are a charge.
    assert sums["excess charge"] == pytest.approx(6 * 2 / (2 - x / 2 - y) - 6, abs=1e-10)


def test_coupled_substitution_needs_no_vacancy() -> None:
    # Ca(1 - x) Nd(x) Si(1 - x) Al(x) O3, aluminium on the small site.
    x = 0.1
    sums = found("ABO3", Ca=1 - x, Nd=x, Si=1 - x, Al=x)
    assert sums["vacancies"] == pytest.approx(0.0, abs=1e-10)
    assert sums["vacancies of the large site, at least"] == 0.0
    # Were the aluminium to pair with itself, the neodymium would ask for vacancies.
    assert sums["vacancies of the large site, at most"] == pytest.approx(x / 2, abs=1e-10)
    assert sums["cations"] == pytest.approx(2.0, abs=1e-10)
    # Half of the aluminium is counted on each site: the sums are off by that half.
    assert sums["large site"] == pytest.approx(1 + x / 2, abs=1e-10)


def test_ferric_iron_in_ferropericlase() -> None:
    # Two Fe3+ and a vacancy take the place of three Fe2+.
    sums = found("AO", 0.5, Mg=0.8, Fe=0.2)
    ferric = 0.1 / 1.05
    assert sums["vacancies"] == pytest.approx(ferric / 2, abs=1e-10)
    assert sums["cations"] == pytest.approx(1 / 1.05, abs=1e-10)


def test_measured_oxygen_is_a_check_of_the_charge() -> None:
    quantities = site_quantities(phase(Mg=1.0, Si=1.0, O=3.2), "ABO3", ["Mg", "Si", "O"])
    # In three oxygens there are 3 / 3.2 of each cation.
    assert float(quantities["excess charge"][0].squeeze()) == pytest.approx(6 * 3 / 3.2 - 6, abs=1e-10)


@settings(max_examples=40)
@given(st.floats(0.0, 0.1), st.floats(0.0, 0.05), st.floats(0.0, 0.15), st.floats(0.0, 1.0))
def test_true_vacancies_lie_between_least_and_most(nd: float, u: float, al: float, on_large: float) -> None:
    """A balanced perovskite with full small site, part of its aluminium on the large one, the rest of charge vacant."""
    on_large *= al / 2  # at most half: paired with itself
    excess = nd + 2 * u + on_large - (al - on_large)
    vacant = max(excess, 0.0) / 2
    if excess < 0.0:
        on_large, excess = on_large - excess / 2, 0.0  # aluminium moves until the charge is balanced
    ca = 1.0 - nd - u - on_large - vacant
    sums = found("ABO3", Ca=ca, Nd=nd, U=u, Al=al, Si=1.0 - (al - on_large))
    assert sums["vacancies"] == pytest.approx(vacant, abs=1e-9)
    assert sums["vacancies of the large site, at least"] <= vacant + 1e-9
    assert sums["vacancies of the large site, at most"] >= vacant - 1e-9


def both() -> xr.DataArray:
    rng = np.random.default_rng(0)
    means = np.array([[0.0, 0.46, 0.48, 0.04, 0.02, 0.0], [0.86, 0.0, 0.0, 0.0, 0.0, 0.14]])
    values = np.abs(means * (1 + 0.02 * rng.normal(size=(2, 200, 2, 6))))
    coords = {"phase": ["CaPv", "Fp"], "element": ["Mg", "Ca", "Si", "Nd", "U", "Fe"]}
    made = xr.DataArray(values, dims=("chain", "draw", "phase", "element"), coords=coords)
    return made / made.sum("element")


ABSENT = {"CaPv": ["Mg", "Fe"], "Fp": ["Ca", "Si", "Nd", "U"]}


def test_table_and_notes() -> None:
    formulas = {"CaPv": "ABO3", "Fp": "AO"}
    table = site_table(both(), formulas, ABSENT, 0.9)
    assert table.columns.tolist() == [
        "phase", "quantity", "mean", "sd", "median", "lower", "upper", "level", "ideal", "agrees",
    ]  # fmt: skip
    rows = table.set_index(["phase", "quantity"])
    assert rows.loc[("Fp", "Mg#"), "median"] == pytest.approx(86.0, abs=0.5)
    assert ("CaPv", "Mg#") not in rows.index  # it has neither Mg nor Fe
    small = rows.loc[("CaPv", "small site")]
    assert bool(small["agrees"]) == (small["lower"] <= 1.0 <= small["upper"])
    assert rows.loc[("CaPv", "vacancies"), "agrees"] is None
    notes = vacancy_notes(table, both(), formulas, ABSENT)
    assert len(notes) == 1
    assert notes[0].startswith("CaPv: Nd3+, U4+ on the large site bring 0.1")
    assert "vacancies of the large site" in notes[0]
    ferric = site_table(both(), formulas, ABSENT, 0.9, ferric=0.2)
    notes = vacancy_notes(ferric, both(), formulas, ABSENT, ferric=0.2)
    assert notes[1].startswith("Fp: Fe3+ beside divalent cations leave 0.01")


def test_elements_not_found_are_not_blamed() -> None:
    formulas = {"CaPv": "ABO3"}
    table = site_table(both(), formulas, ABSENT, 0.9)
    assert vacancy_notes(table, both(), formulas, {"CaPv": ["Mg", "Fe", "Nd", "U"]}) == []


def test_a_phase_without_a_formula_has_its_mg_number_only() -> None:
    table = site_table(both(), {}, ABSENT, 0.9)
    assert table[["phase", "quantity"]].to_numpy().tolist() == [["Fp", "Mg#"]]
    assert isinstance(table, pd.DataFrame)


def test_formulas_that_cannot_be_read_are_refused() -> None:
    with pytest.raises(InputError, match=r"`stoichiometry` must be a chemical formula"):
        site_table(both(), {"Fp": "periclase"}, ABSENT, 0.9)
