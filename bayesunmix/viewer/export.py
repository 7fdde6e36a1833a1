"""A choice as files: its spectrum and its table as CSV, its pixels as a mask."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import astuple, fields

import numpy as np

from bayesunmix.viewer.choices import Mask
from bayesunmix.viewer.spectra import ShownSpectrum
from bayesunmix.viewer.tables import ShownRow


def spectrum_csv(spectrum: ShownSpectrum) -> bytes:
    """Return bins, counts, fit, standardised residuals and the parts of the fit, a row for each bin."""
    columns = {
        "energy_low_keV": spectrum.edges_keV[:-1],
        "energy_high_keV": spectrum.edges_keV[1:],
        "counts": spectrum.counts,
        "fit": spectrum.fit,
        "residual": spectrum.residuals,
        **{f"phase {name}": part for name, part in spectrum.by_phase.items()},
        **{f"element {name}": part for name, part in spectrum.by_element.items()},
    }
    rows = zip(*columns.values(), strict=True)
    return _written([list(columns), *([f"{value:.7g}" for value in row] for row in rows)])


def table_csv(rows: Sequence[ShownRow], level: float) -> bytes:
    """Return what the choice is made of, a row for each number."""
    names = [*(one.name for one in fields(ShownRow)), "level"]
    return _written([names, *([*map(_plain, astuple(row)), f"{level:g}"] for row in rows)])


def mask_npy(inside: Mask, *, invert: bool = False) -> bytes:
    """Return a mask (y, x) as a NumPy file: true inside, or outside.

    Parameters
    ----------
    inside
        Pixels of the choice.
    invert
        True outside, as ``bayesunmix unmix --mask`` wants it to unmix the choice alone.
    """
    stream = io.BytesIO()
    np.save(stream, ~inside if invert else inside)
    return stream.getvalue()


def _plain(value: object) -> str:
    return f"{value:.7g}" if isinstance(value, float) else str(value)


def _written(rows: Sequence[Sequence[str]]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue().encode("utf-8")
