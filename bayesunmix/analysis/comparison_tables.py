"""The tables of a comparison, as ``comparison.tables``."""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayesunmix.analysis.common_draws import INTERVAL, UNDETERMINED, UPPER, ratio_kind
from bayesunmix.analysis.ranking import COLUMNS
from bayesunmix.chemistry.ratios import ordered_pairs
from bayesunmix.core.credible import interval

if TYPE_CHECKING:
    from bayesunmix.analysis.alternatives import Alternatives
    from bayesunmix.analysis.comparison import Comparison

FloatArray = npt.NDArray[np.float64]

# A quantity divided by zero draws is large, not nothing.
_TINY = 1e-300
_DIFFERENCE_COLUMNS = ["difference", "difference_lower", "difference_upper"]
_RATIO_COLUMNS = ["ratio", "ratio_lower", "ratio_upper", "level", "kind", "prob_first_above_second"]


class ComparisonTables:
    """The tables of one comparison, as ``comparison.tables``.

    Parameters
    ----------
    comparison
        Results side by side.
    """

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def compositions(self) -> pd.DataFrame:
        """Composition of every result, the columns of ``composition.csv`` behind the result's name."""
        return self._stacked([result.summary() for result in self._comparison.results])

    def partitions(self) -> pd.DataFrame:
        """Partition coefficients of every result, the columns of ``partition.csv`` behind the result's name."""
        return self._stacked([result.tables.partition() for result in self._comparison.results])

    def _stacked(self, tables: list[pd.DataFrame]) -> pd.DataFrame:
        named = []
        for name, own, table in zip(self._comparison.names, self._comparison.own_phases, tables, strict=True):
            called = dict(zip(own, self._comparison.phases, strict=True))
            for column in ("phase", "numerator", "denominator"):
                if column in table:
                    table = table[table[column].isin(own)]
                    table = table.assign(**{column: table[column].map(called)})
            named.append(table.assign(result=name))
        table = pd.concat(named, ignore_index=True)
        first = ["result", *(column for column in table.columns if column != "result")]
        return table[first].reset_index(drop=True)

    @cached_property
    def _differences(self) -> pd.DataFrame:
        compared, rows = self._comparison, []
        for a, b in self._pairs():
            for k, phase in enumerate(compared.phases):
                for i, element in enumerate(compared.elements):
                    pair = {
                        "phase": phase,
                        "element": element,
                        "first": compared.names[a],
                        "second": compared.names[b],
                    }
                    one, other = (compared.draws.values[r, :, k, i] for r in (a, b))
                    kinds = (str(compared.kinds[a, k, i]), str(compared.kinds[b, k, i]))
                    difference = _difference_row(one - other, kinds, compared.level)
                    rows.append(pair | difference | ratio_row(one, other, kinds, compared.level))
        columns = ["phase", "element", "first", "second", *_DIFFERENCE_COLUMNS, *_RATIO_COLUMNS]
        return pd.DataFrame(rows, columns=columns)

    def _pairs(self) -> list[tuple[int, int]]:
        """Pairs of results of different maps."""
        maps = self._comparison.maps
        return [(a, b) for a, b in itertools.combinations(range(len(maps)), 2) if maps[a] != maps[b]]

    def ranking(self) -> pd.DataFrame:
        """Rank runs of one map, the best first: `bayesunmix.analysis.ranking.COLUMNS` behind the map's number."""
        ranked = [
            (one, one.ranking.table) for one in self._comparison.alternatives if one.ranking is not None
        ]
        return self._of_maps(ranked, ["map", *COLUMNS])

    def agreement(self) -> pd.DataFrame:
        """Quantities by each run of a map, and whether all runs agree: see `Alternatives.agreement`."""
        return self._of_maps([(one, one.agreement) for one in self._comparison.alternatives])

    def stacked(self) -> pd.DataFrame:
        """Quantities of the stacked runs of a map: see `Alternatives.stacked`."""
        return self._of_maps([(one, one.stacked) for one in self._comparison.alternatives])

    def declarations(self) -> pd.DataFrame:
        """List the declarations in which the runs of a map differ, with a column for each run."""
        return self._of_maps([(one, one.declarations) for one in self._comparison.alternatives])

    def _of_maps(
        self, tables: list[tuple[Alternatives, pd.DataFrame]], columns: list[str] | None = None
    ) -> pd.DataFrame:
        """Put tables of several maps below each other, with the number of the map in front, counted from 1."""
        compared = self._comparison
        numbers = [compared.maps[compared.names.index(one.names[0])] + 1 for one, _ in tables]
        if not tables:
            return pd.DataFrame(columns=columns or ["map"])
        parts = [table.assign(map=number) for number, (_, table) in zip(numbers, tables, strict=True)]
        joined = pd.concat(parts, ignore_index=True)
        return joined[["map", *(column for column in joined.columns if column != "map")]]

    def composition_differences(self) -> pd.DataFrame:
        """Every pair of results: first minus second in atom fraction, first over second, P(first > second).

        ``kind`` is that of the ratio: an element that is not resolved from zero in one result gives a bound, in neither
        (or declared absent) ``undetermined``.
        """
        return self._differences.copy()

    @cached_property
    def _ratios(self) -> pd.DataFrame:
        compared, rows = self._comparison, []
        for numerator, denominator in ordered_pairs(compared.phases):
            draws = compared.partition(numerator, denominator).values
            kinds = compared.partition_kinds(numerator, denominator)
            for a, b in self._pairs():
                for i, element in enumerate(compared.elements):
                    identity = {"element": element, "numerator": numerator, "denominator": denominator}
                    pair = {"first": compared.names[a], "second": compared.names[b]}
                    both = (str(kinds[a, i]), str(kinds[b, i]))
                    rows.append(
                        identity | pair | ratio_row(draws[a, :, i], draws[b, :, i], both, compared.level)
                    )
        columns = ["element", "numerator", "denominator", "first", "second", *_RATIO_COLUMNS]
        return pd.DataFrame(rows, columns=columns)

    def partition_ratios(self) -> pd.DataFrame:
        """Every pair of results and ordered pair of phases: D of the first over D of the second, P(first > second)."""
        return self._ratios.copy()


