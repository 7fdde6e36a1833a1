"""Compiled programs: the same values as without, whatever the compiler knows."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bayesunmix.models  # noqa: F401 - double precision
from bayesunmix.inference import compilation
from bayesunmix.inference.compilation import Program, known_options


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    known_options.cache_clear()
    yield
    known_options.cache_clear()


def test_program_gives_what_the_function_gives() -> None:
    def slope(x: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        change: jax.Array = jax.grad(lambda x: (jnp.log1p(x**2) * data["weight"]).sum())(x)
        return change

    x, data = jnp.linspace(0.1, 3.0, 7), {"weight": jnp.arange(7.0)}
    np.testing.assert_allclose(Program(slope)(x, data), slope(x, data), rtol=1e-12)


def test_new_shapes_are_compiled_anew() -> None:
    double = Program(lambda x: 2.0 * x)
    assert double(jnp.ones(3)).shape == (3,)
    assert double(jnp.ones((2, 4))).shape == (2, 4)


def test_compiler_without_the_option_compiles_as_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "QUICK", {"xla_no_such_option": True})
    assert known_options() == {}
    assert float(Program(lambda x: x + 1.0)(jnp.asarray(1.0))) == 2.0


def test_this_jax_knows_the_option_or_is_older() -> None:
    assert known_options() in ({}, compilation.QUICK)


def test_traced_program_has_text() -> None:
    assert "add" in Program(lambda x: x + 1.0).lower(jnp.ones(2)).as_text()


def test_program_inside_others_is_a_part_of_them() -> None:
    square = Program(lambda x, power: (x ** power["of"]).sum())
    x, power = jnp.arange(1.0, 4.0), {"of": 2.0}
    assert float(Program(lambda x: 2.0 * square(x, power))(x)) == 28.0
    np.testing.assert_allclose(jax.jit(jax.grad(square))(x, power), 2.0 * x)
    mapped = Program(lambda x: jax.lax.map(lambda one: square(one, power), x))(x[:, None])
    np.testing.assert_allclose(mapped, x**2)
