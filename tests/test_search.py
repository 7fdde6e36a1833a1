"""The search for the mode on a small map: which starts are followed, where they end, and what makes descents quick."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.chemistry.compounds import library
from bayesunmix.chemistry.given_names import GivenNames
from bayesunmix.config.phase import Phase
from bayesunmix.config.run_config import RunConfig
from bayesunmix.fit import search
from bayesunmix.fit.model_data import Blocks, fractions_at, spectra_at, weights_at
from bayesunmix.fit.preparation import prepare
from bayesunmix.fit.search import (
    CLOSE_NATS,
    EMPTY_NATS,
    NAME_NATS,
    SAME_BASIN,
    CoarseModel,
    Descent,
    ModeCandidate,
    begun,
    compare_starts,
    distance,
    followed_down,
    gone_on,
    hardly_a_phase,
    held_against,
    impurity,
    named_order,
    regular_information,
    resettled,
)
from bayesunmix.fit.starts import Start, find_starts
from bayesunmix.simulation.simulate import simulate_map

FloatArray = npt.NDArray[np.float64]

CONFIG = RunConfig.from_dict(
    {
        "map": {"energy_range": [0.9, 9.0]},
        "sample": {
            "elements": ["Mg", "Si", "Fe"],
            "thickness_nm": [100.0, 30.0],
            "density_g_cm3": [4.5, 0.3],
        },
        "instrument": {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "resolution_eV": 130.0},
        "phases": [
            {"name": "A", "composition": {"Mg": 0.45, "Si": 0.5, "Fe": 0.05}, "fraction": 0.6},
            {"name": "B", "composition": {"Mg": 0.8, "Fe": 0.2}, "fraction": 0.4},
        ],
        "simulate": {"shape": [14, 16], "counts_per_pixel": 300.0, "channels": 1000},
    }
)


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    return Blocks.of(prepare(simulate_map(CONFIG, 1).image, CONFIG))


@pytest.fixture(scope="module")
def coarse(blocks: Blocks) -> CoarseModel:
    return CoarseModel.of(blocks, *blocks.forward.basis(blocks.absorbing, blocks.allowed))


@pytest.fixture(scope="module")
def start(blocks: Blocks, coarse: CoarseModel) -> Start:
    """Return the best start."""
    given = (blocks.counts, coarse.basis, coarse.yields, blocks.statements(), blocks.matrix)
    return find_starts(*given, n_starts=1, seed=0)[0]


def mixed(start: Start, share: float) -> Start:
    """Return a start whose phases hold a share of each other."""
    turn = np.array([[1.0 - share, share], [share, 1.0 - share]])
    return dataclasses.replace(start, weights=turn @ start.weights, spectra=turn @ start.spectra)


@pytest.fixture(scope="module")
def compared(coarse: CoarseModel, start: Start) -> tuple[list[ModeCandidate], list[str]]:
    """Candidates of the best start, one in its basin and one whose phases are the same, and what was told."""
    told: list[str] = []
    return compare_starts(coarse, [mixed(start, 0.5), start, mixed(start, 0.02)], told.append), told


def test_the_best_candidate_comes_first_and_was_followed(
    compared: tuple[list[ModeCandidate], list[str]],
) -> None:
    candidates, told = compared
    assert candidates == sorted(candidates, key=lambda candidate: candidate.rank)
    assert candidates[0].followed
    for number in (1, 2, 3):
        assert any(line.startswith(f"start {number} of 3: objective ") for line in told)
    rotated = [line for line in told if line.startswith("rotated: ")]
    assert len(candidates) == 3 + len(rotated)


def test_one_start_of_a_basin_is_followed(compared: tuple[list[ModeCandidate], list[str]]) -> None:
    """Those that are followed end in different places; the others are worse by far, or in a basin of these."""
    candidates, _ = compared
    followed = [candidate for candidate in candidates if candidate.followed]
    for number, first in enumerate(followed):
        for second in followed[:number]:
            assert distance(first, second) > 0.25 * SAME_BASIN
    for other in candidates:
        if not other.followed:
            near = min(distance(other, candidate) for candidate in followed)
            assert near < SAME_BASIN or other.potential > candidates[0].potential + 0.9 * CLOSE_NATS
    assert sum(not candidate.followed for candidate in candidates) >= 1


def test_a_followed_candidate_is_at_a_mode(
    compared: tuple[list[ModeCandidate], list[str]], coarse: CoarseModel
) -> None:
    """Along its gradient, whitened, there is hardly a nat to be gained."""
    best = compared[0][0]
    z, placed = coarse.model.flatten(best.latents), coarse.model.placed(best.data)
    value, _ = coarse.model.value_and_gradient(z, placed)
    further, reached, _ = search.descend(
        coarse.model.value_and_gradient, placed, z, np.eye(z.size), max_iterations=200
    )
    assert float(value) == pytest.approx(best.potential, abs=1e-6)
    assert float(value) - reached < 0.5
    assert further.shape == z.shape


def test_the_mode_is_near_the_truth(
    compared: tuple[list[ModeCandidate], list[str]], coarse: CoarseModel
) -> None:
    """Compositions at nominal factors, in either order: 224 pixels of 300 counts tell them to a few per cent."""
    best = compared[0][0]
    atoms = weights_at(best.data, best.latents)[:, :3] / np.asarray(coarse.yields)
    atoms = atoms / atoms.sum(axis=1, keepdims=True)
    first, second = np.array([0.45, 0.5, 0.05]), np.array([0.8, 0.0, 0.2])
    errors = [np.abs(atoms - np.stack(pair)).max() for pair in ((first, second), (second, first))]
    assert min(errors) < 0.06


def test_potentials_are_those_of_all_blocks(
    blocks: Blocks, coarse: CoarseModel, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On half of the blocks a potential is half as large, and is told for all of them."""
    monkeypatch.setattr(search, "MOST_COMPARED", len(blocks.counts) // 2)
    half = CoarseModel.of(blocks, coarse.basis, coarse.yields)
    assert half.pooled.number.sum() == len(blocks.counts) // 2
    assert half.scale == pytest.approx(2.0)
    monkeypatch.setattr(search, "rotated_starts", lambda *_: [])
    candidates = compare_starts(half, [start, mixed(start, 0.01)], lambda _: None)
    assert [candidate.followed for candidate in candidates] == [True, False]
    for candidate in candidates:
        z = half.model.flatten(candidate.latents)
        value, _ = half.model.value_and_gradient(z, candidate.data)
        assert candidate.potential == pytest.approx(2.0 * value, rel=1e-6)


def test_pooled_blocks_rank_starts_as_all_do(
    blocks: Blocks, coarse: CoarseModel, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With half as many groups as blocks, differences of the objective are those of all blocks to a tenth."""
    monkeypatch.setattr(search, "MOST_GROUPS", len(blocks.counts) // 2)
    few = CoarseModel.of(blocks, coarse.basis, coarse.yields)
    assert len(few.pooled.counts) < len(blocks.counts) == len(coarse.pooled.counts)

    def objectives(model: CoarseModel) -> FloatArray:
        ends = [gone_on(model, begun(model, mixed(start, share)), 4) for share in (0.0, 0.5)]
        return np.array([end.potential for end in ends])

    pooled, every = objectives(few), objectives(coarse)
    assert np.diff(every)[0] > CLOSE_NATS
    np.testing.assert_allclose(np.diff(pooled), np.diff(every), rtol=0.1)


def test_a_distance_is_that_of_the_phase_that_differs_most(
    compared: tuple[list[ModeCandidate], list[str]],
) -> None:
    candidates, _ = compared
    best, worst = candidates[0], max(candidates, key=lambda c: distance(candidates[0], c))
    assert distance(best, best) == 0.0
    assert distance(best, worst) == pytest.approx(distance(worst, best))
    one, two = (spectra_at(c.data, c.latents) for c in (best, worst))
    apart = np.sqrt(1.0 - np.sqrt(one * two).sum(axis=1))
    assert distance(best, worst) == pytest.approx(apart.max(), rel=1e-6)


def test_a_descent_begins_at_its_start(coarse: CoarseModel, start: Start) -> None:
    descent = begun(coarse, start)
    weights = weights_at(descent.data, descent.latents(coarse))
    large = start.weights > 0.05
    np.testing.assert_allclose(
        (weights / weights.sum(axis=1, keepdims=True))[large],
        (start.weights / start.weights.sum(axis=1, keepdims=True))[large],
        rtol=0.1,
    )


def test_a_descent_says_what_it_gained(coarse: CoarseModel, start: Start) -> None:
    first = gone_on(coarse, begun(coarse, start), 5)
    second = gone_on(coarse, first, 5)
    assert second.potential < first.potential
    assert second.gained == pytest.approx(first.potential - second.potential)
    value = coarse.model.value_and_gradient(jnp.asarray(second.z), second.data)[0]
    assert float(value) == pytest.approx(second.potential)


def test_support_points_are_chosen_anew_where_a_descent_has_come_to(
    blocks: Blocks, coarse: CoarseModel, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points that a poor start has no use for come back, and nothing else of the descent changes."""
    monkeypatch.setattr(search, "MOST_POINTS", 4)
    few = CoarseModel.of(blocks, coarse.basis, coarse.yields)
    one = gone_on(few, begun(few, mixed(start, 0.4)), 20)
    anew = resettled(few, one)
    before, after = (spectra_at(d.data, d.latents(few)) for d in (one, anew))
    np.testing.assert_allclose(after, before, rtol=1e-4)
    points, chosen = (d.data.prior.support_points for d in (one, anew))
    assert chosen.shape == points.shape
    assert not np.array_equal(chosen, points)
    assert gone_on(few, anew, 20).potential < gone_on(few, one, 20).potential - CLOSE_NATS


def test_a_descent_is_followed_until_it_gains_hardly_anything(
    coarse: CoarseModel, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = gone_on(coarse, begun(coarse, mixed(start, 0.4)), 5)
    monkeypatch.setattr(search, "MOST_ITERATIONS", 3)
    monkeypatch.setattr(search, "MOST_FOLLOWED", 1)
    once = followed_down(coarse, here)
    assert once.gained > search.LEAST_GAINED
    monkeypatch.setattr(search, "MOST_FOLLOWED", 50)
    end = followed_down(coarse, here)
    assert end.gained < search.LEAST_GAINED
    assert end.potential < once.potential - search.LEAST_GAINED


def test_a_descent_is_beaten_when_it_lacks_more_than_it_gains(coarse: CoarseModel, start: Start) -> None:
    here = begun(coarse, start)
    slow, quick = (Descent(here.data, here.z, 1000.0, gained) for gained in (1.0, 400.0))
    assert slow.beaten(1000.0 - 1.01 * CLOSE_NATS)
    assert not slow.beaten(1000.0 - 0.99 * CLOSE_NATS)
    assert not quick.beaten(600.0)
    assert quick.beaten(0.0)


def test_support_points_that_hold_most_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_POINTS", 4)
    points = np.array([[1.0, 0.0], [0.0, 1.0], [0.2, 0.8], [0.4, 0.6], [0.6, 0.4]])
    kept = search._most_held(points, np.array([0.0, 0.1, 0.2, 0.3, 0.4]))
    np.testing.assert_array_equal(kept, [0, 1, 3, 4])


def test_information_of_a_weight_that_nothing_informs_has_an_inverse(coarse: CoarseModel) -> None:
    free = np.argwhere(coarse.basis.allowed)
    points = np.array([[1.0, 0.0]])
    spectra = np.full((2, len(coarse.baseline)), 1.0 / len(coarse.baseline))
    information = regular_information(coarse.basis, free, points, np.array([1000.0]), spectra)
    unseen = free[:, 0] == 1
    # No block holds the second phase: its prior alone is left.
    np.testing.assert_allclose(information[unseen][:, unseen], np.eye(unseen.sum()))
    assert (np.linalg.eigvalsh(information) > 0.5).all()
    assert (np.diag(information)[~unseen] > 2.0).any()


def test_of_which_phase_elements_are_declared_that_it_does_not_hold() -> None:
    # Counts of two elements, and of the continuum, which a film has alone.
    weights = np.array([[0.4, 0.3, 0.3], [0.001, 0.001, 0.998], [0.001, 0.001, 0.998], [0.1, 0.0, 0.9]])
    told = [Phase("grain"), Phase("film"), Phase("rim", absent=["Al"]), Phase("dim", absent=["Al"])]
    assert hardly_a_phase(told, weights, 2).tolist() == [False, False, True, False]


@pytest.mark.parametrize("names", [("Bridgmanite", "Ferropericlase"), ("Fp", "Brg")])
def test_names_that_the_library_knows_are_on_their_phases(
    blocks: Blocks, coarse: CoarseModel, start: Start, names: tuple[str, ...]
) -> None:
    """Nothing else tells the two apart; B holds no Si."""
    elements = blocks.forward.elements
    given = GivenNames.of(names, library(), elements)
    called = dataclasses.replace(blocks, phases=tuple(map(Phase, names)), given=given)
    own = dataclasses.replace(coarse, blocks=called)
    best = compare_starts(own, [start], lambda text: None)[0]
    silicon = fractions_at(best.data, best.latents)[:, elements.index("Si")]
    assert int(np.argmin(silicon)) == (0 if names[0] == "Fp" else 1)


def test_names_order_phases_that_nothing_else_tells_apart(blocks: Blocks) -> None:
    elements = blocks.forward.elements
    names = ("Quartz", "Periclase", "Rutile")
    given = GivenNames.of(names, library(), elements)
    assert "Rutile" not in given.meant
    amounts = [{"Mg": 1.0}, {"Mg": 0.4, "Si": 0.4, "Fe": 0.2}, {"Si": 1.0}]
    fractions = np.array([[one.get(element, 0.0) for element in elements] for one in amounts])

    def order(*phases: Phase) -> list[int]:
        return named_order(dataclasses.replace(blocks, phases=phases, given=given), fractions).tolist()

    quartz, periclase, rutile = map(Phase, names)
    # What the library does not know takes what is left.
    assert order(quartz, periclase, rutile) == [2, 0, 1]
    assert order(periclase, rutile, quartz) == [0, 1, 2]
    assert order(Phase("A"), Phase("B"), Phase("C")) == [0, 1, 2]
    # What is declared stays where it was fitted.
    assert order(dataclasses.replace(quartz, absent=("Fe",)), periclase, rutile) == [0, 1, 2]


def test_names_that_stand_for_something_else_are_lightly_held_against_a_solution(
    blocks: Blocks, coarse: CoarseModel, start: Start
) -> None:
    descent = begun(coarse, start)
    latents = descent.latents(coarse)

    fractions = fractions_at(descent.data, latents)

    def against(*compositions: FloatArray) -> float:
        """Nats where the two names stand for these."""
        meant = {name: (name,) for name, _ in zip("AB", compositions, strict=False)}
        given = GivenNames(meant, {name: one[None] for name, one in zip(meant, compositions, strict=True)})
        called = dataclasses.replace(blocks, phases=(Phase("A"), Phase("B")), given=given)
        return held_against(dataclasses.replace(coarse, blocks=called), descent.data, latents)

    unknown = against()
    assert against(*fractions) == pytest.approx(unknown)
    assert against(fractions[0], fractions[0]) == pytest.approx(unknown + NAME_NATS)
    assert against(*fractions[::-1]) == pytest.approx(unknown + 2.0 * NAME_NATS)


def test_a_matrix_that_is_pure_nowhere_contradicts_what_is_declared(
    coarse: CoarseModel, start: Start
) -> None:
    descent = begun(coarse, start)
    latents = descent.latents(coarse)
    points = np.asarray(descent.data.prior.support_points)
    for told in ([True, False], [False, False]):
        phases = [Phase(name, matrix=matrix) for name, matrix in zip("AB", told, strict=True)]
        assert impurity(phases, descent.data, latents).tolist() == [0.0, 0.0]
    log_odds = np.where(points[:, 0] > 0.9, -9.0, 0.0)
    xi = np.linalg.solve(
        np.asarray(descent.data.prior.factor), log_odds - np.asarray(descent.data.prior.mean)
    )
    emptied = {**latents, "abundance_xi": xi}
    phases = [Phase("A", matrix=True), Phase("B")]
    impure = impurity(phases, descent.data, emptied)
    purest = points[points[:, 0] <= 0.9, 0].max()
    np.testing.assert_allclose(impure, [1.0 - purest / 0.9, 0.0])
    assert impure[0] > 0.0
    own = dataclasses.replace(coarse, blocks=dataclasses.replace(coarse.blocks, phases=tuple(phases)))
    assert held_against(own, descent.data, emptied) == pytest.approx(
        held_against(own, descent.data, latents) + EMPTY_NATS * impure[0]
    )
