"""Is there a phase that nobody asked for? One more is fitted beside those that were found, and judged as in counting.

A model with a phase too few fits mixtures: its compositions lie between those of the sample's phases, and where areas
of the map hold them in different parts, such a mixture passes for a phase that varies. The phases that were found, and
one more, are therefore fitted to one half of the counts with nothing declared of them. If the other half asks for the
larger number, and each of its phases is one (`bayesunmix.fit.phase_evidence`), the map holds a further phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bayesunmix.config.phase import MOST_COUNTED
from bayesunmix.core.threads import single_thread
from bayesunmix.fit.held_out import Gain, gain_over
from bayesunmix.fit.phase_search import PhaseSearch
from bayesunmix.fit.setup import Setup
from bayesunmix.fit.starts import Start

FloatArray = npt.NDArray[np.float64]

# Beside the one that goes on from what was found: more never came to another answer.
N_STARTS = 1


@dataclass(frozen=True)
class FurtherPhase:
    """What the phases are with one more of them, which held-out counts ask for.

    Attributes
    ----------
    elements : tuple of str
        Of the compositions.
    composition : (phase, element)
        Atom fractions of all phases, with nominal calibration factors.
    share : (phase,)
        Of the map's counts.
    lines : (phase,)
        Share of its counts in lines of the sample's elements: next to none in a film, a hole or stray signal.
    gain : Gain
        What the held-out score gains from the further one, in nats.
    """

    elements: tuple[str, ...]
    composition: FloatArray
    share: FloatArray
    lines: FloatArray
    gain: Gain


def find_further_phase(setup: Setup, found: Start, progress: Callable[[str], None]) -> FurtherPhase | None:
    """Look for a phase beside those that were found.

    Parameters
    ----------
    setup : Setup
    found : Start
        The phases that were found.
    progress : callable
        Told what is fitted.

    Returns
    -------
    FurtherPhase or None
        None where counts ask for no further one, where it is no phase of its own, and where there are as many already
        as are ever counted.
    """
    count = len(found.weights)
    if count >= min(MOST_COUNTED, setup.blocks.n_blocks):
        return None
    with single_thread():
        search = PhaseSearch(setup)
        here = search.followed(found)
        progress(f"{count + 1} phases on half of the counts")
        more = search.grown(count + 1, here, n_starts=N_STARTS)
        if search.less(more, here) is not None:
            return None
        return FurtherPhase(
            elements=search.elements,
            composition=search.composition(more),
            share=more.share(search.counts),
            lines=search.lines(more),
            gain=gain_over(more.by_block, here.by_block),
        )
