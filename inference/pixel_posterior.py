"""The per-pixel pass: posterior abundances of every pixel at full resolution, over draws of the endmembers.

For each posterior draw of the endmembers, a pixel's posterior over the support points is exact
(`bayesunmix.inference.mixture`); the draws are averaged, so that what is uncertain about the endmembers widens the
abundances too. Pixels at full resolution are purer than the blocks that inferred the endmembers, so the support points'
weights are learned anew from the pixels, at the mean of the draws.

Abundances come in shares of counts and go out in shares of atoms, b_k = g_k a_k / sum_l g_l a_l, g_k being atoms per
count. A support has no atoms: its abundance stays a share of counts, and the other phases share the rest by their
atoms. Intervals come from a histogram per pixel and phase, which costs the same however many draws there are; 0 and
1 have bins of their own, so a pure pixel's interval can end exactly there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import NOTHING, shares_of
from bayesunmix.inference.mixture import relative_likelihood, responsibilities, support_point_weights
from bayesunmix.inference.spatial import neighbour_weights
from bayesunmix.models.abundance import simplex_support_points
from bayesunmix.models.thickness import ThicknessDraws, answered, counted

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Histogram of an abundance: the first bin is 0 itself, the last is 1 itself, equal steps between.
N_BINS = 62
_INNER = np.linspace(0.0, 1.0, N_BINS - 1)
BIN_LOW = np.concatenate(([0.0], _INNER[:-1], [1.0]))
BIN_HIGH = np.concatenate(([0.0], _INNER[1:], [1.0]))
# Support points at half the step of the prior's grid: intervals of single pixels are read off them.
FINER = 4.0
BATCH_PIXELS = 16384


@dataclass(frozen=True, kw_only=True)
class PixelPosterior:
    """Posterior abundances of every pixel, in shares of atoms.

    Attributes
    ----------
    mean, sd, lower, upper : (pixel, phase) float32
        See `atom_shares`.
    pure_probability : (pixel, phase) float32
        Posterior probability that the pixel is that phase alone.
    count_share : (pixel, phase) float32
        Mean abundance in shares of counts.
    value_sd : (pixel,) float32
        Posterior sd of the mean value of a pixel's counts, where the phases' counts differ in value; else 0.
    """

    mean: Float32Array
    sd: Float32Array
    lower: Float32Array
    upper: Float32Array
    pure_probability: Float32Array
    count_share: Float32Array
    value_sd: Float32Array

    def placed(self, used: npt.NDArray[np.bool_]) -> PixelPosterior:
        """Return the posterior of `used` pixels among all (pixel,); the others hold nothing of any phase."""
        if used.all():
            return self
        spread = {}
        for entry in fields(self):
            values = getattr(self, entry.name)
            spread[entry.name] = np.zeros((used.size, *values.shape[1:]), values.dtype)
            spread[entry.name][used.ravel()] = values
        return PixelPosterior(**spread)


def pixel_posterior(
    counts: npt.NDArray[np.unsignedinteger],
    spectra: FloatArray,
    atoms_per_count: FloatArray,
    *,
    level: float,
    max_overlap: int = 2,
    matrix: npt.NDArray[np.bool_] | None = None,
    supports: npt.NDArray[np.bool_] | None = None,
    count_value: FloatArray | None = None,
    thickness: ThicknessDraws | None = None,
    neighbours: npt.NDArray[np.bool_] | None = None,
    progress: Callable[[float], None] | None = None,
) -> PixelPosterior:
    """Posterior abundances of every pixel.

    Parameters
    ----------
    counts : (pixel, energy)
        Channel-binned counts at full pixel resolution.
    spectra : (draw, phase, energy)
        Posterior draws of the endmembers, unit sum.
    atoms_per_count : (draw, phase)
        Atoms of the declared elements per detected count, g_k, in any common unit.
    level : float
        Probability of the equal-tailed intervals.
    max_overlap : int
        Most phases finely resolved in one pixel.
    matrix : (phase,) bool, optional
        Phases in which the others are embedded; see `bayesunmix.models.abundance.simplex_support_points`.
    supports : (phase,) bool, optional
        Phases without atoms; none by default.
    count_value : (phase,), optional
        What a count of each phase stands for, in any unit; for `PixelPosterior.value_sd`.
    thickness : ThicknessDraws, optional
        How the thickness of the pixels tilts their spectra, for the same draws; left out, it does not.
    neighbours : (y, x) bool, optional
        Where on the map the pixels lie: the support points' weights in a pixel then depend on its neighbours
        (`bayesunmix.inference.spatial`).
    progress : callable, optional
        Told the share of the work that is done.
    """
    n_draws, n_phases, _ = spectra.shape
    bare = np.zeros(n_phases, bool) if supports is None else supports
    centre = spectra.mean(axis=0)
    typical = max(float(counts.sum(axis=1, dtype=np.int64).mean()), 1.0)
    points = simplex_support_points(centre, FINER * typical, max_overlap=max_overlap, matrix=matrix)
    reader = _Reader(counts, thickness)
    at_mean = reader.log_mixed(points, centre)
    weights = _map_weights(reader, at_mean)
    by_pixel = None
    if neighbours is not None:
        by_pixel = neighbour_weights(_log_likelihood(reader, at_mean), weights, neighbours)[0]
    value = points @ (np.zeros(n_phases) if count_value is None else count_value)
    value_powers = np.stack([value, value**2], axis=1)
    pieces = []
    batches = [slice(i, i + BATCH_PIXELS) for i in range(0, len(counts), BATCH_PIXELS)]
    for number, batch in enumerate(batches):
        read = reader.counts(batch)
        histogram = np.zeros((n_phases, len(read), N_BINS), np.float32)
        moments = np.zeros((2, len(read), n_phases), np.float32)
        pure = np.zeros((len(read), n_phases), np.float32)
        count_share = np.zeros((len(read), n_phases), np.float32)
        value_moments = np.zeros((len(read), 2))
        prior = weights if by_pixel is None else by_pixel[batch]
        for draw in range(n_draws):
            likelihood = relative_likelihood(read, reader.log_mixed(points, spectra[draw], draw))
            share = responsibilities(likelihood, prior)
            amount = atom_shares(points, atoms_per_count[draw], bare).astype(np.float32)
            moments += np.stack([share @ amount, share @ amount**2])
            pure += share[:, :n_phases]
            count_share += share @ points.astype(np.float32)
            value_moments += share @ value_powers / n_draws
            for phase in range(n_phases):
                histogram[phase] += share @ _one_hot(amount[:, phase])
            if progress is not None:
                progress((number + (draw + 1) / n_draws) / len(batches))
        summary = _summarise(histogram / n_draws, moments / n_draws, level)
        spread = np.sqrt(np.maximum(value_moments[:, 1] - value_moments[:, 0] ** 2, 0.0)).astype(np.float32)
        pieces.append((*summary, pure / n_draws, count_share / n_draws, spread))
    names = (entry.name for entry in fields(PixelPosterior))
    joined = (np.concatenate(part) for part in zip(*pieces, strict=True))
    return PixelPosterior(**dict(zip(names, joined, strict=True)))


def atom_shares(
    count_shares: FloatArray, atoms_per_count: FloatArray, supports: npt.NDArray[np.bool_]
) -> FloatArray:
    """Abundances in shares of atoms, (..., phase), which add up to 1 as shares of counts do.

    Parameters
    ----------
    count_shares : (..., phase)
        Abundances in shares of counts.
    atoms_per_count : (phase,)
        Atoms of the declared elements per detected count.
    supports : (phase,) bool
        Phases without atoms: each keeps its share of the counts, and the others share the rest by their atoms, or by
        their counts where none of them has atoms.
    """
    rest = np.where(supports, 0.0, count_shares)
    amount = rest * np.where(supports, 0.0, atoms_per_count)
    amount = np.where(amount.sum(axis=-1, keepdims=True) > NOTHING, amount, rest)
    if not supports.any():
        return shares_of(amount)
    return np.where(supports, count_shares, shares_of(amount) * rest.sum(axis=-1, keepdims=True))


@dataclass(frozen=True)
class _Reader:
    """Counts and log spectra, with what thickness adds to both."""

    source: npt.NDArray[np.unsignedinteger]
    thickness: ThicknessDraws | None

    def counts(self, chosen: slice) -> Float32Array:
        """Return the counts of some pixels, (pixel, energy), with the columns that thickness needs."""
        if self.thickness is None:
            return self.source[chosen].astype(np.float32)
        return counted(self.source[chosen], self.thickness.relative[chosen], self.thickness.effect)

    def log_mixed(self, points: FloatArray, spectra: FloatArray, draw: int | None = None) -> FloatArray:
        """Log spectra of the support points at one draw, or at the mean draw."""
        if self.thickness is None:
            return np.log(points @ spectra)
        _, effect, *parameters = self.thickness
        scale, exponent = (values.mean() if draw is None else values[draw] for values in parameters)
        return np.asarray(answered(points @ spectra, points, effect, scale, exponent))


def _map_weights(reader: _Reader, log_mixed: FloatArray, most: int = 20000) -> FloatArray:
    """Weights of the support points over the map, learned from at most `most` evenly spaced pixels."""
    step = -(-len(reader.source) // most)
    return support_point_weights(
        relative_likelihood(reader.counts(slice(None, None, step)), log_mixed), n_iterations=60
    )


def _log_likelihood(reader: _Reader, log_mixed: FloatArray) -> Float32Array:
    """Log-likelihood of each pixel at each support point, up to a constant per pixel, shape (pixel, support_point)."""
    contrast = (log_mixed - log_mixed.mean(axis=0)).T.astype(np.float32)
    batches = range(0, len(reader.source), BATCH_PIXELS)
    return np.concatenate([reader.counts(slice(i, i + BATCH_PIXELS)) @ contrast for i in batches])


def _one_hot(amount: Float32Array) -> Float32Array:
    """Histogram bin of each support point as an indicator, shape (support_point, bin)."""
    inner = 1 + np.minimum((amount * (N_BINS - 2)).astype(int), N_BINS - 3)
    index = np.where(amount <= 0.0, 0, np.where(amount >= 1.0, N_BINS - 1, inner))
    return np.asarray(np.eye(N_BINS, dtype=np.float32)[index])


def _summarise(
    histogram: Float32Array, moments: Float32Array, level: float
) -> tuple[Float32Array, Float32Array, Float32Array, Float32Array]:
    """Mean, sd, lower and upper of a batch."""
    mean, square = moments
    cumulative = np.cumsum(histogram, axis=2)
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    lower, upper = (np.stack([_quantile(c, tail) for c in cumulative], axis=1) for tail in tails)
    return mean, np.sqrt(np.maximum(square - mean**2, 0.0)), lower, upper


def _quantile(cumulative: Float32Array, probability: float) -> Float32Array:
    """Quantile of each row of a cumulative histogram, linear inside a bin, shape (pixel,)."""
    index = np.minimum((cumulative < probability).sum(axis=1), N_BINS - 1)
    rows = np.arange(len(cumulative))
    below = np.where(index > 0, cumulative[rows, np.maximum(index - 1, 0)], 0.0)
    inside = (probability - below) / np.maximum(cumulative[rows, index] - below, 1e-12)
    low, high = BIN_LOW[index], BIN_HIGH[index]
    return np.asarray(low + np.clip(inside, 0.0, 1.0) * (high - low), np.float32)
