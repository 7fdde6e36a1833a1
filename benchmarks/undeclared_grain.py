"""Does a grain that nobody declared bend what was declared? Coverage of the declared phases around it.

Maps of 96 x 96 pixels and 108 counts, drawn from the embedded phantom's phases or from an alloy, with one grain of a
phase that the run is not told of: a disc of 60 to 300 pixels, its edge two to four pixels wide, which takes the place
of whatever lies there. Line strengths and thickness are off by draws of their priors. Each map is unmixed as if the
grain were not there, by the whole run; beside it stand even maps, drawn alike without a grain.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from phantom_coverage import phantom
from verdict import alloy

from bayesunmix.laboratory.maps import Findings, KeptMap, gathered, kept_maps, reported_intervals
from bayesunmix.simulation.simulate import KnownComposition, simulate_map

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

SHAPE, COUNTS = (96, 96), 108.0
FEWEST, MOST = 60, 300
EDGE = (2.0, 4.0)
# Width of a rim of another phase, in pixels.
RIM = 3.0
# A region whose middle is this near to the grain's, in radii of the grain, is the grain.
NEAR = 1.5
LEAST, LEAST_CLEAN = 0.93, 1.0
MATRIX = "the matrix's elements"
GRAINS, EVEN, FEW = 20, 40, 1


@dataclass(frozen=True)
class Kind:
    """One kind of map.

    Parameters
    ----------
    what
        The same in words.
    told
        What the run is told, and the other phases are drawn from; the first phase is the matrix.
    grain
        Composition of the grain; empty for a map without one.
    rim
        Composition of what lies around the grain where it ends; empty where nothing does.
    maps
        How many.
    """

    what: str
    told: RunConfig
    grain: dict[str, float]
    rim: dict[str, float] = dataclasses.field(default_factory=dict)
    maps: int = GRAINS

    @cached_property
    def drawn(self) -> RunConfig:
        """What the map is drawn from: the phases with those that nobody declares."""
        from bayesunmix.config.run_config import RunConfig

        told = self.told.to_dict()
        _, truths = self.told.truth()
        phases = [
            {**declared, "composition": dict(true.composition)}
            for declared, true in zip(told["phases"], truths, strict=True)
        ]
        others = {"grain": self.grain, "rim": self.rim}
        phases += [{"name": name, "composition": x} for name, x in others.items() if x]
        # The abundances say how much there is of each.
        phases = [{**phase, "fraction": 1.0 / len(phases)} for phase in phases]
        return RunConfig.from_dict({**told, "phases": phases})


def kinds() -> list[Kind]:
    """Every kind of map."""
    rocks, metals = (_of_size(config) for config in (phantom("laplace"), alloy()))
    silica = {"Si": 1.0}
    return [
        Kind("silica in bridgmanite", rocks, silica),
        Kind("silica with a rim of pyroxene", rocks, silica, {"Si": 0.5, "Mg": 0.4, "Fe": 0.1}),
        Kind("a chromium phase in a superalloy", metals, {"Cr": 0.5, "Co": 0.3, "Ni": 0.2}),
        Kind("even, bridgmanite", rocks, {}, maps=EVEN),
        Kind("even, superalloy", metals, {}, maps=GRAINS),
    ]


def _of_size(config: RunConfig) -> RunConfig:
    """Return a configuration whose maps are of the size and counts of this study."""
    if config.simulate is None:
        raise ValueError("the configuration says how it is simulated")
    plan = dataclasses.replace(config.simulate, shape=SHAPE, counts_per_pixel=COUNTS)
    return dataclasses.replace(config, simulate=plan)


def rows(options: Options) -> list[Row]:
    """Rows of every kind of map."""
    found: list[Row] = []
    for kind in kinds():
        study = {"kind": kind.what, "grain": kind.grain, "rim": kind.rim, "sizes": [FEWEST, MOST]}
        folder = options.work / "undeclared_grain" / "".join(c if c.isalnum() else "_" for c in kind.what)
        seeds = range(FEW if options.quick else kind.maps)
        maps = kept_maps(Look(kind), seeds, folder, study, options.processes)
        found += _rows(kind, maps)
    return found


def _rows(kind: Kind, maps: list[KeptMap]) -> Iterator[Row]:
    """Rows of one kind: what is flagged, what holds, and what is said."""
    table, _ = gathered(maps)
    facts = [kept.findings.facts or {} for kept in maps if kept.findings is not None]
    broken = [kept.failure for kept in maps if kept.findings is None]
    if broken:
        yield Row(f"{kind.what}: maps that finish", f"{len(maps)}", "; ".join(broken), False)
    if kind.grain:
        flagged = sum(fact["grain"] for fact in facts)
        yield _count(f"{kind.what}: maps in which the grain is flagged", flagged, len(facts), LEAST)
    else:
        clean = sum(not fact["regions"] for fact in facts)
        yield _count(f"{kind.what}: maps in which nothing is flagged", clean, len(facts), LEAST_CLEAN)
    matrix = kind.told.phases[0].name
    trusted = table[~table["seed"].isin([fact["seed"] for fact in facts if fact["level"] == "distrust"])]
    for column, when, judged in (
        ("inside", "", table),
        ("inside", ", on maps that are not said not to be trusted", trusted),
        ("before", ", as the whole map gives them", table),
    ):
        if column == "before" and not kind.grain:
            continue
        for what, chosen in (
            (MATRIX, lambda t: (t["quantity"] == "composition") & (t["phase"] == matrix)),
            ("other compositions", lambda t: (t["quantity"] == "composition") & (t["phase"] != matrix)),
            ("partition coefficients", lambda t: t["quantity"] == "partition"),
        ):
            inside = judged.loc[chosen(judged), column].dropna().astype(bool)
            name = f"{kind.what}: intervals of {what} that hold the truth{when}"
            asked = LEAST if what == MATRIX and not when else None
            if len(inside):
                yield _count(name, int(inside.sum()), len(inside), asked)
    levels = [fact["level"] for fact in facts]
    said = ", ".join(f"{level} {levels.count(level)}" for level in ("good", "reservations", "distrust"))
    yield Row(f"{kind.what}: verdicts", "", said)


def _count(what: str, count: int, of: int, least: float | None) -> Row:
    share = count / max(of, 1)
    asked, holds = ("", None) if least is None else (f"at least {least:g}", share >= least)
    return Row(what, asked, f"{share:.3f} ({count} of {of})", holds)


@dataclass(frozen=True)
class Look:
    """Draws the map of a seed, unmixes it, and puts intervals and what is flagged beside the truth."""

    kind: Kind

    def __call__(self, seed: int) -> Findings:
        """Return the findings of one map."""
        from bayesunmix.core.errors import BayesUnmixWarning
        from bayesunmix.pipeline import run_image

        grown = grow(self.kind, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", BayesUnmixWarning)
            result = run_image(grown.image, self.kind.told, None, seed=seed, progress=False)
        regions = result.record.unmodelled_regions.regions if result.record.unmodelled_regions else ()
        facts: dict[str, Any] = {
            "seed": seed,
            "pixels": grown.pixels,
            "set_aside": result.record.set_aside.pixels if result.record.set_aside else 0,
            "grain": any(np.hypot(r.y - grown.y, r.x - grown.x) < NEAR * grown.radius for r in regions),
            "regions": [dataclasses.asdict(region) for region in regions],
            "level": result.verdict.level,
            "findings": [finding.text for finding in result.verdict.findings],
            "timings": dict(result.record.timings),
        }
        table = beside_first(result, reported_intervals(result, grown.truth))
        return Findings(table, result.problems, facts)


@dataclass(frozen=True)
class Grown:
    """A drawn map, the truth of the declared phases, and where the grain lies."""

    image: Any
    truth: KnownComposition
    y: float
    x: float
    radius: float
    pixels: int


def grow(kind: Kind, seed: int) -> Grown:
    """Draw the map of a seed: a grain of its own size, place and edge."""
    from bayesunmix.simulation.phantom import grain_layout

    plan, truths = kind.told.truth()
    matrix = [declared.matrix for declared in kind.told.phases]
    layout, place = (np.random.default_rng(part) for part in np.random.SeedSequence([seed, 150]).spawn(2))
    abundances = grain_layout(plan.shape, [true.fraction for true in truths], matrix, layout)
    pixels = round(float(np.exp(place.uniform(np.log(FEWEST), np.log(MOST)))))
    radius, edge = float(np.sqrt(pixels / np.pi)), place.uniform(*EDGE)
    margin = radius + edge
    y, x = (float(place.uniform(margin, size - 1 - margin)) for size in plan.shape)
    distance = np.hypot(*np.ogrid[-y : plan.shape[0] - y, -x : plan.shape[1] - x])
    if kind.grain:
        share = np.clip(0.5 + (radius - distance) / edge, 0.0, 1.0)
        parts = [abundances * (1.0 - share[..., None]), share[..., None]]
        if kind.rim:
            around = np.clip(0.5 + (radius + RIM - distance) / edge, 0.0, 1.0)
            parts = [
                abundances * (1.0 - around[..., None]),
                share[..., None],
                (around - share)[..., None],
            ]
        abundances = np.concatenate(parts, axis=2)
    simulated = simulate_map(kind.drawn, seed, abundances=abundances)
    count, truth = len(truths), simulated.truth
    known = KnownComposition(truth.phases[:count], truth.elements, truth.composition[:count])
    return Grown(simulated.image, known, y, x, radius, pixels)


def beside_first(result: Result, table: pd.DataFrame) -> pd.DataFrame:
    """Add whether compositions as the whole map gave them hold the truth; the same where nothing was set aside."""
    aside = result.record.set_aside
    if aside is None:
        return table.assign(before=table["inside"].where(table["quantity"] == "composition"))
    first = {(x.phase, x.element): (x.lower, x.upper) for x in aside.before}
    held: list[bool | None] = []
    for row in table.itertuples():
        low, high = first.get((row.phase, row.element), (np.nan, np.nan))
        # An interval that is tested for nothing never begins at zero.
        known = row.truth > 0.0 and not np.isnan(low)
        held.append(bool(low <= row.truth <= high) if known else None)
    return table.assign(before=held)
