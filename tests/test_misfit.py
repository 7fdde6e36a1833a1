"""Pooled residuals: their arithmetic, their false alarms, and what they find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import norm, poisson

from bayesunmix.checks.holes import HOLLOW, find_holes
from bayesunmix.checks.misfit import Misfit, _core
from bayesunmix.checks.regions import MapRegion
from bayesunmix.core.severity import Distrust, Reservation
from bayesunmix.inference.misfit import drawn_windows, pooled_amounts, scan, scores
from bayesunmix.inference.poisson_tail import tail_deviates
from bayesunmix.inference.windows import summed_area, window_bands, window_sides, window_sums

FloatArray = npt.NDArray[np.float64]

SPECTRA = np.array([[0.40, 0.30, 0.15, 0.10, 0.05], [0.05, 0.10, 0.15, 0.30, 0.40]])
OTHER = np.array([0.02, 0.06, 0.84, 0.06, 0.02])
DIRECTIONS = np.vstack([np.eye(5), OTHER])


def drawn(
    shape: tuple[int, int], counts: float, seed: int, patch: tuple[slice, slice] | None = None
) -> tuple[FloatArray, FloatArray]:
    rng = np.random.default_rng(seed)
    share = rng.beta(0.5, 3.0, shape)[..., None]
    shares = np.concatenate([1.0 - share, share], axis=2)
    mean = counts * rng.uniform(0.7, 1.3, shape)[..., None] * (shares @ SPECTRA)
    if patch is not None:
        mean[patch] = counts * (0.6 * OTHER + 0.4 * SPECTRA[0])
    return rng.poisson(mean).astype(float), shares


def test_window_sums_are_those_of_a_loop() -> None:
    grid = np.random.default_rng(0).poisson(3.0, (7, 9, 2)).astype(float)
    sums, (rows, columns) = window_sums(summed_area(grid), 3, 2)
    assert rows[0] == 0
    assert rows[-1] == 6
    assert columns[-1] == 8
    for i, y in enumerate(rows):
        for j, x in enumerate(columns):
            part = grid[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
            np.testing.assert_allclose(sums[i, j], part.sum(axis=(0, 1)))


def test_windows_of_bands_are_those_of_the_whole_map(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = np.random.default_rng(4).poisson(3.0, (23, 14, 5)).astype(np.uint8)
    for side in (1, 3, 9):
        (whole,) = (sums for _, sums in window_bands(grid, side))
        with monkeypatch.context() as patch:
            patch.setattr("bayesunmix.inference.windows.BAND_ENTRIES", 150)
            bands = list(window_bands(grid, side))
        assert len(bands) > 1
        np.testing.assert_array_equal(np.concatenate([sums for _, sums in bands]), whole)


@pytest.mark.parametrize(
    ("shape", "counts"), [((96, 96), 108.0), ((1, 300), 50.0), ((1, 1), 10.0), ((4, 4), 1e5)]
)
def test_windows_hold_enough_counts_and_fit_the_map(shape: tuple[int, int], counts: float) -> None:
    sides = window_sides(shape, counts)
    assert all(side % 2 for side in sides)
    assert list(sides) == sorted(set(sides))
    assert max(sides) <= max(shape)
    if shape == (96, 96):
        assert sides[0] ** 2 * counts >= 600
        assert sides[-1] <= 96 / 5


def test_amounts_are_recovered_and_never_negative() -> None:
    true = np.array([[700.0, 300.0], [500.0, 0.0], [0.0, 10.0]])
    np.testing.assert_allclose(pooled_amounts(true @ SPECTRA, SPECTRA), true, atol=1e-3)
    # What would need a negative amount gets none: counts beyond the pure end of the line of mixtures.
    beyond = 1000.0 * (1.3 * SPECTRA[0] - 0.3 * SPECTRA[1])
    assert pooled_amounts(np.maximum(beyond, 0.0)[None], SPECTRA)[0, 1] == 0.0


def test_scores_are_standard_normal_where_the_mixture_is_right() -> None:
    rng = np.random.default_rng(1)
    share = rng.uniform(0.3, 0.7, (4000, 1))
    counts = rng.poisson(2000.0 * np.concatenate([share, 1.0 - share], axis=1) @ SPECTRA).astype(float)
    z, root, amounts = scores(counts, SPECTRA, DIRECTIONS)
    assert z.shape == root.shape == (4000, 6)
    # Mean and sd of 4000 draws, to four standard errors.
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=4 / np.sqrt(4000))
    np.testing.assert_allclose(z.std(axis=0), 1.0, atol=4 / np.sqrt(8000))
    np.testing.assert_allclose(amounts.sum(axis=1), counts.sum(axis=1), rtol=0.02)


def test_a_tail_of_one_group_is_that_of_its_poisson_deviance() -> None:
    mean = np.array([1e-6, 1e-3, 0.2, 2.0, 50.0, 4.0, 9.0])
    count = np.array([1.0, 2.0, 3.0, 9.0, 90.0, 0.0, 2.0])
    logs = np.where(count > 0.0, count * np.log(np.maximum(count, 1.0) / mean), 0.0)
    expected = np.sign(count - mean) * np.sqrt(2.0 * (logs - count + mean))
    for unit in (1.0, 1e-7, -3e5):
        found = tail_deviates(count[:, None], mean[:, None], np.full((7, 1), unit))
        np.testing.assert_allclose(found, np.sign(unit) * expected, rtol=1e-4)
    # Up to the width of a step of whole numbers that is the exact tail.
    exact = norm.isf(poisson.sf(count[:5] - 1.0, mean[:5]))
    np.testing.assert_allclose(expected[:5], exact, atol=0.4)


@pytest.mark.parametrize(("size", "loose"), [(1.0, 0.6), (100.0, 0.15)])
def test_a_tail_of_a_weighted_sum_is_as_rare_as_it_says(size: float, loose: float) -> None:
    mean, weights = size * np.array([0.1, 0.3, 0.02, 1.0]), np.array([1.0, -0.5, 2.5, 0.4])
    sums = np.random.default_rng(8).poisson(mean, (400_000, 4)) @ weights
    for share in (0.01, 1e-3):
        edge = float(np.quantile(sums, 1.0 - share))
        counts = np.array([[edge / weights[0], 0.0, 0.0, 0.0]])
        (r,) = tail_deviates(counts, mean[None], weights[None])
        tail = (sums >= edge - 1e-9).mean()
        assert np.exp(-0.5 * r**2) >= tail
        assert r == pytest.approx(norm.isf(tail), abs=loose)


def few(extra: int) -> tuple[FloatArray, FloatArray]:
    """Draw a map of 84 counts and put some where the phase's spectrum has next to none: map, and spectrum."""
    spectrum = np.array([0.5, 0.3, 0.2, 1e-12, 1e-12])
    everywhere = np.repeat(spectrum / spectrum.sum() / 36, 36).reshape(5, 36).T.ravel()
    grid = np.random.default_rng(3).multinomial(84, everywhere).reshape(6, 6, 5).astype(float)
    grid[2, 2, 3] += extra
    return grid, spectrum[None]


