"""Calls from Python with what is not meant: refused with the name of the argument; NumPy's numbers are numbers."""

from __future__ import annotations

import fractions
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayesunmix as bu
from bayesunmix.core.errors import BayesUnmixWarning, InputError, check_flag, shown
from bayesunmix.data.io import save
from bayesunmix.results.result import Result

COUNTS = np.random.default_rng(0).poisson(4.0, (4, 5, 40))
ENERGY = 0.5 + 0.05 * np.arange(40)


class Speechless:
    def __repr__(self) -> str:
        raise RuntimeError("no words")

    def __array__(self, *_: object, **__: object) -> np.ndarray[Any, Any]:
        raise RuntimeError("no array")


@pytest.fixture(scope="module")
def image() -> bu.SpectrumImage:
    return bu.SpectrumImage.from_array(COUNTS, ENERGY, beam_energy_keV=200.0, takeoff_angle_deg=22.0)


@pytest.fixture(scope="module")
def file(image: bu.SpectrumImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("map") / "map.hspy"
    save(image, path)
    return path


@pytest.fixture(scope="module")
def result(made_result: Callable[..., Result]) -> Result:
    amounts = np.random.default_rng(1).dirichlet([40.0, 30.0, 30.0], (2, 50, 2))
    return made_result(amounts, ["A", "B"], ["Mg", "Si", "Fe"])


def refused(field: str) -> Any:  # noqa: ANN401 - pytest's context manager
    return pytest.raises(InputError, match=f"^`{field}` must ")


def test_numpys_numbers_reach_the_reading_process(file: Path) -> None:
    found = bu.load(
        file,
        signal=np.int64(0),
        beam_energy_keV=np.float32(300),
        takeoff_angle_deg=np.int8(20),
        energy_scale_keV=np.float32(0.01),
    )
    facts = found.acquisition
    assert (facts.beam_energy_keV, facts.takeoff_angle_deg) == (300.0, 20.0)
    assert found.energy_step_keV == pytest.approx(0.01)
    assert bu.inspect(file, signal=np.int64(0)) == bu.inspect(file)


@pytest.mark.parametrize("value", [b"x", {"x"}, np.arange(3), 10**400, Speechless()])
@pytest.mark.parametrize("name", ["signal", "beam_energy_keV", "microscope", "energy_scale_keV"])
def test_what_no_reader_can_be_asked_for_is_refused(file: Path, name: str, value: object) -> None:
    with refused(name):
        bu.load(file, **{name: value})


@pytest.mark.parametrize("value", ["map", None, 3])
def test_a_table_that_is_none_is_refused_by_prepare(image: bu.SpectrumImage, value: Any) -> None:  # noqa: ANN401
    with refused("inference"):
        bu.prepare(image, elements=["Mg"], phases=["A"], inference=value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("seed", seed) for seed in (-1, 1.5, np.nan, None, "", [1])],
        *[("energy", energy) for energy in ("x", {}, 10**400, Speechless())],
        *[("spatial", spatial) for spatial in (np.arange(3), "x", None)],
    ],
)
@pytest.mark.parametrize("call", [bu.segment, bu.unmix_free])
def test_odd_arguments_of_segment_and_unmix_free(
    call: Callable[..., object],
    name: str,
    value: object,
) -> None:
    with refused(name):
        call(COUNTS, 2, **{name: value})


@pytest.mark.parametrize("value", ["x", {}, 10**400, Speechless(), np.array(["a"])])
def test_odd_endmembers(value: Any) -> None:  # noqa: ANN401
    with refused("endmembers"):
        bu.segment(COUNTS, 2, method="fcls", endmembers=value)


def test_a_correlation_longer_than_any_map_is_refused() -> None:
    with refused("smooth"):
        bu.unmix_free(COUNTS, 2, smooth=1e300)


@pytest.mark.parametrize("value", [None, 3, "", "x" * 300, "a\0b", "\ud800"])
def test_what_is_no_folder_is_refused_by_save(result: Result, value: Any) -> None:  # noqa: ANN401
    with refused("folder"):
        result.save(value)


@pytest.mark.parametrize(
    ("method", "arguments", "field"),
    [
        ("summary", (["wt_pct"],), "unit"),
        ("tables.partition", ([],), "by"),
        ("tables.sites", ("ABO3",), "formulas"),
        ("partition", (np.array([]), "B"), "numerator"),
        ("partition", ("A", np.arange(3)), "denominator"),
        ("exchange", ("A", "B", np.arange(3)), "first"),
        ("tables.exchange", ("Fe", np.array([])), "second"),
    ],
)
def test_odd_arguments_of_a_results_methods(
    result: Result, method: str, arguments: tuple[object, ...], field: str
) -> None:
    with refused(field):
        operator.attrgetter(method)(result)(*arguments)


