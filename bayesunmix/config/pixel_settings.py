"""Which pixels of a map are used: the keys ``rows``, ``columns``, ``mask`` and ``exclude_flagged`` of ``[map]``."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bayesunmix.core.errors import InputError, check_number, shown, suggest

Span = tuple[int, int | None]

_MASK = "map.mask"
_FORMS = 'Write "mask.npy", {counts_below = 20}, {image = "HAADF", below = 0.2}, or a list of them.'
_LIMITS = ("counts_below", "counts_above", "below", "above")


@dataclass(frozen=True)
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

    file: Path | None = None
    counts_below: float | None = None
    counts_above: float | None = None
    image: str | None = None
    below: float | None = None
    above: float | None = None

    def __post_init__(self) -> None:
        for name in _LIMITS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_number(f"{_MASK}.{name}", getattr(self, name)))
        counts = self.counts_below is not None or self.counts_above is not None
        limits = self.below is not None or self.above is not None
        for name, kind in (("file", (str, os.PathLike)), ("image", str)):
            value = getattr(self, name)
            if value is not None and not isinstance(value, kind):
                raise InputError(f"{_MASK}.{name}", "be a text", f"is {shown(value)}")
        if (self.image is not None) != limits:
            lacking = "image" if limits else "below"
            raise InputError(f"{_MASK}.{lacking}", "be given with a limit on a picture", "is missing", _FORMS)
        if (self.file is not None) + counts + limits != 1:
            got = "says several things" if counts or limits or self.file is not None else "says nothing"
            raise InputError(_MASK, "name a file, a limit on counts or one on a picture", got, _FORMS)

    def __str__(self) -> str:
        if self.file is not None:
            return f"left out by {Path(self.file).name}"
        name = "counts" if self.image is None else self.image
        pairs = (
            ("below", self.counts_below if self.image is None else self.below),
            ("above", self.counts_above if self.image is None else self.above),
        )
        limits = [f"{side} {limit:g}" for side, limit in pairs if limit is not None]
        return f"with {name} {' or '.join(limits)}"


def mask_rules(value: object) -> tuple[MaskRule, ...]:
    """Return the rules of ``map.mask``: one or a list of file names, tables and rules.

    Raises
    ------
    InputError
        If a rule is none.
    """
    if value is None:
        return ()
    single = isinstance(value, (str, os.PathLike, Mapping, MaskRule)) or not isinstance(value, Sequence)
    return tuple(_rule(entry) for entry in ((value,) if single else value))  # type: ignore[attr-defined]


def _rule(value: object) -> MaskRule:
    if isinstance(value, MaskRule):
        return value
    if isinstance(value, (str, os.PathLike)) and str(value):
        return MaskRule(file=Path(value))
    if not isinstance(value, Mapping):
        given = value if isinstance(value, (bool, int, float, str)) else type(value).__name__
        remedy = _FORMS if isinstance(given, (bool, int, float)) or given == "" else "Use image.masked(mask)."
        raise InputError(_MASK, "be the name of a file or a table", f"is {shown(given)}", remedy)
    known = [entry.name for entry in dataclasses.fields(MaskRule)]
    for key in value:
        if key not in known:
            must = f"be one of {', '.join(known)}"
            raise InputError(f"{_MASK}.{key}", must, "is an unknown key", suggest(key, known))
    entries: dict[str, Any] = {str(key): entry for key, entry in value.items() if entry is not None}
    rule = MaskRule(**entries)
    return rule if rule.file is None else dataclasses.replace(rule, file=Path(rule.file))


def check_span(field: str, value: object) -> Span | None:
    """Return first and one after the last row or column of a range; an end that is None is the map's.

    Raises
    ------
    InputError
        If it is not two whole numbers that rise.
    """
    if value is None:
        return None
    ends = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    whole = [isinstance(end, int) and not isinstance(end, bool) for end in ends]
    if len(ends) != 2 or not whole[0] or not (whole[1] or ends[1] is None):
        must = "be two whole numbers, the first and one after the last"
        raise InputError(field, must, f"is {shown(value)}")
    first, last = ends
    if last is not None and (first < 0) == (last < 0) and first >= last:
        raise InputError(field, "rise", f"is [{first}, {last}]")
    return first, last


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
    span = check_span(option, (int(first or 0), None if last is None else int(last)))
    assert span is not None
    return span


def span_text(span: Span) -> str:
    """Write a range as it is given on the command line."""
    return f"{span[0]}:{'' if span[1] is None else span[1]}"


def resolve_files(values: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return the table ``[map]`` with its relative files taken from `folder`."""
    base = folder or Path()

    def resolved(entry: object) -> object:
        if isinstance(entry, str) and entry:
            return base / entry
        if isinstance(entry, Mapping) and isinstance(entry.get("file"), str):
            return {**entry, "file": base / entry["file"]}
        return [resolved(part) for part in entry] if isinstance(entry, list) else entry

    names = [name for name in ("mask", "exclude_flagged") if name in values]
    return {**values, **{name: resolved(values[name]) for name in names}}
