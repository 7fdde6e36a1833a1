"""Which phase the others are embedded in: what a declared matrix says where its grains may also meet each other.

Where any two phases may share a block, the prior of the abundances hardly tells one naming of a solution from another:
its log-odds are learned, and follow the blocks. Yet whoever declares a matrix means the phase that grains share their
pixels with. So the best log-likelihood that blocks have where all that they share is shared with the declared matrix is
held against the best one where it is shared with another phase: same endmembers, another naming. What is missing counts
against the naming, up to a limit, since a phase may be the matrix although grains meet each other more often.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import NOTHING, shares_of
from bayesunmix.fit.model_data import Blocks
from bayesunmix.inference.mixture import (
    confined,
    corners,
    evidence_of,
    exponentials,
    support_point_weights,
)
from bayesunmix.inference.pooling import Pooled
from bayesunmix.models.abundance import simplex_support_points

FloatArray = npt.NDArray[np.float64]

# What counts against a naming at most, in nats: a formula or an absence that does not fit costs more.
MOST_AGAINST = 20.0
ITERATIONS = 100


def less_embedded(blocks: Blocks, pooled: Pooled, scale: float, endmembers: FloatArray) -> float:
    """Nats by which the declared matrix holds the other phases less well than another phase would, 0 where none does.

    Parameters
    ----------
    blocks : Blocks
    pooled : Pooled
        Groups of like blocks.
    scale : float
        Blocks of the map for each that was pooled.
    endmembers : (phase, energy)
        Spectra with unit sum.
    """
    matrix, supports = blocks.matrix, blocks.supports
    others = ~matrix & ~supports
    # A single grain phase shares its blocks with the matrix, whichever of the two that is.
    if not matrix.any() or others.sum() < 2:
        return 0.0
    counts = np.ascontiguousarray(pooled.counts[:, : endmembers.shape[1]])
    common = np.log(shares_of(counts.sum(axis=0, dtype=np.float64) + 1.0))

    def log_likelihood(hosts: npt.NDArray[np.bool_]) -> float:
        points = simplex_support_points(endmembers, blocks.typical_counts, matrix=hosts)
        joint = counts @ (np.log(shares_of(np.maximum(points @ endmembers, NOTHING))) - common).T.astype(
            np.float32
        )
        best = joint.max(axis=1, keepdims=True)
        at = corners(points, pooled.known)
        likelihood = confined(exponentials(joint - best), at)
        weights = support_point_weights(likelihood, n_iterations=ITERATIONS, number=pooled.number)
        return float(pooled.number @ (best[:, 0] + np.log(evidence_of(likelihood, weights))))

    declared = log_likelihood(matrix | supports)
    exchanged = []
    for host in np.flatnonzero(matrix):
        for other in np.flatnonzero(others):
            hosts = matrix | supports
            hosts[[host, other]] = False, True
            exchanged.append(log_likelihood(hosts))
    return float(np.clip(scale * (max(exchanged) - declared), 0.0, MOST_AGAINST))
