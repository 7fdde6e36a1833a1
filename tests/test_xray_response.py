"""Position, width, tail, escape and pile-up of a line: closed forms, conservation, and a plain integration."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest
import xraylib
from scipy.special import ndtr

from bayesunmix.core.errors import InputError
from bayesunmix.xray.detector import channel_edges
from bayesunmix.xray.response import (
    BEND_KNOTS_KEV,
    FWHM2_PER_VARIANCE,
    MN_K_ALPHA_KEV,
    SATELLITE_SHARE,
    Response,
)
from bayesunmix.xray.satellites import (
    TAIL_EDGES,
    TAIL_LOSS,
    TAIL_SPREAD,
    escape_probability,
    tail_shares,
)

EDGES = channel_edges(np.arange(0.0, 20.0, 0.01))
CENTRES = (EDGES[1:] + EDGES[:-1]) / 2
# Steps of a tail are drawn out to three standard deviations: this share of a step is lost.
CUT = 2.0 * float(ndtr(-3.0))
TAILED = Response(collection_depth_um=0.2, surface_collection=0.5)
BENT = Response(gain=1.002, offset_keV=-0.01, bend_eV=(3.0, -6.0, 5.0, -2.0, 8.0))
ALL = dataclasses.replace(
    BENT, collection_depth_um=0.15, surface_collection=0.6, escape=1.3, pile_up=((0.525, 0.01), (1.74, 0.004))
)


def silicon_per_um(energy_keV: float) -> float:
    """Absorption of silicon in one micrometre, from xraylib alone."""
    return float(xraylib.CS_Total(14, energy_keV)) * xraylib.ElementDensity(14) * 1e-4


def sigma_keV(response: Response, energy_keV: float) -> float:
    return float(response.gain * response.fwhm_keV(energy_keV) / np.sqrt(FWHM2_PER_VARIANCE))


def by_integration(
    response: Response,
    energies: list[float],
    areas: list[float],
    groups: list[int],
    edges: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Spectra of two groups as a sum over components, each integrated over the whole axis."""
    rows = np.zeros((2, edges.size - 1))

    def add(group: int, energy: float, area: float, spread: float = 0.0) -> None:
        fwhm = np.sqrt(
            response.noise_eV**2 + FWHM2_PER_VARIANCE * response.fano * 3.64 * 1e3 * max(energy, 0.0)
        )
        sigma = response.gain * np.hypot(1e-3 * fwhm / np.sqrt(FWHM2_PER_VARIANCE), spread)
        rows[group] += area * np.diff(ndtr((edges - response.apparent_keV(energy)) / sigma))

    for energy, area, group in zip(energies, areas, groups, strict=True):
        share = area / max(a for a, g in zip(areas, groups, strict=True) if g == group)
        whole = area
        if share >= 0.1 * SATELLITE_SHARE:
            escaped = response.escape * float(escape_probability(np.array([energy]))[0]) * area
            add(group, energy - 1.740, escaped)
            whole -= escaped
        if share >= SATELLITE_SHARE:
            exponent = silicon_per_um(energy) * response.collection_depth_um
            steps = np.diff(TAIL_EDGES**exponent) if exponent else np.array([1.0])
            lost = (1.0 - response.surface_collection) * energy
            for step, part in enumerate(steps):
                add(group, energy - TAIL_LOSS[step] * lost, whole * part, TAIL_SPREAD[step] * lost)
            for partner, probability in response.pile_up:
                add(group, energy + partner, probability * area)
        else:
            add(group, energy, whole)
    return rows


def test_resolution_is_met_at_manganese() -> None:
    assert Response.from_resolution(127.0).fwhm_keV(MN_K_ALPHA_KEV) == pytest.approx(0.127)


def test_width_at_zero_energy_is_the_noise() -> None:
    assert Response(noise_eV=55.0).fwhm_keV([0.0, -0.1]) == pytest.approx([0.055, 0.055])


