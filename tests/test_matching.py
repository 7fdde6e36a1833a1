"""Phases that the program numbered are matched by what they are; names that a user gave stay names."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import bayesunmix as bu
from bayesunmix.core.errors import InputError
from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]
Maker = Callable[..., Result]

ELEMENTS = ("Ni", "Cr", "Al", "Ta")
# Gamma prime, gamma, and a carbide with hardly any aluminium.
TRUE = np.array([[0.75, 0.03, 0.17, 0.05], [0.65, 0.3, 0.04, 0.01], [0.05, 0.05, 1e-4, 0.9]])
NUMBERED = ("phase 1", "phase 2", "phase 3")


def result(
    make: Maker,
    true: FloatArray,
    seed: int,
    phases: Sequence[str] | None = None,
    relative: float = 0.05,
) -> Result:
    rng = np.random.default_rng(seed)
    amounts = true * np.exp(relative * rng.normal(size=(2, 400, *true.shape)))
    return make(amounts, phases or NUMBERED[: len(true)], ELEMENTS, seed=seed)


@pytest.mark.parametrize("order", [(1, 0), (0, 2, 1), (2, 0, 1)])
def test_the_same_phases_in_another_order_do_not_differ(made_result: Maker, order: tuple[int, ...]) -> None:
    true = TRUE[: len(order)]
    first, second = result(made_result, true, 1), result(made_result, true[list(order)], 2)
    comparison = bu.compare([first, second], names=["a", "b"])
    table = comparison.tables.composition_differences()
    off = table["difference"].abs() / (table["difference_upper"] - table["difference_lower"])
    assert off.dropna().max() < 0.5
    assert comparison.own_phases[1] == tuple(f"phase {order.index(k) + 1}" for k in range(len(order)))
    means = comparison.tables.compositions().pivot_table(
        index=["phase", "element"], columns="result", values="mean"
    )
    np.testing.assert_allclose(means["a"], means["b"], atol=0.02)
    ratios = comparison.tables.partitions()
    ratios = ratios[(ratios["element"] == "Ni") & (ratios["kind"] == "interval")]
    ratios = ratios.pivot_table(index=["numerator", "denominator"], columns="result", values="median")
    np.testing.assert_allclose(ratios["a"], ratios["b"], rtol=0.02)
    (found,) = comparison.verdict.findings
    assert found.severity == "reservation"
    for here, there in zip(NUMBERED, comparison.own_phases[1], strict=False):
        assert (f"its {there} is {here}" in found.text) == (here != there)
    assert "matched by composition" in repr(comparison)


def test_the_same_order_is_a_note_alone(made_result: Maker, tmp_path: Path) -> None:
    comparison = bu.compare([result(made_result, TRUE, seed) for seed in (1, 2)])
    assert comparison.verdict.level == "good"
    assert comparison.own_phases == (NUMBERED, NUMBERED)
    assert "matched by composition, not by number" in repr(comparison)
    folder = comparison.save(tmp_path / "out")
    assert "matched by composition, not by number" in (folder / "comparison.html").read_text()


def test_the_record_holds_what_each_result_calls_the_phases(made_result: Maker, tmp_path: Path) -> None:
    pair = [result(made_result, TRUE[:2], 1), result(made_result, TRUE[1::-1], 2)]
    folder = bu.compare(pair).save(tmp_path / "out")
    record = json.loads((folder / "comparison.json").read_text())
    assert record["phases"] == ["phase 1", "phase 2"]
    assert [entry["phases"] for entry in record["results"]] == [
        ["phase 1", "phase 2"],
        ["phase 2", "phase 1"],
    ]


def test_names_of_a_user_stay(made_result: Maker) -> None:
    named = ("gamma'", "gamma")
    comparison = bu.compare(
        [result(made_result, TRUE[order], s, named) for s, order in ((1, [0, 1]), (2, [1, 0]))]
    )
    assert comparison.own_phases == (named, named)
    assert comparison.matching == ()
    nickel = comparison.tables.composition_differences().query("phase == 'gamma' and element == 'Cr'").iloc[0]
    assert nickel["difference"] > 0.2


def test_named_and_numbered_phases_beside_each_other(made_result: Maker) -> None:
    first = result(made_result, TRUE, 1, ("carbide", "phase 1", "phase 2"))
    second = result(made_result, TRUE[[2, 0, 1]], 2, ("phase 1", "carbide", "phase 2"))
    comparison = bu.compare([first, second])
    assert comparison.phases == ("carbide", "phase 1", "phase 2")
    assert comparison.own_phases[1] == ("carbide", "phase 2", "phase 1")


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (TRUE[[1, 1]], TRUE[[1, 1]], "another assignment is nearer in"),
        (
            np.array([[0.5, 0.3, 0.1, 0.1], [0.52, 0.28, 0.1, 0.1]]),
            np.array([[0.2, 0.6, 0.1, 0.1], [0.22, 0.58, 0.1, 0.1]]),
            "phase 1, phase 2 differ between the two nearly as much as from each other",
        ),
    ],
)
def test_a_match_that_is_not_clear_is_not_trusted(
    made_result: Maker, first: FloatArray, second: FloatArray, why: str
) -> None:
    pair = [result(made_result, x, s, relative=0.001) for s, x in enumerate((first, second))]
    verdict = bu.compare(pair, names=["a", "b"]).verdict
    assert verdict.level == "distrust"
    assert why in verdict.texts("distrust")[0]


def test_a_change_of_one_phase_leaves_the_others_clear(made_result: Maker) -> None:
    changed = TRUE.copy()
    changed[2] = [0.3, 0.05, 0.0, 0.65]  # zeros are fine
    pair = [result(made_result, TRUE, 1), result(made_result, changed[[1, 0, 2]], 2)]
    comparison = bu.compare(pair)
    assert comparison.own_phases[1] == ("phase 2", "phase 1", "phase 3")
    assert comparison.verdict.level == "reservations"


@pytest.mark.parametrize("swapped", [False, True])
def test_a_phase_without_a_counterpart_is_left_out_and_named(made_result: Maker, swapped: bool) -> None:
    pair = [result(made_result, TRUE, 1), result(made_result, TRUE[[2, 0]], 2)]
    comparison = bu.compare(pair[::-1] if swapped else pair, names=["a", "b"])
    assert comparison.own_phases[int(not swapped)] == (NUMBERED[:2] if swapped else ("phase 2", "phase 1"))
    alone = "b: phase 2 has no counterpart in a" if swapped else "a: phase 2 has no counterpart in b"
    assert any(alone in text for text in comparison.verdict.texts("reservation"))
    if not swapped:
        with pytest.raises(
            InputError, match=r"`phases \(b\)` must be one of the phases phase 1, phase 3, but"
        ):
            bu.compare(pair, names=["a", "b"], phases=["phase 2"])


def test_every_result_is_matched_with_the_first(made_result: Maker) -> None:
    orders = ([0, 1, 2], [1, 2, 0], [2, 1, 0])
    results = [result(made_result, TRUE[order], s) for s, order in enumerate(orders)]
    comparison = bu.compare(results)
    for own, order in zip(comparison.own_phases, orders, strict=True):
        assert own == tuple(f"phase {order.index(k) + 1}" for k in range(3))
    assert len(comparison.verdict.texts("reservation")) == 2


def test_one_phase_of_each_needs_no_match(made_result: Maker) -> None:
    assert bu.compare([result(made_result, TRUE[:1], seed) for seed in (1, 2)]).matching == ()


def test_numbers_beside_names_are_matched_by_composition(made_result: Maker) -> None:
    """A first look at a map has numbers, and the run after it names."""
    pair = [result(made_result, TRUE[:2], 1, ("gamma'", "gamma")), result(made_result, TRUE[1::-1], 2)]
    comparison = bu.compare(pair)
    assert comparison.phases == ("gamma'", "gamma")
    assert "its phase 2 is gamma'" in " ".join(comparison.matching)


def test_names_that_have_nothing_in_common_are_refused(made_result: Maker) -> None:
    pair = [result(made_result, TRUE[:2], seed, names) for seed, names in ((1, ("A", "B")), (2, ("C", "D")))]
    with pytest.raises(InputError, match="have a phase in common, but have none"):
        bu.compare(pair)
    with pytest.raises(InputError, match="`phases` must name a phase"):
        bu.compare(pair, phases=[])
