"""Whether a declared phase is there: the rule, its words, and what it does to tables."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import xarray as xr

from bayesunmix.chemistry.ratios import UNSEEN, amounts
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.severity import PRESENCE
from bayesunmix.fit.held_out import Mixture, halves
from bayesunmix.fit.phase_evidence import PhaseEvidence, evidence, scores_without
from bayesunmix.pipeline import run_image
from bayesunmix.results.phase_doubts import left_out_mixtures, not_supported
from bayesunmix.results.record_parts import PhaseNumber, Presence, UncountedPhase
from bayesunmix.results.tables import NOT_DETECTED, detection_states
from bayesunmix.simulation.simulate import simulate_map

FOUND = PhaseEvidence(gain=100.0, gain_se=10.0, apart=0.5, shown=0.3, pure=0.4, like=(0.0, 0.6, 0.4))
TOLD = Presence(
    phase="B",
    standing="supported",
    gain=100.0,
    gain_se=10.0,
    apart=0.5,
    shown=0.3,
    pure=0.4,
    like={"A": 0.6, "C": 0.4},
)


@pytest.mark.parametrize(
    ("changes", "standing"),
    [
        ({}, "supported"),
        ({"gain": 19.0}, "unsupported"),
        ({"gain": 9.0, "gain_se": 1.0}, "unsupported"),
        ({"apart": 0.1}, "mixture"),
        ({"apart": 0.1, "pure": 0.6}, "supported"),
        ({"apart": 0.1, "pure": 0.6, "like": (0.0, 0.95, 0.05)}, "variation"),
        ({"shown": 0.05}, "mixture"),
        ({"gain": -5.0, "apart": 0.1}, "unsupported"),
    ],
)
def test_what_a_phase_is_taken_for(changes: dict[str, Any], standing: str) -> None:
    assert dataclasses.replace(FOUND, **changes).standing == standing


def test_a_phase_that_no_block_holds_gains_nothing() -> None:
    rng = np.random.default_rng(0)
    spectra = rng.dirichlet(np.ones(20), 3)
    counts = rng.poisson(500.0 * spectra[rng.integers(0, 2, 400)])
    first, second = halves(counts)
    points = np.vstack([np.eye(3), [[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]])
    common = np.log(np.full(20, 1 / 20))
    mixtures = [
        Mixture.of(*pair, np.log(points @ spectra), common) for pair in ((first, second), (second, first))
    ]
    found = evidence(mixtures, points, spectra, scores_without(mixtures, points), counts.sum(axis=1))
    assert [one.standing for one in found] == ["supported", "supported", "unsupported"]
    # What blocks show of a phase that is pure is about what its spectrum is apart by.
    assert found[0].shown > 0.5
    assert found[0].pure > 0.95


def test_one_phase_alone_is_beyond_doubt() -> None:
    counts = np.random.default_rng(0).poisson(5.0, (50, 4))
    mixture = Mixture.of(*halves(counts), np.log(np.full((1, 4), 0.25)), np.log(np.full(4, 0.25)))
    found = evidence([mixture], np.ones((1, 1)), np.ones((1, 4)), np.zeros((0, 50)), counts.sum(axis=1))
    assert [one.standing for one in found] == ["supported"]


def test_each_standing_has_its_sentence() -> None:
    assert not_supported([TOLD]) == []
    (said,) = not_supported(
        [TOLD.model_copy(update={"standing": "unsupported", "gain": 3.0, "gain_se": 4.0})]
    )
    assert "B is not supported by the counts: held-out counts gain 3 ± 4 nats" in said
    assert said.about == PRESENCE  # type: ignore[attr-defined]
    (said,) = not_supported([TOLD.model_copy(update={"standing": "mixture", "apart": 0.04})])
    assert "a mixture of A (60 %) and C (40 %) by no more than 4 %" in said


def test_two_phases_that_may_be_one_are_told_once() -> None:
    first = TOLD.model_copy(update={"standing": "variation", "like": {"A": 1.0}, "apart": 0.05})
    second = first.model_copy(update={"phase": "A", "like": {"B": 1.0}})
    (said,) = not_supported([second, first])
    assert "the two may be one phase that varies" in said
    (said,) = not_supported([first])
    assert "it may be that" in said


def test_a_mixture_that_counts_ask_for_is_a_doubt() -> None:
    left = UncountedPhase(
        composition={"Fe": 0.35, "S": 0.57, "Cu": 0.08}, share=0.3, gain=125.0, gain_se=19.0, reason="mixture"
    )
    number = PhaseNumber(chosen=3, curve=(), left_out=(left,))
    (said,) = left_out_mixtures(number)
    assert "S 57 Fe 35 Cu 8 at% (+125 ± 19 nats)" in said.replace("\u00a0", " ")
    assert "`phases = 4`" in said
    small = left.model_copy(update={"share": 0.01})
    varied = left.model_copy(update={"reason": "variation"})
    assert left_out_mixtures(number.model_copy(update={"left_out": (small, varied)})) == []


def test_nothing_is_detected_in_a_phase_that_is_not_supported() -> None:
    draws = np.random.default_rng(0).normal(0.5, 0.01, (1, 200, 2, 2))
    counting = xr.DataArray(
        draws,
        dims=("chain", "draw", "phase", "element"),
        coords={"phase": ["A", "B"], "element": ["Mg", "Si"]},
    )
    assert (detection_states(counting, {})[1] != NOT_DETECTED).all()
    assert (detection_states(counting, {}, ("B",))[1] == NOT_DETECTED).all()
    assert (amounts(counting, counting, {}, 0.95, unsupported=("B",)).words[1] == UNSEEN).all()


@pytest.mark.calibration
@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_a_declared_phase_that_is_not_there_is_told() -> None:
    """Two phases and a third one declared that no pixel holds, then the two alone."""
    phases = [
        {"name": "A", "matrix": True, "composition": {"Mg": 0.5, "Si": 0.5}, "fraction": 0.7},
        {"name": "B", "absent": ["Si"], "composition": {"Mg": 0.6, "Fe": 0.4}, "fraction": 0.3},
    ]
    drawn = {
        "map": {"energy_range": [1.0, 8.0]},
        "sample": {
            "elements": ["Mg", "Si", "Fe"],
            "thickness_nm": [100.0, 30.0],
            "density_g_cm3": [4.0, 0.5],
        },
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
        "simulate": {"shape": [40, 40], "counts_per_pixel": 200.0, "channels": 850},
        "inference": {"method": "laplace"},
    }
    image = simulate_map({**drawn, "phases": phases}, 1).image
    told = [{key: phase[key] for key in ("name", "matrix", "absent") if key in phase} for phase in phases]
    for extra, unsupported in (([{"name": "C", "absent": ["Mg"]}], True), ([], False)):
        config = RunConfig.from_dict({**drawn, "phases": told + extra})
        result = run_image(image, config, None, progress=False)
        assert result.record.presence is not None
        standing = {one.phase: one.standing for one in result.record.presence}
        assert (standing["A"], standing["B"]) == ("supported", "supported")
        if unsupported:
            assert standing["C"] == "unsupported"
            table = result.summary()
            assert not (table[table["phase"] == "C"]["detected"] == "true").any()
            assert any("C is not supported" in finding.text for finding in result.verdict.findings)
