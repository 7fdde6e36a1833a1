"""Shapes that many maps share, so that a program compiled for one map serves the next.

XLA compiles a program for the shapes of its arguments, which takes seconds, and hardly two maps have the same number of
bins, line families, support points and pixels. Arrays are therefore padded to a few sizes, with what changes nothing:
components and families without counts, channels without templates and support points without weight. Loops over pixels
are told where the pixels end (`bayesunmix.models.pixels`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.models.abundance import padded_prior
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.pixels import CHUNK_PIXELS, PixelChunks, no_pixels, widths
from bayesunmix.models.response import ResponseUncertainty
from bayesunmix.models.statements import Statements
from bayesunmix.models.thickness import N_COLUMNS
from bayesunmix.models.unmixing import Latents, UnmixingData

FloatArray = npt.NDArray[np.float64]

# Sizes of each dimension: the first suits most maps, later ones are a third larger or more. With `N_COLUMNS` beside
# them, channels are multiples of 16 floats: products of rows that lie so take two thirds of the time.
CHANNELS = (327, 455, 647, 903, 1287, 1799, 2567)
COMPONENTS = (24, 32, 48, 64, 96, 128)
FAMILIES = (32, 48, 64, 96, 128, 192)
KNOTS = (8, 12, 16, 24, 32)
WEIGHTS = (64, 96, 128, 192, 256, 384, 512, 768, 1024)
RATIOS = (16, 32, 64, 128)
STATEMENTS = (16, 64, 256, 1024)
# None stays none: while starts are compared, line shapes are held.
DIRECTIONS = (0, 40, 64, 96, 128, 192)
SUPPORT_POINTS = (64, 128, 256, 512, 768, 1024)
CHUNKS = (1, 64, 128, 256, 512, 768, 1024)
PARAMETERS = (256, 384, 512, 768, 1024, 1536)
# Share of the counts in a channel that only fills up: its logarithm is a number.
NO_SHARE = 1e-25


def size_for(least: int, sizes: tuple[int, ...]) -> int:
    """Return the smallest size that holds so many; beyond the last one, multiples of it."""
    return next((size for size in sizes if size >= least), -(-least // sizes[-1]) * sizes[-1])


def padded(data: UnmixingData) -> UnmixingData:
    """Pad the arrays of a model to sizes that many maps share."""
    basis = data.basis
    n_phases, n_components = basis.allowed.shape
    n_families, n_channels = basis.family_templates.shape[1:]
    # At least one component is empty: padding of the weights points there.
    components = size_for(n_components + 1, COMPONENTS)
    families, channels = size_for(n_families, FAMILIES), size_for(n_channels, CHANNELS)
    knots = size_for(basis.continuum_area.shape[1], KNOTS)
    points = size_for(len(data.prior.mean), SUPPORT_POINTS)
    free = np.array(data.free)
    # The continuum comes last.
    free[free[:, 1] == n_components - 1, 1] = components - 1
    nowhere = np.repeat([[0, n_components - 1]], size_for(len(free), WEIGHTS) - len(free), axis=0)
    ratios = size_for(len(data.ratio_family), RATIOS)
    return data._replace(
        pixels=_padded_pixels(data.pixels, points, channels),
        basis=_padded_basis(basis, components=components, families=families, channels=channels, knots=knots),
        prior=padded_prior(data.prior, points),
        free=np.concatenate([free, nowhere]),
        scale=_filled(data.scale, len(free) + len(nowhere)),
        # Ratios beyond the last family are set nowhere.
        ratio_family=_filled(data.ratio_family, ratios, with_=families),
        yields=_filled(data.yields, n_phases, components, with_=np.inf),
        statements=_padded_statements(data.statements, n_phases, components),
        effect=data.effect._replace(
            absorption_slope=_filled(data.effect.absorption_slope, channels),
            stray_share=_filled(data.effect.stray_share, channels),
            mass_per_count=np.asarray(data.effect.mass_per_count),
            # A plain number has a weak type, and a program of its own.
            scale_sd=np.float64(data.effect.scale_sd),
        ),
        response=_padded_response(data.response, families, channels),
    )


def without_pixels(data: UnmixingData) -> UnmixingData:
    """Leave the pixels out, for programs that do not look at them."""
    n_points, n_columns = len(data.prior.mean), data.basis.family_templates.shape[2] + N_COLUMNS
    return data._replace(pixels=no_pixels(n_points, n_columns))


def _padded_basis(
    basis: EndmemberBasis, *, components: int, families: int, channels: int, knots: int
) -> EndmemberBasis:
    n_phases = len(basis.allowed)
    return EndmemberBasis(
        allowed=_filled(basis.allowed, n_phases, components, with_=False),
        family_templates=_filled(basis.family_templates, n_phases, families, channels),
        family_owner=_filled(basis.family_owner, families),
        family_ratio=_filled(basis.family_ratio, n_phases, families),
        ratio_sd=_filled(basis.ratio_sd, families),
        continuum_templates=_filled(basis.continuum_templates, n_phases, knots, channels),
        continuum_area=_filled(basis.continuum_area, n_phases, knots),
        floor=_filled(basis.floor, channels, with_=NO_SHARE),
    )


def _padded_statements(statements: Statements, n_phases: int, components: int) -> Statements:
    """Pad statements and elements; what only fills up has no weight."""
    number = size_for(len(statements.key), STATEMENTS)
    return Statements(
        phase=_filled(statements.phase, number),
        key=_filled(statements.key, number),
        above=_filled(statements.above, number, n_phases, components),
        below=_filled(statements.below, number, n_phases, components),
        low=_filled(statements.low, number),
        high=_filled(statements.high, number),
        inverse_sd=_filled(statements.inverse_sd, number),
    )


def _padded_response(response: ResponseUncertainty, families: int, channels: int) -> ResponseUncertainty:
    number = size_for(len(response.mean), DIRECTIONS)
    return ResponseUncertainty(
        slopes=_filled(response.slopes[:, :families, :channels], number, families, channels),
        mean=_filled(response.mean, number),
        sd=_filled(response.sd, number, with_=1.0),
    )


def _padded_pixels(pixels: PixelChunks, points: int, channels: int) -> PixelChunks:
    """Pad chunks and support points; what thickness adds stays behind the channels."""
    number = size_for(len(pixels.n_points), CHUNKS)
    counts = np.zeros((number, CHUNK_PIXELS, channels + N_COLUMNS), np.float32)
    baseline = np.zeros((number, channels + N_COLUMNS))
    for wide, narrow in ((counts, pixels.counts), (baseline, pixels.baseline)):
        held, energies = len(narrow), narrow.shape[-1] - N_COLUMNS
        wide[:held, ..., :energies], wide[:held, ..., channels:] = (
            narrow[..., :energies],
            narrow[..., energies:],
        )
    own, more = widths(pixels.support_points.shape[1]), widths(points)
    # A chunk whose class had all support points may be of a narrower one now: that costs little.
    ends = [int(pixels.ends[sum(width <= new for width in own) - 1]) if own[0] <= new else 0 for new in more]
    ends[-1] = pixels.most
    return PixelChunks(
        counts=counts,
        present=_filled(pixels.present, number, CHUNK_PIXELS),
        support_points=_filled(pixels.support_points, number, points),
        n_points=_filled(pixels.n_points, number),
        baseline=baseline,
        ends=np.array(ends, np.int32),
    )


def _filled(array: npt.ArrayLike, *shape: int, with_: float = 0.0) -> Any:  # noqa: ANN401 - the array's own type
    """Return an array of this shape that begins with another one."""
    given = np.asarray(array)
    result = np.full(shape, with_, given.dtype)
    result[tuple(slice(0, size) for size in given.shape)] = given
    return result


def own_components(weights: FloatArray, data: UnmixingData) -> FloatArray:
    """Cut weights (..., phase, padded component) to the components of a model: the continuum comes last in both."""
    n_components = data.basis.allowed.shape[1]
    return np.concatenate([weights[..., : n_components - 1], weights[..., -1:]], axis=-1)


def padded_latents(latents: Latents, shapes: dict[str, tuple[int, ...]]) -> Latents:
    """Pad latents to these shapes, with values that every one of them may have."""
    return {name: _filled(latents[name], *shape, with_=1.0) for name, shape in shapes.items()}


def positions(own: dict[str, tuple[int, ...]], more: dict[str, tuple[int, ...]]) -> npt.NDArray[np.int32]:
    """Where the entries of a flat vector lie among those of a padded one; latents lie in alphabetical order.

    Parameters
    ----------
    own, more
        Shapes of the latents, as they are and padded.
    """
    index, first = [], 0
    for name in sorted(more):
        inside = np.arange(first, first + int(np.prod(more[name]))).reshape(more[name])
        index.append(inside[tuple(slice(0, size) for size in own[name])].ravel())
        first += inside.size
    return np.concatenate(index).astype(np.int32)


def held_potential(own: dict[str, tuple[int, ...]], more: dict[str, tuple[int, ...]]) -> float:
    """Negative log prior density of the parameters that only fill up, which programs hold at zero.

    A standard normal there has the density (2 pi)^-1/2; a weight is flat, but for the slope 1/2 of its softplus.

    Parameters
    ----------
    own, more
        Shapes of the latents, as they are and padded.
    """
    total = 0.0
    for name, shape in more.items():
        each = np.log(2.0) if name == "line_units" else 0.5 * np.log(2.0 * np.pi)
        total += float(each * (np.prod(shape) - np.prod(own[name])))
    return total
