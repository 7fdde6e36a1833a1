"""How far off an energy axis is, where that is more than a fit from nearby can find.

A shifted axis puts the lines of other elements on the peaks, so axis and elements are sought together. For offsets and
gains within the grids below, elements are added one by one as long as they explain more than they cost. The score of an
axis is then, as -2 log of its probability,

    S = sum_b r_b^2 + sum_e (c - 2 log p_e) + missing lines + axis,

r_b the residual of channel group b over its error, which holds counting and `SYSTEMATIC_SD` of the counts (line ratios,
tails and absorption are not exact), p_e the prior probability of element e (`presence_prior`, 0.95 for those that
somebody names) and c the cost of a free amount. Lines that should be seen and are not count as far as their amount
misses what the element's other families, within a factor, ask for. The prior of the axis is a mixture: nearly all
files have one that is right within `ORDINARY_SD`, the share `FAR_SHARE` one that lies anywhere on the grid. Peaks that
no element makes stay in the residuals and cost most; a peak at zero energy, which the electronics make, may be there.

Another axis must be better than all near the file's own by `CLEAR`, odds of e^12, and leave no peak, to replace it.
`benchmarks/axis_search.py` counts how often that is right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from bayesunmix.core.threads import single_thread
from bayesunmix.inspection.peak_sources import presence_prior
from bayesunmix.xray import LineTable, Response, continuum_basis
from bayesunmix.xray.atomic import FAMILIES
from bayesunmix.xray.scoring import nonnegative_minimum

FloatArray = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

GRID_OFFSET_KEV = np.linspace(-0.25, 0.25, 21)
GRID_GAIN = np.linspace(-0.0125, 0.0125, 5)
# Half a step beyond the grid.
MOST_OFFSET_KEV, MOST_GAIN = 0.2625, 0.0156
# Standard deviations of offset (keV) and gain in files whose axis is right, and the share of the others.
ORDINARY_SD = (0.030, 0.005)
FAR_SHARE = 0.01
# A fit that starts at the file's axis finds one that is so near by itself.
NEAR_KEV, NEAR_GAIN = 0.050, 0.008
# Files are seldom off by more; a correction that is larger is said aloud.
ORDINARY_KEV = 0.030
SYSTEMATIC_SD = 0.05
CONTINUUM_FUNCTIONS = 10
# Groups of channels are this share of a peak's width. Below this energy lies the zero peak of the electronics.
GROUP_FWHM, LOWEST_KEV = 0.3, 0.15
FINE_KEV = 0.005
# Shares of a template that are smaller are differences of ones.
ROUNDING = 1e-12
# What a free amount costs, and how many elements an axis may ask for beside the named ones.
FREE_AMOUNT, MOST_ELEMENTS = 8.0, 14
# Families of an element may be out of proportion by this factor, more below 1 keV; each counts at most so much.
FAMILY_FACTOR, SOFT_FACTOR, SOFT_KEV, MOST_AGAINST = 4.0, 12.0, 1.0, 24.0
CLEAR = 25.0
# An axis on which peaks stay unexplained is no answer.
MOST_MISFIT = 8.0
# So many axes of the grid are followed to their best place.
FOLLOWED, MOST_CALLS = 4, 60
# Axes are one when the peaks lie within this share of a width.
SAME_FWHM = 0.3


@dataclass(frozen=True, kw_only=True)
class AxisCandidate:
    """One energy axis with the elements that go with it.

    Parameters
    ----------
    gain, offset_keV
        Energy on the file's axis = offset + gain x true energy.
    score
        -2 log of its probability, up to a constant.
    elements
        Elements that explain the spectrum there, named ones first.
    misfit
        Mean square of what is left, in errors.
    """

    gain: float
    offset_keV: float
    score: float
    elements: tuple[str, ...]
    misfit: float

    @property
    def near(self) -> bool:
        """Whether a fit that starts at the file's axis finds this one."""
        return abs(self.offset_keV) <= NEAR_KEV and abs(self.gain - 1.0) <= NEAR_GAIN

    def corrected(self, energy_keV: FloatArray) -> FloatArray:
        """Return the true energies of places on the file's axis."""
        return np.asarray((energy_keV - self.offset_keV) / self.gain)


