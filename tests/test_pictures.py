"""What pictures make of small shares, few counts, many phases and wide intervals, and what they take from a caller."""

from __future__ import annotations

import dataclasses
import itertools
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xarray as xr
from matplotlib.figure import Figure

import bayesunmix as bu
from bayesunmix.core.errors import InputError
from bayesunmix.core.rounding import interval_text
from bayesunmix.plot import FIGURES, ResultPlots
from bayesunmix.plot.fit import LEAST_EXPECTED, pooled_residuals
from bayesunmix.plot.forest import log_axis
from bayesunmix.plot.labels import prominence
from bayesunmix.plot.maps import maps_figure
from bayesunmix.plot.style import panel_figure
from bayesunmix.report import page as report

FloatArray = npt.NDArray[np.float64]
_PLOTS = runpy.run_path(str(Path(__file__).with_name("test_plot.py")))
synthetic_result: Callable[..., Any] = _PLOTS["synthetic_result"]


@pytest.fixture(scope="module")
def result() -> Any:  # noqa: ANN401 - the stand-in of test_plot
    return synthetic_result()


def small_share(most: float, shape: tuple[int, int] = (30, 40)) -> FloatArray:
    """Abundances (phase, y, x) of three phases, the last of which covers no more than `most` of a pixel."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape)
    last = most * np.exp(-((y - 0.3) ** 2 + (x - 0.4) ** 2) / 0.02)
    second = (1.0 - last) * np.exp(-((y - 0.4) ** 2 + (x - 0.8) ** 2) / 0.02)
    return np.stack([1.0 - last - second, second, last])


def test_a_phase_of_small_shares_has_a_scale_of_its_own() -> None:
    figure = FIGURES["maps"](synthetic_result(abundance=small_share(0.2)))
    tops = [
        axes.images[0].norm.vmax
        for axes in figure.axes
        if axes.images and axes.images[0].cmap.name == "viridis"
    ]
    assert tops[:2] == [1.0, 1.0]
    assert 0.15 < float(tops[2] or 0.0) < 0.35
    # Six maps, and a bar for each; with a shared scale the means have one.
    assert len(figure.axes) == 12
    shared = maps_figure(synthetic_result(abundance=small_share(0.2)), scale="shared")  # type: ignore[arg-type]
    assert len(shared.axes) == 10


def test_phases_that_are_nowhere_pure_are_named_in_place_of_an_empty_panel() -> None:
    figure = FIGURES["segmentation"](synthetic_result(abundance=small_share(0.2)))
    titles = {axes.get_title(loc="left") for axes in figure.axes}
    assert {"Pure Brg", "Pure Fp"} <= titles
    assert "Pure CaPv" not in titles
    assert any(
        "No pixel is told to be pure" in text.get_text() and "CaPv" in text.get_text()
        for text in figure.texts
    )
    nowhere = FIGURES["segmentation"](synthetic_result(abundance=np.full((3, 30, 40), 1.0 / 3.0)))
    assert not {axes.get_title(loc="left") for axes in nowhere.axes} & {"Pure Brg", "Pure Fp", "Pure CaPv"}


@pytest.mark.parametrize("phases", [2, 4, 6])
@pytest.mark.parametrize("shape", [(20, 60), (40, 40)])
def test_the_key_of_the_segmentation_covers_nothing(phases: int, shape: tuple[int, int]) -> None:
    figure = FIGURES["segmentation"](synthetic_result(phases=phases, shape=shape))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.texts]
    assert len(boxes) >= phases
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)


def test_residuals_of_few_counts_are_pooled_or_left_out(result: Any) -> None:  # noqa: ANN401
    rng = np.random.default_rng(1)
    expected = np.full(400, 0.4)
    pooled = pooled_residuals(rng.poisson(expected).astype(float), expected)
    assert pooled is not None
    ends = np.append(pooled.starts, 400)
    assert (np.add.reduceat(expected, pooled.starts) >= LEAST_EXPECTED).all()
    assert pooled.starts[0] == 0
    assert (np.diff(ends) >= 13).all()
    assert pooled_residuals(np.ones(400), np.full(400, 58.0 / 400)) is None
    assert pooled_residuals(np.zeros(400), np.zeros(400)) is None
    many = [
        pooled_residuals(rng.poisson(expected).astype(float), expected).values  # type: ignore[union-attr]
        for _ in range(200)
    ]
    # 200 times 30 residuals of variance 1: that of their mean square is (2 + 1 / 5.2) / 6000.
    assert np.mean(np.square(many)) == pytest.approx(1.0, abs=5.0 * np.sqrt(2.2 / np.size(many)))
    fit = result.tree["fit"].to_dataset()
    share = 58.0 / float(fit["segment_expected"][2].sum())
    fit["segment_expected"][2] *= share
    fit["segment_observed"] = fit["segment_observed"].astype(float)
    fit["segment_observed"][2] = rng.poisson(fit["segment_expected"][2])
    tree = result.tree.copy()
    tree["fit"] = xr.DataTree(fit)
    figure = FIGURES["fit"](dataclasses.replace(result, tree=tree))  # type: ignore[arg-type]
    assert len(figure.axes) == 1 + len(result.phases)
    said = [text.get_text() for text in figure.texts]
    assert any("Too few for residuals: pixels labelled CaPv" in text for text in said)


@pytest.mark.parametrize(
    ("points", "ends"),
    [
        ([1.0, 2.0], []),
        ([0.01, 100.0], []),
        ([1.0, 160.0], [80.0, 3e11]),
        ([1e-6, 1e3], []),
        ([0.7, 1.4], [0.5]),
    ],
)
def test_numbers_below_a_forest_plot_have_room(points: list[float], ends: list[float]) -> None:
    figure, (axes,) = panel_figure(40.0, 60.0)
    log_axis(axes, points, ends, width_mm=40.0)
    figure.draw_without_rendering()
    low, high = axes.get_xlim()
    assert low <= min(points)
    assert max(points) <= high <= 150.0 * max(points)
    inside = [
        label
        for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
        if low <= tick <= high and label.get_text()
    ]
    assert inside
    for left, right in itertools.pairwise(label.get_window_extent() for label in inside):
        assert left.x1 < right.x0


def test_pairs_of_many_phases_fit_a_page() -> None:
    figure = FIGURES["partition"](synthetic_result(phases=6))
    assert len(figure.axes) == 5
    assert {axes.get_title(loc="left") for axes in figure.axes} >= {"Fp / Brg", "CaPv / Brg"}
    assert figure.get_size_inches()[1] < 11.0
    assert figure.get_supxlabel() == "Of 15 pairs those over Brg; the others are in the tables."
    assert len(FIGURES["partition"](synthetic_result(phases=5)).axes) == 10


def test_figures_take_what_is_drawn(result: Any) -> None:  # noqa: ANN401
    plots = ResultPlots(result)  # type: ignore[arg-type]
    fit = plots.fit(energy_range=(5.0, 9.0), scale="linear", phases=["Fp"])
    assert fit.axes[0].get_xlim() == (5.0, 9.0)
    assert fit.axes[0].get_yscale() == "linear"
    assert len(fit.axes) == 3
    spectra = plots.spectra(phases="CaPv", energy_range=(1.0, 9.0), inset=(3.4, 4.2))
    assert [axes.get_xlim() for axes in spectra.axes] == [(1.0, 9.0), (3.4, 4.2)]
    assert len(plots.maps(phases=["CaPv", "Brg"], scale="own").axes) == 8
    into = Figure()
    axes = into.subplots()
    assert plots.compositions(phases=["Fp"], axes=axes) is into
    with pytest.raises(InputError, match="phases"):
        plots.maps(phases=["Fpp"])
    with pytest.raises(InputError, match="energy_range"):
        plots.spectra(energy_range=(9.0, 5.0))
    with pytest.raises(InputError, match="scale"):
        plots.fit(scale="logarithmic")


def test_a_peak_between_wide_bins_is_named() -> None:
    edges = 6.0 + 0.05 * np.arange(17)
    middle = (edges[:-1] + edges[1:]) / 2.0
    for shift in np.linspace(0.0, 0.05, 11):
        energy = 6.35 + shift
        shape = 1.0 + 50.0 * np.exp(-(((middle - energy) / 0.06) ** 2) / 2.0)
        assert prominence(middle, shape, energy) > 10.0


def test_an_end_far_beyond_its_value_is_known_by_its_size() -> None:
    assert interval_text(160.0, 80.0, 296547701820.0) == "160 [80, 3e+11]"
    assert interval_text(160.0, 80.0, 29654.0) == "160 [80, 29650]"


@pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")
def test_units_of_the_output_reach_print_report_and_figures(viewed_folder: Path) -> None:
    plain = bu.open_result(viewed_folder)
    config = plain.record.config
    output = config.output.model_copy(update={"units": ("at_frac", "oxide_wt_pct")})
    changed = config.model_copy(update={"output": output})
    result = plain.with_record(plain.record.model_copy(update={"config": changed}))
    row = result.summary("oxide_wt_pct").set_index(["phase", "oxide"]).loc["Brg", "MgO"]
    text = interval_text(row["mean"], row["lower"], row["upper"])
    printed = repr(result)
    assert re.search(rf"Mg \d.*\] +MgO +{re.escape(text)}\n", printed)
    assert "at%, oxide wt%, mean [95 % interval]" in printed
    assert "oxide wt%" not in repr(plain)
    assert "the figure `compositions_oxide_wt_pct`" in {step.what for step in report.picture_steps(result)}
    page = report._page(result, {})
    assert f'scope="row">MgO</th><td class="number">{text}</td>' in page
    assert 'data-figure="compositions_oxide_wt_pct"' in page
    assert "weight per cent of oxides" not in report._page(plain, {})
    labels = [
        label.get_text() for label in result.plot.compositions(unit="oxide_wt_pct").axes[0].get_yticklabels()
    ]
    assert "MgO" in labels
