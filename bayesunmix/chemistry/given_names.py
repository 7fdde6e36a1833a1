"""Names of phases that the library knows: how far a composition is from what the name says.

Of phases of which nothing else is declared no count tells which is which. Who calls them olivine and garnet does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bayesunmix.chemistry.compounds import Compound, called
from bayesunmix.chemistry.endmember_mixing import mixing
from bayesunmix.core.shares import hellinger

FloatArray = npt.NDArray[np.float64]

# How far a composition is from what its name stands for, as a Hellinger distance, and the most nats against one that is
# farther: spectra that are found still hold some of each other.
NAMED_SD, MOST_AGAINST = 0.05, 50.0


@dataclass(frozen=True)
class GivenNames:
    """What names of phases stand for.

    Attributes
    ----------
    meant
        Names of the entries by that of the phase; it has none where the library does not know it.
    compositions : mapping of name to (composition, element)
        What each entry may be in the declared elements, its end members mixed as far as they mix.
    """

    meant: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    compositions: Mapping[str, FloatArray] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        names: Iterable[str],
        compounds: Sequence[Compound],
        elements: Sequence[str],
        hidden: Collection[str] = (),
        oxygen: bool = True,
    ) -> GivenNames:
        """Look names up; for the other parameters see `bayesunmix.chemistry.naming.names_of_phases`."""
        meant: dict[str, tuple[str, ...]] = {}
        compositions: dict[str, FloatArray] = {}
        for name in names:
            found = [mixing(entry, elements, hidden, oxygen) for entry in called(name, compounds)]
            known = {one.compound.name: one.first[1] for one in found if one is not None}
            if known:
                meant[name] = tuple(known)
                compositions |= known
        return cls(meant, compositions)

    def against(self, names: Sequence[str], fractions: FloatArray) -> FloatArray:
        """Nats against each name, by the nearest composition that it stands for, (phase, name).

        Parameters
        ----------
        names
        fractions : (phase, element)
            Of the phases that may bear them.

        Returns
        -------
        FloatArray
            Of a name that says nothing, zeros.
        """
        off = np.zeros((len(fractions), len(names)))
        for column, name in enumerate(names):
            if name in self.meant:
                those = np.concatenate([self.compositions[entry] for entry in self.meant[name]])
                off[:, column] = hellinger(fractions[:, None], those[None]).min(axis=1)
        return np.minimum(0.5 * (off / NAMED_SD) ** 2, MOST_AGAINST)


NO_NAMES = GivenNames()
