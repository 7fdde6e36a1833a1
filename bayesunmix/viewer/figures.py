"""The figures of the viewer, drawn by Bokeh: the map with its tools, and the spectrum over its residuals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from bokeh.models import (
    BoxSelectTool,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    FreehandDrawTool,
    HoverTool,
    LassoSelectTool,
    LinearColorMapper,
    PanTool,
    Range1d,
    ResetTool,
    TapTool,
    WheelZoomTool,
)
from bokeh.palettes import Greys256, Magma256, Viridis256
from bokeh.plotting import figure

from bayesunmix.data.masks import bounding_box
from bayesunmix.plot.parts import MOST_PARTS, line_texts, part_look, strong_lines
from bayesunmix.plot.style import GREY, INK, LEFT_OUT
from bayesunmix.viewer.choices import Mask
from bayesunmix.viewer.pictures import Picture
from bayesunmix.viewer.spectra import ShownSpectrum, parts_shown

FloatArray = npt.NDArray[np.float64]

CHOICE_COLOUR = "#E69F00"
MAP_SIDE, SPECTRUM_HEIGHT, RESIDUAL_HEIGHT = 380, 270, 140
# The logarithmic axis shows this many decades at most; single pixels do not set the scale of a picture.
DECADES, TOP_QUANTILE = 4.5, 0.998
# Arrow keys on the map; the events layer of a Bokeh plot can have the focus.
_KEYS = """
const view = Bokeh.index.find_one(plot);
const element = view == null ? null : view.canvas.events_el;
if (element != null && element.dataset.keys == null) {
  element.dataset.keys = "arrows";
  element.setAttribute("role", "application");
  element.setAttribute("aria-label", "Map: arrow keys move the chosen pixel, with Shift they make a rectangle");
  const steps = {ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1]};
  element.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (step == null) return;
    event.preventDefault();
    event.stopPropagation();
    const count = keys.data.count[0] + 1;
    keys.data = {count: [count], down: [step[0]], right: [step[1]], extend: [event.shiftKey ? 1 : 0]};
  });
}
"""


class MapFigure:
    """The picture that places are chosen on.

    Parameters
    ----------
    shape
        Rows and columns of the map.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        rows, columns = self.shape = shape
        height = int(np.clip(MAP_SIDE * rows / columns, 120, 1.5 * MAP_SIDE))
        self.keys = ColumnDataSource({"count": [0], "down": [0], "right": [0], "extend": [0]})
        self.drawn = ColumnDataSource({"xs": [], "ys": []})
        self._picture = ColumnDataSource({"image": [np.zeros(shape, np.float32)]})
        self._choice = ColumnDataSource({name: [] for name in ("image", "x", "y", "dw", "dh")})
        self._mapper = LinearColorMapper(palette=Viridis256, low=0.0, high=1.0, nan_color=LEFT_OUT)
        self.figure = plot = figure(
            width=MAP_SIDE + 70,
            height=height,
            x_range=Range1d(-0.5, columns - 0.5),
            y_range=Range1d(rows - 0.5, -0.5),
            tools=[],
            x_axis_label="column (pixels)",
            y_axis_label="row (pixels)",
            match_aspect=True,
            toolbar_location="above",
            name="map",
        )
        place = {"x": -0.5, "y": -0.5, "dw": columns, "dh": rows}
        shown = plot.image("image", source=self._picture, color_mapper=self._mapper, **place)
        # An index of 0 is no choice, and seen through.
        veil = LinearColorMapper(palette=["rgba(0,0,0,0)", "rgba(230,159,0,0.45)"], low=0, high=1)
        plot.image("image", "x", "y", "dw", "dh", source=self._choice, color_mapper=veil)
        self._marker = ColumnDataSource({"x": [], "y": []})
        plot.scatter(
            "x",
            "y",
            source=self._marker,
            marker="square_cross",
            size=14,
            line_color=CHOICE_COLOUR,
            fill_alpha=0.0,
            line_width=2,
        )
        lines = plot.multi_line("xs", "ys", source=self.drawn, color=CHOICE_COLOUR, line_width=2)
        plot.grid.visible = False
        plot.add_layout(ColorBar(color_mapper=self._mapper, width=8, padding=4), "right")
        box, zoom = BoxSelectTool(description="rectangle"), WheelZoomTool(description="zoom")
        plot.add_tools(
            TapTool(description="pixel"),
            box,
            LassoSelectTool(description="lasso"),
            FreehandDrawTool(renderers=[lines], num_objects=1, description="line"),
            PanTool(description="move the map"),
            zoom,
            ResetTool(),
            HoverTool(
                renderers=[shown],
                tooltips=[("row, column", "$y{0}, $x{0}"), ("value", "@image{0.[0000]}")],
                visible=False,
            ),
        )
        plot.toolbar.active_drag, plot.toolbar.logo = box, None
        plot.js_on_change("inner_width", CustomJS(args={"plot": plot, "keys": self.keys}, code=_KEYS))

    def show(self, picture: Picture, values: FloatArray) -> None:
        """Show a picture (y, x)."""
        finite = values[np.isfinite(values)]
        low, high = (
            (float(finite.min()), float(np.quantile(finite, TOP_QUANTILE))) if finite.size else (0.0, 1.0)
        )
        self._mapper.update(
            palette={"picture": Greys256, "abundance sd": Magma256, "element sd": Magma256}.get(
                picture.kind, Viridis256
            ),
            low=low if picture.kind in ("picture", "map") else min(low, 0.0),
            high=high if high > low else low + 1.0,
        )
        self._picture.data = {"image": [np.asarray(values, np.float32)]}

    def mark(self, inside: Mask) -> None:
        """Mark what is chosen (y, x)."""
        places = np.argwhere(inside)
        if len(places):
            rows, columns = bounding_box(inside)
            sides = {"dw": [columns.stop - columns.start], "dh": [rows.stop - rows.start]}
            start = {"x": [columns.start - 0.5], "y": [rows.start - 0.5]}
            self._choice.data = {"image": [inside[rows, columns].astype(np.uint8)], **start, **sides}
        else:
            self._choice.data = {name: [] for name in ("image", "x", "y", "dw", "dh")}
        alone = places if len(places) == 1 else places[:0]
        self._marker.data = {"x": alone[:, 1].astype(float), "y": alone[:, 0].astype(float)}


