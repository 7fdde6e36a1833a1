"""Mass thickness of the film from zeta-factors and the dose, with an interval.

With measured zeta-factors the line strengths are absolute: a pixel's counts say how many atoms of each element the
beam has met, and their masses add up to

    rho t = n / D sum_k q_k m_k,     m_k = sum_e M_e w_ke / ( N_A y_ke c_e A_ke ) / counts of phase k,

n being the pixel's expected counts, D its electrons, q_k the share of phase k in the counts, and m_k / D the mass that
one count of the phase stands for; w, y, c and A are as in `bayesunmix.forward.quantify`. Oxygen bound by
stoichiometry counts with its cations. What is not among the declared elements has no mass here.

Source: Watanabe, M. and Williams, D. B., J. Microsc. 221 (2006) 89, doi:10.1111/j.1365-2818.2006.01549.x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayesunmix.core.credible import interval
from bayesunmix.core.errors import InputError
from bayesunmix.core.shares import ratio_of
from bayesunmix.data.image import WHOLE_MAP, SpectrumImage
from bayesunmix.forward.quantify import CalibrationDraws, relative_atoms
from bayesunmix.forward.spectra import ForwardModel
from bayesunmix.xray.lines import AVOGADRO

if TYPE_CHECKING:
    from bayesunmix.fit.draws import Draws
    from bayesunmix.fit.posterior import FittedPosterior
    from bayesunmix.fit.setup import Setup
    from bayesunmix.inference.pixel_posterior import PixelPosterior

FloatArray = npt.NDArray[np.float64]

ELEMENTARY_CHARGE_C = 1.602176634e-19  # exact in the SI
MICROGRAMS = 1e6
# A pixel counts as one phase alone when this is more probable than not.
PURE = 0.5
# Declared and measured mass thickness that differ by more than so many sd of the declared one contradict each other.
CONTRADICTION_SD = 2.0
UNIT = "µg/cm²"


@dataclass(frozen=True)
class MassThickness:
    """Mass thickness in µg/cm2.

    Attributes
    ----------
    whole : (chain, draw)
        Mean over the map.
    pure : (chain, draw, phase)
        Mean over the pixels that are most probably that phase alone; nan for a phase that has none.
    mean, sd : (pixel,)
        Of each pixel.
    """

    whole: FloatArray
    pure: FloatArray
    mean: FloatArray
    sd: FloatArray

    def table(self, phases: list[str], level: float) -> pd.DataFrame:
        """One row for the whole map and one for each phase's pure pixels: mean, sd, median and interval."""
        draws = np.concatenate([self.whole[..., None], self.pure], axis=-1)
        flat = draws.reshape(-1, draws.shape[-1])
        point = len(flat) == 1
        lower, upper = interval(flat, level)
        return pd.DataFrame(
            {
                "where": [WHOLE_MAP, *phases],
                "unit": UNIT,
                "mean": flat.mean(axis=0),
                "sd": np.nan if point else flat.std(axis=0, ddof=1),
                "median": np.median(flat, axis=0),
                "lower": np.nan if point else lower,
                "upper": np.nan if point else upper,
                "level": level,
            }
        )


def electrons_per_pixel(image: SpectrumImage) -> float:
    """Return the electrons that a pixel received: current times live time of the map, divided among its pixels.

    Raises
    ------
    InputError
        If current or live time is not known.
    """
    facts = image.acquisition
    for name in ("beam_current_nA", "live_time_s"):
        if getattr(facts, name) is None:
            raise InputError(
                f"instrument.{name}",
                "be known where `xray.zeta_factors` are given",
                "is missing from map and configuration",
                "Set it in the configuration.",
            )
    assert facts.beam_current_nA is not None
    assert facts.live_time_s is not None
    charge = 1e-9 * facts.beam_current_nA * facts.live_time_s
    return charge / ELEMENTARY_CHARGE_C / image.n_pixels


def mass_per_count_draws(
    draws: Draws,
    yields: FloatArray,
    forward: ForwardModel,
    absorbing: FloatArray,
    electrons: float,
    calibration: CalibrationDraws | None = None,
) -> FloatArray:
    """Mass thickness in µg/cm2 that one count of each phase stands for, shape (chain, draw, phase).

    Parameters
    ----------
    draws : Draws
    yields, absorbing : (phase, element)
        As in `bayesunmix.forward.quantify.relative_atoms`; `forward.table` holds absolute strengths.
    forward : ForwardModel
    electrons : float
        Electrons per pixel.
    calibration : CalibrationDraws, optional
        Left out, calibration factors and thickness are nominal.
    """
    atoms = relative_atoms(draws.weights, yields, forward, absorbing, calibration) / forward.strength_unit
    masses = MICROGRAMS / AVOGADRO * forward.mass_per_mole
    return np.asarray(atoms @ masses / (electrons * draws.total))


