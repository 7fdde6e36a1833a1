"""A batch of small maps, two of them broken: killed, started again, and by two workers beside one.

Three chemistries in two formats. First a worker alone is killed, then the whole process group; the second call must
finish what is left, name the two that cannot be unmixed, and compute nothing twice. Throughput is that of further maps
of the same kinds, by one worker and by two, in this run; programs are compiled before.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
from bench import BAYESUNMIX, Options, Row, last_line, run_program

HEAD = """\
[sample]
elements = [{elements}]
thickness_nm = [100, 30]
density_g_cm3 = [4.5, 0.5]
[simulate]
shape = [16, 16]
counts_per_pixel = 300.0
[inference]
method = "map"
"""
PHASE = """\
[[phases]]
name = "{name}"
matrix = {matrix}
absent = [{absent}]
composition = {{{composition}}}
fraction = {fraction}
"""
# Two phases each: the name, what it does not hold, and its composition.
CHEMISTRIES = {
    "mantle": (("Brg", "", "Mg = 0.5, Si = 0.5"), ("Fp", '"Si"', "Mg = 0.8, Fe = 0.2")),
    "alloy": (("gamma", '"Al"', "Ni = 0.6, Cr = 0.4"), ("gamma prime", '"Cr"', "Ni = 0.75, Al = 0.25")),
    "sulfide": (("pyrrhotite", '"Ni"', "Fe = 0.5, S = 0.5"), ("millerite", '"Fe"', "Ni = 0.5, S = 0.5")),
}
FORMATS = ("hspy", "zspy")
MAPS, QUICK_MAPS = 24, 8
LONGEST_SECONDS = 3600.0
FEWEST_TIMES = 1.7


@dataclass(frozen=True)
class Killed:
    """What a batch had finished when it was killed, with the time of each result."""

    finished: dict[str, int]
    workers: int


def rows(options: Options) -> list[Row]:
    """Return the rows of a killed batch, and of the throughput of two workers."""
    folder = options.folder("batch")
    n_maps = QUICK_MAPS if options.quick else MAPS
    _write_maps(folder, n_maps)
    return [_killed_and_resumed(folder, n_maps), _throughput(folder, n_maps)]


def _write_maps(folder: Path, n_maps: int) -> None:
    """Simulate the maps, break two of them, and write the tables."""
    for name, phases in CHEMISTRIES.items():
        elements = dict.fromkeys(part.split(" = ")[0] for _, _, text in phases for part in text.split(", "))
        text = HEAD.format(elements=", ".join(f'"{element}"' for element in elements))
        for place, (phase, absent, composition) in enumerate(phases):
            text += PHASE.format(
                name=phase,
                matrix="true" if place == 0 else "false",
                absent=absent,
                composition=composition,
                fraction=(0.8, 0.2)[place],
            )
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
        for kind in FORMATS:
            target = f"{name}.{kind}"
            made = run_program(
                (*BAYESUNMIX, "simulate", "--config", f"{name}.toml", "--out", target), cwd=folder
            )
            if made.code != 0:
                raise RuntimeError(f"{target} could not be simulated: {made.stderr}")
    good = [(f"{name}.{kind}", f"{name}.toml") for kind in FORMATS for name in CHEMISTRIES]
    (folder / "short.hspy").write_bytes((folder / "mantle.hspy").read_bytes()[:20_000])
    wrong = (folder / "mantle.toml").read_text(encoding="utf-8").replace('"Fe"]', '"Xx"]')
    (folder / "wrong.toml").write_text(wrong, encoding="utf-8")
    _write_table(folder / "warm.csv", good[:3])
    _write_table(folder / "speed.csv", [good[place % len(good)] for place in range(n_maps)])
    pairs = [good[place % len(good)] for place in range(n_maps - 2)]
    pairs[1:1] = [("short.hspy", "mantle.toml"), ("mantle.hspy", "wrong.toml")]
    _write_table(folder / "table.csv", pairs)


def _write_table(path: Path, pairs: list[tuple[str, str]]) -> None:
    """Write a table: the seed, which makes every run another, is the number of the row."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["map", "config", "name", "seed", "pressure_GPa"])
        table.writerows([*pair, f"m{place:02d}", place, 10 + place] for place, pair in enumerate(pairs))


