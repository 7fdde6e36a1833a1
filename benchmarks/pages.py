"""Tables in Markdown, and pages in which a program writes them between markers."""

from __future__ import annotations

import re
from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table; a cell is text, in which a vertical bar would end it."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def replaced(page: str, name: str, body: str) -> str:
    """Put text between the markers of a page ``<!-- measured: NAME -->`` and ``<!-- end -->``.

    Raises
    ------
    ValueError
        If the page does not have them, once.
    """
    pattern = re.compile(rf"(<!-- measured: {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    page, number = pattern.subn(lambda found: f"{found[1]}{body}\n{found[2]}", page)
    if number != 1:
        raise ValueError(
            f"the page has {number} places for `{name}`: <!-- measured: {name} --> ... <!-- end -->"
        )
    return page
