"""Endmember spectra against a loop written from their equations, and what must not change them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bayesunmix.models.endmember import (
    FLOOR_SHARE,
    EndmemberBasis,
    composition,
    continuum_shape,
    endmember_spectra,
    family_counts,
)

FloatArray = npt.NDArray[np.float64]

# Two phases; three components (the continuum last), three families, two knots, nine channels.
OWNER = np.array([0, 1, 0])
RATIO_SD = np.array([0.0, 0.0, 0.1])


@pytest.fixture(scope="module")
def basis() -> EndmemberBasis:
    rng = np.random.default_rng(3)
    ratio = np.array([[1.0, 1.0, 0.3], [1.0, 1.0, 0.5]])
    return EndmemberBasis(
        allowed=np.ones((2, 3), bool),
        family_templates=rng.dirichlet(np.ones(9), size=(2, 3)),
        family_owner=OWNER,
        family_ratio=ratio,
        ratio_sd=RATIO_SD,
        continuum_templates=rng.dirichlet(np.ones(9), size=(2, 2)),
        continuum_area=np.array([[0.4, 0.6], [0.7, 0.3]]),
        floor=np.full(9, 1 / 9),
    )


WEIGHTS = np.array([[0.5, 0.2, 0.3], [0.1, 0.6, 0.2]])
LOG_RATIO = np.array([0.0, 0.0, 0.4])
SHARED = np.array([0.2, -0.1])
BY_PHASE = np.array([[0.05, 0.0], [0.0, -0.2]])


def spectra(basis: EndmemberBasis, weights: FloatArray = WEIGHTS) -> FloatArray:
    return np.asarray(endmember_spectra(basis, jnp.asarray(weights), LOG_RATIO, SHARED, BY_PHASE))


def test_spectra_are_those_of_the_equations(basis: EndmemberBasis) -> None:
    for k in range(2):
        total = np.zeros(9)
        for f in range(3):
            counts = WEIGHTS[k, OWNER[f]] * basis.family_ratio[k, f] * np.exp(LOG_RATIO[f])
            total += counts * basis.family_templates[k, f]
        raw = basis.continuum_area[k] * np.exp(SHARED + BY_PHASE[k])
        total += WEIGHTS[k, 2] * (raw / raw.sum()) @ basis.continuum_templates[k]
        # The floor moves no channel by more than its share.
        np.testing.assert_allclose(spectra(basis)[k], total / total.sum(), rtol=0, atol=FLOOR_SHARE)


def test_counts_of_a_family_follow_its_component(basis: EndmemberBasis) -> None:
    counts = np.asarray(family_counts(basis, jnp.asarray(WEIGHTS), jnp.asarray(LOG_RATIO)))
    np.testing.assert_allclose(counts[:, 0], WEIGHTS[:, 0])
    np.testing.assert_allclose(counts[:, 2], WEIGHTS[:, 0] * [0.3, 0.5] * np.exp(0.4))


@given(st.floats(1e-6, 1e6))
def test_only_the_ratios_of_the_weights_matter(factor: float) -> None:
    basis = EndmemberBasis(
        np.ones((2, 3), bool),
        np.full((2, 3, 9), 1 / 9) * np.linspace(0.5, 1.5, 9),
        OWNER,
        np.ones((2, 3)),
        RATIO_SD,
        np.full((2, 2, 9), 1 / 9),
        np.full((2, 2), 0.5),
        np.full(9, 1 / 9),
    )
    np.testing.assert_allclose(spectra(basis, factor * WEIGHTS), spectra(basis), rtol=1e-12)


def test_spectra_add_in_proportion_to_their_counts(basis: EndmemberBasis) -> None:
    other = np.array([[0.1, 0.7, 0.1], [0.3, 0.0, 0.9]])

    def counts_of(weights: FloatArray) -> FloatArray:
        counts = np.asarray(family_counts(basis, jnp.asarray(weights), jnp.asarray(LOG_RATIO)))
        return (counts.sum(axis=1) + weights[:, -1])[:, None]

    parts = counts_of(WEIGHTS) * spectra(basis) + counts_of(other) * spectra(basis, other)
    np.testing.assert_allclose(
        spectra(basis, WEIGHTS + other), parts / parts.sum(axis=1, keepdims=True), rtol=1e-10
    )


def test_a_channel_without_template_keeps_a_finite_logarithm(basis: EndmemberBasis) -> None:
    lines = basis.family_templates.copy()
    pieces = basis.continuum_templates.copy()
    lines[:, :, 4] = pieces[:, :, 4] = 0.0
    empty = spectra(basis._replace(family_templates=lines, continuum_templates=pieces))
    np.testing.assert_allclose(empty[:, 4], FLOOR_SHARE / 9, rtol=1e-5)
    np.testing.assert_allclose(empty.sum(axis=1), 1.0, rtol=1e-12)


def test_continuum_shape(basis: EndmemberBasis) -> None:
    none = np.zeros(2)
    nominal = np.asarray(continuum_shape(basis, none, np.zeros((2, 2))))
    np.testing.assert_allclose(nominal, basis.continuum_area, rtol=1e-12)
    lifted = np.asarray(continuum_shape(basis, none + 3.0, np.zeros((2, 2))))
    np.testing.assert_allclose(lifted, nominal, rtol=1e-12)  # only contrasts between knots count
    tilted = np.asarray(continuum_shape(basis, SHARED, BY_PHASE))
    expected = np.log(basis.continuum_area[:, 0] / basis.continuum_area[:, 1]) + (SHARED[0] - SHARED[1])
    expected += BY_PHASE[:, 0] - BY_PHASE[:, 1]
    np.testing.assert_allclose(np.log(tilted[:, 0] / tilted[:, 1]), expected, rtol=1e-10)


@given(st.lists(st.floats(1e-3, 1.0), min_size=4, max_size=4), st.floats(1e-3, 1e3))
def test_composition_undoes_the_yields(amounts: list[float], unit: float) -> None:
    fractions = np.array(amounts) / sum(amounts)
    yields = np.array([0.4, 3.0, 1.1, 0.02])
    found = np.asarray(composition(jnp.asarray(fractions * yields)[None], jnp.asarray(unit * yields)[None]))
    np.testing.assert_allclose(found[0], fractions, rtol=1e-12)


def test_composition_of_nothing_is_zero() -> None:
    weights = jnp.asarray([[[0.0, 2.0, 6.0]]])
    found = np.asarray(composition(weights, jnp.asarray([[1.0, 1.0, 3.0]])))
    np.testing.assert_allclose(found, [[[0.0, 0.5, 0.5]]])
