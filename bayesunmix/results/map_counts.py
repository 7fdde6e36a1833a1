"""The counts that a result was made of: from the file that the record names, or from a map that is handed over."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesunmix.core.errors import InputError, said_as
from bayesunmix.data.counts import shape_text
from bayesunmix.data.image import HyperSpySignal, SpectrumImage
from bayesunmix.data.stored_counts import StoredCounts

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

AnyMap = SpectrumImage | str | os.PathLike[str] | HyperSpySignal

GROUP = "pixels"
_FIELD = "image"
_REMEDY = "Hand over the map that was unmixed: image=bu.load(...)."


def stored_pixels(result: Result) -> xr.Dataset:
    """Return what a result keeps of its pixels.

    Raises
    ------
    InputError
        If an earlier version wrote it.
    """
    if GROUP not in result.tree.children:
        raise InputError(
            "result",
            "keep what its pixels are drawn from",
            "was written by an earlier version, or put together from draws",
            "Unmix the map again.",
        )
    return result.tree[GROUP].to_dataset()


def unmixed_map(result: Result, image: AnyMap | None = None) -> SpectrumImage:
    """Return the map that a result was made of, cut to the energies that were fitted.

    Parameters
    ----------
    result
        Of a run.
    image
        The whole map, as it was handed over for unmixing: a `SpectrumImage`, the name of a file or a HyperSpy signal.
        Left out, the file that the record names is read.

    Raises
    ------
    InputError
        If there is none, or its counts are not those that were unmixed.
    """
    stored = stored_pixels(result)
    whole = _whole(result, image)
    if whole is result.image:
        return whole
    cut = _cut(result, stored, whole)
    if cut.count_hash() != result.record.hash:
        named = f'"{whole.file}"' if image is None else "it"
        must = "hold the counts that were unmixed"
        raise InputError(_FIELD, must, f"{named} holds others: it is another map, or was changed", _REMEDY)
    return cut


def _whole(result: Result, image: AnyMap | None) -> SpectrumImage:
    """Return the map as it was read."""
    if image is not None:
        return _read(image)
    if result.image is not None:
        return result.image
    file = result.record.map.file
    if file is None:
        must = "be given: the map that was unmixed was of no file, or part of one"
        raise InputError(_FIELD, must, "is not", _REMEDY)
    if not Path(file).exists():
        raise InputError(
            _FIELD, "be given where the file of the map is gone", f'"{file}" is not there', _REMEDY
        )
    return _read(file, result.record.map.signal)


def _read(image: AnyMap, signal: int | None = None) -> SpectrumImage:
    if isinstance(image, SpectrumImage):
        return image
    if isinstance(image, str | os.PathLike):
        from bayesunmix.data.files import FIELD
        from bayesunmix.data.io import load

        with said_as({FIELD: _FIELD}):
            return load(image, signal)
    if hasattr(image, "axes_manager"):
        from bayesunmix.data.signals import map_of_signal

        return map_of_signal(image)
    must = "be a map: a SpectrumImage, the name of a file, or a HyperSpy signal"
    raise InputError(_FIELD, must, f"is a {type(image).__name__}")


def _cut(result: Result, stored: xr.Dataset, whole: SpectrumImage) -> SpectrumImage:
    """Leave out the pixels that took no part and the channels that were not fitted, on the axis that was fitted."""
    left_out = np.asarray(result.tree["maps"].dataset["left_out"].values, bool)
    first, last = (int(number) for number in stored.attrs["channels"])
    if whole.shape[:2] != left_out.shape or whole.n_channels < last:
        must = f"have {left_out.shape[0]} x {left_out.shape[1]} pixels and at least {last} channels"
        raise InputError(_FIELD, must, f"has shape {shape_text(whole.counts)}", _REMEDY)
    pairs = np.reshape(stored.attrs.get("replaced_channels", []), (-1, 2)).astype(int).tolist()
    counts = whole.with_replaced([(channel, other) for channel, other in pairs]).counts
    cut: Any = counts.cropped(first, last) if isinstance(counts, StoredCounts) else counts[:, :, first:last]
    ends = [float(energy) for energy in stored.attrs["energy_keV"]]
    energy_keV = np.linspace(ends[0], ends[1], last - first)
    image = dataclasses.replace(whole, counts=cut, energy_keV=energy_keV)
    return image.masked(left_out)
