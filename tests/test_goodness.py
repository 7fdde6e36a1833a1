"""Held-out segments and the sum spectrum: near one for a model that is right, far above for one that lacks a line."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from bayesunmix.checks.goodness import (
    ENOUGH_EXPECTED,
    Segments,
    _filled,
    _thinned,
    deviances,
    expected_spectrum,
    fit_dataset,
    held_out_segments,
    misplaced_share,
    pooled_tilt,
)
from bayesunmix.config.phase import Phase
from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit.draws import Draws
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.setup import Setup
from bayesunmix.inference.pixel_posterior import PixelPosterior, pixel_posterior
from bayesunmix.models.thickness import ThicknessDraws, no_effect
from bayesunmix.simulation.simulate import simulate_map

FloatArray = npt.NDArray[np.float64]

CONFIG = RunConfig.from_dict(
    {
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
        "simulate": {"shape": [24, 30], "counts_per_pixel": 250.0, "stray": {"Cu": 0.04}, "channels": 1000},
    }
)
CU_K_KEV = 8.04


@dataclass(frozen=True)
class Known:
    """A map and the endmembers that it was drawn from."""

    setup: Setup
    spectra: FloatArray  # (phase, energy), on the map's channels

    def draws(self, spectra: FloatArray | None = None) -> Draws:
        """Return a point posterior at these endmembers, or at others."""
        channels = self.spectra if spectra is None else spectra
        binned = np.add.reduceat(channels, self.setup.blocks.boundaries[:-1], axis=1)
        n_phases, forward = len(binned), self.setup.forward
        continuum = np.ones((1, 1, n_phases, 7))
        family_counts = np.full((1, 1, n_phases, len(forward.families)), 2.0)
        weights = np.ones((1, 1, n_phases, len(forward.components)))
        scale, exponent = np.ones((1, 1)), np.zeros((1, 1))
        return Draws(
            weights=weights,
            family_counts=family_counts,
            continuum=continuum,
            spectra=binned[None, None],
            absorption_scale=scale,
            stray_exponent=exponent,
            line_shapes=np.zeros((1, 1, 0)),
        )

    def thickness(self, n_phases: int = 2) -> ThicknessDraws:
        """Return how thickness acts: as the map was drawn, a count standing for as much mass in either phase."""
        prepared = self.setup.thickness
        effect = no_effect(n_phases, len(prepared.absorption_slope))._replace(
            absorption_slope=prepared.absorption_slope
        )
        return ThicknessDraws(prepared.pixels, effect, np.ones(1), np.zeros(1))

    def segments(self, spectra: FloatArray | None = None) -> Segments:
        channels = self.spectra if spectra is None else spectra
        return held_out_segments(self.setup, self.draws(channels), channels, self.thickness())

    def pixels(self, spectra: FloatArray | None = None) -> PixelPosterior:
        binned = self.draws(spectra).spectra[0]
        counts = np.add.reduceat(
            self.setup.image.pixel_matrix(), self.setup.blocks.boundaries[:-1], axis=1, dtype=np.uint16
        )
        return pixel_posterior(counts, binned, np.ones((1, 2)), level=0.9, max_overlap=2)


def known(seed: int, config: RunConfig = CONFIG) -> Known:
    simulated = simulate_map(config, seed)
    setup = prepare(simulated.image, config)
    first = int(np.argmin(np.abs(simulated.image.energy_keV - setup.image.energy_keV[0])))
    spectra = simulated.truth.endmembers[:, first : first + setup.image.n_channels]
    return Known(setup, spectra / spectra.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def right() -> Known:
    return known(3)


def without_copper(truth: Known) -> FloatArray:
    """Return the endmembers with a straight line in place of the peak of Cu K-alpha."""
    energy = truth.setup.image.energy_keV
    gap = np.flatnonzero(np.abs(energy - CU_K_KEV) < 0.25)
    lacking = truth.spectra.copy()
    for row in lacking:
        row[gap] = np.linspace(row[gap[0] - 1], row[gap[-1] + 1], gap.size)
    return np.asarray(lacking / lacking.sum(axis=1, keepdims=True))


def all_halves(setup: Setup) -> tuple[npt.NDArray[np.int64], ...]:
    """Pixel, channel, first and second half of the counts of all entries of a map."""
    parts = list(_thinned(setup))
    pixels = [half.pixel + half.pixels.start for half in parts]
    others = (np.concatenate([half[place] for half in parts]) for place in (2, 3, 4))
    return np.concatenate(pixels), *others


def number_of_terms(segments: Segments) -> int:
    return sum(_filled(expected).size for expected in segments.expected)


def test_halves_add_up_to_the_map(right: Known) -> None:
    pixel, channel, first, second = all_halves(right.setup)
    matrix = right.setup.image.pixel_matrix()
    again = np.zeros(matrix.shape, dtype=np.int64)
    np.add.at(again, (pixel, channel), first + second)
    np.testing.assert_array_equal(again, matrix)
    assert min(first.min(), second.min()) >= 0
    total = int(matrix.sum())
    assert abs(first.sum() - total / 2) < 4.5 * np.sqrt(total) / 2
    np.testing.assert_array_equal(all_halves(right.setup)[2], first)  # the same whenever they are asked for


def test_halves_are_independent(right: Known) -> None:
    """Of Poisson counts of one mean, halves are Poisson of half the mean, and uncorrelated."""
    counts = np.random.default_rng(8).poisson(1.5, right.setup.image.shape).astype(np.uint8)
    image = dataclasses.replace(right.setup.image, counts=counts)
    pixel, channel, first, second = all_halves(dataclasses.replace(right.setup, image=image))
    halves = np.zeros((2, image.n_pixels, image.n_channels))
    halves[0, pixel, channel], halves[1, pixel, channel] = first, second
    size = image.n_pixels * image.n_channels
    assert abs(np.corrcoef(halves[0].ravel(), halves[1].ravel())[0, 1]) < 4.5 / np.sqrt(size)
    for half in halves:
        # The variance of a Poisson sample's variance is (m + 2 m^2) / n.
        assert abs(half.var() - 0.75) < 4.5 * np.sqrt((0.75 + 2 * 0.75**2) / size)


@pytest.mark.parametrize(
    ("expected", "starts"),
    [
        ([10.0, 10.0, 10.0], [0, 1, 2]),
        ([9.0, 9.0, 9.0, 9.0, 9.0], [0, 2]),
        ([9.9, 0.2, 9.9, 0.2, 50.0, 1.0], [0, 2, 4]),
        ([0.0, 0.0, 3.0, 40.0, 0.0], [0]),
        ([25.0, 5.0], [0]),
        ([25.0, 5.0, 5.0], [0, 1]),
        ([1.0, 2.0], []),
        ([0.0, 0.0], []),
        ([], []),
    ],
)
def test_runs_by_hand(expected: list[float], starts: list[int]) -> None:
    assert _filled(np.array(expected)).tolist() == starts


def test_every_run_expects_enough() -> None:
    rng = np.random.default_rng(0)
    for scale in (0.01, 0.5, 3.0, 9.0, 30.0):
        expected = scale * rng.gamma(0.3, size=700)
        starts = _filled(expected)
        if starts.size:
            held = np.add.reduceat(expected, starts)
            assert starts[0] == 0
            assert held.min() >= ENOUGH_EXPECTED
            assert held.sum() == pytest.approx(expected.sum())
            # No longer than needed: without its last channel a run would not do; the last one takes what is left.
            last = expected[np.append(starts[1:], expected.size) - 1]
            assert np.all((held - last)[:-1] < ENOUGH_EXPECTED)
        else:
            assert expected.sum() < ENOUGH_EXPECTED


def test_segments_hold_the_second_half(right: Known) -> None:
    segments = right.segments()
    _, channel, _, second = all_halves(right.setup)
    by_channel = np.bincount(channel, weights=second, minlength=right.setup.image.n_channels)
    np.testing.assert_array_equal(segments.observed.sum(axis=0), by_channel)
    # Every label's pixels expect as many counts as they hold: shares of the counts are compared, not their number.
    np.testing.assert_allclose(segments.expected.sum(axis=1), segments.observed.sum(axis=1), rtol=1e-6)
    # Silicon is in phase A alone, so its peak is higher in that label's segment.
    energy = right.setup.image.energy_keV
    silicon = (np.abs(energy - 1.74) < 0.06, slice(None))[0]
    share = segments.observed[:, silicon].sum(axis=1) / segments.observed.sum(axis=1)
    assert share[0] > 2.0 * share[1]


def test_deviance_of_a_right_model_is_that_of_counting_noise() -> None:
    """Over three maps: chi-square of the number of terms.

    Runs of ten expected counts add up to 2 %; what the first half says of a segment's mixture is uncertain, which
    adds a term or two per segment.
    """
    total, terms = 0.0, 0
    for seed in (3, 4, 5):
        truth = known(seed)
        segments = truth.segments()
        number = number_of_terms(segments)
        value = deviances(truth.setup, truth.spectra, truth.pixels(), truth.thickness(), segments, 0).segments
        total, terms = total + value * number, terms + number
    assert terms > 600
    assert stats.chi2.ppf(1e-4, terms) < total
    assert total < stats.chi2.isf(1e-4, terms) + 0.02 * terms + 3 * 2 * 2


def test_deviance_of_the_total_spectrum(right: Known) -> None:
    setup = right.setup
    plain = deviances(setup, right.spectra, right.pixels(), right.thickness(), right.segments(), 0).total
    channels = setup.image.n_channels
    # Expected counts of the channels, most of them above ten, say how far above 1 Poisson deviances are.
    amounts = right.pixels().count_share * setup.image.total_counts.ravel()[:, None]
    mean = amounts.sum(axis=0) @ right.spectra
    drawn = np.random.default_rng(0).poisson(mean, (400, channels))
    ratio = np.where(drawn > 0, drawn, mean) / mean
    own = 2.0 * np.sum(drawn * np.log(ratio) - drawn + mean, axis=1)
    assert abs(plain * channels - own.mean()) < 4.5 * own.std()
    with_parameters = deviances(
        setup, right.spectra, right.pixels(), right.thickness(), right.segments(), 100
    )
    assert with_parameters.total == pytest.approx(plain * channels / (channels - 100))


def test_a_missing_line_shows(right: Known) -> None:
    """Copper is 4 % of the counts: without its K-alpha peak neither figure is chance."""
    lacking = without_copper(right)
    segments = right.segments(lacking)
    found = deviances(right.setup, lacking, right.pixels(lacking), right.thickness(), segments, 0)
    terms = number_of_terms(segments)
    assert stats.chi2.sf(found.segments * terms, terms) < 1e-12
    channels = right.setup.image.n_channels
    assert stats.chi2.sf(found.total * channels, channels) < 1e-12


def test_a_phase_without_pixels_counts_nothing(right: Known) -> None:
    nowhere = np.zeros(right.setup.image.n_channels)
    nowhere[-50:] = 1 / 50
    three = np.vstack([right.spectra, 0.999 * nowhere + 0.001 * right.spectra[0]])
    setup = dataclasses.replace(right.setup, phases=(*right.setup.phases, Phase("C")))
    segments = held_out_segments(setup, right.draws(three), three, right.thickness(3))
    assert not segments.observed[2].any()
    assert not segments.expected[2].any()
    found = deviances(right.setup, right.spectra, right.pixels(), right.thickness(), segments, 0).segments
    terms = number_of_terms(segments)
    assert found * terms < stats.chi2.isf(1e-4, terms) + 0.02 * terms + 4


def test_data_of_the_fit_figure(right: Known) -> None:
    segments, pixels = right.segments(), right.pixels()
    data = fit_dataset(right.setup, right.draws(), pixels, right.thickness(), segments)
    starts = right.setup.blocks.boundaries[:-1]
    counts = right.setup.image.sum_spectrum()
    np.testing.assert_array_equal(data["observed"], np.add.reduceat(counts, starts))
    assert float(data["expected"].sum()) == pytest.approx(counts.sum(), rel=1e-6)
    np.testing.assert_allclose(data["expected_by_phase"].sum("phase"), data["expected"])
    np.testing.assert_allclose(data["segment_observed"], np.add.reduceat(segments.observed, starts, axis=1))
    np.testing.assert_allclose(data["segment_expected"], np.add.reduceat(segments.expected, starts, axis=1))
    np.testing.assert_allclose(data["energy_high"][:-1], data["energy_low"][1:])
    # Seven of the endmembers' counts are continuum, two per family are lines.
    share = 7.0 / (7.0 + 2.0 * len(right.setup.forward.families))
    assert float(data["continuum"].sum()) == pytest.approx(share * counts.sum(), rel=1e-6)
    assert list(data["phase"].values) == ["A", "B"]


def test_thick_pixels_miss_soft_photons() -> None:
    """Of a map with a wedge, the thick half fits only with the absorption that its own counts tell."""
    assert CONFIG.simulate is not None
    plan = dataclasses.replace(CONFIG.simulate, thickness_variation=0.5, counts_per_pixel=900.0)
    wedge = known(6, dataclasses.replace(CONFIG, simulate=plan))
    pixels, totals = wedge.pixels(), wedge.setup.image.total_counts.ravel().astype(float)
    thick = wedge.setup.thickness.pixels > 1.2
    assert 0.1 < thick.mean() < 0.6
    shares = pixels.count_share[thick].astype(float)
    observed = wedge.setup.image.pixel_matrix()[thick].sum(axis=0)
    soft = wedge.setup.image.energy_keV < 2.0
    misses = []
    for scale in (1.0, 0.0):
        own = wedge.thickness()._replace(
            relative=wedge.setup.thickness.pixels[thick], scale=np.array([scale])
        )
        tilt = pooled_tilt(own, shares, totals[thick])
        amounts = totals[thick] @ shares
        expected = expected_spectrum(amounts, wedge.spectra, tilt, wedge.setup.blocks.boundaries).sum(axis=0)
        assert expected.sum() == pytest.approx(observed.sum(), rel=1e-6)
        held = expected[soft].sum()
        misses.append((observed[soft].sum() - held) / np.sqrt(held))
    assert abs(misses[0]) < 4.0
    assert misses[1] < -6.0


def test_misplaced_counts_are_those_beyond_noise() -> None:
    """Whatever the number of counts: noise alone misplaces none, and a peak that the model lacks its own."""
    rng = np.random.default_rng(5)
    shape = np.concatenate([np.geomspace(1.0, 1e-3, 250), [0.4, 0.8, 0.4]])
    for total in (3e5, 3e7):
        expected = total * shape / shape.sum()
        noise = [misplaced_share(rng.poisson(expected).astype(float), expected) for _ in range(40)]
        assert np.mean(noise) < 0.01
        more = np.concatenate([np.zeros(250), 0.1 * total * np.array([0.25, 0.5, 0.25])])
        found = [
            misplaced_share(rng.poisson(expected + more).astype(float), expected * 1.1) for _ in range(40)
        ]
        # The model spreads over all channels what the peak alone holds.
        truth = 0.5 * np.abs(more - 0.1 * expected).sum() / (1.1 * total)
        assert np.mean(found) == pytest.approx(truth, rel=0.15)
    nothing = np.zeros(4)
    assert misplaced_share(nothing, nothing) == 0.0
