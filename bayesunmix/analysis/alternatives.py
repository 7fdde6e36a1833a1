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

from bayesunmix.analysis.common_draws import INTERVAL, UNDETERMINED, UPPER, CommonDraws, Covariate
from bayesunmix.analysis.declarations import NOT_DECLARED, differences, goes_with
from bayesunmix.analysis.ranking import BEST, WORSE, Ranking, not_ranked, rank
from bayesunmix.chemistry.ratios import ordered_pairs
from bayesunmix.core.credible import interval
from bayesunmix.core.rounding import bound_text, interval_text

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

# A run with less of the weight has no say in whether a stacked amount is an interval.
LEAST_WEIGHT = 0.01
# Quantities that a printed comparison lists.
_PRINTED = 8
STACKED = "stacked"


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
    def stacked_draws(self) -> FloatArray | None:
        """Atom fractions of the stacked runs, (draw, phase, element); None where the runs are not ranked."""
        if self.ranking is None:
            return None
        draws = self.common.draws.values
        chosen = _chosen(self.ranking.weights, draws.shape[1], self.common.seed)
        return np.asarray(draws[chosen, np.arange(draws.shape[1])])

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
            chosen = _chosen(weights, self.common.draws.shape[1], self.common.seed)
            for quantity in self.quantities():
                kind = stacked_kind(quantity.kinds, weights)
                mixed = quantity.draws[chosen, np.arange(len(chosen))]
                ends = (np.nan,) * 3 if kind == UNDETERMINED else _ends(mixed, kind, self.common.level)
                identity = (quantity.name, quantity.phase, quantity.denominator, quantity.element, kind)
                rows.append((*identity, *ends, self.common.level))
        return pd.DataFrame(rows, columns=columns)

    def lines(self) -> list[str]:
        """Sentences on the runs, what they agree on first."""
        names = ", ".join(self.names)
        said = [
            f"{names} are runs of one map: alternatives of the same counts, not samples. Nothing is pooled; they are "
            "ranked by how well each predicts a part of the map from the rest."
        ]
        said += [self.unranked] if self.ranking is None else self._ranked_lines()
        return said + self._agreed_lines() + self._declared_lines()

    def _ranked_lines(self) -> list[str]:
        assert self.ranking is not None
        table, said = self.ranking.table, []
        for row in table.itertuples():
            weight = f"weight {row.weight:.2f}"
            if row.standing == BEST:
                said.append(f"  {row.result}: best, {weight}")
                continue
            less = f"log density {row.difference:.1f} ± {row.difference_se:.1f}"
            what = "predicts worse" if row.standing == WORSE else "not distinguishable from the best"
            said.append(f"  {row.result}: {what} ({less}), {weight}")
        bad = [
            f"{row.result} ({row.unreliable_areas} of {row.areas})"
            for row in table.itertuples()
            if row.unreliable_areas
        ]
        if bad:
            said.append(
                f"Leave-one-out is not reliable (Pareto k) on some areas of {', '.join(bad)}; these count too much."
            )
        if not (table["standing"] == WORSE).any():
            said.append("The counts do not tell these declarations apart.")
        return said

    def _agreed_lines(self) -> list[str]:
        table = self.agreement
        if table.empty:
            return ["No amount is known to any of them."]
        once = table.drop_duplicates("quantity")
        held = once[once["agree"]]["quantity"].tolist()
        said = [
            f"All agree on {len(held)} of {len(once)} quantities, each {100 * self.common.level:g} % interval holding "
            f"each other median{': ' if held else '.'}{_listed(held)}"
        ]
        said += self._kept_lines()
        differ = once[~once["agree"]]
        if differ.empty:
            return said
        said.append(f"They differ on {len(differ)}:")
        for row in differ.head(_PRINTED).itertuples():
            own = table[table["quantity"] == row.quantity]
            parts = [f"{one.result} {_shown(one)}" for one in own.itertuples()]
            with_it = f"; goes with {row.goes_with}" if row.goes_with else ""
            said.append(f"  {row.quantity}: {', '.join(parts)}{with_it}")
        return [*said, *(["  ..."] if len(differ) > _PRINTED else [])]

    def _kept_lines(self) -> list[str]:
        """Say what those runs agree on that do not predict worse than the best, where that is not all of them."""
        if self.ranking is None:
            return []
        ranked = self.ranking.table
        kept = ranked[ranked["standing"] != WORSE]["result"].tolist()
        if len(kept) in (1, len(self.names)):
            return []
        own = [self.names.index(name) for name in self.names if name in kept]
        part = Alternatives(
            common=self.common.of_results(own),
            results=tuple(self.results[run] for run in own),
            ranking=None,
            unranked="",
        ).agreement.drop_duplicates("quantity")
        names = ", ".join(self.names[run] for run in own)
        return [f"Those that predict no worse ({names}) agree on {part['agree'].sum()} of {len(part)}."]

    def _declared_lines(self) -> list[str]:
        table = self.declarations
        if table.empty:
            return ["They declare the same."]
        said = ["Declarations that differ:"]
        for row in table.to_dict("records"):
            parts = [
                f"{name} {'not declared' if row[name] == NOT_DECLARED else row[name]}" for name in self.names
            ]
            said.append(f"  {row['declaration']}: {', '.join(parts)}")
        return said


