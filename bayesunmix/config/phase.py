"""Tables ``[[phases]]``: what the user declares about a phase."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

from bayesunmix.chemistry.formula_sites import formula_sites
from bayesunmix.chemistry.stoichiometry import (
    check_elements,
    is_of_sites,
    parse_formula,
    places_cations,
    site_weights,
)
from bayesunmix.config.reference import AnyReference
from bayesunmix.config.region import AnyRegion
from bayesunmix.config.validated import validated
from bayesunmix.config.values import Flag, Pair, by_element, checked_by
from bayesunmix.core.errors import InputError, check_between, shown, suggest
from bayesunmix.core.limits import Between
from bayesunmix.core.summary import Summary

MOST_PHASES = 20
# So many are counted at most where their number is left to the map.
MOST_COUNTED = 8
# An atom fraction is never known better than this.
LEAST_SD = 1e-5
# Names stand in figures and at the head of columns.
LONGEST_NAME = 80
UNSAID: tuple[object, ...] = (None, False, "phase", {}, ())
_PERCENT = "Give 0.15 for 15 %."
# What may be declared of the elements of a phase.
ABOUT_ELEMENTS = ("absent", "stoichiometry", "tolerance", "composition", "rich", "poor", "reference")
# Names that the program gives where only the number of phases is declared; they say nothing of the phases.
UNNAMED = re.compile(r"phase \d+")


def _check_name(field: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise InputError(field, "be a text of one line", f"is {shown(value)}")
    if len(value) > LONGEST_NAME:
        must = f"be a text of at most {LONGEST_NAME} letters"
        raise InputError(field, must, f"has {len(value)}: {shown(value)}")
    return value


def _check_formula(field: str, value: Any) -> object:  # noqa: ANN401 - it refuses what is no text
    if isinstance(value, str) and is_of_sites(value):
        parse_formula(value, field)
    else:
        formula_sites(value, field)
    return value


def _check_fraction(pair: tuple[float, float]) -> tuple[float, float]:
    mean = check_between("", pair[0], 0.0, 1.0, remedy=_PERCENT)
    return mean, check_between("(sd)", pair[1], LEAST_SD, 1.0, remedy=_PERCENT)


def _check_fractions(value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    total, error = (sum(pair[index] for pair in value.values()) for index in (0, 1))
    if total > 1.0 + error:
        raise InputError("", "add up to at most 1", f"adds up to {total:g}")
    return value


Name = Annotated[str, checked_by(_check_name)]
Symbols = Annotated[Sequence[str], checked_by(check_elements)]
Fractions = Annotated[
    dict[str, Annotated[Pair, AfterValidator(_check_fraction)]],
    by_element("{Al = [0.15, 0.03]}"),
    AfterValidator(_check_fractions),
]


@validated("phases", named=True)
@dataclass(frozen=True)
class Phase:
    """One phase of the sample and what is known about it.

    Without declared knowledge two mixtures of the same counts can fit equally well, so each entry here narrows the
    answer and is shown with it.

    Parameters
    ----------
    name
        How tables and figures call it: one line of at most 80 letters. Names that the library of compounds knows tell
        phases apart of which the same is declared.
    matrix
        The phase has pure regions, in which some pixels hold nothing else, and the others are embedded in it.
    absent
        Elements that the phase does not contain; their composition is zero, not merely small.
    stoichiometry
        Formula used as a soft prior on the ratio of its sites: of cation sites, e.g. ``ABO3`` (see
        `bayesunmix.chemistry.stoichiometry`), or any other, e.g. ``(Ni,Co)3Al`` or ``Fe1-xS`` (see
        `bayesunmix.chemistry.formula_sites`).
    tolerance
        Relative error of these ratios, from 0.001 to 1; left out, `priors.site_balance_sd`.
    composition
        Atom fractions among the declared elements as soft priors, mean and sd: ``{"Al": [0.15, 0.03]}``.
    rich, poor
        Elements of which the phase has more, or less, than every other phase; soft as well.
    region
        Pixels that are known to hold the phase alone: ``{"rows": [10, 20], "columns": [30, 45]}`` or the name of a
        file, an array or a picture on the map's grid.
    reference
        Spectrum of the phase alone, taken on the same instrument, as a soft prior on its composition: the name of a
        file that HyperSpy reads, a table with the keys of `bayesunmix.config.reference.Reference`, or, in Python, a
        `SpectrumImage`, a HyperSpy signal or (counts, energy_keV).
    kind
        ``support`` for a carbon film, a hole, or whatever else holds no element of `sample.elements`: it emits stray
        lines and continuum alone, and is in no composition and no partition coefficient. ``phase`` for all others.

    Raises
    ------
    InputError
        If the name is empty, an absent element is no element or is given twice, the formula cannot be read, the kind
        is unknown, a fraction is none, or a support is given absent elements, a formula or a composition.

    Examples
    --------
    >>> Phase("Brg", matrix=True, stoichiometry="ABO3")
    Phase(name='Brg', matrix=True, stoichiometry='ABO3')
    """

    name: Name
    _: KW_ONLY
    matrix: Flag = False
    absent: Symbols = ()
    stoichiometry: Annotated[str, checked_by(_check_formula)] | None = None
    tolerance: Annotated[float, Between(1e-3, 1.0)] | None = None
    composition: Fractions = field(default_factory=dict)
    rich: Symbols = ()
    poor: Symbols = ()
    region: AnyRegion | None = None
    reference: AnyReference | None = None
    kind: Literal["phase", "support"] = "phase"

    def __post_init__(self) -> None:
        for key in self.told if self.is_support else ():
            remedy = 'Leave it out, or leave `kind = "support"` out.'
            raise InputError(key, "be left out for a support", "is given", remedy)
        if self.tolerance is not None and self.stoichiometry is None:
            raise InputError("tolerance", "belong to a `stoichiometry`", "stands without one")
        both = [element for element in self.rich if element in self.poor]
        if both:
            raise InputError("poor", "name elements that `rich` does not", f"holds {both[0]}, too")

    def __repr__(self) -> str:
        """Show what is declared, and nothing else."""
        return f"Phase({', '.join(f'{name}={value!r}' for name, value in self._said())})"

    def _repr_html_(self) -> str:
        """Show the same in a notebook."""
        rows = [(name, value if isinstance(value, str) else repr(value)) for name, value in self._said()]
        return Summary("Phase", tuple(rows)).html()

    def _said(self) -> list[tuple[str, object]]:
        """Name and value of what is declared."""
        given = [(one.name, getattr(self, one.name)) for one in fields(self)]
        return [(name, value) for name, value in given if name == "name" or value not in UNSAID]

    @property
    def told(self) -> list[str]:
        """Keys by which something is declared of the elements of the phase."""
        return [key for key in ABOUT_ELEMENTS if getattr(self, key)]

    def declared_as(self, other: Phase) -> bool:
        """Whether the same is declared of another phase, but for its name."""
        return replace(other, name=self.name) == self

    @property
    def is_support(self) -> bool:
        """Whether the phase holds no element of the sample."""
        return self.kind == "support"

    def as_support(self) -> Phase:
        """Return the phase as a support: what was declared of its elements falls away."""
        return Phase(self.name, matrix=self.matrix, region=self.region, kind="support")


def unnamed(count: int) -> tuple[Phase, ...]:
    """Phases of which nothing is declared, not even a name."""
    return tuple(Phase(f"phase {index + 1}") for index in range(count))


def hosts(phases: Sequence[Phase]) -> npt.NDArray[np.bool_]:
    """Phases in which the others are embedded, shape (phase,): declared matrices, and beside a matrix the supports.

    Where there is a matrix, grains overlap with it alone; a film or a hole meets every phase. Without a matrix every
    phase may overlap with every other one: all are False.
    """
    matrix = np.array([phase.matrix for phase in phases], dtype=bool)
    return matrix | (supports_of(phases) & matrix.any())


def supports_of(phases: Sequence[Phase]) -> npt.NDArray[np.bool_]:
    """Phases that hold no element of the sample, shape (phase,)."""
    return np.array([phase.is_support for phase in phases], dtype=bool)


def check_phases(phases: Sequence[Phase], elements: Sequence[str]) -> None:
    """Refuse phases that do not go together, or do not fit the declared elements.

    Raises
    ------
    InputError
        If there are none or too many, two share a name, all are supports, or what is declared of one cannot be.
    """
    if not phases:
        raise InputError("phases", "hold at least one phase", "is empty")
    if len(phases) > MOST_PHASES:
        raise InputError("phases", f"hold at most {MOST_PHASES} phases", f"holds {len(phases)}")
    names = [phase.name for phase in phases]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError("phases.name", "differ from phase to phase", f'"{repeated}" appears twice')
    if all(phase.is_support for phase in phases):
        must = "leave at least one phase with elements of the sample"
        raise InputError("phases.kind", must, 'is "support" in every one')
    for phase in phases:
        _check_declared(phase, elements)
    _check_together([phase for phase in phases if not phase.is_support], elements)


def check_nothing_declared(phases: Sequence[Phase], words: str) -> None:
    """Refuse phases of which more is declared than endmembers that know no elements, called `words`, can use."""
    for phase in phases:
        more = {"kind": phase.is_support, "region": phase.region is not None}
        for key in [*phase.told, *filter(more.get, more)]:
            must = f"be left out with {words}, which know no elements"
            raise InputError(f"phases.{phase.name}.{key}", must, "is given")


def _check_declared(phase: Phase, elements: Sequence[str]) -> None:
    """Refuse a phase whose absent elements or stoichiometry do not fit the declared elements."""
    path = f"phases.{phase.name}"
    for key in ("absent", "composition", "rich", "poor"):
        for element in getattr(phase, key):
            if element not in elements:
                must = "name elements of `sample.elements`"
                raise InputError(f"{path}.{key}", must, f"holds {element}", suggest(element, elements))
            if key in ("composition", "rich") and element in phase.absent:
                raise InputError(f"{path}.{key}", "leave out what is `absent`", f"holds {element}")
    present = [element for element in elements if element not in phase.absent]
    if not present:
        remedy = 'A phase without any of them is declared by `kind = "support"`.'
        must = "leave at least one element in the phase"
        raise InputError(f"{path}.absent", must, "names all of them", remedy)
    if phase.stoichiometry is None:
        return
    if places_cations(phase.stoichiometry):
        site_weights(phase.stoichiometry, present, f"{path}.stoichiometry")
    if is_of_sites(phase.stoichiometry):
        return
    named = frozenset[str]().union(*(site.elements for site in formula_sites(phase.stoichiometry)))
    absent = [element for element in phase.absent if element in named]
    if absent:
        must = "name no element that is `absent`"
        raise InputError(f"{path}.stoichiometry", must, f'is "{phase.stoichiometry}" with {absent[0]}')
    if not (named - {"O"}) & set(present) and not (named == {"O"} and "O" in present):
        raise InputError(
            f"{path}.stoichiometry",
            f"name an element of the phase: {', '.join(present)}",
            f'is "{phase.stoichiometry}"',
        )


def _check_together(phases: Sequence[Phase], elements: Sequence[str]) -> None:
    """Refuse declarations that contradict each other: an element that no phase has, two phases that cannot differ.

    Of a single element all phases are made, but for those that turn out to be supports.
    """
    nowhere = [element for element in elements if all(element in phase.absent for phase in phases)]
    if nowhere:
        raise InputError(
            "phases.absent",
            "leave every element of `sample.elements` in a phase",
            f"{', '.join(nowhere)} {'is' if len(nowhere) == 1 else 'are'} absent from all of them",
            "Remove what no phase holds from `sample.elements`; name it in `sample.stray` if the map shows its lines.",
        )
    for key in ("rich", "poor"):
        everywhere = [element for element in elements if all(element in getattr(one, key) for one in phases)]
        if everywhere:
            must = "leave a phase to compare with"
            raise InputError(
                f"phases.{key}",
                must,
                f"names {everywhere[0]} in {'every phase' if len(phases) > 1 else 'the only one'}",
            )
    pure: dict[str, Phase] = {}
    for phase in phases if len(elements) > 1 else ():
        present = [element for element in elements if element not in phase.absent]
        if len(present) != 1:
            continue
        if present[0] in pure:
            raise InputError(
                f"phases.{phase.name}.absent",
                "leave it something to differ by from the other phases",
                f'leaves {present[0]} alone, as in "{pure[present[0]].name}"',
                "Declare one phase for both.",
            )
        pure[present[0]] = phase
