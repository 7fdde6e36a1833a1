"""A discrepancy between a fitted model and its counts, learned from the residuals region by region.

The model m_c(theta) is off by a factor 1 + d_c that nobody knows: another continuum, another line shape. Let d be
smooth along the axis, d = Phi a over hats Phi. Around the mode, with V the covariance of theta there::

    e = gradient of the log-likelihood by a                        the residuals, hat by hat
    K = information about a, theta known;  G = cross information of theta and a
    A = K - G' V G                                                 information about a, theta fitted
    e ~ Normal(0, A + A C A)                                       C the prior covariance of a

What lies on a line of theta is fitted, and missing in A: there C alone, learned around it, says how far off the model
may be. C is a sum of pieces with one amplitude each: bumps that tile the axis, times a correlation along it, short for
errors of line shapes and long for those of a continuum::

    C = sum_r t_r psi_r R psi_r,      t_r >= 0

The score of t_r, S = e' psi_r R psi_r e, has a mean of tr(psi_r R psi_r A) by chance, and tr((psi_r R psi_r A)^2) more
per unit of t_r. Where it is larger than chance makes it, t_r is what this says; everywhere else it is zero, so that a
model that fits has no discrepancy at all. With B = (C^-1 + A)^-1 the draws of theta are moved as the joint posterior of
theta and a has it::

    a ~ Normal(B e, B),        theta - V G a

References
----------
Discrepancy of a model: Kennedy, M. C., O'Hagan, A., J. R. Stat. Soc. B 63 (2001) 425, doi:10.1111/1467-9868.00294.
Score test of a variance component: Lin, X., Biometrika 84 (1997) 309, doi:10.1093/biomet/84.2.309; its distribution:
Satterthwaite, F. E., Biom. Bull. 2 (1946) 110.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

FloatArray = npt.NDArray[np.float64]

# Probability that a model that fits gets a discrepancy anywhere.
FALSE_USE = 0.01
# Directions with less information than this, relative to the largest, tell nothing but rounding.
UNINFORMED = 1e-10
# Share of the information about the discrepancy that theta leaves, from which on it is more than an error of the
# linearisation.
LEAST_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Linearised:
    """The model around its mode, and how the residuals look from there.

    Attributes
    ----------
    residual : (hat,)
        e.
    known : (hat, hat)
        K.
    cross : (dim, hat)
        G.
    covariance : (dim, dim)
        V.
    """

    residual: FloatArray
    known: FloatArray
    cross: FloatArray
    covariance: FloatArray

    def told(self) -> tuple[FloatArray, FloatArray]:
        """Root R of what the residuals tell, A = R R', (hat, direction), and e along it in units of noise.

        K^(-1/2) A K^(-1/2) has eigenvalues from 0, where theta takes up all of a discrepancy, to 1. Small ones are
        differences of large numbers, each of which is known to a few per cent, and are left out.
        """
        values, vectors = np.linalg.eigh(self.known)
        kept = values > UNINFORMED * values[-1]
        root = vectors[:, kept] * np.sqrt(values[kept])
        inverse = vectors[:, kept] / np.sqrt(values[kept])
        fitted = self.cross @ inverse
        share, along = np.linalg.eigh(np.eye(int(kept.sum())) - fitted.T @ self.covariance @ fitted)
        clear = share > LEAST_SHARE
        along, size = along[:, clear], np.sqrt(share[clear])
        return root @ along * size, (along.T @ (inverse.T @ self.residual)) / size

    @property
    def response(self) -> FloatArray:
        """V G: how theta moves where the model is given the discrepancy, with a minus, (dim, hat)."""
        return self.covariance @ self.cross


@dataclass(frozen=True, kw_only=True)
class Discrepancy:
    """What the residuals say of the factor by which the model is off.

    Attributes
    ----------
    amplitude : (piece,)
        Standard deviation t_r^(1/2) of each piece; zero where chance explains the residuals.
    mean : (hat,)
        B e.
    root : (hat, rank)
        Of B = root root'.
    prior_sd : (hat,)
        Standard deviation of a before the residuals, of all pieces together.
    """

    amplitude: FloatArray
    mean: FloatArray
    root: FloatArray
    prior_sd: FloatArray

    def drawn(self, number: int, generator: np.random.Generator) -> FloatArray:
        """Draws of a, (draw, hat)."""
        return np.asarray(self.mean + generator.standard_normal((number, self.root.shape[1])) @ self.root.T)


def learn(
    at: Linearised, families: Sequence[Sequence[FloatArray]], false_use: float = FALSE_USE
) -> Discrepancy | None:
    """Learn the amplitudes of the pieces of the discrepancy from the residuals.

    Parameters
    ----------
    at : Linearised
    families : sequence of sequences of (hat, rank)
        Roots F_r of the covariances psi_r R psi_r = F_r F_r', family by family: what one shows is no news to the next.
    false_use : float
        Probability that a model that fits gets any piece.

    Returns
    -------
    Discrepancy, or None where chance explains the residuals.
    """
    told, residual = at.told()
    known = (at.known**2).sum() > 0.0
    each = false_use / max(sum(len(family) for family in families), 1)
    amplitude: list[float] = []
    prior = np.zeros((len(at.residual), 0))
    for family in families:
        shown = told.T @ prior
        noise = np.eye(told.shape[1]) + shown @ shown.T
        variances = [_variance(told.T @ piece, residual, noise, each) if known else 0.0 for piece in family]
        amplitude += np.sqrt(variances).tolist()
        found = [np.sqrt(t) * piece for t, piece in zip(variances, family, strict=True) if t > 0.0]
        prior = np.concatenate([prior, *found], axis=1)
    if not prior.shape[1]:
        return None
    # a = F u, u ~ Normal(0, 1): B by what e leaves of u.
    shown = told.T @ prior
    left = prior @ np.linalg.inv(np.linalg.cholesky(np.eye(prior.shape[1]) + shown.T @ shown)).T
    return Discrepancy(
        amplitude=np.array(amplitude),
        mean=left @ (left.T @ (told @ residual)),
        root=left,
        prior_sd=np.sqrt((prior**2).sum(axis=1)),
    )


def _variance(piece: FloatArray, residual: FloatArray, noise: FloatArray, chance: float) -> float:
    """Amplitude squared of a piece by the moment of its score, zero where chance has one as large.

    Parameters
    ----------
    piece : (direction, rank)
        What a unit of it adds to the residuals.
    residual : (direction,)
        In units of noise.
    noise : (direction, direction)
        Covariance of the residuals without the piece.
    chance : float
        Smallest probability that is put down to chance.
    """
    score = float(((piece.T @ residual) ** 2).sum())
    alone, own = piece.T @ noise @ piece, piece.T @ piece
    mean, spread = float(np.trace(alone)), 2.0 * float((alone**2).sum())
    if spread <= 0.0:
        return 0.0
    scale, freedom = spread / (2.0 * mean), 2.0 * mean**2 / spread
    if chi2.sf(score / scale, freedom) > chance:
        return 0.0
    return max(score - mean, 0.0) / float((own**2).sum())
