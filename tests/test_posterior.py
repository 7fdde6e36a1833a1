"""The mass of a mode is a property of the mode: neither units nor baselines nor padding move it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bayesunmix.config.phase import Phase
from bayesunmix.fit import model_data, posterior
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.inference.map_estimate import find_map
from bayesunmix.models.abundance import padded_prior
from bayesunmix.models.unmixing import Latents


def mode_of(data: Any, latents: Latents) -> float:  # noqa: ANN401
    model = model_data.flat_model(data)
    start = model.flatten(latents)
    estimate = find_map(model.value_and_gradient, model.hessian, model.placed(data), start)
    return posterior._log_mass(data, estimate)


@pytest.mark.calibration
def test_mass_does_not_depend_on_units_or_baselines(small_fit: FittedPosterior) -> None:
    data = small_fit.data
    latents = small_fit.model.constrain(small_fit.estimate.z)
    mass = posterior._log_mass(data, small_fit.estimate)
    rng = np.random.default_rng(0)
    units = np.exp(rng.normal(0.0, 0.5, data.scale.shape))
    pixels = data.pixels
    shifted = pixels._replace(baseline=pixels.baseline + rng.normal(0.0, 0.05, pixels.baseline.shape))
    other = data._replace(scale=data.scale * units, pixels=shifted)
    changed = {**latents, "line_units": latents["line_units"] / units}
    # Laplace's approximation is made in z = log(exp(y) - 1): a weight near zero feels its unit a little.
    assert mode_of(other, changed) == pytest.approx(mass, abs=3.0)


@pytest.mark.calibration
def test_mass_does_not_depend_on_padding(small_fit: FittedPosterior) -> None:
    data = small_fit.data
    latents = small_fit.model.constrain(small_fit.estimate.z)
    more = len(data.prior.mean) + 3
    wider = data._replace(
        prior=padded_prior(data.prior, more),
        pixels=data.pixels._replace(support_points=np.pad(data.pixels.support_points, ((0, 0), (0, 3)))),
    )
    longer = {**latents, "abundance_xi": np.pad(latents["abundance_xi"], (0, 3))}
    assert mode_of(wider, longer) == pytest.approx(posterior._log_mass(data, small_fit.estimate), abs=0.1)


def test_other_modes_have_their_phases_where_the_best_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Phases that were declared alike come in any order, and what differs is not their order."""
    monkeypatch.setattr(posterior, "spectra_at", lambda data, _: data)
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
