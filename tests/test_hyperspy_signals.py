"""A result as HyperSpy signals: axes, numbers, lines and names, of a result made by hand."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import xarray as xr

from bayesunmix.analysis.signals import ResultSignals
from bayesunmix.core.errors import InputError
from bayesunmix.data.counts import read_counts
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.stored_counts import StoredCounts
from bayesunmix.results.record import RunRecord
from bayesunmix.results.result import Result

# HyperSpy and exSpy deprecate parts of each other.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

ROWS, COLUMNS, CHANNELS, BIN = 4, 5, 300, 10
PHASES, ELEMENTS = ["Brg <i>", "Fp"], ["Mg", "Fe"]
ENERGY = 1.0 + 0.025 * np.arange(CHANNELS)
PLACE = (1, 2)
AT_PIXELS, AT_PLACE = [0.7, 0.3, 0.0], [0.3, 0.2, 0.5]
MASS = [0.9, 1.2]
THICK = np.linspace(0.6, 1.6, ROWS * COLUMNS).reshape(ROWS, COLUMNS)


def peaks(*lines: tuple[float, float]) -> np.ndarray[Any, Any]:
    spectrum = 0.02 + sum(height * np.exp(-0.5 * ((ENERGY - at) / 0.06) ** 2) for at, height in lines)
    return np.asarray(spectrum / spectrum.sum())


SPECTRA = np.stack([peaks((1.254, 5.0), (6.40, 0.5)), peaks((1.254, 3.0), (6.40, 3.0), (8.04, 1.0))])


def pixels_group(place: np.ndarray[Any, Any]) -> xr.Dataset:
    """Say what thickness changes, and where a place was set aside."""
    bins = CHANNELS // BIN
    variables: dict[str, Any] = {
        "place": (("y", "x"), place),
        "place_spectrum": (("place_number", "energy_bin"), np.eye(bins)[[-1]]),
        "first_channel": ("energy_bin", 5 + BIN * np.arange(bins)),
        "relative_thickness": (("y", "x"), THICK),
        "absorption_slope": ("energy_bin", -0.3 * np.eye(bins)[0]),
        "stray_share": ("energy_bin", 0.4 * np.eye(bins)[-1]),
        "mass_per_count": ("phase", MASS),
        "mean_absorption_scale": 1.1,
        "mean_stray_exponent": -0.2,
    }
    return xr.Dataset(variables, {"phase": PHASES}, {"channels": [5, 5 + CHANNELS]})


@pytest.fixture(scope="module")
def result() -> Result:
    """One pixel holds half of something that was set aside, with all its counts in the last bin; one was left out."""
    generator = np.random.default_rng(3)
    place = np.full((ROWS, COLUMNS), -1)
    place[PLACE] = 0
    beside = np.repeat([0.0, 1.0 / BIN], [CHANNELS - BIN, BIN])
    shares = np.where((place == 0)[..., None], AT_PLACE, AT_PIXELS)
    totals = generator.integers(400, 900, size=(ROWS, COLUMNS))
    totals[0, 0] = 0
    expected = totals[..., None] * (shares @ np.vstack([SPECTRA, beside]))
    image = SpectrumImage(counts=generator.poisson(expected), energy_keV=ENERGY, name="by hand")
    totals = image.total_counts
    by_phase = np.moveaxis(np.where((totals > 0)[..., None], shares[..., :2], np.nan), -1, 0)
    # Channels beyond those that were fitted are NaN.
    padded = np.pad(SPECTRA, ((0, 0), (5, 0)), constant_values=np.nan)
    energy = np.append(ENERGY[0] - 0.025 * np.arange(5, 0, -1), ENERGY)
    maps: dict[str, Any] = {
        f"abundance_{name}": (("phase", "y", "x"), by_phase) for name in ("mean", "sd", "lower", "upper")
    }
    maps |= {
        "count_share": (("phase", "y", "x"), by_phase),
        "undeclared": (("y", "x"), shares[..., 2]),
        "label": (("y", "x"), np.zeros((ROWS, COLUMNS), np.int16)),
    }
    grid = {"pixel_size": [2.0, 3.0], "pixel_unit": "nm", "origin": [10.0, 20.0]}
    lines = {
        "element": ["Mg", "Fe", "Fe", "Fe", "Cu"],
        "family": ["K", "K", "K", "L", "K"],
        "energy_keV": [1.254, 6.391, 6.404, 0.7, 8.04],
        "strength_share": [1.0, 0.5, 1.0, 0.3, 0.9],
        "stray": [False, False, False, False, True],
    }
    tree = {
        "posterior": xr.Dataset(coords={"phase": PHASES, "element": ELEMENTS}),
        "maps": xr.Dataset(maps, {"phase": PHASES}, grid),
        "endmembers": xr.Dataset(
            {
                name: (("phase", "energy"), factor * padded)
                for name, factor in (("mean", 1), ("lower", 0.9), ("upper", 1.1))
            },
            {"phase": PHASES, "energy": energy},
        ),
        "constant_data": xr.Dataset(
            {"total_counts": (("y", "x"), totals), "calibration_family": ("element", ["K", "K"])},
            {"element": ELEMENTS},
        ),
        "lines": xr.Dataset({name: ("line", values) for name, values in lines.items()}),
        "pixels": pixels_group(place),
    }
    config = {"inference": {"level": 0.9}, "phases": [{"name": name} for name in PHASES]}
    facts = {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0, "microscope": "TEM"}
    about = {"name": "by hand", "acquisition": facts}
    run = {
        "format": 4,
        "method": "laplace",
        "config": config,
        "verdict": "good",
        "findings": [],
        "map": about,
    }
    return Result(xr.DataTree.from_dict(tree), RunRecord.of(run), image)


@pytest.fixture(scope="module")
def signals(result: Result) -> ResultSignals:
    return result.to_hyperspy()


def test_endmembers_are_those_of_the_fitted_channels(result: Result) -> None:
    found = result.endmembers()
    assert dict(found.sizes) == {"phase": 2, "energy": CHANNELS}
    np.testing.assert_allclose(found["mean"].sum("energy"), 1.0)
    np.testing.assert_allclose(found["energy"], ENERGY)
    assert found["energy"].attrs["units"] == "keV"
    assert found.attrs["level"] == 0.9


def test_the_fit_is_what_every_pixel_is_expected_to_hold(result: Result, signals: ResultSignals) -> None:
    fit = signals.fit
    assert fit._lazy
    assert type(fit).__name__ == "LazyEDSTEMSpectrum"
    values = fit.data.compute()
    totals = signals._totals
    for row, column in ((2, 3), (3, 0), PLACE):
        shares = np.array(AT_PLACE if (row, column) == PLACE else AT_PIXELS)
        by_hand = totals[row, column] * (shares[:2] @ SPECTRA)
        by_hand[-BIN:] += totals[row, column] * shares[2] / BIN
        # The slope of the absorption is -0.3 in the first bin, and stray signal is in the last one.
        thick, mass = THICK[row, column], shares @ [*MASS, 1.0]
        tilted = by_hand.copy()
        tilted[:BIN] *= np.exp(-0.3 * 1.1 * (thick * mass - 1.0))
        tilted[-BIN:] *= thick ** (0.2 * 0.4)
        by_hand = tilted * (by_hand.sum() / tilted.sum())
        np.testing.assert_allclose(values[row, column], by_hand, rtol=1e-5)
    assert not values[0, 0].any()
    left = signals.residuals.data.compute()
    np.testing.assert_allclose(left, signals.map.data - values, atol=1e-4)
    np.testing.assert_allclose(left.sum(axis=2), 0.0, atol=1e-2)


def test_a_large_fit_is_in_pieces(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bayesunmix.analysis.pixel_fit.PIECE_BYTES", 4.0 * 4 * CHANNELS)
    signals = result.to_hyperspy()
    pieces = signals.residuals.data
    assert max(np.prod(shape) for shape in itertools.product(*pieces.chunks)) <= 4 * CHANNELS
    np.testing.assert_array_equal(signals.fit.data.compute(), result.to_hyperspy().fit.data.compute())


def test_axes_are_those_of_the_map(signals: ResultSignals) -> None:
    for name in ("map", "fit", "residuals"):
        y, x, energy = (getattr(signals, name).axes_manager[axis] for axis in ("y", "x", "Energy"))
        assert [(one.size, one.scale, one.offset, one.units) for one in (y, x)] == [
            (4, 2.0, 10.0, "nm"),
            (5, 3.0, 20.0, "nm"),
        ]
        assert (energy.size, energy.units, energy.is_binned) == (CHANNELS, "keV", True)
        assert (energy.offset, energy.scale) == pytest.approx((1.0, 0.025))
        assert getattr(signals, name).axes_manager.navigation_shape == (5, 4)
    maps = signals.abundances
    assert (maps.axes_manager.navigation_shape, maps.axes_manager.signal_shape) == ((2,), (5, 4))
    assert maps.axes_manager["x"].offset == 20.0


def test_elements_lines_and_facts_are_where_exspy_looks(signals: ResultSignals) -> None:
    for signal in (signals.endmembers, signals.fit):
        assert signal.metadata.Signal.signal_type == "EDS_TEM"
        assert signal.metadata.Sample.elements == ["Fe", "Mg"]
        assert signal.metadata.Sample.xray_lines == ["Fe_Ka", "Mg_Ka"]
        assert signal.metadata.Acquisition_instrument.TEM.beam_energy == 200.0
    integrated = signals.fit.get_lines_intensity(["Fe_Ka"])[0].data
    assert integrated.shape == (4, 5)


def test_elements_that_exspy_does_not_know_do_no_harm(result: Result) -> None:
    tree = result.tree.copy()
    for name in ("posterior", "constant_data"):
        tree[name] = xr.DataTree(tree[name].to_dataset().assign_coords(element=["Cm", "Pu"]))
    lines = tree["lines"].to_dataset()
    lines["element"] = ("line", ["Cm", "Pu", "Pu", "Pu", "Cu"])
    tree["lines"] = xr.DataTree(lines)
    signal = dataclasses.replace(result, tree=tree).to_hyperspy().endmembers
    assert (signal.metadata.Sample.elements, signal.metadata.Sample.xray_lines) == (["Pu"], [])


def test_a_scanning_microscopes_signals_are_its_own(result: Result) -> None:
    facts = result.record.map.acquisition.model_copy(update={"microscope": "SEM"})
    record = result.record.model_copy(
        update={"map": result.record.map.model_copy(update={"acquisition": facts})}
    )
    signal = result.with_record(record).to_hyperspy().endmembers
    assert type(signal).__name__ == "EDSSEMSpectrum"
    assert signal.metadata.Acquisition_instrument.SEM.beam_energy == 200.0


def test_names_and_lines_are_drawn_and_saved(signals: ResultSignals, tmp_path: Path) -> None:
    import hyperspy.api as hs

    matplotlib.use("Agg")
    for name in ("endmembers", "abundances"):
        getattr(signals, name).save(tmp_path / f"{name}.hspy")
        opened = hs.load(tmp_path / f"{name}.hspy")
        opened.axes_manager[0].index = 1
        opened.plot(**({"xray_lines": True} if name == "endmembers" else {}))
        markers = opened.metadata.Markers
        assert markers.phase.get_current_kwargs()["texts"] == ["Fp"]
        if name == "endmembers":
            assert [str(text) for text in markers.lines.kwargs["texts"]][-1] == r"$\mathrm{Cu}_{\mathrm{Ka}}$"
            # The stronger of two lines of a family; what lies off the axis has no place.
            assert markers.lines.kwargs["offsets"][:, 0].tolist() == pytest.approx([1.254, 6.404, 8.04])
        opened._plot.close()


def test_plots_are_linked(signals: ResultSignals) -> None:
    matplotlib.use("Agg")
    signals.plot(phase="Fp")
    plots = [signal._plot for signal in (signals.map, signals.fit, signals.residuals)]
    first = plots[0].axes_manager
    first.indices = (3, 2)
    for plot, signal in zip(plots, (signals.map, signals.fit, signals.residuals), strict=True):
        assert plot.axes_manager.indices == (3, 2)
        drawn = plot.signal_plot.ax_lines[0].line.get_ydata()
        np.testing.assert_allclose(drawn, np.asarray(signal.data[2, 3]), rtol=1e-6)
        navigator = plot.navigator_plot._current_data
        np.testing.assert_allclose(navigator, signals.abundances.data[1], equal_nan=True)
    for plot in plots:
        plot.close()
    with pytest.raises(InputError, match=r'`phase` must be one of the phases Brg <i>, Fp, but is "CaPv"'):
        signals.plot(phase="CaPv")


def test_counts_on_disk_stay_there(result: Result) -> None:
    image = result.image
    assert image is not None
    on_disk = dataclasses.replace(image, counts=read_counts(image.counts, on_disk=True))
    assert isinstance(on_disk.counts, StoredCounts)
    signals = dataclasses.replace(result, image=on_disk).to_hyperspy()
    assert type(signals.map).__name__ == "LazyEDSTEMSpectrum"
    expected = result.to_hyperspy().residuals.data.compute()
    np.testing.assert_allclose(signals.residuals.data.compute(), expected, rtol=1e-6)


def test_what_is_not_there_is_told_when_it_is_asked_for(result: Result) -> None:
    alone = dataclasses.replace(result, image=None).to_hyperspy()
    assert alone.endmembers.data.shape == (2, CHANNELS)
    assert alone.fit.data.shape == (ROWS, COLUMNS, CHANNELS)
    for name in ("map", "residuals"):
        with pytest.raises(InputError, match="`image` must be given"):
            getattr(alone, name)
    tree = result.tree.copy()
    tree["maps"] = xr.DataTree(tree["maps"].to_dataset().drop_vars("count_share"))
    with pytest.raises(InputError, match="`result` must keep the shares of every pixel's counts"):
        _ = dataclasses.replace(result, tree=tree).to_hyperspy().fit


def test_without_what_pixels_are_drawn_from_thickness_changes_nothing(result: Result) -> None:
    groups = {name: group.to_dataset() for name, group in result.tree.children.items() if name != "pixels"}
    plain = dataclasses.replace(result, tree=xr.DataTree.from_dict(groups)).to_hyperspy()
    found = plain.fit.data[2, 3].compute()
    np.testing.assert_allclose(found, plain._totals[2, 3] * (AT_PIXELS[:2] @ SPECTRA), rtol=1e-5)


def test_the_summary_names_every_signal(signals: ResultSignals) -> None:
    text = repr(signals)
    for line in text.splitlines()[1:]:
        assert hasattr(signals, line.split()[0])
    assert "fit               EDS spectra (5, 4 | 300), lazy" in text
    assert "(5, 4 | 300), lazy" in signals._repr_html_()
