"""The whole Laplace posterior of the 71 GPa map against 20 iterations of espm 1.1.3 on the same map.

espm pins old versions of what bayesunmix needs, so it runs in an environment of its own::

    python3.11 -m venv espm
    espm/bin/pip install --no-deps espm==1.1.3
    espm/bin/pip install hyperspy==2.2.0 exspy==0.3.1 "numpy<2.4" scikit-learn scikit-image lmfit intervaltree
        natsort prettytable tqdm h5py
"""

from __future__ import annotations

import json
from pathlib import Path

from bench import GIGABYTE, Options, Row, last_line, run_program
from real_map import MAP, unmix

WORKER = Path(__file__).resolve().parent / "espm_worker.py"
ITERATIONS = 20
WHAT = f"bayesunmix's Laplace posterior against {ITERATIONS} iterations of espm"
ASKED = "costs less"


def rows(options: Options) -> list[Row]:
    """Return the row of espm's speed."""
    if options.espm_python is None:
        how = (
            "make an environment with espm as benchmarks/espm_speed.py says; give its Python by --espm-python"
        )
        return [Row(WHAT, ASKED, f"not run: {how}", None)]
    spectrum_image = options.file(MAP)
    # The interpreter is not resolved: a virtual environment's is a link to the one that it stands on.
    program = run_program((options.espm_python.absolute(), WORKER, spectrum_image, str(ITERATIONS)))
    if program.code != 0:
        return [Row(WHAT, ASKED, f"espm: exit {program.code}, {last_line(program.stderr)}", False)]
    espm = json.loads(last_line(program.stdout))
    ours = unmix(options, "laplace", 1).program
    measured = (
        f"{ours.seconds:.1f} s and {ours.peak_bytes / GIGABYTE:.1f} GB, reading and writing included, against "
        f"{espm['iterate']:.1f} s and {program.peak_bytes / GIGABYTE:.1f} GB "
        f"(iterations alone; start {espm['start']:.1f} s, G {espm['build']:.1f} s)"
    )
    return [Row(WHAT, ASKED, measured, bool(ours.seconds < espm["iterate"]))]
