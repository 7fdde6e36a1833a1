"""The files of an output folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayesunmix.core.costs import Meter
from bayesunmix.core.errors import check_flag, check_path, warn
from bayesunmix.core.output_folder import (
    RECORD,
    check_folder,
    checksums_of,
    claimed,
    names_of,
    write_record,
    written_aside,
)
from bayesunmix.core.whole_file import check_space
from bayesunmix.data.io import write_signal
from bayesunmix.report.steps import Step, disk_error, sentences, take
from bayesunmix.results.result import Result
from bayesunmix.results.signal_axes import energy_axis, index_axis, spatial_axes

if TYPE_CHECKING:
    import pandas as pd

STATISTICS = ("mean", "sd", "lower", "upper")
ENDMEMBER_STATISTICS = ("mean", "lower", "upper")
POSTERIOR = "`posterior.nc`"


def save_result(result: Result, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write every file of an output folder, which need not be there; see `write_result`.

    Raises
    ------
    InputError
        If the folder holds something and `overwrite` is not set, cannot be written, or another run writes it.
    OSError
        If the disk does not take the files.
    """
    path = check_path("folder", folder)
    check_folder(path, go_on=check_flag("overwrite", overwrite), field="folder")
    with claimed(path):
        write_result(result, path)
    return path


def write_result(result: Result, folder: Path) -> Result:
    """Write tables, maps, spectra, the posterior and the record of the run, and then figures, tables and the report.

    The numbers come first. What cannot be made is left out and said, and the rest is written: `bayesunmix report`
    makes figures, tables and page again.

    Parameters
    ----------
    result
        The result of a run.
    folder
        Claimed by `bayesunmix.core.output_folder.claimed`; what it holds of an earlier run is replaced when all is
        there.

    Returns
    -------
    Result
        The same, with the record as it is written: the list of files, what could not be made, and what writing cost.

    Raises
    ------
    OSError
        If the disk does not take the files. Those that it took are kept.
    """
    from bayesunmix.report.page import picture_steps

    meter = Meter()
    with written_aside(folder) as aside:
        failed = take(_numbers(result), aside)
        _check_numbers(failed, aside)
        result = _amended(
            result,
            warnings=(*result.record.warnings, *sentences(failed)),
            checksums=checksums_of(aside, "posterior.nc"),
            files=(*names_of(aside), RECORD),
        )
        write_record(aside, result.record.to_dict())
        failed |= (later := take(picture_steps(result), aside))
        warnings = (*result.record.warnings, *sentences(later))
        costs = {**result.record.costs, "files": meter.read()}
        result = _amended(result, warnings=warnings, files=tuple(names_of(aside)), costs=costs)
        write_record(aside, result.record.to_dict())
    for sentence in sentences(failed):
        warn(sentence)
    error = disk_error(failed)
    if error is not None:
        said = f'the numbers are in "{folder}", but not {", ".join(failed)}: {error.strerror or error}'
        raise OSError(f"{said}; `bayesunmix report` makes figures, tables and page again") from error
    return result


def _amended(result: Result, **fields: object) -> Result:
    """Return the result with some fields of its record replaced."""
    return result.with_record(result.record.model_copy(update=fields))


def _numbers(result: Result) -> list[Step]:
    """Return the steps that write what a result holds, the smallest first."""
    units = result.record.config.output.further_units
    tables: dict[str, Callable[[], pd.DataFrame]] = {
        "composition.csv": result.summary,
        "partition.csv": result.tables.partition,
        "names.csv": result.names,
        **{f"composition_{unit}.csv": partial(result.summary, unit) for unit in units},
    }
    if "budget" in result.tree:
        tables["uncertainty_budget.csv"] = result.tables.uncertainty_budget
    further = []
    if result.record.config.output.pixel_draws:
        from bayesunmix.report.pixel_draws import FILE, write_pixel_draws

        further.append(Step(f"`{FILE}`", partial(write_pixel_draws, result)))
    return [
        *(Step(f"`{name}`", partial(_write_table, name, table)) for name, table in tables.items()),
        Step(POSTERIOR, partial(_write_posterior, result)),
        Step("the maps", partial(_write_maps, result)),
        Step("`endmembers.hspy`", partial(_write_endmembers, result)),
        *further,
    ]


