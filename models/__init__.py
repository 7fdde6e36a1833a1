"""Probability models and their priors; importing them switches JAX to 64-bit numbers, which the likelihood needs."""

import jax

# A log-likelihood of 1e7 in 32 bits resolves 1 nat; samplers need a thousandth of that.
jax.config.update("jax_enable_x64", True)  # type: ignore[no-untyped-call]
