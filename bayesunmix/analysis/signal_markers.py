"""What is written onto a result's signals: names of phases, and lines of the elements.

Markers stay with a signal when it is saved and opened again.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from bayesunmix.data.image import HyperSpySignal

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

_OWN, _STRAY = "black", "grey"


def exspy_names(result: Result) -> tuple[list[str], list[str]]:
    """Return the elements, and the strongest line of each one's main family, as exSpy names and sorts them: ``Fe_Ka``.

    It knows no lines of a few heavy elements, and not all of those: what it does not know it would refuse.
    """
    known = import_module("exspy.material").elements
    constants, lines = result.tree["constant_data"].dataset, result.tree["lines"].dataset
    families = {*zip(lines["element"].values, lines["family"].values, strict=True)}
    mains = zip(constants["element"].values, constants["calibration_family"].values, strict=True)
    named = [f"{element}_{family}a" for element, family in mains if (element, family) in families]
    elements = [element for element in result.elements if element in known]
    return sorted(elements), sorted(line for line in named if _has_line(known, *line.split("_")))


def _has_line(known: Any, element: str, line: str) -> bool:  # noqa: ANN401 - exSpy's table of elements
    place = f"{element}.Atomic_properties.Xray_lines.{line}"
    return element in known and bool(known.has_item(place))


def add_phase_names(signal: HyperSpySignal, phases: Sequence[str]) -> None:
    """Write the name of the phase that is shown into the upper right corner."""
    texts = np.empty(len(phases), dtype=object)
    for place, name in enumerate(phases):
        texts[place] = np.array([name])
    markers = import_module("hyperspy.api").plot.markers
    label = markers.Texts(
        offsets=np.array([[0.98, 0.98]]),
        offset_transform="axes",
        texts=texts,
        horizontalalignment="right",
        verticalalignment="top",
        name="phase",
    )
    signal.add_marker(label, plot_marker=False, permanent=True)


def _strongest(lines: xr.Dataset) -> list[int]:
    """Places of the strongest line of each family of each element."""
    found: dict[tuple[str, str], int] = {}
    share = lines["strength_share"].values
    for place, key in enumerate(zip(lines["element"].values, lines["family"].values, strict=True)):
        if key not in found or share[place] > share[found[key]]:
            found[key] = place
    return list(found.values())


def add_line_labels(signal: HyperSpySignal, lines: xr.Dataset) -> None:
    """Write the name of the strongest line of each family where the spectrum has it; of stray elements in grey.

    Letters and places are those of exSpy, whose own names (``plot(xray_lines=True)``) come to lie on these.

    Parameters
    ----------
    signal
        Spectra.
    lines
        Group ``lines`` of a result.
    """
    axis = signal.axes_manager["Energy"]
    ends = float(axis.low_value), float(axis.high_value)
    # A marker beyond the centre of the last channel cannot be drawn.
    strongest = [
        place for place in _strongest(lines) if ends[0] <= lines["energy_keV"].values[place] <= ends[1]
    ]
    if not strongest:
        return
    markers = import_module("hyperspy.api").plot.markers
    energy = lines["energy_keV"].values[strongest]
    named = zip(lines["element"].values[strongest], lines["family"].values[strongest], strict=True)
    stray = lines["stray"].values[strongest] if "stray" in lines else np.zeros(len(strongest), bool)
    label = markers.Texts(
        offsets=np.stack([energy, np.ones(len(energy))], axis=1),
        offset_transform="relative",
        texts=[rf"$\mathrm{{{element}}}_{{\mathrm{{{family}a}}}}$" for element, family in named],
        facecolor=[_STRAY if one else _OWN for one in stray],
        rotation=np.pi / 2,
        horizontalalignment="left",
        verticalalignment="bottom",
        shift=0.005,
        name="lines",
    )
    signal.add_marker(label, plot_marker=False, permanent=True)
