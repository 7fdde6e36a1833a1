"""Names of phases whose composition a map leaves open: where the rotated draws lie must not tell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from bayesunmix.chemistry.compounds import library
from bayesunmix.chemistry.naming import Names, names_of_phases
from bayesunmix.chemistry.open_composition import EvenDraws, even_draws, even_weights
from bayesunmix.results.names import what_decides
from bayesunmix.results.record_parts import PhaseNames, ProposedName

FloatArray = npt.NDArray[np.float64]

ELEMENTS = ["Mg", "Si", "Fe"]
# What was found: an oxide, and silica with as much of it as leaves MgSiO3 on the way out.
FOUND = np.array([[0.96, 0.0, 0.04], [0.576, 0.4, 0.024]])
# Taking out of the second what it can lose of the first leaves silica alone.
MOST = 0.6


def one_solution(n: int = 600, sd: float = 0.02) -> FloatArray:
    """Draws of the solution that was found, (draw, phase, element)."""
    rng = np.random.default_rng(1)
    x = FOUND * np.exp(sd * rng.standard_normal((n, 1, 3))) + 1e-3 * np.abs(rng.standard_normal((n, 2, 3)))
    return np.asarray(x / x.sum(axis=2, keepdims=True))


def taken_out(one: FloatArray, part: FloatArray) -> FloatArray:
    """Draws of the second phase without a part of what it can lose, (draw, element)."""
    x = np.maximum(one[:, 1] - MOST * part[:, None] * one[:, 0], 1e-6)
    return np.asarray(x / x.sum(axis=1, keepdims=True))


def parts(at_the_end: float, at_the_other: float, n: int = 600) -> FloatArray:
    """Draw how far out the phase is: at either end, or evenly between."""
    where, between = np.random.default_rng(2).random((2, n))
    return np.where(where < at_the_end, 1.0, np.where(where < at_the_end + at_the_other, 0.0, between))


def even(at_the_end: float, at_the_other: float) -> EvenDraws | None:
    one = one_solution()
    return even_draws(taken_out(one, parts(at_the_end, at_the_other)), one, 1)


def test_weights_make_places_even_whatever_their_density() -> None:
    rng = np.random.default_rng(0)
    ends = [rng.normal(end, 0.3, (400, 1)) for end in (0.0, 100.0)]
    place = np.concatenate([*ends, rng.uniform(0.0, 100.0, (200, 1))])
    weights = even_weights(place)
    share, _ = np.histogram(place[:, 0], bins=5, range=(-2.0, 102.0), weights=weights)
    assert weights.sum() == pytest.approx(1.0)
    assert share == pytest.approx(np.full(5, 0.2), abs=0.07)


def test_weights_are_even_in_two_directions() -> None:
    rng = np.random.default_rng(0)
    place = 100.0 * rng.random((1500, 2)) ** [2.0, 1.0]
    share, _ = np.histogram(place[:, 0], bins=4, range=(0.0, 100.0), weights=even_weights(place))
    assert share == pytest.approx(np.full(4, 0.25), abs=0.07)


def test_even_draws_are_compositions_and_say_what_is_open() -> None:
    found = even(1 / 3, 1 / 3)
    assert found is not None
    x = np.concatenate(found.cells)
    assert (x >= 0.0).all()
    assert x.sum(axis=1) == pytest.approx(1.0)
    assert found.open.tolist() == [True, True, False]
    # They go from one end to the other.
    assert x[:, 0].min() < 0.05
    assert x[:, 0].max() > 0.55


def test_where_nothing_is_rotated_nothing_is_open() -> None:
    one = one_solution()
    assert even_draws(one[:, 1], one, 1) is None
    assert even_draws(one[:, 1], one[:, 1:], 0) is None


def test_draws_of_a_second_maximum_are_as_many_as_before() -> None:
    one = one_solution()
    x = taken_out(one, parts(1 / 3, 1 / 3))
    # They are not rotated: before, they were where they are.
    elsewhere = np.array([0.1, 0.1, 0.8])
    x[::10] = one[::10, 1] = elsewhere
    found = even_draws(x, one, 1)
    assert found is not None
    drawn = np.concatenate(found.cells)
    assert np.mean(drawn[:, 2] > 0.4) < 0.12


def asked(at_the_end: float, at_the_other: float, *, as_they_lie: bool = False) -> Names:
    one = one_solution()
    draws = {"B": taken_out(one, parts(at_the_end, at_the_other))}
    before = None if as_they_lie else {"A": one[:, 0], "B": one[:, 1]}
    return names_of_phases(draws, ELEMENTS, library(), kind="deep mantle", least=0.0, one_solution=before)[0]


def of(found: Names, *names: str) -> float:
    return sum(one.probability for one in found.candidates if one.compound.name in names)


def test_the_prior_of_rotations_is_no_evidence_for_a_name() -> None:
    silica, silicate = ("Stishovite", "Quartz", "Coesite"), ("Bridgmanite", "Akimotoite", "Phase D")
    # Silica lies at the end, silicates on the way there, whatever the share of draws at either end.
    first, *others = (asked(*one) for one in ((1 / 3, 1 / 3), (0.8, 0.1), (0.1, 0.8)))
    assert of(first, *silica) > 0.3
    assert of(first, *silicate) > 0.05
    for other in others:
        assert of(other, *silica) == pytest.approx(of(first, *silica), abs=0.1)
        assert of(other, *silicate) == pytest.approx(of(first, *silicate), abs=0.08)
        assert other.none == pytest.approx(first.none, abs=0.1)
    # As the draws lie, where they are is taken for what the counts say.
    at_one, at_other = (asked(*one, as_they_lie=True) for one in ((0.8, 0.1), (0.1, 0.8)))
    assert of(at_one, *silica) - of(at_other, *silica) > 0.3
    assert first.open == ("Mg", "Si")


def test_the_page_says_that_what_is_open_decides() -> None:
    rows = tuple(
        ProposedName(name=name, formula="", probability=p) for name, p in (("Olivine", 0.5), ("Quartz", 0.4))
    )
    said = what_decides(PhaseNames(phase="A", none=0.1, proposed=rows, open=("Mg", "Si")))
    assert said == "the amount of Mg and Si, which the map leaves open: declare what is known of it"
    assert what_decides(PhaseNames(phase="A", none=0.1, proposed=rows)) == ""
    sure = (ProposedName(name="Olivine", formula="", probability=0.97),)
    assert what_decides(PhaseNames(phase="A", none=0.03, proposed=sure, open=("Mg",))) == ""
