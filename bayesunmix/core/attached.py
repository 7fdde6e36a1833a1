"""Parts of a public object that live in a layer above it: its figures, its page, its files.

A result is made below the layers that draw and write it, and imports point one way. So the class only says that it
has such a part, and the package, which stands above all layers, says which one it is (`bayesunmix.__init__`), by
name: it is imported when somebody asks for it.

    class Result:
        plot = Attached()                                 # result.plot.maps(), result.save("folder")
        save = Attached()

    attach("Result", plot="bayesunmix.plot:ResultPlots", save="bayesunmix.report.files:save")

A class is made of the object once and kept, as pandas and xarray do with their accessors; a function is its method, or,
where it is static, another way to make such an object.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from types import MethodType
from typing import Any

_HOMES: dict[tuple[str, str], str] = {}


def attach(owner: str, **parts: str) -> None:
    """Say where the attached parts of a class are.

    Parameters
    ----------
    owner
        Name of the class.
    **parts
        ``module:name`` of a class that takes the object, or of a function whose first argument is the object.
    """
    for name, home in parts.items():
        _HOMES[owner, name] = home


def homes() -> dict[tuple[str, str], str]:
    """Return where every part is, by class and name."""
    return dict(_HOMES)


class Attached:
    """A part of a class that `attach` names.

    Parameters
    ----------
    static
        Whether it is a function that does not take the object.
    """

    def __init__(self, *, static: bool = False) -> None:
        self._static = static

    def __set_name__(self, owner: type, name: str) -> None:
        self._key = (owner.__name__, name)

    def __get__(self, instance: object | None, owner: type) -> Any:  # noqa: ANN401 - each part has its own type
        part = _found(_HOMES[self._key])
        if instance is None or self._static:
            return part
        if not isinstance(part, type):
            return MethodType(part, instance)
        # The object's own dictionary comes before this descriptor, which sets nothing, and frozen dataclasses have one.
        return vars(instance).setdefault(self._key[1], part(instance))


@cache
def _found(home: str) -> Any:  # noqa: ANN401 - as above
    module, _, name = home.partition(":")
    return getattr(import_module(module), name)
