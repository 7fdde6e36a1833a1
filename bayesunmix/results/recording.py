"""The record of a run, made of what its stages came to and of what the checks found."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.checks.outcomes import Goodness, Identifiability, SetAside, UnmodelledRegions
from bayesunmix.config.phase import Phase
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.credible import health
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.further_phase import FurtherPhase
from bayesunmix.fit.phase_evidence import PhaseEvidence
from bayesunmix.fit.phase_number import PhaseNumber
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.reference_fit import ReferenceComposition
from bayesunmix.fit.rotations import Rotations
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import Setup
from bayesunmix.inference.compilation import ReadyProgram
from bayesunmix.results import record_parts as parts
from bayesunmix.results.finished import Finished
from bayesunmix.results.record import RunRecord
from bayesunmix.results.run_facts import now, versions
from bayesunmix.results.verdict import judge
from bayesunmix.xray.spectrometer import RESPONSE_NAMES

# What a mixture holds less of is not named.
LEAST_SHARE = 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """What the checks of a run found; see the fields of `bayesunmix.results.record.RunRecord`."""

    fit: Goodness
    photons: dict[str, float]
    unmodelled_regions: UnmodelledRegions
    set_aside: SetAside | None
    identifiability: Identifiability
    budget: parts.Budget | None = None
    mass_thickness: parts.MassThickness | None = None
    presence: tuple[parts.Presence, ...] | None = None


def record(run: Finished, found: Found) -> RunRecord:
    """Return the record of a run that has not been judged: nothing has been said of it yet."""
    setup, config, draws = run.setup, run.config, run.robust.drawn.draws
    known, verdict = versions(), judge(())
    return RunRecord(
        version=known["bayesunmix"],
        versions=known,
        time=now(),
        seed=run.seed,
        method=config.inference.method,
        hash=run.depends_on["counts"],
        map=map_part(setup),
        config=config_part(config),
        depends_on=dict(run.depends_on),
        timings=dict(run.timings),
        resumed=tuple(run.resumed),
        binning=parts.Binning(
            channels=setup.image.n_channels,
            bins=setup.blocks.n_bins,
            block_side=setup.blocks.block_side,
            blocks=setup.blocks.n_blocks,
            mean_counts_per_block=float(setup.blocks.total_counts.mean()),
        ),
        energy_axis=parts.Axis(**dataclasses.asdict(setup.axis)),
        response=parts.Response(
            **dataclasses.asdict(setup.spectrum.response),
            bonded_k_beta_eV=setup.spectrum.bonded_k_beta_eV,
            standard_errors=setup.spectrum.standard_errors,
        ),
        line_ratios={"_".join(key): factor for key, factor in setup.spectrum.line_ratios.items()},
        lines=setup.forward.table.source,
        undeclared=setup.spectrum.found,
        undeclared_shown=tuple(setup.spectrum.shown),
        film=film(setup),
        references=tuple(_reference(one) for one in setup.references),
        components=tuple(setup.forward.components),
        supports=tuple(phase.name for phase in setup.phases if phase.is_support),
        starts=starting_points(run.fitted),
        second_maximum_share=run.robust.second_share,
        diagnostics=diagnostics(setup, run.fitted, run.robust.drawn),
        heterogeneity=run.robust.heterogeneity,
        discrepancy=run.robust.discrepancy,
        rotations=rotations(setup, run.robust.rotations),
        pixel_thickness=pixel_thickness(setup, run.fitted, draws),
        line_shapes=line_shapes(setup, draws),
        phase_number=None if run.number is None else phase_number(run.number),
        further_phase=None if run.further is None else further_phase(run.further),
        verdict=verdict.level,
        findings=verdict.findings,
        fit=found.fit,
        photons=found.photons,
        unmodelled_regions=found.unmodelled_regions,
        set_aside=found.set_aside,
        shared_pixels=run.fitted.overlap,
        presence=found.presence,
        identifiability=found.identifiability,
        budget=found.budget,
        mass_thickness=found.mass_thickness,
    )


def map_part(setup: Setup) -> parts.Map:
    """Describe the map, and what is known of its measurement."""
    image, acquisition = setup.image, setup.image.acquisition
    facts = {field.name: getattr(acquisition, field.name) for field in dataclasses.fields(acquisition)}
    known = {name: value for name, value in facts.items() if name != "sources" and value not in (None, ())}
    return parts.Map(
        name=image.name,
        shape=image.shape,
        hash=setup.map_hash,
        left_out=tuple(parts.LeftOut(reason=entry.reason, pixels=entry.pixels) for entry in setup.left_out),
        energy_keV=(float(image.energy_keV[0]), float(image.energy_keV[-1])),
        acquisition=parts.Facts(**known),
        sources={name: str(source) for name, source in acquisition.sources.items()},
        missing=tuple(acquisition.missing),
        file=image.file or None,
        signal=image.signal,
    )


def config_part(config: RunConfig) -> parts.Config:
    """Return the configuration as it was used."""
    return parts.Config.model_validate_json(json.dumps(config.to_dict(), default=str))


def film(setup: Setup) -> parts.Film:
    """Describe the film that was taken for the absorption."""
    taken = setup.forward.film
    return parts.Film(
        thickness_nm=_pair(taken.thickness_nm),
        density_g_cm3=_pair(taken.density_g_cm3),
        mass_thickness_relative_sd=taken.mass_thickness_sd,
        absorption_coefficient_relative_sd=taken.absorption_sd,
        absorption_depth_relative_sd=taken.relative_sd,
    )


def _reference(found: ReferenceComposition) -> parts.ReferenceSpectrum:
    """Describe what the spectrum of a phase says."""
    named = partial(_by_element, found.elements)
    return parts.ReferenceSpectrum(
        phase=found.phase,
        counts=found.counts,
        deviance_per_dof=found.deviance_per_dof,
        atom_fractions=named(found.atom_fractions),
        counting_sd=named(found.counting_sd),
        sd=named(found.sd),
    )


def _pair(values: tuple[float, float]) -> tuple[float, float]:
    mean, sd = values
    return float(mean), float(sd)


def starting_points(fitted: FittedPosterior) -> tuple[parts.StartingPoint, ...]:
    """Say where every starting point led."""
    return tuple(
        parts.StartingPoint(
            objective=mode.objective,
            same_mode=mode.same_mode,
            followed=mode.followed,
            composition=tuple(tuple(row) for row in mode.atom_fractions.tolist()),
        )
        for mode in fitted.modes
    )


def presence(phases: Sequence[Phase], found: Sequence[PhaseEvidence]) -> tuple[parts.Presence, ...] | None:
    """Describe what speaks for each phase; None for one alone."""
    if len(found) < 2:
        return None
    return tuple(
        parts.Presence(
            phase=phase.name,
            standing=one.standing,
            gain=one.gain,
            gain_se=one.gain_se,
            apart=one.apart,
            shown=one.shown,
            pure=one.pure,
            like={
                other.name: share
                for other, share in zip(phases, one.like, strict=True)
                if share >= LEAST_SHARE
            },
        )
        for phase, one in zip(phases, found, strict=True)
        if not phase.is_support
    )


def phase_number(found: PhaseNumber) -> parts.PhaseNumber:
    """Describe the choice of the number of phases."""
    named = partial(_by_element, found.elements)
    errors = zip(found.scores.tolist(), found.errors.tolist(), strict=True)
    alone = found.chosen == 1
    return parts.PhaseNumber(
        chosen=found.chosen,
        curve=tuple(parts.PhaseScore(k=k, score=score, se=se) for k, (score, se) in enumerate(errors, 1)),
        phases=tuple(
            parts.CountedPhase(
                composition=named(composition),
                share=share,
                gain=None if alone else one.gain,
                gain_se=None if alone else one.gain_se,
                apart=None if alone else one.apart,
            )
            for composition, share, one in zip(
                found.composition, found.share.tolist(), found.evidence, strict=True
            )
        ),
        left_out=tuple(
            parts.UncountedPhase(
                composition=named(left.composition),
                share=left.share,
                gain=left.gain.nats,
                gain_se=left.gain.error,
                reason=left.reason,
                apart=left.apart,
                like=tuple(
                    parts.MixturePart(composition=named(composition), share=share)
                    for composition, share in zip(left.others, left.of.tolist(), strict=True)
                    if share >= LEAST_SHARE
                ),
            )
            for left in found.left_out
        ),
    )


def further_phase(found: FurtherPhase) -> parts.FurtherPhase:
    """Describe the phases with one that nobody asked for."""
    return parts.FurtherPhase(
        gain=found.gain.nats,
        gain_se=found.gain.error,
        phases=tuple(
            parts.TriedPhase(composition=_by_element(found.elements, composition), share=share, lines=lines)
            for composition, share, lines in zip(
                found.composition, found.share.tolist(), found.lines.tolist(), strict=True
            )
        ),
    )


def _by_element(elements: Sequence[str], fractions: npt.NDArray[np.float64]) -> dict[str, float]:
    return dict(zip(elements, fractions.tolist(), strict=True))


def diagnostics(setup: Setup, fitted: FittedPosterior, drawn: Drawn) -> parts.Diagnostics:
    """Return the diagnostics of search and draws; those of the reported quantities come with their tables."""
    eigenvalues = np.linalg.eigvalsh(fitted.estimate.hessian)
    sampled: dict[str, Any] = {}
    if "diverging" in drawn.statistics:
        sampled = {
            "divergences": int(drawn.statistics["diverging"].sum()),
            "leapfrog_steps_per_draw": float(drawn.statistics["n_steps"].mean()),
            "acceptance_rate": float(drawn.statistics["acceptance_rate"].mean()),
        }
    return parts.Diagnostics(
        whitened_gradient_norm=fitted.estimate.gradient_norm,
        mode_converged=fitted.estimate.converged,
        smallest_curvature=float(eigenvalues[0]),
        parameters=len(eigenvalues),
        support_points=len(fitted.data.prior.mean),
        stretched_directions=drawn.stretched,
        **drawn.facts,
        **_trust(setup, drawn),
        **sampled,
    )


def with_convergence(
    record: RunRecord, table: pd.DataFrame, one_solution: xr.DataArray | None = None
) -> RunRecord:
    """Add the worst convergence diagnostics over all reported quantities to a record.

    Parameters
    ----------
    record : RunRecord
    table : DataFrame
        Of `Result.diagnostics`.
    one_solution : DataArray (chain, draw, ...), optional
        Compositions before they were rotated, where they were: rotations are independent draws, and would hide chains
        that disagree.
    """
    if table.empty:
        return record
    if one_solution is not None:
        own = zip(("rhat", "ess_bulk", "ess_tail"), health(one_solution.values), strict=True)
        table = pd.concat([table, pd.DataFrame({name: values.ravel() for name, values in own})])
    worst = {
        "rhat_max": float(table["rhat"].max()),
        "ess_bulk_min": float(table["ess_bulk"].min()),
        "ess_tail_min": float(table["ess_tail"].min()),
    }
    return record.model_copy(update={"diagnostics": record.diagnostics.model_copy(update=worst)})


def _trust(setup: Setup, drawn: Drawn) -> dict[str, Any]:
    """Return the diagnostics of an approximation: importance weights, and the quantity that exact steps moved most."""
    if drawn.trust is None:
        return {}
    names = [phase.name for phase in setup.phases], list(setup.forward.elements)
    quantities = drawn.trust.quantities(*names)
    # Phases of one element each: there is nothing that could be wrong.
    worst, shift, width, _ = quantities[0] if quantities else ("", 0.0, 1.0, False)
    return {
        "pareto_k": drawn.trust.pareto_k if np.isfinite(drawn.trust.pareto_k) else None,
        "importance_effective_draws": drawn.trust.effective_draws,
        "resampled": drawn.trust.resampled,
        "exact_steps": parts.ExactSteps(
            acceptance=drawn.trust.acceptance,
            worst_quantity=worst,
            shift_sd=shift,
            width_ratio=width,
            holds=not drawn.trust.problems("", *names),
        ),
    }


def pixel_thickness(setup: Setup, fitted: FittedPosterior, draws: Draws) -> parts.PixelThickness:
    """Say what the map tells about thickness from pixel to pixel, beside its priors."""
    scale, exponent = draws.absorption_scale, draws.stray_exponent
    return parts.PixelThickness(
        relative_sd=float(setup.thickness.blocks.std()),
        absorption_scale_prior_sd=float(fitted.data.effect.scale_sd),
        absorption_scale=float(scale.mean()),
        absorption_scale_sd=float(scale.std()),
        stray_exponent_prior_sd=fitted.data.widths.stray_exponent_sd,
        stray_exponent=float(exponent.mean()),
        stray_exponent_sd=float(exponent.std()),
    )


def rotations(setup: Setup, found: Rotations | None) -> parts.Rotations | None:
    """Say what the map leaves open."""
    if found is None:
        return None
    names = [phase.name for phase in setup.phases]
    moves = np.argwhere((found.outwards > 0.0) | (found.inwards > 0.0)).tolist()
    return parts.Rotations(
        pure=found.prior.pure,
        absent=found.prior.absent,
        rotated=tuple(names[k] for k in np.flatnonzero(found.rotated)),
        open=tuple(
            parts.OpenRotation(
                phase=names[k],
                other=names[j],
                outwards=float(found.outwards[k, j]),
                inwards=float(found.inwards[k, j]),
            )
            for k, j in moves
        ),
        effective_candidates=found.effective,
    )


def line_shapes(setup: Setup, draws: Draws) -> parts.LineShapes:
    """Return the posterior of the response: mean and sd of its parameters, from the draws of the open directions."""
    directions = setup.spectrum.directions
    if not draws.line_shapes.shape[-1]:
        return parts.LineShapes(directions=0)
    x = draws.line_shapes.reshape(-1, draws.line_shapes.shape[-1])
    theta = setup.spectrum.theta + x @ directions.theta
    return parts.LineShapes(
        directions=len(directions.mean),
        response={
            name: parts.MeanSd(mean=float(values.mean()), sd=float(values.std()))
            for name, values in zip(RESPONSE_NAMES, theta.T, strict=True)
        },
    )


def program_uses(ready: Sequence[ReadyProgram]) -> tuple[parts.ProgramUse, ...]:
    """Count the programs of each name, those that took longest first."""
    by_name: dict[str, list[ReadyProgram]] = {}
    for program in ready:
        by_name.setdefault(program.name, []).append(program)
    uses = (
        parts.ProgramUse(
            name=name,
            compiled=sum(program.compiled for program in alike),
            read=sum(not program.compiled for program in alike),
            seconds=sum(program.seconds for program in alike),
        )
        for name, alike in by_name.items()
    )
    return tuple(sorted(uses, key=lambda use: -use.seconds))
