"""The report: one page without outside parts that tells the whole story, and the figures as files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from bayesunmix.core.errors import warn
from bayesunmix.core.output_folder import amend_record, names_of
from bayesunmix.core.rounding import composition_text, interval_text, partition_text
from bayesunmix.data.image import WHOLE_MAP
from bayesunmix.plot import FIGURES, OPTIONAL_FIGURES
from bayesunmix.plot.compositions import compositions_figure
from bayesunmix.plot.fit import LEAST_EXPECTED
from bayesunmix.plot.partition import phase_pairs, table_rows
from bayesunmix.plot.style import element_order, phase_colour, png_bytes, scaled_png
from bayesunmix.report.health import checks
from bayesunmix.report.identifiability import identifiability
from bayesunmix.report.live import live_parts
from bayesunmix.report.paper import composition_paper_table, mass_balance_paper_table
from bayesunmix.report.render import Cell, Row, Table, in_letters, render
from bayesunmix.report.steps import Step, disk_error, sentences, take, without
from bayesunmix.report.supports import supports_note
from bayesunmix.report.words import (
    aside_words,
    assumptions,
    findings,
    headline,
    misfit_key,
    misfit_words,
    phase_number_words,
)
from bayesunmix.results.names import what_decides
from bayesunmix.results.tables import STATED, share_texts
from bayesunmix.results.verdict import Verdict

if TYPE_CHECKING:
    from bayesunmix.checks.outcomes import ResidualRegion, SetAside
    from bayesunmix.results.record import RunRecord
    from bayesunmix.results.record_parts import PhaseNames
    from bayesunmix.results.result import Result

DPI = 200
# A page of this many bytes still travels by e-mail; when the pictures are larger their resolution goes down.
_MOST_BYTES = 2_900_000
_LOWER_DPI = (140, 100, 70)
PAGE_FILE = "report.html"
PAGE = f"the page `{PAGE_FILE}`"


def write_report(directory: Path, formats: Sequence[str] = ("png", "pdf")) -> Path:
    """Write figures, tables and report of a saved result.

    Parameters
    ----------
    directory
        Output folder of a run.
    formats
        Formats of the figures: png, pdf, svg.

    Returns
    -------
    Path
        The file ``report.html`` in that folder; the figures are in ``figures/``, the tables in ``tables/``.
    """
    from bayesunmix.results.result import open_result

    directory = Path(directory)
    result = open_result(directory)
    steps = picture_steps(result, formats)
    warnings = without(result.record.warnings, steps)
    record = result.record.model_copy(update={"warnings": tuple(warnings)})
    before = names_of(directory)
    failed = take(picture_steps(result.with_record(record), formats), directory)
    amend_record(directory, [*warnings, *sentences(failed)], set(names_of(directory)) - set(before))
    return _page_of(failed, directory)


def save_report(result: Result, directory: Path, formats: Sequence[str] = ("png", "pdf")) -> Path:
    """Write figures and report of a result into a folder; see `write_report`."""
    directory.mkdir(parents=True, exist_ok=True)
    return _page_of(take(report_steps(result, formats), directory), directory)


def picture_steps(result: Result, formats: Sequence[str] = ("png", "pdf")) -> list[Step]:
    """Return the steps that write what can be made again from the numbers: figures, page, tables for a paper."""
    from bayesunmix.report.paper import write_tables

    tables = Step("the tables for a paper", lambda folder: write_tables(result, folder / "tables"))
    return [*report_steps(result, formats), tables]


def _page_of(failed: dict[str, Exception], directory: Path) -> Path:
    """Say which figures could not be made, and return the page, or raise why there is none."""
    for sentence in sentences(failed):
        warn(sentence)
    error = failed.get(PAGE) or disk_error(failed)
    if error is not None:
        raise error
    return directory / PAGE_FILE


def report_steps(result: Result, formats: Sequence[str] = ("png", "pdf")) -> list[Step]:
    """Return the steps that write figures and report of a result into a folder; see `write_report`."""
    pictures: dict[str, bytes] = {}

    def draw(name: str, directory: Path) -> None:
        folder = directory / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        figure = _all_figures(result)[name](result)
        pictures[name] = png_bytes(figure, DPI)
        if "png" in formats:
            (folder / f"{name}.png").write_bytes(pictures[name])
        # Where everything stands has been worked out: it takes as long as to draw it.
        figure.set_layout_engine("none")
        for kind in formats:
            if kind != "png":
                figure.savefig(folder / f"{name}.{kind}", format=kind, dpi=DPI)

    def page(directory: Path) -> None:
        text = _page(result, pictures)
        (directory / PAGE_FILE).write_text(text, encoding="utf-8")

    drawn = [Step(f"the figure `{name}`", partial(draw, name)) for name in _all_figures(result)]
    return [*drawn, Step(PAGE, page)]


def report_html(result: Result) -> str:
    """Return the report as one page of HTML with its pictures inside.

    Parameters
    ----------
    result
        The result of a run.
    """
    return _page(result, {name: png_bytes(draw(result), DPI) for name, draw in _all_figures(result).items()})


def _all_figures(result: Result) -> Mapping[str, Callable[[Result], Figure]]:
    """Return what draws each figure that a result has, by its name."""
    return (
        FIGURES
        | {
            name: draw
            for name, (draw, field) in OPTIONAL_FIGURES.items()
            if getattr(result.record, field) is not None
        }
        | {
            f"compositions_{unit}": partial(compositions_figure, unit=unit)
            for unit in result.record.config.output.further_units
        }
    )


def _page(result: Result, drawn: dict[str, bytes]) -> str:
    """Fill the template, with coarser pictures if the page would become too large."""
    pictures = drawn
    for dpi in _LOWER_DPI:
        # Base 64 writes three bytes as four letters.
        if sum(map(len, pictures.values())) * 4 / 3 <= _MOST_BYTES:
            break
        pictures = {name: scaled_png(picture, dpi / DPI) for name, picture in drawn.items()}
    record = result.record
    phases = ", ".join(result.phases)
    scan = record.fit.residuals if record.fit else None
    shown = {name: in_letters(picture) for name, picture in pictures.items()}
    return render(
        "report.html",
        title=f"Unmixing of {phases}",
        phases=phases,
        level=f"{100.0 * result.level:g}",
        pictures=shown,
        live=live_parts(result),
        least_expected=f"{LEAST_EXPECTED:g}",
        verdict=result.verdict,
        headline=headline(result),
        found=[
            PhaseLine(phase_colour(index), phase, text)
            for index, (phase, text) in enumerate(findings(result))
        ],
        phase_number=phase_number_words(record.phase_number) if record.phase_number else [],
        scan=scan,
        regions=_residual_regions(scan.regions) if scan else [],
        misfit=misfit_words(record.unmodelled_regions) if record.unmodelled_regions else None,
        misfit_key=misfit_key(result) if record.unmodelled_regions else "",
        aside=aside_words(record.set_aside) if record.set_aside else [],
        both=_with_and_without(result, record.set_aside) if record.set_aside else None,
        compositions=_compositions(result),
        further=_further_units(result),
        names=_names(result),
        partition=_partition(result),
        mass_thickness=_mass_thickness(result) if "mass_thickness" in shown else None,
        mass_balance=_mass_balance(result),
        **identifiability(result, budget="budget" in shown),
        checks=checks(result),
        notes=_notes(result),
        assumptions=assumptions(result),
        **_settings(record),
    )


class PhaseLine(NamedTuple):
    """What a phase is made of, with the colour that it has in the figures."""

    colour: str
    name: str
    text: str


class Compositions(NamedTuple):
    """The table of compositions, what its numbers are, and what is said of phases without one."""

    head: list[str]
    rows: list[Row]
    stated: str
    note: str


def verdict_html(verdict: Verdict) -> str:
    """Return what a notebook shows of a verdict."""
    return render("notebook.html", title="", verdict=verdict, compositions=None)


def result_html(result: Result) -> str:
    """Return what a notebook shows of a result, as it is printed: the verdict, the phases and their compositions."""
    compositions = _compositions(result)
    compositions = compositions._replace(rows=[_shares(result), *compositions.rows])
    return render("notebook.html", title=result.title, verdict=result.verdict, compositions=compositions)


def _compositions(result: Result) -> Compositions:
    rows = {(str(row.phase), str(row.element)): row for row in result.summary().itertuples(index=False)}
    stated = f"mean [{100.0 * result.level:g} % interval]; <: not detected, upper bound"
    if result.record.method == "map":
        stated = "the maximum of the posterior, without intervals and not tested for detection"
    return Compositions(
        head=result.sample_phases,
        rows=[
            *_likely_names(result),
            *(
                Row(element, [_cell(composition_text(row), row.detected in STATED) for row in line])
                for element in element_order(result.elements)
                for line in [[rows[phase, element] for phase in result.sample_phases]]
            ),
        ],
        stated=stated,
        note=supports_note(result),
    )


def _shares(result: Result) -> Row:
    """Return one row with the share of the map's atoms that each phase with a composition holds."""
    return Row("of the atoms", [Cell(text) for text in share_texts(result.tables.phase_shares()).values()])


