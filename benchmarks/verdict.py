"""Is the verdict true? Its level, case by case, beside how often 95 % intervals hold the truth.

Small maps (32 x 32 pixels, Laplace) of four chemistries, as they are declared and with one thing that the run is not
told. Line strengths and mass thickness are off by draws of their priors. A level is a claim like a number: where it is
"good", intervals must hold what they should; where they do not, it must not be.
"""

from __future__ import annotations

import dataclasses
import itertools
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from bench import Options, Row
from grown_phantom import Departures, grow
from phantom_coverage import phantom
from wrong_model import k_factor_errors, other_table

from bayesunmix.config.run_config import RunConfig
from bayesunmix.laboratory.maps import Findings, KeptMap, kept_maps, reported_intervals
from bayesunmix.simulation.simulate import KnownComposition, simulate_map

if TYPE_CHECKING:
    from bayesunmix.data.image import SpectrumImage
    from bayesunmix.results.result import Result

SHAPE = (32, 32)
COUNTS = 400.0
MANY, FEW = 8, 1
GRAIN, ZONING = 40, 0.5
UNDECLARED, UNDECLARED_SHARE = "Co", 0.004
LEVELS = ("good", "reservations", "distrust")
# A share of intervals that is taken for 95 %: of some hundred that are correlated within their map.
LEAST_GOOD = 0.92


@dataclass(frozen=True)
class Case:
    """One kind of map.

    Parameters
    ----------
    what
        The same in words.
    told
        What the run is told, and what the map is drawn from where `drawn` is left out.
    drawn
        What the map is drawn from.
    departures
        What the phantom has besides.
    departure
        Physics that no configuration can say, see `wrong_model`.
    expected
        Levels of which every map must have one; empty where nothing is asked.
    """

    what: str
    told: RunConfig
    drawn: RunConfig | None = None
    departures: Departures | None = None
    departure: Any = None
    expected: tuple[str, ...] = ()

    def map(self, seed: int) -> tuple[SpectrumImage, KnownComposition]:
        """Draw the map of a seed."""
        drawn = self.drawn or self.told
        if self.departures is not None:
            grown = grow(drawn, seed, self.departures)
            names = tuple(phase.name for phase in drawn.phases if not isinstance(phase, str))
            return grown.image, KnownComposition(names, drawn.sample.elements, grown.composition)
        simulated = simulate_map(drawn, seed, departure=self.departure and partial(self.departure, seed=seed))
        return simulated.image, simulated.truth


def small(config: RunConfig, counts: float = COUNTS) -> RunConfig:
    """Return a configuration whose simulated map is small."""
    if config.simulate is None:
        raise ValueError("the configuration says how it is simulated")
    plan = dataclasses.replace(config.simulate, shape=SHAPE, counts_per_pixel=counts)
    return dataclasses.replace(config, simulate=plan)


def sample(
    elements: Mapping[str, tuple[float, ...]],
    phases: Mapping[str, Mapping[str, Any]],
    *,
    oxygen: str,
    thickness_nm: tuple[float, float],
    density_g_cm3: tuple[float, float],
    beam_energy_keV: float = 200.0,
    stray: str = "Cu",
) -> RunConfig:
    """Return a sample of its own: atom fractions by element, one for each phase, and what is declared of the phases."""
    return RunConfig.from_dict(
        {
            "sample": {
                "elements": list(elements),
                "stray": [stray],
                "oxygen": oxygen,
                "thickness_nm": list(thickness_nm),
                "density_g_cm3": list(density_g_cm3),
            },
            "instrument": {
                "beam_energy_keV": beam_energy_keV,
                "takeoff_angle_deg": 18.0,
                "resolution_eV": 130.0,
            },
            "phases": [
                {"name": name, **facts, "composition": {e: x[k] for e, x in elements.items() if x[k] > 0.0}}
                for k, (name, facts) in enumerate(phases.items())
            ],
            "simulate": {
                "shape": list(SHAPE),
                "counts_per_pixel": COUNTS,
                "stray": {stray: 0.03},
                "calibration_error": True,
            },
            "inference": {"method": "laplace"},
        }
    )


