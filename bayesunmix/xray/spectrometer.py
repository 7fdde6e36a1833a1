"""The spectrometer as a vector of parameters: names, priors, bounds, and the response that it stands for."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from bayesunmix.xray.response import BEND_KNOTS_KEV, Response

Array = npt.NDArray[np.float64]

# Carbon, nitrogen and oxygen K.
SOFT_PARTNERS_KEV = (0.277, 0.392, 0.525)
N_BEND, N_SOFT = len(BEND_KNOTS_KEV), len(SOFT_PARTNERS_KEV)
RESPONSE_NAMES = (
    *("gain", "offset_keV", "noise_eV", "fano"),
    *(f"bend_eV_{knot:g}_keV" for knot in BEND_KNOTS_KEV),
    *("collection_depth_um", "surface_collection", "escape"),
    *(f"pile_up_{energy:g}_keV" for energy in SOFT_PARTNERS_KEV),
    "pile_up",
    "pile_up_added",
    "bonded_k_beta_eV",
)
# Means of gain to Fano factor are those of the fit of the axis; widths are those of `bayesunmix.xray.priors`.
PRIOR_MEAN = np.array(
    [1.0, 0.0, np.nan, np.nan, *[0.0] * N_BEND, 0.0, 0.5, 1.0, *[0.0] * N_SOFT, 0.0, 1.0, 0.0]
)
START = np.array([np.nan] * 4 + [*[0.0] * N_BEND, 0.03, 0.5, 1.0, *[1e-3] * N_SOFT, 3e-4, 1.0, 0.0])
LOWEST = np.array(
    [0.95, -0.2, 5.0, 0.02, *[-40.0] * N_BEND, 1e-4, 0.0, 0.0, *[0.0] * N_SOFT, 0.0, 0.7, -25.0]
)
HIGHEST = np.array([1.05, 0.2, 400.0, 0.5, *[40.0] * N_BEND, 2.0, 0.95, 3.0, *[0.1] * N_SOFT, 0.1, 1.0, 25.0])
STEP = np.array(
    [1e-6, 1e-5, 1e-2, 1e-5, *[1e-2] * N_BEND, 1e-4, 1e-3, 1e-3, *[1e-5] * N_SOFT, 1e-5, 1e-3, 1e-2]
)


def response_of(theta: Array, partners: tuple[tuple[float, float], ...]) -> Response:
    """Response of a parameter vector in the order of `RESPONSE_NAMES`."""
    bend = 4 + N_BEND
    soft = theta[bend + 3 : bend + 3 + N_SOFT]
    rate, added = (float(value) for value in theta[-3:-1])
    return Response(
        gain=float(theta[0]),
        offset_keV=float(theta[1]),
        noise_eV=float(theta[2]),
        fano=float(theta[3]),
        bend_eV=tuple(theta[4:bend].tolist()),
        collection_depth_um=float(theta[bend]),
        surface_collection=float(theta[bend + 1]),
        escape=float(theta[bend + 2]),
        pile_up=(
            *(
                (added * energy, share)
                for energy, share in zip(SOFT_PARTNERS_KEV, soft.tolist(), strict=True)
            ),
            *((energy, rate * share) for energy, share in partners),
        ),
    )
