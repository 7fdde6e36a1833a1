"""Which pixels of a map are used: the kinds of the keys ``rows``, ``columns`` and ``mask`` of ``[map]``."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, Strict

from bayesunmix.config.validated import validated
from bayesunmix.config.values import Number, Text, beside, checked_by
from bayesunmix.core.errors import InputError, shown
from bayesunmix.core.limits import Must

_FORMS = 'Write "mask.npy", {counts_below = 20}, {image = "HAADF", below = 0.2}, or a list of them.'


@validated("map.mask")
@dataclass(frozen=True, kw_only=True)
class MaskRule:
    """What leaves pixels out: a file, or limits on the counts of a pixel or on a picture beside the map.

    Parameters
    ----------
    file
        Array or picture on the map's grid; what is not zero is left out.
    counts_below, counts_above
        A pixel with fewer, or with more, counts over the whole energy axis is left out.
    image
        Name of a picture on the map's grid.
    below, above
        A pixel where the picture is lower, or higher, is left out; in the picture's own units.
    """

    file: Annotated[Path, Must("be a text"), BeforeValidator(beside)] | None = None
    counts_below: Number | None = None
    counts_above: Number | None = None
    image: Text | None = None
    below: Number | None = None
    above: Number | None = None

    def __post_init__(self) -> None:
        counts = self.counts_below is not None or self.counts_above is not None
        limits = self.below is not None or self.above is not None
        if (self.image is not None) != limits:
            lacking = "image" if limits else "below"
            raise InputError(lacking, "be given with a limit on a picture", "is missing", _FORMS)
        if (self.file is not None) + counts + limits != 1:
            got = "says several things" if counts or limits or self.file is not None else "says nothing"
            raise InputError("", "name a file, a limit on counts or one on a picture", got, _FORMS)

    def __str__(self) -> str:
        if self.file is not None:
            return f"left out by {self.file.name}"
        name = "counts" if self.image is None else self.image
        pairs = (
            ("below", self.counts_below if self.image is None else self.below),
            ("above", self.counts_above if self.image is None else self.above),
        )
        limits = [f"{side} {limit:g}" for side, limit in pairs if limit is not None]
        return f"with {name} {' or '.join(limits)}"


def _check_rules(field: str, value: object) -> list[object]:
    """Return one rule or a list of them as rules and their tables."""
    several = value if isinstance(value, list) else [] if value is None else [value]
    return [_check_rule(field, one) for one in several]


def _check_rule(field: str, value: object) -> object:
    if isinstance(value, MaskRule | Mapping):
        return value
    if isinstance(value, str | os.PathLike) and str(value):
        return {"file": value}
    given = value if isinstance(value, bool | int | float | str) else type(value).__name__
    remedy = "Use image.masked(mask)." if given is not value else _FORMS
    raise InputError(field, "be the name of a file or a table", f"is {shown(given)}", remedy)


def _check_rising(field: str, first: int, last: int | None) -> Span:
    if last is not None and (first < 0) == (last < 0) and first >= last:
        raise InputError(field, "rise", f"is [{first}, {last}]")
    return first, last


_Index = Annotated[int, Strict(), Field(ge=-(10**9), le=10**9)]
Span = Annotated[
    tuple[_Index, _Index | None],
    Must("be two whole numbers, the first and one after the last"),
    AfterValidator(lambda ends: _check_rising("", *ends)),
]
"""First and one after the last row or column of a range; an end that is None is the map's."""
_RuleInFile = str | MaskRule
MaskRules = Annotated[tuple[MaskRule, ...], checked_by(_check_rules, takes=_RuleInFile | list[_RuleInFile])]


def parse_span(option: str, text: str) -> Span:
    """Read a range like ``0:120``, ``10:`` or ``:-5`` of the command line.

    Raises
    ------
    InputError
        If it is none.
    """
    found = re.fullmatch(r"\s*(-?\d{1,9})?\s*:\s*(-?\d{1,9})?\s*", text)
    if found is None:
        raise InputError(option, "be a range like 0:120", f'is "{text}"')
    first, last = found.groups()
    return _check_rising(option, int(first or 0), None if last is None else int(last))


def span_text(span: Span) -> str:
    """Write a range as it is given on the command line."""
    return f"{span[0]}:{'' if span[1] is None else span[1]}"
