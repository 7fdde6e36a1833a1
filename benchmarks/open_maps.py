"""Coverage where little pins the phases: six chemistries whose grains are hardly ever pure.

Of every chemistry a few maps of 64 x 64 pixels and 120 counts are drawn whose grains hold at most half to all of a
pixel, and each is unmixed with nothing declared but the number of phases, with the matrix, with the matrix and a true
absence for every phase, and with soft statements alone: formulas, or which element a phase is rich in; with rotations
and without. Line strengths are nominal, and the intervals are those of
counting and unmixing alone: errors of line strengths would hide how well rotations are held.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from phantom_coverage import counting_intervals

from bayesunmix.laboratory.maps import Findings, gathered, kept_maps

if TYPE_CHECKING:
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import SimulatedMap

LEAST = 0.93
# Maps of each chemistry, with rotations and without, and where it has to be quick.
MAPS = {True: (6, 1), False: (2, 1)}
DECLARED = ("nothing", "matrix", "hints", "rich", "formulas")
SIDE, COUNTS = 64, 120.0
# Most of a pixel that a grain holds; a third of the phases is pure somewhere.
MOST = (0.5, 0.97)
PURE_SHARE = 1 / 3


class Chemistry(NamedTuple):
    """A sample: its phases by composition, the first one the matrix, and how much there is of each."""

    beam_keV: float
    oxygen: str
    density_g_cm3: float
    energy_range: tuple[float, float]
    stray: tuple[str, ...]
    fractions: tuple[float, ...]
    phases: dict[str, dict[str, float]]


CHEMISTRIES = {
    "superalloy": Chemistry(
        200.0,
        "none",
        8.6,
        (0.9, 11.5),
        (),
        (0.55, 0.3, 0.15),
        {
            "gamma": dict(Ni=0.58, Al=0.06, Cr=0.14, Co=0.12, W=0.04, Re=0.03, Ta=0.02, Mo=0.01),
            "gamma prime": dict(Ni=0.659, Al=0.17, Cr=0.03, Co=0.06, W=0.025, Re=0.005, Ta=0.05, Mo=0.001),
            "TCP": dict(Ni=0.2, Al=0.01, Cr=0.25, Co=0.15, W=0.15, Re=0.18, Ta=0.01, Mo=0.05),
        },
    ),
    "sulfides": Chemistry(
        300.0,
        "none",
        4.5,
        (1.0, 15.5),
        (),
        (0.5, 0.3, 0.2),
        {
            "pyrrhotite": dict(S=0.53, Fe=0.46, Ni=0.008, Co=0.002),
            "pentlandite": dict(S=0.47, Fe=0.26, Ni=0.25, Co=0.018, Pd=0.002),
            "chalcopyrite": dict(S=0.5, Fe=0.25, Cu=0.247, Se=0.003),
        },
    ),
    "basalt": Chemistry(
        120.0,
        "stoichiometry",
        2.9,
        (0.9, 8.2),
        ("Cu",),
        (0.45, 0.25, 0.2, 0.1),
        {
            "glass": dict(Si=0.48, Al=0.17, Mg=0.09, Fe=0.1, Ca=0.1, Na=0.045, Ti=0.01, K=0.005),
            "olivine": dict(Si=0.333, Mg=0.53, Fe=0.13, Ca=0.004, Mn=0.003),
            "plagioclase": dict(Si=0.49, Al=0.33, Ca=0.13, Na=0.045, Fe=0.005),
            "spinel": dict(Mg=0.15, Fe=0.4, Al=0.2, Cr=0.2, Ti=0.05),
        },
    ),
    "garnet peridotite": Chemistry(
        200.0,
        "stoichiometry",
        3.6,
        (0.9, 8.2),
        ("Cu",),
        (0.5, 0.3, 0.2),
        {
            "garnet": dict(Si=0.375, Al=0.24, Mg=0.25, Fe=0.08, Ca=0.045, Cr=0.01),
            "pyroxene": dict(Si=0.49, Al=0.05, Mg=0.22, Fe=0.05, Ca=0.17, Na=0.02),
            "olivine": dict(Si=0.333, Mg=0.6, Fe=0.064, Ni=0.003),
        },
    ),
    "solder": Chemistry(
        200.0,
        "none",
        7.4,
        (1.0, 16.0),
        (),
        (0.5, 0.25, 0.25),
        {
            "tin": dict(Sn=0.97, Ag=0.01, Bi=0.015, Cu=0.005),
            "Ag3Sn": dict(Ag=0.745, Sn=0.25, Cu=0.005),
            "Cu6Sn5": dict(Cu=0.5, Sn=0.455, Ni=0.045),
        },
    ),
    "oxides": Chemistry(
        200.0,
        "stoichiometry",
        5.8,
        (0.9, 9.5),
        ("Cu",),
        (0.4, 0.3, 0.2, 0.1),
        {
            "perovskite": dict(La=0.38, Sr=0.1, Fe=0.3, Co=0.2, Mn=0.02),
            "fluorite": dict(Ce=0.8, La=0.12, Fe=0.01, Zr=0.07),
            "spinel": dict(Co=0.5, Fe=0.35, Mn=0.1, La=0.05),
            "zirconate": dict(La=0.45, Zr=0.45, Sr=0.05, Ce=0.05),
        },
    ),
}


# As a person who knows the sample would write them.
FORMULAS = {
    "gamma prime": "(Ni,Co)3(Al,Ta,W)",
    "pyrrhotite": "Fe1-xS",
    "pentlandite": "(Fe,Ni)9S8",
    "chalcopyrite": "CuFeS2",
    "olivine": "(Mg,Fe)2SiO4",
    "garnet": "(Mg,Fe,Ca)3(Al,Cr)2Si3O12",
    "pyroxene": "(Ca,Na,Mg,Fe)(Mg,Fe,Al)Si2O6",
    "Ag3Sn": "Ag3Sn",
    "Cu6Sn5": "(Cu,Ni)6Sn5",
    "perovskite": "(La,Sr)(Fe,Co,Mn)O3",
    "zirconate": "(La,Sr)2(Zr,Ce)2O7",
}


def rows(options: Options) -> list[Row]:
    """Rows of the share that holds the truth, by what was declared, with rotations and without."""
    found = []
    for declared, rotations in itertools.product(DECLARED, (True, False)):
        seeds = range(MAPS[rotations][options.quick])
        what = f"{declared}, {'with' if rotations else 'without'} rotations"
        tables = []
        for name, chemistry in CHEMISTRIES.items():
            folder = options.work / "open_maps" / f"{name} {what}"
            look = Look(name, declared, rotations)
            facts = {"chemistry": str(chemistry), "counts": COUNTS, "side": SIDE}
            table, failures = gathered(kept_maps(look, seeds, folder, facts, options.processes))
            tables.append(table.assign(chemistry=name))
            print(f"  {name}, {what}: {len(failures)} maps fail or say not to trust them", flush=True)
        every = pd.concat(tables)
        found += _rows(what, every, least=LEAST if rotations else None)
        if declared != "nothing" and rotations:
            found += _rows(f"{what}, where names are on their phases", every[every["named"]], least=LEAST)
    return found


def _rows(what: str, table: pd.DataFrame, least: float | None) -> list[Row]:
    """Rows of compositions, of partition coefficients, and of the chemistry that holds least."""
    found = []
    for quantity, plural in (("composition", "compositions"), ("partition", "partition coefficients")):
        judged = table[(table["quantity"] == quantity) & table["inside"].notna()]
        inside = judged["inside"].astype(bool)
        share = float(inside.mean())
        by_chemistry = inside.groupby(judged["chemistry"]).mean()
        lowest = f"lowest {by_chemistry.min():.2f} in {by_chemistry.idxmin()}"
        found.append(
            Row(
                f"{what}: {plural} that hold the truth",
                "" if least is None else f"at least {least}",
                f"{share:.3f} ({inside.sum()} of {len(inside)}; {lowest})",
                None if least is None else share >= least,
            )
        )
    return found


@dataclass(frozen=True)
class Look:
    """Draws a map of a chemistry, unmixes it and puts the intervals beside the truth."""

    name: str
    declared: str
    rotations: bool

    def __call__(self, seed: int) -> Findings:
        """Return the intervals of one map."""
        from bayesunmix.config.run_config import RunConfig
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image

        simulated = drawn(self.name, seed)
        told = declaration(self.name, self.declared)
        told["inference"] = {"method": "laplace", "rotations": self.rotations}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            result = run_image(simulated.image, RunConfig.from_dict(told), None, seed=0, progress=False)
        return Findings(beside(result, simulated), result.problems)


def drawn(name: str, seed: int) -> SimulatedMap:
    """Draw a map whose grains hold at most a part of a pixel."""
    from bayesunmix.simulation.simulate import simulate_map

    chemistry = CHEMISTRIES[name]
    rng = np.random.default_rng([seed, *name.encode()])
    abundances = embedded(chemistry.fractions, rng)
    told = declaration(name, "matrix")
    for phase, composition, fraction in zip(
        told["phases"], chemistry.phases.values(), chemistry.fractions, strict=True
    ):
        phase |= {"composition": composition, "fraction": fraction}
    plan = {"shape": [SIDE, SIDE], "counts_per_pixel": COUNTS, "stray": dict.fromkeys(chemistry.stray, 0.03)}
    return simulate_map({**told, "simulate": plan}, seed, abundances=np.clip(abundances, 0.0, 1.0))


def embedded(fractions: Sequence[float], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Lay grains that hold a part of a pixel at most into a matrix, the first phase, (y, x, phase)."""
    from bayesunmix.simulation.phantom import grain_layout

    matrix = [number == 0 for number in range(len(fractions))]
    abundances = grain_layout((SIDE, SIDE), fractions, matrix, rng).copy()
    for grain in np.moveaxis(abundances, 2, 0)[1:]:
        most = 1.0 if rng.random() < PURE_SHARE else rng.uniform(*MOST)
        np.minimum(grain * most / grain.max(), 1.0, out=grain)
    grains = abundances[..., 1:]
    grains /= np.maximum(grains.sum(axis=2, keepdims=True), 1.0)
    abundances[..., 0] = 1.0 - grains.sum(axis=2)
    return abundances


