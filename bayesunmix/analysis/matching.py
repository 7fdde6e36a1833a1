"""Which phase of a result is which of another: by name, and where the program gave the names, by composition.

A run of which only the number of phases was declared calls them ``phase 1``, ``phase 2`` in an order that says nothing:
the same map run twice may swap them. Such phases are assigned to those of the first result so that the sum of squared
Hellinger distances of their mean compositions, 1 - sum_e sqrt(x_e y_e), is least (Kuhn 1955,
doi:10.1002/nav.3800020109, by `scipy.optimize.linear_sum_assignment`). The distance takes zeros as they are, and gives
traces and main elements about the weight that counting statistics give them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from bayesunmix.analysis.shared_calibration import shuffled
from bayesunmix.config.phase import UNNAMED
from bayesunmix.core.errors import InputError, shown, suggest
from bayesunmix.core.rounding import percent_text
from bayesunmix.core.severity import Distrust, Reservation
from bayesunmix.core.shares import hellinger

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

# Pairs of draws that are assigned anew each: shares of one in a hundred are then known to a third.
_DRAWS = 1000
# An assignment is clear where fewer draws than this prefer another one,
UNCLEAR_SHARE = 0.01
# and the phases that it pairs are this many times nearer to each other than by the next assignment: where phases differ
# from result to result as much as from each other, small errors of the draws do not make their names certain.
CLEARLY_NEARER = 1.5
# More than any sum of distances: an assignment with it is none.
_FORBIDDEN = 1e6
REMEDY = "Name the phases and declare what tells them apart (`[[phases]]`), and run again."


def common_phases(
    results: Sequence[Result],
    names: Sequence[str],
    draws: Sequence[FloatArray],
    wanted: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], list[tuple[str, ...]], list[str]]:
    """Return the phases to compare, which every result must hold.

    Parameters
    ----------
    results, names
        The results and what they are called.
    draws
        Atom fractions of each, (draw, phase, element), all phases in the result's order, elements in a common one.
    wanted
        Phases of the first result to take; all that the results have in common when left out.

    Returns
    -------
    phases : tuple of str
        As the first result calls them.
    own : list of tuple of str
        As each result calls them.
    said : list of str
        How phases without names of their own were matched.

    Raises
    ------
    InputError
        If a wanted phase is missing in a result, or none is in common.
    """
    pairs, said = [dict(zip(results[0].sample_phases, results[0].sample_phases, strict=True))], list[str]()
    for r in range(1, len(results)):
        found, words = _pairs((results[0], results[r]), (names[0], names[r]), (draws[0], draws[r]), seed=r)
        pairs.append(found)
        said += words
    if wanted is not None:
        if isinstance(wanted, str) or not isinstance(wanted, Sequence):
            raise InputError("phases", "be a list of names", f"is {shown(wanted)}")
        for name, held in zip(names, pairs, strict=True):
            for phase in wanted:
                check_phase(f"phases ({name})", phase, tuple(held))
        if not wanted:
            raise InputError("phases", "name a phase", "is empty")
        common = tuple(dict.fromkeys(wanted))
    else:
        common = tuple(phase for phase in pairs[0] if all(phase in held for held in pairs))
    if not common:
        listed = "; ".join(
            f"{name}: {', '.join(result.phases)}" for name, result in zip(names, results, strict=True)
        )
        numbered = any(UNNAMED.fullmatch(phase) for result in results for phase in result.sample_phases)
        remedy = (
            "Phases that the program numbered have no counterpart: name them in every run."
            if numbered
            else ""
        )
        raise InputError("results", "have a phase in common", f"have none ({listed})", remedy)
    return common, [tuple(held[phase] for phase in common) for held in pairs], list(dict.fromkeys(said))


def check_phase(field: str, name: str, phases: Sequence[str]) -> str:
    """Return a phase's name, or raise `InputError` if it is none."""
    if not isinstance(name, str) or name not in phases:
        raise InputError(
            field, f"be one of the phases {', '.join(phases)}", f"is {shown(name)}", suggest(name, phases)
        )
    return name


