"""An energy axis that is off is found with its elements, a right one is left alone, and either is said."""

from __future__ import annotations

import dataclasses
import importlib
import re
import tomllib
import warnings
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.image import SpectrumImage
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.setup import Setup
from bayesunmix.inspection import axis_guess
from bayesunmix.inspection.axis_guess import GuessedAxis, guess_axis
from bayesunmix.inspection.axis_search import AxisCandidate, likely_axis, rival_axis
from bayesunmix.inspection.description import describe
from bayesunmix.inspection.peak_reading import read_peaks
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import OFFSET_KEV, simulate_map


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    pytest.MonkeyPatch().syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    return importlib.import_module("axis_search")


@pytest.fixture(scope="module")
def phantom() -> tuple[SpectrumImage, RunConfig]:
    config = phantom_config()
    return simulate_map(config, 0).image, config


@pytest.mark.parametrize(
    ("sample", "offset_keV", "gain", "named"),
    [
        ("silicate", -0.2, 1.0, False),
        pytest.param("Ni-base alloy", 0.095, 1.01, False, marks=pytest.mark.calibration),
        ("catalyst", 0.2, 1.0, True),
        pytest.param("CdTe", 0.15, 0.99, False, marks=pytest.mark.calibration),
    ],
)
def test_axis_that_is_off(
    benchmark: ModuleType, sample: str, offset_keV: float, gain: float, named: bool
) -> None:
    drawn = benchmark.draw(np.random.default_rng(5), sample, offset_keV, gain)
    reading = read_peaks(drawn.image, tuple(drawn.shares) if named else ())
    assert reading.axis.moved is not None
    assert benchmark.judged(drawn, reading) == {
        "found": True,
        "moved": True,
        "missed": False,
        "wrong": False,
        "doubt": False,
    }


def test_axis_behind_a_window(benchmark: ModuleType) -> None:
    drawn = benchmark.draw(np.random.default_rng(5), "feldspar in SEM", 0.15, 0.99)
    reading = read_peaks(drawn.image)
    judged = benchmark.judged(drawn, reading)
    assert judged["found"]
    assert judged["moved"]
    assert not judged["wrong"]
    assert not judged["doubt"]
    main = {element for element, share in drawn.shares.items() if share > benchmark.LEAST_SHARE}
    # Below the edge of carbon a window lets the continuum through as a hump, which looks like a peak of carbon.
    assert main - set(reading.elements) <= {"C"}


@pytest.mark.parametrize(
    ("sample", "named"),
    [
        ("silicate", True),
        ("wafer", False),
        *(
            pytest.param(*case, marks=pytest.mark.calibration)
            for case in [("catalyst", True), ("wafer", True), ("silicate", False), ("catalyst", False)]
        ),
    ],
)
def test_right_axis_is_left_alone(benchmark: ModuleType, sample: str, named: bool) -> None:
    drawn = benchmark.draw(np.random.default_rng(6), sample, 0.005, 1.001)
    reading = read_peaks(drawn.image, tuple(drawn.shares) if named else ())
    assert reading.axis.moved is None
    assert benchmark.judged(drawn, reading)["found"]


def test_inspect_says_by_how_much_and_proposes_the_axis(benchmark: ModuleType) -> None:
    drawn = benchmark.draw(np.random.default_rng(7), "silicate", 0.095, 1.0)
    text = describe(drawn.image)
    said = re.search(r"the file's axis is off by ([+-]\d+) eV at [\d.]+ keV", text)
    assert said is not None
    assert float(said[1]) == pytest.approx(95.0, abs=5.0)
    (oxygen,) = [line for line in text.splitlines() if "  O Kα" in line]
    assert float(oxygen.split()[0].strip("* ")) == pytest.approx(0.525, abs=0.01)
    proposed = RunConfig.from_dict(tomllib.loads("phases = 2\n" + text[text.index("# A proposal") :]))
    assert proposed.map.energy_offset_keV == pytest.approx(drawn.image.energy_keV[0] - 0.095, abs=0.005)
    assert proposed.map.energy_scale_keV == pytest.approx(0.01, rel=1e-3)


