"""Neighbourhood-dependent weights: exact on small cases, silent where neighbours say nothing, honest where they do."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter

from bayesunmix.inference import spatial
from bayesunmix.inference.mixture import relative_likelihood, responsibilities, support_point_weights
from bayesunmix.inference.pixel_posterior import PixelPosterior, pixel_posterior
from bayesunmix.inference.spatial import neighbour_weights, window_shares

FloatArray = npt.NDArray[np.float64]

SHAPE = (40, 40)
EVERYWHERE = np.ones(SHAPE, bool)
SPECTRA = np.array([[0.50, 0.25, 0.15, 0.08, 0.02], [0.05, 0.10, 0.20, 0.25, 0.40]])


def smooth_share(seed: int) -> FloatArray:
    """Share of the second phase: none over half the map, smooth grains elsewhere."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(SHAPE), 3.0)
    return np.clip(field / field.std(), 0.0, 1.0).ravel()


def draw(share: FloatArray, counts: int, seed: int) -> npt.NDArray[np.uint16]:
    mixed = (1 - share)[:, None] * SPECTRA[0] + share[:, None] * SPECTRA[1]
    return np.random.default_rng(seed).multinomial(counts, mixed).astype(np.uint16)


def run(counts: npt.NDArray[np.uint16], neighbours: npt.NDArray[np.bool_] | None) -> PixelPosterior:
    return pixel_posterior(counts, SPECTRA[None], np.ones((1, 2)), level=0.95, neighbours=neighbours)


def test_window_is_the_product_of_the_neighbours_likelihoods() -> None:
    rng = np.random.default_rng(0)
    rows, columns, points, radius, trust = 5, 4, 3, 0.9, 0.4
    joint = rng.normal(size=(rows * columns, points)).astype(np.float32)
    pi = np.array([0.5, 0.3, 0.2])
    pooled = spatial._pooled(joint, np.ones((rows, columns), bool), radius)
    found = spatial._window(pooled, pi.astype(np.float32), trust)
    y, x = np.divmod(np.arange(rows * columns), columns)
    reach = int(3.0 * radius + 0.5)
    apart = np.maximum(abs(y[:, None] - y), abs(x[:, None] - x))
    kernel = np.exp(-0.5 * ((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / radius**2) * (apart <= reach)
    np.fill_diagonal(kernel, 0.0)  # the pixel's own counts are left out
    expected = pi * np.exp(trust * kernel @ joint)
    np.testing.assert_allclose(found, expected / expected.sum(axis=1, keepdims=True), rtol=1e-4)


def test_shares_are_those_that_predict_best() -> None:
    rng = np.random.default_rng(1)
    evidence = rng.gamma(1.0, size=(400, 3))
    shares = window_shares(evidence)
    assert shares.sum() == pytest.approx(1.0)
    gain = (evidence / (evidence @ shares)[:, None]).mean(axis=0)
    # At the maximum on the simplex the mean gain is 1 where a share is positive and smaller elsewhere.
    np.testing.assert_allclose(gain[shares > 1e-3], 1.0, atol=1e-2)
    assert (gain < 1.0 + 1e-2).all()


def test_neighbours_that_say_nothing_are_not_heard() -> None:
    share = np.random.default_rng(2).permutation(smooth_share(0))
    counts = draw(share, 60, 3)
    points = np.stack([1 - np.linspace(0, 1, 21), np.linspace(0, 1, 21)], axis=1)
    likelihood = relative_likelihood(counts.astype(np.float32), np.log(points @ SPECTRA))
    weights = support_point_weights(likelihood)
    coupled, shares = neighbour_weights(np.log(np.maximum(likelihood, 1e-30)), weights, EVERYWHERE)
    assert shares[0] > 0.8
    alone, together = (responsibilities(likelihood, w) @ points[:, 1] for w in (weights, coupled))
    errors = [np.sqrt(((estimate - share) ** 2).mean()) for estimate in (alone, together)]
    assert errors[1] < 1.02 * errors[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_neighbours_sharpen_maps_and_keep_intervals_honest(seed: int) -> None:
    share = smooth_share(seed)
    counts = draw(share, 60, seed + 10)
    alone, together = run(counts, None), run(counts, EVERYWHERE)
    errors = [np.sqrt(((found.mean[:, 1] - share) ** 2).mean()) for found in (alone, together)]
    assert errors[1] < 0.75 * errors[0]
    inside = (together.lower[:, 1] <= share + 0.01) & (together.upper[:, 1] >= share - 0.01)
    assert inside.mean() > 0.93
    widths = [(found.upper - found.lower)[:, 1].mean() for found in (alone, together)]
    assert widths[1] < 0.9 * widths[0]


def test_a_pixel_is_not_its_own_neighbour() -> None:
    """A lone grain of one pixel that its counts show beyond doubt stays, whatever surrounds it."""
    share = np.zeros(SHAPE)
    share[20, 20] = 1.0
    counts = draw(share.ravel(), 400, 5)
    found = run(counts, EVERYWHERE)
    assert found.mean.reshape(*SHAPE, 2)[20, 20, 1] > 0.9
    assert np.delete(found.mean[:, 1], 20 * 40 + 20).max() < 0.1


def test_a_map_of_one_pixel_has_no_neighbours() -> None:
    counts = draw(np.array([0.4]), 500, 0)
    alone, together = run(counts, None), run(counts, np.ones((1, 1), bool))
    for field in dataclasses.fields(alone):
        np.testing.assert_allclose(getattr(alone, field.name), getattr(together, field.name), atol=1e-3)


def test_pixels_that_are_left_out_are_like_the_outside_of_the_map() -> None:
    """Rows that are left out say nothing: the others are what they are on a map without those rows."""
    counts = draw(smooth_share(3), 60, 4).reshape(*SHAPE, -1)
    place = np.zeros(SHAPE, bool)
    place[:25] = True
    rest, alone = run(counts[place], place), run(counts[:25].reshape(25 * 40, -1), np.ones((25, 40), bool))
    for field in dataclasses.fields(alone):
        np.testing.assert_allclose(getattr(rest, field.name), getattr(alone, field.name), atol=1e-6)


def test_bands_are_the_whole_map(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    place = rng.uniform(size=SHAPE) > 0.1
    place[7] = False
    joint = rng.normal(size=(int(place.sum()), 4)).astype(np.float32)
    weights = np.array([0.4, 0.3, 0.3, 0.0])
    whole, shares = neighbour_weights(joint, weights, place)
    monkeypatch.setattr(spatial, "BAND_PIXELS", 5 * SHAPE[1])
    bands, shares_of_bands = neighbour_weights(joint, weights, place)
    np.testing.assert_allclose(shares_of_bands, shares, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(bands, whole, rtol=1e-4, atol=1e-6)
    counts = draw(smooth_share(2), 60, 8).reshape(*SHAPE, -1)[place]
    banded = run(counts, place)
    monkeypatch.setattr(spatial, "BAND_PIXELS", 10**6)
    for field in dataclasses.fields(banded):
        one, other = (getattr(found, field.name) for found in (banded, run(counts, place)))
        np.testing.assert_allclose(one, other, atol=2e-4)
