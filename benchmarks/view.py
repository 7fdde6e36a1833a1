"""How quick the viewer is: from a click in a browser to the picture that has changed.

A small map of the embedded phantom is unmixed, and laid out again and again to 512 x 512 pixels of 2048 channels: the
numbers of a click do not depend on what the map shows. Choices are pixels, and rectangles of up to 100 x 100 pixels, at
random places; the time runs in the browser, from the press of the button until the frame after the new spectrum.
"""

from __future__ import annotations

import dataclasses
import shutil
import socket
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from bench import Options, Row

from bayesunmix import Laplace, Phase, Result, SpectrumImage, unmix
from bayesunmix.results.record import RunRecord
from bayesunmix.simulation.phantom import phantom_config
from bayesunmix.simulation.simulate import simulate_map

SMALL, LARGE, CHANNELS = (48, 48), (512, 512), 2048
CLICKS = (40, 15)
LARGEST_SIDE = 100
WANTED_S = 0.2
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
# Times are taken where they are seen: the clock starts with the button and stops after the frame is drawn.
_WATCH = """() => {
    const plot = Bokeh.documents[0].get_model_by_name("spectrum linear");
    const source = plot.renderers[0].data_source;
    window.pressed = null; window.shown = null;
    document.addEventListener("pointerup", () => { window.pressed = performance.now(); }, true);
    source.connect(source.properties.data.change, () => requestAnimationFrame(() => requestAnimationFrame(
        () => { window.shown = performance.now(); })));
}"""


def rows(options: Options) -> list[Row]:
    """Rows of the times."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        return [Row("viewer: a browser on PATH", ", ".join(BROWSERS), "none")]
    result, image = large(*small())
    address = _served(result, image)
    number = CLICKS[options.quick]
    found = []
    for name, largest in (("pixels", 1), (f"rectangles to {LARGEST_SIDE} x {LARGEST_SIDE}", LARGEST_SIDE)):
        seconds = clicks(address, browser, number, largest)
        text = f"median {np.median(seconds):.3f} s, nine in ten within {np.quantile(seconds, 0.9):.3f} s"
        what = f"viewer: from click to picture, {name}, {LARGE[0]} x {LARGE[1]} x {CHANNELS}"
        found.append(Row(what, f"{WANTED_S} s in the median", text, bool(np.median(seconds) <= WANTED_S)))
    from bayesunmix.viewer.work import end_all

    end_all()
    return found


def small() -> tuple[Result, SpectrumImage]:
    """Unmix a small map."""
    config = phantom_config()
    assert config.simulate is not None
    config = dataclasses.replace(config, simulate=dataclasses.replace(config.simulate, shape=SMALL))
    image = simulate_map(config, 1).image
    result = unmix(
        image,
        elements=["Mg", "Al", "Si", "Ca", "Fe", "Nd", "Sm", "Lu", "Hf", "U"],
        stray=["Cu", "Ga", "Pt", "Zr"],
        phases=[Phase("Brg", matrix=True), Phase("Fp", absent=["Si", "Ca"]), Phase("CaPv", absent=["Mg"])],
        method=Laplace(),
        inference={"set_aside": False},
    )
    return result, image


def large(result: Result, image: SpectrumImage) -> tuple[Result, SpectrumImage]:
    """Lay a map and its result out again and again, with channels without counts behind the last."""
    times = tuple(-(-size // side) for size, side in zip(LARGE, image.shape, strict=False))
    counts = np.zeros((*LARGE, CHANNELS), image.counts.dtype)
    tiled = np.tile(np.asarray(image.counts[:]), (*times, 1))[: LARGE[0], : LARGE[1]]
    counts[:, :, : image.n_channels] = tiled
    energy = image.energy_keV[0] + image.energy_step_keV * np.arange(CHANNELS)
    whole = SpectrumImage(counts=counts, energy_keV=energy, acquisition=image.acquisition)
    groups = {name: _laid_out(node.to_dataset(), times) for name, node in result.tree.children.items()}
    first, last = (int(number) for number in groups["pixels"].attrs["channels"])
    fitted = dataclasses.replace(
        whole,
        counts=counts[:, :, first:last],
        energy_keV=np.linspace(*groups["pixels"].attrs["energy_keV"], last - first),
    )
    plain: dict[str, Any] = {**result.record.to_dict(), "hash": fitted.count_hash()}
    return Result(xr.DataTree.from_dict(groups), RunRecord.of(plain)), whole


def clicks(address: str, browser: str, number: int, largest: int) -> npt.NDArray[np.float64]:
    """Choose places at random, and return the seconds that each took."""
    from playwright.sync_api import sync_playwright

    rng = np.random.default_rng(0)
    found = []
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox", "--disable-gpu"])
        page = opened.new_page(viewport={"width": 1280, "height": 860})
        page.goto(address)
        page.get_by_text("Composition of the choice").wait_for(timeout=600_000)
        page.evaluate(_WATCH)
        left, top, width, height = page.evaluate(
            """() => {
                const view = Bokeh.index.find_one(Bokeh.documents[0].get_model_by_name("map"));
                const box = view.canvas.events_el.getBoundingClientRect(), frame = view.frame.bbox;
                return [box.left + frame.left, box.top + frame.top, frame.width, frame.height];
            }"""
        )
        per_pixel = width / LARGE[1]
        for _ in range(number):
            side = per_pixel * rng.integers(1, largest + 1) if largest > 1 else 0.0
            x, y = left + rng.uniform(5, width - side - 5), top + rng.uniform(5, height - side - 5)
            page.evaluate("() => { window.shown = null; }")
            page.mouse.move(x, y)
            page.mouse.down()
            if side:
                page.mouse.move(x + side, y + side, steps=4)
            page.mouse.up()
            page.wait_for_function("() => window.shown !== null", timeout=60_000)
            found.append(page.evaluate("() => window.shown - window.pressed") / 1000.0)
        opened.close()
    return np.array(found)


def _laid_out(group: xr.Dataset, times: tuple[int, ...]) -> xr.Dataset:
    """Repeat what is a map in a group."""
    made = {}
    for name, values in group.variables.items():
        if values.dims[-2:] == ("y", "x"):
            repeated = np.tile(values.values, (*(1,) * (values.ndim - 2), *times))
            made[name] = (values.dims, repeated[..., : LARGE[0], : LARGE[1]])
    return group.drop_vars(made).assign(made)


def _served(result: Result, image: SpectrumImage) -> str:
    """Serve the viewer in a thread, and return its address."""
    from bayesunmix.viewer.opened import opened_results
    from bayesunmix.viewer.serve import start

    told: list[str] = []
    ready = threading.Event()

    def serve() -> None:
        import asyncio

        asyncio.set_event_loop(asyncio.new_event_loop())
        start(opened_results(result, image), 0, lambda text: (told.append(text), ready.set()))

    threading.Thread(target=serve, daemon=True).start()
    if not ready.wait(120.0):
        raise TimeoutError(f"the viewer does not start on {socket.gethostname()}")
    return told[0]
