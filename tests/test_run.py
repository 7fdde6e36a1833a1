"""A small map of known truth through the whole job: numbers, files, and runs that are killed and go on."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import arviz_base
import arviz_stats
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from click.testing import CliRunner
from scipy import stats

import bayesunmix
from bayesunmix import Phase, open_result
from bayesunmix.analysis.shared_calibration import nominal_draws
from bayesunmix.cli import main
from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.xray import DEFAULT_ABSORPTION_SD
from bayesunmix.core.checkpoint import FOLDER
from bayesunmix.core.errors import InputError
from bayesunmix.core.output_folder import LEGACY_FILES
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import save
from bayesunmix.pipeline import run_image
from bayesunmix.report.page import report_html
from bayesunmix.results.result import Result
from bayesunmix.results.verdict import POINT_ESTIMATE
from bayesunmix.simulation.simulate import Truth, simulate_map

SEED = 1
ROWS, COLUMNS = 20, 26
PHASES, ELEMENTS = ["Brg", "Fp"], ["Mg", "Si", "Ca", "Fe"]

# Two phases, one of them pure in places; Ca is declared and in neither; Si is declared absent from the second.
TOML = """
[map]
energy_range = [0.9, 12.0]
[sample]
elements = ["Mg", "Si", "Ca", "Fe"]
stray = ["Cu"]
thickness_nm = [100.0, 30.0]
density_g_cm3 = [4.5, 0.3]
[instrument]
beam_energy_keV = 200.0
takeoff_angle_deg = 22.0
resolution_eV = 130.0
[[phases]]
name = "Brg"
matrix = true
stoichiometry = "ABO3"
composition = {Mg = 0.45, Si = 0.50, Fe = 0.05}
fraction = 0.7
[[phases]]
name = "Fp"
absent = ["Si"]
composition = {Mg = 0.8, Fe = 0.2}
fraction = 0.3
[inference]
method = "laplace"
chains = 2
draws = 200
level = 0.9
starts = 2
[simulate]
shape = [20, 26]
counts_per_pixel = 300.0
channels = 1200
stray = {Cu = 0.03}
"""

COMPOSITION = (
    "phase,element,unit,mean,sd,median,lower,upper,level,detected,decision_threshold,"
    "detection_limit,upper_bound,rhat,ess_bulk,ess_tail"
).split(",")
PARTITION = "element,numerator,denominator,mean,sd,median,lower,upper,level,kind,prob_above_1".split(",")


@dataclass(frozen=True)
class Run:
    """A finished run, its input and its truth."""

    folder: Path
    toml: Path
    map_file: Path
    config: RunConfig
    image: SpectrumImage
    truth: Truth
    result: Result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    toml, map_file, out = folder / "run.toml", folder / "map.hspy", folder / "out"
    toml.write_text(TOML)
    config = RunConfig.from_toml(toml)
    simulated = simulate_map(config, SEED)
    # Pixels that are not square, and a picture of another size, as vendors' files have.
    picture = np.arange(12.0).reshape(3, 4)
    image = dataclasses.replace(simulated.image, pixel_size=(1.7, 2.3), images={"HAADF 1": picture})
    save(dataclasses.replace(image, images={}), map_file)
    result = run_image(image, config, out, seed=SEED, progress=False)
    return Run(out, toml, map_file, config, image, simulated.truth, result)


@pytest.fixture(scope="module")
def hyperspy() -> Any:  # noqa: ANN401 - HyperSpy ships no types
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exspy
        import hyperspy.api as hs
    assert exspy is not None
    return hs


# -- numbers ----------------------------------------------------------------------------------------------------------


def test_a_map_that_fits_says_so(run: Run) -> None:
    maps = run.result.tree["maps"].dataset
    assert maps["misfit"].dims == ("y", "x")
    search = run.result.record.unmodelled_regions
    assert 0 <= search.largest == pytest.approx(float(maps["misfit"].max()), rel=1e-5)
    assert search.false_alarm == 0.01
    assert search.regions == ()
    assert run.result.record.heterogeneity.widened is False
    assert "homogeneous" in run.result.record.heterogeneity.reason
    assert (run.folder / "figures" / "misfit.png").is_file()
    report = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "There are no regions that no mixture of the phases explains" in report


def test_the_response_has_a_posterior(run: Run) -> None:
    """The map was drawn with a straight axis and no tail: the open line shapes hold that, and say how well."""
    record = run.result.record
    shapes, fitted = record.line_shapes, record.response.standard_errors
    assert 3 <= shapes.directions <= 60
    assert set(shapes.response) == set(fitted)
    for name in ("bend_eV_2_keV", "bend_eV_4_keV", "bend_eV_8_keV"):
        found = shapes.response[name]
        assert abs(found.mean) < 5.0 * max(found.sd, 0.5)
    noise = shapes.response["noise_eV"]
    assert 0.2 * fitted["noise_eV"] < noise.sd < 2.0 * fitted["noise_eV"]


def test_the_factors_that_were_drawn_in_are_kept(run: Run) -> None:
    """Without its factors a composition no longer follows them; with them it does."""
    groups = run.result.tree["posterior"].to_dataset()
    constants = run.result.tree["constant_data"].to_dataset()
    assert constants["calibration_family"].values.tolist() == ["K"] * 4
    factors = groups["log_calibration"].values.reshape(-1, 4)
    np.testing.assert_allclose(factors.std(axis=0), constants["calibration_sd"], rtol=0.1)
    drawn = groups["composition"].values.reshape(-1, 2, 4)
    # Iron over magnesium in ferropericlase against the difference of their factors.
    difference = factors[:, 0] - factors[:, 3]
    for amounts, slope in ((drawn, 1.0), (nominal_draws(run.result), 0.0)):
        ratio = np.log(amounts[:, 1, 3] / amounts[:, 1, 0])
        fitted, covariance = np.polyfit(difference, ratio, 1, cov=True)
        assert fitted[0] == pytest.approx(slope, abs=4 * np.sqrt(covariance[0, 0]))


def test_compositions_hold_the_truth(run: Run) -> None:
    x = run.result.composition()
    assert x.dims == ("chain", "draw", "phase", "element")
    assert x.shape == (2, 200, 2, 4)
    np.testing.assert_allclose(x.sum("element"), 1.0, rtol=1e-9)
    counting = run.result.tree["posterior"]["composition_counting"]
    mean, sd = counting.mean(["chain", "draw"]), counting.std(["chain", "draw"])
    for k, phase in enumerate(PHASES):
        for i, element in enumerate(["Mg", "Si", "Fe"]):
            place = {"phase": phase, "element": element}
            true = run.truth.composition[k, run.truth.elements.index(element)]
            # Line strengths are nominal here: counting alone explains the distance; four deviations, and the prior
            # of the film's thickness, which the simulation takes at its mean, adds nothing.
            assert abs(float(mean.sel(place)) - true) <= 4 * float(sd.sel(place)) + 1e-9, (phase, element, i)
            assert float(sd.sel(place)) < 0.03


def test_calibration_errors_widen_compositions_and_not_their_ratios(run: Run) -> None:
    groups = run.result.tree["posterior"]
    with_errors, without = groups["composition"], groups["composition_counting"]
    for phase in PHASES:
        spread = [
            np.log(draws.sel(phase=phase, element="Fe")).std().item() for draws in (with_errors, without)
        ]
        # 5 % of the K line's strength, less the share of iron in the sum, beside counting.
        extra = np.sqrt(spread[0] ** 2 - spread[1] ** 2)
        assert 0.03 < extra < 0.075
    ratios = [
        np.log(draws.sel(phase="Brg", element="Fe") / draws.sel(phase="Fp", element="Fe")).std().item()
        for draws in (with_errors, without)
    ]
    # What normalisation brings back: the factors times the difference of the two compositions.
    first, second = (run.result.tree["posterior"]["composition_counting"].sel(phase=name) for name in PHASES)
    expected = 0.05 * np.sqrt(((first - second).mean(["chain", "draw"]) ** 2).sum().item())
    # A difference of variances over 400 draws is good to a fifth.
    assert np.sqrt(ratios[0] ** 2 - ratios[1] ** 2) == pytest.approx(expected, rel=0.2)
    assert run.result.partition("Brg", "Fp").sel(element="Fe").median() == pytest.approx(0.25, rel=0.12)


def test_what_is_there_is_detected_and_nothing_else(run: Run) -> None:
    states = run.result.summary().set_index(["phase", "element"])["detected"].to_dict()
    assert states == {
        ("Brg", "Mg"): "true",
        ("Brg", "Si"): "true",
        ("Brg", "Ca"): "false",
        ("Brg", "Fe"): "true",
        ("Fp", "Mg"): "true",
        ("Fp", "Si"): "declared_absent",
        ("Fp", "Ca"): "false",
        ("Fp", "Fe"): "true",
    }


def test_maps_are_the_right_way_round(run: Run) -> None:
    truth = np.moveaxis(run.truth.abundances, -1, 0)
    found = run.result.abundances()
    assert found["mean"].shape == (2, ROWS, COLUMNS)
    error = found["mean"].values - truth
    assert np.sqrt((error**2).mean()) < 0.12
    assert np.corrcoef(found["mean"].values[1].ravel(), truth[1].ravel())[0, 1] > 0.9
    inside = (found["lower"].values[0] <= truth[0] + 1e-6) & (truth[0] - 1e-6 <= found["upper"].values[0])
    # Four binomial errors of 520 pixels; neighbours share the endmembers' error, so a little more.
    assert inside.mean() > 0.9 - 4 * np.sqrt(0.9 * 0.1 / inside.size) - 0.02
    maps = run.result.tree["maps"]
    np.testing.assert_array_equal(maps["label"], found["mean"].argmax("phase"))
    assert maps["image_HAADF_1"].dims == ("y2_HAADF_1", "x2_HAADF_1")
    pure = maps["pure_probability"].sel(phase="Brg").values
    assert pure[truth[0] == 1.0].mean() > 0.8
    assert pure[truth[0] < 0.5].max() < 0.05


def test_endmembers_are_the_true_spectra(run: Run) -> None:
    spectra = run.result.tree["endmembers"].to_dataset()
    np.testing.assert_allclose(spectra["energy"], run.image.energy_keV)
    fitted = (run.image.energy_keV > 0.9) & (run.image.energy_keV < 12.0)
    assert np.isnan(spectra["mean"].values[:, ~fitted]).all()
    for k in range(2):
        mean, low, high = (spectra[name].values[k, fitted] for name in ("mean", "lower", "upper"))
        assert mean.sum() == pytest.approx(1.0, rel=1e-6)
        truth = run.truth.endmembers[k, fitted] / run.truth.endmembers[k, fitted].sum()
        # Hellinger distance; about 150 000 counts in 141 bins alone would give 0.015.
        assert np.sqrt(0.5 * ((np.sqrt(mean) - np.sqrt(truth)) ** 2).sum()) < 0.03
        assert (low <= mean + 1e-12).all()
        assert (mean <= high + 1e-12).all()


def test_the_fit_accounts_for_every_count(run: Run) -> None:
    fit = run.result.tree["fit"].to_dataset()
    inside = (run.image.energy_keV >= 0.9) & (run.image.energy_keV <= 12.0)
    counts = run.image.counts[:, :, inside].sum()
    assert float(fit["observed"].sum()) == counts
    # Segments hold one half of the thinned counts.
    assert float(fit["segment_observed"].sum()) == pytest.approx(counts / 2, abs=5.0 * np.sqrt(counts / 4))
    np.testing.assert_allclose(fit["expected_by_phase"].sum("phase"), fit["expected"])
    assert float(fit["expected"].sum()) == pytest.approx(counts, rel=1e-4)
    assert run.result.tree["constant_data"]["total_counts"].shape == (ROWS, COLUMNS)
    dof = fit.sizes["energy_bin"]
    goodness = run.result.record.fit
    # A right model has one unit of deviance a degree of freedom; fitted shapes may take some away.
    assert 0.4 < goodness.deviance_per_dof_total < 1 + 4 * np.sqrt(2 / dof)
    assert 0.4 < goodness.deviance_per_dof_segments < 1 + 4 * np.sqrt(1 / dof) + 0.2


def test_compositions_come_in_units(run: Run) -> None:
    np.testing.assert_allclose(run.result.composition("wt_pct").sum("element"), 100.0)
    apfu = run.result.composition("apfu").mean(["chain", "draw"]).sel(phase="Brg")
    assert float(apfu.sum("element")) == pytest.approx(
        2.0, abs=0.1
    )  # a perovskite: two cations, three oxygens


def test_the_run_is_to_be_trusted(run: Run) -> None:
    assert run.result.problems == ()
    diagnostics = run.result.record.diagnostics
    assert diagnostics.mode_converged is True
    assert diagnostics.whitened_gradient_norm < 0.1
    assert diagnostics.rhat_max < 1.02  # independent draws


# -- files ------------------------------------------------------------------------------------------------------------


def test_every_file_is_there(run: Run) -> None:
    written = {path.name for path in run.folder.iterdir()}
    outputs = {name.split("/")[0] for name in LEGACY_FILES}
    units = {name for name in outputs if name.startswith("composition_")}
    assert written == outputs - {"truth.csv", "mass_thickness.hspy", *units} | {"run.log", "names.csv"}
    files = [p.relative_to(run.folder).as_posix() for p in run.folder.rglob("*") if p.is_file()]
    # What was said in a folder is kept from run to run.
    files.remove("run.log")
    record = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert record["files"] == sorted(files)
    assert record["depends_on"]["counts"] == record["hash"]
    assert any((run.folder / "figures").glob("*.png"))
    assert "<html" in (run.folder / "report.html").read_text(encoding="utf-8").lower()


def test_tables_of_the_contract(run: Run) -> None:
    composition = pd.read_csv(run.folder / "composition.csv", dtype={"detected": str})
    assert list(composition) == COMPOSITION
    assert list(zip(composition["phase"], composition["element"], strict=True)) == [
        (phase, element) for phase in PHASES for element in ELEMENTS
    ]
    assert set(composition["unit"]) == {"at_frac"}
    assert set(composition["level"]) == {0.9}
    pd.testing.assert_frame_equal(composition, run.result.summary(), check_dtype=False)
    partition = pd.read_csv(run.folder / "partition.csv").fillna({"reason": ""})
    assert list(partition)[: len(PARTITION)] == PARTITION
    assert len(partition) == 2 * len(ELEMENTS)
    pd.testing.assert_frame_equal(partition, run.result.tables.partition(), check_dtype=False)


def test_the_uncertainty_budget_adds_up_to_the_intervals(run: Run) -> None:
    table = run.result.tables.uncertainty_budget()
    pd.testing.assert_frame_equal(
        pd.read_csv(run.folder / "uncertainty_budget.csv", keep_default_na=False), table, check_dtype=False
    )
    shares = table.filter(like="share_")
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares >= 0.0).all(axis=None)
    summary = run.result.summary().set_index(["phase", "element"])
    for row in table[table.quantity == "composition"].itertuples():
        # Sources of different kinds are independent; the linear scale is off by a few per cent.
        assert row.sd == pytest.approx(summary.loc[(row.phase, row.element), "sd"], rel=0.15)
    ratio = table[(table.quantity == "partition") & (table.element == "Fe")].iloc[0]
    whole = table[(table.quantity == "composition") & (table.element == "Fe")].iloc[0]
    # The factor of iron itself cancels in the ratio; those of the other elements move the sums.
    of_ratio, of_whole = (
        ratio.share_calibration * ratio.sd**2,
        whole.share_calibration * (whole.sd / whole.value) ** 2,
    )
    assert 0.0 < of_ratio < 0.5 * of_whole
    assert (run.folder / "figures" / "budget.png").is_file()


def test_a_composition_names_the_declaration_that_pins_it(run: Run) -> None:
    found = run.result.tables.identifiability().set_index(["phase", "element"])
    assert set(found.index) == {(p, e) for p in PHASES for e in ELEMENTS} - {("Fp", "Si")}
    assert found.loc[("Fp", "Mg"), "pinned_by"] == 'Fp: absent = ["Si"]'
    assert found.loc[("Fp", "Mg"), "sd_without"] > 1.2 * found.loc[("Fp", "Mg"), "sd"]
    assert (found["flat_sd"] <= found["sd"] * 1.0001).all()
    record = json.loads((run.folder / "run.json").read_text())["identifiability"]
    assert record["declarations"][0]["declaration"] == 'absent = ["Si"]'
    page = (run.folder / "report.html").read_text()
    assert 'id="identifiability"' in page
    assert "Maxima of the posterior found from" in page


def test_maps_open_in_hyperspy(run: Run, hyperspy: Any) -> None:  # noqa: ANN401
    abundances = hyperspy.load(run.folder / "abundances.hspy")
    assert type(abundances).__name__ == "Signal2D"
    maps = run.result.abundances()
    for i, name in enumerate(("mean", "sd", "lower", "upper")):
        np.testing.assert_allclose(abundances.data[i], maps[name], atol=1e-6)
    assert {axis.name for axis in abundances.axes_manager.navigation_axes} == {"statistic", "phase"}
    axes = {axis.name: (axis.size, axis.scale, axis.units) for axis in abundances.axes_manager.signal_axes}
    assert axes == {"y": (ROWS, 1.7, "nm"), "x": (COLUMNS, 2.3, "nm")}
    # What HyperSpy shows at statistic 1, phase 1 is the sd of the second phase.
    np.testing.assert_allclose(abundances.inav[1, 1].data, maps["sd"].values[1], atol=1e-6)
    segmentation = hyperspy.load(run.folder / "segmentation.hspy")
    tree = run.result.tree["maps"]
    np.testing.assert_allclose(segmentation.data[:2], tree["pure_probability"], atol=1e-6)
    np.testing.assert_array_equal(segmentation.data[2], tree["label"])


def test_spectra_open_in_hyperspy(run: Run, hyperspy: Any) -> None:  # noqa: ANN401
    endmembers = hyperspy.load(run.folder / "endmembers.hspy")
    assert type(endmembers).__name__ == "Signal1D"
    (energy,) = endmembers.axes_manager.signal_axes
    assert (energy.name, energy.units) == ("Energy", "keV")
    np.testing.assert_allclose(energy.axis, run.image.energy_keV, rtol=1e-9)
    tree = run.result.tree["endmembers"].to_dataset()
    for i, name in enumerate(("mean", "lower", "upper")):
        np.testing.assert_allclose(endmembers.data[i], tree[name], atol=1e-7)


def test_posterior_opens_in_xarray_and_arviz(run: Run) -> None:
    with xr.open_datatree(run.folder / "posterior.nc") as tree:
        assert {"posterior", "sample_stats", "constant_data"} <= set(tree.children)
        draws = tree["posterior"].to_dataset().load()
        assert {"chain", "draw", "phase", "element"} <= set(draws.sizes)
        assert "energy" in tree["endmembers"].sizes
        pooled = arviz_base.extract(tree, var_names=["composition"])
    assert pooled.sizes == {"phase": 2, "element": 4, "sample": 400}
    xr.testing.assert_equal(draws["composition"], run.result.composition().drop_attrs())
    assert list(draws["phase"].values) == PHASES


def test_all_that_was_observed_is_predicted(run: Run) -> None:
    """ArviZ's posterior predictive plots take every variable of the one group from the other."""
    tree = run.result.posterior
    observed, predicted = tree["observed_data"].to_dataset(), tree["posterior_predictive"].to_dataset()
    assert set(observed.data_vars) == set(predicted.data_vars) == {"sum_spectrum"}
    assert observed["sum_spectrum"].dims == ("energy",)
    areas = tree["areas"]["counts"]
    np.testing.assert_array_equal(areas.sum("block"), observed["sum_spectrum"])
    assert areas.sizes["block"] == tree["log_likelihood"].sizes["block"]


