"""A NumPyro model as a flat potential: places, Jacobians and curvature."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.distributions import constraints
from scipy.stats import norm

import bayesunmix.models  # noqa: F401 - importing it switches JAX to 64 bits
from bayesunmix.inference.density import COLUMNS_TOGETHER, FlatModel, compiling, flatten_model

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
    latents = {"width": np.array([0.3]), "means": np.array([0.1, 0.2, 0.3])}
    z = flat.flatten(latents)
    assert z.dtype == np.float64
    back = flat.constrain(z)
    assert sorted(back) == ["means", "width"]
    np.testing.assert_allclose(back["width"], latents["width"], rtol=1e-12)
    np.testing.assert_allclose(back["means"], latents["means"], rtol=1e-12)


def test_places_say_where_a_latent_lies(flat: FlatModel) -> None:
    assert flat.size == 4
    z = np.arange(4.0)
    np.testing.assert_allclose(z[flat.places["means"]], flat.constrain(z)["means"])
    width = flat.constrain(z)["width"]
    np.testing.assert_allclose(np.logaddexp(0.0, z[flat.places["width"]]), width, rtol=1e-12)


def test_potential_holds_prior_factor_and_jacobian(flat: FlatModel) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        z = rng.normal(size=4)
        means, raw = z[flat.places["means"]], z[flat.places["width"]][0]
        width = np.logaddexp(0.0, raw)
        density = norm.logpdf(means, 0.0, 2.0).sum() + norm.logpdf(OBSERVED, means, width).sum()
        density += -np.logaddexp(0.0, -raw)  # log of the derivative of softplus
        assert flat.value_and_gradient(z, OBSERVED)[0] == pytest.approx(-density, rel=1e-10)


AT = np.array([0.3, 0.1, -0.2, 0.5])


def test_data_are_an_argument(flat: FlatModel) -> None:
    for data in (OBSERVED, OBSERVED + 1.0):
        value, gradient = flat.value_and_gradient(AT, data)
        exact = flat.programs.potential(jnp.asarray(AT), flat.placed(data))
        assert value == pytest.approx(float(exact), rel=1e-12)
        step = 1e-6 * np.array([1.0, -2.0, 0.5, 1.5])
        ahead, behind = (flat.value_and_gradient(AT + sign * step, data)[0] for sign in (1.0, -1.0))
        assert float(gradient @ step) == pytest.approx((ahead - behind) / 2, rel=1e-6)


def test_data_that_are_placed_stay_where_they_are(flat: FlatModel) -> None:
    placed = flat.placed(OBSERVED)
    assert flat.placed(placed) is placed
    assert flat.value_and_gradient(AT, placed)[0] == flat.value_and_gradient(AT, OBSERVED)[0]


def exact_hessian(flat: FlatModel) -> np.ndarray:
    placed = flat.placed(OBSERVED)
    return np.asarray(jax.jit(jax.hessian(lambda z: flat.programs.potential(z, placed)))(AT))


def test_hessian_is_that_of_the_potential(flat: FlatModel) -> None:
    np.testing.assert_allclose(flat.hessian(AT, OBSERVED), exact_hessian(flat), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rows", [[], [2], [3, 0, 1]])
def test_rows_of_the_hessian(flat: FlatModel, rows: list[int]) -> None:
    found = flat.hessian_rows(AT, OBSERVED, np.array(rows, np.int64))
    np.testing.assert_allclose(found, exact_hessian(flat)[rows], rtol=1e-10, atol=1e-12)


def test_hessian_of_more_columns_than_are_computed_together() -> None:
    size = 2 * COLUMNS_TOGETHER + 3
    root = np.random.default_rng(0).normal(size=(size, size))
    precision = jnp.asarray(root @ root.T)

    def normal(data: jax.Array) -> None:
        place = numpyro.sample("place", dist.ImproperUniform(constraints.real_vector, (), (size,)))
        numpyro.factor("data", -0.5 * place @ data @ place)

    wide = flatten_model(normal, precision, {"place": np.zeros(size)})
    np.testing.assert_allclose(wide.hessian(np.ones(size), precision), precision, rtol=1e-10, atol=1e-10)
    some = np.arange(1, size, 2)
    found = wide.hessian_rows(np.ones(size), precision, some)
    np.testing.assert_allclose(found, np.asarray(precision)[some], rtol=1e-10, atol=1e-10)


def test_programs_compiled_ahead_are_those_that_run(flat: FlatModel) -> None:
    placed = flat.placed(OBSERVED)
    with compiling(flat, placed) as programs:
        value, gradient = programs.value_and_gradient.result()
        rows = programs.hessian.result()
    np.testing.assert_allclose(gradient, flat.value_and_gradient(np.zeros(4), placed)[1])
    assert value == flat.value_and_gradient(np.zeros(4), placed)[0]
    assert rows.shape == (0, 4)
