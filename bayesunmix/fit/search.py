"""The search for the mode: from every start downhill on coarse support points and a part of the blocks.

starts -> coarse support points -> L-BFGS from each -> rotated starts around the best -> those that may be the best to
their end
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.core.shares import hellinger
from bayesunmix.fit.model_data import (
    Blocks,
    fisher_information,
    flat_model,
    latents_at,
    spectra_at,
    weights_at,
)
from bayesunmix.fit.starts import Start, component_templates, rotated_starts
from bayesunmix.inference.density import FlatModel
from bayesunmix.inference.map_estimate import descend
from bayesunmix.inference.mixture import relative_likelihood, support_point_weights, with_all_points
from bayesunmix.inference.sharding import n_threads
from bayesunmix.models.abundance import abundance_prior, simplex_support_points
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.thickness import N_COLUMNS, counted
from bayesunmix.models.unmixing import Latents, UnmixingData

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[str], None]

# Steps along each edge while starts are compared: enough to rank them, the same number for all so that one program
# serves.
COARSE_STEPS = 16
# Blocks that compare starts, evenly spread over the map.
MOST_COMPARED = 1500
# Starts whose objective, nearly at its end, is this much worse than the best are abandoned; nearer ones are followed.
CLOSE_NATS = 50.0
# A descent this close to one that went on will end with it.
SAME_BASIN = 0.04


@dataclass(frozen=True)
class ModeCandidate:
    """One start on its way to a mode."""

    data: UnmixingData
    latents: Latents
    potential: float
    followed: bool


@dataclass(frozen=True, kw_only=True)
class CoarseModel:
    """The model on coarse support points and a part of the blocks, compiled: the same program for every start.

    Attributes
    ----------
    part : Blocks
        Evenly spread blocks: they rank modes that differ by hundreds of nats, at a part of the cost.
    basis, yields
        The model's arrays.
    baseline : (energy,)
        Mean spectrum of the map.
    model : FlatModel
    """

    part: Blocks
    basis: EndmemberBasis
    yields: FloatArray
    baseline: FloatArray
    model: FlatModel

    @classmethod
    def of(cls, blocks: Blocks, basis: EndmemberBasis, yields: FloatArray) -> CoarseModel:
        """Build and compile it; that takes seconds, and needs no start."""
        part = blocks.every(-(-len(blocks.counts) // MOST_COMPARED))
        baseline = blocks.counts.sum(axis=0, dtype=np.float64) + 1.0
        baseline /= baseline.sum()
        # Any spectra give the shapes.
        weights = np.random.default_rng(0).uniform(0.5, 1.5, basis.allowed.shape) * basis.allowed
        spectra = np.einsum("ki,kic->kc", weights, component_templates(basis)) + 1e-12
        total = spectra.sum(axis=1, keepdims=True)
        anywhere = Start(weights / total, spectra / total, np.inf)
        data, example, _ = _coarse(part, basis, yields, anywhere, baseline)
        model = flat_model(data)
        model.value_and_gradient(model.flatten(example), data)
        return cls(
            part=part,
            basis=basis,
            yields=yields,
            baseline=baseline,
            model=model,
        )


def compare_starts(
    blocks: Blocks, coarse: CoarseModel, starts: list[Start], progress: Progress
) -> list[ModeCandidate]:
    """Descend from every start on coarse support points, then follow those that may be the best; the best first."""
    part, model = coarse.part, coarse.model

    def run(start: Start, name: str) -> _Descent:
        data, z, transform = coarse_start(coarse, start)
        placed = model.placed(data)
        # A fresh memory half-way: the curvature learned far from the mode misleads near it.
        for iterations in (50, 80):
            z, potential, _ = descend(
                model.value_and_gradient, placed, z, transform, max_iterations=iterations
            )
        progress(f"{name}: objective {potential:.1f}")
        return _Descent(data, z, potential, transform)

    names = [f"start {number + 1} of {len(starts)}" for number in range(len(starts))]
    with ThreadPoolExecutor(n_threads()) as pool:
        begun = list(pool.map(run, starts, names))
        best = min(begun, key=lambda descent: descent.potential)
        weights = weights_at(best.data, model.constrain(best.z))
        probes = rotated_starts(weights, coarse.basis, blocks.matrix)
        begun += pool.map(run, probes, ["rotated"] * len(probes))
    lowest = min(descent.potential for descent in begun)
    scale = len(blocks.counts) / len(part.counts)
    candidates: list[ModeCandidate] = []
    for descent in sorted(begun, key=lambda descent: descent.potential):
        latents = model.constrain(descent.z)
        candidate = ModeCandidate(descent.data, latents, descent.potential * scale, followed=False)
        followed = [other for other in candidates if other.followed]
        bound_elsewhere = any(distance(candidate, other) < SAME_BASIN for other in followed)
        if descent.potential < lowest + CLOSE_NATS and not bound_elsewhere:
            z, potential, _ = descend(
                model.value_and_gradient,
                model.placed(descent.data),
                descent.z,
                descent.transform,
                max_iterations=300,
            )
            latents = model.constrain(z)
            candidate = ModeCandidate(descent.data, latents, potential * scale, followed=True)
        candidates.append(candidate)
    return sorted(candidates, key=lambda candidate: candidate.potential)


def coarse_start(coarse: CoarseModel, start: Start) -> tuple[UnmixingData, FloatArray, FloatArray]:
    """Model data, flat parameters and whitening with which a descent from a start begins."""
    model = coarse.model
    data, example, lines = _coarse(coarse.part, coarse.basis, coarse.yields, start, coarse.baseline)
    return data, model.flatten(example), flat_whitening(model, lines)


@dataclass(frozen=True)
class _Descent:
    """A start after the first descents, near its mode."""

    data: UnmixingData
    z: FloatArray
    potential: float
    transform: FloatArray


def _coarse(
    blocks: Blocks, basis: EndmemberBasis, yields: FloatArray, start: Start, baseline: FloatArray
) -> tuple[UnmixingData, Latents, FloatArray]:
    """Model data on coarse support points around a start, latents there, and a whitening of the line units."""
    n_phases = len(blocks.phases)
    n_edges = max(n_phases * (n_phases - 1) // 2, 1)
    steps = int(np.clip(round(3 * COARSE_STEPS / n_edges), 5, COARSE_STEPS))
    count = blocks.typical_counts
    points = simplex_support_points(
        start.spectra, count, max_overlap=blocks.max_overlap, steps_per_edge=steps, matrix=blocks.hosts
    )
    # Phases are not known yet: a count stands for the same mass in each.
    effect = blocks.effect()
    weights = support_point_weights(
        relative_likelihood(blocks.counts, np.log(points @ start.spectra)), n_iterations=40
    )
    prior = abundance_prior(points, start.spectra, count, blocks.matrix, blocks.widths)
    free = np.argwhere(basis.allowed)
    total = blocks.counts.sum(dtype=float)
    regular = regular_information(basis, free, points, weights * total, start.spectra)
    scale = np.sqrt(np.diag(np.linalg.inv(regular)))
    data = UnmixingData(
        pixels=with_all_points(
            counted(blocks.counts, blocks.thickness.blocks, effect),
            len(points),
            np.concatenate([np.log(baseline), np.zeros(N_COLUMNS)]),
        ),
        basis=basis,
        prior=prior,
        free=free,
        scale=scale,
        ratio_family=np.flatnonzero(basis.ratio_sd > 0),
        yields=yields,
        balance=blocks.balance(),
        effect=effect,
        widths=blocks.widths,
    )
    units = np.maximum(start.weights[free[:, 0], free[:, 1]] / scale, 0.3)
    latents = latents_at(data, units, weights)
    return data, latents, unit_whitening(data, units, regular)


def regular_information(
    basis: EndmemberBasis,
    free: npt.NDArray[np.int64],
    points: FloatArray,
    counts: FloatArray,
    spectra: FloatArray,
) -> FloatArray:
    """Information of the free weights if abundances were known, and a weak prior, (free, free).

    Uninformed weights get a prior of the size of everything else, so that the inverse exists. For parameters see
    `bayesunmix.fit.model_data.fisher_information`.
    """
    information = fisher_information(component_templates(basis), free, points, counts, spectra)
    return information + np.diag(1e-6 * np.diag(information) + 1.0)


def flat_whitening(model: FlatModel, lines: FloatArray) -> FloatArray:
    """Whitening of the flat vector with this one for the line units, (dim, dim)."""
    transform = np.eye(model.size)
    transform[model.places["line_units"], model.places["line_units"]] = lines
    return transform


def unit_whitening(data: UnmixingData, units: FloatArray, information: FloatArray) -> FloatArray:
    """Whitening of the unconstrained line units from the known-abundance information and the prior, (free, free)."""
    slope = data.scale * -np.expm1(-units)  # derivative of a weight with respect to its unconstrained value
    curvature = slope[:, None] * information * slope + 0.25 * np.eye(len(units))
    return np.asarray(np.linalg.inv(np.linalg.cholesky(curvature)).T)


def distance(first: ModeCandidate, second: ModeCandidate) -> float:
    """Largest Hellinger distance between two candidates' spectra of a phase."""
    return float(hellinger(*(spectra_at(c.data, c.latents) for c in (first, second))).max())