def test_ambiguous_axes_are_said() -> None:
    here = AxisCandidate(gain=1.0, offset_keV=0.01, score=100.0, elements=("Si",), misfit=1.0)
    other = AxisCandidate(gain=1.0, offset_keV=0.2, score=110.0, elements=("Al",), misfit=1.0)
    assert likely_axis([here, other]) is None
    assert rival_axis([here, other], None) == other
    clear = dataclasses.replace(other, score=10.0)
    assert likely_axis([here, clear]) == clear
    assert rival_axis([here, clear], clear) is None
    # An axis on which most stays unexplained is no better than the file's.
    assert likely_axis([here, dataclasses.replace(clear, misfit=50.0)]) is None


def prepared(image: SpectrumImage, config: RunConfig) -> tuple[Setup, list[str]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        setup = prepare(image, config)
    return setup, [str(one.message) for one in caught if issubclass(one.category, BayesUnmixWarning)]


def test_run_corrects_the_axis_and_says_so(phantom: tuple[SpectrumImage, RunConfig]) -> None:
    image, config = phantom
    setup, said = prepared(dataclasses.replace(image, energy_keV=image.energy_keV + 0.15), config)
    assert setup.axis.source == "found"
    # The phantom's own axis is off by a few eV, too.
    assert setup.axis.offset_keV == pytest.approx(OFFSET_KEV + 0.15, abs=0.005)
    (note,) = [one for one in said if "energy axis is off" in one]
    assert float(re.search(r"off by ([+-]\d+) eV", note)[1]) == pytest.approx(150.0, abs=10.0)  # type: ignore[index]
    assert note in setup.warnings
    usual, said = prepared(image, config)
    assert usual.axis.source == "file"
    assert not any("energy axis" in one for one in said)
    np.testing.assert_allclose(setup.mean_composition, usual.mean_composition, atol=0.01)


def test_axis_of_the_configuration(phantom: tuple[SpectrumImage, RunConfig]) -> None:
    image, config = phantom
    wrong = dataclasses.replace(image, energy_keV=0.5 + 0.005 * np.arange(image.n_channels))
    given = {"energy_offset_keV": float(image.energy_keV[0]), "energy_scale_keV": image.energy_step_keV}
    config = dataclasses.replace(config, map=dataclasses.replace(config.map, **given))
    setup, said = prepared(wrong, config)
    assert setup.axis.source == "configuration"
    np.testing.assert_allclose(setup.axis_keV, image.energy_keV)
    assert not any("energy axis" in one for one in said)


@pytest.mark.parametrize(
    ("key", "value"), [("energy_scale_keV", 10.0), ("energy_scale_keV", 0.0), ("energy_offset_keV", "x")]
)
def test_axis_that_cannot_be(key: str, value: object) -> None:
    data = {"sample": {"elements": ["Si"]}, "phases": 2, "map": {key: value}}
    with pytest.raises(InputError, match=f"`map.{key}` must"):
        RunConfig.from_dict(data)


def test_soft_lines_whose_energies_are_wrong_move_no_axis(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M lines of rare earths are known least: others, and all that is harder, say where the axis lies."""
    ceria = ({"Ce": 1, "Zr": 0.6, "O": 3, "Pd": 0.5, "Cu": 0.5}, 200.0, 0.0)
    monkeypatch.setitem(benchmark.SAMPLES, "ceria", ceria)
    drawn = benchmark.draw(np.random.default_rng(2), "ceria", 0.0, 1.0)
    counts = 10 * drawn.image.counts
    counts[..., 70:120] = np.roll(counts[..., 70:120], -5, axis=-1)
    reading = read_peaks(dataclasses.replace(drawn.image, counts=counts))
    assert abs(reading.axis.shift_keV(5.0)) < 0.01
    assert abs(reading.axis.shift_keV(0.8)) < 0.01
    assert {"Ce", "Zr", "O", "Pd", "Cu"} <= set(reading.elements)
    assert not any(reading.doubt(element) for element in drawn.shares)


def without_unit(
    drawn_image: SpectrumImage, factor: float, shift: float = 0.0
) -> tuple[SpectrumImage, tuple[float, float]]:
    """Return a map that has lost its axis, and the numbers that its file keeps of it."""
    lost = dataclasses.replace(drawn_image, energy_keV=0.001 * np.arange(drawn_image.n_channels))
    first = float(drawn_image.energy_keV[0]) + shift
    return lost, (factor * first, factor * drawn_image.energy_step_keV)


@pytest.mark.parametrize(("factor", "unit"), [(1.0, "keV"), (1000.0, "eV")])
def test_numbers_without_a_unit_are_tried_first(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, factor: float, unit: str
) -> None:
    monkeypatch.setattr(axis_guess, "SCALES_KEV", ())
    image = benchmark.draw(np.random.default_rng(2), "silicate", 0.0, 1.0).image
    lost, numbers = without_unit(image, factor)
    found = guess_axis(lost, (), numbers)
    assert found is not None
    assert (found.certain, found.unit) == (True, unit)
    assert found.offset_keV == pytest.approx(float(image.energy_keV[0]))
    assert found.scale_keV == pytest.approx(image.energy_step_keV)
    assert guess_axis(lost) is None


def test_numbers_that_the_lines_gainsay_are_no_axis(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(axis_guess, "SCALES_KEV", ())
    image = benchmark.draw(np.random.default_rng(2), "silicate", 0.0, 1.0).image
    lost, (first, step) = without_unit(image, 1.0, shift=0.7)
    for numbers in ((first, 1.3 * step), (first, 1e3), (0.0, 1e-4)):
        assert guess_axis(lost, (), numbers) is None


@pytest.mark.parametrize("enough", [3, 100])
def test_numbers_are_judged_by_the_harder_lines_where_the_soft_ones_are_wrong(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch, enough: int
) -> None:
    monkeypatch.setattr(axis_guess, "SCALES_KEV", ())
    monkeypatch.setattr(axis_guess, "ENOUGH_PEAKS", enough)
    image = benchmark.draw(np.random.default_rng(2), "titanate", 0.0, 1.0).image
    # Peaks that no line of the tables can make.
    counts = image.counts.copy()
    counts[..., 20:110:10] += np.uint32(0.05 * counts.sum())
    lost, numbers = without_unit(dataclasses.replace(image, counts=counts), 1.0)
    found = guess_axis(lost, (), numbers)
    assert (found is not None and found.certain) == (enough == 3)


def test_numbers_with_too_few_lines_are_in_doubt(
    benchmark: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(axis_guess, "SCALES_KEV", ())
    lost, numbers = without_unit(benchmark.draw(np.random.default_rng(0), "wafer", 0.0, 1.0).image, 1.0)
    found = guess_axis(lost, (), numbers)
    assert found is not None
    assert (found.certain, found.unit, found.elements) == (False, "keV", ("Si", "O"))


def test_a_certain_usual_axis_beats_numbers_in_doubt(
    phantom: tuple[SpectrumImage, RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = GuessedAxis(offset_keV=0.0, scale_keV=0.01, misfit=1.0, elements=("Fe", "Si", "Mg"))
    own = GuessedAxis(
        offset_keV=-0.1, scale_keV=0.01, misfit=3.0, elements=("Fe",), certain=False, unit="keV"
    )
    monkeypatch.setattr(axis_guess, "_usual_axis", lambda *_: usual)
    for numbers, expected in ((own, usual), (dataclasses.replace(own, misfit=1.1), None)):
        monkeypatch.setattr(axis_guess, "_own_axis", lambda *_, numbers=numbers: numbers)
        assert guess_axis(phantom[0], (), (-0.1, 0.01)) == (expected or numbers)


def test_an_element_whose_peak_may_be_another_is_in_doubt(benchmark: ModuleType) -> None:
    image = benchmark.draw(np.random.default_rng(1), "GaAs", 0.0, 1.0).image
    # Between O and F, where no element of harder lines that are missing can be meant.
    soft = 0.05 * image.counts.sum() * np.exp(-0.5 * ((image.energy_keV - 0.637) / 0.03) ** 2) / 7.5
    counts = image.counts + np.random.default_rng(0).poisson(soft).astype(np.uint32)
    reading = read_peaks(dataclasses.replace(image, counts=counts))
    unsure = {element: why for element in reading.found if (why := reading.doubt(element))}
    assert list(unsure) == ["F"]
    assert re.fullmatch(r"\d\d %, else none of these", unsure["F"])
    assert f"copied: F ({unsure['F']})." in describe(dataclasses.replace(image, counts=counts))
