"""What is said where the model is wrong: an unlisted grain, a hole, a zoned matrix, and a phase too few or too many.

All maps are 71 GPa-like: the embedded phantom's phases, on its own layout or, where the folder of measured maps is
given and --quick is not, on the abundances of the 71 GPa map. Line strengths and thickness are off by draws of their
priors.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from grown_phantom import ZONED, Departures, GrownMap, grow, measured_abundances
from phantom_coverage import phantom

from bayesunmix.checks.regions import MapRegion
from bayesunmix.config.run_config import RunConfig
from bayesunmix.laboratory.maps import Findings, gathered, kept_maps
from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

GRAIN, HOLE, ZONING = 150, 60, 0.15
MANY, FEW = 20, 2
LEAST_FLAGGED = LEAST_CLEAN = 19 / 20
LEAST_COVERED = 0.90
# A region whose middle is this near to the grain's, in radii of the grain, is the grain.
NEAR = 1.5
KINDS = {
    "none": Departures(),
    "grain": Departures(grain=GRAIN),
    "hole": Departures(hole=HOLE),
    "zoned": Departures(zoning=ZONING),
}


def rows(options: Options) -> list[Row]:
    """Rows of all kinds."""
    data = None if options.quick else options.data
    seeds = range(FEW if options.quick else MANY)
    found: list[Row] = []
    for kind, departures in KINDS.items():
        study = {"maps": kind, "abundances": "made up" if data is None else "measured"}
        maps = kept_maps(
            Look(departures, data), seeds, options.work / "model_checks" / kind, study, options.processes
        )
        table, failures = gathered(maps)
        finished = [kept.findings.facts for kept in maps if kept.findings is not None and kept.findings.facts]
        found += [*KIND_ROWS[kind](finished, table), _verdict_row(kind, len(maps), len(finished), failures)]
    return [*found, number_row(range(1 if options.quick else 5))]


@dataclass(frozen=True)
class Look:
    """Draws the map of a seed, unmixes it as if it were what the phantom declares, and says what is flagged.

    Parameters
    ----------
    departures
        What the map has besides.
    data
        Folder that holds the abundances of the 71 GPa map; None for made-up ones.
    """

    departures: Departures
    data: Path | None = None

    def __call__(self, seed: int) -> Findings:
        """Return the matrix's intervals beside its mean composition, and what is flagged."""
        abundances = None if self.data is None else measured_abundances(self.data)
        grown, result = one_run(seed, self.departures, abundances)
        regions = _regions(result)
        facts = {
            "places": len(regions),
            "holes": sum(region.kind == "hole" for region in regions),
            "grain": found_grain(grown, result),
            "robust": bool(result.record.heterogeneity and result.record.heterogeneity.widened),
        }
        return Findings(matrix_intervals(grown, result), result.problems, facts)


def one_run(
    seed: int,
    departures: Departures,
    abundances: FloatArray | None = None,
    config: RunConfig | None = None,
) -> tuple[GrownMap, Result]:
    """Draw one map and unmix it as if it were what the phantom declares."""
    from bayesunmix.core.errors import BayesUnmixWarning
    from bayesunmix.pipeline import run_image

    drawn = phantom("laplace")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        grown = grow(drawn, seed, departures, abundances)
        result = run_image(grown.image, config or drawn, None, seed=seed, progress=False)
    return grown, result


def found_grain(grown: GrownMap, result: Result) -> bool:
    """Whether a region that has too much Si lies on the grain."""
    radius = np.sqrt(GRAIN / np.pi)
    return any(
        "Si" in region.excess
        and np.hypot(region.y - grown.centre[0], region.x - grown.centre[1]) < NEAR * radius
        for region in _regions(result)
    )


def _regions(result: Result) -> tuple[MapRegion, ...]:
    """Return what no mixture of the phases explains."""
    found = result.record.unmodelled_regions
    return () if found is None else found.regions


