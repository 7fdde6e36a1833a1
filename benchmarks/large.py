"""Time and memory against the size of the map, from the command line: simulated to disk, unmixed by Laplace.

Maps are the embedded phantom on square grids, 2048 channels, 100 counts a pixel. The picture ``large/large.png`` shows
what was measured and the straight line through it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench import BAYESUNMIX, FINISHED, GIGABYTE, Finished, Options, Row, last_line, run_program

SIDES = (64, 128, 256, 512)
QUICK_SIDES = (64, 128)
CHANNELS, COUNTS_PER_PIXEL = 2048, 100.0
MOST_SECONDS, MOST_GIGABYTES = 240.0, 6.0
# Times are on a line through all sizes when none is off it by more than this share.
LINEAR = 0.15


@dataclass(frozen=True)
class Measured:
    """One map: how it was made, where that was measured, and how it was unmixed."""

    side: int
    simulated: Finished | None
    unmixed: Finished
    timings: dict[str, float]

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.side**2


def rows(options: Options) -> list[Row]:
    """Rows of every size, and of the line through them."""
    folder = options.folder("large")
    found = [measure(side, folder) for side in (QUICK_SIDES if options.quick else SIDES)]
    return [*(size_row(one) for one in found), line_row(found, folder / "large.png")]


def line_row(found: list[Measured], path: Path) -> Row:
    """Draw time and memory against pixels, and say whether the times lie on a line."""
    line = straight_line(found)
    picture = draw(found, line, path)
    worst = max(
        abs(line[0] + line[1] * one.pixels - one.unmixed.cpu_seconds) / one.unmixed.cpu_seconds
        for one in found
    )
    measured = (
        f"{line[0]:.0f} s + {1e5 * line[1]:.1f} s for 100 000 pixels of processor time, at most {100 * worst:.0f} % "
        f"off; {picture.name} in --keep"
    )
    enough = len(found) > 2
    asked = f"linear: no size more than {100 * LINEAR:.0f} % off the line"
    return Row("time against pixels", asked, measured, bool(worst < LINEAR) if enough else None)


def measure(side: int, folder: Path) -> Measured:
    """Simulate a map to disk and unmix it.

    Raises
    ------
    RuntimeError
        If a command does not finish.
    """
    config, spectrum_image, out = (folder / f"{side}{ending}" for ending in (".toml", ".hspy", ""))
    config.write_text(toml_of(phantom(side)), encoding="utf-8")
    simulated = run_program((*BAYESUNMIX, "simulate", "--config", config, "--out", spectrum_image))
    if simulated.code not in FINISHED:
        raise RuntimeError(f"simulate {side}: exit {simulated.code}, {last_line(simulated.stderr)}")
    unmixed, timings = unmix(spectrum_image, config, out)
    spectrum_image.unlink()
    return Measured(side, simulated, unmixed, timings)


def unmix(spectrum_image: Path, config: Path, out: Path) -> tuple[Finished, dict[str, float]]:
    """Unmix a map by Laplace; return what it took, in all and by stage.

    Raises
    ------
    RuntimeError
        If it does not finish.
    """
    arguments = ("unmix", spectrum_image, "--config", config, "--out", out, "--method", "laplace")
    finished = run_program((*BAYESUNMIX, *arguments))
    if finished.code not in FINISHED:
        raise RuntimeError(f"unmix {out.name}: exit {finished.code}, {last_line(finished.stderr)}")
    record = json.loads((out / "run.json").read_text(encoding="utf-8"))
    return finished, record["timings"]


def phantom(side: int, channels: int = CHANNELS) -> dict[str, Any]:
    """Return the embedded phantom's configuration on a grid of this side."""
    from bayesunmix.simulation.phantom import phantom_config

    declared = phantom_config()
    plan = dataclasses.replace(
        declared.simulate, shape=(side, side), channels=channels, counts_per_pixel=COUNTS_PER_PIXEL
    )
    return dataclasses.replace(declared, simulate=plan).to_dict()


def toml_of(config: dict[str, Any]) -> str:
    """Write a configuration's nested dictionaries as TOML."""
    lines = []
    for name, table in config.items():
        for part in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {_value(value)}" for key, value in part.items()]
    return "\n".join(lines) + "\n"


def _value(value: object) -> str:
    """Write one value; tables become inline ones, all else is written in TOML as in JSON."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


def size_row(one: Measured) -> Row:
    """Time and memory of one size; only the largest is asked about."""
    unmixed, simulated = one.unmixed, one.simulated
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in one.timings.items())
    peak = unmixed.peak_bytes / GIGABYTE
    made = ""
    if simulated is not None:
        made = f"; simulated in {simulated.seconds:.1f} s and {simulated.peak_bytes / GIGABYTE:.2f} GB"
    asked = one.side == SIDES[-1]
    return Row(
        f"{one.side} x {one.side} x {CHANNELS}, Laplace",
        f"at most {MOST_SECONDS:.0f} s and {MOST_GIGABYTES:.0f} GB" if asked else "",
        f"{unmixed.seconds:.1f} s ({unmixed.cpu_seconds:.0f} s of processor time; {stages}), {peak:.2f} GB{made}",
        bool(unmixed.seconds <= MOST_SECONDS and peak <= MOST_GIGABYTES) if asked else None,
    )


def straight_line(found: list[Measured]) -> tuple[float, float]:
    """Processor time at no pixels and per pixel: least squares of the relative error."""
    pixels, seconds = (
        np.array(v, float) for v in zip(*((m.pixels, m.unmixed.cpu_seconds) for m in found), strict=True)
    )
    design = np.stack([np.ones_like(pixels), pixels], axis=1) / seconds[:, None]
    constant, slope = np.linalg.lstsq(design, np.ones_like(pixels), rcond=None)[0]
    return float(constant), float(slope)


def draw(found: list[Measured], line: tuple[float, float], path: Path) -> Path:
    """Draw processor time, which other programs disturb least, and memory against pixels."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    pixels = np.array([one.pixels for one in found]) / 1e3
    left.plot(pixels, [one.unmixed.cpu_seconds for one in found], "o", color="#0072B2", label="measured")
    reach = np.array([0.0, pixels.max()])
    left.plot(reach, line[0] + 1e3 * line[1] * reach, color="#0072B2", linewidth=0.8, label="straight line")
    right.plot(
        pixels, [one.unmixed.peak_bytes / GIGABYTE for one in found], "o", color="#0072B2", label="unmix"
    )
    made = [one.simulated for one in found if one.simulated is not None]
    if len(made) == len(found):
        peaks = [one.peak_bytes / GIGABYTE for one in made]
        right.plot(pixels, peaks, "s", color="#D55E00", mfc="none", label="simulate")
    for axes, label in ((left, "Laplace, s of processor time"), (right, "largest memory, GB")):
        axes.set(xlabel="pixels, thousands", ylabel=label, xlim=(0.0, None), ylim=(0.0, None))
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    return path
