"""How a map was measured: the facts of microscope and detector that the physics needs.

A fact that the file does not hold is ``None`` and listed in `Acquisition.missing`; nothing is filled in from anyone's
preferences. Where each fact comes from is in `Acquisition.sources`.
"""

from __future__ import annotations

import dataclasses
import math
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from bayesunmix.chemistry.stoichiometry import SYMBOLS, check_elements
from bayesunmix.core.errors import InputError, check_between, check_choice, check_mapping, unknown_keyword

Microscope = Literal["TEM", "SEM"]
Excitation = Literal["electrons", "photons"]
Source = Literal["file", "configuration", "library default", "assumption"]

# Limits of what is accepted, whoever says it: far beyond what is sensible, they catch slips of unit and what is broken.
# The strongest microscopes ever built ran at 3 MeV; of a short map one pixel's time may be left.
FACT_LIMITS = {
    "beam_energy_keV": (1.0, 3000.0),
    "takeoff_angle_deg": (0.0, 90.0),
    "resolution_eV": (1.0, 1000.0),
    "beam_current_nA": (1e-6, 1e6),
    "live_time_s": (1e-9, 1e9),
    "real_time_s": (1e-9, 1e9),
    "azimuth_deg": (-360.0, 360.0),
    "elevation_deg": (-360.0, 360.0),
    "tilt_deg": (-360.0, 360.0),
    "tilt_beta_deg": (-360.0, 360.0),
}
REMEDIES = {"beam_energy_keV": "Give 200 for a beam of 200 keV.", "resolution_eV": "Give 130 for 130 eV."}

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
# Where we keep a take-off angle that does not follow from the angles.
_TAKEOFF = ("Detector", "EDS", "takeoff_angle")
_WITH_TAKEOFF = {**_PLACES, "takeoff_angle_deg": _TAKEOFF}
_ANGLES = ("azimuth_deg", "elevation_deg", "tilt_deg", "tilt_beta_deg")
# What is no number of the measurement, and not missed where it is not known.
_NO_FACTS = ("elements", "excitation", "sources")
# How many pixels a stored live time is of: our own key beside HyperSpy's, which does not say.
LIVE_TIME_PIXELS = "live_time_pixels"


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


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """Facts of one measurement; ``None`` where unknown.

    Two are equal when their facts are, wherever they come from.

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
    live_time_s
        Live time of the whole map, all pixels together.
    real_time_s
        The detector's real time as the file gives it.
    beam_current_nA
        Beam current.
    microscope
        ``"TEM"`` or ``"SEM"``.
    elements
        Elements the file lists.
    excitation
        What excites the X-rays: ``"electrons"`` or ``"photons"``.
    sources
        For each known fact by name: ``"file"``, ``"configuration"`` (given by the user), ``"library default"`` (equals
        what a library fills in where a file says nothing) or ``"assumption"``. What is not named counts as given.
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
    excitation: Excitation | None = None
    sources: Mapping[str, Source] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        for name in FACT_LIMITS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_fact(name, getattr(self, name)))
        object.__setattr__(
            self, "elements", check_elements("elements", () if self.elements is None else self.elements)
        )
        for name, choices in (("microscope", ("TEM", "SEM")), ("excitation", ("electrons", "photons"))):
            if getattr(self, name) is not None:
                check_choice(name, getattr(self, name), choices)
        if self.excitation is None and self.microscope is not None:
            object.__setattr__(self, "excitation", "electrons")
        known = [entry.name for entry in dataclasses.fields(self) if self._holds(entry.name)]
        given = check_mapping("sources", self.sources, '{"beam_energy_keV": "file"}')
        sources = {name: given.get(name, "configuration") for name in known}
        object.__setattr__(self, "sources", sources)

    def told(self, name: str) -> Any:  # noqa: ANN401 - facts are numbers and words
        """Return a fact that somebody told; None where it is unknown, or filled in by a library for a silent file."""
        return None if self.sources.get(name) == "library default" else getattr(self, name)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Acquisition:
        """Read the facts from HyperSpy metadata given as nested dictionaries.

        Keys are compared as HyperSpy compares them. Values that cannot be (a beam energy of 0, a text, what lies
        outside `FACT_LIMITS`) count as missing. The take-off angle follows from detector direction and tilt by
        `takeoff_angle`; see `Acquisition.assumes_untilted` for a file without a stage tilt. A live time without a word
        on whose it is counts as that of the whole map; `bayesunmix.data.facts` knows more of where facts come from.
        """
        microscope, section = _microscope_section(metadata)
        stored = _stored(section)
        facts: dict[str, Any] = {name: value for name, value in stored.items() if can_be(name, value)}
        takeoff = facts.pop("takeoff_angle_deg", None) or _takeoff_from(facts)
        excitation = _at(section, ("excitation",)) or (None if microscope is None else "electrons")
        photons = excitation == "photons"
        known = cls(
            microscope=None if photons else microscope,
            excitation="photons" if photons else cast(Excitation | None, excitation and "electrons"),
            elements=_symbols(_at(metadata, ("Sample", "elements"))),
            takeoff_angle_deg=None if photons else takeoff,
            **facts,
        )
        return known.from_source("file")

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the facts that are not known."""
        return tuple(
            entry.name
            for entry in dataclasses.fields(self)
            if entry.name not in _NO_FACTS and not self._holds(entry.name)
        )

    @property
    def assumes_untilted(self) -> bool:
        """Whether the take-off angle is the detector's elevation because no stage tilt is known."""
        return (
            self.tilt_deg is None
            and self.elevation_deg is not None
            and (self.takeoff_angle_deg == self.elevation_deg)
        )

    def replace(
        self, *, source: Source = "configuration", **changes: float | str | tuple[str, ...] | None
    ) -> Acquisition:
        """Return a copy with some facts changed, which come from `source`.

        New angles give a new take-off angle unless it is given too. A microscope works with electrons.
        """
        check_choice("source", source, get_args(Source))
        known = [entry.name for entry in dataclasses.fields(self) if entry.name != "sources"]
        for name in changes:
            if name not in known:
                raise unknown_keyword(name, known)
        if "takeoff_angle_deg" not in changes and any(name in changes for name in _ANGLES):
            facts = {name: _angle(name, changes.get(name, getattr(self, name))) for name in _ANGLES}
            changes["takeoff_angle_deg"] = _takeoff_from(facts)
        if changes.get("microscope") is not None:
            changes.setdefault("excitation", "electrons")
        checked_on_creation: dict[str, Any] = dict(changes)
        sources = {**self.sources, **dict.fromkeys(changes, source)}
        return dataclasses.replace(self, **checked_on_creation, sources=sources)

    def from_source(self, source: Source, names: Iterable[str] | None = None) -> Acquisition:
        """Return a copy in which the facts called `names`, or all, come from `source`."""
        changed = dict.fromkeys(self.sources if names is None else names, source)
        return dataclasses.replace(self, sources={**self.sources, **changed})

    def to_metadata(self, n_pixels: int | None = None) -> dict[str, Any]:
        """Return the known facts in HyperSpy's metadata convention, as nested dictionaries.

        Given the number of pixels, it is kept beside the live time, so that a map cut or rebinned in HyperSpy can still
        tell of how many pixels the live time is.
        """
        section: dict[str, Any] = {}
        stored = {place: getattr(self, name) for name, place in _PLACES.items()}
        if self.takeoff_angle_deg != _takeoff_from({name: getattr(self, name) for name in _ANGLES}):
            stored[_TAKEOFF] = self.takeoff_angle_deg
        for place, value in stored.items():
            if value is None:
                continue
            node = section
            for key in place[:-1]:
                node = node.setdefault(key, {})
            node[place[-1]] = value
        if self.live_time_s is not None and n_pixels is not None:
            section["Detector"]["EDS"][LIVE_TIME_PIXELS] = n_pixels
        if self.excitation == "photons":
            section["excitation"] = "photons"
        metadata: dict[str, Any] = {"Acquisition_instrument": {self.microscope or "TEM": section}}
        if self.elements:
            metadata["Sample"] = {"elements": list(self.elements)}
        return metadata

    def _holds(self, name: str) -> bool:
        return name != "sources" and getattr(self, name) not in (None, ())


