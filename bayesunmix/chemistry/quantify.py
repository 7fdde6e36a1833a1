"""From draws of counts to compositions, partition coefficients and what may be said of traces.

For each posterior draw the atom fractions are

    x_ke  proportional to  w_ke / ( y_ke * c_e * A_ke(t, mu, x_k) / A_ke(t_mean, mu_mean, x_k,absorbing) )

with w the counts in the element's main family, y its nominal yield, and three things drawn from their priors and
shared by all phases of the draw: the calibration factor c_e ~ LogNormal(0, sd_e), the film's mass thickness t, and the
mass absorption coefficients mu. The map does not update them (a cut; Lee et al. 2011,
doi:10.1088/0004-637X/731/2/126): they widen compositions and cancel, to first order, in partition coefficients but for
what two phases absorb differently.

Detection follows ISO 11929 (and Currie, L. A., Anal. Chem. 40 (1968) 586, doi:10.1021/ac60259a007) in a form that
needs only the draws. With a flat prior on a non-negative amount, the posterior is a normal N(m, s) cut at zero; its
mean and sd give m, the primary estimate, which may be negative, and s, its standard uncertainty:

    decision threshold x* = k s,   detection limit x# = 2 k s,   k = 1.645 (5 % false decisions of either kind),
    detected when m > x*.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri
from scipy.stats.qmc import Sobol

from bayesunmix.fit.forward import THICKNESS_GRID, ForwardModel
from bayesunmix.shares import shares_of

FloatArray = npt.NDArray[np.float64]

FALSE_DECISIONS_K = 1.6448536269514722  # one-sided normal quantile of 5 %
# A relative film thickness below this is cut off: the prior is a normal, and a film has some thickness.
THINNEST = 0.05


@dataclass(frozen=True)
class CalibrationDraws:
    """What calibration and absorption contribute to each posterior draw.

    Attributes
    ----------
    log_factor : (chain, draw, element)
        Log calibration factor of each element's main family, shared by all phases.
    thickness : (chain, draw)
        Mass thickness relative to its mean.
    log_absorption : (chain, draw, absorber)
        Log factor on the mass absorption coefficients of each absorbing element above 1 keV, shared by all phases.
    """

    log_factor: FloatArray
    thickness: FloatArray
    log_absorption: FloatArray


def draw_calibration(forward: ForwardModel, shape: tuple[int, int], seed: int) -> CalibrationDraws:
    """Draw calibration factors, film thickness and absorption coefficients from their priors, for each posterior draw.

    The draws are a scrambled Sobol sequence (Owen, A. B., Ann. Stat. 25 (1997) 1541, doi:10.1214/aos/1031594731)
    mapped to normal quantiles: exact draws of the prior whose averages converge faster than those of independent ones.

    Parameters
    ----------
    forward : ForwardModel
    shape : (chains, draws)
    seed : int
    """
    sd, film = forward.calibration_sd, forward.film
    chains, draws = shape
    n_factors, n_absorbers = len(sd), len(film.absorbers(forward.elements))
    normal = np.empty((*shape, n_factors + 1 + n_absorbers))
    for chain in range(chains):
        sequence = Sobol(normal.shape[-1], rng=np.random.default_rng([seed, 20, chain]))
        uniform = sequence.random_base2(int(np.ceil(np.log2(draws))))[:draws]
        normal[chain] = ndtri(np.clip(uniform, 1e-12, 1.0 - 1e-12))
    drawn = np.abs(1.0 + film.mass_thickness_sd * normal[..., n_factors])
    return CalibrationDraws(
        sd * normal[..., :n_factors],
        np.clip(drawn, THINNEST, THICKNESS_GRID[-1]),
        film.absorption_sd * normal[..., n_factors + 1 :],
    )


def compositions(
    weights: FloatArray,
    yields: FloatArray,
    forward: ForwardModel,
    absorbing: FloatArray,
    calibration: CalibrationDraws | None = None,
) -> FloatArray:
    """Atom fractions of every draw, shape (chain, draw, phase, element); zeros for a phase without atoms.

    Parameters
    ----------
    weights, yields, forward, absorbing, calibration
        See `relative_atoms`.
    """
    return shares_of(relative_atoms(weights, yields, forward, absorbing, calibration))


def relative_atoms(
    weights: FloatArray,
    yields: FloatArray,
    forward: ForwardModel,
    absorbing: FloatArray,
    calibration: CalibrationDraws | None = None,
) -> FloatArray:
    """Atoms of every draw in units of counts over yield, each draw absorbing by its own composition.

    With S the slopes of log yield by an absorber's coefficient and W the absorbers' weight fractions, the yields change
    by the factor exp( sum_a S_a (W_a / W_a,absorbing - 1) ): a draw with more Ca has more of its O absorbed, and so
    more O.

    Parameters
    ----------
    weights, yields, forward, absorbing, calibration
        See `atoms_at`.

    Returns
    -------
    (chain, draw, phase, element)
    """
    atoms = atoms_at(weights, yields, forward, absorbing, calibration)
    own = forward.absorber_weights(shares_of(atoms))
    nominal = forward.absorber_weights(absorbing)
    change = np.divide(own, nominal, out=np.ones_like(own), where=nominal > 0.0) - 1.0
    slopes = forward.absorber_slopes(absorbing)[..., 0]
    return np.asarray(atoms * np.exp(-np.einsum("cdpa,pea->cdpe", change, slopes)))


def atoms_at(
    weights: FloatArray,
    yields: FloatArray,
    forward: ForwardModel,
    absorbing: FloatArray,
    calibration: CalibrationDraws | None = None,
) -> FloatArray:
    """Atoms of every draw in units of counts over yield, absorbed by given compositions, (chain, draw, phase, element).

    Parameters
    ----------
    weights : (chain, draw, phase, component)
    yields : (phase, element)
        Nominal yields, at the mean thickness.
    absorbing : (phase, element)
        Compositions whose absorption the yields hold.
    calibration : CalibrationDraws, optional
        Left out, calibration factors and thickness are nominal: what remains is counting and unmixing.
    """
    atoms = weights[..., : yields.shape[1]] / yields
    if calibration is not None:
        change = forward.yield_change(absorbing)
        low = np.clip(np.searchsorted(THICKNESS_GRID, calibration.thickness) - 1, 0, len(THICKNESS_GRID) - 2)
        part = (calibration.thickness - THICKNESS_GRID[low]) / (THICKNESS_GRID[low + 1] - THICKNESS_GRID[low])
        part = part[..., None, None]
        atoms = atoms / ((1.0 - part) * change[low] + part * change[low + 1])
        slopes = forward.absorber_slopes(absorbing)[..., 1]
        absorbed = np.einsum("cda,pea->cdpe", calibration.log_absorption, slopes)
        atoms = atoms * np.exp(-calibration.log_factor[:, :, None, :] - absorbed)
    return np.asarray(atoms)


@dataclass(frozen=True)
class Detection:
    """Primary estimate, its uncertainty and the limits that follow; arrays over whatever was asked."""

    estimate: FloatArray
    uncertainty: FloatArray
    decision_threshold: FloatArray
    detection_limit: FloatArray
    detected: npt.NDArray[np.bool_]


def detect(draws: FloatArray) -> Detection:
    """Decide on the detection of non-negative amounts, from posterior draws along the first axis.

    Parameters
    ----------
    draws : (draw, ...)
        Amounts with nominal calibration: an error that scales an amount cannot make it appear.
    """
    mean, sd = draws.mean(axis=0), draws.std(axis=0)
    # mean / sd of a cut normal grows with m / s from 1 (an exponential tail) without bound: read m / s off a table.
    ratio = np.divide(mean, sd, out=np.full_like(mean, 1.0), where=sd > 0)
    position = np.interp(ratio, _RATIO, _POSITION)
    shrinkage = np.interp(position, _POSITION, _SPREAD)
    far = ratio > _RATIO[-1]
    uncertainty = np.where(far, sd, sd / shrinkage)
    estimate = np.where(far, mean, position * uncertainty)
    threshold = FALSE_DECISIONS_K * uncertainty
    return Detection(estimate, uncertainty, threshold, 2.0 * threshold, estimate > threshold)


def _cut_normal_table() -> tuple[FloatArray, FloatArray, FloatArray]:
    """M / s, mean / sd and sd / s of a normal N(m, s) cut at zero.

    mean = m + s h, var = s^2 (1 - h (h + m / s)), h = phi(m / s) / Phi(m / s)  (Johnson, Kotz and Balakrishnan,
    Continuous Univariate Distributions 1 (1994), section 13.10).
    """
    position = np.linspace(-8.0, 6.0, 1401)
    hazard = np.exp(-0.5 * position**2 - 0.5 * np.log(2.0 * np.pi) - log_ndtr(position))
    spread = np.sqrt(1.0 - hazard * (hazard + position))
    return position, (position + hazard) / spread, spread


_POSITION, _RATIO, _SPREAD = _cut_normal_table()


def interval(draws: FloatArray, level: float) -> tuple[FloatArray, FloatArray]:
    """Equal-tailed credible interval along the first axis: (lower, upper)."""
    lower, upper = np.quantile(draws, [(1.0 - level) / 2.0, (1.0 + level) / 2.0], axis=0)
    return lower, upper


def health(draws: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Split R-hat (rank-normalised), bulk and tail effective sample size of every quantity.

    Parameters
    ----------
    draws : (chain, draw, ...)

    Returns
    -------
    Three arrays over the trailing axes; nan where a quantity does not vary.

    References
    ----------
    Vehtari, A., et al., Bayesian Anal. 16 (2021) 667, doi:10.1214/20-BA1221.
    """
    from arviz_stats.base import array_stats  # type: ignore[attr-defined]

    statistics: Any = array_stats
    flat = draws.reshape(*draws.shape[:2], -1)
    result = np.full((3, flat.shape[2]), np.nan)
    for i in range(flat.shape[2]):
        series = np.asarray(flat[:, :, i])
        if series.std() > 0 and np.isfinite(series).all():
            # R-hat compares chains: a single chain is compared with itself, half by half, which the split form does.
            result[0, i] = statistics.rhat(series, chain_axis=0, draw_axis=1)
            result[1, i] = statistics.ess(series, chain_axis=0, draw_axis=1, method="bulk")
            result[2, i] = statistics.ess(series, chain_axis=0, draw_axis=1, method="tail", prob=(0.05, 0.95))
    rhat, bulk, tail = (row.reshape(draws.shape[2:]) for row in result)
    return rhat, bulk, tail


def ordered_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Every ordered pair of different names."""
    return [(first, second) for first in names for second in names if first != second]