class UnitTable(NamedTuple):
    """Compositions in a unit of ``[output]``: name of the figure, columns, rows and caption."""

    figure: str
    head: list[str]
    rows: list[Row]
    caption: str


def _further_units(result: Result) -> list[UnitTable]:
    """Return compositions in the units that are asked for beside atom percent."""
    found = []
    for unit in result.record.config.output.further_units:
        table = composition_paper_table(result, unit)
        rows = [
            Row(str(name), [_cell(str(cell), str(cell)[0] not in "<–") for cell in cells])
            for name, *cells in table.frame.to_numpy()
        ]
        found.append(UnitTable(f"compositions_{unit}", list(table.frame.columns[1:]), rows, table.caption))
    return found


def _likely_names(result: Result) -> list[Row]:
    """Return one row with the name that is more probable than not, of the phases that have one."""
    first = {one.phase: next(iter(one.proposed), None) for one in result.tables.proposed()}
    likely = {
        phase: f"{top.name} ({top.probability:.2f})"
        for phase, top in first.items()
        if top and top.probability > 0.5
    }
    if not likely:
        return []
    return [
        Row(
            "may be",
            [
                Cell(likely.get(phase, "–"), "" if phase in likely else "none")
                for phase in result.sample_phases
            ],
        )
    ]


