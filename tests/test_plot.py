"""Figures of a stand-in result that has exactly the groups and tables of a real one."""

from __future__ import annotations

import dataclasses
import io
import itertools
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from bayesunmix.checks.outcomes import UnmodelledRegions
from bayesunmix.checks.regions import MapRegion
from bayesunmix.plot import FIGURES, ResultPlots
from bayesunmix.plot.fit import pearson_residuals
from bayesunmix.plot.labels import held_elements, named_lines, prominence, spread
from bayesunmix.plot.misfit import misfit_figure
from bayesunmix.plot.partition import phase_pairs
from bayesunmix.plot.segmentation import label_colours
from bayesunmix.plot.style import (
    GREY,
    MM_PER_INCH,
    WIDTH_MM,
    element_order,
    length_text,
    nice_length,
    phase_colour,
)
from bayesunmix.results.record import RunRecord
from bayesunmix.results.record_parts import PhaseNames, ProposedName
from bayesunmix.results.result import Result
from bayesunmix.results.verdict import Verdict, judge

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
class Tables:
    """Tables that figures and report ask of a result."""

    made: dict[str, pd.DataFrame]
    names: tuple[PhaseNames, ...] = ()

    def composition(self) -> pd.DataFrame:
        return self.made["composition"]

    def partition(self) -> pd.DataFrame:
        return self.made["partition"]

    def phase_shares(self) -> pd.DataFrame:
        return self.made["phase_shares"]

    def proposed(self) -> tuple[PhaseNames, ...]:
        return self.names


@dataclass
class StandIn:
    """What figures and report use of a result."""

    tree: xr.DataTree
    phases: list[str]
    elements: list[str]
    level: float
    record: RunRecord
    said: tuple[str, ...]
    tables: Tables

    @property
    def verdict(self) -> Verdict:
        return judge(self.said)

    @property
    def supports(self) -> list[str]:
        return [name for name in self.phases if name in self.record.supports]

    @property
    def sample_phases(self) -> list[str]:
        return [name for name in self.phases if name not in self.supports]

    @property
    def stated(self) -> str:
        return f"mean [{100.0 * self.level:g} % interval]"

    def summary(self) -> pd.DataFrame:
        return self.tables.made["composition"]

    def endmembers(self) -> xr.Dataset:
        return Result.endmembers(self)  # type: ignore[arg-type]

    def diagnostics(self) -> pd.DataFrame:
        return self.tables.made["diagnostics"]


