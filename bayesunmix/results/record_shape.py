"""What the record of a run holds, key by key: what reads ``run.json`` relies on it.

A shape is a type (``float`` stands for any number, ``dict`` for any table), a list of one shape (any number of such
entries) or of several (exactly these entries), a table of shapes, `Each` for a table of any keys, a set or range that
the value is one of, None for null, or a tuple of shapes of which one fits. Keys that end in a question mark may be
missing, and further ones do no harm: versions differ.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from bayesunmix.checks.regions import MapRegion
from bayesunmix.chemistry.unit_names import UNITS
from bayesunmix.core.severity import Severity
from bayesunmix.results.verdict import WORDS

Shape = Any


@dataclass(frozen=True)
class Each:
    """A table of any keys, whose entries all have one shape."""

    shape: Shape


class Exactly(dict[str, Shape]):
    """A table without further keys."""


_NUMBER_OR_NONE = (float, None)
_TEXT_OR_NONE = (str, None)
_PAIR = [float, float]
_RATIOS = Each(_NUMBER_OR_NONE)

_FINDING = Exactly({"severity": frozenset(get_args(Severity)), "text": str, "about?": str})
_REGION = Exactly(
    {
        **{field.name: float for field in fields(MapRegion)},
        "pixels": int,
        "kind": str,
        "excess": _RATIOS,
        "lacking": _RATIOS,
    }
)
_RESIDUAL_REGION = {
    **{name: str for name in ("spectrum", "cause")},
    **{name: float for name in ("low_keV", "high_keV", "energy_keV", "sigma", "excess_counts", "chance")},
    "elements?": [str],
}
_RESIDUAL_SCAN = {
    name: float for name in ("threshold_sigma", "regions_expected_of_noise", "global_threshold_sigma")
}
_FIT = {
    "deviance_per_dof_total?": _NUMBER_OR_NONE,
    "deviance_per_dof_segments?": (_NUMBER_OR_NONE, [_NUMBER_OR_NONE]),
    "residual_regions?": [_RESIDUAL_REGION],
    "residual_scan?": _RESIDUAL_SCAN,
}
_PINNED = {
    **{name: str for name in ("phase", "element")},
    **{name: float for name in ("at_frac", "sd", "flat_sd", "flat_low", "flat_high")},
    **{name: _TEXT_OR_NONE for name in ("pinned_by", "would_gain")},
    **{name: _NUMBER_OR_NONE for name in ("sd_without", "sd_with")},
}
_IDENTIFIABILITY = {
    "loose_ends?": [{"phase": str, "other": str}],
    "compositions?": [_PINNED],
    "flat_directions?": [{"kept": float, "element": str, "phase": str, "change": float}],
}
_MAP = {
    "name?": _TEXT_OR_NONE,
    "shape?": [int, int, int],
    "left_out?": [{"reason": str, "pixels": int}],
    "energy_keV?": _PAIR,
    "acquisition?": {
        "Acquisition_instrument?": {
            "TEM?": {"beam_energy?": float, "Detector?": {"EDS?": {"elevation_angle?": float}}}
        }
    },
}
_STEPS = {
    **{name: float for name in ("shift_sd", "width_ratio", "acceptance")},
    "worst_quantity": str,
    "holds": bool,
}
_DIAGNOSTICS = {
    **{f"{name}?": _NUMBER_OR_NONE for name in ("rhat_max", "ess_bulk_min", "pareto_k", "divergences")},
    "exact_steps?": (_STEPS, None),
}
_PHASE_NUMBER = {
    "chosen": int,
    "curve": [{"k": float, "score": float, "se": float}],
    "rule": str,
    "next_phase": (
        {"composition": Each(float), **{name: float for name in ("share", "gain", "gain_se")}},
        None,
    ),
}
_THICKNESS_ROW = {"where": str, "mean": float, "lower": float, "upper": float, "unit": str}
_CONFIG = {
    "map?": {"energy_range?": (_PAIR, None)},
    "sample?": {
        "elements?": [str],
        "stray?": [str],
        "oxygen?": frozenset({"stoichiometry", "measured", "none"}),
        "thickness_nm?": (_PAIR, None),
        "density_g_cm3?": (_PAIR, None),
        "bulk_wt_pct?": (dict, None),
    },
    "instrument?": {"beam_energy_keV?": _NUMBER_OR_NONE, "takeoff_angle_deg?": _NUMBER_OR_NONE},
    "xray?": {"k_factors?": (Each(_PAIR), None), "zeta_factors?": (Each(_PAIR), None)},
    "output?": {"units?": [frozenset(UNITS)]},
    "inference": {"level": float, "chains?": int, "draws?": int, "warmup?": int},
    "phases": [{"name": str, "absent?": [str], "matrix?": bool, "stoichiometry?": _TEXT_OR_NONE}],
}
RECORD = {
    "version?": str,
    "versions?": Each(str),
    "seed?": range(2**63),
    "method": str,
    "hash?": str,
    "lines?": str,
    "map?": _MAP,
    "config": _CONFIG,
    "timings?": Each(float),
    "binning?": {
        **{name: int for name in ("bins", "block_side", "channels?", "blocks?")},
        "mean_counts_per_block?": _NUMBER_OR_NONE,
    },
    "response?": {f"{name}?": _NUMBER_OR_NONE for name in ("gain", "offset_keV", "noise_eV", "fano")},
    "line_ratios?": dict,
    "undeclared?": Each(float),
    "undeclared_shown?": [str],
    "film?": dict,
    "components?": [str],
    "supports?": [str],
    "starts?": [
        {"objective": float, "same_mode": bool, "followed?": bool, "composition?": [[_NUMBER_OR_NONE]]}
    ],
    "rival_share?": float,
    "diagnostics?": _DIAGNOSTICS,
    "fit?": _FIT,
    "photons?": Each(float),
    "robust?": (Exactly({}), {"reason": str}),
    "misfit?": [_REGION],
    "misfit_search?": {"threshold": float, "false_alarm?": float, "spread?": float},
    "overlap?": {"share": float, "nats_per_block": float},
    "mass_thickness?": {"table": [_THICKNESS_ROW]},
    "identifiability?": _IDENTIFIABILITY,
    "phase_number?": _PHASE_NUMBER,
    "verdict?": frozenset(WORDS),
    "findings?": [_FINDING],
    "problems": [str],
    "warnings?": [str],
    "assumptions?": [str],
    "checksums?": Exactly({"posterior.nc?": str}),
}
"""The shape of ``run.json``."""

_WORDS = {dict: "a table", list: "a list", str: "a text", int: "a whole number", bool: "true or false"}


def misshapen(value: object, shape: Shape, name: str = "") -> str:
    """Say in a few words where a value has another shape than it must; empty where it has it.

    Parameters
    ----------
    value
        As JSON reads it.
    shape
        See the module.
    name
        Where the value stands, as ``fit.residual_regions[1]``; empty for the whole record.

    Examples
    --------
    >>> misshapen({"fit": {"sigma": [1.0, "x"]}}, {"fit": {"sigma": [float]}})
    'fit.sigma[2] of run.json is not a number'
    """
    if isinstance(shape, tuple):
        found = [misshapen(value, one, name) for one in shape]
        return "" if "" in found else found[0]
    if isinstance(shape, dict):
        return _in_table(value, shape, name)
    if isinstance(shape, Each):
        wrong = _wrong(isinstance(value, Mapping), name, "a table")
        entries = value.items() if isinstance(value, Mapping) else ()
        return wrong or _first(misshapen(entry, shape.shape, _below(name, key)) for key, entry in entries)
    return _in_list(value, shape, name) if isinstance(shape, list) else _single(value, shape, name)


def _in_table(value: object, shape: Mapping[str, Shape], name: str) -> str:
    if not isinstance(value, Mapping):
        return _wrong(False, name, "a table")
    for key, one in shape.items():
        plain = key.removesuffix("?")
        if plain in value:
            wrong = misshapen(value[plain], one, _below(name, plain))
        else:
            wrong = "" if key != plain else f"{_of(name)} has no {plain}"
        if wrong:
            return wrong
    more = [key for key in value if key not in shape and f"{key}?" not in shape]
    return f"{_of(name)} has an unknown {more[0]}" if more and isinstance(shape, Exactly) else ""


def _in_list(value: object, shape: list[Shape], name: str) -> str:
    if not isinstance(value, list):
        return _wrong(False, name, "a list")
    if len(shape) > 1 and len(value) != len(shape):
        return _wrong(False, name, f"a list of {len(shape)}")
    shapes = shape * len(value) if len(shape) == 1 else shape
    return _first(
        misshapen(entry, one, f"{name}[{index}]")
        for index, (entry, one) in enumerate(zip(value, shapes, strict=True), start=1)
    )


def _single(value: object, shape: Shape, name: str) -> str:
    if shape is None:
        return _wrong(value is None, name, "null")
    if shape is float:
        return _wrong(isinstance(value, numbers.Real) and not isinstance(value, bool), name, "a number")
    if isinstance(shape, range):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return _wrong(whole and value in shape, name, "a whole number that is allowed")
    if isinstance(shape, frozenset):
        return _wrong(isinstance(value, str) and value in shape, name, f"one of {', '.join(sorted(shape))}")
    fits = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    return _wrong(fits, name, _WORDS[shape])


def _wrong(fits: bool, name: str, what: str) -> str:
    return "" if fits else f"{_of(name)} is not {what}"


def _of(name: str) -> str:
    return f"{name} of run.json" if name else "run.json"


def _below(name: str, key: object) -> str:
    return f"{name}.{key}" if name else str(key)


def _first(found: Iterable[str]) -> str:
    return next((wrong for wrong in found if wrong), "")
