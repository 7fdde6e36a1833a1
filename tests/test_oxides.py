"""Valences, oxides and ferric iron."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from bayesunmix.chemistry.oxides import (
    check_ferric,
    check_valences,
    draw_ferric,
    iron_oxide,
    oxide_formula,
    oxygen_atoms,
    oxygen_per_atom,
)
from bayesunmix.core.errors import InputError


def draws(chains: int = 2, n: int = 4000, phases: tuple[str, ...] = ("Brg", "Fp")) -> xr.DataArray:
    values = np.full((chains, n, len(phases), 2), 0.5)
    coords = {"phase": list(phases), "element": ["Mg", "Fe"]}
    return xr.DataArray(values, dims=("chain", "draw", "phase", "element"), coords=coords)


@pytest.mark.parametrize("element", ["He", "Ar", "Xe", "O", "F", "Cl"])
def test_elements_without_an_oxide_are_refused(element: str) -> None:
    with pytest.raises(
        InputError,
        match=rf"`unit` must be asked of elements that have an oxide, but {element} has no valence",
    ):
        oxygen_atoms(element)
    composition = xr.DataArray([0.5, 0.5], dims="element", coords={"element": ["Mg", element]})
    np.testing.assert_array_equal(oxygen_per_atom(composition, strict=False), [1.0, 0.0])


def test_given_valences_replace_the_usual_ones() -> None:
    assert oxygen_atoms("U", {"U": 6.0}) == 3.0
    assert oxygen_atoms("Cl", {"Cl": 1.0}) == 0.5
    names = {"U": 6.0, "Eu": 2.0, "Fe": 3.0, "Ce": 3.5}
    assert [oxide_formula(e, names) for e in names] == ["UO3", "EuO", "Fe2O3", "CeO1.75"]


def test_valences_are_checked() -> None:
    with pytest.raises(InputError, match=r"`valences` must be a table such as \{U = 6\}, but is 6"):
        check_valences("valences", 6)
    with pytest.raises(InputError, match=r"`valences.U` must lie between 0.5 and 8, but is 9"):
        check_valences("valences", {"U": 9})
    with pytest.raises(InputError, match=r"`valences` must be a chemical symbol such as Mg, but is \"Ux\""):
        check_valences("valences", {"Ux": 4})


def test_ferric_share_has_its_mean_and_sd() -> None:
    found = draw_ferric((0.2, 0.08), draws(), 5)
    assert isinstance(found, xr.DataArray)
    assert found.dims == ("chain", "draw", "phase")
    n = found.size
    assert float(found.mean()) == pytest.approx(0.2, abs=4 * 0.08 / np.sqrt(n))
    # The relative error of a sd is about 1 / sqrt(2 n), for a Beta of this shape somewhat more.
    assert float(found.std()) == pytest.approx(0.08, rel=8 / np.sqrt(2 * n))
    assert 0.0 <= float(found.min()) < float(found.max()) <= 1.0
    # One draw for each phase, the same whenever it is asked for.
    correlation = np.corrcoef(found.values.reshape(-1, 2).T)[0, 1]
    assert abs(correlation) < 4 / np.sqrt(n / 2)
    xr.testing.assert_identical(found, draw_ferric((0.2, 0.08), draws(), 5))
    assert not np.array_equal(found, draw_ferric((0.2, 0.08), draws(), 6))


def test_ferric_share_by_phase() -> None:
    found = draw_ferric({"Brg": (0.3, 0.1)}, draws(n=50), 0)
    assert isinstance(found, xr.DataArray)
    assert (found.sel(phase="Fp") == 0.0).all()
    assert float(found.sel(phase="Brg").std()) > 0.0
    assert draw_ferric(0.25, draws(n=2), 0) == draw_ferric((0.25, 0.0), draws(n=2), 0) == 0.25


@pytest.mark.parametrize(
    ("ferric", "message"),
    [
        (1.2, r"`ferric` must lie between 0 and 1, but is 1.2"),
        ("half", r"`ferric` must lie between 0 and 1, but is \"half\""),
        ((0.2, 0.1, 0.1), r"`ferric` must be a share of iron or \[mean, sd\]"),
        ((0.2, 0.5), r"`ferric \(sd\)` must be 0 or less than 0.4, the most .* mean 0.2 .* but is 0.5"),
        ({"CaPv": 0.1}, r"`ferric` must name phases of the result: Brg, Fp, but holds \"CaPv\""),
        ({"Brg": -0.1}, r"`ferric.Brg` must lie between 0 and 1, but is -0.1"),
    ],
)
def test_ferric_shares_are_checked(ferric: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_ferric("ferric", ferric, ["Brg", "Fp"])


def test_iron_has_one_source_of_its_valence() -> None:
    with pytest.raises(InputError, match=r"`valences` must leave out Fe where `ferric` is given"):
        oxygen_per_atom(draws(n=1), ferric=0.2, valences={"Fe": 3.0})


def test_names_of_iron_oxides() -> None:
    assert [iron_oxide(share) for share in (0.0, 0.5, 1.0)] == ["FeO", "FeO + Fe2O3", "Fe2O3"]
    assert iron_oxide(draw_ferric((0.2, 0.1), draws(n=3), 0)) == "FeO + Fe2O3"
