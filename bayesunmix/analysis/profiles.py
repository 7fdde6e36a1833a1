"""Abundances and composition along a line across the map, with draws.

The line is sampled as `skimage.measure.profile_line` and HyperSpy's line region do it: coordinates are rows and
columns, whole numbers at the centres of pixels; positions lie one pixel apart from the start on, the last at the end
of the line or up to a pixel beyond, `width` samples one pixel apart across it, and each sample is interpolated linearly
between the four pixels around it. As a mean of samples is linear in the pixels, it is taken draw by draw. Samples off
the map, or where a pixel takes no part, leave their share to the others of the position.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.sparse import csr_array

from bayesunmix.analysis.joint_draws import PRIORS, Prior, joint_draws, kind_of_draws, warn_of_point
from bayesunmix.analysis.mixtures import check_mixture_unit, mixed, phase_compositions
from bayesunmix.analysis.places import taking_part
from bayesunmix.core.errors import InputError, check_choice, check_integer, check_number, shown
from bayesunmix.results.map_counts import AnyMap, stored_pixels

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Point = tuple[float, float]

# A position of which less than this share lies on pixels that take part has no value.
LEAST_COVERED = 1e-6


def profile(
    result: Result,
    start: Point,
    end: Point,
    *,
    width: int = 1,
    unit: str = "at_frac",
    prior: Prior | None = None,
    image: AnyMap | None = None,
) -> xr.Dataset:
    """Draws of what lies along a line.

    Parameters
    ----------
    result
        Of the map.
    start, end
        Row and column of the ends of the line, in pixels; fractions are allowed.
    width
        Pixels across the line that are averaged.
    unit
        Of the composition: ``at_frac``, ``wt_pct`` or ``oxide_wt_pct``.
    prior
        As in `bayesunmix.analysis.regions.region`, the region being all pixels of the profile. Left out, it is
        ``region``, or ``map`` for a run with ``spatial = true``, whose pixels know their neighbours.
    image
        The map, where its file is gone.

    Returns
    -------
    xarray.Dataset
        ``abundance`` (chain, draw, position, phase) and ``composition`` (chain, draw, position, element); coordinates
        ``distance`` from the start, in the unit of the pixels, ``row`` and ``column``, all (position,). The attribute
        ``kind`` is that of `bayesunmix.analysis.regions.region`.

    Raises
    ------
    InputError
        If an end lies off the map, the ends are the same, or no pixel of the line takes part; otherwise as `region`.
    """
    used = taking_part(result)
    ends = [_end(name, point, used.shape) for name, point in (("start", start), ("end", end))]
    if np.allclose(ends[0], ends[1]):
        raise InputError("end", "differ from `start`", f"is {shown(end)}, too")
    across = check_integer("width", width, low=1, high=max(used.shape))
    if prior is None:
        prior = "map" if "window_share" in stored_pixels(result) else "region"
    check_choice("prior", prior, PRIORS), check_mixture_unit(unit)
    warn_of_point(result)
    rows, columns = line_samples(ends[0], ends[1], across)
    shares = interpolation(rows, columns, used)
    pixels = np.unique(shares.indices)
    if not len(pixels):
        raise InputError("start, end", "cross a pixel that takes part", "cross none")
    source, picked = joint_draws(result, image), shares[:, pixels]
    with source.threads(len(pixels)):
        drawn = np.stack([picked @ one.abundance for one in source.draws(pixels, prior)])
    drawn[:, shares.sum(axis=1) < LEAST_COVERED] = np.nan
    middle = rows.mean(axis=1), columns.mean(axis=1)
    size = np.ravel(result.tree["maps"].attrs.get("pixel_size", (1.0, 1.0)))
    distance = np.hypot(*((along - along[0]) * step for along, step in zip(middle, size, strict=True)))
    label = str(result.tree["maps"].attrs.get("pixel_unit", ""))
    coordinates: dict[str, Any] = {
        "distance": ("position", distance, {"unit": label}),
        "row": ("position", middle[0]),
        "column": ("position", middle[1]),
    }
    found = xr.Dataset(
        {"abundance": source.labelled(drawn, ("position", "phase"), phase=result.phases)}
    ).assign_coords(coordinates)
    found["composition"] = mixed(found["abundance"], *phase_compositions(result, unit, found))
    about = {"width": across, "prior": prior, "kind": kind_of_draws(result), "distance_unit": label}
    return found.assign_attrs(unit=unit, **about)


def line_samples(start: FloatArray, end: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Rows and columns of the samples of a line, each (position, width)."""
    along = end - start
    length = float(np.hypot(*along))
    direction = along / length
    steps = np.arange(int(np.ceil(length - 1e-9)) + 1)
    side = np.arange(width) - 0.5 * (width - 1)
    rows = start[0] + steps[:, None] * direction[0] - side * direction[1]
    columns = start[1] + steps[:, None] * direction[1] + side * direction[0]
    return rows, columns


def interpolation(rows: FloatArray, columns: FloatArray, used: npt.NDArray[np.bool_]) -> csr_array:
    """Shares of the pixels in each position, (position, pixel), which add up to 1, or to 0 where nothing is.

    Parameters
    ----------
    rows, columns : (position, width)
        Of the samples.
    used : (y, x) bool
        Pixels that take part.
    """
    base = np.floor(rows).astype(int), np.floor(columns).astype(int)
    part = rows - base[0], columns - base[1]
    place = np.broadcast_to(np.arange(len(rows))[:, None], rows.shape)
    found = []
    for down in (0, 1):
        for right in (0, 1):
            y, x = base[0] + down, base[1] + right
            share = np.abs(1 - down - part[0]) * np.abs(1 - right - part[1])
            inside = (y >= 0) & (y < used.shape[0]) & (x >= 0) & (x < used.shape[1]) & (share > 1e-9)
            inside[inside] = used[y[inside], x[inside]]
            found.append((share[inside], place[inside], (y * used.shape[1] + x)[inside]))
    values, position, pixel = (np.concatenate(one) for one in zip(*found, strict=True))
    shares = csr_array((values, (position, pixel)), shape=(len(rows), used.size))
    total = shares.sum(axis=1)
    scaled = shares.multiply(1.0 / np.where(total > LEAST_COVERED, total, 1.0)[:, None])
    return csr_array(scaled)


def _end(name: str, point: object, shape: tuple[int, ...]) -> FloatArray:
    """Return an end of the line, or refuse what is none."""
    given = point.tolist() if isinstance(point, np.ndarray) else point
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(name, "be a row and a column", f"is {shown(point)}")
    found = np.array([check_number(name, value) for value in given])
    if (found < -0.5).any() or (found > np.array(shape) - 0.5).any():
        raise InputError(name, f"lie on the map of {shape[0]} x {shape[1]} pixels", f"is {shown(point)}")
    return found
