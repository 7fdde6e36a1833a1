"""Mixtures over fixed support points: weights of maximum likelihood, and pixels that lose nothing in groups."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import multinomial

from bayesunmix.inference import mixture
from bayesunmix.inference.mixture import (
    CHUNK_PIXELS,
    DROPPED_SHARE,
    WIDTH_CLASSES,
    group_pixels,
    one_group,
    padded_alike,
    relative_likelihood,
    responsibilities,
    support_point_weights,
)
from bayesunmix.models.unmixing import group_log_likelihood

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


def test_groups_hold_every_pixel_once(counts: npt.NDArray[np.float32], likelihood: FloatArray) -> None:
    groups = group_pixels(counts, _share(likelihood), np.log(POINTS @ SPECTRA))
    assert 1 <= len(groups) <= WIDTH_CLASSES
    rows = np.concatenate([group.counts[group.present > 0] for group in groups])
    np.testing.assert_array_equal(
        rows[np.lexsort(rows.T)],
        counts[np.lexsort(counts.T)],  # the same rows in some order
    )
    padding = [group.counts[group.present == 0] for group in groups]
    assert not np.concatenate(padding).any()
    assert sum(group.present.sum() for group in groups) == 700


def test_chunks_keep_all_the_support_points_that_a_pixel_needs(
    counts: npt.NDArray[np.float32], likelihood: FloatArray
) -> None:
    share = _share(likelihood)
    needed = {
        tuple(row): set(np.flatnonzero(s > DROPPED_SHARE)) for row, s in zip(counts, share, strict=True)
    }
    for group in group_pixels(counts, share, np.log(POINTS @ SPECTRA)):
        for chunk in range(len(group.counts)):
            held = set(group.support_points[chunk][group.log_present[chunk] == 0.0])
            wanted = [needed[tuple(row)] for row in group.counts[chunk][group.present[chunk] > 0]]
            assert set().union(*wanted) == held
            # The baseline lies among the log spectra of those support points.
            rows = np.log(POINTS @ SPECTRA)[sorted(held)]
            assert (group.baseline[chunk] > rows.min(axis=0) - 1e-2).all()
            assert (group.baseline[chunk] < rows.max(axis=0) + 1e-2).all()


def test_few_pixels_make_one_small_chunk(counts: npt.NDArray[np.float32], likelihood: FloatArray) -> None:
    (group,) = group_pixels(counts[:5], _share(likelihood)[:5], np.log(POINTS @ SPECTRA))
    assert group.counts.shape == (1, 5, 4)
    np.testing.assert_array_equal(group.present, 1.0)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=7))
def test_chunks_are_padded_as_little_as_may_be(widths: list[int]) -> None:
    sizes = np.array(widths)
    order = np.argsort(sizes, kind="stable")
    classes = mixture._width_classes(sizes, order)

    def cost(parts: list[npt.NDArray[np.int64]]) -> int:
        return sum(int(sizes[part].max()) * len(part) for part in parts)

    np.testing.assert_array_equal(np.concatenate(classes), order)
    cuts = itertools.combinations_with_replacement(range(len(sizes) + 1), WIDTH_CLASSES - 1)
    splits = [[part for part in np.split(order, cut) if len(part)] for cut in cuts]
    assert len(classes) <= WIDTH_CLASSES
    assert cost(classes) == min(cost(split) for split in splits)


def test_one_group_holds_all_pixels_with_all_support_points(counts: npt.NDArray[np.float32]) -> None:
    (group,) = one_group(counts, 9, np.log(np.full(4, 0.25)))
    assert group.counts.shape == (2, 4 * CHUNK_PIXELS, 4)
    np.testing.assert_array_equal(group.counts[group.present > 0], counts)
    assert not group.counts[group.present == 0].any()
    np.testing.assert_array_equal(group.support_points, np.tile(np.arange(9), (2, 1)))
    assert not group.log_present.any()
    np.testing.assert_allclose(group.baseline, np.log(0.25))


def test_padded_groups_have_one_shape_and_the_same_likelihood(
    counts: npt.NDArray[np.float32], likelihood: FloatArray
) -> None:
    """Two sets of groups, with other support points and another number of chunks, keep their likelihoods."""
    whole = group_pixels(counts, _share(likelihood), np.log(POINTS @ SPECTRA))
    part = group_pixels(counts[:300], _share(likelihood)[:300], np.log(POINTS @ SPECTRA))
    padded = padded_alike([whole, part])
    shapes = [[group.counts.shape + group.support_points.shape for group in groups] for groups in padded]
    assert shapes[0] == shapes[1]
    log_mixed = jnp.log(POINTS @ SPECTRA)
    log_pi = jnp.log(jnp.full(len(POINTS), 1.0 / len(POINTS)))
    for before, after in zip((whole, part), padded, strict=True):
        values = [
            sum(float(group_log_likelihood(group, log_mixed, log_pi)) for group in groups)
            for groups in (before, after)
        ]
        assert values[1] == pytest.approx(values[0], rel=1e-6)
        assert sum(group.counts.sum() for group in after) == sum(group.counts.sum() for group in before)
