"""Draws from the fitted posterior by the method that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.config.methods import Laplace, Map, Method, Nuts, Svi
from bayesunmix.fit.draws import Draws, read_draws
from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.trust import Trust, quantity_moves
from bayesunmix.inference.density import FlatModel, Placed
from bayesunmix.inference.guides import guide
from bayesunmix.inference.importance import resample, smoothed
from bayesunmix.inference.laplace import laplace_draws, laplace_log_density, truncated_gaussian
from bayesunmix.inference.map_estimate import whitening
from bayesunmix.inference.nuts import TRANSITIONS, nuts_draws
from bayesunmix.inference.refresh import refresh
from bayesunmix.inference.sharding import n_threads
from bayesunmix.inference.svi import Variational
from bayesunmix.inference.truncated_normal import coordinates

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[float], None]

# An approximation makes at least so many draws, whatever is kept: they are cheap, and fewer could not be judged.
LEAST_DRAWS = 1000
# Draws whose importance ratios are looked at, when none are to be resampled: enough for the shape of the tail.
WEIGHED = 500
# Shares of the stage's time: the draws themselves, the importance ratios, and the exact steps.
DRAWN_SHARE, WEIGHED_SHARE = 0.5, 0.65


@dataclass(frozen=True, kw_only=True)
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
        The draws as flat vectors of the line model's density; None for a single point, and for other endmembers.
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


@dataclass(frozen=True)
class _Target:
    """The posterior where it is computed: its mode, the density, and the model's data on the devices."""

    fitted: FittedPosterior
    model: FlatModel
    placed: Placed

    @classmethod
    def of(cls, fitted: FittedPosterior) -> _Target:
        return cls(fitted, fitted.model, fitted.model.placed(fitted.data))


def posterior_draws(fitted: FittedPosterior, method: Method, seed: int, progress: Progress) -> Drawn:
    """Draw from the posterior of the line model.

    Parameters
    ----------
    fitted : FittedPosterior
    method : Nuts, Laplace, Svi or Map
        With its settings.
    seed : int
    progress : callable
        Told the share that is done.
    """
    match method:
        case Map():
            return Drawn(draws=read_draws(fitted, fitted.estimate.z[None, None]), statistics={})
        case Nuts():
            return _nuts(fitted, method, seed, progress)
        case Laplace():
            target = _Target.of(fitted)
            approximation = _laplace(target, method, seed, lambda share: progress(DRAWN_SHARE * share))
        case Svi():
            target = _Target.of(fitted)
            approximation = _svi(target, method, seed, lambda share: progress(DRAWN_SHARE * share))
    return _checked(target, method, approximation, seed, progress)


def unchecked_draws(fitted: FittedPosterior, number: int, seed: int) -> Draws:
    """Draw around a mode by its curvature, in one chain, and ask the exact density nothing."""
    estimate, positive = fitted.estimate, fitted.model.places["line_units"]
    z = laplace_draws(estimate.z, estimate.hessian, positive, chains=1, draws=number, seed=seed)
    return read_draws(fitted, z)


def _laplace(target: _Target, method: Laplace, seed: int, progress: Progress) -> _Approximation:
    fitted = target.fitted
    estimate, positive = fitted.estimate, target.model.places["line_units"]
    z = laplace_draws(
        estimate.z,
        estimate.hessian,
        positive,
        chains=1,
        draws=_number(method),
        seed=seed,
        progress=progress,
    )[0]
    gaussian = truncated_gaussian(estimate.z, estimate.hessian, positive)

    def log_ratios(number: int) -> FloatArray:
        with ThreadPoolExecutor(n_threads()) as pool:
            values = pool.map(lambda one: target.model.value_and_gradient(one, target.placed)[0], z[:number])
            potentials = np.array(list(values))
        return -potentials - laplace_log_density(gaussian, z[:number], positive)

    return _Approximation(z, log_ratios)


def _svi(target: _Target, method: Svi, seed: int, progress: Progress) -> _Approximation:
    fitted = target.fitted
    estimate, positive = fitted.estimate, target.model.places["line_units"]
    at = coordinates(truncated_gaussian(estimate.z, estimate.hessian, positive), positive)
    variational = Variational(
        lambda z, data: target.model.programs.potential(z, target.placed._replace(data=data)),
        guide(method.guide),
        at,
        target.placed.data,
    )
    found = variational.fit(seed, progress)
    z, noise = variational.draws(found.parameters, _number(method), seed + 1)
    facts = {
        "guide": method.guide,
        "elbo": found.elbo,
        "elbo_gain": found.elbo - float(found.history[0]),
        "svi_rounds": len(found.history) - 1,
        "svi_converged": found.converged,
    }
    return _Approximation(z, lambda n: variational.log_ratios(found.parameters, noise[:n]), facts)


def _checked(
    target: _Target, method: Laplace | Svi, approximation: _Approximation, seed: int, progress: Progress
) -> Drawn:
    """Weigh the draws, pick them anew where that was asked for and is reliable, and test them by exact steps."""
    fitted = target.fitted
    z = approximation.z
    importance = smoothed(approximation.log_ratios(len(z) if method.resample else WEIGHED))
    progress(WEIGHED_SHARE)
    resampled = method.resample and importance.reliable
    if resampled:
        z = z[resample(importance, seed)]
    refreshed = refresh(
        target.model.value_and_gradient,
        target.placed,
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
        pareto_k=importance.pareto_k,
        effective_draws=importance.effective_draws,
        resampled=resampled,
        acceptance=refreshed.acceptance,
        compositions=compositions,
        ratios=ratios,
    )
    in_chains = z[: method.chains * method.draws].reshape(method.chains, method.draws, -1)
    return Drawn(
        draws=_chains(read, method), statistics={}, z=in_chains, trust=trust, facts=approximation.facts
    )


def _number(method: Laplace | Svi) -> int:
    return max(method.chains * method.draws, LEAST_DRAWS)


def _chains(read: Draws, method: Laplace | Svi) -> Draws:
    """Cut the beginning of one long chain into chains."""
    shape, number = (method.chains, method.draws), method.chains * method.draws
    return Draws(
        **{
            entry.name: getattr(read, entry.name)[0, :number].reshape(
                *shape, *getattr(read, entry.name).shape[2:]
            )
            for entry in fields(read)
        }
    )


def _nuts(fitted: FittedPosterior, method: Nuts, seed: int, progress: Progress) -> Drawn:
    done = 0
    # Warm-up counts single trajectories, a draw is the end of a few.
    total = method.chains * (method.warmup // TRANSITIONS + method.draws)

    def advance(iterations: int) -> None:
        nonlocal done
        done += iterations
        progress(min(done / total, 1.0))

    model = fitted.model
    nuts = nuts_draws(
        model.programs.potential,
        model.placed(fitted.data),
        fitted.estimate.z,
        whitening(fitted.estimate.hessian),
        capacity=model.capacity,
        chains=method.chains,
        draws=method.draws,
        warmup=method.warmup,
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
    return Drawn(draws=read_draws(fitted, nuts.z), statistics=statistics, stretched=nuts.stretched, z=nuts.z)
