"""The search for the mode: from every start downhill on coarse support points and pooled blocks.

starts -> coarse support points -> L-BFGS from each -> rotated starts around the best -> those that may be the best to
their end
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from bayesunmix.config.phase import Phase
from bayesunmix.core.shares import hellinger, ratio_of, shares_of
from bayesunmix.fit.embedding import less_embedded
from bayesunmix.fit.model_data import (
    Blocks,
    fisher_information,
    flat_model,
    fractions_at,
    latents_at,
    spectra_at,
    weights_at,
)
from bayesunmix.fit.starts import Start, component_templates, exchanged_starts, rotated_starts, start_at
from bayesunmix.fit.whitening import whitening_at
from bayesunmix.inference.density import FlatModel
from bayesunmix.inference.map_estimate import descend
from bayesunmix.inference.mixture import (
    confined,
    corners,
    relative_likelihood,
    support_point_weights,
    with_all_points,
)
from bayesunmix.inference.pooling import Pooled, pooled_alike
from bayesunmix.inference.sharding import n_threads
from bayesunmix.models.abundance import log_weights, simplex_support_points
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.thickness import N_COLUMNS, counted
from bayesunmix.models.unmixing import Latents, UnmixingData

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[str], None]

# Steps along each edge while starts are compared: enough to rank them, the same number for all so that one program
# serves.
COARSE_STEPS = 16
# Blocks that compare starts, evenly spread over the map, and groups of like ones that they are pooled to.
MOST_COMPARED = 12_000
MOST_GROUPS = 500
# Support points while starts are compared, the corners and those that hold most where a round begins: faces of eight
# phases have hundreds.
MOST_POINTS = 128
# Descents are compared after so many rounds, each with coordinates and support points of its own: what was learned far
# away misleads.
ROUNDS, ROUND_ITERATIONS = 2, 80
# An iteration that gains less than this, in nats, is the last of its round: other coordinates gain more.
LEAST_STEP = 0.01
# One that is followed goes on for rounds of so many iterations, until one gains less than this in nats.
MOST_FOLLOWED, MOST_ITERATIONS, LEAST_GAINED = 4, 300, 1.0
# A descent that is behind by more than this, and by more than so many times what its last round gained, is beaten.
CLOSE_NATS = 50.0
STILL_GAINED = 1.5
# Weights begin no nearer to their bound, in standard deviations, than a descent gets away from.
LEAST_UNITS = 0.02
# Lines of the declared elements in a phase, relative to the phase that has most, that are none, and the odds against
# that in one of which elements are declared, in nats: a spectrum that does not fit moves a hundred.
TRACES = 0.1
EMPTY_NATS = 1000.0
# Odds against a name on another composition than it stands for, in nats, at most: between solutions that the counts set
# apart by less, line shapes that are a little off would decide.
NAME_NATS = 10.0
# Names ask for another order of the phases where that fits them better by so many nats a phase.
TELLING_NATS = 1.0
# A matrix is pure where it holds more than this share of a block, and is so in this share of all blocks at least.
NEARLY_ALONE, LEAST_PURE = 0.9, 0.01
# A descent this close to one that went on will end with it.
SAME_BASIN = 0.04


@dataclass(frozen=True)
class ModeCandidate:
    """One start on its way to a mode."""

    data: UnmixingData
    latents: Latents
    potential: float
    followed: bool

    @property
    def rank(self) -> tuple[bool, float]:
        """What candidates are sorted by: one that was not followed ends where another one does, or is beaten."""
        return not self.followed, self.potential

    @property
    def at(self) -> tuple[UnmixingData, Latents]:
        """The model where it is."""
        return self.data, self.latents

    @property
    def start(self) -> Start:
        """Where another search may begin."""
        return start_from(self.data, self.latents)


@dataclass(frozen=True, kw_only=True)
class CoarseModel:
    """The model on coarse support points and pooled blocks, compiled: the same program for every start.

    Attributes
    ----------
    blocks : Blocks
    pooled : Pooled
        Groups of blocks with like spectra, with the columns that thickness needs.
    scale : float
        Blocks of the map for each that was pooled.
    basis, yields
        The model's arrays.
    baseline : (energy,)
        Mean spectrum of the map.
    model : FlatModel
    """

    blocks: Blocks
    pooled: Pooled
    scale: float
    basis: EndmemberBasis
    yields: FloatArray
    baseline: FloatArray
    model: FlatModel

    @classmethod
    def of(cls, blocks: Blocks, basis: EndmemberBasis, yields: FloatArray) -> CoarseModel:
        """Build and compile it; that takes seconds, and needs no start."""
        part = blocks.every(-(-len(blocks.counts) // MOST_COMPARED))
        columns = counted(part.counts, part.thickness.blocks, blocks.effect())
        groups = pooled_alike(columns, part.counts, MOST_GROUPS, part.known)
        scale = len(blocks.counts) / len(part.counts)
        baseline = blocks.counts.sum(axis=0, dtype=np.float64) + 1.0
        baseline /= baseline.sum()
        model = _compiled(blocks, groups, basis, yields, baseline)
        return cls(
            blocks=blocks,
            pooled=groups,
            scale=scale,
            basis=basis,
            yields=yields,
            baseline=baseline,
            model=model,
        )

    def freer(self) -> CoarseModel:
        """Return the same where the next alternative is what may share a block."""
        blocks = self.blocks.freer()
        model = _compiled(blocks, self.pooled, self.basis, self.yields, self.baseline)
        return replace(self, blocks=blocks, model=model)


def compare_starts(coarse: CoarseModel, starts: list[Start], progress: Progress) -> list[ModeCandidate]:
    """Descend from every start on coarse support points, then follow those that may be the best; the best first."""
    blocks, raced = coarse.blocks, race(coarse, starts)
    for number, descent in enumerate(raced, 1):
        progress(f"start {number} of {len(starts)}: objective {descent.potential:.1f}")
    for best in best_of_each_matrix(coarse, raced):
        weights = weights_at(best.data, best.latents(coarse))
        for descent in race(coarse, rotated_starts(weights, coarse.basis, blocks.matrix)):
            progress(f"rotated: objective {descent.potential:.1f}")
            raced.append(descent)
    lowest = min(descent.potential for descent in raced)
    candidates: list[ModeCandidate] = []
    for descent in sorted(raced, key=lambda descent: descent.potential):
        candidate = descent.candidate(coarse, followed=False)
        followed = [other for other in candidates if other.followed]
        bound_elsewhere = any(distance(candidate, other) < SAME_BASIN for other in followed)
        if not descent.beaten(lowest) and not bound_elsewhere:
            end = followed_down(coarse, descent)
            lowest = min(lowest, end.potential)
            candidate = end.candidate(coarse, followed=True)
        candidates.append(candidate)
    candidates = [in_named_order(coarse, one) if one.followed else one for one in candidates]
    named = min(candidates, key=lambda candidate: candidate.rank)
    for _ in blocks.phases:
        better = better_named(coarse, named, progress)
        if not better:
            break
        candidates += better
        named = min(better, key=lambda candidate: candidate.potential)
    # A solution that is worse for having its names exchanged is no rival.
    alike = blocks.alike
    kept = [candidate for candidate in candidates if not renamed(candidate, named, alike)]
    return sorted(kept, key=lambda candidate: candidate.rank)


def best_of_each_matrix(coarse: CoarseModel, raced: list[Descent]) -> list[Descent]:
    """Return the best descent and, where a matrix is declared, those that may still be as good with another one.

    What else a matrix leaves open is as much as can tell two of them apart.
    """
    ranked, matrix = sorted(raced, key=lambda descent: descent.potential), coarse.blocks.matrix
    kept, theirs = ranked[:1], [spectra_at(ranked[0].data, ranked[0].latents(coarse))[matrix]]
    for descent in ranked[1:] if matrix.any() else ():
        own = spectra_at(descent.data, descent.latents(coarse))[matrix]
        another = all(float(hellinger(own, other).max()) > SAME_BASIN for other in theirs)
        if another and not descent.beaten(ranked[0].potential):
            kept.append(descent)
            theirs.append(own)
    return kept


def best_of(coarse: CoarseModel, starts: list[Start]) -> ModeCandidate:
    """Go down from some starts, to the end from the best of them, and look for nothing beside it."""
    descent = min(race(coarse, starts), key=lambda descent: descent.potential)
    return in_named_order(coarse, followed_down(coarse, descent).candidate(coarse, followed=True))


def better_named(coarse: CoarseModel, best: ModeCandidate, progress: Progress) -> list[ModeCandidate]:
    """Exchange phases of which different things are declared, and return where that ends if it is better."""
    weights = weights_at(best.data, best.latents)
    exchanged = exchanged_starts(weights, coarse.basis, ~coarse.blocks.alike)
    found = []
    for descent in race(coarse, exchanged):
        progress(f"exchanged: objective {descent.potential:.1f}")
        if not descent.beaten(best.potential / coarse.scale):
            end = followed_down(coarse, descent).candidate(coarse, followed=True)
            found += [end] * (end.potential < best.potential)
    return found


def in_named_order(coarse: CoarseModel, candidate: ModeCandidate) -> ModeCandidate:
    """Return the same solution with phases that were declared alike in the order that their names stand for.

    Names are no odds: whatever they say, a solution is as probable in one order as in the other.
    """
    order = named_order(coarse.blocks, fractions_at(candidate.data, candidate.latents))
    if (order == np.arange(len(order))).all():
        return candidate
    weights = weights_at(candidate.data, candidate.latents)[order]
    start = start_at(weights, coarse.basis, component_templates(coarse.basis))
    descent = gone_on(coarse, begun(coarse, start), ROUND_ITERATIONS)
    return followed_down(coarse, descent).candidate(coarse, followed=True)


def named_order(blocks: Blocks, fractions: FloatArray) -> npt.NDArray[np.int64]:
    """Which phase of a solution with compositions (phase, element) each name is best given to, (name,).

    Only phases that were declared alike change places, and these as little as their names ask for.
    """
    against = blocks.given.against(blocks.names, fractions)
    cost = np.where(blocks.alike, against - TELLING_NATS * np.eye(len(against)), EMPTY_NATS)
    return np.asarray(linear_sum_assignment(cost.T)[1], dtype=np.int64)


@dataclass(frozen=True)
class Descent:
    """A start on its way down, and what the last iterations gained, in nats of the pooled blocks."""

    data: UnmixingData
    z: FloatArray
    potential: float
    gained: float

    def latents(self, coarse: CoarseModel) -> Latents:
        """Return the latents where it is."""
        return coarse.model.constrain(self.z)

    def candidate(self, coarse: CoarseModel, *, followed: bool) -> ModeCandidate:
        """Return it as one of the candidates, its objective scaled to all blocks."""
        latents = self.latents(coarse)
        against = held_against(coarse, self.data, latents)
        return ModeCandidate(self.data, latents, self.potential * coarse.scale + against, followed)

    def beaten(self, lowest: float) -> bool:
        """Say whether it is behind by more than it can still gain."""
        return self.potential > lowest + max(CLOSE_NATS, STILL_GAINED * self.gained)


def race(coarse: CoarseModel, starts: list[Start]) -> list[Descent]:
    """Go the same few rounds down from every start."""

    def run(start: Start) -> Descent:
        descent = gone_on(coarse, begun(coarse, start), ROUND_ITERATIONS)
        for _ in range(1, ROUNDS):
            descent = gone_on(coarse, resettled(coarse, descent), ROUND_ITERATIONS)
        return descent

    with ThreadPoolExecutor(n_threads()) as pool:
        return list(pool.map(run, starts))


def followed_down(coarse: CoarseModel, descent: Descent) -> Descent:
    """Go down to the end: until support points chosen anew let it gain hardly anything."""
    for _ in range(MOST_FOLLOWED):
        descent = gone_on(coarse, resettled(coarse, descent), MOST_ITERATIONS)
        if descent.gained < LEAST_GAINED:
            break
    return descent


def start_from(data: UnmixingData, latents: Latents) -> Start:
    """Return what a search has come to as a starting point of another one."""
    return Start(weights_at(data, latents), spectra_at(data, latents), np.inf)


def begun(coarse: CoarseModel, start: Start) -> Descent:
    """Put a start on its way: the model around it, and the flat parameters there."""
    data, latents = _coarse(coarse.blocks, coarse.pooled, coarse.basis, coarse.yields, start, coarse.baseline)
    return Descent(data, coarse.model.flatten(latents), np.inf, np.inf)


def resettled(coarse: CoarseModel, descent: Descent) -> Descent:
    """Choose the support points anew where a descent has come to: which of them hold blocks has changed on the way."""
    latents = descent.latents(coarse)
    here = start_from(descent.data, latents)
    data, anew = _coarse(coarse.blocks, coarse.pooled, coarse.basis, coarse.yields, here, coarse.baseline)
    units = np.maximum(latents["line_units"] * descent.data.scale / data.scale, LEAST_UNITS)
    latents = {**latents, "line_units": units, "abundance_xi": anew["abundance_xi"]}
    return replace(descent, data=data, z=coarse.model.flatten(latents))


def gone_on(coarse: CoarseModel, descent: Descent, iterations: int) -> Descent:
    """Go so many iterations farther down, in coordinates in which the information here is one."""
    number = coarse.pooled.number
    n_counts = float(number @ coarse.pooled.counts[:, : len(coarse.baseline)].sum(axis=1, dtype=np.float64))
    transform = whitening_at(
        coarse.model, descent.data, descent.latents(coarse), float(number.sum()), n_counts
    )
    z, potential, _ = descend(
        coarse.model.value_and_gradient,
        coarse.model.placed(descent.data),
        descent.z,
        transform,
        max_iterations=iterations,
        least_fall=LEAST_STEP,
    )
    return Descent(descent.data, z, potential, descent.potential - potential)


def _coarse(
    blocks: Blocks,
    groups: Pooled,
    basis: EndmemberBasis,
    yields: FloatArray,
    start: Start,
    baseline: FloatArray,
) -> tuple[UnmixingData, Latents]:
    """Model data on coarse support points around a start, and latents there."""
    n_phases = len(blocks.phases)
    n_edges = max(n_phases * (n_phases - 1) // 2, 1)
    steps = int(np.clip(round(3 * COARSE_STEPS / n_edges), 5, COARSE_STEPS))
    count = blocks.typical_counts
    points = simplex_support_points(
        start.spectra, count, max_overlap=blocks.overlap.most, steps_per_edge=steps, matrix=blocks.hosts
    )
    # Phases are not known yet: a count stands for the same mass in each.
    effect = blocks.effect()
    plain = np.ascontiguousarray(groups.counts[:, : start.spectra.shape[1]])
    likelihood = relative_likelihood(plain, np.log(points @ start.spectra))
    likelihood = confined(likelihood, corners(points, groups.known))
    weights = support_point_weights(likelihood, n_iterations=40, number=groups.number)
    kept = _most_held(points, weights)
    points, weights = points[kept], shares_of(weights[kept])
    prior = blocks.abundance_prior(points, start.spectra)
    free = np.argwhere(basis.allowed)
    total = blocks.counts.sum(dtype=float)
    regular = regular_information(basis, free, points, weights * total, start.spectra)
    scale = np.sqrt(np.diag(np.linalg.inv(regular)))
    data = UnmixingData(
        pixels=with_all_points(
            groups.counts,
            len(points),
            np.concatenate([np.log(baseline), np.zeros(N_COLUMNS)]),
            groups.number,
            corners(points, groups.known),
        ),
        basis=basis,
        prior=prior,
        free=free,
        scale=scale,
        ratio_family=np.flatnonzero(basis.ratio_sd > 0),
        yields=yields,
        statements=blocks.statements(),
        effect=effect,
        widths=blocks.widths,
    )
    units = np.maximum(start.weights[free[:, 0], free[:, 1]] / scale, 0.3)
    latents = latents_at(data, units, weights)
    return data, latents


def _compiled(
    blocks: Blocks, groups: Pooled, basis: EndmemberBasis, yields: FloatArray, baseline: FloatArray
) -> FlatModel:
    """Compile the model on coarse support points."""
    # Any spectra give the shapes.
    weights = np.random.default_rng(0).uniform(0.5, 1.5, basis.allowed.shape)
    anywhere = start_at(weights, basis, component_templates(basis))
    data, example = _coarse(blocks, groups, basis, yields, anywhere, baseline)
    model = flat_model(data)
    model.value_and_gradient(model.flatten(example), data)
    return model


def _most_held(points: FloatArray, weights: FloatArray) -> npt.NDArray[np.int64]:
    """Which support points to keep, (kept,): the corners, and of the others those that hold most."""
    rank = np.where(points.max(axis=1) == 1.0, np.inf, weights)
    return np.sort(np.argsort(-rank, kind="stable")[:MOST_POINTS])


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


def held_against(coarse: CoarseModel, data: UnmixingData, latents: Latents) -> float:
    """Nats against a mode that contradicts what is declared: its prior odds.

    A phase of which elements are declared holds none, a matrix is pure nowhere, grains are embedded in another one, or
    a name stands for another composition. A name is lightly given: it decides where the counts hardly do.
    """
    phases, embedded = coarse.blocks.phases, coarse.blocks.overlap.embedded
    empty = hardly_a_phase(phases, weights_at(data, latents), data.yields.shape[1])
    contradicted = EMPTY_NATS * float(empty.sum() + impurity(phases, data, latents).sum())
    misnamed = np.diag(coarse.blocks.given.against(coarse.blocks.names, fractions_at(data, latents)))
    contradicted += float(np.minimum(misnamed, NAME_NATS).sum())
    if embedded:
        return contradicted
    return contradicted + less_embedded(coarse.blocks, coarse.pooled, coarse.scale, spectra_at(data, latents))


def impurity(phases: Sequence[Phase], data: UnmixingData, latents: Latents) -> FloatArray:
    """Return how far declared matrices are from being pure in a few blocks, 0 to 1 where they hold none, (phase,).

    By degrees: one that is hardly impure may be a little too pure by itself, and is a rotation away from its pixels.
    """
    points, matrix = np.asarray(data.prior.support_points), np.array([phase.matrix for phase in phases])
    weights = np.exp(np.asarray(log_weights(data.prior, latents["abundance_xi"])))
    order = np.argsort(-points, axis=0)
    few = (np.cumsum(weights[order], axis=0) < LEAST_PURE).sum(axis=0)
    purest = np.take_along_axis(points, order, axis=0)[
        np.minimum(few, len(points) - 1), np.arange(len(matrix))
    ]
    return np.asarray(matrix * np.maximum(1.0 - purest / NEARLY_ALONE, 0.0))


def hardly_a_phase(phases: Sequence[Phase], weights: FloatArray, n_elements: int) -> npt.NDArray[np.bool_]:
    """Tell the phases of which elements are declared, but that hold next to none, shape (phase,).

    Who says that Al is absent from a phase, or what its formula is, does not mean the film under it, of which that is
    true as well. Where the counts leave open which phase is the film, it is one of which nothing is said.
    """
    told = np.array([bool(phase.told) for phase in phases])
    lines = ratio_of(weights[:, :n_elements].sum(axis=1), weights.sum(axis=1))
    return np.asarray(told & (lines < TRACES * lines.max()))


def renamed(candidate: ModeCandidate, best: ModeCandidate, alike: npt.NDArray[np.bool_]) -> bool:
    """Say whether a candidate is the best one with names exchanged that are declared to be different phases'."""
    own, theirs = (spectra_at(one.data, one.latents) for one in (candidate, best))
    by_any_name, _ = matched(own, theirs, np.ones_like(alike))
    return by_any_name < SAME_BASIN <= matched(own, theirs, alike)[0]


def distance(first: ModeCandidate, second: ModeCandidate) -> float:
    """Largest Hellinger distance between two candidates' spectra of a phase."""
    return float(hellinger(*(spectra_at(c.data, c.latents) for c in (first, second))).max())


def matched(
    first: FloatArray, second: FloatArray, alike: npt.NDArray[np.bool_]
) -> tuple[float, npt.NDArray[np.int64]]:
    """Match two sets of spectra among phases declared alike: largest Hellinger distance, and the second's order."""
    distance = hellinger(first[:, None], second[None])
    rows, columns = linear_sum_assignment(np.where(alike, distance, 10.0))
    return float(distance[rows, columns].max()), np.asarray(columns, dtype=np.int64)
