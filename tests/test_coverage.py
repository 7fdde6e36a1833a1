"""Intervals of every kind, and the limits of a share."""

import numpy as np
import pytest
from scipy.stats import binomtest

from bayesunmix.laboratory.coverage import CENTRAL, LEVELS, LOWER, NONE, UPPER, intervals, share_limits


def test_each_kind_of_interval_holds_its_level() -> None:
    rng = np.random.default_rng(0)
    draws = np.sort(rng.random((4, 10_001)), axis=1)
    found = intervals(draws, np.array([CENTRAL, UPPER, LOWER, NONE]))
    level = np.array(LEVELS)
    # Quantiles of ten thousand uniform draws are off by at most 0.005 each at one sd.
    np.testing.assert_allclose(found.width[0], level, atol=0.03)
    np.testing.assert_array_equal(found.lower[1], 0.0)
    np.testing.assert_allclose(found.upper[1], level, atol=0.02)
    np.testing.assert_allclose(found.lower[2], 1.0 - level, atol=0.02)
    assert np.isinf(found.upper[2]).all()
    held = found.hold(np.array([0.5, 0.0, 1e9, 0.5]))
    assert held[:3].all()
    assert not held[3].any()
    np.testing.assert_array_equal(intervals(draws[:1]).upper, found.upper[:1])


@pytest.mark.parametrize(("held", "of"), [(0, 20), (19, 20), (20, 20), (7, 50)])
def test_limits_of_a_share_are_exact(held: int, of: int) -> None:
    expected = binomtest(held, of).proportion_ci(0.95, method="exact")
    assert share_limits(held, of) == pytest.approx((expected.low, expected.high))
