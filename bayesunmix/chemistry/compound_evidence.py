"""How likely the draws of a composition are if the phase is an entry of the library, or none of them.

For an entry with end-member shares w, relative to the flat prior of the draws (`smoothed_composition`),

    m(entry) = prod_(j foreign) T_j  *  E_w[ q(z(w)) / prior(z(w)) ].

The mean over w is an integral over uniform numbers. Draws of a tight posterior hardly ever meet a broad entry by
chance: `bayesunmix.chemistry.unit_cube` finds where they do.

None of the entries: each number k of main elements is equally probable, so is each choice of k of them, their atom
fractions are flat over their simplex, and the others are foreign,

    m(none) = sum_k (k - 1)! / (d C(d, k)) sum_(M of k elements, with r) prod_(j not in M) T_j.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln, logsumexp

from bayesunmix.chemistry.endmember_mixing import Mixing
from bayesunmix.chemistry.smoothed_composition import SmoothedComposition
from bayesunmix.chemistry.unit_cube import integral

FloatArray = npt.NDArray[np.float64]

# An entry is passed over whose elements are all this many standard deviations off, or that is this much less likely.
_FAR_SDS, _FAR_LOG = 9.0, 10.0


@dataclass(frozen=True)
class Evidence:
    """What speaks for an entry.

    Attributes
    ----------
    log_likelihood
        log m(entry); minus infinity where it has no chance.
    shares
        Mean shares of its end members if it is this entry, (endmember,).
    """

    log_likelihood: float
    shares: FloatArray


def mean_evidence(found: Sequence[Evidence]) -> Evidence:
    """Return the mean over cells of equal volume that together are the draws of a phase."""
    logs = np.array([one.log_likelihood for one in found])
    total = float(logsumexp(logs))
    if len(found) == 1 or not np.isfinite(total):
        return found[0]
    shares = np.exp(logs - total) @ np.stack([one.shares for one in found])
    return Evidence(total - float(np.log(len(found))), shares)


def none_log_likelihood(drawn: SmoothedComposition) -> float:
    """Return log m(none)."""
    others = np.delete(drawn.log_trace, drawn.reference)
    d = len(others) + 1
    # Sums over all choices of main elements, by how many there are: coefficients of prod_j (v + T_j).
    by_number = np.full(d, -np.inf)
    by_number[0] = 0.0
    for log_t in others:
        by_number = np.logaddexp(by_number + log_t, np.concatenate([[-np.inf], by_number[:-1]]))
    k = np.arange(1, d + 1)
    chosen = gammaln(d + 1) - gammaln(k + 1) - gammaln(d - k + 1)
    return float(logsumexp(by_number + gammaln(k) - np.log(d) - chosen))


def evidence(entry: Mixing, drawn: SmoothedComposition, least: float) -> Evidence:
    """Return the likelihood of an entry.

    Parameters
    ----------
    entry
        In the declared elements.
    drawn
        Composition of the phase.
    least
        Log likelihood of the alternative: an entry far below it is not followed.
    """
    held, nothing = entry.holds, Evidence(-np.inf, np.zeros(len(entry.endmembers)))
    if not held[drawn.reference]:
        return nothing
    traces = float(drawn.log_trace[~held].sum())
    tolerance = entry.compound.tolerance
    uniform, first = entry.first
    if _out_of_reach(drawn.log_ratios(first), drawn, held, tolerance):
        return nothing
    log_density = drawn.density(held, tolerance)

    def log_ratio(uniform: FloatArray) -> FloatArray:
        x = entry.composition(entry.shares(uniform))
        return log_density(drawn.log_ratios(x)) - drawn.log_prior(x, held)

    found = integral(log_ratio, uniform, np.random.default_rng(1), least - _FAR_LOG - traces)
    if found is None:
        return nothing
    return Evidence(traces + found.log, found.weights @ entry.shares(found.points))


def _out_of_reach(z: FloatArray, drawn: SmoothedComposition, held: npt.NDArray[np.bool_], t: float) -> bool:
    """Whether no mixture comes near in one of the elements."""
    sd = np.sqrt(np.diag(drawn.covariance) + 2.0 * t**2) + 0.02
    above = (drawn.mean - z.max(axis=0)) / sd
    below = (z.min(axis=0) - drawn.mean) / sd
    return bool((np.maximum(above, below)[held] > _FAR_SDS).any())
