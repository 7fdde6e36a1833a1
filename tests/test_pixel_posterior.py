"""The per-pixel pass against brute force, and its intervals against the truth of simulated pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logsumexp
from scipy.stats import multinomial

from bayesunmix.inference import pixel_model
from bayesunmix.inference.mixture import support_point_weights
from bayesunmix.inference.pixel_model import FINER
from bayesunmix.inference.pixel_posterior import (
    N_BINS,
    PixelPosterior,
    count_shares,
    pixel_posterior,
)
from bayesunmix.models.abundance import simplex_support_points
from bayesunmix.models.thickness import ThicknessDraws, ThicknessEffect

FloatArray = npt.NDArray[np.float64]

SPECTRA = np.array([[0.50, 0.25, 0.15, 0.08, 0.02], [0.05, 0.10, 0.20, 0.25, 0.40]])
PER_COUNT = np.array([1.0, 2.5])  # atoms per count: the second phase is the dimmer one
N_COUNTS = 120
BIN = 1.0 / (N_BINS - 2)


def in_atoms(share: FloatArray) -> FloatArray:
    """Abundance of the second phase in atoms from its share of the counts."""
    return share * PER_COUNT[1] / ((1 - share) * PER_COUNT[0] + share * PER_COUNT[1])


def draw(share: FloatArray, counts: int, seed: int) -> npt.NDArray[np.uint16]:
    mixed = (1 - share)[:, None] * SPECTRA[0] + share[:, None] * SPECTRA[1]
    return np.random.default_rng(seed).multinomial(counts, mixed).astype(np.uint16)


def run(counts: npt.NDArray[np.uint16], level: float = 0.9, draws: int = 1) -> PixelPosterior:
    spectra, per_count = np.tile(SPECTRA, (draws, 1, 1)), np.tile(PER_COUNT, (draws, 1))
    return pixel_posterior(counts, spectra, per_count, level=level, max_overlap=2)


def test_one_phase_is_everywhere() -> None:
    counts = draw(np.zeros(30), 50, 0)
    found = pixel_posterior(counts, SPECTRA[None, :1], np.ones((1, 1)), level=0.95, max_overlap=2)
    for name in ("mean", "lower", "upper", "pure_probability", "count_share"):
        np.testing.assert_allclose(getattr(found, name), 1.0, atol=1e-6)
    np.testing.assert_allclose(found.sd, 0.0, atol=1e-3)


@pytest.fixture(scope="module")
def truth() -> FloatArray:
    """Half the pixels pure, the others anywhere between."""
    rng = np.random.default_rng(9)
    share = rng.uniform(size=3000)
    share[:1000], share[1000:1500] = 0.0, 1.0
    return share


@pytest.fixture(scope="module")
def counts(truth: FloatArray) -> npt.NDArray[np.uint16]:
    return draw(truth, N_COUNTS, 1)


@pytest.fixture(scope="module")
def found(counts: npt.NDArray[np.uint16]) -> PixelPosterior:
    return run(counts)


def test_posterior_is_that_of_the_support_points(
    counts: npt.NDArray[np.uint16], found: PixelPosterior
) -> None:
    points = simplex_support_points(SPECTRA, FINER * N_COUNTS)
    joint = np.stack([multinomial.logpmf(counts, N_COUNTS, m / m.sum()) for m in points @ SPECTRA], axis=1)
    relative = np.exp(joint - joint.max(axis=1, keepdims=True))
    weights = support_point_weights(relative.astype(np.float32), n_iterations=60)
    log_share = joint + np.log(weights)
    share = np.exp(log_share - logsumexp(log_share, axis=1, keepdims=True))
    amount = in_atoms(points[:, 1])
    mean = share @ amount
    sd = np.sqrt(share @ amount**2 - mean**2)
    np.testing.assert_allclose(found.mean[:, 1], mean, atol=2e-4)
    np.testing.assert_allclose(found.sd[:, 1], sd, atol=2e-3)
    np.testing.assert_allclose(found.pure_probability[:, 0], share[:, 0], atol=2e-4)
    np.testing.assert_allclose(found.count_share[:, 1], share @ points[:, 1], atol=2e-4)
    # Ends of the interval within a histogram bin of the quantiles over support points, up to the support points' own
    # spacing.
    order = np.argsort(amount)
    cumulative = np.cumsum(share[:, order], axis=1)
    for tail, ends in ((0.05, found.lower), (0.95, found.upper)):
        index = (cumulative < tail).sum(axis=1)
        near = amount[order][np.clip(np.stack([index - 1, index, index + 1]), 0, len(order) - 1)]
        assert (ends[:, 1] >= near[0] - BIN).all()
        assert (ends[:, 1] <= near[2] + BIN).all()


def test_posterior_mean_is_that_of_the_true_prior(
    truth: FloatArray, counts: npt.NDArray[np.uint16], found: PixelPosterior
) -> None:
    """Integrate on a fine grid over the prior that the pixels were drawn from, which the pass has to learn."""
    grid = (np.arange(2000) + 0.5) / 2000
    points = np.concatenate(([0.0], grid, [1.0]))
    prior = np.concatenate(([1 / 3], np.full(2000, 0.5 / 2000), [1 / 6]))
    mixed = (1 - points)[:, None] * SPECTRA[0] + points[:, None] * SPECTRA[1]
    log_share = counts.astype(float) @ np.log(mixed).T + np.log(prior)
    share = np.exp(log_share - logsumexp(log_share, axis=1, keepdims=True))
    mean = share @ in_atoms(points)
    sd = np.sqrt(share @ in_atoms(points) ** 2 - mean**2)
    off = found.mean[:, 1] - mean
    # What 3000 pixels cannot tell about the prior is small against one pixel's own uncertainty.
    assert np.sqrt((off**2).mean()) < 0.25 * np.sqrt((sd**2).mean())
    np.testing.assert_allclose(found.pure_probability[:, 0], share[:, 0], atol=0.25)
    # The best that any estimator does is the posterior mean: ours is as good within a few per cent.
    error, best = (np.sqrt(((m - in_atoms(truth)) ** 2).mean()) for m in (found.mean[:, 1], mean))
    assert error < 1.05 * best


def test_intervals_hold_as_often_as_they_say(truth: FloatArray, found: PixelPosterior) -> None:
    inside = (found.lower[:, 1] <= in_atoms(truth) + 1e-6) & (found.upper[:, 1] >= in_atoms(truth) - 1e-6)
    # Point masses at 0 and 1 make intervals conservative, never short; four binomial errors below the level.
    error = np.sqrt(0.9 * 0.1 / len(truth))
    assert inside.mean() > 0.9 - 4 * error
    between = (truth > 0) & (truth < 1)
    error = np.sqrt(0.9 * 0.1 / between.sum())
    # The learned prior and the histogram's bins add two per cent of slack.
    assert abs(inside[between].mean() - 0.9) < 4 * error + 0.02
    width = (found.upper - found.lower)[between, 1]
    assert width.mean() < 0.6  # not by saying nothing


def test_spread_of_what_counts_stand_for(counts: npt.NDArray[np.uint16], found: PixelPosterior) -> None:
    """With values 3 and 5 it is twice the spread of the second phase's share of the counts."""
    alike = pixel_posterior(
        counts, SPECTRA[None], np.ones((1, 2)), level=0.9, count_value=np.array([3.0, 5.0])
    )
    np.testing.assert_allclose(alike.value_sd, 2 * alike.sd[:, 1], atol=2e-3)
    assert alike.value_sd.max() > 0.1
    assert not found.value_sd.any()


