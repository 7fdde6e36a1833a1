"""Element maps of the unmixed composition: what each pixel is made of, with an interval."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.analysis.joint_draws import JointDraws, joint_draws
from bayesunmix.analysis.mixtures import check_mixture_unit, phase_compositions
from bayesunmix.analysis.places import taking_part
from bayesunmix.core.credible import interval
from bayesunmix.core.errors import check_flag
from bayesunmix.core.memory import available_bytes, check_room
from bayesunmix.core.progress import Reporter
from bayesunmix.results.map_counts import AnyMap

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

STATISTICS = ("mean", "sd", "lower", "upper")
# Draws of a batch of pixels take about so many bytes, and at most this share of what is free.
BATCH_BYTES, BATCH_SHARE = 64e6, 0.1


def element_maps(
    result: Result, unit: str = "at_frac", *, image: AnyMap | None = None, progress: bool = False
) -> xr.Dataset:
    """Composition of every pixel: those of the phases, mixed by the pixel's abundances, draw by draw.

    Each pixel is drawn as `Result.abundances` has it, so its interval is one of this pixel; for a mean over pixels ask
    `Result.region`.

    Parameters
    ----------
    result
        Of the map.
    unit
        ``at_frac``, ``wt_pct`` or ``oxide_wt_pct``.
    image
        The map, where its file is gone.
    progress
        Show progress on stderr.

    Returns
    -------
    xarray.Dataset
        ``mean``, ``sd``, ``lower`` and ``upper``, each (element, y, x); nan where a pixel takes no part, or is of
        supports alone.

    Raises
    ------
    InputError
        If the unit is none of a mixture, the maps do not fit into memory, or the map is not there.
    """
    check_mixture_unit(unit)
    reporter = Reporter(check_flag("progress", progress))
    with reporter.stage("element maps", said=False):
        return maps_of_draws(result, joint_draws(result, image), unit, reporter.advance)


def maps_of_draws(
    result: Result, source: JointDraws, unit: str = "at_frac", told: Callable[[float], None] = lambda _: None
) -> xr.Dataset:
    """Composition of every pixel, as `element_maps` has it.

    Parameters
    ----------
    result, unit
        As in `element_maps`.
    source
        What pixels are drawn from.
    told
        Told the share that is done; what it raises ends the work.
    """
    used = taking_part(result)
    n_elements = len(result.elements)
    needed = 4.0 * len(STATISTICS) * n_elements * used.size
    check_room("unit", needed, f"hold maps of {n_elements} elements", "Rebin the map, and unmix it again.")
    composition, weight = phase_compositions(result, unit, source.stored)
    elements = [str(name) for name in composition["element"].values]
    chosen = [result.phases.index(name) for name in result.sample_phases]
    tables = (
        composition.values.reshape(-1, len(chosen), len(elements)),
        weight.values.reshape(-1, len(chosen)),
    )
    maps = np.full((len(STATISTICS), len(elements), used.size), np.nan, np.float32)
    pixels = np.flatnonzero(used)
    step = _batch(len(tables[0]), len(elements))
    for first in range(0, len(pixels), step):
        batch = pixels[first : first + step]
        drawn = _drawn(source, batch, chosen, tables)
        maps[:, :, batch] = _statistics(drawn, result.level)
        told((first + len(batch)) / len(pixels))
    grid = maps.reshape(len(STATISTICS), len(elements), *used.shape)
    coords = {"element": elements}
    if "oxide" in composition.coords:
        coords["oxide"] = ("element", [str(name) for name in composition["oxide"].values])  # type: ignore[assignment]
    return xr.Dataset(
        {name: (("element", "y", "x"), values) for name, values in zip(STATISTICS, grid, strict=True)},
        coords=coords,
        attrs={**result.tree["maps"].attrs, "unit": unit, "level": result.level},
    )


def _batch(n_draws: int, n_elements: int) -> int:
    """Pixels whose draws are held at a time."""
    room = min(BATCH_BYTES, BATCH_SHARE * available_bytes())
    return max(int(room / (4.0 * n_draws * n_elements)), 64)


def _drawn(
    source: JointDraws,
    pixels: npt.NDArray[np.int64],
    chosen: list[int],
    tables: tuple[FloatArray, FloatArray],
) -> Float32Array:
    """Compositions of some pixels, (draw, pixel, element)."""
    found = np.empty((len(tables[0]), len(pixels), tables[0].shape[-1]), np.float32)
    with source.threads(len(pixels)):
        for number, one in enumerate(source.draws(pixels, "map", joint=False)):
            amount = one.abundance[:, chosen] * tables[1][number]
            total = amount.sum(axis=1, keepdims=True)
            amount = np.divide(amount, total, out=np.full_like(amount, np.nan), where=total > 0.0)
            found[number] = amount @ tables[0][number]
    return found


def _statistics(drawn: Float32Array, level: float) -> FloatArray:
    """Mean, sd and interval of draws (draw, pixel, element), each (element, pixel); of one draw the mean alone."""
    if len(drawn) == 1:
        unknown = np.full_like(drawn[0].T, np.nan)
        return np.stack([drawn[0].T, unknown, unknown, unknown])
    lower, upper = interval(drawn, level)  # type: ignore[arg-type]
    return np.stack([drawn.mean(axis=0).T, drawn.std(axis=0).T, lower.T, upper.T])
