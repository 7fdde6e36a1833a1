"""Draws from two modes, mixed by the mass that each holds.

A posterior with a second mode a nat or two below the first has a fifth of its mass there; draws of one mode alone make
intervals that leave this out. Each mode is drawn from by itself, and in every chain the rival's share of the draws,
at random places, is the rival's. The masses are Laplace's approximations, and good to a nat or so: the shares are
rough, but a mode that is in with a wrong share is nearer the truth than one that is left out.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.fit.draws import Draws
from bayesunmix.fit.posterior import FittedPosterior, Rival
from bayesunmix.fit.sampling import Drawn

AnyArray = npt.NDArray[Any]

# What every phase has of its own, behind the axes chain and draw.
BY_PHASE = ("weights", "family_counts", "continuum", "spectra")


def mixed(drawn: Drawn, fitted: FittedPosterior, rival: Rival, other: Drawn, seed: int) -> Drawn:
    """Replace the rival's share of the draws by the rival's.

    Parameters
    ----------
    drawn, fitted
        Of the best mode.
    rival, other
        The other mode and its draws, as many.
    seed : int
    """
    shape = drawn.draws.weights.shape[:2]
    theirs = places(shape, rival.share, seed)
    translated = in_units_of(fitted, rival, other.draws)

    def chosen(own: AnyArray, their: AnyArray) -> AnyArray:
        return np.where(theirs.reshape(*shape, *(1,) * (own.ndim - 2)), their, own)

    names = [entry.name for entry in fields(Draws)]
    draws = Draws(**{name: chosen(getattr(drawn.draws, name), getattr(translated, name)) for name in names})
    statistics = {name: chosen(value, other.statistics[name]) for name, value in drawn.statistics.items()}
    # Flat vectors of two modes are in units of their own.
    return replace(drawn, draws=draws, statistics=statistics, z=None)


def places(shape: tuple[int, int], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Draws of the rival, (chain, draw): in each chain as near to its share as whole draws allow, at random."""
    chains, draws = shape
    order = np.random.default_rng([seed, 50]).permuted(np.tile(np.arange(draws), (chains, 1)), axis=1)
    return np.asarray(order < round(share * draws))


def in_units_of(fitted: FittedPosterior, rival: Rival, draws: Draws) -> Draws:
    """Return the rival's draws, its phases in the order of the best mode, and weights in counts by the latter's yields.

    Atoms are weights over yields. Yields hold the absorption of the mode's own compositions: with the best mode's in
    their place the weights have to change for the atoms to stay.
    """
    order = rival.order
    sorted_draws = replace(draws, **{name: getattr(draws, name)[:, :, order] for name in BY_PHASE})
    own, theirs = np.asarray(fitted.data.yields), np.asarray(rival.fitted.data.yields)[order]
    factor = np.ones(sorted_draws.weights.shape[2:])
    factor[:, : own.shape[1]] = own / theirs
    return replace(sorted_draws, weights=sorted_draws.weights * factor)
