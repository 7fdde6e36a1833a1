"""What each phase is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bayesunmix.core.rounding import composition_text
from bayesunmix.plot.forest import draw_bound, draw_interval, log_axis, stripe_rows
from bayesunmix.plot.style import (
    GREY,
    SMALL,
    darken,
    element_order,
    legend_mm,
    panel_figure,
    phase_colour,
    shorten,
    styled,
)
from bayesunmix.results.tables import STATED

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_ROW_MM = 3.5
_PERCENT = 100.0
_LEGEND_COLUMNS = 4


@styled
def compositions_figure(result: Result) -> Figure:
    """Draw the composition of every phase as a forest plot: elements downwards, phases side by side.

    Parameters
    ----------
    result
        The result of a run.

    Returns
    -------
    Figure
        Mean and credible interval in atom percent on a logarithmic axis. An element that was not detected has an arrow
        from its upper bound; one declared absent has no mark.
    """
    table = result.summary()
    elements = element_order(result.elements)
    phases = result.sample_phases
    colours = [phase_colour(result.phases.index(phase)) for phase in phases]
    count = len(phases)
    rows_mm = _ROW_MM * len(elements) * (count + 0.6)
    figure, (axes,) = panel_figure(rows_mm + legend_mm(count, _LEGEND_COLUMNS) + 14.0)
    rows = {(str(row.phase), str(row.element)): row for row in table.itertuples(index=False)}
    log_axis(axes, _shown_values(list(rows.values())), _PERCENT)
    stripe_rows(axes, elements, count + 0.6)
    for place, element in enumerate(elements):
        for index, phase in enumerate(phases):
            y = place * (count + 0.6) + index - (count - 1) / 2.0
            _draw_row(axes, y, rows[phase, element], colours[index])
    axes.set_xlabel("at% (share of the atoms of the declared elements)")
    handles = [Line2D([], [], color=colour, marker="o", markersize=3.2, linewidth=1.4) for colour in colours]
    axes.legend(
        handles,
        [shorten(phase, 16) for phase in phases],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=_LEGEND_COLUMNS,
        borderaxespad=0.1,
    )
    axes.annotate(
        f"mean [{100.0 * result.level:g} % interval], at%",
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(6.0, 4.0),
        textcoords="offset points",
        fontsize=SMALL,
    )
    return figure


def _shown_values(rows: list[Any]) -> list[float]:
    values = []
    for row in rows:
        if row.detected in STATED:
            values += [_PERCENT * row.lower, _PERCENT * row.mean, _PERCENT * row.upper]
        elif row.detected == "false":
            values += [_PERCENT * row.upper_bound / 2.0, _PERCENT * row.upper_bound]
    return values


def _draw_row(axes: Axes, y: float, row: Any, colour: str) -> None:  # noqa: ANN401
    if row.detected in STATED:
        draw_interval(
            axes=axes,
            y=y,
            value=_PERCENT * row.mean,
            lower=_PERCENT * row.lower,
            upper=_PERCENT * row.upper,
            colour=colour,
        )
    elif row.detected == "false":
        draw_bound(axes, y, _PERCENT * row.upper_bound, "upper", colour)
    axes.annotate(
        composition_text(row),
        (1.0, y),
        xycoords=axes.get_yaxis_transform(),
        xytext=(6.0, 0.0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=SMALL - 0.5,
        color=GREY if row.detected == "declared_absent" else darken(colour),
    )
