"""Compositions of mixtures of phases, draw by draw, in any unit that a mixture has.

With b_k the share of phase k in the atoms, x_ke its atom fractions and M_k the mass of an atom of it on average, the
oxygen that its elements bind included where the unit has it,

    atom fraction      sum_k b_k x_ke / sum_k b_k
    weight per cent    sum_k b_k M_k c_ke / sum_k b_k M_k          (c_ke: that of the phase; oxides likewise)

A formula unit is one of a phase: a mixture has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayesunmix.chemistry.oxides import draw_ferric, oxygen_per_atom
from bayesunmix.core.errors import InputError, check_choice
from bayesunmix.xray.atomic import atomic_weight

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

MIXTURE_UNITS = ("at_frac", "wt_pct", "oxide_wt_pct")


def check_mixture_unit(unit: str) -> str:
    """Refuse what is no unit of a mixture.

    Raises
    ------
    InputError
        With the remedy, for ``apfu``.
    """
    if unit == "apfu":
        must = f"be one of {', '.join(MIXTURE_UNITS)}: a formula unit is one of a single phase"
        raise InputError("unit", must, "is 'apfu'", 'Ask result.composition("apfu") for the phases.')
    return check_choice("unit", unit, MIXTURE_UNITS)


def phase_compositions(result: Result, unit: str, draws: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Compositions of the phases in a unit, and what a share of the atoms weighs in it.

    Parameters
    ----------
    result
        Of the run.
    unit
        One of `MIXTURE_UNITS`.
    draws
        Whose coordinates chain and draw are asked for.

    Returns
    -------
    composition : DataArray (chain, draw, phase, element)
    weight : DataArray (chain, draw, phase)
        Mass of an atom on average; 1 for atom fractions.
    """
    chosen = result.draws["composition"].sel(chain=draws["chain"], draw=draws["draw"])
    every = result.composition(check_mixture_unit(unit))
    composition = every.sel(chain=draws["chain"], draw=draws["draw"])
    if unit == "at_frac":
        return composition, xr.ones_like(chosen.isel(element=0, drop=True))
    return composition, mass_per_atom(result, chosen, oxides=unit == "oxide_wt_pct")


def mass_per_atom(result: Result, atoms: xr.DataArray, *, oxides: bool) -> xr.DataArray:
    """Mean mass of an atom of the declared elements, for `oxides` with the oxygen that it binds."""
    weights = np.array([atomic_weight(str(element)) for element in atoms["element"].values])
    mass = xr.DataArray(weights, dims="element", coords={"element": atoms["element"]})
    if oxides:
        chemistry = result.chemistry
        share = draw_ferric(chemistry.ferric, result.draws["composition"], result.record.seed)
        if isinstance(share, xr.DataArray):
            share = share.sel({name: atoms[name] for name in ("chain", "draw") if name in share.dims})
        cations = [element for element in map(str, atoms["element"].values) if element != "O"]
        part = atoms.sel(element=cations)
        bound = oxygen_per_atom(part, ferric=share, valences=chemistry.valences)
        heavy = mass.sel(element=cations) + bound * atomic_weight("O")
        total: xr.DataArray = (part * heavy).sum("element")
        return total.transpose("chain", "draw", "phase")
    return (atoms * mass).sum("element")


def mixed(abundance: xr.DataArray, composition: xr.DataArray, weight: xr.DataArray) -> xr.DataArray:
    """Composition of mixtures (chain, draw, ..., element); nan where there are no atoms.

    Parameters
    ----------
    abundance : DataArray (chain, draw, ..., phase)
        Of all phases; supports have no composition and do not count.
    composition, weight
        From `phase_compositions`.
    """
    amount = abundance.sel(phase=composition["phase"]) * weight
    total = amount.sum("phase")
    found: xr.DataArray = xr.dot(amount, composition, dim="phase") / total.where(total > 0.0)
    dims = *(dim for dim in abundance.dims if dim != "phase"), "element"
    return found.transpose(*dims).assign_attrs(unit=composition.attrs.get("unit", "at_frac"))
