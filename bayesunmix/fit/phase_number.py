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
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from bayesunmix.config.overlap import declared_overlap
from bayesunmix.config.phase import MOST_COUNTED, Phase, unnamed
from bayesunmix.core.shares import hellinger
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.held_out import Gain, Mixture, Split, gain_over, halves, log_spectra_at
from bayesunmix.fit.model_data import Blocks, nominal_fractions, spectra_at, weights_at
from bayesunmix.fit.phase_evidence import (
    JUDGED_OVERLAP,
    PhaseEvidence,
    Reason,
    asked_for,
    counts_by_part,
    evidence,
    scores_without,
)
from bayesunmix.fit.search import CoarseModel, Descent, followed_down, race
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start, component_templates, find_starts
from bayesunmix.models.abundance import simplex_support_points
from bayesunmix.models.unmixing import thickness_parameters

FloatArray = npt.NDArray[np.float64]

# Blocks that are fitted and judged, evenly spread over the map: fewer where they meet many support points, which are a
# standard deviation apart.
MOST_BLOCKS, MOST_ENTRIES = 6000, 15_000_000
N_STARTS = 3
SEED = 0
# Numbers in a row that held-out counts do not ask for, after which no larger one is tried.
IN_VAIN = 2


@dataclass(frozen=True)
class Uncounted:
    """A phase that is none.

    Attributes
    ----------
    composition : (element,)
        Atom fractions, with nominal calibration factors.
    share : float
        Of the map's counts.
    gain : Gain
        What it adds to the held-out score, in nats.
    reason : str
        ``unsupported``: held-out counts do not ask for it; ``variation`` of another phase; ``mixture`` of others.
    apart : float
        Difference from the mixture of the others that is most like it (`bayesunmix.fit.phase_distance`).
    of : (phase,)
        Shares of the other phases in that mixture.
    others : (phase, element)
        Their atom fractions.
    """

    composition: FloatArray
    share: float
    gain: Gain
    reason: Reason
    apart: float
    of: FloatArray
    others: FloatArray


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


@dataclass(frozen=True, eq=False)
class Solution:
    """Phases as fitted to the first half, and how well they predict the second.

    Attributes
    ----------
    weights : (phase, component)
    spectra : (phase, energy)
    points : (support_point, phase)
        Of the mixture.
    mixture : Mixture
    """

    weights: FloatArray
    spectra: FloatArray
    points: FloatArray
    mixture: Mixture

    @cached_property
    def by_block(self) -> FloatArray:
        """Held-out log predictive density, (block,)."""
        return self.mixture.by_block()

    @property
    def score(self) -> float:
        """Its sum."""
        return float(self.by_block.sum())

    def share(self, counts: FloatArray) -> FloatArray:
        """Share of each phase (phase,) in the counts (block,)."""
        return self.mixture.amounts(counts) @ self.points

    @cached_property
    def without(self) -> FloatArray:
        """Held-out score without each of the phases, the others as they are, (phase, block); none of a phase alone."""
        return scores_without([self.mixture], self.points)

    def less(self, phase: int) -> Solution:
        """Return what remains without a phase, the others as they are."""
        kept = self.points[:, phase] == 0.0
        weights, spectra = (np.delete(each, phase, axis=0) for each in (self.weights, self.spectra))
        points = np.delete(self.points[kept], phase, axis=1)
        return Solution(weights, spectra, points, self.mixture.held_to(kept))

    @property
    def start(self) -> Start:
        """The same as a starting point."""
        return Start(self.weights, self.spectra, np.inf)


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
        return _Search(setup).run(min(most, setup.blocks.n_blocks), progress)


