"""What is said where the model is wrong: an unlisted grain, a hole, a zoned matrix, and a phase too few or too many.

All maps are 71 GPa-like: the embedded phantom's phases, on its own layout or, where the folder of measured maps is
given and --quick is not, on the abundances of the 71 GPa map. Line strengths and thickness are off by draws of their
priors.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from bench import Options, Row
from grown_phantom import Departures, GrownMap, grow, measured_abundances
from phantom_coverage import phantom

from bayesunmix.config import RunConfig
from bayesunmix.result import Result

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
    abundances = None
    if options.data is not None and not options.quick:
        abundances = measured_abundances(options.data)
    seeds = range(FEW if options.quick else MANY)
    found: list[Row] = []
    for kind, departures in KINDS.items():
        runs = [one_run(seed, departures, abundances) for seed in seeds]
        found += list(KIND_ROWS[kind](runs))
    return [*found, number_row(range(1 if options.quick else 5))]


def one_run(
    seed: int,
    departures: Departures,
    abundances: FloatArray | None = None,
    config: RunConfig | None = None,
) -> tuple[GrownMap, Result]:
    """Draw one map and unmix it as if it were what the phantom declares."""
    from bayesunmix.errors import BayesUnmixWarning
    from bayesunmix.run import run_image

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
        "Si" in region["excess"]
        and np.hypot(region["y"] - grown.centre[0], region["x"] - grown.centre[1]) < NEAR * radius
        for region in result.run["misfit"]
    )


def matrix_inside(grown: GrownMap, result: Result, *, model: bool = False) -> list[bool]:
    """Whether the interval of each element of the matrix holds the mean composition of the map."""
    table = result.summary()
    table = table[table["phase"] == result.phases[0]]
    suffix = "_model" if model and "sd_model" in table else ""
    lower, upper = table[f"lower{suffix}"].to_numpy(), table[f"upper{suffix}"].to_numpy()
    return [bool(inside) for inside in (lower <= grown.composition[0]) & (grown.composition[0] <= upper)]


def _none_rows(runs: list[tuple[GrownMap, Result]]) -> Iterator[Row]:
    clean = sum(not result.run["misfit"] for _, result in runs)
    yield _share("no grain: maps in which nothing is flagged", clean, len(runs), LEAST_CLEAN)
    used = sum(result.run["robust"]["used"] for _, result in runs)
    yield Row("homogeneous: maps that use robust intervals", "", f"{used} of {len(runs)}")


def _grain_rows(runs: list[tuple[GrownMap, Result]]) -> Iterator[Row]:
    flagged = sum(found_grain(grown, result) for grown, result in runs)
    yield _share(f"silica grain of {GRAIN} pixels: flagged, too much Si", flagged, len(runs), LEAST_FLAGGED)


def _hole_rows(runs: list[tuple[GrownMap, Result]]) -> Iterator[Row]:
    flagged = sum(any(region["kind"] == "hole" for region in result.run["misfit"]) for _, result in runs)
    yield _share(f"hole of {HOLE} pixels: flagged as a hole", flagged, len(runs), LEAST_FLAGGED)


def _zoned_rows(runs: list[tuple[GrownMap, Result]]) -> Iterator[Row]:
    inside = np.array([matrix_inside(*run) for run in runs])
    own = np.array([matrix_inside(*run, model=True) for run in runs])
    used = sum(result.run["robust"]["used"] for _, result in runs)
    name = f"matrix zoned by {100 * ZONING:.0f} %: intervals of its mean composition that hold it"
    yield _share(name, int(inside.sum()), inside.size, LEAST_COVERED)
    yield Row(f"{name}, the model's own", "", f"{own.mean():.3f} ({int(own.sum())} of {own.size})")
    yield Row("zoned: maps that use robust intervals", "", f"{used} of {len(runs)}")
    flagged = sum(bool(result.run["misfit"]) for _, result in runs)
    yield Row("zoned: maps with a flagged place", "", f"{flagged} of {len(runs)}")


KIND_ROWS = {"none": _none_rows, "grain": _grain_rows, "hole": _hole_rows, "zoned": _zoned_rows}


def number_row(seeds: range) -> Row:
    """Row of the number of phases that is inferred of the three that are there."""
    config = dataclasses.replace(phantom("laplace"), phases="auto", simulated_phases=())
    chosen = [one_run(seed, Departures(), config=config)[1].run["phase_number"]["chosen"] for seed in seeds]
    said = ", ".join(map(str, chosen))
    return Row("number of phases inferred, three there", "3", said, all(number == 3 for number in chosen))


def _share(what: str, count: int, of: int, least: float) -> Row:
    return Row(what, f"at least {least:g}", f"{count / of:.3f} ({count} of {of})", count / of >= least)
