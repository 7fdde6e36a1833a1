"""Partition coefficients of a series: every map alone, partially pooled, and the trend."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bayesunmix.core.credible import interval
from bayesunmix.core.rounding import interval_text
from bayesunmix.plot.style import (
    GREY,
    INK,
    SMALL,
    element_order,
    panel_figure,
    phase_colour,
    styled,
)

if TYPE_CHECKING:
    import pandas as pd

    from bayesunmix.analysis.series import PairFit, Series

_COLUMNS = 4
_PANEL_MM = 45.0
_HEAD_MM = 6.0
_GRID = 41


@styled
def trend_figure(series: Series) -> Figure:
    """Draw ln-scaled D of every reported element and pair of phases over the covariate.

    Parameters
    ----------
    series
        A fitted series.

    Returns
    -------
    Figure
        Open points: each map alone; filled points: partially pooled; line and band: the trend and its interval.
    """
    has_trend = series.covariate is not None
    panels = [
        (fit, element)
        for fit in series.fits
        for element in element_order(series.elements)
        if fit.reported(trend=has_trend)[series.elements.index(element)]
    ]
    lines = max(math.ceil(len(panels) / _COLUMNS), 1)
    figure, drawn = panel_figure(_HEAD_MM + lines * _PANEL_MM, panels=len(panels), columns=_COLUMNS)
    said = "Open: each map alone; filled: partially pooled" + ("; band: trend." if has_trend else ".")
    if not panels:
        said = "In too few maps is there anything to pool."
    figure.suptitle(f"{said} {100 * series.level:g} % intervals.", x=0.01, ha="left", fontsize=SMALL)
    table = series.maps()
    for axes, (fit, element) in zip(drawn, panels, strict=True):
        rows = table[
            (table["numerator"] == fit.numerator)
            & (table["denominator"] == fit.denominator)
            & (table["element"] == element)
        ]
        _draw(axes, series, fit, element, rows)
    return figure


def _draw(axes: Axes, series: Series, fit: PairFit, element: str, rows: pd.DataFrame) -> None:
    colour = phase_colour(series.fits.index(fit))
    place = np.arange(len(series.names), dtype=float)
    if series.covariate is not None:
        place = np.array(series.covariate.values)
        _draw_band(axes, series, fit, series.elements.index(element), colour)
        axes.set_xlabel(series.covariate.name.replace("_", " "), labelpad=1.0)
    else:
        axes.set_xticks(place, [str(i + 1) for i in range(len(place))])
        axes.set_xlabel("result", labelpad=1.0)
    axes.set_yscale("log")
    # Few panels span a decade: ticks are numbers, not powers.
    axes.yaxis.set_major_locator(LogLocator(10.0, (1.0, 2.0, 5.0), numticks=8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    shift = 0.012 * max(np.ptp(place), 1e-9)
    for x, row in zip(place, rows.itertuples(), strict=True):
        if row.kind == "interval":
            axes.plot([x - shift] * 2, [row.D_lower, row.D_upper], color=GREY, linewidth=1.0)
            axes.plot(x - shift, row.D_median, "o", color=GREY, markersize=3.0, markerfacecolor="white")
        elif row.kind in ("upper", "lower"):
            bound, marker = (row.D_upper, "v") if row.kind == "upper" else (row.D_lower, "^")
            axes.plot(x - shift, bound, marker, color=GREY, markersize=3.5, markerfacecolor="white")
        axes.plot([x + shift] * 2, [row.pooled_lower, row.pooled_upper], color=colour, linewidth=1.4)
        axes.plot(x + shift, row.pooled_median, "o", color=colour, markersize=3.0)
    axes.set_title(f"{element}, {fit.numerator} / {fit.denominator}", loc="left", pad=2.5, fontweight="bold")


def _draw_band(axes: Axes, series: Series, fit: PairFit, i: int, colour: str) -> None:
    assert series.covariate is not None
    values = np.array(series.covariate.values)
    grid = np.linspace(values.min(), values.max(), _GRID)
    slope = fit.draws["slope"][..., i].ravel() / series.spread
    line = fit.draws["centre"][..., i].ravel()[:, None] + slope[:, None] * (grid - values.mean())
    lower, upper = interval(np.exp(line), series.level)
    axes.fill_between(grid, lower, upper, color=colour, alpha=0.18, linewidth=0.0)
    axes.plot(grid, np.exp(np.median(line, axis=0)), color=colour, linewidth=0.9)
    low, high = (float(end) for end in interval(slope, series.level))
    axes.annotate(
        f"slope {interval_text(float(np.median(slope)), low, high)}",
        (0.0, 1.0),
        xycoords="axes fraction",
        xytext=(2.0, -2.0),
        textcoords="offset points",
        va="top",
        fontsize=SMALL - 1.0,
        color=INK,
    )
