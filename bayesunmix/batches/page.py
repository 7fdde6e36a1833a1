"""The page of a batch: the verdicts first, then what failed and why, then all compositions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from bayesunmix.core.rounding import composition_text
from bayesunmix.report.render import Cell, Row, Table, render

if TYPE_CHECKING:
    from bayesunmix.batches.outcome import Batch, Outcome


class MapLine(NamedTuple):
    """What the table of maps says of one.

    ``kind`` is ``failed``, ``waiting``, or the level of the verdict; ``link`` leads to the map's own page.
    """

    name: str
    link: str
    kind: str
    words: str
    cells: list[str]
    seconds: str


def batch_page(batch: Batch) -> str:
    """Return the page of a batch, without outside parts."""
    return render("batch.html", **_shown(batch), whole=True)


def batch_html(batch: Batch) -> str:
    """Return what a notebook shows of a batch."""
    return render("batch.html", **_shown(batch), whole=False)


def _shown(batch: Batch) -> dict[str, Any]:
    return {
        "title": batch.headline,
        "covariates": list(batch.outcomes[0].row.covariates),
        "lines": [_line(outcome) for outcome in batch.outcomes],
        "failures": [(one.row.name, one.reason) for one in batch.outcomes if one.status == "failed"],
        "findings": [
            (one.row.name, one.verdict)
            for one in sorted(batch.done, key=lambda one: _weight(one), reverse=True)
            if one.verdict is not None and one.verdict.findings
        ],
        "compositions": _compositions(batch.done),
    }


def _line(outcome: Outcome) -> MapLine:
    verdict, row = outcome.verdict, outcome.row
    return MapLine(
        name=row.name,
        link="" if verdict is None else f"{quote(row.name)}/report.html",
        kind=outcome.status if verdict is None else verdict.level.value,
        words=outcome.status if verdict is None else verdict.words,
        cells=[f"{value:g}" if isinstance(value, float) else value for value in row.covariates.values()],
        seconds=f"{outcome.seconds:.0f}" if outcome.status != "waiting" else "",
    )


def _weight(outcome: Outcome) -> int:
    return 0 if outcome.verdict is None else len(outcome.verdict.texts("distrust"))


def _compositions(done: tuple[Outcome, ...]) -> list[Table]:
    """Return a table for each set of elements: a row for each phase of each map."""
    tables: dict[tuple[str, ...], Table] = {}
    for outcome in done:
        assert outcome.composition is not None
        for phase, rows in outcome.composition.groupby("phase", sort=False):
            elements = tuple(rows["element"])
            table = tables.setdefault(elements, Table(list(elements), []))
            cells = [Cell(composition_text(row)) for row in rows.itertuples(index=False)]
            table.rows.append(Row(f"{outcome.row.name}: {phase}", cells))
    return list(tables.values())
