"""Tables of a result: one row per phase and element, one per ordered pair of phases and element."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.chemistry.detection import detect
from bayesunmix.core.credible import health, interval
from bayesunmix.core.rounding import interval_text

FloatArray = npt.NDArray[np.float64]

DETECTED, NOT_DETECTED, ABSENT = "true", "false", "declared_absent"
# A point without draws tests nothing: the column stays empty.
UNTESTED = ""
# What is stated by a value, with or without an interval, and not by a bound.
STATED = (DETECTED, UNTESTED)
BY_ATOMS, BY_WEIGHT = "atoms", "weight"


def _pooled(draws: xr.DataArray) -> FloatArray:
    """Draws of all chains end to end, (draw, ...)."""
    values = draws.transpose("chain", "draw", ...).values
    return values.reshape(-1, *values.shape[2:])


def detection_states(
    counting: xr.DataArray, absent: dict[str, list[str]], unsupported: Collection[str] = ()
) -> npt.NDArray[np.str_]:
    """State of every phase and element: true, false, declared_absent, or empty without draws, (phase, element).

    Nothing is detected in a phase that counts do not support.
    """
    draws = _pooled(counting)
    states = np.full(draws.shape[1:], UNTESTED, dtype="<U15")
    if len(draws) > 1:
        states[...] = np.where(detect(draws).detected, DETECTED, NOT_DETECTED)
    for k, phase in enumerate(counting["phase"].values):
        if phase in unsupported:
            states[k] = NOT_DETECTED
        states[k, np.isin(counting["element"].values, absent.get(str(phase), []))] = ABSENT
    return states


def composition_table(
    converted: xr.DataArray,
    counting: xr.DataArray,
    absent: dict[str, list[str]],
    level: float,
    unsupported: Collection[str] = (),
) -> pd.DataFrame:
    """Composition of every phase, the columns of ``composition.csv``.

    Parameters
    ----------
    converted : DataArray (chain, draw, phase, element)
        Draws in the wanted unit.
    counting : DataArray (chain, draw, phase, element)
        Atom fractions with nominal calibration factors, which decide on detection.
    absent : dict
        Elements declared absent, by phase.
    level : float
        Probability of the intervals.
    unsupported : collection of str
        Phases that counts do not support.
    """
    draws = _pooled(converted)
    elements = list(converted["element"].values)
    selected = counting.sel(element=elements)
    states = detection_states(selected, absent, unsupported)
    point = len(draws) == 1
    lower, upper = interval(draws, level)
    bound = np.quantile(draws, level, axis=0)
    # Limits are properties of the counting; the unit's scale carries them over.
    mean_counting = _pooled(selected).mean(axis=0)
    scale = np.divide(
        draws.mean(axis=0), mean_counting, out=np.zeros_like(mean_counting), where=mean_counting > 0
    )
    limits = detect(_pooled(selected))
    rhat, bulk, tail = health(converted.transpose("chain", "draw", "phase", "element").values)
    rows = []
    for k, phase in enumerate(converted["phase"].values):
        for i, element in enumerate(elements):
            state = states[k, i]
            absent_here, found = state == ABSENT, state == DETECTED
            values = draws[:, k, i]
            row = {
                "phase": phase,
                "element": element,
                "unit": converted.attrs.get("unit", "at_frac"),
                "mean": values.mean(),
                "sd": np.nan if point else values.std(ddof=1),
                "median": np.median(values),
                "lower": lower[k, i] if found else 0.0,
                "upper": upper[k, i] if found else bound[k, i],
                "level": level,
                "detected": str(state),
                "decision_threshold": limits.decision_threshold[k, i] * scale[k, i],
                "detection_limit": limits.detection_limit[k, i] * scale[k, i],
                "upper_bound": bound[k, i],
                "rhat": rhat[k, i],
                "ess_bulk": bulk[k, i],
                "ess_tail": tail[k, i],
            }
            if absent_here:
                row |= dict.fromkeys(("mean", "sd", "median", "lower", "upper", "upper_bound"), 0.0)
                row |= dict.fromkeys(("decision_threshold", "detection_limit"), np.nan)
            elif not np.isfinite(row["mean"]):
                # The unit is not one of this phase.
                row["lower"] = np.nan
            elif point:
                unknown = ("lower", "upper", "upper_bound", "decision_threshold", "detection_limit")
                row |= dict.fromkeys(unknown, np.nan)
            rows.append(row)
    return pd.DataFrame(rows)


def counted_share(tree: xr.DataTree, phase: str) -> float:
    """Share of the map's counts that a phase holds, from the tree of a result.

    Results of early versions kept abundances alone, which are shares of counts where a phase has no atoms.
    """
    maps, totals = tree["maps"].to_dataset(), tree["constant_data"].to_dataset()["total_counts"].values
    share = maps["count_share" if "count_share" in maps else "abundance_mean"].sel(phase=phase).values
    counts = np.where(np.isfinite(share), totals, 0.0)
    return float((counts * np.nan_to_num(share)).sum() / max(counts.sum(), 1.0))


def share_texts(table: pd.DataFrame) -> dict[str, str]:
    """Write the shares of `ResultTables.phase_shares` in per cent with their intervals, by phase."""
    rows = table[["phase", "mean", "lower", "upper"]].itertuples(index=False)
    return {
        str(phase): interval_text(100.0 * mean, 100.0 * lower, 100.0 * upper, "%")
        for phase, mean, lower, upper in rows
    }
