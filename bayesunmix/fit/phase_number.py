"""How many phases: what held-out counts ask for, and of that what is a phase of its own.

    grow     one, two, three unnamed phases and so on are fitted to one half of the counts and scored by the other
    shrink   from the largest number that the counts ask for: is the phase that they miss least none, it is left out,
             and the search goes on from what remains
    chosen   where every phase is one

A phase too many fits the noise of the first half and gains nothing on the second (`bayesunmix.fit.held_out`). But films
are wedges, minerals are zoned and interfaces hold mixtures: where counts are many, they gain from every such detail. A
phase is therefore also asked to differ from all mixtures of the others by more than a phase varies
(`bayesunmix.fit.phase_evidence`). What was left out says why.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.config.phase import MOST_COUNTED, Phase, unnamed
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.held_out import gain_over
from bayesunmix.fit.phase_evidence import PhaseEvidence
from bayesunmix.fit.phase_search import PhaseSearch, Solution, Uncounted
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start

FloatArray = npt.NDArray[np.float64]

# Numbers in a row that held-out counts do not ask for, after which no larger one is tried.
IN_VAIN = 2


@dataclass(frozen=True)
class PhaseNumber:
    """The chosen number of phases, how it came about, and where a search with that number may begin.

    Attributes
    ----------
    elements : tuple of str
        Of the compositions.
    scores : (number,)
        Held-out score of one, two and more phases relative to the best, in nats.
    errors : (number,)
        Standard errors of these differences.
    composition : (phase, element)
        Atom fractions of the chosen phases, with nominal calibration factors.
    share : (phase,)
        Of the map's counts.
    evidence : list of PhaseEvidence
        What speaks for each of them.
    left_out : list of Uncounted
        What the next phase would have been, and those beyond, from the last one left out to the first.
    start : Start
    """

    elements: tuple[str, ...]
    scores: FloatArray
    errors: FloatArray
    composition: FloatArray
    share: FloatArray
    evidence: list[PhaseEvidence]
    left_out: list[Uncounted]
    start: Start

    @property
    def chosen(self) -> int:
        """Number of phases."""
        return len(self.share)

    def phases(self) -> tuple[Phase, ...]:
        """Return the unnamed phases that the run goes on with."""
        return unnamed(self.chosen)


def infer_phase_number(
    setup: Setup, progress: Callable[[str], None], most: int = MOST_COUNTED
) -> PhaseNumber:
    """Fit one to `most` phases to half of the counts, judge each by the other half, and leave out what is no phase.

    Parameters
    ----------
    setup : Setup
    progress : callable
        Told each score.
    most : int
    """
    with single_thread():
        return _inferred(PhaseSearch(setup), min(most, setup.blocks.n_blocks), progress)


def _inferred(search: PhaseSearch, most: int, progress: Callable[[str], None]) -> PhaseNumber:
    """Grow, shrink, and say what was found."""
    grown: list[Solution] = []
    in_vain = 0
    for count in range(1, most + 1):
        grown.append(search.grown(count, grown[-1] if grown else None))
        said = "1 phase" if count == 1 else f"{count} phases"
        progress(f"{said}: held-out score {grown[-1].score - grown[0].score:.1f} above one phase")
        best = max(grown[:-1], key=lambda one: one.score, default=None)
        in_vain = 0 if best is None or grown[-1].asked_for_beyond(best) else in_vain + 1
        if in_vain == IN_VAIN:
            break
    known, here = list(grown), grown[-1]
    left_out: list[Uncounted] = []
    while len(here.weights) > 1:
        less = search.less(here, grown[len(here.weights) - 2])
        if less is None:
            break
        left, after = less
        progress(f"{len(here.weights)} phases: one is none ({left.reason}), {len(after.weights)} are left")
        left_out.append(left)
        here = after
        known[len(here.weights) - 1] = max(known[len(here.weights) - 1], here, key=lambda one: one.score)
    progress(f"phases counted: {len(here.weights)}")
    return _found(search, here, known, left_out[::-1])


def _found(
    search: PhaseSearch, here: Solution, known: list[Solution], left_out: list[Uncounted]
) -> PhaseNumber:
    """Put together what was found."""
    best = max(known, key=lambda one: one.score)
    curve = np.array([gain_over(one.by_block, best.by_block) for one in known])
    return PhaseNumber(
        elements=search.elements,
        scores=curve[:, 0],
        errors=curve[:, 1],
        composition=search.composition(here),
        share=here.share(search.counts),
        evidence=search.evidence(here),
        left_out=left_out,
        start=here.start,
    )
