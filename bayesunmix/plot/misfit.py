"""Regions of significant residual: where no mixture of the declared phases explains the counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import patheffects
from matplotlib.figure import Figure

from bayesunmix.core.errors import InputError
from bayesunmix.plot.maps import Grid, panel_size, pixel_grid, show_map
from bayesunmix.plot.style import (
    INK,
    WIDTH_MM,
    FloatArray,
    new_figure,
    panel_figure,
    place_axes,
    place_colourbar,
    scale_bar,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.checks.outcomes import UnmodelledRegions
    from bayesunmix.checks.regions import MapRegion
    from bayesunmix.results.result import Result

_LEFT_MM, _RIGHT_MM, _TOP_MM = 10.0, 18.0, 6.0
_LINE_MM = 57.0
_BAR_MM = 2.2
_SHARE_OF_PAGE = 0.6
# A scale bar and its label lie below this share of the map's height.
_BAR_HEIGHT = 0.8


@styled
def misfit_figure(result: Result) -> Figure:
    """Draw the largest standardised residual around each pixel, with flagged regions outlined and numbered.

    A line scan, or a single spectrum, is drawn as a curve with the threshold.
    The map is placed by hand: it keeps its proportions, with a colour bar as high as the map.

    Parameters
    ----------
    result
        The result of a run.

    Returns
    -------
    Figure
        At most 180 mm wide.
    """
    data = result.tree["maps"].dataset
    grid, sigma = pixel_grid(data), data["misfit"].values
    found = searched(result)
    threshold = found.threshold
    if grid.kind != "map":
        figure, (axes,) = panel_figure(_LINE_MM)
        axes.plot(grid.distance(), sigma.ravel(), color=INK, drawstyle="steps-mid", marker=".")
        axes.axhline(threshold, color=INK, linestyle="--")
        axes.set_xlabel(f"position ({grid.unit or 'pixels'})")
        axes.set_ylabel("largest residual (σ)")
        return figure
    width, height = panel_size(grid, _SHARE_OF_PAGE * WIDTH_MM)
    figure = new_figure(height + _TOP_MM + 2.0, _LEFT_MM + width + _RIGHT_MM)
    axes = place_axes(figure, _LEFT_MM, _TOP_MM, width, height)
    top = max(1.5 * threshold, min(float(np.nanmax(sigma)), 4.0 * threshold))
    shown = show_map(axes, sigma, grid, "cividis", top)
    dy, dx = grid.pixel_size
    if outlined(sigma, threshold):
        x, y = (np.arange(sigma.shape[1]) + 0.5) * dx, (np.arange(sigma.shape[0]) + 0.5) * dy
        axes.contour(x, y, sigma, levels=[threshold], colors="white", linewidths=0.8)
    outline = [patheffects.withStroke(linewidth=1.8, foreground=INK)]
    for number, region in enumerate(found.regions, 1):
        place = (region.x + 0.5) * dx, (region.y + 0.5) * dy
        axes.text(
            *place, str(number), color="white", ha="center", va="center", size=7.0, path_effects=outline
        )
    axes.set_title("significant residual", loc="left", x=0.0, pad=3.5)
    box = (_LEFT_MM + width + 2.0, _TOP_MM, _BAR_MM, height)
    extend = "max" if float(np.nanmax(sigma)) > top else "neither"
    place_colourbar(figure, shown, box, "largest residual (σ)", extend=extend)
    scale_bar(axes, grid.unit, right_corner=_crowded_left(found.regions, grid))
    return figure


def outlined(sigma: FloatArray, threshold: float) -> bool:
    """Whether the map of residuals (y, x) has an outline: holes, which have no spectrum to misfit, have none."""
    return bool(float(np.nanmax(sigma)) > threshold and min(sigma.shape) > 1)


def searched(result: Result) -> UnmodelledRegions:
    """Return the search for regions that the phases do not explain.

    Raises
    ------
    InputError
        If the run was made by a version that did not search.
    """
    found = result.record.unmodelled_regions
    if found is None:
        raise InputError("DIR", "hold a map of residuals", "was written by an earlier version")
    return found


def _crowded_left(regions: Sequence[MapRegion], grid: Grid) -> bool:
    """Whether places lie where the scale bar would, in the lower left, and fewer of them in the lower right."""
    height, width = grid.shape
    low = [region.x / width for region in regions if region.y > _BAR_HEIGHT * height]
    return sum(x < 0.5 for x in low) > sum(x >= 0.5 for x in low)
