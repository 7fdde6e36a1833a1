"""Reading maps from files and HyperSpy signals, and writing them.

Files are read by RosettaSciIO's readers, the ones behind ``hyperspy.api.load``; without HyperSpy's own import this
takes a fraction of the time.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
import os
import struct
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import HyperSpySignal, SpectrumImage, compact_counts, missing_facts, uniform_axis
from bayesunmix.errors import BayesUnmixWarning, InputError, check_path

# One signal as RosettaSciIO's readers return it: data, axes, metadata, original_metadata, mapping.
SignalDictionary = Mapping[str, Any]

_FIELD = "MAP"
_FORMATS = "HyperSpy reads .hspy, .zspy, .bcf, .emd, .dm3, .dm4, .rpl, .pts, .nxs and others."
_KEV_PER_UNIT = {"kev": 1.0, "ev": 1e-3}
_NM_PER_UNIT = {
    "m": 1e9,
    "mm": 1e6,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "nm": 1.0,
    "å": 0.1,
    "a": 0.1,
    "pm": 1e-3,
}
# Readers that can hand out blocks of a large stored array; the others keep maps compact themselves or need it whole.
_READ_LAZILY = frozenset({"HSPY", "ZSPY", "DigitalMicrograph", "Ripple", "NeXus"})
# A map in 16 bits of more bytes than this is read block by block: most fit into 8 bits, half the memory.
_READ_WHOLE = 200_000_000
# JEOL's reader stops at counts of 255 unless told otherwise.
_OPTIONS: dict[str, dict[str, Any]] = {"JEOL": {"SI_dtype": np.uint16}}
_MESSAGE_LENGTH = 160
# Bruker's container: magic bytes, length of the header before the chunks, and where the header keeps the size and the
# number of the chunks (facts from RosettaSciIO's Bruker reader, checked against the sizes of real files).
_BRUKER_MAGIC, _BRUKER_HEADER, _BRUKER_CHUNK_SIZE, _BRUKER_CHUNKS = b"AAMVHFSS", 0x118, 0x128, 0x148


def load(
    path: str | os.PathLike[str],
    signal: int | None = None,
    *,
    beam_energy_keV: float | None = None,
    takeoff_angle_deg: float | None = None,
    resolution_eV: float | None = None,
) -> SpectrumImage:
    """Load the EDS map of a file, with the pictures stored beside it.

    Parameters
    ----------
    path
        Any file that HyperSpy reads as a spectrum image; also a line scan or a single spectrum.
    signal
        Which of the file's signals to take, from 0; needed only when the file holds more than one map.
    beam_energy_keV, takeoff_angle_deg, resolution_eV
        Facts that win over the file's.

    Returns
    -------
    SpectrumImage
        Counts in the smallest integer type, axes, facts and pictures; what was odd is warned of and recorded.

    Raises
    ------
    InputError
        With the field ``MAP``, if the file is missing, unreadable or holds no map or several; with another field, if
        its counts or axis cannot be used.

    Examples
    --------
    >>> image = load("map.hspy")  # doctest: +SKIP
    >>> image.total_counts.shape  # doctest: +SKIP
    (201, 201)
    """
    file = check_path(_FIELD, path)
    # RosettaSciIO sets its log level on import; only then does a quieter one last.
    importlib.import_module("rsciio")
    with _quiet() as said:
        entries = _read(file)
        index = _choose(entries, signal, file)
        try:
            image = image_of_dictionary(
                entries[index],
                beam_energy_keV=beam_energy_keV,
                takeoff_angle_deg=takeoff_angle_deg,
                resolution_eV=resolution_eV,
                images=_pictures(entries, index),
                name=file.stem,
            )
        except (OSError, EOFError) as error:  # a file cut short may fail only when its blocks are read
            raise _unreadable(file, error) from None
    image = dataclasses.replace(image, warnings=(*said, *image.warnings))
    for message in image.warnings:
        warnings.warn(message, BayesUnmixWarning, stacklevel=2)
    return image


def save(image: SpectrumImage, path: str | os.PathLike[str]) -> None:
    """Write a map as a HyperSpy file (.hspy), with its facts; an existing file is replaced.

    Raises
    ------
    InputError
        If the name does not end in ``.hspy`` or its folder does not exist.
    """
    write_signal(path, _dictionary_of_image(image), package="exspy")


def write_signal(path: str | os.PathLike[str], entry: SignalDictionary, *, package: str = "hyperspy") -> None:
    """Write data, axes and metadata as a HyperSpy file (.hspy), without HyperSpy itself; an existing file is replaced.

    Parameters
    ----------
    path
        File to write.
    entry
        ``data``, ``axes`` (one dictionary per dimension: name, size, scale, offset, units, navigate) and ``metadata``
        as nested dictionaries, with ``General.title``.
    package
        Which package defines the signal's type.

    Raises
    ------
    InputError
        If the name does not end in ``.hspy`` or its folder does not exist.
    """
    file = Path(path)
    if file.suffix.lower() != ".hspy":
        raise InputError(_FIELD, "be written to a file that ends in .hspy", f'is "{file}"')
    if not file.absolute().parent.is_dir():
        raise InputError(_FIELD, "be written to a folder that exists", f'"{file.parent}" does not')
    writer = importlib.import_module("rsciio.hspy").file_writer
    whole = {
        "original_metadata": {},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": {"package": package, "package_version": ""},
    }
    writer(str(file), {**entry, **whole}, show_progressbar=False)


def image_of_dictionary(
    entry: SignalDictionary,
    *,
    beam_energy_keV: float | None = None,
    takeoff_angle_deg: float | None = None,
    resolution_eV: float | None = None,
    images: Mapping[str, npt.NDArray[Any]] | None = None,
    name: str = "",
) -> SpectrumImage:
    """Make a map of one signal in the form that RosettaSciIO's readers return, recording what is odd about it.

    Raises
    ------
    InputError
        If the signal holds no counts over an energy axis.
    """
    position = _energy_axis(entry)
    if position is None:
        raise InputError(
            "signal",
            "have one signal axis, the energy",
            f"is {_describe(entry)}",
            "Give a spectrum image, a line scan or a spectrum.",
        )
    axes, data = list(entry["axes"]), entry["data"]
    if data.ndim > 3:
        raise InputError(
            "signal",
            "have at most two navigation axes",
            f"is {_describe(entry)}",
            "Sum over frames and detectors first.",
        )
    energy = _energy_centres(axes[position])
    if position != data.ndim - 1:
        data = data.transpose(*(i for i in range(data.ndim) if i != position), position)
    metadata = _metadata(entry)
    given = {
        "beam_energy_keV": beam_energy_keV,
        "takeoff_angle_deg": takeoff_angle_deg,
        "resolution_eV": resolution_eV,
    }
    stored = Acquisition.from_metadata(metadata)
    acquisition = stored.replace(**{fact: value for fact, value in given.items() if value is not None})
    pixel_size, pixel_unit, grid_notes = _grid([axis for i, axis in enumerate(axes) if i != position])
    counts = compact_counts(data)
    return SpectrumImage(
        counts.reshape((1,) * (3 - counts.ndim) + counts.shape),
        energy,
        acquisition=acquisition,
        pixel_size=pixel_size,
        pixel_unit=pixel_unit,
        images=dict(images or {}),
        name=str(metadata.get("General", {}).get("title") or name),
        warnings=(*grid_notes, *_oddities(acquisition, takeoff_angle_deg is not None)),
    )


def dictionary_of_signal(signal: HyperSpySignal) -> SignalDictionary:
    """Return a HyperSpy signal, eager or lazy, in the form that RosettaSciIO's readers return.

    Raises
    ------
    InputError
        If `signal` is not a HyperSpy signal.
    """
    if not all(hasattr(signal, name) for name in ("data", "axes_manager", "metadata")):
        raise InputError(
            "signal",
            "be a HyperSpy signal",
            f"is a {type(signal).__name__}",
            "Use SpectrumImage.from_array for a NumPy array.",
        )
    axes = signal.axes_manager.as_dictionary()
    return {
        "data": signal.data,
        "axes": [axes[f"axis-{i}"] for i in range(len(axes))],
        "metadata": signal.metadata.as_dictionary(),
    }


def exspy_defaults(signal: HyperSpySignal) -> tuple[str, ...]:
    """Return, as at most one message, that a signal's detector direction may be exSpy's preference and not a fact."""
    exspy = sys.modules.get("exspy")
    facts = Acquisition.from_metadata(signal.metadata.as_dictionary())
    if exspy is None or not type(signal).__module__.startswith("exspy") or facts.elevation_deg is None:
        return ()
    preferred = exspy.preferences.EDS
    if (facts.elevation_deg, facts.azimuth_deg) != (
        preferred.eds_detector_elevation,
        preferred.eds_detector_azimuth,
    ):
        return ()
    return (
        f"The signal's detector elevation of {facts.elevation_deg:g} and azimuth of {facts.azimuth_deg:g} degrees are"
        " what exSpy fills in for a file that says nothing: check them, or give takeoff_angle_deg.",
    )


def signal_of_image(image: SpectrumImage) -> HyperSpySignal:
    """Return a map as exSpy's ``EDSTEMSpectrum``, or ``EDSSEMSpectrum`` for an SEM, sharing the counts."""
    # HyperSpy sets its log level on import; only then does a quieter one last.
    importlib.import_module("hyperspy.api")
    with _quiet():
        signals = importlib.import_module("exspy.signals")
        kind = signals.EDSSEMSpectrum if image.acquisition.microscope == "SEM" else signals.EDSTEMSpectrum
        return kind(**_dictionary_of_image(image))


