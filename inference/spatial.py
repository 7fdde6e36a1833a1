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

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from bayesunmix.inference.mixture import exponentials

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

# Windows: radius sigma in pixels, and for each of them several trusts t in a neighbour's counts.
RADII = (0.6, 0.9, 1.4, 2.2, 3.5)
TRUSTS = (1.0, 0.4, 0.15)
# Neighbours further away than so many radii are not heard.
REACH = 3.0
EM_STEPS = 300
# The shares of the windows are learned from at most so many pixels, evenly spaced.
MOST_EVIDENCE = 1_000_000
# Bands of rows hold about so many pixels, besides the neighbours of these.
BAND_PIXELS = 65_536
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
    near = Neighbourhood.learned(lambda pixels: log_likelihood[pixels], weights, place)
    return np.concatenate([near.weights(rows) for rows in near.bands()]), near.shares


@dataclass(frozen=True, eq=False)
class Neighbourhood:
    """What pixels learn from their neighbours, band by band: a map's likelihoods at all support points are large.

    Parameters
    ----------
    log_likelihood
        Gives some pixels' (pixel, support_point), up to a constant per pixel.
    whole : (support_point,)
        Weights over the whole map, pi.
    place : (y, x) bool
        Where on the map the pixels lie, which run along the rows.
    shares : (window + 1,)
        lambda, that of the whole map first.
    """

    log_likelihood: Callable[[slice], Float32Array]
    whole: FloatArray
    place: npt.NDArray[np.bool_]
    shares: FloatArray

    @classmethod
    def learned(
        cls,
        log_likelihood: Callable[[slice], Float32Array],
        weights: FloatArray,
        place: npt.NDArray[np.bool_],
    ) -> Neighbourhood:
        """Learn the shares; see `window_shares`."""
        alone = np.eye(1, 1 + len(RADII) * len(TRUSTS))[0]
        blind = cls(log_likelihood, weights, place, alone)
        step = -(-int(np.count_nonzero(place)) // MOST_EVIDENCE)
        evidence = np.concatenate([blind._evidence(rows) for rows in blind.bands()])[::step]
        return cls(log_likelihood, weights, place, window_shares(evidence.astype(np.float64)))

    def bands(self) -> Iterator[slice]:
        """Yield bands of the map's rows that hold about `BAND_PIXELS` pixels."""
        step = max(1, BAND_PIXELS // self.place.shape[1])
        for first in range(0, len(self.place), step):
            yield slice(first, min(first + step, len(self.place)))

    def pixels(self, rows: slice) -> slice:
        """Return which of the pixels lie in some rows."""
        before = int(np.count_nonzero(self.place[: rows.start]))
        return slice(before, before + int(np.count_nonzero(self.place[rows])))

    def weights(self, rows: slice) -> Float32Array:
        """Weights of the support points in the pixels of some rows, (pixel, support_point), which sum to 1."""
        used, pi = self._used()
        around, own, inner = self._around(rows)
        combined = np.tile(np.float32(self.shares[0]) * pi, (inner.stop - inner.start, 1))
        for radius, of_radius in zip(RADII, self.shares[1:].reshape(len(RADII), -1), strict=True):
            heard = of_radius > LEAST_SHARE
            if heard.any():
                pooled = _pooled(own, self.place[around], radius)[inner]
                for share, trust in zip(of_radius[heard], np.array(TRUSTS)[heard], strict=True):
                    combined += np.float32(share) * _window(pooled, pi, float(trust))
        found = np.zeros((len(combined), len(self.whole)), np.float32)
        found[:, used] = combined / combined.sum(axis=1, keepdims=True)
        return found

    def trust(self, rows: slice) -> FloatArray:
        """How much each pixel of some rows trusts the counts of its neighbours, by radius, (pixel, radius).

        A neighbour at the distance d counts t exp(-d^2 / 2 sigma^2) times as much as the pixel's own counts in a
        window; windows are weighted by how well they predict the pixel.
        """
        joint = self._evidence(rows).astype(np.float64) * self.shares
        odds = joint / joint.sum(axis=1, keepdims=True)
        return np.asarray(odds[:, 1:].reshape(len(odds), len(RADII), -1) @ np.array(TRUSTS))

    def _evidence(self, rows: slice) -> Float32Array:
        """Find the evidence of the pixels of some rows under the whole map and each window, (pixel, window + 1)."""
        _, pi = self._used()
        around, own, inner = self._around(rows)
        likelihood = exponentials(own[inner].copy())
        evidence = [likelihood @ pi]
        for radius in RADII:
            pooled = _pooled(own, self.place[around], radius)[inner]
            evidence += [np.einsum("pj,pj->p", _window(pooled, pi, trust), likelihood) for trust in TRUSTS]
        return np.stack(evidence, axis=1)

    def _used(self) -> tuple[npt.NDArray[np.bool_], Float32Array]:
        """Tell the support points that count, and their weights over the whole map."""
        used = self.whole > LEAST_WEIGHT
        return used, (self.whole[used] / self.whole[used].sum()).astype(np.float32)

    def _around(self, rows: slice) -> tuple[slice, Float32Array, slice]:
        """Find the rows that hold all neighbours of some rows, likelihoods there, and which pixels were asked for."""
        halo = int(REACH * max(RADII) + 0.5)
        around = slice(max(rows.start - halo, 0), min(rows.stop + halo, len(self.place)))
        there, asked = self.pixels(around), self.pixels(rows)
        own = self.log_likelihood(there)[:, self._used()[0]]
        own = np.ascontiguousarray(own - own.max(axis=1, keepdims=True), np.float32)
        return around, own, slice(asked.start - there.start, asked.stop - there.start)


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
    return np.asarray(pooled / np.float32(centre_weight(radius)) - own)


def _window(pooled: Float32Array, pi: Float32Array, trust: float) -> Float32Array:
    """Distribution D over the support points that one window of neighbours gives each pixel, (pixel, support_point)."""
    joint = np.float32(trust) * pooled + np.log(pi)
    joint -= joint.max(axis=1, keepdims=True)
    exponentials(joint)
    joint /= joint.sum(axis=1, keepdims=True)
    return np.asarray(joint, np.float32)


def centre_weight(radius: float) -> float:
    """Weight of the centre in the normalised window."""
    reach = int(REACH * radius + 0.5)
    profile = np.exp(-0.5 * (np.arange(-reach, reach + 1) / radius) ** 2)
    return float(1.0 / profile.sum() ** 2)
