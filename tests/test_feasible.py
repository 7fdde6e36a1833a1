"""Rotations that a map leaves open: they lose nothing where they may, and end where they must."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.inference.feasible import (
    AMOUNTS,
    HERE,
    PhaseWeights,
    amount_in,
    amount_lost,
    open_directions,
    turned,
)
from bayesunmix.inference.occupied_simplex import OccupiedSimplex
from bayesunmix.inference.rotation_draws import RotationPrior, draw_rotations

FloatArray = npt.NDArray[np.float64]

# Two phases of three components on as many channels each; the second holds 0.2 of the first's first component.
COMPONENTS = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]])
ERROR = 1e-3
NONE = np.zeros(2, bool)
MATRIX = np.array([True, False])
NO_NOISE = np.zeros(3)
FIRST = np.array([1.0, 0.0])


def spread(most: float) -> tuple[FloatArray, FloatArray]:
    """Support points along the edge, and shares of the places up to `most` of the second phase."""
    second = np.linspace(0.0, 1.0, 121)
    places = np.random.default_rng(3).uniform(0.0, most, 400)
    return np.stack([1.0 - second, second], axis=1), np.stack([1.0 - places, places], axis=1)


def simplex(
    most: float = 1.0, counts: float = 3000.0, truth: FloatArray = COMPONENTS, found: FloatArray = COMPONENTS
) -> OccupiedSimplex:
    """Places drawn from the spectra `truth` in the simplex of those that were `found`."""
    points, shares = spread(most)
    drawn = np.random.default_rng(4).poisson(counts * shares @ truth).astype(np.float32)
    return OccupiedSimplex.of(drawn, points, answers_of(found))


def answers_of(spectra: FloatArray) -> Callable[[FloatArray, FloatArray | None], FloatArray]:
    """Log spectra of mixtures of some endmembers."""

    def answers(mixtures: FloatArray, added: FloatArray | None) -> FloatArray:
        mixed = np.maximum(mixtures @ spectra + (0.0 if added is None else added), 1e-12)
        return np.asarray(np.log(mixed / mixed.sum(axis=1, keepdims=True)))

    return answers


def weights(
    allowed: npt.NDArray[np.bool_] | None = None,
    implausible: float = 0.0,
    sd: FloatArray | None = None,
    mean: FloatArray = COMPONENTS,
    excess: float = 1.0,
) -> PhaseWeights:
    """Weights of the two phases; `implausible` nats for each unit by which the second's last component grows."""
    own = np.ones(mean.shape, bool) if allowed is None else allowed
    n_components = mean.shape[1]
    return PhaseWeights(
        mean=mean * own,
        sd=np.full(mean.shape, ERROR) * own if sd is None else sd,
        allowed=own,
        judged=np.ones(n_components, bool),
        templates=np.stack([np.eye(n_components)] * len(mean)),
        implausible=lambda values: implausible * max(values[1, 2] - mean[1, 2], 0.0),
        excess=np.full(mean.shape, excess),
    )


def test_rows_add_up_to_one() -> None:
    np.testing.assert_allclose(turned(1, np.array([-0.2, 0.0])), [-0.25, 1.25])
    np.testing.assert_allclose(turned(0, np.array([0.0, 1.0])), [0.5, 0.5])


def test_outwards_until_the_first_weight_is_zero() -> None:
    assert weights().amount_out(1, FIRST, NO_NOISE, 1.0) == pytest.approx(0.2, abs=1e-6)
    # As far below zero as counting would have it, were there none of it; what is counted too high ends nothing sooner.
    low, high = np.array([-2.0, 0.0, 0.0]), np.array([2.0, 0.0, 0.0])
    assert weights().amount_out(1, FIRST, low, 1.0) == pytest.approx(0.2 + 2.0 * 1e-3 / 0.5, rel=0.01)
    assert weights().amount_out(1, FIRST, high, 1.0) == pytest.approx(0.2, abs=1e-6)
    # The other components are far from zero there: their errors do not count.
    assert weights().amount_out(1, FIRST, np.full(3, -9.0) * [0, 1, 1], 1.0) == pytest.approx(0.2, abs=1e-6)
    # What it has gained before can be taken out, too, and a declared formula ends it sooner.
    assert weights().amount_out(1, FIRST, NO_NOISE, 1.0, 0.1 * FIRST) == pytest.approx(0.3, abs=1e-6)
    assert weights(implausible=100.0).amount_out(1, FIRST, NO_NOISE, 1.0) < 0.1