def synthetic_result(
    shape: tuple[int, int] = (30, 40),
    phases: int = 3,
    method: str = "nuts",
    said: tuple[str, ...] = (),
    abundance: FloatArray | None = None,
) -> StandIn:
    """Return a result of three minerals (fewer or more on demand) with traces found, not found and declared absent."""
    rng = np.random.default_rng(7)
    names = [name if index < 3 else f"phase {index + 1}" for index, name in enumerate([*TRUTH, "", "", ""])][
        :phases
    ]
    truth = {name: TRUTH.get(name, TRUTH["Brg"]) for name in names}
    posterior = _posterior(rng, truth, 100)
    composition = _composition_table(posterior, truth)
    maps = _maps(rng, shape, names, abundance)
    endmembers, fit_group = _spectra(rng, truth, maps)
    lines = xr.Dataset(
        {
            "element": ("line", np.array([line[0] for line in LINES])),
            "line_name": ("line", np.array([f"{line[1]}a1" for line in LINES])),
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
        "phase_shares": _phase_shares(maps, names),
    }
    return StandIn(tree, names, ELEMENTS, 0.95, RunRecord.of(_run(names, method)), said, Tables(tables))


def _phase_shares(maps: xr.Dataset, names: list[str]) -> pd.DataFrame:
    mean = maps["abundance_mean"].mean(["y", "x"]).values
    return pd.DataFrame({"phase": names, "mean": mean, "lower": 0.95 * mean, "upper": 1.05 * mean})


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
                kind = {
                    ("true", "true"): "interval",
                    ("false", "true"): "upper",
                    ("true", "false"): "lower",
                }.get(pair)
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
    columns = [
        "element",
        "numerator",
        "denominator",
        "median",
        "lower",
        "upper",
        "level",
        "kind",
        "prob_above_1",
    ]
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
    raw = np.stack([continuum + _characteristic(energy, values) for values in truth.values()])
    mean = raw / raw.sum(axis=1, keepdims=True)
    band = 0.02 + 0.004 / np.sqrt(mean / mean.max())
    dims = ("phase", "energy")
    # Channels below 1 keV are not fitted.
    shown = np.where(energy < 1.0, np.nan, mean)
    endmembers = xr.Dataset(
        {
            "mean": (dims, shown),
            "lower": (dims, shown * np.clip(1.0 - band, 0.0, 1.0)),
            "upper": (dims, shown * (1.0 + band)),
        },
        {"phase": list(truth), "energy": energy},
    )
    counts = 4.3e6 * maps["abundance_mean"].mean(("y", "x")).values
    by_phase = (counts[:, np.newaxis] * mean).reshape(len(truth), -1, 5).sum(axis=-1)
    share = np.sum(counts / raw.sum(axis=1)) * continuum.reshape(-1, 5).sum(axis=-1)
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
            {"objective": 0.0, "same_mode": True, "followed": True},
            {"objective": 0.004, "same_mode": True, "followed": True},
            {"objective": 313.0, "same_mode": False, "followed": False},
        ],
        "fit": {
            "deviance_per_dof_total": 1.04,
            "deviance_per_dof_segments": 1.11,
            "residual_regions": [
                {
                    "spectrum": "whole map",
                    "low_keV": 8.25,
                    "high_keV": 8.45,
                    "energy_keV": 8.34,
                    "sigma": 5.6,
                    "sign": "above the fit",
                    "excess_counts": 412.0,
                    "cause": "line Pt L",
                    "chance": 2e-5,
                },
                {
                    "spectrum": "Brg",
                    "low_keV": 2.1,
                    "high_keV": 2.3,
                    "energy_keV": 2.2,
                    "sigma": -4.2,
                    "sign": "below the fit",
                    "excess_counts": -120.0,
                    "cause": "tail of <Si> Kα",
                    "chance": 0.04,
                },
            ],
            "residual_scan": {
                "threshold_sigma": 4.0,
                "widths": 500.0,
                "regions_expected_of_noise": 0.12,
                "global_threshold_sigma": 4.2,
            },
        },
        "lines": "built-in at 200 keV",
        "hash": "9f2c1e0a77d14b55",
    }


@pytest.fixture(scope="module")
def result() -> StandIn:
    return synthetic_result()


CASES: dict[str, dict[str, Any]] = {
    "map": {},
    "line": {"shape": (1, 40)},
    "upright line": {"shape": (40, 1)},
    "point": {"shape": (1, 1)},
    "one phase": {"phases": 1},
    "six phases": {"phases": 6, "shape": (20, 60)},
    "six phases along a line": {"phases": 6, "shape": (1, 40)},
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.calibration] if case == "six phases along a line" else [])
        for case in CASES
    ],
)
def test_nothing_runs_off_the_page(name: str, case: str) -> None:
    figure = FIGURES[name](synthetic_result(**CASES[case]))  # type: ignore[arg-type]
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    slack = 0.5 / MM_PER_INCH
    assert box.x0 >= -slack
    assert box.y0 >= -slack
    assert box.x1 <= width + slack
    assert box.y1 <= height + slack


def test_figures_fit_a_page_and_leave_settings_alone(result: StandIn) -> None:
    before = dict(mpl.rcParams)
    plots = ResultPlots(result)  # type: ignore[arg-type]
    for name in FIGURES:
        figure = getattr(plots, name)()
        assert isinstance(figure, Figure)
        assert figure.get_size_inches()[0] * MM_PER_INCH <= WIDTH_MM + 0.1
        assert figure.canvas.manager is None
    assert dict(mpl.rcParams) == before


def test_a_likely_name_stands_in_the_title_of_a_phase_without_one() -> None:
    result = synthetic_result(phases=5)
    row = ProposedName(name="Rutile", formula="TiO2", probability=0.9)
    doubtful = row.model_copy(update={"probability": 0.6})
    result.tables.names = tuple(
        PhaseNames(phase=phase, none=0.1, proposed=(one,))
        for phase, one in (("Fp", row), ("phase 4", row), ("phase 5", doubtful))
    )
    titles = {axes.get_title(loc="left") for axes in FIGURES["maps"](result).axes}
    assert {"Fp", "phase 5"} <= titles
    assert any(title.startswith("phase 4: Ru") for title in titles)


