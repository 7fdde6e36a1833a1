"""The report tells the whole story, in one file, with the right numbers."""

from __future__ import annotations

import dataclasses
import html
import re
import runpy
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bayesunmix.checks.outcomes import UnmodelledRegions
from bayesunmix.checks.regions import MapRegion
from bayesunmix.core.rounding import bound_text, interval_text, round_to_uncertainty
from bayesunmix.core.severity import MODES, RESIDUALS, STEPS, Distrust, Doubt, Reservation
from bayesunmix.report import page as report
from bayesunmix.report.health import checks
from bayesunmix.report.page import report_html, save_report
from bayesunmix.report.render import Cell, Row, _pages
from bayesunmix.report.words import findings, headline, misfit_key
from bayesunmix.results.record import RunRecord
from bayesunmix.results.record_parts import PhaseNames, ProposedName

_PLOTS = runpy.run_path(str(Path(__file__).with_name("test_plot.py")))
synthetic_result: Callable[..., Any] = _PLOTS["synthetic_result"]
Tables: Callable[..., Any] = _PLOTS["Tables"]
SECTIONS = [
    "fit",
    "maps",
    "segmentation",
    "spectra",
    "compositions",
    "partition",
    "diagnostics",
    "warnings",
    "reading",
    "settings",
]


class _Page(HTMLParser):
    """Collects sections, links and pictures, and checks that tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "h2":
            self.sections.append(found["id"] or "")
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def result() -> Any:  # noqa: ANN401 - the stand-in of test_plot
    return synthetic_result()


def changed(result: Any, **parts: Any) -> Any:  # noqa: ANN401
    """Return the same with other parts of its record."""
    return dataclasses.replace(result, record=RunRecord.of({**result.record.to_dict(), **parts}))


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the figures, which take nearly all the time, where the page's words are looked at."""
    monkeypatch.setattr(report, "_all_figures", lambda _: {})


@pytest.fixture(scope="module")
def page(result: Any) -> str:  # noqa: ANN401
    # A sentence of a template may go on in the next line.
    return " ".join(report_html(result).split())


def test_sections_come_in_order_and_nothing_is_loaded_from_outside(page: str) -> None:
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert parser.sections == SECTIONS
    assert all(source.startswith(("#", "data:image/png;base64,")) for source in parser.sources)
    assert sum(source.startswith("data:") for source in parser.sources) == len(report.FIGURES)


def test_page_writes_intervals_bounds_and_declared_absences(page: str, result: Any) -> None:  # noqa: ANN401
    table = result.summary().set_index(["phase", "element"])
    row = table.loc["Brg", "U"]
    assert interval_text(100.0 * row["mean"], 100.0 * row["lower"], 100.0 * row["upper"]) in page
    assert html.escape(bound_text(100.0 * table.loc["Fp", "U"]["upper_bound"])) in page
    assert "declared absent" in page


def test_headline_names_phases_shares_traces_and_verdict(page: str, result: Any) -> None:  # noqa: ANN401
    share = 100.0 * float(result.tree["maps"].dataset["abundance_mean"].sel(phase="Brg").mean())
    assert f"Brg ({share:.2g}\u00a0[88,\u00a097]\u00a0%)" in headline(result)[0]
    assert "Three phases in a map of 30 × 40 pixels" in headline(result)[0]
    assert "2 chains of 100 draws" in headline(result)[1]
    text = dict(findings(result))["Fp"]
    assert re.match(r"Mg\s7\d", text)
    assert "Declared absent: Si, Ca." in text
    assert re.search(r"Not detected: Nd\s<\s0\.00\d+", text)
    assert "Good. No diagnostic speaks against this result." in page