@dataclass(frozen=True, kw_only=True)
class _Templates:
    """Cumulative spectra on a fine axis of true energies.

    Parameters
    ----------
    elements
        Element of each row of the following arrays.
    strengths, middles_keV : (element, family)
        Detected counts per atom, zero where no such family lies on the axis, and mean energies.
    edges_keV : (fine edge,)
    cumulative : (fine edge, element x family + other)
        Families with unit area, then continuum and zero peaks. What is read together stands together.
    """

    elements: tuple[str, ...]
    strengths: FloatArray
    middles_keV: FloatArray
    edges_keV: FloatArray
    cumulative: FloatArray

    @property
    def families(self) -> int:
        """Number of rows that are families."""
        return int(self.strengths.size)

    def columns(self, true_edges_keV: FloatArray, rows: Indices | slice = slice(None)) -> FloatArray:
        """Return the counts of some templates between edges, of all by default, shape (template, group)."""
        place = (true_edges_keV - self.edges_keV[0]) / FINE_KEV
        place = np.clip(place, 0.0, self.edges_keV.size - 1.001)
        whole = place.astype(np.intp)
        part = (place - whole)[:, None]
        at = self.cumulative[whole][:, rows] * (1.0 - part) + self.cumulative[whole + 1][:, rows] * part
        shares = np.diff(at, axis=0).T
        return np.where(shares > ROUNDING, shares, 0.0)

    def missing(self, amounts: FloatArray, norm2: FloatArray) -> FloatArray:
        """Cost of families that fall short of what the most significant one of their element asks for, (element,)."""
        amounts, norm2 = np.maximum(amounts, 0.0), norm2 * (self.strengths > 0.0)
        best = np.argmax(amounts**2 * norm2, axis=1)[:, None]
        at_best = [np.take_along_axis(a, best, axis=1) for a in (amounts, self.strengths, self.middles_keV)]
        soft = np.minimum(self.middles_keV, at_best[2]) < SOFT_KEV
        expected = (
            at_best[0]
            * self.strengths
            / np.maximum(at_best[1], 1e-300)
            / np.where(soft, SOFT_FACTOR, FAMILY_FACTOR)
        )
        short2 = np.maximum(expected - amounts, 0.0) ** 2 * norm2
        return np.asarray(np.minimum(short2, MOST_AGAINST).sum(axis=1))


