"""The files of an output folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bayesunmix.checkpoint import FOLDER
from bayesunmix.data.io import write_signal
from bayesunmix.errors import InputError
from bayesunmix.output_settings import UNITS

if TYPE_CHECKING:
    from bayesunmix.result import Result

STATISTICS = ("mean", "sd", "lower", "upper")
ENDMEMBER_STATISTICS = ("mean", "lower", "upper")
# Everything a run writes: what --overwrite removes, and nothing else.
OUTPUTS = (
    "composition.csv",
    "partition.csv",
    "uncertainty_budget.csv",
    "abundances.hspy",
    "segmentation.hspy",
    "endmembers.hspy",
    "mass_thickness.hspy",
    "posterior.nc",
    "run.json",
    "report.html",
    "truth.csv",
    "run.log",
    *(f"composition_{unit}.csv" for unit in UNITS if unit != "at_frac"),
    "figures",
    "tables",
    FOLDER,
)


def prepare_folder(folder: Path, *, overwrite: bool, resume: bool = False) -> None:
    """Make the output folder, empty of an earlier run's files where they may be replaced.

    Raises
    ------
    InputError
        If it is a file, or holds something and neither `overwrite` nor `resume` is set.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError("--out", "be a folder", f'"{folder}" is a file')
    if folder.is_dir() and any(folder.iterdir()) and not (overwrite or resume):
        remedy = "Choose another, or allow to overwrite it."
        raise InputError("--out", "be a new or empty folder", f'"{folder}" is not empty', remedy)
    folder.mkdir(parents=True, exist_ok=True)
    for name in OUTPUTS if overwrite else ():
        path = folder / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_result(result: Result, folder: Path) -> None:
    """Write tables, maps, spectra, the posterior, the record of the run, figures and the report."""
    from bayesunmix.report.page import save_report
    from bayesunmix.report.paper import write_tables

    result.summary().to_csv(folder / "composition.csv", index=False)
    result.partition_table().to_csv(folder / "partition.csv", index=False)
    for unit in result.run["config"].get("output", {}).get("units", ()):
        if unit != "at_frac":
            result.summary(unit).to_csv(folder / f"composition_{unit}.csv", index=False)
    if "budget" in result.tree:
        result.uncertainty_budget().to_csv(folder / "uncertainty_budget.csv", index=False)
    _write_maps(result, folder)
    _write_endmembers(result, folder)
    encoding = {f"/{group}": _compressed(result, group) for group in result.tree.children}
    result.tree.to_netcdf(folder / "posterior.nc", engine="h5netcdf", encoding=encoding)
    save_report(result, folder)
    write_tables(result, folder / "tables")
    # Written last: a folder that holds it is complete.
    text = json.dumps(result.run, indent=2, default=_plain, allow_nan=True)
    (folder / "run.json").write_text(text + "\n", encoding="utf-8")


def _compressed(result: Result, group: str) -> dict[str, dict[str, Any]]:
    """Compression for the large arrays of a group."""
    variables = result.tree[group].to_dataset().data_vars
    return {
        str(name): {"zlib": True, "complevel": 1} for name, value in variables.items() if value.size > 10_000
    }


def _plain(value: object) -> object:
    """Turn what JSON does not know into what it does: NumPy's scalars and arrays, paths."""
    if isinstance(value, np.generic):
        return value.item()
    return value.tolist() if isinstance(value, np.ndarray) else str(value)


def _write_maps(result: Result, folder: Path) -> None:
    maps = result.tree["maps"].to_dataset()
    stacked = np.stack([maps[f"abundance_{name}"].values for name in STATISTICS])
    spatial = _spatial_axes(result, stacked.shape[-2:])
    names = {"phases": result.phases}
    axes = [_index_axis("statistic", len(STATISTICS)), _index_axis("phase", len(result.phases)), *spatial]
    about = {**names, "statistics": list(STATISTICS), "unit": "share of the atoms", "level": result.level}
    _write(folder / "abundances.hspy", "Abundances", stacked.astype(np.float32), axes, about)
    layers = np.concatenate([maps["pure_probability"].values, maps["label"].values[None].astype(np.float32)])
    axes = [_index_axis("layer", len(layers)), *spatial]
    about = {
        **names,
        "layers": [*(f"P(pure {name})" for name in result.phases), "label (index of the phase)"],
    }
    _write(folder / "segmentation.hspy", "Segmentation", layers.astype(np.float32), axes, about)
    if "mass_thickness_mean" in maps:
        names_of = [f"mass_thickness_{name}" for name in ("mean", "sd")]
        stacked = np.stack([maps[name].values for name in names_of])
        axes = [_index_axis("statistic", len(stacked)), *spatial]
        about = {"statistics": ["mean", "sd"], "unit": maps[names_of[0]].attrs["unit"]}
        _write(folder / "mass_thickness.hspy", "Mass thickness", stacked.astype(np.float32), axes, about)


def _write_endmembers(result: Result, folder: Path) -> None:
    spectra = result.tree["endmembers"].to_dataset()
    stacked = np.stack([spectra[name].values for name in ENDMEMBER_STATISTICS])
    energy = spectra["energy"].values
    axes = [
        _index_axis("statistic", len(ENDMEMBER_STATISTICS)),
        _index_axis("phase", len(result.phases)),
        _axis("Energy", len(energy), float(energy[1] - energy[0]), float(energy[0]), "keV", navigate=False),
    ]
    about = {"phases": result.phases, "statistics": list(ENDMEMBER_STATISTICS), "unit": "share of the counts"}
    _write(folder / "endmembers.hspy", "Endmembers", stacked.astype(np.float32), axes, about)


def _write(
    path: Path, title: str, data: npt.NDArray[Any], axes: list[dict[str, Any]], about: dict[str, Any]
) -> None:
    metadata = {"General": {"title": title}, "Signal": {"signal_type": ""}, "bayesunmix": about}
    write_signal(path, {"data": data, "axes": axes, "metadata": metadata})


def _index_axis(name: str, size: int) -> dict[str, Any]:
    return _axis(name, size, 1.0, 0.0, "", navigate=True)


def _spatial_axes(result: Result, shape: tuple[int, ...]) -> list[dict[str, Any]]:
    attributes = result.tree["maps"].attrs
    scales, unit = attributes["pixel_size"], str(attributes["pixel_unit"])
    return [
        _axis(name, size, float(scale), 0.0, unit, navigate=False)
        for name, size, scale in zip("yx", shape, scales, strict=True)
    ]


def _axis(name: str, size: int, scale: float, offset: float, units: str, *, navigate: bool) -> dict[str, Any]:
    """One axis in the form that HyperSpy's files hold."""
    return {
        "name": name,
        "size": size,
        "scale": scale,
        "offset": offset,
        "units": units,
        "navigate": navigate,
    }
