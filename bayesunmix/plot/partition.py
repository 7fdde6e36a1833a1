"""How elements distribute between phases."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesunmix.core.rounding import partition_text
from bayesunmix.plot.forest import draw_bound, draw_interval, log_axis, stripe_rows
from bayesunmix.plot.style import (
    GREY,
    INK,
    SMALL,
    WIDTH_MM,
    element_order,
    new_figure,
    panel_figure,
    phase_colour,
    shorten,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_ROW_MM = 5.0
_HEAD_MM = 18.0
_MOST_COLUMNS = 3
_AXIS_MM = 26.0
# More pairs, those of six phases, do not fit a page.
_MOST_PANELS = 12


@styled
def partition_figure(result: Result) -> Figure:
    """Draw the partition coefficients of every pair of phases as forest plots with a logarithmic axis.

        D_e = x_e(numerator) / x_e(denominator)        x: atom fraction

    Parameters
    ----------
    result
        The result of a run.

    Returns
    -------
    Figure
        One panel per pair: median and credible interval, or an arrow from a bound where an element was found in one of
        the two phases only. Of more pairs than fit a page those over the first denominator are drawn.
    """
    pairs, everything = drawn_pairs(result), phase_pairs(result)
    if not pairs:
        figure = new_figure(14.0)
        figure.text(0.5, 0.5, "One phase: there is nothing to partition between.", ha="center", va="center")
        return figure
    columns = min(_MOST_COLUMNS, len(pairs))
    elements = element_order(result.elements)
    height = math.ceil(len(pairs) / columns) * (_ROW_MM * len(elements) + _HEAD_MM)
    page = WIDTH_MM if columns > 1 else WIDTH_MM / 2.0
    figure, panels = panel_figure(height, page, panels=len(pairs), columns=columns)
    rows = table_rows(result)
    for place, (axes, (numerator, denominator)) in enumerate(zip(panels, pairs, strict=True)):
        colour = phase_colour(result.phases.index(numerator))
        _draw_pair(
            axes, [rows.get((element, numerator, denominator)) for element in elements], elements, colour
        )
        axes.tick_params(labelleft=place % columns == 0)
        title = f"{shorten(numerator, 16)} / {shorten(denominator, 16)}"
        axes.set_title(title, loc="left", pad=4.0, fontweight="bold")
        axes.set_xlabel("partition coefficient D")
    if len(pairs) < len(everything):
        text = (
            f"Of {len(everything)} pairs those over {shorten(pairs[0][1], 30)}; the others are in the tables."
        )
        figure.supxlabel(text, fontsize=SMALL)
    return figure


def phase_pairs(result: Result) -> list[tuple[str, str]]:
    """Return each pair of phases once, as (numerator, denominator), with the matrix as denominator.

    Phases declared as matrix come first, the others as they are listed; the earlier one of a pair is the denominator.
    """
    matrix = {phase.name for phase in result.record.config.phases if phase.matrix}
    order = sorted(result.sample_phases, key=lambda name: name not in matrix)
    return [(numerator, denominator) for denominator, numerator in itertools.combinations(order, 2)]


def drawn_pairs(result: Result) -> list[tuple[str, str]]:
    """Return the pairs of phases that figures draw: where there are many, those over the first denominator."""
    pairs = phase_pairs(result)
    return pairs if len(pairs) <= _MOST_PANELS else [pair for pair in pairs if pair[1] == pairs[0][1]]


def table_rows(result: Result) -> dict[tuple[str, str, str], Any]:
    """Return the rows of the partition table by element, numerator and denominator."""
    table = result.tables.partition()
    return {
        (str(row.element), str(row.numerator), str(row.denominator)): row
        for row in table.itertuples(index=False)
    }


def _points(row: Any) -> list[float]:  # noqa: ANN401
    """Values of a row that must be seen."""
    if partition_text(row) == "–":
        return []
    if row.kind in ("interval", "point"):
        return [row.median]
    # An arrow needs room beyond its bound.
    return [row.upper / 2.0, row.upper] if row.kind == "upper" else [row.lower, 2.0 * row.lower]


def _draw_pair(axes: Axes, rows: list[Any], elements: list[str], colour: str) -> None:
    points = [value for row in rows for value in _points(row)]
    ends = [
        end for row in rows if row is not None and row.kind == "interval" for end in (row.lower, row.upper)
    ]
    log_axis(axes, [1.0, *points], ends=ends, width_mm=_AXIS_MM)
    stripe_rows(axes, elements, 1.0)
    axes.axvline(1.0, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    for y, row in enumerate(rows):
        text = partition_text(row)
        if text != "–":
            _draw_row(axes, y, row, colour)
        axes.annotate(
            text,
            (1.0, y),
            xycoords=axes.get_yaxis_transform(),
            xytext=(4.0, 0.0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=SMALL - 0.5,
            color=GREY if text == "–" else INK,
        )


def _draw_row(axes: Axes, y: float, row: Any, colour: str) -> None:  # noqa: ANN401
    if row.kind in ("interval", "point"):
        draw_interval(axes=axes, y=y, value=row.median, lower=row.lower, upper=row.upper, colour=colour)
    else:
        draw_bound(axes, y, row.upper if row.kind == "upper" else row.lower, row.kind, colour)
