"""Likelihood of ratios of two amounts that were measured together, each perhaps no more than noise.

The story of one ratio D = x_1 / x_2 with x_1, x_2 >= 0: the map shows

    (m_1, m_2) ~ Normal( (x_1, x_2), S )

with m the primary estimates of the amounts, which may be negative, and S their covariance. Fieller's pivot

    t(D) = (m_1 - D m_2) / sqrt( S_11 - 2 D S_12 + D^2 S_22 )  ~  Normal(0, 1)

holds whatever x_2 is, and exp(-t^2 / 2) is the likelihood of D with x_2 profiled out. Where the numerator was not
detected it is flat towards D = 0, where the denominator was not, towards infinity: a bound enters as a bound. It is
the same for D and 1 / D.

Ratios of one map share errors (what phases trade with each other moves all elements at once): their pivots are
jointly normal with the correlation C,

    t ~ Normal(0, C).

References
----------
Fieller, E. C., J. R. Stat. Soc. B 16 (1954) 175, doi:10.1111/j.2517-6161.1954.tb00159.x.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


class MeasuredRatios(NamedTuple):
    """What the maps say of the ratios; a JAX pytree of arrays over (map, ratio).

    Attributes
    ----------
    top, bottom : (map, ratio)
        Primary estimates of numerator and denominator.
    top_sd, bottom_sd : (map, ratio)
        Their standard uncertainties.
    correlation : (map, ratio)
        Between the errors of numerator and denominator.
    precision : (map, ratio, ratio)
        Inverse of the correlation of the pivots of one map; rows and columns of ratios that say nothing are zero.
    """

    top: FloatArray
    bottom: FloatArray
    top_sd: FloatArray
    bottom_sd: FloatArray
    correlation: FloatArray
    precision: FloatArray


def pivots(log_ratio: jax.Array, measured: MeasuredRatios) -> jax.Array:
    """Fieller's pivot of every ratio, shape (map, ratio).

    Parameters
    ----------
    log_ratio : (map, ratio)
        Natural logarithm of D.
    measured : MeasuredRatios
    """
    # Over cosh-like scales of both signs: numerator and denominator are divided by sqrt(D), so that neither overflows.
    up, down = jnp.exp(-0.5 * log_ratio), jnp.exp(0.5 * log_ratio)
    top, bottom = up * measured.top_sd, down * measured.bottom_sd
    variance = top**2 - 2.0 * measured.correlation * top * bottom + bottom**2
    return (up * measured.top - down * measured.bottom) / jnp.sqrt(variance)


def ratio_log_likelihood(log_ratio: jax.Array, measured: MeasuredRatios) -> jax.Array:
    """Log-likelihood of all ratios of all maps, up to a constant."""
    t = pivots(log_ratio, measured)
    return -0.5 * jnp.einsum("ri,rij,rj->", t, measured.precision, t)
