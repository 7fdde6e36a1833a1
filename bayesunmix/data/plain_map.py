"""A map as counts alone: no energies, no lines, whatever spectroscopy it comes from.

Channels are merged in equal numbers, which is exact for counts (`bayesunmix.data.binning`), until there are few enough
of them for endmembers that are free in every bin. Where a spectrum is wanted on the map's own channels, each bin is
spread over its channels like the counts of the whole map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.core.errors import InputError, check_integer, shown
from bayesunmix.core.memory import check_counts
from bayesunmix.data.counts import Growing, as_numbers, compact_counts, read_counts
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.stored_counts import bands

FloatArray = npt.NDArray[np.float64]

BINS = 240


class ShareMaps:
    """What every way to share out a plain map's counts has in common; its kinds hold ``maps``."""

    maps: xr.Dataset

    @property
    def labels(self) -> xr.DataArray:
        """Number of the phase of each pixel (y, x); where it is a mixture, of the largest share; -1 where none is."""
        return self.maps["label"]

    @property
    def abundances(self) -> xr.DataArray:
        """Share of each phase in a pixel's counts (phase, y, x); NaN where a pixel takes no part."""
        return self.maps["abundance"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PlainMap:
    """Counts of a map in merged channels, of the pixels that take part.

    Parameters
    ----------
    counts
        Counts (pixel, bin) of the used pixels, along the rows.
    used
        Where on the map (y, x) they lie: the others are left out, or hold no counts.
    boundaries
        First channel of each bin and the number of channels (bin + 1,).
    within
        Share of its bin's counts that each channel has in the whole map (energy,).
    energy
        Energy of each channel, in whatever unit; channel numbers where none was given (energy,).
    """

    counts: npt.NDArray[np.unsignedinteger[Any]]
    used: npt.NDArray[np.bool_]
    boundaries: npt.NDArray[np.int64]
    within: FloatArray
    energy: FloatArray

    @classmethod
    def of(cls, image: SpectrumImage | npt.ArrayLike, *, bins: int, energy: npt.ArrayLike | None) -> PlainMap:
        """Merge the channels of a map.

        Parameters
        ----------
        image
            Map, or counts (y, x, energy), (x, energy) for a line scan.
        bins
            Most bins.
        energy
            Energy of each channel of an array, for display.

        Raises
        ------
        InputError
            If the counts are none, or the numbers do not fit them.
        """
        bins = check_integer("bins", bins, low=2)
        if isinstance(image, SpectrumImage):
            cube, axis = image.counts, image.energy_keV
        else:
            cube = read_counts(image, on_disk=False).in_memory()
            if cube.ndim not in (2, 3):
                raise InputError(
                    "image",
                    "be a map or counts (y, x, energy)",
                    f"has {cube.ndim} dimension{'s'[: cube.ndim != 1]}",
                )
            cube = cube.reshape((1,) * (3 - cube.ndim) + cube.shape)
            axis = np.arange(cube.shape[2], dtype=float)
        rows, columns, channels = cube.shape
        if energy is not None:
            axis = as_numbers("energy", energy)
            if axis.shape != (channels,):
                raise InputError(
                    "energy",
                    f"hold one value for each of the {channels} channels",
                    f"has shape {axis.shape}",
                )
        merged = -(-channels // bins)
        boundaries = np.append(np.arange(0, channels, merged), channels)
        width = np.diff(boundaries)
        check_counts((rows * columns, len(width)))
        summed, total = Growing((rows * columns, len(width)), on_disk=False), np.zeros(channels)
        for part in bands(cube):
            matrix = cube[part].reshape(-1, channels)
            first = part.start * columns
            binned = np.add.reduceat(matrix, boundaries[:-1], axis=1, dtype=np.uint32)
            summed.put((slice(first, first + len(matrix)),), binned)
            total += matrix.sum(axis=0, dtype=np.int64)
        in_bin = np.add.reduceat(total, boundaries[:-1])
        even = np.repeat(1.0 / width, width)
        spread = np.repeat(np.maximum(in_bin, 1e-300), width)
        within = np.where(np.repeat(in_bin, width) > 0, total / spread, even)
        used = np.asarray(summed.counts.any(axis=1))
        return cls(
            counts=compact_counts(summed.counts if used.all() else summed.counts[used]),
            used=used.reshape(rows, columns),
            boundaries=boundaries,
            within=within,
            energy=axis,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Pixels along y and x."""
        rows, columns = self.used.shape
        return rows, columns

    def blocks(self, side: int) -> npt.NDArray[np.int64]:
        """Sum the counts over square blocks of pixels, (block, bin)."""
        grid = np.zeros((*self.shape, self.counts.shape[1]), self.counts.dtype)
        grid[self.used] = self.counts
        down = np.add.reduceat(grid, np.arange(0, self.shape[0], side), axis=0, dtype=np.int64)
        across = np.add.reduceat(down, np.arange(0, self.shape[1], side), axis=1)
        return np.asarray(across.reshape(-1, grid.shape[2]))

    def on_channels(self, binned: FloatArray) -> FloatArray:
        """Spread spectra (..., bin) over the channels (..., energy)."""
        return np.asarray(np.repeat(binned, np.diff(self.boundaries), axis=-1) * self.within)

    def in_bins(self, spectra: FloatArray) -> FloatArray:
        """Merge spectra (..., energy) into the bins (..., bin)."""
        return np.asarray(np.add.reduceat(spectra, self.boundaries[:-1], axis=-1))

    def on_grid(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Arrange values (pixel,) as (y, x), or (pixel, phase) as (phase, y, x); elsewhere NaN, or -1 for labels."""
        nothing = -1 if values.dtype.kind == "i" else np.nan
        grid = np.full((*self.shape, *values.shape[1:]), nothing, values.dtype)
        grid[self.used] = values
        return np.ascontiguousarray(np.moveaxis(grid, -1, 0)) if values.ndim == 2 else grid


def phase_names(phases: int | Sequence[str] | None, given: int | None = None) -> tuple[str, ...]:
    """Names of the phases: those given, or "phase 1", "phase 2" ... as in a configuration.

    Parameters
    ----------
    phases
        Names, or how many there are; None where `given` says it.
    given
        Number of endmembers that are known.

    Raises
    ------
    InputError
        If names repeat, or number and endmembers do not agree.
    """
    if phases is None:
        if given is None:
            raise InputError("phases", "be a number or names", "is missing")
        phases = given
    if isinstance(phases, Sequence) and not isinstance(phases, str):
        names = tuple(str(name) for name in phases)
    else:
        names = tuple(f"phase {k + 1}" for k in range(check_integer("phases", phases, low=1, high=8)))
    if not names or len(set(names)) < len(names):
        raise InputError("phases", "be a number or different names", f"is {shown(phases)}")
    if given is not None and len(names) != given:
        raise InputError("phases", f"be as many as the {given} endmembers", f"are {len(names)}")
    return names
