"""Reference spectra of phases that are nowhere pure: coverage, widths, names and contradictions.

Maps of 64 x 64 pixels and 120 counts of three chemistries of `open_maps`, whose grains hold at most a part of a pixel.
Line strengths are off by draws of their priors. A reference spectrum is drawn from the same line strengths, with a
thickness of its own by the film's prior, and of a phase that differs from the map's by a draw of the tolerance. Each
map is unmixed with nothing declared but the number of phases, with the reference of one phase, with those of all, and
with a spectrum of something else in the place of one: the elements of its phase in the reverse order of their amounts.

Line strengths that are off move all amounts of an element in a map alike, and a few maps tell little of intervals that
hold them. Intervals without them are therefore judged as well, beside what the true composition looks like by nominal
line strengths: the nominal composition.
"""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from open_maps import CHEMISTRIES, COUNTS, SIDE, declaration, embedded
from phantom_coverage import counting_intervals

from bayesunmix.core.shares import shares_of
from bayesunmix.laboratory.maps import Findings, gathered, kept_maps

if TYPE_CHECKING:
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import SimulatedMap, Source, Truth

LEAST = 0.93
CHOSEN = ("basalt", "sulfides", "superalloy")
QUANTITIES = ("composition", "nominal composition", "partition")
DECLARED = ("nothing", "one", "all", "wrong")
MAPS = (6, 1)
# Counts of a reference spectrum: a minute on a grain.
REFERENCE_COUNTS = 3e5
TOLERANCE = 0.05
# As `open_maps` declares it.
THICKNESS_NM = (80.0, 20.0)
# Phases that cannot be exchanged are this far apart, farther than any compositions.
ELSEWHERE = 10.0


def rows(options: Options) -> list[Row]:
    """Rows of coverage and widths by what was declared, and of names and contradictions."""
    tables = {declared: _maps(declared, options) for declared in DECLARED}
    found = []
    for declared in DECLARED[:-1]:
        table = tables[declared]
        for quantity in QUANTITIES:
            judged = table[(table["quantity"] == quantity) & table["inside"].notna()]
            inside = judged["inside"].astype(bool)
            by_chemistry = inside.groupby(judged["chemistry"]).mean()
            share = float(inside.mean())
            lowest = f"lowest {by_chemistry.min():.2f} in {by_chemistry.idxmin()}"
            found.append(
                Row(
                    f"references of {declared}: {quantity} intervals that hold the truth",
                    "" if declared == "nothing" else f"at least {LEAST}",
                    f"{share:.3f} ({inside.sum()} of {len(inside)}; {lowest})",
                    None if declared == "nothing" else share >= LEAST,
                )
            )
        if declared != "nothing":
            found += [_width_row(declared, table, tables["nothing"]), _name_row(declared, table)]
    told = tables["wrong"].groupby(["chemistry", "seed"])["told"].first().astype(bool)
    found.append(
        Row("a reference of something else", "told", f"{told.sum()} of {len(told)}", bool(told.all()))
    )
    right = tables["all"].groupby(["chemistry", "seed"])["told"].first().astype(bool)
    found.append(
        Row(
            "true references told as contradictions",
            "at most 1 in 10",
            f"{right.sum()} of {len(right)}",
            bool(right.mean() <= 0.1),
        )
    )
    return found


def _maps(declared: str, options: Options) -> pd.DataFrame:
    """Return the intervals of the maps of all chemistries."""
    tables = []
    for number, name in enumerate(CHOSEN):
        # Maps of one seed share the draws of their line strengths.
        seeds = range(1000 * number, 1000 * number + MAPS[options.quick])
        folder = options.work / "reference_maps" / f"{name} {declared}"
        facts = {"chemistry": str(CHEMISTRIES[name]), "counts": COUNTS, "side": SIDE, "of": REFERENCE_COUNTS}
        look = Look(name, declared)
        table, failures = gathered(kept_maps(look, seeds, folder, facts, options.processes))
        tables.append(table.assign(chemistry=name))
        print(
            f"  {name}, references of {declared}: {len(failures)} maps fail or say not to trust them",
            flush=True,
        )
    return pd.concat(tables)


