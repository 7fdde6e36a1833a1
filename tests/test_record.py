"""The record of a run: its layout, what earlier layouts become, and the schema in docs."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from bayesunmix.core.severity import Distrust, Reservation
from bayesunmix.results.earlier_layouts import FORMAT, upgraded
from bayesunmix.results.record import SCHEMA, DamagedError, RunRecord, schema
from bayesunmix.results.verdict import POINT_ESTIMATE, Level, judge

CONFIG = {"inference": {"level": 0.95}, "phases": [{"name": "A"}]}
REGION = {
    "y": 1.0,
    "x": 2.0,
    "pixels": 4,
    "sigma": 9.0,
    "kind": "spectrum",
    "excess": {"Si": 1.8, "Ti": None},
    "lacking": {},
    "counts_ratio": 1.0,
}
RESIDUAL = {
    "spectrum": "whole map",
    "low_keV": 1.0,
    "high_keV": 1.2,
    "energy_keV": 1.1,
    "sigma": 5.0,
    "sign": "above the fit",
    "excess_counts": 100.0,
    "cause": "line Si Kα",
    "elements": ["Si"],
    "chance": 0.001,
}
SCAN = {
    "threshold_sigma": 4.0,
    "widths": 500.0,
    "regions_expected_of_noise": 0.2,
    "global_threshold_sigma": 4.3,
}
# What version 0.1.0 wrote before layouts had a number.
SECOND: dict[str, Any] = {
    "version": "0.1.0",
    "method": "laplace",
    "config": CONFIG,
    "map": {
        "name": "EDX",
        "acquisition": {
            "Acquisition_instrument": {
                "TEM": {"beam_energy": 200.0, "Detector": {"EDS": {"elevation_angle": 22.0}}}
            }
        },
    },
    "rival_share": 0.25,
    "robust": {"used": True, "reason": "Because.", "tiles": 36, "significance": 0.001, "directions": 2},
    "misfit": [REGION],
    "misfit_search": {"threshold": 5.9, "false_alarm": 0.01, "spread": 3.5, "largest": 9.0},
    "diagnostics": {"atoms": 63, "pareto_k": None, "divergences": 0},
    "identifiability": {"loose_ends": [{"phase": "A", "other": "B", "share": 0.4}]},
    "fit": {
        "deviance_per_dof_total": 1.1,
        "deviance_per_dof_segments": 1.02,
        "residual_regions": [RESIDUAL],
        "residual_scan": SCAN,
    },
    "verdict": "reservations",
    "findings": [{"severity": "reservation", "text": "A grain.", "about": "Overlap of the phases"}],
    "problems": [],
    "warnings": ["A grain.", "A default was assumed."],
}


def record(**parts: Any) -> RunRecord:  # noqa: ANN401
    """Return a record of today's layout."""
    whole = {"format": FORMAT, "method": "laplace", "config": CONFIG, "verdict": "good", "findings": []}
    return RunRecord.of({**whole, **parts})


def test_the_schema_in_docs_is_that_of_the_type() -> None:
    """To renew it: ``write_schema()``."""
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == schema()


def test_every_field_of_the_schema_that_needs_words_has_them() -> None:
    tables = schema()["$defs"]
    assert not [name for name, table in tables.items() if not table.get("description")]


def test_what_is_written_is_read_back() -> None:
    read = RunRecord.of(SECOND)
    assert RunRecord.of(json.loads(json.dumps(read.to_dict()))) == read
    assert "pareto_k" not in read.to_dict()["diagnostics"]
    # A ratio to nothing is not the same as no ratio.
    assert read.to_dict()["unmodelled_regions"]["regions"][0]["excess"] == {"Si": 1.8, "Ti": None}


def test_the_truth_of_a_simulated_map_is_no_declared_composition() -> None:
    phases = [{"name": "A", "composition": {"Mg": 0.4, "Si": [0.5, 0.01]}}]
    record = RunRecord.of({"method": "laplace", "problems": [], "config": {**CONFIG, "phases": phases}})
    assert record.config.phases[0].composition == {"Mg": 0.4, "Si": (0.5, 0.01)}
    assert record.config.phases[0].soft_composition == {"Si": (0.5, 0.01)}


