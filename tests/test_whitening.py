"""Coordinates of a descent: the information of the complete data, and that it makes descents short."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.fit.model_data import flat_model
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.whitening import whitening_at
from bayesunmix.inference.map_estimate import descend
from bayesunmix.models.abundance import log_weights
from bayesunmix.models.unmixing import GAUGE_SD, component_weights, spectra

FloatArray = npt.NDArray[np.float64]

N_BLOCKS, N_COUNTS = 500.0, 4e5


@pytest.fixture(scope="module")
def whitening(small_fit: FittedPosterior) -> FloatArray:
    model = flat_model(small_fit.data)
    latents = model.constrain(small_fit.estimate.z)
    return whitening_at(model, small_fit.data, latents, N_BLOCKS, N_COUNTS)


def complete_data(small_fit: FittedPosterior, directions: FloatArray) -> FloatArray:
    """Curvature of the expected log density of pixels whose support points are known, times directions (dim, n)."""
    data, at = small_fit.data, jnp.asarray(small_fit.estimate.z)
    model = flat_model(data)
    points = jnp.asarray(data.prior.support_points)

    def quantities(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        latents = {name: z[place].reshape(model.shapes[name]) for name, place in model.places.items()}
        latents["line_units"] = jax.nn.softplus(latents["line_units"])
        return (
            points @ spectra(data, latents),
            log_weights(data.prior, latents["abundance_xi"]),
            jnp.log(component_weights(data, latents).sum(axis=1)),
        )

    mixed, log_pi, log_total = quantities(at)

    def lost(z: jax.Array) -> jax.Array:
        own, own_log_pi, own_log_total = quantities(z)
        pi = jnp.exp(log_pi)
        # Relative entropies: their curvature at the minimum is Fisher's information.
        blocks = (pi * (log_pi - own_log_pi)).sum()
        counts = (pi[:, None] * mixed * jnp.log(mixed / own)).sum()
        gauge = 0.5 * ((own_log_total - log_total) ** 2).sum() / GAUGE_SD**2
        return N_BLOCKS * blocks + N_COUNTS * counts + gauge

    product = jax.jit(jax.vmap(lambda v: jax.jvp(jax.grad(lost), (at,), (v,))[1], 1, 1))
    return np.asarray(product(jnp.asarray(directions)))


def test_whitened_the_complete_data_and_the_prior_have_unit_curvature(
    small_fit: FittedPosterior, whitening: FloatArray
) -> None:
    places = flat_model(small_fit.data).places
    prior = np.ones((len(whitening), 1))
    prior[places["line_units"]] = 0.25
    # Film thickness and stray signal, which say little, keep their prior units.
    apart = [places["absorption_scale"].start, places["stray_exponent"].start]
    any_way = np.random.default_rng(0).standard_normal((len(whitening), 4))
    any_way[apart] = 0.0
    along = whitening @ any_way
    curved = complete_data(small_fit, along) + prior * along
    curved[apart] = 0.0
    np.testing.assert_allclose(whitening.T @ curved, any_way, atol=1e-6)


def test_a_descent_in_these_coordinates_is_short(small_fit: FittedPosterior) -> None:
    """From a fifth of a standard unit beside the mode, forty iterations reach it."""
    data, mode = small_fit.data, small_fit.estimate
    model = flat_model(data)
    placed = model.placed(data)
    z = mode.z + 0.2 * np.random.default_rng(0).standard_normal(len(mode.z))
    latents = model.constrain(z)
    blocks = float(data.pixels.present.sum())
    counts = float(data.pixels.counts[..., : data.basis.family_templates.shape[2]].sum())
    transform = whitening_at(model, data, latents, blocks, counts)
    begun = model.value_and_gradient(z, placed)[0]
    _, reached, _ = descend(model.value_and_gradient, placed, z, transform, max_iterations=40)
    _, plain, _ = descend(model.value_and_gradient, placed, z, None, max_iterations=40)
    assert begun - mode.potential > 50.0
    assert reached - mode.potential < 0.02 * (plain - mode.potential)
