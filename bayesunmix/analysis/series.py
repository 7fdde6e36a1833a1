"""The hierarchical model of a series, run from results: partition coefficients of several maps, partially pooled.

Two stages. Each map's posterior of the two phases' compositions is a likelihood of its partition coefficients: a
normal in the two amounts, truncated at zero only by its prior, which is what the draws are (`bayesunmix.models.ratio`).
Amounts are those at nominal calibration factors; what the common draws of the factors do to ln D is a shift of all
elements of a map,

    ln D_e = ln D_e(nominal) + h,    h = ln sum_e n_e(denominator) exp(-f_e) - ln sum_e n_e(numerator) exp(-f_e),

because the element's own factor cancels and only the normalisations are left. Its covariance between maps goes into
the model (`bayesunmix.models.series`). Every pair of phases is a model of its own, all elements together.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayesunmix.chemistry.detection import detect
from bayesunmix.core.attached import Attached
from bayesunmix.core.credible import health, interval
from bayesunmix.core.errors import InputError, check_positive
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.models.ratio import MeasuredRatios
from bayesunmix.models.series import SCATTER_SD, SeriesData, residual_basis, series_model

if TYPE_CHECKING:
    from bayesunmix.analysis.common_draws import CommonDraws, Covariate
    from bayesunmix.inference.hierarchical import ModelSampler

FloatArray = npt.NDArray[np.float64]

RHAT_LIMIT = 1.01
ESS_LEAST = 200.0
DRAWS, WARMUP = 1000, 750
# A pair whose sampler has problems is sampled again, so many times as long.
PATIENCE = (1, 8)
# Intervals do not feel a few draws in a thousand that diverge in the tails.
DIVERGENT_SHARE = 0.005
# Correlations of a thousand draws are noisy: this share of them is left out, so that their inverse exists.
SHRINKAGE = 0.02
# Where the maps say nothing of an element, its centre has the width of its prior.
FREE_SCALE = 5.0
# An element of which the poorer phase holds less than this atom fraction is a trace.
TRACE = 0.005
# Maps with an interval that a slope and a mean need; bounds of further maps are used, but do not carry a number alone.
LEAST_WITH_TREND, LEAST_WITHOUT = 3, 2


@dataclass(frozen=True, eq=False, kw_only=True)
class PairFit:
    """Posterior of one pair of phases.

    Attributes
    ----------
    numerator, denominator : str
    draws : dict of str to (chain, draw, ...)
        Draws of `bayesunmix.models.series`.
    kinds : (map, element)
        What each map alone knows of D.
    divergences : int
    """

    numerator: str
    denominator: str
    draws: dict[str, FloatArray]
    kinds: npt.NDArray[np.str_]
    divergences: int

    def reported(self, *, trend: bool) -> npt.NDArray[np.bool_]:
        """Elements of which enough maps have an interval, shape (element,)."""
        return reported_elements(self.kinds, trend=trend)

    def problems(self, *, trend: bool) -> tuple[str, ...]:
        """Sentences on what the sampler did not do well."""
        pair = f"Series of {self.numerator}/{self.denominator}"
        said = []
        if self.divergences > DIVERGENT_SHARE * self.draws["scatter"].size:
            said.append(f"{pair}: {self.divergences} draws diverged.")
        judged = [self.draws[name] for name in ("centre", "slope", "element_scatter") if name in self.draws]
        keep = self.reported(trend=trend)
        if not keep.any():
            return tuple(said)
        rhat, bulk, _ = health(np.concatenate([values[..., keep] for values in judged], axis=-1))
        if np.nanmax(rhat) > RHAT_LIMIT:
            said.append(f"{pair}: the chains disagree (R-hat {np.nanmax(rhat):.3f}).")
        if np.nanmin(bulk) < ESS_LEAST:
            said.append(f"{pair}: only {np.nanmin(bulk):.0f} effective draws.")
        return tuple(said)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Series(Summarised):
    """Partially pooled partition coefficients of a comparison.

    Attributes
    ----------
    fits : tuple of PairFit
        Every pair of phases once.
    elements, names : tuple of str
    covariate : Covariate or None
        None where there is no trend.
    unpooled : dict of pair to (map, draw, element)
        Draws of each map's own D.
    level : float
    scatter_sd : float
        Scale of the prior of the scatter between maps.
    """

    fits: tuple[PairFit, ...]
    elements: tuple[str, ...]
    names: tuple[str, ...]
    covariate: Covariate | None
    unpooled: dict[tuple[str, str], FloatArray]
    level: float
    scatter_sd: float

    @property
    def spread(self) -> float:
        """Standard deviation of the covariate over the maps, the unit of z; 1 without a covariate."""
        return float(np.std(self.covariate.values)) if self.covariate is not None else 1.0

    def trend(self) -> pd.DataFrame:
        """Slope of ln D per unit of the covariate, D at its mean, and the scatter between maps.

        One row for each ordered pair of phases and element. ``kind`` is ``interval``, or ``undetermined`` where fewer
        than three maps (two without a covariate) have one: the numbers would be the prior's.
        """
        rows = []
        for fit, sign in self._both_ways():
            reported = fit.reported(trend=self.covariate is not None)
            for i, element in enumerate(self.elements):
                identity = _identity(fit, sign, element)
                rows.append(identity | self._trend_row(fit, sign, i, bool(reported[i])))
        return pd.DataFrame(rows)

    def _trend_row(self, fit: PairFit, sign: float, i: int, reported: bool) -> dict[str, Any]:
        named: dict[str, FloatArray] = {
            "D_centre": np.exp(sign * fit.draws["centre"][..., i]),
            "scatter": fit.draws["element_scatter"][..., i],
        }
        row: dict[str, Any] = {"n_intervals": int((fit.kinds[:, i] == "interval").sum())}
        judged = sign * fit.draws["centre"][..., i]
        if self.covariate is not None:
            judged = sign * fit.draws["slope"][..., i] / self.spread
            named = {"slope": judged} | named
            row |= {
                "covariate": self.covariate.name,
                "covariate_centre": float(np.mean(self.covariate.values)),
            }
            row |= {
                "slope_mean": float(judged.mean()) if reported else np.nan,
                "slope_sd": float(judged.std(ddof=1)) if reported else np.nan,
                "prob_slope_positive": float((judged > 0).mean()) if reported else np.nan,
            }
        for name, draws in named.items():
            row |= _quantiles(name, draws.ravel(), self.level, reported)
        rhat, bulk, tail = (float(value[0]) for value in health(judged[..., None]))
        row |= {"level": self.level, "kind": "interval" if reported else "undetermined"}
        return row | {"rhat": rhat, "ess_bulk": bulk, "ess_tail": tail}

    def maps(self) -> pd.DataFrame:
        """D of every map alone and partially pooled; ``kind`` says what the map alone knows."""
        rows = []
        for fit, sign in self._both_ways():
            alone = self.unpooled[fit.numerator, fit.denominator]
            reported = fit.reported(trend=self.covariate is not None)
            for i, element in enumerate(self.elements):
                for r, name in enumerate(self.names):
                    row: dict[str, Any] = _identity(fit, sign, element) | {"result": name}
                    if self.covariate is not None:
                        row["covariate"] = self.covariate.values[r]
                    kind = _mirrored(str(fit.kinds[r, i]), sign)
                    with np.errstate(divide="ignore"):
                        own = alone[r, :, i] ** sign
                    row |= _quantiles("D", own, self.level, kind == "interval")
                    if kind in ("upper", "lower"):
                        row |= _bound(own, kind, self.level)
                    pooled = np.exp(sign * fit.draws["log_ratio"][:, :, r, i]).ravel()
                    row |= _quantiles("pooled", pooled, self.level, bool(reported[i]))
                    rows.append(row | {"level": self.level, "kind": kind})
        return pd.DataFrame(rows)

    def _both_ways(self) -> list[tuple[PairFit, float]]:
        return [(fit, sign) for fit in self.fits for sign in (1.0, -1.0)]

    def _summary(self) -> Summary:
        from bayesunmix.core.rounding import interval_text

        table, name, lines = self.trend(), "D_centre", []
        title = f"Partition coefficients of {len(self.names)} maps, pooled:"
        if self.covariate is not None:
            name, title = "slope", f"Slope of ln D over {self.covariate.name}, {len(self.names)} maps:"
        first = {(fit.numerator, fit.denominator) for fit in self.fits}
        for row in table[table["kind"] == "interval"].to_dict("records"):
            if (row["numerator"], row["denominator"]) in first:
                text = interval_text(*(row[f"{name}_{end}"] for end in ("median", "lower", "upper")))
                lines.append(f"D({row['numerator']}/{row['denominator']}) of {row['element']}: {text}")
        return Summary(title, lines=tuple(lines))

    @property
    def problems(self) -> tuple[str, ...]:
        """Sentences on what the sampler did not do well."""
        trend = self.covariate is not None
        return tuple(problem for fit in self.fits for problem in fit.problems(trend=trend))

    plot = Attached()
    """D of every map over the covariate, with the trend: `bayesunmix.plot.trend.trend_figure`."""


def fit_series(common: CommonDraws, scatter: float | None = None) -> Series:
    """Fit the hierarchical model to every pair of phases of a comparison.

    Parameters
    ----------
    common
        Results with common calibration factors.
    scatter
        Scale of the half-normal prior of the scatter between maps, in ln D; 0.3 when left out.

    Raises
    ------
    InputError
        If there is a single phase, or the scale is not positive.
    """
    if len(common.phases) < 2:
        raise InputError(
            "phases", "be at least two for partition coefficients", f"is {common.phases[0]} alone"
        )
    scale = SCATTER_SD if scatter is None else check_positive("scatter", scatter)
    given = common.covariate
    trend = given is not None
    fits, unpooled = [], {}
    for place, (denominator, numerator) in enumerate(itertools.combinations(common.phases, 2)):
        kinds = common.partition_kinds(numerator, denominator, detected=True)
        # An element that is not reported does not take part either: it would only ask the sampler for its tails.
        used = np.where(reported_elements(kinds, trend=trend), kinds, "undetermined")
        data = series_data(common, numerator, denominator, used, scale)
        for patience in PATIENCE:
            drawn = _sampler(trend, patience).draw(data, common.seed + place)
            fit = PairFit(
                numerator=numerator,
                denominator=denominator,
                draws=drawn.draws,
                kinds=kinds,
                divergences=drawn.divergences,
            )
            if not fit.problems(trend=trend):
                break
        fits.append(fit)
        unpooled[numerator, denominator] = common.partition(numerator, denominator).values
    return Series(
        fits=tuple(fits),
        elements=common.elements,
        names=common.names,
        covariate=given,
        unpooled=unpooled,
        level=common.level,
        scatter_sd=scale,
    )


def reported_elements(kinds: npt.NDArray[np.str_], *, trend: bool) -> npt.NDArray[np.bool_]:
    """Elements of which enough maps have an interval, from kinds (map, element), shape (element,)."""
    intervals = (kinds == "interval").sum(axis=0)
    return np.asarray(intervals >= (LEAST_WITH_TREND if trend else LEAST_WITHOUT))


@lru_cache(maxsize=4)
def _sampler(trend: bool, patience: int) -> ModelSampler:
    """Sampler of the model, kept because compiling it takes longer than sampling."""
    from bayesunmix.inference.hierarchical import ModelSampler

    return ModelSampler(
        series_model, draws=patience * DRAWS, warmup=patience * WARMUP, thinning=patience, trend=trend
    )


def series_data(
    common: CommonDraws,
    numerator: str,
    denominator: str,
    kinds: npt.NDArray[np.str_],
    scatter_sd: float,
) -> SeriesData:
    """Turn draws of one pair of phases into what the model is conditioned on."""
    rows = [common.phases.index(name) for name in (numerator, denominator)]
    pairs = [draws[:, rows] for draws in common.nominal]
    measured = stacked([measured_ratios(d[:, 0], d[:, 1], k) for d, k in zip(pairs, kinds, strict=True)])
    n_maps = len(pairs)
    z = np.zeros(n_maps)
    if common.covariate is not None:
        values = np.asarray(common.covariate.values)
        z = (values - values.mean()) / values.std()
    anchor, anchor_scale = _anchors(measured, kinds)
    shift = shift_factor([draws.mean(axis=0) for draws in pairs], common.factors)
    poorer = np.mean([draws.mean(axis=0).min(axis=0) for draws in pairs], axis=0)
    trace = (poorer < TRACE) & (kinds != "undetermined").any(axis=0)
    # One trace has no others to learn from.
    trace &= trace.sum() > 1
    basis = residual_basis(z)
    residual_anchor, residual_sd = _residuals(measured, basis[:, 1 + int(z.any()) :])
    return SeriesData(
        measured=measured,
        covariate=z,
        shift_factor=shift,
        scatter_sd=scatter_sd,
        trace=trace,
        basis=basis,
        anchor=anchor,
        anchor_scale=anchor_scale,
        residual_anchor=residual_anchor,
        residual_sd=residual_sd,
    )


def measured_ratios(top: FloatArray, bottom: FloatArray, kinds: npt.NDArray[np.str_]) -> MeasuredRatios:
    """Summarise the draws of two phases of one map, each (draw, element), for the likelihood of their ratios.

    Primary estimates and uncertainties undo the truncated at zero, as `bayesunmix.chemistry.detection.detect` does.
    """
    upper, lower = detect(top), detect(bottom)
    informed = kinds != "undetermined"
    with np.errstate(invalid="ignore", divide="ignore"):
        centred = [(draws - draws.mean(axis=0)) / draws.std(axis=0) for draws in (top, bottom)]
        correlation = np.where(informed, (centred[0] * centred[1]).mean(axis=0), 0.0)
    # The pivot near the estimate; a side that is no more than noise counts with its uncertainty.
    root = np.sqrt(
        np.maximum(upper.estimate, upper.uncertainty)[informed]
        / np.maximum(lower.estimate, lower.uncertainty)[informed]
    )
    pivot = top[:, informed] / root - bottom[:, informed] * root
    precision = np.zeros((len(kinds), len(kinds)))
    if informed.any():
        between = np.atleast_2d(np.corrcoef(pivot.T))
        between = (1.0 - SHRINKAGE) * between + SHRINKAGE * np.eye(len(between))
        precision[np.ix_(informed, informed)] = np.linalg.inv(between)
    return MeasuredRatios(
        top=np.where(informed, upper.estimate, 1.0),
        bottom=np.where(informed, lower.estimate, 1.0),
        top_sd=np.where(informed, upper.uncertainty, 1.0),
        bottom_sd=np.where(informed, lower.uncertainty, 1.0),
        correlation=np.clip(correlation, -0.99, 0.99),
        precision=precision,
    )


def stacked(measured: list[MeasuredRatios]) -> MeasuredRatios:
    """Put maps together along a first axis."""
    return MeasuredRatios(*(np.stack(arrays) for arrays in zip(*measured, strict=True)))


def shift_factor(compositions: list[FloatArray], factors: tuple[FloatArray, ...]) -> FloatArray:
    """Factor L of the covariance L L^T of the shifts of ln D by calibration, shape (map, map).

    Parameters
    ----------
    compositions : list of (2, element)
        Nominal atom fractions of numerator and denominator in each map.
    factors : (draw, element) each
        Common draws of the log factors.
    """
    shifts = []
    for pair, factor in zip(compositions, factors, strict=True):
        top, bottom = np.log(np.exp(-factor) @ pair.T).T
        shifts.append(bottom - top)
    values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(np.stack(shifts))))
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def _residuals(measured: MeasuredRatios, basis: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Rough residuals of ln D along some columns (map, row) and their errors, each (row, element)."""
    top, bottom = (
        np.maximum(measured.top, measured.top_sd),
        np.maximum(measured.bottom, measured.bottom_sd),
    )
    variance = (measured.top_sd / top) ** 2 + (measured.bottom_sd / bottom) ** 2
    return basis.T @ np.log(top / bottom), np.sqrt(basis.T**2 @ variance)


