"""The front door: from a map and a configuration to a result, stage by stage.

    read -> energy axis -> bins -> starting points -> mode -> draws -> spatial heterogeneity -> second maximum -> pixels
         -> result -> files

Each stage is a pure function of what came before; finished ones are kept on disk, so that an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
import importlib
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bayesunmix.arguments import AnyImage, AnyPhases, configuration, image_of, keys_of
from bayesunmix.config.methods import Method
from bayesunmix.config.names import MethodName
from bayesunmix.config.phase import hosts, supports_of
from bayesunmix.config.priors import Priors
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.checkpoint import FOLDER, Stages, kept_facts, what_differs
from bayesunmix.core.errors import InputError, check_flag, check_seed
from bayesunmix.core.log import logged, settle
from bayesunmix.core.memory import check_draws
from bayesunmix.core.output_folder import check_folder, claimed, read_record
from bayesunmix.core.progress import Reporter
from bayesunmix.core.threads import ONE_MODEL
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.reader import start_reader
from bayesunmix.fit.preparation import Setup, prepare
from bayesunmix.report.files import write_result
from bayesunmix.results.finished import Finished
from bayesunmix.results.mass_thickness import electrons_per_pixel, nominal_mass_per_count
from bayesunmix.results.result import Result, open_result
from bayesunmix.results.run_facts import run_facts, versions

if TYPE_CHECKING:
    from bayesunmix.checks.identifiability import Known
    from bayesunmix.checks.robust import Robust
    from bayesunmix.fit.draws import Draws
    from bayesunmix.fit.endmember_model import EndmemberModel
    from bayesunmix.fit.phase_number import PhaseNumber
    from bayesunmix.fit.posterior import FittedPosterior
    from bayesunmix.inference.pixel_posterior import PixelPosterior

# The search for the mode is the same whatever the seed of the draws: a mode is a property of the map.
SEARCH_SEED = 0
# Posterior draws of the endmembers that the per-pixel pass averages over.
PIXEL_DRAWS = 24


def unmix(
    image: AnyImage,
    *,
    elements: Sequence[str],
    phases: AnyPhases,
    stray: Sequence[str] = (),
    method: Method | MethodName = "nuts",
    seed: int = 0,
    progress: bool = True,
    **tables: Mapping[str, Any] | Priors,
) -> Result:
    """Unmix a map.

    Parameters
    ----------
    image
        Counts and how they were taken: a `SpectrumImage`, the name of a file, a HyperSpy signal, or a pair of counts
        (y, x, energy) and channel centres in keV (energy,).
    elements
        Elements of the compositions.
    phases
        What is known about each phase, as `Phase`, dictionary or name alone; or how many there are, or ``auto``.
    stray
        Elements that are fitted and belong to no phase.
    method
        ``nuts``, ``laplace``, ``svi`` or ``map``; or `Nuts`, `Laplace`, `Svi` or `Map` with settings.
    seed
        The same seed, versions and machine give the same numbers.
    progress
        Show progress: a moving bar in a terminal or notebook, lines elsewhere.
    **tables
        Any further table of the configuration file as a dictionary: ``sample``, ``map``, ``instrument``, ``xray``,
        ``inference``, ``output``, ``priors``; the last as `Priors` too.

    Raises
    ------
    InputError
        If something cannot be used: the message names it.

    Examples
    --------
    >>> import bayesunmix as bu
    >>> image = bu.load("map.hspy")  # doctest: +SKIP
    >>> phases = [bu.Phase("Brg", matrix=True), bu.Phase("Fp", absent=["Si", "Ca"])]
    >>> result = bu.unmix(image, elements=["Mg", "Si", "Fe"], phases=phases, stray=["Cu"])  # doctest: +SKIP
    >>> result = bu.unmix(
    ...     image, elements=["Mg", "Si", "Fe"], phases=phases, method=bu.Nuts(draws=1000)
    ... )  # doctest: +SKIP
    """
    config = configuration(elements, phases, stray, method, tables)
    config.inference.warn_of_unread(keys_of(tables, "inference"))
    number = check_seed(seed)
    return run_image(
        image_of(image, config), config, None, seed=number, progress=check_flag("progress", progress)
    )


def run_unmix(
    map_path: Path,
    config: RunConfig,
    out: Path,
    *,
    seed: int = 0,
    signal: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Result:
    """Unmix a file into an output folder; see `run_image`."""
    # HyperSpy is imported in the reading process while the numerics are imported here.
    start_reader()
    _import_stages(files=True)
    image = image_of(map_path, config, signal)
    return run_image(image, config, out, seed=seed, overwrite=overwrite, resume=resume)


@logged
def run_image(
    image: SpectrumImage,
    config: RunConfig,
    out: Path | None,
    *,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool = True,
) -> Result:
    """Unmix a map and, where `out` is given, write every file of the output folder.

    Parameters
    ----------
    image, config
        The map and the configuration; what the configuration says of the instrument replaces what the map says.
    out
        Output folder; None writes nothing.
    seed
        Seed of everything random.
    overwrite, resume
        Replace an earlier run's files; use the stages that an interrupted run with the same input has finished.
    progress
        Show progress on stderr.

    Raises
    ------
    InputError
        If map and configuration do not go together, or the folder cannot take the result; nothing has been written
        then.
    OSError
        If the disk does not take the files; what it took, and the finished stages, are kept.
    """
    reporter = Reporter(progress)
    if out is None:
        setup = _prepared(image, config, reporter, files=False)
        with ONE_MODEL:
            return _computed(setup=setup, config=config, out=None, seed=seed, resume=False, reporter=reporter)
    check_folder(out, go_on=overwrite or resume)
    setup = _prepared(image, config, reporter, files=True)
    with claimed(out):
        settle(out, versions())
        if resume:
            found = _finished(out, run_facts(setup.image, config, seed))
            if found is not None:
                return found
        with ONE_MODEL:
            return _computed(setup=setup, config=config, out=out, seed=seed, resume=resume, reporter=reporter)


def _import_stages(*, files: bool) -> None:
    """Import what the stages need, with JAX and scikit-learn, and with Matplotlib where there are figures to draw."""
    stages = ("fit.posterior", "fit.starts", "fit.sampling", "checks.robust", "results.assemble")
    for stage in (*stages, "report.page") if files else stages:
        importlib.import_module(f"bayesunmix.{stage}")


def _prepared(image: SpectrumImage, config: RunConfig, reporter: Reporter, *, files: bool) -> Setup:
    """Check map against configuration and prepare it, while JAX is imported, which takes seconds."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(_import_stages, files=files)
        with reporter.stage("preparation", said=False):
            setup = prepare(image, config)
    inference = config.inference
    n_draws = 1 if inference.method == "map" else inference.chains * inference.draws
    check_draws(n_draws, max(len(setup.phases), 1), len(setup.forward.components), setup.blocks.n_bins)
    return setup


