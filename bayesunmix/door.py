"""What Python offers beside `bayesunmix.unmix`: to look at a map, and to see what a run would start from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from bayesunmix.arguments import AnyImage, AnyPhases, configuration, image_of, listed
from bayesunmix.chemistry.stoichiometry import check_elements
from bayesunmix.core.memory import limited
from bayesunmix.fit.preparation import prepare as set_up
from bayesunmix.fit.prepared import Prepared


class Text(str):
    """A text of several lines that a notebook shows as such."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def inspect(image: AnyImage, elements: Sequence[str] | None = None, *, signal: int | None = None) -> str:
    """Describe a map: axes, counts, facts, and the peaks of the sum spectrum with candidate elements.

    Parameters
    ----------
    image
        A map in any form that `bayesunmix.unmix` takes.
    elements
        Elements whose lines are looked for first; those that the map names when left out.
    signal
        Which signal of a file is the map, where there is more than one.

    Returns
    -------
    str
        What ``bayesunmix inspect`` prints.

    Raises
    ------
    InputError
        If it cannot be read as a map.
    """
    from bayesunmix.inspection.description import describe, inspect_map

    named = check_elements("elements", listed(() if elements is None else elements))
    if isinstance(image, str | os.PathLike):
        return Text(inspect_map(image, elements=named, signal=signal))
    return Text(describe(image_of(image), named))


def prepare(
    image: AnyImage,
    *,
    elements: Sequence[str],
    phases: AnyPhases,
    stray: Sequence[str] = (),
    **tables: Mapping[str, Any],
) -> Prepared:
    """Do what a run does before inference begins: check everything, fit the energy axis, bin the counts.

    What comes out is enough for a model of your own: see ``examples/own_model.py``.

    Parameters
    ----------
    image, elements, phases, stray, **tables
        As in `bayesunmix.unmix`.

    Returns
    -------
    Prepared
        Counts in bins and the physics of their spectra, with names and units in ``prepared.data``.

    Raises
    ------
    InputError
        If something cannot be used: the message names it.
    """
    inference = tables.get("inference")
    method = inference.get("method", "nuts") if isinstance(inference, Mapping) else "nuts"
    config = configuration(elements, phases, stray, method, tables)
    with limited(config.compute.memory_limit_GB):
        return Prepared.of(set_up(image_of(image, config), config))