def _anchors(measured: MeasuredRatios, kinds: npt.NDArray[np.str_]) -> tuple[FloatArray, FloatArray]:
    """Rough mean of ln D over the maps and its uncertainty, by element."""
    top, bottom = (
        np.maximum(measured.top, measured.top_sd),
        np.maximum(measured.bottom, measured.bottom_sd),
    )
    relative = np.hypot(measured.top_sd / top, measured.bottom_sd / bottom)
    weight = np.where(kinds == "interval", 1.0 / relative**2, np.where(kinds == "undetermined", 0.0, 1e-3))
    total = weight.sum(axis=0)
    known = total > 0.0
    anchor = (weight * np.log(top / bottom)).sum(axis=0) / np.where(known, total, 1.0)
    scale = np.where(known, 1.0 / np.sqrt(np.where(known, total, 1.0)), FREE_SCALE)
    return np.where(known, anchor, 0.0), np.clip(scale, 0.01, FREE_SCALE)


def _identity(fit: PairFit, sign: float, element: str) -> dict[str, Any]:
    pair = (fit.numerator, fit.denominator) if sign > 0 else (fit.denominator, fit.numerator)
    return {"element": element, "numerator": pair[0], "denominator": pair[1]}


def _mirrored(kind: str, sign: float) -> str:
    return kind if sign > 0 else {"upper": "lower", "lower": "upper"}.get(kind, kind)


def _quantiles(name: str, draws: FloatArray, level: float, known: bool) -> dict[str, float]:
    """Median and interval under the names of columns; nan where nothing is known."""
    columns = (f"{name}_median", f"{name}_lower", f"{name}_upper")
    if not known:
        return dict.fromkeys(columns, np.nan)
    lower, upper = interval(draws, level)
    return dict(zip(columns, (float(np.median(draws)), float(lower), float(upper)), strict=True))


def _bound(draws: FloatArray, kind: str, level: float) -> dict[str, float]:
    if kind == "upper":
        return {"D_lower": 0.0, "D_upper": float(np.quantile(draws, level))}
    return {"D_lower": float(np.quantile(draws, 1.0 - level)), "D_upper": np.inf}
