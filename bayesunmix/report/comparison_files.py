"""The files of a comparison: tables, figures, a record and one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from bayesunmix.analysis.alternative_words import sentences
from bayesunmix.core.errors import check_flag, check_path
from bayesunmix.core.output_folder import (
    COMPARISON_RECORD,
    check_folder,
    check_outside_runs,
    claimed,
    names_of,
    write_record,
    written_aside,
)
from bayesunmix.plot.style import png_bytes
from bayesunmix.report.render import in_letters, render

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
    "ranking": "Runs of one map, ranked by how well each predicts a part of the map from the rest.",
    "agreement": "Runs of one map: what all of them agree on, and what goes with a declaration.",
    "stacked": "Runs of one map, stacked: compositions and partition coefficients.",
    "declarations": "Runs of one map: declarations in which they differ.",
    "trend": "Series: centre, slope and scatter of ln D.",
    "trend_maps": "Series: D of every map alone and partially pooled.",
}
"""Every table by the name of its file, with what it holds."""


def save_comparison(comparison: Comparison, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write tables (CSV), figures (PNG and PDF), the record ``comparison.json`` and the page ``comparison.html``.

    Raises
    ------
    InputError
        If `folder` is a file, cannot be written, is the output folder of a run or lies in one, or holds something and
        `overwrite` is not set; what it holds of an earlier comparison is replaced when all is there.
    """
    path = check_path("folder", folder)
    check_folder(path, go_on=check_flag("overwrite", overwrite), field="folder")
    check_outside_runs(path, "folder")
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
    }
    if comparison.several_maps:
        found |= {
            "composition_differences": comparison.tables.composition_differences(),
            "partition_ratios": comparison.tables.partition_ratios(),
        }
    if comparison.alternatives:
        found |= {
            "agreement": comparison.tables.agreement(),
            "declarations": comparison.tables.declarations(),
        }
    if any(one.ranking is not None for one in comparison.alternatives):
        found |= {"ranking": comparison.tables.ranking(), "stacked": comparison.tables.stacked()}
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
            {"name": name, "map": number + 1, "verdict": result.verdict.level.value, "phases": list(own)}
            | {key: getattr(result.record, key) for key in ("version", "method", "seed", "hash")}
            for name, number, result, own in zip(
                comparison.names, comparison.maps, comparison.results, comparison.own_phases, strict=True
            )
        ],
        "alternatives": [
            {
                "map": comparison.maps[comparison.names.index(one.names[0])] + 1,
                "results": list(one.names),
                "weights": None if one.ranking is None else one.ranking.weights.tolist(),
                "not_ranked": one.unranked or None,
            }
            for one in comparison.alternatives
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


class TableHtml(NamedTuple):
    """A table as HTML, with what it holds and the name of its file."""

    name: str
    caption: str
    html: Markup


def _page(comparison: Comparison, tables: dict[str, pd.DataFrame], pictures: dict[str, bytes]) -> str:
    return render(
        "comparison.html",
        title=f"Comparison of {', '.join(comparison.names)}",
        verdict=comparison.verdict,
        level=f"{100 * comparison.level:g}",
        notes=comparison.notes,
        several_maps=comparison.several_maps,
        alternatives=[sentences(one) for one in comparison.alternatives],
        pictures={name: in_letters(picture) for name, picture in pictures.items()},
        tables=[
            TableHtml(name, caption, _as_html(tables[name]))
            for name, caption in TABLES.items()
            if name in tables
        ],
    )


def _as_html(table: pd.DataFrame) -> Markup:
    return Markup(table.to_html(index=False, float_format=lambda value: f"{value:.3g}", border=0))
