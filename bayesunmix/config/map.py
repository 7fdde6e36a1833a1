"""Table ``[map]``: which part of the map is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from bayesunmix.config.pixels import MaskRules, Span
from bayesunmix.config.validated import validated
from bayesunmix.config.values import Folder, Number
from bayesunmix.core.errors import InputError
from bayesunmix.core.limits import Between, Must
from bayesunmix.data.image import AXIS_LIMITS_KEV

NARROWEST_RANGE_KEV = 0.2


_RISING = "be two energies in keV, the lower one first"


def _check_range(ends: tuple[float, float]) -> tuple[float, float]:
    low, high = ends
    got = f"is [{low:g}, {high:g}]"
    if not 0.0 <= low < high:
        raise InputError("", _RISING, got)
    if high - low < NARROWEST_RANGE_KEV:
        raise InputError("", f"span at least {NARROWEST_RANGE_KEV:g} keV, the width of a peak", got)
    return ends


_EnergyRange = Annotated[tuple[Number, Number], Must(_RISING), AfterValidator(_check_range)]


@validated("map")
@dataclass(frozen=True, kw_only=True)
class MapConfig:
    """Table ``[map]``: which part of the map is used.

    Parameters
    ----------
    energy_range
        Lowest and highest energy in keV, at least 0.2 keV apart; None for the whole axis.
    energy_offset_keV, energy_scale_keV
        Energy of the first channel's centre and width of a channel, in the place of the file's; None for the file's.
    rows, columns
        First and one after the last row or column that is used, counted from 0; negative ones from the end.
    mask
        What leaves pixels out: the name of a file, a table, or a list of them; see `MaskRule`.
    exclude_flagged
        Output folder of an earlier run of the map: the regions of significant residual that it flagged are left out.
    """

    energy_range: _EnergyRange | None = None
    energy_offset_keV: Annotated[float, Between(*AXIS_LIMITS_KEV["energy_offset_keV"])] | None = None
    energy_scale_keV: Annotated[float, Between(*AXIS_LIMITS_KEV["energy_scale_keV"])] | None = None
    rows: Span | None = None
    columns: Span | None = None
    mask: MaskRules = ()
    exclude_flagged: Folder | None = None