def declaration(name: str, declared: str) -> dict[str, Any]:
    """Return the configuration in which nothing is declared, or one of `DECLARED`."""
    chemistry = CHEMISTRIES[name]
    elements = sorted({element for composition in chemistry.phases.values() for element in composition})
    phases: list[dict[str, Any]] = []
    for number, (phase, composition) in enumerate(chemistry.phases.items()):
        told: dict[str, Any] = {"name": phase}
        if declared in ("matrix", "hints"):
            told["matrix"] = number == 0
        if declared == "rich":
            told["rich"] = _rich(phase, chemistry.phases)
        if declared == "formulas" and phase in FORMULAS:
            told["stoichiometry"] = FORMULAS[phase]
        absent = [element for element in elements if element not in composition]
        if declared == "hints" and absent:
            others = chemistry.phases.values()
            told["absent"] = [max(absent, key=lambda element: max(one.get(element, 0.0) for one in others))]
        phases.append(told)
    return conditions(chemistry, elements) | {"phases": len(phases) if declared == "nothing" else phases}


def _rich(phase: str, phases: dict[str, dict[str, float]]) -> list[str]:
    """Return the main element of which a phase has most, against the one that has next; none where it has nowhere."""
    own = phases[phase]
    next_ = {
        element: max(other.get(element, 0.0) for name, other in phases.items() if name != phase)
        for element in own
        if own[element] > 0.02
    }
    best = max(next_, key=lambda element: own[element] / max(next_[element], 1e-3))
    return [best] if own[best] > next_[best] else []


