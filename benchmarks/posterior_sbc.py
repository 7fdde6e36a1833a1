r"""Simulation-based calibration of the engines on the unmixing model, conditional on a map.

The weights of the line families have a flat prior without end, from which nothing can be drawn: the textbook form of
simulation-based calibration, truths from the prior, does not exist. Its posterior form does (Säilynoja et al. 2025,
arXiv:2502.03279). With y0 the blocks of a pilot map, exchangeability holds as it stands for

    theta* ~ p(theta | y0),     y ~ p(y | theta*),     theta ~ p(theta | y0, y),

so the rank of theta* among the draws of the last posterior is uniform, whatever the prior. Blocks are independent given
theta, so p(theta | y0, y) is the model on the blocks of both maps together: nothing is approximated but by the engine
under test. theta* are draws of a long NUTS run on the pilot map.

The pilot map is a small one of the embedded phantom, whose ferropericlase has true zeros for traces: truths there lie
at zero, where their posteriors are truncated. Support points, line table and absorption are those of the pilot's fit
throughout: they belong to the model, whose choice is not under test here; `calibration_curves` tests whole runs.
"""

from __future__ import annotations

import dataclasses
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayesunmix.config.inference import InferenceConfig
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.whole_file import whole_file
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.laboratory.replicates import Study

if TYPE_CHECKING:
    from bayesunmix.models.unmixing import UnmixingData

FloatArray = npt.NDArray[np.float64]

# Truths are every so many of the pilot's draws, far enough apart to be independent.
THINNING = 5
PILOT_CHAINS, PILOT_WARMUP = 2, 500
# Of the draws under test: ranks need few, and one chain, which starts at the mode.
DRAWS = {"chains": 1, "draws": 200, "warmup": 250}


@dataclass(frozen=True)
class Pilot:
    """A fitted pilot map and draws of its posterior.

    Parameters
    ----------
    fitted
        Mode of the pilot map, with all its blocks at every support point.
    counts
        Its blocks, shape (block, energy).
    baseline
        Mean spectrum, shape (energy,).
    truths
        Draws of its posterior, shape (replicate, dim).
    phases, elements
        Names.
    """

    fitted: FittedPosterior
    counts: npt.NDArray[np.float32]
    baseline: FloatArray
    truths: FloatArray
    phases: tuple[str, ...]
    elements: tuple[str, ...]


