"""Which phase each pixel is, and where that is certain."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from bayesunmix.plot.maps import Grid, name_phase, panel_size, pixel_grid, show_map
from bayesunmix.plot.style import (
    INK,
    LEFT_OUT,
    SMALL,
    WIDTH_MM,
    FloatArray,
    fade,
    hide_frame,
    legend_mm,
    new_figure,
    page_mm,
    panel_figure,
    phase_colour,
    place_axes,
    place_colourbar,
    place_text,
    scale_bar,
    shorten,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

# Of a phase that is nowhere pure with more than this probability there is nothing to see.
_LEAST_PURE = 0.1
# A pixel that is surely mixed keeps this much of the colour of its phase.
_FAINTEST = 0.3
_LEFT_MM = 3.0
_GAP_MM = 4.0
_LEGEND_COLUMNS = 4
_TITLE_MM = 6.5
_KEY_MM = 12.0
_BAR_MM = 2.6
_KEY_STEP_MM = 11.0
_KEY_STRIP_MM = 34.0
_KEY_COLUMNS = 4
_NOTE_MM = 5.0


@styled
def segmentation_figure(result: Result) -> Figure:
    """Draw the most probable phase of each pixel and, per phase, the probability of being that pure phase.

    Phases that are nowhere pure with a probability above 10 % are named in place of an even panel.
    The colour fades from full where the pixel is surely pure to pale where it is surely a mixture. Other images of the
    file (HAADF and the like) stand beside it.
    Maps are placed by hand: each keeps its proportions, and the key takes the place of one.

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
    if grid.kind == "line":
        return _draw_line(result, data, grid)
    return _draw_point(result, data)


def label_colours(data: xr.Dataset, count: int) -> FloatArray:
    """Colours (y, x, 3) of the labels, faded where the pixel is mixed."""
    label = data["label"].values.astype(np.int64)
    pure = np.clip(data["pure_probability"].values, 0.0, 1.0)
    colours = np.ones((*label.shape, 3))
    colours[label < 0] = to_rgb(LEFT_OUT)
    for index in range(count):
        own = label == index
        colours[own] = fade(phase_colour(index), _strength(pure[index][own]))
    return colours


def _strength(probability: FloatArray) -> FloatArray:
    return _FAINTEST + (1.0 - _FAINTEST) * probability


def _draw_maps(result: Result, data: xr.Dataset, grid: Grid) -> Figure:
    phases = result.phases
    images = [str(name) for name in data.data_vars if str(name).startswith("image_")]
    pure = data["pure_probability"].values
    panels = [index for index in range(len(phases)) if np.nanmax(pure[index], initial=0.0) > _LEAST_PURE]
    mixed = [phase for index, phase in enumerate(phases) if index not in panels]
    count = 1 + len(panels) + len(images)
    columns = min(3, max(count, 2))
    room = (WIDTH_MM - 2.0 * _LEFT_MM - _GAP_MM * (columns - 1)) / columns
    width, height = panel_size(grid, room)
    row_height = _TITLE_MM + height + 1.0
    rows = math.ceil(count / columns)
    strips = bool(panels) + len(phases)
    beside = rows * columns > count and height >= _KEY_STEP_MM * strips
    figure = new_figure(
        rows * row_height
        + (2.0 if beside else _KEY_MM * math.ceil(strips / _KEY_COLUMNS))
        + (_NOTE_MM if mixed else 0.0)
    )
    places = [
        (_LEFT_MM + column * (width + _GAP_MM), row * row_height + _TITLE_MM)
        for row in range(rows)
        for column in range(columns)
    ]
    letters = int(width / 1.9)
    axes = place_axes(figure, *places[0], width, height)
    show_map(axes, label_colours(data, len(phases)), grid)
    axes.set_title("Most probable phase", loc="left", pad=3.5, fontweight="bold")
    scale_bar(axes, grid.unit, INK)
    shown = None
    for place, index in zip(places[1:], panels, strict=False):
        axes = place_axes(figure, *place, width, height)
        shown = show_map(axes, pure[index], grid, "cividis", 1.0)
        name_phase(axes, f"Pure {phases[index]}", index, letters)
    for name, place in zip(images, places[1 + len(panels) :], strict=False):
        axes = place_axes(figure, *place, width, height)
        _show_image(axes, data[name].values)
        axes.set_title(shorten(name.removeprefix("image_"), letters), loc="left", pad=3.5, fontweight="bold")
    if beside:
        left, top = places[count]
        corners = [(left + 4.0, top + step * _KEY_STEP_MM) for step in range(strips)]
    else:
        step, top = (WIDTH_MM - 2.0 * _LEFT_MM) / _KEY_COLUMNS, rows * row_height + 3.0
        corners = [
            (_LEFT_MM + along * step, top + down * _KEY_MM)
            for down, along in (divmod(strip, _KEY_COLUMNS) for strip in range(strips))
        ]
    _draw_key(figure, phases, shown, corners)
    if mixed:
        text = f"No pixel is told to be pure (probability above {100.0 * _LEAST_PURE:g} %) of: "
        text += ", ".join(shorten(phase, 16) for phase in mixed)
        place_text(figure, _LEFT_MM, page_mm(figure)[1] - 1.5, text, va="bottom", fontsize=SMALL)
    return figure