def check_fact(name: str, value: object, field: str = "") -> float:
    """Return a fact that is a number, or raise `InputError` with its name unless it lies within `FACT_LIMITS`."""
    number = check_between(field or name, value, *FACT_LIMITS[name], remedy=REMEDIES.get(name, ""))
    if name == "takeoff_angle_deg" and number == 0.0:
        raise InputError(field or name, "lie above 0 and at most at 90 degrees", "is 0")
    return number


def can_be(name: str, value: float) -> bool:
    """Whether a fact may have this value."""
    low, high = FACT_LIMITS[name]
    return low <= value <= high and (name != "takeoff_angle_deg" or value > 0.0)


def left_out(metadata: Mapping[str, Any]) -> dict[str, float]:
    """Return the facts that HyperSpy metadata hold and that cannot be; a zero only says that one is not known."""
    stored = _stored(_microscope_section(metadata)[1])
    return {name: value for name, value in stored.items() if value != 0.0 and not can_be(name, value)}


def _stored(section: Mapping[str, Any]) -> dict[str, float]:
    """Return every number that a microscope's section holds."""
    found = {name: _number_at(section, place) for name, place in _WITH_TAKEOFF.items()}
    return {name: value for name, value in found.items() if value is not None}


def _angle(name: str, value: object) -> float | None:
    return None if value is None else check_fact(name, value)


