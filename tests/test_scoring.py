"""Fisher scoring of a spectrum of two elements: derivatives, the optimum, bounds and priors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from bayesunmix.xray.response import Response
from bayesunmix.xray.scoring import TOLERANCE, Box, Columns, Problem, State

FloatArray = npt.NDArray[np.float64]

EDGES = np.linspace(0.5, 8.5, 401)
# Two elements, the first with two groups, whose ratio is open, and one that is not there; bonding moves the last line.
COLUMNS = Columns(
    energy_keV=np.array([1.7, 1.9, 6.4, 3.0]),
    area=np.array([0.8, 0.2, 1.0, 1.0]),
    group=np.array([0, 1, 2, 3]),
    bonded=np.array([False, True, False, False]),
    owner=np.array([0, 0, 1, 2]),
    ratio_sd=np.array([0.0, 0.2, 0.0, 0.0]),
    continuum=np.stack([np.linspace(2.0, 0.0, 400), np.linspace(0.0, 2.0, 400)]) / 400.0,
    stiffness=np.zeros((1, 2)),
    edges=EDGES,
)
# Gain, noise in eV, and the shift of the bonded line in eV.
BOX = Box(
    mean=np.array([1.0, 60.0, 0.0]),
    sd=np.array([0.01, 30.0, 20.0]),
    lowest=np.array([0.98, 10.0, -60.0]),
    highest=np.array([1.02, 200.0, 60.0]),
    step=np.array([1e-6, 1e-2, 1e-2]),
)
TRUTH = State(
    theta=np.array([1.003, 75.0, 8.0]),
    log_ratio=np.array([0.15]),
    weights=np.array([4e4, 2e4, 0.0, 8e3, 4e3]),
)
NAMES = ("gain", "noise", "shift")


def respond(theta: FloatArray) -> tuple[Response, float]:
    return Response(gain=float(theta[0]), noise_eV=float(theta[1])), 1e-3 * float(theta[2])


def problem(counts: FloatArray | None = None, columns: Columns = COLUMNS, box: Box = BOX) -> Problem:
    """Return the problem of some counts; of the exact expectation of the truth by default."""
    empty = Problem(np.zeros(400), COLUMNS, BOX, respond)
    return Problem(empty.mean(TRUTH) if counts is None else counts, columns, box, respond)


def drawn(seed: int) -> FloatArray:
    return np.random.default_rng(seed).poisson(problem().counts).astype(np.float64)


@pytest.fixture(scope="module")
def fitted() -> list[tuple[Problem, State]]:
    """Problems of twelve draws, and where their fits end."""
    problems = [problem(drawn(seed)) for seed in range(12)]
    return [(each, each.maximise(each.start(BOX.mean))) for each in problems]


def test_expected_counts_by_hand() -> None:
    """The first element's groups: 0.8 of the weight, and 0.2 times the factor."""
    counts = problem().counts
    assert COLUMNS.number == 3
    assert COLUMNS.adjustable.tolist() == [1]
    lines = 4e4 * (0.8 + 0.2 * np.exp(0.15)) + 2e4
    assert counts.sum() == pytest.approx(lines + 8e3 + 4e3, rel=1e-6)
    # A line that is moved: its centre lies where gain and bonding put it.
    alone = replace(TRUTH, weights=np.array([1.0, 0.0, 0.0, 0.0, 0.0]), log_ratio=np.array([8.0]))
    spectrum = problem().mean(alone)
    centre = np.average(0.5 * (EDGES[1:] + EDGES[:-1]), weights=spectrum)
    beta = 0.2 * np.exp(8.0)
    expected = 1.003 * (0.8 * 1.7 + beta * 1.908) / (0.8 + beta)
    assert centre == pytest.approx(expected, abs=1e-4)


def test_slopes_are_central_differences() -> None:
    fit = problem()
    _, slopes = fit.slopes(TRUTH)
    steps = [1e-5, 0.05, 0.05]
    for place, step in enumerate(steps):
        moved = np.eye(3)[place] * step
        up, down = (fit.mean(replace(TRUTH, theta=TRUTH.theta + sign * moved)) for sign in (1.0, -1.0))
        expected = (up - down) / (2.0 * step)
        np.testing.assert_allclose(slopes[place], expected, atol=2e-3 * np.abs(expected).max())
    up, down = (fit.mean(replace(TRUTH, log_ratio=TRUTH.log_ratio + change)) for change in (1e-5, -1e-5))
    np.testing.assert_allclose(slopes[3], (up - down) / 2e-5, atol=1e-4 * slopes[3].max())


def test_information_holds_the_priors() -> None:
    fit = problem()
    _, slopes = fit.slopes(TRUTH)
    root = np.sqrt(np.maximum(fit.counts, 1.0))
    _, whole = fit.information(slopes, root)
    own = (slopes / root) @ (slopes / root).T
    np.testing.assert_allclose(
        np.diag(whole - own), [0.01**-2, 30.0**-2, 20.0**-2, 0.2**-2], rtol=1e-6, atol=1e-6
    )


def test_the_objective_by_hand() -> None:
    """Half the deviance, which the exact expectation has none of, and half the squared distances from the priors."""
    stiff = replace(COLUMNS, stiffness=np.array([[1e-3, -1e-3]]))
    prior = np.sum(((TRUTH.theta - BOX.mean) / BOX.sd) ** 2) + (0.15 / 0.2) ** 2 + (8.0 - 4.0) ** 2
    assert problem(columns=stiff).objective(TRUTH) == pytest.approx(0.5 * prior, abs=1e-6)