@pytest.mark.usefixtures("without_figures")
def test_regions_of_misfit_are_listed(page: str, result: Any) -> None:  # noqa: ANN401
    assert "8.25 – 8.45" in page
    assert "+5.6" in page
    assert "tail of &lt;Si&gt; Kα" in page
    assert "Noise alone makes 0.12 such regions" in page
    (found,) = [check for check in checks(result) if check.name == RESIDUALS]
    assert (
        "2, 1 of them beyond noise; the largest +5.6 σ at 8.34 keV in whole map (perhaps line Pt L)"
        in found.found
    )
    record = result.record.to_dict()
    record["fit"]["residuals"]["regions"] = []
    without = dataclasses.replace(result, record=RunRecord.of(record))
    assert "There is none." in report_html(without)
    assert {check.name: check.verdict for check in checks(without)}[RESIDUALS] == "good"


@pytest.mark.parametrize(
    ("shape", "largest", "kinds", "said"),
    [
        (
            (30, 40),
            9.0,
            ["spectrum"],
            "Outlined: above the threshold of 6 sigma; numbers are those of the list.",
        ),
        ((30, 40), 2.0, [], "Nothing is above the threshold of 6 sigma."),
        (
            (30, 40),
            2.0,
            ["hole"],
            "Nothing is above the threshold of 6 sigma; numbers are those of the list, holes included.",
        ),
        ((1, 40), 9.0, ["spectrum"], "Dashed: the threshold of 6 sigma."),
    ],
)
def test_the_map_of_residuals_says_what_is_drawn_over_it(
    shape: tuple[int, int], largest: float, kinds: list[str], said: str
) -> None:
    made = synthetic_result(shape=shape)
    tree = made.tree.copy()
    sigma = np.full(shape, 1.0)
    sigma[0, 5] = largest
    tree["maps"] = type(tree)(tree["maps"].dataset.assign(misfit=(("y", "x"), sigma)))
    regions = tuple(
        MapRegion(y=0.0, x=5.0, pixels=4, sigma=9.0, kind=kind, excess={}, lacking={}, counts_ratio=0.2)
        for kind in kinds
    )
    found = UnmodelledRegions(threshold=6.0, regions=regions)
    record = made.record.model_copy(update={"unmodelled_regions": found})
    assert misfit_key(dataclasses.replace(made, tree=tree, record=record)) == said


@pytest.mark.usefixtures("without_figures")
@pytest.mark.parametrize(
    ("doubt", "level", "words"),
    [(Reservation, "reservations", "With reservations:"), (Distrust, "distrust", "Not to be trusted:")],
)
def test_the_verdict_stands_first_in_words_and_colour(
    result: Any,  # noqa: ANN401
    doubt: type[Doubt],
    level: str,
    words: str,
) -> None:
    text = report_html(dataclasses.replace(result, said=("Assumed.", doubt("R-hat of `U in Fp` is 1.09."))))
    assert f'<div class="verdict {level}">' in text
    assert f".verdict.{level} {{ border-color" in text
    assert "No diagnostic speaks against" not in text
    assert text.count("R-hat of <code>U in Fp</code> is 1.09.") == 1
    assert text.index(words) < text.index("R-hat of <code>") < text.index('id="fit"')


@pytest.mark.parametrize(("doubt", "mark"), [(Reservation, "reservation"), (Distrust, "bad")])
def test_no_check_is_good_beside_a_finding_about_it(result: Any, doubt: type[Doubt], mark: str) -> None:  # noqa: ANN401
    names = [check.name for check in checks(result)]
    assert len(set(names)) == len(names)
    for name in names:
        marks = {
            check.name: check.verdict
            for check in checks(dataclasses.replace(result, said=(doubt("Off.", name),)))
        }
        assert marks[name] == mark


@pytest.mark.usefixtures("without_figures")
def test_a_finding_is_not_among_the_notes(result: Any) -> None:  # noqa: ANN401
    note = result.record.warnings[0]
    assert report_html(result).count(note) == 1
    assert report_html(dataclasses.replace(result, said=(Reservation(note),))).count(note) == 1


def test_a_point_shows_no_check_of_draws(result: Any) -> None:  # noqa: ANN401
    point = changed(result, method="map")
    names = {check.name for check in checks(point)}
    assert not names & {"R-hat", "Effective sample size", "Divergences", STEPS}
    assert MODES in names


