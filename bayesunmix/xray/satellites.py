"""What a silicon detector makes of a line beside its peak: a tail, an escape peak, and pile-up.

Tail. Of the charge of a photon absorbed at depth z below the entrance, a share is lost to the contact:

    eta(z) = 1 - (1 - R) exp(-z / tau)

is collected, R at the surface and nearly all from a few tau on (charge collection of the kind of Popp, M., et al.,
Nucl. Instrum. Methods A 439 (2000) 567, doi:10.1016/S0168-9002(99)00912-1, and Scholze, F., Procop, M., X-Ray
Spectrom. 38 (2009) 312, doi:10.1002/xrs.1165). With depths of density mu exp(-mu z), the lost share
1 - eta = (1 - R) u has

    P(u < v) = v^(mu tau),     0 < v < 1,

a peak at u = 0 with a tail that falls like mu tau / u down to the energy R E. Its strength follows the absorption
coefficient of silicon, so it jumps at 1.84 keV.

Escape. A silicon K photon leaves the sensor with the probability

    p = w_K j / 2  (1 - (mu_K / mu) log(1 + mu / mu_K)),

w_K the fluorescence yield, j the share of the K shell in the absorption, mu and mu_K the absorption coefficients at the
line and at Si K-alpha (Reed, S. J. B., Ware, N. G., J. Phys. E 5 (1972) 582, doi:10.1088/0022-3735/5/6/029). The charge
is then that of E - 1.74 keV.

Pile-up. Two photons within the resolving time appear as one of the sum of their energies.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import xraylib

from bayesunmix.xray.absorption import mass_absorption_coefficient

SILICON = 14
SILICON_K_EDGE_KEV = 1.839
SILICON_K_ALPHA_KEV = 1.740
PER_UM = float(xraylib.ElementDensity(SILICON)) * 1e-4  # g/cm2 of one micrometre of silicon
# The tail is drawn with so many steps of the lost share, the first for the peak itself: fine where the tail is steep.
TAIL_EDGES = np.concatenate(([0.0], np.geomspace(0.02, 1.0, 7)))
TAIL_LOSS = np.concatenate(([0.0], np.sqrt(TAIL_EDGES[1:-1] * TAIL_EDGES[2:])))
# Standard deviation of the lost share inside a step, as if it were even there.
TAIL_SPREAD = np.concatenate(([0.0], np.diff(TAIL_EDGES[1:]))) / np.sqrt(12.0)

Array = npt.NDArray[np.float64]


def tail_shares(energy_keV: Array, collection_depth_um: float) -> Array:
    """Share of each line's photons that lose (1 - R) `TAIL_LOSS` of their charge, shape (line, step), rows adding to 1.

    Parameters
    ----------
    energy_keV : (line,)
    collection_depth_um
        tau, in micrometres.
    """
    exponent = _silicon_coefficient(energy_keV) * PER_UM * collection_depth_um
    return np.diff(TAIL_EDGES ** exponent[:, None], axis=1)


def escape_probability(energy_keV: Array) -> Array:
    """Probability that a silicon K photon leaves the sensor, zero below the K edge, shape (line,)."""
    above = energy_keV > SILICON_K_EDGE_KEV
    ratio = _silicon_coefficient(np.where(above, energy_keV, 2.0)) / _k_alpha_coefficient()
    # The share of the K shell in the absorption, from the jump of the coefficient at its edge.
    jump = float(xraylib.JumpFactor(SILICON, xraylib.K_SHELL))
    photons = float(xraylib.FluorYield(SILICON, xraylib.K_SHELL)) * (1.0 - 1.0 / jump)
    return np.where(above, 0.5 * photons * (1.0 - np.log1p(ratio) / ratio), 0.0)


def _silicon_coefficient(energy_keV: Array) -> Array:
    return mass_absorption_coefficient("Si", energy_keV)


@cache
def _k_alpha_coefficient() -> float:
    return float(mass_absorption_coefficient("Si", SILICON_K_ALPHA_KEV))
