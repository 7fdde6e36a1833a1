"""Abundances and composition along a line, with bands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bayesunmix.analysis.profiles import Point, profile
from bayesunmix.core.errors import InputError, check_choice
from bayesunmix.plot.element_maps import UNIT_NAMES
from bayesunmix.plot.style import (
    SMALL,
    FloatArray,
    element_order,
    hide_frame,
    panel_figure,
    phase_colour,
    shorten,
    styled,
)

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_PANEL_MM = 44.0
# Elements that are drawn where none are named: the most abundant ones, of at least this share of what there is.
_MOST_ELEMENTS, _LEAST_SHARE = 6, 0.01
SCALES = ("linear", "log")
# Of elements, which are no phases.
_COLOURS = ("#1b7837", "#762a83", "#b35806", "#2166ac", "#c51b7d", "#35978f", "#8c510a", "#4d4d4d")


@styled
def profile_figure(
    result: Result,
    start: Point | xr.Dataset,
    end: Point | None = None,
    *,
    phases: Sequence[str] | None = None,
    elements: Sequence[str] | None = None,
    scale: str = "linear",
    **options: Any,  # noqa: ANN401
) -> Figure:
    """Draw abundances, and below them the composition, along a line: means and bands of the result's level.

    Parameters
    ----------
    result
        The result of a run.
    start, end
        Ends of the line as in `Result.profile`; or what it returned, alone.
    phases
        Phases that are drawn; all by default.
    elements
        Elements that are drawn; the six most abundant ones of a percent or more by default, none for an empty list.
    scale
        Of the composition: ``linear`` or ``log``.
    **options
        Further arguments of `Result.profile`: ``width``, ``unit``, ``prior``, ``image``.

    Returns
    -------
    Figure
        180 mm wide.
    """
    check_choice("scale", scale, SCALES)
    found = _found(result, start, end, options)
    names = _named("phases", phases, result.phases)
    shown = _elements(found, elements)
    figure, panels = panel_figure(_PANEL_MM * (1 + bool(shown)) + 6.0, panels=1 + bool(shown))
    curves = [
        (found["abundance"].sel(phase=name), phase_colour(result.phases.index(name)), shorten(name, 14))
        for name in names
    ]
    _draw(panels[0], found, curves, result.level)
    panels[0].set_title(f"mean and {100.0 * result.level:g} % interval", loc="left", fontsize=SMALL, pad=3.0)
    panels[0].set_ylim(-0.02, 1.02)
    panels[0].set_ylabel("abundance\n(atom fraction)")
    if shown:
        curves = [
            (found["composition"].sel(element=name), _COLOURS[index % len(_COLOURS)], name)
            for index, name in enumerate(shown)
        ]
        _draw(panels[1], found, curves, result.level)
        panels[1].set_yscale(scale)
        if scale == "linear":
            panels[1].set_ylim(bottom=0.0)
        unit = str(found.attrs.get("unit", "at_frac"))
        panels[1].set_ylabel(f"composition\n({UNIT_NAMES.get(unit, unit)})")
        panels[0].tick_params(labelbottom=False)
    unit = str(found.attrs.get("distance_unit", ""))
    panels[-1].set_xlabel(f"distance ({unit or 'pixels'})")
    return figure


def _found(result: Result, start: Any, end: Point | None, options: dict[str, Any]) -> xr.Dataset:  # noqa: ANN401
    if not isinstance(start, xr.Dataset):
        if end is None:
            raise InputError("end", "be the other end of the line", "is not given")
        return profile(result, start, end, **options)
    if "position" not in start.dims or "abundance" not in start:
        raise InputError(
            "start", "be what result.profile returned, or an end of a line", "is another dataset"
        )
    return start


def _draw(axes: Axes, found: xr.Dataset, curves: list[tuple[xr.DataArray, str, str]], level: float) -> None:
    """Draw curves of (chain, draw, position) with bands, and name each at its end, none upon another."""
    distance = found["distance"].values
    tails = [(1.0 - level) / 2.0, (1.0 + level) / 2.0]
    for values, colour, name in curves:
        flat = values.transpose("chain", "draw", "position").values.reshape(-1, len(distance))
        mean = flat.mean(axis=0)
        lower, upper = _quantiles(flat, tails)
        axes.fill_between(distance, lower, upper, color=colour, alpha=0.25, linewidth=0.0)
        axes.plot(distance, mean, color=colour, label=name)
    axes.set_xlim(distance[0], distance[-1])
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=SMALL, borderaxespad=0.0)
    hide_frame(axes, "top", "right")


def _quantiles(flat: FloatArray, tails: list[float]) -> tuple[FloatArray, FloatArray]:
    lower, upper = np.quantile(flat, tails, axis=0)
    return lower, upper


def _named(field: str, names: Sequence[str] | None, known: list[str]) -> list[str]:
    if names is None:
        return known
    listed = [names] if isinstance(names, str) else list(names)
    for name in listed:
        if name not in known:
            raise InputError(field, f"be among {', '.join(known)}", f"names {name!r}")
    return listed


def _elements(found: xr.Dataset, elements: Sequence[str] | None) -> list[str]:
    known = [str(name) for name in found["element"].values]
    if elements is not None:
        return _named("elements", elements, known)
    mean = found["composition"].mean(["chain", "draw", "position"]).values
    enough = mean >= _LEAST_SHARE * np.nansum(mean)
    most = [known[place] for place in np.argsort(-mean)[:_MOST_ELEMENTS] if enough[place]]
    return element_order(most)
