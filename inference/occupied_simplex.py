"""The places of a map as a mixture over points of the endmembers' simplex, which are free to move.

    p(y_b) = sum_j w_j p(y_b | alpha_j),      weights w and points alpha_j by maximum likelihood

A fixed grid serves the solution that it was laid for. A rotated one cuts the simplex where the grid has no points, and
loses nats for want of them: on a small map of three phases ten where it loses four. So the points move, each to where
the counts that it holds put it, in turn with the weights, both by expectation maximisation (Laird, N., J. Am. Stat.
Assoc. 73 (1978) 805, doi:10.1080/01621459.1978.10480103). Its steps are short where places are hard to tell apart: they
are made longer, and taken as they are where that was too far (Salakhutdinov, R., Roweis, S., Proc. 20th Int. Conf.
Machine Learning (2003) 664). Such a mixture needs few points: the others lose their weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import shares_of
from bayesunmix.inference.mixture import evidence_of, exponentials, support_point_weights

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Answers = Callable[[FloatArray, FloatArray | None], FloatArray]

# Iterations that learn the points' weights: at first, and after points have moved, from where they were.
FIRST_ITERATIONS, MORE_ITERATIONS = 300, 10
# Rounds in which the points move: at first, and after a rotation. How much longer their steps are.
FIRST_ROUNDS, MORE_ROUNDS, LONGER = 12, 1, 2.5
# A rotation that loses less than this, in nats, has points enough.
HARDLY_LOST = 0.3
# Iterations for where the counts that a point holds put it.
STEPS_OF_POINTS = 30
# A point that holds fewer places than this is dropped: those beside it take them.
FEWEST_PLACES = 0.5
# Share of the places that points have which a rotation adds, before their weights are learned.
ADDED = 0.02
# An exponential of more would leave the range of single precision.
LARGEST_EXPONENT = 60.0
# A point this little outside is on the edge.
ON_EDGE = 1e-9


class _Mixture(NamedTuple):
    """A mixture on its way to the most probable one.

    Attributes
    ----------
    points : (point, phase)
    weights : (point,)
    likelihood : (block, point) float32
        Relative to each block's best point.
    evidence : (block,) float32
    log_evidence : float
        Of all blocks.
    """

    points: FloatArray
    weights: FloatArray
    likelihood: Float32Array
    evidence: Float32Array
    log_evidence: float


@dataclass(frozen=True, kw_only=True)
class OccupiedSimplex:
    """The places of a map in the simplex of some endmembers.

    Attributes
    ----------
    counts : (block, energy + columns) float32
    n_energies : int
    points : (point, phase)
    weights : (point,)
    answers : callable
        Log spectra (point, energy + columns) of mixtures (point, phase) of the endmembers found, and of what is added
        to their spectra (point, energy), if anything is.
    mean : (energy + columns,)
        Mean of the log spectra over the points: relative to it, sums stay small.
    best : (block,)
        Log-likelihood of each block at its best point.
    log_evidence : float
        Log-likelihood of all blocks, relative to that.
    """

    counts: Float32Array
    n_energies: int
    points: FloatArray
    weights: FloatArray
    answers: Answers
    mean: FloatArray
    best: Float32Array
    log_evidence: float

    @classmethod
    def of(
        cls, counts: Float32Array, points: FloatArray, answers: Answers, n_energies: int | None = None
    ) -> OccupiedSimplex:
        """Learn where the places are, from points (point, phase) that fill the simplex.

        Parameters
        ----------
        counts, points, answers
        n_energies : int, optional
            Of the columns of `counts`; by default all.
        """
        log_spectra = answers(points, None)
        mean = log_spectra.mean(axis=0)
        best = (counts @ (log_spectra - mean).T.astype(np.float32)).max(axis=1)
        empty = cls(
            counts=counts,
            n_energies=counts.shape[1] if n_energies is None else n_energies,
            points=points,
            weights=np.full(len(points), 1.0 / len(points)),
            answers=answers,
            mean=mean,
            best=best,
            log_evidence=-np.inf,
        )
        found = empty._learned(np.eye(points.shape[1]), None, points, empty.weights, first=True)
        return replace(empty, points=found.points, weights=found.weights, log_evidence=found.log_evidence)

    @property
    def shared(self) -> FloatArray:
        """How much each phase shares its places with each other one, (phase, phase), the rows adding up to 1."""
        together = self.points.T @ (self.weights[:, None] * self.points)
        return shares_of(together - np.diag(np.diag(together)))

    def gained(self, rotation: FloatArray, change: FloatArray | None = None) -> float:
        """Nats that the likelihood gains by a rotation.

        Parameters
        ----------
        rotation : (phase, phase)
        change : (phase, energy), optional
            What the rotated endmembers are more than rotated.
        """
        rotated = self.points @ np.linalg.inv(rotation)
        wider = self._beyond(rotation)
        if change is None and not (rotated < -ON_EDGE).any() and not len(wider):
            return 0.0
        points = np.concatenate([shares_of(np.maximum(rotated, 0.0)), wider])
        added = np.full(len(wider), ADDED / max(len(wider), 1))
        weights = np.concatenate([(1.0 - added.sum()) * self.weights, added])
        return self._learned(rotation, change, points, weights).log_evidence - self.log_evidence

    def turned(self, rotation: FloatArray, change: FloatArray | None) -> OccupiedSimplex:
        """Return the simplex of rotated endmembers."""

        def answers(mixtures: FloatArray, added: FloatArray | None) -> FloatArray:
            more = None if change is None else mixtures @ change
            if added is not None:
                more = added if more is None else more + added
            return self.answers(mixtures @ rotation, more)

        rotated = shares_of(np.maximum(self.points @ np.linalg.inv(rotation), 0.0))
        points = np.concatenate([rotated, self._beyond(rotation)])
        return OccupiedSimplex.of(self.counts, points, answers, self.n_energies)

    def _beyond(self, rotation: FloatArray) -> FloatArray:
        """Points (point, phase) of a rotated simplex that no place could have before it grew."""
        return np.asarray(self.points[(self.points @ rotation).min(axis=1) < -ON_EDGE])

    def _learned(
        self,
        rotation: FloatArray,
        change: FloatArray | None,
        points: FloatArray,
        weights: FloatArray,
        *,
        first: bool = False,
    ) -> _Mixture:
        """Learn weights and points of rotated endmembers in turn, and return the best of all rounds."""

        def answered(mixtures: FloatArray) -> FloatArray:
            added = None if change is None else mixtures @ change
            return self.answers(mixtures @ rotation, added)

        def mixture(points: FloatArray, weights: FloatArray, iterations: int) -> _Mixture:
            joint = self.counts @ (answered(points) - self.mean).T.astype(np.float32)
            joint -= self.best[:, None]
            np.minimum(joint, LARGEST_EXPONENT, out=joint)
            likelihood = exponentials(joint)
            weights = support_point_weights(likelihood, n_iterations=iterations, start=weights)
            evidence = evidence_of(likelihood, weights)
            return _Mixture(
                points, weights, likelihood, evidence, float(np.log(evidence).sum(dtype=np.float64))
            )

        endmembers = shares_of(np.exp(answered(np.eye(len(rotation)))[:, : self.n_energies]))
        best, step = mixture(points, weights, FIRST_ITERATIONS if first else MORE_ITERATIONS), LONGER
        if best.log_evidence > self.log_evidence - HARDLY_LOST and not first:
            return best
        for _ in range(FIRST_ROUNDS if first else MORE_ROUNDS):
            held = best.weights * len(self.counts) > FEWEST_PLACES
            moved = mixture(
                self._moved(best, held, endmembers, step), shares_of(best.weights[held]), MORE_ITERATIONS
            )
            if moved.log_evidence > best.log_evidence:
                best = moved
            else:
                step = 1.0
        return best

    def _moved(
        self, mixture: _Mixture, held: npt.NDArray[np.bool_], endmembers: FloatArray, step: float
    ) -> FloatArray:
        """Move points that hold some blocks so many steps towards the best mixture for what they hold."""
        likelihood, points = mixture.likelihood[:, held], mixture.points[held]
        counts = (likelihood / mixture.evidence[:, None]).T @ self.counts[:, : self.n_energies]
        pooled = counts.astype(np.float64) * mixture.weights[held, None]
        there = points
        for _ in range(STEPS_OF_POINTS):
            there = shares_of(there * ((pooled / (there @ endmembers)) @ endmembers.T))
        return shares_of(np.maximum(points + step * (there - points), 0.0))
