"""Put a run's pieces together: the result's tree of draws, maps and spectra, its record, and the verdict on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.checks.budget import ORDER, SOURCES, uncertainty_budget
from bayesunmix.checks.goodness import (
    Segments,
    count_shares_at_mean,
    deviances,
    fit_dataset,
    held_out_segments,
    mean_thickness,
    total_expected,
)
from bayesunmix.checks.identifiability import Known, identifiability, non_identifiable
from bayesunmix.checks.misfit import find_misfit
from bayesunmix.checks.overlap import find_overlap
from bayesunmix.checks.residual_regions import residual_regions
from bayesunmix.checks.robust import Robust
from bayesunmix.config.phase import hosts
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.checkpoint import Stages
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.preparation import Setup
from bayesunmix.forward.quantify import draw_calibration
from bayesunmix.inference.pixel_posterior import PixelPosterior
from bayesunmix.models.thickness import ThicknessDraws
from bayesunmix.results.doubts import RunOutcome, everything_said
from bayesunmix.results.groups import (
    COMPOSITION_DIMS,
    channel_spectra,
    composition_with_errors,
    constants_group,
    endmembers_group,
    lines_group,
    maps_group,
    posterior_group,
)
from bayesunmix.results.mass_thickness import (
    UNIT,
    MassThickness,
    contradiction,
    mass_per_count_draws,
    mass_thickness,
    nominal_mass_per_count,
)
from bayesunmix.results.record import line_shape_facts, record, thickness_facts, worst_diagnostics
from bayesunmix.results.result import Result
from bayesunmix.results.tables import STATED, detection_states
from bayesunmix.results.verdict import judge

FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class _Fit:
    """What the fit is judged by: the best mode's own draws, without what heterogeneity or a second maximum add to them.

    The mean of stretched draws, whose spectra go with abundances of their own, is no fit, nor is the mean of two modes.
    """

    own: Draws
    endmembers: FloatArray  # (draw, phase, channel), of the draws that are reported
    spectra: FloatArray  # (phase, channel)
    held: PixelPosterior
    tilt: ThicknessDraws
    segments: Segments


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
    drawn = robust.drawn
    fit = _judged(setup, fitted, robust, pixels, config.inference.max_overlap)
    groups = _groups(setup, config, fitted, robust, pixels, fit, seed)
    misfit = find_misfit(setup, fitted.data.basis, fit.own, fit.held, seed)
    sigma = np.where(setup.image.kept, misfit.sigma, np.nan).astype(np.float32)
    groups["maps"] = groups["maps"].assign(misfit=(("y", "x"), sigma), flagged=(("y", "x"), misfit.flagged))
    run = record(setup, config, fitted, drawn, stages, facts, seed)
    run["fit"] = _fit_facts(setup, fitted, fit)
    run["photons"] = _photons(setup, pixels)
    run["robust"] = robust.facts
    run["misfit"] = [region.to_dict() for region in misfit.regions]
    run["misfit_search"] = misfit.facts()
    endmembers = fit.own.spectra.mean(axis=(0, 1))
    overlap = find_overlap(setup.blocks.counts, endmembers, config.inference.max_overlap, hosts(setup.phases))
    run["overlap"] = dataclasses.asdict(overlap)
    run["pixel_thickness"] = thickness_facts(setup, fitted, drawn.draws)
    run["line_shapes"] = line_shape_facts(setup, drawn.draws)
    thickness = None
    if electrons is not None:
        thickness = _mass_thickness(setup, fitted, drawn.draws, pixels, electrons, seed)
        _add_mass_thickness(groups, thickness)
        table = thickness.table([phase.name for phase in setup.phases], config.inference.level)
        run["mass_thickness"] = {"electrons_per_pixel": electrons, "table": table.to_dict("records")}
    run |= _what_pins(setup, fitted, groups, known, seed)
    result = Result(xr.DataTree.from_dict(groups), run)
    run["diagnostics"] |= worst_diagnostics(result.diagnostics())
    against = None if thickness is None else contradiction(thickness, setup.forward)
    outcome = RunOutcome(
        setup, config, fitted, robust, run, misfit, result.summary(), groups.get("budget"), against
    )
    # The record is the result's own: its tables are made once.
    run |= _judged_by(outcome)
    return result


def _judged(
    setup: Setup, fitted: FittedPosterior, robust: Robust, pixels: PixelPosterior, max_overlap: int
) -> _Fit:
    """Collect what the fit is judged by."""
    on_channels = channel_spectra(setup, fitted)
    endmembers = on_channels(robust.drawn.draws)
    own, spectra, held = robust.drawn.draws, endmembers.mean(axis=0), pixels
    if robust.judged is not None:
        own, spectra = robust.judged, on_channels(robust.judged).mean(axis=0)
    tilt = mean_thickness(setup, fitted, own)
    if robust.judged is not None:
        held = dataclasses.replace(pixels, count_share=count_shares_at_mean(setup, own, tilt, max_overlap))
    segments = held_out_segments(setup, own, spectra, tilt, max_overlap)
    return _Fit(own, endmembers, spectra, held, tilt, segments)


def _groups(
    setup: Setup,
    config: RunConfig,
    fitted: FittedPosterior,
    robust: Robust,
    pixels: PixelPosterior,
    fit: _Fit,
    seed: int,
) -> dict[str, xr.Dataset]:
    """Return the groups of the result's tree that every run has."""
    drawn = robust.drawn
    posterior = posterior_group(setup, fitted, drawn.draws, seed)
    if robust.model is not None:
        alone = composition_with_errors(setup, fitted, robust.model, seed)
        posterior = posterior.assign(composition_model=(COMPOSITION_DIMS, alone))
    statistics = {name: (("chain", "draw"), value) for name, value in drawn.statistics.items()}
    return {
        "posterior": posterior,
        "sample_stats": xr.Dataset(statistics),
        "constant_data": constants_group(setup),
        "maps": maps_group(setup, pixels),
        "endmembers": endmembers_group(setup, fit.endmembers, config.inference.level),
        "fit": fit_dataset(setup, fit.own, fit.held, fit.tilt, fit.segments),
        "lines": lines_group(setup),
    }


