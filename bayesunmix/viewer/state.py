"""What the viewer shows: all that its controls say."""

from __future__ import annotations

from dataclasses import dataclass

from bayesunmix.analysis.mixtures import MIXTURE_UNITS
from bayesunmix.results.result import Result
from bayesunmix.viewer.choices import Choice, Rectangle
from bayesunmix.viewer.pictures import Picture, pictures
from bayesunmix.viewer.tables import CHOICE

PARTS = ("phase", "element", "none")
AXES = ("linear", "log")


@dataclass(frozen=True)
class View:
    """State of a viewer.

    Attributes
    ----------
    run
        Number of the result that is shown.
    picture
        On which places are chosen.
    choice
        What is chosen.
    axis, parts
        Of the spectrum: one of `AXES` and of `PARTS`.
    unit
        Of the composition.
    numerator, denominator
        Of D: names of phases, or `CHOICE`.
    """

    run: int
    picture: Picture
    choice: Choice
    axis: str = AXES[0]
    parts: str = PARTS[0]
    unit: str = MIXTURE_UNITS[0]
    numerator: str = CHOICE
    denominator: str = CHOICE


def first_view(result: Result, run: int = 0, choice: Choice | None = None) -> View:
    """Return what is shown of a result at first: its total counts, and the pixel in the middle.

    Parameters
    ----------
    result, run
        The result, and its number.
    choice
        What is chosen already, on a map of the same shape.
    """
    rows, columns = result.tree["maps"]["label"].shape
    groups = pictures(result)
    hosts = [phase.name for phase in result.record.config.phases if phase.matrix]
    phases = result.sample_phases
    return View(
        run=run,
        picture=groups["counts"][0],
        choice=Rectangle.pixel(rows // 2, columns // 2) if choice is None else choice,
        denominator=next((name for name in hosts if name in phases), phases[0] if phases else CHOICE),
    )
