"""How well the fitted model describes the map: the sum spectrum, and segments on counts they were not made with.

A pixel is labelled by its posterior, so its noise decides with which pixels it is pooled: compared with the very counts
that made the labels, even a perfect model seems to miss. The counts are therefore thinned into two halves, independent
of each other since they are Poisson (Neufeld, A., et al., J. Mach. Learn. Res. 25 (2024) 57, arXiv:2301.07276): the
first labels the pixels and predicts the abundances, the second is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import poisson

from bayesunmix.core.disk_array import Rows
from bayesunmix.core.memory import held_in_memory
from bayesunmix.core.shares import shares_of
from bayesunmix.data.counts import Growing
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.setup import Setup, used_rows
from bayesunmix.inference.pixel_posterior import PixelPosterior, count_shares
from bayesunmix.models.thickness import THINNEST, ThicknessDraws
from bayesunmix.xray.scoring import poisson_deviance

FloatArray = npt.NDArray[np.float64]

THINNING_SEED = 1
ROWS_AT_ONCE = 4096
# Channels are pooled until a segment expects so many counts: below that the deviance is not chi-squared.
ENOUGH_EXPECTED = 10.0
LEAST_TILT = 0.01


@dataclass(frozen=True)
class Segments:
    """Held-out counts of the pixels of each label, and what the model expects.

    Attributes
    ----------
    observed, expected : (phase, energy)
        On the map's channels; zeros for a phase that labels no pixel.
    """

    observed: FloatArray
    expected: FloatArray


class Deviances(NamedTuple):
    """Poisson deviances per degree of freedom.

    Attributes
    ----------
    total
        Of the sum spectrum.
    segments
        Of the held-out spectra of the pixels of each label.
    """

    total: float
    segments: float


def mean_thickness(setup: Setup, fitted: FittedPosterior, draws: Draws) -> ThicknessDraws:
    """How thickness tilts the pixels' spectra at the mean of the draws."""
    scale, exponent = (np.array([v.mean()]) for v in (draws.absorption_scale, draws.stray_exponent))
    return ThicknessDraws(setup.thickness.pixels, fitted.data.effect, scale, exponent)


def pooled_tilt(thickness: ThicknessDraws, shares: FloatArray, totals: FloatArray) -> FloatArray:
    """Factor on the expected spectrum of pixels pooled, to first order, before it keeps their counts, (energy,).

    Parameters
    ----------
    thickness : ThicknessDraws
        Of those pixels, at one draw.
    shares : (pixel, phase)
        Abundances in shares of counts.
    totals : (pixel,)
        Counts.
    """
    effect = thickness.effect
    weight = totals / max(float(totals.sum()), 1.0)
    excess = float(weight @ (thickness.relative * (shares @ effect.mass_per_count) - 1.0))
    log_relative = float(weight @ np.log(np.maximum(thickness.relative, THINNEST)))
    absorbed = thickness.scale[0] * excess * effect.absorption_slope
    tilt = 1.0 + absorbed - thickness.exponent[0] * log_relative * effect.stray_share
    # To first order a strong effect would leave less than nothing.
    return np.asarray(np.maximum(tilt, LEAST_TILT))


def expected_spectrum(
    amounts: FloatArray, spectra: FloatArray, tilt: FloatArray, starts: npt.NDArray[np.int64] | None = None
) -> FloatArray:
    """Return the expected counts of pooled pixels by phase, shape (phase, energy).

    Parameters
    ----------
    amounts : (phase,)
        Counts of each phase.
    spectra : (phase, energy)
        Unit sum, on bins or on channels.
    tilt : (bin,) or (phase, bin)
        From `pooled_tilt`, of all pixels or of those of each phase; in the latter case each keeps its counts.
    starts : (bin + 1,), optional
        First channel of each bin, where the spectra are on channels.
    """
    factor = tilt if starts is None else np.repeat(tilt, np.diff(starts), axis=-1)
    tilted = spectra * factor
    if tilt.ndim == 2:
        return amounts[:, None] * shares_of(tilted)
    kept = (amounts @ tilted).sum() / max(amounts.sum(), 1e-300)
    return np.asarray(amounts[:, None] * tilted / max(kept, 1e-300))


