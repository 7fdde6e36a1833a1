"""What a run says of its spectra: whether the model has them, and what absorption was assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.rounding import times_text
from bayesunmix.core.severity import DEVIANCE, RESIDUALS, Distrust, Reservation, join
from bayesunmix.data.image import WHOLE_MAP
from bayesunmix.results.verdict import NOISE_CHANCE

if TYPE_CHECKING:
    import xarray as xr

    from bayesunmix.checks.outcomes import Goodness, SpectralDiscrepancy
    from bayesunmix.fit.setup import Setup


# A deviance per degree of freedom above this is more than counting noise and small change.
MISFIT = 1.5
# Where the model has more of the counts than this elsewhere, errors of main elements are no small change either.
MISPLACED = 0.05
MAIN_ELEMENT = 0.05
# From so many times as uncertain on, it is said, and up to so many.
LEAST_TIMES = 1.05
MOST_TIMES = 100


def misfit_of_spectra(fit: Goodness, discrepancy: SpectralDiscrepancy | None = None) -> list[str]:
    """Sentences on spectra that the model does not fit within counting noise, as a whole and in a region."""
    said: list[str] = []
    included, much = _included(discrepancy)
    total, segments = fit.deviance_per_dof_total or 0.0, fit.deviance_per_dof_segments or 0.0
    misplaced = fit.misplaced or 0.0
    if misplaced > MISPLACED:
        text = (
            f"The model does not describe the sum spectrum: {100.0 * misplaced:.0f} % of its counts lie elsewhere than "
            "the model has them. No interval holds such an error. Look at the residuals (`fit.png`), and let "
            "`bayesunmix inspect` check the energy axis and the declared elements."
        )
        said.append(Distrust(text, DEVIANCE))
    elif max(total, segments) > MISFIT:
        which, deviance = (
            ("the sum spectrum", total) if total > MISFIT else ("the spectra of the segments", segments)
        )
        text = (
            f"The model does not describe {which} within counting noise: the deviance is {deviance:.2g} "
            f"per degree of freedom, and 1 is expected. The intervals {included}{much}. Look at the residuals "
            "(`fit.png`) for an undeclared element or stray line."
        )
        said.append(Reservation(text, DEVIANCE))
    regions = fit.residuals.regions if fit.residuals else ()
    beyond = [region for region in regions if region.chance < NOISE_CHANCE]
    if beyond:
        worst = max(beyond, key=lambda region: abs(region.sigma))
        touched = dict.fromkeys(element for region in beyond for element in region.elements)
        whose = f"The intervals of {join(touched)}" if touched else "The intervals"
        many = "one energy range" if len(beyond) == 1 else f"{len(beyond)} energy ranges"
        text = (
            f"The spectra have significant residuals in {many}, the largest of {abs(worst.sigma):.0f} sigma at "
            f"{worst.energy_keV:.2f} keV in {_named(worst.spectrum)} (possible cause: {worst.cause}). {whose} "
            f"{included}{'' if said else much}. Declare the element if one is missing, or leave the range out with "
            "`map.energy_range`."
        )
        said.append(Reservation(text, RESIDUALS))
    return said


def _included(discrepancy: SpectralDiscrepancy | None) -> tuple[str, str]:
    """Say whether the intervals include a misfit of the spectra, and how much of it."""
    if discrepancy is None or not discrepancy.quantities:
        return "do not include this", ""
    widest = max(discrepancy.quantities, key=lambda one: one.sd_ratio)
    if widest.sd_ratio < LEAST_TIMES:
        return "include this", ""
    # An amount that the model was sure of, such as none, has no width to compare with.
    times = times_text(widest.sd_ratio) if widest.sd_ratio < MOST_TIMES else f"more than {MOST_TIMES} times"
    much = (
        ", as far as an error that all phases have in common makes it: counting and unmixing leave "
        f"{widest.element} of {widest.phase} {times} as uncertain, and all others less"
    )
    return "include this", much


def _named(spectrum: str) -> str:
    """Name the spectrum of a residual in a sentence."""
    return "the sum spectrum" if spectrum == WHOLE_MAP else f"the spectrum of {spectrum}"


def unknown_absorption(config: RunConfig, setup: Setup, budget: xr.Dataset | None) -> list[str]:
    """Sentence on a film that was assumed where absorption is the largest part of a main element's uncertainty."""
    sample = config.sample
    missing = [name for name in ("thickness_nm", "density_g_cm3") if getattr(sample, name) is None]
    if budget is None or not missing:
        return []
    variance = budget["composition"]
    share = (variance.sel(source="absorption") / variance.sum("source")).values
    mean = setup.mean_composition
    doubtful = np.argwhere((np.nan_to_num(share) > 0.5) & (mean[None, :] > MAIN_ELEMENT))
    if not len(doubtful):
        return []
    k, i = max(doubtful.tolist(), key=lambda place: float(share[place[0], place[1]]))
    return [
        Reservation(
            f"Absorption makes {100.0 * share[k, i]:.0f} % of the variance of {setup.forward.elements[i]} in "
            f"{setup.phases[k].name}, because {_assumed(missing)} assumed, not given. Set "
            f"{' and '.join(f'`sample.{name}`' for name in missing)}."
        )
    ]


def _assumed(missing: list[str]) -> str:
    """Name what is missing of the film, as the subject of a sentence in the past."""
    if len(missing) > 1:
        return "its thickness and density were"
    return f"its {missing[0].split('_')[0]} was"
