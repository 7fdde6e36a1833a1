"""Whether an approximation of the posterior may be trusted, quantity by quantity.

Two looks at the same draws: the Pareto shape of their joint importance ratios, which decides whether they may be
reweighted, and the moves that the exact density makes them take, which say how wrong each composition and partition
coefficient is. With a hundred nuisance parameters the first is above its limit on nearly every map; only the second
gives the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

from bayesunmix.core.severity import join
from bayesunmix.inference.refresh import Moves, moves

FloatArray = npt.NDArray[np.float64]

# A shift of a quarter of a standard deviation costs a 95 % interval 0.7 % of its coverage, an interval a seventh too
# narrow 4 %: smaller errors are let pass. What is reported must exceed them by three standard errors.
SHIFT_LIMIT = 0.25
LOG_WIDTH_LIMIT = 0.14
ERRORS = 3.0
# Exact steps that are rejected this often leave the draws where they were, and test nothing.
LEAST_ACCEPTANCE = 0.2


@dataclass(frozen=True, kw_only=True)
class Trust:
    """What the exact density says of an approximation's draws.

    Attributes
    ----------
    pareto_k, effective_draws : float
        Shape of the joint importance ratios, and what as many weighted draws as were looked at are worth.
    resampled : bool
        Whether the draws were picked anew by their weights.
    acceptance : float
        Of the exact steps.
    compositions, ratios : Moves
        Of the atom fractions (phase, element), and of their ratios (pair of phases, element), pairs in the order of
        `itertools.combinations`.
    """

    pareto_k: float
    effective_draws: float
    resampled: bool
    acceptance: float
    compositions: Moves
    ratios: Moves

    def without(self, left_out: npt.NDArray[np.bool_]) -> Trust:
        """Return the same without the quantities of some phases (phase,): they have no error any more."""
        pairs = np.array(
            [left_out[one] or left_out[two] for one, two in combinations(range(len(left_out)), 2)]
        )
        kept = [
            replace(part, shift_error=np.where(gone[:, None], 0.0, part.shift_error))
            for part, gone in ((self.compositions, left_out), (self.ratios, pairs.astype(bool)))
        ]
        return replace(self, compositions=kept[0], ratios=kept[1])

    def quantities(self, phases: list[str], elements: list[str]) -> list[tuple[str, float, float, bool]]:
        """Return name, shift in sd, ratio of widths, and whether that is too much, the worst first."""
        names = [f"x({element} in {phase})" for phase in phases for element in elements]
        names += [f"D({e}, {one}/{two})" for one, two in combinations(phases, 2) for e in elements]
        columns = [
            np.concatenate([getattr(part, name).ravel() for part in (self.compositions, self.ratios)])
            for name in ("shift", "shift_error", "log_width", "log_width_error")
        ]
        shift, shift_error, width, width_error = columns
        excess = np.maximum(
            np.abs(shift) - SHIFT_LIMIT - ERRORS * shift_error,
            np.abs(width) - LOG_WIDTH_LIMIT - ERRORS * width_error,
        )
        # What is declared absent is zero in every draw, and has no error.
        order = [i for i in np.argsort(-excess, kind="stable") if shift_error[i] > 0.0]
        return [(names[i], float(shift[i]), float(np.exp(width[i])), bool(excess[i] > 0)) for i in order]

    def problems(
        self, engine: str, phases: list[str], elements: list[str], scant: Sequence[str] = ()
    ) -> list[str]:
        """Sentences that say why the draws are not to be trusted, and what to do.

        Parameters
        ----------
        engine
            Name of the approximation.
        phases, elements
            Of the quantities.
        scant
            Phases with next to no counts, whose density is far from any approximation.
        """
        if self.acceptance < LEAST_ACCEPTANCE:
            remedy = 'Run `method = "nuts"` instead.'
            if scant:
                them = "it" if len(scant) == 1 else "them"
                remedy = (
                    f'Next to no counts belong to {join(scant)}: leave {them} out, or run `method = "nuts"`.'
                )
            return [
                f"The {engine} approximation could not be checked: {100 * (1 - self.acceptance):.0f} % of the exact "
                f"sampling steps from its draws were rejected. {remedy}"
            ]
        off = [entry for entry in self.quantities(phases, elements) if entry[3]]
        if not off:
            return []
        name, shift, width, _ = off[0]
        others = f" and {len(off) - 1} more" if len(off) > 1 else ""
        return [
            f"The {engine} approximation is wrong for {name}{others}: exact sampling moves its draws by {shift:+.2f} "
            f'standard deviations and makes their spread {width:.2f} times as wide. Run `method = "nuts"` instead.'
        ]


def quantity_moves(every: FloatArray, before: FloatArray, after: FloatArray) -> tuple[Moves, Moves]:
    """Return the moves of the compositions and of their ratios, from atom fractions (draw, phase, element)."""
    fractions = (every, before, after)
    first, second = moves(*fractions), moves(*(_ratios(x) for x in fractions))
    return first, second


def _ratios(fractions: FloatArray) -> FloatArray:
    """Ratios of every pair of phases, 0 where one has none of the element, shape (draw, pair, element)."""
    pairs = list(combinations(range(fractions.shape[1]), 2))
    ratios = np.zeros((len(fractions), len(pairs), fractions.shape[2]))
    for number, (one, two) in enumerate(pairs):
        below = fractions[:, two]
        np.divide(fractions[:, one], below, out=ratios[:, number], where=below > 0)
    return ratios
