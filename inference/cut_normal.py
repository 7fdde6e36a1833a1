"""Coordinates in which the posterior is nearly a standard normal, also where it leans on a bound.

The Laplace approximation of `bayesunmix.inference.laplace` is a Gaussian in y (y = softplus(z) for positive coordinates
with a flat prior, y = z for all others), cut at zero. With its mean m, sds s and correlations R = L L^T,

    x = L e                                              e ~ Normal(0, I)
    y_i = m_i + s_i x_i                                  coordinates without a bound
    y_i = m_i + s_i w_i,  Phi(w_i) = Phi(-a_i) + Phi(a_i) Phi(x_i),  a_i = m_i / s_i          positive ones

turns a standard normal e into a Gaussian copula with the cut normals as its margins. A guide that starts at e itself
thus starts next to Laplace, and Gaussian guides over e follow a trace element into zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.scipy.special import log_ndtr, ndtr, ndtri

from bayesunmix.inference.laplace import CutGaussian

FloatArray = npt.NDArray[np.float64]

# A peak this many sds below zero leaves an exponential tail; further below, Phi leaves the range of numbers.
DEEPEST = -30.0
SMALLEST = 1e-12


class Coordinates(NamedTuple):
    """The map from e to z; a JAX pytree.

    Attributes
    ----------
    mean, sd : (dim,)
        Of the cut Gaussian in y, before the cut.
    root : (dim, dim)
        Cholesky factor of its correlations.
    bounded : (dim,) bool
        Coordinates with y = softplus(z) > 0.
    """

    mean: jax.Array
    sd: jax.Array
    root: jax.Array
    bounded: jax.Array


def coordinates(target: CutGaussian, positive: slice) -> Coordinates:
    """Return the coordinates of a Laplace approximation."""
    sd = np.sqrt(np.diag(target.covariance))
    bounded = np.zeros(len(sd), bool)
    bounded[positive] = True
    mean = np.where(bounded, np.maximum(target.mean, DEEPEST * sd), target.mean)
    root = np.linalg.cholesky(target.covariance / np.outer(sd, sd))
    return Coordinates(jnp.asarray(mean), jnp.asarray(sd), jnp.asarray(root), jnp.asarray(bounded))


def to_z(at: Coordinates, e: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Map e to z, with log |dz / de| up to a constant.

    Parameters
    ----------
    at : Coordinates
    e : (dim,)
    """
    x = at.root @ e
    lowest = at.mean / at.sd
    w, log_slope = _cut(x, jnp.where(at.bounded, lowest, 0.0))
    # Where nothing is bounded, the logarithms below get a harmless argument: their gradients must stay finite.
    y = jnp.where(at.bounded, jnp.maximum(at.sd * (lowest + w), SMALLEST), 1.0)
    z = jnp.where(at.bounded, y + jnp.log(-jnp.expm1(-y)), at.mean + at.sd * x)
    log_jacobian = jnp.where(at.bounded, log_slope - jnp.log(-jnp.expm1(-y)), 0.0)
    return z, log_jacobian.sum()


def _cut(x: jax.Array, lowest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Quantile w > -lowest of a normal cut below -lowest at the normal score x, and log dw / dx."""
    # Whichever tail is the smaller one is inverted, so that no digits are lost.
    from_above = (x > 0.0) | (lowest < 0.0)
    upper = jnp.where(from_above, ndtr(lowest) * ndtr(-x), 0.5)
    lower = jnp.where(from_above, 0.5, ndtr(-lowest) + ndtr(x) * ndtr(lowest))
    w = jnp.where(from_above, -ndtri(upper), ndtri(lower))
    return w, log_ndtr(lowest) + 0.5 * (w**2 - x**2)