def test_arviz_summarises_the_posterior(run: Run) -> None:
    pytest.importorskip("xarray_einstats", reason="comes with arviz-stats[xarray]")
    import arviz_stats

    # A phase with all its elements: ArviZ warns of quantities that do not vary.
    table = arviz_stats.summary(
        run.result.posterior, var_names=["composition"], coords={"phase": ["Brg"]}, round_to="none"
    )
    expected = run.result.summary().query("phase == 'Brg'")
    for ours, theirs in (("mean", "mean"), ("sd", "sd"), ("ess_bulk", "ess_bulk"), ("rhat", "r_hat")):
        np.testing.assert_allclose(table[theirs].astype(float), expected[ours], rtol=5e-3)


def test_record_of_the_run(run: Run) -> None:
    record = json.loads((run.folder / "run.json").read_text())
    keys = "version versions seed method config timings diagnostics warnings binning response starts fit hash"
    assert set(keys.split()) | {"format", "verdict", "findings", "resumed"} <= set(record)
    assert record["version"] == metadata.version("bayesunmix")
    assert {"jax", "numpyro", "numpy"} <= set(record["versions"])
    assert (record["seed"], record["method"]) == (SEED, "laplace")
    assert RunConfig.from_dict(record["config"]) == run.config
    assert list(record["timings"]) == [
        "starts",
        "mode",
        "misfit",
        "further_phase",
        "draws",
        "tile_likelihood",
        "heterogeneity",
        "discrepancy",
        "rotations",
        "pixels",
    ]
    assert all(seconds > 0 for seconds in record["timings"].values())
    costs = record["costs"]
    assert list(costs) == ["preparation", *record["timings"], "result", "files"]
    assert all(cost["seconds"] >= record["timings"].get(name, 0.0) for name, cost in costs.items())
    assert sum(cost["processor_s"] for cost in costs.values()) > 0.0
    peaks = [cost["peak_bytes"] for cost in costs.values()]
    # The system counts pages core by core, and adds the cores up now and then.
    assert np.all(np.diff(peaks) > -1e7)
    assert peaks[0] > 5e7
    assert record["binning"]["blocks"] == ROWS * COLUMNS
    assert record["map"]["shape"][:2] == [ROWS, COLUMNS]
    assert record["warnings"] == []
    assert (record["verdict"], record["findings"]) == ("good", [])
    assert record["photons"].keys() == {"Brg", "Fp"}
    assert sum(record["photons"].values()) == pytest.approx(run.image.counts.sum(), rel=0.2)
    assert record["starts"][0]["objective"] == 0.0
    # The simulated detector's axis, which the run has to find.
    assert record["response"]["gain"] == pytest.approx(0.9985, abs=5e-4)
    scan = record["fit"]["residuals"]
    regions = scan["regions"]
    assert scan["threshold_sigma"] == 4.0
    assert all(abs(region["sigma"]) > 4.0 and region["cause"] for region in regions)
    # The model is right: accidents alone.
    assert len(regions) <= stats.poisson.isf(1e-4, scan["regions_expected_of_noise"]) + 1
    assert record["film"]["absorption_coefficient_relative_sd"] == DEFAULT_ABSORPTION_SD
    depth_sd = np.sqrt(0.3**2 + (0.3 / 4.5) ** 2 + DEFAULT_ABSORPTION_SD**2)
    assert record["film"]["absorption_depth_relative_sd"] == pytest.approx(depth_sd)


