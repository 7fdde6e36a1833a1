"""From HyperSpy signals to a map: which of them is the map, its axes, its counts and its pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, check_between, check_choice
from bayesunmix.core.severity import Reservation
from bayesunmix.data.acquisition import Acquisition, Microscope, check_fact
from bayesunmix.data.counts import ReadCounts, Source, read_counts
from bayesunmix.data.facts import FileOrigin, default_notes, facts_of, listed_elevations_deg
from bayesunmix.data.image import AXIS_LIMITS_KEV, HyperSpySignal, SpectrumImage, missing_facts, uniform_axis

# HyperSpy ships no types.
Axis = Any

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
_CALIBRATE = (
    "Set units, scale and offset in HyperSpy (s.axes_manager[-1].units = 'keV' ...), or give energy_offset_keV and"
    " energy_scale_keV (under [map] in a configuration; --energy-offset-keV and --energy-scale-keV of `inspect`)."
)


@dataclass(frozen=True, kw_only=True)
class GivenFacts:
    """What the user says of a map; it wins over what the signal says.

    Parameters
    ----------
    beam_energy_keV, takeoff_angle_deg, resolution_eV, microscope
        Facts, as in `Acquisition`.
    energy_offset_keV, energy_scale_keV
        Centre of the first channel and width of a channel.
    """

    beam_energy_keV: float | None = None
    takeoff_angle_deg: float | None = None
    resolution_eV: float | None = None
    microscope: Microscope | None = None
    energy_offset_keV: float | None = None
    energy_scale_keV: float | None = None

    def __post_init__(self) -> None:
        # As plain numbers, which can be handed to the reading process.
        for name in ("beam_energy_keV", "takeoff_angle_deg", "resolution_eV"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_fact(name, getattr(self, name)))
        if self.microscope is not None:
            check_choice("microscope", self.microscope, ("TEM", "SEM"))
        for name, limits in AXIS_LIMITS_KEV.items():
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_between(name, getattr(self, name), *limits))

    def onto(self, facts: Acquisition) -> Acquisition:
        """Return facts in which these replace those of the file."""
        names = ("beam_energy_keV", "takeoff_angle_deg", "resolution_eV", "microscope")
        return facts.replace(**{n: getattr(self, n) for n in names if getattr(self, n) is not None})


def map_of_signal(
    signal: HyperSpySignal,
    *,
    beam_energy_keV: float | None = None,
    takeoff_angle_deg: float | None = None,
    resolution_eV: float | None = None,
    microscope: Microscope | None = None,
    energy_offset_keV: float | None = None,
    energy_scale_keV: float | None = None,
) -> SpectrumImage:
    """Make a map of a HyperSpy signal with one energy axis, eager or lazy.

    Parameters
    ----------
    signal
        ``EDSTEMSpectrum``, ``EDSSEMSpectrum`` or ``Signal1D`` whose energy axis has the unit eV or keV. A lazy one
        is read piece by piece, and kept on disk where its counts do not fit into memory with ease.
    beam_energy_keV, takeoff_angle_deg, resolution_eV, microscope
        Facts that win over the signal's metadata.
    energy_offset_keV, energy_scale_keV
        Energy of the first channel's centre and width of a channel, in place of the signal's.

    Raises
    ------
    InputError
        If the signal holds no counts over an energy axis.

    Notes
    -----
    exSpy fills facts that its file lacks with its own preferences (elevation 35°, azimuth 0°, tilt 0°, 130 eV).
    What equals them has the source "library default", and a detector direction that does is warned about.
    """
    given = GivenFacts(
        beam_energy_keV=beam_energy_keV,
        takeoff_angle_deg=takeoff_angle_deg,
        resolution_eV=resolution_eV,
        microscope=microscope,
        energy_offset_keV=energy_offset_keV,
        energy_scale_keV=energy_scale_keV,
    )
    image = image_of_signal(signal, given)
    return dataclasses.replace(image, warnings=()).with_warnings(image.warnings)


def image_of_signal(
    signal: HyperSpySignal,
    given: GivenFacts,
    *,
    fresh: bool = False,
    images: Mapping[str, npt.NDArray[Any]] | None = None,
    name: str = "",
    read: Callable[[Source], ReadCounts] = read_counts,
) -> SpectrumImage:
    """Make a map of a HyperSpy signal, eager or lazy, recording what is odd about it.

    Parameters
    ----------
    signal
        With one signal axis, the energy.
    given
        What wins over the signal's own facts and axis.
    fresh
        Whether the signal is a vendor's file as it was read, in which no library has filled anything in.
    images
        Pictures to keep beside the map.
    name
        Title where the signal has none.
    read
        How its counts are read.

    Raises
    ------
    InputError
        If the signal holds no counts over an energy axis.
    """
    if not all(hasattr(signal, wanted) for wanted in ("data", "axes_manager", "metadata")):
        raise InputError(
            "signal",
            "be a HyperSpy signal",
            f"is a {type(signal).__name__}",
            "Use SpectrumImage.from_array for a NumPy array.",
        )
    if not is_spectra(signal):
        raise InputError(
            "signal",
            "be a spectrum image, a line scan or a spectrum",
            f"is {signal_text(signal)}: {why_no_spectra(signal)}",
            energy_remedy(signal),
        )
    manager = signal.axes_manager
    if manager.navigation_dimension > 2:
        raise InputError(
            "signal",
            "have at most two navigation axes",
            f"is {signal_text(signal)}",
            "Sum over frames and detectors first.",
        )
    energy_axis = manager.signal_axes[0]
    energy = _energy_centres(energy_axis, given)
    # In the order of the array, rows first.
    axes = sorted(manager.navigation_axes, key=lambda axis: axis.index_in_array)
    order = [*(axis.index_in_array for axis in axes), energy_axis.index_in_array]
    data = signal.data if order == sorted(order) else signal.data.transpose(*order)
    grid, grid_notes = _grid(axes)
    n_pixels = int(np.prod([axis.size for axis in axes], dtype=int))
    metadata = signal.metadata.as_dictionary()
    origin = FileOrigin(signal.original_metadata.as_dictionary(), fresh)
    facts, fact_notes = facts_of(metadata, n_pixels, origin)
    facts = given.onto(facts)
    mask = _stored_mask(metadata, data.shape[:-1])
    make = SpectrumImage if mask is None else _masked_by_itself
    return make(
        counts=read(data.reshape((1,) * (3 - data.ndim) + data.shape)),  # type: ignore[arg-type]
        energy_keV=energy,
        acquisition=facts,
        pixel_size=grid.size,
        pixel_unit=grid.unit,
        origin=grid.origin,
        mask=mask,
        images=dict(images or {}),
        name=str(metadata.get("General", {}).get("title") or name),
        warnings=(
            *grid_notes,
            *fact_notes,
            *default_notes(facts, listed_elevations_deg(origin.original)),
            *_oddities(facts),
        ),
    )


def _masked_by_itself(**parts: Any) -> SpectrumImage:  # noqa: ANN401 - those of a map
    """Make a map with the mask that its signal holds; a complaint about it is one about the signal."""
    try:
        return SpectrumImage(**parts)
    except InputError as error:
        if error.field != "mask":
            raise
        must = "hold a pixel with counts that its own mask does not leave out"
        raise InputError("signal", must, "holds none") from None


def is_spectra(signal: HyperSpySignal) -> bool:
    """Whether a signal has real numbers over one signal axis."""
    return bool(signal.axes_manager.signal_dimension == 1 and signal.data.dtype.kind in "uif")


def why_no_spectra(signal: HyperSpySignal) -> str:
    """Say why a signal is none of spectra: its numbers, or its axes."""
    kinds = {"c": "complex", "b": "true or false"}
    dtype, axes = signal.data.dtype, signal.axes_manager.signal_dimension
    if dtype.kind not in "uif":
        return f"its data are {kinds.get(dtype.kind, f'of the type {dtype}')}, not counts"
    return f"it has {axes or 'no'} signal axes, where the energy must be the only one"


def energy_remedy(*signals: HyperSpySignal) -> str:
    """Say how to mark the energy axis of the first signal that has one among several signal axes; nothing without one.

    So HyperSpy's own ``.emd`` files come back, which keep no kind of an axis and no fact of the measurement.
    """
    for signal in signals:
        for axis in signal.axes_manager.signal_axes if signal.axes_manager.signal_dimension > 1 else ():
            if str(axis.units).lower() in ("ev", "kev"):
                name = str(axis.name) if isinstance(axis.name, str) else axis.index_in_axes_manager
                return (
                    f"If it is one that HyperSpy saved, save it as .hspy instead, which keeps axes and beam energy; "
                    f"else mark its energy axis in HyperSpy: signal.transpose(signal_axes=[{name!r}])"
                    '.save("map.hspy").'
                )
    return ""


def choose(signals: Sequence[HyperSpySignal], wanted: int | None, file: str) -> int:
    """Return the index of the map among the signals of a file.

    Raises
    ------
    InputError
        If there is none, or more than one and none is `wanted`.
    """
    listed = "; ".join(f"{i}: {signal_text(signal)}" for i, signal in enumerate(signals))
    if wanted is not None:
        if wanted not in range(len(signals)):
            raise InputError("signal", f"be one of the file's signals ({listed})", f"is {wanted}")
        if not is_spectra(signals[wanted]):
            got = f"{wanted} is {signal_text(signals[wanted])}: {why_no_spectra(signals[wanted])}"
            raise InputError("signal", "be a spectrum image", got, energy_remedy(signals[wanted]) or listed)
        return wanted
    chosen = rivals(signals)
    if not chosen:
        held = "; ".join(f"{i}: {signal_text(one)}, {why_no_spectra(one)}" for i, one in enumerate(signals))
        got = f'"{file}" holds {held or "nothing"}'
        raise InputError("MAP", "hold a spectrum image", got, energy_remedy(*signals))
    if len(chosen) > 1:
        remedy = "Choose one with --signal N (signal=N in Python)."
        raise InputError("MAP", "hold one EDS map", f'"{file}" holds {len(chosen)} among {listed}', remedy)
    return chosen[0]


def rivals(signals: Sequence[HyperSpySignal]) -> list[int]:
    """Return the indices of the signals that the map is chosen from."""
    spectra = [i for i, signal in enumerate(signals) if is_spectra(signal)]
    maps = [i for i in spectra if signals[i].axes_manager.navigation_dimension > 0] or spectra
    # Beside an EDS map there may be an EELS one, which is no rival.
    return [i for i in maps if _signal_type(signals[i]).startswith("EDS")] or maps


def pictures(signals: Sequence[HyperSpySignal], chosen: int) -> dict[str, npt.NDArray[Any]]:
    """Return the real two-dimensional images of a file by title."""
    found: dict[str, npt.NDArray[Any]] = {}
    for i, signal in enumerate(signals):
        data = signal.data
        if i == chosen or is_spectra(signal) or data.ndim != 2 or data.dtype.kind not in "uif":
            continue
        title = str(signal.metadata.get_item("General.title") or f"image {i}")
        while title in found:
            title += f" ({data.shape[0]} x {data.shape[1]})"
        found[title] = np.asarray(data)
    return found


def signal_text(signal: HyperSpySignal) -> str:
    """Say in a few words what a signal is: kind, title and shape."""
    kind = kind_of(signal)
    title = signal.metadata.get_item("General.title") or "untitled"
    return f'{kind} "{title}" {" x ".join(str(size) for size in signal.data.shape)}'


def kind_of(signal: HyperSpySignal) -> str:
    """Name the kind of a signal in a word."""
    if is_spectra(signal):
        return _signal_type(signal) or "spectra"
    return "picture" if signal.data.ndim > 1 else "numbers"


def _stored_mask(metadata: dict[str, Any], shape: tuple[int, ...]) -> npt.NDArray[np.bool_] | None:
    """Return the pixels (y, x) that our own files leave out; None where the signal was cut since, or has none."""
    stored = np.asarray(metadata.get("bayesunmix", {}).get("left_out", ()))
    grid = (1,) * (2 - len(shape)) + shape
    return stored.astype(bool) if stored.shape == grid and stored.dtype.kind in "bui" else None


def _oddities(facts: Acquisition) -> tuple[str, ...]:
    """Return what the user should know of the facts: what is missing, assumed or outside the method."""
    if facts.excitation == "photons":
        return (
            "The X-rays were excited by photons (X-ray fluorescence): the physics here is that of electrons, and"
            " `unmix` refuses the map. If the file is wrong about that, give the microscope (under [instrument] in a"
            " configuration).",
        )
    messages = list(missing_facts(facts))
    if facts.sources.get("takeoff_angle_deg") == "assumption":
        messages.append(
            f"The map does not say its stage tilt: the take-off angle of {facts.takeoff_angle_deg:g} degrees is"
            " the detector's elevation, right for an untilted foil. If tilted, set `instrument.takeoff_angle_deg`."
        )
    if facts.microscope == "SEM":
        text = (
            "The map was taken in an SEM: compositions assume a thin film, and absorption and fluorescence bias those "
            "of a bulk sample. Use the segmentation, and quantify the phases' spectra with a matrix correction."
        )
        messages.append(Reservation(text))
    return tuple(messages)


@dataclass(frozen=True)
class _Grid:
    """Pixel size (dy, dx), position (y, x) of the first pixel, and the unit of both."""

    size: tuple[float, float] = (1.0, 1.0)
    origin: tuple[float, float] = (0.0, 0.0)
    unit: str = ""


def _grid(axes: Sequence[Axis]) -> tuple[_Grid, tuple[str, ...]]:
    """Return the grid of up to two navigation axes, rows first, and what is odd about it."""
    if not axes:
        return _Grid(), ()
    units = [unit_of(axis) for axis in axes]
    factors = [1.0] * len(axes)
    if units[0] != units[-1]:
        if not all(unit.lower() in _NM_PER_UNIT for unit in units):
            note = f"The rows and columns of the map have different units ({units[0]}, {units[1]}): taken as pixels."
            return _Grid(), (note,)
        factors[0] = _NM_PER_UNIT[units[0].lower()] / _NM_PER_UNIT[units[-1].lower()]
    steps = [factor * (abs(_step(axis)) or 1.0) for factor, axis in zip(factors, axes, strict=True)]
    starts = [factor * float(axis.axis[0]) for factor, axis in zip(factors, axes, strict=True)]
    origin = (starts[0] if len(axes) == 2 else 0.0, starts[-1])
    return _Grid((steps[0], steps[-1]), origin, units[-1]), ()


def _step(axis: Axis) -> float:
    """Return the distance of neighbours on an axis, their mean where it is not uniform."""
    if axis.is_uniform:
        return float(axis.scale)
    places = np.asarray(axis.axis, dtype=np.float64)
    return float(places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else 1.0


def _energy_centres(axis: Axis, given: GivenFacts) -> npt.NDArray[np.float64]:
    """Return the channel centres in keV: the axis's own, or what the user gives in their place."""
    offset, scale = given.energy_offset_keV, given.energy_scale_keV
    channels = np.arange(axis.size, dtype=np.float64)
    if offset is not None and scale is not None:
        return uniform_axis(offset + scale * channels)
    unit = unit_of(axis)
    if unit.lower() not in _KEV_PER_UNIT:
        got = f"has the unit {unit}" if unit else "has no unit: it is not calibrated"
        raise InputError("energy axis", "be calibrated in eV or keV", got, _CALIBRATE)
    kev = _KEV_PER_UNIT[unit.lower()]
    if scale is None and not is_calibrated(axis):
        raise InputError("energy axis", "be calibrated", "has scale 1 and offset 0", _CALIBRATE)
    own = uniform_axis(kev * np.asarray(axis.axis, dtype=np.float64))
    if offset is None and scale is None:
        return own
    step = float(own[-1] - own[0]) / (own.size - 1)
    start = float(own[0]) if offset is None else offset
    return uniform_axis(start + (step if scale is None else scale) * channels)


def is_calibrated(axis: Axis) -> bool:
    """Whether an axis is one of energies, and not of channel numbers that are called keV."""
    unit = unit_of(axis).lower()
    counted = unit == "kev" and axis.is_uniform and (axis.scale, axis.offset) == (1.0, 0.0)
    return unit in _KEV_PER_UNIT and not counted


def _signal_type(signal: HyperSpySignal) -> str:
    return str(signal.metadata.get_item("Signal.signal_type") or "")


def unit_of(axis: Axis) -> str:
    """Return the unit of an axis as the file writes it, empty where it has none."""
    unit = axis.units
    return "" if unit is None or str(unit) in ("<undefined>", "None") else str(unit).strip()
