"""Starting points: clusters of pixels explained by endmembers that obey what was declared.

    blocks -> penalised clustering -> guided NMF of the cluster spectra from many random starts -> the best distinct
    ones, and the one whose phases are the most different clusters

A start is scored by how well it explains the clusters and by how far its compositions miss what is declared of them.
Where there are as many phases as elements, the elements by themselves explain every cluster, and NMF finds nothing
else; phases that are pure somewhere are among the clusters, as the vertices of the largest simplex of these (N-FINDR:
Winter, M. E., Proc. SPIE 3753 (1999) 266, doi:10.1117/12.366289).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import hellinger, shares_of
from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.inference.clustering import cluster
from bayesunmix.inference.guided_nmf import GuidedFactorisation, guided_nmf
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.statements import Statements, statements_log_density

FloatArray = npt.NDArray[np.float64]

TRIALS_PER_START = 6
# Clusters at the edge of a grain fall one way or another: a second clustering widens the search.
CLUSTERINGS = 2
MOST_CLUSTERS = 12
# The largest of them, each of which may be a declared matrix.
LARGEST = 3
# Blocks that are clustered, evenly spread over the map: more do not find other clusters.
MOST_CLUSTERED = 8000
# Shares of the matrix that rotated starts take out of a phase, or put into it.
ROTATIONS = (0.3, 0.7, -0.4)
# Clusters of a smaller share of the counts are no vertices, and orders in which vertices are taken for phases.
SMALLEST_VERTEX, MOST_ORDERS = 0.005, 24
# Share of another phase that a matrix gives up.
SMALL_SHARE = 0.1
# Two starts whose spectra differ by less than this Hellinger distance are the same start.
SAME_START = 0.02
# Starts within this many nats of the best, at the clusters, are as good as each other.
NEARLY_AS_GOOD = 300.0


@dataclass(frozen=True)
class Start:
    """A starting point.

    Attributes
    ----------
    weights : (phase, component)
        Counts in each component's main family, as in `bayesunmix.models.endmember`.
    spectra : (phase, energy)
    score : float
        Misfit of the clusters in nats, and what is declared of the compositions against them; lower is better.
    """

    weights: FloatArray
    spectra: FloatArray
    score: float


def component_templates(basis: EndmemberBasis) -> FloatArray:
    """Nominal spectrum of one count in each component's main family, shape (phase, component, energy)."""
    n_phases, n_components = basis.allowed.shape
    templates = np.zeros((n_phases, n_components, basis.family_templates.shape[2]))
    for family, owner in enumerate(basis.family_owner):
        templates[:, owner] += basis.family_ratio[:, family, None] * basis.family_templates[:, family]
    templates[:, -1] = np.einsum("kb,kbc->kc", basis.continuum_area, basis.continuum_templates)
    return templates


