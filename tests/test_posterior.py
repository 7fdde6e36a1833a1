"""The mass of a mode is a property of the mode: neither units nor baselines nor padding move it."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesunmix.fit import model_data, posterior
from bayesunmix.fit.model_data import Blocks
from bayesunmix.fit.posterior import FittedPosterior, fit_posterior
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.starts import find_starts
from bayesunmix.inference.density import compiled
from bayesunmix.inference.map_estimate import find_map
from bayesunmix.phantom import phantom_config
from bayesunmix.simulate import simulate_map


@pytest.fixture(scope="module")
def fitted() -> FittedPosterior:
    config = phantom_config()
    assert config.simulate is not None
    config = dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, shape=(36, 36)))
    setup = prepare(simulate_map(config, 1).image, config)
    blocks = Blocks(
        setup.blocks.counts.astype(np.float32),
        setup.forward,
        setup.phases,
        2,
        setup.mean_composition,
        setup.thickness,
    )
    absorbing = np.tile(setup.mean_composition, (len(setup.phases), 1))
    basis, yields = setup.forward.basis(absorbing, blocks.allowed)
    starts = find_starts(blocks.counts, basis, yields, blocks.balance(), blocks.matrix, n_starts=1, seed=0)
    return fit_posterior(blocks, starts, absorbing, lambda _: None)


def mode_of(data: Any, sites: dict[str, jax.Array]) -> float:  # noqa: ANN401
    data = jax.tree.map(jnp.asarray, data)
    model = model_data.flat_model(data)
    estimate = find_map(*compiled(model), data, np.asarray(model.flatten(sites, data)))
    return posterior._log_mass(data, estimate)


@pytest.mark.calibration
def test_mass_does_not_depend_on_units_or_baselines(fitted: FittedPosterior) -> None:
    data = fitted.data
    sites = dict(fitted.model.constrain(jnp.asarray(fitted.estimate.z), data))
    mass = posterior._log_mass(data, fitted.estimate)
    rng = np.random.default_rng(0)
    units = np.exp(rng.normal(0.0, 0.5, data.scale.shape))
    shifted = tuple(
        group._replace(baseline=group.baseline + rng.normal(0.0, 0.05, group.baseline.shape))
        for group in data.groups
    )
    other = data._replace(scale=data.scale * units, groups=shifted)
    changed = {**sites, "line_units": sites["line_units"] / units}
    # Laplace's approximation is made in z = log(exp(y) - 1): a weight near zero feels its unit a little.
    assert mode_of(other, changed) == pytest.approx(mass, abs=3.0)


@pytest.mark.calibration
def test_mass_does_not_depend_on_padding(fitted: FittedPosterior) -> None:
    data = fitted.data
    sites = dict(fitted.model.constrain(jnp.asarray(fitted.estimate.z), data))
    wider = data.groups[0]._replace(
        atoms=np.pad(data.groups[0].atoms, ((0, 1), (0, 2))),
        log_present=np.pad(data.groups[0].log_present, ((0, 1), (0, 2)), constant_values=-1e9),
        counts=np.pad(data.groups[0].counts, ((0, 1), (0, 0), (0, 0))),
        present=np.pad(data.groups[0].present, ((0, 1), (0, 0))),
        baseline=np.pad(data.groups[0].baseline, ((0, 1), (0, 0))),
    )
    whitening = np.eye(len(data.scale))
    example = posterior._Refined(data._replace(groups=(wider, *data.groups[1:])), sites, whitening)
    larger = data._replace(prior=posterior.padded_prior(data.prior, len(data.prior.mean) + 3))
    longer = {**sites, "abundance_xi": jnp.pad(sites["abundance_xi"], (0, 3))}
    padded, _ = posterior._alike([example, posterior._Refined(larger, longer, whitening)])
    assert len(padded.data.prior.mean) == len(data.prior.mean) + 3
    assert mode_of(padded.data, padded.sites) == pytest.approx(
        posterior._log_mass(data, fitted.estimate), abs=0.1
    )