def test_a_figure_shows_itself_in_a_notebook(result: StandIn) -> None:
    assert FIGURES["partition"](result)._repr_png_().startswith(b"\x89PNG")  # type: ignore[arg-type, attr-defined]


def test_line_names_do_not_cover_each_other(result: StandIn) -> None:
    figure = FIGURES["fit"](result)  # type: ignore[arg-type]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) > 10
    for left, right in itertools.pairwise(sorted(boxes, key=lambda box: box.x0)):
        assert left.x1 <= right.x0 + 0.5


def test_regions_of_misfit_are_marked_in_their_own_panel(result: StandIn) -> None:
    figure = FIGURES["fit"](result)  # type: ignore[arg-type]
    panels = [{text.get_text() for text in axes.texts} for axes in figure.axes[1:]]
    assert "1" in panels[0]
    assert "2" in panels[1 + list(result.phases).index("Brg")]
    assert sum(len({"1", "2"} & panel) for panel in panels) == 2


def test_numbers_of_neighbouring_regions_do_not_cover_each_other(result: StandIn) -> None:
    record = result.record.to_dict()
    scan = record["fit"]["residuals"]
    (one,) = [region for region in scan["regions"] if region["spectrum"] == "whole map"]
    # As close as regions get: one width of the detector apart.
    scan["regions"] = [
        one | {"energy_keV": 2.0 + 0.1 * i, "low_keV": 1.95, "high_keV": 2.05} for i in range(3)
    ]
    figure = FIGURES["fit"](dataclasses.replace(result, record=RunRecord.of(record)))  # type: ignore[arg-type]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[1].texts if text.get_text() in "123"]
    assert len(boxes) == 3
    for left, right in itertools.combinations(boxes, 2):
        assert (
            left.x1 <= right.x0
            or right.x1 <= left.x0
            or left.y1 <= right.y0 + 1.0
            or right.y1 <= left.y0 + 1.0
        )


@pytest.mark.parametrize(("x", "right"), [(0.3, True), (0.8, False)])
def test_the_scale_bar_keeps_clear_of_misfitting_places(result: StandIn, x: float, right: bool) -> None:
    maps = result.tree["maps"].to_dataset()
    height, width = maps.sizes["y"], maps.sizes["x"]
    maps["misfit"] = (("y", "x"), np.full((height, width), 3.0))
    tree = result.tree.copy()
    tree["maps"] = xr.DataTree(maps)
    region = MapRegion(
        y=0.9 * height,
        x=x * width,
        pixels=4,
        sigma=9.0,
        kind="spectrum",
        excess={},
        lacking={},
        counts_ratio=1.0,
    )
    found = UnmodelledRegions(threshold=6.0, regions=(region,))
    record = result.record.model_copy(update={"unmodelled_regions": found})
    axes = misfit_figure(dataclasses.replace(result, tree=tree, record=record)).axes[0]  # type: ignore[arg-type]
    (bar,) = axes.lines
    middle = float(np.mean(bar.get_xdata())) / axes.get_xlim()[1]
    assert bool(middle > 0.5) is right


def test_every_line_that_stands_out_is_named_and_no_other(result: StandIn) -> None:
    figure = FIGURES["spectra"](result)  # type: ignore[arg-type]
    named = {text.get_text().strip() for text in figure.axes[1].texts}
    assert {"Mg Kα", "Fe Kα", "Cu Kα"} <= named
    # Fp is declared free of silicon and calcium.
    assert not {"Si Kα", "Ca Kα"} & named
    stray = {text.get_text().strip() for text in figure.axes[1].texts if text.get_color() == GREY}
    assert stray == {"Cu Kα", "Ga Kα", "Pt Lα", "Pt Mα", "Zr Kα", "Zr Lα"}


def test_an_element_that_was_not_detected_is_not_named(result: StandIn) -> None:
    table = result.summary().copy()
    table.loc[(table["phase"] == "Fp") & (table["element"] == "Fe"), "detected"] = "false"
    other = dataclasses.replace(result, tables=Tables(result.tables.made | {"composition": table}))
    axes = FIGURES["spectra"](other).axes  # type: ignore[arg-type]
    named = [{text.get_text().strip() for text in panel.texts} for panel in axes]
    assert ["Fe Kα" in names for names in named] == [True, False, True]


