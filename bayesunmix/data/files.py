"""Opening files with ``hyperspy.api.load``, in this process."""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.contents import Held, contents
from bayesunmix.data.counts import ReadCounts, Source, read_counts
from bayesunmix.data.image import HyperSpySignal, SpectrumImage
from bayesunmix.data.signals import GivenFacts, choose, image_of_signal, pictures

FIELD = "MAP"
_FORMATS = "HyperSpy reads .hspy, .zspy, .bcf, .emd, .dm3, .dm4, .rpl, .pts, .nxs and others."
# HyperSpy's own formats hold whatever libraries have filled in; all others say what the microscope wrote.
_KEPT_BY_HYPERSPY = frozenset({"HSPY", "ZSPY"})
# Several formats share .h5 and .hdf5; HyperSpy's own is the likeliest.
_LIKELIEST = "HSPY"
# JEOL's reader stops at counts of 255 unless told otherwise.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {"JEOL": {"SI_dtype": np.uint16}}
# Bruker's container: magic bytes, length of the header before the chunks, and where the header keeps the size and the
# number of the chunks (facts from RosettaSciIO's Bruker reader, checked against the sizes of real files).
_BRUKER_MAGIC, _BRUKER_HEADER, _BRUKER_CHUNK_SIZE, _BRUKER_CHUNKS = b"AAMVHFSS", 0x118, 0x128, 0x148
_MESSAGE_LENGTH = 160
PICTURES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".jpg", ".jpeg")


def read_image(
    file: Path,
    signal: int | None,
    given: GivenFacts,
    opened: Callable[[int], None] = lambda _: None,
    read: Callable[[Source], ReadCounts] = read_counts,
) -> SpectrumImage:
    """Read the map of a file, with the pictures stored beside it.

    Parameters
    ----------
    file
        Any file that HyperSpy reads as a spectrum image.
    signal
        Which of the file's signals to take, from 0; needed only when the file holds more than one map.
    given
        What wins over the file's facts and axis.
    opened
        Called with the bytes of the map's array before its counts are read.
    read
        How they are read.

    Raises
    ------
    InputError
        With the field ``MAP``, if the file is unreadable or holds no map or several; with another field, if its counts
        or axis cannot be used.
    """
    # Readers set their log levels on import; only then does a quieter one last.
    importlib.import_module("hyperspy.api")
    with quiet() as said, _nothing_filled_in():
        try:
            with _opened(file) as (signals, reader):
                index = choose(signals, signal, str(file))
                opened(int(signals[index].data.nbytes))
                image = image_of_signal(
                    signals[index],
                    given,
                    fresh=reader not in _KEPT_BY_HYPERSPY,
                    images=pictures(signals, index),
                    name=file.stem,
                    read=read,
                )
        except InputError as error:
            # Who chose no signal knows the map alone.
            raise error.about(FIELD) if signal is None and error.field == "signal" else error from None
        except MemoryError:
            raise
        except Exception as error:  # readers of damaged files fail with whatever they stumble over
            raise _unreadable(file, error) from None
    return dataclasses.replace(image, warnings=(*said, *image.warnings))


def read_contents(file: Path, opened: Callable[[int], None] = lambda _: None) -> tuple[Held, ...]:
    """Describe every signal of a file; see `read_image`.

    Raises
    ------
    InputError
        With the field ``MAP``, if the file is unreadable.
    """
    importlib.import_module("hyperspy.api")
    with quiet(), _nothing_filled_in():
        try:
            with _opened(file) as (signals, _):
                opened(sum(int(signal.data.nbytes) for signal in signals))
                return contents(signals)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # as above
            raise _unreadable(file, error) from None


def read_array(file: Path, opened: Callable[[int], None] = lambda _: None) -> npt.NDArray[Any]:
    """Read the one array of a picture, or of a file with one signal; see `read_image`.

    Of a colour picture it is what is not black; how opaque it is does not matter.

    Raises
    ------
    InputError
        With the field ``MAP``, if the file is unreadable or holds several signals.
    """
    with quiet():
        try:
            if file.suffix.lower() in PICTURES:
                picture = np.asarray(importlib.import_module("imageio.v3").imread(file))
                coloured = picture.ndim == 3 and picture.shape[-1] in (3, 4)
                return np.asarray(picture[..., :3].any(axis=-1)) if coloured else picture
            if not _readers(file):
                raise InputError(
                    FIELD, "be an array, a picture or a file that HyperSpy reads", f'is "{file}"'
                )
            with _opened(file) as (signals, _):
                if len(signals) != 1:
                    got = f'"{file}" holds {len(signals)} signals'
                    raise InputError(FIELD, "hold one signal", got)
                opened(int(signals[0].data.nbytes))
                return np.asarray(signals[0].data)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # as above
            raise _unreadable(file, error) from None


def check_format(file: Path) -> None:
    """Raise `InputError` unless `file` exists and HyperSpy reads files of its kind."""
    if not file.exists():
        raise InputError(FIELD, "be an existing file", f'"{file}" does not exist')
    if file.is_dir() and file.suffix.lower() != ".zspy":
        raise InputError(FIELD, "be a file", f'"{file}" is a folder')
    if not file.is_dir() and not file.is_file():
        raise InputError(FIELD, "be a file", f'"{file}" is a pipe, a socket or a device')
    if not os.access(file, os.R_OK):
        raise InputError(FIELD, "be a file that can be read", f'"{file}" is not yours to read')
    if not _readers(file):
        raise InputError(FIELD, "be a spectrum image in a format HyperSpy reads", f'is "{file}"', _FORMATS)


