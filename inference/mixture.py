"""Mixtures over fixed support points of the simplex: responsibilities, weights by EM, and pixels in chunks.

With spectra s and support points alpha_j fixed, a pixel's posterior over the support points is

    r_pj = pi_j prod_c m_jc^y_pc / sum_i pi_i prod_c m_ic^y_pc,      m_j = sum_k alpha_jk s_k

and the weights that make the map most probable are the fixed point of pi_j = mean_p r_pj (Dempster, A. P., et al.,
J. R. Stat. Soc. B 39 (1977) 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import shares_of
from bayesunmix.models.pixels import CHUNK_PIXELS, PixelChunks, widths

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
Floats = TypeVar("Floats", FloatArray, Float32Array)

# A pixel drops support points that hold less than this share of its posterior when chunks are formed: the sum over all
# pixels of what is dropped moves the log-likelihood by far less than one nat, and hardly at all between parameter
# values.
DROPPED_SHARE = 1e-4
# A single-precision number whose inverse is one, too.
LEAST_EVIDENCE = np.float32(1e-37)
# Likelihoods relative to the best that are taken for none, and weights that count at least in products with them: what
# single precision holds only in part (below 1.2e-38) keeps a processor ten times as long, and tells nothing.
LEAST_LIKELIHOOD, FELT_WEIGHT = np.float32(1e-20), np.float32(1e-17)


def relative_likelihood(counts: Float32Array, log_mixed: FloatArray) -> Float32Array:
    """Likelihood of each pixel at each support point, relative to its best one, shape (pixel, support_point).

    Parameters
    ----------
    counts : (pixel, energy)
    log_mixed : (support_point, energy)
        Log spectra, log m_j; rows and columns beyond the energies may carry what else the log-likelihood is linear in.
    """
    # The mean over support points cancels and keeps float32 sums small.
    joint = counts @ (log_mixed - log_mixed.mean(axis=0)).T.astype(np.float32)
    joint -= joint.max(axis=1, keepdims=True)
    return exponentials(joint)


def exponentials(logarithms: Floats) -> Floats:
    """Turn logarithms of likelihoods, relative to the best ones, into likelihoods, in place."""
    np.exp(logarithms, out=logarithms)
    logarithms *= logarithms > LEAST_LIKELIHOOD
    return logarithms


def responsibilities(likelihood: Float32Array, weights: FloatArray | Float32Array) -> Float32Array:
    """Posterior share of each support point in each pixel, rows summing to 1, shape (pixel, support_point).

    Parameters
    ----------
    likelihood : (pixel, support_point)
    weights : (support_point,) or (pixel, support_point)
        Prior probabilities of the support points, alike for all pixels or of each. Where all those that a pixel is
        likely at have none, its counts decide.
    """
    share = likelihood * np.maximum(weights.astype(np.float32), FELT_WEIGHT)
    share /= share.sum(axis=1, keepdims=True)
    return np.asarray(share, np.float32)


def evidence_of(likelihood: Float32Array, weights: FloatArray) -> Float32Array:
    """Likelihood of each pixel (pixel,) under weights (support_point,) of the support points, never zero.

    Parameters
    ----------
    likelihood : (pixel, support_point)
    weights : (support_point,)
    """
    felt = np.maximum(weights.astype(np.float32), FELT_WEIGHT)
    return np.asarray(np.maximum(likelihood @ felt, LEAST_EVIDENCE), np.float32)


def support_point_weights(
    likelihood: Float32Array,
    *,
    n_iterations: int = 100,
    start: FloatArray | None = None,
    number: FloatArray | None = None,
) -> FloatArray:
    """Weights of the support points by expectation maximisation, shape (support_point,).

    Parameters
    ----------
    likelihood : (pixel, support_point)
        From `relative_likelihood`.
    n_iterations : int
    start : (support_point,), optional
        Weights to begin from; uniform by default.
    number : (pixel,), optional
        Pixels that each row stands for; one by default.
    """
    each = np.ones(len(likelihood), np.float32) if number is None else number.astype(np.float32)
    n_points = likelihood.shape[1]
    weights = np.full(n_points, 1.0 / n_points) if start is None else start
    for _ in range(n_iterations):
        # Responsibilities need not be formed: their column means are two products with the likelihood.
        weights = weights * (likelihood.T @ (each / evidence_of(likelihood, weights))).astype(float)
        weights = shares_of(weights)
    return weights


def corners(points: FloatArray, known: IntArray | None) -> IntArray | None:
    """Return the support point at which a pixel holds a phase alone, -1 where nothing is known of it, (pixel,).

    Parameters
    ----------
    points : (support_point, phase)
        Every corner is among them.
    known : (pixel,) int, optional
        The phase; -1 where nothing is known.
    """
    if known is None:
        return None
    return np.where(known < 0, -1, points.argmax(axis=0)[known])


def confined(likelihood: Float32Array, known: IntArray | None) -> Float32Array:
    """Likelihoods (pixel, support_point) in which pixels that are known to be at one support point are there alone.

    Parameters
    ----------
    likelihood : (pixel, support_point)
        From `relative_likelihood`.
    known : (pixel,) int, optional
        That support point; -1 where any may be.
    """
    if known is None:
        return likelihood
    where = np.flatnonzero(known >= 0)
    result = likelihood.copy()
    result[where] = 0.0
    result[where, known[where]] = 1.0
    return result


def grouped(share: Float32Array, known: IntArray | None = None) -> tuple[list[IntArray], list[IntArray]]:
    """Sort pixels by the support points they need: `CHUNK_PIXELS` of them at a time, and the support points of each.

    Parameters
    ----------
    share : (pixel, support_point)
        Responsibilities at a good parameter value.
    known : (pixel,) int, optional
        As for `chunked`.
    """
    needed = share > DROPPED_SHARE
    # Sorted like words over the alphabet of support points: neighbours need nearly the same ones.
    chunks = _cut(np.lexsort(needed.T[::-1]), known)
    return chunks, [np.flatnonzero(needed[chunk].any(axis=0)) for chunk in chunks]


def chunked(
    counts: Float32Array, share: Float32Array, log_mixed: FloatArray, known: IntArray | None = None
) -> PixelChunks:
    """Pixels sorted by the support points they need and cut into chunks, each with only its support points.

    Parameters
    ----------
    counts : (pixel, energy + columns)
    share : (pixel, support_point)
        Responsibilities at a good parameter value.
    log_mixed : (support_point, energy + columns)
        Log spectra there; they set each chunk's baseline.
    known : (pixel,) int, optional
        Support point that a pixel is known to be at, -1 where any may be; `share` is `confined` to it.
    """
    chunks, subsets = grouped(share, known)
    baseline = np.stack([share[chunk].mean(axis=0) for chunk in chunks]).astype(float) @ log_mixed
    return _chunks(counts, chunks, subsets, baseline, share.shape[1], np.ones(len(counts)))


def with_all_points(
    counts: Float32Array,
    n_points: int,
    log_baseline: FloatArray,
    number: FloatArray | None = None,
    known: IntArray | None = None,
) -> PixelChunks:
    """All pixels with all support points, when nothing is known yet about where they live.

    Parameters
    ----------
    counts : (pixel, energy + columns)
    n_points : int
    log_baseline : (energy + columns,)
    number : (pixel,), optional
        Pixels that each row stands for; one by default.
    known : (pixel,) int, optional
        Support point that a pixel is known to be at, -1 where any may be.
    """
    chunks = _cut(np.arange(len(counts)), known)
    at = [-1 if known is None else int(known[chunk[0]]) for chunk in chunks]
    subsets = [np.arange(n_points) if point < 0 else np.array([point]) for point in at]
    each = np.ones(len(counts)) if number is None else number
    return _chunks(counts, chunks, subsets, np.tile(log_baseline, (len(chunks), 1)), n_points, each)


def _cut(order: IntArray, known: IntArray | None) -> list[IntArray]:
    """Cut pixels into chunks, those that are known to be at one support point apart from others."""
    places = np.zeros(len(order), np.int64) if known is None else known[order]
    groups = [order[places == place] for place in np.unique(places)]
    return [
        group[first : first + CHUNK_PIXELS]
        for group in groups
        for first in range(0, len(group), CHUNK_PIXELS)
    ]


def _chunks(
    counts: Float32Array,
    chunks: Sequence[npt.NDArray[np.int64]],
    subsets: Sequence[npt.NDArray[np.int64]],
    baseline: FloatArray,
    n_points: int,
    number: FloatArray,
) -> PixelChunks:
    """Put chunks into arrays of one size each, the narrowest first; each row of `counts` stands for `number` pixels."""
    narrow = np.argsort([len(subset) for subset in subsets], kind="stable")
    chunks, subsets = [chunks[place] for place in narrow], [subsets[place] for place in narrow]
    result = PixelChunks(
        counts=np.zeros((len(chunks), CHUNK_PIXELS, counts.shape[1]), np.float32),
        present=np.zeros((len(chunks), CHUNK_PIXELS)),
        support_points=np.zeros((len(chunks), n_points), np.int32),
        n_points=np.array([len(subset) for subset in subsets], np.int32),
        baseline=baseline[narrow],
        ends=np.searchsorted([len(subset) for subset in subsets], widths(n_points), "right").astype(np.int32),
    )
    for place, (chunk, subset) in enumerate(zip(chunks, subsets, strict=True)):
        result.counts[place, : len(chunk)] = counts[chunk]
        result.present[place, : len(chunk)] = number[chunk]
        result.support_points[place, : len(subset)] = subset
    return result
