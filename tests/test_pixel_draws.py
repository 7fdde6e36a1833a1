"""Joint draws of pixels against enumeration, and what they must have in common with the per-pixel pass."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import gammaln, ndtr
from scipy.stats import gamma, kstest

from bayesunmix.inference import pixel_draws, region_draws
from bayesunmix.inference.mixture import relative_likelihood, responsibilities
from bayesunmix.inference.pixel_draws import (
    EndmemberDraws,
    PixelSet,
    draw_pixels,
    gamma_factors,
    own_uniforms,
    shared_uniforms,
)
from bayesunmix.inference.pixel_model import PixelModel, PixelReader
from bayesunmix.inference.pixel_posterior import pixel_posterior
from bayesunmix.inference.region_draws import CONCENTRATIONS, draw_region
from bayesunmix.inference.spatial import RADII
from bayesunmix.models.thickness import ThicknessDraws, no_effect

FloatArray = npt.NDArray[np.float64]

SPECTRA = np.array([[0.50, 0.25, 0.15, 0.08, 0.02], [0.05, 0.10, 0.20, 0.25, 0.40]])
OTHER = np.array([[0.46, 0.27, 0.16, 0.08, 0.03], [0.08, 0.12, 0.20, 0.24, 0.36]])
PER_COUNT = np.array([1.0, 2.5])
SEED = 5


def drawn_counts(share: FloatArray, counts: int, seed: int) -> npt.NDArray[np.uint16]:
    mixed = (1 - share)[:, None] * SPECTRA[0] + share[:, None] * SPECTRA[1]
    return np.random.default_rng(seed).multinomial(counts, mixed).astype(np.uint16)


def pixel_set(
    counts: npt.NDArray[Any], model: PixelModel, *, n_draws: int = 4000, both: bool = True
) -> PixelSet:
    """Draws that are in turn at the one and the other value of the endmembers."""
    spectra = np.stack([SPECTRA, OTHER if both else SPECTRA])
    return PixelSet(
        counts=counts,
        thickness=ThicknessDraws(np.ones(len(counts)), no_effect(2, 5), np.ones(n_draws), np.zeros(n_draws)),
        model=model,
        draws=EndmemberDraws(
            number=np.arange(n_draws),
            spectra=spectra[np.arange(n_draws) % 2],
            atoms_per_count=np.tile(PER_COUNT, (n_draws, 1)),
        ),
        supports=np.zeros(2, bool),
        weights=model.weights,
    )


def values(pixels: PixelSet, draws: Any) -> FloatArray:  # noqa: ANN401
    """Abundance of the second phase, (draw, pixel)."""
    return np.stack([one.values.abundance[one.point, 1] for one in draws])


@pytest.fixture(scope="module")
def counts() -> npt.NDArray[np.uint16]:
    return drawn_counts(np.array([0.0, 0.3, 0.35, 1.0] * 40), 60, 0)


@pytest.fixture(scope="module")
def model(counts: npt.NDArray[np.uint16]) -> PixelModel:
    return PixelModel.learned(counts, 0.5 * (SPECTRA + OTHER))


def shares(pixels: PixelSet, draw: int) -> FloatArray:
    likelihood = relative_likelihood(pixels.reader.counts(slice(None)), pixels.log_mixed(draw))
    return responsibilities(likelihood, pixels.model.weights).astype(float)


def test_draws_are_those_of_the_per_pixel_pass(counts: npt.NDArray[np.uint16], model: PixelModel) -> None:
    few = counts[:8]
    pixels = pixel_set(few, model)
    found = values(pixels, draw_pixels(pixels, own_uniforms(np.arange(8), SEED), SEED))
    expected = pixel_posterior(
        few, np.stack([SPECTRA, OTHER]), np.tile(PER_COUNT, (2, 1)), level=0.9, model=model
    )
    error = expected.sd[:, 1] / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - expected.mean[:, 1]) < 4.5 * error + 1e-6).all()
    # An sd that rests on a point which one draw in a hundred meets scatters more than that.
    np.testing.assert_allclose(found.std(axis=0), expected.sd[:, 1], rtol=0.15, atol=0.01)


def test_mean_of_pixels_scatters_as_enumeration_has_it(
    counts: npt.NDArray[np.uint16], model: PixelModel
) -> None:
    chosen = np.array([0, 1, 3])
    pixels = pixel_set(counts[chosen], model)
    found = values(pixels, draw_pixels(pixels, own_uniforms(chosen, SEED), SEED)).mean(axis=1)
    means, weights = [], []
    for draw in (0, 1):
        share, table = shares(pixels, draw), pixels.at(draw).abundance[:, 1]
        some = [np.flatnonzero(row > 1e-5) for row in share]
        for points in itertools.product(*some):
            means.append(table[list(points)].mean())
            weights.append(0.5 * np.prod([row[point] for row, point in zip(share, points, strict=True)]))
    mean = np.average(means, weights=weights)
    sd = np.sqrt(np.average((np.array(means) - mean) ** 2, weights=weights))
    assert found.mean() == pytest.approx(mean, abs=4.5 * sd / np.sqrt(len(found)))
    assert found.std() == pytest.approx(sd, rel=0.06)


def test_a_pixel_has_the_same_draw_in_any_company(counts: npt.NDArray[np.uint16], model: PixelModel) -> None:
    def of(places: npt.NDArray[np.int64]) -> FloatArray:
        pixels = pixel_set(counts[places], model, n_draws=6)
        return values(pixels, draw_pixels(pixels, own_uniforms(places, SEED), SEED))

    many, few = np.arange(5, 140), np.array([17, 90])
    np.testing.assert_array_equal(of(many)[:, few - 5], of(few))
    other = pixel_set(counts[few], model, n_draws=6)
    again = values(other, draw_pixels(other, own_uniforms(few, SEED + 1), SEED + 1))
    assert (again != of(few)).any()


def test_uniform_numbers_are_uniform_and_independent() -> None:
    one = own_uniforms(np.arange(4000), SEED)
    assert kstest(one(0), "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(one(0), one(1))[0, 1]) < 4.5 / np.sqrt(4000)
    assert abs(np.corrcoef(one(0)[1:], one(0)[:-1])[0, 1]) < 4.5 / np.sqrt(4000)


def test_neighbours_share_errors_as_the_windows_say() -> None:
    shape, everywhere = (21, 24), np.ones((21, 24), bool)
    pixels = np.arange(21 * 24)
    trust = np.zeros((len(pixels), len(RADII)))
    trust[:, 2] = 0.7
    uniforms = shared_uniforms(pixels, trust, shape, everywhere, SEED)
    normal = np.stack([ndtri(uniforms(number)) for number in range(1500)]).reshape(-1, *shape)
    centre = normal[:, 10, 12]
    # By hand: each pixel's number is its own and 0.7 exp(-d^2 / 2 sigma^2) of each neighbour's.
    y, x = np.mgrid[-20:21, -20:21]
    reach = int(3.0 * RADII[2] + 0.5)
    kernel = 0.7 * np.exp(-(y**2 + x**2) / (2.0 * RADII[2] ** 2)) * ((abs(y) <= reach) & (abs(x) <= reach))
    kernel[20, 20] = 1.0
    kernel /= np.sqrt((kernel**2).sum())
    for down, right in ((0, 1), (1, 1), (0, 3), (0, 9)):
        expected = (kernel * np.roll(kernel, (down, right), (0, 1))).sum()
        found = np.corrcoef(centre, normal[:, 10 + down, 12 + right])[0, 1]
        assert found == pytest.approx(expected, abs=4.5 / np.sqrt(1500))
    assert centre.std() == pytest.approx(1.0, abs=4.5 / np.sqrt(2 * 1500))
    part = shared_uniforms(pixels[30:34], trust[:4], shape, everywhere, SEED)
    np.testing.assert_allclose(part(3), uniforms(3)[30:34], atol=1e-12)


def ndtri(uniform: FloatArray) -> FloatArray:
    from scipy.special import ndtri as inverse

    found = np.asarray(inverse(uniform))
    np.testing.assert_allclose(ndtr(found), uniform, atol=1e-9)
    return found


def test_region_of_few_pixels_is_the_posterior_of_its_own_weights(
    counts: npt.NDArray[np.uint16], model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pixels: all pairs of support points, with the weights of the region integrated out by hand."""
    monkeypatch.setattr(region_draws, "BURN_IN", 20)
    monkeypatch.setattr(region_draws, "SWEEPS", 4)
    pixels = pixel_set(counts[[1, 6]], model, n_draws=2500, both=False)
    found = values(pixels, draw_region(pixels, SEED))
    likelihood = relative_likelihood(pixels.reader.counts(slice(None)), pixels.log_mixed(0)).astype(float)
    base = model.weights / model.weights.sum()
    c = CONCENTRATIONS[:, None]
    joint = np.outer(base, base)[None] * c[..., None] ** 2 + np.eye(len(base))[None] * (c * base)[:, None, :]
    joint /= (c * (c + 1.0))[..., None]
    odds = joint.mean(axis=0) * np.outer(*likelihood)
    odds /= odds.sum()
    table = pixels.at(0).abundance[:, 1]
    mean = np.array([odds.sum(axis=1) @ table, odds.sum(axis=0) @ table])
    sum_square = (odds * (table[:, None] + table[None]) ** 2).sum()
    sd = np.sqrt(sum_square - mean.sum() ** 2)
    assert found.sum(axis=1).mean() == pytest.approx(mean.sum(), abs=0.15 * sd)
    assert found.sum(axis=1).std() == pytest.approx(sd, rel=0.12)
    marginal = np.sqrt(odds.sum(axis=1) @ table**2 - mean[0] ** 2)
    assert found[:, 0].mean() == pytest.approx(mean[0], abs=0.15 * marginal)


