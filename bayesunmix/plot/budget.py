"""Where the uncertainty of each number comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from bayesunmix.checks.budget import SOURCES
from bayesunmix.core.rounding import percent_text
from bayesunmix.plot.partition import drawn_pairs
from bayesunmix.plot.style import (
    INK,
    SMALL,
    element_order,
    hide_frame,
    legend_mm,
    panel_figure,
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
    "misfit": "#009E73",
    "rotation": "#CC79A7",
}
_ROW_MM, _HEAD_MM, _COLUMNS = 3.6, 11.0, 3
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
        element that has an interval, and at its end the relative standard deviation. Of many pairs those that
        `bayesunmix.plot.partition.partition_figure` draws.
    """
    table = result.tables.uncertainty_budget()
    panels = _panels(result, table)
    lines = [panels[i : i + _COLUMNS] for i in range(0, len(panels), _COLUMNS)]
    most = [max(len(part) for _, part in line) for line in lines]
    height = legend_mm(len(SOURCES), _COLUMNS) + _ROW_MM * sum(most) + _HEAD_MM * len(lines)
    figure, drawn = panel_figure(height, panels=len(panels), columns=_COLUMNS, height_ratios=most or None)
    for place, (axes, (title, part)) in enumerate(zip(drawn, panels, strict=True)):
        _draw(axes, title, part, result.elements)
        axes.set_ylim(most[place // _COLUMNS] - 0.5, -0.5)
    handles = [Patch(color=COLOURS[name], label=name) for name in SOURCES]
    figure.legend(handles=handles, loc="outside upper left", ncols=_COLUMNS, borderaxespad=0.2)
    figure.text(0.99, 0.985, _MEANING, ha="right", va="top", fontsize=SMALL)
    return figure


def _panels(result: Result, table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Titles and rows of the panels that have any: compositions first."""
    found = [
        (f"{shorten(phase, 24)}", table[(table.quantity == "composition") & (table.phase == phase)])
        for phase in result.sample_phases
    ]
    for above, below in drawn_pairs(result):
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
            f"{percent_text(value) if value < 0.995 else round(100.0 * value)} %",
            (1.0, place),
            xytext=(3.0, 0.0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL - 0.5,
            color=INK,
        )
    axes.set(xlim=(0.0, 1.0), xticks=[0.0, 0.5, 1.0])
    axes.set_yticks(places, order)
    axes.tick_params(axis="y", length=0.0)
    axes.set_title(title, loc="left", fontsize=SMALL + 0.5)
    hide_frame(axes, "top", "right", "left")
