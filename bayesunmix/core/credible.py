"""Intervals of posterior draws, and whether the draws converged."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def interval(draws: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Equal-tailed credible interval along the first axis: (lower, upper)."""
    lower, upper = np.quantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    return lower, upper


def health(draws: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Split R-hat (rank-normalised), bulk and tail effective sample size of every quantity.

    Parameters
    ----------
    draws : (chain, draw, ...)

    Returns
    -------
    Three arrays over the trailing axes; nan where a quantity does not vary.

    References
    ----------
    Vehtari, A., et al., Bayesian Anal. 16 (2021) 667, doi:10.1214/20-BA1221.
    """
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    statistics: Any = array_stats
    flat = draws.reshape(*draws.shape[:2], -1)
    result = np.full((3, flat.shape[2]), np.nan)
    for i in range(flat.shape[2]):
        series = np.asarray(flat[:, :, i])
        if series.std() > 0 and np.isfinite(series).all():
            # R-hat compares chains: a single chain is compared with itself, half by half, which the split form does.
            result[0, i] = statistics.rhat(series, chain_axis=0, draw_axis=1)
            result[1, i] = statistics.ess(series, chain_axis=0, draw_axis=1, method="bulk")
            result[2, i] = statistics.ess(series, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))
    rhat, bulk, tail = (row.reshape(draws.shape[2:]) for row in result)
    return rhat, bulk, tail
