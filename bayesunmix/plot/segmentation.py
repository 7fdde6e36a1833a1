"""Which phase each pixel is, and where that is certain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bayesunmix.plot.maps import Grid, name_phase, panel_size, pixel_grid, show_map
from bayesunmix.plot.style import (
    INK,
    SMALL,
    WIDTH_MM,
    FloatArray,
    fade,
    hide_frame,
    new_figure,
    phase_colour,
    place_axes,
    place_colourbar,
    place_text,
    scale_bar,
    shorten,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.result import Result

# A pixel that is surely mixed keeps this much of the colour of its phase.
_FAINTEST = 0.3
_LEFT_MM = 3.0
_RIGHT_MM = 14.0
_GAP_MM = 4.0
_TITLE_MM = 6.5
_KEY_MM = 12.0
_BAR_MM = 2.2


@styled
def segmentation(result: Result) -> Figure:
    """Draw the most probable phase of each pixel and, per phase, the probability of being that pure phase.

    The colour fades from full where the pixel is surely pure to pale where it is surely a mixture. Other images of the
    file (HAADF and the like) stand beside it.

    Parameters
    ----------
    result
        The result of a run.

    Returns
    -------
    Figure
        Maps; for a line scan curves over a strip of labels; for a single spectrum bars.
    """
    data = result.tree["maps"].dataset
    grid = pixel_grid(data)
    if grid.kind == "map":
        return _draw_maps(result, data, grid)
    return _draw_profile(result, data, grid)


def label_colours(data: xr.Dataset, count: int) -> FloatArray:
    """Colours (y, x, 3) of the labels, faded where the pixel is mixed."""
    label = data["label"].values.astype(np.int64)
    pure = np.clip(data["pure_probability"].values, 0.0, 1.0)
    colours = np.ones((*label.shape, 3))
    for index in range(count):
        own = label == index
        colours[own] = fade(phase_colour(index), _strength(pure[index][own]))
    return colours


def _strength(probability: FloatArray) -> FloatArray:
    return _FAINTEST + (1.0 - _FAINTEST) * probability


def _draw_maps(result: Result, data: xr.Dataset, grid: Grid) -> Figure:
    images = [str(name) for name in data.data_vars if str(name).startswith("image_")]
    count = 1 + len(result.phases) + len(images)
    columns = 2 if count in (2, 4) else min(3, count)
    room = (WIDTH_MM - _LEFT_MM - _RIGHT_MM - _GAP_MM * (columns - 1)) / max(columns, 2)
    width, height = panel_size(grid, room)
    rows = math.ceil(count / columns)
    row_height = _TITLE_MM + height + 1.0
    figure = new_figure(
        rows * row_height + _KEY_MM, _LEFT_MM + columns * (width + _GAP_MM) - _GAP_MM + _RIGHT_MM
    )
    places = [
        (_LEFT_MM + column * (width + _GAP_MM), row * row_height + _TITLE_MM)
        for row in range(rows)
        for column in range(columns)
    ]
    letters = int(width / 1.9)
    axes = place_axes(figure, *places[0], width, height)
    show_map(axes, label_colours(data, len(result.phases)), grid)
    axes.set_title("Most probable phase", loc="left", pad=3.5, fontweight="bold")
    scale_bar(axes, grid.unit, INK)
    for index, phase in enumerate(result.phases):
        place = places[1 + index]
        axes = place_axes(figure, *place, width, height)
        shown = show_map(axes, data["pure_probability"].values[index], grid, "cividis", 1.0)
        name_phase(axes, f"Pure {phase}", index, letters)
    bar = (_LEFT_MM + columns * (width + _GAP_MM) - _GAP_MM + 2.0, _TITLE_MM, _BAR_MM, height)
    place_colourbar(figure, shown, bar, "probability of the pure phase")
    for place, name in zip(places[1 + len(result.phases) :], images, strict=False):
        axes = place_axes(figure, *place, width, height)
        show_map(axes, data[name].values, grid, "gray")
        axes.set_title(shorten(name.removeprefix("image_"), letters), loc="left", pad=3.5, fontweight="bold")
    _draw_key(figure, result.phases, rows * row_height + 3.0)
    return figure


def _draw_key(figure: Figure, phases: list[str], top: float) -> None:
    """Draw one strip per phase, from mixed to pure."""
    step = min(40.0, (WIDTH_MM - _LEFT_MM - _RIGHT_MM) / len(phases))
    for index, phase in enumerate(phases):
        left = _LEFT_MM + index * step
        axes = place_axes(figure, left, top, step - 6.0, 2.6)
        ramp = fade(phase_colour(index), _strength(np.linspace(0.0, 1.0, 64)))
        axes.imshow(ramp[np.newaxis], extent=(0.0, 1.0, 0.0, 1.0), aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([])
        hide_frame(axes, "top", "right", "bottom", "left")
        text = f"{shorten(phase, int(step / 2.4))}: mixed → pure"
        place_text(figure, left, top + 3.2, text, va="top", fontsize=SMALL)


def _draw_profile(result: Result, data: xr.Dataset, grid: Grid) -> Figure:
    figure = new_figure(76.0)
    axes = place_axes(figure, 13.0, 9.0, WIDTH_MM - 17.0, 44.0)
    strip = place_axes(figure, 13.0, 55.0, WIDTH_MM - 17.0, 4.0)
    distance = grid.distance()
    step = float(distance[1] - distance[0]) if distance.size > 1 else 1.0
    edges = np.append(distance - step / 2.0, distance[-1] + step / 2.0)
    for index, phase in enumerate(result.phases):
        values = data["pure_probability"].values[index].ravel()
        colour = phase_colour(index)
        axes.stairs(values, edges, color=colour, linewidth=1.0, label=shorten(phase, 24), baseline=None)
        axes.stairs(values, edges, color=colour, fill=True, alpha=0.15)
    colours = label_colours(data, len(result.phases)).reshape(1, -1, 3)
    strip.imshow(colours, extent=(edges[0], edges[-1], 0.0, 1.0), aspect="auto", interpolation="nearest")
    strip.set_yticks([])
    strip.set_xlabel(f"distance ({grid.unit})" if grid.unit else "pixel")
    strip.xaxis.set_major_locator(MaxNLocator(8, integer=not grid.unit))
    strip.set_ylabel("label", rotation=0, ha="right", va="center")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0.0, 1.0)
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("probability of the pure phase")
    hide_frame(axes, "top", "right")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, borderaxespad=0.2)
    return figure
