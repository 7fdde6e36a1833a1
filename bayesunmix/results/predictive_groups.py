"""The groups of a result's tree in ArviZ's names that judge its predictions and its priors."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from bayesunmix.checks.tile_likelihood import TileLikelihood
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.setup import Setup
from bayesunmix.forward.quantify import draw_calibration
from bayesunmix.models.thickness import absorption_scale, stray_exponent

LIKELIHOOD, ASIDE, AREAS = "log_likelihood", "log_likelihood_aside", "areas"
COUNTS, SPECTRUM = "counts", "sum_spectrum"
# Attribute that says of which data the likelihood is.
DATA = "data_hash"
_BOUNDS = ("first_row", "end_row", "first_column", "end_column")


def predictive_groups(
    tiles: TileLikelihood, setup: Setup, fitted: FittedPosterior, seed: int
) -> dict[str, xr.Dataset]:
    """Return the groups by which ArviZ judges a model.

    Parameters
    ----------
    tiles
        Of the map: what ArviZ calls observations.
    setup, fitted, seed
        Of the run.

    Returns
    -------
    dict of str to Dataset

        ``log_likelihood/counts`` (chain, draw, block), and of it what was set aside in ``log_likelihood_aside``;
        ``areas``: ``counts`` (block, energy); ``observed_data``: ``sum_spectrum`` (energy,);
        ``posterior_predictive``: ``sum_spectrum`` (chain, draw, energy); ``prior`` and ``log_prior``. The coordinates
        of a block are its rows and columns in pixels, the end being the first that it does not hold, and how many of
        its counts were set aside.
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
    # What was set aside is in it: ArviZ then compares runs on the same counts, too.
    every = tiles.fitted if tiles.aside is None else tiles.fitted + tiles.aside
    groups = {LIKELIHOOD: xr.Dataset({COUNTS: (("chain", "draw", "block"), every)}, drawn, about)}
    if tiles.aside is not None:
        groups[ASIDE] = xr.Dataset({COUNTS: (("chain", "draw", "block"), tiles.aside)}, drawn, about)
    bins = {
        "energy": ("energy", 0.5 * (edges[1:] + edges[:-1]), {"unit": "keV"}),
        "energy_low": ("energy", edges[:-1], {"unit": "keV"}),
        "energy_high": ("energy", edges[1:], {"unit": "keV"}),
    }
    counts = tiles.counts.astype(np.int32)
    groups[AREAS] = xr.Dataset({COUNTS: (("block", "energy"), counts)}, where | bins)
    # ArviZ compares all that was observed with predictions of the same name: those of areas would be too large to keep.
    groups["observed_data"] = xr.Dataset({SPECTRUM: ("energy", tiles.counts.sum(axis=0))}, bins)
    dims = ("chain", "draw")
    numbers = {"chain": np.arange(chains), "draw": np.arange(draws)}
    groups["posterior_predictive"] = xr.Dataset(
        {SPECTRUM: ((*dims, "energy"), tiles.replicates)},
        numbers | bins,
        {"given": "the counts of each block, and the posterior of its abundances"},
    )
    groups["log_prior"] = xr.Dataset(
        {name: (dims, value) for name, value in tiles.log_prior.items()}, numbers
    )
    groups["prior"] = _prior(setup, fitted, (chains, draws), seed)
    return groups


def _prior(setup: Setup, fitted: FittedPosterior, shape: tuple[int, int], seed: int) -> xr.Dataset:
    """Draw what has a proper prior, and say what has none."""
    generator = np.random.default_rng([seed, 74])
    data, dims = fitted.data, ("chain", "draw")
    calibration = draw_calibration(setup.forward, shape, seed + 1)
    return xr.Dataset(
        {
            "log_calibration": ((*dims, "element"), calibration.log_factor),
            "absorption_scale": (dims, absorption_scale(data.effect, generator.standard_normal(shape))),
            "stray_exponent": (
                dims,
                stray_exponent(data.widths.stray_exponent_sd, generator.standard_normal(shape)),
            ),
        },
        {
            "chain": np.arange(shape[0]),
            "draw": np.arange(shape[1]),
            "element": list(setup.forward.elements),
        },
        {"improper": "composition, component_share and phase_share: amounts have a flat prior, and no draws"},
    )
