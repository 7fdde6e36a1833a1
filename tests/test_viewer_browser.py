"""The viewer in a real browser, used as a person does: clicks, drags, keys, and files that are saved."""

from __future__ import annotations

import csv
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayesunmix as bu
from bayesunmix.data.masks import read_mask

SHAPE = (26, 32)  # of conftest.py's map
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
LACKING = [name for name in ("panel", "bokeh", "playwright") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning"),
    pytest.mark.skipif(bool(LACKING), reason=f"not installed: {', '.join(LACKING)}"),
    pytest.mark.skipif(BROWSER is None, reason=f"no browser on PATH: {', '.join(BROWSERS)}"),
]
# A busy machine takes long to read a map and to draw.
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def folder(viewed_folder: Path) -> Path:
    return viewed_folder


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Serve the viewer as the command does."""
    command = [sys.executable, "-m", "bayesunmix", "view", str(folder), "--no-browser"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        found = re.match(r"http://127\.0\.0\.1:\d+/", process.stdout.readline())
        assert found is not None
        yield found[0]
        process.kill()


class Person:
    """Somebody with a mouse and a keyboard.

    Parameters
    ----------
    page
        Of the browser.
    """

    def __init__(self, page: Any) -> None:  # noqa: ANN401
        self.page = page

    def at(self, row: float, column: float) -> tuple[float, float]:
        """Where the centre of a pixel is on the screen."""
        place = """() => {
            const plot = Bokeh.documents[0].get_model_by_name("map");
            const frame = Bokeh.index.find_one(plot).frame.bbox;
            const x = plot.x_range, y = plot.y_range;
            return [frame.left, frame.top, frame.width, frame.height, x.start, x.end, y.end, y.start];
        }"""
        left, top, width, height, x0, x1, y0, y1 = self.page.evaluate(place)
        box = self.page.locator(".bk-events").first.bounding_box()
        x = box["x"] + left + (column - x0) / (x1 - x0) * width
        return x, box["y"] + top + (row - y0) / (y1 - y0) * height

    def click(self, row: float, column: float) -> None:
        self.page.mouse.click(*self.at(row, column))

    def drag(self, *corners: tuple[float, float]) -> None:
        self.page.mouse.move(*self.at(*corners[0]))
        self.page.mouse.down()
        for corner in corners[1:]:
            self.page.mouse.move(*self.at(*corner), steps=5)
        self.page.mouse.up()

    def reads(self, text: str) -> None:
        """Wait until something can be read on the page."""
        self.page.get_by_text(text).first.wait_for(timeout=PATIENCE_MS)

    def waits(self) -> None:
        """Wait until intervals are there."""
        self.page.get_by_label("The intervals are being computed.").wait_for(
            state="detached", timeout=PATIENCE_MS
        )
        self.reads("Composition of the choice")

    def table(self) -> dict[str, str]:
        """Rows of abundance and composition as they are read."""
        rows = self.page.locator("table").nth(0).locator("tr").all()
        rows += self.page.locator("table").nth(1).locator("tr").all()
        return {row.locator("th").inner_text(): row.locator("td").inner_text() for row in rows}

    def spectrum(self) -> dict[str, Any]:
        """Columns that are drawn, as the browser has them."""
        return self.page.evaluate(
            """() => {
                const plot = Bokeh.documents[0].get_model_by_name("spectrum linear");
                const data = plot.renderers[0].data_source.data;
                return {x: Array.from(data.x), counts: Array.from(data.counts), fit: Array.from(data.fit),
                        linear: plot.visible,
                        log: Bokeh.documents[0].get_model_by_name("spectrum log").visible};
            }"""
        )

    def spectrum_of(self, counts: float) -> dict[str, Any]:
        """Return the spectrum, as soon as it has the counts expected: text and curves come one by one."""
        for _ in range(100):
            shown = self.spectrum()
            if shown_counts(shown) == pytest.approx(counts):
                break
            self.page.wait_for_timeout(100)
        return shown

    def picture(self) -> np.ndarray[Any, Any]:
        """Numbers of the picture, row by row."""
        return np.array(
            self.page.evaluate(
                """() => Array.from(Bokeh.documents[0].get_model_by_name("map")
                    .renderers[0].data_source.data.image[0])"""
            )
        )

    def saves(self, label: str, path: Path) -> Path:
        with self.page.expect_download(timeout=PATIENCE_MS) as download:
            self.page.get_by_text(label).click()
        download.value.save_as(path)
        return path


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[tuple[Any, list[str], list[str]]]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        opened = browser.new_page(viewport={"width": 1280, "height": 860})
        requests: list[str] = []
        errors: list[str] = []
        opened.on("request", lambda request: requests.append(request.url))
        opened.on("pageerror", lambda error: errors.append(str(error)))
        opened.goto(address)
        yield opened, requests, errors
        browser.close()


def counts_of(result: bu.Result, mask: np.ndarray[Any, Any]) -> float:
    source_file = result.record.map.file
    assert source_file is not None
    first, last = result.tree["pixels"].attrs["channels"]
    return float(bu.load(source_file).counts[mask][:, first:last].sum())


def rows_of(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))


def inside(rows: slice, columns: slice) -> np.ndarray[Any, Any]:
    mask = np.zeros(SHAPE, bool)
    mask[rows, columns] = True
    return mask


def shown_counts(spectrum: dict[str, Any]) -> float:
    x, density = (np.array(spectrum[name]) for name in ("x", "counts"))
    return float((np.diff(x)[::2] * density[::2]).sum())


def check_table(person: Person, result: bu.Result, mask: np.ndarray[Any, Any]) -> None:
    """Compare what is read with what `Result.region` says."""
    drawn = result.region(mask)
    table = person.table()
    for name, values in (
        ("Brg", drawn["abundance"].sel(phase="Brg")),
        ("Fe", drawn["composition"].sel(element="Fe")),
    ):
        lower, upper = np.quantile(values, [0.025, 0.975])
        unit = "%" if name == "Brg" else "at%"
        expected = bu.interval_text(100 * float(values.mean()), 100 * lower, 100 * upper, unit)
        assert table[name] == expected


def test_a_person_looks_at_a_map(page: Any, folder: Path, tmp_path: Path) -> None:  # noqa: ANN401
    opened, requests, errors = page
    person, result = Person(opened), bu.open_result(folder)
    person.waits()

    person.click(6, 21)
    person.reads("pixel, row 6, column 21")
    person.waits()
    pixel = inside(np.s_[6:7], np.s_[21:22])
    expected = counts_of(result, pixel)
    assert shown_counts(person.spectrum_of(expected)) == pytest.approx(expected)
    check_table(person, result, pixel)

    person.drag((3.8, 4.8), (9.2, 12.2))
    person.reads("rectangle, rows 4 to 9, columns 5 to 12")
    person.waits()
    rectangle = inside(np.s_[4:10], np.s_[5:13])
    expected = counts_of(result, rectangle)
    spectrum = person.spectrum_of(expected)
    assert shown_counts(spectrum) == pytest.approx(expected)
    check_table(person, result, rectangle)
    saved = read_mask(person.saves("Mask (npy)", tmp_path / "mask.npy"), SHAPE)
    np.testing.assert_array_equal(saved, rectangle)
    rows = rows_of(person.saves("Table (CSV)", tmp_path / "table.csv"))
    expected = 100 * float(result.region(saved)["abundance"].sel(phase="Fp").mean())
    assert float(rows[1]["mean"]) == pytest.approx(expected, rel=1e-5)
    bins = rows_of(person.saves("Spectrum (CSV)", tmp_path / "spectrum.csv"))
    fit = np.array(spectrum["fit"])[::2] * np.diff(spectrum["x"])[::2]
    np.testing.assert_allclose([float(one["fit"]) for one in bins], fit, rtol=1e-4)

    assert (spectrum["linear"], spectrum["log"]) == (True, False)
    opened.get_by_label("Axis").select_option("log")
    opened.wait_for_function('() => Bokeh.documents[0].get_model_by_name("spectrum log").visible')
    assert person.spectrum()["linear"] is False
    opened.get_by_label("Parts of the fit by").select_option("element")
    person.reads("continuum and rest")

    total = person.picture()
    np.testing.assert_array_equal(total, result.tree["constant_data"]["total_counts"].values.ravel())
    opened.get_by_label("Picture").select_option("Fp, abundance")
    opened.wait_for_function(
        """() => Bokeh.documents[0].get_model_by_name("map").renderers[0].data_source.data.image[0]
            .every((value) => !(value > 1))"""
    )
    np.testing.assert_allclose(person.picture(), result.abundances()["mean"].sel(phase="Fp").values.ravel())

    opened.locator(".bk-events").first.focus()
    opened.keyboard.press("ArrowDown")
    person.reads("pixel, row 10, column 12")
    opened.keyboard.press("Shift+ArrowRight")
    person.reads("rectangle, rows 10 to 10, columns 12 to 13")

    assert errors == []
    outside = [url for url in requests if not re.match(r"(http|ws)://127\.0\.0\.1:|data:|blob:", url)]
    assert outside == []
    assert len(requests) > 3


def test_every_control_is_reached_by_tab_and_named(page: Any) -> None:  # noqa: ANN401
    opened, _, _ = page
    opened.locator("body").click(position={"x": 2, "y": 2})
    reached = set()
    for _ in range(60):
        opened.keyboard.press("Tab")
        reached.add(
            opened.evaluate(
                """() => {
                    let at = document.activeElement;
                    while (at && at.shadowRoot && at.shadowRoot.activeElement) at = at.shadowRoot.activeElement;
                    if (at.labels && at.labels.length) return at.labels[0].innerText.trim();
                    return at.getAttribute("aria-label") || at.getAttribute("title") || at.innerText || "";
                }"""
            ).strip()
        )
    wanted = {"Run", "Picture", "Row", "Column", "Line width", "Axis", "Parts of the fit by"}
    wanted |= {"Composition in", "D of", "over", "Spectrum (CSV)", "Table (CSV)", "Mask (npy)"}
    assert wanted <= reached
    assert any(name.startswith("Map: arrow keys") for name in reached)


def test_the_page_fits_a_laptop(page: Any) -> None:  # noqa: ANN401
    opened, _, _ = page
    assert opened.evaluate("() => document.documentElement.scrollWidth") <= 1280
