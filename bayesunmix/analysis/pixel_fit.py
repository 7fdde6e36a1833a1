"""What a result expects in every pixel, in pieces that are worked out when they are asked for.

The fit expects in channel c of pixel p, as the model does (`bayesunmix.models.thickness`),

    E_pc = N_p m_pc exp(t_pc) / sum_c m_pc exp(t_pc),    m_pc = sum_k a_pk s_kc
    t_pc = lambda (r_p B_p - 1) h_c - kappa log(r_p) g_c

with N_p the pixel's counts, a_pk the mean shares of its counts, s_kc the mean endmembers (unit sum), and what its
thickness changes at the mean of the two parameters. What was set aside has a share and a spectrum of its own.

Means of draws are multiplied, not draws: where these were widened, or hold what the map leaves open, the sum of all
pixels is off the run's own fit of the sum spectrum, by up to 1.4 standard deviations of the counts in one of 264 bins
on maps of 1600 pixels; single pixels are fitted no worse than by the endmembers that they were read with.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.core.errors import InputError
from bayesunmix.data.counts import DaskArray
from bayesunmix.models.thickness import THINNEST
from bayesunmix.results.map_counts import GROUP

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# A piece of the fit that is worked out at a time.
PIECE_BYTES = 32e6


class _Parts(NamedTuple):
    """What pixels are mixed of: spectra (source, energy), shares (y, x, source), and the tilt by thickness.

    ``tilts`` (y, x, 2) are the factors of the two rows of ``tilting`` (2, energy).
    """

    spectra: FloatArray
    shares: FloatArray
    tilting: FloatArray
    tilts: FloatArray


def expected_counts(result: Result) -> DaskArray:
    """Return the expected counts (y, x, energy) of every pixel in the fitted channels, as a dask array.

    Raises
    ------
    InputError
        If an earlier version wrote the result.
    """
    da = import_module("dask.array")
    totals = result.tree["constant_data"].dataset["total_counts"].values
    spectra, shares, tilting, tilts = _parts(result)
    pixels = np.concatenate([shares * totals[..., None], tilts], axis=-1).astype(np.float32)
    rows, columns, _ = pixels.shape
    side = max(int(np.sqrt(PIECE_BYTES / (4.0 * spectra.shape[1]))), 1)
    pieces = da.from_array(pixels, chunks=(min(side, rows), min(side, columns), -1))
    mixed = partial(_mixed, spectra=spectra.astype(np.float32), tilting=tilting.astype(np.float32))
    chunks = (*pieces.chunks[:2], (spectra.shape[1],))
    return pieces.map_blocks(mixed, chunks=chunks, dtype=np.float32)


def _mixed(pixels: Float32Array, spectra: Float32Array, tilting: Float32Array) -> Float32Array:
    """Mix spectra: expected counts (y, x, energy) of amounts and tilts (y, x, source + 2)."""
    n_sources = len(spectra)
    plain = pixels[..., :n_sources] @ spectra
    tilted = plain * np.exp(pixels[..., n_sources:] @ tilting)
    kept, total = tilted.sum(axis=-1, keepdims=True), plain.sum(axis=-1, keepdims=True)
    return np.asarray(tilted * np.divide(total, kept, out=np.zeros_like(kept), where=kept > 0.0))


def _parts(result: Result) -> _Parts:
    """Collect spectra and shares of the phases, and of what was set aside, with what thickness does to them."""
    maps, spectra = result.tree["maps"].dataset, result.endmembers()["mean"].values
    if "count_share" not in maps:
        must, got = "keep the shares of every pixel's counts", "was written by an earlier version"
        raise InputError("result", must, got, "Unmix the map again.")
    shares = np.moveaxis(np.nan_to_num(maps["count_share"].values.astype(np.float64)), 0, -1)
    if GROUP not in result.tree.children:
        return _Parts(spectra, shares, np.zeros((2, spectra.shape[1])), np.zeros((*shares.shape[:2], 2)))
    stored = result.tree[GROUP].to_dataset()
    starts = stored["first_channel"].values - int(stored.attrs["channels"][0])
    width = np.diff(np.append(starts, spectra.shape[1]))
    mass = stored["mass_per_count"].values
    if "undeclared" in maps and "place_spectrum" in stored:
        numbers = np.arange(stored.sizes["place_number"])
        foreign = np.nan_to_num(maps["undeclared"].values)[..., None]
        shares = np.concatenate([shares, foreign * (stored["place"].values[..., None] == numbers)], axis=-1)
        # Within a bin nothing is known of them, and they absorb like the mean of the map.
        beside = np.repeat(stored["place_spectrum"].values / width, width, axis=1)
        spectra, mass = np.concatenate([spectra, beside]), np.append(mass, np.ones(len(numbers)))
    return _Parts(spectra, shares, *_tilt(stored, shares @ mass, width))


def _tilt(
    stored: xr.Dataset, mass: FloatArray, width: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Return slope of the absorption and share of stray signal (2, energy), and the factors of both (y, x, 2)."""
    relative = np.maximum(stored["relative_thickness"].values.astype(np.float64), THINNEST)
    absorbed = float(stored["mean_absorption_scale"]) * (relative * mass - 1.0)
    stray = -float(stored["mean_stray_exponent"]) * np.log(relative)
    rows = np.stack([stored["absorption_slope"].values, stored["stray_share"].values])
    return np.repeat(rows, width, axis=1), np.stack([absorbed, stray], axis=-1)