def test_a_folder_opens_again(run: Run) -> None:
    again = open_result(run.folder)
    assert again.phases == PHASES
    assert again.elements == ELEMENTS
    for group in run.result.tree.children:
        xr.testing.assert_equal(again.tree[group].to_dataset(), run.result.tree[group].to_dataset())
    pd.testing.assert_frame_equal(again.summary(), run.result.summary())
    pd.testing.assert_frame_equal(again.tables.partition(), run.result.tables.partition())
    assert again.level == 0.9
    assert again.problems == run.result.problems


def test_a_result_is_saved_elsewhere(run: Run, tmp_path: Path) -> None:
    run.result.save(tmp_path / "copy")
    assert (tmp_path / "copy" / "composition.csv").read_bytes() == (
        run.folder / "composition.csv"
    ).read_bytes()
    with pytest.raises(InputError, match=r"`folder` must be a new or empty folder"):
        run.result.save(tmp_path / "copy")
    with pytest.raises(InputError, match=r"`--out` must be a new or empty folder"):
        run_image(run.image, run.config, run.folder, progress=False)


# -- other ways to run ------------------------------------------------------------------------------------------------


def test_python_gives_the_same_numbers(run: Run) -> None:
    """The same seed and declarations through `bayesunmix.unmix`, without files."""
    config = run.config
    result = bayesunmix.unmix(
        run.image,
        elements=ELEMENTS,
        phases=[Phase("Brg", matrix=True, stoichiometry="ABO3"), Phase("Fp", absent=["Si"])],
        stray=["Cu"],
        method="laplace",
        seed=SEED,
        progress=False,
        map={"energy_range": [0.9, 12.0]},
        sample={"thickness_nm": [100.0, 30.0], "density_g_cm3": [4.5, 0.3]},
        instrument=dataclasses.asdict(config.instrument),
        inference={"draws": 200, "level": 0.9, "starts": 2},
    )
    xr.testing.assert_equal(result.composition(), run.result.composition())
    xr.testing.assert_equal(result.abundances(), run.result.abundances())
    pd.testing.assert_frame_equal(result.summary(), run.result.summary())


