"""Put a run's pieces together: the result's tree of draws, maps and spectra, its record, and the verdict on it."""

from __future__ import annotations

import dataclasses

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
    misplaced_share,
    total_expected,
)
from bayesunmix.checks.identifiability import identifiability, non_identifiable
from bayesunmix.checks.outcomes import Goodness, Identifiability
from bayesunmix.checks.presence import presence
from bayesunmix.checks.residual_regions import residual_regions
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.model_data import Blocks
from bayesunmix.fit.rotations import rotates
from bayesunmix.fit.setup import Setup
from bayesunmix.forward.quantify import draw_calibration
from bayesunmix.inference.pixel_posterior import PixelPosterior
from bayesunmix.models.thickness import ThicknessDraws
from bayesunmix.results import record_parts as parts
from bayesunmix.results.doubts import RunOutcome, everything_said
from bayesunmix.results.finished import Finished
from bayesunmix.results.groups import (
    COMPOSITION_DIMS,
    composition_with_errors,
    constants_group,
    counting_compositions,
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
from bayesunmix.results.pixel_group import pixels_group
from bayesunmix.results.predictive_groups import predictive_groups
from bayesunmix.results.recording import Found, record, with_convergence
from bayesunmix.results.recording import presence as presence_parts
from bayesunmix.results.result import Result
from bayesunmix.results.saved import with_numbers
from bayesunmix.results.spectra_doubts import MAIN_ELEMENT
from bayesunmix.results.tables import STATED, detection_states
from bayesunmix.results.verdict import judge

FloatArray = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
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


def assemble(run: Finished) -> Result:
    """Make the result of a run."""
    # Products of all checks are too small to be shared.
    with single_thread():
        return _assembled(run, _judged(run))


def _assembled(run: Finished, fit: _Fit) -> Result:
    setup, config, drawn = run.setup, run.config, run.robust.drawn
    groups = _groups(run, fit)
    goodness, misfit = _goodness(run, fit), run.misfit
    sigma = np.where(setup.image.kept, misfit.sigma, np.nan).astype(np.float32)
    groups["maps"] = groups["maps"].assign(misfit=(("y", "x"), sigma), flagged=(("y", "x"), misfit.flagged))
    thickness = None if run.electrons is None else _mass_thickness(run, drawn.draws, run.electrons)
    if thickness is not None:
        _add_mass_thickness(groups, thickness)
    identifiability, budget = _what_pins(run, groups)
    if budget is not None:
        groups["budget"] = budget
    found = Found(
        fit=goodness,
        photons=_photons(setup, run.pixels),
        unmodelled_regions=misfit.outcome(),
        set_aside=None if run.aside is None else run.aside.outcome(setup),
        identifiability=identifiability,
        budget=None if budget is None else parts.Budget(sources=tuple(SOURCES), order=ORDER),
        mass_thickness=None if thickness is None else _mass_thickness_part(run, thickness),
        presence=_presence(run),
    )
    # The result is judged by its tables, too: they are made before anything is said of it.
    # A map of no file is nowhere else.
    image = None if setup.image.file else setup.image
    unjudged = Result(with_numbers(xr.DataTree.from_dict(groups)), record(run, found), image)
    computed = with_convergence(unjudged.record, unjudged.diagnostics(), _one_solution(run))
    computed = computed.model_copy(update={"names": unjudged.tables.proposed()})
    said = everything_said(
        RunOutcome(
            setup=setup,
            config=config,
            fitted=run.fitted,
            robust=run.robust,
            record=computed,
            misfit=misfit,
            maps=groups["maps"],
            summary=unjudged.summary(),
            budget=budget,
            mass_thickness=None if thickness is None else contradiction(thickness, setup.forward),
        )
    )
    return unjudged.with_record(computed.with_judgement(judge(said), said))


def _judged(run: Finished) -> _Fit:
    """Collect what the fit is judged by."""
    setup, robust = run.setup, run.robust
    on_channels = run.model.channel_spectra(setup, run.fitted)
    endmembers = on_channels(robust.drawn.draws)
    own, spectra, held = robust.drawn.draws, endmembers.mean(axis=0), run.pixels
    if robust.judged is not None:
        own, spectra = robust.judged, on_channels(robust.judged).mean(axis=0)
    tilt = mean_thickness(setup, run.fitted, own)
    if robust.judged is not None:
        held = dataclasses.replace(held, count_share=count_shares_at_mean(setup, own, tilt))
    segments = held_out_segments(setup, own, spectra, tilt)
    return _Fit(own=own, endmembers=endmembers, spectra=spectra, held=held, tilt=tilt, segments=segments)


def _groups(run: Finished, fit: _Fit) -> dict[str, xr.Dataset]:
    """Return the groups of the result's tree that every run has."""
    setup, config, fitted, drawn = run.setup, run.config, run.fitted, run.robust.drawn
    posterior = posterior_group(setup, fitted, drawn.draws, run.seed)
    if run.robust.model is not None:
        alone = composition_with_errors(setup, fitted, run.robust.model, run.seed)
        posterior = posterior.assign(composition_model=(COMPOSITION_DIMS, alone))
    if run.robust.rotations is not None and run.robust.one_solution is not None:
        # Of the same calibration errors as the rotated draws, draw by draw; those of a second maximum are not rotated.
        before = composition_with_errors(setup, fitted, run.robust.one_solution, run.seed)
        before = np.where(run.robust.rotations.identical[..., None], posterior["composition"].values, before)
        posterior = posterior.assign(composition_one_solution=(COMPOSITION_DIMS, before))
    statistics = {name: (("chain", "draw"), value) for name, value in drawn.statistics.items()}
    return {
        "posterior": posterior,
        "sample_stats": xr.Dataset(statistics),
        "constant_data": constants_group(setup),
        "maps": maps_group(setup, run.pixels, run.foreign),
        "endmembers": endmembers_group(setup, fit.endmembers, config.inference.level),
        "fit": fit_dataset(setup, fit.own, fit.held, fit.tilt, fit.segments),
        "lines": lines_group(setup),
        "pixels": pixels_group(run),
        **({} if run.tiles is None else predictive_groups(run.tiles, setup, fitted, run.seed)),
    }


def _presence(run: Finished) -> tuple[parts.Presence, ...] | None:
    """Say what speaks for each phase, where the line model made the mode."""
    if not run.model.line_density:
        return None
    return presence_parts(run.setup.phases, presence(Blocks.of(run.setup), run.fitted))


def _goodness(run: Finished, fit: _Fit) -> Goodness:
    """Deviances of the sum spectrum and of the segments, and the regions that leave the fit."""
    setup = run.setup
    n_parameters = len(setup.forward.components) + run.fitted.data.basis.continuum_area.shape[1]
    found = deviances(
        setup, fit.spectra, fit.held, fit.tilt, segments=fit.segments, n_parameters=n_parameters
    )
    expected = total_expected(setup, fit.spectra, fit.held, fit.tilt)
    return Goodness(
        deviance_per_dof_total=found.total,
        deviance_per_dof_segments=found.segments,
        misplaced=misplaced_share(setup.fitted_spectrum.astype(float), expected),
        residuals=residual_regions(setup, expected, fit.segments),
    )


def _taken_out(run: Finished) -> FloatArray | None:
    """Share of the second phase that draws take out of the first one, (phase, phase); None where none is rotated."""
    if not rotates(run.model, run.config.inference):
        return None
    n_phases, rotations = len(run.setup.phases), run.robust.rotations
    return np.zeros((n_phases, n_phases)) if rotations is None else rotations.outwards


def _pure(maps: xr.Dataset) -> FloatArray:
    """Share of each phase that lies in pixels of it alone, (phase,)."""
    alone, amount = (maps[name].sum(["y", "x"]).values for name in ("pure_probability", "abundance_mean"))
    return np.asarray(alone / np.maximum(amount, 1e-9))


def _photons(setup: Setup, pixels: PixelPosterior) -> dict[str, float]:
    """Add up the counts of the map that belong to each phase."""
    counts = setup.image.total_counts.ravel().astype(float) @ pixels.count_share.astype(float)
    return {phase.name: float(number) for phase, number in zip(setup.phases, counts, strict=True)}


def _what_pins(run: Finished, groups: dict[str, xr.Dataset]) -> tuple[Identifiability, xr.Dataset | None]:
    """Say what identifies each composition, and, where the line model made the mode and there are draws, the budget."""
    setup, known, robust = run.setup, run.known, run.robust
    pairs = tuple(
        non_identifiable(
            setup.phases,
            robust.own.component_shares.mean(axis=(0, 1)),
            setup.forward.components,
            # Where spectra are free, pixels that pass for pure prove nothing.
            pure=None if robust.rotations or not run.model.line_density else _pure(groups["maps"]),
            rotated=_taken_out(run),
        )
    )
    if known is None:
        return Identifiability(non_identifiable=pairs), None
    counting = groups["posterior"]["composition_counting"]
    rotated_from = _one_solution(run)
    one = counting if rotated_from is None else rotated_from
    moved_from = robust.without_misfit
    fits = one if moved_from is None else counting_compositions(setup, run.fitted, moved_from)
    budget = uncertainty_budget(
        known.local,
        setup.forward,
        run.fitted.absorbing,
        counting=counting,
        one_solution=one,
        fits=fits,
        seed=run.seed,
    )
    pinned = identifiability(
        known,
        setup.phases,
        setup.forward.elements,
        counting=one,
        budget=budget,
        present=_found(setup, counting) | (counting.quantile(0.975, ["chain", "draw"]).values > MAIN_ELEMENT),
        calibration_sd=setup.forward.calibration_sd,
        oxides=setup.forward.film.oxygen,
    )
    # A point has no intervals whose sources could be told.
    point = counting.sizes["chain"] * counting.sizes["draw"] == 1
    return dataclasses.replace(pinned, non_identifiable=pairs), None if point else budget


def _one_solution(run: Finished) -> xr.DataArray | None:
    """Compositions as they were before they were rotated or mixed, where they were."""
    draws = run.robust.one_solution
    return None if draws is None else counting_compositions(run.setup, run.fitted, draws)


def _found(setup: Setup, counting: xr.DataArray) -> npt.NDArray[np.bool_]:
    """Which elements were detected in which phase, or are there at all without draws, shape (phase, element)."""
    absent = {phase.name: list(phase.absent) for phase in setup.phases}
    states = detection_states(counting, absent)
    there = counting.mean(["chain", "draw"]).values > 0.0
    return np.asarray(np.isin(states, STATED) & there)


def _mass_thickness(run: Finished, draws: Draws, electrons: float) -> MassThickness:
    """Mass thickness with the calibration factors that the compositions were drawn with."""
    setup, fitted = run.setup, run.fitted
    shape = draws.weights.shape[:2]
    calibration = None if shape == (1, 1) else draw_calibration(setup.forward, shape, run.seed)
    yields = np.asarray(fitted.data.yields)
    per_count = mass_per_count_draws(
        draws, yields, setup.forward, fitted.absorbing, electrons=electrons, calibration=calibration
    )
    nominal = nominal_mass_per_count(draws, fitted, setup, electrons)
    kept = int(np.count_nonzero(setup.image.kept))
    return mass_thickness(
        per_count, nominal, setup.image.total_counts, run.pixels, seed=run.seed, n_pixels=kept
    )


def _mass_thickness_part(run: Finished, thickness: MassThickness) -> parts.MassThickness:
    """Return the mass thickness as the record holds it."""
    table = thickness.table([phase.name for phase in run.setup.phases], run.config.inference.level)
    rows = tuple(parts.MassThicknessRow(**row) for row in table.to_dict("records"))
    return parts.MassThickness(electrons_per_pixel=run.electrons, table=rows)


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
