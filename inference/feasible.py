"""Rotations of endmembers and abundances that fit a map as well: how far they go.

With endmembers S (phase, energy), abundances A (place, phase) and any matrix M whose rows sum to one,

    S' = M S,    A' = A M^-1,    A' S' = A S

so that no count tells the two apart where both are allowed (the area of feasible solutions: Borgen, O. S., Kowalski,
B. R., Anal. Chim. Acta 174 (1985) 1, doi:10.1016/S0003-2670(00)84361-5; its bands: Tauler, R., J. Chemom. 15 (2001)
627, doi:10.1002/cem.654). Row k of M says what becomes of phase k:

    s_k' = (s_k + sum_j c_j s_j) / (1 + sum_j c_j)

*outwards*, c < 0, until weights of s_k' are zero: elements are exactly absent. Counting makes the end soft: it is where
the weights below zero are as unlikely as those that counting would have made, were all that are near zero none. What is
taken out may be another phase less some of a third one, which makes up for what the first has none of.
*Inwards*, c > 0, until the purest place is called pure: beyond that places leave the simplex. An element that is
declared absent stays so: its weight is left out of s_k', which is no longer a mixture of the others.

Both cost likelihood, which is computed: the places of the map are a mixture over points of the simplex, which are
learned anew (`bayesunmix.inference.occupied_simplex`), on edges and faces alike, whatever the model had: where it had
two phases overlap, a rotated solution may need three. Where areas of the map differ or spectra do not fit, the
likelihood is too sure: what a rotation costs is divided by how much larger variances are than the model's (Ribatet, M.,
Cooley, D., Davison, A. C., Stat. Sinica 22 (2012) 813, arXiv:0911.5357, for composite likelihoods).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog

from bayesunmix.core.shares import ratio_of
from bayesunmix.inference.occupied_simplex import OccupiedSimplex

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# Amounts of another phase, lost or gained, at which the loss is computed; between them its root is linear.
AMOUNTS = np.array([-0.6, -0.4, -0.25, -0.16, -0.1, -0.06, -0.03, -0.01, 0.0])
AMOUNTS = np.concatenate([AMOUNTS, [0.01, 0.03, 0.06, 0.1, 0.16, 0.25, 0.4, 0.6, 0.9, 1.4, 2.2]])
HERE = int(np.flatnonzero(AMOUNTS == 0.0)[0])
# A loss beyond which no more is asked: exponential variates are not that large.
MOST_LOST = 30.0
# What is left of a phase at least when others are taken out of it.
LEAST_LEFT = 0.02
# A component of another phase below so many standard deviations may be none.
CLEAR = 3.0
# A weight below so many standard deviations may be none where a phase ends.
NEAR_ZERO = 2.0
# A rotation is open where it moves a weight by more than this many standard deviations before weights end it, and by
# more than that where the likelihood ends it: within root 2 of them a normal one loses a nat, and draws hold it anyway.
OPEN_SDS, MOVED_ANYWAY = 0.5, 3.0
# A phase that is declared pure somewhere is so up to about this amount of another one.
NEARLY_PURE = 0.03
# Most of another phase that is taken out of one. Third phases make up where one part of them lets so many more go out,
# and where that is so many times, and so much, more in all.
MOST_OUT, LEAST_MADE_UP_FOR = 0.9, 2.0
WORTH_IT, LEAST_OUT = 1.2, 0.01
# Rounds of going to the best rotation along each direction, and what a direction must gain in nats.
ROUNDS, LEAST_GAINED, AS_GOOD = 4, 3.0, 0.5
BISECTIONS = 30


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
    templates : (phase, component, energy)
        Spectrum of each component, unit sum.
    implausible : callable
        Nats against weights (phase, component), by what was declared of the phases.
    excess : (phase, component)
        By how much the variance exceeds the model's, where areas of the map differ or spectra do not fit: the
        likelihood is that much too sure.
    """

    mean: FloatArray
    sd: FloatArray
    allowed: BoolArray
    judged: BoolArray
    templates: FloatArray
    implausible: Callable[[FloatArray], float]
    excess: FloatArray

    def rotated(self, row: FloatArray, phase: int) -> FloatArray:
        """Weights of a phase by its row of a rotation."""
        return np.where(self.allowed[phase], np.maximum(row @ self.mean, 0.0), 0.0)

    def left_out(self, rotation: FloatArray) -> FloatArray | None:
        """Return what leaving absent elements out changes the rotated spectra by, (phase, energy), if anything."""
        missing = np.where(self.allowed, 0.0, -rotation @ self.mean)
        return np.einsum("ki,kic->kc", missing, self.templates) if missing.any() else None

    def moved(self, row: FloatArray, phase: int) -> float:
        """How far a row moves the reported amount that it moves most, in its standard deviations."""
        return float(self._moves(row, phase).max(initial=0.0))

    def too_sure(self, row: FloatArray, phase: int) -> float:
        """How many times too many nats the likelihood asks for a row, by the reported amount that it moves most."""
        return float(self.excess[phase, self.judged][np.argmax(self._moves(row, phase))])

    def _moves(self, row: FloatArray, phase: int) -> FloatArray:
        """How far a row moves each reported amount, in its standard deviations."""
        change = np.abs(self.rotated(row, phase) - self.mean[phase])
        return ratio_of(change, self.sd[phase])[self.judged]

    def disbelief(self, row: FloatArray, phase: int) -> float:
        """Nats that a row adds against a phase by what was declared, all others staying as they are."""
        turned_ = self.mean.copy()
        turned_[phase] = self.rotated(row, phase)
        return self.implausible(turned_) - self.implausible(self.mean)

    def clear(self, direction: FloatArray) -> BoolArray:
        """Tell the components that phases mixed as `direction` (phase,) hold beyond doubt, (component,)."""
        return np.asarray(direction @ self.mean > CLEAR * np.sqrt(direction**2 @ self.sd**2))

    def forbids(self, phase: int, other: int) -> bool:
        """Whether a phase can exchange nothing with another one unless what it is declared not to hold is left out."""
        return bool((self.clear(np.eye(len(self.mean))[other]) & ~self.allowed[phase]).any())

    def amount_out(
        self,
        phase: int,
        direction: FloatArray,
        noise: FloatArray,
        most_lost: float,
        gained: FloatArray | None = None,
    ) -> float:
        """Largest part of other phases, mixed as `direction` (phase,), that can be taken out of a phase.

        Weights fall below zero by no more than the errors of counting `noise` (component,), standard normal, would
        have them if all that are near zero there were none; and what was declared becomes less plausible by
        `most_lost` nats at most. The phase may have `gained` of others (phase,) before.
        """
        before = np.eye(len(self.mean))[phase] if gained is None else np.eye(len(self.mean))[phase] + gained
        taken, variance = direction @ self.mean, direction**2 @ self.sd**2
        clear = self.clear(direction) & self.allowed[phase]
        own, own_variance = (before @ self.mean)[clear], (before**2 @ self.sd**2)[clear]
        expected = np.minimum(noise[clear], 0.0) ** 2

        def feasible(amount: float) -> bool:
            sd = np.sqrt(own_variance + amount**2 * variance[clear])
            left = ratio_of(own - amount * taken[clear], sd)
            if (np.minimum(left, 0.0) ** 2).sum() > expected[left < NEAR_ZERO].sum():
                return False
            return self.disbelief(turned(phase, before - amount * direction), phase) <= most_lost

        low, high = 0.0, 1.0 - LEAST_LEFT
        if feasible(high):
            return high
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if feasible(middle) else (low, middle)
        return low

    def directions_out(self, phase: int, other: int, closed: BoolArray) -> list[FloatArray]:
        """Mixtures of phases, (phase,) each, that can be taken out of a phase: another one, and less of third ones.

        What the phase has none of ends it at once, unless a third phase makes up for it: of zirconate that holds
        perovskite but no manganese, perovskite less a little of a spinel that is rich in it can be taken out.
        """
        n_phases = len(self.mean)
        plain = np.eye(n_phases)[other]
        third = np.flatnonzero(~closed & (np.arange(n_phases) != phase) & (np.arange(n_phases) != other))
        held = self.clear(plain) & self.allowed[phase]
        if not len(third) or not held.any():
            return [plain]
        amount, *made_up = _most_out(
            self.mean[phase, held], self.mean[other, held], self.mean[third][:, held]
        )
        alone = min(float(ratio_of(self.mean[phase, held], self.mean[other, held]).min()), MOST_OUT)
        if amount < WORTH_IT * alone + LEAST_OUT:
            return [plain]
        less = plain.copy()
        less[third] = -np.array(made_up) / amount
        return [plain, less]

    def turned(self, rotation: FloatArray) -> PhaseWeights:
        """Return the weights of rotated phases."""
        mean = np.stack([self.rotated(row, phase) for phase, row in enumerate(rotation)])
        sd = np.where(self.allowed, np.sqrt(rotation**2 @ self.sd**2), 0.0)
        return replace(self, mean=mean, sd=sd)


