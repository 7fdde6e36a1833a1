"""Whether an output folder that is opened holds what a run writes, so that damage is told as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

# What every version has written into run.json, and of which type; parts that came later may be missing, not of another
# type.
_NEEDED: dict[str, type] = {"method": str, "config": dict, "problems": list}
_TYPES: dict[str, type] = {
    **_NEEDED,
    "version": str,
    "versions": dict,
    "seed": int,
    "hash": str,
    "lines": str,
    "map": dict,
    "timings": dict,
    "binning": dict,
    "response": dict,
    "line_ratios": dict,
    "undeclared": dict,
    "film": dict,
    "components": list,
    "starts": list,
    "diagnostics": dict,
    "warnings": list,
    "assumptions": list,
    "fit": dict,
    "misfit": list,
    "misfit_search": dict,
    "robust": dict,
    "identifiability": dict,
    "mass_thickness": dict,
    "phase_number": dict,
}
_CONFIG_TYPES: dict[str, type] = {
    "sample": dict,
    "map": dict,
    "instrument": dict,
    "xray": dict,
    "output": dict,
    "inference": dict,
    "phases": list,
}
_SENTENCES = ("problems", "warnings", "assumptions")
_COMPOSITIONS = ("composition", "composition_counting")
_DIMENSIONS = ("chain", "draw", "phase", "element")
# Groups of posterior.nc that a run writes, and a variable that each has always had. A result that was put together from
# draws alone, for a comparison, has none of them.
_GROUPS = {"maps": "abundance_mean", "endmembers": "mean", "fit": "observed"}
_WORDS = {dict: "a table", list: "a list", str: "a text", int: "a whole number"}


def renewed(run: object) -> object:
    """Give a record that an earlier version wrote the form of today; anything else comes back as it is."""
    if not isinstance(run, Mapping) or not isinstance(run.get("identifiability"), list):
        return run
    # It was the list alone of phases that nothing pins.
    return {**run, "identifiability": {"loose_ends": run["identifiability"]}}


def damage(tree: xr.DataTree, run: object) -> str:
    """Say in a few words what is wrong with the posterior and the record of an output folder; empty when all is well.

    Parameters
    ----------
    tree
        What ``posterior.nc`` holds.
    run
        What ``run.json`` holds.
    """
    return _record_damage(run) or _tree_damage(tree, run["config"]["phases"])  # type: ignore[index]


def _record_damage(run: object) -> str:
    if not isinstance(run, Mapping):
        return "run.json holds no table"
    lacking = next((name for name in _NEEDED if name not in run), None)
    if lacking:
        return f"run.json has no {lacking}"
    wrong = _wrong_type(run, _TYPES, "") or _wrong_type(run["config"], _CONFIG_TYPES, "config.")
    if wrong:
        return wrong
    for name in _SENTENCES:
        if not all(isinstance(sentence, str) for sentence in run.get(name, ())):
            return f"{name} of run.json are no sentences"
    level = run["config"].get("inference", {}).get("level")
    if not isinstance(level, float | int) or isinstance(level, bool) or not 0.0 < level < 1.0:
        return "config.inference.level of run.json is no probability"
    return _phases_damage(run["config"].get("phases"))


def _wrong_type(table: Mapping[str, Any], types: Mapping[str, type], prefix: str) -> str:
    for name, kind in types.items():
        if name in table and (not isinstance(table[name], kind) or isinstance(table[name], bool)):
            return f"{prefix}{name} of run.json is not {_WORDS[kind]}"
    return ""


def _phases_damage(phases: object) -> str:
    if not isinstance(phases, list) or not phases:
        return "config.phases of run.json names no phase"
    for phase in phases:
        if not isinstance(phase, Mapping) or not isinstance(phase.get("name"), str):
            return "a phase of run.json has no name"
        absent = phase.get("absent", [])
        if not isinstance(absent, list) or not all(isinstance(element, str) for element in absent):
            return "absent elements of a phase of run.json are no list of symbols"
    return ""


def _tree_damage(tree: xr.DataTree, phases: Sequence[Mapping[str, Any]]) -> str:
    if "posterior" not in tree.children:
        return "posterior.nc has no group posterior"
    posterior = tree["posterior"].to_dataset()
    for name in _COMPOSITIONS:
        if name not in posterior:
            return f"posterior.nc has no {name}"
        if posterior[name].dims != _DIMENSIONS or posterior[name].dtype.kind != "f":
            return f"{name} of posterior.nc is no array of numbers ({', '.join(_DIMENSIONS)})"
    if not set(_DIMENSIONS[2:]) <= set(posterior.coords):
        return "posterior.nc names no phases or elements"
    named = [str(name) for name in posterior["phase"].values]
    if named != [phase["name"] for phase in phases]:
        return f"run.json and posterior.nc name different phases ({', '.join(named)} in the latter)"
    for group, variable in _GROUPS.items() if set(_GROUPS) & set(tree.children) else ():
        if group not in tree.children or variable not in tree[group].dataset:
            return f"posterior.nc has no {variable} in a group {group}"
    return ""
