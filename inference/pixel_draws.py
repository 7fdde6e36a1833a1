"""Joint draws of pixels: for each posterior draw of the endmembers, a support point of each pixel.

Given the endmembers and the weights, a pixel's posterior over the support points is exact, and pixels are independent:
what they have in common are the endmembers of the draw. A pixel's support point is the quantile of its posterior at a
uniform number that belongs to this pixel and this draw, whatever else is asked for (Salmon, J. K., et al., SC '11,
doi:10.1145/2063384.2063405, on random numbers by counter).

Neighbours that share their counts (`bayesunmix.inference.spatial`) share their errors, too. To first order, the error
of pixel p is that of its own counts and of its neighbours', each as much as it is trusted,

    g_p = ( n_p + sum_q k_pq n_q ) / sqrt( 1 + sum_q k_pq^2 ),     k_pq = sum_sigma c_p,sigma exp(-d_pq^2 / 2 sigma^2)

with n_p standard normal, one for each pixel and draw. Its uniform number is then Phi(g_p), a Gaussian copula (Nelsen,
R. B., An Introduction to Copulas, 2006, doi:10.1007/0-387-28678-0): each pixel's own posterior stays what it is, and
where pixels are alike the error of a mean over them is that of all their counts. Support points are ranked along a
direction of the simplex that is drawn anew for each draw, so that no phase is preferred.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from bayesunmix.core.disk_array import Rows
from bayesunmix.inference.mixture import relative_likelihood, responsibilities
from bayesunmix.inference.pixel_model import PixelModel, PixelReader, batches, rotated_points
from bayesunmix.inference.pixel_posterior import atom_shares
from bayesunmix.inference.spatial import RADII, REACH, centre_weight
from bayesunmix.models.thickness import ThicknessDraws

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Streams of random numbers: of pixels, and of a draw's direction.
_PIXELS, _DIRECTION = 1, 2
# Numbers are made for so many pixels at a time, or a power of two times as many: few programs serve any region.
_LEAST_NUMBERS = 256

Uniforms = Callable[[int], FloatArray]
"""Uniform number of each pixel (pixel,) in a draw, by the draw's number."""


@dataclass(frozen=True, kw_only=True)
class EndmemberDraws:
    """Posterior draws of all that pixels have in common.

    Attributes
    ----------
    number : (draw,) int
        Number of each draw among all of the run.
    spectra : (draw, phase, energy)
        Endmembers as they were fitted, unit sum.
    atoms_per_count : (draw, phase)
        Atoms of the declared elements per detected count, in any common unit.
    rotations : (draw, phase, phase) or None
        What the endmembers of each draw are rotated by.
    """

    number: IntArray
    spectra: FloatArray
    atoms_per_count: FloatArray
    rotations: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True, kw_only=True)
class PixelSet:
    """Some pixels and all that their abundances are drawn from.

    Attributes
    ----------
    counts : (pixel, energy)
    thickness : ThicknessDraws
        Of these pixels and of the draws.
    model : PixelModel
    draws : EndmemberDraws
    supports : (phase,) bool
        Phases without atoms.
    weights : (support_point,) or (pixel, support_point)
        Prior probabilities of the support points.
    """

    counts: Rows
    thickness: ThicknessDraws
    model: PixelModel
    draws: EndmemberDraws
    supports: npt.NDArray[np.bool_]
    weights: npt.NDArray[np.floating]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def reader(self) -> PixelReader:
        """Reads the counts."""
        return PixelReader(self.counts, self.thickness)

    def at(self, draw: int) -> PointValues:
        """Say what the support points stand for in a draw."""
        rotations, points = self.draws.rotations, self.model.support_points
        held = points if rotations is None else rotated_points(points, rotations[draw])
        per_count = self.draws.atoms_per_count[draw]
        return PointValues(
            atom_shares(held, per_count, self.supports), held @ np.where(self.supports, 0.0, per_count)
        )

    def log_mixed(self, draw: int) -> FloatArray:
        """Log spectra of the support points in a draw."""
        return self.reader.log_mixed(self.model.support_points, self.draws.spectra[draw], draw)


class PointValues(NamedTuple):
    """What the support points stand for in one draw.

    Attributes
    ----------
    abundance : (support_point, phase)
        In shares of atoms, see `bayesunmix.inference.pixel_posterior.atom_shares`.
    atoms : (support_point,)
        Atoms per count.
    """

    abundance: FloatArray
    atoms: FloatArray


class DrawnPixels(NamedTuple):
    """One draw of some pixels.

    Attributes
    ----------
    point : (pixel,) int
        Support point of each.
    values : PointValues
        What the support points stand for.
    """

    point: IntArray
    values: PointValues


def draw_pixels(pixels: PixelSet, uniforms: Uniforms, seed: int) -> Iterator[DrawnPixels]:
    """Yield each draw of some pixels.

    Parameters
    ----------
    pixels : PixelSet
    uniforms : callable
        From `own_uniforms` or `shared_uniforms`.
    seed : int
        Of the directions along which support points are ranked.
    """
    for draw, number in enumerate(pixels.draws.number):
        uniform, log_mixed = uniforms(int(number)), pixels.log_mixed(draw)
        order = ranking(pixels.model.support_points, seed, int(number))
        point = np.empty(len(pixels), np.int64)
        for batch in batches(slice(0, len(pixels))):
            weights = pixels.weights if pixels.weights.ndim == 1 else pixels.weights[batch]
            share = responsibilities(relative_likelihood(pixels.reader.counts(batch), log_mixed), weights)
            point[batch] = order[quantile_points(share[:, order], uniform[batch])]
        yield DrawnPixels(point, pixels.at(draw))


