"""The tables of a result, as ``result.tables``: what is in them is worked out draw by draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from bayesunmix.chemistry.mass_balance import balance_table, check_bulk, element_budget_table
from bayesunmix.chemistry.oxides import FerricShare, draw_ferric
from bayesunmix.chemistry.ratios import Amounts, amounts, exchange_rows, partition_rows
from bayesunmix.chemistry.sites import site_table, vacancy_notes
from bayesunmix.chemistry.unit_names import UNITS
from bayesunmix.core.credible import interval
from bayesunmix.core.errors import InputError, check_choice, check_mapping, shown
from bayesunmix.results.budget_table import budget_table
from bayesunmix.results.names import name_table, proposed_names
from bayesunmix.results.result import FIRST, SECOND
from bayesunmix.results.tables import BY_ATOMS, BY_WEIGHT, STATED, composition_table

if TYPE_CHECKING:
    from bayesunmix.results.record_parts import PhaseNames
    from bayesunmix.results.result import Result


class ResultTables:
    """The tables of one result, as ``result.tables``.

    Parameters
    ----------
    result
        The result of a run.
    """

    def __init__(self, result: Result) -> None:
        self._result = result
        self._made: dict[tuple[str, str], pd.DataFrame] = {}
        self._names: tuple[PhaseNames, ...] | None = None

    def composition(self, unit: str = "at_frac") -> pd.DataFrame:
        """Composition of every phase and element, the columns of ``composition.csv``.

        Parameters
        ----------
        unit
            ``at_frac``, ``wt_pct``, ``oxide_wt_pct`` or ``apfu``.

        Raises
        ------
        InputError
            If the unit is unknown, or asks for the oxide of an element that has none.
        """
        key = "composition", check_choice("unit", unit, UNITS)
        if key not in self._made:
            self._made[key] = self._composition(unit)
        return self._made[key].copy()

    def _composition(self, unit: str) -> pd.DataFrame:
        result = self._result
        converted, counting = result.composition(unit), result.draws["composition_counting"]
        told = result.absent, result.level, result.unsupported
        table = composition_table(converted, counting, *told)
        if "oxide" in converted.coords:
            names = dict(zip(converted["element"].values, converted["oxide"].values, strict=True))
            table["oxide"] = table["element"].map(names)
        if "composition_model" not in result.draws:
            return table
        model = result.converted(result.draws["composition_model"], unit, result.chemistry, oxygen=False)
        own = composition_table(model, counting, *told)
        return table.assign(**{f"{name}_model": own[name] for name in ("sd", "lower", "upper")})

    def partition(self, by: str = BY_ATOMS) -> pd.DataFrame:
        """Partition coefficients of every ordered pair of phases, the columns of ``partition.csv``.

        Parameters
        ----------
        by
            ``atoms`` or ``weight``; see `Result.partition`.

        Raises
        ------
        InputError
            If it is neither.
        """
        key = "partition", check_choice("by", by, (BY_ATOMS, BY_WEIGHT))
        if key not in self._made:
            self._made[key] = partition_rows(self._amounts(by)).assign(by=by)
        return self._made[key].copy()

    def _amounts(self, by: str) -> Amounts:
        result = self._result
        draws, counting = (result.fractions(name, by) for name in ("composition", "composition_counting"))
        seen = result.draws["composition_counting"]
        return amounts(draws, counting, result.absent, result.level, seen, result.unsupported)

    def exchange(self, first: str = FIRST, second: str = SECOND) -> pd.DataFrame:
        """Exchange coefficients of every ordered pair of phases, with the columns of the partition table.

        Raises
        ------
        InputError
            If an element is unknown, or both are the same.
        """
        self._result.check_pair(first, second)
        return exchange_rows(self._amounts(BY_ATOMS), first, second)

    def sites(
        self, formulas: Mapping[str, str] | None = None, *, ferric: FerricShare | None = None
    ) -> pd.DataFrame:
        """Site sums, charge balance, vacancies and Mg# of every phase; see `bayesunmix.chemistry.sites`.

        Parameters
        ----------
        formulas
            Formula by phase, e.g. ``{"CaPv": "ABO3", "Fp": "AO"}``; left out, the declared stoichiometries.
        ferric
            As in `Result.composition`.

        Returns
        -------
        pandas.DataFrame
            One row per phase and quantity; ``attrs["notes"]`` says in sentences which cations ask for vacancies.

        Raises
        ------
        InputError
            If a phase is unknown, a formula cannot be read, or the sample holds no oxygen.
        """
        if self._result.chemistry.oxygen == "none":
            must = 'be "stoichiometry" or "measured" for sums of sites, which are counted on oxygen'
            raise InputError("sample.oxygen", must, 'is "none"')
        chemistry = self._result.chemistry.changed(None, ferric, None)
        example = '{"CaPv": "ABO3"}'
        given = chemistry.formulas if formulas is None else dict(check_mapping("formulas", formulas, example))
        for name in given:
            if name not in self._result.sample_phases:
                must = f"name phases of the result: {', '.join(self._result.sample_phases)}"
                raise InputError("formulas", must, f"holds {shown(name)}")
        draws = self._result.draws["composition"]
        share = draw_ferric(chemistry.ferric, draws, self._result.record.seed)
        about: dict[str, Any] = {"valences": chemistry.valences}
        table = site_table(draws, given, self._result.absent, self._result.level, ferric=share, **about)
        unseen = {
            phase: [element for element, phases in self._found_in().items() if phase not in phases]
            for phase in self._result.sample_phases
        }
        table.attrs["notes"] = vacancy_notes(table, draws, given, unseen, ferric=share, **about)
        return table

    def mass_balance(self, bulk: Mapping[str, float | Sequence[float]] | None = None) -> pd.DataFrame:
        """Weight per cent of every element in the whole map, against what went into the sample.

        Parameters
        ----------
        bulk
            Given weight per cent by element or oxide, each a number or (value, sd), e.g. ``{"Nd": 0.3, "SiO2": 45}``.
            Left out, `sample.bulk_wt_pct`.

        Returns
        -------
        pandas.DataFrame
            See `bayesunmix.chemistry.mass_balance.balance_table`.

        Raises
        ------
        InputError
            If no bulk composition is given, or it names what is not declared.
        """
        given = self._result.record.config.sample.bulk_wt_pct if bulk is None else bulk
        if given is None:
            raise InputError("bulk", "be given here or as `sample.bulk_wt_pct`", "is not")
        checked = check_bulk(given, self._result.elements, "bulk")
        draws, chemistry = self._result.draws["composition"], self._result.chemistry
        return balance_table(
            draws,
            self._atom_shares(),
            self._found_in(),
            checked,
            self._result.level,
            oxygen=chemistry.oxygen == "stoichiometry",
            ferric=draw_ferric(chemistry.ferric, draws, self._result.record.seed),
            valences=chemistry.valences,
        )

    def names(self, compounds: object = None, occurs_in: str | None = None) -> pd.DataFrame:
        """Names that each phase may have by its composition; see `Result.names`."""
        return name_table(self.proposed(compounds, occurs_in))

    def proposed(self, compounds: object = None, occurs_in: str | None = None) -> tuple[PhaseNames, ...]:
        """Return the names as the record of a run holds them: those of the run where nothing else is asked for."""
        if compounds is None and occurs_in is None:
            if self._names is None:
                kept = self._result.record.names
                self._names = proposed_names(self._result) if kept is None else kept
            return self._names
        return proposed_names(self._result, compounds, occurs_in)

    def phase_shares(self) -> pd.DataFrame:
        """Share of the map's atoms that each phase with a composition holds: phase, mean, lower and upper.

        A single draw and a result of version 0.1.0 have no interval: its ends are NaN.
        """
        draws = self._atom_shares().sel(phase=self._result.sample_phases)
        drawn = draws.stack(one=["chain", "draw"]) if "draw" in draws.dims else draws.expand_dims(one=1)
        values = drawn.transpose("one", "phase").values
        ends = (
            interval(values, self._result.level) if len(values) > 1 else np.full((2, values.shape[1]), np.nan)
        )
        columns = {"mean": values.mean(axis=0), "lower": ends[0], "upper": ends[1]}
        return pd.DataFrame({"phase": self._result.sample_phases, **columns})

    def element_budget(self) -> pd.DataFrame:
        """Share of every element's atoms in the map that each phase holds."""
        return element_budget_table(
            self._result.draws["composition"], self._atom_shares(), self._found_in(), self._result.level
        )

    def uncertainty_budget(self) -> pd.DataFrame:
        """Share of counting, unmixing, calibration, absorption and continuum in every interval.

        The columns of ``uncertainty_budget.csv``; see `bayesunmix.results.budget_table.budget_table`.

        Raises
        ------
        InputError
            If the run was made by a version that kept no budget.
        """
        if "budget" not in self._result.tree:
            raise InputError(
                "DIR",
                "hold an uncertainty budget",
                "was run without draws, or by an earlier version",
                'Run with `method = "laplace"` or "nuts".',
            )
        return budget_table(self._result.tree["budget"].to_dataset(), self.composition(), self.partition())

    def identifiability(self) -> pd.DataFrame:
        """Return what identifies every composition; columns as in `bayesunmix.checks.identifiability`."""
        found = self._result.record.identifiability
        return pd.DataFrame([asdict(entry) for entry in found.compositions] if found else [])

    def mass_thickness(self) -> pd.DataFrame:
        """Mass thickness of the whole map and of each phase's pure pixels, in µg/cm2; ``result.tree["maps"]`` has maps.

        Raises
        ------
        InputError
            If the run had no zeta-factors.
        """
        found = self._result.record.mass_thickness
        if found is None:
            raise InputError("xray.zeta_factors", "be given for a mass thickness", "were not")
        return pd.DataFrame([row.model_dump() for row in found.table])

    def diagnostics(self) -> pd.DataFrame:
        """Convergence of every reported quantity: R-hat, bulk and tail effective sample size."""
        columns = ["rhat", "ess_bulk", "ess_tail"]
        compositions, ratios = self.composition(), self.partition()
        names = [f"x({row.element} in {row.phase})" for row in compositions.itertuples()]
        names += [f"D({row.element}, {row.numerator}/{row.denominator})" for row in ratios.itertuples()]
        table = pd.concat([compositions[columns], ratios[columns]], ignore_index=True)
        table.insert(0, "quantity", names)
        return table.dropna().reset_index(drop=True)

    def _atom_shares(self) -> xr.DataArray:
        draws = self._result.draws
        if "phase_share" in draws:
            return draws["phase_share"]
        # A result of version 0.1.0 holds the maps alone.
        maps = self._result.tree["maps"].to_dataset().sel(phase=self._result.sample_phases)
        return maps["abundance_mean"].mean(["y", "x"])

    def _found_in(self) -> dict[str, list[str]]:
        """Phases in which each element was detected; all that may hold it where nothing was tested."""
        table = self.composition()
        seen = table[table["detected"].isin(STATED)]
        return {
            element: list(seen.loc[seen["element"] == element, "phase"]) for element in self._result.elements
        }
