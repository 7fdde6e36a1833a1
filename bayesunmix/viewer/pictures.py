"""Pictures of a map that a place can be chosen on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bayesunmix.analysis.joint_draws import JointDraws
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.plot.element_maps import pictures_of
from bayesunmix.results.result import Result
from bayesunmix.xray.detector import Detector

FloatArray = npt.NDArray[np.float64]
Kind = Literal["picture", "total", "window", "abundance", "abundance sd", "element", "element sd", "map"]

# Half the width of a window of energies about a line, in units of the line's full width at half maximum: 1.2 of it
# holds 84 % of a Gaussian peak.
HALF_WINDOW = 0.6
_OTHER = {
    "misfit": "misfit (σ)",
    "undeclared": "share of the counts of no phase",
    "mass_thickness_mean": "mass thickness",
    "mass_thickness_sd": "mass thickness, sd",
}


@dataclass(frozen=True)
class Picture:
    """One picture that can be shown.

    Attributes
    ----------
    kind
        Where its numbers come from.
    of
        Name of the picture, phase, element or map.
    """

    kind: Kind
    of: str = ""

    @property
    def text(self) -> str:
        """What the user reads."""
        named = {
            "picture": self.of,
            "total": "total counts",
            "window": f"{self.of}, counts in the window",
            "abundance": f"{self.of}, abundance",
            "abundance sd": f"{self.of}, sd of abundance",
            "element": f"{self.of}, atom fraction (unmixed)",
            "element sd": f"{self.of}, sd of atom fraction",
            "map": _OTHER.get(self.of, self.of),
        }
        return named[self.kind]

    @property
    def needs_counts(self) -> bool:
        """Whether the counts of the map must be there."""
        return self.kind in ("window", "element", "element sd")

    @property
    def needs_draws(self) -> bool:
        """Whether it is made of draws of every pixel, which takes a while."""
        return self.kind in ("element", "element sd")


def pictures(result: Result) -> dict[str, tuple[Picture, ...]]:
    """Return all pictures of a result, in groups."""
    maps = result.tree["maps"].dataset
    groups = {
        "pictures": tuple(Picture("picture", name) for name in pictures_of(result)),
        "counts": (Picture("total"), *(Picture("window", name) for name in result.elements)),
        "abundance": tuple(Picture("abundance", name) for name in result.phases),
        "composition": tuple(Picture("element", name) for name in result.elements),
        "standard deviation": (
            *(Picture("abundance sd", name) for name in result.phases),
            *(Picture("element sd", name) for name in result.elements),
        ),
        "misfit": tuple(Picture("map", name) for name in _OTHER if name in maps),
    }
    return {name: group for name, group in groups.items() if group}


def stored_picture(result: Result, picture: Picture) -> FloatArray:
    """Return a picture that the result holds itself, (y, x); those of other detectors may have pixels of their own."""
    maps = result.tree["maps"].dataset
    if picture.kind == "picture":
        return pictures_of(result)[picture.of]
    if picture.kind == "total":
        return np.asarray(result.tree["constant_data"]["total_counts"].values, np.float64)
    if picture.kind == "map":
        return np.asarray(maps[picture.of].values, np.float64)
    statistic = "sd" if picture.kind == "abundance sd" else "mean"
    number = result.phases.index(picture.of)
    return np.asarray(maps[f"abundance_{statistic}"].values[number], np.float64)


def window_of(result: Result, element: str, acquisition: Acquisition) -> tuple[float, float]:
    """Return the window of energies in keV about the strongest line of the family that an element is measured by."""
    lines = result.tree["lines"].dataset
    own = (lines["element"].values == element) & ~lines["stray"].values.astype(bool)
    family = result.tree["constant_data"]["calibration_family"].sel(element=element).item()
    main = own & (lines["family"].values == family)
    chosen = np.flatnonzero(main if main.any() else own)
    if not len(chosen):
        return 0.0, 0.0
    best = chosen[np.argmax(lines["strength_share"].values[chosen])]
    energy = float(lines["energy_keV"].values[best])
    detector = (
        Detector.from_resolution(acquisition.resolution_eV)
        if acquisition.resolution_eV
        else Detector.from_resolution()
    )
    half = HALF_WINDOW * float(detector.fwhm_keV(energy))
    return energy - half, energy + half


def window_picture(source: JointDraws, window: tuple[float, float]) -> FloatArray:
    """Return the counts of each pixel (y, x) in a window of energies in keV, whole channels."""
    image = source.image
    first, last = np.searchsorted(image.energy_keV, window)
    found = np.empty(image.shape[:2])
    for rows, band in image.bands():
        found[rows] = band[:, :, first:last].sum(axis=2, dtype=np.int64)
    return np.where(source.used, found, np.nan)
