"""Memory is asked for before it is taken."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from bayesunmix.core import memory
from bayesunmix.core.errors import InputError
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import write_signal

resource = pytest.importorskip("resource")

TOML = """
phases = 2
[sample]
elements = ["Mg", "Si"]
[instrument]
beam_energy_keV = 200
takeoff_angle_deg = 20
"""
# A process that may take no more than this many bytes of addresses.
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)),) * 2)
sys.argv[0] = "bayesunmix"
runpy.run_module("bayesunmix", run_name="__main__")
"""


def test_what_is_left_is_less_under_a_limit() -> None:
    script = (
        "import resource; from bayesunmix.core.memory import available_bytes; free = available_bytes();"
        "import psutil; used = psutil.Process().memory_info().vms;"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2); print(free, available_bytes())"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    free, limited = (float(word) for word in done.stdout.split())
    assert 0 < limited <= 300_000_000
    assert free > 0


def test_groups_limit_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tmp_path / "job" / "task"
    inner.mkdir(parents=True)
    for folder, most in ((inner, "max"), (tmp_path / "job", "1000000")):
        (folder / "memory.max").write_text(most)
        (folder / "memory.current").write_text("900000")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    own = tmp_path / "cgroup"
    own.write_text("0::/job/task\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)
    assert memory.available_bytes() == 150_000.0


def test_first_version_of_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "memory" / "job"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text("2000000")
    (folder / "memory.usage_in_bytes").write_text("500000")
    (folder / "memory.stat").write_text("total_inactive_file 100000\n")
    own = tmp_path / "cgroup"
    own.write_text("5:devices:/\n4:memory:/job\n")
    monkeypatch.setattr(memory, "_GROUPS", tmp_path)
    monkeypatch.setattr(memory, "_OWN_GROUPS", own)
    assert memory.available_bytes() == 1_600_000.0


def test_refused_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_bytes", lambda: 2e9)
    memory.check_counts((1024, 1024, 1024))
    with pytest.raises(
        InputError, match=r"`MAP` must fit into the memory that is left, 2 GB, but needs at least 4.3"
    ):
        memory.check_counts((2048, 2048, 1024))
    memory.check_draws(1000, 3, 12, 300)
    with pytest.raises(
        InputError, match=r"`inference.draws` must fit .* 6.4e\+06 draws|`inference.draws` must fit"
    ):
        memory.check_draws(6_400_000, 3, 12, 300)
    with pytest.raises(InputError, match=r"`simulate.shape` must fit"):
        memory.check_simulation((16_384, 16_384), 3)
    with pytest.raises(InputError, match=r"`MAP` must fit .* the maps of its 40000000 pixels"):
        memory.check_maps(40_000_000, 3)
    with pytest.raises(InputError, match=r"`MAP` must fit .* its counts without the pixels left out"):
        memory.check_mask(4_200_000_000)


def test_leaving_pixels_out_asks_for_the_copy_that_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("bayesunmix.data.image.check_mask", asked.append)
    counts = np.ones((4, 4, 50), np.uint8)
    counts[0] = 0
    energy = 0.5 + 0.02 * np.arange(50)
    image = SpectrumImage.from_array(counts, energy, beam_energy_keV=200.0, takeoff_angle_deg=20.0)
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    image.masked(mask)
    assert asked == []
    mask[1, 2] = True
    assert not image.masked(mask).counts[1, 2].any()
    assert asked == [counts.nbytes]


@pytest.fixture(scope="module")
def large_map(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.1 GB of counts that take some kB on disk."""
    path = tmp_path_factory.mktemp("large") / "map.hspy"
    axes = [
        {"name": n, "size": s, "scale": c, "offset": 0.0, "units": u, "navigate": n != "Energy"}
        for n, s, c, u in (("y", 4, 1.0, "nm"), ("x", 4, 1.0, "nm"), ("Energy", 1024, 0.01, "keV"))
    ]
    metadata = {"General": {"title": "large"}, "Signal": {"signal_type": "EDS_TEM"}}
    write_signal(path, {"data": np.ones((4, 4, 1024), np.uint16), "axes": axes, "metadata": metadata})
    with h5py.File(path, "r+") as file:
        (experiment,) = file["Experiments"].values()
        about = dict(experiment["data"].attrs)
        del experiment["data"]
        counts = experiment.create_dataset(
            "data", (256, 2048, 1024), np.uint16, chunks=(8, 2048, 256), compression="gzip"
        )
        counts.attrs.update(about)
        counts[:8, :, :256] = 1
        for axis, size in (("axis-0", 256), ("axis-1", 2048)):
            experiment[axis].attrs["size"] = size
    assert path.stat().st_size < 1_000_000
    return path


def limited(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program with 3 GB of address space."""
    return subprocess.run(
        [sys.executable, "-P", "-c", LIMITED, "3000000000", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )


def test_a_map_that_does_not_fit_is_described(large_map: Path, tmp_path: Path) -> None:
    done = limited(tmp_path, "inspect", str(large_map))
    assert done.returncode == 0, done.stderr
    assert "256 x 2048 pixels" in done.stdout
    assert f"{8 * 2048 * 256:,} in all" in done.stdout


def test_a_run_that_went_above_its_limit_says_so() -> None:
    said = memory.above_limit(1.0, before=400_000_000, peak=1_350_000_000)
    assert said is not None
    assert "held 1.35 GB" in said
    assert "`compute.memory_limit_GB`" in said


@pytest.mark.parametrize(
    ("limit_GB", "before", "peak"),
    [(None, 0, 9_000_000_000), (1.0, 0, 1_000_000_000), (1.0, 5_000_000_000, 5_000_000_000)],
)
def test_a_run_within_its_limit_says_nothing(limit_GB: float | None, before: int, peak: int) -> None:
    # The last one did not hold what an earlier run of the same process held.
    assert memory.above_limit(limit_GB, before, peak) is None


ARENAS = """
import ctypes, sys, threading
from pathlib import Path
from bayesunmix.core.memory import few_arenas

if sys.argv[2] == "few":
    few_arenas()
together = threading.Barrier(8)

def allocate():
    together.wait()
    kept = [bytes(5000) for _ in range(200)]
    together.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(library.fopen(sys.argv[1].encode(), b"w"))
library.malloc_info(0, stream)
library.fclose(stream)
print(Path(sys.argv[1]).read_text().count("<heap nr"))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="needs glibc")
def test_threads_share_a_few_arenas(tmp_path: Path) -> None:
    few, many = (
        int(subprocess.check_output([sys.executable, "-c", ARENAS, str(tmp_path / way), way]))
        for way in ("few", "many")
    )
    assert few <= 2 < many
