"""A whole run of a map with pixels left out: rubbish that is masked does not matter, and outputs keep the grid."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bayesunmix.config.run_config import RunConfig
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import load, save
from bayesunmix.pipeline import run_image
from bayesunmix.results.result import Result, open_result
from bayesunmix.simulation.simulate import simulate_map

DECLARED = {
    "map": {"energy_range": [1.0, 12.0]},
    "sample": {"elements": ["Mg", "Si", "Ca", "Fe"], "stray": ["Cu"]},
    "instrument": {"beam_energy_keV": 200, "takeoff_angle_deg": 22},
    "phases": [
        {"name": "A", "composition": {"Mg": 0.5, "Si": 0.5}, "fraction": 0.6},
        {"name": "B", "absent": ["Mg"], "composition": {"Si": 0.5, "Ca": 0.4, "Fe": 0.1}, "fraction": 0.4},
    ],
    "inference": {"method": "laplace", "further_phase": False, "draws": 100, "chains": 1},
    "simulate": {"shape": [32, 32], "counts_per_pixel": 150},
}
# What the declaration leaves to defaults is said; that is not the point here.
pytestmark = pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")

# Rows from here on are rubbish: whole blocks, since the side of a block divides it.
CUT = 24


def configured(method: str = "laplace", **pixels: object) -> RunConfig:
    tables = {"map": {**DECLARED["map"], **pixels}, "inference": {**DECLARED["inference"], "method": method}}  # type: ignore[dict-item]
    return RunConfig.from_dict({**DECLARED, **tables})


@pytest.fixture(scope="module")
def clean() -> SpectrumImage:
    return dataclasses.replace(
        simulate_map(configured(), 3).image, origin=(10.0, 20.0), images={"HAADF": np.ones((32, 32))}
    )


@pytest.fixture(scope="module")
def spoilt(clean: SpectrumImage) -> SpectrumImage:
    counts = clean.counts.astype(np.uint16)
    # A hump in a corner that is wider than any line: neither a phase nor a stuck channel.
    hump = np.exp(-(((clean.energy_keV - 8.04) / 0.2) ** 2) / 2)
    counts[CUT:] = 0
    counts[CUT:, :8] = np.round(10 * hump)
    counts[-1, -1, 300] = 60_000
    return dataclasses.replace(clean, counts=counts)


@pytest.fixture(scope="module")
def cut(clean: SpectrumImage) -> Result:
    return run_image(clean[:CUT], configured(), None, progress=False)


@pytest.fixture(scope="module")
def masked(spoilt: SpectrumImage, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("masked") / "run"
    run_image(spoilt, configured(rows=[0, CUT]), folder, progress=False)
    return open_result(folder)


def test_what_is_left_out_does_not_matter(masked: Result, cut: Result) -> None:
    for name in ("composition", "phase_share"):
        one, other = (result.tree["posterior"][name].values for result in (masked, cut))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
    for name in ("abundance_mean", "pure_probability", "misfit"):
        one, other = (result.tree["maps"][name].values for result in (masked, cut))
        np.testing.assert_allclose(one[..., :CUT, :], other, rtol=1e-4, atol=1e-4)
    assert masked.record.fit.deviance_per_dof_total == pytest.approx(
        cut.record.fit.deviance_per_dof_total, rel=1e-6
    )
    assert masked.record.binning == cut.record.binning
    assert masked.record.heterogeneity.areas == cut.record.heterogeneity.areas


def test_outputs_keep_the_grid(masked: Result) -> None:
    maps = masked.tree["maps"].to_dataset()
    assert maps["label"].shape == (32, 32)
    assert (maps["label"].values[CUT:] == -1).all()
    assert (maps["label"].values[:CUT] >= 0).all()
    assert np.isnan(maps["abundance_mean"].values[:, CUT:]).all()
    assert np.isfinite(maps["abundance_mean"].values[:, :CUT]).all()
    assert maps["left_out"].values.sum() == 32 * (32 - CUT)
    assert not masked.flagged_mask()[CUT:].any()
    (entry,) = masked.record.map.left_out
    assert (entry.reason, entry.pixels) == (f"outside rows 0:{CUT}", 32 * (32 - CUT))
    assert masked.record.to_dict()["config"]["map"]["rows"] == [0, CUT]
    assert "nan" not in repr(masked)


def test_written_maps_keep_position_and_grid(masked: Result, tmp_path: Path) -> None:
    hs = pytest.importorskip("hyperspy.api")
    folder = masked.save(tmp_path / "again")
    signal = hs.load(str(folder / "abundances.hspy"))
    assert signal.data.shape == (4, 2, 32, 32)
    assert [axis.offset for axis in signal.axes_manager.signal_axes] == [20.0, 10.0]
    labels = hs.load(str(folder / "segmentation.hspy")).data[-1]
    assert (labels[CUT:] == -1).all()
    assert f"{32 * (32 - CUT)} outside rows 0:{CUT}" in (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.calibration
def test_flagged_places_are_left_out_in_one_step(spoilt: SpectrumImage, tmp_path: Path) -> None:
    """A run over everything flags the rubbish; the next leaves it out."""
    run_image(spoilt, configured("map"), tmp_path / "first", progress=False)
    first = open_result(tmp_path / "first")
    flagged = first.flagged_mask()
    assert flagged[CUT:].any()
    second = run_image(
        spoilt, configured("map", exclude_flagged=str(tmp_path / "first")), None, progress=False
    )
    np.testing.assert_array_equal(second.tree["maps"]["left_out"].values, flagged)
    assert second.record.map.left_out[0].pixels == flagged.sum()


def test_mask_and_position_survive_a_file(spoilt: SpectrumImage, tmp_path: Path) -> None:
    mask = np.zeros((32, 32), bool)
    mask[CUT:] = True
    image = spoilt.masked(mask)
    save(image, tmp_path / "map.hspy")
    again = load(tmp_path / "map.hspy")
    assert again.mask is not None
    np.testing.assert_array_equal(again.mask, mask)
    assert again.origin == image.origin
    assert again.count_hash() == image.count_hash()
