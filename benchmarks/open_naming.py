"""Do proposed names keep their word where a map leaves compositions open?

    python benchmarks/open_naming.py [--maps 200] [--seed 0]

Two to four compounds of one kind of sample make a map, in which grains hold half of a pixel to all of it, a third of
them all of it somewhere. Of the phases a fifth is of no entry: any mixture of any of the elements. Nothing is declared,
so that the solution that is found has mixtures of the compounds for phases. Its draws have counting and calibration
errors as those of `benchmarks/naming.py`, and are rotated by what is feasible from the prior that a run has: a third
of them where some pixel is pure, a third where an element is exactly absent, a third evenly between, in half of the
draws alike for all phases, and in half of them by three rotations one after the other.

Names are asked for as they are proposed, and, for comparison, with the prior of the rotations taken for evidence.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from naming import DRAWS, EDGES, calibration_sd, declared, elements_of, natural

from bayesunmix.chemistry.compounds import Compound, library
from bayesunmix.chemistry.naming import Names, names_of_phases
from bayesunmix.chemistry.open_composition import even_draws
from bayesunmix.core.threads import single_thread

FloatArray = npt.NDArray[np.float64]
KINDS = (
    "rock",
    "ore",
    "meteorite",
    "deep mantle",
    "ceramic",
    "superalloy",
    "steel",
    "solder",
    "battery",
    "catalyst",
    "semiconductor",
)
# Share of the phases that are no entry of the library, and of those that are pure in some pixel.
OF_NONE, PURE = 0.2, 1 / 3
# Least sum of differences of atom fractions between phases of one map: nearer ones would not be found apart.
APART = 0.25
NONE = "none of these"


@dataclass(frozen=True)
class OpenMap:
    """Draws of the phases of a map that leaves them open.

    Attributes
    ----------
    truths
        Names of the entries, or none of these.
    elements
        The declared ones.
    rotated, one
        Atom fractions as they are reported, and of the solution that was found, (draw, phase, element).
    """

    truths: tuple[str, ...]
    elements: tuple[str, ...]
    rotated: FloatArray
    one: FloatArray


def drawn_map(rng: np.random.Generator) -> OpenMap:
    """Draw phases, the solution that is found, and its rotated draws."""
    while True:
        kind, number = str(rng.choice(KINDS)), int(rng.integers(2, 5))
        entries = [one for one in library() if kind in one.occurs_in and elements_of(one)]
        weight = np.array([one.weight for one in entries])
        chosen = [
            entries[k] for k in rng.choice(len(entries), number, replace=False, p=weight / weight.sum())
        ]
        elements = declared(chosen, kind, rng)
        drawn = [_composition(one, elements, rng) for one in chosen]
        x = np.stack([one for _, one in drawn])
        apart = np.abs(x[:, None] - x[None]).sum(axis=2) + 9.0 * np.eye(number)
        if len(elements) >= number and apart.min() > APART:
            break
    found = _mixed(number, rng) @ x
    one, rotated = _measured(found, elements, rng)
    return OpenMap(tuple(name for name, _ in drawn), elements, rotated, one)


def _composition(
    entry: Compound, elements: Sequence[str], rng: np.random.Generator
) -> tuple[str, FloatArray]:
    """Return what a phase is and its atom fractions."""
    x = natural(entry, elements, rng)
    if x is not None and rng.random() > OF_NONE:
        return entry.name, x
    x = np.where(rng.permutation(len(elements)) <= rng.integers(len(elements)), 1.0, 0.0)
    x *= rng.exponential(size=len(elements))
    x += 10.0 ** rng.uniform(-5.0, -2.0, len(elements))
    return NONE, x / x.sum()


def _mixed(number: int, rng: np.random.Generator) -> FloatArray:
    """Shares of the compounds in the phases that are found, (phase, phase): what the purest pixel of each holds."""
    own = np.where(rng.random(number) < PURE, 1.0, rng.uniform(0.5, 1.0, number))
    mixed = np.diag(own)
    for row, (phase, share) in zip(mixed, enumerate(own), strict=True):
        row[np.arange(number) != phase] = (1.0 - share) * rng.dirichlet(np.ones(number - 1))
    return mixed


def _measured(
    found: FloatArray, elements: Sequence[str], rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Draws of the solution that was found, (draw, phase, element), and the same rotated."""
    counts = 10.0 ** rng.uniform(4.0, 6.0, (len(found), 1))
    sd = np.sqrt(found / counts + 0.1 / counts)
    scale = np.array([calibration_sd(element) for element in elements])
    seen = np.maximum(found + sd * rng.standard_normal(found.shape), 0.0)
    # Line strengths are the same in all phases.
    off = scale * rng.standard_normal(len(scale))
    one, rotated = np.zeros((2, DRAWS, *found.shape))
    for draw in range(DRAWS):
        factor = np.exp(off + scale * rng.standard_normal(len(scale)))
        amounts = np.abs(seen + sd * rng.standard_normal(seen.shape))
        turned = np.maximum(_rotation(seen, sd, rng) @ amounts, 1e-7)
        one[draw], rotated[draw] = _closed(amounts * factor), _closed(turned * factor)
    return one, rotated


