"""Several results side by side: compositions by phase, partition coefficients by pair of phases."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bayesunmix.plot.forest import draw_bound, draw_interval, log_axis, stripe_rows
from bayesunmix.plot.partition import phase_pairs
from bayesunmix.plot.style import (
    GREY,
    element_order,
    legend_mm,
    panel_figure,
    phase_colour,
    shorten,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd

    from bayesunmix.analysis.comparison import Comparison

_HEAD_MM = 18.0
_LINE_MM = 1.9
_ROW_MM = 3.2
_MOST_COLUMNS = 3
_MOST_IN_A_LEGEND_LINE = 5


@styled
def comparison_figure(comparison: Comparison) -> Figure:
    """Draw compositions and partition coefficients of all results as forest plots with a line for each result.

    Parameters
    ----------
    comparison
        Results side by side.

    Returns
    -------
    Figure
        A panel for each phase (at%, logarithmic), then one for each pair of phases; medians with credible intervals,
        arrows where only a bound is known.
    """
    elements = element_order(comparison.elements)
    names = list(comparison.names)
    panels = [
        (shorten(phase, 30), "at%", _composition_rows(comparison, phase)) for phase in comparison.phases
    ]
    pairs = [
        pair for pair in phase_pairs(comparison.results[0]) if all(name in comparison.phases for name in pair)
    ]
    panels += [
        (
            f"{shorten(top, 16)} / {shorten(bottom, 16)}",
            "partition coefficient D",
            _pair_rows(comparison, top, bottom),
        )
        for top, bottom in pairs
    ]
    columns = min(_MOST_COLUMNS, len(panels))
    row = _ROW_MM + _LINE_MM * (len(names) - 1)
    band = row * len(elements) + _HEAD_MM
    keys = min(len(names), _MOST_IN_A_LEGEND_LINE)
    height = legend_mm(len(names), keys) + math.ceil(len(panels) / columns) * band
    figure, drawn = panel_figure(height, panels=len(panels), columns=columns)
    for place, (axes, (title, label, rows)) in enumerate(zip(drawn, panels, strict=True)):
        _draw_panel(axes, rows, elements, names)
        axes.tick_params(labelleft=place % columns == 0)
        axes.set_title(title, loc="left", pad=4.0, fontweight="bold")
        axes.set_xlabel(label)
        if label != "at%":
            axes.axvline(1.0, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    handles = [
        Line2D([], [], color=phase_colour(i), marker="o", markersize=3.2, label=shorten(name, 28))
        for i, name in enumerate(names)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=keys, borderaxespad=0.2)
    return figure


Place = tuple[str, float, float, float]
"""Kind, median, lower and upper end of one quantity of one result."""


def _composition_rows(comparison: Comparison, phase: str) -> dict[tuple[str, str], Place]:
    table = comparison.tables.compositions()
    kinds = {"true": "interval", "false": "upper"}
    return {
        (str(row.element), str(row.result)): (
            kinds.get(str(row.detected), "undetermined"),
            100.0 * row.median,
            100.0 * row.lower,
            100.0 * row.upper,
        )
        for row in table[table["phase"] == phase].itertuples()
    }


def _pair_rows(comparison: Comparison, numerator: str, denominator: str) -> dict[tuple[str, str], Place]:
    table: pd.DataFrame = comparison.tables.partitions()
    chosen = table[(table["numerator"] == numerator) & (table["denominator"] == denominator)]
    return {
        (str(row.element), str(row.result)): (str(row.kind), row.median, row.lower, row.upper)
        for row in chosen.itertuples()
    }


def _draw_panel(
    axes: Axes, rows: dict[tuple[str, str], Place], elements: list[str], names: list[str]
) -> None:
    ends = [
        end
        for kind, _, lower, upper in rows.values()
        for end in {
            "interval": [lower, upper],
            "upper": [upper / 2.0, upper],
            "lower": [lower, 2.0 * lower],
        }.get(kind, [])
    ]
    log_axis(axes, ends)
    stripe_rows(axes, elements, 1.0)
    step = _LINE_MM / (_ROW_MM + _LINE_MM * (len(names) - 1))
    for i, element in enumerate(elements):
        for r, name in enumerate(names):
            kind, median, lower, upper = rows.get((element, name), ("undetermined", 0.0, 0.0, 0.0))
            y = i + (r - 0.5 * (len(names) - 1)) * step
            if kind == "interval":
                draw_interval(axes=axes, y=y, value=median, lower=lower, upper=upper, colour=phase_colour(r))
            elif kind in ("upper", "lower"):
                draw_bound(axes, y, upper if kind == "upper" else lower, kind, phase_colour(r))
