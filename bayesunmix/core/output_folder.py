"""An output folder as one thing: one run at a time writes it, and it holds the old result or the new one, whole.

The same holds for a comparison of results, for the tables of one in a folder of their own, and for what a batch says of
all its maps.

Files are written aside, in a hidden folder. When the last one is complete, the hidden folder gets another name: from
then on the new result is the one that counts. Then the files that the old one's record lists are removed, the record
last, and the new ones move to their places, the record last. Whoever comes next goes on where a kill stopped this.

    .new -> written -> .complete -> old files removed -> new files moved -> gone

Files that no record lists stay where they are.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from bayesunmix.core.errors import InputError
from bayesunmix.core.whole_file import whole_file

RECORD, COMPARISON_RECORD, TABLES_RECORD = "run.json", "comparison.json", "tables.json"
BATCH_RECORD = "batch.json"
CHECKSUM, CHECKSUMS = "checksum", "checksums"
LOG = "run.log"
LOCK, NEW, COMPLETE = ".lock", ".new", ".complete"
# What makes no folder a used one.
NO_RESULT = (LOG, LOCK)
# A run that moves its files into place is done with it sooner.
MOVING_SECONDS = 5.0
FIELD = "--out"

# What versions wrote whose record lists no files: the units and formats of their time.
_UNITS = ("at_frac", "wt_pct", "oxide_wt_pct", "apfu")
_FORMATS = ("png", "pdf", "svg")
_FIGURES = (
    *("fit", "maps", "segmentation", "spectra", "compositions", "partition"),
    *("phase_number", "misfit", "mass_thickness", "budget"),
)
_TABLES = (
    *(f"composition_{unit}" for unit in _UNITS),
    *("partition_atoms", "partition_weight", "exchange", "sites", "budget", "mass_balance"),
)
LEGACY_FILES = (
    *("composition.csv", "partition.csv", "uncertainty_budget.csv", "truth.csv"),
    *(f"composition_{unit}.csv" for unit in _UNITS if unit != "at_frac"),
    *(f"{name}.hspy" for name in ("abundances", "segmentation", "endmembers", "mass_thickness")),
    *("posterior.nc", "report.html", RECORD),
    *(f"figures/{name}.{kind}" for name in _FIGURES for kind in _FORMATS),
    *(f"tables/{name}.{kind}" for name in _TABLES for kind in ("csv", "tex", "md")),
    "tables/methods.md",
)

_COMPARED = (
    "compositions",
    "partitions",
    "composition_differences",
    "partition_ratios",
    "trend",
    "trend_maps",
)
LEGACY_COMPARISON = (
    *(f"{name}.csv" for name in _COMPARED),
    "comparison.html",
    *(f"figures/{name}.{kind}" for name in ("comparison", "trend") for kind in ("png", "pdf")),
)


@dataclass(frozen=True)
class _Kind:
    """What is put into a folder as a whole.

    Parameters
    ----------
    record
        The file that lists the others. It moves last, and its presence says that all is there.
    legacy
        What a record without a list stands for.
    """

    record: str
    legacy: tuple[str, ...]


_KINDS = (
    _Kind(RECORD, LEGACY_FILES),
    _Kind(COMPARISON_RECORD, LEGACY_COMPARISON),
    _Kind(TABLES_RECORD, ()),
    _Kind(BATCH_RECORD, ()),
)


def check_no_run(folder: Path, field: str = FIELD) -> None:
    """Refuse the output folder of a run for what is to lie in a folder of its own."""
    if (folder / RECORD).exists():
        got = f'"{folder}" holds a {RECORD}'
        raise InputError(field, "be no output folder of a run", got, "Choose another.")


def check_outside_runs(folder: Path, field: str = FIELD) -> None:
    """Refuse the output folder of a run, and every folder inside one, for what is made of several runs."""
    path = folder.resolve()
    for run in (path, *path.parents):
        if (run / RECORD).exists():
            got = f'"{folder}" is one' if run == path else f'"{folder}" lies in "{run}"'
            raise InputError(field, "lie outside the output folders of runs", got, "Choose another.")


def check_folder(folder: Path, *, go_on: bool, field: str = FIELD) -> None:
    """Check that a result can go into a folder, before anything is computed; nothing is written.

    Parameters
    ----------
    folder
        There already, or not.
    go_on
        It may hold something.
    field
        Its name as the user knows it.

    Raises
    ------
    InputError
        If it is a file, cannot be written, holds something that it may not, or has no room for a result's files.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(field, "be a folder", f'"{folder}" is a file')
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
        raise InputError(field, "be a folder that can be written", f'"{nearest}" cannot')
    if folder.is_dir() and not go_on and any(path.name not in NO_RESULT for path in folder.iterdir()):
        remedy = "Choose another, or allow to overwrite it."
        raise InputError(field, "be a new or empty folder", f'"{folder}" is not empty', remedy)
    for path in (folder / name for name in LEGACY_FILES):
        if path.is_dir() or path.parent.is_file():
            found = path if path.is_dir() else path.parent
            remedy = "Move it, or choose another folder."
            raise InputError(field, "have room for the files of a result", f'"{found}" is in the way', remedy)


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Make a folder where there is none, keep other runs out of it, and finish what a killed one was about to move.

    The lock is the operating system's: it ends with the process that holds it, however that ends.

    Raises
    ------
    InputError
        If another run writes it, or nobody can.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = _locked(folder, 0.0)
    except Timeout:
        got = f'another run is writing "{folder}"'
        raise InputError(
            FIELD, "be a folder of its own", got, "Wait for its end, or choose another."
        ) from None
    except OSError as error:
        got = f'"{folder}" cannot: {error.strerror or error}'
        raise InputError(FIELD, "be a folder that can be written", got) from None
    try:
        _settle(folder)
        yield
    finally:
        _release(lock)


