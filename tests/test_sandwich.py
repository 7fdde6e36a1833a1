"""Robust covariance from tiles: false use, recovery, and the draws that follow."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.checks.robust import stretched
from bayesunmix.inference.laplace import TruncatedGaussian
from bayesunmix.inference.sandwich import Stretch, stretch_of, tile_labels

FloatArray = npt.NDArray[np.float64]

DIM, QUANTITIES, TILES = 40, 8, 36


def parts(
    seed: int,
) -> tuple[FloatArray, FloatArray, FloatArray, list[FloatArray], np.random.Generator]:
    """Root of a covariance, gradients of quantities, scores of homogeneous maps, one and more, and the generator."""
    rng = np.random.default_rng(seed)
    root = np.tril(rng.normal(0.0, 0.1, (DIM, DIM))) + np.eye(DIM)
    gradients = rng.normal(size=(QUANTITIES, DIM))
    # Scores have the inverse covariance over the map.
    maps = rng.standard_normal((25, TILES, DIM)) / np.sqrt(TILES) @ np.linalg.inv(root)
    return root, gradients, maps[0], list(maps[1:]), rng


def test_a_homogeneous_map_is_seldom_stretched() -> None:
    used = 0
    for seed in range(60):
        root, gradients, scores, null = parts(seed)[:4]
        found = stretch_of(scores, null, root, [gradients[:4], gradients[4:]], false_use=0.05)
        assert found is not None
        used += len(found.variances) > 0
    # Three expected of 60: ten or more have a probability of 0.001.
    assert used <= 9


def test_a_varying_direction_gets_the_variance_it_has() -> None:
    ratios = []
    for seed in range(60):
        root, gradients, scores, null, rng = parts(seed)
        # The first quantity varies from tile to tile: 25 times the model's variance.
        slope = gradients[0] @ root
        along = slope / np.linalg.norm(slope)
        shared = np.sqrt(24.0 / TILES) * rng.standard_normal(TILES)
        scores = scores + shared[:, None] * (along @ np.linalg.inv(root))
        found = stretch_of(scores, null, root, [gradients[:4], gradients[4:]])
        assert found is not None
        assert len(found.variances) >= 1
        assert found.significance < 0.01
        np.testing.assert_allclose(
            found.directions.T @ found.directions, np.eye(len(found.variances)), atol=1e-9
        )
        ratios.append(found.stretched_variance(gradients @ root)[0] / found.model_variance[0])
        untested = found.robust_variance[0] / found.model_variance[0]
        assert 0.3 < untested / 25.0 < 2.5
    # Student's factor for 35 degrees of freedom is 1.07; the mean of 60 estimates is known to 3 %.
    assert np.mean(ratios) == pytest.approx(25.0 * 1.07, rel=0.12)


def test_few_tiles_are_no_comparison() -> None:
    root, gradients, scores, null, _ = parts(0)
    assert stretch_of(scores[:8], null, root, [gradients]) is None


def test_stretched_draws_stay_positive_and_keep_their_mean() -> None:
    rng = np.random.default_rng(4)
    root = np.diag([0.5, 0.2, 1.0])
    y = np.maximum(np.array([6.0, 0.3, -2.0]) + rng.standard_normal((2, 3000, 3)) @ root.T, 1e-6)
    y[..., 2] = rng.normal(-2.0, 1.0, (2, 3000))
    z = y.copy()
    z[..., :2] = np.log(np.expm1(y[..., :2]))
    target = TruncatedGaussian(np.array([6.0, 0.3, -2.0]), root @ root.T)
    stretch = Stretch(
        directions=np.array([[1.0], [0.0], [0.0]]),
        variances=np.array([4.0]),
        significance=0.001,
        tiles=TILES,
        robust_variance=np.ones(1),
        model_variance=np.ones(1),
    )
    wide = stretched(z, target, stretch, slice(0, 2))
    assert wide.shape == z.shape
    assert np.isfinite(wide).all()
    back = np.logaddexp(0.0, wide[..., 0])
    assert back.std() == pytest.approx(2.0 * y[..., 0].std(), rel=0.02)
    assert back.mean() == pytest.approx(y[..., 0].mean(), rel=0.01)
    np.testing.assert_allclose(wide[..., 1:], z[..., 1:], atol=1e-6)


def test_tiles_cover_the_grid_evenly() -> None:
    labels = tile_labels((40, 60), 36)
    counts = np.bincount(labels.ravel())
    assert 30 <= len(counts) <= 42
    assert counts.max() <= 1.6 * counts.min()
    assert len(np.unique(tile_labels((1, 100), 36))) == 36
    assert len(np.unique(tile_labels((2, 2), 36))) == 4
