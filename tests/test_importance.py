"""Importance weights and exact steps: right draws pass, draws that are too narrow, too wide or off are told apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.fit.trust import Trust, quantity_moves
from bayesunmix.inference.importance import PARETO_K_LIMIT, resample, smoothed
from bayesunmix.inference.refresh import moves, refresh

FloatArray = npt.NDArray[np.float64]

ERRORS = 4.5
DIM = 6


def normal_ratios(sd: float, n: int = 4000, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Draws of a normal of some sd in three dimensions, and the log ratios of a standard normal to it."""
    draws = sd * np.random.default_rng(seed).standard_normal((n, 3))
    return draws, -0.5 * (draws**2).sum(axis=1) * (1.0 - 1.0 / sd**2)


def test_ratios_without_a_tail_to_fit_are_not_reliable() -> None:
    """All but one ratio are zero beside the largest: no library warning, no shape, no weights."""
    found = smoothed(1000.0 * np.random.default_rng(0).standard_normal(400))
    assert found.pareto_k == np.inf
    assert not found.reliable
    np.testing.assert_allclose(np.exp(found.log_weights), 1.0 / 400)


def test_a_guide_that_is_wide_enough_can_be_reweighted() -> None:
    draws, ratios = normal_ratios(1.3)
    found = smoothed(ratios)
    assert found.reliable
    assert found.pareto_k < PARETO_K_LIMIT
    assert np.exp(found.log_weights).sum() == pytest.approx(1.0)
    # Var(w) / E(w)^2 + 1 for a normal proposal of sd s: (s^2 / sqrt(2 s^2 - 1)) to the number of dimensions.
    expected = len(draws) / (1.3**2 / np.sqrt(2 * 1.3**2 - 1)) ** 3
    assert found.effective_draws == pytest.approx(expected, rel=0.1)
    picked = draws[resample(found, 3)]
    error = 1.0 / np.sqrt(found.effective_draws)
    np.testing.assert_allclose(picked.mean(axis=0), 0.0, atol=ERRORS * error)
    np.testing.assert_allclose(picked.std(axis=0), 1.0, atol=ERRORS * error / np.sqrt(2))
    np.testing.assert_array_equal(resample(found, 3), resample(found, 3))


def test_a_narrowed_guide_is_flagged() -> None:
    _, ratios = normal_ratios(0.5)
    # The tail of exp(a x^2) under a normal of sd s is a power law of shape 1 - s^2 = 0.75.
    found = smoothed(ratios)
    assert found.pareto_k > PARETO_K_LIMIT
    assert not found.reliable


def test_ratios_that_are_not_finite_are_not_reliable() -> None:
    found = smoothed(np.array([0.0, np.inf, 1.0] * 20))
    assert found.pareto_k == np.inf
    assert not found.reliable


def test_a_few_ratios_cannot_tell() -> None:
    assert not smoothed(np.zeros(10)).reliable


def gaussian(z: object, data: FloatArray) -> tuple[float, FloatArray]:
    """Potential of a normal with independent coordinates of sd `data`."""
    x = np.asarray(z)
    return float(0.5 * ((x / data) ** 2).sum()), x / data**2


def moved(factor: float, offset: float = 0.0, seed: int = 5) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Draws of an approximation that is `factor` times as wide and `offset` sd away, and some of them moved."""
    sd = np.linspace(0.5, 3.0, DIM)
    draws = sd * (offset + factor * np.random.default_rng(seed).standard_normal((1000, DIM)))
    found = refresh(gaussian, sd, draws, np.zeros(DIM), np.diag(sd), seed=seed)
    assert found.acceptance > 0.8
    return draws, draws[found.index], found.z


def test_right_draws_stay_where_they_are() -> None:
    found = moves(*moved(1.0))
    assert (np.abs(found.shift) < ERRORS * found.shift_error).all()
    assert (np.abs(found.log_width) < ERRORS * found.log_width_error).all()
    assert found.shift_error.max() < 0.12
    assert found.log_width_error.max() < 0.1


@pytest.mark.parametrize("factor", [0.5, 1.6])
def test_a_wrong_width_is_measured(factor: float) -> None:
    found = moves(*moved(factor))
    # A quarter turn, twice: nothing of the old width is left, but scores end at the outermost of a thousand draws.
    np.testing.assert_allclose(
        found.log_width, -np.log(factor), atol=ERRORS * found.log_width_error.max() + 0.08
    )


def test_a_shift_is_measured() -> None:
    found = moves(*moved(1.0, offset=0.8))
    np.testing.assert_allclose(found.shift, -0.8, atol=ERRORS * found.shift_error.max() + 0.05)


def test_the_seed_decides_and_progress_is_told() -> None:
    told: list[float] = []
    draws = np.random.default_rng(0).standard_normal((50, DIM))
    settings = {"centre": np.zeros(DIM), "transform": np.eye(DIM), "n_moved": 10}
    first = refresh(gaussian, np.ones(DIM), draws, **settings, seed=1, progress=told.append)
    again = refresh(gaussian, np.ones(DIM), draws, **settings, seed=1, threads=1)
    other = refresh(gaussian, np.ones(DIM), draws, **settings, seed=2)
    np.testing.assert_array_equal(first.z, again.z)
    assert not np.array_equal(first.z, other.z)
    assert first.z.shape == (10, DIM)
    assert max(told) == 1.0


def trust_of(factor: float, acceptance: float = 0.9) -> Trust:
    """Trust in fractions of two phases and three elements whose draws are moved to `factor` times their spread."""
    rng = np.random.default_rng(2)
    weights = np.exp(0.1 * rng.standard_normal((2000, 2, 4)))
    weights[:, 1, 2] = 0.0  # declared absent
    fractions = nominal_fractions(weights, np.ones((2, 3)))
    later = np.exp(0.1 * factor * rng.standard_normal((128, 2, 3)))
    later[:, 1, 2] = 0.0
    after = nominal_fractions(later, np.ones((2, 3)))
    compositions, ratios = quantity_moves(fractions, fractions[:128], after)
    return Trust(
        pareto_k=0.5,
        effective_draws=100.0,
        resampled=False,
        acceptance=acceptance,
        compositions=compositions,
        ratios=ratios,
    )


def test_the_verdict_names_the_worst_quantity_and_what_to_run() -> None:
    phases, elements = ["Brg", "Fp"], ["Mg", "Si", "Ca"]
    assert trust_of(1.0).problems("Laplace", phases, elements) == []
    (sentence,) = trust_of(2.0).problems("Laplace", phases, elements)
    assert "Laplace approximation is wrong for" in sentence
    assert 'Run `method = "nuts"`' in sentence
    quantities = trust_of(2.0).quantities(phases, elements)
    assert len(quantities) == 7  # six fractions and three ratios, less those of what is absent
    assert quantities[0][0] in sentence
    assert "x(Ca in Fp)" not in [name for name, *_ in quantities]
    assert not any(off for *_, off in trust_of(1.0).quantities(phases, elements))


def test_steps_that_are_rejected_test_nothing() -> None:
    (sentence,) = trust_of(1.0, acceptance=0.05).problems(
        "variational (flow)", ["A", "B"], ["Mg", "Si", "Ca"]
    )
    assert "could not be checked: 95 %" in sentence
    assert sentence.endswith('Run `method = "nuts"` instead.')
    (sentence,) = trust_of(1.0, acceptance=0.05).problems("Laplace", ["A", "B"], ["Mg", "Si", "Ca"], ["hole"])
    assert sentence.endswith('Next to no counts belong to hole: leave it out, or run `method = "nuts"`.')
