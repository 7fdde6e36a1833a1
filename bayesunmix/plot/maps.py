"""Where each phase is: its abundance and how well that is known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from bayesunmix.config.phase import UNNAMED
from bayesunmix.core.errors import check_choice
from bayesunmix.core.rounding import interval_text
from bayesunmix.plot.choices import chosen_phases
from bayesunmix.plot.style import (
    GREY,
    LEFT_OUT,
    WIDTH_MM,
    FloatArray,
    hide_frame,
    legend_mm,
    map_extent,
    new_figure,
    panel_figure,
    phase_colour,
    place_axes,
    place_colourbar,
    scale_bar,
    shorten,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

MAP_SCALES = ("auto", "shared", "own")
_MOST_COLUMNS = 4
_MOST_HEIGHT_MM = 85.0
# Panels lower than this have no room for long labels.
_LOW_MM = 36.0
_TITLE_MM = 6.0
_GAP_MM = 3.0
_LEFT_MM = 6.0
_RIGHT_MM = 15.0
_BAR_MM = 2.2
_UNDER_BAR_MM = 7.0
_INSET_MM = 4.0
# A phase that reaches less than this in all but a thousandth of the pixels has a scale of its own.
_OWN_SCALE, _TOP_QUANTILE, _LEAST_TOP = 0.5, 0.999, 0.01
# A proposed name stands in a title from this probability on.
_LIKELY = 0.8


class Grid(NamedTuple):
    """Pixel grid of a result: shape (y, x), size (dy, dx) of a pixel and its unit."""

    shape: tuple[int, int]
    pixel_size: tuple[float, float]
    unit: str

    @property
    def aspect(self) -> float:
        """Height over width of the map."""
        return self.shape[0] * self.pixel_size[0] / (self.shape[1] * self.pixel_size[1])

    @property
    def kind(self) -> str:
        """``map``, ``line`` or ``point``."""
        if self.shape == (1, 1):
            return "point"
        return "line" if 1 in self.shape else "map"

    def distance(self) -> FloatArray:
        """Position of each pixel of a line scan along the line."""
        step = self.pixel_size[1] if self.shape[0] == 1 else self.pixel_size[0]
        return step * np.arange(max(self.shape), dtype=np.float64)


def pixel_grid(maps: xr.Dataset) -> Grid:
    """Return the pixel grid of the group ``maps``."""
    dy, dx = (float(size) for size in np.ravel(maps.attrs.get("pixel_size", (1.0, 1.0))))
    return Grid((maps.sizes["y"], maps.sizes["x"]), (dy, dx), str(maps.attrs.get("pixel_unit", "")))


@styled
def maps_figure(result: Result, *, phases: Sequence[str] | None = None, scale: str = "auto") -> Figure:
    """Draw the abundance of each phase above its standard deviation.

    The means share one scale from 0 to 1. Where a phase nowhere fills half a pixel, every mean has a bar of its own
    below it, and that phase a scale that ends where it does.
    A line scan is drawn as curves with the interval as a band, a single spectrum as points with intervals.
    Maps are placed by hand: each keeps its proportions, with a colour bar as high or as wide as the map.

    Parameters
    ----------
    result
        The result of a run.
    phases
        Phases that are drawn; all by default.
    scale
        Of the mean abundances: ``auto`` as above, ``shared`` from 0 to 1 for all, ``own`` for each.

    Returns
    -------
    Figure
        180 mm wide; every standard deviation has a scale of its own.

    Raises
    ------
    InputError
        If a phase is none of the result's.
    """
    check_choice("scale", scale, MAP_SCALES)
    chosen = [result.phases.index(phase) for phase in chosen_phases(result, phases)]
    data = result.tree["maps"].dataset
    grid = pixel_grid(data)
    if grid.kind == "map":
        return _draw_maps(result, data, grid, chosen, scale)
    if grid.kind == "line":
        return _draw_line(result, data, grid, chosen)
    return _draw_point(result, data, chosen)


def show_map(
    axes: Axes, values: FloatArray, grid: Grid, colours: str | None = None, top: float | None = None
) -> AxesImage:
    """Draw one map, of numbers from 0 to `top` or of colours (y, x, 3), without ticks and in units of length."""
    axes.set_xticks([])
    axes.set_yticks([])
    # What is left out has no value, and no colour of any scale.
    axes.set_facecolor(LEFT_OUT)
    return axes.imshow(
        values,
        cmap=colours,
        vmin=None if top is None else 0.0,
        vmax=top,
        extent=map_extent(grid.shape, grid.pixel_size),
        interpolation="nearest",
        aspect="auto",
    )


def hatch(axes: Axes, left_out: npt.NDArray[np.bool_], grid: Grid) -> None:
    """Hatch the pixels (y, x) of a map that are left out."""
    if not left_out.any():
        return
    left, right, bottom, top = map_extent(grid.shape, grid.pixel_size)
    # Each pixel is drawn twice as wide and as high: edges of the hatching then lie on edges of pixels.
    fine = np.kron(left_out.astype(float), np.ones((2, 2)))
    y = (np.arange(fine.shape[0]) + 0.5) * (bottom - top) / fine.shape[0]
    x = (np.arange(fine.shape[1]) + 0.5) * (right - left) / fine.shape[1]
    with matplotlib.rc_context({"hatch.linewidth": 0.4, "hatch.color": GREY}):
        axes.contourf(x, y, fine, levels=[0.5, 1.5], colors=[LEFT_OUT], hatches=["////"])


def panel_size(grid: Grid, width: float) -> tuple[float, float]:
    """Width and height in mm of a map no wider than `width` and no higher than fits a page."""
    height = min(width * grid.aspect, _MOST_HEIGHT_MM)
    return height / grid.aspect, height


def name_phase(axes: Axes, name: str, index: int, letters: int) -> None:
    """Title a panel with the name of a phase and its colour."""
    axes.set_title(shorten(name, letters), loc="left", x=0.0, pad=3.5, fontweight="bold")
    for spine in axes.spines.values():
        spine.set(color=phase_colour(index), linewidth=1.6)


def titles_of(result: Result) -> dict[str, str]:
    """Titles of the phases: where the user gave no name, and one is likely by composition, it stands behind."""
    unnamed = [phase for phase in result.sample_phases if UNNAMED.fullmatch(phase)]
    titles = {phase: phase for phase in result.phases}
    for one in result.tables.proposed() if unnamed else ():
        if one.phase in unnamed and one.proposed and one.proposed[0].probability >= _LIKELY:
            titles[one.phase] = f"{one.phase}: {one.proposed[0].name}?"
    return titles


def _draw_maps(result: Result, data: xr.Dataset, grid: Grid, chosen: Sequence[int], scale: str) -> Figure:
    count, titles = len(chosen), titles_of(result)
    bands = math.ceil(count / _MOST_COLUMNS)
    columns = math.ceil(count / bands)
    room = (WIDTH_MM - _LEFT_MM - _RIGHT_MM - _GAP_MM * (columns - 1)) / max(columns, 2)
    width, height = panel_size(grid, room)
    tops = mean_tops(data["abundance_mean"].values, scale)
    shared = all(tops[index] == 1.0 for index in chosen)
    bar = _BAR_MM + _UNDER_BAR_MM
    between = _GAP_MM if shared else bar
    band = _TITLE_MM + 2.0 * height + between + bar
    figure = new_figure(bands * band + 2.0, _LEFT_MM + columns * (width + _GAP_MM) - _GAP_MM + _RIGHT_MM)
    for place, index in enumerate(chosen):
        row, column = divmod(place, columns)
        left, top = _LEFT_MM + column * (width + _GAP_MM), row * band + _TITLE_MM
        upper = place_axes(figure, left, top, width, height)
        values, sd = (data[f"abundance_{name}"].values[index] for name in ("mean", "sd"))
        mean = show_map(upper, values, grid, "viridis", tops[index])
        name_phase(upper, titles[result.phases[index]], index, int(width / 1.9))
        if not shared:
            _bar_below(figure, mean, values, (left, top + height, width))
        lower = place_axes(figure, left, top + height + between, width, height)
        _bar_below(
            figure,
            show_map(lower, sd, grid, "magma", sd_top(sd)),
            sd,
            (left, top + 2.0 * height + between, width),
        )
        if column == 0:
            upper.set_ylabel(("mean" if shared else "mean abundance") if height >= _LOW_MM else "mean")
            lower.set_ylabel("standard deviation" if height >= _LOW_MM else "sd")
            scale_bar(upper, grid.unit)
        if shared and (column == columns - 1 or place == count - 1):
            box = (left + width + 2.0, top, _BAR_MM, height)
            label = "abundance (atom fraction)" if height >= _LOW_MM else "abundance"
            place_colourbar(figure, mean, box, label)
    return figure


def _bar_below(
    figure: Figure, shown: AxesImage, values: FloatArray, place: tuple[float, float, float]
) -> None:
    """Add a flat colour bar below a map whose lower left corner and width are given in mm."""
    left, bottom, width = place
    _, top = shown.get_clim()
    beyond = top is not None and float(np.nanmax(values, initial=0.0)) > top
    place_colourbar(
        figure,
        shown,
        (left + _INSET_MM, bottom + 1.2, width - 2.0 * _INSET_MM, _BAR_MM),
        extend="max" if beyond else "neither",
        ticks=MaxNLocator(4),
    )


def mean_tops(means: FloatArray, scale: str = "auto") -> list[float]:
    """Tops of the scales of the mean abundances (phase, y, x): 1, or less where a phase nowhere fills half a pixel."""
    if scale == "shared":
        return [1.0] * len(means)
    tops = [min(max(_quantile(mean, _TOP_QUANTILE), _LEAST_TOP), 1.0) for mean in means]
    return [1.0 if scale == "auto" and top >= _OWN_SCALE else top for top in tops]


def sd_top(sd: FloatArray) -> float:
    """Top of the scale of a map of standard deviations: single outliers do not set it."""
    top = _quantile(sd, 0.995)
    return top if top > 0.0 else 1.0


def _quantile(values: FloatArray, share: float) -> float:
    finite = values[np.isfinite(values)]
    return float(np.quantile(finite, share)) if finite.size else 0.0


def _draw_line(result: Result, data: xr.Dataset, grid: Grid, chosen: Sequence[int]) -> Figure:
    figure, (axes,) = panel_figure(66.0 + legend_mm(len(chosen), _MOST_COLUMNS))
    distance = grid.distance()
    for index in chosen:
        mean, lower, upper = (
            data[f"abundance_{name}"].values[index].ravel() for name in ("mean", "lower", "upper")
        )
        colour = phase_colour(index)
        axes.fill_between(distance, lower, upper, color=colour, alpha=0.25, linewidth=0.0)
        axes.plot(distance, mean, color=colour, label=shorten(result.phases[index], 16))
    axes.set_xlim(distance[0], distance[-1])
    axes.set_ylim(0.0, 1.0)
    axes.set_xlabel(f"distance ({grid.unit})" if grid.unit else "pixel")
    axes.set_ylabel("abundance (atom fraction)")
    hide_frame(axes, "top", "right")
    axes.set_title(_band_text(result), loc="left", pad=4.0)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=_MOST_COLUMNS, borderaxespad=0.2)
    return figure


def _draw_point(result: Result, data: xr.Dataset, chosen: Sequence[int]) -> Figure:
    count = len(chosen)
    figure, (axes,) = panel_figure(16.0 + 9.0 * count)
    for place, index in enumerate(chosen):
        mean, lower, upper = (
            float(data[f"abundance_{name}"].values[index].item()) for name in ("mean", "lower", "upper")
        )
        axes.barh(place, mean, height=0.6, color=phase_colour(index), alpha=0.35)
        axes.plot([lower, upper], [place, place], color=phase_colour(index), linewidth=1.6)
        axes.plot(mean, place, "o", color=phase_colour(index), markersize=4.0)
        text = interval_text(100.0 * mean, 100.0 * lower, 100.0 * upper, "%")
        axes.annotate(text, (1.0, place), xytext=(6.0, 0.0), textcoords="offset points", va="center")
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_yticks(range(count), [shorten(result.phases[index], 22) for index in chosen])
    axes.set_xlabel(f"abundance (atom fraction), {_band_text(result)}")
    hide_frame(axes, "top", "right")
    return figure


def _band_text(result: Result) -> str:
    return f"mean and {100.0 * result.level:g} % interval"
