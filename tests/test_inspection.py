"""What `inspect` says of a map: what is in the file, and which elements its peaks suggest."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import load, save
from bayesunmix.inspection.description import describe, inspect_map
from bayesunmix.inspection.oxygen import oxygen_counts
from bayesunmix.inspection.peak_reading import Reading
from bayesunmix.inspection.peak_sources import PeakSources
from bayesunmix.inspection.peaks import SumSpectrum, siegbahn
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import GAIN, OFFSET_KEV, simulate_map
from bayesunmix.xray import Detector, LineTable, Response, bremsstrahlung

EDGES = np.linspace(0.1, 20.1, 2001)
DETECTOR = Detector.from_resolution()
TABLE = LineTable.built_in(200.0)


def spectrum(amounts: dict[str, float], continuum: float = 2e5, seed: int = 0) -> SumSpectrum:
    """Draw a sum spectrum of elements, given the counts of each element's strongest family, over a continuum."""
    expected = continuum * bremsstrahlung(EDGES, 200.0, DETECTOR.efficiency)
    for element, counts in amounts.items():
        lines = [line for line in TABLE.lines(element) if line.energy_keV > EDGES[0]]
        energy = np.array([line.energy_keV for line in lines])
        strength = np.array([line.strength for line in lines]) * DETECTOR.efficiency(energy)
        shape = DETECTOR.response.spectrum(energy, strength, EDGES)
        expected = expected + counts * shape / shape.sum()
    drawn = np.random.default_rng(seed).poisson(expected).astype(np.float64)
    return SumSpectrum(
        counts=drawn,
        edges_keV=EDGES,
        response=DETECTOR.response,
        table=TABLE,
        beam_energy_keV=200.0,
        efficiency=DETECTOR.efficiency,
    )


@pytest.fixture(scope="module")
def phantom_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "phantom.hspy"
    save(simulate_map(phantom_config(), 0).image, path)
    return path


def test_continuum_alone_has_no_peaks() -> None:
    # About 330 independent widths, 20 draws: at five sigma an accident is a matter of one in a thousand.
    assert sum(len(spectrum({}, seed=seed).peaks) for seed in range(20)) == 0


def test_peak_has_its_energy_and_counts() -> None:
    found = spectrum({"Fe": 2e5}).peaks
    (alpha,) = [peak for peak in found if abs(peak.energy_keV - 6.40) < 0.05]
    lines = [line for line in TABLE.lines("Fe") if line.energy_keV > EDGES[0]]
    energy = np.array([line.energy_keV for line in lines])
    detected = np.array([line.strength for line in lines]) * DETECTOR.efficiency(energy)
    in_peak = np.abs(energy - 6.40) < 0.05
    expected = 2e5 * detected[in_peak].sum() / detected.sum()
    assert alpha.energy_keV == pytest.approx(
        np.average(energy[in_peak], weights=detected[in_peak]), abs=0.003
    )
    assert alpha.net_counts == pytest.approx(expected, rel=0.02)
    assert alpha.significance > 100


@pytest.mark.parametrize(
    "elements",
    [
        ["Mg", "Si", "Fe"],
        ["O", "Al", "Ti"],
        ["Ca", "Ba"],
        ["Fe", "Pt"],
        ["Ga", "As"],
        ["Sr", "Ti", "O"],
        ["Si", "Hf", "O"],
        ["Pb", "Te"],
        ["C", "Cu", "Zr"],
        ["Ag"],
    ],
)
def test_strong_elements_are_found(elements: list[str]) -> None:
    drawn = spectrum(dict.fromkeys(elements, 3e5))
    assert set(PeakSources(drawn).guess()) == set(elements)
    assert set(PeakSources(drawn, tuple(elements)).guess(elements)) == set(
        elements
    )  # nothing is left to explain


