"""A search for phases on one half of the counts, and what the other half says of them.

    grown    so many phases, fitted from several starting points, one of them the solution with a phase less
    less     of these, what is none: left out, with the reason

Nothing is declared of them: what held-out counts ask for is judged by phases that are free to be what they like.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from bayesunmix.config.overlap import declared_overlap
from bayesunmix.config.phase import MOST_COUNTED, unnamed
from bayesunmix.core.shares import hellinger, shares_of
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

    def asked_for_beyond(self, less: Solution) -> bool:
        """Say whether held-out counts ask for what it has beyond another one."""
        return asked_for(gain_over(self.by_block, less.by_block))

    @property
    def start(self) -> Start:
        """The same as a starting point."""
        return Start(self.weights, self.spectra, np.inf)


class PhaseSearch:
    """Fits and judges any number of phases on the same halves of the counts.

    Parameters
    ----------
    setup : Setup
        What it declares of phases is left aside.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup, self.elements = setup, setup.forward.elements
        whole = Blocks.of(replace(setup, phases=unnamed(1)))
        whole = whole.every(-(-len(whole.counts) // _most_blocks(whole.typical_counts)))
        first, second = halves(whole.counts)
        self._fitted = replace(whole, counts=first, alternatives=())
        self._split = Split.of(whole, whole.effect())
        self.counts = second.sum(axis=1, dtype=np.float64)
        self._coarse: dict[int, CoarseModel] = {}

    def grown(self, count: int, before: Solution | None, n_starts: int = N_STARTS) -> Solution:
        """Fit so many phases from some starts, and from the solution with a phase less and another one."""
        coarse = self._coarse_model(count)
        starts = find_starts(
            coarse.pooled.sums[:, : len(coarse.baseline)],
            coarse.basis,
            coarse.yields,
            coarse.blocks.statements(),
            coarse.blocks.matrix,
            n_starts=n_starts if count > 1 else 1,
            seed=SEED,
        )
        if before is not None:
            starts.append(_with_another(before, starts[0]))
        return self._best(coarse, starts)

    def followed(self, start: Start) -> Solution:
        """Fit the phases of a start."""
        return self._best(self._coarse_model(len(start.weights)), [start])

    def less(self, here: Solution, grown: Solution) -> tuple[Uncounted, Solution] | None:
        """Leave out what is no phase: return it, and what remains; or None where every phase is one.

        Parameters
        ----------
        here : Solution
        grown : Solution
            The one with a phase less that was found on the way up.
        """
        found, scores = self.evidence(here), here.without.sum(axis=1)
        least = int(scores.argmax())
        after = grown if grown.score > scores[least] else here.less(least)
        if not here.asked_for_beyond(after):
            gone = _unmatched(grown, here) if after is grown else least
            return self._described(here, gone, found[gone], after, "unsupported"), after
        none = np.array([one.against is not None for one in found])
        gone = int(np.where(none, scores, -np.inf).argmax())
        reason = found[gone].against
        if reason is None:
            return None
        after = here.less(gone)
        return self._described(here, gone, found[gone], after, reason), after

    def evidence(self, solution: Solution) -> list[PhaseEvidence]:
        """Say what speaks for each phase."""
        parts = self._parts(solution)
        return evidence([solution.mixture], solution.points, parts, solution.without, self.counts)

    def lines(self, solution: Solution) -> FloatArray:
        """Share of each phase's counts in lines of the sample's elements, (phase,)."""
        parts = shares_of(self._parts(solution))
        return np.asarray(parts[:, :-1].sum(axis=1))

    def composition(self, solution: Solution) -> FloatArray:
        """Atom fractions of the phases, with nominal calibration factors, (phase, element)."""
        return nominal_fractions(solution.weights, self._coarse_model(len(solution.weights)).yields)

    def _parts(self, solution: Solution) -> FloatArray:
        """Count each phase by element, and all else, (phase, part)."""
        coarse = self._coarse_model(len(solution.weights))
        return counts_by_part(solution.weights, component_templates(coarse.basis), coarse.yields.shape[1])

    def _best(self, coarse: CoarseModel, starts: list[Start]) -> Solution:
        """Follow starting points down while they may win, and judge the best end."""
        raced = race(coarse, starts)
        lowest = min(descent.potential for descent in raced)
        ends = [followed_down(coarse, one) for one in raced if not one.beaten(lowest)]
        return self._judged(coarse, min(ends, key=lambda end: end.potential))

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

    def _described(
        self, here: Solution, phase: int, found: PhaseEvidence, after: Solution, reason: Reason
    ) -> Uncounted:
        """Describe a phase that is none, and what held-out counts lose without it."""
        composition = self.composition(here)
        return Uncounted(
            composition=composition[phase],
            share=float(here.share(self.counts)[phase]),
            gain=gain_over(here.by_block, after.by_block),
            reason=reason,
            apart=found.apart,
            of=np.delete(found.like, phase),
            others=np.delete(composition, phase, axis=0),
        )


def _most_blocks(typical_counts: float) -> int:
    """Blocks that memory bears with the edges of the largest number of phases, which have about this many points."""
    points = 2.0 * np.sqrt(typical_counts) * MOST_COUNTED * (MOST_COUNTED - 1) / 2
    return int(np.clip(MOST_ENTRIES / max(points, 1.0), 100, MOST_BLOCKS))


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
