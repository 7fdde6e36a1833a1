"""Command line: ``bayesunmix demo | warmup | unmix | batch | simulate | inspect | compare | report | tables | view``.

Exit status: 0 done; 1 something failed that the user did not cause; 2 bad input or configuration; 3 finished and
written, but a diagnostic says not to trust it; 130 interrupted. Every complaint is one line on stderr, and what failed
has its traceback in a log. Heavy modules are imported inside the commands, so that help answers at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

import click

from bayesunmix import __version__
from bayesunmix.chemistry.unit_names import UNITS
from bayesunmix.config.names import FIGURE_FORMATS, METHODS, MethodName
from bayesunmix.core import processes
from bayesunmix.core.errors import (
    BayesUnmixWarning,
    InputError,
    InputErrors,
    check_between,
    check_choice,
    check_path,
    failure_text,
    one_line,
    said_as,
)
from bayesunmix.core.log import keeping, log_uncaught, tell
from bayesunmix.core.memory import few_arenas
from bayesunmix.core.severity import Doubt

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.results.result import Result
    from bayesunmix.results.verdict import Verdict

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130

# What continues an interrupted command.
GO_ON = {
    "unmix": "; finished stages are kept: the same command with --resume goes on",
    "batch": "; finished maps and stages are kept: the same command goes on",
}

# New objects after which Python looks for garbage among them.
NEW_OBJECTS = 20_000

_Command = TypeVar("_Command", bound=Callable[..., Any])


@contextlib.contextmanager
def _rarely_collected() -> Iterator[None]:
    """Look for cyclic garbage less often than Python does by itself, which took 5 % of a run's processor time.

    Most objects are what the imported libraries are made of, and those stay.
    """
    before = gc.get_threshold()
    gc.set_threshold(NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class CommandGroup(click.Group):
    """Click group whose complaints are one line and whose exit status is the contract's."""

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:  # noqa: ANN401 - click's own signature
        """Run a command and exit with its status."""
        kwargs["standalone_mode"] = False
        with warnings.catch_warnings(), _rarely_collected():
            warnings.showwarning = _show_warning
            log_uncaught()
            try:
                status = super().main(*args, **kwargs)
            except (InputError, click.ClickException) as error:
                *others, last = _complaints(error)
                for text in others:
                    _say(f"error: {one_line(text)}")
                _say_end(f"error: {one_line(last)}")
                status = BAD_INPUT
            except click.Abort:
                _say("interrupted")
                status = INTERRUPTED
        _flush()
        status = status if isinstance(status, int) else 0
        if processes.alone():
            # JAX would wait for processes that do not know that this one ends, or are gone.
            os._exit(status)
        sys.exit(status)

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401 - click's own signature
        """Run a command; what it fails by goes into a log, and one line says where that is."""
        with keeping() as log:
            tell(logging.INFO, f"bayesunmix {__version__}: {' '.join(sys.argv[1:])}")
            try:
                return super().invoke(context)
            except click.exceptions.Exit:
                raise
            except (InputError, click.ClickException, click.Abort) as error:
                tell(logging.ERROR, str(error))
                raise
            except BrokenPipeError:  # nobody reads on: `| head`
                return None
            except KeyboardInterrupt:
                tell(logging.WARNING, "interrupted")
                _say_end("interrupted" + GO_ON.get(context.invoked_subcommand or "", ""))
                context.exit(INTERRUPTED)
            except Exception as error:
                tell(logging.ERROR, "The command failed.", error)
                kept = GO_ON.get(context.invoked_subcommand or "", "") if log.path else ""
                what = processes.LOST if processes.lost(error) else failure_text(error)
                _say_end(f"error: {what}{kept}; {_where(log.rescue())}")
                context.exit(FAILED)


def _complaints(error: InputError | click.ClickException) -> list[str]:
    """Return what an error complains of, each for a line of its own."""
    if isinstance(error, click.ClickException):
        return [error.format_message()]
    return [str(each) for each in (error.errors if isinstance(error, InputErrors) else (error,))]


def _where(path: Path | None) -> str:
    return "no log could be written" if path is None else f"details are in {path}"


