"""Line shapes that the sum spectrum leaves open: their directions, their slopes, and what they do in the model."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.setup import Setup
from bayesunmix.forward.line_shapes import line_shapes
from bayesunmix.models.endmember import endmember_spectra
from bayesunmix.models.response import KNOWN_RESPONSE, template_change
from bayesunmix.simulation.simulate import simulate_map
from bayesunmix.xray.shape_directions import INFORMED, ShapeDirections, shape_directions
from bayesunmix.xray.spectrometer import HIGHEST, LOWEST, RESPONSE_NAMES

FloatArray = npt.NDArray[np.float64]
# Of a standard deviation: tails and shares must stay positive.
PART = 0.1

CONFIG = RunConfig.from_dict(
    {
        "sample": {
            "elements": ["Mg", "Si", "Ca", "Fe", "Nd"],
            "stray": ["Cu"],
            "thickness_nm": [100.0, 30.0],
            "density_g_cm3": [4.5, 0.3],
        },
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
        "phases": [
            {
                "name": "A",
                "composition": {"Mg": 0.5, "Si": 0.42, "Ca": 0.02, "Fe": 0.05, "Nd": 0.01},
                "fraction": 0.6,
            },
            {"name": "B", "absent": ["Si"], "composition": {"Mg": 0.8, "Fe": 0.2}, "fraction": 0.4},
        ],
        "map": {"energy_range": [1.0, 20.0]},
        "simulate": {"shape": [40, 40], "counts_per_pixel": 400.0, "stray": {"Cu": 0.03}, "channels": 2048},
    }
)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return prepare(simulate_map(CONFIG, 3).image, CONFIG)


def test_directions_by_hand() -> None:
    """Two parameters that the counts see through their sum alone leave one direction, the third at its bound none."""
    information = np.array([[99.0, 99.0, 50.0], [99.0, 99.0, 50.0], [50.0, 50.0, 400.0]])
    prior_sd, offset = np.array([1.0, 2.0, 1.0]), np.array([0.5, 1.0, 0.0])
    found = shape_directions(
        information, prior_sd, offset, np.array([True, True, False]), (("Si", "K", "beta"),)
    )
    gained = 99.0 * (1.0 + 4.0)
    np.testing.assert_allclose(found.sd, [np.sqrt(1.0 + gained)])
    # S v = (1, 4, 0) / sqrt(5), over the root of 1 + l.
    change = np.array([1.0, 4.0]) / np.sqrt(5.0 * (1.0 + gained))
    sign = np.sign(found.theta[0, 0])
    np.testing.assert_allclose(sign * found.theta[0], change)
    np.testing.assert_array_equal(found.log_ratio, [[0.0]])
    # The prior's mean, r = r_fit - offset, in units of u.
    np.testing.assert_allclose(sign * found.mean, [-(0.5 + 2.0 * 0.5) / np.sqrt(5.0) * found.sd[0]])


def test_directions_that_the_counts_do_not_tell_are_left_out() -> None:
    none = shape_directions(0.5 * INFORMED * np.eye(2), np.ones(2), np.zeros(2), np.ones(2, bool), ())
    assert none.mean.shape == (0,)


def test_slopes_are_differences_of_templates(setup: Setup) -> None:
    """A part of a standard deviation along a direction, as another response and table, moves templates as told."""
    refined, forward = setup.spectrum, setup.forward
    directions, uncertainty = refined.directions, forward.response_uncertainty
    assert len(directions.mean) >= 5
    here = forward.family_spectra(setup.mean_composition[None])[0]
    checked = 0
    for m in range(len(directions.mean)):
        sides = [side for side in (PART, -PART) if _inside(refined.theta + side * directions.theta[m])]
        if not sides:
            continue
        checked += 1
        moved = refined.theta + sides[0] * directions.theta[m]
        factors = dict(
            zip(directions.ratios, np.exp(sides[0] * directions.log_ratio[m]).tolist(), strict=True)
        )
        table = forward.table.with_ratios(factors, forward.detector.efficiency)
        shift = 1e-3 * float(moved[-1] - refined.theta[-1])
        there = dataclasses.replace(
            forward,
            response=refined.response_at(moved),
            table=table.with_bonding(shift, set(CONFIG.sample.elements)),
        ).family_spectra(setup.mean_composition[None])[0]
        change = there / there.sum(axis=1, keepdims=True) - here / here.sum(axis=1, keepdims=True)
        told = sides[0] * uncertainty.slopes[m]
        assert np.abs(change - told).sum() < 0.1 * np.abs(told).sum() + 1e-5
    assert checked >= 5


def _inside(theta: FloatArray) -> bool:
    return bool(((theta >= LOWEST) & (theta <= HIGHEST)).all())


def test_templates_keep_their_area(setup: Setup) -> None:
    np.testing.assert_allclose(setup.forward.response_uncertainty.slopes.sum(axis=2), 0.0, atol=1e-7)


def test_a_direction_shows_in_the_total_spectrum_as_much_as_it_should(setup: Setup) -> None:
    """One sd of a direction moves the total by l / (1 + l) of its noise, squared, with the weights eliminated.

    With the weights held it is more; families that the model leaves out, which pile up with others, take a part away.
    """
    forward, refined = setup.forward, setup.spectrum
    counts = np.array([refined.counts.get(family.name, 0.0) for family in forward.families])
    total = np.maximum(setup.blocks.counts.sum(axis=0, dtype=float), 1.0)
    change = np.einsum("f,mfc->mc", counts, forward.response_uncertainty.slopes)
    told = (change**2 / total).sum(axis=1)
    least = 1.0 - forward.response_uncertainty.sd**-2.0
    assert np.median(told / least) > 0.9
    assert (told > 0.2 * least)[least > 0.5].all()


def test_the_model_moves_templates(setup: Setup) -> None:
    forward = setup.forward
    basis, _ = forward.basis(np.tile(setup.mean_composition, (2, 1)), np.ones((2, 5), bool))
    uncertainty = forward.response_uncertainty
    x = np.random.default_rng(1).normal(size=len(uncertainty.mean))
    weights = jnp.asarray(np.random.default_rng(2).uniform(0.5, 1.0, basis.allowed.shape))
    rest = (
        jnp.zeros(len(basis.ratio_sd)),
        jnp.zeros(basis.continuum_area.shape[1]),
        jnp.zeros(basis.continuum_area.shape),
    )
    change = template_change(uncertainty, jnp.asarray(x))
    moved = basis._replace(family_templates=basis.family_templates + np.asarray(change))
    np.testing.assert_allclose(
        endmember_spectra(basis, weights, *rest, change), endmember_spectra(moved, weights, *rest)
    )
    known = template_change(KNOWN_RESPONSE, jnp.zeros(0))
    np.testing.assert_array_equal(
        endmember_spectra(basis, weights, *rest, known), endmember_spectra(basis, weights, *rest)
    )


def test_a_response_without_directions_is_known(setup: Setup) -> None:
    none = ShapeDirections(
        theta=np.zeros((0, 0)), log_ratio=np.zeros((0, 0)), ratios=(), mean=np.zeros(0), sd=np.zeros(0)
    )
    still = dataclasses.replace(setup.spectrum, directions=none)
    found = line_shapes(setup.forward, still, setup.mean_composition)
    assert len(found.mean) == len(found.sd) == 0
    # A change by none of them still has families and channels: spectra are products with it.
    assert np.tensordot(np.zeros(0), found.slopes, 1).shape == (
        len(setup.forward.families),
        len(setup.forward.edges_keV) - 1,
    )
    assert setup.spectrum.directions.theta.shape[1] == len(RESPONSE_NAMES)
