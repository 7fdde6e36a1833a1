"""Soft statements: what is declared of compositions, each with an error.

Each statement is of one number v_r of the compositions x_ke, which should lie between low_r and high_r, and misses them
by a Normal error of sd_r::

    stoichiometry    v_r = log(A_r . x / B_r . x)                       a ratio of sites
    composition      v_r = A_r . x                                      an atom fraction
    reference        v_r = A_r . x                                      a direction of the composition of a spectrum
    rich, poor       v_r = (A_r . x - B_r . x) / (A_r . x + B_r . x)    a contrast of an element in two phases

    log p = -1/2 sum_r (d_r / sd_r)^2,    d_r = v_r - high_r above high_r, v_r - low_r below low_r, 0 between

A contrast lies between -1 and 1, so that a statement of which phase is the richer one is worth no more than a few nats,
however poor the phase is: enough to tell two names apart, and no match for the counts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import NOTHING, ratio_of

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

KEYS = ("stoichiometry", "composition", "rich", "poor", "reference")
"""Declarations that statements follow from."""
RATIO, FRACTION, REFERENCE = 0, 1, 4
# An atom fraction below which amounts are alike: noise is not richer than noise.
SMALLEST_AMOUNT = 2e-3


class Statements(NamedTuple):
    """Soft statements as arrays; a JAX pytree.

    Attributes
    ----------
    phase, key : (statement,) int
        The declaration that it follows from: the phase's place, and that of its key in `KEYS`.
    above, below : (statement, phase, element)
        A and B.
    low, high : (statement,)
    inverse_sd : (statement,)
        0 for none.
    """

    phase: IntArray
    key: IntArray
    above: FloatArray
    below: FloatArray
    low: FloatArray
    high: FloatArray
    inverse_sd: FloatArray


def no_statements(n_phases: int, n_elements: int) -> Statements:
    """Nothing stated."""
    places, amounts, numbers = np.zeros(0, np.int64), np.zeros((0, n_phases, n_elements)), np.zeros(0)
    return Statements(places, places, amounts, amounts, numbers, numbers, numbers)


def chosen(statements: Statements, which: npt.NDArray[np.bool_]) -> Statements:
    """Return some of the statements, by a mask (statement,)."""
    return Statements(*(values[which] for values in statements))  # type: ignore[arg-type]


def _amounts(statements: Statements, atom_fractions: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """Return A . x and B . x, (statement,) each."""
    above, below = ((part * atom_fractions).sum(axis=(1, 2)) for part in (statements.above, statements.below))
    return above, below


def _is_linear(key: Any) -> Any:  # noqa: ANN401 - as below
    """Whether the number of a statement is A . x."""
    return (key == FRACTION) | (key == REFERENCE)


def missed(statements: Statements, atom_fractions: Any) -> Any:  # noqa: ANN401 - NumPy's arrays or JAX's
    """Return by how many sd compositions (phase, element) miss each statement, (statement,), of their kind of array."""
    xp = atom_fractions.__array_namespace__()
    above, below = _amounts(statements, atom_fractions)
    ratio, fraction = statements.key == RATIO, _is_linear(statements.key)
    # A site that has lost its last atom ends the descent at a finite, if enormous, price.
    some_above, some_below = (xp.where(ratio, xp.maximum(part, NOTHING), 1.0) for part in (above, below))
    difference = (above - below) / (above + below + 2.0 * SMALLEST_AMOUNT)
    value = xp.where(ratio, xp.log(some_above / some_below), xp.where(fraction, above, difference))
    off = xp.maximum(value - statements.high, 0.0) + xp.minimum(value - statements.low, 0.0)
    return off * statements.inverse_sd


def statements_log_density(statements: Statements, atom_fractions: Any) -> Any:  # noqa: ANN401
    """Log density of all statements at compositions (phase, element), a number; 0 where all are met."""
    return -0.5 * (missed(statements, atom_fractions) ** 2).sum()


def statement_slopes(statements: Statements, atom_fractions: FloatArray) -> FloatArray:
    """Return the derivative of each statement's number, in its sd, by atom fractions, (statement, phase, element).

    Zeros where a statement is met with room on either side: nothing follows from it there.
    """
    above, below = _amounts(statements, atom_fractions)
    a, b = above[:, None, None], below[:, None, None]
    both = a + b + 2.0 * SMALLEST_AMOUNT
    of_a, of_b = 2.0 * (b + SMALLEST_AMOUNT) / both**2, 2.0 * (a + SMALLEST_AMOUNT) / both**2
    key = statements.key[:, None, None]
    slopes = np.select(
        [key == RATIO, _is_linear(key)],
        [ratio_of(statements.above, a) - ratio_of(statements.below, b), statements.above],
        of_a * statements.above - of_b * statements.below,
    )
    bound = (missed(statements, atom_fractions) != 0.0) | (statements.low == statements.high)
    return np.asarray(slopes * (bound * statements.inverse_sd)[:, None, None])