def _flush() -> None:
    """Hand everything over before Python ends; a reader that has gone is no error."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        # Python flushes again at its end, and must find somebody who listens.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _whole_number(field: str, text: str) -> int:
    """Read a whole number."""
    try:
        return int(text)
    except ValueError:
        raise InputError(field, "be whole numbers such as 2,3", f'holds "{text.strip()}"') from None


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        click.echo(f"bayesunmix: {text}", err=True)


def _say_end(text: str) -> None:
    """Say how the command ends; of several processes, one does where all know it."""
    if processes.speaks():
        _say(f"process {processes.index()}: {text}" if processes.index() else text)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show our own warnings as one line, except those that the verdict says at the end; others as Python does."""
    if not processes.is_first() or any(isinstance(part, Doubt) for part in getattr(message, "args", ())):
        return
    if issubclass(category, BayesUnmixWarning):
        _say(f"warning: {message}")
    else:
        with contextlib.suppress(OSError, ValueError):
            click.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)


def _seed_option(command: _Command) -> _Command:
    return click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), help="Seed of every random draw (default 0)."
    )(command)


def _signal_option(command: _Command) -> _Command:
    text = "Which signal of the file is the map, where there is more than one."
    return click.option("--signal", type=click.IntRange(min=0), help=text)(command)


def _overwrite_option(command: _Command) -> _Command:
    return click.option("--overwrite", is_flag=True, help="Replace what is there already.")(command)


def _config_option(command: _Command) -> _Command:
    return click.option("--config", required=True, type=Path, metavar="FILE", help="TOML configuration.")(
        command
    )


@click.group(
    cls=CommandGroup, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="bayesunmix")
@click.pass_context
def main(context: click.Context) -> None:
    """Phases, compositions and partition coefficients from STEM-EDS maps, with intervals."""
    few_arenas()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@main.command()
@click.option("--out", type=Path, default=Path("bayesunmix-demo"), metavar="DIR", show_default=True)
@click.option("--method", type=click.Choice(METHODS), default="nuts", show_default=True)
@_seed_option
@_overwrite_option
def demo(out: Path, method: MethodName, seed: int | None, overwrite: bool) -> None:
    """Simulate a map, unmix it and print the answer beside the truth."""
    _check_folder(out, go_on=overwrite, remedy="Add --overwrite to replace it.")
    from bayesunmix.demo import run_demo

    _finish(run_demo(out, method, seed or 0, overwrite), out)


@main.command()
@click.option(
    "--phases",
    default="2,3,4",
    show_default=True,
    metavar="K,...",
    help="Numbers of phases that maps will have.",
)
@click.option(
    "--method",
    "methods",
    type=click.Choice(METHODS),
    multiple=True,
    default=("laplace", "nuts"),
    show_default=True,
    help="How they will be unmixed; may be repeated.",
)
def warmup(phases: str, methods: tuple[MethodName, ...]) -> None:
    """Compile the usual programs ahead and keep them in the user's cache folder."""
    from bayesunmix.inference.program_cache import cache_folder
    from bayesunmix.warmup import warm_up

    numbers = [_whole_number("--phases", text) for text in phases.split(",")]
    done = warm_up(numbers, methods)
    click.echo(f"{done.compiled} programs compiled, {done.kept} were there already: {cache_folder()}")


