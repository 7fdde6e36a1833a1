"""Draws of rotations from a stated prior over what is feasible (`bayesunmix.inference.feasible`).

Which of the rotations is the true one, no count says. Each phase is drawn away from each other one, by itself or all
alike: at its inward end (some pixel holds nothing of the other), at its outward end (an element of the other is
exactly absent), or evenly between the two; one that is declared pure somewhere at its inward end alone. An end is where
the likelihood has lost x nats, x exponential: a density that falls with it. All phases together are weighted by what
the likelihood loses beyond the sum of what each was allowed to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.inference.feasible import OpenDirections, amount_in, amount_lost, turned
from bayesunmix.inference.sharding import n_threads

FloatArray = npt.NDArray[np.float64]

# What the truth loses on average: weights of the points that are learned follow the noise of the outermost places.
TYPICALLY_LOST = 3.0
# Of the directions towards several phases at a time, for each of them; and the least, where they share no place.
CONCENTRATION, LEAST_CONCENTRATION = 0.5, 0.02
# Share of the draws in which a phase that gains of several others gains of each as much as it may, as one does whose
# pixels all hold some of each; in the others all that it gains adds up to one end.
OF_EACH = 0.5
# Share of the draws in which all phases are at the same end.
ALIKE = 0.5
# How many times as much phases gain, where others go outwards, as each by itself.
SCALES = (1.5, 2.25, 3.5, 5.0)
# Walks of three phases and more, their steps, how many phases are drawn anew in each, and rotations that one is chosen
# from. A step asks how far each of its phases goes towards each other one: the more pairs, the fewer walks.
WALKS, STEPS, TOGETHER, FEW = 24, 3, 3, 4
MOST_PAIRS = 6 * WALKS
# Phases nearer than this are one.
SMALLEST_DETERMINANT = 1e-3


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
    found: OpenDirections, prior: RotationPrior, number: int, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw rotations from the prior over what is feasible, and weigh them by the likelihood.

    Of two phases each has its ends whatever the other does. Of three the ends of one hang on where the others are: half
    of the draws then come from walks, which draw a few phases at a time anew about the last rotation, as a Gibbs
    sampler does.

    Returns
    -------
    rotations : (rotation, phase, phase)
    weights : (rotation,)
        Adding up to 1.
    """
    with ThreadPoolExecutor(n_threads()) as pool:
        rotations, weights = _drawn_about(found, prior, number, generator, pool.map)
        if found.free.sum() <= 2:
            return rotations, weights
        phases = np.flatnonzero(~found.closed)
        walks = min(WALKS, MOST_PAIRS // (min(TOGETHER, len(phases)) * (len(phases) - 1)))
        starts = rotations[generator.choice(len(rotations), walks, p=weights)]
        own = [np.random.default_rng(seed) for seed in generator.integers(2**63, size=walks)]
        ends = list(
            pool.map(lambda start, by: _walked(found, phases, start, prior, number // walks, by), starts, own)
        )
    return (
        np.concatenate([rotations, *(there for there, _ in ends)]),
        0.5 * np.concatenate([weights, *(odds / walks for _, odds in ends)]),
    )


def _walked(
    found: OpenDirections,
    phases: npt.NDArray[np.int64],
    start: FloatArray,
    prior: RotationPrior,
    number: int,
    generator: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Walk from a rotation to others, `phases` in random order, and draw about the last one."""
    rotation = start @ np.linalg.inv(found.centre)
    order = np.concatenate([generator.permutation(phases) for _ in range(STEPS)])
    together = min(TOGETHER, len(phases))
    *before, last = (order[step * together : (step + 1) * together] for step in range(STEPS))
    for some in before:
        there, odds = _drawn_about(found.there(rotation, some), prior, FEW, generator)
        rotation = there[generator.choice(len(there), p=odds)] @ rotation
    there, odds = _drawn_about(found.there(rotation, last), prior, number, generator)
    return there @ rotation @ found.centre, odds


def _drawn_about(
    found: OpenDirections,
    prior: RotationPrior,
    number: int,
    generator: np.random.Generator,
    mapped: Callable[..., Iterable[tuple[FloatArray, float]]] = map,
) -> tuple[FloatArray, FloatArray]:
    """Draw rotations about the solution that was found, and their weights; the likelihood is asked through `mapped`."""
    free: list[int] = np.flatnonzero(found.free).tolist()
    drawn = [_drawn_rows(found, prior, free, generator) for _ in range(number)]
    ends = list(mapped(lambda rows: _as_far_inwards(found, free, *rows), drawn))
    gains = np.array([gain for _, gain in ends])
    possible = np.isfinite(gains)
    if not possible.any():
        return found.centre[None], np.ones(1)
    rotations = np.stack([rotation @ found.centre for rotation, _ in ends])[possible]
    allowed = np.array([lost[free].sum() for _, _, lost in drawn])[possible]
    # What a wider simplex gains is the freedom of its points.
    logs = np.minimum(np.minimum(gains[possible], 0.0) + allowed, 0.0)
    return rotations, shares_of(np.exp(logs - logs.max()))


def _drawn_rows(
    found: OpenDirections, prior: RotationPrior, free: list[int], generator: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draw what the free phases gain and lose of each other, (phase, phase) each, and the nats lost, (phase,)."""
    n_phases, shared = len(found.free), found.simplex.shared
    gained, taken = np.zeros((2, n_phases, n_phases))
    lost = generator.exponential(TYPICALLY_LOST, n_phases)
    parts = _parts(prior, n_phases, generator)
    for phase in free:
        own = np.zeros(n_phases) if found.pure[phase] else parts[phase]
        gained[phase], taken[phase] = _drawn_row(
            phase, found, own, shared[phase], float(lost[phase]), generator
        )
    return gained, taken, lost


def _drawn_row(
    phase: int,
    found: OpenDirections,
    parts: FloatArray,
    shared: FloatArray,
    lost: float,
    generator: np.random.Generator,
) -> tuple[FloatArray, FloatArray]:
    """Draw what one phase gains of each other one, and what is taken out of it, (phase,) each."""
    weights, losses, n_phases = found.weights, found.losses[phase], len(shared)
    out, into = (np.flatnonzero(opens[phase]) for opens in (found.opens_out, found.opens_in))
    gained, taken = np.zeros(n_phases), np.zeros(n_phases)
    if len(into):
        of_each = generator.random() < OF_EACH
        lost_by = lost / len(into) if of_each else lost
        limits = np.array([amount_in(losses[other], lost_by) for other in into])
        several = 1.0 if of_each else generator.dirichlet(_concentrations(shared[into]))
        # What has to go, goes whichever way.
        gained[into] = np.where(limits > 0.0, several * limits * (1.0 - parts[into]), limits)
    out = out[parts[out] > 0.0]
    if len(out):
        # Scaled by how far each goes by itself: whatever their mixture, the ends of all lie about equally far.
        several = shares_of(generator.dirichlet(_concentrations(shared[out])) * found.outwards[phase, out])
        direction = several @ found.directions[phase, out]
        noise = generator.standard_normal((weights.mean.shape[1],))
        limits = np.array([max(amount_lost(losses[other], lost), 0.0) for other in out])
        most = 1.0 / max(float(ratio_of(several, limits).sum()), 1e-9)
        amount = min(weights.amount_out(phase, direction, noise, lost, gained), most)
        taken = amount * (several * parts[out]) @ found.directions[phase, out]
    return gained, taken


def _as_far_inwards(
    found: OpenDirections, free: list[int], gained: FloatArray, taken: FloatArray, lost: FloatArray
) -> tuple[FloatArray, float]:
    """Return the rotation in which phases gain as much as `lost` (phase,) lets them, and the nats that it gains.

    By itself each can gain so much; where others have gone outwards, the simplex is wider, and its ends lie further.
    """
    out = (taken > 0.0).any(axis=1)
    further = (gained > 0.0).any(axis=1) & (out.sum() - out > 0)

    def nats(rotation: FloatArray) -> float:
        if abs(np.linalg.det(rotation)) < SMALLEST_DETERMINANT:
            return -np.inf
        won = found.simplex.gained(rotation, found.weights.left_out(rotation))
        return won / max((found.weights.too_sure(rotation[phase], phase) for phase in free), default=1.0)

    def scaled(scale: float) -> tuple[FloatArray, float]:
        rotation = _rotation(free, gained, taken, np.where(further, scale, 1.0))
        return rotation, nats(rotation)

    # The farther, the more it loses: by bisection, since each asks for the likelihood.
    reached, low, high = None, 0, len(SCALES) if further.any() else 0
    while low < high:
        middle = (low + high) // 2
        there = scaled(SCALES[middle])
        if there[1] < -lost[further].sum():
            high = middle
        else:
            reached, low = there, middle + 1
    return scaled(1.0) if reached is None else reached


def _rotation(free: list[int], gained: FloatArray, taken: FloatArray, scale: FloatArray) -> FloatArray:
    """Rotation (phase, phase) in which the free phases gain `scale` times `gained` and lose `taken`."""
    rotation = np.eye(len(gained))
    for phase in free:
        others = np.where(gained[phase] > 0.0, scale[phase], 1.0) * gained[phase] - taken[phase]
        rotation[phase] = turned(phase, others)
    return rotation


def _parts(prior: RotationPrior, n_phases: int, generator: np.random.Generator) -> FloatArray:
    """How far out each phase is away from each other one, (phase, phase), from 0, pure, to 1, an element absent.

    What makes pixels pure, how thin the film is and how large the grains, is common to phases: in a part of the draws
    all are alike.
    """
    where, between = generator.random((2, n_phases, n_phases))
    if generator.random() < ALIKE:
        where = np.full_like(where, generator.random())
    return np.where(where < prior.pure, 0.0, np.where(where < prior.pure + prior.absent, 1.0, between))


def _concentrations(shared: FloatArray) -> FloatArray:
    """Parameters of the Dirichlet distribution of a direction towards several phases.

    What makes a phase impure is what it shares its places with: a direction towards a phase that it never meets would
    have three phases wherever there were two.
    """
    return np.maximum(CONCENTRATION * len(shared) * shares_of(shared), LEAST_CONCENTRATION)
