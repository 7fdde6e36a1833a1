"""What all figures share: size, type, colours, layout, scale bars, the order of elements.

Matplotlib lays panels out (`panel_figure`). Maps, which keep their proportions, and spectra, whose names need the
height of their axes, are placed in millimetres (`place_axes`). No function touches pyplot or leaves a trace in
matplotlib's global settings.

The colours of the phases are those of M. Okabe and K. Ito, Color Universal Design (2008), https://jfly.uni-koeln.de/color,
which people with any common form of colour blindness can tell apart.
"""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec

import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine, LayoutEngine
from matplotlib.ticker import LogFormatter
from PIL import Image

from bayesunmix.chemistry.stoichiometry import SYMBOLS

FloatArray = npt.NDArray[np.float64]
P = ParamSpec("P")

MM_PER_INCH = 25.4
WIDTH_MM = 180.0
_PAD = 1.5 / MM_PER_INCH
SMALL = 6.5
INK = "#1a1a1a"
GREY = "#8c8c8c"
PALE = "#f3f3f3"
LEFT_OUT = "#d9d9d9"
PHASE_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#4D4D4D")
"""Colours of the phases in their order: Okabe and Ito's, with umber and grey in place of their yellow and black."""

_SETTINGS: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "axes.linewidth": 0.6,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelpad": 2.5,
    "text.color": INK,
    # Names are the user's, and a dollar in one is a dollar.
    "text.parse_math": False,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "lines.linewidth": 0.9,
}


class PaperFigure(Figure):
    """A figure that shows itself at the end of a notebook cell without pyplot."""

    def _repr_png_(self) -> bytes:
        return png_bytes(self, 110)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with the settings of this module, whatever the user's own are, and leave those alone."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.style.context(["default", _SETTINGS]):
            figure = draw(*args, **kwargs)
            _powers_as_formulas(figure)
            return figure

    return wrapper


def _powers_as_formulas(figure: Figure) -> None:
    """Let the numbers of logarithmic axes be formulas, in which matplotlib writes powers of ten."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            for formatter, ticks in (
                (axis.get_major_formatter(), axis.majorTicks),
                (axis.get_minor_formatter(), axis.minorTicks),
            ):
                for tick in ticks if isinstance(formatter, LogFormatter) else ():
                    tick.label1.set_parse_math(True)
                    tick.label2.set_parse_math(True)


def figure_of(axes: Axes) -> Figure:
    """Return the figure that axes stand in."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def new_figure(
    height_mm: float, width_mm: float = WIDTH_MM, layout: LayoutEngine | None = None
) -> PaperFigure:
    """Return an empty figure of a given size."""
    return PaperFigure(figsize=(width_mm / MM_PER_INCH, height_mm / MM_PER_INCH), layout=layout)


def panel_figure(
    height_mm: float,
    width_mm: float = WIDTH_MM,
    *,
    panels: int = 1,
    columns: int = 1,
    **ratios: Any,  # noqa: ANN401
) -> tuple[PaperFigure, list[Axes]]:
    """Return a figure with panels that matplotlib lays out, row by row.

    Parameters
    ----------
    height_mm, width_mm
        Size of the figure.
    panels, columns
        Number of panels, and how many stand side by side.
    **ratios
        ``height_ratios`` or ``width_ratios`` of the rows or columns.
    """
    figure = new_figure(height_mm, width_mm, ConstrainedLayoutEngine(w_pad=_PAD, h_pad=_PAD, wspace=0.03))
    grid = figure.add_gridspec(max(math.ceil(panels / columns), 1), columns, **ratios)
    return figure, [_with_ticks(figure.add_subplot(grid[place])) for place in range(panels)]


def page_mm(figure: Figure) -> tuple[float, float]:
    """Return width and height of a figure in mm."""
    width, height = figure.get_size_inches()
    return float(width) * MM_PER_INCH, float(height) * MM_PER_INCH


def axes_mm(axes: Axes) -> tuple[float, float]:
    """Return width and height of axes in mm."""
    box = axes.get_position()
    width, height = page_mm(axes.figure)  # type: ignore[arg-type]
    return box.width * width, box.height * height