@pytest.mark.parametrize(("extra", "rare"), [(0, 0.0), (1, 2.0), (2, 3.5), (10, 9.0)])
def test_few_counts_are_as_rare_as_counts_at_that_rate(extra: int, rare: float) -> None:
    grid, spectrum = few(extra)
    found = scan(grid, spectrum, np.eye(5), np.ones((6, 6, 1)), seed=0)
    # What the map cannot tell is half a count in all of it: of the smallest window, as much as it has of the counts.
    assert found.sigma[2, 2] == pytest.approx(rare, abs=0.8 if extra else 2.5)
    assert (found.sigma.max() > found.threshold) == (extra > 2)


def test_a_direction_that_is_a_mixture_has_no_score() -> None:
    z, root, _ = scores(np.array([[30.0, 40.0, 50.0, 30.0, 10.0]]), SPECTRA, SPECTRA.mean(axis=0)[None])
    assert z[0, 0] == 0.0
    assert root[0, 0] == 0.0


def test_a_place_of_its_own_kind_is_found_and_the_rest_is_not() -> None:
    grid, shares = drawn((40, 40), 100.0, 2, (slice(10, 15), slice(20, 25)))
    found = scan(grid, SPECTRA, DIRECTIONS, shares, seed=0)
    assert found.sigma[12, 22] > 2.0 * found.threshold
    assert found.direction[12, 22] in (2, 5)
    assert found.sign[12, 22] > 0
    far = np.ones((40, 40), bool)
    far[2:23, 12:33] = False
    assert found.sigma[far].max() < found.threshold


def test_few_maps_without_fault_are_flagged() -> None:
    # 1 % of 24 maps: three or more have a probability of 0.002.
    flagged = 0
    for seed in range(24):
        grid, shares = drawn((24, 24), 120.0, 100 + seed)
        found = scan(grid, SPECTRA, DIRECTIONS, shares, seed=seed)
        flagged += bool((found.sigma > found.threshold).any())
    assert flagged <= 2


