"""Figures of a stand-in result that has exactly the groups and tables of a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from bayesunmix.plot import FIGURES, ResultPlots
from bayesunmix.plot.fit import pearson_residuals
from bayesunmix.plot.labels import main_lines, spread
from bayesunmix.plot.partition import phase_pairs
from bayesunmix.plot.style import MM_PER_INCH, WIDTH_MM, element_order, length_text, nice_length

FloatArray = npt.NDArray[np.float64]

ELEMENTS = ["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"]
# Atom fractions without normalisation; None where the element is declared absent.
TRUTH: dict[str, list[float | None]] = {
    "Brg": [0.399, 0.052, 0.470, 0.0156, 0.059, 4e-5, 8e-5, 3e-4, 4e-4, 1.9e-4],
    "Fp": [0.72, 0.012, None, None, 0.265, 1e-5, 1e-5, 2e-5, 3e-5, 1e-5],
    "CaPv": [None, 0.02, 0.48, 0.46, 0.012, 0.009, 0.0066, 0.002, 3.4e-4, 0.008],
}
RELATIVE_SD = {"Mg": 0.004, "Al": 0.01, "Si": 0.004, "Ca": 0.015, "Fe": 0.012}
STRAY = ["Cu", "Ga", "Pt", "Zr"]
# Element, family, energy in keV, strength against the element's strongest line.
LINES: list[tuple[str, str, float, float]] = [
    ("Mg", "K", 1.254, 1.0),
    ("Al", "K", 1.487, 1.0),
    ("Si", "K", 1.740, 1.0),
    ("Ca", "K", 3.692, 1.0),
    ("Ca", "K", 4.013, 0.13),
    ("Fe", "K", 6.404, 1.0),
    ("Fe", "K", 7.058, 0.13),
    ("Nd", "L", 5.230, 1.0),
    ("Nd", "L", 5.722, 0.6),
    ("Sm", "L", 5.636, 1.0),
    ("Sm", "L", 6.205, 0.6),
    ("Lu", "M", 1.581, 1.0),
    ("Lu", "L", 7.656, 0.5),
    ("Lu", "L", 8.709, 0.4),
    ("Hf", "M", 1.645, 1.0),
    ("Hf", "L", 7.899, 0.5),
    ("Hf", "L", 9.023, 0.4),
    ("U", "M", 3.171, 1.0),
    ("U", "M", 3.337, 0.6),
    ("U", "L", 13.615, 0.4),
    ("U", "L", 17.220, 0.3),
    ("Cu", "K", 8.048, 1.0),
    ("Cu", "K", 8.905, 0.13),
    ("Ga", "K", 9.252, 1.0),
    ("Ga", "K", 10.264, 0.13),
    ("Pt", "M", 2.050, 1.0),
    ("Pt", "L", 9.442, 0.5),
    ("Zr", "L", 2.042, 0.3),
    ("Zr", "K", 15.775, 1.0),
    ("Zr", "K", 17.668, 0.15),
]


@dataclass
class StandIn:
    """What figures and report use of a result."""

    tree: xr.DataTree
    phases: list[str]
    elements: list[str]
    level: float
    run: dict[str, Any]
    problems: tuple[str, ...]
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)

    @property
    def posterior(self) -> xr.Dataset:
        return self.tree["posterior"].dataset

    def summary(self) -> pd.DataFrame:
        return self.tables["composition"]

    def partition_table(self) -> pd.DataFrame:
        return self.tables["partition"]

    def diagnostics(self) -> pd.DataFrame:
        return self.tables["diagnostics"]


def synthetic_result(
    shape: tuple[int, int] = (30, 40),
    phases: int = 3,
    method: str = "nuts",
    problems: tuple[str, ...] = (),
    abundance: FloatArray | None = None,
) -> StandIn:
    """Return a result of three minerals (fewer or more on demand) with traces found, not found and declared absent."""
    rng = np.random.default_rng(7)
    names = [name if index < 3 else f"phase {index + 1}" for index, name in enumerate([*TRUTH, "", "", ""])][:phases]
    truth = {name: TRUTH.get(name, TRUTH["Brg"]) for name in names}
    posterior = _posterior(rng, truth, 100)
    composition = _composition_table(posterior, truth)
    maps = _maps(rng, shape, names, abundance)
    endmembers, fit_group = _spectra(rng, truth, maps)
    lines = xr.Dataset(
        {
            "element": ("line", np.array([line[0] for line in LINES])),
            "family": ("line", np.array([line[1] for line in LINES])),
            "energy_keV": ("line", np.array([line[2] for line in LINES])),
            "strength_share": ("line", np.array([line[3] for line in LINES])),
            "stray": ("line", np.array([line[0] in STRAY for line in LINES])),
        }
    )
    draws = ("chain", "draw")
    stats = xr.Dataset({"lp": (draws, rng.normal(size=(2, 100)))})
    if method == "nuts":
        stats["diverging"] = (draws, np.zeros((2, 100), bool))
    total_counts = xr.Dataset({"total_counts": (("y", "x"), rng.poisson(108.0, shape))})
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": stats,
            "constant_data": total_counts,
            "maps": maps,
            "endmembers": endmembers,
            "fit": fit_group,
            "lines": lines,
        }
    )
    tables = {
        "composition": composition,
        "partition": _partition_table(posterior, composition, names),
        "diagnostics": _diagnostics(rng, names, method),
    }
    return StandIn(tree, names, ELEMENTS, 0.95, _run(names, method), problems, tables)


def _posterior(rng: np.random.Generator, truth: dict[str, list[float | None]], draws: int) -> xr.Dataset:
    mean = np.array([[value or 0.0 for value in row] for row in truth.values()])
    sd = np.array([RELATIVE_SD.get(element, 0.0) for element in ELEMENTS]) * mean
    sd = np.where(sd > 0.0, sd, 2e-5 + 0.08 * mean)
    drawn = np.abs(rng.normal(mean, sd, (2, draws, *mean.shape))) * (mean > 0.0)
    drawn /= drawn.sum(axis=-1, keepdims=True)
    dims = ("chain", "draw", "phase", "element")
    coords = {"phase": list(truth), "element": ELEMENTS}
    components = [*ELEMENTS, "O", "Cu_K", "continuum"]
    share = rng.dirichlet(np.ones(len(components)), (2, draws, len(truth)))
    return xr.Dataset(
        {
            "composition": (dims, drawn),
            "composition_counting": (dims, drawn),
            "component_share": ((*dims[:3], "component"), share),
        },
        {**coords, "component": components},
    )


def _composition_table(posterior: xr.Dataset, truth: dict[str, list[float | None]]) -> pd.DataFrame:
    rows = []
    for phase, values in truth.items():
        for element, value in zip(ELEMENTS, values, strict=True):
            drawn = posterior["composition"].sel(phase=phase, element=element).values
            detected = "declared_absent" if value is None else str(value > 3.5e-5).lower()
            lower, median, upper = np.quantile(drawn, [0.025, 0.5, 0.975])
            rows.append(
                {
                    "phase": phase,
                    "element": element,
                    "unit": "at_frac",
                    "mean": drawn.mean(),
                    "sd": drawn.std(),
                    "median": median,
                    "lower": lower if detected == "true" else 0.0,
                    "upper": upper,
                    "level": 0.95,
                    "detected": detected,
                    "decision_threshold": 3e-5,
                    "detection_limit": 6e-5,
                    "upper_bound": np.quantile(drawn, 0.95),
                    "rhat": 1.003,
                    "ess_bulk": 812.0,
                    "ess_tail": 640.0,
                }
            )
    return pd.DataFrame(rows)


def _partition_table(posterior: xr.Dataset, composition: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    found = composition.set_index(["phase", "element"])["detected"]
    rows = []
    for above in names:
        for below in (name for name in names if name != above):
            for element in ELEMENTS:
                pair = (found[above, element], found[below, element])
                kind = {("true", "true"): "interval", ("false", "true"): "upper", ("true", "false"): "lower"}.get(pair)
                if kind is None:
                    continue
                drawn = posterior["composition"].sel(element=element)
                ratio = drawn.sel(phase=above).values / drawn.sel(phase=below).values
                lower, median, upper = np.quantile(ratio, [0.025, 0.5, 0.975])
                rows.append(
                    {
                        "element": element,
                        "numerator": above,
                        "denominator": below,
                        "mean": ratio.mean(),
                        "sd": ratio.std(),
                        "median": median,
                        "lower": 0.0 if kind == "upper" else lower,
                        "upper": np.inf if kind == "lower" else upper,
                        "level": 0.95,
                        "kind": kind,
                        "prob_above_1": np.mean(ratio > 1.0),
                    }
                )
    columns = ["element", "numerator", "denominator", "median", "lower", "upper", "level", "kind", "prob_above_1"]
    return pd.DataFrame(rows, columns=None if rows else columns)


def _maps(
    rng: np.random.Generator, shape: tuple[int, int], names: list[str], abundance: FloatArray | None
) -> xr.Dataset:
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    fields = [np.ones(shape)]
    for _ in names[1:]:
        grains = rng.uniform(0.0, 1.0, (4, 2))
        fields.append(4.0 * sum(np.exp(-((y - gy) ** 2 + (x - gx) ** 2) / 0.004) for gy, gx in grains))
    if abundance is None:
        abundance = np.stack(fields) / np.sum(fields, axis=0)
    sd = 0.03 + 0.15 * abundance * (1.0 - abundance) + 0.01 * rng.random(abundance.shape)
    mean = np.clip(abundance + rng.normal(0.0, 0.3 * sd), 0.0, 1.0)
    dims = ("phase", "y", "x")
    return xr.Dataset(
        {
            "abundance_mean": (dims, mean),
            "abundance_sd": (dims, sd),
            "abundance_lower": (dims, np.clip(mean - 2.0 * sd, 0.0, 1.0)),
            "abundance_upper": (dims, np.clip(mean + 2.0 * sd, 0.0, 1.0)),
            "pure_probability": (dims, np.clip((abundance - 0.6) / 0.35, 0.0, 1.0)),
            "label": (("y", "x"), abundance.argmax(axis=0)),
            "image_HAADF": (("y2_HAADF", "x2_HAADF"), rng.random((20, 24))),
        },
        {"phase": names},
        {"pixel_size": np.array([5.2, 5.2]), "pixel_unit": "nm"},
    )


def _spectra(
    rng: np.random.Generator, truth: dict[str, list[float | None]], maps: xr.Dataset
) -> tuple[xr.Dataset, xr.Dataset]:
    energy = 0.95 + 0.01 * np.arange(1900)
    continuum = 2e-3 * np.exp(-energy / 6.0) * (1.0 - np.exp(-energy))
    mean = np.stack([continuum + _characteristic(energy, values) for values in truth.values()])
    mean /= mean.sum(axis=1, keepdims=True)
    band = 0.02 + 0.004 / np.sqrt(mean / mean.max())
    dims = ("phase", "energy")
    endmembers = xr.Dataset(
        {
            "mean": (dims, mean),
            "lower": (dims, mean * np.clip(1.0 - band, 0.0, 1.0)),
            "upper": (dims, mean * (1.0 + band)),
        },
        {"phase": list(truth), "energy": energy},
    )
    counts = 4.3e6 * maps["abundance_mean"].mean(("y", "x")).values
    by_phase = (counts[:, np.newaxis] * mean).reshape(len(truth), -1, 5).sum(axis=-1)
    share = np.sum(counts[:, np.newaxis] * continuum, axis=0).reshape(-1, 5).sum(axis=-1)
    edges = energy[0] - 0.005 + 0.05 * np.arange(by_phase.shape[1] + 1)
    bins = ("energy_bin",)
    fit_group = xr.Dataset(
        {
            "energy_low": (bins, edges[:-1]),
            "energy_high": (bins, edges[1:]),
            "observed": (bins, rng.poisson(by_phase.sum(axis=0))),
            "expected": (bins, by_phase.sum(axis=0)),
            "expected_by_phase": (("phase", *bins), by_phase),
            "continuum": (bins, share),
            "segment_observed": (("phase", *bins), rng.poisson(by_phase)),
            "segment_expected": (("phase", *bins), by_phase),
        },
        {"phase": list(truth)},
    )
    return endmembers, fit_group


def _characteristic(energy: FloatArray, values: list[float | None]) -> FloatArray:
    amount = dict(zip(ELEMENTS, values, strict=True)) | dict.fromkeys(STRAY, 0.004)
    spectrum = np.zeros_like(energy)
    for element, _, centre, strength in LINES:
        sd = 0.02 + 0.006 * np.sqrt(centre)
        line = np.exp(-(((energy - centre) / sd) ** 2) / 2.0) / sd
        spectrum += 0.01 * (amount[element] or 0.0) * strength * line
    return spectrum


def _diagnostics(rng: np.random.Generator, names: list[str], method: str) -> pd.DataFrame:
    quantities = [f"composition[{name}, {element}]" for name in names for element in ELEMENTS]
    count = len(quantities)
    nothing = np.full(count, np.nan)
    return pd.DataFrame(
        {
            "quantity": quantities,
            "rhat": 1.0 + 0.006 * rng.random(count) if method == "nuts" else nothing,
            "ess_bulk": rng.uniform(420.0, 1200.0, count) if method == "nuts" else nothing,
            "ess_tail": rng.uniform(380.0, 900.0, count) if method == "nuts" else nothing,
        }
    )


def _run(names: list[str], method: str) -> dict[str, Any]:
    phases = [{"name": name, "matrix": name == "Brg", "absent": []} for name in names]
    absent = {"Fp": ["Si", "Ca"], "CaPv": ["Mg"]}
    for phase in phases:
        phase["absent"] = absent.get(str(phase["name"]), [])
    return {
        "version": "0.1.0",
        "versions": {"python": "3.11.7", "jax": "0.10.0", "numpyro": "0.19.0"},
        "seed": 0,
        "method": method,
        "config": {
            "map": {"energy_range": [1.0, 19.9]},
            "sample": {"elements": ELEMENTS, "stray": STRAY, "oxygen": "stoichiometry"},
            "phases": phases,
            "inference": {"method": method, "chains": 2, "draws": 500, "warmup": 500, "level": 0.95},
        },
        "timings": {"load": 1.2, "initialise": 3.4, "map": 8.1, "laplace": 1.3, "nuts": 31.0, "pixels": 4.0},
        "diagnostics": {"divergences": 0},
        "warnings": ["The take-off angle is not in the file: 22 degrees was assumed."],
        "binning": {
            "channels": 1900,
            "bins": 380,
            "block_side": 2,
            "blocks": 10201,
            "mean_counts_per_block": 432.0,
        },
        "response": {"gain": 1.0003, "offset_keV": -0.0012, "noise_eV": 42.0, "fano": 0.11},
        "starts": [
            {"objective": 8123456.1, "gradient_norm": 0.02, "converged": True, "same_mode": True},
            {"objective": 8123458.4, "gradient_norm": 0.04, "converged": True, "same_mode": True},
            {"objective": 8123771.0, "gradient_norm": 0.03, "converged": True, "same_mode": False},
        ],
        "fit": {"deviance_per_dof_total": 1.04, "deviance_per_dof_segments": [1.02, 1.11, 0.97]},
        "hash": "9f2c1e0a77d14b55",
    }
