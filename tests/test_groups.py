"""The groups of a result's tree and the record of a run, from a prepared map and made-up draws: nothing is fitted."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bayesunmix.checks.misfit import Misfit
from bayesunmix.checks.outcomes import Goodness, Heterogeneity, Identifiability, UnmodelledRegions
from bayesunmix.checks.robust import Robust
from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.line_model import LineModel
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.sampling import Drawn
from bayesunmix.fit.setup import Setup
from bayesunmix.inference.pixel_posterior import PixelPosterior
from bayesunmix.results import recording
from bayesunmix.results.finished import Finished
from bayesunmix.results.groups import (
    NO_LABEL,
    constants_group,
    endmembers_group,
    lines_group,
    maps_group,
    posterior_group,
)
from bayesunmix.results.record import RunRecord
from bayesunmix.simulation.simulate import simulate_map

CONFIG = RunConfig.from_dict(
    {
        "sample": {
            "elements": ["Mg", "Si", "Fe"],
            "stray": ["Cu"],
            "thickness_nm": [80.0, 20.0],
            "density_g_cm3": [4.5, 0.3],
        },
        "phases": [
            {"name": "A", "composition": {"Mg": 0.5, "Si": 0.5}, "fraction": 0.7, "stoichiometry": "ABO3"},
            {"name": "B", "absent": ["Si"], "composition": {"Mg": 0.8, "Fe": 0.2}, "fraction": 0.3},
        ],
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
        "inference": {"method": "laplace", "chains": 2, "draws": 8},
        "simulate": {"shape": [8, 5], "counts_per_pixel": 900.0, "stray": {"Cu": 0.02}},
    }
)
CHAINS, DRAWS = 2, 8


@pytest.fixture(scope="module")
def setup() -> Setup:
    """Return a small map of which one row is left out."""
    image = simulate_map(CONFIG, 2).image
    mask = np.zeros(image.shape[:2], bool)
    mask[0] = True
    return prepare(image.masked(mask), CONFIG)


@pytest.fixture(scope="module")
def draws(setup: Setup) -> Draws:
    rng = np.random.default_rng(0)
    shape, forward = (CHAINS, DRAWS, 2), setup.forward
    spectra = rng.dirichlet(np.full(setup.blocks.n_bins, 5.0), shape)
    return Draws(
        weights=rng.uniform(5.0, 9.0, (*shape, len(forward.components))),
        family_counts=rng.uniform(1.0, 2.0, (*shape, len(forward.families))),
        continuum=rng.uniform(1.0, 2.0, (*shape, 3)),
        spectra=spectra,
        absorption_scale=np.ones(shape[:2]),
        stray_exponent=np.zeros(shape[:2]),
        line_shapes=np.zeros((*shape[:2], 0)),
    )


@pytest.fixture(scope="module")
def pixels(setup: Setup) -> PixelPosterior:
    mean = np.random.default_rng(1).dirichlet([2.0, 1.0], setup.image.n_pixels).astype(np.float32)
    return PixelPosterior(
        mean=mean,
        sd=0.1 * mean,
        lower=0.8 * mean,
        upper=1.2 * mean,
        pure_probability=mean**2,
        count_share=mean,
        value_sd=np.zeros(len(mean), np.float32),
    )


def fit(setup: Setup) -> Any:  # noqa: ANN401 - what the groups and the record use of one
    n_elements = len(setup.forward.elements)
    best = np.array([[0.5, 0.5, 0.0], [0.8, 0.0, 0.2]])
    modes = [
        SimpleNamespace(objective=value, same_mode=value == 0.0, followed=True, atom_fractions=best)
        for value in (0.0, 12.0)
    ]
    return SimpleNamespace(
        absorbing=best,
        data=SimpleNamespace(
            yields=np.ones((2, n_elements)),
            prior=SimpleNamespace(mean=np.zeros(7)),
            effect=SimpleNamespace(scale_sd=0.5),
            widths=SimpleNamespace(stray_exponent_sd=1.0),
        ),
        estimate=SimpleNamespace(hessian=np.diag([1.0, 4.0]), gradient_norm=0.01, converged=True),
        modes=modes,
        overlap=None,
    )


def test_compositions_are_shares_and_calibration_is_what_sets_them_apart(setup: Setup, draws: Draws) -> None:
    found = posterior_group(setup, fit(setup), draws, 0)
    for name in ("composition", "composition_counting"):
        assert found[name].sizes == {"chain": CHAINS, "draw": DRAWS, "phase": 2, "element": 3}
        np.testing.assert_allclose(found[name].sum("element"), 1.0)
    assert float(abs(found["composition"] - found["composition_counting"]).max()) > 1e-3
    assert float(abs(found["log_calibration"]).max()) > 0.0
    np.testing.assert_allclose(found["phase_share"].sum("phase"), 1.0)
    assert list(found["component"].values) == list(setup.forward.components)


def test_a_point_has_no_calibration_error(setup: Setup, draws: Draws) -> None:
    point = Draws(**{name: values[:1, :1] for name, values in vars(draws).items()})
    found = posterior_group(setup, fit(setup), point, 0)
    np.testing.assert_array_equal(found["composition"], found["composition_counting"])
    assert not found["log_calibration"].any()


def test_maps_say_which_pixels_take_no_part(setup: Setup, pixels: PixelPosterior) -> None:
    found = maps_group(setup, pixels)
    assert np.isnan(found["abundance_mean"].values[:, 0]).all()
    assert (found["label"].values[0] == NO_LABEL).all()
    assert found["left_out"].values[0].all()
    used = setup.image.used
    np.testing.assert_allclose(found["abundance_mean"].sum("phase").values[used], 1.0, rtol=1e-6)
    np.testing.assert_array_equal(
        found["label"].values[used], pixels.mean.argmax(axis=1).reshape(used.shape)[used]
    )
    assert found.attrs["pixel_unit"] == setup.image.pixel_unit


def test_endmembers_lie_on_the_axis_of_the_whole_map(setup: Setup) -> None:
    n_channels = setup.image.n_channels
    spectra = np.random.default_rng(3).dirichlet(np.full(n_channels, 2.0), (50, 2))
    found = endmembers_group(setup, spectra, 0.9)
    assert found["mean"].shape == (2, len(setup.axis_keV))
    inside = np.isfinite(found["mean"].values[0])
    assert inside.sum() == n_channels
    np.testing.assert_allclose(found["energy"].values[inside], setup.image.energy_keV)
    np.testing.assert_allclose(found["mean"].values[:, inside], spectra.mean(axis=0))
    assert (found["lower"].values <= found["upper"].values)[:, inside].all()


def test_lines_are_those_of_the_fitted_elements(setup: Setup) -> None:
    found = lines_group(setup)
    assert set(found["element"].values) == {"Mg", "Si", "Fe", "Cu"}
    assert set(found["element"].values[found["stray"].values]) == {"Cu"}
    low, high = setup.blocks.edges_keV[[0, -1]]
    assert ((found["energy_keV"] > low) & (found["energy_keV"] < high)).all()
    assert float(found["strength_share"].max()) == 1.0


def test_constants_name_the_family_that_a_factor_is_of(setup: Setup) -> None:
    found = constants_group(setup)
    assert list(found["calibration_family"].values) == ["K", "K", "K"]
    np.testing.assert_array_equal(found["total_counts"], setup.image.total_counts)


@pytest.fixture
def finished(setup: Setup, draws: Draws, pixels: PixelPosterior) -> Finished:
    robust = Robust(
        Drawn(draws=draws, statistics={}, stretched=1),
        None,
        Heterogeneity(reason="Nothing varies."),
        second_share=0.3,
    )
    shape = setup.image.shape[:2]
    nothing = Misfit(
        sigma=np.zeros(shape),
        threshold=5.0,
        false_alarm=0.01,
        spread=1.0,
        regions=(),
        places=np.full(shape, -1, np.int16),
        n_pixels=0,
    )
    return Finished(
        models=(),
        setup=setup,
        config=CONFIG,
        model=LineModel(),
        fitted=fit(setup),
        robust=robust,
        pixels=pixels,
        misfit=nothing,
        seed=4,
        depends_on={"counts": "abc", "seed": 4},
        timings={"mode": 1.5},
        resumed=["starts"],
    )


FOUND = recording.Found(
    fit=Goodness(deviance_per_dof_total=1.1, deviance_per_dof_segments=1.0),
    photons={"A": 100.0, "B": 50.0},
    unmodelled_regions=UnmodelledRegions(threshold=5.0, regions=()),
    set_aside=None,
    identifiability=Identifiability(),
)


def test_a_record_says_what_was_run(finished: Finished) -> None:
    found = recording.record(finished, FOUND)
    assert (found.seed, found.hash, found.method) == (4, "abc", "laplace")
    assert (found.verdict, found.findings, found.warnings) == ("good", (), ())
    assert found.config.phases[1].absent == ("Si",)
    assert RunConfig.from_dict(found.to_dict()["config"]) == CONFIG
    assert found.map.shape == finished.setup.image.shape
    assert [entry.pixels for entry in found.map.left_out] == [5]
    assert found.film is not None
    assert found.film.thickness_nm == (80.0, 20.0)
    assert found.diagnostics.support_points == 7
    assert found.diagnostics.smallest_curvature == 1.0
    assert [start.objective for start in found.starts] == [0.0, 12.0]
    assert found.second_maximum_share == 0.3
    assert found.resumed == ("starts",)
    assert found.line_shapes is not None
    assert found.line_shapes.directions == 0
    assert (found.fit, found.shared_pixels) == (FOUND.fit, None)


def test_a_record_is_read_as_it_was_written(finished: Finished) -> None:
    written = recording.record(finished, FOUND).to_dict()
    assert RunRecord.of(json.loads(json.dumps(written))).to_dict() == written


def test_the_worst_of_the_tables_is_recorded(finished: Finished) -> None:
    table = pd.DataFrame({"rhat": [1.0, 1.02], "ess_bulk": [500.0, 400.0], "ess_tail": [300.0, 350.0]})
    found = recording.with_convergence(recording.record(finished, FOUND), table).diagnostics
    assert (found.rhat_max, found.ess_bulk_min, found.ess_tail_min) == (1.02, 400.0, 300.0)
    assert found.support_points == 7
    unchanged = recording.record(finished, FOUND)
    assert recording.with_convergence(unchanged, table[:0]) is unchanged
