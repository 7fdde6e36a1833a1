"""A map on disk gives the numbers of the same map in memory."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import bayesunmix as bu
from bayesunmix.checks.goodness import Segments, held_out_segments
from bayesunmix.checks.misfit import _cores, _pooled_counts
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.disk_array import DiskArray, Picked
from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.core.memory import available_bytes, held_in_memory, limited
from bayesunmix.data.binning import bin_image
from bayesunmix.data.counts import read_counts
from bayesunmix.data.files import quiet
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.stored_counts import StoredCounts
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.set_aside import without_pixels
from bayesunmix.fit.setup import Setup
from bayesunmix.inference.misfit import scan
from bayesunmix.inference.pixel_posterior import PixelPosterior, pixel_posterior
from bayesunmix.models.thickness import ThicknessDraws, no_effect
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import SimulatedMap, simulate_map

# So little that nothing fits: all that can be is kept on disk.
NOTHING_GB = 1e-6
SHAPE = (21, 18)


@pytest.fixture(scope="module")
def config() -> RunConfig:
    declared = phantom_config()
    assert declared.simulate is not None
    return dataclasses.replace(declared, simulate=dataclasses.replace(declared.simulate, shape=SHAPE))


@pytest.fixture(scope="module")
def simulated(config: RunConfig) -> SimulatedMap:
    return simulate_map(config, 5)


@pytest.fixture(scope="module")
def drawn(simulated: SimulatedMap) -> SpectrumImage:
    return simulated.image


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a few rows, as those of a large map are."""
    monkeypatch.setattr("bayesunmix.core.disk_array.PIECE_BYTES", 100_000)


@pytest.fixture(scope="module", params=[".hspy", ".zspy", ".rpl"])
def file(
    request: pytest.FixtureRequest, drawn: SpectrumImage, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    path = tmp_path_factory.mktemp("maps") / f"map{request.param}"
    with quiet():
        drawn.to_signal().save(str(path), **({"encoding": "utf-8"} if request.param == ".rpl" else {}))
    return path


def on_disk(image: SpectrumImage) -> SpectrumImage:
    """Return the same map on disk."""
    return dataclasses.replace(image, counts=read_counts(image.counts, on_disk=True))  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_pieces")
def test_a_streamed_file_is_prepared_like_one_in_memory(file: Path, config: RunConfig) -> None:
    held = bu.load(file)
    assert isinstance(held.counts, np.ndarray)
    with limited(NOTHING_GB):
        streamed = bu.load(file)
        assert isinstance(streamed.counts, StoredCounts)
        settings = {**config.to_dict()["instrument"]}
        given = {name: value for name, value in settings.items() if value is not None}
        one, other = (
            prepare(held.replace_facts(**given), config),
            prepare(streamed.replace_facts(**given), config),
        )
        assert isinstance(other.pixel_counts, DiskArray)
    assert streamed.count_hash() == held.count_hash()
    assert other.image.count_hash() == one.image.count_hash()
    np.testing.assert_array_equal(other.blocks.counts, one.blocks.counts)
    np.testing.assert_array_equal(other.pixel_counts[:], one.pixel_counts[:])
    assert other.pixel_counts[:].dtype == one.pixel_counts[:].dtype
    np.testing.assert_array_equal(other.image.total_counts, one.image.total_counts)
    np.testing.assert_array_equal(other.image.sum_spectrum(), one.image.sum_spectrum())
    np.testing.assert_array_equal(other.thickness.pixels, one.thickness.pixels)


def test_a_map_is_simulated_onto_the_disk(drawn: SpectrumImage, config: RunConfig, tmp_path: Path) -> None:
    with limited(NOTHING_GB):
        image = simulate_map(config, 5)
        assert isinstance(image.image.counts, StoredCounts)
        with quiet():
            image.to_signal().save(str(tmp_path / "map.zspy"), show_progressbar=False)
    assert bu.load(tmp_path / "map.zspy").count_hash() == drawn.count_hash()


def test_lazy_is_what_a_caller_wants(file: Path) -> None:
    assert isinstance(bu.load(file, lazy=True).counts, StoredCounts)
    with limited(NOTHING_GB):
        assert isinstance(bu.load(file, lazy=False).counts, np.ndarray)
    with pytest.raises(bu.InputError, match="`lazy` must be true or false"):
        bu.load(file, lazy="yes")  # type: ignore[arg-type]


@pytest.mark.usefixtures("small_pieces")
def test_a_lazy_signal_is_streamed(drawn: SpectrumImage) -> None:
    signal = drawn.to_signal().as_lazy()
    # Chunks that cut through rows, columns and spectra.
    signal.data = signal.data.rechunk((4, 7, 300))
    with limited(NOTHING_GB):
        streamed = SpectrumImage.from_signal(signal)
    assert isinstance(streamed.counts, StoredCounts)
    assert streamed.count_hash() == drawn.count_hash()
    back = streamed.to_signal()
    assert back._lazy
    np.testing.assert_array_equal(back.data.compute(), drawn.counts)


@pytest.mark.usefixtures("small_pieces")
def test_every_change_of_a_map_is_the_same_on_disk(drawn: SpectrumImage) -> None:
    streamed = on_disk(drawn)
    mask = np.zeros(SHAPE, bool)
    mask[3:9, 2:15] = True
    changes = (
        lambda image: image,
        lambda image: image[4:17, 3:11],
        lambda image: image.rebin((2, 3)),
        lambda image: image.crop_energy(1.0, 10.0),
        lambda image: image.masked(mask),
        lambda image: image.masked(mask).crop_energy(1.0, 3.0)[2:],
        lambda image: image.crop_energy(1.0, 10.0).masked(mask).rebin(2),
        lambda image: image.sum(),
    )
    for change in changes:
        with limited(NOTHING_GB), warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)  # of rows that fill no block
            one, other = change(drawn), change(streamed)
        assert other.count_hash() == one.count_hash()
        assert (other.largest, other.filled) == (one.largest, one.filled)
        np.testing.assert_array_equal(other.total_counts, one.total_counts)
        np.testing.assert_array_equal(other.sum_spectrum(), one.sum_spectrum())
        np.testing.assert_array_equal(list(other.rows()), list(one.rows()))
        np.testing.assert_array_equal(other.pixel_matrix()[5:40:3], one.pixel_matrix()[5:40:3])


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("side", [2, 5])
def test_blocks_are_the_same_on_disk(drawn: SpectrumImage, side: int) -> None:
    boundaries = np.array([0, 40, 41, 500, drawn.n_channels])
    one, other = (bin_image(image, boundaries, side) for image in (drawn, on_disk(drawn)))
    np.testing.assert_array_equal(other.counts, one.counts)


