"""No-U-turn sampling in coordinates whitened by the Laplace curvature.

    z = z_map + W v,   W W^T = H^-1      the posterior of v is nearly a standard normal: the metric is the identity

Warm-up has three parts. The first adapts the step size and shows the few directions in which the posterior is much
wider than its curvature says (ridges along a bound, which no Gaussian at the mode sees); these, and only these, are
stretched. A dense metric adapted to all directions would be noise: its sample covariance has more entries than the
warm-up has draws. The second part adapts the step size anew, and the third measures what it gives and corrects it,
since an average over a short adaptation is rough. Chains run side by side in threads (the compiled
program leaves Python's lock), in chunks, so that progress shows and a Ctrl-C is heard.

References
----------
Hoffman, M. D., Gelman, A., J. Mach. Learn. Res. 15 (2014) 1593. Betancourt, M., arXiv:1701.02434. Eigenvalues of a
sample covariance that noise alone explains: Marchenko, V. A., Pastur, L. A., Math. USSR Sb. 1 (1967) 457.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from numpyro.infer.hmc import hmc
from scipy.special import ndtri

from bayesunmix.inference.compilation import Program
from bayesunmix.inference.minibatch import n_devices

FloatArray = npt.NDArray[np.float64]
Potential = Callable[[jax.Array, Any], jax.Array]

CHUNK = 25
# A kept draw is the end of three trajectories of about a quarter turn (pi / 2) each, which leave neither its place nor
# its distance from the mode much memory; one trajectory until the U-turn costs two thirds and lands near the mirror
# image, which remembers the distance. Trees are as deep as that takes: three doublings for the usual step of 0.2 to
# 0.5, more, and a second compilation, for a smaller one.
TRANSITIONS = 3
USUAL_TREE_DEPTH = 3
TRAJECTORY = 1.5
MAX_TREE_DEPTH = 8
# How the size of a trajectory's energy error grows with the step.
STEP_POWER = 2.8
# Share of the first half of warm-up that is left out when wide directions are looked for.
BURN_IN = 0.3


@dataclass(frozen=True, kw_only=True)
class NutsDraws:
    """Draws and their sampler statistics.

    Attributes
    ----------
    z : (chain, draw, dim)
    potential, energy, accept_probability, step_size : (chain, draw)
    n_leapfrog : (chain, draw) int
    diverging : (chain, draw) bool
    stretched : int
        Directions that warm-up found wider than the curvature says.
    """

    z: FloatArray
    potential: FloatArray
    energy: FloatArray
    accept_probability: FloatArray
    n_leapfrog: npt.NDArray[np.int64]
    step_size: FloatArray
    diverging: npt.NDArray[np.bool_]
    stretched: int


class _Target(NamedTuple):
    """What the compiled program gets anew on each call: the whitening, filled up with zeros, and the model's data."""

    centre: FloatArray
    transform: FloatArray
    data: Any
    free: FloatArray
    """1 for a coordinate, 0 for what fills up: there nothing pulls, and without a momentum nothing moves."""


