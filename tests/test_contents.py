"""What `inspect` says of files that hold no map as it is, or several signals."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bayesunmix as bu
from bayesunmix.cli import main
from bayesunmix.core.errors import BayesUnmixWarning, InputError
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.contents import Held, contents
from bayesunmix.data.image import SpectrumImage
from bayesunmix.inspection import axis_guess
from bayesunmix.inspection.axis_guess import GuessedAxis, guess_axis
from bayesunmix.inspection.description import inspect_map
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import simulate_map

# HyperSpy ships no types.
Untyped = Any
COUNTS = np.random.default_rng(3).poisson(0.4, (3, 4, 60))
COUNTS[0, 0, 0] = 1


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stored(path: Path, data: Untyped, units: str | None = None, scale: float = 1.0) -> Path:
    """Write spectra of no particular kind, on channel numbers unless a unit is given."""
    import hyperspy.api as hs

    signal = hs.signals.Signal1D(data)
    signal.metadata.General.title = path.stem
    signal.axes_manager[-1].scale = scale
    if units:
        signal.axes_manager[-1].units = units
    signal.save(path)
    return path


@pytest.mark.parametrize("extension", ["hspy", "rpl"])
def test_an_axis_without_a_unit_is_said_and_can_be_given(tmp_path: Path, extension: str) -> None:
    file = stored(tmp_path / f"plain.{extension}", COUNTS.astype(np.uint16))
    said = inspect_map(file)
    assert "3 x 4 x 60" in said
    assert "not calibrated" in said
    assert "not found" in said
    options = ["--energy-offset-keV", "0.5", "--energy-scale-keV", "0.02"]
    run = CliRunner().invoke(main, ["inspect", str(file), *options])
    assert run.exit_code == 0
    assert "60 channels of 20 eV, 0.5 to 1.68 keV" in run.output
    with pytest.raises(InputError, match=r"energy axis.*calibrated.*energy_scale_keV"):
        bu.load(file)


def test_what_is_given_of_an_axis_is_checked(tmp_path: Path) -> None:
    file = stored(tmp_path / "plain.hspy", COUNTS)
    run = CliRunner().invoke(main, ["inspect", str(file), "--energy-scale-keV", "-1"])
    assert run.exit_code == 2
    assert "`--energy-scale-keV` must lie between 0.0001 and 1" in run.output


def test_a_run_takes_the_axis_of_an_uncalibrated_file_from_the_configuration(tmp_path: Path) -> None:
    config = phantom_config()
    image = simulate_map(config, 0).image
    file = stored(tmp_path / "map.hspy", image.counts)
    axis = {"energy_offset_keV": float(image.energy_keV[0]), "energy_scale_keV": image.energy_step_keV}
    prepared = bu.prepare(
        file,
        elements=["Mg", "Al", "Si", "Ca", "Fe"],
        phases=2,
        map=axis,
        instrument={"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0},
    )
    assert prepared.setup.axis.source == "configuration"
    np.testing.assert_allclose(prepared.setup.axis_keV, image.energy_keV)


def test_values_that_are_no_counts_are_described(tmp_path: Path) -> None:
    file = stored(tmp_path / "loss.hspy", COUNTS + 0.3, "eV")
    assert "no counts: values that are not whole" in inspect_map(file)
    with pytest.raises(InputError, match="counts"):
        bu.load(file)


@pytest.mark.parametrize(
    ("data", "message"),
    [(np.zeros((2, 2, 30), dtype=int), "hold at least one photon"), (COUNTS - 3, "not be negative")],
)
def test_nothing_and_negative_counts_are_refused(tmp_path: Path, data: Untyped, message: str) -> None:
    file = stored(tmp_path / "map.hspy", data, "keV", 0.01)
    with pytest.raises(InputError, match=message):
        inspect_map(file)


def test_uncalibrated_and_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        inspect_map(stored(tmp_path / "map.hspy", np.zeros((2, 2, 30), dtype=int)))


def test_every_signal_of_a_file_is_listed(tmp_path: Path) -> None:
    import exspy.signals
    from rsciio.nexus import file_writer

    made = []
    for title, n in (("first", 60), ("second", 40)):
        signal = exspy.signals.EDSTEMSpectrum(COUNTS[..., :n])
        signal.metadata.General.title = title
        signal.axes_manager[-1].scale, signal.axes_manager[-1].units = 0.01, "keV"
        made.append(signal._to_dictionary())
    file = tmp_path / "two.nxs"
    file_writer(str(file), made)
    said = inspect_map(file)
    for words in ('"first" 3 x 4 x 60', '"second" 3 x 4 x 40', "--signal N", "any of 0, 1"):
        assert words in said
    assert f"{COUNTS.sum():,} counts" in said
    with pytest.raises(InputError, match="Choose one with --signal N"):
        bu.load(file)
    # RosettaSciIO's NeXus files lose the unit.
    said = inspect_map(file, signal=1, energy_offset_keV=0.0, energy_scale_keV=0.01)
    assert "3 x 4 pixels" in said
    assert "40 channels" in said


def test_pictures_alone_are_refused(tmp_path: Path) -> None:
    import hyperspy.api as hs

    hs.signals.Signal2D(np.ones((4, 4))).save(tmp_path / "picture.hspy")
    with pytest.raises(InputError, match="hold a spectrum image"):
        inspect_map(tmp_path / "picture.hspy")


def test_a_map_whose_energy_is_one_signal_axis_of_several_says_what_to_do(tmp_path: Path) -> None:
    """HyperSpy's .emd files keep no kind of an axis."""
    import hyperspy.api as hs

    made = hs.signals.Signal1D(np.ones((3, 4, 40)))
    energy = made.axes_manager.signal_axes[0]
    energy.name, energy.units, energy.scale = "Energy", "keV", 0.01
    made.save(tmp_path / "map.emd")
    with pytest.raises(InputError, match=r"save it as \.hspy instead.*transpose\(signal_axes=\['Energy'\]\)"):
        inspect_map(tmp_path / "map.emd")
    # What it says to do helps.
    hs.load(tmp_path / "map.emd").transpose(signal_axes=["Energy"]).save(tmp_path / "map.hspy")
    assert bu.load(tmp_path / "map.hspy").shape == (3, 4, 40)