def _microscope_section(metadata: Mapping[str, Any]) -> tuple[Microscope | None, Mapping[str, Any]]:
    """Return which microscope the metadata speak of and its section."""
    signal_type = str(_at(metadata, ("Signal", "signal_type")) or "")
    kinds: tuple[Microscope, Microscope] = ("SEM", "TEM") if signal_type == "EDS_SEM" else ("TEM", "SEM")
    for kind in kinds:
        section = _at(metadata, ("Acquisition_instrument", kind))
        if isinstance(section, Mapping):
            return kind, section
    return (kinds[0] if signal_type in ("EDS_SEM", "EDS_TEM") else None), {}


def same_key(key: object) -> str:
    """Return a key in the form in which HyperSpy compares keys: without blanks around it and without punctuation."""
    ascii_only = unicodedata.normalize("NFKD", str(key)).encode("ascii", "ignore").decode()
    return "".join(c for c in ascii_only if c.isalnum() or c in " _").strip().replace(" ", "_")


def _at(node: object, place: tuple[str, ...]) -> object:
    """Return what nested dictionaries hold at `place`, or None; of two keys that are the same, the later one counts."""
    for key in place:
        if not isinstance(node, Mapping):
            return None
        found = [value for own, value in node.items() if same_key(own) == key]
        if not found:
            return None
        node = found[-1]
    return node


def _symbols(listed: object) -> tuple[str, ...]:
    """Return symbols of elements that a file holds as a list, an array or one text."""
    if isinstance(listed, (str, bytes)):
        listed = [listed]
    if not isinstance(listed, Iterable) or isinstance(listed, Mapping):
        return ()
    texts = (one.decode(errors="replace") if isinstance(one, bytes) else str(one) for one in listed)
    return tuple(dict.fromkeys(symbol for text in texts if (symbol := text.strip()) in SYMBOLS))


def filled_with_nan(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the facts for which HyperSpy metadata hold NaN."""
    _, section = _microscope_section(metadata)
    stored = {name: _at(section, place) for name, place in _PLACES.items()}
    return tuple(name for name, value in stored.items() if isinstance(value, float) and math.isnan(value))


def _number_at(node: object, place: tuple[str, ...]) -> float | None:
    """Return the finite number at `place` as a plain float (files hold numpy scalars and texts), or None."""
    value: Any = _at(node, place)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
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