def test_evidence_of_numbers_is_that_of_one_pixel_after_the_other() -> None:
    base, number = np.array([0.6, 0.3, 0.1]), np.array([3.0, 0.0, 2.0])
    found = np.exp(region_draws.log_evidence(number, base))
    for c, value in zip(CONCENTRATIONS, found, strict=True):
        held, expected = np.zeros(3), 1.0
        for point in (0, 0, 0, 2, 2):
            expected *= (c * base[point] + held[point]) / (c + held.sum())
            held[point] += 1.0
        assert value == pytest.approx(expected, rel=1e-9)
    assert np.isfinite(gammaln(CONCENTRATIONS)).all()


def test_a_region_unlike_the_map_is_not_drawn_towards_it() -> None:
    """Most of the map is pure: a grain's mean must not suffer from that."""
    share = np.concatenate([np.zeros(1500), np.full(100, 0.25)])
    grid = drawn_counts(share, 60, 3)
    model = PixelModel.learned(grid, SPECTRA)
    pixels = pixel_set(grid[1500:], model, n_draws=150, both=False)
    truth = 0.25 * PER_COUNT[1] / (0.75 * PER_COUNT[0] + 0.25 * PER_COUNT[1])
    alone = values(pixels, draw_pixels(pixels, own_uniforms(np.arange(1500, 1600), 1), 1)).mean(axis=1)
    own = values(pixels, draw_region(pixels, 1)).mean(axis=1)
    assert abs(own.mean() - truth) < 3.5 * own.std()
    assert abs(alone.mean() - truth) > abs(own.mean() - truth)
    again = values(pixels, draw_region(pixels, 1)).mean(axis=1)
    np.testing.assert_array_equal(own, again)


