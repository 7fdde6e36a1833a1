"""The viewer: what happens when the user chooses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import panel as pn
import xarray as xr
from bokeh.events import DoubleTap, Press, SelectionGeometry, Tap

from bayesunmix.analysis.element_maps import maps_of_draws
from bayesunmix.analysis.joint_draws import JointDraws
from bayesunmix.analysis.places import taking_part
from bayesunmix.analysis.regions import region_draws
from bayesunmix.core.errors import InputError, failure_text
from bayesunmix.results.result import Result
from bayesunmix.viewer.choices import Choice, Lasso, LineChoice, Mask, Rectangle, moved, rectangle_between
from bayesunmix.viewer.controls import Page
from bayesunmix.viewer.export import mask_npy, spectrum_csv, table_csv
from bayesunmix.viewer.figures import MapFigure, SpectrumFigure
from bayesunmix.viewer.opened import Opened
from bayesunmix.viewer.page import legend_html, status_html, tables_html
from bayesunmix.viewer.pictures import Picture, pictures, stored_picture, window_of, window_picture
from bayesunmix.viewer.spectra import ShownSpectrum, spectrum_of, stored_spectrum
from bayesunmix.viewer.state import first_view
from bayesunmix.viewer.tables import CHOICE, ShownRow, in_unit, ratio_rows, region_rows
from bayesunmix.viewer.work import Latest, Told

# The spectrum of so many pixels is made at once, and that of more beside what the user does.
SOON = 20_000


class Viewer:
    """A viewer of one or several results.

    Parameters
    ----------
    opened
        What is looked at; one of them at a time.

    Attributes
    ----------
    page : Page
        Its controls and what they show.
    view : View
        What it shows.
    """

    def __init__(self, opened: tuple[Opened, ...]) -> None:
        self._opened = opened
        self._document = pn.state.curdoc
        self._reading, self._regions, self._maps = (Latest(self._failed) for _ in range(3))
        self._source: JointDraws | None = None
        self._drawn: xr.Dataset | None = None
        self._element_maps: xr.Dataset | None = None
        self._spectrum: ShownSpectrum | None = None
        self._following = False
        self.view = first_view(self.result(0))
        self.page = Page([one.name for one in opened])
        self._watch()
        self._open(0)

    def result(self, run: int | None = None) -> Result:
        """Return the result that is shown, or another."""
        return self._opened[self.view.run if run is None else run].result

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self._opened[self.view.run].shape

    def _watch(self) -> None:
        """Have the controls heard."""
        self.page.run.param.watch(lambda event: self._open(event.new), "value")
        self.page.picture.param.watch(lambda event: self._choose_picture(event.new), "value")
        for place in (self.page.row, self.page.column):
            place.param.watch(lambda _: self._typed(), "value")
        self.page.line_width.param.watch(lambda _: self._line_widened(), "value")
        for name in ("axis", "parts", "unit", "numerator", "denominator"):
            getattr(self.page, name).param.watch(
                lambda event, name=name: self._changed(**{name: event.new}), "value"
            )
        for download, made in zip(
            self.page.files, (self._spectrum_file, self._table_file, self._mask_file), strict=True
        ):
            download.callback = made

    # What the user does.

    def _open(self, run: int) -> None:
        """Show a run; a choice stays where the maps are of one shape."""
        kept = self.view.choice if self._opened[run].shape == self.shape else None
        result = self.result(run)
        self.view = first_view(result, run, kept)
        self._source = self._drawn = self._element_maps = None
        for work in (self._regions, self._maps):
            work.stop()
        self._following = True
        names = [CHOICE, *result.sample_phases]
        for widget, name in (
            (self.page.numerator, self.view.numerator),
            (self.page.denominator, self.view.denominator),
        ):
            widget.param.update(options=names, value=name)
        groups = {name: {one.text: one for one in group} for name, group in pictures(result).items()}
        self.page.picture.param.update(options=[], groups=groups, value=self.view.picture)
        rows, columns = self.shape
        self.page.row.end, self.page.column.end = rows - 1, columns - 1
        self._following = False
        self.view = replace(
            self.view, axis=self.page.axis.value, parts=self.page.parts.value, unit=self.page.unit.value
        )
        self.map = MapFigure(self.shape)
        self._listen()
        self.page.map_place[:] = [pn.pane.Bokeh(self.map.figure)]
        self._show_stored()
        self._choose_picture(self.view.picture)
        self.choose(self.view.choice)
        opened = self._opened[run]
        self._say("The counts of the map are being read.", share=np.nan)
        self._reading.do(lambda _: opened.source(), self._in_page(self.have_counts), lambda _: None)

    def _listen(self) -> None:
        plot = self.map.figure
        # A slow hand, or a busy browser, makes a press of a click; two quick ones are a double tap, however far apart.
        for click in (Tap, DoubleTap, Press):
            plot.on_event(click, lambda event: self.choose(self._pixel(event.y, event.x)))
        plot.on_event(SelectionGeometry, self._selected)
        self.map.drawn.on_change("data", lambda _name, _old, new: self._line_drawn(new))
        self.map.keys.on_change("data", lambda _name, _old, new: self._key(new))

    def _pixel(self, row: float, column: float) -> Rectangle:
        rows, columns = self.shape
        return Rectangle.pixel(np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1))

    def _selected(self, event: Any) -> None:  # noqa: ANN401 - an event of Bokeh
        geometry = event.geometry
        if not event.final:
            return
        if geometry["type"] == "rect":
            corners = (geometry["y0"], geometry["x0"]), (geometry["y1"], geometry["x1"])
            self.choose(rectangle_between(*corners, self.shape))
        elif geometry["type"] == "poly" and len(geometry["x"]) > 2:
            self.choose(Lasso(tuple(zip(geometry["y"], geometry["x"], strict=True))))

    def _line_drawn(self, data: Any) -> None:  # noqa: ANN401 - columns of Bokeh
        if len(data["xs"]) and len(data["xs"][-1]) > 1:
            x, y = data["xs"][-1], data["ys"][-1]
            self.choose(LineChoice((y[0], x[0]), (y[-1], x[-1]), self.page.line_width.value or 1))

    def _line_widened(self) -> None:
        if isinstance(self.view.choice, LineChoice):
            self.choose(replace(self.view.choice, width=self.page.line_width.value or 1))

    def _key(self, data: Any) -> None:  # noqa: ANN401 - columns of Bokeh
        down, right, extend = (int(data[name][0]) for name in ("down", "right", "extend"))
        self.choose(moved(self.view.choice, down, right, self.shape, extend=bool(extend)))

    def _typed(self) -> None:
        if not self._following and None not in (self.page.row.value, self.page.column.value):
            self.choose(self._pixel(self.page.row.value, self.page.column.value))

    def choose(self, choice: Choice) -> None:
        """Show what is chosen: its spectrum at once, its intervals as soon as they are there."""
        self.view = replace(self.view, choice=choice)
        inside = choice.mask(self.shape)
        self.map.mark(inside)
        if not isinstance(choice, LineChoice):
            self.map.drawn.data = {"xs": [], "ys": []}
        if isinstance(choice, Rectangle):
            self._following = True
            self.page.row.value, self.page.column.value = choice.to_row, choice.to_column
            self._following = False
        self._drawn = None
        part = inside & taking_part(self.result())
        if self._source is None:
            self.page.chosen.object = f"<b>{choice}</b>: {_pixels(part)}"
            self._pushed()
            return
        self._look_at(self._source, part)

    def _look_at(self, source: JointDraws, part: Mask) -> None:
        if not part.any():
            self._regions.stop()
            self.page.chosen.object = f"<b>{self.view.choice}</b>: no pixel that takes part"
            self.page.table.object = self.page.work.object = ""
            self._pushed()
            return
        at_once = int(np.count_nonzero(part)) <= SOON
        if at_once:
            self._show_spectrum(spectrum_of(self.result(), source, part))
        self._busy(0.0)
        self._show_table()
        self._pushed()
        result, shown = self.result(), self._in_page(self._show_spectrum)

        def job(told: Told) -> xr.Dataset:
            if not at_once:
                shown(spectrum_of(result, source, part))
            return region_draws(result, part, source, told=told)

        self._regions.do(job, self._in_page(self._have_draws), self._in_page(self._busy))

    def _changed(self, **changes: Any) -> None:  # noqa: ANN401 - fields of `View`
        """Take over what a control says."""
        if self._following:
            return
        self.view = replace(self.view, **changes)
        if {"axis", "parts"} & set(changes):
            if self._spectrum is not None:
                self._show_spectrum(self._spectrum, "" if self._source else "whole map")
        else:
            self._show_table()
        self._pushed()

    def _choose_picture(self, picture: Picture) -> None:
        """Show a picture, or have it made."""
        if self._following or picture is None:
            return
        self.view = replace(self.view, picture=picture)
        if not picture.needs_counts:
            self.map.show(picture, stored_picture(self.result(), picture))
        elif self._source is None:
            self._say(f"{picture.text}: needs the counts of the map.", wrong=True)
        elif not picture.needs_draws:
            window = window_of(self.result(), picture.of, self._source.image.acquisition)
            self.map.show(picture, window_picture(self._source, window))
            self._say(f"Counts from {window[0]:.3f} to {window[1]:.3f} keV.")
        elif self._element_maps is None:
            result, source = self.result(), self._source
            text = "The element maps are being computed."
            self.map.show(picture, np.full(self.shape, np.nan))
            self._say(text, share=0.0)
            self._maps.do(
                lambda told: maps_of_draws(result, source, told=told),
                self._in_page(self._have_maps),
                self._in_page(lambda share: self._say(text, share=share)),
            )
        else:
            statistic = "sd" if picture.kind == "element sd" else "mean"
            values = self._element_maps[statistic].sel(element=picture.of).values
            self.map.show(picture, np.asarray(values, np.float64))
        self._pushed()

    # What has been made beside it.

    def have_counts(self, source: JointDraws) -> None:
        self._source = source
        self._say("")
        self.choose(self.view.choice)

    def _have_draws(self, drawn: xr.Dataset) -> None:
        self._drawn = drawn
        self.page.work.object = ""
        self._show_table()

    def _have_maps(self, maps: xr.Dataset) -> None:
        self._element_maps = maps
        self._say("")
        self._choose_picture(self.view.picture)

    def _failed(self, error: Exception) -> None:
        text = str(error) if isinstance(error, InputError) else failure_text(error)

        def tell() -> None:
            self.page.work.object = ""
            if self._source is None:
                text_ = (
                    f"{text} In a terminal: bayesunmix view DIR --map FILE. Shown is what the folder holds."
                )
                self._say(text_, wrong=True)
            else:
                self._say(text, wrong=True)

        self._in_page(tell)()

    # What is shown.

    def _show_stored(self) -> None:
        """Show the sum spectrum of the folder until the counts are there."""
        result = self.result()
        spectrum = stored_spectrum(result)
        self.spectrum = SpectrumFigure(spectrum.edges_keV, result.tree["lines"].dataset, result.phases)
        self.page.spectrum_place[:] = [
            pn.pane.Bokeh(plot, sizing_mode="stretch_width")
            for plot in (*self.spectrum.figures.values(), self.spectrum.residuals)
        ]
        self._show_spectrum(spectrum, "whole map")
        self._show_table()

    def _show_spectrum(self, spectrum: ShownSpectrum, of: str = "") -> None:
        self._spectrum = spectrum
        colours = self.spectrum.show(spectrum, self.view.parts, self.view.axis)
        self.page.legend.object = legend_html(colours)
        if self.view.parts == "element" and not spectrum.by_element:
            self.page.legend.object += "This folder holds no parts by element: unmix the map again for them."
        counts = round(float(spectrum.counts.sum()))
        pixels = "1 pixel" if spectrum.n_pixels == 1 else f"{spectrum.n_pixels:,} pixels"
        self.page.chosen.object = (
            f"<b>{of or self.view.choice}</b>: {pixels}, {counts:,} counts in the fitted energies"
        )

    def _show_table(self) -> None:
        ratio = f"{self.view.numerator} / {self.view.denominator}"
        self.page.table.object = tables_html(self.rows(), self.result().level, ratio)

    def rows(self) -> tuple[ShownRow, ...]:
        """Rows of the table that is shown."""
        result, drawn = self.result(), self._drawn
        try:
            own = () if drawn is None else region_rows(result, in_unit(result, drawn, self.view.unit))
        except InputError as error:
            self._say(str(error), wrong=True)
            own = ()
        return (*own, *ratio_rows(result, self.view.numerator, self.view.denominator, drawn))

    def _say(self, text: str, *, share: float | None = None, wrong: bool = False) -> None:
        self.page.status.object = status_html(text, share=share, wrong=wrong)

    def _busy(self, share: float) -> None:
        self.page.work.object = status_html("The intervals are being computed.", share=share)

    # Files.

    def _spectrum_file(self) -> BytesIO:
        return BytesIO(b"" if self._spectrum is None else spectrum_csv(self._spectrum))

    def _table_file(self) -> BytesIO:
        return BytesIO(table_csv(self.rows(), self.result().level))

    def _mask_file(self) -> BytesIO:
        inside = self.view.choice.mask(self.shape)
        return BytesIO(mask_npy(inside, invert=bool(self.page.outside.value)))

    # Threads and notebooks.

    def _in_page(self, show: Callable[..., None]) -> Callable[..., None]:
        """Return what shows something from another thread: in the page's own turn, or at once in a notebook."""

        def called(*values: Any) -> None:  # noqa: ANN401 - whatever is shown
            document = self._document
            if document is not None and document.session_context:
                document.add_next_tick_callback(lambda: show(*values))
            else:
                show(*values)
                self._pushed()

        return called

    def _pushed(self) -> None:
        """Hand over to a notebook what has changed in figures; a server does so by itself."""
        if self._document is None or not self._document.session_context:
            pn.io.push_notebook(*self.page.map_place, *self.page.spectrum_place)

    def close(self) -> None:
        """End what is going on."""
        for work in (self._reading, self._regions, self._maps):
            work.stop()


def _pixels(inside: Mask) -> str:
    number = int(np.count_nonzero(inside))
    return "1 pixel" if number == 1 else f"{number:,} pixels"


def page(opened: tuple[Opened, ...]) -> Any:  # noqa: ANN401 - a layout of Panel
    """Return a page for one browser."""
    viewer = Viewer(opened)
    pn.state.on_session_destroyed(lambda _: viewer.close())
    return viewer.page.layout
