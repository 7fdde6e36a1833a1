"""Places where three phases meet: told where the map holds them, and not where it does not."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.checks.outcomes import NOTICED_OVERLAP, Overlap
from bayesunmix.checks.overlap import find_overlap
from bayesunmix.models.abundance import edge_positions, face_positions

FloatArray = npt.NDArray[np.float64]

COUNTS = 900.0
MATRIX = np.array([True, False, False])


@pytest.fixture(scope="module")
def spectra() -> FloatArray:
    rng = np.random.default_rng(0)
    drawn = rng.gamma(0.5, size=(3, 60)) + 0.02
    return np.asarray(drawn / drawn.sum(axis=1, keepdims=True))


def blocks(spectra: FloatArray, triple: float, seed: int) -> FloatArray:
    """Draw blocks of grains in a matrix, a share of which lie where two grains meet."""
    rng = np.random.default_rng(seed)
    number = 800
    share = np.zeros((number, 3))
    grain = rng.integers(1, 3, number)
    share[np.arange(number), grain] = rng.choice([0.0, 0.77], number, p=[0.6, 0.4]) * rng.uniform(
        0.3, 1.0, number
    )
    both = rng.random(number) < triple
    share[both, 1:] = 0.77 * rng.dirichlet([3.0, 3.0], int(both.sum()))
    share[:, 0] = 1.0 - share.sum(axis=1)
    return rng.poisson(COUNTS * share @ spectra).astype(float)


def test_grains_apart_are_no_cause_for_warning(spectra: FloatArray) -> None:
    for seed in range(3):
        found = find_overlap(blocks(spectra, 0.0, seed), spectra, 2, MATRIX)
        assert -0.005 < found.nats_per_block < 0.5 * NOTICED_OVERLAP
        assert found.warnings() == []


def test_grains_that_meet_are_told(spectra: FloatArray) -> None:
    found = find_overlap(blocks(spectra, 0.2, 1), spectra, 2, MATRIX)
    assert found.nats_per_block > NOTICED_OVERLAP
    assert found.share == pytest.approx(0.2, abs=0.06)
    (said,) = found.warnings()
    assert f"overlap on {100 * found.share:.0f} % of the map" in said
    assert "max_overlap = 3" in said


def test_nothing_is_compared_where_three_are_resolved_or_two_are_all(spectra: FloatArray) -> None:
    counts = blocks(spectra, 0.2, 1)
    for unmixed in (
        find_overlap(counts, spectra, 3, MATRIX),
        find_overlap(counts, spectra, 1, MATRIX),
        find_overlap(counts, spectra[:2], 2, MATRIX[:2]),
    ):
        assert unmixed == Overlap(nats_per_block=0.0, share=0.0)


def test_a_phase_that_is_nowhere_adds_nothing(spectra: FloatArray) -> None:
    counts = blocks(spectra, 0.2, 2)
    more = np.concatenate([spectra, spectra[:1, ::-1]])
    three, four = (
        find_overlap(counts, found, 2, np.arange(len(found)) == 0).nats_per_block for found in (spectra, more)
    )
    assert four == pytest.approx(three, abs=0.01)


def test_points_of_a_face_are_equal_steps_apart(spectra: FloatArray) -> None:
    points = face_positions(spectra, COUNTS)
    np.testing.assert_allclose(points.sum(axis=1), 1.0, rtol=1e-12)
    assert points.min() > 0.0
    # Neighbours within a layer are at most one standard deviation apart, by the distance of the Fisher metric.
    layers = np.unique(points[:, 2])
    assert len(layers) == len(edge_positions(0.5 * (spectra[0] + spectra[1]), spectra[2], COUNTS)) - 2
    for layer in layers:
        row = points[points[:, 2] == layer] @ spectra
        cosine = (np.sqrt(row[1:]) * np.sqrt(row[:-1])).sum(axis=1)
        steps = 2.0 * np.sqrt(COUNTS) * np.arccos(np.clip(cosine, -1.0, 1.0))
        assert steps.max(initial=0.5) < 1.01
        assert steps.min(initial=0.5) > 0.4