def test_large_regions_are_drawn_batch_by_batch(
    counts: npt.NDArray[np.uint16], model: PixelModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = pixel_set(counts, model, n_draws=200, both=False)
    held = values(pixels, draw_region(pixels, SEED)).mean(axis=1)
    monkeypatch.setattr(region_draws, "MOST_HELD", 10)
    monkeypatch.setattr("bayesunmix.inference.pixel_model.BATCH_PIXELS", 50)
    read = values(pixels, draw_region(pixels, SEED)).mean(axis=1)
    assert read.mean() == pytest.approx(held.mean(), abs=held.std())
    assert read.std() == pytest.approx(held.std(), rel=0.5)


def test_cube_root_normal_is_a_gamma_variate() -> None:
    normal = np.random.default_rng(0).standard_normal(20000)
    for n in (4.0, 100.0):
        assert kstest(n * gamma_factors(np.full(20000, n), normal), gamma(n).cdf).statistic < 0.015


def test_trust_in_neighbours_is_none_where_they_are_not_alike() -> None:
    rng = np.random.default_rng(2)
    shape, everywhere = (24, 24), np.ones((24, 24), bool)
    share = rng.uniform(size=24 * 24)
    model = PixelModel.learned(drawn_counts(share, 200, 4), SPECTRA, neighbours=everywhere)
    reader = PixelReader(drawn_counts(share, 200, 4), None)
    near = model.neighbourhood(reader, everywhere)
    assert near is not None
    apart = near.trust(slice(0, 24)).sum(axis=1).mean()
    smooth = np.repeat([0.1, 0.6], 24 * 12)
    alike = PixelModel.learned(drawn_counts(smooth, 200, 4), SPECTRA, neighbours=everywhere)
    close = alike.neighbourhood(PixelReader(drawn_counts(smooth, 200, 4), None), everywhere)
    assert close is not None
    assert close.trust(slice(0, 24)).sum(axis=1).mean() > 5.0 * apart
    assert pixel_draws.ranking(model.support_points, 0, 1).shape == (len(model.weights),)
    assert shape == everywhere.shape
