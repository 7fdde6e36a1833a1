"""The file of joint draws of all pixels, for those who compute with them elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import h5netcdf
import h5py
import numpy as np

from bayesunmix.analysis.joint_draws import joint_draws
from bayesunmix.core.whole_file import check_space

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

FILE = "pixel_draws.nc"
# Of a number in the file.
_BYTES = 4


def write_pixel_draws(result: Result, folder: Path) -> None:
    """Write draws of the abundance of every pixel, (chain, draw, phase, y, x), one draw after the other.

    Each pixel is drawn as `Result.abundances` has it, with what neighbours share where they are heard.

    Parameters
    ----------
    result
        Whose configuration says how many draws.
    folder
        Where the file is written.

    Raises
    ------
    InputError
        If the map is not there.
    OSError
        If the disk does not take the file.
    """
    source = joint_draws(result).thinned(result.record.config.output.pixel_draws_number)
    used = source.used
    chains, draws = source.shape
    shape = (chains, draws, len(result.phases), *used.shape)
    check_space(folder / FILE, _BYTES * int(np.prod(shape)))
    with h5netcdf.File(folder / FILE, "w") as file:
        file.dimensions = dict(zip(("chain", "draw", "phase", "y", "x"), shape, strict=True))
        for name in ("chain", "draw"):
            file.create_variable(name, (name,), data=np.asarray(source.stored[name].values))
        names = np.array(result.phases, dtype=h5py.string_dtype())
        file.create_variable("phase", ("phase",), h5py.string_dtype())[:] = names
        chunks = (1, 1, *shape[2:])
        variable = file.create_variable(
            "abundance",
            ("chain", "draw", "phase", "y", "x"),
            np.float32,
            chunks=chunks,
            compression="gzip",
            compression_opts=1,
            shuffle=True,
            fillvalue=np.float32(np.nan),
        )
        pixels = np.flatnonzero(used)
        with source.threads(len(pixels)):
            for number, one in enumerate(source.draws(pixels, "map")):
                grid = np.full((len(result.phases), used.size), np.nan, np.float32)
                grid[:, pixels] = one.abundance.T
                variable[divmod(number, draws)] = grid.reshape(shape[2:])
