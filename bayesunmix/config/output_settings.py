"""Table ``[output]`` of the configuration: units of the compositions, and what formulas take for granted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bayesunmix.chemistry.unit_names import OXYGEN_UNITS, UNITS, check_oxygen_unit
from bayesunmix.core.errors import InputError, check_between, check_choice, shown, suggest

FIGURE_FORMATS = ("png", "pdf", "svg")
# Zeolites and framework structures have up to a few hundred.
MOST_OXYGENS = 1000.0


@dataclass(frozen=True)
class OutputConfig:
    """Table ``[output]``.

    Parameters
    ----------
    units
        Units in which compositions are written beside atom fractions, each into a file ``composition_UNIT.csv``.
    oxygens
        Oxygen atoms of the formula unit, for ``apfu``: a number from 0.1 to 1000, or a table by phase. Phases that are
        not named have those of their declared stoichiometry, or 3.
    ferric
        Fe3+ / all Fe: a number, [mean, sd], or a table of either by phase; 0 where nothing is said.
    valences
        Valences in place of the usual ones, e.g. ``{U = 6}``.
    """

    units: tuple[str, ...] = ()
    oxygens: float | dict[str, float] | None = None
    ferric: Any = 0.0
    valences: dict[str, float] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.units, str) or not isinstance(self.units, Sequence):
            raise InputError(
                "output.units", "be a list of units", f"is {shown(self.units)}", 'Write ["oxide_wt_pct"].'
            )
        units = tuple(dict.fromkeys(check_choice("output.units", unit, UNITS) for unit in self.units))
        object.__setattr__(self, "units", units)
        if isinstance(self.oxygens, Mapping):
            checked = {str(k): _oxygens(f"output.oxygens.{k}", v) for k, v in self.oxygens.items()}
            object.__setattr__(self, "oxygens", checked)
        elif self.oxygens is not None:
            object.__setattr__(self, "oxygens", _oxygens("output.oxygens", self.oxygens))
        if self.ferric == 0.0 and self.valences is None:
            # The X-ray tables that valences come from load slowly, and most configurations need none.
            return
        from bayesunmix.chemistry.oxides import check_ferric, check_valences

        object.__setattr__(self, "ferric", check_ferric("output.ferric", self.ferric))
        if self.valences is not None:
            object.__setattr__(self, "valences", check_valences("output.valences", self.valences))

    def check(self, elements: Sequence[str], oxygen: str, phases: Sequence[str] | None) -> None:
        """Refuse what does not go with the sample, before anything is computed.

        Parameters
        ----------
        elements, oxygen
            `sample.elements` and `sample.oxygen`.
        phases
            Names of the phases; None where they are not known yet.

        Raises
        ------
        InputError
            If a unit needs oxygen that the sample has none of, an element of it has no oxide, or a phase is unknown.
        """
        for unit in self.units:
            if unit in OXYGEN_UNITS:
                from bayesunmix.chemistry.oxides import oxygen_atoms

                check_oxygen_unit(unit, oxygen, "output.units")
                for element in elements:
                    if element != "O":
                        oxygen_atoms(element, self.valences)
        for name in ("oxygens", "ferric"):
            table = getattr(self, name)
            for phase in table if isinstance(table, Mapping) and phases is not None else ():
                if phase not in phases:  # type: ignore[operator]
                    must = f"name phases of the sample: {', '.join(phases or ())}"
                    raise InputError(f"output.{name}", must, f'holds "{phase}"', suggest(phase, phases or ()))


def _oxygens(field: str, value: object) -> float:
    return check_between(field, value, 0.1, MOST_OXYGENS)
