"""Whether a phase is one: what held-out counts gain from it, and what else it could be.

Phases are judged as a mixture over support points, whose weights one half of the counts gives, by the density of the
other half (`bayesunmix.fit.held_out`): once as they are, and once without each of them. A phase is

    unsupported   where held-out counts gain no more than two standard errors, or ten nats, from it
    variation     where it is another phase but for what a phase varies by (`bayesunmix.fit.phase_distance`)
    mixture       where it is a mixture of others but for that, and hardly ever pure
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bayesunmix.config.overlap import LEAST_GAINED
from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.fit.held_out import Gain, Mixture, gain_over
from bayesunmix.fit.phase_distance import (
    LEAST_APART,
    LEAST_PURE,
    LEAST_SHOWN,
    NEARLY_PURE,
    SAME_PHASE,
    nearest_mixture,
    shown_apart,
)

FloatArray = npt.NDArray[np.float64]

Reason = Literal["unsupported", "variation", "mixture"]
Standing = Literal["supported"] | Reason

# Standard errors by which held-out counts must ask for a phase.
DOUBTS = 2.0
# Phases that share a block where they are judged, whatever they were fitted with: where three meet, a fourth one would
# be asked for.
JUDGED_OVERLAP = 3


@dataclass(frozen=True)
class PhaseEvidence:
    """What speaks for a phase.

    Attributes
    ----------
    gain, gain_se : float
        What the held-out log score gains from it, in nats, and the standard error of that.
    apart : float
        Difference from the mixture of the others that is most like it; infinite for a phase alone.
    shown : float
        Difference that the map shows.
    pure : float
        Part of its counts in blocks that hold hardly anything else.
    like : tuple of float
        Shares of the phases in that mixture, its own zero.
    """

    gain: float
    gain_se: float
    apart: float
    shown: float
    pure: float
    like: tuple[float, ...]

    @property
    def asked_for(self) -> bool:
        """Whether held-out counts ask for it."""
        return asked_for(Gain(self.gain, self.gain_se))

    @property
    def alike(self) -> Literal["variation", "mixture"] | None:
        """What else it could be, however many counts ask for it."""
        varied = max(self.like) > SAME_PHASE
        near = self.apart < LEAST_APART and (varied or self.pure < LEAST_PURE)
        if not near and self.shown >= LEAST_SHOWN:
            return None
        return "variation" if varied else "mixture"

    @property
    def against(self) -> Reason | None:
        """Why it is no phase, if it is none."""
        return self.alike if self.asked_for else "unsupported"

    @property
    def standing(self) -> Standing:
        """Whether it is a phase, and if not, why."""
        return self.against or "supported"


def asked_for(gain: Gain) -> bool:
    """Say whether held-out counts ask for what gains so much."""
    return gain.nats > max(DOUBTS * gain.error, LEAST_GAINED)


def counts_by_part(weights: FloatArray, templates: FloatArray, n_elements: int) -> FloatArray:
    """Count by element, the first components, and all else, (phase, element + 1).

    Parameters
    ----------
    weights : (phase, component)
    templates : (phase, component, energy)
        Spectrum of one count in each component's main family.
    """
    counts = weights * templates.sum(axis=2)
    return np.column_stack([counts[:, :n_elements], counts[:, n_elements:].sum(axis=1)])


def evidence(
    mixtures: Sequence[Mixture],
    points: FloatArray,
    parts: FloatArray,
    without: FloatArray,
    counts: FloatArray,
) -> list[PhaseEvidence]:
    """Say what speaks for each phase.

    Parameters
    ----------
    mixtures : sequence of Mixture
        Of the phases, one for each half that judges.
    points : (support_point, phase)
    parts : (phase, part)
        Counts of each phase by element, and all else.
    without : (phase, block)
        From `scores_without`.
    counts : (block,)
        Counts that judge.
    """
    whole = np.sum([mixture.by_block() for mixture in mixtures], axis=0)
    amounts = np.mean([mixture.amounts(counts) for mixture in mixtures], axis=0)
    share = amounts @ points
    pure = ratio_of(amounts @ np.where(points > NEARLY_PURE, points, 0.0), share)
    if len(share) == 1:
        return [PhaseEvidence(np.inf, 0.0, np.inf, np.inf, float(pure[0]), (0.0,))]
    gains = [gain_over(whole, scores) for scores in without]
    shown = shown_apart(np.array([gain.nats for gain in gains]), share * counts.sum())
    nearest = [nearest_mixture(shares_of(parts), phase) for phase in range(len(share))]
    return [
        PhaseEvidence(
            gain=gain.nats,
            gain_se=gain.error,
            apart=near.apart,
            shown=float(shown[phase]),
            pure=float(pure[phase]),
            like=tuple(near.of.tolist()),
        )
        for phase, (gain, near) in enumerate(zip(gains, nearest, strict=True))
    ]


def scores_without(mixtures: Sequence[Mixture], points: FloatArray) -> FloatArray:
    """Held-out score without each of the phases, the others as they are, (phase, block); none of a phase alone."""
    n_blocks, n_phases = len(mixtures[0].judged), points.shape[1]
    scores = [
        np.sum([mixture.held_to(points[:, phase] == 0.0).by_block() for mixture in mixtures], axis=0)
        for phase in range(n_phases if n_phases > 1 else 0)
    ]
    return np.reshape(scores, (len(scores), n_blocks))
