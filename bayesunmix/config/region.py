"""Key ``region`` of a phase: pixels that are known to hold it alone."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from bayesunmix.config.pixels import Span, span_text
from bayesunmix.config.validated import validated
from bayesunmix.config.values import beside, checked_by
from bayesunmix.core.errors import InputError, shown
from bayesunmix.core.limits import Must

_FORMS = 'Write {rows = [10, 20], columns = [30, 45]} or "mask.npy".'


@validated("phases.region")
@dataclass(frozen=True, kw_only=True)
class Region:
    """Pixels that are known to hold a phase alone.

    Parameters
    ----------
    rows, columns
        First and one after the last row or column, counted from 0; negative ones from the end. All where left out.
    file
        Instead: array or picture on the map's grid; what is not zero is inside.
    """

    rows: Span | None = None
    columns: Span | None = None
    file: Annotated[Path, Must("be a text"), BeforeValidator(beside)] | None = None

    def __post_init__(self) -> None:
        spans = self.rows is not None or self.columns is not None
        if spans == (self.file is not None):
            raise InputError(
                "", "name rows and columns, or a file", f"names {'both' if spans else 'none'}", _FORMS
            )

    def __str__(self) -> str:
        if self.file is not None:
            return f"the pixels of {self.file.name}"
        spans = (("rows", self.rows), ("columns", self.columns))
        return " and ".join(f"{name} {span_text(span)}" for name, span in spans if span is not None)


def _check_region(field: str, value: object) -> object:
    if isinstance(value, Region | Mapping):
        return value
    if isinstance(value, str | os.PathLike) and str(value):
        return {"file": value}
    given = value if isinstance(value, bool | int | float | str) else type(value).__name__
    raise InputError(field, "be rows and columns, or the name of a file", f"is {shown(given)}", _FORMS)


AnyRegion = Annotated[Region, checked_by(_check_region, takes=str | Region)]


def beside_file(phase: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Return the table of a phase in which the files that it names are looked for in `folder`, where relative."""
    found = dict(phase)
    if folder is None:
        return found
    for key in ("region", "reference"):
        named = phase.get(key)
        if isinstance(named, str) and named:
            found[key] = folder / named
        elif isinstance(named, Mapping) and isinstance(named.get("file"), str) and named["file"]:
            found[key] = {**named, "file": folder / named["file"]}
    return found
