"""What the model says of every tile of the map, draw by draw: the pointwise log-likelihood of leave-one-out.

The pieces that are left out are tiles, some 400 rectangles of the map: neighbouring pixels share grains, thickness and
what the model misses, and of a single pixel that is left out they would tell. The density is that of each photon's bin,
given how many photons a block of pixels has: totals are not modelled, and the same for all runs of the map. It is
relative to a tile whose pixels all have the tile's own mean spectrum. Bins, blocks, tiles and these spectra depend on
the map alone (`bayesunmix.data.map_bins`): runs with other declarations, whose fitted bins differ, give densities of
the same data.

The draws are those of the model at the best mode, before they are stretched, moved, rotated or mixed: leave-one-out
divides the likelihood of a tile out of the posterior, and only the model's own draws have it in. Counts that were set
aside are not in it. They are data all the same, and have a likelihood of their own beside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from bayesunmix.checks.expected_counts import acting_amounts, sum_spectra
from bayesunmix.checks.prior_density import log_prior
from bayesunmix.core.shares import NOTHING, shares_of
from bayesunmix.data.binning import BinnedCounts, bin_image
from bayesunmix.data.map_bins import data_hash, map_bins
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.line_model import DRAWS_AT_ONCE, line_spectra
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.preparation import Setup
from bayesunmix.fit.sampling import Drawn
from bayesunmix.forward.pixel_thickness import pixel_thickness
from bayesunmix.inference.sandwich import tile_labels
from bayesunmix.inference.tile_likelihood import MixtureDraws, tile_sums
from bayesunmix.models.endmember import FLOOR_SHARE
from bayesunmix.models.thickness import N_COLUMNS, ThicknessEffect, answered, counted

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

# About so many tiles, of at least so many blocks each.
N_TILES, LEAST_BLOCKS = 400, 4


@dataclass(frozen=True, kw_only=True)
class MapTiles:
    """A map's counts in tiles, blocks and bins that depend on nothing but the map.

    Attributes
    ----------
    counts : (cell, bin)
        Of every cell of the grid of blocks.
    aside : (cell, bin), optional
        Those of them that were set aside.
    label : (cell,)
        Tile of each cell; -1 where there are no counts.
    grid : (int, int)
        Cells down and across.
    side : int
        Of a cell in pixels.
    boundaries : (bin + 1,)
        First channel of each bin.
    """

    counts: IntArray
    aside: IntArray | None
    label: IntArray
    grid: tuple[int, int]
    side: int
    boundaries: IntArray

    @classmethod
    def of(cls, setup: Setup, boundaries: IntArray | None = None) -> MapTiles:
        """Cut a map into bins, blocks and tiles.

        Parameters
        ----------
        setup : Setup
        boundaries : (bin + 1,), optional
            First channel of each bin; those of the map by default.
        """
        limits = map_bins(setup.image) if boundaries is None else boundaries
        whole = bin_image(setup.image, limits, setup.blocks.block_side)
        across = int(whole.block_index[0, -1]) + 1
        grid = whole.n_blocks // across, across
        return cls(
            counts=whole.counts.astype(np.int64),
            aside=None if setup.aside is None else _aside(setup, whole, setup.aside),
            label=_labels(whole.total_counts > 0, grid),
            grid=grid,
            side=whole.block_side,
            boundaries=limits,
        )

    @property
    def number(self) -> int:
        """Number of tiles."""
        return int(self.label.max()) + 1

    @property
    def fitted(self) -> IntArray:
        """Counts that were not set aside, (cell, bin)."""
        return self.counts if self.aside is None else self.counts - self.aside

    @cached_property
    def by_tile(self) -> IntArray:
        """Counts of every tile, (tile, bin)."""
        return self.summed(self.counts)

    def summed(self, by_cell: IntArray) -> IntArray:
        """Sum counts (cell, bin) over the tiles, (tile, bin)."""
        found = np.zeros((self.number, by_cell.shape[1]), np.int64)
        held = self.label >= 0
        np.add.at(found, self.label[held], by_cell[held])
        return found

    @property
    def bounds(self) -> IntArray:
        """First row, row after the last, first column and column after the last of every tile in pixels, (tile, 4)."""
        row, column = np.divmod(np.arange(len(self.label)), self.grid[1])
        places = [np.flatnonzero(self.label == tile) for tile in range(self.number)]
        ends = [(row[p].min(), row[p].max() + 1, column[p].min(), column[p].max() + 1) for p in places]
        return self.side * np.array(ends, np.int64)

    @property
    def hash(self) -> str:
        """SHA-256 of what the likelihood is of: equal for runs whose likelihoods are of the same data."""
        return data_hash(self.boundaries, self.label, self.counts.sum(axis=1), self.by_tile)


def _labels(held: npt.NDArray[np.bool_], grid: tuple[int, int]) -> IntArray:
    """Tile of each cell of the grid; tiles cover what cells with counts cover."""
    place = np.flatnonzero(held)
    row, column = np.divmod(place, grid[1])
    row, column = row - row.min(), column - column.min()
    number = max(min(N_TILES, len(place) // LEAST_BLOCKS), 1)
    labels = tile_labels((int(row.max()) + 1, int(column.max()) + 1), number)[row, column]
    found = np.full(len(held), -1, np.int64)
    found[place] = np.unique(labels, return_inverse=True)[1]
    return found


def _aside(setup: Setup, whole: BinnedCounts, aside: npt.NDArray[np.bool_]) -> IntArray:
    """Add up the counts of the pixels that were set aside, (cell, bin)."""
    found = np.zeros(whole.counts.shape, np.int64)
    rows = np.flatnonzero(aside.any(axis=1))
    for part, band in setup.image.bands((int(rows[0]), int(rows[-1]) + 1)) if rows.size else ():
        binned = np.add.reduceat(band[aside[part]], whole.boundaries[:-1], axis=1, dtype=np.int64)
        np.add.at(found, whole.block_index[part][aside[part]], binned)
    return found


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
