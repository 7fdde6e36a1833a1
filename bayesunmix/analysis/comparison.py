"""Several results side by side: compositions and partition coefficients, their differences and ratios.

Draws of all results hold the same calibration factors where these are the same
(`bayesunmix.analysis.shared_calibration`), so that what is common to two maps cancels in their difference, as it does
in the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.analysis.alternative_words import sentences
from bayesunmix.analysis.alternatives import Alternatives
from bayesunmix.analysis.common_draws import (
    INTERVAL,
    UNDETERMINED,
    UPPER,
    CommonDraws,
    Covariate,
)
from bayesunmix.analysis.matching import common_phases
from bayesunmix.analysis.ranking import WORSE
from bayesunmix.analysis.shared_calibration import (
    DRAWS,
    common_factors,
    factor_keys,
    nominal_draws,
    shuffled,
    with_common_factors,
)
from bayesunmix.analysis.stacking import Stack, map_numbers, one_per_map
from bayesunmix.chemistry.ratios import NOTHING, RESOLVED, amounts
from bayesunmix.core.attached import Attached
from bayesunmix.core.errors import (
    InputError,
    check_fraction,
    check_number,
    check_seed,
    shown,
)
from bayesunmix.core.severity import Distrust, Doubt, Reservation
from bayesunmix.core.shares import shares_of
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.results.tables import DETECTED, NOT_DETECTED, detection_states
from bayesunmix.results.verdict import Verdict, judge

if TYPE_CHECKING:
    from bayesunmix.analysis.series import Series
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Comparison(Summarised, CommonDraws):
    """Results on common phases and elements, with calibration factors in common.

    Attributes
    ----------
    results : tuple of Result
    own_phases : tuple of tuple of str
        What each result calls the phases: other numbers where the program numbered them.
    matching : tuple of str
        How phases that the program numbered were matched (`bayesunmix.analysis.matching`).
    maps : tuple of int
        Number of each result's map.
    alternatives : tuple of Alternatives
        Of each map with several runs (`bayesunmix.analysis.alternatives`).
    series : Series or None
        The hierarchical model, where it was asked for.
    """

    results: tuple[Result, ...]
    own_phases: tuple[tuple[str, ...], ...]
    matching: tuple[str, ...]
    maps: tuple[int, ...]
    alternatives: tuple[Alternatives, ...] = ()
    series: Series | None = None

    def _summary(self) -> Summary:
        title = f"Comparison of {len(self.names)} results: {', '.join(self.names)}"
        lines = [f"Phases {', '.join(self.phases)}; elements {', '.join(self.elements)}"]
        lines += self._ratio_lines() if self.several_maps else []
        for one in self.alternatives:
            lines += sentences(one)
        lines += str(self.series).splitlines() if self.series is not None else []
        return Summary(title, lines=(*lines, *self.notes, *self.verdict.lines()))

    @property
    def several_maps(self) -> bool:
        """Whether there is more than one map, so that something can be compared between samples."""
        return len(set(self.maps)) > 1

    def _ratio_lines(self) -> list[str]:
        """Say which partition coefficients differ between maps."""
        from bayesunmix.core.rounding import interval_text

        table: pd.DataFrame = self.tables.partition_ratios()
        order = {name: number for number, name in enumerate(self.phases)}
        once = table["numerator"].map(order) > table["denominator"].map(order)
        apart = (table["ratio_lower"] > 1.0) | (table["ratio_upper"] < 1.0)
        differ = table[once & apart & (table["kind"] == INTERVAL)]
        lines = [
            f"Ratios of partition coefficients whose {100 * self.level:g} % interval excludes 1: {len(differ)}",
        ]
        for row in differ.head(_PRINTED).itertuples():
            text = interval_text(row.ratio, row.ratio_lower, row.ratio_upper)
            name = f"D({row.numerator}/{row.denominator}) of {row.element}"
            lines.append(f"  {name}, {row.first} over {row.second}: {text}")
        return [*lines, *(["  ..."] if len(differ) > _PRINTED else [])]

    @cached_property
    def verdict(self) -> Verdict:
        """What the comparison is worth: no more than its results, the match of phases, the sampler.

        What is found in a run that predicts its map worse than another run of it is not held against the comparison.
        """
        weights = {"distrust": Distrust, "reservation": Reservation}
        said: list[str] = list(self.matching)
        said += [Distrust(text) for text in (self.series.problems if self.series is not None else ())]
        for name, result in zip(self.names, self.results, strict=True):
            if name in self.outranked:
                continue
            said += [
                weights[finding.severity](f"{name}: {finding.text}") for finding in result.verdict.findings
            ]
        return judge(said)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for granted, and speaks against nothing."""
        said = [text for text in self.matching if not isinstance(text, Doubt)]
        if self.alternatives and self.several_maps:
            said.append(
                "Results that are runs of one map are in no table of differences with each other; in a trend or a "
                "pooled value each map counts once, its runs stacked."
            )
        worst = [
            name
            for name, result in zip(self.names, self.results, strict=True)
            if name in self.outranked and result.verdict.findings
        ]
        if worst:
            text = f"What was found in {', '.join(worst)} is not held against the comparison: another run of the map "
            said.append(f"{text}predicts it better.")
        return tuple(said)

    @cached_property
    def outranked(self) -> frozenset[str]:
        """Names of runs that predict their map worse than another run of it."""
        ranked = (one.ranking.table for one in self.alternatives if one.ranking is not None)
        return frozenset(name for table in ranked for name in table["result"][table["standing"] == WORSE])

    @property
    def problems(self) -> tuple[str, ...]:
        """Why not to trust the comparison: the findings of the verdict that say so."""
        return self.verdict.texts("distrust")

    tables = Attached()
    """Tables: compositions(), partitions(), composition_differences(), partition_ratios(), and of runs of one map
    ranking(), agreement(), stacked(), declarations()."""

    plot = Attached()
    """Compositions and partition coefficients side by side: `bayesunmix.plot.comparison.comparison_figure`."""

    save = Attached()
    """Write tables, figures and a page into a folder: `bayesunmix.report.comparison_files.save_comparison`."""


