"""Which combinations of response parameters and line ratios a sum spectrum tells, and how well.

Around the optimum of the sum spectrum's fit (`bayesunmix.xray.refinement`), with D the information of the counts
about the smooth parameters r once all weights are eliminated, and S the diagonal of their prior's standard deviations::

    S D S v_m = l_m v_m          l_m: information of the counts over that of the prior, along r = S v_m

The directions with l_m above a small share are the ones whose errors show in a spectrum: in all others the counts do
not reach the prior, and a change by its whole width stays below the noise. In units of what counts and prior leave
together, u_m = S v_m / sqrt(1 + l_m), the prior of the coordinate x_m is Normal(mean_m, sqrt(1 + l_m)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

# Directions with less information than this, relative to the prior's, are left at the fit.
INFORMED = 0.1


@dataclass(frozen=True, kw_only=True)
class ShapeDirections:
    """Directions u_m, and the prior of the coordinates x_m along them.

    Attributes
    ----------
    theta : (direction, theta)
        Change of the response parameters along each direction.
    log_ratio : (direction, ratio)
        Change of the log ratios.
    ratios : tuple of (element, family, group)
        What the log ratios are of.
    mean, sd : (direction,)
        Prior of x; the fit is at zero.
    """

    theta: Array
    log_ratio: Array
    ratios: tuple[tuple[str, str, str], ...]
    mean: Array
    sd: Array


def shape_directions(
    information: Array,
    prior_sd: Array,
    offset: Array,
    free: npt.NDArray[np.bool_],
    ratios: tuple[tuple[str, str, str], ...],
) -> ShapeDirections:
    """Directions that the counts tell.

    Parameters
    ----------
    information : (smooth, smooth)
        Of the counts alone about response parameters and log ratios, weights eliminated.
    prior_sd, offset : (smooth,)
        Prior's standard deviations, and the fit less the prior's mean.
    free : (smooth,)
        False for a parameter at its bound: it stays there.
    ratios
        Names of the last parameters.
    """
    scaled = information * np.outer(prior_sd * free, prior_sd * free)
    gained, vectors = np.linalg.eigh(0.5 * (scaled + scaled.T))
    kept = gained > INFORMED
    sd = np.sqrt(1.0 + gained[kept])
    # The eigenvectors' rounding must not carry a parameter across its bound.
    along = np.where(free, vectors[:, kept].T, 0.0)
    changes = along * prior_sd / sd[:, None]
    n_theta = len(prior_sd) - len(ratios)
    return ShapeDirections(
        theta=changes[:, :n_theta],
        log_ratio=changes[:, n_theta:],
        ratios=ratios,
        mean=-(along @ (offset / prior_sd)) * sd,
        sd=sd,
    )
