"""A prepared run without the counts of some pixels: what the endmembers are fitted to where a map holds more.

Blocks lose the counts of the pixels that are set aside, exactly, since they are sums; a block that keeps none is gone.
Energy axis, line shapes and physics stay those of the whole map, and so do the pixels whose abundances are asked for.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bayesunmix.core.disk_array import pieces
from bayesunmix.data.counts import compact_counts
from bayesunmix.fit.setup import Setup, block_positions, used_rows
from bayesunmix.forward.pixel_thickness import pixel_thickness

Mask = npt.NDArray[np.bool_]


def without_pixels(setup: Setup, aside: Mask) -> Setup:
    """Return a run whose endmembers are fitted without some pixels.

    Parameters
    ----------
    setup : Setup
        Of which nothing has been set aside yet.
    aside : (y, x) bool
        Pixels that go.
    """
    blocks, (positions, (down, across)) = setup.blocks, block_positions(setup)
    left = np.zeros((down * across, blocks.n_bins), np.int64)
    left[positions] = blocks.counts
    rows, cell = used_rows(setup.pixel_counts, aside), blocks.block_index[aside]
    for part in pieces(rows, np.int64):
        np.subtract.at(left, cell[part], rows[part].astype(np.int64))
    counts = compact_counts(left.astype(np.uint64))
    left_out = aside if blocks.mask is None else aside | blocks.mask
    whole = replace(blocks, counts=counts, mask=left_out)
    relative = pixel_thickness(whole, setup.forward, setup.spectrum, setup.mean_composition).blocks
    return replace(
        setup,
        blocks=replace(whole, counts=counts[whole.total_counts > 0]),
        thickness=replace(setup.thickness, blocks=relative),
        aside=aside,
    )
