"""How many phases: the held-out predictive score of unmixings with one to eight unnamed phases.

Poisson counts split at random into two halves are independent of each other given the map's mean (Neufeld, A., et al.,
J. Mach. Learn. Res. 25 (2024) 57). With spectra s and weights pi fitted to the first half, the score of K phases is the
log predictive density of the second,

    score_K = sum_p log sum_j pi_j prod_c ( alpha_j . s_c )^y_pc,

over the blocks p, relative to one common spectrum. A phase too many fits the first half's noise and gains nothing.
Errors are those of paired differences over spatial tiles, since neighbours are alike. The rule is the usual one:
the smallest K within one standard error of the best (Breiman, L., et al., Classification and Regression Trees (1984),
3.4.3).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment
from scipy.special import logsumexp

from bayesunmix.config.phase import Phase, unnamed
from bayesunmix.core.shares import hellinger
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.model_data import Blocks, spectra_at, weights_at
from bayesunmix.fit.preparation import Setup, block_positions
from bayesunmix.fit.search import CoarseModel, followed_down, race
from bayesunmix.fit.starts import Start, find_starts
from bayesunmix.inference.mixture import relative_likelihood, support_point_weights
from bayesunmix.inference.sandwich import tile_labels
from bayesunmix.models.abundance import simplex_support_points

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

MOST_PHASES = 8
N_STARTS = 3
N_TILES = 36
SEED = 0


@dataclass(frozen=True)
class Trial:
    """An unmixing with so many phases.

    Attributes
    ----------
    weights : (phase, component)
    spectra : (phase, energy)
    share : (phase,)
        Share of the map's counts.
    by_tile : (tile,)
        Held-out score.
    """

    weights: FloatArray
    spectra: FloatArray
    share: FloatArray
    by_tile: FloatArray

    @property
    def score(self) -> float:
        """Held-out log predictive density."""
        return float(self.by_tile.sum())


@dataclass(frozen=True)
class PhaseNumber:
    """The chosen number of phases and the curve it was read off.

    Attributes
    ----------
    chosen : int
    curve : list of dict
        ``k``, ``score`` relative to the best, ``se`` of that difference.
    next_phase : dict or None
        What one phase more would be: ``composition`` (atom fractions), ``share`` of the counts, ``gain`` in nats and
        its standard error ``gain_se``.
    """

    chosen: int
    curve: list[dict[str, float]]
    next_phase: dict[str, Any] | None

    def phases(self) -> tuple[Phase, ...]:
        """Return the unnamed phases that the run goes on with."""
        return unnamed(self.chosen)


def infer_phase_number(
    setup: Setup, max_overlap: int, progress: Callable[[str], None], most: int = MOST_PHASES
) -> PhaseNumber:
    """Fit one to `most` phases to half of the counts and judge each on the other half.

    Parameters
    ----------
    setup : Setup
    max_overlap : int
        As in the inference.
    progress : callable
        Told each score.
    most : int
    """
    counts = setup.blocks.counts.astype(np.int64)
    first = np.random.default_rng([SEED, 50]).binomial(counts, 0.5)
    halves = first.astype(np.float32), (counts - first).astype(np.float32)
    position, shape = block_positions(setup)
    labels = np.unique(tile_labels(shape, N_TILES).ravel()[position], return_inverse=True)[1]
    found: list[Trial] = []
    for count in range(1, min(most, len(counts)) + 1):
        with single_thread():
            trial = _trial(
                setup=setup,
                halves=halves,
                labels=labels,
                max_overlap=max_overlap,
                count=count,
                before=found[-1] if found else None,
            )
        found.append(trial)
        progress(f"{count} phases: held-out score {found[-1].score - found[0].score:.1f} above one phase")
    chosen, curve = chosen_number([trial.by_tile for trial in found])
    after = None
    if chosen < len(found):
        after = _next_phase(setup, found[chosen - 1], found[chosen])
    return PhaseNumber(chosen, curve, after)


def chosen_number(by_tile: list[FloatArray]) -> tuple[int, list[dict[str, float]]]:
    """Smallest number of phases within one standard error of the best, and the curve.

    Parameters
    ----------
    by_tile : list of (tile,)
        Held-out score of each tile with 1, 2, ... phases.
    """
    best = max(by_tile, key=lambda tiles: float(tiles.sum()))
    curve = []
    for count, tiles in enumerate(by_tile, 1):
        gain, error = gain_over(tiles, best)
        curve.append({"k": count, "score": gain, "se": error})
    return next(int(row["k"]) for row in curve if row["score"] >= -row["se"]), curve


def gain_over(tiles: FloatArray, other: FloatArray) -> tuple[float, float]:
    """Sum of paired differences over tiles, and its standard error."""
    apart = tiles - other
    error = float(np.sqrt(len(apart)) * apart.std(ddof=1)) if len(apart) > 1 else 0.0
    return float(apart.sum()), error


def _trial(
    setup: Setup,
    halves: tuple[Float32Array, Float32Array],
    labels: npt.NDArray[np.int64],
    max_overlap: int,
    count: int,
    before: Trial | None,
) -> Trial:
    """Fit so many phases to the first half, from several starts, and score the second."""
    blocks = Blocks(
        counts=halves[0],
        forward=setup.forward,
        phases=unnamed(count),
        max_overlap=max_overlap,
        mean_composition=setup.mean_composition,
        thickness=setup.thickness,
    )
    basis, yields = setup.forward.basis(blocks.absorbing, blocks.allowed)
    coarse = CoarseModel.of(blocks, basis, yields)
    starts = find_starts(
        coarse.pooled.sums[:, : len(coarse.baseline)],
        basis,
        yields,
        blocks.balance(),
        blocks.matrix,
        n_starts=N_STARTS if count > 1 else 1,
        seed=SEED,
    )
    if before is not None:
        starts.append(_grown(before, starts[0]))
    weights, spectra = _best(coarse, starts)
    points = simplex_support_points(spectra, blocks.typical_counts, max_overlap=max_overlap)
    pi = support_point_weights(relative_likelihood(halves[0], np.log(points @ spectra)))
    common = halves[0].sum(axis=0, dtype=float) + 1.0
    by_block = _log_predictive(halves[1], points @ spectra, pi, common / common.sum())
    return Trial(weights, spectra, pi @ points, np.bincount(labels, weights=by_block).astype(float))


def _best(coarse: CoarseModel, starts: list[Start]) -> tuple[FloatArray, FloatArray]:
    """Weights and spectra of the lowest mode that the starts lead to."""
    raced = race(coarse, starts)
    lowest = min(descent.potential for descent in raced)
    ends = [followed_down(coarse, one) for one in raced if not one.beaten(lowest)]
    best = min(ends, key=lambda end: end.potential)
    latents = best.latents(coarse)
    return weights_at(best.data, latents), spectra_at(best.data, latents)


def _grown(before: Trial, start: Start) -> Start:
    """Solution with one phase less, and the phase of a start that is farthest from all of its."""
    apart = hellinger(start.spectra[:, None], before.spectra[None]).min(axis=1)
    new = int(apart.argmax())
    return Start(
        np.concatenate([before.weights, start.weights[new : new + 1]]),
        np.concatenate([before.spectra, start.spectra[new : new + 1]]),
        np.inf,
    )


def _log_predictive(
    counts: Float32Array, mixed: FloatArray, weights: FloatArray, common: FloatArray
) -> FloatArray:
    """Log density of each block under the mixture, relative to the common spectrum, (block,)."""
    contrast = np.log(mixed / common)
    joint = (counts @ contrast.T.astype(np.float32)).astype(float) + np.log(np.maximum(weights, 1e-300))
    return np.asarray(logsumexp(joint, axis=1))


def _next_phase(setup: Setup, here: Trial, more: Trial) -> dict[str, Any]:
    """Describe the phase of the larger solution that the smaller one does not have."""
    _, matched = linear_sum_assignment(hellinger(here.spectra[:, None], more.spectra[None]))
    new = int(next(iter(set(range(len(more.spectra))) - set(matched.tolist()))))
    absorbing = np.tile(setup.mean_composition, (len(more.spectra), 1))
    elements = setup.forward.elements
    _, yields = setup.forward.basis(absorbing, np.ones((len(absorbing), len(elements)), bool))
    atoms = more.weights[new, : len(elements)] / yields[new]
    atoms = atoms / max(atoms.sum(), 1e-300)
    gain, error = gain_over(more.by_tile, here.by_tile)
    return {
        "composition": dict(zip(elements, atoms.tolist(), strict=True)),
        "share": float(more.share[new]),
        "gain": gain,
        "gain_se": error,
    }
