"""The page in a real browser, from a file: pointed at, zoomed, printed, without its script, and never online."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bayesunmix as bu
from bayesunmix.config.phase import LONGEST_NAME
from bayesunmix.report.page import report_html

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in BROWSERS if (found := shutil.which(name))), None)
FIGURES = ("fit", "maps", "spectra")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::bayesunmix.core.errors.BayesUnmixWarning"),
    pytest.mark.skipif(importlib.util.find_spec("playwright") is None, reason="not installed: playwright"),
    pytest.mark.skipif(BROWSER is None, reason=f"no browser on PATH: {', '.join(BROWSERS)}"),
]


@pytest.fixture(scope="module")
def result(viewed_folder: Path) -> bu.Result:
    return bu.open_result(viewed_folder)


@pytest.fixture(scope="module")
def address(result: bu.Result, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(report_html(result), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:  # noqa: ANN401
    """Open the page; whatever it asks for or complains about fails the test."""
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    requests: list[str] = []
    said: list[str] = []
    opened.on("request", lambda request: requests.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address)
    opened.locator("figure.enhanced").nth(2).wait_for()
    yield opened
    opened.close()
    assert said == []
    assert [url for url in requests if not url.startswith("data:")] == [address]


def figure(page: Any, name: str) -> Any:  # noqa: ANN401
    return page.locator(f'figure[data-figure="{name}"]')


def point(page: Any, target: Any, across: float, down: float) -> tuple[float, float]:  # noqa: ANN401
    """Move the mouse to a place of an element, in shares of its width and height."""
    target.scroll_into_view_if_needed()
    box = target.bounding_box()
    place = box["x"] + across * box["width"], box["y"] + down * box["height"]
    page.mouse.move(*place)
    return place


def shown_range(canvas: Any) -> tuple[float, float]:  # noqa: ANN401
    return float(canvas.get_attribute("data-low")), float(canvas.get_attribute("data-high"))


def number_before(text: str, word: str) -> float:
    found = re.search(rf"{re.escape(word)} (\S+?)[,;]", f"{text};")
    assert found is not None, (word, text)
    return float(found[1].replace("−", "-"))


def row_of(page: Any) -> list[str]:  # noqa: ANN401
    return [cell.inner_text() for cell in page.locator("tr.cursor td").all()]


def check_row(row: list[str], result: bu.Result) -> None:
    """Compare what is read with the numbers of ``posterior.nc``."""
    maps, y, x = result.tree["maps"], int(row[0]), int(row[1])
    assert float(row[2]) == float(result.tree["constant_data"]["total_counts"].values[y, x])
    for number, text in enumerate(row[3:]):
        for read, name in zip(text.split(" ± "), ("mean", "sd"), strict=True):
            stored = 100.0 * float(maps[f"abundance_{name}"].values[number, y, x])
            assert float(read) == pytest.approx(stored, abs=0.0501)


def test_a_pixel_is_marked_in_every_map_and_its_numbers_are_read(page: Any, result: bu.Result) -> None:  # noqa: ANN401
    maps = figure(page, "maps")
    frames = maps.locator(".frame")
    rows, columns = result.tree["maps"]["label"].shape
    assert frames.count() == len(result.phases)
    assert [one.inner_text() for one in maps.locator(".map strong").all()] == result.phases
    for y, x, frame in ((20, 7, 0), (rows - 1, columns - 1, 1), (5, 30, 2)):
        point(page, frames.nth(frame).locator("canvas"), (x + 0.5) / columns, (y + 0.5) / rows)
        row = row_of(page)
        assert row[:2] == [str(y), str(x)]
        check_row(row, result)
        places = {mark.get_attribute("style") for mark in maps.locator(".frame i").all()}
        assert len(places) == 1
        assert all(mark.is_visible() for mark in maps.locator(".frame i").all())
    point(page, frames.nth(0).locator("canvas"), 1.5 / columns, 1.5 / rows)
    assert row_of(page)[2:] == ["–", *["left out"] * len(result.phases)]


def test_the_maps_are_read_by_keyboard(page: Any, result: bu.Result) -> None:  # noqa: ANN401
    frame = figure(page, "maps").locator(".frame").nth(1)
    frame.focus()
    page.keyboard.press("ArrowDown")
    first = row_of(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowUp")
    row = row_of(page)
    assert [int(row[0]), int(row[1])] == [int(first[0]) - 10, int(first[1]) + 1]
    check_row(row, result)
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    kept = page.locator(".pixels tbody tr").nth(1).locator("td")
    assert [cell.inner_text() for cell in kept.all()] == row


def test_pixels_of_a_map_have_the_colours_of_the_picture(page: Any, result: bu.Result) -> None:  # noqa: ANN401
    import matplotlib

    number = result.phases.index("Brg")
    canvas = figure(page, "maps").locator("canvas").nth(number)
    shape = result.tree["maps"]["label"].shape
    drawn = canvas.evaluate(
        "(canvas) => Array.from(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data)"
    )
    mean = result.tree["maps"]["abundance_mean"].values[number]
    expected = 255.0 * matplotlib.colormaps["viridis"](mean)[..., :3]
    apart = np.abs(np.reshape(drawn, (*shape, 4))[..., :3] - expected)[np.isfinite(mean)]
    # 32 colours with straight lines between them stand for 256.
    assert apart.max() < 5.0
    assert tuple(np.reshape(drawn, (*shape, 4))[0, 0]) == (217, 217, 217, 255)


def test_a_spectrum_is_pointed_at(page: Any, result: bu.Result) -> None:  # noqa: ANN401
    fit = result.tree["fit"]
    panel = figure(page, "fit")
    canvas, readout = panel.locator("canvas"), panel.locator("output")
    for across in (0.2, 0.5, 0.85):
        point(page, canvas, across, 0.4)
        bin_ = int(readout.get_attribute("data-bin"))
        text = readout.inner_text()
        low, high = (float(one) for one in re.findall(r"[\d.]+", text)[:2])
        assert low == pytest.approx(float(fit["energy_low"].values[bin_]), abs=6e-4)
        assert high == pytest.approx(float(fit["energy_high"].values[bin_]), abs=6e-4)
        assert number_before(text, "counts") == pytest.approx(float(fit["observed"].values[bin_]), abs=0.051)
        expected = float(fit["expected"].values[bin_])
        assert number_before(text, "fit") == pytest.approx(expected, abs=0.051)
        for number, phase in enumerate(result.phases):
            part = float(fit["expected_by_phase"].values[number, bin_])
            assert number_before(text, phase) == pytest.approx(part, abs=0.051)
    panel.get_by_label("Parts of the fit by").select_option("element")
    assert panel.get_by_label("Fe", exact=True).is_checked()
    canvas.focus()
    energy = 6.404
    while True:
        low = float(fit["energy_low"].values[int(readout.get_attribute("data-bin"))])
        if low <= energy < low + 0.06:
            break
        page.keyboard.press("ArrowLeft" if low > energy else "ArrowRight")
    assert re.search(r"lines nearby: .*Fe \S+ \(K\), 6\.4", readout.inner_text())


def test_a_spectrum_is_zoomed(page: Any, result: bu.Result) -> None:  # noqa: ANN401
    for name in ("fit", "spectra"):
        panel = figure(page, name)
        canvas = panel.locator("canvas")
        whole = shown_range(canvas)
        x, y = point(page, canvas, 0.4, 0.5)
        page.mouse.down()
        page.mouse.move(x + 150, y, steps=4)
        page.mouse.up()
        low, high = shown_range(canvas)
        box = canvas.bounding_box()
        scale = (whole[1] - whole[0]) / (box["width"] - 62 - 12)
        assert high - low == pytest.approx(150 * scale, rel=0.03)
        assert low == pytest.approx(whole[0] + (0.4 * box["width"] - 62) * scale, abs=2 * scale)
        page.mouse.dblclick(x, y)
        assert shown_range(canvas) == whole
        page.keyboard.press("+")
        first = shown_range(canvas)
        assert first[1] - first[0] == pytest.approx(0.6 * (whole[1] - whole[0]), rel=1e-3)
        page.keyboard.press("Shift+ArrowRight")
        assert shown_range(canvas)[0] > first[0]
        page.keyboard.press("0")
        assert shown_range(canvas) == whole
        page.mouse.wheel(0, -300)
        page.wait_for_function(
            "([canvas, low]) => +canvas.dataset.low > low", arg=[canvas.element_handle(), whole[0]]
        )
        panel.get_by_role("button", name="Whole range").click()
        assert shown_range(canvas) == whole
        axis = panel.get_by_role("combobox", name="Axis")
        axis.select_option("linear")
        assert canvas.get_attribute("data-axis") == "linear"
        canvas.focus()
        page.keyboard.press("l")
        assert canvas.get_attribute("data-axis") == axis.input_value() == "log"


def test_the_wheel_scrolls_the_page_until_a_panel_has_the_focus(page: Any) -> None:  # noqa: ANN401
    canvas = figure(page, "fit").locator("canvas")
    whole = shown_range(canvas)
    point(page, canvas, 0.5, 0.5)
    before = page.evaluate("() => scrollY")
    page.mouse.wheel(0, 120)
    page.wait_for_function("(before) => scrollY > before", arg=before)
    assert shown_range(canvas) == whole


def test_print_shows_the_pictures(page: Any) -> None:  # noqa: ANN401
    for name in FIGURES:
        assert figure(page, name).locator(".live").is_visible()
        assert not figure(page, name).locator("img").is_visible()
    still = figure(page, "maps").get_by_role("button", name="Picture as printed")
    still.click()
    assert figure(page, "maps").locator("img").is_visible()
    assert not figure(page, "maps").locator(".frame").first.is_visible()
    still.click()
    page.emulate_media(media="print")
    for name in FIGURES:
        assert not figure(page, name).locator(".live").is_visible()
        assert figure(page, name).locator("img").is_visible()


def test_nothing_can_be_fetched(browser: Any, address: str) -> None:  # noqa: ANN401
    opened = browser.new_page()
    opened.goto(address)
    refused = """(address) => new Promise((resolve) => {
        document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
        const picture = new Image();
        picture.src = address;
        setTimeout(() => resolve("nothing was refused"), 5000);
    })"""
    assert opened.evaluate(refused, "http://127.0.0.1:9/picture.png") == "img-src"
    opened.close()


def test_controls_are_reached_by_tab_and_named(page: Any) -> None:  # noqa: ANN401
    page.locator("body").click(position={"x": 2, "y": 2})
    reached = []
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """() => {
                    const at = document.activeElement;
                    const label = at.labels && at.labels.length ? at.labels[0].firstChild.textContent : "";
                    return (at.getAttribute("aria-label") || label || at.innerText || "").trim();
                }"""
            )
        )
    wanted = {"Spectrum", "Parts of the fit by", "Axis", "Zoom in", "Zoom out", "Whole range", "Shown"}
    assert wanted <= set(reached)
    for begins in (
        "Sum spectrum and fit: arrow keys",
        "Endmember spectra: arrow keys",
        "Abundance of Brg: arrow",
    ):
        assert any(name.startswith(begins) for name in reached), begins


def opened_pictures(opened: Any) -> None:  # noqa: ANN401
    """Every picture is there and nothing else."""
    assert opened.locator(".live").count() == 0
    for name in FIGURES:
        picture = opened.locator(f'figure[data-figure="{name}"] img')
        assert picture.is_visible()
        assert picture.evaluate("(picture) => picture.naturalWidth") > 500
    assert opened.locator(".verdict").bounding_box()["y"] < 400


def test_without_a_script_the_pictures_are_there(browser: Any, address: str) -> None:  # noqa: ANN401
    context = browser.new_context(java_script_enabled=False, viewport={"width": 1200, "height": 900})
    opened = context.new_page()
    opened.goto(address)
    assert opened.locator(".live").count() == 0
    for name in FIGURES:
        assert opened.locator(f'figure[data-figure="{name}"] img').is_visible()
    context.close()


def test_an_old_browser_shows_the_pictures(browser: Any, address: str) -> None:  # noqa: ANN401
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.add_init_script("delete window.DecompressionStream")
    opened.goto(address)
    opened_pictures(opened)
    opened.close()


def test_a_narrow_screen_needs_no_sideways_scrolling(page: Any) -> None:  # noqa: ANN401
    page.set_viewport_size({"width": 420, "height": 800})
    for name in FIGURES:
        box = figure(page, name).bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 420


@pytest.mark.parametrize("width", [1200, 400])
def test_names_without_a_gap_do_not_widen_the_page(browser: Any, tmp_path: Path, width: int) -> None:  # noqa: ANN401
    plots = runpy.run_path(str(Path(__file__).with_name("test_plot.py")))
    made = plots["synthetic_result"](phases=2)
    names = dict(zip(made.phases, ("m" * LONGEST_NAME, "n" * LONGEST_NAME), strict=True))
    text = report_html(made)
    for name, longer in names.items():
        # Whole words of the page; figures and packed numbers hold none.
        text = re.sub(rf"\b{name}\b", longer, text)
    (tmp_path / "report.html").write_text(text, encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    opened.goto((tmp_path / "report.html").as_uri())
    opened.locator("figure.enhanced").nth(1).wait_for()
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    opened.close()
