"""Draws of rotations from a stated prior over what is feasible (`bayesunmix.inference.feasible`).

Which of the rotations is the true one, no count says. Each phase is drawn by itself, and away from each other one by
itself: at its inward end (some pixel holds nothing of the other), at its outward end (an element of the other is
exactly absent), or evenly between the two; one that is declared pure somewhere at its inward end alone. An end is where
the likelihood has lost x nats, x exponential: a density that falls with it. All phases together are weighted by what
the likelihood loses beyond the sum of what each was allowed to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.inference.feasible import OpenDirections, amount_in, amount_lost, turned

FloatArray = npt.NDArray[np.float64]

# What the truth loses on average: weights of the points that are learned follow the noise of the outermost places.
TYPICALLY_LOST = 3.0
# Of the directions towards several phases at a time, for each of them; and the least, where they share no place.
CONCENTRATION, LEAST_CONCENTRATION = 0.5, 0.02
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


DECLARED_PURE = RotationPrior(pure=1.0, absent=0.0)


def draw_rotations(
    found: OpenDirections, prior: RotationPrior, number: int, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draw rotations from the prior over what is feasible, and weigh them by the likelihood.

    Returns
    -------
    rotations : (rotation, phase, phase)
    weights : (rotation,)
        Adding up to 1.
    """
    n_phases, shared = len(found.free), found.simplex.shared
    free: list[int] = np.flatnonzero(found.free).tolist()
    rotations, gains, allowed = [], [], []
    for _ in range(number):
        rotation, allowed_for = np.eye(n_phases), 0.0
        for phase in free:
            lost = float(generator.exponential(TYPICALLY_LOST))
            own = DECLARED_PURE if found.pure[phase] else prior
            rotation[phase] = _drawn_row(phase, found, own, shared[phase], lost, generator)
            allowed_for += lost
        if abs(np.linalg.det(rotation)) > SMALLEST_DETERMINANT:
            rotations.append(rotation @ found.centre)
            gained = found.simplex.gained(rotation, found.weights.left_out(rotation))
            gains.append(gained / max(found.weights.too_sure(rotation[phase], phase) for phase in free))
            allowed.append(allowed_for)
    if not rotations:
        return found.centre[None], np.ones(1)
    # What a wider simplex gains is the freedom of its points.
    logs = np.minimum(np.minimum(np.array(gains), 0.0) + np.array(allowed), 0.0)
    return np.stack(rotations), shares_of(np.exp(logs - logs.max()))


def _drawn_row(
    phase: int,
    found: OpenDirections,
    prior: RotationPrior,
    shared: FloatArray,
    lost: float,
    generator: np.random.Generator,
) -> FloatArray:
    """Draw what becomes of one phase: its row of a rotation."""
    weights, losses, n_phases = found.weights, found.losses[phase], len(shared)
    out, into = (np.flatnonzero(opens[phase]) for opens in (found.opens_out, found.opens_in))
    parts = _parts(prior, n_phases, generator)
    gained, taken = np.zeros(n_phases), np.zeros(n_phases)
    if len(into):
        limits = np.array([amount_in(losses[other], lost) for other in into])
        several = generator.dirichlet(_concentrations(shared[into]))
        # What has to go, goes whichever way; what is gained of several others adds up to one end.
        gained[into] = np.where(limits > 0.0, several * limits * (1.0 - parts[into]), limits)
    out = out[parts[out] > 0.0]
    if len(out):
        direction = np.zeros(n_phases)
        # Scaled by how far each goes by itself: whatever their mixture, the ends of all lie about equally far.
        several = generator.dirichlet(_concentrations(shared[out])) * found.outwards[phase, out]
        direction[out] = shares_of(several)
        noise = generator.standard_normal((weights.mean.shape[1],))
        limits = np.array([max(amount_lost(losses[other], lost), 0.0) for other in out])
        most = 1.0 / max(float(ratio_of(direction[out], limits).sum()), 1e-9)
        taken = parts * min(weights.amount_out(phase, direction, noise, lost, gained), most) * direction
    return turned(phase, gained - taken)


def _parts(prior: RotationPrior, n_phases: int, generator: np.random.Generator) -> FloatArray:
    """How far out a phase is away from each other one, (phase,), from 0, pure, to 1, an element absent."""
    where, between = generator.random((2, n_phases))
    return np.where(where < prior.pure, 0.0, np.where(where < prior.pure + prior.absent, 1.0, between))


def _concentrations(shared: FloatArray) -> FloatArray:
    """Parameters of the Dirichlet distribution of a direction towards several phases.

    What makes a phase impure is what it shares its places with: a direction towards a phase that it never meets would
    have three phases wherever there were two.
    """
    return np.maximum(CONCENTRATION * len(shared) * shares_of(shared), LEAST_CONCENTRATION)
