"""Choosing pixels: what is cropped, masked, merged and summed keeps position, mask, pictures and dose."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bayesunmix.config.map import MapConfig
from bayesunmix.config.pixels import parse_span
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.counts import read_counts
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import save
from bayesunmix.data.masks import read_mask
from bayesunmix.fit.pixel_choice import choose_pixels

ENERGY = 1.0 + 0.01 * np.arange(30)
FACTS = Acquisition(beam_energy_keV=200.0, takeoff_angle_deg=22.0, live_time_s=120.0, beam_current_nA=1.0)


def make(mask: np.ndarray | None = None) -> SpectrumImage:
    counts = np.random.default_rng(0).poisson(2.0, (6, 8, 30))
    return SpectrumImage(
        counts=counts,
        energy_keV=ENERGY,
        acquisition=FACTS,
        pixel_size=(2.0, 3.0),
        pixel_unit="nm",
        origin=(100.0, 50.0),
        mask=mask,
        images={"HAADF": np.arange(48.0).reshape(6, 8), "overview": np.ones((20, 20))},
    )


def corner() -> np.ndarray:
    mask = np.zeros((6, 8), bool)
    mask[0, :3] = True
    return mask


def dose(image: SpectrumImage) -> float:
    """Return counts per second and exposed pixel, which stay what they are."""
    assert image.acquisition.live_time_s is not None
    exposed = np.count_nonzero(image.kept) / image.n_pixels
    return float(image.total_counts.sum()) / (image.acquisition.live_time_s * exposed)


def test_a_crop_keeps_position_mask_pictures_and_dose() -> None:
    image = make(corner())
    part = image[0:4, 2:-1]
    assert part.shape == (4, 5, 30)
    np.testing.assert_array_equal(part.counts, image.counts[0:4, 2:-1])
    assert part.origin == (100.0, 56.0)
    assert part.mask is not None
    assert part.mask.sum() == 1
    np.testing.assert_array_equal(part.images["HAADF"], image.images["HAADF"][0:4, 2:-1])
    assert part.images["overview"].shape == (20, 20)
    assert part.acquisition.live_time_s == pytest.approx(120.0 * 20 / 48)
    assert image[2].shape == (1, 8, 30)
    assert image[-1, 3].origin == (110.0, 59.0)
    assert image[...].shape == image.shape


@pytest.mark.parametrize(
    ("index", "error", "message"),
    [
        ((slice(0, 6, 2),), InputError, "has the step 2. Crop first, then merge pixels with rebin"),
        ((slice(4, 4),), InputError, "hold at least one row, but 4:4 of 6 rows is empty"),
        ((0, 0.5), InputError, "has 0.5. Write image"),
        ((np.ones((6, 8), bool),), InputError, "use image.masked"),
        ((6,), IndexError, "row 6 lies outside the map, which has 6 rows"),
        ((0, 0, 0), IndexError, "choose energies with crop_energy"),
        ((slice(0, 1), slice(0, 3)), InputError, "hold a pixel with counts"),
    ],
)
def test_indices_that_are_none_are_refused(
    index: tuple[object, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make(corner())[index if len(index) > 1 else index[0]]
    with pytest.raises(TypeError):
        iter(make())


def test_masks_add_up_and_take_counts_away() -> None:
    image, more = make(corner()), np.zeros((6, 8), bool)
    more[5] = True
    both = image.masked(more)
    assert both.mask is not None
    np.testing.assert_array_equal(both.mask, corner() | more)
    assert not both.counts[both.mask].any()
    np.testing.assert_array_equal(both.used, ~both.mask)
    assert both.count_hash() != image.count_hash()
    empty = dataclasses.replace(image, counts=both.counts, mask=None)
    assert empty.count_hash() != both.count_hash()
    with pytest.raises(InputError, match="`mask` must have the shape 6 x 8 of the map, but is 8 x 6"):
        image.masked(more.T)
    with pytest.raises(InputError, match="`mask` must be true or false"):
        image.masked(more.astype(int))
    with pytest.raises(InputError, match="`mask` must leave at least one pixel with counts"):
        image.masked(~more).masked(more)


def test_merged_pixels_keep_position_and_dose() -> None:
    image = make(corner())
    with pytest.warns(BayesUnmixWarning, match="12 pixels at the lower and right edge are cut off"):
        merged = image.rebin((2, 3))
    assert merged.shape == (3, 2, 30)
    assert merged.mask is not None
    assert merged.mask.tolist() == [[True, False], [False, False], [False, False]]
    np.testing.assert_array_equal(merged.counts[1, 1], image.counts[2:4, 3:6].sum(axis=(0, 1)))
    assert merged.origin == (101.0, 53.0)
    assert merged.pixel_size == (4.0, 9.0)
    assert merged.images["HAADF"][1, 1] == image.images["HAADF"][2:4, 3:6].mean()
    assert merged.acquisition.live_time_s == pytest.approx(120.0 * 36 / 48)
    plain = make()
    assert dose(plain.rebin(2)) == pytest.approx(dose(plain))
    line = plain[2].rebin(4)
    assert line.shape == (1, 2, 30)
    for factor in (0, 7, 1.5, (2, 2, 2)):
        with pytest.raises(InputError, match="`factor` must be"):
            plain.rebin(factor)  # type: ignore[arg-type]


@pytest.mark.parametrize(("factor", "pixels"), [(4, 16), ((1, 3), 12), ((5, 8), 8)])
def test_pixels_that_fill_no_block_are_told(factor: int | tuple[int, int], pixels: int) -> None:
    image = make()
    with pytest.warns(
        BayesUnmixWarning, match=f": {pixels} pixels at the lower and right edge are cut off"
    ) as caught:
        merged = image.rebin(factor)
    lost = int(image.counts.sum()) - int(merged.counts.sum())
    assert f"with {lost:,} of {int(image.counts.sum()):,} counts" in str(caught[0].message)
    assert merged.warnings == (*image.warnings, str(caught[0].message))


def test_the_sum_is_one_pixel_with_the_dose_of_what_is_summed() -> None:
    image = make(corner())
    one = image.sum()
    assert one.shape == (1, 1, 30)
    np.testing.assert_array_equal(one.counts[0, 0], image.sum_spectrum())
    assert dose(one) == pytest.approx(dose(image))
    assert one.origin == (105.0, 60.5)
    assert one.mask is None


def test_masked_arrays_and_nan_pixels_are_left_out() -> None:
    counts = np.random.default_rng(1).poisson(2.0, (3, 4, 30)).astype(float)
    holes = np.ma.masked_array(counts, mask=False)
    holes[1, 2] = np.ma.masked
    counts[0, 0, 5] = np.nan
    with pytest.warns(BayesUnmixWarning, match="1 of 12 pixels hold NaN: they are left out"):
        image = SpectrumImage(counts=holes, energy_keV=ENERGY)
    assert image.mask is not None
    assert np.argwhere(image.mask).tolist() == [[0, 0], [1, 2]]
    assert not image.counts[image.mask].any()
    with pytest.raises(InputError, match="masked or NaN in every pixel"):
        SpectrumImage(counts=np.full((2, 2, 30), np.nan), energy_keV=ENERGY)


def test_counts_that_were_scaled_and_scaled_back_are_whole() -> None:
    counts = np.random.default_rng(2).poisson(30.0, (5, 6, 30))
    scale = np.sqrt(counts.sum(axis=2, keepdims=True) * counts.sum(axis=(0, 1)))
    for dtype in (np.float64, np.float32):
        back = (counts / scale).astype(dtype) * scale.astype(dtype)
        assert (back != np.rint(back)).any()
        np.testing.assert_array_equal(read_counts(back).counts, counts)
    for off in (counts * 1.001, counts / counts.sum(), counts + 0.01):
        with pytest.raises(InputError, match="`counts` must be whole numbers"):
            read_counts(off)


def test_ranges_and_rules_of_a_configuration_leave_pixels_out(tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", corner())
    image = make()
    wanted = MapConfig(
        rows=(0, -1), columns=[1, 8], mask=[tmp_path / "mask.npy", {"image": "HAADF", "above": 38}]
    )  # type: ignore[arg-type]
    mask, said = choose_pixels(image, wanted)
    expected = corner()
    expected[5], expected[:, 0], expected[image.images["HAADF"] > 38] = True, True, True
    np.testing.assert_array_equal(mask, expected)
    assert sum(entry.pixels for entry in said) == expected.sum()
    few, _ = choose_pixels(image, MapConfig(mask={"counts_below": 60}))  # type: ignore[arg-type]
    np.testing.assert_array_equal(few, image.total_counts < 60)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rows": [0, 7]}, "`map.rows` must lie within the map's 6 rows, but is 0:7"),
        ({"columns": [3, 3]}, "`map.columns` must rise"),
        ({"rows": 3}, "`map.rows` must be two whole numbers"),
        ({"mask": "none.npy"}, '`map.mask` must be a file, but "none.npy" is none'),
        ({"mask": {"image": "SE", "below": 1}}, "`map.mask.image` must name a picture of the map"),
        ({"mask": {"counts_bellow": 1}}, 'unknown key. Did you mean "counts_below"'),
        ({"mask": {"counts_below": 1e9}}, "`map.mask` must leave at least one pixel with counts"),
        ({"mask": {}}, "`map.mask` must name a file"),
        ({"mask": 3}, "`map.mask` must be the name of a file or a table"),
        ({"exclude_flagged": "nowhere"}, "`map.exclude_flagged` must be the output folder"),
    ],
)
def test_choices_that_do_not_fit_name_their_field(given: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_pixels(make(), MapConfig(**given))  # type: ignore[arg-type]


def test_masks_are_read_from_arrays_and_pictures(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v3")
    np.savez(tmp_path / "mask.npz", mask=corner())
    np.save(tmp_path / "flipped.npy", corner().T)
    imageio.imwrite(tmp_path / "mask.png", (255 * corner()).astype(np.uint8))
    (tmp_path / "broken.npy").write_bytes(b"nothing")
    for name in ("mask.npz", "mask.png"):
        np.testing.assert_array_equal(read_mask(tmp_path / name, (6, 8)), corner())
    with pytest.raises(InputError, match=r"is 8 x 6\. Transpose it"):
        read_mask(tmp_path / "flipped.npy", (6, 8))
    with pytest.raises(InputError, match="must be a readable file"):
        read_mask(tmp_path / "broken.npy", (6, 8))


@pytest.mark.parametrize("name", ["cut.hspy", "cut.tif", "cut.bcf", "cut.dm4", "words.toml"])
def test_a_mask_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Readers run in a process of their own for masks, too: a damaged file may end it."""
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    with pytest.raises(InputError, match=rf"^`map.mask` must be .*{name}"):
        read_mask(tmp_path / name, (6, 8), "map.mask")
    assert capfd.readouterr() == ("", "")


def test_a_mask_in_a_file_of_hyperspy(tmp_path: Path) -> None:
    save(make(corner()), tmp_path / "map.hspy")
    with pytest.raises(InputError, match=r"must have the shape 6 x 8 of the map"):
        read_mask(tmp_path / "map.hspy", (6, 8))
    hyperspy = pytest.importorskip("hyperspy.api")
    hyperspy.signals.Signal2D(corner().astype(np.uint8)).save(tmp_path / "mask.hspy")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.hspy", (6, 8)), corner())


def test_ranges_of_the_command_line() -> None:
    assert parse_span("--rows", "0:120") == (0, 120)
    assert parse_span("--rows", ":-5") == (0, -5)
    assert parse_span("--rows", "10:") == (10, None)
    for text in ("5", "a:b", "5:5", ""):
        with pytest.raises(InputError, match="`--rows` must"):
            parse_span("--rows", text)


def test_the_map_is_drawn_with_what_is_left_out() -> None:
    figure = make(corner()).plot()
    assert figure.axes[0].get_title(loc="left") == "total counts, 3 pixels left out"
    assert len(make().sum().plot().axes) == 1
    assert len(make()[0].plot().axes) == 2
