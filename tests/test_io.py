import errno
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.files import read_image
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import load, save, write_signal
from bayesunmix.data.signals import GivenFacts

# HyperSpy, dask and pytest's module fixtures hand out untyped objects.
Untyped = Any

FACTS = {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0}
COUNTS = np.random.default_rng(1).poisson(0.4, (4, 5, 50))
ENERGY = 1.0 + 0.01 * np.arange(50)


def entry_of(counts: Untyped = COUNTS, **energy_axis: object) -> dict[str, Any]:
    """Return a map as RosettaSciIO's readers do."""
    axes = [
        {"name": name, "size": size, "scale": 2.0, "offset": 0.0, "units": "nm", "navigate": True}
        for name, size in zip("wzyx"[5 - counts.ndim :], counts.shape[:-1], strict=True)
    ]
    energy = {"name": "Energy", "size": counts.shape[-1], "scale": 0.01, "offset": 1.0, "units": "keV"}
    return {
        "data": counts,
        "axes": [*axes, {**energy, "navigate": False, **energy_axis}],
        "metadata": {"General": {"title": "EDX"}, "Signal": {"signal_type": "EDS_TEM"}},
    }


def picture(title: str = "HAADF", shape: tuple[int, int] = (4, 5)) -> dict[str, Any]:
    axes = [{"name": name, "size": size, "scale": 2.0} for name, size in zip("yx", shape, strict=True)]
    return {"data": np.ones(shape), "axes": axes, "metadata": {"General": {"title": title}, "Signal": {}}}


@pytest.fixture
def file_of(tmp_path: Path) -> Callable[..., Path]:
    """Write signals into one HyperSpy file."""

    def write(*entries: dict[str, Any]) -> Path:
        whole = tmp_path / "map.hspy"
        for i, entry in enumerate(entries):
            title = f"{i} {entry['metadata']['General']['title']}"
            part = tmp_path / f"part{i}.hspy"
            axes = [{"offset": 0.0, "units": "nm", "navigate": False, **axis} for axis in entry["axes"]]
            write_signal(
                part, {**entry, "axes": axes, "metadata": {**entry["metadata"], "General": {"title": title}}}
            )
            if i == 0:
                part.rename(whole)
                continue
            with h5py.File(whole, "a") as target, h5py.File(part) as source:
                source.copy(f"Experiments/{title}", target["Experiments"])
        return whole

    return write


def test_what_is_saved_loads_again(tmp_path: Path) -> None:
    facts = Acquisition(
        beam_energy_keV=200.0,
        takeoff_angle_deg=22.0,
        resolution_eV=130.0,
        azimuth_deg=45.0,
        elevation_deg=22.0,
        tilt_deg=0.0,
        live_time_s=9.0,
        microscope="TEM",
        elements=("Fe", "Mg"),
    )
    image = SpectrumImage.from_array(
        COUNTS, ENERGY, acquisition=facts, pixel_size=(1.5, 2.0), pixel_unit="nm", name="grain / 3"
    )
    save(image, tmp_path / "map.hspy")
    again = load(tmp_path / "map.hspy")
    assert again.count_hash() == image.count_hash()
    assert again.acquisition == facts
    assert (again.pixel_size, again.pixel_unit, again.name) == ((1.5, 2.0), "nm", "grain / 3")
    assert again.warnings == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_stored_types_are_read_compactly(file_of: Callable[..., Path], dtype: type[np.generic]) -> None:
    image = load(file_of(entry_of(COUNTS.astype(dtype))), **FACTS)
    assert image.counts.dtype == np.uint8
    np.testing.assert_array_equal(image.counts, COUNTS)


@pytest.mark.parametrize(("counts", "columns"), [(COUNTS[0, 0], 1), (COUNTS[0], 5)])
def test_spectra_and_line_scans_load(file_of: Callable[..., Path], counts: Untyped, columns: int) -> None:
    assert load(file_of(entry_of(counts)), **FACTS).shape == (1, columns, 50)


def test_the_map_is_found_among_pictures_and_spectra(file_of: Callable[..., Path]) -> None:
    total = entry_of(COUNTS.sum(axis=(0, 1)))
    image = load(file_of(picture(), total, entry_of(), picture("SE", (3, 3))), **FACTS)
    np.testing.assert_array_equal(image.counts, COUNTS)
    assert [(name, shown.shape) for name, shown in image.images.items()] == [
        ("0 HAADF", (4, 5)),
        ("3 SE", (3, 3)),
    ]


def test_an_eels_map_beside_the_eds_map_is_no_rival(file_of: Callable[..., Path]) -> None:
    eels = entry_of(COUNTS + 1)
    eels["metadata"] = {"General": {"title": "EELS"}, "Signal": {"signal_type": "EELS"}}
    np.testing.assert_array_equal(load(file_of(eels, entry_of()), **FACTS).counts, COUNTS)


def test_one_of_several_maps_has_to_be_chosen(file_of: Callable[..., Path]) -> None:
    file = file_of(entry_of(), picture(), entry_of(COUNTS + 1))
    with pytest.raises(
        InputError, match=r"holds 2 among 0: EDS_TEM .* 4 x 5 x 50; 1: picture .*--signal N"
    ) as caught:
        load(file)
    assert caught.value.field == "MAP"
    np.testing.assert_array_equal(load(file, signal=2, **FACTS).counts, COUNTS + 1)
    with pytest.raises(InputError, match=r"`signal` must be one of the file's signals .* but is 3"):
        load(file, signal=3)
    with pytest.raises(
        InputError, match='`signal` must be a spectrum image, but 1 is picture "1 HAADF" 4 x 5'
    ):
        load(file, signal=1)


