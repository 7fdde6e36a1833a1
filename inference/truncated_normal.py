"""Coordinates in which the posterior is nearly a standard normal, also where a bound truncates it.

The Laplace approximation of `bayesunmix.inference.laplace` is a Gaussian in y (y = softplus(z) for positive coordinates
with a flat prior, y = z for all others), truncated at zero. Coordinates near the bound, and the far ones given them,
make a standard normal e of it, with m the peak before truncation:

    near    x = L e                                                           L L^T = covariance of the scores x
            y_i = m'_i + s'_i w_i,   Phi(w_i) = Phi(-a_i) + Phi(a_i) Phi(x_i),   a_i = m'_i / s'_i
    far     x = diag(1 / s) ( K (y_near - m_near) + C e ),                     K, C C^T of the conditional Gaussian
            y_i = m_i + s_i w_i                                               w as above; w = x without a bound

A positive coordinate's margin is not that of its own normal truncated at zero where others are truncated beside it:
what is taken off them moves it. m' and s' are those of the truncated normal with the mean and variance that draws show.
The far ones need no draws. A guide that starts at e itself thus starts at Laplace, up to a Gaussian copula of the near
ones, and Gaussian guides over e follow a trace element into zero.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.scipy.special import log_ndtr, ndtr, ndtri
from scipy import special

from bayesunmix.inference.laplace import TruncatedGaussian, given_near, near_bound, truncated_normal_draws

FloatArray = npt.NDArray[np.float64]

# Draws that show the margins and correlations of the coordinates near the bound.
DRAWS = 4000

# A peak this many sds below zero leaves an exponential tail; further below, Phi leaves the range of numbers.
DEEPEST = -30.0
SMALLEST = 1e-12


class Coordinates(NamedTuple):
    """The map from e to z; a JAX pytree.

    Attributes
    ----------
    mean, sd : (dim,)
        Of each coordinate's normal in y, before it is truncated.
    root : (dim, dim)
        L in the rows of coordinates near the bound, C over s in the others.
    gain : (dim, dim)
        K over s, for coordinates far from the bound and by those near it; zero elsewhere.
    centre : (dim,)
        m of the coordinates near the bound; zero elsewhere.
    near, bounded : (dim,) bool
        Coordinates that the bound truncates, and all with y = softplus(z) > 0.
    """

    mean: jax.Array
    sd: jax.Array
    root: jax.Array
    gain: jax.Array
    centre: jax.Array
    near: jax.Array
    bounded: jax.Array


def coordinates(target: TruncatedGaussian, positive: slice, seed: int = 0) -> Coordinates:
    """Return the coordinates of a Laplace approximation.

    Parameters
    ----------
    target
        The Gaussian before it is truncated.
    positive
        Coordinates with y = softplus(z).
    seed
        Of the draws that show the margins.
    """
    dim = len(target.mean)
    near = near_bound(target, positive)
    mean, sd = target.mean.copy(), np.sqrt(np.diag(target.covariance))
    root, gain = np.zeros((dim, dim)), np.zeros((dim, dim))
    mean[near], sd[near], root[np.ix_(near, near)] = _near(
        mean[near], target.covariance[np.ix_(near, near)], seed
    )
    if not near.all():
        pull, remaining = given_near(target, near)
        gain[np.ix_(~near, near)] = pull / sd[~near, None]
        root[np.ix_(~near, ~near)] = np.linalg.cholesky(remaining) / sd[~near, None]
    bounded = np.zeros(dim, bool)
    bounded[positive] = True
    centre = np.where(near, target.mean, 0.0)
    return Coordinates(*map(jnp.asarray, (mean, sd, root, gain, centre, near, bounded)))


def _near(mean: FloatArray, covariance: FloatArray, seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return m', s' and L of the coordinates near the bound."""
    sd = np.sqrt(np.diag(covariance))
    if len(mean) < 2:
        # Alone, its margin is its own normal truncated at zero.
        return np.maximum(mean, DEEPEST * sd), sd, np.eye(len(mean))
    draws = truncated_normal_draws(mean, covariance, DRAWS, np.random.default_rng([seed, 15]))
    mean, sd = _matched(draws.mean(axis=0), draws.std(axis=0))
    tail = special.log_ndtr((mean - draws) / sd) - special.log_ndtr(mean / sd)
    scores = -special.ndtri_exp(np.minimum(tail, -1e-300))
    return mean, sd, np.linalg.cholesky(np.atleast_2d(np.cov(scores, rowvar=False)))


def _matched(mean: FloatArray, sd: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return peak and width of the normals that have these means and sds once they are truncated at zero.

    With a = m / s and r = phi(a) / Phi(a) the truncated one has the mean s (a + r) and the variance s^2 (1 - r (a + r))
    (Johnson, Kotz and Balakrishnan 1994, Continuous Univariate Distributions 1, section 13.10.1). Their ratio falls
    with a, from that of an exponential tail.
    """
    a = np.linspace(DEEPEST, -DEEPEST, 6001)
    r = np.exp(-0.5 * a**2 - 0.5 * np.log(2.0 * np.pi) - special.log_ndtr(a))
    above = a + r
    ratio = np.sqrt(np.maximum(1.0 - r * above, 0.0)) / above
    found = np.interp(-np.log(sd / mean), -np.log(ratio), a)
    width = mean / np.interp(found, a, above)
    return found * width, width


def to_z(at: Coordinates, e: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Map e to z, with log |dz / de| up to a constant.

    Parameters
    ----------
    at : Coordinates
    e : (dim,)
    """
    x = at.root @ e
    lowest = at.mean / at.sd
    bound = jnp.where(at.bounded, lowest, 0.0)
    # Near ones first: those far from the bound follow what these are, not their scores.
    near = at.mean + at.sd * _truncated(x, bound)[0]
    x = x + at.gain @ jnp.where(at.near, near - at.centre, 0.0)
    w, log_slope = _truncated(x, bound)
    # Where nothing is bounded, the logarithms below get a harmless argument: their gradients must stay finite.
    y = jnp.where(at.bounded, jnp.maximum(at.sd * (lowest + w), SMALLEST), 1.0)
    z = jnp.where(at.bounded, y + jnp.log(-jnp.expm1(-y)), at.mean + at.sd * x)
    log_jacobian = jnp.where(at.bounded, log_slope - jnp.log(-jnp.expm1(-y)), 0.0)
    return z, log_jacobian.sum()


def _truncated(x: jax.Array, lowest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Quantile w > -lowest of a normal truncated below -lowest at the normal score x, and log dw / dx."""
    # Whichever tail is the smaller one is inverted, so that no digits are lost.
    from_above = (x > 0.0) | (lowest < 0.0)
    upper = jnp.where(from_above, ndtr(lowest) * ndtr(-x), 0.5)
    lower = jnp.where(from_above, 0.5, ndtr(-lowest) + ndtr(x) * ndtr(lowest))
    w = jnp.where(from_above, -ndtri(upper), ndtri(lower))
    return w, log_ndtr(lowest) + 0.5 * (w**2 - x**2)
