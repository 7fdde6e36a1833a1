"""Two modes that share the posterior: which draws are whose, and what the numbers become."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bayesunmix import pipeline, stages
from bayesunmix.checks.outcomes import Heterogeneity
from bayesunmix.checks.robust import Robust
from bayesunmix.config.methods import Laplace
from bayesunmix.config.phase import Phase
from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit import posterior
from bayesunmix.fit.draws import read_draws
from bayesunmix.fit.mode_mixture import BY_PHASE, in_units_of, mixed, places
from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.fit.posterior import SHARED_NATS, FittedPosterior, Rival
from bayesunmix.fit.sampling import Drawn, posterior_draws
from bayesunmix.fit.setup import Setup
from bayesunmix.report.methods import methods_paragraph
from bayesunmix.results.result import Result
from bayesunmix.simulation.simulate import simulate_map

LAPLACE = Laplace(chains=2, draws=40)
SHARE = 0.3


def draw(fitted: FittedPosterior) -> Drawn:
    return posterior_draws(fitted, LAPLACE, 3, lambda _: None)


def moved(fitted: FittedPosterior, number: int, by: float) -> FittedPosterior:
    """Return another mode, one weight of which is larger by a share."""
    z = fitted.estimate.z.copy()
    z[fitted.model.places["line_units"].start + number] *= 1.0 + by
    return dataclasses.replace(fitted, estimate=dataclasses.replace(fitted.estimate, z=z))


def test_every_chain_holds_the_rivals_share_at_places_of_its_own() -> None:
    theirs = places((4, 250), SHARE, 1)
    np.testing.assert_array_equal(theirs.sum(axis=1), 75)
    assert (theirs[0] != theirs[1]).any()
    assert not places((2, 50), 0.004, 1).any()
    np.testing.assert_array_equal(places((4, 250), SHARE, 1), theirs)


def test_atoms_stay_when_units_and_order_change(small_fit: FittedPosterior) -> None:
    order = np.array([2, 0, 1])
    yields = np.asarray(small_fit.data.yields)
    other = dataclasses.replace(
        small_fit,
        data=small_fit.data._replace(
            yields=yields * np.linspace(0.8, 1.2, yields.size).reshape(yields.shape)
        ),
    )
    drawn = draw(other).draws
    translated = in_units_of(small_fit, Rival(other, SHARE, order), drawn)
    theirs = nominal_fractions(
        drawn.weights.reshape(-1, *drawn.weights.shape[2:]), np.asarray(other.data.yields)
    )
    ours = nominal_fractions(translated.weights.reshape(-1, *drawn.weights.shape[2:]), yields)
    np.testing.assert_allclose(ours, theirs[:, order], rtol=1e-12)
    np.testing.assert_array_equal(translated.spectra, drawn.spectra[:, :, order])
    np.testing.assert_array_equal(translated.total, drawn.total[:, :, order])


def test_draws_are_one_modes_or_the_others(small_fit: FittedPosterior) -> None:
    other = moved(small_fit, 0, 0.5)
    rival = Rival(other, SHARE, np.arange(3))
    own, theirs = draw(small_fit), draw(other)
    both = mixed(own, small_fit, rival, theirs, 5)
    at = places((2, 40), SHARE, 5)
    for name in (*BY_PHASE, "absorption_scale", "stray_exponent", "line_shapes"):
        found = getattr(both.draws, name)
        np.testing.assert_array_equal(found[at], getattr(theirs.draws, name)[at])
        np.testing.assert_array_equal(found[~at], getattr(own.draws, name)[~at])
    assert both.z is None


def test_a_mode_that_rotations_hold_is_not_mixed_in(small_fit: FittedPosterior) -> None:
    """Within the reported draws and an error of the model's own; without rotations within its own draws alone."""
    drawn = draw(small_fit)
    yields = np.asarray(small_fit.data.yields)
    wide = dataclasses.replace(drawn.draws, weights=drawn.draws.weights.copy())
    # The first phase gains of the second in half of the draws.
    wide.weights[:, ::2, 0] = 0.6 * wide.weights[:, ::2, 0] + 0.4 * wide.weights[:, ::2, 1]
    rotations: Any = SimpleNamespace()
    robust = Robust(
        dataclasses.replace(drawn, draws=wide),
        None,
        Heterogeneity(reason=""),
        as_fitted=drawn.draws,
        rotations=rotations,
    )
    own = nominal_fractions(drawn.draws.weights, yields).mean(axis=(0, 1))
    turned = nominal_fractions(wide.weights[:, ::2], yields).mean(axis=(0, 1))
    assert robust.holds(yields, own)
    assert robust.holds(yields, turned)
    assert not robust.holds(yields, turned + 2.0 * (turned - own))
    # Draws that have all left the mode behind still say nothing of another one there.
    far = dataclasses.replace(wide, weights=np.repeat(wide.weights[:, ::2], 2, axis=1))
    left = dataclasses.replace(robust, drawn=dataclasses.replace(drawn, draws=far))
    assert not (nominal_fractions(far.weights, yields).min(axis=(0, 1)) <= own).all()
    assert left.holds(yields, own)
    unturned = dataclasses.replace(robust, rotations=None)
    assert unturned.holds(yields, own)
    assert not unturned.holds(yields, turned)

    rival = Rival(dataclasses.replace(small_fit, atom_fractions=own), SHARE, np.arange(3))
    both = dataclasses.replace(small_fit, rival=rival)
    # With this job nothing can be drawn.
    job: Any = SimpleNamespace(config=SimpleNamespace(inference=SimpleNamespace(method="laplace")))
    setup: Any = None
    assert stages.mix_second_maximum(setup, both, robust, job) is robust


