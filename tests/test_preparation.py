"""What is settled before inference: refusals, what is noted, and counts that are all kept."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.core.severity import Distrust, Reservation
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.sample_lines import mean_composition
from bayesunmix.fit.setup import Setup
from bayesunmix.simulation.simulate import simulate_map
from bayesunmix.xray import Detector, LineTable

DECLARED: dict[str, Any] = {
    "sample": {
        "elements": ["Mg", "Si", "Fe"],
        "stray": ["Cu"],
        "thickness_nm": [100.0, 30.0],
        "density_g_cm3": [4.5, 0.3],
    },
    "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
    "phases": [
        {"name": "A", "composition": {"Mg": 0.5, "Si": 0.45, "Fe": 0.05}, "fraction": 0.6},
        {"name": "B", "absent": ["Si"], "composition": {"Mg": 0.8, "Fe": 0.2}, "fraction": 0.4},
    ],
    "simulate": {"shape": [16, 20], "counts_per_pixel": 120.0, "stray": {"Cu": 0.03}, "channels": 1100},
}


def config(**tables: Any) -> RunConfig:  # noqa: ANN401
    """Return the declared configuration with tables updated, or replaced where they are no tables."""
    data = dict(DECLARED)
    for name, table in tables.items():
        data[name] = {**data.get(name, {}), **table} if isinstance(table, dict) else table
    return RunConfig.from_dict(data)


@pytest.fixture(scope="module")
def image() -> SpectrumImage:
    return simulate_map(config(), 5).image


@pytest.fixture(scope="module")
def setup(image: SpectrumImage) -> Setup:
    return prepare(image, config())


def without_facts(image: SpectrumImage) -> SpectrumImage:
    return dataclasses.replace(image, acquisition=Acquisition())


def test_every_count_is_kept(image: SpectrumImage, setup: Setup) -> None:
    inside = (image.energy_keV >= 0.2) & (image.energy_keV <= 196)
    assert setup.blocks.counts.sum() == image.counts[:, :, inside].sum()
    assert setup.image.n_channels == inside.sum()
    np.testing.assert_array_equal(setup.axis_keV, image.energy_keV)
    assert setup.blocks.n_blocks == 16 * 20  # a small map keeps its pixels
    assert setup.blocks.n_bins < setup.image.n_channels


def test_dim_pixels_are_joined(image: SpectrumImage) -> None:
    large = dataclasses.replace(image, counts=np.tile(image.counts, (3, 4, 1)))
    blocks = prepare(large, config()).blocks
    assert blocks.block_side == 2  # 120 counts in a pixel; three would leave fewer than 500 blocks
    assert blocks.counts.sum() == 12 * image.counts.sum()


def test_physics_is_that_of_the_configuration(setup: Setup) -> None:
    assert setup.forward.elements == ("Mg", "Si", "Fe")
    # The axis begins a little above the L1 lines of iron.
    assert setup.forward.components == ("Mg", "Si", "Fe", "Cu_K", "Cu_L", "flanks", "continuum")
    assert [family.name for family in setup.forward.families if family.component == 5] == ["Fe_L"]
    assert setup.forward.film.thickness_nm == (100.0, 30.0)
    assert setup.forward.film.takeoff_angle_deg == 22.0
    assert setup.forward.film.oxygen
    assert [phase.name for phase in setup.phases] == ["A", "B"]
    assert setup.warnings == ()


def test_axis_and_composition_of_the_whole_map(setup: Setup) -> None:
    # The simulated axis is 0.15 % and 8 eV off: at 1.74 keV that is 5.4 eV.
    response = setup.spectrum.response
    assert float(response.apparent_keV(1.74)) == pytest.approx(0.9985 * 1.74 + 0.008, abs=0.001)
    # From the sum spectrum without absorption: near the truth of 0.62, 0.27, 0.11, not at it.
    np.testing.assert_allclose(setup.mean_composition, [0.62, 0.27, 0.11], atol=0.08)
    assert setup.mean_composition.sum() == pytest.approx(1.0)


def test_empty_blocks_are_left_out(image: SpectrumImage) -> None:
    counts = np.array(image.counts)
    counts[:6] = 0
    dark = prepare(dataclasses.replace(image, counts=counts), config())
    assert (dark.blocks.total_counts > 0).all()
    low = dark.image.energy_keV[0]
    assert dark.blocks.counts.sum() == counts[:, :, image.energy_keV >= low - 1e-9].sum()


def test_an_energy_range_is_cut_out(image: SpectrumImage) -> None:
    cut = prepare(image, config(map={"energy_range": [1.0, 9.0]}))
    assert cut.image.energy_keV[0] == pytest.approx(1.0, abs=0.011)
    assert cut.image.energy_keV[-1] == pytest.approx(9.0, abs=0.011)
    assert cut.blocks.edges_keV[0] == pytest.approx(cut.image.channel_edges_keV[0])
    assert cut.axis_keV[-1] == image.energy_keV[-1]


def test_configuration_wins_over_the_file(image: SpectrumImage) -> None:
    found = prepare(
        image,
        config(instrument={"beam_energy_keV": 120.0, "takeoff_angle_deg": 35.0}, xray={"absorption_sd": 0.2}),
    )
    assert found.forward.film.absorption_sd == 0.2
    assert found.forward.beam_energy_keV == 120.0
    assert found.forward.film.takeoff_angle_deg == 35.0
    file_alone = dataclasses.replace(config(), instrument=type(config().instrument)())
    assert prepare(image, file_alone).forward.beam_energy_keV == 200.0


def test_measured_k_factors_are_used(image: SpectrumImage, setup: Setup) -> None:
    found = prepare(image, config(xray={"k_factors": {"Fe_K": [1.5, 0.03], "Si_K": [1.0, 0.0]}}))
    place = found.forward.elements.index("Fe")
    assert found.forward.calibration_sd[place] == pytest.approx(0.02)
    assert setup.forward.calibration_sd[place] == setup.forward.table.calibration_sd("Fe", "K") > 0.04
    assert "measured k-factors of Fe_K" in found.forward.table.source


def test_a_line_table_replaces_the_built_in_one(image: SpectrumImage, tmp_path: Path) -> None:
    calculated = LineTable.built_in(200.0, ["Mg", "Si", "Fe"])
    keys = ("line", "family", "energy_keV", "strength")
    lines = {
        element: [{key: getattr(line, key) for key in keys} for line in calculated.lines(element, "K")]
        for element in calculated.elements
    }
    path = tmp_path / "lines.json"
    path.write_text(json.dumps(lines))
    # Cu is not in the table: a stray element has built-in lines then, and one note, not two that contradict each other.
    with pytest.warns(BayesUnmixWarning, match="holds no lines of Cu: as stray signal") as caught:
        found = prepare(image, config(xray={"table": str(path)}))
    assert not [warning for warning in caught if "not declared" in str(warning.message)]
    assert found.forward.table.source == "file lines.json"
    assert found.spectrum.found == {}
    assert found.forward.components == ("Mg", "Si", "Fe", "Cu_K", "Cu_L", "continuum")
    # 3 % of 120 counts in 320 pixels were planted, K and L lines together, part of L below the axis.
    planted = found.spectrum.counts["Cu_K"] + found.spectrum.counts["Cu_L"]
    assert planted == pytest.approx(0.03 * 120 * 320, rel=0.25)
    path.write_text(json.dumps({name: lines[name] for name in ("Mg", "Fe")}))
    with pytest.raises(InputError, match=r"`xray.table` must hold lines of Si, but has none"):
        prepare(image, config(xray={"table": str(path)}))


def test_a_stray_element_without_lines_is_warned_of(image: SpectrumImage) -> None:
    with pytest.warns(BayesUnmixWarning, match="stray element B has no line between .* left out") as caught:
        found = prepare(image, config(sample={"stray": ["Cu", "B"]}))
    assert str(caught[0].message) in found.warnings
    assert "B_K" not in found.forward.components
    assert "Cu_K" in found.forward.components


def test_an_undeclared_element_is_noted_and_fitted(image: SpectrumImage, setup: Setup) -> None:
    """Copper that is not declared: said once, fitted as a component of its own, and the composition is the same."""
    with pytest.warns(BayesUnmixWarning, match=r"undeclared elements: Cu \(\d+ counts\)") as caught:
        found = prepare(image, config(sample={"stray": []}))
    assert len(caught) == 1
    assert found.warnings == (str(caught[0].message),)
    assert "`sample.elements`" in found.warnings[0]
    assert "`sample.stray`" in found.warnings[0]
    assert found.forward.components == ("Mg", "Si", "Fe", "flanks", "undeclared", "continuum")
    assert "Cu" not in found.forward.elements
    np.testing.assert_allclose(found.mean_composition, setup.mean_composition, atol=0.01)
    counted = setup.spectrum.counts["Cu_K"]
    lines = {
        family: setup.forward.table.detected_strength("Cu", family, setup.forward.detector.efficiency)
        for family in ("K", "L")
    }
    part = lines["K"] / (lines["K"] + lines["L"])
    error = np.sqrt(counted)
    assert abs(part * found.spectrum.found["Cu"] - counted) < 5.0 * error


def test_composition_of_a_total_spectrum_by_hand() -> None:
    """Counts over detected strengths; the main family is read, and an element without counts keeps a millionth."""
    detector = Detector.from_resolution(130.0)
    table = LineTable.built_in(200.0, ["Mg", "Fe", "Si", "Pb"])

    def strength(element: str, family: str) -> float:
        return table.detected_strength(element, family, detector.efficiency)

    counts = {
        "Mg_K": 2.0 * strength("Mg", "K"),
        "Fe_L": 77.0 * strength("Fe", "L"),
        "Fe_K": 1.0 * strength("Fe", "K"),
        "Pb_M": 55.0 * strength("Pb", "M"),
        "Pb_L": 1.0 * strength("Pb", "L"),
        "Si_K": 0.0,
    }
    found = mean_composition(counts, ["Mg", "Fe", "Pb", "Si"], table, detector)
    np.testing.assert_allclose(found, np.array([2.0, 1.0, 1.0, 2e-6]) / (4.0 + 2e-6), rtol=1e-9)
    missing = mean_composition({"Mg_K": 1.0}, ["Mg", "Fe"], table, detector)
    np.testing.assert_allclose(missing, [1.0, 1e-6], rtol=1e-5)


def test_an_axis_from_zero_on() -> None:
    """Channels from -0.2 keV: 0.2 keV is where lines begin, unless the configuration says zero."""
    plan = config(simulate={"offset_keV": -0.2})
    image = simulate_map(plan, 5).image
    assert prepare(image, plan).image.energy_keV[0] == pytest.approx(0.2, abs=1e-6)
    found = prepare(image, config(map={"energy_range": [0.0, 10.0]}))
    assert found.image.energy_keV[0] == pytest.approx(0.0, abs=1e-6)
    assert found.warnings == ()
    assert found.blocks.counts.sum() == image.counts[:, :, 20:1021].sum()
    np.testing.assert_allclose(found.mean_composition, [0.62, 0.27, 0.11], atol=0.08)
    basis, yields = found.forward.basis(np.full((1, 3), 1 / 3), np.ones((1, 3), bool))
    for array in (basis.continuum_templates, basis.family_templates, yields):
        assert np.isfinite(array).all()


def test_what_is_assumed_is_said(image: SpectrumImage) -> None:
    data = {key: value for key, value in DECLARED["sample"].items() if key in ("elements", "stray")}
    silent = RunConfig.from_dict({**DECLARED, "sample": data, "instrument": {"beam_energy_keV": 200.0}})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = prepare(without_facts(image), silent)
    said = [str(warning.message) for warning in caught]
    for words in ("thickness was not given", "density was not given", "take-off angle is unknown"):
        assert sum(words in sentence for sentence in said) == 1
        assert sum(words in sentence for sentence in found.warnings) == 1
    assert found.forward.film.takeoff_angle_deg is None


def test_warnings_of_the_map_are_kept_and_not_said_twice(image: SpectrumImage) -> None:
    odd = dataclasses.replace(image, warnings=("the map is odd",))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare(odd, config()).warnings == ("the map is odd",)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"map": {"energy_range": [1.0, 300.0]}},
            r"`map.energy_range` must end below the beam energy of 200 keV, but ends at 300 keV",
        ),
        ({"map": {"energy_range": [1.0, 40.0]}}, r"`map.energy_range` must lie on the map's energy axis"),
        ({"map": {"energy_range": [2.5, 9.0]}}, r"`sample.elements` must have lines between .* but Mg has"),
        ({"map": {"energy_range": [3.0, 3.005]}}, r"`map.energy_range` must span at least 0.2 keV"),
        (
            {"instrument": {"beam_energy_keV": 5.0}},
            r"`sample.elements` must have lines between .* but Fe has",
        ),
        ({"sample": {"elements": ["Mg", "Si", "Fe", "H"]}}, r"H"),
        (
            {"instrument": {"resolution_eV": 60.0}},
            r"`instrument.resolution_eV` must exceed .* limit of silicon",
        ),
        ({"xray": {"k_factors": {"Fe_M": [1.0, 0.1]}}}, r"`xray.k_factors` must be keyed by an element and"),
    ],
)
def test_map_and_configuration_that_do_not_go_together(
    image: SpectrumImage, tables: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        prepare(image, config(**tables))
    assert "\n" not in str(caught.value)


def test_a_missing_beam_energy_is_refused(image: SpectrumImage) -> None:
    silent = RunConfig.from_dict({**DECLARED, "instrument": {}})
    with pytest.raises(InputError, match=r"`instrument.beam_energy_keV` must be known, but is missing"):
        prepare(without_facts(image), silent)


def test_an_energy_range_without_counts_is_refused(image: SpectrumImage) -> None:
    counts = np.array(image.counts)
    counts[:, :, image.energy_keV < 9.0] = 0
    with pytest.raises(InputError, match=r"`map.energy_range` must hold counts, but there is none between 1"):
        prepare(dataclasses.replace(image, counts=counts), config(map={"energy_range": [1.0, 8.0]}))


def test_an_axis_below_all_lines_is_refused() -> None:
    tiny = SpectrumImage(
        counts=np.ones((2, 2, 10), np.uint8),
        energy_keV=np.linspace(0.01, 0.1, 10),
        acquisition=Acquisition(beam_energy_keV=200),
    )
    with pytest.raises(InputError, match=r"`energy_keV` must reach between 0.2 keV and the beam energy"):
        prepare(tiny, config())


def test_dead_channels_are_told(image: SpectrumImage) -> None:
    counts = image.counts.copy()
    assert not any("channel" in note for note in prepare(image, config()).warnings)
    middle = int(np.argmax(image.sum_spectrum()))
    counts[..., middle - 2 : middle + 3] = 0
    dead = dataclasses.replace(image, counts=counts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        told = [note for note in prepare(dead, config()).warnings if isinstance(note, Distrust)]
    assert any("There are no counts" in note for note in told)


def test_a_stuck_channel_is_replaced(image: SpectrumImage) -> None:
    counts, channel = image.counts.copy(), int(np.argmax(image.sum_spectrum())) + 20
    counts[..., channel] = counts.max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        setup = prepare(dataclasses.replace(image, counts=counts), config())
        sound = prepare(image, config())
    assert [replaced for replaced, _ in setup.replaced] == [channel]
    (said,) = [note for note in setup.warnings if "fitted in their place" in note]
    assert isinstance(said, Reservation)
    off = setup.fitted_spectrum - sound.fitted_spectrum
    assert np.count_nonzero(off) <= 1
    assert np.abs(off).max() < 6.0 * np.sqrt(2.0 * sound.fitted_spectrum.max())


@pytest.mark.parametrize(("made_of", "said"), [("none", 1), ("stoichiometry", 0)])
def test_a_metal_that_is_taken_for_an_oxide_is_told(made_of: str, said: int) -> None:
    """Where the axis has the line of oxygen; the counts of others there are no oxygen."""
    metals = ["Ni", "Al", "Cr"]
    phases = [
        {"name": "A", "composition": {"Ni": 0.7, "Al": 0.1, "Cr": 0.2}, "fraction": 0.6},
        {"name": "B", "composition": {"Ni": 0.75, "Al": 0.2, "Cr": 0.05}, "fraction": 0.4},
    ]
    drawn = {"counts_per_pixel": 400.0, "offset_keV": 0.1, "channels": 1100}
    made = config(sample={"elements": metals, "oxygen": made_of}, phases=phases, simulate=drawn)
    image = simulate_map(made, 6).image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        setup = prepare(image, config(sample={"elements": metals}, phases=phases, simulate=drawn))
        measured = prepare(image, config(sample={"elements": metals, "oxygen": "none"}, phases=phases))
    found = [text for text in setup.warnings if "O Kα has at most" in text]
    assert len(found) == said
    assert all(isinstance(text, Reservation) for text in found)
    assert not any("O Kα" in text for text in measured.warnings)
