"""Abundances and composition of a region of the map, with draws whose spread is that of the region."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.analysis.joint_draws import (
    PRIORS,
    JointDraws,
    Prior,
    joint_draws,
    kind_of_draws,
    warn_of_point,
)
from bayesunmix.analysis.mixtures import check_mixture_unit, mass_per_atom, mixed, phase_compositions
from bayesunmix.analysis.places import AnyRegion, Mask, region_mask
from bayesunmix.core.errors import check_choice
from bayesunmix.results.map_counts import AnyMap

if TYPE_CHECKING:
    from bayesunmix.results.result import Result


FloatArray = npt.NDArray[np.float64]


def region(
    result: Result,
    mask: AnyRegion,
    *,
    unit: str = "at_frac",
    prior: Prior = "region",
    image: AnyMap | None = None,
) -> xr.Dataset:
    """Draws of what a region of the map holds.

    Parameters
    ----------
    result
        Of the map.
    mask
        Pixels (y, x) of the region, true inside; or slices of rows and columns, ``np.s_[10:20, 30:40]``; or the name of
        a phase, for the pixels that hold most of it. Pixels that take no part are not of it.
    unit
        Of the composition: ``at_frac``, ``wt_pct`` or ``oxide_wt_pct``.
    prior
        ``region``: the pixels of the region have a distribution of abundances of their own, which scatters about that
        of the map as much as they tell. ``map``: each pixel is drawn by itself, as `Result.abundances` has it; a pixel
        gets the same draw in every region, but means over a region that is not like the map are off.
    image
        The map, where its file is gone.

    Returns
    -------
    xarray.Dataset
        ``abundance`` (chain, draw, phase), the mean over the region's pixels; ``composition`` (chain, draw, element) of
        the phases mixed by it; ``atom_share`` and ``mass_share`` (chain, draw, phase), of the atoms and of the mass of
        the declared elements, in which a thick pixel counts more. Draws are some of those of the result, and have its
        numbers. The attribute ``kind`` is ``draws``; of a run by method "map" it is ``point``, a single value without
        an interval, of which is warned.

    Raises
    ------
    InputError
        If the mask has another shape, lies beyond the map, is empty or holds only pixels that take no part, the unit is
        none of a mixture, or the map is not there.
    """
    inside = region_mask(result, mask)
    check_mixture_unit(unit), check_choice("prior", prior, PRIORS)
    warn_of_point(result)
    return region_draws(result, inside, joint_draws(result, image), unit, prior)


def region_draws(
    result: Result,
    inside: Mask,
    source: JointDraws,
    unit: str = "at_frac",
    prior: Prior = "region",
    told: Callable[[float], None] = lambda _: None,
) -> xr.Dataset:
    """Draws of what a region holds, as `region` has them.

    Parameters
    ----------
    result, unit, prior
        As in `region`.
    inside
        Pixels (y, x) of the region, which all take part.
    source
        What pixels are drawn from.
    told
        Told the share that is done; what it raises ends the work.
    """
    pixels, n_draws = np.flatnonzero(inside), math.prod(source.shape)
    drawn = []
    with source.threads(len(pixels)):
        for number, one in enumerate(source.draws(pixels, prior), 1):
            drawn.append(_summed(one.abundance, one.atoms))
            told(number / n_draws)
    abundance, atoms = (np.stack(values) for values in zip(*drawn, strict=True))
    names = {"phase": result.phases}
    found = xr.Dataset({"abundance": source.labelled(abundance, ("phase",), **names)})
    composition, weight = phase_compositions(result, unit, found)
    amount = source.labelled(atoms, ("phase",), **names).sel(phase=result.sample_phases)
    mass = amount * mass_per_atom(
        result,
        result.draws["composition"].sel(chain=found["chain"], draw=found["draw"]),
        oxides=False,
    )
    found["composition"] = mixed(found["abundance"], composition, weight)
    for name, values in (("atom_share", amount), ("mass_share", mass)):
        total = values.sum("phase")
        found[name] = (values / total.where(total > 0.0)).reindex(phase=result.phases, fill_value=0.0)
    return found.assign_attrs(
        pixels=int(np.count_nonzero(inside)), unit=unit, prior=prior, kind=kind_of_draws(result)
    )


def _summed(abundance: FloatArray, atoms: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean abundance of the pixels, and the atoms of each phase in all of them."""
    return abundance.mean(axis=0), atoms @ abundance
