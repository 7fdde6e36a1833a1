"""Simulation-based calibration of every engine, and of engines broken on purpose, which must fail it.

The study itself is `posterior_sbc`. Its replicates stay in the folder that ``--keep`` names, so that the same command
goes on after an interruption; the page (PNG, PDF) and the tables (CSV, Markdown) lie beside them.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pandas as pd
from bench import Options, Row, told
from posterior_sbc import kept_pilot, small_map, study

from bayesunmix.config.names import METHODS
from bayesunmix.laboratory.assessment import FALSE_ALARMS, Assessment, assess, distorted
from bayesunmix.laboratory.coverage import LEVELS
from bayesunmix.laboratory.replicates import Replicate, run_study

# Pixels along a side of the pilot map, each with the counts of a block.
SIDE = 12
REPLICATES = {"full": 200, "quick": 40}
# Engines that draw; the sampler first, as it is the one that has to pass.
ENGINES = tuple(method for method in METHODS if method != "map")
MUST_PASS = ("nuts",)
BROKEN = {
    "intervals halved": partial(distorted, scale=0.5),
    "intervals doubled": partial(distorted, scale=2.0),
    "moved by half a standard deviation": partial(distorted, shift=0.5),
}


def rows(options: Options) -> list[Row]:
    """Rows of every engine and of the broken ones; the page and the tables are written on the way."""
    n = REPLICATES["quick" if options.quick else "full"]
    folder = options.work / "sbc"
    pilot = kept_pilot(folder / "pilot.pickle", small_map(SIDE), n)
    found, studies = [], {}
    for method in ENGINES:
        print(f"  {method}", flush=True)
        replicates = run_study(
            study(pilot, method, SIDE), folder / method, n, processes=options.processes, progress=told
        )
        studies[method] = assess(replicates)
        found += engine_rows(method, studies[method])
        if method in MUST_PASS:
            found += broken_rows(method, replicates)
    write_page(studies, folder)
    return found


def engine_rows(method: str, assessed: Assessment) -> list[Row]:
    """Rows of one engine: ranks, and coverage at every level."""
    table = assessed.table
    n, outside, failing = (
        assessed.long["replicate"].nunique(),
        assessed.outside(),
        assessed.failing(),
    )
    what = f"{method}, {n} replicates"
    measured = f"{len(failing)} of {len(table)}" + (f" ({_departures(table, failing)})" if failing else "")
    own = f"{len(outside)} of {len(table)}" + (f" ({_departures(table, outside)})" if outside else "")
    must = method in MUST_PASS
    asked = "none" if must else "named"
    said = ", ".join(f"{100.0 * x:g} %: {_share(assessed, x):.3f}" for x in LEVELS)
    failed = len(assessed.failures)
    return [
        Row(
            f"{what}: ranks outside the band of all quantities",
            asked,
            measured,
            not failing if must else None,
        ),
        Row(f"{what}: outside their own 95 % band", f"{FALSE_ALARMS * len(table):.1f} expected", own, None),
        Row(f"{what}: coverage by level", "", said, None),
        Row(f"{what}: replicates that fail", "none", str(failed), failed == 0),
    ]


def broken_rows(method: str, replicates: list[Replicate]) -> list[Row]:
    """Rows of the engine broken on purpose, which must not pass."""
    found = []
    for how, broken in BROKEN.items():
        assessed = assess(broken(replicates))
        measured = f"{len(assessed.failing())} of {len(assessed.table)} quantities outside"
        found.append(Row(f"{method}, {how}", "found out", measured, not assessed.passes))
    return found


def _share(assessed: Assessment, level: float) -> float:
    held, of = assessed.coverage(level)
    return held / max(of, 1)


def _departures(table: pd.DataFrame, names: list[str]) -> str:
    """Name quantities with what is wrong with their intervals: too low or high, too narrow or wide."""
    said = []
    for row in table[table["quantity"].isin(names)].itertuples():
        # A share of ranks that is too high means draws that are too low.
        side = "low" if row.shift > 0 else "high"
        width = "narrow" if row.spread > 1 else "wide"
        said.append(
            f"{row.quantity} {side} {abs(row.shift):.2f}, {width} {row.spread:.2f}, p {row.p_value:.1g}"
        )
    return "; ".join(said)


def write_page(studies: dict[str, Assessment], folder: Path) -> None:
    """Write the page of plots, and of every engine the table of quantities and of replicates."""
    from bayesunmix.laboratory.figures import plot_assessment

    page = plot_assessment(studies)
    for kind in ("png", "pdf"):
        page.savefig(folder / f"calibration.{kind}", dpi=200)
    text = ["# Calibration", "", "![ranks and coverage](calibration.png)", ""]
    for method, assessed in studies.items():
        assessed.table.to_csv(folder / f"{method}.csv", index=False)
        assessed.long.to_csv(folder / f"{method}_replicates.csv", index=False)
        verdict = f"{len(assessed.failing())} of {len(assessed.table)} quantities outside the band of all"
        text += [f"## {method}: {verdict}", "", *markdown(assessed.table), ""]
    (folder / "calibration.md").write_text("\n".join(text), encoding="utf-8")


def markdown(table: pd.DataFrame) -> list[str]:
    """Lines of a Markdown table of the quantities, the worst first."""
    names = [
        "quantity",
        "p_value",
        "shift",
        "spread",
        *(f"coverage_{100.0 * x:g}" for x in LEVELS),
        "width_95",
    ]
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    for row in table.sort_values("p_value")[names].itertuples(index=False):
        cells = [row[0], f"{row[1]:.2g}", *(f"{value:.2f}" for value in row[2:])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines
