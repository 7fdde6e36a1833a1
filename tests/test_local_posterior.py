"""The Gaussian at the mode of a small real model: derivatives, information and freed weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer.util import log_density

from bayesunmix.checks import declarations
from bayesunmix.checks.local_posterior import LocalPosterior, known_abundances
from bayesunmix.config.phase import Phase
from bayesunmix.fit.model_data import flat_model, latents_at
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.inference.map_estimate import find_map
from bayesunmix.inference.mixture import with_all_points
from bayesunmix.models.abundance import abundance_prior, simplex_support_points
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.statements import no_statements
from bayesunmix.models.thickness import N_COLUMNS, counted, no_effect
from bayesunmix.models.unmixing import UnmixingData, spectra, unmixing_model

N_PIXELS, N_COUNTS, N_CHANNELS = 400, 300, 14
ELEMENTS = ("Mg", "Si", "Ca")


@pytest.fixture(scope="module")
def fitted() -> FittedPosterior:
    """Return the mode of two phases that mix in every proportion; the third element is absent from the second."""
    rng = np.random.default_rng(5)
    allowed = np.ones((2, 4), bool)
    allowed[1, 2] = False
    basis = EndmemberBasis(
        allowed,
        rng.dirichlet(np.full(N_CHANNELS, 0.3), size=4)[None].repeat(2, axis=0),
        np.array([0, 1, 2, 0]),
        np.array([[1.0, 1.0, 1.0, 0.4], [1.0, 1.0, 1.0, 0.4]]),
        np.array([0.0, 0.0, 0.0, 0.2]),
        rng.dirichlet(np.full(N_CHANNELS, 5.0), size=(2, 3)),
        np.full((2, 3), 1 / 3),
        np.full(N_CHANNELS, 1 / N_CHANNELS),
    )
    weights = np.array([[0.3, 0.2, 0.2, 0.3], [0.6, 0.1, 0.0, 0.3]])
    free = np.argwhere(allowed)
    scale = np.full(len(free), 0.01)
    yields = np.array([[1.0, 0.8, 1.3], [0.9, 0.7, 1.4]])
    empty = UnmixingData(
        None, basis, None, free, scale, np.array([3]), yields, no_statements(2, 3), no_effect(2, N_CHANNELS)
    )  # type: ignore[arg-type]
    zeros = {
        "family_log_ratio": jnp.zeros(1),
        "continuum_shared": jnp.zeros(3),
        "continuum_by_phase": jnp.zeros((2, 3)),
        "absorption_scale": jnp.zeros(()),
        "stray_exponent": jnp.zeros(()),
        "response": jnp.zeros(0),
    }
    units = weights[free[:, 0], free[:, 1]] / scale
    ends = np.asarray(spectra(empty, {**zeros, "line_units": jnp.asarray(units)}))
    points = simplex_support_points(ends, N_COUNTS)
    prior = abundance_prior(points, ends, N_COUNTS, np.array([True, False]))
    share = rng.beta(0.5, 0.5, N_PIXELS)[:, None]
    counts = rng.multinomial(N_COUNTS, share * ends[0] + (1 - share) * ends[1]).astype(np.float32)
    columns = counted(counts, np.ones(N_PIXELS), empty.effect)
    even = np.append(np.full(N_CHANNELS, -np.log(N_CHANNELS)), np.zeros(N_COLUMNS))
    data = empty._replace(prior=prior, pixels=with_all_points(columns, len(points), even))
    model = flat_model(data)
    start = model.flatten(latents_at(data, units, np.full(len(points), 1.0 / len(points))))
    estimate = find_map(model.value_and_gradient, model.hessian, model.placed(data), start)
    return FittedPosterior(
        data=data,
        estimate=estimate,
        modes=(),
        absorbing=np.ones((2, 3)) / 3,
        atom_fractions=np.ones((2, 3)) / 3,
    )


@pytest.fixture(scope="module")
def local(fitted: FittedPosterior) -> LocalPosterior:
    return LocalPosterior.of(fitted)


def test_derivatives_are_those_of_the_spectra(fitted: FittedPosterior, local: LocalPosterior) -> None:
    data = fitted.data
    latents = fitted.model.constrain(fitted.estimate.z)
    slope = jax.jacfwd(lambda units: spectra(data, {**latents, "line_units": units}))
    slopes = np.asarray(jax.jit(slope)(latents["line_units"]))
    for number, (k, i) in enumerate(data.free):
        # The floor under every channel is a ten-millionth.
        np.testing.assert_allclose(
            slopes[k, :, number] / data.scale[number], local.derivatives[k, i], atol=1e-5
        )


def test_unknown_abundances_cost_information(local: LocalPosterior) -> None:
    slopes = local.slopes()
    known, all_known = (
        known_abundances(local, slopes),
        local.variance_given(slopes, *local.places.keys() - {"line_units"}),
    )
    assert np.all(known <= local.variance_given(slopes) * 1.02)
    # With everything but the weights fixed what is left is the mixing inside pixels.
    assert np.all(known <= all_known * 1.1)


@pytest.mark.calibration
def test_freed_weights_have_the_gradient_and_curvature_of_the_wider_model(
    fitted: FittedPosterior, local: LocalPosterior
) -> None:
    places = np.array([[1, 2]])
    freed = declarations._freed(local, places)
    data = fitted.data
    wider = data._replace(free=np.concatenate([data.free, places]), scale=np.concatenate([data.scale, [1.0]]))
    latents = fitted.model.constrain(fitted.estimate.z)

    def negative(units: jax.Array, weight: jax.Array) -> jax.Array:
        all_units = jnp.concatenate([units, weight])
        return -log_density(unmixing_model, (wider,), {}, {**latents, "line_units": all_units})[0]

    units, nothing = latents["line_units"], jnp.full(1, 1e-9)
    gradient = jax.grad(negative, argnums=1)(units, nothing)
    (cross, curvature) = jax.jacfwd(jax.grad(negative, argnums=1), argnums=(0, 1))(units, nothing)
    assert freed.gradient[0] == pytest.approx(float(gradient[0]), rel=0.03, abs=3.0)
    assert freed.curvature[0, 0] == pytest.approx(float(curvature[0, 0]), rel=0.05)
    scatter = np.abs(np.asarray(cross)).max()
    np.testing.assert_allclose(freed.cross[local.lines, 0], np.asarray(cross)[0], atol=0.05 * scatter)


def test_the_element_declared_absent_pins_the_phase_that_lacks_it(local: LocalPosterior) -> None:
    (change,) = declarations.taken_back(local, [Phase("A"), Phase("B", absent=["Ca"])], ELEMENTS)
    before = local.variance_given(local.slopes())
    assert change.declaration == 'absent = ["Ca"]'
    assert change.elements == ("Ca",)
    assert change.variance[1, 0] > 1.2 * before[1, 0]
    assert change.shift[1, 2] > 0.0
    np.testing.assert_allclose(change.shift.sum(axis=1), 0.0, atol=1e-9)
