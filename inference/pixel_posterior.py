"""The per-pixel pass: posterior abundances of every pixel at full resolution, over draws of the endmembers.

For each posterior draw of the endmembers, a pixel's posterior over the support points is exact
(`bayesunmix.inference.mixture`); the draws are averaged, so that what is uncertain about the endmembers widens the
abundances too. The support points and their weights are those of `bayesunmix.inference.pixel_model`.

Abundances come in shares of counts and go out in shares of atoms, b_k = g_k a_k / sum_l g_l a_l, g_k being atoms per
count. A support has no atoms: its abundance stays a share of counts, and the other phases share the rest by their
atoms. Intervals come from a histogram per pixel and phase, which costs the same however many draws there are; 0 and
1 have bins of their own, so a pure pixel's interval can end exactly there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from bayesunmix.core import processes
from bayesunmix.core.disk_array import Rows
from bayesunmix.core.shares import NOTHING, shares_of
from bayesunmix.inference.mixture import relative_likelihood, responsibilities
from bayesunmix.inference.pixel_model import PixelModel, PixelReader, batches, rotated_points
from bayesunmix.models.thickness import ThicknessDraws

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Histogram of an abundance: the first bin is 0 itself, the last is 1 itself, equal steps between.
N_BINS = 62
_INNER = np.linspace(0.0, 1.0, N_BINS - 1)
BIN_LOW = np.concatenate(([0.0], _INNER[:-1], [1.0]))
BIN_HIGH = np.concatenate(([0.0], _INNER[1:], [1.0]))


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

    @classmethod
    def empty(cls, n_pixels: int, n_phases: int) -> PixelPosterior:
        """Make room for pixels that are put in later."""
        shapes = {entry.name: (n_pixels, n_phases) for entry in fields(cls)} | {"value_sd": (n_pixels,)}
        return cls(**{name: np.empty(shape, np.float32) for name, shape in shapes.items()})

    def put(self, pixels: slice, values: Sequence[npt.NDArray[np.floating]]) -> None:
        """Put in some pixels' values, in the order of the fields."""
        for entry, value in zip(fields(self), values, strict=True):
            getattr(self, entry.name)[pixels] = value

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
    counts: Rows,
    spectra: FloatArray,
    atoms_per_count: FloatArray,
    *,
    level: float,
    max_overlap: int = 2,
    matrix: npt.NDArray[np.bool_] | None = None,
    supports: npt.NDArray[np.bool_] | None = None,
    count_value: FloatArray | None = None,
    thickness: ThicknessDraws | None = None,
    rotations: FloatArray | None = None,
    neighbours: npt.NDArray[np.bool_] | None = None,
    model: PixelModel | None = None,
    progress: Callable[[float], None] | None = None,
    together: bool = False,
) -> PixelPosterior:
    """Posterior abundances of every pixel.

    Parameters
    ----------
    counts : (pixel, energy)
        Channel-binned counts at full pixel resolution, in memory or on disk: they are read batch by batch.
    spectra : (draw, phase, energy)
        Posterior draws of the endmembers, unit sum, as they were fitted.
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
    rotations : (draw, phase, phase), optional
        What the endmembers of each draw are rotated by (`bayesunmix.inference.feasible`): every pixel is mixed as
        before, from support points that are rotated with them.
    neighbours : (y, x) bool, optional
        Where on the map the pixels lie: the support points' weights in a pixel then depend on its neighbours
        (`bayesunmix.inference.spatial`).
    model : PixelModel, optional
        Support points and weights, where they are known; learned from these pixels by default.
    progress : callable, optional
        Told the share of the work that is done.
    together : bool
        Whether all processes of the run (`bayesunmix.core.processes`) call this: each computes a share of the pixels,
        and gets the others'.
    """
    n_draws, n_phases, _ = spectra.shape
    bare = np.zeros(n_phases, bool) if supports is None else supports
    reader = PixelReader(counts, thickness)
    if model is None:
        model = PixelModel.learned(
            counts,
            spectra.mean(axis=0),
            max_overlap=max_overlap,
            matrix=matrix,
            thickness=thickness,
            neighbours=neighbours,
        )
    points = model.support_points
    value = None if count_value is None else points @ count_value
    found = PixelPosterior.empty(len(counts), n_phases)
    sharing = processes.number() if together else 1
    own: list[slice] = []
    for batch, prior in _priors(reader, model, neighbours, together=together):
        own.append(batch)
        read = reader.counts(batch)
        sums = np.zeros((len(read), n_phases * (3 + N_BINS)), np.float32)
        product = np.empty_like(sums)
        pure = np.zeros((len(read), n_phases), np.float32)
        value_moments = np.zeros((len(read), 2))
        for draw in range(n_draws):
            likelihood = relative_likelihood(read, reader.log_mixed(points, spectra[draw], draw))
            share = responsibilities(likelihood, prior)
            held = points if rotations is None else rotated_points(points, rotations[draw])
            sums += np.matmul(share, _asked(held, atoms_per_count[draw], bare), out=product)
            pure += share @ (held == 1.0).astype(np.float32)
            if value is not None:
                value_moments += share @ np.stack([value, value**2], axis=1) / n_draws
            if progress is not None:
                progress(sharing * (batch.start + len(read) * (draw + 1) / n_draws) / len(counts))
        sums /= n_draws
        mean, square, count_share = (sums[:, i * n_phases : (i + 1) * n_phases] for i in range(3))
        histogram = sums[:, 3 * n_phases :].reshape(len(read), n_phases, N_BINS)
        summary = _summarise(histogram, mean, square, level)
        spread = np.sqrt(np.maximum(value_moments[:, 1] - value_moments[:, 0] ** 2, 0.0))
        found.put(batch, (*summary, pure / n_draws, count_share, spread))
    if together:
        pixels = slice(own[0].start, own[-1].stop) if own else slice(0, 0)
        for entry in fields(found):
            processes.complete(getattr(found, entry.name), pixels)
    return found


