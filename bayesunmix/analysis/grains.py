"""Share of each phase in the map, and of each of its grains, with intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.ndimage import center_of_mass, label

from bayesunmix.analysis.joint_draws import joint_draws
from bayesunmix.analysis.places import taking_part
from bayesunmix.analysis.regions import region_draws
from bayesunmix.core.credible import interval
from bayesunmix.core.errors import InputError, check_fraction, check_integer, shown
from bayesunmix.results.map_counts import AnyMap

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

MAP = "whole map"


def phase_fractions(
    result: Result,
    phase: str | None = None,
    *,
    least: float = 0.1,
    smallest: int = 4,
    most: int = 20,
    image: AnyMap | None = None,
) -> pd.DataFrame:
    """Abundance of each phase in the map, or of one phase in each of its grains.

    Parameters
    ----------
    result
        Of the map.
    phase
        Phase whose grains are listed. A grain is made of pixels that touch by a side and hold at least `least` of it on
        average over the posterior: where its edge lies is not part of the interval.
    least, smallest, most
        Smallest abundance, fewest pixels of a grain, and how many are listed, the largest first.
    image
        The map, where its file is gone.

    Returns
    -------
    pandas.DataFrame
        Columns ``where``, ``phase``, ``pixels``, ``row`` and ``column`` of the middle, ``area`` and its ``unit``, and
        of the abundance ``mean``, ``sd``, ``lower``, ``upper``, each from draws of the region (`Result.region`).

    Raises
    ------
    InputError
        If the phase is unknown, it has no such grain, or the map is not there.
    """
    if phase is None:
        whole = taking_part(result)
        drawn = region_draws(result, whole, joint_draws(result, image))["abundance"]
        return pd.DataFrame([_row(result, MAP, name, whole, drawn) for name in result.phases])
    if phase not in result.phases:
        raise InputError("phase", f"be one of {', '.join(result.phases)}", f"is {shown(phase)}")
    number = check_integer("most", most, low=1)
    grains = _grains(
        result, phase, check_fraction("least", least), check_integer("smallest", smallest, low=1)
    )
    if not grains:
        must = f"have a grain of {smallest} pixels or more that hold at least {least:g} of it"
        raise InputError("phase", must, f"{phase} has none", "Give a smaller `least` or `smallest`.")
    source = joint_draws(result, image)
    return pd.DataFrame(
        [
            _row(result, f"grain {place}", phase, grain, region_draws(result, grain, source)["abundance"])
            for place, grain in enumerate(grains[:number], 1)
        ]
    )


def _grains(result: Result, phase: str, least: float, smallest: int) -> list[npt.NDArray[np.bool_]]:
    """Masks (y, x) of the grains of a phase, the largest first."""
    mean = result.abundances()["mean"].sel(phase=phase).values
    numbers, count = label(np.nan_to_num(mean) >= least)
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    return [numbers == one + 1 for one in order if sizes[one] >= smallest]


def _row(
    result: Result, where: str, phase: str, inside: npt.NDArray[np.bool_], drawn: xr.DataArray
) -> dict[str, object]:
    values = drawn.sel(phase=phase).values.ravel()
    known = len(values) > 1
    lower, upper = interval(values[:, None], result.level) if known else np.full((2, 1), np.nan)
    attributes = result.tree["maps"].attrs
    dy, dx = (float(size) for size in np.ravel(attributes.get("pixel_size", (1.0, 1.0))))
    unit, pixels = str(attributes.get("pixel_unit", "")), int(np.count_nonzero(inside))
    row, column = center_of_mass(inside)
    return {
        "where": where,
        "phase": phase,
        "pixels": pixels,
        "row": float(row),
        "column": float(column),
        "area": pixels * dy * dx,
        "unit": f"{unit}²" if unit else "pixels",
        "mean": float(values.mean()),
        "sd": float(values.std(ddof=1)) if known else np.nan,
        "lower": float(lower[0]),
        "upper": float(upper[0]),
    }
