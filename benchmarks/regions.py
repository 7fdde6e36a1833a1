"""Coverage of what is asked of pixels together: means of regions, positions of profiles, element maps.

Maps of the embedded phantom, 48 x 48 pixels, each with its own layout, counts and line strengths, unmixed as a whole;
regions are squares of 10 x 10 pixels wherever they lie, profiles are three pixels wide. The same squares with each
pixel drawn by itself (``prior="map"``) show what weights of their own are for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from bench import Options, Row
from phantom_coverage import phantom

from bayesunmix.laboratory.maps import KEYS, coverage_of

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import Truth

FloatArray = npt.NDArray[np.float64]

SEEDS = (20, 2)
SHAPE = (48, 48)
SIDE, STEP = 10, 14
WIDTH = 3
LINES = (((6.0, 2.0), (40.0, 45.0)), ((44.0, 4.0), (5.0, 30.0)))
# Of the pixels of element maps so many are looked at.
EVERY = 7
# A truth that an interval misses by less is held: a phase that is nowhere in a region is there by less than that.
SLACK = 0.001
WANTED = (0.93, 0.97)


def rows(options: Options) -> list[Row]:
    """Rows of coverage and width, without and with neighbours."""
    seeds = range(SEEDS[options.quick])
    tables = {}
    for spatial in (False, True):
        table, failures = coverage_of(
            config(spatial=spatial),
            seeds,
            options.work / f"regions_{'with' if spatial else 'without'}_neighbours",
            intervals=looked_at,
            facts={"spatial": spatial, "side": SIDE, "seeds": "phantom", "layout": 1},
            processes=options.processes,
        )
        # What a run says of itself is judged elsewhere.
        failed = [text for text in failures if "Error" in text]
        tables[spatial] = table
        if failed:
            return [Row("regions: maps that fail", "none", "; ".join(failed), False)]
    return [row for spatial, table in tables.items() for row in _rows(table, spatial)]


def config(*, spatial: bool) -> RunConfig:
    """Return the configuration of the maps."""
    declared = phantom("laplace")
    return dataclasses.replace(
        declared,
        simulate=dataclasses.replace(declared.simulate, shape=SHAPE),
        inference=dataclasses.replace(declared.inference, spatial=spatial),
    )


def looked_at(result: Result, truth: Truth) -> pd.DataFrame:
    """Return all intervals of a map beside the truth."""
    return pd.DataFrame([*_regions(result, truth), *_profiles(result, truth), *_maps(result, truth)])


def _regions(result: Result, truth: Truth) -> Iterator[dict[str, Any]]:
    for y in range(0, SHAPE[0] - SIDE + 1, STEP):
        for x in range(0, SHAPE[1] - SIDE + 1, STEP):
            place = np.s_[y : y + SIDE, x : x + SIDE]
            share = truth.abundances[place].mean(axis=(0, 1))
            # Neighbours are not asked for a region with weights of its own: its draws are those without them.
            for prior in ("map",) if result.record.config.inference.spatial else ("region", "map"):
                found = result.region(place, prior=prior)
                for k, phase in enumerate(truth.phases):
                    drawn = found["abundance"].sel(phase=phase).values.ravel()
                    yield _judged(f"region, {prior}", phase, "", drawn, share[k], result.level)
                for e, element in enumerate(truth.elements if prior == "region" else ()):
                    drawn = found["composition"].sel(element=element).values.ravel()
                    true = float(share @ truth.composition[:, e])
                    yield _judged("region, composition", "", element, drawn, true, result.level)


def _profiles(result: Result, truth: Truth) -> Iterator[dict[str, Any]]:
    from bayesunmix.analysis.profiles import interpolation, line_samples

    flat = truth.abundances.reshape(-1, len(truth.phases))
    for start, end in LINES:
        found = result.profile(start, end, width=WIDTH)
        samples = line_samples(np.array(start), np.array(end), WIDTH)
        share = interpolation(*samples, np.ones(SHAPE, bool)) @ flat
        for k, phase in enumerate(truth.phases):
            drawn = found["abundance"].sel(phase=phase).stack(all=("chain", "draw")).values
            for position, values in enumerate(drawn):
                yield _judged("profile", phase, "", values, share[position, k], result.level)


def _maps(result: Result, truth: Truth) -> Iterator[dict[str, Any]]:
    maps = result.element_maps()
    true = truth.abundances @ truth.composition
    lower, upper = (maps[name].transpose("y", "x", "element").values for name in ("lower", "upper"))
    for pixel in range(0, true[..., 0].size, EVERY):
        at = np.unravel_index(pixel, SHAPE)
        for e, element in enumerate(truth.elements):
            yield _row("element map", "", element, lower[at][e], upper[at][e], true[at][e], 0.0)


def _judged(
    quantity: str, phase: str, element: str, drawn: FloatArray, true: float, level: float
) -> dict[str, Any]:
    lower, upper = np.quantile(drawn, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return _row(quantity, phase, element, lower, upper, true, 0.0 if element else SLACK)


def _row(
    quantity: str, phase: str, element: str, lower: float, upper: float, true: float, slack: float
) -> dict[str, Any]:
    inside = bool(lower - slack <= true <= upper + slack)
    values = (quantity, phase, element, float(true), float(lower), float(upper), inside)
    return dict(zip([*KEYS, "truth", "lower", "upper", "inside"], values, strict=True))


def _rows(table: pd.DataFrame, spatial: bool) -> Iterator[Row]:
    """Rows of one kind of run: each quantity's coverage, by phase, and the median width."""
    for quantity, group in table.groupby("quantity", sort=False):
        inside, width = group["inside"].astype(bool), group["upper"] - group["lower"]
        by_phase = [
            f"{phase} {part.mean():.3f}"
            for phase, part in inside.groupby(group["phase"], sort=False)
            if phase
        ]
        asked = quantity != "region, map"
        share = float(inside.mean())
        yield Row(
            f"{quantity}, {'with' if spatial else 'without'} neighbours: share of intervals that hold the truth",
            f"{WANTED[0]} to {WANTED[1]}" if asked else "",
            f"{share:.3f} of {len(group)}"
            + (f" ({', '.join(by_phase)})" if by_phase else "")
            + f", mean width {width.mean():.4f}",
            (WANTED[0] <= share <= WANTED[1]) if asked else None,
        )
