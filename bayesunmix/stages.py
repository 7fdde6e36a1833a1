"""The stages of a run, one function each, from what came before to a typed value.

Finished ones are kept on disk (`bayesunmix.core.checkpoint`), so that an interrupted run goes on. Importing this module
imports JAX and everything that computes: `bayesunmix.prefetch` does it while the map is prepared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bayesunmix.checks.discrepancy import moved_draws, with_discrepancy
from bayesunmix.checks.identifiability import Known
from bayesunmix.checks.misfit import Misfit
from bayesunmix.checks.robust import Robust, robust_draws
from bayesunmix.checks.supports import find_supports, without_supports
from bayesunmix.checks.tile_likelihood import TileLikelihood, tile_likelihood
from bayesunmix.checks.undeclared_places import Aside
from bayesunmix.config.phase import supports_of
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core import processes
from bayesunmix.core.checkpoint import Stages
from bayesunmix.core.errors import warn
from bayesunmix.core.memory import above_limit
from bayesunmix.core.progress import Reporter
from bayesunmix.fit.endmember_model import EndmemberModel, endmember_model
from bayesunmix.fit.further_phase import FurtherPhase, find_further_phase
from bayesunmix.fit.mode_mixture import mixed, places
from bayesunmix.fit.model_data import Blocks, Task
from bayesunmix.fit.phase_number import PhaseNumber, infer_phase_number
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.rotations import Rotations, find_rotations, rotated, rotates
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start
from bayesunmix.inference.compilation import ReadyProgram
from bayesunmix.inference.foreign_pixels import Mixed, with_foreign
from bayesunmix.inference.pixel_model import PixelModel
from bayesunmix.inference.pixel_posterior import pixel_posterior
from bayesunmix.inference.rotation_draws import RotationPrior
from bayesunmix.models.thickness import ThicknessDraws
from bayesunmix.report.files import write_result
from bayesunmix.results.assemble import assemble
from bayesunmix.results.finished import Finished
from bayesunmix.results.mass_thickness import electrons_per_pixel, nominal_mass_per_count
from bayesunmix.results.recording import program_uses
from bayesunmix.results.result import Result

# The search for the mode is the same whatever the seed of the draws: a mode is a property of the map.
SEARCH_SEED = 0
# Posterior draws of the endmembers that the per-pixel pass averages over.
PIXEL_DRAWS = 24


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every stage of a run needs besides what came before it.

    Attributes
    ----------
    config
        How the map is unmixed.
    model
        Kind of endmembers.
    out
        Output folder; None where nothing is written.
    seed
        Of the draws.
    depends_on
        All that the numbers depend on.
    kept
        Finished stages.
    reporter
        Shows progress.
    electrons
        Electrons per pixel, where zeta-factors give a mass thickness.
    programs
        What has been made ready for the run so far.
    begin
        Where a search for endmembers of lines may begin, besides its own starting points.
    """

    config: RunConfig
    model: EndmemberModel[Any]
    out: Path | None
    seed: int
    depends_on: Mapping[str, Any]
    kept: Stages
    reporter: Reporter
    electrons: float | None
    programs: Sequence[ReadyProgram]
    begin: tuple[Start, ...] = ()

    @classmethod
    def of(
        cls,
        setup: Setup,
        config: RunConfig,
        kept: Stages,
        reporter: Reporter,
        *,
        seed: int,
        out: Path | None,
        depends_on: Mapping[str, Any],
        programs: Sequence[ReadyProgram],
    ) -> Job:
        """Choose the kind of endmembers, and count the electrons where zeta-factors ask for them."""
        return cls(
            config=config,
            model=endmember_model(config.inference.endmembers),
            out=out,
            seed=seed,
            depends_on=depends_on,
            kept=kept,
            reporter=reporter,
            electrons=electrons_per_pixel(setup.image) if config.xray.zeta_factors else None,
            programs=programs,
        )


def count_phases(setup: Setup, job: Job) -> tuple[Setup, Job, PhaseNumber | None]:
    """Count the phases where the configuration leaves that to the map."""
    if job.config.phases != "auto":
        return setup, job, None
    reporter = job.reporter
    with reporter.stage("number of phases", "phase_number"):
        number = job.kept.run("phase_number", lambda: infer_phase_number(setup, reporter.say), PhaseNumber)
    phases = number.phases()
    job = replace(job, config=replace(job.config, phases=phases), begin=(number.start,))
    return replace(setup, phases=phases), job, number


def find_mode(setup: Setup, job: Job) -> tuple[Setup, FittedPosterior]:
    """Find starting points, and from them the best mode; which phases share a pixel is settled on the way."""
    inference, model, reporter = job.config.inference, job.model, job.reporter
    blocks = Blocks.of(setup)
    task = Task(setup=setup, blocks=blocks, n_starts=inference.starts, seed=SEARCH_SEED)
    with reporter.stage("starting points", "starts"):
        starts = job.kept.run("starts", lambda: model.starts(task), list[Start])
        if model.line_density:
            starts = [*job.begin, *starts]
    with reporter.stage("mode"):
        fitted: FittedPosterior = job.kept.run(
            "mode", lambda: model.fit(task, starts, reporter.say), model.fitted_type
        )
    chosen = setup.overlap if fitted.overlap is None else fitted.overlap.taken
    return replace(setup, chosen_overlap=chosen), fitted