def _names(result: Result) -> Table:
    """Return what each phase may be, and what would tell."""
    rows = [
        Row(one.phase, [Cell(one.text(), ""), Cell(_nearest(one), ""), Cell(what_decides(one) or "–", "")])
        for one in result.tables.proposed()
    ]
    return Table(["May be (probability)", "Formula and end member", "What decides"], rows)


def _nearest(one: PhaseNames) -> str:
    top = next(iter(one.proposed), None)
    return ", ".join(filter(None, [top.formula, top.member])) if top else "–"


def _with_and_without(result: Result, aside: SetAside) -> Table:
    """Return compositions of the fit without what was set aside, and of that of the whole map."""
    rows = {(str(row.phase), str(row.element)): row for row in result.summary().itertuples(index=False)}
    head = [f"{phase}, {which}" for phase in result.sample_phases for which in ("without", "with")]
    first = {(entry.phase, entry.element): entry for entry in aside.before}
    lines = []
    for element in element_order(result.elements):
        cells = []
        for phase in result.sample_phases:
            row, before = rows[phase, element], first.get((phase, element))
            cells.append(_cell(composition_text(row), row.detected in STATED))
            text = "–"
            if before is not None:
                text = interval_text(100.0 * before.at_frac, 100.0 * before.lower, 100.0 * before.upper)
            cells.append(_cell(text, before is not None))
        lines.append(Row(element, cells))
    return Table(head, lines)


def _partition(result: Result) -> Table:
    pairs, rows, lines = phase_pairs(result), table_rows(result), []
    for element in element_order(result.elements):
        texts = [partition_text(rows.get((element, *pair))) for pair in pairs]
        lines.append(Row(element, [_cell(text, text[0] not in "<>–") for text in texts]))
    return Table([f"{above} / {below}" for above, below in pairs], lines)


def _cell(text: str, known: bool) -> Cell:
    return Cell(text, "number" if known else "number none")


def _residual_regions(regions: Sequence[ResidualRegion]) -> list[Row]:
    rows = []
    for number, region in enumerate(regions, start=1):
        texts = (
            region.spectrum,
            f"{region.low_keV:.2f} – {region.high_keV:.2f}",
            f"{region.sigma:+.1f}",
            f"{region.excess_counts:+,.0f}",
            f"{region.chance:.2g}",
        )
        rows.append(Row(str(number), [*map(Cell, texts), Cell(region.cause, "")]))
    return rows


def _mass_thickness(result: Result) -> Table:
    table = result.tables.mass_thickness()
    rows = [
        Row(
            row.where if row.where == WHOLE_MAP else f"pure {row.where}",
            [Cell(interval_text(row.mean, row.lower, row.upper) if row.mean == row.mean else "–")],
        )
        for row in table.itertuples(index=False)
    ]
    return Table([str(table["unit"].iloc[0])], rows)


class MassBalance(NamedTuple):
    """The table of the mass balance."""

    head: list[str]
    rows: list[Row]
    caption: str


def _mass_balance(result: Result) -> MassBalance | None:
    """Return recovered against given weight per cent; None where no bulk composition is given."""
    if not result.record.config.sample.bulk_wt_pct:
        return None
    table = mass_balance_paper_table(result)
    rows = [Row(str(name), [Cell(str(cell)) for cell in cells]) for name, *cells in table.frame.to_numpy()]
    return MassBalance(list(table.frame.columns[1:]), rows, table.caption)


def _notes(result: Result) -> list[str]:
    """Return what was said besides the findings, which stand at the head of the page."""
    found = {finding.text for finding in result.verdict.findings}
    return [text for text in result.record.warnings if text not in found]


def _settings(record: RunRecord) -> dict[str, object]:
    """Return what repeats the run."""
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in record.timings.items())
    versions = {"bayesunmix": record.version, **record.versions}
    return {
        "run": record,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "time": f"{sum(record.timings.values()):.1f} s: {stages}",
        "config": json.dumps(record.to_dict()["config"], indent=2, ensure_ascii=False),
    }
