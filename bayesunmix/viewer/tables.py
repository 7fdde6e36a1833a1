"""What a choice is made of, as rows with intervals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from bayesunmix.analysis.mixtures import mixed, phase_compositions
from bayesunmix.core.credible import interval
from bayesunmix.core.rounding import bound_text, interval_text, partition_text
from bayesunmix.results.result import Result
from bayesunmix.results.tables import STATED

CHOICE = "choice"
_UNITS = {"at_frac": ("at%", 100.0), "wt_pct": ("wt%", 1.0), "oxide_wt_pct": ("wt%", 1.0)}


@dataclass(frozen=True)
class ShownRow:
    """A row of the table.

    Attributes
    ----------
    part
        ``abundance``, ``composition`` or ``D``.
    name
        Phase, element or oxide.
    unit
        Empty for a ratio.
    mean, sd, lower, upper
        Of the draws; for the D of two phases the mean is their median, as in ``partition.csv``.
    text
        Value and interval as a reader wants them, or a bound.
    """

    part: str
    name: str
    unit: str
    mean: float
    sd: float
    lower: float
    upper: float
    text: str


def in_unit(result: Result, drawn: xr.Dataset, unit: str) -> xr.Dataset:
    """Return the draws of a region with its composition in another unit.

    Parameters
    ----------
    result
        Of the map.
    drawn
        From `Result.region`.
    unit
        ``at_frac``, ``wt_pct`` or ``oxide_wt_pct``.

    Raises
    ------
    InputError
        If the unit asks for the oxide of an element that has none.
    """
    composition, weight = phase_compositions(result, unit, drawn)
    return (
        drawn.drop_vars(["composition", "element", "oxide"], errors="ignore")
        .assign(composition=mixed(drawn["abundance"], composition, weight))
        .assign_attrs(unit=unit)
    )


def region_rows(result: Result, drawn: xr.Dataset) -> tuple[ShownRow, ...]:
    """Return abundances and composition of a region.

    Parameters
    ----------
    result
        Of the map.
    drawn
        From `Result.region`.
    """
    unit, factor = _UNITS[str(drawn.attrs["unit"])]
    composition = drawn["composition"]
    names = {str(name): str(name) for name in composition["element"].values}
    if "oxide" in composition.coords:
        names = dict(zip(names, map(str, composition["oxide"].values), strict=True))
    detected = _detected(result)
    rows = [
        _row("abundance", name, "%", 100.0 * drawn["abundance"].sel(phase=name), result.level)
        for name in result.phases
    ]
    for element, name in names.items():
        values = factor * composition.sel(element=element)
        sign = "" if element in detected else "<"
        rows.append(_row("composition", name, unit, values, result.level, sign))
    return tuple(rows)


def ratio_rows(
    result: Result, numerator: str, denominator: str, drawn: xr.Dataset | None
) -> tuple[ShownRow, ...]:
    """Return D of two phases, or of the choice and a phase, element by element.

    Parameters
    ----------
    result
        Of the map.
    numerator, denominator
        Names of phases, or `CHOICE`.
    drawn
        From `Result.region` with atom fractions; None while there is none yet.
    """
    if numerator == denominator or (drawn is None and CHOICE in (numerator, denominator)):
        return ()
    if CHOICE not in (numerator, denominator):
        return tuple(_phase_rows(result, numerator, denominator))
    assert drawn is not None
    top, bottom = (_composition(result, name, drawn) for name in (numerator, denominator))
    found = [_detected(result, name) for name in (numerator, denominator)]
    rows = []
    for element in result.elements:
        above, below = (one.sel(element=element) for one in (top, bottom))
        ratio = above / below.where(below > 0.0)
        kind = (element in found[0], element in found[1])
        sign = {(True, True): "", (False, True): "<", (True, False): ">", (False, False): "–"}[kind]
        rows.append(_row("D", element, "", ratio, result.level, sign))
    return tuple(rows)


def _phase_rows(result: Result, numerator: str, denominator: str) -> Iterator[ShownRow]:
    table = result.tables.partition()
    chosen = table[(table["numerator"] == numerator) & (table["denominator"] == denominator)]
    for row in chosen.itertuples():
        yield ShownRow("D", row.element, "", row.median, row.sd, row.lower, row.upper, partition_text(row))


def _composition(result: Result, name: str, drawn: xr.Dataset) -> xr.DataArray:
    """Draws of the atom fractions of the choice, or of a phase in the same draws."""
    if name == CHOICE:
        return drawn["composition"]
    draws = result.draws["composition"].sel(phase=name, drop=True)
    return draws.sel(chain=drawn["chain"], draw=drawn["draw"])


def _detected(result: Result, phase: str = CHOICE) -> set[str]:
    """Elements that are detected in a phase, or in any."""
    table = result.summary()
    found: Any = table["detected"].isin(STATED)
    if phase != CHOICE:
        found = found & (table["phase"] == phase)
    return set(table["element"][found])


def _row(part: str, name: str, unit: str, draws: xr.DataArray, level: float, sign: str = "") -> ShownRow:
    """Summarise the draws of a number; a sign makes it a bound."""
    values = np.asarray(draws.values, np.float64).ravel()
    if not np.isfinite(values).all():
        return ShownRow(part, name, unit, np.nan, np.nan, np.nan, np.nan, "–")
    mean, sd = float(values.mean()), float(values.std())
    lower, upper = (float(end) for end in interval(values, level))
    if sign == "–":
        text = "–"
    elif sign:
        text = bound_text(upper if sign == "<" else lower, sign, unit)
    else:
        text = interval_text(mean, lower, upper, unit)
    return ShownRow(part, name, unit, mean, sd, lower, upper, text)
