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

from bayesunmix.core.shares import NOTHING, shares_of
from bayesunmix.inference.mixture import evidence_of, exponentials, support_point_weights

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Answers = Callable[[FloatArray, FloatArray | None], FloatArray]

# Iterations that learn the points' weights: at first, and after points have moved, from where they were.
FIRST_ITERATIONS, MORE_ITERATIONS = 300, 10
# Rounds in which the points move at first, one being enough after a rotation, and how much longer their steps are.
FIRST_ROUNDS, LONGER = 12, 2.5
# Log ratio of a point's weights, before and after a rotation, at which it moves although it has stayed inside.
CHANGED = 0.02
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
    answers : callable
        Log spectra (point, energy + columns) of mixtures (point, phase) of the endmembers found, and of what is added
        to their spectra (point, energy), if anything is.
    mean : (energy + columns,)
        Mean of the log spectra over the points: relative to it, sums stay small.
    best : (block,)
        Log-likelihood of each block at its best point.
    points : (point, phase)
    weights : (point,)
    likelihood : (block, point) float32
        Relative to `best`.
    log_evidence : float
        Log-likelihood of all blocks, relative to that.
    """

    counts: Float32Array
    n_energies: int
    answers: Answers
    mean: FloatArray
    best: Float32Array
    points: FloatArray
    weights: FloatArray
    likelihood: Float32Array
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
        joint = counts @ (log_spectra - mean).T.astype(np.float32)
        best = joint.max(axis=1)
        joint -= best[:, None]
        empty = cls(
            counts=counts,
            n_energies=counts.shape[1] if n_energies is None else n_energies,
            answers=answers,
            mean=mean,
            best=best,
            points=points,
            weights=np.full(len(points), 1.0 / len(points)),
            likelihood=exponentials(joint),
            log_evidence=-np.inf,
        )
        found = _weighed(points, empty.weights, empty.likelihood, FIRST_ITERATIONS)
        step = LONGER
        for _ in range(FIRST_ROUNDS):
            moved = empty._moved(found, np.ones(len(found.points), bool), answers, step)
            if moved.log_evidence > found.log_evidence:
                found = moved
            else:
                step = 1.0
        return replace(
            empty,
            points=found.points,
            weights=found.weights,
            likelihood=found.likelihood,
            log_evidence=found.log_evidence,
        )

    @property
    def shared(self) -> FloatArray:
        """How much each phase shares its places with each other one, (phase, phase), the rows adding up to 1."""
        together = self.points.T @ (self.weights[:, None] * self.points)
        return shares_of(together - np.diag(np.diag(together)))

    def gained(self, rotation: FloatArray, change: FloatArray | None = None) -> float:
        """Nats that the likelihood gains by a rotation, weights and points being learned in turn.

        Parameters
        ----------
        rotation : (phase, phase)
        change : (phase, energy), optional
            What the rotated endmembers are more than rotated.
        """
        rotated, wider = self.points @ np.linalg.inv(rotation), self._beyond(rotation)
        # What stays inside keeps its spectrum, and its likelihood with it.
        inside = (rotated >= -ON_EDGE).all(axis=1) & (change is None)
        if inside.all() and not len(wider):
            return 0.0
        answers = self._rotated_answers(rotation, change)
        anew = np.concatenate([shares_of(np.maximum(rotated[~inside], 0.0)), wider])
        points = np.concatenate([rotated[inside], anew])
        likelihood = np.concatenate(
            [self.likelihood[:, inside], self._likelihood(answers(anew, None))], axis=1
        )
        added = np.full(len(wider), ADDED / max(len(wider), 1))
        known = (1.0 - added.sum()) * self.weights
        weights = np.concatenate([known[inside], known[~inside], added])
        found = _weighed(points, weights, likelihood, MORE_ITERATIONS)
        if found.log_evidence < self.log_evidence - HARDLY_LOST:
            before, after = (np.log(np.maximum(values, NOTHING)) for values in (weights, found.weights))
            changed = np.abs(after - before) > CHANGED
            changed[int(inside.sum()) :] = True
            found = max(found, self._moved(found, changed, answers, LONGER), key=lambda one: one.log_evidence)
        return found.log_evidence - self.log_evidence

    def turned(self, rotation: FloatArray, change: FloatArray | None) -> OccupiedSimplex:
        """Return the simplex of rotated endmembers."""
        rotated = shares_of(np.maximum(self.points @ np.linalg.inv(rotation), 0.0))
        points = np.concatenate([rotated, self._beyond(rotation)])
        return OccupiedSimplex.of(
            self.counts, points, self._rotated_answers(rotation, change), self.n_energies
        )

    def _rotated_answers(self, rotation: FloatArray, change: FloatArray | None) -> Answers:
        """Return the answers of rotated endmembers."""

        def answers(mixtures: FloatArray, added: FloatArray | None) -> FloatArray:
            more = None if change is None else mixtures @ change
            if added is not None:
                more = added if more is None else more + added
            return self.answers(mixtures @ rotation, more)

        return answers

    def _beyond(self, rotation: FloatArray) -> FloatArray:
        """Points (point, phase) of a rotated simplex that no place could have before it grew."""
        return np.asarray(self.points[(self.points @ rotation).min(axis=1) < -ON_EDGE])

    def _likelihood(self, log_spectra: FloatArray) -> Float32Array:
        """Likelihood of each block at points of some log spectra (point, energy + columns), (block, point)."""
        joint = self.counts @ (log_spectra - self.mean).T.astype(np.float32)
        joint -= self.best[:, None]
        np.minimum(joint, LARGEST_EXPONENT, out=joint)
        return exponentials(joint)

    def _moved(
        self, mixture: _Mixture, moving: npt.NDArray[np.bool_], answers: Answers, step: float
    ) -> _Mixture:
        """Move points that hold some blocks so many steps towards the best mixture for what they hold, drop the rest.

        Parameters
        ----------
        mixture : _Mixture
        moving : (point,) bool
            Points that move; the others stay where they are.
        answers : callable
            As in `OccupiedSimplex`.
        step : float
        """
        held = mixture.weights * len(self.counts) > FEWEST_PLACES
        stay, move = held & ~moving, held & moving
        likelihood, points = mixture.likelihood[:, move], mixture.points[move]
        counts = (likelihood / mixture.evidence[:, None]).T @ self.counts[:, : self.n_energies]
        pooled = counts.astype(np.float64) * mixture.weights[move, None]
        endmembers = shares_of(np.exp(answers(np.eye(points.shape[1]), None)[:, : self.n_energies]))
        there = points
        for _ in range(STEPS_OF_POINTS):
            there = shares_of(there * ((pooled / (there @ endmembers)) @ endmembers.T))
        there = shares_of(np.maximum(points + step * (there - points), 0.0))
        return _weighed(
            np.concatenate([mixture.points[stay], there]),
            shares_of(np.concatenate([mixture.weights[stay], mixture.weights[move]])),
            np.concatenate([mixture.likelihood[:, stay], self._likelihood(answers(there, None))], axis=1),
            MORE_ITERATIONS,
        )


def _weighed(points: FloatArray, weights: FloatArray, likelihood: Float32Array, iterations: int) -> _Mixture:
    """Learn the weights of points in so many iterations, from where they are."""
    weights = support_point_weights(likelihood, n_iterations=iterations, start=weights)
    evidence = evidence_of(likelihood, weights)
    log_evidence = float(np.log(evidence).sum(dtype=np.float64))
    return _Mixture(points, weights, likelihood, evidence, log_evidence)
