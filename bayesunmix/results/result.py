"""The result of a run: one tree of draws, maps and spectra, the record of the run, and what users ask of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr

from bayesunmix.chemistry.assumptions import Chemistry
from bayesunmix.chemistry.oxides import FerricShare, draw_ferric
from bayesunmix.chemistry.stoichiometry import places_cations, site_weights
from bayesunmix.chemistry.unit_names import UNIT_TEXTS, UNITS, check_oxygen_unit
from bayesunmix.chemistry.units import convert, mg_number, with_oxygen
from bayesunmix.core.attached import Attached
from bayesunmix.core.errors import (
    InputError,
    check_choice,
    check_flag,
    check_path,
    shown,
)
from bayesunmix.core.output_folder import check_unchanged, settle
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.masks import flagged_of
from bayesunmix.results.record import DamagedError, RunRecord
from bayesunmix.results.saved import check_tree, with_numbers
from bayesunmix.results.tables import BY_ATOMS, BY_WEIGHT, counted_share, share_texts
from bayesunmix.results.verdict import Verdict

# Elements of an exchange coefficient where none are named.
FIRST, SECOND = "Fe", "Mg"


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
    image
        The map, where it was of no file: what is asked of single pixels looks at their counts again.
    """

    tree: xr.DataTree
    record: RunRecord
    image: SpectrumImage | None = None

    def with_record(self, record: RunRecord) -> Result:
        """Return the same draws with another record of the same run.

        Tables that have been made are kept: they depend on the draws and on what was declared.
        """
        other = replace(self, record=record)
        vars(other).update({name: made for name, made in vars(self).items() if name == "tables"})
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
    def draws(self) -> xr.Dataset:
        """Posterior draws (chain, draw, ...) of the phases that have a composition."""
        return self._draws.sel(phase=self.sample_phases) if self.supports else self._draws

    @property
    def absent(self) -> dict[str, list[str]]:
        """Elements that each phase was declared not to hold."""
        return {phase.name: list(phase.absent) for phase in self.record.config.phases}

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Phases that held-out counts do not ask for: nothing is detected in them."""
        found = self.record.presence or ()
        return tuple(one.phase for one in found if one.standing == "unsupported")

    @cached_property
    def chemistry(self) -> Chemistry:
        """What formulas and units take for granted: oxygen, valences, formula units; from the configuration."""
        config = self.record.config
        declared = {phase.name: phase.stoichiometry for phase in config.phases if phase.stoichiometry}
        formulas = {name: formula for name, formula in declared.items() if places_cations(formula)}
        plain = Chemistry(phases=tuple(self.sample_phases), oxygen=config.sample.oxygen, formulas=formulas)
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
        return self.converted(self.draws["composition"], unit, chemistry, oxygen)

    def converted(self, draws: xr.DataArray, unit: str, chemistry: Chemistry, oxygen: bool) -> xr.DataArray:
        """Convert draws of atom fractions to a unit, by what the chemistry takes for granted."""
        check_oxygen_unit(check_choice("unit", unit, UNITS), chemistry.oxygen)
        share = draw_ferric(chemistry.ferric, draws, self.record.seed)
        if oxygen and unit in ("at_frac", "wt_pct"):
            draws = with_oxygen(draws, ferric=share, valences=chemistry.valences)
        return convert(draws, unit, oxygens=chemistry.basis, ferric=share, valences=chemistry.valences)

    def fractions(self, name: str, by: str) -> xr.DataArray:
        """Draws of the atom or weight fractions of the declared elements in the whole phase."""
        check_choice("by", by, (BY_ATOMS, BY_WEIGHT))
        draws = self.draws[name]
        if by == BY_ATOMS:
            return draws
        bound = self.chemistry.oxygen == "stoichiometry"
        return self.converted(draws, "wt_pct", self.chemistry, bound).sel(element=self.elements) / 100.0

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
        self.check_phase("numerator", numerator)
        self.check_phase("denominator", denominator)
        draws = self.fractions("composition", by)
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
        self.check_phase("numerator", numerator)
        self.check_phase("denominator", denominator)
        self.check_pair(first, second)
        ratio = self.partition(numerator, denominator)
        top, bottom = (ratio.sel(element=element, drop=True) for element in (first, second))
        name = f"K_D({first}-{second}, {numerator}/{denominator})"
        return (top / bottom.where(bottom > 0)).rename(name)

    def check_phase(self, field: str, name: str) -> None:
        """Refuse what is not the name of a phase with a composition."""
        if not isinstance(name, str) or name not in self.sample_phases:
            must = f"be one of the phases {', '.join(self.sample_phases)}"
            support = isinstance(name, str) and name in self.supports
            why = ", a support: it has no composition" if support else ""
            raise InputError(field, must, f"is {shown(name)}{why}")

    def check_pair(self, first: str, second: str) -> None:
        """Refuse elements that are not two of the result's."""
        for field, element, default in (("first", first, FIRST), ("second", second, SECOND)):
            if not isinstance(element, str) or element not in self.elements:
                must = f"be one of the elements {', '.join(self.elements)}"
                if isinstance(element, str) and element == default:
                    remedy = "Name the two elements of the exchange by `first` and `second`."
                    raise InputError(field, must, f"is {shown(element)}, the default", remedy)
                raise InputError(field, must, f"is {shown(element)}")
        if first == second:
            raise InputError("second", "differ from `first`", f"is {shown(second)}, too")

    def site_ratio(self, phase: str, formula: str | None = None) -> xr.DataArray:
        """Draws of the cations of the large site over those of the small one, (chain, draw).

        Parameters
        ----------
        phase
            Name of the phase.
        formula
            A formula with two cation sites, e.g. ``ABO3``; left out, the declared stoichiometry.

        Raises
        ------
        InputError
            If the phase is unknown, or the formula has no two cation sites that the elements fill.
        """
        self.check_phase("phase", phase)
        formula = self.chemistry.formulas.get(phase) if formula is None else formula
        sites = None if formula is None else site_weights(formula, self.elements, "formula")
        if sites is None:
            got = (
                f"is {shown(formula)}"
                if formula is not None
                else "was not given, and no stoichiometry was declared"
            )
            raise InputError("formula", "have two cation sites, such as ABO3", got)
        amounts = self.draws["composition"].sel(phase=phase, drop=True).transpose(..., "element")
        large, small = (amounts @ xr.DataArray(share, dims="element") for share in (sites.a, sites.b))
        return (large / small).rename(f"A/B({phase})")

    def summary(self, unit: str = "at_frac") -> pd.DataFrame:
        """Composition of every phase and element, the columns of ``composition.csv``."""
        table: pd.DataFrame = self.tables.composition(unit)
        return table

    def names(self, compounds: object = None, occurs_in: str | None = None) -> pd.DataFrame:
        """Names that each phase may have by its composition, with probabilities: proposals (docs/names.md).

        Parameters
        ----------
        compounds
            File of further compounds (TOML); left out, `output.compounds`.
        occurs_in
            Kind of sample, where it is known, e.g. ``superalloy``; left out, `output.occurs_in`.

        Returns
        -------
        pandas.DataFrame
            One row per phase and name, the most probable first, and ``none of these``: phase, rank, name, member,
            formula, group, probability, unmeasured (elements that are not compared), alike (names that the composition
            does not tell apart), source. Supports, and phases that counts do not support, have none.

        Raises
        ------
        InputError
            If the file cannot be used, or the kind of sample is unknown.
        """
        table: pd.DataFrame = self.tables.names(compounds, occurs_in)
        return table

    def diagnostics(self) -> pd.DataFrame:
        """Convergence of every reported quantity: R-hat, bulk and tail effective sample size."""
        table: pd.DataFrame = self.tables.diagnostics()
        return table

    def mg_number(self, *, ferric: FerricShare | None = None) -> xr.DataArray:
        """Draws of Mg# = 100 Mg / (Mg + Fe2+) in atoms, (chain, draw, phase); nan where a phase has neither.

        Raises
        ------
        InputError
            If Mg or Fe is not declared.
        """
        draws = self.draws["composition"]
        chemistry = self.chemistry.changed(None, ferric, None)
        return mg_number(draws, ferric=draw_ferric(chemistry.ferric, draws, self.record.seed))

    def abundances(self) -> xr.Dataset:
        """Abundance maps in shares of atoms: mean, sd, lower, upper, each (phase, y, x).

        A support has no atoms: its abundance is its share of the pixel's counts, and the other phases share the rest by
        their atoms, so that abundances add up to 1 everywhere.
        """
        maps = self.tree["maps"].to_dataset()
        return xr.Dataset(
            {name: maps[f"abundance_{name}"] for name in ("mean", "sd", "lower", "upper")}, attrs=maps.attrs
        )

    def endmembers(self) -> xr.Dataset:
        """Spectra of the phases in the channels that were fitted: mean, lower, upper, each (phase, energy).

        An endmember is what a pixel of the phase alone emits, lines and continuum, as the share of its counts in each
        channel: the mean adds up to 1. The interval is that of each channel by itself. ``energy`` is in keV, on the
        fitted axis.
        """
        spectra = self.tree["endmembers"].to_dataset().dropna("energy", how="all")
        spectra["energy"].attrs.update(_with_unit("Energy", "keV"))
        for name in spectra.data_vars:
            spectra[name].attrs.update(_with_unit("Share of the counts", "1 per channel"))
        return spectra.assign_attrs(level=self.level)

    def flagged_mask(self) -> npt.NDArray[np.bool_]:
        """Places (y, x) that the run flagged, as a mask that leaves them out of the next: ``image.masked(...)``."""
        found = self.record.unmodelled_regions
        return flagged_of(self.tree["maps"].to_dataset(), found.threshold if found else None)

    region = Attached()
    """Abundances and composition of a region: `bayesunmix.analysis.regions.region`."""

    profile = Attached()
    """Abundances and composition along a line: `bayesunmix.analysis.profiles.profile`."""

    element_maps = Attached()
    """Unmixed composition of every pixel: `bayesunmix.analysis.element_maps.element_maps`."""

    phase_fractions = Attached()
    """Share of each phase, and of each of its grains: `bayesunmix.analysis.grains.phase_fractions`."""

    tables = Attached()
    """Tables: partition(), sites(), mass_balance() ...; `bayesunmix.results.result_tables.ResultTables`."""

    plot = Attached()
    """Figures: maps(), segmentation(), spectra(), compositions(), partition(), fit(); `bayesunmix.plot.ResultPlots`."""

    save = Attached()
    """Write every file of an output folder: `bayesunmix.report.files.save_result`."""

    to_hyperspy = Attached()
    """Fit, residuals, abundances and endmembers as signals: `bayesunmix.analysis.signals.to_hyperspy`."""

    view = Attached()
    """A viewer in a notebook: `bayesunmix.viewer.serve.view`."""

    paper_tables = Attached()
    """Tables as a paper prints them: `bayesunmix.report.paper.paper_tables`."""

    onuma = Attached()
    """Partition coefficients over ionic radius: `bayesunmix.analysis.onuma.onuma`."""

    @property
    def stated(self) -> str:
        """What the numbers of a composition are: a mean with its interval, or the maximum of the posterior alone."""
        alone = self.record.method == "map"
        return "maximum of the posterior" if alone else f"mean [{100.0 * self.level:g} % interval]"

    @property
    def title(self) -> str:
        """How many phases and elements, and by what method, on a line."""
        counted = ", counted in the map" if self.record.phase_number else ""
        number = f"{len(self.phases)} phase{'s' if len(self.phases) > 1 else ''}"
        return f"{number}{counted}, {len(self.elements)} elements, {self.record.method}"

    def __repr__(self) -> str:
        lines = [f"Result: {self.title}"]
        units = ("at_frac", *self.record.config.output.further_units)
        tables = [self.summary(unit) for unit in units]
        named = f"{', '.join(UNIT_TEXTS[unit] for unit in units)}, {self.stated}"
        proposed = {one.phase: one.text() for one in self.tables.proposed()}
        held = share_texts(self.tables.phase_shares())
        for name in self.phases:
            if name in self.supports:
                share = 100.0 * counted_share(self.tree, name)
                lines.append(f"  {name}: {share:.3g} % of the counts; a support, in no composition and no D")
                continue
            lines.append(f"  {name}: {held[name]} of the atoms; {named}")
            lines += _printed_rows([table[table.phase == name] for table in tables])
            if name in proposed:
                lines.append(f"    may be {proposed[name]}")
        return "\n".join([*lines, *(f"  {line}" for line in self.verdict.lines())])

    _repr_html_ = Attached()


