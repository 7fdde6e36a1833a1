"""The files of a comparison: tables, figures, a record and one page."""

from __future__ import annotations

import base64
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from bayesunmix.core.errors import check_flag, check_path
from bayesunmix.core.output_folder import (
    COMPARISON_RECORD,
    check_folder,
    claimed,
    names_of,
    write_record,
    written_aside,
)
from bayesunmix.plot.style import png_bytes
from bayesunmix.report.page import verdict_html

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from bayesunmix.analysis.comparison import Comparison

DPI = 200
TABLES = {
    "compositions": "Compositions of every result.",
    "partitions": "Partition coefficients of every result.",
    "composition_differences": "Differences and ratios of compositions, result by result.",
    "partition_ratios": "Ratios of partition coefficients, result by result.",
    "trend": "Series: centre, slope and scatter of ln D.",
    "trend_maps": "Series: D of every map alone and partially pooled.",
}
"""Every table by the name of its file, with what it holds."""

_STYLE = (
    "body{font:14px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a}"
    "img{max-width:100%}table{border-collapse:collapse;font-size:12px}td,th{padding:.1rem .5rem;text-align:right;"
    "border-bottom:1px solid #ddd}div{overflow-x:auto}.verdict{border-left:4px solid #00795a;padding-left:1rem}"
    ".verdict.reservations{border-color:#8a6100}.verdict.distrust{border-color:#b3400a}"
)


def save_comparison(comparison: Comparison, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write tables (CSV), figures (PNG and PDF), the record ``comparison.json`` and the page ``comparison.html``.

    Raises
    ------
    InputError
        If `folder` is a file, cannot be written, or holds something and `overwrite` is not set; what it holds of an
        earlier comparison is replaced when all is there.
    """
    path = check_path("folder", folder)
    check_folder(path, go_on=check_flag("overwrite", overwrite))
    with claimed(path), written_aside(path) as aside:
        tables = _tables(comparison)
        for name, table in tables.items():
            table.to_csv(aside / f"{name}.csv", index=False)
        figures = {"comparison": comparison.plot()}
        if comparison.series is not None:
            figures["trend"] = comparison.series.plot()
        pictures = _write_figures(figures, aside / "figures")
        (aside / "comparison.html").write_text(_page(comparison, tables, pictures), encoding="utf-8")
        files = [*names_of(aside), COMPARISON_RECORD]
        write_record(aside, {**_record(comparison), "files": files}, COMPARISON_RECORD)
    return path


def _tables(comparison: Comparison) -> dict[str, pd.DataFrame]:
    found = {
        "compositions": comparison.tables.compositions(),
        "partitions": comparison.tables.partitions(),
        "composition_differences": comparison.tables.composition_differences(),
        "partition_ratios": comparison.tables.partition_ratios(),
    }
    if comparison.series is not None:
        found |= {"trend": comparison.series.trend(), "trend_maps": comparison.series.maps()}
    return found


def _write_figures(figures: dict[str, Figure], folder: Path) -> dict[str, bytes]:
    folder.mkdir()
    pictures = {name: png_bytes(figure, DPI) for name, figure in figures.items()}
    for name, figure in figures.items():
        (folder / f"{name}.png").write_bytes(pictures[name])
        figure.savefig(folder / f"{name}.pdf", format="pdf")
    return pictures


def _record(comparison: Comparison) -> dict[str, object]:
    """Record what was compared, and how."""
    series, covariate = comparison.series, comparison.covariate
    return {
        "results": [
            {"name": name, "verdict": result.verdict.level.value, "phases": list(own)}
            | {key: getattr(result.record, key) for key in ("version", "method", "seed", "hash")}
            for name, result, own in zip(
                comparison.names, comparison.results, comparison.own_phases, strict=True
            )
        ],
        "phases": list(comparison.phases),
        "elements": list(comparison.elements),
        "level": comparison.level,
        "seed": comparison.seed,
        "covariate": None if covariate is None else {covariate.name: list(covariate.values)},
        "scatter_prior_sd": None if series is None else series.scatter_sd,
        "divergences": {}
        if series is None
        else {f"{fit.numerator}/{fit.denominator}": fit.divergences for fit in series.fits},
        "problems": list(comparison.problems),
        **comparison.verdict.to_dict(),
    }


def _page(comparison: Comparison, tables: dict[str, pd.DataFrame], pictures: dict[str, bytes]) -> str:
    title = f"Comparison of {', '.join(comparison.names)}"
    parts = [f"<h1>{escape(title)}</h1>"]
    parts.append(verdict_html(comparison.verdict))
    parts.append(
        "<p>Calibration factors that the results share are drawn once for all of them, so that they cancel in "
        f"differences. Intervals hold {100 * comparison.level:g} %.</p>"
    )
    parts += [f"<p>{escape(note)}</p>" for note in comparison.notes]
    for name, picture in pictures.items():
        letters = base64.b64encode(picture).decode("ascii")
        parts.append(f'<img alt="Figure {name}" src="data:image/png;base64,{letters}">')
    for name, caption in TABLES.items():
        if name in tables:
            body = tables[name].to_html(index=False, float_format=lambda value: f"{value:.3g}", border=0)
            parts.append(
                f"<details><summary>{caption} <code>{name}.csv</code></summary><div>{body}</div></details>"
            )
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(parts)}</body></html>\n'
