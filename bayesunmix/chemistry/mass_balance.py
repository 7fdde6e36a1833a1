"""Mass balance: what the phases hold together, against what went into the sample.

With n_k the share of phase k in the atoms of the map, x_ke its composition, o_e the oxygen atoms
that an atom of e binds,

    c_e = 100 sum_k n_k x_ke M_e / sum_k n_k sum_i x_ki (M_i + o_i M_O)        weight per cent of the sample
    share of phase k in element e = n_k x_ke / sum_k n_k x_ke

draw by draw: where a phase could be richer and rarer, the product is known better than its factors. An element that a
phase was not found to hold may be zero there: the lower end of an interval leaves that phase out,
the upper one does not.

*Shares of the phases.* The endmembers s_k of a draw add up to the sum spectrum Y of the map, Y ~ Poisson(sum_k C_k
s_k). C_k is its maximum of likelihood by iteratively reweighted least squares, with its normal error; n_k is
proportional to C_k g_k, with g_k atoms per count.

Source of the reweighted fit: McCullagh, P. and Nelder, J. A., Generalized Linear Models, 2nd ed. (1989), section 2.5.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.chemistry.oxides import oxygen_per_atom
from bayesunmix.chemistry.stoichiometry import SYMBOLS, check_element
from bayesunmix.core.credible import interval
from bayesunmix.core.errors import InputError, check_positive, shown
from bayesunmix.core.shares import shares_of
from bayesunmix.xray.atomic import atomic_weight

FloatArray = npt.NDArray[np.float64]

_STEPS = 30
# A phase never gets less than this share of the counts in the reweighting: a variance must stay positive.
_LEAST_SHARE = 1e-9
# Least information in a direction, as a share of the most, so that it has an inverse.
RIDGE = 2e-11
_OXIDE = re.compile(r"([A-Z][a-z]?)(\d*)O(\d*)")
_FIELD = "sample.bulk_wt_pct"


@dataclass(frozen=True)
class BulkAmount:
    """Weight per cent of an element that went into the sample, and its standard uncertainty."""

    value: float
    sd: float


def check_bulk(bulk: object, elements: Sequence[str], field: str = _FIELD) -> dict[str, BulkAmount]:
    """Read a bulk composition: weight per cent by element or oxide, each a number or [value, sd].

    Raises
    ------
    InputError
        If it is no such table, names what is not declared, names an element twice, or sums to more than 100.

    Examples
    --------
    >>> found = check_bulk({"Nd": 0.3, "SiO2": [45.0, 0.5]}, ["Nd", "Si"])
    >>> found["Nd"], round(found["Si"].value, 2)
    (BulkAmount(value=0.3, sd=0.0), 21.04)
    """
    if not isinstance(bulk, Mapping) or not bulk:
        raise InputError(field, "be a table such as {Nd = 0.3, U = [0.3, 0.01]}", f"is {shown(bulk)}")
    found: dict[str, BulkAmount] = {}
    for key, value in bulk.items():
        element, factor = _element(field, key)
        if element not in elements:
            raise InputError(f"{field}.{key}", f"name one of {', '.join(elements)}", "is not declared")
        if element in found:
            raise InputError(field, "name each element once", f"names {element} twice")
        numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value, 0.0]
        if len(numbers) != 2:
            raise InputError(f"{field}.{key}", "be a number or [value, sd]", f"is {shown(value)}")
        amount = check_positive(f"{field}.{key}", numbers[0])
        sd = check_positive(f"{field}.{key} (sd)", numbers[1], allow_zero=True)
        found[element] = BulkAmount(factor * amount, factor * sd)
    total = sum(given.value for given in found.values())
    if total > 100.0 + 1e-9:
        raise InputError(field, "sum to at most 100 % of the elements", f"sums to {total:.4g}")
    return found


def _element(field: str, key: object) -> tuple[str, float]:
    """Element of a key and its weight share: ``Nd`` is all Nd, ``Nd2O3`` by its formula."""
    match = _OXIDE.fullmatch(str(key))
    if key in SYMBOLS or match is None or match.group(1) not in SYMBOLS:
        return check_element(field, key), 1.0
    element, metal, oxygen = match.group(1), float(match.group(2) or 1), float(match.group(3) or 1)
    weight = metal * atomic_weight(element)
    return element, weight / (weight + oxygen * atomic_weight("O"))


def count_shares(total: FloatArray, spectra: FloatArray, seed: int) -> FloatArray:
    """Draw the share of each phase in the counts of the map, one draw per draw of the endmembers, (draw, phase).

    Parameters
    ----------
    total : (energy,)
        Counts of the whole map.
    spectra : (draw, phase, energy)
        Endmembers, unit sum.
    seed
        Of the normal errors.
    """
    draws, phases, _ = spectra.shape
    share = np.full((draws, phases), 1.0 / phases)
    counts = total.sum()
    for _ in range(_STEPS):
        weight = counts / np.maximum(np.einsum("dk,dkc->dc", share, spectra), 1e-300)
        scaled = spectra * weight[:, None, :]
        values, vectors = np.linalg.eigh(np.einsum("dkc,dlc->dkl", scaled, spectra))
        # Of two phases with the same spectrum each gets half: rounding may leave them less than no information.
        values = np.maximum(values, RIDGE * values[:, -1:])
        target = np.einsum("dkc,c->dk", scaled, total / counts)
        along = np.einsum("dkv,dk->dv", vectors, target) / values
        share = np.maximum(np.einsum("dkv,dv->dk", vectors, along), _LEAST_SHARE)
        share /= share.sum(axis=1, keepdims=True)
    if draws == 1:
        return share
    normal = np.random.default_rng([seed, 23]).normal(size=share.shape)
    # The symmetric root: it does not hang on the signs of the vectors.
    along = np.einsum("dkv,dk->dv", vectors, normal) / np.sqrt(values)
    error = np.einsum("dkv,dv->dk", vectors, along)
    drawn = np.maximum(share + error, 0.0)
    return shares_of(drawn)


def balance_table(
    composition: xr.DataArray,
    atom_shares: xr.DataArray,
    found_in: Mapping[str, list[str]],
    bulk: Mapping[str, BulkAmount],
    level: float,
    *,
    oxygen: bool,
    ferric: xr.DataArray | float = 0.0,
    valences: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Recovered against given weight per cent of every element.

    Parameters
    ----------
    composition : DataArray (chain, draw, phase, element)
        Atom fractions.
    atom_shares : DataArray (chain, draw, phase) or (phase)
        Shares of the phases in the atoms of the map.
    found_in : mapping
        Phases in which each element was detected.
    bulk : mapping
        Given amounts, by element.
    level : float
        Probability of the intervals.
    oxygen : bool
        Count the oxygen that the elements bind as part of the sample.
    ferric, valences
        As in `bayesunmix.chemistry.units.convert`.

    Returns
    -------
    pandas.DataFrame
        Columns element, given, given_sd, mean, sd, median, lower, upper (recovered, weight per cent), ratio,
        ratio_lower, ratio_upper (recovered / given), level, kind (``interval``, or ``upper`` for an element found in no
        phase) and agrees: whether the interval of the ratio holds 1.
    """
    mass = composition * atom_shares * _masses(composition)
    bound = xr.DataArray(0.0)
    if oxygen and "O" not in composition["element"].values:
        per_atom = oxygen_per_atom(composition, ferric=ferric, valences=valences, strict=False)
        bound = (composition * atom_shares * per_atom).sum(["phase", "element"]) * atomic_weight("O")
    share = 100.0 * mass / (mass.sum(["phase", "element"]) + bound)
    rows = []
    for element in map(str, composition["element"].values):
        one = share.sel(element=element)
        everywhere = one.sum("phase").values.ravel()
        seen = one.sel(phase=found_in[element]).sum("phase").values.ravel()
        rows.append({"element": element, **_recovered(everywhere, seen, bulk.get(element), level)})
    return pd.DataFrame(rows)


