"""Bins that depend on the map alone: runs of one map whose fitted bins differ are compared on the same counts.

Fitted bins (`bayesunmix.data.binning.channel_bins`) follow the declared lines and the fitted response: two runs with
other elements have other bins, and the likelihoods of two sets of bins are densities of different data. Bins here are
whole numbers of channels, about half as wide as a line at the nominal resolution of 130 eV, whatever was declared.
Little of what tells two spectra apart is lost in bins of that width: w^2 / (24 sigma^2), 6 %.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

from bayesunmix.data.image import SpectrumImage
from bayesunmix.xray import Response

# Rows of a map that tell it from others.
ROWS_HASHED = 64
# Width of a bin in widths of a line, full at half maximum, and the energy resolution that says how wide a line is.
WIDTH_FWHM = 0.5
RESOLUTION_EV = 130.0
# Channels with bins of one width: the ends of the axis, which a fitted offset may move a little, do not decide on bins.
SPAN = 64


def map_bins(image: SpectrumImage) -> npt.NDArray[np.int64]:
    """Return the first channel of each bin, and at the end the number of channels, (bin + 1,).

    Parameters
    ----------
    image
        Cropped to the fitted energies.
    """
    fwhm_keV = Response.from_resolution(RESOLUTION_EV).fwhm_keV
    firsts = np.arange(0, image.n_channels, SPAN)
    middle = image.energy_keV[0] + image.energy_step_keV * (firsts + 0.5 * SPAN)
    widths = np.maximum(WIDTH_FWHM * fwhm_keV(np.maximum(middle, 0.0)) / image.energy_step_keV, 1.0)
    ends = np.append(firsts[1:], image.n_channels)
    parts = [np.arange(a, b, int(w)) for a, b, w in zip(firsts, ends, widths, strict=True)]
    return np.append(np.concatenate(parts), image.n_channels).astype(np.int64)


def map_hash(image: SpectrumImage) -> str:
    """SHA-256 (hexadecimal) of shape and counts of some rows: equal for runs of one map, whatever pixels and energies.

    Parameters
    ----------
    image
        As it was given, before anything is cropped or left out.
    """
    rows = np.unique(np.linspace(0, image.shape[0] - 1, ROWS_HASHED).astype(int))
    return data_hash(
        np.array(image.shape), *(np.asarray(image.counts[slice(r, r + 1)]) for r in rows.tolist())
    )


def data_hash(*arrays: npt.NDArray[np.generic]) -> str:
    """SHA-256 (hexadecimal) of whole numbers, whatever type holds them."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}".encode())
        digest.update(np.ascontiguousarray(array, dtype="<i8").data)
    return digest.hexdigest()
