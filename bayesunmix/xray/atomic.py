"""Elements, atomic numbers and weights, and the one door to the atomic data of xraylib.

Source of the data: T. Schoonjans et al., Spectrochim. Acta B 66 (2011) 776, doi:10.1016/j.sab.2011.09.011.
"""

from __future__ import annotations

from collections.abc import Callable

import xraylib

from bayesunmix.core.errors import InputError

SHELLS = ("K", "L1", "L2", "L3", "M1", "M2", "M3", "M4", "M5")
FAMILIES = ("K", "L", "M")
HEAVIEST = 99
# What microscopists meet every week, in samples, grids, apertures and coatings.
USUAL = frozenset(
    "C N O F Na Mg Al Si P S Cl K Ca Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Sr Y Zr Nb Mo Pd Ag Sn Sb Te Ba La Ce Nd Sm "
    "Hf Ta W Pt Au Pb Bi Th U".split()
)


def atomic_number(element: str, field: str = "elements") -> int:
    """Return the atomic number of a chemical symbol.

    Parameters
    ----------
    element
        Symbol such as ``Fe``.
    field
        The user's field the symbol came from, named in the error.

    Raises
    ------
    InputError
        If the symbol is not one of H to Es.
    """
    if isinstance(element, str):
        number = int(lookup(xraylib.SymbolToAtomicNumber, element))
        if 1 <= number <= HEAVIEST:
            return number
    remedy = "Write the symbol as in Fe or U."
    raise InputError(field, "name chemical elements from H to Es", f"is {element!r}", remedy)


def atomic_symbol(number: int) -> str:
    """Return the chemical symbol of an atomic number."""
    return str(xraylib.AtomicNumberToSymbol(number))


def atomic_weight(element: str) -> float:
    """Return the standard atomic weight in g/mol."""
    return float(xraylib.AtomicWeight(atomic_number(element)))


def lookup(function: Callable[..., float], *arguments: object) -> float:
    """Return what xraylib tabulates, or 0 where its table has no entry (xraylib raises there)."""
    try:
        return float(function(*arguments))
    except ValueError:
        return 0.0