@main.command()
@click.argument("map_path", metavar="MAP", type=Path)
@_config_option
@click.option("--out", required=True, type=Path, metavar="DIR", help="Folder for tables, maps and report.")
@click.option("--method", type=click.Choice(METHODS), help="Replaces `inference.method`.")
@_seed_option
@_signal_option
@_overwrite_option
@click.option("--rows", metavar="A:B", help="Rows that are used, e.g. 0:120. Replaces `map.rows`.")
@click.option("--columns", metavar="A:B", help="Columns that are used. Replaces `map.columns`.")
@click.option("--mask", type=Path, metavar="FILE", help="Pixels to leave out, besides those of `map.mask`.")
@click.option(
    "--exclude-flagged",
    type=Path,
    metavar="DIR",
    help="Leave out the regions of significant residual that the run in DIR flagged. Replaces `map.exclude_flagged`.",
)
@click.option("--resume", is_flag=True, help="Go on after the last finished stage of an interrupted run.")
@click.option(
    "--distributed",
    metavar="auto|HOST:PORT",
    help="Fit with several processes: where they meet. Replaces `compute.distributed`.",
)
@click.option(
    "--processes", "n_processes", type=click.IntRange(1), help="How many. Replaces `compute.processes`."
)
@click.option(
    "--process",
    type=click.IntRange(0),
    envvar="BAYESUNMIX_PROCESS",
    show_envvar=True,
    help="Number of this process, from 0.",
)
def unmix(
    map_path: Path,
    config: Path,
    out: Path,
    method: MethodName | None,
    seed: int | None,
    signal: int | None,
    overwrite: bool,
    rows: str | None,
    columns: str | None,
    mask: Path | None,
    exclude_flagged: Path | None,
    resume: bool,
    distributed: str | None,
    n_processes: int | None,
    process: int | None,
) -> None:
    """Unmix the spectrum image MAP: any file that HyperSpy reads."""
    from bayesunmix.config.run_config import RunConfig

    run_config = RunConfig.from_toml(config, method)
    run_config = _with_processes(run_config, distributed, n_processes, process)
    fields = _options(run_config, rows=rows, columns=columns, mask=mask, exclude_flagged=exclude_flagged)
    with said_as(fields):
        run_config = _with_pixels(run_config, rows, columns, mask, exclude_flagged)
    if overwrite and resume:
        raise InputError("--resume", "stand without --overwrite", "both are given")
    if run_config.compute.distributed is not None:
        _join_others(run_config)
    remedy = "Add --overwrite to replace it, or --resume to finish an interrupted run."
    processes.on_first(lambda: _check_folder(out, go_on=overwrite or resume, remedy=remedy))
    # HyperSpy is imported in the reading process while the numerics are imported here.
    from bayesunmix.data.reader import start_reader

    start_reader()
    from bayesunmix.pipeline import run_unmix

    with said_as({**fields, "signal": "--signal"}):
        result = run_unmix(
            map_path, run_config, out, seed=seed or 0, signal=signal, overwrite=overwrite, resume=resume
        )
    processes.part()
    _finish(result, out)


def _with_processes(
    config: RunConfig, distributed: str | None, n_processes: int | None, process: int | None
) -> RunConfig:
    """Let the command line say how the processes of a run find each other, and which of them this is."""
    given: dict[str, Any] = {"distributed": distributed, "processes": n_processes, "process": process}
    chosen = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(config, compute=dataclasses.replace(config.compute, **chosen))


def _join_others(config: RunConfig) -> None:
    """Go on in a process of its own that finds the others, or wait for its end and say in one line how that was."""
    from bayesunmix.core import supervision

    if not supervision.can_supervise():
        from bayesunmix.pipeline import join_processes

        supervision.be_supervised()
        join_processes(config.compute)
        supervision.note_joined()
        return
    ended = supervision.supervise(sys.argv[1:])
    if ended.signal is None:
        click.get_current_context().exit(ended.status)
    tell(logging.ERROR, f"ended by {ended.signal.name}; native code said:\n{ended.native}")
    if ended.signal == supervision.ABORTED and not ended.joined:
        raise InputError(
            processes.FIELD,
            f"bring all processes together within {config.compute.join_timeout_s:g} s",
            "not all came, two have the same number, or the address does not answer",
            "See docs/clusters.md.",
        )
    if ended.signal == supervision.ABORTED:
        raise ConnectionError(processes.LOST)
    if ended.signal == supervision.STOPPED:
        click.get_current_context().exit(ended.status)
    raise RuntimeError(f"the process that computes was ended by {ended.signal.name}")


@main.command()
@click.argument("tables_or_maps", metavar="TABLE", nargs=-1)
@click.option("--out", required=True, type=Path, metavar="DIR", help="Folder for the folders of all maps.")
@click.option("--config", type=Path, metavar="FILE", help="TOML configuration of maps whose row names none.")
@click.option("--cluster", type=Path, metavar="FILE", help="TOML file that says where the workers run.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes on this machine [one a core].")
@click.option("--method", type=click.Choice(METHODS), help="Replaces `inference.method`.")
@_seed_option
@_signal_option
@click.option("--overwrite", is_flag=True, help="Replace results of other configurations, maps or versions.")
def batch(
    tables_or_maps: tuple[str, ...],
    out: Path,
    config: Path | None,
    cluster: Path | None,
    workers: int | None,
    method: MethodName | None,
    seed: int | None,
    signal: int | None,
    overwrite: bool,
) -> None:
    """Unmix many maps: those of a CSV file TABLE, or all that a pattern matches, each into a folder of its own.

    The same command goes on where it was stopped, and computes nothing twice.
    """
    if not tables_or_maps:
        raise InputError("TABLE", "be given", "is missing", "Name a CSV file, or maps such as 'maps/*.hspy'.")
    if cluster is not None and workers is not None:
        raise InputError("--workers", "stand without --cluster", "both are given")
    from bayesunmix.batches.run import batch as run_batch

    found = run_batch(
        tables_or_maps[0] if len(tables_or_maps) == 1 else tables_or_maps,
        out,
        config=config,
        cluster=cluster if workers is None else {"workers": workers},
        method=method,
        seed=seed or 0,
        signal=signal,
        overwrite=overwrite,
    )
    click.echo(f"wrote {out}")
    _say(found.headline)
    for name, reason in found.failures.items():
        _say(f"failed: {name}: {reason}")
    for outcome in found.distrusted:
        _say(f"not to be trusted: {outcome.row.name}: {outcome.why}")
    if found.exit_status:
        click.get_current_context().exit(found.exit_status)