def test_names_of_phases_are_read_back() -> None:
    row = {"name": "Quartz", "formula": "SiO2", "probability": 0.7, "unmeasured": ["O"]}
    names = [{"phase": "A", "none": 0.1, "proposed": [row]}]
    record = RunRecord.of({"method": "laplace", "config": CONFIG, "problems": [], "names": names})
    assert record.names is not None
    assert record.names[0].text() == "Quartz (0.70); none of these (0.10)"
    assert RunRecord.of(record.to_dict()) == record


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record().seed = 1  # type: ignore[misc]


def test_keys_of_later_versions_do_no_harm() -> None:
    config = {**CONFIG, "inference": {"level": 0.95, "new": 1}, "newer": {"x": 2}}
    found = record(unheard_of={"x": 1}, config=config)
    # In the configuration they are kept: it is what the user asked.
    assert found.to_dict()["config"]["inference"]["new"] == 1
    assert found.to_dict()["config"]["newer"] == {"x": 2}


def test_names_of_the_second_layout_are_read() -> None:
    found = RunRecord.of(SECOND)
    assert found.format == FORMAT
    assert found.second_maximum_share == 0.25
    assert found.diagnostics.support_points == 63
    assert found.heterogeneity is not None
    assert (found.heterogeneity.widened, found.heterogeneity.areas) == (True, 36)
    assert found.heterogeneity.p_value == 0.001
    assert found.unmodelled_regions is not None
    assert (found.unmodelled_regions.threshold, found.unmodelled_regions.spread) == (5.9, 3.5)
    assert found.unmodelled_regions.regions[0].excess == {"Si": 1.8, "Ti": None}
    assert found.identifiability is not None
    assert found.identifiability.non_identifiable[0].share == 0.4
    assert found.fit is not None
    assert found.fit.residuals is not None
    assert found.fit.residuals.regions[0].cause == "line Si Kα"
    assert found.map.acquisition.beam_energy_keV == 200.0
    assert found.map.acquisition.takeoff_angle_deg == 22.0
    assert found.judgement().level == Level.RESERVATIONS
    assert not found.verdict_inferred


def test_deviances_of_each_segment_are_read() -> None:
    found = RunRecord.of({**SECOND, "fit": {"deviance_per_dof_segments": [1.0, None]}}).fit
    assert found is not None
    assert found.deviance_per_dof_by_segment == (1.0, None)
    assert found.deviance_per_dof_segments is None


@pytest.mark.parametrize(
    ("parts", "texts", "level"),
    [
        ({}, [], "good"),
        ({"problems": ["Chains."], "warnings": ["A grain."]}, ["Chains.", "A grain."], "distrust"),
        ({"method": "map"}, [POINT_ESTIMATE], "reservations"),
    ],
)
def test_a_record_without_a_verdict_gets_one(parts: dict[str, Any], texts: list[str], level: str) -> None:
    found = RunRecord.of({"method": "laplace", "config": CONFIG, "problems": [], **parts})
    assert found.verdict_inferred
    assert found.verdict == level
    assert [finding.text for finding in found.findings] == texts


def test_todays_layout_is_not_touched() -> None:
    whole = record().to_dict()
    assert upgraded(whole) == whole


@pytest.mark.parametrize("key", sorted(SECOND))
@pytest.mark.parametrize("value", [None, 3, "x", [], [1], {}, {"x": [None]}])
def test_odd_values_end_in_one_line_or_in_a_record(key: str, value: object) -> None:
    """Whatever an earlier version's file holds, an upgrade does not stumble over it."""
    said = "run.json"
    try:
        RunRecord.of({**SECOND, key: value})
    except DamagedError as error:
        said = str(error)
    assert "run.json" in said
    assert "\n" not in said


def test_a_judgement_is_recorded_with_what_was_noted() -> None:
    said = ["A default was assumed.", Reservation("A grain."), Distrust("Chains."), "A default was assumed."]
    judged = record().with_judgement(judge(said), said)
    assert judged.verdict == Level.DISTRUST
    assert [finding.text for finding in judged.findings] == ["Chains.", "A grain."]
    assert judged.warnings == ("A default was assumed.", "A grain.")
    assert judged.judgement() == judge(said)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"format": 99}, r"has a layout \(99\) of a later version"),
        ({"method": "zzz"}, r"^method of run\.json"),
        ({"second_maximum_share": -3.0}, r"^second_maximum_share of run\.json"),
        ({"second_maximum_share": float("nan")}, r"^second_maximum_share of run\.json"),
    ],
)
def test_what_no_run_of_this_version_wrote_is_refused(part: dict[str, Any], said: str) -> None:
    with pytest.raises(DamagedError, match=said):
        RunRecord.of({**record().to_dict(), **part})
