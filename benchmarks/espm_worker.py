"""Time espm's SmoothNMF on a map; runs in espm's own environment, see `espm_speed`.

python espm_worker.py MAP.hspy ITERATIONS
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
import warnings
from typing import ClassVar

warnings.simplefilter("ignore")

import hyperspy.api as hs  # noqa: E402 - its deprecation warnings are not ours
from espm.estimators import SmoothNMF  # noqa: E402

STRAY = ["Cu", "Ga", "Pt", "Zr"]
ELEMENTS = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U", *STRAY]


class Timed(SmoothNMF):
    """SmoothNMF that notes when each iteration begins: on the clock, and in processor time."""

    marks: ClassVar[list[tuple[float, float]]] = []

    def _iteration(self, w: object, h: object) -> object:
        self.marks.append((time.perf_counter(), time.process_time()))
        return super()._iteration(w, h)


def set_physics(
    signal: object, elements: list[str], beam_energy_keV: float, takeoff_angle_deg: float
) -> None:
    """Tell a signal of type EDS_espm its elements and the physics of its model."""
    signal.set_elements(elements)
    signal.set_microscope_parameters(
        beam_energy=beam_energy_keV, azimuth_angle=0, elevation_angle=takeoff_angle_deg, tilt_stage=0
    )
    signal.set_analysis_parameters(
        thickness=1e-5,
        density=4.5,
        detector_type="SDD_efficiency.txt",
        width_slope=0.01,
        width_intercept=0.065,
        xray_db="200keV_xrays.json",
    )


def main(path: str, iterations: int) -> dict[str, float]:
    """Return the seconds of building G, of the fit before its first iteration, and of the iterations.

    For the iterations their processor time, too.
    """
    signal = hs.load(path)
    signal.change_dtype("float64")
    signal.set_signal_type("EDS_espm")
    set_physics(signal, ELEMENTS, 200, 22)
    begin = time.perf_counter()
    signal.build_G(problem_type="bremsstrahlung", ignored_elements=STRAY)
    built = time.perf_counter()
    counts = signal.data.reshape(-1, signal.data.shape[-1]).T

    estimator = Timed(
        n_components=3,
        G=signal.G,
        shape_2d=signal.data.shape[:2],
        init="random",
        random_state=0,
        simplex_H=True,
        simplex_W=False,
        max_iter=iterations + 1,
        no_stop_criterion=True,
        verbose=0,
    )
    estimator.fit_transform(counts)
    return {
        "build": built - begin,
        "start": Timed.marks[0][0] - built,
        "iterate": Timed.marks[-1][0] - Timed.marks[0][0],
        "iterate_cpu": Timed.marks[-1][1] - Timed.marks[0][1],
    }


if __name__ == "__main__":
    with contextlib.redirect_stdout(sys.stderr):
        seconds = main(sys.argv[1], int(sys.argv[2]))
    print(json.dumps(seconds))