def pilot(config: RunConfig, replicates: int, seed: int = 0) -> Pilot:
    """Simulate and fit a map, and draw truths from its posterior by NUTS."""
    from bayesunmix.core.errors import BayesUnmixWarning
    from bayesunmix.fit.model_data import Blocks
    from bayesunmix.fit.posterior import fit_posterior
    from bayesunmix.fit.preparation import prepare
    from bayesunmix.fit.starts import find_starts
    from bayesunmix.inference.map_estimate import find_map, whitening
    from bayesunmix.inference.nuts import nuts_draws
    from bayesunmix.simulation.simulate import simulate_map
    from bayesunmix.stages import SEARCH_SEED

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        setup = prepare(simulate_map(config, seed).image, config)
    blocks = Blocks.of(setup)
    basis, yields = setup.forward.basis(blocks.absorbing, blocks.allowed)
    counts = blocks.counts
    starts = find_starts(
        counts,
        basis,
        yields,
        blocks.statements(),
        blocks.matrix,
        n_starts=config.inference.starts,
        seed=SEARCH_SEED,
    )
    fitted = fit_posterior(blocks, starts, blocks.absorbing, lambda text: None)
    baseline = counts.sum(axis=0, dtype=np.float64) + 1.0
    baseline /= baseline.sum()
    # Every block at every support point: nothing is dropped, and all replicates have the same shapes.
    data = _with_counts(fitted.data, counts, baseline)
    fitted = dataclasses.replace(fitted, data=data)
    model = fitted.model
    placed = model.placed(data)
    estimate = find_map(model.value_and_gradient, model.hessian, placed, fitted.estimate.z)
    draws = -(-replicates * THINNING // PILOT_CHAINS)
    nuts = nuts_draws(
        model.programs.potential,
        placed,
        estimate.z,
        whitening(estimate.hessian),
        capacity=model.capacity,
        chains=PILOT_CHAINS,
        draws=draws,
        warmup=PILOT_WARMUP,
        seed=seed,
    )
    truths = nuts.z[:, ::THINNING].reshape(-1, nuts.z.shape[2])[:replicates]
    names = tuple(phase.name for phase in setup.phases)
    return Pilot(
        dataclasses.replace(fitted, estimate=estimate),
        counts,
        baseline,
        truths,
        names,
        setup.forward.elements,
    )


def kept_pilot(file: Path, config: RunConfig, replicates: int) -> Pilot:
    """Return the pilot kept in a file, made and written where there is none."""
    if file.exists():
        with file.open("rb") as stream:
            # Written by this program into its own folder; not a format to exchange.
            found: Pilot = pickle.load(stream)
        if len(found.truths) >= replicates:
            return found
        raise FileExistsError(
            f"{file} holds {len(found.truths)} truths, {replicates} are asked for: name a new folder"
        )
    made = pilot(config, replicates)
    file.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(file) as stream:
        pickle.dump(made, stream, protocol=5)
    return made


@dataclass(frozen=True)
class Simulate:
    """Blocks of a second map, drawn from the model at the truth of a replicate."""

    pilot: Pilot

    def __call__(self, seed: int) -> tuple[dict[str, float], npt.NDArray[np.float32]]:
        """Return the truth and the counts of the second map, shape (block, energy)."""
        from bayesunmix.fit.model_data import spectra_at
        from bayesunmix.models.abundance import log_weights

        fitted = _copy(self.pilot)
        z = self.pilot.truths[seed]
        latents = fitted.model.constrain(z)
        shares = np.exp(np.asarray(log_weights(fitted.data.prior, latents["abundance_xi"])))
        mixed = fitted.data.prior.support_points @ spectra_at(fitted.data, latents)
        rng = np.random.default_rng([seed, 30])
        totals = self.pilot.counts.sum(axis=1, dtype=np.float64).astype(np.int64)
        point = rng.choice(len(shares), size=len(totals), p=shares / shares.sum())
        probability = mixed[point] / mixed[point].sum(axis=1, keepdims=True)
        counts = rng.multinomial(totals, probability).astype(np.float32)
        truth = {name: float(values[0]) for name, values in quantities(self.pilot, z[None, None]).items()}
        return truth, counts


@dataclass(frozen=True)
class Infer:
    """An engine on both maps together, through the same call that a run makes."""

    pilot: Pilot
    inference: InferenceConfig

    def __call__(self, counts: npt.NDArray[np.float32], seed: int) -> dict[str, FloatArray]:
        """Return draws of every composition and partition coefficient."""
        from bayesunmix.fit.sampling import posterior_draws
        from bayesunmix.inference.map_estimate import find_map
        from bayesunmix.results.search_doubts import WHITENED_GRADIENT_LIMIT

        pilot = self.pilot
        both = np.concatenate([pilot.counts, counts])
        data = _with_counts(pilot.fitted.data, both, pilot.baseline)
        fitted = dataclasses.replace(pilot.fitted, data=data)
        model = fitted.model
        estimate = find_map(
            model.value_and_gradient, model.hessian, model.placed(data), pilot.fitted.estimate.z
        )
        if estimate.gradient_norm > WHITENED_GRADIENT_LIMIT:
            # A run says of such a result not to trust it.
            raise ArithmeticError(f"the search ended {estimate.gradient_norm:.2g} sd from the mode")
        fitted = dataclasses.replace(fitted, estimate=estimate)
        drawn = posterior_draws(fitted, self.inference.engine, seed, lambda share: None)
        return named(pilot, drawn.draws.weights)


def _with_counts(data: UnmixingData, counts: npt.NDArray[np.float32], baseline: FloatArray) -> UnmixingData:
    """Put other counts in, of an even film: draws of the model itself, whose thickness effects are second order."""
    from bayesunmix.inference.mixture import with_all_points
    from bayesunmix.models.thickness import N_COLUMNS, counted, no_effect

    n_points, n_phases = data.prior.support_points.shape
    effect = no_effect(n_phases, counts.shape[1])
    columns = counted(counts, np.ones(len(counts)), effect)
    pixels = with_all_points(columns, n_points, np.append(np.log(baseline), np.zeros(N_COLUMNS)))
    return data._replace(pixels=pixels, effect=effect)


def quantities(pilot: Pilot, z: FloatArray) -> dict[str, FloatArray]:
    """Compositions and partition coefficients at flat parameters z (chain, draw, dim), by name."""
    from bayesunmix.fit.draws import read_draws

    return named(pilot, read_draws(_copy(pilot), z).weights)


def _copy(pilot: Pilot) -> FittedPosterior:
    """Copy the fit: one that has built its model keeps it, and can no longer travel to another process."""
    return dataclasses.replace(pilot.fitted)


def named(pilot: Pilot, weights: FloatArray) -> dict[str, FloatArray]:
    """Compositions and partition coefficients by name, (draw,), from weights (chain, draw, phase, component).

    Calibration factors are nominal, as in the model; what is declared absent is left out.
    """
    from bayesunmix.fit.model_data import nominal_fractions

    x = nominal_fractions(weights, np.asarray(pilot.fitted.data.yields))
    x = x.reshape(-1, *x.shape[2:])
    allowed = np.asarray(pilot.fitted.data.basis.allowed)
    found = {}
    for k, phase in enumerate(pilot.phases):
        for i, element in enumerate(pilot.elements):
            if allowed[k, i]:
                found[f"{element} in {phase}"] = x[:, k, i]
    for k, numerator in enumerate(pilot.phases):
        for j, denominator in enumerate(pilot.phases[:k]):
            for i, element in enumerate(pilot.elements):
                if allowed[k, i] and allowed[j, i]:
                    found[f"D {element} {numerator}/{denominator}"] = x[:, k, i] / x[:, j, i]
    return found


def small_map(side: int) -> RunConfig:
    """Return the embedded phantom on a small map."""
    from bayesunmix.simulation.phantom import phantom_config

    declared = phantom_config()
    return dataclasses.replace(
        declared, simulate=dataclasses.replace(declared.simulate, shape=(side, side), counts_per_pixel=1000.0)
    )


def study(pilot: Pilot, method: str, side: int) -> Study:
    """Return the study of one engine on a pilot map."""
    inference = InferenceConfig(method=method, **DRAWS)
    facts = {"pilot": side, "truths": len(pilot.truths), "method": method, **DRAWS}
    return Study(Simulate(pilot), Infer(pilot, inference), facts)
