"""Pixels that are declared to hold one phase alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bayesunmix.config.phase import Phase
from bayesunmix.config.region import Region
from bayesunmix.core.errors import InputError
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.masks import read_mask, span_mask

Mask = npt.NDArray[np.bool_]


def known_pixels(image: SpectrumImage, phases: Sequence[Phase]) -> npt.NDArray[np.int64] | None:
    """Return the phase that each pixel (y, x) is declared to hold alone, -1 where none is; None where no region is.

    Raises
    ------
    InputError
        If a region does not fit the map, holds no pixel with counts, or shares pixels with another one.
    """
    known = np.full(image.shape[:2], -1, np.int64)
    for k, phase in enumerate(phases):
        if phase.region is None:
            continue
        field = f"phases.{phase.name}.region"
        inside = _inside(phase.region, image.shape[:2], field) & image.used
        if not inside.any():
            raise InputError(field, "hold a pixel that is used and has counts", "holds none")
        shared = known[inside & (known >= 0)]
        if shared.size:
            other = phases[int(shared[0])].name
            raise InputError(field, f"share no pixel with that of {other}", f"shares {shared.size}")
        known[inside] = k
    return known if (known >= 0).any() else None


def _inside(region: Region, shape: tuple[int, int], field: str) -> Mask:
    if region.file is not None:
        return read_mask(region.file, shape, field)
    inside = np.ones(shape, bool)
    for axis, (name, span) in enumerate((("rows", region.rows), ("columns", region.columns))):
        if span is not None:
            along = span_mask(span, shape[axis], f"{field}.{name}", name)
            inside &= along[:, None] if axis == 0 else along[None, :]
    return inside
