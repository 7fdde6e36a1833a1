"""`simulate` and `inspect`: maps as they are drawn, and as they are found."""

from __future__ import annotations

import os
from pathlib import Path

import click

from bayesunmix.commands.options import config_option, overwrite_option, seed_option, signal_option
from bayesunmix.core.errors import InputError, check_between, said_as


@click.command()
@config_option
@click.option("--out", required=True, type=Path, metavar="MAP.hspy", help="File for the simulated map.")
@seed_option
@overwrite_option
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


@click.command()
@click.argument("map_path", metavar="MAP", type=Path)
@click.option(
    "--elements", metavar="Mg,Si,...", help="Elements whose lines are looked for in the sum spectrum."
)
@signal_option
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
