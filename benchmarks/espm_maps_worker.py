"""Fit espm's SmoothNMF to a drawn phantom; runs in espm's own environment, see `espm_speed`.

python espm_maps_worker.py COUNTS.npz ITERATIONS OUT.npz

COUNTS.npz holds ``counts`` (y, x, energy), ``energy_keV``, ``elements``, ``beam_energy_keV`` and ``takeoff_angle_deg``;
OUT.npz gets ``spectra`` (phase, energy) and ``amounts`` (phase, pixel).
"""

from __future__ import annotations

import sys
import warnings

warnings.simplefilter("ignore")

import hyperspy.api as hs  # noqa: E402 - its deprecation warnings are not ours
import numpy as np  # noqa: E402
from espm.estimators import SmoothNMF  # noqa: E402

# Smoothness of the maps as in espm's own examples.
SMOOTHNESS = 2.0


def main(source: str, iterations: int, out: str) -> None:
    """Fit with everything known of the phantom's physics: table, absorption, detector."""
    given = np.load(source)
    signal = hs.signals.Signal1D(given["counts"].astype(float))
    axis = signal.axes_manager[-1]
    axis.name, axis.units = "Energy", "keV"
    axis.offset = float(given["energy_keV"][0])
    axis.scale = float(np.diff(given["energy_keV"]).mean())
    signal.set_signal_type("EDS_espm")
    signal.set_elements([str(element) for element in given["elements"]])
    signal.set_microscope_parameters(
        beam_energy=float(given["beam_energy_keV"]),
        azimuth_angle=0.0,
        elevation_angle=float(given["takeoff_angle_deg"]),
        tilt_stage=0.0,
    )
    signal.set_analysis_parameters(
        thickness=1e-5,
        density=4.5,
        detector_type="SDD_efficiency.txt",
        width_slope=0.01,
        width_intercept=0.065,
        xray_db="200keV_xrays.json",
    )
    signal.build_G(problem_type="bremsstrahlung")
    estimator = SmoothNMF(
        n_components=3,
        G=signal.G,
        shape_2d=signal.data.shape[:2],
        lambda_L=SMOOTHNESS,
        init="nndsvdar",
        random_state=0,
        simplex_H=True,
        simplex_W=False,
        max_iter=iterations,
        verbose=0,
    )
    fitted = estimator.fit_transform(signal.data.reshape(-1, signal.data.shape[-1]).T)
    np.savez(out, spectra=np.asarray(fitted).T, amounts=np.asarray(estimator.H_))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
