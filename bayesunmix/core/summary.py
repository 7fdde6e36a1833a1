"""What an object says of itself: some lines of text, and the same as HTML in a notebook.

The page of a notebook is light or dark: colours are its own, and nothing is loaded from elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from textwrap import indent

_TABLE = "text-align:left;vertical-align:top"
SENTENCE = "margin:0.2em 0;white-space:pre-wrap"
_COLUMNS = "margin:0.2em 0;overflow-x:auto"


@dataclass(frozen=True)
class Summary:
    """A title, facts by name, and sentences.

    Parameters
    ----------
    title
        What it is, on a line.
    rows
        Names and facts.
    lines
        What is said below them: sentences, one that belongs to the line before it beginning with blanks, and tables of
        several lines.
    """

    title: str
    rows: tuple[tuple[str, str], ...] = ()
    lines: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the summary as it is printed."""
        width = max((len(name) for name, _ in self.rows), default=0)
        facts = [f"  {name:<{width}}  {fact}" for name, fact in self.rows]
        return "\n".join([self.title, *facts, *(indent(line, "  ") for line in self.lines)])

    def html(self) -> str:
        """Return the summary as a notebook shows it."""
        facts = "".join(
            f'<tr><th scope="row" style="{_TABLE}">{escape(name)}</th>'
            f'<td style="{_TABLE}">{escape(fact)}</td></tr>'
            for name, fact in self.rows
        )
        parts = [f"<p><strong>{escape(self.title)}</strong></p>"]
        parts += [f"<table><tbody>{facts}</tbody></table>"] if facts else []
        parts += [_paragraph(line) for line in self.lines]
        return f'<div class="bayesunmix">{"".join(parts)}</div>'


class Summarised:
    """An object that prints, and shows in a notebook, what `_summary` returns."""

    def _summary(self) -> Summary:
        """Return what the object says of itself."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._summary().text()

    def _repr_html_(self) -> str:
        return self._summary().html()


def _paragraph(text: str) -> str:
    """Return a sentence, or a text of several lines whose columns stay below each other."""
    name, style = ("pre", _COLUMNS) if "\n" in text else ("div", SENTENCE)
    return f'<{name} style="{style}">{escape(text)}</{name}>'


class Text(str):
    """A text of several lines, whose columns a notebook keeps below each other."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f'<div class="bayesunmix">{_paragraph(self)}</div>'
