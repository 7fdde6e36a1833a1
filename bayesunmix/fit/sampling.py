"""Draws from the fitted posterior by the method that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from bayesunmix.config.inference import InferenceConfig
from bayesunmix.fit.draws import Draws, read_draws
from bayesunmix.fit.free_endmembers import FreeFitted
from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.trust import Trust, quantity_moves
from bayesunmix.inference.cut_normal import coordinates
from bayesunmix.inference.density import compiled
from bayesunmix.inference.guides import guide
from bayesunmix.inference.importance import resample, smoothed
from bayesunmix.inference.laplace import cut_gaussian, laplace_draws, laplace_log_density
from bayesunmix.inference.map_estimate import ValueAndGradient, whitening
from bayesunmix.inference.nuts import TRANSITIONS, sample_nuts
from bayesunmix.inference.refresh import refresh
from bayesunmix.inference.sharding import n_threads, place
from bayesunmix.inference.svi import Variational

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[float], None]

# An approximation makes at least so many draws, whatever is kept: they are cheap, and fewer could not be judged.
LEAST_DRAWS = 1000
# Draws whose importance ratios are looked at, when none are to be resampled: enough for the shape of the tail.
WEIGHED = 500
# Shares of the stage's time: the draws themselves, the importance ratios, and the exact steps.
DRAWN_SHARE, WEIGHED_SHARE = 0.5, 0.65


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
    trust : Trust, optional
        What the exact density says of an approximation.
    facts : dict
        Diagnostics of the engine's fit, as run.json holds them.
    """

    draws: Draws
    statistics: dict[str, npt.NDArray[np.generic]]
    stretched: int = 0
    z: FloatArray | None = None
    trust: Trust | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Approximation:
    """Draws z of an approximation, shape (draw, dim), and how to get the log ratios of the first few of them."""

    z: FloatArray
    log_ratios: Callable[[int], FloatArray]
    facts: dict[str, Any] = field(default_factory=dict)


def sample(
    fitted: FittedPosterior, config: InferenceConfig, seed: int, progress: Callable[[float], None]
) -> Drawn:
    """Draw from the posterior.

    Parameters
    ----------
    fitted : FittedPosterior
    config : InferenceConfig
        Method and what it needs: chains, draws, warm-up, guide.
    seed : int
    progress : callable
        Told the share that is done.
    """
    if isinstance(fitted, FreeFitted):
        return Drawn(fitted.read_draws(config, seed), {})
    if config.method == "map":
        return Drawn(read_draws(fitted, fitted.estimate.z[None, None]), {})
    if config.method == "nuts":
        return _nuts(fitted, config, seed, progress)
    data = place(fitted.data)
    value_and_gradient, _ = compiled(fitted.model)
    make = _laplace if config.method == "laplace" else _svi
    approximation = make(
        fitted, data, value_and_gradient, config, seed, lambda share: progress(DRAWN_SHARE * share)
    )
    return _checked(fitted, data, value_and_gradient, approximation, config, seed, progress)


def _laplace(
    fitted: FittedPosterior,
    data: Any,  # noqa: ANN401
    value_and_gradient: ValueAndGradient,
    config: InferenceConfig,
    seed: int,
    progress: Progress,
) -> _Approximation:
    estimate, positive = fitted.estimate, fitted.model.blocks["line_units"]
    z = laplace_draws(
        estimate.z,
        estimate.hessian,
        positive,
        chains=1,
        draws=_number(config),
        seed=seed,
        progress=progress,
    )[0]
    target = cut_gaussian(estimate.z, estimate.hessian, positive)

    def log_ratios(number: int) -> FloatArray:
        with ThreadPoolExecutor(n_threads()) as pool:
            values = pool.map(lambda one: float(value_and_gradient(jnp.asarray(one), data)[0]), z[:number])
            potentials = np.array(list(values))
        return -potentials - laplace_log_density(target, z[:number], positive)

    return _Approximation(z, log_ratios)


def _svi(
    fitted: FittedPosterior,
    data: Any,  # noqa: ANN401
    value_and_gradient: ValueAndGradient,
    config: InferenceConfig,
    seed: int,
    progress: Progress,
) -> _Approximation:
    estimate, positive = fitted.estimate, fitted.model.blocks["line_units"]
    at = coordinates(cut_gaussian(estimate.z, estimate.hessian, positive), positive)
    variational = Variational(fitted.model.potential, guide(config.guide), at, data)
    found = variational.fit(seed, progress)
    z, noise = variational.draws(found.parameters, _number(config), seed + 1)
    facts = {
        "guide": config.guide,
        "elbo": found.elbo,
        "elbo_gain": found.elbo - float(found.history[0]),
        "svi_rounds": len(found.history) - 1,
        "svi_converged": found.converged,
    }
    return _Approximation(z, lambda n: variational.log_ratios(found.parameters, noise[:n]), facts)


def _checked(
    fitted: FittedPosterior,
    data: Any,  # noqa: ANN401
    value_and_gradient: ValueAndGradient,
    approximation: _Approximation,
    config: InferenceConfig,
    seed: int,
    progress: Progress,
) -> Drawn:
    """Weigh the draws, pick them anew where that was asked for and is reliable, and test them by exact steps."""
    z = approximation.z
    importance = smoothed(approximation.log_ratios(len(z) if config.resample else WEIGHED))
    progress(WEIGHED_SHARE)
    resampled = config.resample and importance.reliable
    if resampled:
        z = z[resample(importance, seed)]
    refreshed = refresh(
        value_and_gradient,
        data,
        z,
        fitted.estimate.z,
        whitening(fitted.estimate.hessian),
        seed=seed,
        threads=n_threads(),
        progress=lambda share: progress(WEIGHED_SHARE + (1.0 - WEIGHED_SHARE) * share),
    )
    read, yields = read_draws(fitted, z[None]), np.asarray(fitted.data.yields)
    every = nominal_fractions(read.weights[0], yields)
    after = nominal_fractions(read_draws(fitted, refreshed.z[None]).weights[0], yields)
    compositions, ratios = quantity_moves(every, every[refreshed.index], after)
    trust = Trust(
        importance.pareto_k,
        importance.effective_draws,
        resampled,
        refreshed.acceptance,
        compositions,
        ratios,
    )
    in_chains = z[: config.chains * config.draws].reshape(config.chains, config.draws, -1)
    return Drawn(_chains(read, config), {}, z=in_chains, trust=trust, facts=approximation.facts)


def _number(config: InferenceConfig) -> int:
    return max(config.chains * config.draws, LEAST_DRAWS)


def _chains(read: Draws, config: InferenceConfig) -> Draws:
    """Cut the beginning of one long chain into chains."""
    shape, number = (config.chains, config.draws), config.chains * config.draws
    return Draws(
        *(
            getattr(read, entry.name)[0, :number].reshape(*shape, *getattr(read, entry.name).shape[2:])
            for entry in fields(read)
        )
    )


def _nuts(fitted: FittedPosterior, config: InferenceConfig, seed: int, progress: Progress) -> Drawn:
    done = 0
    # Warm-up counts single trajectories, a draw is the end of a few.
    total = config.chains * (config.warmup // TRANSITIONS + config.draws)

    def advance(iterations: int) -> None:
        nonlocal done
        done += iterations
        progress(min(done / total, 1.0))

    nuts = sample_nuts(
        fitted.model.potential,
        place(fitted.data),
        fitted.estimate.z,
        whitening(fitted.estimate.hessian),
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
