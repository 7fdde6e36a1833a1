import pickle
from pathlib import Path

import pytest

from bayesunmix.core.errors import (
    InputError,
    check_between,
    check_choice,
    check_fraction,
    check_integer,
    check_number,
    check_positive,
    shown,
    suggest,
)


def test_message_names_field_demand_and_value_in_one_line() -> None:
    error = InputError("inference.level", "lie between 0\nand 1", "is 95", "Give 0.95 for a 95 % interval.")
    expected = "`inference.level` must lie between 0 and 1, but is 95. Give 0.95 for a 95 % interval."
    assert str(error) == expected
    assert (error.field, error.must, error.got) == ("inference.level", "lie between 0 and 1", "is 95")
    assert isinstance(error, ValueError)


def test_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(InputError("seed", "be whole", "is 1.5")))
    assert str(error) == "`seed` must be whole, but is 1.5."
    assert error.remedy == ""


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "3", None, True, 1j])
def test_check_number_refuses_what_is_not_one(value: object) -> None:
    with pytest.raises(InputError, match="`x` must be a finite number, but is "):
        check_number("x", value)


@pytest.mark.parametrize("value", [0, 1, 95, -0.1])
def test_check_fraction_refuses_the_ends_and_beyond(value: float) -> None:
    with pytest.raises(InputError, match=f"`level` must lie between 0 and 1, but is {value}"):
        check_fraction("level", value)


def test_checks_return_plain_numbers() -> None:
    assert check_fraction("level", 0.95) == 0.95
    assert check_fraction("share", 1, inclusive=True) == 1.0
    assert check_between("x", 2, 1, 2) == 2.0
    assert check_positive("x", 0, allow_zero=True) == 0.0
    whole = check_integer("draws", 500.0, low=1)
    assert whole == 500
    assert isinstance(whole, int)


def test_check_between_can_exclude_the_ends() -> None:
    with pytest.raises(InputError, match=r"`x` must lie between 1 and 2 \(both excluded\), but is 2"):
        check_between("x", 2, 1, 2, inclusive=False)


@pytest.mark.parametrize(
    ("value", "zero", "must"), [(0, False, "be positive"), (-1, True, "be zero or positive")]
)
def test_check_positive_refuses(value: float, zero: bool, must: str) -> None:
    with pytest.raises(InputError, match=f"`x` must {must}, but is {value}"):
        check_positive("x", value, allow_zero=zero)


@pytest.mark.parametrize(
    ("value", "low", "high", "must"),
    [
        (1.5, None, None, "be a whole number"),
        (0, 1, None, "be a whole number of at least 1"),
        (9, None, 8, "be a whole number of at most 8"),
        (9, 1, 8, "be a whole number from 1 to 8"),
    ],
)
def test_check_integer_refuses(value: float, low: int | None, high: int | None, must: str) -> None:
    with pytest.raises(InputError, match=f"`draws` must {must}, but is {value}"):
        check_integer("draws", value, low=low, high=high)


def test_check_choice_suggests_the_nearest() -> None:
    assert check_choice("method", "nuts", ("nuts", "laplace")) == "nuts"
    with pytest.raises(
        InputError, match=r'one of "nuts", "laplace", but is "laplac"\. Did you mean "laplace"\?'
    ):
        check_choice("method", "laplac", ("nuts", "laplace"))
    with pytest.raises(InputError, match="but is 3"):
        check_choice("method", 3, ("nuts",))
    assert suggest("zzz", ("nuts",)) == ""


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(InputError) as caught:
        check_number("x", "y" * 1000)
    assert len(str(caught.value)) < 200


def test_a_path_is_shown_as_its_name() -> None:
    assert shown(Path("a/b")) == '"a/b"'