def look_further(
    setup: Setup, fitted: FittedPosterior, number: PhaseNumber | None, job: Job
) -> FurtherPhase | None:
    """Look for a phase beside those that were asked for; where they were counted, that has been done."""
    wanted = job.config.inference.further_phase and number is None
    if not (wanted and job.model.line_density):
        return None
    with job.reporter.stage("further phase", "further_phase"):
        return job.kept.run(
            "further_phase",
            lambda: find_further_phase(setup, fitted.start, job.reporter.say),
            FurtherPhase | None,
        )


def draw(fitted: FittedPosterior, job: Job) -> Drawn:
    """Draw from the posterior around the mode."""
    with job.reporter.stage(f"draws ({job.config.inference.method})", "draws"):
        return job.kept.run("draws", lambda: _drawn(fitted, job), Drawn)


def tell_supports(
    setup: Setup, fitted: FittedPosterior, drawn: Drawn, job: Job
) -> tuple[Setup, FittedPosterior, Drawn]:
    """Find the phases that hold no element of the sample, and take their compositions out."""
    setup = find_supports(setup, drawn, job.config.inference.level)
    return setup, *without_supports(fitted, drawn, setup.phases)


def judge_tiles(setup: Setup, fitted: FittedPosterior, drawn: Drawn, job: Job) -> TileLikelihood | None:
    """Log-likelihood of the map's areas at the draws as the engine made them, where they are the line model's."""
    if drawn.z is None:
        return None
    with job.reporter.stage("likelihood of areas", "tile_likelihood"):
        return job.kept.run(
            "tile_likelihood",
            lambda: tile_likelihood(setup, fitted, drawn, job.seed, job.reporter.advance),
            TileLikelihood | None,
        )


def compare_areas(setup: Setup, fitted: FittedPosterior, drawn: Drawn, job: Job) -> Robust:
    """Widen the draws where areas of the map differ by more than counting allows."""
    level, seed = job.config.inference.level, job.seed
    with job.reporter.stage("spatial heterogeneity", "heterogeneity"):
        return job.kept.run("heterogeneity", lambda: robust_draws(setup, fitted, drawn, level, seed), Robust)


def include_misfit(setup: Setup, fitted: FittedPosterior, robust: Robust, job: Job) -> Robust:
    """Move the draws where the spectra do not fit, by as much as the residuals show."""
    with job.reporter.stage("misfit of the spectra", "discrepancy"):
        return job.kept.run("discrepancy", lambda: with_discrepancy(setup, fitted, robust, job.seed), Robust)


def rotate(setup: Setup, fitted: FittedPosterior, robust: Robust, job: Job) -> Robust:
    """Rotate the draws by what the map leaves open, where it leaves something."""
    inference, draws = job.config.inference, robust.drawn.draws
    if not rotates(job.model, inference):
        return robust
    blocks = Blocks.of(setup)
    prior = RotationPrior(pure=inference.rotation_pure, absent=inference.rotation_absent)
    with job.reporter.stage("rotations"):
        found = job.kept.run(
            "rotations",
            lambda: find_rotations(blocks, fitted, draws, robust.own, prior, job.seed),
            Rotations | None,
        )
    if found is None:
        return robust
    drawn = replace(robust.drawn, draws=rotated(draws, found, fitted.data.basis), z=None)
    return robust.opened(drawn, found)


def mix_second_maximum(setup: Setup, fitted: FittedPosterior, robust: Robust, job: Job) -> Robust:
    """Mix the draws of a second maximum in that holds a share of the posterior, unless rotations hold it."""
    rival = fitted.rival
    if rival is None or job.config.inference.method == "map":
        return robust
    if robust.holds(fitted.data.yields, rival.fitted.atom_fractions[rival.order]):
        return robust
    with job.reporter.stage("draws at the second maximum", "second_maximum"):
        other = job.kept.run("second_maximum", lambda: _drawn_there(setup, rival.fitted, job), Drawn)
    both = mixed(robust.drawn, fitted, rival, other, job.seed)
    rotations = robust.rotations
    if rotations is not None:
        # Its draws are as they are: often it is a rotation of the best one.
        rotations = rotations.without(places(both.draws.weights.shape[:2], rival.share, job.seed))
    return replace(robust.opened(both, rotations), second_share=rival.share)


def read_pixels(
    setup: Setup, fitted: FittedPosterior, robust: Robust, job: Job, aside: Aside | None = None
) -> tuple[Mixed, Known | None]:
    """Abundances of every pixel, and what declarations pin, which is compiled while pixels keep the other core busy."""
    with job.reporter.stage("pixels"), ThreadPoolExecutor(1) as pool:
        knowledge = None
        if job.model.line_density:
            knowledge = pool.submit(Known.of, fitted, setup.phases, setup.forward.elements)
            if processes.number() > 1:
                # What two threads do with the other processes at a time could meet in another order there.
                knowledge.result()
        pixels = job.kept.run("pixels", lambda: _pixels(setup, fitted, robust, job, aside), Mixed)
        return pixels, None if knowledge is None else knowledge.result()


