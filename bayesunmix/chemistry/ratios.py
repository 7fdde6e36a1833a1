"""Ratios of amounts: an interval where both sides are known, a bound where one is, nothing where none is.

For amounts x (each phase's share of an element) a partition coefficient is D = x(numerator) / x(denominator), an
exchange coefficient K_D = (x_1 / x_2)(numerator) / (x_1 / x_2)(denominator). What is said of a ratio depends on its
amounts:

    all resolved                          interval
    one of those above is not             upper bound
    one of those below is not             lower bound
    one of either side, or zero below     undetermined

*Resolved.* An amount with primary estimate m and standard uncertainty s (`bayesunmix.chemistry.detection.detect`) is
detected when m > k s, k = 1.645. That happens to 5 % of all zeros, whose ratios would be ratios of noise. Looked at
only because it was detected, an amount has the likelihood

    L(x) proportional to phi((m - x) / s) / Phi(x / s - k),

phi and Phi being the normal density and distribution: counts are seen where they exceed k s. The amount is resolved
when its interval under this likelihood leaves zero out,

    1 - Phi(m / s) < (1 - level) / 2 x 5 %,      m > 3.02 s at a level of 95 %.

Draws that several rotations scatter are no truncated normal, and some of them may lie at zero however large m / s is.
The amount is not resolved where these are more than (1 - level) / 2, and where they are fewer they keep their number:
it is not noise that put them there.

*Interval.* Its ends are quantiles of the draws, each weighted by 1 / Phi(x / s - k) for every amount of the ratio: the
posterior given that they were detected. Weights differ from 1 near the decision threshold only, where amounts that were
seen were seen because noise raised them. Quantiles of D are those of log D, so an interval is one on a log scale.
A bound is a quantile of the unweighted draws, which holds with the stated probability or more whenever small amounts
are no rarer than large ones.

Source: Yekutieli, D., J. R. Stat. Soc. B 74 (2012) 515, doi:10.1111/j.1467-9868.2011.01016.x (Bayesian inference for
parameters selected after viewing the data).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.special import log_ndtr, ndtri

from bayesunmix.chemistry.detection import FALSE_DECISIONS_K, detect
from bayesunmix.core.credible import health

FloatArray = npt.NDArray[np.float64]

INTERVAL, UPPER, LOWER, UNDETERMINED = "interval", "upper", "lower", "undetermined"
# A ratio of two amounts at the mode, without draws.
POINT = "point"
RESOLVED, WEAK, UNSEEN, NOTHING = "resolved", "detected but not resolved", "not detected", "declared absent"
FALSE_DETECTIONS = 0.05
# Draws below this, in units of s, lie at zero. Of a truncated normal with m > 3.02 s it is 1 in 600, and the lower end
# of its weighted draws is 0.36 s.
AT_ZERO = 0.1
_STATISTICS = ("mean", "sd", "median", "lower", "upper")
_MORE = (
    "prob_above_1",
    "rhat",
    "ess_bulk",
    "ess_tail",
    "lower_counting",
    "upper_counting",
    "log10_mean",
    "log10_sd",
)


@dataclass(frozen=True, kw_only=True)
class Amounts:
    """Amounts of every element in every phase, and what may be said of each.

    Attributes
    ----------
    draws : (chain, draw, phase, element)
        In the unit of the ratio.
    counting : (chain, draw, phase, element)
        The same with nominal calibration factors.
    log_weight : (chain, draw, phase, element)
        Logarithm of the weight that the detection of the amount gives to a draw.
    words : (phase, element)
        `RESOLVED`, `WEAK`, `UNSEEN` or `NOTHING`.
    phases, elements
        Names.
    level : float
        Probability of the intervals.
    """

    draws: FloatArray
    counting: FloatArray
    log_weight: FloatArray
    words: npt.NDArray[np.str_]
    phases: tuple[str, ...]
    elements: tuple[str, ...]
    level: float


def resolved_beyond(level: float) -> float:
    """Return the ratio of estimate to uncertainty beyond which an amount is resolved.

    Examples
    --------
    >>> round(resolved_beyond(0.95), 2)
    3.02
    """
    return float(-ndtri(FALSE_DETECTIONS * (1.0 - level) / 2.0))


def amounts(
    composition: xr.DataArray,
    counting: xr.DataArray,
    absent: dict[str, list[str]],
    level: float,
    seen: xr.DataArray | None = None,
    unsupported: Collection[str] = (),
) -> Amounts:
    """Judge every amount of a result.

    Parameters
    ----------
    composition, counting : DataArray (chain, draw, phase, element)
        With and without calibration errors.
    absent : dict
        Elements declared absent, by phase.
    level : float
        Probability of the intervals.
    seen : DataArray (chain, draw, phase, element), optional
        Amounts that decide on detection, atom fractions with nominal calibration; by default `counting`.
    unsupported : collection of str
        Phases that counts do not support: nothing is detected in them.
    """
    dims = ("chain", "draw", "phase", "element")
    judged = (counting if seen is None else seen).transpose(*dims).values
    flat = judged.reshape(-1, *judged.shape[2:])
    log_weight = np.zeros_like(judged)
    if len(flat) == 1:
        words = np.where(flat[0] > 0.0, RESOLVED, UNSEEN).astype("<U30")
    else:
        found = detect(flat)
        position = np.divide(
            found.estimate,
            found.uncertainty,
            out=np.where(found.estimate > 0, np.inf, 0.0),
            where=found.uncertainty > 0,
        )
        scaled = judged / np.where(found.uncertainty > 0, found.uncertainty, 1.0)
        tail = (1.0 - level) / 2.0
        clear = (position > resolved_beyond(level)) & ((scaled < AT_ZERO).mean(axis=(0, 1)) <= tail)
        words = np.where(clear, RESOLVED, np.where(found.detected, WEAK, UNSEEN)).astype("<U30")
        raised = -log_ndtr(scaled - FALSE_DECISIONS_K)
        for place in zip(*np.nonzero(clear), strict=True):
            own, weight = (each[:, :, *place].ravel() for each in (scaled, np.exp(raised)))
            if weighted_quantile(own, weight, [tail])[0] > AT_ZERO:
                log_weight[:, :, *place] = raised[:, :, *place]
    for k, phase in enumerate(composition["phase"].values):
        if phase in unsupported:
            words[k] = UNSEEN
        words[k, np.isin(composition["element"].values, absent.get(str(phase), []))] = NOTHING
    return Amounts(
        draws=composition.transpose(*dims).values,
        counting=counting.transpose(*dims).values,
        log_weight=log_weight,
        words=words,
        phases=tuple(map(str, composition["phase"].values)),
        elements=tuple(map(str, composition["element"].values)),
        level=level,
    )


def partition_rows(found: Amounts) -> pd.DataFrame:
    """Partition coefficients of every ordered pair of phases and every element."""
    rows = []
    for numerator, denominator in ordered_pairs(found.phases):
        top, bottom = found.phases.index(numerator), found.phases.index(denominator)
        for i, element in enumerate(found.elements):
            names: dict[str, float | str] = {
                "element": element,
                "numerator": numerator,
                "denominator": denominator,
            }
            rows.append(names | _ratio(found, [(top, i)], [(bottom, i)]))
    # A single phase has no pairs: the columns are there all the same.
    return pd.DataFrame(rows, columns=["element", "numerator", "denominator", *_row(0.0, "", "")])


def exchange_rows(found: Amounts, first: str, second: str) -> pd.DataFrame:
    """Exchange coefficients K_D = (first / second)(above) / (first / second)(below) of every ordered pair of phases."""
    i, j = found.elements.index(first), found.elements.index(second)
    rows = []
    for numerator, denominator in ordered_pairs(found.phases):
        top, bottom = found.phases.index(numerator), found.phases.index(denominator)
        exchange: dict[str, float | str] = {
            "exchange": f"{first}-{second}",
            "numerator": numerator,
            "denominator": denominator,
        }
        rows.append(exchange | _ratio(found, [(top, i), (bottom, j)], [(top, j), (bottom, i)]))
    return pd.DataFrame(rows, columns=["exchange", "numerator", "denominator", *_row(0.0, "", "")])


Place = tuple[int, int]


def _ratio(found: Amounts, above: list[Place], below: list[Place]) -> dict[str, float | str]:
    """Summary of a ratio of products of amounts, each given by its phase and element."""
    words_above, words_below = ([str(found.words[place]) for place in side] for side in (above, below))
    kind, reason = _kind(words_above, words_below)
    if kind == UNDETERMINED:
        return _row(found.level, kind, reason)
    if NOTHING in words_above:
        return _row(found.level, kind, reason, **dict.fromkeys((*_STATISTICS, "prob_above_1"), 0.0))
    ratio, counting = (_quotient(draws, above, below) for draws in (found.draws, found.counting))
    weight = np.exp(sum(found.log_weight[:, :, k, i] for k, i in above + below)).ravel()
    values = ratio.ravel()
    if len(values) == 1:
        return _row(found.level, POINT, "", median=values[0], mean=values[0])
    two_sided = _moments(values, weight) if kind == INTERVAL else {}
    if kind != INTERVAL:
        weight = np.ones_like(values)
    lower, upper = _ends(values, weight, kind, found.level)
    lower_counting, upper_counting = _ends(counting.ravel(), weight, kind, found.level)
    rhat, bulk, tail = (float(value[0]) for value in health(np.log(np.maximum(ratio, 1e-300))[:, :, None]))
    return _row(
        found.level,
        kind,
        reason,
        median=float(weighted_quantile(values, weight, [0.5])[0]),
        lower=lower,
        upper=upper,
        prob_above_1=float(weight[values > 1.0].sum() / weight.sum()),
        rhat=rhat,
        ess_bulk=bulk,
        ess_tail=tail,
        lower_counting=lower_counting,
        upper_counting=upper_counting,
        **two_sided,
    )


def _kind(above: list[str], below: list[str]) -> tuple[str, str]:
    """Kind of a ratio from what is known of its amounts, and why it is no interval."""
    reasons = [
        f"{side} {word}"
        for side, words in (("numerator", above), ("denominator", below))
        for word in dict.fromkeys(words)
        if word != RESOLVED
    ]
    reason = "; ".join(reasons)
    if NOTHING in below:
        return UNDETERMINED, reason
    if NOTHING in above:
        return UPPER, reason
    known = all(word == RESOLVED for word in above), all(word == RESOLVED for word in below)
    return {(True, True): INTERVAL, (False, True): UPPER, (True, False): LOWER}.get(
        known, UNDETERMINED
    ), reason


def _quotient(draws: FloatArray, above: list[Place], below: list[Place]) -> FloatArray:
    top, bottom = (np.prod([draws[:, :, k, i] for k, i in side], axis=0) for side in (above, below))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(top / bottom)


def _ends(values: FloatArray, weight: FloatArray, kind: str, level: float) -> tuple[float, float]:
    if kind == UPPER:
        return 0.0, float(weighted_quantile(values, weight, [level])[0])
    if kind == LOWER:
        return float(weighted_quantile(values, weight, [1.0 - level])[0]), np.inf
    lower, upper = weighted_quantile(values, weight, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return float(lower), float(upper)


def _moments(values: FloatArray, weight: FloatArray) -> dict[str, float]:
    """Mean and sd of a ratio and of its decadic logarithm."""
    share = weight / weight.sum()
    freedom = 1.0 - float(share @ share)
    found = {}
    for prefix, series in (("", values), ("log10_", np.log10(np.maximum(values, 1e-300)))):
        mean = float(share @ series)
        found[f"{prefix}mean"] = mean
        found[f"{prefix}sd"] = float(np.sqrt(share @ (series - mean) ** 2 / freedom))
    return found


def weighted_quantile(values: FloatArray, weight: FloatArray, shares: list[float]) -> FloatArray:
    """Quantiles of weighted draws, linear between them; with equal weights those of `numpy.quantile`."""
    order = np.argsort(values)
    below = np.cumsum(weight[order]) - weight[order]
    return np.asarray(np.interp(shares, below / below[-1], values[order]))


def _row(level: float, kind: str, reason: str, **known: float) -> dict[str, float | str]:
    """Columns after the names, in order, with what is not known as nan."""
    before = {name: known.get(name, np.nan) for name in _STATISTICS}
    after = {name: known.get(name, np.nan) for name in _MORE}
    return {**before, "level": level, "kind": kind, **after, "reason": reason}


def ordered_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Every ordered pair of different names."""
    return [(first, second) for first in names for second in names if first != second]
