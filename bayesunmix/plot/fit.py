"""Whether the model describes the counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesunmix.core.errors import check_choice
from bayesunmix.data.image import WHOLE_MAP
from bayesunmix.plot.choices import SCALES, Window, checked_window, chosen_phases
from bayesunmix.plot.labels import energy_ticks, held_elements, name_lines, value_limits
from bayesunmix.plot.style import (
    GREY,
    INK,
    PALE,
    SMALL,
    WIDTH_MM,
    FloatArray,
    hide_frame,
    legend_mm,
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

_LEFT_MM = 15.0
_SPECTRUM_MM = 66.0
_RESIDUAL_MM = 17.0
_GAP_MM = 2.5
_NOTE_MM = 4.5
_LEGEND_COLUMNS = 6
_MODEL = "#D55E00"
LEAST_EXPECTED = 5.0
"""Bins are added up until so many counts are expected: below, residuals are far from normal (W. G. Cochran, Biometrics
10, 417, 1954, https://doi.org/10.2307/3001616)."""

# A spectrum with fewer such bins says nothing about its shape.
_LEAST_BINS = 20
# Residuals beyond this many sigma are drawn at the edge.
_EDGE_SIGMA = 6.0
# Numbers closer than this share of the axis go to different heights.
_NUMBER_WIDTH, _LEVELS = 0.015, 3


class Residuals(NamedTuple):
    """Residuals `values` (group,) of groups of neighbouring bins, each of which begins at bin `starts` (group,)."""

    starts: npt.NDArray[np.int64]
    values: FloatArray


@styled
def fit_figure(
    result: Result,
    *,
    energy_range: Window | None = None,
    scale: str = "log",
    phases: Sequence[str] | None = None,
) -> Figure:
    """Draw the sum spectrum, the fitted model with its parts, and the residuals of the map and of each segment.

        r = (observed - expected) / sqrt(expected)

    of bins that are added up until `LEAST_EXPECTED` counts are expected; what is left with few bins says nothing and is
    named instead. Regions whose residuals, pooled over one width of the detector, exceed 4 sigma are shaded and
    numbered as in the report and in ``fit.residuals`` of the run's record.
    Placed by hand: the names of the lines are spread over axes whose size in mm must be known before they are drawn.

    Parameters
    ----------
    result
        The result of a run.
    energy_range
        Energies in keV that are shown; all of the fit by default.
    scale
        ``log`` or ``linear``, of the counts.
    phases
        Phases whose part of the fit and whose pixels' residuals are drawn; all by default.

    Returns
    -------
    Figure
        Counts per keV; below them Pearson residuals in units of their standard deviation, the band reaching from -2
        to 2.

    Raises
    ------
    InputError
        If a phase is none of the result's, or the energies lie outside the fit.
    """
    check_choice("scale", scale, SCALES)
    chosen = chosen_phases(result, phases)
    data = result.tree["fit"].dataset
    above = 3.0 + legend_mm(len(chosen) + 3, _LEGEND_COLUMNS)
    panels, empty = _residual_panels(result, chosen)
    note = _too_few(empty)
    figure = new_figure(
        above + _SPECTRUM_MM + len(panels) * (_RESIDUAL_MM + _GAP_MM) + 11.0 + (_NOTE_MM if note else 0.0)
    )
    low, high = (np.asarray(data[name].values, dtype=np.float64) for name in ("energy_low", "energy_high"))
    edges = np.append(low, high[-1])
    window = checked_window("energy_range", energy_range, (float(edges[0]), float(edges[-1])))
    axes = place_axes(figure, _LEFT_MM, above, WIDTH_MM - _LEFT_MM - 3.0, _SPECTRUM_MM)
    axes.set_xlim(*window)
    _draw_spectrum(axes, result, edges, scale, chosen)
    axes.tick_params(labelbottom=not panels)
    below = axes
    for number, (name, region, colour, residuals) in enumerate(panels):
        top = above + _SPECTRUM_MM + _GAP_MM + number * (_RESIDUAL_MM + _GAP_MM)
        below = place_axes(figure, _LEFT_MM, top, WIDTH_MM - _LEFT_MM - 3.0, _RESIDUAL_MM)
        below.set_xlim(*window)
        ends = np.append(residuals.starts, len(low))
        _draw_residuals(below, residuals.values, (edges[ends[:-1]] + edges[ends[1:]]) / 2.0, colour)
        _mark_regions(below, result, region)
        _name_panel(below, name, residuals.values)
        below.tick_params(labelbottom=number == len(panels) - 1)
    below.set_xlabel("energy (keV)")
    if panels:
        middle = above + _SPECTRUM_MM + _GAP_MM + len(panels) * (_RESIDUAL_MM + _GAP_MM) / 2.0
        place_text(figure, 2.5, middle, "residual (σ)", rotation=90, va="center")
    if note:
        place_text(figure, _LEFT_MM, page_mm(figure)[1] - 1.0, note, va="bottom", fontsize=SMALL)
    return figure


def _residual_panels(
    result: Result, chosen: Sequence[str]
) -> tuple[list[tuple[str, str, str, Residuals]], dict[str, float]]:
    """Return name, spectrum in the record, colour and residuals of what is drawn, and the counts of what is not."""
    data = result.tree["fit"].dataset
    spectra = [(WHOLE_MAP, WHOLE_MAP, INK, data["observed"].values, data["expected"].values)]
    if "segment_observed" in data:
        for phase in chosen:
            index = result.phases.index(phase)
            counts, fit = (data[f"segment_{name}"].values[index] for name in ("observed", "expected"))
            spectra.append((labelled(phase), phase, phase_colour(index), counts, fit))
    panels, empty = [], {}
    for name, region, colour, counts, fit in spectra:
        residuals = pooled_residuals(counts, fit)
        if residuals is None:
            empty[region] = float(np.sum(counts))
        else:
            panels.append((name, region, colour, residuals))
    return panels, empty


def _too_few(empty: Mapping[str, float]) -> str:
    """Say which spectra are too weak for residuals."""
    if not empty:
        return ""
    named = ", ".join(f"{shorten(name, 20)} ({counts:,.0f} counts)" for name, counts in empty.items())
    return f"Too few for residuals: pixels labelled {named}."


def labelled(phase: str) -> str:
    """Name the sum spectrum of a phase's pixels."""
    return f"pixels labelled {phase}"


def pooled_residuals(observed: FloatArray, expected: FloatArray) -> Residuals | None:
    """Return Pearson residuals of neighbouring bins added up until `LEAST_EXPECTED` counts are expected in each group.

    Parameters
    ----------
    observed, expected : (energy,)
        Counts of the bins.

    Returns
    -------
    Residuals or None
        None where fewer groups than can show the shape of a spectrum remain.
    """
    starts, waiting = [0], 0.0
    for index, value in enumerate(expected):
        if waiting >= LEAST_EXPECTED:
            starts.append(index)
            waiting = 0.0
        waiting += float(value)
    # What is left over at the end goes to the group before it.
    if waiting < LEAST_EXPECTED and len(starts) > 1:
        starts.pop()
    if len(starts) < min(_LEAST_BINS, len(expected)) or waiting == 0.0 == float(np.sum(expected)):
        return None
    sums = [np.add.reduceat(np.asarray(values, np.float64), starts) for values in (observed, expected)]
    return Residuals(np.array(starts), pearson_residuals(*sums))


def pearson_residuals(observed: FloatArray, expected: FloatArray) -> FloatArray:
    """Return (observed - expected) / sqrt(expected), zero where nothing is expected."""
    scale = np.sqrt(np.maximum(expected, 0.0))
    residuals: FloatArray = np.divide(observed - expected, scale, out=np.zeros_like(scale), where=scale > 0.0)
    return residuals


def _draw_spectrum(axes: Axes, result: Result, edges: FloatArray, scale: str, phases: Sequence[str]) -> None:
    data, width = result.tree["fit"].dataset, np.diff(edges)
    observed, expected = data["observed"].values / width, data["expected"].values / width
    middle = (edges[:-1] + edges[1:]) / 2.0
    left, right = axes.get_xlim()
    seen = (edges[1:] > left) & (edges[:-1] < right)
    low = float(np.min(expected[seen & (expected > 0.0)], initial=1e300)) / 30.0
    top = float(max(observed[seen].max(), expected[seen].max()))
    value_limits(axes, scale, low, 1.3 * top if scale == "log" else 1.05 * top)
    axes.stairs(observed, edges, fill=True, color="#d4d4d4", baseline=low / 10.0, label="observed")
    for phase in phases:
        index = result.phases.index(phase)
        values = np.maximum(data["expected_by_phase"].values[index] / width, low / 10.0)
        axes.stairs(
            values, edges, color=phase_colour(index), linewidth=0.8, label=shorten(phase, 14), baseline=None
        )
    continuum = np.maximum(data["continuum"].values / width, low / 10.0)
    axes.stairs(
        continuum, edges, color=GREY, linewidth=0.9, linestyle=(0, (3, 1.5)), label="continuum", baseline=None
    )
    axes.stairs(expected, edges, color=INK, linewidth=0.8, label="fitted", baseline=None)
    name_lines(axes, result.tree["lines"].dataset, middle, expected, held_elements(result))
    energy_ticks(axes)
    axes.set_ylabel("counts per keV")
    hide_frame(axes, "top", "right")
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=_LEGEND_COLUMNS,
        borderaxespad=0.1,
        columnspacing=1.4,
    )


