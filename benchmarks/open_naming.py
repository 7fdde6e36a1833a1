"""Names of phases whose composition a map leaves open: how often they are right, and do they keep their word.

    python benchmarks/open_naming.py [--maps 200] [--runs 0] [--seed 0]

Two to four compounds of one kind of sample make a map, in which grains hold half of a pixel to all of it, a third of
them all of it somewhere. Of the phases a fifth is of no entry: any mixture of any of the elements. Nothing is declared,
so that the solution that is found has mixtures of the compounds for phases. Its draws have counting and calibration
errors as those of `benchmarks/naming.py`, and are rotated by what is feasible from the prior that a run has: a third
of them where some pixel is pure, a third where an element is exactly absent, a third evenly between, in half of the
draws alike for all phases, and in half of them by three rotations one after the other.

With `--runs` maps of such compounds, all of the library, are simulated and unmixed, half a minute each, with line
strengths that are off.

Names are asked for as they are proposed, and, for comparison, with the prior of the rotations taken for evidence.
Phases whose true composition is not among the draws have tables of their own: no name can be right there.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from naming import DRAWS, calibration_sd, declared, elements_of, natural, print_reliability
from open_maps import embedded
from scipy.optimize import linear_sum_assignment

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
# A composition is held where no element is further outside of the draws than this.
NEAR = 0.01
COUNTS = 120.0


@dataclass(frozen=True)
class OpenMap:
    """Draws of the phases of a map that leaves them open.

    Attributes
    ----------
    truths
        Names of the entries, or none of these.
    compositions
        True atom fractions, (phase, element).
    elements
        The declared ones.
    rotated, one
        Atom fractions as they are reported, and of the solution that was found, (draw, phase, element).
    """

    truths: tuple[str, ...]
    compositions: FloatArray
    elements: tuple[str, ...]
    rotated: FloatArray
    one: FloatArray

    def is_open(self, phase: int) -> bool:
        """Whether names of a phase are asked for over what is open."""
        return even_draws(self.rotated[:, phase], self.one, phase) is not None

    def holds(self, phase: int) -> bool:
        """Whether draws of a phase go as far as its true composition."""
        low, high = self.rotated[:, phase].min(axis=0), self.rotated[:, phase].max(axis=0)
        x = self.compositions[phase]
        return bool(((x > low - NEAR) & (x < high + NEAR)).all())


def drawn_map(rng: np.random.Generator) -> OpenMap:
    """Draw phases, the solution that is found, and its rotated draws."""
    truths, elements, x = _phases(rng, OF_NONE)
    one, rotated = _measured(_mixed(len(x), rng) @ x, elements, rng)
    return OpenMap(truths, x, elements, rotated, one)


def run_map(seed: int) -> OpenMap | None:
    """Simulate a map and unmix it with nothing declared but its elements; None where nothing is open."""
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.core.errors import BayesUnmixWarning
    from bayesunmix.pipeline import run_image
    from bayesunmix.simulation.simulate import simulate_map

    rng = np.random.default_rng([seed, 77])
    truths, elements, x = _phases(rng, 0.0)
    fractions = np.maximum(rng.dirichlet(np.full(len(x), 6.0)), 0.1)
    shares = [float(one) for one in fractions / fractions.sum()]
    abundances = embedded(shares, rng)
    plan = {"shape": list(abundances.shape[:2]), "counts_per_pixel": COUNTS, "calibration_error": True}
    phases = [
        {
            "name": f"phase {k}",
            "composition": dict(zip(elements, map(float, row), strict=True)),
            "fraction": shares[k],
        }
        for k, row in enumerate(x)
    ]
    told: dict[str, Any] = {"sample": {"elements": list(elements)}, "map": {"energy_range": [0.9, 16.0]}}
    simulated = simulate_map({**told, "phases": phases, "simulate": plan}, seed, abundances=abundances)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        config = RunConfig.from_dict({**told, "phases": len(x), "inference": {"method": "laplace"}})
        result = run_image(simulated.image, config, None, seed=0, progress=False)
    if "composition_one_solution" not in result.draws:
        return None
    rotated, one = (
        result.draws[name].transpose("chain", "draw", "phase", "element").values.reshape(-1, *x.shape)
        for name in ("composition", "composition_one_solution")
    )
    maps = result.tree["maps"]["abundance_mean"].values.reshape(len(x), -1)
    alike = np.corrcoef(maps, abundances.reshape(-1, len(x)).T)[: len(x), len(x) :]
    _, order = linear_sum_assignment(-alike)
    return OpenMap(tuple(truths[k] for k in order), x[order], elements, rotated, one)


def _phases(rng: np.random.Generator, of_none: float) -> tuple[tuple[str, ...], tuple[str, ...], FloatArray]:
    """Draw what the phases are, the declared elements, and atom fractions, (phase, element)."""
    while True:
        kind, number = str(rng.choice(KINDS)), int(rng.integers(2, 5))
        entries = [one for one in library() if kind in one.occurs_in and elements_of(one)]
        weight = np.array([one.weight for one in entries])
        places = rng.choice(len(entries), number, replace=False, p=weight / weight.sum())
        chosen = [entries[k] for k in places]
        elements = declared(chosen, kind, rng)
        drawn = [_composition(one, elements, of_none, rng) for one in chosen]
        x = np.stack([one for _, one in drawn])
        apart = np.abs(x[:, None] - x[None]).sum(axis=2) + 9.0 * np.eye(number)
        if len(elements) >= number and apart.min() > APART:
            return tuple(name for name, _ in drawn), elements, x


def _composition(
    entry: Compound, elements: Sequence[str], of_none: float, rng: np.random.Generator
) -> tuple[str, FloatArray]:
    """Return what a phase is and its atom fractions."""
    x = natural(entry, elements, rng)
    if x is not None and rng.random() > of_none:
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


@dataclass(frozen=True)
class Said:
    """What was said of a phase: candidates (candidate, 2) with probability and whether it is right, and the first."""

    candidates: FloatArray
    right_first: bool
    alike_first: bool

    @property
    def of_the_right(self) -> float:
        """Probability of what the phase is."""
        return float(self.candidates[self.candidates[:, 1] > 0.0, 0].sum())


def said_of(names: Names, truth: str) -> Said:
    """Put the names of a phase beside what it is."""
    rows = [(one.probability, one.compound.name == truth) for one in names.candidates]
    candidates = np.array([*rows, (names.none, truth == NONE)], dtype=np.float64)
    place = int(np.argmax(candidates[:, 0]))
    right = bool(candidates[place, 1])
    alike = place < len(rows) and truth in names.candidates[place].alike
    return Said(candidates, right, right or alike)


def table(found: Sequence[Said], what: str) -> None:
    """Print how often names are right by the probability that they were given."""
    right, alike = (np.mean([getattr(one, name) for one in found]) for name in ("right_first", "alike_first"))
    logs = np.log(np.maximum([one.of_the_right for one in found], 1e-6))
    print(f"{what}: {len(found)} phases")
    print(
        f"  right first {right:.3f}, or alike with the first {alike:.3f}, mean log probability {logs.mean():.2f}"
    )
    print_reliability(np.concatenate([one.candidates for one in found]))


def compared(maps: Sequence[OpenMap]) -> None:
    """Print how names do, even over what is open and as the draws lie, where draws hold the truth and where not."""
    kept = [
        (number, phase, one.holds(phase))
        for number, one in enumerate(maps)
        for phase in range(len(one.truths))
        if one.is_open(phase)
    ]
    for even in (False, True):
        asked = [named(one, even) for one in maps]
        for held in (True, False):
            found = [
                said_of(asked[number][phase], maps[number].truths[phase])
                for number, phase, holds in kept
                if holds is held
            ]
            if found:
                way = "even over what is open" if even else "as the draws lie"
                table(found, f"{way}, true composition {'held' if held else 'not held'} by the draws")


def main() -> None:
    """Ask for the names of phases that are open."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maps", type=int, default=200)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    with single_thread():
        if options.maps:
            print("synthetic draws")
            compared([drawn_map(rng) for _ in range(options.maps)])
        if options.runs:
            print("simulated maps")
            maps = [run_map(options.seed + number) for number in range(options.runs)]
            compared([one for one in maps if one is not None])


if __name__ == "__main__":
    main()
