"""What sources of atomic data differ by, family by family of lines: the part of a prior width that is an element's own.

`line_spread.json` holds standard deviations of logarithms over the sources, which `benchmarks/line_sources.py` makes
and explains. Widths of the priors add what all sources have in common (`bayesunmix.xray.priors`).
"""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import resources

from bayesunmix.xray.atomic import atomic_number, atomic_symbol

# The model is linear in log ratios, so that wider ones would be wrong in it; nor is less known of stray lines.
WIDEST_RATIO = 0.25
# Elements that are lighter or heavier than those compared differ as these do.
LIGHTEST, HEAVIEST = 6, 92


def strength_spread(element: str, family: str) -> float:
    """Return the relative standard deviation of a family's strength over the sources; 0 where it has no lines there.

    Parameters
    ----------
    element
        Chemical symbol.
    family
        K, L or M.
    """
    return _spreads("strength", element).get(family, 0.0)


def ratio_spread(element: str, group: str, other: str) -> float:
    """Return the standard deviation of the log ratio of two groups of a family over the sources.

    Each is known relative to K-alpha, L3 or M5 of its family; for two others their errors add in quadrature. It is
    never more than `WIDEST_RATIO`.

    Parameters
    ----------
    element
        Chemical symbol.
    group, other
        As `bayesunmix.xray.lines.line_group` names them.
    """
    found = _spreads("ratio", element)
    return min(math.hypot(found.get(group, 0.0), found.get(other, 0.0)), WIDEST_RATIO)


def _spreads(kind: str, element: str) -> dict[str, float]:
    nearest = min(max(atomic_number(element), LIGHTEST), HEAVIEST)
    return _table().get(atomic_symbol(nearest), {}).get(kind, {})


@cache
def _table() -> dict[str, dict[str, dict[str, float]]]:
    text = resources.files("bayesunmix.xray").joinpath("line_spread.json").read_text(encoding="utf-8")
    elements: dict[str, dict[str, dict[str, float]]] = json.loads(text)["elements"]
    return elements
