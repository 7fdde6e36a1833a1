"""Maps that do not fit into memory: time and memory against pixels under a limit, up to 2048 x 2048 x 1024.

A simulated map of 256 x 256 pixels is laid side by side, as 16-bit counts in chunks of 32 x 256 pixels, and unmixed by
Laplace with ``memory_limit_GB``. The picture ``streamed/streamed.png`` shows what was measured and the straight line
through it. The largest map takes 0.3 GB on disk as it is stored and 6 GB while it is unmixed.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import large
from bench import BAYESUNMIX, FINISHED, GIGABYTE, Options, Row, last_line, run_program

TILE = 256
SIDES = (256, 512, 1024, 2048)
QUICK_SIDES = (256, 512)
CHANNELS = 1024
LIMIT_GB = 4.0
TILED = Path(__file__).with_name("tiled.py")


def rows(options: Options) -> list[Row]:
    """Rows of every size, and of the line through them."""
    folder = options.folder("streamed")
    tile = simulated(folder)
    found = [measure(side, tile, folder) for side in (QUICK_SIDES if options.quick else SIDES)]
    return [*(size_row(one) for one in found), large.line_row(found, folder / "streamed.png")]


def simulated(folder: Path) -> Path:
    """Simulate the map that the larger ones are made of.

    Raises
    ------
    RuntimeError
        If that does not finish.
    """
    config, tile = folder / "tile.toml", folder / "tile.hspy"
    config.write_text(large.toml_of(large.phantom(TILE, CHANNELS)), encoding="utf-8")
    _finished((*BAYESUNMIX, "simulate", "--config", config, "--out", tile, "--overwrite"))
    return tile


def measure(side: int, tile: Path, folder: Path) -> large.Measured:
    """Lay tiles side by side on disk and unmix them under the limit.

    Raises
    ------
    RuntimeError
        If a command does not finish.
    """
    config, spectrum_image, out = folder / f"{side}.toml", folder / f"{side}.zspy", folder / str(side)
    declared = {**large.phantom(side, CHANNELS), "compute": {"memory_limit_GB": LIMIT_GB}}
    config.write_text(large.toml_of(declared), encoding="utf-8")
    # In a process of its own: this one is to stay small.
    _finished((sys.executable, TILED, tile, str(side // TILE), spectrum_image))
    unmixed, timings = large.unmix(spectrum_image, config, out)
    shutil.rmtree(spectrum_image)
    return large.Measured(side, None, unmixed, timings)


def size_row(one: large.Measured) -> Row:
    """Time and memory of one size."""
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.timings.items())
    peak = one.unmixed.peak_bytes / GIGABYTE
    return Row(
        f"{one.side} x {one.side} x {CHANNELS}, Laplace, limit {LIMIT_GB:.0f} GB",
        f"at most {LIMIT_GB:.0f} GB",
        f"{one.unmixed.seconds:.1f} s ({one.unmixed.cpu_seconds:.0f} s of processor time; {stages}), {peak:.2f} GB",
        bool(peak <= LIMIT_GB),
    )


def _finished(arguments: tuple[str | Path, ...]) -> None:
    done = run_program(arguments)
    if done.code not in FINISHED:
        raise RuntimeError(f"{arguments[-1]}: exit {done.code}, {last_line(done.stderr)}")
