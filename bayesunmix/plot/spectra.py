"""What each phase looks like to the detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from bayesunmix.plot.labels import energy_ticks, log_limits, name_lines
from bayesunmix.plot.style import (
    WIDTH_MM,
    hide_frame,
    new_figure,
    page_mm,
    phase_colour,
    place_axes,
    place_text,
    shorten,
    styled,
)
from bayesunmix.results.tables import STATED

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_PANEL_MM = 50.0
_TITLE_MM = 5.0
# The axis shows this many decades below the highest peak at most.
_DECADES = 5.0


@styled
def spectra_figure(result: Result) -> Figure:
    """Draw each endmember spectrum on a logarithmic axis with its credible band and the names of its lines.

    Placed by hand: the names are spread over axes whose size in mm must be known before they are drawn.

    Parameters
    ----------
    result
        The result of a run.

    Returns
    -------
    Figure
        One panel per phase; stray elements are named in grey.
    """
    data = result.tree["endmembers"].dataset
    lines = result.tree["lines"].dataset
    table = result.summary()
    found = table[table["detected"].isin(STATED)]
    energy = np.asarray(data["energy"].values, dtype=np.float64)
    row = _TITLE_MM + _PANEL_MM
    figure = new_figure(len(result.phases) * row + 11.0)
    means = data["mean"].values
    shown = np.flatnonzero((means > 0.0).any(axis=0) & (energy > 0.0))
    top = float(np.nanmax(means))
    low = max(float(np.nanmin(means[means > 0.0])) / 1.5, top / 10.0**_DECADES)
    for index, phase in enumerate(result.phases):
        axes = place_axes(figure, 14.0, index * row + _TITLE_MM, WIDTH_MM - 17.0, _PANEL_MM)
        axes.set_xlim(energy[shown[0]], energy[shown[-1]])
        log_limits(axes, low, 1.3 * top)
        colour = phase_colour(index)
        lower = np.maximum(data["lower"].values[index], low / 10.0)
        axes.fill_between(energy, lower, data["upper"].values[index], color=colour, alpha=0.3, linewidth=0.0)
        axes.plot(energy, np.maximum(means[index], low / 10.0), color=colour, linewidth=0.8)
        energy_ticks(axes)
        name_lines(
            axes, lines, energy[shown], means[index][shown], set(found["element"][found["phase"] == phase])
        )
        axes.set_title(shorten(phase, 60), loc="left", pad=2.5, fontweight="bold", color=colour)
        axes.tick_params(labelbottom=index == len(result.phases) - 1)
        hide_frame(axes, "top", "right")
    axes.set_xlabel("energy (keV)")
    place_text(
        figure,
        2.0,
        page_mm(figure)[1] / 2.0,
        f"share of counts per channel, {100.0 * result.level:g} % band",
        rotation=90,
        va="center",
        ha="left",
    )
    return figure
