"""Reading files in a process of its own, which a damaged file may crash, hang or fill.

Compiled readers (Bruker's maps, HDF5, Zarr's codecs, TIFF) can end the process on a damaged file, and HDF5 can loop for
ever. The reading process stays for a while after a file, since HyperSpy takes seconds to import. It hands a map over in
a temporary folder, as arrays and JSON: nothing is unpickled. Counts are written there piece by piece, so that a map
passes that does not fit into memory; it stays on disk then.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import json
import os
import signal as signals
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.disk_array import DiskArray
from bayesunmix.core.errors import InputError
from bayesunmix.core.memory import held_in_memory
from bayesunmix.core.severity import from_plain, to_plain
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.contents import Held
from bayesunmix.data.counts import read_counts
from bayesunmix.data.files import FIELD, broken, read_array, read_contents, read_image
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.signals import GivenFacts
from bayesunmix.data.stored_counts import StoredCounts

Progress = Callable[[float], None]
# Without a file to read for this long, the reading process ends.
_IDLE_S = 30.0
# Processor time that a file is allowed: a floor, what the slowest reader (pure Python) takes for its bytes, and, once
# the map's size is known, what unpacking and counting takes for the bytes of its array.
_LEAST_CPU_S, _CPU_S_PER_BYTE, _CPU_S_PER_UNPACKED_BYTE = 20.0, 2e-6, 1e-7
_ARRAYS = ("energy_keV", "mask")
# Shares of a map that is being read are told no more often than this.
_SECONDS_BETWEEN_SHARES = 0.5
# What the process says once it has imported what it needs.
READY = "ready\n"


class Reader:
    """The reading process as its parent sees it."""

    def __init__(self) -> None:
        # Without the current folder, in which a user may keep a numpy.py; with all that this process imports from.
        paths = os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)
        self._ready = False
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "PYTHONPATH": paths},
            # The current folder may be gone by now.
            cwd=tempfile.gettempdir(),
            text=True,
            encoding="utf-8",
        )

    def ask(self, request: dict[str, Any], progress: Progress | None = None) -> dict[str, Any] | None:
        """Return the answer to a request, or None where the process ended instead; shares come before the answer."""
        pipes = self._process.stdin, self._process.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        try:
            self._ready = self._ready or pipes[1].readline() == READY
            pipes[0].write(json.dumps(request) + "\n")
            pipes[0].flush()
            while True:
                line = pipes[1].readline()
                answer: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
                if answer is None or "share" not in answer:
                    return answer
                if progress is not None:
                    progress(answer["share"])
        except (BrokenPipeError, ConnectionError):
            return None

    def took_too_long(self) -> bool:
        """Whether the process, which has ended, did so over the processor time that a file is allowed."""
        return self._process.wait() == -getattr(signals, "SIGXCPU", 1)

    def why_ended(self) -> str:
        """Say why the process ended, from its exit status.

        Raises
        ------
        OSError
            If that was before it had seen a file, which is then no reason.
        """
        status = self._process.wait()
        if not self._ready:
            self._said.seek(0)
            last = self._said.read().decode("utf-8", "replace").strip().splitlines()[-1:]
            raise OSError(f"the process that reads files does not start (status {status}): {''.join(last)}")
        if status >= 0:
            return f"the reader ended with status {status}"
        name = signals.Signals(-status).name
        reasons = {
            "SIGXCPU": "the reader takes longer than a file of this size needs",
            "SIGKILL": "the reader was killed, as happens where memory runs out",
        }
        return reasons.get(name, f"the reader crashed: {name}")

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            with contextlib.suppress(OSError):
                pipe.close() if pipe is not None else None


_lock = threading.Lock()
_running: list[Reader] = []


def start_reader() -> None:
    """Start the reading process ahead, so that HyperSpy is imported there while this process imports other things."""
    if not _running:
        _running.append(Reader())


@atexit.register
def stop_reader() -> None:
    """End the reading process, if there is one."""
    while _running:
        _running.pop().close()


def read_apart(
    file: Path,
    signal: int | None,
    given: GivenFacts,
    *,
    lazy: bool | None = None,
    progress: Progress | None = None,
) -> SpectrumImage:
    """Read the map of a file in the reading process; see `bayesunmix.data.files.read_image`.

    Parameters
    ----------
    file, signal, given
        As there.
    lazy
        Whether the counts stay on disk; None for those that memory does not take with ease.
    progress
        Told the share that is read.

    Raises
    ------
    InputError
        As `read_image`, and if the reader crashes or never ends.
    """
    with _lock, tempfile.TemporaryDirectory(prefix="bayesunmix-", ignore_cleanup_errors=True) as folder:
        wanted = {"signal": signal, "given": dataclasses.asdict(given), "folder": folder}
        answer = _asked(file, wanted, progress)
        answer["image"] |= {"file": str(file.absolute()), "signal": signal}
        return _unpacked(answer["image"], Path(folder), lazy)


def contents_apart(file: Path) -> tuple[Held, ...]:
    """Describe the signals of a file in the reading process; see `bayesunmix.data.files.read_contents`.

    Raises
    ------
    InputError
        As `read_contents`, and if the reader crashes or never ends.
    """
    with _lock:
        answer = _asked(file, {})
    return tuple(Held(**{**one, "shape": tuple(one["shape"])}) for one in answer["contents"])


def array_apart(file: Path) -> npt.NDArray[Any]:
    """Read the one array of a picture or a signal in the reading process; see `bayesunmix.data.files.read_array`.

    Raises
    ------
    InputError
        As `read_array`, and if the reader crashes or never ends.
    """
    with _lock, tempfile.TemporaryDirectory(prefix="bayesunmix-", ignore_cleanup_errors=True) as folder:
        _asked(file, {"array": f"{folder}/array.npy"})
        return np.asarray(np.load(f"{folder}/array.npy", allow_pickle=False))


def _asked(file: Path, wanted: dict[str, Any], progress: Progress | None = None) -> dict[str, Any]:
    """Ask for an array, a map, or the contents where no place is given for either; raise what the answer holds."""
    request = {"file": str(file.absolute()), **wanted}
    try:
        answer = _answer(request, file, progress)
    except BaseException:
        # A process that was interrupted in the middle is of no more use.
        stop_reader()
        raise
    if "refused" in answer:
        field, must, got, remedy = answer["refused"]
        raise InputError(field, must, got.replace(request["file"], str(file)), remedy)
    if "failed" in answer:
        raise OSError(answer["failed"])
    return answer


def _answer(request: dict[str, Any], file: Path, progress: Progress | None) -> dict[str, Any]:
    """Ask the running process; a fresh one where it was on the point of ending."""
    for fresh in (not _running, True):
        start_reader()
        answer = _running[0].ask(request, progress)
        if answer is not None:
            return answer
        why, over = _running[0].why_ended(), _running[0].took_too_long()
        stop_reader()
        # Another process would take as long over it again.
        if fresh or over:
            raise broken(file, why)
    raise AssertionError("unreachable")


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Read one file after the other until nothing more is asked."""
    # An interrupt is for the parent, which ends this process.
    signals.signal(signals.SIGINT, signals.SIG_IGN)
    import exspy.signals  # noqa: F401 - what takes long, before the first file is asked for
    import hyperspy.api  # noqa: F401

    answers.write(READY)
    answers.flush()
    while True:
        # Threads that NumPy keeps do not end by themselves: no clean-up.
        idle = threading.Timer(_IDLE_S, os._exit, args=[0])
        idle.daemon = True
        idle.start()
        line = requests.readline()
        idle.cancel()
        if not line:
            return
        _write(answers, _served(json.loads(line), partial(_write, answers)))