def _finished(out: Path, facts: dict[str, Any]) -> Result | None:
    """Return the result of a folder in which the same run is finished, or None where it has to go on.

    Raises
    ------
    InputError
        If the folder belongs to another run.
    """
    record, begun = read_record(out), kept_facts(out)
    if record is None and begun is None:
        return None
    differs = None if record is None else what_differs(record.get("depends_on", {}), facts)
    if record is not None and differs is None:
        shutil.rmtree(out / FOLDER, ignore_errors=True)
        return open_result(out)
    if begun is not None:
        # It was begun in an empty folder, or to replace the finished one.
        differs = what_differs(begun, facts)
    if differs is None:
        return None
    remedy = "Give --overwrite in place of --resume, or choose another folder."
    raise InputError("--resume", "go on with the same run", f'"{out}" holds another ({differs})', remedy)


def _computed(
    setup: Setup, config: RunConfig, out: Path | None, seed: int, resume: bool, reporter: Reporter
) -> Result:
    """Run stage after stage, and write the result where there is a folder for it."""
    from bayesunmix.checks.robust import Robust, robust_draws
    from bayesunmix.checks.supports import find_supports, without_supports
    from bayesunmix.fit.endmember_model import endmember_model
    from bayesunmix.fit.sampling import Drawn
    from bayesunmix.results.assemble import assemble

    electrons = electrons_per_pixel(setup.image) if config.xray.zeta_factors else None
    facts = run_facts(setup.image, config, seed)
    stages = Stages(out, facts, resume=resume)
    setup, config, number = _with_phases(setup, config, stages, reporter)
    inference = config.inference
    model = endmember_model(inference.endmembers)
    fitted = _mode(setup, config, model, stages, reporter)
    with reporter.stage(f"draws ({inference.method})"):
        drawn = stages.run(
            "draws", lambda: model.draw(fitted, inference.engine, seed, reporter.advance), Drawn
        )
    setup = find_supports(setup, drawn, inference.level)
    fitted, drawn = without_supports(fitted, drawn, setup.phases)
    with reporter.stage("spatial heterogeneity"):
        robust = stages.run(
            "tiles", lambda: robust_draws(setup, fitted, drawn, inference.level, seed), Robust
        )
    robust = _with_rival(
        robust=robust,
        fitted=fitted,
        config=config,
        model=model,
        seed=seed,
        stages=stages,
        reporter=reporter,
    )
    pixels, known = _pixels_and_knowledge(
        setup=setup,
        config=config,
        model=model,
        fitted=fitted,
        draws=robust.drawn.draws,
        electrons=electrons,
        stages=stages,
        reporter=reporter,
    )
    with reporter.stage("result"):
        result = assemble(
            Finished(
                setup=setup,
                config=config,
                model=model,
                fitted=fitted,
                robust=robust,
                pixels=pixels,
                seed=seed,
                depends_on=facts,
                timings=stages.timings,
                resumed=stages.resumed,
                known=known,
                electrons=electrons,
                number=number,
            )
        )
    if out is not None:
        with reporter.stage("files"):
            result = write_result(result, out)
        stages.finish()
    return result


