"""The demonstration: a simulated map through the whole job, and the answer beside the truth."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from bayesunmix.config.names import MethodName
from bayesunmix.core.output_folder import amend_record
from bayesunmix.core.progress import Reporter
from bayesunmix.core.rounding import bound_text, round_to_uncertainty
from bayesunmix.results.tables import ABSENT
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import KnownComposition, simulate_map

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

MISS = "outside"
_COLUMNS = ["quantity", "phase", "element", "truth", "median", "lower", "upper", "inside"]


def run_demo(out: Path, method: MethodName, seed: int, overwrite: bool) -> Result:
    """Simulate the embedded phantom, unmix it, write the output folder and print the answer beside the truth.

    Parameters
    ----------
    out
        Output folder; ``truth.csv`` is added to what every run writes.
    method
        How the posterior is computed.
    seed
        Seed of the simulation and of the run.
    overwrite
        Replace what is in `out`.

    Returns
    -------
    Result
        That of the run.

    Raises
    ------
    InputError
        If `out` holds something and `overwrite` is false.
    """
    from bayesunmix.pipeline import run_image

    declared = phantom_config()
    config = dataclasses.replace(declared, inference=dataclasses.replace(declared.inference, method=method))
    console = Console()
    console.print("Simulating a map of three minerals whose compositions are known ...", highlight=False)
    with Reporter().stage("simulation", said=False):
        simulated = simulate_map(config, seed)
    result = run_image(simulated.image, config, out, seed=seed, overwrite=overwrite, resume=False)
    table = beside_truth(result, simulated.truth)
    table.to_csv(out / "truth.csv", index=False)
    amend_record(out, None, ["truth.csv"])
    show(table, result.level, console)
    return result


def beside_truth(result: Result, truth: KnownComposition) -> pd.DataFrame:
    """Return every composition and partition coefficient of a run beside its truth.

    Returns
    -------
    pandas.DataFrame
        Columns quantity (``composition`` in atom fractions, ``partition``), phase (``CaPv/Brg`` for a ratio), element,
        truth, median, lower, upper and inside (whether the interval, or the one-sided bound, holds the truth; missing
        where the run gives no interval). What was declared, and ratios of two elements not detected, are left out.
    """
    summary = result.summary()
    states = {(row.phase, row.element): str(row.detected).lower() for row in summary.itertuples()}
    rows = [
        _composition_row(row, truth)
        for row in summary.itertuples()
        if states[row.phase, row.element] != ABSENT
    ]
    for row in result.tables.partition().itertuples():
        declared = ABSENT in (states[row.numerator, row.element], states[row.denominator, row.element])
        if not declared and row.kind in ("interval", "point", "upper", "lower"):
            rows.append(_partition_row(row, truth))
    return pd.DataFrame(rows, columns=_COLUMNS)


# Rows of tables, whose columns no type describes.
def _composition_row(row: Any, truth: KnownComposition) -> tuple[object, ...]:  # noqa: ANN401
    true = float(truth.composition[truth.phases.index(row.phase), truth.elements.index(row.element)])
    ends = (row.lower, row.upper) if str(row.detected).lower() == "true" else (0.0, row.upper_bound)
    return ("composition", row.phase, row.element, true, row.median, *ends, _inside(true, *ends))


def _partition_row(row: Any, truth: KnownComposition) -> tuple[object, ...]:  # noqa: ANN401
    true = truth.partition(row.numerator, row.denominator)[row.element]
    ends = (0.0 if row.kind == "upper" else row.lower, np.inf if row.kind == "lower" else row.upper)
    pair = f"{row.numerator}/{row.denominator}"
    return ("partition", pair, row.element, true, row.median, *ends, _inside(true, *ends))


def _inside(true: float, lower: float, upper: float) -> bool | None:
    """Whether an interval holds the truth; None without an interval, or where the truth is no number."""
    return None if np.isnan([true, lower, upper]).any() else bool(lower <= true <= upper)


def show(table: pd.DataFrame, level: float, console: Console) -> None:
    """Print the compositions, and the partition coefficients against the first phase, beside the truth."""
    compositions = table[table.quantity == "composition"]
    partitions = table[table.quantity == "partition"]
    against = partitions[partitions.phase.str.endswith(f"/{compositions.phase.iloc[0]}")]
    console.print(_table(f"Composition, atom % of the cations ({level:.0%} intervals)", compositions, 100.0))
    console.print(_table(f"Partition coefficient D ({level:.0%} intervals)", against, 1.0))
    judged = table.inside.dropna()
    if len(judged):
        said = f"{int(judged.sum())} of {len(judged)} intervals hold the truth; truth.csv lists them all."
        console.print(said, highlight=False)


def _table(title: str, rows: pd.DataFrame, factor: float) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("phase", "element"):
        table.add_column(heading)
    for heading in ("value", "interval", "truth"):
        table.add_column(heading, justify="right")
    table.add_column("")
    for phase, group in rows.groupby("phase", sort=False):
        for row in group.itertuples():
            value, interval = _texts(row.median * factor, row.lower * factor, row.upper * factor)
            mark = MISS if row.inside is False else ""
            table.add_row(*(str(phase), row.element, value, interval, f"{row.truth * factor:.3g}", mark))
        table.add_section()
    return table


def _texts(median: float, lower: float, upper: float) -> tuple[str, str]:
    """Value and interval as text; a one-sided bound has no value, and a run without draws no interval."""
    if np.isnan(upper):
        return f"{median:.3g}", ""
    if lower <= 0.0:
        return "", bound_text(upper)
    if not np.isfinite(upper):
        return "", bound_text(lower, ">")
    value, low, high = round_to_uncertainty(median, lower, upper)
    return value, f"{low} to {high}"
