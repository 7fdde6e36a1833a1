"""Guided factorisation: the truth is recovered where declared knowledge pins it, and kept to always."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import kl_div

from bayesunmix.inference.guided_nmf import GuidedFactorisation, guided_nmf

FloatArray = npt.NDArray[np.float64]

WEIGHTS = np.array([[0.6, 0.3, 0.0, 0.1], [0.2, 0.0, 0.7, 0.1]])
ALLOWED = WEIGHTS > 0
AMOUNTS = np.array([[5e4, 0.0], [4e4, 1e4], [2e4, 2e4], [1e4, 3e4], [3e3, 5e3]])


@pytest.fixture(scope="module")
def templates() -> FloatArray:
    """Unit-area peaks, a little different in the two phases, and a flat continuum."""
    energy = np.arange(40.0)
    peaks = [np.exp(-0.5 * ((energy - centre) / 2.0) ** 2) for centre in (8.0, 18.0, 28.0)]
    first = np.stack([*peaks, np.ones(40)])
    second = first * (1.0 + 0.01 * energy)
    both = np.stack([first, second])
    return np.asarray(both / both.sum(axis=2, keepdims=True))


@pytest.fixture(scope="module")
def spectra(templates: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ki,kic->kc", WEIGHTS, templates))


@pytest.fixture(scope="module")
def found(templates: FloatArray, spectra: FloatArray) -> GuidedFactorisation:
    return guided_nmf(AMOUNTS @ spectra, templates, ALLOWED, seed=3, pure_rows={0: 0}, n_iterations=3000)


def test_truth_is_recovered(found: GuidedFactorisation, spectra: FloatArray) -> None:
    np.testing.assert_allclose(found.weights, WEIGHTS, atol=5e-3)
    np.testing.assert_allclose(found.spectra, spectra, atol=1e-3)
    np.testing.assert_allclose(found.abundances, AMOUNTS / AMOUNTS.sum(axis=1, keepdims=True), atol=1e-2)
    assert found.divergence < 0.5  # of 1.9e5 noiseless counts


def test_scales_are_as_promised(found: GuidedFactorisation, templates: FloatArray) -> None:
    np.testing.assert_allclose(found.spectra.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_allclose(found.abundances.sum(axis=1), 1.0, rtol=1e-9)
    np.testing.assert_allclose(np.einsum("ki,kic->kc", found.weights, templates), found.spectra, atol=1e-9)


def test_what_is_declared_stays(templates: FloatArray, spectra: FloatArray) -> None:
    pooled = np.random.default_rng(0).poisson(AMOUNTS @ spectra).astype(float)
    for seed in range(3):
        result = guided_nmf(pooled, templates, ALLOWED, seed=seed, pure_rows={0: 0, 4: 1})
        assert not result.weights[~ALLOWED].any()
        np.testing.assert_allclose(result.abundances[[0, 4]], [[1.0, 0.0], [0.0, 1.0]])


def test_divergence_is_that_of_the_fit_and_falls(templates: FloatArray, spectra: FloatArray) -> None:
    pooled = np.random.default_rng(1).poisson(AMOUNTS @ spectra).astype(float)
    reached = []
    for iterations in (1, 3, 10, 30, 100, 300):
        result = guided_nmf(pooled, templates, ALLOWED, seed=5, n_iterations=iterations)
        reached.append(result.divergence)
    assert (np.diff(reached) < 1e-9).all()
    # At the fixed point the counts of every row are kept, so shares and spectra give the fit back.
    fit = result.abundances * pooled.sum(axis=1, keepdims=True) @ result.spectra
    assert result.divergence == pytest.approx(float(kl_div(pooled, fit).sum()), rel=0.02)


def test_the_noise_floor_is_reached(templates: FloatArray, spectra: FloatArray) -> None:
    # Half the deviance: 200 channels less 5 amounts a phase and 6 weights, over two (and their scale, 2).
    pooled = np.random.default_rng(2).poisson(AMOUNTS @ spectra).astype(float)
    result = guided_nmf(pooled, templates, ALLOWED, seed=5, n_iterations=2000)
    dof = 200 - (10 + 6 - 2)
    assert abs(2 * result.divergence - dof) < 4 * np.sqrt(2 * dof)


def test_the_seed_decides(templates: FloatArray, spectra: FloatArray) -> None:
    runs = [guided_nmf(AMOUNTS @ spectra, templates, ALLOWED, seed=s, n_iterations=5) for s in (1, 1, 2)]
    np.testing.assert_array_equal(runs[0].weights, runs[1].weights)
    assert not np.array_equal(runs[0].weights, runs[2].weights)
