"""Which phases share a pixel: the alternatives, and what the counts choose where grains lie apart or meet."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.optimize import linear_sum_assignment

from bayesunmix.config.overlap import (
    LEAST_GAINED,
    Overlap,
    OverlapChoice,
    OverlapScore,
    declared_overlap,
    freer_overlaps,
)
from bayesunmix.config.phase import Phase, unnamed
from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit.embedding import MOST_AGAINST, less_embedded
from bayesunmix.fit.held_out import gain_over
from bayesunmix.fit.model_data import Blocks
from bayesunmix.fit.overlap import choose_overlap, shown_by
from bayesunmix.fit.posterior import fit_posterior
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.search import CoarseModel, begun, followed_down
from bayesunmix.fit.starts import Start, component_templates, find_starts, start_at
from bayesunmix.results.phase_doubts import shared_pixels_against
from bayesunmix.simulation.simulate import simulate_map

FloatArray = npt.NDArray[np.float64]

EMBEDDED = Overlap(2, embedded=True)
SIDE = 30
CONFIG: dict[str, Any] = {
    "map": {"energy_range": [1.0, 8.5]},
    "sample": {
        "elements": ["Mg", "Si", "Ca", "Fe"],
        "oxygen": "none",
        "thickness_nm": [100.0, 30.0],
        "density_g_cm3": [4.5, 0.3],
    },
    "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
    "phases": [
        {
            "name": "A",
            "matrix": True,
            "composition": {"Mg": 0.45, "Si": 0.45, "Ca": 0.05, "Fe": 0.05},
            "fraction": 0.6,
        },
        {"name": "B", "composition": {"Mg": 0.7, "Fe": 0.3}, "fraction": 0.2},
        {"name": "C", "composition": {"Si": 0.4, "Ca": 0.5, "Fe": 0.1}, "fraction": 0.2},
    ],
    "simulate": {"shape": [SIDE, SIDE], "counts_per_pixel": 300.0, "channels": 900},
}
ELEMENTS: list[str] = CONFIG["sample"]["elements"]
TRUTH = np.array([[phase["composition"].get(e, 0.0) for e in ELEMENTS] for phase in CONFIG["phases"]])
TOLD = [Phase("A", matrix=True), Phase("B"), Phase("C")]


def layout(kind: str, seed: int) -> FloatArray:
    """Abundances (y, x, phase): grains in the matrix, grains that touch each other, or all three in one place."""
    rng = np.random.default_rng(seed)
    share = np.zeros((SIDE, SIDE, 3))
    share[..., 0] = 1.0
    grains = rng.random((SIDE, SIDE)) < 0.5
    first = rng.random((SIDE, SIDE)) < 0.5
    amount = rng.uniform(0.2, 0.9, (SIDE, SIDE))
    for phase, own in ((1, grains & first), (2, grains & ~first)):
        share[own, phase] = amount[own]
    if kind == "touching":
        both = grains & (rng.random((SIDE, SIDE)) < 0.4)
        share[both, 1], share[both, 2] = amount[both], 1.0 - amount[both]
    if kind == "three":
        share[grains, 1:] = 0.9 * rng.dirichlet([2.0, 2.0, 2.0], int(grains.sum()))[:, :2]
    share[..., 0] = 1.0 - share[..., 1:].sum(axis=2)
    return share


def prepared(kind: str, seed: int, begin: Overlap = EMBEDDED) -> tuple[Blocks, CoarseModel]:
    """Draw a map with that layout, and make it ready."""
    image = simulate_map(CONFIG, seed, abundances=layout(kind, seed)).image
    blocks = Blocks.of(prepare(image, RunConfig.from_dict(CONFIG)))
    blocks = dataclasses.replace(blocks, overlap=begin, alternatives=freer_overlaps(begin, TOLD))
    return blocks, CoarseModel.of(blocks, *blocks.forward.basis(blocks.absorbing, blocks.allowed))


def chosen(kind: str, seed: int, begin: Overlap = EMBEDDED) -> OverlapChoice:
    """Let the counts choose where a search from the true endmembers ends."""
    blocks, coarse = prepared(kind, seed, begin)
    descent = followed_down(coarse, begun(coarse, true_start(TRUTH, coarse)))
    return choose_overlap(blocks, (descent.data, descent.latents(coarse)))


def farthest_off(fractions: FloatArray) -> float:
    """Largest difference of an atom fraction from the truth, whichever names the phases have."""
    apart = np.abs(fractions[:, None] - TRUTH).max(axis=2)
    rows, columns = linear_sum_assignment(apart)
    return float(apart[rows, columns].max())


def true_start(composition: FloatArray, coarse: CoarseModel) -> Start:
    lines = composition * coarse.yields
    weights = np.zeros(coarse.basis.allowed.shape)
    weights[:, : lines.shape[1]] = lines / lines.sum(axis=1, keepdims=True)
    # Stray lines there are none; continuum there is some.
    weights[:, -1] = 0.3
    return start_at(weights, coarse.basis, component_templates(coarse.basis))


@pytest.mark.parametrize(
    ("told", "phases", "begins", "freer"),
    [
        ("auto", TOLD, EMBEDDED, (Overlap(2), Overlap(3))),
        ("auto", unnamed(3), Overlap(2), (Overlap(3),)),
        ("auto", TOLD[:2], Overlap(2), ()),
        ("auto", unnamed(1), Overlap(2), ()),
        (2, TOLD, EMBEDDED, (Overlap(2), Overlap(3))),
        (3, TOLD, Overlap(3), ()),
        (1, unnamed(4), Overlap(1), (Overlap(2), Overlap(3))),
    ],
)
def test_what_a_map_may_hold(told: Any, phases: Any, begins: Overlap, freer: Any) -> None:  # noqa: ANN401
    assert declared_overlap(told, phases) == begins
    assert freer_overlaps(begins, phases) == freer
    assert all(not overlap.hosts(phases).any() for overlap in freer)


def test_grains_that_lie_apart_stay_in_their_matrix() -> None:
    found = [chosen("apart", seed) for seed in (1, 2)]
    for one in found:
        assert one.taken == one.shown == EMBEDDED
        (scores,) = one.comparisons
        assert [row.overlap for row in scores] == [EMBEDDED, Overlap(2), Overlap(3)]
        # What no pixel needs gains next to nothing.
        assert max(row.gain for row in scores) < LEAST_GAINED
        assert shared_pixels_against(one) == []


def test_grains_that_touch_are_seen_to_and_so_is_what_they_are() -> None:
    found = chosen("touching", 1)
    assert found.taken == EMBEDDED
    assert found.shown != EMBEDDED
    assert all(row.gain > 3.0 * row.se for row in found.comparisons[0][1:])
    # With endmembers that are not bent to hold them, two are enough.
    assert chosen("touching", 1, begin=Overlap(2)).shown == Overlap(2)


def test_three_in_a_pixel_are_seen_to() -> None:
    assert chosen("three", 5).shown == Overlap(3)


def test_less_speaks_for_grains_that_meet_than_for_any_three() -> None:
    """What a few tiles gain has a large error, and one error moves embedded grains alone."""
    none = np.zeros(36)
    # 120 nats in three tiles, and as many in two: 1.8 and 1.4 standard errors.
    three_tiles, two_tiles = (np.where(np.arange(36) < number, 120.0 / number, 0.0) for number in (3, 2))
    assert 1.0 < gain_over(three_tiles, none).nats / gain_over(three_tiles, none).error < 2.0
    for some in (three_tiles, two_tiles):
        assert shown_by([none, some, some], embedded=True) == 1
        assert shown_by([none, some], embedded=False) == 0
        # What speaks for any three alone says nothing of two.
        assert shown_by([none, none, some], embedded=True) == 0
    assert shown_by([none, none + 0.25], embedded=True) == 0
    assert shown_by([none, none + 5.0], embedded=False) == 1


def test_any_two_phases_are_judged_by_endmembers_of_their_own() -> None:
    """Those that were bent to hold grains which touch speak for any three, too."""
    blocks, coarse = prepared("touching", 1)
    _, under_two = prepared("touching", 1, begin=Overlap(2))
    bent, own = (
        (end.data, end.latents(model))
        for model, end in (
            (model, followed_down(model, begun(model, true_start(TRUTH, model))))
            for model in (coarse, under_two)
        )
    )
    (alone,), (both,) = (choose_overlap(blocks, bent, freer).comparisons for freer in (None, own))
    assert both[1].gain > alone[1].gain + LEAST_GAINED
    assert both[0] == alone[0]
    assert both[2] == alone[2]
    # Endmembers that suit it less do not count.
    assert choose_overlap(blocks, bent, bent).comparisons == (alone,)


@pytest.mark.parametrize("host", [0, 1, 2])
def test_grains_are_embedded_in_what_lies_around_them(host: int) -> None:
    """Whichever phase is declared to be the matrix, the same solution, once grains may meet."""
    blocks, coarse = prepared("apart", 1, begin=Overlap(2))
    endmembers = true_start(TRUTH, coarse).spectra
    told = tuple(dataclasses.replace(phase, matrix=number == host) for number, phase in enumerate(TOLD))
    against = less_embedded(dataclasses.replace(blocks, phases=told), coarse.pooled, coarse.scale, endmembers)
    assert against == (0.0 if host == 0 else MOST_AGAINST)
    unsaid = dataclasses.replace(blocks, phases=unnamed(3))
    assert less_embedded(unsaid, coarse.pooled, coarse.scale, endmembers) == 0.0


@pytest.mark.calibration
@pytest.mark.parametrize("seed", [1, 2])
def test_the_matrix_is_found_among_minerals_that_are_pure_and_touch(seed: int) -> None:
    """Nothing but the matrix is declared, and each of the three might be one by itself."""
    rng = np.random.default_rng(seed)
    share = np.zeros((SIDE, SIDE, 3))
    own = rng.integers(0, 3, (SIDE, SIDE))
    mixed = rng.random((SIDE, SIDE)) < 0.5
    np.put_along_axis(share, own[..., None], 1.0, axis=2)
    # One grain in six meets another one, the others meet the matrix.
    other = np.where(
        own == 0, rng.integers(1, 3, own.shape), np.where(rng.random(own.shape) < 0.17, 3 - own, 0)
    )
    amount = rng.uniform(0.1, 0.9, (SIDE, SIDE))
    rows, columns = np.nonzero(mixed)
    share[rows, columns] *= amount[mixed][:, None]
    share[rows, columns, other[mixed]] += 1.0 - amount[mixed]
    image = simulate_map(CONFIG, seed, abundances=share).image
    blocks = Blocks.of(prepare(image, RunConfig.from_dict(CONFIG)))
    blocks = dataclasses.replace(blocks, phases=tuple(TOLD))
    basis, yields = blocks.forward.basis(blocks.absorbing, blocks.allowed)
    starts = find_starts(
        blocks.counts, basis, yields, blocks.statements(), blocks.matrix, n_starts=4, seed=seed
    )
    found = fit_posterior(blocks, starts, blocks.absorbing, lambda _: None)
    assert np.abs(found.atom_fractions[0] - TRUTH[0]).max() < 0.02
    assert farthest_off(found.atom_fractions) < 0.02


def told(gain: float, error: float, shown: Overlap) -> list[str]:
    """Return what is said of a run that lets grains share a pixel with the matrix alone."""
    scores = (OverlapScore(EMBEDDED, 0.0, 0.0), OverlapScore(Overlap(3), gain, error))
    return shared_pixels_against(OverlapChoice(EMBEDDED, shown, (scores,)))


def test_what_speaks_against_an_explicit_number_is_told() -> None:
    (said,) = told(50.0, 10.0, Overlap(3))
    assert "`inference.max_overlap = 2` lets a grain and the matrix share a pixel" in said
    assert "of any three phases, their held-out log score is higher by 50 ± 10" in said


def test_what_the_counts_leave_open_is_told() -> None:
    (said,) = told(24.0, 19.0, EMBEDDED)
    assert "The counts do not settle which phases share a pixel" in said
    assert "24 ± 19, which is no proof" in said
    assert "`inference.max_overlap = 3`" in said
    assert told(24.0, 30.0, EMBEDDED) == told(LEAST_GAINED, 2.0, EMBEDDED) == []
    assert shared_pixels_against(OverlapChoice(Overlap(3), Overlap(3), ())) == []


def test_nothing_is_open_once_the_freest_is_taken() -> None:
    """What led to it is no doubt about it."""
    two = OverlapScore(Overlap(2), 0.0, 0.0), OverlapScore(Overlap(3), 50.0, 10.0)
    assert shared_pixels_against(OverlapChoice(Overlap(3), Overlap(3), (two,))) == []


@pytest.mark.calibration
def test_the_search_goes_on_under_what_the_counts_show() -> None:
    """Freed step by step, and with a number it stays."""
    blocks, coarse = prepared("touching", 1)
    starts = [true_start(TRUTH, coarse)]
    found = fit_posterior(blocks, starts, blocks.absorbing, lambda _: None, coarse)
    assert found.overlap is not None
    assert found.overlap.taken == found.overlap.shown == Overlap(2)
    assert [scores[0].overlap for scores in found.overlap.comparisons] == [EMBEDDED, Overlap(2)]
    held = dataclasses.replace(blocks, open_overlap=False)
    own = dataclasses.replace(coarse, blocks=held)
    kept = fit_posterior(held, starts, blocks.absorbing, lambda _: None, own)
    assert kept.overlap is not None
    assert kept.overlap.taken == EMBEDDED
    assert kept.overlap.shown != EMBEDDED
    # Endmembers bend to hold what may not be.
    off, bent = (farthest_off(one.atom_fractions) for one in (found, kept))
    assert off < 0.02 < bent
