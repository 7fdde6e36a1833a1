"""Names of X-ray lines over a spectrum, spread so that none covers another."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, MaxNLocator

from bayesunmix.plot.style import GREY, INK, SMALL, FloatArray, axes_mm
from bayesunmix.results.tables import STATED

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

BAND_MM = 13.0
"""Height that the names take at the top of the axes."""

_SPACING_MM = 2.6
_LEADER_MM = 3.0
# A line is named when its peak stands out from the valleys beside it by this factor.
_PROMINENCE = 1.03
# Response and binning shift a peak by no more than this; its valleys lie within the second distance.
_PEAK_KEV = 0.03
_VALLEY_KEV = 0.35


class LineName(NamedTuple):
    """One name to write: the element, the text, the line's energy, and whether the element is stray."""

    element: str
    text: str
    energy_keV: float
    stray: bool


def named_lines(lines: xr.Dataset, low: float, high: float) -> list[LineName]:
    """Return the strongest line of every family of every element between two energies in keV.

    Parameters
    ----------
    lines
        Group ``lines`` of a result, with dimension line.
    low, high
        Energies in keV.
    """
    strongest: dict[tuple[str, str, bool], tuple[float, float]] = {}
    columns = (lines[name].values for name in ("element", "family", "stray", "strength_share", "energy_keV"))
    for element, family, stray, share, energy in zip(*columns, strict=True):
        key = (str(element), str(family), bool(stray))
        if low <= energy <= high and float(share) > strongest.get(key, (0.0, 0.0))[0]:
            strongest[key] = (float(share), float(energy))
    names = [
        LineName(element, f"{element} {family}α", energy, stray)
        for (element, family, stray), (_, energy) in strongest.items()
    ]
    return sorted(names, key=lambda name: name.energy_keV)


def held_elements(result: Result, phase: str | None = None) -> set[str]:
    """Return the elements whose lines are named: those found, and what has lines and is in no composition.

    That is oxygen which comes with the cations: its line is fitted, and was not looked for.

    Parameters
    ----------
    result
        The result of a run.
    phase
        Those of one phase; of any by default.
    """
    table, lines = result.summary(), result.tree["lines"].dataset
    own = table if phase is None else table[table["phase"] == phase]
    found = {str(element) for element in own["element"][own["detected"].isin(STATED)]}
    fitted = {str(element) for element in lines["element"].values[~lines["stray"].values.astype(bool)]}
    return found | (fitted - set(result.elements) if found else set())


def visible_lines(
    lines: xr.Dataset,
    window: tuple[float, float],
    energy: FloatArray,
    spectrum: FloatArray,
    elements: Collection[str],
) -> list[LineName]:
    """Return the lines of `named_lines` that make a peak in a spectrum; the parameters are those of `name_lines`."""
    return [
        name
        for name in named_lines(lines, *window)
        if (name.stray or name.element in elements)
        and prominence(energy, spectrum, name.energy_keV) >= _PROMINENCE
    ]


def prominence(energy: FloatArray, spectrum: FloatArray, at: float) -> float:
    """Return by what factor the peak at an energy stands above the higher of the valleys on its two sides.

    A valley is searched from the peak down to where the spectrum rises above the peak again, so that the flank of a
    stronger line has prominence 1.

    Parameters
    ----------
    energy, spectrum
        Energies in keV, ascending, and values, both (energy,).
    at
        Energy of the line in keV.
    """
    top = _peak_index(energy, spectrum, at)
    peak = float(spectrum[top])
    left = spectrum[(energy < energy[top]) & (energy >= at - _VALLEY_KEV)][::-1]
    right = spectrum[(energy > energy[top]) & (energy <= at + _VALLEY_KEV)]
    floor = max(_valley(side, peak) for side in (left, right))
    return peak / floor if floor > 0.0 else 1.0


def _valley(side: FloatArray, peak: float) -> float:
    """Lowest value on the way from a peak outwards, before the spectrum climbs above it."""
    higher = np.flatnonzero(side > peak)
    return float(np.min(side[: higher[0] if higher.size else side.size], initial=peak))


def _peak_index(energy: FloatArray, spectrum: FloatArray, at: float) -> int:
    """Index of the highest value beside an energy, in wide bins that of the nearest one and its neighbours."""
    nearest = int(np.argmin(np.abs(energy - at)))
    window = np.flatnonzero(np.abs(energy - at) <= _PEAK_KEV)
    # A peak between two bins may be higher in the one that its energy does not lie in.
    beside = np.arange(max(nearest - 1, 0), min(nearest + 2, len(energy)))
    window = np.union1d(window, beside[np.abs(energy[beside] - at) <= _VALLEY_KEV / 2.0])
    return int(window[np.argmax(spectrum[window])]) if window.size else nearest


