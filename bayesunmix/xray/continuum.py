"""The bremsstrahlung continuum: a physical shape times a smooth positive correction.

The shape per channel is Kramers' (Phil. Mag. 46 (1923) 836, doi:10.1080/14786442308565244), as photons,

    b(E) = (E0 - E) / E * efficiency(E) * width of the channel,

E0 the beam energy. The correction is a sum of hat functions in log E with non-negative weights: it takes up
the departure of a thin film from Kramers, absorption in the specimen, and stray background, and cannot turn
negative.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bayesunmix.errors import InputError, check_positive

DEFAULT_HATS = 7

Array = npt.NDArray[np.float64]


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
    shape: Array = np.where(inside, (beam - energy) / energy * efficiency(energy) * np.diff(edges), 0.0)
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
    position = np.log(energy / low_keV) / np.log(high_keV / low_keV) * (number - 1)
    return np.asarray(np.clip(1.0 - np.abs(position - np.arange(number)[:, None]), 0.0, 1.0))


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
        Shape (number, energy), rows adding up to 1.
    """
    shape = bremsstrahlung(channel_edges_keV, beam_energy_keV, efficiency)
    edges = np.asarray(channel_edges_keV, dtype=np.float64)
    centre = (edges[1:] + edges[:-1]) / 2.0
    # The logarithm ends at one channel: below it lies the zero peak, not the continuum.
    lowest = max(centre[0], edges[1] - edges[0])
    columns = shape * hat_functions(centre, lowest, centre[-1], number)
    return np.asarray(columns / columns.sum(axis=1, keepdims=True))
