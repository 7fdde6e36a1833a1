"""The 71 GPa map and a simulated one of 512 x 512 x 2048 on whatever JAX sees, stage by stage beside the CPU.

    python benchmarks/gpu.py [--data FOLDER] [--side PIXELS] [--json FILE] [--keep FOLDER]

Each map is unmixed twice by Laplace in one process for each kind of device: the first time compiles, the second shows
what the device itself takes. A value and gradient of the potential is two matrix products (`watched_worker`), and its
share of the rate at which the device multiplies square matrices says how well it is used.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pages
import pandas as pd
from bench import GIGABYTE, Options, last_line, run_program
from large import CHANNELS, phantom, toml_of
from machine import Machine
from real_map import CONFIG, MAP
from timed import STAGES, Checkout, Stage, Timed, environment, timed, watched

PROBE = "import jax, json; print(json.dumps([jax.default_backend(), [str(d.device_kind) for d in jax.devices()]]))"
SIDE = 512
CPU = "cpu"
TIMES = ("first", "again")


@dataclass(frozen=True)
class Ran:
    """A map on one kind of device.

    Parameters
    ----------
    platform
        What JAX calls it.
    answer
        Of `watched_worker`.
    first, again
        The run that compiles and the one that need not, which share a process.
    """

    platform: str
    answer: dict[str, Any]
    first: Timed
    again: Timed

    @property
    def share(self) -> float:
        """Share of the devices' matrix rate that a value and gradient reaches; the devices of a CPU share its cores."""
        number = 1 if self.platform == CPU else len(self.answer["devices"])
        gradient = self.answer["gradient"]
        return float(gradient["flop"] / gradient["seconds"] / (number * self.answer["rate"]))

    def plain(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        stages = {
            name: {stage: dataclasses.asdict(cost) for stage, cost in one.stages.items()}
            for name, one in zip(TIMES, (self.first, self.again), strict=True)
        }
        return {"platform": self.platform, "gradient_share": self.share, "stages": stages, **self.answer}


def platforms() -> tuple[str, list[str]]:
    """Return what JAX computes on if nobody says otherwise, and the devices.

    Raises
    ------
    RuntimeError
        If JAX does not start.
    """
    probe = run_program((sys.executable, "-P", "-c", PROBE), env=environment(None))
    if probe.code != 0:
        raise RuntimeError(f"JAX does not start: {last_line(probe.stderr)}")
    platform, devices = json.loads(last_line(probe.stdout))
    return platform, devices


def unmixed(spectrum_image: Path, config: Path, platform: str, work: Path) -> Ran:
    """Unmix a map twice on one kind of device."""
    outs = [work / f"{spectrum_image.stem}-{platform}-{name}" for name in TIMES]
    arguments = ("unmix", spectrum_image, "--config", config, "--method", "laplace", "--out")
    job = {"commands": [[str(part) for part in (*arguments, out)] for out in outs], "rates": True}
    # A card's memory is taken as it is needed, so that its peak says something.
    chosen = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | ({"JAX_PLATFORMS": CPU} if platform == CPU else {})
    programs = work / f"{spectrum_image.stem}-{platform}-programs"
    program, answer = watched(job, programs, **chosen)
    return Ran(platform, answer, *(Timed(program, out) for out in outs))


def stage_table(runs: Sequence[Ran]) -> str:
    """Write the seconds of each stage on each kind of device."""
    columns = [(run, name, getattr(run, name).stages) for run in runs for name in TIMES]
    headings = ["stage, wall time in s", *(f"{run.platform}, {name}" for run, name, _ in columns)]
    rows = [
        [title.rstrip(" ("), *(_seconds(stages.get(stage)) for *_, stages in columns)]
        for stage, title in STAGES.items()
        if any(stage in stages for *_, stages in columns)
    ]
    wholes = [one["seconds"] for run in runs for one in run.answer["commands"]]
    return pages.table(headings, [*rows, ["in all", *(f"{seconds:.1f}" for seconds in wholes)]])


def _seconds(stage: Stage | None) -> str:
    return "" if stage is None else f"{stage.seconds:.2f}"


def gradient_table(runs: Sequence[Ran]) -> str:
    """Write the rate of each kind of device and the gradient's share of it."""
    headings = (
        "devices",
        "float32 product, TFLOP/s",
        "in full single precision",
        "value and gradient, MFLOP",
        "ms",
        "share of the rate",
        "peak on the device, GB",
    )
    rows = []
    for run in runs:
        answer, gradient = run.answer, run.answer["gradient"]
        peak = answer["device_peak_bytes"]
        rows.append(
            [
                ", ".join(answer["devices"]),
                *(f"{answer[rate] / 1e12:.3g}" for rate in ("rate", "full_rate")),
                f"{gradient['flop'] / 1e6:.0f}",
                f"{1e3 * gradient['seconds']:.3g}",
                f"{100 * run.share:.1f} %",
                "" if peak is None else f"{peak / GIGABYTE:.2f}",
            ]
        )
    return pages.table(headings, rows)


def largest_move(one: Path, other: Path) -> str:
    """Say by how much the medians of two results' compositions differ at most, in half widths of their intervals."""
    keys = ["phase", "element"]
    both = pd.read_csv(one / "composition.csv").merge(
        pd.read_csv(other / "composition.csv"), on=keys, suffixes=("", "_other")
    )
    half = (both["upper"] - both["lower"]) / 2.0
    moves = ((both["median"] - both["median_other"]).abs() / half).where(half > 0.0)
    worst = both.loc[moves.idxmax(), keys]
    return f"{moves.max():.2g} half widths of the interval ({worst['element']} of {worst['phase']})"


@click.command(help=__doc__.split("\n\n")[0])
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="BAYESUNMIX_BENCHMARK_DATA",
    help="Folder with the 71 GPa map, which is left out without it [env: BAYESUNMIX_BENCHMARK_DATA].",
)
@click.option(
    "--side", type=click.IntRange(8), default=SIDE, help=f"Of the simulated map, in pixels [{SIDE}]."
)
@click.option(
    "--json", "out", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures there, too."
)
@click.option("--keep", type=click.Path(path_type=Path), help="Keep what the runs write in this new folder.")
def main(data: Path | None, side: int, out: Path | None, keep: Path | None) -> None:
    """Unmix both maps on every kind of device that is there, and print the tables."""
    platform, devices = platforms()
    chosen = [CPU] if platform == CPU else [platform, CPU]
    click.echo(str(Machine.here()))
    if platform == CPU:
        click.echo(
            f"JAX sees no accelerator here (devices: {', '.join(devices)}): these are the CPU's figures."
        )
    else:
        click.echo(f"JAX sees {', '.join(devices)} ({platform}).")
    plain: dict[str, Any] = {
        "machine": dataclasses.asdict(Machine.here()),
        "accelerator": None if platform == CPU else platform,
        "devices": devices,
        "maps": {},
    }
    with tempfile.TemporaryDirectory(prefix="bayesunmix-gpu-") as temporary:
        work = Path(temporary if keep is None else keep).resolve()
        work.mkdir(parents=True, exist_ok=True)
        for title, spectrum_image, config in maps(data, side, work):
            runs = [unmixed(spectrum_image, config, one, work) for one in chosen]
            click.echo(f"\n## {title}\n\n{stage_table(runs)}\n\n{gradient_table(runs)}")
            if len(runs) > 1:
                click.echo(
                    f"\nCompositions differ by at most {largest_move(*(run.again.out for run in runs))}."
                )
            plain["maps"][title] = [run.plain() for run in runs]
            if out is not None:
                out.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")


def maps(data: Path | None, side: int, work: Path) -> list[tuple[str, Path, Path]]:
    """Return what each map is called, its file and its configuration; the simulated one is made."""
    found = []
    if data is not None:
        found.append(("The 71 GPa map", Options(data.resolve(), work).file(MAP), CONFIG))
    config, spectrum_image = work / "phantom.toml", work / "phantom.hspy"
    config.write_text(toml_of(phantom(side)), encoding="utf-8")
    timed(("simulate", "--config", config), spectrum_image, Checkout.installed(), work / "programs")
    return [*found, (f"{side} x {side} x {CHANNELS}, simulated", spectrum_image, config)]


if __name__ == "__main__":
    main()
