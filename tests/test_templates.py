"""Templates: what is not given is an error, and names and messages are text whatever they hold."""

from __future__ import annotations

import jinja2
import pytest

from bayesunmix.report.render import in_letters, render, with_code
from bayesunmix.results.verdict import Finding, Level, Verdict

ODD = "<script>alert(1)</script>"


def test_backticks_become_code_and_all_else_is_escaped() -> None:
    assert with_code("declare `a<b` & run") == "declare <code>a&lt;b</code> &amp; run"


def test_what_a_template_names_must_be_given() -> None:
    with pytest.raises(jinja2.UndefinedError, match="title"):
        render("comparison.html")


def test_names_and_messages_stay_text() -> None:
    verdict = Verdict(Level.DISTRUST, (Finding("distrust", f"{ODD} in `{ODD}`."),), earlier=True)
    shown = render("notebook.html", title=ODD, verdict=verdict, compositions=None)
    compared = render(
        "comparison.html",
        title=ODD,
        verdict=verdict,
        level="95",
        notes=[ODD],
        alternatives=[[ODD, f"  {ODD}"]],
        pictures={ODD: in_letters(b"png")},
        tables=[],
    )
    for page, times in ((shown, 3), (compared, 8)):
        assert "<script>" not in page
        assert page.count("&lt;script&gt;") == times
