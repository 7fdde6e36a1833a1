"""The uncertainty budget: which share of the variance of every reported number comes from where.

The variance of a number q(w, c, t), w the weights at the mode, c calibration factors and t the film's thickness, is
split on a linearised scale (JCGM 100:2008, 5.1.2), in this order: each source is what its parameters add to those
before it.

    counting     abundances and all other parameters known: a . I_c^-1 . a            (`LocalPosterior.complete`)
    unmixing     abundances free: a . (G with line ratios and continuum fixed)^-1 . a, less the above
    calibration  errors of the line strengths: ratios of and inside an element's families, and the detector's response,
                 fitted, with priors (freed in G); the factors of the main families, drawn from their priors
    absorption   parameters of the absorption that are fitted (freed in G), and the thickness drawn from its prior
    continuum    its corrections, freed last: a . G^-1 . a, less all before it
    misfit       what draws vary more for spectra that do not fit (`bayesunmix.checks.discrepancy`)
    rotation     what the reported draws vary more than those of the one solution that was found: other solutions that
                 fit as well (`bayesunmix.fit.rotations`), and a second maximum's share

The parts that are fitted are scaled together to the variance of the posterior draws with nominal calibration, so that
what the linear scale misses (a bound at zero, curvature) does not shift the balance between fitted and drawn parts.
Numbers are atom fractions x_ke, with a = dx/dw, and ln D, with a the difference of two relative slopes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.checks.local_posterior import LocalPosterior, known_abundances
from bayesunmix.forward.quantify import compositions, draw_calibration
from bayesunmix.forward.spectra import ForwardModel

FloatArray = npt.NDArray[np.float64]

SOURCES = ("counting", "unmixing", "calibration", "absorption", "continuum", "misfit", "rotation")

ORDER = (
    "counting, unmixing, line ratios and response (calibration), fitted absorption, continuum; then the drawn "
    "calibration factors and thickness; then misfit of the spectra and rotations"
)
RATIOS = ("family_log_ratio", "response")
ABSORPTION = ("absorption_scale", "stray_exponent")
CONTINUUM = ("continuum_shared", "continuum_by_phase")
# Draws of calibration and thickness; the sequence is a Sobol one, whose variances converge fast.
PRIOR_DRAWS = 1024


def uncertainty_budget(
    local: LocalPosterior,
    forward: ForwardModel,
    absorbing: FloatArray,
    *,
    counting: xr.DataArray,
    one_solution: xr.DataArray,
    fits: xr.DataArray,
    seed: int,
) -> xr.Dataset:
    """Variance of every atom fraction and of the logarithm of every partition coefficient, by source.

    Parameters
    ----------
    local : LocalPosterior
    forward : ForwardModel
    absorbing : (phase, element)
        Compositions whose absorption the yields hold.
    counting : DataArray (chain, draw, phase, element)
        Posterior draws of the atom fractions with nominal calibration; a single draw is a mode without draws.
    one_solution : DataArray (chain, draw, phase, element)
        The same before they were rotated, or mixed with those of a second maximum.
    fits : DataArray (chain, draw, phase, element)
        Those before they were moved for spectra that do not fit.
    seed : int

    Returns
    -------
    Dataset
        ``composition`` (phase, element, source), variances of atom fractions, and ``log_partition`` (numerator,
        denominator, element, source), variances of ln D; nan where an atom fraction is zero.
    """
    slopes, fractions = local.slopes(), local.atom_fractions
    steps = [values.values.reshape(-1, *counting.shape[2:]) for values in (fits, one_solution, counting)]
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(fractions[..., None] > 0, slopes / fractions[..., None], np.nan)
        fitted = _with_more(local, slopes, steps)
        ratios = [logs[:, :, None] - logs[:, None] for logs in map(np.log, steps)]
        log_fitted = _with_more(local, relative[:, None] - relative[None], ratios)
    changes = _prior_changes(local, forward, absorbing, seed)
    composition = fitted + _drawn_parts([np.var(fractions * np.exp(change), axis=0) for change in changes])
    log_partition = log_fitted + _drawn_parts(
        [np.var(change[:, :, None] - change[:, None], axis=0) for change in changes]
    )
    phases = [str(name) for name in counting["phase"].values]
    return xr.Dataset(
        {
            "composition": (("phase", "element", "source"), composition),
            "log_partition": (("numerator", "denominator", "element", "source"), log_partition),
        },
        coords={
            "phase": phases,
            "numerator": phases,
            "denominator": phases,
            "element": counting["element"].values,
            "source": list(SOURCES),
        },
        attrs={"order": ORDER},
    )


def _fitted_parts(local: LocalPosterior, slopes: FloatArray) -> FloatArray:
    """Variances of linear functions of the line units by source, what is drawn left out, shape (..., source)."""
    unknown = (RATIOS, ABSORPTION, CONTINUUM)
    steps = [
        local.variance_given(slopes, *(name for names in unknown[freed:] for name in names))
        for freed in range(len(unknown) + 1)
    ]
    # Expected information against observed curvature: counting alone may come out a little above.
    counting = np.minimum(known_abundances(local, slopes), steps[0])
    parts = [counting, *np.maximum(np.diff([counting, *steps], axis=0), 0.0)]
    return np.stack([*parts, np.zeros_like(counting), np.zeros_like(counting)], axis=-1)


def _scaled(local: LocalPosterior, slopes: FloatArray, draws: FloatArray) -> FloatArray:
    """Fitted parts of some numbers, scaled to the variance of their draws (draw, ...), shape (..., source)."""
    parts = _fitted_parts(local, slopes)
    if len(draws) == 1:
        return parts
    total = parts.sum(axis=-1)
    factor = np.divide(draws.var(axis=0), total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(parts * factor[..., None])


def _with_more(local: LocalPosterior, slopes: FloatArray, steps: Sequence[FloatArray]) -> FloatArray:
    """Fitted parts of some numbers, and what misfit and rotation add to the variance of their draws, (..., source).

    Parameters
    ----------
    steps : three times (draw, ...)
        As the model has them, moved for the misfit, and as they are reported.
    """
    fits, one_solution, reported = steps
    found = _scaled(local, slopes, fits)
    return found + _more(one_solution, fits, "misfit") + _more(reported, one_solution, "rotation")


def _more(reported: FloatArray, drawn: FloatArray, source: str) -> FloatArray:
    """Variance that some draws (draw, ...) have more than others, at the place of a source, (..., source)."""
    more = np.maximum(reported.var(axis=0) - drawn.var(axis=0), 0.0)
    return np.asarray(more[..., None] * (np.array(SOURCES) == source))


def _prior_changes(
    local: LocalPosterior, forward: ForwardModel, absorbing: FloatArray, seed: int
) -> tuple[FloatArray, FloatArray]:
    """Log change of the atom fractions over draws of calibration factors, and over those of absorption."""
    drawn = draw_calibration(forward, (1, PRIOR_DRAWS), seed)
    nominal = dataclasses.replace(
        drawn,
        log_factor=np.zeros_like(drawn.log_factor),
        thickness=np.ones_like(drawn.thickness),
        log_absorption=np.zeros_like(drawn.log_absorption),
    )
    weights = np.tile(local.weights, (1, PRIOR_DRAWS, 1, 1))
    yields = np.asarray(local.data.yields)
    # A zero fraction changes by a factor as any other: the factor is taken from an amount of one atom in 1e12.
    weights[..., : yields.shape[1]] = np.maximum(weights[..., : yields.shape[1]], 1e-12 * yields)

    def log_fractions(calibration: Any) -> FloatArray:  # noqa: ANN401
        return np.asarray(np.log(compositions(weights, yields, forward, absorbing, calibration)[0]))

    base = log_fractions(nominal)
    return (
        log_fractions(dataclasses.replace(nominal, log_factor=drawn.log_factor)) - base,
        log_fractions(dataclasses.replace(drawn, log_factor=nominal.log_factor)) - base,
    )


def _drawn_parts(variances: list[FloatArray]) -> FloatArray:
    """Variances over draws of the priors at the places of calibration and absorption, zeros at the others."""
    calibration, absorption = variances
    none = np.zeros_like(calibration)
    return np.stack([none, none, calibration, absorption, none, none, none], axis=-1)
