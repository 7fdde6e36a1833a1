"""Coverage of intervals: how often they hold the truth, with what that share itself is uncertain by.

A central interval of level L reaches from the (1 - L) / 2 quantile of the draws to the (1 + L) / 2 quantile. Of an
amount that cannot be told from zero an upper bound is given instead, its L quantile, and the interval begins at zero;
of a ratio whose denominator is such an amount a lower bound, its 1 - L quantile, and the interval has no end. The
coverage over n replicates is a binomial share; the limits of that share are Clopper and Pearson's, which are never too
narrow.

References
----------
Clopper, C. J., Pearson, E. S., Biometrika 26 (1934) 404, doi:10.1093/biomet/26.4.404.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import beta

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
StrArray = npt.NDArray[np.str_]

LEVELS = (0.5, 0.8, 0.9, 0.95)
# Kinds of intervals; nothing is said of the last.
CENTRAL, UPPER, LOWER, NONE = "interval", "upper", "lower", "undetermined"


@dataclass(frozen=True)
class Intervals:
    """Intervals of several quantities at several levels.

    Attributes
    ----------
    lower, upper : (quantity, level)
    """

    lower: FloatArray
    upper: FloatArray

    @property
    def width(self) -> FloatArray:
        """Upper minus lower end, shape (quantity, level)."""
        return self.upper - self.lower

    def hold(self, truth: FloatArray) -> BoolArray:
        """Whether each interval holds the truth, shape (quantity, level)."""
        return np.asarray((self.lower <= truth[:, None]) & (truth[:, None] <= self.upper))


def intervals(
    draws: FloatArray, kinds: StrArray | None = None, levels: tuple[float, ...] = LEVELS
) -> Intervals:
    """Intervals of draws (quantity, draw).

    Parameters
    ----------
    draws : (quantity, draw)
    kinds : (quantity,), optional
        ``interval``, ``upper``, ``lower`` or ``undetermined``; central intervals when left out.
    levels : tuple of float
    """
    level, tail = np.array(levels), 0.5 * (1.0 - np.array(levels))
    lower, upper = (np.quantile(draws, ends, axis=1).T for ends in (tail, 1.0 - tail))
    if kinds is not None:
        bound, least = (np.quantile(draws, ends, axis=1).T for ends in (level, 1.0 - level))
        kind = kinds[:, None]
        upper = np.select([kind == UPPER, kind == LOWER, kind == NONE], [bound, np.inf, np.nan], upper)
        lower = np.select([kind == UPPER, kind == LOWER, kind == NONE], [0.0, least, np.nan], lower)
    return Intervals(np.asarray(lower), np.asarray(upper))


def share_limits(held: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Clopper-Pearson limits of a binomial probability, (lower, upper)."""
    tail = 0.5 * (1.0 - level)
    lower = float(beta.ppf(tail, held, of - held + 1)) if held > 0 else 0.0
    upper = float(beta.ppf(1.0 - tail, held + 1, of - held)) if held < of else 1.0
    return lower, upper