def _rotation(x: FloatArray, sd: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Draw a rotation of compositions x with errors sd, (phase, element), that leaves no amount below zero."""
    rotation = np.eye(len(x))
    for _ in range(3 if rng.random() < 0.5 else 1):
        rotation = _step(rotation @ x, np.sqrt(rotation**2 @ sd**2), rng) @ rotation
    return rotation


def _step(x: FloatArray, sd: FloatArray, rng: np.random.Generator) -> FloatArray:
    number = len(x)
    where, between = rng.random((2, number))
    if rng.random() < 0.5:
        where[:] = where[0]
    part = np.where(where < 1 / 3, 0.0, np.where(where < 2 / 3, 1.0, between))
    step = np.eye(number)
    for phase in range(number):
        # How far a phase goes away from each other one, and from a mixture of them.
        far = np.array([_most(x[phase], x[other], sd[phase]) for other in range(number)])
        direction = rng.dirichlet(np.full(number - 1, 0.5))
        direction = np.insert(direction, phase, 0.0) * np.where(np.arange(number) == phase, 0.0, far)
        if direction.sum() <= 0.0:
            continue
        direction = direction / direction.sum()
        step[phase] -= part[phase] * _most(x[phase], direction @ x, sd[phase]) * direction
        step[phase] /= step[phase].sum()
    return step


def _most(x: FloatArray, taken: FloatArray, sd: FloatArray) -> float:
    """Amount of `taken` that can be taken out of x until something is as far below zero as counting would have it."""
    there = taken > 3.0 * sd
    return float(min(np.min((x + 0.5 * sd)[there] / taken[there], initial=0.9), 0.9))


def _closed(amounts: FloatArray) -> FloatArray:
    return np.asarray(amounts / amounts.sum(axis=-1, keepdims=True))


def named(one: OpenMap, even: bool) -> tuple[Names, ...]:
    """Ask for the names of the phases, even over what is open or as the draws lie."""
    names = [f"phase {number}" for number in range(len(one.truths))]
    before = {name: one.one[:, k] for k, name in enumerate(names)} if even else None
    draws = {name: one.rotated[:, k] for k, name in enumerate(names)}
    return names_of_phases(draws, one.elements, library(), least=0.0, one_solution=before)


def said_of(names: Names, truth: str) -> list[tuple[float, bool, bool]]:
    """Probability of each candidate and of none, whether it is right, and whether it is first."""
    said = [(one.probability, one.compound.name == truth) for one in names.candidates]
    said.append((names.none, truth == NONE))
    first = max(share for share, _ in said)
    return [(share, right, share == first) for share, right in said]


def table(found: Sequence[Sequence[tuple[float, bool, bool]]], what: str) -> None:
    """Print how often names are right by the probability that they were given."""
    first = [next(right for _, right, is_first in one if is_first) for one in found]
    own = [sum(share for share, right, _ in one if right) for one in found]
    print(
        f"{what}: {len(found)} phases, right first {np.mean(first):.3f}, mean log probability of the right one "
        f"{np.mean(np.log(np.maximum(own, 1e-6))):.2f}"
    )
    said = np.array([(share, right) for one in found for share, right, _ in one])
    print("probability said   candidates   mean said   right")
    for low, high in pairwise(EDGES):
        inside = said[(said[:, 0] >= low) & (said[:, 0] < high)]
        if len(inside):
            share, right = inside.mean(axis=0)
            error = np.sqrt(max(share * (1.0 - share), 0.0) / len(inside))
            print(
                f"  {low:4.2f} to {min(high, 1):4.2f}   {len(inside):10d}   {share:9.3f}   {right:5.3f} ± {error:.3f}"
            )


def main() -> None:
    """Ask for the names of phases that are open, and of those that are not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    maps = [drawn_map(rng) for _ in range(options.maps)]
    with single_thread():
        is_open = [
            [even_draws(one.rotated[:, k], one.one, k) is not None for k in range(len(one.truths))]
            for one in maps
        ]
        for even in (False, True):
            what = "even over what is open" if even else "as the draws lie"
            asked = [
                [said_of(names, truth) for names, truth in zip(named(one, even), one.truths, strict=True)]
                for one in maps
            ]
            for opened in (True, False):
                kept = [
                    said
                    for rows, opens in zip(asked, is_open, strict=True)
                    for said, one in zip(rows, opens, strict=True)
                    if one is opened
                ]
                table(kept, f"{'open' if opened else 'pinned'} phases, {what}")


if __name__ == "__main__":
    main()
