"""Starting endmembers from the counts alone: the most extreme spectra of an over-clustered map.

Single pixels hold too few photons for a geometric search, so pixels are first pooled into more clusters than phases.
Every mixture of K endmembers lies in the simplex that they span; the candidates are those K cluster spectra whose
simplex explains all clusters best in Poisson likelihood. Without pure pixels the vertices are themselves mixtures, so
the minor ones are also pushed away from the most abundant one as far as their counts allow. Starting points, not
answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, check_integer
from bayesunmix.core.threads import single_thread
from bayesunmix.inference.arrays import FLOOR, checked_counts
from bayesunmix.inference.clustering import cluster

#: Clusters to choose vertices from, where the number of sets allows it.
_MOST_CLUSTERS = 12

#: Most sets of vertices that are compared.
_MOST_SETS = 300

#: EM steps for the abundances of each set: with a few dozen, no set of six has settled.
_EM_STEPS = 300

#: Counts that the matrix alone would give in a band, so that a missing line stands out from its noise (14 %).
_BAND_COUNTS = 50

#: Most of a vertex that may be taken for the matrix: the rest must still show a spectrum.
_MOST_PUSHED = 0.9

#: Share of the matrix left in each channel, so that a start holds no hard zero.
_RESIDUE = 1e-3


@dataclass(frozen=True, eq=False)
class ExtremeSet:
    """One set of candidate endmembers.

    Attributes
    ----------
    vertices : (phase, energy)
        Cluster spectra at the vertices; rows sum to 1; the one that explains most counts first.
    spectra : (phase, energy)
        Candidate endmembers: the first vertex as it is, the others freed of as much of it as they can hold. That is
        right for a matrix with pure regions whose lines are not all present in the other phases; otherwise use
        `vertices`.
    counts_share : (phase,)
        Share of all counts that each vertex explains; sums to 1.
    divergence : float
        Kullback-Leibler divergence of all clusters' counts from the best mixtures of the vertices, in nats. Lower is
        better.
    """

    vertices: npt.NDArray[np.float64]
    spectra: npt.NDArray[np.float64]
    counts_share: npt.NDArray[np.float64]
    divergence: float


def extreme_spectra(
    counts: npt.ArrayLike, n_phases: int, *, seed: int | np.random.Generator, n_sets: int = 10
) -> list[ExtremeSet]:
    """Candidate endmember sets: the extreme spectra among the clusters of a map, best set first.

    The map is clustered (`bayesunmix.inference.clustering.cluster`) into M > K groups with pooled counts Y_m. For
    each set V of K clusters the divergence Σ_mc Y_mc log(Y_mc / μ_mc) with μ_m = T_m Σ_{k in V} a_mk s_k is minimised
    over the abundances a_m on the simplex, for all sets at once. This is the search for the simplex of largest volume
    (N-FINDR: Winter 1999, doi:10.1117/12.366289) with the likelihood of counts in the place of volume, which noise
    inflates.

    Parameters
    ----------
    counts : (pixel, energy), counts
        Raw counts.
    n_phases
        Number of endmembers K in a set, from 1 to 8.
    seed
        Seed or generator of the clustering.
    n_sets
        Most sets to return.

    Returns
    -------
    list of ExtremeSet
        Ordered by divergence, lowest first.

    Raises
    ------
    InputError
        If counts are negative, not finite, empty or not two-dimensional, a number is out of range, or the map holds
        fewer distinguishable spectra than `n_phases`.

    Examples
    --------
    >>> y = np.repeat([[40, 0, 10], [0, 40, 10], [20, 20, 10]], 10, axis=0)
    >>> extreme_spectra(y, 2, seed=0)[0].spectra.round(1).tolist()
    [[0.8, 0.0, 0.2], [0.0, 0.8, 0.2]]
    """
    y = checked_counts(counts)
    n_phases = check_integer("n_phases", n_phases, low=1, high=8)
    n_sets = check_integer("n_sets", n_sets, low=1)
    n_clusters = min(_n_clusters(n_phases), len(y))
    clusters = cluster(y, n_clusters, seed=seed, n_starts=3, penalty=min(5.0, len(y) / (4 * n_clusters)))
    if len(clusters.spectra) < n_phases:
        raise InputError(
            "n_phases",
            "be at most the number of distinguishable spectra",
            f"is {n_phases} where the map holds {len(clusters.spectra)}",
        )
    sets = np.array(list(combinations(range(len(clusters.spectra)), n_phases)))
    with single_thread():
        pooled = clusters.responsibilities.T.astype(np.float32) @ y
        abundances, divergences = _fit_sets(pooled, clusters.spectra[sets])
    shares = np.einsum("m,smk->sk", pooled.sum(axis=1, dtype=np.float64), abundances) / pooled.sum(
        dtype=np.float64
    )
    found = []
    for best in np.argsort(divergences, kind="stable")[:n_sets]:
        order = np.argsort(-shares[best], kind="stable")
        chosen = sets[best][order]
        vertices = clusters.spectra[chosen]
        spectra = np.array([vertices[0], *(_pushed(pooled[m], vertices[0]) for m in chosen[1:])])
        found.append(ExtremeSet(vertices, spectra, shares[best][order], float(divergences[best])))
    return found


def _n_clusters(n_phases: int) -> int:
    """Largest number of clusters whose sets of `n_phases` are few enough to compare them all."""
    fitting = (m for m in range(_MOST_CLUSTERS, n_phases, -1) if comb(m, n_phases) <= _MOST_SETS)
    return next(fitting, n_phases + 1)


def _fit_sets(
    pooled: npt.NDArray[np.float32], vertices: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Simplex abundances (set, cluster, phase) by EM and the divergence (set,) of every set of vertices."""
    spectra = vertices.astype(np.float32) + np.float32(FLOOR)
    totals = np.maximum(pooled.sum(axis=1), FLOOR)[:, None]
    abundances = np.full((len(vertices), len(pooled), vertices.shape[1]), 1 / vertices.shape[1], np.float32)
    transposed = np.ascontiguousarray(spectra.transpose(0, 2, 1))
    for _ in range(_EM_STEPS):
        abundances *= ((pooled / (abundances @ spectra)) @ transposed) / totals
    ratio = (pooled / totals) / (abundances @ spectra)
    logarithm = np.log(np.maximum(ratio, FLOOR))
    divergences = np.einsum("mc,smc->s", pooled.astype(np.float64), logarithm.astype(np.float64))
    return abundances.astype(np.float64), divergences


def _pushed(counts: npt.NDArray[np.float32], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spectrum of a cluster's counts (energy,) less the largest share of the matrix spectrum (energy,) they can hold.

    Channels are joined into bands in which the matrix alone would give enough counts. In no band may the matrix
    exceed the counts by more than two of their standard deviations.
    """
    y, total = counts.astype(np.float64), float(counts.sum())
    expected = np.cumsum(matrix) * total
    band = np.minimum(expected // _BAND_COUNTS, expected[-1] // _BAND_COUNTS - 1).clip(min=0).astype(int)
    in_band, of_matrix = np.bincount(band, weights=y), np.bincount(band, weights=matrix * total)
    held = of_matrix > 0
    share = np.min((in_band[held] + 2 * np.sqrt(in_band[held] + 1)) / of_matrix[held])
    freed = np.maximum(y / total - min(float(share), _MOST_PUSHED) * matrix, _RESIDUE * matrix) + FLOOR
    pushed: npt.NDArray[np.float64] = freed / freed.sum()
    return pushed
