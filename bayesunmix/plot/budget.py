"""Where the uncertainty of each number comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bayesunmix.checks.budget import SOURCES
from bayesunmix.plot.partition import phase_pairs
from bayesunmix.plot.style import (
    INK,
    SMALL,
    WIDTH_MM,
    element_order,
    hide_frame,
    legend_mm,
    new_figure,
    place_axes,
    place_text,
    shorten,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

# Apart from the colours of phases in order, and from each other in grey.
COLOURS = {
    "counting": "#0072B2",
    "unmixing": "#56B4E9",
    "calibration": "#D55E00",
    "absorption": "#F0C05A",
    "continuum": "#8C8C8C",
}
_ROW_MM, _HEAD_MM, _COLUMNS = 3.6, 10.0, 3
_LABEL_MM, _NUMBER_MM, _GAP_MM = 8.0, 13.0, 4.0
_MEANING = "share of the variance; number: relative sd"


@styled
def budget_figure(result: Result) -> Figure:
    """Draw the share of each source in the variance of every number as a stacked bar.

    Parameters
    ----------
    result
        The result of a run.

    Returns
    -------
    Figure
        A panel for each phase (atom fractions) and for each pair of phases (partition coefficients), a bar for each
        element that has an interval, and at its end the relative standard deviation.
    """
    table = result.tables.uncertainty_budget()
    panels = _panels(result, table)
    above = legend_mm(len(SOURCES), len(SOURCES))
    lines = [panels[i : i + _COLUMNS] for i in range(0, len(panels), _COLUMNS)]
    heights = [_ROW_MM * max(len(part) for _, part in line) for line in lines]
    figure = new_figure(above + sum(heights) + _HEAD_MM * len(lines) + 7.0)
    width = (WIDTH_MM - _COLUMNS * (_LABEL_MM + _NUMBER_MM + _GAP_MM)) / _COLUMNS
    top = above
    for line, height in zip(lines, heights, strict=True):
        top += _HEAD_MM
        for column, (title, part) in enumerate(line):
            left = _LABEL_MM + column * (width + _LABEL_MM + _NUMBER_MM + _GAP_MM)
            axes = place_axes(figure, left, top, width, _ROW_MM * max(len(part), 1))
            _draw(axes, title, part, result.elements)
        top += height
    handles = [Patch(color=COLOURS[name], label=name) for name in SOURCES]
    figure.legend(handles=handles, loc="upper left", ncols=len(SOURCES), borderaxespad=0.2)
    place_text(figure, WIDTH_MM - 2.0, 1.2, _MEANING, ha="right", va="top", fontsize=SMALL)
    return figure


def _panels(result: Result, table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Titles and rows of the panels that have any: compositions first."""
    found = [
        (f"{shorten(phase, 24)}", table[(table.quantity == "composition") & (table.phase == phase)])
        for phase in result.sample_phases
    ]
    for above, below in phase_pairs(result):
        chosen = (table.quantity == "partition") & (table.phase == above) & (table.denominator == below)
        found.append((f"D {shorten(above, 12)} / {shorten(below, 12)}", table[chosen]))
    return [(title, part) for title, part in found if len(part)]


def _draw(axes: Axes, title: str, part: pd.DataFrame, elements: list[str]) -> None:
    """Stack the shares of one panel's numbers, the lightest element on top."""
    order = [element for element in element_order(elements) if element in set(part["element"])]
    rows = part.set_index("element").loc[order]
    places = np.arange(len(order))
    left = np.zeros(len(order))
    for name in SOURCES:
        share = rows[f"share_{name}"].to_numpy(float)
        axes.barh(places, share, left=left, height=0.78, color=COLOURS[name], linewidth=0.0)
        left = left + np.nan_to_num(share)
    # Of an atom fraction the relative sd is sd / value; that of a ratio is the sd of its logarithm.
    relative = rows["sd"] / rows["value"] if rows["quantity"].iloc[0] == "composition" else rows["sd"]
    for place, value in zip(places, relative, strict=True):
        axes.annotate(
            f"{100.0 * value:.2g} %",
            (1.0, place),
            xytext=(3.0, 0.0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL - 0.5,
            color=INK,
        )
    axes.set(xlim=(0.0, 1.0), ylim=(len(order) - 0.5, -0.5), xticks=[0.0, 0.5, 1.0])
    axes.set_yticks(places, order)
    axes.tick_params(axis="y", length=0.0)
    axes.set_title(title, loc="left", fontsize=SMALL + 0.5)
    hide_frame(axes, "top", "right", "left")
