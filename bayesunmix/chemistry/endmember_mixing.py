"""What an entry of the library is in the declared elements: its end members as far as they can be there, and mixed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from bayesunmix.chemistry.compounds import Compound, Endmember

FloatArray = npt.NDArray[np.float64]

LIGHT = ("H", "Li", "Be", "B", "C", "N", "O", "F")
"""Elements that a map of X-rays often does not measure; those that are not declared may be in any phase."""
# Compositions of an entry that are tried first.
_FIRST = 1024
# Main end members keep at least this share where minor ones would take all.
_LEAST_MAIN = 0.02


@dataclass(frozen=True)
class Mixing:
    """An entry in the declared elements.

    Attributes
    ----------
    compound
        The entry.
    endmembers
        Those whose elements are declared or not measured; main ones first.
    atoms
        Atoms of the declared elements in each, (endmember, element).
    limits
        Largest shares of the minor ones, (minor,).
    unmeasured
        Elements of the main ones that the map does not measure, in the order of the formulas.
    """

    compound: Compound
    endmembers: tuple[Endmember, ...]
    atoms: FloatArray
    limits: FloatArray
    unmeasured: tuple[str, ...]

    @property
    def holds(self) -> npt.NDArray[np.bool_]:
        """Which of the declared elements it can hold, (element,)."""
        return np.asarray((self.atoms > 0.0).any(axis=0))

    @property
    def n_main(self) -> int:
        """Number of main end members."""
        return len(self.endmembers) - len(self.limits)

    @property
    def n_free(self) -> int:
        """Number of uniform numbers that one composition takes."""
        return (self.n_main if self.n_main > 1 else 0) + len(self.limits)

    @cached_property
    def first(self) -> tuple[FloatArray, FloatArray]:
        """Uniform numbers (n, free), and the compositions (n, element) that they give: those that are tried first."""
        uniform = np.random.default_rng(0).random((_FIRST if self.n_free else 1, self.n_free))
        return uniform, self.composition(self.shares(uniform))

    def without(self, elements: npt.NDArray[np.bool_]) -> Mixing:
        """Return the entry without the minor end members that alone bring some elements, (element,)."""
        brought = elements & ~(self.atoms[: self.n_main] > 0.0).any(axis=0)
        kept = np.ones(len(self.endmembers), bool)
        kept[self.n_main :] = ~(self.atoms[self.n_main :, brought] > 0.0).any(axis=1)
        if kept.all():
            return self
        endmembers = tuple(one for one, keep in zip(self.endmembers, kept, strict=True) if keep)
        return replace(
            self, endmembers=endmembers, atoms=self.atoms[kept], limits=self.limits[kept[self.n_main :]]
        )

    def shares(self, uniform: FloatArray) -> FloatArray:
        """Shares of the end members in formula units, (..., endmember), from uniform numbers, (..., free).

        Those of m main end members are a Dirichlet(1/2, ..., 1/2): squares of normals over their sum (Devroye, L.,
        Non-Uniform Random Variate Generation (1986), doi:10.1007/978-1-4613-8643-8, ch. XI.4).
        """
        count = self.n_free - len(self.limits)
        minor = self.limits * uniform[..., count:] ** 2
        taken = minor.sum(axis=-1, keepdims=True)
        minor = minor * np.minimum(1.0, (1.0 - _LEAST_MAIN) / np.maximum(taken, 1e-12))
        main = np.ones((*uniform.shape[:-1], 1))
        if count:
            main = ndtri(0.5 + 0.5 * np.clip(uniform[..., :count], 1e-12, 1.0 - 1e-12)) ** 2
        main = main / main.sum(axis=-1, keepdims=True) * (1.0 - minor.sum(axis=-1, keepdims=True))
        return np.concatenate([main, minor], axis=-1)

    def composition(self, shares: FloatArray) -> FloatArray:
        """Atom fractions among the declared elements, (..., element), from shares of the end members."""
        amounts = shares @ self.atoms
        return np.asarray(amounts / np.maximum(amounts.sum(axis=-1, keepdims=True), 1e-300))


def mixing(
    compound: Compound, elements: Sequence[str], hidden: Collection[str] = (), oxygen: bool = True
) -> Mixing | None:
    """Return an entry in the declared elements; None where it cannot be there, or nothing of it is measured.

    Parameters
    ----------
    compound
        The entry.
    elements
        Declared elements.
    hidden
        Further elements that a phase may hold unseen: those of stray signal.
    oxygen
        Whether the sample may hold any.
    """
    unseen = {*LIGHT, *hidden} - set(elements)
    if not oxygen:
        unseen -= {"O"}
    allowed = unseen | set(elements)
    kept = [one for one in compound.endmembers if {element for element, _ in one.atoms} <= allowed]
    place = {element: index for index, element in enumerate(elements)}
    # What measures nothing of a main end member cannot be told from its absence.
    kept = [one for one in kept if any(element in place for element, _ in one.atoms)]
    if not any(one.limit is None for one in kept):
        return None
    atoms = np.zeros((len(kept), len(elements)))
    for row, one in zip(atoms, kept, strict=True):
        for element, count in one.atoms:
            if element in place:
                row[place[element]] += count
    main = [one for one in kept if one.limit is None]
    names = dict.fromkeys(element for one in main for element, _ in one.atoms if element not in place)
    limits = np.array([one.limit for one in kept if one.limit is not None], dtype=np.float64)
    return Mixing(compound, tuple(kept), atoms, limits, tuple(names))
