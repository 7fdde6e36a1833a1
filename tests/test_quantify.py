"""Compositions, detection and convergence of draws, against closed forms and known error rates."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm, truncnorm

from bayesunmix.chemistry.detection import FALSE_DECISIONS_K, detect
from bayesunmix.chemistry.ratios import ordered_pairs
from bayesunmix.core.credible import health, interval
from bayesunmix.forward.quantify import CalibrationDraws, atoms_at, compositions, draw_calibration
from bayesunmix.forward.spectra import Film, ForwardModel, forward_model
from bayesunmix.xray import Detector, LineTable, thin_film_factor

FloatArray = npt.NDArray[np.float64]

ELEMENTS = ("Mg", "Si", "Fe")
SHAPE = (2, 4000)
TRUE = np.array([[0.50, 0.45, 0.05], [0.80, 0.02, 0.18]])


@pytest.fixture(scope="module")
def forward() -> ForwardModel:
    detector = Detector.from_resolution(130.0)
    return forward_model(
        ELEMENTS,
        ("Cu",),
        table=LineTable.built_in(200.0, (*ELEMENTS, "Cu", "O")),
        detector=detector,
        response=detector.response,
        film=Film(thickness_nm=(200.0, 60.0), density_g_cm3=(4.5, 0.45), takeoff_angle_deg=22.0, oxygen=True),
        beam_energy_keV=200.0,
        edges_keV=np.arange(0.9, 12.0, 0.05),
        seen_oxygen=False,
    )


@pytest.fixture(scope="module")
def yields(forward: ForwardModel) -> FloatArray:
    return forward.basis(TRUE, np.ones((2, 3), bool))[1]


def weights_of(fractions: FloatArray, yields: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Return counts that give the fractions exactly, with a stray and a continuum component behind."""
    counts = 0.3 * fractions * yields
    padded = np.concatenate([counts, np.full((2, 2), 0.7)], axis=1)
    return np.tile(padded, (*shape, 1, 1))


def at_true(
    weights: FloatArray, yields: FloatArray, forward: ForwardModel, drawn: CalibrationDraws | None = None
) -> FloatArray:
    """Return compositions as they are where each phase absorbs by `TRUE`, whatever is drawn."""
    atoms = atoms_at(weights, yields, forward, TRUE, drawn)
    return np.asarray(atoms / atoms.sum(axis=-1, keepdims=True))


def test_nominal_compositions_undo_the_yields(forward: ForwardModel, yields: FloatArray) -> None:
    found = compositions(weights_of(TRUE, yields, (2, 3)), yields, forward, TRUE)
    np.testing.assert_allclose(found, np.tile(TRUE, (2, 3, 1, 1)), rtol=1e-12)


def test_calibration_draws_have_their_priors(forward: ForwardModel) -> None:
    drawn = draw_calibration(forward, SHAPE, 3)
    n = SHAPE[0] * SHAPE[1]
    sd = drawn.log_factor.reshape(n, 3).std(axis=0)
    np.testing.assert_allclose(sd, forward.calibration_sd, rtol=4 / np.sqrt(2 * n))
    assert drawn.log_factor.mean() == pytest.approx(0.0, abs=4 * 0.05 / np.sqrt(3 * n))
    spread = np.hypot(0.3, 0.1)
    assert drawn.thickness.mean() == pytest.approx(1.0, abs=4 * spread / np.sqrt(n))
    # The few draws that are folded at zero hardly change the spread.
    assert drawn.thickness.std() == pytest.approx(spread, rel=0.04)
    assert drawn.thickness.min() > 0
    np.testing.assert_array_equal(drawn.log_factor, draw_calibration(forward, SHAPE, 3).log_factor)
    assert not np.array_equal(drawn.log_factor, draw_calibration(forward, SHAPE, 4).log_factor)


def only_factors(forward: ForwardModel) -> CalibrationDraws:
    drawn = draw_calibration(forward, SHAPE, 1)
    return dataclasses.replace(drawn, thickness=np.ones(SHAPE))


def test_calibration_factors_widen_compositions(forward: ForwardModel, yields: FloatArray) -> None:
    drawn = only_factors(forward)
    found = at_true(weights_of(TRUE, yields, SHAPE), yields, forward, drawn)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0, rtol=1e-12)
    # By hand: amounts divided by exp(log factor), normalised.
    by_hand = TRUE * np.exp(-drawn.log_factor)[:, :, None, :]
    np.testing.assert_allclose(found, by_hand / by_hand.sum(axis=-1, keepdims=True), rtol=1e-10)
    # To first order sd(log x_Fe) is that of c_Fe less its share in the sum.
    for k in range(2):
        x = TRUE[k]
        gradient = np.array([x[0], x[1], x[2] - 1.0])
        expected = np.sqrt((gradient**2 * forward.calibration_sd**2).sum())
        # The prior is a few per cent wide: second-order terms are of the same relative size.
        assert np.log(found[:, :, k, 2]).std() == pytest.approx(expected, rel=0.06)


