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

from bayesunmix.analysis.common_draws import (
    INTERVAL,
    UNDETERMINED,
    UPPER,
    CommonDraws,
    Covariate,
)
from bayesunmix.analysis.matching import common_phases
from bayesunmix.analysis.shared_calibration import (
    DRAWS,
    common_factors,
    factor_keys,
    nominal_draws,
    shuffled,
    with_common_factors,
)
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
from bayesunmix.results.tables import DETECTED, NOT_DETECTED, detection_states
from bayesunmix.results.verdict import Verdict, judge

if TYPE_CHECKING:
    from bayesunmix.analysis.series import Series
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(CommonDraws):
    """Results on common phases and elements, with calibration factors in common.

    Attributes
    ----------
    results : tuple of Result
    own_phases : tuple of tuple of str
        What each result calls the phases: other numbers where the program numbered them.
    matching : tuple of str
        How phases that the program numbered were matched (`bayesunmix.analysis.matching`).
    series : Series or None
        The hierarchical model, where it was asked for.
    """

    results: tuple[Result, ...]
    own_phases: tuple[tuple[str, ...], ...]
    matching: tuple[str, ...]
    series: Series | None = None

    def __repr__(self) -> str:
        from bayesunmix.core.rounding import interval_text

        table: pd.DataFrame = self.tables.partition_ratios()
        order = {name: number for number, name in enumerate(self.phases)}
        once = table["numerator"].map(order) > table["denominator"].map(order)
        apart = (table["ratio_lower"] > 1.0) | (table["ratio_upper"] < 1.0)
        differ = table[once & apart & (table["kind"] == INTERVAL)]
        lines = [
            f"Comparison of {len(self.names)} results: {', '.join(self.names)}",
            f"  Phases {', '.join(self.phases)}; elements {', '.join(self.elements)}",
            f"  Ratios of partition coefficients whose {100 * self.level:g} % interval excludes 1: {len(differ)}",
        ]
        for row in differ.head(_PRINTED).itertuples():
            text = interval_text(row.ratio, row.ratio_lower, row.ratio_upper)
            name = f"D({row.numerator}/{row.denominator}) of {row.element}"
            lines.append(f"    {name}, {row.first} over {row.second}: {text}")
        lines += ["    ..."] if len(differ) > _PRINTED else []
        lines += [f"  {line}" for line in str(self.series).splitlines()] if self.series is not None else []
        lines += [f"  {note}" for note in self.notes]
        return "\n".join([*lines, *(f"  {line}" for line in self.verdict.lines())])

    @cached_property
    def verdict(self) -> Verdict:
        """What the comparison is worth: no more than its results, the match of phases, the sampler."""
        weights = {"distrust": Distrust, "reservation": Reservation}
        said: list[str] = list(self.matching)
        said += [Distrust(text) for text in (self.series.problems if self.series is not None else ())]
        for name, result in zip(self.names, self.results, strict=True):
            said += [
                weights[finding.severity](f"{name}: {finding.text}") for finding in result.verdict.findings
            ]
        return judge(said)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was taken for granted, and speaks against nothing."""
        return tuple(text for text in self.matching if not isinstance(text, Doubt))

    @property
    def problems(self) -> tuple[str, ...]:
        """Why not to trust the comparison: the findings of the verdict that say so."""
        return self.verdict.texts("distrust")

    tables = Attached()
    """Tables: compositions(), partitions(), composition_differences(), partition_ratios()."""

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
        At least two, with the same elements.
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
        If the results cannot be compared, or the covariate does not go with them.

    Examples
    --------
    >>> import bayesunmix as bu
    >>> results = [bu.open_result(name) for name in ("40GPa", "55GPa", "71GPa")]  # doctest: +SKIP
    >>> bu.compare(results, covariate={"pressure_GPa": [40, 55, 71]}).series.trend()  # doctest: +SKIP
    """
    results = _checked_results(results)
    called, seed = _checked_names(results, names), check_seed(seed)
    elements = _common_elements(results, called)
    places = [[result.elements.index(element) for element in elements] for result in results]
    drawn = [nominal_draws(result)[:, :, place] for result, place in zip(results, places, strict=True)]
    held, own_phases, said = common_phases(results, called, drawn, phases)
    given = check_covariate(covariate, len(results))
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
    )
    if given is None and not pool:
        return comparison
    from bayesunmix.analysis.series import fit_series

    return replace(comparison, series=fit_series(comparison, scatter))


def amount_kind(state: str) -> str:
    """Return what is known of an amount from its detection: an interval, an upper bound, or nothing."""
    return {DETECTED: INTERVAL, NOT_DETECTED: UPPER}.get(state, UNDETERMINED)


def resolved_kind(word: str) -> str:
    """Return what is known of an amount whose ratios are asked for: an interval, an upper bound, or nothing."""
    return {RESOLVED: INTERVAL, NOTHING: UNDETERMINED}.get(word, UPPER)


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
    if len(set(called)) < len(called):
        raise InputError("names", "differ from each other", f"are {', '.join(called)}")
    for name, result in zip(called, results, strict=True):
        sizes = result.tree["posterior"].dataset.sizes
        if sizes["chain"] * sizes["draw"] < 2:
            raise InputError(
                "results", "hold posterior draws", f'{name} has one: it was run with method "map"'
            )
    return tuple(called)


def _common_elements(results: tuple[Result, ...], names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the elements of the first result, which all others must have too."""
    first = results[0].elements
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