def test_a_direction_that_drawn_maps_cannot_test_is_no_cause_for_alarm() -> None:
    """Nearly a phase's own spectrum: testable only where that phase is nil, as on the map but not in its fit."""
    near = 0.97 * SPECTRA[1] + 0.03 * OTHER
    second = np.zeros((48, 48))
    second[:, :12] = np.random.default_rng(0).uniform(0.4, 0.9, (48, 12))
    true, fitted = (np.stack([1.0 - part, part], axis=2) for part in (second, np.maximum(second, 0.1)))
    for seed in range(4):
        grid = np.random.default_rng(seed).poisson(120.0 * (true @ SPECTRA)).astype(float)
        found = scan(grid, SPECTRA, np.vstack([DIRECTIONS, near]), fitted, seed=seed)
        assert found.sigma.max() < found.threshold < 6.0


def test_what_all_windows_share_is_not_a_place() -> None:
    grid, shares = drawn((40, 40), 200.0, 5)
    rng = np.random.default_rng(6)
    # The model's first spectrum is wrong by a third in one group, everywhere alike.
    wrong = SPECTRA.copy()
    wrong[0, 2] *= 0.67
    wrong[0] /= wrong[0].sum()
    found = scan(grid, wrong, DIRECTIONS, shares, seed=0)
    assert found.sigma.max() < found.threshold
    raw = drawn_windows(grid, wrong, DIRECTIONS, (9,))[0][0]
    assert np.abs(raw).max() > found.threshold
    # A smooth change over the map is scatter, not a place.
    slope = np.linspace(0.7, 1.3, 40)[:, None, None] ** np.array([0.0, 0.0, 1.0, 0.0, 0.0])
    zoned = rng.poisson(200.0 * (shares @ SPECTRA) * slope).astype(float)
    smooth = scan(zoned, SPECTRA, DIRECTIONS, shares, seed=0)
    assert smooth.spread > 1.5
    assert (smooth.sigma > smooth.threshold).mean() < 0.02


@pytest.mark.parametrize("shape", [(1, 1), (1, 60), (5, 3)])
def test_small_maps_pass(shape: tuple[int, int]) -> None:
    grid, shares = drawn(shape, 500.0, 7)
    found = scan(grid, SPECTRA, DIRECTIONS, shares, seed=0)
    assert found.sigma.shape == shape
    assert np.isfinite(found.sigma).all()
    assert found.threshold > 0


EVEN = np.ones((60, 60))


def test_holes_are_far_below_their_surroundings() -> None:
    rng = np.random.default_rng(8)
    thickness = np.linspace(0.6, 1.4, 60)[:, None] * EVEN
    totals = rng.poisson(100.0 * thickness).astype(float)
    kept = np.ones(totals.shape, bool)
    assert find_holes(totals, EVEN, kept) == []
    totals[20:26, 30:36] = rng.poisson(3.0, (6, 6))
    ((region, core),) = find_holes(totals, EVEN, kept)
    assert core[20:26, 30:36].mean() > 0.8
    assert region.kind == "hole"
    assert abs(region.y - 22.5) < 1
    assert abs(region.x - 32.5) < 1
    assert 16 <= region.pixels <= 49
    assert region.counts_ratio < 0.3
    assert "a hole" in region.sentence()
    # Nothing at all is as far from its surroundings as next to nothing.
    totals[20:26, 30:36] = 0.0
    ((empty, _),) = find_holes(totals, EVEN, kept)
    assert find_holes(totals, np.where(totals > 0.0, EVEN, 0.0), kept)[0][0] == empty
    totals[23, 33] = 1.0
    ((nearly, _),) = find_holes(totals, EVEN, kept)
    assert empty.sigma == pytest.approx(nearly.sigma, rel=0.1)
    assert empty.sigma > region.sigma


def test_a_hole_whose_pixels_hardly_hold_a_count_is_one() -> None:
    rows, columns = np.mgrid[:64, :64]
    inside = np.hypot(rows - 30, columns - 32) < 14
    totals = np.random.default_rng(8).poisson(np.where(inside, 0.3, 100.0)).astype(float)
    # Those without one take no part, and leave the others apart.
    ((region, core),) = find_holes(totals, np.ones(totals.shape), totals > 0.0)
    assert region.pixels == core.sum() > 0.2 * inside.sum()
    assert not core[totals == 0.0].any()


