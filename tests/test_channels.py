"""Dead and stuck channels are told from what a sample emits and does not emit."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.core.severity import Distrust
from bayesunmix.data.channels import channel_doubts

FloatArray = npt.NDArray[np.float64]

EDGES = np.linspace(0.0, 10.0, 1001)
CENTRES = 0.5 * (EDGES[1:] + EDGES[:-1])
FWHM = 1e-3 * np.sqrt(40.0**2 + 2.355**2 * 0.11 * 3.65 * 1e3 * CENTRES)


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
            assert channel_doubts(copies * spectrum(height, seed), EDGES, FWHM) == []


def test_dead_channels_are_named_by_their_energies() -> None:
    counts = spectrum(3e4)
    counts[300:320] = 0.0
    (said,) = channel_doubts(counts, EDGES, FWHM)
    assert isinstance(said, Distrust)
    assert said.startswith("No channel from 3.000 to 3.200 keV has a count")


@pytest.mark.parametrize("wide", [1, 2])
def test_stuck_channels_are_named_wherever_they_are(wide: int) -> None:
    for place in (60, 174, 250, 640, 900):
        counts = spectrum()
        counts[place : place + wide] = 8.0 * counts.max()
        (said,) = channel_doubts(counts, EDGES, FWHM)
        low, high = EDGES[place], EDGES[place + wide]
        assert f"Channels from {low:.3f} to {high:.3f} keV hold far more counts" in said


def test_peaks_of_wide_channels_are_not_judged() -> None:
    """Of 50 eV a peak has three channels: none of them is too sharp."""
    counts = spectrum(3e5).reshape(-1, 5).sum(axis=1)
    assert channel_doubts(counts, EDGES[::5], FWHM[2::5]) == []
