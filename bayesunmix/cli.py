"""Command line: ``bayesunmix demo | warmup | unmix | batch | simulate | inspect | compare | report | tables | view``.

Heavy modules are imported inside the commands, so that help answers at once.
"""

from __future__ import annotations

import click

from bayesunmix import __version__
from bayesunmix.commands.batching import batch
from bayesunmix.commands.folders import compare, report, tables, view
from bayesunmix.commands.group import CommandGroup
from bayesunmix.commands.maps import inspect, simulate
from bayesunmix.commands.unmixing import demo, unmix, warmup
from bayesunmix.core.memory import few_arenas


@click.group(
    cls=CommandGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    commands=[demo, warmup, unmix, batch, simulate, inspect, compare, report, tables, view],
)
@click.version_option(__version__, prog_name="bayesunmix")
@click.pass_context
def main(context: click.Context) -> None:
    """Phases, compositions and partition coefficients from STEM-EDS maps, with intervals."""
    few_arenas()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())