def _most_out(own: FloatArray, other: FloatArray, third: FloatArray) -> FloatArray:
    """Return the largest amount of another phase that can be taken out of one, and the least of third ones to make up.

    Parameters
    ----------
    own, other : (component,)
    third : (phase, component)

    Returns
    -------
    (1 + phase,)
    """
    cost = np.concatenate([[-1.0], np.full(len(third), LEAST_MADE_UP_FOR)])
    within = np.column_stack([other, -third.T]) / other[:, None]
    bounds = [(0.0, MOST_OUT)] + [(0.0, None)] * len(third)
    found = linprog(cost, A_ub=within, b_ub=own / other, bounds=bounds)
    return np.asarray(found.x) if found.success else np.zeros(len(cost))


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
    centre : (phase, phase)
        The best rotation, from which all others go out: none where declarations cost nothing.
    simplex, weights
        There.
    directions : (phase, phase, phase)
        Mixture of phases that is taken out of the first where the second is.
    outwards : (phase, phase)
        Largest share of that which can be taken out of the first.
    losses : (phase, phase, amount)
        Nats lost against the best of its direction where the first gains `AMOUNTS` of the second, or loses them of
        the mixture.
    pure : (phase,) bool
        Phases declared to be pure somewhere.
    closed : (phase,) bool
        Phases without a composition, that exchange nothing.
    opens_out, opens_in : (phase, phase) bool
        Where this moves reported amounts by more than is in the draws already.
    """

    centre: FloatArray
    simplex: OccupiedSimplex
    weights: PhaseWeights
    directions: FloatArray
    outwards: FloatArray
    losses: FloatArray
    pure: BoolArray
    closed: BoolArray
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

    def there(self, rotation: FloatArray, phases: npt.NDArray[np.int64]) -> OpenDirections:
        """Return how far some phases can go from a rotation, the others staying where they are."""
        n_phases = len(self.pure)
        simplex = self.simplex.turned(rotation, self.weights.left_out(rotation))
        moving = np.isin(np.arange(n_phases), phases)
        return _opened(
            np.eye(n_phases), simplex, self.weights.turned(rotation), self.pure, self.closed, moving
        )

    @property
    def any(self) -> bool:
        """Whether a rotation other than none is possible."""
        return bool(self.free.any() or (self.centre != np.eye(len(self.centre))).any())


def amount_in(losses: FloatArray, lost: float) -> float:
    """Largest amount of another phase that a phase can gain for so many nats, from its `losses` (amount,).

    Negative where it has to give some away.
    """
    return _crossed(losses, AMOUNTS, lost)


def amount_lost(losses: FloatArray, lost: float) -> float:
    """Largest amount of another phase that can be taken out for so many nats; negative where it has to gain some."""
    return _crossed(losses[::-1], -AMOUNTS[::-1], lost)


def _crossed(losses: FloatArray, amounts: FloatArray, lost: float) -> float:
    """Amount beyond which more than so many nats are lost, amounts rising."""
    last = int(np.flatnonzero(losses <= lost)[-1]) if (losses <= lost).any() else int(np.argmin(losses))
    if last == len(amounts) - 1 or not np.isfinite(losses[last + 1]):
        return float(amounts[last])
    # Losses grow as squares: their roots are interpolated.
    low, high = np.sqrt(losses[last]), np.sqrt(min(losses[last + 1], MOST_LOST))
    part = min((np.sqrt(lost) - low) / (high - low), 1.0) if high > low else 0.0
    return float(amounts[last] + part * (amounts[last + 1] - amounts[last]))


def open_directions(
    simplex: OccupiedSimplex, weights: PhaseWeights, pure: BoolArray, closed: BoolArray
) -> OpenDirections:
    """Find how far each phase can go from the best rotation.

    Parameters
    ----------
    simplex, weights
        What rotations must keep inside.
    pure : (phase,) bool
        Phases declared to be pure somewhere.
    closed : (phase,) bool
        Phases without a composition, that exchange nothing.
    """
    return _opened(*_centred(simplex, weights, closed), pure, closed, ~closed)


def _opened(
    centre: FloatArray,
    simplex: OccupiedSimplex,
    weights: PhaseWeights,
    pure: BoolArray,
    closed: BoolArray,
    moving: BoolArray,
) -> OpenDirections:
    """Find how far the phases that are `moving` (phase,) can go from `centre`, where `simplex` and `weights` are."""
    n_phases = len(pure)
    outwards = np.zeros((n_phases, n_phases))
    directions = np.tile(np.eye(n_phases), (n_phases, 1, 1))
    losses = np.zeros((n_phases, n_phases, len(AMOUNTS)))
    opens_out, opens_in = (np.zeros((n_phases, n_phases), bool) for _ in range(2))
    for phase, other in _pairs(closed):
        if not moving[phase]:
            continue
        if pure[phase]:
            (lost,) = _losses(simplex, weights, phase, other, [directions[phase, other]], outwards=True)
        else:
            lost, out, direction = _farthest_out(simplex, weights, phase, other, closed)
            directions[phase, other], outwards[phase, other] = direction, out
        losses[phase, other] = lost
        gained = amount_in(lost, 1.0) * np.eye(n_phases)[other]
        opens_in[phase, other] = weights.moved(turned(phase, gained), phase) > MOVED_ANYWAY
        if pure[phase]:
            opens_in[phase, other] &= abs(gained[other]) > NEARLY_PURE
            continue
        least = MOVED_ANYWAY if weights.forbids(phase, other) else OPEN_SDS
        opens_out[phase, other] = weights.moved(turned(phase, -out * direction), phase) > least
        # Of draws that go either way few are left about where the phase was found: they no longer hold the inward end.
        opens_in[phase, other] |= opens_out[phase, other]
    return OpenDirections(
        centre=centre,
        simplex=simplex,
        weights=weights,
        directions=directions,
        outwards=outwards,
        losses=losses,
        pure=pure,
        closed=closed,
        opens_out=opens_out,
        opens_in=opens_in,
    )


def _farthest_out(
    simplex: OccupiedSimplex, weights: PhaseWeights, phase: int, other: int, closed: BoolArray
) -> tuple[FloatArray, float, FloatArray]:
    """Return the losses (amount,) by which another phase goes out farthest, how far, and in which mixture (phase,)."""
    ways = weights.directions_out(phase, other, closed)
    losses = _losses(simplex, weights, phase, other, ways, outwards=False)
    reached = [
        min(_held(weights, phase, way, 1.0), max(amount_lost(lost, 1.0), 0.0))
        for way, lost in zip(ways, losses, strict=True)
    ]
    best = int(np.argmax(reached))
    return losses[best], reached[best], ways[best]


def _pairs(closed: BoolArray) -> list[tuple[int, int]]:
    return list(itertools.permutations(np.flatnonzero(~closed).tolist(), 2))


def _centred(
    simplex: OccupiedSimplex, weights: PhaseWeights, closed: BoolArray
) -> tuple[FloatArray, OccupiedSimplex, PhaseWeights]:
    """Go to the best rotation along each direction in which absent elements are left out, round after round."""
    n_phases = len(closed)
    centre = np.eye(n_phases)
    for _ in range(ROUNDS):
        turns = 0
        for phase, other in _pairs(closed):
            if not weights.forbids(phase, other):
                continue
            ways = weights.directions_out(phase, other, closed)
            tried = _losses(simplex, weights, phase, other, ways, outwards=False)
            best = int(np.argmax([lost[HERE] for lost in tried]))
            lost, direction = tried[best], ways[best]
            if lost[HERE] < LEAST_GAINED:
                continue
            good = np.flatnonzero(lost < AS_GOOD)
            amount = float(AMOUNTS[good[np.argmin(np.abs(AMOUNTS[good]))]])
            amount = max(amount, -_held(weights, phase, direction, MOST_LOST))
            rotation = _one_turned(n_phases, phase, other, amount, direction)
            simplex = simplex.turned(rotation, weights.left_out(rotation))
            weights = weights.turned(rotation)
            centre, turns = rotation @ centre, turns + 1
        if not turns:
            break
    return centre, simplex, weights


def _losses(
    simplex: OccupiedSimplex,
    weights: PhaseWeights,
    phase: int,
    other: int,
    ways: list[FloatArray],
    *,
    outwards: bool,
) -> list[FloatArray]:
    """Nats lost where a phase gains `AMOUNTS` of another one, or loses them of a mixture, against the best of them.

    Outwards nothing is lost but by absent elements and by what third phases make up for; what is gained there, because
    the phase was not as pure as it may be, is asked where `outwards` is set.

    Returns
    -------
    list of (amount,)
        One for each of `ways`, the mixtures (phase,).
    """
    outwards = outwards or weights.forbids(phase, other)

    def ask(gained: FloatArray, numbers: range, direction: FloatArray, most: float) -> None:
        hopeless = False
        for number in numbers:
            # The end itself stands for the first amount beyond it.
            amount = max(float(AMOUNTS[number]), -most)
            if hopeless or (number < HERE and amount >= AMOUNTS[number + 1]):
                gained[number] = -np.inf
                continue
            rotation = _one_turned(len(direction), phase, other, amount, direction)
            gained[number] = simplex.gained(rotation, weights.left_out(rotation))
            gained[number] /= weights.too_sure(rotation[phase], phase)
            gained[number] -= max(weights.disbelief(rotation[phase], phase), 0.0)
            hopeless = amount > AMOUNTS[number] or gained[number] < gained.max() - MOST_LOST

    inwards = np.zeros(len(AMOUNTS))
    ask(inwards, range(HERE + 1, len(AMOUNTS)), ways[0], 0.0)
    found = []
    for direction in ways:
        gained = inwards.copy()
        if outwards or (direction < 0.0).any():
            ask(gained, range(HERE - 1, -1, -1), direction, _held(weights, phase, direction, MOST_LOST))
        else:
            # What a wider simplex gains is the freedom of its points.
            gained = np.minimum(gained, 0.0)
        found.append(np.asarray(gained.max() - gained))
    return found


def _held(weights: PhaseWeights, phase: int, direction: FloatArray, lost: float) -> float:
    """Largest amount of a mixture that a phase can give away: a spectrum cannot be less than nothing."""
    return weights.amount_out(phase, direction, np.zeros(weights.mean.shape[1]), lost)


def _one_turned(n_phases: int, phase: int, other: int, amount: float, direction: FloatArray) -> FloatArray:
    """Rotation in which a phase gains an amount of another one, or loses as much of a mixture."""
    rotation = np.eye(n_phases)
    rotation[phase] = turned(phase, amount * (rotation[other] if amount > 0.0 else direction))
    return rotation
