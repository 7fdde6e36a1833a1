"""How thick the film is, and how well that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayesunmix.plot.maps import panel_size, pixel_grid, show_map
from bayesunmix.plot.style import (
    WIDTH_MM,
    new_figure,
    panel_figure,
    place_axes,
    place_colourbar,
    scale_bar,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_LEFT_MM, _RIGHT_MM, _TOP_MM, _GAP_MM = 10.0, 15.0, 6.0, 22.0
_LINE_MM = 57.0
_BAR_MM = 2.2


@styled
def mass_thickness_figure(result: Result) -> Figure:
    """Draw the mass thickness of each pixel beside its standard deviation.

    A line scan, or a single spectrum, is drawn with error bars of one standard deviation.
    Maps are placed by hand: each keeps its proportions, with a colour bar as high as the map.

    Parameters
    ----------
    result
        The result of a run with zeta-factors.

    Returns
    -------
    Figure
        180 mm wide.
    """
    data = result.tree["maps"].dataset
    mean, sd = (data[f"mass_thickness_{name}"] for name in ("mean", "sd"))
    grid, unit = pixel_grid(data), str(mean.attrs["unit"])
    if grid.kind != "map":
        figure, (axes,) = panel_figure(_LINE_MM)
        axes.errorbar(grid.distance(), mean.values.ravel(), sd.values.ravel(), fmt=".", color="black")
        axes.set_xlabel(f"position ({grid.unit or 'pixels'})")
        axes.set_ylabel(f"mass thickness ({unit})")
        return figure
    width, height = panel_size(grid, (WIDTH_MM - _LEFT_MM - _RIGHT_MM - _GAP_MM) / 2.0)
    figure = new_figure(height + _TOP_MM + 2.0, _LEFT_MM + 2.0 * width + _GAP_MM + _RIGHT_MM)
    panels = (("mean", mean.values, "viridis"), ("standard deviation", sd.values, "magma"))
    for column, (title, values, colours) in enumerate(panels):
        left = _LEFT_MM + column * (width + _GAP_MM)
        axes = place_axes(figure, left, _TOP_MM, width, height)
        top = float(np.nanquantile(values, 0.995)) or 1.0
        shown = show_map(axes, values, grid, colours, top)
        axes.set_title(title, loc="left", x=0.0, pad=3.5)
        box = (left + width + 2.0, _TOP_MM, _BAR_MM, height)
        place_colourbar(
            figure,
            shown,
            box,
            f"mass thickness ({unit})" if column == 0 else f"({unit})",
            extend="max" if float(np.nanmax(values)) > top else "neither",
            ticks=MaxNLocator(4),
        )
        if column == 0:
            scale_bar(axes, grid.unit)
    return figure
