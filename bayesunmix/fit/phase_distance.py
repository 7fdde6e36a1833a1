"""What is a phase of its own: how much it differs from all mixtures of the others.

With t_i the share of a phase's counts in the lines of element i, or in all else, and m_i that of a mixture of the other
phases,

    apart^2 = sum_i (t_i - m_i)^2 / ((t_i + m_i) / 2)

is the mean square of the relative differences, twice the triangular discrimination of Topsoe, F., IEEE Trans. Inf.
Theory 46 (2000) 1602, doi:10.1109/18.850703. The mixture is the one nearest to the phase in the chi-squared distance.
What is less than 15 % apart is another one that varies (a mineral is zoned by as much), or it is pixels in which
others meet. Chemistry alone cannot tell the latter from a phase that lies between two others (enstatite between
periclase and silica): but such a phase is pure in many pixels, while where grains meet along the beam or at interfaces
everything between them occurs.

An endmember may also be extreme where no pixel is. If pixels hold a share f of a phase, they differ by f times as much,
and the likelihood loses half the square of that a count without it: what the map shows is

    shown^2 = 2 loss / counts of the phase = f apart^2

Where that is less than 8 % it is a detail of a spectrum, however far its endmember went.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from bayesunmix.core.shares import ratio_of, shares_of

FloatArray = npt.NDArray[np.float64]

# Counts of a phase differ by so much from those of all mixtures of the others.
LEAST_APART = 0.15
LEAST_SHOWN = 0.08
# What a mixture holds more than this of, is that phase.
SAME_PHASE = 0.9
# A phase that lies between others holds this part of its counts in pixels that are nearly pure.
LEAST_PURE, NEARLY_PURE = 0.5, 0.9
# Shares below this, of a phase's counts, do not decide which mixture is nearest.
SMALL_SHARE = 1e-3


class NearestMixture(NamedTuple):
    """A mixture of phases that is most like another one.

    Attributes
    ----------
    of : (phase,)
        Shares of the phases, zero for the one that it is like.
    apart : float
        How much it differs from that.
    """

    of: FloatArray
    apart: float


def nearest_mixture(shares: FloatArray, phase: int) -> NearestMixture:
    """Return the mixture of the others that is most like a phase.

    Parameters
    ----------
    shares : (phase, part)
        Shares of each phase's counts; there are two phases at least.
    phase : int
    """
    others = np.delete(shares, phase, axis=0)
    scale = 1.0 / np.sqrt(shares[phase] + SMALL_SHARE)
    found, _ = nnls((others * scale).T, shares[phase] * scale)
    of = shares_of(found)
    return NearestMixture(np.insert(of, phase, 0.0), apart(shares[phase], of @ others))


def apart(first: FloatArray, second: FloatArray) -> float:
    """Root mean square of the relative differences of two sets of shares, (part,), from 0 to 2.

    Examples
    --------
    >>> round(apart(np.array([0.5, 0.5]), np.array([0.55, 0.45])), 3)
    0.1
    >>> apart(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    2.0
    """
    return float(np.sqrt(2.0 * ratio_of((first - second) ** 2, first + second).sum()))


def shown_apart(lost: FloatArray, counts: FloatArray) -> FloatArray:
    """How far apart from all mixtures of the others a map shows phases to be, (phase,).

    Parameters
    ----------
    lost : (phase,)
        Log-likelihood that the map loses without each of them, in nats.
    counts : (phase,)
        Counts that each holds.
    """
    return np.sqrt(2.0 * ratio_of(np.maximum(lost, 0.0), counts))
