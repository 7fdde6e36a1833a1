"""What users say of places on a map, as masks of its pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, shown
from bayesunmix.data.counts import shape_text

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

Mask = npt.NDArray[np.bool_]
AnyRegion = npt.ArrayLike | tuple[slice, slice] | slice | str

_FORMS = "be a mask (y, x) of true and false, slices of rows and columns, or the name of a phase"


def region_mask(result: Result, region: Any, field: str = "mask") -> Mask:  # noqa: ANN401 - see AnyRegion
    """Return the pixels (y, x) of a region that take part.

    Parameters
    ----------
    result
        Of the map.
    region
        A mask (y, x), true inside; slices of rows and columns, ``np.s_[10:20, 30:40]``; or the name of a phase, for the
        pixels that hold most of it.
    field
        Name of the argument.

    Raises
    ------
    InputError
        If it is none of these, has another shape than the map, lies beyond it, or holds no pixel that takes part.
    """
    label = result.tree["maps"].dataset["label"].values
    inside = _inside(result, region, label, field)
    if not inside.any():
        raise InputError(field, "hold a pixel of the map", "holds none")
    part = inside & taking_part(result)
    if not part.any():
        got = f"holds {np.count_nonzero(inside)} that were left out or have no counts"
        raise InputError(field, "hold a pixel that takes part", got)
    return part


def taking_part(result: Result) -> Mask:
    """Pixels (y, x) that take part: not left out, and with counts."""
    return np.asarray(np.isfinite(result.tree["maps"].dataset["abundance_mean"].values[0]))


def _check_ends(field: str, name: str, part: slice, size: int) -> None:
    """Refuse a slice that goes beyond the map; negative numbers count from its end, as Python counts."""
    for end in (part.start, part.stop):
        if end is not None and not -size <= end <= size:
            ends = ["" if one is None else str(one) for one in (part.start, part.stop)]
            raise InputError(field, f"lie on the map, which has {size} {name}", f"is {':'.join(ends)} there")


def _inside(result: Result, region: Any, label: npt.NDArray[Any], field: str) -> Mask:  # noqa: ANN401
    if isinstance(region, str):
        if region not in result.phases:
            raise InputError(field, f"name a phase: {', '.join(result.phases)}", f"is {shown(region)}")
        return np.asarray(label == result.phases.index(region))
    if isinstance(region, slice) or (
        isinstance(region, tuple) and 1 <= len(region) <= 2 and all(isinstance(one, slice) for one in region)
    ):
        inside = np.zeros(label.shape, bool)
        try:
            inside[region] = True
        except (TypeError, ValueError):
            raise InputError(field, "be slices of whole numbers", f"is {region}") from None
        parts = region if isinstance(region, tuple) else (region,)
        for name, part, size in zip(("rows", "columns"), parts, label.shape, strict=False):
            _check_ends(field, name, part, size)
        return inside
    try:
        given = np.asarray(region)
    except (TypeError, ValueError):
        given = np.asarray(None)
    if given.dtype.kind != "b":
        got = f"has the type {given.dtype}" if given.ndim else f"is {shown(region)}"
        raise InputError(field, _FORMS, got, "Compare numbers with something: mask=numbers > 0.")
    if given.shape != label.shape:
        must = f"have the shape {label.shape[0]} x {label.shape[1]} of the map"
        raise InputError(field, must, f"has the shape {shape_text(given)}")
    return np.asarray(given)