def test_calibration_factors_cancel_in_ratios(forward: ForwardModel, yields: FloatArray) -> None:
    """Ratios of two elements' partition coefficients lose every factor; those of equal phases are exactly 1."""
    drawn = only_factors(forward)
    found = at_true(weights_of(TRUE, yields, SHAPE), yields, forward, drawn)
    ratio = found[:, :, 0] / found[:, :, 1]
    double = ratio[..., 2] / ratio[..., 0]
    nominal = (TRUE[0, 2] / TRUE[1, 2]) / (TRUE[0, 0] / TRUE[1, 0])
    np.testing.assert_allclose(double, nominal, rtol=1e-10)
    # D itself keeps only what normalisation brings back: less than half of the factor's own 5 %, and known.
    expected = np.sqrt((((TRUE[0] - TRUE[1]) * forward.calibration_sd) ** 2).sum())
    assert np.log(ratio[..., 2]).std() == pytest.approx(expected, rel=0.06)
    same = np.stack([TRUE[0], TRUE[0]])
    alike = compositions(weights_of(same, yields[[0, 0]], SHAPE), yields[[0, 0]], forward, same, drawn)
    np.testing.assert_allclose(alike[:, :, 0] / alike[:, :, 1], 1.0, rtol=1e-12)


def test_a_wrong_k_factor_moves_compositions_and_cancels_in_partition(forward: ForwardModel) -> None:
    """Counts of two phases, read with a factor of iron and with one 30 % larger: what a calibration error does."""
    efficiency = forward.detector.efficiency
    found = {}
    for k in (1.3, 1.69):
        table = forward.table.with_k_factors({"Fe_Ka": (k, 0.05 * k)}, efficiency)
        given = dataclasses.replace(forward, table=table)
        yields = given.basis(TRUE, np.ones((2, 3), bool))[1]
        if not found:
            weights = weights_of(TRUE, yields, (1, 1))
        # Yields have an arbitrary common unit, which the fractions lose.
        found[k] = at_true(weights, yields, given)[0, 0]
    right, wrong = found.values()
    np.testing.assert_allclose(right, TRUE, rtol=1e-12)
    # Iron over silicon is off by the factor's 30 % in both phases, the ratio of the phases' ratios not at all.
    odds = (wrong[:, 2] / wrong[:, 1]) / (right[:, 2] / right[:, 1])
    np.testing.assert_allclose(odds, 1.3, rtol=1e-12)
    np.testing.assert_allclose(wrong[:, 2] / right[:, 2], 1.3 / (1 + 0.3 * TRUE[:, 2]), rtol=1e-12)
    partition = (wrong[0, 2] / wrong[1, 2]) / (right[0, 2] / right[1, 2])
    # Normalisation alone leaves 4 % of the 30.
    assert partition == pytest.approx((1 + 0.3 * 0.18) / (1 + 0.3 * 0.05), rel=1e-12)


def test_a_draw_absorbs_by_its_own_composition(forward: ForwardModel) -> None:
    """Counts of one composition, read with the absorption of another: the error is of second order."""
    other = TRUE * np.array([[1.1, 0.9, 1.0], [0.95, 1.0, 1.2]])
    other /= other.sum(axis=1, keepdims=True)
    true_yields, read_yields = (forward.basis(x, np.ones((2, 3), bool))[1] for x in (other, TRUE))
    weights = weights_of(other, true_yields, (1, 1))
    as_it_is, as_absorbed = (
        np.abs(np.log(found[0, 0] / other)).max()
        for found in (
            compositions(weights, read_yields, forward, TRUE),
            at_true(weights, read_yields, forward),
        )
    )
    assert as_absorbed > 2e-3
    assert as_it_is < 0.15 * as_absorbed


def test_weights_of_absorbers_hold_the_bound_oxygen(forward: ForwardModel) -> None:
    """Mg2SiO4: 34.6 % Mg, 20.0 % Si and 45.5 % O by weight."""
    assert forward.film.absorbers(ELEMENTS) == (*ELEMENTS, "O")
    found = forward.absorber_weights(np.array([[2 / 3, 1 / 3, 0.0]]))
    np.testing.assert_allclose(found, [[0.3455, 0.1996, 0.0, 0.4549]], atol=2e-4)


