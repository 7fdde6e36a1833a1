r"""Ranks of truths among posterior draws, and simultaneous bands for their distribution.

Where truth and draws come from the same joint distribution, the truth is one more draw: its fractional rank

    u = ( #{draws < truth} + v (1 + #{draws = truth}) ) / (draws + 1),     v ~ Uniform(0, 1),

is uniform exactly, ties included (simulation-based calibration: Talts et al. 2018, arXiv:1804.06788). Over n replicates
the number R_i of ranks up to z_i = i / points is binomial, and a band that holds all of them at once is

    { r : 2 min( F_i(r), 1 - F_i(r - 1) ) >= gamma },     F_i the cumulative distribution of Binomial(n, z_i),

with gamma the largest value for which P(all R_i in the band) is at least the wanted level. R_1, R_2, ... is a Markov
chain, R_i - R_(i-1) ~ Binomial(n - R_(i-1), (z_i - z_(i-1)) / (1 - z_(i-1))), so this probability is exact.

References
----------
Säilynoja, T., Bürkner, P.-C., Vehtari, A., Stat. Comput. 32 (2022) 32, doi:10.1007/s11222-022-10090-6.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln
from scipy.stats import binom

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# Places at which an ECDF is looked at, at most: finer ones add work and no power against smooth departures.
MOST_POINTS = 100
# Bisections of log gamma; the last step is far below the steps of a discrete probability.
BISECTIONS = 30


@dataclass(frozen=True)
class Band:
    """A simultaneous band for the ECDF of uniform ranks.

    Attributes
    ----------
    position : (point,)
        Ranks z at which it is given.
    lower, upper : (point,)
        Least and largest share of ranks up to z that lie in the band.
    """

    position: FloatArray
    lower: FloatArray
    upper: FloatArray


def fractional_ranks(truth: FloatArray, draws: FloatArray, seed: int) -> FloatArray:
    """Fractional rank of each truth among its draws, ties at random, shape (quantity,).

    Parameters
    ----------
    truth : (quantity,)
    draws : (quantity, draw)
    seed : int
        Seed of the random part.
    """
    below = (draws < truth[:, None]).sum(axis=1)
    equal = (draws == truth[:, None]).sum(axis=1)
    between = np.random.default_rng(seed).random(len(truth))
    return np.asarray((below + between * (equal + 1.0)) / (draws.shape[1] + 1.0))


def band(n: int, level: float = 0.95) -> Band:
    """Band that holds the whole ECDF of n uniform ranks with a probability of at least `level`."""
    position = _positions(n)
    inside = _two_sided(n) >= _pointwise(n, level)
    lowest, highest = inside.argmax(axis=1), n - inside[:, ::-1].argmax(axis=1)
    return Band(position, lowest / n, highest / n)


def ecdf(ranks: FloatArray) -> FloatArray:
    """Share of ranks up to each position of the band, shape (point,)."""
    return np.asarray(_counts(ranks) / len(ranks))


def uniformity_p_value(ranks: FloatArray) -> float:
    """Probability that the ECDF of uniform ranks departs from the diagonal as much as this one, anywhere.

    It is at most 1 - level exactly where the ECDF leaves `band` of that level.
    """
    n = len(ranks)
    two_sided = _two_sided(n)
    reached = two_sided[np.arange(len(two_sided)), _counts(ranks)].min()
    # A hair above, so that rounding does not let the band hold what was observed.
    return max(1.0 - _probability_inside(two_sided > reached * (1.0 + 1e-9)), 0.0)


def _positions(n: int) -> FloatArray:
    points = min(n, MOST_POINTS)
    return np.arange(1, points) / points


def _counts(ranks: FloatArray) -> IntArray:
    """Count the ranks up to each position, shape (point,)."""
    return np.searchsorted(np.sort(ranks), _positions(len(ranks)), side="right").astype(np.int64)


@lru_cache(maxsize=32)
def _two_sided(n: int) -> FloatArray:
    """Two-sided tail probability of every count at every position, shape (point, count)."""
    distribution = binom(n, _positions(n)[:, None])
    count = np.arange(n + 1)
    return np.asarray(2.0 * np.minimum(distribution.cdf(count), distribution.sf(count - 1)))


@lru_cache(maxsize=64)
def _pointwise(n: int, level: float) -> float:
    """Largest two-sided tail probability gamma whose band holds all counts with probability `level`."""
    two_sided = _two_sided(n)
    low, high = np.log(1.0 - level) - np.log(2.0 * len(two_sided) + 2.0), 0.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        if _probability_inside(two_sided >= np.exp(middle)) >= level:
            low = middle
        else:
            high = middle
    return float(np.exp(low))


def _probability_inside(inside: npt.NDArray[np.bool_]) -> float:
    """Probability that the counts of uniform ranks stay inside at every position.

    Parameters
    ----------
    inside : (point, count) bool
        One run of counts at each position.
    """
    points, n = len(inside) + 1, inside.shape[1] - 1
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    count, probability = np.zeros(1, np.int64), np.ones(1)
    for i, allowed in enumerate(inside):
        now = np.flatnonzero(allowed)
        # The share of what is left that the next step takes: (z_i - z_(i-1)) / (1 - z_(i-1)).
        share = 1.0 / (points - i)
        more, left = now - count[:, None], n - count[:, None]
        possible = more >= 0
        more = np.where(possible, more, 0)
        log_step = (
            log_factorial[left]
            - log_factorial[more]
            - log_factorial[left - more]
            + more * np.log(share)
            + (left - more) * np.log1p(-share)
        )
        probability = probability @ np.where(possible, np.exp(log_step), 0.0)
        count = now
    return float(probability.sum())
