"""Robust covariance from the scores of spatial tiles, where the model's own curvature says too little.

If blocks are independent and the model is right, the curvature H of the negative log posterior gives the covariance
of the parameters. Where a spectrum varies over the map, the scores of neighbouring blocks go together, and the
variance of their sum is larger than H says. With g_t the score of a tile t of the map at the mode and W W' = H^-1::

    u_t = W' g_t                                 whitened: unit covariance over the map where the model is right
    J   = n / (n - 1) sum_t (u_t - u)(u_t - u)'              W J W' is the sandwich H^-1 (sum g g') H^-1

A few dozen tiles do not determine a covariance of a hundred parameters. J is therefore looked at only in the span of
the quantities that are reported, and there only along the eigenvectors whose variance is too large for chance: the
largest eigenvalue is compared with those of the same number of standard normal tiles. Along these the draws are
stretched, by the root of the eigenvalue, corrected for the noise that made it largest; all other directions keep the
model's.

References
----------
Sandwich: Huber, P. J., Proc. 5th Berkeley Symp. 1 (1967) 221; Godambe, V. P., Ann. Math. Stat. 31 (1960) 1208,
doi:10.1214/aoms/1177705693. Large eigenvalues above noise: Baik, J., Silverstein, J. W., J. Multivar. Anal. 97 (2006)
1382, doi:10.1016/j.jmva.2005.08.003; their correction: Donoho, D., Gavish, M., Johnstone, I., Ann. Stat. 46 (2018)
1742, doi:10.1214/17-AOS1601.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

FloatArray = npt.NDArray[np.float64]

# Draws of the largest eigenvalue of a covariance that is the unit matrix.
N_NULL = 1000
# With fewer tiles the comparison is left undone.
FEWEST_TILES = 12
# Directions that the quantities share less than this of are left out of their span.
NEGLIGIBLE = 1e-3


@dataclass(frozen=True)
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

    def apply(self, v: FloatArray) -> FloatArray:
        """Stretch whitened departures from the centre, shape (..., dim)."""
        along = v @ self.directions
        return np.asarray(v + along * (np.sqrt(self.variances) - 1.0) @ self.directions.T)

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
    whitening: FloatArray,
    gradients: FloatArray,
    *,
    seed: int,
    level: float = 0.95,
    false_use: float = 0.01,
) -> Stretch | None:
    """Compare tile scores with the curvature in the span of some quantities.

    Parameters
    ----------
    scores : (tile, dim)
        Gradient of each tile's log-likelihood at the mode.
    whitening : (dim, dim)
        W, columns such that W W' is the model's covariance.
    gradients : (quantity, dim)
        Of the reported quantities with respect to the parameters.
    seed : int
        Of the comparison's normal draws.
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
    u = scores @ whitening
    u = (u - u.mean(axis=0)) * np.sqrt(n / (n - 1))
    slopes = gradients @ whitening
    basis = _span(slopes)
    inside = u @ basis
    values, vectors = np.linalg.eigh(inside.T @ inside)
    null = _largest_null(n, basis.shape[1], seed)
    kept = values > np.quantile(null, 1.0 - false_use)
    significance = float((1 + (null >= values[-1]).sum()) / (1 + len(null)))
    few = (t.ppf(0.5 + level / 2.0, n - 1) / norm.ppf(0.5 + level / 2.0)) ** 2
    return Stretch(
        directions=basis @ vectors[:, kept],
        variances=np.maximum(_shrunk(values[kept], basis.shape[1] / (n - 1)) * few, 1.0),
        significance=significance,
        tiles=n,
        robust_variance=((u @ slopes.T) ** 2).sum(axis=0),
        model_variance=(slopes**2).sum(axis=1),
    )


def _span(slopes: FloatArray) -> FloatArray:
    """Orthonormal basis of what the quantities depend on, each in units of its own sd, shape (dim, rank)."""
    size = np.linalg.norm(slopes, axis=1, keepdims=True)
    unit = slopes[size[:, 0] > 0.0] / size[size[:, 0] > 0.0]
    _, values, rows = np.linalg.svd(unit, full_matrices=False)
    return np.asarray(rows[values > NEGLIGIBLE * values[0]].T)


def _largest_null(n_tiles: int, rank: int, seed: int) -> FloatArray:
    """Largest eigenvalue of the covariance of standard normal tiles, many times."""
    generator = np.random.default_rng([seed, 40])
    small, large = sorted((n_tiles - 1, rank))
    draws = generator.standard_normal((N_NULL, small, large))
    return np.asarray(np.linalg.eigvalsh(draws @ draws.transpose(0, 2, 1))[:, -1] / (n_tiles - 1))


def _shrunk(values: FloatArray, ratio: float) -> FloatArray:
    """Variance behind an observed eigenvalue: the larger root of l (1 + ratio / (l - 1)) = value."""
    centre = values + 1.0 - ratio
    return np.asarray(0.5 * (centre + np.sqrt(np.maximum(centre**2 - 4.0 * values, 0.0))))


def tile_scores(
    gradient: Callable[[FloatArray], FloatArray], labels: npt.NDArray[np.int64], n_tiles: int
) -> FloatArray:
    """Scores of all tiles, (tile, dim).

    Parameters
    ----------
    gradient : (weights (block,)) -> (dim,)
        Gradient of the log density with each block's log-likelihood times its weight; parts that do not depend on
        the weights cancel.
    labels : (block,) int
        Tile of each block.
    n_tiles : int
    """
    none = gradient(np.zeros(len(labels)))
    return np.stack([gradient((labels == tile).astype(float)) - none for tile in range(n_tiles)])