def _killed_and_resumed(folder: Path, n_maps: int) -> Row:
    """Return the row of a batch that is killed and called again."""
    what = f"{n_maps} maps, two broken; a worker killed, then all of it; called again"
    asked = f"{n_maps - 2} results, two named reasons, none computed twice"
    command = (*BAYESUNMIX, "batch", "table.csv", "--out", "all", "--workers", "2")
    killed = _killed(command, folder, n_maps // 3)
    again = run_program(command, cwd=folder)
    if again.code != 1:
        return Row(what, asked, f"exit {again.code}: {last_line(again.stderr)}", False)
    found = json.loads((folder / "all" / "batch.json").read_text(encoding="utf-8"))["maps"]
    done = [one["name"] for one in found if one["status"] == "done"]
    failed = [f"{one['name']}: {one['reason'][:60]}..." for one in found if one["status"] == "failed"]
    twice = [
        name for name, when in _finished(folder / "all").items() if killed.finished.get(name, when) != when
    ]
    measured = (
        f"{len(killed.finished)} finished when {killed.workers} workers and all were killed, then {len(done)} results, "
        f"{len(failed)} reasons ({'; '.join(failed)}), {len(twice)} computed twice"
    )
    return Row(what, asked, measured, len(done) == n_maps - 2 and len(failed) == 2 and not twice)


def _finished(out: Path) -> dict[str, int]:
    """Return when each map was finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in out.glob("*/run.json")}


def _killed(command: tuple[str, ...], folder: Path, enough: int) -> Killed:
    """Start a batch, kill a worker after the first result, and everything after some more.

    Raises
    ------
    RuntimeError
        If the batch ended before it could be killed.
    """
    victims = 0
    with (folder / "killed.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, start_new_session=True)
        begin = time.monotonic()
        while len(_finished(folder / "all")) < enough and time.monotonic() - begin < LONGEST_SECONDS:
            if not victims and _finished(folder / "all"):
                workers = [child for child in psutil.Process(process.pid).children() if _spawned(child)]
                workers[0].kill()
                victims = 1
            if process.poll() is not None:
                raise RuntimeError(f"the batch ended with {process.returncode} before it was killed")
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Killed(_finished(folder / "all"), victims)


def _spawned(process: psutil.Process) -> bool:
    """Whether a process is a worker, and no tracker of what processes share."""
    return "spawn_main" in " ".join(process.cmdline())


def _throughput(folder: Path, n_maps: int) -> Row:
    """Return the row of two workers beside one, on maps whose programs are compiled.

    A worker imports for some seconds before its first map, so that few maps do not tell.
    """
    seconds, cpu = {}, {}
    run_program((*BAYESUNMIX, "batch", "warm.csv", "--out", "warm", "--workers", "1"), cwd=folder)
    for workers in (1, 2):
        command = (*BAYESUNMIX, "batch", "speed.csv", "--out", f"by{workers}", "--workers", str(workers))
        ran = run_program(command, cwd=folder)
        if ran.code not in (0, 3):
            return Row("throughput", "runs", f"exit {ran.code}: {last_line(ran.stderr)}", False)
        seconds[workers], cpu[workers] = ran.seconds, ran.cpu_seconds
    times = seconds[1] / seconds[2]
    took = f"{seconds[1]:.0f} s and {seconds[2]:.0f} s; processor {cpu[1]:.0f} s and {cpu[2]:.0f} s"
    measured = f"{times:.2f} times ({took})"
    return Row(
        f"{n_maps} maps by two workers over one",
        f"at least {FEWEST_TIMES} times",
        measured,
        times >= FEWEST_TIMES,
    )
