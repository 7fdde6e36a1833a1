import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data import reader
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import load, save
from bayesunmix.data.signals import GivenFacts

COUNTS = np.random.default_rng(3).poisson(0.4, (4, 5, 50))
ENERGY = 1.0 + 0.01 * np.arange(50)
FACTS = Acquisition(beam_energy_keV=200.0, takeoff_angle_deg=22.0, elements=("Fe",), microscope="TEM")

unix = pytest.mark.skipif(sys.platform == "win32", reason="signals end a process the Unix way")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    image = SpectrumImage.from_array(COUNTS, ENERGY, acquisition=FACTS, pixel_size=2.0, pixel_unit="nm")
    save(image, tmp_path / "map.hspy")
    return tmp_path / "map.hspy"


@pytest.fixture
def own_reader(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Replace the reading process by a program of the test's."""
    reader.stop_reader()
    program = tmp_path / "program.py"
    run = reader.subprocess.Popen

    def instead(command: list[str], **options: object) -> object:
        return run([command[0], str(program)], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(reader.subprocess, "Popen", instead)
    yield program
    reader.stop_reader()


@pytest.mark.parametrize("lazy", [False, True])
def test_a_map_comes_over_whole(tmp_path: Path, lazy: bool) -> None:
    mask = np.zeros((4, 5), dtype=bool)
    mask[2, 3] = True
    image = SpectrumImage(
        counts=COUNTS,
        energy_keV=ENERGY,
        acquisition=FACTS.replace(source="assumption", beam_energy_keV=300.0),
        pixel_size=(1.5, 2.0),
        pixel_unit="nm",
        origin=(-3.0, 7.0),
        mask=mask,
        images={"HAADF": np.arange(20.0).reshape(4, 5)},
        name="grain / 3",
        warnings=("odd",),
    )
    # The counts lie in the folder since the file was read.
    np.asarray(image.counts).tofile(tmp_path / f"counts.{image.counts.dtype.name}")
    text = json.dumps(reader._packed(image, tmp_path))
    again = reader._unpacked(json.loads(text), tmp_path, lazy=lazy)
    assert again.count_hash() == image.count_hash()
    assert again.acquisition == image.acquisition
    assert again.acquisition.sources == image.acquisition.sources
    for name in ("pixel_size", "pixel_unit", "origin", "name", "warnings"):
        assert getattr(again, name) == getattr(image, name)
    np.testing.assert_array_equal(again.images["HAADF"], image.images["HAADF"])


@unix
def test_a_file_that_was_read_is_closed(stored: Path) -> None:
    """Also in the reading process, which stays: elsewhere than here an open file cannot be moved."""
    links = Path("/proc")
    if not links.is_dir():
        pytest.skip("this system does not list open files")
    load(stored)
    reader.contents_apart(stored)
    for process in ("self", str(reader._running[0]._process.pid)):
        opened = [os.readlink(link) for link in (links / process / "fd").iterdir() if link.is_symlink()]
        assert str(stored) not in opened


def test_one_process_reads_many_files_and_starts_again_where_it_has_ended(stored: Path) -> None:
    first = load(stored)
    (running,) = reader._running
    load(stored)
    assert reader._running == [running]
    running._process.kill()
    assert load(stored).count_hash() == first.count_hash()
    assert reader._running != [running]


@unix
@pytest.mark.parametrize(
    ("number", "why"), [("SIGSEGV", "crashed: SIGSEGV"), ("SIGXCPU", "takes longer than")]
)
def test_a_reader_that_crashes_is_one_line(own_reader: Path, stored: Path, number: str, why: str) -> None:
    own_reader.write_text(
        "import os, signal, sys\nprint('ready', flush=True)\nsys.stdin.readline()\n"
        f"os.kill(os.getpid(), signal.{number})\n"
    )
    with pytest.raises(InputError, match=rf"`MAP` must be a whole \.hspy file, but .*{why}"):
        load(stored)


def test_a_reader_that_ends_by_itself_is_one_line(own_reader: Path, stored: Path) -> None:
    own_reader.write_text("import sys\nprint('ready', flush=True)\nsys.stdin.readline()\nsys.exit(7)\n")
    with pytest.raises(InputError, match="the reader ended with status 7"):
        load(stored)


def test_a_reader_that_does_not_start_is_no_damaged_file(own_reader: Path, stored: Path) -> None:
    own_reader.write_text("raise ImportError('no HyperSpy here')\n")
    with pytest.raises(OSError, match=r"does not start \(status 1\): ImportError: no HyperSpy here"):
        load(stored)
    assert not reader._running


@unix
def test_a_file_opens_in_a_folder_that_is_gone(
    stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.stop_reader()
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load(stored).counts.shape == COUNTS.shape


@unix
def test_a_file_may_take_only_as_long_as_its_size_explains() -> None:
    # In a process of its own: a fork of this one, whose other tests may have started threads, would not be safe.
    code = """
import resource
from bayesunmix.data import reader
reader._limit_cpu(0.0)
used = resource.getrusage(resource.RUSAGE_SELF)
print(resource.getrlimit(resource.RLIMIT_CPU)[0] - used.ru_utime - used.ru_stime)
"""
    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert 10 < float(said.stdout) < 40


@unix
def test_an_interrupt_is_for_the_caller(stored: Path) -> None:
    load(stored)
    (running,) = reader._running
    running._process.send_signal(signal.SIGINT)
    load(stored)
    assert reader._running == [running]


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="zspy needs zarr 2")
def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A .zspy whose metadata are pickled: unpickling would make a file."""
    import numcodecs
    import zarr

    planted = tmp_path / "planted"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = zarr.open_group(str(tmp_path / "map.zspy"), mode="w")
        root.attrs["file_format"] = "ZSpy"
        root.attrs["file_format_version"] = "3.3"
        experiment = root.create_group("Experiments/map")
        experiment.attrs["package"] = "hyperspy"

        class Planted:
            def __reduce__(self) -> tuple[object, tuple[str, str]]:
                return open, (str(planted), "w")

        held = np.empty(1, dtype=object)
        held[0] = Planted()
        experiment.create_dataset("data", data=held, dtype=object, object_codec=numcodecs.Pickle())
    with pytest.raises(InputError, match="`MAP`"):
        load(tmp_path / "map.zspy")
    assert not planted.exists()


def test_damaged_files_are_one_line(shared_data: Path) -> None:
    folder = shared_data.parent / "cases" / "files" / "damaged"
    files = [file for file in sorted(folder.glob("*")) if file.suffix != ".raw"]
    if not files:
        pytest.skip("the damaged files are not on this machine")
    for file in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            with pytest.raises(InputError, match="`MAP` must be a whole") as caught:
                load(file)
        assert "\n" not in str(caught.value)


def test_what_is_given_reaches_the_reader(stored: Path) -> None:
    with pytest.warns(BayesUnmixWarning, match="taken in an SEM"):
        image = load(
            stored, energy_offset_keV=2.0, energy_scale_keV=0.02, microscope="SEM", beam_energy_keV=30.0
        )
    np.testing.assert_allclose(image.energy_keV, 2.0 + 0.02 * np.arange(50))
    assert image.acquisition.microscope == "SEM"
    assert image.acquisition.sources["beam_energy_keV"] == "configuration"
    assert GivenFacts().onto(FACTS) == FACTS