def _readers(file: Path) -> list[str]:
    """Return the names of the readers for a file's extension, the likeliest first."""
    extension = file.suffix.lower().lstrip(".")
    plugins = importlib.import_module("rsciio").IO_PLUGINS
    names = [
        str(plugin["name"])
        for plugin in plugins
        if extension in (known.lower() for known in plugin["file_extensions"])
    ]
    return sorted(names, key=lambda name: name != _LIKELIEST)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[list[HyperSpySignal], str]]:
    """Open a file as `_open` does, and close it at the end: users move, replace and delete their files."""
    signals, reader = _open(file)
    try:
        yield signals, reader
    finally:
        for signal in signals:
            # Those of one file share its handle, and most formats leave none open.
            with suppress(Exception):
                signal.close_file()


def _open(file: Path) -> tuple[list[HyperSpySignal], str]:
    """Return the signals of a file and the name of the reader: the first for its extension that can read it."""
    failures: list[Exception] = []
    for reader in _readers(file):
        try:
            return _signals(file, reader, lazy=True), reader
        except Exception:  # a reader that is never lazy, or a file that it cannot read
            try:
                return _signals(file, reader, lazy=False), reader
            except Exception as error:
                failures.append(error)
    # A reader that is not installed might have read what the others could not.
    absent = [error for error in failures if isinstance(error, ImportError)]
    raise (absent or failures)[0]


def _signals(file: Path, reader: str, lazy: bool) -> list[HyperSpySignal]:
    if reader == "Bruker":
        _check_bruker_size(file)
    hyperspy = importlib.import_module("hyperspy.api")
    # A path and no text, which HyperSpy would take for a pattern of names.
    found = hyperspy.load(file, lazy=lazy, file_format=reader, **_OPTIONS.get(reader, {}))
    signals = list(found) if isinstance(found, (list, tuple)) else [found]
    for signal in signals:
        _check_sizes(signal, reader)
    return signals


def _check_sizes(signal: HyperSpySignal, reader: str) -> None:
    """Raise `ValueError` for sizes below zero, which Ripple's reader passes over."""
    if reader == "Ripple":
        header = signal.original_metadata.as_dictionary()
        for name in ("width", "height", "depth"):
            if isinstance(header.get(name), (int, float)) and header[name] < 0:
                raise ValueError(f"{name} is {header[name]:g}")


def _check_bruker_size(file: Path) -> None:
    """Raise `EOFError` for a Bruker container cut short, of which its reader may make a map with pixels missing."""
    with file.open("rb") as stored:
        head = stored.read(_BRUKER_CHUNKS + 4)
    if not head.startswith(_BRUKER_MAGIC) or len(head) < _BRUKER_CHUNKS + 4:
        return
    (chunk_size,) = struct.unpack_from("<I", head, _BRUKER_CHUNK_SIZE)
    (chunks,) = struct.unpack_from("<I", head, _BRUKER_CHUNKS)
    expected, size = _BRUKER_HEADER + chunk_size * chunks, file.stat().st_size
    if size < expected:
        raise EOFError(f"{size} of {expected} bytes")


def _unreadable(file: Path, error: Exception) -> InputError:
    if isinstance(error, ImportError):
        needs = f'"{file}" needs the Python package {error.name}, which is not installed'
        return InputError(FIELD, "be in a format that can be read here", needs, f"Install {error.name}.")
    said = " ".join(f"{type(error).__name__}: {error}".split())
    said = said if len(said) <= _MESSAGE_LENGTH else said[: _MESSAGE_LENGTH - 3] + "..."
    return broken(file, said)


def broken(file: Path, why: str) -> InputError:
    """Return the complaint about a file that cannot be read."""
    return InputError(
        FIELD,
        f"be a whole {file.suffix} file",
        f'"{file}" cannot be read ({why})',
        "It may be cut short, damaged or of another format.",
    )


@contextmanager
def quiet() -> Iterator[list[str]]:
    """Keep HyperSpy's deprecations and log lines off the screen; what else it warns of is handed over as text."""
    said: list[str] = []
    loggers = [logging.getLogger(name) for name in ("rsciio", "hyperspy", "exspy")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
            relevant = {" ".join(str(item.message).split()): None for item in caught if _concerns_user(item)}
            said.extend(relevant)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _nothing_filled_in() -> Iterator[None]:
    """Have exSpy fill in NaN, which counts as missing, where a file says nothing of its detector."""
    preferred = importlib.import_module("exspy").preferences.EDS
    names = ("eds_detector_elevation", "eds_detector_azimuth", "eds_tilt_stage", "eds_mn_ka")
    kept = {name: getattr(preferred, name) for name in names}
    try:
        for name in names:
            setattr(preferred, name, float("nan"))
        yield
    finally:
        for name, value in kept.items():
            setattr(preferred, name, value)


def _concerns_user(item: warnings.WarningMessage) -> bool:
    technical = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning, ImportWarning)
    own = issubclass(item.category, BayesUnmixWarning)
    return (
        not own and not issubclass(item.category, technical) and "Deprecation" not in item.category.__name__
    )