def _show_image(axes: Axes, values: FloatArray) -> None:
    """Draw another image of the file in its own proportions, its contrast set by all but the extreme pixels."""
    low, high = np.nanquantile(values, [0.005, 0.995])
    axes.imshow(values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    axes.set_anchor("NW")
    axes.set_xticks([])
    axes.set_yticks([])


def _draw_key(
    figure: Figure, phases: list[str], shown: AxesImage | None, corners: list[tuple[float, float]]
) -> None:
    """Draw one strip per phase at corners in mm (left, top), after the scale of the probabilities if any is drawn."""
    text = {"va": "top", "fontsize": SMALL}
    if shown is not None:
        left, top = corners[0]
        place_colourbar(figure, shown, (left, top, _KEY_STRIP_MM, _BAR_MM), ticks=[])
        place_text(figure, left, top + 3.2, "P(pure): 0 → 1", **text)
    for index, (phase, (left, top)) in enumerate(
        zip(phases, corners[len(corners) - len(phases) :], strict=True)
    ):
        axes = place_axes(figure, left, top, _KEY_STRIP_MM, _BAR_MM)
        ramp = fade(phase_colour(index), _strength(np.linspace(0.0, 1.0, 64)))
        axes.imshow(ramp[np.newaxis], extent=(0.0, 1.0, 0.0, 1.0), aspect="auto")
        axes.set_xticks([])
        axes.set_yticks([])
        hide_frame(axes, "top", "right", "bottom", "left")
        place_text(figure, left, top + 3.2, f"{shorten(phase, 13)}: mixed → pure", **text)


def _draw_point(result: Result, data: xr.Dataset) -> Figure:
    count = len(result.phases)
    figure, (axes,) = panel_figure(16.0 + 9.0 * count)
    for index in range(count):
        value = float(data["pure_probability"].values[index].item())
        axes.barh(index, value, height=0.6, color=phase_colour(index))
        axes.annotate(
            f"{value:.3f}", (1.0, index), xytext=(6.0, 0.0), textcoords="offset points", va="center"
        )
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_yticks(range(count), [shorten(phase, 22) for phase in result.phases])
    axes.set_xlabel("probability of the pure phase")
    hide_frame(axes, "top", "right")
    return figure


def _draw_line(result: Result, data: xr.Dataset, grid: Grid) -> Figure:
    height = 65.0 + legend_mm(len(result.phases), _LEGEND_COLUMNS)
    figure, (axes, strip) = panel_figure(height, panels=2, height_ratios=(11, 1))
    distance = grid.distance()
    step = float(distance[1] - distance[0])
    edges = np.append(distance - step / 2.0, distance[-1] + step / 2.0)
    for index, phase in enumerate(result.phases):
        values = data["pure_probability"].values[index].ravel()
        colour = phase_colour(index)
        axes.stairs(values, edges, color=colour, linewidth=1.0, label=shorten(phase, 16), baseline=None)
        axes.stairs(values, edges, color=colour, fill=True, alpha=0.15)
    colours = label_colours(data, len(result.phases)).reshape(1, -1, 3)
    strip.imshow(colours, extent=(edges[0], edges[-1], 0.0, 1.0), aspect="auto", interpolation="nearest")
    strip.set_yticks([])
    strip.set_xlabel(f"distance ({grid.unit})" if grid.unit else "pixel")
    strip.xaxis.set_major_locator(MaxNLocator(10, steps=[1, 2, 5, 10], integer=not grid.unit))
    strip.set_ylabel("label", rotation=0, ha="right", va="center")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0.0, 1.0)
    axes.tick_params(labelbottom=False)
    axes.set_ylabel("probability of the pure phase")
    hide_frame(axes, "top", "right")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=_LEGEND_COLUMNS, borderaxespad=0.2)
    return figure
