"""What the viewer shows of a choice: the same numbers as the functions that users call, and in a browser, too."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import bayesunmix as bu
from bayesunmix import InputError, Result
from bayesunmix.analysis.joint_draws import joint_draws
from bayesunmix.analysis.places import taking_part
from bayesunmix.cli import main
from bayesunmix.data.masks import read_mask
from bayesunmix.plot.parts import CONTINUUM
from bayesunmix.viewer.choices import Lasso, LineChoice, Rectangle, moved, rectangle_between
from bayesunmix.viewer.export import mask_npy, spectrum_csv, table_csv
from bayesunmix.viewer.opened import opened_folders, opened_results
from bayesunmix.viewer.pictures import Picture, pictures, stored_picture, window_of, window_picture
from bayesunmix.viewer.spectra import parts_shown, spectrum_of, stored_spectrum
from bayesunmix.viewer.state import first_view
from bayesunmix.viewer.tables import CHOICE, in_unit, ratio_rows, region_rows
from bayesunmix.viewer.work import Latest

pytestmark = pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning")

SHAPE = (26, 32)  # of conftest.py's map
ELEMENTS = ["Mg", "Al", "Si", "Ca", "Fe", "Nd"]
PANEL = all(importlib.util.find_spec(name) for name in ("panel", "bokeh"))
needs_panel = pytest.mark.skipif(not PANEL, reason="Panel and Bokeh are not installed")


@pytest.fixture(scope="module")
def folder(viewed_folder: Path) -> Path:
    return viewed_folder


@pytest.fixture(scope="module")
def map_file(viewed_folder: Path) -> Path:
    return viewed_folder.with_name("map.hspy")


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return bu.open_result(folder)


# Choices.


def test_a_rectangle_holds_both_corners() -> None:
    mask = Rectangle(3, 4, 1, 6).mask(SHAPE)
    by_hand = np.zeros(SHAPE, bool)
    by_hand[1:4, 4:7] = True
    np.testing.assert_array_equal(mask, by_hand)
    assert str(Rectangle.pixel(2.4, 6.6)) == "pixel, row 2, column 7"


def test_a_drag_takes_the_pixels_whose_centres_it_covers() -> None:
    assert rectangle_between((0.6, 2.4), (4.2, 4.6), SHAPE) == Rectangle(1, 3, 4, 4)
    assert rectangle_between((2.2, 2.2), (2.3, 2.3), SHAPE) == Rectangle.pixel(2, 2)
    assert rectangle_between((-9.0, -9.0), (99.0, 99.0), SHAPE).mask(SHAPE).all()


def test_a_lasso_holds_the_centres_that_it_encloses() -> None:
    circle = [(10.0 + 5.2 * np.sin(t), 12.0 + 5.2 * np.cos(t)) for t in np.linspace(0.0, 2 * np.pi, 200)]
    rows, columns = np.indices(SHAPE)
    expected = (rows - 10) ** 2 + (columns - 12) ** 2 <= 5.2**2
    np.testing.assert_array_equal(Lasso(tuple(circle)).mask(SHAPE), expected)


def test_a_line_is_as_wide_as_it_says() -> None:
    np.testing.assert_array_equal(np.argwhere(LineChoice((2, 3), (2, 9)).mask(SHAPE))[:, 0], 2)
    assert LineChoice((2, 3), (2, 9)).mask(SHAPE).sum() == 7
    wide = LineChoice((10.0, 3.0), (10.0, 9.0), 3).mask(SHAPE)
    assert wide[9:12, 3:10].all()
    assert not wide[8].any()
    assert LineChoice((4.0, 4.0), (4.0, 4.0)).mask(SHAPE).sum() == 1


def test_arrow_keys_stay_on_the_map() -> None:
    corner = moved(Rectangle.pixel(0, 0), -1, -1, SHAPE)
    assert corner == Rectangle.pixel(0, 0)
    grown = moved(moved(corner, 0, 1, SHAPE, extend=True), 1, 0, SHAPE, extend=True)
    assert grown == Rectangle(0, 0, 1, 1)
    assert moved(grown, 0, 1, SHAPE) == Rectangle.pixel(1, 2)
    assert moved(LineChoice((5.0, 5.0), (5.0, 9.0)), 1, 0, SHAPE) == Rectangle.pixel(6, 5)


# What is shown.


def test_the_spectrum_is_that_of_the_pixels(result: Result, map_file: Path) -> None:
    inside = Rectangle(5, 6, 9, 12).mask(SHAPE)
    source = opened_results(result)[0].source()
    found = spectrum_of(result, source, inside)
    counts = bu.load(map_file).counts[inside].sum(axis=0, dtype=np.int64)
    first, last = source.stored.attrs["channels"]
    assert found.counts.sum() == counts[first:last].sum()
    np.testing.assert_array_equal(found.counts, np.add.reduceat(counts[first:last], source.starts))
    np.testing.assert_allclose(sum(found.by_phase.values()), found.fit)
    # The fit has the counts of the pixels, and misses no bin by more than noise does.
    np.testing.assert_allclose(found.fit.sum(), found.counts.sum(), rtol=1e-6)
    enough = found.fit > 5.0
    assert 0.6 < np.std(found.residuals[enough]) < 1.5


def test_parts_by_element_add_up_and_peak_at_their_lines(result: Result) -> None:
    found = spectrum_of(result, joint_draws(result), taking_part(result))
    parts = found.by_element
    assert {*ELEMENTS, "Cu", CONTINUUM} <= set(parts)
    np.testing.assert_allclose(sum(parts.values()), found.fit, rtol=1e-4, atol=1e-3)
    middle = 0.5 * (found.edges_keV[1:] + found.edges_keV[:-1])
    for element, energy in (("Si", 1.740), ("Fe", 6.404), ("Ca", 3.691)):
        density = parts[element] / found.width_keV
        assert middle[np.argmax(density)] == pytest.approx(energy, abs=0.06)
    # What is no line is smooth: it hides no peak.
    assert parts[CONTINUUM][middle > 2.0].max() < found.fit.max() / 10.0
    assert set(parts_shown(found, "phase")) == {"Brg", "Fp", "CaPv"}
    assert parts_shown(found, "none") == {}


def test_the_table_is_that_of_region(result: Result) -> None:
    inside = Rectangle(5, 6, 9, 12).mask(SHAPE)
    drawn = result.region(inside)
    rows = {(row.part, row.name): row for row in region_rows(result, drawn)}
    for name, values, factor in (
        (("abundance", "Brg"), drawn["abundance"].sel(phase="Brg"), 100.0),
        (("composition", "Fe"), drawn["composition"].sel(element="Fe"), 100.0),
    ):
        lower, upper = np.quantile(values, [0.025, 0.975])
        row = rows[name]
        np.testing.assert_allclose(
            [row.mean, row.lower, row.upper], factor * np.array([values.mean(), lower, upper])
        )
    for unit in ("wt_pct", "oxide_wt_pct"):
        other = result.region(inside, unit=unit)
        np.testing.assert_allclose(in_unit(result, drawn, unit)["composition"], other["composition"])
        by_name = region_rows(result, in_unit(result, in_unit(result, drawn, unit), "at_frac"))
        assert [row.mean for row in by_name] == pytest.approx([row.mean for row in rows.values()])


def test_ratios_are_of_the_same_draws(result: Result) -> None:
    drawn = result.region("Brg")
    alike = {row.name: row for row in ratio_rows(result, CHOICE, "Brg", drawn)}
    # The choice is nearly all of the phase, with some of what has more of Mg and Fe: errors that both have cancel.
    amounts = result.draws["composition"].sel(element="Mg")
    own = amounts.sel(phase="Brg", chain=drawn["chain"], draw=drawn["draw"])
    ratio = drawn["composition"].sel(element="Mg") / own
    assert alike["Mg"].mean == pytest.approx(float(ratio.mean()), rel=1e-6)
    assert 1.0 < alike["Mg"].mean < 1.1
    assert alike["Mg"].upper - alike["Mg"].lower < 0.1
    table = result.tables.partition().set_index(["numerator", "denominator", "element"])
    for row in ratio_rows(result, "Fp", "Brg", None):
        assert row.mean == pytest.approx(table.loc[("Fp", "Brg", row.name), "median"], nan_ok=True)
    assert ratio_rows(result, CHOICE, "Brg", None) == ratio_rows(result, "Fp", "Fp", drawn) == ()
    absent = {row.name: row.text for row in ratio_rows(result, CHOICE, "Fp", drawn)}
    assert absent["Si"] == "–"


def test_a_window_holds_the_line_and_nothing_else(result: Result, map_file: Path) -> None:
    source = joint_draws(result)
    low, high = window_of(result, "Fe", source.image.acquisition)
    assert low < 6.404 < high
    assert 0.1 < high - low < 0.3
    image = bu.load(map_file)
    axis = np.linspace(*source.stored.attrs["energy_keV"], np.ptp(source.stored.attrs["channels"]))
    first = int(source.stored.attrs["channels"][0])
    chosen = first + np.flatnonzero((axis >= low) & (axis < high))
    expected = image.counts[:, :, chosen].sum(axis=2)
    found = window_picture(source, (low, high))
    used = taking_part(result)
    np.testing.assert_array_equal(found[used], expected[used])
    assert np.isnan(found[~used]).all()


def test_every_picture_can_be_shown(result: Result) -> None:
    groups = pictures(result)
    assert {"counts", "abundance", "composition", "standard deviation"} <= set(groups)
    every = [one for group in groups.values() for one in group]
    assert len({one.text for one in every}) == len(every)
    for one in every:
        if not one.needs_counts:
            assert stored_picture(result, one).shape == SHAPE
    assert first_view(result).picture == Picture("total")
    assert first_view(result).denominator == "Brg"


# Files.


def test_files_hold_what_is_shown(result: Result, tmp_path: Path) -> None:
    inside = LineChoice((3.0, 3.0), (20.0, 25.0), 3).mask(SHAPE)
    spectrum = spectrum_of(result, joint_draws(result), inside & taking_part(result))
    table = list(csv.DictReader(io.StringIO(spectrum_csv(spectrum).decode())))
    np.testing.assert_allclose([float(row["counts"]) for row in table], spectrum.counts)
    np.testing.assert_allclose([float(row["phase Fp"]) for row in table], spectrum.by_phase["Fp"], rtol=1e-6)
    rows = region_rows(result, result.region(inside))
    read = list(csv.DictReader(io.StringIO(table_csv(rows, 0.95).decode())))
    assert [row["name"] for row in read] == [row.name for row in rows]
    assert float(read[0]["upper"]) == pytest.approx(rows[0].upper, rel=1e-6)
    for name, invert in (("inside.npy", False), ("outside.npy", True)):
        (tmp_path / name).write_bytes(mask_npy(inside, invert=invert))
        np.testing.assert_array_equal(read_mask(tmp_path / name, SHAPE), inside ^ invert)
    again = result.region(np.load(tmp_path / "inside.npy"))
    np.testing.assert_array_equal(again["abundance"], result.region(inside)["abundance"])


# A map that is gone, and other input.


def test_a_folder_without_its_map_shows_what_it_holds(folder: Path, map_file: Path, tmp_path: Path) -> None:
    moved_file = tmp_path / "elsewhere.hspy"
    shutil.copy(map_file, moved_file)
    other = shutil.copytree(folder, tmp_path / "copy")
    run = json.loads((other / "run.json").read_text())
    gone = bu.open_result(folder)
    record = gone.record.model_copy(
        update={"map": gone.record.map.model_copy(update={"file": str(tmp_path / "gone.hspy")})}
    )
    assert run["map"]["file"] == str(map_file)
    opened = opened_results(gone.with_record(record))[0]
    with pytest.raises(InputError, match=r"gone\.hspy.* is not there"):
        opened.source()
    spectrum = stored_spectrum(opened.result)
    assert spectrum.counts.sum() > 1000
    given = opened_results(gone.with_record(record), moved_file)[0]
    assert given.source().image.shape[:2] == SHAPE
    assert [one.name for one in opened_folders([folder, other])] == ["out", "copy"]


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(InputError, match="must be a Result or several, but is 3"):
        opened_results([3])  # type: ignore[list-item]
    with pytest.raises(InputError, match="but is none"):
        opened_results([])


def test_the_command_says_what_it_needs(folder: Path, tmp_path: Path, monkeypatch: Any) -> None:  # noqa: ANN401
    assert "must be at least one output folder" in CliRunner().invoke(main, ["view"]).output
    assert "holds no run.json" in CliRunner().invoke(main, ["view", str(tmp_path)]).output
    missing = ["view", str(folder), "--map", str(tmp_path / "no.hspy")]
    assert "`--map` must be a file" in CliRunner().invoke(main, missing).output
    monkeypatch.setattr("bayesunmix.viewer.serve.find_spec", lambda _: None)
    said = CliRunner().invoke(main, ["view", str(folder)])
    assert said.exit_code == 2
    assert "pip install 'bayesunmix[view]'" in said.output
    assert len(said.output.strip().splitlines()) == 1


def test_only_the_last_job_is_heard() -> None:
    begun, ready, done = threading.Event(), threading.Event(), threading.Event()
    heard: list[str] = []
    failures: list[Exception] = []
    latest = Latest(failures.append)

    def slow(told: Any) -> str:  # noqa: ANN401
        begun.set()
        assert ready.wait(10.0)
        told(0.5)
        return "first"

    latest.do(slow, heard.append, lambda _: None)
    assert begun.wait(10.0)
    latest.do(lambda _: "second", lambda text: (heard.append(text), done.set()), lambda _: None)
    ready.set()
    assert done.wait(10.0)
    assert heard == ["second"]
    assert failures == []


def test_a_job_that_fails_is_told() -> None:
    failed = threading.Event()
    latest = Latest(lambda error: failed.set() if isinstance(error, ZeroDivisionError) else None)
    latest.do(lambda _: 1 / 0, print, lambda _: None)
    assert failed.wait(10.0)


@needs_panel
def test_the_widget_shows_what_region_says(result: Result) -> None:
    from bayesunmix.viewer.app import Viewer
    from bayesunmix.viewer.work import end_all

    opened = opened_results(result)
    viewer = Viewer(opened)
    viewer.have_counts(opened[0].source())
    viewer.choose(LineChoice((4.0, 4.0), (20.0, 22.0), 2))
    for _ in range(600):
        if len(viewer.rows()) > len(ELEMENTS) + len(result.phases):
            break
        threading.Event().wait(0.05)
    drawn = result.region(LineChoice((4.0, 4.0), (20.0, 22.0), 2).mask(SHAPE))
    expected = (*region_rows(result, drawn), *ratio_rows(result, CHOICE, "Brg", drawn))
    assert viewer.rows() == expected
    viewer.page.unit.value = "wt_pct"
    assert viewer.rows()[3].unit == "wt%"
    viewer.page.parts.value = "element"
    assert CONTINUUM in viewer.page.legend.object
    viewer.page.picture.value = Picture("window", "Fe")
    assert "keV" in viewer.page.status.object
    viewer.choose(Rectangle.pixel(0, 0))
    assert "no pixel that takes part" in viewer.page.chosen.object
    assert hasattr(result.view(), "servable")
    end_all()


@needs_panel
def test_a_taken_port_is_refused(result: Result) -> None:
    import socket

    from bayesunmix.viewer.serve import start

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="`--port` must be one that can be opened"):
            start(opened_results(result), taken.getsockname()[1])