def spread(wanted: Sequence[float], spacing: float, low: float, high: float) -> FloatArray:
    """Move ascending positions apart as little as possible, in the sense of least squares.

    With y_i = position_i - i * spacing the problem is isotonic regression, solved by pooling neighbours (Barlow et al.,
    Statistical Inference under Order Restrictions, 1972).

    Parameters
    ----------
    wanted
        Ascending positions.
    spacing
        Smallest distance between neighbours; less where they would not fit.
    low, high
        Ends of the room there is.
    """
    count = len(wanted)
    if count > 1:
        spacing = min(spacing, (high - low) / (count - 1))
    offsets = spacing * np.arange(count)
    pools: list[tuple[float, int]] = []
    for value in np.asarray(wanted, dtype=np.float64) - offsets:
        pools.append((float(value), 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (first, left), (second, right) = pools[-2:]
            pools[-2:] = [((first * left + second * right) / (left + right), left + right)]
    flat = np.repeat([value for value, _ in pools], [size for _, size in pools])
    # Isotonic regression under bounds is the free solution clipped to them.
    clipped: FloatArray = np.clip(flat, low, max(high - spacing * (count - 1), low)) + offsets
    return clipped


def log_limits(axes: Axes, low: float, peak: float) -> None:
    """Make the y axis logarithmic from `low`, with room for the names above `peak`."""
    height = axes_mm(axes)[1]
    axes.set_yscale("log")
    axes.set_ylim(low, low * (peak / low) ** (height / (height - BAND_MM)))
    decades = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(peak)) + 1.0)
    between = np.outer(10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(peak))), np.arange(2, 10))
    axes.yaxis.set_major_locator(FixedLocator(list(decades)))
    axes.yaxis.set_minor_locator(FixedLocator([value for value in between.ravel() if low <= value <= peak]))
    axes.spines["left"].set_bounds(low, peak)


def value_limits(axes: Axes, scale: str, low: float, peak: float) -> None:
    """Make the y axis logarithmic from `low`, or linear from 0, with room for the names above `peak`."""
    if scale == "log":
        log_limits(axes, low, peak)
        return
    height = axes_mm(axes)[1]
    axes.set_ylim(0.0, peak * height / (height - BAND_MM))
    ticks = MaxNLocator(6).tick_values(0.0, peak)
    axes.yaxis.set_major_locator(FixedLocator([value for value in ticks if value <= peak]))
    axes.spines["left"].set_bounds(0.0, peak)


def energy_ticks(axes: Axes) -> None:
    """Put ticks at whole energies in keV, no more than fit."""
    axes.xaxis.set_major_locator(MaxNLocator(20, steps=[1, 2, 5, 10]))


def name_lines(
    axes: Axes, lines: xr.Dataset, energy: FloatArray, spectrum: FloatArray, elements: Collection[str]
) -> None:
    """Write the names of the visible lines above a spectrum, each tied to its peak by a thin line.

    Parameters
    ----------
    axes
        Axes with a linear energy axis in keV whose y axis was made by `log_limits` or `value_limits`.
    lines
        Group ``lines`` of a result.
    energy, spectrum
        Energies in keV, ascending, and the values drawn, both (energy,).
    elements
        Elements that may be named; stray ones always may.
    """
    low, high = axes.get_xlim()
    visible = visible_lines(lines, (low, high), energy, spectrum, elements)
    width, height = axes_mm(axes)
    scale = (high - low) / width
    room = int((width - 4.0) / _SPACING_MM)
    tallest = sorted(visible, key=lambda name: -_peak(energy, spectrum, name.energy_keV))[:room]
    names = sorted(tallest, key=lambda name: name.energy_keV)
    places = low + scale * spread(
        [(name.energy_keV - low) / scale for name in names], _SPACING_MM, 2.0, width - 2.0
    )
    foot, knee = (_at_height(axes, height - BAND_MM + up) for up in (0.3, _LEADER_MM))
    for name, place in zip(names, places, strict=True):
        colour = GREY if name.stray else INK
        top = max(_peak(energy, spectrum, name.energy_keV), axes.get_ylim()[0])
        top = top * 1.15 if axes.get_yscale() == "log" else min(top + _at_height(axes, 1.0), foot)
        axes.plot(
            [name.energy_keV, name.energy_keV, place],
            [min(top, foot), foot, knee],
            color=GREY,
            linewidth=0.4,
            alpha=0.7,
            zorder=1,
        )
        axes.text(
            place, knee, f" {name.text}", rotation=90, ha="center", va="bottom", fontsize=SMALL, color=colour
        )


def _peak(energy: FloatArray, spectrum: FloatArray, at: float) -> float:
    return float(spectrum[_peak_index(energy, spectrum, at)])


def _at_height(axes: Axes, height_mm: float) -> float:
    """Value of a y axis at a height in mm above its foot."""
    low, high = axes.get_ylim()
    share = height_mm / axes_mm(axes)[1]
    return float(low * (high / low) ** share if axes.get_yscale() == "log" else low + share * (high - low))