class SpectrumFigure:
    """Counts, fit and parts on a linear and a logarithmic axis, and the residuals below.

    Parameters
    ----------
    edges_keV : (energy + 1,)
    lines
        Group ``lines`` of the result.
    phases
        Names of the phases, which have colours of their own.
    """

    def __init__(self, edges_keV: FloatArray, lines: xr.Dataset, phases: list[str]) -> None:
        self._edges, self._lines, self._phases = edges_keV, lines, phases
        energies = Range1d(float(edges_keV[0]), float(edges_keV[-1]))
        self.main = ColumnDataSource({"x": [], "counts": [], "fit": []})
        self._log = ColumnDataSource({"x": [], "counts": [], "fit": []})
        self._marks = ColumnDataSource({name: [] for name in ("x", "y", "text")})
        self._parts: dict[str, list[Any]] = {"linear": [], "log": []}
        self.ranges = {"linear": Range1d(0.0, 1.0), "log": Range1d(0.1, 1.0)}
        self.figures = {
            kind: self._spectrum(kind, source, energies)
            for kind, source in (("linear", self.main), ("log", self._log))
        }
        self.figures["log"].visible = False
        self.left = ColumnDataSource({"x": [], "residual": []})
        self.residuals = self._residuals(energies)

    def _spectrum(self, kind: str, source: ColumnDataSource, energies: Range1d) -> Any:  # noqa: ANN401
        plot = figure(
            height=SPECTRUM_HEIGHT,
            sizing_mode="stretch_width",
            x_range=energies,
            y_range=self.ranges[kind],
            y_axis_type=kind,
            y_axis_label="counts per keV",
            tools=[],
            toolbar_location="above",
            name=f"spectrum {kind}",
        )
        counts = plot.line("x", "counts", source=source, color=GREY, line_width=1.0)
        plot.line("x", "fit", source=source, color=INK, line_width=1.4)
        for _ in range(MOST_PARTS + 1):
            self._parts[kind].append(plot.line([], [], line_width=1.2, visible=False))
        marks = plot.scatter(
            "x",
            "y",
            source=self._marks,
            marker="inverted_triangle",
            size=6,
            fill_color=GREY,
            line_color="white",
            hover_fill_color=INK,
        )
        self._tools(plot)
        plot.add_tools(
            HoverTool(renderers=[marks], tooltips="@text", visible=False),
            HoverTool(
                renderers=[counts],
                mode="vline",
                tooltips=[("keV", "$x{0.00}"), ("counts per keV", "@counts{0.}"), ("fit", "@fit{0.}")],
                visible=False,
                attachment="below",
            ),
        )
        return plot

    def _residuals(self, energies: Range1d) -> Any:  # noqa: ANN401
        plot = figure(
            height=RESIDUAL_HEIGHT,
            sizing_mode="stretch_width",
            x_range=energies,
            x_axis_label="energy (keV)",
            y_axis_label="residual (σ)",
            tools=[],
            toolbar_location=None,
            name="residuals",
        )
        for height in (-3.0, 0.0, 3.0):
            plot.hspan(y=height, line_color=GREY, line_dash="solid" if height == 0.0 else "dashed")
        plot.line("x", "residual", source=self.left, color=INK, line_width=0.8)
        self._tools(plot)
        return plot

    @staticmethod
    def _tools(plot: Any) -> None:  # noqa: ANN401
        zoom = WheelZoomTool(dimensions="width")
        plot.add_tools(PanTool(), zoom, ResetTool())
        plot.toolbar.logo = None

    def show(self, spectrum: ShownSpectrum, by: str, axis: str) -> dict[str, tuple[str, str]]:
        """Show a spectrum and the parts of its fit on one of the axes; return the parts' colours and dashes.

        Parameters
        ----------
        spectrum
            What is shown.
        by
            ``phase``, ``element`` or ``none``.
        axis
            ``linear`` or ``log``; the other one is hidden.
        """
        width, x = spectrum.width_keV, stairs_x(spectrum.edges_keV)
        counts, fit = (np.repeat(values / width, 2) for values in (spectrum.counts, spectrum.fit))
        top = float(max(np.nanmax(counts), np.nanmax(fit), 1e-9))
        # A floor under what has no logarithm: a tenth of a count in the widest bin, and no more decades than are shown.
        floor = max(top / 10.0**DECADES, 0.1 / float(width.max())) if axis == "log" else 0.0
        data = {"x": x, "counts": np.maximum(counts, floor), "fit": np.maximum(fit, floor)}
        (self._log if axis == "log" else self.main).data = data
        end = 3.0 * top if axis == "log" else 1.12 * top
        self.ranges[axis].update(start=floor, end=end)
        self.left.data = {"x": x, "residual": np.repeat(spectrum.residuals, 2)}
        self._mark(spectrum, top, floor)
        for kind, plot in self.figures.items():
            plot.visible = kind == axis
        found = {}
        lines = self._parts[axis]
        for number, (name, part) in enumerate(parts_shown(spectrum, by).items()):
            found[name] = part_look(name, self._phases.index(name) if by == "phase" else number)
            values = np.repeat(part / width, 2)
            lines[number].data_source.data = {"x": x, "y": np.where(values > floor, values, np.nan)}
            lines[number].glyph.update(line_color=found[name][0], line_dash=found[name][1])
        for number, line in enumerate(lines):
            line.visible = number < len(found)
        return found

    def _mark(self, spectrum: ShownSpectrum, top: float, floor: float) -> None:
        """Put a mark above the fit at each line, whose hover names it."""
        lines = strong_lines(self._lines)
        height = spectrum.fit / spectrum.width_keV
        energy = np.asarray(lines["energy_keV"].values, np.float64)
        at = np.clip(np.searchsorted(spectrum.edges_keV, energy) - 1, 0, len(height) - 1)
        self._marks.data = {
            "x": energy,
            "y": np.maximum(1.7 * height[at], 1.5 * floor) if floor > 0.0 else height[at] + 0.05 * top,
            "text": line_texts(lines),
        }


def stairs_x(edges: FloatArray) -> FloatArray:
    """Return the edges of bins as the energies of a stepped line, two for each bin."""
    return np.repeat(edges, 2)[1:-1]
