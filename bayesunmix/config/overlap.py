"""Which phases may share a pixel: what a configuration asks for, what a map chooses from, and what it chose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from bayesunmix.config.phase import Phase, hosts

# A held-out log score that is higher by less, in nats, moves no composition by more than its interval.
LEAST_GAINED = 10.0
SMALL_NUMBERS = {2: "two", 3: "three", 4: "four"}


@dataclass(frozen=True)
class Overlap:
    """Which phases may share a pixel.

    Attributes
    ----------
    most : int
        How many at most, finely resolved; one more coarsely.
    embedded : bool
        Grains share a pixel with a matrix, or with each other and a matrix, but not with each other alone.
    """

    most: int
    embedded: bool = False

    @property
    def words(self) -> str:
        """Who may share a pixel, in words."""
        if self.embedded:
            return "a grain and the matrix"
        return (
            f"any {SMALL_NUMBERS.get(self.most, str(self.most))} phases" if self.most > 1 else "no two phases"
        )

    def hosts(self, phases: Sequence[Phase]) -> npt.NDArray[np.bool_]:
        """Phases one of which every pixel of several phases holds, shape (phase,); none where any may meet."""
        return hosts(phases) if self.embedded else np.zeros(len(phases), bool)


@dataclass(frozen=True)
class OverlapScore:
    """An alternative, what its held-out score is above the first one's, in nats, and the standard error of that."""

    overlap: Overlap
    gain: float
    se: float


@dataclass(frozen=True)
class OverlapChoice:
    """Which phases may share a pixel, and what the counts say of it.

    Attributes
    ----------
    taken : Overlap
        What the run goes on with.
    shown : Overlap
        What held-out counts choose.
    comparisons : tuple of tuple of OverlapScore
        Every comparison, at the endmembers that its first alternative led to; none where there was nothing to compare.
    """

    taken: Overlap
    shown: Overlap
    comparisons: tuple[tuple[OverlapScore, ...], ...]


def declared_overlap(max_overlap: int | Literal["auto"], phases: Sequence[Phase]) -> Overlap:
    """Return what is declared, or to begin with where that is left to the map: grains in a matrix, if there is one."""
    most = 2 if max_overlap == "auto" else max_overlap
    embedding = hosts(phases)
    # Grains are kept apart where there are two of them at least.
    return Overlap(most, embedded=bool(most == 2 and embedding.any() and (~embedding).sum() > 1))


def freer_overlaps(than: Overlap, phases: Sequence[Phase]) -> tuple[Overlap, ...]:
    """Return what a map may show beyond that, the most restricted first."""
    most = min(3, len(phases))
    freer = [Overlap(number) for number in range(2, most + 1) if number > than.most]
    return (Overlap(2), *freer) if than.embedded else tuple(freer)