def test_impossible_resolution_is_refused() -> None:
    with pytest.raises(InputError, match=r"`instrument.resolution_eV` must exceed 117 eV, .* is 100"):
        Response.from_resolution(100.0)


def test_area_is_conserved() -> None:
    energies = np.array([0.525, 1.254, 1.74, 6.4, 17.4])
    response = Response(gain=1.002, offset_keV=-0.01)
    np.testing.assert_allclose(response.matrix(energies, EDGES).sum(axis=1), 1.0, rtol=3e-9)


def test_moments_of_a_line() -> None:
    """Mean and variance of the binned Gaussian; binning adds width^2 / 12 (Sheppard)."""
    response = Response(gain=1.01, offset_keV=0.03)
    share = response.matrix([6.4], EDGES)[0]
    centre = (EDGES[1:] + EDGES[:-1]) / 2
    mean = share @ centre
    sigma = 1.01 * response.fwhm_keV(6.4) / np.sqrt(FWHM2_PER_VARIANCE)
    assert mean == pytest.approx(0.03 + 1.01 * 6.4, abs=1e-6)
    assert share @ (centre - mean) ** 2 == pytest.approx(sigma**2 + 0.01**2 / 12, rel=1e-5)


def test_half_of_a_line_on_the_edge_of_the_axis() -> None:
    axis = channel_edges(np.arange(1.005, 2.0, 0.01))
    spectrum = Response().spectrum([1.0, 0.1, 30.0], [2.0, 5.0, 5.0], axis)
    assert spectrum.sum() == pytest.approx(1.0, rel=1e-6)


def test_binning_commutes_with_integration() -> None:
    response = Response()
    fine = response.matrix([1.74], EDGES)[0]
    coarse = response.matrix([1.74], EDGES[::4])[0]
    np.testing.assert_allclose(coarse, fine.reshape(-1, 4).sum(axis=1), atol=1e-9)


def test_spectrum_is_the_weighted_sum_of_rows() -> None:
    energies, areas = np.array([1.254, 1.487, 1.74]), np.array([3.0, 1.0, 2.0])
    response = Response()
    expected = areas @ response.matrix(energies, EDGES)
    np.testing.assert_allclose(response.spectrum(energies, areas, EDGES), expected, atol=1e-12)


def test_lines_far_off_the_axis_leave_nothing_on_it() -> None:
    axis = channel_edges(np.arange(5.005, 6.0, 0.01))
    plain = Response()
    assert plain.spectrum([0.3, 4.0, 7.0, 90.0], [1e6] * 4, axis).sum() == 0.0
    # One of them has its escape peak on the axis, another its pile-up.
    full = dataclasses.replace(plain, escape=1.0, pile_up=((1.5, 0.01),))
    spectra = full.matrix([0.3, 4.0, 7.24, 90.0], axis)
    share = float(escape_probability(np.array([7.24]))[0])
    np.testing.assert_allclose(spectra.sum(axis=1), [0.0, 0.01, share, 0.0], rtol=1e-6)


def test_no_lines_give_empty_rows() -> None:
    nothing = np.empty(0)
    rows = ALL.columns(nothing, nothing, np.empty(0, dtype=np.intp), 3, EDGES)
    assert rows.shape == (3, EDGES.size - 1)
    assert not rows.any()
    assert not ALL.spectrum([], 1.0, EDGES).any()
    # A group without lines among others has an empty row, and neighbours are not disturbed.
    rows = ALL.columns(np.array([6.4]), np.array([1.0]), np.array([1]), 3, EDGES)
    assert not rows[[0, 2]].any()
    np.testing.assert_allclose(rows[1], ALL.matrix([6.4], EDGES)[0])