def test_several_elements_that_are_none_end_a_phase_together() -> None:
    # Of ten elements that are all absent at the same place, one is always counted low: the first is not the end.
    generator = np.random.default_rng(7)
    n, sd, end = 10, 1e-3, 0.4
    others = np.full(n, 0.05)
    own = end * others + sd * generator.standard_normal(n)
    mean = np.stack([np.append(others, 0.5), np.append(own, 0.5)])
    errors = np.stack([np.full(n + 1, 1e-6), np.full(n + 1, sd)])
    many = weights(mean=mean, sd=errors)
    ends = [many.amount_out(1, FIRST, generator.standard_normal(n + 1), 1.0) for _ in range(400)]
    first = float((own / others).min())
    assert first < end - 0.01
    assert np.quantile(ends, 0.05) < end < np.quantile(ends, 0.95)


def test_a_component_that_may_be_none_ends_nothing() -> None:
    unsure = np.full((2, 3), ERROR)
    unsure[0, 0] = 0.3
    # The first phase's first component is within its error of zero: the next one decides.
    assert weights(sd=unsure).amount_out(1, FIRST, NO_NOISE, 1.0) > 0.9


def test_outward_rotations_lose_nothing_and_inward_ones_until_places_leave() -> None:
    occupied = simplex(most=0.5)
    outwards = np.eye(2)
    outwards[1] = turned(1, np.array([-0.2, 0.0]))
    assert 0.0 <= occupied.gained(outwards) < 3.0
    # No place holds more than half of the second phase: it may be called a mixture of both, and not much more.
    half, more = np.eye(2), np.eye(2)
    half[1], more[1] = turned(1, np.array([0.8, 0.0])), turned(1, np.array([1.8, 0.0]))
    assert occupied.gained(half) > -5.0
    assert occupied.gained(more) < -50.0


def test_amounts_follow_the_losses() -> None:
    losses = np.full(len(AMOUNTS), np.inf)
    losses[: HERE + 1] = 0.0
    losses[HERE + 1 : HERE + 4] = 1.0, 9.0, 25.0
    first, second, third = AMOUNTS[HERE + 1 : HERE + 4]
    assert amount_in(losses, 0.0) == 0.0
    assert amount_in(losses, 1.0) == pytest.approx(first)
    assert amount_in(losses, 4.0) == pytest.approx(first + 0.5 * (second - first))
    assert third <= amount_in(losses, 1e9) <= AMOUNTS[HERE + 4]
    assert amount_in(np.zeros(len(AMOUNTS)), 1.0) == AMOUNTS[-1]
    assert amount_lost(losses, 1.0) == -AMOUNTS[0]
    # Where the best is some way off, less than nothing can be gained.
    off = (AMOUNTS + 0.1) ** 2 * 1e4
    assert amount_in(off, 1.0) == pytest.approx(-0.09, abs=0.01)
    assert amount_lost(off, 1.0) == pytest.approx(0.11, abs=0.01)


def test_an_absent_element_that_costs_little_is_left_out() -> None:
    # The first phase holds a trace that is declared absent from the second; of the second as it was found, 30 % are
    # the first. Nothing but the trace tells, and the rotation that is true is found.
    truth = np.array([[0.01, 0.59, 0.4], [0.0, 0.1, 0.9]])
    found = np.array([truth[0], 0.3 * truth[0] + 0.7 * truth[1]])
    found[1, 0] = 0.0
    found[1] /= found[1].sum()
    allowed = np.array([[True, True, True], [False, True, True]])
    held = weights(allowed, mean=found)
    occupied = simplex(most=0.6, counts=3e4, truth=truth, found=found)
    opened = open_directions(occupied, held, pure=MATRIX, closed=NONE)
    np.testing.assert_allclose(opened.centre[1], turned(1, -0.3 * FIRST), atol=0.05)
    np.testing.assert_array_equal(opened.centre[0], FIRST)
    # Where nothing is open around it, it is what all draws are rotated by.
    closed = replace(opened, opens_out=np.zeros((2, 2), bool), opens_in=np.zeros((2, 2), bool))
    rotations, odds = draw_rotations(closed, RotationPrior(), 5, np.random.default_rng(0))
    np.testing.assert_array_equal(rotations, np.broadcast_to(opened.centre, (5, 2, 2)))
    np.testing.assert_allclose(odds, 0.2)


