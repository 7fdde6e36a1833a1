"""Which endmembers nothing pins: what could be taken out of a phase, or put into it, without the counts noticing.

A phase k without pure pixels is seen only in mixtures. If its spectrum contains every component of phase j, then

    s_k' = (s_k - t s_j) / (1 - t),     abundances a_k' = (1 - t) a_k,  a_j' = a_j + t a_k

fits every pixel as well, up to the t at which a component would turn negative, t_max = min_i w_ki / w_ji. An element
that is absent from k and present in j makes t_max zero: it pins the phase. So does a declared matrix phase, whose
pure pixels show its spectrum. Where neither is the case, the composition hangs on the abundance prior alone, and its
interval does not say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from bayesunmix.phase import Phase

# A share of another phase below this moves compositions by no more than their usual intervals.
NOTICED = 0.05
# Components with less than this share of a phase's counts cannot tell whether the phase is in another.
LEAST_SHARE = 1e-3


def loose_ends(phases: Sequence[Phase], posterior: xr.Dataset) -> list[dict[str, Any]]:
    """Pairs of phases of which the first could hold some of the second, or lose it, at no cost.

    Parameters
    ----------
    phases
        What was declared.
    posterior : Dataset
        `component_share` (chain, draw, phase, component).

    Returns
    -------
    list of dict
        ``phase``, ``other`` and ``share``, the largest t, where it exceeds a few per cent; the largest first.
    """
    weights = posterior["component_share"].mean(["chain", "draw"]).values
    found = []
    for k, phase in enumerate(phases):
        for j, other in enumerate(phases):
            if k == j or phase.matrix:
                continue
            held = weights[j] > LEAST_SHARE
            share = float(np.min(weights[k, held] / weights[j, held]))
            if share > NOTICED:
                found.append({"phase": phase.name, "other": other.name, "share": min(share, 1.0)})
    return sorted(found, key=lambda loose: -float(loose["share"]))


def sentence_of(loose: dict[str, Any]) -> str:
    """Write one loose end as a sentence that says what would mend it."""
    phase, other, share = loose["phase"], loose["other"], 100.0 * float(loose["share"])
    return (
        f"Nothing declared pins {phase} against {other}: up to {share:.0f} % of its counts could belong to {other} at "
        f"no cost to the fit, and its intervals do not hold that. Declare an element of {other} absent from {phase}, "
        f"or `matrix = true` if {phase} has pure regions."
    )