def _dictionary_of_image(image: SpectrumImage) -> dict[str, Any]:
    grid = [
        {
            "_type": "UniformDataAxis",
            "name": name,
            "size": image.shape[i],
            "scale": image.pixel_size[i],
            "offset": 0.0,
            "units": image.pixel_unit or None,
            "navigate": True,
            "is_binned": False,
        }
        for i, name in enumerate(("y", "x"))
    ]
    energy = {
        "_type": "UniformDataAxis",
        "name": "Energy",
        "size": image.n_channels,
        "scale": image.energy_step_keV,
        "offset": float(image.energy_keV[0]),
        "units": "keV",
        "navigate": False,
        "is_binned": True,
    }
    signal_type = "EDS_SEM" if image.acquisition.microscope == "SEM" else "EDS_TEM"
    metadata = {
        "General": {"title": image.name},
        "Signal": {"signal_type": signal_type, "quantity": "X-rays (Counts)"},
        **image.acquisition.to_metadata(),
    }
    return {"data": image.counts, "axes": [*grid, energy], "metadata": metadata}


def _read(file: Path) -> list[SignalDictionary]:
    """Return the signals of a file, from the first reader for its extension that can read it."""
    extension = file.suffix.lower().lstrip(".")
    if not file.exists():
        raise InputError(_FIELD, "be an existing file", f'"{file}" does not exist')
    if file.is_dir() and extension != "zspy":
        raise InputError(_FIELD, "be a file", f'"{file}" is a folder')
    readers = [
        reader
        for reader in importlib.import_module("rsciio").IO_PLUGINS
        if extension in (known.lower() for known in reader["file_extensions"])
    ]
    # Several formats share .h5 and .hdf5; HyperSpy's own is the likeliest.
    readers.sort(key=lambda reader: reader["name"] != "HSPY")
    if not readers:
        raise InputError(_FIELD, "be a spectrum image in a format HyperSpy reads", f'is "{file}"', _FORMATS)
    failures: list[Exception] = []
    for reader in readers:
        try:
            if reader["name"] == "Bruker":
                _check_bruker_size(file)
            read = importlib.import_module(reader["api"]).file_reader
            lazily = {"lazy": True} if _wants_blocks(file, reader["name"]) else {}
            return list(read(str(file), **lazily, **_OPTIONS.get(reader["name"], {})))
        except MemoryError:
            raise
        except Exception as error:  # readers of damaged files fail with whatever they stumble over
            failures.append(error)
    # A reader that is not installed might have read what the others could not.
    absent = [error for error in failures if isinstance(error, ImportError)]
    raise _unreadable(file, (absent or failures)[0])


