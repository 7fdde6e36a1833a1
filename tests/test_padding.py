"""Padding to shapes that many maps share changes no number, and spares what would be compiled anew."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.checks.robust import pulled_back
from bayesunmix.fit import model_data, posterior
from bayesunmix.fit.draws import read_draws
from bayesunmix.fit.model_data import flat_model, log_ratios_at, spectra_at, weights_at
from bayesunmix.inference.compilation import counted_programs
from bayesunmix.inference.density import FlatModel, flatten_model
from bayesunmix.inference.map_estimate import MapEstimate
from bayesunmix.inference.mixture import (
    chunked,
    relative_likelihood,
    responsibilities,
    support_point_weights,
)
from bayesunmix.models import padding
from bayesunmix.models.abundance import abundance_prior, padded_prior, simplex_support_points
from bayesunmix.models.endmember import EndmemberBasis, continuum_shape, family_counts
from bayesunmix.models.padding import padded, positions, size_for
from bayesunmix.models.response import ResponseUncertainty
from bayesunmix.models.thickness import N_COLUMNS, ThicknessEffect, answered, counted
from bayesunmix.models.unmixing import (
    Latents,
    UnmixingData,
    component_weights,
    continuum_corrections,
    latent_shapes,
    log_ratios,
    spectra,
    thickness_parameters,
    unmixing_model,
)
from tests.stated import ratio_of_first

FloatArray = npt.NDArray[np.float64]

N_COUNTS = 200
KNOTS, DIRECTIONS = 3, 2


@dataclass(frozen=True)
class Small:
    """A small model of two phases with everything that a model can have, and some place in it."""

    data: UnmixingData
    latents: Latents

    def at(self, model: FlatModel) -> FloatArray:
        """Flat vector of the place."""
        return model.flatten(self.latents)


def small(*, n_pixels: int, n_channels: int, n_elements: int, n_points: int) -> Small:
    """Return a model of so many elements, one of them with a second family, and one absent from the second phase."""
    rng = np.random.default_rng(n_channels)
    components = families = n_elements + 1
    allowed = np.ones((2, components), bool)
    allowed[1, n_elements - 1] = False
    ratio = np.ones((2, families))
    ratio[:, -1] = 0.4, 0.6
    basis = EndmemberBasis(
        allowed=allowed,
        family_templates=rng.dirichlet(np.full(n_channels, 0.4), size=(2, families)),
        family_owner=np.append(np.arange(n_elements), 0),
        family_ratio=ratio,
        ratio_sd=np.append(np.zeros(n_elements), 0.2),
        continuum_templates=rng.dirichlet(np.full(n_channels, 5.0), size=(2, KNOTS)),
        continuum_area=np.full((2, KNOTS), 1 / KNOTS),
        floor=np.full(n_channels, 1 / n_channels),
    )
    weights = rng.dirichlet(np.full(components, 3.0), size=2) * allowed
    start = np.einsum("ki,kic->kc", weights, basis.family_templates) + 1e-3
    start /= start.sum(axis=1, keepdims=True)
    points = simplex_support_points(start, N_COUNTS, steps_per_edge=n_points - 1)
    effect = ThicknessEffect(
        -0.3 * np.linspace(1.0, 0.0, n_channels) ** 2,
        np.linspace(0.0, 0.5, n_channels) ** 2,
        np.array([0.9, 1.2]),
        0.5,
    )
    free = np.argwhere(allowed)
    on_a, on_b = np.zeros((2, n_elements))
    on_a[0], on_b[1:] = 1.0, 0.5
    slopes = 0.02 * rng.normal(size=(DIRECTIONS, families, n_channels)) * basis.family_templates[0]
    scale = np.full(len(free), 0.02)
    empty = UnmixingData(
        pixels=None,  # type: ignore[arg-type]
        basis=basis,
        prior=abundance_prior(points, start, N_COUNTS, np.array([True, False])),
        free=free,
        scale=scale,
        ratio_family=np.array([families - 1]),
        yields=rng.uniform(0.7, 1.4, (2, n_elements)),
        statements=ratio_of_first(on_a, on_b, 0.3, 0.05),
        effect=effect,
        response=ResponseUncertainty(slopes, np.array([0.1, -0.3]), np.array([0.8, 1.3])),
    )
    latents = {name: rng.normal(size=shape) for name, shape in latent_shapes(empty).items()}
    latents["line_units"] = weights[free[:, 0], free[:, 1]] / scale
    ends = np.asarray(spectra(empty, latents))
    truth = rng.beta(0.3, 0.3, n_pixels)[:, None]
    counts = rng.multinomial(N_COUNTS, truth * ends[0] + (1 - truth) * ends[1]).astype(np.float32)
    columns = counted(counts, rng.uniform(0.5, 1.7, n_pixels), effect)
    rows = np.asarray(answered(points @ ends, points, effect, *thickness_parameters(empty, latents)))
    likelihood = relative_likelihood(columns, rows)
    share = responsibilities(likelihood, 0.99 * support_point_weights(likelihood) + 0.01 / n_points)
    return Small(empty._replace(pixels=chunked(columns, share, rows)), latents)


@pytest.fixture(scope="module")
def own() -> Small:
    """Three chunks; four components and families, seven weights, nine support points."""
    return small(n_pixels=300, n_channels=14, n_elements=3, n_points=9)


@pytest.fixture(scope="module")
def plain(own: Small) -> tuple[FlatModel, float, FloatArray, FloatArray]:
    """Return the model in its own shapes, with value, slopes and curvature."""
    model = flatten_model(unmixing_model, own.data, own.latents)
    z, placed = own.at(model), model.placed(own.data)
    return model, *model.value_and_gradient(z, placed), model.hessian(z, placed)


# Ladders of sizes for the model above: each just as long as it must be, each just too short, and short ones whose
# multiples are taken.
EXACT = {
    "COMPONENTS": (5,),
    "CHANNELS": (14,),
    "FAMILIES": (4,),
    "KNOTS": (3,),
    "WEIGHTS": (7,),
    "RATIOS": (1,),
    "DIRECTIONS": (0, 2),
    "SUPPORT_POINTS": (9,),
    "CHUNKS": (3,),
    "PARAMETERS": (30,),
}
SHORT = {
    "COMPONENTS": (4, 7),
    "CHANNELS": (13, 20),
    "FAMILIES": (3, 6),
    "KNOTS": (2, 4),
    "WEIGHTS": (6, 8),
    "RATIOS": (0, 3),
    "DIRECTIONS": (0, 1, 4),
    "SUPPORT_POINTS": (8, 20),
    "CHUNKS": (2, 4),
    "PARAMETERS": (29, 40),
}
MULTIPLES = {name: (2,) for name in EXACT} | {"DIRECTIONS": (0, 3), "SUPPORT_POINTS": (5,)}
USUAL: dict[str, tuple[int, ...]] = {}


@pytest.mark.parametrize(
    "sizes", [USUAL, EXACT, SHORT, MULTIPLES], ids=["usual", "exact", "short", "multiples"]
)
def test_padding_changes_nothing(
    own: Small,
    plain: tuple[FlatModel, float, FloatArray, FloatArray],
    monkeypatch: pytest.MonkeyPatch,
    sizes: dict[str, tuple[int, ...]],
) -> None:
    for name, ladder in sizes.items():
        monkeypatch.setattr(padding, name, ladder)
    monkeypatch.setattr(model_data, "PARAMETERS", sizes.get("PARAMETERS", padding.PARAMETERS))
    data = own.data
    shapes = latent_shapes(padded(data))
    if sizes is EXACT:
        assert shapes == latent_shapes(data)
        assert padded(data).basis.allowed.shape[1] == data.basis.allowed.shape[1] + 1
    else:
        vectors = [name for name, shape in shapes.items() if shape]
        assert all(np.prod(shapes[name]) > np.prod(latent_shapes(data)[name]) for name in vectors)
    model = flat_model(data)
    reference, value, gradient, hessian = plain
    assert model.size == reference.size == 30
    assert model.places == reference.places
    assert model.capacity >= model.size
    z = own.at(model)
    np.testing.assert_allclose(z, own.at(reference), rtol=1e-12, atol=1e-12)
    back = model.constrain(z)
    assert back.keys() == own.latents.keys()
    for name, latent in own.latents.items():
        np.testing.assert_allclose(back[name], latent, rtol=1e-10)
    placed = model.placed(data)
    found, slopes = model.value_and_gradient(z, placed)
    # Products with the counts are in single precision, and sums in another order.
    assert found == pytest.approx(value, abs=300 * N_COUNTS * 2.0**-22)
    np.testing.assert_allclose(slopes, gradient, atol=1e-6 * np.abs(gradient).max())
    if sizes is USUAL:
        # Its program takes long to compile, and is made of the same function.
        scale = np.sqrt(np.abs(np.diag(hessian)))
        off = (model.hessian(z, placed) - hessian) / np.outer(scale, scale)
        assert np.abs(off).max() < 1e-5
    np.testing.assert_allclose(spectra_at(data, own.latents), spectra(data, own.latents), rtol=1e-9)


def test_arrays_outside_of_programs_are_those_of_the_model(own: Small) -> None:
    data = own.data
    np.testing.assert_allclose(weights_at(data, own.latents), component_weights(data, own.latents))
    np.testing.assert_allclose(log_ratios_at(data, own.latents), log_ratios(data, own.latents))


def test_draws_are_read_in_the_models_own_shapes(own: Small) -> None:
    data, model = own.data, flat_model(own.data)
    z = own.at(model) + 0.01 * np.random.default_rng(0).normal(size=(2, 3, model.size))
    fitted: Any = SimpleNamespace(model=model, data=data)
    found = read_draws(fitted, z)
    for chain, draw in np.ndindex(2, 3):
        latents = model.constrain(z[chain, draw])
        weights = component_weights(data, latents)
        expected = {
            "weights": weights,
            "family_counts": family_counts(data.basis, weights, log_ratios(data, latents)),
            "continuum": weights[:, -1:]
            * continuum_shape(data.basis, *continuum_corrections(data.widths, latents)),
            "spectra": spectra(data, latents),
            "line_shapes": latents["response"],
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(found, name)[chain, draw], values, rtol=1e-9, err_msg=name)
        scale, exponent = thickness_parameters(data, latents)
        assert found.absorption_scale[chain, draw] == pytest.approx(float(scale))
        assert found.stray_exponent[chain, draw] == pytest.approx(float(exponent))


def test_slopes_of_log_spectra_are_pulled_back_to_the_flat_vector(own: Small) -> None:
    data, model = own.data, flat_model(own.data)
    z, points = own.at(model), data.prior.support_points
    plain = flatten_model(unmixing_model, data, own.latents)

    def log_mixed(z: jax.Array) -> Any:  # noqa: ANN401
        latents = plain.programs.latents(z, plain.slots)
        return answered(
            jnp.asarray(points) @ spectra(data, latents),
            points,
            data.effect,
            *thickness_parameters(data, latents),
        )

    shape = len(points), data.basis.family_templates.shape[2] + N_COLUMNS
    slopes = np.random.default_rng(0).normal(size=(2, *shape))
    pull = jax.jit(lambda slope: jax.vjp(log_mixed, jnp.asarray(z))[1](slope)[0])
    fitted: Any = SimpleNamespace(model=model, data=data, estimate=SimpleNamespace(z=z))
    found = pulled_back(fitted, slopes)
    expected = np.stack([np.asarray(pull(slope)) for slope in slopes])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_mass_of_a_mode_does_not_depend_on_support_points_without_weight(own: Small) -> None:
    """Modes with different numbers of support points are compared: those without weight add nothing."""
    more = len(own.data.prior.mean) + 4
    pixels = own.data.pixels
    wider = own.data._replace(
        prior=padded_prior(own.data.prior, more),
        pixels=pixels._replace(support_points=np.pad(pixels.support_points, ((0, 0), (0, 4)))),
    )
    latents = {**own.latents, "abundance_xi": np.pad(own.latents["abundance_xi"], (0, 4))}
    masses = []
    for one in (own, Small(wider, latents)):
        model = flat_model(one.data)
        z = one.at(model)
        # The curvature of a parameter that nothing informs is that of its prior.
        hessian = np.eye(model.size)
        potential, _ = model.value_and_gradient(z, one.data)
        estimate = MapEstimate(
            z=z, potential=potential, hessian=hessian, gradient_norm=0.0, n_evaluations=1, converged=True
        )
        masses.append(posterior._log_mass(one.data, estimate))
    assert masses[1] == pytest.approx(masses[0], abs=0.05)


def test_maps_of_other_shapes_compile_nothing() -> None:
    maps = (
        small(n_pixels=250, n_channels=30, n_elements=4, n_points=12),
        small(n_pixels=500, n_channels=41, n_elements=6, n_points=17),
    )
    # Others may have compiled the same.
    model_data._programs.cache_clear()
    models, ready = [], []
    for each in maps:
        with counted_programs() as made:
            model = flat_model(each.data)
            z, placed = each.at(model), model.placed(each.data)
            model.value_and_gradient(z, placed)
            model.hessian(z, placed)
            model.constrain(z)
            spectra_at(each.data, each.latents)
            fitted: Any = SimpleNamespace(model=model, data=each.data)
            read_draws(fitted, z[None, None])
        models.append(model)
        ready.append([program.name for program in made])
    assert models[0].size != models[1].size
    assert models[0].programs is models[1].programs
    # Value and slopes, curvature, both ways between latents and z, and the reader of draws.
    assert len(ready[0]) >= 5
    assert ready[1] == []


ON_DEVICES = """
import json, pickle, sys
from pathlib import Path
import jax
import numpy as np
from bayesunmix.inference.density import flatten_model
from bayesunmix.models.unmixing import unmixing_model

