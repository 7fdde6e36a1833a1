"""Log-likelihood of parts of a map, draw by draw, with the mixture over support points summed out in every pixel.

    l_ts = sum_(p in tile t) log sum_j pi_js prod_c m_jsc^y_pc        draw s, weights pi, spectra m, counts y

Millions of nats in all, of which differences of one count. A pixel's spectrum therefore enters as its contrast with
what is subtracted as a baseline: near the pixel's own mean inside the matrix product in single precision, and the same
spectrum for all pixels and draws in what is returned; both are put back in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bayesunmix.core.threads import single_thread
from bayesunmix.inference.mixture import exponentials, grouped, relative_likelihood, responsibilities
from bayesunmix.inference.sharding import n_threads

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Draws that are worked on at a time, and pixels whose support points are chosen together: what bounds the memory.
DRAWS_TOGETHER = 32
PIXELS_TOGETHER = 16_384


class MixtureDraws(NamedTuple):
    """Draws of a mixture over fixed support points.

    Attributes
    ----------
    log_spectra : callable
        Log spectra of the draw of that number, (support_point, energy + columns).
    log_weights : (draw, support_point)
    """

    log_spectra: Callable[[int], FloatArray]
    log_weights: FloatArray


class _Chunk(NamedTuple):
    """Pixels that need the same few support points."""

    pixels: npt.NDArray[np.intp]
    rows: Float32Array
    amounts: Float32Array
    points: npt.NDArray[np.intp]
    baseline: Float32Array
    above: FloatArray  # (pixel,) log-likelihood at the baseline of the chunk


class TileSums(NamedTuple):
    """Sums over pixels at every draw.

    Attributes
    ----------
    log_likelihood : (draw, tile)
        Relative to one spectrum for all pixels.
    amounts : (draw, amount, support_point)
        Amounts of the pixels at each support point, shared by their posterior.
    """

    log_likelihood: FloatArray
    amounts: FloatArray


def tile_sums(
    rows: Float32Array,
    amounts: FloatArray,
    tiles: npt.NDArray[np.int64],
    n_tiles: int,
    common: FloatArray,
    mixture: MixtureDraws,
    progress: Callable[[float], None] = lambda _: None,
) -> TileSums:
    """Log-likelihood of every tile at every draw, and what of the pixels lies at each support point.

    Parameters
    ----------
    rows : (pixel, energy + columns)
        Counts, with columns that meet those of the log spectra.
    amounts : (pixel, amount)
        What is shared among the support points, such as counts.
    tiles : (pixel,) int
        Tile of each pixel.
    n_tiles : int
    common : (energy + columns,)
        Log spectrum that every pixel's is relative to.
    mixture : MixtureDraws
    progress : callable
        Told the share of the draws that is done.
    """
    n_draws = len(mixture.log_weights)
    total = np.zeros((n_draws, n_tiles))
    shared = np.zeros((n_draws, amounts.shape[1], mixture.log_weights.shape[1]))
    if not len(rows):
        return TileSums(total, shared)
    order = np.argsort(tiles, kind="stable")
    held, starts = np.unique(tiles[order], return_index=True)
    with single_thread(), ThreadPoolExecutor(n_threads()) as pool:
        chunks = _chunks(rows, amounts, common, mixture)
        for first in range(0, n_draws, DRAWS_TOGETHER):
            draws = range(first, min(first + DRAWS_TOGETHER, n_draws))
            contrast = np.stack(
                list(pool.map(lambda s: (mixture.log_spectra(s) - common).astype(np.float32), draws))
            )
            weights = mixture.log_weights[draws.start : draws.stop].astype(np.float32)
            by_pixel = np.empty((len(rows), len(draws)))
            parts = pool.map(lambda chunk: _by_pixel(chunk, contrast, weights), chunks)  # noqa: B023 - used up here
            for chunk, (values, held_there) in zip(chunks, parts, strict=True):
                by_pixel[chunk.pixels] = values
                shared[draws.start : draws.stop, :, chunk.points] += held_there
            total[draws.start : draws.stop, held] = np.add.reduceat(by_pixel[order], starts, axis=0).T
            progress(draws.stop / n_draws)
    return TileSums(total, shared)


def _by_pixel(
    chunk: _Chunk, contrast: Float32Array, log_weights: Float32Array
) -> tuple[FloatArray, FloatArray]:
    """Log-likelihood of a chunk's pixels at some draws, (pixel, draw), and amounts, (draw, amount, support_point)."""
    own = contrast[:, chunk.points] - chunk.baseline
    n_draws, n_points, n_columns = own.shape
    joint = (chunk.rows @ own.reshape(-1, n_columns).T).reshape(-1, n_draws, n_points)
    joint += log_weights[:, chunk.points]
    # By hand, since `scipy.special.logsumexp` takes three times as long.
    highest = joint.max(axis=2)
    joint -= highest[:, :, None]
    total = exponentials(joint).sum(axis=2)
    found = chunk.above[:, None] + (highest + np.log(total)).astype(np.float64)
    joint /= total[:, :, None]
    shared = chunk.amounts.T @ joint.reshape(len(joint), -1)
    return found, shared.reshape(-1, n_draws, n_points).swapaxes(0, 1).astype(np.float64)


def _chunks(
    rows: Float32Array, amounts: FloatArray, common: FloatArray, mixture: MixtureDraws
) -> list[_Chunk]:
    """Group the pixels by the support points that they need at a middle draw."""
    weights = np.exp(mixture.log_weights).mean(axis=0)
    typical = mixture.log_spectra(len(mixture.log_weights) // 2)
    relative = typical - common
    found = []
    for first in range(0, len(rows), PIXELS_TOGETHER):
        some = rows[first : first + PIXELS_TOGETHER]
        share = responsibilities(relative_likelihood(some, typical), weights)
        for pixels, points in zip(*grouped(share), strict=True):
            baseline = (share[pixels].mean(axis=0).astype(np.float64) @ relative).astype(np.float32)
            own = some[pixels]
            above = own.astype(np.float64) @ baseline.astype(np.float64)
            of_them = amounts[pixels + first].astype(np.float32)
            found.append(_Chunk(pixels + first, own, of_them, points, baseline, above))
    return found
