"""How a map was measured: the facts of microscope and detector that the physics needs.

A fact that the file does not hold is ``None`` and listed in `Acquisition.missing`; nothing is filled in from anyone's
preferences.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from bayesunmix.errors import InputError, check_between, check_number, check_positive

Microscope = Literal["TEM", "SEM"]

# Above this a "beam energy in keV" was surely given in eV: the strongest microscopes ever built ran at 3 MeV.
_MAX_BEAM_ENERGY_KEV = 3000.0

# Where HyperSpy's metadata convention keeps each fact, below Acquisition_instrument.TEM or .SEM.
_PLACES = {
    "beam_energy_keV": ("beam_energy",),
    "beam_current_nA": ("beam_current",),
    "resolution_eV": ("Detector", "EDS", "energy_resolution_MnKa"),
    "azimuth_deg": ("Detector", "EDS", "azimuth_angle"),
    "elevation_deg": ("Detector", "EDS", "elevation_angle"),
    "live_time_s": ("Detector", "EDS", "live_time"),
    "real_time_s": ("Detector", "EDS", "real_time"),
    "tilt_deg": ("Stage", "tilt_alpha"),
    "tilt_beta_deg": ("Stage", "tilt_beta"),
}
_ANGLES = ("azimuth_deg", "elevation_deg", "tilt_deg", "tilt_beta_deg")


def takeoff_angle(
    elevation_deg: float, azimuth_deg: float, tilt_deg: float, tilt_beta_deg: float = 0.0
) -> float:
    """Return the angle between the foil's surface and the line to the detector.

    The detector lies in the direction ``d = (cos e cos a, cos e sin a, sin e)``, e the elevation and a the azimuth;
    the foil's normal, along z when untilted, turns to ``n = (sin α cos β, sin β, cos α cos β)``. The take-off angle is
    the complement of the angle between them::

        sin(take-off) = n · d

    Parameters
    ----------
    elevation_deg, azimuth_deg
        Direction of the detector. Azimuth 0 is perpendicular to the alpha tilt axis.
    tilt_deg, tilt_beta_deg
        Stage tilts alpha and beta. Positive alpha turns the foil towards azimuth 0, positive beta towards azimuth 90.

    Returns
    -------
    float
        Take-off angle in degrees; negative when the detector sees only the far side of the foil.

    Notes
    -----
    Elementary geometry of a double-tilt holder (alpha the outer tilt), in the angle convention of exSpy's metadata
    (exSpy user guide, "take-off angle", https://hyperspy.org/exspy).
    """
    elevation, azimuth = math.radians(elevation_deg), math.radians(azimuth_deg)
    alpha, beta = math.radians(tilt_deg), math.radians(tilt_beta_deg)
    sine = (
        math.sin(alpha) * math.cos(beta) * math.cos(elevation) * math.cos(azimuth)
        + math.sin(beta) * math.cos(elevation) * math.sin(azimuth)
        + math.cos(alpha) * math.cos(beta) * math.sin(elevation)
    )
    return math.degrees(math.asin(max(-1.0, min(1.0, sine))))


@dataclass(frozen=True)
class Acquisition:
    """Facts of one measurement; ``None`` where unknown.

    Parameters
    ----------
    beam_energy_keV
        Energy of the beam electrons.
    takeoff_angle_deg
        Angle between the foil's surface and the line to the detector.
    resolution_eV
        Full width at half maximum of the detector's response at Mn Kα (5.9 keV).
    azimuth_deg, elevation_deg
        Direction of the detector; azimuth 0 is perpendicular to the alpha tilt axis.
    tilt_deg, tilt_beta_deg
        Stage tilts alpha and beta.
    live_time_s, real_time_s
        Detector times of the whole map.
    beam_current_nA
        Beam current.
    microscope
        ``"TEM"`` or ``"SEM"``.
    elements
        Elements the file lists.
    """

    beam_energy_keV: float | None = None
    takeoff_angle_deg: float | None = None
    resolution_eV: float | None = None
    azimuth_deg: float | None = None
    elevation_deg: float | None = None
    tilt_deg: float | None = None
    tilt_beta_deg: float | None = None
    live_time_s: float | None = None
    real_time_s: float | None = None
    beam_current_nA: float | None = None
    microscope: Microscope | None = None
    elements: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.beam_energy_keV is not None:
            energy = check_positive("beam_energy_keV", self.beam_energy_keV)
            if energy > _MAX_BEAM_ENERGY_KEV:
                raise InputError(
                    "beam_energy_keV", "be given in keV", f"is {energy:g}", "Give 200 for a beam of 200 keV."
                )
        if (
            self.takeoff_angle_deg is not None
            and check_between("takeoff_angle_deg", self.takeoff_angle_deg, 0.0, 90.0) == 0.0
        ):
            raise InputError("takeoff_angle_deg", "lie above 0 and at most at 90 degrees", "is 0")
        for name in ("resolution_eV", "live_time_s", "real_time_s", "beam_current_nA"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        for name in _ANGLES:
            if getattr(self, name) is not None:
                check_number(name, getattr(self, name))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Acquisition:
        """Read the facts from HyperSpy metadata given as nested dictionaries.

        Values that cannot be (a beam energy of 0, a text) count as missing. The take-off angle follows from detector
        direction and tilt by `takeoff_angle`; see `Acquisition.assumes_untilted` for a file without a stage tilt.
        """
        microscope, section = _microscope_section(metadata)
        facts: dict[str, Any] = {}
        for name, place in _PLACES.items():
            value = _number_at(section, place)
            if value is not None and (name in _ANGLES or value > 0.0):
                facts[name] = value
        facts["takeoff_angle_deg"] = _takeoff_from(facts)
        listed = _at(metadata, ("Sample", "elements"))
        elements = tuple(str(element) for element in listed) if isinstance(listed, (list, tuple)) else ()
        return cls(microscope=microscope, elements=elements, **facts)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the facts that are not known."""
        return tuple(
            field.name
            for field in dataclasses.fields(self)
            if field.name != "elements" and self._lacks(field.name)
        )

    @property
    def assumes_untilted(self) -> bool:
        """Whether the take-off angle is the detector's elevation because no stage tilt is known."""
        return (
            self.tilt_deg is None
            and self.elevation_deg is not None
            and (self.takeoff_angle_deg == self.elevation_deg)
        )

    def replace(self, **changes: float | str | tuple[str, ...] | None) -> Acquisition:
        """Return a copy with some facts changed; new angles give a new take-off angle unless it is given too."""
        if "takeoff_angle_deg" not in changes and any(name in changes for name in _ANGLES):
            facts: dict[str, Any] = {name: changes.get(name, getattr(self, name)) for name in _ANGLES}
            changes["takeoff_angle_deg"] = _takeoff_from(facts)
        checked_on_creation: dict[str, Any] = dict(changes)
        return dataclasses.replace(self, **checked_on_creation)

    def to_metadata(self) -> dict[str, Any]:
        """Return the known facts in HyperSpy's metadata convention, as nested dictionaries."""
        section: dict[str, Any] = {}
        for name, place in _PLACES.items():
            value = getattr(self, name)
            if value is None:
                continue
            node = section
            for key in place[:-1]:
                node = node.setdefault(key, {})
            node[place[-1]] = value
        metadata: dict[str, Any] = {"Acquisition_instrument": {self.microscope or "TEM": section}}
        if self.elements:
            metadata["Sample"] = {"elements": list(self.elements)}
        return metadata

    def _lacks(self, name: str) -> bool:
        return getattr(self, name) is None


def _microscope_section(metadata: Mapping[str, Any]) -> tuple[Microscope | None, Mapping[str, Any]]:
    """Return which microscope the metadata speak of and its section."""
    signal_type = str(_at(metadata, ("Signal", "signal_type")) or "")
    kinds: tuple[Microscope, Microscope] = ("SEM", "TEM") if signal_type == "EDS_SEM" else ("TEM", "SEM")
    for kind in kinds:
        section = _at(metadata, ("Acquisition_instrument", kind))
        if isinstance(section, Mapping):
            return kind, section
    return (kinds[0] if signal_type in ("EDS_SEM", "EDS_TEM") else None), {}


def _at(node: object, place: tuple[str, ...]) -> object:
    """Return what nested dictionaries hold at `place`, or None."""
    for key in place:
        if not isinstance(node, Mapping) or key not in node:
            return None
        node = node[key]
    return node


def _number_at(node: object, place: tuple[str, ...]) -> float | None:
    """Return the finite number at `place` as a plain float (files hold numpy scalars and texts), or None."""
    value: Any = _at(node, place)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _takeoff_from(facts: Mapping[str, float | None]) -> float | None:
    """Return the take-off angle that detector direction and tilts give, or None when they do not suffice.

    Without a stage tilt, and without an azimuth on an untilted stage, it is the detector's elevation.
    """
    elevation, azimuth = facts.get("elevation_deg"), facts.get("azimuth_deg")
    tilt, tilt_beta = facts.get("tilt_deg") or 0.0, facts.get("tilt_beta_deg") or 0.0
    if elevation is None:
        return None
    if tilt == 0.0 and tilt_beta == 0.0:
        angle = elevation
    elif azimuth is None:
        return None
    else:
        angle = takeoff_angle(elevation, azimuth, tilt, tilt_beta)
    # A detector in the foil's shadow means the stored angles are wrong: better none than a nonsensical one.
    return angle if 0.0 < angle <= 90.0 else None
