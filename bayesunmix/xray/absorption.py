"""Mass absorption coefficients and the absorption of X-rays in a thin film.

Coefficients are the total attenuation (photo-effect and scattering) of xraylib (Schoonjans et al. 2011,
doi:10.1016/j.sab.2011.09.011), tabulated from 0.1 to 800 keV.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xraylib

from bayesunmix.core.errors import InputError, check_between, check_positive
from bayesunmix.xray.atomic import atomic_number, atomic_weight

LOWEST_ENERGY_KEV = 0.1
HIGHEST_ENERGY_KEV = 800.0

# Cation charge in the usual oxide of each element at ambient conditions, with ferrous iron; noble gases and
# oxygen have none. After Greenwood and Earnshaw, Chemistry of the Elements, 2nd ed. (1997), chapters on the
# groups.
OXIDE_VALENCES = {
    0: "He O F Ne Ar Kr Xe Rn",
    1: "H Li Na K Rb Cs Fr Ag Tl Cl Br I At",
    2: "Be Mg Ca Sr Ba Ra Mn Fe Co Ni Cu Zn Pd Cd Hg Pb Po Pt Es",
    3: "B Al Sc Cr Ga As Y Rh In Sb La Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Au Bi Ac Am Cm Bk Cf N",
    4: "C Si Ti Ge Se Zr Ru Sn Te Ce Hf Os Ir Th U Np Pu Tc",
    5: "P V Nb Ta Pa",
    6: "S Mo W Re",
}
_VALENCE_OF = {element: charge for charge, names in OXIDE_VALENCES.items() for element in names.split()}

Array = npt.NDArray[np.float64]


def mass_absorption_coefficient(element: str, energy_keV: npt.ArrayLike) -> Array:
    """Return the mass absorption coefficient of an element in cm2/g.

    Parameters
    ----------
    element
        Chemical symbol of the absorber.
    energy_keV
        Photon energies in keV, of any shape; beyond the table its ends are taken.

    Raises
    ------
    InputError
        If the element is unknown.
    """
    energy = np.asarray(energy_keV, dtype=np.float64)
    table = _attenuation(atomic_number(element), np.ascontiguousarray(energy).tobytes())
    return table.reshape(energy.shape).copy()


@lru_cache(maxsize=512)
def _attenuation(number: int, energy_bytes: bytes) -> Array:
    """Look up the coefficient at the energies, given as the bytes of float64 so that they can be a key."""
    energy = np.clip(np.frombuffer(energy_bytes), LOWEST_ENERGY_KEV, HIGHEST_ENERGY_KEV)
    return np.array([xraylib.CS_Total(number, float(e)) for e in energy])


def mixture_absorption_coefficient(weight_fractions: Mapping[str, float], energy_keV: npt.ArrayLike) -> Array:
    """Return sum_e w_e (mu/rho)_e in cm2/g for weight fractions w, which are normalised to 1.

    Raises
    ------
    InputError
        If a fraction is negative, or none is positive.
    """
    for element, fraction in weight_fractions.items():
        check_positive(f"weight fraction of {element}", fraction, allow_zero=True)
    total = check_positive("sum of the weight fractions", sum(weight_fractions.values()))
    energy = np.asarray(energy_keV, dtype=np.float64)
    result = np.zeros_like(energy)
    for element, fraction in weight_fractions.items():
        result += fraction / total * mass_absorption_coefficient(element, energy)
    return result


def oxygen_per_cation(element: str) -> float:
    """Return the oxygen atoms that balance one atom of the element in its usual oxide (Fe2+: 1, Al3+: 1.5).

    Raises
    ------
    InputError
        If the element is unknown.
    """
    atomic_number(element)
    return _VALENCE_OF[element] / 2.0


def as_oxides(atoms: Mapping[str, float]) -> dict[str, float]:
    """Return the atoms with oxygen added by stoichiometry; oxygen already given is replaced."""
    cations = {element: amount for element, amount in atoms.items() if element != "O"}
    oxygen = sum(amount * oxygen_per_cation(element) for element, amount in cations.items())
    return cations | {"O": oxygen}


def weight_fractions(atoms: Mapping[str, float]) -> dict[str, float]:
    """Return the weight fractions of a mixture given by its numbers of atoms.

    Raises
    ------
    InputError
        If no element is present.
    """
    weights = {element: amount * atomic_weight(element) for element, amount in atoms.items()}
    total = sum(weights.values())
    if not total > 0.0:
        raise InputError("composition", "hold at least one element", "holds none")
    return {element: weight / total for element, weight in weights.items()}


def absorption_depth(
    coefficient_cm2_g: npt.ArrayLike, density_g_cm3: float, thickness_nm: float, takeoff_angle_deg: float
) -> Array:
    """Return chi = (mu/rho) rho t / sin(take-off angle), the absorption along the longest way out.

    Raises
    ------
    InputError
        If density or thickness is negative, or the take-off angle is not above 0 and at most 90 degrees.
    """
    density = check_positive("sample.density_g_cm3", density_g_cm3)
    thickness = check_positive("sample.thickness_nm", thickness_nm, allow_zero=True)
    remedy = "The detector must see the film from above."
    angle = check_between("instrument.takeoff_angle_deg", takeoff_angle_deg, 0.1, 90.0, remedy=remedy)
    path_cm = thickness * 1e-7 / math.sin(math.radians(angle))
    return np.asarray(coefficient_cm2_g, dtype=np.float64) * density * path_cm


def thin_film_factor(chi: npt.ArrayLike) -> Array:
    """Return A = (1 - exp(-chi)) / chi, the share of the photons that leave an evenly emitting film.

    The limits are 1 for a thin film and 1 / chi for a thick one (Goldstein et al. 1977, Scanning Electron
    Microsc. 1, 315).
    """
    depth = np.asarray(chi, dtype=np.float64)
    small = np.abs(depth) < 1e-8
    factor: Array = np.where(small, 1.0 - depth / 2.0, -np.expm1(-depth) / np.where(small, 1.0, depth))
    return factor


def absorption_slope(chi: npt.ArrayLike) -> Array:
    """Return d log A / d log t = chi / (exp(chi) - 1) - 1 of the thin-film factor, between 0 and -1."""
    depth = np.asarray(chi, dtype=np.float64)
    small = depth < 1e-6
    safe = np.where(small, 1.0, depth)
    slope: Array = np.where(small, -depth / 2.0, safe / np.expm1(np.minimum(safe, 700.0)) - 1.0)
    return slope
