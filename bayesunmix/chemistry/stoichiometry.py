"""Stoichiometry as a soft constraint: which cations share a site, and how many sites there are.

A formula such as ``ABO3`` says that a mineral holds as many large cations (site A) as small ones (site B). For an
ideal composition x over the cations e,

    sum_e a_e x_e / sum_e b_e x_e = target ratio

where a_e and b_e are the shares of the element that sit on A and on B. For bridgmanite, ``ABO3``, this is the site
ratio (Mg + Fe + Ca + Al/2) / (Si + Al/2) = 1. Aluminium enters by the coupled substitution Mg + Si = 2 Al, so half of
it counts on each site.

Assignment of the elements
--------------------------
small (B)       cations of charge four or more whose radius in octahedral coordination is at most that of Zr4+
                (0.72 Å), and boron. Hf4+ (0.71 Å) and Zr4+ are here because they replace Ti4+ and Si4+ in perovskites
                (CaZrO3, CaHfO3).
amphoteric      trivalent cations small enough for B (at most 0.64 Å): Al, Cr, Ga, V. Half on each site where B is a
                tetravalent site, all on B where B is a trivalent site (spinel, ``AB2O4``).
neither         anions and the elements of organic contamination: H, C, N, O, F, S, Cl, Br, I and the noble gases.
large (A)       all others: Mg, Fe, Mn, Ca, alkalis, rare earths, Th and U (0.94 and 0.89 Å). Iron counts as Fe2+.

An element named in a formula such as ``ZrSiO4`` sits where the formula puts it.

References
----------
Radii: Shannon, R. D., Acta Cryst. A 32 (1976) 751, doi:10.1107/S0567739476001551.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, shown, suggest

SYMBOLS = tuple(
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au "
    "Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf".split()
)
"""Chemical symbols in order of atomic number, from hydrogen to californium."""

SMALL = frozenset("B Si P Ti Ge As Zr Nb Mo Sn Sb Hf Ta W".split())
AMPHOTERIC = frozenset("Al V Cr Ga".split())
NEITHER = frozenset("H He C N O F Ne S Cl Ar Br Kr I Xe Rn".split())
# The formula unit of the largest minerals has some hundred atoms.
LONGEST_FORMULA, MOST_ATOMS = 200, 1000.0
_ANIONS = frozenset("H F Cl Br I He Ne Ar Kr Xe Rn".split())

_TOKEN = re.compile(r"([A-Z][a-z]?|\([A-Z][a-z]?(?:, ?[A-Z][a-z]?)+\))(\d+(?:\.\d+)?)?")
_REMEDY = (
    'Give sites such as "ABO3", "AO" or "A2BO4", or elements such as "MgSiO3", "(Ni,Co)3Al" or "Fe1-xS".'
)
# Charges of the ideal end members: divalent cations on the large site, tetravalent ones on the small site.
_LARGE_CHARGE, _SMALL_CHARGE = 2.0, 4.0


class SiteWeights(NamedTuple):
    """Shares of each element on the large and the small cation site, and the ratio of the two sites.

    Attributes
    ----------
    a, b
        Shares of shape (element,), between 0 and 1.
    ratio
        Cations on A per cation on B in the ideal formula.
    """

    a: npt.NDArray[np.float64]
    b: npt.NDArray[np.float64]
    ratio: float


@dataclass(frozen=True)
class Formula:
    """A parsed formula: how many cations of A per cation of B, and the elements it places itself.

    Attributes
    ----------
    text
        The formula as written.
    ratio
        Cations on A per cation on B; None for a formula with one cation site, which constrains nothing.
    amphoteric_on_b
        Share of Al, Cr, Ga and V on B.
    placed
        Share on B of each element that the formula names.
    """

    text: str
    ratio: float | None
    amphoteric_on_b: float
    placed: dict[str, float]

    def share_on_b(self, element: str) -> float | None:
        """Share of `element` on the small site; None for an element that sits on neither site."""
        if element in self.placed:
            return self.placed[element]
        if element in NEITHER:
            return None
        if element in AMPHOTERIC:
            return self.amphoteric_on_b
        return 1.0 if element in SMALL else 0.0


def check_element(field: str, value: object) -> str:
    """Return `value`, or raise `InputError` unless it is a chemical symbol from H to Cf.

    Examples
    --------
    >>> check_element("sample.elements", "Mg")
    'Mg'
    """
    if isinstance(value, str) and value in SYMBOLS:
        return value
    near = value.strip().capitalize() if isinstance(value, str) else ""
    remedy = f'Did you mean "{near}"?' if near in SYMBOLS else suggest(value, SYMBOLS)
    raise InputError(field, "be a chemical symbol such as Mg", f"is {shown(value)}", remedy)


def check_elements(field: str, value: object) -> tuple[str, ...]:
    """Return `value` as a tuple of distinct chemical symbols, or raise `InputError`."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InputError(field, "be a list of chemical symbols", f"is {shown(value)}", 'Write ["Mg", "Si"].')
    symbols = tuple(check_element(field, symbol) for symbol in value)
    repeated = sorted(symbol for symbol, times in Counter(symbols).items() if times > 1)
    if repeated:
        raise InputError(field, "name each element once", f"repeats {', '.join(repeated)}")
    return symbols


