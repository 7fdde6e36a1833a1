"""Pareto-smoothed importance sampling: how near draws are to the exact posterior, and better draws where they are near.

Draws z of an approximation q have the importance ratios

    log r = -U(z) - log q(z)                     (up to a constant, which cancels)

The largest ratios follow a generalised Pareto distribution; its shape k says whether their mean can be estimated at
all: below 0.7 it can, and draws picked in proportion to the smoothed ratios follow the posterior more closely than q.
In a hundred dimensions the joint k exceeds 0.7 although every single quantity is right, because small errors of
many nuisance parameters add up in log r: a large k forbids reweighting, and says nothing of a single interval (see
`bayesunmix.inference.refresh` for that).

References
----------
Vehtari, A., Simpson, D., Gelman, A., Yao, Y., Gabry, J., J. Mach. Learn. Res. 25 (2024) 72. For variational inference:
Yao, Y., et al., Proc. Mach. Learn. Res. 80 (2018) 5581.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

#: Above this shape the smoothed weights cannot be relied upon (Vehtari et al. 2024).
PARETO_K_LIMIT = 0.7
# With fewer ratios the tail, a fifth of them, is too short for a fit.
LEAST_RATIOS = 40


@dataclass(frozen=True)
class Importance:
    """Smoothed importance weights of some draws.

    Attributes
    ----------
    log_weights : (draw,)
        Smoothed, normalised to a sum of 1.
    pareto_k : float
        Shape of the tail of the raw ratios; infinite where they are not finite, or too few to tell.
    """

    log_weights: FloatArray
    pareto_k: float

    @property
    def effective_draws(self) -> float:
        """Independent draws of the posterior that the weighted ones are worth."""
        return float(1.0 / np.exp(2.0 * self.log_weights).sum())

    @property
    def reliable(self) -> bool:
        """Whether draws may be reweighted."""
        return self.pareto_k < PARETO_K_LIMIT


def smoothed(log_ratios: FloatArray) -> Importance:
    """Smooth the largest importance ratios.

    Parameters
    ----------
    log_ratios : (draw,)
        log r, up to a constant.
    """
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    statistics: Any = array_stats
    untold = Importance(np.full(len(log_ratios), -np.log(len(log_ratios))), np.inf)
    if len(log_ratios) < LEAST_RATIOS or not np.isfinite(log_ratios).all():
        return untold
    # ArviZ takes log likelihoods, whose negatives are the log ratios of leave-one-out cross-validation.
    # Where all ratios but a few are zero beside the largest, its tail has no scale, and there is nothing to fit.
    with np.errstate(divide="ignore", invalid="ignore"):
        weights, shape = statistics.psislw(-(log_ratios - log_ratios.max()))
    weights = np.asarray(weights, float)
    if not (np.isfinite(shape) and np.isfinite(weights).any()):
        return untold
    return Importance(weights - np.logaddexp.reduce(weights), float(shape))


def resample(importance: Importance, seed: int) -> npt.NDArray[np.int64]:
    """Pick as many draws in proportion to the weights (systematic resampling); their indices, in random order."""
    generator = np.random.default_rng([seed, 11])
    weights = np.exp(importance.log_weights)
    n = len(weights)
    points = (generator.random() + np.arange(n)) / n
    picked = np.searchsorted(np.cumsum(weights), points).clip(max=n - 1)
    return np.asarray(generator.permutation(picked), np.int64)
