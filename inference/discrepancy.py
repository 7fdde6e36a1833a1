"""A discrepancy between a fitted model and its counts, learned from the residuals region by region.

The model m_c(theta) is off by a factor 1 + d_c that nobody knows: another continuum, another line shape. Let d be
smooth along the axis, d = Phi a over hats Phi. Around the mode, with V the covariance of theta there::

    e = gradient of the log-likelihood by a                        the residuals, hat by hat
    K = information about a, theta known;  G = cross information of theta and a
    A = K - G' V G                                                 information about a, theta fitted
    e ~ Normal(0, A + A C A)                                       C the prior covariance of a

What lies on a line of theta is fitted, and missing in A: there C alone, learned around it, says how far off the model may
be. C is a sum of pieces with one amplitude each: bumps that tile the axis, times a correlation along it, short for
errors of line shapes and long for those of a continuum::

    C = sum_r t_r psi_r R psi_r,      t_r >= 0

All t_r are zero to begin with. The piece whose score d log p(e) / d t_r is least likely by chance, if it is so at all,
gets the most probable amplitude, the amplitudes before it with it, until chance explains the rest. So a model that fits
has no discrepancy at all. With B = (C^-1 + A)^-1 the draws of theta are moved as the joint posterior of theta and a
has it::

    a ~ Normal(B e, B),        theta - V G a

References
----------
Discrepancy of a model: Kennedy, M. C., O'Hagan, A., J. R. Stat. Soc. B 63 (2001) 425, doi:10.1111/1467-9868.00294.
Score test of a variance component: Lin, X., Biometrika 84 (1997) 309, doi:10.1093/biomet/84.2.309; its distribution:
Satterthwaite, F. E., Biom. Bull. 2 (1946) 110. Estimation: Dempster, A. P., et al., J. R. Stat. Soc. B 39 (1977) 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

FloatArray = npt.NDArray[np.float64]

# Probability that a model that fits gets a discrepancy anywhere.
FALSE_USE = 0.01
# Directions with less information than this, relative to the largest, tell nothing but rounding.
UNINFORMED = 1e-10
ITERATIONS = 40
SETTLED = 1e-3


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

    @property
    def information(self) -> FloatArray:
        """A, made positive where rounding left it negative, (hat, hat)."""
        fitted = self.known - self.cross.T @ self.covariance @ self.cross
        values, vectors = np.linalg.eigh(0.5 * (fitted + fitted.T))
        return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T)

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


def learn(at: Linearised, pieces: list[FloatArray], false_use: float = FALSE_USE) -> Discrepancy | None:
    """Learn the amplitudes of the pieces of the discrepancy from the residuals.

    Parameters
    ----------
    at : Linearised
    pieces : list of (hat, rank)
        Roots F_r of the covariances psi_r R psi_r = F_r F_r'.
    false_use : float
        Probability that a model that fits gets any piece.

    Returns
    -------
    Discrepancy, or None where chance explains the residuals.
    """
    values, vectors = np.linalg.eigh(at.information)
    kept = values > UNINFORMED * values[-1]
    root = np.sqrt(values[kept])
    # e in units of its noise, and what each piece adds to it.
    whitened = (vectors[:, kept].T @ at.residual) / root
    carried = [(piece.T @ vectors[:, kept] * root).T for piece in pieces]
    chosen: list[int] = []
    variance = np.zeros(0)
    while len(chosen) < len(pieces):
        inverse = np.linalg.inv(_total(carried, chosen, variance))
        chance = [1.0 if r in chosen else _chance(inverse, whitened, carried[r]) for r in range(len(pieces))]
        best = int(np.argmin(chance))
        if chance[best] > false_use / len(pieces):
            break
        chosen.append(best)
        variance = _most_probable(whitened, carried, chosen, np.append(variance, np.nan))
    if not chosen:
        return None
    amplitude = np.zeros(len(pieces))
    amplitude[chosen] = np.sqrt(variance)
    # a = F u, u ~ Normal(0, 1): B by what e leaves of u.
    prior = np.concatenate([pieces[r] * amplitude[r] for r in chosen], axis=1)
    curvature = np.eye(prior.shape[1]) + prior.T @ at.information @ prior
    left = prior @ np.linalg.inv(np.linalg.cholesky(curvature)).T
    return Discrepancy(
        amplitude=amplitude,
        mean=left @ (left.T @ at.residual),
        root=left,
        prior_sd=np.sqrt((prior**2).sum(axis=1)),
    )


def _total(carried: list[FloatArray], chosen: list[int], variance: FloatArray) -> FloatArray:
    """Covariance of the whitened residuals."""
    total = np.eye(len(carried[0]))
    for r, t in zip(chosen, variance.tolist(), strict=True):
        total += t * carried[r] @ carried[r].T
    return total


def _chance(inverse: FloatArray, whitened: FloatArray, piece: FloatArray) -> float:
    """Probability that the score of a piece is as large by chance."""
    score = float(((piece.T @ inverse @ whitened) ** 2).sum())
    expected = piece.T @ inverse @ piece
    mean, spread = float(np.trace(expected)), 2.0 * float((expected**2).sum())
    if spread <= 0.0:
        return 1.0
    scale, freedom = spread / (2.0 * mean), 2.0 * mean**2 / spread
    return float(chi2.sf(score / scale, freedom))


def _most_probable(
    whitened: FloatArray, carried: list[FloatArray], chosen: list[int], variance: FloatArray
) -> FloatArray:
    """Most probable amplitudes squared of the chosen pieces, by fixed-point iteration; a new one has none yet."""
    found = variance.copy()
    for place in np.flatnonzero(np.isnan(variance)):
        # Where score and expectation meet if the piece were alone.
        piece = carried[chosen[place]]
        expected = piece.T @ piece
        excess = float(((piece.T @ whitened) ** 2).sum()) - float(np.trace(expected))
        found[place] = max(excess, 0.0) / float((expected**2).sum()) + 1e-12
    for _ in range(ITERATIONS):
        inverse = np.linalg.inv(_total(carried, chosen, found))
        before = found.copy()
        for place, r in enumerate(chosen):
            along = inverse @ carried[r]
            score = float(((along.T @ whitened) ** 2).sum())
            found[place] *= np.sqrt(score / max(float((along * carried[r]).sum()), 1e-300))
        if np.abs(np.log(found / before)).max() < SETTLED:
            break
    return found