def n_absorbers(forward: ForwardModel) -> int:
    return len(forward.film.absorbers(forward.elements))


def test_coefficients_change_yields_as_another_film_does(forward: ForwardModel, yields: FloatArray) -> None:
    """A film whose silicon absorbs 2 % more above 1 keV and more than that near its edge, by slopes and by depths."""
    absorbers = forward.film.absorbers(forward.elements)
    log_factors = np.where(np.array(absorbers) == "Si", np.log(1.02), 0.0)
    drawn = CalibrationDraws(np.zeros((1, 1, 3)), np.ones((1, 1)), log_factors[None, None])
    found = at_true(weights_of(TRUE, yields, (1, 1)), yields, forward, drawn)[0, 0]
    film = dataclasses.replace(forward.film, absorption_sd=0.5 * np.log(1.02), coefficient_errors={"Si": 2.0})
    other = dataclasses.replace(forward, film=film)
    ratio = []
    for phase, fractions in enumerate(TRUE):
        for element in forward.elements:
            family = next(f for f in forward.families if f.main and f.element == element)
            lines = forward.table.lines(element, family.family)
            energy = np.array([line.energy_keV for line in lines])
            emitted = np.array([line.strength for line in lines]) * forward.detector.efficiency(energy)
            depths = [one.film.depth(forward.elements, fractions, energy) for one in (forward, other)]
            before, after = (emitted @ thin_film_factor(depth) for depth in depths)
            ratio.append(after / before)
        assert depths[1].max() > depths[0].max() or TRUE[phase][1] == 0.0
    by_hand = TRUE / np.reshape(ratio, TRUE.shape)
    np.testing.assert_allclose(found, by_hand / by_hand.sum(axis=1, keepdims=True), rtol=2e-5)
    assert np.abs(found / TRUE - 1.0).max() > 1e-4


def test_thickness_changes_soft_lines_most(forward: ForwardModel, yields: FloatArray) -> None:
    times = np.array([[0.5, 1.0, 2.0]])
    drawn = CalibrationDraws(np.zeros((1, 3, 3)), times, np.zeros((1, 3, n_absorbers(forward))))
    found = at_true(weights_of(TRUE, yields, (1, 3)), yields, forward, drawn)
    np.testing.assert_allclose(found[0, 1], TRUE, rtol=1e-9)
    change = forward.yield_change(TRUE)  # on a grid of eighths
    for draw, index in ((0, 4), (2, 16)):
        by_hand = TRUE / change[index]
        np.testing.assert_allclose(found[0, draw], by_hand / by_hand.sum(axis=1, keepdims=True), rtol=1e-9)
    # A thicker film swallowed more of Mg K than of Fe K: there was more Mg than it seemed.
    assert (np.diff(found[0, :, :, 0] / found[0, :, :, 2], axis=0) > 0).all()


def test_extreme_thickness_stays_on_the_grid(forward: ForwardModel, yields: FloatArray) -> None:
    drawn = CalibrationDraws(
        np.zeros((1, 2, 3)), np.array([[0.05, 4.0]]), np.zeros((1, 2, n_absorbers(forward)))
    )
    found = compositions(weights_of(TRUE, yields, (1, 2)), yields, forward, TRUE, drawn)
    assert np.isfinite(found).all()


def truncated_normal(position: float, sd: float, n: int, seed: int) -> FloatArray:
    return np.asarray(
        truncnorm(-position, np.inf, position * sd, sd).rvs(n, random_state=np.random.default_rng(seed))
    )


@pytest.mark.parametrize("position", [-1.5, -0.5, 0.0, 1.0, 1.645, 3.0, 5.0, 30.0])
def test_a_truncated_normal_is_recovered(position: float) -> None:
    sd, n = 0.02, 40_000
    found = detect(truncated_normal(position, sd, n, 1)[:, None])
    # Far below zero the tail is nearly exponential and hardly tells position from width.
    loose = 0.25 if position < -1 else 0.06 if position < 0.5 else 0.03
    assert found.uncertainty[0] == pytest.approx(sd, rel=loose)
    assert found.estimate[0] == pytest.approx(position * sd, abs=max(3 * loose, 0.02) * sd)
    assert found.decision_threshold[0] == pytest.approx(FALSE_DECISIONS_K * found.uncertainty[0])
    assert found.detection_limit[0] == pytest.approx(2 * found.decision_threshold[0])
    if abs(position - 1.645) > 0.3:
        assert found.detected[0] == (position > 1.645)