def ratio_row(first: FloatArray, second: FloatArray, kinds: tuple[str, str], level: float) -> dict[str, Any]:
    """Median and interval of first / second, or the bound that is left, and P(first > second)."""
    kind = ratio_kind(*kinds)
    row = dict.fromkeys(_RATIO_COLUMNS[:3], np.nan) | {"level": level, "kind": kind}
    if kind == UNDETERMINED:
        return row | {"prob_first_above_second": np.nan}
    ratio = np.exp(np.log(np.maximum(first, _TINY)) - np.log(np.maximum(second, _TINY)))
    if kind == INTERVAL:
        lower, upper = interval(ratio, level)
        row |= {"ratio": float(np.median(ratio)), "ratio_lower": float(lower), "ratio_upper": float(upper)}
    elif kind == UPPER:
        row |= {"ratio_lower": 0.0, "ratio_upper": float(np.quantile(ratio, level))}
    else:
        row |= {"ratio_lower": float(np.quantile(ratio, 1.0 - level)), "ratio_upper": np.inf}
    return row | {"prob_first_above_second": float((first > second).mean())}


def _difference_row(values: FloatArray, kinds: tuple[str, str], level: float) -> dict[str, Any]:
    """Median and interval of a difference of atom fractions, one of which at least was detected."""
    names = _DIFFERENCE_COLUMNS
    if INTERVAL not in kinds or UNDETERMINED in kinds:
        return dict.fromkeys(names, np.nan)
    lower, upper = interval(values, level)
    return dict(zip(names, (float(np.median(values)), float(lower), float(upper)), strict=True))
