"""A NumPyro model as a flat potential: places, Jacobians and curvature."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from scipy.stats import norm

import bayesunmix.models  # noqa: F401 - importing it switches JAX to 64 bits
from bayesunmix.inference.density import FlatModel, compiled, flatten_model, hessian_by_columns

OBSERVED = jnp.asarray([1.5, -0.5, 2.0])


def model(data: jax.Array) -> None:
    """Unknown means and one scale, named against the alphabet to show the order."""
    positive = dist.ImproperUniform(constraints.softplus_positive, (), (1,))
    width = numpyro.sample("width", positive)
    means = numpyro.sample("means", dist.Normal(0.0, 2.0).expand((3,)).to_event(1))
    numpyro.factor("data", dist.Normal(means, width).log_prob(data).sum())


@pytest.fixture(scope="module")
def flat() -> FlatModel:
    return flatten_model(model, OBSERVED, {"width": jnp.ones(1), "means": jnp.zeros(3)})


def test_latents_survive_the_way_there_and_back(flat: FlatModel) -> None:
    latents = {"width": jnp.asarray([0.3]), "means": jnp.asarray([0.1, 0.2, 0.3])}
    z = flat.flatten(latents, OBSERVED)
    assert z.dtype == jnp.float64
    back = flat.constrain(z, OBSERVED)
    assert sorted(back) == ["means", "width"]
    np.testing.assert_allclose(back["width"], latents["width"], rtol=1e-12)
    np.testing.assert_allclose(back["means"], latents["means"], rtol=1e-12)


def test_places_say_where_a_latent_lies(flat: FlatModel) -> None:
    assert flat.size == 4
    z = jnp.arange(4.0)
    np.testing.assert_allclose(z[flat.places["means"]], flat.constrain(z, OBSERVED)["means"])
    width = flat.constrain(z, OBSERVED)["width"]
    np.testing.assert_allclose(np.logaddexp(0.0, z[flat.places["width"]]), width, rtol=1e-12)


def test_potential_holds_prior_factor_and_jacobian(flat: FlatModel) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        z = rng.normal(size=4)
        means, raw = z[flat.places["means"]], z[flat.places["width"]][0]
        width = np.logaddexp(0.0, raw)
        density = norm.logpdf(means, 0.0, 2.0).sum() + norm.logpdf(OBSERVED, means, width).sum()
        density += -np.logaddexp(0.0, -raw)  # log of the derivative of softplus
        assert float(flat.potential(jnp.asarray(z), OBSERVED)) == pytest.approx(-density, rel=1e-10)


def test_data_are_an_argument(flat: FlatModel) -> None:
    value_and_gradient, _ = compiled(flat)
    z = jnp.asarray([0.3, 0.1, -0.2, 0.5])
    for data in (OBSERVED, OBSERVED + 1.0):
        value, gradient = value_and_gradient(z, data)
        assert float(value) == pytest.approx(float(flat.potential(z, data)), rel=1e-12)
        step = 1e-6 * jnp.asarray([1.0, -2.0, 0.5, 1.5])
        difference = (value_and_gradient(z + step, data)[0] - value_and_gradient(z - step, data)[0]) / 2
        assert float(gradient @ step) == pytest.approx(float(difference), rel=1e-6)


@pytest.mark.parametrize("batch", [1, 3])
def test_hessian_by_columns_is_the_hessian(flat: FlatModel, batch: int) -> None:
    z = jnp.asarray([0.3, 0.1, -0.2, 0.5])
    by_columns = jax.jit(partial(hessian_by_columns, flat.potential, batch=batch))
    whole = jax.jit(jax.hessian(flat.potential))(z, OBSERVED)
    np.testing.assert_allclose(by_columns(z, data=OBSERVED), whole, rtol=1e-10, atol=1e-12)


def test_compiled_hessian(flat: FlatModel) -> None:
    z = jnp.asarray([0.3, 0.1, -0.2, 0.5])
    whole = jax.jit(jax.hessian(flat.potential))(z, OBSERVED)
    np.testing.assert_allclose(compiled(flat)[1](z, OBSERVED), whole, rtol=1e-10, atol=1e-12)
