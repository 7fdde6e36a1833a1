"""No-U-turn sampling in coordinates whitened by the Laplace curvature.

    z = z_map + W v,   W W^T = H^-1         the posterior of v is close to a standard normal, so the metric is the identity

Warm-up therefore adapts the step size only. Chains run side by side in threads (the compiled program leaves Python's lock),
in chunks, so that progress shows and a stop between chunks loses no more than one chunk.

References
----------
Hoffman, M. D., Gelman, A., J. Mach. Learn. Res. 15 (2014) 1593. Betancourt, M., arXiv:1701.02434.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from numpyro.infer import NUTS

FloatArray = npt.NDArray[np.float64]
CHUNK = 50
MAX_TREE_DEPTH = 7


@dataclass(frozen=True)
class NutsDraws:
    """Draws and their sampler statistics.

    Attributes
    ----------
    z : (chain, draw, dim)
    potential, accept_probability, n_leapfrog, energy, step_size : (chain, draw)
    diverging : (chain, draw) bool
    """

    z: FloatArray
    potential: FloatArray
    energy: FloatArray
    accept_probability: FloatArray
    n_leapfrog: npt.NDArray[np.int64]
    step_size: FloatArray
    diverging: npt.NDArray[np.bool_]


def sample_nuts(
    potential: Callable[[jax.Array, Any], jax.Array],
    data: Any,
    centre: FloatArray,
    transform: FloatArray,
    *,
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
    data : pytree
    centre : (dim,)
        Mode; chains start at independent draws of the Gaussian approximation, half a standard deviation wide.
    transform : (dim, dim)
        W, the whitening of `bayesunmix.inference.map_estimate`.
    chains, draws, warmup : int
    seed : int
    target_accept : float
        Mean acceptance probability that the step size is adapted to.
    progress : callable, optional
        Told the number of iterations done after each chunk, over all chains.
    """
    location, matrix = jnp.asarray(centre), jnp.asarray(transform)

    def whitened(v: jax.Array) -> jax.Array:
        return potential(location + matrix @ v, data)

    kernel = NUTS(
        potential_fn=whitened,
        step_size=0.4,
        adapt_mass_matrix=False,
        target_accept_prob=target_accept,
        max_tree_depth=MAX_TREE_DEPTH,
    )
    keys = jax.random.split(jax.random.PRNGKey(seed), 2 * chains)
    states = []
    for chain in range(chains):
        start = 0.5 * jax.random.normal(keys[2 * chain], (len(centre),))
        states.append(kernel.init(keys[2 * chain + 1], warmup, init_params=start, model_args=(), model_kwargs={}))

    def chunk(state: Any) -> tuple[Any, dict[str, jax.Array]]:
        def step(state: Any, _: None) -> tuple[Any, dict[str, jax.Array]]:
            state = kernel.sample(state, (), {})
            kept = {
                "z": location + matrix @ state.z,
                "potential": state.potential_energy,
                "energy": state.energy,
                "accept_probability": state.accept_prob,
                "n_leapfrog": state.num_steps,
                "step_size": state.adapt_state.step_size,
                "diverging": state.diverging,
            }
            return state, kept

        return jax.lax.scan(step, state, None, length=CHUNK)

    run_chunk = jax.jit(chunk).lower(states[0]).compile()
    total = warmup + draws
    n_chunks = -(-total // CHUNK)

    def run_chain(state: Any) -> dict[str, npt.NDArray[Any]]:
        kept = []
        for _ in range(n_chunks):
            state, piece = run_chunk(state)
            kept.append(jax.tree.map(np.asarray, piece))
            if progress is not None:
                progress(CHUNK)
        return {name: np.concatenate([piece[name] for piece in kept])[warmup:total] for name in kept[0]}

    with ThreadPoolExecutor(max_workers=chains) as pool:
        results = list(pool.map(run_chain, states))
    return NutsDraws(**{name: np.stack([result[name] for result in results]) for name in results[0]})