def test_a_line_of_a_signal() -> None:
    assert Held(
        kind="EELS",
        title="a",
        shape=(2, 9),
        rival=True,
        unit="eV",
        first=1.0,
        last=9.0,
        calibrated=False,
        least=-2.0,
        total=5.5,
        whole=False,
    ).line() == (
        'EELS "a" 2 x 9, axis 1 to 9 eV, not calibrated, no counts: values that are not whole, as low as -2'
    )
    assert Held(kind="picture", title="b", shape=(4, 4)).line() == 'picture "b" 4 x 4'


def test_an_axis_is_found_where_one_alone_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axis_guess, "SCALES_KEV", (0.01,))
    monkeypatch.setattr(axis_guess, "OFFSETS_KEV", (0.8, 0.3))
    image = simulate_map(phantom_config(), 0).image
    total = image.sum_spectrum()[None, None]
    lost = SpectrumImage.from_array(
        total,
        0.3 + 0.03 * np.arange(image.n_channels),
        acquisition=Acquisition(beam_energy_keV=200.0, elements=("Mg", "Si", "Fe")),
    )
    found = guess_axis(lost)
    assert found is not None
    assert abs(found.offset_keV - image.energy_keV[0]) < 0.03
    assert abs(found.scale_keV / image.energy_step_keV - 1.0) < 0.01
    flat = dataclasses.replace(lost, counts=np.full(lost.shape, 7, dtype=np.uint8))
    assert guess_axis(flat) is None


def test_an_axis_with_a_rival_is_not_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    image = SpectrumImage.from_array(np.ones((1, 1, 2048), dtype=np.uint8), 0.01 * np.arange(2048))
    right, other = (
        GuessedAxis(offset_keV=offset, scale_keV=0.01, misfit=1.0, elements=("Fe", "Si", "Mg"))
        for offset in (0.0, -0.3)
    )
    for rival, expected in ((right, right), (dataclasses.replace(other, misfit=1.2), None)):
        axes = [right, rival]
        monkeypatch.setattr(axis_guess, "_axes", lambda *_, axes=axes: axes)
        monkeypatch.setattr(axis_guess, "LEAST_PEAKS", 0)
        assert guess_axis(image) == expected


