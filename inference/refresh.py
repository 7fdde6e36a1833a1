"""Does an approximation hold for the quantities that are reported? Let the exact density move its draws, and look.

A Markov chain that leaves the posterior unchanged leaves draws of the posterior where they are, in distribution. Draws
of an approximation move towards the posterior: how far each reported quantity has moved, and how much wider or
narrower it has become, is what the approximation got wrong there. A short chain shows it without burn-in, because
the draws start near the posterior and Hamiltonian trajectories of a quarter turn forget where they started.

    z = z_map + W v,   W W^T = H^-1,      leapfrog steps in v, Metropolis-Hastings        (Neal 2011)

Moves are measured in normal scores, u = Phi^-1(rank among the draws of the approximation): mean 0 and sd 1 before,
whatever the scale of the quantity. What the few draws that are moved had before (mean and square, known to be 0 and 1
over all draws) is regressed out, so that the errors are those of the moves alone.

References
----------
Neal, R. M., in Handbook of Markov chain Monte Carlo (2011) 113, arXiv:1206.1901.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from bayesunmix.inference.map_estimate import ValueAndGradient

FloatArray = npt.NDArray[np.float64]

N_MOVED = 128
TRAJECTORIES = 2
# Five steps of 0.3 make a quarter turn, pi / 2, on average; the scatter keeps trajectories from resonating.
LEAPFROG_STEPS = 5
STEP = 0.3
STEP_SCATTER = 0.3
SMALLEST_VARIANCE = 1e-3


@dataclass(frozen=True)
class Refreshed:
    """Draws after the moves.

    Attributes
    ----------
    z : (moved, dim)
    index : (moved,)
        Which draws they were.
    acceptance : float
        Mean acceptance probability; near zero, nothing has been tested.
    """

    z: FloatArray
    index: npt.NDArray[np.int64]
    acceptance: float


@dataclass(frozen=True)
class Moves:
    """How far quantities moved; arrays of the quantities' shape.

    Attributes
    ----------
    shift, shift_error
        Mean move in standard deviations of the approximation, and its standard error.
    log_width, log_width_error
        Log of the sd after the moves over the sd before.
    """

    shift: FloatArray
    shift_error: FloatArray
    log_width: FloatArray
    log_width_error: FloatArray


def refresh(
    value_and_gradient: ValueAndGradient,
    data: object,
    z: FloatArray,
    centre: FloatArray,
    transform: FloatArray,
    *,
    seed: int,
    n_moved: int = N_MOVED,
    threads: int = 2,
    progress: Callable[[float], None] | None = None,
) -> Refreshed:
    """Move some of the draws by a few trajectories that leave exp(-potential) unchanged.

    Parameters
    ----------
    value_and_gradient
        Compiled function of (z, data).
    data
        Passed on to it.
    z : (draw, dim)
        Draws of the approximation.
    centre, transform : (dim,), (dim, dim)
        Mode and whitening.
    seed : int
    n_moved : int
        Draws that are moved, spread evenly.
    threads : int
        Draws that are moved at a time.
    progress : callable, optional
        Told the share that is done.
    """
    index = np.unique(np.linspace(0, len(z) - 1, n_moved).round().astype(np.int64))
    start = np.linalg.solve(transform, (z[index] - centre).T).T
    done = 0

    def whitened(v: FloatArray) -> tuple[float, FloatArray]:
        value, gradient = value_and_gradient(centre + transform @ v, data)
        return float(value), np.asarray(gradient) @ transform

    def moved(number: int) -> tuple[FloatArray, float]:
        nonlocal done
        end, acceptance = _chain(whitened, start[number], np.random.default_rng([seed, 12, number]))
        done += 1
        if progress is not None:
            progress(done / len(index))
        return end, acceptance

    with ThreadPoolExecutor(threads) as pool:
        ends, acceptances = zip(*pool.map(moved, range(len(index))), strict=True)
    return Refreshed(centre + np.array(ends) @ transform.T, index, float(np.mean(acceptances)))


def _chain(
    whitened: Callable[[FloatArray], tuple[float, FloatArray]], v: FloatArray, generator: np.random.Generator
) -> tuple[FloatArray, float]:
    """Follow a few trajectories from v, each with its Metropolis-Hastings step; returns the end and the acceptance."""
    value, gradient = whitened(v)
    acceptances = []
    for _ in range(TRAJECTORIES):
        step = STEP * generator.uniform(1.0 - STEP_SCATTER, 1.0 + STEP_SCATTER)
        place, slope, momentum = v, gradient, generator.standard_normal(len(v))
        energy = value + 0.5 * momentum @ momentum
        for _ in range(LEAPFROG_STEPS):
            momentum = momentum - 0.5 * step * slope
            place = place + step * momentum
            potential, slope = whitened(place)
            momentum = momentum - 0.5 * step * slope
        lost = float(potential + 0.5 * momentum @ momentum - energy)
        acceptances.append(float(np.exp(-max(lost, 0.0))) if np.isfinite(lost) else 0.0)
        if generator.random() < acceptances[-1]:
            v, value, gradient = place, potential, slope
    return v, float(np.mean(acceptances))


def moves(reference: FloatArray, before: FloatArray, after: FloatArray) -> Moves:
    """How far quantities moved.

    Parameters
    ----------
    reference : (draw, ...)
        The quantities in all draws of the approximation.
    before, after : (moved, ...)
        In the draws that were moved, before and after.
    """
    shape = reference.shape[1:]
    columns = zip(
        *(np.moveaxis(x.reshape(len(x), -1), 0, 1) for x in (reference, before, after)), strict=True
    )
    rows = np.array([_move(np.sort(all_), first, last) for all_, first, last in columns]).reshape(-1, 4)
    return Moves(*(column.reshape(shape) for column in rows.T))


def _move(ordered: FloatArray, before: FloatArray, after: FloatArray) -> tuple[float, float, float, float]:
    """Shift and log width of one quantity, each with its error."""
    if ordered[0] == ordered[-1]:
        return 0.0, 0.0, 0.0, 0.0
    u, moved = _scores(ordered, before), _scores(ordered, after)
    shift, shift_error = _adjusted(moved, u)
    square, square_error = _adjusted((moved - shift) ** 2, u**2 - 1.0)
    variance = max(square, SMALLEST_VARIANCE)
    # The scores themselves are uncertain by the number of draws that they are counted in.
    shift_error = float(np.hypot(shift_error, 1.0 / np.sqrt(len(ordered))))
    width_error = float(np.hypot(0.5 * square_error / variance, 1.0 / np.sqrt(2.0 * len(ordered))))
    return shift, shift_error, 0.5 * float(np.log(variance)), width_error


def _scores(ordered: FloatArray, values: FloatArray) -> FloatArray:
    """Score values among sorted draws; those beyond all draws get the score of the outermost."""
    below = 0.5 * (np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right"))
    half = 0.5 / len(ordered)
    return np.asarray(ndtri((below / len(ordered)).clip(half, 1.0 - half)))


def _adjusted(values: FloatArray, known: FloatArray) -> tuple[float, float]:
    """Mean of values, corrected for the chance mean of a variable whose expectation is 0, and its standard error."""
    centred = known - known.mean()
    slope = float(centred @ values / max(float(centred @ centred), 1e-300))
    residual = values - values.mean() - slope * centred
    error = float(np.sqrt(residual @ residual / max(len(values) - 2, 1) / len(values)))
    return float(values.mean() - slope * known.mean()), error
