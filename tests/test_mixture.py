"""Mixtures over fixed support points: weights of maximum likelihood, and pixels that lose nothing in chunks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multinomial

from bayesunmix.inference.mixture import (
    DROPPED_SHARE,
    chunked,
    relative_likelihood,
    responsibilities,
    support_point_weights,
    with_all_points,
)
from bayesunmix.models.pixels import CHUNK_PIXELS, widths

FloatArray = npt.NDArray[np.float64]

SPECTRA = np.array([[0.5, 0.3, 0.15, 0.05], [0.05, 0.15, 0.2, 0.6]])
SHARE = np.linspace(0.0, 1.0, 9)
POINTS = np.stack([1 - SHARE, SHARE], axis=1)


@pytest.fixture(scope="module")
def counts() -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(2)
    truth = rng.choice(SHARE, size=700, p=[0.3, 0, 0.1, 0, 0.2, 0, 0, 0, 0.4])[:, None]
    return rng.multinomial(60, (1 - truth) * SPECTRA[0] + truth * SPECTRA[1]).astype(np.float32)


@pytest.fixture(scope="module")
def likelihood(counts: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return relative_likelihood(counts, np.log(POINTS @ SPECTRA))


def test_likelihood_is_multinomial(counts: npt.NDArray[np.float32], likelihood: FloatArray) -> None:
    exact = np.stack([multinomial.logpmf(counts.astype(int), 60, m) for m in POINTS @ SPECTRA], axis=1)
    exact = np.exp(exact - exact.max(axis=1, keepdims=True))
    # Sums of 60 counts times log ratios of order 1 in single precision.
    np.testing.assert_allclose(likelihood, exact, atol=60 * 3 * 2.0**-24 * 4)
    np.testing.assert_array_equal(likelihood.max(axis=1), 1.0)


def test_responsibilities_are_bayes_rule(likelihood: FloatArray) -> None:
    weights = np.random.default_rng(0).dirichlet(np.ones(9))
    share = responsibilities(likelihood.astype(np.float32), weights)
    np.testing.assert_allclose(share.sum(axis=1), 1.0, atol=1e-6)
    joint = likelihood * weights
    np.testing.assert_allclose(share, joint / joint.sum(axis=1, keepdims=True), atol=1e-6)


def test_no_number_is_too_small_for_single_precision_to_hold_whole() -> None:
    """Such numbers keep a processor ten times as long."""
    # Pixels of which each support point is up to e^-110 as likely as the best one: exponentials end at e^-103.
    counts = np.random.default_rng(3).multinomial(60, SPECTRA[0], size=200).astype(np.float32)
    log_mixed = np.log(np.linspace(1.0, 0.2, 60)[:, None] ** np.arange(4))
    found = relative_likelihood(counts, log_mixed)
    weights = np.geomspace(1.0, 1e-45, 60)
    share = responsibilities(found, weights / weights.sum())
    smallest = np.finfo(np.float32).smallest_normal
    assert (found == 0.0).any()
    for values in (found, share):
        assert not ((values > 0.0) & (values < smallest)).any()


def test_counts_decide_where_weights_leave_a_pixel_nothing() -> None:
    likelihood = np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]], np.float32)
    share = responsibilities(likelihood, np.array([0.0, 0.0, 1.0]))
    np.testing.assert_allclose(share, [[2 / 3, 1 / 3, 0.0], [0.0, 0.0, 1.0]], rtol=1e-6)


def test_weights_maximise_the_likelihood(likelihood: FloatArray) -> None:
    single = likelihood.astype(np.float32)

    def misfit(logits: FloatArray) -> float:
        return -float(np.log(likelihood.astype(float) @ softmax(logits)).sum())

    best = minimize(misfit, np.zeros(9), method="L-BFGS-B", options={"maxiter": 5000, "maxfun": 200_000})
    found = support_point_weights(single, n_iterations=3000)
    assert found.sum() == pytest.approx(1.0)
    # EM crawls towards zero weights; the likelihood is what it maximises.
    assert misfit(np.log(np.maximum(found, 1e-12))) == pytest.approx(best.fun, abs=0.05)
    again = support_point_weights(single, n_iterations=1, start=found)
    np.testing.assert_allclose(again, found, atol=1e-4)


def test_every_step_gains_likelihood(likelihood: FloatArray) -> None:
    weights = np.full(9, 1 / 9)
    reached = []
    for _ in range(20):
        reached.append(float(np.log(likelihood.astype(float) @ weights).sum()))
        weights = support_point_weights(likelihood.astype(np.float32), n_iterations=1, start=weights)
    assert (np.diff(reached) > -1e-3).all()
    assert reached[-1] > reached[0] + 10


def _share(likelihood: FloatArray) -> npt.NDArray[np.float32]:
    return responsibilities(likelihood.astype(np.float32), np.full(9, 1 / 9))


def test_chunks_hold_every_pixel_once(counts: npt.NDArray[np.float32], likelihood: FloatArray) -> None:
    pixels = chunked(counts, _share(likelihood), np.log(POINTS @ SPECTRA))
    assert pixels.counts.shape == (-(-700 // CHUNK_PIXELS), CHUNK_PIXELS, 4)
    rows = pixels.counts[pixels.present > 0]
    np.testing.assert_array_equal(
        rows[np.lexsort(rows.T)],
        counts[np.lexsort(counts.T)],  # the same rows in some order
    )
    assert not pixels.counts[pixels.present == 0].any()
    assert pixels.present.sum() == 700
    assert set(np.unique(pixels.present)) == {0.0, 1.0}
    assert pixels.ends[-1] == pixels.fewest == pixels.most == len(pixels.counts)


def test_chunks_keep_all_the_support_points_that_a_pixel_needs(
    counts: npt.NDArray[np.float32], likelihood: FloatArray
) -> None:
    share = _share(likelihood)
    needed = {
        tuple(row): set(np.flatnonzero(s > DROPPED_SHARE)) for row, s in zip(counts, share, strict=True)
    }
    pixels = chunked(counts, share, np.log(POINTS @ SPECTRA))
    assert pixels.n_points.min() < len(POINTS)  # something is dropped
    for chunk in range(len(pixels.counts)):
        held = pixels.support_points[chunk, : pixels.n_points[chunk]].tolist()
        wanted = [needed[tuple(row)] for row in pixels.counts[chunk][pixels.present[chunk] > 0]]
        assert sorted(set().union(*wanted)) == held
        # The baseline lies among the log spectra of those support points.
        rows = np.log(POINTS @ SPECTRA)[held]
        assert (pixels.baseline[chunk] > rows.min(axis=0) - 1e-2).all()
        assert (pixels.baseline[chunk] < rows.max(axis=0) + 1e-2).all()


def test_few_pixels_make_one_chunk(counts: npt.NDArray[np.float32], likelihood: FloatArray) -> None:
    pixels = chunked(counts[:5], _share(likelihood)[:5], np.log(POINTS @ SPECTRA))
    assert pixels.counts.shape == (1, CHUNK_PIXELS, 4)
    np.testing.assert_array_equal(pixels.present[0], np.arange(CHUNK_PIXELS) < 5)


@pytest.mark.parametrize("n_points", [9, 16, 17, 40, 128, 130])
def test_narrow_chunks_come_first_and_every_class_holds_those_that_fit(n_points: int) -> None:
    """A pixel of every number of support points, 128 times: each of these is a chunk."""
    sizes = np.random.default_rng(0).permutation(np.arange(1, n_points + 1))
    needed = np.repeat(np.arange(n_points) < sizes[:, None], CHUNK_PIXELS, axis=0)
    share = (needed / needed.sum(axis=1, keepdims=True)).astype(np.float32)
    counts = np.repeat(sizes[:, None], CHUNK_PIXELS, axis=0).astype(np.float32)
    pixels = chunked(counts, share, np.zeros((n_points, 1)))
    np.testing.assert_array_equal(pixels.n_points, np.arange(1, n_points + 1))
    np.testing.assert_array_equal(pixels.counts[:, :, 0], np.tile(pixels.n_points[:, None], CHUNK_PIXELS))
    assert widths(n_points)[-1] == n_points
    assert pixels.ends.tolist() == [min(width, n_points) for width in widths(n_points)]


def test_before_anything_is_known_all_pixels_have_all_support_points(
    counts: npt.NDArray[np.float32],
) -> None:
    pixels = with_all_points(counts, 9, np.log(np.full(4, 0.25)))
    n_chunks = -(-700 // CHUNK_PIXELS)
    assert pixels.counts.shape == (n_chunks, CHUNK_PIXELS, 4)
    np.testing.assert_array_equal(pixels.counts[pixels.present > 0], counts)
    assert not pixels.counts[pixels.present == 0].any()
    np.testing.assert_array_equal(pixels.support_points, np.tile(np.arange(9), (n_chunks, 1)))
    np.testing.assert_array_equal(pixels.n_points, 9)
    np.testing.assert_allclose(pixels.baseline, np.log(0.25))
    np.testing.assert_array_equal(pixels.ends, [n_chunks])
