"""What a result expects in every pixel, in pieces that are worked out when they are asked for.

The fit expects in channel c of pixel p

    E_pc = N_p sum_k a_pk s_kc

with N_p the pixel's counts, a_pk the mean shares of its counts and s_kc the mean endmembers (unit sum); where pixels
were set aside, what is there beside the phases has a share and a spectrum of its own. What thickness changes within a
pixel (`bayesunmix.checks.expected_counts`) is left out.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError
from bayesunmix.data.counts import DaskArray
from bayesunmix.results.map_counts import GROUP

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

Float32Array = npt.NDArray[np.float32]

# A piece of the fit that is worked out at a time.
PIECE_BYTES = 32e6


def expected_counts(result: Result) -> DaskArray:
    """Return the expected counts (y, x, energy) of every pixel in the fitted channels, as a dask array.

    Raises
    ------
    InputError
        If an earlier version wrote the result.
    """
    da = import_module("dask.array")
    amounts, spectra = _amounts_and_spectra(result)
    rows, columns, _ = amounts.shape
    side = max(int(np.sqrt(PIECE_BYTES / (4.0 * spectra.shape[1]))), 1)
    pieces = da.from_array(amounts, chunks=(min(side, rows), min(side, columns), -1))
    chunks = (*pieces.chunks[:2], (spectra.shape[1],))
    return pieces.map_blocks(partial(_mixed, spectra=spectra), chunks=chunks, dtype=np.float32)


def _mixed(amounts: Float32Array, spectra: Float32Array) -> Float32Array:
    """Mix spectra: expected counts (y, x, energy) of amounts (y, x, source) of spectra (source, energy)."""
    return amounts @ spectra


def _amounts_and_spectra(result: Result) -> tuple[Float32Array, Float32Array]:
    """Return the counts of each phase, and of what was set aside, in each pixel (y, x, source), and their spectra."""
    endmembers = result.endmembers()["mean"].values
    totals = result.tree["constant_data"].dataset["total_counts"].values
    maps = result.tree["maps"].dataset
    if "count_share" not in maps:
        must, got = "keep the shares of every pixel's counts", "was written by an earlier version"
        raise InputError("result", must, got, "Unmix the map again.")
    shares = np.moveaxis(np.nan_to_num(maps["count_share"].values), 0, -1)
    spectra = [endmembers]
    if "undeclared" in maps and GROUP in result.tree.children:
        stored = result.tree[GROUP].to_dataset()
        numbers = np.arange(stored.sizes["place_number"])
        foreign = np.nan_to_num(maps["undeclared"].values)[..., None]
        shares = np.concatenate([shares, foreign * (stored["place"].values[..., None] == numbers)], axis=-1)
        starts = stored["first_channel"].values - int(stored.attrs["channels"][0])
        width = np.diff(np.append(starts, endmembers.shape[1]))
        # Within a bin nothing is known of them.
        spectra.append(np.repeat(stored["place_spectrum"].values / width, width, axis=1))
    amounts = (shares * totals[..., None]).astype(np.float32)
    return amounts, np.concatenate(spectra).astype(np.float32)
