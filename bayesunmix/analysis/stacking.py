"""Which results are runs of one map, and draws of such runs in the proportion of their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from bayesunmix.analysis.common_draws import INTERVAL, UNDETERMINED, UPPER, CommonDraws, Covariate

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

# A run with less of the weight has no say in whether a stacked amount is an interval.
LEAST_WEIGHT = 0.01


class Stack(NamedTuple):
    """Runs of one map, to be stacked.

    Attributes
    ----------
    common : CommonDraws
    weights : (run,)
    """

    common: CommonDraws
    weights: FloatArray


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


def one_per_map(common: CommonDraws, stacks: Sequence[Stack]) -> CommonDraws:
    """Draws in which each map counts once, runs of one map stacked.

    Parameters
    ----------
    common
        Of all results.
    stacks
        Of each map with several runs.
    """
    stacked = {one.common.names[0]: one for one in stacks}
    left_out = {name for one in stacks for name in one.common.names[1:]}
    kept = [run for run, name in enumerate(common.names) if name not in left_out]
    own = [_entry(common, run, stacked.get(common.names[run])) for run in kept]
    return CommonDraws(
        names=tuple(one.name for one in own),
        phases=common.phases,
        elements=common.elements,
        nominal=tuple(one.nominal for one in own),
        factors=tuple(common.factors[run] for run in kept),
        draws=common.draws.isel(result=kept)
        .copy(data=np.stack([one.draws for one in own]))
        .assign_coords(result=[one.name for one in own]),
        kinds=np.stack([one.kinds for one in own]),
        detected_kinds=np.stack([one.detected for one in own]),
        level=common.level,
        seed=common.seed,
        covariate=None
        if common.covariate is None
        else Covariate(common.covariate.name, tuple(common.covariate.values[run] for run in kept)),
    )


class _Entry(NamedTuple):
    """What `CommonDraws` holds of one map."""

    name: str
    nominal: FloatArray
    draws: FloatArray
    kinds: npt.NDArray[np.str_]
    detected: npt.NDArray[np.str_]


def _entry(common: CommonDraws, run: int, stack: Stack | None) -> _Entry:
    """Draws of a map: of its only run, or of its runs stacked."""
    if stack is None:
        return _Entry(
            common.names[run],
            common.nominal[run],
            common.draws.values[run],
            common.kinds[run],
            common.detected_kinds[run],
        )
    own, weights = stack.common, stack.weights
    return _Entry(
        " + ".join(own.names),
        _mixed(own.nominal, weights, common.seed),
        stacked_draws(own.draws.values, weights, common.seed),
        _stacked_kinds(own.kinds, weights),
        _stacked_kinds(own.detected_kinds, weights),
    )


def stacked_draws(draws: FloatArray, weights: FloatArray, seed: int) -> FloatArray:
    """Draw number by number the draw of one run, from draws (run, draw, ...): (draw, ...)."""
    chosen = _chosen(weights, draws.shape[1], seed)
    return np.asarray(draws[chosen, np.arange(draws.shape[1])])


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


def _chosen(weights: FloatArray, n_draws: int, seed: int) -> npt.NDArray[np.intp]:
    """Run of each stacked draw, (draw,): as near to the weights as whole draws allow, in random order."""
    ends = np.round(np.cumsum(weights) * n_draws).astype(int)
    runs = np.searchsorted(ends, np.arange(n_draws), side="right").clip(max=len(weights) - 1)
    return np.asarray(np.random.default_rng([seed, 71]).permutation(runs))