def compare(
    results: Sequence[Result],
    *,
    names: Sequence[str] | None = None,
    phases: Sequence[str] | None = None,
    covariate: Mapping[str, Sequence[float]] | Sequence[float] | None = None,
    pool: bool = False,
    scatter: float | None = None,
    level: float | None = None,
    seed: int = 0,
) -> Comparison:
    """Put several results side by side, and fit the hierarchical model of a series where one is asked for.

    Parameters
    ----------
    results
        At least two, with the same elements. Several runs of one map are alternatives, not samples: see
        `bayesunmix.analysis.alternatives`. If all are, the elements that all of them have are compared, as atom
        fractions among these.
    names
        One for each; the names of their maps when left out.
    phases
        Phases to compare, as the first result calls them; those that all results hold when left out. Phases that the
        program numbered (``phase 1``) are matched by composition with those of the first result.
    covariate
        ``{"pressure_GPa": [40, 55, 71, 90]}``, or the values alone: partial pooling of the partition coefficients with
        a trend, see `bayesunmix.models.series`.
    pool
        Partial pooling without a trend, for several maps of one sample.
    scatter
        Scale of the half-normal prior of the scatter between maps, in ln D (default 0.3).
    level
        Probability of the intervals; that of the first result when left out.
    seed
        Seed of the common calibration factors and of the sampler.

    Raises
    ------
    InputError
        If the results cannot be compared, two are the same, or the covariate does not go with them.

    Examples
    --------
    >>> import bayesunmix as bu
    >>> results = [bu.open_result(name) for name in ("40GPa", "55GPa", "71GPa")]  # doctest: +SKIP
    >>> bu.compare(results, covariate={"pressure_GPa": [40, 55, 71]}).series.trend()  # doctest: +SKIP
    """
    results = _checked_results(results)
    called, seed = _checked_names(results, names), check_seed(seed)
    _check_different(results, called)
    maps = map_numbers(results)
    elements = _common_elements(results, called, one_map=len(set(maps)) == 1)
    places = [[result.elements.index(element) for element in elements] for result in results]
    drawn = [
        shares_of(nominal_draws(result)[:, :, place]) for result, place in zip(results, places, strict=True)
    ]
    held, own_phases, said = common_phases(results, called, drawn, phases)
    given = check_covariate(covariate, len(results))
    if given is not None or pool:
        _check_maps(called, maps, given)
    probability = results[0].level if level is None else check_fraction("level", level)
    own, kinds, detected = [], [], []
    for result, place, nominal, there in zip(results, places, drawn, own_phases, strict=True):
        rows = [result.phases.index(phase) for phase in there]
        own.append(nominal[:, rows])
        posterior, absent = result.tree["posterior"].to_dataset(), result.absent
        counting = posterior["composition_counting"]
        unsupported = result.unsupported
        states = detection_states(counting, absent, unsupported)
        found = amounts(posterior["composition"], counting, absent, probability, unsupported=unsupported)
        detected.append(np.vectorize(amount_kind)(states[rows][:, place]))
        kinds.append(np.vectorize(resolved_kind)(found.words[rows][:, place]))
    keys = []
    for result in results:
        by_element = dict(zip(result.elements, factor_keys(result), strict=True))
        keys.append([by_element[element] for element in elements])
    factors = common_factors(keys, DRAWS, seed)
    joined = [
        with_common_factors(shuffled(nominal, DRAWS, np.random.default_rng([seed, 31, r])), factor)
        for r, (nominal, factor) in enumerate(zip(own, factors, strict=True))
    ]
    draws = xr.DataArray(
        np.stack(joined),
        dims=("result", "draw", "phase", "element"),
        coords={"result": list(called), "phase": list(held), "element": list(elements)},
        name="composition",
        attrs={"unit": "at_frac"},
    )
    comparison = Comparison(
        names=called,
        phases=held,
        elements=elements,
        nominal=tuple(own),
        factors=tuple(factors),
        draws=draws,
        kinds=np.stack(kinds),
        detected_kinds=np.stack(detected),
        level=probability,
        seed=seed,
        covariate=given,
        results=results,
        own_phases=tuple(own_phases),
        matching=tuple(said),
        maps=maps,
    )
    comparison = replace(comparison, alternatives=_alternatives(comparison))
    if given is None and not pool:
        return comparison
    from bayesunmix.analysis.series import fit_series

    stacks = []
    for one in comparison.alternatives:
        if one.ranking is None:
            must = "be of maps whose several runs can be ranked, to be stacked"
            raise InputError("results", must, one.unranked.rstrip("."), "Give one run of each map.")
        stacks.append(Stack(one.common, one.ranking.weights))
    samples = one_per_map(comparison, stacks) if stacks else comparison
    return replace(comparison, series=fit_series(samples, scatter))