def element_budget_table(
    composition: xr.DataArray, atom_shares: xr.DataArray, found_in: Mapping[str, list[str]], level: float
) -> pd.DataFrame:
    """Share of every element's atoms that each phase holds.

    Returns
    -------
    pandas.DataFrame
        Columns phase, element, mean, sd, median, lower, upper, level and detected.
    """
    amount = (composition * atom_shares).transpose("chain", "draw", "phase", "element")
    total = amount.sum("phase")
    share = (amount / total.where(total > 0.0)).values.reshape(-1, *amount.shape[2:])
    point = len(share) == 1
    rows = []
    for k, phase in enumerate(map(str, composition["phase"].values)):
        for i, element in enumerate(map(str, composition["element"].values)):
            values = share[:, k, i]
            detected = phase in found_in[element]
            lower, upper = (np.nan, np.nan) if point else map(float, interval(values, level))
            rows.append(
                {
                    "phase": phase,
                    "element": element,
                    "mean": float(values.mean()),
                    "sd": np.nan if point else float(values.std(ddof=1)),
                    "median": float(np.median(values)),
                    "lower": lower if detected or point else 0.0,
                    "upper": upper if detected or point else float(np.quantile(values, level)),
                    "level": level,
                    "detected": detected,
                }
            )
    return pd.DataFrame(rows)


def _masses(composition: xr.DataArray) -> xr.DataArray:
    weights = [atomic_weight(str(element)) for element in composition["element"].values]
    return xr.DataArray(weights, dims="element", coords={"element": composition["element"]})


def _recovered(
    everywhere: FloatArray, seen: FloatArray, given: BulkAmount | None, level: float
) -> dict[str, object]:
    """Recovered amount with its interval, and its ratio to the given one."""
    point, detected = len(everywhere) == 1, bool(seen.any())
    ends = np.array([np.nan, np.nan])
    if not point and detected:
        ends = np.array([interval(seen, level)[0], interval(everywhere, level)[1]])
    elif not point:
        ends = np.array([0.0, np.quantile(everywhere, level)])
    row: dict[str, object] = {
        "given": np.nan if given is None else given.value,
        "given_sd": np.nan if given is None else given.sd,
        "mean": float(everywhere.mean()),
        "sd": np.nan if point else float(everywhere.std(ddof=1)),
        "median": float(np.median(everywhere)),
        "lower": float(ends[0]),
        "upper": float(ends[1]),
        **dict.fromkeys(("ratio", "ratio_lower", "ratio_upper"), np.nan),
        "level": level,
        "kind": "interval" if detected else "upper",
        "agrees": None,
    }
    if given is None:
        return row
    # What went in is as uncertain as its sd says: quantiles of a normal, in an order of their own.
    scatter = np.random.default_rng(len(everywhere)).normal(given.value, given.sd, len(everywhere))
    amount = np.maximum(scatter, 1e-3 * given.value)
    row["ratio"] = float(np.median(everywhere / amount))
    if not point:
        low = interval(seen / amount, level)[0] if detected else 0.0
        high = (
            interval(everywhere / amount, level)[1] if detected else np.quantile(everywhere / amount, level)
        )
        row |= {"ratio_lower": float(low), "ratio_upper": float(high), "agrees": bool(low <= 1.0 <= high)}
    return row
