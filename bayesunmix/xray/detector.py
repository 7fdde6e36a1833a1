"""The silicon drift detector: what it lets in, what it stops, and how it spreads a line over its channels.

Efficiency: transmission of the layers in front (window, contact, dead layer) times the share stopped in the
sensor. Response: a Gaussian whose full width at half maximum adds electronic noise and the Fano statistics
of the charge,

    FWHM(E)^2 = noise^2 + 8 ln 2 F epsilon E,    epsilon = 3.64 eV per pair, F about 0.115

(Fano 1947, doi:10.1103/PhysRev.72.26; epsilon and F of silicon near 250 K: Mazziotta 2008,
doi:10.1016/j.nima.2007.10.043). Escape peaks and tails act on the true energies before this spread: they are
lists of extra lines, or a matrix applied to `Response.matrix`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xraylib
from scipy.special import ndtr

from bayesunmix.errors import InputError, check_positive
from bayesunmix.xray.absorption import mixture_absorption_coefficient
from bayesunmix.xray.atomic import atomic_symbol

PAIR_ENERGY_EV = 3.64
FANO_SILICON = 0.115
# 8 ln 2 turns a variance into a squared full width at half maximum.
FWHM2_PER_VARIANCE = 8.0 * np.log(2.0)
MN_K_ALPHA_KEV = 5.895
TYPICAL_RESOLUTION_EV = 130.0
# A Gaussian holds all but 2e-9 of its area within this many standard deviations.
REACH_SIGMAS = 6.0

# Densities in g/cm3 of the layer materials that are not elements (manufacturers' data sheets; elements:
# xraylib).
COMPOUND_DENSITIES = {"C22H10N2O5": 1.42, "Si3N4": 3.17, "SiO2": 2.2, "H2O": 0.92, "Al2O3": 3.9}
POLYIMIDE = "C22H10N2O5"

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Response:
    """How true photon energies appear on the energy axis.

    A photon of energy E appears at `offset_keV` + `gain` E, spread by a Gaussian of width `fwhm_keV(E)`.

    Parameters
    ----------
    gain
        Apparent over true energy; 1 for a perfect axis.
    offset_keV
        Apparent energy of a photon of no energy, in keV; 0 for a perfect axis.
    noise_eV
        Full width at half maximum of the electronic noise, in eV.
    fano
        Fano factor.
    """

    gain: float = 1.0
    offset_keV: float = 0.0
    noise_eV: float = 60.0
    fano: float = FANO_SILICON

    @classmethod
    def from_resolution(
        cls, resolution_eV: float = TYPICAL_RESOLUTION_EV, fano: float = FANO_SILICON
    ) -> Response:
        """Choose the noise so that Mn K-alpha has the given full width at half maximum.

        Raises
        ------
        InputError
            If the width is below what the Fano statistics alone give.
        """
        fano_eV2 = FWHM2_PER_VARIANCE * fano * PAIR_ENERGY_EV * MN_K_ALPHA_KEV * 1e3
        noise2 = check_positive("instrument.resolution_eV", resolution_eV) ** 2 - fano_eV2
        if noise2 <= 0.0:
            limit = f"exceed {np.sqrt(fano_eV2):.0f} eV, the limit of silicon at Mn K-alpha"
            raise InputError("instrument.resolution_eV", limit, f"is {resolution_eV:g}")
        return cls(noise_eV=float(np.sqrt(noise2)), fano=fano)

    def fwhm_keV(self, energy_keV: npt.ArrayLike) -> Array:
        """Return the full width at half maximum of a line at true energies in keV."""
        energy_eV = np.maximum(np.asarray(energy_keV, dtype=np.float64), 0.0) * 1e3
        fano_eV2 = FWHM2_PER_VARIANCE * self.fano * PAIR_ENERGY_EV * energy_eV
        return np.asarray(1e-3 * np.sqrt(self.noise_eV**2 + fano_eV2))

    def apparent_keV(self, energy_keV: npt.ArrayLike) -> Array:
        """Return where photons of true energy E appear on the axis: offset + gain E."""
        return np.asarray(self.offset_keV + self.gain * np.asarray(energy_keV, dtype=np.float64))

    def matrix(self, energy_keV: npt.ArrayLike, channel_edges_keV: Array) -> Array:
        """Return the share of each line in each channel, its Gaussian integrated over the channel.

        Parameters
        ----------
        energy_keV
            True line energies in keV, shape (line,).
        channel_edges_keV
            Edges of the channels on the axis, ascending, shape (energy + 1,).

        Returns
        -------
        Array
            Shape (line, energy); a row adds up to 1 where the axis covers the line.
        """
        lines = np.atleast_1d(np.asarray(energy_keV, dtype=np.float64))
        return self.columns(lines, np.ones(lines.size), np.arange(lines.size), lines.size, channel_edges_keV)

    def spectrum(
        self, energy_keV: npt.ArrayLike, strengths: npt.ArrayLike, channel_edges_keV: Array
    ) -> Array:
        """Return the summed spectrum of lines with the given areas, shape (energy,)."""
        lines = np.atleast_1d(np.asarray(energy_keV, dtype=np.float64))
        areas = np.broadcast_to(np.asarray(strengths, dtype=np.float64), lines.shape)
        one_group = np.zeros(lines.size, dtype=np.intp)
        return np.asarray(self.columns(lines, areas, one_group, 1, channel_edges_keV)[0])

    def columns(
        self,
        energy_keV: Array,
        areas: Array,
        group: npt.NDArray[np.intp],
        groups: int,
        channel_edges_keV: Array,
    ) -> Array:
        """Return the spectra of groups of lines: line l with area `areas[l]` adds to row `group[l]`.

        Each line is evaluated only on the channels within six standard deviations of it.

        Returns
        -------
        Array
            Shape (groups, energy).
        """
        edges = np.asarray(channel_edges_keV, dtype=np.float64)
        channels = edges.size - 1
        centre = self.apparent_keV(energy_keV)
        sigma = self.gain * self.fwhm_keV(energy_keV) / np.sqrt(FWHM2_PER_VARIANCE)
        first = np.searchsorted(edges, centre - REACH_SIGMAS * sigma, side="right") - 1
        last = np.searchsorted(edges, centre + REACH_SIGMAS * sigma, side="left")
        reach = int(np.max(last - first, initial=0)) + 1
        # Positions beyond the axis are held at its ends, where they give differences of zero.
        position = np.clip(first[:, None] + np.arange(reach + 1), 0, channels)
        below = ndtr((edges[position] - centre[:, None]) / sigma[:, None])
        shares = areas[:, None] * np.diff(below, axis=1)
        flat = group[:, None] * channels + np.minimum(position[:, :-1], channels - 1)
        summed = np.bincount(flat.ravel(), weights=shares.ravel(), minlength=groups * channels)
        return np.asarray(summed, dtype=np.float64).reshape(groups, channels)


@dataclass(frozen=True)
class Layer:
    """A layer in front of the sensor.

    Parameters
    ----------
    formula
        Chemical formula, e.g. ``Al`` or ``Si3N4``.
    thickness_um
        Thickness in micrometres.
    density_g_cm3
        Density; elements and the materials of `COMPOUND_DENSITIES` have one.
    """

    formula: str
    thickness_um: float
    density_g_cm3: float | None = None

    def transmission(self, energy_keV: npt.ArrayLike) -> Array:
        """Return exp(-mu rho t) at photon energies in keV.

        Raises
        ------
        InputError
            If the formula cannot be read, or its density is not known.
        """
        fractions = _formula_fractions(self.formula)
        path_g_cm2 = self._density(fractions) * self.thickness_um * 1e-4
        return np.asarray(np.exp(-mixture_absorption_coefficient(fractions, energy_keV) * path_g_cm2))

    def _density(self, fractions: dict[str, float]) -> float:
        if self.density_g_cm3 is not None:
            return self.density_g_cm3
        if len(fractions) == 1:
            return float(xraylib.ElementDensity(xraylib.SymbolToAtomicNumber(next(iter(fractions)))))
        if self.formula not in COMPOUND_DENSITIES:
            raise InputError("layer density_g_cm3", f"be given for {self.formula}", "is missing")
        return COMPOUND_DENSITIES[self.formula]


# Windowless silicon drift detector of TEM columns: aluminium contact and silicon dead layer alone
# (Schlossmacher et al. 2010, Microscopy Today 18(4) 14, doi:10.1017/S1551929510000404; Bruker's files give
# a dead layer of 0.01 um and a sensor of 0.45 mm).
WINDOWLESS = (Layer("Al", 0.03), Layer("Si", 0.01))
# A polymer window of the ultra-thin kind, 0.3 um polyimide with 0.04 um aluminium, before contact and dead
# layer.
POLYMER_WINDOW = (Layer(POLYIMIDE, 0.3), Layer("Al", 0.04), *WINDOWLESS)


@dataclass(frozen=True)
class Detector:
    """A silicon drift detector.

    Parameters
    ----------
    layers
        Layers in front of the sensor; the default is windowless. `POLYMER_WINDOW` is the other usual one.
    sensor_thickness_mm
        Thickness of the active silicon in mm.
    response
        Nominal spread of a line.
    """

    layers: tuple[Layer, ...] = WINDOWLESS
    sensor_thickness_mm: float = 0.45
    response: Response = Response()

    @classmethod
    def from_resolution(cls, resolution_eV: float = TYPICAL_RESOLUTION_EV) -> Detector:
        """Return the windowless detector with the given full width at half maximum at Mn K-alpha."""
        return cls(response=Response.from_resolution(resolution_eV))

    def efficiency(self, energy_keV: npt.ArrayLike) -> Array:
        """Return the share of the photons arriving at the detector that are counted, at energies in keV."""
        energy = np.asarray(energy_keV, dtype=np.float64)
        sensor = Layer("Si", self.sensor_thickness_mm * 1e3)
        result = 1.0 - sensor.transmission(energy)
        for layer in self.layers:
            result = result * layer.transmission(energy)
        return result

    def fwhm_keV(self, energy_keV: npt.ArrayLike) -> Array:
        """Return the nominal full width at half maximum of a line, in keV."""
        return self.response.fwhm_keV(energy_keV)


def channel_edges(energy_keV: npt.ArrayLike) -> Array:
    """Return the edges, shape (energy + 1,), of uniform channels given by their centres, shape (energy,)."""
    centres = np.asarray(energy_keV, dtype=np.float64)
    if centres.ndim != 1 or centres.size < 2:
        raise InputError("energy_keV", "hold at least two channel centres", f"has shape {centres.shape}")
    width = (centres[-1] - centres[0]) / (centres.size - 1)
    return np.append(centres - width / 2.0, centres[-1] + width / 2.0)


def _formula_fractions(formula: str) -> dict[str, float]:
    """Return the weight fractions of a chemical formula."""
    try:
        parsed = xraylib.CompoundParser(formula)
    except ValueError:
        raise InputError("layer formula", "be a chemical formula such as Si3N4", f"is {formula!r}") from None
    elements: Sequence[int] = parsed["Elements"]
    return {atomic_symbol(z): float(w) for z, w in zip(elements, parsed["massFractions"], strict=True)}
