"""Draws of a composition that a map leaves open, anew: even over what is feasible.

Draws of a phase k that is rotated lie at x = sum_j b_j X_j, X_j the compositions of all phases in the one solution that
was found and sum_j b_j = 1. The likelihood is flat over the b that are feasible: where draws lie among them is the
prior of the rotations, with a third of the draws at either end. What counts say for a compound at x is

    L(x), proportional to p(x | counts) / p(x),

and not p(x | counts) (the ratio of Savage and Dickey: Dickey, J. M., Ann. Math. Stat. 42 (1971) 204,
doi:10.1214/aoms/1177693507; of what is not identified the posterior is the prior: Gustafson, P., Bayesian Inference for
Partially Identified Models (2015), doi:10.1201/b18308). So the b of the draws are drawn again with weights 1 / p(b).
p(b) is estimated by the distance r to the n-th neighbour: it is proportional to n r^-D in the D directions that are
open (Loftsgaarden, D. O., Quesenberry, C. P., Ann. Math. Stat. 36 (1965) 1049, doi:10.1214/aoms/1177700079). Distances
are in standard deviations of the one solution's composition: r is one of them at least, with all draws that are nearer,
and a direction is open where draws have several of them.
Counting and calibration errors are those of the one solution. What they make negative is mirrored, which a normal about
zero that is truncated there is.

Even draws are halved across the direction in which they vary most, and the halves again: cells of equal volume, each
narrow enough to be compared as a phase that is not rotated, by which elements it hardly has and by its most abundant
one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial import KDTree

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

OPEN_SDS = 2.0
"""A direction is open where draws have so many times the standard deviation of the one solution."""
# Halvings: there are two to the power of it cells, of so many draws.
HALVINGS, PER_CELL = 3, 200
# Neighbours by which density is estimated, and the quantile at which the largest distances are cut.
NEIGHBOURS, FURTHEST = 20, 0.95
# Errors of compositions are at least so large, relative to the amount and in atom fractions.
_LEAST_RELATIVE, _LEAST_SD = 0.01, 3e-4
# An element is open where even draws vary by more than this.
_OPEN_AMOUNT = 0.02


@dataclass(frozen=True)
class EvenDraws:
    """The composition of a phase, even over what is feasible.

    Attributes
    ----------
    cells : tuple of (draw, element)
        Atom fractions, cell by cell.
    open : (element,) bool
        Elements whose amounts the map leaves open.
    """

    cells: tuple[FloatArray, ...]
    open: npt.NDArray[np.bool_]


def even_draws(rotated: FloatArray, one: FloatArray, phase: int, seed: int = 0) -> EvenDraws | None:
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
    """
    if one.shape[1] < 2 or len(one) < 2:
        return None
    shares = _shares_in(rotated, one, phase)
    place = _open_places(shares, one, phase)
    if place is None:
        return None
    rng = np.random.default_rng([seed, phase])
    number = PER_CELL * 2**HALVINGS
    chosen = rng.choice(len(place), number, p=even_weights(place))
    errors = rng.integers(len(one), size=number)
    x = np.abs(np.einsum("ik,ike->ie", shares[chosen], one[errors]))
    x /= x.sum(axis=1, keepdims=True)
    wide = x.std(axis=0)
    return EvenDraws(
        cells=tuple(x[cell] for cell in _halved(place[chosen], np.arange(number), HALVINGS)),
        open=(wide > _OPEN_AMOUNT) & (wide > OPEN_SDS * one[:, phase].std(axis=0)),
    )


def even_weights(place: FloatArray) -> FloatArray:
    """Weights, adding up to 1, under which places are even over where they are.

    Parameters
    ----------
    place
        (draw, direction), each known to a standard deviation of 1.
    """
    tree, count = KDTree(place), min(NEIGHBOURS, len(place) - 1)
    radius = np.maximum(tree.query(place, [count + 1])[0][:, 0], 1.0)
    radius = np.minimum(radius, np.quantile(radius, FURTHEST))
    inside = tree.query_ball_point(place, radius * (1.0 + 1e-9), return_length=True)
    volume = radius ** place.shape[1] / inside
    return np.asarray(volume / volume.sum())


def _shares_in(rotated: FloatArray, one: FloatArray, phase: int) -> FloatArray:
    """Shares b of the phases of the one solution in the rotated composition, (draw, phase)."""
    sd = _errors(one, phase)
    own = one[:, phase] / sd
    towards = np.moveaxis(np.delete(one, phase, axis=1) / sd - own[:, None], 1, 2)
    move = np.einsum("ije,ie->ij", np.linalg.pinv(towards, rcond=1e-3), rotated / sd - own)
    return np.insert(move, phase, 1.0 - move.sum(axis=1), axis=1)


def _open_places(shares: FloatArray, one: FloatArray, phase: int) -> FloatArray | None:
    """Places in the directions that are open, in standard deviations, (draw, direction); None where none is."""
    own = one[:, phase]
    least = _LEAST_RELATIVE * own.mean(axis=0) + _LEAST_SD
    values, axes = np.linalg.eigh(np.cov(own, rowvar=False) + np.diag(least**2))
    place = shares @ one.mean(axis=0) @ (axes / np.sqrt(values))
    _, sizes, ways = np.linalg.svd(place - place.mean(axis=0), full_matrices=False)
    wide = sizes > OPEN_SDS * np.sqrt(len(place))
    return place @ ways[wide].T if wide.any() else None


def _errors(one: FloatArray, phase: int) -> FloatArray:
    own = one[:, phase]
    return np.asarray(own.std(axis=0) + _LEAST_RELATIVE * own.mean(axis=0) + _LEAST_SD)


def _halved(place: FloatArray, chosen: IntArray, times: int) -> list[IntArray]:
    """Cut the chosen places into halves, `times` times, across the direction in which they vary most."""
    if times == 0:
        return [chosen]
    here = place[chosen] - place[chosen].mean(axis=0)
    order = chosen[np.argsort(here @ np.linalg.svd(here, full_matrices=False)[2][0], kind="stable")]
    return [cell for half in np.array_split(order, 2) for cell in _halved(place, half, times - 1)]