def parse_formula(formula: str, field: str = "stoichiometry") -> Formula:
    """Read a formula of cation sites (``ABO3``) or of elements (``MgSiO3``, ``(Mg,Fe)2SiO4``).

    In a formula of sites the first letter is the large site and the last one before O the small site. A site between
    them belongs to both, by the charge that the oxygens leave to it: half and half for the trivalent site of a garnet
    ``A3B2C3O12``.

    Raises
    ------
    InputError
        If the text is no formula of cations followed by oxygen, or its charges cannot balance.

    Examples
    --------
    >>> parse_formula("ABO3").ratio, parse_formula("A2BO4").ratio, parse_formula("AO").ratio
    (1.0, 2.0, None)
    >>> parse_formula("Mg3Al2Si3O12").ratio
    1.0
    """
    cations, oxygen, beside = _tokens(formula, field)
    letters = [name for name in cations if name not in SYMBOLS]
    if not letters:
        mineral = _mineral(formula, cations, field)
        shared = {name: mineral.placed[first] for name, first in beside.items() if first in mineral.placed}
        return replace(mineral, placed=mineral.placed | shared)
    if any(len(name) > 1 for name in cations):
        raise InputError(field, "hold either site letters or elements", f'is "{formula}"', _REMEDY)
    return _sites(formula, list(cations.values()), oxygen, field)


def site_weights(
    formula: str | Formula, elements: Sequence[str], field: str = "stoichiometry"
) -> SiteWeights | None:
    """Shares of `elements` on the two cation sites of `formula`, and the ratio the sites should have.

    Returns None for a formula with one cation site (``AO``), which says nothing about the ratio of the cations.

    Raises
    ------
    InputError
        If the formula cannot be read, or one of its sites has no element.

    Examples
    --------
    >>> a, b, ratio = site_weights("ABO3", ["Mg", "Al", "Si"])
    >>> a.tolist(), b.tolist(), ratio
    ([1.0, 0.5, 0.0], [0.0, 0.5, 1.0], 1.0)
    """
    parsed = parse_formula(formula, field) if isinstance(formula, str) else formula
    if parsed.ratio is None:
        return None
    shares = [parsed.share_on_b(element) for element in elements]
    a = np.array([0.0 if share is None else 1.0 - share for share in shares])
    b = np.array([0.0 if share is None else share for share in shares])
    for site, weights in (("A", a), ("B", b)):
        if not weights.any():
            raise InputError(
                field,
                "have an element of the phase on each cation site",
                f'is "{parsed.text}" and none of {", ".join(elements) or "no element"} sits on the {site} site',
            )
    return SiteWeights(a, b, parsed.ratio)


def formula_content(formula: str, field: str = "stoichiometry") -> tuple[float, float]:
    """Return the cations and the oxygens of one formula unit.

    Raises
    ------
    InputError
        If the text is no formula of cations followed by oxygen.

    Examples
    --------
    >>> formula_content("ABO3"), formula_content("Mg3Al2Si3O12"), formula_content("AO")
    ((2.0, 3.0), (8.0, 12.0), (1.0, 1.0))
    """
    cations, oxygen, _ = _tokens(formula, field)
    return sum(cations.values()), oxygen


def is_of_sites(formula: str) -> bool:
    """Whether a formula names sites, as ``ABO3`` does, and no elements.

    Examples
    --------
    >>> is_of_sites("ABO3"), is_of_sites("MgSiO3"), is_of_sites("Ni3Al")
    (True, False, False)
    """
    return any(name not in SYMBOLS for name in re.findall(r"[A-Z][a-z]?", formula))


def places_cations(formula: str) -> bool:
    """Whether a formula is one of cations and oxygen, whose sites every cation can be placed on.

    Examples
    --------
    >>> places_cations("ABO3"), places_cations("(Mg,Fe)2SiO4"), places_cations("Ni3Al")
    (True, True, False)
    """
    try:
        parse_formula(formula)
    except InputError:
        return False
    return True


