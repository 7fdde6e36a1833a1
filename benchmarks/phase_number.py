"""How many phases there are, on maps on which it is known: two to five, on a wedge, zoned, with soft interfaces.

Of six chemistries maps of 64 x 64 pixels and 120 counts are drawn. The film is half as thick again at one side as at
the other, two elements of the matrix vary by 15 % around their means, one up where the other goes down, and grains that
hold half to all of a pixel end in flanks of several pixels. The same maps are unmixed with all phases declared by name,
with one more, and with one phase on a hundredth of the map: is what is there supported, and what is not there told?
With nothing declared but the number, or one fewer, is a further phase told where there is one, and only there?
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from open_maps import CHEMISTRIES, COUNTS, SIDE, Chemistry, conditions, embedded

from bayesunmix.laboratory.maps import Findings, kept_maps

if TYPE_CHECKING:
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import SimulatedMap

FloatArray = npt.NDArray[np.float64]

WEDGE, ZONING = 0.5, 0.15
# Width of the zones relative to the side of the map.
ZONE_WIDTH = 0.12
# Phases beyond those of `open_maps`, for maps of five.
FIFTH = {
    "basalt": {"pyroxene": dict(Si=0.49, Ca=0.19, Mg=0.21, Fe=0.1, Ti=0.01)},
    "oxides": {"manganite": dict(La=0.33, Sr=0.17, Mn=0.5)},
}
# Elements of the matrix that vary.
ZONED = {
    "superalloy": ("Cr", "Al"),
    "sulfides": ("Ni", "Fe"),
    "basalt": ("Mg", "Ca"),
    "garnet peridotite": ("Ca", "Fe"),
    "solder": ("Bi", "Ag"),
    "oxides": ("Sr", "Fe"),
}


class Kind(NamedTuple):
    """A chemistry, and how many of its phases a map has."""

    name: str
    count: int


KINDS = tuple(
    Kind(name, count)
    for count in (2, 3, 4, 5)
    for name, chemistry in CHEMISTRIES.items()
    if count <= len(chemistry.phases) + len(FIFTH.get(name, ()))
)
MANY, FEW = 20, 4
LEAST_RIGHT, LEAST_TOLD = 0.9, 0.95
# Phases fewer asked for than there are.
MISSING = {0: "as many asked for: no further one told", 1: "one fewer asked for: a further one told"}
# Share of the atoms of a phase of which there is little.
LITTLE = 0.01


def rows(options: Options) -> list[Row]:
    """Rows of how often the number is right, and how far off it is at most."""
    seeds = range(FEW if options.quick else MANY)
    maps = kept_maps(Look(), seeds, options.work / "phase_number", {"kinds": str(KINDS)}, options.processes)
    found = [dict(kept.findings.facts or {}) for kept in maps if kept.findings is not None]
    for seed, one in zip(seeds, found, strict=False):
        print(f"  seed {seed}: {one['map']}, {one['true']} phases there, {one['found']} found", flush=True)
    right = sum(one["found"] == one["true"] for one in found)
    above = max((one["found"] - one["true"] for one in found), default=0)
    what = "number of phases, two to five on a wedge, zoned by 15 %, soft interfaces"
    return [
        Row(what, f"right in {LEAST_RIGHT:.0%}", f"{right} of {len(maps)}", right >= LEAST_RIGHT * len(maps)),
        Row(f"{what}: most above the truth", "1", str(above), above <= 1),
        *(
            told_row(Presence(one), one.what, LEAST_TOLD, seeds, f"presence {one.what}", options)
            for one in DECLARED
        ),
        *(
            told_row(Further(missing), what, LEAST_RIGHT, seeds, f"further {missing}", options)
            for missing, what in MISSING.items()
        ),
    ]


class Declared(NamedTuple):
    """What is declared of a map.

    Attributes
    ----------
    what
        The same in words.
    extra
        Phases that are not there.
    little
        Whether there is little of the last one.
    """

    what: str
    extra: int = 0
    little: bool = False

    def right(self, standing: list[str]) -> bool:
        """Whether what is told of the phases, in the order of the declaration, is true."""
        if self.little:
            return standing[-1] == "supported"
        return all(one == "supported" for one in standing) == (self.extra == 0)


DECLARED = (
    Declared("all phases declared: all supported"),
    Declared("one more declared than there is: one is told to be none", extra=1),
    Declared("one phase on 1 % of the map: supported", little=True),
)


def told_row(
    look: Presence | Further, what: str, least: float, seeds: range, folder: str, options: Options
) -> Row:
    """Row of the maps in which what is told is true."""
    maps = kept_maps(look, seeds, options.work / folder, {"kinds": str(KINDS)}, options.processes)
    right = sum(bool((kept.findings.facts or {})["right"]) for kept in maps if kept.findings is not None)
    return Row(what, f"in {least:.0%}", f"{right} of {len(maps)}", right >= least * len(maps))


@dataclass(frozen=True)
class Further:
    """Draws the map of a seed, and unmixes it with so many phases fewer than it has."""

    missing: int

    def __call__(self, seed: int) -> Findings:
        """Return whether a further phase is told where there is one, and only there."""
        kind = KINDS[seed % len(KINDS)]
        result = _mode(kind, drawn(kind, seed), kind.count - self.missing)
        right = (result.record.further_phase is not None) == bool(self.missing)
        return Findings(pd.DataFrame({"inside": [right]}), (), {"right": right})


@dataclass(frozen=True)
class Presence:
    """Draws the map of a seed, finds the mode with what is declared, and keeps what is told of each phase."""

    declared: Declared

    def __call__(self, seed: int) -> Findings:
        """Return whether what is told is true."""
        kind = KINDS[seed % len(KINDS)]
        names = [*_phases(kind), *(f"extra {number}" for number in range(self.declared.extra))]
        phases = [{"name": name, "matrix": number == 0} for number, name in enumerate(names)]
        result = _mode(kind, drawn(kind, seed, little=self.declared.little), phases)
        standing = [one.standing for one in result.record.presence or ()]
        if self.declared.little:
            # Nothing declared tells the names apart: it is the one that holds least.
            photons = result.record.photons or {}
            standing = [standing[int(np.argmin([photons[name] for name in names]))]]
        right = self.declared.right(standing)
        return Findings(
            pd.DataFrame({"inside": [right]}), (), {"right": right, "standing": ", ".join(standing)}
        )


def _mode(kind: Kind, simulated: SimulatedMap, phases: int | list[dict[str, Any]]) -> Result:
    """Find the mode of a map."""
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.core.errors import BayesUnmixWarning
    from bayesunmix.pipeline import run_image

    config = RunConfig.from_dict(told(kind) | {"phases": phases, "inference": {"method": "map"}})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        return run_image(simulated.image, config, None, seed=0, progress=False)


@dataclass(frozen=True)
class Look:
    """Draws the map of a seed and counts its phases."""

    def __call__(self, seed: int) -> Findings:
        """Return how many phases there are and how many are found."""
        from bayesunmix.config.run_config import RunConfig
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.fit.phase_number import infer_phase_number
        from bayesunmix.fit.preparation import prepare

        kind = KINDS[seed % len(KINDS)]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            simulated = drawn(kind, seed)
            setup = prepare(simulated.image, RunConfig.from_dict(told(kind) | {"phases": "auto"}))
            number = infer_phase_number(setup, lambda _: None)
        facts = {"map": kind.name, "true": kind.count, "found": number.chosen}
        return Findings(pd.DataFrame({"inside": [number.chosen == kind.count]}), (), facts)


def drawn(kind: Kind, seed: int, *, little: bool = False) -> SimulatedMap:
    """Draw a map: the matrix as two zones, one at either end of its variation, and the grains.

    Parameters
    ----------
    kind, seed
    little
        Whether the last phase is a hundredth of the map, as pure somewhere as the others.
    """
    from bayesunmix.simulation.phantom import smooth_field
    from bayesunmix.simulation.simulate import simulate_map

    rng = np.random.default_rng([seed, kind.count, *kind.name.encode()])
    chemistry, phases = CHEMISTRIES[kind.name], _phases(kind)
    fractions = np.array(_fractions(chemistry, kind.count))
    if little:
        fractions[-1] = LITTLE
        fractions[0] += 1.0 - fractions.sum()
    abundances = embedded(fractions.tolist(), rng)
    host, grains = abundances[..., 0], abundances[..., 1:]
    raw = smooth_field((SIDE, SIDE), rng, ZONE_WIDTH)
    # Even between the ends.
    zone = np.argsort(np.argsort(raw.ravel())).reshape(raw.shape) / (raw.size - 1)
    shares = np.concatenate([(host * zone)[..., None], (host * (1.0 - zone))[..., None], grains], axis=2)
    name, *others = phases
    ends = {
        f"{name} {end}": varied(phases[name], ZONED[kind.name], sign * ZONING)
        for end, sign in (("up", 1), ("down", -1))
    }
    tables: list[dict[str, Any]] = [
        {"name": phase, "composition": composition, "fraction": 1.0 / (len(others) + 2)}
        for phase, composition in {**ends, **{other: phases[other] for other in others}}.items()
    ]
    plan = {
        "shape": [SIDE, SIDE],
        "counts_per_pixel": COUNTS,
        "stray": dict.fromkeys(chemistry.stray, 0.03),
        "wedge": WEDGE,
        "calibration_error": True,
    }
    return simulate_map(
        {**told(kind), "phases": tables, "simulate": plan}, seed, abundances=np.clip(shares, 0.0, 1.0)
    )


def varied(composition: dict[str, float], elements: tuple[str, str], by: float) -> dict[str, float]:
    """Raise the first element by a part, lower the second one as much, and let the others make room."""
    first, second = elements
    raised = {**composition, first: composition[first] * (1.0 + by), second: composition[second] * (1.0 - by)}
    total = sum(raised.values())
    return {element: amount / total for element, amount in raised.items()}


def told(kind: Kind) -> dict[str, Any]:
    """Return what is declared: the elements, the film and the instrument."""
    elements = sorted({element for composition in _phases(kind).values() for element in composition})
    return conditions(CHEMISTRIES[kind.name], elements)


def _phases(kind: Kind) -> dict[str, dict[str, float]]:
    every = CHEMISTRIES[kind.name].phases | FIFTH.get(kind.name, {})
    return dict(list(every.items())[: kind.count])


def _fractions(chemistry: Chemistry, count: int) -> list[float]:
    """How much there is of each phase; a fifth one as much as the last."""
    taken = [*chemistry.fractions, chemistry.fractions[-1]][:count]
    return [fraction / sum(taken) for fraction in taken]