def _wants_blocks(file: Path, reader: str) -> bool:
    """Whether to read block by block: not a HyperSpy file whose map fits in memory as it is stored, which is faster."""
    if reader == "HSPY":
        h5py = importlib.import_module("h5py")
        with h5py.File(file, "r") as stored:
            arrays = [group["data"] for group in stored.get("Experiments", {}).values() if "data" in group]
            return any(
                array.dtype.kind != "u"
                or array.dtype.itemsize > 2
                or (array.dtype.itemsize == 2 and array.nbytes > _READ_WHOLE)
                for array in arrays
            )
    return reader in _READ_LAZILY


def _check_bruker_size(file: Path) -> None:
    """Raise `EOFError` for a Bruker container cut short, which its compiled reader would run off the end of."""
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
        return InputError(_FIELD, "be in a format that can be read here", needs, f"Install {error.name}.")
    said = " ".join(f"{type(error).__name__}: {error}".split())
    said = said if len(said) <= _MESSAGE_LENGTH else said[: _MESSAGE_LENGTH - 3] + "..."
    return InputError(
        _FIELD,
        f"be a whole {file.suffix} file",
        f'"{file}" cannot be read ({said})',
        "It may be cut short, damaged or of another format.",
    )


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Keep HyperSpy's deprecations and log lines off the screen; what else it warns of is handed over as text."""
    said: list[str] = []
    loggers = [logging.getLogger(name) for name in ("rsciio", "hyperspy", "exspy")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
            relevant = {" ".join(str(item.message).split()): None for item in caught if _concerns_user(item)}
            said.extend(relevant)
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _concerns_user(item: warnings.WarningMessage) -> bool:
    technical = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ResourceWarning, ImportWarning)
    return not issubclass(item.category, technical) and "Deprecation" not in item.category.__name__


