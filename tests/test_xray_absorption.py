"""Absorption: limits of the thin-film factor, mixtures, oxygen, and tabulated coefficients."""

import numpy as np
import pytest

from bayesunmix.core.errors import InputError
from bayesunmix.xray.absorption import (
    absorption_depth,
    as_oxides,
    mass_absorption_coefficient,
    mixture_absorption_coefficient,
    oxygen_per_cation,
    thin_film_factor,
    weight_fractions,
)
from bayesunmix.xray.absorption_errors import coefficient_doubt
from bayesunmix.xray.atomic import atomic_symbol


def test_thin_and_thick_limits() -> None:
    assert thin_film_factor(0.0) == 1.0
    assert thin_film_factor(1e-9) == pytest.approx(1.0 - 5e-10, abs=1e-15)
    assert thin_film_factor(1e3) == pytest.approx(1e-3)


def test_factor_is_the_mean_over_depth() -> None:
    depth = (np.arange(100_000) + 0.5) / 100_000
    for chi in (0.01, 0.3, 2.0):
        assert thin_film_factor(chi) == pytest.approx(np.exp(-chi * depth).mean(), rel=1e-9)


def test_factor_falls_with_depth() -> None:
    assert np.all(np.diff(thin_film_factor(np.linspace(0.0, 5.0, 200))) < 0.0)


def test_depth_of_a_known_film() -> None:
    """1000 cm2/g, 4 g/cm3, 100 nm at 30 degrees: 1000 x 4 x 1e-5 / 0.5."""
    assert absorption_depth(1000.0, 4.0, 100.0, 30.0) == pytest.approx(0.08)
    with pytest.raises(
        InputError, match=r"`instrument.takeoff_angle_deg` must lie between 0.1 and 90, but is 0"
    ):
        absorption_depth(1000.0, 4.0, 100.0, 0.0)
    with pytest.raises(InputError, match=r"`sample.density_g_cm3` must be positive"):
        absorption_depth(1000.0, -4.0, 100.0, 30.0)


def test_coefficients_agree_with_nist() -> None:
    """Hubbell and Seltzer, NIST XAAMDI (doi:10.18434/T4D01F): O at 1 keV, Si at 8 keV, Fe at 6 keV."""
    assert mass_absorption_coefficient("O", 1.0) == pytest.approx(4590.0, rel=0.03)
    assert mass_absorption_coefficient("Si", 8.0) == pytest.approx(64.7, rel=0.03)
    assert mass_absorption_coefficient("Fe", 6.0) == pytest.approx(84.8, rel=0.03)


def test_coefficients_beyond_the_table_are_those_of_its_ends() -> None:
    low, end = mass_absorption_coefficient("O", [0.01, 0.1])
    assert low == end
    assert mass_absorption_coefficient("O", 5000.0) == mass_absorption_coefficient("O", 800.0)


def test_the_cache_cannot_be_spoilt() -> None:
    energies = np.array([1.0, 2.0])
    first = mass_absorption_coefficient("Mg", energies)
    first[:] = 0.0
    assert np.all(mass_absorption_coefficient("Mg", energies) > 0.0)


def test_mixture_is_the_weighted_mean() -> None:
    energy = np.array([1.254, 1.74, 6.4])
    expected = 0.6 * mass_absorption_coefficient("Mg", energy) + 0.4 * mass_absorption_coefficient(
        "O", energy
    )
    mixed = mixture_absorption_coefficient({"Mg": 3.0, "O": 2.0}, energy)
    np.testing.assert_allclose(mixed, expected)
    with pytest.raises(InputError, match="`weight fraction of Mg` must be zero or positive"):
        mixture_absorption_coefficient({"Mg": -1.0}, energy)


def test_bridgmanite_gets_its_oxygen() -> None:
    atoms = as_oxides({"Mg": 1.0, "Si": 1.0, "O": 99.0})
    assert atoms["O"] == pytest.approx(3.0)
    assert weight_fractions(atoms)["O"] == pytest.approx(3 * 15.999 / 100.387, rel=1e-3)


def test_oxygen_of_the_usual_oxides() -> None:
    """FeO, Al2O3, Nd2O3, HfO2, UO2, Na2O; and every element of the table has a value."""
    expected = {"Fe": 1.0, "Al": 1.5, "Nd": 1.5, "Lu": 1.5, "Hf": 2.0, "U": 2.0, "Na": 0.5, "Ca": 1.0}
    assert {element: oxygen_per_cation(element) for element in expected} == expected
    assert all(0.0 <= oxygen_per_cation(atomic_symbol(z)) <= 3.0 for z in range(1, 100))


def test_an_empty_composition_is_refused() -> None:
    with pytest.raises(InputError, match="`composition` must hold at least one element"):
        weight_fractions({})


def test_coefficients_are_least_certain_for_soft_lines_and_near_edges() -> None:
    """Of 6 %: Chantler's Table 2 for solids."""
    # Iron at its own K alpha, 10 % below its edge, at 5 and at 20 keV; its L3 edge lies at 0.707 keV.
    np.testing.assert_array_equal(
        coefficient_doubt("Fe", [[6.404, 5.0], [20.0, 7.2]]), [[2.5, 1.0], [1.0, 2.5]]
    )
    np.testing.assert_allclose(coefficient_doubt("Fe", [0.65, 0.25]), [5.0, 4.0])
    # O K in magnesium, whose K edge is far above, and in oxygen itself, just below its edge.
    assert coefficient_doubt("Mg", 0.525) == coefficient_doubt("O", 0.525) == 2.5
    # Na K lies just above neodymium's M5 edge, Mg K just below its M3 edge, and both far from hafnium's.
    assert coefficient_doubt("Nd", 1.041) == 5.0
    assert coefficient_doubt("Nd", 1.254) == 3.75
    assert coefficient_doubt("Hf", 1.254) == 1.0
    energies = np.linspace(0.05, 40.0, 500)
    for element in ("H", "O", "Ca", "U"):
        assert np.all(coefficient_doubt(element, energies) >= 1.0)
