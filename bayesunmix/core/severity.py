"""Sentences that say something against a result, and how much.

A sentence is given its weight where it is made. One that only says what was assumed, and is accounted for in the
intervals, is plain text. The two kinds below are text, too, and so pass through everything that keeps warnings; the
verdict (`bayesunmix.results.verdict`) is made of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, Literal

Severity = Literal["distrust", "reservation"]

# Diagnostics, by their names in the report's table.
RHAT = "R-hat"
ESS = "Effective sample size"
DIVERGENCES = "Divergences"
STEPS = "Check of the approximation"
MODES = "Maxima of the posterior"
PHOTONS = "Photons"
IDENTIFIABILITY = "Identifiability of the phases"
DEVIANCE = "Deviance per degree of freedom"
RESIDUALS = "Residuals of the spectra"
UNDECLARED = "Undeclared elements"
PLACES = "Regions of significant residual"
OVERLAP = "Overlap of the phases"
VARIATION = "Spatial heterogeneity"
PRESENCE = "Presence of the phases"


class Doubt(str):
    """A sentence that speaks against the numbers of a result.

    Parameters
    ----------
    text
        The sentence.
    about
        The diagnostic that found it, by the name it has in the report's table of diagnostics; empty for what is no
        diagnostic, such as a missing fact.

    Notes
    -----
    What is made of a doubt by string operations is plain text again.
    """

    __slots__ = ("about",)
    severity: ClassVar[Severity]
    about: str

    def __new__(cls, text: str, about: str = "") -> Doubt:
        """Make the sentence."""
        made = super().__new__(cls, text)
        made.about = about
        return made

    def __reduce__(self) -> tuple[type[Doubt], tuple[str, str]]:
        """Rebuild from both parts when copied or pickled."""
        return type(self), (str(self), self.about)


class Reservation(Doubt):
    """The numbers stand, with this in mind."""

    severity: ClassVar[Severity] = "reservation"


class Distrust(Doubt):
    """The numbers are not to be trusted."""

    severity: ClassVar[Severity] = "distrust"


def to_plain(sentence: str) -> tuple[str, str, str]:
    """Return a sentence as JSON can hold it: severity, which is empty for plain text, diagnostic and text."""
    return (
        (sentence.severity, sentence.about, str(sentence))
        if isinstance(sentence, Doubt)
        else ("", "", sentence)
    )


def from_plain(parts: tuple[str, str, str]) -> str:
    """Make the sentence again of what `to_plain` returned."""
    severity, about, text = parts
    kinds = {kind.severity: kind for kind in (Reservation, Distrust)}
    return kinds[severity](text, about) if severity in kinds else text


def join(parts: Iterable[str], last: str = "and") -> str:
    """Join words as in a sentence, with this word before the last.

    Examples
    --------
    >>> join(["Nd", "Sm", "U"])
    'Nd, Sm and U'
    >>> join(["Nd", "Sm"], "or")
    'Nd or Sm'
    """
    words = list(parts)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}" if words else ""
