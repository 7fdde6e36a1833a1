"""A simulated map has the truth it claims: totals, layout, response, calibration error, and all of it in the file."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayesunmix as bu
from bayesunmix.chemistry.stoichiometry import site_weights
from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.simulation import SimulateConfig
from bayesunmix.core.errors import InputError
from bayesunmix.simulation.phantom import grain_layout, phantom_config
from bayesunmix.simulation.simulate import SimulatedMap, Source, Truth, load_truth, simulate_map
from bayesunmix.xray import LineTable, fit_axis

PLAIN: dict[str, Any] = {
    "sample": {"elements": ["Mg", "Si", "Fe"], "stray": ["Cu"], "thickness_nm": [100, 30]},
    "phases": [
        {"name": "A", "matrix": True, "composition": {"Mg": 0.5, "Si": 0.5}, "fraction": 0.8},
        {"name": "B", "composition": {"Mg": 0.6, "Fe": 0.4}, "fraction": 0.2},
    ],
    "simulate": {"shape": [24, 30], "counts_per_pixel": 200, "channels": 1000, "step_keV": 0.02},
}


def configured(**changes: object) -> RunConfig:
    """Return the plain configuration with other entries of [simulate]."""
    data = copy.deepcopy(PLAIN)
    data["simulate"] |= changes
    return RunConfig.from_dict(data)


@pytest.fixture(scope="module")
def phantom() -> SimulatedMap:
    return simulate_map(phantom_config(), seed=0)


def expected_counts(simulated: SimulatedMap) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the expected counts of each pixel, up to one factor, from what the truth says."""
    truth = simulated.truth
    return np.asarray(truth.thickness * (truth.abundances @ truth.counts_per_atom))


def test_a_simulated_map_says_what_it_was_drawn_from(phantom: SimulatedMap) -> None:
    text = repr(phantom)
    assert text.startswith("Simulated map, seed ")
    assert all(name in text for name in (*phantom.truth.phases, *phantom.truth.elements))
    assert "pixels of" in text
    assert "<pre" in phantom._repr_html_()


def test_phantom_is_like_the_map(phantom: SimulatedMap) -> None:
    abundances = phantom.truth.abundances
    assert abundances.shape == (96, 96, 3)
    np.testing.assert_allclose(abundances.sum(axis=2), 1.0, atol=1e-12)
    np.testing.assert_allclose(abundances.mean(axis=(0, 1)), [0.9077, 0.0685, 0.0238], rtol=0.01)
    assert 0.45 < np.mean(abundances[..., 0] == 1.0) < 0.70
    assert abundances[..., 1:].max() == pytest.approx(0.77, abs=1e-6)
    image = phantom.image
    assert image.counts.dtype == np.uint8
    assert (image.n_channels, image.energy_keV[0]) == (1918, pytest.approx(0.818))
    # 108 counts in each of 9216 pixels: 0.1 standard errors are 0.1.
    assert image.total_counts.mean() == pytest.approx(108.0, abs=5.0 * np.sqrt(108.0 / 9216))


def test_phantom_compositions_are_what_the_phases_may_hold() -> None:
    config = phantom_config()
    truth = {phase.name: phase.composition for phase in config.simulated_phases}
    assert all(sum(composition.values()) == pytest.approx(1.0, abs=1e-9) for composition in truth.values())
    brg = np.array([truth["Brg"][element] for element in config.sample.elements])
    weights = site_weights("ABO3", config.sample.elements)
    assert (weights.a @ brg) / (weights.b @ brg) == pytest.approx(1.0, abs=0.01)
    assert not set(truth["Fp"]) & {"Si", "Ca", "Nd", "Sm", "Lu", "Hf", "U"}


def test_counts_follow_the_stated_truth() -> None:
    simulated = simulate_map(configured(), seed=1)
    image, truth = simulated.image, simulated.truth
    expected = expected_counts(simulated)
    expected *= 200.0 / expected.mean()
    pixels = (image.total_counts - expected) / np.sqrt(expected)
    # The sum of N squared deviations has mean N and variance 2 N for counts this large.
    assert np.sum(pixels**2) == pytest.approx(pixels.size, abs=5.0 * np.sqrt(2.0 * pixels.size))
    weights = truth.thickness[..., None] * truth.abundances * truth.counts_per_atom
    weights *= 200.0 / weights.sum(axis=2).mean()
    spectrum = weights.sum(axis=(0, 1)) @ truth.endmembers
    deviation = (image.sum_spectrum() - spectrum)[spectrum > 20] / np.sqrt(spectrum[spectrum > 20])
    assert np.sum(deviation**2) == pytest.approx(deviation.size, abs=5.0 * np.sqrt(2.0 * deviation.size))


