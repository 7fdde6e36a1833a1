"""Every engine on one small map, and the same numbers on one device and on four."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.config.inference import InferenceConfig
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.sampling import Drawn, posterior_draws

FloatArray = npt.NDArray[np.float64]

# Far enough from the mode that every gradient entry is of order one.
OFFSET = 0.1
ON_SEVERAL = """
import json, pickle, sys
from pathlib import Path
import jax
from bayesunmix.fit.sampling import posterior_draws
from bayesunmix.config.methods import Laplace, Nuts

fitted = pickle.loads(Path(sys.argv[1]).read_bytes())
placed = fitted.model.placed(fitted.data)
z = fitted.estimate.z + float(sys.argv[2])
value, gradient = fitted.model.value_and_gradient(z, placed)
drawn = posterior_draws(fitted, Laplace(draws=8), 3, lambda _: None)
moved = posterior_draws(fitted, Nuts(draws=4, warmup=1), 3, lambda _: None)
print(json.dumps({
    "devices": len(jax.devices()),
    "spread": len(placed.data.pixels.counts.sharding.device_set),
    "value": value,
    "gradient": gradient.tolist(),
    "weights": drawn.draws.weights.tolist(),
    "acceptance": float(moved.statistics["acceptance_rate"].mean()),
}))
"""


def draw(small_fit: FittedPosterior, seed: int = 3, **settings: object) -> Drawn:
    return posterior_draws(small_fit, InferenceConfig(**settings).engine, seed, lambda _: None)


def fractions(small_fit: FittedPosterior, drawn: Drawn) -> FloatArray:
    weights = drawn.draws.weights.reshape(-1, *drawn.draws.weights.shape[2:])
    return nominal_fractions(weights, np.asarray(small_fit.data.yields))


@pytest.mark.calibration
def test_variational_draws_agree_with_laplace_or_are_not_trusted(small_fit: FittedPosterior) -> None:
    laplace = draw(small_fit, method="laplace", draws=300)
    variational = draw(small_fit, method="svi", guide="low_rank", draws=300)
    for drawn in (laplace, variational):
        assert drawn.draws.weights.shape[:2] == (2, 300)
        assert drawn.trust is not None
        assert drawn.trust.acceptance > 0.5
        assert not drawn.trust.resampled
    assert variational.facts["svi_converged"]
    assert variational.facts["elbo_gain"] > 0.0
    names = [f"phase {k}" for k in range(3)], [str(i) for i in range(10)]
    assert laplace.trust is not None
    assert not laplace.trust.problems("Laplace", *names)
    assert variational.trust is not None
    flagged = {name for name, _, _, off in variational.trust.quantities(*names) if off}
    a, b = fractions(small_fit, laplace), fractions(small_fit, variational)
    spread = a.std(axis=0)
    shift = np.abs(a.mean(axis=0) - b.mean(axis=0)) / np.maximum(spread, 1e-12)
    # What is off by more than the two approximations' own limits together must have been said.
    for k, i in np.argwhere((spread > 0) & (shift > 1.2)):
        assert f"x({i} in phase {k})" in flagged


@pytest.mark.calibration
def test_a_narrowed_curvature_is_not_trusted(small_fit: FittedPosterior) -> None:
    # As if the map held ten times the counts that it does.
    estimate = dataclasses.replace(small_fit.estimate, hessian=10.0 * small_fit.estimate.hessian)
    narrowed = draw(dataclasses.replace(small_fit, estimate=estimate), method="laplace", draws=300)
    assert narrowed.trust is not None
    phases = [f"phase {k}" for k in range(len(small_fit.atom_fractions))]
    elements = [str(i) for i in range(small_fit.atom_fractions.shape[1])]
    (sentence,) = narrowed.trust.problems("Laplace", phases, elements)
    assert 'Run `method = "nuts"`' in sentence


@pytest.mark.calibration
def test_four_devices_give_the_numbers_of_one(small_fit: FittedPosterior, tmp_path: Path) -> None:
    assert len(jax.devices()) == 1
    file = tmp_path / "fitted.pickle"
    file.write_bytes(
        pickle.dumps(dataclasses.replace(small_fit))
    )  # without the functions that it has compiled
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", ON_SEVERAL, str(file), str(OFFSET)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["devices"] == found["spread"] == 4
    value, gradient = small_fit.model.value_and_gradient(small_fit.estimate.z + OFFSET, small_fit.data)
    assert found["value"] == pytest.approx(value, rel=1e-10)
    difference = np.abs(np.asarray(found["gradient"]) - gradient).max()
    assert difference < 1e-10 * np.abs(gradient).max()
    own = draw(small_fit, method="laplace", draws=8).draws.weights
    np.testing.assert_allclose(found["weights"], own, rtol=1e-6, atol=1e-9 * own.max())
    # Trajectories magnify rounding errors, and the adapted step decides on all that follows: draws are others.
    assert found["acceptance"] > 0.6


def test_the_guide_is_checked() -> None:
    with pytest.raises(InputError, match=r"`inference\.guide` must be one of"):
        InferenceConfig(method="svi", guide="normal")
    with pytest.raises(InputError, match=r"inference\.resample"):
        InferenceConfig(resample=1)  # type: ignore[arg-type]
    data = {"sample": {"elements": ["Mg"]}, "phases": 1, "inference": {"method": "svi", "guide": "flow"}}
    assert RunConfig.from_dict(data).inference.guide == "flow"