def _choose(entries: Sequence[SignalDictionary], signal: int | None, file: Path) -> int:
    """Return the index of the map among the signals of a file."""
    listed = "; ".join(f"{i}: {_describe(entry)}" for i, entry in enumerate(entries))
    if signal is not None:
        if signal not in range(len(entries)):
            raise InputError("signal", f"be one of the file's signals ({listed})", f"is {signal}")
        if _energy_axis(entries[signal]) is None:
            raise InputError(
                "signal", "be a spectrum image", f"{signal} is {_describe(entries[signal])}", listed
            )
        return signal
    spectra = [i for i, entry in enumerate(entries) if _energy_axis(entry) is not None]
    maps = [i for i in spectra if entries[i]["data"].ndim > 1] or spectra
    # Beside an EDS map there may be an EELS one, which is no rival.
    chosen = [i for i in maps if _signal_type(entries[i]).startswith("EDS")] or maps
    if not chosen:
        raise InputError(_FIELD, "hold a spectrum image", f'"{file}" holds {listed or "nothing"}')
    if len(chosen) > 1:
        remedy = "Choose one with --signal N (signal=N in Python)."
        raise InputError(_FIELD, "hold one EDS map", f'"{file}" holds {len(chosen)} among {listed}', remedy)
    return chosen[0]


def _energy_axis(entry: SignalDictionary) -> int | None:
    """Return the position of the one signal axis, or None for a picture.

    Readers that do not say which axes are navigated leave it to the older ``record_by`` or to the unit of the axis.
    """
    axes = list(entry.get("axes") or ())
    if not axes:
        return None
    if all("navigate" in axis for axis in axes):
        found = [i for i, axis in enumerate(axes) if not axis["navigate"]]
    elif _metadata(entry).get("Signal", {}).get("record_by") == "spectrum" or len(axes) == 1:
        found = [len(axes) - 1]
    else:
        found = [i for i, axis in enumerate(axes) if _unit(axis).lower() in _KEV_PER_UNIT]
    return found[0] if len(found) == 1 else None


