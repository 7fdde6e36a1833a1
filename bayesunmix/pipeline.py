"""The front door: from a map and a configuration to a result, stage by stage.

    read -> energy axis -> bins -> starting points -> mode -> regions of residual -> mode without them
         -> further phase -> draws -> likelihood of areas -> spatial heterogeneity -> misfit of the spectra
         -> rotations -> second maximum -> pixels -> result -> files

Each stage is a pure function of what came before; finished ones are kept on disk, so that an interrupted run goes on.
Several processes (`bayesunmix.core.processes`) go through the same stages side by side, and the first one writes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesunmix.arguments import ARGUMENT, AnyImage, AnyPhases, configuration, image_of, keys_of
from bayesunmix.config.compute import AUTO, ComputeConfig
from bayesunmix.config.methods import Method
from bayesunmix.config.names import MethodName
from bayesunmix.config.priors import Priors
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core import processes
from bayesunmix.core.checkpoint import FOLDER, Stages, canonical, kept_facts, what_differs
from bayesunmix.core.errors import InputError, check_flag, check_seed, said_as
from bayesunmix.core.log import logged, settle
from bayesunmix.core.memory import check_draws, limited
from bayesunmix.core.output_folder import check_folder, claimed, read_record
from bayesunmix.core.progress import Reporter
from bayesunmix.core.threads import ONE_MODEL
from bayesunmix.data.image import SpectrumImage
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.setup import Setup
from bayesunmix.prefetch import while_preparing, while_reading
from bayesunmix.results.result import Result, open_result
from bayesunmix.results.run_facts import host_facts, run_facts, versions

if TYPE_CHECKING:
    from bayesunmix.inference.compilation import ReadyProgram
    from bayesunmix.stages import Job


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
        ``inference``, ``output``, ``compute``, ``priors``; the last as `Priors` too.

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
    config.output.warn_of_unread(keys_of(tables, "output"))
    number = check_seed(seed)
    join_processes(config.compute)
    shown = check_flag("progress", progress)
    with said_as(ARGUMENT):
        with processes.failing_together():
            read = image_of(image, config)
        return run_image(read, config, None, seed=number, progress=shown)


@logged
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
    join_processes(config.compute)
    reporter = Reporter(processes.is_first())
    with processes.failing_together():
        while_reading()
        with reporter.stage("reading", said=False):
            image = [image_of(map_path, config, signal, reporter.advance)]
    # Nobody else holds the whole map: what is not fitted can go when it is prepared.
    result = _run(image.pop(), config, out, reporter, seed=seed, overwrite=overwrite, resume=resume)
    reporter.finish()
    return result


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
    join_processes(config.compute)
    reporter = Reporter(progress and processes.is_first())
    result = _run(image, config, out, reporter, seed=seed, overwrite=overwrite, resume=resume)
    reporter.finish()
    return result


def _run(
    image: SpectrumImage,
    config: RunConfig,
    out: Path | None,
    reporter: Reporter,
    *,
    seed: int,
    overwrite: bool,
    resume: bool,
) -> Result:
    """Prepare the map, and go through the stages."""
    with limited(config.compute.memory_limit_GB), ExitStack() as held:
        if out is None:
            setup = _prepared(image, config, reporter, seed=seed, files=False)
            del image
            with _one_model() as programs:
                return _computed(setup, _begun(setup, config, reporter, programs, seed=seed))
        processes.on_first(lambda: check_folder(out, go_on=overwrite or resume))
        setup = _prepared(image, config, reporter, seed=seed, files=True)
        del image
        processes.on_first(lambda: held.enter_context(claimed(out)))
        processes.on_first(lambda: settle(out, versions()))
        if resume and _is_finished(out, run_facts(setup, config, seed)):
            return open_result(out)
        own = out if processes.is_first() else None
        with _one_model() as programs:
            return _computed(
                setup, _begun(setup, config, reporter, programs, seed=seed, out=own, resume=resume)
            )


def join_processes(compute: ComputeConfig) -> None:
    """Find the other processes of the run, where the configuration says that there are others.

    Raises
    ------
    InputError
        If they cannot be found.
    """
    address = compute.distributed
    if address is not None:
        address = None if address == AUTO else address
        processes.join(address, compute.processes, compute.process, compute.join_timeout_s)


def _prepared(
    image: SpectrumImage, config: RunConfig, reporter: Reporter, *, seed: int, files: bool
) -> Setup:
    """Check map against configuration, and prepare it; check several processes against each other."""
    files = files and processes.is_first()
    with processes.failing_together():
        with while_preparing(files=files), reporter.stage("preparation", said=False):
            setup = prepare(image, config, reporter.advance)
        inference = config.inference
        n_draws = 1 if inference.method == "map" else inference.chains * inference.draws
        check_draws(n_draws, max(len(setup.phases), 1), len(setup.forward.components), setup.blocks.n_bins)
        if processes.number() > 1:
            _check_alike(run_facts(setup, config, seed) | host_facts())
    return setup


@contextmanager
def _one_model() -> Iterator[list[ReadyProgram]]:
    """Let other runs of this process wait, and count the programs that are made ready meanwhile."""
    from bayesunmix.inference.compilation import counted_programs

    with ONE_MODEL, counted_programs() as programs:
        yield programs


def _check_alike(facts: dict[str, Any]) -> None:
    """Refuse processes that would not compute the same: they would wait for each other in different places.

    Raises
    ------
    InputError
        On every process.
    """
    every = [json.loads(text) for text in processes.gathered(canonical(facts).encode())]
    for number, own in enumerate(every):
        differs = what_differs(every[0], own)
        if differs is not None:
            must = "join processes with the same map, configuration, versions and kind of machine"
            got = f"process {number} differs from process 0 ({differs})"
            raise InputError(processes.FIELD, must, got)


def _begun(
    setup: Setup,
    config: RunConfig,
    reporter: Reporter,
    programs: Sequence[ReadyProgram],
    *,
    seed: int,
    out: Path | None = None,
    resume: bool = False,
) -> Job:
    """Begin the stages, or go on with those of an interrupted run."""
    from bayesunmix.inference.program_cache import keep_programs
    from bayesunmix.stages import Job

    keep_programs(config.compute.program_cache_GB)
    depends_on = run_facts(setup, config, seed)
    kept = Stages(out, depends_on, resume=resume)
    return Job.of(setup, config, kept, reporter, seed=seed, out=out, depends_on=depends_on, programs=programs)


def _is_finished(out: Path, facts: dict[str, Any]) -> bool:
    """Whether a folder holds the result of the same run, or it has to go on; several processes ask the first.

    Raises
    ------
    InputError
        If the folder belongs to another run.
    """

    def asked() -> bytes:
        record, begun = read_record(out), kept_facts(out)
        differs = None if record is None else what_differs(record.get("depends_on", {}), facts)
        if record is not None and differs is None:
            shutil.rmtree(out / FOLDER, ignore_errors=True)
            return b"finished"
        if begun is not None:
            # It was begun in an empty folder, or to replace the finished one.
            differs = what_differs(begun, facts)
        if differs is None:
            return b""
        remedy = "Give --overwrite in place of --resume, or choose another folder."
        raise InputError("--resume", "go on with the same run", f'"{out}" holds another ({differs})', remedy)

    return bool(processes.from_first(asked))


def _computed(setup: Setup, job: Job) -> Result:
    """Run stage after stage, each on what came before."""
    from bayesunmix.second_pass import set_aside
    from bayesunmix.stages import (
        compare_areas,
        count_phases,
        draw,
        find_mode,
        include_misfit,
        judge_tiles,
        look_further,
        mix_second_maximum,
        put_together,
        read_pixels,
        rotate,
        tell_supports,
        write,
    )

    setup, job, number = count_phases(setup, job)
    setup, fitted = find_mode(setup, job)
    setup, fitted, misfit, aside = set_aside(setup, fitted, job)
    further = look_further(setup, fitted, number, job)
    drawn = draw(fitted, job)
    setup, fitted, drawn = tell_supports(setup, fitted, drawn, job)
    tiles = judge_tiles(setup, fitted, drawn, job)
    robust = compare_areas(setup, fitted, drawn, job)
    robust = include_misfit(setup, fitted, robust, job)
    robust = rotate(setup, fitted, robust, job)
    robust = mix_second_maximum(setup, fitted, robust, job)
    pixels, known = read_pixels(setup, fitted, robust, job, aside)
    result = put_together(
        job,
        setup=setup,
        fitted=fitted,
        robust=robust,
        pixels=pixels,
        misfit=misfit,
        aside=aside,
        known=known,
        number=number,
        further=further,
        tiles=tiles,
    )
    return write(result, job)
