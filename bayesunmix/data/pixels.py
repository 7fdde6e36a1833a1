"""Choosing pixels of a map: crop, rebin and sum, with position, mask, pictures and dose kept right.

Live and real time always are those of the whole map: they go with the number of pixels, so that counts per pixel and
second stay what they were.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, check_integer, shown
from bayesunmix.core.memory import held_in_memory
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.counts import Growing, ReadCounts
from bayesunmix.data.image import SpectrumImage

Span = tuple[int, int]
Picture = npt.NDArray[Any]

_INDEX = "index"
_ENERGIES = "choose energies with crop_energy"
_HOW = "Write image[10:60, 20:80]: rows first, then columns."


def crop(image: SpectrumImage, index: object) -> SpectrumImage:
    """Cut a map to some rows and columns, as ``image[index]`` does.

    Parameters
    ----------
    image
        The map.
    index
        A slice or a whole number for the rows, or a pair of them for rows and columns, counted from 0; negative ones
        count from the end. A whole number keeps one row or column.

    Raises
    ------
    InputError
        If a slice has a step or holds no pixel, no pixel with counts, or is not made of whole numbers.
    IndexError
        If a whole number lies outside the map, or there are more than two indices.
    """
    given = index if isinstance(index, tuple) else (index,)
    if len(given) > 2:
        raise IndexError(f"a map has rows and columns, but {len(given)} indices were given; {_ENERGIES}")
    rows, columns = (
        _span(part, size, name)
        for part, size, name in zip(
            (*given, *[slice(None)] * (2 - len(given))), image.shape[:2], ("row", "column"), strict=True
        )
    )
    place = slice(*rows), slice(*columns)
    if not image.used[place].any():
        raise InputError(
            _INDEX, "hold a pixel with counts", f"rows {_text(rows)}, columns {_text(columns)} have none"
        )
    mask = None if image.mask is None else image.mask[place]
    kept = (rows[1] - rows[0]) * (columns[1] - columns[0]) / image.n_pixels
    return dataclasses.replace(
        image,
        counts=_collected(
            (rows[1] - rows[0], columns[1] - columns[0], image.n_channels),
            ((part.start - rows[0], band[:, place[1]]) for part, band in image.bands(rows)),
        ),
        mask=mask,
        origin=_moved(image, (rows[0], columns[0])),
        images=_pictures(image, lambda picture: picture[place]),
        acquisition=_scaled(image.acquisition, kept),
        file="",
    )


def rebin(image: SpectrumImage, factor: int | tuple[int, int]) -> SpectrumImage:
    """Return the map with the counts of blocks of pixels summed.

    A block of which a pixel is left out is left out: its dose would not be that of the others. Rows and columns at
    the lower and right edge that fill no block are cut off, with a warning that is recorded. Pictures on the map's
    grid are averaged.

    Parameters
    ----------
    factor
        Pixels that make one along y and x, or a pair (y, x). A line scan is merged along its line.

    Raises
    ------
    InputError
        If `factor` is not a whole number from 1 to the size of the map, or leaves no pixel with counts.
    """
    down, across = _factors(factor, image.shape[:2])
    rows, columns = image.shape[0] // down, image.shape[1] // across
    whole = slice(rows * down), slice(columns * across)

    def blocks(values: Picture) -> Picture:
        inside = values[whole]
        return inside.reshape(rows, down, columns, across, *inside.shape[2:])

    mask = None if image.mask is None else np.asarray(blocks(image.mask).any(axis=(1, 3)))
    totals = blocks(image.total_counts).sum(axis=(1, 3))
    kept = rows * down * columns * across / image.n_pixels
    if not totals.any() or (mask is not None and not totals[~mask].any()):
        raise InputError(
            "factor", "leave a pixel with counts", f"{down} x {across} pixels have one left out in each block"
        )
    merged = dataclasses.replace(
        image,
        counts=_collected((rows, columns, image.n_channels), _merged(image, (rows, columns), (down, across))),
        mask=mask,
        origin=_moved(image, ((down - 1) / 2, (across - 1) / 2)),
        pixel_size=(down * image.pixel_size[0], across * image.pixel_size[1]),
        images=_pictures(image, lambda picture: blocks(picture).mean(axis=(1, 3))),
        acquisition=_scaled(image.acquisition, kept),
        file="",
    )
    return merged.with_warnings(_cut_off(image, (down, across), whole))


def _merged(
    image: SpectrumImage, shape: tuple[int, int], factors: tuple[int, int]
) -> Iterator[tuple[int, npt.NDArray[np.uint64]]]:
    """Yield the first row of a band of merged pixels, and their counts (y, x, energy)."""
    (rows, columns), (down, across) = shape, factors
    for part, band in image.bands((0, rows * down), whole=down):
        inside = band[:, : columns * across].reshape(-1, down, columns, across, image.n_channels)
        yield part.start // down, inside.sum(axis=(1, 3), dtype=np.uint64)


def _collected(
    shape: tuple[int, int, int], found: Iterable[tuple[int, npt.NDArray[np.unsignedinteger[Any]]]]
) -> Any:  # noqa: ANN401 - what a map takes as its counts
    """Collect bands of a map, each with the number of its first row, in memory or, where they do not fit, on disk."""
    rows, columns, channels = shape
    collected = Growing(shape, on_disk=not held_in_memory(rows * columns * channels))
    for first, band in found:
        collected.put((slice(first, first + len(band)),), band)
    return ReadCounts(collected.counts, None, 0)


def _cut_off(image: SpectrumImage, factors: tuple[int, int], whole: tuple[slice, slice]) -> tuple[str, ...]:
    """Say which pixels at the edge fill no block, with the counts that they take along; nothing where all do."""
    totals = image.total_counts
    inside = totals[whole]
    if inside.size == totals.size:
        return ()
    size, block = (" x ".join(map(str, pair)) for pair in (totals.shape, factors))
    counts = int(totals.sum()) - int(inside.sum())
    return (
        f"{size} pixels are no whole number of blocks of {block}: {totals.size - inside.size} pixels at the lower and "
        f"right edge are cut off, with {counts:,} of {int(totals.sum()):,} counts.",
    )


def total(image: SpectrumImage) -> SpectrumImage:
    """Sum all pixels of a map that are not left out; see `SpectrumImage.sum`."""
    rows, columns, _ = image.shape
    kept = 1.0 if image.mask is None else 1.0 - float(image.mask.mean())
    return dataclasses.replace(
        image,
        counts=image.sum_spectrum()[None, None].astype(np.uint64),
        mask=None,
        origin=_moved(image, ((rows - 1) / 2, (columns - 1) / 2)),
        pixel_size=(rows * image.pixel_size[0], columns * image.pixel_size[1]),
        images=_pictures(image, lambda picture: _mean_of(picture, image.mask)),
        acquisition=_scaled(image.acquisition, kept),
        file="",
    )


def _span(index: object, size: int, name: str) -> Span:
    """Return the first row or column of an index and the one after its last."""
    if isinstance(index, slice):
        step = None if index.step is None else _whole(index.step, name)
        if step not in (None, 1):
            remedy = "Crop first, then merge pixels with rebin."
            raise InputError(_INDEX, f"take every {name} of its range", f"has the step {step}", remedy)
        ends = [None if end is None else _whole(end, name) for end in (index.start, index.stop)]
        first, last, _ = slice(*ends).indices(size)
        if first >= last:
            got = f"{_text(tuple(ends))} of {size} {name}s is empty"
            raise InputError(_INDEX, f"hold at least one {name}", got)
        return first, last
    if index is Ellipsis:
        return 0, size
    place = _whole(index, name)
    if not -size <= place < size:
        raise IndexError(f"{name} {place} lies outside the map, which has {size} {name}s")
    return place % size, place % size + 1


def _whole(value: object, name: str) -> int:
    if isinstance(value, list | np.ndarray) and np.ndim(value) > 0:
        remedy = "To leave out single pixels, use image.masked(mask)."
        raise InputError(_INDEX, f"be whole numbers or slices of {name}s", "is an array", remedy)
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise InputError(
            _INDEX, f"be whole numbers or slices of {name}s", f"has {shown(value)}", _HOW
        ) from None


def _factors(factor: int | tuple[int, int], shape: tuple[int, ...]) -> Span:
    """Return how many rows and columns make one."""
    given: Any = factor.tolist() if isinstance(factor, np.ndarray) else factor
    pair = tuple(given) if isinstance(given, tuple | list) else (given, given)
    if len(pair) != 2:
        raise InputError("factor", "be a whole number or a pair (rows, columns)", f"is {shown(factor)}")
    if not isinstance(given, tuple | list) and 1 in shape:
        # A line scan has one row: it is merged along the other.
        pair = tuple(1 if size == 1 else given for size in shape)
    down, across = (
        check_integer("factor", value, low=1, high=size) for value, size in zip(pair, shape, strict=True)
    )
    return down, across


def _moved(image: SpectrumImage, steps: tuple[float, float]) -> tuple[float, float]:
    """Return the position of the pixel so many rows and columns from the first."""
    (y, x), (dy, dx) = image.origin, image.pixel_size
    return y + steps[0] * dy, x + steps[1] * dx


def _scaled(acquisition: Acquisition, share: float) -> Acquisition:
    """Return the facts of a share of the pixels."""
    times = {name: getattr(acquisition, name) for name in ("live_time_s", "real_time_s")}
    changed: dict[str, Any] = {name: share * time for name, time in times.items() if time is not None}
    return dataclasses.replace(acquisition, **changed) if share != 1.0 else acquisition


def _pictures(image: SpectrumImage, change: Callable[[Picture], Picture]) -> dict[str, Picture]:
    """Change the pictures that lie on the map's own grid; others stay as they are."""
    grid = image.shape[:2]
    return {
        name: change(np.asarray(picture)) if np.shape(picture)[:2] == grid else picture
        for name, picture in image.images.items()
    }


def _mean_of(picture: Picture, mask: npt.NDArray[np.bool_] | None) -> Picture:
    used = picture.reshape(-1, *picture.shape[2:]) if mask is None else picture[~mask]
    return np.asarray(used.mean(axis=0)[None, None])


def _text(span: tuple[int | None, ...]) -> str:
    return ":".join("" if end is None else str(end) for end in span)
