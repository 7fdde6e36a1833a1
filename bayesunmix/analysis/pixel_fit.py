"""What a run expects in every pixel, in pieces that are worked out when they are asked for.

The fit expects in channel c of pixel p, as the model does (`bayesunmix.models.thickness`),

    E_pc = N_p m_pc exp(t_pc) / sum_c m_pc exp(t_pc),    m_pc = sum_k a_pk s_kc
    t_pc = lambda (r_p B_p - 1) h_c - kappa log(r_p) g_c

with N_p the pixel's counts, s_kc the endmembers that pixels were read with, a_pk the mean shares of its counts given
these, and what its thickness changes at the mean of the two parameters. Where draws hold what the map leaves open,
reported means of endmembers and of shares belong to draws of their own, and their product is no fit: these are the one
solution that was found. What was set aside has a share and a spectrum of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayesunmix.analysis.joint_draws import JointDraws
from bayesunmix.data.counts import DaskArray
from bayesunmix.models.thickness import THINNEST

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# A piece of the fit that is worked out at a time.
PIECE_BYTES = 32e6


def expected_counts(result: Result, source: JointDraws) -> DaskArray:
    """Return the expected counts (y, x, energy) of every pixel in the fitted channels, as a dask array.

    Parameters
    ----------
    result
        Of a run.
    source
        What its pixels are drawn from.
    """
    da, fit = import_module("dask.array"), PixelFit(source, result.endmembers()["mean"].values)
    rows, columns, channels = source.image.shape
    side = max(int(np.sqrt(PIECE_BYTES / (4.0 * channels))), 1)
    numbers = np.arange(rows * columns).reshape(rows, columns)
    pixels = da.from_array(numbers, chunks=(min(side, rows), min(side, columns)))
    nothing = np.empty((0, 0, 0), np.float32)
    return pixels.map_blocks(fit.counts, new_axis=2, chunks=(*pixels.chunks, (channels,)), meta=nothing)


@dataclass(frozen=True, eq=False)
class PixelFit:
    """Expected counts of pixels.

    Parameters
    ----------
    source
        What pixels are drawn from.
    endmembers : (phase, energy)
        Spectra on channels, which say how a bin's counts lie in it.
    """

    source: JointDraws
    endmembers: FloatArray

    def counts(self, pixels: npt.NDArray[np.int64]) -> Float32Array:
        """Return the expected counts (y, x, energy) of pixels by their numbers (y, x); none where one takes no part."""
        source = self.source
        found = np.zeros((pixels.size, source.image.n_channels), np.float32)
        used = np.flatnonzero(source.used.ravel()[pixels.ravel()])
        if len(used):
            numbers = pixels.ravel()[used]
            shares = source.count_shares(numbers)
            plain = shares @ self.spectra
            tilted = plain * np.exp(self._tilts(numbers, shares) @ self._tilting)
            totals = source.image.total_counts.ravel()[numbers]
            found[used] = tilted * (totals / tilted.sum(axis=1))[:, None]
        return found.reshape(*pixels.shape, -1)

    @cached_property
    def spectra(self) -> FloatArray:
        """Endmembers (source, energy) as fitted: of the phases, and of what was set aside."""
        stored = self.source.stored
        in_bin = np.add.reduceat(self.endmembers, self.source.starts, axis=1)
        within = self.endmembers / np.maximum(np.repeat(in_bin, self._width, axis=1), 1e-300)
        phases = np.repeat(stored["mean_spectrum"].values, self._width, axis=1) * within
        if "place_spectrum" not in stored:
            return phases
        # Within a bin nothing is known of what was set aside.
        places = np.repeat(stored["place_spectrum"].values / self._width, self._width, axis=1)
        return np.concatenate([phases, places])

    @property
    def _width(self) -> npt.NDArray[np.int64]:
        """Channels of each bin."""
        return np.asarray(np.diff(np.append(self.source.starts, self.source.image.n_channels)), np.int64)

    @cached_property
    def _tilting(self) -> FloatArray:
        """Slope of the absorption and share of stray signal, (2, energy)."""
        stored = self.source.stored
        rows = [stored[name].values for name in ("absorption_slope", "stray_share")]
        return np.asarray(np.repeat(np.stack(rows), self._width, axis=1), np.float64)

    def _tilts(self, pixels: npt.NDArray[np.int64], shares: FloatArray) -> FloatArray:
        """Factors of the rows of `_tilting` for some pixels, (pixel, 2); what was set aside absorbs like the mean."""
        stored = self.source.stored
        relative = np.maximum(
            stored["relative_thickness"].values.ravel()[pixels].astype(np.float64), THINNEST
        )
        mass = np.ones(shares.shape[1])
        mass[: stored.sizes["phase"]] = stored["mass_per_count"].values
        absorbed = float(stored["mean_absorption_scale"]) * (relative * (shares @ mass) - 1.0)
        return np.stack([absorbed, -float(stored["mean_stray_exponent"]) * np.log(relative)], axis=1)
