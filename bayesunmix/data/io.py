"""Reading maps from files, and writing them: the front door."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bayesunmix.core.errors import InputError, check_flag, check_integer, check_path, warn
from bayesunmix.core.whole_file import swapped_in
from bayesunmix.data.acquisition import Microscope
from bayesunmix.data.files import FIELD, check_format, quiet
from bayesunmix.data.image import HyperSpySignal, SpectrumImage
from bayesunmix.data.reader import read_apart
from bayesunmix.data.signals import GivenFacts
from bayesunmix.data.stored_counts import StoredCounts

# One signal as RosettaSciIO's readers return it: data, axes, metadata, original_metadata, mapping.
SignalDictionary = Mapping[str, Any]


def load(
    path: str | os.PathLike[str],
    signal: int | None = None,
    *,
    beam_energy_keV: float | None = None,
    takeoff_angle_deg: float | None = None,
    resolution_eV: float | None = None,
    microscope: Microscope | None = None,
    energy_offset_keV: float | None = None,
    energy_scale_keV: float | None = None,
    lazy: bool | None = None,
) -> SpectrumImage:
    """Load the EDS map of a file, with the pictures stored beside it.

    Parameters
    ----------
    path
        Any file that HyperSpy reads as a spectrum image; also a line scan or a single spectrum.
    signal
        Which of the file's signals to take, from 0; needed only when the file holds more than one map.
    beam_energy_keV, takeoff_angle_deg, resolution_eV, microscope
        Facts that win over the file's.
    energy_offset_keV, energy_scale_keV
        Energy of the first channel's centre and width of a channel, in place of the file's.
    lazy
        Whether the counts are kept in a temporary file and read in parts, and never as a whole (docs/large_maps.md);
        left out, those that memory does not take with ease are.

    Returns
    -------
    SpectrumImage
        Counts in the smallest integer type, axes, facts and pictures; what was odd is warned of and recorded.

    Raises
    ------
    InputError
        With the field ``MAP``, if the file is missing, unreadable or holds no map or several; with another field, if
        its counts or axis cannot be used.

    Notes
    -----
    The file is opened by ``hyperspy.api.load`` in a process of its own, which a damaged file may crash.

    Examples
    --------
    >>> image = load("map.hspy")  # doctest: +SKIP
    >>> image.total_counts.shape  # doctest: +SKIP
    (201, 201)
    """
    given = GivenFacts(
        beam_energy_keV=beam_energy_keV,
        takeoff_angle_deg=takeoff_angle_deg,
        resolution_eV=resolution_eV,
        microscope=microscope,
        energy_offset_keV=energy_offset_keV,
        energy_scale_keV=energy_scale_keV,
    )
    return read(path, signal, given, lazy=None if lazy is None else check_flag("lazy", lazy))


def read(
    path: str | os.PathLike[str],
    signal: int | None,
    given: GivenFacts,
    *,
    lazy: bool | None = None,
    progress: Callable[[float], None] | None = None,
) -> SpectrumImage:
    """Load the map of a file as `load` does, telling the share that is read."""
    file = check_path(FIELD, path)
    check_format(file)
    wanted = None if signal is None else check_integer("signal", signal)
    image = read_apart(file, wanted, given, lazy=lazy, progress=progress)
    for message in image.warnings:
        warn(message)
    return image


def save(image: SpectrumImage, path: str | os.PathLike[str]) -> None:
    """Write a map as a HyperSpy file (.hspy), with its facts; an existing file is replaced.

    Raises
    ------
    InputError
        If the name does not end in ``.hspy`` or its folder does not exist.
    OSError
        If the disk has no room for it.
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
    OSError
        If the disk has no room for it.
    """
    file = check_path(FIELD, path)
    if file.suffix.lower() != ".hspy":
        raise InputError(FIELD, "be written to a file that ends in .hspy", f'is "{file}"')
    if not file.absolute().parent.is_dir():
        raise InputError(FIELD, "be written to a folder that exists", f'"{file.parent}" does not')
    writer = importlib.import_module("rsciio.hspy").file_writer
    whole = {
        "original_metadata": {},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
        "attributes": {"_lazy": False, "ragged": False},
        "package_info": {"package": package, "package_version": ""},
    }
    with swapped_in(file, entry["data"].nbytes) as new:
        writer(str(new), {**entry, **whole}, show_progressbar=False)


def signal_of_image(image: SpectrumImage) -> HyperSpySignal:
    """Return a map as exSpy's ``EDSTEMSpectrum``, or ``EDSSEMSpectrum`` for an SEM, sharing the counts.

    That of a map on disk is lazy.
    """
    lazy = isinstance(image.counts, StoredCounts)
    return eds_signal(_dictionary_of_image(image), image.acquisition.microscope, lazy=lazy)


def eds_signal(entry: SignalDictionary, microscope: Microscope | None, *, lazy: bool) -> HyperSpySignal:
    """Return data, axes and metadata as exSpy's signal of a microscope: that of a TEM unless it is an SEM.

    Parameters
    ----------
    entry
        As in `write_signal`.
    microscope
        Of the measurement.
    lazy
        Whether the data are a dask array.
    """
    # HyperSpy sets its log level on import; only then does a quieter one last.
    importlib.import_module("hyperspy.api")
    with quiet():
        signals = importlib.import_module("exspy.signals")
        kind = "EDSSEMSpectrum" if microscope == "SEM" else "EDSTEMSpectrum"
        return getattr(signals, f"Lazy{kind}" if lazy else kind)(**entry)


def _dictionary_of_image(image: SpectrumImage) -> dict[str, Any]:
    grid = [
        {
            "_type": "UniformDataAxis",
            "name": name,
            "size": image.shape[i],
            "scale": image.pixel_size[i],
            "offset": image.origin[i],
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
        **image.acquisition.to_metadata(image.n_pixels),
    }
    if image.mask is not None:
        # HyperSpy has no place for a mask of pixels of its own.
        metadata["bayesunmix"] = {"left_out": image.mask.astype(np.uint8)}
    counts = image.counts
    data = counts.to_dask() if isinstance(counts, StoredCounts) else counts
    return {"data": data, "axes": [*grid, energy], "metadata": metadata}
