"""What the page's script draws: spectra and maps as compact arrays, and the script itself.

The static pictures stand in the page whatever happens; where a script runs, it puts panels in their place that can be
zoomed and pointed at (`live_spectra.js`, `live_maps.js`, started by `live.js`). Nothing is fetched: numbers lie in the
page as base 64 of deflated bytes, the first bytes of all numbers before the second ones, which deflate better so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
import xarray as xr
from markupsafe import Markup
from matplotlib.colors import to_hex

from bayesunmix.data.image import WHOLE_MAP
from bayesunmix.plot.fit import labelled, pooled_residuals
from bayesunmix.plot.labels import held_elements, visible_lines
from bayesunmix.plot.maps import mean_tops, pixel_grid, sd_top
from bayesunmix.plot.parts import element_parts, largest_parts, line_texts, part_look, strong_lines
from bayesunmix.plot.style import GREY, INK, FloatArray
from bayesunmix.results.pixel_group import DIGITS, rounded

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

SCRIPTS = ("live_spectra.js", "live_maps.js", "live.js")
MOST_BYTES = 1_400_000
"""Maps of more bytes are pooled: with the pictures the page then stays below 5 MB."""

STEP = 1e-3
"""Abundances and their sd are rounded to this; the largest whole number stands for a pixel that takes no part."""

_LEFT_OUT = np.iinfo(np.uint16).max
# Deflated bytes of one rounded number at most, for noise that fills the whole range; base 64 makes four of three.
_BYTES_PER_NUMBER = 1.3 * 4.0 / 3.0
_COLOURS = 32


class Live(NamedTuple):
    """Script and numbers of a page; `digest` names the script to the browser, which runs no other."""

    script: Markup
    digest: str
    data: Markup


def live_parts(result: Result) -> Live:
    """Return the script of a page and the numbers of a result that it draws."""
    found = {"fit": fit_panel(result), "spectra": endmember_panel(result)}
    maps = map_panels(result)
    if maps is not None:
        found["maps"] = maps
    # What begins a tag would end the element that the numbers stand in.
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    script = _script()
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    return Live(Markup(script), digest, Markup(text))


@cache
def _script() -> str:
    folder = files("bayesunmix.report")
    return "\n" + "\n".join(folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS)


def packed(values: npt.NDArray[Any]) -> dict[str, Any]:
    """Return numbers as their type, count and letters.

    Parameters
    ----------
    values
        Whole numbers up to 65535 or floating-point numbers, of any shape; of these 24 binary digits are kept.
    """
    kind = "u2" if values.dtype.kind == "u" else "f4"
    flat = np.ascontiguousarray(values, f"<{kind}").ravel()
    planes = flat.view(np.uint8).reshape(flat.size, flat.itemsize).T
    letters = base64.b64encode(zlib.compress(planes.tobytes(), 3)).decode("ascii")
    return {"type": kind, "count": flat.size, "letters": letters}


def fit_panel(result: Result) -> dict[str, Any]:
    """Return counts and fit of the map and of each phase's pixels by bin, and the parts of the map's fit."""
    data = result.tree["fit"].dataset
    expected = np.asarray(data["expected"].values, np.float64)
    edges = np.append(data["energy_low"].values, data["energy_high"].values[-1]).astype(np.float64)
    by_phase = np.asarray(data["expected_by_phase"].values, np.float64)
    spectra = [(WHOLE_MAP, data["observed"].values, expected)]
    if "segment_observed" in data:
        names = [labelled(phase) for phase in result.phases]
        spectra += zip(names, data["segment_observed"].values, data["segment_expected"].values, strict=True)
    parts = {"phase": dict(zip(result.phases, by_phase, strict=True)), "element": {}}
    stored = result.tree["pixels"].dataset if "pixels" in result.tree.children else xr.Dataset()
    if stored.sizes.get("energy_bin") == len(expected):
        found = element_parts(stored, by_phase, expected)
        parts["element"] = largest_parts(found, float(expected.sum()))
    return {
        "edges": packed(edges),
        "spectra": [
            {
                "name": name,
                "counts": packed(np.asarray(counts, np.float64)),
                "fit": packed(fit),
                "residual": _residual(counts, fit),
            }
            for name, counts, fit in spectra
            if float(np.sum(counts)) > 0.0
        ],
        "looks": {"counts": [GREY, "solid"], "fit": [INK, "solid"]},
        "parts": {
            by: [_part(name, number, values) for number, (name, values) in enumerate(named.items())]
            for by, named in parts.items()
            if named
        },
        **_lines(result, edges, expected[np.newaxis] / np.diff(edges)),
    }


def endmember_panel(result: Result) -> dict[str, Any]:
    """Return the endmember spectra with their bands, channel by channel where they were fitted."""
    data = result.endmembers()
    data = data.sel(energy=data["energy"] > 0.0)
    middle = np.asarray(data["energy"].values, np.float64)
    step = float(middle[1] - middle[0]) if len(middle) > 1 else 1.0
    edges = np.append(middle - step / 2.0, middle[-1] + step / 2.0)
    series = []
    for number, name in enumerate(result.phases):
        bands = {key: packed(_short(data[key].values[number])) for key in ("mean", "lower", "upper")}
        colour, dash = part_look(name, number)
        series.append({"name": name, "look": [colour, dash], **bands})
    spectra = np.nan_to_num(np.asarray(data["mean"].values, np.float64))
    return {"edges": packed(edges), "series": series, **_lines(result, edges, spectra)}


def map_panels(result: Result, most_bytes: int = MOST_BYTES) -> dict[str, Any] | None:
    """Return abundance, its sd and the counts of every pixel, or of squares of pixels where that would be too large.

    Parameters
    ----------
    result
        The result of a run.
    most_bytes
        That all maps may take in the page.

    Returns
    -------
    dict or None
        Of a square: means of abundance and counts, and the root mean square of the sd. None for a line scan or a single
        spectrum, whose pictures show every number.
    """
    data = result.tree["maps"].dataset
    grid = pixel_grid(data)
    if grid.kind != "map":
        return None
    rows, columns = grid.shape
    numbers = (2 * len(result.phases) + 1) * rows * columns * _BYTES_PER_NUMBER
    side = max(1, int(np.ceil(np.sqrt(numbers / most_bytes))))
    mean, sd = (np.asarray(data[f"abundance_{name}"].values, np.float64) for name in ("mean", "sd"))
    counts = np.asarray(result.tree["constant_data"]["total_counts"].values, np.float64)
    counts = np.where(np.isfinite(mean).all(axis=0), counts, np.nan)
    tops = mean_tops(mean)
    pooled_mean, pooled_sd = _pooled(mean, side), np.sqrt(_pooled(sd**2, side))
    pooled_counts = _pooled(counts[np.newaxis], side)[0]
    return {
        "shape": list(pooled_counts.shape),
        "side": side,
        "whole": [rows, columns],
        "aspect": grid.aspect,
        "step": STEP,
        "left_out": _LEFT_OUT,
        "counts": packed(pooled_counts),
        "palettes": {"mean": _palette("viridis"), "sd": _palette("magma")},
        "phases": [
            {
                "name": phase,
                "colour": part_look(phase, number)[0],
                "mean": {"top": tops[number], "values": packed(_steps(pooled_mean[number]))},
                "sd": {"top": sd_top(sd[number]), "values": packed(_steps(pooled_sd[number]))},
            }
            for number, phase in enumerate(result.phases)
        ],
    }


def _residual(counts: FloatArray, fit: FloatArray) -> dict[str, Any] | None:
    """Residuals by bin, those of bins that are taken together at each of them; None where they say nothing."""
    found = pooled_residuals(counts, fit)
    if found is None:
        return None
    return packed(np.repeat(found.values, np.diff(np.append(found.starts, len(fit)))))


def _part(name: str, number: int, values: FloatArray) -> dict[str, Any]:
    return {"name": name, "look": list(part_look(name, number)), "values": packed(values)}


def _lines(result: Result, edges: FloatArray, spectra: FloatArray) -> dict[str, Any]:
    """Return lines for what stands near the cursor, and the names that are written over spectra (spectrum, energy)."""
    lines = result.tree["lines"].dataset
    strong = strong_lines(lines)
    energies = [round(float(keV), 4) for keV in strong["energy_keV"].values]
    held = held_elements(result)
    middle, window = (edges[:-1] + edges[1:]) / 2.0, (float(edges[0]), float(edges[-1]))
    found = {name for one in spectra for name in visible_lines(lines, window, middle, one, held)}
    names = [
        [one.text, round(one.energy_keV, 4), one.stray]
        for one in sorted(found, key=lambda one: one.energy_keV)
    ]
    return {"lines": list(zip(line_texts(strong), energies, strict=True)), "names": names}


def _short(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Round a spectrum (energy,) to so many binary digits that it deflates well."""
    return rounded(np.maximum(np.nan_to_num(np.asarray(values, np.float64)), 0.0), DIGITS)


def _pooled(values: FloatArray, side: int) -> FloatArray:
    """Means of squares of pixels, (phase, y, x) to (phase, rows, columns), over those that take part."""
    if side == 1:
        return values
    taken = np.isfinite(values)
    sums = [
        np.add.reduceat(np.add.reduceat(one, _starts(one.shape[1], side), 1), _starts(one.shape[2], side), 2)
        for one in (np.where(taken, values, 0.0), taken.astype(np.float64))
    ]
    means: FloatArray = np.divide(sums[0], sums[1], out=np.full(sums[0].shape, np.nan), where=sums[1] > 0.0)
    return means


def _starts(count: int, side: int) -> npt.NDArray[np.int64]:
    return np.arange(0, count, side)


def _steps(values: FloatArray) -> npt.NDArray[np.uint16]:
    """Whole numbers of `STEP`, and that of a pixel without a value."""
    return np.where(np.isfinite(values), np.round(np.nan_to_num(values) / STEP), _LEFT_OUT).astype(np.uint16)


def _palette(name: str) -> list[str]:
    scale = matplotlib.colormaps[name]
    return [to_hex(scale(place)) for place in np.linspace(0.0, 1.0, _COLOURS)]
