"""What the user declares about a phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bayesunmix.chemistry.stoichiometry import check_elements, parse_formula
from bayesunmix.errors import InputError, shown

# Names stand in figures and at the head of columns.
LONGEST_NAME = 80


@dataclass(frozen=True)
class Phase:
    """One phase of the sample and what is known about it.

    Without declared knowledge two mixtures of the same counts can fit equally well, so each entry here narrows the
    answer and is shown with it.

    Parameters
    ----------
    name
        How tables and figures call it: one line of at most 80 letters.
    matrix
        The phase has pure regions: some pixels hold nothing else.
    absent
        Elements that the phase does not contain; their composition is zero, not merely small.
    stoichiometry
        Formula used as a soft prior on the cation sites, e.g. ``ABO3`` (see `bayesunmix.chemistry.stoichiometry`).

    Raises
    ------
    InputError
        If the name is empty, an absent element is no element or is given twice, or the formula cannot be read.

    Examples
    --------
    >>> Phase("Brg", matrix=True, stoichiometry="ABO3")
    Phase(name='Brg', matrix=True, absent=(), stoichiometry='ABO3')
    """

    name: str
    matrix: bool = False
    absent: Sequence[str] = ()
    stoichiometry: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip() or not self.name.isprintable():
            raise InputError("phases.name", "be a text of one line", f"is {shown(self.name)}")
        if len(self.name) > LONGEST_NAME:
            must = f"be a text of at most {LONGEST_NAME} letters"
            raise InputError("phases.name", must, f"has {len(self.name)}: {shown(self.name)}")
        field = f"phases.{self.name}"
        if not isinstance(self.matrix, bool):
            raise InputError(f"{field}.matrix", "be true or false", f"is {shown(self.matrix)}")
        object.__setattr__(self, "absent", check_elements(f"{field}.absent", self.absent))
        if self.stoichiometry is not None:
            parse_formula(self.stoichiometry, f"{field}.stoichiometry")