def test_checks_tell_good_from_bad(result: Any) -> None:  # noqa: ANN401
    assert {check.name: check.verdict for check in checks(result)} == {
        "R-hat": "good",
        "Effective sample size": "good",
        "Divergences": "good",
        MODES: "good",
        "Deviance per degree of freedom": "good",
        RESIDUALS: "reservation",
        "Binning": "note",
        "Detector response": "note",
    }
    table = result.diagnostics().copy()
    table.loc[3, ["rhat", "ess_bulk"]] = 1.2, 17.0
    bad = dataclasses.replace(result, tables=Tables(result.tables.made | {"diagnostics": table}))
    found = {check.name: check for check in checks(bad)}
    assert found["R-hat"].verdict == found["Effective sample size"].verdict == "bad"
    assert "1.200" in found["R-hat"].found
    assert table["quantity"][3] in found["R-hat"].found
    starts = [{"objective": 0.0, "same_mode": True}, {"objective": 2.5, "same_mode": False}]
    found = {check.name: check for check in checks(changed(result, starts=starts))}
    # Where the intervals hold a second maximum, nothing speaks against them: the findings say whether they do.
    assert found[MODES].verdict == "good"
    assert "the odds of the second maximum are 1 to 12" in found[MODES].found
    stats = result.tree["sample_stats"].dataset
    diverging = stats["diverging"].copy(data=np.ones(stats["diverging"].shape, bool))
    tree = result.tree.copy()
    tree["sample_stats"] = type(result.tree)(stats.assign(diverging=diverging))
    verdicts = {check.name: check.verdict for check in checks(dataclasses.replace(result, tree=tree))}
    assert verdicts["Divergences"] == "bad"


def test_a_result_without_chains_says_so() -> None:
    found = {check.name: check for check in checks(synthetic_result(method="laplace"))}
    assert found["R-hat"].verdict == "note"
    assert "laplace runs no chains" in found["R-hat"].found
    assert "Divergences" not in found


@pytest.mark.parametrize(("holds", "verdict"), [(True, "good"), (False, "bad")])
def test_exact_steps_tell_what_they_moved(result: Any, holds: bool, verdict: str) -> None:  # noqa: ANN401
    steps = {
        "acceptance": 0.91,
        "worst_quantity": "x(U in Fp)",
        "shift_sd": -0.4,
        "width_ratio": 1.2,
        "holds": holds,
    }
    diagnostics = {"pareto_k": 1.3, "exact_steps": steps}
    checked = checks(changed(result, diagnostics=diagnostics))
    row = {check.name: check for check in checked}[STEPS]
    assert row.verdict == verdict
    for said in ("91\u00a0%", "x(U in Fp)", "-0.40", "1.20 times", "Pareto k 1.30"):
        assert said in row.found


@pytest.mark.usefixtures("without_figures")
def test_names_from_the_user_cannot_break_the_page() -> None:
    result = synthetic_result(phases=2)
    name = "<b>Brg & co</b> $title"
    tables = Tables({key: table.replace("Brg", name) for key, table in result.tables.made.items()})
    text = report_html(dataclasses.replace(result, phases=[name, "Fp"], tables=tables))
    assert "<b>Brg" not in text
    assert html.escape(name) in text
    _Page().feed(text)


