"""The bremsstrahlung continuum: a physical shape times a smooth positive correction.

Stray radiation from thick parts (grid, holder, apertures) brings a continuum that these parts have absorbed themselves:
on it lies the absorption edge of their element, which no smooth correction can follow (`ThickPart`).

The shape per channel is Kramers' (Phil. Mag. 46 (1923) 836, doi:10.1080/14786442308565244), as photons,

    b(E) = (E0 - E) / E * efficiency(E) * width of the channel,

E0 the beam energy. The correction is a sum of hat functions in log E with non-negative weights: it takes up
the departure of a thin film from Kramers, absorption in the specimen, and stray background, and cannot turn
negative.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, check_positive
from bayesunmix.xray.absorption import mixture_absorption_coefficient
from bayesunmix.xray.atomic import atomic_number, atomic_weight

DEFAULT_HATS = 7
# Places at which an absorption edge is averaged over the detector's resolution, in standard deviations.
SMEARING = np.linspace(-3.0, 3.0, 25)
# Where the amount of a thick part is counted, relative to its edge: tables of edges and coefficients differ a little.
BELOW_EDGE = 0.97
# Mean depth of X-ray production over the electrons' range.
RANGE_SHARE = 0.3
# Mass absorption coefficients are not asked for below.
SOFTEST_KEV = 0.1

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ThickPart:
    """A thick part of the instrument as a source of continuum, relative to the bare shape.

    Photons that scattered electrons make at a mean depth z get out in a share of about 1 / (1 + mu rho z), mu being the
    element's own absorption coefficient; it is smeared by the detector's resolution. For z a part of the range of
    Kanaya and Okayama (1972) is taken (`mean_depth_g_cm2`).

    Parameters
    ----------
    element
        What it is made of.
    edge_keV, sigma_keV
        Its absorption edge, and the standard deviation of the detector's peaks there.
    depth_g_cm2
        Mean depth rho z.
    amount
        Continuum relative to the bare shape just below the edge.
    """

    element: str
    edge_keV: float
    sigma_keV: float
    depth_g_cm2: float
    amount: float

    def __call__(self, energy_keV: Array) -> Array:
        """Return the factor at energies in keV."""
        weight = np.exp(-0.5 * SMEARING**2)
        places = np.maximum(np.asarray(energy_keV)[:, None] + self.sigma_keV * SMEARING, SOFTEST_KEV)
        own = {self.element: 1.0}
        coefficient = mixture_absorption_coefficient(own, places.ravel()).reshape(places.shape)
        below = float(mixture_absorption_coefficient(own, np.array([BELOW_EDGE * self.edge_keV]))[0])
        share = (1.0 + below * self.depth_g_cm2) / (1.0 + coefficient * self.depth_g_cm2)
        return np.asarray(self.amount * share @ weight / weight.sum())


def mean_depth_g_cm2(element: str, beam_energy_keV: float) -> float:
    """Mean depth at which electrons make X-rays in a thick part, rho z in g/cm2.

    0.3 of the range 2.76e-6 A E^1.67 / Z^0.89 g/cm2 of Kanaya and Okayama (J. Phys. D 5 (1972) 43,
    doi:10.1088/0022-3727/5/1/308), E in keV.
    """
    reach = 2.76e-6 * atomic_weight(element) * beam_energy_keV**1.67 / atomic_number(element) ** 0.89
    return float(RANGE_SHARE * reach)


@dataclass(frozen=True)
class ContinuumCorrection:
    """Factor on the physical continuum: linear in log energy between knots, and what thick parts add.

    Parameters
    ----------
    energy_keV, factor
        Knots and the factor there, positive, shape (knot,).
    thick
        Thick parts with edges on the axis.
    """

    energy_keV: tuple[float, ...]
    factor: tuple[float, ...]
    thick: tuple[ThickPart, ...] = ()

    def __call__(self, energy_keV: Array) -> Array:
        """Return the factor at energies in keV."""
        at = np.log(np.maximum(energy_keV, 1e-3))
        smooth = np.interp(at, np.log(self.energy_keV), self.factor)
        return np.asarray(smooth + sum((part(energy_keV) for part in self.thick), np.zeros_like(smooth)))


NO_CORRECTION = ContinuumCorrection((1.0,), (1.0,))


def bremsstrahlung(
    channel_edges_keV: Array, beam_energy_keV: float, efficiency: Callable[[Array], Array]
) -> Array:
    """Return Kramers' continuum after the detector, as a distribution over the channels.

    Parameters
    ----------
    channel_edges_keV
        Ascending edges, shape (energy + 1,); channels below zero energy get nothing.
    beam_energy_keV
        Energy of the electrons in keV.
    efficiency
        Detector efficiency as a function of energies in keV.

    Returns
    -------
    Array
        Shape (energy,), adding up to 1.

    Raises
    ------
    InputError
        If no channel lies between zero and the beam energy.
    """
    beam = check_positive("instrument.beam_energy_keV", beam_energy_keV)
    edges = np.asarray(channel_edges_keV, dtype=np.float64)
    centre = (edges[1:] + edges[:-1]) / 2.0
    inside = (centre > 0.0) & (centre < beam)
    if not inside.any():
        raise InputError("energy_keV", "reach between zero and the beam energy", f"ends at {edges[-1]:g}")
    energy = np.where(inside, centre, beam)
    seen = np.where(inside, efficiency(energy), 0.0)
    if not seen.any():
        # A detector that sees nothing there says nothing about the shape.
        seen = inside.astype(np.float64)
    shape: Array = np.where(inside, (beam - energy) / energy * seen * np.diff(edges), 0.0)
    return np.asarray(shape / shape.sum())


def hat_functions(energy_keV: Array, low_keV: float, high_keV: float, number: int = DEFAULT_HATS) -> Array:
    """Return hat functions of log energy with equidistant knots between two energies; they add up to 1 everywhere.

    Returns
    -------
    Array
        Shape (number, energy).

    Raises
    ------
    InputError
        If fewer than two are asked for.
    """
    if number < 2:
        raise InputError("number of continuum functions", "be at least 2", f"is {number}")
    # Energies below the first knot, on an axis that reaches zero, belong to the first function.
    energy = np.clip(energy_keV, low_keV, high_keV)
    # All energies are one where the axis has a single channel with a continuum.
    length = max(float(np.log(high_keV / low_keV)), 1e-9)
    position = np.log(energy / low_keV) / length * (number - 1)
    return np.asarray(np.clip(1.0 - np.abs(position - np.arange(number)[:, None]), 0.0, 1.0))


def hats_on(shape: Array, channel_edges_keV: Array, number: int = DEFAULT_HATS) -> tuple[Array, Array, Array]:
    """Cut a continuum into pieces: its shape times hats whose knots span the channels that it reaches.

    Parameters
    ----------
    shape
        A continuum, zero in channels below zero energy and above the beam's, shape (energy,).
    channel_edges_keV
        Shape (energy + 1,).
    number
        Of hats; fewer come back where channels are so few that a hat holds none.

    Returns
    -------
    Energies of the knots (hat,), positive counts of the pieces (hat,), and the pieces (hat, energy).
    """
    edges = np.asarray(channel_edges_keV, dtype=np.float64)
    centre = (edges[1:] + edges[:-1]) / 2.0
    lit = centre[shape > 0.0]
    # The logarithm ends at one channel: below it lies the zero peak, not the continuum.
    lowest = max(float(lit[0]), float(edges[1] - edges[0]))
    highest = max(float(lit[-1]), lowest)
    pieces = shape * hat_functions(centre, lowest, highest, number)
    area = pieces.sum(axis=1)
    held = area > 0.0
    return np.geomspace(lowest, highest, number)[held], area[held], pieces[held]


def continuum_basis(
    channel_edges_keV: Array,
    beam_energy_keV: float,
    efficiency: Callable[[Array], Array],
    number: int = DEFAULT_HATS,
) -> Array:
    """Return the spectra whose non-negative combinations are continua: shape times hats, each of unit area.

    Returns
    -------
    Array
        Shape (number, energy), rows adding up to 1; fewer rows where channels are so few that a hat holds none.

    Raises
    ------
    InputError
        If no channel lies between zero and the beam energy.
    """
    shape = bremsstrahlung(channel_edges_keV, beam_energy_keV, efficiency)
    _, area, pieces = hats_on(shape, channel_edges_keV, number)
    return np.asarray(pieces / area[:, None])