def _width_row(declared: str, table: pd.DataFrame, without: pd.DataFrame) -> Row:
    """Compare the widths of intervals of the same numbers of the same maps, for amounts of a per cent and more."""
    keys = ["chemistry", "seed", "quantity", "phase", "element"]
    both = [
        one[(one["quantity"] == "nominal composition") & (one["truth"] >= 0.01)]
        .assign(width=lambda x: x["upper"] - x["lower"])
        .set_index(keys)["width"]
        for one in (table, without)
    ]
    ratio = (both[0] / both[1]).dropna()
    by_chemistry = ratio.groupby("chemistry").median()
    listed = ", ".join(f"{name} {value:.2f}" for name, value in by_chemistry.items())
    median = float(ratio.median())
    return Row(
        f"references of {declared}: width of nominal compositions over that with nothing declared, median",
        "below 1",
        f"{median:.2f} ({listed})",
        median < 1.0,
    )


def _name_row(declared: str, table: pd.DataFrame) -> Row:
    named = table.groupby(["chemistry", "seed"])["named"].first().astype(bool)
    return Row(
        f"references of {declared}: maps whose phases with a reference bear its name",
        "all",
        f"{named.sum()} of {len(named)}",
        bool(named.all()),
    )


@dataclass(frozen=True)
class Look:
    """Draws a map and reference spectra, unmixes it and puts the intervals beside the truth."""

    name: str
    declared: str

    def __call__(self, seed: int) -> Findings:
        """Return the intervals of one map."""
        from bayesunmix.config.run_config import RunConfig
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image

        chemistry = CHEMISTRIES[self.name]
        simulated, told = drawn(self.name, seed), declaration(self.name, "nothing")
        names = list(chemistry.phases)
        referenced = {"nothing": [], "one": names[-1:], "all": names, "wrong": names}[self.declared]
        wrong = names[-1] if self.declared == "wrong" else None
        told["phases"] = [
            {"name": phase}
            | ({"reference": reference(self.name, seed, phase, wrong)} if phase in referenced else {})
            for phase in names
        ]
        told["inference"] = {"method": "laplace"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            result = run_image(simulated.image, RunConfig.from_dict(told), None, seed=0, progress=False)
        return Findings(beside(result, simulated.truth, referenced), result.problems)


def conditions_of(name: str, compositions: list[dict[str, float]], counts: float) -> dict[str, Any]:
    """Return what a map of a chemistry, or a spectrum of a phase of it, is drawn from."""
    chemistry = CHEMISTRIES[name]
    told = declaration(name, "matrix")
    for phase, composition, fraction in zip(told["phases"], compositions, chemistry.fractions, strict=True):
        phase |= {"composition": composition, "fraction": fraction}
    plan = {
        "shape": [SIDE, SIDE],
        "counts_per_pixel": counts,
        "stray": dict.fromkeys(chemistry.stray, 0.03),
        "calibration_error": True,
    }
    return {**told, "simulate": plan}


def drawn(name: str, seed: int) -> SimulatedMap:
    """Draw a map whose grains hold at most a part of a pixel, and whose line strengths alone are off."""
    from bayesunmix.simulation.simulate import simulate_map

    chemistry = CHEMISTRIES[name]
    abundances = embedded(chemistry.fractions, np.random.default_rng([seed, *name.encode()]))
    told = conditions_of(name, list(chemistry.phases.values()), COUNTS)
    nominal = partial(with_film, thickness=1.0)
    return simulate_map(told, seed, abundances=np.clip(abundances, 0.0, 1.0), departure=nominal)


def with_film(source: Source, thickness: float) -> Source:
    """Return the physics with another film: so many times as thick as declared, with nominal absorption."""
    mean, sd = THICKNESS_NM
    film = dataclasses.replace(source.film, thickness_nm=(thickness * mean, sd), coefficient_errors={})
    return dataclasses.replace(source, film=film)


def reference(name: str, seed: int, phase: str, wrong: str | None = None) -> dict[str, Any]:
    """Draw a spectrum of a phase, or of something else, on the instrument of the map of a seed."""
    from bayesunmix.config.reference import table_of
    from bayesunmix.simulation.simulate import simulate_map

    chemistry = CHEMISTRIES[name]
    rng = np.random.default_rng([seed, *phase.encode(), 1])
    made = [varied(one, rng) for one in chemistry.phases.values()]
    place = list(chemistry.phases).index(phase)
    if phase == wrong:
        made[place] = reversed_amounts(made[place])
    alone = np.zeros((1, 1, len(made)))
    alone[..., place] = 1.0
    mean, sd = THICKNESS_NM
    thickness = float(np.clip(1.0 + sd / mean * rng.standard_normal(), 0.1, 2.0))
    told = conditions_of(name, made, REFERENCE_COUNTS)
    # The same seed draws the same line strengths, and counts of their own from another spectrum.
    other = partial(with_film, thickness=thickness)
    simulated = simulate_map(told, seed, abundances=alone, departure=other)
    return {**table_of(simulated.image), "tolerance": TOLERANCE}


def varied(composition: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """Return a composition that differs by a draw of the tolerance, for the elements that it has."""
    amounts = np.array(list(composition.values()))
    moved = np.maximum(
        amounts + TOLERANCE * np.maximum(amounts, 0.1) * rng.standard_normal(len(amounts)), 0.0
    )
    return dict(zip(composition, (moved / moved.sum()).tolist(), strict=True))


def reversed_amounts(composition: dict[str, float]) -> dict[str, float]:
    """Return the amounts of a composition given to its elements in reverse order."""
    ranked = sorted(composition, key=lambda element: composition[element])
    return dict(zip(ranked, [composition[element] for element in reversed(ranked)], strict=True))


def beside(result: Result, truth: Truth, referenced: list[str]) -> pd.DataFrame:
    """Put the reported intervals beside the truth; phases without a reference are matched by composition.

    Returns
    -------
    DataFrame
        Columns quantity, phase, element, truth, lower, upper, inside; named: whether phases with a reference are the
        ones that it was drawn of; told: whether a reference was told as a contradiction.
    """
    from scipy.optimize import linear_sum_assignment

    median = result.composition().median(["chain", "draw"]).values
    apart: npt.NDArray[np.float64] = np.abs(median[:, None] - truth.composition[None]).sum(axis=2)
    _, nearest = linear_sum_assignment(apart)
    named = all(truth.phases[nearest[result.phases.index(phase)]] == phase for phase in referenced)
    for phase in referenced:
        own, true = result.phases.index(phase), truth.phases.index(phase)
        apart[own] += ELSEWHERE
        apart[:, true] += ELSEWHERE
        apart[own, true] -= 3.0 * ELSEWHERE
    _, order = linear_sum_assignment(apart)
    names = {name: truth.phases[number] for name, number in zip(result.phases, order, strict=True)}
    found = []
    for row in result.summary().itertuples():
        true = float(
            truth.composition[truth.phases.index(names[row.phase]), result.elements.index(row.element)]
        )
        inside = row.lower <= true <= row.upper
        found.append(("composition", names[row.phase], row.element, true, row.lower, row.upper, inside))
    for row in result.tables.partition().itertuples():
        above, below = names[row.numerator], names[row.denominator]
        if truth.phases.index(above) < truth.phases.index(below) or row.kind == "undetermined":
            continue
        true = truth.partition(above, below)[row.element]
        if np.isfinite(true) and true > 0.0:
            inside = _holds(row.kind, row.lower, row.upper, true)
            found.append(("partition", f"{above}/{below}", row.element, true, row.lower, row.upper, inside))
    table = pd.DataFrame(found, columns=["quantity", "phase", "element", "truth", "lower", "upper", "inside"])
    seen = dataclasses.replace(truth, composition=shares_of(truth.composition * strengths(truth, result)))
    counted = counting_intervals(result, seen, names).assign(quantity="nominal composition")
    table = pd.concat([table, counted], ignore_index=True)
    told = any("contradicts its declared reference" in one.text for one in result.verdict.findings)
    return table.assign(named=named, told=told)


def strengths(truth: Truth, result: Result) -> npt.NDArray[np.float64]:
    """Return by which factor the line family that carries each element's amount is off, (element,)."""
    families = result.tree["constant_data"]["calibration_family"].values
    named = zip(result.elements, families, strict=True)
    return np.array([truth.line_factors[f"{element}_{family}"] for element, family in named])


def _holds(kind: str, lower: float, upper: float, true: float) -> bool:
    """Whether an interval, or a bound, holds a ratio."""
    if kind == "upper":
        return true <= upper
    if kind == "lower":
        return true >= lower
    return lower <= true <= upper
