"""What Python offers beside `bayesunmix.unmix`: to look at a map, and to see what a run would start from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from bayesunmix.arguments import ARGUMENT, AnyImage, AnyPhases, configuration, image_of, listed
from bayesunmix.chemistry.stoichiometry import check_elements
from bayesunmix.core.errors import check_between, said_as
from bayesunmix.core.memory import limited
from bayesunmix.core.summary import Text
from bayesunmix.data.image import AXIS_LIMITS_KEV, on_axis
from bayesunmix.fit.preparation import prepare as set_up
from bayesunmix.fit.prepared import Prepared


def inspect(
    image: AnyImage,
    elements: Sequence[str] | None = None,
    *,
    signal: int | None = None,
    energy_offset_keV: float | None = None,
    energy_scale_keV: float | None = None,
) -> Text:
    """Describe a map: axes, counts, facts, and the peaks of the sum spectrum with candidate elements.

    Parameters
    ----------
    image
        A map in any form that `bayesunmix.unmix` takes.
    elements
        Elements whose lines are looked for first; those that the map names when left out.
    signal
        Which signal of a file is the map, where there is more than one.
    energy_offset_keV, energy_scale_keV
        Energy of the first channel's centre and width of a channel, in place of the map's.

    Returns
    -------
    Text
        What ``bayesunmix inspect`` prints: a text that prints, and shows in a notebook, as it is.

    Raises
    ------
    InputError
        If it cannot be read as a map.
    """
    from bayesunmix.inspection.description import describe, inspect_map

    named = check_elements("elements", listed(() if elements is None else elements))
    axis = {"energy_offset_keV": energy_offset_keV, "energy_scale_keV": energy_scale_keV}
    given = {
        name: check_between(name, value, *AXIS_LIMITS_KEV[name])
        for name, value in axis.items()
        if value is not None
    }
    if isinstance(image, str | os.PathLike):
        with said_as(ARGUMENT):
            return Text(inspect_map(image, elements=named, signal=signal, **given))
    with said_as(ARGUMENT):
        found = image_of(image)
    first, step = (
        given.get("energy_offset_keV", found.energy_keV[0]),
        given.get("energy_scale_keV", found.energy_step_keV),
    )
    return Text(describe(on_axis(found, float(first), float(step)) if given else found, named))


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
        with said_as(ARGUMENT):
            return Prepared.of(set_up(image_of(image, config), config))
