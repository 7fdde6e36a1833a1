"""The draws of one phase's composition as a density that entries of a library can be compared with.

Draws are taken in log ratios to the most abundant element r,

    z_j = log((x_j + s_j) / x_r),

with s_j the standard deviation of x_j, so that an element that is not there piles up at log s_j and not at minus
infinity (a started logarithm: Tukey, J. W., Exploratory Data Analysis (1977), ch. 3). They are smoothed by normal
kernels that keep mean and covariance m, V (West, M., J. R. Stat. Soc. B 55 (1993) 409,
doi:10.1111/j.2517-6161.1993.tb01911.x),

    q(z) = mean_i N(z; m + (1 - h^2)^0.5 (z_i - m), h^2 V + t^2 (I + 1 1')),

h that of Silverman for the dimension (Silverman, B. W., Density Estimation (1986), eq. 4.14). The last term is the
tolerance t of an entry: each amount strays by a relative t, x_r in all ratios together.

The draws were made under a prior that is flat in the simplex, nearly, so that the likelihood is q / prior, with
prior(z) = x_r prod_j (x_j + s_j) up to a factor that is common to all entries.

An element that an entry does not name may still be there, as trace or impurity. Its amount is scale-free from
`FEWEST` to a few at%, p(x) = exp(-x / `IMPURITY`) / (x E1(`FEWEST` / `IMPURITY`)), and T_j = mean_i p(x_ij) is the
factor by which that is as likely as a flat amount.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular
from scipy.special import exp1, logsumexp

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FEWEST = 1e-5
"""Atom fraction below which nothing is seen."""
IMPURITY = 0.02
"""Atom fraction around which amounts of foreign elements end: 1 at% is usual, 5 at% is rare."""
POINT_SD = 0.10
"""Relative standard deviation of an amount where the method gives none: that of an L line's strength."""
_MOST_DRAWS = 250
# An element that no draw moves (declared absent) is known to be less than about this atom fraction.
_ABSENT = 3e-4
_POINT_START = 2e-3
# Rounding of kernels: draws that do not move have no covariance.
_FLOOR = 1e-3


@dataclass(frozen=True)
class SmoothedComposition:
    """The posterior of one phase's composition, in log ratios.

    Attributes
    ----------
    reference
        Place r of the most abundant element.
    start
        s_j, (element,).
    z
        Draws, (draw, element); zero at r.
    mean, covariance
        Of the log ratios, (element,) and (element, element).
    log_trace
        log T_j, (element,).
    """

    reference: int
    start: FloatArray
    z: FloatArray
    mean: FloatArray
    covariance: FloatArray
    log_trace: FloatArray

    @classmethod
    def of(cls, draws: FloatArray) -> SmoothedComposition:
        """Smooth draws of atom fractions, (draw, element)."""
        point = len(draws) == 1
        x = _blurred(np.maximum(draws, 0.0))
        r = int(np.argmax(x.mean(axis=0)))
        start = np.full(x.shape[1], _POINT_START) if point else np.maximum(x.std(axis=0), 1e-6)
        z = _log_ratios(x, r, start)
        covariance = np.zeros((x.shape[1],) * 2) if point else np.atleast_2d(np.cov(z, rowvar=False))
        if point:
            covariance = POINT_SD**2 * (np.eye(x.shape[1]) + 1.0)
        chosen = np.unique(np.linspace(0, len(z) - 1, _MOST_DRAWS).astype(int))
        amounts = np.maximum(x, FEWEST)
        log_p = -amounts / IMPURITY - np.log(amounts * exp1(FEWEST / IMPURITY))
        trace = logsumexp(log_p, axis=0) - np.log(len(x))
        return cls(r, start, z[chosen], z.mean(axis=0), covariance, np.asarray(trace))

    def log_ratios(self, fractions: FloatArray) -> FloatArray:
        """Log ratios of atom fractions, (..., element)."""
        return _log_ratios(fractions, self.reference, self.start)

    def log_prior(self, fractions: FloatArray, held: BoolArray) -> FloatArray:
        """Log of the draws' prior in the log ratios of the elements that are held, (...,)."""
        others = held & (np.arange(len(held)) != self.reference)
        logs = np.log(fractions[..., others] + self.start[others]).sum(axis=-1)
        return np.asarray(logs + np.log(np.maximum(fractions[..., self.reference], 1e-300)))

    def log_normal(self, z: FloatArray, held: BoolArray, tolerance: float) -> FloatArray:
        """Log density of one normal in the log ratios of the elements that are held, (n,) from (n, element)."""
        columns, root = self._root(held, tolerance, 1.0)
        return _log_density(z[:, columns], self.mean[columns], root)

    def log_density(self, z: FloatArray, held: BoolArray, tolerance: float) -> FloatArray:
        """Log density of the smoothed draws, as `log_normal`."""
        count = len(self.z)
        n = np.count_nonzero(held) - 1
        if n == 0 or count == 1:
            return self.log_normal(z, held, tolerance)
        h = min((4.0 / ((n + 2.0) * count)) ** (1.0 / (n + 4.0)), 1.0)
        columns, root = self._root(held, tolerance, h)
        mean = self.mean[columns]
        centres = mean + np.sqrt(1.0 - h**2) * (self.z[:, columns] - mean)
        # In units of the kernel distances are Euclidean.
        scaled = solve_triangular(root, z[:, columns].T, lower=True).T
        middles = solve_triangular(root, centres.T, lower=True).T
        squared = (scaled**2).sum(1)[:, None] + (middles**2).sum(1) - 2.0 * scaled @ middles.T
        norm = np.log(np.diag(root)).sum() + 0.5 * n * np.log(2.0 * np.pi) + np.log(count)
        return np.asarray(logsumexp(-0.5 * squared, axis=1) - norm)

    def _root(self, held: BoolArray, tolerance: float, h: float) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Return the places of the log ratios that are held, and the Cholesky factor of the kernel's covariance."""
        columns = np.flatnonzero(held & (np.arange(len(held)) != self.reference))
        n = len(columns)
        kernel = h**2 * self.covariance[np.ix_(columns, columns)] + tolerance**2 * (np.eye(n) + 1.0)
        return columns, np.linalg.cholesky(kernel + _FLOOR**2 * np.eye(n)) if n else np.zeros((0, 0))


def _blurred(x: FloatArray) -> FloatArray:
    """Give elements that are hardly there in any draw the amounts that cannot be excluded; closed to 1."""
    still = x.std(axis=0) < _ABSENT
    noise = np.abs(np.random.default_rng(0).normal(0.0, _ABSENT, x.shape)) if len(x) > 1 else 0.0
    # An amount that is known well stays one: what is added is relative to the uncertainty, and never much.
    x = x + np.where(still & (x.mean(axis=0) < _ABSENT), noise, 0.0)
    return np.asarray(x / x.sum(axis=1, keepdims=True))


def _log_ratios(x: FloatArray, r: int, start: FloatArray) -> FloatArray:
    z = np.log(x + start) - np.log(np.maximum(x[..., [r]], 1e-300))
    z[..., r] = 0.0
    return np.asarray(z)


def _log_density(z: FloatArray, mean: FloatArray, root: FloatArray) -> FloatArray:
    n = len(mean)
    if n == 0:
        return np.zeros(len(z))
    scaled = solve_triangular(root, (z - mean).T, lower=True)
    return np.asarray(
        -0.5 * (scaled**2).sum(axis=0) - np.log(np.diag(root)).sum() - 0.5 * n * np.log(2.0 * np.pi)
    )
