"""Measure what the project promises and print one table.

    python benchmarks/run.py [--data FOLDER] [--only NAME ...] [--quick] [--out FILE.json]

``--only`` picks row groups, ``--quick`` takes fewer seeds. On two cores the full table takes a night: `sbc`,
`detection`, `measured_layout`, `model_checks`, `rotation_ends` and `wrong_model` are about an hour each, `open_maps` is
two, the others are minutes. With ``--keep`` these go on where they were stopped.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import tempfile
import traceback
from pathlib import Path

import click
from bench import Options, Row
from rich.console import Console
from rich.table import Table

# In this order: those that load JAX into this process come last, see `bench.run_program`.
GROUPS = {
    "real_map": "the 71 GPa map from the command line",
    "espm_speed": "a whole Laplace posterior against 20 iterations of espm",
    "vendor": "vendor files from the command line",
    "bad_input": "15 kinds of bad input",
    "robustness": "600 odd configurations, calls, output folders and map files",
    "peaks": "sources of the peaks of simulated spectra",
    "undeclared": "undeclared elements that a sum spectrum shows, and those that it only seems to",
    "axis": "an energy axis that is off, found with its elements",
    "resume": "a kill during NUTS, then --resume",
    "batch": "24 maps by one call, two of them broken, killed and called again",
    "large": "time and memory against the size of the map",
    "streamed": "maps that do not fit into memory, under a limit",
    "espm_smooth": "espm's phantoms: coverage, and maps beside espm's SmoothNMF",
    "espm_phantom": "espm's phantom beside KL-NMF + FCLS",
    "thickness": "the 71 GPa map with three priors of the film's thickness",
    "rotation": "the 71 GPa map without stoichiometry: site ratio and rotated solutions",
    "series": "coverage of the trend of a series of four maps",
    "coverage": "coverage of the intervals on the embedded phantom",
    "measured_layout": "coverage on the abundances of the 71 GPa sample, beside the least error",
    "partition": "coverage of partition coefficients from 0.001 to 1000 and of zeros",
    "open_maps": "coverage where little pins the phases: six chemistries, with rotations and without",
    "references": "reference spectra of phases that are nowhere pure: coverage, widths, names, contradictions",
    "rotation_ends": "coverage of truths at either end of what a map leaves open, and between",
    "wrong_model": "coverage where the model is wrong",
    "espm_maps": "coverage on maps of espm's own simulator, with five traces",
    "verdict": "levels of the verdict beside the coverage of the intervals, case by case",
    "segmentation": "abundance maps with and without neighbours",
    "regions": "coverage of means of regions, profiles and element maps",
    "view": "the viewer, from click to picture in a browser",
    "freeform": "free-form endmembers beside physics-guided ones on the phantom",
    "undeclared_grain": "coverage of what was declared around a grain that nobody declared",
    "alternatives": "true and false declarations of one map, ranked",
    "phase_number": "number of phases on wedges, zoned, with soft interfaces",
    "model_checks": "unlisted grains, holes, zoned matrices, and the number of phases",
    "sbc": "simulation-based calibration of every engine",
    "detection": "false positives and power of trace detection",
}
# Of the table in a file or a pipe.
PLAIN_WIDTH = 170
MODULES = {
    "vendor": "vendor_files",
    "peaks": "peak_candidates",
    "axis": "axis_search",
    "undeclared": "undeclared_elements",
    "resume": "killed_run",
    "coverage": "phantom_coverage",
    "partition": "partition_coverage",
    "references": "reference_maps",
    "series": "series_coverage",
    "segmentation": "segmentation_maps",
    "freeform": "free_form",
}


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="BAYESUNMIX_BENCHMARK_DATA",
    help="Folder of measured maps and reference phantoms [env: BAYESUNMIX_BENCHMARK_DATA].",
)
@click.option("--only", type=click.Choice(list(GROUPS)), multiple=True, help="Row group; may be repeated.")
@click.option("--quick", is_flag=True, help="Fewer seeds.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows as JSON, too.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Keep what the benchmarks write in this folder; groups over many maps go on with what it holds.",
)
@click.option("--processes", type=click.IntRange(1), default=2, help="Of groups over many maps [2].")
@click.option(
    "--espm-python",
    type=click.Path(path_type=Path),
    envvar="BAYESUNMIX_ESPM_PYTHON",
    help="Interpreter of an environment with espm 1.1.3 [env: BAYESUNMIX_ESPM_PYTHON].",
)
def main(
    data: Path | None,
    only: tuple[str, ...],
    quick: bool,
    out: Path | None,
    keep: Path | None,
    processes: int,
    espm_python: Path | None,
) -> None:
    """Run the chosen groups one after the other and print their rows."""
    console = Console()
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(prefix="bayesunmix-benchmarks-") as temporary:
        work = Path(temporary) if keep is None else keep
        options = Options(data and data.resolve(), work.resolve(), quick, espm_python, processes)
        for name in [name for name in GROUPS if name in (only or GROUPS)]:
            console.print(f"{name}: {GROUPS[name]} ...", highlight=False)
            found[name] = _rows(name, options)
            if out is not None:
                # Written after every group: an hour's figures must survive an interruption.
                plain = {group: [dataclasses.asdict(row) for row in rows] for group, rows in found.items()}
                out.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    console.print(table_of(found))
    if any(row.holds is False for rows in found.values() for row in rows):
        raise SystemExit(1)


def _rows(name: str, options: Options) -> list[Row]:
    """Return a group's rows; a group that fails is a row that falls short, and the others still run."""
    try:
        module = importlib.import_module(MODULES.get(name, name))
        return list(module.rows(options))
    except FileNotFoundError as error:
        return [Row(GROUPS[name], "runs", f"not run: {error}", None)]
    except Exception as error:  # the table must show every group
        traceback.print_exc()
        return [Row(GROUPS[name], "runs", f"{type(error).__name__}: {error}", False)]


def table_of(found: dict[str, list[Row]]) -> Table:
    """Return the rows of every group beneath each other."""
    table = Table(title="bayesunmix: what is asked and what was measured", title_justify="left")
    for heading in ("", "what", "asked", "measured", ""):
        table.add_column(heading, overflow="fold")
    verdicts = {True: "[green]holds", False: "[red]falls short", None: ""}
    for name, rows in found.items():
        for number, row in enumerate(rows):
            table.add_row("" if number else name, row.what, row.asked, row.measured, verdicts[row.holds])
        table.add_section()
    return table


if __name__ == "__main__":
    main()
