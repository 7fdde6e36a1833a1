"""KL-NMF: monotone, as good as scikit-learn, and right where the answer is known."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bayesunmix.core.errors import InputError
from bayesunmix.inference.nmf import kl_divergence, kl_nmf

Array = npt.NDArray[Any]


def _planted(
    seed: int, *, n_pixel: int = 600, n_energy: int = 60, n_phases: int = 3
) -> tuple[Array, Array, Array]:
    """Poisson counts, their weights and spectra; each phase is alone in a few channels and pixels."""
    rng = np.random.default_rng(seed)
    spectra = rng.gamma(0.5, size=(n_phases, n_energy))
    spectra[:, : 4 * n_phases] = np.kron(np.eye(n_phases), np.full(4, 2.0))
    spectra /= spectra.sum(axis=1, keepdims=True)
    abundances = rng.dirichlet(np.full(n_phases, 0.4), n_pixel)
    abundances[: 10 * n_phases] = np.repeat(np.eye(n_phases), 10, axis=0)
    weights = abundances * rng.uniform(500, 1500, (n_pixel, 1))
    return rng.poisson(weights @ spectra), weights, spectra


def _angles_deg(found: Array, true: Array) -> Array:
    """Angle of each true spectrum to the nearest of the found ones."""
    cosine = (true @ found.T) / np.outer(np.linalg.norm(true, axis=1), np.linalg.norm(found, axis=1))
    return np.degrees(np.arccos(np.clip(cosine, -1, 1))).min(axis=1)


@pytest.mark.parametrize("init", ["nndsvda", "random"])
def test_planted_spectra_are_recovered(init: str) -> None:
    counts, weights, spectra = _planted(0)
    result = kl_nmf(counts, 3, init=init, seed=1, max_iter=1000)
    # About 2e5 counts a phase over 60 channels give an angle of sqrt(60 / 2e5) = 1 degree by counting alone.
    assert _angles_deg(result.spectra, spectra).max() < 3
    assert result.converged
    # The fit has to beat the truth, which is one of the admissible factorisations.
    assert result.divergence < kl_divergence(counts, weights, spectra)


def test_one_phase_has_the_closed_form() -> None:
    counts, _, _ = _planted(1, n_phases=2)
    result = kl_nmf(counts, 1)
    np.testing.assert_allclose(result.spectra[0], counts.sum(axis=0) / counts.sum(), rtol=1e-5)
    np.testing.assert_allclose(result.weights[:, 0], counts.sum(axis=1), rtol=1e-5)


@pytest.mark.parametrize("init", ["nndsvda", "random"])
def test_divergence_never_rises_and_constraints_hold(init: str) -> None:
    counts, _, _ = _planted(2)
    counts[5] = 0
    counts[:, 20] = 0
    result = kl_nmf(counts, 4, init=init, seed=0, max_iter=150, tol=0)
    # float32 resolves the ratios to 1e-7, so the sum over all counts cannot be trusted below that.
    assert np.diff(result.history).max() < 1e-7 * counts.sum()
    assert result.n_iter == 150
    assert not result.converged
    assert (result.weights >= 0).all()
    assert (result.spectra >= 0).all()
    np.testing.assert_allclose(result.spectra.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(result.weights.sum(axis=1), counts.sum(axis=1), rtol=1e-5, atol=1e-6)
    assert result.divergence == pytest.approx(result.history[-1], rel=1e-2)


def test_as_good_as_scikit_learn() -> None:
    sklearn_decomposition = pytest.importorskip("sklearn.decomposition")
    counts, _, _ = _planted(3)
    reference = sklearn_decomposition.NMF(
        3, beta_loss="kullback-leibler", solver="mu", init="nndsvda", max_iter=500, tol=1e-7, random_state=0
    )
    weights = reference.fit_transform(counts.astype(float))
    theirs = kl_divergence(counts, weights, reference.components_)
    ours = kl_nmf(counts, 3, max_iter=500)
    assert theirs == pytest.approx(reference.reconstruction_err_**2 / 2, rel=1e-6)
    assert ours.divergence <= theirs * (1 + 1e-3)


def test_divergence_is_half_the_poisson_deviance() -> None:
    stats = pytest.importorskip("scipy.stats")
    counts, weights, spectra = _planted(4, n_pixel=50)
    mean = weights @ spectra
    saturated = stats.poisson.logpmf(counts, counts).sum()
    deviance = saturated - stats.poisson.logpmf(counts, mean).sum()
    assert kl_divergence(counts, weights, spectra) == pytest.approx(deviance, rel=1e-9)


@settings(max_examples=10)
@given(st.permutations(range(3)), st.integers(0, 100))
def test_permuting_the_start_permutes_the_result(order: list[int], seed: int) -> None:
    counts, _, spectra = _planted(seed, n_pixel=80, n_energy=30)
    start = 0.7 * spectra + 0.3 / 30
    plain = kl_nmf(counts, 3, init=start, max_iter=30, tol=0)
    permuted = kl_nmf(counts, 3, init=start[order], max_iter=30, tol=0)
    np.testing.assert_allclose(permuted.spectra, plain.spectra[order], rtol=0.02, atol=1e-4)


def test_same_seed_same_result_and_dtype_does_not_matter() -> None:
    counts, _, _ = _planted(5, n_pixel=100)
    first = kl_nmf(counts.astype(np.uint16), 3, init="random", seed=7, max_iter=20)
    second = kl_nmf(counts.astype(np.float64), 3, init="random", seed=7, max_iter=20)
    np.testing.assert_array_equal(first.spectra, second.spectra)


def test_blocks_of_pixels_add_up() -> None:
    counts, weights, _ = _planted(6, n_pixel=200, n_energy=40)
    # 8000 pixels x 40 channels exceed one working block, and the last block is rich in one phase only.
    few = kl_nmf(counts, 3, max_iter=90, tol=0)
    many = kl_nmf(np.repeat(counts[np.argsort(weights[:, 0])], 40, axis=0), 3, max_iter=90, tol=0)
    assert many.divergence == pytest.approx(40 * few.divergence, rel=1e-2)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"counts": np.ones(5)}, r"`counts` must be a non-empty array of shape \(pixel, energy\)"),
        ({"counts": np.ones((0, 4))}, "`counts` must be a non-empty array"),
        ({"counts": np.zeros((5, 4))}, "`counts` must hold at least one count"),
        ({"counts": -np.ones((5, 4))}, "`counts` must be non-negative, but its smallest value is -1"),
        ({"counts": np.full((5, 4), np.nan)}, "`counts` must be finite"),
        ({"counts": np.full((5, 4), "a")}, "`counts` must hold real numbers"),
        ({"n_phases": 0}, "`n_phases` must be a whole number from 1 to 4, but is 0"),
        ({"n_phases": 5}, "`n_phases` must be a whole number from 1 to 4, but is 5"),
        ({"init": "svd"}, '`init` must be one of "nndsvda", "random"'),
        ({"init": "random"}, "`seed` must be given"),
        ({"init": np.ones((3, 4))}, "`init` must have one row for each of the 2 phases, but has 3"),
        ({"init": np.ones((2, 3))}, "`init` must have the 4 channels of the counts, but has 3"),
        ({"init": np.eye(2, 4) * [[1], [0]]}, "`init` must hold something above zero in every row"),
        ({"max_iter": 0}, "`max_iter` must be a whole number of at least 1"),
        ({"tol": -1.0}, "`tol` must be zero or positive"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], match: str) -> None:
    arguments: dict[str, Any] = {"counts": np.ones((5, 4)), "n_phases": 2} | change
    with pytest.raises(InputError, match=match):
        kl_nmf(**arguments)