def _check_numbers(failed: Mapping[str, Exception], aside: Path) -> None:
    """Refuse to call a result complete that lacks its posterior, or numbers that the disk had no place for."""
    if disk_error(failed) is None and POSTERIOR not in failed:
        return
    what, error = next((what, e) for what, e in failed.items() if what == POSTERIOR or isinstance(e, OSError))
    reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    kept = ", ".join(names_of(aside)) or "nothing"
    raise OSError(f'{what} could not be written: {reason}; "{aside}" holds {kept}') from error


def _write_table(name: str, table: Callable[[], pd.DataFrame], folder: Path) -> None:
    table().to_csv(folder / name, index=False)


def _write_posterior(result: Result, folder: Path) -> None:
    encoding = {f"/{group}": _compressed(result, group) for group in result.tree.children}
    check_space(folder / "posterior.nc", result.tree.nbytes)
    result.tree.to_netcdf(folder / "posterior.nc", engine="h5netcdf", encoding=encoding)


def _compressed(result: Result, group: str) -> dict[str, dict[str, Any]]:
    """Compression for the large arrays of a group."""
    variables = result.tree[group].to_dataset().data_vars
    return {
        str(name): {"zlib": True, "complevel": 1} for name, value in variables.items() if value.size > 10_000
    }


def _write_maps(result: Result, folder: Path) -> None:
    maps = result.tree["maps"].to_dataset()
    stacked = np.stack([maps[f"abundance_{name}"].values for name in STATISTICS])
    spatial = spatial_axes(result, navigate=False)
    names = {"phases": result.phases}
    axes = [index_axis("statistic", len(STATISTICS)), index_axis("phase", len(result.phases)), *spatial]
    about = {**names, "statistics": list(STATISTICS), "unit": "share of the atoms", "level": result.level}
    _write(folder / "abundances.hspy", "Abundances", stacked.astype(np.float32), axes, about)
    layers = np.concatenate([maps["pure_probability"].values, maps["label"].values[None].astype(np.float32)])
    axes = [index_axis("layer", len(layers)), *spatial]
    about = {
        **names,
        "layers": [
            *(f"P(pure {name})" for name in result.phases),
            "label (index of the phase, -1 where a pixel takes no part)",
        ],
    }
    _write(folder / "segmentation.hspy", "Segmentation", layers.astype(np.float32), axes, about)
    if "mass_thickness_mean" in maps:
        names_of = [f"mass_thickness_{name}" for name in ("mean", "sd")]
        stacked = np.stack([maps[name].values for name in names_of])
        axes = [index_axis("statistic", len(stacked)), *spatial]
        about = {"statistics": ["mean", "sd"], "unit": maps[names_of[0]].attrs["unit"]}
        _write(folder / "mass_thickness.hspy", "Mass thickness", stacked.astype(np.float32), axes, about)


def _write_endmembers(result: Result, folder: Path) -> None:
    spectra = result.tree["endmembers"].to_dataset()
    stacked = np.stack([spectra[name].values for name in ENDMEMBER_STATISTICS])
    axes = [
        index_axis("statistic", len(ENDMEMBER_STATISTICS)),
        index_axis("phase", len(result.phases)),
        energy_axis(spectra["energy"].values),
    ]
    about = {"phases": result.phases, "statistics": list(ENDMEMBER_STATISTICS), "unit": "share of the counts"}
    _write(folder / "endmembers.hspy", "Endmembers", stacked.astype(np.float32), axes, about)


def _write(
    path: Path, title: str, data: npt.NDArray[Any], axes: list[dict[str, Any]], about: dict[str, Any]
) -> None:
    metadata = {"General": {"title": title}, "Signal": {"signal_type": ""}, "bayesunmix": about}
    write_signal(path, {"data": data, "axes": axes, "metadata": metadata})