@pytest.mark.parametrize("response", [Response(), BENT, TAILED, ALL])
@pytest.mark.parametrize("start", [-0.205, 0.195, 1.005])
def test_columns_are_those_of_a_plain_integration(
    response: Response, start: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lines inside, across either end of and beyond the axis; strong and weak in their group, below and above Si K."""
    monkeypatch.setattr("bayesunmix.xray.response.TAIL_REACH_SIGMAS", 6.0)  # steps of the tail uncut
    edges = np.arange(start, 12.0, 0.01)
    energies = [1.0, 1.254, 1.740, 3.691, 6.404, 11.98, 13.5, 30.0]
    areas = [2.0, 1e3, 3.0, 80.0, 1.0, 40.0, 900.0, 50.0]
    groups = [0, 0, 0, 0, 1, 1, 1, 1]
    found = response.columns(np.array(energies), np.array(areas), np.array(groups), 2, edges)
    expected = by_integration(response, energies, areas, groups, edges)
    # Gaussians end at six standard deviations, beyond which there is 1e-9 on either side, of two components or so.
    for row, exact, strongest in zip(found, expected, (1e3, 900.0), strict=True):
        np.testing.assert_allclose(row, exact, atol=4e-9 * strongest)


def test_bend_at_its_knots_and_beyond_them() -> None:
    bent = dataclasses.replace(BENT, gain=1.003, offset_keV=0.02)
    knots = np.array(BEND_KNOTS_KEV)
    straight = 0.02 + 1.003 * knots
    np.testing.assert_allclose(bent.apparent_keV(knots), straight + 1e-3 * np.array(bent.bend_eV), atol=1e-12)
    beyond = np.array([0.01, 0.5, 20.0, 90.0])
    np.testing.assert_allclose(
        bent.apparent_keV(beyond) - 0.02 - 1.003 * beyond, 1e-3 * np.array([3.0, 3.0, 8.0, 8.0]), atol=1e-12
    )
    # Smooth in between: a knot's neighbours within a hundredth of a keV move with it.
    near = bent.apparent_keV(knots[1:-1] + 0.01) - bent.apparent_keV(knots[1:-1])
    np.testing.assert_allclose(near, 0.01 * 1.003, atol=3e-4)


def test_bend_of_a_straight_line_in_log_energy_is_one() -> None:
    """A natural spline through points on a line is that line."""
    bent = Response(bend_eV=(0.0, 2.0, 4.0, 6.0, 8.0))
    energy = np.geomspace(1.0, 16.0, 41)
    np.testing.assert_allclose(bent.apparent_keV(energy), energy + 2e-3 * np.log2(energy), atol=1e-12)


def test_no_bend_is_a_straight_axis() -> None:
    energy = np.linspace(0.0, 40.0, 81)
    straight = Response(gain=0.998, offset_keV=0.013)
    np.testing.assert_array_equal(straight.apparent_keV(energy), 0.013 + 0.998 * energy)
    barely = dataclasses.replace(straight, bend_eV=(0.0, 0.0, 0.0, 0.0, 1e-12))
    np.testing.assert_allclose(barely.apparent_keV(energy), straight.apparent_keV(energy), atol=1e-13)


def test_bend_moves_a_peak_and_not_its_width() -> None:
    energy, shift = 4.0, 5.0
    share = Response(bend_eV=(0.0, 0.0, shift, 0.0, 0.0)).matrix([energy], EDGES)[0]
    mean = share @ CENTRES
    assert mean == pytest.approx(energy + 1e-3 * shift, abs=1e-6)
    variance = sigma_keV(Response(), energy) ** 2 + 0.01**2 / 12
    assert share @ (CENTRES - mean) ** 2 == pytest.approx(variance, rel=1e-5)


def test_tail_conserves_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what lies beyond three standard deviations of its steps."""
    energies = np.array([1.254, 1.740, 2.0, 3.691, 6.404, 11.0])
    in_tail = 1.0 - tail_shares(energies, TAILED.collection_depth_um)[:, 0]
    assert (in_tail > 1e-3).all()
    sums = TAILED.matrix(energies, EDGES).sum(axis=1)
    assert np.all(sums <= 1.0)
    assert np.all(sums >= 1.0 - CUT * in_tail - 1e-8)
    monkeypatch.setattr("bayesunmix.xray.response.TAIL_REACH_SIGMAS", 6.0)
    np.testing.assert_allclose(TAILED.matrix(energies, EDGES).sum(axis=1), 1.0, rtol=1e-8)


@pytest.mark.parametrize("energy", [1.254, 3.691, 8.047])
@pytest.mark.parametrize("depth_um", [0.02, 0.2, 1.5])
def test_lost_charge_follows_its_distribution(energy: float, depth_um: float) -> None:
    """P(u < v) = v^(mu tau), and by Monte Carlo: u = exp(-z / tau) at depths of density mu exp(-mu z)."""
    shares = tail_shares(np.array([energy]), depth_um)[0]
    exponent = silicon_per_um(energy) * depth_um
    np.testing.assert_allclose(np.cumsum(shares), TAIL_EDGES[1:] ** exponent, rtol=1e-9)
    n = 200_000
    depth = np.random.default_rng(1).exponential(1.0 / silicon_per_um(energy), n)
    drawn = np.histogram(np.exp(-depth / depth_um), bins=TAIL_EDGES)[0]
    sd = np.sqrt(n * shares * (1.0 - shares))
    assert np.all(np.abs(drawn - n * shares) < 4.5 * sd + 1.0)


def test_tail_is_as_strong_as_silicon_absorbs() -> None:
    """Where few photons are lost their share is proportional to mu; it jumps at the K edge of 1.839 keV."""
    energies = np.array([1.80, 1.838, 1.840, 1.90, 6.404])
    shares = 1.0 - tail_shares(energies, 1e-3)[:, 0]
    coefficients = np.array([silicon_per_um(energy) for energy in energies])
    np.testing.assert_allclose(shares / shares[0], coefficients / coefficients[0], rtol=2e-2)
    below, above = shares[1], shares[2]
    assert above / below > 8.0  # the K shell absorbs about ten times what the others do
    assert shares[0] > below
    assert above > shares[3] > shares[4]


def test_tail_ends_at_the_charge_collected_at_the_entrance() -> None:
    """Nothing below R E but what the resolution smears there, and the distribution above it."""
    energy, collected = 6.0, 0.4
    response = Response(noise_eV=20.0, fano=0.02, collection_depth_um=1.5, surface_collection=collected)
    edges = np.arange(0.0, 8.0, 0.002)
    share = response.matrix([energy], edges)[0]
    exponent = silicon_per_um(energy) * 1.5
    lowest = collected * energy
    total = share.sum()
    # The tail is drawn in a few wide steps: their Gaussians reach beyond the end by half a step.
    half_step = 0.5 * (TAIL_EDGES[-1] - TAIL_EDGES[-2]) * (1.0 - collected) * energy
    assert share[edges[1:] < lowest - half_step].sum() < 2e-3 * total
    for lost in (0.1, 0.3, 0.6):
        at = energy - lost * (1.0 - collected) * energy
        assert share[edges[1:] <= at].sum() == pytest.approx(1.0 - lost**exponent, rel=0.1)
    mean_loss = (1.0 - collected) * energy * exponent / (1.0 + exponent)
    centre = 0.5 * (edges[1:] + edges[:-1])
    # Each step stands at the geometric mean of its ends: a few per cent below its mean.
    assert energy - share @ centre / total == pytest.approx(mean_loss, rel=0.05)


def test_more_collected_at_the_entrance_is_a_shorter_tail() -> None:
    short, long = (
        dataclasses.replace(TAILED, surface_collection=r).matrix([6.404], EDGES)[0] for r in (0.9, 0.2)
    )
    half = CENTRES < 0.5 * 6.404
    assert short[half].sum() < 1e-9
    assert long[half].sum() > 1e-4
    assert short.sum() == pytest.approx(long.sum(), rel=1e-4)


def test_escape_probability_is_of_textbook_size() -> None:
    """About 1 % for Ca K, below half a per cent for Fe K, and none below the edge of silicon."""
    calcium, iron, copper = escape_probability(np.array([3.691, 6.404, 8.047]))
    assert 0.008 < calcium < 0.012
    assert 0.003 < iron < 0.005
    assert 0.001 < copper < iron
    np.testing.assert_array_equal(escape_probability(np.array([0.5, 1.74, 1.838])), 0.0)
    # Largest just above the edge, where photons are absorbed closest to the entrance, but for half of them it stays.
    just_above = float(escape_probability(np.array([1.845]))[0])
    assert calcium < just_above < 0.5 * xraylib.FluorYield(14, xraylib.K_SHELL)


def test_escape_probability_by_monte_carlo() -> None:
    """Photons absorbed at exponential depths emit Si K in all directions: those that get out, counted."""
    rng = np.random.default_rng(2)
    n = 400_000
    for energy in (2.2, 3.691, 6.404):
        depth = rng.exponential(1.0 / silicon_per_um(energy), n)
        upward = rng.uniform(-1.0, 1.0, n)
        out = np.exp(-silicon_per_um(1.740) * depth / np.maximum(upward, 1e-12)) * (upward > 0.0)
        fluorescence = xraylib.FluorYield(14, xraylib.K_SHELL) * (
            1.0 - 1.0 / xraylib.JumpFactor(14, xraylib.K_SHELL)
        )
        error = 5.0 * fluorescence * out.std() / np.sqrt(n)
        assert escape_probability(np.array([energy]))[0] == pytest.approx(
            fluorescence * out.mean(), abs=error
        )


def test_escape_peak_takes_its_counts_from_the_line() -> None:
    energy, factor = 6.404, 1.5
    share = Response(escape=factor).matrix([energy], EDGES)[0]
    assert share.sum() == pytest.approx(1.0, rel=1e-8)
    below = CENTRES < 5.5
    expected = factor * float(escape_probability(np.array([energy]))[0])
    assert share[below].sum() == pytest.approx(expected, rel=1e-6)
    assert share[below] @ CENTRES[below] / share[below].sum() == pytest.approx(energy - 1.740, abs=1e-4)
    none = Response(escape=factor).matrix([1.740], EDGES)[0]
    np.testing.assert_array_equal(none, Response().matrix([1.740], EDGES)[0])


def test_pile_up_lies_at_the_sum_of_the_energies_with_its_share() -> None:
    energy, partners = 6.404, ((0.525, 0.02), (1.740, 0.005))
    share = Response(pile_up=partners).matrix([energy], EDGES)[0]
    extra = share - Response().matrix([energy], EDGES)[0]
    assert share.sum() == pytest.approx(1.0 + 0.025, rel=1e-8)
    for partner, probability in partners:
        near = np.abs(CENTRES - energy - partner) < 0.45
        assert extra[near].sum() == pytest.approx(probability, rel=1e-6)
        assert extra[near] @ CENTRES[near] / probability == pytest.approx(energy + partner, abs=1e-5)
    width = extra[np.abs(CENTRES - 6.929) < 0.45] @ (CENTRES[np.abs(CENTRES - 6.929) < 0.45] - 6.929) ** 2
    assert width / 0.02 == pytest.approx(sigma_keV(Response(), 6.929) ** 2 + 0.01**2 / 12, rel=1e-3)


def test_weak_lines_of_a_group_bring_no_satellites() -> None:
    energies, response = np.array([6.404, 3.0]), Response(pile_up=((2.0, 0.1),))
    for weak, brings in ((0.9 * SATELLITE_SHARE, False), (1.1 * SATELLITE_SHARE, True)):
        spectrum = response.spectrum(energies, [1.0, weak], EDGES)
        piled = spectrum[np.abs(CENTRES - 5.0) < 0.3].sum()
        assert piled == pytest.approx(0.1 * weak if brings else 0.0, rel=1e-3, abs=1e-9)