def _options(config: RunConfig, **given: object) -> dict[str, str]:
    """Return the option behind each field of ``[map]`` that the command line gives."""
    names = [name for name, value in given.items() if value is not None]
    # A mask adds to the configuration's: either may be at fault.
    own = [name for name in names if name != "mask" or not config.map.mask]
    return {f"map.{name}": f"--{name.replace('_', '-')}" for name in own}


def _with_pixels(
    config: RunConfig,
    rows: str | None,
    columns: str | None,
    mask: Path | None,
    exclude_flagged: Path | None,
) -> RunConfig:
    """Let the command line choose pixels."""
    from bayesunmix.config.pixels import MaskRule, parse_span

    given: dict[str, Any] = {}
    if rows is not None:
        given["rows"] = parse_span("--rows", rows)
    if columns is not None:
        given["columns"] = parse_span("--columns", columns)
    if mask is not None:
        given["mask"] = (*config.map.mask, MaskRule(file=mask))
    if exclude_flagged is not None:
        given["exclude_flagged"] = exclude_flagged
    return dataclasses.replace(config, map=dataclasses.replace(config.map, **given))


@main.command()
@_config_option
@click.option("--out", required=True, type=Path, metavar="MAP.hspy", help="File for the simulated map.")
@_seed_option
@_overwrite_option
def simulate(config: Path, out: Path, seed: int | None, overwrite: bool) -> None:
    """Draw a map of known truth from the phases of a configuration.

    Without --seed the seed is `simulate.seed`.
    """
    from bayesunmix.config.run_config import RunConfig

    run_config = RunConfig.from_toml(config)
    plan, _ = run_config.truth()
    _check_new_map(out, overwrite=overwrite)
    from bayesunmix.core.whole_file import swapped_in
    from bayesunmix.data.files import quiet
    from bayesunmix.simulation.simulate import simulate_map

    image = simulate_map(run_config, plan.seed if seed is None else seed)
    with quiet(), swapped_in(out, image.image.counts.nbytes) as new:
        image.to_signal().save(str(new))
    click.echo(f"wrote {out}")


def _check_new_map(out: Path, *, overwrite: bool) -> None:
    """Refuse a name that no map can have, or that is taken, before anything is computed."""
    if out.suffix not in (".hspy", ".zspy"):
        raise InputError("--out", "end in .hspy or .zspy", f'is "{out}"')
    if out.exists() and not overwrite:
        raise InputError(
            "--out", "be a new file", f'"{out}" is there already', "Add --overwrite to replace it."
        )
    if out.is_dir() and not (out / ".zattrs").is_file():
        raise InputError("--out", "be the name of a map", f'"{out}" is a folder of other things')
    if not out.parent.is_dir():
        raise InputError("--out", "lie in an existing folder", f'"{out.parent}" is not one')
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise InputError("--out", "lie in a folder that can be written", f'"{out.parent}" cannot')


@main.command()
@click.argument("folder", metavar="DIR", type=Path)
@click.option(
    "--format",
    "formats",
    default="png,pdf",
    show_default=True,
    metavar="png,pdf,svg",
    help="Formats of the figures.",
)
def report(folder: Path, formats: str) -> None:
    """Write figures, tables and report.html of the output folder DIR again."""
    kinds = tuple(name.strip() for name in formats.split(","))
    for name in kinds:
        check_choice("--format", name, FIGURE_FORMATS)
    _check_output(folder, written=True)
    from bayesunmix.report.page import write_report

    # The formats of every run are the function's own.
    with _stage("report"):
        page = write_report(folder) if kinds == FIGURE_FORMATS[:2] else write_report(folder, kinds)
    click.echo(f"wrote {page}")


