"""Posterior draws of everything that a result is made of, read from flat vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache

import jax
import numpy as np
import numpy.typing as npt

from bayesunmix.fit.model_data import MOST_PROGRAMS
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.inference.compilation import Program
from bayesunmix.inference.density import Placed, Programs
from bayesunmix.models.endmember import continuum_shape, family_counts
from bayesunmix.models.padding import own_components
from bayesunmix.models.thickness import Array
from bayesunmix.models.unmixing import (
    UnmixingData,
    component_weights,
    continuum_corrections,
    log_ratios,
    spectra,
    thickness_parameters,
)

FloatArray = npt.NDArray[np.float64]

# Draws that are read at a time.
READ_TOGETHER = 128
# Draws that endmember spectra are made of.
SPECTRUM_DRAWS = 100


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Posterior draws of everything that the result is made of.

    Attributes
    ----------
    weights : (chain, draw, phase, component)
        Counts in each component's main family.
    family_counts : (chain, draw, phase, family)
        Counts of each line family per unit of weight.
    continuum : (chain, draw, phase, knot)
        Counts of each continuum piece.
    spectra : (chain, draw, phase, energy)
        Endmembers over the fitted bins, unit sum.
    absorption_scale, stray_exponent : (chain, draw)
        lambda and kappa of `bayesunmix.models.thickness`.
    line_shapes : (chain, draw, direction)
        x of `bayesunmix.models.response`.
    """

    weights: FloatArray
    family_counts: FloatArray
    continuum: FloatArray
    spectra: FloatArray
    absorption_scale: FloatArray
    stray_exponent: FloatArray
    line_shapes: FloatArray

    @property
    def total(self) -> FloatArray:
        """Counts of a phase in all, shape (chain, draw, phase)."""
        return np.asarray(self.family_counts.sum(axis=-1) + self.continuum.sum(axis=-1))

    @property
    def component_shares(self) -> FloatArray:
        """Share of every component's main family in a phase's counts, shape (chain, draw, phase, component)."""
        return np.asarray(self.weights / self.total[..., None])


def thinned(values: FloatArray) -> FloatArray:
    """Values (chain, draw, ...) at evenly spaced draws of all chains, at most `SPECTRUM_DRAWS`."""
    total = values.shape[0] * values.shape[1]
    chosen = np.unique(np.linspace(0, total - 1, min(SPECTRUM_DRAWS, total)).astype(int))
    return np.asarray(values.reshape(total, *values.shape[2:])[chosen])


def read_draws(fitted: FittedPosterior, z: FloatArray) -> Draws:
    """Map flat draws z, shape (chain, draw, dim), to what they mean."""
    flat = z.reshape(-1, z.shape[-1])
    model, data = fitted.model, fitted.data
    read, placed = _reader(model.programs), model.light(data)
    # Batches of one size: one program serves any number of draws.
    filled = np.concatenate([flat, np.repeat(flat[-1:], -len(flat) % READ_TOGETHER, axis=0)])
    batches = model.filled(filled).reshape(-1, READ_TOGETHER, model.capacity)
    parts = [_cut(read(batch, placed), data) for batch in batches]
    joined = (np.concatenate(values)[: len(flat)] for values in zip(*parts, strict=True))
    shaped = (values.reshape(*z.shape[:2], *values.shape[1:]) for values in joined)
    return Draws(**dict(zip((entry.name for entry in fields(Draws)), shaped, strict=True)))


def _cut(padded: tuple[Array, ...], data: UnmixingData) -> tuple[FloatArray, ...]:
    """Cut the arrays of a batch to the model's own sizes."""
    weights, counts, continuum, endmembers, scale, exponent, shapes = (np.asarray(part) for part in padded)
    n_families, n_channels = data.basis.family_templates.shape[1:]
    return (
        own_components(weights, data),
        counts[..., :n_families],
        continuum[..., : data.basis.continuum_area.shape[1]],
        endmembers[..., :n_channels],
        scale,
        exponent,
        shapes[..., : len(data.response.mean)],
    )


@lru_cache(maxsize=MOST_PROGRAMS)
def _reader(programs: Programs) -> Callable[[FloatArray, Placed], tuple[Array, ...]]:
    """Compile a batch's way from flat draws to the arrays of `Draws`."""

    def one(flat: jax.Array, placed: Placed) -> tuple[Array, ...]:
        data, latents = placed.data, programs.latents(flat, placed.slots)
        weights = component_weights(data, latents)
        return (
            weights,
            family_counts(data.basis, weights, log_ratios(data, latents)),
            weights[:, -1:] * continuum_shape(data.basis, *continuum_corrections(data.widths, latents)),
            spectra(data, latents),
            *thickness_parameters(data, latents),
            latents["response"],
        )

    return Program(jax.vmap(one, in_axes=(0, None)))
