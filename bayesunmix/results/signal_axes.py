"""Axes of a result's signals in the form that HyperSpy holds them, in files and in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

Axis = dict[str, Any]


def axis(name: str, size: int, scale: float, offset: float, units: str, *, navigate: bool) -> Axis:
    """Return one axis."""
    return {
        "name": name,
        "size": size,
        "scale": scale,
        "offset": offset,
        "units": units,
        "navigate": navigate,
    }


def index_axis(name: str, size: int) -> Axis:
    """Return an axis that numbers statistics, phases or layers."""
    return axis(name, size, 1.0, 0.0, "", navigate=True)


def spatial_axes(result: Result, *, navigate: bool) -> list[Axis]:
    """Return rows and columns of the map, in the unit of its pixels."""
    maps = result.tree["maps"].dataset
    origin = maps.attrs.get("origin", (0.0, 0.0))
    unit = str(maps.attrs["pixel_unit"])
    return [
        axis(name, size, float(scale), float(offset), unit, navigate=navigate)
        for name, size, scale, offset in zip(
            "yx", maps["label"].shape, maps.attrs["pixel_size"], origin, strict=True
        )
    ]


def energy_axis(energy_keV: npt.NDArray[np.float64], *, binned: bool = False) -> Axis:
    """Return the centres of the channels (energy,); `binned` where a model is the integral over the channel."""
    step = float(energy_keV[1] - energy_keV[0])
    found = axis("Energy", len(energy_keV), step, float(energy_keV[0]), "keV", navigate=False)
    return {**found, "is_binned": True} if binned else found
