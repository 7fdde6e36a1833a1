"""The result of a run: one tree of draws, maps and spectra, the record of the run, and what users ask of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.chemistry.assumptions import Chemistry
from bayesunmix.chemistry.mass_balance import balance_table, check_bulk, element_budget_table
from bayesunmix.chemistry.oxides import FerricShare, draw_ferric
from bayesunmix.chemistry.ratios import Amounts, amounts, exchange_rows, partition_rows
from bayesunmix.chemistry.sites import site_table, vacancy_notes
from bayesunmix.chemistry.unit_names import UNITS, check_oxygen_unit
from bayesunmix.chemistry.units import convert, mg_number, with_oxygen
from bayesunmix.core.attached import Attached
from bayesunmix.core.errors import (
    InputError,
    check_choice,
    check_flag,
    check_mapping,
    check_path,
    shown,
)
from bayesunmix.core.output_folder import check_unchanged, settle
from bayesunmix.data.masks import flagged_of
from bayesunmix.results.budget_table import budget_table
from bayesunmix.results.record import DamagedError, RunRecord
from bayesunmix.results.saved import check_tree
from bayesunmix.results.tables import BY_ATOMS, BY_WEIGHT, STATED, composition_table
from bayesunmix.results.verdict import Verdict

# Elements of an exchange coefficient where none are named.
FIRST, SECOND = "Fe", "Mg"
# What a result keeps of its tables.
_TABLES = ("_summaries", "_partitions")


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Posterior of a map: compositions, partition coefficients, abundances, spectra, and how far to trust them.

    Parameters
    ----------
    tree
        Groups ``posterior`` (chain, draw, phase, element), ``sample_stats``, ``constant_data``, ``maps``,
        ``endmembers``, ``fit`` and ``lines``; what ``posterior.nc`` holds.
    record
        Of the run; what ``run.json`` holds.
    """

    tree: xr.DataTree
    record: RunRecord

    def with_record(self, record: RunRecord) -> Result:
        """Return the same with another record of the same run; tables that have been made need not be made again."""
        other = Result(self.tree, record)
        vars(other).update({name: vars(self)[name] for name in _TABLES if name in vars(self)})
        return other

    @property
    def posterior(self) -> xr.DataTree:
        """Tree that ArviZ functions take: ``posterior`` and ``sample_stats`` groups first among others."""
        return self.tree

    @property
    def phases(self) -> list[str]:
        """Names of the phases."""
        return [str(name) for name in self._draws["phase"].values]

    @property
    def supports(self) -> list[str]:
        """Phases that hold no element of the sample, declared or found: they have abundances, and no composition."""
        return [name for name in self.phases if name in self.record.supports]

    @property
    def sample_phases(self) -> list[str]:
        """Names of the phases that have a composition: all but the supports."""
        return [name for name in self.phases if name not in self.supports]

    @property
    def elements(self) -> list[str]:
        """Declared elements."""
        return [str(name) for name in self._draws["element"].values]

    @property
    def level(self) -> float:
        """Probability of the intervals."""
        return self.record.config.inference.level

    @cached_property
    def verdict(self) -> Verdict:
        """What the answer is worth: good, with reservations, or not to be trusted, and why."""
        return self.record.judgement()

    @property
    def problems(self) -> tuple[str, ...]:
        """Why not to trust the result, in sentences: the findings of the verdict that say so."""
        return self.verdict.texts("distrust")

    @property
    def diagnostics_failed(self) -> tuple[str, ...]:
        """Same as `problems`."""
        return self.problems

    @property
    def _draws(self) -> xr.Dataset:
        return self.tree["posterior"].to_dataset()

    @property
    def _sample(self) -> xr.Dataset:
        """Draws of the phases that have a composition."""
        return self._draws.sel(phase=self.sample_phases) if self.supports else self._draws

    @property
    def _absent(self) -> dict[str, list[str]]:
        return {phase.name: list(phase.absent) for phase in self.record.config.phases}

    @cached_property
    def chemistry(self) -> Chemistry:
        """What formulas and units take for granted: oxygen, valences, formula units; from the configuration."""
        config = self.record.config
        formulas = {phase.name: phase.stoichiometry for phase in config.phases if phase.stoichiometry}
        plain = Chemistry(tuple(self.sample_phases), config.sample.oxygen, formulas)
        return plain.changed(config.output.oxygens, config.output.ferric, config.output.valences)

    def composition(
        self,
        unit: str = "at_frac",
        *,
        oxygens: float | Mapping[str, float] | None = None,
        ferric: FerricShare | None = None,
        valences: Mapping[str, float] | None = None,
        oxygen: bool = False,
    ) -> xr.DataArray:
        """Composition draws, (chain, draw, phase, element), of all phases but supports.

        Parameters
        ----------
        unit
            ``at_frac``, ``wt_pct``, ``oxide_wt_pct`` or ``apfu``; see `bayesunmix.chemistry.units.convert`.
        oxygens
            Oxygen atoms of the formula unit, for ``apfu``: a number or a table by phase. Left out, ``output.oxygens``,
            else those of the phase's declared stoichiometry, else 3.
        ferric
            Fe3+ / all Fe: a number, (mean, sd), or a table of either by phase; drawn once per posterior draw and phase.
            Left out, ``output.ferric``.
        valences
            Valences in place of the usual ones, e.g. ``{"U": 6}``. Left out, ``output.valences``.
        oxygen
            Add the oxygen that the elements bind as a further element, for ``at_frac`` and ``wt_pct``.

        Raises
        ------
        InputError
            If the unit is unknown, or asks for the oxide of an element that has none.
        """
        chemistry = self.chemistry.changed(oxygens, ferric, valences)
        oxygen = check_flag("oxygen", oxygen)
        return self._converted(self._sample["composition"], unit, chemistry, oxygen)

    def _converted(self, draws: xr.DataArray, unit: str, chemistry: Chemistry, oxygen: bool) -> xr.DataArray:
        check_oxygen_unit(check_choice("unit", unit, UNITS), chemistry.oxygen)
        share = draw_ferric(chemistry.ferric, draws, self.record.seed)
        if oxygen and unit in ("at_frac", "wt_pct"):
            draws = with_oxygen(draws, ferric=share, valences=chemistry.valences)
        return convert(draws, unit, oxygens=chemistry.basis, ferric=share, valences=chemistry.valences)

    def _fractions(self, name: str, by: str) -> xr.DataArray:
        """Draws of the atom or weight fractions of the declared elements in the whole phase."""
        check_choice("by", by, (BY_ATOMS, BY_WEIGHT))
        draws = self._sample[name]
        if by == BY_ATOMS:
            return draws
        bound = self.chemistry.oxygen == "stoichiometry"
        return self._converted(draws, "wt_pct", self.chemistry, bound).sel(element=self.elements) / 100.0

    def partition(self, numerator: str, denominator: str, by: str = "atoms") -> xr.DataArray:
        """Draws of D = x(numerator) / x(denominator), (chain, draw, element).

        An element declared absent from the denominator gives nan: there is no ratio.

        Parameters
        ----------
        numerator, denominator
            Names of phases.
        by
            What x is: ``atoms``, the atom fraction among the declared elements, or ``weight``, the weight fraction of
            the whole phase with its oxygen. The attribute ``by`` says it.

        Raises
        ------
        InputError
            If a phase is unknown.
        """
        self._check_phases(numerator, denominator)
        draws = self._fractions("composition", by)
        top, bottom = (draws.sel(phase=name, drop=True) for name in (numerator, denominator))
        found = (top / bottom.where(bottom > 0)).rename(f"D({numerator}/{denominator})")
        return found.assign_attrs(by=by)

    def exchange(
        self, numerator: str, denominator: str, first: str = FIRST, second: str = SECOND
    ) -> xr.DataArray:
        """Draws of K_D = (first / second)(numerator) / (first / second)(denominator), (chain, draw).

        The same by atoms and by weight.

        Raises
        ------
        InputError
            If a phase or an element is unknown, or the elements are the same.
        """
        self._check_phases(numerator, denominator)
        self._check_pair(first, second)
        ratio = self.partition(numerator, denominator)
        top, bottom = (ratio.sel(element=element, drop=True) for element in (first, second))
        name = f"K_D({first}-{second}, {numerator}/{denominator})"
        return (top / bottom.where(bottom > 0)).rename(name)

    def _check_phases(self, numerator: str, denominator: str) -> None:
        for field, name in (("numerator", numerator), ("denominator", denominator)):
            if not isinstance(name, str) or name not in self.sample_phases:
                must = f"be one of the phases {', '.join(self.sample_phases)}"
                support = isinstance(name, str) and name in self.supports
                why = ", a support: it has no composition" if support else ""
                raise InputError(field, must, f"is {shown(name)}{why}")

    def _check_pair(self, first: str, second: str) -> None:
        for field, element, default in (("first", first, FIRST), ("second", second, SECOND)):
            if not isinstance(element, str) or element not in self.elements:
                must = f"be one of the elements {', '.join(self.elements)}"
                if isinstance(element, str) and element == default:
                    remedy = "Name the two elements of the exchange by `first` and `second`."
                    raise InputError(field, must, f"is {shown(element)}, the default", remedy)
                raise InputError(field, must, f"is {shown(element)}")
        if first == second:
            raise InputError("second", "differ from `first`", f"is {shown(second)}, too")

    def summary(self, unit: str = "at_frac") -> pd.DataFrame:
        """Composition of every phase and element, the columns of ``composition.csv``."""
        check_choice("unit", unit, UNITS)
        if unit not in self._summaries:
            self._summaries[unit] = self._summary(unit)
        return self._summaries[unit].copy()

    @cached_property
    def _summaries(self) -> dict[str, pd.DataFrame]:
        return {}

    def _summary(self, unit: str) -> pd.DataFrame:
        converted = self.composition(unit)
        counting = self._sample["composition_counting"]
        table = composition_table(converted, counting, self._absent, self.level)
        if "oxide" in converted.coords:
            names = dict(zip(converted["element"].values, converted["oxide"].values, strict=True))
            table["oxide"] = table["element"].map(names)
        if "composition_model" not in self._draws:
            return table
        model = self._converted(self._sample["composition_model"], unit, self.chemistry, oxygen=False)
        own = composition_table(model, counting, self._absent, self.level)
        return table.assign(**{f"{name}_model": own[name] for name in ("sd", "lower", "upper")})

    def partition_table(self, by: str = "atoms") -> pd.DataFrame:
        """Partition coefficients of every ordered pair of phases, the columns of ``partition.csv``.

        Parameters
        ----------
        by
            ``atoms`` or ``weight``; see `partition`.
        """
        check_choice("by", by, (BY_ATOMS, BY_WEIGHT))
        if by not in self._partitions:
            self._partitions[by] = partition_rows(self._amounts(by)).assign(by=by)
        return self._partitions[by].copy()

    @cached_property
    def _partitions(self) -> dict[str, pd.DataFrame]:
        return {}

    def _amounts(self, by: str) -> Amounts:
        draws, counting = (self._fractions(name, by) for name in ("composition", "composition_counting"))
        return amounts(draws, counting, self._absent, self.level, self._sample["composition_counting"])

    def exchange_table(self, first: str = FIRST, second: str = SECOND) -> pd.DataFrame:
        """Exchange coefficients of every ordered pair of phases, with the columns of the partition table.

        Raises
        ------
        InputError
            If an element is unknown, or both are the same.
        """
        self._check_pair(first, second)
        return exchange_rows(self._amounts(BY_ATOMS), first, second)

    def mg_number(self, *, ferric: FerricShare | None = None) -> xr.DataArray:
        """Draws of Mg# = 100 Mg / (Mg + Fe2+) in atoms, (chain, draw, phase); nan where a phase has neither.

        Raises
        ------
        InputError
            If Mg or Fe is not declared.
        """
        draws = self._sample["composition"]
        chemistry = self.chemistry.changed(None, ferric, None)
        return mg_number(draws, ferric=draw_ferric(chemistry.ferric, draws, self.record.seed))

    def sites(
        self, formulas: Mapping[str, str] | None = None, *, ferric: FerricShare | None = None
    ) -> pd.DataFrame:
        """Site sums, charge balance, vacancies and Mg# of every phase; see `bayesunmix.chemistry.sites`.

        Parameters
        ----------
        formulas
            Formula by phase, e.g. ``{"CaPv": "ABO3", "Fp": "AO"}``; left out, the declared stoichiometries.
        ferric
            As in `composition`.

        Returns
        -------
        pandas.DataFrame
            One row per phase and quantity; ``attrs["notes"]`` says in sentences which cations ask for vacancies.

        Raises
        ------
        InputError
            If a phase is unknown, a formula cannot be read, or the sample holds no oxygen.
        """
        check_oxygen_unit("apfu", self.chemistry.oxygen, "sample.oxygen")
        chemistry = self.chemistry.changed(None, ferric, None)
        example = '{"CaPv": "ABO3"}'
        given = chemistry.formulas if formulas is None else dict(check_mapping("formulas", formulas, example))
        for name in given:
            if name not in self.sample_phases:
                must = f"name phases of the result: {', '.join(self.sample_phases)}"
                raise InputError("formulas", must, f"holds {shown(name)}")
        draws = self._sample["composition"]
        share = draw_ferric(chemistry.ferric, draws, self.record.seed)
        about: dict[str, Any] = {"valences": chemistry.valences}
        table = site_table(draws, given, self._absent, self.level, ferric=share, **about)
        unseen = {
            phase: [element for element, phases in self._found_in().items() if phase not in phases]
            for phase in self.sample_phases
        }
        table.attrs["notes"] = vacancy_notes(table, draws, given, unseen, ferric=share, **about)
        return table

    def _atom_shares(self) -> xr.DataArray:
        draws = self._sample
        if "phase_share" in draws:
            return draws["phase_share"]
        # A result of version 0.1.0 holds the maps alone.
        maps = self.tree["maps"].to_dataset().sel(phase=self.sample_phases)
        return maps["abundance_mean"].mean(["y", "x"])

    def _found_in(self) -> dict[str, list[str]]:
        """Phases in which each element was detected; all that may hold it where nothing was tested."""
        table = self.summary()
        seen = table[table["detected"].isin(STATED)]
        return {element: list(seen.loc[seen["element"] == element, "phase"]) for element in self.elements}

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
        given = self.record.config.sample.bulk_wt_pct if bulk is None else bulk
        if given is None:
            raise InputError("bulk", "be given here or as `sample.bulk_wt_pct`", "is not")
        checked = check_bulk(given, self.elements, "bulk")
        draws, chemistry = self._sample["composition"], self.chemistry
        return balance_table(
            draws,
            self._atom_shares(),
            self._found_in(),
            checked,
            self.level,
            oxygen=chemistry.oxygen == "stoichiometry",
            ferric=draw_ferric(chemistry.ferric, draws, self.record.seed),
            valences=chemistry.valences,
        )

    def element_budget(self) -> pd.DataFrame:
        """Share of every element's atoms in the map that each phase holds."""
        return element_budget_table(
            self._sample["composition"], self._atom_shares(), self._found_in(), self.level
        )

    def uncertainty_budget(self) -> pd.DataFrame:
        """Share of counting, unmixing, calibration, absorption and continuum in every interval.

        The columns of ``uncertainty_budget.csv``; see `bayesunmix.results.budget_table.budget_table`.

        Raises
        ------
        InputError
            If the run was made by a version that kept no budget.
        """
        if "budget" not in self.tree:
            raise InputError(
                "DIR",
                "hold an uncertainty budget",
                "was run without draws, or by an earlier version",
                'Run with `method = "laplace"` or "nuts".',
            )
        return budget_table(self.tree["budget"].to_dataset(), self.summary(), self.partition_table())

    def identifiability(self) -> pd.DataFrame:
        """Return what pins every composition; columns as in `bayesunmix.checks.identifiability`."""
        found = self.record.identifiability
        return pd.DataFrame([asdict(entry) for entry in found.compositions] if found else [])

    def mass_thickness(self) -> pd.DataFrame:
        """Mass thickness of the whole map and of each phase's pure pixels, in µg/cm2; maps are in ``tree["maps"]``.

        Raises
        ------
        InputError
            If the run had no zeta-factors.
        """
        found = self.record.mass_thickness
        if found is None:
            raise InputError("xray.zeta_factors", "be given for a mass thickness", "were not")
        return pd.DataFrame([row.model_dump() for row in found.table])

    def diagnostics(self) -> pd.DataFrame:
        """Convergence of every reported quantity: R-hat, bulk and tail effective sample size."""
        columns = ["rhat", "ess_bulk", "ess_tail"]
        compositions, ratios = self.summary(), self.partition_table()
        names = [f"x({row.element} in {row.phase})" for row in compositions.itertuples()]
        names += [f"D({row.element}, {row.numerator}/{row.denominator})" for row in ratios.itertuples()]
        table = pd.concat([compositions[columns], ratios[columns]], ignore_index=True)
        table.insert(0, "quantity", names)
        return table.dropna().reset_index(drop=True)

    def abundances(self) -> xr.Dataset:
        """Abundance maps in shares of atoms: mean, sd, lower, upper, each (phase, y, x).

        A support has no atoms: its abundance is its share of the pixel's counts, and the other phases share the rest by
        their atoms, so that abundances add up to 1 everywhere.
        """
        maps = self.tree["maps"].to_dataset()
        return xr.Dataset(
            {name: maps[f"abundance_{name}"] for name in ("mean", "sd", "lower", "upper")}, attrs=maps.attrs
        )

    def flagged_mask(self) -> npt.NDArray[np.bool_]:
        """Places (y, x) that the run flagged, as a mask that leaves them out of the next: ``image.masked(...)``."""
        found = self.record.unmodelled_regions
        return flagged_of(self.tree["maps"].to_dataset(), found.threshold if found else None)

    plot = Attached()
    """Figures: maps(), segmentation(), spectra(), compositions(), partition(), fit(); `bayesunmix.plot.ResultPlots`."""

    save = Attached()
    """Write every file of an output folder: `bayesunmix.report.files.save_result`."""

    onuma = Attached()
    """Partition coefficients over ionic radius: `bayesunmix.analysis.onuma.onuma`."""

    def __repr__(self) -> str:
        from bayesunmix.core.rounding import composition_text

        shares = self.abundances()["mean"].mean(["y", "x"]).values
        lines = [f"Result: {len(self.phases)} phases, {len(self.elements)} elements, {self.record.method}"]
        table = self.summary()
        for name, share in zip(self.phases, shares, strict=True):
            if name in self.supports:
                lines.append(
                    f"  {name}: {100 * share:.3g} % of the counts; a support, in no composition and no D"
                )
                continue
            lines.append(f"  {name}: {100 * share:.3g} % of the atoms; at% [{100 * self.level:g} % interval]")
            for row in table[(table.phase == name) & (table.detected != "declared_absent")].itertuples():
                lines.append(f"    {row.element:<2} {composition_text(row)}")
        return "\n".join([*lines, *(f"  {line}" for line in self.verdict.lines())])

    _repr_html_ = Attached()


def open_result(folder: str | Path) -> Result:
    """Open the output folder of a run.

    Raises
    ------
    InputError
        If it is not one.
    """
    path = check_path("DIR", folder)
    settle(path)
    for name in ("posterior.nc", "run.json"):
        if not (path / name).is_file():
            raise InputError("DIR", "be the output folder of a finished run", f'"{path}" holds no {name}')
    try:
        tree = xr.open_datatree(path / "posterior.nc", engine="h5netcdf").load()
        plain: Any = json.loads((path / "run.json").read_text(encoding="utf-8"))
        tree.close()
    except Exception as error:  # a damaged file can make its readers stumble anywhere
        raise InputError(
            "DIR", "be the output folder of a finished run", f'"{path}" cannot be read: {error}'
        ) from error
    try:
        record = RunRecord.of(plain)
        check_tree(tree, record)
    except DamagedError as error:
        got = f'"{path}" is damaged: {error}'
        raise InputError("DIR", "be the output folder of a finished run", got) from None
    check_unchanged("DIR", path, plain)
    return Result(tree, record)