def place_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes whose upper left corner lies `left` and `top` mm from that of the figure.

    Parameters
    ----------
    figure
        The figure.
    left, top, width, height
        Place and size in mm.
    """
    page_width, page_height = page_mm(figure)
    return _with_ticks(
        figure.add_axes(
            (left / page_width, 1.0 - (top + height) / page_height, width / page_width, height / page_height)
        )
    )


def _with_ticks(axes: Axes) -> Axes:
    """Give axes the ticks of all figures."""
    # Ticks are made when they are drawn, by then with the user's settings: everything they need is said here.
    axes.tick_params(which="both", width=0.6, labelsize=7.0, pad=2.0, color=INK, labelcolor=INK)
    axes.tick_params(which="major", length=2.5)
    axes.tick_params(which="minor", length=1.5)
    return axes


def place_text(figure: Figure, left: float, top: float, text: str, **kwargs: Any) -> None:  # noqa: ANN401
    """Write text at a place given in mm from the upper left corner of the figure."""
    page_width, page_height = page_mm(figure)
    figure.text(left / page_width, 1.0 - top / page_height, text, **kwargs)


def place_colourbar(
    figure: Figure,
    image: ScalarMappable,
    box: tuple[float, float, float, float],
    label: str = "",
    **kwargs: Any,  # noqa: ANN401
) -> None:
    """Add a colour bar in the box (left, top, width, height) in mm; a box wider than high lies flat."""
    axes = place_axes(figure, *box)
    orientation = "horizontal" if box[2] > box[3] else "vertical"
    bar = figure.colorbar(image, cax=axes, orientation=orientation, **kwargs)
    bar.set_label(label, size=7.0)
    bar.outline.set_linewidth(0.5)
    bar.ax.tick_params(which="both", width=0.5, length=2.0, labelsize=SMALL, pad=1.5)
    bar.ax.minorticks_off()


def legend_mm(entries: int, columns: int) -> float:
    """Height of a legend above the axes, in mm."""
    return 4.5 * math.ceil(entries / columns)


def hide_frame(axes: Axes, *sides: str) -> None:
    """Remove some sides of the frame."""
    for side in sides:
        axes.spines[side].set_visible(False)


def phase_colour(index: int) -> str:
    """Return the colour of a phase by its place in the result."""
    return PHASE_COLOURS[index % len(PHASE_COLOURS)]


def fade(colour: str, strength: FloatArray) -> FloatArray:
    """Mix a colour with white: all white at strength 0, the colour itself at 1; shape (..., 3)."""
    weight = np.asarray(strength, dtype=np.float64)[..., np.newaxis]
    mixed: FloatArray = weight * np.array(to_rgb(colour)) + (1.0 - weight)
    return mixed


def darken(colour: str) -> tuple[float, float, float]:
    """Return a colour dark enough for small letters on white."""
    red, green, blue = (0.72 * part for part in to_rgb(colour))
    return red, green, blue


def element_order(elements: Iterable[str]) -> list[str]:
    """Return elements by atomic number."""
    return sorted(elements, key=SYMBOLS.index)


def shorten(name: str, letters: int) -> str:
    """Cut a long name so that it fits its place."""
    return name if len(name) <= letters else name[: letters - 1].rstrip() + "…"


def nice_length(span: float) -> float:
    """Return the largest of 1, 2, 5, 10, 20, ... that is at most a third of `span`."""
    power = 10.0 ** np.floor(np.log10(span / 3.0))
    return float(power * max(step for step in (1.0, 2.0, 5.0) if step * power <= span / 3.0 * (1 + 1e-9)))


def length_text(length: float, unit: str) -> str:
    """Write a length, thousands of a unit in the next larger one."""
    larger = {"nm": "µm", "um": "mm", "µm": "mm", "Å": None}.get(unit)
    if length >= 1000.0 and larger:
        length, unit = length / 1000.0, larger
    return f"{length:g} {'µm' if unit == 'um' else unit or 'px'}"


def map_extent(shape: tuple[int, int], pixel_size: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return the extent (left, right, bottom, top) of a map (y, x) for ``imshow`` in units of length."""
    return 0.0, shape[1] * pixel_size[1], shape[0] * pixel_size[0], 0.0


def scale_bar(axes: Axes, unit: str, colour: str = "white", *, right_corner: bool = False) -> None:
    """Draw a scale bar into a lower corner of a map whose data coordinates are lengths."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    length = nice_length(right - left)
    x = right - 0.05 * (right - left) - length if right_corner else left + 0.05 * (right - left)
    y = bottom + 0.06 * (top - bottom)
    outline = INK if colour == "white" else "white"
    bar = axes.plot([x, x + length], [y, y], color=colour, linewidth=2.0, solid_capstyle="butt")[0]
    bar.set_path_effects([patheffects.withStroke(linewidth=3.2, foreground=outline)])
    axes.annotate(
        length_text(length, unit),
        (x + length / 2.0, y),
        xytext=(0.0, 2.5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        color=colour,
        fontsize=7.0,
        path_effects=[patheffects.withStroke(linewidth=1.8, foreground=outline)],
    )
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def png_bytes(figure: Figure, dpi: float) -> bytes:
    """Return a figure as a PNG file."""
    stream = io.BytesIO()
    # Two thirds of the time of the usual compression for files a tenth larger.
    figure.savefig(stream, format="png", dpi=dpi, pil_kwargs={"compress_level": 3})
    return stream.getvalue()


def scaled_png(picture: bytes, factor: float) -> bytes:
    """Return a picture in PNG with its sides multiplied by a factor below 1."""
    stream = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as opened:
        size = tuple(max(1, round(factor * side)) for side in opened.size)
        # Means of pixels have fewer colours than sharper filters give, and no figure is transparent.
        small = opened.convert("RGB").resize((size[0], size[1]), Image.Resampling.BOX)
        small.save(stream, "PNG", compress_level=9)
    return stream.getvalue()
