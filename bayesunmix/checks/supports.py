"""Which phases hold no element of the sample: carbon films, holes, and phases of elements that nobody declared.

A phase's counts are lines of the declared elements, stray lines and continuum. With S_k the share of the first in the
counts of phase k, T_k the counts of a place where it is, and S and S T the largest of the map, a phase is taken for a
support when

    S_k < 0.1 S                                                 traces at most, whatever their origin
    S_k < 0.25 S, and S_k T_k < 0.05 S T                        a haze of lines where the map is thin
    S_k < 0.5 S, and no declared element is resolved in k       nothing, as far as few counts can tell

The first two are what a film beside bright grains looks like: electrons beside the beam, and X-rays of the column, put
some of the sample's lines into every spectrum, which many counts then resolve. The third allows for what a hole of few
counts leaves open. *Resolved* is what `bayesunmix.chemistry.ratios` calls an amount whose interval leaves zero out
although it was looked at because it was seen. A phase that holds most lines, or a map in which no phase holds any, is
never a support: something must be left to have a composition.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayesunmix.chemistry.detection import detect
from bayesunmix.chemistry.ratios import resolved_beyond
from bayesunmix.config.phase import Phase, supports_of
from bayesunmix.core.rounding import percent_text
from bayesunmix.core.severity import Distrust, Doubt, Reservation
from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.fit.search import TRACES
from bayesunmix.inference.misfit import pooled_amounts

if TYPE_CHECKING:
    from bayesunmix.fit.draws import Draws
    from bayesunmix.fit.posterior import FittedPosterior
    from bayesunmix.fit.sampling import Drawn
    from bayesunmix.fit.setup import Setup

FloatArray = npt.NDArray[np.float64]

# Shares of the declared elements' lines, relative to the phase that has most: of a haze, and of what is not resolved;
# traces are what the search takes for none.
HAZE = 0.25
UNRESOLVED = 0.5
# Lines of a haze in a place, relative to those where there are most.
THIN = 0.05
# Blocks that tell, evenly spread, and rounds of the descent in each.
MOST_BLOCKS = 2000
SWEEPS = 100


@dataclass(frozen=True)
class Lines:
    """Lines of the declared elements in each phase.

    Attributes
    ----------
    share : (phase,)
        Their mean share of the phase's counts.
    resolved : (phase,) bool
        Whether any declared element is resolved from zero; all True for a single point, which cannot tell.
    place : (phase,)
        Counts of a place where the phase is, in any unit.
    """

    share: FloatArray
    resolved: npt.NDArray[np.bool_]
    place: FloatArray


def counts_of_places(counts: npt.NDArray[np.generic], spectra: FloatArray) -> FloatArray:
    """Mean counts of the blocks in which each phase is, weighted by its share of them, shape (phase,).

    Parameters
    ----------
    counts : (block, energy)
    spectra : (phase, energy)
        Endmembers, unit sum.
    """
    part = np.asarray(counts[:: -(-len(counts) // MOST_BLOCKS)], np.float64)
    share = shares_of(pooled_amounts(part, spectra, SWEEPS))
    return ratio_of(part.sum(axis=1) @ share, share.sum(axis=0))


def declared_lines(
    draws: Draws, owner: npt.NDArray[np.int64], n_elements: int, level: float, place: FloatArray
) -> Lines:
    """Measure the lines of the declared elements in the draws.

    Parameters
    ----------
    draws : Draws
    owner : (family,)
        Component of each line family; the declared elements are the first components.
    n_elements : int
        Number of declared elements.
    level : float
        Probability of the intervals.
    place : (phase,)
        From `counts_of_places`.
    """
    total = draws.total
    share = ratio_of(draws.family_counts[..., owner < n_elements].sum(axis=-1), total).mean(axis=(0, 1))
    amounts = ratio_of(draws.weights[..., :n_elements], total[..., None])
    flat = amounts.reshape(-1, *amounts.shape[2:])
    if len(flat) == 1:
        return Lines(share, np.ones(len(share), bool), place)
    found = detect(flat)
    clear = (found.uncertainty > 0.0) & (found.estimate > resolved_beyond(level) * found.uncertainty)
    return Lines(share, np.asarray(clear.any(axis=-1)), place)


def bare(lines: Lines) -> npt.NDArray[np.bool_]:
    """Tell the phases without elements of the sample, shape (phase,)."""
    relative = ratio_of(lines.share, lines.share.max())
    richest = int(lines.share.argmax())
    if not (relative[richest] > 0.0 and lines.resolved[richest]):
        return np.zeros(len(relative), bool)
    amount = lines.share * lines.place
    haze = (relative < HAZE) & (ratio_of(amount, amount.max()) < THIN)
    return (relative < TRACES) | haze | ((relative < UNRESOLVED) & ~lines.resolved)


def find_supports(setup: Setup, drawn: Drawn, level: float) -> Setup:
    """Return the setup in which the phases that turned out to be supports are declared so, with a sentence on each."""
    forward = setup.forward
    place = counts_of_places(setup.blocks.counts, drawn.draws.spectra.mean(axis=(0, 1)))
    lines = declared_lines(drawn.draws, forward.owner, len(forward.elements), level, place)
    found = bare(lines) & ~supports_of(setup.phases)
    richest = int(lines.share.argmax())
    phases = tuple(
        phase.as_support() if new else phase for phase, new in zip(setup.phases, found, strict=True)
    )
    said: list[Doubt] = [_sentence(setup.phases, lines, int(k), richest) for k in np.flatnonzero(found)]
    nothing = (
        "No declared element is detected in any phase: the map tells nothing of their compositions. Check "
        "`sample.elements` with `bayesunmix inspect`."
    )
    if not lines.resolved.any() or not lines.share.any():
        said.append(Distrust(nothing))
    return replace(setup, phases=phases, warnings=(*setup.warnings, *said))


def without_supports(
    fitted: FittedPosterior, drawn: Drawn, phases: tuple[Phase, ...]
) -> tuple[FittedPosterior, Drawn]:
    """Take the compositions of supports, which are those of noise, out of what modes and draws are judged by."""
    supports = supports_of(phases)
    modes = tuple(
        replace(mode, atom_fractions=np.where(supports[:, None], 0.0, mode.atom_fractions))
        for mode in fitted.modes
    )
    trust = None if drawn.trust is None else drawn.trust.without(supports)
    return replace(fitted, modes=modes), replace(drawn, trust=trust)


def _sentence(phases: tuple[Phase, ...], lines: Lines, k: int, richest: int) -> Reservation:
    """Say what a phase was taken for, and why."""
    name, other = phases[k].name, phases[richest].name
    left_out = "It is in no composition and no partition coefficient, and its abundance is a share of counts."
    if not lines.resolved[k]:
        return Reservation(
            f"No declared element is detected in {name}, which was taken for a support (film, hole, or a phase of "
            f"undeclared elements). {left_out} If it is a phase of the sample, declare its main elements."
        )
    share, beside = (percent_text(lines.share[place]) for place in (k, richest))
    return Reservation(
        f"The declared elements make up {share} % of the counts of {name} and {beside} % of those of {other}: "
        f"{name} was taken for a support (film or hole). {left_out} If it is a phase of the sample, declare its main "
        "elements."
    )
