"""The groups of a result's tree: draws, constants, maps, endmembers and lines as labelled arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.chemistry.mass_balance import count_shares
from bayesunmix.config.phase import supports_of
from bayesunmix.core.credible import interval
from bayesunmix.core.shares import shares_of
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.setup import Setup
from bayesunmix.forward.quantify import CalibrationDraws, compositions, draw_calibration, relative_atoms
from bayesunmix.inference.pixel_posterior import PixelPosterior

FloatArray = npt.NDArray[np.float64]

# Label of a pixel that takes no part.
NO_LABEL = np.int16(-1)
COMPOSITION_DIMS = ("chain", "draw", "phase", "element")


def posterior_group(setup: Setup, fitted: FittedPosterior, draws: Draws, seed: int) -> xr.Dataset:
    """Compositions with and without calibration errors, the share of every component and of every phase.

    Supports have no composition: zeros.
    """
    forward = setup.forward
    calibration = draw_calibration(forward, draws.weights.shape[:2], seed)
    yields = np.asarray(fitted.data.yields)
    dims = COMPOSITION_DIMS
    alone = draws.weights.shape[:2] == (1, 1)
    drawn_in = None if alone else calibration
    nothing = np.zeros_like(calibration.log_factor)

    def composed(drawn: CalibrationDraws | None) -> FloatArray:
        found = compositions(draws.weights, yields, forward, fitted.absorbing, drawn)
        return np.where(supports_of(setup.phases)[:, None], 0.0, found)

    return xr.Dataset(
        {
            "composition": (dims, composed(drawn_in)),
            "composition_counting": counting_compositions(setup, fitted, draws),
            "component_share": ((*dims[:3], "component"), draws.component_shares),
            "absorption_scale": (dims[:2], draws.absorption_scale),
            "stray_exponent": (dims[:2], draws.stray_exponent),
            "phase_share": (dims[:3], _phase_shares(setup, fitted, draws, drawn_in, seed)),
            # What a comparison of several maps takes out and puts back: the factors are common to all of them.
            "log_calibration": (
                ("chain", "draw", "element"),
                nothing if alone else calibration.log_factor,
            ),
        },
        coords={
            "chain": np.arange(draws.weights.shape[0]),
            "draw": np.arange(draws.weights.shape[1]),
            "phase": [phase.name for phase in setup.phases],
            "element": list(forward.elements),
            "component": list(forward.components),
        },
    )


def counting_compositions(setup: Setup, fitted: FittedPosterior, draws: Draws) -> xr.DataArray:
    """Atom fractions with nominal calibration, dims `COMPOSITION_DIMS`; zeros in supports."""
    found = compositions(draws.weights, np.asarray(fitted.data.yields), setup.forward, fitted.absorbing)
    coordinates = {"phase": [phase.name for phase in setup.phases], "element": list(setup.forward.elements)}
    return xr.DataArray(
        np.where(supports_of(setup.phases)[:, None], 0.0, found), dims=COMPOSITION_DIMS, coords=coordinates
    )


def composition_with_errors(setup: Setup, fitted: FittedPosterior, draws: Draws, seed: int) -> FloatArray:
    """Atom fractions with calibration errors, dims `COMPOSITION_DIMS`."""
    calibration = draw_calibration(setup.forward, draws.weights.shape[:2], seed)
    yields = np.asarray(fitted.data.yields)
    found = compositions(draws.weights, yields, setup.forward, fitted.absorbing, calibration)
    return np.where(supports_of(setup.phases)[:, None], 0.0, found)


def constants_group(setup: Setup) -> xr.Dataset:
    """Collect the counts of every pixel, and what each element's calibration factor is a factor of."""
    forward = setup.forward
    mains = {family.element: family.family for family in forward.families if family.main and not family.stray}
    return xr.Dataset(
        {
            "total_counts": (("y", "x"), setup.image.total_counts),
            "calibration_sd": ("element", forward.calibration_sd),
            "calibration_family": ("element", [mains[element] for element in forward.elements]),
        },
        coords={"element": list(forward.elements)},
    )


