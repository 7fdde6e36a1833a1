"""The pixels that a run uses: the map's own mask, and what the configuration leaves out.

The grid stays as it is: rows and columns that are not wanted are left out like any other pixel, so that all outputs
have the shape of the map.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.config.map import MapConfig
from bayesunmix.config.pixels import MaskRule, span_text
from bayesunmix.core.errors import InputError, suggest
from bayesunmix.data.counts import shape_text
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.masks import flagged_pixels, read_mask, span_mask

Mask = npt.NDArray[np.bool_]

_REMEDY = "Leave fewer pixels out."


@dataclass(frozen=True)
class LeftOut:
    """Pixels that take no part, and why: each is counted once, under the first reason.

    Attributes
    ----------
    reason : str
        Continues "pixels ...".
    pixels : int
    """

    reason: str
    pixels: int


def choose_pixels(image: SpectrumImage, wanted: MapConfig) -> tuple[Mask, tuple[LeftOut, ...]]:
    """Return the pixels (y, x) that are left out, and why.

    Raises
    ------
    InputError
        If a range, a file or a limit does not fit the map, or leaves no pixel with counts.
    """
    out = ~image.kept
    said = [LeftOut("masked in the map", int(np.count_nonzero(out)))]
    for field, reason, mask in _masks(image, wanted):
        new = mask & ~out
        out = out | mask
        if not (image.used & ~out).any():
            raise InputError(field, "leave at least one pixel with counts", "leaves none", _REMEDY)
        said.append(LeftOut(reason, int(np.count_nonzero(new))))
    return out, tuple(entry for entry in said if entry.pixels)


def _masks(image: SpectrumImage, wanted: MapConfig) -> Iterator[tuple[str, str, Mask]]:
    """Yield field, reason and pixels of everything that the configuration leaves out."""
    shape = image.shape[:2]
    for axis, name in enumerate(("rows", "columns")):
        span = getattr(wanted, name)
        if span is not None:
            inside = span_mask(span, shape[axis], f"map.{name}", name)
            outside = ~inside[:, None] if axis == 0 else ~inside[None, :]
            yield f"map.{name}", f"outside {name} {span_text(span)}", np.broadcast_to(outside, shape)
    for rule in wanted.mask:
        yield "map.mask", str(rule), _ruled_out(image, rule)
    if wanted.exclude_flagged is not None:
        flagged = flagged_pixels(wanted.exclude_flagged, shape, "map.exclude_flagged")
        yield "map.exclude_flagged", f'flagged by the run in "{wanted.exclude_flagged}"', flagged


def _ruled_out(image: SpectrumImage, rule: MaskRule) -> Mask:
    """Pixels that one rule leaves out."""
    shape = image.shape[:2]
    if rule.file is not None:
        return read_mask(rule.file, shape, "map.mask")
    if rule.image is None:
        return _beyond(image.total_counts, rule.counts_below, rule.counts_above)
    if rule.image not in image.images:
        has = f"name a picture of the map ({', '.join(image.images) or 'it has none'})"
        raise InputError("map.mask.image", has, f'is "{rule.image}"', suggest(rule.image, image.images))
    picture = np.asarray(image.images[rule.image])
    if picture.shape != shape:
        must = f"name a picture of the map's shape {shape[0]} x {shape[1]}"
        raise InputError("map.mask.image", must, f'"{rule.image}" is {shape_text(picture)}')
    return _beyond(picture, rule.below, rule.above)


def _beyond(values: npt.NDArray[Any], low: float | None, high: float | None) -> Mask:
    """Places where values are below or above a limit; NaN is beyond any."""
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    return np.asarray(~((values >= low) & (values <= high)))
