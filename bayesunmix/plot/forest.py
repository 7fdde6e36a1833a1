"""Pieces of the forest plots: a point with its interval, or an arrow where only a bound is known."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

from bayesunmix.plot.style import PALE, hide_frame

_MARKER = 3.2
# An axis reaches at most this many decades beyond the points for an end of an interval.
_REACH = 2.0
# One number below the axis takes this much room; below this span 1, 2 and 5 of a decade are written.
_NUMBER_MM, _FINE = 8.5, 30.0


def draw_interval(axes: Axes, y: float, value: float, lower: float, upper: float, colour: str) -> None:
    """Draw a point and its interval; an end beyond the axis is an arrow at its edge, but one at zero, which has none.

    Without an interval the point stands alone.
    """
    left, right = axes.get_xlim()
    if np.isfinite(upper):
        ends = [max(lower, left), min(upper, right)]
        axes.plot(ends, [y, y], color=colour, linewidth=1.4, solid_capstyle="butt")
        inset = (right / left) ** 0.012
        for beyond, place, marker in (
            (0.0 < lower < left, left * inset, "<"),
            (upper > right, right / inset, ">"),
        ):
            if beyond:
                axes.plot(place, y, marker, color=colour, markersize=3.0)
    if value > left:
        axes.plot(value, y, "o", color=colour, markersize=_MARKER, clip_on=value > right)


def draw_bound(axes: Axes, y: float, bound: float, kind: str, colour: str) -> None:
    """Draw a bound as a bar at its place and an arrow: to the left for ``upper``, to the right for ``lower``."""
    if not np.isfinite(bound):
        return
    low, high = axes.get_xlim()
    factor = (high / low) ** 0.07
    away, marker = (bound / factor, "<") if kind == "upper" else (bound * factor, ">")
    axes.plot([away, bound], [y, y], color=colour, linewidth=0.8)
    # What lies on the edge of the axes, as 100 % does, is drawn whole.
    axes.plot(
        bound, y, "|", color=colour, markersize=5.0, markeredgewidth=1.2, clip_on=not low <= bound <= high
    )
    axes.plot(away, y, marker, color=colour, markersize=3.0, markerfacecolor="white", markeredgewidth=0.8)


def log_axis(
    axes: Axes,
    values: Iterable[float],
    ends: Iterable[float] = (),
    most: float = np.inf,
    *,
    width_mm: float = 120.0,
) -> None:
    """Give the x axis a logarithmic scale that holds the positive ones of some values.

    Parameters
    ----------
    axes
        Of the plot.
    values
        What must be seen.
    ends
        Ends of intervals: the axis follows them for so many decades as leave the rest readable.
    most
        Where the axis may end, if nothing lies beyond.
    width_mm
        About how wide the axes are: no more numbers stand below them than have room.
    """
    usable = [value for value in values if np.isfinite(value) and value > 0.0] or [0.1, 10.0]
    reach = 10.0**_REACH
    usable += [
        min(max(end, min(usable) / reach), max(usable) * reach)
        for end in ends
        if np.isfinite(end) and end > 0.0
    ]
    low, high = min(usable) / 2.0, min(max(usable) * 1.5, max(most, max(usable)))
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    decades = np.log10(high / low)
    axes.xaxis.set_major_locator(FixedLocator(_numbers(low, high, int(width_mm / _NUMBER_MM))))
    if decades < 6.0:
        axes.xaxis.set_minor_locator(LogLocator(10.0, [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], numticks=99))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _numbers(low: float, high: float, room: int) -> list[float]:
    """Return at most `room` round numbers: 1, 2, 5 of each decade, whole decades, or every so many of them."""
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    fine = [step * 10.0**power for power in range(first, last + 1) for step in (1.0, 2.0, 5.0)]
    inside = [value for value in fine if low <= value <= high]
    if len(inside) <= room and high / low < _FINE:
        return inside
    powers = [power for power in range(first, last + 1) if low <= 10.0**power <= high]
    stride = int(np.ceil(len(powers) / max(room, 1)))
    # Those that are a whole number of strides from 1, which stands where it can.
    return [10.0**power for power in powers if power % stride == 0]


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
