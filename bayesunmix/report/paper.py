"""Tables for a paper, in CSV, LaTeX and Markdown, with the digits that the intervals support.

Oxides come in the order of rock and mineral analyses, SiO2 TiO2 Al2O3 Cr2O3 Fe2O3 FeO MnO NiO MgO CaO Na2O K2O P2O5 (by
falling valence, alkalis and phosphorus last: Deer, W. A., Howie, R. A. and Zussman, J., An Introduction to the
Rock-Forming Minerals, 3rd ed. (2013), doi:10.1180/DHZ); their elements come in the same order, all others follow by
atomic number, oxygen is last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayesunmix.chemistry.stoichiometry import SYMBOLS
from bayesunmix.chemistry.unit_names import UNIT_TEXTS
from bayesunmix.core.output_folder import (
    TABLES_RECORD,
    check_folder,
    check_no_run,
    claimed,
    write_record,
    written_aside,
)
from bayesunmix.core.rounding import bound_text, interval_text, partition_text
from bayesunmix.report.supports import supports_note

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

MAJOR_ORDER = ("Si", "Ti", "Al", "Cr", "Fe", "Mn", "Ni", "Mg", "Ca", "Na", "K", "P")
FORMATS = ("csv", "tex", "md")
NONE = "–"


@dataclass(frozen=True)
class PaperTable:
    """A finished table.

    Attributes
    ----------
    name
        Of its files.
    caption
        What it holds, in sentences.
    frame
        Texts; the first column names the rows.
    """

    name: str
    caption: str
    frame: pd.DataFrame

    def markdown(self) -> str:
        """Return the table in Markdown, with its caption."""
        head = [str(column) for column in self.frame.columns]
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *self.frame.to_numpy().tolist()]
        rows = ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines]
        return "\n".join([f"**{self.caption}**", "", *rows, ""])

    def latex(self) -> str:
        """Return the table in LaTeX, with the rules of the package booktabs."""
        count = len(self.frame.columns)
        body = [" & ".join(_latex(str(cell)) for cell in line) + r" \\" for line in self.frame.to_numpy()]
        head = " & ".join(_latex(str(column)) for column in self.frame.columns) + r" \\"
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_latex(self.caption)}}}",
                rf"\label{{tab:{self.name}}}",
                rf"\begin{{tabular}}{{l{'r' * (count - 1)}}}",
                r"\toprule",
                head,
                r"\midrule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def write(self, folder: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
        """Write the table in each format."""
        written = []
        for kind in formats:
            path = folder / f"{self.name}.{kind}"
            text = {"md": self.markdown, "tex": self.latex}.get(kind, self._csv)()
            path.write_text(text, encoding="utf-8")
            written.append(path)
        return written

    def _csv(self) -> str:
        return str(self.frame.to_csv(index=False))


def field_order(elements: Iterable[str]) -> list[str]:
    """Return elements in the order of mineral analyses: major ones as their oxides, then by atomic number, O last.

    Examples
    --------
    >>> field_order(["Mg", "Al", "Si", "Ca", "Fe", "Nd", "U", "O"])
    ['Si', 'Al', 'Fe', 'Mg', 'Ca', 'Nd', 'U', 'O']
    """
    return sorted(elements, key=_place)


def _place(element: str) -> tuple[int, int]:
    if element in MAJOR_ORDER:
        return 0, MAJOR_ORDER.index(element)
    return (2, 0) if element == "O" else (1, SYMBOLS.index(element))


def paper_tables(result: Result, units: Sequence[str] = ()) -> list[PaperTable]:
    """Return every table of a result: compositions, partition coefficients, formula units, mass balance.

    Parameters
    ----------
    result
        The result of a run.
    units
        Units of the compositions; left out, atom per cent and those of ``output.units``, or oxide weight per cent and
        cations per formula unit where the sample holds oxygen.

    Raises
    ------
    InputError
        If a unit is unknown, or asks for the oxide of an element that has none.
    """
    chosen = list(units) or default_units(result)
    tables = [composition_paper_table(result, unit) for unit in chosen]
    if len(result.sample_phases) > 1:
        tables += [partition_paper_table(result, by) for by in ("atoms", "weight")]
        if {"Fe", "Mg"} <= set(result.elements):
            tables.append(_exchange(result))
    if result.chemistry.oxygen != "none" and _all_oxides(result):
        sites = result.tables.sites()
        if len(sites):
            tables.append(_sites(result, sites))
    if len(result.sample_phases) > 1:
        tables.append(_budget(result))
    if result.record.config.sample.bulk_wt_pct:
        tables.append(mass_balance_paper_table(result))
    return tables


def default_units(result: Result) -> list[str]:
    """Return the units of the compositions in the tables where none are asked for."""
    configured = list(result.record.config.output.units)
    if configured:
        return list(dict.fromkeys(["at_frac", *configured]))
    with_oxides = result.chemistry.oxygen != "none" and _all_oxides(result)
    return ["at_frac", *(["oxide_wt_pct", "apfu"] if with_oxides else ["wt_pct"])]


def _all_oxides(result: Result) -> bool:
    from bayesunmix.chemistry.oxides import has_oxide

    given = result.chemistry.valences or {}
    return all(element == "O" or element in given or has_oxide(element) for element in result.elements)


def composition_paper_table(result: Result, unit: str) -> PaperTable:
    """Compositions in one unit: elements or oxides downwards, phases side by side."""
    table = result.summary(unit)
    factor = 100.0 if unit == "at_frac" else 1.0
    rows = {(row.phase, row.element): row for row in table.itertuples(index=False)}
    names = dict(zip(table["element"], table["oxide"], strict=True)) if "oxide" in table else {}
    lines = [
        [
            names.get(element, element),
            *(amount_text(rows[phase, element], factor) for phase in result.sample_phases),
        ]
        for element in field_order(table["element"].unique())
    ]
    frame = pd.DataFrame(lines, columns=[UNIT_TEXTS[unit], *result.sample_phases])
    return PaperTable(f"composition_{unit}", _composition_caption(result, unit), frame)


def amount_text(row: Any, factor: float = 1.0) -> str:  # noqa: ANN401 - a row of a table
    """Write a row of the composition table in its own unit: an interval, a bound, or a dash for what has no amount."""
    if row.detected == "declared_absent" or not np.isfinite(row.mean):
        return NONE
    if row.detected == "false":
        return bound_text(factor * row.upper_bound) if row.upper_bound == row.upper_bound else "not detected"
    return interval_text(factor * row.mean, factor * row.lower, factor * row.upper)


def _composition_caption(result: Result, unit: str) -> str:
    chemistry, level = result.chemistry, f"{100.0 * result.level:g} %"
    among = {
        "at_frac": "atom per cent of the declared elements",
        "wt_pct": "weight per cent of the declared elements",
        "oxide_wt_pct": "weight per cent of oxides, sum 100",
        "apfu": f"cations per formula unit ({_basis_words(result)})",
    }[unit]
    iron = ""
    if unit in ("oxide_wt_pct", "apfu") and "Fe" in result.elements:
        iron = f" {iron_words(result)}"
    if unit == "apfu" and chemistry.oxygen == "measured":
        iron += " Oxygen as measured."
    return (
        f"Compositions in {among}: posterior mean [{level} interval]; <: not detected, upper bound ({level}); "
        f"{NONE}: declared absent.{iron}{supports_note(result)}"
    )


def iron_words(result: Result) -> str:
    """Say which share of iron is taken as ferric."""
    ferric = result.chemistry.ferric
    if ferric == 0.0:
        return "All iron as FeO."
    shares = ferric if isinstance(ferric, dict) else dict.fromkeys(result.sample_phases, ferric)
    parts = []
    for phase, share in shares.items():
        mean, sd = share if isinstance(share, tuple | list) else (share, 0.0)
        parts.append(f"{phase} {mean:g}" + (f" ± {sd:g}" if sd else ""))
    return f"Fe3+ / all Fe: {', '.join(parts)}; other iron as FeO."


def _basis_words(result: Result) -> str:
    basis = result.chemistry.basis
    if isinstance(basis, float):
        return f"{basis:g} O"
    return ", ".join(f"{phase} {number:g} O" for phase, number in basis.items())


def partition_paper_table(result: Result, by: str) -> PaperTable:
    """Partition coefficients of every pair of phases, the matrix as denominator, with and without calibration."""
    from bayesunmix.plot.partition import phase_pairs

    pairs = phase_pairs(result)
    table = result.tables.partition(by)
    rows = {(row.element, row.numerator, row.denominator): row for row in table.itertuples(index=False)}
    lines = []
    for element in field_order(result.elements):
        found = [rows[(element, *pair)] for pair in pairs]
        cells = [text for row in found for text in (partition_text(row), _counting_text(row))]
        lines.append([element, *cells])
    head = [text for above, below in pairs for text in (f"{above} / {below}", f"{above} / {below}, counting")]
    caption = (
        f"Partition coefficients by {'atom fraction' if by == 'atoms' else 'weight fraction'}: posterior median "
        f"[{100.0 * result.level:g} % interval]; < and >: bound, one side is not known; {NONE}: undetermined. "
        "Counting: without the uncertainty of the line strengths and the film's thickness."
    )
    return PaperTable(f"partition_{by}", caption, pd.DataFrame(lines, columns=["element", *head]))


def _counting_text(row: Any) -> str:  # noqa: ANN401
    if row.kind != "interval" or row.lower_counting != row.lower_counting:
        return partition_text(row._replace(lower=row.lower_counting, upper=row.upper_counting))
    text = interval_text(row.median, row.lower_counting, row.upper_counting)
    return text[text.index("[") :]


def _exchange(result: Result) -> PaperTable:
    from bayesunmix.plot.partition import phase_pairs

    table = result.tables.exchange()
    rows = {(row.numerator, row.denominator): row for row in table.itertuples(index=False)}
    lines = [[f"{a} / {b}", partition_text(rows[a, b])] for a, b in phase_pairs(result)]
    caption = (
        "Exchange coefficients K_D = (Fe/Mg)(phase) / (Fe/Mg)(other phase): posterior median "
        f"[{100.0 * result.level:g} % interval]; {NONE}: undetermined."
    )
    return PaperTable("exchange", caption, pd.DataFrame(lines, columns=["phases", "K_D (Fe-Mg)"]))


def _sites(result: Result, table: pd.DataFrame) -> PaperTable:
    lines = [
        [
            f"{row.phase}: {row.quantity}",
            interval_text(row.median, row.lower, row.upper),
            f"{row.ideal:g}" if row.ideal == row.ideal else NONE,
            {True: "yes", False: "no"}.get(row.agrees, NONE),
        ]
        for row in table.itertuples(index=False)
    ]
    notes = " ".join(table.attrs.get("notes", []))
    caption = (
        "Site sums, charge balance and vacancies per formula unit, and Mg#: posterior median "
        f"[{100.0 * result.level:g} % interval]. {iron_words(result) if 'Fe' in result.elements else ''} {notes}"
    )
    columns = ["quantity", "value", "ideal", "agrees"]
    return PaperTable("sites", " ".join(caption.split()), pd.DataFrame(lines, columns=columns))


def _budget(result: Result) -> PaperTable:
    table = result.tables.element_budget()
    rows = {(row.phase, row.element): row for row in table.itertuples(index=False)}
    lines = [
        [element, *(_budget_text(rows[phase, element]) for phase in result.sample_phases)]
        for element in field_order(result.elements)
    ]
    caption = (
        "Share of each element's atoms in the map that each phase holds, in per cent: posterior median "
        f"[{100.0 * result.level:g} % interval]; <: not detected there."
    )
    return PaperTable("budget", caption, pd.DataFrame(lines, columns=["element", *result.sample_phases]))


def _budget_text(row: Any) -> str:  # noqa: ANN401
    if row.median == row.upper == 0.0 or row.median != row.median:
        return NONE
    values = [100.0 * value for value in (row.median, row.lower, row.upper)]
    return interval_text(*values) if row.detected else bound_text(values[2])


def mass_balance_paper_table(result: Result) -> PaperTable:
    """Recovered against given weight per cent, of the elements that were given."""
    table = result.tables.mass_balance().set_index("element")
    lines = []
    for element in field_order(table.index[table["given"].notna()]):
        row: Any = table.loc[element]
        sd = f" ± {row.given_sd:.2g}" if row.given_sd else ""
        known = row.kind == "interval"
        recovered = interval_text(row["median"], row.lower, row.upper) if known else bound_text(row.upper)
        ratio = (
            interval_text(row.ratio, row.ratio_lower, row.ratio_upper)
            if known
            else bound_text(row.ratio_upper)
        )
        agrees = {True: "yes", False: "no"}.get(row.agrees, NONE)
        lines.append([element, f"{row.given:.3g}{sd}", recovered, ratio, agrees])
    caption = (
        "Mass balance: weight per cent given and recovered in the map (posterior median "
        f"[{100.0 * result.level:g} % interval]), and their ratio."
    )
    columns = ["element", "given, wt%", "recovered, wt%", "recovered / given", "agrees"]
    return PaperTable("mass_balance", caption, pd.DataFrame(lines, columns=columns))


def write_tables(
    result: Result, folder: Path, units: Sequence[str] = (), formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Write every table and the methods paragraph into a folder; see `paper_tables`."""
    from bayesunmix.report.methods import methods_paragraph

    tables = paper_tables(result, units)
    folder.mkdir(parents=True, exist_ok=True)
    written = [path for table in tables for path in table.write(folder, formats)]
    methods = folder / "methods.md"
    methods.write_text(methods_paragraph(result) + "\n", encoding="utf-8")
    return [*written, methods]


