"""Whole runs on maps that leave something open: intervals hold it, and pinned phases keep their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.pipeline import run_image
from bayesunmix.results.result import Result
from bayesunmix.simulation.phantom import grain_layout
from bayesunmix.simulation.simulate import SimulatedMap, simulate_map

pytestmark = pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")

# A sulfide whose grains are at most half of a pixel: nothing tells it from a mixture of both.
MOST = 0.5
ELEMENTS = ["S", "Fe", "Ni"]
HOST = {"S": 0.5, "Fe": 0.45, "Ni": 0.05}
GRAIN = {"S": 0.5, "Fe": 0.1, "Ni": 0.4}


def configuration(**told: Any) -> dict[str, Any]:  # noqa: ANN401
    """Two phases, the first a matrix; more is told of the second, and keys of `[inference]` may be given, too."""
    inference = {key: told.pop(key) for key in list(told) if key.startswith("rotation")}
    return {
        "sample": {
            "elements": ELEMENTS,
            "oxygen": "none",
            "thickness_nm": [60.0, 10.0],
            "density_g_cm3": [4.5, 0.3],
        },
        "map": {"energy_range": [1.0, 10.0]},
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 20.0, "resolution_eV": 130.0},
        "phases": [{"name": "host", "matrix": True}, {"name": "grain", **told}],
        "inference": {"method": "laplace", "further_phase": False, "draws": 300, "starts": 2, **inference},
    }


@pytest.fixture(scope="module")
def truth() -> SimulatedMap:
    abundances = grain_layout((22, 24), [0.7, 0.3], [True, False], np.random.default_rng(3)).copy()
    abundances[..., 1] *= MOST / abundances[..., 1].max()
    abundances[..., 0] = 1.0 - abundances[..., 1]
    data = configuration()
    for phase, composition in zip(data["phases"], (HOST, GRAIN), strict=True):
        phase |= {"composition": composition, "fraction": 0.5}
    data["simulate"] = {"shape": [22, 24], "counts_per_pixel": 300.0, "channels": 1000}
    return simulate_map(data, 5, abundances=abundances)


def unmixed(truth: SimulatedMap, **told: Any) -> Result:  # noqa: ANN401
    return run_image(truth.image, RunConfig.from_dict(configuration(**told)), None, progress=False)


@pytest.fixture(scope="module")
def opened(truth: SimulatedMap) -> Result:
    return unmixed(truth)


@pytest.fixture(scope="module")
def one_solution(truth: SimulatedMap) -> Result:
    return unmixed(truth, rotations=False)


def interval(result: Result, element: str) -> tuple[float, float]:
    row = result.summary().set_index(["phase", "element"]).loc[("grain", element)]
    return float(row["lower"]), float(row["upper"])


def test_intervals_hold_what_the_map_leaves_open(opened: Result, one_solution: Result) -> None:
    for element in ("Fe", "Ni"):
        low, high = interval(opened, element)
        assert low <= GRAIN[element] <= high
        # The one solution takes the purest pixel, half of which is the host, for the grain.
        below, above = interval(one_solution, element)
        assert not below <= GRAIN[element] <= above
        assert high - low > 1.3 * (above - below)
    # The host has pure regions: it stays where it is.
    posterior = opened.tree["posterior"].dataset.sel(phase="host")
    np.testing.assert_array_equal(posterior["composition"], posterior["composition_one_solution"])


def test_abundances_follow_the_rotation(opened: Result, one_solution: Result, truth: SimulatedMap) -> None:
    grain = truth.truth.abundances[..., 1]
    maps = {name: opened.abundances()[name].sel(phase="grain").values for name in ("mean", "lower", "upper")}
    purest = grain > 0.9 * MOST
    assert np.mean((maps["lower"] <= grain) & (grain <= maps["upper"])) > 0.9
    alone = one_solution.abundances()["upper"].sel(phase="grain").values
    assert maps["lower"][purest].mean() < MOST < alone[purest].mean()
    np.testing.assert_allclose(opened.abundances()["mean"].sum("phase").values, 1.0, atol=1e-4)


def test_what_is_said_of_it(opened: Result, one_solution: Result) -> None:
    found = opened.record.rotations
    assert found is not None
    assert [(pair.phase, pair.other) for pair in found.open] == [("grain", "host")]
    assert 0.1 < found.open[0].outwards < 0.7
    assert found.effective_candidates > 50.0
    assert any(
        "grain is non-identifiable" in note and "Its intervals include that" in note
        for note in opened.record.warnings
    )
    assert not any("do not include that" in problem for problem in opened.problems)
    assert one_solution.record.rotations is None
    budget = opened.tables.uncertainty_budget().set_index(["quantity", "phase", "element"])
    assert budget.loc[("composition", "grain", "Ni"), "share_rotation"] > 0.5
    assert budget.loc[("composition", "host", "S"), "share_rotation"] < 0.01
    # Without rotations there is the share of a second maximum alone.
    without = one_solution.tables.uncertainty_budget().set_index(["quantity", "phase", "element"])
    variance = [
        float(table.loc[place, "sd"] ** 2 * table.loc[place, "share_rotation"])
        for table in (budget, without)
        for place in [("composition", "grain", "Ni")]
    ]
    assert variance[0] > 5.0 * variance[1]


def test_names_know_what_is_open(opened: Result, one_solution: Result) -> None:
    before, drawn = (opened.draws[name] for name in ("composition_one_solution", "composition"))
    np.testing.assert_allclose(before.sel(phase="host"), drawn.sel(phase="host"), rtol=1e-9)
    assert float(drawn.sel(phase="grain", element="Ni").std()) > 2.0 * float(
        before.sel(phase="grain", element="Ni").std()
    )
    named = {one.phase: one for one in opened.tables.proposed()}
    assert set(named["grain"].open) == {"Fe", "Ni"}
    assert named["host"].open == ()
    assert "composition_one_solution" not in one_solution.draws
    assert not any(one.open for one in one_solution.tables.proposed())


def test_pinned_phases_keep_their_numbers(truth: SimulatedMap) -> None:
    # Not true of this map, but it pins the phase: the host's nickel cannot be taken out, nor put in.
    runs = [unmixed(truth, absent=["Ni"], rotations=rotations) for rotations in (True, False)]
    assert runs[0].record.rotations is None
    for name in ("composition", "component_share"):
        np.testing.assert_array_equal(*(run.tree["posterior"][name].values for run in runs))
    np.testing.assert_array_equal(*(run.tree["maps"]["abundance_mean"].values for run in runs))


@pytest.mark.calibration
def test_the_prior_is_a_setting(truth: SimulatedMap, opened: Result) -> None:
    pure = unmixed(truth, rotation_pure=1.0, rotation_absent=0.0)
    assert pure.record.rotations is not None
    assert (pure.record.rotations.pure, pure.record.rotations.absent) == (1.0, 0.0)
    assert interval(pure, "Ni")[1] < interval(opened, "Ni")[1]


def test_probabilities_of_more_than_one_are_refused() -> None:
    with pytest.raises(InputError, match=r"`inference\.rotation_pure` must be at most 1 together with"):
        RunConfig.from_dict(configuration(rotation_pure=0.7, rotation_absent=0.7))