def nominal_mass_per_count(
    draws: Draws, fitted: FittedPosterior, setup: Setup, electrons: float
) -> FloatArray:
    """Mean over the draws of `mass_per_count_draws` at nominal calibration, shape (phase,)."""
    yields = np.asarray(fitted.data.yields)
    values = mass_per_count_draws(draws, yields, setup.forward, fitted.absorbing, electrons)
    return np.asarray(values.mean(axis=(0, 1)))


def mass_thickness(
    per_count: FloatArray,
    nominal: FloatArray,
    total_counts: npt.NDArray[Any],
    pixels: PixelPosterior,
    seed: int,
    n_pixels: int | None = None,
) -> MassThickness:
    """Combine what a count stands for with the counts of the pixels.

    Given its counts n, the expected counts of a pixel have the posterior Gamma(n, 1), whose mean is n: the prior is
    even in the logarithm. The map's total enters with its own such draw. Shares of the phases in a pixel are taken as
    independent of what their counts stand for.

    Parameters
    ----------
    per_count : (chain, draw, phase)
        With calibration errors, from `mass_per_count_draws`.
    nominal : (phase,)
        Without: the values that `pixels.value_sd` was computed with.
    total_counts : (pixel,)
    pixels : PixelPosterior
    seed : int
    n_pixels : int, optional
        Pixels that are not left out, where some are.
    """
    counts = np.asarray(total_counts, dtype=np.float64).ravel()
    shares = np.asarray(pixels.count_share, dtype=np.float64)
    average = per_count.mean(axis=(0, 1))
    value = shares @ average
    flat = per_count.reshape(-1, per_count.shape[-1])
    covariance = np.atleast_2d(np.cov(flat, rowvar=False)) if len(flat) > 1 else np.zeros((len(average),) * 2)
    # Calibration scales what the mixture leaves open about a pixel.
    mixture = pixels.value_sd * ratio_of(average.sum(), nominal.sum())
    variance = np.einsum("pk,kl,pl->p", shares, covariance, shares) + mixture**2
    rng = np.random.default_rng([seed, 21])
    mean = (
        (per_count @ (counts @ shares))
        / (n_pixels or len(counts))
        * _relative_gamma(rng, counts.sum(), per_count)
    )
    label = pixels.pure_probability.argmax(axis=1)
    pure = np.full(per_count.shape, np.nan)
    for k in range(per_count.shape[-1]):
        chosen = (label == k) & (pixels.pure_probability[:, k] > PURE) & (counts > 0)
        if chosen.any():
            scatter = _relative_gamma(rng, counts[chosen].sum(), per_count)
            pure[..., k] = per_count[..., k] * counts[chosen].mean() * scatter
    return MassThickness(mean, pure, counts * value, np.sqrt(counts**2 * variance + counts * value**2))


def contradiction(found: MassThickness, forward: ForwardModel) -> str | None:
    """Sentence on a mass thickness that the declared thickness and density do not agree with, or None."""
    thickness, density = forward.film.thickness_nm, forward.film.density_g_cm3
    declared = 1e-7 * MICROGRAMS * thickness[0] * density[0]
    error = declared * forward.film.mass_thickness_sd
    measured = float(found.whole.mean())
    if abs(measured - declared) <= CONTRADICTION_SD * error:
        return None
    return (
        f"The zeta-factors give a mass thickness of {measured:.3g} {UNIT}, thickness and density of the sample were "
        f"taken to give {declared:.3g} ± {error:.2g}: absorption was computed with the latter. "
        "Set `sample.thickness_nm` and `density_g_cm3`, or check current and live time."
    )


def _relative_gamma(rng: np.random.Generator, counts: float, like: FloatArray) -> FloatArray:
    """Draws of expected over observed counts, shape (chain, draw); 1 for a point without intervals."""
    shape = like.shape[:2]
    if shape == (1, 1) or counts <= 0:
        return np.ones(shape)
    return rng.gamma(counts, size=shape) / counts
