"""Put a run's pieces together: the result's tree of draws, maps and spectra, its record, and the verdict on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.checkpoint import Stages
from bayesunmix.checks.budget import ORDER, uncertainty_budget
from bayesunmix.checks.goodness import (
    count_shares_at_mean,
    deviances,
    fit_dataset,
    held_out_segments,
    mean_thickness,
    total_expected,
)
from bayesunmix.checks.identifiability import Known, identifiability, loose_ends, sentence_of
from bayesunmix.checks.misfit import find_misfit
from bayesunmix.checks.residual_regions import residual_regions
from bayesunmix.checks.robust import Robust
from bayesunmix.chemistry.mass_balance import count_shares
from bayesunmix.chemistry.mass_thickness import (
    UNIT,
    MassThickness,
    contradiction,
    mass_per_count,
    mass_thickness,
    nominal_mass_per_count,
)
from bayesunmix.chemistry.quantify import (
    CalibrationDraws,
    compositions,
    draw_calibration,
    interval,
    relative_atoms,
)
from bayesunmix.config import RunConfig
from bayesunmix.fit.line_shapes import line_shapes
from bayesunmix.fit.posterior import Draws, FittedPosterior
from bayesunmix.fit.preparation import Setup
from bayesunmix.freeform.run_stage import FreeFitted
from bayesunmix.inference.pixel_posterior import PixelPosterior
from bayesunmix.record import line_shape_facts, record, thickness_facts, worst_diagnostics
from bayesunmix.report.budget_table import SOURCES
from bayesunmix.report.tables import DETECTED, detection_states
from bayesunmix.result import Result
from bayesunmix.verdict import (
    MISFIT,
    broken_stoichiometry,
    engine_problems,
    misfit_sentence,
    not_resampled,
    problems,
    rival_modes,
)

FloatArray = npt.NDArray[np.float64]

ENDMEMBER_DRAWS = 100
COMPOSITION_DIMS = ("chain", "draw", "phase", "element")


def assemble(
    setup: Setup,
    config: RunConfig,
    fitted: FittedPosterior,
    robust: Robust,
    pixels: PixelPosterior,
    stages: Stages,
    facts: dict[str, Any],
    seed: int,
    electrons: float | None = None,
    known: Known | None = None,
) -> Result:
    """Make the result of a run.

    With the electrons per pixel where zeta-factors give a mass thickness, and what is known of the posterior around
    the mode where the line model made it.
    """
    drawn, overlap = robust.drawn, config.inference.max_overlap
    on_channels = _channel_spectra(setup, fitted)
    endmembers = on_channels(drawn.draws)
    # The fit is judged where the model is: the mean of stretched draws, whose spectra go with abundances of their own,
    # is no fit.
    own, spectra, held = drawn.draws, endmembers.mean(axis=0), pixels
    if robust.model is not None:
        own, spectra = robust.model, on_channels(robust.model).mean(axis=0)
    tilt = mean_thickness(setup, fitted, own)
    if robust.model is not None:
        held = dataclasses.replace(pixels, count_share=count_shares_at_mean(setup, own, tilt, overlap))
    segments = held_out_segments(setup, own, spectra, tilt, overlap)
    groups = {
        "posterior": _posterior(setup, fitted, drawn.draws, seed),
        "sample_stats": xr.Dataset(
            {name: (("chain", "draw"), value) for name, value in drawn.statistics.items()}
        ),
        "constant_data": _constants(setup),
        "maps": _maps(setup, pixels),
        "endmembers": _on_axis(setup, endmembers, config.inference.level),
        "fit": fit_dataset(setup, own, held, tilt, segments),
        "lines": _lines(setup),
    }
    if robust.model is not None:
        alone = _composition(setup, fitted, robust.model, seed)
        groups["posterior"] = groups["posterior"].assign(composition_model=(COMPOSITION_DIMS, alone))
    misfit = find_misfit(setup, fitted.data.basis, own, held, seed)
    groups["maps"] = groups["maps"].assign(misfit=(("y", "x"), misfit.sigma.astype(np.float32)))
    thickness = None
    if electrons is not None:
        thickness = _mass_thickness(setup, fitted, drawn.draws, pixels, electrons, seed)
        _add_mass_thickness(groups, thickness)
    if known is not None:
        groups["budget"] = uncertainty_budget(
            known.local, setup.forward, fitted.absorbing, groups["posterior"]["composition_counting"], seed
        )
    tree = xr.DataTree.from_dict(groups)
    run = record(setup, config, fitted, drawn, stages, facts, seed)
    n_parameters = len(setup.forward.components) + fitted.data.basis.continuum_area.shape[1]
    run["fit"] = deviances(setup, spectra, held, tilt, segments, n_parameters)
    run["fit"] |= residual_regions(setup, total_expected(setup, spectra, held, tilt), segments)
    if run["fit"]["deviance_per_dof_total"] > MISFIT:
        run["warnings"].append(misfit_sentence(run["fit"]["deviance_per_dof_total"]))
    run["robust"] = robust.facts
    if robust.facts["used"]:
        run["warnings"].append(robust.facts["reason"])
    run["misfit"] = [region.to_dict() for region in misfit.regions]
    run["misfit_search"] = misfit.facts()
    run["warnings"] += [
        *misfit.warnings(),
        *rival_modes(setup, fitted),
        *broken_stoichiometry(setup, fitted),
        *not_resampled(config, drawn),
    ]
    if thickness is not None:
        table = thickness.table([phase.name for phase in setup.phases], config.inference.level)
        run["mass_thickness"] = {"electrons_per_pixel": electrons, "table": table.to_dict("records")}
        run["warnings"] += [sentence for sentence in [contradiction(thickness, setup.forward)] if sentence]
    run["pixel_thickness"] = thickness_facts(setup, fitted, drawn.draws)
    run["line_shapes"] = line_shape_facts(setup, drawn.draws)
    run["identifiability"] = {"loose_ends": loose_ends(setup.phases, groups["posterior"])}
    if known is not None:
        run["budget"] = {"sources": list(SOURCES), "order": ORDER}
        run["identifiability"] |= identifiability(
            known,
            setup.phases,
            setup.forward.elements,
            groups["posterior"],
            groups["budget"],
            _found(setup, groups["posterior"]["composition_counting"]),
            setup.forward.calibration_sd,
        )
    run["warnings"] += [sentence_of(loose) for loose in run["identifiability"]["loose_ends"]]
    result = Result(tree, run | {"problems": []})
    run["diagnostics"] |= worst_diagnostics(result.diagnostics())
    found = problems(run, config, fitted, drawn) + engine_problems(config, setup, drawn)
    return Result(tree, run | {"problems": found})


def _found(setup: Setup, counting: xr.DataArray) -> npt.NDArray[np.bool_]:
    """Which elements were detected in which phase, shape (phase, element)."""
    absent = {phase.name: list(phase.absent) for phase in setup.phases}
    return np.asarray(detection_states(counting, absent) == DETECTED)


def _posterior(setup: Setup, fitted: FittedPosterior, draws: Draws, seed: int) -> xr.Dataset:
    """Compositions with and without calibration errors, the share of every component and of every phase."""
    forward = setup.forward
    calibration = draw_calibration(forward, draws.weights.shape[:2], seed)
    yields = np.asarray(fitted.data.yields)
    dims = COMPOSITION_DIMS
    alone = draws.weights.shape[:2] == (1, 1)
    drawn_in = None if alone else calibration
    nothing = np.zeros_like(calibration.log_factor)
    return xr.Dataset(
        {
            "composition": (dims, compositions(draws.weights, yields, forward, fitted.absorbing, drawn_in)),
            "composition_counting": (dims, compositions(draws.weights, yields, forward, fitted.absorbing)),
            "component_share": ((*dims[:3], "component"), draws.weights / draws.total[..., None]),
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


def _composition(setup: Setup, fitted: FittedPosterior, draws: Draws, seed: int) -> FloatArray:
    """Atom fractions with calibration errors, dims `COMPOSITION_DIMS`."""
    calibration = draw_calibration(setup.forward, draws.weights.shape[:2], seed)
    yields = np.asarray(fitted.data.yields)
    return compositions(draws.weights, yields, setup.forward, fitted.absorbing, calibration)


def _constants(setup: Setup) -> xr.Dataset:
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
    """Shares of the phases in the atoms of the map, (chain, draw, phase)."""
    starts = setup.blocks.boundaries[:-1]
    total = np.add.reduceat(setup.image.sum_spectrum(), starts).astype(float)
    counts = count_shares(total, draws.spectra.reshape(-1, *draws.spectra.shape[2:]), seed)
    yields = np.asarray(fitted.data.yields)
    atoms = relative_atoms(draws.weights, yields, setup.forward, fitted.absorbing, calibration)
    amount = counts.reshape(draws.total.shape) * atoms.sum(axis=-1) / draws.total
    return np.asarray(amount / amount.sum(axis=-1, keepdims=True))


def _mass_thickness(
    setup: Setup, fitted: FittedPosterior, draws: Draws, pixels: PixelPosterior, electrons: float, seed: int
) -> MassThickness:
    """Mass thickness with the calibration factors that the compositions were drawn with."""
    shape = draws.weights.shape[:2]
    calibration = None if shape == (1, 1) else draw_calibration(setup.forward, shape, seed)
    yields = np.asarray(fitted.data.yields)
    per_count = mass_per_count(draws, yields, setup.forward, fitted.absorbing, electrons, calibration)
    nominal = nominal_mass_per_count(draws, fitted, setup, electrons)
    return mass_thickness(per_count, nominal, setup.image.total_counts, pixels, seed)


def _add_mass_thickness(groups: dict[str, xr.Dataset], thickness: MassThickness) -> None:
    """Put draws and maps of the mass thickness beside the others."""
    attributes = {"unit": UNIT}
    groups["posterior"] = groups["posterior"].assign(
        mass_thickness=(("chain", "draw"), thickness.whole, attributes),
        mass_thickness_pure=(("chain", "draw", "phase"), thickness.pure, attributes),
    )
    shape = groups["maps"]["label"].shape
    groups["maps"] = groups["maps"].assign(
        mass_thickness_mean=(("y", "x"), thickness.mean.reshape(shape), attributes),
        mass_thickness_sd=(("y", "x"), thickness.sd.reshape(shape), attributes),
    )


def _maps(setup: Setup, pixels: PixelPosterior) -> xr.Dataset:
    """Abundances and segmentation on the map's grid."""
    shape = setup.image.shape[:2]

    def on_grid(values: npt.NDArray[np.float32]) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        return ("phase", "y", "x"), np.moveaxis(values.reshape(*shape, -1), -1, 0)

    variables: dict[str, Any] = {
        f"abundance_{name}": on_grid(getattr(pixels, name)) for name in ("mean", "sd", "lower", "upper")
    }
    variables["pure_probability"] = on_grid(pixels.pure_probability)
    variables["count_share"] = on_grid(pixels.count_share)
    variables["label"] = (("y", "x"), pixels.mean.argmax(axis=1).astype(np.int16).reshape(shape))
    for name, picture in setup.image.images.items():
        key = "".join(letter if letter.isalnum() else "_" for letter in name)
        if picture.ndim == 2:
            variables[f"image_{key}"] = ((f"y2_{key}", f"x2_{key}"), picture)
    return xr.Dataset(
        variables,
        coords={"phase": [phase.name for phase in setup.phases]},
        attrs={"pixel_size": list(map(float, setup.image.pixel_size)), "pixel_unit": setup.image.pixel_unit},
    )


