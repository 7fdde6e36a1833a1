"""The posterior of free-form endmembers: from extreme cluster spectra to a mode, its curvature and draws.

blocks of pixels -> extreme spectra of the clusters -> coarse support points, L-BFGS from each -> the best
-> support points one sd apart, blocks grouped by them -> mode and Hessian -> Laplace draws
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt

from bayesunmix.config.priors import DEFAULT_PRIORS, Priors
from bayesunmix.fit.model_data import log_odds_at
from bayesunmix.inference.compilation import Program
from bayesunmix.inference.density import FlatModel, Placed, compiling, flatten_model
from bayesunmix.inference.laplace import laplace_draws
from bayesunmix.inference.map_estimate import MapEstimate, descend, find_map
from bayesunmix.inference.mixture import (
    chunked,
    relative_likelihood,
    responsibilities,
    support_point_weights,
    with_all_points,
)
from bayesunmix.inference.starts import extreme_spectra
from bayesunmix.models.abundance import abundance_prior, simplex_support_points
from bayesunmix.models.freeform import (
    FreeData,
    correlation_factor,
    free_endmembers,
    free_model,
    mean_spectrum,
)
from bayesunmix.models.unmixing import Latents

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
Progress = Callable[[str], None]

# Steps along each edge while starts are compared.
COARSE_STEPS = 10
# Blocks that compare starts, evenly spread.
MOST_COMPARED = 1200
# Finer grids than this cost more than they tell: pixels of very many counts stand between support points then.
MOST_STEPS = 150
FEWEST_BLOCKS = 0.02
# The contrast of a start is cut here: a channel without counts in a cluster is no proof of none.
LARGEST_CONTRAST = 4.0


@dataclass(frozen=True, kw_only=True)
class FreePosterior:
    """The mode of free-form endmembers and all that is needed to draw from the posterior.

    Attributes
    ----------
    data : FreeData
    n_phases : int
    estimate : MapEstimate
    objectives : tuple of float
        Negative log posterior of each start on coarse support points, relative to the best's.
    coarse_grid : bool
        The support points stand further apart than one standard deviation of a block.
    """

    data: FreeData
    n_phases: int
    estimate: MapEstimate
    objectives: tuple[float, ...]
    coarse_grid: bool

    @cached_property
    def model(self) -> FlatModel:
        """Flat view of the model; built on demand, so that the rest can be saved and read back."""
        return _flat(self.data, self.n_phases)

    def draw(self, chains: int, draws: int, seed: int) -> FloatArray:
        """Laplace draws of the flat parameters, (chain, draw, dim)."""
        mode, hessian = self.estimate.z, self.estimate.hessian
        return laplace_draws(mode, hessian, slice(0, 0), chains=chains, draws=draws, seed=seed)

    def spectra(self, z: FloatArray) -> FloatArray:
        """Endmembers of flat draws (..., dim), shape (..., phase, energy)."""
        model = self.model

        def one(flat: jax.Array, placed: Placed) -> jax.Array:
            return free_endmembers(placed.data, model.programs.latents(flat, placed.slots))

        flat = jnp.asarray(z.reshape(-1, z.shape[-1]))
        mapped = Program(lambda flat, placed: jax.lax.map(lambda v: one(v, placed), flat, batch_size=64))(
            flat, model.light(self.data)
        )
        return np.asarray(mapped).reshape(*z.shape[:-1], *mapped.shape[1:])


def fit_free(
    counts: Float32Array,
    matrix: npt.NDArray[np.bool_],
    position: FloatArray,
    length: float,
    *,
    widths: Priors = DEFAULT_PRIORS,
    max_overlap: int = 2,
    n_starts: int = 3,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> FreePosterior:
    """Find the best mode of free-form endmembers.

    Parameters
    ----------
    counts : (block, energy)
        Summed counts of blocks of pixels.
    matrix : (phase,) bool
        Phases declared to have pure regions.
    position, length
        Places of the channels and correlation length of the contrast, see `bayesunmix.models.freeform`.
    widths : Priors
        Of the priors.
    max_overlap : int
        Most phases that overlap in one block.
    n_starts : int
        Starting points that are compared.
    seed : int
    progress : callable
        Told what is being done.
    """
    mean, factor = mean_spectrum(counts), correlation_factor(position, length)
    part = counts[:: -(-len(counts) // MOST_COMPARED)]
    found = []
    shared: FlatModel | None = None
    for number, spectra in enumerate(_starts(counts, mean, matrix, n_starts, seed)):
        steps = _steps(part, spectra, COARSE_STEPS)
        data, latents, transform = _around(
            counts=part,
            spectra=spectra,
            mean=mean,
            factor=factor,
            matrix=matrix,
            max_overlap=max_overlap,
            steps=steps,
            widths=widths,
            grouped=False,
        )
        model = _flat(data, len(spectra))
        # One program serves all starts: their data have the same shapes.
        shared = shared or model
        start = shared.flatten(latents)
        z, potential, _ = descend(
            shared.value_and_gradient, shared.placed(data), start, transform, max_iterations=60
        )
        progress(f"start {number + 1}: objective {potential:.1f}")
        found.append((potential, np.asarray(free_endmembers(data, shared.constrain(z)))))
    found.sort(key=lambda pair: pair[0])
    spectra = found[0][1]
    data, latents, transform = _around(
        counts=counts,
        spectra=spectra,
        mean=mean,
        factor=factor,
        matrix=matrix,
        max_overlap=max_overlap,
        steps=None,
        widths=widths,
        grouped=True,
    )
    model = _flat(data, len(spectra))
    start, placed = model.flatten(latents), model.placed(data)
    with compiling(model, placed) as programs:
        programs.value_and_gradient.result()
        z, _, _ = descend(model.value_and_gradient, placed, start, transform, max_iterations=120)
        programs.hessian.result()
    estimate = find_map(model.value_and_gradient, model.hessian, placed, z, max_rounds=4, progress=progress)
    objectives = tuple(potential - found[0][0] for potential, _ in found)
    return FreePosterior(
        data=data,
        n_phases=len(spectra),
        estimate=estimate,
        objectives=objectives,
        coarse_grid=_steps(counts, spectra, None) == MOST_STEPS,
    )


def _flat(data: FreeData, n_phases: int) -> FlatModel:
    """Flat view of the model for data of these shapes."""
    example = {
        "contrast": np.zeros((n_phases, len(data.log_mean))),
        "contrast_sd": np.zeros(()),
        "abundance_xi": np.zeros(len(data.prior.mean)),
    }
    model = partial(free_model, n_phases=n_phases)
    return flatten_model(model, data, example, lambda data: data._replace(pixels=data.pixels.none()))


def _starts(
    counts: Float32Array, mean: FloatArray, matrix: npt.NDArray[np.bool_], n_starts: int, seed: int
) -> list[FloatArray]:
    """Return starting endmembers (phase, energy): cluster spectra at vertices, as they are and freed of the largest.

    A declared matrix is the first phase of a set, which explains most of the counts.
    """
    if len(matrix) == 1:
        return [mean[None]]
    sets = extreme_spectra(counts, len(matrix), seed=seed, n_sets=max(1, (n_starts + 1) // 2))
    every = [spectra for found in sets for spectra in (found.vertices, found.spectra)][:n_starts]
    order = np.argsort(np.argsort(~matrix, kind="stable"), kind="stable")
    return [(spectra + 1e-3 * mean)[order] / (1.0 + 1e-3) for spectra in every]


def _steps(counts: Float32Array, spectra: FloatArray, wanted: int | None) -> int | None:
    """Return the steps of each edge: those wanted, or None for as many as counts resolve unless they are too many."""
    if wanted is not None:
        return wanted
    typical = float(counts.sum(dtype=np.float64) / len(counts))
    n_edges = max(len(spectra) * (len(spectra) - 1) // 2, 1)
    longest = max(
        (
            2.0 * np.sqrt(typical) * np.arccos(min(float(np.sqrt(a * b).sum()), 1.0))
            for i, a in enumerate(spectra)
            for b in spectra[:i]
        ),
        default=0.0,
    )
    return MOST_STEPS if longest > MOST_STEPS and n_edges else None


def _around(
    counts: Float32Array,
    spectra: FloatArray,
    mean: FloatArray,
    factor: FloatArray,
    matrix: npt.NDArray[np.bool_],
    max_overlap: int,
    steps: int | None,
    widths: Priors,
    *,
    grouped: bool,
) -> tuple[FreeData, Latents, FloatArray]:
    """Model data around some endmembers, latents there, and a whitening by the information if abundances were known."""
    typical = float(counts.sum(dtype=np.float64) / len(counts))
    steps = _steps(counts, spectra, steps)
    points = simplex_support_points(
        spectra, typical, max_overlap=max_overlap, steps_per_edge=steps, matrix=matrix
    )
    log_mixed = np.log(points @ spectra)
    likelihood = relative_likelihood(counts, log_mixed)
    weights = support_point_weights(likelihood, n_iterations=60)
    if grouped:
        kept = (weights * len(counts) > FEWEST_BLOCKS) | (points.max(axis=1) == 1.0)
        points, likelihood, log_mixed = points[kept], likelihood[:, kept], log_mixed[kept]
        weights = support_point_weights(likelihood, n_iterations=40)
        share = responsibilities(likelihood, 0.99 * weights + 0.01 / len(weights))
        pixels = chunked(counts, share, log_mixed)
    else:
        pixels = with_all_points(counts, len(points), np.log(mean))
    prior = abundance_prior(points, spectra, typical, matrix, widths)
    data = FreeData(pixels, prior, np.log(mean), factor, widths)
    contrast = np.clip(np.log(spectra / mean), -LARGEST_CONTRAST, LARGEST_CONTRAST)
    latents = {
        "contrast": np.linalg.solve(factor, contrast.T).T / widths.contrast_sd,
        "contrast_sd": np.zeros(()),
        "abundance_xi": log_odds_at(prior, weights),
    }
    transform = _known_abundance_whitening(data, spectra, weights * counts.sum(dtype=float))
    return data, latents, transform


def _known_abundance_whitening(data: FreeData, spectra: FloatArray, counts: FloatArray) -> FloatArray:
    """Whitening W of all parameters, W W^T = (I + prior)^-1, from the information that known abundances would give.

    Parameters
    ----------
    spectra : (phase, energy)
    counts : (support_point,)
        Counts of the blocks at each support point.

    Notes
    -----
    With abundances known, channels inform the log spectra one by one: I_(kc)(lc) = sum_j n_j alpha_jk alpha_jl s_kc
    s_lc / m_jc. Only the optimiser sees this; the curvature of the posterior is computed exactly.
    """
    points, factor = np.asarray(data.prior.support_points), data.widths.contrast_sd * np.asarray(data.factor)
    n_phases, n_energy = spectra.shape
    mixed = points @ spectra
    size = n_phases * n_energy
    information = np.zeros((n_phases, n_energy, n_phases, n_energy))
    for k in range(n_phases):
        for other in range(k, n_phases):
            per_channel = (counts * points[:, k] * points[:, other]) @ (spectra[k] * spectra[other] / mixed)
            block = factor.T @ (per_channel[:, None] * factor)
            information[k, :, other], information[other, :, k] = block, block.T
    curvature = information.reshape(size, size) + np.eye(size)
    # Flat parameters lie in the order of their names: abundance_xi, contrast, contrast_sd.
    n_points = len(points)
    transform = np.eye(n_points + size + 1)
    inner = slice(n_points, n_points + size)
    transform[inner, inner] = np.linalg.inv(np.linalg.cholesky(curvature)).T
    return transform