def alloy() -> RunConfig:
    """Nickel superalloy: grains of ordered precipitate and a carbide in a matrix."""
    return sample(
        {
            "Ni": (0.62, 0.74, 0.02),
            "Al": (0.06, 0.17, 0.0),
            "Cr": (0.22, 0.03, 0.08),
            "Co": (0.10, 0.05, 0.01),
            "Ta": (0.0, 0.01, 0.89),
        },
        {
            "gamma": {"matrix": True, "absent": ["Ta"], "fraction": 0.6},
            "gamma prime": {"matrix": True, "fraction": 0.3},
            "carbide": {"absent": ["Al"], "fraction": 0.1},
        },
        oxygen="none",
        thickness_nm=(80.0, 20.0),
        density_g_cm3=(8.2, 0.5),
    )


def sulfides() -> RunConfig:
    """Sulfides at 300 keV, every one with pure grains."""
    return sample(
        {
            "Fe": (0.47, 0.25, 0.27),
            "Ni": (0.01, 0.28, 0.0),
            "Cu": (0.0, 0.0, 0.24),
            "S": (0.52, 0.47, 0.49),
        },
        {
            "pyrrhotite": {"matrix": True, "absent": ["Cu"], "fraction": 0.5},
            "pentlandite": {"matrix": True, "absent": ["Cu"], "fraction": 0.25},
            "chalcopyrite": {"matrix": True, "absent": ["Ni"], "fraction": 0.25},
        },
        oxygen="none",
        thickness_nm=(90.0, 20.0),
        density_g_cm3=(4.6, 0.3),
        beam_energy_keV=300.0,
        stray="Ga",
    )


def silicates() -> RunConfig:
    """Olivine and pyroxene: two phases with pure grains."""
    return sample(
        {
            "Mg": (0.58, 0.44),
            "Si": (0.335, 0.495),
            "Fe": (0.08, 0.04),
            "Ca": (0.001, 0.015),
            "Mn": (0.004, 0.01),
        },
        {"olivine": {"matrix": True, "fraction": 0.6}, "pyroxene": {"matrix": True, "fraction": 0.4}},
        oxygen="stoichiometry",
        thickness_nm=(100.0, 25.0),
        density_g_cm3=(3.3, 0.2),
    )


def undeclared(config: RunConfig) -> RunConfig:
    """Return what holds an element that nothing declares."""
    plan = config.simulate
    stray = {**(plan.stray if plan else {}), UNDECLARED: UNDECLARED_SHARE}
    return dataclasses.replace(
        config,
        sample=dataclasses.replace(config.sample, stray=(*config.sample.stray, UNDECLARED)),
        simulate=plan and dataclasses.replace(plan, stray=stray),
    )


def unnamed(config: RunConfig) -> RunConfig:
    """Return the same sample with nothing declared but the number of its phases."""
    count = len(config.phases)
    return dataclasses.replace(
        config, phases=RunConfig.from_dict({**config.to_dict(), "phases": count}).phases, simulated_phases=()
    )


def cases(options: Options) -> list[Case]:
    """Every kind of map."""
    rocks = small(phantom("laplace"))
    doubted = LEVELS[1:]
    found = [
        Case("71 GPa-like, as declared", rocks),
        Case("superalloy, as declared", alloy()),
        Case("sulfides with pure grains, as declared", sulfides()),
        Case("olivine and pyroxene, as declared", silicates()),
        Case("undeclared element", rocks, drawn=undeclared(rocks), expected=doubted),
        Case("undeclared grain", rocks, departures=Departures(grain=GRAIN), expected=doubted),
        Case("zoned matrix", rocks, departures=Departures(zoning=ZONING), expected=doubted),
        Case("nothing declared, nowhere pure", unnamed(rocks), drawn=rocks, expected=doubted),
        Case("nothing declared, pure grains", unnamed(sulfides()), drawn=sulfides()),
        Case("a photon a pixel", small(rocks, 1.0), expected=doubted),
        Case("200 photons in all", small(rocks, 0.2), expected=doubted),
        Case("line strengths 10 % off", rocks, departure=k_factor_errors),
    ]
    if options.data is not None:
        found.append(Case("lines of another table", rocks, drawn=other_table(rocks, options)))
    return found


