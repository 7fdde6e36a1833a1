"""Robust covariance from the scores of spatial tiles, where the model's own curvature says too little.

If blocks are independent and the model is right, the curvature H of the negative log posterior gives the covariance
of the parameters. Where a spectrum varies over the map, the scores of neighbouring blocks go together, and the
variance of their sum is larger than H says. With g_t the score of a tile t of the map at the mode and W W' = H^-1::

    u_t = W' g_t                                 whitened: unit covariance over the map where the model is right
    J   = n / (n - 1) sum_t (u_t - u)(u_t - u)'              W J W' is the sandwich H^-1 (sum g g') H^-1

What is not asked for and differs from tile to tile anyway, such as where the grains are, must be at its value of the
tile: at that of the map, its differences would pass for differences of the spectra.

A few dozen tiles do not determine a covariance of a hundred parameters. J is therefore looked at only in the span of
the quantities that are reported, phase by phase, and there only along the eigenvectors whose variance is too large for
chance: larger than the largest eigenvalue on homogeneous maps drawn from the model, on which as few tiles know
something of a rare phase as on the map itself. Along these the draws are stretched, by the root of the eigenvalue,
corrected for the noise that made it largest; all other directions keep the model's.

References
----------
Sandwich: Huber, P. J., Proc. 5th Berkeley Symp. 1 (1967) 221; Godambe, V. P., Ann. Math. Stat. 31 (1960) 1208,
doi:10.1214/aoms/1177705693. Large eigenvalues above noise: Baik, J., Silverstein, J. W., J. Multivar. Anal. 97 (2006)
1382, doi:10.1016/j.jmva.2005.08.003; their correction: Donoho, D., Gavish, M., Johnstone, I., Ann. Stat. 46 (2018)
1742, doi:10.1214/17-AOS1601.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from bayesunmix.inference.extremes import prediction_limit, prediction_probability

FloatArray = npt.NDArray[np.float64]

# With fewer tiles the comparison is left undone.
FEWEST_TILES = 12
# Directions that the quantities share less than this of are left out of their span.
NEGLIGIBLE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Directions along which the parameters are less certain than the model says.

    Attributes
    ----------
    directions : (dim, direction)
        Orthonormal, in whitened coordinates.
    variances : (direction,)
        Robust variance along each; the model's is 1. All above 1.
    significance : float
        Probability that tiles of a homogeneous map have so large a largest eigenvalue.
    tiles : int
    robust_variance, model_variance : (quantity,)
        Linearised variance of each quantity, the sandwich's and the model's, before any test.
    """

    directions: FloatArray
    variances: FloatArray
    significance: float
    tiles: int
    robust_variance: FloatArray
    model_variance: FloatArray

    def stretched_variance(self, gradients: FloatArray) -> FloatArray:
        """Linearised variance of quantities after the stretch, from whitened gradients (quantity, dim)."""
        along = gradients @ self.directions
        return np.asarray((gradients**2).sum(axis=1) + along**2 @ (self.variances - 1.0))


def tile_labels(shape: tuple[int, int], n_tiles: int) -> npt.NDArray[np.int64]:
    """Tile of each cell of a grid: near squares, about `n_tiles` of them, numbered along the rows."""
    rows, columns = shape
    down = int(np.clip(round(np.sqrt(n_tiles * rows / columns)), 1, rows))
    across = int(np.clip(round(n_tiles / down), 1, columns))
    y = (np.arange(rows) * down) // rows
    x = (np.arange(columns) * across) // columns
    return np.asarray(y[:, None] * across + x[None, :], np.int64)


