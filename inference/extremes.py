"""Limits for the next extreme value, from a few that were simulated.

The largest of many numbers is nearly Gumbel-distributed (Gumbel, E. J., Statistics of Extremes, 1958). Its mean and
deviation, estimated from a few dozen simulated values, are uncertain; the limit that one more value exceeds with a
given probability is that of the prediction, farther out than the quantile of the fitted distribution.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq

FloatArray = npt.NDArray[np.float64]

N_TRIALS = 40_000


def prediction_probability(number: int, deviations: float) -> float:
    """Probability that one more Gumbel value lies so many estimated deviations above the estimated mean.

    Parameters
    ----------
    number : int
        Values that gave mean and deviation.
    deviations : float
    """
    mean, sd = _moments(number)
    # The next value is integrated over; only the estimates are drawn.
    # Far below what is usual the probability is 1: a larger exponent would only overflow.
    exponent = np.minimum(-(mean + deviations * sd), 700.0)
    return float(-np.expm1(-np.exp(exponent)).mean())


def prediction_limit(number: int, probability: float) -> float:
    """Estimated deviations above the estimated mean that one more Gumbel value exceeds with a given probability."""
    mean, sd = _moments(number)

    def excess(deviations: float) -> float:
        exceeded = float(-np.expm1(-np.exp(-(mean + deviations * sd))).mean())
        return float(np.log(exceeded / probability))

    return float(brentq(excess, 0.0, 100.0))


def _moments(number: int) -> tuple[FloatArray, FloatArray]:
    """Mean and deviation of many sets of so many standard Gumbel values."""
    sample = np.random.default_rng(0).gumbel(size=(N_TRIALS, number))
    return sample.mean(axis=1), sample.std(axis=1, ddof=1)
