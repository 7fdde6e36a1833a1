"""`report`, `tables`, `compare` and `view`: what is made of the folders that runs have written."""

from __future__ import annotations

import os
from pathlib import Path

import click

from bayesunmix.chemistry.unit_names import UNITS
from bayesunmix.commands.options import check_folder, check_output, overwrite_option, same, seed_option
from bayesunmix.commands.said import flush, say_verdict, stage
from bayesunmix.config.names import FIGURE_FORMATS
from bayesunmix.core.errors import InputError, check_choice, check_path, said_as


@click.command()
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
    check_output(folder, written=True)
    from bayesunmix.report.page import write_report

    # The formats of every run are the function's own.
    with stage("report"):
        page = write_report(folder) if kinds == FIGURE_FORMATS[:2] else write_report(folder, kinds)
    click.echo(f"wrote {page}")


@click.command()
@click.argument("folder", metavar="DIR", type=Path)
@click.option("--unit", "units", multiple=True, metavar="UNIT", help=f"{', '.join(UNITS)}; may be repeated.")
@click.option("--out", type=Path, metavar="FOLDER", help="Where the tables go (default DIR/tables).")
@overwrite_option
def tables(folder: Path, units: tuple[str, ...], out: Path | None, overwrite: bool) -> None:
    """Write the tables of the output folder DIR for a paper: CSV, LaTeX, Markdown, and the methods paragraph."""
    for unit in units:
        check_choice("--unit", unit, UNITS)
    own = folder / "tables"
    if out is not None and same(out, own):
        out = None
    check_output(folder, written=out is None)
    if out is not None:
        if same(out, folder):
            raise InputError(
                "--out", "be another folder than DIR", f'is "{out}"', "Left out, it is DIR/tables."
            )
        check_folder(out, go_on=overwrite, remedy="Add --overwrite to replace it.")
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


@click.command()
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
@seed_option
@overwrite_option
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
        if any(same(folder, other) for other in folders[:place]):
            raise InputError("DIR", "be different output folders", f'"{folder}" is given twice')
    for folder in folders:
        if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
            got = f'is "{out}"' if same(out, folder) else f'"{out}" lies in "{folder}"'
            raise InputError("--out", "lie outside the folders that are compared", got)
    check_folder(out, go_on=overwrite, remedy="Add --overwrite to replace it.")
    from bayesunmix.analysis.alternative_words import sentences
    from bayesunmix.analysis.comparison import compare as compare_results
    from bayesunmix.analysis.comparison import folder_names, parse_covariate
    from bayesunmix.results.result import open_result

    given = None if covariate is None else parse_covariate(covariate)
    wanted = None if phases is None else [name.strip() for name in phases.split(",")]
    with stage("comparison"):
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
    say_verdict(comparison.verdict)


@click.command()
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
        check_output(folder, written=False)
    if map_path is not None and not check_path("--map", map_path).exists():
        raise InputError("--map", "be a file", f'"{map_path}" is not there')
    from bayesunmix.viewer.serve import check_installed, start

    check_installed()
    from bayesunmix.data.reader import start_reader
    from bayesunmix.viewer.opened import opened_folders

    start_reader()

    def ready(address: str) -> None:
        click.echo(f"{address}  (Ctrl-C ends it)")
        flush()
        if not no_browser:
            import webbrowser

            webbrowser.open(address)

    start(opened_folders(folders, map_path), port, ready)