def _wait_for(path: Path, process: subprocess.Popen[bytes], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end, "the run did not get so far"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def killed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Folder of a NUTS run that was killed while it drew, and the arguments that started it."""
    folder = tmp_path_factory.mktemp("killed")
    toml, out = folder / "run.toml", folder / "out"
    short = {"draws = 200": "draws = 60", 'method = "laplace"': 'method = "nuts"'}
    text = TOML
    for old, new in short.items():
        text = text.replace(old, new)
    toml.write_text(text)
    arguments = ["unmix", str(run.map_file), "--config", str(toml), "--out", str(out), "--seed", str(SEED)]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "bayesunmix", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(out / FOLDER / "mode.npz", process, 300)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return out, arguments


@pytest.mark.calibration
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no such signal here")
def test_a_killed_run_goes_on(killed: tuple[Path, list[str]], run: Run) -> None:
    out, arguments = killed
    spent = {}
    for name in ("starts", "mode"):
        with np.load(out / FOLDER / f"{name}.npz", allow_pickle=False) as stored:
            spent[name] = json.loads(stored["about"].tobytes())["seconds"]
    assert not (out / "run.json").exists()

    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "--resume" in refused.stderr

    finished = CliRunner().invoke(main, [*arguments, "--resume"])
    # So few draws may well be told apart from enough: 3 says so.
    assert finished.exit_code in (0, 3), finished.stderr
    record = json.loads((out / "run.json").read_text())
    assert record["resumed"] == ["starts", "mode"]
    # Done once: the time that is told is that of the run that was killed.
    assert {name: record["timings"][name] for name in spent} == spent
    assert not (out / FOLDER).exists()
    assert set(os.listdir(out)) == {path.name for path in run.folder.iterdir()}

    nuts = open_result(out)
    statistics = nuts.tree["sample_stats"].to_dataset()
    names = {"lp", "diverging", "n_steps", "acceptance_rate", "energy", "step_size"}
    assert names <= set(statistics.data_vars)
    assert all(statistics[name].shape == (2, 60) for name in names)
    assert int(statistics["diverging"].sum()) == record["diagnostics"]["divergences"]
    assert (statistics["n_steps"] >= 1).all()
    # ArviZ's energies: those of the draws change as much as their momenta let them.
    assert (arviz_stats.bfmi(nuts.posterior)["energy"] > 0.3).all()
    # Two engines, one posterior: means agree within the Monte Carlo error of 120 draws, and the bias of Laplace.
    for phase, element in (("Brg", "Fe"), ("Brg", "Si"), ("Fp", "Fe")):
        values = [
            r.tree["posterior"]["composition_counting"].sel(phase=phase, element=element).values.ravel()
            for r in (nuts, run.result)
        ]
        error = values[1].std() * (1 / np.sqrt(40) + 0.25)
        assert abs(values[0].mean() - values[1].mean()) < 4 * error
        assert 0.5 < values[0].std() / values[1].std() < 2.0
    assert (nuts.problems == ()) == (finished.exit_code == 0)


def test_a_point_estimate_has_no_intervals(run: Run) -> None:
    config = dataclasses.replace(
        run.config, inference=dataclasses.replace(run.config.inference, method="map", starts=1)
    )
    result = run_image(run.image, config, None, seed=SEED, progress=False)
    table = result.summary().set_index(["phase", "element"])
    assert result.composition().shape == (1, 1, 2, 4)
    assert table["lower"].drop(("Fp", "Si")).isna().all()
    laplace = run.result.summary().set_index(["phase", "element"])
    for index in (("Brg", "Mg"), ("Brg", "Si"), ("Fp", "Fe")):
        assert table.loc[index, "mean"] == pytest.approx(
            laplace.loc[index, "mean"], abs=3 * laplace.loc[index, "sd"]
        )
    assert table.loc[("Fp", "Si"), "detected"] == "declared_absent"
    assert set(table["detected"].drop(("Fp", "Si"))) == {""}
    assert "interval" not in set(result.tables.partition()["kind"])
    assert result.verdict.level == "reservations"
    assert result.verdict.findings[0].text == POINT_ESTIMATE
    assert not result.problems
    page = report_html(result)
    assert "not tested for detection" in page
    assert "R-hat" not in page
