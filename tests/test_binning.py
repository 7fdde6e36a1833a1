from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesunmix.core.errors import InputError
from bayesunmix.data.binning import bin_channels, bin_image, channel_bins, pixel_bins
from bayesunmix.data.image import SpectrumImage

EDGES = 0.1 + 0.01 * np.arange(2001)


def fwhm(energy_keV: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Width of a silicon drift detector of 130 eV at Mn Kα."""
    return np.sqrt(np.maximum(2.5e-3 * (energy_keV - 5.8987) + 0.130**2, 0.03**2))


@st.composite
def images(draw: st.DrawFn) -> SpectrumImage:
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(2, 30)))
    mean = draw(st.sampled_from([0.05, 2.0, 150.0, 30_000.0]))
    counts = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).poisson(mean, shape)
    counts[0, 0, 0] += 1
    energy = 1.0 + 0.01 * np.arange(shape[2])
    return SpectrumImage.from_array(counts, energy, beam_energy_keV=200.0, takeoff_angle_deg=20.0)


@st.composite
def images_with_bins(draw: st.DrawFn) -> tuple[SpectrumImage, list[int], int]:
    image = draw(images())
    inner = draw(st.sets(st.integers(1, image.n_channels - 1), max_size=image.n_channels - 1))
    side = draw(st.integers(1, max(image.shape[:2])))
    return image, [0, *sorted(inner), image.n_channels], side


@settings(max_examples=60)
@given(images_with_bins())
def test_bins_are_sums_of_what_they_cover(case: tuple[SpectrumImage, list[int], int]) -> None:
    image, boundaries, side = case
    binned = bin_image(image, boundaries, side)
    counts = image.counts.astype(np.int64)
    for block in range(binned.n_blocks):
        inside = counts[binned.block_index == block].sum(axis=0)
        expected = [inside[a:b].sum() for a, b in pairwise(boundaries)]
        np.testing.assert_array_equal(binned.counts[block], expected)
    assert binned.total_counts.sum() == counts.sum()
    assert binned.pixels_in_block.sum() == image.n_pixels
    assert binned.pixels_in_block.max() <= side**2
    np.testing.assert_allclose(binned.edges_keV, image.channel_edges_keV[boundaries])


@settings(max_examples=40)
@given(images_with_bins())
def test_channels_then_pixels_is_pixels_then_channels(case: tuple[SpectrumImage, list[int], int]) -> None:
    image, boundaries, side = case
    at_once = bin_image(image, boundaries, side)
    channels_first = bin_channels(image, boundaries).astype(np.int64)
    pixels_first = bin_image(image, np.arange(image.n_channels + 1), side).counts.astype(np.int64)
    merged = np.zeros(at_once.counts.shape, dtype=np.int64)
    np.add.at(merged, at_once.block_index.ravel(), channels_first)
    np.testing.assert_array_equal(at_once.counts, merged)
    np.testing.assert_array_equal(at_once.counts, np.add.reduceat(pixels_first, boundaries[:-1], axis=1))


def test_sums_beyond_every_input_type_are_exact() -> None:
    counts = np.full((2, 2, 4), 250, dtype=np.uint8)
    image = SpectrumImage.from_array(counts, [1, 2, 3, 4], beam_energy_keV=200.0, takeoff_angle_deg=20.0)
    assert bin_image(image, [0, 4], 2).counts.tolist() == [[4000]]
    wide = SpectrumImage.from_array(
        np.full((2, 2, 2), 2**27), [1, 2], beam_energy_keV=200.0, takeoff_angle_deg=20.0
    )
    assert bin_image(wide, [0, 2], 2).counts.tolist() == [[2**30]]
    assert bin_channels(wide, [0, 2]).dtype == np.uint32


def test_values_of_blocks_return_to_the_grid() -> None:
    image = SpectrumImage.from_array(
        np.ones((3, 5, 2), dtype=int), [1, 2], beam_energy_keV=200.0, takeoff_angle_deg=20.0
    )
    binned = bin_image(image, [0, 2], 2)
    assert binned.block_index.tolist() == [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]]
    np.testing.assert_array_equal(binned.to_map(binned.total_counts)[2], [4, 4, 4, 4, 2])
    assert repr(binned).startswith(
        "BinnedCounts: 6 blocks of 2 x 2 pixels (3 x 5 in all), 1 energy bins, 5 counts"
    )


@given(st.lists(st.floats(0.2, 19.9), max_size=8), st.floats(0.2, 1.0))
def test_bins_are_fine_near_lines_and_cover_the_axis(lines: list[float], fraction: float) -> None:
    boundaries = channel_bins(EDGES, fwhm, lines, fraction)
    assert boundaries[0] == 0
    assert boundaries[-1] == EDGES.size - 1
    assert np.all(np.diff(boundaries) > 0)
    left, right = EDGES[boundaries[:-1]], EDGES[boundaries[1:]]
    for line in lines:
        near = (right > line - 2.0 * fwhm(np.array(line))) & (left < line + 2.0 * fwhm(np.array(line)))
        widths = fwhm(0.5 * (left + right))[near]
        # At most the fraction of the width there (which changes little over a bin), or one channel.
        assert np.all((right - left)[near] <= np.maximum(1.1 * fraction * widths, 0.01 + 1e-9))
    assert np.all(right - left <= 2.6 * fwhm(right) + 1e-9)


def test_bins_are_wide_where_only_continuum_lies() -> None:
    alone = channel_bins(EDGES, fwhm, [])
    widths = np.diff(EDGES[alone]) / fwhm(0.5 * (EDGES[alone][1:] + EDGES[alone][:-1]))
    # All but the remainder at the end are as wide as allowed, to a channel.
    assert np.all(widths[:-1] > 2.0)
    assert len(channel_bins(EDGES, fwhm, [1.74])) > len(alone)
    assert len(channel_bins(EDGES, fwhm, [500.0])) == len(alone)


def test_a_third_of_the_fwhm_keeps_the_information_on_a_peak() -> None:
    # Signal-to-noise squared of a weak peak's height on a flat background: sum of squares of the peak over the bins.
    sigma = fwhm(np.array(6.4)) / 2.3548
    peak = np.exp(-0.5 * ((0.5 * (EDGES[1:] + EDGES[:-1]) - 6.4) / sigma) ** 2)
    boundaries = channel_bins(EDGES, fwhm, [6.4])
    binned = np.add.reduceat(peak, boundaries[:-1])
    kept = np.sum(binned**2 / np.diff(boundaries)) / np.sum(peak**2)
    assert 0.965 < kept < 0.99


def test_axes_below_zero_and_bad_widths() -> None:
    edges = EDGES - 0.6
    assert channel_bins(edges, fwhm, [1.74])[-1] == edges.size - 1
    with pytest.raises(InputError, match="`fwhm_keV` must be positive and finite"):
        channel_bins(EDGES, lambda energy: energy - 1.0, [1.74])
    with pytest.raises(InputError, match="`fraction` must be positive, but is 0"):
        channel_bins(EDGES, fwhm, [1.74], 0)


@pytest.mark.parametrize(
    ("shape", "mean", "side"),
    [
        ((201, 201), 108.0, 3),
        ((201, 201), 5000.0, 1),
        ((64, 64), 6.3, 2),
        ((20, 20), 10.0, 1),
        ((1, 1), 10.0, 1),
        ((1, 4000), 250.0, 4),
    ],
)
def test_block_side_aims_at_the_target_and_keeps_enough_blocks(
    shape: tuple[int, int], mean: float, side: int
) -> None:
    assert pixel_bins(np.full(shape, mean)) == side


def test_large_maps_have_a_limited_number_of_blocks() -> None:
    totals = np.full((1024, 1024), 5000.0)
    assert pixel_bins(totals) == 4
    assert pixel_bins(totals, max_blocks=1024**2) == 1
    assert pixel_bins(np.full((1, 100), 5000.0), max_blocks=25) == 4


def test_block_side_is_never_beyond_the_map() -> None:
    assert pixel_bins(np.full((4, 6), 0.01), min_blocks=1) == 6
    with pytest.raises(InputError, match="`target` must be positive"):
        pixel_bins(np.ones((4, 4)), 0)


@pytest.mark.parametrize("boundaries", [[0], [0, 3], [1, 4], [0, 2, 2, 4], [0.0, 4.0], [[0, 4]]])
def test_boundaries_that_do_not_fit_are_refused(boundaries: list[float]) -> None:
    image = SpectrumImage.from_array(
        np.ones((2, 2, 4), dtype=int), [1, 2, 3, 4], beam_energy_keV=200.0, takeoff_angle_deg=20.0
    )
    with pytest.raises(InputError, match="`boundaries` must be whole numbers that rise from 0 to 4"):
        bin_channels(image, boundaries)
    with pytest.raises(InputError, match="`side` must be a whole number from 1 to 2, but is 3"):
        bin_image(image, [0, 4], 3)
