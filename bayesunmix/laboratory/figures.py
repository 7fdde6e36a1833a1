"""Figures of a study: ranks inside their band, coverage at every level, and the power of detection."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesunmix.laboratory.assessment import FALSE_ALARMS, Assessment
from bayesunmix.laboratory.coverage import LEVELS, share_limits
from bayesunmix.laboratory.ranks import band, ecdf
from bayesunmix.plot.style import (
    GREY,
    INK,
    hide_frame,
    new_figure,
    phase_colour,
    place_axes,
    place_text,
    styled,
)

_COLUMN_MM, _PLOT_MM, _LEFT_MM = 60.0, 42.0, 14.0
_ROWS_MM = (14.0, 66.0)
# Lines that leave their band are named in the legend, so many of them.
_NAMED = 6


@styled
def plot_power(decisions: pd.DataFrame) -> Figure:
    """Draw how often an element is detected against how much of it there is, phase by phase.

    Parameters
    ----------
    decisions
        Columns phase, ppm, replicates, share, lower and upper, as `bayesunmix.laboratory.assessment.decisions`
        counts them.

    Returns
    -------
    matplotlib.figure.Figure
        One curve a phase, with the limits of each share; true zeros stand at the left end.
    """
    figure = new_figure(66.0, 110.0)
    axes = place_axes(figure, 14.0, 6.0, 90.0, 48.0)
    amounts = decisions.loc[decisions["ppm"] > 0.0, "ppm"]
    zero = 0.4 * float(amounts.min()) if len(amounts) else 1.0
    for number, (phase, rows) in enumerate(decisions.sort_values("ppm").groupby("phase", sort=False)):
        place = np.maximum(rows["ppm"].to_numpy(), zero) * 1.05**number
        colour = phase_colour(number)
        axes.vlines(place, rows["lower"], rows["upper"], color=colour, linewidth=0.8)
        axes.plot(place, rows["share"], "o-", color=colour, markersize=3.0, label=str(phase))
    axes.axhline(FALSE_ALARMS, color=GREY, linewidth=0.6, linestyle="--")
    axes.set_xscale("log")
    ticks = [zero, *sorted(set(amounts))]
    axes.set_xticks(ticks, ["0", *(f"{amount:g}" for amount in ticks[1:])])
    axes.minorticks_off()
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("true amount (atomic ppm)")
    axes.set_ylabel("share detected")
    axes.legend(loc="upper left")
    hide_frame(axes, "top", "right")
    return figure


@styled
def plot_assessment(studies: Mapping[str, Assessment]) -> Figure:
    """Draw ranks and coverage of several engines side by side.

    Parameters
    ----------
    studies
        Verdict by the name of the engine.

    Returns
    -------
    matplotlib.figure.Figure
        Above, the ECDF of the ranks of each quantity minus that of uniform ones, with the simultaneous 95 % band of one
        quantity (dark) and of all (light); lines that leave the latter are coloured and named. Below, the share of
        intervals that hold the truth against their level.
    """
    figure = new_figure(112.0, max(_COLUMN_MM * len(studies), 2.0 * _COLUMN_MM))
    for column, (name, study) in enumerate(studies.items()):
        left = _LEFT_MM + column * _COLUMN_MM
        replicates = study.long["replicate"].nunique()
        lost = f"; {len(study.failures)} replicates failed" if study.failures else ""
        verdict = f"{len(study.failing())} of {len(study.table)} quantities outside{lost}"
        place_text(figure, left, 5.0, f"{name}: {replicates} replicates", weight="bold", va="top")
        place_text(figure, left, 9.0, verdict, color=GREY, va="top")
        _ranks(place_axes(figure, left, _ROWS_MM[0], _PLOT_MM, _PLOT_MM - 4.0), study, labelled=column == 0)
        _coverage(
            place_axes(figure, left, _ROWS_MM[1], _PLOT_MM, _PLOT_MM - 4.0), study, labelled=column == 0
        )
    return figure


def _ranks(axes: Axes, study: Assessment, *, labelled: bool) -> None:
    """ECDF of each quantity's ranks minus the diagonal."""
    failing = study.failing()
    groups = {
        str(name): group["rank"].to_numpy() for name, group in study.long.groupby("quantity", sort=False)
    }
    n = max((len(ranks) for ranks in groups.values()), default=0)
    if n < 2:
        axes.set_axis_off()
        return
    for level, shade in ((1.0 - FALSE_ALARMS / len(groups), "#ececec"), (1.0 - FALSE_ALARMS, "#d4d4d4")):
        limits = band(n, level)
        z = limits.position
        axes.fill_between(z, limits.lower - z, limits.upper - z, color=shade, linewidth=0.0)
    named = 0
    for name, ranks in groups.items():
        z = band(len(ranks)).position
        off = name in failing
        label = name if off and named < _NAMED else None
        colour = phase_colour(1 + named) if off else INK
        axes.plot(
            z,
            ecdf(ranks) - z,
            color=colour,
            label=label,
            linewidth=1.1 if off else 0.4,
            alpha=1.0 if off else 0.6,
        )
        named += off
    axes.set_xlim(0.0, 1.0)
    axes.set_xlabel("rank of the truth")
    if labelled:
        axes.set_ylabel("ECDF minus uniform")
    if named:
        axes.legend(loc="upper left", fontsize=5.0, handlelength=1.0, labelspacing=0.2)
    hide_frame(axes, "top", "right")


def _coverage(axes: Axes, study: Assessment, *, labelled: bool) -> None:
    """Share of intervals that hold the truth, each quantity thin and all of them with their limits."""
    level = np.array(LEVELS)
    columns = [f"coverage_{100.0 * x:g}" for x in LEVELS]
    axes.plot([0.4, 1.0], [0.4, 1.0], color=GREY, linewidth=0.6, linestyle="--")
    for row in study.table[columns].to_numpy():
        axes.plot(level, row, color=INK, linewidth=0.3, alpha=0.4)
    # Quantities of one replicate are correlated: limits as if the replicates alone counted.
    replicates = study.long["replicate"].nunique()
    for x in LEVELS:
        held, of = study.coverage(x)
        share = held / max(of, 1)
        low, high = share_limits(round(share * replicates), replicates) if replicates else (0.0, 1.0)
        axes.plot([x, x], [low, high], color=phase_colour(0), linewidth=1.4)
        axes.plot(x, share, "o", color=phase_colour(0), markersize=3.0)
    axes.set_xlim(0.45, 1.0)
    axes.set_ylim(0.2, 1.02)
    axes.set_xticks(level, [f"{100.0 * x:g}" for x in LEVELS])
    axes.set_xlabel("level of the interval (%)")
    if labelled:
        axes.set_ylabel("share that holds the truth")
    hide_frame(axes, "top", "right")
