"""Ionic radii by charge and coordination.

The table is that of Shannon, R. D., Acta Cryst. A 32 (1976) 751, doi:10.1107/S0567739476001551: effective ionic radii
for the coordination numbers 6, 8, 9 and 12, high spin where there are two. Ions that the table lacks in the
coordination asked for (Lu3+ and Hf4+ in 12-fold) are estimated from the nearest coordination it has: to that radius
is added the mean difference between the two coordinations over all ions of the same charge that have both. The standard
deviation of these differences is the estimate's uncertainty, 0.01 to 0.04 Angstrom.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources
from typing import NamedTuple

import numpy as np

from bayesunmix.chemistry.stoichiometry import check_element
from bayesunmix.core.errors import InputError, check_integer
from bayesunmix.xray.absorption import oxygen_per_cation

COORDINATIONS = (6, 8, 9, 12)
SHANNON, ESTIMATED, GIVEN = "Shannon 1976", "estimated", "given"
# An ion known only in a much lower coordination does not sit on such a site, and its radius there would be a guess.
LEAST_SHARE = 2.0 / 3.0
# Where a charge has one ion in both coordinations, its difference is as uncertain as the others' spread.
LEAST_SD_A = 0.01
USUAL_SD_A = 0.03


class Radius(NamedTuple):
    """An ionic radius, its uncertainty and where it comes from."""

    value_A: float
    sd_A: float
    source: str


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[int, dict[int, float]]]:
    text = resources.files("bayesunmix.chemistry").joinpath("shannon_radii.json").read_text(encoding="utf-8")
    return {
        element: {
            int(charge): {int(number): float(radius) for number, radius in radii.items()}
            for charge, radii in charges.items()
        }
        for element, charges in json.loads(text).items()
    }


def usual_valence(element: str) -> int:
    """Return the charge of an element in its usual oxide: Fe 2, U 4.

    Raises
    ------
    InputError
        If it has none.
    """
    charge = round(2.0 * oxygen_per_cation(check_element("element", element)))
    if charge < 1:
        raise InputError("element", "form an oxide", f"is {element}")
    return charge


def check_coordination(value: object) -> int:
    """Return a coordination number of the table, or raise `InputError`."""
    number = check_integer("coordination", value)
    if number not in COORDINATIONS:
        raise InputError("coordination", f"be one of {', '.join(map(str, COORDINATIONS))}", f"is {number}")
    return number


def ionic_radius(element: str, valence: int, coordination: int) -> Radius | None:
    """Return the radius of an ion in Angstrom; None where the table has it in no comparable coordination.

    Raises
    ------
    InputError
        If the table holds no ion of the element with this charge.

    Examples
    --------
    >>> ionic_radius("Ca", 2, 12)
    Radius(value_A=1.34, sd_A=0.0, source='Shannon 1976')
    >>> radius = ionic_radius("Lu", 3, 12)
    >>> round(radius.value_A, 2), round(radius.sd_A, 2), radius.source
    (1.16, 0.02, 'estimated')
    """
    charges = _table().get(check_element("element", element), {})
    if valence not in charges:
        known = ", ".join(f"{charge}+" for charge in charges) or "none"
        raise InputError(
            f"valences.{element}", f"be that of an ion in Shannon's table ({known})", f"is {valence}"
        )
    radii = charges[valence]
    if coordination in radii:
        return Radius(radii[coordination], 0.0, SHANNON)
    comparable = [number for number in radii if number >= LEAST_SHARE * coordination]
    if not comparable:
        return None
    nearest = min(comparable, key=lambda number: (abs(number - coordination), number))
    steps = _steps(valence, nearest, coordination)
    if not steps:
        return None
    sd = max(float(np.std(steps, ddof=1)), LEAST_SD_A) if len(steps) > 1 else USUAL_SD_A
    return Radius(radii[nearest] + float(np.mean(steps)), sd, ESTIMATED)


def _steps(valence: int, start: int, end: int) -> list[float]:
    """Differences between two coordinations of all ions of one charge."""
    both = [charges.get(valence, {}) for charges in _table().values()]
    return [radii[end] - radii[start] for radii in both if start in radii and end in radii]