def _draw_residuals(axes: Axes, residuals: FloatArray, energy: FloatArray, colour: str) -> None:
    edge = min(max(4.0, float(np.max(np.abs(residuals))) * 1.1), _EDGE_SIGMA)
    axes.axhspan(-2.0, 2.0, color=PALE, linewidth=0.0)
    axes.axhline(0.0, color=GREY, linewidth=0.5)
    inside = np.abs(residuals) < edge
    axes.vlines(energy[inside], 0.0, residuals[inside], color=colour, linewidth=0.4, alpha=0.5)
    axes.plot(energy[inside], residuals[inside], ".", color=colour, markersize=2.0)
    for beyond, marker, y in ((residuals >= edge, "^", 0.93), (residuals <= -edge, "v", -0.93)):
        axes.plot(energy[beyond], np.full(int(beyond.sum()), y * edge), marker, color=_MODEL, markersize=3.0)
    energy_ticks(axes)
    axes.set_ylim(-edge, edge)
    axes.set_yticks([-3.0, 0.0, 3.0])
    hide_frame(axes, "top", "right")


def _mark_regions(axes: Axes, result: Result, spectrum: str) -> None:
    """Shade the regions of one spectrum and write their numbers, one above the other where they would touch."""
    left, right = axes.get_xlim()
    before, level = -np.inf, 0
    fit = result.record.fit
    numbered = enumerate(fit.residuals.regions if fit and fit.residuals else (), start=1)
    marked = [(number, region) for number, region in numbered if region.spectrum == spectrum]
    for number, region in sorted(marked, key=lambda pair: pair[1].energy_keV):
        energy = region.energy_keV
        level = (level + 1) % _LEVELS if energy - before < _NUMBER_WIDTH * (right - left) else 0
        before = energy
        axes.axvspan(region.low_keV, region.high_keV, color=_MODEL, alpha=0.18, linewidth=0.0)
        label = axes.annotate(
            str(number),
            (energy, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(0.0, 0.5 + SMALL * level),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=_MODEL,
        )
        label.set_path_effects([patheffects.withStroke(linewidth=1.6, foreground="white")])


def _name_panel(axes: Axes, name: str, residuals: FloatArray) -> None:
    """Write whose residuals these are and how large they are on the whole; sound ones have a spread of about 1."""
    spread = float(np.sqrt(np.mean(residuals**2)))
    axes.annotate(
        f"{shorten(name, 50)}, root mean square {spread:.2f} σ",
        (1.0, 1.0),
        xycoords="axes fraction",
        xytext=(-2.0, -1.0),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=SMALL,
    ).set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.8})
