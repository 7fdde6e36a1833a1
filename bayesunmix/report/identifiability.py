"""Sections of the report on identifiability, on the maxima that were found, and on where uncertainty comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from bayesunmix.checks.budget import SOURCES
from bayesunmix.core.rounding import odds_text, percent_text
from bayesunmix.plot.partition import phase_pairs
from bayesunmix.plot.style import element_order
from bayesunmix.report.render import Cell, Row, Table

if TYPE_CHECKING:
    from bayesunmix.checks.outcomes import FlatDirection
    from bayesunmix.results.record_parts import StartingPoint
    from bayesunmix.results.result import Result

# Modes shown side by side.
MOST_MODES = 5


class Declared(NamedTuple):
    """A declaration, and the standard deviation in at% that goes with it."""

    phase: str
    text: str
    sd: str


class Pin(NamedTuple):
    """How well one atom fraction is held: its numbers in at%, and the declarations that do and would do most."""

    name: str
    numbers: tuple[str, ...]
    pinned_by: Declared | None
    would_gain: Declared | None


class Modes(NamedTuple):
    """The best maximum beside others, from how many starts, and the share in % of the draws that are of the second."""

    head: list[str]
    rows: list[Row]
    starts: int
    alike: int
    share: str


def identifiability(result: Result, *, budget: bool) -> dict[str, object]:
    """Return what the sections on identifiability and uncertainty show.

    Parameters
    ----------
    result
        The result of a run.
    budget
        Whether there is a figure of the budget.
    """
    known = result.record.identifiability
    return {
        "budget": _budget(result) if budget else None,
        "pins": _pins(result) if known and known.compositions else [],
        "flattest": _flattest(known.flat_directions if known else ()),
        "modes": _modes(result),
    }


def _budget(result: Result) -> Table:
    pairs, rows = set(phase_pairs(result)), []
    for row in result.tables.uncertainty_budget().itertuples(index=False):
        composition = row.quantity == "composition"
        # The shares of a ratio are those of its inverse: one way round is enough.
        if not composition and (row.phase, row.denominator) not in pairs:
            continue
        name = (
            f"{row.element} in {row.phase}"
            if composition
            else f"D({row.element}) {row.phase} / {row.denominator}"
        )
        if not row.sd > 0.0:
            continue
        relative = row.sd / row.value if composition else row.sd
        shares = [f"{100.0 * getattr(row, f'share_{source}'):.0f}" for source in SOURCES]
        rows.append(Row(name, [Cell(text) for text in (percent_text(relative), *shares)]))
    return Table(["sd", *SOURCES], rows)


def _pins(result: Result) -> list[Pin]:
    found = result.tables.identifiability()
    pins = []
    for phase in result.sample_phases if len(found) else ():  # a single element has nothing to say
        rows = found[found["phase"] == phase].set_index("element")
        for element in [name for name in element_order(result.elements) if name in rows.index]:
            row = rows.loc[element]
            span = (
                "–"
                if row.flat_high - row.flat_low < 1e-9
                else f"{100 * row.flat_low:.3g} to {100 * row.flat_high:.3g}"
            )
            numbers = (
                f"{100.0 * row.at_frac:.3g}",
                percent_text(row.sd),
                percent_text(row.flat_sd),
                span,
            )
            held, gain = _declared(row.pinned_by, row.sd_without), _declared(row.would_gain, row.sd_with)
            pins.append(Pin(f"{element} in {phase}", numbers, held, gain))
    return pins


def _declared(name: Any, sd: Any) -> Declared | None:  # noqa: ANN401
    if not isinstance(name, str) or not name:
        return None
    phase, _, declaration = name.rpartition(": ")
    return Declared(phase, declaration, percent_text(sd) if sd == sd and sd < 1.0 else "unknown")


def _flattest(found: Sequence[FlatDirection]) -> str:
    """Sentence on the direction that the counts hold least."""
    if not found:
        return "Unknown abundances take no more than half of the counts' information in any direction."
    flattest = found[0]
    return (
        f"In the flattest direction unknown abundances leave {100.0 * flattest.kept:.0f} % of the information "
        f"that the counts would hold if they were known; it moves {flattest.element} in "
        f"{flattest.phase} most, by {percent_text(flattest.change)} at% at one standard deviation."
    )


def _modes(result: Result) -> Modes | None:
    """Return the best maximum and the others, each once, with the compositions in which they differ."""
    starts = result.record.starts
    if not starts or any(mode.composition is None for mode in starts):
        return None
    others = [mode for mode in starts[1:] if not mode.same_mode]
    others.sort(key=lambda mode: (not mode.followed, mode.objective))
    shown = [starts[0], *others[: MOST_MODES - 1]]
    elements = result.elements
    rows = [
        Row("odds", [Cell(text) for text in ("best", *(odds_text(mode.objective) for mode in shown[1:]))]),
        Row("", [Cell("followed" if mode.followed else "not followed", "") for mode in shown]),
    ]
    for k, phase in enumerate(result.phases):
        for element in element_order(elements) if phase in result.sample_phases else ():
            values = [_per_cent(mode, k, elements.index(element)) for mode in shown]
            if max(values) > 1.0:
                rows.append(Row(f"{element} in {phase}", [Cell(f"{value:.3g}") for value in values]))
    share = result.record.second_maximum_share
    return Modes(
        head=[f"maximum {number}" for number in range(1, len(shown) + 1)],
        rows=rows,
        starts=len(starts),
        alike=sum(mode.same_mode for mode in starts),
        share=percent_text(share) if share else "",
    )


def _per_cent(mode: StartingPoint, phase: int, element: int) -> float:
    """Atom fraction of a mode in at%."""
    value = mode.composition[phase][element] if mode.composition else None
    return math.nan if value is None else 100.0 * value