def test_a_mask_that_leaves_nothing_is_refused_on_disk(drawn: SpectrumImage) -> None:
    with pytest.raises(bu.InputError, match="`mask` must leave at least one pixel with counts"):
        on_disk(drawn).masked(np.ones(SHAPE, bool))


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("wrong", [-1.0, 0.5, np.inf])
def test_counts_are_checked_on_the_way_to_the_disk(wrong: float) -> None:
    counts = np.random.default_rng(0).poisson(2.0, (12, 9, 60)).astype(float)
    counts[7, 3, 2] = wrong
    with pytest.raises(bu.InputError, match=r"counts.*at index \(7, 3, 2\)"):
        read_counts(counts, on_disk=True)


@pytest.mark.usefixtures("small_pieces")
def test_large_counts_and_missing_pixels_are_the_same_on_disk() -> None:
    da = pytest.importorskip("dask.array")
    counts = np.random.default_rng(1).poisson(2.0, (12, 9, 60)).astype(float)
    counts[2, 3, 4], counts[8, 8, 8] = 300.0, 70_000.0
    counts[5, 6, 7] = counts[11, 0, 0] = np.nan
    held = read_counts(counts)
    for chunks in ((5, 4, 60), (12, 9, 11)):
        stored = read_counts(da.from_array(counts, chunks=chunks), on_disk=True)
        assert isinstance(stored.counts, DiskArray)
        assert (stored.counts.dtype, stored.n_nan) == (np.uint32, held.n_nan)
        np.testing.assert_array_equal(stored.counts[:], held.counts)
        np.testing.assert_array_equal(stored.missing, held.missing)


def point(setup: Setup, channels: npt.NDArray[np.float64]) -> Draws:
    """Return a posterior of one draw with these endmembers (phase, energy)."""
    binned = np.add.reduceat(channels, setup.blocks.boundaries[:-1], axis=1)
    n_phases, one = len(binned), np.ones((1, 1))
    return Draws(
        weights=np.ones((1, 1, n_phases, len(setup.forward.components))),
        family_counts=np.ones((1, 1, n_phases, len(setup.forward.families))),
        continuum=np.ones((1, 1, n_phases, 7)),
        spectra=binned[None, None],
        absorption_scale=one,
        stray_exponent=0.1 * one,
        line_shapes=np.zeros((1, 1, 0)),
    )


def looked_at(setup: Setup, endmembers: npt.NDArray[np.float64]) -> tuple[PixelPosterior, Segments]:
    """Return what the per-pixel pass and the held-out comparison see of a map."""
    first = int(np.searchsorted(setup.axis_keV, setup.image.energy_keV[0] - 1e-9))
    channels = endmembers[:, first : first + setup.image.n_channels]
    channels = channels / channels.sum(axis=1, keepdims=True)
    draws = point(setup, channels)
    effect = no_effect(len(channels), setup.blocks.n_bins)._replace(
        absorption_slope=setup.thickness.absorption_slope
    )
    thickness = ThicknessDraws(setup.thickness.pixels, effect, np.ones(1), np.full(1, 0.1))
    used = setup.image.used.ravel()
    pixels = pixel_posterior(
        setup.fitted_counts,
        draws.spectra[0],
        np.ones((1, len(channels))),
        level=0.9,
        thickness=thickness._replace(relative=thickness.relative[used]),
    )
    return pixels, held_out_segments(setup, draws, channels, thickness)


