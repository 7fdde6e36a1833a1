"""Intervals hold the truth as often as they say: simulated maps whose line strengths are off as the prior says."""

import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest

from bayesunmix.demo import beside_truth
from bayesunmix.pipeline import run_image
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import simulate_map

SEEDS = range(8)
SHAPE = (64, 64)
# 8 maps with some 27 compositions each, correlated within a map: if each interval held with probability 0.95, fewer
# than 90 % would be seen about once in a thousand times.
LEAST_SHARE = 0.90

pytestmark = [pytest.mark.calibration, pytest.mark.slow]


@functools.cache
def compared() -> pd.DataFrame:
    """Compositions and partition coefficients of every seed's map beside the truth."""
    config = phantom_config()
    assert config.simulate is not None
    config = dataclasses.replace(
        config,
        simulate=dataclasses.replace(config.simulate, shape=SHAPE, calibration_error=True),
        inference=dataclasses.replace(config.inference, method="laplace", starts=2),
    )
    tables = []
    for seed in SEEDS:
        simulated = simulate_map(config, seed)
        result = run_image(simulated.image, config, None, seed=seed, progress=False)
        tables.append(beside_truth(result, simulated.truth).assign(seed=seed))
    table = pd.concat(tables, ignore_index=True)
    return table[table["inside"].notna()]


def share_held(table: pd.DataFrame) -> float:
    """Share of the intervals that hold the truth."""
    return float(((table.lower <= table.truth) & (table.truth <= table.upper)).mean())


@pytest.mark.parametrize("quantity", ["composition", "partition"])
@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_intervals_hold_the_truth(quantity: str) -> None:
    table = compared()
    chosen = table[table.quantity == quantity]
    assert share_held(chosen) >= LEAST_SHARE, chosen.groupby(["phase", "element"]).inside.mean().to_string()


@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_half_as_wide_intervals_would_be_noticed() -> None:
    table = compared()
    present = table[(table.quantity == "composition") & (table.truth > 0) & (table.lower > 0)]
    halved = present.assign(
        lower=(present["lower"] + present["median"]) / 2, upper=(present["upper"] + present["median"]) / 2
    )
    assert share_held(halved) < LEAST_SHARE
    assert np.isfinite(present[["lower", "upper"]].to_numpy()).all()