def save_tables(
    result: Result, folder: Path, units: Sequence[str] = (), *, overwrite: bool = False
) -> list[Path]:
    """Write every table and the methods paragraph into a folder of their own, with a record of which they are.

    Raises
    ------
    InputError
        If `folder` is a file, cannot be written, is the output folder of a run, or holds something and `overwrite` is
        not set; what it holds of earlier tables is replaced when all is there, and other files are kept.
    """
    check_folder(folder, go_on=overwrite)
    check_no_run(folder)
    with claimed(folder), written_aside(folder) as aside:
        names = [path.relative_to(aside).as_posix() for path in write_tables(result, aside, units)]
        write_record(aside, {"files": [*names, TABLES_RECORD]}, TABLES_RECORD)
    return [folder / name for name in names]


_LATEX = {
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "\\": r"\textbackslash{}",
    "<": r"$<$",
    ">": r"$>$",
    "–": "--",
    "±": r"$\pm$",
    "−": r"$-$",
}
# Digits of formulas (Al2O3, Fe2O3) and charges (Nd3+).
_FORMULA = re.compile(r"(?<![A-Za-z])((?:[A-Z][a-z]?\d*)*[A-Z][a-z]?\d+(?:[A-Z][a-z]?\d*)*)(?![A-Za-z\d+.])")
_CHARGE = re.compile(r"(?<![A-Za-z])([A-Z][a-z]?)(\d\+)")


def _latex(text: str) -> str:
    """Write a text in LaTeX: its special characters, indices of formulas, charges of ions."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    escaped = _CHARGE.sub(lambda m: rf"{m.group(1)}\textsuperscript{{{m.group(2)}}}", escaped)
    return _FORMULA.sub(lambda m: re.sub(r"(\d+)", r"\\textsubscript{\1}", m.group(1)), escaped)
