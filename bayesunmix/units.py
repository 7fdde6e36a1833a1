"""Units of composition: atom fraction, weight per cent, oxide weight per cent, atoms per formula unit."""

from __future__ import annotations

import re

import numpy as np
import xarray as xr

from bayesunmix.errors import InputError
from bayesunmix.xray.absorption import oxygen_per_cation
from bayesunmix.xray.atomic import atomic_weight

UNITS = ("at_frac", "wt_pct", "oxide_wt_pct", "apfu")
OXYGENS = 3.0


def convert(composition: xr.DataArray, unit: str, *, oxygens: float = OXYGENS) -> xr.DataArray:
    """Convert atom fractions among the declared elements, draw by draw.

    Parameters
    ----------
    composition : DataArray (..., element)
        Atom fractions.
    unit : str
        ``at_frac``; ``wt_pct``, weight per cent among the same elements; ``oxide_wt_pct``, weight per cent of the
        usual oxides (valences of `bayesunmix.xray.absorption`, Fe as FeO); ``apfu``, cations per formula unit of
        `oxygens` oxygen atoms, oxygen by those valences or as measured where O is among the elements.
    oxygens : float
        Oxygen atoms of the formula unit, for ``apfu``.

    Raises
    ------
    InputError
        If the unit is unknown.
    """
    elements = [str(element) for element in composition["element"].values]
    if unit == "at_frac":
        return composition.assign_attrs(unit=unit)
    if unit == "wt_pct":
        weight = composition * _along(composition, [atomic_weight(element) for element in elements])
        return (100.0 * weight / weight.sum("element")).assign_attrs(unit=unit)
    cations = [element for element in elements if element != "O"]
    if unit == "oxide_wt_pct":
        part = composition.sel(element=cations)
        oxide = [
            atomic_weight(element) + oxygen_per_cation(element) * atomic_weight("O") for element in cations
        ]
        weight = part * _along(part, oxide)
        names = [oxide_formula(element) for element in cations]
        return (
            (100.0 * weight / weight.sum("element"))
            .assign_coords(oxide=("element", names))
            .assign_attrs(unit=unit)
        )
    if unit == "apfu":
        part = composition.sel(element=cations)
        measured = composition.sel(element="O") if "O" in elements else None
        valence = _along(part, [oxygen_per_cation(element) for element in cations])
        oxygen = (part * valence).sum("element") if measured is None else measured
        return (part * oxygens / oxygen).assign_attrs(unit=unit, oxygens=oxygens)
    raise InputError("unit", f"be one of {', '.join(UNITS)}", f"is {unit!r}")


def _along(composition: xr.DataArray, values: list[float]) -> xr.DataArray:
    return xr.DataArray(np.asarray(values), dims="element", coords={"element": composition["element"]})


def oxide_formula(element: str) -> str:
    """Write the formula of the usual oxide: Al2O3, SiO2, FeO.

    Examples
    --------
    >>> oxide_formula("Al"), oxide_formula("Si"), oxide_formula("Fe")
    ('Al2O3', 'SiO2', 'FeO')
    """
    oxygen = oxygen_per_cation(element)
    metal, oxygen_atoms = (1, int(oxygen)) if float(oxygen).is_integer() else (2, round(2 * oxygen))
    formula = f"{element}{metal}O{oxygen_atoms}"
    return re.sub(r"(?<=[A-Za-z])1(?![0-9])", "", formula)