@main.command()
@click.argument("folder", metavar="DIR", type=Path)
@click.option("--unit", "units", multiple=True, metavar="UNIT", help=f"{', '.join(UNITS)}; may be repeated.")
@click.option("--out", type=Path, metavar="FOLDER", help="Where the tables go (default DIR/tables).")
@_overwrite_option
def tables(folder: Path, units: tuple[str, ...], out: Path | None, overwrite: bool) -> None:
    """Write the tables of the output folder DIR for a paper: CSV, LaTeX, Markdown, and the methods paragraph."""
    for unit in units:
        check_choice("--unit", unit, UNITS)
    own = folder / "tables"
    if out is not None and _same(out, own):
        out = None
    _check_output(folder, written=out is None)
    if out is not None:
        if _same(out, folder):
            raise InputError(
                "--out", "be another folder than DIR", f'is "{out}"', "Left out, it is DIR/tables."
            )
        _check_folder(out, go_on=overwrite, remedy="Add --overwrite to replace it.")
    from bayesunmix.core.output_folder import amend_record
    from bayesunmix.report.paper import save_tables, write_tables
    from bayesunmix.results.result import open_result

    result = open_result(folder)
    if out is not None:
        written = save_tables(result, out, units, overwrite=overwrite)
    else:
        written = write_tables(result, own, units)
        amend_record(folder, None, (path.relative_to(folder).as_posix() for path in written))
    for path in written:
        click.echo(f"wrote {path}")


def _same(one: Path, other: Path) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _check_output(folder: Path, *, written: bool) -> None:
    from bayesunmix.core.output_folder import settle

    check_path("DIR", folder)
    settle(folder)
    if not (folder / "run.json").is_file():
        raise InputError("DIR", "be an output folder of `bayesunmix unmix`", f'"{folder}" holds no run.json')
    if written and not os.access(folder, os.W_OK | os.X_OK):
        raise InputError("DIR", "be a folder that can be written", f'"{folder}" is not yours to write')


@main.command()
@click.argument("folders", metavar="DIR DIR [...]", type=Path, nargs=-1)
@click.option("--out", required=True, type=Path, metavar="DIR", help="Folder for tables, figures and page.")
@click.option(
    "--covariate",
    metavar="NAME=A,B,...",
    help="Fit a trend of ln D over this, one value for each DIR, e.g. pressure_GPa=40,55,71,90.",
)
@click.option("--pool", is_flag=True, help="Pool the partition coefficients without a trend.")
@click.option("--phases", metavar="A,B,...", help="Phases to compare (default: those that all results hold).")
@click.option(
    "--scatter", type=float, help="Prior scale of the scatter of ln D between maps.  [default: 0.3]"
)
@_seed_option
@_overwrite_option
def compare(
    folders: tuple[Path, ...],
    out: Path,
    covariate: str | None,
    pool: bool,
    phases: str | None,
    scatter: float | None,
    seed: int | None,
    overwrite: bool,
) -> None:
    """Put output folders of `unmix` side by side: differences, ratios, and the trend of a series."""
    if len(folders) < 2:
        raise InputError("DIR", "be at least two output folders", f"there is {len(folders) or 'none'}")
    for place, folder in enumerate(folders):
        if any(_same(folder, other) for other in folders[:place]):
            raise InputError("DIR", "be different output folders", f'"{folder}" is given twice')
    for folder in folders:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
            got = f'is "{out}"' if _same(out, folder) else f'"{out}" lies in "{folder}"'
            raise InputError("--out", "lie outside the folders that are compared", got)
    _check_folder(out, go_on=overwrite, remedy="Add --overwrite to replace it.")
    from bayesunmix.analysis.alternative_words import sentences
    from bayesunmix.analysis.comparison import compare as compare_results
    from bayesunmix.analysis.comparison import folder_names, parse_covariate
    from bayesunmix.results.result import open_result

    given = None if covariate is None else parse_covariate(covariate)
    wanted = None if phases is None else [name.strip() for name in phases.split(",")]
    with _stage("comparison"):
        comparison = compare_results(
            [open_result(folder) for folder in folders],
            names=folder_names(folders),
            phases=wanted,
            covariate=given,
            pool=pool,
            scatter=scatter,
            seed=seed or 0,
        )
        with said_as({"folder": "--out"}):
            comparison.save(out, overwrite=overwrite)
    for one in comparison.alternatives:
        click.echo("\n".join(sentences(one)))
    click.echo(f"wrote {out}")
    _say_verdict(comparison.verdict)


