"""Pooled pixels: sums that lose nothing, and groups of pixels that hold the same."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.inference.mixture import relative_likelihood, support_point_weights
from bayesunmix.inference.pooling import alike, pooled

FloatArray = npt.NDArray[np.float64]

SPECTRA = np.array([[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.2, 0.6]])
SHARE = np.array([0.0, 0.3, 1.0])


@pytest.fixture(scope="module")
def truth() -> npt.NDArray[np.int64]:
    return np.random.default_rng(3).choice(3, size=600, p=[0.6, 0.3, 0.1])


@pytest.fixture(scope="module")
def counts(truth: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    share = SHARE[truth][:, None]
    rng = np.random.default_rng(4)
    total = rng.integers(300, 900, len(truth))
    return rng.multinomial(total, (1 - share) * SPECTRA[0] + share * SPECTRA[1]).astype(np.float32)


def test_sums_of_groups_hold_all_counts(counts: npt.NDArray[np.float32]) -> None:
    groups = pooled(counts, alike(counts, 20))
    assert len(groups.counts) == 20
    assert groups.number.sum() == len(counts)
    np.testing.assert_allclose(groups.sums.sum(axis=0), counts.sum(axis=0), rtol=1e-5)


def test_pixels_of_a_group_hold_the_same(
    counts: npt.NDArray[np.float32], truth: npt.NDArray[np.int64]
) -> None:
    """Shares 0.3 apart differ by a dozen standard deviations: no group holds two of them."""
    labels = alike(counts, 20)
    for label in range(20):
        assert len(np.unique(truth[labels == label])) == 1


def test_few_pixels_are_groups_of_their_own(counts: npt.NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(alike(counts[:20], 20), np.arange(20))


def test_pixels_that_are_the_same_are_one_group() -> None:
    counts = np.tile(np.array([[30.0, 10.0, 5.0]], np.float32), (50, 1))
    groups = pooled(counts, alike(counts, 8))
    assert groups.number.sum() == 50
    np.testing.assert_allclose(groups.counts, np.broadcast_to(counts[0], groups.counts.shape), rtol=1e-6)


def test_a_pixel_without_counts_is_no_obstacle(counts: npt.NDArray[np.float32]) -> None:
    with_empty = np.concatenate([counts, np.zeros((1, 4), np.float32)])
    assert alike(with_empty, 20).shape == (len(counts) + 1,)


def test_weights_of_groups_are_those_of_their_pixels(counts: npt.NDArray[np.float32]) -> None:
    log_mixed = np.log((1 - SHARE[:, None]) * SPECTRA[0] + SHARE[:, None] * SPECTRA[1])
    groups = pooled(counts, alike(counts, 40))
    every = support_point_weights(relative_likelihood(counts, log_mixed))
    few = support_point_weights(relative_likelihood(groups.counts, log_mixed), number=groups.number)
    np.testing.assert_allclose(few, every, atol=0.002)
