"""What every pixel is made of, element by element, beside the picture of the same place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayesunmix.analysis.element_maps import STATISTICS, element_maps
from bayesunmix.core.errors import InputError, check_choice, shown
from bayesunmix.plot.maps import Grid, panel_size, pixel_grid, show_map
from bayesunmix.plot.style import (
    SMALL,
    WIDTH_MM,
    FloatArray,
    element_order,
    new_figure,
    place_axes,
    place_colourbar,
    scale_bar,
    styled,
)
from bayesunmix.results.map_counts import AnyMap

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

UNIT_NAMES = {"at_frac": "atom fraction", "wt_pct": "wt%", "oxide_wt_pct": "oxide wt%"}
_COLUMNS = 4
_LEFT_MM, _GAP_MM, _TITLE_MM, _BAR_MM, _UNDER_MM = 3.0, 4.0, 5.5, 2.0, 6.5
# Single pixels do not set a scale.
_TOP_QUANTILE = 0.995


@styled
def element_maps_figure(
    result: Result,
    maps: xr.Dataset | None = None,
    *,
    elements: Sequence[str] | None = None,
    unit: str = "at_frac",
    statistic: str = "mean",
    image: AnyMap | None = None,
) -> Figure:
    """Draw the unmixed composition of each pixel, a panel for each element, with the pictures of the map first.

    Placed by hand: maps keep their proportions, and each has a scale of its own below it.

    Parameters
    ----------
    result
        The result of a run.
    maps
        From `Result.element_maps`; made when left out.
    elements
        Elements that are drawn; all of them by default, by atomic number.
    unit
        Of maps that are made here.
    statistic
        ``mean``, ``sd``, ``lower`` or ``upper``.
    image
        The map, where its file is gone.

    Returns
    -------
    Figure
        180 mm wide.

    Raises
    ------
    InputError
        If an element is none of the result's, or the map is a line or a point.
    """
    check_choice("statistic", statistic, STATISTICS)
    grid = pixel_grid(result.tree["maps"].dataset)
    if grid.kind != "map":
        must = "have rows and columns"
        raise InputError("result", must, f"is a {grid.kind}", "Ask plot.profile for a line scan.")
    found = element_maps(result, unit, image=image) if maps is None else maps
    names = _chosen(found, elements)
    pictures = pictures_of(result)
    panels = [*pictures, *names]
    width, height = panel_size(grid, (WIDTH_MM - 2.0 * _LEFT_MM - _GAP_MM * (_COLUMNS - 1)) / _COLUMNS)
    columns = min(_COLUMNS, len(panels))
    row = _TITLE_MM + height + _BAR_MM + _UNDER_MM
    figure = new_figure(row * math.ceil(len(panels) / columns) + 2.0)
    text = UNIT_NAMES.get(str(found.attrs.get("unit", unit)), unit)
    for number, name in enumerate(panels):
        down, along = divmod(number, columns)
        left, top = _LEFT_MM + along * (width + _GAP_MM), down * row + _TITLE_MM
        axes = place_axes(figure, left, top, width, height)
        if number < len(pictures):
            axes.imshow(pictures[name], cmap="gray", extent=_extent(grid), aspect="auto")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(name, loc="left", x=0.0, pad=3.0)
        else:
            values = np.asarray(found[statistic].sel(element=name).values, np.float64)
            shown = show_map(axes, values, grid, "viridis" if statistic != "sd" else "magma", _top(values))
            title = str(found["oxide"].sel(element=name).item()) if "oxide" in found.coords else name
            axes.set_title(title, loc="left", x=0.0, pad=3.0, fontweight="bold")
            if number == len(pictures):
                said = text if statistic == "mean" else f"{statistic}, {text}"
                axes.set_title(said, loc="right", fontsize=SMALL, pad=3.0)
            place_colourbar(
                figure,
                shown,
                (left + 3.0, top + height + 1.2, width - 6.0, _BAR_MM),
                extend="max" if float(np.nanmax(values)) > _top(values) else "neither",
                ticks=MaxNLocator(3),
            )
        if number == 0:
            scale_bar(axes, grid.unit)
    return figure


def pictures_of(result: Result) -> dict[str, FloatArray]:
    """Return the pictures that the file of the map holds beside it, by name."""
    maps = result.tree["maps"].dataset
    return {
        str(name).removeprefix("image_").replace("_", " "): np.asarray(maps[name].values, np.float64)
        for name in maps.data_vars
        if str(name).startswith("image_")
    }


def _chosen(found: xr.Dataset, elements: Sequence[str] | None) -> list[str]:
    known = [str(name) for name in found["element"].values]
    if elements is None:
        return element_order(known)
    names = [elements] if isinstance(elements, str) else elements
    if not isinstance(names, Sequence) or not names:
        raise InputError("elements", f"be among {', '.join(known)}", f"is {shown(elements)}")
    for name in names:
        if name not in known:
            raise InputError("elements", f"be among {', '.join(known)}", f"names {name!r}")
    return list(names)


def _top(values: FloatArray) -> float:
    top = float(np.nanquantile(values, _TOP_QUANTILE)) if np.isfinite(values).any() else 0.0
    return top if top > 0.0 else 1.0


def _extent(grid: Grid) -> tuple[float, float, float, float]:
    """Pictures show what the map shows, whatever their own pixels are."""
    rows, columns = grid.shape
    return 0.0, columns * grid.pixel_size[1], rows * grid.pixel_size[0], 0.0
