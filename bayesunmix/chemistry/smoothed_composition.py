"""The draws of one phase's composition as a density that entries of a library can be compared with.

Draws are taken in log ratios to the most abundant element r,

    z_j = log((x_j + s_j) / x_r),

with s_j the standard deviation of x_j, so that an element that is not there piles up at log s_j and not at minus
infinity (a started logarithm: Tukey, J. W., Exploratory Data Analysis (1977), ch. 3). They are cut into up to `SLICES`
slices of equal number along their first principal component, so that draws along a curve, as where a phase can be
rotated into another, stay on it, and each slice is a normal of its own mean m_g and covariance V_g,

    q(z) = mean_g N(z; m_g, V_g + t^2 (I + 1 1')).

The last term is the tolerance t of an entry: each amount strays by a relative t, x_r in all ratios together.

The draws were made under a prior that is flat in the simplex, nearly, so that the likelihood is q / prior, with
prior(z) = x_r prod_j (x_j + s_j) up to a factor that is common to all entries.

An element that an entry does not name may still be there, as trace or impurity. Its amount is scale-free from
`FEWEST` to a few at%, p(x) = exp(-x / `IMPURITY`) / (x E1(`FEWEST` / `IMPURITY`)), and T_j = mean_i p(x_ij) is the
factor by which that is as likely as a flat amount. Where draws lie evenly up to zero, few come near to it, and p is
largest there: each is spread evenly over a width that goes with how all scatter (Silverman, B. W., Density Estimation
for Statistics and Data Analysis (1986), doi:10.1201/9781315140919, ch. 3.4), and mirrored at zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import exp1, logsumexp

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

FEWEST = 1e-5
"""Atom fraction below which nothing is seen."""
IMPURITY = 0.02
"""Atom fraction around which amounts of foreign elements end: 1 at% is usual, 5 at% is rare."""
SLICES = 8
"""Normals that draws are smoothed to, at most: with fewer than `_FEWEST_DRAWS` in each there are fewer."""
HARDLY = 0.003
"""Atom fraction below which an element may as well be no part of a solid solution."""
POINT_SD = 0.10
"""Relative standard deviation of an amount where the method gives none: that of an L line's strength."""
# An element that no draw moves (declared absent) is known to be less than about this atom fraction.
_ABSENT = 3e-4
_FEWEST_DRAWS = 50
# Standard deviation of what a draw is spread by, over that of the draws and a fifth root of their number.
_SILVERMAN = 0.9
_POINT_START = 2e-3
# Draws that do not move have no covariance.
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
    mean, covariance
        Of the log ratios, (element,) and (element, element); zero at r.
    means, covariances
        The same of each slice, (slice, ...).
    log_trace
        log T_j, (element,).
    hardly
        Which elements are hardly there, (element,).
    """

    reference: int
    start: FloatArray
    mean: FloatArray
    covariance: FloatArray
    means: FloatArray
    covariances: FloatArray
    log_trace: FloatArray
    hardly: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, draws: FloatArray, *, spread: bool = False) -> SmoothedComposition:
        """Smooth draws of atom fractions, (draw, element).

        Parameters
        ----------
        draws
            A single one is a point, for which usual errors are taken.
        spread
            Whether amounts of foreign elements are spread: of a few draws that lie evenly up to zero.
        """
        point = len(draws) == 1
        x = _blurred(np.maximum(draws, 0.0))
        r = int(np.argmax(x.mean(axis=0)))
        start = np.full(x.shape[1], _POINT_START) if point else np.maximum(x.std(axis=0), 1e-6)
        z = _log_ratios(x, r, start)
        slices = [z] if point else _slices(z)
        usual = POINT_SD**2 * (np.eye(x.shape[1]) + 1.0)
        covariances = np.stack([usual if point else _covariance(one) for one in slices])
        return cls(
            reference=r,
            start=start,
            mean=z.mean(axis=0),
            covariance=usual if point else _covariance(z),
            means=np.stack([one.mean(axis=0) for one in slices]),
            covariances=covariances,
            log_trace=_log_trace(x, spread),
            hardly=x.mean(axis=0) < HARDLY,
        )

    def log_ratios(self, fractions: FloatArray) -> FloatArray:
        """Log ratios of atom fractions, (..., element)."""
        return _log_ratios(fractions, self.reference, self.start)

    def log_prior(self, fractions: FloatArray, held: BoolArray) -> FloatArray:
        """Log of the draws' prior in the log ratios of the elements that are held, (...,)."""
        others = held & (np.arange(len(held)) != self.reference)
        logs = np.log(fractions[..., others] + self.start[others]).sum(axis=-1)
        return np.asarray(logs + np.log(np.maximum(fractions[..., self.reference], 1e-300)))

    def density(self, held: BoolArray, tolerance: float) -> LogDensity:
        """Density q in the log ratios of the elements that are held."""
        columns = np.flatnonzero(held & (np.arange(len(held)) != self.reference))
        n = len(columns)
        wide = tolerance**2 * (np.eye(n) + 1.0) + _FLOOR**2 * np.eye(n)
        roots = np.linalg.cholesky(self.covariances[:, columns[:, None], columns] + wide)
        logs = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
        return LogDensity(
            columns=columns,
            means=self.means[:, columns],
            whitening=np.swapaxes(np.linalg.inv(roots), 1, 2),
            constants=-logs - np.log(len(roots)) - 0.5 * n * np.log(2.0 * np.pi),
        )


