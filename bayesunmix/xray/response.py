"""How true photon energies appear on the energy axis: position, width, and what lies beside the peak.

A photon of energy E appears near

    offset + gain E + bend(E),

spread by a Gaussian whose full width at half maximum adds electronic noise and the Fano statistics of the charge,

    FWHM(E)^2 = noise^2 + 8 ln 2 F epsilon E,    epsilon = 3.64 eV per pair, F about 0.115

(Fano 1947, doi:10.1103/PhysRev.72.26; epsilon and F of silicon near 250 K: Mazziotta 2008,
doi:10.1016/j.nima.2007.10.043). `bend` is a smooth departure of a few eV from the straight axis. Tail, escape and
pile-up (`satellites`) act on the true energies before this spread: each line brings a list of weaker ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicSpline
from scipy.special import ndtr

from bayesunmix.core.errors import InputError, check_positive
from bayesunmix.xray.satellites import (
    SILICON_K_ALPHA_KEV,
    TAIL_LOSS,
    TAIL_SPREAD,
    escape_probability,
    tail_shares,
)

PAIR_ENERGY_EV = 3.64
FANO_SILICON = 0.115
# 8 ln 2 turns a variance into a squared full width at half maximum.
FWHM2_PER_VARIANCE = 8.0 * np.log(2.0)
MN_K_ALPHA_KEV = 5.895
TYPICAL_RESOLUTION_EV = 130.0
# A Gaussian holds all but 2e-9 of its area within this many standard deviations.
REACH_SIGMAS = 6.0
# ... and the steps of a tail, wide and weak, all that counts within fewer.
TAIL_REACH_SIGMAS = 3.0
# The departure from a straight axis is a natural cubic spline of log energy through its values at these energies.
BEND_KNOTS_KEV = (1.0, 2.0, 4.0, 8.0, 16.0)
STRAIGHT = (0.0, 0.0, 0.0, 0.0, 0.0)
# Lines below this share of their group's strongest bring no tail and no pile-up, and below a tenth of it no escape.
SATELLITE_SHARE = 0.01

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Response:
    """What the detector and its electronics make of photon energies.

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
    bend_eV
        Departure from the straight axis at `BEND_KNOTS_KEV`, in eV.
    collection_depth_um
        Depth tau over which charge collection becomes complete, in micrometres; 0 for no tail.
    surface_collection
        Share R of the charge that is collected at the entrance.
    escape
        Escape peaks as a multiple of the theoretical probability; 0 for none.
    pile_up
        Pairs (energy in keV, share): of each line this share appears higher by this energy.
    """

    gain: float = 1.0
    offset_keV: float = 0.0
    noise_eV: float = 60.0
    fano: float = FANO_SILICON
    bend_eV: tuple[float, ...] = STRAIGHT
    collection_depth_um: float = 0.0
    surface_collection: float = 0.5
    escape: float = 0.0
    pile_up: tuple[tuple[float, float], ...] = ()

    @classmethod
    def straight(cls, theta: npt.NDArray[np.float64]) -> Response:
        """Return the response of gain, offset in keV, noise in eV and Fano factor alone."""
        gain, offset_keV, noise_eV, fano = theta.tolist()
        return cls(gain=gain, offset_keV=offset_keV, noise_eV=noise_eV, fano=fano)

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
        """Return where photons of true energy E appear on the axis: offset + gain E + bend(E)."""
        energy = np.asarray(energy_keV, dtype=np.float64)
        straight = self.offset_keV + self.gain * energy
        return np.asarray(straight if self.bend_eV == STRAIGHT else straight + self._bend_keV(energy))

    def _bend_keV(self, energy_keV: Array) -> Array:
        """Departure from the straight axis, held constant beyond the outermost knots."""
        inside = np.clip(energy_keV, BEND_KNOTS_KEV[0], BEND_KNOTS_KEV[-1])
        return np.asarray(1e-3 * _bend_basis()(np.log(inside)) @ np.asarray(self.bend_eV))

    def matrix(self, energy_keV: npt.ArrayLike, channel_edges_keV: Array) -> Array:
        """Return the share of each line in each channel.

        Parameters
        ----------
        energy_keV
            True line energies in keV, shape (line,).
        channel_edges_keV
            Edges of the channels on the axis, ascending, shape (energy + 1,).

        Returns
        -------
        Array
            Shape (line, energy); a row adds up to 1 where the axis covers the line, and to more by its pile-up.
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
        self, energy_keV: Array, areas: Array, group: Indices, groups: int, channel_edges_keV: Array
    ) -> Array:
        """Return the spectra of groups of lines: line l with area `areas[l]` adds to row `group[l]`.

        Each line is evaluated only on the channels within six standard deviations of it, its tail within three.

        Returns
        -------
        Array
            Shape (groups, energy).
        """
        edges = np.asarray(channel_edges_keV, dtype=np.float64)
        channels = edges.size - 1
        if not np.size(energy_keV):
            return np.zeros((groups, channels))
        energy, areas, group, spread = self._with_satellites(energy_keV, areas, group, groups)
        centre = self.apparent_keV(energy)
        sigma = self.gain * np.hypot(self.fwhm_keV(energy) / np.sqrt(FWHM2_PER_VARIANCE), spread)
        half = np.where(spread > 0.0, TAIL_REACH_SIGMAS, REACH_SIGMAS) * sigma
        # Positions beyond the axis are held at its ends, where they give differences of zero.
        first = np.clip(np.searchsorted(edges, centre - half, side="right") - 1, 0, channels)
        reach = np.clip(np.searchsorted(edges, centre + half, side="left"), 0, channels) - first + 1
        # All lines one after the other, each with its own number of edges.
        end = np.cumsum(reach)
        position = np.arange(end[-1]) + np.repeat(first - end + reach, reach)
        below = edges[position]
        below -= np.repeat(centre, reach)
        below /= np.repeat(sigma, reach)
        ndtr(below, out=below)
        below *= np.repeat(areas, reach)
        shares = np.diff(below, append=0.0)
        shares[end - 1] = 0.0  # from the last edge of one line to the first of the next
        flat = np.repeat(group * channels, reach) + np.minimum(position, channels - 1)
        rows = np.bincount(flat, weights=shares, minlength=groups * channels).reshape(groups, channels)
        return np.asarray(rows, dtype=np.float64)

    def _with_satellites(
        self, energy: Array, areas: Array, group: Indices, groups: int
    ) -> tuple[Array, Array, Indices, Array]:
        """Add the tails, escape peaks and pile-up of the lines that are strong in their group.

        Returns
        -------
        Energies, areas and groups, and a standard deviation in keV that comes on top of the detector's, all (line,).
        """
        if not (self.collection_depth_um or self.escape or self.pile_up):
            return energy, areas, group, np.zeros(energy.size)
        strongest = np.zeros(groups)
        np.maximum.at(strongest, group, areas)
        share = areas / np.maximum(strongest[group], 1e-300)
        strong = np.flatnonzero(share >= SATELLITE_SHARE)
        peak, no_spread = areas.copy(), np.zeros(strong.size)
        parts: list[tuple[Array, Array, Indices, Array]] = []
        if self.escape:
            escaping = np.flatnonzero(share >= 0.1 * SATELLITE_SHARE)
            lost = self.escape * escape_probability(energy[escaping]) * areas[escaping]
            peak[escaping] -= lost
            left = energy[escaping] - SILICON_K_ALPHA_KEV
            parts.append((left, lost, group[escaping], np.zeros(escaping.size)))
        if self.collection_depth_um:
            shares, whole = tail_shares(energy[strong], self.collection_depth_um), peak[strong]
            peak[strong] = whole * shares[:, 0]
            lost_charge = (1.0 - self.surface_collection) * energy[strong]
            for step in range(1, shares.shape[1]):
                at = energy[strong] - TAIL_LOSS[step] * lost_charge
                parts.append((at, whole * shares[:, step], group[strong], TAIL_SPREAD[step] * lost_charge))
        for partner, probability in self.pile_up:
            parts.append((energy[strong] + partner, probability * areas[strong], group[strong], no_spread))
        parts.insert(0, (energy, peak, group, np.zeros(energy.size)))
        return (
            np.concatenate([part[0] for part in parts]),
            np.concatenate([part[1] for part in parts]),
            np.concatenate([part[2] for part in parts]),
            np.concatenate([part[3] for part in parts]),
        )


@cache
def _bend_basis() -> CubicSpline:
    """Cardinal natural splines of log energy through the knots."""
    return CubicSpline(np.log(BEND_KNOTS_KEV), np.eye(len(BEND_KNOTS_KEV)), bc_type="natural")
