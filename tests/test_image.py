import dataclasses

import dask.array as da
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.counts import compact_counts
from bayesunmix.data.image import SpectrumImage, uniform_axis

ENERGY = 1.0 + 0.01 * np.arange(50)
FACTS = {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0}


def counts_of(
    shape: tuple[int, ...], dtype: npt.DTypeLike = np.int64, seed: int = 0
) -> npt.NDArray[np.generic]:
    counts = np.random.default_rng(seed).poisson(0.4, shape)
    counts.flat[0] += 1
    return counts.astype(dtype)


def make(shape: tuple[int, ...] = (4, 5, 50)) -> SpectrumImage:
    return SpectrumImage.from_array(counts_of(shape), ENERGY, **FACTS)


@pytest.mark.parametrize(("shape", "grid"), [((50,), (1, 1)), ((7, 50), (1, 7)), ((4, 5, 50), (4, 5))])
def test_spectrum_line_scan_and_map(shape: tuple[int, ...], grid: tuple[int, int]) -> None:
    image = make(shape)
    assert image.shape == (*grid, 50)
    assert image.n_pixels == grid[0] * grid[1]
    np.testing.assert_array_equal(image.counts.ravel(), counts_of(shape).ravel())


@pytest.mark.parametrize(
    ("largest", "dtype"), [(255, np.uint8), (256, np.uint16), (65536, np.uint32), (2**32 - 1, np.uint32)]
)
@pytest.mark.parametrize("stored", [np.float64, np.int64, np.uint64])
def test_counts_take_the_smallest_type_that_holds_them(
    largest: int, dtype: type[np.generic], stored: type[np.generic]
) -> None:
    counts = np.zeros((2, 3, 4), dtype=stored)
    counts[1, 2, 3] = largest
    compact = compact_counts(counts)
    assert compact.dtype == dtype
    assert compact[1, 2, 3] == largest
    assert compact.flags.c_contiguous


@settings(max_examples=50)
@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]),
        hnp.array_shapes(min_dims=1, max_dims=3),
        elements=st.integers(0, 120),
    ).filter(lambda counts: counts.any()),
    st.booleans(),
)
def test_compact_counts_are_the_counts(counts: npt.NDArray[np.generic], lazy: bool) -> None:
    given_counts = da.from_array(counts, chunks=2) if lazy else counts
    np.testing.assert_array_equal(compact_counts(given_counts), counts)


def test_compact_counts_are_shared_not_copied() -> None:
    counts = counts_of((4, 5, 50), np.uint8)
    image = SpectrumImage.from_array(counts, ENERGY, **FACTS)
    assert np.shares_memory(image.counts, counts)
    with pytest.raises(ValueError, match="read-only"):
        image.counts[0, 0, 0] = 1
    counts[0, 0, 0] = 1  # the caller's own array stays writable