def test_main_lines_are_the_strongest_of_each_family_in_range(result: StandIn) -> None:
    names = named_lines(result.tree["lines"].dataset, 1.0, 10.0)
    assert [name.text for name in names[:3]] == ["Mg Kα", "Al Kα", "Lu Mα"]
    assert ("U Mα", 3.171) in [(name.text, name.energy_keV) for name in names]
    assert "U Lα" not in [name.text for name in names]


def test_oxygen_that_comes_with_the_cations_is_named(result: StandIn) -> None:
    tree = result.tree.copy()
    lines = tree["lines"].dataset
    # A line of the fit that is neither stray nor in a composition; here one of iron's, which has a peak.
    other = lines.assign(element=lines["element"].where(lines["element"] != "Fe", "O"))
    tree["lines"] = xr.DataTree(other)
    table = result.summary()
    with_oxygen = dataclasses.replace(
        result,
        tree=tree,
        elements=[element for element in result.elements if element != "Fe"],
        tables=Tables(result.tables.made | {"composition": table[table["element"] != "Fe"]}),
    )
    for phase in (None, "Brg"):
        assert held_elements(with_oxygen, phase) - held_elements(result, phase) == {"O"}  # type: ignore[arg-type]
    # A support holds none.
    assert held_elements(with_oxygen, "a film") == set()  # type: ignore[arg-type]
    axes = FIGURES["fit"](with_oxygen).axes[0]  # type: ignore[arg-type]
    assert "O Kα" in {text.get_text().strip() for text in axes.texts}


def test_prominence_is_that_of_the_peak_and_not_of_the_slope() -> None:
    energy = np.arange(1.0, 5.0, 0.01)
    slope = np.exp(-energy)
    assert prominence(energy, slope, 3.0) == 1.0
    peak = slope * (1.0 + 0.5 * np.exp(-(((energy - 3.0) / 0.05) ** 2)))
    assert 1.05 < prominence(energy, peak, 3.0) < 1.5


@given(
    wanted=st.lists(st.floats(0.0, 100.0), min_size=1, max_size=20).map(sorted),
    spacing=st.floats(0.1, 4.0),
)
def test_spread_keeps_distance_order_and_room(wanted: list[float], spacing: float) -> None:
    places = spread(wanted, spacing, 0.0, 100.0)
    assert np.all(np.diff(places) >= spacing - 1e-9)
    assert places.min() >= -1e-9
    assert places.max() <= 100.0 + 1e-9


def test_spread_leaves_distant_positions_alone_and_parts_close_ones_evenly() -> None:
    np.testing.assert_allclose(spread([1.0, 5.0, 9.0], 2.0, 0.0, 10.0), [1.0, 5.0, 9.0])
    np.testing.assert_allclose(spread([5.0, 5.0], 2.0, 0.0, 10.0), [4.0, 6.0])
    np.testing.assert_allclose(spread([0.0, 0.0], 2.0, 0.0, 10.0), [0.0, 2.0])


