"""Mixtures over fixed support points of the simplex: responsibilities, weights by EM, and pixels in groups.

With spectra s and support points alpha_j fixed, a pixel's posterior over the support points is

    r_pj = pi_j prod_c m_jc^y_pc / sum_i pi_i prod_c m_ic^y_pc,      m_j = sum_k alpha_jk s_k

and the weights that make the map most probable are the fixed point of pi_j = mean_p r_pj (Dempster, A. P., et al.,
J. R. Stat. Soc. B 39 (1977) 1).
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import shares_of
from bayesunmix.models.unmixing import PixelGroup

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# A pixel drops support points that hold less than this share of its posterior when chunks are formed: the sum over all
# pixels of what is dropped moves the log-likelihood by far less than one nat, and hardly at all between parameter
# values.
DROPPED_SHARE = 1e-4
CHUNK_PIXELS = 128
WIDTH_CLASSES = 2
ABSENT = -1e9
# A single-precision number whose inverse is one, too.
LEAST_EVIDENCE = np.float32(1e-37)


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
    return np.asarray(np.exp(joint, out=joint))


def responsibilities(likelihood: Float32Array, weights: FloatArray | Float32Array) -> Float32Array:
    """Posterior share of each support point in each pixel, rows summing to 1, shape (pixel, support_point).

    Parameters
    ----------
    likelihood : (pixel, support_point)
    weights : (support_point,) or (pixel, support_point)
        Prior probabilities of the support points, alike for all pixels or of each.
    """
    share = likelihood * weights.astype(np.float32)
    total = share.sum(axis=1, keepdims=True)
    lost = total[:, 0] <= 0.0
    if lost.any():
        # The weights of all support points that a pixel is likely at are below the range of numbers: its counts decide.
        share[lost] = likelihood[lost]
        total[lost] = share[lost].sum(axis=1, keepdims=True)
    share /= total
    return np.asarray(share, np.float32)


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
        evidence = np.maximum(likelihood @ weights.astype(np.float32), LEAST_EVIDENCE)
        weights = weights * (likelihood.T @ (each / evidence)).astype(float)
        weights = shares_of(weights)
    return weights


def group_pixels(counts: Float32Array, share: Float32Array, log_mixed: FloatArray) -> tuple[PixelGroup, ...]:
    """Pixels sorted by the support points they need and cut into chunks, each with only its support points.

    Parameters
    ----------
    counts : (pixel, energy)
    share : (pixel, support_point)
        Responsibilities at a good parameter value.
    log_mixed : (support_point, energy)
        Log spectra there; they set each chunk's baseline.

    Returns
    -------
    Up to two groups of chunks of similar width, so that narrow chunks do not pay for wide ones.
    """
    needed = share > DROPPED_SHARE
    # Sorted like words over the alphabet of support points: neighbours need nearly the same ones.
    order = np.lexsort(needed.T[::-1])
    chunks = [order[i : i + CHUNK_PIXELS] for i in range(0, len(order), CHUNK_PIXELS)]
    widths = np.array([needed[index].any(axis=0).sum() for index in chunks])
    narrowest_first = np.argsort(widths, kind="stable")
    groups = []
    for members in _width_classes(widths, narrowest_first):
        width = int(widths[members].max())
        stacked = [
            _chunk(
                counts=counts, share=share, needed=needed, log_mixed=log_mixed, index=chunks[m], width=width
            )
            for m in members
        ]
        groups.append(PixelGroup(*(np.stack(field) for field in zip(*stacked, strict=True))))
    return tuple(groups)


def _width_classes(
    widths: npt.NDArray[np.int64], narrowest_first: npt.NDArray[np.int64]
) -> list[npt.NDArray[np.int64]]:
    """Chunks in up to `WIDTH_CLASSES` classes, cut where padding each to its class's widest costs least."""
    ordered, n = widths[narrowest_first], len(widths)
    cuts = itertools.combinations_with_replacement(range(1, n + 1), WIDTH_CLASSES - 1)
    ends = min(
        cuts,
        key=lambda cut: sum((b - a) * ordered[b - 1] for a, b in itertools.pairwise((0, *cut, n)) if b > a),
    )
    return [narrowest_first[a:b] for a, b in itertools.pairwise((0, *ends, n)) if b > a]


def _chunk(
    counts: Float32Array,
    share: Float32Array,
    needed: npt.NDArray[np.bool_],
    log_mixed: FloatArray,
    index: npt.NDArray[np.int64],
    width: int,
) -> PixelGroup:
    """One chunk, padded to `CHUNK_PIXELS` pixels and `width` support points."""
    rows = min(CHUNK_PIXELS, len(counts))
    subset = np.flatnonzero(needed[index].any(axis=0))
    padded = np.zeros((rows, counts.shape[1]), np.float32)
    padded[: len(index)] = counts[index]
    return PixelGroup(
        counts=padded,
        present=(np.arange(rows) < len(index)).astype(float),
        support_points=np.concatenate([subset, np.zeros(width - len(subset), int)]),
        log_present=np.where(np.arange(width) < len(subset), 0.0, ABSENT),
        baseline=share[index].mean(axis=0).astype(float) @ log_mixed,
    )


def padded_alike(every: list[tuple[PixelGroup, ...]]) -> list[tuple[PixelGroup, ...]]:
    """Pad groups of several parameter values to the same shapes, so that one compiled program serves them all."""
    number = max(len(groups) for groups in every)
    shapes = [
        np.max([groups[i].support_points.shape for groups in every if i < len(groups)], axis=0)
        for i in range(number)
    ]
    return [
        tuple(
            _padded(groups[i], shape) if i < len(groups) else _padded(_emptied(groups[0]), shape)
            for i, shape in enumerate(shapes)
        )
        for groups in every
    ]


def _emptied(group: PixelGroup) -> PixelGroup:
    """One chunk of a group, with its pixels absent."""
    return PixelGroup(
        counts=np.zeros_like(group.counts[:1]),
        present=np.zeros_like(group.present[:1]),
        support_points=group.support_points[:1],
        log_present=group.log_present[:1],
        baseline=group.baseline[:1],
    )


def _padded(group: PixelGroup, shape: npt.NDArray[np.int64]) -> PixelGroup:
    """Add absent support points and chunks of absent pixels up to a shape (chunk, subset)."""
    chunks, width = shape - group.support_points.shape
    wide = group._replace(
        support_points=np.pad(group.support_points, ((0, 0), (0, width))),
        log_present=np.pad(group.log_present, ((0, 0), (0, width)), constant_values=ABSENT),
    )
    empty = [_emptied(wide)] * int(chunks)
    return PixelGroup(*(np.concatenate(field) for field in zip(wide, *empty, strict=True)))


def one_group(counts: Float32Array, n_points: int, log_baseline: FloatArray) -> tuple[PixelGroup, ...]:
    """All pixels with all support points, when nothing is known yet about where they live."""
    rows = min(CHUNK_PIXELS * 4, len(counts))
    n_chunks = -(-len(counts) // rows)
    padded = np.zeros((n_chunks * rows, counts.shape[1]), np.float32)
    padded[: len(counts)] = counts
    present = (np.arange(n_chunks * rows) < len(counts)).astype(float)
    return (
        PixelGroup(
            counts=padded.reshape(n_chunks, rows, -1),
            present=present.reshape(n_chunks, rows),
            support_points=np.tile(np.arange(n_points), (n_chunks, 1)),
            log_present=np.zeros((n_chunks, n_points)),
            baseline=np.tile(log_baseline, (n_chunks, 1)),
        ),
    )