def _phase_shares(
    setup: Setup, fitted: FittedPosterior, draws: Draws, calibration: CalibrationDraws | None, seed: int
) -> FloatArray:
    """Shares of the phases in the atoms of the map, (chain, draw, phase): none for supports."""
    starts = setup.blocks.boundaries[:-1]
    total = np.add.reduceat(setup.fitted_spectrum, starts).astype(float)
    counts = count_shares(total, draws.spectra.reshape(-1, *draws.spectra.shape[2:]), seed)
    yields = np.asarray(fitted.data.yields)
    atoms = relative_atoms(draws.weights, yields, setup.forward, fitted.absorbing, calibration)
    amount = counts.reshape(draws.total.shape) * atoms.sum(axis=-1) / draws.total
    return shares_of(np.where(supports_of(setup.phases), 0.0, amount))


def maps_group(
    setup: Setup, pixels: PixelPosterior, foreign: npt.NDArray[np.float32] | None = None
) -> xr.Dataset:
    """Abundances and segmentation on the map's grid: NaN, or the label -1, where a pixel takes no part.

    Parameters
    ----------
    setup, pixels
        Of the run.
    foreign : (pixel,), optional
        Share of the counts that is of no phase, where pixels were set aside: one that is mostly that has no label.
    """
    shape, used = setup.image.shape[:2], setup.image.used

    def on_grid(values: npt.NDArray[np.float32]) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        by_phase = np.moveaxis(values.reshape(*shape, -1), -1, 0)
        return ("phase", "y", "x"), np.where(used, by_phase, np.float32(np.nan))

    variables: dict[str, Any] = {
        f"abundance_{name}": on_grid(getattr(pixels, name)) for name in ("mean", "sd", "lower", "upper")
    }
    variables["pure_probability"] = on_grid(pixels.pure_probability)
    variables["count_share"] = on_grid(pixels.count_share)
    label = pixels.mean.argmax(axis=1).astype(np.int16).reshape(shape)
    labelled = used
    if foreign is not None and setup.aside is not None:
        share = foreign.reshape(shape)
        labelled = used & (share <= pixels.mean.max(axis=1).reshape(shape))
        variables["undeclared"] = (("y", "x"), np.where(used, share, np.float32(np.nan)))
        variables["set_aside"] = (("y", "x"), setup.aside)
    variables["label"] = (("y", "x"), np.where(labelled, label, NO_LABEL))
    variables["left_out"] = (("y", "x"), ~setup.image.kept)
    for name, picture in setup.image.images.items():
        key = "".join(letter if letter.isalnum() else "_" for letter in name)
        if picture.ndim == 2:
            variables[f"image_{key}"] = ((f"y2_{key}", f"x2_{key}"), picture)
    return xr.Dataset(
        variables,
        coords={"phase": [phase.name for phase in setup.phases]},
        attrs={
            "pixel_size": list(map(float, setup.image.pixel_size)),
            "pixel_unit": setup.image.pixel_unit,
            "origin": list(map(float, setup.image.origin)),
        },
    )


def endmembers_group(setup: Setup, spectra: FloatArray, level: float) -> xr.Dataset:
    """Mean and interval of endmembers (draw, phase, channel) on the axis of the whole map."""
    lower, upper = interval(spectra, level)
    axis = setup.axis_keV
    first = int(np.searchsorted(axis, setup.image.energy_keV[0] - 1e-9))
    padded = np.full((3, len(setup.phases), len(axis)), np.nan)
    padded[:, :, first : first + spectra.shape[2]] = spectra.mean(axis=0), lower, upper
    names = ("mean", "lower", "upper")
    return xr.Dataset(
        {name: (("phase", "energy"), values) for name, values in zip(names, padded, strict=True)},
        coords={"phase": [phase.name for phase in setup.phases], "energy": axis},
    )


def lines_group(setup: Setup) -> xr.Dataset:
    """Strongest lines of every fitted element inside the energy range, for labels."""
    low, high = setup.blocks.edges_keV[[0, -1]]
    rows = []
    own = set(setup.forward.elements)
    stray = {family.element for family in setup.forward.families if family.stray} - own
    for element in dict.fromkeys(family.element for family in setup.forward.families):
        inside = [line for line in setup.forward.table.lines(element) if low < line.energy_keV < high]
        strongest = max((line.strength for line in inside), default=1.0)
        for line in inside:
            share = line.strength / strongest
            if share > 0.02:
                rows.append((element, line.line, line.family, line.energy_keV, share, element in stray))
    names = ("element", "line_name", "family", "energy_keV", "strength_share", "stray")
    table = pd.DataFrame(rows, columns=list(names))
    return xr.Dataset(
        {name: ("line", table[name].to_numpy(str if name in names[:3] else None)) for name in names}
    )
