"""The search for the mode: exact on a quadratic, and honest about how far it got."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.inference.map_estimate import MIN_CURVATURE, descend, find_map, whitening

FloatArray = npt.NDArray[np.float64]
MODE = np.array([1.0, -2.0, 0.5, 30.0])


@pytest.fixture(scope="module")
def curvature() -> FloatArray:
    """Correlated, with widths from 0.01 to 3."""
    rng = np.random.default_rng(4)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    return np.asarray(turn @ np.diag([1e4, 100.0, 1.0, 0.11]) @ turn.T)


def quadratic(z: Any, curvature: FloatArray) -> tuple[float, FloatArray]:  # noqa: ANN401
    off = np.asarray(z) - MODE
    return 7.0 + 0.5 * float(off @ curvature @ off), curvature @ off


def hessian(z: Any, curvature: FloatArray) -> FloatArray:  # noqa: ANN401
    return curvature


def test_mode_of_a_quadratic_is_found(curvature: FloatArray) -> None:
    found = find_map(quadratic, hessian, curvature, np.zeros(4))
    assert found.converged
    off = found.z - MODE
    assert np.sqrt(off @ curvature @ off) < 1e-3  # in standard deviations
    assert found.potential == pytest.approx(7.0, abs=1e-6)
    np.testing.assert_array_equal(found.hessian, curvature)
    assert found.n_evaluations > 1


def test_gradient_norm_is_the_distance_in_standard_deviations(curvature: FloatArray) -> None:
    start = np.zeros(4)
    found = find_map(quadratic, hessian, curvature, start, max_rounds=0)
    off = found.z - MODE
    distance = np.sqrt(off @ curvature @ off)
    assert distance > 1.0
    assert found.gradient_norm == pytest.approx(distance, rel=1e-9)
    assert not found.converged
    # Half its square is what is left to gain.
    assert found.potential - 7.0 == pytest.approx(0.5 * found.gradient_norm**2, rel=1e-9)


@pytest.mark.parametrize(("away", "computed"), [(0.1, 1), (3.0, 2)])
def test_the_curvature_is_computed_again_after_a_long_step_alone(
    curvature: FloatArray, away: float, computed: int
) -> None:
    asked: list[FloatArray] = []

    def counted(z: Any, curvature: FloatArray) -> FloatArray:  # noqa: ANN401
        asked.append(np.asarray(z))
        return curvature

    start = MODE + away * whitening(curvature)[:, 0]  # so many standard deviations
    found = find_map(quadratic, counted, curvature, start)
    assert found.converged
    assert len(asked) == computed


def test_a_curvature_from_far_away_is_not_kept_however_near_the_mode_seemed() -> None:
    """A kink far from the mode makes its distance look small: the step is what counts."""

    def potential(z: Any, data: object) -> tuple[float, FloatArray]:  # noqa: ANN401
        x = float(np.asarray(z)[0])
        bend = (x - 6.0) / 0.02
        value = 0.05 * x**2 + 0.006 * float(np.logaddexp(bend, -bend))
        return value, np.array([0.1 * x + 0.3 * float(np.tanh(bend))])

    def curved(z: Any, data: object) -> FloatArray:  # noqa: ANN401
        bend = (float(np.asarray(z)[0]) - 6.0) / 0.02
        return np.array([[0.1 + 15.0 * (1.0 - float(np.tanh(bend)) ** 2)]])

    found = find_map(potential, curved, None, np.array([6.0]))
    assert found.converged
    np.testing.assert_allclose(found.z, 3.0, atol=0.05)
    np.testing.assert_allclose(found.hessian, 0.1, rtol=1e-3)


def test_a_descent_ends_where_iterations_gain_hardly_anything(curvature: FloatArray) -> None:
    _, to_the_end, all_evaluations = descend(quadratic, curvature, np.zeros(4))
    _, roughly, evaluations = descend(quadratic, curvature, np.zeros(4), least_fall=0.5)
    assert to_the_end == pytest.approx(7.0, abs=1e-6)
    assert evaluations < all_evaluations
    assert roughly > to_the_end


def test_one_whitened_round_suffices_on_a_quadratic(curvature: FloatArray) -> None:
    said: list[str] = []
    found = find_map(quadratic, hessian, curvature, MODE + 20.0, max_rounds=2, progress=said.append)
    assert found.converged
    assert len(said) == 2
    assert said[0].startswith("round 1: potential ")


def test_whitening_inverts_the_curvature(curvature: FloatArray) -> None:
    transform = whitening(curvature)
    np.testing.assert_allclose(transform @ transform.T, np.linalg.inv(curvature), rtol=1e-8, atol=1e-10)


def test_whitening_of_flat_and_negative_directions_is_bounded() -> None:
    transform = whitening(np.diag([4.0, -9.0, 1e-9]))
    widths = np.sort(np.linalg.norm(transform, axis=1))
    np.testing.assert_allclose(widths, [1 / 3, 1 / 2, MIN_CURVATURE**-0.5], rtol=1e-9)


def test_steps_into_the_forbidden_are_taken_back() -> None:
    def barrier(z: Any, data: None) -> tuple[Any, Any]:  # noqa: ANN401
        return jnp.sum(z - jnp.log(z)), 1.0 - 1.0 / z  # nan below zero; the minimum lies at 1

    start = np.array([5.0, 0.2])
    z, potential, evaluations = descend(barrier, None, start, 10.0 * np.eye(2))
    assert potential == pytest.approx(float((z - np.log(z)).sum()))
    assert potential < float((start - np.log(start)).sum())
    assert evaluations > 2
    found = find_map(barrier, lambda z, data: np.diag(np.asarray(z) ** -2.0), None, start)
    assert found.converged
    np.testing.assert_allclose(found.z, 1.0, atol=0.05)


def test_a_curved_valley_is_followed_to_its_end() -> None:
    def valley(z: Any, data: None) -> tuple[float, FloatArray]:  # noqa: ANN401
        x, y = np.asarray(z)
        slope = np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])
        return float((1 - x) ** 2 + 100 * (y - x * x) ** 2), slope

    def curvature(z: Any, data: None) -> FloatArray:  # noqa: ANN401
        x, y = np.asarray(z)
        return np.array([[2 - 400 * (y - 3 * x * x), -400 * x], [-400 * x, 200.0]])

    found = find_map(valley, curvature, None, np.array([-1.2, 1.0]))
    assert found.converged
    np.testing.assert_allclose(found.z, 1.0, atol=0.05)
    assert found.gradient_norm < 0.03
