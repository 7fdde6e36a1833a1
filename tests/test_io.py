import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import h5py
import numpy as np
import pytest

from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import image_of_dictionary, load, save, write_signal
from bayesunmix.errors import BayesUnmixWarning, InputError

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


@pytest.fixture(scope="module")
def hyperspy() -> Untyped:
    """HyperSpy and exSpy, whose import itself warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exspy
        import hyperspy.api as hs
    assert exspy is not None
    return hs


def test_what_is_saved_loads_again(tmp_path: Path) -> None:
    facts = Acquisition(
        200.0, 22.0, 130.0, 45.0, 22.0, 0.0, live_time_s=9.0, microscope="TEM", elements=("Fe", "Mg")
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


def test_a_reader_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rsciio.bruker", None)
    (tmp_path / "map.bcf").write_bytes(b"x")
    with pytest.raises(InputError, match=r"needs the Python package rsciio\.bruker, which is not installed"):
        load(tmp_path / "map.bcf")


def test_saving_needs_a_name_and_a_folder(tmp_path: Path) -> None:
    image = SpectrumImage.from_array(COUNTS, ENERGY, **FACTS)
    with pytest.raises(InputError, match=r"`MAP` must be written to a file that ends in \.hspy"):
        save(image, tmp_path / "map.bcf")
    with pytest.raises(InputError, match=r"`MAP` must be written to a folder that exists"):
        save(image, tmp_path / "none" / "map.hspy")


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"units": None}, "be calibrated in eV or keV, but has no unit"),
        ({"units": "<undefined>"}, "be calibrated in eV or keV, but has no unit"),
        ({"units": "nm"}, "be calibrated in eV or keV, but has the unit nm"),
        ({"scale": 1.0, "offset": 0.0}, "be calibrated, but has scale 1 and offset 0"),
        ({"expression": "x**2"}, "have channels of equal width, but is a function"),
    ],
)
def test_uncalibrated_energy_axes_are_refused(axis: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"`energy axis` must {message}"):
        image_of_dictionary(entry_of(**axis), **FACTS)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        ({"scale": -0.01, "offset": 5.0}, "ascend"),
        ({"axis": ENERGY**2}, "have channels of equal width"),
        ({"size": 49}, "hold one channel centre for each of the 50 channels, but holds 49"),
    ],
)
def test_unusable_energy_axes_are_refused(axis: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"`energy_keV` must {message}"):
        image_of_dictionary(entry_of(**axis), **FACTS)


def test_energy_in_ev_becomes_kev() -> None:
    image = image_of_dictionary(entry_of(units="eV", scale=10.0, offset=1000.0), **FACTS)
    np.testing.assert_allclose(image.energy_keV, ENERGY)


@pytest.mark.parametrize("lazy", [False, True])
def test_an_energy_axis_that_comes_first_is_moved_last(lazy: bool) -> None:
    entry = entry_of()
    moved = np.moveaxis(COUNTS, -1, 0)
    data = da.from_array(moved, chunks=(50, 2, 2)) if lazy else moved
    axes = [entry["axes"][2], *entry["axes"][:2]]
    np.testing.assert_array_equal(
        image_of_dictionary({**entry, "data": data, "axes": axes}, **FACTS).counts, COUNTS
    )
    for axis in axes:
        del axis["navigate"]  # then the unit tells which axis is energy
    np.testing.assert_array_equal(
        image_of_dictionary({**entry, "data": data, "axes": axes}, **FACTS).counts, COUNTS
    )


def test_stacks_of_maps_and_pictures_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"`signal` must have at most two navigation axes, .* 1 x 4 x 5 x 50. Sum over"
    ):
        image_of_dictionary(entry_of(COUNTS[None]), **FACTS)
    with pytest.raises(
        InputError, match='`signal` must have one signal axis, the energy, but is picture "HAADF"'
    ):
        image_of_dictionary(picture(), **FACTS)


@pytest.mark.parametrize(
    ("units", "size", "unit", "notes"),
    [
        (("nm", "nm"), (2.0, 2.0), "nm", 0),
        (("µm", "nm"), (2000.0, 2.0), "nm", 0),
        ((None, None), (2.0, 2.0), "", 0),
        (("nm", "furlong"), (1.0, 1.0), "", 1),
    ],
)
def test_pixel_sizes_share_one_unit(
    units: tuple[str | None, str | None], size: tuple[float, float], unit: str, notes: int
) -> None:
    entry = entry_of()
    for axis, own in zip(entry["axes"], units, strict=False):
        axis["units"] = own
    image = image_of_dictionary(entry, **FACTS)
    assert image.pixel_size == pytest.approx(size)
    assert image.pixel_unit == unit
    assert len(image.warnings) == notes


def test_vendor_metadata_are_mapped() -> None:
    entry = entry_of()
    entry["original_metadata"] = {"Stage": {"Tilt": 0.0, "X": 1.0}}
    entry["metadata"]["Acquisition_instrument"] = {"TEM": {"Detector": {"EDS": {"elevation_angle": 18.0}}}}
    entry["mapping"] = {
        "Stage.Tilt": ("Acquisition_instrument.TEM.Stage.tilt_alpha", None),
        "Stage.Z": ("Acquisition_instrument.TEM.Stage.z", float),
    }
    image = image_of_dictionary(entry, beam_energy_keV=200.0)
    assert image.acquisition.tilt_deg == 0.0
    assert image.acquisition.takeoff_angle_deg == 18.0
    assert image.warnings == ()


def test_facts_given_on_loading_are_not_missed(file_of: Callable[..., Path]) -> None:
    file = file_of(entry_of())
    with pytest.warns(BayesUnmixWarning, match="beam_energy_keV and takeoff_angle_deg") as caught:
        image = load(file)
    assert image.warnings == tuple(str(item.message) for item in caught)
    assert caught[0].filename == __file__
    assert load(file, **FACTS).warnings == ()


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
    with pytest.warns(BayesUnmixWarning, match="the map may be incomplete") as caught:
        image = load(file_of(entry_of()), **FACTS)
    assert len(caught) == 1
    assert image.warnings == ("the map may be incomplete",)


def test_signal_round_trip(hyperspy: Untyped) -> None:
    facts = Acquisition(200.0, 22.0, 130.0, 45.0, 22.0, 0.0, microscope="TEM", elements=("Fe", "Mg"))
    image = SpectrumImage.from_array(
        COUNTS, ENERGY, acquisition=facts, pixel_size=2.0, pixel_unit="nm", name="grain"
    )
    signal = image.to_signal()
    assert type(signal).__name__ == "EDSTEMSpectrum"
    assert np.shares_memory(signal.data, image.counts)
    assert signal.get_take_off_angle() == pytest.approx(22.0)
    for given in (signal, signal.as_lazy()):
        again = SpectrumImage.from_signal(given)
        assert again.count_hash() == image.count_hash()
        assert again.acquisition == facts
        assert (again.pixel_size, again.pixel_unit, again.name) == ((2.0, 2.0), "nm", "grain")
        assert again.warnings == ()
    assert SpectrumImage.from_signal(signal.inav[1]).shape == (1, 4, 50)
    assert SpectrumImage.from_signal(signal.inav[1, 2]).shape == (1, 1, 50)


def test_plain_signal_needs_a_calibrated_axis(hyperspy: Untyped) -> None:
    signal = hyperspy.signals.Signal1D(COUNTS)
    with pytest.raises(InputError, match="`energy axis` must be calibrated in eV or keV, but has no unit"):
        SpectrumImage.from_signal(signal, **FACTS)
    axis = signal.axes_manager[-1]
    axis.units, axis.scale, axis.offset = "keV", 0.01, 1.0
    np.testing.assert_array_equal(SpectrumImage.from_signal(signal, **FACTS).counts, COUNTS)
    with pytest.raises(InputError, match="`signal` must have one signal axis"):
        SpectrumImage.from_signal(hyperspy.signals.Signal2D(np.ones((3, 3))), **FACTS)
    with pytest.raises(InputError, match="`signal` must be a HyperSpy signal, but is a ndarray"):
        SpectrumImage.from_signal(COUNTS)


def test_directions_that_exspy_filled_in_are_doubted(hyperspy: Untyped) -> None:
    import exspy

    signal = exspy.signals.EDSTEMSpectrum(COUNTS)
    axis = signal.axes_manager[-1]
    axis.units, axis.scale, axis.offset = "keV", 0.01, 1.0
    with pytest.warns(BayesUnmixWarning, match="what exSpy fills in for a file that says nothing"):
        SpectrumImage.from_signal(signal, beam_energy_keV=200.0)
    assert SpectrumImage.from_signal(signal, **FACTS).warnings == ()


def test_an_sem_map_becomes_an_sem_signal(hyperspy: Untyped) -> None:
    facts = Acquisition(20.0, 35.0, elevation_deg=35.0, azimuth_deg=45.0, tilt_deg=0.0, microscope="SEM")
    image = SpectrumImage.from_array(COUNTS, ENERGY, acquisition=facts)
    signal = image.to_signal()
    assert type(signal).__name__ == "EDSSEMSpectrum"
    with pytest.warns(BayesUnmixWarning, match="taken in an SEM: compositions assume a thin film"):
        assert SpectrumImage.from_signal(signal).acquisition.microscope == "SEM"


def test_a_large_map_in_sixteen_bits_is_read_block_by_block(
    file_of: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bayesunmix.data import io

    file = file_of(entry_of(COUNTS.astype(np.uint16)))
    whole = load(file, **FACTS)
    given: list[Untyped] = []
    compact = io.compact_counts
    monkeypatch.setattr(io, "_READ_WHOLE", 0)
    monkeypatch.setattr(io, "compact_counts", lambda data: given.append(data) or compact(data))
    blocks = load(file, **FACTS)
    assert hasattr(given[0], "chunks")
    assert blocks.counts.dtype == np.uint8
    np.testing.assert_array_equal(blocks.counts, COUNTS)
    assert blocks.count_hash() == whole.count_hash()


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


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read the Linux way")
def test_loading_the_71_gpa_map_needs_little_memory_and_no_hyperspy(shared_data: Path) -> None:
    program = (
        "import pathlib, sys, bayesunmix; bayesunmix.load(sys.argv[1]);"
        "status = pathlib.Path('/proc/self/status').read_text().split();"
        "print(status[status.index('VmHWM:') + 1], 'hyperspy' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(shared_data / "71GPa_subsolidus.hspy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    peak_kilobytes, hyperspy_imported = done.stdout.split()
    assert int(peak_kilobytes) < 300_000
    assert hyperspy_imported == "False"
    assert done.stderr == ""


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
