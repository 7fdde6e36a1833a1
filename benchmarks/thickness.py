"""How much the prior of the film's thickness moves the answer: the 71 GPa map at 50, 100 and 150 nm, side by side.

Nothing in the map tells the thickness, so that what moves with it is as good as the thickness is known. A move is that
of the median from the thinnest film to the thickest, in half widths of the interval at 100 nm.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from bench import Options, Row
from real_map import CONFIG, MAP
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

# Mean and sd; relative to the mean, the sd is that of the example.
PRIORS_NM = ((50.0, 15.0), (100.0, 30.0), (150.0, 45.0))
THIN, MIDDLE, THICK = (f"{mean:g}" for mean, _ in PRIORS_NM)
KEYS = ["quantity", "phase", "element"]
PLURAL = {"composition": "compositions", "partition": "partition coefficients"}


def rows(options: Options) -> list[Row]:
    """Rows of the largest moves; the table of every phase and element is printed on the way."""
    results = [unmix(options, prior) for prior in PRIORS_NM]
    table = side_by_side([intervals(result) for result in results])
    show(table)
    verdicts = [
        f"{mean:g} nm: {'; '.join(result.problems) or 'trusted'}"
        for (mean, _), result in zip(PRIORS_NM, results, strict=True)
    ]
    return [
        *(row for quantity in PLURAL for row in move_rows(quantity, table)),
        Row("own verdicts", "", "; ".join(verdicts), None),
    ]


def unmix(options: Options, thickness_nm: tuple[float, float]) -> Result:
    """Unmix the map with a prior of the thickness, by Laplace's approximation."""
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.core.errors import BayesUnmixWarning
    from bayesunmix.data.io import load
    from bayesunmix.pipeline import run_image

    example = RunConfig.from_toml(CONFIG)
    config = dataclasses.replace(
        example,
        sample=dataclasses.replace(example.sample, thickness_nm=thickness_nm),
        inference=dataclasses.replace(example.inference, method="laplace"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        image = load(options.file(MAP), takeoff_angle_deg=config.instrument.takeoff_angle_deg)
        result = run_image(image, config, None, seed=0, progress=False)
    print(f"  {thickness_nm[0]:g} nm: done", flush=True)
    return result


def intervals(result: Result) -> pd.DataFrame:
    """Return median and interval of every composition that was detected and every partition coefficient between such.

    Of each pair of phases one order, as the other says the same.
    """
    order = {name: number for number, name in enumerate(result.phases)}
    found = [
        ("composition", row.phase, row.element, row.median, row.lower, row.upper)
        for row in result.summary().itertuples()
        if str(row.detected).lower() == "true"
    ]
    found += [
        ("partition", f"{row.numerator}/{row.denominator}", row.element, row.median, row.lower, row.upper)
        for row in result.tables.partition().itertuples()
        if row.kind == "interval" and order[row.numerator] > order[row.denominator]
    ]
    return pd.DataFrame(found, columns=[*KEYS, "median", "lower", "upper"])


def side_by_side(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the three answers in one row each, with the move; what one of them lacks has no move.

    Returns
    -------
    pandas.DataFrame
        Columns quantity, phase, element, median, lower and upper with the thickness appended (``median_50``), change
        (median of the thick film over that of the thin one, minus 1) and move (in half widths).
    """
    named = [
        table.set_index(KEYS).add_suffix(f"_{name}")
        for table, name in zip(tables, (THIN, MIDDLE, THICK), strict=True)
    ]
    # In the order of the table that has a row first.
    keys = pd.concat(tables)[KEYS].drop_duplicates()
    both = keys.join(pd.concat(named, axis=1), on=KEYS).reset_index(drop=True)
    moved = both[f"median_{THICK}"] - both[f"median_{THIN}"]
    half = 0.5 * (both[f"upper_{MIDDLE}"] - both[f"lower_{MIDDLE}"])
    return both.assign(change=moved / both[f"median_{THIN}"], move=moved / half)


def move_rows(quantity: str, table: pd.DataFrame) -> list[Row]:
    """Rows of the largest and the typical move of one quantity."""
    chosen = table[(table["quantity"] == quantity) & np.isfinite(table["move"])]
    what = f"{PLURAL[quantity]}, thickness {THIN} to {THICK} nm"
    if chosen.empty:
        return [Row(what, "", "none has an interval at every thickness", None)]
    size = chosen["move"].abs()
    top = chosen.loc[size.idxmax()]
    medians = ", ".join(f"{top[f'median_{name}']:.3g}" for name in (THIN, MIDDLE, THICK))
    ends = f"[{top[f'lower_{MIDDLE}']:.3g}, {top[f'upper_{MIDDLE}']:.3g}]"
    largest = (
        f"{top['phase']} {top['element']}: {top['move']:+.2f} half widths ({medians}; at {MIDDLE} nm {ends})"
    )
    typical = (
        f"{size.median():.2f} half widths; {int((size > 1.0).sum())} of {len(chosen)} move by more than 1"
    )
    return [Row(f"{what}: largest move", "", largest, None), Row(f"{what}: median move", "", typical, None)]


def show(table: pd.DataFrame) -> None:
    """Print the three answers of every phase and element."""
    console = Console()
    if not console.is_terminal:
        console.width = 150
    printed = Table(
        title=f"Thickness prior centred at {THIN}, {MIDDLE} and {THICK} nm; the move in half widths at {MIDDLE} nm",
        title_justify="left",
    )
    for heading in ("quantity", "phase", "element"):
        printed.add_column(heading)
    for heading in (*(f"{name} nm" for name in (THIN, MIDDLE, THICK)), "change", "move"):
        printed.add_column(heading, justify="right")
    for _, row in table.iterrows():
        answers = [
            ""
            if np.isnan(row[f"median_{name}"])
            else f"{row[f'median_{name}']:.3g} [{row[f'lower_{name}']:.3g}, {row[f'upper_{name}']:.3g}]"
            for name in (THIN, MIDDLE, THICK)
        ]
        moved = ["", ""] if np.isnan(row["move"]) else [f"{row['change']:+.1%}", f"{row['move']:+.2f}"]
        printed.add_row(row["quantity"], row["phase"], row["element"], *answers, *moved)
    console.print(printed)