@pytest.mark.parametrize("share", [0.2, 0.33, 0.45, 0.6])
def test_what_is_printed_of_a_hole_is_what_makes_it_one(share: float) -> None:
    totals = np.random.default_rng(8).poisson(400.0, (60, 60)).astype(float)
    totals[20:30, 30:40] *= share
    # Thinner around it, as at the edge of a milled film.
    totals[17:33, 27:43] *= np.where(totals[17:33, 27:43] > 200.0, 0.8, 1.0)
    found = find_holes(totals, EVEN, np.ones(totals.shape, bool))
    assert bool(found) == (share < HOLLOW)
    for region, _ in found:
        assert region.counts_ratio == pytest.approx(share, rel=0.15)
        assert region.counts_ratio < HOLLOW
        assert f"{100 * region.counts_ratio:.0f} % as thick as what is around it" in region.sentence()


def test_a_grain_that_emits_little_is_no_hole() -> None:
    totals = np.random.default_rng(8).poisson(400.0, (60, 60)).astype(float)
    totals[20:30, 30:40] /= 3.0
    kept = np.ones(totals.shape, bool)
    assert len(find_holes(totals, EVEN, kept)) == 1
    mass = EVEN.copy()
    mass[20:30, 30:40] = 3.0
    assert find_holes(totals, mass, kept) == []
    # A hole in it is one.
    totals[24:27, 33:36] = 5.0
    ((region, _),) = find_holes(totals, mass, kept)
    assert abs(region.y - 25.0) < 1


def test_pixels_that_are_left_out_are_no_hole_and_hide_none() -> None:
    totals = np.random.default_rng(8).poisson(100.0, (60, 60)).astype(float)
    kept = np.ones(totals.shape, bool)
    kept[:, 40:], kept[5:20, 5:20] = False, False
    assert find_holes(np.where(kept, totals, 0.0), EVEN, kept) == []
    totals[30:36, 20:26] = 3.0
    ((region, core),) = find_holes(np.where(kept, totals, 0.0), EVEN, kept)
    assert core[30:36, 20:26].mean() > 0.8
    assert region.counts_ratio < 0.3


def test_the_core_of_a_region_is_its_own_pixels() -> None:
    patch = (slice(10, 16), slice(20, 26))
    grid, shares = drawn((40, 40), 300.0, 9, patch)
    inside = np.zeros((40, 40), bool)
    inside[4:22, 14:32] = True
    window = np.zeros((40, 40), bool)
    window[11:14, 22:25] = True
    core = _core(grid, shares, SPECTRA, window, inside)
    planted = np.zeros((40, 40), bool)
    planted[patch] = True
    assert core[planted].mean() > 0.9
    assert core.sum() < 1.9 * planted.sum()


def test_words_name_what_is_there() -> None:
    region = MapRegion(
        y=54.0,
        x=53.2,
        pixels=150,
        sigma=66.0,
        kind="spectrum",
        excess={"Si": 1.84, "Ti": None},
        lacking={"Mg": 0.05},
        counts_ratio=1.0,
    )
    assert region.sentence() == (
        "around row 54, column 53 (150 pixels), 66 sigma: too much Si (1.8 times), Ti; too little Mg (0.05 times)"
    )
    nowhere = np.full((2, 2), -1, np.int16)
    found = Misfit(
        sigma=np.zeros((2, 2)),
        threshold=6.0,
        false_alarm=0.01,
        spread=1.0,
        regions=(region,) * 5,
        places=nowhere,
        n_pixels=150_000,
    )
    (warning,) = found.warnings()
    assert warning.startswith("The map has 5 regions of significant residual. Around row 54")
    assert "The report lists 2 more." in warning
    assert "An unmodelled phase is likely, on 0.5 % of the pixels" in warning
    assert isinstance(warning, Reservation)
    (much,) = replace(found, n_pixels=100_000).warnings()
    assert isinstance(much, Distrust)
    assert "on 0.75 % of the pixels, enough to bias" in much
    hollow = replace(region, kind="hole")
    (holes,) = replace(found, regions=(hollow,) * 5, n_pixels=1000).warnings()
    assert isinstance(holes, Reservation)
    assert "a hole, by its counts 100 % as thick as what is around it" in holes
    assert "unmodelled" not in holes
    assert (
        Misfit(
            sigma=np.zeros((2, 2)),
            threshold=6.0,
            false_alarm=0.01,
            spread=1.0,
            regions=(),
            places=nowhere,
            n_pixels=4,
        ).warnings()
        == []
    )