def _channel_spectra(setup: Setup, fitted: FittedPosterior) -> Callable[[Draws], FloatArray]:
    """Return what turns draws into endmember spectra on the fitted channels, (draw, phase, channel), of some draws."""
    if isinstance(fitted, FreeFitted):
        return lambda draws: _spread(setup, draws)
    forward, edges = setup.forward, setup.image.channel_edges_keV
    families = forward.family_spectra(fitted.absorbing, edges)
    families = families / np.maximum(
        forward.family_spectra(fitted.absorbing).sum(axis=2, keepdims=True), 1e-300
    )
    pieces = forward.continuum_spectra(fitted.absorbing, edges)
    pieces = pieces / pieces.sum(axis=2, keepdims=True)
    slopes = line_shapes(forward, setup.spectrum, setup.mean_composition, edges).slopes

    def spectra_of(draws: Draws) -> FloatArray:
        counts, continuum, x = (
            _thinned(values) for values in (draws.family_counts, draws.continuum, draws.line_shapes)
        )
        change = np.einsum("dm,mfc->dfc", x, slopes)
        spectra = np.einsum("dkf,kfc->dkc", counts, families) + np.einsum("dkb,kbc->dkc", continuum, pieces)
        spectra = np.maximum(spectra + np.matmul(counts, change), 0.0)
        return np.asarray(spectra / spectra.sum(axis=2, keepdims=True))

    return spectra_of