def conditions(chemistry: Chemistry, elements: Sequence[str]) -> dict[str, Any]:
    """Return what is declared of the sample, the map and the instrument."""
    return {
        "sample": {
            "elements": list(elements),
            "stray": list(chemistry.stray),
            "oxygen": chemistry.oxygen,
            "thickness_nm": [80.0, 20.0],
            "density_g_cm3": [chemistry.density_g_cm3, 0.3],
        },
        "map": {"energy_range": list(chemistry.energy_range)},
        "instrument": {
            "beam_energy_keV": chemistry.beam_keV,
            "takeoff_angle_deg": 22.0,
            "resolution_eV": 132.0,
        },
    }


def beside(result: Result, simulated: SimulatedMap) -> pd.DataFrame:
    """Put the intervals of counting and unmixing beside the truth; phases that bear no name are matched by composition.

    Returns
    -------
    DataFrame
        Columns quantity, phase, element, truth, lower, upper, inside, and named: whether names are on the phases most
        like them. Of each pair of phases the partition coefficients one way round, where they have an interval or a
        bound.
    """
    truth = simulated.truth
    names = matched(result, simulated)
    found: list[tuple[object, ...]] = []
    for row in result.tables.partition().itertuples():
        above, below = names[row.numerator], names[row.denominator]
        # What is declared absent has no ratio.
        told = not np.isnan([row.lower_counting, row.upper_counting]).all()
        if truth.phases.index(above) < truth.phases.index(below) or row.kind == "undetermined" or not told:
            continue
        amounts = truth.composition[:, result.elements.index(row.element)]
        top, bottom = (float(amounts[truth.phases.index(name)]) for name in (above, below))
        if bottom > 0.0:
            low, high, true = row.lower_counting, row.upper_counting, top / bottom
            found.append(("partition", f"{above}/{below}", row.element, true, low, high, low <= true <= high))
    compositions = counting_intervals(result, truth, names)
    table = pd.concat([compositions, pd.DataFrame(found, columns=compositions.columns)], ignore_index=True)
    return table.assign(named=on_their_phases(result, simulated, names))


def matched(result: Result, simulated: SimulatedMap) -> dict[str, str]:
    """Which true phase each one is: by what was declared of it; among phases declared alike, the most similar one."""
    from scipy.optimize import linear_sum_assignment

    truth = simulated.truth
    apart = _apart(result, simulated)
    told = {
        phase.name: (phase.matrix, phase.absent, phase.stoichiometry, phase.rich)
        for phase in result.record.config.phases
    }
    for number, name in enumerate(result.phases):
        if any(told[name]):
            apart[number] += 10.0 * np.array([told.get(other) != told[name] for other in truth.phases])
    _, order = linear_sum_assignment(apart)
    return {name: truth.phases[number] for name, number in zip(result.phases, order, strict=True)}


def _apart(result: Result, simulated: SimulatedMap) -> npt.NDArray[np.float64]:
    """Sum of the differences of atom fractions, (phase, true phase)."""
    median = result.composition().median(["chain", "draw"]).values
    return np.asarray(np.abs(median[:, None] - simulated.truth.composition[None]).sum(axis=2))


def on_their_phases(result: Result, simulated: SimulatedMap, names: dict[str, str]) -> bool:
    """Whether names are on the phases that are most like them."""
    from scipy.optimize import linear_sum_assignment

    _, order = linear_sum_assignment(_apart(result, simulated))
    return [names[name] for name in result.phases] == [simulated.truth.phases[number] for number in order]