def test_lazy_counts_are_read_block_by_block() -> None:
    seen = []

    def remember(block: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        seen.append(block.shape)
        return block

    counts = counts_of((6, 4, 50), np.float64)
    counts[5, 3, 49] = 300.0  # the type has to grow on the way
    lazy = da.from_array(counts, chunks=(2, 2, 50)).map_blocks(
        remember, dtype=np.float64, meta=np.empty((0, 0, 0))
    )
    image = SpectrumImage.from_array(lazy, ENERGY, **FACTS)
    assert seen == [(2, 2, 50)] * 6
    assert image.counts.dtype == np.uint16
    np.testing.assert_array_equal(image.counts, counts)


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-1.0, r"`counts` must not be negative, but one is -1 at index \(3, 2, 1\). Give the raw counts"),
        (0.5, r"`counts` must be whole numbers, but one is 0.5 at index \(3, 2, 1\). Give the raw counts"),
        (np.inf, r"`counts` must be finite, but one is inf at index \(3, 2, 1\)"),
        (2.0**32, r"`counts` must lie below 2\*\*32, but reach 4.29497e\+09"),
    ],
)
def test_counts_that_are_none_are_refused(value: float, message: str, lazy: bool) -> None:
    counts = counts_of((4, 5, 50), np.float64)
    counts[3, 2, 1] = value
    with pytest.raises(InputError, match=message):
        SpectrumImage.from_array(da.from_array(counts, chunks=2) if lazy else counts, ENERGY, **FACTS)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (-np.ones((2, 2, 50), dtype=np.int8), "`counts` must not be negative, but one is -1"),
        (np.zeros((2, 2, 50), dtype=np.uint8), "`counts` must hold at least one photon, but are all zero"),
        (np.zeros((2, 2, 50)), "`counts` must hold at least one photon, but are all zero"),
        (
            np.ones((0, 2, 50)),
            "`counts` must hold at least one pixel and one channel, but have shape 0 x 2 x 50",
        ),
        (
            np.ones((2, 2, 2, 50)),
            "`counts` must have one to three dimensions, .* but have shape 2 x 2 x 2 x 50",
        ),
        (np.ones((2, 50), dtype=bool), "`counts` must be numbers of photons, but have the type bool"),
        (np.full((2, 50), "a"), "`counts` must be numbers of photons"),
        (
            np.ones((2, 50), dtype=complex),
            "`counts` must be numbers of photons, but have the type complex128",
        ),
        (3, r"`counts` must hold at least one pixel and one channel, but have shape \(\)"),
    ],
)
def test_unusable_count_arrays_are_refused(counts: npt.NDArray[np.generic], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SpectrumImage.from_array(counts, ENERGY, **FACTS)


@pytest.mark.parametrize(
    ("energy", "message"),
    [
        (
            ENERGY[::-1],
            "`energy_keV` must ascend, but goes from 1.49 to 1. Reverse the axis and the last dimension",
        ),
        (ENERGY[:-1], "`energy_keV` must hold one channel centre for each of the 50 channels, but holds 49"),
        (ENERGY**2, "`energy_keV` must have channels of equal width, but is not uniform"),
        (1000 * ENERGY, "`energy_keV` must be in keV, but ends at 1490. Divide an axis in eV by 1000"),
        (np.full(50, np.nan), "`energy_keV` must be finite, but holds NaN"),
        (None, "`energy_keV` must be the channel centres in keV"),
        ("keV", "`energy_keV` must be the channel centres in keV, but is not an array of numbers"),
        (
            np.ones((2, 25)),
            "`energy_keV` must be the channel centres in keV, one per channel, but has shape 2 x 25",
        ),
    ],
)
def test_unusable_energy_axes_are_refused(energy: npt.ArrayLike, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SpectrumImage.from_array(counts_of((4, 5, 50)), energy, **FACTS)


def test_energy_axis_is_made_exactly_uniform() -> None:
    axis = uniform_axis(ENERGY.astype(np.float32))
    assert np.ptp(np.diff(axis)) < 1e-12
    np.testing.assert_allclose(axis, ENERGY, atol=1e-6)


@pytest.mark.parametrize("size", [0.0, -1.0, (1.0, float("nan"))])
def test_senseless_pixel_sizes_are_refused(size: float | tuple[float, float]) -> None:
    with pytest.raises(InputError, match="`pixel_size` must be"):
        SpectrumImage.from_array(counts_of((4, 5, 50)), ENERGY, pixel_size=size, **FACTS)


def test_counts_of_other_dimensions_are_refused_by_the_class_itself() -> None:
    with pytest.raises(
        InputError, match="`counts` must have the dimensions y, x and energy, but have shape 5 x 50"
    ):
        SpectrumImage(counts=counts_of((5, 50), np.uint8), energy_keV=ENERGY)


def test_missing_facts_are_warned_of_once_and_recorded() -> None:
    with pytest.warns(BayesUnmixWarning, match="beam_energy_keV and takeoff_angle_deg: give them") as caught:
        image = SpectrumImage.from_array(counts_of((4, 5, 50)), ENERGY)
    assert len(caught) == 1
    assert image.warnings == (str(caught[0].message),)
    assert caught[0].filename == __file__
    with pytest.warns(BayesUnmixWarning, match="its takeoff_angle_deg: give it"):
        SpectrumImage.from_array(counts_of((4, 5, 50)), ENERGY, beam_energy_keV=200.0)
    assert make().warnings == ()


def test_given_facts_win() -> None:
    facts = Acquisition(beam_energy_keV=300.0, takeoff_angle_deg=18.0, elements=("Fe",))
    image = SpectrumImage.from_array(counts_of((4, 5, 50)), ENERGY, acquisition=facts, beam_energy_keV=200.0)
    assert image.acquisition == facts.replace(beam_energy_keV=200.0)
    assert image.replace_facts(takeoff_angle_deg=30.0).acquisition.takeoff_angle_deg == 30.0


def test_sums_and_views() -> None:
    image = make()
    counts = counts_of((4, 5, 50))
    np.testing.assert_array_equal(image.total_counts, counts.sum(axis=2))
    np.testing.assert_array_equal(image.sum_spectrum(), counts.sum(axis=(0, 1)))
    assert image.total_counts.dtype == image.sum_spectrum().dtype == np.int64
    assert np.shares_memory(image.pixel_matrix(), image.counts)
    np.testing.assert_array_equal(np.stack(list(image.rows())), image.counts)
    np.testing.assert_array_equal(image.pixel_matrix()[5], image.counts[1, 0])


def test_sums_do_not_overflow_the_count_type() -> None:
    image = SpectrumImage.from_array(np.full((40, 40, 50), 255, dtype=np.uint8), ENERGY, **FACTS)
    assert image.total_counts.max() == 255 * 50
    assert image.sum_spectrum().max() == 255 * 1600


def test_channel_edges_lie_half_a_channel_from_the_centres() -> None:
    image = make()
    np.testing.assert_allclose(image.channel_edges_keV[:-1] + 0.005, ENERGY)
    assert image.channel_edges_keV.size == 51
    assert image.energy_step_keV == pytest.approx(0.01)


def test_crop_keeps_the_channels_inside_and_all_the_rest() -> None:
    image = make()
    cropped = image.crop_energy(1.10, 1.20)
    np.testing.assert_allclose(cropped.energy_keV, ENERGY[10:21])
    np.testing.assert_array_equal(cropped.counts, image.counts[:, :, 10:21])
    assert cropped.acquisition is image.acquisition
    assert np.shares_memory(cropped.counts, image.counts)
    assert np.shares_memory(cropped.pixel_matrix(), image.counts)
    np.testing.assert_array_equal(image.crop_energy(1.0, 1.495).counts, image.counts)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (1.3, 1.1, r"go from low to high energy, but is \[1.3, 1.1\]"),
        (1.1, 1.1, "go from low to high energy"),
        (
            0.1,
            1.3,
            r"lie on the map's energy axis, but is \[0.1, 1.3\] keV. Choose within \[0.995, 1.495\] keV",
        ),
        (1.1, 30, "lie on the map's energy axis"),
        (5, 6, "lie on the map's energy axis"),
        (1.101, 1.104, "hold at least two channels"),
        (float("nan"), 1.3, "be a finite number, but is nan"),
    ],
)
def test_energy_ranges_off_the_axis_are_refused(low: float, high: float, message: str) -> None:
    with pytest.raises(InputError, match=f"`energy_range` must {message}"):
        make().crop_energy(low, high)


