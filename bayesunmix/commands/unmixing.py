"""`unmix`, and `demo` and `warmup` before it."""

from __future__ import annotations

import dataclasses
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bayesunmix.commands.options import (
    check_folder,
    config_option,
    overwrite_option,
    seed_option,
    signal_option,
    whole_number,
)
from bayesunmix.commands.said import finish
from bayesunmix.config.names import METHODS, MethodName
from bayesunmix.core import processes
from bayesunmix.core.errors import InputError, said_as
from bayesunmix.core.log import tell

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig


@click.command()
@click.option("--out", type=Path, default=Path("bayesunmix-demo"), metavar="DIR", show_default=True)
@click.option("--method", type=click.Choice(METHODS), default="nuts", show_default=True)
@seed_option
@overwrite_option
def demo(out: Path, method: MethodName, seed: int | None, overwrite: bool) -> None:
    """Simulate a map, unmix it and print the answer beside the truth."""
    check_folder(out, go_on=overwrite, remedy="Add --overwrite to replace it.")
    from bayesunmix.demo import run_demo

    finish(run_demo(out, method, seed or 0, overwrite), out)


@click.command()
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

    numbers = [whole_number("--phases", text) for text in phases.split(",")]
    done = warm_up(numbers, methods)
    click.echo(f"{done.compiled} programs compiled, {done.kept} were there already: {cache_folder()}")


@click.command()
@click.argument("map_path", metavar="MAP", type=Path)
@config_option
@click.option("--out", required=True, type=Path, metavar="DIR", help="Folder for tables, maps and report.")
@click.option("--method", type=click.Choice(METHODS), help="Replaces `inference.method`.")
@seed_option
@signal_option
@overwrite_option
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
    processes.on_first(lambda: check_folder(out, go_on=overwrite or resume, remedy=remedy))
    # HyperSpy is imported in the reading process while the numerics are imported here.
    from bayesunmix.data.reader import start_reader

    start_reader()
    from bayesunmix.pipeline import run_unmix

    with said_as({**fields, "signal": "--signal"}):
        result = run_unmix(
            map_path, run_config, out, seed=seed or 0, signal=signal, overwrite=overwrite, resume=resume
        )
    processes.part()
    finish(result, out)


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