@dataclass(frozen=True)
class LogDensity:
    """Log of a mixture of normals in some log ratios.

    Attributes
    ----------
    columns
        Places of their elements, (held,).
    means, whitening
        Of each normal, (slice, held), and what makes differences from it independent with unit variance,
        (slice, held, held).
    constants
        Log of weight and height of each normal, (slice,).
    """

    columns: npt.NDArray[np.int64]
    means: FloatArray
    whitening: FloatArray
    constants: FloatArray

    def __call__(self, z: FloatArray) -> FloatArray:
        """Return it at log ratios, (n,) from (n, element)."""
        if not len(self.columns):
            return np.zeros(len(z))
        scaled = (z[:, self.columns] - self.means[:, None]) @ self.whitening
        logs = self.constants[:, None] - 0.5 * np.einsum("snh,snh->sn", scaled, scaled)
        top = logs.max(axis=0)
        return np.asarray(top + np.log(np.exp(logs - top).sum(axis=0)))


def _log_trace(x: FloatArray, spread: bool) -> FloatArray:
    """Log mean of p over draws (draw, element), each spread or not, (element,)."""
    if not spread:
        amounts = np.maximum(x, FEWEST)
        log_p = -amounts / IMPURITY - np.log(amounts * exp1(FEWEST / IMPURITY))
        return np.asarray(logsumexp(log_p, axis=0) - np.log(len(x)))
    half = np.maximum(np.sqrt(3.0) * _SILVERMAN * x.std(axis=0) * len(x) ** -0.2, FEWEST)
    low = x - half
    between = _up_to(x + half) - np.sign(low) * _up_to(np.abs(low))
    return np.asarray(np.log(np.maximum((between / (2.0 * half)).mean(axis=0), 1e-300)))


def _up_to(x: FloatArray) -> FloatArray:
    """Integral of p from 0; below `FEWEST` it is what it is there."""
    total = exp1(FEWEST / IMPURITY)
    below = np.minimum(x, FEWEST) / FEWEST * np.exp(-FEWEST / IMPURITY)
    return np.asarray((below + total - exp1(np.maximum(x, FEWEST) / IMPURITY)) / total)


def _slices(z: FloatArray) -> list[FloatArray]:
    """Cut draws into slices of equal number along their first principal component."""
    count = max(1, min(SLICES, len(z) // max(_FEWEST_DRAWS, 4 * z.shape[1])))
    _, axes = np.linalg.eigh(_covariance(z))
    return np.array_split(z[np.argsort(z @ axes[:, -1], kind="stable")], count)


def _covariance(z: FloatArray) -> FloatArray:
    return np.atleast_2d(np.cov(z, rowvar=False))


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
