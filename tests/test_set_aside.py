"""What nobody declared is set aside: how far it reaches, what the fit loses, and what a whole run says of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.checks.misfit import Misfit
from bayesunmix.checks.outcomes import PlaceAside, SetAside
from bayesunmix.checks.regions import MapRegion
from bayesunmix.checks.undeclared_places import AROUND, MOST_ASIDE, explains, too_much, usurped
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.severity import Distrust, Reservation
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.set_aside import without_pixels
from bayesunmix.fit.setup import block_positions
from bayesunmix.inference.foreign_pixels import with_foreign
from bayesunmix.inference.pixel_model import PixelModel
from bayesunmix.inference.pixel_posterior import pixel_posterior
from bayesunmix.inference.surroundings import MARGIN, own_spectrum, reach
from bayesunmix.models.thickness import ThicknessDraws, no_effect
from bayesunmix.pipeline import run_image
from bayesunmix.results.result import Result, open_result
from bayesunmix.simulation.phantom import grain_layout, phantom_config
from bayesunmix.simulation.simulate import SimulatedMap, simulate_map

FloatArray = npt.NDArray[np.float64]

SPECTRA = np.array([[0.40, 0.30, 0.15, 0.10, 0.05], [0.05, 0.10, 0.15, 0.30, 0.40]])
OTHER = np.array([0.02, 0.06, 0.84, 0.06, 0.02])
SIDE, RADIUS = 48, 6.0

pytestmark = pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")


def disc(edge: float, side: int = SIDE, radius: float = RADIUS) -> tuple[FloatArray, FloatArray]:
    """Share of a grain in each pixel (y, x), and the distance from its middle."""
    y, x = np.mgrid[:side, :side]
    distance = np.hypot(y - 0.5 * side, x - 0.4 * side)
    return np.clip(0.5 + (radius - distance) / edge, 0.0, 1.0), distance


def drawn_grid(share: FloatArray, counts: float, seed: int) -> npt.NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    second = rng.beta(0.5, 3.0, share.shape)[..., None]
    phases = (1.0 - second) * SPECTRA[0] + second * SPECTRA[1]
    mean = counts * ((1.0 - share[..., None]) * phases + share[..., None] * OTHER)
    return rng.poisson(mean).reshape(-1, SPECTRA.shape[1])


@pytest.mark.parametrize("edge", [0.1, 6.0])
def test_a_region_grows_as_far_as_it_shows(edge: float) -> None:
    share, distance = disc(edge)
    places = np.where(share > 0.5, 0, -1).astype(np.int16)
    everywhere = np.ones(share.shape, bool)
    grown = reach(places, drawn_grid(share, 108.0, 1), SPECTRA, everywhere)
    held = share[grown == 0].sum() / share.sum()
    assert held > 0.995
    # Neither much more than it: a ring beyond the edge, and the margin.
    assert distance[grown == 0].max() < RADIUS + 0.5 * edge + MARGIN + 2.5
    assert (grown[places == 0] == 0).all()


def test_two_regions_share_what_lies_between_and_what_is_left_out_stays_out() -> None:
    places = np.full((20, 30), -1, np.int16)
    places[8:12, 8:12], places[8:12, 15:19] = 0, 1
    share = np.where(places >= 0, 1.0, 0.0)
    kept = np.ones(places.shape, bool)
    kept[:8] = False
    grown = reach(places, drawn_grid(share, 108.0, 2), SPECTRA, kept)
    assert (grown[:8] == -1).all()
    np.testing.assert_array_equal(grown[9, 12:15], [0, grown[9, 13], 1])
    assert grown[9, 13] in (0, 1)
    assert set(np.unique(grown)) == {-1, 0, 1}


def test_pixels_of_a_place_are_mixed_of_the_phases_and_what_it_holds() -> None:
    share, _ = disc(6.0)
    grid = drawn_grid(share, 400.0, 3)
    inside = (share > 0.0).ravel()
    places = np.where(inside, 0, -1).astype(np.int16)
    phases, per_count = SPECTRA[None], np.array([[1.0, 2.5]])
    one = np.zeros(1)
    thickness = ThicknessDraws(np.ones(len(grid)), no_effect(2, 5), one, one)
    settings: dict[str, Any] = {"level": 0.95, "max_overlap": 2}
    outside = pixel_posterior(grid[~inside], phases, per_count, **settings).placed(~inside)
    model = PixelModel.learned(grid[~inside], SPECTRA, max_overlap=2)
    found = with_foreign(
        outside,
        model,
        grid,
        places,
        own_spectrum(1e6 * OTHER)[None],
        phases,
        per_count,
        matrix=np.array([True, False]),
        supports=np.zeros(2, bool),
        thickness=thickness,
        **settings,
    )
    assert (found.foreign[~inside] == 0.0).all()
    assert np.sqrt(np.mean((found.foreign - share.ravel())[inside] ** 2)) < 0.12
    np.testing.assert_allclose(found.pixels.mean.sum(axis=1) + found.foreign, 1.0, atol=1e-3)
    np.testing.assert_array_equal(found.pixels.mean[~inside], outside.mean[~inside])
    # What was handed in is as it was.
    assert (outside.mean[inside] == 0.0).all()


# -- when there is nothing more to do ---------------------------------------------------------------------------------


def region(**facts: Any) -> MapRegion:  # noqa: ANN401
    plain = {"y": 5.0, "x": 5.0, "pixels": 4, "sigma": 9.0, "kind": "spectrum", "counts_ratio": 1.0}
    return MapRegion(**{**plain, "excess": {}, "lacking": {}, **facts})


def found_at(corners: Sequence[tuple[int, int]], kinds: Sequence[str] = (), sigma: float = 9.0) -> Misfit:
    places, strength = np.full((20, 20), -1, np.int16), np.ones((20, 20))
    for number, (y, x) in enumerate(corners):
        places[y : y + 3, x : x + 3] = number
        strength[y : y + 3, x : x + 3] = sigma
    regions = tuple(region(kind=kinds[n] if kinds else "spectrum") for n in range(len(corners)))
    return Misfit(
        sigma=strength,
        threshold=6.0,
        false_alarm=0.01,
        spread=1.0,
        regions=regions,
        places=places,
        n_pixels=400,
    )


def test_a_search_that_finds_what_is_set_aside_ends_it() -> None:
    aside = np.full((20, 20), -1, np.int16)
    aside[2:8, 2:8], aside[12:18, 12:18] = 0, 3
    both = found_at([(4, 4), (14, 14)])
    assert explains(aside, both)
    assert not explains(aside, found_at([(4, 4), (14, 14), (4, 14)])), "there is one more"
    assert explains(aside, found_at([(4, 4), (14, 14), (4, 14)], ["spectrum", "spectrum", "hole"]))
    assert not explains(aside, found_at([(4, 4)])), "the second one has been explained"
    just_below = dataclasses.replace(both, sigma=np.where(both.sigma > 6.0, 5.5, both.sigma))
    assert explains(aside, just_below)


def test_what_covers_much_of_a_map_is_no_accident_of_it() -> None:
    used = np.ones((20, 20), bool)
    places = np.full((20, 20), -1, np.int16)
    places.flat[: int(MOST_ASIDE * 400)] = 0
    assert not too_much(places, used)
    places.flat[int(MOST_ASIDE * 400)] = 0
    assert too_much(places, used)


def test_a_phase_that_explains_less_than_does_not_fit_is_under_suspicion() -> None:
    share = np.zeros((20, 20, 3))
    share[..., 0] = 1.0
    share[5:8, 5:8], share[12, :, :] = [0.1, 0.0, 0.9], [0.4, 0.6, 0.0]
    flat, used = share.reshape(400, 3), np.ones((20, 20), bool)
    places = np.full((20, 20), -1, np.int16)
    places[:, 12:] = 0
    own = usurped(places, flat, used)
    assert own is not None
    assert (own[5:8, 5:8] == 0).all()
    y, x = np.nonzero(own >= 0)
    assert np.hypot(*(np.maximum(np.abs(v - 6) - 1, 0) for v in (y, x))).max() <= AROUND
    places[:, 14:] = -1
    assert usurped(places, flat, used) is None, "it explains more than does not fit"
    assert usurped(places, np.ones((400, 1)), used) is None, "there is no other phase"


def test_what_is_set_aside_is_a_reservation() -> None:
    misfit = found_at([(4, 4)])
    (before,) = misfit.warnings()
    assert isinstance(before, Distrust)
    aside = SetAside(
        pixels=60,
        counts=6000,
        share_of_counts=0.015,
        passes=1,
        settled=True,
        places=(PlaceAside(y=5.0, x=5.0, pixels=60, counts=6000),),
        before=(),
    )
    (said,) = misfit.warnings(aside)
    assert isinstance(said, Reservation)
    assert "60 pixels (1.5 % of the counts) were set aside" in said
    (unsettled,) = misfit.warnings(dataclasses.replace(aside, settled=False))
    assert isinstance(unsettled, Distrust)


# -- the prepared run, and a whole one --------------------------------------------------------------------------------

DECLARED: dict[str, Any] = {
    "map": {"energy_range": [0.9, 12.0]},
    "sample": {
        "elements": ["Mg", "Si", "Ca", "Fe"],
        "stray": ["Cu"],
        "thickness_nm": [100.0, 30.0],
        "density_g_cm3": [4.5, 0.3],
    },
    "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
    "inference": {"method": "laplace", "further_phase": False, "chains": 1, "draws": 200, "starts": 2},
    "simulate": {"shape": [SIDE, SIDE], "counts_per_pixel": 250.0, "channels": 1300, "stray": {"Cu": 0.03}},
}
BRG = {"name": "Brg", "matrix": True, "stoichiometry": "ABO3"}
# Neither silica nor a mixture of it: what nobody declares cannot take the place of a declared phase.
FE = {"name": "iron", "absent": ["Si", "Ca"]}
TRUTH = {"Mg": 0.42, "Si": 0.5, "Ca": 0.02, "Fe": 0.06}


def told(**inference: Any) -> RunConfig:  # noqa: ANN401
    given = {**DECLARED["inference"], **inference}
    phases = [BRG, FE]
    if given.get("endmembers") == "free":
        # Without physics nothing is known of elements.
        phases = [{"name": "Brg", "matrix": True}, {"name": "iron"}]
    return RunConfig.from_dict({**DECLARED, "phases": phases, "inference": given})


def simulated(seed: int = 4, grain: bool = True) -> SimulatedMap:
    """Draw a map with grains of a declared phase and, where asked, one of silica that nobody declares."""
    share = disc(3.0)[0] if grain else np.zeros((SIDE, SIDE))
    y, x = np.mgrid[:SIDE, :SIDE]
    second = 0.9 * np.exp(-0.5 * (((y - 34) / 5.0) ** 2 + ((x - 34) / 6.0) ** 2))
    abundances = np.stack([(1.0 - share) * (1.0 - second), (1.0 - share) * second, share], axis=2)
    phases = [
        {**BRG, "composition": TRUTH, "fraction": 0.4},
        {**FE, "composition": {"Mg": 0.1, "Fe": 0.9}, "fraction": 0.3},
        {"name": "silica", "composition": {"Si": 1.0}, "fraction": 0.3},
    ]
    return simulate_map({**DECLARED, "phases": phases}, seed, abundances=abundances)


@pytest.fixture(scope="module")
def spoilt() -> SimulatedMap:
    return simulated()


def test_blocks_lose_what_is_set_aside_and_nothing_else(spoilt: SimulatedMap) -> None:
    large = dataclasses.replace(spoilt.image, counts=spoilt.image.counts)
    setup = prepare(large, told())
    aside = np.zeros((SIDE, SIDE), bool)
    aside[3:9, 5:8], aside[20, 20] = True, True
    less = without_pixels(setup, aside)
    side = setup.blocks.block_side
    assert side > 1, "or a block would be a pixel"
    bins = setup.pixel_counts[0 : SIDE * SIDE].reshape(SIDE, SIDE, -1).astype(np.int64)
    index = setup.blocks.block_index[~aside]
    expected = np.zeros((index.max() + 1, bins.shape[2]), np.int64)
    np.add.at(expected, index, bins[~aside])
    there = expected.sum(axis=1) > 0
    np.testing.assert_array_equal(less.blocks.counts, expected[there])
    np.testing.assert_array_equal(block_positions(less)[0], np.flatnonzero(there))
    assert len(less.thickness.blocks) == len(less.blocks.counts)
    np.testing.assert_array_equal(less.thickness.pixels, setup.thickness.pixels)
    # A block that keeps a part of its pixels is as thick as they are.
    touched = less.thickness.blocks / less.thickness.blocks.mean()
    assert 0.5 < touched.min() < touched.max() < 2.0
    masked = spoilt.image.masked(aside)
    inside = np.isin(np.round(spoilt.image.energy_keV, 6), np.round(setup.image.energy_keV, 6))
    np.testing.assert_array_equal(less.fitted_spectrum, masked.sum_spectrum()[inside])
    assert less.fitted_totals.sum() == less.fitted_spectrum.sum()
    assert less.pixel_counts is setup.pixel_counts, "they are binned once"
    assert setup.fitted_spectrum.sum() == setup.image.total_counts.sum()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, spoilt: SimulatedMap) -> Path:
    out = tmp_path_factory.mktemp("aside") / "run"
    run_image(spoilt.image, told(), out, seed=1, progress=False)
    return out


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return open_result(folder)


def test_an_undeclared_grain_is_set_aside(result: Result, folder: Path) -> None:
    record, share = result.record, disc(3.0)[0]
    found = record.set_aside
    assert found is not None
    assert found.settled
    maps = result.tree["maps"].to_dataset()
    aside = maps["set_aside"].values
    assert aside.sum() == found.pixels == sum(place.pixels for place in found.places)
    assert (aside & (share > 0.05)).sum() > 0.95 * (share > 0.05).sum()
    assert found.pixels < 4 * (share > 0.5).sum()
    stored = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert stored["set_aside"]["counts"] == found.counts
    # Its regions are still listed: they are there, whoever looks at the map again.
    assert any("Si" in region.excess for region in record.unmodelled_regions.regions)
    assert result.flagged_mask()[share > 0.9].mean() > 0.9
    assert any("were set aside" in finding.text for finding in result.verdict.findings)


def test_it_no_longer_bends_the_matrix(result: Result) -> None:
    held, before = {}, {}
    assert result.record.set_aside is not None
    first = {(x.phase, x.element): x for x in result.record.set_aside.before}
    for row in result.summary().itertuples():
        if row.phase == "Brg":
            held[row.element] = row.lower <= TRUTH[row.element] <= row.upper
            before[row.element] = abs(first["Brg", row.element].at_frac - TRUTH[row.element]) / row.sd
    assert all(held.values()), held
    assert max(before.values()) > 2.0, "or there was nothing to mend"
    assert ("iron", "Si") not in first


def test_its_pixels_have_a_share_of_their_own(result: Result) -> None:
    share, maps = disc(3.0)[0], result.tree["maps"].to_dataset()
    own, abundance = maps["undeclared"].values, maps["abundance_mean"].values
    assert own[share > 0.95].mean() > 0.85
    assert own[(share == 0.0) & ~maps["set_aside"].values].max() == 0.0
    np.testing.assert_allclose(abundance.sum(axis=0) + own, 1.0, atol=0.02)
    assert (maps["label"].values[share > 0.95] == -1).mean() > 0.9
    assert (maps["label"].values[share == 0.0] >= 0).mean() > 0.98


def test_the_report_shows_both(folder: Path) -> None:
    page = " ".join((folder / "report.html").read_text(encoding="utf-8").split())
    assert "One place was set aside, the regions with what is around them: row" in page
    assert "Brg, without" in page
    assert "Brg, with<" in page
    assert "pixels set aside" in page


def test_the_sum_spectrum_is_judged_without_it(result: Result) -> None:
    assert result.record.fit.deviance_per_dof_total < 1.3
    observed = result.tree["fit"]["observed"].values.sum()
    totals = result.tree["constant_data"]["total_counts"].values
    assert observed == totals[~result.tree["maps"]["set_aside"].values].sum()


@pytest.mark.calibration
def test_nothing_is_set_aside_where_nothing_is_found_or_nobody_wants_it(spoilt: SimulatedMap) -> None:
    unwanted = run_image(spoilt.image, told(set_aside=False), None, seed=1, progress=False)
    assert unwanted.record.set_aside is None
    assert "undeclared" not in unwanted.tree["maps"]
    assert unwanted.verdict.level == "distrust"
    even = simulated(grain=False).image
    with_key, without = (
        run_image(even, told(set_aside=wanted), None, seed=1, progress=False) for wanted in (True, False)
    )
    assert with_key.record.set_aside is None
    for name in ("composition", "phase_share"):
        one, other = (run.tree["posterior"][name].values for run in (with_key, without))
        np.testing.assert_array_equal(one, other)


@pytest.mark.calibration
@pytest.mark.parametrize(
    "inference",
    [
        {"method": "map"},
        {"method": "svi"},
        {"method": "nuts", "warmup": 100, "chains": 2, "draws": 100},
        {"endmembers": "free"},
        {"spatial": True},
    ],
    ids=["map", "svi", "nuts", "free", "spatial"],
)
def test_every_engine_sets_aside(spoilt: SimulatedMap, inference: dict[str, Any]) -> None:
    found = run_image(spoilt.image, told(**inference), None, seed=1, progress=False)
    assert found.record.set_aside is not None
    mean = found.composition("at_frac").mean(["chain", "draw"]).sel(phase="Brg")
    off = np.abs(mean.values - np.array([TRUTH[e] for e in found.elements]))
    assert off.max() < 0.03


@pytest.mark.calibration
def test_two_undeclared_phases_do_not_free_the_declared_ones() -> None:
    """A grain of silica with a rim of pyroxene speaks for three phases in a pixel, and for none once it is set aside.

    Where any phases may meet, bridgmanite is ferropericlase and silica, and the silica takes the name of CaPv.
    """
    config = phantom_config()
    config = dataclasses.replace(config, inference=dataclasses.replace(config.inference, method="laplace"))
    plan, truths = config.truth()
    matrix = [phase.matrix for phase in config.phases]
    rng = np.random.default_rng(np.random.SeedSequence([0, 150]).spawn(2)[0])
    grains = grain_layout(plan.shape, [truth.fraction for truth in truths], matrix, rng)
    rows, columns = plan.shape
    distance = np.hypot(*np.ogrid[-82.0 : rows - 82.0, -42.0 : columns - 42.0])
    core, whole = (np.clip(0.5 + (radius - distance) / 3.0, 0.0, 1.0) for radius in (9.0, 12.0))
    abundances = np.concatenate(
        [grains * (1.0 - whole[..., None]), np.stack([core, whole - core], axis=2)], axis=2
    )
    told_phases = config.to_dict()["phases"]
    drawn = [
        {**told_phase, "composition": dict(truth.composition), "fraction": 0.2}
        for told_phase, truth in zip(told_phases, truths, strict=True)
    ]
    drawn += [
        {"name": "silica", "composition": {"Si": 1.0}, "fraction": 0.2},
        {"name": "pyroxene", "composition": {"Si": 0.5, "Mg": 0.4, "Fe": 0.1}, "fraction": 0.2},
    ]
    made = simulate_map({**config.to_dict(), "phases": drawn}, 0, abundances=abundances)
    result = run_image(made.image, config, None, seed=0, progress=False)
    shared = result.record.shared_pixels
    assert shared is not None
    assert shared.taken.embedded
    assert result.record.set_aside is not None
    mean = result.composition("at_frac").mean(["chain", "draw"])
    for phase, truth in zip(result.phases, truths, strict=True):
        off = [
            abs(float(mean.sel(phase=phase, element=e)) - truth.composition.get(e, 0.0))
            for e in result.elements
        ]
        assert max(off) < 0.06, phase