def test_save_report_writes_page_and_figures(result: Any, tmp_path: Path) -> None:  # noqa: ANN401
    path = save_report(result, tmp_path / "new")
    assert path == tmp_path / "new" / "report.html"
    assert path.stat().st_size < 3_000_000
    files = {file.name for file in (tmp_path / "new" / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in report.FIGURES for kind in ("png", "pdf")}


def test_a_large_page_takes_coarser_pictures(result: Any, monkeypatch: pytest.MonkeyPatch, page: str) -> None:  # noqa: ANN401
    monkeypatch.setattr(report, "_MOST_BYTES", 500_000)
    assert len(report_html(result)) < 600_000 < len(page)


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((41.2187, 40.8761, 41.5613), ("41.2", "40.9", "41.6")),
        ((224.8, 172.3, 306.1), ("220", "170", "310")),
        ((0.01912, 0.0151, 0.0234), ("0.019", "0.015", "0.023")),
        ((0.84, 0.29, 1.7), ("0.8", "0.3", "1.7")),
        ((0.019, 0.0004, 0.05), ("0.019", "0.0004", "0.050")),
        ((4.359, 0.003, 6.854), ("4", "0.003", "7")),
        ((0.3, 0.0, 0.9), ("0.3", "0.0", "0.9")),
        ((5.0, 5.0, 5.0), ("5.00", "5.00", "5.00")),
        ((0.0, 0.0, 0.0), ("0", "0", "0")),
        ((3e-9, 1e-9, 6e-9), ("3e-09", "1e-09", "6e-09")),
        ((float("nan"), 0.0, 1.0), ("–", "0", "1")),
    ],
)
def test_digits_follow_the_interval(
    numbers: tuple[float, float, float], expected: tuple[str, str, str]
) -> None:
    assert round_to_uncertainty(*numbers) == expected


@given(
    value=st.floats(1e-5, 1e5),
    below=st.floats(1e-3, 0.999),
    above=st.floats(1e-3, 10.0),
)
def test_rounding_moves_a_value_by_at_most_a_quarter_of_the_nearer_side(
    value: float, below: float, above: float
) -> None:
    lower, upper = value * (1.0 - below), value * (1.0 + above)
    side = min(value - lower, upper - value)
    assume(side > 1e-6)
    for number, text in zip((value, lower, upper), round_to_uncertainty(value, lower, upper), strict=True):
        assert abs(float(text) - number) <= 0.2501 * side
        assert float(text) > 0.0


@given(bound=st.floats(1e-5, 1e6))
def test_rounded_bounds_stay_true(bound: float) -> None:
    upper, lower = float(bound_text(bound)[2:]), float(bound_text(bound, ">")[2:])
    assert bound * (1 - 1e-6) <= upper <= bound * 1.11
    assert bound * 0.89 <= lower <= bound * (1 + 1e-6)


def test_bounds_of_two_digits_are_kept() -> None:
    assert bound_text(0.013) == "< 0.013"
    assert bound_text(170.0, ">") == "> 170"
    assert bound_text(0.0, unit="at%") == "< 0 at%"


@pytest.mark.usefixtures("without_figures")
def test_proposed_names_stand_beside_the_compositions() -> None:
    result = synthetic_result()
    rows = (
        ProposedName(
            name="Bridgmanite", formula="MgSiO3", probability=0.7, unmeasured=("O",), alike=("Akimotoite",)
        ),
        ProposedName(
            name="Akimotoite", formula="MgSiO3", probability=0.2, unmeasured=("O",), alike=("Bridgmanite",)
        ),
    )
    result.tables.names = (PhaseNames(phase="Brg", none=0.1, proposed=rows),)
    page = report_html(result)
    assert "Bridgmanite (0.70), Akimotoite (0.20); none of these (0.10)" in page
    assert "the structure (diffraction)" in page
    assert re.search(r'scope="row">may be</th><td>Bridgmanite \(0.70\)</td>', page)
    result.tables.names = ()
    assert 'id="names"' not in report_html(result)


def test_words_that_no_column_has_room_for_may_break() -> None:
    rows = [Row("n" * 80, [Cell("5 [4, 6]"), Cell("in " + "m" * 80)])]
    table = SimpleNamespace(head=["at%", "o" * 80], rows=rows, stated="", note="")
    page = " ".join(str(_pages.get_template("macros.html").module.composition_table(table)).split())
    assert f'<th scope="row" class="long">{"n" * 80}</th>' in page
    assert f'<th scope="col" class="long">{"o" * 80}</th>' in page
    assert f'<td class="number long">in {"m" * 80}</td>' in page
    assert '<td class="number">5 [4, 6]</td>' in page
    assert '<th scope="col">at%</th>' in page
