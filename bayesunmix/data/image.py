"""The measured map: integer counts kept as they are, their energy axis, grid and acquisition facts."""

from __future__ import annotations

import dataclasses
import hashlib
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.attached import Attached
from bayesunmix.core.disk_array import DiskArray, Rows
from bayesunmix.core.errors import (
    InputError,
    check_mapping,
    check_number,
    check_positive,
    check_text,
    shown,
    warn,
)
from bayesunmix.core.memory import check_mask
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.counts import (
    Compact,
    ReadCounts,
    as_array,
    as_numbers,
    as_source,
    read_counts,
    shape_text,
    smallest_dtype,
)
from bayesunmix.data.stored_counts import StoredCounts, bands

# HyperSpy ships no types.
HyperSpySignal = Any
Mask = npt.NDArray[np.bool_]

# An axis counts as uniform when no channel is off its straight line by more than this share of a channel.
_UNIFORMITY = 0.01
# An EDS axis that ends above this many keV is surely in eV.
_MAX_ENERGY_KEV = 1000.0
WHOLE_MAP = "whole map"
"""Where a number of all pixels stands beside those of the phases."""
AXIS_LIMITS_KEV = {"energy_offset_keV": (-100.0, 100.0), "energy_scale_keV": (1e-4, 1.0)}
"""Limits of the first channel's centre and of a channel's width: they catch an axis in eV or MeV called keV."""


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SpectrumImage(Summarised):
    """Photon counts over a grid of pixels, with the energy axis and the facts of the measurement.

    Build one with `from_array`, `from_signal` or `bayesunmix.load`; a line scan and a single spectrum are maps with one
    row, or one pixel.

    Parameters
    ----------
    counts
        Photon counts (y, x, energy), kept read-only in the smallest of uint8, uint16 and uint32 that holds them. Those
        of a map that does not fit into memory with ease are a `StoredCounts` on disk, of which slices read some rows.
    energy_keV
        Channel centres (energy,), ascending and uniform.
    acquisition
        Facts of microscope and detector.
    pixel_size
        Size (dy, dx) of a pixel in `pixel_unit`.
    pixel_unit
        Unit of length of the grid, empty when it has none.
    origin
        Position (y, x) of the first pixel's centre in `pixel_unit`.
    mask
        Pixels (y, x) that are left out are True; None where none is. Their counts are zero in `counts`. Masked and NaN
        pixels of `counts` join it.
    images
        Other pictures of the file (HAADF, SE ...) by name, for display only.
    name
        Title of the map.
    warnings
        What was odd about the map, as told to the user on the way in.
    file, signal
        File that holds just this map, and which of its signals it is; empty and None where there is none.

    Raises
    ------
    InputError
        If counts, axis or grid cannot be used.
    """

    counts: Compact | StoredCounts
    energy_keV: npt.NDArray[np.float64]
    acquisition: Acquisition = field(default_factory=Acquisition)
    pixel_size: tuple[float, float] = (1.0, 1.0)
    pixel_unit: str = ""
    origin: tuple[float, float] = (0.0, 0.0)
    mask: Mask | None = None
    images: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    name: str = ""
    warnings: tuple[str, ...] = ()
    file: str = ""
    signal: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.acquisition, Acquisition):
            raise InputError("acquisition", "be an Acquisition", f"is {shown(self.acquisition)}")
        found = _found(self.counts)
        counts = found.counts
        if counts.ndim != 3:
            raise InputError(
                "counts", "have the dimensions y, x and energy", f"have shape {shape_text(counts)}"
            )
        energy = uniform_axis(self.energy_keV)
        channels = self.counts.shape[-1] if isinstance(self.counts, StoredCounts) else counts.shape[-1]
        if energy.size != channels:
            raise InputError(
                "energy_keV",
                f"hold one channel centre for each of the {channels} channels",
                f"holds {energy.size}",
                "The last dimension of the counts is energy.",
            )
        mask = _joined(_checked_mask(self.mask, counts.shape[:2]), found.missing)
        object.__setattr__(self, "counts", _kept(self.counts, counts, mask))
        object.__setattr__(self, "energy_keV", energy)
        object.__setattr__(self, "mask", mask)
        sizes = tuple(check_positive("pixel_size", size) for size in _pair("pixel_size", self.pixel_size))
        object.__setattr__(self, "pixel_size", sizes)
        place = tuple(check_number("origin", position) for position in _pair("origin", self.origin))
        object.__setattr__(self, "origin", place)
        check_text("pixel_unit", self.pixel_unit)
        check_text("name", self.name)
        for name in check_mapping("images", self.images, '{"HAADF": picture}'):
            check_text("images", name)
        object.__setattr__(self, "warnings", _sentences(self.warnings))
        if found.n_nan:
            note = f"{found.n_nan} of {self.n_pixels} pixels hold NaN: they are left out."
            warn(note)
            object.__setattr__(self, "warnings", (*self.warnings, note))

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
            or dask (read piece by piece). Pixels that are masked or NaN are left out.
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
            If counts are negative, not whole, infinite, all zero or of more than three dimensions, or the axis is
            missing, reversed, not uniform or of another length.
        """
        source = as_source(counts)
        if source.ndim > 3:
            raise InputError(
                "counts",
                "have one to three dimensions, the last of them energy",
                f"have shape {shape_text(source)}",
                "Sum over frames and detectors first.",
            )
        grid = source.reshape((1,) * (3 - source.ndim) + source.shape) if source.ndim else source
        known = Acquisition() if acquisition is None else acquisition
        if not isinstance(known, Acquisition):
            raise InputError("acquisition", "be an Acquisition", f"is {shown(known)}")
        facts = _with_given(known, beam_energy_keV, takeoff_angle_deg, resolution_eV)
        size = pixel_size.tolist() if isinstance(pixel_size, np.ndarray) else pixel_size
        image = cls(
            counts=grid,
            energy_keV=energy_keV,  # type: ignore[arg-type]
            acquisition=facts,
            pixel_size=(size, size) if isinstance(size, numbers.Real) else size,  # type: ignore[arg-type]
            pixel_unit=pixel_unit,
            name=name,
        )
        return image.with_warnings(missing_facts(facts))

    from_signal = Attached(static=True)
    """A map of a HyperSpy signal: `bayesunmix.data.signals.map_of_signal`."""

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
    def kept(self) -> Mask:
        """Pixels (y, x) that are not left out, whether they hold counts or not."""
        return np.ones(self.shape[:2], bool) if self.mask is None else ~self.mask

    @property
    def used(self) -> Mask:
        """Pixels (y, x) that take part: not left out, and with at least one count."""
        return np.asarray(self.total_counts > 0)

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
        if isinstance(self.counts, StoredCounts):
            return self.counts.survey.totals
        return np.asarray(self.counts.sum(axis=2, dtype=np.int64))

    @cached_property
    def _spectrum(self) -> npt.NDArray[np.int64]:
        if isinstance(self.counts, StoredCounts):
            return self.counts.survey.spectrum
        return np.asarray(self.counts.sum(axis=(0, 1), dtype=np.int64))

    def sum_spectrum(self) -> npt.NDArray[np.int64]:
        """Return the counts of each channel (energy,), summed over pixels."""
        return self._spectrum.copy()

    @property
    def largest(self) -> int:
        """Most counts in a channel of a pixel."""
        return self.counts.survey.largest if isinstance(self.counts, StoredCounts) else int(self.counts.max())

    @property
    def filled(self) -> float:
        """Share of the entries (y, x, energy) that hold counts."""
        if isinstance(self.counts, StoredCounts):
            return self.counts.survey.filled / self.counts.size
        return np.count_nonzero(self.counts) / self.counts.size

    def pixel_matrix(self) -> Rows:
        """Return the counts as a matrix (pixel, energy), row by row of the map, without a copy.

        That of a map on disk is read by slices.
        """
        if isinstance(self.counts, StoredCounts):
            return self.counts.matrix()
        return self.counts.reshape(self.n_pixels, self.n_channels)

    def bands(
        self, rows: tuple[int, int] | None = None, *, whole: int = 1
    ) -> Iterator[tuple[slice, Compact]]:
        """Yield the map in bands of rows that fit into memory: which rows, and their counts (y, x, energy).

        Parameters
        ----------
        rows
            From which row to before which; all of them when left out.
        whole
            Rows that are not torn apart: bands begin at multiples of it.
        """
        for part in bands(self.counts, rows=rows, whole=whole):
            yield part, self.counts[part]

    def rows(self) -> Iterator[Compact]:
        """Yield the counts (x, energy) of one map row after the other."""
        for _, band in self.bands():
            yield from band

    # Without this, Python would run over the rows by index: nobody means that.
    __iter__ = None

    __getitem__ = Attached()
    """The map cut to some rows and columns, ``image[10:60, 20:80]``: `bayesunmix.data.pixels.crop`."""

    def masked(self, mask: npt.ArrayLike) -> SpectrumImage:
        """Return the map with more pixels left out.

        Parameters
        ----------
        mask
            True (y, x) where a pixel is left out; pixels that are left out already stay so.

        Raises
        ------
        InputError
            If the mask is not true or false in each pixel of the map, or leaves no pixel with counts.
        """
        return dataclasses.replace(self, mask=_joined(self.mask, _checked_mask(mask, self.shape[:2])))

    rebin = Attached()
    """The map with the counts of blocks of pixels summed: `bayesunmix.data.pixels.rebin`."""

    sum = Attached()
    """One pixel with the counts of all pixels that are not left out: `bayesunmix.data.pixels.total`."""

    plot = Attached()
    """`bayesunmix.plot.image.image_figure`: the map of total counts, and the sum spectrum."""

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
        if isinstance(self.counts, StoredCounts):
            counts: Any = self.counts.cropped(first, last)
        else:
            counts = self.counts[:, :, first:last]
        return dataclasses.replace(self, counts=counts, energy_keV=self.energy_keV[first:last])

    def with_replaced(self, channels: Sequence[tuple[int, int]]) -> SpectrumImage:
        """Return the map in which some channels hold the counts of others: pairs of one and what it holds."""
        if not channels:
            return self
        if isinstance(self.counts, StoredCounts):
            return dataclasses.replace(self, counts=self.counts.with_replaced(channels))
        counts = self.counts.copy()
        for channel, other in channels:
            counts[:, :, channel] = self.counts[:, :, other]
        return dataclasses.replace(self, counts=counts)

    def replace_facts(self, **facts: float | str | tuple[str, ...] | None) -> SpectrumImage:
        """Return the map with other acquisition facts (`Acquisition.replace`); the counts are shared."""
        checked: dict[str, Any] = dict(facts)
        return dataclasses.replace(self, acquisition=self.acquisition.replace(**checked))

    def with_warnings(self, messages: tuple[str, ...]) -> SpectrumImage:
        """Return the map with `messages` recorded, and warn of each of them."""
        for message in messages:
            warn(message)
        return dataclasses.replace(self, warnings=self.warnings + messages) if messages else self

    def count_hash(self) -> str:
        """Return the SHA-256 (hexadecimal) of shape, counts, energy axis and mask, whatever type holds the counts."""
        return self._hash

    @cached_property
    def _hash(self) -> str:
        digest = hashlib.sha256()
        axis = f"{self.energy_keV[0]:.9f} {self.energy_step_keV:.9f}"
        digest.update(f"bayesunmix counts {self.shape} keV {axis}\n".encode())
        little_endian = smallest_dtype(self.largest).newbyteorder("<")
        for row in self.rows():
            digest.update(np.ascontiguousarray(row, dtype=little_endian).data)
        if self.mask is not None:
            digest.update(b"left out" + np.packbits(self.mask).tobytes())
        return digest.hexdigest()

    to_signal = Attached()
    """The map as a HyperSpy signal: `bayesunmix.data.io.signal_of_image`."""

    @property
    def _where(self) -> str:
        return " on disk" if isinstance(self.counts, StoredCounts) else ""

    def _summary(self) -> Summary:
        rows, columns, channels = self.shape
        totals = self.total_counts
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
        grid = f"{rows} x {columns} pixels of {self.pixel_size[0]:.4g} x {self.pixel_size[1]:.4g} {unit}"
        energy = (
            f"{channels} channels of {1e3 * self.energy_step_keV:.4g} eV,"
            f" {self.energy_keV[0]:.4g} to {self.energy_keV[-1]:.4g} keV"
        )
        counts = (
            f"{totals.sum():,} in all, {totals.mean():.4g} in a pixel, {self.filled:.2%} of the"
            f" entries non-zero, {self.counts.dtype} in {self.counts.nbytes / 1e6:.1f} MB{self._where}"
        )
        lines = [("grid", grid), ("energy", energy), ("counts", counts), ("facts", ", ".join(known))]
        lines += [("images", ", ".join(self.images))] if self.images else []
        said = tuple(f"warning {message}" for message in self.warnings)
        return Summary(f"SpectrumImage {self.name!r}", tuple(lines), said)


def missing_facts(acquisition: Acquisition) -> tuple[str, ...]:
    """Return, as at most one message, which facts that a composition rests on are not known."""
    needed = ("beam_energy_keV", "takeoff_angle_deg")
    lacking = [name for name in needed if name in acquisition.missing]
    if not lacking:
        return ()
    return (
        f"The map does not say its {' and '.join(lacking)}: give {'them' if len(lacking) > 1 else 'it'}"
        f" (under [instrument] in a configuration), since compositions rest on {'them' if len(lacking) > 1 else 'it'}.",
    )


def on_axis(image: SpectrumImage, first_keV: float, step_keV: float) -> SpectrumImage:
    """Return a map with the first channel centred at an energy and channels of a width, whatever its axis was."""
    energy = first_keV + step_keV * np.arange(image.n_channels, dtype=np.float64)
    return dataclasses.replace(image, energy_keV=energy)


def uniform_axis(energy_keV: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return channel centres as a read-only, exactly uniform float64 axis.

    Raises
    ------
    InputError
        If the axis is missing, not finite, reversed, not uniform, or in eV.
    """
    name = "energy_keV"
    energy = as_numbers(name, energy_keV, "be the channel centres in keV")
    if energy.ndim != 1 or energy.size < 2:
        raise InputError(
            name, "be the channel centres in keV, one per channel", f"has shape {shape_text(energy)}"
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
    lowest, (narrowest, widest) = AXIS_LIMITS_KEV["energy_offset_keV"][0], AXIS_LIMITS_KEV["energy_scale_keV"]
    if energy[0] < lowest:
        raise InputError(name, f"begin at {lowest:g} keV or above", f"begins at {energy[0]:g}")
    step = float(line[1] - line[0])
    if not narrowest <= step * (1.0 + 1e-9) <= widest * (1.0 + 1e-6):
        must = f"have channels of {narrowest:g} to {widest:g} keV"
        remedy = "Multiply an axis in MeV by 1000." if step < narrowest else "Divide an axis in eV by 1000."
        raise InputError(name, must, f"has channels of {step:g} keV", remedy)
    line.flags.writeable = False
    return line


def _pair(name: str, value: object) -> tuple[object, object]:
    """Return two numbers of an array, a list or a tuple, rows first; what they are is for others to check."""
    given = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(given, tuple | list) or len(given) != 2:
        one = "one number or " if name == "pixel_size" else ""
        raise InputError(name, f"be {one}two numbers (y, x)", f"is {shown(value)}")
    return given[0], given[1]


def _sentences(value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError("warnings", "be a tuple of sentences", f"is {shown(value)}")
    return tuple(check_text("warnings", sentence) for sentence in value)


def _checked_mask(mask: npt.ArrayLike | None, shape: tuple[int, ...]) -> Mask | None:
    """Return a mask of the grid, or None where it leaves nothing out."""
    if mask is None:
        return None
    given = as_array("mask", mask)
    if given.dtype.kind != "b":
        raise InputError("mask", "be true or false in each pixel", f"has the type {given.dtype}")
    if given.shape != shape:
        raise InputError(
            "mask", f"have the shape {shape[0]} x {shape[1]} of the map", f"is {shape_text(given)}"
        )
    return _frozen(given) if given.any() else None


def _joined(mask: Mask | None, missing: Mask | None) -> Mask | None:
    """Return the pixels that either leaves out."""
    if mask is None or missing is None:
        return mask if missing is None else _frozen(missing)
    return _frozen(mask | missing)


def _frozen(mask: Mask) -> Mask:
    own = mask.copy()
    own.flags.writeable = False
    return own


def _found(given: object) -> ReadCounts:
    """Return counts that are kept already, or read them."""
    if isinstance(given, StoredCounts):
        return ReadCounts(given.stored, None, 0)
    return given if isinstance(given, ReadCounts) else read_counts(given)


def _kept(given: object, counts: Compact | DiskArray, mask: Mask | None) -> Compact | StoredCounts:
    """Return counts as a map keeps them, read-only, with zeros at the pixels that are left out."""
    if isinstance(counts, DiskArray):
        stored = given if isinstance(given, StoredCounts) else StoredCounts.of(counts)
        kept = stored.without(mask)
        if kept is not stored and not kept.survey.totals.any():
            raise InputError("mask", "leave at least one pixel with counts", "leaves out all of them")
        return kept
    view = _without(counts, mask).view()
    view.flags.writeable = False
    return view


def _without(counts: Compact, mask: Mask | None) -> Compact:
    """Return the counts with zeros at the pixels that are left out."""
    # Row by row, since all the pixels that are left out may be most of a large map.
    if mask is None or not any(counts[row, mask[row]].any() for row in np.flatnonzero(mask.any(axis=1))):
        return counts
    check_mask(counts.nbytes)
    kept = np.where(mask[..., None], counts.dtype.type(0), counts)
    if not kept.any():
        raise InputError("mask", "leave at least one pixel with counts", "leaves out all of them")
    return kept.astype(smallest_dtype(int(kept.max())), copy=False)


def _with_given(
    acquisition: Acquisition,
    beam_energy_keV: float | None,
    takeoff_angle_deg: float | None,
    resolution_eV: float | None,
) -> Acquisition:
    given: dict[str, Any] = {
        "beam_energy_keV": beam_energy_keV,
        "takeoff_angle_deg": takeoff_angle_deg,
        "resolution_eV": resolution_eV,
    }
    return acquisition.replace(**{name: value for name, value in given.items() if value is not None})
