"""What objects say of themselves: the same in print and in a notebook, escaped, and with nothing from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bayesunmix as bu
from bayesunmix.batches.outcome import Outcome
from bayesunmix.batches.table import MapRow
from bayesunmix.core.summary import Summary, Text
from bayesunmix.results.result import Result
from bayesunmix.results.verdict import judge

ODD = '<script src="x">&'


def words(page: str) -> set[str]:
    """Words that a page shows."""
    return set(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())


def test_a_summary_is_text_and_page() -> None:
    made = Summary(
        "Title <i>", (("grid", "4 x 5"), ("energy", "1 & 2")), ("a note", "  and more", "x  y\n1  2")
    )
    assert (
        made.text() == "Title <i>\n  grid    4 x 5\n  energy  1 & 2\n  a note\n    and more\n  x  y\n  1  2"
    )
    assert "<strong>Title &lt;i&gt;</strong>" in made.html()
    assert "1 &amp; 2</td>" in made.html()
    assert re.search(r"<pre [^>]*>x  y\n1  2</pre>", made.html())
    assert words(made.html()) == set(made.text().split())


def an_image() -> bu.SpectrumImage:
    counts = np.random.default_rng(0).poisson(2.0, size=(4, 5, 40))
    facts = {"beam_energy_keV": 200.0, "takeoff_angle_deg": 22.0}
    image = bu.SpectrumImage.from_array(counts, np.linspace(1.0, 5.0, 40), name=ODD, **facts)
    return image.with_warnings(("odd < even",))


def a_segmentation() -> bu.Segmentation:
    shares = xr.DataArray(np.full((2, 2, 2), 0.5), dims=("phase", "y", "x"), coords={"phase": [ODD, "b"]})
    return bu.Segmentation("nmf", xr.Dataset({"abundance": shares}), shares[:, 0])


def an_outcome() -> Outcome:
    row = MapRow(name=ODD, map=Path("a.hspy"), config=Path("a.toml"))
    return Outcome(row=row, status="failed", reason="`MAP` must be < 3")


@pytest.mark.filterwarnings("ignore:odd")
@pytest.mark.parametrize("make", [an_image, a_segmentation, an_outcome, lambda: Text(f"{ODD}\nmore")])
def test_a_notebook_shows_what_is_printed(make: Callable[[], object]) -> None:
    one = make()
    assert repr(one) == str(one)
    page = one._repr_html_()  # type: ignore[attr-defined]
    assert words(page) == set(repr(one).split())
    assert ODD in repr(one)
    check_harmless(page)


def check_harmless(page: str) -> None:
    assert ODD not in page
    assert not re.search(r"<script|<link|<img|@import|url\(|https?://", page)
    # A colour of its own is readable on a light page or on a dark one.
    assert not re.search(r"style=\"[^\"]*(color|background)", page)


def test_a_phase_is_what_makes_it_again() -> None:
    phase = bu.Phase("Fp <&", absent=["Si", "Ca"], matrix=True)
    assert eval(repr(phase), {"Phase": bu.Phase}) == phase
    page = phase._repr_html_()
    assert "Fp &lt;&amp;" in page
    assert "stoichiometry" not in page
    assert {"name", "absent", "matrix"} <= words(page)
    check_harmless(page)


def test_comparisons_and_series(made_result: Callable[..., Result]) -> None:
    generator = np.random.default_rng(0)
    share = np.array([[500.0, 450.0, 50.0], [800.0, 20.0, 180.0]])
    results = [
        made_result(
            np.stack([generator.dirichlet(one, (2, 60)) for one in share], axis=2),
            ["Brg", "<Fp>"],
            ["Mg", "Si", "Fe"],
        )
        for _ in range(2)
    ]
    comparison = bu.compare(results, names=["a", ODD])
    assert words(comparison._repr_html_()) == set(repr(comparison).split())
    assert "verdict: good" in repr(comparison)
    check_harmless(comparison._repr_html_())


def test_every_object_of_a_notebook_has_a_page() -> None:
    from bayesunmix.analysis.comparison import Comparison
    from bayesunmix.analysis.onuma import Onuma
    from bayesunmix.analysis.series import Series
    from bayesunmix.analysis.signals import ResultSignals
    from bayesunmix.fit.prepared import Prepared

    held = (bu.SpectrumImage, bu.Result, bu.Batch, bu.Phase, bu.Segmentation, bu.FreeUnmixing)
    for kind in (*held, Comparison, Onuma, Outcome, Prepared, ResultSignals, Series, Text):
        assert callable(kind._repr_html_), kind


def test_a_verdict_has_one_page() -> None:
    assert words(judge([])._repr_html_()) >= {"Good."}