def test_hash_depends_on_counts_and_axis_but_not_on_their_type() -> None:
    counts = counts_of((4, 5, 50))
    image = SpectrumImage.from_array(counts, ENERGY, **FACTS)
    same = SpectrumImage.from_array(
        counts.astype(np.float32), ENERGY.astype(np.float64), name="other", **FACTS
    )
    assert image.count_hash() == same.count_hash()
    other = counts.copy()
    other[3, 3, 3] += 1
    rearranged = counts.reshape(5, 4, 50)
    hashes = {
        image.count_hash(),
        SpectrumImage.from_array(other, ENERGY, **FACTS).count_hash(),
        SpectrumImage.from_array(rearranged, ENERGY, **FACTS).count_hash(),
        SpectrumImage.from_array(counts, ENERGY + 0.01, **FACTS).count_hash(),
    }
    assert len(hashes) == 4


def test_hash_of_a_crop_is_that_of_the_same_counts_measured_alone() -> None:
    counts = counts_of((4, 5, 50))
    counts[0, 0, 49] = 300  # lies outside the crop, which then fits into fewer bits
    cropped = SpectrumImage.from_array(counts, ENERGY, **FACTS).crop_energy(1.0, 1.3)
    alone = SpectrumImage.from_array(counts[:, :, :31], ENERGY[:31], **FACTS)
    assert cropped.counts.dtype == np.uint8
    assert cropped.count_hash() == alone.count_hash()


def test_repr_tells_what_the_map_is() -> None:
    image = dataclasses.replace(make(), name="grain 3", images={"HAADF": np.ones((4, 5))}, warnings=("odd.",))
    total = int(counts_of((4, 5, 50)).sum())
    for part in (
        "SpectrumImage 'grain 3'",
        "4 x 5 pixels",
        "50 channels of 10 eV, 1 to 1.49 keV",
        f"{total:,} in all",
        "uint8",
        "beam 200 keV, take-off 22°",
        "HAADF",
        "odd.",
    ):
        assert part in repr(image)
    with pytest.warns(BayesUnmixWarning):
        assert "beam energy unknown, take-off angle unknown" in repr(
            SpectrumImage.from_array(counts_of((50,)), ENERGY)
        )
