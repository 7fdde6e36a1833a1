"""The groups of a result's tree that judge its predictions, in ArviZ's names: log-likelihood and observed data."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayesunmix.checks.tile_likelihood import TileLikelihood

LIKELIHOOD, ASIDE, OBSERVED = "log_likelihood", "log_likelihood_aside", "observed_data"
COUNTS = "counts"
# Attribute that says of which data the likelihood is.
DATA = "data_hash"
_BOUNDS = ("first_row", "end_row", "first_column", "end_column")


def predictive_groups(tiles: TileLikelihood) -> dict[str, xr.Dataset]:
    """Return the groups of a map's tiles, which ArviZ calls observations.

    ``log_likelihood/counts`` (chain, draw, block), ``log_likelihood_aside/counts`` where pixels were set aside, and
    ``observed_data``: ``counts`` (block, energy) and ``sum_spectrum`` (energy,). The coordinates of a block are its
    rows and columns in pixels, the end being the first that it does not hold, and how many of its counts were set
    aside.
    """
    edges = tiles.edges_keV
    where: dict[str, Any] = {
        name: ("block", values) for name, values in zip(_BOUNDS, tiles.bounds.T, strict=True)
    }
    where |= {"block": np.arange(len(tiles.counts)), "counts_aside": ("block", tiles.aside_counts)}
    chains, draws = tiles.fitted.shape[:2]
    drawn = where | {"chain": np.arange(chains), "draw": np.arange(draws)}
    about = {
        DATA: tiles.hash,
        "unit": "nat",
        "relative_to": "the block's own mean spectrum in all of its pixels",
    }
    groups = {LIKELIHOOD: xr.Dataset({COUNTS: (("chain", "draw", "block"), tiles.fitted)}, drawn, about)}
    if tiles.aside is not None:
        groups[ASIDE] = xr.Dataset({COUNTS: (("chain", "draw", "block"), tiles.aside)}, drawn, about)
    groups[OBSERVED] = xr.Dataset(
        {
            COUNTS: (("block", "energy"), tiles.counts.astype(np.int32)),
            "sum_spectrum": ("energy", tiles.counts.sum(axis=0)),
        },
        where
        | {
            "energy": ("energy", 0.5 * (edges[1:] + edges[:-1]), {"unit": "keV"}),
            "energy_low": ("energy", edges[:-1], {"unit": "keV"}),
            "energy_high": ("energy", edges[1:], {"unit": "keV"}),
        },
    )
    return groups
