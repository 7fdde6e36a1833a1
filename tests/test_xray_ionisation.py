"""Ionisation cross-sections: the two fits join, depend smoothly on Z, and agree with independent formulas."""

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.core.errors import InputError
from bayesunmix.xray.atomic import SHELLS, atomic_number, atomic_symbol, atomic_weight
from bayesunmix.xray.ionisation import (
    BOHR_RADIUS_CM,
    ELECTRON_REST_ENERGY_EV,
    OVERVOLTAGE_JOINT,
    edge_energy_keV,
    ionisation_cross_section,
    shells,
)

RYDBERG_EV = 13.605693
ALL = [(atomic_symbol(z), shell) for z in range(1, 100) for shell in shells(atomic_symbol(z))]


def test_the_two_fits_join() -> None:
    """Both fits hold near U = 16 and were made apart, so a mistyped coefficient of either shows as a step."""
    for element, shell in ALL:
        joint = OVERVOLTAGE_JOINT * edge_energy_keV(element, shell)
        below, above = ionisation_cross_section(element, shell, [joint * (1 - 1e-6), joint * (1 + 1e-6)])
        assert above == pytest.approx(below, rel=0.03), (element, shell)


@pytest.mark.parametrize("shell", SHELLS)
def test_smooth_in_atomic_number(shell: str) -> None:
    """A mistyped coefficient would stand out of the curve of sigma times edge energy against Z."""
    elements = [atomic_symbol(z) for z in range(5, 100) if shell in shells(atomic_symbol(z))]
    scaled = [
        np.log(
            ionisation_cross_section(element, shell, [60.0, 200.0, 300.0]) * edge_energy_keV(element, shell)
        )
        for element in elements
        if edge_energy_keV(element, shell) < 50.0
    ]
    assert np.max(np.abs(np.diff(scaled, 2, axis=0))) < 0.18


def test_hydrogen_follows_the_bethe_limit() -> None:
    """Kim and Rudd (1994), doi:10.1103/PhysRevA.50.3954: sigma = 4 pi a0^2 R/T (0.2834 ln(T/R) + 1.2566)."""
    energy_keV = np.array([2.0, 5.0, 10.0])
    t = energy_keV * 1e3 / RYDBERG_EV
    bethe = 4.0 * np.pi * BOHR_RADIUS_CM**2 / t * (0.2834 * np.log(t) + 1.2566)
    np.testing.assert_allclose(ionisation_cross_section("H", "K", energy_keV), bethe, rtol=0.03)


def casnati(element: str, overvoltage: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Empirical K-shell cross-section of Casnati, Tartari, Baraldi (1982), doi:10.1088/0022-3700/15/1/022."""
    edge_eV = edge_energy_keV(element, "K") * 1e3
    i, t = edge_eV / ELECTRON_REST_ENERGY_EV, overvoltage * edge_eV / ELECTRON_REST_ENERGY_EV
    grouped = (i + t) * (2 + t) * (1 + i) ** 2 / (t * (2 + t) * (1 + i) ** 2 + i * (2 + i))
    relativistic = (2 + i) / (2 + t) * ((1 + t) / (1 + i)) ** 2 * grouped**1.5
    psi = (edge_eV / RYDBERG_EV) ** (-0.0318 + 0.3160 / overvoltage - 0.1135 / overvoltage**2)
    phi = 10.57 * np.exp(-1.736 / overvoltage + 0.317 / overvoltage**2)
    scale = 2 * BOHR_RADIUS_CM**2 * (RYDBERG_EV / edge_eV) ** 2
    return scale * relativistic * psi * phi * np.log(overvoltage) / overvoltage


@pytest.mark.parametrize("element", ["C", "O", "Mg", "Si", "Ca", "Fe", "Cu"])
def test_k_shell_agrees_with_measurements_through_casnati(element: str) -> None:
    """The formula describes the measured data to about 10 %; from zirconium on it lies 20 % higher at U = 2."""
    overvoltage = np.array([2.0, 4.0, 8.0, 15.0])
    energy = overvoltage * edge_energy_keV(element, "K")
    np.testing.assert_allclose(
        ionisation_cross_section(element, "K", energy), casnati(element, overvoltage), rtol=0.15
    )


def test_zero_below_the_edge() -> None:
    edge = edge_energy_keV("Fe", "K")
    assert ionisation_cross_section("Fe", "K", edge * 0.999) == 0.0
    assert ionisation_cross_section("Fe", "K", edge * 1.01) > 0.0


def test_edges_are_the_known_ones() -> None:
    """The fits use calculated edges of free atoms, within 1 % of the measured ones of Fe K and U M5."""
    assert edge_energy_keV("Fe", "K") == pytest.approx(7.112, rel=0.01)
    assert edge_energy_keV("U", "M5") == pytest.approx(3.552, rel=0.01)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="`elements` must name chemical elements from H to Es, but is 'Xx'"):
        ionisation_cross_section("Xx", "K", 200.0)
    with pytest.raises(InputError, match="`shell` must be one of K, L1"):
        ionisation_cross_section("Fe", "M6", 200.0)
    with pytest.raises(InputError, match="`beam_energy_keV` must be positive, but is -1"):
        ionisation_cross_section("Fe", "K", -1.0)


def test_atomic_numbers_and_weights() -> None:
    assert atomic_number("U") == 92
    assert atomic_symbol(26) == "Fe"
    assert atomic_weight("Si") == pytest.approx(28.086, abs=0.01)
