"""Held-out scores: halves that are independent, what predicts the other half, and the rule that chooses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.fit.held_out import Mixture, by_tile, first_as_good, gain_over, halves, mixture_score

FloatArray = npt.NDArray[np.float64]


def test_halves_are_whole_counts_that_know_nothing_of_each_other() -> None:
    counts = np.random.default_rng(0).poisson(20.0, (4000, 5))
    first, second = halves(counts)
    np.testing.assert_array_equal(first + second, counts)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] == pytest.approx(0.0, abs=0.03)
    assert first.mean() == pytest.approx(10.0, abs=0.1)


def test_the_density_of_a_mixture_is_relative_to_what_all_share() -> None:
    spectra = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    counts = np.array([[3.0, 1.0, 0.0], [0.0, 2.0, 5.0]], np.float32)
    weights, common = np.array([0.25, 0.75]), np.full(3, 1 / 3)
    joint = counts @ np.log(spectra / common).T.astype(np.float32)
    found = Mixture(joint, joint, weights).by_block()
    by_hand = [
        np.log(sum(w * np.prod((s / common) ** row) for w, s in zip(weights, spectra, strict=True)))
        for row in counts.astype(float)
    ]
    np.testing.assert_allclose(found, by_hand, rtol=1e-5)


def test_points_where_blocks_are_predict_them_better_than_points_beside_them() -> None:
    rng = np.random.default_rng(1)
    spectra = rng.dirichlet(np.ones(30), 3)
    counts = rng.poisson(400.0 * spectra[rng.integers(0, 3, 600)])
    first, second = halves(counts)
    common = np.log(counts.sum(axis=0) / counts.sum())
    mixed = np.array([[0.8, 0.2, 0.0], [0.0, 0.8, 0.2], [0.2, 0.0, 0.8]]) @ spectra
    there, beside, both = (
        mixture_score(first, second, np.log(points), common).sum()
        for points in (spectra, mixed, np.concatenate([spectra, mixed]))
    )
    assert there > beside + 100.0
    # Points where no block is cost next to nothing, and gain nothing.
    assert there - 5.0 < both < there + 1.0


def test_a_mixture_held_to_some_points_is_one_of_these_alone() -> None:
    rng = np.random.default_rng(2)
    spectra = rng.dirichlet(np.ones(30), 4)
    first, second = halves(rng.poisson(400.0 * spectra[rng.integers(0, 4, 500)]))
    common = np.log(np.full(30, 1 / 30))
    kept = np.array([True, True, False, True])
    held = Mixture.of(first, second, np.log(spectra), common).held_to(kept)
    alone = Mixture.of(first, second, np.log(spectra[kept]), common)
    np.testing.assert_allclose(held.weights, alone.weights, atol=1e-3)
    assert held.by_block().sum() == pytest.approx(alone.by_block().sum(), abs=0.5)


def test_the_first_within_one_error_of_the_best_is_chosen() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0.0, 1.0, (4, 36))
    noise -= noise.mean(axis=1, keepdims=True)
    tiles = [np.zeros(36), 10.0 + noise[0], 10.01 + noise[0] + 0.1 * noise[1], 9.0 + noise[0]]
    chosen, gains = first_as_good(tiles)
    assert chosen == 1
    assert max(gain.nats for gain in gains) == 0.0
    assert gains[0].nats < -300.0
    gain, error = gain_over(tiles[1], tiles[0])
    assert gain == pytest.approx(tiles[1].sum())
    assert error == pytest.approx(6.0 * tiles[1].std(ddof=1))


def test_scores_are_summed_by_tile() -> None:
    np.testing.assert_allclose(by_tile(np.array([1.0, 2.0, 4.0]), np.array([0, 2, 0])), [5.0, 0.0, 2.0])
