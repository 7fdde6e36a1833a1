"""How improbable a weighted sum of Poisson counts is, as a normal deviate, however few the counts are.

For counts y_g of expectation mu_g and weights a_g, the sum U = sum_g a_g (y_g - mu_g) has the cumulants of

    K(t) = sum_g mu_g (exp(a_g t) - 1 - a_g t),

and a sum as far out or farther has a probability of at most exp(-r^2 / 2) (Chernoff, H., Ann. Math. Stat. 23 (1952)
493, doi:10.1214/aoms/1177729330) with

    r = sign(U) sqrt( 2 max_t [ t U - K(t) ] ).

Of one group r is the signed root of its Poisson deviance; where counts are many it is U over its standard deviation.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# Most steps that find t, what its slope may be off by, and the largest exponent: what is left of the maximum goes with
# the square of what t is off by.
STEPS, NEAR, LARGEST_EXPONENT = 12, 1e-5, 300.0
_TINY = float(np.finfo(float).tiny)


def tail_deviates(counts: FloatArray, mean: FloatArray, weights: FloatArray) -> FloatArray:
    """Return normal deviates r of weighted sums of Poisson counts, (row,).

    Parameters
    ----------
    counts, mean : (row, group)
        Observed and expected.
    weights : (row, group)
        Of the counts in the sum, in any unit.
    """
    scale = np.maximum(np.abs(weights).max(axis=1, keepdims=True), _TINY)
    off = ((weights / scale) * (counts - mean)).sum(axis=1)
    # Downwards is upwards with the other sign.
    a, far = weights / scale * np.where(off < 0.0, -1.0, 1.0)[:, None], np.abs(off)
    variance = np.maximum((a**2 * mean).sum(axis=1), _TINY)
    low, high = np.zeros(len(a)), np.full(len(a), LARGEST_EXPONENT)
    t = np.minimum(far / variance, high)
    for _ in range(STEPS):
        raised = mean * np.exp(a * t[:, None])
        slope = np.maximum((a * (raised - mean)).sum(axis=1), _TINY)
        if (np.abs(slope - far) <= NEAR * far).all():
            break
        low, high = np.where(slope < far, t, low), np.where(slope < far, high, t)
        # Newton's step for the logarithm of the slope, which is soon that of an exponential.
        step = t + np.log(np.maximum(far, _TINY) / slope) * slope / (a**2 * raised).sum(axis=1)
        t = np.where((step >= low) & (step <= high), step, 0.5 * (low + high))
    cumulant = (mean * (np.expm1(a * t[:, None]) - a * t[:, None])).sum(axis=1)
    return np.asarray(np.sign(off) * np.sqrt(2.0 * np.maximum(t * far - cumulant, 0.0)))
