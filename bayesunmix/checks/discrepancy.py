"""Misfit in the interval: draws moved by a discrepancy whose size the residuals show, region by region.

Where the spectrum is not what the model makes of it, the numbers that rest on those energies are less certain than
counting says. `bayesunmix.inference.discrepancy` learns a smooth relative error of all endmembers from the residuals of
the map's blocks, and moves the draws as the joint posterior of model and error has it. With m_a the spectra at the
support points, r_ba the responsibilities and n_b the counts y_b of a block, the log-likelihood of a relative error
d = Phi a is, normalised,

    sum_b log sum_a w_a exp( y_b . (log m_a + d) - n_b log(1 + m_a . d) )

    e_j   = sum_b (y_b - E y_b) . phi_j,           q_aj = m_a . phi_j
    K_jk  = sum_ba r_ba n_b (m_a . (phi_j phi_k) - q_aj q_ak) - sum_b n_b^2 Cov_r(q_aj, q_ak)
    G_zj  = sum_ba r_ba n_b phi_j m_a . d log m_a / dz + sum_b n_b Cov_r(q_aj, y_b . d log m_a / dz)

Hats phi_j are half a width (FWHM) of the detector apart. Pieces are four widths long and independent from hat to hat,
for errors of line shapes, and sixteen with a correlation of three widths, for those of the continuum.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr, ndtri_exp

from bayesunmix.checks.local_posterior import basis_at
from bayesunmix.checks.outcomes import DiscrepancyEffect, DiscrepancyRegion, SpectralDiscrepancy
from bayesunmix.checks.robust import TILES_TOGETHER, Robust, Tiles, pulled_back
from bayesunmix.core.shares import ratio_of
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.draws import Draws, read_draws
from bayesunmix.fit.model_data import nominal_fractions, weights_at
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import Setup
from bayesunmix.inference.discrepancy import Discrepancy, Linearised, learn
from bayesunmix.inference.laplace import SMALLEST, TruncatedGaussian, softplus_slope, truncated_gaussian
from bayesunmix.inference.mixture import relative_likelihood, responsibilities
from bayesunmix.models.thickness import counted

FloatArray = npt.NDArray[np.float64]

# Distance of the hats in widths of the detector.
HAT_FWHM = 0.5
# Distance of the pieces, which reach to the next one on either side, and correlation length, in widths of the detector.
PIECES = ((8.0, 3.0), (2.0, 0.0))
# Blocks that tell how abundances follow a discrepancy; more only cost time.
MOST_BLOCKS = 2000
# What has a standard normal prior is moved no farther than this from 0.
FARTHEST = 8.0
# Eigenvalues of a piece that are kept, relative to its largest.
NEGLIGIBLE = 1e-3
# A smaller error of the spectra, in per cent, is not told.
NOTHING_PER_CENT = 0.01


@dataclass(frozen=True, kw_only=True)
class Hats:
    """Hats along the axis.

    Attributes
    ----------
    values : (hat, bin)
        Add up to 1 but for the ends of the axis.
    energy_keV : (hat,)
    places : (hat,)
        In widths of the detector from the beginning of the axis.
    """

    values: FloatArray
    energy_keV: FloatArray
    places: FloatArray

    @classmethod
    def of(cls, setup: Setup) -> Hats:
        """Lay hats over the fitted bins, but for the outermost two: what lies there comes from beyond the axis, too."""
        edges = setup.blocks.edges_keV
        fwhm = np.asarray(setup.forward.response.fwhm_keV(np.maximum(0.5 * (edges[1:] + edges[:-1]), 0.0)))
        along = np.concatenate([[0.0], np.cumsum(np.diff(edges) / fwhm)])
        places = np.linspace(0.0, along[-1], max(int(np.ceil(along[-1] / HAT_FWHM)), 3))
        centre = 0.5 * (along[1:] + along[:-1])
        values = np.maximum(1.0 - np.abs(centre - places[:, None]) / (places[1] - places[0]), 0.0)
        inner = slice(1, -1)
        return cls(
            values=values[inner], energy_keV=np.interp(places, along, edges)[inner], places=places[inner]
        )

    def pieces(self, counts: FloatArray, continuum: FloatArray) -> list[list[FloatArray]]:
        """Roots of the covariances of the pieces, each (hat, rank), of the continuum and of line shapes.

        Parameters
        ----------
        counts, continuum : (bin,)
            Expected counts of the sum spectrum, and those of the continuum among them.
        """
        held = np.maximum(self.values @ counts, 1.0)
        # A continuum is off by a share of itself, line shapes by so many sds of the noise.
        scales = (self.values @ continuum) / held, held**-0.5
        families = []
        for (distance, correlation), scale in zip(PIECES, scales, strict=True):
            found = []
            away = self.places[:, None] - self.places
            prior = np.exp(-0.5 * (away / correlation) ** 2) if correlation else np.eye(len(away))
            for middle in np.arange(0.0, self.places[-1] + 0.5 * distance, distance):
                # The variances of neighbours add up to that of either.
                bump = scale * np.sqrt(np.maximum(1.0 - np.abs(self.places - middle) / distance, 0.0))
                variance, vectors = np.linalg.eigh(prior * np.outer(bump, bump))
                kept = variance > NEGLIGIBLE * variance[-1]
                found.append(vectors[:, kept] * np.sqrt(variance[kept]))
            families.append(found)
        return families


def continuum_counts(fitted: FittedPosterior, amounts: FloatArray) -> FloatArray:
    """Return the counts of the continuum in the sum spectrum at the mode, (bin,).

    Parameters
    ----------
    fitted : FittedPosterior
    amounts : (phase,)
        Counts of each phase.
    """
    data, latents = fitted.data, fitted.model.constrain(fitted.estimate.z)
    basis, weights = basis_at(data, latents), weights_at(data, latents)
    lines = (weights[:, basis.family_owner] * basis.family_ratio).sum(axis=1)
    pieces = weights[:, -1:] * basis.continuum_area
    spectra = np.einsum("kb,kbc->kc", pieces, basis.continuum_templates)
    return np.asarray(ratio_of(amounts, lines + weights[:, -1]) @ spectra)


@dataclass(frozen=True, kw_only=True)
class Moved:
    """Draws moved by a discrepancy.

    Attributes
    ----------
    drawn : Drawn
    found : Discrepancy
    hats : Hats
        What it is of.
    """

    drawn: Drawn
    found: Discrepancy
    hats: Hats


def with_discrepancy(setup: Setup, fitted: FittedPosterior, robust: Robust, seed: int) -> Robust:
    """Move the draws by what the residuals show of errors of the spectra, where they show any.

    Parameters
    ----------
    setup, fitted
        Of the run.
    robust : Robust
        The draws so far.
    seed : int
    """
    before = robust.drawn
    if before.z is None:
        return robust
    there = moved_draws(setup, fitted, before, seed)
    if there is None:
        return replace(robust, discrepancy=SpectralDiscrepancy())
    return replace(
        robust,
        drawn=there.drawn,
        model=before.draws if robust.model is None else robust.model,
        without_misfit=before.draws,
        discrepancy=SpectralDiscrepancy(
            regions=regions_of(there.found, there.hats),
            quantities=_effects(setup, fitted, before.draws, there.drawn.draws),
        ),
    )


def moved_draws(setup: Setup, fitted: FittedPosterior, drawn: Drawn, seed: int) -> Moved | None:
    """Learn the discrepancy at a mode and move its draws; None where chance explains the residuals."""
    positive = fitted.model.places["line_units"]
    if drawn.z is None or positive.start == positive.stop:
        return None
    target = truncated_gaussian(fitted.estimate.z, fitted.estimate.hessian, positive)
    with single_thread():
        hats = Hats.of(setup)
        around = around_mode(setup, fitted, hats, target)
        found = learn(around.linearised, hats.pieces(around.expected, around.continuum))
        if found is None:
            return None
        generator = np.random.default_rng([seed, 43])
        z = moved(drawn.z, target, around.linearised, found, positive, generator)
    return Moved(drawn=replace(drawn, draws=read_draws(fitted, z), z=z), found=found, hats=hats)


def regions_of(found: Discrepancy, hats: Hats) -> tuple[DiscrepancyRegion, ...]:
    """Stretches of the axis in which the discrepancy has an amplitude."""
    inside = np.flatnonzero(found.prior_sd > NOTHING_PER_CENT * 0.01)
    runs = np.split(inside, np.flatnonzero(np.diff(inside) > 1) + 1) if inside.size else []
    return tuple(
        DiscrepancyRegion(
            low_keV=float(hats.energy_keV[run[0]]),
            high_keV=float(hats.energy_keV[run[-1]]),
            percent=float(100.0 * found.prior_sd[run].max()),
        )
        for run in runs
    )


def _effects(
    setup: Setup, fitted: FittedPosterior, before: Draws, after: Draws
) -> tuple[DiscrepancyEffect, ...]:
    """How much wider every atom fraction is, and by how much it moves."""
    own, other = (
        nominal_fractions(draws.weights, np.asarray(fitted.data.yields)).reshape(
            -1, *fitted.atom_fractions.shape
        )
        for draws in (before, after)
    )
    sd = own.std(axis=0)
    ratio, shift = ratio_of(other.std(axis=0), sd), ratio_of(other.mean(axis=0) - own.mean(axis=0), sd)
    return tuple(
        DiscrepancyEffect(
            phase=phase.name, element=element, sd_ratio=float(ratio[k, e]), shift=float(shift[k, e])
        )
        for k, phase in enumerate(setup.phases)
        for e, element in enumerate(setup.forward.elements)
        if sd[k, e] > 0.0
    )


@dataclass(frozen=True, kw_only=True)
class Around:
    """The model around its mode, with what it expects there.

    Attributes
    ----------
    linearised : Linearised
    expected, continuum : (bin,)
        Expected counts of the sum spectrum, and those of the continuum among them.
    """

    linearised: Linearised
    expected: FloatArray
    continuum: FloatArray


def around_mode(setup: Setup, fitted: FittedPosterior, hats: Hats, target: TruncatedGaussian) -> Around:
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
    mean = (share @ mixed) * tiles.tilt(share)
    expected = ratio_of(totals, mean.sum(axis=1)) @ mean
    residual = phi @ (counts.sum(axis=0, dtype=np.float64) - expected)
    found = Linearised(
        residual=residual, known=known, cross=cross / slope[:, None], covariance=target.covariance
    )
    amounts = at_point @ np.asarray(fitted.data.prior.support_points)
    return Around(linearised=found, expected=expected, continuum=continuum_counts(fitted, amounts))


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
        From `around_mode` and `learn`.
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
    # Residuals beyond all reason would move what has a standard normal prior to where exponentials overflow.
    limit = np.maximum(np.abs(y[:, rest]), FARTHEST)
    y[:, rest] = np.clip(y[:, rest] + shift[rest] + change[:, rest], -limit, limit)
    mean, sd, wider, change = target.mean[positive], sd[positive], wider[positive], change[:, positive]
    weights = np.logaddexp(0.0, y[:, positive])
    scores = -ndtri_exp(np.minimum(log_ndtr((mean - weights) / sd) - log_ndtr(mean / sd), -1e-300))
    scores = (sd * scores + change) / wider
    mean = mean + shift[positive]
    weights = mean - wider * ndtri_exp(np.minimum(log_ndtr(-scores) + log_ndtr(mean / wider), -1e-300))
    inside = np.maximum(weights, SMALLEST)
    y[:, positive] = inside + np.log(-np.expm1(-inside))
    return y.reshape(z.shape)
