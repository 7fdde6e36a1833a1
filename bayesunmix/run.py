"""The front door: from a map and a configuration to a result, stage by stage.

    read -> calibrate -> bin -> starts -> mode -> draws -> pixels -> result -> files

Each stage is a pure function of what came before; finished ones are kept on disk, so that an interrupted run goes on.
"""

from __future__ import annotations

import dataclasses
import importlib
import platform
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bayesunmix.checkpoint import Stages
from bayesunmix.chemistry.mass_thickness import electrons_per_pixel, nominal_mass_per_count
from bayesunmix.config import RunConfig
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import load
from bayesunmix.fit.preparation import Setup, prepare
from bayesunmix.phase import Phase
from bayesunmix.progress import Reporter
from bayesunmix.report.files import prepare_folder, write_result
from bayesunmix.result import Result

# The search for the mode is the same whatever the seed of the draws: a mode is a property of the map.
SEARCH_SEED = 0
# With many phases a start more often lies in the wrong valley: at least so many for each phase beyond the second.
STARTS_PER_PHASE = 2
# Posterior draws of the endmembers that the per-pixel pass averages over.
PIXEL_DRAWS = 24
PACKAGES = (
    "bayesunmix",
    "jax",
    "jaxlib",
    "numpyro",
    "numpy",
    "scipy",
    "xarray",
    "arviz-base",
    "arviz-stats",
    "xraylib",
)


