"""The unmixing model against a dense double-precision computation written from its equations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest
from scipy.special import logsumexp
from scipy.stats import multinomial, norm

from bayesunmix.config.priors import Priors
from bayesunmix.inference.compilation import Program
from bayesunmix.inference.density import FlatModel, flatten_model
from bayesunmix.inference.mixture import (
    DROPPED_SHARE,
    chunked,
    relative_likelihood,
    responsibilities,
    support_point_weights,
    with_all_points,
)
from bayesunmix.models.abundance import abundance_prior, log_weights, simplex_support_points
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.pixels import CHUNK_PIXELS, PixelChunks
from bayesunmix.models.thickness import N_COLUMNS, ThicknessEffect, answered, counted
from bayesunmix.models.unmixing import (
    GAUGE_SD,
    Latents,
    UnmixingData,
    component_weights,
    continuum_corrections,
    log_likelihood,
    log_ratios,
    spectra,
    thickness_parameters,
    unmixing_model,
)
from tests.stated import ratio_of_first

FloatArray = npt.NDArray[np.float64]

N_PIXELS, N_COUNTS, N_CHANNELS = 300, 250, 14
SITE_SD = 0.05


@dataclass(frozen=True)
class Toy:
    """A small model with pixels drawn from it."""

    data: UnmixingData
    latents: Latents
    counts: npt.NDArray[np.float32]
    relative: FloatArray
    columns: npt.NDArray[np.float32]
    in_order: PixelChunks

    def log_likelihood(
        self, pixels: PixelChunks, latents: Latents | None = None, *, tilted: bool = True
    ) -> float:
        """Log-likelihood of the pixels in these chunks, relative to their baselines."""
        data, at = self.data._replace(pixels=pixels), self.latents if latents is None else latents
        parameters = thickness_parameters(data, at) if tilted else (jnp.zeros(()), jnp.zeros(()))
        return float(_likelihood(data, at, parameters))


@Program
def _likelihood(data: UnmixingData, latents: Latents, parameters: tuple[Any, Any]) -> jax.Array:
    log_pi = log_weights(data.prior, latents["abundance_xi"])
    return log_likelihood(data, spectra(data, latents), log_pi, *parameters)


def _basis(rng: np.random.Generator) -> EndmemberBasis:
    """Two phases; three elements and the continuum; the fourth family belongs to the first element."""
    allowed = np.ones((2, 4), bool)
    allowed[1, 2] = False
    ratio = np.ones((2, 4))
    ratio[:, 3] = 0.4, 0.6
    return EndmemberBasis(
        allowed,
        rng.dirichlet(np.full(N_CHANNELS, 0.4), size=(2, 4)),
        np.array([0, 1, 2, 0]),
        ratio,
        np.array([0.0, 0.0, 0.0, 0.2]),
        rng.dirichlet(np.full(N_CHANNELS, 5.0), size=(2, 3)),
        np.full((2, 3), 1 / 3),
        np.full(N_CHANNELS, 1 / N_CHANNELS),
    )


@pytest.fixture(scope="module")
def toy() -> Toy:
    rng = np.random.default_rng(11)
    basis = _basis(rng)
    free = np.argwhere(basis.allowed)
    scale = np.full(len(free), 0.02)
    units = jnp.asarray([25.0, 8.0, 4.0, 11.0, 3.0, 30.0, 15.0])
    statements = ratio_of_first([1.0, 0.0, 0.0], [0.0, 1.0, 0.5], 0.3, SITE_SD)
    yields = np.array([[1.0, 0.8, 1.3], [0.9, 0.7, 1.4]])
    weights = np.zeros((2, 4))
    weights[free[:, 0], free[:, 1]] = scale * np.asarray(units)
    start = np.einsum("ki,kic->kc", weights, basis.family_templates) + 1e-3
    start /= start.sum(axis=1, keepdims=True)
    points = simplex_support_points(start, N_COUNTS)
    prior = abundance_prior(points, start, N_COUNTS, np.array([True, False]))
    effect = ThicknessEffect(
        -0.3 * np.linspace(1.0, 0.0, N_CHANNELS) ** 2,
        np.linspace(0.0, 0.5, N_CHANNELS) ** 2,
        np.array([0.9, 1.2]),
        0.5,
    )
    data = UnmixingData(
        None,
        basis,
        prior,
        free,
        scale,
        np.array([3]),
        yields,
        statements,
        effect,  # type: ignore[arg-type]
    )
    latents: Latents = {
        "line_units": units,
        "family_log_ratio": jnp.asarray([0.7]),
        "continuum_shared": jnp.asarray([0.5, -0.2, 0.1]),
        "continuum_by_phase": jnp.asarray(rng.normal(size=(2, 3))),
        "abundance_xi": jnp.asarray(rng.normal(size=len(points))),
        "absorption_scale": jnp.asarray(0.6),
        "stray_exponent": jnp.asarray(-0.4),
        "response": jnp.zeros(0),
    }
    endmembers = np.asarray(spectra(data, latents))
    # Most pixels are near one phase or the other, so that they need different support points.
    truth = rng.beta(0.3, 0.3, N_PIXELS)[:, None]
    mixed = truth * endmembers[0] + (1 - truth) * endmembers[1]
    counts = rng.multinomial(N_COUNTS, mixed).astype(np.float32)
    likelihood = relative_likelihood(counts, np.log(points @ endmembers))
    share = responsibilities(likelihood, 0.99 * support_point_weights(likelihood) + 0.01 / len(points))
    relative = rng.uniform(0.5, 1.7, N_PIXELS)
    columns = counted(counts, relative, effect)
    pixels = with_all_points(
        columns, len(points), np.append(np.full(N_CHANNELS, -np.log(N_CHANNELS)), np.zeros(N_COLUMNS))
    )
    rows = answered(points @ endmembers, points, effect, *thickness_parameters(data, latents))
    in_order = chunked(columns, share, np.asarray(rows))
    return Toy(data._replace(pixels=pixels), latents, counts, relative, columns, in_order)


def baseline_part(pixels: PixelChunks) -> float:
    """Return what the model leaves out: the log-likelihood of the baselines."""
    return float(np.einsum("bp,bpc,bc->", pixels.present, pixels.counts.astype(float), pixels.baseline))


def dense(toy: Toy, mixed: FloatArray, log_pi: FloatArray, scale: float, exponent: float) -> float:
    """Log-likelihood without the multinomial coefficients, all pixels with all support points in double precision."""
    effect = toy.data.effect
    joint = np.empty((N_PIXELS, len(mixed)))
    for j, (point, m) in enumerate(zip(toy.data.prior.support_points, mixed, strict=True)):
        u = toy.relative * float(point @ effect.mass_per_count) - 1.0
        tilt = scale * u[:, None] * effect.absorption_slope
        tilt = tilt - exponent * np.log(toy.relative)[:, None] * effect.stray_share
        mean = tilt @ m
        normaliser = mean + 0.5 * ((tilt - mean[:, None]) ** 2) @ m
        joint[:, j] = (toy.counts * (np.log(m) + tilt)).sum(axis=1) - N_COUNTS * normaliser
    return float(logsumexp(joint + log_pi, axis=1).sum())


# The matrix product is in single precision: each pixel's sum of up to 250 counts times a log ratio of order 1 is
# rounded at 2^-24 of its size, and 300 pixels add up.
ROUNDING = N_PIXELS * N_COUNTS * 4 * 2.0**-24


def test_log_likelihood_is_a_mixture_of_multinomials(toy: Toy) -> None:
    endmembers = np.asarray(spectra(toy.data, toy.latents))
    log_pi = np.asarray(log_weights(toy.data.prior, toy.latents["abundance_xi"]))
    found = toy.log_likelihood(toy.data.pixels, tilted=False)
    mixed = toy.data.prior.support_points @ endmembers
    counts = toy.counts.astype(int)
    each = np.array([multinomial.logpmf(counts, N_COUNTS, m / m.sum()) for m in mixed])
    expected = logsumexp(each + log_pi[:, None], axis=0).sum()
    # scipy's coefficient is that of a multinomial where every count is certain: one channel for each.
    coefficient = multinomial.logpmf(counts, N_COUNTS, np.full(N_CHANNELS, 1 / N_CHANNELS))
    coefficient = coefficient + N_COUNTS * np.log(N_CHANNELS)
    total = found + baseline_part(toy.data.pixels) + coefficient.sum()
    assert total == pytest.approx(expected, abs=ROUNDING)


def test_gradient_of_the_log_likelihood(toy: Toy) -> None:
    endmembers = np.asarray(spectra(toy.data, toy.latents))
    log_pi = np.asarray(log_weights(toy.data.prior, toy.latents["abundance_xi"]))
    at = jnp.asarray(endmembers), jnp.asarray(log_pi), jnp.asarray(1.2), jnp.asarray(0.3)
    slopes = Program(jax.grad(log_likelihood, argnums=(1, 2, 3, 4)))(toy.data, *at)
    rng = np.random.default_rng(5)
    for _ in range(3):
        # Endmembers keep their unit sum.
        step = [
            endmembers * rng.normal(size=endmembers.shape),
            rng.normal(size=log_pi.shape),
            *rng.normal(size=2),
        ]
        step[0] -= endmembers * step[0].sum(axis=1, keepdims=True)

        def along(t: float, step: list[Any] = step) -> float:
            moved = [
                value + t * change for value, change in zip((endmembers, log_pi, 1.2, 0.3), step, strict=True)
            ]
            return dense(toy, toy.data.prior.support_points @ moved[0], *moved[1:])

        difference = (along(1e-4) - along(-1e-4)) / 2e-4
        slope = sum(float((slope * change).sum()) for slope, change in zip(slopes, step, strict=True))
        # Rounding in single precision leaves about 2^-24 of the sums of positive terms that make the gradient.
        assert slope == pytest.approx(difference, abs=N_PIXELS * N_COUNTS * 2.0**-20)


def reference_log_density(toy: Toy, latents: dict[str, FloatArray]) -> float:
    """Log density over the latents, flat on the positive weights, written out in NumPy."""
    data, basis = toy.data, toy.data.basis
    weights = np.zeros((2, 4))
    weights[data.free[:, 0], data.free[:, 1]] = data.scale * latents["line_units"]
    rho = np.array([0.0, 0.0, 0.0, 0.2 * latents["family_log_ratio"][0]])
    endmembers = np.empty((2, N_CHANNELS))
    for k in range(2):
        tilt = 0.5 * latents["continuum_shared"] + 0.15 * latents["continuum_by_phase"][k]
        pieces = basis.continuum_area[k] * np.exp(tilt)
        spectrum = weights[k, 3] * (pieces / pieces.sum()) @ basis.continuum_templates[k]
        for f, owner in enumerate([0, 1, 2, 0]):
            counts = weights[k, owner] * basis.family_ratio[k, f] * np.exp(rho[f])
            spectrum = spectrum + counts * basis.family_templates[k, f]
        spectrum = spectrum + 1e-7 * spectrum.mean()
        endmembers[k] = spectrum / spectrum.sum()
    odds = data.prior.mean + data.prior.factor @ latents["abundance_xi"]
    mixed = data.prior.support_points @ endmembers
    scale, exponent = (
        1.0 + data.effect.scale_sd * float(latents["absorption_scale"]),
        float(latents["stray_exponent"]),
    )
    total = dense(toy, mixed, odds - logsumexp(odds), scale, exponent) - baseline_part(data.pixels)
    total += -0.5 * float((np.log(weights.sum(axis=1)) ** 2).sum()) / GAUGE_SD**2
    atoms = weights[0, :3] / data.yields[0]
    total += -0.5 * ((np.log(atoms[0] / (atoms[1] + 0.5 * atoms[2])) - 0.3) / SITE_SD) ** 2
    return total + sum(float(norm.logpdf(v).sum()) for name, v in latents.items() if name != "line_units")


@pytest.fixture(scope="module")
def flat(toy: Toy) -> FlatModel:
    return flatten_model(unmixing_model, toy.data, toy.latents)


def test_log_density_and_its_gradient(toy: Toy, flat: FlatModel) -> None:
    rng = np.random.default_rng(6)
    # On the gauge: off it, its steep penalty would hide everything else.
    sums = np.asarray(component_weights(toy.data, toy.latents)).sum(axis=1)
    units = toy.latents["line_units"] / sums[toy.data.free[:, 0]]
    centre = flat.flatten({**toy.latents, "line_units": units})

    def reference(z: FloatArray) -> float:
        latents = flat.constrain(z)
        weights = z[flat.places["line_units"]]
        jacobian = -np.logaddexp(0.0, -weights).sum()  # of y = softplus(z)
        return reference_log_density(toy, latents) + jacobian

    value, gradient = flat.value_and_gradient(centre, toy.data)
    assert value == pytest.approx(-reference(centre), abs=ROUNDING)
    for _ in range(3):
        step = rng.normal(size=flat.size)
        differences = [
            -(reference(centre + h * step) - reference(centre - h * step)) / (2 * h) for h in (1e-5, 2e-5)
        ]
        # Richardson's extrapolation takes out the gauge's curvature.
        difference = (4 * differences[0] - differences[1]) / 3
        assert float(gradient @ step) == pytest.approx(difference, abs=0.05 + 1e-4 * abs(difference))


def test_pixels_in_their_order_are_the_same_pixels(toy: Toy) -> None:
    assert len(toy.in_order.counts) == -(-N_PIXELS // CHUNK_PIXELS)
    n_points = len(toy.data.prior.support_points)
    assert toy.in_order.n_points.min() < n_points  # something is dropped
    found = toy.log_likelihood(toy.in_order) + baseline_part(toy.in_order)
    whole = toy.log_likelihood(toy.data.pixels) + baseline_part(toy.data.pixels)
    lost = whole - found
    # Support points that hold less than a ten-thousandth of a pixel's posterior are dropped: what they hold together
    # bounds the loss, and is far below half a nat.
    assert DROPPED_SHARE == 1e-4
    assert -ROUNDING < lost < 0.5


def test_chunks_with_every_support_point_lose_nothing(toy: Toy) -> None:
    endmembers = np.asarray(spectra(toy.data, toy.latents))
    n_points = len(toy.data.prior.support_points)
    share = np.full((N_PIXELS, n_points), 1 / n_points, np.float32)
    points, parameters = toy.data.prior.support_points, thickness_parameters(toy.data, toy.latents)
    rows = answered(points @ endmembers, points, toy.data.effect, *parameters)
    pixels = chunked(toy.columns, share, np.asarray(rows))
    found, whole = toy.log_likelihood(pixels), toy.log_likelihood(toy.data.pixels)
    expected = whole + baseline_part(toy.data.pixels) - baseline_part(pixels)
    assert found == pytest.approx(expected, abs=ROUNDING)


def test_what_fills_up_chunks_does_not_count(toy: Toy) -> None:
    pixels = toy.in_order
    assert (pixels.present == 0).any()
    counts = np.where(pixels.present[:, :, None] > 0, pixels.counts, 77.0).astype(np.float32)
    # Support points that the chunk already has would count twice, and a chunk behind the last one for nothing.
    place = np.arange(pixels.support_points.shape[1])
    again = np.where(place < pixels.n_points[:, None], pixels.support_points, pixels.support_points[:, :1])
    longer = jax.tree.map(
        lambda field: np.concatenate([field, field[-1:]]), pixels._replace(ends=pixels.n_points)
    )
    changed = (
        pixels._replace(counts=counts),
        pixels._replace(support_points=again.astype(np.int32)),
        longer._replace(ends=pixels.ends),
    )
    before = toy.log_likelihood(pixels)
    for other in changed:
        assert toy.log_likelihood(other) == before


def test_the_baseline_cancels(toy: Toy) -> None:
    tilt = np.linspace(-0.5, 0.5, N_CHANNELS + N_COLUMNS)
    moved = toy.data.pixels._replace(baseline=toy.data.pixels.baseline + tilt)
    before, after = (toy.log_likelihood(pixels) for pixels in (toy.data.pixels, moved))
    assert before - after == pytest.approx(float(toy.columns.sum(axis=0) @ tilt), abs=ROUNDING)


def test_numbering_of_the_phases_is_free(toy: Toy, flat: FlatModel) -> None:
    data, basis, prior = toy.data, toy.data.basis, toy.data.prior
    fields = {
        name: getattr(basis, name)[::-1]
        for name in ("allowed", "family_templates", "family_ratio", "continuum_templates", "continuum_area")
    }
    swapped = data._replace(
        basis=basis._replace(**fields),
        prior=prior._replace(support_points=prior.support_points[:, ::-1]),
        free=np.stack([1 - data.free[:, 0], data.free[:, 1]], axis=1),
        yields=data.yields[::-1],
        statements=data.statements._replace(
            above=data.statements.above[:, ::-1], below=data.statements.below[:, ::-1]
        ),
        effect=data.effect._replace(mass_per_count=data.effect.mass_per_count[::-1]),
    )
    latents = {**toy.latents, "continuum_by_phase": toy.latents["continuum_by_phase"][::-1]}
    first, _ = flat.value_and_gradient(flat.flatten(toy.latents), data)
    second, _ = flat.value_and_gradient(flat.flatten(latents), swapped)
    assert second == pytest.approx(first, abs=ROUNDING)


def test_a_component_declared_absent_has_no_weight(toy: Toy) -> None:
    weights = np.asarray(component_weights(toy.data, toy.latents))
    assert weights[1, 2] == 0.0
    assert (weights[toy.data.basis.allowed] > 0).all()
    # Weights go where `free` says, in units of `scale`.
    np.testing.assert_allclose(weights[1, 3], 0.02 * 15.0)
    free = toy.data.basis._replace(allowed=np.ones((2, 4), bool))
    assert np.asarray(component_weights(toy.data._replace(basis=free), toy.latents))[1, 2] == 0.0


def test_log_ratios_and_corrections_are_in_units_of_their_priors(toy: Toy) -> None:
    np.testing.assert_allclose(np.asarray(log_ratios(toy.data, toy.latents)), [0, 0, 0, 0.2 * 0.7])
    shared, by_phase = continuum_corrections(toy.data.widths, toy.latents)
    np.testing.assert_allclose(shared, 0.5 * np.asarray(toy.latents["continuum_shared"]))
    np.testing.assert_allclose(by_phase, 0.15 * np.asarray(toy.latents["continuum_by_phase"]))


def test_a_compiled_program_follows_the_widths_of_its_data(toy: Toy) -> None:
    # Widths are constants of a program: the one compiled for the defaults must not serve others.
    program = Program(lambda data, latents: (spectra(data, latents), thickness_parameters(data, latents)[1]))
    wide = Priors(continuum_shared_sd=1.0, continuum_phase_sd=0.45, stray_exponent_sd=0.5)
    latents = {**toy.latents, "stray_exponent": jnp.asarray(0.3)}
    scaled = {
        **latents,
        "continuum_shared": 2.0 * latents["continuum_shared"],
        "continuum_by_phase": 3.0 * latents["continuum_by_phase"],
    }
    usual, usual_exponent = program(toy.data, latents)
    found, exponent = program(toy.data._replace(widths=wide), latents)
    np.testing.assert_allclose(found, program(toy.data, scaled)[0], rtol=1e-12)
    assert np.abs(np.asarray(found) - np.asarray(usual)).max() > 1e-4
    assert float(exponent) == pytest.approx(0.5 * float(usual_exponent))
