"""Abundances of pixels that hold something besides the phases, whose spectrum is known.

Each such place has a spectrum of its own, which stands beside the endmembers like one more phase that holds no atom of
the declared elements (a support): it keeps its share of the counts, and the phases share the rest by their atoms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.linalg import block_diag

from bayesunmix.core.disk_array import Picked, Rows
from bayesunmix.inference.pixel_model import PixelModel
from bayesunmix.inference.pixel_posterior import PixelPosterior, pixel_posterior
from bayesunmix.models.thickness import ThicknessDraws

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]


class Mixed(NamedTuple):
    """Pixels whose counts are of the phases and of something else.

    Attributes
    ----------
    pixels : PixelPosterior
        Of all pixels; abundances and the share below add up to 1.
    foreign : (pixel,) float32
        Share of the counts that is of none of the phases.
    models : tuple of PixelModel
        What the pixels were inferred with: those of the phases alone, and those of each place, whose spectrum is its
        last phase.
    """

    pixels: PixelPosterior
    foreign: Float32Array
    models: tuple[PixelModel, ...]


def with_foreign(
    pixels: PixelPosterior,
    model: PixelModel,
    counts: Rows,
    places: npt.NDArray[np.int16],
    own: FloatArray,
    spectra: FloatArray,
    atoms_per_count: FloatArray,
    *,
    matrix: npt.NDArray[np.bool_],
    supports: npt.NDArray[np.bool_],
    thickness: ThicknessDraws,
    count_value: FloatArray | None = None,
    rotations: FloatArray | None = None,
    **settings: Any,  # noqa: ANN401 - those of `pixel_posterior`
) -> Mixed:
    """Put in the abundances of the pixels of some places.

    Parameters
    ----------
    pixels : PixelPosterior
        Of all pixels, in which those of the places hold nothing yet.
    model : PixelModel
        What the others were inferred with.
    counts : (pixel, energy)
        Of all pixels.
    places : (pixel,) int
        Number of the place that a pixel is of, negative where it is of none; every pixel of a place has counts.
    own : (place, energy)
        What each place holds, unit sum.
    spectra, atoms_per_count, matrix, supports, thickness, count_value, rotations
        As in `pixel_posterior`; the thickness of all pixels.
    **settings
        Its other settings.
    """
    foreign = np.zeros(len(places), np.float32)
    filled = {entry.name: getattr(pixels, entry.name).copy() for entry in fields(pixels)}
    n_draws, n_phases = atoms_per_count.shape
    none = np.zeros((n_draws, 1))
    # Something of which nothing is known absorbs like the mean of the map.
    effect = thickness.effect._replace(mass_per_count=np.append(thickness.effect.mass_per_count, 1.0))
    beside = {"max_overlap": settings.pop("max_overlap", 2), "matrix": np.append(matrix, False)}
    more: Mapping[str, Any] = {
        "supports": np.append(supports, True),
        "count_value": None if count_value is None else np.append(count_value, 0.0),
        "rotations": None if rotations is None else np.stack([block_diag(m, 1.0) for m in rotations]),
    }
    models = [model]
    for place, spectrum in enumerate(own):
        there = np.flatnonzero(places == place)
        picked = Picked(counts, there)
        tilt = thickness._replace(relative=thickness.relative[there], effect=effect)
        with_own = np.concatenate([spectra, np.broadcast_to(spectrum, (n_draws, 1, len(spectrum)))], axis=1)
        models.append(PixelModel.learned(picked, with_own.mean(axis=0), thickness=tilt, **beside))
        found = pixel_posterior(
            picked,
            with_own,
            np.concatenate([atoms_per_count, none], axis=1),
            thickness=tilt,
            model=models[-1],
            **more,
            **settings,
        )
        foreign[there] = found.count_share[:, n_phases]
        for name, values in filled.items():
            own_values = getattr(found, name)
            values[there] = own_values[:, :n_phases] if own_values.ndim == 2 else own_values
    return Mixed(replace(pixels, **filled), foreign, tuple(models))