def test_shares_of_counts_alone_are_those_of_the_whole_posterior(counts: npt.NDArray[np.uint16]) -> None:
    effect = ThicknessEffect(
        absorption_slope=np.linspace(-0.2, 0.0, counts.shape[1]),
        stray_share=np.full(counts.shape[1], 0.1),
        mass_per_count=np.ones(2),
        scale_sd=0.3,
    )
    tilt = ThicknessDraws(np.linspace(0.5, 1.5, len(counts)), effect, np.array([0.9]), np.array([0.2]))
    alone = count_shares(counts, SPECTRA, max_overlap=2, matrix=np.zeros(2, bool), thickness=tilt)
    whole = pixel_posterior(
        counts, SPECTRA[None], np.ones((1, 2)), level=0.9, matrix=np.zeros(2, bool), thickness=tilt
    )
    np.testing.assert_allclose(alone, whole.count_share, atol=1e-5)
    np.testing.assert_allclose(alone.sum(axis=1), 1.0, atol=1e-5)


def test_phases_share_the_pixel(found: PixelPosterior) -> None:
    np.testing.assert_allclose(found.mean.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.count_share.sum(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(found.sd[:, 0], found.sd[:, 1], atol=2e-3)
    assert (found.lower <= found.mean + BIN).all()
    assert (found.upper >= found.mean - BIN).all()


def test_pure_pixels_are_known_as_pure() -> None:
    share = np.repeat([0.0, 1.0, 0.5], 200)
    found = run(draw(share, 5000, 3), level=0.95)
    np.testing.assert_array_less(0.9, np.median(found.pure_probability[:200, 0]))
    np.testing.assert_array_less(0.9, np.median(found.pure_probability[200:400, 1]))
    assert found.pure_probability[400:].max() < 1e-6
    assert np.median(found.upper[200:400, 1]) == 1.0  # the end itself, not a bin next to it
    assert np.median(found.lower[:200, 1]) == 0.0
    # Bright pixels of half the counts hold 2.5 / 3.5 of the atoms.
    assert found.mean[400:, 1].mean() == pytest.approx(2.5 / 3.5, abs=0.01)


def test_uncertain_endmembers_widen_abundances(counts: npt.NDArray[np.uint16]) -> None:
    bent = np.stack([SPECTRA, SPECTRA])
    bent[0, 0], bent[1, 0] = [0.40, 0.30, 0.18, 0.09, 0.03], [0.60, 0.20, 0.12, 0.07, 0.01]
    wide = pixel_posterior(counts, bent, np.tile(PER_COUNT, (2, 1)), level=0.9, max_overlap=2)
    narrow = pixel_posterior(
        counts, np.tile(bent.mean(axis=0), (2, 1, 1)), np.tile(PER_COUNT, (2, 1)), level=0.9, max_overlap=2
    )
    assert wide.sd[:, 1].mean() > 1.02 * narrow.sd[:, 1].mean()


def test_draws_are_averaged_and_batches_joined(
    counts: npt.NDArray[np.uint16], found: PixelPosterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pixel_model, "BATCH_PIXELS", 700)
    told: list[float] = []
    spectra, per_count = np.tile(SPECTRA, (3, 1, 1)), np.tile(PER_COUNT, (3, 1))
    again = pixel_posterior(counts, spectra, per_count, level=0.9, max_overlap=2, progress=told.append)
    for name in ("mean", "sd", "lower", "upper", "pure_probability", "count_share"):
        np.testing.assert_allclose(getattr(again, name), getattr(found, name), atol=2e-3)
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1.0)
    assert len(told) == 15
