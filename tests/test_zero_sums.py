"""What is divided by may be zero: phases without atoms, pixels without counts, elements without a photon."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bayesunmix.checks.goodness import expected_spectrum
from bayesunmix.chemistry.mass_balance import count_shares
from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.fit.model_data import log_odds_at, nominal_fractions
from bayesunmix.fit.sample_lines import mean_composition
from bayesunmix.fit.starts import Start, component_templates, rotated_starts
from bayesunmix.forward.quantify import CalibrationDraws, compositions
from bayesunmix.forward.spectra import Film, ForwardModel, forward_model
from bayesunmix.inference.guided_nmf import guided_nmf
from bayesunmix.inference.laplace import truncated_gaussian
from bayesunmix.inference.map_estimate import descend
from bayesunmix.inference.misfit import scores
from bayesunmix.inference.mixture import relative_likelihood, responsibilities, support_point_weights
from bayesunmix.inference.pixel_posterior import atom_shares, pixel_posterior
from bayesunmix.models.abundance import abundance_prior, edge_positions, simplex_support_points
from bayesunmix.models.endmember import composition, continuum_shape
from bayesunmix.models.statements import statement_slopes, statements_log_density
from bayesunmix.xray import Detector, LineTable
from bayesunmix.xray.continuum import continuum_basis, hat_functions
from tests.stated import ratio_of_first

FloatArray = npt.NDArray[np.float64]

ELEMENTS = ("Ti", "Fe", "Pt")
few = hypothesis_settings(max_examples=40)


def amounts(*shape: int, largest: float = 1e6) -> st.SearchStrategy[FloatArray]:
    """Amounts, many of which are exactly zero, and some as small as numbers get."""
    one = st.one_of(st.just(0.0), st.just(1e-320), st.floats(1e-6, largest))
    return arrays(np.float64, shape, elements=one)


def counts(*shape: int) -> st.SearchStrategy[npt.NDArray[np.float32]]:
    """Draw counts in which whole rows and whole columns are empty."""

    def emptied(parts: tuple[Any, Any, Any]) -> npt.NDArray[np.float32]:
        values, rows, columns = parts
        values[rows] = 0.0
        values[:, columns] = 0.0
        return np.asarray(values, np.float32)

    values = arrays(np.float64, shape, elements=st.integers(0, 40).map(float))
    rows, columns = (arrays(np.bool_, size) for size in shape)
    return st.tuples(values, rows, columns).map(emptied)


def finite(*values: Any) -> bool:  # noqa: ANN401
    return all(np.isfinite(np.asarray(value)).all() for value in values)


@pytest.fixture(scope="module")
def forward() -> ForwardModel:
    detector = Detector.from_resolution(130.0)
    return forward_model(
        ELEMENTS,
        ("Cu", "C"),
        table=LineTable.built_in(200.0, (*ELEMENTS, "Cu", "C", "O")),
        detector=detector,
        response=detector.response,
        film=Film(
            thickness_nm=(200.0, 60.0), density_g_cm3=(8.0, 0.45), takeoff_angle_deg=22.0, oxygen=False
        ),
        beam_energy_keV=200.0,
        edges_keV=np.arange(0.2, 14.0, 0.05),
        seen_oxygen=False,
    )


@given(amounts(3, 4))
def test_shares_add_up_to_one_or_to_zero(values: FloatArray) -> None:
    total = shares_of(values).sum(axis=-1)
    assert finite(total)
    assert np.all(np.isclose(total, 1.0) | (total == 0.0))
    np.testing.assert_allclose(total[values.max(axis=-1) > 1e-6], 1.0)


def test_a_ratio_to_nothing_is_nothing() -> None:
    assert ratio_of([1.0, 0.0, 3.0], [0.0, 0.0, 2.0]).tolist() == [0.0, 0.0, 1.5]


@given(amounts(2, 3), amounts(2, 3, largest=10.0).map(lambda a: a + 0.01))
def test_compositions_of_weights_that_may_all_be_zero(weights: FloatArray, yields: FloatArray) -> None:
    plain = nominal_fractions(weights, yields)
    modelled = np.asarray(composition(jnp.asarray(weights), jnp.asarray(yields)))
    np.testing.assert_allclose(plain, modelled, atol=1e-12)

    def some(w: jax.Array) -> jax.Array:
        return (composition(w, jnp.asarray(yields)) * jnp.arange(3.0)).sum()

    assert finite(plain, jax.grad(some)(jnp.asarray(weights)))


@given(amounts(2, 3))
def test_a_site_balance_without_atoms_has_a_finite_gradient(weights: FloatArray) -> None:
    stated = ratio_of_first([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], 0.0, 0.05)

    def density(w: jax.Array) -> jax.Array:
        return statements_log_density(stated, composition(w, jnp.ones((2, 3))))

    value, slope = jax.value_and_grad(density)(jnp.asarray(weights))
    assert finite(value, slope[1])


def test_a_descent_does_not_follow_a_gradient_that_is_no_number() -> None:
    def broken(z: Any, data: object) -> tuple[float, FloatArray]:  # noqa: ANN401
        z = np.asarray(z)
        gradient = 2.0 * (z - 1.0) if z[0] < 0.9 else np.full_like(z, np.nan)
        return float(((z - 1.0) ** 2).sum()), gradient

    z, value, _ = descend(broken, None, np.zeros(2))
    assert finite(z, value)


@few
@given(fractions=amounts(3, 3, largest=1.0))
def test_forward_physics_of_phases_without_atoms(forward: ForwardModel, fractions: FloatArray) -> None:
    fractions = shares_of(fractions)
    basis, yields = forward.basis(fractions, fractions > 0.0)
    assert finite(*basis, yields, forward.yield_change(fractions), forward.absorber_slopes(fractions))
    assert finite(forward.absorber_weights(fractions))
    assert (yields > 0.0).all()
    weights = np.concatenate([fractions * yields, np.full((3, len(forward.components) - 3), 0.1)], axis=1)
    one = CalibrationDraws(np.zeros((1, 2, 3)), np.full((1, 2), 1.3), np.zeros((1, 2, 3)))
    found = compositions(np.tile(weights, (1, 2, 1, 1)), yields, forward, fractions, one)
    assert finite(found)
    np.testing.assert_allclose(found.sum(axis=-1)[0, 0], fractions.sum(axis=-1), atol=1e-9)


def test_nothing_absorbs_in_a_phase_without_atoms(forward: ForwardModel) -> None:
    energy = np.array([0.3, 1.0, 5.0])
    np.testing.assert_array_equal(forward.transmitted(np.zeros(3), energy), 1.0)
    assert (forward.transmitted(np.full(3, 1 / 3), energy) < 1.0).all()


@few
@given(rows=amounts(2, 6), shares=st.floats(0.1, 1e4))
def test_edges_between_spectra_with_empty_channels(rows: FloatArray, shares: float) -> None:
    first, second = shares_of(rows)
    for counts_ in (0.0, shares):
        position = edge_positions(first, second, counts_)
        assert position[0] == 0.0
        assert position[-1] == 1.0
        assert (np.diff(position) >= 0.0).all()


def test_edge_between_a_spectrum_and_itself() -> None:
    same = np.array([0.2, 0.8, 0.0])
    np.testing.assert_allclose(edge_positions(same, same, 100.0, 4), [0.0, 0.25, 0.5, 0.75, 1.0])
    points = simplex_support_points(np.stack([same, same]) + 1e-9, 100.0)
    assert finite(*abundance_prior(points, np.stack([same, same]) + 1e-9, 100.0, np.zeros(2, bool)))


@given(amounts(5, 3), amounts(3), arrays(np.bool_, 3))
def test_abundances_add_up_to_one_whatever_has_no_atoms(
    shares: FloatArray, per_count: FloatArray, supports: npt.NDArray[np.bool_]
) -> None:
    shares = shares_of(shares)
    shares = shares[shares.sum(axis=1) > 0.0]
    found = atom_shares(shares, per_count, supports)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(found[:, supports], shares[:, supports])
    # A phase that has no counts in a pixel has no atoms there either.
    assert (found[shares == 0.0] == 0.0).all()


def test_abundances_beside_a_support_by_hand() -> None:
    supports = np.array([False, False, True])
    found = atom_shares(np.array([[0.4, 0.4, 0.2], [0.0, 0.0, 1.0]]), np.array([3.0, 1.0, 7.0]), supports)
    np.testing.assert_allclose(found, [[0.6, 0.2, 0.2], [0.0, 0.0, 1.0]])


@few
@given(counts(6, 5), arrays(np.bool_, 3))
def test_pixels_rows_and_bins_without_counts(
    rows: npt.NDArray[np.float32], supports: npt.NDArray[np.bool_]
) -> None:
    spectra = np.array([[0.5, 0.3, 0.1, 0.05, 0.05], [0.1, 0.1, 0.2, 0.3, 0.3], [0.2] * 5])
    found = pixel_posterior(
        rows.astype(np.uint16), spectra[None], np.zeros((1, 3)), level=0.9, supports=supports
    )
    assert finite(found.mean, found.sd, found.lower, found.upper, found.pure_probability, found.count_share)
    np.testing.assert_allclose(found.mean.sum(axis=1), 1.0, atol=1e-5)


def test_atoms_whose_weight_is_below_the_range_of_numbers() -> None:
    likelihood = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    weights = np.array([1.0, 1e-60])
    share = responsibilities(likelihood, weights)
    np.testing.assert_allclose(share, [[1.0, 0.0], [0.0, 1.0]])
    assert finite(support_point_weights(likelihood, start=weights, n_iterations=3))


@given(amounts(4))
def test_log_odds_of_weights_that_may_be_zero(weights: FloatArray) -> None:
    spectra = np.eye(2) * 0.8 + 0.1
    prior = abundance_prior(
        simplex_support_points(spectra, 5.0, steps_per_edge=3), spectra, 5.0, np.zeros(2, bool)
    )
    assert finite(log_odds_at(prior, weights[: len(prior.mean)]))


@few
@given(counts(5, 8), arrays(np.bool_, (2, 3)))
def test_starts_with_empty_rows_and_phases_without_components(
    pooled: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_]
) -> None:
    templates = np.tile(shares_of(np.random.default_rng(0).random((3, 8))), (2, 1, 1))
    found = guided_nmf(pooled.astype(float), templates, allowed, seed=0, n_iterations=20)
    assert finite(found.weights, found.abundances, found.spectra, found.divergence)
    likelihood = relative_likelihood(pooled, np.log(found.spectra))
    assert finite(likelihood, support_point_weights(likelihood))


def test_rotated_starts_of_a_phase_without_weights(forward: ForwardModel) -> None:
    fractions = np.array([[0.2, 0.3, 0.5], [0.0, 0.0, 0.0]])
    basis, _ = forward.basis(fractions, fractions > 0.0)
    weights = np.zeros(basis.allowed.shape)
    weights[0] = 0.1
    for start in rotated_starts(weights, basis, np.array([True, False])):
        assert isinstance(start, Start)
        assert finite(start.weights, start.spectra)
    assert finite(component_templates(basis))


def test_weights_that_ran_into_their_bound_leave_a_finite_approximation() -> None:
    z = np.array([-2000.0, -40.0, 3.0, 0.2])
    target = truncated_gaussian(z, np.diag([1.0, 1.0, 4.0, 2.0]), slice(0, 3))
    assert finite(target.mean, target.covariance)
    assert (np.linalg.eigvalsh(target.covariance) > 0.0).all()


@pytest.mark.parametrize(("beam", "top"), [(5.0, 10.0), (200.0, 20.0), (10.0, 40.0)])
def test_continuum_on_an_axis_that_goes_beyond_the_beam_energy(beam: float, top: float) -> None:
    edges = np.linspace(0.0, top, 801)
    rows = continuum_basis(edges, beam, lambda energy: np.ones_like(energy))
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)


def test_more_continuum_functions_than_channels() -> None:
    edges = np.array([1.0, 1.02, 1.04])
    rows = continuum_basis(edges, 200.0, lambda energy: np.ones_like(energy))
    assert finite(rows)
    np.testing.assert_allclose(hat_functions(np.array([1.0]), 1.0, 1.0, 3).sum(axis=0), 1.0)


def test_continuum_of_a_knot_without_a_bin(forward: ForwardModel) -> None:
    basis, _ = forward.basis(np.full((1, 3), 1 / 3), np.ones((1, 3), bool))
    area = basis.continuum_area.copy()
    area[0, 2] = 0.0
    empty = basis._replace(continuum_area=area)

    def first(shared: jax.Array) -> jax.Array:
        return continuum_shape(empty, shared, jnp.zeros(area.shape))[0, 0]

    value, slope = jax.value_and_grad(first)(jnp.zeros(area.shape[1]))
    assert finite(value, slope, jax.hessian(first)(jnp.zeros(area.shape[1])))


def test_mean_composition_of_a_spectrum_without_a_line_of_the_sample(forward: ForwardModel) -> None:
    nothing = dict.fromkeys(("Ti_K", "Fe_K", "Pt_L", "Pt_M"), 0.0)
    for found in (nothing, {}):
        mean = mean_composition(found, ELEMENTS, forward.table, forward.detector)
        np.testing.assert_allclose(mean, 1 / 3)


def test_shares_of_phases_with_the_same_spectrum() -> None:
    spectrum = np.array([0.5, 0.3, 0.2])
    found = count_shares(100.0 * spectrum, np.tile(spectrum, (4, 2, 1)), seed=0)
    assert finite(found)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    np.testing.assert_allclose(
        count_shares(100.0 * spectrum, np.tile(spectrum, (1, 2, 1)), 0), 0.5, atol=1e-6
    )


def test_slopes_of_statements_on_a_phase_without_atoms() -> None:
    stated = ratio_of_first([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], 0.0, 0.05)
    np.testing.assert_array_equal(statement_slopes(stated, np.zeros((2, 3))), 0.0)


@given(amounts(2), amounts(2, 4))
def test_expected_spectrum_of_a_segment_without_pixels(phase_counts: FloatArray, rows: FloatArray) -> None:
    spectra = shares_of(rows)
    assert finite(expected_spectrum(phase_counts, spectra, np.ones(4)))


@few
@given(counts(4, 6))
def test_residuals_of_rows_without_counts(rows: npt.NDArray[np.float32]) -> None:
    spectra = shares_of(np.array([[1.0, 2.0, 3.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 4.0, 2.0, 1.0]]))
    z, root, found = scores(rows.astype(float), spectra, np.eye(6))
    assert finite(z, root, found)