def test_noble_gas_comes_last() -> None:
    drawn = spectrum({"Cl": 1e5})
    (peak,) = [peak for peak in drawn.peaks if abs(peak.energy_keV - 2.62) < 0.03]
    found = PeakSources(drawn).candidates(peak)
    assert found[0].name == "Cl"
    assert all(one.probability < 0.05 for one in found if one.name in ("Ar", "Kr"))


def test_explained_by_what_is_given() -> None:
    drawn = spectrum({"Fe": 3e5, "Cu": 3e5})
    made_by = drawn.explained(["Fe"])
    for peak, group in made_by.items():
        near_copper = min(abs(peak.energy_keV - energy) for energy in (0.93, 8.04, 8.905)) < 0.04
        assert (group is None) == near_copper
    labels = {group.label for group in made_by.values() if group is not None}
    assert {"Fe Kα", "Fe Kβ"} <= labels


def test_names_of_lines() -> None:
    assert [siegbahn(line) for line in ("KL3", "KM3", "L2M4", "M5N7", "M3N5")] == [
        "Kα",
        "Kβ",
        "Lβ",
        "Mα",
        "M",
    ]


def test_phantom_in_words(phantom_file: Path) -> None:
    text = inspect_map(phantom_file)
    assert "96 x 96 pixels of 1.7 x 1.7 nm" in text
    assert "1918 channels of 10 eV, 0.818 to 19.99 keV" in text
    assert "beam energy 200 keV, take-off angle 22°, resolution 130 eV" in text
    assert "Missing   live time, real time, beam current" in text
    assert "Named     Mg Al Si Ca Fe Nd Sm Lu Hf U" in text
    fitted = re.search(r"fitted gain ([\d.]+), offset \+([\d.]+) eV", text)
    assert fitted is not None
    assert float(fitted[1]) == pytest.approx(GAIN, abs=3e-4)
    assert float(fitted[2]) == pytest.approx(1e3 * OFFSET_KEV, abs=1.0)
    assert "with the probability of each possible source: candidates, not identifications" in text
    (copper,) = [line for line in text.splitlines() if "  Cu Kα" in line]
    (magnesium,) = [line for line in text.splitlines() if "  Mg Kα" in line]
    assert (copper[0], magnesium[0]) == ("*", " ")
    assert copper.endswith("Cu Kα > 99 %")
    assert 'elements = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"]' in text
    stray = next(line for line in text.splitlines() if line.startswith("stray = "))
    assert {'"Cu"', '"Ga"', '"Pt"'} <= set(stray.removeprefix("stray = [").rstrip("]").split(", "))


def test_proposal_is_a_configuration(phantom_file: Path) -> None:
    text = inspect_map(phantom_file, elements=["Mg", "Al", "Si", "Fe"])
    data = tomllib.loads("phases = 2\n" + text[text.index("# A proposal") :])
    config = RunConfig.from_dict(data)
    assert config.sample.elements[:4] == ("Mg", "Al", "Si", "Fe")
    assert "Ca" in config.sample.elements
    assert "Cu" in config.sample.stray
    assert "Not named, but their peaks are there: Ca" in text
    assert "* marks peaks that no element given explains" in text


def test_given_elements_that_cannot_show(phantom_file: Path) -> None:
    text = inspect_map(phantom_file, elements=["Mg", "O", "H", "Ti"])
    assert "Without a line on this energy axis: O H" in text
    assert "hidden or not there: Ti" in text
    assert "O has no line on the axis" in text


def test_map_without_facts_or_elements(tmp_path: Path) -> None:
    drawn = spectrum({"Ti": 2e5, "Cu": 1e5})
    image = SpectrumImage(
        counts=drawn.counts.astype(np.uint32).reshape(1, 1, -1), energy_keV=drawn.centres_keV, name="bare"
    )
    save(image, tmp_path / "bare.hspy")
    text = inspect_map(tmp_path / "bare.hspy")
    assert "Named     none" in text
    assert "beam energy" in text.split("Missing")[1].splitlines()[0]
    assert 'elements = ["Ti"]\nstray = ["Cu"]' in text