@pytest.mark.parametrize("heavy", ["far below zero", "exponential", "rotated"])
def test_limits_go_with_the_scatter_where_draws_do_not_tell_the_uncertainty(heavy: str) -> None:
    """An exponential tail is one of any s: without a bound on it, the threshold was 14 sd."""
    rng = np.random.default_rng(6)
    draws = {
        "far below zero": truncated_normal(-6.0, 0.02, 20_000, 1),
        "exponential": rng.exponential(0.01, 20_000),
        # A third of them hold nothing, a third as much as the map leaves open.
        "rotated": np.abs(rng.normal(0.0, np.repeat([1e-4, 3e-3, 3e-2], 7000))),
    }[heavy]
    found = detect(draws[:, None])
    assert not found.detected[0]
    assert found.decision_threshold[0] < 4.5 * draws.std()
    assert found.decision_threshold[0] < 2.0 * np.quantile(draws, 0.95)


@pytest.fixture(scope="module")
def decisions() -> dict[float, FloatArray]:
    """Share of experiments with a detection, by true amount in standard uncertainties: draws of each posterior."""
    rng = np.random.default_rng(4)
    found = {}
    for true in (0.0, 2 * FALSE_DECISIONS_K):
        estimates = true + rng.standard_normal(2000)
        draws = truncnorm(-estimates, np.inf, estimates, 1.0).ppf(rng.uniform(size=(2000, 2000)))
        found[true] = detect(draws).detected
    return found


def test_true_zeros_are_detected_once_in_twenty(decisions: dict[float, FloatArray]) -> None:
    rate = decisions[0.0].mean()
    # Four binomial errors of 2000 experiments, and half a per cent for the draws' own noise near the threshold.
    assert abs(rate - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 2000) + 0.005


def test_an_amount_at_the_limit_is_missed_once_in_twenty(decisions: dict[float, FloatArray]) -> None:
    rate = decisions[2 * FALSE_DECISIONS_K].mean()
    assert abs(rate - 0.95) < 4 * np.sqrt(0.05 * 0.95 / 2000) + 0.005


def test_false_decisions_are_five_per_cent() -> None:
    assert norm.sf(FALSE_DECISIONS_K) == pytest.approx(0.05, rel=1e-12)


def test_amounts_that_are_zero_are_not_detected() -> None:
    found = detect(np.zeros((100, 2)))
    assert not found.detected.any()
    assert not found.decision_threshold.any()


def test_an_amount_that_does_not_vary_is_detected() -> None:
    """The atom fraction of the only element of a phase is 1 in all draws."""
    found = detect(np.ones((100, 1)))
    assert found.detected.all()
    assert found.decision_threshold[0] == 0.0


def test_interval_is_equal_tailed() -> None:
    draws = np.arange(1001.0)[:, None] * np.array([1.0, -2.0])
    lower, upper = interval(draws, 0.9)
    np.testing.assert_allclose(lower, [50.0, -1900.0])
    np.testing.assert_allclose(upper, [950.0, -100.0])


def test_health_of_independent_draws() -> None:
    draws = np.random.default_rng(0).normal(size=(4, 500, 2, 3))
    draws[:, :, 1, 2] = 0.25  # does not vary
    rhat, bulk, tail = health(draws)
    assert rhat.shape == bulk.shape == tail.shape == (2, 3)
    assert np.isnan([rhat[1, 2], bulk[1, 2], tail[1, 2]]).all()
    varying = np.isfinite(rhat)
    assert varying.sum() == 5
    assert (np.abs(rhat[varying] - 1.0) < 0.01).all()
    assert (bulk[varying] > 1300).all()
    assert (bulk[varying] < 2800).all()
    assert (tail[varying] > 1200).all()


def test_health_of_chains_that_disagree() -> None:
    draws = np.random.default_rng(1).normal(size=(2, 300, 2))
    draws[1, :, 0] += 2.0
    rhat, bulk, _ = health(draws)
    assert rhat[0] > 1.3
    assert rhat[1] < 1.02
    assert bulk[0] < 20 < bulk[1]


def test_health_of_a_slow_chain() -> None:
    rng = np.random.default_rng(2)
    walk = np.zeros((2, 4000))
    for i in range(1, 4000):
        walk[:, i] = 0.9 * walk[:, i - 1] + rng.normal(size=2)
    _, bulk, _ = health(walk[:, :, None])
    # An autoregression of 0.9 keeps (1 - 0.9) / (1 + 0.9) of its draws.
    assert bulk[0] == pytest.approx(8000 / 19, rel=0.35)


def test_pairs_are_ordered() -> None:
    assert ordered_pairs(["a", "b", "c"]) == [
        ("a", "b"),
        ("a", "c"),
        ("b", "a"),
        ("b", "c"),
        ("c", "a"),
        ("c", "b"),
    ]
