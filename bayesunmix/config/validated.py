"""Tables are frozen dataclasses that pydantic checks when they are made, and whose errors are `InputError`.

A table built in Python is therefore refused with the same words as one read from a file. The field named in a message
is its path in the file, e.g. `inference.level`; a check inside a table names its field from there on.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ArgsKwargs, ErrorDetails

from bayesunmix.core.errors import InputError, shown, suggest

# No value stands in more tables and lists, one inside the other, than this.
DEEPEST = 6
# Keys that a message lists; of more, it names the nearest.
MOST_LISTED = 16
_UNKNOWN = "unexpected_keyword_argument"
_Table = TypeVar("_Table")
# Made when the first table of its kind is, which takes some milliseconds.
_adapter: Callable[[type], TypeAdapter[Any]] = functools.cache(TypeAdapter)


def validated(path: str, *, named: bool = False) -> Callable[[type[_Table]], type[_Table]]:
    """Let pydantic check the fields of a dataclass whenever one is made.

    Parameters
    ----------
    path
        Where the table stands in the file.
    named
        Whether its fields are known by the table's own name: ``phases.Fp.absent``.
    """

    def decorate(kind: type[_Table]) -> type[_Table]:
        kind.__pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[attr-defined]

        positional = [entry.name for entry in dataclasses.fields(kind) if not entry.kw_only]  # type: ignore[arg-type]

        @functools.wraps(kind.__init__)
        def checked(self: _Table, *arguments: object, **values: object) -> None:
            if len(arguments) > len(positional):
                raise TypeError(f"{kind.__name__} takes its settings by their names")
            given = python_values({**dict(zip(positional, arguments, strict=False)), **values})
            try:
                _adapter(kind).validator.validate_python(ArgsKwargs((), given), self_instance=self)
            except ValidationError as error:
                raise _complaint(kind, error, path, given.get("name") if named else None) from None

        kind.__init__ = checked  # type: ignore[assignment, method-assign]
        return kind

    return decorate


def read_tables(kind: type[_Table], values: Mapping[str, object], folder: Path | None) -> _Table:
    """Make a table of those inside it, as a file holds them; relative files are looked for in `folder`.

    Raises
    ------
    InputError
        If a key is unknown, missing, or its value cannot be used.
    """
    try:
        made: _Table = _adapter(kind).validate_python(values, context={"folder": folder})
    except ValidationError as error:
        raise _complaint(kind, error, "", None) from None
    return made


def plain_values(table: object) -> dict[str, Any]:
    """Return a table, and those inside it, as JSON and TOML hold them; None is left out."""
    plain: dict[str, Any] = _adapter(type(table)).dump_python(
        table, mode="json", exclude_none=True, warnings=False
    )
    return plain


def unknown_key(field: str, known: Sequence[str]) -> InputError:
    """Return the complaint about a key that is none of those `known`, with the nearest one that is."""
    table, _, key = field.rpartition(".")
    must = (
        f"be one of {', '.join(known)}" if len(known) <= MOST_LISTED else f"be one of the keys of [{table}]"
    )
    return InputError(field, must, "is an unknown key", suggest(key, known))


def python_values(value: object, depth: int = DEEPEST) -> Any:  # noqa: ANN401 - a tree of whatever is given
    """Return NumPy's arrays and numbers, down to a depth below which no value has a place, as Python's."""
    if depth and isinstance(value, Mapping):
        return {key: python_values(entry, depth - 1) for key, entry in value.items()}
    if depth and isinstance(value, tuple | list):
        return [python_values(entry, depth - 1) for entry in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _complaint(kind: type, error: ValidationError, path: str, name: object) -> InputError:
    """Return the complaint that pydantic's first error amounts to, as a sentence of this package."""
    # A key that is unknown is often the misspelt name of one that is missing.
    found = min(error.errors(include_url=False), key=lambda one: one["type"] != _UNKNOWN)
    place = [part for part in found["loc"] if isinstance(part, str)]
    home = path if name is None or place == ["name"] else f"{path}.{name}"
    field = ".".join(filter(None, [home, *place]))
    own = found.get("ctx", {}).get("error")
    if isinstance(own, InputError):
        below = ".".join(filter(None, [field, own.field.lstrip(".")]))
        return own.about(below.replace(".(sd)", " (sd)"))
    if found["type"] == _UNKNOWN:
        return unknown_key(field, [entry.name for entry in dataclasses.fields(_table_at(kind, place[:-1]))])
    if found["type"].startswith("missing"):
        return InputError(field, "be given", "is missing")
    return InputError(field, *_sentence(found, field))


def _sentence(found: ErrorDetails, field: str) -> tuple[str, str, str]:
    """Return what a field must be, what it is, and a remedy."""
    context, got = found.get("ctx", {}), f"is {shown(found['input'])}"
    match found["type"]:
        case "must":
            return context["must"], got, context["remedy"]
        case "literal_error":
            choices = re.findall("'([^']*)'", context["expected"])
            listed = ", ".join(f'"{choice}"' for choice in choices)
            return f"be one of {listed}", got, suggest(found["input"], choices)
        case "bool_type":
            return "be true or false", got, ""
        case "string_type":
            return "be a text", got, ""
        case "dataclass_type":
            return "be a table", got, f"Write [{field}] and its keys below."
    return found["msg"].removeprefix("Input should "), got, ""


def _table_at(kind: Any, place: Sequence[str]) -> Any:  # noqa: ANN401 - dataclasses have no common type
    """Return the kind of the table that stands at a place inside a table."""
    for name in place:
        hint = typing.get_type_hints(kind)[name]
        kind = next(one for one in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(one))
    return kind