def stretch_of(
    scores: FloatArray,
    null: Sequence[FloatArray],
    whitening: FloatArray,
    gradients: Sequence[FloatArray],
    *,
    level: float = 0.95,
    false_use: float = 0.01,
) -> Stretch | None:
    """Compare tile scores with the curvature in the spans of groups of quantities.

    Parameters
    ----------
    scores : (tile, dim)
        Gradient of each tile's log-likelihood at the mode.
    null : sequence of (tile, dim)
        The same on homogeneous maps drawn from the model.
    whitening : (dim, dim)
        W, columns such that W W' is the model's covariance.
    gradients : sequence of (quantity, dim)
        Of the reported quantities with respect to the parameters, group by group. A group of which few tiles know
        anything has a large eigenvalue by chance, which must not hide those of others: each is tested by itself.
    level : float
        Of the intervals: few tiles make their ends those of Student's distribution.
    false_use : float
        Probability that a homogeneous map gets any stretched direction.

    Returns
    -------
    Stretch, or None where there are too few tiles.
    """
    n = len(scores)
    if n < FEWEST_TILES:
        return None
    u, others = _centred(scores @ whitening), [_centred(each @ whitening) for each in null]
    slopes = np.concatenate(gradients) @ whitening
    groups = [_tested(u, others, _span(group @ whitening), false_use / len(gradients)) for group in gradients]
    directions, variances = np.zeros((len(whitening), 0)), np.zeros(0)
    for group in sorted(groups, key=lambda group: group.significance):
        # What an earlier group has stretched is left out of the later ones.
        rest = group.directions - directions @ (directions.T @ group.directions)
        size = np.linalg.norm(rest, axis=0)
        kept = size > 0.5
        along = np.linalg.qr(rest[:, kept])[0]
        directions = np.concatenate([directions, along], axis=1)
        variances = np.concatenate([variances, group.variances[kept]])
    few = (t.ppf(0.5 + level / 2.0, n - 1) / norm.ppf(0.5 + level / 2.0)) ** 2
    return Stretch(
        directions=directions,
        variances=np.maximum(variances * few, 1.0),
        significance=min(1.0, len(groups) * min(group.significance for group in groups)),
        tiles=n,
        robust_variance=((u @ slopes.T) ** 2).sum(axis=0),
        model_variance=(slopes**2).sum(axis=1),
    )


@dataclass(frozen=True)
class _Tested:
    """Eigenvectors of one group whose variance is too large for chance, and how seldom chance is as large."""

    directions: FloatArray
    variances: FloatArray
    significance: float


def _tested(u: FloatArray, null: Sequence[FloatArray], basis: FloatArray, false_use: float) -> _Tested:
    """Compare the eigenvalues in one span with the largest ones of homogeneous maps."""
    inside = u @ basis
    values, vectors = np.linalg.eigh(inside.T @ inside)
    # Logarithms of largest eigenvalues are nearly Gumbel.
    largest = np.log([float(np.linalg.norm(each @ basis, 2)) ** 2 for each in null])
    spread = max(float(largest.std(ddof=1)), 1e-9)
    deviations = (np.log(np.maximum(values, 1e-300)) - largest.mean()) / spread
    kept = deviations > prediction_limit(len(null), false_use)
    shrunk = _shrunk(values[kept], basis.shape[1] / (len(u) - 1))
    return _Tested(basis @ vectors[:, kept], shrunk, prediction_probability(len(null), float(deviations[-1])))


def _centred(rows: FloatArray) -> FloatArray:
    """Rows less their mean, scaled so that their squares add up without bias."""
    return np.asarray((rows - rows.mean(axis=0)) * np.sqrt(len(rows) / (len(rows) - 1)))


def _span(slopes: FloatArray) -> FloatArray:
    """Orthonormal basis of what the quantities depend on, each in units of its own sd, shape (dim, rank)."""
    size = np.linalg.norm(slopes, axis=1, keepdims=True)
    unit = slopes[size[:, 0] > 0.0] / size[size[:, 0] > 0.0]
    _, values, rows = np.linalg.svd(unit, full_matrices=False)
    return np.asarray(rows[values > NEGLIGIBLE * values[0]].T)


def _shrunk(values: FloatArray, ratio: float) -> FloatArray:
    """Variance behind an observed eigenvalue: the larger root of l (1 + ratio / (l - 1)) = value."""
    centre = values + 1.0 - ratio
    return np.asarray(0.5 * (centre + np.sqrt(np.maximum(centre**2 - 4.0 * values, 0.0))))
