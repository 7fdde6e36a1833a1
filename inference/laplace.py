"""Laplace approximation with bounds: a Gaussian in the coordinates of a nearly Gaussian model, truncated at zero.

Counts of a line family are non-negative with a flat prior, and the likelihood is close to quadratic in the counts
themselves. The mode, though, was found in z, y = softplus(z), where it sits off the bound. From its potential U and
Hessian H there, with s = sigmoid(z) for these coordinates and 1 for all others,

    gradient of -log density in y       g_i = (1 - s_i) / s_i          (0 for all others)
    Hessian of -log density in y        G = D^-1 (H - diag(1 - s)) D^-1,    D = diag(s)
    best quadratic                      y ~ Normal(y_map - G^-1 g, G^-1)   truncated to y_i > 0

(the flat prior leaves log s(z) as the only difference of the two densities, and U' = 0 at the mode). A coordinate
near zero is thus a normal truncated at zero, not a Gaussian in a logarithm. Draws are exact for all coordinates far
from the bound; the few near it are drawn by Gibbs sampling, many chains at once.

References
----------
Truncated normals by inversion and Gibbs: Geweke, J., Comput. Sci. Stat. 23 (1991) 571; Robert, C. P., Stat. Comput. 5
(1995) 121, doi:10.1007/BF00143942.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit, log_expit, log_ndtr, ndtri_exp

FloatArray = npt.NDArray[np.float64]

# Directions flatter than this are wider than ten prior units: the curvature is not believed beyond.
FLATTEST = 0.01
# A coordinate this many standard deviations above zero never meets the bound.
FAR = 6.0
SWEEPS = 150
SMALLEST = 1e-12
# A weight that has run into its bound has a slope of zero in single numbers.
LEAST_SLOPE = 1e-12


@dataclass(frozen=True)
class TruncatedGaussian:
    """A Gaussian in y, some of whose coordinates are positive.

    Attributes
    ----------
    mean : (dim,)
        Peak of the quadratic; negative where the data pull below zero.
    covariance : (dim, dim)
    """

    mean: FloatArray
    covariance: FloatArray


def truncated_gaussian(z: FloatArray, hessian: FloatArray, positive: slice) -> TruncatedGaussian:
    """Quadratic approximation in y, from the mode and the Hessian in z.

    Parameters
    ----------
    z : (dim,)
        Mode in unconstrained coordinates.
    hessian : (dim, dim)
        Hessian of the potential there.
    positive : slice
        Coordinates with y = softplus(z) and a flat prior; for all others y = z.
    """
    slope = np.ones(len(z))
    slope[positive] = softplus_slope(z[positive])
    curvature = (hessian - np.diag(1.0 - slope)) / np.outer(slope, slope)
    # In units of the diagonal, so that one bound suits all: a weight near zero has a tiny slope.
    unit = np.sqrt(np.maximum(np.diag(curvature), FLATTEST))
    values, vectors = np.linalg.eigh(curvature / np.outer(unit, unit))
    covariance = (vectors / np.maximum(values, FLATTEST * 1e-2)) @ vectors.T / np.outer(unit, unit)
    value = z.copy()
    value[positive] = np.logaddexp(0.0, z[positive])
    return TruncatedGaussian(value - covariance @ ((1.0 - slope) / slope), covariance)


def softplus_slope(z: FloatArray) -> FloatArray:
    """Slope dy / dz of y = softplus(z), kept above the smallest number whose inverse squared still is one."""
    return np.asarray(np.maximum(expit(z), LEAST_SLOPE))


def laplace_draws(
    z: FloatArray,
    hessian: FloatArray,
    positive: slice,
    *,
    chains: int,
    draws: int,
    seed: int,
    progress: Callable[[float], None] | None = None,
) -> FloatArray:
    """Independent draws in unconstrained coordinates, shape (chain, draw, dim).

    Parameters
    ----------
    z, hessian, positive
        See `truncated_gaussian`.
    chains, draws : int
        Draws are independent; chains only shape them like those of a sampler.
    seed : int
    progress : callable, optional
        Told the share that is done.
    """
    target = truncated_gaussian(z, hessian, positive)
    generator = np.random.default_rng([seed, 10])
    near = near_bound(target, positive)
    values = np.empty((chains * draws, len(z)))
    values[:, near] = truncated_normal_draws(
        target.mean[near], target.covariance[np.ix_(near, near)], len(values), generator, progress
    )
    gain, remaining = given_near(target, near)
    eigenvalues, vectors = np.linalg.eigh(remaining)
    # The symmetric root does not hang on the order and the signs of eigenvectors, which rounding decides.
    root = (vectors * np.sqrt(np.maximum(eigenvalues, 0.0))) @ vectors.T
    pulled = target.mean[~near] + (values[:, near] - target.mean[near]) @ gain.T
    values[:, ~near] = pulled + generator.standard_normal((len(values), len(root))) @ root
    inside = np.maximum(values[:, positive], SMALLEST)
    values[:, positive] = inside + np.log(-np.expm1(-inside))  # the inverse of softplus
    return values.reshape(chains, draws, len(z))


def laplace_log_density(target: TruncatedGaussian, z: FloatArray, positive: slice) -> FloatArray:
    """Log density of the draws over z, up to the constant that the truncation leaves.

        log q(z) = -(y - m)^T G (y - m) / 2 + sum_positive log s(z_i),      dy_i / dz_i = s(z_i)

    Parameters
    ----------
    target : TruncatedGaussian
    z : (..., dim)
    positive : slice

    Returns
    -------
    (...)
    """
    off = z - target.mean
    off[..., positive] = np.logaddexp(0.0, z[..., positive]) - target.mean[positive]
    quadratic = np.einsum("...i,ij,...j->...", off, np.linalg.inv(target.covariance), off)
    return np.asarray(log_expit(z[..., positive]).sum(axis=-1) - 0.5 * quadratic)


def near_bound(target: TruncatedGaussian, positive: slice) -> npt.NDArray[np.bool_]:
    """Tell the coordinates that the bound at zero truncates, shape (dim,); all others are as good as Gaussian."""
    near = np.zeros(len(target.mean), bool)
    near[positive] = target.mean[positive] < FAR * np.sqrt(np.diag(target.covariance)[positive])
    return near


def given_near(target: TruncatedGaussian, near: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """Return how the coordinates far from the bound follow those near it, and the covariance that they keep.

    Returns
    -------
    gain : (far, near)
        The conditional mean of the far ones is m_far + gain (y_near - m_near).
    remaining : (far, far)
    """
    covariance = target.covariance
    across = covariance[np.ix_(~near, near)]
    gain = np.linalg.solve(covariance[np.ix_(near, near)], across.T).T if near.any() else across
    return np.asarray(gain), covariance[np.ix_(~near, ~near)] - gain @ across.T


def truncated_normal_draws(
    mean: FloatArray,
    covariance: FloatArray,
    n_draws: int,
    generator: np.random.Generator,
    progress: Callable[[float], None] | None = None,
) -> FloatArray:
    """Draws of a Gaussian truncated to the positive orthant, one Gibbs chain a draw, shape (draw, dim).

    Parameters
    ----------
    mean, covariance : (dim,), (dim, dim)
        Of the Gaussian before it is truncated.
    n_draws : int
    generator : numpy.random.Generator
    progress : callable, optional
        Told the share that is done.
    """
    precision = np.linalg.inv(covariance)
    spread = 1.0 / np.sqrt(np.diag(precision))
    values = np.maximum(mean, 0.0) + 0.5 * np.sqrt(np.diag(covariance)) * np.ones((n_draws, 1))
    for sweep in range(SWEEPS if len(mean) else 0):
        for i in range(len(mean)):
            pull = (values - mean) @ precision[i] - (values[:, i] - mean[i]) * precision[i, i]
            centre = mean[i] - pull * spread[i] ** 2
            # Inversion from the upper tail, in logarithms: exact however far below zero the centre lies.
            tail = np.log(generator.random(n_draws)) + log_ndtr(centre / spread[i])
            values[:, i] = centre - spread[i] * ndtri_exp(tail)
        if progress is not None:
            progress((sweep + 1) / SWEEPS)
    return values