def test_the_map_gives_back_response_continuum_and_stray(phantom: SimulatedMap) -> None:
    config, image = phantom_config(), phantom.image
    table = LineTable.built_in(200.0, [*config.sample.elements, *config.sample.stray])
    fit = fit_axis(
        image.sum_spectrum(), image.channel_edges_keV, table, config.sample.elements, config.sample.stray
    )
    for name, error in fit.standard_errors.items():
        assert getattr(fit.response, name) == pytest.approx(
            getattr(phantom.truth.response, name), abs=5 * error
        )
    assert fit.deviance_per_dof == pytest.approx(1.0, abs=5.0 * np.sqrt(2.0 / fit.degrees_of_freedom))
    counts = dict(zip(fit.components, fit.spectra.sum(axis=1) / fit.expected.sum(), strict=True))
    continuum = sum(share for name, share in counts.items() if name.startswith("continuum"))
    assert continuum == pytest.approx(0.2, abs=0.01)
    assert counts["Cu_K"] + counts["Cu_L"] == pytest.approx(0.046, abs=0.003)


def test_same_seed_same_map() -> None:
    first, again, other = (simulate_map(configured(), seed).image.count_hash() for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_calibration_error_is_drawn_from_the_prior() -> None:
    config = configured(calibration_error=True, shape=[2, 2])
    draws = [simulate_map(config, seed).truth for seed in range(60)]
    silicon = np.log([truth.line_factors["Si_K"] for truth in draws])
    copper = np.log([truth.line_factors["Cu_L"] for truth in draws])
    # Five standard errors of a standard deviation from 60 draws: 5 / sqrt(2 x 59) = 0.46.
    assert silicon.std(ddof=1) == pytest.approx(0.05, rel=0.46)
    assert copper.std(ddof=1) == pytest.approx(0.10, rel=0.46)
    assert len({truth.mass_thickness_factor for truth in draws}) == 60
    nominal = simulate_map(configured(shape=[2, 2]), 0).truth
    assert set(nominal.line_factors.values()) == {1.0}
    assert nominal.mass_thickness_factor == 1.0


def test_calibration_error_changes_the_spectra_and_not_the_layout() -> None:
    nominal = simulate_map(configured(), 5).truth
    shifted = simulate_map(configured(calibration_error=True), 5).truth
    np.testing.assert_array_equal(nominal.abundances, shifted.abundances)
    assert np.abs(shifted.endmembers / nominal.endmembers - 1.0)[nominal.endmembers > 1e-3].max() > 0.01


def test_abundances_may_be_given() -> None:
    given = np.zeros((5, 7, 2), dtype=np.float32)
    given[..., 0] = np.linspace(0.0, 1.0, 35).reshape(5, 7)
    given[..., 1] = 1.0 - given[..., 0]
    simulated = simulate_map(configured(counts_per_pixel=5000), 5, abundances=given)
    assert simulated.image.shape[:2] == (5, 7)
    np.testing.assert_allclose(simulated.truth.abundances, given, atol=1e-6)
    counts = simulated.image.counts.sum(axis=2)
    # Expected counts go with abundance and thickness, whatever the scale.
    expected = expected_counts(simulated)
    expected *= counts.sum() / expected.sum()
    assert (((counts - expected) ** 2) / expected).sum() < 35 + 5.0 * np.sqrt(70.0)


@pytest.mark.parametrize(
    ("wrong", "was"),
    [
        (np.full((4, 4, 3), 1 / 3), "shape (4, 4, 3)"),
        (np.full((4, 4, 2), 0.4), "sums from 0.8 to 0.8"),
        (np.dstack([np.full((4, 4), 1.5), np.full((4, 4), -0.5)]), "down to -0.5"),
    ],
)
def test_abundances_that_are_no_shares_are_refused(wrong: np.ndarray, was: str) -> None:
    with pytest.raises(InputError, match="abundances") as caught:
        simulate_map(configured(), 0, abundances=wrong)
    assert was in str(caught.value)


def test_a_departure_changes_the_physics_and_neither_layout_nor_errors() -> None:
    config = configured(calibration_error=True)

    def departure(source: Source) -> Source:
        off = dataclasses.replace(source.response, offset_keV=source.response.offset_keV + 0.1)
        return dataclasses.replace(source, response=off)

    usual, departed = simulate_map(config, 5), simulate_map(config, 5, departure=departure)
    assert departed.truth.response.offset_keV == pytest.approx(usual.truth.response.offset_keV + 0.1)
    assert departed.truth.line_factors == usual.truth.line_factors
    np.testing.assert_array_equal(departed.truth.abundances, usual.truth.abundances)
    # Channels are 0.02 keV wide, so the strongest line, that of silicon, is five of them higher.
    tops = [int(simulated.truth.endmembers[0].argmax()) for simulated in (usual, departed)]
    assert tops[1] - tops[0] == 5


def test_a_wedge_is_as_steep_as_asked() -> None:
    truth = simulate_map(configured(thickness_variation=0.0, wedge=-0.6), 0).truth
    across = truth.thickness.mean(axis=0)
    slopes = np.diff(across) * len(across)
    assert slopes == pytest.approx(-0.6, rel=1e-6)
    assert truth.thickness == pytest.approx(np.tile(across, (len(truth.thickness), 1)))


def test_thickness_varies_as_asked() -> None:
    truth = simulate_map(configured(thickness_variation=0.2), 0).truth
    assert truth.thickness.mean() == pytest.approx(1.0)
    assert truth.thickness.std() == pytest.approx(0.2, rel=0.05)
    even = simulate_map(configured(thickness_variation=0.0), 0).truth
    np.testing.assert_allclose(even.thickness, 1.0)


def test_oxygen_appears_where_the_axis_shows_it() -> None:
    simulated = simulate_map(configured(offset_keV=-0.2, stray={"Cu": 0.0}), 0)
    energy = simulated.image.energy_keV
    oxygen = np.abs(energy - 0.525) < 0.1
    below = np.abs(energy - 0.325) < 0.1
    for endmember in simulated.truth.endmembers:
        assert endmember[oxygen].sum() > 3.0 * endmember[below].sum()


def test_truth_survives_a_file(tmp_path: Path) -> None:
    simulated = simulate_map(configured(), 0)
    simulated.to_signal().save(str(tmp_path / "map.hspy"))
    truth = load_truth(tmp_path / "map.hspy")
    for name in ("composition", "abundances", "endmembers", "counts_per_atom", "thickness"):
        np.testing.assert_array_equal(getattr(truth, name), getattr(simulated.truth, name))
    assert (truth.phases, truth.elements) == (("A", "B"), ("Mg", "Si", "Fe"))
    assert truth.line_factors == simulated.truth.line_factors
    assert (truth.response, truth.seed) == (simulated.truth.response, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # every fact that an analysis needs is there
        image = bu.load(tmp_path / "map.hspy")
    assert image.count_hash() == simulated.image.count_hash()
    assert image.acquisition.beam_energy_keV == 200.0
    assert image.acquisition.takeoff_angle_deg == pytest.approx(22.0)
    assert image.acquisition.elements == ("Mg", "Si", "Fe")
    assert image.pixel_size == pytest.approx(simulated.image.pixel_size)


def test_a_file_without_truth(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`MAP` must be an existing file"):
        load_truth(tmp_path / "map.hspy")
    with pytest.raises(InputError, match=r"`MAP` must be a map drawn by `bayesunmix simulate`"):
        Truth.from_metadata({"vendor": {}})


def test_partition_of_the_truth(phantom: SimulatedMap) -> None:
    ratios = phantom.truth.partition("CaPv", "Brg")
    assert ratios["U"] == pytest.approx(30.0)
    assert ratios["Mg"] == 0.0
    assert phantom.truth.partition("CaPv", "Fp")["Nd"] == np.inf
    assert phantom.truth.partition("Fp", "CaPv")["Hf"] == 0.0
    assert all(ratio == pytest.approx(1.0) for ratio in phantom.truth.partition("Brg", "Brg").values())
    assert np.isnan(phantom.truth.partition("Fp", "Fp")["U"])


@pytest.mark.parametrize(
    ("shape", "fractions", "matrix"),
    [
        ((64, 64), [0.9, 0.07, 0.03], [True, False, False]),
        ((64, 64), [0.5, 0.3, 0.2], [True, False, False]),
        ((64, 64), [0.4, 0.12, 0.12, 0.12, 0.12, 0.12], [True] + 5 * [False]),
        ((64, 64), [0.5, 0.3, 0.2], [False, False, False]),
        ((64, 64), [0.4, 0.4, 0.2], [True, True, False]),
        ((64, 64), [1.0, 0.0], [True, False]),
        ((64, 64), [0.0, 0.5, 0.5], [True, False, False]),
        ((1, 1), [0.6, 0.4], [True, False]),
    ],
)
@pytest.mark.parametrize("seed", [0, 1])
def test_layout_meets_the_fractions(
    shape: tuple[int, int], fractions: list[float], matrix: list[bool], seed: int
) -> None:
    abundances = grain_layout(shape, fractions, matrix, np.random.default_rng(seed))
    assert abundances.shape == (*shape, len(fractions))
    assert abundances.min() >= 0.0
    np.testing.assert_allclose(abundances.sum(axis=2), 1.0, atol=1e-9)
    np.testing.assert_allclose(abundances.mean(axis=(0, 1)), fractions, rtol=0.02, atol=0.003)


def test_layout_keeps_what_matrix_means() -> None:
    embedded = grain_layout((64, 64), [0.7, 0.2, 0.1], [True, False, False], np.random.default_rng(2))
    assert np.mean(embedded[..., 0] == 1.0) > 0.35
    assert embedded[..., 1:].max() < 0.9
    filling = grain_layout((64, 64), [0.7, 0.2, 0.1], [False, False, False], np.random.default_rng(2))
    assert np.all(np.mean(filling == 1.0, axis=(0, 1)) > 0.01)


def test_bare_configuration_is_enough() -> None:
    data = {
        "sample": {"elements": ["Pb"]},
        "phases": [{"name": "lead", "composition": {"Pb": 1.0}, "fraction": 1.0}],
        "simulate": {"shape": [3, 5], "calibration_error": True},
    }
    simulated = simulate_map(RunConfig.from_dict(data), 0)
    assert simulated.image.shape == (3, 5, 1918)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (
            "sample.elements",
            ["Mg", "Si", "Fe", "B"],
            "`sample.elements` must have lines on the axis .* but B has none",
        ),
        ("sample.stray", ["Be"], "`sample.stray` must have lines on the axis"),
        ("simulate.offset_keV", 80, "`sample.elements` must have lines on the axis"),
        ("simulate.offset_keV", 818, "`simulate.offset_keV` must lie between -5 and 100"),
        ("simulate.step_keV", 10, "`simulate.step_keV` must lie between"),
        ("simulate.channels", 1, "`simulate.channels` must be a whole number from 2"),
        ("simulate.continuum", 1.0, "`simulate.continuum` must lie between 0 and 0.9"),
        ("simulate.thickness_variation", -0.1, "`simulate.thickness_variation` must lie between"),
        ("simulate.stray", 0.1, r"`simulate.stray` must be a table such as \{Cu = 0.05\}"),
        ("simulate.stray", {"Xx": 0.1}, "`simulate.stray` must be a chemical symbol"),
        ("simulate.stray", {"Cu": 2}, "`simulate.stray.Cu` must lie between 0 and 1"),
        (
            "simulate.stray",
            {"Cu": 0.85},
            "`simulate.continuum and simulate.stray` must leave counts for the phases",
        ),
        (
            "simulate.stray",
            {"Ga": 0.1},
            "`simulate.stray` must name elements of `sample.stray`, but holds Ga",
        ),
        ("phases", "auto", "`phases` must be tables with a composition"),
    ],
)
def test_what_cannot_be_simulated_is_refused(place: str, value: object, message: str) -> None:
    data = copy.deepcopy(PLAIN)
    table, _, key = place.partition(".")
    if key:
        data[table][key] = value
    else:
        data[table] = value
    with pytest.raises(InputError, match=message) as caught:
        simulate_map(RunConfig.from_dict(data), 0)
    assert "\n" not in str(caught.value)


def test_defaults_are_those_of_the_map() -> None:
    plan = SimulateConfig()
    assert (plan.offset_keV, plan.step_keV, plan.channels) == (0.818, 0.01, 1918)
    assert RunConfig.from_dict(phantom_config().to_dict()) == phantom_config()