def test_composition_shows_points_bounds_and_nothing_for_what_is_declared_absent(result: StandIn) -> None:
    axes = FIGURES["compositions"](result).axes[0]  # type: ignore[arg-type]
    table = result.summary()
    markers = [line.get_marker() for line in axes.lines]
    assert markers.count("o") == (table["detected"] == "true").sum() > 0
    assert markers.count("<") == (table["detected"] == "false").sum() > 0
    texts = [text.get_text() for text in axes.texts]
    assert texts.count("declared absent") == (table["detected"] == "declared_absent").sum() > 0
    points = sorted(line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o")  # type: ignore[index]
    np.testing.assert_allclose(points, sorted(100.0 * table["mean"][table["detected"] == "true"]))


def test_what_lies_at_the_end_of_the_axis_is_drawn_whole(result: StandIn) -> None:
    table = result.summary().copy()
    first, second = table.index[table["detected"] == "true"][:2]
    table.loc[first, ["mean", "lower", "upper"]] = 1.0
    table.loc[second, ["detected", "lower", "upper", "upper_bound"]] = ["false", 0.0, 1.0, 1.0]
    full = dataclasses.replace(result, tables=Tables(result.tables.made | {"composition": table}))
    axes = FIGURES["compositions"](full).axes[0]  # type: ignore[arg-type]
    assert axes.get_xlim()[1] == pytest.approx(100.0)
    at_end = {line.get_marker(): line for line in axes.lines if line.get_xdata()[0] == 100.0}  # type: ignore[index]
    assert {"o", "|"} <= set(at_end)
    assert not any(at_end[marker].get_clip_on() for marker in "o|")


def test_points_without_intervals_are_drawn_alone(result: StandIn) -> None:
    table = result.summary().assign(lower=np.nan, upper=np.nan, upper_bound=np.nan)
    point = dataclasses.replace(result, tables=Tables(result.tables.made | {"composition": table}))
    axes = FIGURES["compositions"](point).axes[0]  # type: ignore[arg-type]
    assert {line.get_marker() for line in axes.lines} == {"o"}
    assert "not detected" in [text.get_text() for text in axes.texts]


def test_partition_draws_intervals_and_both_kinds_of_bounds(result: StandIn) -> None:
    figure = FIGURES["partition"](result)  # type: ignore[arg-type]
    pairs = phase_pairs(result)  # type: ignore[arg-type]
    assert pairs == [("Fp", "Brg"), ("CaPv", "Brg"), ("CaPv", "Fp")]
    table = result.tables.partition().set_index(["numerator", "denominator"])
    for axes, pair in zip(figure.axes, pairs, strict=True):
        kinds = table.loc[[pair], "kind"].value_counts()
        markers = [line.get_marker() for line in axes.lines]
        found = [markers.count(marker) for marker in ("o", "<", ">")]
        assert found == [kinds.get(kind, 0) for kind in ("interval", "upper", "lower")]
        low, high = axes.get_xlim()
        assert low < 1.0 < high


def test_the_matrix_is_the_denominator_wherever_it_is_listed(result: StandIn) -> None:
    record = result.record.to_dict()
    record["config"]["phases"] = [{"name": "Fp"}, {"name": "CaPv"}, {"name": "Brg", "matrix": True}]
    other = dataclasses.replace(result, phases=["Fp", "CaPv", "Brg"], record=RunRecord.of(record))
    assert phase_pairs(other) == [("Fp", "Brg"), ("CaPv", "Brg"), ("CaPv", "Fp")]  # type: ignore[arg-type]


def test_labels_fade_from_pure_to_mixed(result: StandIn) -> None:
    maps = result.tree["maps"].dataset
    colours = label_colours(maps, 3)
    label = maps["label"].values
    pure = maps["pure_probability"].values
    for index in range(3):
        own = label == index
        paleness = colours[own].min(axis=-1)
        assert np.all(np.diff(paleness[np.argsort(pure[index][own])]) <= 1e-12)
        np.testing.assert_allclose(
            colours[own & (pure[index] == 1.0)] - to_rgb(phase_colour(index)), 0.0, atol=1e-12
        )


def test_pearson_residuals_are_counts_over_their_poisson_deviation() -> None:
    np.testing.assert_allclose(
        pearson_residuals(np.array([12.0, 0.0, 3.0]), np.array([9.0, 4.0, 0.0])), [1.0, -2.0, 0.0]
    )


def test_scale_bar_lengths_are_round() -> None:
    assert [nice_length(span) for span in (1045.2, 30.0, 7.4, 0.4)] == [200.0, 10.0, 2.0, 0.1]
    assert [length_text(200.0, "nm"), length_text(2000.0, "nm")] == ["200 nm", "2 µm"]
    assert length_text(50.0, "") == "50 px"


def test_elements_stand_by_atomic_number() -> None:
    assert element_order(["U", "Si", "Mg", "Fe"]) == ["Mg", "Si", "Fe", "U"]


@pytest.mark.parametrize("name", FIGURES)
def test_names_are_drawn_as_they_are_written(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = r"a$\frac{$b"
    renamed = {odd if phase == "CaPv" else phase: amounts for phase, amounts in TRUTH.items()}
    monkeypatch.setitem(globals(), "TRUTH", renamed)
    figure = FIGURES[name](synthetic_result())
    drawn = [text for text in figure.findobj(Text) if odd in text.get_text()]
    assert drawn or name == "partition"
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    figure.savefig(io.BytesIO(), format="pdf")


def test_powers_of_ten_are_formulas() -> None:
    figure = FIGURES["fit"](synthetic_result())
    figure.savefig(io.BytesIO(), format="png", dpi=30)
    ticks = [text for text in figure.findobj(Text) if text.get_text().startswith("$\\mathdefault{10^")]
    assert ticks
    assert all(text.get_parse_math() for text in ticks)
