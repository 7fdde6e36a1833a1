"""Where the photons of a sum spectrum come from: line families in groups, and the continuum."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import shares_of
from bayesunmix.xray.axis_fit import AxisFit
from bayesunmix.xray.continuum import ThickPart, bremsstrahlung, hats_on, mean_depth_g_cm2
from bayesunmix.xray.detector import Detector
from bayesunmix.xray.ionisation import edge_energy_keV
from bayesunmix.xray.lines import Line, LineTable, emitted_by_valence, line_group
from bayesunmix.xray.response import FWHM2_PER_VARIANCE
from bayesunmix.xray.scoring import Columns

SMALLEST_GROUP = 0.005
# Lines below this share of their column are left out of the fit.
WEAKEST_LINE = 1e-3
# Absorption edge that belongs to a family's strongest lines.
EDGE_OF = {"K": "K", "L": "L3"}
# Families with at least this share of the counts are partners of pile-up.
PARTNER_SHARE = 0.01
# The continuum gets more hats the more counts there are.
FEWEST_HATS, MOST_HATS = 7, 12

Array = npt.NDArray[np.float64]
Column = tuple[tuple[str, str], ...]  # families (element, family) that share a weight


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where photons come from and what they pass on their way."""

    table: LineTable
    detector: Detector
    transmission: Callable[[Array], Array]
    stray: frozenset[str]
    found: tuple[str, ...] = ()

    def lines(self, column: Column) -> tuple[list[Line], Array]:
        """Lines of a column and their detected strengths."""
        lines = [line for element, family in column for line in self.table.lines(element, family)]
        energy = np.array([line.energy_keV for line in lines])
        strength = np.array([line.strength for line in lines])
        return lines, strength * self.detector.efficiency(energy) * self.transmission(energy)

    def columns(self, columns: list[Column], continuum: Array, stiffness: Array, edges: Array) -> Columns:
        """Line up all columns with the groups whose ratios are adjustable."""
        energy: list[float] = []
        areas: list[float] = []
        groups: list[int] = []
        bonded: list[bool] = []
        owner: list[int] = []
        ratio_sd: list[float] = []
        for number, column in enumerate(columns):
            lines, detected = self.lines(column)
            share = shares_of(detected)
            keys = [line_group(line) for line in lines]
            # Ratios inside elements that nobody declared stay as they are: there are few counts.
            apart = column[0][0] not in self.found
            names = list(dict.fromkeys(keys)) if apart else [""]
            total = [sum(a for a, k in zip(share, keys, strict=True) if name in ("", k)) for name in names]
            strongest = names[int(np.argmax(total))]
            for line, area, key in zip(lines, share, keys, strict=True):
                if area >= WEAKEST_LINE:
                    energy.append(line.energy_keV)
                    areas.append(area)
                    groups.append(len(owner) + (names.index(key) if apart else 0))
                    bonded.append(self._bonded(line))
            for name, part in zip(names, total, strict=True):
                owner.append(number)
                fixed = name == strongest or part < SMALLEST_GROUP
                ratio_sd.append(0.0 if fixed else self._ratio_sd(*column[0], name, strongest))
        return Columns(
            energy_keV=np.array(energy),
            area=np.array(areas),
            group=np.array(groups),
            bonded=np.array(bonded, bool),
            owner=np.array(owner),
            ratio_sd=np.array(ratio_sd),
            continuum=continuum,
            stiffness=stiffness,
            edges=edges,
        )

    def _bonded(self, line: Line) -> bool:
        """Whether valence electrons of the sample's atoms emit a line."""
        foreign = line.element in self.stray or line.element in self.found
        return not foreign and emitted_by_valence(line)

    def _ratio_sd(self, element: str, family: str, group: str, strongest: str) -> float:
        if element in self.found:
            return 0.0
        if element in self.stray:
            return self.table.priors.line_ratio_stray_sd
        return self.table.ratio_sd(element, family, group, strongest)


def continuum_hats(
    counts: Array, edges: Array, beam_energy_keV: float, sources: Sources
) -> tuple[Array, Array, Array]:
    """Knots of the continuum's hats, their areas on the physical shape, and the hats with unit area."""
    centre = 0.5 * (edges[1:] + edges[:-1])
    number = int(np.clip(round(2.0 * np.log10(counts.sum())), FEWEST_HATS, MOST_HATS))
    lowest = max(centre[0], edges[1] - edges[0])
    shape = bremsstrahlung(edges, beam_energy_keV, sources.detector.efficiency)
    knots, area, pieces = hats_on(shape * sources.transmission(np.maximum(centre, lowest)), edges, number)
    return knots, area, pieces / area[:, None]


def stiffness_rows(area: Array, axis_fit: AxisFit, bend_sd: float) -> Array:
    """Prior rows on the continuum's weights: the bend of the correction at each knot, in units of its deviation."""
    counts = sum(
        weight
        for name, weight in zip(axis_fit.components, axis_fit.weights.tolist(), strict=True)
        if name.startswith("continuum")
    )
    # A spectrum may show no continuum: then as if it were one count.
    typical = max(counts, 1.0) / float(area.sum())
    bend = np.diff(np.eye(area.size), n=2, axis=0)
    return np.asarray(bend / area / (bend_sd * typical))


def thick_parts(
    axis_fit: AxisFit, sources: Sources, edges: Array, beam_energy_keV: float
) -> tuple[ThickPart, ...]:
    """Thick parts that may add a continuum of their own: elements with enough counts and an edge on the axis.

    Those of the sample are among them: pole pieces are iron, too.
    """
    total = float(axis_fit.weights.sum())
    parts = []
    for name, counts in zip(axis_fit.components, axis_fit.weights.tolist(), strict=True):
        element, _, family = name.partition("_")
        if family not in EDGE_OF or counts < PARTNER_SHARE * total:
            continue
        edge = edge_energy_keV(element, EDGE_OF[family])
        if edges[0] < edge < edges[-1]:
            sigma = float(sources.detector.response.fwhm_keV(edge)) / np.sqrt(FWHM2_PER_VARIANCE)
            depth = mean_depth_g_cm2(element, beam_energy_keV)
            parts.append(
                ThickPart(
                    element=element, edge_keV=edge, sigma_keV=float(sigma), depth_g_cm2=depth, amount=1.0
                )
            )
    return tuple(parts)


def thick_columns(
    parts: tuple[ThickPart, ...], edges: Array, beam_energy_keV: float, sources: Sources
) -> tuple[Array, Array]:
    """Areas of the thick parts' continua on the scale of `continuum_hats`, and the continua with unit area."""
    centre = 0.5 * (edges[1:] + edges[:-1])
    inside = np.maximum(centre, max(centre[0], edges[1] - edges[0]))
    shape = bremsstrahlung(edges, beam_energy_keV, sources.detector.efficiency) * sources.transmission(inside)
    pieces = np.array([shape * part(inside) for part in parts]).reshape(len(parts), len(centre))
    area = pieces.sum(axis=1)
    return area, shares_of(pieces)


def pile_up_partners(axis_fit: AxisFit, sources: Sources) -> tuple[tuple[float, float], ...]:
    """Energy and share of the counts of the strongest families: what other photons pile up with."""
    total = float(axis_fit.weights.sum())
    partners = []
    for name, counts in zip(axis_fit.components, axis_fit.weights.tolist(), strict=True):
        if not name.startswith("continuum") and counts > PARTNER_SHARE * total:
            element, family = name.split("_")
            lines, detected = sources.lines(((element, family),))
            energy = np.average([line.energy_keV for line in lines], weights=detected)
            partners.append((float(energy), counts / total))
    return tuple(partners)
