"""Neighbourhood-dependent mixture weights: what the pixels around one say of it before its own counts are looked at.

The prior probability that pixel p sits at support point j is a mixture of what the whole map says, pi, and of what
windows of neighbours say,

    w_pj = lambda_0 pi_j + sum_m lambda_m D_mpj,     D_mpj ∝ pi_j prod_{q != p} L_qj^(t_m exp(-d_pq^2 / 2 sigma_m^2))

L_qj being the likelihood of neighbour q's counts at support point j and d_pq its distance in pixels. A window pools its
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

# Windows: radius sigma in pixels, and for each of them several trusts t in a neighbour's counts.
RADII = (0.6, 0.9, 1.4, 2.2, 3.5)
TRUSTS = (1.0, 0.4, 0.15)
# Neighbours further away than so many radii are not heard.
REACH = 3.0
EM_STEPS = 300
# Windows and support points with less than this share of the prior are left out: together they move no pixel.
LEAST_SHARE = 1e-4
LEAST_WEIGHT = 1e-7


def neighbour_weights(
    log_likelihood: Float32Array, weights: FloatArray, place: npt.NDArray[np.bool_]
) -> tuple[Float32Array, FloatArray]:
    """Weights of the support points in each pixel, from its neighbours.

    Parameters
    ----------
    log_likelihood : (pixel, support_point)
        Of each pixel's counts, up to a constant per pixel.
    weights : (support_point,)
        Weights over the whole map, pi.
    place : (y, x) bool
        Where on the map the pixels lie, which run along the rows.

    Returns
    -------
    (pixel, support_point) weights, rows summing to 1; and (window + 1,) the shares lambda, that of the whole map first.
    """
    used = weights > LEAST_WEIGHT
    own = log_likelihood[:, used]
    own = np.ascontiguousarray(own - own.max(axis=1, keepdims=True), np.float32)
    pi = (weights[used] / weights[used].sum()).astype(np.float32)
    likelihood = np.exp(own)
    evidence = [likelihood @ pi]
    for radius in RADII:
        pooled = _pooled(own, place, radius)
        evidence += [np.einsum("pj,pj->p", _window(pooled, pi, trust), likelihood) for trust in TRUSTS]
    del likelihood
    shares = window_shares(np.stack(evidence, axis=1).astype(np.float64))
    combined = np.tile(np.float32(shares[0]) * pi, (len(own), 1))
    for radius, of_radius in zip(RADII, shares[1:].reshape(len(RADII), -1), strict=True):
        heard = of_radius > LEAST_SHARE
        if heard.any():
            pooled = _pooled(own, place, radius)
            for share, trust in zip(of_radius[heard], np.array(TRUSTS)[heard], strict=True):
                combined += np.float32(share) * _window(pooled, pi, float(trust))
    found = np.zeros(log_likelihood.shape, np.float32)
    found[:, used] = combined / combined.sum(axis=1, keepdims=True)
    return found, shares


def window_shares(evidence: FloatArray) -> FloatArray:
    """Shares that make sum_p log sum_m lambda_m evidence_pm largest, by EM, shape (window,)."""
    scaled = evidence / np.maximum(evidence.max(axis=1, keepdims=True), 1e-300)
    shares = np.full(scaled.shape[1], 1.0 / scaled.shape[1])
    for _ in range(EM_STEPS):
        shares = shares * (scaled.T @ (1.0 / (scaled @ shares))) / len(scaled)
    return np.asarray(shares / shares.sum())


def _pooled(own: Float32Array, place: npt.NDArray[np.bool_], radius: float) -> Float32Array:
    """Weighted sum of the neighbours' log-likelihoods, the pixel's own left out, (pixel, support_point)."""
    field = np.zeros((*place.shape, own.shape[1]), np.float32)
    field[place] = own
    # Outside the map, and where a pixel is left out, there is nothing: a pixel there learns less from its neighbours.
    pooled = gaussian_filter(field, (radius, radius, 0.0), mode="constant", truncate=REACH)[place]
    return np.asarray(pooled / np.float32(_centre_weight(radius)) - own)


def _window(pooled: Float32Array, pi: Float32Array, trust: float) -> Float32Array:
    """Distribution D over the support points that one window of neighbours gives each pixel, (pixel, support_point)."""
    joint = np.float32(trust) * pooled + np.log(pi)
    joint -= joint.max(axis=1, keepdims=True)
    np.exp(joint, out=joint)
    joint /= joint.sum(axis=1, keepdims=True)
    return np.asarray(joint, np.float32)


def _centre_weight(radius: float) -> float:
    """Weight of the centre in the normalised window."""
    reach = int(REACH * radius + 0.5)
    profile = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    return float(1.0 / profile.sum() ** 2)
