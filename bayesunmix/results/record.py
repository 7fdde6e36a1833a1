"""The record of a run: everything that ``run.json`` says besides the numbers of the result."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.checkpoint import Stages
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.preparation import Setup
from bayesunmix.fit.sampling import Drawn
from bayesunmix.models.thickness import STRAY_EXPONENT_SD
from bayesunmix.results.run_facts import now, versions
from bayesunmix.xray.spectrometer import RESPONSE_NAMES


def record(
    setup: Setup,
    config: RunConfig,
    fitted: FittedPosterior,
    drawn: Drawn,
    stages: Stages,
    facts: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Record of the run as run.json holds it, apart from the fit, the verdict and the worst diagnostics."""
    image, blocks, response = setup.image, setup.blocks, setup.spectrum.response
    eigenvalues = np.linalg.eigvalsh(fitted.estimate.hessian)
    errors = setup.spectrum.standard_errors
    diagnostics: dict[str, Any] = {
        "whitened_gradient_norm": fitted.estimate.gradient_norm,
        "mode_converged": fitted.estimate.converged,
        "smallest_curvature": float(eigenvalues[0]),
        "parameters": len(eigenvalues),
        "atoms": len(fitted.data.prior.mean),
        "stretched_directions": drawn.stretched,
        **drawn.facts,
        **_trust(setup, drawn),
    }
    if "diverging" in drawn.statistics:
        diagnostics["divergences"] = int(drawn.statistics["diverging"].sum())
        diagnostics["leapfrog_steps_per_draw"] = float(drawn.statistics["n_steps"].mean())
        diagnostics["acceptance_rate"] = float(drawn.statistics["acceptance_rate"].mean())
    return {
        "version": versions()["bayesunmix"],
        "versions": versions(),
        "time": now(),
        "seed": seed,
        "method": config.inference.method,
        "hash": facts["counts"],
        "map": {
            "name": image.name,
            "shape": list(image.shape),
            "left_out": [entry.to_dict() for entry in setup.left_out],
            "energy_keV": [float(image.energy_keV[0]), float(image.energy_keV[-1])],
            "acquisition": image.acquisition.to_metadata(),
            "sources": dict(image.acquisition.sources),
            "missing": list(image.acquisition.missing),
        },
        "config": config.to_dict(),
        "depends_on": facts,
        "timings": stages.timings,
        "resumed": stages.resumed,
        "binning": {
            "channels": image.n_channels,
            "bins": blocks.n_bins,
            "block_side": blocks.block_side,
            "blocks": blocks.n_blocks,
            "mean_counts_per_block": float(blocks.total_counts.mean()),
        },
        "energy_axis": dataclasses.asdict(setup.axis),
        "response": {
            **dataclasses.asdict(response),
            "bonded_k_beta_eV": setup.spectrum.bonded_k_beta_eV,
            "standard_errors": errors,
        },
        "line_ratios": {"_".join(key): factor for key, factor in setup.spectrum.line_ratios.items()},
        "undeclared": setup.spectrum.found,
        "undeclared_shown": list(setup.spectrum.shown),
        "lines": setup.forward.table.source,
        "film": {
            "thickness_nm": list(setup.forward.film.thickness_nm),
            "density_g_cm3": list(setup.forward.film.density_g_cm3),
            "mass_thickness_relative_sd": setup.forward.film.mass_thickness_sd,
            "absorption_coefficient_relative_sd": setup.forward.film.absorption_sd,
            "absorption_depth_relative_sd": setup.forward.film.relative_sd,
        },
        "components": list(setup.forward.components),
        "supports": [phase.name for phase in setup.phases if phase.is_support],
        "starts": [
            {
                "objective": mode.objective,
                "same_mode": mode.same_mode,
                "followed": mode.followed,
                "composition": mode.atom_fractions.tolist(),
            }
            for mode in fitted.modes
        ],
        "rival_share": _rival_share(fitted, config.inference.method),
        "diagnostics": diagnostics,
    }


def _rival_share(fitted: FittedPosterior, method: str) -> float:
    """Return the share of the draws that are another mode's."""
    return 0.0 if fitted.rival is None or method == "map" else fitted.rival.share


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
        "exact_steps": {
            "acceptance": drawn.trust.acceptance,
            "worst_quantity": worst,
            "shift_sd": shift,
            "width_ratio": width,
            "holds": not drawn.trust.problems("", *names),
        },
    }


def thickness_facts(setup: Setup, fitted: FittedPosterior, draws: Draws) -> dict[str, float]:
    """Record what the map says about thickness from pixel to pixel, beside its priors."""
    scale, exponent = draws.absorption_scale, draws.stray_exponent
    return {
        "relative_sd": float(setup.thickness.blocks.std()),
        "absorption_scale_prior_sd": float(fitted.data.effect.scale_sd),
        "absorption_scale": float(scale.mean()),
        "absorption_scale_sd": float(scale.std()),
        "stray_exponent_prior_sd": STRAY_EXPONENT_SD,
        "stray_exponent": float(exponent.mean()),
        "stray_exponent_sd": float(exponent.std()),
    }


def line_shape_facts(setup: Setup, draws: Draws) -> dict[str, Any]:
    """Record the posterior of the response: mean and sd of its parameters, from the draws of the open directions."""
    directions = setup.spectrum.directions
    if not draws.line_shapes.shape[-1]:
        return {"directions": 0, "response": {}}
    x = draws.line_shapes.reshape(-1, draws.line_shapes.shape[-1])
    theta = setup.spectrum.theta + x @ directions.theta
    return {
        "directions": len(directions.mean),
        "response": {
            name: {"mean": float(values.mean()), "sd": float(values.std())}
            for name, values in zip(RESPONSE_NAMES, theta.T, strict=True)
        },
    }


def worst_diagnostics(table: pd.DataFrame) -> dict[str, float]:
    """Worst convergence diagnostics over all reported quantities."""
    if table.empty:
        return {}
    return {
        "rhat_max": float(table["rhat"].max()),
        "ess_bulk_min": float(table["ess_bulk"].min()),
        "ess_tail_min": float(table["ess_tail"].min()),
    }
