"""What neighbours do for abundance maps: error and coverage with and without, and compositions that do not move.

Three kinds of map: grains in a matrix that are pure nowhere, grains that fill the map, and the first kind with its
pixels shuffled, in which neighbours say nothing. The whole job runs twice on each of the first kind, so that
compositions are compared too; on the others the endmembers are the true ones.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from bench import Options, Row
from phantom_coverage import phantom

from bayesunmix.laboratory.maps import one_run

if TYPE_CHECKING:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.results.result import Result
    from bayesunmix.simulation.simulate import SimulatedMap

FloatArray = npt.NDArray[np.float64]

SEEDS = (4, 1)
SHAPE = (64, 64)
FILLED = (0.5, 0.3, 0.2)
LEVEL = 0.95
LEAST_COVERAGE = 0.93
# Ends of intervals lie on a histogram: a truth this close to one is held.
SLACK = 0.01
CHANNELS_PER_BIN = 6


class Judged(NamedTuple):
    """Errors of one map by phase."""

    rmse: FloatArray
    coverage: FloatArray
    width: FloatArray


def rows(options: Options) -> list[Row]:
    """Rows of the whole job, and of the per-pixel pass on three kinds of map."""
    seeds = range(SEEDS[options.quick])
    found = _whole_job(seeds)
    for kind in ("grains in a matrix", "grains that fill the map", "shuffled pixels"):
        pairs = [_with_and_without(kind, seed) for seed in seeds]
        found += _pair_rows(f"{kind}, true endmembers", pairs, sharpened=kind != "shuffled pixels")
    return found


def judge(lower: FloatArray, mean: FloatArray, upper: FloatArray, truth: FloatArray) -> Judged:
    """Error, coverage and width of maps (pixel, phase)."""
    inside = (lower <= truth + SLACK) & (upper >= truth - SLACK)
    rmse = np.sqrt(((mean - truth) ** 2).mean(axis=0))
    return Judged(rmse, inside.mean(axis=0), (upper - lower).mean(axis=0))


def _whole_job(seeds: range) -> list[Row]:
    """Run the job with and without neighbours: maps are judged, compositions compared."""
    pairs, moved = [], 0.0
    for seed in seeds:
        results, judged = [], []
        for spatial in (False, True):
            result, truth = one_run(_config(spatial=spatial), seed)
            maps = result.abundances()
            values = [
                maps[name].transpose("y", "x", "phase").values.reshape(-1, 3)
                for name in ("lower", "mean", "upper")
            ]
            judged.append(judge(*values, truth.abundances.reshape(-1, 3)))
            results.append(result)
        pairs.append((judged[0], judged[1]))
        moved = max(moved, _largest_move(*results))
    title = "grains in a matrix, the whole job, shares of atoms"
    unbiased = Row(
        "the same: largest difference between the compositions' draws", "0", f"{moved:g}", moved == 0.0
    )
    return [*_pair_rows(title, pairs, sharpened=True), unbiased]


def _largest_move(first: Result, second: Result) -> float:
    """Largest difference between two results' composition draws."""
    return float(np.abs(first.composition().values - second.composition().values).max())


def _config(*, spatial: bool) -> RunConfig:
    config = phantom("laplace")
    assert config.simulate is not None
    return dataclasses.replace(
        config,
        simulate=dataclasses.replace(config.simulate, shape=SHAPE),
        inference=dataclasses.replace(config.inference, spatial=spatial),
    )


def _with_and_without(kind: str, seed: int) -> tuple[Judged, Judged]:
    """Judge the per-pixel pass with the true endmembers, without and with neighbours, in shares of counts."""
    from bayesunmix.inference.pixel_posterior import pixel_posterior

    counts, spectra, share = _drawn(kind, seed)
    matrix = None if kind == "grains that fill the map" else np.array([True, False, False])
    judged = []
    for neighbours in (None, np.ones(SHAPE, dtype=bool)):
        found = pixel_posterior(
            counts, spectra[None], np.ones((1, 3)), level=LEVEL, matrix=matrix, neighbours=neighbours
        )
        judged.append(judge(found.lower, found.mean, found.upper, share))
    return judged[0], judged[1]


def _drawn(kind: str, seed: int) -> tuple[npt.NDArray[np.uint16], FloatArray, FloatArray]:
    """Binned counts (pixel, bin), true endmembers and true shares of counts (pixel, phase)."""
    from bayesunmix.simulation.simulate import simulate_map

    config = _config(spatial=False)
    if kind == "grains that fill the map":
        config = dataclasses.replace(
            config,
            phases=tuple(dataclasses.replace(phase, matrix=False) for phase in config.phases),
            simulated_phases=tuple(
                dataclasses.replace(phase, fraction=fraction)
                for phase, fraction in zip(config.simulated_phases, FILLED, strict=True)
            ),
        )
    drawn: SimulatedMap = simulate_map(config, seed)
    starts = np.arange(0, drawn.image.n_channels, CHANNELS_PER_BIN)
    spectra = np.add.reduceat(drawn.truth.endmembers, starts, axis=1)
    spectra = (spectra + 1e-9) / (spectra + 1e-9).sum(axis=1, keepdims=True)
    counts = np.add.reduceat(drawn.image.pixel_matrix(), starts, axis=1, dtype=np.uint16)
    share = (drawn.truth.abundances * drawn.truth.counts_per_atom).reshape(-1, 3)
    share = share / share.sum(axis=1, keepdims=True)
    order = np.arange(len(share))
    if kind == "shuffled pixels":
        order = np.random.default_rng(seed).permutation(len(share))
    return counts[order], spectra, share[order]


def _pair_rows(title: str, pairs: list[tuple[Judged, Judged]], *, sharpened: bool) -> list[Row]:
    """Error and coverage without and with neighbours, averaged over maps."""
    mean = [
        Judged(*(np.mean(field, axis=0) for field in zip(*side, strict=True)))
        for side in zip(*pairs, strict=True)
    ]
    alone, together = mean

    def listed(values: FloatArray, form: str) -> str:
        return ", ".join(f"{value:{form}}" for value in values)

    better = together.rmse.sum() < (1.0 if sharpened else 1.02) * alone.rmse.sum()
    covered = [float(side.coverage.mean()) for side in mean]
    return [
        Row(
            f"{title}: map rmse by phase, {len(pairs)} maps",
            "falls with neighbours" if sharpened else "rises by no more than 2 %",
            f"{listed(alone.rmse, '.4f')} without; {listed(together.rmse, '.4f')} with",
            bool(better),
        ),
        Row(
            f"{title}: coverage of {LEVEL:.0%} intervals by phase, and mean width",
            f"at least {LEAST_COVERAGE} on average",
            f"{listed(alone.coverage, '.3f')} ({alone.width.mean():.3f}) without; "
            f"{listed(together.coverage, '.3f')} ({together.width.mean():.3f}) with",
            min(covered) >= LEAST_COVERAGE,
        ),
    ]
