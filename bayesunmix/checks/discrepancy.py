"""Misfit in the interval: draws moved by a discrepancy whose size the residuals show, region by region.

Where the spectrum is not what the model makes of it, the numbers that lean on those energies are less certain than
counting says. `bayesunmix.inference.discrepancy` learns a smooth relative error of all endmembers from the residuals of
the map's blocks, and moves the draws as the joint posterior of model and error has it. With m_a the spectra at the
support points, r_ba the responsibilities and n_b the counts y_b of a block, the log-likelihood of a relative error
d = Phi a is, normalised,

    sum_b log sum_a w_a exp( y_b . (log m_a + d) - n_b log(1 + m_a . d) )

    e_j   = sum_b (y_b - E y_b) . phi_j,           q_aj = m_a . phi_j
    K_jk  = sum_ba r_ba n_b (m_a . (phi_j phi_k) - q_aj q_ak) - sum_b n_b^2 Cov_r(q_aj, q_ak)
    G_zj  = sum_ba r_ba n_b phi_j m_a . d log m_a / dz + sum_b n_b Cov_r(q_aj, y_b . d log m_a / dz)

Hats phi_j are half a width (FWHM) of the detector apart. Pieces are two widths long with a correlation of half a width,
for errors of line shapes, and eight with one of three widths, for those of the continuum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri_exp

from bayesunmix.checks.robust import TILES_TOGETHER, Tiles, pulled_back
from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.preparation import Setup
from bayesunmix.inference.discrepancy import Discrepancy, Linearised, learn
from bayesunmix.inference.laplace import SMALLEST, TruncatedGaussian, softplus_slope, truncated_gaussian
from bayesunmix.inference.mixture import relative_likelihood, responsibilities
from bayesunmix.models.thickness import counted

FloatArray = npt.NDArray[np.float64]

# Distance of the hats in widths of the detector.
HAT_FWHM = 0.5
# Length of the pieces (sd of a bump), their distance, and correlation length, in widths of the detector.
PIECES = ((1.0, 1.5, 0.5), (4.0, 6.0, 3.0))
# Blocks that tell how abundances follow a discrepancy; more only cost time.
MOST_BLOCKS = 2000
# Eigenvalues of a piece that are kept, relative to its largest.
NEGLIGIBLE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Hats:
    """Hats along the axis and the pieces that amplitudes are learned for.

    Attributes
    ----------
    values : (hat, bin)
        Add up to 1.
    energy_keV : (hat,)
    pieces : tuple of (hat, rank)
        Roots of the covariances of the pieces.
    """

    values: FloatArray
    energy_keV: FloatArray
    pieces: tuple[FloatArray, ...]

    @classmethod
    def of(cls, setup: Setup) -> Hats:
        """Lay hats over the fitted bins."""
        edges = setup.blocks.edges_keV
        fwhm = np.asarray(setup.forward.response.fwhm_keV(np.maximum(0.5 * (edges[1:] + edges[:-1]), 0.0)))
        along = np.concatenate([[0.0], np.cumsum(np.diff(edges) / fwhm)])
        number = max(int(np.ceil(along[-1] / HAT_FWHM)), 2)
        places = np.linspace(0.0, along[-1], number)
        centre = 0.5 * (along[1:] + along[:-1])
        step = places[1] - places[0]
        values = np.maximum(1.0 - np.abs(centre - places[:, None]) / step, 0.0)
        pieces = []
        for length, distance, correlation in PIECES:
            for middle in np.arange(0.0, along[-1] + 0.5 * distance, distance):
                bump = np.exp(-0.5 * ((places - middle) / length) ** 2)
                prior = np.exp(-0.5 * ((places[:, None] - places) / correlation) ** 2)
                variance, vectors = np.linalg.eigh(prior * np.outer(bump, bump))
                kept = variance > NEGLIGIBLE * variance[-1]
                pieces.append(vectors[:, kept] * np.sqrt(variance[kept]))
        return cls(values=values, energy_keV=np.interp(places, along, edges), pieces=tuple(pieces))


def linearised(setup: Setup, fitted: FittedPosterior, hats: Hats, target: TruncatedGaussian) -> Linearised:
    """Describe model and residuals around the mode."""
    counts = setup.blocks.counts.astype(np.float32)
    tiles = Tiles.of(fitted, counts, setup.thickness.blocks, np.zeros(len(counts), np.int64))
    totals = counts.sum(axis=1, dtype=np.float64)
    rows = counted(counts, setup.thickness.blocks, fitted.data.effect)
    share = responsibilities(relative_likelihood(rows, tiles.log_mixed), tiles.everywhere)
    phi, mixed = hats.values, tiles.mixed
    q = mixed @ phi.T
    at_point = totals @ share
    known = (phi * (at_point @ mixed)) @ phi.T - (q.T * at_point) @ q
    mean_q = share @ q
    known -= (q.T * (totals**2 @ share)) @ q - (mean_q.T * totals**2) @ mean_q
    step = max(1, -(-len(counts) // MOST_BLOCKS))
    scale = float(totals.sum() / totals[::step].sum())
    part, some, mean_q = share[::step], rows[::step], mean_q[::step]
    weighted = part * totals[::step, None]
    n_energy = mixed.shape[1]
    lines, xi = fitted.model.places["line_units"], fitted.model.places["abundance_xi"]
    cross = np.empty((len(fitted.estimate.z), len(phi)))
    for first in range(0, len(phi), TILES_TOGETHER):
        hat = slice(first, min(first + TILES_TOGETHER, len(phi)))
        slopes = np.empty((hat.stop - hat.start, *tiles.log_mixed.shape))
        shifted = np.empty((hat.stop - hat.start, len(q)))
        for number, j in enumerate(range(hat.start, hat.stop)):
            away = (weighted * (q[:, j] - mean_q[:, j, None])).astype(np.float32)
            slopes[number] = scale * (away.T @ some)
            slopes[number, :, :n_energy] += at_point[:, None] * mixed * phi[j]
            shifted[number] = scale * away.sum(axis=0, dtype=np.float64)
        back = pulled_back(fitted, slopes)
        back[:, xi] += shifted @ fitted.data.prior.factor
        cross[:, hat] = back.T
    slope = np.ones(len(cross))
    slope[lines] = softplus_slope(fitted.estimate.z[lines])
    residual = phi @ (counts.sum(axis=0, dtype=np.float64) - tiles.expected.sum(axis=0))
    return Linearised(
        residual=residual, known=known, cross=cross / slope[:, None], covariance=target.covariance
    )


def moved(
    z: FloatArray,
    target: TruncatedGaussian,
    at: Linearised,
    discrepancy: Discrepancy,
    positive: slice,
    generator: np.random.Generator,
) -> FloatArray:
    """Move draws by draws of the discrepancy, positive coordinates by their scores as truncated normals.

    Parameters
    ----------
    z : (chain, draw, dim)
        Unconstrained draws.
    target : TruncatedGaussian
        Posterior of the model alone.
    at, discrepancy
        From `linearised` and `learn`.
    positive : slice
        Coordinates that are softplus of z, and stay positive.
    generator : Generator
    """
    y = z.reshape(-1, z.shape[-1]).copy()
    shift = -at.response @ discrepancy.mean
    spread = -at.response @ discrepancy.root
    change = generator.standard_normal((len(y), spread.shape[1])) @ spread.T
    sd = np.sqrt(np.diag(target.covariance))
    wider = np.sqrt(sd**2 + (spread**2).sum(axis=1))
    rest = np.ones(len(sd), bool)
    rest[positive] = False
    y[:, rest] += shift[rest] + change[:, rest]
    mean, sd, wider, change = target.mean[positive], sd[positive], wider[positive], change[:, positive]
    weights = np.logaddexp(0.0, y[:, positive])
    scores = -ndtri_exp(np.minimum(log_ndtr((mean - weights) / sd) - log_ndtr(mean / sd), -1e-300))
    scores = (sd * scores + change) / wider
    mean = mean + shift[positive]
    weights = mean - wider * ndtri_exp(np.minimum(log_ndtr(-scores) + log_ndtr(mean / wider), -1e-300))
    inside = np.maximum(weights, SMALLEST)
    y[:, positive] = inside + np.log(-np.expm1(-inside))
    return y.reshape(z.shape)
