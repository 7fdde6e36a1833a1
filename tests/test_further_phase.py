"""A phase that nobody asked for, on maps on which it is known whether there is one."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from bayesunmix.config.phase import MOST_COUNTED
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.severity import Distrust, Reservation
from bayesunmix.fit.further_phase import FurtherPhase, find_further_phase
from bayesunmix.fit.held_out import Gain
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.starts import Start
from bayesunmix.pipeline import run_image
from bayesunmix.results.phase_doubts import one_more
from bayesunmix.results.recording import further_phase
from bayesunmix.results.result import Result
from bayesunmix.simulation.simulate import simulate_map

THREE: dict[str, Any] = {
    "map": {"energy_range": [1.0, 8.0]},
    "sample": {"elements": ["Mg", "Si", "Fe"], "thickness_nm": [100.0, 30.0], "density_g_cm3": [4.0, 0.5]},
    "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
    "simulate": {"shape": [24, 24], "counts_per_pixel": 300.0, "channels": 850},
    "phases": [
        {"name": "A", "composition": {"Mg": 0.5, "Si": 0.5}, "fraction": 0.5},
        {"name": "B", "composition": {"Mg": 0.6, "Fe": 0.4}, "fraction": 0.3},
        {"name": "C", "composition": {"Si": 0.7, "Fe": 0.3}, "fraction": 0.2},
    ],
}


def unmixed(count: int) -> Result:
    """Unmix the map of three phases with so many."""
    image = simulate_map(RunConfig.from_dict(THREE), 3).image
    told = {name: THREE[name] for name in ("map", "sample", "instrument")}
    config = RunConfig.from_dict({**told, "phases": count, "inference": {"method": "map"}})
    return run_image(image, config, None, progress=False)


@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_a_phase_that_nobody_asked_for_is_told() -> None:
    result = unmixed(2)
    found = result.record.further_phase
    assert found is not None
    assert found.gain > 10.0 * found.gain_se
    assert sum(one.share for one in found.phases) == pytest.approx(1.0)
    assert [sum(one.composition.values()) for one in found.phases] == pytest.approx([1.0] * 3)
    assert result.record.verdict == "distrust"
    assert any(text.startswith("The map holds more than the phases asked for") for text in result.problems)


@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_where_all_were_asked_for_none_is_told() -> None:
    result = unmixed(3)
    assert result.record.further_phase is None
    # As many phases as elements, which explain every cluster of pixels by themselves: phases pure somewhere are found.
    found = result.composition().mean(["chain", "draw"]).sel(element=THREE["sample"]["elements"]).values
    np.testing.assert_allclose(
        sorted(found.tolist()), [[0.0, 0.7, 0.3], [0.5, 0.5, 0.0], [0.6, 0.0, 0.4]], atol=0.05
    )


def test_beside_as_many_as_are_counted_none_is_looked_for() -> None:
    config = RunConfig.from_dict(THREE)
    setup = prepare(simulate_map(config, 3).image, dataclasses.replace(config, simulated_phases=()))
    said: list[str] = []
    many = Start(np.ones((MOST_COUNTED, 3)), np.ones((MOST_COUNTED, 4)), np.inf)
    assert find_further_phase(setup, many, said.append) is None
    assert not said


def test_what_phases_would_be_is_said() -> None:
    found = FurtherPhase(
        elements=("Mg", "Si"),
        composition=np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]]),
        share=np.array([0.5, 0.2, 0.3]),
        lines=np.array([0.8, 0.6, 0.7]),
        gain=Gain(1234.5, 67.8),
    )
    (text,) = one_more(further_phase(found))
    assert isinstance(text, Distrust)
    plain = text.replace("\u00a0", " ")
    assert "gain 1,234 ± 68 nats" in plain
    assert (
        "counts, has Mg 90 Si 10 at% (50 % of the counts), Mg 50 Si 50 at% (20 % of the counts) and Si 90"
        in plain
    )
    assert "`phases = 3`" in plain
    assert "support" not in plain
    film = dataclasses.replace(found, lines=np.array([0.8, 0.01, 0.7]), gain=Gain(37.0, 12.0))
    (doubtful,) = one_more(further_phase(film))
    assert isinstance(doubtful, Reservation)
    assert doubtful.startswith("The map may hold more")
    assert "next to no element of the sample (20 % of the counts)" in doubtful
    assert '(`kind = "support"`)' in doubtful