def held_out_segments(
    setup: Setup, draws: Draws, channel_spectra: FloatArray, thickness: ThicknessDraws
) -> Segments:
    """Label pixels on one half of their counts and pool the other half by label.

    Parameters
    ----------
    setup : Setup
    draws : Draws
        Their mean endmembers label.
    channel_spectra : (phase, energy)
        The same endmembers on the map's channels, unit sum.
    thickness : ThicknessDraws
        From `mean_thickness`.
    """
    boundaries = setup.blocks.boundaries
    held = _shares(setup, _labelling(setup), draws, thickness)
    label = held.argmax(axis=1)
    n_phases, n_channels = channel_spectra.shape
    if setup.aside is not None:
        label[setup.aside.ravel()] = n_phases
    observed = np.zeros((n_phases + 1) * n_channels)
    totals = np.zeros(setup.image.n_pixels)
    for half in _thinned(setup):
        flat = label[half.pixels][half.pixel] * n_channels + half.channel
        observed += np.bincount(flat, weights=half.second, minlength=len(observed))
        there = half.pixels.stop - half.pixels.start
        totals[half.pixels] = np.bincount(half.pixel, weights=half.second, minlength=there)
    expected = np.zeros_like(channel_spectra)
    for k in range(n_phases):
        own = label == k
        shares, counts_there = held[own].astype(float), totals[own]
        tilt = pooled_tilt(thickness._replace(relative=thickness.relative[own]), shares, counts_there)
        expected[k] = expected_spectrum(counts_there @ shares, channel_spectra, tilt, boundaries).sum(axis=0)
    return Segments(observed.reshape(n_phases + 1, n_channels)[:n_phases].astype(float), expected)


def count_shares_at_mean(setup: Setup, draws: Draws, thickness: ThicknessDraws) -> npt.NDArray[np.float32]:
    """Mean abundances of every pixel in shares of counts at the mean endmembers of some draws, (pixel, phase)."""
    return _shares(setup, setup.pixel_counts, draws, thickness)


def _shares(setup: Setup, counts: Rows, draws: Draws, thickness: ThicknessDraws) -> npt.NDArray[np.float32]:
    mean, used = draws.spectra.mean(axis=(0, 1)), setup.image.used
    relative = thickness.relative[used.ravel()]
    found = count_shares(
        used_rows(counts, used),
        mean,
        max_overlap=setup.overlap.most,
        matrix=setup.hosts,
        thickness=thickness._replace(relative=relative),
    )
    placed = np.zeros((used.size, len(mean)), np.float32)
    placed[used.ravel()] = found
    return placed


class Halves(NamedTuple):
    """Counts of some pixels in two random halves: every entry that holds counts.

    Attributes
    ----------
    pixels : slice
        Which of the map's pixels these are.
    pixel, channel : (entry,)
        Number of the pixel among them, and of the channel.
    first, second : (entry,)
        Counts.
    """

    pixels: slice
    pixel: npt.NDArray[np.intp]
    channel: npt.NDArray[np.intp]
    first: npt.NDArray[Any]
    second: npt.NDArray[Any]


def _thinned(setup: Setup) -> Iterator[Halves]:
    """Yield the map's counts in two random halves, some pixels after the others: the same whenever they are asked for.

    To draw them again takes less time than to keep those of a large map takes memory.
    """
    matrix = setup.image.pixel_matrix()
    generator = np.random.default_rng(THINNING_SEED)
    for start in range(0, len(matrix), ROWS_AT_ONCE):
        rows = matrix[start : start + ROWS_AT_ONCE]
        # As one long row, and asked what is not zero: a third of the time that NumPy takes for a table of counts.
        flat = rows.reshape(-1)
        filled = np.flatnonzero(flat != 0)
        pixel, channel = np.divmod(filled, rows.shape[1])
        counts = flat[filled]
        first = generator.binomial(counts.astype(np.int64), 0.5).astype(counts.dtype)
        yield Halves(slice(start, start + len(rows)), pixel, channel, first, counts - first)


def _labelling(setup: Setup) -> Rows:
    """Bin the first halves of all pixels' counts, (pixel, bin), on disk where memory does not take them with ease."""
    boundaries = setup.blocks.boundaries
    bins = np.repeat(np.arange(len(boundaries) - 1), np.diff(boundaries))
    shape = (setup.image.n_pixels, len(boundaries) - 1)
    binned = Growing(shape, on_disk=not held_in_memory(shape[0] * shape[1]))
    for half in _thinned(setup):
        there = half.pixels.stop - half.pixels.start
        flat = half.pixel * shape[1] + bins[half.channel]
        counts = np.bincount(flat, weights=half.first, minlength=there * shape[1])
        binned.put((half.pixels,), counts.reshape(there, shape[1]))
    found: Rows = binned.counts
    return found