@dataclass(frozen=True, kw_only=True)
class AxisSearch:
    """A sum spectrum whose axis is in doubt.

    Parameters
    ----------
    counts, edges_keV
        Sum spectrum (energy,) and the edges of its channels (energy + 1,).
    response
        Nominal widths.
    table
        Lines of all elements that are thought of.
    beam_energy_keV
        Energy of the electrons.
    efficiency
        Efficiency of the detector as a function of energies in keV.
    named
        Elements that the user or the file names.
    """

    counts: FloatArray
    edges_keV: FloatArray
    response: Response
    table: LineTable
    beam_energy_keV: float
    efficiency: Callable[[FloatArray], FloatArray]
    named: tuple[str, ...] = ()

    def fits(self) -> tuple[AxisCandidate, ...]:
        """Return the best axes that differ, the most probable first; none where there is nothing to go by."""
        if not self._values.any() or not self._templates.elements:
            return ()
        with single_thread():
            return self._searched()

    def _searched(self) -> tuple[AxisCandidate, ...]:
        """Try a grid of axes, and move the best to where they fit best."""
        grid = [(1.0 + gain, offset) for gain in GRID_GAIN.tolist() for offset in GRID_OFFSET_KEV.tolist()]
        coarse = sorted((self._fit(*axis) for axis in grid), key=_score)
        best = self._different(coarse)[:FOLLOWED]
        if not any(fit.near for fit in best):
            best.append(next(fit for fit in coarse if fit.near))
        return tuple(self._different(sorted((self._followed(fit) for fit in best), key=_score)))

    def _different(self, fits: Sequence[AxisCandidate]) -> list[AxisCandidate]:
        """Keep of axes that are one the first."""
        kept: list[AxisCandidate] = []
        middle = self._middle_keV
        reach = SAME_FWHM * float(self.response.fwhm_keV(middle))
        for fit in fits:
            at = fit.offset_keV + fit.gain * middle
            if all(abs(other.offset_keV + other.gain * middle - at) > reach for other in kept):
                kept.append(fit)
        return kept

    @cached_property
    def _middle_keV(self) -> float:
        """Mean energy of the counts."""
        return float(np.average(0.5 * (self._edges[1:] + self._edges[:-1]), weights=self._values))

    @cached_property
    def _edges(self) -> FloatArray:
        """Edges of the groups of channels, shape (group + 1,)."""
        edges = self.edges_keV
        end = min(float(edges[-1]), self.beam_energy_keV + MOST_OFFSET_KEV)
        place = int(np.searchsorted(edges, LOWEST_KEV))
        chosen = []
        while place < edges.size and edges[place] <= end:
            chosen.append(place)
            step = GROUP_FWHM * float(self.response.fwhm_keV(edges[place]))
            place = max(place + 1, int(np.searchsorted(edges, edges[place] + step)))
        return np.asarray(edges[chosen])

    @cached_property
    def _values(self) -> FloatArray:
        """Counts of the groups, shape (group,)."""
        if self._edges.size < 2:
            return np.zeros(1)
        total = np.concatenate([[0.0], np.cumsum(self.counts)])
        return np.diff(total[np.searchsorted(self.edges_keV, self._edges)])

    @cached_property
    def _weight(self) -> FloatArray:
        """One over the error of each group's counts, shape (group,)."""
        return np.asarray(1.0 / np.sqrt(np.maximum(self._values, 1.0) + (SYSTEMATIC_SD * self._values) ** 2))

    @cached_property
    def _templates(self) -> _Templates:
        end = float(self._edges[-1])
        fine = np.arange(-0.5, end + 2.0 * MOST_OFFSET_KEV + 2.0 * MOST_GAIN * end, FINE_KEV)
        by_family: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for line in self.table.entries:
            by_family.setdefault((line.element, line.family), []).append((line.energy_keV, line.strength))
        elements = tuple(dict.fromkeys(element for element, _ in by_family))
        strengths = np.zeros((len(elements), len(FAMILIES)))
        middles = np.zeros_like(strengths)
        energies, areas, groups = [], [], []
        for (element, family), lines in by_family.items():
            at = elements.index(element), FAMILIES.index(family)
            energy, strength = np.array(lines).T
            area = strength * self.efficiency(energy)
            if not area[energy < end].sum() > 0.02 * area.sum():
                continue
            strengths[at], middles[at] = area.sum(), np.average(energy, weights=area)
            energies.append(energy)
            areas.append(area / area.sum())
            groups.append(np.full(energy.size, at[0] * len(FAMILIES) + at[1], dtype=np.intp))
        seen = strengths.sum(axis=1) > 0.0
        if not seen.any():
            return _Templates(
                elements=(),
                strengths=strengths[:0],
                middles_keV=middles[:0],
                edges_keV=fine,
                cumulative=np.zeros((fine.size, 0)),
            )
        ideal = Response(noise_eV=self.response.noise_eV, fano=self.response.fano)
        lines_ = [np.concatenate(parts) for parts in (energies, areas, groups)]
        spectra = ideal.columns(lines_[0], lines_[1], lines_[2], strengths.size, fine)
        zero = [Response(noise_eV=width * ideal.noise_eV).matrix([0.0], fine)[0] for width in (0.5, 1.0)]
        continuum = continuum_basis(fine, self.beam_energy_keV, self.efficiency, CONTINUUM_FUNCTIONS)
        rows = np.repeat(seen, len(FAMILIES))
        cumulative = np.cumsum(np.concatenate([spectra[rows], continuum, zero]), axis=1)
        names = tuple(element for element, one in zip(elements, seen.tolist(), strict=True) if one)
        return _Templates(
            elements=names,
            strengths=strengths[seen],
            middles_keV=middles[seen],
            edges_keV=fine,
            cumulative=np.ascontiguousarray(np.pad(cumulative, ((0, 0), (1, 0))).T),
        )

    @cached_property
    def _prior_cost(self) -> FloatArray:
        """What asking for each element costs, shape (element,)."""
        prior = [presence_prior(element, self.named) for element in self._templates.elements]
        return np.asarray(FREE_AMOUNT - 2.0 * np.log(prior))

    def _columns(self, gain: float, offset_keV: float, rows: Indices | slice = slice(None)) -> FloatArray:
        """Templates on an axis over the error of the counts, shape (template, group)."""
        return self._templates.columns((self._edges - offset_keV) / gain, rows) * self._weight

    def _rows(self, elements: npt.NDArray[np.bool_]) -> Indices:
        """Places of the templates of these elements and of what is no element."""
        others = np.ones(self._templates.cumulative.shape[1] - self._templates.families, bool)
        return np.flatnonzero(np.concatenate([np.repeat(elements, len(FAMILIES)), others]))

    @cached_property
    def _scaled(self) -> FloatArray:
        """Counts over their errors, shape (group,)."""
        return self._values * self._weight

    def _solved(self, design: FloatArray, positive: npt.NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """Amounts of templates (template, group), thought to be positive where said, and what they leave, (group,)."""
        amounts = nonnegative_minimum(design @ design.T, design @ self._scaled, positive)
        return amounts, self._scaled - amounts @ design

    def _fit(self, gain: float, offset_keV: float) -> AxisCandidate:
        """Score an axis with the elements that explain most there, added one by one."""
        templates, columns = self._templates, self._columns(gain, offset_keV)
        lines = columns[: templates.families]
        norm2 = np.maximum((lines**2).sum(axis=1), 1e-12).reshape(templates.strengths.shape)
        shown = np.any(columns, axis=1)
        chosen = np.array([element in self.named for element in templates.elements])
        order = [element for element in templates.elements if element in self.named]
        most = len(order) + MOST_ELEMENTS
        positive = np.ones(len(columns), bool)
        while True:
            rows = self._rows(chosen)
            rows = rows[shown[rows]]
            amounts, residual = self._solved(columns[rows], positive[rows])
            positive[rows] = amounts > 0.0
            alone = np.maximum((lines @ residual).reshape(norm2.shape) / norm2, 0.0)
            worth = (alone**2 * norm2).sum(axis=1) - templates.missing(alone, norm2) - self._prior_cost
            best = int(np.argmax(np.where(chosen, -np.inf, worth)))
            if chosen[best] or worth[best] <= 0.0 or len(order) >= most:
                break
            chosen[best] = True
            order.append(templates.elements[best])
        by_template = np.zeros(len(columns))
        by_template[rows] = amounts
        by_family = by_template[: templates.families].reshape(norm2.shape)
        unasked = [element not in self.named for element in templates.elements]
        cost = self._prior_cost[chosen & unasked].sum() + templates.missing(by_family, norm2)[chosen].sum()
        score = float(residual @ residual + cost) + _axis_cost(gain, offset_keV)
        return AxisCandidate(
            gain=gain,
            offset_keV=offset_keV,
            score=score,
            elements=tuple(order),
            misfit=float(np.mean(residual**2)),
        )

    def _followed(self, start: AxisCandidate) -> AxisCandidate:
        """Move an axis to where its elements fit best."""
        rows = self._rows(np.array([element in start.elements for element in self._templates.elements]))
        positive = np.ones(len(rows), bool)

        def misfit(x: FloatArray) -> float:
            nonlocal positive
            gain, offset = 1.0 + ORDINARY_SD[1] * float(x[0]), ORDINARY_SD[0] * float(x[1])
            amounts, residual = self._solved(self._columns(gain, offset, rows), positive)
            positive = amounts > 0.0
            return float(residual @ residual) + _axis_cost(gain, offset)

        x = np.array([(start.gain - 1.0) / ORDINARY_SD[1], start.offset_keV / ORDINARY_SD[0]])
        simplex = x + 0.3 * np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
        options = {"maxfev": MOST_CALLS, "xatol": 0.02, "fatol": 0.5, "initial_simplex": simplex}
        found = minimize(misfit, x, method="Nelder-Mead", options=options).x
        moved = self._fit(1.0 + ORDINARY_SD[1] * float(found[0]), ORDINARY_SD[0] * float(found[1]))
        return min(start, moved, key=_score)


def _score(fit: AxisCandidate) -> float:
    return fit.score


def _axis_cost(gain: float, offset_keV: float) -> float:
    """-2 log of the prior of an axis, relative to a perfect one."""
    ordinary = (offset_keV / ORDINARY_SD[0]) ** 2 + ((gain - 1.0) / ORDINARY_SD[1]) ** 2
    if abs(offset_keV) > MOST_OFFSET_KEV or abs(gain - 1.0) > MOST_GAIN:
        return ordinary + 1e6
    area = 4.0 * MOST_OFFSET_KEV * MOST_GAIN / (2.0 * np.pi * ORDINARY_SD[0] * ORDINARY_SD[1])
    return float(-2.0 * np.logaddexp(-0.5 * ordinary, np.log(FAR_SHARE / area)))


def likely_axis(fits: Sequence[AxisCandidate]) -> AxisCandidate | None:
    """Return the axis that is clearly more probable than all near the file's own, or None where there is none."""
    near = [fit.score for fit in fits if fit.near]
    best = min(fits, key=_score, default=None)
    if best is None or best.near or best.misfit > MOST_MISFIT or (near and min(near) - best.score < CLEAR):
        return None
    return best


def rival_axis(fits: Sequence[AxisCandidate], chosen: AxisCandidate | None) -> AxisCandidate | None:
    """Return the axis that comes nearest to the one that is used, where the difference is not clear; else None.

    Parameters
    ----------
    fits
        All axes that were found.
    chosen
        The one that is used; None for the file's own.
    """
    used = [fit for fit in fits if (fit is chosen if chosen else fit.near)]
    others = [fit for fit in fits if fit not in used and not (chosen is None and fit.near)]
    rival = min(others, key=_score, default=None)
    if not used or rival is None or rival.score - min(fit.score for fit in used) > CLEAR:
        return None
    return rival