def _alternatives(comparison: Comparison) -> tuple[Alternatives, ...]:
    """Put the runs of each map with several of them beside each other."""
    found = []
    for number in dict.fromkeys(comparison.maps):
        runs = [run for run, own in enumerate(comparison.maps) if own == number]
        if len(runs) > 1:
            common = comparison.of_results(runs)
            found.append(Alternatives.of(common, [comparison.results[run] for run in runs]))
    return tuple(found)


def _check_maps(names: tuple[str, ...], maps: tuple[int, ...], covariate: Covariate | None) -> None:
    """Refuse a trend or a pooled value of what is one sample, or of runs of one map at two places of a trend."""
    field = "pool" if covariate is None else f"covariate.{covariate.name}"
    least, number = (2 if covariate is None else 3), len(set(maps))
    if number < len(maps) and number < least:
        must = f"belong to results of at least {least} maps: runs of one map are no sample"
        raise InputError(field, must, f"there is {number}" if number == 1 else f"there are {number}")
    if covariate is None:
        return
    for one in set(maps):
        own = {covariate.values[run] for run, other in enumerate(maps) if other == one}
        if len(own) > 1:
            runs = ", ".join(name for name, other in zip(names, maps, strict=True) if other == one)
            raise InputError(
                field, "be the same for runs of one map", f"differs between {runs}, which are of one"
            )


def amount_kind(state: str) -> str:
    """Return what is known of an amount from its detection: an interval, an upper bound, or nothing."""
    return {DETECTED: INTERVAL, NOT_DETECTED: UPPER}.get(state, UNDETERMINED)


def resolved_kind(word: str) -> str:
    """Return what is known of an amount whose ratios are asked for: an interval, an upper bound, or nothing."""
    return {RESOLVED: INTERVAL, NOTHING: UNDETERMINED}.get(word, UPPER)


# Columns beside those of the results.
RESERVED = ("map", "declaration")
# Differences that a printed comparison lists.
_PRINTED = 12


def check_covariate(
    covariate: Mapping[str, Sequence[float]] | Sequence[float] | None, n_results: int
) -> Covariate | None:
    """Return the covariate of a series of `n_results` results, or raise `InputError`."""
    if covariate is None:
        return None
    if isinstance(covariate, Mapping):
        if len(covariate) != 1:
            raise InputError("covariate", "be one name with its values", f"has {len(covariate)}")
        name, values = next(iter(covariate.items()))
    else:
        name, values = "covariate", covariate
    if not _is_listed(values):
        raise InputError("covariate", "be numbers, or one name with them", f"is {shown(values)}")
    numbers = tuple(check_number(f"covariate.{name}", value) for value in values)
    if len(numbers) != n_results:
        raise InputError(
            f"covariate.{name}",
            f"have one value for each of the {n_results} results",
            f"has {len(numbers)} ({', '.join(f'{number:g}' for number in numbers)})",
        )
    if n_results < 3:
        raise InputError(
            f"covariate.{name}",
            "belong to at least three results: two points lie on any line",
            f"there are {n_results}",
        )
    if max(numbers) == min(numbers):
        raise InputError(
            f"covariate.{name}",
            "vary between the results",
            f"is {numbers[0]:g} for all",
            "Leave it out and pool.",
        )
    return Covariate(str(name), numbers)