def count_shares(
    counts: Rows,
    spectra: FloatArray,
    *,
    max_overlap: int,
    matrix: npt.NDArray[np.bool_],
    thickness: ThicknessDraws,
) -> Float32Array:
    """Posterior mean abundances of every pixel in shares of counts at one value of the endmembers, (pixel, phase).

    Parameters
    ----------
    counts : (pixel, energy)
    spectra : (phase, energy)
        Unit sum.
    max_overlap, matrix, thickness
        As in `pixel_posterior`; the thickness at one draw.
    """
    reader = PixelReader(counts, thickness)
    model = PixelModel.learned(counts, spectra, max_overlap=max_overlap, matrix=matrix, thickness=thickness)
    at_mean, short = model.at_mean(reader), model.support_points.astype(np.float32)
    found = np.empty((len(counts), len(spectra)), np.float32)
    for batch in batches(slice(0, len(counts))):
        likelihood = relative_likelihood(reader.counts(batch), at_mean)
        np.matmul(responsibilities(likelihood, model.weights), short, out=found[batch])
    return found


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


def _priors(
    reader: PixelReader, model: PixelModel, neighbours: npt.NDArray[np.bool_] | None, *, together: bool
) -> Iterator[tuple[slice, FloatArray | Float32Array]]:
    """Yield batches of pixels with the weights of the support points there: over the map, or in each pixel.

    Of several processes `together`, each gets its share of the pixels, or of the map's rows.
    """
    length = len(reader.source) if neighbours is None else len(neighbours)
    own = processes.share(length) if together else slice(0, length)
    near = None if neighbours is None else model.neighbourhood(reader, neighbours)
    if near is None:
        for batch in batches(own):
            yield batch, model.weights
        return
    for band in near.bands():
        rows = slice(max(band.start, own.start), min(band.stop, own.stop))
        if rows.start < rows.stop:
            pixels, by_pixel = near.pixels(rows), near.weights(rows)
            for batch in batches(pixels):
                yield batch, by_pixel[batch.start - pixels.start : batch.stop - pixels.start]


def _asked(points: FloatArray, atoms_per_count: FloatArray, supports: npt.NDArray[np.bool_]) -> Float32Array:
    """Everything that is averaged over the support points of a pixel, side by side so that one product does it.

    Returns
    -------
    (support_point, phase * (3 + bin)): abundances in shares of atoms, their squares, shares of counts, and for each
    phase the bin of its abundance.
    """
    amount = atom_shares(points, atoms_per_count, supports).astype(np.float32)
    bins = [_one_hot(values) for values in amount.T]
    return np.concatenate([amount, amount**2, points.astype(np.float32), *bins], axis=1)


def _one_hot(amount: Float32Array) -> Float32Array:
    """Histogram bin of each support point as an indicator, shape (support_point, bin)."""
    inner = 1 + np.minimum((amount * (N_BINS - 2)).astype(int), N_BINS - 3)
    index = np.where(amount <= 0.0, 0, np.where(amount >= 1.0, N_BINS - 1, inner))
    return np.asarray(np.eye(N_BINS, dtype=np.float32)[index])


def _summarise(
    histogram: Float32Array, mean: Float32Array, square: Float32Array, level: float
) -> tuple[Float32Array, Float32Array, Float32Array, Float32Array]:
    """Mean, sd, lower and upper of a batch, of its histogram (pixel, phase, bin) and moments (pixel, phase)."""
    cumulative = np.moveaxis(np.cumsum(histogram, axis=2), 1, 0)
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