def test_pure_phases_stay_and_open_ones_reach_both_ends() -> None:
    occupied, held = simplex(most=0.5), weights()
    found = open_directions(occupied, held, pure=MATRIX, closed=NONE)
    assert found.free.tolist() == [False, True]
    generator = np.random.default_rng(0)
    rotations, odds = draw_rotations(found, RotationPrior(), 300, generator)
    assert odds.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(rotations[:, 0], np.broadcast_to([1.0, 0.0], (len(rotations), 2)))
    np.testing.assert_allclose(rotations.sum(axis=2), 1.0)
    # Of the first phase in the second: up to about one half gained, a fifth taken out.
    gained = rotations[:, 1, 0] / rotations[:, 1, 1]
    assert np.average(gained < -0.19, weights=odds) > 0.2
    assert np.average(gained > 0.7, weights=odds) > 0.2
    assert np.average((gained > -0.15) & (gained < 0.6), weights=odds) > 0.1
    tight, _ = draw_rotations(found, RotationPrior(pure=1.0, absent=0.0), 50, generator)
    assert (tight[:, 1, 0] > 0.0).all()


def test_phases_are_alike_in_half_of_the_draws() -> None:
    # Both may hold another one's elements, and no place holds more than 0.8 of the second.
    found = open_directions(simplex(most=0.8), weights(), pure=NONE, closed=NONE)
    # What goes outwards goes inwards, too, though the model's draws hold that end themselves.
    assert (found.opens_in | ~found.opens_out).all()
    ends = RotationPrior(pure=0.5, absent=0.5)
    rotations, _ = draw_rotations(found, ends, 1000, np.random.default_rng(0))
    first, second = (rotations[:, [0, 1], [1, 0]] < -1e-6).T
    # Of those that are drawn one by one, half are alike by chance.
    assert (first == second).mean() == pytest.approx(0.75, abs=0.06)
    assert first.mean() == pytest.approx(0.5, abs=0.06)


def test_a_phase_gains_of_several_as_much_as_of_each() -> None:
    # No place holds the first phase without an eighth of each other one, which have pure places.
    generator = np.random.default_rng(6)
    spectra = np.array([[0.6, 0.2, 0.15, 0.05], [0.15, 0.55, 0.1, 0.2], [0.1, 0.2, 0.6, 0.1]])
    first = np.repeat([[0.75, 0.125, 0.125]], 150, axis=0)
    shares = np.concatenate([first, generator.dirichlet([0.5, 0.5, 0.5], 100) @ [first[0], *np.eye(3)[1:]]])
    shares = np.concatenate([shares, np.repeat(np.eye(3)[1:], 60, axis=0)])
    drawn = generator.poisson(3000.0 * shares @ spectra).astype(np.float32)
    occupied = OccupiedSimplex.of(drawn, np.unique(shares, axis=0), answers_of(spectra))
    closed, pure = np.zeros(3, bool), np.array([False, True, True])
    opened = open_directions(occupied, weights(mean=spectra), pure=pure, closed=closed)
    assert opened.inwards[0, 1:] == pytest.approx(1 / 6, abs=0.04)
    rotations, odds = draw_rotations(opened, RotationPrior(pure=1.0, absent=0.0), 300, generator)
    gained = rotations[:, 0, 1:] / rotations[:, 0, :1]
    of_both = (gained > 0.1).all(axis=1)
    assert np.average(of_both, weights=odds) == pytest.approx(0.5, abs=0.12)
    # In the others both together are as much as one.
    assert np.average((gained.sum(axis=1) < 0.2) & (gained.sum(axis=1) > 0.1), weights=odds) > 0.3


def test_three_phases_walk() -> None:
    # Half of the draws go on from others, and so reach rotations of all phases at a time that no one step does.
    generator = np.random.default_rng(2)
    truth = np.array([[0.6, 0.2, 0.15, 0.05], [0.15, 0.55, 0.1, 0.2], [0.1, 0.2, 0.6, 0.1]])
    shares = np.concatenate([generator.dirichlet([0.5, 0.5, 0.5], 300), np.repeat(np.eye(3), 20, axis=0)])
    drawn = generator.poisson(2000.0 * shares @ truth).astype(np.float32)
    found = np.array([[0.9, 0.1, 0.0], [-0.06, 1.0, 0.06], [0.1, -0.05, 0.95]]) @ truth
    steps = np.linspace(0.0, 1.0, 13)
    points = np.array([[a, b, 1.0 - a - b] for a in steps for b in steps if a + b <= 1.0 + 1e-9])
    occupied = OccupiedSimplex.of(drawn, np.maximum(points, 0.0), answers_of(found))
    closed = np.zeros(3, bool)
    opened = open_directions(occupied, weights(mean=found), pure=closed, closed=closed)
    assert opened.free.all()
    ends = RotationPrior()
    rotations, odds = draw_rotations(opened, ends, 240, np.random.default_rng(5))
    assert odds.sum() == pytest.approx(1.0)
    np.testing.assert_allclose(rotations.sum(axis=2), 1.0)
    assert odds[:240].sum() == pytest.approx(0.5)
    moved = np.abs(rotations - np.eye(3)).min(axis=2).max(axis=1)
    assert np.quantile(moved[240:], 0.9) > 1.2 * np.quantile(moved[:240], 0.9)
    # Threads do not change what is drawn.
    again, _ = draw_rotations(opened, ends, 240, np.random.default_rng(5))
    np.testing.assert_array_equal(rotations, again)


