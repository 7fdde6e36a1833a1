"""Undeclared elements that a sum spectrum shows, and those that errors of the declared ones' lines look like."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from bayesunmix.core.severity import UNDECLARED, Reservation
from bayesunmix.fit.sample_lines import undeclared_notes
from bayesunmix.xray.evidence import SHOWN_SIGMAS, ElementEvidence

Load = Callable[[str], ModuleType]


@pytest.mark.parametrize(("sample", "added"), [("silicates", "Cl"), ("solder", "Pb")])
def test_an_element_with_a_line_of_its_own_is_shown(load: Load, sample: str, added: str) -> None:
    """One per cent of 3e5 counts, with lines of all others that are off in strength and energy."""
    study = load("undeclared_elements")
    drawn = study.draw(sample, added, 0.01, 3e5, 7)
    assert drawn.own > study.OWN_COUNTS
    assert study.read(sample, drawn.counts).shown == (added,)


@pytest.mark.parametrize("sample", ["solder", "cathode"])
def test_errors_of_lines_are_no_elements(load: Load, sample: str) -> None:
    """Three million counts, so that errors of lines are many standard deviations: columns are fitted, none is shown."""
    study = load("undeclared_elements")
    refined = study.read(sample, study.draw(sample, None, 0.0, 3e6, 1).counts)
    assert refined.found
    assert set(refined.evidence) == set(refined.found)
    assert refined.shown == ()


def refined(found: dict[str, ElementEvidence]) -> Any:  # noqa: ANN401 - as much of a refinement as the notes read
    shown = tuple(element for element, evidence in found.items() if evidence.shown)
    return SimpleNamespace(found=dict.fromkeys(found, 210.0), evidence=found, shown=shown)


SHOWN, POSSIBLE = ElementEvidence(SHOWN_SIGMAS, ()), ElementEvidence(SHOWN_SIGMAS - 0.1, ("Cu_L", "Ni_L"))
MAINS = {"Ni": "K", "Ta": "L", "Re": "L"}


def test_shown_elements_are_a_reservation() -> None:
    (note,) = undeclared_notes(refined({"Cu": SHOWN, "Pb": SHOWN}), MAINS)
    assert isinstance(note, Reservation)
    assert note.about == UNDECLARED
    assert note.startswith("The sum spectrum shows lines of undeclared elements: Cu (210 counts), Pb")


def test_possible_elements_are_a_plain_note() -> None:
    """They touch no element's main family: the verdict is as without them."""
    first, note = undeclared_notes(refined({"Cu": SHOWN, "Au": POSSIBLE, "Ge": POSSIBLE}), MAINS)
    assert "Au" not in first
    assert type(note) is str
    assert "Au (210 counts) and Ge (210 counts)" in note
    assert "so they may not be there" in note


def test_possible_elements_that_sway_a_main_family_are_a_reservation() -> None:
    (note,) = undeclared_notes(refined({"Au": ElementEvidence(2.0, ("Ta_L", "Re_L", "Ni_L"))}), MAINS)
    assert isinstance(note, Reservation)
    assert "the counts of Ta and Re change by more than their error." in note
    assert note.endswith("name it in `sample.elements` or `sample.stray`.")