def quantile_points(share: npt.NDArray[np.floating], uniform: FloatArray) -> IntArray:
    """Places along the last axis at which the shares (pixel, support_point), added up, pass the uniform numbers."""
    reached = np.cumsum(share, axis=1)
    found = (reached <= (uniform * reached[:, -1])[:, None]).sum(axis=1)
    return np.asarray(np.minimum(found, share.shape[1] - 1), np.int64)


def ranking(points: FloatArray, seed: int, number: int) -> IntArray:
    """Order of the support points along the direction of a draw."""
    direction = np.random.default_rng([seed, _DIRECTION, number]).standard_normal(points.shape[1])
    return np.asarray(np.argsort(points @ direction, kind="stable"), np.int64)


def own_uniforms(pixels: IntArray, seed: int) -> Uniforms:
    """Independent uniform numbers of some pixels, which are told by their numbers on the map (pixel,)."""
    return lambda number: _numbers(pixels, seed, number, normal=False)


def shared_uniforms(
    pixels: IntArray, trust: FloatArray, shape: tuple[int, int], place: npt.NDArray[np.bool_], seed: int
) -> Uniforms:
    """Uniform numbers of pixels that share the errors of their neighbours.

    Parameters
    ----------
    pixels : (pixel,) int
        Their numbers on the map.
    trust : (pixel, radius)
        From `bayesunmix.inference.spatial.Neighbourhood.trust`.
    shape : (rows, columns)
        Of the map.
    place : (y, x) bool
        Pixels that have counts to share.
    seed : int
    """
    y, x = np.divmod(pixels, shape[1])
    halo = int(REACH * max(RADII) + 0.5)
    rows, columns = (
        slice(max(int(along.min()) - halo, 0), min(int(along.max()) + halo + 1, size))
        for along, size in zip((y, x), shape, strict=True)
    )
    window = place[rows, columns]
    near = np.flatnonzero(window)
    numbers = (near // window.shape[1] + rows.start) * shape[1] + near % window.shape[1] + columns.start
    at = y - rows.start, x - columns.start
    scale = np.sqrt(1.0 + np.einsum("pr,rs,ps->p", trust, _overlaps(), trust))

    def uniforms(number: int) -> FloatArray:
        noise = np.zeros(window.shape)
        noise[window] = _numbers(numbers, seed, number, normal=True)
        total = noise[at].copy()
        for radius, weight in zip(RADII, trust.T, strict=True):
            if weight.any():
                total += weight * _around(noise, radius)[at]
        return np.asarray(ndtr(total / scale))

    return uniforms


def gamma_factors(counts: FloatArray, normal: FloatArray) -> FloatArray:
    """Draws of the expected counts of pixels over their counts, Gamma(n) / n, from standard normal numbers.

    The prior of the expected counts is flat in their logarithm. The cube root of a gamma variate is nearly normal
    (Wilson, E. B., Hilferty, M. M., Proc. Natl. Acad. Sci. 17 (1931) 684, doi:10.1073/pnas.17.12.684).
    """
    n = np.maximum(counts, 1.0)
    return np.asarray(np.maximum(1.0 - 1.0 / (9.0 * n) + normal / (3.0 * np.sqrt(n)), 0.0) ** 3)


def own_normals(pixels: IntArray, seed: int) -> Uniforms:
    """Independent standard normal numbers of some pixels, besides those of their abundances."""
    return lambda number: _numbers(pixels, seed + 1, number, normal=True)


def _around(noise: FloatArray, radius: float) -> FloatArray:
    """Weighted sum of the neighbours' numbers, the pixel's own left out."""
    summed = gaussian_filter(noise, radius, mode="constant", truncate=REACH)
    return np.asarray(summed / centre_weight(radius) - noise)


def _overlaps() -> FloatArray:
    """Sum over the neighbours of the products of two windows' weights, (radius, radius)."""
    reach = int(REACH * max(RADII) + 0.5)
    centre = np.zeros((2 * reach + 1, 2 * reach + 1))
    centre[reach, reach] = 1.0
    windows = np.stack([_around(centre, radius).ravel() for radius in RADII])
    return np.asarray(windows @ windows.T)


def _numbers(pixels: IntArray, seed: int, number: int, *, normal: bool) -> FloatArray:
    """Random numbers of some pixels in a draw."""
    size = _LEAST_NUMBERS
    while size < len(pixels):
        size *= 2
    padded = np.zeros(size, np.uint32)
    padded[: len(pixels)] = pixels
    made = _made(np.int64(seed), np.uint32(number), padded, normal=normal)
    return np.asarray(made, np.float64)[: len(pixels)]


@partial(jax.jit, static_argnames="normal")
def _made(seed: jax.Array, number: jax.Array, pixels: jax.Array, *, normal: bool) -> jax.Array:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), _PIXELS), number)
    keys = jax.vmap(lambda pixel: jax.random.fold_in(key, pixel))(pixels)
    draw = jax.random.normal if normal else jax.random.uniform
    return jax.vmap(lambda one: draw(one, dtype=jnp.float64))(keys)
