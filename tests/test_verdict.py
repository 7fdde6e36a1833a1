"""Sentences on what a run found, from made-up fits."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bayesunmix.phase import Phase
from bayesunmix.verdict import BROKEN_SDS, broken_stoichiometry

SD = 0.07


def sentences(mg: float, declared: str | None = "ABO3") -> list[str]:
    """Return what is said of MgSiO3 with so many Mg to one Si, its site ratio known beforehand to 7 %."""
    fractions = np.array([[mg / (1.0 + mg), 1.0 / (1.0 + mg)]])
    balance = SimpleNamespace(
        a_site=np.array([[1.0, 0.0]]),
        b_site=np.array([[0.0, 1.0]]),
        log_target=np.array([0.0]),
        inverse_sd=np.array([1.0 / SD if declared else 0.0]),
    )
    fitted: Any = SimpleNamespace(data=SimpleNamespace(balance=balance), atom_fractions=fractions)
    setup: Any = SimpleNamespace(phases=(Phase("Brg", stoichiometry=declared),))
    return broken_stoichiometry(setup, fitted)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_sites_that_contradict_the_declaration_are_told(side: float) -> None:
    assert sentences(np.exp(side * (BROKEN_SDS - 0.1) * SD)) == []
    (said,) = sentences(np.exp(side * 4.0 * SD))
    assert said.startswith("Brg was declared as ABO3")
    assert f"has {np.exp(side * 4.0 * SD):.2f} cations" in said
    assert "4.0 standard deviations" in said


def test_nothing_is_said_of_what_was_not_declared() -> None:
    assert sentences(2.0, None) == []
