"""Formulas of any compound as sites: which elements share one, and how many atoms it has.

    Ni3Al, (Ni,Co)3(Al,Ti,Ta)     elements in brackets with commas share a site
    Ca5(PO4)3F                    brackets without commas multiply what they hold
    Fe1-xS, Cu2-xS, UO2+x         x is anything from 0 to 0.2

An element that is named twice, as aluminium in a mica, joins its sites to one: what is left to say is how many atoms
they have together. Formulas of oxides whose cations are placed by crystal chemistry are
`bayesunmix.chemistry.stoichiometry`'s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bayesunmix.chemistry.stoichiometry import LONGEST_FORMULA, MOST_ATOMS, SYMBOLS
from bayesunmix.core.errors import InputError, shown

# Pyrrhotite Fe(1-x)S reaches x = 0.13, digenite Cu(2-x)S 0.2, wüstite Fe(1-x)O 0.16 (Deer, Howie, Zussman,
# An Introduction to the Rock-Forming Minerals, 3rd ed., 2013, doi:10.1180/DHZ).
MOST_VACANT = 0.2

_COUNT = r"(\d+(?:\.\d+)?)?([+-]x)?"
_PART = re.compile(rf"(?:([A-Z][a-z]?)|\(([^()]*)\)){_COUNT}")
# A hydrate's dot is no decimal point.
_WATER = re.compile(r"\.\d*H2O")
_REMEDY = 'Write it as "Ni3Al", "(Ni,Co)3Al", "Ca5(PO4)3F" or "Fe1-xS".'


@dataclass(frozen=True)
class Site:
    """A site of a formula.

    Attributes
    ----------
    elements
        Those that may sit on it.
    least, most
        Atoms in the formula unit.
    """

    elements: frozenset[str]
    least: float
    most: float

    def times(self, number: float) -> Site:
        """Return the site so many times."""
        return Site(self.elements, number * self.least, number * self.most)

    def joined(self, other: Site) -> Site:
        """Return both sites as one."""
        return Site(self.elements | other.elements, self.least + other.least, self.most + other.most)


def formula_sites(formula: str, field: str = "stoichiometry") -> tuple[Site, ...]:
    """Read the sites of a formula, in the order in which it names them.

    Raises
    ------
    InputError
        If the text is no formula.

    Examples
    --------
    >>> [(sorted(site.elements), site.least, site.most) for site in formula_sites("(Mg,Fe)2SiO4")]
    [(['Fe', 'Mg'], 2.0, 2.0), (['Si'], 1.0, 1.0), (['O'], 4.0, 4.0)]
    >>> [(sorted(site.elements), site.least, site.most) for site in formula_sites("Fe1-xS")]
    [(['Fe'], 0.8, 1.0), (['S'], 1.0, 1.0)]
    """
    if not isinstance(formula, str) or not formula or len(formula) > LONGEST_FORMULA:
        raise InputError(field, "be a chemical formula", f"is {shown(formula)}", _REMEDY)
    if _WATER.search(formula):
        raise InputError(field, "write its water in brackets", f'is "{formula}"', 'Write "CaSO4(H2O)2".')
    return _joined(_parts(formula, formula, field))


def _parts(text: str, formula: str, field: str) -> list[Site]:
    """Sites of a part of a formula, one after the other."""
    found: list[Site] = []
    end = 0
    while end < len(text):
        part = _PART.match(text, end)
        if part is None:
            raise InputError(field, "be a chemical formula", f'is "{formula}"', _REMEDY)
        element, inside, number, open_ = part.groups()
        count = float(number or 1)
        least, most = count - MOST_VACANT * (open_ == "-x"), count + MOST_VACANT * (open_ == "+x")
        if least < 0.0 or not 0.0 < most <= MOST_ATOMS:
            raise InputError(
                field, f"have at most {MOST_ATOMS:g} atoms of an element, and some", f'is "{formula}"'
            )
        if inside is None or "," in inside:
            elements = [element] if inside is None else [name.strip() for name in inside.split(",")]
            found.append(Site(_known(elements, formula, field), least, most))
        elif open_ or not inside:
            raise InputError(field, "be a chemical formula", f'is "{formula}"', _REMEDY)
        else:
            found += [site.times(count) for site in _parts(inside, formula, field)]
        end = part.end()
    return found


def _known(elements: list[str], formula: str, field: str) -> frozenset[str]:
    unknown = next((name for name in elements if name not in SYMBOLS), None)
    if unknown is not None:
        must = "be a formula of chemical elements"
        raise InputError(field, must, f'is "{formula}" with the unknown element {shown(unknown)}', _REMEDY)
    return frozenset(elements)


def _joined(sites: list[Site]) -> tuple[Site, ...]:
    """Join sites that share an element."""
    apart: list[Site] = []
    for site in sites:
        shared = [other for other in apart if other.elements & site.elements]
        for other in shared:
            site = site.joined(other)
        first = apart.index(shared[0]) if shared else len(apart)
        apart = (
            [other for other in apart[:first] if other not in shared]
            + [site]
            + [other for other in apart[first:] if other not in shared]
        )
    return tuple(apart)