def deviances(
    setup: Setup,
    channel_spectra: FloatArray,
    pixels: PixelPosterior,
    thickness: ThicknessDraws,
    segments: Segments,
    n_parameters: int,
) -> Deviances:
    """Poisson deviance per degree of freedom of the sum spectrum, by channel, and of the held-out segments.

    Segments are judged by channel too, those of few counts pooled until they expect ten.

    Parameters
    ----------
    channel_spectra : (phase, energy)
    thickness : ThicknessDraws
        From `mean_thickness`.
    n_parameters : int
        Parameters that shape one spectrum; none are counted for segments, whose counts they were not fitted to in
        these parts.
    """
    n_channels = channel_spectra.shape[1]
    expected = total_expected(setup, channel_spectra, pixels, thickness)
    total = poisson_deviance(setup.fitted_spectrum.astype(float), expected)
    apart, terms = 0.0, 0
    for observed, there in zip(segments.observed, segments.expected, strict=True):
        starts = _filled(there)
        if starts.size:
            pooled = (np.add.reduceat(values, starts) for values in (observed, there))
            apart, terms = apart + poisson_deviance(*pooled), terms + starts.size
    return Deviances(total / max(n_channels - n_parameters, 1), apart / max(terms, 1))


def misplaced_share(observed: FloatArray, expected: FloatArray) -> float:
    """Share of the counts of a spectrum that lie elsewhere than the model has them, beyond what noise displaces.

    Counts of a Poisson distribution of mean m are on average 2 m P(floor(m)) off it (Crow, E. L., Biometrika 45 (1958)
    556, doi:10.1093/biomet/45.3-4.556). Unlike a deviance the share does not grow with the counts.

    Parameters
    ----------
    observed, expected : (energy,)
        Counts, and what the model expects of them.
    """
    noise = 2.0 * expected * poisson.pmf(np.floor(expected), expected)
    beyond = float((np.abs(observed - expected) - noise).sum())
    return max(0.5 * beyond / max(float(observed.sum()), 1.0), 0.0)


def total_expected(
    setup: Setup, channel_spectra: FloatArray, pixels: PixelPosterior, thickness: ThicknessDraws
) -> FloatArray:
    """Return the expected counts of the sum spectrum on the map's channels, shape (energy,)."""
    amounts, tilt = _whole(setup, pixels, thickness)
    return np.asarray(expected_spectrum(amounts, channel_spectra, tilt, setup.blocks.boundaries).sum(axis=0))


def _whole(setup: Setup, pixels: PixelPosterior, thickness: ThicknessDraws) -> tuple[FloatArray, FloatArray]:
    """Sum the counts of each phase over the map, and find the tilt of what it adds to the sum spectrum.

    A film is thin where grains are thick: one tilt for all would be that of neither.
    """
    totals, shares = setup.fitted_totals.ravel().astype(float), pixels.count_share.astype(float)
    counts = totals[:, None] * shares
    return counts.sum(axis=0), np.stack([pooled_tilt(thickness, shares, own) for own in counts.T])


def _filled(expected: FloatArray) -> npt.NDArray[np.intp]:
    """First channels of runs with enough expected counts each; the last run takes what is left."""
    starts: list[int] = []
    held = ENOUGH_EXPECTED
    for channel, counts in enumerate(expected.tolist()):
        if held >= ENOUGH_EXPECTED:
            starts.append(channel)
            held = 0.0
        held += counts
    return np.array(starts if held >= ENOUGH_EXPECTED else starts[:-1], dtype=np.intp)


def fit_dataset(
    setup: Setup, draws: Draws, pixels: PixelPosterior, thickness: ThicknessDraws, segments: Segments
) -> xr.Dataset:
    """Observed and expected counts per bin, for the whole map and for the held-out segments."""
    spectra = draws.spectra.mean(axis=(0, 1))
    amounts, tilt = _whole(setup, pixels, thickness)
    by_phase = expected_spectrum(amounts, spectra, tilt)
    pieces = draws.continuum.mean(axis=(0, 1)) / draws.total.mean(axis=(0, 1))[:, None]
    starts, edges = setup.blocks.boundaries[:-1], setup.blocks.edges_keV
    return xr.Dataset(
        {
            "energy_low": ("energy_bin", edges[:-1]),
            "energy_high": ("energy_bin", edges[1:]),
            "observed": ("energy_bin", np.add.reduceat(setup.fitted_spectrum, starts).astype(float)),
            "expected": ("energy_bin", by_phase.sum(axis=0)),
            "expected_by_phase": (("phase", "energy_bin"), by_phase),
            "continuum": (
                "energy_bin",
                np.einsum("k,kb,kbc->c", amounts, pieces, _continuum_templates(setup)),
            ),
            "segment_observed": (
                ("phase", "energy_bin"),
                np.add.reduceat(segments.observed, starts, axis=1),
            ),
            "segment_expected": (
                ("phase", "energy_bin"),
                np.add.reduceat(segments.expected, starts, axis=1),
            ),
        },
        coords={"phase": [phase.name for phase in setup.phases]},
    )


def _continuum_templates(setup: Setup) -> FloatArray:
    """Unit-area continuum pieces, at the map's mean composition: they differ little between phases."""
    pieces = setup.forward.continuum_spectra(np.tile(setup.mean_composition, (len(setup.phases), 1)))
    return shares_of(pieces)
