"""Records in the layouts of earlier versions, given the layout of today: one function for each step.

A step moves what it knows and leaves the rest: whether the parts are what they must be is asked of the outcome alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bayesunmix.core.severity import (
    IDENTIFIABILITY,
    MODES,
    PLACES,
    RESIDUALS,
    STEPS,
    VARIATION,
    Distrust,
    Reservation,
)
from bayesunmix.results.verdict import POINT_ESTIMATE, judge

Plain = dict[str, Any]

FORMAT = 4
"""Number of the layout of today. The first two had none in the file."""


ROWS_RENAMED = {
    "Exact steps": STEPS,
    "Starts and modes": MODES,
    "What pins the phases": IDENTIFIABILITY,
    "Residuals": RESIDUALS,
    "Places that do not fit": PLACES,
    "Variation over the map": VARIATION,
}
"""Names of diagnostics in findings of the first two layouts."""


def upgraded(plain: Mapping[str, Any]) -> Plain:
    """Give a record the layout of today.

    Parameters
    ----------
    plain
        As ``run.json`` holds it, of any layout; one of a later version comes back as it is.
    """
    record = dict(plain)
    number = record.get("format", 1 if isinstance(record.get("identifiability"), list) else 2)
    if not isinstance(number, int):
        return record
    for step in _STEPS[max(number, 1) - 1 :]:
        record = step(record)
    return record


def _identifiability_is_a_table(record: Plain) -> Plain:
    """Layout 1 to 2: what was the list alone of phases that nothing pins is one part of several."""
    return {**record, "identifiability": {"loose_ends": record["identifiability"]}}


def _words_of_the_field(record: Plain) -> Plain:
    """Layout 2 to 3: names that the field uses; what is read together stands together; there always is a verdict."""
    record = _renamed(record, {"rival_share": "second_maximum_share", "robust": "heterogeneity"})
    areas = {"used": "widened", "tiles": "areas", "significance": "p_value"}
    changes: dict[str, Callable[[Any], Any]] = {
        "heterogeneity": lambda part: _renamed(part, areas) or None,
        "diagnostics": lambda part: _renamed(part, {"atoms": "support_points"}),
        "identifiability": lambda part: _renamed(part, {"loose_ends": "non_identifiable"}),
        "fit": _with_residuals,
        "map": _with_flat_facts,
    }
    record |= {name: change(record[name]) for name, change in changes.items() if name in record}
    record = _together(record, "unmodelled_regions", "misfit_search", "misfit")
    if "verdict" not in record:
        record |= _judged(record)
    elif "findings" in record:
        record["findings"] = _about_rows_of_today(record["findings"])
    return {**record, "format": 3}


def _next_phase_is_left_out(record: Plain) -> Plain:
    """Layout 3 to 4: what one phase more would be is the first of those that are not counted."""
    number = record.get("phase_number")
    if isinstance(number, dict) and "next_phase" in number:
        rest = {key: value for key, value in number.items() if key != "next_phase"}
        after = number["next_phase"]
        left_out = [{**after, "reason": "unsupported"}] if isinstance(after, dict) else []
        record = {**record, "phase_number": {**rest, "left_out": left_out}}
    return {**record, "format": 4}


_STEPS: tuple[Callable[[Plain], Plain], ...] = (
    _identifiability_is_a_table,
    _words_of_the_field,
    _next_phase_is_left_out,
)


def _about_rows_of_today(findings: Any) -> Any:  # noqa: ANN401
    """Give the rows of the report's table that findings are about the names that they have now."""
    if not isinstance(findings, list):
        return findings
    return [
        {**one, "about": ROWS_RENAMED.get(one["about"], one["about"])}
        if isinstance(one, dict) and isinstance(one.get("about"), str)
        else one
        for one in findings
    ]


def _renamed(part: Any, names: Mapping[str, str]) -> Any:  # noqa: ANN401 - whatever a file holds
    return {names.get(key, key): value for key, value in part.items()} if isinstance(part, dict) else part


def _together(record: Plain, name: str, table: str, regions: str) -> Plain:
    """Put a list of regions into the table of the search that found them."""
    rest = {key: value for key, value in record.items() if key not in (table, regions)}
    if table not in record and regions not in record:
        return rest
    about = record.get(table, {})
    if isinstance(about, dict) and regions in record:
        about = {**about, "regions": record[regions]}
    return {**rest, name: about}


def _with_residuals(fit: Any) -> Any:  # noqa: ANN401
    """Put the regions of residuals into the scan that found them, and deviances by segment into a list of their own."""
    if not isinstance(fit, dict):
        return fit
    if isinstance(fit.get("deviance_per_dof_segments"), list):
        fit = _renamed(fit, {"deviance_per_dof_segments": "deviance_per_dof_by_segment"})
    if "residual_scan" not in fit:
        return {key: value for key, value in fit.items() if key != "residual_regions"}
    return _together(fit, "residuals", "residual_scan", "residual_regions")


def _with_flat_facts(found: Any) -> Any:  # noqa: ANN401
    """Take beam energy and take-off angle out of HyperSpy's nested metadata."""
    if not isinstance(found, dict):
        return found
    stage = _table(_table(_table(found, "acquisition"), "Acquisition_instrument"), "TEM")
    detector = _table(_table(stage, "Detector"), "EDS")
    facts = {
        "beam_energy_keV": stage.get("beam_energy"),
        "takeoff_angle_deg": detector.get("elevation_angle"),
    }
    known = {name: value for name, value in facts.items() if value is not None}
    return {**found, "acquisition": known}


def _table(part: Any, name: str) -> Plain:  # noqa: ANN401
    found = part.get(name) if isinstance(part, dict) else None
    return found if isinstance(found, dict) else {}


def _judged(record: Plain) -> Plain:
    """Read a verdict from problems and warnings, which had no weight: all of the latter are reservations then."""
    problems, warnings = record.get("problems", []), record.get("warnings", [])
    if not all(
        isinstance(said, list) and all(isinstance(s, str) for s in said) for said in (problems, warnings)
    ):
        return {}
    said: list[str] = [Distrust(text) for text in problems]
    if record.get("method") == "map":
        said.append(Reservation(POINT_ESTIMATE))
    said += [Reservation(text) for text in warnings]
    return judge(said).to_dict() | {"verdict_inferred": True}
