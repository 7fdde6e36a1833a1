"""Starting points: near the truth where it is pinned, distinct, ordered, and true to what was declared."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.fit.starts import (
    SAME_START,
    SMALL_SHARE,
    Start,
    component_templates,
    exchanged_starts,
    find_starts,
    rotated_starts,
)
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.statements import no_statements
from tests.stated import ratio_of_first

FloatArray = npt.NDArray[np.float64]

WEIGHTS = np.array([[0.45, 0.35, 0.00, 0.20], [0.10, 0.00, 0.70, 0.20]])
ALLOWED = np.array([[True, True, True, True], [True, False, True, True]])
YIELDS = np.array([[1.0, 0.8, 1.5], [1.1, 0.7, 1.4]])
MATRIX = np.array([True, False])
NOTHING_STATED = no_statements(2, 3)


@pytest.fixture(scope="module")
def basis() -> EndmemberBasis:
    energy = np.arange(60.0)

    def peak(centre: float) -> FloatArray:
        shape = np.exp(-0.5 * ((energy - centre) / 2.0) ** 2)
        return shape / shape.sum()

    families = np.stack(
        [peak(c) for c in (8.0, 22.0, 36.0, 50.0)]
    )  # the last is a second family of element 0
    ratio = np.ones((2, 4))
    ratio[:, 3] = 0.3
    pieces = np.stack([np.linspace(1, 0, 60), np.linspace(0, 1, 60)]) / 30.0
    return EndmemberBasis(
        ALLOWED,
        np.tile(families, (2, 1, 1)),
        np.array([0, 1, 2, 0]),
        ratio,
        np.array([0.0, 0.0, 0.0, 0.1]),
        np.tile(pieces / pieces.sum(axis=1, keepdims=True), (2, 1, 1)),
        np.full((2, 2), 0.5),
        np.full(60, 1 / 60),
    )


@pytest.fixture(scope="module")
def spectra(basis: EndmemberBasis) -> FloatArray:
    raw = np.einsum("ki,kic->kc", WEIGHTS, component_templates(basis))
    return np.asarray(raw / raw.sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def counts(spectra: FloatArray) -> npt.NDArray[np.float32]:
    rng = np.random.default_rng(1)
    share = np.clip(rng.uniform(-0.8, 0.8, 400), 0.0, 1.0)[:, None]  # half the blocks are pure matrix
    return rng.multinomial(800, (1 - share) * spectra[0] + share * spectra[1]).astype(np.float32)


def hellinger(first: FloatArray, second: FloatArray) -> FloatArray:
    return np.asarray(np.sqrt(0.5 * ((np.sqrt(first) - np.sqrt(second)) ** 2).sum(axis=-1)))


@pytest.fixture(scope="module")
def starts(counts: npt.NDArray[np.float32], basis: EndmemberBasis) -> list[Start]:
    return find_starts(counts, basis, YIELDS, NOTHING_STATED, MATRIX, n_starts=3, seed=0)


def test_templates_of_components_hold_all_their_families(basis: EndmemberBasis) -> None:
    templates = component_templates(basis)
    assert templates.shape == (2, 4, 60)
    expected = basis.family_templates[0, 0] + 0.3 * basis.family_templates[0, 3]
    np.testing.assert_allclose(templates[0, 0], expected, rtol=1e-12)
    np.testing.assert_allclose(templates[1, 2], basis.family_templates[1, 2], rtol=1e-12)
    np.testing.assert_allclose(templates[0, 3], basis.continuum_templates[0].mean(axis=0), rtol=1e-12)


def test_best_start_is_near_the_truth(starts: list[Start], spectra: FloatArray) -> None:
    # The pure phase has clusters of its own; the other is never more than 80 % pure.
    assert hellinger(starts[0].spectra[0], spectra[0]) < 0.05
    assert hellinger(starts[0].spectra[1], spectra[1]) < 0.25
    assert hellinger(starts[0].spectra[1], spectra[1]) < hellinger(starts[0].spectra[1], spectra[0])


def test_starts_keep_to_what_is_absent_and_add_up(starts: list[Start]) -> None:
    for start in starts:
        assert not start.weights[~ALLOWED].any()
        assert (start.weights >= 0).all()
        np.testing.assert_allclose(start.spectra.sum(axis=1), 1.0, rtol=1e-9)


def test_starts_begin_with_the_best_and_are_distinct(starts: list[Start]) -> None:
    # Three were asked for, and one has the most different clusters for phases.
    assert 1 <= len(starts) <= 3 + 1
    assert starts[0].score == min(start.score for start in starts)
    for i, first in enumerate(starts):
        for second in starts[:i]:
            assert hellinger(first.spectra, second.spectra).max() > SAME_START


def test_whichever_cluster_is_the_matrix_there_is_a_start(basis: EndmemberBasis, spectra: FloatArray) -> None:
    """Both phases are pure somewhere, and either may be the one that is declared to be."""
    rng = np.random.default_rng(2)
    share = np.clip(rng.uniform(-0.8, 1.8, 400), 0.0, 1.0)[:, None]
    counts = rng.multinomial(800, (1 - share) * spectra[0] + share * spectra[1]).astype(np.float32)
    free = basis._replace(allowed=np.ones_like(ALLOWED))
    found = find_starts(counts, free, YIELDS, NOTHING_STATED, MATRIX, n_starts=1, seed=0)
    for one in spectra:
        assert min(hellinger(start.spectra[0], one) for start in found) < 0.05
    for i, first in enumerate(found):
        assert all(hellinger(first.spectra[0], second.spectra[0]) > SAME_START for second in found[:i])
    # Without a matrix one start is as good as another, and one was asked for; in the last both are pure.
    *_, last = found = find_starts(
        counts, free, YIELDS, NOTHING_STATED, np.zeros(2, bool), n_starts=1, seed=0
    )
    assert len(found) == 1 + 1
    for one in spectra:
        assert min(hellinger(start, one) for start in last.spectra) < 0.05


def test_of_several_matrices_one_may_cover_little(basis: EndmemberBasis, spectra: FloatArray) -> None:
    """Pure in a few blocks, which are the smallest cluster."""
    rng = np.random.default_rng(4)
    share = np.concatenate([rng.uniform(0.0, 0.3, 380), np.ones(20)])[:, None]
    counts = rng.multinomial(800, (1 - share) * spectra[0] + share * spectra[1]).astype(np.float32)
    both, free = np.array([True, True]), basis._replace(allowed=np.ones_like(ALLOWED))
    found = find_starts(counts, free, YIELDS, NOTHING_STATED, both, n_starts=3, seed=0)
    assert min(hellinger(start.spectra[1], spectra[1]) for start in found) < 0.03
    # There may be fewer clusters than matrices.
    assert find_starts(counts[:1], free, YIELDS, NOTHING_STATED, both, n_starts=2, seed=0)


def test_the_seed_decides(
    counts: npt.NDArray[np.float32], basis: EndmemberBasis, starts: list[Start]
) -> None:
    again = find_starts(counts, basis, YIELDS, NOTHING_STATED, MATRIX, n_starts=3, seed=0)
    assert [start.score for start in again] == [start.score for start in starts]


def test_a_missed_stoichiometry_costs(
    counts: npt.NDArray[np.float32], basis: EndmemberBasis, starts: list[Start]
) -> None:
    """The penalty is that of a normal of the log ratio of sites, at the start's own composition."""
    target, sd = 0.1, 0.5
    stated = ratio_of_first([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], target, sd)
    judged = find_starts(counts, basis, YIELDS, stated, MATRIX, n_starts=18, seed=0)
    plain = find_starts(counts, basis, YIELDS, NOTHING_STATED, MATRIX, n_starts=18, seed=0)
    checked = 0
    for start in judged:
        twin = next((p for p in plain if np.array_equal(p.weights, start.weights)), None)
        if twin is not None:
            atoms = start.weights[0, :2] / YIELDS[0, :2]
            penalty = 0.5 * ((np.log(atoms[0] / atoms[1]) - target) / sd) ** 2
            assert start.score - twin.score == pytest.approx(penalty, rel=1e-6)
            checked += 1
    assert checked


