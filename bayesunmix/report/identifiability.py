"""Sections of the report on identifiability, on the maxima that were found, and on where uncertainty comes from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from bayesunmix.checks.budget import SOURCES
from bayesunmix.core.rounding import odds_text
from bayesunmix.plot.partition import phase_pairs
from bayesunmix.plot.style import element_order

if TYPE_CHECKING:
    from bayesunmix.checks.outcomes import FlatDirection
    from bayesunmix.results.record_parts import StartingPoint
    from bayesunmix.results.result import Result

Table = Callable[[Sequence[str], Iterable[Sequence[str]], str], str]

# Modes shown side by side.
MOST_MODES = 5


def identifiability_section(result: Result, picture: str, table: Table) -> str:
    """Write the sections on identifiability and uncertainty; empty for a run that holds neither.

    Parameters
    ----------
    result
        The result of a run.
    picture
        The figure of the budget as HTML, empty where there is none.
    table
        How the report writes a table: head, rows of finished cells after a name, caption.
    """
    known = result.record.identifiability
    pins = _pins_table(result, table) if known and known.compositions else ""
    sections = _budget_section(result, picture, table) if picture else ""
    if not (picture or pins):
        return ""
    return (
        f'{sections}<h2 id="identifiability">Identifiability of each composition</h2>'
        f'<div class="wide">{pins}</div>{_directions(known.flat_directions if known else ())}'
        f'<div class="wide">{_modes_table(result, table)}</div>'
    )


def _budget_section(result: Result, picture: str, table: Table) -> str:
    return (
        '<h2 id="budget">Where the uncertainty comes from</h2>'
        f"<figure>{picture}<figcaption>Share of each source in the variance of every atom fraction and partition "
        "coefficient that has an interval; at the end of each bar the relative standard deviation. Counting: photons, "
        "were the abundances known. Unmixing: that they are not. Calibration: strengths of the X-ray lines. "
        "Absorption: the film's thickness and absorption coefficients. Each source is what it adds to those before it "
        "in the order of the fit; all shares are in <code>uncertainty_budget.csv</code>.</figcaption></figure>"
        f'<div class="wide">{_budget_table(result, table)}</div>'
    )


def _budget_table(result: Result, table: Table) -> str:
    pairs, body = set(phase_pairs(result)), []
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
        body.append([name, *(_number(text) for text in (f"{100.0 * relative:.2g}", *shares))])
    caption = "Relative standard deviation in %, and the share of each source in the variance in %."
    return table(["", "sd", *SOURCES], body, caption)


def _pins_table(result: Result, table: Table) -> str:
    found = result.tables.identifiability()
    if found.empty:  # a single element has nothing to say
        return ""
    body = []
    for phase in result.sample_phases:
        rows = found[found["phase"] == phase].set_index("element")
        for element in [name for name in element_order(result.elements) if name in rows.index]:
            row = rows.loc[element]
            span = (
                "–"
                if row.flat_high - row.flat_low < 1e-9
                else f"{100 * row.flat_low:.3g} to {100 * row.flat_high:.3g}"
            )
            pinned = _declared(row.pinned_by, row.sd_without) or "the counts"
            cells = (
                f"{100.0 * row.at_frac:.3g}",
                f"{100.0 * row.sd:.2g}",
                f"{100.0 * row.flat_sd:.2g}",
                span,
            )
            body.append(
                [
                    f"{element} in {phase}",
                    *map(_number, cells),
                    f"<td>{pinned}</td>",
                    f"<td>{_declared(row.would_gain, row.sd_with) or '–'}</td>",
                ]
            )
    caption = (
        "At%, errors of the line strengths left out. Flat sd: the part of the standard deviation that is there because "
        "abundances are unknown. Rotations: how far the composition can move without any change in the fit, given what "
        "was declared. Identified by: the declaration without which it would be least certain, and the sd then. Would "
        "gain: the further declaration that would help most, if it is true, and the sd then."
    )
    return table(["", "at%", "sd", "flat sd", "rotations", "identified by", "would gain"], body, caption)


def _declared(name: Any, sd: Any) -> str:  # noqa: ANN401
    """Write a declaration with the sd that goes with it; empty for none."""
    if not isinstance(name, str) or not name:
        return ""
    phase, _, declaration = name.rpartition(": ")
    known = f" ({100.0 * sd:.2g})" if sd == sd and sd < 1.0 else " (unknown)"
    return f"{escape(phase)}: <code>{escape(declaration)}</code>{known}"


def _directions(found: Sequence[FlatDirection]) -> str:
    """Sentence on the directions that the counts hold least."""
    if not found:
        return "<p>Unknown abundances take no more than half of the counts' information in any direction.</p>"
    flattest = found[0]
    return (
        f"<p>In the flattest direction unknown abundances leave {100.0 * flattest.kept:.0f} % of the information "
        f"that the counts would hold if they were known; it moves {escape(flattest.element)} in "
        f"{escape(flattest.phase)} most, by {100.0 * flattest.change:.2g} at% at one standard deviation.</p>"
    )


def _modes_table(result: Result, table: Table) -> str:
    """Write the best maximum and the others, each once, with the compositions in which they differ."""
    starts = result.record.starts
    if not starts or any(mode.composition is None for mode in starts):
        return ""
    best = starts[0]
    others = [mode for mode in starts[1:] if not mode.same_mode]
    shown = [
        best,
        *sorted(others, key=lambda mode: (not mode.followed, mode.objective))[: MOST_MODES - 1],
    ]
    elements = result.elements
    odds = ["best", *(odds_text(mode.objective) for mode in shown[1:])]
    body = [["odds", *map(_number, odds)]]
    body.append(["", *(f"<td>{'followed' if mode.followed else 'not followed'}</td>" for mode in shown)])
    for k, phase in enumerate(result.phases):
        for element in element_order(elements) if phase in result.sample_phases else ():
            values = [_per_cent(mode, k, elements.index(element)) for mode in shown]
            if max(values) > 1.0:
                body.append([f"{element} in {phase}", *(_number(f"{value:.3g}") for value in values)])
    alike = sum(mode.same_mode for mode in starts)
    caption = (
        f"Maxima of the posterior found from {len(starts)} starting points, rotated ones included; {alike} of them end "
        "at the best one. Odds are by the counts; compositions are in at% where one has more than 1. What was not "
        "followed to its end had no chance, or led to a maximum that was."
    )
    share = result.record.second_maximum_share
    if share:
        caption += (
            f" {100.0 * share:.2g} % of the draws are from the second maximum, its share of the posterior."
        )
    head = ["", *(f"maximum {number}" for number in range(1, len(shown) + 1))]
    return table(head, body, caption)


def _per_cent(mode: StartingPoint, phase: int, element: int) -> float:
    """Atom fraction of a mode in at%."""
    value = mode.composition[phase][element] if mode.composition else None
    return math.nan if value is None else 100.0 * value


def _number(text: str) -> str:
    return f'<td class="number">{escape(text)}</td>'
