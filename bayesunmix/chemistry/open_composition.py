"""Draws of a composition that a map leaves open, anew: even over what is feasible.

Draws of a phase k that is rotated lie at x = sum_j b_j X_j, X_j the compositions of all phases in the one solution that
was found and sum_j b_j = 1. The likelihood is flat over the b that are feasible: where draws lie among them is the
prior of the rotations, with a third of the draws at either end. For a compound at x counts

    L(x) is proportional to  p(x | counts) / p(x),

not p(x | counts) (Savage-Dickey: Dickey, J. M., Ann. Math. Stat. 42 (1971) 204, doi:10.1214/aoms/1177693507; for
quantities that are not identified: Gustafson, P., Bayesian Inference for Partially Identified Models (2015),
doi:10.1201/b18308). The b of the draws are therefore drawn again with weights 1 / p(b). p(b) is estimated by the
distance r to the n-th neighbour, p proportional to r^-D in the D directions that are open (Loftsgaarden, D. O.,
Quesenberry, C. P., Ann. Math. Stat. 36 (1965) 1049, doi:10.1214/aoms/1177700079). Distances are in standard deviations
of the one solution's composition; a direction is open where draws differ in it by several of them. Counting and
calibration errors across come from the draws of the one solution. What they make negative is mirrored: a normal about
zero, truncated there.

Even draws are cut in halves, and these again, across the direction in which they vary most: cells of equal volume,
each of which is narrow enough to be compared as a phase that is not rotated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

FloatArray = npt.NDArray[np.float64]

# Directions are open in which draws have this many times the standard deviation of the one solution.
OPEN_SDS = 2.0
# Halvings: cells are two to the power of it.
HALVINGS = 3
# Draws of each cell.
PER_CELL = 200
# Neighbours by which density is estimated; and what the largest distances are cut at, as a quantile.
NEIGHBOURS, FURTHEST = 20, 0.95
# Errors of compositions are at least so large: relative to the amount, and in atom fractions.
_LEAST_RELATIVE, _LEAST_SD = 0.01, 3e-4


def even_cells(rotated: FloatArray, one: FloatArray, phase: int, seed: int = 0) -> list[FloatArray] | None:
    """Draw the composition of a phase evenly over what is feasible; None where nothing is open.

    Parameters
    ----------
    rotated
        Atom fractions of the phase by draw, (draw, element).
    one
        Those of all phases in the same draws before they were rotated, (draw, phase, element).
    phase
        Which of them it is.
    seed
        Of the new draws.

    Returns
    -------
    list of (draw, element)
        Cells of equal volume.
    """
    if one.shape[1] < 2 or len(one) < 2:
        return None
    shares = _shares_in(rotated, one, phase)
    place = _open_directions(shares, one, phase)
    if place is None:
        return None
    rng = np.random.default_rng([seed, phase])
    number = PER_CELL * 2**HALVINGS
    chosen = rng.choice(len(place), number, p=even_weights(place))
    errors = rng.integers(len(one), size=number)
    x = np.abs(np.einsum("ik,ike->ie", shares[chosen], one[errors]))
    x = x / x.sum(axis=1, keepdims=True)
    return [x[cell] for cell in _halved(place[chosen], np.arange(number), HALVINGS)]


def even_weights(place: FloatArray) -> FloatArray:
    """Weights, adding up to 1, under which places (draw, direction) are even over where they are."""
    count = min(NEIGHBOURS, len(place) - 1)
    distance = KDTree(place).query(place, [count + 1])[0][:, 0]
    # Places are known to a standard deviation.
    distance = np.sqrt(distance**2 + 1.0)
    volume = np.minimum(distance, np.quantile(distance, FURTHEST)) ** place.shape[1]
    return np.asarray(volume / volume.sum())


def _shares_in(rotated: FloatArray, one: FloatArray, phase: int) -> FloatArray:
    """Shares of the phases of the one solution in the rotated composition, (draw, phase), the rows adding up to 1."""
    scale = _least_sd(one, phase) + one[:, phase].std(axis=0)
    own = one[:, phase] / scale
    towards = np.moveaxis(np.delete(one, phase, axis=1) / scale - own[:, None], 1, 2)
    move = np.einsum("ije,ie->ij", np.linalg.pinv(towards, rcond=1e-3), rotated / scale - own)
    return np.insert(move, phase, 1.0 - move.sum(axis=1), axis=1)


def _open_directions(shares: FloatArray, one: FloatArray, phase: int) -> FloatArray | None:
    """Places of the draws in the directions that are open, in standard deviations, (draw, direction); None for none."""
    own = one[:, phase]
    errors = np.cov(own, rowvar=False) + np.diag(_least_sd(one, phase) ** 2)
    values, axes = np.linalg.eigh(errors)
    place = shares @ one.mean(axis=0) @ (axes / np.sqrt(values))
    place = place - place.mean(axis=0)
    _, sizes, ways = np.linalg.svd(place, full_matrices=False)
    wide = sizes / np.sqrt(len(place)) > OPEN_SDS
    return place @ ways[wide].T if wide.any() else None


def _least_sd(one: FloatArray, phase: int) -> FloatArray:
    return np.asarray(_LEAST_RELATIVE * one[:, phase].mean(axis=0) + _LEAST_SD)


def _halved(place: FloatArray, chosen: npt.NDArray[np.intp], times: int) -> list[npt.NDArray[np.intp]]:
    """Cut places into halves, `times` times, across the direction in which they vary most."""
    if times == 0:
        return [chosen]
    here = place[chosen] - place[chosen].mean(axis=0)
    _, _, ways = np.linalg.svd(here, full_matrices=False)
    order = np.argsort(here @ ways[0], kind="stable")
    half = len(order) // 2
    return [
        cell
        for part in (order[:half], order[half:])
        for cell in _halved(place, chosen[part], times - 1)
    ]
