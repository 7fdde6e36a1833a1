"""What each phase looks like to the detector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesunmix.core.errors import check_choice
from bayesunmix.plot.choices import SCALES, Window, checked_window, chosen_phases
from bayesunmix.plot.inset import draw_inset, name_inset
from bayesunmix.plot.labels import energy_ticks, held_elements, name_lines, value_limits
from bayesunmix.plot.style import (
    GREY,
    WIDTH_MM,
    FloatArray,
    hide_frame,
    new_figure,
    page_mm,
    phase_colour,
    place_axes,
    place_text,
    shorten,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_PANEL_MM = 50.0
_TITLE_MM = 5.0
_INSET_MM, _BESIDE_MM = 42.0, 13.0
# The axis shows this many decades below the highest peak at most.
_DECADES = 5.0


@styled
def spectra_figure(
    result: Result,
    *,
    phases: Sequence[str] | None = None,
    energy_range: Window | None = None,
    scale: str = "log",
    inset: Window | None = None,
) -> Figure:
    """Draw each endmember spectrum with its credible band and the names of its lines.

    Placed by hand: the names are spread over axes whose size in mm must be known before they are drawn.

    Parameters
    ----------
    result
        The result of a run.
    phases
        Phases that are drawn; all by default.
    energy_range
        Energies that are shown, in keV.
    scale
        ``log`` or ``linear``, of the shares.
    inset
        Energies in keV, such as those around a trace line, that are drawn beside each spectrum on a linear axis.

    Returns
    -------
    Figure
        One panel per phase; stray elements are named in grey.

    Raises
    ------
    InputError
        If a phase is none of the result's, or the energies lie outside the fit.
    """
    check_choice("scale", scale, SCALES)
    chosen = chosen_phases(result, phases)
    data = result.tree["endmembers"].dataset
    energy = np.asarray(data["energy"].values, dtype=np.float64)
    bands = {name: data[name].values for name in ("mean", "lower", "upper")}
    fitted = np.flatnonzero((bands["mean"] > 0.0).any(axis=0) & (energy > 0.0))
    whole = float(energy[fitted[0]]), float(energy[fitted[-1]])
    window = checked_window("energy_range", energy_range, whole)
    near = None if inset is None else checked_window("inset", inset, whole)
    row, beside = _TITLE_MM + _PANEL_MM, 0.0 if near is None else _INSET_MM + _BESIDE_MM
    figure = new_figure(len(chosen) * row + 11.0)
    limits = _limits(bands["mean"], (energy >= window[0]) & (energy <= window[1]))
    for number, phase in enumerate(chosen):
        index, last = result.phases.index(phase), number == len(chosen) - 1
        top, wide = number * row + _TITLE_MM, WIDTH_MM - 17.0 - beside
        axes = place_axes(figure, 14.0, top, wide, _PANEL_MM)
        axes.set_xlim(*window)
        value_limits(axes, scale, *limits)
        own = {name: band[index] for name, band in bands.items()}
        _draw(axes, result, phase, energy, own, limits[0] / 10.0 if scale == "log" else 0.0)
        _finish(axes, last)
        if near is not None:
            small = place_axes(figure, 14.0 + wide + _BESIDE_MM, top, _INSET_MM - 2.0, _PANEL_MM)
            step = float(energy[1] - energy[0])
            edges = np.append(energy - step / 2.0, energy[-1] + step / 2.0)
            draw_inset(small, edges, own, near, phase_colour(index))
            name_inset(small, result.tree["lines"].dataset, near)
            axes.axvspan(*near, color=GREY, alpha=0.2, linewidth=0.0)
            _finish(small, last)
    text = f"share of counts per channel, {100.0 * result.level:g} % band"
    place_text(figure, 2.0, page_mm(figure)[1] / 2.0, text, rotation=90, va="center", ha="left")
    return figure


def _limits(means: FloatArray, inside: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Return the ends of the vertical axis for the channels shown, not too many decades apart."""
    shown = means[:, inside] if inside.any() else means
    top = float(np.nanmax(shown))
    low = float(np.nanmin(shown[shown > 0.0])) if (shown > 0.0).any() else top / 10.0
    return max(low / 1.5, top / 10.0**_DECADES), 1.3 * top


def _draw(
    axes: Axes, result: Result, phase: str, energy: FloatArray, bands: dict[str, FloatArray], floor: float
) -> None:
    """Draw one endmember, its band and the names of the lines of the elements that it holds."""
    colour = phase_colour(result.phases.index(phase))
    mean, lower = (np.maximum(bands[name], floor) for name in ("mean", "lower"))
    axes.fill_between(energy, lower, bands["upper"], color=colour, alpha=0.3, linewidth=0.0)
    axes.plot(energy, mean, color=colour, linewidth=0.8)
    found = held_elements(result, phase)
    fitted = np.isfinite(bands["mean"])
    name_lines(axes, result.tree["lines"].dataset, energy[fitted], bands["mean"][fitted], found)
    axes.set_title(shorten(phase, 60), loc="left", pad=2.5, fontweight="bold", color=colour)
    energy_ticks(axes)


def _finish(axes: Axes, last: bool) -> None:
    """Write energies below the last panel alone."""
    axes.tick_params(labelbottom=last)
    hide_frame(axes, "top", "right")
    if last:
        axes.set_xlabel("energy (keV)")
