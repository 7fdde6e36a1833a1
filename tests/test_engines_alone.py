"""Engines and initialisations by themselves, as docs/extending.md says: toy densities and toy counts, no map."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

import bayesunmix.models  # noqa: F401 - importing it switches JAX to 64 bits
from bayesunmix.inference.clustering import cluster
from bayesunmix.inference.fcls import fcls
from bayesunmix.inference.guided_nmf import guided_nmf
from bayesunmix.inference.guides import guide
from bayesunmix.inference.importance import resample, smoothed
from bayesunmix.inference.laplace import laplace_draws, truncated_gaussian
from bayesunmix.inference.map_estimate import find_map, whitening
from bayesunmix.inference.nmf import kl_nmf
from bayesunmix.inference.nuts import nuts_draws
from bayesunmix.inference.pixel_posterior import pixel_posterior
from bayesunmix.inference.starts import extreme_spectra
from bayesunmix.inference.svi import Variational
from bayesunmix.inference.truncated_normal import coordinates
from bayesunmix.models.pixels import PixelChunks, no_pixels

FloatArray = npt.NDArray[np.float64]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
ROWS = re.findall(r"^\| `(\w+)\.(\w+)\(([^)]*)\)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

MEAN = np.array([1.0, -2.0])
COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
NOWHERE = slice(0, 0)
# Standard errors: a dozen comparisons fail by chance in one seed of 10,000.
ERRORS = 4.5

SPECTRA = np.array([[0.5, 0.3, 0.2, 0.0], [0.0, 0.1, 0.3, 0.6]])


class Data(NamedTuple):
    """Mean and precision of a normal, and no pixels."""

    mean: jax.Array
    precision: jax.Array
    pixels: PixelChunks = no_pixels(1, 1)


DATA = Data(jnp.asarray(MEAN), jnp.asarray(np.linalg.inv(COVARIANCE)))
HESSIAN = np.asarray(DATA.precision)


def potential(z: jax.Array, data: Data) -> jax.Array:
    """Negative log density of a normal."""
    return 0.5 * (z - data.mean) @ data.precision @ (z - data.mean)


def assert_normal(z: FloatArray, effective: float) -> None:
    """Compare draws (draw, dim) that are worth so many independent ones with the normal."""
    sd = np.sqrt(np.diag(COVARIANCE))
    assert (abs(z.mean(axis=0) - MEAN) < ERRORS * sd / np.sqrt(effective)).all()
    assert (abs(z.std(axis=0) / sd - 1.0) < ERRORS / np.sqrt(2.0 * effective)).all()


@pytest.fixture(scope="module")
def counts() -> npt.NDArray[np.uint16]:
    """Forty pixels of either phase, and forty of both by halves."""
    share = np.repeat([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], 40, axis=0)
    return np.random.default_rng(0).poisson(2000.0 * share @ SPECTRA).astype(np.uint16)


def test_the_page_has_every_part() -> None:
    parts = "map_estimate laplace nuts svi importance clustering starts nmf guided_nmf fcls pixel_posterior"
    assert [module for module, _, _ in ROWS] == parts.split()


@pytest.mark.parametrize(("module", "name", "arguments"), ROWS)
def test_what_the_page_names_is_there(module: str, name: str, arguments: str) -> None:
    called = getattr(importlib.import_module(f"bayesunmix.inference.{module}"), name)
    parameters = inspect.signature(called).parameters
    named = arguments.split(", ")
    assert set(named) <= parameters.keys()
    required = {key for key, entry in parameters.items() if entry.default is inspect.Parameter.empty}
    assert required <= set(named)
    # The tests of this file call it.
    assert called in globals().values()


def test_map_estimate() -> None:
    found = find_map(
        jax.jit(jax.value_and_grad(potential)), jax.jit(jax.hessian(potential)), DATA, np.zeros(2)
    )
    assert found.converged
    np.testing.assert_allclose(found.z, MEAN, atol=1e-3)
    np.testing.assert_allclose(found.hessian, HESSIAN)


def test_laplace() -> None:
    z = laplace_draws(MEAN, HESSIAN, NOWHERE, chains=2, draws=2000, seed=0)
    assert z.shape == (2, 2000, 2)
    assert_normal(z.reshape(-1, 2), 4000)


def test_nuts() -> None:
    found = nuts_draws(potential, DATA, MEAN, whitening(HESSIAN), chains=2, draws=500, warmup=200, seed=0)
    assert found.z.shape == (2, 500, 2)
    assert not found.diverging.any()
    # Three transitions lie between draws: no less than a third of them count as independent.
    assert_normal(found.z.reshape(-1, 2), 333)


def test_svi_and_importance() -> None:
    # Coordinates of half the width: the guide has to widen.
    narrow = coordinates(truncated_gaussian(MEAN, 4.0 * HESSIAN, NOWHERE), NOWHERE)
    variational = Variational(potential, guide("full_rank"), narrow, DATA)
    fitted = variational.fit(0)
    assert fitted.converged
    assert fitted.history[-1] > fitted.history[0]
    z, noise = variational.draws(fitted.parameters, 1000, 1)
    weights = smoothed(variational.log_ratios(fitted.parameters, noise))
    assert weights.reliable
    assert_normal(z[resample(weights, 0)], weights.effective_draws)


def test_clustering(counts: npt.NDArray[np.uint16]) -> None:
    found = cluster(counts, 3, seed=0)
    assert found.converged
    assert all(len(set(found.labels[40 * k : 40 * k + 40])) == 1 for k in range(3))
    assert len(set(found.labels)) == 3


def test_starts(counts: npt.NDArray[np.uint16]) -> None:
    best = extreme_spectra(counts, 2, seed=0)[0]
    order = best.vertices[:, 0].argsort()[::-1]
    np.testing.assert_allclose(best.vertices[order], SPECTRA, atol=0.01)


def test_nmf(counts: npt.NDArray[np.uint16]) -> None:
    found = kl_nmf(counts, 2, seed=0)
    assert found.converged
    # Each phase has a channel that the other lacks, and pure pixels pin it.
    order = found.spectra[:, 0].argsort()[::-1]
    np.testing.assert_allclose(found.spectra[order], SPECTRA, atol=0.02)
    np.testing.assert_allclose(found.weights.sum(axis=1), counts.sum(axis=1), rtol=1e-4)


def test_guided_nmf(counts: npt.NDArray[np.uint16]) -> None:
    pooled = counts.reshape(3, 40, 4).sum(axis=1).astype(float)
    templates = np.tile(np.eye(4), (2, 1, 1))
    found = guided_nmf(pooled, templates, SPECTRA > 0, seed=0, pure_rows={0: 0, 1: 1})
    np.testing.assert_allclose(found.spectra, SPECTRA, atol=0.01)
    np.testing.assert_allclose(found.abundances, [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], atol=0.02)


def test_fcls(counts: npt.NDArray[np.uint16]) -> None:
    abundances = fcls(counts, SPECTRA).reshape(3, 40, 2)
    np.testing.assert_allclose(abundances.sum(axis=2), 1.0)
    np.testing.assert_allclose(abundances.mean(axis=1)[:, 0], [1.0, 0.0, 0.5], atol=0.02)


def test_pixel_posterior(counts: npt.NDArray[np.uint16]) -> None:
    spectra = (SPECTRA + 1e-6) / (SPECTRA + 1e-6).sum(axis=1, keepdims=True)
    found = pixel_posterior(counts, spectra[None], np.ones((1, 2)), level=0.95)
    mean = found.mean.reshape(3, 40, 2)[:, :, 0].mean(axis=1)
    np.testing.assert_allclose(mean, [1.0, 0.0, 0.5], atol=0.02)
    assert (found.pure_probability[:40, 0] > 0.9).all()
    mixed = slice(80, 120)
    assert ((found.lower[mixed, 0] < 0.5) & (0.5 < found.upper[mixed, 0])).mean() > 0.8
