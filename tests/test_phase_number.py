"""The number of phases, on a map on which it is known."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.config.phase import unnamed
from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit.held_out import Gain
from bayesunmix.fit.phase_distance import LEAST_APART, apart, nearest_mixture
from bayesunmix.fit.phase_evidence import PhaseEvidence
from bayesunmix.fit.phase_number import PhaseNumber, Uncounted, infer_phase_number
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start
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


def prepared(config: RunConfig, seed: int = 3, abundances: npt.ArrayLike | None = None) -> Setup:
    """Draw a map of the configuration's phases and prepare it for a count of them."""
    image = simulate_map(config, seed, abundances=abundances).image
    return prepare(image, dataclasses.replace(config, phases="auto", simulated_phases=()))


def test_one_phase_is_found_where_one_is() -> None:
    alone = {**CONFIG, "phases": [{**CONFIG["phases"][0], "fraction": 1.0}]}
    setup = prepared(RunConfig.from_dict(alone))
    assert setup.phases == ()
    said: list[str] = []
    found = infer_phase_number(setup, said.append, most=2)
    assert found.chosen == 1
    assert found.phases() == unnamed(1)
    assert len(found.scores) == 2
    assert said[-1] == "phases counted: 1"
    assert len(said) == 4
    (after,) = found.left_out
    assert after.composition.sum() == pytest.approx(1.0)
    words = phase_number_words(phase_number(found))
    assert words[0].startswith("The number of phases was inferred: 1.")
    assert words[-1].startswith("One phase more would hold")


@pytest.mark.calibration
def test_two_phases_are_found_where_two_are() -> None:
    found = infer_phase_number(prepared(RunConfig.from_dict(CONFIG)), lambda _: None)
    assert found.chosen == 2
    # One phase explains far less than two, and phases beyond these nothing.
    assert found.scores[0] < -10.0 * found.errors[0]
    assert [left.reason for left in found.left_out] == ["unsupported"] * len(found.left_out)
    amounts = sorted(found.composition.tolist(), key=lambda row: row[2])
    np.testing.assert_allclose(amounts, [[0.5, 0.5, 0.0], [0.6, 0.0, 0.4]], atol=0.1)


@pytest.mark.calibration
def test_a_zoned_phase_is_one_and_an_interface_none() -> None:
    """The matrix goes from 45 to 55 % Mg over the map, at counts that show it, and grains end in wide flanks."""
    many = {
        **CONFIG,
        "simulate": {"shape": [40, 40], "counts_per_pixel": 3000.0, "channels": 850, "wedge": 0.4},
    }
    many["phases"] = [
        {"name": "low", "composition": {"Mg": 0.45, "Si": 0.55}, "fraction": 0.4},
        {"name": "high", "composition": {"Mg": 0.55, "Si": 0.45}, "fraction": 0.4},
        {"name": "B", "composition": {"Mg": 0.6, "Fe": 0.4}, "fraction": 0.2},
    ]
    y, x = np.mgrid[:40, :40] / 39.0
    grain = np.clip(1.4 - 3.5 * np.hypot(x - 0.5, y - 0.5), 0.0, 1.0)
    shares = np.stack([(1.0 - grain) * x, (1.0 - grain) * (1.0 - x), grain], axis=2)
    found = infer_phase_number(prepared(RunConfig.from_dict(many), abundances=shares), lambda _: None)
    assert found.chosen == 2
    # Counts ask for more, and what they ask for is said.
    assert "variation" in {left.reason for left in found.left_out}


def test_a_mixture_is_near_what_it_is_a_mixture_of() -> None:
    shares = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.5, 0.1, 0.4], [0.1, 0.8, 0.1]])
    near = nearest_mixture(shares, 2)
    np.testing.assert_allclose(near.of, [4 / 7, 3 / 7, 0.0, 0.0], atol=1e-6)
    assert near.apart < 1e-6
    far = nearest_mixture(shares, 3)
    assert far.of[3] == 0.0
    assert far.apart > 1.0 > LEAST_APART


def test_a_tenth_of_everything_is_a_tenth_apart() -> None:
    shares = np.full(10, 0.1)
    varied = shares * np.where(np.arange(10) % 2, 1.05, 0.95)
    assert apart(shares, varied) == pytest.approx(0.05, rel=1e-2)


def counted(left_out: list[Uncounted]) -> PhaseNumber:
    """Return a count of two phases of Mg and Si, and what was left out."""
    return PhaseNumber(
        elements=("Mg", "Si"),
        scores=np.array([-50.0, -1.0, 0.0]),
        errors=np.array([5.0, 2.0, 0.0]),
        composition=np.array([[0.9, 0.1], [0.1, 0.9]]),
        share=np.array([0.25, 0.75]),
        evidence=[
            PhaseEvidence(40.0, 4.0, 1.1, 0.5, 0.1, (0.0, 1.0)),
            PhaseEvidence(60.0, 6.0, 1.2, 0.5, 0.1, (1.0, 0.0)),
        ],
        left_out=left_out,
        start=Start(np.ones((2, 3)), np.ones((2, 4)), np.inf),
    )


def test_what_was_left_out_is_told_with_its_reason() -> None:
    here = counted([]).composition
    mixed = Uncounted(
        np.array([0.5, 0.5]), 0.1, Gain(30.0, 5.0), "mixture", 0.04, np.array([0.45, 0.55]), here
    )
    varied = dataclasses.replace(mixed, reason="variation", of=np.array([0.02, 0.98]))
    next_one = dataclasses.replace(mixed, reason="unsupported", gain=Gain(1.0, 2.0))
    said = phase_number_words(phase_number(counted([mixed, varied, next_one])))
    text = " ".join(said).replace("\u00a0", " ")
    assert "inferred: 2" in text
    assert "Mg 90 Si 10 at% (25 % of the counts, +40 ± 4)" in text
    assert (
        "Mg 50 Si 50 at% (10 % of the counts, +30 ± 5), which fits as a mixture of Mg 90 Si 10 at% (45 %) and Si 90"
        in text
    )
    assert "a variation of Si 90 Mg 10 at%" in text
    assert "change the score by +1.0 ± 2.0, which is not significant" in text


def test_where_nothing_was_left_out_nothing_is_told_of_it() -> None:
    said = phase_number_words(phase_number(counted([])))
    assert len(said) == 2