def find_starts(
    counts: npt.NDArray[np.float32],
    basis: EndmemberBasis,
    yields: FloatArray,
    statements: Statements,
    matrix: npt.NDArray[np.bool_],
    *,
    n_starts: int,
    seed: int,
) -> list[Start]:
    """Return up to `n_starts` distinct starting points, the best first, and the one of vertices.

    Parameters
    ----------
    counts : (block, energy)
    basis, yields, statements
        The model's arrays.
    matrix : (phase,) bool
        Phases with pure regions: each is held to one of the large clusters.
    n_starts : int
    seed : int
    """
    n_phases = len(matrix)
    counts = counts[:: -(-len(counts) // MOST_CLUSTERED)]
    templates = component_templates(basis)
    trials, vertices = list[Start](), list[Start]()

    def factorised(pooled: FloatArray, key: int, rows: dict[int, int]) -> Start:
        result = guided_nmf(pooled, templates, basis.allowed, seed=key, pure_rows=rows)
        return Start(
            result.weights, result.spectra, result.divergence + _implausible(result, yields, statements)
        )

    for clustering in range(CLUSTERINGS):
        n_clusters = min(MOST_CLUSTERS, max(3 * n_phases, 6), len(counts))
        found = cluster(counts, n_clusters, n_starts=2, seed=seed + clustering)
        used = np.unique(found.labels)
        pooled = np.stack([counts[found.labels == label].sum(axis=0, dtype=np.float64) for label in used])
        keyed = enumerate(_pure_rows(pooled, matrix, n_starts * TRIALS_PER_START), 1000 * (seed + clustering))
        trials += [factorised(pooled, key, rows) for key, rows in keyed]
        vertices += [factorised(pooled, seed, rows) for rows in _vertex_rows(pooled, basis.allowed)]
    kept = _distinct(sorted(trials, key=lambda start: start.score), matrix, n_starts)
    best = min(vertices, key=lambda start: start.score, default=None)
    return [*kept, best] if best is not None and _is_new(best, kept) else kept


def rotated_starts(weights: FloatArray, basis: EndmemberBasis, matrix: npt.NDArray[np.bool_]) -> list[Start]:
    """Make starts in which every phase but the matrix gives counts of the matrix away, or takes some in.

    These are the directions in which the likelihood is flat (`bayesunmix.checks.identifiability`): where a second mode
    is, it is found from here. A matrix can be turned, too, where two other phases make it up together (periclase and
    silica make enstatite): it gives up a little of each other phase, one after the other.

    Parameters
    ----------
    weights : (phase, component)
        Weights at a mode.
    basis : EndmemberBasis
    matrix : (phase,) bool
        Declared matrix phases; without one, each phase is turned against its neighbour in the list.
    """
    templates = component_templates(basis)
    host = int(np.argmax(matrix)) if matrix.any() else None
    starts = []
    for phase in range(len(weights)):
        other = (phase + 1) % len(weights) if host is None else host
        if phase == other:
            continue
        for share in ROTATIONS:
            starts.append(
                _turned(
                    weights=weights, basis=basis, templates=templates, phase=phase, other=other, share=share
                )
            )
        if host is not None:
            starts.append(
                _turned(
                    weights=weights,
                    basis=basis,
                    templates=templates,
                    phase=host,
                    other=phase,
                    share=SMALL_SHARE,
                )
            )
    return starts


def exchanged_starts(weights: FloatArray, basis: EndmemberBasis, pairs: npt.NDArray[np.bool_]) -> list[Start]:
    """Make starts in which two phases have changed places, one for each of some pairs.

    No descent leads from one naming of the phases to another, and what is declared of each may fit the other better.

    Parameters
    ----------
    weights : (phase, component)
        Weights at a mode.
    basis : EndmemberBasis
    pairs : (phase, phase) bool
        Which phases may change places, symmetric: those of which something else is declared.
    """
    templates = component_templates(basis)
    starts = []
    for one, other in np.argwhere(np.triu(pairs, 1)):
        order = np.arange(len(weights))
        order[[one, other]] = other, one
        starts.append(start_at(weights[order], basis, templates))
    return starts


def _turned(
    weights: FloatArray, basis: EndmemberBasis, templates: FloatArray, phase: int, other: int, share: float
) -> Start:
    """Start in which a phase has lost a share of another one."""
    turned = weights.copy()
    turned[phase] = np.maximum(weights[phase] - share * weights[other], 0.0)
    return start_at(turned, basis, templates)


def start_at(weights: FloatArray, basis: EndmemberBasis, templates: FloatArray) -> Start:
    """Start of the given weights, those of absent elements left out."""
    held = weights * basis.allowed
    spectra = np.einsum("ki,kic->kc", held, templates) + 1e-12
    total = spectra.sum(axis=1, keepdims=True)
    return Start(held / total, spectra / total, np.inf)


def _pure_rows(pooled: FloatArray, matrix: npt.NDArray[np.bool_], n_trials: int) -> list[dict[int, int]]:
    """Which cluster each trial holds to be which matrix phase: the largest clusters, in every order.

    Of several matrices one may be small: there is one cluster more for each, the one that differs most from the others.
    """
    phases = np.flatnonzero(matrix)
    if not len(phases) or len(phases) > len(pooled):
        return [{} for _ in range(n_trials)]
    shares = shares_of(pooled)
    kept = np.argsort(-pooled.sum(axis=1))[:LARGEST].tolist()
    for _ in range(min(len(phases) - 1, len(pooled) - len(kept))):
        kept.append(int(hellinger(shares[:, None], shares[kept]).min(axis=1).argmax()))
    choices = [
        dict(zip(map(int, rows), map(int, phases), strict=True))
        for rows in itertools.permutations(kept, len(phases))
    ]
    return [choices[trial % len(choices)] for trial in range(n_trials)]


def _vertex_rows(pooled: FloatArray, allowed: npt.NDArray[np.bool_]) -> list[dict[int, int]]:
    """Which cluster is which phase where all are the vertices of the largest simplex.

    In one order of the phases, or in several where elements are absent from some by `allowed` (phase, component).
    """
    n_phases = len(allowed)
    large = np.flatnonzero(pooled.sum(axis=1) > SMALLEST_VERTEX * pooled.sum())
    if not 1 < n_phases <= len(large):
        return []
    roots = np.sqrt(shares_of(pooled[large]))

    def volume(chosen: tuple[int, ...]) -> float:
        edges = roots[list(chosen[1:])] - roots[chosen[0]]
        return float(np.linalg.det(edges @ edges.T))

    largest = max(itertools.combinations(range(len(large)), n_phases), key=volume)
    vertices = large[list(largest)].tolist()
    most = MOST_ORDERS if (allowed != allowed[0]).any() else 1
    orders = itertools.islice(itertools.permutations(range(n_phases)), most)
    return [dict(zip(vertices, order, strict=True)) for order in orders]


def _implausible(result: GuidedFactorisation, yields: FloatArray, statements: Statements) -> float:
    """Nats against a start's compositions by what is declared of them."""
    return -float(statements_log_density(statements, nominal_fractions(result.weights, yields)))


def _distinct(starts: list[Start], matrix: npt.NDArray[np.bool_], most: int) -> list[Start]:
    """Pick the best start, the best of each other matrix, and then the good ones that differ most from those picked.

    Rotated solutions explain the clusters nearly as well as each other: which of them the map prefers, only the
    descent from each can tell. No descent leads from one matrix to another.
    """
    good = [start for start in starts if start.score < starts[0].score + NEARLY_AS_GOOD]
    kept, rest = starts[:1], list[Start]()
    for start in good[1:]:
        another = matrix.any() and _is_new(start, kept, matrix)
        (kept if another else rest).append(start)
    while rest and len(kept) < most:
        nearest = [min(_distance(start, other) for other in kept) for start in rest]
        farthest = int(np.argmax(nearest))
        if nearest[farthest] < SAME_START:
            break
        kept.append(rest.pop(farthest))
    for start in starts[len(good) :]:
        if len(kept) < most and _is_new(start, kept):
            kept.append(start)
    return kept


def _is_new(start: Start, kept: list[Start], phases: npt.NDArray[np.bool_] | slice = slice(None)) -> bool:
    """Whether a start is none of those kept, by its spectra of all phases or of some."""
    return all(_distance(start, other, phases) > SAME_START for other in kept)


def _distance(first: Start, second: Start, phases: npt.NDArray[np.bool_] | slice = slice(None)) -> float:
    """Largest Hellinger distance between two starts' spectra of a phase, of all or of some."""
    return float(hellinger(first.spectra[phases], second.spectra[phases]).max())
