"""Pixels in chunks: their likelihood and its slopes against plain ones, chunks for devices, and random parts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.models import pixels as module
from bayesunmix.models.pixels import PixelChunks, no_pixels, pixel_log_likelihood, widths

FloatArray = npt.NDArray[np.float64]

N_POINTS, N_COLUMNS, N_PIXELS = 11, 4, 6
# Support points of each chunk; with classes as below, two of the narrow class, three of the next, two of the last.
HELD = np.array([2, 3, 5, 6, 6, 9, 11])
WIDTHS = (3, 6)

likelihood = jax.jit(pixel_log_likelihood)
with_slopes = jax.jit(jax.value_and_grad(pixel_log_likelihood, argnums=(0, 1)))


@pytest.fixture
def chunks(monkeypatch: pytest.MonkeyPatch) -> PixelChunks:
    """Seven chunks of different weights, and one behind the last that must not be looked at."""
    monkeypatch.setattr(module, "WIDTHS", WIDTHS)
    rng = np.random.default_rng(0)
    number = len(HELD) + 1
    points = np.zeros((number, N_POINTS), np.int32)
    for chunk, held in enumerate(HELD):
        points[chunk, :held] = np.sort(rng.choice(N_POINTS, held, replace=False))
    present = rng.choice([0.0, 1.0, 2.5], (number, N_PIXELS), p=[0.2, 0.5, 0.3])
    present[-1] = 1.0
    return PixelChunks(
        counts=rng.poisson(4.0, (number, N_PIXELS, N_COLUMNS)).astype(np.float32),
        present=present,
        support_points=points,
        n_points=np.append(HELD, 1).astype(np.int32),
        baseline=rng.normal(-1.4, 0.1, (number, N_COLUMNS)),
        ends=np.array([2, 5, 7], np.int32),
    )


@pytest.fixture
def at() -> tuple[jax.Array, jax.Array]:
    """Log spectra and log weights."""
    rng = np.random.default_rng(1)
    spectra, weights = rng.dirichlet(np.full(N_COLUMNS, 3.0), N_POINTS), rng.dirichlet(np.ones(N_POINTS))
    return jnp.log(spectra), jnp.log(weights)


def dense(log_mixed: jax.Array, log_pi: jax.Array, pixels: PixelChunks) -> jax.Array:
    """Write the likelihood out, chunk by chunk, in double precision."""
    total = jnp.zeros(())
    for chunk in range(int(pixels.ends[-1])):
        points = pixels.support_points[chunk, : pixels.n_points[chunk]]
        counts = pixels.counts[chunk].astype(np.float64)
        joint = counts @ (log_mixed[points] - pixels.baseline[chunk]).T + log_pi[points]
        total += pixels.present[chunk] @ jax.nn.logsumexp(joint, axis=1)
    return total


def test_classes_end_with_the_one_that_has_all() -> None:
    assert widths(5) == (5,)
    assert widths(16) == (16,)
    assert widths(17) == (16, 17)
    assert widths(64) == (16, 32, 64)
    assert widths(128) == (16, 32, 64, 128)
    assert widths(700) == (16, 32, 64, 128, 256, 700)


def test_likelihood_and_slopes_are_those_of_the_plain_one(
    chunks: PixelChunks, at: tuple[jax.Array, jax.Array]
) -> None:
    value, slopes = with_slopes(*at, chunks)
    exact, exact_slopes = jax.jit(jax.value_and_grad(lambda *x: dense(*x, chunks), argnums=(0, 1)))(*at)
    assert float(value) == pytest.approx(float(exact), rel=1e-6)
    # Without slopes another loop sums the value.
    assert float(likelihood(*at, chunks)) == pytest.approx(float(exact), rel=1e-6)
    for slope, expected in zip(slopes, exact_slopes, strict=True):
        assert np.abs(expected).min() > 1e-8
        np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-5)


def test_second_derivatives_are_those_of_the_plain_one(
    chunks: PixelChunks, at: tuple[jax.Array, jax.Array]
) -> None:
    argnums = (0, 1)
    found = jax.jit(jax.jacfwd(jax.grad(lambda *x: pixel_log_likelihood(*x, chunks), argnums), argnums))(*at)
    exact = jax.jit(jax.hessian(lambda *x: dense(*x, chunks), argnums))(*at)
    for block, expected in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        assert np.abs(expected).max() > 1.0
        np.testing.assert_allclose(block, expected, atol=2e-5 * np.abs(expected).max())


def test_slopes_change_along_one_direction_as_along_several(
    chunks: PixelChunks, at: tuple[jax.Array, jax.Array]
) -> None:
    """Where log spectra or log weights change, or both do; at one place."""
    rng = np.random.default_rng(2)
    along = rng.normal(size=(3, *at[0].shape)), rng.normal(size=(3, *at[1].shape))
    slopes = jax.grad(lambda *x: pixel_log_likelihood(*x, chunks), argnums=(0, 1))
    change = jax.jit(lambda here, there: jax.jvp(slopes, here, there)[1])
    together = jax.vmap(change, in_axes=(None, 0))(at, along)
    spectra_alone = jax.vmap(change, in_axes=(None, (0, None)))(at, (along[0], along[1][1]))
    for number in range(3):
        one = change(at, (along[0][number], along[1][number]))
        mixed = change(at, (along[0][number], along[1][1]))
        for block, several, several_spectra, expected in zip(
            one, together, spectra_alone, mixed, strict=True
        ):
            np.testing.assert_allclose(several[number], block, rtol=1e-5, atol=1e-4)
            np.testing.assert_allclose(several_spectra[number], expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(NotImplementedError, match="at one place only"):
        jax.vmap(change)((jnp.stack([at[0]] * 3), jnp.stack([at[1]] * 3)), along)


def test_slopes_are_multiplied_by_what_comes_after(
    chunks: PixelChunks, at: tuple[jax.Array, jax.Array]
) -> None:
    once = with_slopes(*at, chunks)[1]
    thrice = jax.jit(jax.grad(lambda *x: -3.0 * pixel_log_likelihood(*x, chunks)))(*at)
    np.testing.assert_allclose(thrice, -3.0 * once[0], rtol=1e-12)


def test_no_pixels_say_nothing(chunks: PixelChunks, at: tuple[jax.Array, jax.Array]) -> None:
    for nothing in (chunks.none(), no_pixels(N_POINTS, N_COLUMNS)):
        assert nothing.fewest == nothing.most == 0
        value, slopes = with_slopes(*at, nothing)
        assert float(value) == 0.0
        assert not any(np.asarray(slope).any() for slope in slopes)


@pytest.mark.parametrize("devices", [1, 2, 3, 4, 8])
def test_devices_share_the_chunks_of_every_class(
    chunks: PixelChunks, at: tuple[jax.Array, jax.Array], devices: int
) -> None:
    shared = chunks.spread(devices)
    parts = [jax.tree.map(lambda field, own=own: field[own], shared) for own in range(devices)]
    held = np.concatenate([part.counts[: part.ends[-1]] for part in parts])
    expected = chunks.counts[: chunks.ends[-1]]
    flat = [np.sort(each.reshape(len(each), -1), axis=None) for each in (held, expected)]
    assert len(held) == len(expected)
    np.testing.assert_array_equal(*flat)
    assert {row.tobytes() for row in held} == {row.tobytes() for row in expected}
    assert shared.fewest == 7 // devices
    assert shared.most == -(-7 // devices)
    for part in parts:
        first = 0
        for end, width in zip(part.ends, widths(N_POINTS), strict=True):
            assert (part.n_points[first:end] <= width).all()
            first = end
    number = shared.ends[:, -1]
    assert number.sum() == 7
    total = sum(float(likelihood(*at, part)) for part in parts)
    assert total == pytest.approx(float(likelihood(*at, chunks)), rel=1e-6)


def test_chosen_chunks_are_of_their_classes_and_weighted(chunks: PixelChunks) -> None:
    placed = jax.tree.map(jnp.asarray, chunks)
    choose = jax.jit(lambda key: placed.chosen(key, 3))
    for seed in range(20):
        part = choose(jax.random.PRNGKey(seed))
        held = np.asarray(part.n_points)
        # No chunk twice, none from behind the last, in their order; two of the chunks hold six support points.
        rows = {np.asarray(row).tobytes() for row in part.counts}
        assert len(rows) == 3
        assert rows < {row.tobytes() for row in chunks.counts[:7]}
        assert (np.diff(held) >= 0).all()
        assert part.ends.tolist() == [(held <= width).sum() for width in widths(N_POINTS)]
        for row, present in zip(part.counts, part.present, strict=True):
            (before,) = np.flatnonzero((chunks.counts == np.asarray(row)).all(axis=(1, 2)))
            np.testing.assert_allclose(present, 7 / 3 * chunks.present[before])


@pytest.mark.parametrize(("devices", "number"), [(1, 3), (1, 7), (2, 2), (3, 2)])
def test_sums_over_chosen_chunks_are_unbiased(chunks: PixelChunks, devices: int, number: int) -> None:
    everything = jax.tree.map(jnp.asarray, chunks if devices == 1 else chunks.spread(devices))
    keys = jax.random.split(jax.random.PRNGKey(5), 3000)
    draw = jax.jit(jax.vmap(lambda key: everything.chosen(key, number)))
    parts = draw(keys)
    inside = np.arange(number) < np.asarray(parts.ends)[..., -1:]
    # Their sums over pixels of anything, here of their counts and weights alone.
    sums = (
        np.einsum("...p,...pc->...c", np.asarray(parts.present), np.asarray(parts.counts)) * inside[..., None]
    )
    sums = sums.reshape(len(keys), -1, N_COLUMNS).sum(axis=1)
    exact = np.einsum("bp,bpc->c", chunks.present[:7], chunks.counts[:7])
    error = sums.std(axis=0) / np.sqrt(len(keys))
    assert (error > 0).all() == (number < 7)
    np.testing.assert_array_less(np.abs(sums.mean(axis=0) - exact), 4.5 * error + 1e-4 * exact)