def nuts_draws(
    potential: Potential,
    data: Any,  # noqa: ANN401 - any pytree
    centre: FloatArray,
    transform: FloatArray,
    *,
    capacity: int | None = None,
    chains: int,
    draws: int,
    warmup: int,
    seed: int,
    target_accept: float = 0.8,
    progress: Callable[[int], None] | None = None,
) -> NutsDraws:
    """Draw from exp(-potential) by NUTS.

    Parameters
    ----------
    potential : (z, data) -> scalar
        Of z filled up to `capacity`.
    data : pytree
    centre : (dim,)
        Mode; chains start from independent draws around it, half a standard deviation wide.
    transform : (dim, dim)
        W, the whitening of `bayesunmix.inference.map_estimate`.
    capacity : int, optional
        Length to which the potential's z is filled up; that of `centre` by default.
    chains, draws : int
    warmup : int
        Trajectories of warm-up in each chain; some hundred of them at least are made.
    seed : int
    target_accept : float
        Mean acceptance probability that the step size is adapted to.
    progress : callable, optional
        Told the number of iterations done after each chunk, over all chains.
    """
    half = max((warmup - TRANSITIONS * CHUNK) // 2, TRANSITIONS)
    keys = jax.random.split(jax.random.PRNGKey(seed), 2 * chains)
    more = (capacity or len(centre)) - len(centre)
    target = _Target(
        centre=np.pad(centre, (0, more)),
        transform=np.pad(transform, (0, more)),
        data=data,
        free=np.repeat([1.0, 0.0], [len(centre), more]),
    )
    sampler = _Sampler(potential, half, target_accept, USUAL_TREE_DEPTH)
    states = [
        sampler.start(_scattered(first, target), second, target)
        for first, second in zip(keys[:chains], keys[chains:], strict=True)
    ]
    run = sampler.compile(states[0], target)
    # Programs that run on several devices must not overlap: each would wait for a device that the other one holds.
    with ThreadPoolExecutor(max_workers=chains if n_devices() == 1 else 1) as pool:

        def run_all(iterations: int) -> list[dict[str, npt.NDArray[Any]]]:
            nonlocal states
            done = list(pool.map(lambda state: _run_chain(run, state, target, iterations, progress), states))
            states = [state for state, _ in done]
            return [kept for _, kept in done]

        # Warm-up counts trajectories: what it keeps for the search of wide directions is the end of every few.
        early = run_all(half // TRANSITIONS)
        wide = _wide_directions(np.stack([kept["v"][:, : len(centre)] for kept in early]))
        target, states = _restretched(sampler, target, states, wide)
        run_all(half // TRANSITIONS)
        trial = run_all(CHUNK)
        step = _corrected_step(trial, target_accept)
        states = [
            state._replace(adapt_state=state.adapt_state._replace(step_size=np.float64(step)))
            for state in states
        ]
        depth = int(np.clip(np.ceil(np.log2(TRAJECTORY / step + 1.0)), USUAL_TREE_DEPTH, MAX_TREE_DEPTH))
        if depth > USUAL_TREE_DEPTH:
            sampler = _Sampler(potential, 0, target_accept, depth, float(step))
            states = [sampler.start(state.z, state.rng_key, target) for state in states]
            run = sampler.compile(states[0], target)
        results = run_all(draws)
    stacked = {name: np.stack([result[name] for result in results]) for name in results[0] if name != "v"}
    v = np.stack([result["v"] for result in results])
    z = (np.asarray(target.centre) + v @ np.asarray(target.transform).T)[..., : len(centre)]
    return NutsDraws(z=z, **stacked, stretched=wide.shape[1])


class _Sampler:
    """NumPyro's NUTS on a whitened potential, with everything that changes passed as arguments."""

    def __init__(
        self, potential: Potential, warmup: int, target_accept: float, depth: int, step: float | None = None
    ) -> None:
        def whitened(target: _Target) -> Callable[[jax.Array], jax.Array]:
            centre, transform = jnp.asarray(target.centre), jnp.asarray(target.transform)
            return lambda v: potential(centre + transform @ v, target.data)

        initialise, self._sample = hmc(potential_fn_gen=whitened, algo="NUTS")
        settings = {
            "num_warmup": warmup,
            "step_size": 0.3 if step is None else step,
            "adapt_step_size": step is None,
            "adapt_mass_matrix": False,
            "target_accept_prob": target_accept,
            "max_tree_depth": depth,
        }
        self._initialise = Program(
            lambda v, key, target: initialise(v, model_args=(target,), rng_key=key, **settings)
        )

    def start(self, v: jax.Array, key: jax.Array, target: _Target) -> Any:  # noqa: ANN401 - NumPyro's sampler state
        """Sampler state at a whitened position, at the beginning of a warm-up."""
        state = self._initialise(v, key, target)
        return state._replace(r=np.zeros(len(target.free)))

    def compile(self, state: Any, target: _Target) -> Callable[[Any, _Target], Any]:  # noqa: ANN401
        """Compile `CHUNK` iterations: (state, target) -> (state, draws and statistics of every iteration)."""

        def chunk(state: Any, target: _Target) -> tuple[Any, dict[str, jax.Array]]:  # noqa: ANN401
            def transition(state: Any, _: None) -> tuple[Any, Any]:  # noqa: ANN401
                key, own = jax.random.split(state.rng_key)
                momentum = target.free * jax.random.normal(own, target.free.shape)
                state = self._sample(state._replace(rng_key=key, r=momentum), model_args=(target,))
                return state, (state.accept_prob, state.num_steps, state.diverging)

            def step(state: Any, _: None) -> tuple[Any, dict[str, jax.Array]]:  # noqa: ANN401
                state, (accepted, steps, diverging) = jax.lax.scan(
                    transition, state, None, length=TRANSITIONS
                )
                kept = {
                    "v": state.z,
                    "potential": state.potential_energy,
                    "energy": state.energy,
                    "accept_probability": accepted.mean(),
                    "n_leapfrog": steps.sum(),
                    "step_size": state.adapt_state.step_size,
                    "diverging": diverging.any(),
                }
                return state, kept

            return jax.lax.scan(step, state, None, length=CHUNK)

        compiled: Callable[[Any, _Target], Any] = Program(chunk).lower(state, target).compile()
        return compiled


@Program
def _scattered(key: jax.Array, target: _Target) -> jax.Array:
    """Whitened place half a standard deviation from the mode."""
    return 0.5 * jnp.asarray(target.free) * jax.random.normal(key, target.free.shape)


def _run_chain(
    run: Callable[[Any, _Target], Any],
    state: Any,  # noqa: ANN401
    target: _Target,
    iterations: int,
    progress: Callable[[int], None] | None,
) -> tuple[Any, dict[str, npt.NDArray[Any]]]:
    """Run one chain in chunks; returns the last state and the first `iterations` draws."""
    kept = []
    for _ in range(max(-(-iterations // CHUNK), 1)):
        state, piece = run(state, target)
        kept.append(jax.tree.map(np.asarray, piece))
        if progress is not None:
            progress(CHUNK)
    return state, {name: np.concatenate([piece[name] for piece in kept])[:iterations] for name in kept[0]}


def _corrected_step(trial: list[dict[str, npt.NDArray[Any]]], target_accept: float) -> float:
    """Step size that should give the target acceptance, from what a trial's step gave.

    The energy error of a trajectory in many dimensions is nearly normal, so the acceptance is a = 2 Phi(-u / 2) with
    u growing as a power of the step (the second by theory: Beskos, A., et al., Bernoulli 19 (2013) 1501,
    doi:10.3150/12-BEJ414; a little faster near the limit of stability).
    """
    accepted = np.clip(np.mean([kept["accept_probability"].mean() for kept in trial]), 0.05, 0.98)
    step = np.exp(np.mean([np.log(kept["step_size"][-1]) for kept in trial]))
    ratio = ndtri(target_accept / 2.0) / ndtri(accepted / 2.0)
    return float(step * np.clip(ratio ** (1.0 / STEP_POWER), 0.3, 2.0))


def _wide_directions(v: FloatArray) -> FloatArray:
    """Directions in which whitened draws spread far more than noise explains, scaled to what they lack.

    Parameters
    ----------
    v : (chain, draw, dim)

    Returns
    -------
    (dim, direction): columns u_i sqrt(lambda_i - 1), so that I + U U^T has the spread lambda_i along u_i; none if
    all is well.
    """
    late = v[:, int(BURN_IN * v.shape[1]) :].reshape(-1, v.shape[-1])
    if len(late) < 50:
        return np.zeros((v.shape[-1], 0))
    values, vectors = np.linalg.eigh(np.cov(late.T))
    # Draws of a short warm-up are correlated: as if one in three counted.
    noise = (1.0 + np.sqrt(3.0 * v.shape[-1] / len(late))) ** 2
    wide = values > 1.5 * noise
    return np.asarray(vectors[:, wide] * np.sqrt(values[wide] - 1.0))


def _restretched(
    sampler: _Sampler, target: _Target, states: list[Any], wide: FloatArray
) -> tuple[_Target, list[Any]]:
    """Stretch the whitening along wide directions and start the second half of warm-up at the same points."""
    stretch, dim = np.eye(len(target.free)), len(wide)
    if wide.shape[1]:
        # Columns of `wide` are orthogonal: each direction is stretched by sqrt(lambda).
        length = np.linalg.norm(wide, axis=0)
        unit = wide / length
        stretch[:dim, :dim] += unit @ np.diag(np.sqrt(length**2 + 1.0) - 1.0) @ unit.T
    stretched = target._replace(transform=target.transform @ stretch)
    inverse = np.linalg.inv(stretch)
    return stretched, [
        sampler.start(inverse @ np.asarray(state.z), state.rng_key, stretched) for state in states
    ]
