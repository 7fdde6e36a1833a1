"""Both phantoms of the espm paper, 293 and 18 counts a pixel: coverage, and maps beside those of espm's SmoothNMF.

Settings of SmoothNMF are the paper's (Teurtrie et al. 2024, doi:10.1088/2632-2153/ad9192), but for the number of
iterations, `ITERATIONS` in place of its 1e4 to 1e5: each takes about a second on two cores. Its own maps are shares of
counts, as ours are; ours are those with neighbours, since its own are smoothed over neighbours, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from bench import Options, Row, last_line, run_program
from espm_phantom import (
    DECLARED,
    ELEMENTS,
    Errors,
    Phantom,
    bayesunmix_laplace,
    count_share,
    draw,
    errors,
    known_composition,
)
from phantom_coverage import overall_row

from bayesunmix.laboratory.maps import reported_intervals

WORKER = Path(__file__).resolve().parent / "espm_phantom_worker.py"
ITERATIONS = (400, 20)
LEAST_RATIO, LEAST_COVERAGE = 3.0, 0.90
STRAY = ["Cu"]
SETTINGS: dict[str, dict[str, Any]] = {
    "espm_spheres_N293": {
        "init": "nndsvdar",
        "random_state": 0,
        "simplex_W": True,
        "simplex_H": False,
        "mu": 0.004,
        "epsilon_reg": 0.01,
        "lambda_L": 1.0,
        "tol": 1e-8,
    },
    "espm_spheres_N18": {
        "init": "random",
        "random_state": 294,
        "simplex_W": False,
        "simplex_H": False,
        "mu": 0.0,
        "lambda_L": 0.0,
        "tol": 1e-8,
    },
}


def rows(options: Options) -> list[Row]:
    """Rows of both phantoms."""
    found = []
    for name in SETTINGS:
        phantom = draw(options, name)
        result = bayesunmix_laplace(phantom, options, DECLARED["all that is absent"])
        table = reported_intervals(result, known_composition(options, name))
        for quantity, plural in (("composition", "compositions"), ("partition", "partition coefficients")):
            chosen = table[table["quantity"] == quantity]
            found.append(overall_row(f"{name}: {plural} held", chosen, LEAST_COVERAGE))
        spectra = result.tree["endmembers"].to_dataset()["mean"].values[:, phantom.fitted]
        ours = errors(phantom, spectra, count_share(phantom, spectra, spatial=True))
        alone = errors(phantom, spectra, count_share(phantom, spectra))
        found += _map_rows(name, phantom, ours, alone, options)
    return found


def _map_rows(name: str, phantom: Phantom, ours: Errors, alone: Errors, options: Options) -> list[Row]:
    """Rows of the maps' errors beside SmoothNMF's."""
    what = f"{name}: MSE of the maps by phase, SmoothNMF's over ours"
    asked = f"at least {LEAST_RATIO:g}"
    if options.espm_python is None:
        return [
            Row(what, asked, "not run: give the Python of an environment with espm by --espm-python", None)
        ]
    iterations = ITERATIONS[1 if options.quick else 0]
    try:
        theirs = smooth_nmf(name, phantom, iterations, options)
    except RuntimeError as error:
        return [Row(what, asked, f"espm: {error}", False)]
    ratio = theirs.mse / ours.mse

    def listed(values: Any, form: str) -> str:  # noqa: ANN401
        return ", ".join(f"{value:{form}}" for value in values)

    said = (
        f"{listed(ratio, '.1f')} ({listed(theirs.mse, '.2e')} after {iterations} iterations, "
        f"{listed(ours.mse, '.2e')} with neighbours; without {listed(alone.mse, '.2e')})"
    )
    angles = f"{listed(theirs.angle_deg, '.1f')} against {listed(ours.angle_deg, '.1f')}"
    return [
        Row(what, asked, said, bool(ratio.min() >= LEAST_RATIO)),
        Row(f"{name}: angle between spectra in degrees, SmoothNMF's against ours", "", angles),
    ]


def smooth_nmf(name: str, phantom: Phantom, iterations: int, options: Options) -> Errors:
    """Return the errors of SmoothNMF.

    Raises
    ------
    RuntimeError
        If espm's program ends with an error.
    """
    folder = options.folder(f"espm_smooth_{name}")
    job, found = folder / "job.npz", folder / "found.npz"
    energy = phantom.energy_keV
    np.savez(
        job,
        counts=phantom.counts,
        offset_keV=energy[0],
        step_keV=energy[1] - energy[0],
        elements=ELEMENTS,
        stray=STRAY,
        beam_energy_keV=phantom.beam_energy_keV,
        takeoff_angle_deg=phantom.takeoff_angle_deg,
        phases=len(phantom.phases),
        iterations=iterations,
        settings=json.dumps(SETTINGS[name]),
    )
    if options.espm_python is None:
        raise RuntimeError("no environment with espm")
    program = run_program((options.espm_python.absolute(), WORKER, job, found))
    if program.code != 0:
        raise RuntimeError(f"exit {program.code}, {last_line(program.stderr)}")
    with np.load(found) as stored:
        spectra, amounts = stored["spectra"], stored["amounts"]
    share = amounts * spectra[:, phantom.fitted].sum(axis=1)
    share = share / np.maximum(share.sum(axis=1, keepdims=True), 1e-300)
    return errors(phantom, spectra[:, phantom.fitted], share)