ALLOY = {"Ni": 3e5, "Co": 5e4, "Al": 2e4}
SILICATE = {"O": 2e5, "Si": 2e5, "Mg": 1e5}


def proposed(
    amounts: dict[str, float], first_keV: float = 0.1, blind_keV: float = 0.0, named: tuple[str, ...] = ()
) -> tuple[RunConfig, str]:
    """Return the proposal for a drawn spectrum whose axis begins, and whose window opens, at given energies."""
    drawn = spectrum(amounts, continuum=5e4)
    there = drawn.centres_keV >= first_keV
    counts = np.where(drawn.centres_keV > blind_keV, drawn.counts, 0.0)[there]
    facts = Acquisition(beam_energy_keV=200.0, elements=named)
    image = SpectrumImage(
        counts=counts.astype(np.uint32).reshape(1, 1, -1),
        energy_keV=drawn.centres_keV[there],
        acquisition=facts,
    )
    text = describe(image)
    return RunConfig.from_dict(tomllib.loads("phases = 2\n" + text[text.index("# A proposal") :])), text


@pytest.mark.parametrize(
    ("film", "named"),
    [
        (0.0, ()),
        (3e3, ("Ni", "Co", "Al")),
        pytest.param(0.0, ("Ni", "Co", "Al"), marks=pytest.mark.calibration),
        pytest.param(3e3, (), marks=pytest.mark.calibration),
    ],
)
def test_a_metal_is_no_oxide(film: float, named: tuple[str, ...]) -> None:
    config, text = proposed({**ALLOY, **({"O": film} if film else {})}, named=named)
    assert config.sample.oxygen == "none"
    assert ("O" in config.sample.stray) == bool(film)
    assert re.search(r"# No oxides: O Kα has at most [\d,]+ counts where oxides .* about [\d,]+\.", text)


def test_oxygen_of_a_part_of_the_map_is_measured() -> None:
    """Far too little for an oxide everywhere, but one grain of the metal is one."""
    metal, oxide = spectrum(ALLOY, continuum=5e4), spectrum({**ALLOY, "O": 6e4}, continuum=5e4)
    rng = np.random.default_rng(3)
    counts = rng.poisson(metal.counts / 400.0, (20, 20, metal.counts.size))
    counts[5:9, 5:9] = rng.poisson(oxide.counts / 400.0, (4, 4, metal.counts.size))
    facts = Acquisition(beam_energy_keV=200.0)
    image = SpectrumImage(counts=counts.astype(np.uint32), energy_keV=metal.centres_keV, acquisition=facts)
    text = describe(image)
    assert "No oxides" not in text
    config = RunConfig.from_dict(tomllib.loads("phases = 2\n" + text[text.index("# A proposal") :]))
    assert config.sample.oxygen == "measured"
    assert "O" in config.sample.elements


def test_an_element_with_soft_peaks_alone_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reading, "only_soft", lambda _, element: element == "Al")
    config, text = proposed(ALLOY)
    assert "# Left out, since they have no peak of their own above 1 keV: Al." in text
    assert config.sample.elements == ("Ni", "Co")
    assert "Al" not in config.sample.stray


@pytest.mark.parametrize(
    ("amounts", "first_keV", "blind_keV", "named", "expected"),
    [
        (SILICATE, 0.1, 0.0, (), "measured"),
        pytest.param(SILICATE, 0.1, 0.0, ("Si", "Mg"), "stoichiometry", marks=pytest.mark.calibration),
        # Neither an axis nor a window that leaves the line out shows that it is missing.
        (ALLOY, 0.62, 0.0, (), "stoichiometry"),
        pytest.param(ALLOY, 0.1, 0.62, (), "stoichiometry", marks=pytest.mark.calibration),
    ],
)
def test_an_oxide_and_what_may_be_one_keep_their_oxygen(
    amounts: dict[str, float], first_keV: float, blind_keV: float, named: tuple[str, ...], expected: str
) -> None:
    config, text = proposed(amounts, first_keV, blind_keV, named)
    assert config.sample.oxygen == expected
    assert "No oxides" not in text


