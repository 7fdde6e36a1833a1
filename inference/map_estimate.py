"""Maximum a posteriori estimates: limited-memory quasi-Newton steps, re-whitened by the curvature until they stop.

    z = z0 + W v,   W W^T = H(z0)^-1      minimise U over v with L-BFGS, move z0, compute H anew

The stopping rule has a meaning: the whitened gradient norm sqrt(g^T H^-1 g) is the distance to the mode in posterior
standard deviations, and half its square the nats that are left to gain.

References
----------
L-BFGS: Liu, D. C., Nocedal, J., Math. Program. 45 (1989) 503, doi:10.1007/BF01589116.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import OptimizeResult, minimize

FloatArray = npt.NDArray[np.float64]
ValueAndGradient = Callable[[Any, Any], tuple[Any, Any]]
Hessian = Callable[[Any, Any], Any]

# Directions flatter than this are no wider than four prior units: a whitening step may not run away along them.
MIN_CURVATURE = 0.06
# A round that lowers the potential (in nats) by less, and does not halve the distance to the mode, was the last.
LEAST_FALL = 0.01
# After a step this short, in posterior standard deviations, the curvature is what it was.
SHORT_STEP = 0.3


@dataclass(frozen=True, kw_only=True)
class MapEstimate:
    """A mode of the posterior and how well it was found.

    Attributes
    ----------
    z : (dim,)
        Flat parameters at the mode.
    potential : float
        Negative log posterior density there.
    hessian : (dim, dim)
        Curvature of the potential there, or no farther away than `SHORT_STEP`.
    gradient_norm : float
        Whitened gradient norm: distance to the mode in posterior standard deviations.
    n_evaluations : int
    converged : bool
    """

    z: FloatArray
    potential: float
    hessian: FloatArray
    gradient_norm: float
    n_evaluations: int
    converged: bool


def whitening(hessian: FloatArray, min_curvature: float = MIN_CURVATURE) -> FloatArray:
    """Matrix W with W W^T = H^-1, eigenvalues of H taken by magnitude and bounded below, shape (dim, dim)."""
    values, vectors = np.linalg.eigh(hessian)
    return np.asarray(vectors / np.sqrt(np.maximum(np.abs(values), min_curvature)))


def descend(
    value_and_gradient: ValueAndGradient,
    data: object,
    z: FloatArray,
    transform: FloatArray | None = None,
    *,
    max_iterations: int = 150,
    least_fall: float = 0.0,
) -> tuple[FloatArray, float, int]:
    """One L-BFGS run in whitened coordinates, to the end or until an iteration lowers the potential by hardly anything.

    Parameters
    ----------
    value_and_gradient
        Compiled function of (z, data).
    data
        Passed on to it.
    z : (dim,)
        Start.
    transform : (dim, dim), optional
        Whitening.
    max_iterations : int
    least_fall : float
        An iteration that lowers the potential by less, in nats, is the last.

    Returns
    -------
    (z, potential, number of evaluations)
    """
    counter, lowest = 0, np.inf

    def objective(v: FloatArray) -> tuple[float, FloatArray]:
        nonlocal counter
        counter += 1
        value, gradient = value_and_gradient(z + (v if transform is None else transform @ v), data)
        gradient = np.asarray(gradient)
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e30, np.zeros_like(v)
        return float(value), gradient if transform is None else transform.T @ gradient

    def stop_where_flat(intermediate_result: OptimizeResult) -> None:
        nonlocal lowest
        if lowest - intermediate_result.fun < least_fall:
            raise StopIteration
        lowest = intermediate_result.fun

    result = minimize(
        objective,
        np.zeros_like(z),
        jac=True,
        method="L-BFGS-B",
        callback=stop_where_flat,
        options={"maxiter": max_iterations, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-3},
    )
    step = result.x if transform is None else transform @ result.x
    return z + step, float(result.fun), counter


def find_map(
    value_and_gradient: ValueAndGradient,
    hessian: Hessian,
    data: object,
    z: FloatArray,
    *,
    max_rounds: int = 6,
    tolerance: float = 0.03,
    progress: Callable[[str], None] | None = None,
) -> MapEstimate:
    """Mode of the posterior near z.

    Parameters
    ----------
    value_and_gradient, hessian
        Compiled functions of (z, data).
    data
        Passed on to them.
    z : (dim,)
        Start.
    max_rounds : int
        Most re-whitenings.
    tolerance : float
        Whitened gradient norm to reach, in posterior standard deviations.
    """
    potential, evaluations = float(value_and_gradient(z, data)[0]), 1
    reached, step = (np.inf, np.inf), np.inf
    for round_ in range(max_rounds):
        gradient = np.asarray(value_and_gradient(z, data)[1])
        if step > SHORT_STEP:
            curvature = np.asarray(hessian(z, data))
            transform = whitening(curvature)
        norm = float(np.linalg.norm(transform.T @ gradient))
        if progress is not None:
            progress(f"round {round_ + 1}: potential {potential:.2f}, {norm:.3g} sd from the mode")
        # Single precision has an end, too, at which further rounds find the same point again.
        stalled = potential > reached[0] - LEAST_FALL and norm > 0.5 * reached[1]
        if norm < tolerance or stalled:
            break
        reached = potential, norm
        before = z
        z, potential, count = descend(value_and_gradient, data, z, transform)
        step = float(np.linalg.norm(np.linalg.solve(transform, z - before)))
        evaluations += count
    else:
        curvature = np.asarray(hessian(z, data))
        gradient = np.asarray(value_and_gradient(z, data)[1])
        norm = float(np.linalg.norm(whitening(curvature).T @ gradient))
    return MapEstimate(
        z=z,
        potential=potential,
        hessian=curvature,
        gradient_norm=norm,
        n_evaluations=evaluations,
        converged=norm < tolerance,
    )
