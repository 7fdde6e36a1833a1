"""The truncated Gaussian: recovered exactly where the density is one, and drawn from without error."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import brentq
from scipy.special import expit
from scipy.stats import truncnorm

from bayesunmix.inference.laplace import laplace_draws, truncated_gaussian

FloatArray = npt.NDArray[np.float64]

# Four standard errors: with about 40 comparisons in this file one in 400 seeds would fail by chance.
ERRORS = 4.0


def softplus(z: FloatArray) -> FloatArray:
    return np.logaddexp(0.0, z)


def mode_and_hessian(mean: float, sd: float) -> tuple[float, float]:
    """Mode and curvature in z of a normal N(mean, sd) in y = softplus(z) with the density truncated at zero."""

    def slope(z: float) -> float:
        s = expit(z)
        return float((softplus(np.array(z)) - mean) / sd**2 * s - (1 - s))

    z = brentq(slope, -60.0, 60.0 + abs(mean))
    s = expit(z)
    y = float(softplus(np.array(z)))
    return z, float(s**2 / sd**2 + (y - mean) / sd**2 * s * (1 - s) + s * (1 - s))


@pytest.mark.parametrize("mean", [-3.0, -0.5, 0.0, 1.0, 5.0, 40.0])
@pytest.mark.parametrize("sd", [0.3, 1.0, 3.0])
def test_one_coordinate_has_a_closed_form(mean: float, sd: float) -> None:
    z, hessian = mode_and_hessian(mean * sd, sd)
    found = truncated_gaussian(np.array([z]), np.array([[hessian]]), slice(0, 1))
    assert found.mean[0] == pytest.approx(mean * sd, rel=1e-6, abs=1e-6 * sd)
    assert found.covariance[0, 0] == pytest.approx(sd**2, rel=1e-6)

    n = 20_000
    draws = softplus(
        laplace_draws(np.array([z]), np.array([[hessian]]), slice(0, 1), chains=2, draws=n // 2, seed=3)
    )
    expected = truncnorm(-mean, np.inf, mean * sd, sd)
    error = expected.std() / np.sqrt(n)
    assert draws.mean() == pytest.approx(expected.mean(), abs=ERRORS * error)
    # The variance of a sample variance is (kurtosis + 2) / n of its square.
    excess = float(expected.stats("k"))
    relative = np.sqrt((excess + 2.0) / n)
    assert draws.var() == pytest.approx(expected.var(), rel=ERRORS * relative)
    quantiles = expected.ppf([0.025, 0.5, 0.975])
    below = [(draws < q).mean() for q in quantiles]
    np.testing.assert_allclose(below, [0.025, 0.5, 0.975], atol=ERRORS * 0.5 / np.sqrt(n))


def curved(mean: FloatArray, covariance: FloatArray, positive: int) -> tuple[FloatArray, FloatArray]:
    """Mode and Hessian in z of a normal in y whose first `positive` coordinates are softplus(z), flat above 0."""
    precision = np.linalg.inv(covariance)
    z = np.where(np.arange(len(mean)) < positive, np.log(np.expm1(np.maximum(mean, 0.3))), mean)
    for _ in range(500):
        s = np.where(np.arange(len(mean)) < positive, expit(z), 1.0)
        y = np.where(np.arange(len(mean)) < positive, softplus(z), z)
        pull = precision @ (y - mean)
        gradient = s * pull - (1 - s)
        hessian = s[:, None] * precision * s + np.diag((1 - s) * (s * pull + s))
        newton = np.linalg.solve(hessian + 1e-9 * np.eye(len(z)), gradient)
        z = z - newton / max(1.0, np.abs(newton).max() / 0.5)
    assert np.abs(gradient).max() < 1e-9
    return z, hessian


MEAN = np.array([-0.5, 0.4, 2.0])
SD = np.array([1.0, 0.7, 1.5])
COVARIANCE = SD[:, None] * np.array([[1.0, -0.7, 0.5], [-0.7, 1.0, -0.6], [0.5, -0.6, 1.0]]) * SD


def test_correlated_coordinates_against_rejection_sampling() -> None:
    z, hessian = curved(MEAN, COVARIANCE, 2)
    target = truncated_gaussian(z, hessian, slice(0, 2))
    np.testing.assert_allclose(target.mean, MEAN, atol=1e-6)
    np.testing.assert_allclose(target.covariance, COVARIANCE, atol=1e-6)

    tried = np.random.default_rng(8).multivariate_normal(MEAN, COVARIANCE, size=400_000)
    kept = tried[(tried[:, :2] > 0).all(axis=1)]
    n = 20_000
    z_draws = laplace_draws(z, hessian, slice(0, 2), chains=1, draws=n, seed=5)[0]
    draws = np.column_stack([softplus(z_draws[:, :2]), z_draws[:, 2]])
    error = np.sqrt(kept.var(axis=0) * (1 / n + 1 / len(kept)))
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - kept.mean(axis=0)), ERRORS * error)
    for i in range(3):
        for j in range(i, 3):
            products = [(a[:, i] - kept[:, i].mean()) * (a[:, j] - kept[:, j].mean()) for a in (draws, kept)]
            error_ij = np.sqrt(sum(p.var() / len(p) for p in products))
            assert abs(products[0].mean() - products[1].mean()) < ERRORS * error_ij


def test_far_from_the_bound_it_is_a_plain_gaussian() -> None:
    mean = np.array([40.0, 60.0, -3.0])
    z, hessian = curved(mean, COVARIANCE, 2)
    n = 20_000
    draws = laplace_draws(z, hessian, slice(0, 2), chains=4, draws=n // 4, seed=1).reshape(n, 3)
    draws[:, :2] = softplus(draws[:, :2])
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - mean), ERRORS * SD / np.sqrt(n))
    # Wishart: var(S_ij) = (C_ii C_jj + C_ij^2) / n.
    error = np.sqrt((np.outer(SD**2, SD**2) + COVARIANCE**2) / n)
    np.testing.assert_array_less(np.abs(np.cov(draws.T) - COVARIANCE), ERRORS * error)


def test_coordinates_without_a_bound_alone() -> None:
    draws = laplace_draws(MEAN, np.linalg.inv(COVARIANCE), slice(0, 0), chains=1, draws=5000, seed=0)[0]
    np.testing.assert_array_less(np.abs(draws.mean(axis=0) - MEAN), ERRORS * SD / np.sqrt(5000))


def test_shape_seed_and_progress() -> None:
    z, hessian = curved(MEAN, COVARIANCE, 2)
    told: list[float] = []

    def draw(seed: int) -> FloatArray:
        return laplace_draws(z, hessian, slice(0, 2), chains=2, draws=7, seed=seed, progress=told.append)

    first = draw(4)
    assert first.shape == (2, 7, 3)
    np.testing.assert_array_equal(first, draw(4))
    assert not np.array_equal(first, draw(5))
    assert np.isfinite(first).all()
    assert told[-1] == 1.0


def test_a_direction_without_curvature_stays_finite() -> None:
    draws = laplace_draws(np.zeros(2), np.diag([1.0, 0.0]), slice(0, 0), chains=1, draws=2000, seed=2)[0]
    assert np.isfinite(draws).all()
    assert draws[:, 0].std() == pytest.approx(1.0, rel=0.1)