@main.command()
@click.argument("map_path", metavar="MAP", type=Path)
@click.option(
    "--elements", metavar="Mg,Si,...", help="Elements whose lines are looked for in the sum spectrum."
)
@_signal_option
@click.option(
    "--energy-offset-keV",
    "energy_offset_keV",
    type=float,
    help="Centre of the first channel, for the file's. As `map.energy_offset_keV`.",
)
@click.option(
    "--energy-scale-keV",
    "energy_scale_keV",
    type=float,
    help="Width of a channel, in place of the file's. As `map.energy_scale_keV`.",
)
def inspect(
    map_path: Path,
    elements: str | None,
    signal: int | None,
    energy_offset_keV: float | None,
    energy_scale_keV: float | None,
) -> None:
    """Say what the file MAP holds: signals, energy axis, acquisition, counts, lines."""
    from bayesunmix.chemistry.stoichiometry import check_elements
    from bayesunmix.data.image import AXIS_LIMITS_KEV

    named = [symbol.strip() for symbol in elements.split(",")] if elements else []
    symbols = check_elements("--elements", named)
    if energy_offset_keV is not None:
        check_between("--energy-offset-keV", energy_offset_keV, *AXIS_LIMITS_KEV["energy_offset_keV"])
    if energy_scale_keV is not None:
        check_between("--energy-scale-keV", energy_scale_keV, *AXIS_LIMITS_KEV["energy_scale_keV"])
    from bayesunmix.data.reader import start_reader

    start_reader()
    from bayesunmix.inspection.description import inspect_map

    with said_as({"signal": "--signal"}):
        text = inspect_map(
            map_path,
            symbols,
            signal,
            energy_offset_keV=energy_offset_keV,
            energy_scale_keV=energy_scale_keV,
        )
    click.echo(text)


@main.command()
@click.argument("folders", metavar="DIR [DIR ...]", type=Path, nargs=-1)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Port of 127.0.0.1 (default: one that is free)."
)
@click.option(
    "--map", "map_path", type=Path, metavar="FILE", help="The map, where the file it was read from is gone."
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
def view(folders: tuple[Path, ...], port: int, map_path: Path | None, no_browser: bool) -> None:
    """Look at output folders of `unmix` in a browser: choose a place, see its spectrum, fit and composition."""
    if not folders:
        raise InputError("DIR", "be at least one output folder", "there is none")
    for folder in folders:
        _check_output(folder, written=False)
    if map_path is not None and not check_path("--map", map_path).exists():
        raise InputError("--map", "be a file", f'"{map_path}" is not there')
    from bayesunmix.viewer.serve import check_installed, start

    check_installed()
    from bayesunmix.data.reader import start_reader
    from bayesunmix.viewer.opened import opened_folders

    start_reader()

    def ready(address: str) -> None:
        click.echo(f"{address}  (Ctrl-C ends it)")
        _flush()
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    start(opened_folders(folders, map_path), port, ready)


def _stage(title: str) -> AbstractContextManager[None]:
    """Show that a command is at work."""
    from bayesunmix.core.progress import Reporter

    return Reporter().stage(title, said=False)


def _check_folder(out: Path, *, go_on: bool, remedy: str) -> None:
    """Refuse an output folder that cannot be written, or that holds something, unless the user said to go on."""
    try:
        if out.exists() and not out.is_dir():
            raise InputError("--out", "be a folder", f'"{out}" is a file')
        if out.is_dir() and any(out.iterdir()) and not go_on:
            raise InputError("--out", "be a new or empty folder", f'"{out}" is not empty', remedy)
        above = next(path for path in (out, *out.absolute().parents) if path.exists())
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise InputError("--out", "be a folder that can be made", f'"{out}": {reason}') from None
    if not above.is_dir():
        raise InputError("--out", "be a folder that can be made", f'"{above}" is a file')
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError("--out", "be a folder that can be written", f'"{above}" is not yours to write')


def _finish(result: Result, out: Path) -> None:
    """Say where the answer is and what it is worth."""
    if processes.is_first():
        click.echo(f"wrote {out}")
    _say_verdict(result.verdict)


def _say_verdict(verdict: Verdict) -> None:
    """Say the verdict with every finding, and end with its status."""
    for line in verdict.lines() if processes.is_first() else ():
        _say(line)
    if verdict.level.exit_status:
        click.get_current_context().exit(verdict.level.exit_status)
