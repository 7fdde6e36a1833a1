"""Cross-sections for the ionisation of the K, L and M sub-shells by electron impact.

Analytical fits of Bote and Salvat to distorted-wave calculations, valid from the edge to 1 GeV:
D. Bote, F. Salvat, Phys. Rev. A 77 (2008) 042701, doi:10.1103/PhysRevA.77.042701; D. Bote et al.,
At. Data Nucl. Data Tables 95 (2009) 871, doi:10.1016/j.adt.2009.08.001.
"""

from __future__ import annotations

import json
from functools import cache
from importlib import resources

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError
from bayesunmix.xray.atomic import SHELLS, atomic_number

BOHR_RADIUS_CM = 5.29177210903e-9
ELECTRON_REST_ENERGY_EV = 510998.95
OVERVOLTAGE_JOINT = 16.0

Array = npt.NDArray[np.float64]


@cache
def _coefficients() -> dict[int, dict[str, Array]]:
    """Read the table of fit coefficients: per atomic number the arrays edge_eV, A, B (shell), g and a."""
    text = resources.files("bayesunmix.xray").joinpath("bote_salvat.json").read_text(encoding="utf-8")
    elements = json.loads(text)["elements"]
    return {int(z): {key: np.asarray(value) for key, value in entry.items()} for z, entry in elements.items()}


def shells(element: str) -> tuple[str, ...]:
    """Return the sub-shells of an element that have a cross-section, from K outwards."""
    return SHELLS[: len(_coefficients()[atomic_number(element)]["edge_eV"])]


def edge_energy_keV(element: str, shell: str) -> float:
    """Return the ionisation energy of a sub-shell in keV, as Bote et al. (2009) used it."""
    entry, index = _entry(element, shell)
    return float(entry["edge_eV"][index]) * 1e-3


def ionisation_cross_section(element: str, shell: str, beam_energy_keV: npt.ArrayLike) -> Array:
    r"""Return the cross-section for ionising one sub-shell of one atom.

    With the overvoltage U = E / E_edge, up to U = 16

        sigma = 4 pi a0^2 (U - 1) (f / U)^2,   f = a1 + a2 U + a3 V + a4 V^3 + a5 V^5,   V = 1 / (1 + U)

    and above it, with the speed beta and the momentum X of the electron (units of c and m c),

        sigma = 4 pi a0^2 (A / beta^2) U / (U + B)
                [ (2 ln X - beta^2)(1 + g1 / X) + g2 + g3 sqrt(m c^2 / (E + m c^2)) + g4 / X ].

    Parameters
    ----------
    element
        Chemical symbol, H to Es.
    shell
        One of K, L1, L2, L3, M1 to M5.
    beam_energy_keV
        Kinetic energy of the electrons in keV, of any shape.

    Returns
    -------
    Array
        Cross-section in cm2, of the shape of `beam_energy_keV`; zero below the edge.

    Raises
    ------
    InputError
        If the element has no such shell, or an energy is not positive.
    """
    energy_eV = np.asarray(beam_energy_keV, dtype=np.float64) * 1e3
    if not np.all(np.isfinite(energy_eV) & (energy_eV > 0.0)):
        raise InputError("beam_energy_keV", "be positive", f"is {beam_energy_keV!r}")
    entry, index = _entry(element, shell)
    overvoltage = energy_eV / entry["edge_eV"][index]
    low = _low_overvoltage(np.clip(overvoltage, 1.0, OVERVOLTAGE_JOINT), entry["a"][index])
    high = _high_overvoltage(
        np.maximum(overvoltage, OVERVOLTAGE_JOINT),
        energy_eV,
        entry["A"][index],
        entry["B"][index],
        entry["g"][index],
    )
    area_cm2 = 4.0 * np.pi * BOHR_RADIUS_CM**2
    return area_cm2 * np.where(overvoltage <= OVERVOLTAGE_JOINT, low, high)


def _low_overvoltage(overvoltage: Array, a: Array) -> Array:
    v = 1.0 / (1.0 + overvoltage)
    f = a[0] + a[1] * overvoltage + v * (a[2] + v**2 * (a[3] + v**2 * a[4]))
    return np.asarray((overvoltage - 1.0) * (f / overvoltage) ** 2)


def _high_overvoltage(overvoltage: Array, energy_eV: Array, scale: float, shift: float, g: Array) -> Array:
    total = energy_eV + ELECTRON_REST_ENERGY_EV
    momentum = np.sqrt(energy_eV * (energy_eV + 2.0 * ELECTRON_REST_ENERGY_EV)) / ELECTRON_REST_ENERGY_EV
    beta2 = (momentum * ELECTRON_REST_ENERGY_EV / total) ** 2
    bracket = (2.0 * np.log(momentum) - beta2) * (1.0 + g[0] / momentum)
    bracket = bracket + g[1] + g[2] * np.sqrt(ELECTRON_REST_ENERGY_EV / total) + g[3] / momentum
    return np.asarray(scale / beta2 * overvoltage / (overvoltage + shift) * bracket)


def _entry(element: str, shell: str) -> tuple[dict[str, Array], int]:
    available = shells(element)
    if shell not in available:
        raise InputError("shell", f"be one of {', '.join(available)} for {element}", f"is {shell!r}")
    return _coefficients()[atomic_number(element)], SHELLS.index(shell)