def test_a_file_of_pictures_is_refused(file_of: Callable[..., Path]) -> None:
    with pytest.raises(
        InputError, match=r'`MAP` must hold a spectrum image, but .* holds 0: picture "0 HAADF" 4 x 5'
    ):
        load(file_of(picture()))


@pytest.mark.parametrize("name", ["map.hspy", "map.bcf", "map.emd", "map.dm4", "map.rpl"])
@pytest.mark.parametrize("content", [b"", b"just a text\n" * 100])
def test_text_and_empty_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        InputError, match=r"`MAP` must be a whole \.\w+ file, but .* cannot be read"
    ) as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("share", [0.05, 0.5, 0.98])
def test_files_cut_short_are_refused(file_of: Callable[..., Path], share: float) -> None:
    file = file_of(entry_of(np.random.default_rng(0).poisson(50.0, (20, 20, 50)).astype(np.float64)))
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"`MAP` must be a whole .hspy file, but"):
        load(file)


def test_missing_files_folders_and_unknown_formats_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`MAP` must be an existing file, but .* does not exist"):
        load(tmp_path / "none.hspy")
    with pytest.raises(InputError, match=r"`MAP` must be a file, but .* is a folder"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("a note")
    with pytest.raises(
        InputError, match=r"`MAP` must be a spectrum image in a format HyperSpy reads, but .*\.hspy"
    ):
        load(tmp_path / "notes.txt")


def test_saving_needs_a_name_and_a_folder(tmp_path: Path) -> None:
    image = SpectrumImage.from_array(COUNTS, ENERGY, **FACTS)
    with pytest.raises(InputError, match=r"`MAP` must be written to a file that ends in \.hspy"):
        save(image, tmp_path / "map.bcf")
    with pytest.raises(InputError, match=r"`MAP` must be written to a folder that exists"):
        save(image, tmp_path / "none" / "map.hspy")


def test_a_full_disk_is_asked_before_a_map_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    image = SpectrumImage.from_array(COUNTS, ENERGY, **FACTS)
    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        save(image, tmp_path / "map.hspy")
    assert not list(tmp_path.iterdir())


def test_a_reader_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rsciio.bruker", None)
    (tmp_path / "map.bcf").write_bytes(b"x")
    with pytest.raises(InputError, match=r"needs the Python package rsciio\.bruker, which is not installed"):
        read_image(tmp_path / "map.bcf", None, GivenFacts())


def test_what_a_reader_warns_of_is_recorded(
    file_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import rsciio.hspy

    read = rsciio.hspy.file_reader

    def complain(*args: Untyped, **kwargs: Untyped) -> list[dict[str, Any]]:
        warnings.warn("the map may be\nincomplete", UserWarning, stacklevel=2)
        warnings.warn("old function", DeprecationWarning, stacklevel=2)
        return read(*args, **kwargs)

    monkeypatch.setattr(rsciio.hspy, "file_reader", complain)
    image = read_image(file_of(entry_of()), None, GivenFacts(**FACTS))
    assert image.warnings[0] == "the map may be incomplete"
    assert not any("old function" in text for text in image.warnings)


def test_facts_given_on_loading_are_not_missed(file_of: Callable[..., Path]) -> None:
    file = file_of(entry_of())
    with pytest.warns(BayesUnmixWarning) as caught:
        image = load(file)
    assert image.warnings == tuple(str(item.message) for item in caught)
    assert "what exSpy fills in" in image.warnings[0]
    assert "does not say its beam_energy_keV: give it" in image.warnings[1]
    assert caught[0].filename == __file__
    assert load(file, **FACTS).warnings == ()


def test_the_71_gpa_map(shared_data: Path) -> None:
    image = load(shared_data / "71GPa_subsolidus.hspy")
    assert image.shape == (201, 201, 1918)
    assert image.counts.dtype == np.uint8
    assert image.total_counts.sum() == 4_361_581
    assert image.energy_keV[0] == pytest.approx(0.81805)
    assert image.energy_step_keV == pytest.approx(0.01)
    assert image.acquisition.beam_energy_keV == 200.0
    assert image.acquisition.takeoff_angle_deg == 22.0
    assert image.warnings == ()


@pytest.mark.parametrize(
    ("name", "shape", "total", "takeoff", "images", "words"),
    [
        ("test_TEM.bcf", (64, 64, 2048), 26_005, 18.0, 1, ["stage tilt"]),
        ("bcf_v2_50x50px.bcf", (50, 50, 2048), 949_769, 35.0, 2, ["stage tilt", "SEM"]),
    ],
)
def test_vendor_files(
    shared_data: Path,
    name: str,
    shape: tuple[int, ...],
    total: int,
    takeoff: float,
    images: int,
    words: list[str],
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        image = load(shared_data / "vendor" / name)
    assert image.shape == shape
    assert image.total_counts.sum() == total
    assert image.acquisition.takeoff_angle_deg == takeoff
    assert image.energy_step_keV == pytest.approx(0.01, rel=1e-3)
    assert len(image.images) == images
    assert [word in message for word, message in zip(words, image.warnings, strict=True)] == [True] * len(
        words
    )


@pytest.mark.parametrize("share", [0.003, 0.1, 0.5, 0.9, 0.999])
def test_cut_vendor_files_are_refused(shared_data: Path, tmp_path: Path, share: float) -> None:
    content = (shared_data / "vendor" / "test_TEM.bcf").read_bytes()
    (tmp_path / "cut.bcf").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"`MAP` must be a whole .bcf file, but"):
        load(tmp_path / "cut.bcf")
