"""Neighbourhood-dependent mixture weights: what the pixels around one say of it before its own counts are looked at.

The prior probability that pixel p sits at atom j is a mixture of what the whole map says, pi, and of what windows of
neighbours say,

    w_pj = lambda_0 pi_j + sum_m lambda_m D_mpj,     D_mpj ∝ pi_j prod_{q != p} L_qj^(t_m exp(-d_pq^2 / 2 sigma_m^2))

L_qj being the likelihood of neighbour q's counts at atom j and d_pq its distance in pixels. A window pools its
neighbours' counts, the nearer ones more; t_m < 1 says that neighbours are alike, not equal. The pixel's own counts
are in none of its windows, so nothing is used twice and intervals stay honest. The shares lambda are those that
predict every pixel best from its neighbours,

    sum_p log sum_j w_pj L_pj   ->   largest,

a pseudo-likelihood (Besag, J., J. R. Stat. Soc. D 24 (1975) 179, doi:10.2307/2987782) whose EM steps need only the
evidence of each pixel under each window. Where neighbours say nothing about each other lambda_0 takes it all, and
the weights are those of the uncoupled mixture. Endmembers are fixed here: compositions cannot be biased.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Windows: radius sigma in pixels and trust t in a neighbour's counts.
WINDOWS = tuple((radius, trust) for radius in (0.6, 0.9, 1.4, 2.2, 3.5) for trust in (1.0, 0.4, 0.15))
EM_STEPS = 300


def neighbour_weights(
    log_likelihood: Float32Array, weights: FloatArray, shape: tuple[int, int]
) -> tuple[Float32Array, FloatArray]:
    """Weights of the atoms in each pixel, from its neighbours.

    Parameters
    ----------
    log_likelihood : (pixel, atom)
        Of each pixel's counts, up to a constant per pixel.
    weights : (atom,)
        Weights over the whole map, pi.
    shape
        Pixels along y and x; pixels run along the rows.

    Returns
    -------
    (pixel, atom) weights, rows summing to 1; and (window + 1,) the shares lambda, that of the whole map first.
    """
    own = (log_likelihood - log_likelihood.max(axis=1, keepdims=True)).astype(np.float32)
    likelihood = np.exp(own)
    log_pi = np.log(np.maximum(weights, 1e-30)).astype(np.float32)
    evidence = np.stack(
        [
            likelihood @ weights.astype(np.float32),
            *((_window(own, log_pi, shape, *window) * likelihood).sum(axis=1) for window in WINDOWS),
        ],
        axis=1,
    )
    shares = window_shares(evidence.astype(np.float64))
    combined = np.broadcast_to((shares[0] * weights).astype(np.float32), own.shape).copy()
    for share, window in zip(shares[1:], WINDOWS, strict=True):
        if share > 1e-4:
            combined += np.float32(share) * _window(own, log_pi, shape, *window)
    combined /= combined.sum(axis=1, keepdims=True)
    return combined, shares


def window_shares(evidence: FloatArray) -> FloatArray:
    """Shares that make sum_p log sum_m lambda_m evidence_pm largest, by EM, shape (window,)."""
    scaled = evidence / np.maximum(evidence.max(axis=1, keepdims=True), 1e-300)
    shares = np.full(scaled.shape[1], 1.0 / scaled.shape[1])
    for _ in range(EM_STEPS):
        shares = shares * (scaled.T @ (1.0 / (scaled @ shares))) / len(scaled)
    return np.asarray(shares / shares.sum())


def _window(
    own: Float32Array, log_pi: Float32Array, shape: tuple[int, int], radius: float, trust: float
) -> Float32Array:
    """Distribution D over the atoms that one window of neighbours gives each pixel, (pixel, atom)."""
    centre = _centre_weight(radius)
    field = own.reshape(*shape, -1)
    # Outside the map there is nothing: pixels at its edge have fewer neighbours and learn less from them.
    pooled = gaussian_filter(field, (radius, radius, 0.0), mode="constant", truncate=3.0).reshape(own.shape)
    joint = log_pi + np.float32(trust) * (pooled / np.float32(centre) - own)
    joint -= joint.max(axis=1, keepdims=True)
    np.exp(joint, out=joint)
    joint /= joint.sum(axis=1, keepdims=True)
    return np.asarray(joint, np.float32)


def _centre_weight(radius: float) -> float:
    """Weight of the centre in the normalised window."""
    reach = int(3.0 * radius + 0.5)
    profile = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    return float(1.0 / profile.sum() ** 2)