def test_a_mode_shares_by_its_mass_or_not_at_all(small_fit: FittedPosterior) -> None:
    phases = (Phase("A", matrix=True), Phase("B"), Phase("C"))

    def candidate(fitted: FittedPosterior, lacks: float) -> Any:  # noqa: ANN401
        latents = fitted.model.constrain(fitted.estimate.z)
        return SimpleNamespace(data=fitted.data, latents=latents, potential=lacks)

    other = moved(small_fit, 0, 0.5)

    def sharing(second: FittedPosterior, lacks: float) -> Rival | None:
        settled = [candidate(second, lacks), candidate(small_fit, 0.0)]
        return posterior._sharing(settled, [second, small_fit], 1, phases)

    rival = sharing(other, 1.4)
    assert rival is not None
    assert rival.fitted is other
    assert rival.share == pytest.approx(np.exp(-1.4) / (1.0 + np.exp(-1.4)))
    np.testing.assert_array_equal(rival.order, np.arange(3))
    assert sharing(other, SHARED_NATS + 0.1) is None
    # The same place, found twice, is one mode.
    assert sharing(moved(small_fit, 0, 1e-6), 0.0) is None


@pytest.fixture(scope="module")
def runs() -> tuple[Result, Result, float]:
    """Unmix a small map as it is, and with another mode put beside the one that was found; how far apart they are."""
    config = RunConfig.from_dict(
        {
            "sample": {
                "elements": ["Mg", "Si", "Fe"],
                "thickness_nm": [100.0, 30.0],
                "density_g_cm3": [4.5, 0.3],
            },
            "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
            "map": {"energy_range": [0.9, 12.0]},
            "phases": [
                {
                    "name": "A",
                    "matrix": True,
                    "composition": {"Mg": 0.5, "Si": 0.42, "Fe": 0.08},
                    "fraction": 0.6,
                },
                {"name": "B", "absent": ["Si"], "composition": {"Mg": 0.8, "Fe": 0.2}, "fraction": 0.4},
            ],
            "inference": {
                "method": "laplace",
                "further_phase": False,
                "chains": 2,
                "draws": 200,
                "starts": 1,
            },
            "simulate": {"shape": [20, 26], "counts_per_pixel": 300.0, "channels": 1200},
        }
    )
    image = simulate_map(config, 1).image
    alone = pipeline.run_image(image, config, None, seed=1, progress=False)
    whole = stages.find_mode
    apart = []

    def with_another(*args: Any, **settings: Any) -> tuple[Setup, FittedPosterior]:  # noqa: ANN401
        setup, fitted = whole(*args, **settings)
        # Iron of the second phase.
        free = np.asarray(fitted.data.free).tolist()
        other = moved(fitted, free.index([1, 2]), 0.5)
        read = [read_draws(f, f.estimate.z[None, None]).weights[0] for f in (fitted, other)]
        own, theirs = (nominal_fractions(weights, np.asarray(fitted.data.yields))[0] for weights in read)
        apart.append(float(theirs[1, 2] - own[1, 2]))
        rival = Rival(dataclasses.replace(other, atom_fractions=theirs), SHARE, np.arange(2))
        second = dataclasses.replace(fitted.modes[0], objective=0.8, same_mode=False, atom_fractions=theirs)
        modes = (fitted.modes[0], second)
        return setup, dataclasses.replace(fitted, rival=rival, modes=modes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "find_mode", with_another)
        # It is put where the spectra do not fit, which would move its draws, too.
        patch.setattr(stages, "moved_draws", lambda *_: None)
        both = pipeline.run_image(image, config, None, seed=1, progress=False)
    return alone, both, apart[0]


@pytest.mark.calibration
def test_intervals_hold_both_modes(runs: tuple[Result, Result, float]) -> None:
    alone, both, apart = runs
    own, found = (
        result.tree["posterior"]["composition_counting"].sel(phase="B", element="Fe").values
        for result in (alone, both)
    )
    # The other mode's draws, and those of the first as they were.
    far = np.abs(found - own) > 0.5 * apart
    assert far.mean() == SHARE
    np.testing.assert_array_equal(found[~far], own[~far])
    assert np.median(found[far]) - np.median(own) == pytest.approx(apart, rel=0.1)
    low, high = (
        [result.summary().set_index(["phase", "element"]).loc[("B", "Fe"), bound] for result in (alone, both)]
        for bound in ("lower", "upper")
    )
    assert high[1] - low[1] > high[0] - low[0] + 0.5 * apart


@pytest.mark.calibration
def test_the_fit_is_judged_by_the_best_mode_alone(runs: tuple[Result, Result, float]) -> None:
    alone, both, _ = runs
    for result in runs[:2]:
        assert result.record.fit.deviance_per_dof_total < 1.5
    # Means over different draws of the same mode, which scatter by a seventh of the error of counting.
    np.testing.assert_allclose(both.tree["fit"]["expected"], alone.tree["fit"]["expected"], rtol=3e-3)
    assert both.record.second_maximum_share == SHARE
    assert alone.record.second_maximum_share == 0.0
    (said,) = [
        text for text in both.problems if text.startswith("The counts do not exclude a second maximum")
    ]
    assert "its odds are 1 to 2.2" in said
    assert "30 % of the draws are from it" in said
    assert "A second maximum holds 30 % of the posterior, and of the draws." in methods_paragraph(both)
    assert "second maximum" not in methods_paragraph(alone)
