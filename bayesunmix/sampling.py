"""Draws from the fitted posterior by the method that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.free_fit import FreeFitted
from bayesunmix.inference.laplace import laplace_draws
from bayesunmix.inference.map_estimate import whitening
from bayesunmix.inference.nuts import TRANSITIONS, sample_nuts
from bayesunmix.posterior import Draws, FittedPosterior, read_draws
from bayesunmix.settings import InferenceConfig

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Drawn:
    """Draws and the statistics of the engine that made them.

    Attributes
    ----------
    draws : Draws
    statistics : dict
        Arrays (chain, draw) in ArviZ's names; empty for a single point.
    stretched : int
        Directions that NUTS found wider than the curvature says.
    z : (chain, draw, dim) or None
        The draws as flat vectors; None for a single point.
    """

    draws: Draws
    statistics: dict[str, npt.NDArray[np.generic]]
    stretched: int = 0
    z: FloatArray | None = None


def sample(
    fitted: FittedPosterior, config: InferenceConfig, seed: int, progress: Callable[[float], None]
) -> Drawn:
    """Draw from the posterior.

    Parameters
    ----------
    fitted : FittedPosterior
    config : InferenceConfig
        Method, chains, draws and warm-up.
    seed : int
    progress : callable
        Told the share that is done.
    """
    if isinstance(fitted, FreeFitted):
        return Drawn(fitted.read_draws(config, seed), {})
    estimate = fitted.estimate
    if config.method == "map":
        return Drawn(read_draws(fitted, estimate.z[None, None]), {})
    if config.method == "laplace":
        positive = fitted.model.blocks["line_units"]
        z = laplace_draws(
            estimate.z,
            estimate.hessian,
            positive,
            chains=config.chains,
            draws=config.draws,
            seed=seed,
            progress=progress,
        )
        return Drawn(read_draws(fitted, z), {}, z=z)
    done = 0
    # Warm-up counts single trajectories, a draw is the end of a few.
    total = config.chains * (config.warmup // TRANSITIONS + config.draws)

    def advance(iterations: int) -> None:
        nonlocal done
        done += iterations
        progress(min(done / total, 1.0))

    nuts = sample_nuts(
        fitted.model.potential,
        fitted.data,
        estimate.z,
        whitening(estimate.hessian),
        chains=config.chains,
        draws=config.draws,
        warmup=config.warmup,
        seed=seed,
        progress=advance,
    )
    statistics: dict[str, npt.NDArray[np.generic]] = {
        "lp": -nuts.potential,
        "energy": nuts.energy,
        "acceptance_rate": nuts.accept_probability,
        "n_steps": nuts.n_leapfrog,
        "step_size": nuts.step_size,
        "diverging": nuts.diverging,
    }
    return Drawn(read_draws(fitted, nuts.z), statistics, nuts.stretched, nuts.z)