def test_a_usual_axis_that_leaves_more_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    image = SpectrumImage.from_array(np.ones((1, 1, 2048), dtype=np.uint8), 0.01 * np.arange(2048))
    monkeypatch.setattr(axis_guess, "LEAST_PEAKS", 0)
    for left, expected in ((1.0, True), (5.0, False), (9.0, None)):
        axis = GuessedAxis(offset_keV=0.0, scale_keV=0.01, misfit=left, elements=("Fe", "Si", "Mg"))
        monkeypatch.setattr(axis_guess, "_axes", lambda *_, axis=axis: [axis])
        found = guess_axis(image)
        assert (found and found.certain) == expected


@pytest.mark.parametrize(
    ("unit", "certain", "words"),
    [
        ("keV", True, "only the unit is missing: in keV"),
        ("eV", False, "in doubt: only the unit may be missing, eV (with Fe Si"),
        ("", True, "one usual energy axis alone"),
        ("", False, "in doubt: one usual energy axis explains more than all others (with Fe Si"),
    ],
)
def test_an_axis_is_printed_with_what_speaks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: str, certain: bool, words: str
) -> None:
    asked = []

    def found(image: SpectrumImage, elements: tuple[str, ...], numbers: Untyped) -> GuessedAxis:
        asked.append(numbers)
        return GuessedAxis(
            offset_keV=0.5, scale_keV=0.02, misfit=3.0, elements=("Fe", "Si"), certain=certain, unit=unit
        )

    monkeypatch.setattr("bayesunmix.inspection.description.guess_axis", found)
    said = inspect_map(stored(tmp_path / "map.hspy", COUNTS, scale=0.02))
    assert words in said
    assert "[map]\nenergy_offset_keV = 0.5000\nenergy_scale_keV = 0.0200000\n" in said
    assert "60 channels of 20 eV, 0.5 to 1.68 keV" in said
    assert asked == [(0.0, pytest.approx(0.02))]


@pytest.mark.parametrize(
    ("unit", "first", "last", "numbers"),
    [
        ("", 0.0, 20.0, (0.0, 10.0)),
        ("", -1.0, 1.0, (-1.0, 1.0)),
        ("", 0.0, 2.0, None),
        ("nm", 0.0, 20.0, None),
    ],
)
def test_channel_numbers_are_no_energies(
    unit: str, first: float, last: float, numbers: tuple[float, float] | None
) -> None:
    assert (
        Held(
            kind="spectra", title="a", shape=(2, 3), rival=True, unit=unit, first=first, last=last, total=5.0
        ).numbers
        == numbers
    )


def test_doubts_of_facts_and_axis_survive_the_reading_process(tmp_path: Path) -> None:
    import exspy.signals

    signal = exspy.signals.EDSTEMSpectrum(COUNTS)
    signal.axes_manager[-1].scale, signal.axes_manager[-1].units = 0.01, "keV"
    signal.set_microscope_parameters(beam_energy=200.0)
    signal.save(tmp_path / "map.hspy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesUnmixWarning)
        image = bu.load(tmp_path / "map.hspy")
    (doubt,) = [one for one in image.warnings if "exSpy fills in" in one]
    assert getattr(doubt, "severity", "") == "reservation"


def test_values_of_an_enormous_map_are_not_read() -> None:
    """A small compressed file may declare more than a day of reading."""
    import dask.array as da
    import hyperspy.api as hs

    def never(_: Untyped) -> Untyped:
        raise AssertionError("read")

    zeros = da.zeros((20_000, 20_000, 2048), np.uint16, chunks=(2000, 2000, 2048))
    data = zeros.map_blocks(never, meta=np.zeros((0, 0, 0), np.uint16))
    signal = hs.signals.Signal1D(data).as_lazy()
    signal.axes_manager[-1].units = "keV"
    signal.axes_manager[-1].scale = 0.01
    (held,) = contents([signal])
    assert not held.looked_at
    assert "20000 x 20000 x 2048, axis 0 to 20.47 keV, too large" in held.line()
