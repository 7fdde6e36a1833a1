"""What is declared of compositions softly, as the arrays of the model: formulas, fractions, what is rich in what.

    stoichiometry    the ratio of each site to the next; of a formula of oxides, that of large to small cations
    composition      atom fractions
    rich, poor       contrasts with every other phase
    reference        what a spectrum of the phase alone says, along the axes of its covariance

The model reads compositions with nominal calibration factors, which the map must not learn: their errors are part of
the width of a statement. Between phases they cancel, and between a map and a spectrum of the same instrument.

Elements that a formula does not name are few: the logarithm of the share of all others is half-normal below zero. In
oxides of up to two sites of cations crystal chemistry places them; else they may sit on any site. With A and B the
atoms of two sites, U those that are on neither, and r the ratio of the formula,

    log((A + U) / B) >= log r >= log(A / (B + U))
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bayesunmix.chemistry.formula_sites import Site, formula_sites
from bayesunmix.chemistry.stoichiometry import is_of_sites, places_cations, site_weights
from bayesunmix.config.phase import Phase
from bayesunmix.config.priors import Priors
from bayesunmix.core.shares import shares_of
from bayesunmix.fit.reference_fit import ReferenceComposition
from bayesunmix.models.statements import Statements, no_statements

FloatArray = npt.NDArray[np.float64]

# Of the logarithm of the share of the atoms that a formula names: a tenth of others is usual, a fifth is not.
NAMED_SD = 0.1
# Sites of cations that crystal chemistry tells apart: large and small.
MOST_PLACED = 2


class _Row(NamedTuple):
    """One statement."""

    above: FloatArray
    below: FloatArray
    low: float
    high: float
    sd: float


def statements_on(
    phases: Sequence[Phase],
    elements: Sequence[str],
    mean_composition: FloatArray,
    calibration_sd: FloatArray,
    widths: Priors,
    references: Sequence[ReferenceComposition] = (),
) -> Statements:
    """Collect the soft statements on phases.

    Parameters
    ----------
    phases
    elements
        Declared elements.
    mean_composition : (element,)
        Atom fractions of the whole map, at which the errors of line strengths act.
    calibration_sd : (element,)
        Relative errors of the line strengths.
    widths : Priors
    references
        What spectra of phases alone say.
    """
    spectra = {one.phase: one for one in references}
    sources, rows = [], []
    for k, phase in enumerate(phases):
        by_key = (
            _formula_rows(k, phase, phases, elements, mean_composition, calibration_sd, widths),
            _fraction_rows(k, phase, phases, elements, mean_composition, calibration_sd),
            _contrast_rows(k, phases, elements, "rich", widths),
            _contrast_rows(k, phases, elements, "poor", widths),
            _reference_rows(k, phases, elements, spectra.get(phase.name)),
        )
        for key, found in enumerate(by_key):
            for row in found:
                sources.append((k, key))
                rows.append(row)
    if not rows:
        return no_statements(len(phases), len(elements))
    places, keys = np.array(sources).T
    above, below, low, high, sd = (np.array(column) for column in zip(*rows, strict=True))
    return Statements(places, keys, above, below, low, high, 1.0 / sd)


def _formula_rows(
    k: int,
    phase: Phase,
    phases: Sequence[Phase],
    elements: Sequence[str],
    mean: FloatArray,
    calibration_sd: FloatArray,
    widths: Priors,
) -> Iterator[_Row]:
    """Statements on the sites of a phase's formula."""
    formula = phase.stoichiometry
    if formula is None:
        return
    tolerance = widths.site_balance_sd if phase.tolerance is None else phase.tolerance

    def ratio(above: FloatArray, below: FloatArray, least: float, most: float) -> _Row:
        slope = shares_of(above * mean) - shares_of(below * mean)
        sd = float(np.hypot(tolerance, np.linalg.norm(slope * calibration_sd)))
        low, high = (float(np.log(number)) if number > 0.0 else -np.inf for number in (least, most))
        return _Row(_of(k, above, len(phases)), _of(k, below, len(phases)), low, high, sd)

    placed = places_cations(formula)
    sites = () if is_of_sites(formula) else formula_sites(formula)
    # Amounts of oxygen are those of the cations.
    sites = tuple(site for site in sites if not placed or site.elements != {"O"})
    by_chemistry = placed and len(sites) <= MOST_PLACED
    if by_chemistry:
        balance = site_weights(formula, elements)
        if balance is not None:
            yield ratio(balance.a, balance.b, balance.ratio, balance.ratio)
    if not sites:
        return
    present = [element for element in elements if element not in phase.absent]
    measured = _measured(sites, present)
    own = {element for site in measured for element in site.elements} | ({"O"} if placed else set())
    named = np.array([element in own for element in elements], float)
    unnamed = np.array([element in present for element in elements], float) * (1.0 - named)
    for first, second in () if by_chemistry else itertools.pairwise(measured):
        above, below = (_on(site, elements) for site in (first, second))
        least = first.least / second.most
        most = first.most / second.least if second.least > 0.0 else np.inf
        if unnamed.any():
            yield ratio(above + unnamed, below, least, np.inf)
            yield ratio(above, below + unnamed, 0.0, most)
        else:
            yield ratio(above, below, least, most)
    if unnamed.any():
        ends = _of(k, named, len(phases)), _of(k, named + unnamed, len(phases))
        yield _Row(*ends, 0.0, np.inf, NAMED_SD)


