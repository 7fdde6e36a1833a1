"""Multinomial mixture clustering and the search for extreme spectra."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.core.errors import InputError
from bayesunmix.inference import clustering
from bayesunmix.inference.clustering import cluster
from bayesunmix.inference.starts import extreme_spectra

Array = npt.NDArray[Any]


def _groups(
    seed: int, *, sizes: tuple[int, ...] = (300, 150, 50), n_energy: int = 80, mean_counts: float = 400
) -> tuple[Array, Array, Array]:
    """Poisson counts of pure pixels of any thickness, their labels and the spectra (cluster, energy)."""
    rng = np.random.default_rng(seed)
    spectra = rng.dirichlet(np.full(n_energy, 1.0), len(sizes))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    means = rng.uniform(0.5, 1.5, (len(labels), 1)) * mean_counts
    return rng.poisson(means * spectra[labels]), labels, spectra


def _angles_deg(found: Array, true: Array) -> Array:
    cosine = (found * true).sum(axis=1) / (np.linalg.norm(found, axis=1) * np.linalg.norm(true, axis=1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def test_planted_clusters_are_recovered_whatever_the_thickness() -> None:
    counts, labels, spectra = _groups(0)
    result = cluster(counts, 3, seed=0)
    assert result.converged
    np.testing.assert_array_equal(result.labels, labels)
    # The smallest cluster holds 2e4 counts over 80 channels: sqrt(80 / 2e4) = 3.6 degrees.
    assert _angles_deg(result.spectra, spectra).max() < 6
    np.testing.assert_allclose(result.weights, (np.array([300, 150, 50]) - 5) / 485, atol=1e-3)


def test_constraints_hold() -> None:
    counts, _, _ = _groups(1, mean_counts=15)
    counts[3] = 0
    counts[:, 7] = 0
    result = cluster(counts, 4, seed=2, penalty=0)
    np.testing.assert_allclose(result.responsibilities.sum(axis=1), 1)
    np.testing.assert_allclose(result.spectra.sum(axis=1), 1)
    assert result.weights.sum() == pytest.approx(1)
    assert (np.diff(result.weights) <= 0).all()
    np.testing.assert_allclose(result.responsibilities[3], result.weights, atol=1e-3)
    assert (result.spectra[:, 7] == 0).all()


def test_one_cluster_has_the_closed_form() -> None:
    counts, _, _ = _groups(2)
    result = cluster(counts, 1, seed=0, penalty=0)
    mean = counts.sum(axis=0) / counts.sum()
    np.testing.assert_allclose(result.spectra[0], mean, rtol=1e-5)
    log_likelihood = float((counts * np.log(mean)).sum())
    assert result.bic == pytest.approx(-2 * log_likelihood + 79 * np.log(500), rel=1e-6)
    assert result.objective == pytest.approx(log_likelihood, rel=1e-6)


@pytest.mark.parametrize("penalty", [0.0, 5.0])
def test_every_step_climbs(penalty: float) -> None:
    counts, _, _ = _groups(3, mean_counts=20)
    data = clustering._prepared(counts.astype(np.float32))
    rng = np.random.default_rng(0)
    expectation = clustering._expected(
        data, clustering._maximised(data, rng.dirichlet(np.ones(4), len(counts)), penalty), penalty
    )
    objectives = []
    for _ in range(40):
        objectives.append(expectation.objective)
        expectation = clustering._expected(
            data, clustering._maximised(data, expectation.responsibilities, penalty), penalty
        )
        assert expectation.responsibilities.shape[1] == 4
    # The pooled counts of a cluster are float32 sums: relative 1e-7 of about 1e4 counts.
    assert np.diff(objectives).min() > -0.02
    assert objectives[-1] > objectives[0] + 100


def test_penalty_prunes_to_the_true_number() -> None:
    counts, labels, _ = _groups(4)
    pruned = cluster(counts, 8, seed=0, penalty=(80 - 1) / 2)
    np.testing.assert_array_equal(pruned.labels, labels)
    assert len(cluster(counts, 8, seed=0, penalty=0).spectra) == 8
    assert len(cluster(counts, 8, seed=0, penalty=1e6).spectra) == 1


def test_bic_prefers_the_true_number() -> None:
    counts, _, _ = _groups(5)
    bic = [cluster(counts, n, seed=0, penalty=0).bic for n in range(1, 6)]
    assert int(np.argmin(bic)) + 1 == 3


def test_reordering_pixels_reorders_labels_only() -> None:
    counts, _, _ = _groups(6)
    order = np.random.default_rng(0).permutation(len(counts))
    plain, shuffled = cluster(counts, 3, seed=0), cluster(counts[order], 3, seed=0)
    np.testing.assert_array_equal(shuffled.labels, plain.labels[order])
    np.testing.assert_allclose(shuffled.spectra, plain.spectra, atol=1e-6)


def test_same_seed_same_result() -> None:
    counts, _, _ = _groups(7, mean_counts=10)
    first, second = cluster(counts, 5, seed=3), cluster(counts, 5, seed=3)
    np.testing.assert_array_equal(first.spectra, second.spectra)


def test_identical_pixels_give_one_cluster() -> None:
    result = cluster(np.tile([5, 3, 2], (30, 1)), 3, seed=0)
    assert set(result.labels.tolist()) == {0}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"counts": np.ones((5, 4, 2))}, "`counts` must be a non-empty array"),
        ({"counts": -np.ones((5, 4))}, "`counts` must be non-negative"),
        ({"n_clusters": 0}, "`n_clusters` must be a whole number from 1 to 5, but is 0"),
        ({"n_clusters": 6}, "`n_clusters` must be a whole number from 1 to 5, but is 6"),
        ({"n_starts": 0}, "`n_starts` must be a whole number of at least 1"),
        ({"penalty": -1.0}, "`penalty` must be zero or positive"),
    ],
)
def test_bad_clustering_input_is_refused(change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"counts": np.ones((5, 4)), "n_clusters": 2, "seed": 0} | change
    with pytest.raises(InputError, match=match):
        cluster(**arguments)


def _matrix_map(seed: int, *, purest: float) -> tuple[Array, Array]:
    """Draw a map with pure matrix regions and two minor phases up to `purest`; each phase has its own lines."""
    rng = np.random.default_rng(seed)
    background = np.exp(-np.linspace(0, 3, 60))
    spectra = 0.15 * background / background.sum() + np.zeros((3, 60))
    for k, lines in enumerate([(8, 30), (14, 36), (20, 42)]):
        for line in (*lines, 50):
            spectra[k, line : line + 4] += 0.1
    spectra /= spectra.sum(axis=1, keepdims=True)
    minor = rng.uniform(0, purest, (2000, 1)) * np.repeat(np.eye(3)[1:], 1000, axis=0)
    minor[::2] = 0
    minor[:, 0] = 1 - minor.sum(axis=1)
    return rng.poisson(800 * minor @ spectra), spectra


def test_extreme_spectra_find_mixed_phases() -> None:
    counts, spectra = _matrix_map(0, purest=0.7)
    best = extreme_spectra(counts, 3, seed=0)[0]
    angle = np.array([_angles_deg(best.spectra, np.broadcast_to(s, best.spectra.shape)) for s in spectra])
    assert (np.sort(angle.argmin(axis=1)) == np.arange(3)).all()
    # Clusters of some 100 pixels hold 8e4 counts over 60 channels (1.6 degrees); pushing keeps two standard deviations
    # of the emptiest band, about a quarter of its matrix counts.
    assert angle.min(axis=1).max() < 10
    raw = np.array([_angles_deg(best.vertices, np.broadcast_to(s, best.vertices.shape)) for s in spectra])
    # The vertices themselves still hold over 30 % matrix.
    assert raw.min(axis=1).max() > 15


def test_extreme_sets_are_ordered_and_on_the_simplex() -> None:
    counts, _ = _matrix_map(1, purest=1.0)
    found = extreme_spectra(counts, 3, seed=0, n_sets=5)
    assert len(found) == 5
    assert (np.diff([candidate.divergence for candidate in found]) >= 0).all()
    for candidate in found:
        np.testing.assert_allclose(candidate.spectra.sum(axis=1), 1)
        np.testing.assert_allclose(candidate.vertices.sum(axis=1), 1)
        assert (candidate.spectra > 0).all()
        assert candidate.counts_share.sum() == pytest.approx(1, abs=1e-5)
        assert (np.diff(candidate.counts_share) <= 0).all()


def test_pure_vertices_are_hardly_pushed() -> None:
    counts, _, spectra = _groups(8, sizes=(500, 300, 200))
    best = extreme_spectra(counts, 3, seed=0)[0]
    order = [int(_angles_deg(np.broadcast_to(s, spectra.shape), spectra).argmin()) for s in best.vertices]
    assert sorted(order) == [0, 1, 2]
    assert _angles_deg(best.spectra, spectra[order]).max() < 12


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_phases": 0}, "`n_phases` must be a whole number from 1 to 8"),
        ({"n_phases": 9}, "`n_phases` must be a whole number from 1 to 8"),
        ({"n_phases": 6}, "`n_phases` must be at most the number of distinguishable spectra, but is 6"),
        ({"n_sets": 0}, "`n_sets` must be a whole number of at least 1"),
        ({"counts": np.zeros((4, 4))}, "`counts` must hold at least one count"),
    ],
)
def test_bad_search_input_is_refused(change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"counts": np.ones((5, 4)), "n_phases": 2, "seed": 0} | change
    with pytest.raises(InputError, match=match):
        extreme_spectra(**arguments)
