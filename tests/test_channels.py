"""Dead and stuck channels are told from what a sample emits and does not emit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.core.severity import Distrust, Reservation
from bayesunmix.data.channels import OddChannels
from bayesunmix.data.counts import Growing
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.stored_counts import StoredCounts

FloatArray = npt.NDArray[np.float64]

EDGES = np.linspace(0.0, 10.0, 1001)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
FWHM = 1e-3 * np.sqrt(40.0**2 + 2.355**2 * 0.11 * 3.65 * 1e3 * CENTRES)


def odd(counts: FloatArray) -> OddChannels:
    return OddChannels.of(counts, EDGES, FWHM)


def spectrum(height: float = 3000.0, seed: int = 0) -> FloatArray:
    """Draw a spectrum with a threshold at 0.15 keV and sharp peaks of all heights on a continuum."""
    mean = 0.02 * height * np.exp(-CENTRES / 3.0)
    for energy, part in ((0.28, 0.5), (0.53, 1.0), (1.74, 1.0), (3.69, 0.1), (6.40, 0.7), (8.05, 0.01)):
        sd = np.interp(energy, CENTRES, FWHM) / 2.355
        mean += part * height * np.exp(-0.5 * ((CENTRES - energy) / sd) ** 2)
    mean[CENTRES < 0.15] = 0.0
    return np.random.default_rng(seed).poisson(mean).astype(np.float64)


@pytest.mark.parametrize("height", [1.0, 30.0, 3e3, 3e6])
def test_nothing_is_said_of_spectra_as_they_are(height: float) -> None:
    for seed in range(10):
        for copies in (1.0, 12.0):
            assert odd(copies * spectrum(height, seed)).doubts() == []


def test_dead_channels_are_named_by_their_energies() -> None:
    """A wide gap is told, and stays as it is."""
    counts = spectrum(3e4)
    counts[300:320] = 0.0
    found = odd(counts)
    (said,) = found.doubts()
    assert isinstance(said, Distrust)
    assert said.startswith("There are no counts from 3.000 to 3.200 keV")
    assert found.replaced == ()
    assert found.doubts(320) == found.doubts(0, 300) == []


@pytest.mark.parametrize("wide", [1, 2, 5])
def test_stuck_channels_are_named_wherever_they_are(wide: int) -> None:
    for place in (60, 174, 250, 640, 900):
        counts = spectrum()
        counts[place : place + wide] = 8.0 * counts.max()
        found = odd(counts)
        (said,) = found.doubts()
        low, high = EDGES[place], EDGES[place + wide]
        assert f"There are far more counts from {low:.3f} to {high:.3f} keV than beside" in said
        # A third of a peak's width is bridged, 50 eV at 9 keV.
        bridged = wide < 5 or place == 900
        assert [channel for channel, _ in found.replaced] == bridged * [*range(place, place + wide)]
        assert {other for _, other in found.replaced} <= {place - 1, place + wide}
        assert ("beside them were fitted in their place" in said) == isinstance(said, Reservation) == bridged


def test_a_narrow_gap_is_bridged_from_both_sides() -> None:
    counts = spectrum(3e4)
    counts[400:403] = 0.0
    found = odd(counts)
    assert found.replaced == ((400, 399), (401, 403), (402, 403))
    assert isinstance(found.doubts()[0], Reservation)


def test_peaks_of_wide_channels_are_not_judged() -> None:
    """Of 50 eV a peak has three channels: none of them is too sharp."""
    counts = spectrum(3e5).reshape(-1, 5).sum(axis=1)
    assert OddChannels.of(counts, EDGES[::5], FWHM[2::5]).doubts() == []


@pytest.mark.parametrize("on_disk", [False, True])
def test_maps_hold_the_counts_of_the_channels_beside(on_disk: bool, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    counts = rng.poisson(5.0, (4, 5, 40)).astype(np.uint8)
    counts[..., 11] = 255
    energy = np.linspace(1.0, 4.9, 40)
    image = SpectrumImage.from_array(counts, energy, beam_energy_keV=200.0, takeoff_angle_deg=22.0)
    if on_disk:
        growing = Growing(counts.shape, tmp_path)
        growing.put((slice(None), slice(None), slice(None)), counts)
        image = dataclasses.replace(image, counts=StoredCounts.of(growing.counts))
    expected = counts.copy()
    expected[..., 11] = counts[..., 10]
    cut = image.with_replaced(((11, 10),)).crop_energy(2.1, 3.0)
    assert cut.n_channels == 10
    np.testing.assert_array_equal(np.asarray(cut.counts[:]), expected[..., 11:21])
    np.testing.assert_array_equal(cut.sum_spectrum(), expected[..., 11:21].sum(axis=(0, 1)))
    # What was handed over stays as it was.
    assert (counts[..., 11] == 255).all()
    assert image.with_replaced(()) is image