def test_a_start_has_the_weights_that_fit() -> None:
    start = problem().start(TRUTH.theta, TRUTH.log_ratio)
    np.testing.assert_allclose(start.weights, TRUTH.weights, rtol=0.02, atol=50.0)
    assert (start.weights >= 0.0).all()
    assert problem().start(TRUTH.theta).log_ratio.tolist() == [0.0]


def test_the_optimum_is_that_of_another_optimiser(fitted: list[tuple[Problem, State]]) -> None:
    """L-BFGS-B over all parameters at once, which knows no weights apart, gains less than the tolerance more."""
    fit, state = fitted[0]
    scale = np.concatenate([BOX.sd, [0.2], np.full(5, 1e3)])

    def objective(x: FloatArray) -> float:
        theta, log_ratio, weights = np.split(x * scale, [3, 4])
        return fit.objective(State(theta, log_ratio, weights))

    here = np.concatenate([state.theta, state.log_ratio, state.weights]) / scale
    least = np.concatenate([BOX.lowest, [-2.0], np.full(5, 1e-9)]) / scale
    most = np.concatenate([BOX.highest, [2.0], np.full(5, 1e6)]) / scale
    away = np.clip(here * np.linspace(0.98, 1.02, here.size), least, most)
    for begun in (np.clip(here, least, most), away):
        found = minimize(objective, begun, method="L-BFGS-B", bounds=list(zip(least, most, strict=True)))
        assert fit.objective(state) < found.fun + TOLERANCE


def test_every_step_gains(fitted: list[tuple[Problem, State]]) -> None:
    for fit, state in fitted:
        assert fit.objective(state) < fit.objective(fit.start(BOX.mean)) - 100.0
        assert (state.weights >= 0.0).all()
        # At the optimum there is nothing more to gain.
        again = fit.maximise(state)
        assert fit.objective(state) - fit.objective(again) < TOLERANCE


@pytest.mark.parametrize("place", range(3), ids=NAMES)
def test_parameters_scatter_as_the_information_says(fitted: list[tuple[Problem, State]], place: int) -> None:
    """Twelve draws: their squared z follow chi-square, bounds at 1e-5 on either side; priors matter little here."""
    squares = 0.0
    for fit, state in fitted:
        design, slopes = fit.slopes(state)
        root = np.sqrt(np.maximum(state.weights @ design, 1e-3))
        b, information = fit.information(slopes, root)
        a = design[state.weights > 0.0] / root
        cross = b @ a.T
        marginal = information - cross @ np.linalg.solve(a @ a.T, cross.T)
        variance = np.linalg.inv(marginal)[place, place]
        squares += (state.theta[place] - TRUTH.theta[place]) ** 2 / variance
    assert chi2.ppf(1e-5, len(fitted)) < squares < chi2.isf(1e-5, len(fitted))


def test_what_is_not_there_weighs_nothing(fitted: list[tuple[Problem, State]]) -> None:
    weights = np.array([state.weights[2] for _, state in fitted])
    # Some 600 counts of continuum lie under it: at zero in about half of the draws, and within five errors of it.
    assert 1 <= (weights == 0.0).sum() <= 11
    assert weights.max() < 5.0 * np.sqrt(600.0)


def test_a_parameter_that_would_leave_its_bounds_stays_on_them() -> None:
    narrow = replace(BOX, highest=np.array([1.001, 200.0, 60.0]))
    fit = problem(drawn(1), box=narrow)
    state = fit.maximise(fit.start(BOX.mean))
    assert state.theta[0] == 1.001
    # The others are fitted to it: none of them gains by moving.
    for place in (1, 2):
        for sign in (1.0, -1.0):
            moved = state.theta + sign * 0.2 * np.eye(3)[place] * np.array([0.0, 5.0, 5.0])
            assert fit.objective(replace(state, theta=moved)) > fit.objective(state) - TOLERANCE


def test_a_narrow_prior_holds_its_parameter() -> None:
    narrow = replace(BOX, sd=np.array([1e-7, 30.0, 20.0]))
    fit = problem(drawn(1), box=narrow)
    state = fit.maximise(fit.start(BOX.mean))
    assert state.theta[0] == pytest.approx(1.0, abs=1e-5)
    # One that begins elsewhere is taken there, too.
    back = fit.maximise(fit.start(np.array([1.002, 60.0, 0.0])))
    assert back.theta[0] == pytest.approx(1.0, abs=1e-5)
    free = problem(drawn(1))
    assert free.maximise(free.start(BOX.mean)).theta[0] == pytest.approx(1.003, abs=5e-4)


def test_a_stiff_continuum_follows_its_prior() -> None:
    """Rows that ask for equal weights make them equal, at the cost of the fit."""
    stiff = replace(COLUMNS, stiffness=np.array([[1.0, -1.0]]))
    fit = problem(columns=stiff)
    state = fit.maximise(fit.start(BOX.mean))
    loose = problem()
    free = loose.maximise(loose.start(BOX.mean))
    assert abs(state.weights[3] - state.weights[4]) < 10.0
    assert free.weights[3] - free.weights[4] > 3e3
    assert loose.objective(state) > loose.objective(free) + 100.0
