"""The uncertainty budget as a table: shares of the variance of every number that has an interval."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.checks.budget import SOURCES

FloatArray = npt.NDArray[np.float64]

COLUMNS = (
    "quantity",
    "phase",
    "denominator",
    "element",
    "value",
    "sd",
    *(f"share_{name}" for name in SOURCES),
)


def budget_table(budget: xr.Dataset, composition: pd.DataFrame, partition: pd.DataFrame) -> pd.DataFrame:
    """Share of each source in the variance of every number that is reported with an interval.

    Parameters
    ----------
    budget : Dataset
        From `uncertainty_budget`.
    composition, partition : DataFrame
        The tables of the result: what was not detected has no interval, and no budget.

    Returns
    -------
    DataFrame
        ``quantity`` (``composition`` or ``partition``), ``phase`` (of a ratio, the numerator), ``denominator``,
        ``element``, ``value`` (mean atom fraction or median ratio), ``sd`` (of the atom fraction, or of ln D: the
        root of the sum of the parts) and the shares, which add up to 1.
    """
    rows = []
    # Earlier versions knew no misfit and no rotation.
    budget = budget.reindex(source=list(SOURCES), fill_value=0.0)
    for row in composition[composition["detected"].astype(str).str.lower() == "true"].itertuples():
        part = budget["composition"].sel(phase=row.phase, element=row.element).values
        rows.append(_row("composition", row.phase, "", row.element, value=row.mean, part=part))
    for row in partition[partition["kind"] == "interval"].itertuples():
        place = {"numerator": row.numerator, "denominator": row.denominator, "element": row.element}
        part = budget["log_partition"].sel(place).values
        names = ("partition", row.numerator, row.denominator, row.element)
        rows.append(_row(*names, value=row.median, part=part))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(*names: object, value: float, part: FloatArray) -> list[object]:
    total = float(part.sum())
    shares = part / total if total > 0.0 else np.full(len(part), np.nan)
    return [*names, value, float(np.sqrt(total)), *shares.tolist()]
