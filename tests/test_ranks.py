"""Ranks and their simultaneous bands against simulation and the exact binomial."""

import numpy as np
import pytest
from scipy.stats import binomtest, kstest

from bayesunmix.laboratory.ranks import band, ecdf, fractional_ranks, uniformity_p_value


def _plausible(held: int, of: int, probability: float) -> bool:
    """Whether a count may be binomial; false once in ten thousand times."""
    return bool(binomtest(held, of, probability).pvalue > 1e-4)


def test_exchangeable_draws_have_uniform_ranks_whatever_the_ties() -> None:
    rng = np.random.default_rng(0)
    # Half of all values are exactly zero, as truths and draws of an engine with a point mass would be.
    values = np.maximum(rng.standard_normal((2000, 20)), 0.0)
    ranks = fractional_ranks(values[:, 0], values[:, 1:], seed=1)
    assert kstest(ranks, "uniform").pvalue > 1e-3
    assert np.unique(ranks).size == ranks.size
    # Without the random part ties pile up.
    piled = (values[:, 1:] < values[:, :1]).sum(axis=1) / 20.0
    assert kstest(piled, "uniform").pvalue < 1e-9


@pytest.mark.parametrize("n", [20, 150])
def test_the_band_holds_uniform_ranks_as_often_as_it_says(n: int) -> None:
    rng, trials = np.random.default_rng(n), 600
    for level in (0.8, 0.95):
        limits = band(n, level)
        inside = 0
        for _ in range(trials):
            line = ecdf(rng.random(n))
            inside += bool(np.all((limits.lower - 1e-12 <= line) & (line <= limits.upper + 1e-12)))
        # Counts are discrete: the band holds at least what it says, and not much more.
        assert inside / trials > level - 4.0 * np.sqrt(level * (1.0 - level) / trials)
        assert inside / trials < level + 0.03 + 4.0 * np.sqrt(level * (1.0 - level) / trials)


def test_the_band_and_the_p_value_say_the_same() -> None:
    rng = np.random.default_rng(3)
    limits = band(40, 0.9)
    outside = []
    for _ in range(200):
        ranks = rng.random(40)
        line = ecdf(ranks)
        outside.append(bool(((line < limits.lower - 1e-12) | (line > limits.upper + 1e-12)).any()))
        assert outside[-1] == (uniformity_p_value(ranks) <= 0.1)
    assert _plausible(sum(outside), 200, 0.1)


@pytest.mark.parametrize(
    "broken",
    [
        lambda u: 0.5 + 0.5 * (u - 0.5),
        lambda u: u**2,
        lambda u: np.where(u < 0.5, u / 4.0, 1 - (1 - u) / 4.0),
    ],
)
def test_ranks_that_are_not_uniform_are_seen(broken) -> None:  # noqa: ANN001
    ranks = np.random.default_rng(4).random(200)
    assert uniformity_p_value(ranks) > 1e-3
    assert uniformity_p_value(broken(ranks)) < 1e-4
