"""Main elements are never proposed as stray; what cannot be of the sample is, with the reason."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage
from bayesunmix.inspection.description import describe
from bayesunmix.xray import Detector, LineTable, bremsstrahlung

EDGES = np.linspace(0.0, 20.0, 2001)
DETECTOR = Detector.from_resolution()
FloatArray = npt.NDArray[np.float64]


def emitted(atoms: dict[str, float], beam_keV: float = 200.0) -> FloatArray:
    """Return the expected spectrum of a thin film, lines with 80 % of its counts of 1."""
    table = LineTable.built_in(beam_keV, tuple(atoms))
    lines = np.zeros(EDGES.size - 1)
    for element, amount in atoms.items():
        energy = np.array([line.energy_keV for line in table.lines(element)])
        strength = np.array([line.strength for line in table.lines(element)]) * DETECTOR.efficiency(energy)
        lines += amount * DETECTOR.response.spectrum(energy, strength, EDGES)
    continuum = bremsstrahlung(EDGES, beam_keV, DETECTOR.efficiency)
    return np.asarray(0.8 * lines / lines.sum() + 0.2 * continuum)


def told(expected: FloatArray, beam_keV: float = 200.0, elements: tuple[str, ...] = ()) -> str:
    """Draw a map (y, x, energy) and describe it."""
    counts = np.random.default_rng(3).poisson(expected).astype(np.uint32)
    facts = Acquisition(beam_energy_keV=beam_keV, microscope="SEM" if beam_keV < 40.0 else "TEM")
    image = SpectrumImage(counts=counts, energy_keV=0.5 * (EDGES[1:] + EDGES[:-1]), acquisition=facts)
    return describe(image, elements=elements)


def proposed(text: str) -> tuple[set[str], set[str]]:
    """Return the elements and the stray ones of a proposal."""
    lines = dict(line.split(" = ") for line in text.splitlines() if line.startswith(("elements", "stray")))
    elements, stray = ({one.strip(' "') for one in lines[key].strip("[]").split(",")} for key in lines)
    return elements, stray - {""}


def phases(first: dict[str, float], second: dict[str, float]) -> FloatArray:
    """Return a map of 12 x 12 pixels, 5000 counts each, that goes from one phase to the other."""
    share = np.clip(np.linspace(-0.5, 1.5, 12), 0.0, 1.0)[None, :, None] * np.ones((12, 1, 1))
    return 5000.0 * ((1.0 - share) * emitted(first) + share * emitted(second))


@pytest.mark.parametrize(
    ("atoms", "beam_keV"),
    [
        ({"Si": 1.0}, 200.0),
        ({"Si": 1.0}, 15.0),
        pytest.param({"Al": 0.9, "Si": 0.1}, 200.0, marks=pytest.mark.calibration),
        pytest.param({"Cu": 0.9, "Sn": 0.1}, 200.0, marks=pytest.mark.calibration),
        ({"Cu": 0.65, "Zn": 0.35}, 20.0),
        pytest.param({"Fe": 0.7, "Cr": 0.2, "Ni": 0.1}, 200.0, marks=pytest.mark.calibration),
        ({"O": 0.6, "Si": 0.2, "Al": 0.1, "Fe": 0.1}, 20.0),
        pytest.param({"Zr": 0.33, "O": 0.67}, 200.0, marks=pytest.mark.calibration),
        ({"W": 0.5, "C": 0.5}, 200.0),
    ],
)
def test_main_elements_are_of_the_sample(atoms: dict[str, float], beam_keV: float) -> None:
    elements, stray = proposed(told(3e5 * emitted(atoms, beam_keV)[None, None], beam_keV))
    assert set(atoms) <= elements
    assert not stray & set(atoms)


def test_metal_of_the_grid_does_not_follow_the_phases() -> None:
    sample = phases({"Mg": 0.5, "Si": 0.3, "O": 0.8}, {"Fe": 0.5, "Ti": 0.3, "O": 0.8})
    text = told(sample + 2000.0 * emitted({"Cu": 1.0}))
    elements, stray = proposed(text)
    assert elements == {"Mg", "Si", "Fe", "Ti", "O"}
    assert stray == {"Cu"}
    (reason,) = [line for line in text.splitlines() if line.startswith("# Cu")]
    assert "Cu under stray (grid): " in reason
    assert "over the map where others vary by up to" in reason


def test_metal_of_a_phase_is_of_the_sample() -> None:
    text = told(phases({"Mg": 0.5, "Si": 0.5}, {"Cu": 0.5, "Ti": 0.5}))
    assert proposed(text) == ({"Mg", "Si", "Cu", "Ti"}, set())
    assert "otherwise than the total counts" in text


def test_weak_lines_are_stray_and_certain_ones_are_proposed() -> None:
    spectrum = 1e6 * emitted({"Mg": 0.4, "Fe": 0.4, "Ti": 0.2, "Ar": 0.01, "Ga": 0.01})
    text = told(spectrum[None, None], elements=("Mg", "Fe"))
    elements, stray = proposed(text)
    assert elements == {"Mg", "Fe", "Ti"}
    assert stray == {"Ar", "Ga"}
    assert "# Not named, but their peaks are there: Ti." in text


def test_oxygen_that_is_measured_is_said_in_the_table() -> None:
    assert 'oxygen = "measured"' in told(3e5 * emitted({"O": 0.6, "Si": 0.4})[None, None])
    named = told(3e5 * emitted({"O": 0.6, "Si": 0.4})[None, None], elements=("Si",))
    assert proposed(named) == ({"Si"}, set())
    assert "O has a line, and follows from the cations' valences" in named


@pytest.mark.parametrize("beam_keV", [5.0, 10.0])
def test_axis_beyond_the_beam(beam_keV: float) -> None:
    expected = np.where(EDGES[1:] < beam_keV, 3e5 * emitted({"Al": 1.0, "O": 1.0, "Na": 0.5}, beam_keV), 0.0)
    text = told(expected[None, None], beam_keV)
    assert {"Al", "O", "Na"} <= proposed(text)[0]
