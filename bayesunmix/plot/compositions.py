"""What each phase is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bayesunmix.chemistry.unit_names import UNIT_TEXTS
from bayesunmix.core.rounding import composition_text
from bayesunmix.plot.choices import chosen_phases
from bayesunmix.plot.forest import draw_bound, draw_interval, log_axis, stripe_rows
from bayesunmix.plot.style import (
    GREY,
    SMALL,
    darken,
    element_order,
    figure_of,
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
# What the amounts are shares of.
_AMONG = {
    "at_frac": " (share of the atoms of the declared elements)",
    "wt_pct": " (share of the mass of the declared elements)",
}


@styled
def compositions_figure(
    result: Result, *, unit: str = "at_frac", phases: Sequence[str] | None = None, axes: Axes | None = None
) -> Figure:
    """Draw the composition of every phase as a forest plot: elements downwards, phases side by side.

    Parameters
    ----------
    result
        The result of a run.
    unit
        ``at_frac``, ``wt_pct``, ``oxide_wt_pct`` or ``apfu``, as in `Result.summary`.
    phases
        Phases that are drawn; all but supports by default.
    axes
        Drawn into these, whose figure is returned; into a figure of its own by default.

    Returns
    -------
    Figure
        Mean and credible interval on a logarithmic axis, of atom fractions in percent. An element that was not detected
        has an arrow from its upper bound; one declared absent has no mark.

    Raises
    ------
    InputError
        If the unit does not go with the sample, or a phase has no composition.
    """
    table = result.summary() if unit == "at_frac" else result.summary(unit)
    chosen = chosen_phases(result, phases, result.sample_phases)
    elements = element_order(dict.fromkeys(table["element"]))
    names = dict(zip(table["element"], table["oxide"], strict=True)) if "oxide" in table else {}
    colours = [phase_colour(result.phases.index(phase)) for phase in chosen]
    count = len(chosen)
    if axes is None:
        rows_mm = _ROW_MM * len(elements) * (count + 0.6)
        _, (axes,) = panel_figure(rows_mm + legend_mm(count, _LEGEND_COLUMNS) + 14.0)
    rows = {(str(row.phase), str(row.element)): row for row in table.itertuples(index=False)}
    shown = [rows[phase, element] for phase in chosen for element in elements]
    factor = _PERCENT if unit == "at_frac" else 1.0
    log_axis(axes, *_values_and_ends(shown, factor), np.inf if unit == "apfu" else _PERCENT)
    stripe_rows(axes, [str(names.get(element, element)) for element in elements], count + 0.6)
    for place, element in enumerate(elements):
        for index, phase in enumerate(chosen):
            y = place * (count + 0.6) + index - (count - 1) / 2.0
            _draw_row(axes, y, rows[phase, element], factor, colours[index])
    axes.set_xlabel(f"{UNIT_TEXTS[unit]}{_AMONG.get(unit, '')}")
    handles = [Line2D([], [], color=colour, marker="o", markersize=3.2, linewidth=1.4) for colour in colours]
    axes.legend(
        handles,
        [shorten(phase, 16) for phase in chosen],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=_LEGEND_COLUMNS,
        borderaxespad=0.1,
    )
    axes.annotate(
        f"{result.stated}, {'apfu' if unit == 'apfu' else UNIT_TEXTS[unit]}",
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(6.0, 4.0),
        textcoords="offset points",
        fontsize=SMALL,
    )
    return figure_of(axes)


def _values_and_ends(rows: list[Any], factor: float) -> tuple[list[float], list[float]]:
    """Return what must be seen, means and bounds, and the ends of intervals."""
    values, ends = [], []
    for row in rows:
        if row.detected in STATED:
            values.append(factor * row.mean)
            ends += [factor * row.lower, factor * row.upper]
        elif row.detected == "false":
            values += [factor * row.upper_bound / 2.0, factor * row.upper_bound]
    return values, ends


def _draw_row(axes: Axes, y: float, row: Any, factor: float, colour: str) -> None:  # noqa: ANN401
    if row.detected in STATED:
        draw_interval(
            axes=axes,
            y=y,
            value=factor * row.mean,
            lower=factor * row.lower,
            upper=factor * row.upper,
            colour=colour,
        )
    elif row.detected == "false":
        draw_bound(axes, y, factor * row.upper_bound, "upper", colour)
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
