"""What a HyperSpy signal says of its measurement, and how far it can be believed.

HyperSpy's metadata do not tell what a library filled in, of how many pixels a live time is, or what excited the
X-rays. This module decides from the rest of what the signal holds, and says so where it cannot.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bayesunmix.core.severity import Reservation
from bayesunmix.data.acquisition import (
    FACT_LIMITS,
    LIVE_TIME_PIXELS,
    Acquisition,
    can_be,
    filled_with_nan,
    left_out,
    same_key,
)

# exSpy's preferences as they come (exspy._defaults_parser): it fills them in for a file that says nothing.
_EXSPY_DEFAULTS = {"elevation_deg": 35.0, "azimuth_deg": 0.0, "tilt_deg": 0.0, "resolution_eV": 130.0}
_EXSPY_PREFERENCES = {
    "elevation_deg": "eds_detector_elevation",
    "azimuth_deg": "eds_detector_azimuth",
    "tilt_deg": "eds_tilt_stage",
    "resolution_eV": "eds_mn_ka",
}
_WORDS = {
    "elevation_deg": "detector elevation of {:g} degrees",
    "azimuth_deg": "azimuth of {:g} degrees",
    "tilt_deg": "stage tilt of {:g} degrees",
    "resolution_eV": "resolution of {:g} eV",
}
# No map is measured for longer than this, so that a live time that would make it last longer is not one pixel's.
_LONGEST_MAP_S = 3 * 86400.0
# Clocks of detector and scan differ; a live time is longer than a real time only if it is so by more than this.
_CLOCKS = 1.05
# Where readers keep the number of pixels of the whole measured map, below the original metadata.
_MEASURED_GRIDS = (
    ("spd_header.nPoints", "spd_header.nLines"),
    ("acquisition.scan.detectors.EDS.live_time_values",),
)
# Keys and values by which vendors and NeXus speak of X-ray tubes and synchrotrons.
_PHOTON_KEYS = re.compile(r"^(trt)?xrf|^tube_?(type|number|voltage|current|anode|window)", re.IGNORECASE)
_PHOTON_VALUES = re.compile(
    r"\bxrf\b|x-ray fluorescence|^nxfluo$|synchrotron x-ray|x-ray tube", re.IGNORECASE
)
_BRUKER_TUBE = {"PrimaryEnergy", "ElevationAngle"}


@dataclass(frozen=True)
class FileOrigin:
    """Where a signal comes from.

    Parameters
    ----------
    original
        The vendor's own metadata, nested dictionaries.
    fresh
        Whether a vendor's file was read just now: then nothing was filled in, cropped or rebinned since.
    """

    original: Mapping[str, Any]
    fresh: bool = False


def facts_of(
    metadata: Mapping[str, Any], n_pixels: int, origin: FileOrigin
) -> tuple[Acquisition, tuple[str, ...]]:
    """Return the facts of a signal with their sources, and what is to be said of them.

    Parameters
    ----------
    metadata
        HyperSpy's metadata as nested dictionaries.
    n_pixels
        Pixels that the signal has now.
    origin
        Where it comes from.
    """
    facts = Acquisition.from_metadata(metadata)
    if is_excited_by_photons(origin.original, metadata):
        facts = facts.replace(source="file", microscope=None, excitation="photons", takeoff_angle_deg=None)
    if not origin.fresh:
        facts = _with_defaults_named(facts)
    if facts.assumes_untilted:
        facts = facts.from_source("assumption", ["takeoff_angle_deg"])
    facts = _completed(facts, filled_with_nan(metadata))
    facts, note = _with_live_time(facts, metadata, n_pixels, origin)
    senseless = tuple(_impossible(name, value) for name, value in left_out(metadata).items())
    return facts, (*senseless, note) if note else senseless


def _impossible(name: str, value: float) -> str:
    low, high = FACT_LIMITS[name]
    return f"The map's {name} of {value:g} does not lie between {low:g} and {high:g}: it is left out."


def is_excited_by_photons(original: Mapping[str, Any], metadata: Mapping[str, Any]) -> bool:
    """Return whether X-rays were excited by an X-ray tube or a synchrotron rather than by electrons.

    Of Bruker's header of an X-ray tube RosettaSciIO keeps voltage and angle alone, of one for electrons all entries.
    Other readers keep names and values that speak of tubes and synchrotrons.
    """
    signal = metadata.get("Signal")
    if isinstance(signal, Mapping) and "XRF" in str(signal.get("signal_type", "")).upper():
        return True
    analysis = original.get("Analysis")
    if isinstance(analysis, Mapping) and set(analysis) == _BRUKER_TUBE:
        return True
    return any(
        _PHOTON_KEYS.search(key) is not None
        or (isinstance(value, str) and _PHOTON_VALUES.search(value) is not None)
        for key, value in _leaves(original)
    )


def library_defaults() -> Mapping[str, float]:
    """Return what exSpy fills in: its preferences in this process, or those that it comes with."""
    exspy = sys.modules.get("exspy")
    if exspy is None:
        return _EXSPY_DEFAULTS
    preferred = {
        fact: float(getattr(exspy.preferences.EDS, name)) for fact, name in _EXSPY_PREFERENCES.items()
    }
    return {
        fact: value if can_be(fact, value) else _EXSPY_DEFAULTS[fact] for fact, value in preferred.items()
    }


def default_notes(facts: Acquisition, listed_deg: tuple[float, ...] = ()) -> tuple[str, ...]:
    """Return, as at most one message, that the detector's direction may be exSpy's preference and no fact.

    Parameters
    ----------
    facts
        Of a signal.
    listed_deg
        Elevations of detectors that the vendor's metadata list, for the user to choose from.
    """
    doubtful = [name for name in _WORDS if facts.sources.get(name) == "library default"]
    tilted = bool(facts.tilt_deg or facts.tilt_beta_deg)
    source = facts.sources.get("takeoff_angle_deg")
    by_azimuth = source == "file" and "azimuth_deg" in doubtful and tilted and _decides(facts)
    if source != "library default" and not by_azimuth:
        return ()
    named = [_WORDS[name].format(getattr(facts, name)) for name in doubtful]
    together = " and ".join((", ".join(named[:-1]), named[-1])) if len(named) > 1 else named[0]
    elevations = " and ".join(f"{angle:.3g}" for angle in listed_deg)
    found = (
        f" The vendor's metadata list detectors at an elevation of {elevations} degrees."
        if elevations
        else ""
    )
    verb = "are" if len(named) > 1 else "is"
    text = (
        f"The {together} {verb} what exSpy fills in for a file that says nothing: check, or"
        f" give takeoff_angle_deg (under [instrument] in a configuration).{found}"
    )
    return (Reservation(text),)


def _decides(facts: Acquisition) -> bool:
    """Whether the azimuth changes the take-off angle by more than a tenth of a degree."""
    angle, elevation = facts.takeoff_angle_deg, facts.elevation_deg
    return angle is not None and elevation is not None and abs(angle - elevation) > 0.1


def listed_elevations_deg(original: Mapping[str, Any]) -> tuple[float, ...]:
    """Return the elevations in degrees of the detectors that Velox lists, each once; Velox writes radians."""
    detectors = original.get("Detectors")
    if not isinstance(detectors, Mapping):
        return ()
    texts = [value for key, value in _leaves(detectors) if key == "ElevationAngle"]
    try:
        found = {round(math.degrees(float(text)), 3) for text in texts}
    except (TypeError, ValueError):
        return ()
    return tuple(sorted(angle for angle in found if 0.0 < angle <= 90.0))


def _completed(facts: Acquisition, names: Iterable[str]) -> Acquisition:
    """Fill in what exSpy fills in, for the facts that only exSpy has named."""
    defaults: dict[str, Any] = {n: value for n, value in library_defaults().items() if n in names}
    if facts.takeoff_angle_deg is not None:
        # The take-off angle stays what is known without them.
        defaults = {**defaults, "takeoff_angle_deg": facts.takeoff_angle_deg}
        return facts.replace(source="library default", **defaults).from_source(
            facts.sources["takeoff_angle_deg"], ["takeoff_angle_deg"]
        )
    if facts.excitation == "photons":
        defaults["takeoff_angle_deg"] = None
    return facts.replace(source="library default", **defaults) if defaults else facts


def _with_defaults_named(facts: Acquisition) -> Acquisition:
    """Mark facts that equal what exSpy fills in; elevation and azimuth come together."""
    defaults = library_defaults()
    equal = {name for name, value in defaults.items() if getattr(facts, name) == value}
    if "azimuth_deg" not in equal:
        equal.discard("elevation_deg")
    follows = facts.replace(elevation_deg=facts.elevation_deg).takeoff_angle_deg
    if "elevation_deg" in equal and facts.takeoff_angle_deg == follows:
        equal.add("takeoff_angle_deg")
    return facts.from_source("library default", equal)


def _with_live_time(
    facts: Acquisition, metadata: Mapping[str, Any], n_pixels: int, origin: FileOrigin
) -> tuple[Acquisition, str | None]:
    """Make the live time that of the whole map.

    exSpy's `rebin` and `sum` multiply the live time by the pixels that are put together, and cropping leaves it: so it
    stays right where it is that of one pixel, and where it is that of the map as measured it belongs to the number of
    pixels that the map had then.
    """
    live, real = facts.live_time_s, facts.real_time_s
    if live is None:
        return facts, None
    belongs_to = _measured_pixels(metadata, n_pixels, origin)
    fits = real is not None and live * n_pixels <= _CLOCKS * real
    if belongs_to is None and not fits and n_pixels > 1:
        return _doubtful_live_time(facts, live, n_pixels)
    total = live * (n_pixels / (belongs_to or 1))
    if not can_be("live_time_s", total):
        return facts.replace(live_time_s=None), _impossible("live_time_s", total)
    whole = facts.replace(source="file", live_time_s=total)
    if not origin.fresh or real is None or live <= _CLOCKS * real:
        return whole, None
    return whole, (
        f"The file's live time of {live:g} s is longer than its real time of {real:g} s: check it where the dose"
        " matters, or give live_time_s under [instrument]."
    )


def _doubtful_live_time(facts: Acquisition, live: float, n_pixels: int) -> tuple[Acquisition, str]:
    """Take a live time of which nothing else is known for that of one pixel, or leave it out where it cannot be."""
    if live * n_pixels > _LONGEST_MAP_S:
        return facts.replace(live_time_s=None), (
            f"The file's live time of {live:g} s is too long for one pixel and may be that of a larger map than these"
            f" {n_pixels} pixels: it is left out. Where the dose matters, give live_time_s under [instrument]."
        )
    return facts.replace(source="assumption", live_time_s=live * n_pixels), (
        f"The file does not say whether its live time of {live:g} s is that of one pixel or of the map: it is taken to"
        f" be one pixel's, as exSpy does, {live * n_pixels:g} s for the map. Give live_time_s under [instrument] if"
        " that is wrong."
    )


def _measured_pixels(metadata: Mapping[str, Any], n_pixels: int, origin: FileOrigin) -> int | None:
    """Return the number of pixels that the stored live time belongs to, or None where nothing tells."""
    marked = [value for key, value in _leaves(metadata) if same_key(key) == LIVE_TIME_PIXELS]
    if marked and isinstance(marked[0], (int, float, np.number)) and marked[0] >= 1:
        return int(marked[0])
    if origin.fresh:
        return n_pixels
    for places in _MEASURED_GRIDS:
        found = [_value_at(origin.original, place) for place in places]
        if all(value is not None for value in found):
            grid = int(np.prod([np.size(v) if np.size(v) > 1 else np.ravel(v)[0] for v in found]))
            return grid if grid >= 1 else None
    return None


def _value_at(node: object, place: str) -> Any:  # noqa: ANN401 - files hold anything
    for key in place.split("."):
        node = node.get(key) if isinstance(node, Mapping) else None
    return node


def _leaves(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield every key of nested dictionaries with its value."""
    for key, value in node.items():
        yield str(key), value
        if isinstance(value, Mapping):
            yield from _leaves(value)
