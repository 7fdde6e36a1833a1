"""A kill during NUTS, then --resume: finished stages are used, and the answer is that of an undisturbed run."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

from bench import BAYESUNMIX, FINISHED, Options, Row, last_line, run_program

CONFIG = """\
[sample]
elements = ["Mg", "Al", "Si", "Ca", "Fe"]
stray = ["Cu"]
thickness_nm = [100, 30]
density_g_cm3 = [4.5, 0.3]
[simulate]
shape = [24, 24]
counts_per_pixel = 150.0
[[phases]]
name = "A"
matrix = true
composition = {Mg = 0.45, Al = 0.05, Si = 0.5}
fraction = 0.8
[[phases]]
name = "B"
absent = ["Si"]
composition = {Mg = 0.7, Ca = 0.1, Fe = 0.2}
fraction = 0.2
[inference]
draws = 300
warmup = 300
"""
BEFORE_NUTS = ("starts", "mode")
# NUTS compiles for some seconds, then samples; a kill this long after the last stage falls inside it.
SECONDS_INTO_NUTS = 3.0
LONGEST_SECONDS = 300.0


def rows(options: Options) -> list[Row]:
    """Return the row of a killed run."""
    folder = options.folder("resume")
    (folder / "run.toml").write_text(CONFIG, encoding="utf-8")
    made = run_program((*BAYESUNMIX, "simulate", "--config", "run.toml", "--out", "map.hspy"), cwd=folder)
    if made.code != 0:
        raise RuntimeError(f"the map could not be simulated: {made.stderr}")
    command = (*BAYESUNMIX, "unmix", "map.hspy", "--config", "run.toml", "--out")
    whole = run_program((*command, "whole"), cwd=folder)
    if whole.code not in FINISHED:
        raise RuntimeError(f"the undisturbed run ended with {whole.code}: {last_line(whole.stderr)}")
    kept = _killed((*command, "killed"), folder, folder / "killed" / ".stages")
    again = run_program((*command, "killed", "--resume"), cwd=folder)
    what, asked = (
        "SIGKILL during NUTS, then --resume",
        "finished stages used, the numbers of an undisturbed run",
    )
    if again.code not in FINISHED:
        return [Row(what, asked, f"exit {again.code}: {last_line(again.stderr)}", False)]
    resumed = json.loads((folder / "killed" / "run.json").read_text(encoding="utf-8"))["resumed"]
    tables = ("composition.csv", "partition.csv")
    same = all(
        (folder / "whole" / name).read_bytes() == (folder / "killed" / name).read_bytes() for name in tables
    )
    measured = (
        f"killed with {', '.join(kept)} finished; {', '.join(resumed) or 'none'} used again; tables "
        f"{'identical to' if same else 'DIFFER from'} the undisturbed run's; {again.seconds:.0f} s after "
        f"{whole.seconds:.0f} s"
    )
    return [Row(what, asked, measured, same and kept == resumed and set(kept) == set(BEFORE_NUTS))]


def _killed(command: tuple[str, ...], folder: Path, stages: Path) -> list[str]:
    """Start a run, kill it inside NUTS, and return the stages that it had finished, in their order.

    Raises
    ------
    RuntimeError
        If the run ended before it could be killed.
    """
    with (folder / "killed.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        begin = time.monotonic()
        while not (stages / f"{BEFORE_NUTS[-1]}.npz").exists() and process.poll() is None:
            if time.monotonic() - begin > LONGEST_SECONDS:
                break
            time.sleep(0.05)
        time.sleep(SECONDS_INTO_NUTS)
        if process.poll() is not None:
            raise RuntimeError(f"the run ended with {process.returncode} before it was killed")
        process.send_signal(signal.SIGKILL)
        process.wait()
    finished = sorted(stages.glob("*.npz"), key=lambda path: path.stat().st_mtime_ns)
    return [path.stem for path in finished]