def _with_phases(
    setup: Setup, config: RunConfig, stages: Stages, reporter: Reporter
) -> tuple[Setup, RunConfig, PhaseNumber | None]:
    """Count the phases where the configuration leaves that to the map."""
    if config.phases != "auto":
        return setup, config, None
    from bayesunmix.fit.phase_number import PhaseNumber, infer_phase_number

    with reporter.stage("number of phases"):
        overlap = config.inference.max_overlap
        number = stages.run(
            "phase_number", lambda: infer_phase_number(setup, overlap, reporter.say), PhaseNumber
        )
    phases = number.phases()
    return dataclasses.replace(setup, phases=phases), dataclasses.replace(config, phases=phases), number


def _mode(
    setup: Setup, config: RunConfig, model: EndmemberModel[Any], stages: Stages, reporter: Reporter
) -> FittedPosterior:
    """Find starting points and the best mode."""
    from bayesunmix.fit.model_data import Blocks, Task
    from bayesunmix.fit.starts import Start

    inference = config.inference
    blocks = Blocks.of(setup, inference.max_overlap)
    task = Task(setup=setup, blocks=blocks, n_starts=inference.starts, seed=SEARCH_SEED)
    with reporter.stage("starting points"):
        starts = stages.run("starts", lambda: model.starts(task), list[Start])
    with reporter.stage("mode"):
        fitted: FittedPosterior = stages.run(
            "mode", lambda: model.fit(task, starts, reporter.say), model.fitted_type
        )
    return fitted


def _with_rival(
    robust: Robust,
    fitted: FittedPosterior,
    config: RunConfig,
    model: EndmemberModel[Any],
    seed: int,
    stages: Stages,
    reporter: Reporter,
) -> Robust:
    """Mix the draws of a mode that holds a share of the posterior in."""
    rival = fitted.rival
    if rival is None or config.inference.method == "map":
        return robust
    from bayesunmix.fit.mode_mixture import mixed
    from bayesunmix.fit.sampling import Drawn

    with reporter.stage("draws at the second maximum"):
        other = stages.run(
            "rival_draws",
            lambda: model.draw(rival.fitted, config.inference.engine, seed, reporter.advance),
            Drawn,
        )
    both = mixed(robust.drawn, fitted, rival, other, seed)
    own = robust.drawn.draws if robust.model is None else robust.model
    return dataclasses.replace(robust, drawn=both, one_mode=own)


def _pixels_and_knowledge(
    setup: Setup,
    config: RunConfig,
    model: EndmemberModel[Any],
    fitted: FittedPosterior,
    draws: Draws,
    electrons: float | None,
    stages: Stages,
    reporter: Reporter,
) -> tuple[PixelPosterior, Known | None]:
    """Abundances of every pixel, and what declarations identify, compiled while pixels keep the other core busy."""
    from bayesunmix.checks.identifiability import Known
    from bayesunmix.inference.pixel_posterior import PixelPosterior

    with reporter.stage("pixels"), ThreadPoolExecutor(1) as pool:
        knowledge = None
        if model.line_density:
            knowledge = pool.submit(Known.of, fitted, setup.phases, setup.forward.elements)
        pixels = stages.run(
            "pixels",
            lambda: _pixels(
                setup=setup, config=config, fitted=fitted, draws=draws, electrons=electrons, reporter=reporter
            ),
            PixelPosterior,
        )
        return pixels, None if knowledge is None else knowledge.result()


def _pixels(
    setup: Setup,
    config: RunConfig,
    fitted: FittedPosterior,
    draws: Draws,
    electrons: float | None,
    reporter: Reporter,
) -> PixelPosterior:
    """Run the per-pixel pass over a subset of the posterior draws."""
    from bayesunmix.inference.pixel_posterior import pixel_posterior
    from bayesunmix.models.thickness import ThicknessDraws

    n_draws = draws.spectra.shape[0] * draws.spectra.shape[1]
    chosen = np.unique(np.linspace(0, n_draws - 1, PIXEL_DRAWS).astype(int))
    spectra = draws.spectra.reshape(n_draws, *draws.spectra.shape[2:])[chosen]
    atoms = draws.weights[..., : len(setup.forward.elements)] / fitted.data.yields
    per_count = (atoms.sum(axis=-1) / draws.total).reshape(n_draws, -1)[chosen]
    inference, used = config.inference, setup.image.used
    found = pixel_posterior(
        setup.used_counts,
        spectra,
        per_count,
        level=inference.level,
        max_overlap=inference.max_overlap,
        matrix=hosts(setup.phases),
        supports=supports_of(setup.phases),
        count_value=None if electrons is None else nominal_mass_per_count(draws, fitted, setup, electrons),
        thickness=ThicknessDraws(
            setup.thickness.pixels[used.ravel()],
            fitted.data.effect,
            draws.absorption_scale.ravel()[chosen],
            draws.stray_exponent.ravel()[chosen],
        ),
        neighbours=used if inference.spatial else None,
        progress=reporter.advance,
    )
    return found.placed(used)
