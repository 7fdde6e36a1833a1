"""Controls of the viewer and their places on the page, by Panel; each has a label, and the Tab key reaches it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import panel as pn

from bayesunmix.analysis.mixtures import MIXTURE_UNITS
from bayesunmix.viewer.figures import MAP_SIDE
from bayesunmix.viewer.state import AXES, PARTS

UNIT_NAMES = dict(zip(MIXTURE_UNITS, ("at%", "wt%", "oxide wt%"), strict=True))
# Narrower than a laptop's screen.
_LEAST_WIDTH = 560


class Page:
    """Controls, texts, and places for figures.

    Parameters
    ----------
    runs
        Names of the results, of which one is shown.
    """

    def __init__(self, runs: Sequence[str]) -> None:
        select, whole, download = pn.widgets.Select, pn.widgets.IntInput, pn.widgets.FileDownload
        narrow: dict[str, Any] = {"width": 90, "step": 1, "start": 0}
        wide: dict[str, Any] = {"sizing_mode": "stretch_width", "margin": (0, 10)}
        self.run = select(
            label="Run", options={name: i for i, name in enumerate(runs)}, value=0, width=MAP_SIDE
        )
        self.picture = select(label="Picture", width=MAP_SIDE)
        self.row, self.column = whole(label="Row", **narrow), whole(label="Column", **narrow)
        self.line_width = whole(label="Line width", value=1, **(narrow | {"start": 1}))
        self.axis = select(label="Axis", options=list(AXES), width=100)
        self.parts = select(label="Parts of the fit by", options=list(PARTS), width=140)
        units = {name: unit for unit, name in UNIT_NAMES.items()}
        self.unit = select(label="Composition in", options=units, width=120)
        self.numerator, self.denominator = select(label="D of", width=130), select(label="over", width=130)
        self.outside = pn.widgets.Checkbox(label="mask is true outside the choice", align="center")
        self.files = [
            download(callback=_nothing, filename=name, label=label, width=140)
            for name, label in (
                ("spectrum.csv", "Spectrum (CSV)"),
                ("composition.csv", "Table (CSV)"),
                ("mask.npy", "Mask (npy)"),
            )
        ]
        self.status, self.chosen, self.work, self.legend, self.table = (
            pn.pane.HTML("", **wide) for _ in range(5)
        )
        self.map_place, self.spectrum_place = pn.Column(), pn.Column(sizing_mode="stretch_width")
        left = pn.Column(
            self.run,
            self.picture,
            self.map_place,
            pn.Row(self.row, self.column, self.line_width),
            self.status,
            width=MAP_SIDE + 90,
        )
        right = pn.Column(
            self.chosen,
            pn.Row(self.axis, self.parts),
            self.spectrum_place,
            self.legend,
            pn.Row(self.unit, self.numerator, self.denominator),
            self.work,
            self.table,
            pn.Row(*self.files, self.outside),
            sizing_mode="stretch_width",
            min_width=_LEAST_WIDTH,
        )
        self.layout = pn.Row(left, right, sizing_mode="stretch_width")


def _nothing() -> None:
    """Stand in for what makes a file until there is something."""
