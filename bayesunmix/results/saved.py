"""Whether an output folder that is opened holds what a run writes, so that damage is told as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from bayesunmix.results.record_shape import RECORD, misshapen

_COMPOSITIONS = ("composition", "composition_counting")
_DIMENSIONS = ("chain", "draw", "phase", "element")
# Groups of posterior.nc that a run writes, and the variables that each has always had with their dimensions. A result
# that was put together from draws alone, for a comparison, has none of them.
_BY_PHASE, _GRID = ("phase", "y", "x"), ("y", "x")
_GROUPS: dict[str, dict[str, tuple[str, ...]]] = {
    "maps": {
        **{f"abundance_{name}": _BY_PHASE for name in ("mean", "sd", "lower", "upper")},
        "pure_probability": _BY_PHASE,
        "label": _GRID,
    },
    "endmembers": {name: ("phase", "energy") for name in ("mean", "lower", "upper")},
    "fit": {
        **{
            name: ("energy_bin",)
            for name in ("energy_low", "energy_high", "observed", "expected", "continuum")
        },
        **{
            name: ("phase", "energy_bin")
            for name in ("expected_by_phase", "segment_observed", "segment_expected")
        },
    },
    "constant_data": {"total_counts": _GRID},
}
# What the maps hold where the record has a part of this name.
_MAPS_OF = {"misfit": ("misfit",), "mass_thickness": ("mass_thickness_mean", "mass_thickness_sd")}
# Parts of the record that are read together.
_TOGETHER = (("misfit", "misfit_search"), ("misfit_search", "misfit"), ("verdict", "findings"))


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
    return _record_damage(run) or _tree_damage(tree, run)  # type: ignore[arg-type]


def _record_damage(run: object) -> str:
    wrong = misshapen(run, RECORD)
    if wrong:
        return wrong
    assert isinstance(run, Mapping)
    if not 0.0 < run["config"]["inference"]["level"] < 1.0:
        return "config.inference.level of run.json is no probability"
    if not run["config"]["phases"]:
        return "config.phases of run.json names no phase"
    fit = run.get("fit", {})
    parts = [*((run, pair) for pair in _TOGETHER), (fit, ("residual_scan", "residual_regions"))]
    return next(
        (f"run.json has no {b} beside {a}" for part, (a, b) in parts if a in part and b not in part), ""
    )


def _tree_damage(tree: xr.DataTree, run: Mapping[str, Any]) -> str:
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
    config = run["config"]
    said = {"phase": [phase["name"] for phase in config["phases"]]}
    said |= {"element": config["sample"]["elements"]} if "elements" in config.get("sample", {}) else {}
    for kind, names in said.items():
        named = [str(name) for name in posterior[kind].values]
        if named != names:
            return f"run.json and posterior.nc name different {kind}s ({', '.join(named)} in the latter)"
    return _groups_damage(tree, run) or _starts_damage(run.get("starts", ()), posterior.sizes)


def _groups_damage(tree: xr.DataTree, run: Mapping[str, Any]) -> str:
    """Look for what a whole run writes; anything goes where none of it is there."""
    if not {"maps", "endmembers", "fit"} & set(tree.children):
        return ""
    for group, variables in _GROUPS.items():
        held = tree[group].dataset if group in tree.children else xr.Dataset()
        for name, dimensions in variables.items():
            if name not in held:
                return f"posterior.nc has no {name} in a group {group}"
            if held[name].dims != dimensions or held[name].dtype.kind not in "fiub":
                return f"{group}/{name} of posterior.nc is no array of numbers ({', '.join(dimensions)})"
    wanted = (name for part, names in _MAPS_OF.items() if part in run for name in names)
    lacking = next((name for name in wanted if name not in tree["maps"].dataset), None)
    return f"posterior.nc has no {lacking} in a group maps" if lacking else ""


def _starts_damage(starts: Sequence[Mapping[str, Any]], sizes: Mapping[Any, int]) -> str:
    for start in starts:
        rows = start.get("composition", ())
        if rows and [len(row) for row in rows] != [sizes["element"]] * sizes["phase"]:
            return "a composition in starts of run.json is not one of all phases and elements"
    return ""