def parse_covariate(text: str) -> dict[str, list[float]]:
    """Read ``pressure_GPa=40,55,71``; without a name it is called ``covariate``.

    Raises
    ------
    InputError
        If a value is no number.

    Examples
    --------
    >>> parse_covariate("pressure_GPa=40,55,71")
    {'pressure_GPa': [40.0, 55.0, 71.0]}
    """
    name, _, values = text.rpartition("=")
    must = "be a name and numbers such as pressure_GPa=40,55,71"
    try:
        numbers = [float(value) for value in values.split(",")]
    except ValueError:
        raise InputError("--covariate", must, f'is "{text}"') from None
    return {name.strip() or "covariate": numbers}


def folder_names(folders: Sequence[Path]) -> list[str]:
    """Return the folders' last names, or their whole paths where these are not distinct.

    Examples
    --------
    >>> folder_names([Path("runs/40GPa"), Path("runs/55GPa/")])
    ['40GPa', '55GPa']
    """
    short = [folder.resolve().name for folder in folders]
    return short if len(set(short)) == len(short) else [str(folder) for folder in folders]


def _checked_results(results: object) -> tuple[Result, ...]:
    """Return the results as a tuple, or refuse what is none."""
    from bayesunmix.results.result import Result

    given = tuple(results) if _is_listed(results) else (results,)
    for one in given:
        if not isinstance(one, Result):
            remedy = "Open an output folder by bayesunmix.open_result."
            raise InputError("results", "be results of runs", f"hold a {type(one).__name__}", remedy)
    return given


def _is_listed(value: object) -> TypeGuard[Iterable[Any]]:
    """Whether something holds one thing after the other; an array of no dimension only seems to."""
    return isinstance(value, Iterable) and not isinstance(value, str) and getattr(value, "ndim", 1) > 0


def _checked_names(results: tuple[Result, ...], names: Sequence[str] | None) -> tuple[str, ...]:
    """Return the results' names: those given, those of their maps where these differ, else numbers."""
    if len(results) < 2:
        raise InputError("results", "be at least two", f"there is {len(results) or 'none'}")
    numbers = [str(i + 1) for i in range(len(results))]
    if names is None:
        found = [result.record.map.name or "" for result in results]
        called = found if all(found) and len(set(found)) == len(found) else numbers
    elif _is_listed(names):
        called = [str(name) for name in names]
    else:
        raise InputError("names", "be a list of names", f"is {shown(names)}")
    if len(called) != len(results):
        raise InputError("names", f"be {len(results)}, one for each result", f"there are {len(called)}")
    taken = next((name for name in called if name in RESERVED), None)
    if taken is not None:
        remedy = "Give other names, or rename the folder."
        raise InputError(
            "names",
            f"be none of {', '.join(RESERVED)}, which tables have columns for",
            f"hold {taken}",
            remedy,
        )
    if len(set(called)) < len(called):
        raise InputError("names", "differ from each other", f"are {', '.join(called)}")
    for name, result in zip(called, results, strict=True):
        sizes = result.tree["posterior"].dataset.sizes
        if sizes["chain"] * sizes["draw"] < 2:
            raise InputError(
                "results", "hold posterior draws", f'{name} has one: it was run with method "map"'
            )
    return tuple(called)


def _check_different(results: tuple[Result, ...], names: tuple[str, ...]) -> None:
    """Refuse a run that is given twice: it would agree with itself."""
    for place, one in enumerate(results):
        for other, name in zip(results[:place], names, strict=False):
            if one is other or _same_draws(one, other):
                raise InputError("results", "be of different runs", f"{names[place]} is {name} once more")


def _same_draws(one: Result, other: Result) -> bool:
    """Whether two results of the same counts hold the same draws, as those of a folder that is opened twice do."""
    if not one.record.hash or one.record.hash != other.record.hash:
        return False
    first, second = (result.tree["posterior"].to_dataset() for result in (one, other))
    return bool(first.equals(second))


def _common_elements(
    results: tuple[Result, ...], names: tuple[str, ...], *, one_map: bool
) -> tuple[str, ...]:
    """Return the elements of the first result, which all must have; of runs of one map those that all have."""
    first = results[0].elements
    if one_map:
        common = tuple(element for element in first if all(element in result.elements for result in results))
        if not common:
            raise InputError("results", "have an element in common", "have none")
        return common
    for name, result in zip(names[1:], results[1:], strict=True):
        if set(result.elements) != set(first):
            more = [element for element in result.elements if element not in first]
            less = [element for element in first if element not in result.elements]
            got = [f"{name} has {', '.join(more)} too"] if more else []
            got += [f"{name} lacks {', '.join(less)}"] if less else []
            must = (
                f"have the same elements: atom fractions among others are other quantities; {names[0]} has "
            )
            raise InputError("results", must + ", ".join(first), " and ".join(got))
    return tuple(first)
