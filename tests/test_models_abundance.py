"""Support points of the abundance prior stand one standard deviation apart; log-odds are correlated by distance."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from scipy.integrate import quad

from bayesunmix.config.priors import DEFAULT_PRIORS
from bayesunmix.models.abundance import (
    abundance_prior,
    edge_positions,
    log_weights,
    padded_prior,
    simplex_support_points,
)

FloatArray = npt.NDArray[np.float64]
COUNTS = 400.0


@pytest.fixture(scope="module")
def spectra() -> FloatArray:
    return np.random.default_rng(1).dirichlet(np.full(12, 0.7), size=3) * 0.98 + 0.02 / 12


@pytest.mark.parametrize(("p", "q"), [(0.1, 0.9), (1e-4, 0.3), (0.48, 0.52)])
def test_two_channels_have_a_closed_form(p: float, q: float) -> None:
    # The arc length of a binomial with n counts is 2 sqrt(n) arcsin(sqrt(p)).
    first, second = np.array([p, 1 - p]), np.array([q, 1 - q])
    found = edge_positions(first, second, COUNTS)
    arc = 2 * np.sqrt(COUNTS) * np.arcsin(np.sqrt([p, q]))
    length = arc[1] - arc[0]
    assert len(found) - 1 == max(2, int(np.ceil(length)))
    along = 2 * np.sqrt(COUNTS) * np.arcsin(np.sqrt(p + (q - p) * found))
    steps = np.diff(along)
    np.testing.assert_allclose(steps, length / len(steps), rtol=5e-3)
    assert found[0] == 0.0
    assert found[-1] == 1.0


def test_steps_share_the_fisher_information(spectra: FloatArray) -> None:
    first, second = spectra[:2]

    def speed(t: float) -> float:
        return float(np.sqrt(COUNTS * ((second - first) ** 2 / ((1 - t) * first + t * second)).sum()))

    found = edge_positions(first, second, COUNTS)
    steps = [quad(speed, low, high)[0] for low, high in itertools.pairwise(found)]
    np.testing.assert_allclose(steps, np.mean(steps), rtol=5e-3)
    assert 0.9 < np.mean(steps) <= 1.005


def test_number_of_steps_can_be_asked_for(spectra: FloatArray) -> None:
    assert len(edge_positions(*spectra[:2], COUNTS, n_steps=5)) == 6


def test_more_counts_give_finer_support_points(spectra: FloatArray) -> None:
    coarse, fine = (len(edge_positions(*spectra[:2], n)) - 1 for n in (400.0, 1600.0))
    assert abs(fine - 2 * coarse) <= 2  # the information grows with the counts, the steps with its root


@pytest.mark.parametrize(("overlap", "faces"), [(1, 0), (2, 7), (3, 10)])
def test_support_points_lie_on_the_simplex(spectra: FloatArray, overlap: int, faces: int) -> None:
    points = simplex_support_points(spectra, COUNTS, max_overlap=overlap)
    np.testing.assert_allclose(points.sum(axis=1), 1.0, rtol=1e-12)
    assert points.min() >= 0.0
    assert len(np.unique(points.round(9), axis=0)) == len(points)
    np.testing.assert_array_equal(points[:3], np.eye(3))
    present = (points > 0).sum(axis=1)
    assert (present == 1).sum() == 3
    assert (present == 3).sum() == faces
    edges = sum(len(edge_positions(spectra[i], spectra[j], COUNTS)) - 2 for i, j in ((0, 1), (0, 2), (1, 2)))
    assert (present == 2).sum() == (edges if overlap > 1 else 0)


def test_edges_are_those_of_their_own_two_phases(spectra: FloatArray) -> None:
    points = simplex_support_points(spectra, COUNTS)
    on_edge = points[(points[:, 1] == 0) & (points.max(axis=1) < 1)]
    np.testing.assert_allclose(on_edge[:, 2], edge_positions(spectra[0], spectra[2], COUNTS)[1:-1])


def test_one_phase_has_one_support_point(spectra: FloatArray) -> None:
    np.testing.assert_array_equal(simplex_support_points(spectra[:1], COUNTS), [[1.0]])


def test_covariance_is_exponential_in_the_fisher_distance(spectra: FloatArray) -> None:
    points = simplex_support_points(spectra[:2], COUNTS)
    prior = abundance_prior(points, spectra[:2], COUNTS, np.array([True, False]))
    covariance = prior.factor @ prior.factor.T
    # Neighbours on the edge are equal Fisher steps apart: the arc length is an independent way to their distance.
    first, second = spectra[:2]
    t = np.linspace(0, 1, 200_001)[1:-1]
    mixed = (1 - t)[:, None] * first + t[:, None] * second
    arc = np.sqrt(COUNTS * ((second - first) ** 2 / mixed).sum(axis=1)).mean()
    step = arc / (len(points) - 1)
    edge = np.arange(2, len(points))
    np.testing.assert_allclose(
        covariance[edge, edge], DEFAULT_PRIORS.abundance_log_odds_sd**2 + 1e-4, rtol=1e-6
    )
    np.testing.assert_allclose(
        covariance[edge[:-1], edge[1:]],
        DEFAULT_PRIORS.abundance_log_odds_sd**2 * np.exp(-step / DEFAULT_PRIORS.abundance_correlation_length),
        rtol=5e-3,
    )
    np.testing.assert_allclose(
        covariance[[0, 1], [0, 1]],
        DEFAULT_PRIORS.abundance_log_odds_sd**2 + DEFAULT_PRIORS.abundance_corner_sd**2 + 1e-4,
        rtol=1e-6,
    )
    assert prior.mean[0] == DEFAULT_PRIORS.abundance_matrix_log_odds
    assert not prior.mean[1:].any()


def test_phases_that_meet_without_their_matrix_are_the_rarer_ones(spectra: FloatArray) -> None:
    points, matrix = simplex_support_points(spectra, COUNTS), np.array([True, False, False])
    prior = abundance_prior(points, spectra, COUNTS, matrix)
    without = (points[:, 0] == 0.0) & (points.max(axis=1) < 1.0)
    assert without.any()
    np.testing.assert_array_equal(prior.mean[without], -DEFAULT_PRIORS.abundance_apart_log_odds)
    assert prior.mean[0] == DEFAULT_PRIORS.abundance_matrix_log_odds
    assert not prior.mean[1:][~without[1:]].any()
    # A film meets every phase; without a matrix, every phase does.
    film = abundance_prior(points, spectra, COUNTS, matrix, hosts=np.array([True, False, True]))
    assert not film.mean[(points[:, 2] > 0.0) & (points[:, 1] > 0.0)].any()
    assert not abundance_prior(points, spectra, COUNTS, np.zeros(3, bool)).mean.any()


def test_even_log_odds_are_even_weights(spectra: FloatArray) -> None:
    points = simplex_support_points(spectra, COUNTS)
    prior = abundance_prior(points, spectra, COUNTS, np.zeros(3, bool))
    even = np.exp(np.asarray(log_weights(prior, jnp.zeros(len(points)))))
    np.testing.assert_allclose(even, 1 / len(points), rtol=1e-10)


def test_weights_follow_their_log_odds(spectra: FloatArray) -> None:
    points = simplex_support_points(spectra, COUNTS)
    prior = abundance_prior(points, spectra, COUNTS, np.array([True, False, False]))
    xi = np.random.default_rng(2).normal(size=len(points))
    found = np.asarray(log_weights(prior, jnp.asarray(xi)))
    odds = prior.mean + prior.factor @ xi
    np.testing.assert_allclose(found - found[0], odds - odds[0], rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(np.exp(found).sum(), 1.0, rtol=1e-12)


def test_grains_in_a_matrix_overlap_only_with_it() -> None:
    three = np.array([[0.6, 0.2, 0.2], [0.2, 0.6, 0.2], [0.2, 0.2, 0.6]])
    free = simplex_support_points(three, COUNTS)
    embedded = simplex_support_points(three, COUNTS, matrix=np.array([True, False, False]))
    apart = (free[:, 0] == 0) & (free.max(axis=1) < 1)
    assert apart.any()
    np.testing.assert_array_equal(embedded, free[~apart])
    assert len(
        simplex_support_points(three, COUNTS, max_overlap=3, matrix=np.array([True, False, False]))
    ) == len(simplex_support_points(three, COUNTS, max_overlap=3))


def test_padding_adds_support_points_of_no_weight(spectra: FloatArray) -> None:
    points = simplex_support_points(spectra, COUNTS)
    prior = abundance_prior(points, spectra, COUNTS, np.array([True, False, False]))
    padded = padded_prior(prior, len(points) + 3)
    xi = np.random.default_rng(0).standard_normal(len(points) + 3)
    log_pi = np.asarray(log_weights(padded, jnp.asarray(xi)))
    np.testing.assert_allclose(
        log_pi[: len(points)], log_weights(prior, jnp.asarray(xi[: len(points)])), rtol=1e-12
    )
    assert np.exp(log_pi[len(points) :]).max() == 0.0
