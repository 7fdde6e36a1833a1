"""A map's counts in tiles, blocks and bins that depend on nothing but the map."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bayesunmix.data.binning import BinnedCounts, bin_image
from bayesunmix.data.map_bins import data_hash, map_bins
from bayesunmix.fit.setup import Setup
from bayesunmix.inference.sandwich import tile_labels

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