def _energy_centres(axis: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Return the channel centres in keV of an axis dictionary."""
    unit = _unit(axis)
    values: npt.NDArray[np.float64]
    remedy = "Set its units, scale and offset in HyperSpy (s.axes_manager[-1].units = 'keV' ...)."
    if unit.lower() not in _KEV_PER_UNIT:
        got = f"has the unit {unit}" if unit else "has no unit: it is not calibrated"
        raise InputError("energy axis", "be calibrated in eV or keV", got, remedy)
    if "axis" in axis:
        values = np.asarray(axis["axis"], dtype=np.float64)
    elif "expression" in axis:
        raise InputError(
            "energy axis", "have channels of equal width", "is a function of the channel", remedy
        )
    else:
        # The size comes from the data, so that a wrong one shows as a mismatch rather than as an IndexError.
        scale, offset = float(axis.get("scale", 1.0)), float(axis.get("offset", 0.0))
        values = np.asarray(offset + scale * np.arange(int(axis["size"]), dtype=np.float64))
        if scale == 1.0 and offset == 0.0 and unit.lower() == "kev":
            raise InputError("energy axis", "be calibrated", "has scale 1 and offset 0", remedy)
    return uniform_axis(values * _KEV_PER_UNIT[unit.lower()])


def _grid(axes: Sequence[Mapping[str, Any]]) -> tuple[tuple[float, float], str, tuple[str, ...]]:
    """Return pixel size (dy, dx), its unit and what is odd about it, from zero to two navigation axes."""
    sizes = [abs(float(axis.get("scale", 1.0))) or 1.0 for axis in axes]
    units = [_unit(axis) for axis in axes]
    if len(axes) == 2 and units[0] != units[1]:
        if all(unit.lower() in _NM_PER_UNIT for unit in units):
            sizes[0] *= _NM_PER_UNIT[units[0].lower()] / _NM_PER_UNIT[units[1].lower()]
        else:
            note = f"The rows and columns of the map have different units ({units[0]}, {units[1]}): taken as pixels."
            return (1.0, 1.0), "", (note,)
    if not sizes:
        return (1.0, 1.0), "", ()
    return (sizes[0], sizes[-1]), units[-1], ()


def _oddities(acquisition: Acquisition, takeoff_given: bool) -> tuple[str, ...]:
    """Return what the user should know of the facts: what is missing, assumed or outside the method."""
    messages = list(missing_facts(acquisition))
    if acquisition.assumes_untilted and not takeoff_given:
        messages.append(
            f"The map does not say its stage tilt: the take-off angle of {acquisition.takeoff_angle_deg:g} degrees is"
            " the detector's elevation, right for an untilted foil."
        )
    if acquisition.microscope == "SEM":
        messages.append(
            "The map was taken in an SEM: compositions assume a thin film, which a bulk sample is not."
        )
    return tuple(messages)


def _pictures(entries: Sequence[SignalDictionary], chosen: int) -> dict[str, npt.NDArray[Any]]:
    """Return the real two-dimensional images of a file by title."""
    pictures: dict[str, npt.NDArray[Any]] = {}
    for i, entry in enumerate(entries):
        data = entry["data"]
        if i == chosen or _energy_axis(entry) is not None or data.ndim != 2 or data.dtype.kind not in "uif":
            continue
        title = str(_metadata(entry).get("General", {}).get("title") or f"image {i}")
        while title in pictures:
            title += f" ({data.shape[0]} x {data.shape[1]})"
        pictures[title] = np.asarray(data)
    return pictures


def _metadata(entry: SignalDictionary) -> dict[str, Any]:
    """Return the metadata, completed from the vendor's own as the reader's mapping says."""
    metadata: dict[str, Any] = _copy(entry.get("metadata") or {})
    for source, (target, convert) in (entry.get("mapping") or {}).items():
        value: Any = entry.get("original_metadata") or {}
        for key in source.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        value = convert(value) if convert is not None and value is not None else value
        if value is None:
            continue
        node = metadata
        *path, last = target.split(".")
        for key in path:
            node = node.setdefault(key, {})
        node[last] = value
    return metadata


def _copy(node: Mapping[str, Any]) -> dict[str, Any]:
    """Copy nested dictionaries but not what they hold."""
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in node.items()}


def _signal_type(entry: SignalDictionary) -> str:
    return str(_metadata(entry).get("Signal", {}).get("signal_type") or "")


def _describe(entry: SignalDictionary) -> str:
    """Say in a few words what a signal is: kind, title and shape."""
    kind = "picture" if _energy_axis(entry) is None else (_signal_type(entry) or "spectra")
    title = _metadata(entry).get("General", {}).get("title") or "untitled"
    return f'{kind} "{title}" {" x ".join(str(size) for size in entry["data"].shape)}'


def _unit(axis: Mapping[str, Any]) -> str:
    unit = axis.get("units")
    return "" if unit is None or str(unit) in ("<undefined>", "None") else str(unit).strip()
