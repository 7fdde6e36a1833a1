"""Docstring examples run, under the real names of their modules."""

import doctest
import importlib
import pkgutil

import pytest

ROOTS = ("bayesunmix", "bayesunmix.inference", "bayesunmix.models")


def _modules() -> list[str]:
    """Name every module; the roots are listed because an editable install hides two of them."""
    names = set(ROOTS)
    for root in ROOTS:
        path = importlib.import_module(root).__path__
        names |= {module.name for module in pkgutil.walk_packages(path, f"{root}.")}
    return sorted(names)


@pytest.mark.parametrize("name", _modules())
def test_docstring_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
