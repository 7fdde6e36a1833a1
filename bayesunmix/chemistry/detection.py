"""Whether an amount was detected.

Detection follows ISO 11929 (and Currie, L. A., Anal. Chem. 40 (1968) 586, doi:10.1021/ac60259a007) in a form that
needs only the draws. With a flat prior on a non-negative amount, the posterior is a normal N(m, s) truncated at zero;
its mean and sd give m, the primary estimate, which may be negative, and s, its standard uncertainty:

    decision threshold x* = k s,   detection limit x# = 2 k s,   k = 1.645 (5 % false decisions of either kind),
    detected when m > x*.

Far below zero the truncated normal is an exponential, whose mean and sd do not tell s, and draws that scatter more than
one (of several rotations, say) are no truncated normal at all. Even of zeros one estimate in twenty is below -k s, so
none is taken to be lower: s is at most 2.7 sd of the draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

FloatArray = npt.NDArray[np.float64]

FALSE_DECISIONS_K = 1.6448536269514722  # one-sided normal quantile of 5 %


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Primary estimate, its uncertainty and the limits that follow; arrays over whatever was asked."""

    estimate: FloatArray
    uncertainty: FloatArray
    decision_threshold: FloatArray
    detection_limit: FloatArray
    detected: npt.NDArray[np.bool_]


def detect(draws: FloatArray) -> Detection:
    """Decide on the detection of non-negative amounts, from posterior draws along the first axis.

    Parameters
    ----------
    draws : (draw, ...)
        Amounts with nominal calibration: an error that scales an amount cannot make it appear.
    """
    mean, sd = draws.mean(axis=0), draws.std(axis=0)
    # mean / sd of a truncated normal grows with m / s from 1 (an exponential tail) without bound: read m / s off a
    # table.
    # An amount that does not vary, as the only one of a phase, is known.
    ratio = np.divide(mean, sd, out=np.where(mean > 0, np.inf, 1.0), where=sd > 0)
    position = np.interp(ratio, _RATIO, _POSITION)
    position = np.maximum(position, -FALSE_DECISIONS_K)
    shrinkage = np.interp(position, _POSITION, _SPREAD)
    far = ratio > _RATIO[-1]
    uncertainty = np.where(far, sd, sd / shrinkage)
    estimate = np.where(far, mean, position * uncertainty)
    threshold = FALSE_DECISIONS_K * uncertainty
    return Detection(
        estimate=estimate,
        uncertainty=uncertainty,
        decision_threshold=threshold,
        detection_limit=2.0 * threshold,
        detected=estimate > threshold,
    )


def _truncated_normal_table() -> tuple[FloatArray, FloatArray, FloatArray]:
    """M / s, mean / sd and sd / s of a normal N(m, s) truncated at zero.

    mean = m + s h, var = s^2 (1 - h (h + m / s)), h = phi(m / s) / Phi(m / s)  (Johnson, Kotz and Balakrishnan,
    Continuous Univariate Distributions 1 (1994), section 13.10).
    """
    position = np.linspace(-8.0, 6.0, 1401)
    hazard = np.exp(-0.5 * position**2 - 0.5 * np.log(2.0 * np.pi) - log_ndtr(position))
    spread = np.sqrt(1.0 - hazard * (hazard + position))
    return position, (position + hazard) / spread, spread


_POSITION, _RATIO, _SPREAD = _truncated_normal_table()