@contextmanager
def written_aside(folder: Path) -> Iterator[Path]:
    """Give a folder to write a new result into, which replaces the old one at the end.

    An error leaves what was written in the hidden folder, and the old result as it was.

    Parameters
    ----------
    folder
        Claimed.
    """
    aside = folder / NEW
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    yield aside
    os.replace(aside, folder / COMPLETE)
    _settle(folder)


def settle(folder: Path) -> None:
    """Move a complete result to its place, where a kill came between."""
    if not (folder / COMPLETE).is_dir():
        return
    # A run that is moving it at this moment will soon be done; and what cannot be moved can still be looked at.
    with suppress(Timeout, OSError):
        lock = _locked(folder, MOVING_SECONDS)
        try:
            _settle(folder)
        finally:
            _release(lock)


def read_record(folder: Path, name: str = RECORD) -> dict[str, Any] | None:
    """Return the record of the result that a folder holds, or None where there is none to be read."""
    try:
        record = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return without_checksum(record) if isinstance(record, dict) else None


def write_record(folder: Path, record: dict[str, Any], name: str = RECORD) -> None:
    """Write the record of a result, whole or not at all, with a checksum of what it says."""
    said = json.loads(json.dumps(record, default=_plain))
    text = json.dumps({**said, CHECKSUM: _checksum(said)}, indent=2)
    with whole_file(folder / name) as stream:
        stream.write(f"{text}\n".encode())


def without_checksum(record: dict[str, Any]) -> dict[str, Any]:
    """Return what a record says."""
    return {key: value for key, value in record.items() if key != CHECKSUM}


