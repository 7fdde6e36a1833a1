"""The number of phases, on a map on which it is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from bayesunmix.config.phase import unnamed
from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit.phase_number import PhaseNumber, infer_phase_number
from bayesunmix.fit.preparation import prepare
from bayesunmix.report.words import phase_number_words
from bayesunmix.results.recording import phase_number
from bayesunmix.simulation.simulate import simulate_map

CONFIG: dict[str, Any] = {
    "map": {"energy_range": [1.0, 8.0]},
    "sample": {"elements": ["Mg", "Si", "Fe"], "thickness_nm": [100.0, 30.0], "density_g_cm3": [4.0, 0.5]},
    "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
    "phases": [
        {"name": "A", "composition": {"Mg": 0.5, "Si": 0.5}, "fraction": 0.6},
        {"name": "B", "composition": {"Mg": 0.6, "Fe": 0.4}, "fraction": 0.4},
    ],
    "simulate": {"shape": [24, 24], "counts_per_pixel": 300.0, "channels": 850},
}


def test_one_phase_is_found_where_one_is() -> None:
    alone = {**CONFIG, "phases": [{**CONFIG["phases"][0], "fraction": 1.0}]}
    config = RunConfig.from_dict(alone)
    image = simulate_map(config, 3).image
    setup = prepare(image, dataclasses.replace(config, phases="auto", simulated_phases=()))
    assert setup.phases == ()
    said: list[str] = []
    found = infer_phase_number(setup, said.append, most=2)
    assert found.chosen == 1
    assert found.phases() == unnamed(1)
    assert len(said) == len(found.curve) == 2
    assert found.next_phase is not None
    assert sum(found.next_phase["composition"].values()) == pytest.approx(1.0)
    words = phase_number_words(phase_number(found))
    assert words[0].startswith("The number of phases was inferred: 1.")
    assert words[1].startswith("One phase more would hold")


@pytest.mark.calibration
def test_two_phases_are_found_where_two_are() -> None:
    config = RunConfig.from_dict(CONFIG)
    image = simulate_map(config, 3).image
    setup = prepare(image, dataclasses.replace(config, phases="auto", simulated_phases=()))
    found = infer_phase_number(setup, lambda _: None, most=3)
    assert found.chosen == 2
    # One phase explains far less than two.
    assert found.curve[0]["score"] < -10.0 * found.curve[0]["se"]


def test_a_best_number_at_the_end_has_no_next_phase() -> None:
    found = PhaseNumber(1, [{"k": 1, "score": 0.0, "se": 0.0}], None)
    (sentence,) = phase_number_words(phase_number(found))
    assert "1 phase predicts them best" in sentence
