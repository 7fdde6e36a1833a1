"""Whitening of a descent: the information that the blocks would hold if each told at which support point it is.

    H0 = sum_j n_j sum_c ds_jc ds_jc' / m_jc  +  n L' (diag(pi) - pi pi') L  +  prior,      W W' = H0^-1

with n_j expected counts at support point j, m_j its spectrum and ds_j the slopes of that in the parameters of lines and
continuum; the second part is the support points'. This information of the complete data exceeds the true curvature by
what the blocks leave open (Louis, T. A., J. R. Stat. Soc. B 44 (1982) 226), but costs a few matrix products, is
positive everywhere, and holds all that makes parameters of different size: in its coordinates L-BFGS needs a tenth of
the steps.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from scipy.linalg import solve_triangular

from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.inference.compilation import Program
from bayesunmix.inference.density import FlatModel
from bayesunmix.models.abundance import AbundancePrior
from bayesunmix.models.padding import padded, padded_latents, without_pixels
from bayesunmix.models.unmixing import (
    GAUGE_SD,
    Latents,
    UnmixingData,
    component_weights,
    latent_shapes,
    spectra,
)

FloatArray = npt.NDArray[np.float64]

# Latents of the spectra, in the order of the flat vector.
SPECTRAL = ("continuum_by_phase", "continuum_shared", "family_log_ratio", "line_units", "response")
# Curvature of a weight's unconstrained value where nothing but its positivity is known.
POSITIVE = 0.25


def whitening_at(
    model: FlatModel, data: UnmixingData, latents: Latents, n_blocks: float, n_counts: float
) -> FloatArray:
    """Whitening of the flat vector around some latents, (dim, dim).

    Parameters
    ----------
    model : FlatModel
    data : UnmixingData
    latents : latents
    n_blocks, n_counts : float
        Blocks that the data hold, and all their counts.
    """
    own_spectra, slopes, total_slopes = _own_slopes(data, latents)
    weights = shares_of(np.exp(_log_odds(data.prior, np.asarray(latents["abundance_xi"]))))
    # The flat vector holds weights on the whole axis.
    places = np.concatenate([np.arange(model.size)[model.places[name]] for name in SPECTRAL])
    units = model.places["line_units"]
    chain = np.ones(model.size)
    chain[units] = -np.expm1(-np.asarray(latents["line_units"]))
    slopes, total_slopes = slopes * chain[places], total_slopes * chain[places]
    curvature = np.eye(model.size)
    curvature[units, units] *= POSITIVE
    points = np.asarray(data.prior.support_points)
    curvature[np.ix_(places, places)] += (
        _spectral_information(points, n_counts * weights, own_spectra, slopes)
        + total_slopes.T @ total_slopes / GAUGE_SD**2
    )
    factor, odds = np.asarray(data.prior.factor), model.places["abundance_xi"]
    curvature[odds, odds] += n_blocks * (
        (factor.T * weights) @ factor - np.outer(weights @ factor, weights @ factor)
    )
    root = np.linalg.cholesky(curvature)
    return np.asarray(solve_triangular(root, np.eye(model.size), lower=True).T)


def _own_slopes(data: UnmixingData, latents: Latents) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Spectra (phase, energy), and their slopes and those of each phase's log total weight in `SPECTRAL`."""
    light = padded(without_pixels(data))
    found = _spectra_and_slopes(light, padded_latents(latents, latent_shapes(light)))
    n_channels, shapes = data.basis.family_templates.shape[2], latent_shapes(data)

    def in_order(slopes: dict[str, jax.Array], before: int) -> FloatArray:
        own = []
        for name in SPECTRAL:
            slope = np.asarray(slopes[name])
            every = [slice(None)] * before
            kept = slope[tuple(every + [slice(0, size) for size in shapes[name]])]
            own.append(kept.reshape(*slope.shape[:before], -1))
        return np.concatenate(own, axis=-1)

    spectra_, (slopes, total_slopes) = found
    return (
        np.asarray(spectra_)[:, :n_channels],
        in_order(slopes, 2)[:, :n_channels],
        in_order(total_slopes, 1),
    )


def _with_slopes(data: UnmixingData, latents: Latents) -> tuple[jax.Array, Any]:
    """Spectra, and the slopes of them and of each phase's log total weight in the latents of `SPECTRAL`."""

    def quantities(own: Latents) -> tuple[jax.Array, jax.Array]:
        every = {**latents, **own}
        return spectra(data, every), jnp.log(component_weights(data, every).sum(axis=1))

    own = {name: latents[name] for name in SPECTRAL}
    return spectra(data, latents), jax.jacfwd(quantities)(own)


_spectra_and_slopes = Program(_with_slopes)


def _log_odds(prior: AbundancePrior, xi: FloatArray) -> FloatArray:
    """Log-odds of the support points, the largest 0, (support_point,)."""
    odds = np.asarray(prior.mean) + np.asarray(prior.factor) @ xi
    return np.asarray(odds - odds.max())


def _spectral_information(
    points: FloatArray, counts: FloatArray, spectra_: FloatArray, slopes: FloatArray
) -> FloatArray:
    """Fisher information about the parameters of the spectra, were abundances known, (parameter, parameter).

    Parameters
    ----------
    points : (support_point, phase)
    counts : (support_point,)
        Counts of the blocks at each support point.
    spectra_ : (phase, energy)
    slopes : (phase, energy, parameter)
    """
    inverse = ratio_of(1.0, points @ spectra_)
    pairs = (counts[:, None, None] * points[:, :, None] * points[:, None, :]).reshape(len(points), -1)
    shared = (pairs.T @ inverse).reshape(len(spectra_), len(spectra_), -1)
    # Matrix products, one for each channel: (phase, phase) on (phase, parameter).
    weighted = np.matmul(shared.transpose(2, 0, 1), slopes.transpose(1, 0, 2)).transpose(1, 0, 2)
    n = slopes.shape[2]
    return np.asarray(slopes.reshape(-1, n).T @ weighted.reshape(-1, n))
