"""Table ``[output]``: units of the compositions, what formulas take for granted, and further files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from bayesunmix.chemistry.unit_names import OXYGEN_UNITS, UNITS, check_oxygen_unit
from bayesunmix.config.validated import validated
from bayesunmix.config.values import Flag, Text, Whole, beside, checked_by
from bayesunmix.core.errors import InputError, check_between, check_choice, shown, suggest, warn

# Zeolites and framework structures have up to a few hundred.
MOST_OXYGENS = 1000.0
DEFAULT_PIXEL_DRAWS = 50


def _check_units(field: str, value: object) -> list[str]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise InputError(field, "be a list of units", f"is {shown(value)}", 'Write ["oxide_wt_pct"].')
    return list(dict.fromkeys(check_choice(field, unit, UNITS) for unit in value))


def _check_oxygens(field: str, value: object) -> float | dict[str, float]:
    if isinstance(value, Mapping):
        return {str(key): check_between(str(key), one, 0.1, MOST_OXYGENS) for key, one in value.items()}
    return check_between(field, value, 0.1, MOST_OXYGENS)


def _check_ferric(field: str, value: object) -> object:
    # The X-ray tables that valences come from load slowly, and most configurations need none.
    if value == 0.0 and not isinstance(value, bool):
        return 0.0
    from bayesunmix.chemistry.oxides import check_ferric

    return check_ferric(field, value)


def _check_valences(field: str, value: object) -> dict[str, float]:
    from bayesunmix.chemistry.oxides import check_valences

    return check_valences(field, value)


def _check_compounds(field: str, value: object) -> Path:
    from bayesunmix.config.compounds import check_compounds

    return check_compounds(field, value)


_Share = float | tuple[float, float]


@validated("output")
@dataclass(frozen=True, kw_only=True)
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
    compounds
        File of compounds that phases may be, beside those of the library; it is looked for beside the configuration.
    occurs_in
        Kind of sample, where it is known: ``deep mantle``, ``superalloy`` ...; names of phases follow it.
    pixel_draws
        Write joint draws of the abundances of all pixels.
    pixel_draws_number
        How many, of all chains together; at most 400.
    """

    units: Annotated[tuple[str, ...], checked_by(_check_units)] = ()
    oxygens: Annotated[float | dict[str, float], checked_by(_check_oxygens)] | None = None
    ferric: Annotated[_Share | dict[str, _Share], checked_by(_check_ferric)] = 0.0
    valences: Annotated[dict[str, float], checked_by(_check_valences)] | None = None
    compounds: Annotated[Path, checked_by(_check_compounds), BeforeValidator(beside)] | None = None
    occurs_in: Text | None = None
    pixel_draws: Flag = False
    pixel_draws_number: Annotated[int, Whole(1, 400)] = DEFAULT_PIXEL_DRAWS

    def warn_of_unread(self, given: Iterable[str]) -> None:
        """Warn of keys that were given and that nothing reads."""
        # A configuration that a run has written out holds the default.
        other = "pixel_draws_number" in given and self.pixel_draws_number != DEFAULT_PIXEL_DRAWS
        if other and not self.pixel_draws:
            warn("`output.pixel_draws_number` has no effect without `output.pixel_draws = true`.")

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
            If a unit needs oxygen that the sample has none of, an element of it has no oxide, or a phase or the kind of
            sample is unknown.
        """
        if self.occurs_in is not None:
            from bayesunmix.config.compounds import all_compounds, check_kind

            check_kind("output.occurs_in", self.occurs_in, all_compounds(self.compounds))
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
