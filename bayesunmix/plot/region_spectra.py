"""Spectra of regions of the map: their counts, and what the fit expects of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure

from bayesunmix.analysis.joint_draws import JointDraws, joint_draws
from bayesunmix.analysis.places import AnyRegion, region_mask
from bayesunmix.core.errors import InputError
from bayesunmix.plot.choices import Window, checked_window
from bayesunmix.plot.labels import BAND_MM, energy_ticks, held_elements, log_limits, name_lines
from bayesunmix.plot.style import (
    INK,
    SMALL,
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
from bayesunmix.results.map_counts import AnyMap

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_LEFT_MM, _TITLE_MM, _PANEL_MM, _BELOW_MM = 15.0, 5.0, 34.0 + BAND_MM, 11.0
# The axis shows this many decades below the highest peak at most.
_DECADES = 4.0
_MODEL = "#D55E00"


@styled
def region_spectra_figure(
    result: Result,
    masks: Mapping[str, AnyRegion] | list[AnyRegion] | AnyRegion,
    *,
    energy_range: Window | None = None,
    image: AnyMap | None = None,
) -> Figure:
    """Draw the summed counts of each region, the fit and the part of each phase in it.

    The fit is that of the mean endmembers, each pixel's abundances averaged over its posterior; what thickness tilts in
    single pixels is left out.

    Parameters
    ----------
    result
        The result of a run.
    masks
        Regions by name, a list of them, or one; each as in `Result.region`.
    energy_range
        Energies that are shown, in keV.
    image
        The map, where its file is gone.

    Returns
    -------
    Figure
        180 mm wide, counts per keV on a logarithmic axis, one panel for each region.
    """
    regions = {name: region_mask(result, mask, f"masks[{name!r}]") for name, mask in _listed(masks).items()}
    source = joint_draws(result, image)
    edges = bin_edges(source)
    low, high = checked_window("energy_range", energy_range, (float(edges[0]), float(edges[-1])))
    found = held_elements(result)
    row = _TITLE_MM + _PANEL_MM
    figure = new_figure(len(regions) * row + _BELOW_MM)
    middle, width = 0.5 * (edges[1:] + edges[:-1]), np.diff(edges)
    inside = (middle >= low) & (middle <= high)
    for number, (name, mask) in enumerate(regions.items()):
        pixels = np.flatnonzero(mask)
        observed, by_phase, expected = (values / width for values in source.spectra_of(pixels))
        axes = place_axes(figure, _LEFT_MM, number * row + _TITLE_MM, WIDTH_MM - _LEFT_MM - 22.0, _PANEL_MM)
        axes.set_xlim(low, high)
        top = float(max(observed[inside].max(), expected[inside].max()))
        log_limits(axes, max(top / 10.0**_DECADES, 0.3 * float(expected[inside].min())), 1.3 * top)
        axes.stairs(observed, edges, color=INK, linewidth=0.6, baseline=None, label="counts")
        axes.stairs(expected, edges, color=_MODEL, linewidth=0.9, baseline=None, label="fit")
        for index, phase in enumerate(result.phases):
            if by_phase[index].sum() > 0.002 * expected.sum():
                axes.stairs(
                    by_phase[index],
                    edges,
                    color=phase_colour(index),
                    linewidth=0.7,
                    baseline=None,
                    label=shorten(phase, 12),
                )
        name_lines(axes, result.tree["lines"].dataset, middle[inside], expected[inside], found)
        energy_ticks(axes)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=SMALL, borderaxespad=0.0)
        counts = round(float((observed * width).sum()))
        axes.set_title(f"{name}: {len(pixels)} pixels, {counts:,} counts", loc="left", pad=2.5)
        hide_frame(axes, "top", "right")
        axes.tick_params(labelbottom=number == len(regions) - 1)
    axes.set_xlabel("energy (keV)")
    place_text(figure, 2.0, page_mm(figure)[1] / 2.0, "counts per keV", rotation=90, va="center", ha="left")
    return figure


def bin_edges(source: JointDraws) -> FloatArray:
    """Edges of the fitted bins in keV, (energy + 1,)."""
    channels = source.image.channel_edges_keV
    return np.append(channels[source.starts], channels[-1])


def _listed(masks: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return regions by name."""
    if isinstance(masks, Mapping):
        if not masks:
            raise InputError("masks", "hold a region", "is empty")
        return {str(name): mask for name, mask in masks.items()}
    if isinstance(masks, list) and masks and not isinstance(masks[0], bool | list):
        return {
            mask if isinstance(mask, str) else f"region {number}": mask
            for number, mask in enumerate(masks, 1)
        }
    return {masks if isinstance(masks, str) else "region": masks}
