"""Units of composition: atom fraction, weight per cent, oxide weight per cent, atoms per formula unit.

With x_e the atom fraction of element e, M_e its atomic weight and o_e the oxygen atoms that one atom of it binds,

    weight per cent           100 x_e M_e / sum_e x_e M_e
    oxide weight per cent     100 x_e (M_e + o_e M_O) / sum_e x_e (M_e + o_e M_O)
    per formula unit          x_e N / sum_e x_e o_e      (N oxygen atoms; the sum is x_O where oxygen was measured)

Each is computed draw by draw, so that what varies together cancels. Atomic weights are those of xraylib.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayesunmix.chemistry.oxides import iron_oxide, oxide_formula, oxygen_per_atom
from bayesunmix.chemistry.unit_names import UNITS
from bayesunmix.core.errors import InputError, check_choice, check_positive
from bayesunmix.xray.atomic import atomic_weight

__all__ = ["OXYGENS", "UNITS", "atom_fractions", "convert", "mg_number", "oxide_formula", "with_oxygen"]

OXYGENS = 3.0


def convert(
    composition: xr.DataArray,
    unit: str,
    *,
    oxygens: float | Mapping[str, float] = OXYGENS,
    ferric: xr.DataArray | float = 0.0,
    valences: Mapping[str, float] | None = None,
) -> xr.DataArray:
    """Convert atom fractions among the declared elements, draw by draw.

    Parameters
    ----------
    composition : DataArray (..., element)
        Atom fractions.
    unit : str
        ``at_frac``; ``wt_pct``, weight per cent among the same elements; ``oxide_wt_pct``, weight per cent of the
        oxides that the coordinate ``oxide`` names; ``apfu``, cations per formula unit of `oxygens` oxygen atoms, oxygen
        by the valences or as measured where O is among the elements; nan where a phase holds no oxygen.
    oxygens : float or mapping
        Oxygen atoms of the formula unit, for ``apfu``: one number, or one for each phase.
    ferric : float or DataArray
        Fe3+ / all Fe, between 0 and 1, for instance draws from `bayesunmix.chemistry.oxides.draw_ferric`.
    valences : mapping, optional
        Valences in place of the usual ones, e.g. ``{"U": 6}``.

    Raises
    ------
    InputError
        If the unit is unknown, an element has no oxide, or a phase has no number of oxygens.
    """
    elements = [str(element) for element in composition["element"].values]
    if unit == "at_frac":
        return composition.assign_attrs(unit=unit)
    if unit == "wt_pct":
        return _per_cent(composition * _weights(composition)).assign_attrs(unit=unit)
    if unit not in UNITS:
        raise InputError("unit", f"be one of {', '.join(UNITS)}", f"is {unit!r}")
    part = composition.sel(element=[element for element in elements if element != "O"])
    bound = oxygen_per_atom(part, ferric=ferric, valences=valences)
    if unit == "oxide_wt_pct":
        weight = part * (_weights(part) + bound * atomic_weight("O"))
        names = _oxides(part, ferric, valences)
        return _per_cent(weight).assign_coords(oxide=("element", names)).assign_attrs(unit=unit)
    oxygen = composition.sel(element="O", drop=True) if "O" in elements else (part * bound).sum("element")
    basis = _basis(part, oxygens)
    # A phase without oxygen, such as a sulfide, has no formula unit that is counted on it.
    found = (part * basis / oxygen.where(oxygen > 0.0)).transpose(*part.dims).assign_attrs(unit=unit)
    return found.assign_attrs(oxygens=basis) if isinstance(basis, float) else found


def atom_fractions(
    values: xr.DataArray,
    unit: str | None = None,
    *,
    ferric: xr.DataArray | float = 0.0,
    valences: Mapping[str, float] | None = None,
) -> xr.DataArray:
    """Convert back to atom fractions among the elements that `values` holds.

    Parameters
    ----------
    values : DataArray (..., element)
        What `convert` returned, or any amounts of that unit; they need not sum to 100.
    unit : str, optional
        One of `UNITS`; by default what ``values.attrs["unit"]`` says.
    ferric, valences
        As in `convert`.

    Raises
    ------
    InputError
        If the unit is unknown, or an element has no oxide.
    """
    unit = check_choice("unit", values.attrs.get("unit") if unit is None else unit, UNITS)
    amounts = values
    if unit == "wt_pct":
        amounts = values / _weights(values)
    elif unit == "oxide_wt_pct":
        bound = oxygen_per_atom(values, ferric=ferric, valences=valences)
        amounts = (values / (_weights(values) + bound * atomic_weight("O"))).transpose(*values.dims)
    found = (amounts / amounts.sum("element")).assign_attrs(unit="at_frac")
    return found.drop_vars("oxide", errors="ignore")


def with_oxygen(
    composition: xr.DataArray,
    *,
    ferric: xr.DataArray | float = 0.0,
    valences: Mapping[str, float] | None = None,
) -> xr.DataArray:
    """Add the oxygen that the elements bind: atom fractions among them and O, which comes last.

    Oxygen that is among the elements already is left as it was measured; elements that have no oxide bind none.
    """
    if "O" in composition["element"].values:
        return composition
    bound = oxygen_per_atom(composition, ferric=ferric, valences=valences, strict=False)
    oxygen = (composition * bound).sum("element").expand_dims(element=["O"])
    both = xr.concat([composition, oxygen], dim="element").transpose(*composition.dims)
    return (both / both.sum("element")).assign_attrs(composition.attrs)


def mg_number(composition: xr.DataArray, *, ferric: xr.DataArray | float = 0.0) -> xr.DataArray:
    """Return Mg# = 100 Mg / (Mg + Fe2+) in atoms; all iron counts as Fe2+ unless `ferric` says otherwise.

    A phase without both has no Mg#: nan.

    Raises
    ------
    InputError
        If Mg or Fe is not among the elements.
    """
    elements = [str(element) for element in composition["element"].values]
    for element in ("Mg", "Fe"):
        if element not in elements:
            raise InputError("Mg#", "be asked where Mg and Fe are declared", f"{element} is not")
    magnesium = composition.sel(element="Mg", drop=True)
    iron = composition.sel(element="Fe", drop=True) * (1.0 - ferric)
    total = magnesium + iron
    found = 100.0 * magnesium / total.where(total > 0.0)
    return found.transpose(*magnesium.dims).rename("Mg#").assign_attrs(unit="100 Mg / (Mg + Fe2+), atoms")


def _per_cent(weight: xr.DataArray) -> xr.DataArray:
    dims = [*(dim for dim in weight.dims if dim != "element"), "element"]
    return (100.0 * weight / weight.sum("element")).transpose(*dims)


def _weights(composition: xr.DataArray) -> xr.DataArray:
    weights = [atomic_weight(str(element)) for element in composition["element"].values]
    return xr.DataArray(np.asarray(weights), dims="element", coords={"element": composition["element"]})


def _oxides(
    part: xr.DataArray, ferric: xr.DataArray | float, valences: Mapping[str, float] | None
) -> list[str]:
    given = valences is not None and "Fe" in valences
    return [
        iron_oxide(ferric) if element == "Fe" and not given else oxide_formula(element, valences)
        for element in map(str, part["element"].values)
    ]


def _basis(part: xr.DataArray, oxygens: float | Mapping[str, float]) -> xr.DataArray | float:
    """Oxygen atoms of the formula unit: a number, or one for each phase."""
    if not isinstance(oxygens, Mapping):
        return check_positive("oxygens", oxygens)
    names = [str(name) for name in np.atleast_1d(part["phase"].values)] if "phase" in part.coords else []
    for name in names:
        if name not in oxygens:
            known = ", ".join(map(str, oxygens)) or "nothing"
            raise InputError("oxygens", f"name every phase, {', '.join(names)}", f"names {known}")
    values = np.array([check_positive(f"oxygens.{name}", oxygens[name]) for name in names])
    if "phase" not in part.dims:
        return float(values[0]) if len(values) else OXYGENS
    return xr.DataArray(values, dims="phase", coords={"phase": part["phase"]})
