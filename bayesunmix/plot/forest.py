"""Pieces of the forest plots: a point with its interval, or an arrow where only a bound is known."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bayesunmix.plot.style import PALE, hide_frame

_MARKER = 3.2


def draw_interval(axes: Axes, y: float, value: float, lower: float, upper: float, colour: str) -> None:
    """Draw a point and its interval; an end at zero runs to the edge. Without an interval the point stands alone."""
    left = axes.get_xlim()[0]
    if np.isfinite(upper):
        axes.plot([max(lower, left), upper], [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
    if value > left:
        axes.plot(value, y, "o", color=colour, markersize=_MARKER)


def draw_bound(axes: Axes, y: float, bound: float, kind: str, colour: str) -> None:
    """Draw a bound as a bar at its place and an arrow: to the left for ``upper``, to the right for ``lower``."""
    if not np.isfinite(bound):
        return
    low, high = axes.get_xlim()
    factor = (high / low) ** 0.07
    away, marker = (bound / factor, "<") if kind == "upper" else (bound * factor, ">")
    axes.plot([away, bound], [y, y], color=colour, linewidth=0.8)
    axes.plot(bound, y, "|", color=colour, markersize=5.0, markeredgewidth=1.2)
    axes.plot(away, y, marker, color=colour, markersize=3.0, markerfacecolor="white", markeredgewidth=0.8)


def log_axis(axes: Axes, values: Iterable[float], most: float = np.inf) -> None:
    """Give the x axis a logarithmic scale that holds the positive ones of some values."""
    usable = [value for value in values if np.isfinite(value) and value > 0.0] or [0.1, 10.0]
    low, high = min(usable) / 2.0, min(max(usable) * 1.5, max(most, max(usable)))
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    decades = np.log10(high / low)
    axes.xaxis.set_major_locator(LogLocator(10.0, (1.0,) if decades > 1.5 else (1.0, 2.0, 5.0), numticks=8))
    if decades < 6.0:
        axes.xaxis.set_minor_locator(LogLocator(10.0, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], numticks=99))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def stripe_rows(axes: Axes, names: list[str], height: float) -> None:
    """Name equally high rows from the top down and shade every other one."""
    for index in range(0, len(names), 2):
        axes.axhspan((index - 0.5) * height, (index + 0.5) * height, color=PALE, linewidth=0.0, zorder=0)
    axes.set_yticks([index * height for index in range(len(names))], names)
    axes.set_ylim((len(names) - 0.5) * height, -0.5 * height)
    axes.tick_params(axis="y", length=0.0)
    axes.grid(axis="x", which="major", color="#dcdcdc", linewidth=0.4, zorder=0)
    axes.set_axisbelow(True)
    hide_frame(axes, "top", "right", "left")
