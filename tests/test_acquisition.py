import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesunmix.core.errors import InputError
from bayesunmix.data.acquisition import Acquisition, takeoff_angle

STORED = {
    "Acquisition_instrument": {
        "TEM": {
            "beam_energy": np.int32(200),
            "Detector": {
                "EDS": {
                    "azimuth_angle": np.float64(45.0),
                    "elevation_angle": np.float64(22.0),
                    "energy_resolution_MnKa": "130.0",
                    "real_time": 111.5,
                }
            },
            "Stage": {"tilt_alpha": np.float64(10.0)},
        }
    },
    "Sample": {"elements": ["Mg", "Si"]},
    "Signal": {"signal_type": "EDS_TEM"},
}

angles = st.floats(-60.0, 60.0)


@given(st.floats(1.0, 80.0), st.floats(0.0, 360.0), angles)
def test_takeoff_angle_is_the_detector_direction_in_the_tilted_frame(
    elevation: float, azimuth: float, tilt: float
) -> None:
    # Tilting the foil by alpha is the same as turning the detector back by it.
    e, a, t = np.radians([elevation, azimuth, tilt])
    detector = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    turn_back = np.array([[np.cos(t), 0, -np.sin(t)], [0, 1, 0], [np.sin(t), 0, np.cos(t)]])
    expected = np.degrees(np.arcsin(np.clip((turn_back @ detector)[2], -1, 1)))
    assert takeoff_angle(elevation, azimuth, tilt) == pytest.approx(expected, abs=1e-6)


@given(st.floats(1.0, 80.0), angles)
def test_tilting_towards_the_detector_adds_to_its_elevation(elevation: float, tilt: float) -> None:
    expected = elevation + tilt if elevation + tilt <= 90.0 else 180.0 - elevation - tilt
    assert takeoff_angle(elevation, 0.0, tilt) == pytest.approx(expected, abs=1e-5)
    assert takeoff_angle(elevation, 90.0, 0.0, tilt) == pytest.approx(expected, abs=1e-5)


def test_published_examples() -> None:
    # exSpy's documentation; the second holds a beta tilt.
    assert takeoff_angle(22.0, 45.0, 10.0) == pytest.approx(28.865971201155283, abs=1e-9)
    assert takeoff_angle(18.0, 45.0, 10.0, 5.0) == pytest.approx(28.56, abs=0.005)


