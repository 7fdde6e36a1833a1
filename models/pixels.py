"""The likelihood of pixels whose abundances are integrated out, chunk by chunk, in shapes that many maps share.

    log p(y_p) = logsumexp_j [ log pi_j + sum_c y_pc (g_jc - b_c) ]         g_j log spectra, b baseline of the chunk
    d / d g_jc = sum_p r_pj y_pc,     d / d log pi_j = sum_p r_pj           r_pj responsibilities
    d r_pj     = r_pj (u_pj - sum_i r_pi u_pi),     u_pj = sum_c y_pc d g_jc + d log pi_j

Pixels lie in chunks, each with the few support points that its posterior lives on, narrow chunks first: one loop for
each class of widths, so that narrow chunks do not pay for wide ones. The loops are told how many chunks there are.
Arrays can therefore be longer than the pixels need (`bayesunmix.models.padding`), and one compiled program serves maps
of many sizes. The slopes are gathered in the same pass as the value: two matrix products a chunk, which are the cost of
the whole model. What the slopes change by along several directions, which a curvature is made of, takes two more for
each, all directions at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
from jax.custom_batching import custom_vmap

FloatArray = npt.NDArray[np.float64]

CHUNK_PIXELS = 128
# Classes of chunks by the number of their support points; a chunk that needs more is of the class that has all.
WIDTHS = (16, 32, 64, 128, 256)
# Log weight of a support point that a chunk does not have.
ABSENT = -1e9


class PixelChunks(NamedTuple):
    """Pixels in chunks of `CHUNK_PIXELS`; a JAX pytree.

    Attributes
    ----------
    counts : (chunk, pixel, energy + columns) float32
        Counts and what thickness needs beside them, from `bayesunmix.models.thickness.counted`; zeros where there is
        no pixel.
    present : (chunk, pixel)
        Weight of a pixel: 1, or 0 where there is none.
    support_points : (chunk, support_point) int32
        Support points that any pixel of the chunk gives a share of its posterior, and zeros.
    n_points : (chunk,) int32
        How many of them there are.
    baseline : (chunk, energy + columns)
        Log spectrum subtracted inside the matrix product, so that float32 sums stay small; it cancels in the posterior.
    ends : (class,) int32
        Number of chunks up to and with each class of `widths`; what lies behind the last is not looked at.
    """

    counts: npt.NDArray[np.float32]
    present: FloatArray
    support_points: npt.NDArray[np.int32]
    n_points: npt.NDArray[np.int32]
    baseline: FloatArray
    ends: npt.NDArray[np.int32]

    @property
    def fewest(self) -> int:
        """Chunks on the device that has the fewest."""
        return int(np.min(self.ends[..., -1]))

    @property
    def most(self) -> int:
        """Chunks on the device that has the most."""
        return int(np.max(self.ends[..., -1]))

    def spread(self, devices: int) -> PixelChunks:
        """Chunks of every class in turn for each of so many devices, along a first axis."""
        most = -(-len(self.n_points) // devices)

        def dealt(field: npt.NDArray[Any]) -> npt.NDArray[Any]:
            more = np.zeros((most * devices - len(field), *field.shape[1:]), field.dtype)
            return np.concatenate([field, more]).reshape(most, devices, *field.shape[1:]).swapaxes(0, 1)

        ends = -(-(self.ends[None] - np.arange(devices)[:, None]) // devices)
        fields = self._replace(ends=self.n_points)
        every: PixelChunks = jax.tree.map(dealt, fields)
        return every._replace(ends=ends.astype(np.int32))

    def none(self) -> PixelChunks:
        """One chunk that is empty, in place of these."""
        return no_pixels(self.support_points.shape[-1], self.counts.shape[-1])

    def chosen(self, key: jax.Array, number: int) -> PixelChunks:
        """So many chunks of each device, drawn without replacement, weighted so that sums keep their expectation.

        Parameters
        ----------
        key : PRNG key
        number : int
            At most as many as each device has.
        """
        if self.ends.ndim > 1:
            keys = jax.random.split(key, len(self.ends))
            every: PixelChunks = jax.vmap(lambda own, key: own.chosen(key, number))(self, keys)
            return every
        held = jnp.arange(len(self.n_points)) < self.ends[-1]
        drawn = jnp.argsort(jnp.where(held, jax.random.uniform(key, held.shape), 2.0))[:number]
        # In their order, so that the classes stay together.
        index = jnp.sort(drawn)
        ends: Any = jnp.searchsorted(index, self.ends).astype(jnp.int32)
        part: PixelChunks = jax.tree.map(lambda field: field[index], self._replace(ends=self.n_points))
        return part._replace(present=part.present * (self.ends[-1] / number), ends=ends)


def no_pixels(n_points: int, n_columns: int) -> PixelChunks:
    """One chunk that is empty."""
    return PixelChunks(
        counts=np.zeros((1, CHUNK_PIXELS, n_columns), np.float32),
        present=np.zeros((1, CHUNK_PIXELS)),
        support_points=np.zeros((1, n_points), np.int32),
        n_points=np.zeros(1, np.int32),
        baseline=np.zeros((1, n_columns)),
        ends=np.zeros(len(widths(n_points)), np.int32),
    )


def widths(n_points: int) -> tuple[int, ...]:
    """Widths of the classes of chunks where there are so many support points."""
    return (*(width for width in WIDTHS if width < n_points), n_points)


@jax.custom_vjp
def pixel_log_likelihood(log_mixed: jax.Array, log_pi: jax.Array, pixels: PixelChunks) -> jax.Array:
    """Marginal log-likelihood of all pixels, relative to their baselines; its slopes in `pixels` are not computed.

    The product of counts and log spectra runs in float32 (it is the cost of the program), on differences from the
    baseline that are small; everything before and after is float64.

    Parameters
    ----------
    log_mixed : (support_point, energy + columns)
        Log spectrum of a pixel at each support point, from `bayesunmix.models.thickness.answered`.
    log_pi : (support_point,)
    pixels : PixelChunks
    """
    total: jax.Array = _over_chunks(
        lambda total, chunk: total + chunk.log_likelihood, jnp.zeros(()), log_mixed, log_pi, pixels
    )
    return total


class _Chunk(NamedTuple):
    """What a loop sees of one chunk: responsibilities are weighted as its pixels are, by `present`."""

    counts: Any
    present: Any
    support_points: Any
    log_likelihood: jax.Array
    responsibilities: jax.Array


def _over_chunks(
    step: Callable[[Any, _Chunk], Any],
    begin: Any,  # noqa: ANN401 - whatever the step carries
    log_mixed: jax.Array,
    log_pi: jax.Array,
    pixels: PixelChunks,
) -> Any:  # noqa: ANN401
    """Run a step over all chunks, class by class."""
    carried, first = begin, jnp.zeros((), jnp.int32)
    for number, width in enumerate(widths(len(log_pi))):

        def body(index: jax.Array, carried: Any, width: int = width) -> Any:  # noqa: ANN401
            return step(carried, _chunk(index, width, log_mixed, log_pi, pixels))

        carried = jax.lax.fori_loop(first, pixels.ends[number], body, carried)
        first = pixels.ends[number]
    return carried


def _chunk(
    index: jax.Array, width: int, log_mixed: jax.Array, log_pi: jax.Array, pixels: PixelChunks
) -> _Chunk:
    """Evaluate one chunk."""
    pixels = jax.tree.map(jnp.asarray, pixels)
    counts, points = pixels.counts[index], pixels.support_points[index, :width]
    contrast = (log_mixed[points] - pixels.baseline[index]).astype(jnp.float32)
    log_prior = jnp.where(jnp.arange(width) < pixels.n_points[index], log_pi[points], ABSENT)
    log_joint = counts @ contrast.T + log_prior.astype(jnp.float32)
    # Exponentials are a fifth of the cost: sum and shares are made of the same ones.
    top = log_joint.max(axis=1)
    joint = jnp.exp(log_joint - top[:, None])
    sums = joint.sum(axis=1)
    total = top.astype(jnp.float64) + jnp.log(sums).astype(jnp.float64)
    weight = pixels.present[index]
    share = joint * (weight.astype(jnp.float32) / sums)[:, None]
    return _Chunk(counts, weight, points, (weight * total).sum(), share)


_ValueAndSlopes = tuple[jax.Array, jax.Array, jax.Array]


@jax.custom_jvp
def _value_and_slopes(log_mixed: jax.Array, log_pi: jax.Array, pixels: PixelChunks) -> _ValueAndSlopes:
    """Value, and its slopes in log spectra (support_point, energy + columns) and log weights (support_point,)."""

    def gather(carried: tuple[jax.Array, ...], chunk: _Chunk) -> tuple[jax.Array, ...]:
        total, by_spectrum, by_weight = carried
        slopes = (chunk.responsibilities.T @ chunk.counts).astype(jnp.float64)
        return (
            total + chunk.log_likelihood,
            by_spectrum.at[chunk.support_points].add(slopes),
            by_weight.at[chunk.support_points].add(chunk.responsibilities.sum(axis=0).astype(jnp.float64)),
        )

    begin = jnp.zeros(()), jnp.zeros(log_mixed.shape), jnp.zeros(log_pi.shape)
    found: _ValueAndSlopes = _over_chunks(gather, begin, log_mixed, log_pi, pixels)
    return found


@_value_and_slopes.defjvp
def _changes(
    at: tuple[jax.Array, jax.Array, PixelChunks], along: tuple[jax.Array, jax.Array, Any]
) -> tuple[_ValueAndSlopes, _ValueAndSlopes]:
    """Return value and slopes, and what they change by along a direction; `pixels` stay."""
    found: _ValueAndSlopes = _value_and_slopes(*at)
    spectra, weights, _ = along
    change = (found[1] * spectra).sum() + (found[2] * weights).sum()
    return found, (change, *_changes_of_slopes(*at, spectra, weights))


@custom_vmap
def _changes_of_slopes(
    log_mixed: jax.Array, log_pi: jax.Array, pixels: PixelChunks, spectra: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return what the slopes change by where log spectra and log weights change by `spectra` and `weights`."""
    by_spectrum, by_weight = _along_each(log_mixed, log_pi, pixels, spectra[None], weights[None])
    return by_spectrum[0], by_weight[0]


