"""The result of a run: one tree of draws, maps and spectra, the record of the run, and what users ask of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from bayesunmix.errors import InputError, check_choice
from bayesunmix.tables import composition_table, partition_table
from bayesunmix.units import UNITS, convert

if TYPE_CHECKING:
    from bayesunmix.onuma import Onuma
    from bayesunmix.plot import ResultPlots


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """Posterior of a map: compositions, partition coefficients, abundances, spectra, and how far to trust them.

    Parameters
    ----------
    tree
        Groups ``posterior`` (chain, draw, phase, element), ``sample_stats``, ``constant_data``, ``maps``,
        ``endmembers``, ``fit`` and ``lines``; what ``posterior.nc`` holds.
    run
        Record of the run; what ``run.json`` holds.
    """

    tree: xr.DataTree
    run: dict[str, Any]

    @property
    def posterior(self) -> xr.DataTree:
        """Tree that ArviZ functions take: ``posterior`` and ``sample_stats`` groups first among others."""
        return self.tree

    @property
    def phases(self) -> list[str]:
        """Names of the phases."""
        return [str(name) for name in self._draws["phase"].values]

    @property
    def elements(self) -> list[str]:
        """Declared elements."""
        return [str(name) for name in self._draws["element"].values]

    @property
    def level(self) -> float:
        """Probability of the intervals."""
        return float(self.run["config"]["inference"]["level"])

    @property
    def problems(self) -> tuple[str, ...]:
        """Why not to trust the result, in sentences; empty when all is well."""
        return tuple(self.run["problems"])

    @property
    def diagnostics_failed(self) -> tuple[str, ...]:
        """Same as `problems`."""
        return self.problems

    @property
    def _draws(self) -> xr.Dataset:
        return self.tree["posterior"].to_dataset()

    @property
    def _absent(self) -> dict[str, list[str]]:
        phases = self.run["config"]["phases"]
        return {phase["name"]: list(phase.get("absent", [])) for phase in phases}

    def composition(self, unit: str = "at_frac", *, oxygens: float = 3.0) -> xr.DataArray:
        """Composition draws, (chain, draw, phase, element).

        Parameters
        ----------
        unit
            ``at_frac``, ``wt_pct``, ``oxide_wt_pct`` or ``apfu``; see `bayesunmix.units.convert`.
        oxygens
            Oxygen atoms of the formula unit, for ``apfu``.

        Raises
        ------
        InputError
            If the unit is unknown.
        """
        return convert(self._draws["composition"], check_choice("unit", unit, UNITS), oxygens=oxygens)

    def partition(self, numerator: str, denominator: str) -> xr.DataArray:
        """Draws of D = x(numerator) / x(denominator) by atom fraction, (chain, draw, element).

        An element declared absent from the denominator gives nan: there is no ratio.

        Raises
        ------
        InputError
            If a phase is unknown.
        """
        for field, name in (("numerator", numerator), ("denominator", denominator)):
            if name not in self.phases:
                raise InputError(field, f"be one of the phases {', '.join(self.phases)}", f"is {name!r}")
        draws = self._draws["composition"]
        top, bottom = (draws.sel(phase=name, drop=True) for name in (numerator, denominator))
        return (top / bottom.where(bottom > 0)).rename(f"D({numerator}/{denominator})")

    def summary(self, unit: str = "at_frac") -> pd.DataFrame:
        """Composition of every phase and element, the columns of ``composition.csv``."""
        if unit not in self._summaries:
            self._summaries[unit] = self._summary(unit)
        return self._summaries[unit].copy()

    @cached_property
    def _summaries(self) -> dict[str, pd.DataFrame]:
        return {}

    def _summary(self, unit: str) -> pd.DataFrame:
        counting = self._draws["composition_counting"]
        return composition_table(self.composition(unit), counting, self._absent, self.level)

    def partition_table(self) -> pd.DataFrame:
        """Partition coefficients of every ordered pair of phases, the columns of ``partition.csv``."""
        return self._partitions.copy()

    @cached_property
    def _partitions(self) -> pd.DataFrame:
        draws = self._draws
        return partition_table(draws["composition"], draws["composition_counting"], self._absent, self.level)

    def onuma(self, numerator: str, denominator: str, **options: Any) -> Onuma:  # noqa: ANN401
        """Partition coefficients over ionic radius: see `bayesunmix.onuma.onuma` for the options."""
        from bayesunmix.onuma import onuma

        return onuma(self, numerator, denominator, **options)

    def mass_thickness(self) -> pd.DataFrame:
        """Mass thickness of the whole map and of each phase's pure pixels, in µg/cm2; maps are in ``tree["maps"]``.

        Raises
        ------
        InputError
            If the run had no zeta-factors.
        """
        if "mass_thickness" not in self.run:
            raise InputError("xray.zeta_factors", "be given for a mass thickness", "were not")
        return pd.DataFrame(self.run["mass_thickness"]["table"])

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
        """Abundance maps in shares of atoms: mean, sd, lower, upper, each (phase, y, x)."""
        maps = self.tree["maps"].to_dataset()
        return xr.Dataset(
            {name: maps[f"abundance_{name}"] for name in ("mean", "sd", "lower", "upper")}, attrs=maps.attrs
        )

    @cached_property
    def plot(self) -> ResultPlots:
        """Figures: maps(), segmentation(), spectra(), compositions(), partition(), fit()."""
        from bayesunmix.plot import ResultPlots

        return ResultPlots(self)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write every file of an output folder.

        Raises
        ------
        InputError
            If the folder holds something and `overwrite` is not set.
        """
        from bayesunmix.files import prepare_folder, write_result

        path = Path(folder)
        prepare_folder(path, overwrite=overwrite)
        write_result(self, path)
        return path

    def __repr__(self) -> str:
        from bayesunmix.rounding import bound_text, interval_text

        shares = self.abundances()["mean"].mean(["y", "x"]).values
        lines = [f"Result: {len(self.phases)} phases, {len(self.elements)} elements, {self.run['method']}"]
        table = self.summary()
        for name, share in zip(self.phases, shares, strict=True):
            lines.append(f"  {name}: {100 * share:.3g} % of the atoms; at% [{100 * self.level:g} % interval]")
            for row in table[(table.phase == name) & (table.detected != "declared_absent")].itertuples():
                known = row.detected == "true" and row.lower == row.lower
                value = [100.0 * number for number in (row.mean, row.lower, row.upper)]
                lines.append(
                    f"    {row.element:<2} {interval_text(*value) if known else bound_text(value[2])}"
                )
        lines += [f"  Not to be trusted: {problem}" for problem in self.problems] or [
            "  All diagnostics are fine."
        ]
        return "\n".join(lines)


def open_result(folder: str | Path) -> Result:
    """Open the output folder of a run.

    Raises
    ------
    InputError
        If it is not one.
    """
    path = Path(folder)
    for name in ("posterior.nc", "run.json"):
        if not (path / name).is_file():
            raise InputError("DIR", "be the output folder of a finished run", f'"{path}" holds no {name}')
    try:
        tree = xr.open_datatree(path / "posterior.nc", engine="h5netcdf").load()
        run = json.loads((path / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "DIR", "be the output folder of a finished run", f'"{path}" cannot be read: {error}'
        ) from None
    tree.close()
    return Result(tree, run)
