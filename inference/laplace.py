"""Laplace approximation: a Gaussian at the mode with the inverse curvature as covariance.

    z ~ Normal(z_map, H^-1)

in the model's unconstrained coordinates, so that draws obey every constraint when mapped back. It is exact for a Gaussian
posterior and good for well-determined parameters; it is a rough guide where a positive quantity leans on zero, for which NUTS
is there.
"""

from __future__ import annotations

import jax
import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def laplace_draws(centre: FloatArray, transform: FloatArray, *, chains: int, draws: int, seed: int) -> FloatArray:
    """Independent draws, shape (chain, draw, dim).

    Parameters
    ----------
    centre : (dim,)
        Mode.
    transform : (dim, dim)
        W with W W^T = H^-1.
    chains, draws : int
        Draws are independent; chains only shape them like those of a sampler.
    seed : int
    """
    noise = jax.random.normal(jax.random.PRNGKey(seed), (chains, draws, len(centre)))
    return np.asarray(centre + np.asarray(noise) @ transform.T)
