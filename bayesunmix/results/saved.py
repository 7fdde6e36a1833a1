"""Whether an output folder that is opened holds what a run writes, so that damage is told as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from bayesunmix.results.record import DamagedError, RunRecord
from bayesunmix.results.record_parts import StartingPoint

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


def with_numbers(tree: xr.DataTree) -> xr.DataTree:
    """Give the sampler's statistics the numbers of chains and draws, which ArviZ looks up; once there were none."""
    statistics = tree["sample_stats"].to_dataset() if "sample_stats" in tree.children else xr.Dataset()
    missing = [
        name for name in ("chain", "draw") if name in statistics.dims and name not in statistics.coords
    ]
    if not missing:
        return tree
    posterior = tree["posterior"].dataset
    return tree.assign(
        sample_stats=xr.DataTree(statistics.assign_coords({name: posterior[name] for name in missing}))
    )


def check_tree(tree: xr.DataTree, record: RunRecord) -> None:
    """Check that what ``posterior.nc`` holds is what a run writes, and goes with the record.

    Parameters
    ----------
    tree
        What ``posterior.nc`` holds.
    record
        What ``run.json`` holds.

    Raises
    ------
    DamagedError
    """
    wrong = _tree_damage(tree, record)
    if wrong:
        raise DamagedError(wrong)


def _tree_damage(tree: xr.DataTree, record: RunRecord) -> str:
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
    said = {"phase": [phase.name for phase in record.config.phases]}
    said |= {"element": list(record.config.sample.elements)} if record.config.sample.elements else {}
    for kind, names in said.items():
        named = [str(name) for name in posterior[kind].values]
        if named != names:
            return f"run.json and posterior.nc name different {kind}s ({', '.join(named)} in the latter)"
    return _groups_damage(tree, record) or _starts_damage(record.starts, posterior.sizes)


def _groups_damage(tree: xr.DataTree, record: RunRecord) -> str:
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
    wanted = ["misfit"] if record.unmodelled_regions else []
    wanted += ["mass_thickness_mean", "mass_thickness_sd"] if record.mass_thickness else []
    lacking = next((name for name in wanted if name not in tree["maps"].dataset), None)
    return f"posterior.nc has no {lacking} in a group maps" if lacking else ""


def _starts_damage(starts: Sequence[StartingPoint], sizes: Mapping[Any, int]) -> str:
    for start in starts:
        rows = start.composition
        if rows and [len(row) for row in rows] != [sizes["element"]] * sizes["phase"]:
            return "a composition in starts of run.json is not one of all phases and elements"
    return ""
