"""What units and formulas take for granted about a result: oxygen, valences, the formula units of its phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bayesunmix.chemistry.oxides import FerricShare, check_ferric, check_valences
from bayesunmix.chemistry.stoichiometry import formula_content
from bayesunmix.chemistry.units import OXYGENS
from bayesunmix.core.errors import InputError, check_positive, suggest


@dataclass(frozen=True, kw_only=True)
class Chemistry:
    """Settings of the conversions of one result.

    Attributes
    ----------
    phases
        Names of the phases.
    oxygen
        ``stoichiometry``, ``measured`` or ``none``: `sample.oxygen` of the configuration.
    formulas
        Declared stoichiometry, by phase.
    oxygens
        What the user said of the oxygens of the formula unit; None for nothing.
    ferric
        Share of ferric iron: a number, (mean, sd), or either by phase.
    valences
        Valences in place of the usual ones.
    """

    phases: tuple[str, ...]
    oxygen: str = "stoichiometry"
    formulas: dict[str, str] = field(default_factory=dict)
    oxygens: float | dict[str, float] | None = None
    ferric: FerricShare = 0.0
    valences: dict[str, float] | None = None

    def changed(
        self,
        oxygens: float | Mapping[str, float] | None,
        ferric: FerricShare | None,
        valences: Mapping[str, float] | None,
    ) -> Chemistry:
        """Return the settings with what is given replaced.

        Raises
        ------
        InputError
            If something given cannot be used; the message names it.
        """
        new: dict[str, Any] = {}
        if oxygens is not None:
            new["oxygens"] = self._checked_oxygens(oxygens)
        if ferric is not None:
            new["ferric"] = check_ferric("ferric", ferric, self.phases)
        if valences is not None:
            new["valences"] = check_valences("valences", valences)
        return dataclasses.replace(self, **new)

    @property
    def basis(self) -> float | dict[str, float]:
        """Oxygens of the formula unit: a number, or one for each phase where its formula says so."""
        if isinstance(self.oxygens, float):
            return self.oxygens
        known = {name: formula_content(formula)[1] for name, formula in self.formulas.items()}
        known |= self.oxygens or {}
        return {name: known.get(name, OXYGENS) for name in self.phases} if known else OXYGENS

    def _checked_oxygens(self, oxygens: float | Mapping[str, float]) -> float | dict[str, float]:
        if not isinstance(oxygens, Mapping):
            return check_positive("oxygens", oxygens)
        for name in oxygens:
            if name not in self.phases:
                must = f"name phases of the result: {', '.join(self.phases)}"
                raise InputError("oxygens", must, f'holds "{name}"', suggest(name, self.phases))
        return {str(name): check_positive(f"oxygens.{name}", value) for name, value in oxygens.items()}