def _measured(sites: Sequence[Site], present: Sequence[str]) -> list[Site]:
    """Sites that measured elements sit on: some may be empty where others are not measured."""
    found = []
    for site in sites:
        seen = site.elements & set(present)
        if seen:
            found.append(Site(seen, site.least if seen == site.elements else 0.0, site.most))
    return found


def _fraction_rows(
    k: int,
    phase: Phase,
    phases: Sequence[Phase],
    elements: Sequence[str],
    mean: FloatArray,
    calibration_sd: FloatArray,
) -> Iterator[_Row]:
    """Statements on the atom fractions of a phase."""
    for element, (fraction, sd) in phase.composition.items():
        own = np.array([one == element for one in elements], float)
        others = shares_of((1.0 - own) * mean) * (1.0 - fraction)
        # d ln x_e = (1 - x_e) dc_e - sum_j x_j dc_j, c being the logarithms of the line strengths.
        calibration = fraction * np.linalg.norm(((1.0 - fraction) * own + others) * calibration_sd)
        width = float(np.hypot(sd, calibration))
        yield _Row(_of(k, own, len(phases)), _of(k, 0.0 * own, len(phases)), fraction, fraction, width)


def _contrast_rows(
    k: int, phases: Sequence[Phase], elements: Sequence[str], key: str, widths: Priors
) -> Iterator[_Row]:
    """Statements on which phase is the richer one, for every other one of which the same is not said."""
    for element in getattr(phases[k], key):
        own = np.array([one == element for one in elements], float)
        for j, other in enumerate(phases):
            if j == k or other.is_support or element in getattr(other, key):
                continue
            richer, poorer = (k, j) if key == "rich" else (j, k)
            above, below = (_of(phase, own, len(phases)) for phase in (richer, poorer))
            yield _Row(above, below, 0.0, np.inf, widths.richer_sd)


def _reference_rows(
    k: int, phases: Sequence[Phase], elements: Sequence[str], found: ReferenceComposition | None
) -> Iterator[_Row]:
    """Statements along the axes u of the covariance of the shares r that a spectrum has: u . (x - r sum x) is 0.

    The sum is over the elements that have lines in the spectrum and are not absent: of others it says nothing.
    """
    phase = phases[k]
    if phase.reference is None or found is None:
        return
    kept = np.array([element not in phase.absent for element in found.elements])
    places = [elements.index(element) for element, one in zip(found.elements, kept, strict=True) if one]
    if len(places) < 2 or not found.tells(kept):
        return
    shares, covariance = found.among(kept)
    variance, axes = np.linalg.eigh(covariance)
    # They add up to 1: along the first axis nothing is open.
    for sd, axis in zip(np.sqrt(variance[1:]), axes.T[1:], strict=True):
        amounts = np.zeros(len(elements))
        amounts[places] = axis - axis @ shares
        yield _Row(_of(k, amounts, len(phases)), _of(k, 0.0 * amounts, len(phases)), 0.0, 0.0, float(sd))


def _of(phase: int, amounts: FloatArray, n_phases: int) -> FloatArray:
    """Amounts (element,) of one phase among all, (phase, element)."""
    among = np.zeros((n_phases, len(amounts)))
    among[phase] = amounts
    return among


def _on(site: Site, elements: Sequence[str]) -> FloatArray:
    """Which elements sit on a site, (element,)."""
    return np.array([element in site.elements for element in elements], float)
