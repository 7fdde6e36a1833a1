"""Abundance prior: a discrete mixture on the simplex whose weights are learned.

    alpha_j   in the simplex      J support points, fixed: corners, edges, and faces up to `max_overlap` phases
    eta_j     = mean_j + (L xi)_j    log-odds of the support points, xi_j ~ Normal(0, 1)
    pi        = softmax(eta)         prior probability that a pixel sits at support point j

The support points stand at equal steps of the Fisher information metric of a pixel's counts, 0.7 standard deviations
apart (`FINE`; one where models are only compared), so that not even many pixels can tell neighbouring support points
from a continuum: the grid is fine where counts decide (near a corner, when a phase brings a line of its own) and coarse
where they do not. L L^T is an exponential covariance in the same metric: neighbouring support points share their
fortune. Corners are exempt (they have a variance of their own), because a phase's pure region is a point mass. Of a
declared matrix phase the corner has a higher mean, and points of several phases of which it is none have a lower one.

References
----------
The nonparametric maximum likelihood view of mixing distributions: Kiefer, J., Wolfowitz, J., Ann. Math. Statist. 27
(1956) 887, doi:10.1214/aoms/1177728066. The metric on the multinomial simplex is that of the sphere: Rao, C. R.,
Bull. Calcutta Math. Soc. 37 (1945) 81; exponential covariances of great-circle distance are valid there: Gneiting,
T., Bernoulli 19 (2013) 1327, doi:10.3150/12-BEJSP06.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from bayesunmix.config.priors import DEFAULT_PRIORS, Priors
from bayesunmix.core.shares import ratio_of

FloatArray = npt.NDArray[np.float64]

# Counts times this put support points 0.7 standard deviations apart. A point mass half-way between two points that are
# one apart looks wider by an eighth: 0.012 nats a pixel, and for a thousand pixels a spectrum bends. Here it is 0.003.
FINE = 2.0
# Standard deviations between the points that fill a face: its pixels are few.
FACE_STEP = 2.0
# Log-odds of support points that only fill up an array.
NOWHERE = -1e9


class AbundancePrior(NamedTuple):
    """Support points of the mixture and the Gaussian prior of their log-odds; a JAX pytree.

    Attributes
    ----------
    support_points : (support_point, phase)
        Points of the simplex, in shares of the pixel's counts.
    mean : (support_point,)
        Prior mean of the log-odds.
    factor : (support_point, support_point)
        Lower Cholesky factor of the prior covariance of the log-odds.
    """

    support_points: FloatArray
    mean: FloatArray
    factor: FloatArray


def log_weights(prior: AbundancePrior, xi: jax.Array) -> jax.Array:
    """Log prior probabilities of the support points, log softmax(mean + L xi), shape (support_point,)."""
    return jax.nn.log_softmax(prior.mean + prior.factor @ xi)


def edge_positions(
    first: FloatArray, second: FloatArray, counts: float, n_steps: int | None = None
) -> FloatArray:
    r"""Positions t in [0, 1] at equal Fisher steps between two spectra.

    The information that n counts hold about t in (1 - t) s1 + t s2 is I(t) = n sum_c (s2 - s1)^2 / ((1 - t) s1 + t
    s2); the positions share the arc length \int sqrt(I) dt equally.

    Parameters
    ----------
    first, second : (energy,)
        Spectra with unit sum.
    counts : float
        Counts of a pixel, n.
    n_steps : int, optional
        Number of steps; by default as many as give steps of at most one standard deviation.

    Returns
    -------
    (step + 1,) from 0 to 1.
    """
    near = np.geomspace(1e-5, 0.5, 120)
    grid = np.concatenate(([0.0], near, 1.0 - near[-2::-1], [1.0]))
    mixed = (1.0 - grid)[:, None] * first + grid[:, None] * second
    # A channel that neither spectrum reaches says nothing.
    speed = np.sqrt(counts * ratio_of((second - first) ** 2, mixed).sum(axis=1))
    arc = np.concatenate(([0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * np.diff(grid))))
    steps = n_steps if n_steps is not None else max(2, int(np.ceil(arc[-1])))
    even = np.linspace(0.0, 1.0, steps + 1)
    # Between two spectra that are the same, every step is as good as another.
    return np.interp(arc[-1] * even, arc, grid) if arc[-1] > 0.0 else even


def overlapping(n_phases: int, size: int, matrix: npt.NDArray[np.bool_] | None) -> Iterator[tuple[int, ...]]:
    """Yield the sets of so many phases that may share a pixel: with one that the others are embedded in, if any is."""
    for members in itertools.combinations(range(n_phases), size):
        if matrix is None or not matrix.any() or matrix[list(members)].any():
            yield members


def simplex_support_points(
    spectra: FloatArray,
    counts: float,
    *,
    max_overlap: int = 2,
    steps_per_edge: int | None = None,
    matrix: npt.NDArray[np.bool_] | None = None,
) -> FloatArray:
    """Support points on the corners, along the edges, and on a few points of the faces, shape (support_point, phase).

    Parameters
    ----------
    spectra : (phase, energy)
        Endmember spectra with unit sum.
    counts : float
        Typical counts of a pixel.
    max_overlap : int
        Most phases that share a pixel finely resolved. Faces with one phase more get their centre and the points
        half-way to their corners, so that a rare triple overlap has somewhere to go; with 1 there are corners only.
    steps_per_edge : int, optional
        Fixed number of steps per edge, instead of one standard deviation per step.
    matrix : (phase,) bool, optional
        Phases in which the others are embedded. Where there is one and at most two phases overlap, the others
        overlap with it, and with each other only together with it: a grain whose counts could also be those of two
        other grains is a grain in the matrix.
    """
    n_phases = len(spectra)
    held = matrix if max_overlap == 2 else None
    corners = np.eye(n_phases)
    points = [*corners]
    if max_overlap >= 2:
        for i, j in overlapping(n_phases, 2, held):
            position = edge_positions(spectra[i], spectra[j], counts, steps_per_edge)[1:-1, None]
            points.extend((1.0 - position) * corners[i] + position * corners[j])
    for size in range(3, min(max_overlap + 1, n_phases) + 1):
        for members in overlapping(n_phases, size, held):
            points.extend(
                corners[list(members)].T @ point for point in _face_points(size, fine=size <= max_overlap)
            )
    return np.asarray(points)


def _face_points(size: int, *, fine: bool) -> list[FloatArray]:
    """Interior points of a face with `size` corners: a lattice of step 1/6 when fine, else centre and half-way."""
    if fine:
        lattice = itertools.product(range(1, 7), repeat=size)
        return [np.array(point) / 6.0 for point in lattice if sum(point) == 6]
    centre = np.full(size, 1.0 / size)
    pulled = [pull * corner + (1.0 - pull) * centre for pull in (0.4, 0.7) for corner in np.eye(size)]
    return [centre, *pulled]


def face_positions(spectra: FloatArray, counts: float) -> FloatArray:
    """Interior points of the face of three spectra at equal Fisher steps: layers from an edge to the corner opposite.

    Parameters
    ----------
    spectra : (3, energy)
        Spectra with unit sum, strictly positive.
    counts : float
        Counts of a pixel.

    Returns
    -------
    (point, 3)
    """
    first, second, third = spectra
    found = []
    for up in edge_positions(0.5 * (first + second), third, counts)[1:-1]:
        left, right = ((1.0 - up) * end + up * third for end in (first, second))
        for across in edge_positions(left, right, counts)[1:-1]:
            found.append([(1.0 - up) * (1.0 - across), (1.0 - up) * across, up])
    return np.array(found).reshape(-1, 3)


def filled_faces(
    spectra: FloatArray, counts: float, matrix: npt.NDArray[np.bool_] | None = None
) -> FloatArray:
    """Interior points of every face of three phases, `FACE_STEP` standard deviations apart, (point, phase).

    For the parameters see `simplex_support_points`; the spectra are strictly positive.
    """
    corners = np.eye(len(spectra))
    faces = [
        face_positions(spectra[list(members)], counts / FACE_STEP**2) @ corners[list(members)]
        for members in overlapping(len(spectra), 3, matrix)
    ]
    return np.concatenate([np.zeros((0, len(spectra))), *faces])


def abundance_prior(
    points: FloatArray,
    spectra: FloatArray,
    counts: float,
    matrix: npt.NDArray[np.bool_],
    widths: Priors = DEFAULT_PRIORS,
    hosts: npt.NDArray[np.bool_] | None = None,
) -> AbundancePrior:
    """Gaussian prior of the log-odds of given support points.

    Parameters
    ----------
    points : (support_point, phase)
    spectra : (phase, energy)
        Endmember spectra that define the Fisher distance, d_ij = 2 sqrt(n) arccos(sum_c sqrt(m_ic m_jc)).
    counts : float
        Counts of a pixel, n.
    matrix : (phase,) bool
        Phases declared to be a matrix: they have pure regions, and others meet each other in them.
    widths : Priors
        Of the log-odds.
    hosts : (phase,) bool, optional
        Phases that the others are embedded in: by default those of `matrix`.
    """
    root = np.sqrt(points @ spectra)
    cosine = np.clip(
        root @ root.T / np.outer(np.linalg.norm(root, axis=1), np.linalg.norm(root, axis=1)), -1.0, 1.0
    )
    distance = 2.0 * np.sqrt(counts) * np.arccos(cosine)
    np.fill_diagonal(distance, 0.0)
    corner = points.max(axis=1) == 1.0
    alike = np.exp(-distance / widths.abundance_correlation_length)
    covariance = widths.abundance_log_odds_sd**2 * alike + np.diag(
        widths.abundance_corner_sd**2 * corner + 1e-4
    )
    mean = log_odds_mean(points, matrix, matrix if hosts is None else hosts, widths)
    return AbundancePrior(points, mean, np.linalg.cholesky(covariance))


def log_odds_mean(
    points: FloatArray, matrix: npt.NDArray[np.bool_], hosts: npt.NDArray[np.bool_], widths: Priors
) -> FloatArray:
    """Prior mean of the log-odds of support points, (support_point,); for the parameters see `abundance_prior`."""
    corner = points.max(axis=1) == 1.0
    pure_matrix = corner & (points @ matrix.astype(float) == 1.0)
    # Where nothing else is known of them, it is what lies around the others that is the matrix.
    apart = ~corner & (points @ hosts.astype(float) == 0.0) & hosts.any()
    return np.asarray(
        widths.abundance_matrix_log_odds * pure_matrix - widths.abundance_apart_log_odds * apart, np.float64
    )


def padded_prior(prior: AbundancePrior, n_points: int) -> AbundancePrior:
    """Fill up a prior to so many support points with ones of no weight, whatever their xi."""
    more = n_points - len(prior.mean)
    return AbundancePrior(
        np.concatenate([prior.support_points, np.repeat(prior.support_points[:1], more, axis=0)]),
        np.concatenate([prior.mean, np.full(more, NOWHERE)]),
        np.pad(prior.factor, ((0, more), (0, more)))
        + np.diag(np.repeat([0.0, 1.0], [len(prior.mean), more])),
    )
