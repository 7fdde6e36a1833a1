"""Lay a map side by side with itself and save it, piece by piece: ``python tiled.py MAP TIMES OUT``.

A program of its own: the process that measures memory must stay small (`bench.run_program`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import dask.array as da
import hyperspy.api as hs
import numpy as np

# Rows and columns of a chunk.
CHUNK = (32, 256)


def tiled(tile: Path, times: int, out: Path) -> None:
    """Lay a map side by side with itself, so many times along both sides, as 16-bit counts."""
    signal: Any = hs.load(str(tile))
    chunks = (*CHUNK, signal.data.shape[-1])
    counts = da.from_array(signal.data.astype(np.uint16), chunks=chunks)
    made = signal.as_lazy()
    made.data = da.tile(counts, (times, times, 1)).rechunk(chunks)
    for axis, size in zip(made.axes_manager.navigation_axes, made.data.shape[1::-1], strict=True):
        axis.size = size
    made.save(str(out), overwrite=True, chunks=chunks, show_progressbar=False)


if __name__ == "__main__":
    tiled(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
