"""The report: one page without outside parts that tells the whole story, and the figures as files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from html import escape
from importlib import resources
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from bayesunmix.core.errors import warn
from bayesunmix.core.output_folder import amend_record, names_of
from bayesunmix.core.rounding import composition_text, interval_text, partition_text
from bayesunmix.data.image import WHOLE_MAP
from bayesunmix.plot import FIGURES, OPTIONAL_FIGURES
from bayesunmix.plot.partition import phase_pairs, table_rows
from bayesunmix.plot.style import element_order, phase_colour, png_bytes
from bayesunmix.report.health import Check, checks
from bayesunmix.report.identifiability import identifiability_section
from bayesunmix.report.paper import mass_balance_paper_table
from bayesunmix.report.steps import Step, disk_error, sentences, take, without
from bayesunmix.report.supports import supports_note
from bayesunmix.report.words import (
    assumptions,
    findings,
    headline,
    misfit_words,
    phase_number_words,
)
from bayesunmix.results.tables import STATED
from bayesunmix.results.verdict import EARLIER, Level, Verdict

if TYPE_CHECKING:
    from bayesunmix.checks.outcomes import Goodness
    from bayesunmix.results.record import RunRecord
    from bayesunmix.results.result import Result

DPI = 200
# A page of this many bytes still travels by e-mail; when the pictures are larger their resolution goes down.
_MOST_BYTES = 2_900_000
_LOWER_DPI = (140, 100, 70)
PAGE_FILE = "report.html"
PAGE = f"the page `{PAGE_FILE}`"
# Colours of the level, on light and on dark pages alike, as in the report.
_NOTEBOOK_STYLE = """
.bayesunmix .verdict { border-left: 4px solid #00795a; padding: .3rem .8rem; margin: .5rem 0; }
.bayesunmix .verdict.reservations { border-color: #b58900; }
.bayesunmix .verdict.distrust { border-color: #b3400a; }
.bayesunmix caption { text-align: left; }
"""


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
    from bayesunmix.results.result import Result, open_result

    directory = Path(directory)
    result = open_result(directory)
    steps = picture_steps(result, formats)
    warnings = without(result.record.warnings, steps)
    record = result.record.model_copy(update={"warnings": tuple(warnings)})
    before = names_of(directory)
    failed = take(picture_steps(Result(result.tree, record), formats), directory)
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
    figures: dict[str, Figure] = {}
    pictures: dict[str, bytes] = {}

    def draw(name: str, directory: Path) -> None:
        folder = directory / "figures"
        folder.mkdir(parents=True, exist_ok=True)
        figures[name] = _all_figures(result)[name](result)
        pictures[name] = png_bytes(figures[name], DPI)
        if "png" in formats:
            (folder / f"{name}.png").write_bytes(pictures[name])
        for kind in formats:
            if kind != "png":
                figures[name].savefig(folder / f"{name}.{kind}", format=kind, dpi=DPI)

    def page(directory: Path) -> None:
        text = _page(result, figures, pictures)
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
    figures = draw_figures(result)
    return _page(result, figures, {name: png_bytes(figure, DPI) for name, figure in figures.items()})


def draw_figures(result: Result) -> dict[str, Figure]:
    """Return every figure by name, in the order of the report."""
    return {name: draw(result) for name, draw in _all_figures(result).items()}


def _all_figures(result: Result) -> Mapping[str, Callable[[Result], Figure]]:
    """Return what draws each figure that a result has, by its name."""
    return FIGURES | {
        name: draw
        for name, (draw, field) in OPTIONAL_FIGURES.items()
        if getattr(result.record, field) is not None
    }


def _page(result: Result, figures: dict[str, Figure], pictures: dict[str, bytes]) -> str:
    """Fill the template, with coarser pictures if the page would become too large."""
    for dpi in _LOWER_DPI:
        # Base 64 writes three bytes as four letters.
        if sum(map(len, pictures.values())) * 4 / 3 <= _MOST_BYTES:
            break
        pictures = {name: png_bytes(figure, dpi) for name, figure in figures.items()}
    template = resources.files("bayesunmix.report").joinpath("report.html").read_text(encoding="utf-8")
    record = result.record
    phases = ", ".join(result.phases)
    return Template(template).substitute(
        {f"figure_{name}": _image(name, pictures.get(name), phases) for name in FIGURES},
        title=escape(f"Unmixing of {phases}"),
        subtitle=escape(f"bayesunmix {record.version}, method {record.method}, seed {record.seed}"),
        level=f"{100.0 * result.level:g}",
        verdict=_verdict(result),
        headline=_headline(result),
        table_compositions=_composition_table(result),
        table_partition=_partition_table(result),
        phase_number=_phase_number(result, pictures),
        misfit=_misfit(result, pictures),
        mass_thickness=_mass_thickness(result, pictures),
        mass_balance=_mass_balance(result),
        residual_regions=_residual_regions(record.fit),
        identifiability=identifiability_section(
            result, _image("budget", pictures["budget"], phases) if "budget" in pictures else "", _table
        ),
        diagnostics=_diagnostics(checks(result)),
        warnings=_warnings(result),
        assumptions=_bullets(assumptions(result)),
        settings=_settings(record),
    )


def _image(name: str, picture: bytes | None, phases: str) -> str:
    if picture is None:
        return f"<p>The figure {escape(name)} could not be made; the warnings of <code>run.json</code> say why.</p>"
    letters = base64.b64encode(picture).decode("ascii")
    text = escape(f"Figure {name} of {phases}", quote=True)
    return f'<img alt="{text}" src="data:image/png;base64,{letters}">'


def verdict_notebook_html(verdict: Verdict) -> str:
    """Return what a notebook shows of a verdict."""
    return notebook_html(verdict_html(verdict))


def verdict_html(verdict: Verdict, after: str = "") -> str:
    """Write a verdict in words, its class giving the colour; what comes `after` is finished HTML."""
    body = [f"<p><strong>{verdict.level.opening}</strong></p>"]
    if verdict.findings:
        items = (
            f'<li class="{finding.severity}">{_with_code(finding.text)}</li>' for finding in verdict.findings
        )
        body.append(f"<ul>{''.join(items)}</ul>")
    if verdict.earlier:
        body.append(f"<p>{EARLIER}</p>")
    return f'<div class="verdict {verdict.level}">{"".join(body)}{after}</div>'


def result_html(result: Result) -> str:
    """Return what a notebook shows of a result: the verdict and the compositions."""
    title = f"{len(result.phases)} phases, {len(result.elements)} elements, {result.record.method}"
    head = f"<p><strong>{escape(title)}</strong></p>"
    return notebook_html(f"{head}{verdict_html(result.verdict)}{_composition_table(result)}")


def notebook_html(body: str) -> str:
    """Put finished HTML into what a notebook shows, with the colours of the verdict."""
    return f'<style>{_NOTEBOOK_STYLE}</style><div class="bayesunmix">{body}</div>'


def _verdict(result: Result) -> str:
    look = '<p>Look at the <a href="#fit">residuals</a> all the same: they show what no number does.</p>'
    what_to_do = '<p><a href="#diagnostics">What to do</a></p>'
    return verdict_html(result.verdict, look if result.verdict.level == Level.GOOD else what_to_do)


def _headline(result: Result) -> str:
    paragraphs = "".join(f"<p>{escape(sentence)}</p>" for sentence in headline(result))
    entries = "".join(
        f'<dt><i style="background:{phase_colour(index)}"></i>{escape(phase)}</dt><dd>{escape(text)}</dd>'
        for index, (phase, text) in enumerate(findings(result))
    )
    return f"{paragraphs}<dl>{entries}</dl>"


def _composition_table(result: Result) -> str:
    rows = {(str(row.phase), str(row.element)): row for row in result.summary().itertuples(index=False)}
    body = [
        [element, *(_cell(composition_text(row), row.detected in STATED) for row in line)]
        for element in element_order(result.elements)
        for line in [[rows[phase, element] for phase in result.sample_phases]]
    ]
    stated = f"mean [{100.0 * result.level:g} % interval]; &lt;: not detected, upper bound"
    if result.record.method == "map":
        stated = "the maximum of the posterior, without intervals and not tested for detection"
    caption = (
        f"At%, {stated}. All columns are in <code>composition.csv</code>.{escape(supports_note(result))}"
    )
    return _table(["", *map(escape, result.sample_phases)], body, caption)


def _partition_table(result: Result) -> str:
    pairs = phase_pairs(result)
    if not pairs:
        return ""
    rows = table_rows(result)
    body = []
    for element in element_order(result.elements):
        texts = [partition_text(rows.get((element, *pair))) for pair in pairs]
        body.append([element, *(_cell(text, text[0] not in "<>–") for text in texts)])
    caption = (
        f"Median [{100.0 * result.level:g} % interval]; &lt; and &gt;: bound, detected in one phase only; "
        "–: no ratio. Every pair both ways is in <code>partition.csv</code>."
    )
    head = ["", *(escape(f"{above} / {below}") for above, below in pairs)]
    return f'<div class="wide">{_table(head, body, caption)}</div>'


def _residual_regions(fit: Goodness | None) -> str:
    """Table of the regions where the fit misses the counts, or a sentence that there are none."""
    scan = None if fit is None else fit.residuals
    if scan is None:
        return ""
    looked = (
        f"Pooled over one width of the detector, residuals were held to {scan.threshold_sigma:g} σ everywhere. "
        f"Noise alone makes {scan.regions_expected_of_noise:.2g} such regions in this map, and exceeds "
        f"{scan.global_threshold_sigma:.1f} σ anywhere with a probability of 5 %."
    )
    if not scan.regions:
        return f"<p>{escape(looked)} There is none.</p>"
    body = [
        [
            str(number),
            _cell(region.spectrum, True),
            _cell(f"{region.low_keV:.2f} – {region.high_keV:.2f}", True),
            _cell(f"{region.sigma:+.1f}", True),
            _cell(f"{region.excess_counts:+,.0f}", True),
            _cell(f"{region.chance:.2g}", True),
            f"<td>{escape(region.cause)}</td>",
        ]
        for number, region in enumerate(scan.regions, start=1)
    ]
    head = ["", "Spectrum", "keV", "σ", "Counts over the fit", "Chance", "Perhaps"]
    caption = "Regions beyond the threshold; chance: the probability that noise makes one like it anywhere."
    return f'<p>{escape(looked)}</p><div class="wide">{_table(head, body, escape(caption))}</div>'


def _mass_thickness(result: Result, pictures: dict[str, bytes]) -> str:
    """Section on the mass thickness, empty for a run without zeta-factors."""
    if "mass_thickness" not in pictures:
        return ""
    table = result.tables.mass_thickness()
    body = [
        [
            row.where if row.where == WHOLE_MAP else f"pure {row.where}",
            _cell(interval_text(row.mean, row.lower, row.upper) if row.mean == row.mean else "–", True),
        ]
        for row in table.itertuples(index=False)
    ]
    unit = escape(str(table["unit"].iloc[0]))
    caption = (
        f"Mass thickness in {unit}, mean [{100.0 * result.level:g} % interval]: of all pixels, and of those that are "
        "most probably one phase alone."
    )
    picture = _image("mass_thickness", pictures["mass_thickness"], ", ".join(result.phases))
    return (
        '<h2 id="mass_thickness">Mass thickness</h2>'
        f"<figure>{picture}<figcaption>Mass thickness of the declared elements in each pixel from zeta-factors and "
        "dose, with the oxygen that they bind: posterior mean and standard deviation.</figcaption></figure>"
        f"{_table(['', unit], body, caption)}"
    )


def _mass_balance(result: Result) -> str:
    """Section on the mass balance, empty where no bulk composition is given."""
    if not result.record.config.sample.bulk_wt_pct:
        return ""
    table = mass_balance_paper_table(result)
    body = [
        [str(name), *(_cell(str(cell), True) for cell in cells)] for name, *cells in table.frame.to_numpy()
    ]
    text = (
        "Where an interval of the ratio does not hold 1, the map is not representative of the sample, a phase that "
        "holds the element is missing, or its line strength is off."
    )
    head = ["", *map(escape, table.frame.columns[1:])]
    return f'<h2 id="mass_balance">Mass balance</h2>{_table(head, body, escape(table.caption))}<p>{text}</p>'


def _phase_number(result: Result, pictures: dict[str, bytes]) -> str:
    """Section on the number of phases, empty where it was declared."""
    found = result.record.phase_number
    if found is None or "phase_number" not in pictures:
        return ""
    picture = _image("phase_number", pictures["phase_number"], ", ".join(result.phases))
    return (
        '<h2 id="phase_number">Number of phases</h2>'
        f"<figure>{picture}<figcaption>Log predictive density of counts that were kept out of the fit, relative to the "
        "best number of phases, with the standard error of that difference over parts of the map. Circled: chosen."
        f"</figcaption></figure>{_bullets(phase_number_words(found))}"
    )


def _misfit(result: Result, pictures: dict[str, bytes]) -> str:
    """Section on the regions of significant residual."""
    found = result.record.unmodelled_regions
    if found is None or "misfit" not in pictures:
        return ""
    paragraph, places = misfit_words(found)
    picture = _image("misfit", pictures["misfit"], ", ".join(result.phases))
    return (
        '<h2 id="misfit">Regions of significant residual</h2>'
        f"<figure>{picture}<figcaption>Largest standardised residual of the windows around each pixel against the best "
        "mixture of the declared phases in that window. Outlined: above the threshold; numbered as in the list."
        f"</figcaption></figure><p>{escape(paragraph)}</p>{_bullets(places) if places else ''}"
    )


def _cell(text: str, known: bool) -> str:
    return f'<td class="number{"" if known else " none"}">{escape(text)}</td>'


def _table(head: Sequence[str], body: Iterable[Sequence[str]], caption: str) -> str:
    """Write a table whose first column names the rows; the other cells are finished HTML."""
    top = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = "".join(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>' for name, *cells in body)
    return f"<table><caption>{caption}</caption><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table>"


def _diagnostics(found: list[Check]) -> str:
    words = {"good": "✓ good", "note": "– note", "reservation": "! reservation", "bad": "✗ not good"}
    body = []
    for check in found:
        remedy = f" <em>When it is not good:</em> {_with_code(check.remedy)}" if check.remedy else ""
        body.append(
            [
                check.name,
                f'<td class="mark {check.verdict}">{words[check.verdict]}</td>',
                f"<td>{escape(check.found)}</td>",
                f'<td class="soft">{escape(check.meaning)}{remedy}</td>',
            ]
        )
    head = ["Check", "", "Found", "What it means"]
    return f'<div class="wide">{_table(head, body, "Each check, what was found and what it means.")}</div>'


def _with_code(text: str) -> str:
    """Escape a text; what stands between backticks becomes code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def _warnings(result: Result) -> str:
    """Write what was said besides the findings, which stand at the head of the page."""
    found = {finding.text for finding in result.verdict.findings}
    notes = [text for text in result.record.warnings if text not in found]
    if not notes:
        return "<p>Nothing was assumed or left out that the findings at the top do not say.</p>"
    return f"<p>Besides the findings at the top, the run noted:</p>{_bullets(notes)}"


def _bullets(sentences: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{_with_code(str(sentence))}</li>' for sentence in sentences)}</ul>"


def _settings(record: RunRecord) -> str:
    timings = record.timings
    versions = {"bayesunmix": record.version, **record.versions}
    body = [
        [
            "Versions",
            f"<td>{escape(', '.join(f'{name} {version}' for name, version in versions.items()))}</td>",
        ],
        ["Seed", f"<td>{record.seed}</td>"],
        ["X-ray lines", f"<td>{escape(record.lines)}</td>"],
        ["Hash of the counts", f"<td><code>{escape(record.hash)}</code></td>"],
        [
            "Time",
            f"<td>{sum(timings.values()):.1f} s: "
            f"{escape(', '.join(f'{stage} {seconds:.1f} s' for stage, seconds in timings.items()))}</td>",
        ],
    ]
    config = escape(json.dumps(record.to_dict()["config"], indent=2, ensure_ascii=False))
    caption = "The same seed, versions and machine give the same numbers."
    details = f"<details><summary>Configuration as used</summary><pre>{config}</pre></details>"
    return _table(["", ""], body, caption) + details
