"""A map before any fit: its total counts and its sum spectrum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from bayesunmix.plot.maps import Grid, hatch, panel_size, show_map
from bayesunmix.plot.style import (
    INK,
    WIDTH_MM,
    hide_frame,
    new_figure,
    place_axes,
    place_colourbar,
    scale_bar,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.data.image import SpectrumImage

_LEFT_MM, _RIGHT_MM, _TOP_MM, _GAP_MM = 12.0, 4.0, 7.0, 32.0
_SPECTRUM_MM, _BELOW_MM, _BAR_MM = 38.0, 11.0, 2.2


@styled
def image_figure(image: SpectrumImage) -> Figure:
    """Draw the total counts of each pixel, those that are left out hatched, and the sum spectrum.

    Placed by hand: the map keeps its proportions, with a colour bar as high as the map.

    Parameters
    ----------
    image
        The map; a line scan is drawn as a curve, of a single spectrum there is the spectrum alone.

    Returns
    -------
    Figure
        180 mm wide.
    """
    rows, columns, _ = image.shape
    grid = Grid((rows, columns), image.pixel_size, image.pixel_unit)
    wide = WIDTH_MM - _LEFT_MM - _RIGHT_MM
    width, height = (0.0, 0.0) if grid.kind == "point" else (wide, _SPECTRUM_MM)
    if grid.kind == "map":
        width, height = panel_size(grid, 0.55 * WIDTH_MM)
    above = _TOP_MM + height + _BELOW_MM if height else 0.0
    figure = new_figure(above + _TOP_MM + _SPECTRUM_MM + _BELOW_MM)
    totals = np.where(image.kept, image.total_counts, np.nan)
    if grid.kind != "point":
        axes = place_axes(figure, _LEFT_MM, _TOP_MM, width, height)
        axes.set_title(_title(image), loc="left", x=0.0, pad=3.5)
    if grid.kind == "map":
        shown = show_map(axes, totals, grid, "gray", float(np.nanmax(totals)))
        hatch(axes, ~image.kept, grid)
        box = (_LEFT_MM + width + 2.0, _TOP_MM, _BAR_MM, height)
        place_colourbar(figure, shown, box, "counts in a pixel")
        scale_bar(axes, grid.unit)
    elif grid.kind == "line":
        axes.plot(grid.distance(), totals.ravel(), color=INK, drawstyle="steps-mid")
        axes.set_xlabel(f"distance ({grid.unit})" if grid.unit else "pixel")
        axes.set_ylabel("counts in a pixel")
        hide_frame(axes, "top", "right")
    axes = place_axes(figure, _LEFT_MM, above + _TOP_MM, wide, _SPECTRUM_MM)
    axes.stairs(image.sum_spectrum(), image.channel_edges_keV, color=INK, linewidth=0.7, baseline=None)
    axes.set_yscale("symlog", linthresh=1.0)
    axes.set_xlim(image.channel_edges_keV[0], image.channel_edges_keV[-1])
    axes.set_xlabel("energy (keV)")
    axes.set_ylabel("counts in a channel")
    hide_frame(axes, "top", "right")
    return figure


def _title(image: SpectrumImage) -> str:
    left_out = int(np.count_nonzero(~image.kept))
    return f"total counts, {left_out} pixels left out" if left_out else "total counts"
