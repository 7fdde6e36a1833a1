"""Rotations of endmembers and abundances that fit a map as well: how far they go, and draws of them.

With endmembers S (phase, energy), abundances A (place, phase) and any matrix M whose rows sum to one,

    S' = M S,    A' = A M^-1,    A' S' = A S

so that no count tells the two apart where both are allowed (the area of feasible solutions: Borgen, O. S., Kowalski,
B. R., Anal. Chim. Acta 174 (1985) 1, doi:10.1016/S0003-2670(00)84361-5; its bands: Tauler, R., J. Chemom. 15 (2001)
627, doi:10.1002/cem.654). Row k of M says what becomes of phase k:

    s_k' = (s_k - sum_j t_j s_j) / (1 - sum_j t_j)

*outwards*, t > 0, until a weight of s_k' is zero: an element is exactly absent. Counting makes the end soft: it is
where the first weight reaches -z standard deviations, z normal. *Inwards*, t < 0, until the purest place is called
pure: beyond that places leave the simplex, and the likelihood falls. With their support points rotated, those outside
moved to its edge, and the points' weights learned anew, it has lost so many nats there; the end is where it has lost x,
x exponential: a density that falls with the likelihood.

Which of the rotations is the true one, no count says. Each phase is drawn by itself: from its inward end (some pixel
of it is pure), from its outward end (an element of another phase is exactly absent), or evenly between the two. All
phases together are weighted by what the likelihood loses beyond the sum of what each was allowed to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.inference.mixture import LEAST_EVIDENCE, support_point_weights

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

# Amounts of another phase at which the loss inwards is computed; between them its root is linear.
AMOUNTS = np.array([0.01, 0.03, 0.06, 0.1, 0.16, 0.25, 0.4, 0.6, 0.9, 1.4, 2.2])
# A loss beyond which no more is asked: exponential variates are not that large.
MOST_LOST = 30.0
# What the truth loses on average: weights of the points that are learned follow the noise of the outermost places.
TYPICALLY_LOST = 3.0
# Iterations that learn the support points' weights: at first, and after a rotation, from where they were.
FIRST_ITERATIONS, MORE_ITERATIONS = 300, 20
# What is left of a phase at least when others are taken out of it.
LEAST_LEFT = 0.02
# A component of another phase below so many standard deviations may be none.
CLEAR = 3.0
# A rotation is open where it moves a weight by more than this many standard deviations: less is in the draws already.
OPEN_SDS = 0.5
# Of the directions towards several phases at a time, for each of them; and the least, where they share no place.
CONCENTRATION, LEAST_CONCENTRATION = 0.5, 0.02
# Phases nearer than this are one.
SMALLEST_DETERMINANT = 1e-3
BISECTIONS = 30
# An exponential of more would leave the range of single precision.
LARGEST_EXPONENT = 60.0


@dataclass(frozen=True, kw_only=True)
class OccupiedSimplex:
    """The places of a map as a mixture over support points of the simplex.

    Attributes
    ----------
    counts : (block, energy + columns) float32
    points : (support_point, phase)
    answers : callable
        Log spectra (point, energy + columns) of mixtures (point, phase) of the endmembers found.
    mean : (energy + columns,)
        Mean of the log spectra over the points: relative to it, sums stay small.
    best : (block,)
        Log-likelihood of each block at its best point.
    likelihood : (block, support_point) float32
        Relative to that.
    weights : (support_point,)
        The most probable ones.
    """

    counts: Float32Array
    points: FloatArray
    answers: Callable[[FloatArray], FloatArray]
    mean: FloatArray
    best: Float32Array
    likelihood: Float32Array
    weights: FloatArray

    @classmethod
    def of(
        cls, counts: Float32Array, points: FloatArray, answers: Callable[[FloatArray], FloatArray]
    ) -> OccupiedSimplex:
        """Learn where the places are."""
        log_spectra = answers(points)
        mean = log_spectra.mean(axis=0)
        joint = counts @ (log_spectra - mean).T.astype(np.float32)
        best = joint.max(axis=1)
        likelihood = np.exp(joint - best[:, None])
        weights = support_point_weights(likelihood, n_iterations=FIRST_ITERATIONS)
        return cls(
            counts=counts,
            points=points,
            answers=answers,
            mean=mean,
            best=best,
            likelihood=likelihood,
            weights=weights,
        )

    @property
    def shared(self) -> FloatArray:
        """How much each phase shares its places with each other one, (phase, phase), the rows adding up to 1."""
        together = self.points.T @ (self.weights[:, None] * self.points)
        return shares_of(together - np.diag(np.diag(together)))

    def lost(self, rotation: FloatArray) -> float:
        """Nats that the likelihood loses by a rotation (phase, phase): none where no point leaves the simplex."""
        rotated = self.points @ np.linalg.inv(rotation)
        moved = rotated.min(axis=1) < -1e-9
        if not moved.any():
            return 0.0
        inside = shares_of(np.maximum(rotated[moved], 0.0)) @ rotation
        joint = self.counts @ (self.answers(inside) - self.mean).T.astype(np.float32)
        likelihood = self.likelihood.copy()
        likelihood[:, moved] = np.exp(np.minimum(joint - self.best[:, None], LARGEST_EXPONENT))
        weights = support_point_weights(likelihood, n_iterations=MORE_ITERATIONS, start=self.weights)
        gained = _log_evidence(likelihood, weights) - _log_evidence(self.likelihood, self.weights)
        return max(-gained, 0.0)


def _log_evidence(likelihood: Float32Array, weights: FloatArray) -> float:
    evidence = np.maximum(likelihood @ weights.astype(np.float32), LEAST_EVIDENCE)
    return float(np.log(evidence).sum(dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class PhaseWeights:
    """What the phases are made of, as shares of their counts.

    Attributes
    ----------
    mean, sd : (phase, component)
    allowed : (phase, component) bool
        False where an element is declared absent.
    judged : (component,) bool
        Components whose amounts are reported.
    implausible : callable
        Nats against the weights (component,) of a phase, by what was declared of it.
    """

    mean: FloatArray
    sd: FloatArray
    allowed: BoolArray
    judged: BoolArray
    implausible: Callable[[int, FloatArray], float]

    def rotated(self, row: FloatArray, phase: int) -> FloatArray:
        """Weights of a phase by its row of a rotation."""
        return np.where(self.allowed[phase], np.maximum(row @ self.mean, 0.0), 0.0)

    def moved(self, row: FloatArray, phase: int) -> float:
        """How far a row moves the reported amount that it moves most, in its standard deviations."""
        change = np.abs(self.rotated(row, phase) - self.mean[phase])
        return float(ratio_of(change, self.sd[phase])[self.judged].max(initial=0.0))

    def disbelief(self, row: FloatArray, phase: int) -> float:
        """Nats that a row adds against a phase by what was declared of it."""
        return self.implausible(phase, self.rotated(row, phase)) - self.implausible(phase, self.mean[phase])

    def clear(self, direction: FloatArray) -> BoolArray:
        """Tell the components that phases mixed as `direction` (phase,) hold beyond doubt, (component,)."""
        return np.asarray(direction @ self.mean > CLEAR * np.sqrt(direction**2 @ self.sd**2))

    def forbids(self, phase: int, direction: FloatArray) -> bool:
        """Whether a phase can exchange nothing with such a mixture: it holds what is declared absent."""
        return bool((self.clear(direction) & ~self.allowed[phase]).any())

    def amount_out(self, phase: int, direction: FloatArray, z: float, most_lost: float) -> float:
        """Largest part of other phases, mixed as `direction` (phase,), that can be taken out of a phase.

        Every weight stays above -z standard deviations, and what was declared becomes less plausible by `most_lost`
        nats at most.
        """
        if self.forbids(phase, direction):
            return 0.0
        taken, variance, clear = direction @ self.mean, direction**2 @ self.sd**2, self.clear(direction)
        own, own_variance = self.mean[phase][clear], self.sd[phase][clear] ** 2

        def feasible(amount: float) -> bool:
            sd = np.sqrt(own_variance + amount**2 * variance[clear])
            if not (own - amount * taken[clear] >= -z * sd).all():
                return False
            return self.disbelief(turned(phase, -amount * direction), phase) <= most_lost

        low, high = 0.0, 1.0 - LEAST_LEFT
        if feasible(high):
            return high
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if feasible(middle) else (low, middle)
        return low


def turned(phase: int, others: FloatArray) -> FloatArray:
    """Row of a rotation in which a phase gains amounts of others, (phase,), or loses them where they are negative."""
    row = np.array(others, np.float64)
    row[phase] = 1.0
    return np.asarray(row / row.sum())


@dataclass(frozen=True, kw_only=True)
class OpenDirections:
    """How far each phase can go away from each other one, and towards it.

    Attributes
    ----------
    outwards : (phase, phase)
        Largest share of the second that can be taken out of the first, where no weight falls below zero.
    losses : (phase, phase, amount)
        Nats lost where the first gains `AMOUNTS` of the second; infinite from where it is hopeless.
    opens_out, opens_in : (phase, phase) bool
        Where this moves reported amounts by more than is in the draws already.
    """

    outwards: FloatArray
    losses: FloatArray
    opens_out: BoolArray
    opens_in: BoolArray

    @property
    def inwards(self) -> FloatArray:
        """Amount of the second that the first can gain for one nat, (phase, phase)."""
        return np.apply_along_axis(amount_in, -1, self.losses, 1.0)

    @property
    def free(self) -> BoolArray:
        """Phases that can move, (phase,)."""
        return np.asarray((self.opens_out | self.opens_in).any(axis=1))


def amount_in(losses: FloatArray, lost: float) -> float:
    """Amount of another phase that a phase can gain for so many nats, from its `losses` (amount,)."""
    known = np.maximum.accumulate(np.concatenate([[0.0], losses]))
    amounts = np.concatenate([[0.0], AMOUNTS])
    if known[-1] <= lost:
        return float(amounts[-1])
    after = int(np.argmax(known > lost))
    if not np.isfinite(known[after]):
        return float(amounts[after - 1])
    # Losses grow as squares: their roots are interpolated.
    low, high = np.sqrt(known[after - 1]), np.sqrt(min(known[after], MOST_LOST))
    part = min((np.sqrt(lost) - low) / (high - low), 1.0) if high > low else 0.0
    return float(amounts[after - 1] + part * (amounts[after] - amounts[after - 1]))


def open_directions(
    simplex: OccupiedSimplex, weights: PhaseWeights, fixed: BoolArray, closed: BoolArray
) -> OpenDirections:
    """Find how far each phase can go.

    Parameters
    ----------
    simplex, weights
        What rotations must keep inside.
    fixed : (phase,) bool
        Phases that stay: declared to be pure somewhere, or without a composition.
    closed : (phase,) bool
        Phases that no other exchanges anything with.
    """
    n_phases = len(fixed)
    outwards = np.zeros((n_phases, n_phases))
    losses = np.full((n_phases, n_phases, len(AMOUNTS)), np.inf)
    opens_out, opens_in = (np.zeros((n_phases, n_phases), bool) for _ in range(2))
    for phase in np.flatnonzero(~fixed).tolist():
        for other in np.flatnonzero(~closed).tolist():
            if phase == other:
                continue
            direction = np.eye(n_phases)[other]
            out = weights.amount_out(phase, direction, 0.0, 1.0)
            outwards[phase, other] = out
            opens_out[phase, other] = weights.moved(turned(phase, -out * direction), phase) > OPEN_SDS
            losses[phase, other] = _losses_inwards(simplex, weights, phase, direction)
            gained = amount_in(losses[phase, other], 1.0)
            opens_in[phase, other] = weights.moved(turned(phase, gained * direction), phase) > OPEN_SDS
    return OpenDirections(outwards=outwards, losses=losses, opens_out=opens_out, opens_in=opens_in)


def _losses_inwards(
    simplex: OccupiedSimplex, weights: PhaseWeights, phase: int, direction: FloatArray
) -> FloatArray:
    """Nats lost where a phase gains `AMOUNTS` of another one, (amount,)."""
    lost = np.full(len(AMOUNTS), np.inf)
    if weights.forbids(phase, direction):
        return lost
    rotation = np.eye(len(direction))
    for number, amount in enumerate(AMOUNTS):
        rotation[phase] = turned(phase, amount * direction)
        lost[number] = simplex.lost(rotation) + max(weights.disbelief(rotation[phase], phase), 0.0)
        if lost[number] > MOST_LOST:
            break
    return lost


@dataclass(frozen=True)
class RotationPrior:
    """Prior probabilities of where a phase lies between the ends of what is feasible; the rest is even between.

    Attributes
    ----------
    pure : float
        Some pixel of it is pure: the inward end.
    absent : float
        An element of another phase is exactly absent from it: the outward end.
    """

    pure: float = 1 / 3
    absent: float = 1 / 3


def draw_rotations(
    simplex: OccupiedSimplex,
    weights: PhaseWeights,
    found: OpenDirections,
    prior: RotationPrior,
    number: int,
    generator: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Draw rotations from the prior over what is feasible, and weigh them by the likelihood.

    Returns
    -------
    rotations : (rotation, phase, phase)
    weights : (rotation,)
        Adding up to 1.
    """
    n_phases, shared = len(found.free), simplex.shared
    rotations, log_weights = [], []
    for _ in range(number):
        rotation, allowed_for = np.eye(n_phases), 0.0
        for phase in np.flatnonzero(found.free).tolist():
            lost = float(generator.exponential(TYPICALLY_LOST))
            rotation[phase] = _drawn_row(phase, weights, found, prior, shared[phase], lost, generator)
            allowed_for += lost
        if abs(np.linalg.det(rotation)) > SMALLEST_DETERMINANT:
            rotations.append(rotation)
            log_weights.append(-max(simplex.lost(rotation) - allowed_for, 0.0))
    if not rotations:
        return np.eye(n_phases)[None], np.ones(1)
    logs = np.array(log_weights)
    return np.stack(rotations), shares_of(np.exp(logs - logs.max()))


