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
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from bayesunmix.core.shares import NOTHING, shares_of
from bayesunmix.fit.model_data import Blocks
from bayesunmix.inference.mixture import exponentials, support_point_weights
from bayesunmix.models.thickness import N_COLUMNS, Array, ThicknessEffect, answered, counted

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

SEED = 0
# Of the expectation maximisation that learns weights, and where it begins with those of more support points.
ITERATIONS, FEWER_ITERATIONS = 200, 60


class Split(NamedTuple):
    """Blocks in two halves, with the columns that thickness needs.

    Attributes
    ----------
    first, second : (block, energy + columns)
    log_common : (energy + columns,)
        Log spectrum of all of them, which scores are relative to.
    """

    first: Float32Array
    second: Float32Array
    log_common: FloatArray

    @classmethod
    def of(cls, blocks: Blocks, effect: ThicknessEffect) -> Split:
        """Split the counts of some blocks."""
        first, second = (counted(half, blocks.thickness.blocks, effect) for half in halves(blocks.counts))
        common = shares_of(blocks.counts.sum(axis=0, dtype=np.float64) + 1.0)
        return cls(first, second, np.concatenate([np.log(common), np.zeros(N_COLUMNS)]))


class Gain(NamedTuple):
    """What an alternative's held-out score is above another one's, in nats, and the standard error of that."""

    nats: float
    error: float


def log_spectra_at(
    points: FloatArray,
    endmembers: FloatArray,
    effect: ThicknessEffect,
    parameters: tuple[Array | float, Array | float],
) -> FloatArray:
    """Log spectra of support points, and what meets the columns of `Split`, (support_point, energy + columns).

    Parameters
    ----------
    points : (support_point, phase)
    endmembers : (phase, energy)
    effect : ThicknessEffect
    parameters
        From `bayesunmix.models.unmixing.thickness_parameters`.
    """
    mixed = shares_of(np.maximum(points @ endmembers, NOTHING))
    return np.asarray(answered(mixed, points, effect, *parameters))


def halves(counts: npt.NDArray[Any]) -> tuple[Float32Array, Float32Array]:
    """Split whole counts of any shape at random into two that are independent of each other."""
    whole = counts.astype(np.int64)
    first = np.random.default_rng([SEED, 50]).binomial(whole, 0.5)
    return first.astype(np.float32), (whole - first).astype(np.float32)


@dataclass(frozen=True)
class Mixture:
    """A mixture whose weights one half of the counts gives, and the density of the other half under it.

    Attributes
    ----------
    learned, judged : (block, support_point)
        Log density of the first and of the second half, relative to a spectrum that all alternatives share.
    weights : (support_point,)
    """

    learned: Float32Array
    judged: Float32Array
    weights: FloatArray

    @classmethod
    def of(
        cls, first: Float32Array, second: Float32Array, log_spectra: FloatArray, log_common: FloatArray
    ) -> Mixture:
        """Learn the weights from the first half.

        Parameters
        ----------
        first, second : (block, energy)
            Halves of the counts. Columns beyond the energies may carry what else the log-likelihood is linear in.
        log_spectra : (support_point, energy)
        log_common : (energy,)
        """
        contrast = (log_spectra - log_common).T.astype(np.float32)
        learned = first @ contrast
        weights = support_point_weights(_relative(learned), n_iterations=ITERATIONS)
        return cls(learned, second @ contrast, weights)

    def held_to(self, kept: npt.NDArray[np.bool_]) -> Mixture:
        """Return the mixture of some of its support points (support_point,), whose weights are learned anew."""
        begin = 0.9 * shares_of(self.weights[kept]) + 0.1 / kept.sum()
        learned = self.learned[:, kept]
        weights = support_point_weights(_relative(learned), n_iterations=FEWER_ITERATIONS, start=begin)
        return Mixture(learned, self.judged[:, kept], weights)

    def amounts(self, counts: npt.NDArray[Any]) -> FloatArray:
        """Share of each support point in the counts (block,), by the first half and the weights, (support_point,)."""
        shares = _relative(self.learned) * self.weights.astype(np.float32)
        total = shares.sum(axis=1)
        held = np.divide(counts, total, out=np.zeros_like(total), where=total > 0.0)
        return shares_of((held @ shares).astype(np.float64))

    def by_block(self) -> FloatArray:
        """Log density of each block of the second half, (block,)."""
        return np.asarray(logsumexp(self.judged + np.log(np.maximum(self.weights, 1e-300)), axis=1))


def mixture_score(
    first: Float32Array, second: Float32Array, log_spectra: FloatArray, log_common: FloatArray
) -> FloatArray:
    """Log density of each half of the blocks under the mixture whose weights the other one gives, (block,).

    For parameters see `Mixture.of`.
    """
    both = ((first, second), (second, first))
    scores = [Mixture.of(*pair, log_spectra, log_common).by_block() for pair in both]
    return np.asarray(np.sum(scores, axis=0))


def _relative(log_density: Float32Array) -> Float32Array:
    """Density at each support point relative to each block's best one, (block, support_point)."""
    return exponentials(log_density - log_density.max(axis=1, keepdims=True))


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
