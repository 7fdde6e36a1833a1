"""Coverage of the intervals on the embedded phantom: how often 95 % intervals hold the truth.

Each seed has its own map: layout, film, counts, and line strengths off by a draw of the prior that the inference
assumes. The intervals of counting alone, without calibration, are judged on maps whose line strengths are nominal.
A true zero is held when its bound, which begins at 0, holds it: always, unless the element is taken for detected.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from bench import Options, Row
from kept_maps import KeptMap, Looked, kept_maps
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import KnownComposition, Source, Truth

LEAST_OVERALL = 0.92
LEAST_PAIR = 0.75
# Seeds of the Laplace and NUTS maps, all of them and for a quick look.
SEEDS = {"laplace": (20, 3), "nuts": (5, 1)}
KEYS = ["quantity", "phase", "element"]


def rows(options: Options) -> list[Row]:
    """Rows of coverage; the table of every phase and element is printed on the way."""
    found = []
    for method, (many, few) in SEEDS.items():
        seeds = range(few if options.quick else many)
        run = partial(one_run, phantom(method))
        table, failures = judged(f"coverage_{method}", seeds, run, with_calibration, options)
        show(f"{method}, {len(seeds)} seeds", table)
        found += method_rows(method, len(seeds), table, failures)
    seeds = range(SEEDS["laplace"][1 if options.quick else 0])
    run = partial(one_run, phantom("laplace", calibration_error=False))
    table, failures = judged("coverage_counting_alone", seeds, run, counting_alone, options)
    show(f"laplace, counting alone, {len(seeds)} seeds", table)
    return found + counting_rows(len(seeds), table, failures)


@dataclasses.dataclass(frozen=True)
class Judge:
    """Unmixes the map of a seed and puts the intervals beside the truth."""

    run: Callable[[int], tuple[Result, Truth]]
    intervals: Callable[[Result, Truth], pd.DataFrame]

    def __call__(self, seed: int) -> Looked:
        """Return the intervals of one seed."""
        result, truth = self.run(seed)
        return Looked(self.intervals(result, truth), result.problems)


def judged(
    name: str,
    seeds: range,
    run: Callable[[int], tuple[Result, Truth]],
    intervals: Callable[[Result, Truth], pd.DataFrame],
    options: Options,
) -> tuple[pd.DataFrame, list[str]]:
    """Run every seed and return all intervals beside the truth, and what failed.

    Parameters
    ----------
    name
        Of the folder that keeps the maps.
    seeds
        Of the maps.
    run
        Simulates and unmixes the map of a seed.
    intervals
        Puts the intervals beside the truth.
    options
        Where maps are kept, and over how many processes they run.
    """
    return gathered(
        kept_maps(Judge(run, intervals), seeds, options.work / name, {"maps": name}, options.processes)
    )


def gathered(maps: list[KeptMap]) -> tuple[pd.DataFrame, list[str]]:
    """Return the intervals of all maps, and what failed.

    Returns
    -------
    table
        Columns quantity, phase, element, truth, lower, upper, inside, seed.
    failures
        One sentence for each seed that gave no result, or that says itself not to trust it.
    """
    failures = [f"seed {kept.seed}: {kept.failure}" for kept in maps if kept.looked is None]
    found = [(kept.seed, kept.looked) for kept in maps if kept.looked is not None]
    failures += [f"seed {seed}: {problem}" for seed, looked in found for problem in looked.problems]
    tables = [looked.table.assign(seed=seed) for seed, looked in found]
    empty = pd.DataFrame(columns=[*KEYS, "inside", "seed"])
    return pd.concat(tables, ignore_index=True) if tables else empty, failures


def phantom(method: str, *, calibration_error: bool = True) -> RunConfig:
    """Return the configuration of the embedded phantom."""
    from bayesunmix.simulation.phantom import phantom_config

    declared = phantom_config()
    return dataclasses.replace(
        declared,
        simulate=dataclasses.replace(declared.simulate, calibration_error=calibration_error),
        inference=dataclasses.replace(declared.inference, method=method),
    )


def one_run(
    config: RunConfig,
    seed: int,
    drawn: RunConfig | None = None,
    departure: Callable[[Source, int], Source] | None = None,
) -> tuple[Result, Truth]:
    """Simulate one map and unmix it.

    Parameters
    ----------
    config
        What the inference is told.
    seed
        Seed of map and run.
    drawn
        What the map is drawn from; as `config` says when left out.
    departure
        Physics that no configuration can say, given the nominal physics and the seed, see
        `bayesunmix.simulation.simulate.simulate_map`.
    """
    from bayesunmix.core.errors import BayesUnmixWarning
    from bayesunmix.pipeline import run_image
    from bayesunmix.simulation.simulate import simulate_map

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        departed = departure and partial(departure, seed=seed)
        simulated = simulate_map(drawn or config, seed, departure=departed)
        result = run_image(simulated.image, config, None, seed=seed, progress=False)
    return result, simulated.truth


def with_calibration(result: Result, truth: KnownComposition) -> pd.DataFrame:
    """Return the reported intervals beside the truth; of each pair of phases one order, as the other says the same."""
    from bayesunmix.demo import beside_truth

    table = beside_truth(result, truth)
    order = {name: number for number, name in enumerate(truth.phases)}
    twice = [
        quantity == "partition" and order[phase.split("/")[0]] < order[phase.split("/")[1]]
        for quantity, phase in zip(table["quantity"], table["phase"], strict=True)
    ]
    return table[~np.array(twice)]


def counting_alone(result: Result, truth: Truth) -> pd.DataFrame:
    """Return the intervals of compositions with nominal line strengths, for elements that are there."""
    draws = result.tree["posterior"]["composition_counting"]
    tails = [(1.0 - result.level) / 2.0, (1.0 + result.level) / 2.0, result.level]
    lower, upper, bound = draws.quantile(tails, dim=("chain", "draw")).values
    found = []
    for row in result.summary().itertuples():
        at = truth.phases.index(row.phase), truth.elements.index(row.element)
        true = float(truth.composition[at])
        if true > 0.0:
            detected = str(row.detected).lower() == "true"
            low, high = (float(lower[at]), float(upper[at])) if detected else (0.0, float(bound[at]))
            found.append(("composition", row.phase, row.element, true, low, high, low <= true <= high))
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


def shares(table: pd.DataFrame) -> pd.DataFrame:
    """Return how many intervals hold the truth and how wide they are, by quantity, phase and element."""
    known = table.dropna(subset=["inside"]).copy()
    known["inside"] = known["inside"].astype(bool)
    with np.errstate(divide="ignore", invalid="ignore"):
        width = (known["upper"] - known["lower"]) / known["truth"]
    known["width"] = width.where(np.isfinite(width))
    grouped = known.groupby(KEYS, sort=False)
    return grouped.agg(
        truth=("truth", "first"), held=("inside", "sum"), of=("inside", "size"), width=("width", "median")
    ).reset_index()


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
    for row in shares(table).itertuples():
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
    counted = shares(table)
    held, of = int(counted["held"].sum()), int(counted["of"].sum())
    share = held / of if of else 0.0
    # A bound on a true zero holds it by construction: the share of the others says more.
    there = counted[(counted["truth"] > 0.0) & np.isfinite(counted["truth"])]
    measured = f"{share:.3f} ({held} of {of}); {there['held'].sum() / max(there['of'].sum(), 1):.3f} of those not zero"
    return Row(what, f"at least {least:g}", measured, share >= least)


def _lowest_row(what: str, table: pd.DataFrame) -> Row:
    counted = shares(table)
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
    counted = shares(table)
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
