"""Onuma diagram: partition coefficients over ionic radius, one colour for each charge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bayesunmix.chemistry.ionic_radii import ESTIMATED
from bayesunmix.core.credible import interval
from bayesunmix.plot.style import (
    GREY,
    SMALL,
    darken,
    panel_figure,
    phase_colour,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.analysis.onuma import Onuma

_WIDTH_MM, _HEIGHT_MM = 120.0, 88.0
_NOTE_MM = 3.2
_MARGIN_A = 0.08
_GRID = 121


@styled
def onuma_figure(diagram: Onuma) -> Figure:
    """Draw D with its interval over ionic radius, and the lattice strain curves where they were fitted.

    Parameters
    ----------
    diagram
        What `bayesunmix.analysis.onuma.onuma` returns.

    Returns
    -------
    Figure
        Open symbols: the radius is estimated; triangles: bounds; curves with bands: fitted model.
    """
    notes = _notes(diagram)
    figure, (axes,) = panel_figure(_HEIGHT_MM + _NOTE_MM * len(notes), _WIDTH_MM)
    axes.set_title(f"{diagram.numerator} / {diagram.denominator}", loc="left", pad=4.0, fontweight="bold")
    axes.set_xlabel(f"ionic radius in {diagram.coordination}-fold coordination (Å)")
    axes.set_ylabel("partition coefficient D")
    axes.set_yscale("log")
    table = diagram.table[diagram.table["kind"] != "undetermined"] if len(diagram.table) else diagram.table
    for row in table.itertuples():
        _draw_point(axes, row, _colour(row.valence))
    limits = axes.get_ylim()
    for fit in diagram.fits:
        radii = table.loc[table["element"].isin(fit.elements), "radius_A"]
        low, high = radii.min() - _MARGIN_A, radii.max() + _MARGIN_A
        grid = np.linspace(min(low, float(np.median(fit.site_radius_A))), high, _GRID)
        assert diagram.temperature_K is not None
        curves = fit.curve(grid, diagram.temperature_K)
        lower, upper = interval(curves, diagram.level)
        colour = _colour(fit.valence)
        axes.fill_between(grid, lower, upper, color=colour, alpha=0.15, linewidth=0.0)
        axes.plot(grid, np.median(curves, axis=0), color=colour, linewidth=0.9)
    axes.set_ylim(limits[0] / 2.0, limits[1] * 2.0)
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle=(0, (4, 2)), zorder=0)
    handles = [
        Line2D([], [], color=_colour(valence), marker="o", linestyle="", markersize=4.0, label=f"{valence}+")
        for valence in sorted(set(table["valence"]) if len(table) else ())
    ]
    if handles:
        axes.legend(handles=handles, loc="best", title="charge", title_fontsize=SMALL)
    figure.supxlabel("\n".join(notes), x=0.025, ha="left", fontsize=SMALL - 1.0)
    return figure


def _notes(diagram: Onuma) -> list[str]:
    first = f"Radii: Shannon (1976); open symbols: estimated. {100 * diagram.level:g} % intervals."
    if diagram.fits:
        first += f" Curves: lattice strain model at {diagram.temperature_K:g} K."
    return [first, *diagram.notes]


def _colour(valence: int) -> str:
    return phase_colour(valence - 1)


def _draw_point(axes: Axes, row: Any, colour: str) -> None:  # noqa: ANN401
    face = "white" if row.radius_source == ESTIMATED else colour
    if row.radius_sd_A > 0.0:
        place = row.median if row.kind == "interval" else (row.upper if row.kind == "upper" else row.lower)
        ends = [row.radius_A - row.radius_sd_A, row.radius_A + row.radius_sd_A]
        axes.plot(ends, [place, place], color=colour, linewidth=0.6)
    if row.kind == "interval":
        axes.plot([row.radius_A] * 2, [row.lower, row.upper], color=colour, linewidth=1.2)
        axes.plot(row.radius_A, row.median, "o", color=colour, markersize=4.0, markerfacecolor=face)
        top = row.upper
    else:
        top, marker = (row.upper, "v") if row.kind == "upper" else (row.lower, "^")
        axes.plot(row.radius_A, top, marker, color=colour, markersize=4.5, markerfacecolor=face)
    label = axes.annotate(
        row.element,
        (row.radius_A, top),
        xytext=(0.0, 2.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=SMALL + 0.5,
        color=darken(colour),
    )
    label.set_path_effects([patheffects.withStroke(linewidth=1.8, foreground="white")])
