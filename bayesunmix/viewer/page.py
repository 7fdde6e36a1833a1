"""Texts of the viewer's page, as HTML that a screen reader reads as it stands."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from html import escape

from bayesunmix.plot.style import GREY, INK
from bayesunmix.viewer.tables import ShownRow

TITLES = {"abundance": "Abundance", "composition": "Composition of the choice"}
_DASHED = {"solid": "solid", "dashed": "dashed", "dotted": "dotted", "dotdash": "dashed"}


def table_html(rows: Sequence[ShownRow], title: str) -> str:
    """Write rows as a table."""
    body = "".join(
        f'<tr><th scope="row" style="text-align:left;font-weight:normal;padding:1px 12px 1px 0">{escape(row.name)}</th>'
        f'<td style="white-space:nowrap;padding:1px 0">{escape(row.text)}</td></tr>'
        for row in rows
    )
    caption = (
        f'<caption style="text-align:left;font-weight:bold;white-space:nowrap">{escape(title)}</caption>'
    )
    return f'<table style="border-spacing:0;color:{INK}">{caption}{body}</table>'


def tables_html(rows: Sequence[ShownRow], level: float, ratio: str) -> str:
    """Write abundance, composition and D, each as a table of its own, side by side."""
    groups = [(part, list(group)) for part, group in itertools.groupby(rows, lambda row: row.part)]
    tables = [table_html(group, TITLES.get(part, f"D, {ratio}")) for part, group in groups]
    note = f"<p style='margin:4px 0;color:#595959'>Mean and {100 * level:g} % interval; D of two phases: median.</p>"
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:4px 28px;align-items:flex-start">{"".join(tables)}</div>'
        f"{note if tables else ''}"
    )


def legend_html(parts: Mapping[str, tuple[str, str]]) -> str:
    """Name the lines of the spectrum, each with its colour and dashes."""
    named = {"counts": (GREY, "solid"), "fit": (INK, "solid"), **parts}
    items = "".join(
        f'<span style="white-space:nowrap;margin-right:14px"><span style="display:inline-block;width:22px;'
        f'border-top:3px {_DASHED[dash]} {colour};vertical-align:middle;margin-right:5px"></span>'
        f"{escape(name)}</span>"
        for name, (colour, dash) in named.items()
    )
    return f'<div style="line-height:1.6">{items}</div>'


def status_html(text: str, *, share: float | None = None, wrong: bool = False) -> str:
    """Say what is going on; read out when it changes.

    Parameters
    ----------
    text
        What is said.
    share
        What is done of something that takes a while, nan where nobody knows; None where nothing is going on.
    wrong
        Whether it says that something does not work.
    """
    value = "" if share is None or math.isnan(share) else f' value="{share:.3f}"'
    bar = (
        ""
        if share is None
        else f'<progress{value} aria-label="{escape(text)}" style="width:90px"></progress> '
    )
    colour = "#8a3b00" if wrong else INK
    return f'<div role="status" aria-live="polite" style="color:{colour}">{bar}{escape(text)}</div>'