def test_agrees_with_exspy() -> None:
    """In a process of its own: importing exSpy takes seconds, warns and logs to standard output."""
    cases = [
        [a, b, az, el] for a in (-20, 0, 13) for b in (-7, 0, 9) for az in (0, 45, 200) for el in (5, 18, 35)
    ]
    program = (
        "import json, sys, exspy.utils.eds as eds; "
        "print(json.dumps([eds.take_off_angle(a, az, el, b) for a, b, az, el in json.load(sys.stdin)]))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        input=json.dumps(cases),
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [takeoff_angle(el, az, a, b) for a, b, az, el in cases]
    np.testing.assert_allclose(ours, json.loads(done.stdout.splitlines()[-1]), atol=1e-6)


def test_facts_are_read_as_plain_floats() -> None:
    facts = Acquisition.from_metadata(STORED)
    assert facts.beam_energy_keV == 200.0
    assert type(facts.beam_energy_keV) is float
    assert facts.resolution_eV == 130.0
    assert facts.takeoff_angle_deg == pytest.approx(28.866, abs=1e-3)
    assert facts.microscope == "TEM"
    assert facts.elements == ("Mg", "Si")
    assert facts.missing == ("tilt_beta_deg", "live_time_s", "beam_current_nA")


def test_what_the_file_lacks_is_missing_and_never_a_default() -> None:
    facts = Acquisition.from_metadata({})
    assert facts == Acquisition()
    assert facts.takeoff_angle_deg is None
    assert {"beam_energy_keV", "takeoff_angle_deg", "resolution_eV", "microscope"} <= set(facts.missing)


@pytest.mark.parametrize("value", [0, -1, float("nan"), "unknown", None, [200]])
def test_senseless_stored_values_count_as_missing(value: object) -> None:
    facts = Acquisition.from_metadata({"Acquisition_instrument": {"TEM": {"beam_energy": value}}})
    assert facts.beam_energy_keV is None


@pytest.mark.parametrize(
    ("angles", "expected", "untilted"),
    [
        ({"elevation": 18.0}, 18.0, True),
        ({"elevation": 18.0, "tilt": 0.0}, 18.0, False),
        ({"elevation": 18.0, "tilt": 10.0}, None, False),
        ({"azimuth": 45.0, "tilt": 10.0}, None, False),
        ({"elevation": 18.0, "azimuth": 180.0, "tilt": 30.0}, None, False),
    ],
)
def test_takeoff_angle_only_where_the_stored_angles_give_one(
    angles: dict[str, float], expected: float | None, untilted: bool
) -> None:
    detector = {f"{name}_angle": angles[name] for name in ("elevation", "azimuth") if name in angles}
    section = {"Detector": {"EDS": detector}}
    if "tilt" in angles:
        section["Stage"] = {"tilt_alpha": angles["tilt"]}
    facts = Acquisition.from_metadata({"Acquisition_instrument": {"TEM": section}})
    assert facts.takeoff_angle_deg == expected
    assert facts.assumes_untilted is untilted


def test_sem_section_is_found() -> None:
    facts = Acquisition.from_metadata({"Acquisition_instrument": {"SEM": {"beam_energy": 20}}})
    assert (facts.microscope, facts.beam_energy_keV) == ("SEM", 20.0)
    assert Acquisition.from_metadata({"Signal": {"signal_type": "EDS_SEM"}}).microscope == "SEM"


@settings(max_examples=30)
@given(st.floats(1.0, 60.0), st.floats(0.0, 90.0), st.floats(0.0, 25.0))
def test_metadata_round_trip(elevation: float, azimuth: float, tilt: float) -> None:
    facts = Acquisition(beam_energy_keV=200.0, elements=("Fe",), microscope="TEM", live_time_s=3.0)
    tilted = facts.replace(elevation_deg=elevation, azimuth_deg=azimuth, tilt_deg=tilt)
    assert Acquisition.from_metadata(tilted.to_metadata()) == tilted


def test_replacing_an_angle_gives_a_new_takeoff_angle_unless_given() -> None:
    facts = Acquisition.from_metadata(STORED)
    assert facts.replace(tilt_deg=0.0).takeoff_angle_deg == 22.0
    assert facts.replace(tilt_deg=0.0, takeoff_angle_deg=30.0).takeoff_angle_deg == 30.0
    assert facts.replace(beam_energy_keV=300.0).takeoff_angle_deg == facts.takeoff_angle_deg


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"beam_energy_keV": -200}, "`beam_energy_keV` must lie between 1 and 3000, but is -200"),
        ({"beam_energy_keV": 200e3}, "`beam_energy_keV` must lie between 1 and 3000, but is 200000"),
        ({"takeoff_angle_deg": 95}, "`takeoff_angle_deg` must lie between 0 and 90, but is 95"),
        ({"takeoff_angle_deg": 0}, "`takeoff_angle_deg` must lie above 0"),
        ({"resolution_eV": 0}, "`resolution_eV` must lie between 1 and 1000, but is 0"),
        ({"resolution_eV": 1e5}, "`resolution_eV` must lie between 1 and 1000, but is 100000"),
        ({"live_time_s": 1e300}, "`live_time_s` must lie between 1e-09 and 1e\\+09"),
        ({"elements": ("Xx",)}, "`elements` must be a chemical symbol"),
        ({"elements": np.arange(3)}, "`elements` must be a list of chemical symbols"),
        ({"beam_energy_keV": np.arange(3)}, "`beam_energy_keV` must lie between 1 and 3000"),
        ({"sources": 3}, "`sources` must be a dictionary"),
        ({"tilt_deg": float("nan")}, "`tilt_deg` must lie between -360 and 360, but is nan"),
    ],
)
def test_impossible_facts_are_refused(facts: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Acquisition(**facts)
