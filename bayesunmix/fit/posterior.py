"""The posterior of a run: from starting points to the best mode, its curvature, and the mode beside it.

starts -> coarse support points, a part of the blocks, all points for each -> L-BFGS from each   (objectives are kept)
       -> which phases share a block, by held-out counts; where that is not what the search began with, once more
best, and its nearest rival where there is one
       -> support points one sd apart where the posterior sits, all blocks, grouped, absorption and units renewed
       -> mode and Hessian of each; the one that holds more of the posterior's mass comes first, and the other is kept
          where it holds a share
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bayesunmix.config.overlap import OverlapChoice, OverlapScore
from bayesunmix.fit.model_data import (
    Blocks,
    flat_model,
    fractions_at,
    log_odds_at,
    mass_per_count,
    spectra_at,
)
from bayesunmix.fit.overlap import choose_overlap
from bayesunmix.fit.search import (
    LEAST_UNITS,
    SAME_BASIN,
    CoarseModel,
    ModeCandidate,
    best_of,
    compare_starts,
    distance,
    held_against,
    matched,
    regular_information,
    start_from,
)
from bayesunmix.fit.starts import Start
from bayesunmix.fit.whitening import whitening_at
from bayesunmix.inference.density import FlatModel, Placed, compiling
from bayesunmix.inference.map_estimate import MapEstimate, descend, find_map
from bayesunmix.inference.mixture import (
    chunked,
    confined,
    corners,
    relative_likelihood,
    responsibilities,
    support_point_weights,
)
from bayesunmix.inference.sharding import n_threads
from bayesunmix.models.abundance import FINE, simplex_support_points
from bayesunmix.models.thickness import ThicknessEffect, answered, counted
from bayesunmix.models.unmixing import Latents, UnmixingData, thickness_parameters

FloatArray = npt.NDArray[np.float64]
Progress = Callable[[str], None]

# A support point expected to hold fewer blocks than this is dropped.
FEWEST_BLOCKS = 0.02
# A rival this near to the best, at most so many modes in all, is compared with it on all blocks.
COMPARED_NATS = 100.0
MOST_REFINED = 2
# A rival that lacks less than this in log mass holds a share of the posterior worth drawing from: 0.7 % at the least.
SHARED_NATS = 5.0
# Two modes are the same when no endmember differs by more than this Hellinger distance.
SAME_MODE = 0.01


@dataclass(frozen=True)
class Mode:
    """A mode found from one start.

    Attributes
    ----------
    objective : float
        For the best mode and its rival, the log of the posterior mass that it lacks to the best; for other starts the
        negative log posterior density relative to the best start's, on coarse support points and a part of the blocks,
        scaled.
    same_mode : bool
        Ends where the best start ends.
    followed : bool
        Was followed to its end; the others were abandoned as hopeless.
    atom_fractions : (phase, element)
        Composition there, with nominal calibration factors.
    """

    objective: float
    same_mode: bool
    followed: bool
    atom_fractions: FloatArray


@dataclass(frozen=True, kw_only=True)
class FittedPosterior:
    """The best mode and all that is needed to draw from its posterior.

    Attributes
    ----------
    data : UnmixingData
    estimate : MapEstimate
    modes : tuple of Mode
        One per start, the best first.
    absorbing : (phase, element)
        Compositions whose absorption the basis of `data` holds.
    atom_fractions : (phase, element)
        Composition at the mode, with nominal calibration factors.
    rival : Rival, optional
        The mode that holds the rest of the posterior's mass, where there is one.
    overlap : OverlapChoice, optional
        Which phases may share a block, where the search has asked the counts.
    """

    data: UnmixingData
    estimate: MapEstimate
    modes: tuple[Mode, ...]
    absorbing: FloatArray
    atom_fractions: FloatArray
    rival: Rival | None = field(default=None, kw_only=True)
    overlap: OverlapChoice | None = None

    @cached_property
    def model(self) -> FlatModel:
        """Flat view of the model; built on demand, so that the rest can be saved and read back."""
        return flat_model(self.data)

    @property
    def start(self) -> Start:
        """Where another search may begin."""
        return start_from(self.data, self.model.constrain(self.estimate.z))


@dataclass(frozen=True)
class Rival:
    """Another mode that holds a share of the posterior.

    Attributes
    ----------
    fitted : FittedPosterior
    share : float
        Of the mass of both modes, by Laplace's approximation of each.
    order : (phase,) int
        Which of its phases each of the best mode's is: phases declared alike may have changed places.
    """

    fitted: FittedPosterior
    share: float
    order: npt.NDArray[np.int64]


def fit_posterior(
    blocks: Blocks,
    starts: list[Start],
    absorbing: FloatArray,
    progress: Progress,
    coarse: CoarseModel | None = None,
) -> FittedPosterior:
    """Find the best mode from all starts, then refine it.

    Parameters
    ----------
    blocks : Blocks
    starts : list of Start
        From `bayesunmix.fit.starts.find_starts`.
    absorbing : (phase, element)
        Compositions whose absorption the starts' basis holds.
    progress : callable
        Told what is being done.
    coarse : CoarseModel, optional
        Where it has been compiled already.
    """
    if coarse is None:
        coarse = CoarseModel.of(blocks, *blocks.forward.basis(absorbing, blocks.allowed))
    candidates = compare_starts(coarse, starts, progress)
    coarse, candidates, overlap = _settled_overlap(coarse, candidates, starts, progress)
    blocks = coarse.blocks
    rivals = _rivals(candidates)
    fractions = [fractions_at(rival.data, rival.latents) for rival in rivals]
    refined = [_refined(blocks, *pair) for pair in zip(rivals, fractions, strict=True)]
    found = _modes_near(blocks, refined, progress)
    ended = [flat_model(at.data).constrain(mode.z) for at, mode in zip(refined, found, strict=True)]
    masses = [
        _log_mass(at.data, mode) - held_against(coarse, at.data, latents)
        for at, mode, latents in zip(refined, found, ended, strict=True)
    ]
    best = int(np.argmax(masses))
    settled = []
    for rival, around, latents, mass in zip(rivals, refined, ended, masses, strict=True):
        settled.append(replace(rival, data=around.data, latents=latents, potential=max(masses) - mass))
        if len(rivals) > 1:
            progress(f"mode: log mass {mass - max(masses):.1f} relative to the largest")
    others = [
        replace(candidate, potential=candidate.potential - candidates[0].potential)
        for candidate in candidates
        if all(candidate is not rival for rival in rivals)
    ]
    modes = _modes(settled, others, blocks.alike)
    whole = [
        FittedPosterior(
            data=around.data,
            estimate=mode,
            modes=modes,
            absorbing=absorbed,
            atom_fractions=fractions_at(around.data, candidate.latents),
            overlap=overlap,
        )
        for around, mode, absorbed, candidate in zip(refined, found, fractions, settled, strict=True)
    ]
    if len(settled) < MOST_REFINED:
        return whole[best]
    return replace(whole[best], rival=_sharing(settled, whole, best, blocks.alike))


def _settled_overlap(
    coarse: CoarseModel, candidates: list[ModeCandidate], starts: list[Start], progress: Progress
) -> tuple[CoarseModel, list[ModeCandidate], OverlapChoice]:
    """Ask which phases share a block, and search again under freer alternatives while the counts show one."""
    comparisons: tuple[tuple[OverlapScore, ...], ...] = ()
    while True:
        blocks, tried = coarse.blocks, None
        if blocks.open_overlap and blocks.overlap.embedded and blocks.alternatives:
            # Endmembers that bend to hold grains which meet leave nothing to be seen.
            tried = _under_freer(coarse, candidates, starts, progress)
            again = best_of(coarse, [tried[1][0].start])
            candidates = sorted([*candidates, again], key=lambda one: one.rank)
        asked = choose_overlap(blocks, candidates[0].at, None if tried is None else tried[1][0].at)
        comparisons += asked.comparisons
        if not blocks.open_overlap or asked.shown == blocks.overlap:
            return coarse, candidates, replace(asked, comparisons=comparisons)
        coarse, candidates = tried or _under_freer(coarse, candidates, starts, progress)
        progress(f"more phases share a pixel, by held-out counts: {coarse.blocks.overlap.words}")


def _under_freer(
    coarse: CoarseModel, candidates: list[ModeCandidate], starts: list[Start], progress: Progress
) -> tuple[CoarseModel, list[ModeCandidate]]:
    """Search where the next alternative is what may share a block, from the best candidate and all starts."""
    freer = coarse.freer()
    return freer, compare_starts(freer, [candidates[0].start, *starts], progress)


def _sharing(
    settled: list[ModeCandidate], whole: list[FittedPosterior], best: int, alike: npt.NDArray[np.bool_]
) -> Rival | None:
    """Return the mode beside the best one, where it is another one and holds a share of the mass."""
    other = next(number for number in range(len(settled)) if number != best)
    lacks = settled[other].potential
    own, theirs = (spectra_at(settled[n].data, settled[n].latents) for n in (best, other))
    apart, order = matched(own, theirs, alike)
    if apart < SAME_MODE or lacks > SHARED_NATS:
        return None
    return Rival(whole[other], float(1.0 / (1.0 + np.exp(lacks))), order)


def _rivals(candidates: list[ModeCandidate]) -> list[ModeCandidate]:
    """Return the best candidate and, where another one that was followed ends elsewhere, the best of these."""
    best = candidates[0]
    others = [
        c
        for c in candidates[1:]
        if c.followed and distance(c, best) > SAME_BASIN and c.potential < COMPARED_NATS + best.potential
    ]
    return [best, *others[: MOST_REFINED - 1]]


@dataclass(frozen=True)
class _Refined:
    """The model around a mode.

    Attributes
    ----------
    data : UnmixingData
        Its absorption, support points where the posterior sits, blocks grouped by them.
    latents : latents
        Where a descent begins.
    """

    data: UnmixingData
    latents: Latents


def _modes_near(blocks: Blocks, refined: list[_Refined], progress: Progress) -> list[MapEstimate]:
    """Descend to the modes side by side, once their programs are ready: NumPyro traces one model at a time."""
    n_counts = blocks.counts.sum(dtype=float)
    ready = []
    for around in refined:
        model = flat_model(around.data)
        placed = model.placed(around.data)
        with compiling(model, placed):
            start = model.flatten(around.latents)
            transform = whitening_at(model, around.data, around.latents, len(blocks.counts), n_counts)
        ready.append((model, placed, start, transform))

    def found(
        number: int, model: FlatModel, placed: Placed, start: FloatArray, transform: FloatArray
    ) -> MapEstimate:
        def say(text: str) -> None:
            progress(f"mode {number}, {text}")

        z, _, _ = descend(model.value_and_gradient, placed, start, transform)
        return find_map(model.value_and_gradient, model.hessian, placed, z, progress=say)

    with ThreadPoolExecutor(n_threads()) as pool:
        return list(pool.map(found, itertools.count(1), *zip(*ready, strict=True)))


def _log_mass(data: UnmixingData, estimate: MapEstimate) -> float:
    """Logarithm of the posterior mass around a mode by Laplace's approximation, up to a constant common to all modes.

    The potential is relative to the chunks' baselines, and flat in weights counted in `scale`: both differ by mode.
    """
    pixels = data.pixels
    baseline = float((pixels.counts.sum(axis=1, dtype=np.float64) * pixels.baseline).sum())
    units = float(np.log(np.asarray(data.scale)).sum())
    spread = -0.5 * float(np.linalg.slogdet(estimate.hessian)[1]) + 0.5 * len(estimate.z) * np.log(
        2.0 * np.pi
    )
    return float(baseline + units - estimate.potential + spread)


def _refined(blocks: Blocks, best: ModeCandidate, fractions: FloatArray) -> _Refined:
    """Refine the model around a candidate whose compositions are `fractions`."""
    basis, yields = blocks.forward.basis(fractions, blocks.allowed)
    renewed = best.data._replace(basis=basis, yields=yields, response=blocks.forward.response_uncertainty)
    known = {**best.latents, "response": np.zeros(len(renewed.response.mean))}
    endmembers = spectra_at(renewed, known)
    points, effect = _settled_points(blocks, endmembers, mass_per_count(renewed, known, blocks.forward))
    counts = counted(blocks.counts, blocks.thickness.blocks, effect)
    parameters = thickness_parameters(renewed._replace(effect=effect), known)
    log_mixed = np.asarray(answered(points @ endmembers, points, effect, *parameters))
    at = corners(points, blocks.known)
    likelihood = confined(relative_likelihood(counts, log_mixed), at)
    weights = support_point_weights(likelihood, n_iterations=40)
    prior = blocks.abundance_prior(points, endmembers)
    share = responsibilities(likelihood, 0.99 * weights + 0.01 / len(weights))
    old = best.data
    total = blocks.counts.sum(dtype=float)
    regular = regular_information(basis, old.free, points, weights * total, endmembers)
    scale = np.sqrt(np.diag(np.linalg.inv(regular)))
    pixels = chunked(counts, share, log_mixed, at)
    data = renewed._replace(pixels=pixels, prior=prior, scale=scale, effect=effect)
    latents = dict(known)
    latents["line_units"] = np.maximum(latents["line_units"] * old.scale / scale, LEAST_UNITS)
    latents["abundance_xi"] = log_odds_at(prior, weights)
    return _Refined(data, latents)


def _settled_points(
    blocks: Blocks, endmembers: FloatArray, mass: FloatArray
) -> tuple[FloatArray, ThicknessEffect]:
    """Support points 0.7 standard deviations apart that hold blocks, and how thickness acts on what they hold."""
    points = simplex_support_points(
        endmembers, FINE * blocks.typical_counts, max_overlap=blocks.overlap.most, matrix=blocks.hosts
    )
    likelihood = relative_likelihood(blocks.counts, np.log(points @ endmembers))
    likelihood = confined(likelihood, corners(points, blocks.known))
    weights = support_point_weights(likelihood)
    kept = (weights * len(blocks.counts) > FEWEST_BLOCKS) | (points.max(axis=1) == 1.0)
    shares = responsibilities(likelihood, weights) @ points
    return points[kept], blocks.effect(mass, shares)


def _modes(
    settled: list[ModeCandidate], others: list[ModeCandidate], alike: npt.NDArray[np.bool_]
) -> tuple[Mode, ...]:
    """Compare every candidate with the best of those settled, phases that were declared alike in whatever order.

    Parameters
    ----------
    settled
        Modes found on all blocks; their potential is the log mass that they lack.
    others
        Candidates compared on a part of the blocks alone, their potential relative to the best there. One that ends
        where a settled mode is, is that mode.
    alike : (phase, phase) bool
    """
    ranked = sorted(settled, key=lambda candidate: candidate.potential)
    endmembers = [spectra_at(c.data, c.latents) for c in ranked]

    def beside_best(of: ModeCandidate, own: FloatArray) -> tuple[float, FloatArray]:
        """Distance to the best mode, and compositions with each phase where that has it, to be compared."""
        apart, order = matched(own, endmembers[0], alike)
        return apart, np.asarray(fractions_at(of.data, of.latents)[np.argsort(order)])

    modes = []
    for number, (c, own) in enumerate(zip(ranked, endmembers, strict=True)):
        apart, fractions = beside_best(c, own)
        modes.append(Mode(c.potential, number == 0 or apart < SAME_MODE, True, fractions))
    for other in others:
        own = spectra_at(other.data, other.latents)
        distances = [matched(own, found, alike)[0] for found in endmembers]
        nearest = int(np.argmin(distances))
        # One that ends where a settled mode is would have settled there, too.
        if other.followed and distances[nearest] < SAME_BASIN:
            modes.append(modes[nearest])
        else:
            modes.append(Mode(other.potential, False, other.followed, beside_best(other, own)[1]))
    return (modes[0], *sorted(modes[1:], key=lambda mode: mode.objective))
