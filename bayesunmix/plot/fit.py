"""Whether the model describes the counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesunmix.data.image import WHOLE_MAP
from bayesunmix.plot.labels import energy_ticks, log_limits, name_lines
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
    phase_colour,
    place_axes,
    place_text,
    shorten,
    styled,
)
from bayesunmix.results.tables import STATED

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

# Name of the sum spectrum in the run's record.
_LEFT_MM = 15.0
_SPECTRUM_MM = 66.0
_RESIDUAL_MM = 17.0
_GAP_MM = 2.5
_LEGEND_COLUMNS = 6
_MODEL = "#D55E00"
# Residuals beyond this many sigma are drawn at the edge.
_EDGE_SIGMA = 6.0
# Numbers closer than this share of the axis go to different heights.
_NUMBER_WIDTH, _LEVELS = 0.015, 3


@styled
def fit_figure(result: Result) -> Figure:
    """Draw the sum spectrum, the fitted model with its parts, and the residuals of the map and of each segment.

        r = (observed - expected) / sqrt(expected)

    Regions whose residuals, pooled over one width of the detector, exceed 4 sigma are shaded and numbered as in the
    report and in ``fit.residuals`` of the run's record.
    Placed by hand: the names of the lines are spread over axes whose size in mm must be known before they are drawn.

    Parameters
    ----------
    result
        The result of a run.

    Returns
    -------
    Figure
        Counts per keV on a logarithmic axis; below it Pearson residuals in units of their standard deviation, the band
        reaching from -2 to 2.
    """
    data = result.tree["fit"].dataset
    segments = "segment_observed" in data
    above = 3.0 + legend_mm(len(result.phases) + 3, _LEGEND_COLUMNS)
    panels = 1 + (len(result.phases) if segments else 0)
    figure = new_figure(above + _SPECTRUM_MM + panels * (_RESIDUAL_MM + _GAP_MM) + 11.0)
    low, high = (np.asarray(data[name].values, dtype=np.float64) for name in ("energy_low", "energy_high"))
    edges = np.append(low, high[-1])
    axes = place_axes(figure, _LEFT_MM, above, WIDTH_MM - _LEFT_MM - 3.0, _SPECTRUM_MM)
    axes.set_xlim(edges[0], edges[-1])
    _draw_spectrum(axes, result, edges, high - low)
    observed, expected = [data["observed"].values], [data["expected"].values]
    if segments:
        observed += list(data["segment_observed"].values)
        expected += list(data["segment_expected"].values)
    for index in range(panels):
        top = above + _SPECTRUM_MM + _GAP_MM + index * (_RESIDUAL_MM + _GAP_MM)
        below = place_axes(figure, _LEFT_MM, top, WIDTH_MM - _LEFT_MM - 3.0, _RESIDUAL_MM)
        below.set_xlim(edges[0], edges[-1])
        residuals = pearson_residuals(observed[index], expected[index])
        colour = INK if index == 0 else phase_colour(index - 1)
        _draw_residuals(below, residuals, (low + high) / 2.0, colour)
        _mark_regions(below, result, WHOLE_MAP if index == 0 else result.phases[index - 1])
        _name_panel(
            below, WHOLE_MAP if index == 0 else f"pixels labelled {result.phases[index - 1]}", residuals
        )
        below.tick_params(labelbottom=index == panels - 1)
    below.set_xlabel("energy (keV)")
    middle = above + _SPECTRUM_MM + _GAP_MM + panels * (_RESIDUAL_MM + _GAP_MM) / 2.0
    place_text(figure, 2.5, middle, "residual (σ)", rotation=90, va="center")
    return figure


def pearson_residuals(observed: FloatArray, expected: FloatArray) -> FloatArray:
    """Return (observed - expected) / sqrt(expected), zero where nothing is expected."""
    scale = np.sqrt(np.maximum(expected, 0.0))
    residuals: FloatArray = np.divide(observed - expected, scale, out=np.zeros_like(scale), where=scale > 0.0)
    return residuals


def _draw_spectrum(axes: Axes, result: Result, edges: FloatArray, width: FloatArray) -> None:
    data = result.tree["fit"].dataset
    observed, expected = data["observed"].values / width, data["expected"].values / width
    low = float(np.min(expected[expected > 0.0])) / 30.0
    log_limits(axes, low, 1.3 * float(max(observed.max(), expected.max())))
    axes.stairs(observed, edges, fill=True, color="#d4d4d4", baseline=low / 10.0, label="observed")
    for index, phase in enumerate(result.phases):
        values = np.maximum(data["expected_by_phase"].values[index] / width, low / 10.0)
        axes.stairs(
            values, edges, color=phase_colour(index), linewidth=0.8, label=shorten(phase, 14), baseline=None
        )
    continuum = np.maximum(data["continuum"].values / width, low / 10.0)
    axes.stairs(
        continuum, edges, color=GREY, linewidth=0.9, linestyle=(0, (3, 1.5)), label="continuum", baseline=None
    )
    axes.stairs(expected, edges, color=INK, linewidth=0.8, label="fitted", baseline=None)
    table = result.summary()
    found = set(table["element"][table["detected"].isin(STATED)])
    name_lines(axes, result.tree["lines"].dataset, (edges[:-1] + edges[1:]) / 2.0, expected, found)
    energy_ticks(axes)
    axes.set_ylabel("counts per keV")
    axes.tick_params(labelbottom=False)
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
