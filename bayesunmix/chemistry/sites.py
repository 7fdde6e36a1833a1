"""Formula units as a check: site sums, charge balance and vacancies of a phase of known formula, draw by draw.

On the basis of the formula's N oxygens, n_e atoms of element e of valence v_e fill the sites:

    large site   sum_e a_e n_e,     small site   sum_e b_e n_e          (a, b: `bayesunmix.chemistry.stoichiometry`)

against the ideal A and B of the formula. Oxygen by stoichiometry balances the charge identically, so what can be
checked is the number of cations. On the basis of the ideal number C of cations the same is a charge,

    excess charge = C sum_e v_e x_e - 2 N,

zero when neither vacancies nor wrong valences are there. Where oxygen was measured, it is sum_e v_e n_e - 2 N.

*Vacancies.* Charge balance gives the vacancies of all sites together as C - sum_e n_e, whatever sits where, but with
the errors of the main elements. The minor ones say more of a perovskite: a cation of more than two charges on the large
site brings an excess, REE3+ one, U4+ two. Aluminium and its like take it up on the small site (REE3+ + Al3+ = Ca2+ +
Si4+) or pair with themselves (2 Al3+ = Ca2+ + Si4+); what is left asks for vacancies of the large site, 3 Ca2+ = 2
REE3+ + vacancy and 2 Ca2+ = U4+ + vacancy. With q the excess of the elements that have one site,

    q = sum_e a_e n_e (v_e - 2) - sum_e b_e n_e (4 - v_e),        n_Al the cations that take either site,

there are at least max(q - n_Al, 0) / 2 and at most max(q, 0) / 2 vacancies.
In a formula of one site (AO), of divalent cations, each two of three charges ask for one vacancy.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.chemistry.oxides import oxygen_per_atom
from bayesunmix.chemistry.stoichiometry import NEITHER, formula_content, parse_formula, site_weights
from bayesunmix.chemistry.units import convert, mg_number
from bayesunmix.core.credible import interval
from bayesunmix.core.rounding import interval_text

FloatArray = npt.NDArray[np.float64]

LARGE, SMALL = "large site", "small site"
CATIONS, CHARGE = "cations", "excess charge"
EXCESS_LARGE, EITHER = "excess charge of the large site", "trivalent cations of either site"
COUNTED, LEAST, MOST = (
    "vacancies",
    "vacancies of the large site, at least",
    "vacancies of the large site, at most",
)
MG_NUMBER = "Mg#"
_LARGE_CHARGE, _SMALL_CHARGE = 2.0, 4.0
# Less than this of an element per formula unit is not worth a word.
_WORTH_NAMING = 1e-4


def site_quantities(
    composition: xr.DataArray,
    formula: str,
    present: list[str],
    *,
    ferric: xr.DataArray | float = 0.0,
    valences: Mapping[str, float] | None = None,
) -> dict[str, tuple[xr.DataArray, float]]:
    """Return draws of every quantity that can be checked, each with its ideal value (nan where there is none).

    Parameters
    ----------
    composition : DataArray (chain, draw, element)
        Atom fractions of one phase.
    formula : str
        Its formula, of sites (``ABO3``) or elements (``MgSiO3``).
    present : list of str
        Elements that are not declared absent.
    ferric, valences
        As in `bayesunmix.chemistry.units.convert`.

    Raises
    ------
    InputError
        If the formula cannot be read, a site has no element, or an element has no oxide.
    """
    ideal, oxygens = formula_content(formula)
    measured = "O" in composition["element"].values
    atoms = convert(composition, "apfu", oxygens=oxygens, ferric=ferric, valences=valences)
    charge = 2.0 * oxygen_per_atom(atoms, ferric=ferric, valences=valences)
    total = atoms.sum("element")
    positive = (charge * atoms).sum("element")
    found = {
        CATIONS: (total, ideal),
        CHARGE: ((positive if measured else positive * ideal / total) - 2.0 * oxygens, 0.0),
        COUNTED: (ideal - total, np.nan),
    }
    cations = [element for element in present if element != "O"]
    weights = site_weights(formula, cations)
    if weights is None:
        return found
    # The sites share the cations of the formula in the ratio that its letters give them.
    large = ideal * weights.ratio / (1.0 + weights.ratio)
    a, b = (_along(atoms, cations, shares) for shares in (weights.a, weights.b))
    found[LARGE] = ((a * atoms).sum("element"), large)
    found[SMALL] = ((b * atoms).sum("element"), ideal - large)
    if np.isclose(_LARGE_CHARGE * large + _SMALL_CHARGE * (ideal - large), 2.0 * oxygens):
        either = ((b > 0.0) & (b < 1.0)).astype(float)
        large_only, small_only = (share * (1.0 - either) for share in (a, b))
        excess = (large_only * atoms * (charge - _LARGE_CHARGE)).sum("element")
        excess = excess - (small_only * atoms * (_SMALL_CHARGE - charge)).sum("element")
        taken = (either * atoms).sum("element")
        found[EXCESS_LARGE], found[EITHER] = (excess, np.nan), (taken, np.nan)
        found[LEAST] = ((excess - taken).clip(min=0.0) / 2.0, np.nan)
        found[MOST] = (excess.clip(min=0.0) / 2.0, np.nan)
    return found


def _along(atoms: xr.DataArray, cations: list[str], shares: FloatArray) -> xr.DataArray:
    known = dict(zip(cations, shares, strict=True))
    values = [known.get(str(element), 0.0) for element in atoms["element"].values]
    return xr.DataArray(values, dims="element", coords={"element": atoms["element"]})


def site_table(
    composition: xr.DataArray,
    formulas: Mapping[str, str],
    absent: Mapping[str, list[str]],
    level: float,
    *,
    ferric: xr.DataArray | float = 0.0,
    valences: Mapping[str, float] | None = None,
) -> pd.DataFrame:
    """Site sums, charges, vacancies and Mg# of every phase, each with its interval and what it should be.

    Parameters
    ----------
    composition : DataArray (chain, draw, phase, element)
        Atom fractions.
    formulas : mapping
        Formula by phase; a phase without one has its Mg# only.
    absent : mapping
        Elements declared absent, by phase.
    level : float
        Probability of the intervals.
    ferric, valences
        As in `bayesunmix.chemistry.units.convert`.

    Returns
    -------
    pandas.DataFrame
        Columns phase, quantity, mean, sd, median, lower, upper, level, ideal, and ``agrees``: whether the interval
        holds the ideal value (missing where there is none).
    """
    elements = [str(element) for element in composition["element"].values]
    rows = []
    for phase in map(str, composition["phase"].values):
        one, share = composition.sel(phase=phase), _of(ferric, phase)
        present = [element for element in elements if element not in absent.get(phase, [])]
        found = {}
        if phase in formulas:
            found = site_quantities(one, formulas[phase], present, ferric=share, valences=valences)
        if {"Mg", "Fe"} <= set(present):
            found[MG_NUMBER] = (mg_number(one, ferric=share), np.nan)
        rows += [
            {"phase": phase, "quantity": name, **_summary(draws, ideal, level)}
            for name, (draws, ideal) in found.items()
        ]
    columns = ["phase", "quantity", *_COLUMNS]
    return pd.DataFrame(rows, columns=columns)


_COLUMNS = ("mean", "sd", "median", "lower", "upper", "level", "ideal", "agrees")


def _of(ferric: xr.DataArray | float, phase: str) -> xr.DataArray | float:
    by_phase = isinstance(ferric, xr.DataArray) and "phase" in ferric.dims
    return ferric.sel(phase=phase) if by_phase else ferric  # type: ignore[union-attr]


def _summary(draws: xr.DataArray, ideal: float, level: float) -> dict[str, object]:
    values = np.asarray(draws.values, dtype=np.float64).ravel()
    point = len(values) == 1
    lower, upper = (np.nan, np.nan) if point else map(float, interval(values, level))
    unknown = point or not np.isfinite(ideal)
    return {
        "mean": float(values.mean()),
        "sd": np.nan if point else float(values.std(ddof=1)),
        "median": float(np.median(values)),
        "lower": lower,
        "upper": upper,
        "level": level,
        "ideal": ideal,
        "agrees": None if unknown else bool(lower <= ideal <= upper),
    }


def vacancy_notes(
    table: pd.DataFrame,
    composition: xr.DataArray,
    formulas: Mapping[str, str],
    unseen: Mapping[str, list[str]],
    *,
    ferric: xr.DataArray | float = 0.0,
    valences: Mapping[str, float] | None = None,
) -> list[str]:
    """Say in a sentence per phase which cations ask for vacancies, and whether the site sums show them.

    Parameters
    ----------
    table
        From `site_table`.
    composition, formulas, ferric, valences
        As there.
    unseen
        Elements that were not found in a phase, or declared absent, by phase: they are not named.
    """
    notes = []
    for phase, formula in formulas.items():
        rows = {row.quantity: row for row in table[table.phase == phase].itertuples(index=False)}
        part = composition.sel(phase=phase)
        part = part.sel(element=[e for e in part["element"].values if e not in unseen.get(phase, [])])
        named = _aliovalent(part, formula, _of(ferric, phase), valences)
        if not named:
            continue
        text = {q: interval_text(row.median, row.lower, row.upper) for q, row in rows.items()}
        if EXCESS_LARGE in rows:
            notes.append(
                f"{phase}: {', '.join(named)} on the large site bring {text[EXCESS_LARGE]} excess charges per formula "
                f"unit of {formula}; {text[EITHER]} trivalent cations can take them up on the small site. They ask for "
                f"at least {text[LEAST]} and at most {text[MOST]} vacancies of the large site; the sum of all cations "
                f"leaves {text[COUNTED]}."
            )
        else:
            notes.append(
                f"{phase}: {', '.join(named)} beside divalent cations leave {text[COUNTED]} vacancies per formula unit "
                f"of {formula}."
            )
    return notes


def _aliovalent(
    composition: xr.DataArray,
    formula: str,
    ferric: xr.DataArray | float,
    valences: Mapping[str, float] | None,
) -> list[str]:
    """Name the cations of more than two charges on the large, or only, site: ``Nd3+``."""
    cations = [str(element) for element in composition["element"].values if element not in NEITHER]
    parsed = parse_formula(formula)
    part = composition.sel(element=cations)
    averaged = [dim for dim in ("chain", "draw") if dim in part.dims]
    charge = 2.0 * oxygen_per_atom(part, valences=valences).values
    amount = part.mean(averaged).values
    names = []
    for element, v, x in zip(cations, charge, amount, strict=True):
        on_small = parsed.share_on_b(element) or 0.0
        if v > _LARGE_CHARGE and x > _WORTH_NAMING and (parsed.ratio is None or on_small < 0.5):
            names.append(f"{element}{v:g}+")
    if "Fe" in cations and bool(np.asarray(ferric).any()):
        names.append("Fe3+")
    return names