def _with_unit(name: str, unit: str) -> dict[str, str]:
    """Return the attributes of an array: its unit under the word of this package, and what xarray's figures read."""
    return {"long_name": name, "unit": unit, "units": unit}


def _printed_rows(tables: Sequence[pd.DataFrame]) -> list[str]:
    """Write the elements of a phase but those declared absent, one a line, with a column for the table of each unit."""
    from bayesunmix.core.rounding import composition_text

    columns = []
    for table in tables:
        names = table["oxide"] if "oxide" in table else table["element"]
        columns.append(
            {
                row.element: f"{name:<2} {composition_text(row)}"
                for name, row in zip(names, table.itertuples(), strict=True)
            }
        )
    widths = [max(map(len, column.values()), default=0) for column in columns]
    shown = tables[0]["element"][tables[0]["detected"] != "declared_absent"]
    return [
        "    "
        + "   ".join(
            column.get(element, "").ljust(width) for column, width in zip(columns, widths, strict=True)
        ).rstrip()
        for element in shown
    ]


def open_result(folder: str | Path) -> Result:
    """Open the output folder of a run.

    Raises
    ------
    InputError
        If it is not one.
    """
    path = check_path("DIR", folder)
    if not path.is_dir():
        raise InputError("DIR", "be the output folder of a finished run", f'"{path}" is no folder')
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
    return Result(with_numbers(tree), record)