def test_oxygen_of_oxides_is_estimated() -> None:
    """The strengths of the table, with which the spectrum is drawn, give the counts of oxygen of SiO2 and MgO."""
    strength = {
        (line.element, line.family): 0.0 for line in TABLE.entries if line.element in ("O", "Mg", "Si")
    }
    for line in TABLE.entries:
        if (line.element, line.family) in strength:
            strength[line.element, line.family] += line.strength * float(DETECTOR.efficiency(line.energy_keV))
    atoms = {"Si": 2e5 / strength["Si", "K"], "Mg": 1e5 / strength["Mg", "K"]}
    oxide = (2.0 * atoms["Si"] + atoms["Mg"]) * strength["O", "K"]
    counts = oxygen_counts(spectrum({**SILICATE, "O": oxide}), ["O", "Si", "Mg"], ["Si", "Mg"])
    assert counts is not None
    assert counts.asked == pytest.approx(oxide, rel=0.02)
    assert counts.most == pytest.approx(oxide, rel=0.05)


def test_elements_that_only_the_file_names_are_said() -> None:
    _, text = proposed(ALLOY, named=("Ni", "Co", "Al", "Pd"))
    assert "# Named by the file alone, without a peak of their own: Pd. Leave out" in text
    _, text = proposed(ALLOY, named=("Ni", "Co", "Al"))
    assert "Named by the file alone" not in text


def test_dark_map(tmp_path: Path) -> None:
    counts = np.zeros((2, 2, 2000), np.uint8)
    counts[0, 0, 700] = 1
    save(SpectrumImage(counts=counts, energy_keV=np.linspace(0.1, 20.0, 2000)), tmp_path / "dark.hspy")
    text = inspect_map(tmp_path / "dark.hspy")
    assert "No peak stands out" in text
    assert "No elements to propose" in text


def test_channels_that_count_wrongly_are_told(phantom_file: Path, tmp_path: Path) -> None:
    image = load(phantom_file)
    counts = image.counts.copy()
    counts[:, :, 300:310] = 0
    counts[:, :, 700] = 9
    save(dataclasses.replace(image, counts=counts), tmp_path / "odd.hspy")
    text = inspect_map(tmp_path / "odd.hspy")
    edges = image.channel_edges_keV
    assert f"Note      There are no counts from {edges[300]:.3f} to {edges[310]:.3f} keV" in text
    assert f"Note      There are far more counts from {edges[700]:.3f} to {edges[701]:.3f} keV" in text
    assert "There are" not in inspect_map(phantom_file)


def test_no_map(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`MAP` must be an existing file"):
        inspect_map(tmp_path / "none.hspy")


@pytest.mark.parametrize(
    ("name", "elements"),
    [
        ("71GPa_subsolidus.hspy", "Mg Al Si Ca Fe Nd U Cu Ga Pt Zr"),
        ("vendor/bcf_v2_50x50px.bcf", "Ag Al C Cu O"),
        ("vendor/test_TEM.bcf", "Ti O Si N"),
    ],
)
def test_measured_maps(shared_data: Path, name: str, elements: str) -> None:
    text = inspect_map(shared_data / name)
    proposal = text[text.index("[sample]") :]
    assert all(f'"{element}"' in proposal for element in elements.split())


def test_response_of_a_shifted_axis() -> None:
    drawn = spectrum({"Fe": 3e5})
    shifted = SumSpectrum(
        counts=drawn.counts,
        edges_keV=EDGES,
        response=Response(offset_keV=0.5),
        table=TABLE,
        beam_energy_keV=200.0,
        efficiency=DETECTOR.efficiency,
    )
    assert all(group is None for group in shifted.explained(["Fe"]).values())
