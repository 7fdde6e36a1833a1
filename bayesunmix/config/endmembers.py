"""Kinds of endmembers that ``inference.endmembers`` names, and what each can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bayesunmix.config.names import METHODS, MethodName

EndmemberName = Literal["physics", "free"]


@dataclass(frozen=True, kw_only=True)
class EndmemberKind:
    """What a kind of endmembers can be asked for.

    Parameters
    ----------
    words
        What messages call these endmembers.
    methods
        Methods that draw them.
    knows_elements
        Whether absent elements, formulae and supports can be declared of a phase.
    """

    words: str
    methods: tuple[MethodName, ...] = METHODS
    knows_elements: bool = True


ENDMEMBERS: dict[EndmemberName, EndmemberKind] = {
    "physics": EndmemberKind(words="endmembers made of lines"),
    # A thousand parameters: too many for NUTS and the guides of SVI.
    "free": EndmemberKind(words="free-form endmembers", methods=("laplace", "map"), knows_elements=False),
}
