"""What is said of phases that hold no element of the sample, where compositions are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bayesunmix.results.result import Result


def supports_note(result: Result) -> str:
    """Say which phases have no composition; an empty text where all have one."""
    supports = result.supports
    if not supports:
        return ""
    listed = " and ".join(filter(None, [", ".join(supports[:-1]), supports[-1]]))
    verb, pronoun = ("is a support", "its") if len(supports) == 1 else ("are supports", "their")
    left_out = f"{verb}, in no composition and no partition coefficient"
    return f" {listed} {left_out}; {pronoun} abundance is a share of counts."
