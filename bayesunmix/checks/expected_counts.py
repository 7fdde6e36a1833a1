"""Expected sum spectrum of a map at every draw, from what of its counts lies at each support point.

To first order in what thickness does to a pixel (`bayesunmix.models.thickness`),

    E_c = sum_j m_jc [ A_j + lambda (B_j R_j - A_j) (h_c - m_j . h) - kappa L_j (g_c - m_j . g) ]

with A_j, R_j and L_j the counts n_p of the pixels at support point j, the same times r_p, and times log r_p.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bayesunmix.fit.draws import Draws
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.models.thickness import THINNEST, ThicknessEffect

FloatArray = npt.NDArray[np.float64]


def acting_amounts(totals: FloatArray, relative: FloatArray) -> FloatArray:
    """Amounts of pixels that the expected spectrum needs at each support point, (pixel, 3).

    Parameters
    ----------
    totals : (pixel,)
        Counts.
    relative : (pixel,)
        r_p, counts over the mean counts of a pixel.
    """
    r = np.maximum(relative, THINNEST)
    return np.asarray(totals[:, None] * np.stack([np.ones_like(r), r, np.log(r)], axis=1))


def sum_spectra(
    amounts: FloatArray,
    spectra: FloatArray,
    fitted: FittedPosterior,
    effect: ThicknessEffect,
    draws: Draws,
) -> FloatArray:
    """Return the expected counts of the sum spectrum, (draw, bin).

    Parameters
    ----------
    amounts : (draw, 3, support_point)
        Those of `acting_amounts`, shared among the support points.
    spectra : (draw, phase, bin)
        Endmembers, unit sum.
    fitted : FittedPosterior
        Its support points.
    effect : ThicknessEffect
        In the same bins.
    draws : Draws
        Their thickness parameters.
    """
    points = np.asarray(fitted.data.prior.support_points)
    mass = points @ np.asarray(effect.mass_per_count)
    h, g = np.asarray(effect.absorption_slope), np.asarray(effect.stray_share)
    scale, exponent = draws.absorption_scale.ravel(), draws.stray_exponent.ravel()
    found = np.empty((len(spectra), spectra.shape[2]))
    for draw, (counts, thick, log_thick) in enumerate(amounts):
        mixed = points @ spectra[draw]
        absorbed, stray = scale[draw] * (mass * thick - counts), exponent[draw] * log_thick
        plain = counts - absorbed * (mixed @ h) + stray * (mixed @ g)
        found[draw] = plain @ mixed + (absorbed @ mixed) * h - (stray @ mixed) * g
    return np.maximum(found, 0.0)