data, latents = pickle.loads(Path(sys.argv[1]).read_bytes())
model = flatten_model(unmixing_model, data, latents)
placed, z = model.placed(data), model.flatten(latents)
value, gradient = model.value_and_gradient(z, placed)
print(json.dumps({
    "devices": len(placed.data.pixels.counts.sharding.device_set),
    "chunks": [placed.data.pixels.fewest, placed.data.pixels.most],
    "value": value,
    "gradient": gradient.tolist(),
    "row": model.hessian_rows(z, placed, np.array([0, 20])).tolist(),
}))
"""


def test_two_devices_have_the_potential_of_one(
    own: Small, plain: tuple[FlatModel, float, FloatArray, FloatArray], tmp_path: Path
) -> None:
    file = tmp_path / "small.pickle"
    file.write_bytes(pickle.dumps((own.data, own.latents)))
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES, str(file)],
        env={**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    _, value, gradient, hessian = plain
    assert found["devices"] == 2
    # Three chunks cannot be shared evenly.
    assert found["chunks"] == [1, 2]
    assert found["value"] == pytest.approx(value, rel=1e-7)
    np.testing.assert_allclose(found["gradient"], gradient, atol=1e-6 * np.abs(gradient).max())
    np.testing.assert_allclose(found["row"], hessian[[0, 20]], atol=1e-6 * np.abs(hessian).max())


@pytest.mark.parametrize(("least", "size"), [(1, 4), (4, 4), (5, 6), (6, 6), (7, 12), (12, 12), (13, 18)])
def test_sizes_are_the_smallest_that_hold_what_is_there(least: int, size: int) -> None:
    assert size_for(least, (4, 6)) == size


def test_positions_are_those_of_the_same_entries() -> None:
    own = {"b": (2, 2), "a": (), "c": (1,)}
    more = {"c": (3,), "b": (2, 3), "a": ()}
    # Laid end to end: a | b00 b01 . b10 b11 . | c0 . .
    np.testing.assert_array_equal(positions(own, more), [0, 1, 2, 4, 5, 7])
