"""Coverage of the intervals on the embedded phantom: how often 95 % intervals hold the truth.

Maps are those of `bayesunmix.laboratory.maps`, with line strengths off by a draw of their prior. The intervals of
counting alone, without calibration, are judged on maps whose line strengths are nominal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from bench import Options, Row
from rich.console import Console
from rich.table import Table

from bayesunmix.laboratory.maps import KEYS, coverage_of, held_share

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import Truth

LEAST_OVERALL = 0.92
LEAST_PAIR = 0.75
# Seeds of the Laplace and NUTS maps, all of them and for a quick look.
SEEDS = {"laplace": (20, 3), "nuts": (5, 1)}


def rows(options: Options) -> list[Row]:
    """Rows of coverage; the table of every phase and element is printed on the way."""
    found = []
    for method, (many, few) in SEEDS.items():
        seeds = range(few if options.quick else many)
        table, failures = coverage_of(
            phantom(method), seeds, options.work / f"coverage_{method}", processes=options.processes
        )
        show(f"{method}, {len(seeds)} seeds", table)
        found += method_rows(method, len(seeds), table, failures)
    seeds = range(SEEDS["laplace"][1 if options.quick else 0])
    table, failures = coverage_of(
        phantom("laplace", calibration_error=False),
        seeds,
        options.work / "coverage_counting_alone",
        intervals=counting_alone,
        processes=options.processes,
    )
    show(f"laplace, counting alone, {len(seeds)} seeds", table)
    return found + counting_rows(len(seeds), table, failures)


def phantom(method: str, *, calibration_error: bool = True) -> RunConfig:
    """Return the configuration of the embedded phantom."""
    from bayesunmix.simulation.phantom import phantom_config

    declared = phantom_config()
    return dataclasses.replace(
        declared,
        simulate=dataclasses.replace(declared.simulate, calibration_error=calibration_error),
        inference=dataclasses.replace(declared.inference, method=method),
    )


def counting_alone(result: Result, truth: Truth) -> pd.DataFrame:
    """Return the intervals of compositions with nominal line strengths, for elements that are there."""
    found = counting_intervals(result, truth, {name: name for name in result.phases})
    return found[found["truth"] > 0.0]


def counting_intervals(result: Result, truth: Truth, names: Mapping[str, str]) -> pd.DataFrame:
    """Return the intervals and bounds of compositions with nominal line strengths beside the truth.

    Parameters
    ----------
    result, truth
        Of a map.
    names
        Which true phase each one is.
    """
    draws = result.tree["posterior"]["composition_counting"]
    tails = [(1.0 - result.level) / 2.0, (1.0 + result.level) / 2.0, result.level]
    lower, upper, bound = draws.quantile(tails, dim=("chain", "draw")).values
    found = []
    for row in result.summary().itertuples():
        if row.detected == "declared_absent":
            continue
        at, name = (result.phases.index(row.phase), result.elements.index(row.element)), names[row.phase]
        true = float(truth.composition[truth.phases.index(name), at[1]])
        detected = str(row.detected).lower() == "true"
        low, high = (float(lower[at]), float(upper[at])) if detected else (0.0, float(bound[at]))
        found.append(("composition", name, row.element, true, low, high, low <= true <= high))
    return pd.DataFrame(found, columns=[*KEYS, "truth", "lower", "upper", "inside"])


def method_rows(method: str, n_seeds: int, table: pd.DataFrame, failures: list[str]) -> list[Row]:
    """Rows of one method: overall and lowest shares for compositions and partition coefficients."""
    found = []
    for quantity, plural in (("composition", "compositions"), ("partition", "partition coefficients")):
        chosen = table[table["quantity"] == quantity]
        what = f"{method}, {n_seeds} seeds, {plural}"
        found += [
            overall_row(f"{what}: share of intervals that hold the truth", chosen),
            _lowest_row(f"{what}: lowest pair of phase and element", chosen),
            Row(f"{what}: interval width over truth, median", "", _widths(chosen), None),
        ]
    return [*found, _failure_row(method, n_seeds, failures)]


def counting_rows(n_seeds: int, table: pd.DataFrame, failures: list[str]) -> list[Row]:
    """Rows of the intervals of counting alone."""
    what = f"laplace, {n_seeds} seeds, counting alone on nominal line strengths, present elements"
    return [
        overall_row(what, table),
        _lowest_row(f"{what}: lowest pair", table),
        _failure_row("laplace, counting alone", n_seeds, failures),
    ]


def show(title: str, table: pd.DataFrame) -> None:
    """Print the share of every phase and element."""
    console = Console()
    if not console.is_terminal:
        console.width = 100
    printed = Table(title=f"Coverage: {title}", title_justify="left")
    for heading in ("quantity", "phase", "element"):
        printed.add_column(heading)
    for heading in ("truth", "held", "share", "width / truth"):
        printed.add_column(heading, justify="right")
    for row in held_share(table).itertuples():
        share = row.held / row.of
        mark = "red" if share < LEAST_PAIR else ""
        width = "" if np.isnan(row.width) else f"{row.width:.2f}"
        held = f"{row.held}/{row.of}"
        printed.add_row(
            row.quantity, row.phase, row.element, f"{row.truth:.3g}", held, f"{share:.2f}", width, style=mark
        )
    console.print(printed)


def overall_row(what: str, table: pd.DataFrame, least: float = LEAST_OVERALL) -> Row:
    """Row of the share of all intervals that hold the truth, which must be at least `least`."""
    counted = held_share(table)
    held, of = int(counted["held"].sum()), int(counted["of"].sum())
    share = held / of if of else 0.0
    # A bound on a true zero holds it by construction: the share of the others says more.
    there = counted[(counted["truth"] > 0.0) & np.isfinite(counted["truth"])]
    measured = f"{share:.3f} ({held} of {of}); {there['held'].sum() / max(there['of'].sum(), 1):.3f} of those not zero"
    return Row(what, f"at least {least:g}", measured, share >= least)


def _lowest_row(what: str, table: pd.DataFrame) -> Row:
    counted = held_share(table)
    if counted.empty:
        return Row(what, f"at least {LEAST_PAIR}", "no interval", False)
    counted["share"] = counted["held"] / counted["of"]
    lowest = counted.sort_values("share").iloc[0]
    low = [
        f"{row.phase} {row.element} {row.held}/{row.of}"
        for row in counted.itertuples()
        if row.share < LEAST_PAIR
    ]
    measured = f"{lowest['share']:.2f} ({'; '.join(low) or lowest['phase'] + ' ' + lowest['element']})"
    return Row(what, f"at least {LEAST_PAIR}", measured, bool(lowest["share"] >= LEAST_PAIR))


def _widths(table: pd.DataFrame) -> str:
    """Median relative width by phase."""
    counted = held_share(table)
    return ", ".join(
        f"{phase} {group['width'].median():.2f}" for phase, group in counted.groupby("phase", sort=False)
    )


def _failure_row(what: str, n_seeds: int, failures: list[str]) -> Row:
    seeds = {failure.split(":")[0] for failure in failures}
    return Row(
        f"{what}: seeds that fail or say not to trust them",
        "none",
        f"{len(seeds)} of {n_seeds}" + (f" ({'; '.join(failures)})" if failures else ""),
        not failures,
    )