def _drawn_row(
    phase: int,
    weights: PhaseWeights,
    found: OpenDirections,
    prior: RotationPrior,
    shared: FloatArray,
    lost: float,
    generator: np.random.Generator,
) -> FloatArray:
    """Draw what becomes of one phase: its row of a rotation."""
    stays = np.eye(len(found.free))[phase]
    pure = absent = stays
    out, into = (np.flatnonzero(opens[phase]) for opens in (found.opens_out, found.opens_in))
    if len(into):
        gained = np.zeros(len(stays))
        limits = [amount_in(found.losses[phase, other], lost) for other in into]
        gained[into] = generator.dirichlet(_concentrations(shared[into])) * limits
        pure = turned(phase, gained)
    if len(out):
        direction = np.zeros(len(stays))
        # Scaled by how far each goes by itself: whatever their mixture, the ends of all lie about equally far.
        parts = generator.dirichlet(_concentrations(shared[out])) * found.outwards[phase, out]
        direction[out] = shares_of(parts)
        amount = weights.amount_out(phase, direction, float(generator.normal()), lost)
        absent = turned(phase, -amount * direction)
    where, part = generator.random(2)
    if where < prior.pure:
        part = 0.0
    elif where < prior.pure + prior.absent:
        part = 1.0
    return np.asarray((1.0 - part) * pure + part * absent)


def _concentrations(shared: FloatArray) -> FloatArray:
    """Parameters of the Dirichlet distribution of a direction towards several phases.

    What makes a phase impure is what it shares its places with: a direction towards a phase that it never meets would
    have three phases wherever there were two.
    """
    return np.maximum(CONCENTRATION * len(shared) * shares_of(shared), LEAST_CONCENTRATION)
