"""Abundances of known endmembers: exact constrained least squares and Poisson maximum likelihood."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from bayesunmix.core.errors import InputError
from bayesunmix.inference.fcls import fcls

Array = npt.NDArray[Any]


def _problem(seed: int, n_phases: int, n_pixel: int = 20, n_energy: int = 25) -> tuple[Array, Array, Array]:
    """Few counts a pixel, so that most solutions lie on the boundary of the simplex."""
    rng = np.random.default_rng(seed)
    spectra = rng.dirichlet(np.full(n_energy, 0.7), n_phases)
    abundances = rng.dirichlet(np.full(n_phases, 0.5), n_pixel)
    return rng.poisson(60 * abundances @ spectra + 0.2), spectra, abundances


def _sum_of_squares(counts: Array, spectra: Array, abundances: Array, weights: Array) -> Array:
    y = counts / counts.sum(axis=1, keepdims=True)
    squares: Array = (weights * (y - abundances @ spectra) ** 2).sum(axis=1)
    return squares


def _by_slsqp(counts: Array, spectra: Array, weights: Array) -> Array:
    """Solve the same problem by scipy's general solver, pixel by pixel."""
    n_phases = len(spectra)
    found = []
    for y in counts / counts.sum(axis=1, keepdims=True):
        solution = minimize(
            lambda a, y=y: 1e3 * (weights * (y - a @ spectra) ** 2).sum(),
            np.full(n_phases, 1 / n_phases),
            jac=lambda a, y=y: -2e3 * spectra @ (weights * (y - a @ spectra)),
            method="SLSQP",
            bounds=[(0, 1)] * n_phases,
            constraints={"type": "eq", "fun": lambda a: a.sum() - 1, "jac": np.ones_like},
            options={"ftol": 1e-14, "maxiter": 300},
        )
        found.append(solution.x)
    return np.array(found)


@settings(max_examples=15)
@given(st.integers(0, 10_000), st.integers(1, 6), st.booleans())
def test_fcls_equals_a_general_solver(seed: int, n_phases: int, weighted: bool) -> None:
    counts, spectra, _ = _problem(seed, n_phases)
    weights = np.random.default_rng(seed).uniform(0.1, 1, 25) if weighted else np.ones(25)
    ours = fcls(counts, spectra, weights=weights if weighted else None)
    theirs = _by_slsqp(counts, spectra, weights)
    np.testing.assert_allclose(ours, theirs, atol=2e-4)
    reached, reference = (_sum_of_squares(counts, spectra, a, weights) for a in (ours, theirs))
    assert (reached <= reference + 1e-7).all()


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.integers(2, 8))
def test_fcls_meets_the_optimality_conditions(seed: int, n_phases: int) -> None:
    counts, spectra, _ = _problem(seed, n_phases)
    abundances = fcls(counts, spectra)
    assert (abundances >= 0).all()
    np.testing.assert_allclose(abundances.sum(axis=1), 1)
    residual = abundances @ spectra - counts / counts.sum(axis=1, keepdims=True)
    gradient = residual @ spectra.T
    # Present phases share one gradient, and no absent phase has a smaller one (Karush, Kuhn and Tucker).
    shared = (gradient * abundances).sum(axis=1, keepdims=True)
    assert (gradient >= shared - 1e-6).all()
    np.testing.assert_allclose((gradient - shared)[abundances > 1e-6], 0, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 10_000), st.permutations(range(4)))
def test_order_and_scale_of_endmembers_do_not_matter(seed: int, order: list[int]) -> None:
    counts, spectra, _ = _problem(seed, 4)
    scale = np.array([[1.0], [3.0], [0.2], [50.0]])
    plain = fcls(counts, spectra)
    np.testing.assert_allclose(fcls(7 * counts, (scale * spectra)[order]), plain[:, order], atol=1e-4)


def test_exact_mixtures_come_back() -> None:
    _, spectra, abundances = _problem(0, 5, n_pixel=300)
    counts = 1000 * abundances @ spectra
    np.testing.assert_allclose(fcls(counts, spectra), abundances, atol=1e-4)
    np.testing.assert_allclose(fcls(counts, spectra, weights="poisson"), abundances, atol=1e-4)


def test_linearly_dependent_endmembers_still_reach_the_minimum() -> None:
    counts, spectra, _ = _problem(1, 3)
    doubled = np.vstack([spectra, spectra[0], spectra[:2].mean(axis=0)])
    abundances = fcls(counts, doubled)
    expected = _sum_of_squares(counts, spectra, fcls(counts, spectra), np.ones(25))
    np.testing.assert_allclose(_sum_of_squares(counts, doubled, abundances, np.ones(25)), expected, atol=1e-9)


def test_a_channel_of_weight_zero_is_ignored() -> None:
    counts, spectra, _ = _problem(2, 3)
    weights = np.ones(25)
    weights[4] = 0
    spoilt = spectra.copy()
    spoilt[:, 4] = 0
    # Only the spectra's own normalisation sees the channel, so it must be empty for the two to agree.
    without = counts.copy()
    without[:, 4] = 0
    np.testing.assert_allclose(fcls(without, spoilt, weights=weights), fcls(without, spoilt), atol=1e-6)
    assert np.abs(fcls(counts, spectra, weights=weights) - fcls(counts, spectra)).max() > 1e-3


def test_weights_by_counting_noise_are_no_worse() -> None:
    rng = np.random.default_rng(5)
    # Noise differs a thousandfold between channels: a strong common line and weak telling ones.
    spectra = np.array([[1000.0, 20, 1, 5], [1000.0, 1, 20, 5]])
    spectra /= spectra.sum(axis=1, keepdims=True)
    abundances = rng.dirichlet([1, 1], 2000)
    counts = rng.poisson(3000 * abundances @ spectra)
    errors = {
        name: np.sqrt(np.mean((found - abundances) ** 2))
        for name, found in (
            ("plain", fcls(counts, spectra)),
            ("weighted", fcls(counts, spectra, weights="poisson")),
        )
    }
    assert errors["weighted"] < 1.1 * errors["plain"]


def test_a_pixel_without_counts_gets_equal_abundances() -> None:
    counts, spectra, _ = _problem(6, 4)
    counts[2] = 0
    np.testing.assert_allclose(fcls(counts, spectra)[2], 0.25)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"counts": np.ones(4)}, "`counts` must be a non-empty array"),
        ({"counts": -np.ones((5, 4))}, "`counts` must be non-negative"),
        ({"endmembers": np.ones((2, 3))}, "`endmembers` must have the 4 channels of the counts, but has 3"),
        ({"endmembers": np.ones((11, 4))}, "`endmembers` must have at most 10 rows, but has 11"),
        ({"endmembers": np.zeros((2, 4))}, "`endmembers` must hold something above zero in every row"),
        ({"endmembers": np.full((2, 4), np.inf)}, "`endmembers` must be finite"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"counts": np.ones((5, 4)), "endmembers": np.eye(2, 4)} | change
    with pytest.raises(InputError, match=match):
        fcls(**arguments)


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        ("gauss", '`weights` must be "poisson", an array'),
        (np.ones(3), r"`weights` must have shape \(4,\), but has shape \(3,\)"),
        (-np.ones(4), "`weights` must be finite, non-negative and not all zero"),
        (np.zeros(4), "`weights` must be finite, non-negative and not all zero"),
    ],
)
def test_bad_weights_are_refused(weights: Array | str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        fcls(np.ones((5, 4)), np.eye(2, 4), weights=weights)
