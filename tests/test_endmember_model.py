"""Kinds of endmembers: one place chooses, and a third kind goes through a whole run that does not know it."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import bayesunmix as bu
from bayesunmix.config.endmembers import ENDMEMBERS
from bayesunmix.config.methods import Laplace, Method
from bayesunmix.core.errors import BayesUnmixWarning
from bayesunmix.core.shares import shares_of
from bayesunmix.fit.draws import Draws, thinned
from bayesunmix.fit.endmember_model import MODELS, endmember_model
from bayesunmix.fit.free_endmembers import read_mode, read_spectra, spread_over_channels
from bayesunmix.fit.model_data import Task
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start
from bayesunmix.inference.map_estimate import MapEstimate
from bayesunmix.models.abundance import abundance_prior, simplex_support_points
from bayesunmix.pipeline import run_image
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import simulate_map

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class KnownSpectra:
    """Endmembers that were measured elsewhere: one parameter, which is known within 0.001, tilts them all.

    Attributes
    ----------
    spectra : (phase, energy)
        Over the fitted bins, unit sum.
    """

    spectra: FloatArray

    fitted_type = FittedPosterior
    line_density = False

    def starts(self, task: Task) -> list[Start]:
        """Return none."""
        return []

    def fit(self, task: Task, starts: list[Start], progress: Callable[[str], None]) -> FittedPosterior:
        """Read the spectra without a tilt."""
        blocks = task.blocks
        points = simplex_support_points(
            self.spectra, blocks.typical_counts, max_overlap=blocks.overlap.most, matrix=blocks.matrix
        )
        prior = abundance_prior(points, self.spectra, blocks.typical_counts, blocks.matrix, blocks.widths)
        mode = MapEstimate(
            z=np.zeros(1),
            potential=0.0,
            hessian=np.full((1, 1), 1e6),
            gradient_norm=0.0,
            n_evaluations=0,
            converged=True,
        )
        return read_mode(blocks, self.spectra[None, None], prior, mode)

    def draw(
        self, fitted: FittedPosterior, method: Method, seed: int, progress: Callable[[float], None]
    ) -> Drawn:
        """Draw the tilt from a normal; the mode alone has none."""
        shape = (method.chains, method.draws) if isinstance(method, Laplace) else (1, 1)
        sd = 1e-3 if isinstance(method, Laplace) else 0.0
        tilt = sd * np.random.default_rng(seed).standard_normal((*shape, 1, 1))
        spectra = self.spectra * np.exp(tilt * np.linspace(-1.0, 1.0, self.spectra.shape[1]))
        progress(1.0)
        return Drawn(
            draws=read_spectra(spectra / spectra.sum(axis=-1, keepdims=True), fitted.data.basis),
            statistics={},
        )

    def channel_spectra(self, setup: Setup, fitted: FittedPosterior) -> Callable[[Draws], FloatArray]:
        """Spread bins like the sum spectrum."""
        return lambda draws: spread_over_channels(setup, thinned(draws.spectra))


def test_every_kind_that_can_be_asked_for_is_there() -> None:
    assert MODELS.keys() == ENDMEMBERS.keys()
    for name in MODELS:
        # A new object for each run, which holds what its search has compiled.
        assert endmember_model(name) is not endmember_model(name)


def simulated_endmembers(setup: Setup, composition: FloatArray) -> FloatArray:
    """Lines of some compositions (phase, element) on a fifth of continuum, (phase, energy)."""
    basis, yields = setup.forward.basis(composition, np.ones(composition.shape, bool))
    weights = np.zeros(basis.allowed.shape)
    weights[:, : yields.shape[1]] = composition * yields
    counts = weights[:, basis.family_owner] * basis.family_ratio
    lines = shares_of(np.einsum("kf,kfc->kc", counts, basis.family_templates))
    return 0.8 * lines + 0.2 * shares_of(basis.continuum_templates.mean(axis=1))


def test_known_spectra_go_through_a_whole_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = phantom_config()
    assert config.simulate is not None
    plan = dataclasses.replace(config.simulate, shape=(16, 16), counts_per_pixel=600.0)
    simulated = simulate_map(dataclasses.replace(config, simulate=plan), 2)
    true = simulated.truth.composition
    config = dataclasses.replace(
        config,
        phases=tuple(bu.Phase(name, matrix=name == "Brg") for name in ("Brg", "Fp", "CaPv")),
        inference=dataclasses.replace(config.inference, method="laplace", endmembers="free", draws=20),
        simulated_phases=(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        known = KnownSpectra(simulated_endmembers(prepare(simulated.image, config), true))
        monkeypatch.setitem(MODELS, "free", lambda: known)
        result = run_image(simulated.image, config, tmp_path / "out", seed=0, progress=False)
    counting = result.tree["posterior"]["composition_counting"]
    assert counting.sizes == {"chain": 2, "draw": 20, "phase": 3, "element": 10}
    # The spectra hold the compositions that they were made of, but for absorption and the tilt.
    np.testing.assert_allclose(counting.mean(["chain", "draw"]), true, atol=0.005)
    # What only the line model's density can tell is left out.
    assert "budget" not in result.tree
    assert result.record.diagnostics.parameters == 1
    assert bu.open_result(tmp_path / "out").phases == result.phases
