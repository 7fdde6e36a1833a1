"""The stage after the mode: regions that no mixture of the declared phases explains are set aside, and it is found anew.

Nothing is computed twice where nothing is found: the search is the one that the result reports.
"""

from __future__ import annotations

import numpy as np

from bayesunmix.checks.misfit import Misfit
from bayesunmix.checks.undeclared_places import (
    MOST_PASSES,
    Aside,
    Places,
    as_first_fitted,
    explains,
    places_of,
    searched,
    spectra_of,
    too_much,
)
from bayesunmix.config.methods import Laplace, Map
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.model_data import Blocks, Task, spectra_at, weights_at
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.preparation import Setup
from bayesunmix.fit.sampling import unchecked_draws
from bayesunmix.fit.set_aside import without_pixels
from bayesunmix.fit.starts import Start
from bayesunmix.stages import SEARCH_SEED, Job

# Draws that say what the whole map gave.
FIRST_DRAWS = 400


def set_aside(
    setup: Setup, fitted: FittedPosterior, job: Job
) -> tuple[Setup, FittedPosterior, Misfit, Aside | None]:
    """Look for regions of significant residual, and find the mode anew without what they hold, until that is all.

    Returns
    -------
    Setup, FittedPosterior
        Those that the run goes on with.
    Misfit
        The last search.
    Aside or None
        What was set aside, where anything was.
    """
    spectra = _point(fitted, job).spectra[0, 0]
    misfit = _searched(setup, fitted, job, 1)
    if not (job.config.inference.set_aside and misfit.flagged.any()):
        return setup, fitted, misfit, None
    places = places_of(setup, misfit, spectra)
    aside: Places | None = None
    first, own, passes = fitted, setup, 0
    while (places >= 0).any() and not too_much(places, setup.image.used) and passes < MOST_PASSES:
        aside, passes = places, passes + 1
        own = without_pixels(setup, aside >= 0)
        fitted = _found_again(own, first, job, passes + 1)
        misfit = _searched(setup, fitted, job, passes + 1)
        if explains(aside, misfit):
            break
        places = places_of(setup, misfit, _point(fitted, job).spectra[0, 0])
    if aside is None:
        return setup, fitted, misfit, None
    numbered, spectra = spectra_of(setup, aside, misfit)
    before = as_first_fitted(setup, first, _first_draws(first, job), job.config.inference.level, job.seed)
    settled = explains(aside, misfit)
    found = Aside(places=numbered, spectra=spectra, passes=passes, settled=settled, before=before)
    return own, fitted, misfit, found


def _searched(setup: Setup, fitted: FittedPosterior, job: Job, number: int) -> Misfit:
    """Search the whole map at a mode."""
    overlap = job.config.inference.max_overlap
    with job.reporter.stage(f"regions of residual{_th(number)}", _name("misfit", number)):
        return job.kept.run(
            _name("misfit", number),
            lambda: searched(setup, fitted, _point(fitted, job), overlap, job.seed),
            Misfit,
        )


def _found_again(setup: Setup, first: FittedPosterior, job: Job, number: int) -> FittedPosterior:
    """Find the mode without what is set aside, from starting points of what is left and from the mode of before."""
    inference, model = job.config.inference, job.model
    blocks = Blocks.of(setup, inference.max_overlap)
    task = Task(setup=setup, blocks=blocks, n_starts=inference.starts, seed=SEARCH_SEED)

    def found() -> FittedPosterior:
        starts = model.starts(task)
        if model.line_density:
            latents = first.model.constrain(first.estimate.z)
            here = Start(weights_at(first.data, latents), spectra_at(first.data, latents), np.inf)
            starts = [here, *starts]
        fitted: FittedPosterior = model.fit(task, starts, job.reporter.say)
        return fitted

    with job.reporter.stage(f"mode{_th(number)}", _name("mode", number)):
        fitted: FittedPosterior = job.kept.run(_name("mode", number), found, model.fitted_type)
    return fitted


def _point(fitted: FittedPosterior, job: Job) -> Draws:
    """Return the mode as one draw."""
    return job.model.draw(fitted, Map(), job.seed, job.reporter.advance).draws


def _first_draws(fitted: FittedPosterior, job: Job) -> Draws:
    """Draw around the mode of the whole map by its curvature, whatever the engine."""
    if job.config.inference.method == "map":
        return _point(fitted, job)
    if job.model.line_density:
        return unchecked_draws(fitted, FIRST_DRAWS, job.seed)
    return job.model.draw(fitted, Laplace(chains=1, draws=FIRST_DRAWS), job.seed, job.reporter.advance).draws


def _name(stage: str, number: int) -> str:
    return stage if number == 1 else f"{stage}_{number}"


def _th(number: int) -> str:
    return "" if number == 1 else f", pass {number}"
