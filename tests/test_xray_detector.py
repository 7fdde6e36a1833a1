"""Detector efficiency and nominal width, and the continuum: closed forms."""

import numpy as np
import pytest

from bayesunmix.core.errors import InputError
from bayesunmix.xray.continuum import bremsstrahlung, continuum_basis, hat_functions
from bayesunmix.xray.detector import POLYMER_WINDOW, Detector, Layer, channel_edges
from bayesunmix.xray.response import MN_K_ALPHA_KEV

EDGES = channel_edges(np.arange(0.0, 20.0, 0.01))


def test_nominal_resolution_is_that_of_manganese() -> None:
    assert Detector.from_resolution(127.0).fwhm_keV(MN_K_ALPHA_KEV) == pytest.approx(0.127)


def test_efficiency_rises_to_its_plateau_and_falls() -> None:
    """Between absorption edges: rising below 1.5 keV, falling above 8 keV, never above 1."""
    detector = Detector()
    low, high = (
        detector.efficiency(np.linspace(0.6, 1.5, 50)),
        detector.efficiency(np.linspace(9.0, 30.0, 50)),
    )
    assert np.all(np.diff(low) > 0.0)
    assert np.all(np.diff(high) < 0.0)
    assert np.all(detector.efficiency(np.linspace(0.2, 30.0, 500)) < 1.0)


def test_efficiency_of_usual_detectors() -> None:
    """O K passes a windowless detector nearly whole and a polymer window by about 60 %; Zr K stays by 60 %."""
    windowless, window = Detector(), Detector(layers=POLYMER_WINDOW)
    assert 0.90 < windowless.efficiency(0.525) < 0.97
    assert 0.5 < window.efficiency(0.525) < 0.7
    assert windowless.efficiency(6.4) > 0.99
    assert 0.55 < windowless.efficiency(15.7) < 0.65


def test_a_thicker_sensor_stops_more() -> None:
    assert Detector(sensor_thickness_mm=1.0).efficiency(20.0) > Detector().efficiency(20.0)


def test_two_layers_multiply() -> None:
    thin, thick = Layer("Al", 0.05), Layer("Al", 0.10)
    assert thick.transmission(1.0) == pytest.approx(thin.transmission(1.0) ** 2)
    assert Layer("Al", 0.05, density_g_cm3=5.4).transmission(1.0) == pytest.approx(
        Layer("Al", 0.1, density_g_cm3=2.7).transmission(1.0)
    )


def test_bad_layers_are_refused() -> None:
    with pytest.raises(InputError, match="`layer formula` must be a chemical formula"):
        Layer("Q9", 0.1).transmission(1.0)
    with pytest.raises(InputError, match="`layer density_g_cm3` must be given for MgO"):
        Layer("MgO", 0.1).transmission(1.0)


def test_channel_edges() -> None:
    np.testing.assert_allclose(channel_edges([1.0, 1.1, 1.2]), [0.95, 1.05, 1.15, 1.25])
    with pytest.raises(InputError, match="`energy_keV` must hold at least two channel centres"):
        channel_edges([1.0])


def test_kramers_shape() -> None:
    shape = bremsstrahlung(EDGES, 200.0, np.ones_like)
    assert shape.sum() == pytest.approx(1.0)
    # Channels at 2 and 4 keV: (198 / 2) / (196 / 4).
    assert shape[200] / shape[400] == pytest.approx(99.0 / 49.0)
    assert shape[0] == 0.0


def test_no_continuum_above_the_beam_energy() -> None:
    shape = bremsstrahlung(EDGES, 15.0, np.ones_like)
    centre = (EDGES[1:] + EDGES[:-1]) / 2
    assert np.all(shape[centre > 15.0] == 0.0)
    with pytest.raises(InputError, match="must reach between zero and the beam energy"):
        bremsstrahlung(EDGES + 20.0, 15.0, np.ones_like)


def test_hats_are_a_positive_partition_of_unity() -> None:
    axis = channel_edges(np.arange(1.0, 20.0, 0.01))
    hats = hat_functions((axis[1:] + axis[:-1]) / 2, axis[0], axis[-1], 7)
    np.testing.assert_allclose(hats.sum(axis=0), 1.0)
    assert hats.min() == 0.0
    np.testing.assert_allclose(continuum_basis(axis, 200.0, np.ones_like).sum(axis=1), 1.0)
    with pytest.raises(InputError, match="`number of continuum functions` must be at least 2"):
        hat_functions(axis, 1.0, 20.0, 1)


def test_continuum_basis_is_finite_on_an_axis_with_negative_energies() -> None:
    axis = channel_edges(np.arange(-0.47, 20.0, 0.01))
    basis = continuum_basis(axis, 200.0, Detector().efficiency)
    assert np.all(np.isfinite(basis))
    assert np.all(basis >= 0.0)
