"""Abundances of known endmembers in each pixel by constrained least squares.

With y_p a pixel's counts, T_p their sum and s_k endmember spectra of unit sum, the abundances a_p are count
fractions: the pixel's expected spectrum is T_p sum_k a_pk s_k with a_p >= 0 and sum_k a_pk = 1. The estimate keeps
both constraints; it carries no error bar.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError
from bayesunmix.core.threads import single_thread
from bayesunmix.inference.arrays import checked_counts, checked_spectra

#: Most phases: the exact solution visits all 2^K - 1 sets of present phases.
_MOST_PHASES = 10

#: A set of phases whose spectra depend linearly to this relative precision is left to its subsets.
_DEPENDENT = 1e-10


def fcls(
    counts: npt.ArrayLike, endmembers: npt.ArrayLike, *, weights: npt.ArrayLike | str | None = None
) -> npt.NDArray[np.float64]:
    """Fully constrained least-squares abundances, exact.

    Solves, for each pixel, min_a Σ_c w_c (y_c/T − Σ_k a_k s_kc)² subject to a ≥ 0 and Σ_k a_k = 1 (Heinz and Chang
    2001). The problem is convex, so the solution is the best of those points, one for each set of present phases, at
    which the gradient is equal over the set and no abundance is negative: all sets are visited, in closed form, for all
    pixels at once.

    Parameters
    ----------
    counts : (pixel, energy), counts
        Each pixel is divided by its sum. A pixel without counts says nothing and gets equal abundances.
    endmembers : (phase, energy)
        At most 10 spectra, in any unit: each is divided by its sum.
    weights : (energy,), "poisson" or None
        Weight w_c of each channel; "poisson" is 1 / (mean counts of the channel), the inverse variance of counting
        noise for pixels near the mean; None weighs all channels alike.

    Returns
    -------
    (pixel, phase)
        Abundances as count fractions; rows sum to 1.

    Raises
    ------
    InputError
        If counts, endmembers or weights are negative, not finite, empty or of the wrong shape, or there are more than
        10 endmembers.

    References
    ----------
    Heinz and Chang (2001), IEEE Transactions on Geoscience and Remote Sensing 39, 529, doi:10.1109/36.911111

    Examples
    --------
    >>> fcls([[3, 3, 2], [0, 0, 7]], [[1, 1, 0], [0, 0, 1]]).round(6).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    y, spectra = _checked_pair(counts, endmembers)
    root = np.sqrt(_channel_weights(y, weights))
    scaled = spectra * root
    with single_thread():
        projected = (y @ (scaled * root).T.astype(np.float32)).astype(np.float64)
    totals = y.sum(axis=1, dtype=np.float64)
    abundances = _simplex_least_squares(scaled @ scaled.T, projected / np.maximum(totals, 1)[:, None])
    abundances[totals == 0] = 1 / len(spectra)
    return abundances


def _checked_pair(
    counts: npt.ArrayLike, endmembers: npt.ArrayLike
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    y = checked_counts(counts)
    spectra = checked_spectra("endmembers", endmembers, y.shape[1])
    if len(spectra) > _MOST_PHASES:
        raise InputError("endmembers", f"have at most {_MOST_PHASES} rows", f"has {len(spectra)}")
    return y, spectra


def _channel_weights(
    y: npt.NDArray[np.float32], weights: npt.ArrayLike | str | None
) -> npt.NDArray[np.float64]:
    """Channel weights (energy,), scaled to a largest of 1."""
    n_energy = y.shape[1]
    if weights is None:
        return np.ones(n_energy)
    if isinstance(weights, str):
        if weights != "poisson":
            raise InputError("weights", 'be "poisson", an array (energy,) or None', f'is "{weights}"')
        mean = y.mean(axis=0, dtype=np.float64)
        # An empty channel fits any small signal; the weight of one count in the map keeps it finite.
        array = 1 / np.maximum(mean, 1 / len(y))
    else:
        array = np.asarray(weights, dtype=np.float64)
        if array.shape != (n_energy,):
            raise InputError("weights", f"have shape ({n_energy},)", f"has shape {array.shape}")
        if not np.isfinite(array).all() or array.min() < 0 or not array.any():
            raise InputError("weights", "be finite, non-negative and not all zero", "are not")
    scaled: npt.NDArray[np.float64] = array / array.max()
    return scaled


def _simplex_least_squares(
    gram: npt.NDArray[np.float64], projected: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Minimise a·G a / 2 − b·a on the simplex, for one G (phase, phase) and many b (pixel, phase)."""
    n_pixel, n_phases = projected.shape
    best = np.full(n_pixel, np.inf)
    abundances = np.zeros((n_pixel, n_phases))
    pending = np.arange(n_pixel)
    # Largest sets first: a feasible point on all phases is the solution, and such pixels need no other set.
    for size in range(n_phases, 0, -1):
        for chosen in combinations(range(n_phases), size):
            present = np.array(chosen)
            within = gram[np.ix_(present, present)]
            solver = _stationary_map(within)
            if solver is None:
                continue
            b = projected[np.ix_(pending, present)]
            candidate = b @ solver[:, :-1].T + solver[:, -1]
            objective = np.einsum("pk,pk->p", candidate @ within / 2 - b, candidate)
            better = (candidate >= 0).all(axis=1) & (objective < best[pending])
            improved = pending[better]
            best[improved] = objective[better]
            abundances[improved] = 0
            abundances[np.ix_(improved, present)] = candidate[better]
        if size == n_phases:
            pending = pending[np.isinf(best)]
    normalised: npt.NDArray[np.float64] = abundances / abundances.sum(axis=1, keepdims=True)
    return normalised


def _stationary_map(gram: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    """Matrix (phase, phase + 1) that gives the minimiser with unit sum from (b, 1), or None if it is not unique.

    The Lagrange conditions are G a + λ 1 = b and 1·a = 1.
    """
    size = len(gram)
    # Along the directions that keep the sum, G must curve upwards; otherwise a smaller set does as well.
    across = np.eye(size)[1:] - np.eye(size)[:1]
    if size > 1 and np.linalg.eigvalsh(across @ gram @ across.T)[0] < _DEPENDENT * np.trace(gram):
        return None
    scale = np.trace(gram) / size
    bordered = np.block([[gram / scale, np.ones((size, 1))], [np.ones((1, size)), np.zeros((1, 1))]])
    inverse: npt.NDArray[np.float64] = np.linalg.inv(bordered)[:size]
    inverse[:, :-1] /= scale
    return inverse
