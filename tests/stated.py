"""Soft statements for tests, without a configuration."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bayesunmix.models.statements import Statements


def ratio_of_first(on_a: npt.ArrayLike, on_b: npt.ArrayLike, log_ratio: float, sd: float) -> Statements:
    """State the ratio of two sites of the first of two phases, from what sits on them, (element,) each."""
    above, below = (np.stack([site, np.zeros(np.shape(site))])[None] for site in (on_a, on_b))
    nothing, edge = np.zeros(1, np.int64), np.array([log_ratio])
    return Statements(nothing, nothing, above, below, edge, edge, np.array([1.0 / sd]))
