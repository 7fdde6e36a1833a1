"""Penalised model-based clustering of pixels by their spectra: a mixture of multinomials.

Pixel p of cluster k, with T_p counts in all, has the spectrum

    y_p ~ Multinomial( T_p, s_k ),   P(cluster k) = v_k,

so that thickness and dose, which only change T_p, do not matter. Expectation maximisation (EM) climbs

    J = sum_p log sum_k v_k exp( sum_c y_pc log s_kc )  -  penalty sum_k log( N v_k )  +  sum_kc m_c log s_kc .

The second term is the Dirichlet-type penalty of Figueiredo and Jain [1]_ on the N pixels' cluster weights: the update
is v_k ∝ max(0, n_k - penalty) with n_k the expected number of pixels, so a cluster that cannot claim more than
`penalty` pixels dies, the smallest first. Their minimum-message-length criterion is penalty = (number of channels -
1) / 2. The third term is one pseudo-count per cluster, spread like the mean spectrum m: it keeps log s_kc finite
where a small cluster has no counts [2]_. EM runs a few steps from several starts, then goes on from the best [3]_.

References
----------
.. [1] Figueiredo and Jain (2002), IEEE TPAMI 24, 381, doi:10.1109/34.990138
.. [2] Fraley and Raftery (2007), Journal of Classification 24, 155, doi:10.1007/s00357-007-0004-5
.. [3] Biernacki, Celeux and Govaert (2003), Computational Statistics & Data Analysis 41, 561,
   doi:10.1016/S0167-9473(02)00163-9
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import check_integer, check_positive
from bayesunmix.core.threads import single_thread
from bayesunmix.inference.arrays import FLOOR, checked_counts, leading_singular
from bayesunmix.inference.mixture import exponentials

#: EM steps of each start before the best one is chosen.
_SHORT_RUN = 8

#: EM steps of the best start at most; separation by counts is so sharp that a few dozen are usual.
_LONG_RUN = 300

#: The fit has converged when a step gains less than this, in nats.
_TOLERANCE = 0.01


@dataclass(frozen=True, eq=False, kw_only=True)
class ClusteringResult:
    """Clusters of pixels, the largest first.

    Attributes
    ----------
    spectra : (cluster, energy)
        Spectrum of each cluster; rows sum to 1.
    weights : (cluster,)
        Share of the pixels, penalised; sums to 1.
    labels : (pixel,)
        Most probable cluster of each pixel.
    responsibilities : (pixel, cluster)
        Probability of each cluster given the pixel's spectrum; rows sum to 1.
    objective : float
        J in nats, without the multinomial coefficients, which no parameter changes. Higher is better.
    bic : float
        −2 log-likelihood + (number of free parameters) log(number of pixels) (Schwarz 1978, doi:10.1214/aos/1176344136;
        for mixtures Fraley and Raftery 2002, doi:10.1198/016214502760047131). Lower is better.
    converged : bool
        False when the best start was still climbing at the last step.
    """

    spectra: npt.NDArray[np.float64]
    weights: npt.NDArray[np.float64]
    labels: npt.NDArray[np.intp]
    responsibilities: npt.NDArray[np.float64]
    objective: float
    bic: float
    converged: bool


class _Data(NamedTuple):
    counts: npt.NDArray[np.float32]  # (pixel, energy)
    mean_spectrum: npt.NDArray[np.float64]  # (energy,), sums to 1
    log_baseline: float  # log-likelihood of one cluster with the mean spectrum


class _Mixture(NamedTuple):
    spectra: npt.NDArray[np.float64]  # (cluster, energy)
    weights: npt.NDArray[np.float64]  # (cluster,)


class _Expectation(NamedTuple):
    responsibilities: npt.NDArray[np.float64]  # (pixel, cluster)
    log_likelihood: float
    objective: float


def cluster(
    counts: npt.ArrayLike,
    n_clusters: int,
    *,
    seed: int | np.random.Generator,
    penalty: float = 5.0,
    n_starts: int = 6,
) -> ClusteringResult:
    """Cluster pixels by the shape of their spectra with a penalised mixture of multinomials.

    Maximises J = Σ_p log Σ_k v_k exp(Σ_c y_pc log s_kc) − penalty Σ_k log(N v_k) + Σ_kc m_c log s_kc (see the module's
    text). A pixel that mixes phases gets the cluster of the nearest mixture, so clusters are not endmembers.

    Parameters
    ----------
    counts : (pixel, energy), counts
        Raw counts. An empty pixel is allowed; its responsibilities are the cluster weights.
    n_clusters
        Most clusters.
    seed
        Seed or generator of the starts.
    penalty
        Pixels a cluster must claim to live; 0 is plain maximum likelihood.
    n_starts
        Random starts: k-means++ seeds (Arthur and Vassilvitskii 2007) among the pixels' scores on the leading singular
        vectors of the Poisson-scaled counts (Keenan and Kotula 2004, doi:10.1002/sia.1657), where noise hides least.

    Returns
    -------
    ClusteringResult
        With at most `n_clusters` clusters: those that survived the penalty.

    Raises
    ------
    InputError
        If counts are negative, not finite, empty or not two-dimensional, or a number is out of range.

    Examples
    --------
    >>> y = np.repeat([[30, 10, 0], [0, 10, 30]], [6, 3], axis=0)
    >>> cluster(y, 2, seed=0, penalty=0).labels.tolist()
    [0, 0, 0, 0, 0, 0, 1, 1, 1]
    """
    y = checked_counts(counts)
    n_clusters = check_integer("n_clusters", n_clusters, low=1, high=len(y))
    n_starts = check_integer("n_starts", n_starts, low=1)
    penalty = check_positive("penalty", penalty, allow_zero=True)
    data = _prepared(y)
    with single_thread():
        starts = _starts(y, n_clusters, n_starts, np.random.default_rng(seed))
        short = [_climb(data, _maximised(data, start, penalty), penalty, _SHORT_RUN) for start in starts]
        best = max(short, key=lambda run: run[1].objective)
        mixture, expectation, converged = _climb(data, best[0], penalty, _LONG_RUN)
    return _result(y, mixture, expectation, converged)


def _prepared(y: npt.NDArray[np.float32]) -> _Data:
    channel_counts = y.sum(axis=0, dtype=np.float64)
    mean_spectrum = channel_counts / channel_counts.sum()
    present = channel_counts > 0
    return _Data(y, mean_spectrum, float(channel_counts[present] @ np.log(mean_spectrum[present])))


def _starts(
    y: npt.NDArray[np.float32], n_clusters: int, n_starts: int, rng: np.random.Generator
) -> list[npt.NDArray[np.float64]]:
    """Hard responsibilities (pixel, cluster) of each start: every pixel to the nearest k-means++ seed."""
    scores = _poisson_scores(y, min(n_clusters, y.shape[1]))
    starts = []
    for _ in range(n_starts):
        nearest, labels = np.full(len(y), np.inf), np.zeros(len(y), np.intp)
        seed = int(rng.integers(len(y)))
        for k in range(n_clusters):
            distances = np.square(scores - scores[seed]).sum(axis=1)
            labels[distances < nearest] = k
            nearest = np.minimum(nearest, distances)
            # When every pixel coincides with a seed, any pixel serves.
            far = nearest if nearest.any() else np.ones(len(y))
            seed = int(rng.choice(len(y), p=far / far.sum()))
        starts.append(np.eye(n_clusters)[labels])
    return starts


def _poisson_scores(y: npt.NDArray[np.float32], n_components: int) -> npt.NDArray[np.float64]:
    """Scores (pixel, component) of the spectra with each channel scaled to equal Poisson noise."""
    totals, channels = y.sum(axis=1), y.sum(axis=0)
    scale = np.sqrt(np.maximum(totals, 1)[:, None]) * np.sqrt(np.maximum(channels / channels.sum(), 1e-9))
    # Without its mean, a pixel of the mean spectrum is at the origin, whatever its thickness.
    residual = (y - totals[:, None] * (channels / channels.sum())) / scale
    scores, _ = leading_singular(residual, n_components)
    return scores


def _climb(
    data: _Data, mixture: _Mixture, penalty: float, n_steps: int
) -> tuple[_Mixture, _Expectation, bool]:
    """EM steps from a mixture until J rises by less than the tolerance."""
    expectation = _expected(data, mixture, penalty)
    for _ in range(n_steps):
        n_before, objective_before = len(mixture.weights), expectation.objective
        mixture = _maximised(data, expectation.responsibilities, penalty)
        expectation = _expected(data, mixture, penalty)
        # J is another function after a death, so its change then says nothing.
        if len(mixture.weights) == n_before and expectation.objective - objective_before < _TOLERANCE:
            return mixture, expectation, True
    return mixture, expectation, False


def _expected(data: _Data, mixture: _Mixture, penalty: float) -> _Expectation:
    """E step: cluster probabilities of each pixel, and J."""
    present = data.mean_spectrum > 0
    ratio = np.ones_like(mixture.spectra)
    np.divide(mixture.spectra, data.mean_spectrum, out=ratio, where=present)
    # Relative to the mean spectrum the logarithms are small, and float32 resolves them.
    log_ratio = np.log(ratio)
    joint = (data.counts @ log_ratio.T.astype(np.float32)).astype(np.float64) + np.log(mixture.weights)
    highest = joint.max(axis=1, keepdims=True)
    responsibilities = exponentials(joint - highest)
    sums = responsibilities.sum(axis=1, keepdims=True)
    responsibilities /= sums
    log_likelihood = data.log_baseline + float((highest + np.log(sums)).sum())
    weight_penalty = penalty * float(np.log(len(data.counts) * mixture.weights).sum())
    spectrum_prior = float((log_ratio @ data.mean_spectrum).sum())
    return _Expectation(responsibilities, log_likelihood, log_likelihood - weight_penalty + spectrum_prior)


def _maximised(data: _Data, responsibilities: npt.NDArray[np.float64], penalty: float) -> _Mixture:
    """M step; of the clusters that claim no more than `penalty` pixels, the smallest dies."""
    sizes = responsibilities.sum(axis=0)
    if len(sizes) > 1 and sizes.min() <= penalty:
        alive = np.arange(len(sizes)) != sizes.argmin()
        kept = responsibilities[:, alive] + FLOOR
        return _maximised(data, kept / kept.sum(axis=1, keepdims=True), penalty)
    weights = np.maximum(sizes - penalty, FLOOR) if len(sizes) > 1 else np.ones(1)
    spectra = (responsibilities.T.astype(np.float32) @ data.counts).astype(np.float64) + data.mean_spectrum
    return _Mixture(spectra / spectra.sum(axis=1, keepdims=True), weights / weights.sum())


def _result(
    y: npt.NDArray[np.float32], mixture: _Mixture, expectation: _Expectation, converged: bool
) -> ClusteringResult:
    order = np.argsort(-mixture.weights, kind="stable")
    responsibilities = expectation.responsibilities[:, order]
    n_clusters = len(order)
    n_free = n_clusters - 1 + n_clusters * (y.shape[1] - 1)
    return ClusteringResult(
        spectra=mixture.spectra[order],
        weights=mixture.weights[order],
        labels=responsibilities.argmax(axis=1),
        responsibilities=responsibilities,
        objective=expectation.objective,
        bic=-2 * expectation.log_likelihood + n_free * float(np.log(len(y))),
        converged=converged,
    )