def test_without_a_matrix_phase(counts: npt.NDArray[np.float32], basis: EndmemberBasis) -> None:
    found = find_starts(counts, basis, YIELDS, NOTHING_STATED, np.zeros(2, bool), n_starts=2, seed=0)
    assert found
    assert np.isfinite([start.score for start in found]).all()


def test_rotated_starts_turn_the_other_phase_both_ways(basis: EndmemberBasis) -> None:
    taken, _, given, poorer = rotated_starts(WEIGHTS, basis, MATRIX)
    for start in (given, taken, poorer):
        np.testing.assert_allclose(start.spectra.sum(axis=1), 1.0, rtol=1e-9)
        assert not start.weights[~ALLOWED].any()
    # Component 0 is the matrix's, component 2 the other phase's alone: one start trades the first for the second.
    share = [start.weights[1, 0] / start.weights[1, 2] for start in (taken, given)]
    assert share[0] < WEIGHTS[1, 0] / WEIGHTS[1, 2] < share[1]
    # The matrix has lost what the other phase holds, never below zero; the other phase stays.
    left = np.maximum(WEIGHTS[0] - SMALL_SHARE * WEIGHTS[1], 0.0) * ALLOWED[0]
    np.testing.assert_allclose(poorer.weights[0] / poorer.weights[0].sum(), left / left.sum())
    np.testing.assert_allclose(poorer.weights[1] / poorer.weights[1].sum(), WEIGHTS[1] / WEIGHTS[1].sum())


def test_exchanged_starts_change_places_and_keep_to_what_is_absent(basis: EndmemberBasis) -> None:
    (exchanged,) = exchanged_starts(WEIGHTS, basis, np.array([[False, True], [True, False]]))
    np.testing.assert_allclose(
        exchanged.weights[0] / exchanged.weights[0].sum(), WEIGHTS[1] / WEIGHTS[1].sum()
    )
    left = WEIGHTS[0] * ALLOWED[1]
    np.testing.assert_allclose(exchanged.weights[1] / exchanged.weights[1].sum(), left / left.sum())
    np.testing.assert_allclose(exchanged.spectra.sum(axis=1), 1.0, rtol=1e-9)
    assert not exchanged_starts(WEIGHTS, basis, np.zeros((2, 2), bool))
