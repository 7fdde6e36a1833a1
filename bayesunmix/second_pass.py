"""The stage after the mode: regions that no mixture of the phases explains are set aside, and it is found anew.

Nothing is computed twice where nothing is found: the search is the one that the result reports.

What nobody declared speaks for phases that share pixels more freely than the search began with, too, and a freer search
may use them to make room for it: with a grain of silica among them, bridgmanite was made of ferropericlase and silica.
Where the counts have freed them and regions are left all the same, these are therefore looked for as the search began.
If nothing speaks for more once they are set aside, that is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    shares_at,
    size,
    spectra_of,
    too_much,
    usurped,
)
from bayesunmix.config.methods import Laplace, Map
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.model_data import Blocks, Task, alike_declared
from bayesunmix.fit.overlap import choose_overlap
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.sampling import unchecked_draws
from bayesunmix.fit.search import matched
from bayesunmix.fit.set_aside import without_pixels
from bayesunmix.fit.setup import Setup
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
        Those that the run goes on with: which phases share a pixel may be settled anew.
    Misfit
        The last search.
    Aside or None
        What was set aside, where anything was.
    """
    first = _Pass.of(setup, fitted, job)
    if not (job.config.inference.set_aside and first.misfit.flagged.any()):
        return setup, fitted, first.misfit, None
    last, number = _as_begun(first, job)
    if last is None:
        last, number = _last_pass(first, job, number)
    # What the last search does not find is no more than counting makes of one map in some: nothing is set aside for it.
    if last.aside is None or not last.misfit.flagged.any():
        return setup, fitted, first.misfit, None
    places, spectra = spectra_of(last.setup, last.aside, last.misfit)
    before = as_first_fitted(setup, fitted, _first_draws(fitted, job), job.config.inference.level, job.seed)
    # Phases of which the same is declared may have changed places.
    own, first_own = (_point(mode, job).spectra[0, 0] for mode in (last.fitted, fitted))
    before = before[matched(own, first_own, alike_declared(setup.phases))[1]]
    found = Aside(places=places, spectra=spectra, passes=number - 1, settled=last.settled, before=before)
    return without_pixels(last.setup, last.aside >= 0), last.fitted, last.misfit, found


@dataclass(frozen=True)
class _Pass:
    """A mode, and what it leaves.

    Attributes
    ----------
    setup
        The run, of which nothing is set aside.
    aside : (y, x) int, optional
        What it was fitted without.
    fitted, misfit
    places : (y, x) int
        Regions with their surroundings.
    """

    setup: Setup
    aside: Places | None
    fitted: FittedPosterior
    misfit: Misfit
    places: Places

    @classmethod
    def of(
        cls,
        setup: Setup,
        fitted: FittedPosterior,
        job: Job,
        number: int = 1,
        aside: Places | None = None,
        before: Misfit | None = None,
    ) -> _Pass:
        """Search the whole map at a mode."""
        misfit = _searched(setup, fitted, job, number, before)
        places = np.full(misfit.places.shape, -1, np.int16)
        if misfit.flagged.any() and job.config.inference.set_aside:
            places = places_of(setup, misfit, _point(fitted, job).spectra[0, 0])
        return cls(setup, aside, fitted, misfit, places)

    @property
    def settled(self) -> bool:
        """Whether the search found what is set aside and nothing else."""
        return self.aside is not None and explains(self.aside, self.misfit)

    def without(self, aside: Places, job: Job, number: int) -> _Pass:
        """Find the mode without some places, and search the whole map again."""
        own = without_pixels(self.setup, aside >= 0)
        again = _found_again(own, self.fitted, job, number, anew=self.aside is None)
        return _Pass.of(self.setup, again, job, number, aside, self.misfit)


def _last_pass(first: _Pass, job: Job, number: int) -> tuple[_Pass, int]:
    """Set aside what each mode leaves, until that is all; with the number of modes of the run before it, and after."""
    last, most = first, number + MOST_PASSES
    other = _of_a_phase(first, job)
    if other is not None:
        number += 1
        tried = first.without(other, job, number)
        if size(tried.places) < size(first.places):
            last = tried
    while not last.settled and size(last.places) and number < most:
        if too_much(last.places, first.setup.image.used):
            break
        number += 1
        last = last.without(last.places, job, number)
    return last, number


def _as_begun(first: _Pass, job: Job) -> tuple[_Pass | None, int]:
    """Set aside what is left where phases share pixels as the search began, if the counts have freed them since.

    Returns
    -------
    _Pass or None
        The last pass, if nothing speaks for freeing them any more.
    int
        Number of modes of the run so far.
    """
    unsettled, number = replace(first.setup, chosen_overlap=None), 1
    if unsettled.overlap == first.setup.overlap:
        return None, number
    begun, number = replace(first.setup, chosen_overlap=unsettled.overlap), number + 1
    again = _found_again(begun, first.fitted, job, number, anew=True)
    last, number = _last_pass(_Pass.of(begun, again, job, number), job, number)
    if last.aside is None:
        return None, number
    left, at = without_pixels(unsettled, last.aside >= 0), last.fitted
    asked = choose_overlap(Blocks.of(left), (at.data, at.model.constrain(at.estimate.z)))
    return (replace(last, fitted=replace(at, overlap=asked)) if asked.shown == asked.taken else None), number


def _of_a_phase(first: _Pass, job: Job) -> Places | None:
    """Pixels of a phase that something undeclared may have taken the place of."""
    point = _point(first.fitted, job)
    shares = shares_at(first.setup, first.fitted, point)
    return usurped(first.places, shares, first.setup.image.used)


def _searched(setup: Setup, fitted: FittedPosterior, job: Job, number: int, before: Misfit | None) -> Misfit:
    """Search the whole map at a mode."""
    with job.reporter.stage(f"regions of residual{_th(number)}", _name("misfit", number)):
        return job.kept.run(
            _name("misfit", number),
            lambda: searched(setup, fitted, _point(fitted, job), job.seed, before),
            Misfit,
        )


def _found_again(
    setup: Setup, before: FittedPosterior, job: Job, number: int, *, anew: bool
) -> FittedPosterior:
    """Find the mode without what is set aside, from the mode of before and, `anew`, from starts of what is left.

    That mode alone would not do: a grain on 0.4 % of a map was seen to hold the search in another valley. What later
    passes set aside besides is little.
    """
    inference, model = job.config.inference, job.model
    blocks = Blocks.of(setup)
    task = Task(setup=setup, blocks=blocks, n_starts=inference.starts, seed=SEARCH_SEED)

    def found() -> FittedPosterior:
        if not model.line_density:
            starts = model.starts(task)
        else:
            starts = [before.start, *(model.starts(task) if anew else ())]
        fitted: FittedPosterior = model.fit(task, starts, job.reporter.say)
        return replace(fitted, overlap=before.overlap)

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