def rows(options: Options) -> list[Row]:
    """Rows of every case, and of all maps that are called good."""
    seeds = range(FEW if options.quick else MANY)
    found, good = [], []
    for case in cases(options):
        study = {"case": case.what, "shape": SHAPE}
        folder = options.work / "verdict" / "".join(c if c.isalnum() else "_" for c in case.what)
        maps = kept_maps(Look(case), seeds, folder, study, options.processes)
        good += [kept for kept in maps if level_of(kept) == "good"]
        found.append(case_row(case, maps))
    held, of = held_by(good)
    share = held / max(of, 1)
    measured = f"{share:.3f} ({held} of {of} on {len(good)} maps)"
    return [
        *found,
        Row("intervals on maps called good", f"at least {LEAST_GOOD}", measured, share >= LEAST_GOOD),
    ]


@dataclass(frozen=True)
class Look:
    """Draws the map of a seed, unmixes it, and keeps the verdict beside the intervals."""

    case: Case

    def __call__(self, seed: int) -> Findings:
        """Return the intervals of one seed."""
        result, truth = self.run(seed)
        facts = {"level": result.verdict.level, "findings": [f.text for f in result.verdict.findings]}
        return Findings(reported_intervals(result, matched(result, truth)), result.problems, facts)

    def run(self, seed: int) -> tuple[Result, KnownComposition]:
        """Draw and unmix."""
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            image, truth = self.case.map(seed)
            return run_image(image, self.case.told, None, seed=seed, progress=False), truth


def matched(result: Result, truth: KnownComposition) -> KnownComposition:
    """Return the truth by the result's names: phases that were not named are the true ones they are most like."""
    if tuple(result.phases) == truth.phases:
        return truth
    mean = result.composition().mean(["chain", "draw"]).values
    orders = list(itertools.permutations(range(len(truth.phases))))
    off = [float(np.abs(truth.composition[list(order)] - mean).sum()) for order in orders]
    composition = truth.composition[list(orders[int(np.argmin(off))])]
    return KnownComposition(tuple(result.phases), truth.elements, composition)


def level_of(kept: KeptMap) -> str:
    """Level of the verdict on a map; empty where the run failed."""
    return str((kept.findings.facts or {}).get("level", "")) if kept.findings is not None else ""


def held_by(maps: list[KeptMap]) -> tuple[int, int]:
    """How many intervals hold the truth, of how many; ends of which the truth is zero are left out."""
    tables = [kept.findings.table for kept in maps if kept.findings is not None]
    if not tables:
        return 0, 0
    table = pd.concat(tables, ignore_index=True)
    inside = table.loc[table["truth"].astype(float) > 0.0, "inside"].dropna().astype(bool)
    return int(inside.sum()), len(inside)


def case_row(case: Case, maps: list[KeptMap]) -> Row:
    """Levels of a case, and the share of intervals that hold the truth."""
    levels = [level_of(kept) for kept in maps]
    failures = [f"seed {kept.seed}: {kept.failure}" for kept in maps if kept.findings is None]
    held, of = held_by(maps)
    counted = ", ".join(f"{level} {levels.count(level)}" for level in LEVELS)
    measured = f"{counted}; intervals that hold {held / max(of, 1):.3f} ({held} of {of})"
    asked = " or ".join(case.expected)
    holds = not failures and all(level in (case.expected or LEVELS) for level in levels)
    return Row(
        case.what, asked, "; ".join([measured, *failures]), holds if case.expected or failures else None
    )
