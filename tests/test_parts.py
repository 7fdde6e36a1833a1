"""Records taken apart into arrays and JSON: back bit for bit, and nothing but records comes back."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from bayesunmix import Phase
from bayesunmix.core.parts import PartsError, declared, put_together, take_apart
from bayesunmix.fit.posterior import FittedPosterior
from bayesunmix.fit.starts import Start
from bayesunmix.inference.map_estimate import MapEstimate
from bayesunmix.models.thickness import ThicknessEffect

START = Start(np.ones((2, 3)), np.full((2, 4), 0.25), 1.5)
NAME = "bayesunmix.fit.starts:Start"


def back(value: object) -> Any:  # noqa: ANN401
    """Through JSON as a file holds it."""
    tree, arrays = take_apart(value)
    return put_together(json.loads(json.dumps(tree)), arrays)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        10**30,
        0.1,
        -0.0,
        float("inf"),
        "Brg ü",
        [],
        (),
        {},
        [1, (2.0, None)],
        {1: "a", "b": {(1, 2): 3}},
    ],
)
def test_plain_values_come_back(value: object) -> None:
    again = back(value)
    assert again == value
    assert type(again) is type(value)
    assert repr(again) == repr(value)


@pytest.mark.parametrize(
    "array",
    [
        np.array([np.nan, -0.0, 1e-310]),
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4)[:, ::2],
        np.array(["Mg", "Si"]),
        np.zeros((0, 3), bool),
        np.array(2.5),
        np.arange(3, dtype=">i2"),
    ],
)
def test_arrays_come_back_bit_for_bit(array: np.ndarray[Any, Any]) -> None:
    again = back({"one": array})["one"]
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()
    assert again.flags.c_contiguous or again.flags.f_contiguous
    assert again.flags.f_contiguous == array.flags.f_contiguous


def test_numbers_of_numpy_and_arrays_of_jax_keep_their_type() -> None:
    number = back(np.float32(0.1))
    assert type(number) is np.float32
    assert number == np.float32(0.1)
    array = back(jnp.arange(3, dtype=jnp.float32))
    assert isinstance(array, type(jnp.zeros(1)))
    assert array.dtype == np.float32


def test_an_array_that_occurs_twice_is_kept_once() -> None:
    one = np.arange(5.0)
    assert len(take_apart([one, one, (one, np.arange(5.0))])[1]) == 2


def test_records_come_back() -> None:
    again = back(
        [START, Phase("A", absent=("Si",)), ThicknessEffect(np.zeros(2), np.zeros(2), np.ones(1), 1.0)]
    )
    assert [type(each) for each in again] == [Start, Phase, ThicknessEffect]
    np.testing.assert_array_equal(again[0].spectra, START.spectra)
    assert again[1] == Phase("A", absent=("Si",))
    assert again[2].scale_sd == 1.0


@pytest.mark.slow
def test_a_fitted_posterior_comes_back(small_fit: FittedPosterior) -> None:
    again = back(dataclasses.replace(small_fit))
    assert declared(again, FittedPosterior)
    own, theirs = (take_apart(fit) for fit in (again, dataclasses.replace(small_fit)))
    assert own[0] == theirs[0]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(own[1], theirs[1], strict=True))


@dataclasses.dataclass(frozen=True)
class Foreign:
    value: int


@pytest.mark.parametrize(
    "value",
    [
        lambda: 1,
        Foreign(1),
        {1, 2},
        Path("a"),
        np.array([None]),
        1j,
        [Start],
        np.ma.masked_array([1.0], [True]),
    ],
)
def test_what_is_neither_plain_nor_a_record_is_refused(value: object) -> None:
    with pytest.raises(PartsError):
        take_apart([value])


def _tree(**changed: object) -> list[object]:
    fields = {"weights": ["array", 0], "spectra": ["array", 0], "score": 1.5} | changed
    return ["record", NAME, *([name, value] for name, value in fields.items())]


@pytest.mark.parametrize(
    "tree",
    [
        ["record", "os:system", ["command", "touch planted"]],
        ["record", "subprocess:Popen", ["args", "touch planted"]],
        ["record", "builtins:eval", ["source", "1"]],
        # Names of this package that are no records, are imported from elsewhere, or are not in use.
        ["record", "bayesunmix.fit.starts:find_starts"],
        ["record", "bayesunmix.fit.starts:np"],
        ["record", "bayesunmix.fit.starts:dataclass"],
        ["record", "bayesunmix.core.checkpoint:Stages", ["folder", None], ["facts", None], ["resume", True]],
        ["record", "bayesunmix.__main__:main"],
        ["record", "bayesunmix.results.result:Result.posterior"],
        ["record", None],
        ["record", NAME],
        _tree()[:-1],
        [*_tree(), ["more", 1]],
        _tree(spectra="text"),
        _tree(score=["list", 1.0]),
        _tree(weights=["array", 7]),
        _tree(weights=["array", -1]),
        _tree(weights=["array", True, 0]),
        ["call", 1],
        ["dict", [1]],
        [["list"]],
        [],
        {"list": 1},
    ],
)
def test_planted_parts_make_nothing(tree: object) -> None:
    with pytest.raises(PartsError):
        put_together(tree, [np.ones((2, 3))])


@pytest.mark.parametrize(
    ("value", "hint", "answer"),
    [
        ([START], list[Start], True),
        ([START, 1], list[Start], False),
        ((), tuple[Start, ...], True),
        (None, Start | None, True),
        (1, Start | None, False),
        (1, float, True),
        (1.5, int, False),
        (np.array(1.5), float, True),
        (np.ones(2), float, False),
        (START, MapEstimate, False),
        ({"a": 1}, dict[str, Any], True),
        (object(), Any, True),
    ],
)
def test_values_are_held_to_what_is_declared(value: object, hint: object, answer: bool) -> None:
    assert declared(value, hint) is answer
