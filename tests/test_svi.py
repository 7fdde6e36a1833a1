"""Guides and their fit, on targets of known density, and mini-batches that bias nothing."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import truncnorm

import bayesunmix.models  # noqa: F401 - importing it switches JAX to 64 bits
from bayesunmix.config.names import GUIDES
from bayesunmix.inference import minibatch, svi
from bayesunmix.inference.guides import GUIDE_NAMES, guide
from bayesunmix.inference.laplace import (
    TruncatedGaussian,
    laplace_draws,
    laplace_log_density,
    truncated_gaussian,
)
from bayesunmix.inference.minibatch import batch_size, draw_batch
from bayesunmix.inference.svi import FittedGuide, Potential, Variational
from bayesunmix.inference.truncated_normal import Coordinates, coordinates, to_z
from bayesunmix.models.pixels import PixelChunks, no_pixels

FloatArray = npt.NDArray[np.float64]

DIM = 4
ERRORS = 4.5


class Data(NamedTuple):
    """Observations in chunks."""

    pixels: PixelChunks


NO_PIXELS = Data(no_pixels(1, DIM))


def plain() -> Coordinates:
    return coordinates(TruncatedGaussian(np.zeros(DIM), np.eye(DIM)), slice(0, 0))


def fitted(potential: Potential, name: str, data: Data = NO_PIXELS) -> tuple[Variational, FittedGuide]:
    variational = Variational(potential, guide(name), plain(), data)
    return variational, variational.fit(0)


def test_the_configuration_knows_every_guide() -> None:
    assert GUIDES == GUIDE_NAMES


@pytest.mark.parametrize("name", GUIDE_NAMES)
def test_transport_and_inverse_agree(name: str) -> None:
    own = guide(name)
    n = jax.random.normal(jax.random.PRNGKey(1), (DIM,))

    @jax.jit
    def everything(start: Any, keys: jax.Array) -> tuple[jax.Array, ...]:  # noqa: ANN401
        leaves, structure = jax.tree.flatten(start)
        drawn = [
            leaf + 0.5 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)
        ]
        parameters = jax.tree.unflatten(structure, drawn)
        e, log_slope = own.transport(parameters, n)
        jacobian = jax.jacobian(lambda n: own.transport(parameters, n)[0])(n)
        return *own.transport(start, n), log_slope, jacobian, *own.inverse(parameters, e)

    start = own.initial(DIM, jax.random.PRNGKey(0))
    keys = jax.random.split(jax.random.PRNGKey(2), len(jax.tree.leaves(start)))
    moved, at_start, log_slope, jacobian, back, same = everything(start, keys)
    np.testing.assert_allclose(moved, n, atol=1e-12)  # the identity
    assert float(at_start) == pytest.approx(0.0, abs=1e-12)
    np.testing.assert_allclose(back, n, atol=1e-10)
    assert float(log_slope) == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-10)
    assert float(same) == pytest.approx(float(log_slope), abs=1e-10)


ROOT = np.array([[1.2, 0.0, 0.0, 0.0], [0.4, 0.9, 0.0, 0.0], [-0.3, 0.3, 0.8, 0.0], [0.2, 0.1, -0.4, 1.1]])
MEAN = np.array([0.5, -0.8, 0.3, 0.0])


def gaussian(z: jax.Array, data: object) -> jax.Array:
    whitened = jnp.linalg.solve(ROOT, z - MEAN)
    return 0.5 * whitened @ whitened


@pytest.mark.calibration
@pytest.mark.parametrize("name", ["low_rank", "flow"])
def test_a_gaussian_is_found(name: str) -> None:
    variational, found = fitted(gaussian, name)
    assert found.converged
    # The bound is tight where the guide holds the target: log of the integral of exp(-U), without (2 pi)^(dim / 2).
    exact = float(np.linalg.slogdet(ROOT)[1])
    assert found.elbo == pytest.approx(exact, abs=0.1)
    z, noise = variational.draws(found.parameters, 20_000, 7)
    np.testing.assert_allclose(z.mean(axis=0), MEAN, atol=0.1)
    np.testing.assert_allclose(np.cov(z.T), ROOT @ ROOT.T, atol=0.15)
    assert variational.log_ratios(found.parameters, noise[:100]).std() < 0.3


@pytest.mark.calibration
def test_a_mean_field_finds_means_and_conditional_widths() -> None:
    variational, found = fitted(gaussian, "mean_field")
    z, _ = variational.draws(found.parameters, 20_000, 7)
    np.testing.assert_allclose(z.mean(axis=0), MEAN, atol=0.1)
    # Its known defect: the optimum has the precision's diagonal, not the covariance's.
    precision = np.linalg.inv(ROOT @ ROOT.T)
    np.testing.assert_allclose(z.std(axis=0), 1 / np.sqrt(np.diag(precision)), rtol=0.08)
    assert found.elbo < float(np.linalg.slogdet(ROOT)[1]) - 0.2


def bent(z: jax.Array, data: object) -> jax.Array:
    """Bend a banana: skewed in the last coordinate, which follows the square of the first."""
    return 0.5 * (z[0] ** 2 + z[1] ** 2 + z[2] ** 2 + ((z[3] - 0.8 * (z[0] ** 2 - 1.0)) / 0.7) ** 2)


@pytest.mark.calibration
def test_the_flow_bends_where_gaussians_cannot() -> None:
    elbo = {name: fitted(bent, name)[1].elbo for name in ("full_rank", "flow")}
    exact = float(np.log(0.7))
    assert elbo["flow"] > elbo["full_rank"] + 0.05
    # On 32 fixed draws the bound scatters.
    assert elbo["flow"] < exact + 0.3


@pytest.mark.parametrize("lowest", [-3.0, 0.0, 0.7, 5.0, 40.0])
def test_coordinates_make_a_truncated_normal_normal(lowest: float) -> None:
    sd = 0.6
    at = coordinates(TruncatedGaussian(np.array([lowest * sd]), np.array([[sd**2]])), slice(0, 1))
    e = jnp.linspace(-5.0, 5.0, 41)
    z, log_jacobian = jax.vmap(lambda one: to_z(at, one[None]))(e)
    y = np.logaddexp(0.0, np.asarray(z)[:, 0])
    expected = truncnorm(-lowest, np.inf, lowest * sd, sd)
    np.testing.assert_allclose(y, expected.isf(np.asarray(jax.scipy.stats.norm.sf(e))), rtol=1e-5, atol=1e-9)
    slope = jax.vmap(jax.grad(lambda one: to_z(at, one[None])[0][0]))(e)
    np.testing.assert_allclose(np.diff(np.log(slope) - log_jacobian), 0.0, atol=1e-6)


def test_coordinates_start_at_a_gaussian_truncated_in_several_directions() -> None:
    """Two normals that the bound truncates and that move each other, a positive one far from it, and a free one."""
    mean = np.array([-0.8, 0.3, 12.0, 2.0])
    root = np.array(
        [[1.0, 0.0, 0.0, 0.0], [-0.6, 0.6, 0.0, 0.0], [0.5, -0.5, 1.0, 0.0], [-0.7, 0.2, 0.4, 0.8]]
    )
    at = coordinates(TruncatedGaussian(mean, root @ root.T), slice(0, 3))
    rng = np.random.default_rng(0)
    tried = mean + rng.normal(size=(400_000, 4)) @ root.T
    exact = tried[(tried[:, :3] > 0.0).all(axis=1)]
    z = jax.vmap(lambda e: to_z(at, e)[0])(jnp.asarray(rng.normal(size=(40_000, 4))))
    found = np.array(z)
    found[:, :3] = np.logaddexp(0.0, found[:, :3])
    # The first one's own normal, truncated alone, is another.
    assert truncnorm(0.8, np.inf, -0.8, 1.0).mean() > 1.4 * exact[:, 0].mean()
    np.testing.assert_allclose(found.mean(axis=0), exact.mean(axis=0), atol=0.04)
    np.testing.assert_allclose(found.std(axis=0), exact.std(axis=0), rtol=0.06)
    np.testing.assert_allclose(np.corrcoef(found.T), np.corrcoef(exact.T), atol=0.05)
    some = jnp.asarray(rng.normal(size=(20, 4)))
    slopes = jax.vmap(jax.jacobian(lambda e: to_z(at, e)[0]))(some)
    off = jnp.linalg.slogdet(slopes)[1] - jax.vmap(lambda e: to_z(at, e)[1])(some)
    np.testing.assert_allclose(off, off[0], atol=1e-6)


def truncated(z: jax.Array, data: object) -> jax.Array:
    """Correlated normals at -0.4 and 1.2, truncated at zero: y = softplus(z) with a flat prior."""
    precision = jnp.linalg.inv(jnp.asarray([[1.0, -0.5], [-0.5, 1.0]]))
    off = jax.nn.softplus(z) - jnp.asarray([-0.4, 1.2])
    return 0.5 * off @ precision @ off - jax.nn.log_sigmoid(z).sum()


def test_laplace_density_is_that_of_its_draws() -> None:
    gradient, curvature = jax.jit(jax.grad(truncated)), jax.jit(jax.hessian(truncated))
    mode = np.zeros(2)
    for _ in range(200):
        mode -= 0.3 * np.linalg.solve(curvature(mode, None) + 0.5 * np.eye(2), gradient(mode, None))
    hessian = np.asarray(curvature(mode, None))
    target = truncated_gaussian(mode, hessian, slice(0, 2))
    np.testing.assert_allclose(target.mean, [-0.4, 1.2], atol=1e-6)
    draws = laplace_draws(mode, hessian, slice(0, 2), chains=1, draws=300, seed=1)[0]
    log_q = laplace_log_density(target, draws, slice(0, 2))
    exact = -np.asarray(jax.vmap(lambda one: truncated(one, None))(jnp.asarray(draws)))
    np.testing.assert_allclose(log_q - exact, (log_q - exact)[0], atol=1e-6)


@pytest.mark.calibration
def test_a_guide_follows_a_quantity_into_zero() -> None:
    at = coordinates(
        TruncatedGaussian(np.array([-0.4, 1.2]), np.array([[1.0, -0.5], [-0.5, 1.0]])), slice(0, 2)
    )
    variational = Variational(truncated, guide("full_rank"), at, NO_PIXELS)
    found = variational.fit(0)
    z, noise = variational.draws(found.parameters, 4000, 1)
    tried = np.random.default_rng(0).multivariate_normal([-0.4, 1.2], [[1.0, -0.5], [-0.5, 1.0]], 100_000)
    kept = tried[(tried > 0).all(axis=1)]
    y = np.logaddexp(0.0, z)
    np.testing.assert_allclose(y.mean(axis=0), kept.mean(axis=0), rtol=0.07)
    np.testing.assert_allclose(y.std(axis=0), kept.std(axis=0), rtol=0.07)
    assert variational.log_ratios(found.parameters, noise[:500]).std() < 0.3


def observations() -> Data:
    """Seven chunks that are far from alike, one of them not full, and one behind the last that is none."""
    rng = np.random.default_rng(4)
    centre = rng.normal(0.0, 1.0, (8, 1, DIM))
    present = np.ones((8, 6))
    present[4, -1] = 0.0
    present[5:7, 3:] = 0.0
    return Data(
        PixelChunks(
            counts=jnp.asarray(centre + rng.normal(size=(8, 6, DIM))),
            present=jnp.asarray(present),
            support_points=jnp.zeros((8, 1), jnp.int32),
            n_points=jnp.ones(8, jnp.int32),
            baseline=jnp.zeros((8, DIM)),
            ends=jnp.asarray([7], jnp.int32),
        )
    )


def logistic(z: jax.Array, data: Data) -> jax.Array:
    """Give a standard normal prior, and observations that are no sum of quadratics."""
    pixels = data.pixels
    there = jnp.arange(len(pixels.present)) < pixels.ends[-1]
    each = (pixels.present * jax.nn.softplus(pixels.counts @ z)).sum(axis=1)
    return 0.5 * z @ z + 0.3 * (there * each).sum()


def test_batches_are_whole_chunks_and_weighted(monkeypatch: pytest.MonkeyPatch) -> None:
    data = observations()
    # All that there are: no batches are drawn.
    assert batch_size(data) is None
    monkeypatch.setattr(minibatch, "BATCH_CHUNKS", 7)
    assert batch_size(data) is None
    monkeypatch.setattr(minibatch, "BATCH_CHUNKS", 3)
    assert batch_size(data) == 3
    batch = draw_batch(data, 3, jax.random.PRNGKey(0)).pixels
    assert batch.counts.shape == (3, 6, DIM)
    assert batch.ends.tolist() == [3]
    assert float(batch.present.max()) == pytest.approx(7 / 3)
    whole = {np.asarray(rows).tobytes() for rows in data.pixels.counts[:7]}
    assert {np.asarray(rows).tobytes() for rows in batch.counts} < whole


@pytest.mark.calibration
def test_mini_batch_gradients_are_unbiased() -> None:
    data = observations()
    own, at = guide("full_rank"), plain()
    parameters = {**own.initial(DIM, jax.random.PRNGKey(0)), "mean": jnp.asarray([0.5, -0.4, 0.2, 0.8])}
    value, slope = jax.value_and_grad(logistic)(jnp.zeros(DIM), data)
    target = svi._TangentTarget(at, data, value, slope)

    def gradient(key: jax.Array, size: int | None) -> FloatArray:
        # The draws of the guide are the same in all: only the pixels differ.
        e = parameters["mean"] + jax.random.normal(jax.random.PRNGKey(9), (4, DIM))
        return svi._potential_slopes(logistic, size, e, key, target)

    exact = gradient(jax.random.PRNGKey(0), None)
    np.testing.assert_allclose(exact[0], jax.grad(logistic)(target.at.mean + 0.0 + _first(parameters), data))
    keys = jax.random.split(jax.random.PRNGKey(1), 4000)
    many = np.asarray(jax.jit(jax.vmap(partial(gradient, size=3)))(keys))
    error = many.std(axis=0) / np.sqrt(len(many))
    assert error.max() > 0  # the batches do differ
    np.testing.assert_array_less(np.abs(many.mean(axis=0) - exact), ERRORS * error + 1e-9)


def _first(parameters: dict[str, jax.Array]) -> jax.Array:
    return parameters["mean"] + jax.random.normal(jax.random.PRNGKey(9), (4, DIM))[0]


@pytest.mark.calibration
def test_a_fit_by_mini_batches_agrees_with_all_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    data = observations()
    _, whole = fitted(logistic, "full_rank", data)
    monkeypatch.setattr(minibatch, "BATCH_CHUNKS", 3)
    variational, parts = fitted(logistic, "full_rank", data)
    assert parts.elbo == pytest.approx(whole.elbo, abs=0.1)
    assert not np.array_equal(parts.parameters["mean"], whole.parameters["mean"])
    again = variational.fit(0)
    np.testing.assert_array_equal(again.parameters["mean"], parts.parameters["mean"])
