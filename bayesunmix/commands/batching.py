"""`batch`: many maps by one command."""

from __future__ import annotations

from pathlib import Path

import click

from bayesunmix.commands.options import seed_option, signal_option
from bayesunmix.commands.said import say
from bayesunmix.config.names import METHODS, MethodName
from bayesunmix.core.errors import InputError


@click.command()
@click.argument("tables_or_maps", metavar="TABLE", nargs=-1)
@click.option("--out", required=True, type=Path, metavar="DIR", help="Folder for the folders of all maps.")
@click.option("--config", type=Path, metavar="FILE", help="TOML configuration of maps whose row names none.")
@click.option("--cluster", type=Path, metavar="FILE", help="TOML file that says where the workers run.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes on this machine [one a core].")
@click.option("--method", type=click.Choice(METHODS), help="Replaces `inference.method`.")
@seed_option
@signal_option
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
    say(found.headline)
    for name, reason in found.failures.items():
        say(f"failed: {name}: {reason}")
    for outcome in found.distrusted:
        say(f"not to be trusted: {outcome.row.name}: {outcome.why}")
    if found.exit_status:
        click.get_current_context().exit(found.exit_status)
