"""Regions of misfit: found where they are, as rare in noise as stated, and named after what made them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from bayesunmix.checks.goodness import Segments
from bayesunmix.checks.residual_regions import (
    LEAST_EXPECTED,
    THRESHOLD,
    Cause,
    SpectrumRegion,
    causes,
    expected_accidents,
    find_regions,
    global_threshold,
    likeliest,
    pooled_residuals,
    residual_regions,
    strongest_lines,
)
from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.setup import Setup
from bayesunmix.simulation.simulate import simulate_map

FloatArray = npt.NDArray[np.float64]

EDGES = np.linspace(1.0, 21.0, 2001)
FWHM = np.sqrt(0.05**2 + 0.0025 * 0.5 * (EDGES[1:] + EDGES[:-1]))


def test_pooled_residual_by_hand() -> None:
    edges = np.arange(8.0)
    observed = np.array([10.0, 10.0, 10.0, 40.0, 10.0, 10.0, 0.0])
    z, excess = pooled_residuals(observed, np.full(7, 10.0), edges, np.full(7, 3.0))
    assert excess[2:5].tolist() == [30.0, 30.0, 30.0]
    assert z[3] == pytest.approx(np.sqrt(2 * (60 * np.log(2) - 30)))
    assert (excess[6], z[6] < 0) == (-10.0, True)  # the axis ends: a window of two channels
    assert not pooled_residuals(observed, np.full(7, LEAST_EXPECTED / 4), edges, np.full(7, 3.0))[0].any()


def test_noise_makes_as_many_regions_as_stated() -> None:
    rng = np.random.default_rng(0)
    mean = 4e3 * np.exp(-EDGES[:-1] / 4.0) + 30.0
    draws = 1500
    found = sum(len(find_regions(rng.poisson(mean).astype(float), mean, EDGES, FWHM)) for _ in range(draws))
    expected = draws * expected_accidents(FWHM / np.diff(EDGES), THRESHOLD)
    # The formula is for large thresholds: within a fifth, and the draws' own scatter.
    assert abs(found - expected) < 0.2 * expected + 4.0 * np.sqrt(expected)


def test_threshold_of_the_whole_scan() -> None:
    few, many = np.full(6000, 12.0), np.full(60000, 12.0)
    threshold = global_threshold(few)
    assert -np.expm1(-expected_accidents(few, threshold)) == pytest.approx(0.05)
    assert THRESHOLD < threshold < global_threshold(many)
    # Windows of very many channels: 2 u phi(u) for each width.
    assert expected_accidents(np.full(10**7, 1e7), 4.0) == pytest.approx(8.0 * stats.norm.pdf(4.0), rel=0.01)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_peak_is_one_region(sign: float) -> None:
    centre = 0.5 * (EDGES[1:] + EDGES[:-1])
    mean = np.full(centre.size, 400.0)
    sigma = float(np.interp(7.0, centre, FWHM)) / 2.355
    peak = 1200.0 * np.diff(stats.norm.cdf(EDGES, 7.0, sigma))
    (region,) = find_regions(mean + sign * peak, mean, EDGES, FWHM)
    assert region.energy_keV == pytest.approx(7.0, abs=0.02)
    assert np.sign(region.sigma) == sign
    assert region.excess == pytest.approx(
        sign * 0.76 * 1200.0, rel=0.05
    )  # a Gaussian's share within its width
    assert region.low_keV < 7.0 < region.high_keV
    assert region.high_keV - region.low_keV < 4.0 * 2.355 * sigma


def region(energy: float, excess: float) -> SpectrumRegion:
    return SpectrumRegion(
        low_keV=energy - 0.1,
        high_keV=energy + 0.1,
        energy_keV=energy,
        sigma=6.0 if excess > 0 else -6.0,
        excess=excess,
    )


def test_the_nearest_cause_that_is_large_enough_is_named() -> None:
    known = [
        Cause(name="line A", low_keV=5.0, high_keV=5.0, counts=10.0, prior=1.0),
        Cause(name="escape peak of B", low_keV=5.05, high_keV=5.05, counts=1000.0, prior=0.5),
        Cause(name="tail of C", low_keV=5.5, high_keV=6.5, counts=1000.0, prior=0.3),
        Cause(name="undeclared element D (Kα)", low_keV=8.0, high_keV=8.0, counts=np.inf, prior=0.1),
    ]
    assert likeliest(region(5.01, 800.0), known, 0.13) == "escape peak of B"
    assert likeliest(region(5.0, 12.0), known, 0.13) == "line A"
    assert likeliest(region(5.0, 12.0), known, 0.13, share=0.01) == "escape peak of B"
    assert likeliest(region(6.0, -500.0), known, 0.13) == "tail of C"
    assert likeliest(region(8.01, 500.0), known, 0.13) == "undeclared element D (Kα)"
    assert likeliest(region(8.01, -500.0), known, 0.13) == "continuum, or unknown"
    assert likeliest(region(12.0, 500.0), known, 0.13) == "continuum, or unknown"


CONFIG = RunConfig.from_dict(
    {
        "sample": {
            "elements": ["Mg", "Ca", "Fe"],
            "stray": ["Cu"],
            "thickness_nm": [100.0, 30.0],
            "density_g_cm3": [4.5, 0.3],
        },
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
        "phases": [{"name": "A", "composition": {"Mg": 0.4, "Ca": 0.3, "Fe": 0.3}, "fraction": 1.0}],
        "simulate": {"shape": [20, 20], "counts_per_pixel": 600.0, "stray": {"Cu": 0.03}, "channels": 1200},
    }
)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return prepare(simulate_map(CONFIG, 2).image, CONFIG)


def test_regions_of_a_map_have_their_spectrum_and_cause(setup: Setup) -> None:
    observed = setup.image.sum_spectrum().astype(float)
    energy = setup.image.energy_keV
    # Cr Kα: as if the map had it and the fit had not.
    lacking = observed * (1.0 - 0.7 * np.exp(-0.5 * ((energy - 5.41) / 0.056) ** 2))
    segments = Segments(0.5 * observed[None], 0.5 * observed[None])
    found = residual_regions(setup, lacking, segments)
    rows = found.regions
    assert rows
    assert {row.spectrum for row in rows} == {"whole map"}
    chrome = max(rows, key=lambda row: row.sigma)
    assert chrome.low_keV < 5.41 < chrome.high_keV
    assert chrome.cause.startswith("undeclared element Cr")
    assert chrome.chance < 1e-3
    assert found.threshold_sigma == THRESHOLD
    assert 0.0 < found.regions_expected_of_noise < 1.0
    assert residual_regions(setup, observed, segments).regions == ()


def test_a_region_names_the_elements_whose_main_lines_lie_there(setup: Setup) -> None:
    observed = setup.image.sum_spectrum().astype(float)
    element, at = strongest_lines(setup)[-1]
    lacking = observed * (1.0 - 0.5 * np.exp(-0.5 * ((setup.image.energy_keV - at) / 0.03) ** 2))
    rows = residual_regions(setup, lacking, Segments(observed[None], observed[None])).regions
    assert [row.elements for row in rows if row.low_keV < at < row.high_keV] == [(element,)]
    assert all(abs(row.energy_keV - at) < 0.3 for row in rows if element in row.elements)
    assert {name for name, _ in strongest_lines(setup)} == set(setup.forward.elements)


def test_causes_are_those_of_the_map(setup: Setup) -> None:
    found = {cause.name: cause for cause in causes(setup)}
    assert found["escape peak of Fe Kα"].low_keV == pytest.approx(6.40 - 1.74, abs=0.03)
    assert found["pile-up of Mg Kα and Fe Kα"].low_keV == pytest.approx(1.254 + 6.40, abs=0.03)
    assert found["absorption edge Mg K"].low_keV == pytest.approx(1.303, abs=0.01)
    assert found["tail of Fe Kα"].high_keV < 6.40
    assert found["line Fe Kβ"].counts < found["line Fe Kα"].counts
    assert "undeclared element Cr (Kα)" in found
    assert not any(name.startswith("undeclared element Cu ") for name in found)