def test_nothing_is_open_where_pure_places_and_absences_pin_the_phases() -> None:
    # All elements of either phase but one are absent from the other, and each is pure somewhere.
    allowed = np.array([[True, True, False], [False, True, True]])
    mean = np.array([[0.5, 0.5, 0.0], [0.0, 0.4, 0.6]])
    points, shares = spread(1.0)
    drawn = np.random.default_rng(5).poisson(3000.0 * shares @ mean).astype(np.float32)

    occupied = OccupiedSimplex.of(drawn, points, answers_of(mean))
    assert not open_directions(occupied, weights(allowed, mean=mean), pure=NONE, closed=NONE).any


def test_the_likelihood_is_as_sure_as_the_draws() -> None:
    # Draws five times as wide as the model's: 25 times as many nats.
    occupied = simplex(most=0.5)
    sure, unsure = (
        open_directions(occupied, weights(excess=excess), pure=MATRIX, closed=NONE) for excess in (1.0, 25.0)
    )
    finite = np.isfinite(sure.losses[1, 0]) & np.isfinite(unsure.losses[1, 0])
    np.testing.assert_allclose(unsure.losses[1, 0][finite], sure.losses[1, 0][finite] / 25.0)
    assert unsure.inwards[1, 0] > sure.inwards[1, 0] + 0.02


def test_a_pure_phase_loses_no_more_of_another_than_it_holds() -> None:
    # The first phase goes far beyond where it was found, but holds next to nothing of the last component, which the
    # second has: no rotation makes less of it than none.
    truth = np.array([[0.8, 0.199, 0.001], [0.1, 0.3, 0.6]])
    found = np.array([[0.6, 0.399, 0.001], truth[1]])
    occupied = simplex(counts=3e4, truth=truth, found=found)
    opened = open_directions(occupied, weights(mean=found), pure=MATRIX, closed=NONE)
    assert opened.inwards[0, 1] > -0.01
    assert np.isinf(opened.losses[0, 1, : HERE - 1]).all()


def test_third_phases_make_up_for_what_a_phase_has_none_of() -> None:
    """A phase that holds another one, but none of an element of it, as long as a third one is rich in that."""
    pure, other, third = np.array([[0.0, 0.5, 0.5, 0.0], [0.4, 0.5, 0.0, 0.1], [0.5, 0.0, 0.0, 0.5]])
    bent = pure + 0.3 * (other - 0.2 * third)
    found = weights(mean=np.stack([bent / bent.sum(), other, third]))
    plain, less = found.directions_out(0, 1, np.zeros(3, bool))
    np.testing.assert_array_equal(plain, [0.0, 1.0, 0.0])
    np.testing.assert_allclose(less, [0.0, 1.0, -0.2], atol=1e-6)
    assert found.amount_out(0, plain, np.zeros(4), 1.0) == pytest.approx(0.0, abs=1e-6)
    amount = found.amount_out(0, less, np.zeros(4), 1.0)
    assert amount == pytest.approx(0.3 / bent.sum(), rel=1e-4)
    np.testing.assert_allclose(found.rotated(turned(0, -amount * less), 0), pure, atol=1e-4)
    # A phase without a composition makes up for nothing, and neither does one that lets little more go out.
    assert len(found.directions_out(0, 1, np.array([False, False, True]))) == 1
    assert len(found.directions_out(1, 2, np.zeros(3, bool))) == 1


def test_the_end_itself_is_asked_what_it_loses() -> None:
    """An element that is declared absent is weak in the first phase: it may be taken out up to where another ends."""
    shares = np.array([[0.5, 0.296, 0.2, 0.004], [0.1, 0.3, 0.6, 0.0]])
    allowed = np.array([[True] * 4, [True, True, True, False]])
    place = simplex(0.7, 100.0, truth=shares, found=shares)
    found = open_directions(place, weights(allowed, mean=shares), pure=NONE, closed=NONE)
    # A tenth over a half: between two of the amounts that are asked.
    end = int(np.flatnonzero(AMOUNTS <= -0.2)[-1])
    assert np.isfinite(found.losses[1, 0, end])
    assert not np.isfinite(found.losses[1, 0, end - 1])
