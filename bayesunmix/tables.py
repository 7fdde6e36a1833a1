"""Tables of a result: one row per phase and element, one per ordered pair of phases and element."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.quantify import detect, health, interval, ordered_pairs

FloatArray = npt.NDArray[np.float64]

DETECTED, NOT_DETECTED, ABSENT = "true", "false", "declared_absent"


def _pooled(draws: xr.DataArray) -> FloatArray:
    """Draws of all chains end to end, (draw, ...)."""
    values = draws.transpose("chain", "draw", ...).values
    return values.reshape(-1, *values.shape[2:])


def detection_states(counting: xr.DataArray, absent: dict[str, list[str]]) -> npt.NDArray[np.str_]:
    """State of every phase and element: true, false or declared_absent, shape (phase, element)."""
    draws = _pooled(counting)
    point = len(draws) == 1
    detected = draws[0] > 0 if point else detect(draws).detected
    states = np.where(detected, DETECTED, NOT_DETECTED).astype("<U15")
    for k, phase in enumerate(counting["phase"].values):
        states[k, np.isin(counting["element"].values, absent.get(str(phase), []))] = ABSENT
    return states


def composition_table(
    converted: xr.DataArray, counting: xr.DataArray, absent: dict[str, list[str]], level: float
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
    """
    draws = _pooled(converted)
    elements = list(converted["element"].values)
    selected = counting.sel(element=elements)
    states = detection_states(selected, absent)
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
            elif point:
                unknown = ("lower", "upper", "upper_bound", "decision_threshold", "detection_limit")
                row |= dict.fromkeys(unknown, np.nan)
            rows.append(row)
    return pd.DataFrame(rows)


def partition_table(
    composition: xr.DataArray, counting: xr.DataArray, absent: dict[str, list[str]], level: float
) -> pd.DataFrame:
    """Partition coefficients D = x(numerator) / x(denominator), the columns of ``partition.csv``.

    A ratio with a side that was not detected is a bound: ``upper`` when the numerator was not, ``lower`` when the
    denominator was not; with neither it is ``undetermined``.

    Parameters
    ----------
    composition, counting : DataArray (chain, draw, phase, element)
    absent : dict
    level : float
    """
    states = detection_states(counting, absent)
    phases = [str(phase) for phase in composition["phase"].values]
    ordered = composition.transpose("chain", "draw", "phase", "element")
    rows = []
    for numerator, denominator in ordered_pairs(phases):
        top, bottom = phases.index(numerator), phases.index(denominator)
        for i, element in enumerate(composition["element"].values):
            pair = (states[top, i], states[bottom, i])
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = (ordered[:, :, top, i] / ordered[:, :, bottom, i]).values
            identity = {"element": element, "numerator": numerator, "denominator": denominator}
            rows.append(identity | _ratio_row(ratio, pair, level))
    # A single phase has no pairs: the columns are there all the same.
    return pd.DataFrame(rows, columns=["element", "numerator", "denominator", *_row(level, "")])


def _ratio_row(ratio: FloatArray, states: tuple[str, str], level: float) -> dict[str, float | str]:
    """Summary of one partition coefficient's draws, shape (chain, draw)."""
    top, bottom = states
    if bottom == ABSENT or (top == NOT_DETECTED and bottom == NOT_DETECTED):
        return _row(level, "undetermined")
    if top == ABSENT:
        return _row(level, "upper", mean=0.0, sd=0.0, median=0.0, lower=0.0, upper=0.0, prob_above_1=0.0)
    values = ratio.ravel()
    ends = [float(end) for end in interval(values, level)]
    kind = "interval"
    if top == NOT_DETECTED:
        kind, ends = "upper", [0.0, float(np.quantile(values, level))]
    elif bottom == NOT_DETECTED:
        kind, ends = "lower", [float(np.quantile(values, 1.0 - level)), np.inf]
    rhat, bulk, tail = (float(value[0]) for value in health(np.log(np.maximum(ratio, 1e-300))[:, :, None]))
    point, two_sided = len(values) == 1, kind == "interval"
    return _row(
        level,
        kind,
        mean=float(values.mean()) if two_sided else np.nan,
        sd=float(values.std(ddof=1)) if two_sided and not point else np.nan,
        median=float(np.median(values)),
        lower=np.nan if point else ends[0],
        upper=np.nan if point else ends[1],
        prob_above_1=float((values > 1.0).mean()),
        rhat=rhat,
        ess_bulk=bulk,
        ess_tail=tail,
    )


def _row(level: float, kind: str, **known: float) -> dict[str, float | str]:
    """Columns of ``partition.csv`` after the names, in order, with what is not known as nan."""
    before = {name: known.get(name, np.nan) for name in ("mean", "sd", "median", "lower", "upper")}
    after = {name: known.get(name, np.nan) for name in ("prob_above_1", "rhat", "ess_bulk", "ess_tail")}
    return {**before, "level": level, "kind": kind, **after}