def put_together(
    job: Job,
    *,
    setup: Setup,
    fitted: FittedPosterior,
    robust: Robust,
    pixels: Mixed,
    misfit: Misfit,
    aside: Aside | None,
    known: Known | None,
    number: PhaseNumber | None,
    further: FurtherPhase | None,
    tiles: TileLikelihood | None,
) -> Result:
    """Make the result, with its record and verdict."""
    with job.reporter.stage("result"):
        result = assemble(
            Finished(
                setup=setup,
                config=job.config,
                model=job.model,
                fitted=fitted,
                robust=robust,
                pixels=pixels.pixels,
                models=pixels.models,
                misfit=misfit,
                aside=aside,
                foreign=None if aside is None else pixels.foreign,
                seed=job.seed,
                depends_on=job.depends_on,
                timings=job.kept.timings,
                resumed=job.kept.resumed,
                known=known,
                electrons=job.electrons,
                number=number,
                further=further,
                tiles=tiles,
            )
        )
    spent = {"costs": dict(job.reporter.costs), "programs": program_uses(job.programs)}
    above = _above_limit(job, "result")
    if above is not None:
        warn(above)
    warnings = (*result.record.warnings, *([] if above is None else [above]))
    return result.with_record(result.record.model_copy(update={**spent, "warnings": warnings}))


def write(result: Result, job: Job) -> Result:
    """Write every file of the output folder, where there is one; of several processes the first one has it."""
    written = result
    with processes.failing_together():
        if job.out is not None:
            with job.reporter.stage("files"):
                written = write_result(result, job.out)
            above = _above_limit(job, "files")
            # What went above before has been said, and stands in the report.
            if above is not None and _above_limit(job, "result") is None:
                warn(above)
            job.kept.finish()
    return written


def _above_limit(job: Job, stage: str) -> str | None:
    """Say that the run had gone above its limit of memory by the end of a stage, or None where it had not."""
    limit, reporter = job.config.compute.memory_limit_GB, job.reporter
    return above_limit(limit, reporter.held_before, reporter.costs[stage].peak_bytes)


def _drawn(fitted: FittedPosterior, job: Job) -> Drawn:
    return job.model.draw(fitted, job.config.inference.engine, job.seed, job.reporter.advance)


def _drawn_there(setup: Setup, fitted: FittedPosterior, job: Job) -> Drawn:
    """Draw at another mode, and move the draws where its spectra do not fit."""
    drawn = _drawn(fitted, job)
    there = moved_draws(setup, fitted, drawn, job.seed)
    return drawn if there is None else there.drawn


def _pixels(setup: Setup, fitted: FittedPosterior, robust: Robust, job: Job, aside: Aside | None) -> Mixed:
    """Run the per-pixel pass over a subset of the posterior draws."""
    draws, rotations = robust.drawn.draws, robust.rotations
    n_draws = draws.spectra.shape[0] * draws.spectra.shape[1]
    chosen = np.unique(np.linspace(0, n_draws - 1, PIXEL_DRAWS).astype(int))
    spectra = robust.fitted_spectra.reshape(n_draws, *draws.spectra.shape[2:])[chosen]
    atoms = draws.weights[..., : len(setup.forward.elements)] / fitted.data.yields
    per_count = (atoms.sum(axis=-1) / draws.total).reshape(n_draws, -1)[chosen]
    inference, taken, electrons = job.config.inference, setup.fitted, job.electrons
    thickness = ThicknessDraws(
        setup.thickness.pixels,
        fitted.data.effect,
        draws.absorption_scale.ravel()[chosen],
        draws.stray_exponent.ravel()[chosen],
    )
    settings: dict[str, Any] = {
        "level": inference.level,
        "supports": supports_of(setup.phases),
        "count_value": None
        if electrons is None
        else nominal_mass_per_count(robust.own, fitted, setup, electrons),
        "rotations": None if rotations is None else rotations.chosen(chosen),
    }
    overlap: dict[str, Any] = {"max_overlap": setup.overlap.most, "matrix": setup.hosts}
    own: dict[str, Any] = {
        "thickness": thickness._replace(relative=thickness.relative[taken.ravel()]),
        "neighbours": taken if inference.spatial else None,
    }
    model = PixelModel.learned(setup.fitted_counts, spectra.mean(axis=0), **overlap, **own)
    found = pixel_posterior(
        setup.fitted_counts,
        spectra,
        per_count,
        model=model,
        progress=job.reporter.advance,
        together=True,
        **own,
        **settings,
    ).placed(taken)
    if aside is None:
        return Mixed(found, np.zeros(taken.size, np.float32), (model,))
    places = np.where(setup.image.used, aside.places, np.int16(-1)).ravel()
    return with_foreign(
        found,
        model,
        setup.pixel_counts,
        places,
        aside.spectra,
        spectra,
        per_count,
        thickness=thickness,
        **overlap,
        **settings,
    )
