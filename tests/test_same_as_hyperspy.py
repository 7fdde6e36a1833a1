import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

RNG = np.random.default_rng(5)
FORMATS = ("hspy", "rpl", *(() if sys.version_info >= (3, 14) else ("zspy",)))


def eds_signal(counts: np.ndarray[Any, Any], kind: str = "EDSTEMSpectrum", **facts: float) -> Any:  # noqa: ANN401
    """Return counts as exSpy's signal, with axes that have offsets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import exspy.signals

        signal = getattr(exspy.signals, kind)(counts)
    for number, axis in enumerate(signal.axes_manager.navigation_axes):
        axis.scale, axis.offset, axis.units, axis.name = 1.5 + number, 10.0 * number - 3.0, "nm", "xy"[number]
    energy = signal.axes_manager[-1]
    energy.scale, energy.offset, energy.units, energy.name = 0.01, -0.2, "keV", "Energy"
    signal.set_microscope_parameters(**facts)
    signal.metadata.set_item("Sample.elements", ["Fe", "Pt"])
    signal.metadata.General.title = "map"
    return signal


@pytest.fixture
def check(load: Callable[[str], ModuleType]) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return load("same_as_hyperspy")


def test_what_hyperspy_writes_loads_as_in_hyperspy(tmp_path: Path, check: ModuleType) -> None:
    facts = {"beam_energy": 200.0, "elevation_angle": 18.0, "azimuth_angle": 45.0, "tilt_stage": 10.0}
    grid = eds_signal(RNG.poisson(0.4, (4, 5, 60)).astype(np.uint16), **facts)
    sem = eds_signal(
        RNG.poisson(9.0, 60).astype(np.float32), "EDSSEMSpectrum", beam_energy=15.0, live_time=7.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for extension in FORMATS:
            grid.save(tmp_path / f"map.{extension}")
        sem.save(tmp_path / "spectrum.msa")
        sem.save(tmp_path / "spectrum.hspy")
        grid.inav[2].save(tmp_path / "line.hspy")
        # Photons over no axis of energy, and numbers that are no photons.
        grid.T.save(tmp_path / "pictures.hspy")
        eds_signal(RNG.normal(size=(2, 2, 60)), beam_energy=200.0).save(tmp_path / "scores.hspy")
        found = list(check.compare_folder(tmp_path))
    assert [one for one in found if one.differences] == []
    compared = {one.file.name for one in found if not one.refused}
    assert compared >= {"map.hspy", "map.rpl", "spectrum.msa", "spectrum.hspy", "line.hspy"}
    assert {one.file.name: one.refused for one in found if one.refused} == {
        "scores.hspy": "negative or fractional"
    }


def test_a_difference_is_found(tmp_path: Path, check: ModuleType) -> None:
    signal = eds_signal(RNG.poisson(0.4, (4, 5, 60)), beam_energy=200.0, elevation_angle=18.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from bayesunmix.data.image import SpectrumImage

        image = SpectrumImage.from_signal(signal)
        assert list(check.differences(image, signal)) == []
        signal.axes_manager[0].offset += 1.0
        signal.metadata.Acquisition_instrument.TEM.Detector.EDS.elevation_angle = 20.0
        signal.data[0, 0, 0] += 1
    said = " ".join(check.differences(image, signal))
    assert all(word in said for word in ("sum of counts", "position", "elevation_deg"))


@pytest.mark.calibration
def test_vendor_files_load_as_in_hyperspy(shared_data: Path, check: ModuleType) -> None:
    cases = shared_data.parent / "cases" / "files"
    folders = [folder for folder in sorted(cases.glob("*")) if folder.name != "damaged"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [one for folder in (*folders, shared_data / "vendor") for one in check.compare_folder(folder)]
    assert [(one.file.name, one.differences) for one in found if one.differences] == []
    assert len(found) > 1
