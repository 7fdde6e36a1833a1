"""How many phases: the held-out predictive score of unmixings with one to eight unnamed phases.

Spectra and weights are fitted to one half of the counts and scored by the other, relative to one common spectrum
(`bayesunmix.fit.held_out`). A phase too many fits the first half's noise and gains nothing. The smallest number within
one standard error of the best is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from bayesunmix.config.overlap import declared_overlap
from bayesunmix.config.phase import Phase, unnamed
from bayesunmix.core.shares import hellinger
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.held_out import by_tile, first_as_good, gain_over, halves, log_predictive
from bayesunmix.fit.model_data import Blocks, spectra_at, weights_at
from bayesunmix.fit.preparation import Setup, block_tiles
from bayesunmix.fit.search import CoarseModel, followed_down, race
from bayesunmix.fit.starts import Start, find_starts
from bayesunmix.inference.mixture import relative_likelihood, support_point_weights
from bayesunmix.models.abundance import simplex_support_points

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]

MOST_PHASES = 8
N_STARTS = 3
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


def infer_phase_number(setup: Setup, progress: Callable[[str], None], most: int = MOST_PHASES) -> PhaseNumber:
    """Fit one to `most` phases to half of the counts and judge each on the other half.

    Parameters
    ----------
    setup : Setup
    progress : callable
        Told each score.
    most : int
    """
    both, tiles = halves(setup.blocks.counts), block_tiles(setup)
    found: list[Trial] = []
    for count in range(1, min(most, setup.blocks.n_blocks) + 1):
        with single_thread():
            found.append(_trial(setup, both, tiles, count, found[-1] if found else None))
        progress(f"{count} phases: held-out score {found[-1].score - found[0].score:.1f} above one phase")
    index, gains = first_as_good([trial.by_tile for trial in found])
    chosen = index + 1
    curve = [{"k": count, "score": gain.nats, "se": gain.error} for count, gain in enumerate(gains, 1)]
    after = None
    if chosen < len(found):
        after = _next_phase(setup, found[chosen - 1], found[chosen])
    return PhaseNumber(chosen, curve, after)


def _trial(
    setup: Setup,
    both: tuple[Float32Array, Float32Array],
    tiles: npt.NDArray[np.int64],
    count: int,
    before: Trial | None,
) -> Trial:
    """Fit so many phases to the first half, from several starts, and score the second."""
    blocks = Blocks(
        counts=both[0],
        forward=setup.forward,
        phases=unnamed(count),
        overlap=declared_overlap(setup.max_overlap, unnamed(count)),
        mean_composition=setup.mean_composition,
        thickness=setup.thickness,
        tile=tiles,
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
    points = simplex_support_points(spectra, blocks.typical_counts, max_overlap=blocks.overlap.most)
    log_spectra = np.log(points @ spectra)
    pi = support_point_weights(relative_likelihood(both[0], log_spectra))
    common = both[0].sum(axis=0, dtype=float) + 1.0
    by_block = log_predictive(both[1], log_spectra, pi, np.log(common / common.sum()))
    return Trial(weights, spectra, pi @ points, by_tile(by_block, tiles))


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
