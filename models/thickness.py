"""What the mass thickness of a pixel changes in its spectrum: more absorption, and less stray signal beside it.

Given its total counts, a pixel's thickness drops out of the model but for two effects. A thick pixel absorbs more of
its soft X-rays, and stray signal that does not come from the specimen under the beam makes up less of its counts.
With r_p the counts of pixel p over the map's mean, B_j the mass that a count stands for at support point j (over the
mean of pixels), and lambda, kappa the two parameters::

    lambda     scale of the counts as a thickness     Normal(1, sd); 1 is what composition and film predict
    kappa      exponent of the stray signal           Normal(0, 1); 0 goes with the counts, 1 is the same everywhere
    u_pj       = r_p B_j - 1                          relative mass thickness less its mean
    tilt_pjc   = lambda u_pj h_c - kappa log(r_p) g_c
    log p_pjc  = log m_jc + tilt_pjc - log sum_c m_jc exp(tilt_pjc)

h_c = d log A_c / d log t is the slope of the film's absorption, g_c the share of stray signal in the map's counts.
The logarithm of the sum is taken to second order, (m h) and (m hh) - (m h)^2 being what it needs of a support point::

    log sum_c m exp(tilt) = mean(tilt) + var(tilt) / 2

so that the log-likelihood of a pixel stays a product of what its counts are (`counted`, a few more columns) and what
the parameters are (`answered`, a few more rows beside the log spectrum): the effects cost next to nothing. Both are
first order in the exponent, which is good as long as a film absorbs less than about half of a line.

The shape of the absorption is that of Goldstein et al. (1977), Scanning Electron Microsc. 1, 315.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64] | jax.Array

# Columns that `counted` appends.
N_COLUMNS = 9
# The logarithm of a relative thickness is cut off here: empty pixels tell nothing.
THINNEST = 0.05
# The exponent of the stray signal is within this of 0: at 1 it is the same everywhere, and nothing makes it more.
FARTHEST = 1.0
# Relative thickness for which the second order is good: beyond, the normaliser is so far off that a map would be fitted
# through its error. Places of a map are taken to lie within, and so is what a count of a phase stands for.
VALID = (0.3, 2.2)


class ThicknessEffect(NamedTuple):
    """How thickness acts on spectra; a JAX pytree.

    Attributes
    ----------
    absorption_slope : (energy,)
        h_c, at most zero.
    stray_share : (energy,)
        g_c, between 0 and 1.
    mass_per_count : (phase,)
        Mass that a count of each phase stands for; in the mean over pixels, r_p times that of their mixture is 1.
    scale_sd : float
        Prior sd of lambda.
    """

    absorption_slope: FloatArray
    stray_share: FloatArray
    mass_per_count: FloatArray
    scale_sd: float


class ThicknessDraws(NamedTuple):
    """Posterior draws of the two parameters, and the pixels they act on.

    Attributes
    ----------
    relative : (pixel,)
        r_p, counts around the pixel over the mean counts of a pixel.
    effect : ThicknessEffect
    scale, exponent : (draw,)
        lambda and kappa.
    """

    relative: FloatArray
    effect: ThicknessEffect
    scale: FloatArray
    exponent: FloatArray


def no_effect(n_phases: int, n_channels: int) -> ThicknessEffect:
    """Return the effect of a film that absorbs nothing on a map without stray signal."""
    return ThicknessEffect(np.zeros(n_channels), np.zeros(n_channels), np.ones(n_phases), 1.0)


def bounded(standardised: Array, farthest: float) -> Array:
    """Return x (1 + (x / b)^16)^(-1/16): x itself to 1 in 10 000 up to two thirds of b, and never beyond b.

    To second order in the exponent a spectrum of a single peak seems to be normalised however much it is tilted:
    without a bound, a phase that nobody needs would be given one, and both parameters would grow without end.
    """
    return standardised * (1.0 + (standardised / farthest) ** 16) ** (-1.0 / 16.0)


def absorption_scale(effect: ThicknessEffect, standardised: Array) -> Array:
    """Scale lambda from its standardised value; between 0, no absorption, and 2."""
    return 1.0 + effect.scale_sd * bounded(standardised, 1.0 / effect.scale_sd)


def stray_exponent(sd: float, standardised: Array) -> Array:
    """Exponent kappa from its standardised value and its prior sd."""
    return sd * bounded(standardised, FARTHEST)


def counted(
    counts: npt.NDArray[np.generic], relative_thickness: FloatArray, effect: ThicknessEffect
) -> Float32Array:
    """Put the columns that thickness needs beside the counts, shape (pixel, energy + `N_COLUMNS`).

    Parameters
    ----------
    counts : (pixel, energy)
    relative_thickness : (pixel,)
        r_p, counts over the mean counts of a pixel.
    effect : ThicknessEffect
    """
    plain = np.asarray(counts, np.float32)
    r = np.maximum(relative_thickness, THINNEST)
    e = np.log(r)
    soft, stray = (plain @ np.asarray(v, np.float32) for v in (effect.absorption_slope, effect.stray_share))
    total = plain.sum(axis=1, dtype=np.float64)
    columns = [
        r * soft,
        soft,
        e * stray,
        total * r**2,
        total * r,
        total,
        total * e,
        total * r * e,
        total * e**2,
    ]
    return np.concatenate([plain, np.stack(columns, axis=1).astype(np.float32)], axis=1)


def answered(
    mixed: Array, points: Array, effect: ThicknessEffect, scale: Array | float, exponent: Array | float
) -> Array:
    """Log spectra of the support points with the rows that meet the columns of `counted`.

    Parameters
    ----------
    mixed : (support_point, energy)
        m_jc, unit sum and positive.
    points : (support_point, phase)
    effect : ThicknessEffect
    scale, exponent : scalars
        lambda and kappa.

    Returns
    -------
    (support_point, energy + `N_COLUMNS`), whose product with `counted` is the log-likelihood of every pixel at every
    support point; computed by NumPy where `mixed` is its array.
    """
    xp: Any = np if isinstance(mixed, np.ndarray) else jnp
    h, g = xp.asarray(effect.absorption_slope), xp.asarray(effect.stray_share)
    moments = mixed @ xp.stack([h, g, h * h, h * g, g * g], axis=1)
    mean_h, mean_g = moments[:, 0], moments[:, 1]
    var_h = moments[:, 2] - mean_h**2
    covariance = moments[:, 3] - mean_h * mean_g
    var_g = moments[:, 4] - mean_g**2
    mass = points @ xp.asarray(effect.mass_per_count)
    a, k = scale * mass, exponent
    one = xp.ones_like(mass)
    rows = [
        a,
        -scale * one,
        -k * one,
        -0.5 * a**2 * var_h,
        -a * mean_h + a * scale * var_h,
        scale * mean_h - 0.5 * scale**2 * var_h,
        k * mean_g - scale * k * covariance,
        a * k * covariance,
        -0.5 * k**2 * var_g,
    ]
    result: Array = xp.concatenate([xp.log(mixed), xp.stack(rows, axis=1)], axis=1)
    return result