def _checksum(said: dict[str, Any]) -> str:
    """Return the same for the same values, however their text is laid out."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def checksums_of(folder: Path, *names: str) -> dict[str, str]:
    """Return the SHA-256 of files of a folder, for its record."""
    sums = {}
    for name in names:
        with (folder / name).open("rb") as stored:
            sums[name] = hashlib.file_digest(stored, "sha256").hexdigest()
    return sums


def check_unchanged(field: str, folder: Path, record: dict[str, Any]) -> None:
    """Refuse a folder whose record, or a file that it has a checksum of, is not as it was written.

    Parameters
    ----------
    field
        Name of the folder's field as the user knows it.
    folder
        That of a result.
    record
        As read from it, checksums included.

    Raises
    ------
    InputError
    """
    known = record.get(CHECKSUMS, {})
    changed = [name for name in known if checksums_of(folder, name)[name] != known[name]]
    if CHECKSUM in record and record[CHECKSUM] != _checksum(without_checksum(record)):
        changed.insert(0, RECORD)
    if changed:
        got = f'{changed[0]} in "{folder}" was changed after it was written'
        remedy = f"Where that was meant, delete {CHECKSUM} and {CHECKSUMS} in {RECORD}."
        raise InputError(field, "be the output folder of a finished run", got, remedy)


def amend_record(folder: Path, warnings: Iterable[str] | None, names: Iterable[str]) -> None:
    """Renew the warnings in the record of a result, and list further files, so that it is known whose they are."""
    record = read_record(folder)
    if record is None:
        return
    changed = dict(record) if warnings is None else {**record, "warnings": list(warnings)}
    if isinstance(record.get("files"), list):
        changed["files"] = sorted({*record["files"], *names})
    if changed != record:
        write_record(folder, changed)


def names_of(folder: Path) -> list[str]:
    """Return the names of all files in a folder, relative to it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def _settle(folder: Path) -> None:
    """Put a complete result in the place of the old one; may begin anew after a kill at any point."""
    complete = folder / COMPLETE
    if not complete.is_dir():
        return
    for kind in (kind for kind in _KINDS if (complete / kind.record).is_file()):
        if (folder / kind.record).exists():
            _remove_old(folder, kind)
        for name in sorted(names_of(complete), key=lambda name: (name == kind.record, name)):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                # No record lists it: it is the user's own.
                os.replace(target, _unused(target))
            os.replace(complete / name, target)
    shutil.rmtree(complete)


def _remove_old(folder: Path, kind: _Kind) -> None:
    """Remove the files that the record of a folder lists, the record last, and folders that are empty then."""
    files = (read_record(folder, kind.record) or {}).get("files")
    names = kind.legacy if not isinstance(files, list) else [name for name in files if isinstance(name, str)]
    paths = [folder / name for name in names if name != kind.record and _is_inside(folder, name)]
    for path in paths:
        if path.is_file() or path.is_symlink():
            path.unlink()
    for parent in {path.parent for path in paths} - {folder}:
        with suppress(OSError):
            parent.rmdir()
    (folder / kind.record).unlink()


def _is_inside(folder: Path, name: str) -> bool:
    """Whether a name of a record, which anybody may have written, leads to a place in the folder itself."""
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts or any(mark in name for mark in "\\:\0"):
        return False
    return (folder / name).parent.resolve().is_relative_to(folder.resolve())


def _unused(path: Path) -> Path:
    numbered = (path.with_name(f"{path.name}.before{number or ''}") for number in itertools.count())
    return next(other for other in numbered if not other.exists())


def _plain(value: object) -> object:
    """Turn what JSON does not know into what it does: NumPy's scalars and arrays, paths."""
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _locked(folder: Path, seconds: float) -> FileLock:
    lock = FileLock(folder / LOCK, timeout=seconds)
    lock.acquire()
    return lock


def _release(lock: FileLock) -> None:
    path = Path(lock.lock_file)
    if os.name != "nt":
        # While it is held: who has opened it already finds that it is gone, and makes a new one.
        path.unlink(missing_ok=True)
    lock.release()
    if os.name == "nt":
        with suppress(OSError):
            path.unlink(missing_ok=True)
