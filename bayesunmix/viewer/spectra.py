"""The spectrum of what is chosen: counts, fit, its parts, and what is left."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bayesunmix.analysis.joint_draws import JointDraws
from bayesunmix.analysis.places import taking_part
from bayesunmix.plot.parts import LEAST_SHARE, element_parts, largest_parts
from bayesunmix.plot.region_spectra import bin_edges
from bayesunmix.results.result import Result
from bayesunmix.viewer.choices import Mask

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ShownSpectrum:
    """What is shown of some pixels, in the fitted bins.

    Attributes
    ----------
    edges_keV : (energy + 1,)
    counts, fit : (energy,)
        Summed over the pixels; the fit is nan where it is not known.
    by_phase, by_element
        Parts of the fit (energy,), by name; no element where the folder does not hold them.
    n_pixels
        Pixels that take part.
    """

    edges_keV: FloatArray
    counts: FloatArray
    fit: FloatArray
    by_phase: dict[str, FloatArray]
    by_element: dict[str, FloatArray] = field(default_factory=dict)
    n_pixels: int = 1

    @property
    def residuals(self) -> FloatArray:
        """Standardised residuals (counts - fit) / sqrt(fit), those of Pearson."""
        return np.asarray((self.counts - self.fit) / np.sqrt(np.maximum(self.fit, 1e-12)))

    @property
    def width_keV(self) -> FloatArray:
        """Width of the bins."""
        return np.diff(self.edges_keV)


def spectrum_of(result: Result, source: JointDraws, inside: Mask) -> ShownSpectrum:
    """Return the spectrum of some pixels; no other pixel's counts are read.

    Parameters
    ----------
    result
        Of the map.
    source
        Its counts.
    inside
        Pixels (y, x), which all take part.
    """
    pixels = np.flatnonzero(inside)
    counts, by_phase, fit = source.spectra_of(pixels)
    return ShownSpectrum(
        edges_keV=bin_edges(source),
        counts=counts,
        fit=fit,
        by_phase=dict(zip(result.phases, by_phase, strict=True)),
        by_element=element_parts(source.stored, by_phase, fit),
        n_pixels=len(pixels),
    )


def stored_spectrum(result: Result) -> ShownSpectrum:
    """Return the sum spectrum that the folder holds, for a map that is gone."""
    fit = result.tree["fit"].dataset
    by_phase = dict(zip(result.phases, np.asarray(fit["expected_by_phase"].values), strict=True))
    return ShownSpectrum(
        edges_keV=np.append(fit["energy_low"].values, fit["energy_high"].values[-1]),
        counts=np.asarray(fit["observed"].values, np.float64),
        fit=np.asarray(fit["expected"].values, np.float64),
        by_phase=by_phase,
        n_pixels=int(np.count_nonzero(taking_part(result))),
    )


def parts_shown(spectrum: ShownSpectrum, by: str) -> dict[str, FloatArray]:
    """Return the parts that are drawn, by ``phase`` or ``element``, without those that nobody would see."""
    parts = {"phase": spectrum.by_phase, "element": spectrum.by_element}.get(by, {})
    return largest_parts(parts, float(spectrum.fit.sum()), LEAST_SHARE if by == "element" else 0.0)
