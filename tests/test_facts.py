import warnings
from typing import Any

import numpy as np
import pytest

from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.facts import FileOrigin, default_notes, facts_of, is_excited_by_photons
from bayesunmix.data.image import SpectrumImage
from bayesunmix.results.mass_thickness import electrons_per_pixel

# HyperSpy ships no types.
Untyped = Any

COUNTS = np.random.default_rng(1).poisson(3.0, (8, 8, 40))


@pytest.fixture(scope="module")
def exspy() -> Untyped:
    """ExSpy, whose import itself warns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exspy.signals
    return exspy


def eds_signal(exspy: Untyped, **facts: float) -> Untyped:
    """Return a map as exSpy makes it of an array, with facts set the way its users set them."""
    signal = exspy.signals.EDSTEMSpectrum(COUNTS)
    axis = signal.axes_manager[-1]
    axis.units, axis.scale, axis.offset = "keV", 0.1, 1.0
    signal.set_microscope_parameters(**facts)
    return signal


def quietly(signal: Untyped) -> SpectrumImage:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        return SpectrumImage.from_signal(signal)


def tem(eds: dict[str, object], **section: object) -> dict[str, Any]:
    return {"Acquisition_instrument": {"TEM": {"Detector": {"EDS": eds}, **section}}}


def test_keys_are_compared_as_hyperspy_compares_them(exspy: Untyped) -> None:
    # exSpy 0.3 itself writes "beam_energy ", with a blank.
    signal = eds_signal(exspy, beam_energy=300.0, elevation_angle=22.0, azimuth_angle=45.0)
    assert SpectrumImage.from_signal(signal).acquisition.beam_energy_keV == 300.0
    stored = {"Acquisition_instrument": {"TEM": {" beam_energy": 200.0}}}
    assert Acquisition.from_metadata(stored).beam_energy_keV == 200.0


@pytest.mark.parametrize(
    "listed", [["Fe", "Pt"], np.array(["Fe", "Pt"]), np.array([b"Fe", b"Pt"]), ("Fe", "Pt")]
)
def test_elements_are_read_however_they_are_stored(listed: object) -> None:
    assert Acquisition.from_metadata({"Sample": {"elements": listed}}).elements == ("Fe", "Pt")


def test_one_element_may_be_a_text() -> None:
    assert Acquisition.from_metadata({"Sample": {"elements": "Fe"}}).elements == ("Fe",)


def test_every_known_fact_has_a_source() -> None:
    stored = tem(
        {"elevation_angle": 22.0, "azimuth_angle": 45.0}, beam_energy=200.0, Stage={"tilt_alpha": 5.0}
    )
    facts = Acquisition.from_metadata(stored)
    assert set(facts.sources) == {
        "beam_energy_keV",
        "takeoff_angle_deg",
        "elevation_deg",
        "azimuth_deg",
        "tilt_deg",
        "microscope",
        "excitation",
    }
    assert set(facts.sources.values()) == {"file"}
    given = facts.replace(beam_energy_keV=300.0)
    assert given.sources["beam_energy_keV"] == "configuration"
    assert given.sources["tilt_deg"] == "file"
    assert "beam_energy_keV" not in given.replace(beam_energy_keV=None).sources
    assert Acquisition(beam_energy_keV=200.0).sources == {"beam_energy_keV": "configuration"}
    assert given.replace(source="assumption", beam_energy_keV=200.0) == facts


def test_what_exspy_fills_in_is_named_and_doubted(exspy: Untyped) -> None:
    signal = eds_signal(exspy, beam_energy=200.0)
    with pytest.warns(BayesUnmixWarning, match=r"elevation of 35 .* 130 eV are what exSpy fills in"):
        image = SpectrumImage.from_signal(signal)
    sources = image.acquisition.sources
    filled = ("elevation_deg", "azimuth_deg", "tilt_deg", "resolution_eV", "takeoff_angle_deg")
    assert [sources[name] for name in filled] == ["library default"] * 5
    assert sources["beam_energy_keV"] == "file"
    assert SpectrumImage.from_signal(signal, takeoff_angle_deg=22.0).warnings == ()


def test_a_direction_that_was_set_is_not_doubted(exspy: Untyped) -> None:
    image = SpectrumImage.from_signal(
        eds_signal(exspy, beam_energy=200.0, elevation_angle=22.0, azimuth_angle=45.0)
    )
    assert image.warnings == ()
    assert image.acquisition.sources["elevation_deg"] == "file"
    assert image.acquisition.sources["resolution_eV"] == "library default"


def test_a_default_azimuth_matters_where_the_stage_is_tilted(exspy: Untyped) -> None:
    facts = {"beam_energy": 200.0, "elevation_angle": 22.0, "tilt_stage": 10.0}
    with pytest.warns(
        BayesUnmixWarning, match="The azimuth of 0 degrees and resolution of 130 eV are what exSpy"
    ):
        SpectrumImage.from_signal(eds_signal(exspy, **facts))


def test_a_vendor_file_that_says_nothing_has_no_facts_but_named_defaults() -> None:
    nan = float("nan")
    eds = {"elevation_angle": 18.0, "azimuth_angle": nan, "energy_resolution_MnKa": nan}
    facts, _ = facts_of(tem(eds, Stage={"tilt_alpha": nan}), 4, FileOrigin({}, fresh=True))
    assert (facts.elevation_deg, facts.takeoff_angle_deg) == (18.0, 18.0)
    assert facts.sources["takeoff_angle_deg"] == "assumption"
    assert facts.sources["azimuth_deg"] == "library default"
    eds = {**eds, "elevation_angle": nan}
    facts, _ = facts_of(tem(eds, Stage={"tilt_alpha": 5.0}), 4, FileOrigin({}, fresh=True))
    assert facts.sources["takeoff_angle_deg"] == "library default"
    assert facts.sources["tilt_deg"] == "file"
    listed = default_notes(facts, (18.0,))[0]
    assert listed.endswith("list detectors at an elevation of 18 degrees.")
    # A vendor's own 35 degrees are no default.
    own, _ = facts_of(tem({"elevation_angle": 35.0, "azimuth_angle": 0.0}), 4, FileOrigin({}, fresh=True))
    assert default_notes(own) == ()


DOSE = {"beam_current": 0.5, "beam_energy": 200.0, "elevation_angle": 22.0, "azimuth_angle": 45.0}


def test_the_dose_stays_right_when_a_map_is_cut_or_rebinned_in_hyperspy(exspy: Untyped) -> None:
    facts = Acquisition(
        beam_energy_keV=200.0,
        takeoff_angle_deg=22.0,
        beam_current_nA=0.5,
        live_time_s=620.0,
        microscope="TEM",
    )
    image = SpectrumImage.from_array(COUNTS, 1.0 + 0.1 * np.arange(40), acquisition=facts)
    dose = electrons_per_pixel(image)
    signal = image.to_signal()
    assert electrons_per_pixel(quietly(signal)) == pytest.approx(dose)
    assert quietly(signal).acquisition.live_time_s == 620.0
    assert electrons_per_pixel(quietly(signal.inav[:2, 4:])) == pytest.approx(dose)
    rebinned = quietly(signal.rebin(scale=(2, 2, 1)))
    assert electrons_per_pixel(rebinned) == pytest.approx(4 * dose)
    assert rebinned.acquisition.live_time_s == pytest.approx(620.0)
    assert electrons_per_pixel(quietly(signal.inav[:4, :4].rebin(scale=(2, 2, 1)))) == pytest.approx(4 * dose)
    assert electrons_per_pixel(quietly(signal.sum())) == pytest.approx(64 * dose)


def test_a_live_time_set_in_exspy_is_one_pixels(exspy: Untyped) -> None:
    signal = eds_signal(exspy, live_time=2.0, **DOSE)
    with pytest.warns(BayesUnmixWarning, match="one pixel's, as exSpy does, 128 s for the map"):
        image = SpectrumImage.from_signal(signal)
    assert image.acquisition.sources["live_time_s"] == "assumption"
    dose = electrons_per_pixel(image)
    assert dose == pytest.approx(0.5e-9 * 2.0 / 1.602176634e-19)
    assert electrons_per_pixel(quietly(signal.rebin(scale=(2, 2, 1)))) == pytest.approx(4 * dose)
    assert electrons_per_pixel(quietly(signal.inav[:2, :2])) == pytest.approx(dose)


def test_a_live_time_that_fits_into_the_real_time_of_the_map_is_one_pixels() -> None:
    facts, notes = facts_of(tem({"live_time": 0.1, "real_time": 10.0}), 64, FileOrigin({}))
    assert facts.live_time_s == pytest.approx(6.4)
    assert facts.sources["live_time_s"] == "file"
    assert notes == ()


def test_a_live_time_too_long_for_a_pixel_is_left_to_the_user(exspy: Untyped) -> None:
    with pytest.warns(
        BayesUnmixWarning, match=r"live time of 5000 s is too long for one pixel .* live_time_s"
    ):
        image = SpectrumImage.from_signal(eds_signal(exspy, live_time=5000.0, **DOSE))
    assert image.acquisition.live_time_s is None
    with pytest.raises(InputError, match=r"`instrument\.live_time_s` must be known"):
        electrons_per_pixel(image)


def test_a_vendors_live_time_is_that_of_its_map() -> None:
    facts, notes = facts_of(tem({"live_time": 600.0, "real_time": 700.0}), 64, FileOrigin({}, fresh=True))
    assert (facts.live_time_s, facts.sources["live_time_s"], notes) == (600.0, "file", ())
    _, notes = facts_of(tem({"live_time": 900.0, "real_time": 700.0}), 64, FileOrigin({}, fresh=True))
    assert "longer than its real time" in notes[0]
    # Cut to a quarter since, in a file that keeps how many pixels were measured.
    original = {"spd_header": {"nPoints": 8, "nLines": 8}}
    facts, _ = facts_of(tem({"live_time": 600.0}), 16, FileOrigin(original))
    assert facts.live_time_s == pytest.approx(150.0)


def test_the_live_time_of_one_spectrum_is_plain() -> None:
    facts, notes = facts_of(tem({"live_time": 5000.0}), 1, FileOrigin({}))
    assert (facts.live_time_s, facts.sources["live_time_s"], notes) == (5000.0, "file", ())


@pytest.mark.parametrize(
    ("original", "photons"),
    [
        ({"Analysis": {"PrimaryEnergy": 50, "ElevationAngle": 90.0}}, True),
        ({"Analysis": {"PrimaryEnergy": 20, "ElevationAngle": 35.0, "XmlClassType": "TRTESMAHeader"}}, False),
        ({"Source": {"TubeVoltage": 50}}, True),
        ({"entry": {"definition": "NXfluo"}}, True),
        ({"source": {"type": "Synchrotron X-ray Source"}}, True),
        # An energy filter's tube, an EDX parameter page, a Bruker flag.
        ({"Filter drift tube_eV": 0.0, "PARAMPAGE1_EDXRF": {}, "CombinedEdsXrf": 0}, False),
        ({}, False),
    ],
)
def test_photons_are_told_from_electrons(original: dict[str, Any], photons: bool) -> None:
    assert is_excited_by_photons(original, {}) is photons


def test_photon_excitation_is_said_and_refused(exspy: Untyped) -> None:
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.fit.preparation import prepare

    signal = eds_signal(exspy, beam_energy=50.0, elevation_angle=90.0, azimuth_angle=45.0)
    signal.original_metadata.add_dictionary({"Analysis": {"PrimaryEnergy": 50, "ElevationAngle": 90.0}})
    with pytest.warns(BayesUnmixWarning, match="excited by photons"):
        image = SpectrumImage.from_signal(signal)
    assert image.acquisition.excitation == "photons"
    assert image.acquisition.takeoff_angle_deg is None
    config = {"sample": {"elements": ["Si", "Fe"]}, "phases": 2}
    with pytest.raises(InputError, match=r"`MAP` must be excited by electrons.*instrument\.microscope"):
        prepare(image, RunConfig.from_dict(config))
    overruled = SpectrumImage.from_signal(signal, microscope="TEM", takeoff_angle_deg=40.0)
    assert overruled.acquisition.excitation == "electrons"
    assert overruled.warnings == ()
