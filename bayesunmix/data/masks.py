"""Masks of pixels from files: arrays, pictures, and what an earlier run flagged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, check_path
from bayesunmix.core.output_folder import check_unchanged
from bayesunmix.data.counts import shape_text

Mask = npt.NDArray[np.bool_]


def bounding_box(mask: Mask) -> tuple[slice, slice]:
    """Return the rows and columns from the first to the last that hold a true pixel."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def span_mask(span: tuple[int, int | None], size: int, field: str, name: str) -> Mask:
    """Return which of `size` rows or columns, called `name`, lie in a range of them, (size,).

    Parameters
    ----------
    span
        First and one after the last; negative ones from the end, None for the end itself.
    size, field, name
        How many there are, and what the user knows the range and them as.

    Raises
    ------
    InputError
        If the range reaches beyond them.
    """
    first, last = (None if end is None else end + size * (end < 0) for end in span)
    last = size if last is None else last
    if first is None or not 0 <= first < last <= size:
        ends = f"{span[0]}:{'' if span[1] is None else span[1]}"
        raise InputError(
            field, f"lie within the map's {size} {name}", f"is {ends}", f"Give two of 0 to {size}."
        )
    places = np.arange(size)
    return np.asarray((places >= first) & (places < last))


def read_mask(path: str | Path, shape: tuple[int, int], field: str = "mask") -> Mask:
    """Read a mask of a map's grid: what is not zero is left out.

    Parameters
    ----------
    path
        ``.npy``, ``.npz`` with one array, a picture (``.png``, ``.tif`` ...), or whatever HyperSpy reads.
    shape
        Rows and columns of the map.
    field
        Name of the field as the user knows it.

    Raises
    ------
    InputError
        If the file cannot be read, or does not hold one number for each pixel of the map.
    """
    file = check_path(field, path)
    if not file.is_file() and not (file.suffix == ".zspy" and file.is_dir()):
        raise InputError(field, "be a file", f'"{file}" is none')
    try:
        values = _values(file)
    except InputError as error:
        raise error.about(field) from None
    except Exception as error:
        # Readers raise whatever they like about a damaged file.
        reason = str(error) or type(error).__name__
        raise InputError(field, "be a readable file of true and false", f'"{file}": {reason}') from None
    return _mask_of(values, shape, field, file)


def flagged_pixels(folder: str | Path, shape: tuple[int, int] | None = None, field: str = "DIR") -> Mask:
    """Read the places (y, x) that a finished run flagged from its output folder.

    Raises
    ------
    InputError
        If the folder is none of a finished run, or the run was one of a map of another shape.
    """
    import xarray as xr

    path = check_path(field, folder)
    for name in ("posterior.nc", "run.json"):
        if not (path / name).is_file():
            raise InputError(field, "be the output folder of a finished run", f'"{path}" holds no {name}')
    try:
        run = json.loads((path / "run.json").read_text(encoding="utf-8"))
        check_unchanged(field, path, run)
        with xr.open_dataset(path / "posterior.nc", group="maps", engine="h5netcdf") as maps:
            flagged = flagged_of(maps.load(), run.get("misfit_search", {}).get("threshold"))
    except InputError:
        raise
    except Exception as error:  # a damaged file can make its readers stumble anywhere
        got = f'"{path}" cannot be read: {error}'
        raise InputError(field, "be the output folder of a finished run", got) from None
    if shape is not None and flagged.shape != shape:
        must = f"be of a map of {shape[0]} x {shape[1]} pixels"
        raise InputError(field, must, f'that in "{path}" has {shape_text(flagged)}')
    return flagged


def flagged_of(maps: Any, threshold: float | None) -> Mask:  # noqa: ANN401 - xarray loads slowly
    """Return the flagged places of a result, from its group ``maps``.

    A result of an earlier version holds the residuals alone: there it is what lies above the threshold of its record.
    """
    if "flagged" in maps:
        return np.asarray(maps["flagged"].values, bool)
    if "misfit" not in maps or threshold is None:
        return np.zeros(maps["label"].shape, bool)
    return np.asarray(maps["misfit"].values > threshold)


def _values(file: Path) -> npt.NDArray[Any]:
    """Return what a file holds as an array."""
    suffix = file.suffix.lower()
    if suffix == ".npy":
        return np.asarray(np.load(file, allow_pickle=False))
    if suffix == ".npz":
        with np.load(file, allow_pickle=False) as arrays:
            names = list(arrays)
            if len(names) != 1:
                raise ValueError(f"holds {len(names)} arrays, where one is needed")
            return np.asarray(arrays[names[0]])
    from bayesunmix.data.reader import array_apart

    return array_apart(file)


def _mask_of(values: npt.NDArray[Any], shape: tuple[int, int], field: str, file: Path) -> Mask:
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise InputError(
            field, "hold true and false", f'"{file}" holds {np.isnan(values).sum()} that are no number'
        )
    if values.dtype.kind not in "buif":
        raise InputError(field, "hold true and false", f'"{file}" holds the type {values.dtype}')
    grid = values
    if values.shape != shape and values.size == shape[0] * shape[1]:
        squeezed = values.squeeze()
        grid = values.reshape(shape) if squeezed.shape == tuple(n for n in shape if n > 1) else values
    if grid.shape != shape:
        remedy = "Transpose it: rows come first." if grid.shape == shape[::-1] else ""
        must = f"have the shape {shape[0]} x {shape[1]} of the map"
        raise InputError(field, must, f'"{file}" is {shape_text(grid)}', remedy)
    return np.asarray(grid != 0)
