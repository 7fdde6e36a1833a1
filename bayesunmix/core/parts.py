"""Nested records taken apart into JSON and arrays, and put together again, bit for bit.

Plain values, lists, tuples and dictionaries become JSON as they are, arrays become numbers of a list, and records
(frozen dataclasses and named tuples of this package) their name and fields. Putting together makes nothing but these:
no code of the file's is run, unlike with pickle, and no other class is made.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Tree = Any
"""None, true or false, a number, a text, or a list whose first entry says what the others are."""

PACKAGE = "bayesunmix"


class PartsError(ValueError):
    """A value that cannot be taken apart, or parts that do not go together."""


def take_apart(value: object) -> tuple[Tree, list[Array]]:
    """Take a value apart.

    Parameters
    ----------
    value
        None, plain values, NumPy's and JAX's arrays, and lists, tuples, dictionaries and records of these.

    Returns
    -------
    tree
        What JSON holds.
    arrays
        The arrays that it refers to, contiguous in memory; those that are so already are not copied.

    Raises
    ------
    PartsError
        If something else is among it.
    """
    parts = _Parts()
    return parts.tree(value), parts.arrays


def put_together(tree: Tree, arrays: Sequence[Array]) -> object:
    """Make the value again that `take_apart` took apart.

    Raises
    ------
    PartsError
        If the parts are not what `take_apart` gives, or hold a record that this package does not have, one without a
        field, or one whose field is of another kind than is declared.
    """
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    if not isinstance(tree, list) or not tree:
        raise PartsError(f"{tree!r} is no part")
    kind, *inner = tree
    try:
        return _MAKERS[kind](inner, arrays)
    except PartsError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise PartsError(f"a part of the kind {kind!r} is not whole: {error}") from error


def declared(value: object, hint: object) -> bool:
    """Say whether a value is of the kind that a type hint declares; what a hint of another sort says is let pass."""
    if isinstance(hint, typing.TypeVar) or hint is Any:
        return True
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(declared(value, each) for each in inner)
    if origin in (list, tuple) and (len(inner) == 1 or inner[1:] == (Ellipsis,)):
        return isinstance(value, origin) and all(declared(each, inner[0]) for each in value)
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    # An array of JAX stands for one of NumPy, a whole number for a number, and an array without dimensions for both.
    shape = getattr(value, "shape", None)
    if kind is np.ndarray:
        return shape is not None
    if kind in (float, int, bool) and shape == ():
        return True
    return isinstance(value, (float, int) if kind is float else kind)


class _Parts:
    """Takes a value apart; an array that occurs twice is kept once."""

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        # By identity, which is an array's own for as long as it is held.
        self._held: list[Array] = []
        self._places: dict[int, int] = {}

    def tree(self, value: object) -> Tree:
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, np.generic):
            return ["number", self._place(np.asarray(value))]
        if type(value) is np.ndarray:
            return ["array", self._place(value)]
        if type(value).__module__.startswith("jax"):
            return ["jax", self._place(np.asarray(value))]
        if type(value) in (list, tuple):
            return [type(value).__name__, *map(self.tree, typing.cast("Sequence[object]", value))]
        if type(value) is dict:
            return ["dict", *([self.tree(key), self.tree(held)] for key, held in value.items())]
        return self._record(value)

    def _record(self, value: object) -> Tree:
        kind = type(value)
        name = f"{kind.__module__}:{kind.__qualname__}"
        if _record_class(name) is not kind:
            raise PartsError(f"{name} is no record of this package")
        return ["record", name, *([field, self.tree(getattr(value, field))] for field in _fields(kind))]

    def _place(self, array: Array) -> int:
        if array.dtype.hasobject:
            raise PartsError("an array of Python objects")
        if id(array) not in self._places:
            self._held.append(array)
            self._places[id(array)] = len(self.arrays)
            whole = array.flags.c_contiguous or array.flags.f_contiguous
            self.arrays.append(array if whole else np.ascontiguousarray(array))
        return self._places[id(array)]


def _record_class(name: str) -> type | None:
    """Return the record of this name among the modules of this package that are in use, or None."""
    module, _, short = name.partition(":")
    if module.split(".")[0] != PACKAGE or module not in sys.modules:
        return None
    found = vars(sys.modules[module]).get(short)
    if not isinstance(found, type) or found.__module__ != module or not _is_record(found):
        return None
    return found


def _is_record(kind: type) -> bool:
    if dataclasses.is_dataclass(kind):
        frozen = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
        return bool(frozen) and all(field.init for field in dataclasses.fields(kind))
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _fields(kind: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return tuple(kind._fields)  # type: ignore[attr-defined]


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, object]:
    """Return the declared types of a record's fields; none where a name is there for the type checker alone."""
    try:
        return typing.get_type_hints(kind)
    except NameError:
        return {}


def _made_record(inner: list[Tree], arrays: Sequence[Array]) -> object:
    name, *given = inner
    kind = _record_class(str(name))
    if kind is None:
        raise PartsError(f"{name!r} is no record of this package")
    held = {field: put_together(tree, arrays) for field, tree in given}
    if tuple(held) != _fields(kind):
        raise PartsError(f"{name} has other fields")
    for field, hint in _hints(kind).items():
        if field in held and not declared(held[field], hint):
            raise PartsError(f"the field {field} of {name} is of another kind")
    return kind(**held)


def _made_dict(inner: list[Tree], arrays: Sequence[Array]) -> dict[Any, object]:
    return {put_together(key, arrays): put_together(held, arrays) for key, held in inner}


def _made_jax(inner: list[Tree], arrays: Sequence[Array]) -> object:
    import jax.numpy as jnp

    return jnp.asarray(_only(inner, arrays))


def _only(inner: list[Tree], arrays: Sequence[Array]) -> Array:
    (place,) = inner
    if not isinstance(place, int) or not 0 <= place < len(arrays):
        raise PartsError(f"there is no array {place!r}")
    return arrays[place]


_MAKERS: Mapping[str, Callable[[list[Tree], Sequence[Array]], object]] = {
    "array": _only,
    "number": lambda inner, arrays: _only(inner, arrays)[()],
    "jax": _made_jax,
    "list": lambda inner, arrays: [put_together(each, arrays) for each in inner],
    "tuple": lambda inner, arrays: tuple(put_together(each, arrays) for each in inner),
    "dict": _made_dict,
    "record": _made_record,
}
