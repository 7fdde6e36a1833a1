"""NUTS on a small NumPyro model, with the usual diagnostics.

For models of tens of parameters that need no whitening of their own: NumPyro's sampler adapts step and diagonal
metric (Hoffman, M. D., Gelman, A., J. Mach. Learn. Res. 15 (2014) 1593). Chains run side by side, vectorised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import numpy.typing as npt
from numpyro.infer import MCMC, NUTS, init_to_uniform

from bayesunmix.core.threads import ONE_MODEL
from bayesunmix.inference.compilation import Program

FloatArray = npt.NDArray[np.float64]

TARGET_ACCEPT = 0.9


@dataclass(frozen=True)
class ModelDraws:
    """Draws of every latent and deterministic variable of a model.

    Attributes
    ----------
    draws : dict of str to (chain, draw, ...)
        By the names in the model.
    divergences : int
        Draws whose trajectory diverged.
    steps : float
        Mean number of leapfrog steps of a draw.
    """

    draws: dict[str, FloatArray]
    divergences: int
    steps: float


class ModelSampler:
    """A NumPyro model compiled once, whose posterior is drawn from for data of the same shapes as often as wanted.

    Parameters
    ----------
    model
        NumPyro model of one argument, the data, and of the keywords in `settings`.
    chains, draws, warmup
        Numbers of chains, and of draws of each.
    thinning
        Only every so-manyth of the draws is kept.
    **settings
        Keywords that decide on the structure of the model.
    """

    def __init__(
        self,
        model: Callable[..., None],
        *,
        chains: int = 2,
        draws: int = 1000,
        warmup: int = 750,
        thinning: int = 1,
        **settings: object,
    ) -> None:
        kernel = NUTS(
            lambda data: model(data, **settings),
            target_accept_prob=TARGET_ACCEPT,
            init_strategy=init_to_uniform(radius=0.5),
        )

        def run(key: jax.Array, data: Any) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:  # noqa: ANN401
            mcmc = MCMC(
                kernel,
                num_warmup=warmup,
                num_samples=draws,
                num_chains=chains,
                thinning=thinning,
                chain_method="vectorized",
                progress_bar=False,
            )
            mcmc.run(key, data, extra_fields=("diverging", "num_steps"))
            return mcmc.get_samples(group_by_chain=True), mcmc.get_extra_fields()

        # NumPyro compiles anew at every run; inside one program it is compiled once.
        self._run = Program(run)

    def draw(self, data: Any, seed: int) -> ModelDraws:  # noqa: ANN401 - any pytree
        """Draw from the posterior given the data."""
        with ONE_MODEL:
            drawn, fields = self._run(jax.random.PRNGKey(seed), data)
        draws = {name: np.asarray(value) for name, value in drawn.items()}
        return ModelDraws(draws, int(fields["diverging"].sum()), float(fields["num_steps"].mean()))
