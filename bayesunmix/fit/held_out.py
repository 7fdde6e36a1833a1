"""Held-out counts: what judges alternatives of which none is the truth, be it phases or how they overlap.

Poisson counts split at random into two halves are independent of each other given the map's mean (Neufeld, A., et al.,
J. Mach. Learn. Res. 25 (2024) 57). What was fitted to one half is judged by the log predictive density of the other,

    score = sum_p log sum_j pi_j prod_c m_jc^y_pc

over the blocks p, with support points' spectra m and weights pi. Errors are those of paired differences over spatial
tiles, since neighbours are alike. Of alternatives in the order of their freedom the first one is taken that is within
some standard errors of the best, usually one (Breiman, L., et al., Classification and Regression Trees (1984), 3.4.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from bayesunmix.inference.mixture import relative_likelihood, support_point_weights

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

SEED = 0
# Of the expectation maximisation that learns weights.
ITERATIONS = 200


class Gain(NamedTuple):
    """What an alternative's held-out score is above another one's, in nats, and the standard error of that."""

    nats: float
    error: float


def halves(counts: npt.NDArray[Any]) -> tuple[Float32Array, Float32Array]:
    """Split whole counts of any shape at random into two that are independent of each other."""
    whole = counts.astype(np.int64)
    first = np.random.default_rng([SEED, 50]).binomial(whole, 0.5)
    return first.astype(np.float32), (whole - first).astype(np.float32)


def log_predictive(
    counts: Float32Array, log_spectra: FloatArray, weights: FloatArray, log_common: FloatArray
) -> FloatArray:
    """Log density of each block under a mixture, relative to a spectrum that all alternatives share, (block,).

    Parameters
    ----------
    counts : (block, energy)
        Columns beyond the energies may carry what else the log-likelihood is linear in.
    log_spectra : (support_point, energy)
    weights : (support_point,)
    log_common : (energy,)
    """
    contrast = (log_spectra - log_common).T.astype(np.float32)
    joint = (counts @ contrast).astype(float) + np.log(np.maximum(weights, 1e-300))
    return np.asarray(logsumexp(joint, axis=1))


def mixture_score(
    first: Float32Array, second: Float32Array, log_spectra: FloatArray, log_common: FloatArray
) -> FloatArray:
    """Log density of each half of the blocks under the mixture whose weights the other one gives, (block,).

    Parameters
    ----------
    first, second : (block, energy)
        Halves of the counts.
    log_spectra : (support_point, energy)
    log_common : (energy,)
    """
    score = np.zeros(len(first))
    for learned, judged in ((first, second), (second, first)):
        weights = support_point_weights(relative_likelihood(learned, log_spectra), n_iterations=ITERATIONS)
        score += log_predictive(judged, log_spectra, weights, log_common)
    return score


def by_tile(by_block: FloatArray, tiles: npt.NDArray[np.int64]) -> FloatArray:
    """Sum scores of blocks (block,) over the tiles that they lie in."""
    return np.bincount(tiles, weights=by_block).astype(np.float64)


def gain_over(tiles: FloatArray, other: FloatArray) -> Gain:
    """Sum of paired differences over tiles, and its standard error."""
    apart = tiles - other
    error = float(np.sqrt(len(apart)) * apart.std(ddof=1)) if len(apart) > 1 else 0.0
    return Gain(float(apart.sum()), error)


def first_as_good(
    scores: Sequence[FloatArray], errors: float = 1.0, nats: float = 0.0
) -> tuple[int, list[Gain]]:
    """Choose the first of alternatives that is within so many standard errors, or so many nats, of the best.

    Parameters
    ----------
    scores : sequence of (tile,)
        Of each alternative, in the order of their freedom.
    errors, nats : float

    Returns
    -------
    Its index, and what each one's score is relative to the best.
    """
    best = max(scores, key=lambda tiles: float(tiles.sum()))
    gains = [gain_over(tiles, best) for tiles in scores]
    return next(
        index for index, gain in enumerate(gains) if gain.nats >= -max(errors * gain.error, nats)
    ), gains
