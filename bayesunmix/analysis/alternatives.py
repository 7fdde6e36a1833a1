"""Several runs of one map: alternatives that share every count, of which at most one declaration is true.

They are no sample: nothing is pooled, and no difference between two of them is tested as one between two maps. They are
ranked by how well they predict the map (`bayesunmix.analysis.ranking`), and stacked where that can be done: the stacked
draws are those of the runs in the proportion of their weights. What all of them agree on depends on none of the
declarations in which they differ; what they differ in is told with the declarations that it goes with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayesunmix.analysis.common_draws import INTERVAL, UNDETERMINED, UPPER, CommonDraws
from bayesunmix.analysis.declarations import differences, goes_with
from bayesunmix.analysis.ranking import Ranking, not_ranked, rank
from bayesunmix.analysis.stacking import stacked_draws, stacked_kind
from bayesunmix.chemistry.ratios import ordered_pairs
from bayesunmix.core.credible import interval

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """An atom fraction, or a partition coefficient, by each run.

    Attributes
    ----------
    phase : str
        The phase, or the numerator of D.
    denominator : str
        Empty for an atom fraction.
    element : str
    draws : (run, draw)
    kinds : tuple of str
        Whether each run knows it, or a bound of it.
    """

    phase: str
    denominator: str
    element: str
    draws: FloatArray
    kinds: tuple[str, ...]

    @property
    def name(self) -> str:
        """What it is called in sentences."""
        return (
            f"D({self.phase}/{self.denominator}) of {self.element}"
            if self.denominator
            else (f"{self.element} in {self.phase}")
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Alternatives:
    """Runs of one map.

    Attributes
    ----------
    common : CommonDraws
        Their draws on the phases and elements that all of them hold.
    results : tuple of Result
    ranking : Ranking or None
    unranked : str
        Why they are not ranked; empty where they are.
    """

    common: CommonDraws
    results: tuple[Result, ...]
    ranking: Ranking | None
    unranked: str

    @classmethod
    def of(cls, common: CommonDraws, results: Sequence[Result]) -> Alternatives:
        """Rank runs of one map, where that can be done."""
        why = not_ranked(common.names, results)
        found = None if why else rank(common.names, results)
        return cls(common=common, results=tuple(results), ranking=found, unranked=why)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the runs."""
        return self.common.names

    @cached_property
    def declarations(self) -> pd.DataFrame:
        """Keys of the configuration in which the runs differ: ``declaration``, and a column for each run."""
        return differences(self.names, self.results)

    @cached_property
    def reference(self) -> int:
        """Number of the run that others are told to differ from: the best, or the first where none is ranked."""
        return 0 if self.ranking is None else self.ranking.order[0]

    def quantities(self) -> Iterator[Quantity]:
        """Atom fractions, and partition coefficients of each pair of phases once."""
        draws = self.common.draws.values
        for k, phase in enumerate(self.common.phases):
            for i, element in enumerate(self.common.elements):
                kinds = tuple(str(kind) for kind in self.common.detected_kinds[:, k, i])
                yield Quantity(
                    phase=phase, denominator="", element=element, draws=draws[:, :, k, i], kinds=kinds
                )
        order = {name: number for number, name in enumerate(self.common.phases)}
        for top, bottom in ordered_pairs(self.common.phases):
            if order[top] < order[bottom]:
                continue
            ratio, kinds_of = (
                self.common.partition(top, bottom).values,
                self.common.partition_kinds(top, bottom),
            )
            for i, element in enumerate(self.common.elements):
                kinds = tuple(str(kind) for kind in kinds_of[:, i])
                yield Quantity(
                    phase=top, denominator=bottom, element=element, draws=ratio[:, :, i], kinds=kinds
                )

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """Every quantity that some run knows: one row for each run, and whether all agree on it.

        Columns ``quantity``, ``phase``, ``denominator``, ``element``, ``result``, ``kind``, ``median``, ``lower``,
        ``upper``, ``agree`` and ``goes_with``. All agree where the interval of each run holds the median of each other
        one. ``goes_with`` names the declarations that set the runs apart that do not agree with the best one.
        """
        rows = []
        for quantity in self.quantities():
            if INTERVAL in quantity.kinds:
                rows += self._rows(quantity)
        columns = [
            "quantity",
            "phase",
            "denominator",
            "element",
            "result",
            "kind",
            "median",
            "lower",
            "upper",
        ]
        return pd.DataFrame(rows, columns=[*columns, "agree", "goes_with"])

    def _rows(self, quantity: Quantity) -> list[dict[str, Any]]:
        known = [run for run, kind in enumerate(quantity.kinds) if kind != UNDETERMINED]
        ends = {run: _ends(quantity.draws[run], quantity.kinds[run], self.common.level) for run in known}
        alike = {
            run: all(_holds(ends[run], ends[other]) and _holds(ends[other], ends[run]) for other in known)
            for run in known
        }
        agree = len(known) == len(quantity.kinds) and all(alike.values())
        start = self.reference if self.reference in known else known[0]
        apart = [
            self.names[run]
            for run in range(len(quantity.kinds))
            if run not in known or not (_holds(ends[run], ends[start]) and _holds(ends[start], ends[run]))
        ]
        with_it = "" if agree or not apart else self._goes_with(apart)
        identity = {
            "quantity": quantity.name,
            "phase": quantity.phase,
            "denominator": quantity.denominator,
            "element": quantity.element,
        }
        nothing = (np.nan, np.nan, np.nan)
        return [
            identity
            | {"result": name, "kind": quantity.kinds[run]}
            | dict(zip(("median", "lower", "upper"), ends.get(run, nothing), strict=True))
            | {"agree": agree, "goes_with": with_it}
            for run, name in enumerate(self.names)
        ]

    def _goes_with(self, apart: Sequence[str]) -> str:
        """Name what sets some runs apart from all others: together, or each by itself where it is not the same."""
        together = goes_with(self.declarations, apart)
        if together or len(apart) == 1:
            return ", ".join(together)
        others = [name for name in self.names if name not in apart]
        each = {name: goes_with(self.declarations[["declaration", name, *others]], [name]) for name in apart}
        return "; ".join(f"{name}: {', '.join(keys)}" for name, keys in each.items() if keys)

    @cached_property
    def stacked(self) -> pd.DataFrame:
        """Atom fractions and partition coefficients of the stacked runs, with their intervals; empty without a ranking.

        Columns ``quantity``, ``phase``, ``denominator``, ``element``, ``kind``, ``median``, ``lower``, ``upper``,
        ``level``.
        """
        columns = ["quantity", "phase", "denominator", "element", "kind", "median", "lower", "upper", "level"]
        rows = []
        if self.ranking is not None:
            weights = self.ranking.weights
            for quantity in self.quantities():
                kind = stacked_kind(quantity.kinds, weights)
                mixed = stacked_draws(quantity.draws, weights, self.common.seed)
                ends = (np.nan,) * 3 if kind == UNDETERMINED else _ends(mixed, kind, self.common.level)
                identity = (quantity.name, quantity.phase, quantity.denominator, quantity.element, kind)
                rows.append((*identity, *ends, self.common.level))
        return pd.DataFrame(rows, columns=columns)


def _ends(draws: FloatArray, kind: str, level: float) -> tuple[float, float, float]:
    """Median, lower and upper end; of a bound the end that is known."""
    if kind == INTERVAL:
        lower, upper = interval(draws, level)
        return float(np.median(draws)), float(lower), float(upper)
    if kind == UPPER:
        return float(np.median(draws)), 0.0, float(np.quantile(draws, level))
    return float(np.median(draws)), float(np.quantile(draws, 1.0 - level)), np.inf


def _holds(one: tuple[float, float, float], other: tuple[float, float, float]) -> bool:
    """Whether the interval of one run holds the median of another."""
    return one[1] <= other[0] <= one[2]