def map_numbers(results: Sequence[Result]) -> tuple[int, ...]:
    """Return the number of each result's map, from 0: runs of one have its hash in common, or that of the counts.

    A result without either is of a map of its own. The hash of the counts is that of the energies and pixels that a run
    uses; versions that recorded it alone tell two runs of one map only where these are the same.
    """
    numbers: list[int] = []
    keys = [{one for one in (result.record.map.hash, result.record.hash) if one} for result in results]
    for place, own in enumerate(keys):
        same = {numbers[other] for other in range(place) if keys[other] & own}
        number = min(same, default=max(numbers, default=-1) + 1)
        numbers = [number if one in same else one for one in numbers] + [number]
    order = list(dict.fromkeys(numbers))
    return tuple(order.index(number) for number in numbers)


def one_per_map(common: CommonDraws, alternatives: Sequence[Alternatives]) -> CommonDraws:
    """Draws in which each map counts once, runs of one map stacked.

    Parameters
    ----------
    common
        Of all results.
    alternatives
        Of each map with several runs; all of them are ranked.
    """
    stacked = {names[0]: one for one in alternatives for names in [one.names]}
    left_out = {name for one in alternatives for name in one.names[1:]}
    kept = [run for run, name in enumerate(common.names) if name not in left_out]
    names, nominal, draws, kinds, detected = [], [], [], [], []
    for run in kept:
        one = stacked.get(common.names[run])
        own: tuple[Any, ...] = (
            common.names[run],
            common.nominal[run],
            common.draws.values[run],
            common.kinds[run],
            common.detected_kinds[run],
        )
        if one is not None and one.ranking is not None and one.stacked_draws is not None:
            weights = one.ranking.weights
            own = (
                " + ".join(one.names),
                _mixed(one.common.nominal, weights, common.seed),
                one.stacked_draws,
                _stacked_kinds(one.common.kinds, weights),
                _stacked_kinds(one.common.detected_kinds, weights),
            )
        for kept_of, value in zip((names, nominal, draws, kinds, detected), own, strict=True):
            kept_of.append(value)
    return CommonDraws(
        names=tuple(names),
        phases=common.phases,
        elements=common.elements,
        nominal=tuple(nominal),
        factors=tuple(common.factors[run] for run in kept),
        draws=common.draws.isel(result=kept).copy(data=np.stack(draws)).assign_coords(result=names),
        kinds=np.stack(kinds),
        detected_kinds=np.stack(detected),
        level=common.level,
        seed=common.seed,
        covariate=None
        if common.covariate is None
        else Covariate(common.covariate.name, tuple(common.covariate.values[run] for run in kept)),
    )


def _mixed(draws: Sequence[FloatArray], weights: FloatArray, seed: int) -> FloatArray:
    """Mix draws (draw, phase, element) of several runs in the proportion of their weights."""
    number = max(len(one) for one in draws)
    chosen = _chosen(weights, number, seed)
    generator = np.random.default_rng([seed, 72])
    places = [generator.permutation(np.arange(number) % len(one)) for one in draws]
    return np.stack([draws[run][places[run][draw]] for draw, run in enumerate(chosen)])


def _stacked_kinds(kinds: npt.NDArray[np.str_], weights: FloatArray) -> npt.NDArray[np.str_]:
    """Return what is known of every stacked amount, (phase, element), from (run, phase, element)."""
    found = [
        [stacked_kind([str(kind) for kind in kinds[:, k, i]], weights) for i in range(kinds.shape[2])]
        for k in range(kinds.shape[1])
    ]
    return np.array(found)


def stacked_kind(kinds: Sequence[str], weights: FloatArray) -> str:
    """Return what is known of a stacked amount: an interval only where every run that has a say has one.

    Examples
    --------
    >>> stacked_kind(("interval", "upper"), np.array([1.0, 0.0]))
    'interval'
    >>> stacked_kind(("interval", "upper"), np.array([0.5, 0.5]))
    'upper'
    """
    heard = {kind for kind, weight in zip(kinds, weights, strict=True) if weight >= LEAST_WEIGHT}
    if len(heard) == 1:
        return heard.pop()
    return UPPER if heard <= {INTERVAL, UPPER} else UNDETERMINED


def _chosen(weights: FloatArray, n_draws: int, seed: int) -> npt.NDArray[np.intp]:
    """Run of each stacked draw, (draw,): as near to the weights as whole draws allow, in random order."""
    ends = np.round(np.cumsum(weights) * n_draws).astype(int)
    runs = np.searchsorted(ends, np.arange(n_draws), side="right").clip(max=len(weights) - 1)
    return np.asarray(np.random.default_rng([seed, 71]).permutation(runs))


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


def _shown(row: Any) -> str:  # noqa: ANN401 - a row of a table
    """Write what one run has for a quantity."""
    scale = 1.0 if row.denominator else 100.0
    unit = "" if row.denominator else "at%"
    if row.kind == INTERVAL:
        return interval_text(scale * row.median, scale * row.lower, scale * row.upper, unit)
    if row.kind == UPPER:
        return bound_text(scale * row.upper, unit=unit)
    return "not known" if row.kind == UNDETERMINED else bound_text(scale * row.lower, ">", unit)


def _listed(names: Sequence[str], most: int = 12) -> str:
    """List some names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
