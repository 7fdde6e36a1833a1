"""Integrals of a peaked function over the unit cube, by particles that climb from uniform ones to the peak.

    p_b(u) proportional to f(u)^b,    b from 0 to 1,    integral = prod_b mean_(u ~ p_b) f(u)^(b' - b)

(a sequential Monte Carlo sampler: Del Moral, P., Doucet, A., Jasra, A., J. R. Stat. Soc. B 68 (2006) 411,
doi:10.1111/j.1467-9868.2006.00553.x). The next power b' is the one that leaves most of the weights counting; particles
are then drawn anew by their weights and moved by random walks, reflected at the faces of the cube, whose steps scatter
as the particles do. End members that can stand in for each other make ridges that are long, thin and bent: a proposal
about the maximum has weights there of which one in several hundred counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

# Moves of all particles at each power, and share of the weights that the next power leaves counting.
_MOVES, _COUNTING = 4, 0.7
# Share of the weights of uniform points that must count for them to be enough.
_ENOUGH = 0.1
# Steps grow or shrink by this factor where more or fewer of them than these shares are taken.
_LONGER, _MANY, _FEW = 1.3, 0.35, 0.2
# The best of a thousand uniform points is this much below the maximum, for each dimension, at most. At power b the mean
# point is half a nat over b below it, for each dimension, if the peak is normal; the best one is by less.
_FROM_MAXIMUM = 40.0
_BISECTIONS = 30


@dataclass(frozen=True)
class Integral:
    """An integral over the unit cube, and points that are distributed as the function.

    Attributes
    ----------
    log
        Logarithm of the integral.
    points
        (n, dimension).
    weights
        Of the points, (n,), adding up to 1.
    """

    log: float
    points: FloatArray
    weights: FloatArray


def integral(
    log_function: Function, first: FloatArray, rng: np.random.Generator, least: float = -np.inf
) -> Integral | None:
    """Integrate a function over the unit cube; None where the integral is below `least`.

    Parameters
    ----------
    log_function
        Log of the function, (n,) at points (n, dimension).
    first
        Points that are uniform in the cube, (n, dimension).
    rng
        Moves them.
    least
        Log of an integral that is of no interest.
    """
    points, value = first, log_function(first)
    dimension = first.shape[1]
    if value.max() < least - _FROM_MAXIMUM * dimension:
        return None
    if dimension == 0 or _counting(value) >= _ENOUGH:
        total = float(logsumexp(value))
        return Integral(total - float(np.log(len(first))), first, np.exp(value - total))
    power, log, scale = 0.0, 0.0, 2.38 / np.sqrt(dimension)
    while power < 1.0:
        rise = _rise(value, 1.0 - power)
        # A sum that rounds to less than 1 would go on for ever.
        power = 1.0 if rise == 1.0 - power else power + rise
        log += float(logsumexp(rise * value)) - float(np.log(len(value)))
        if log + (1.0 - power) * (value.max() + 0.5 * dimension / power) < least:
            return None
        chosen = _drawn(rise * value, rng)
        points, value = points[chosen], value[chosen]
        root = np.linalg.cholesky(np.atleast_2d(np.cov(points.T)) + 1e-12 * np.eye(dimension))
        for _ in range(_MOVES):
            steps = rng.standard_normal(points.shape) @ root.T
            moved = _reflected(points + scale * rng.uniform(0.2, 1.0) * steps)
            there = log_function(moved)
            taken = np.log(rng.random(len(value))) < power * (there - value)
            points, value = np.where(taken[:, None], moved, points), np.where(taken, there, value)
            scale *= _LONGER if taken.mean() > _MANY else 1.0 / _LONGER if taken.mean() < _FEW else 1.0
    return Integral(log, points, np.full(len(points), 1.0 / len(points)))


def _counting(log_weight: FloatArray) -> float:
    """Share of the weights that count: effective number over number."""
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / (weight**2).sum() / len(weight))


def _rise(value: FloatArray, most: float) -> float:
    """How far the power of the function can rise until only a share `_COUNTING` of the weights counts."""
    if _counting(most * value) >= _COUNTING:
        return most
    low, high = 0.0, most
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _counting(middle * value) >= _COUNTING else (low, middle)
    return high


def _drawn(log_weight: FloatArray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw as many as there are by their weights, at equal steps (systematic resampling)."""
    cumulative = np.cumsum(np.exp(log_weight - log_weight.max()))
    n = len(log_weight)
    places = (np.arange(n) + rng.random()) / n * cumulative[-1]
    return np.asarray(np.minimum(np.searchsorted(cumulative, places), n - 1), np.int64)


def _reflected(points: FloatArray) -> FloatArray:
    """Fold points back into the cube."""
    folded = np.abs(points) % 2.0
    return np.asarray(np.minimum(folded, 2.0 - folded))
