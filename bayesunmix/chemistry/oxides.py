"""Oxides and valences: the oxygen that each cation binds, with iron between ferrous and ferric.

A cation of valence v binds v / 2 oxygen atoms. Valences are those of the usual oxides
(`bayesunmix.xray.absorption.OXIDE_VALENCES`) unless the user gives others. A share f of ferric iron
makes iron's valence

    v_Fe = 2 + f,     f ~ Beta with the given mean and sd,

drawn once per posterior draw and phase: a phase has one oxidation state in all units of one draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.chemistry.stoichiometry import check_element
from bayesunmix.core.errors import InputError, check_between, check_fraction, check_number, shown, suggest
from bayesunmix.xray.absorption import oxygen_per_cation

FerricShare = float | tuple[float, float] | Mapping[str, float | tuple[float, float]]
"""Fe3+ / all Fe: a number, (mean, sd), or either by phase; phases that are not named have none."""

# Elements that stand in for oxygen in minerals: the oxides that a table of valences lists for them are none of theirs.
ANIONS = frozenset("F Cl Br I At".split())
_FERROUS, _FERRIC = 2.0, 3.0
_LARGEST_VALENCE = 8.0


def oxygen_atoms(element: str, valences: Mapping[str, float] | None = None) -> float:
    """Return the oxygen atoms that one atom of the element binds, at the usual valence or the given one.

    Raises
    ------
    InputError
        If the element has no oxide: noble gases, oxygen itself and the halogens.

    Examples
    --------
    >>> oxygen_atoms("Al"), oxygen_atoms("U"), oxygen_atoms("U", {"U": 6})
    (1.5, 2.0, 3.0)
    """
    if valences is not None and element in valences:
        return valences[element] / 2.0
    if not has_oxide(element):
        raise InputError(
            "unit",
            "be asked of elements that have an oxide",
            f"{element} has no valence for one",
            f"Give `valences` with one for {element}, leave it out, or use at_frac or wt_pct.",
        )
    return oxygen_per_cation(element)


def has_oxide(element: str) -> bool:
    """Whether the element has a usual oxide: not oxygen, the halogens and the noble gases."""
    return element not in ANIONS and oxygen_per_cation(element) > 0.0


def check_valences(field: str, valences: object) -> dict[str, float]:
    """Return valences by element, or raise `InputError`.

    Examples
    --------
    >>> check_valences("output.valences", {"U": 6})
    {'U': 6.0}
    """
    if not isinstance(valences, Mapping):
        raise InputError(field, "be a table such as {U = 6}", f"is {shown(valences)}")
    for element in valences:
        check_element(field, element)
    return {
        str(element): check_between(f"{field}.{element}", value, 0.5, _LARGEST_VALENCE)
        for element, value in valences.items()
    }


def oxide_formula(element: str, valences: Mapping[str, float] | None = None) -> str:
    """Write the formula of the oxide: Al2O3, SiO2, FeO.

    Examples
    --------
    >>> oxide_formula("Al"), oxide_formula("Si"), oxide_formula("Fe"), oxide_formula("Fe", {"Fe": 3})
    ('Al2O3', 'SiO2', 'FeO', 'Fe2O3')
    """
    oxygen = oxygen_atoms(element, valences)
    if oxygen.is_integer() or not (2.0 * oxygen).is_integer():
        return f"{element}O{'' if oxygen == 1.0 else f'{oxygen:g}'}"
    return f"{element}2O{'' if oxygen == 0.5 else f'{2.0 * oxygen:g}'}"


def iron_oxide(ferric: xr.DataArray | float) -> str:
    """Name the oxide of iron at a share of ferric iron: all FeO, all Fe2O3, or both.

    Examples
    --------
    >>> iron_oxide(0.0), iron_oxide(1.0), iron_oxide(0.2)
    ('FeO', 'Fe2O3', 'FeO + Fe2O3')
    """
    shares = np.asarray(ferric)
    return "FeO" if (shares == 0.0).all() else "Fe2O3" if (shares == 1.0).all() else "FeO + Fe2O3"


def check_ferric(field: str, ferric: object, phases: Sequence[str] | None = None) -> FerricShare:
    """Return a share of ferric iron that can be drawn from, or raise `InputError`.

    Parameters
    ----------
    field
        Name of the field as the user knows it.
    ferric
        A number, (mean, sd), or a table of either by phase.
    phases
        Phases that a table may name; None for any.
    """
    if not isinstance(ferric, Mapping):
        return _share(field, ferric)
    for name in ferric:
        if phases is not None and name not in phases:
            must = f"name phases of the result: {', '.join(phases)}"
            raise InputError(field, must, f'holds "{name}"', suggest(name, phases))
    return {str(name): _share(f"{field}.{name}", value) for name, value in ferric.items()}


def _share(field: str, value: object) -> float | tuple[float, float]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers: list[Any] = list(value)
        if len(numbers) != 2:
            raise InputError(field, "be a share of iron or [mean, sd]", f"is {shown(value)}")
        mean = check_fraction(field, numbers[0], inclusive=True)
        sd = check_number(f"{field} (sd)", numbers[1])
        most = float(np.sqrt(mean * (1.0 - mean)))
        if not (sd == 0.0 or 0.0 < sd < most):
            must = f"be 0 or less than {most:.3g}, the most that a share of mean {mean:g} can have"
            raise InputError(f"{field} (sd)", must, f"is {sd:g}")
        return mean, sd
    return check_fraction(field, value, inclusive=True)


def draw_ferric(ferric: FerricShare, composition: xr.DataArray, seed: int) -> xr.DataArray | float:
    """Draw the share of ferric iron, once per posterior draw and phase.

    Parameters
    ----------
    ferric
        Checked by `check_ferric`.
    composition : DataArray (..., element)
        Its dimensions chain, draw and phase are those of the share.
    seed
        The same seed gives the same shares, whatever the unit.

    Returns
    -------
    A number where nothing varies, else DataArray over those of chain, draw and phase that the composition has.
    """
    if isinstance(ferric, float | int):
        return float(ferric)
    if not isinstance(ferric, Mapping) and ferric[1] == 0.0:
        return float(ferric[0])
    dims = [dim for dim in ("chain", "draw", "phase") if dim in composition.dims]
    like = composition.isel(element=0, drop=True).transpose(*dims)
    names = [str(name) for name in np.atleast_1d(like["phase"].values)] if "phase" in like.coords else [""]
    shape = tuple(like.sizes[dim] for dim in dims if dim != "phase")
    columns = []
    for index, name in enumerate(names):
        share = ferric.get(name, 0.0) if isinstance(ferric, Mapping) else ferric
        columns.append(_beta(share, shape, np.random.default_rng([seed, 22, index])))
    values = np.stack(columns, axis=-1) if "phase" in dims else columns[0]
    return like.copy(data=values).rename("ferric_share")


def _beta(
    share: float | tuple[float, float], shape: tuple[int, ...], rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draws of a Beta distribution with a given mean and sd: alpha + beta = mean (1 - mean) / sd^2 - 1."""
    mean, sd = share if isinstance(share, tuple) else (share, 0.0)
    if sd == 0.0:
        return np.full(shape, mean)
    size = mean * (1.0 - mean) / sd**2 - 1.0
    return np.asarray(rng.beta(mean * size, (1.0 - mean) * size, shape))