def _pairs(
    two: tuple[Result, Result], names: tuple[str, str], draws: Sequence[FloatArray], seed: int
) -> tuple[dict[str, str], list[str]]:
    """Return what the second result calls each phase of the first, and how it was found."""
    first, second = (result.sample_phases for result in two)
    pairs = {name: name for name in first if name in second and not UNNAMED.fullmatch(name)}
    left = [[name for name in phases if name not in pairs] for phases in (first, second)]
    numbered = [[name for name in phases if UNNAMED.fullmatch(name)] for phases in left]
    if any(numbered) and not all(numbered):
        # Numbers on one side may be any of the names on the other one.
        numbered = [own or names_ for own, names_ in zip(numbered, left, strict=True)]
    if not all(numbered):
        return pairs, []
    drawn = [
        values[:, [result.phases.index(name) for name in phases]]
        for result, values, phases in zip(two, draws, numbered, strict=True)
    ]
    distances = _distances(*(values.mean(axis=0) for values in drawn))
    rows, columns = _assigned(distances)
    found = {numbered[0][k]: numbered[1][m] for k, m in zip(rows, columns, strict=True)}
    pairs |= found
    # In the order of the first result, whichever way they were matched.
    pairs = {name: pairs[name] for name in first if name in pairs}
    if max(map(len, numbered)) == 1:
        return pairs, []
    return pairs, [
        *_mapping(found, numbered, names),
        *_doubts(
            drawn=drawn, distances=distances, best=(rows, columns), numbered=numbered, names=names, seed=seed
        ),
    ]


def _mapping(found: dict[str, str], numbered: Sequence[Sequence[str]], names: tuple[str, str]) -> list[str]:
    """Say that phases were matched, and how where their numbers do not say it."""
    said = ["Phases that the program numbered are matched by composition, not by number."]
    moved = [f"its {there} is {here}" for here, there in found.items() if here != there]
    if moved:
        text = (
            f"{names[1]}: its phases, or those of {names[0]}, are numbered, and were matched by composition"
        )
        said.append(Reservation(f"{text} with those of {names[0]}: {', '.join(moved)}."))
    for name, phases, taken in zip(names, numbered, (list(found), list(found.values())), strict=True):
        alone = [phase for phase in phases if phase not in taken]
        if alone:
            other = names[0] if name == names[1] else names[1]
            text = f"{name}: {', '.join(alone)} has no counterpart in {other} and is left out."
            said.append(Reservation(text.replace("has no", "have no") if len(alone) > 1 else text))
    return said


def _doubts(
    drawn: Sequence[FloatArray],
    distances: FloatArray,
    best: tuple[IntArray, IntArray],
    numbered: Sequence[Sequence[str]],
    names: tuple[str, str],
    seed: int,
) -> list[str]:
    """Say where another assignment is nearly as near, in view of the draws or of what the best one leaves."""
    share = _share_of_others(drawn, best, seed)
    unlike = _rival(distances, best)
    if share < UNCLEAR_SHARE and not unlike:
        return []
    why = f"another assignment is nearer in {percent_text(share)} % of the draws"
    if share < UNCLEAR_SHARE:
        own = ", ".join(numbered[0][k] for k in unlike)
        why = f"{own} differ between the two nearly as much as from each other"
    text = (
        f"{names[1]}: which of its phases is which of {names[0]} is not clear from their compositions: {why}."
    )
    return [Distrust(f"{text} {REMEDY}")]


def _distances(first: FloatArray, second: FloatArray) -> FloatArray:
    """Squared Hellinger distances of compositions (..., phase, element), shape (..., phase, phase)."""
    here, there = (np.maximum(values, 0.0) for values in (first, second))
    return hellinger(here[..., :, None, :], there[..., None, :, :]) ** 2


def _assigned(distances: FloatArray) -> tuple[IntArray, IntArray]:
    rows, columns = linear_sum_assignment(distances)
    return np.asarray(rows), np.asarray(columns)


def _share_of_others(drawn: Sequence[FloatArray], best: tuple[IntArray, IntArray], seed: int) -> float:
    """Share of pairs of draws whose own best assignment is another one."""
    rng = np.random.default_rng([seed, 37])
    distances = _distances(*(shuffled(values, _DRAWS, rng) for values in drawn))
    pairs = set(zip(*(indices.tolist() for indices in best), strict=True))
    own = (set(zip(*(indices.tolist() for indices in _assigned(one)), strict=True)) for one in distances)
    return float(np.mean([other != pairs for other in own]))


def _rival(distances: FloatArray, best: tuple[IntArray, IntArray]) -> list[int]:
    """Phases of the first result that another assignment pairs nearly as well; none where the best one is clear."""
    chosen = np.zeros(distances.shape, dtype=bool)
    chosen[best] = True
    for place in zip(*best, strict=True):
        without = distances.copy()
        without[place] = _FORBIDDEN
        other = np.zeros_like(chosen)
        other[_assigned(without)] = True
        ours, theirs = (distances[mine & ~yours].sum() for mine, yours in ((chosen, other), (other, chosen)))
        if not other[place] and theirs < CLEARLY_NEARER**2 * ours:
            return np.flatnonzero((chosen ^ other).any(axis=1)).tolist()
    return []
