"""Is a declared phase there? What held-out counts gain from each phase, and what else it could be.

A model with a phase too many fits as well: its spectrum follows noise, how another phase varies, or pixels in which
others meet, and gets a composition like any other. At the mode each half of the counts gives the weights of the support
points and the other half judges them, with all phases and without each of them (`bayesunmix.fit.phase_evidence`).
Endmembers have seen all counts: what speaks for a phase is at most what is told here.
"""

from __future__ import annotations

import numpy as np

from bayesunmix.fit.held_out import Mixture, Split, log_spectra_at
from bayesunmix.fit.model_data import Blocks, spectra_at, weights_at
from bayesunmix.fit.phase_evidence import (
    JUDGED_OVERLAP,
    PhaseEvidence,
    counts_by_part,
    evidence,
    scores_without,
)
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.starts import component_templates
from bayesunmix.models.abundance import simplex_support_points
from bayesunmix.models.unmixing import thickness_parameters

# So many blocks decide, evenly spread over the map, fewer where they meet so many support points.
MOST_BLOCKS, MOST_ENTRIES = 6000, 12_000_000


def presence(blocks: Blocks, fitted: FittedPosterior) -> list[PhaseEvidence]:
    """Say what speaks for each phase at the mode.

    Parameters
    ----------
    blocks : Blocks
    fitted : FittedPosterior
    """
    data, latents = fitted.data, fitted.model.constrain(fitted.estimate.z)
    endmembers = spectra_at(data, latents)
    most = max(blocks.overlap.most, JUDGED_OVERLAP)
    points = simplex_support_points(endmembers, blocks.typical_counts, max_overlap=most)
    part = blocks.every(-(-len(blocks.counts) // min(MOST_BLOCKS, MOST_ENTRIES // len(points))))
    log_spectra = log_spectra_at(points, endmembers, data.effect, thickness_parameters(data, latents))
    first, second, log_common = Split.of(part, data.effect)
    mixtures = [Mixture.of(*pair, log_spectra, log_common) for pair in ((first, second), (second, first))]
    parts = counts_by_part(weights_at(data, latents), component_templates(data.basis), data.yields.shape[1])
    counts = part.counts.sum(axis=1, dtype=np.float64)
    return evidence(mixtures, points, parts, scores_without(mixtures, points), counts)
