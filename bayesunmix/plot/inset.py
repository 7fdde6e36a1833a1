"""A few energies of an endmember, such as those around a trace line, on a linear axis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from bayesunmix.plot.choices import Window
from bayesunmix.plot.labels import named_lines
from bayesunmix.plot.style import GREY, INK, SMALL, FloatArray

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def draw_inset(
    axes: Axes,
    edges: FloatArray,
    bands: Mapping[str, FloatArray],
    near: Window,
    colour: str,
    counts: FloatArray | None = None,
) -> None:
    """Draw a spectrum with its band between two energies.

    Parameters
    ----------
    axes
        Where.
    edges : (energy + 1,)
        Of the channels, in keV.
    bands
        ``mean``, ``lower`` and ``upper``, each (energy,).
    near
        The two energies in keV.
    colour
        Of the phase.
    counts : (energy,), optional
        Drawn as stairs beside it, in the same unit.
    """
    middle = 0.5 * (edges[1:] + edges[:-1])
    # Windows narrower than a channel hold no middle of one.
    inside = (edges[1:] > near[0]) & (edges[:-1] < near[1])
    shown = dict(bands) if counts is None else {**bands, "counts": counts}
    highest = float(np.nanmax(shown["upper"][inside], initial=0.0))
    power = int(np.floor(np.log10(highest))) if highest > 0.0 else 0
    scaled = {name: np.nan_to_num(one) / 10.0**power for name, one in shown.items()}
    if counts is not None:
        axes.stairs(scaled["counts"], edges, color=INK, linewidth=0.4, alpha=0.6, baseline=None)
    axes.fill_between(middle, scaled["lower"], scaled["upper"], color=colour, alpha=0.3, linewidth=0.0)
    axes.plot(middle, scaled["mean"], color=colour, linewidth=1.0)
    top = max(float(np.max(one[inside])) for one in scaled.values())
    axes.set_xlim(*near)
    axes.set_ylim(0.0, 1.25 * top if top > 0.0 else 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    if power:
        axes.set_title(f"× 10{str(power).translate(_RAISED)}", loc="left", fontsize=SMALL, pad=2.0)


def name_inset(axes: Axes, lines: xr.Dataset, near: Window) -> None:
    """Mark the strongest lines between two energies."""
    low, high = axes.get_ylim()
    placed: list[float] = []
    for line in named_lines(lines, *near):
        if any(abs(line.energy_keV - other) < 0.08 * (near[1] - near[0]) for other in placed):
            continue
        colour = GREY if line.stray else INK
        placed.append(line.energy_keV)
        axes.axvline(line.energy_keV, color=GREY, linewidth=0.5, linestyle=":")
        axes.text(
            line.energy_keV,
            high,
            line.text,
            rotation=90,
            ha="right",
            va="top",
            fontsize=SMALL - 0.5,
            color=colour,
        )
    axes.set_ylim(low, high)