@_changes_of_slopes.def_vmap
def _along_several(
    number: int,
    several: Any,  # noqa: ANN401 - which of the arguments have an axis of directions, as a pytree
    log_mixed: jax.Array,
    log_pi: jax.Array,
    pixels: PixelChunks,
    spectra: jax.Array,
    weights: jax.Array,
) -> tuple[tuple[jax.Array, jax.Array], tuple[bool, bool]]:
    """Return the same along several directions at one place."""
    if any(jax.tree.leaves(several[:3])):
        raise NotImplementedError("Slopes change along several directions at one place only.")
    spectra, weights = (
        change if has_axis else jnp.broadcast_to(change, (number, *change.shape))
        for change, has_axis in zip((spectra, weights), several[3:], strict=True)
    )
    return _along_each(log_mixed, log_pi, pixels, spectra, weights), (True, True)


def _along_each(
    log_mixed: jax.Array, log_pi: jax.Array, pixels: PixelChunks, spectra: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return changes of both slopes, (direction, ...), along `spectra` and `weights`; float32 does for curvature.

    Directions lie behind support points: what a chunk gathers, multiplies and adds are whole rows.
    """
    number, n_points, n_columns = spectra.shape
    spectra, weights = spectra.astype(jnp.float32).swapaxes(0, 1), weights.astype(jnp.float32).T

    def gather(carried: tuple[jax.Array, jax.Array], chunk: _Chunk) -> tuple[jax.Array, jax.Array]:
        by_spectrum, by_weight = carried
        points = chunk.support_points
        rows = spectra[points].reshape(len(points) * number, n_columns)
        moved = (chunk.counts @ rows.T).reshape(-1, len(points), number) + weights[points]
        shares = chunk.responsibilities[:, :, None]
        held = jnp.where(chunk.present > 0.0, chunk.present, 1.0).astype(jnp.float32)
        changes = shares * (moved - (shares * moved).sum(axis=1, keepdims=True) / held[:, None, None])
        slopes = changes.reshape(len(changes), len(points) * number).T @ chunk.counts
        return (
            by_spectrum.at[points].add(slopes.reshape(len(points), number, n_columns)),
            by_weight.at[points].add(changes.sum(axis=0)),
        )

    begin = (
        jnp.zeros((n_points, number, n_columns), jnp.float32),
        jnp.zeros((n_points, number), jnp.float32),
    )
    by_spectrum, by_weight = _over_chunks(gather, begin, log_mixed, log_pi, pixels)
    return by_spectrum.swapaxes(0, 1).astype(jnp.float64), by_weight.T.astype(jnp.float64)


def _with_slopes(
    log_mixed: jax.Array, log_pi: jax.Array, pixels: PixelChunks
) -> tuple[jax.Array, tuple[jax.Array, jax.Array, PixelChunks]]:
    """Value, and what its slopes are made of."""
    total, by_spectrum, by_weight = _value_and_slopes(log_mixed, log_pi, pixels)
    return total, (by_spectrum, by_weight, pixels)


def _pulled_back(
    held: tuple[jax.Array, jax.Array, PixelChunks], slope: jax.Array
) -> tuple[jax.Array, jax.Array, PixelChunks]:
    by_spectrum, by_weight, pixels = held
    return slope * by_spectrum, slope * by_weight, jax.tree.map(_no_slope, pixels)


def _no_slope(field: jax.Array) -> Any:  # noqa: ANN401 - of whole numbers JAX wants a type that holds nothing
    """Zero tangent of a field."""
    if jnp.issubdtype(field.dtype, jnp.floating):
        return jnp.zeros_like(field)
    return np.zeros(field.shape, jax.dtypes.float0)


pixel_log_likelihood.defvjp(_with_slopes, _pulled_back)
