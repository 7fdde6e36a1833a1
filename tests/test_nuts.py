"""NUTS on targets of known moments, in bounds of its Monte Carlo errors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from arviz_stats.base import array_stats

import bayesunmix.models  # noqa: F401 - importing it switches JAX to 64 bits
from bayesunmix.inference.map_estimate import whitening
from bayesunmix.inference.nuts import CHUNK, NutsDraws, nuts_draws

FloatArray = npt.NDArray[np.float64]

MEAN = np.array([2.0, -1.0, 0.0, 5.0])
# Axis 0 is five times as wide as the whitening will say.
WIDE = 5.0
COVARIANCE = np.array(
    [[WIDE**2, 0.0, 0.0, 0.0], [0.0, 4.0, 1.5, 0.0], [0.0, 1.5, 1.0, 0.0], [0.0, 0.0, 0.0, 0.01]]
)
CHAINS, DRAWS = 2, 620
ERRORS = 4.5


def gaussian(z: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
    off = z - data["mean"]
    return 0.5 * off @ data["precision"] @ off


DATA = {"mean": jnp.asarray(MEAN), "precision": jnp.asarray(np.linalg.inv(COVARIANCE))}


def curvature_at_the_mode() -> FloatArray:
    believed = COVARIANCE.copy()
    believed[0, 0] = 1.0
    return np.asarray(np.linalg.inv(believed))


def draws_at(seed: int, **options: Any) -> NutsDraws:  # noqa: ANN401
    settings = {"chains": CHAINS, "draws": DRAWS, "warmup": 400, "seed": seed} | options
    return nuts_draws(gaussian, DATA, MEAN, whitening(curvature_at_the_mode()), **settings)


@pytest.fixture(scope="module")
def draws() -> NutsDraws:
    return draws_at(1)


def assert_moments(draws: NutsDraws) -> None:
    """Compare means, widths and one covariance with the normal's."""
    assert draws.z.shape == (CHAINS, DRAWS, 4)
    for i in range(4):
        for power, expected in ((1, 0.0), (2, COVARIANCE[i, i])):
            series = (draws.z[:, :, i] - MEAN[i]) ** power
            ess = float(array_stats.ess(series, chain_axis=0, draw_axis=1, method="mean"))
            assert ess > 100
            error = series.std() / np.sqrt(ess)
            assert series.mean() == pytest.approx(expected, abs=ERRORS * error)
    product = (draws.z[:, :, 1] - MEAN[1]) * (draws.z[:, :, 2] - MEAN[2])
    ess = float(array_stats.ess(product, chain_axis=0, draw_axis=1, method="mean"))
    assert product.mean() == pytest.approx(1.5, abs=ERRORS * product.std() / np.sqrt(ess))


def test_means_and_widths_are_right(draws: NutsDraws) -> None:
    assert_moments(draws)


def test_the_wide_direction_is_found(draws: NutsDraws) -> None:
    assert draws.stretched == 1


def test_a_right_curvature_needs_no_stretching() -> None:
    found = nuts_draws(
        gaussian, DATA, MEAN, whitening(np.linalg.inv(COVARIANCE)), chains=2, draws=20, warmup=400, seed=3
    )
    assert found.stretched == 0
    assert found.z.shape == (2, 20, 4)  # fewer than one compiled chunk


def assert_energies(draws: NutsDraws) -> None:
    """Compare statistics with what the draws say."""
    off = draws.z - MEAN
    potential = 0.5 * np.einsum("cdi,ij,cdj->cd", off, np.linalg.inv(COVARIANCE), off)
    np.testing.assert_allclose(draws.potential, potential, rtol=1e-8, atol=1e-10)
    assert not draws.diverging.any()
    assert (draws.n_leapfrog >= 1).all()
    assert ((draws.accept_probability >= 0) & (draws.accept_probability <= 1)).all()
    # Adapted to 0.8, by a warm-up of a few hundred iterations.
    assert 0.5 < draws.accept_probability.mean() < 0.98
    assert np.ptp(draws.step_size, axis=1).max() == 0.0  # fixed after the warm-up
    kinetic = draws.energy - draws.potential
    # Half a chi-square of four degrees of freedom: mean 2, variance 2.
    ess = float(array_stats.ess(kinetic, chain_axis=0, draw_axis=1, method="mean"))
    assert kinetic.mean() == pytest.approx(2.0, abs=ERRORS * np.sqrt(2.0 / ess) + 0.3)


def test_statistics_belong_to_the_draws(draws: NutsDraws) -> None:
    assert_energies(draws)


def test_what_fills_up_coordinates_neither_moves_nor_has_energy() -> None:
    """Seven entries of which three only fill up: the moments and energies of four coordinates."""

    def filled(z: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        # What fills up stays at zero, or it would be seen.
        return gaussian(z[:4], data) + 1e6 * jnp.abs(z[4:]).sum()

    found = nuts_draws(
        filled,
        DATA,
        MEAN,
        whitening(curvature_at_the_mode()),
        capacity=7,
        chains=CHAINS,
        draws=DRAWS,
        warmup=400,
        seed=1,
    )
    assert found.stretched == 1
    assert_moments(found)
    assert_energies(found)


def test_the_seed_decides(draws: NutsDraws) -> None:
    again = draws_at(1, draws=30)
    np.testing.assert_array_equal(again.z, draws.z[:, :30])
    assert not np.array_equal(draws.z[0], draws.z[1])


def test_progress_counts_iterations(draws: NutsDraws) -> None:
    told: list[int] = []
    other = draws_at(0, draws=CHUNK, progress=told.append)
    assert set(told) == {CHUNK}
    assert (
        CHAINS * CHUNK < sum(told) <= CHAINS * (400 + CHUNK)
    )  # warm-up counts too, but no more than was asked
    assert not np.array_equal(other.z, draws.z[:, :CHUNK])


def test_a_banana_is_followed() -> None:
    def banana(z: jax.Array, bend: jax.Array) -> jax.Array:
        return 0.5 * z[0] ** 2 + 0.5 * ((z[1] - bend * (z[0] ** 2 - 1.0)) / 0.5) ** 2

    bend = 0.6
    hessian = np.asarray(jax.hessian(banana)(jnp.zeros(2), jnp.asarray(bend)))
    # Steps that are short enough for its arms.
    found = nuts_draws(
        banana,
        jnp.asarray(bend),
        np.zeros(2),
        whitening(hessian),
        chains=2,
        draws=1500,
        warmup=400,
        seed=2,
        target_accept=0.95,
    )
    # z0 ~ N(0, 1); z1 has mean 0 and variance 0.5^2 + 2 bend^2, because var(z0^2) = 2.
    for series, expected in (
        (found.z[:, :, 0], 0.0),
        (found.z[:, :, 0] ** 2, 1.0),
        (found.z[:, :, 1], 0.0),
        (found.z[:, :, 1] ** 2, 0.25 + 2 * bend**2),
    ):
        ess = float(array_stats.ess(series, chain_axis=0, draw_axis=1, method="mean"))
        assert series.mean() == pytest.approx(expected, abs=ERRORS * series.std() / np.sqrt(ess))


def test_a_cliff_is_reported_as_divergence() -> None:
    def cliff(z: jax.Array, data: None) -> jax.Array:
        return 0.5 * jnp.sum(z**2) + jnp.where(z[0] > 0.5, 1e6 * (z[0] - 0.5), 0.0)

    found = nuts_draws(cliff, None, np.zeros(2), np.eye(2), chains=1, draws=50, warmup=20, seed=0)
    assert found.diverging.any()
