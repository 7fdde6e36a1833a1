"""Unmix a phantom by espm's SmoothNMF; runs in espm's own environment, see `espm_speed`.

python espm_phantom_worker.py JOB.npz FOUND.npz

The job holds counts (y, x, energy), the axis (offset_keV, step_keV), the elements, the take-off angle in degrees, the
number of phases and of iterations, and the settings of SmoothNMF as JSON. What is found: spectra (phase, energy) and
amounts (pixel, phase) whose product is the expected counts.
"""

from __future__ import annotations

import json
import sys
import warnings

warnings.simplefilter("ignore")

import hyperspy.api as hs  # noqa: E402 - its deprecation warnings are not ours
import numpy as np  # noqa: E402
from espm.estimators import SmoothNMF  # noqa: E402
from espm_worker import set_physics  # noqa: E402


def main(job: str, found: str) -> None:
    """Read the job, unmix, and write what was found."""
    with np.load(job) as stored:
        task = dict(stored)
    counts = task["counts"].astype(np.float64)
    signal = hs.signals.Signal1D(counts)
    signal.set_signal_type("EDS_espm")
    axis = signal.axes_manager[-1]
    axis.offset, axis.scale, axis.units, axis.name = (
        float(task["offset_keV"]),
        float(task["step_keV"]),
        "keV",
        "Energy",
    )
    stray = [str(element) for element in task["stray"]]
    elements = [*(str(element) for element in task["elements"]), *stray]
    set_physics(signal, elements, float(task["beam_energy_keV"]), float(task["takeoff_angle_deg"]))
    signal.build_G(problem_type="bremsstrahlung", ignored_elements=stray)
    estimator = SmoothNMF(
        n_components=int(task["phases"]),
        G=signal.G,
        shape_2d=counts.shape[:2],
        max_iter=int(task["iterations"]),
        verbose=0,
        **json.loads(str(task["settings"])),
    )
    spectra = estimator.fit_transform(counts.reshape(-1, counts.shape[-1]).T)
    np.savez(found, spectra=spectra.T, amounts=estimator.H_.T, iterations=estimator.n_iter_)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