def unmix(
    image: SpectrumImage,
    *,
    elements: Sequence[str],
    phases: Sequence[Phase] | int,
    stray: Sequence[str] = (),
    method: str = "nuts",
    seed: int = 0,
    progress: bool = True,
    **tables: dict[str, Any],
) -> Result:
    """Unmix a map.

    Parameters
    ----------
    image
        Counts and how they were taken.
    elements
        Elements of the compositions.
    phases
        What is known about each phase, or how many there are.
    stray
        Elements that are fitted and belong to no phase.
    method
        ``nuts``, ``laplace``, ``svi`` or ``map``.
    seed
        The same seed, versions and machine give the same numbers.
    progress
        Show progress on stderr.
    **tables
        Any further table of the configuration file as a dictionary: ``sample``, ``map``, ``instrument``, ``xray``,
        ``inference``.

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
    """
    declared: Any = phases
    if not isinstance(phases, int | str):
        declared = [{k: v for k, v in dataclasses.asdict(phase).items() if v is not None} for phase in phases]
    data = {
        **tables,
        "sample": {**tables.get("sample", {}), "elements": list(elements), "stray": list(stray)},
        "inference": {**tables.get("inference", {}), "method": method},
        "phases": declared,
    }
    return run_image(image, RunConfig.from_dict(data), None, seed=seed, progress=progress)


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
    given = config.instrument
    image = load(
        map_path,
        signal,
        beam_energy_keV=given.beam_energy_keV,
        takeoff_angle_deg=given.takeoff_angle_deg,
        resolution_eV=given.resolution_eV,
    )
    return run_image(image, config, out, seed=seed, overwrite=overwrite, resume=resume)


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
        If map and configuration do not go together; nothing has been written then.
    """
    reporter = Reporter(progress)
    with ThreadPoolExecutor(1) as pool:
        # JAX takes seconds to import and to compile: meanwhile the map is prepared, and then searched for starts.
        pool.submit(importlib.import_module, "bayesunmix.fit.posterior")
        setup = prepare(image, config)
    electrons = electrons_per_pixel(setup.image) if config.xray.zeta_factors else None
    if out is not None:
        prepare_folder(out, overwrite=overwrite, resume=resume)
    facts = {
        "hash": setup.image.count_hash(),
        "config": config.to_dict(),
        "seed": seed,
        "version": metadata.version("bayesunmix"),
    }
    stages = Stages(out, facts, resume=resume)
    from bayesunmix.assemble import assemble
    from bayesunmix.checks.identifiability import Known
    from bayesunmix.checks.robust import robust_draws
    from bayesunmix.fit.model_data import Blocks
    from bayesunmix.fit.phase_number import infer_phase_number
    from bayesunmix.fit.posterior import FittedPosterior, fit_posterior
    from bayesunmix.fit.sampling import sample
    from bayesunmix.fit.search import CoarseModel
    from bayesunmix.fit.starts import Start, find_starts
    from bayesunmix.freeform.run_stage import fit_free_endmembers

    number = None
    if config.phases == "auto":
        with reporter.stage("number of phases"):
            overlap = config.inference.max_overlap
            number = stages.run("phase_number", lambda: infer_phase_number(setup, overlap, reporter.say))
        config = dataclasses.replace(config, phases=number.phases())
        setup = dataclasses.replace(setup, phases=number.phases())
    blocks = Blocks.of(setup, config.inference.max_overlap)
    absorbing = blocks.absorbing
    with reporter.stage("starting points"):
        basis, yields = setup.forward.basis(absorbing, blocks.allowed)
        ahead: list[CoarseModel] = []

        def search() -> list[Start]:
            with ThreadPoolExecutor(1) as pool:
                coarse = pool.submit(CoarseModel.of, blocks, basis, yields)
                found = find_starts(
                    blocks.counts,
                    basis,
                    yields,
                    blocks.balance(),
                    blocks.matrix,
                    n_starts=max(config.inference.starts, STARTS_PER_PHASE * (len(setup.phases) - 2)),
                    seed=SEARCH_SEED,
                )
                ahead.append(coarse.result())
            return found

        free = config.inference.endmembers == "free"
        starts = [] if free else stages.run("starts", search)
    with reporter.stage("mode"), ThreadPoolExecutor(1) as pool:
        if out is not None:
            # Matplotlib, too, is slow to import, and the compiler leaves time for it.
            pool.submit(importlib.import_module, "bayesunmix.report.page")

        def fit() -> FittedPosterior:
            if not free:
                return fit_posterior(blocks, starts, absorbing, reporter.say, *ahead)
            fwhm_keV, n_starts = setup.spectrum.response.fwhm_keV, config.inference.starts
            return fit_free_endmembers(blocks, fwhm_keV, absorbing, n_starts, SEARCH_SEED, reporter.say)

        fitted = stages.run("mode", fit)
    with reporter.stage(f"draws ({config.inference.method})"):
        drawn = stages.run("draws", lambda: sample(fitted, config.inference, seed, reporter.advance))
    with reporter.stage("tiles"):
        robust = stages.run("tiles", lambda: robust_draws(setup, fitted, drawn, config.inference.level, seed))
        drawn = robust.drawn
    with reporter.stage("pixels"), ThreadPoolExecutor(1) as pool:
        # What declarations pin is compiled while pixels keep the other core busy.
        knowledge = None if free else pool.submit(Known.of, fitted, setup.phases, setup.forward.elements)
        pixels = stages.run(
            "pixels", lambda: _pixels(setup, config, fitted, drawn.draws, electrons, reporter)
        )
    with reporter.stage("result"):
        known = None if knowledge is None else knowledge.result()
        result = assemble(setup, config, fitted, robust, pixels, stages, facts, seed, electrons, known)
    if number is not None:
        result.run["phase_number"] = number.facts()
    if out is not None:
        with reporter.stage("files"):
            write_result(result, out)
        stages.finish()
    return result


def _pixels(
    setup: Setup,
    config: RunConfig,
    fitted: Any,  # noqa: ANN401
    draws: Any,  # noqa: ANN401
    electrons: float | None,
    reporter: Reporter,
) -> Any:  # noqa: ANN401
    """Run the per-pixel pass over a subset of the posterior draws."""
    from bayesunmix.inference.pixel_posterior import pixel_posterior
    from bayesunmix.models.thickness import ThicknessDraws

    n_draws = draws.spectra.shape[0] * draws.spectra.shape[1]
    chosen = np.unique(np.linspace(0, n_draws - 1, PIXEL_DRAWS).astype(int))
    spectra = draws.spectra.reshape(n_draws, *draws.spectra.shape[2:])[chosen]
    atoms = draws.weights[..., : len(setup.forward.elements)] / fitted.data.yields
    per_count = (atoms.sum(axis=-1) / draws.total).reshape(n_draws, -1)[chosen]
    inference = config.inference
    return pixel_posterior(
        setup.pixel_counts,
        spectra,
        per_count,
        level=inference.level,
        max_overlap=inference.max_overlap,
        matrix=np.array([phase.matrix for phase in setup.phases]),
        count_value=None if electrons is None else nominal_mass_per_count(draws, fitted, setup, electrons),
        thickness=ThicknessDraws(
            setup.thickness.pixels,
            fitted.data.effect,
            draws.absorption_scale.ravel()[chosen],
            draws.stray_exponent.ravel()[chosen],
        ),
        neighbours=setup.image.shape[:2] if inference.spatial else None,
        progress=reporter.advance,
    )


def versions() -> dict[str, str]:
    """Versions of everything that decides the numbers."""
    found = {"python": platform.python_version()}
    return found | {name: metadata.version(name) for name in PACKAGES}


def now() -> str:
    """Time of day of the run, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
