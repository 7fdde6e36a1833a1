"""What nothing pins is named: phases that could trade counts without the fit noticing."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.checks.identifiability import non_identifiable, non_identifiable_sentences
from bayesunmix.checks.outcomes import NonIdentifiable
from bayesunmix.config.phase import Phase
from bayesunmix.core.severity import Distrust, Reservation

NAMES = ("Mg", "Si", "Fe", "Nd")


def pairs(
    phases: list[Phase],
    shares: list[list[float]],
    pure: npt.NDArray[np.float64] | None = None,
    rotated: npt.NDArray[np.float64] | None = None,
) -> list[NonIdentifiable]:
    """Pairs that are not identifiable at some component shares (phase, component)."""
    return non_identifiable(phases, np.array(shares), NAMES, pure=pure, rotated=rotated)


def test_a_phase_that_holds_another_is_loose_by_its_scarcest_component() -> None:
    found = pairs([Phase("A", matrix=True), Phase("B")], [[0.5, 0.3, 0.2], [0.2, 0.6, 0.2]])
    assert [(pair.phase, pair.other) for pair in found] == [("B", "A")]
    assert found[0].share == pytest.approx(0.4)  # 0.2 / 0.5
    (text,) = non_identifiable_sentences(found)
    assert "about 40 % of its counts, or more" in text
    assert "Declare an element of A absent from B" in text


def test_an_absent_element_pins_the_phase() -> None:
    shares = [[0.5, 0.3, 0.2], [0.0, 0.6, 0.4]]
    assert pairs([Phase("A", matrix=True), Phase("B", absent=["Mg"])], shares) == []


def test_a_trace_that_only_the_other_phase_holds_pins_it_weakly() -> None:
    shares = [[0.495, 0.3, 0.2, 0.005], [0.3, 0.4, 0.29995, 0.00005]]
    phases = [Phase("A", matrix=True), Phase("B")]
    (pair,) = pairs(phases, shares)
    assert pair.weakly_pinned_by == ("Nd",)
    assert pair.share == pytest.approx(0.3 / 0.495)
    (said,) = non_identifiable_sentences([pair])
    assert isinstance(said, Reservation)
    assert "only Nd, of which A has little" in said
    # Where the other phase would have to give up much of a main component first, the trace is not needed.
    main = [[0.495, 0.3, 0.2, 0.005], [0.005, 0.5, 0.49495, 0.00005]]
    assert pairs(phases, main) == []


def test_pure_pixels_pin_a_phase() -> None:
    phases, shares = [Phase("A"), Phase("B")], [[0.5, 0.5], [0.2, 0.8]]
    found = pairs(phases, shares, np.array([0.6, 0.0]))
    assert [pair.phase for pair in found] == ["B"]
    assert pairs(phases, shares, np.array([0.6, 0.4])) == []


def test_a_phase_is_told_of_once() -> None:
    shares = [[0.5, 0.5], [0.2, 0.8], [0.3, 0.7]]
    phases = [Phase("A"), Phase("B"), Phase("C")]
    (said,) = non_identifiable_sentences(pairs(phases, shares))
    assert isinstance(said, Distrust)
    told = "about 87 % of the counts of C, or more, could belong to B, 71 % of those of A to C and"
    assert said.startswith(f"C, A and B are non-identifiable: {told}")
    # An interval that holds it is an answer.
    (held,) = non_identifiable_sentences(pairs(phases, shares, rotated=np.ones((3, 3))))
    assert isinstance(held, Reservation)
    assert "Their intervals include that" in held
    # One that does not is told by itself, whatever the others' do.
    found = pairs(phases, shares)
    mixed = [dataclasses.replace(found[0], in_intervals=True), *found[1:]]
    assert [type(sentence) for sentence in non_identifiable_sentences(mixed)] == [Reservation, Distrust]


def test_what_is_declared_is_not_asked_for_again() -> None:
    phases = [Phase("A", matrix=True), Phase("B", stoichiometry="ABO3")]
    found = pairs(phases, [[0.5, 0.3, 0.2], [0.2, 0.6, 0.2]])
    (said,) = non_identifiable_sentences(found, phases)
    assert "stoichiometry" not in said
    assert "`composition`" in said
    (said,) = non_identifiable_sentences(found)
    assert "stoichiometry" in said
    # Where spectra are free nothing can be declared of elements.
    (said,) = non_identifiable_sentences(found, phases, lines=False)
    assert "absent" not in said
    assert "`matrix = true`" in said


def test_what_draws_do_not_take_out_could_not_be_taken_out() -> None:
    shares = [[0.5, 0.5], [0.2, 0.8]]
    rotated = np.array([[0.0, 0.3], [0.04, 0.0]])
    (found,) = pairs([Phase("A"), Phase("B")], shares, rotated=rotated)
    assert (found.phase, found.other, found.share, found.in_intervals) == ("A", "B", 0.3, True)
    assert pairs([Phase("A"), Phase("B")], shares, rotated=np.zeros((2, 2))) == []


def test_without_a_matrix_both_directions_are_looked_at_the_largest_first() -> None:
    found = pairs([Phase("A"), Phase("B")], [[0.5, 0.5], [0.2, 0.8]])
    assert [(pair.phase, pair.other) for pair in found] == [("A", "B"), ("B", "A")]
    assert [pair.share for pair in found] == pytest.approx([0.625, 0.4])