def _tokens(formula: str, field: str) -> tuple[dict[str, float], float, dict[str, str]]:
    """Split a formula into cations with their counts, the count of oxygens, and what sits beside which cation."""
    must = "be a chemical formula, or one of cation sites and oxygen"
    if isinstance(formula, str) and len(formula) > LONGEST_FORMULA:
        raise InputError(field, f"have at most {LONGEST_FORMULA} letters", f"has {len(formula)}", _REMEDY)
    if not isinstance(formula, str) or not re.fullmatch(f"(?:{_TOKEN.pattern})+", formula):
        raise InputError(field, must, f"is {shown(formula)}", _REMEDY)
    sites = [(re.findall(r"[A-Z][a-z]?", name), float(count or 1)) for name, count in _TOKEN.findall(formula)]
    names = [name for site, _ in sites for name in site]
    unknown = [name for name in names if name not in SYMBOLS and len(name) > 1]
    if unknown:
        raise InputError(field, must, f'is "{formula}" with the unknown element {unknown[0]}', _REMEDY)
    if len(set(names)) < len(names):
        raise InputError(field, "name each site or element once", f'is "{formula}"', _REMEDY)
    counts = [count for _, count in sites]
    if len(sites) < 2 or sites[-1][0] != ["O"] or not all(0 < count <= MOST_ATOMS for count in counts):
        raise InputError(field, must, f'is "{formula}"', _REMEDY)
    cations = {site[0]: count for site, count in sites[:-1]}
    return cations, counts[-1], {name: site[0] for site, _ in sites for name in site[1:]}


def _sites(formula: str, counts: list[float], oxygen: float, field: str) -> Formula:
    """Ratio of the sites from their counts and from the charge that the oxygens ask for."""
    if len(counts) == 1:
        return Formula(formula, None, 0.5, {})
    if len(counts) > 3:
        raise InputError(field, "have at most three cation sites", f'is "{formula}"', _REMEDY)
    large, small = counts[0], counts[-1]
    charge = 2.0 * oxygen - _LARGE_CHARGE * large
    if len(counts) == 2:
        small_charge = charge / small
        if not 2.0 <= small_charge <= 6.0:
            raise InputError(
                field,
                "balance in charge with divalent cations on the first site",
                f'is "{formula}", which leaves {small_charge:.3g} for each cation of the second',
            )
        return Formula(formula, large / small, 1.0 if small_charge <= 3.0 else 0.5, {})
    middle_charge = (charge - _SMALL_CHARGE * small) / counts[1]
    on_b = (middle_charge - _LARGE_CHARGE) / (_SMALL_CHARGE - _LARGE_CHARGE)
    if not 0.0 <= on_b <= 1.0:
        raise InputError(
            field,
            "balance in charge with divalent cations on the first site and tetravalent ones on the last",
            f'is "{formula}", which leaves {middle_charge:.3g} for each cation between them',
        )
    return Formula(formula, (large + counts[1] * (1 - on_b)) / (small + counts[1] * on_b), 0.5, {})


def _mineral(formula: str, counts: dict[str, float], field: str) -> Formula:
    """Sites of a formula of elements: each named element by the table, unless that leaves a site empty."""
    anions = [name for name in counts if name in _ANIONS]
    if anions:
        raise InputError(field, "name cations and oxygen only", f'is "{formula}" with {anions[0]}', _REMEDY)
    large = [name for name in counts if name not in SMALL | AMPHOTERIC | NEITHER]
    small = [name for name in counts if name in SMALL | NEITHER]
    amphoteric = [name for name in counts if name in AMPHOTERIC]
    on_b = 0.5
    if len(counts) == 1:
        return Formula(formula, None, on_b, {})
    if large and not small and amphoteric:
        on_b = 1.0  # spinel: the trivalent cation is the small one
    elif small and not large and amphoteric:
        on_b = 0.0  # kyanite: the trivalent cation is the large one
    placed = dict.fromkeys(large, 0.0) | dict.fromkeys(small, 1.0) | dict.fromkeys(amphoteric, on_b)
    if len(set(placed.values())) == 1:  # zircon: both on one side, so the order of the formula decides
        placed = {name: float(index > 0) for index, name in enumerate(counts)}
    a = sum(count * (1.0 - placed[name]) for name, count in counts.items())
    b = sum(count * placed[name] for name, count in counts.items())
    return Formula(formula, a / b, on_b, placed)