def _spread(setup: Setup, draws: Draws) -> FloatArray:
    """Free-form endmembers (draw, phase, channel): each bin spread over its channels like the total spectrum."""
    binned = _thinned(draws.spectra)
    boundaries = setup.blocks.boundaries
    width = np.diff(boundaries)
    total = setup.image.sum_spectrum().astype(float)
    in_bin = np.repeat(np.add.reduceat(total, boundaries[:-1]), width)
    within = np.where(in_bin > 0, total / np.maximum(in_bin, 1.0), np.repeat(1.0 / width, width))
    return np.asarray(np.repeat(binned, width, axis=2) * within)


def _on_axis(setup: Setup, spectra: FloatArray, level: float) -> xr.Dataset:
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


def _thinned(values: FloatArray) -> FloatArray:
    """Values (chain, draw, ...) at evenly spaced draws of all chains, at most `ENDMEMBER_DRAWS`."""
    total = values.shape[0] * values.shape[1]
    chosen = np.unique(np.linspace(0, total - 1, min(ENDMEMBER_DRAWS, total)).astype(int))
    return np.asarray(values.reshape(total, *values.shape[2:])[chosen])


def _lines(setup: Setup) -> xr.Dataset:
    """Strongest lines of every fitted element inside the energy range, for labels."""
    low, high = setup.blocks.edges_keV[[0, -1]]
    rows = []
    stray = {family.element for family in setup.forward.families if family.stray}
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