@pytest.mark.parametrize(
    "options",
    [
        {"valences": 3},
        {"valences": np.arange(3)},
        {"radii_A": "x"},
        {"elements": 3},
        {"host": np.arange(3)},
        {"seed": -1},
        {"site": "A"},
    ],
)
def test_odd_options_of_an_onuma_diagram(result: Result, options: dict[str, Any]) -> None:
    with refused(next(iter(options))):
        result.onuma("A", "B", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"results": np.array(3)},
        {"names": 5},
        {"phases": 5},
        {"covariate": 5},
        {"seed": "x"},
    ],
)
def test_odd_arguments_of_compare(result: Result, options: dict[str, Any]) -> None:
    other = result.with_record(result.record.model_copy(update={"hash": "of another map"}))
    with refused(next(iter(options))):
        bu.compare(**{"results": [result, other], **options})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tilt_deg", "x"),
        ("tilt_deg", np.inf),
        ("tilt_deg", 10**400),
        ("resolution_eV", 1e5),
        ("beam_energy_keV", np.arange(3)),
        ("elements", ["Xx"]),
        ("elements", np.arange(3)),
        ("missing", ()),
        ("sources", {}),
    ],
)
def test_odd_facts(image: bu.SpectrumImage, name: str, value: Any) -> None:  # noqa: ANN401
    with refused(name):
        image.replace_facts(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("acquisition", {"beam_energy_keV": 200}),
        ("origin", "x"),
        ("origin", None),
        ("origin", (1, 2, 3)),
        ("pixel_size", b"xx"),
        ("pixel_size", True),
        ("pixel_unit", np.arange(3)),
        ("images", -1),
        ("images", {3: COUNTS[0]}),
        ("name", Speechless()),
        ("warnings", None),
        ("warnings", "odd"),
        ("energy_keV", 10**400),
        ("energy_keV", Speechless()),
        ("counts", Speechless()),
        ("mask", Speechless()),
    ],
)
def test_odd_fields_of_a_map(name: str, value: object) -> None:
    with refused(name):
        bu.SpectrumImage(**{"counts": COUNTS, "energy_keV": ENERGY, name: value})  # type: ignore[arg-type]


def test_from_array_takes_an_acquisition_and_no_table() -> None:
    with refused("acquisition"):
        bu.SpectrumImage.from_array(COUNTS, ENERGY, acquisition={"beam_energy_keV": 200})  # type: ignore[arg-type]


def test_numbers_of_every_kind_are_numbers(image: bu.SpectrumImage) -> None:
    facts = image.replace_facts(resolution_eV=fractions.Fraction(261, 2), tilt_deg=np.float16(1.0))
    assert facts.acquisition.resolution_eV == 130.5
    assert "130.5 eV" in repr(facts)
    assert image[:, :4].rebin(np.array(2)).shape == (2, 2, 40)
    sized = bu.SpectrumImage.from_array(COUNTS, ENERGY, acquisition=image.acquisition, pixel_size=np.array(3))
    assert sized.pixel_size == (3.0, 3.0)


@pytest.mark.parametrize(
    ("axis", "told"),
    [
        (
            1e-3 * ENERGY,
            "channels of 0.0001 to 1 keV, but has channels of 5e-05 keV. Multiply an axis in MeV",
        ),
        (1e-12 * ENERGY, "channels of 0.0001 to 1 keV"),
        (2.0 * np.arange(40), "Divide an axis in eV"),
        (ENERGY - 1e6, "begin at -100 keV or above"),
    ],
)
def test_an_axis_in_another_unit_is_refused(axis: np.ndarray[Any, Any], told: str) -> None:
    with refused("energy_keV") as caught:
        bu.SpectrumImage.from_array(COUNTS, axis)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", ["energy_offset_keV", "energy_scale_keV"])
def test_an_axis_that_is_given_has_the_configurations_limits(file: Path, name: str) -> None:
    with refused(name):
        bu.load(file, **{name: 1e5})


def test_an_object_that_cannot_be_shown_is_told_by_its_type() -> None:
    assert shown(Speechless()) == "Speechless that cannot be shown"


@pytest.mark.parametrize("value", [True, np.True_, 1])
def test_truths(value: object) -> None:
    assert check_flag("spatial", value) is True


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [
        ("Detector.EDS.energy_resolution_MnKa", "resolution_eV", 1e300),
        ("Detector.EDS.energy_resolution_MnKa", "resolution_eV", 0.13),
        ("beam_energy", "beam_energy_keV", 200_000),
        ("Stage.tilt_alpha", "tilt_deg", 1e300),
        ("Detector.EDS.live_time", "live_time_s", 1e300),
    ],
)
def test_a_fact_of_a_signal_that_cannot_be_is_left_out_and_told(
    image: bu.SpectrumImage, place: str, name: str, value: float
) -> None:
    signal = image.replace_facts(resolution_eV=130.0, tilt_deg=10.0, live_time_s=60.0).to_signal()
    signal.metadata.set_item(f"Acquisition_instrument.TEM.{place}", value)
    with pytest.warns(BayesUnmixWarning) as told:
        found = bu.SpectrumImage.from_signal(signal)
    assert getattr(found.acquisition, name) is None
    assert any(f"The map's {name} of {value:g} does not lie between" in str(one.message) for one in told)


def test_a_number_that_no_float_can_hold_is_no_fact(image: bu.SpectrumImage) -> None:
    signal = image.to_signal()
    signal.metadata.set_item("Acquisition_instrument.TEM.Detector.EDS.energy_resolution_MnKa", 10**400)
    assert bu.SpectrumImage.from_signal(signal).acquisition.resolution_eV is None
