"""Peaks of a sum spectrum and the elements that may have made them.

Peaks are found by correlation with the second derivative of a Gaussian as wide as the detector's response (Mariscotti
1967, doi:10.1016/0029-554X(67)90058-4), which is blind to a straight background. Given elements are fitted to them,
family by family. Which others may have made a peak, and how probably: `bayesunmix.inspection.peak_sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls
from scipy.signal import find_peaks as local_maxima

from bayesunmix.xray import Line, LineTable, Response, continuum_basis
from bayesunmix.xray.response import FWHM2_PER_VARIANCE

FloatArray = npt.NDArray[np.float64]

# Below this the zero peak of the electronics may lie, not X-rays.
LOWEST_KEV = 0.2
LEAST_SIGNIFICANCE = 5.0
# An element explains a peak within this share of a width, and a few eV for an axis that is slightly off.
NEAR_FWHM = 0.4
NEAR_KEV = 0.010
# Lines closer than this share of a width appear as one.
MERGE_FWHM = 0.6
# A group of lines weaker than this share of its family is never seen.
WEAKEST_GROUP = 0.003
# A peak near a group at least this strong is left to the group's family in a fit; others are fitted by themselves.
WEAKEST_FITTED = 0.02
# Only a line that makes this share of a peak explains it.
EXPLAINS = 0.3
CONTINUUM_FUNCTIONS = 12
# Fewer counts than this in the correlation's variance would make a single photon significant.
LEAST_VARIANCE = 0.5


@dataclass(frozen=True)
class Peak:
    """One peak above the continuum.

    Parameters
    ----------
    energy_keV
        Where it lies on the map's axis.
    net_counts
        Counts above the continuum.
    significance
        Height over its standard deviation, counting alone.
    """

    energy_keV: float
    net_counts: float
    significance: float


@dataclass(frozen=True, kw_only=True)
class LineGroup:
    """Lines of one family that appear as one peak.

    Parameters
    ----------
    element, family
        Whose lines they are.
    label
        Name of the strongest, as in ``Fe Kα``.
    energy_keV
        Mean apparent energy.
    share
        Share of the family's detected counts.
    strength
        Detected counts per atom, in the unit of the line table.
    """

    element: str
    family: str
    label: str
    energy_keV: float
    share: float
    strength: float


@dataclass(frozen=True)
class _FamilyLines:
    """Lines of one family in order of energy, with their detected strengths."""

    names: tuple[str, ...]
    energy_keV: FloatArray
    detected: FloatArray


@dataclass(frozen=True, kw_only=True)
class Decomposition:
    """A sum spectrum as families of known elements, other peaks and a continuum.

    Parameters
    ----------
    families : (family,)
        Element and family.
    line_counts, line_columns : (family,), (family, energy)
        Counts, and spectra of one count.
    peak_energies, peak_counts, peak_columns : (peak,), (peak,), (peak, energy)
        Peaks that no known element explains.
    continuum : (energy,)
    """

    families: tuple[tuple[str, str], ...]
    line_counts: FloatArray
    line_columns: FloatArray
    peak_energies: FloatArray
    peak_counts: FloatArray
    peak_columns: FloatArray
    continuum: FloatArray


@dataclass(frozen=True, kw_only=True)
class SumSpectrum:
    """A sum spectrum with the physics that reads it.

    Parameters
    ----------
    counts
        Counts of each channel, shape (energy,).
    edges_keV
        Edges of the channels, shape (energy + 1,).
    response
        Axis and width.
    table
        Lines of all elements that are thought of.
    beam_energy_keV
        For the continuum.
    efficiency
        Efficiency of the detector as a function of energies in keV.
    """

    counts: FloatArray
    edges_keV: FloatArray
    response: Response
    table: LineTable
    beam_energy_keV: float
    efficiency: Callable[[FloatArray], FloatArray]

    @cached_property
    def centres_keV(self) -> FloatArray:
        """Channel centres, shape (energy,)."""
        return np.asarray(0.5 * (self.edges_keV[1:] + self.edges_keV[:-1]))

    @cached_property
    def continuum(self) -> FloatArray:
        """Functions whose non-negative sums are continua, shape (function, energy)."""
        return continuum_basis(self.edges_keV, self.beam_energy_keV, self.efficiency, CONTINUUM_FUNCTIONS)

    @cached_property
    def ideal(self) -> Response:
        """The same widths on an axis without error: the energies of peaks are read off the axis itself."""
        return Response(noise_eV=self.response.noise_eV, fano=self.response.fano)

    def fwhm_keV(self, energy_keV: float) -> float:
        """Full width at half maximum of a peak."""
        return float(self.response.fwhm_keV(energy_keV))

    @cached_property
    def _families(self) -> dict[tuple[str, str], _FamilyLines]:
        """Lines of the families that lie on the axis."""
        low, high = self.edges_keV[0], self.edges_keV[-1]
        collected: dict[tuple[str, str], list[Line]] = {}
        for line in sorted(self.table.entries, key=lambda line: line.energy_keV):
            collected.setdefault((line.element, line.family), []).append(line)
        families = {}
        for key, lines in collected.items():
            energy = np.array([line.energy_keV for line in lines])
            strength = np.array([line.strength for line in lines])
            if np.any((energy >= low) & (energy <= high)):
                detected = strength * self.efficiency(energy)
                families[key] = _FamilyLines(tuple(line.line for line in lines), energy, detected)
        return families

    def detected_strength(self, element: str, family: str) -> float:
        """Return the detected counts per atom of a family, in the unit of the line table."""
        return float(self._families[element, family].detected.sum())

    @cached_property
    def peaks(self) -> tuple[Peak, ...]:
        """All significant peaks, in order of energy."""
        significance = self._significance()
        found, _ = local_maxima(significance, height=LEAST_SIGNIFICANCE)
        found = found[self.centres_keV[found] > LOWEST_KEV]
        energies = np.array([self._vertex(significance, int(place)) for place in found])
        if not energies.size:
            return ()
        nets = self._fit(self.ideal.matrix(energies, self.edges_keV))[: energies.size]
        pairs = zip(energies.tolist(), nets.tolist(), significance[found].tolist(), strict=True)
        return tuple(Peak(energy, net, height) for energy, net, height in pairs if net > 0.0)

    @cached_property
    def groups(self) -> tuple[LineGroup, ...]:
        """Line groups of every element on the axis."""
        return tuple(group for key in self._families for group in self._groups_of(*key))

    @cached_property
    def _near(self) -> dict[Peak, tuple[LineGroup, ...]]:
        """Line groups of any element near each peak."""
        energy = np.array([group.energy_keV for group in self.groups])
        near = {}
        for peak in self.peaks:
            reach = NEAR_FWHM * self.fwhm_keV(peak.energy_keV) + NEAR_KEV
            found = np.flatnonzero(np.abs(energy - peak.energy_keV) <= reach)
            near[peak] = tuple(self.groups[index] for index in found)
        return near

    def explained(self, elements: Iterable[str]) -> dict[Peak, LineGroup | None]:
        """Return for each peak the line group of `elements` that makes most of it, or None where none does.

        The amount of every family is fitted to the whole spectrum, with the peaks that no line of `elements` is near.
        """
        wanted = frozenset(elements)
        return self._made_by(wanted, self.decompose(wanted))

    def _significance(self) -> FloatArray:
        """Correlation with the second derivative over its standard deviation, shape (energy,)."""
        sigma = self.response.fwhm_keV(self.centres_keV) / np.sqrt(FWHM2_PER_VARIANCE)
        distance = (self.centres_keV[None, :] - self.centres_keV[:, None]) / sigma[:, None]
        kernel = np.where(np.abs(distance) < 5.0, (1.0 - distance**2) * np.exp(-0.5 * distance**2), 0.0)
        # Cut off by the end of the axis, the kernel is no longer blind to the background.
        whole = np.abs(kernel.sum(axis=1)) < 0.01 * np.abs(kernel).sum(axis=1)
        variance = kernel**2 @ np.maximum(self.counts, LEAST_VARIANCE)
        return np.asarray(np.where(whole, kernel @ self.counts / np.sqrt(variance), 0.0))

    def _vertex(self, heights: FloatArray, place: int) -> float:
        """Energy of a maximum between channels, by the parabola through three points."""
        before, here, after = heights[place - 1 : place + 2]
        bend = before - 2.0 * here + after
        shift = 0.5 * (before - after) / bend if bend < 0.0 else 0.0
        return float(self.centres_keV[place] + shift * (self.edges_keV[1] - self.edges_keV[0]))

    def _fit(self, columns: FloatArray) -> FloatArray:
        """Non-negative amounts of `columns` and then of the continuum, by weighted least squares."""
        weight = 1.0 / np.sqrt(np.maximum(self.counts, 1.0))
        seen = self.centres_keV > LOWEST_KEV
        design = np.concatenate([columns, self.continuum]) * weight
        return np.asarray(nnls(design[:, seen].T, (self.counts * weight)[seen])[0])

    @cached_property
    def smooth(self) -> FloatArray:
        """Peaks and continuum as fitted: the variance of the counts without their noise, shape (energy,)."""
        energies = np.array([peak.energy_keV for peak in self.peaks])
        columns = self.ideal.matrix(energies, self.edges_keV)
        return np.asarray(self._fit(columns) @ np.concatenate([columns, self.continuum]))

    def decompose(self, elements: Iterable[str]) -> Decomposition:
        """Fit the families of `elements`, the peaks that none of their lines explains, and the continuum.

        A peak gets its own column where no line of `elements` is near, and in a second round where those that are near
        turn out to make too little of it.
        """
        wanted = frozenset(elements)
        if wanted not in self._decomposed_so_far:
            self._decomposed_so_far[wanted] = self._decompose(wanted)
        return self._decomposed_so_far[wanted]

    @cached_property
    def _decomposed_so_far(self) -> dict[frozenset[str], Decomposition]:
        return {}

    def _decompose(self, wanted: frozenset[str]) -> Decomposition:
        families = tuple(key for key in self._families if key[0] in wanted)
        lines = np.reshape([self._column(key) for key in families], (-1, self.counts.size))
        foreign = [
            peak
            for peak, near in self._near.items()
            if not any(group.element in wanted and group.share >= WEAKEST_FITTED for group in near)
        ]
        parts = self._decomposed(families, lines, foreign)
        made = self._made_by(wanted, parts)
        unexplained = [peak for peak in self.peaks if peak in foreign or made[peak] is None]
        return parts if len(unexplained) == len(foreign) else self._decomposed(families, lines, unexplained)

    def _decomposed(
        self, families: tuple[tuple[str, str], ...], lines: FloatArray, peaks: Sequence[Peak]
    ) -> Decomposition:
        energies = np.array([peak.energy_keV for peak in peaks])
        columns = self.ideal.matrix(energies, self.edges_keV)
        amounts = self._fit(np.concatenate([lines, columns]))
        last = len(families) + len(peaks)
        return Decomposition(
            families=families,
            line_counts=amounts[: len(families)],
            line_columns=lines,
            peak_energies=energies,
            peak_counts=amounts[len(families) : last],
            peak_columns=columns,
            continuum=np.asarray(amounts[last:] @ self.continuum),
        )

    def _made_by(self, wanted: Collection[str], parts: Decomposition) -> dict[Peak, LineGroup | None]:
        """Line group that makes most of each peak, None where the lines near it make too little."""
        amounts = dict(zip(parts.families, parts.line_counts.tolist(), strict=True))
        result: dict[Peak, LineGroup | None] = {}
        for peak in self.peaks:
            near = [group for group in self._near[peak] if group.element in wanted]
            made = [amounts[group.element, group.family] * group.share for group in near]
            best = int(np.argmax(made)) if made else -1
            result[peak] = near[best] if made and sum(made) >= EXPLAINS * peak.net_counts else None
        return result

    @cached_property
    def _columns(self) -> dict[tuple[str, str], FloatArray]:
        """Family spectra calculated so far."""
        return {}

    def _column(self, family: tuple[str, str]) -> FloatArray:
        """Spectrum of a family with unit detected counts, shape (energy,)."""
        if family not in self._columns:
            lines = self._families[family]
            shares = lines.detected / lines.detected.sum()
            self._columns[family] = self.response.spectrum(lines.energy_keV, shares, self.edges_keV)
        return self._columns[family]

    def _groups_of(self, element: str, family: str) -> list[LineGroup]:
        lines = self._families[element, family]
        energy, detected = lines.energy_keV, lines.detected
        apart = np.diff(energy) > MERGE_FWHM * self.response.fwhm_keV(energy[1:])
        number = np.concatenate([[0], np.cumsum(apart)])
        groups = []
        for index in range(int(number[-1]) + 1):
            inside = number == index
            strength = float(detected[inside].sum())
            share = strength / float(detected.sum())
            if share < WEAKEST_GROUP:
                continue
            centre = float(self.response.apparent_keV(np.average(energy[inside], weights=detected[inside])))
            if max(self.edges_keV[0], LOWEST_KEV) < centre < self.edges_keV[-1]:
                strongest = lines.names[int(np.argmax(np.where(inside, detected, 0.0)))]
                label = f"{element} {siegbahn(strongest)}"
                groups.append(
                    LineGroup(
                        element=element,
                        family=family,
                        label=label,
                        energy_keV=centre,
                        share=share,
                        strength=strength,
                    )
                )
        return groups


def siegbahn(line: str) -> str:
    """Return the usual name of a line's peak: ``Kα`` for KL3, ``Lβ`` for L2M4; the family where it has no short one.

    Examples
    --------
    >>> siegbahn("KL3"), siegbahn("L3M5"), siegbahn("M4N6"), siegbahn("L3M1")
    ('Kα', 'Lα', 'Mβ', 'L')
    """
    starts = {"KL": "Kα", "KM": "Kβ", "KN": "Kβ", "L3M5": "Lα", "L3M4": "Lα", "L2M4": "Lβ", "L3N5": "Lβ"}
    starts |= {"L2N4": "Lγ", "M5N7": "Mα", "M5N6": "Mα", "M4N6": "Mβ"}
    return next((name for start, name in starts.items() if line.startswith(start)), line[0])