class _Search:
    """Fits and judges any number of phases on the same halves of the counts."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        whole = Blocks.of(replace(setup, phases=unnamed(1)))
        whole = whole.every(-(-len(whole.counts) // _most_blocks(whole.typical_counts)))
        first, second = halves(whole.counts)
        self._fitted = replace(whole, counts=first, alternatives=())
        self._split = Split.of(whole, whole.effect())
        self._counts = second.sum(axis=1, dtype=np.float64)
        self._coarse: dict[int, CoarseModel] = {}

    def run(self, most: int, progress: Callable[[str], None]) -> PhaseNumber:
        """Grow, shrink, and say what was found."""
        grown: list[Solution] = []
        in_vain = 0
        for count in range(1, most + 1):
            grown.append(self._grown(count, grown[-1] if grown else None))
            said = "1 phase" if count == 1 else f"{count} phases"
            progress(f"{said}: held-out score {grown[-1].score - grown[0].score:.1f} above one phase")
            best = max(grown[:-1], key=lambda one: one.score, default=None)
            in_vain = 0 if best is None or _asked_for(grown[-1], best) else in_vain + 1
            if in_vain == IN_VAIN:
                break
        known, here = list(grown), grown[-1]
        left_out: list[Uncounted] = []
        while len(here.weights) > 1:
            less = self._less(here, grown[len(here.weights) - 2])
            if less is None:
                break
            left, after = less
            progress(
                f"{len(here.weights)} phases: one is none ({left.reason}), {len(after.weights)} are left"
            )
            left_out.append(left)
            here = after
            known[len(here.weights) - 1] = max(known[len(here.weights) - 1], here, key=lambda one: one.score)
        return self._found(here, known, left_out[::-1])

    def _grown(self, count: int, before: Solution | None) -> Solution:
        """Fit so many phases from several starts, one of them the solution with a phase less and another one."""
        coarse = self._coarse_model(count)
        starts = find_starts(
            coarse.pooled.sums[:, : len(coarse.baseline)],
            coarse.basis,
            coarse.yields,
            coarse.blocks.statements(),
            coarse.blocks.matrix,
            n_starts=N_STARTS if count > 1 else 1,
            seed=SEED,
        )
        if before is not None:
            starts.append(_with_another(before, starts[0]))
        raced = race(coarse, starts)
        lowest = min(descent.potential for descent in raced)
        ends = [followed_down(coarse, one) for one in raced if not one.beaten(lowest)]
        return self._judged(coarse, min(ends, key=lambda end: end.potential))

    def _less(self, here: Solution, grown: Solution) -> tuple[Uncounted, Solution] | None:
        """Leave out what is no phase: return it, and what remains; or None where every phase is one.

        Parameters
        ----------
        here : Solution
        grown : Solution
            The one with a phase less that was found on the way up.
        """
        found, scores = self._evidence(here), here.without.sum(axis=1)
        least = int(scores.argmax())
        after = grown if grown.score > scores[least] else here.less(least)
        if not _asked_for(here, after):
            gone = _unmatched(grown, here) if after is grown else least
            return self._described(here, gone, found[gone], after, "unsupported"), after
        none = np.array([one.against is not None for one in found])
        gone = int(np.where(none, scores, -np.inf).argmax())
        reason = found[gone].against
        if reason is None:
            return None
        after = here.less(gone)
        return self._described(here, gone, found[gone], after, reason), after

    def _coarse_model(self, count: int) -> CoarseModel:
        """Compile the model of so many phases, once."""
        if count not in self._coarse:
            phases = unnamed(count)
            overlap = declared_overlap(self._setup.max_overlap, phases)
            blocks = replace(self._fitted, phases=phases, overlap=overlap)
            self._coarse[count] = CoarseModel.of(
                blocks, *blocks.forward.basis(blocks.absorbing, blocks.allowed)
            )
        return self._coarse[count]

    def _judged(self, coarse: CoarseModel, end: Descent) -> Solution:
        """Score the second half of the counts."""
        latents = end.latents(coarse)
        spectra = spectra_at(end.data, latents)
        blocks = coarse.blocks
        points = simplex_support_points(
            spectra, blocks.typical_counts, max_overlap=max(blocks.overlap.most, JUDGED_OVERLAP)
        )
        parameters = thickness_parameters(end.data, latents)
        mixture = Mixture.of(
            self._split.first,
            self._split.second,
            log_spectra_at(points, spectra, end.data.effect, parameters),
            self._split.log_common,
        )
        return Solution(weights_at(end.data, latents), spectra, points, mixture)

    def _evidence(self, solution: Solution) -> list[PhaseEvidence]:
        """Say what speaks for each phase."""
        coarse = self._coarse_model(len(solution.weights))
        parts = counts_by_part(solution.weights, component_templates(coarse.basis), coarse.yields.shape[1])
        return evidence([solution.mixture], solution.points, parts, solution.without, self._counts)

    def _composition(self, solution: Solution) -> FloatArray:
        """Atom fractions of the phases, with nominal calibration factors, (phase, element)."""
        return nominal_fractions(solution.weights, self._coarse_model(len(solution.weights)).yields)

    def _described(
        self, here: Solution, phase: int, found: PhaseEvidence, after: Solution, reason: Reason
    ) -> Uncounted:
        """Describe a phase that is none, and what held-out counts lose without it."""
        composition = self._composition(here)
        return Uncounted(
            composition=composition[phase],
            share=float(here.share(self._counts)[phase]),
            gain=gain_over(here.by_block, after.by_block),
            reason=reason,
            apart=found.apart,
            of=np.delete(found.like, phase),
            others=np.delete(composition, phase, axis=0),
        )

    def _found(self, here: Solution, known: list[Solution], left_out: list[Uncounted]) -> PhaseNumber:
        """Put together what was found."""
        best = max(known, key=lambda one: one.score)
        curve = np.array([gain_over(one.by_block, best.by_block) for one in known])
        return PhaseNumber(
            elements=self._setup.forward.elements,
            scores=curve[:, 0],
            errors=curve[:, 1],
            composition=self._composition(here),
            share=here.share(self._counts),
            evidence=self._evidence(here),
            left_out=left_out,
            start=here.start,
        )


def _most_blocks(typical_counts: float) -> int:
    """Blocks that memory bears with the edges of the largest number of phases, which have about this many points."""
    points = 2.0 * np.sqrt(typical_counts) * MOST_COUNTED * (MOST_COUNTED - 1) / 2
    return int(np.clip(MOST_ENTRIES / max(points, 1.0), 100, MOST_BLOCKS))


def _asked_for(more: Solution, less: Solution) -> bool:
    """Say whether held-out counts ask for what one solution has beyond another one."""
    return asked_for(gain_over(more.by_block, less.by_block))


def _with_another(before: Solution, start: Start) -> Start:
    """Solution with one phase less, and the phase of a start that is farthest from all of its."""
    new = int(hellinger(start.spectra[:, None], before.spectra[None]).min(axis=1).argmax())
    return Start(
        np.concatenate([before.weights, start.weights[new : new + 1]]),
        np.concatenate([before.spectra, start.spectra[new : new + 1]]),
        np.inf,
    )


def _unmatched(less: Solution, more: Solution) -> int:
    """Return the phase of the larger solution that the smaller one does not have."""
    _, matched = linear_sum_assignment(hellinger(less.spectra[:, None], more.spectra[None]))
    return int(next(iter(set(range(len(more.spectra))) - set(matched.tolist()))))
