"""The silicon drift detector: what it lets in and what it stops.

Efficiency: transmission of the layers in front (window, contact, dead layer) times the share stopped in the sensor.
How it spreads what it counts over the channels is its `Response`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import xraylib

from bayesunmix.core.errors import InputError
from bayesunmix.xray.absorption import mixture_absorption_coefficient
from bayesunmix.xray.atomic import atomic_symbol
from bayesunmix.xray.response import TYPICAL_RESOLUTION_EV, Response

# Densities in g/cm3 of the layer materials that are not elements (manufacturers' data sheets; elements:
# xraylib).
COMPOUND_DENSITIES = {"C22H10N2O5": 1.42, "Si3N4": 3.17, "SiO2": 2.2, "H2O": 0.92, "Al2O3": 3.9}
POLYIMIDE = "C22H10N2O5"

Array = npt.NDArray[np.float64]


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
    response: Response = field(default_factory=Response)

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