@pytest.mark.usefixtures("small_pieces")
def test_pixels_and_checks_are_the_same_on_disk(simulated: SimulatedMap, config: RunConfig) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[:4, 5:9] = mask[:, :2] = True
    drawn, endmembers = simulated.image.masked(mask), simulated.truth.endmembers
    one = prepare(drawn, config)
    pixels, segments = looked_at(one, endmembers)
    box, starts = (slice(0, 21), slice(2, 18)), np.arange(0, one.blocks.n_bins, 7)
    grid = np.add.reduceat(one.fitted_counts[:].astype(np.int64), starts, axis=1)
    with limited(NOTHING_GB):
        other = prepare(on_disk(simulated.image).masked(mask), config)
        assert isinstance(other.pixel_counts, DiskArray)
        assert isinstance(other.fitted_counts, Picked)
        there, segments_there = looked_at(other, endmembers)
        pooled = _pooled_counts(other.pixel_counts, starts, SHAPE, box)
        assert isinstance(pooled, DiskArray)
    for entry in dataclasses.fields(pixels):
        np.testing.assert_array_equal(getattr(there, entry.name), getattr(pixels, entry.name))
    np.testing.assert_array_equal(segments_there.observed, segments.observed)
    np.testing.assert_array_equal(segments_there.expected, segments.expected)
    np.testing.assert_array_equal(pooled[:][one.image.used[box]], grid)
    assert not pooled[:][~one.image.used[box]].any()
    aside = np.zeros(SHAPE, bool)
    aside[9:14, 6:12] = True
    less, less_there = without_pixels(one, aside), without_pixels(other, aside)
    np.testing.assert_array_equal(less_there.blocks.counts, less.blocks.counts)
    np.testing.assert_array_equal(less_there.fitted_spectrum, less.fitted_spectrum)
    assert less.fitted_spectrum.sum() == less.fitted_totals.sum() == less.blocks.counts.sum()


def test_windows_and_regions_are_the_same_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A patch of another kind is found, and found to be as large, however the map is read."""
    spectra = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    rng = np.random.default_rng(3)
    first = rng.uniform(size=(32, 32))
    shares = np.stack([first, 1.0 - first], axis=2)
    mean = 150.0 * (shares @ spectra)
    mean[10:17, 20:27] = 150.0 * np.array([0.7, 0.05, 0.05, 0.2])
    held = read_counts(rng.poisson(mean))
    stored = read_counts(held.in_memory(), on_disk=True).counts
    assert isinstance(stored, DiskArray)
    one = scan(held.in_memory(), spectra, np.eye(4), shares, seed=0)
    cores = _cores(one, held.in_memory(), shares, spectra)
    monkeypatch.setattr("bayesunmix.core.disk_array.PIECE_BYTES", 1000)
    other = scan(stored, spectra, np.eye(4), shares, seed=0)
    assert one.sigma[13, 23] > one.threshold
    for name in ("sigma", "direction", "side", "sign", "threshold", "spread"):
        np.testing.assert_array_equal(getattr(other, name), getattr(one, name))
    for (core, peak), (core_there, peak_there) in zip(
        cores, _cores(other, stored, shares, spectra), strict=True
    ):
        assert peak == peak_there
        np.testing.assert_array_equal(core, core_there)


def test_the_limit_counts_what_the_process_holds() -> None:
    free = available_bytes()
    with limited(1e-6):
        assert available_bytes() == 0.0
        assert not held_in_memory(1)
        with limited(1e5):
            assert available_bytes() == 0.0
    with limited(1e5):
        assert available_bytes() <= 1e14
    with limited(None):
        assert held_in_memory(1)
    assert available_bytes() > 0.5 * free


def test_an_array_on_disk_is_one_in_memory() -> None:
    wanted = np.arange(60, dtype=np.uint16).reshape(10, 6)
    array = DiskArray.zeros(wanted.shape, wanted.dtype)
    array.part(0, 10)[:] = wanted
    assert (len(array), array.ndim, array.nbytes) == (10, 2, 120)
    for rows in (slice(None), slice(3, 8), slice(None, None, 4), slice(2, 2), slice(8, 99)):
        np.testing.assert_array_equal(array[rows], wanted[rows])
    places = np.array([1, 4, 9])
    np.testing.assert_array_equal(array.take(places), wanted[places])
    np.testing.assert_array_equal(array.take(places[:0]), wanted[places[:0]])
    np.testing.assert_array_equal(array.reshaped(5, 2, 6)[1:3], wanted.reshape(5, 2, 6)[1:3])
    for source in (wanted, array):
        picked = Picked(source, places)
        assert picked.shape == (3, 6)
        np.testing.assert_array_equal(picked[1:], wanted[places][1:])
        np.testing.assert_array_equal(picked[3:], wanted[places][3:])
    array.part(4, 5)[:] = 7
    assert (array[4:5] == 7).all()
