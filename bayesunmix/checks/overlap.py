"""Whether more phases share a pixel than the model resolves.

The abundance prior resolves mixtures of two phases and has a few support points only for a third: that identifies the
solution, and is wrong where grains meet, more so the more grains there are. With the endmembers as they were found, the
support points' weights that make the map most probable are found twice, on the model's support points and with every
face of three phases filled. The second likelihood is larger by a few nats for the freedom alone, 0.01 a block on maps
drawn from the model; from 0.05 a block on, the places between have pulled the endmembers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.checks.outcomes import Overlap
from bayesunmix.inference.mixture import support_point_weights
from bayesunmix.models.abundance import filled_faces, simplex_support_points

FloatArray = npt.NDArray[np.float64]

# So many blocks decide, evenly spread.
MOST_BLOCKS = 2000
ITERATIONS = 300
SMALLEST = 1e-12


def find_overlap(
    counts: npt.NDArray[Any],
    spectra: FloatArray,
    max_overlap: int,
    matrix: npt.NDArray[np.bool_],
) -> Overlap:
    """Compare the map's likelihood with two phases resolved and with three.

    Parameters
    ----------
    counts : (block, energy)
    spectra : (phase, energy)
        Endmembers, unit sums.
    max_overlap : int
        Most phases that the model resolves in one place: from 3 on there is nothing to compare.
    matrix : (phase,) bool
        Phases in which the others are embedded.
    """
    if len(spectra) < 3 or max_overlap != 2:
        return Overlap(nats_per_block=0.0, share=0.0)
    part = counts[:: -(-len(counts) // MOST_BLOCKS)].astype(np.float32)
    spectra = (spectra + SMALLEST) / (spectra + SMALLEST).sum(axis=1, keepdims=True)
    typical = float(part.sum(dtype=np.float64) / len(part))
    model = simplex_support_points(spectra, typical, max_overlap=max_overlap, matrix=matrix)
    points = np.concatenate([model, filled_faces(spectra, typical, matrix)])
    log_mixed = np.log(points @ spectra)
    joint = part @ (log_mixed - log_mixed.mean(axis=0)).T.astype(np.float32)
    fewer, _ = _log_evidence(joint[:, : len(model)])
    more, weights = _log_evidence(joint)
    return Overlap(nats_per_block=float((more - fewer).mean()), share=float(weights[len(model) :].sum()))


def _log_evidence(joint: npt.NDArray[np.float32]) -> tuple[FloatArray, FloatArray]:
    """Return the log-likelihood of each block (block,), the support points' weights making the map most probable.

    Parameters
    ----------
    joint : (block, support_point)
        Log-likelihood of each block at each support point.
    """
    best = joint.max(axis=1, keepdims=True)
    likelihood = np.exp(joint - best)
    weights = support_point_weights(likelihood, n_iterations=ITERATIONS)
    return best[:, 0] + np.log((likelihood @ weights).astype(np.float64)), weights