def _fit_facts(setup: Setup, fitted: FittedPosterior, fit: _Fit) -> dict[str, Any]:
    """Deviances of sum spectrum and segments, and the regions that leave the fit."""
    n_parameters = len(setup.forward.components) + fitted.data.basis.continuum_area.shape[1]
    facts = deviances(setup, fit.spectra, fit.held, fit.tilt, fit.segments, n_parameters)
    expected = total_expected(setup, fit.spectra, fit.held, fit.tilt)
    return facts | residual_regions(setup, expected, fit.segments)


def _pure(maps: xr.Dataset) -> FloatArray:
    """Share of each phase that lies in pixels of it alone, (phase,)."""
    alone, amount = (maps[name].sum(["y", "x"]).values for name in ("pure_probability", "abundance_mean"))
    return np.asarray(alone / np.maximum(amount, 1e-9))


def _photons(setup: Setup, pixels: PixelPosterior) -> dict[str, float]:
    """Add up the counts of the map that belong to each phase."""
    counts = setup.image.total_counts.ravel().astype(float) @ pixels.count_share.astype(float)
    return {phase.name: float(number) for phase, number in zip(setup.phases, counts, strict=True)}


def _what_pins(
    setup: Setup, fitted: FittedPosterior, groups: dict[str, xr.Dataset], known: Known | None, seed: int
) -> dict[str, Any]:
    """Say what identifies each composition; where the line model made the mode, add its uncertainty budget."""
    posterior = groups["posterior"]
    pins: dict[str, Any] = {"loose_ends": non_identifiable(setup.phases, posterior, _pure(groups["maps"]))}
    if known is None:
        return {"identifiability": pins}
    counting = posterior["composition_counting"]
    budget = uncertainty_budget(known.local, setup.forward, fitted.absorbing, counting, seed)
    pins |= identifiability(
        known,
        setup.phases,
        setup.forward.elements,
        posterior,
        budget,
        _found(setup, counting),
        setup.forward.calibration_sd,
    )
    if counting.sizes["chain"] * counting.sizes["draw"] == 1:
        # A point has no intervals whose sources could be told.
        return {"identifiability": pins}
    groups["budget"] = budget
    return {"budget": {"sources": list(SOURCES), "order": ORDER}, "identifiability": pins}


def _judged_by(outcome: RunOutcome) -> dict[str, Any]:
    """Return the verdict with its findings, and everything that was said, as the record holds them."""
    said = everything_said(outcome)
    verdict = judge(said)
    problems = verdict.texts("distrust")
    warnings = [str(sentence) for sentence in dict.fromkeys(said) if sentence not in problems]
    return verdict.to_dict() | {"problems": list(problems), "warnings": warnings}


def _found(setup: Setup, counting: xr.DataArray) -> npt.NDArray[np.bool_]:
    """Which elements were detected in which phase, or are there at all without draws, shape (phase, element)."""
    absent = {phase.name: list(phase.absent) for phase in setup.phases}
    states = detection_states(counting, absent)
    there = counting.mean(["chain", "draw"]).values > 0.0
    return np.asarray(np.isin(states, STATED) & there)


def _mass_thickness(
    setup: Setup, fitted: FittedPosterior, draws: Draws, pixels: PixelPosterior, electrons: float, seed: int
) -> MassThickness:
    """Mass thickness with the calibration factors that the compositions were drawn with."""
    shape = draws.weights.shape[:2]
    calibration = None if shape == (1, 1) else draw_calibration(setup.forward, shape, seed)
    yields = np.asarray(fitted.data.yields)
    per_count = mass_per_count_draws(draws, yields, setup.forward, fitted.absorbing, electrons, calibration)
    nominal = nominal_mass_per_count(draws, fitted, setup, electrons)
    kept = int(np.count_nonzero(setup.image.kept))
    return mass_thickness(per_count, nominal, setup.image.total_counts, pixels, seed, kept)


def _add_mass_thickness(groups: dict[str, xr.Dataset], thickness: MassThickness) -> None:
    """Put draws and maps of the mass thickness beside the others."""
    attributes = {"unit": UNIT}
    groups["posterior"] = groups["posterior"].assign(
        mass_thickness=(("chain", "draw"), thickness.whole, attributes),
        mass_thickness_pure=(("chain", "draw", "phase"), thickness.pure, attributes),
    )
    label = groups["maps"]["label"].values

    def on_grid(values: FloatArray) -> tuple[tuple[str, str], FloatArray, dict[str, str]]:
        return ("y", "x"), np.where(label >= 0, values.reshape(label.shape), np.nan), attributes

    groups["maps"] = groups["maps"].assign(
        mass_thickness_mean=on_grid(thickness.mean), mass_thickness_sd=on_grid(thickness.sd)
    )