def oxygen_per_atom(
    composition: xr.DataArray,
    *,
    ferric: xr.DataArray | float = 0.0,
    valences: Mapping[str, float] | None = None,
    strict: bool = True,
) -> xr.DataArray:
    """Return the oxygen atoms that one atom of each element binds, DataArray (element) or (..., element).

    Elements that have no oxide are refused, or bind none where `strict` is false.

    Raises
    ------
    InputError
        If an element has no oxide, or iron has both a valence and a share of ferric iron.
    """
    elements = [str(element) for element in composition["element"].values]
    split = not (isinstance(ferric, float) and ferric == 0.0)
    if split and valences is not None and "Fe" in valences:
        raise InputError(
            "valences", "leave out Fe where `ferric` is given", "holds Fe", "Give one of the two."
        )
    bound = xr.DataArray(
        [oxygen_atoms(element, valences) if strict or has_oxide(element) else 0.0 for element in elements],
        dims="element",
        coords={"element": composition["element"]},
    )
    if not split or "Fe" not in elements:
        return bound
    iron = (_FERROUS + (_FERRIC - _FERROUS) * ferric) / 2.0
    # Where the element is iron its own number stands, over whatever dimensions that has.
    is_iron = bound["element"] == "Fe"
    return bound.where(~is_iron, iron)
