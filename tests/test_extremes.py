"""Limits of prediction for extreme values."""

from __future__ import annotations

import numpy as np
import pytest

from bayesunmix.inference.extremes import prediction_limit, prediction_probability


def test_the_limit_is_exceeded_as_often_as_it_says() -> None:
    values = np.random.default_rng(1).gumbel(3.0, 0.4, (20_000, 21))
    mean, sd = values[:, :20].mean(axis=1), values[:, :20].std(axis=1, ddof=1)
    exceeded = (values[:, 20] > mean + prediction_limit(20, 0.05) * sd).mean()
    # Four standard errors of a share of 0.05 among 20 000.
    assert exceeded == pytest.approx(0.05, abs=4 * np.sqrt(0.05 * 0.95 / 20_000))


def test_many_values_give_the_quantile_of_the_distribution() -> None:
    euler, quantile = 0.57722, -np.log(-np.log(0.99))
    assert prediction_limit(1000, 0.01) == pytest.approx((quantile - euler) * np.sqrt(6.0) / np.pi, rel=0.01)


def test_probability_and_limit_are_inverse() -> None:
    assert prediction_probability(30, prediction_limit(30, 0.02)) == pytest.approx(0.02, rel=1e-6)
