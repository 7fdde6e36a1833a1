"""Table ``[instrument]``: how the map was measured, where the file does not say or says it wrongly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from bayesunmix.config.validated import validated
from bayesunmix.core.limits import Between
from bayesunmix.data.acquisition import FACT_LIMITS, REMEDIES, check_fact


def _fact(name: str) -> Between:
    return Between(*FACT_LIMITS[name], remedy=REMEDIES.get(name, ""))


@validated("instrument")
@dataclass(frozen=True, kw_only=True)
class InstrumentConfig:
    """Table ``[instrument]``: overrides what the file says; None leaves the file's value.

    Parameters
    ----------
    beam_energy_keV, takeoff_angle_deg
        Beam energy in keV, from 1 to 3000, and take-off angle in degrees, from 0 to 90.
    resolution_eV
        Full width at half maximum of the detector at Mn K-alpha, in eV, from 1 to 1000.
    beam_current_nA, live_time_s
        Current of the beam in nA and live time of the whole map in s: the dose, which zeta-factors need. From 1e-6 to
        1e6 nA, and from 1e-9 to 1e9 s.
    microscope
        ``"TEM"`` or ``"SEM"``, where the file's reader takes one for the other or for X-ray fluorescence.
    """

    beam_energy_keV: Annotated[float, _fact("beam_energy_keV")] | None = None
    takeoff_angle_deg: Annotated[float, _fact("takeoff_angle_deg")] | None = None
    resolution_eV: Annotated[float, _fact("resolution_eV")] | None = None
    beam_current_nA: Annotated[float, _fact("beam_current_nA")] | None = None
    live_time_s: Annotated[float, _fact("live_time_s")] | None = None
    microscope: Literal["TEM", "SEM"] | None = None

    def __post_init__(self) -> None:
        if self.takeoff_angle_deg is not None:
            check_fact("takeoff_angle_deg", self.takeoff_angle_deg)
