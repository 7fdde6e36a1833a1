"""Which phases share a pixel, by held-out counts.

    embedded    grains meet the matrix, and each other only with it      where a matrix is declared
    two         any two phases, and a third one coarsely
    three       any three

The fewer may meet, the more pins the solution; but where grains meet that may not, endmembers bend to hold them. With
those that the search has come to under the first alternative, each one's support points get their weights by one half
of the counts and are scored by the other (`bayesunmix.fit.held_out`), and once more the other way round. Endmembers
were found to suit the first alternative: one that scores higher all the same would score higher still with its own, and
the search goes on under the next one, with endmembers of its own, which is then asked again.

Grains in a matrix can bend endmembers so far that nothing is left to be seen: three minerals that touch were found as
one matrix and two phases that are pure nowhere, by a higher posterior than the truth has. So any two phases get
endmembers of their own before they are judged. Any three do not: they would soak up how phases vary.

The most restricted one is kept that is within two standard errors of the best: on the 71 GPa map of `docs/real_map.md`
one place, which nobody declared, speaks for three, and the solution that three lead to is one that chemistry excludes.
Between grains in a matrix and any two phases one standard error decides. Grains meet in few tiles of the map, so that
what speaks for it has a large standard error; and any two hold embedded grains as well, at the cost of some width,
while grains that are taken for embedded and are not bend every phase.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bayesunmix.config.overlap import LEAST_GAINED, Overlap, OverlapChoice, OverlapScore
from bayesunmix.fit.held_out import Split, by_tile, first_as_good, gain_over, log_spectra_at, mixture_score
from bayesunmix.fit.model_data import Blocks, spectra_at
from bayesunmix.models.abundance import simplex_support_points
from bayesunmix.models.unmixing import Latents, UnmixingData, thickness_parameters

FloatArray = npt.NDArray[np.float64]
At = tuple[UnmixingData, Latents]

# So many blocks decide, evenly spread over the map, fewer where they meet so many support points.
MOST_BLOCKS, MOST_ENTRIES = 6000, 20_000_000
# Standard errors by which counts must speak against what may meet: freedom that a map hardly needs soaks up how its
# phases vary, and endmembers rotate to make room for that. Fewer against grains that are embedded.
DOUBTS, EMBEDDED_DOUBTS = 2.0, 1.0


def choose_overlap(blocks: Blocks, found: At, freer: At | None = None) -> OverlapChoice:
    """Compare what a map may hold at endmembers that were found.

    Parameters
    ----------
    blocks : Blocks
        With the alternatives, which are judged even where none of them may be taken.
    found
        The model where the search has come to.
    freer
        Where it has come to under the next alternative, if that has been tried.
    """
    compared = (blocks.overlap, *blocks.alternatives)
    if len(compared) < 2:
        return OverlapChoice(blocks.overlap, blocks.overlap, ())
    points = [_points(blocks, overlap, found) for overlap in compared]
    most = min(MOST_BLOCKS, MOST_ENTRIES // max(map(len, points)))
    part = blocks.every(-(-len(blocks.counts) // most))
    scores = _scores(part, points, found)
    if freer is not None:
        (own,) = _scores(part, [_points(blocks, compared[1], freer)], freer)
        scores[1] = max(scores[1], own, key=lambda tiles: float(tiles.sum()))
    index = shown_by(scores, embedded=blocks.overlap.embedded)
    gains = [gain_over(score, scores[0]) for score in scores]
    return OverlapChoice(
        taken=blocks.overlap,
        shown=compared[index],
        comparisons=(tuple(OverlapScore(one, *gain) for one, gain in zip(compared, gains, strict=True)),),
    )


def shown_by(scores: Sequence[FloatArray], *, embedded: bool) -> int:
    """Index of the alternative that held-out scores show.

    Parameters
    ----------
    scores : sequence of (tile,)
        Of each alternative, the most restricted first.
    embedded : bool
        Whether that is grains in a matrix, and the next any two phases.
    """
    index, _ = first_as_good(scores, DOUBTS, LEAST_GAINED)
    if not index and embedded:
        index, _ = first_as_good(scores[:2], EMBEDDED_DOUBTS, LEAST_GAINED)
    return index


def _points(blocks: Blocks, overlap: Overlap, at: At) -> FloatArray:
    """Support points of an alternative between some endmembers, (support_point, phase)."""
    endmembers, hosts = spectra_at(*at), overlap.hosts(blocks.phases)
    return simplex_support_points(endmembers, blocks.typical_counts, max_overlap=overlap.most, matrix=hosts)


def _scores(blocks: Blocks, points: Sequence[FloatArray], at: At) -> list[FloatArray]:
    """Held-out score of each set of support points between some endmembers, (tile,)."""
    endmembers, effect, parameters = spectra_at(*at), at[0].effect, thickness_parameters(*at)
    split = Split.of(blocks, effect)
    scores = []
    for some in points:
        log_spectra = log_spectra_at(some, endmembers, effect, parameters)
        by_block = mixture_score(split.first, split.second, log_spectra, split.log_common)
        scores.append(by_tile(by_block, blocks.tile))
    return scores
