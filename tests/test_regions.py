"""Regions, profiles, element maps and grains of a small run: what they add up to, and what is refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import map_coordinates

import bayesunmix as bu
from bayesunmix.analysis.profiles import interpolation, line_samples
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.core.output_folder import write_record
from bayesunmix.data.image import SpectrumImage
from bayesunmix.results.pixel_group import kept_draws, rounded
from bayesunmix.results.result import Result
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import simulate_map

pytestmark = pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")

SHAPE = (28, 24)


@pytest.fixture(scope="module")
def image() -> SpectrumImage:
    config = phantom_config()
    assert config.simulate is not None
    config = dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, shape=SHAPE))
    drawn = simulate_map(config, 2).image
    mask = np.zeros(SHAPE, bool)
    mask[:2, :3] = True
    picture = np.arange(float(np.prod(SHAPE))).reshape(SHAPE)
    return dataclasses.replace(drawn, images={"HAADF": picture}).masked(mask)


def run(image: SpectrumImage, **inference: Any) -> Result:  # noqa: ANN401
    return bu.unmix(
        image,
        elements=["Mg", "Al", "Si", "Ca", "Fe", "Nd"],
        stray=["Cu", "Ga", "Pt", "Zr"],
        phases=[bu.Phase("Brg", matrix=True), bu.Phase("Fp", absent=["Si", "Ca"])],
        method=bu.Laplace(chains=2, draws=40),
        inference={"further_phase": False, **inference},
        progress=False,
    )


@pytest.fixture(scope="module")
def result(image: SpectrumImage) -> Result:
    # What nobody declared stays in, so that all pixels are of the two phases.
    return run(image, set_aside=False, rotations=False, max_overlap=2, starts=1)


@pytest.fixture(scope="module")
def folder(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Without figures and tables, which take longer than the rest.
    path = tmp_path_factory.mktemp("regions")
    result.tree.to_netcdf(path / "posterior.nc", engine="h5netcdf")
    write_record(path, result.record.to_dict())
    return path


def test_a_region_adds_up(result: Result) -> None:
    found = result.region(np.s_[10:16, 4:12])
    assert found["abundance"].dims == ("chain", "draw", "phase")
    assert found["composition"].dims == ("chain", "draw", "element")
    assert found.attrs["pixels"] == 48
    for name, dim in (("abundance", "phase"), ("composition", "element"), ("atom_share", "phase")):
        np.testing.assert_allclose(found[name].sum(dim), 1.0, atol=1e-6)
    composition = result.composition().sel(chain=found["chain"], draw=found["draw"])
    by_hand = (found["abundance"] * composition).sum("phase")
    np.testing.assert_allclose(found["composition"].transpose(*by_hand.dims), by_hand, atol=1e-9)
    for unit in ("wt_pct", "oxide_wt_pct"):
        other = result.region(np.s_[10:16, 4:12], unit=unit)
        np.testing.assert_allclose(other["composition"].sum("element"), 100.0, rtol=1e-6)
        xr.testing.assert_equal(other["abundance"], found["abundance"])


def test_weight_per_cent_of_a_mixture_is_that_of_its_atoms(result: Result) -> None:
    """Converting the mixture is mixing what was converted, where no oxygen depends on the phase."""
    atoms = result.region("Brg")["composition"]
    weight = result.region("Brg", unit="wt_pct")["composition"]
    np.testing.assert_allclose(bu.convert(atoms, "wt_pct").transpose(*weight.dims), weight, rtol=1e-6)


def test_regions_are_reproducible_and_additive_with_the_maps_prior(result: Result) -> None:
    left, right, both = np.s_[8:14, 3:9], np.s_[8:14, 9:15], np.s_[8:14, 3:15]
    for prior in ("region", "map"):
        again = (result.region(both, prior=prior)["abundance"].values for _ in range(2))
        np.testing.assert_array_equal(*again)
    parts = [result.region(part, prior="map")["abundance"] for part in (left, right)]
    whole = result.region(both, prior="map")["abundance"]
    np.testing.assert_allclose(0.5 * (parts[0] + parts[1]), whole, atol=1e-12)


def test_one_pixel_is_that_of_the_maps(result: Result) -> None:
    mean = result.abundances()
    for at in ((12, 8), (20, 15)):
        mask = np.zeros(SHAPE, bool)
        mask[at] = True
        drawn = result.region(mask)["abundance"].sel(phase="Fp").values.ravel()
        expected, sd = (float(mean[name].sel(phase="Fp").values[at]) for name in ("mean", "sd"))
        assert abs(drawn.mean() - expected) < 5.0 * (sd + 0.01) / np.sqrt(len(drawn)) + 0.02


def test_the_whole_map_agrees_with_the_mean_of_the_maps(result: Result) -> None:
    drawn = result.region(np.ones(SHAPE, bool), prior="map")["abundance"]
    expected = result.abundances()["mean"].mean(["y", "x"])
    np.testing.assert_allclose(drawn.mean(["chain", "draw"]), expected, atol=0.01)


def test_masks_that_make_no_region_are_refused(result: Result) -> None:
    left_out = np.zeros(SHAPE, bool)
    left_out[0, 0] = True
    for mask, got in (
        (np.ones((5, 5), bool), "has the shape 5 x 5"),
        (np.zeros(SHAPE, bool), "holds none"),
        (left_out, "left out or have no counts"),
        (np.ones(SHAPE), "float64"),
        ("Garnet", "is 'Garnet'|\"Garnet\""),
        (3, "is 3"),
        (np.s_["a":"b"], "are|is"),
        (np.s_[10:29, 3:5], "`mask` must lie on the map, which has 28 rows, but is 10:29 there"),
        (np.s_[3:5, 10:40], "`mask` must lie on the map, which has 24 columns, but is 10:40 there"),
        (np.s_[-29:5], "`mask` must lie on the map, which has 28 rows, but is -29:5 there"),
        (np.s_[28:], "holds none"),
    ):
        with pytest.raises(InputError, match=got):
            result.region(mask)
    with pytest.raises(InputError, match="formula unit"):
        result.region("Brg", unit="apfu")
    with pytest.raises(InputError, match="`prior` must be"):
        result.region("Brg", prior="flat")


def test_a_line_is_sampled_as_linear_interpolation_has_it() -> None:
    values = np.random.default_rng(0).uniform(size=(20, 30))
    rows, columns = line_samples(np.array([2.5, 3.0]), np.array([16.0, 24.25]), 3)
    found = interpolation(rows, columns, np.ones(values.shape, bool)) @ values.ravel()
    expected = map_coordinates(values, [rows, columns], order=1).mean(axis=1)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert rows.shape == (int(np.ceil(np.hypot(13.5, 21.25))) + 1, 3)
    np.testing.assert_allclose((rows[0, 1], columns[0, 1]), (2.5, 3.0))
    np.testing.assert_allclose(np.hypot(np.diff(rows[0]), np.diff(columns[0])), 1.0)


def test_what_lies_off_the_map_leaves_its_share() -> None:
    used = np.ones((6, 6), bool)
    used[:, 2] = False
    rows, columns = line_samples(np.array([0.0, 0.0]), np.array([0.0, 5.0]), 3)
    shares = interpolation(rows, columns, used)
    np.testing.assert_allclose(shares.sum(axis=1), [1, 1, 0, 1, 1, 1])
    assert shares.toarray()[0, 0] == pytest.approx(0.5)  # a third of it is above the map


def test_a_profile_has_distances_and_draws(result: Result) -> None:
    found = result.profile((14, 2), (14, 20), width=3)
    assert found["abundance"].dims == ("chain", "draw", "position", "phase")
    assert found["composition"].dims == ("chain", "draw", "position", "element")
    np.testing.assert_allclose(found["distance"], 1.7 * np.arange(19))
    assert found["distance"].attrs["unit"] == "nm"
    np.testing.assert_allclose(found["abundance"].sum("phase"), 1.0, atol=1e-9)
    through = result.profile((0, 0), (0, 10))
    assert np.isnan(through["abundance"].isel(position=[0, 1, 2])).all()
    assert np.isfinite(through["abundance"].isel(position=slice(3, None))).all()
    for start, end, got in (
        ((0, 0), (0, 0), "differ"),
        ((0, 0), (40, 0), "lie on the map"),
        ((0, 0), 3, "a row and a column"),
        ((0, 0), (0, 1), "cross a pixel"),
    ):
        with pytest.raises(InputError, match=got):
            result.profile(start, end)


def test_element_maps_are_the_compositions_mixed(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    found = result.element_maps()
    assert set(found.data_vars) == {"mean", "sd", "lower", "upper"}
    assert found["mean"].dims == ("element", "y", "x")
    assert np.isnan(found["mean"].values[:, 0, 0]).all()
    used = np.isfinite(found["mean"].values[0])
    np.testing.assert_allclose(found["mean"].values[:, used].sum(axis=0), 1.0, atol=1e-5)
    assert (found["lower"] <= found["mean"] + 1e-6).where(np.isfinite(found["mean"]), True).all()
    by_hand = (result.abundances()["mean"] * result.composition().mean(["chain", "draw"])).sum("phase")
    difference = (found["mean"] - by_hand.transpose("element", "y", "x")).values[:, used]
    assert np.abs(difference).max() < 0.15
    assert np.abs(difference.mean(axis=1)).max() < 0.01
    monkeypatch.setattr("bayesunmix.analysis.element_maps.BATCH_BYTES", 1.0)
    xr.testing.assert_allclose(result.element_maps(), found, atol=1e-6)


def test_fractions_of_the_map_and_of_grains(result: Result) -> None:
    whole = result.phase_fractions()
    assert whole["mean"].sum() == pytest.approx(1.0, abs=1e-6)
    assert (whole["lower"] <= whole["mean"]).all()
    grains = result.phase_fractions("Fp", smallest=3, most=3)
    assert (grains["pixels"].diff().dropna() <= 0).all()
    np.testing.assert_allclose(grains["area"], grains["pixels"] * 1.7**2)
    with pytest.raises(InputError, match="have a grain"):
        result.phase_fractions("Fp", least=0.999)
    with pytest.raises(InputError, match="be one of"):
        result.phase_fractions("Garnet")


def test_an_opened_folder_draws_the_same(result: Result, folder: Path, image: SpectrumImage) -> None:
    opened, mask = bu.open_result(folder), np.s_[5:9, 5:9]
    with pytest.raises(InputError, match="was of no file"):
        opened.region(mask)
    changed = image.counts.copy()
    changed[9, 9] = changed[9, 9][::-1]
    other = dataclasses.replace(image, counts=changed)
    with pytest.raises(InputError, match="hold the counts that were unmixed"):
        opened.region(mask, image=other)
    with pytest.raises(InputError, match="28 x 24 pixels"):
        opened.region(mask, image=image[:10])
    for prior in ("map", "region"):
        found = [one.region(mask, prior=prior, image=image)["abundance"] for one in (opened, result)]
        np.testing.assert_array_equal(*found)


@pytest.mark.calibration
def test_a_map_of_a_file_is_found_again(image: SpectrumImage, tmp_path: Path) -> None:
    file = tmp_path / "map.hspy"
    image.to_signal().save(file)
    read = bu.load(file)
    assert read.file == str(file)
    assert (read[2:].file, read.rebin(2).file, read.sum().file) == ("", "", "")
    made = bu.unmix(
        read, elements=["Mg", "Si"], phases=1, method="map", progress=False, inference={"set_aside": False}
    )
    assert made.image is None
    assert made.record.map.file == str(file)
    made.save(tmp_path / "out")
    opened = bu.open_result(tmp_path / "out")
    np.testing.assert_allclose(opened.region(opened.phases[0])["abundance"], 1.0)
    file.unlink()
    with pytest.raises(InputError, match="is not there"):
        bu.open_result(tmp_path / "out").region(np.s_[:4, :4])


def test_slices_count_as_pythons_do(result: Result) -> None:
    for one, other in ((np.s_[-4:, :], np.s_[24:28, 0:24]), (np.s_[:3, -2:], np.s_[0:3, 22:24])):
        xr.testing.assert_identical(result.region(one), result.region(other))


def test_a_point_is_no_draw_of_a_place(result: Result) -> None:
    """A run by method "map" has one value of a region, which is no interval."""
    assert result.region(np.s_[5:9, 5:9]).attrs["kind"] == "draws"
    point = result.with_record(result.record.model_copy(update={"method": "map"}))
    asked = {"region": (np.s_[5:9, 5:9],), "profile": ((5, 5), (9, 9))}
    for name, place in asked.items():
        with pytest.warns(
            BayesUnmixWarning, match='Method "map" gives a single value of a place and no draws'
        ):
            assert getattr(point, name)(*place).attrs["kind"] == "point"


def test_a_map_that_is_not_there_is_named_by_its_argument(result: Result, folder: Path) -> None:
    with pytest.raises(InputError, match="`image` must be an existing file"):
        bu.open_result(folder).region("Brg", image="none.hspy")


def test_signals_expect_what_the_run_expected(result: Result) -> None:
    """The fits of all pixels add up to that of the sum spectrum, which is that of draws before they are widened."""
    signals, fit = result.to_hyperspy(), result.tree["fit"].dataset
    total = signals.fit.data.sum(axis=(0, 1)).compute()
    assert total.sum() == pytest.approx(float(fit["expected"].sum()), rel=1e-4)
    energy = result.endmembers()["energy"].values
    bins = np.digitize(energy, fit["energy_low"].values) - 1
    expected = fit["expected"].values
    assert np.max(np.abs(np.bincount(bins, total) - expected) / np.sqrt(expected + 1.0)) < 2.0
    assert not signals.residuals.data[:2, :3].compute().any()
    np.testing.assert_allclose(signals.abundances.data, result.abundances()["mean"].values)


def test_results_of_earlier_versions_say_what_to_do(result: Result) -> None:
    tree = xr.DataTree.from_dict(
        {name: result.tree[name].to_dataset() for name in result.tree.children if name != "pixels"}
    )
    with pytest.raises(InputError, match="Unmix the map again"):
        Result(tree, result.record).region("Brg")


@pytest.mark.calibration
def test_what_was_set_aside_keeps_its_share(image: SpectrumImage) -> None:
    result = run(image)
    stored = result.tree["pixels"]
    assert "place" in stored, "the third phase of the map is not set aside: choose another seed"
    inside = stored["place"].values >= 0
    drawn = result.region(inside, prior="map")["abundance"].mean(["chain", "draw"])
    expected = result.abundances()["mean"].values[:, inside].mean(axis=1)
    np.testing.assert_allclose(drawn, expected, atol=0.03)
    assert float(drawn.sum()) < 0.98


@pytest.mark.calibration
def test_neighbours_share_their_errors(image: SpectrumImage) -> None:
    result, region = run(image, spatial=True), np.s_[14:22, 10:20]
    joint = result.region(region, prior="map")["abundance"].sel(phase="Fp").values.ravel()
    maps = result.abundances()
    sd = maps["sd"].sel(phase="Fp").values[region]
    assert joint.std() > np.sqrt((sd**2).sum()) / sd.size
    assert joint.mean() == pytest.approx(float(maps["mean"].sel(phase="Fp").values[region].mean()), abs=0.02)
    assert result.profile((10, 2), (20, 20)).attrs["prior"] == "map"


def test_figures_are_drawn(result: Result) -> None:
    plot = result.plot
    maps = plot.element_maps(elements=["Si", "Fe"])
    assert maps.axes[0].get_title(loc="left") == "HAADF"
    line = result.profile((14, 2), (14, 20))
    assert len(plot.profile(line).axes) == 2
    assert len(plot.profile((14, 2), (14, 20), elements=[], phases=["Fp"]).axes) == 1
    assert len(plot.region_spectra({"a": np.s_[:5, 5:9], "b": "Brg"}, energy_range=(1.0, 8.0)).axes) == 2
    assert len(plot.integrated_spectra(inset=(6.0, 7.0)).axes) == 4
    for draw, got in (
        (lambda: plot.integrated_spectra(inset=(7.0, 6.0)), "inset"),
        (lambda: plot.profile((1, 1)), "`end`"),
        (lambda: plot.element_maps(elements=["Xe"]), "elements"),
        (lambda: plot.region_spectra({}), "masks"),
    ):
        with pytest.raises(InputError, match=got):
            draw()


def test_joint_draws_are_written_when_asked(result: Result, tmp_path: Path) -> None:
    from bayesunmix.report.pixel_draws import write_pixel_draws

    output = result.record.config.output.model_copy(update={"pixel_draws": True, "pixel_draws_number": 6})
    config = result.record.config.model_copy(update={"output": output})
    asked = result.with_record(result.record.model_copy(update={"config": config}))
    write_pixel_draws(asked, tmp_path)
    with xr.open_dataset(tmp_path / "pixel_draws.nc", engine="h5netcdf") as written:
        assert dict(written["abundance"].sizes) == {"chain": 2, "draw": 3, "phase": 2, "y": 28, "x": 24}
        region = result.region(np.s_[6:10, 6:10], prior="map")["abundance"]
        mean = written["abundance"][..., 6:10, 6:10].mean(["y", "x"])
        assert [str(name) for name in written["phase"].values] == result.phases
        np.testing.assert_allclose(mean, region.sel(draw=written["draw"]).values, atol=1e-5)


def test_the_examples_of_the_page_run(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "regions.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    monkeypatch.setitem(vars(bu), "open_result", lambda folder: result)
    for block in blocks:
        exec(block, {})


def test_what_is_stored_is_thinned_and_rounded() -> None:
    assert len(kept_draws(500, 2)) == 200
    np.testing.assert_array_equal(kept_draws(3, 2), [0, 1, 2])
    numbers = np.geomspace(1e-9, 1.0, 1000)
    assert np.abs(rounded(numbers) / numbers - 1.0).max() < 2.0**-13