def matrix_intervals(grown: GrownMap, result: Result) -> pd.DataFrame:
    """Return the matrix's intervals, those reported and the model's own, beside the mean composition of the map."""
    table = result.summary()
    table = table[table["phase"] == result.phases[0]]
    truth = grown.composition[0]
    found = pd.DataFrame({"quantity": "composition", "phase": result.phases[0], "element": table["element"]})
    found["truth"] = truth
    for name in ("", "_model"):
        ends = [f"{end}{name}" if f"{end}{name}" in table else end for end in ("lower", "upper")]
        lower, upper = (table[end].to_numpy(dtype=float) for end in ends)
        found[f"lower{name}"], found[f"upper{name}"] = lower, upper
        found[f"inside{name}"] = (lower <= truth) & (truth <= upper)
    return found


Facts = list[Mapping[str, Any]]


def _none_rows(maps: Facts, table: pd.DataFrame) -> Iterator[Row]:
    clean = sum(facts["places"] == 0 for facts in maps)
    yield _share("no grain: maps in which nothing is flagged", clean, len(maps), LEAST_CLEAN)
    used = sum(facts["robust"] for facts in maps)
    yield Row("homogeneous: maps that use robust intervals", "", f"{used} of {len(maps)}")


def _grain_rows(maps: Facts, table: pd.DataFrame) -> Iterator[Row]:
    flagged = sum(facts["grain"] for facts in maps)
    yield _share(f"silica grain of {GRAIN} pixels: flagged, too much Si", flagged, len(maps), LEAST_FLAGGED)


def _hole_rows(maps: Facts, table: pd.DataFrame) -> Iterator[Row]:
    flagged = sum(facts["holes"] > 0 for facts in maps)
    yield _share(f"hole of {HOLE} pixels: flagged as a hole", flagged, len(maps), LEAST_FLAGGED)


def _zoned_rows(maps: Facts, table: pd.DataFrame) -> Iterator[Row]:
    inside, own = table["inside"].astype(bool), table["inside_model"].astype(bool)
    name = f"matrix zoned by {100 * ZONING:.0f} %: intervals of its mean composition that hold it"
    yield _share(name, int(inside.sum()), inside.size, LEAST_COVERED)
    yield Row(f"{name}, the model's own", "", f"{own.mean():.3f} ({int(own.sum())} of {own.size})")
    for element in ZONED:
        part = table[table["element"] == element]
        held = int(part["inside"].sum())
        yield Row(f"{name}, {element} alone", "", f"{held} of {len(part)}")
    used = sum(facts["robust"] for facts in maps)
    yield Row("zoned: maps that use robust intervals", "", f"{used} of {len(maps)}")
    flagged = sum(facts["places"] > 0 for facts in maps)
    yield Row("zoned: maps with a flagged place", "", f"{flagged} of {len(maps)}")


def _chosen(result: Result) -> int:
    """Return the number of phases that was inferred; 0 where none was."""
    found = result.record.phase_number
    return 0 if found is None else found.chosen


def _verdict_row(kind: str, many: int, finished: int, failures: list[str]) -> Row:
    said = f"{finished} of {many}" + (f" ({'; '.join(failures)})" if failures else "")
    return Row(f"{kind}: maps that finish", f"{many}", said, finished == many)


KIND_ROWS = {"none": _none_rows, "grain": _grain_rows, "hole": _hole_rows, "zoned": _zoned_rows}


def number_row(seeds: range) -> Row:
    """Row of the number of phases that is inferred of the three that are there."""
    config = dataclasses.replace(phantom("laplace"), phases="auto", simulated_phases=())
    chosen = [_chosen(one_run(seed, Departures(), config=config)[1]) for seed in seeds]
    said = ", ".join(map(str, chosen))
    return Row("number of phases inferred, three there", "3", said, all(number == 3 for number in chosen))


def _share(what: str, count: int, of: int, least: float) -> Row:
    return Row(what, f"at least {least:g}", f"{count / of:.3f} ({count} of {of})", count / of >= least)
