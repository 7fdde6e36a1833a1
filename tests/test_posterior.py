"""The mass of a mode is a property of the mode: neither units nor baselines nor padding move it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bayesunmix.config.phase import Phase
from bayesunmix.fit import model_data, posterior
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.inference.density import compiled
from bayesunmix.inference.map_estimate import find_map


def mode_of(data: Any, latents: dict[str, jax.Array]) -> float:  # noqa: ANN401
    data = jax.tree.map(jnp.asarray, data)
    model = model_data.flat_model(data)
    estimate = find_map(*compiled(model), data, np.asarray(model.flatten(latents, data)))
    return posterior._log_mass(data, estimate)


@pytest.mark.calibration
def test_mass_does_not_depend_on_units_or_baselines(small_fit: FittedPosterior) -> None:
    data = small_fit.data
    latents = dict(small_fit.model.constrain(jnp.asarray(small_fit.estimate.z), data))
    mass = posterior._log_mass(data, small_fit.estimate)
    rng = np.random.default_rng(0)
    units = np.exp(rng.normal(0.0, 0.5, data.scale.shape))
    shifted = tuple(
        group._replace(baseline=group.baseline + rng.normal(0.0, 0.05, group.baseline.shape))
        for group in data.groups
    )
    other = data._replace(scale=data.scale * units, groups=shifted)
    changed = {**latents, "line_units": latents["line_units"] / units}
    # Laplace's approximation is made in z = log(exp(y) - 1): a weight near zero feels its unit a little.
    assert mode_of(other, changed) == pytest.approx(mass, abs=3.0)


@pytest.mark.calibration
def test_mass_does_not_depend_on_padding(small_fit: FittedPosterior) -> None:
    data = small_fit.data
    latents = dict(small_fit.model.constrain(jnp.asarray(small_fit.estimate.z), data))
    wider = data.groups[0]._replace(
        support_points=np.pad(data.groups[0].support_points, ((0, 1), (0, 2))),
        log_present=np.pad(data.groups[0].log_present, ((0, 1), (0, 2)), constant_values=-1e9),
        counts=np.pad(data.groups[0].counts, ((0, 1), (0, 0), (0, 0))),
        present=np.pad(data.groups[0].present, ((0, 1), (0, 0))),
        baseline=np.pad(data.groups[0].baseline, ((0, 1), (0, 0))),
    )
    whitening = np.eye(len(data.scale))
    example = posterior._Refined(data._replace(groups=(wider, *data.groups[1:])), latents, whitening)
    larger = data._replace(prior=posterior.padded_prior(data.prior, len(data.prior.mean) + 3))
    longer = {**latents, "abundance_xi": jnp.pad(latents["abundance_xi"], (0, 3))}
    padded, _ = posterior._alike([example, posterior._Refined(larger, longer, whitening)])
    assert len(padded.data.prior.mean) == len(data.prior.mean) + 3
    assert mode_of(padded.data, padded.latents) == pytest.approx(
        posterior._log_mass(data, small_fit.estimate), abs=0.1
    )


def test_other_modes_have_their_phases_where_the_best_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phases that were declared alike come in any order, and what differs is not their order."""
    monkeypatch.setattr(posterior, "compiled_spectra", lambda data, _: data)
    monkeypatch.setattr(posterior, "fractions_at", lambda _, latents: latents)
    spectra = np.array([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.1, 0.2, 0.7]])
    fractions = np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]])

    def candidate(potential: float, order: list[int], change: float) -> Any:  # noqa: ANN401 - a stand-in
        turned = spectra * [1.0, 1.0, 1.0 + 8.0 * change]
        return SimpleNamespace(
            data=(turned / turned.sum(axis=1, keepdims=True))[order],
            latents=(fractions + np.array([change, -change]))[order],
            potential=potential,
            followed=True,
        )

    settled = [candidate(0.0, [0, 1, 2], 0.0), candidate(8.0, [2, 0, 1], 0.05)]
    others = [candidate(60.0, [1, 2, 0], 0.05), candidate(90.0, [1, 0, 2], 0.3)]
    found = posterior._modes(settled, others, (Phase("a"), Phase("b"), Phase("c")))
    assert [mode.objective for mode in found] == [0.0, 8.0, 8.0, 90.0]
    assert [mode.same_mode for mode in found] == [True, False, False, False]
    for mode, change in zip(found, (0.0, 0.05, 0.05, 0.3), strict=True):
        np.testing.assert_allclose(mode.atom_fractions, fractions + np.array([change, -change]))