def _write(answers: IO[str], answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _served(request: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Return the answer to one request, and tell what share is read before."""
    file = Path(request["file"])
    try:
        _limit_cpu(_CPU_S_PER_BYTE * _size(file))
        if "array" in request:
            np.save(request["array"], read_array(file, _opened), allow_pickle=False)
            return {}
        if "folder" not in request:
            return {"contents": [dataclasses.asdict(one) for one in read_contents(file, _opened)]}
        folder = Path(request["folder"])
        # On disk from the beginning: there it is handed over, whether it fits into memory or not.
        read = partial(read_counts, on_disk=folder, progress=_now_and_then(tell))
        image = read_image(file, request["signal"], GivenFacts(**request["given"]), _opened, read)
        return {"image": _packed(image, folder)}
    except InputError as error:
        return {"refused": [error.field, error.must, error.got, error.remedy]}
    except MemoryError as error:
        return {"refused": [FIELD, "fit into memory", f'"{file}" does not ({error})', ""]}
    except OSError as error:  # the temporary folder: no space, not writable
        remedy = "TMPDIR names another folder"
        where = tempfile.gettempdir()
        return {"failed": f'what it holds could not be handed over in "{where}" ({remedy}): {error}'}


def _now_and_then(tell: Callable[[dict[str, Any]], None]) -> Progress:
    """Tell shares, but not each of them."""
    told = time.monotonic()

    def progress(share: float) -> None:
        nonlocal told
        if time.monotonic() - told > _SECONDS_BETWEEN_SHARES:
            told = time.monotonic()
            tell({"share": share})

    return progress


def _opened(size: int) -> None:
    _limit_cpu(_CPU_S_PER_UNPACKED_BYTE * size)


def _size(file: Path) -> int:
    return sum(part.stat().st_size for part in ([file] if file.is_file() else file.rglob("*")))


def _limit_cpu(seconds: float) -> None:
    """Let the system end this process when it takes far more than `seconds` from now, where the system can do so."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowed = int(min(used.ru_utime + used.ru_stime + _LEAST_CPU_S + seconds, 2**31))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(
        resource.RLIMIT_CPU, (allowed if most == resource.RLIM_INFINITY else min(allowed, most), most)
    )


def _packed(image: SpectrumImage, folder: Path) -> dict[str, Any]:
    """Write the arrays of a map into a folder, in which its counts lie already, and return the rest."""
    for name in _ARRAYS:
        if getattr(image, name) is not None:
            np.save(folder / f"{name}.npy", getattr(image, name), allow_pickle=False)
    for number, picture in enumerate(image.images.values()):
        np.save(folder / f"image{number}.npy", picture, allow_pickle=False)
    plain = ("pixel_size", "pixel_unit", "origin", "name")
    facts = {entry.name: getattr(image.acquisition, entry.name) for entry in dataclasses.fields(Acquisition)}
    return {
        "counts": [image.counts.shape, image.counts.dtype.name],
        **{name: getattr(image, name) for name in plain},
        "acquisition": facts,
        "images": [*image.images],
        "warnings": [to_plain(sentence) for sentence in image.warnings],
    }


def _unpacked(answer: dict[str, Any], folder: Path, lazy: bool | None) -> SpectrumImage:
    """Make the map again of what `_packed` wrote."""
    shape, dtype = answer["counts"]
    # The folder's names are gone when this has returned; the file stays as long as it is open.
    stored = DiskArray.of_file(folder / f"counts.{dtype}", shape, dtype)
    on_disk = not held_in_memory(stored.nbytes) if lazy is None else lazy
    facts = answer["acquisition"]
    arrays = {name: folder / f"{name}.npy" for name in _ARRAYS}
    pictures = {name: np.load(folder / f"image{i}.npy") for i, name in enumerate(answer["images"])}
    return SpectrumImage(
        counts=StoredCounts.of(stored) if on_disk else stored[:],
        **{name: np.load(file, allow_pickle=False) for name, file in arrays.items() if file.exists()},
        acquisition=Acquisition(**{**facts, "elements": tuple(facts["elements"])}),
        pixel_size=tuple(answer["pixel_size"]),
        pixel_unit=answer["pixel_unit"],
        origin=tuple(answer["origin"]),
        images=pictures,
        name=answer["name"],
        warnings=tuple(from_plain(parts) for parts in answer["warnings"]),
        file=answer.get("file", ""),
        signal=answer.get("signal"),
    )


if __name__ == "__main__":
    # What readers print must not get between the answers.
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    serve(sys.stdin, own)
    own.flush()
    os._exit(0)
