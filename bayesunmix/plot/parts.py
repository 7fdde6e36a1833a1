"""Parts of a fitted spectrum: which are shown, and in which colours, dashes and words, wherever a spectrum is drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.plot.style import GREY, PHASE_COLOURS, FloatArray

CONTINUUM = "continuum and rest"
DASHES = ("solid", "dashed", "dotted", "dotdash")
# Of the parts by element, those that hold at least this share of the fitted counts are drawn, so many at most.
LEAST_SHARE, MOST_PARTS = 2e-3, 12


def element_parts(stored: xr.Dataset, by_phase: FloatArray, fit: FloatArray) -> dict[str, FloatArray]:
    """Share a fit out among the elements: each phase's endmember has parts of its own.

    Parameters
    ----------
    stored
        Group ``pixels`` of a result.
    by_phase : (phase, energy)
        Counts of each phase in the fit.
    fit : (energy,)
        All counts of it.

    Returns
    -------
    dict
        Counts (energy,) by element, and what remains; none where the result holds no parts.
    """
    if "element_part" not in stored:
        return {}
    parts = stored["element_part"]
    found = np.einsum("k,kec->ec", by_phase.sum(axis=1), np.asarray(parts.values, np.float64))
    named = {str(name): part for name, part in zip(np.atleast_1d(parts.coords["source"]), found, strict=True)}
    return named | {CONTINUUM: np.maximum(fit - found.sum(axis=0), 0.0)}


def largest_parts(
    parts: Mapping[str, FloatArray], total: float, least: float = LEAST_SHARE
) -> dict[str, FloatArray]:
    """Return the parts (energy,) that hold more than a share of `total`, the largest `MOST_PARTS` of them."""
    sums = {name: float(part.sum()) for name, part in parts.items()}
    largest = sorted(sums, key=lambda name: -sums[name])[:MOST_PARTS]
    return {name: part for name, part in parts.items() if name in largest and sums[name] > least * total}


def part_look(name: str, number: int) -> tuple[str, str]:
    """Colour and dashes of the part of that number: a phase's is its place in the result."""
    if name == CONTINUUM:
        return GREY, "dashed"
    count = len(PHASE_COLOURS)
    return PHASE_COLOURS[number % count], DASHES[number // count % len(DASHES)]


def line_texts(lines: xr.Dataset) -> list[str]:
    """Name every line of the group ``lines`` with its family and energy."""
    columns = (lines[name].values for name in ("element", "line_name", "family", "energy_keV", "stray"))
    return [
        f"{element} {name} ({family}), {keV:.3f} keV{', stray' if stray else ''}"
        for element, name, family, keV, stray in zip(*columns, strict=True)
    ]


def strong_lines(lines: xr.Dataset, weakest: float = 0.1) -> xr.Dataset:
    """Return the lines of at least a share of the strength of their element's strongest one."""
    strong: npt.NDArray[np.bool_] = np.asarray(lines["strength_share"].values >= weakest)
    return lines.isel(line=strong)
