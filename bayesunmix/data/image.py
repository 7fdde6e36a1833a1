"""The measured map: integer counts kept as they are, their energy axis, grid and acquisition facts."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import warnings as python_warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.data.acquisition import Acquisition
from bayesunmix.errors import BayesUnmixWarning, InputError, check_number, check_positive, shown
from bayesunmix.memory import check_counts

# HyperSpy and dask ship no types.
HyperSpySignal = Any
DaskArray = Any

_DTYPES = (np.uint8, np.uint16, np.uint32)
# Counts are checked and copied in blocks of about this many entries: no temporary ever nears the size of the map.
_BLOCK_ENTRIES = 2_000_000
# An axis counts as uniform when no channel is off its straight line by more than this share of a channel.
_UNIFORMITY = 0.01
# An EDS axis that ends above this many keV is surely in eV.
_MAX_ENERGY_KEV = 1000.0
_RAW_COUNTS = "Give the raw counts, not normalised, background-subtracted or denoised."


@dataclass(frozen=True, eq=False, repr=False)
class SpectrumImage:
    """Photon counts over a grid of pixels, with the energy axis and the facts of the measurement.

    Build one with `from_array`, `from_signal` or `bayesunmix.load`; a line scan and a single spectrum are maps with one
    row, or one pixel.

    Parameters
    ----------
    counts
        Photon counts (y, x, energy) in the smallest of uint8, uint16 and uint32 that holds them; read-only.
    energy_keV
        Channel centres (energy,), ascending and uniform.
    acquisition
        Facts of microscope and detector.
    pixel_size
        Size (dy, dx) of a pixel in `pixel_unit`.
    pixel_unit
        Unit of length of the grid, empty when it has none.
    images
        Other pictures of the file (HAADF, SE ...) by name, for display only.
    name
        Title of the map.
    warnings
        What was odd about the map, as told to the user on the way in.

    Raises
    ------
    InputError
        If counts, axis or grid cannot be used.
    """

    counts: npt.NDArray[np.unsignedinteger[Any]]
    energy_keV: npt.NDArray[np.float64]
    acquisition: Acquisition = field(default_factory=Acquisition)
    pixel_size: tuple[float, float] = (1.0, 1.0)
    pixel_unit: str = ""
    images: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    name: str = ""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        counts = compact_counts(self.counts)
        if counts.ndim != 3:
            raise InputError("counts", "have the dimensions y, x and energy", f"have shape {_shape(counts)}")
        energy = uniform_axis(self.energy_keV)
        if energy.size != counts.shape[-1]:
            raise InputError(
                "energy_keV",
                f"hold one channel centre for each of the {counts.shape[-1]} channels",
                f"holds {energy.size}",
                "The last dimension of the counts is energy.",
            )
        sizes = tuple(check_positive("pixel_size", float(size)) for size in self.pixel_size)
        view = counts.view()
        view.flags.writeable = False
        object.__setattr__(self, "counts", view)
        object.__setattr__(self, "energy_keV", energy)
        object.__setattr__(self, "pixel_size", sizes)

    @classmethod
    def from_array(
        cls,
        counts: npt.ArrayLike,
        energy_keV: npt.ArrayLike,
        *,
        beam_energy_keV: float | None = None,
        takeoff_angle_deg: float | None = None,
        resolution_eV: float | None = None,
        acquisition: Acquisition | None = None,
        pixel_size: float | tuple[float, float] = 1.0,
        pixel_unit: str = "",
        name: str = "",
    ) -> SpectrumImage:
        """Make a map of an array of counts; unsigned integers that are already compact are shared, not copied.

        Parameters
        ----------
        counts
            Non-negative whole numbers (y, x, energy), (x, energy) for a line scan or (energy,) for a spectrum: NumPy
            or dask (read block by block).
        energy_keV
            Channel centres (energy,), ascending and uniform.
        beam_energy_keV, takeoff_angle_deg, resolution_eV
            Facts of the measurement; they win over those in `acquisition`.
        acquisition
            All the facts at once.
        pixel_size
            Size of a pixel, one number or (dy, dx).
        pixel_unit
            Unit of `pixel_size`.
        name
            Title of the map.

        Raises
        ------
        InputError
            If counts are negative, not whole, not finite, all zero or of more than three dimensions, or the axis is
            missing, reversed, not uniform or of another length.
        """
        compact = compact_counts(counts)
        if not 1 <= compact.ndim <= 3:
            raise InputError(
                "counts",
                "have one to three dimensions, the last of them energy",
                f"have shape {_shape(compact)}",
                "Sum over frames and detectors first.",
            )
        grid = compact.reshape((1,) * (3 - compact.ndim) + compact.shape)
        facts = _with_given(acquisition or Acquisition(), beam_energy_keV, takeoff_angle_deg, resolution_eV)
        size = (pixel_size, pixel_size) if isinstance(pixel_size, (int, float)) else pixel_size
        if not isinstance(size, (tuple, list, np.ndarray)) or len(size) != 2:
            raise InputError("pixel_size", "be one number or (dy, dx)", f"is {shown(size)}")
        image = cls(
            grid,
            np.asarray(energy_keV),
            acquisition=facts,
            pixel_size=(check_number("pixel_size", size[0]), check_number("pixel_size", size[1])),
            pixel_unit=pixel_unit,
            name=name,
        )
        return image.with_warnings(missing_facts(facts))

    @classmethod
    def from_signal(
        cls,
        signal: HyperSpySignal,
        *,
        beam_energy_keV: float | None = None,
        takeoff_angle_deg: float | None = None,
        resolution_eV: float | None = None,
    ) -> SpectrumImage:
        """Make a map of a HyperSpy signal with one energy axis, eager or lazy.

        Parameters
        ----------
        signal
            ``EDSTEMSpectrum``, ``EDSSEMSpectrum`` or ``Signal1D`` whose energy axis has the unit eV or keV. A lazy one
            is read block by block.
        beam_energy_keV, takeoff_angle_deg, resolution_eV
            Facts that win over the signal's metadata.

        Raises
        ------
        InputError
            If the signal holds no counts over an energy axis.

        Notes
        -----
        exSpy fills facts that its file lacks with its own preferences (elevation 35°, azimuth 0°, tilt 0°); a detector
        direction that equals them is warned about. `bayesunmix.load` reads the file itself and knows what is missing.
        """
        from bayesunmix.data.io import dictionary_of_signal, exspy_defaults, image_of_dictionary

        image = image_of_dictionary(
            dictionary_of_signal(signal),
            beam_energy_keV=beam_energy_keV,
            takeoff_angle_deg=takeoff_angle_deg,
            resolution_eV=resolution_eV,
        )
        assumed = exspy_defaults(signal) if takeoff_angle_deg is None else ()
        return dataclasses.replace(image, warnings=()).with_warnings(image.warnings + assumed)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels."""
        rows, columns, channels = self.counts.shape
        return rows, columns, channels

    @property
    def n_pixels(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    @property
    def n_channels(self) -> int:
        """Number of energy channels."""
        return self.shape[2]

    @property
    def energy_step_keV(self) -> float:
        """Width of a channel."""
        return float(self.energy_keV[-1] - self.energy_keV[0]) / (self.n_channels - 1)

    @cached_property
    def channel_edges_keV(self) -> npt.NDArray[np.float64]:
        """Channel edges (energy + 1,)."""
        channels = np.arange(self.n_channels + 1, dtype=np.float64)
        return np.asarray(self.energy_keV[0] + self.energy_step_keV * (channels - 0.5))

    @cached_property
    def total_counts(self) -> npt.NDArray[np.int64]:
        """Counts of each pixel (y, x), summed over energy."""
        return np.asarray(self.counts.sum(axis=2, dtype=np.int64))

    def sum_spectrum(self) -> npt.NDArray[np.int64]:
        """Return the counts of each channel (energy,), summed over pixels."""
        return np.asarray(self.pixel_matrix().sum(axis=0, dtype=np.int64))

    def pixel_matrix(self) -> npt.NDArray[np.unsignedinteger[Any]]:
        """Return the counts as a matrix (pixel, energy), row by row of the map, without a copy."""
        return self.counts.reshape(self.n_pixels, self.n_channels)

    def rows(self) -> Iterator[npt.NDArray[np.unsignedinteger[Any]]]:
        """Yield the counts (x, energy) of one map row after the other, without a copy."""
        yield from self.counts

    def crop_energy(self, low_keV: float, high_keV: float) -> SpectrumImage:
        """Return the map with the channels whose centres lie from `low_keV` to `high_keV`.

        Raises
        ------
        InputError
            If the range is reversed, lies outside the axis (by more than a channel) or holds fewer than two channels.
        """
        low, high = check_number("energy_range", low_keV), check_number("energy_range", high_keV)
        if low >= high:
            raise InputError("energy_range", "go from low to high energy", f"is [{low:g}, {high:g}]")
        edges, step = self.channel_edges_keV, self.energy_step_keV
        axis = f"Choose within [{edges[0]:.4g}, {edges[-1]:.4g}] keV."
        if low < edges[0] - step or high > edges[-1] + step:
            raise InputError(
                "energy_range", "lie on the map's energy axis", f"is [{low:g}, {high:g}] keV", axis
            )
        # Bounds that fall on a channel centre take it in, whatever the last binary digit says.
        slack = 1e-6 * step
        first = int(np.searchsorted(self.energy_keV, low - slack))
        last = int(np.searchsorted(self.energy_keV, high + slack))
        if last - first < 2:
            raise InputError(
                "energy_range", "hold at least two channels", f"is [{low:g}, {high:g}] keV", axis
            )
        counts = np.ascontiguousarray(self.counts[:, :, first:last])
        return dataclasses.replace(self, counts=counts, energy_keV=self.energy_keV[first:last])

    def replace_facts(self, **facts: float | str | tuple[str, ...] | None) -> SpectrumImage:
        """Return the map with other acquisition facts (`Acquisition.replace`); the counts are shared."""
        return dataclasses.replace(self, acquisition=self.acquisition.replace(**facts))

    def with_warnings(self, messages: tuple[str, ...]) -> SpectrumImage:
        """Return the map with `messages` recorded, and warn of each of them."""
        for message in messages:
            python_warnings.warn(message, BayesUnmixWarning, stacklevel=3)
        return dataclasses.replace(self, warnings=self.warnings + messages) if messages else self

    def count_hash(self) -> str:
        """Return the SHA-256 (hexadecimal) of shape, counts and energy axis, whatever integer type holds the counts."""
        digest = hashlib.sha256()
        axis = f"{self.energy_keV[0]:.9f} {self.energy_step_keV:.9f}"
        digest.update(f"bayesunmix counts {self.shape} keV {axis}\n".encode())
        little_endian = _smallest_dtype(int(self.counts.max())).newbyteorder("<")
        for row in self.rows():
            digest.update(np.ascontiguousarray(row, dtype=little_endian).data)
        return digest.hexdigest()

    def to_signal(self) -> HyperSpySignal:
        """Return the map as a HyperSpy ``EDSTEMSpectrum`` (``EDSSEMSpectrum`` for an SEM) that shares the counts."""
        from bayesunmix.data.io import signal_of_image

        return signal_of_image(self)

    def __repr__(self) -> str:
        rows, columns, channels = self.shape
        totals = self.total_counts
        filled = np.count_nonzero(self.counts) / self.counts.size
        unit = self.pixel_unit or "(no unit)"
        facts = self.acquisition
        known = [
            f"beam {facts.beam_energy_keV:g} keV"
            if facts.beam_energy_keV is not None
            else "beam energy unknown",
            f"take-off {facts.takeoff_angle_deg:.4g}°"
            if facts.takeoff_angle_deg is not None
            else "take-off angle unknown",
        ]
        if facts.resolution_eV is not None:
            known.append(f"resolution {facts.resolution_eV:g} eV")
        if facts.elements:
            known.append("elements " + " ".join(facts.elements))
        return "\n".join(
            (
                f"SpectrumImage {self.name!r}",
                f"  grid    {rows} x {columns} pixels of {self.pixel_size[0]:.4g} x {self.pixel_size[1]:.4g} {unit}",
                f"  energy  {channels} channels of {1e3 * self.energy_step_keV:.4g} eV,"
                f" {self.energy_keV[0]:.4g} to {self.energy_keV[-1]:.4g} keV",
                f"  counts  {totals.sum():,} in all, {totals.mean():.4g} in a pixel, {filled:.2%} of the entries"
                f" non-zero, {self.counts.dtype} in {self.counts.nbytes / 1e6:.1f} MB",
                f"  facts   {', '.join(known)}",
                *(f"  images  {', '.join(self.images)}" for _ in range(bool(self.images))),
                *(f"  warning {message}" for message in self.warnings),
            )
        )


def missing_facts(acquisition: Acquisition) -> tuple[str, ...]:
    """Return, as at most one message, which facts that a composition rests on are not known."""
    needed = ("beam_energy_keV", "takeoff_angle_deg")
    lacking = [name for name in needed if name in acquisition.missing]
    if not lacking:
        return ()
    return (
        f"The map does not say its {' and '.join(lacking)}: give {'them' if len(lacking) > 1 else 'it'}"
        " (under [instrument] in a configuration), since compositions rest on them.",
    )


def compact_counts(counts: npt.ArrayLike) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return counts as a C-contiguous array of the smallest unsigned integer type that holds them.

    Float arrays of whole numbers are accepted. NumPy and dask arrays are read block by block, so that memory stays near
    the size of the result; an array that is compact already is returned as it is.

    Raises
    ------
    InputError
        If a count is negative, not whole, not finite or above 2**32 - 1, or if there is no count at all.
    """
    source: npt.NDArray[Any] | DaskArray = (
        counts if hasattr(counts, "chunks") and hasattr(counts, "compute") else np.asarray(counts)
    )
    if source.dtype.kind not in "uif":
        raise InputError("counts", "be numbers of photons", f"have the type {source.dtype}", _RAW_COUNTS)
    if source.size == 0 or source.ndim == 0:
        raise InputError("counts", "hold at least one pixel and one channel", f"have shape {_shape(source)}")
    if isinstance(source, np.ndarray) and source.dtype.type in _DTYPES:
        largest = int(source.max())
        compact = np.ascontiguousarray(source, dtype=_smallest_dtype(largest))
    else:
        check_counts(source.shape)
        compact = np.zeros(source.shape, dtype=np.uint8)
        largest = 0
        for place in _blocks(source):
            block = _dense(source[place])
            highest = _check_block(block, place)
            largest = max(largest, highest)
            if highest > np.iinfo(compact.dtype).max:
                compact = compact.astype(_smallest_dtype(highest))
            compact[place] = block
    if largest == 0:
        raise InputError(
            "counts", "hold at least one photon", "are all zero", "Check that this is the measured map."
        )
    return compact


def uniform_axis(energy_keV: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return channel centres as a read-only, exactly uniform float64 axis.

    Raises
    ------
    InputError
        If the axis is missing, not finite, reversed, not uniform, or in eV.
    """
    name = "energy_keV"
    try:
        energy = np.asarray(energy_keV, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(name, "be the channel centres in keV", "is not an array of numbers") from None
    if energy.ndim != 1 or energy.size < 2:
        raise InputError(
            name, "be the channel centres in keV, one per channel", f"has shape {_shape(energy)}"
        )
    if not np.all(np.isfinite(energy)):
        raise InputError(name, "be finite", "holds NaN or infinity")
    if energy[-1] <= energy[0]:
        remedy = "Reverse the axis and the last dimension of the counts together."
        raise InputError(name, "ascend", f"goes from {energy[0]:g} to {energy[-1]:g}", remedy)
    line = np.linspace(energy[0], energy[-1], energy.size)
    if np.max(np.abs(energy - line)) > _UNIFORMITY * (line[1] - line[0]):
        remedy = "Give the calibrated axis of equal channels as it was measured."
        raise InputError(name, "have channels of equal width", "is not uniform", remedy)
    if energy[-1] > _MAX_ENERGY_KEV:
        raise InputError(name, "be in keV", f"ends at {energy[-1]:g}", "Divide an axis in eV by 1000.")
    line.flags.writeable = False
    return line


def _with_given(
    acquisition: Acquisition,
    beam_energy_keV: float | None,
    takeoff_angle_deg: float | None,
    resolution_eV: float | None,
) -> Acquisition:
    given = {
        "beam_energy_keV": beam_energy_keV,
        "takeoff_angle_deg": takeoff_angle_deg,
        "resolution_eV": resolution_eV,
    }
    return acquisition.replace(**{name: value for name, value in given.items() if value is not None})


def _blocks(source: npt.NDArray[Any] | DaskArray) -> Iterator[tuple[slice, ...]]:
    """Yield the slices of one block after the other: a dask array's chunks, a NumPy array's runs of leading rows."""
    if isinstance(source, np.ndarray):
        rows = max(1, _BLOCK_ENTRIES * source.shape[0] // source.size)
        for start in range(0, source.shape[0], rows):
            yield (slice(start, start + rows),)
        return
    edges = [np.concatenate(([0], np.cumsum(sizes))).tolist() for sizes in source.chunks]
    yield from itertools.product(*([slice(*pair) for pair in itertools.pairwise(edge)] for edge in edges))


def _dense(block: npt.NDArray[Any] | DaskArray) -> npt.NDArray[Any]:
    """Return a block in memory; a dask block may hold a sparse array."""
    if isinstance(block, np.ndarray):
        return block
    # One thread: blocks come one by one, and file readers of HDF5 take turns anyway.
    computed = block.compute(scheduler="synchronous")
    return np.asarray(computed.todense() if hasattr(computed, "todense") else computed)


def _check_block(block: npt.NDArray[Any], place: tuple[slice, ...]) -> int:
    """Return the largest count of a block, or raise `InputError` about the first that is not one."""
    if block.dtype.kind == "f":
        _refuse(
            ~np.isfinite(block),
            block,
            place,
            "be finite",
            "Find out why the file holds it; do not fill it in.",
        )
        _refuse(block != np.rint(block), block, place, "be whole numbers", _RAW_COUNTS)
    if block.dtype.kind != "u" and block.min() < 0:
        _refuse(block < 0, block, place, "not be negative", _RAW_COUNTS)
    highest = int(block.max())
    if highest > np.iinfo(_DTYPES[-1]).max:
        raise InputError("counts", "lie below 2**32", f"reach {highest:g}", _RAW_COUNTS)
    return highest


def _refuse(
    bad: npt.NDArray[np.bool_], block: npt.NDArray[Any], place: tuple[slice, ...], must: str, remedy: str
) -> None:
    """Raise `InputError` naming the first entry of a block that is `bad`, if one is."""
    if not bad.any():
        return
    local = np.unravel_index(int(np.argmax(bad)), bad.shape)
    starts = [part.start or 0 for part in place] + [0] * (block.ndim - len(place))
    where = tuple(int(index) + start for index, start in zip(local, starts, strict=True))
    raise InputError("counts", must, f"one is {block[local]:g} at index {where}", remedy)


def _smallest_dtype(largest: int) -> np.dtype[np.unsignedinteger[Any]]:
    return np.dtype(next(dtype for dtype in _DTYPES if largest <= np.iinfo(dtype).max))


def _shape(array: npt.NDArray[Any] | DaskArray) -> str:
    return " x ".join(str(size) for size in array.shape) or "() (a single number)"
