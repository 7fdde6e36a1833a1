"""The pages: templates (``*.html`` in this folder) that read like the page, filled with plain values."""

from __future__ import annotations

import base64
from typing import NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from bayesunmix.results.verdict import EARLIER

# Letters of a word that a column of a table has room for.
LONGEST_WORD = 24


class Cell(NamedTuple):
    """One cell of a table: its text, and the class that its look follows."""

    text: str
    kind: str = "number"


class Row(NamedTuple):
    """One row of a table: the name that it begins with, and the cells after it."""

    name: str
    cells: list[Cell]


class Table(NamedTuple):
    """The columns after the first, which names the rows, and the rows."""

    head: list[str]
    rows: list[Row]


def render(template: str, **values: object) -> str:
    """Return a template filled with values.

    Parameters
    ----------
    template
        Name of an HTML file in this folder.
    **values
        What it names. All text is escaped but `markupsafe.Markup`.

    Raises
    ------
    jinja2.UndefinedError
        If the template names what was not given.
    """
    return _pages.get_template(template).render(values)


def with_code(text: str) -> Markup:
    """Escape a text; what stands between backticks becomes code."""
    parts = [escape(part) for part in str(text).split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)
    )


def is_long(text: object) -> bool:
    """Whether a text has a word that a column of a table has no room for."""
    return max(map(len, str(text).split()), default=0) > LONGEST_WORD


def in_letters(picture: bytes) -> str:
    """Return a picture as the letters of a ``data:`` address."""
    return base64.b64encode(picture).decode("ascii")


_pages = Environment(
    loader=PackageLoader("bayesunmix.report", ""),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_pages.filters["code"] = with_code
_pages.tests["long"] = is_long
_pages.globals["EARLIER"] = EARLIER
