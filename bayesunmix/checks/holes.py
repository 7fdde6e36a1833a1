"""Holes: places that are far thinner than what is around them.

A hole holds few counts, hence no spectrum that could misfit: it is found by its counts, far below those that its phases
would give as thick as what is around it. A grain of a phase that emits little is none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from bayesunmix.checks.regions import MapRegion

FloatArray = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# A hole has less than this share of the thickness around it; a window of so many expected counts decides.
HOLLOW, HOLLOW_COUNTS = 0.4, 100.0
# Side of the surroundings, relative to the map's.
SURROUNDINGS = 0.35
EVERYWHERE = np.ones((3, 3), bool)


def find_holes(totals: FloatArray, mass_per_count: FloatArray, kept: Mask) -> list[tuple[MapRegion, Mask]]:
    """Regions that are far thinner than what is around them, and their pixels.

    Parameters
    ----------
    totals : (y, x)
        Counts.
    mass_per_count : (y, x)
        Mass that a count of the pixel's mixture stands for; of a pixel without a count it is not known.
    kept : (y, x) bool
        What is left out is taken to be as what is beside it.
    """
    counted = kept & (totals > 0)
    mass_per_count = np.where(counted, mass_per_count, mass_per_count[counted].mean())
    matter, around = totals * mass_per_count, _surroundings(totals * mass_per_count, kept)
    hollow = around.hollow & kept
    # Pixels without a count take no part, and must not make many holes of one.
    label, count = ndimage.label(ndimage.binary_dilation(hollow, EVERYWHERE), EVERYWHERE)
    found = []
    for number in range(1, count + 1):
        core = hollow & (label == number)
        ratio = float(matter[core].sum() / around.level[core].sum())
        # Of windows that are hollow the pixels themselves may not be.
        if ratio >= HOLLOW:
            continue
        rows, columns = np.nonzero(core)
        expected = float((around.level[core] / mass_per_count[core]).sum())
        hole = MapRegion(
            y=float(rows.mean()),
            x=float(columns.mean()),
            pixels=int(core.sum()),
            sigma=float((1.0 - ratio) * np.sqrt(max(expected, 1.0))),
            kind="hole",
            excess={},
            lacking={},
            counts_ratio=ratio,
        )
        found.append((hole, core))
    return found


class _Surroundings(NamedTuple):
    """What is around each pixel (y, x), and whether the pixel's window holds far less than that."""

    level: FloatArray
    hollow: Mask


def _surroundings(matter: FloatArray, kept: Mask) -> _Surroundings:
    """Compare windows with the median of their surroundings; pixels that are left out are as those beside."""
    shape = matter.shape
    if not kept.all():
        nearest = ndimage.distance_transform_edt(~kept, return_distances=False, return_indices=True)
        matter = matter[tuple(nearest)]
    middle = float(np.median(matter[kept]))
    side = 3
    while side * min(side, *shape) * middle < HOLLOW_COUNTS and side < max(shape) // 4:
        side += 2
    pooled = ndimage.uniform_filter(matter, side, mode="nearest")
    step = max(1, min(shape) // 32)
    wide = [max(3, int(SURROUNDINGS * size / step) // 2 * 2 + 1) if size > 1 else 1 for size in shape]
    coarse = ndimage.median_filter(pooled[::step, ::step], size=tuple(wide), mode="nearest")
    around = np.repeat(np.repeat(coarse, step, axis=0), step, axis=1)[: shape[0], : shape[1]]
    level = np.maximum(around, 0.5 * middle)
    enough = level * min(side, shape[0]) * min(side, shape[1]) >= 0.5 * HOLLOW_COUNTS
    return _Surroundings(level, np.asarray((pooled < HOLLOW * level) & enough))
