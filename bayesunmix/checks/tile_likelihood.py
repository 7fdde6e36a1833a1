"""What the model says of every tile of the map, draw by draw: the pointwise log-likelihood of leave-one-out.

The pieces that are left out are tiles, some 400 rectangles of the map: neighbouring pixels share grains, thickness and
what the model misses, and of a single pixel that is left out they would tell. The density is that of each photon's bin,
given how many photons a block of pixels has: totals are not modelled, and the same for all runs of the map. It is
relative to a tile whose pixels all have the tile's own mean spectrum. Bins, blocks, tiles and these spectra depend on
the map alone (`bayesunmix.data.map_bins`): runs with other declarations, whose fitted bins differ, give densities of
the same data.

The draws are those of the model at the best mode, before they are stretched, moved, rotated or mixed: leave-one-out
divides the likelihood of a tile out of the posterior, and only the model's own draws have it in. Counts that were set
aside are not in it. They are data all the same, and have a likelihood of their own beside. Pixels that are declared to
hold a phase alone are judged like all others, so that runs with and without that declaration compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from bayesunmix.checks.expected_counts import acting_amounts, sum_spectra
from bayesunmix.checks.map_tiles import MapTiles
from bayesunmix.checks.prior_density import log_prior
from bayesunmix.core.shares import NOTHING, shares_of
from bayesunmix.data.binning import BinnedCounts
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.line_model import DRAWS_AT_ONCE, line_spectra
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import Setup
from bayesunmix.forward.pixel_thickness import pixel_thickness
from bayesunmix.inference.tile_likelihood import MixtureDraws, tile_sums
from bayesunmix.models.endmember import FLOOR_SHARE
from bayesunmix.models.thickness import N_COLUMNS, ThicknessEffect, answered, counted

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class TileLikelihood:
    """Log-likelihood of every tile at every draw, in nats, relative to the tile's mean spectrum in its pixels.

    Attributes
    ----------
    fitted : (chain, draw, tile)
        Of the counts that the endmembers were fitted to.
    aside : (chain, draw, tile), optional
        Of those that were set aside.
    aside_counts : (tile,)
        How many these are.
    counts : (tile, bin)
        All counts of the tiles.
    bounds : (tile, 4)
        First row, row after the last, first column, column after the last, in pixels.
    edges_keV : (bin + 1,)
    hash : str
        Equal for runs whose likelihoods are of the same data.
    replicates : (chain, draw, bin)
        Sum spectra drawn anew, given the counts of each block and the posterior of its abundances.
    log_prior : dict of str to (chain, draw)
        Log density of the priors, part by part, from `bayesunmix.checks.prior_density`.
    """

    fitted: FloatArray
    aside: FloatArray | None
    aside_counts: IntArray
    counts: IntArray
    bounds: IntArray
    edges_keV: FloatArray
    hash: str
    replicates: IntArray
    log_prior: dict[str, FloatArray]


def tile_likelihood(
    setup: Setup,
    fitted: FittedPosterior,
    drawn: Drawn,
    seed: int = 0,
    progress: Callable[[float], None] = lambda _: None,
    boundaries: IntArray | None = None,
) -> TileLikelihood | None:
    """Log-likelihood of a map's tiles at draws of the line model; None where there are none, or but a point.

    Parameters
    ----------
    setup, fitted, drawn
        Of the run, with the draws as the engine made them.
    seed : int
        Of the replicates.
    progress : callable
        Told the share that is done.
    boundaries : (bin + 1,), optional
        First channel of each bin; those of the map by default.
    """
    if drawn.z is None or drawn.z.shape[0] * drawn.z.shape[1] < 2:
        return None
    tiles = MapTiles.of(setup, boundaries)
    edges = setup.image.channel_edges_keV[tiles.boundaries]
    effect = _effect(setup, fitted, tiles, edges)
    spectra = _spectra(line_spectra(setup, fitted, edges), drawn.draws)
    mixture = _mixture(spectra, fitted, drawn.draws, drawn.z, effect)
    shape, own_mean = drawn.z.shape[:2], np.log(np.maximum(shares_of(tiles.by_tile), NOTHING))
    common = np.log(shares_of(tiles.by_tile.sum(axis=0) + 1.0))

    expected = np.zeros((len(spectra), len(common)))

    def likelihood(part: IntArray, relative: FloatArray, told: Callable[[float], None]) -> FloatArray:
        nonlocal expected
        held = np.flatnonzero(part.sum(axis=1) > 0)
        totals = part[held].sum(axis=1).astype(np.float64)
        found, amounts = tile_sums(
            counted(part[held], relative, effect),
            acting_amounts(totals, relative),
            tiles.label[held],
            tiles.number,
            np.concatenate([common, np.zeros(N_COLUMNS)]),
            mixture,
            told,
        )
        expected += sum_spectra(amounts, spectra, fitted, effect, drawn.draws)
        found -= (tiles.summed(part) * (own_mean - common)).sum(axis=1)
        return found.reshape(*shape, tiles.number)

    share = 1.0 if tiles.aside is None else 0.9
    fit = likelihood(tiles.fitted, setup.thickness.blocks, lambda done: progress(share * done))
    aside, counts_aside = None, np.zeros(tiles.number, np.int64)
    if tiles.aside is not None:
        by_cell = np.zeros(len(tiles.label))
        by_cell[setup.blocks.block_index.ravel()] = setup.thickness.pixels
        relative = by_cell[tiles.aside.sum(axis=1) > 0]
        aside = likelihood(tiles.aside, relative, lambda done: progress(share + (1.0 - share) * done))
        counts_aside = tiles.summed(tiles.aside).sum(axis=1)
    return TileLikelihood(
        fitted=fit,
        aside=aside,
        aside_counts=counts_aside,
        counts=tiles.by_tile,
        bounds=tiles.bounds,
        edges_keV=edges,
        hash=tiles.hash,
        replicates=_replicates(expected, int(tiles.by_tile.sum()), seed).reshape(*shape, -1),
        log_prior=log_prior(fitted, drawn.z),
    )


def _replicates(expected: FloatArray, total: int, seed: int) -> IntArray:
    """Draw spectra of so many counts, (draw, bin)."""
    generator = np.random.default_rng([seed, 73])
    return np.stack([generator.multinomial(total, shares_of(one)) for one in expected]).astype(np.int64)


def _effect(setup: Setup, fitted: FittedPosterior, tiles: MapTiles, edges_keV: FloatArray) -> ThicknessEffect:
    """How thickness acts on spectra in the bins of the tiles."""
    counts = BinnedCounts(
        counts=tiles.counts.astype(np.uint64),
        block_index=setup.blocks.block_index,
        block_side=tiles.side,
        boundaries=tiles.boundaries,
        edges_keV=edges_keV,
        mask=setup.image.mask,
    )
    forward = replace(setup.forward, edges_keV=edges_keV)
    acting = pixel_thickness(counts, forward, setup.spectrum, setup.mean_composition)
    return fitted.data.effect._replace(
        absorption_slope=acting.absorption_slope, stray_share=acting.stray_share
    )


def _spectra(
    spectra_of: Callable[[FloatArray, FloatArray, FloatArray], FloatArray], draws: Draws
) -> FloatArray:
    """Endmembers of all draws, (draw, phase, bin)."""
    flat = [
        values.reshape(-1, *values.shape[2:])
        for values in (draws.family_counts, draws.continuum, draws.line_shapes)
    ]
    batches = (slice(i, i + DRAWS_AT_ONCE) for i in range(0, len(flat[0]), DRAWS_AT_ONCE))
    spectra = np.concatenate([spectra_of(*(part[batch] for part in flat)) for batch in batches])
    # As the model has it, so that no bin is impossible.
    return shares_of(spectra + FLOOR_SHARE / spectra.shape[-1])


def _mixture(
    spectra: FloatArray,
    fitted: FittedPosterior,
    draws: Draws,
    z: FloatArray,
    effect: ThicknessEffect,
) -> MixtureDraws:
    """Read spectra and weights of the support points off draws."""
    prior = fitted.data.prior
    points = np.asarray(prior.support_points)
    scale, exponent = draws.absorption_scale.ravel(), draws.stray_exponent.ravel()
    xi = z.reshape(-1, z.shape[-1])[:, fitted.model.places["abundance_xi"]]

    def log_spectra(draw: int) -> FloatArray:
        mixed = points @ spectra[draw]
        return np.asarray(answered(mixed, points, effect, float(scale[draw]), float(exponent[draw])))

    return MixtureDraws(log_spectra, log_softmax(prior.mean + xi @ np.asarray(prior.factor).T, axis=1))
