"""Integrals of a peaked function over the unit cube, by importance sampling around its maximum.

Uniform numbers u are taken as phi = logit(u), with logistic densities. The maximum over phi of function and density is
found by L-BFGS from the best of some first points; its Hessian gives a Student-t proposal with `_DEGREES` degrees of
freedom, of which a part is left to the prior so that weights are bounded (defensive mixture: Hesterberg, T.,
Technometrics 37 (1995) 185, doi:10.1080/00401706.1995.10484303). Where few weights count, a proposal is fitted to them,
and drawn from again (population Monte Carlo: Cappé, O., et al., J. Comput. Graph. Stat. 13 (2004) 907,
doi:10.1198/106186004X12803).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, gammaln, log_expit, logit, logsumexp

FloatArray = npt.NDArray[np.float64]
Function = Callable[[FloatArray], FloatArray]

_POINTS, _ROUNDS = 768, 4
_FROM_PRIOR = 0.15
_DEGREES = 5.0
# Share of the weights that must count, and that of the first points with which no search is needed.
_ENOUGH = 0.1
_STEP = 1e-4
_LEAST_CURVATURE, _WIDER = 0.08, 1.3
# The best of a thousand points is this much below the maximum, for each dimension, at most.
_FROM_MAXIMUM = 40.0
# Logits beyond this are the ends of the cube.
_MOST_LOGIT = 16.0


def weighted_points(
    log_function: Function, first: FloatArray, rng: np.random.Generator, least: float = -np.inf
) -> tuple[FloatArray, FloatArray] | None:
    """Return points of the unit cube, (n, dimension), and log weights, (n,), under which sums are integrals.

    None where the integral is below `least` for sure: it is not larger than the maximum of the function.

    Parameters
    ----------
    log_function
        Log of the function, (n,) at points (n, dimension).
    first
        Points that are uniform in the cube.
    rng
        Draws the others.
    least
        Log of an integral that is of no interest.
    """
    value = log_function(first)
    n = first.shape[1]
    if value.max() < least - _FROM_MAXIMUM * n:
        return None
    if n == 0 or _counting(value) >= _ENOUGH:
        return first, np.full(len(first), -np.log(len(first)))
    middle, covariance = _at_maximum(log_function, first[np.argmax(value)])
    if log_function(expit(middle[None]))[0] < least:
        return None
    for left in reversed(range(_ROUNDS)):
        phi, log_weight = _proposed(middle, covariance, rng)
        points = expit(phi)
        both = log_weight + log_function(points)
        if _counting(both) >= _ENOUGH or not left:
            break
        # Weights that are cut at a high quantile leave a proposal that is not narrower than the peak.
        clipped = np.minimum(both, np.quantile(both, 0.98))
        weight = np.exp(clipped - logsumexp(clipped))
        middle = weight @ phi
        covariance = ((phi - middle).T * weight) @ (phi - middle) + 1e-3 * np.eye(len(middle))
    return points, log_weight


def _counting(log_weight: FloatArray) -> float:
    """Share of the weights that count: effective number over number."""
    weight = np.exp(log_weight - log_weight.max())
    return float(weight.sum() ** 2 / (weight**2).sum() / len(weight))


def _at_maximum(log_function: Function, start: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return maximum and inverse curvature in logits; derivatives are differences, of all directions in one call."""
    n = len(start)
    steps = np.concatenate([np.zeros((1, n)), _STEP * np.eye(n), -_STEP * np.eye(n)])

    def slopes(phi: FloatArray) -> tuple[FloatArray, FloatArray]:
        around = (phi[..., None, :] + steps).reshape(-1, n)
        values = (log_function(expit(around)) + _log_prior(around)).reshape(-1, 2 * n + 1)
        return -values[:, 0], -(values[:, 1 : n + 1] - values[:, n + 1 :]) / (2.0 * _STEP)

    def objective(phi: FloatArray) -> tuple[float, FloatArray]:
        value, slope = slopes(phi[None])
        return float(value[0]), slope[0]

    begin = logit(np.clip(start, 1e-6, 1.0 - 1e-6))
    bounds = [(-_MOST_LOGIT, _MOST_LOGIT)] * n
    best = minimize(
        objective, begin, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40, "ftol": 1e-6}
    ).x
    wide = 1e-2
    _, ahead = slopes(best + wide * np.eye(n))
    _, behind = slopes(best - wide * np.eye(n))
    hessian = (ahead - behind) / (2.0 * wide)
    values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
    return best, _WIDER * (vectors / np.maximum(values, _LEAST_CURVATURE)) @ vectors.T


def _log_prior(phi: FloatArray) -> FloatArray:
    return np.asarray((log_expit(phi) + log_expit(-phi)).sum(axis=-1))


def _proposed(
    middle: FloatArray, covariance: FloatArray, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw logits from the proposal, with the log of prior over proposal and number."""
    n = len(middle)
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(n))
    scale = np.sqrt(_DEGREES / rng.chisquare(_DEGREES, (_POINTS, 1)))
    phi = middle + scale * rng.standard_normal((_POINTS, n)) @ root.T
    plain = rng.random(_POINTS) < _FROM_PRIOR
    phi[plain] = logit(np.clip(rng.random((int(plain.sum()), n)), 1e-9, 1.0 - 1e-9))
    phi = np.clip(phi, -3.0 * _MOST_LOGIT, 2.0 * _MOST_LOGIT)
    scaled = np.linalg.solve(root, (phi - middle).T)
    log_t = (
        gammaln(0.5 * (_DEGREES + n))
        - gammaln(0.5 * _DEGREES)
        - 0.5 * n * np.log(_DEGREES * np.pi)
        - np.log(np.diag(root)).sum()
        - 0.5 * (_DEGREES + n) * np.log1p((scaled**2).sum(axis=0) / _DEGREES)
    )
    prior = _log_prior(phi)
    proposal = np.logaddexp(np.log(1.0 - _FROM_PRIOR) + log_t, np.log(_FROM_PRIOR) + prior)
    return phi, prior - proposal - np.log(_POINTS)
