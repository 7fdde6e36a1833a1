"""Site formulas: ratios that crystal chemistry gives, the contract's site ratio, and nonsense refused."""

import numpy as np
import pytest

from bayesunmix.chemistry.stoichiometry import (
    AMPHOTERIC,
    NEITHER,
    SMALL,
    SYMBOLS,
    parse_formula,
    site_weights,
)
from bayesunmix.core.errors import InputError


@pytest.mark.parametrize(
    ("formula", "ratio"),
    [
        ("ABO3", 1.0),
        ("A2BO4", 2.0),
        ("AB2O4", 0.5),
        ("A2B2O7", 1.0),
        ("A3B2C3O12", 1.0),  # garnet: the trivalent site is half and half
        ("ABC2O6", 1.0),  # pyroxene: both divalent sites are large
        ("MgSiO3", 1.0),
        ("Mg2SiO4", 2.0),
        ("CaMgSi2O6", 1.0),
        ("MgAl2O4", 0.5),
        ("Mg3Al2Si3O12", 1.0),
        ("ZrSiO4", 1.0),
        ("CaCO3", 1.0),
        ("FeTiO3", 1.0),
        ("Mg1.8SiO3.8", 1.8),
    ],
)
def test_ratio_of_the_sites(formula: str, ratio: float) -> None:
    assert parse_formula(formula).ratio == pytest.approx(ratio)


@pytest.mark.parametrize("formula", ["AO", "A2O3", "MgO", "MO", "SiO2"])
def test_one_site_constrains_nothing(formula: str) -> None:
    assert site_weights(formula, ["Mg", "Fe"]) is None


def test_bridgmanite_site_ratio() -> None:
    """(Mg + Fe + Ca + Al/2) / (Si + Al/2), with traces where the table puts them."""
    elements = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Hf", "U", "O"]
    a, b, ratio = site_weights("ABO3", elements)
    np.testing.assert_array_equal(a, [1, 0.5, 0, 1, 1, 1, 0, 1, 0])
    np.testing.assert_array_equal(b, [0, 0.5, 1, 0, 0, 0, 1, 0, 0])
    assert ratio == 1.0


@pytest.mark.parametrize("formula", ["ABO3", "MgSiO3", "A3B2C3O12", "Mg3Al2Si3O12"])
@pytest.mark.parametrize(
    "composition",
    [
        {"Mg": 1, "Si": 1},  # MgSiO3, also majorite
        {"Mg": 3, "Al": 2, "Si": 3},  # pyrope: Mg + Si = 2 Al along the whole join
        {"Fe": 0.5, "Mg": 0.5, "Si": 1},
    ],
)
def test_tschermak_exchange_keeps_the_ratio(formula: str, composition: dict[str, float]) -> None:
    a, b, ratio = site_weights(formula, list(composition))
    x = np.array(list(composition.values()))
    assert (a @ x) / (b @ x) == pytest.approx(ratio)


def test_spinel_puts_trivalent_cations_on_the_small_site() -> None:
    for formula in ("AB2O4", "MgAl2O4"):
        a, b, ratio = site_weights(formula, ["Mg", "Al", "Cr"])
        assert (a @ [1, 1.2, 0.8]) / (b @ [1, 1.2, 0.8]) == pytest.approx(ratio)


def test_named_elements_sit_where_the_formula_puts_them() -> None:
    a, b, _ = site_weights("ZrSiO4", ["Zr", "Si", "Hf"])
    np.testing.assert_array_equal(a, [1, 0, 0])
    np.testing.assert_array_equal(b, [0, 1, 1])
    assert parse_formula("AlCrO3").placed == {"Al": 0.0, "Cr": 1.0}
    assert parse_formula("Al2SiO5").ratio == 2.0


def test_table_holds_known_elements_once() -> None:
    assert len(SYMBOLS) == len(set(SYMBOLS)) == 98
    assert set(SYMBOLS) >= SMALL | AMPHOTERIC | NEITHER
    assert len(SMALL | AMPHOTERIC | NEITHER) == len(SMALL) + len(AMPHOTERIC) + len(NEITHER)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("", "sites and oxygen"),
        ("perovskite", "sites and oxygen"),
        ("(Mg)SiO3", "sites and oxygen"),
        ("(Mg,Fe)2(SiO4", "sites and oxygen"),
        ("FeS2", "sites and oxygen"),
        ("O", "sites and oxygen"),
        ("OAB", "sites and oxygen"),
        ("AB0O3", "sites and oxygen"),
        ("XxSiO3", "unknown element Xx"),
        ("AAO3", "name each site or element once"),
        ("MgABO3", "either site letters or elements"),
        ("ABCDO9", "at most three cation sites"),
        ("AB9O2", "balance in charge.*second"),
        ("ABCO9", "balance in charge.*between"),
        ("MgSiF2O3", "cations and oxygen only"),
    ],
)
def test_nonsense_is_refused(formula: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        parse_formula(formula, "phases.Brg.stoichiometry")
    assert str(caught.value).startswith("`phases.Brg.stoichiometry` must ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("elements", "site"), [(["Mg", "Fe"], "B"), (["Si", "O"], "A")])
def test_empty_site_is_refused(elements: list[str], site: str) -> None:
    with pytest.raises(InputError, match=f"sits on the {site} site"):
        site_weights("ABO3", elements)
