"""Rotations that a map leaves open: they lose nothing where they may, and end where they must."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.inference.feasible import (
    AMOUNTS,
    OccupiedSimplex,
    PhaseWeights,
    RotationPrior,
    amount_in,
    draw_rotations,
    open_directions,
    turned,
)

FloatArray = npt.NDArray[np.float64]

# Two phases of three components on as many channels each; the second holds 0.2 of the first's first component.
COMPONENTS = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
ERRORS = np.full((2, 3), 1e-3)
ALL = np.ones((2, 3), bool)
NONE_FIXED = np.zeros(2, bool)
MATRIX = np.array([True, False])


def spread(most: float) -> tuple[FloatArray, FloatArray]:
    """Support points along the edge, and shares of the places up to `most` of the second phase."""
    second = np.linspace(0.0, 1.0, 21)
    places = np.random.default_rng(3).uniform(0.0, most, 400)
    return np.stack([1.0 - second, second], axis=1), np.stack([1.0 - places, places], axis=1)


def simplex(most: float = 1.0, counts: float = 3000.0) -> OccupiedSimplex:
    points, shares = spread(most)
    drawn = np.random.default_rng(4).poisson(counts * shares @ COMPONENTS).astype(np.float32)
    return OccupiedSimplex.of(
        drawn, points, lambda mixtures: np.log(np.maximum(mixtures @ COMPONENTS, 1e-12))
    )


def weights(
    allowed: npt.NDArray[np.bool_] = ALL, implausible: float = 0.0, sd: FloatArray = ERRORS
) -> PhaseWeights:
    """Weights of the two phases; `implausible` nats for each unit by which the second's last component grows."""
    return PhaseWeights(
        mean=COMPONENTS * allowed,
        sd=sd,
        allowed=allowed,
        judged=np.ones(3, bool),
        implausible=lambda phase, values: implausible * max(values[2] - COMPONENTS[phase, 2], 0.0),
    )


def test_rows_add_up_to_one() -> None:
    np.testing.assert_allclose(turned(1, np.array([-0.2, 0.0])), [-0.25, 1.25])
    np.testing.assert_allclose(turned(0, np.array([0.0, 1.0])), [0.5, 0.5])


def test_outwards_until_the_first_weight_is_zero() -> None:
    first = np.array([1.0, 0.0])
    assert weights().amount_out(1, first, 0.0, 1.0) == pytest.approx(0.2, abs=1e-6)
    # Some standard deviations below zero are not excluded by counting.
    assert weights().amount_out(1, first, 2.0, 1.0) == pytest.approx(0.2 + 2.0 * 1e-3 / 0.5, rel=0.01)
    assert weights().amount_out(1, first, -2.0, 1.0) < 0.2
    # What is declared absent cannot be taken out, and a declared formula ends it sooner.
    absent = ALL.copy()
    absent[1, 0] = False
    assert weights(absent).amount_out(1, first, 0.0, 1.0) == 0.0
    assert weights(implausible=100.0).amount_out(1, first, 0.0, 1.0) < 0.1


def test_a_component_that_may_be_none_ends_nothing() -> None:
    unsure = ERRORS.copy()
    unsure[0, 0] = 0.3
    # The first phase's first component is within its error of zero: the next one decides.
    assert weights(sd=unsure).amount_out(1, np.array([1.0, 0.0]), 0.0, 1.0) > 0.9


def test_outward_rotations_lose_nothing_and_inward_ones_until_places_leave() -> None:
    occupied = simplex(most=0.5)
    outwards = np.eye(2)
    outwards[1] = turned(1, np.array([-0.2, 0.0]))
    assert occupied.lost(outwards) == 0.0
    # No place holds more than half of the second phase: it may be called a mixture of both, and not much more.
    half, more = np.eye(2), np.eye(2)
    half[1], more[1] = turned(1, np.array([0.8, 0.0])), turned(1, np.array([1.8, 0.0]))
    assert occupied.lost(half) < 5.0
    assert occupied.lost(more) > 50.0


def test_amounts_inwards_follow_the_losses() -> None:
    losses = np.full(len(AMOUNTS), np.inf)
    losses[:3] = 1.0, 9.0, 25.0
    assert amount_in(losses, 0.0) == 0.0
    assert amount_in(losses, 1.0) == pytest.approx(AMOUNTS[0])
    assert amount_in(losses, 4.0) == pytest.approx(AMOUNTS[0] + 0.5 * (AMOUNTS[1] - AMOUNTS[0]))
    assert AMOUNTS[2] <= amount_in(losses, 1e9) <= AMOUNTS[3]
    assert amount_in(np.zeros(len(AMOUNTS)), 1.0) == AMOUNTS[-1]


def test_fixed_phases_stay_and_open_ones_reach_both_ends() -> None:
    occupied, held = simplex(most=0.5), weights()
    found = open_directions(occupied, held, fixed=MATRIX, closed=NONE_FIXED)
    assert found.free.tolist() == [False, True]
    generator = np.random.default_rng(0)
    rotations, odds = draw_rotations(occupied, held, found, RotationPrior(), 300, generator)
    assert odds.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(rotations[:, 0], np.broadcast_to([1.0, 0.0], (len(rotations), 2)))
    np.testing.assert_allclose(rotations.sum(axis=2), 1.0)
    # Of the first phase in the second: up to about one half gained, a fifth taken out.
    gained = rotations[:, 1, 0] / rotations[:, 1, 1]
    assert np.average(gained < -0.19, weights=odds) > 0.2
    assert np.average(gained > 0.7, weights=odds) > 0.2
    assert np.average((gained > -0.15) & (gained < 0.6), weights=odds) > 0.1
    tight, _ = draw_rotations(occupied, held, found, RotationPrior(pure=1.0, absent=0.0), 50, generator)
    assert (tight[:, 1, 0] > 0.0).all()


def test_nothing_is_open_where_pure_places_and_absences_pin_the_phases() -> None:
    # All elements of either phase but one are absent from the other, and each is pure somewhere.
    allowed = np.array([[True, True, False], [False, True, True]])
    mean = np.array([[0.5, 0.5, 0.0], [0.0, 0.4, 0.6]])
    points, shares = spread(1.0)
    drawn = np.random.default_rng(5).poisson(3000.0 * shares @ mean).astype(np.float32)
    occupied = OccupiedSimplex.of(drawn, points, lambda mixtures: np.log(np.maximum(mixtures @ mean, 1e-12)))
    pinned = PhaseWeights(
        mean=mean, sd=ERRORS * allowed, allowed=allowed, judged=np.ones(3, bool), implausible=lambda *_: 0.0
    )
    assert not open_directions(occupied, pinned, fixed=NONE_FIXED, closed=NONE_FIXED).free.any()
