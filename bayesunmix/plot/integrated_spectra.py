"""What the counts of each phase's pixels look like beside its endmember, with a window on a trace line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from bayesunmix.analysis.joint_draws import joint_draws
from bayesunmix.plot.choices import Window, checked_window, chosen_phases
from bayesunmix.plot.inset import draw_inset, name_inset
from bayesunmix.plot.labels import BAND_MM, energy_ticks, held_elements, log_limits, name_lines
from bayesunmix.plot.region_spectra import bin_edges
from bayesunmix.plot.style import (
    GREY,
    SMALL,
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
from bayesunmix.results.map_counts import AnyMap

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_LEFT_MM, _TITLE_MM, _PANEL_MM, _BELOW_MM = 14.0, 5.0, 36.0 + BAND_MM, 11.0
_INSET_MM, _BESIDE_MM = 42.0, 15.0
_DECADES = 4.0


@styled
def integrated_spectra_figure(
    result: Result,
    *,
    inset: Window | None = None,
    phases: Sequence[str] | None = None,
    energy_range: Window | None = None,
    image: AnyMap | None = None,
) -> Figure:
    """Draw for each phase the counts of all pixels, each weighted by the phase's share in it, and the endmember.

        v_kc = sum_p a_pk y_pc / sum_p a_pk sum_c y_pc

    with a the mean share of the counts: in the fitted bins, and channel by channel in the window. The two differ by
    what other phases hold in the same pixels.

    Parameters
    ----------
    result
        The result of a run.
    inset
        Energies in keV, such as those around a trace line, that are drawn beside each spectrum on a linear axis, with
        the endmember's credible band.
    phases
        Phases that are drawn; all by default.
    energy_range
        Energies of the whole spectra, in keV.
    image
        The map, where its file is gone.

    Returns
    -------
    Figure
        180 mm wide, shares of the counts per keV, one panel for each phase.
    """
    source = joint_draws(result, image)
    names = chosen_phases(result, phases)
    edges = source.image.channel_edges_keV
    whole = float(edges[0]), float(edges[-1])
    window = checked_window("energy_range", energy_range, whole)
    near = None if inset is None else checked_window("inset", inset, whole)
    weighted = source.weighted_spectra(np.nan_to_num(result.tree["maps"].dataset["count_share"].values))
    first, last = (int(number) for number in source.stored.attrs["channels"])
    data = result.tree["endmembers"].dataset.isel(energy=slice(first, last))
    step = source.image.energy_step_keV
    weighted /= step
    bands = {name: np.asarray(data[name].values, np.float64) / step for name in ("mean", "lower", "upper")}
    row = _TITLE_MM + _PANEL_MM
    figure = new_figure(len(names) * row + _BELOW_MM)
    beside = 0.0 if near is None else _INSET_MM + _BESIDE_MM
    wide = WIDTH_MM - _LEFT_MM - 3.0 - beside
    middle = 0.5 * (edges[1:] + edges[:-1])
    inside = (middle >= window[0]) & (middle <= window[1])
    starts, bins = source.starts, bin_edges(source)
    binned = np.add.reduceat(weighted * step, starts, axis=1) / np.diff(bins)
    top = max(float(weighted[:, inside].max()), float(np.nanmax(bands["mean"][:, inside])))
    for number, name in enumerate(names):
        index = result.phases.index(name)
        axes = place_axes(figure, _LEFT_MM, number * row + _TITLE_MM, wide, _PANEL_MM)
        axes.set_xlim(*window)
        log_limits(axes, top / 10.0**_DECADES, 1.3 * top)
        mean = bands["mean"][index]
        axes.stairs(binned[index], bins, color=GREY, linewidth=0.6, baseline=None)
        axes.plot(middle, mean, color=phase_colour(index), linewidth=0.9)
        held = held_elements(result, name)
        name_lines(axes, result.tree["lines"].dataset, middle[inside], mean[inside], held)
        energy_ticks(axes)
        axes.set_title(shorten(name, 40), loc="left", pad=2.5, fontweight="bold", color=phase_colour(index))
        if number == 0:
            axes.set_title("grey: counts weighted by abundance; line: endmember", loc="right", fontsize=SMALL)
        hide_frame(axes, "top", "right")
        axes.tick_params(labelbottom=number == len(names) - 1)
        if near is not None:
            box = _LEFT_MM + wide + _BESIDE_MM, number * row + _TITLE_MM, _INSET_MM - 2.0, _PANEL_MM
            small = place_axes(figure, *box)
            values = {key: band[index] for key, band in bands.items()}
            draw_inset(small, edges, values, near, phase_colour(index), weighted[index])
            name_inset(small, result.tree["lines"].dataset, near)
            small.tick_params(labelbottom=number == len(names) - 1)
            axes.axvspan(*near, color=GREY, alpha=0.2, linewidth=0.0)
    axes.set_xlabel("energy (keV)")
    if near is not None:
        small.set_xlabel("energy (keV)")
    text = "share of the counts per keV"
    place_text(figure, 1.5, page_mm(figure)[1] / 2.0, text, rotation=90, va="center", ha="left")
    return figure
