"""Thickness in the likelihood: the columns and rows against the multinomial they stand for, and what they recover."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize

from bayesunmix.models.thickness import (
    N_COLUMNS,
    ThicknessEffect,
    absorption_scale,
    answered,
    counted,
    no_effect,
)

FloatArray = npt.NDArray[np.float64]

N_CHANNELS = 40
SPECTRUM = np.random.default_rng(0).dirichlet(np.full(N_CHANNELS, 0.8), size=2)
POINTS = np.array([[1.0, 0.0], [0.6, 0.4], [0.0, 1.0]])
EFFECT = ThicknessEffect(
    -0.25 * np.geomspace(1.0, 0.01, N_CHANNELS),
    np.where(np.arange(N_CHANNELS) % 9 == 4, 0.6, 0.01),
    np.array([0.9, 1.15]),
    0.5,
)


def exact(relative: FloatArray, scale: float, exponent: float, order: int = 0) -> FloatArray:
    """Log probabilities of the channels, shape (pixel, support_point, energy); order 2 expands the normaliser."""
    mixed = POINTS @ SPECTRUM
    u = relative[:, None] * (POINTS @ EFFECT.mass_per_count) - 1.0
    tilt = scale * u[:, :, None] * EFFECT.absorption_slope
    tilt = tilt - exponent * np.log(relative)[:, None, None] * EFFECT.stray_share
    if order == 2:
        mean = (mixed * tilt).sum(axis=2)
        normaliser = mean + 0.5 * ((mixed * tilt**2).sum(axis=2) - mean**2)
    else:
        normaliser = np.log((mixed * np.exp(tilt)).sum(axis=2))
    return np.log(mixed) + tilt - normaliser[:, :, None]


def joint(counts: FloatArray, relative: FloatArray, scale: float, exponent: float) -> FloatArray:
    rows = answered(POINTS @ SPECTRUM, POINTS, EFFECT, jnp.asarray(scale), jnp.asarray(exponent))
    return counted(counts, relative, EFFECT).astype(float) @ np.asarray(rows).T


@pytest.fixture(scope="module")
def pixels() -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(3)
    relative = rng.uniform(0.3, 2.2, 60)
    return rng.poisson(700.0 * relative[:, None] * (POINTS[1] @ SPECTRUM)).astype(float), relative


@pytest.mark.parametrize(("scale", "exponent"), [(0.0, 0.0), (1.0, 0.0), (0.0, 0.8), (1.4, -0.5)])
def test_columns_and_rows_make_the_log_likelihood(
    pixels: tuple[FloatArray, FloatArray], scale: float, exponent: float
) -> None:
    counts, relative = pixels
    expected = np.einsum("pc,pjc->pj", counts, exact(relative, scale, exponent, order=2))
    # Columns are single: sums of some thousand counts times a log of up to ten, at 2^-24 each.
    np.testing.assert_allclose(joint(counts, relative, scale, exponent), expected, rtol=3e-6)


def test_second_order_is_close_to_the_multinomial(pixels: tuple[FloatArray, FloatArray]) -> None:
    counts, relative = pixels
    exactly = np.einsum("pc,pjc->pj", counts, exact(relative, 1.0, 0.5))
    plain = np.einsum("pc,pjc->pj", counts, exact(relative, 0.0, 0.0))
    expanded = joint(counts, relative, 1.0, 0.5)
    # What matters is how a pixel tells support points apart, and that is off by little of what the tilt changes.
    effect = np.abs((exactly - plain) - (exactly - plain).mean(axis=1, keepdims=True)).max()
    error = (exactly - expanded) - (exactly - expanded).mean(axis=1, keepdims=True)
    assert effect > 2.0
    assert np.abs(error).max() < 0.1 * effect
    # A film that changes little changes nothing at third order.
    thin = 1.0 + 0.1 * (relative - 1.0)
    exactly = np.einsum("pc,pjc->pj", counts, exact(thin, 1.0, 0.5))
    np.testing.assert_allclose(joint(counts, thin, 1.0, 0.5), exactly, rtol=3e-6, atol=0.02)


def test_parameters_are_recovered_from_counts() -> None:
    rng = np.random.default_rng(8)
    relative = rng.uniform(0.4, 2.0, 800)
    held = rng.integers(0, 3, 800)
    probability = np.exp(exact(relative, 0.8, 0.5)[np.arange(800), held])
    counts = np.stack(
        [rng.multinomial(n, p) for n, p in zip(rng.poisson(900 * relative), probability, strict=True)]
    )
    columns = jnp.asarray(counted(counts, relative, EFFECT), jnp.float64)

    def misfit(v: jax.Array) -> jax.Array:
        rows = answered(jnp.asarray(POINTS @ SPECTRUM), jnp.asarray(POINTS), EFFECT, v[0], v[1])
        return -jax.nn.logsumexp(columns @ rows.T, axis=1).sum()

    found = minimize(misfit, np.zeros(2), jac=jax.grad(misfit), method="BFGS")
    sd = np.sqrt(np.diag(np.linalg.inv(np.asarray(jax.hessian(misfit)(found.x)))))
    assert (sd < 0.1).all()
    assert (np.abs(found.x - [0.8, 0.5]) < 3.5 * sd + 0.03).all()


def test_without_absorption_and_stray_signal_nothing_changes(pixels: tuple[FloatArray, FloatArray]) -> None:
    counts, relative = pixels
    none = no_effect(2, N_CHANNELS)
    rows = answered(POINTS @ SPECTRUM, POINTS, none, jnp.asarray(2.0), jnp.asarray(-1.0))
    columns = counted(counts, relative, none)
    assert columns.shape == (len(counts), N_CHANNELS + N_COLUMNS)
    np.testing.assert_allclose(columns @ np.asarray(rows).T, counts @ np.log(POINTS @ SPECTRUM).T, rtol=1e-6)


def test_the_scale_is_one_at_its_prior_mean() -> None:
    assert float(absorption_scale(EFFECT, jnp.zeros(()))) == 1.0
    assert float(absorption_scale(EFFECT, jnp.asarray(-1.0))) == pytest.approx(0.5)
