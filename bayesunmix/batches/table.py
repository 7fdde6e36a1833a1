"""The table of a batch: which maps, how each is unmixed, and what is known of it besides.

A column that is none of those with a meaning is a covariate. Whatever is wrong with the table is said at once, line by
line, before anything is started; what is wrong with a file that it names is that map's own failure.
"""

from __future__ import annotations

import csv
import glob
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bayesunmix.config.names import METHODS, MethodName
from bayesunmix.core.errors import (
    HIGHEST_SEED,
    InputError,
    check_choice,
    check_integer,
    check_path,
    raise_all,
    shown,
    suggest,
)

if TYPE_CHECKING:
    import pandas as pd

FIELD = "TABLE"
COLUMNS = ("map", "config", "name", "signal", "method", "seed")
# Columns of the tables of results, which a covariate would stand beside.
OF_RESULTS = (
    *("status", "verdict", "reason", "seconds", "phase", "element", "unit", "numerator", "denominator", "by"),
    *("mean", "sd", "median", "lower", "upper", "level", "log10_mean", "log10_sd", "kind", "prob_above_1"),
    *("detected", "decision_threshold", "detection_limit", "upper_bound", "lower_counting", "upper_counting"),
    *("sd_model", "lower_model", "upper_model", "rhat", "ess_bulk", "ess_tail"),
)
TABLE_SUFFIXES = (".csv", ".tsv", ".txt")
LARGEST_TABLE = 20_000_000
_DELIMITERS = ",;\t"
# What no file system, or none of the usual ones, takes as a folder's name.
_ODD = re.compile(r'[<>:"/\\|?*\x00-\x1f]|^\.|[. ]$')
_LONGEST_NAME = 120


@dataclass(frozen=True, kw_only=True)
class MapRow:
    """One map of a batch.

    Parameters
    ----------
    name
        Of the map, and of its output folder.
    map, config
        Files, with whole paths.
    signal
        Which signal of the file is the map, where there is more than one.
    method
        In place of the configuration's.
    seed
        Of every random draw.
    covariates
        Numbers (nan where the table is empty), or texts where a column holds one that is no number.
    """

    name: str
    map: Path
    config: Path
    signal: int | None = None
    method: MethodName | None = None
    seed: int = 0
    covariates: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What holds for maps of which the table does not say it.

    Parameters
    ----------
    config, signal, method, seed
        As in `MapRow`; config is None where every row must name one.
    """

    config: Path | None = None
    signal: int | None = None
    method: MethodName | None = None
    seed: int = 0


@dataclass(frozen=True)
class _Cells:
    """A table as texts: its header, and of each row where it stands and its cells."""

    header: list[str]
    rows: list[tuple[str, list[str]]]
    folder: Path
    decimal_comma: bool = False


def read_rows(table: object, defaults: Defaults) -> list[MapRow]:
    """Return the maps of a batch.

    Parameters
    ----------
    table
        The name of a CSV file, whose relative paths are looked for beside it; a pattern such as ``maps/*.hspy``; the
        name of a map, or a list of them; or a pandas table, as the file holds it.
    defaults
        What holds where the table does not say.

    Raises
    ------
    InputError
        If it cannot be used: of a table, all complaints at once (`bayesunmix.core.errors.InputErrors`).
    """
    if hasattr(table, "columns") and hasattr(table, "itertuples"):
        return _checked(_of_frame(table), defaults)
    if isinstance(table, str | os.PathLike):
        path = check_path(FIELD, table)
        if path.suffix.lower() in TABLE_SUFFIXES:
            return _checked(_of_file(path), defaults)
        names = [os.fspath(table)]
    elif isinstance(table, Sequence):
        names = [os.fspath(check_path(FIELD, entry)) for entry in table]
    else:
        must = "be a CSV file, a pattern such as maps/*.hspy, maps, or a pandas table"
        raise InputError(FIELD, must, f"is a {type(table).__name__}")
    found = [path for name in names for path in _matched(name)]
    return _checked(_Cells(["map"], [(path, [path]) for path in found], Path.cwd()), defaults)


def _matched(name: str) -> list[str]:
    """Return the files that a pattern matches, or the name itself where it is none."""
    if Path(name).exists() or not glob.has_magic(name):
        return [name]
    found = sorted(glob.glob(name, recursive=True))
    if not found:
        raise InputError(FIELD, "match at least one map", f'"{name}" matches none')
    return found


def _of_frame(frame: pd.DataFrame) -> _Cells:
    missing = frame.isna().to_numpy()
    rows = [
        (
            f"row {number}",
            ["" if gone else str(value) for value, gone in zip(values, missing[number], strict=True)],
        )
        for number, values in enumerate(frame.itertuples(index=False))
    ]
    return _Cells([str(name) for name in frame.columns], rows, Path.cwd())


def _of_file(path: Path) -> _Cells:
    """Read a CSV file, whatever program wrote it: a byte order mark, semicolons, tabs and decimal commas are known."""
    try:
        if path.is_file() and path.stat().st_size > LARGEST_TABLE:
            got = f'"{path}" has {path.stat().st_size / 1e6:.0f} MB'
            raise InputError(FIELD, f"be a table of at most {LARGEST_TABLE / 1e6:.0f} MB", got)
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(FIELD, "be a readable CSV file", f'"{path}": {error.strerror or error}') from None
    except UnicodeDecodeError:
        raise InputError(FIELD, "be a CSV text in UTF-8", f'"{path}" is not') from None
    head = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, skipinitialspace=True)
    try:
        lines = [(f"line {reader.line_num}", [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise InputError(FIELD, "be a CSV text", f'"{path}" is not: {error}') from None
    lines = [(where, row) for where, row in lines if any(row)]
    if not lines:
        raise InputError(FIELD, "be a CSV file with a column `map`", f'"{path}" is empty')
    (_, header), rows = lines[0], lines[1:]
    return _Cells(header, rows, path.absolute().parent, delimiter == ";")


def _checked(cells: _Cells, defaults: Defaults) -> list[MapRow]:
    """Return the rows of a table, or raise all that is wrong with it."""
    header = [name.lower() if name.lower() in COLUMNS else name for name in cells.header]
    raise_all(_wrong_with_header(header))
    if not cells.rows:
        raise InputError(FIELD, "hold at least one map", "holds a header alone")
    errors = [
        InputError(where, f"have a value for each of the {len(header)} columns", f"has {len(row)}")
        for where, row in cells.rows
        if len(row) > len(header)
    ]
    raise_all(errors)
    given = [dict(zip(header, row, strict=False)) for _, row in cells.rows]
    covariates = _covariates([name for name in header if name not in COLUMNS], given, cells.decimal_comma)
    rows: list[tuple[str, MapRow]] = []
    for (where, _), values, known in zip(cells.rows, given, covariates, strict=True):
        row = _row(where, values, cells.folder, defaults, errors)
        if row is not None:
            rows.append((where, MapRow(**row, covariates=known)))
    raise_all([*errors, *_twice(rows)])
    return [row for _, row in rows]


def _wrong_with_header(header: Sequence[str]) -> Iterator[InputError]:
    """Yield what is wrong with the names of the columns."""
    if "map" not in header:
        raise InputError(FIELD, "have a column `map`", f"has {', '.join(header)}", suggest("map", header))
    for place, name in enumerate(header):
        field_name = f"column {name or place + 1}"
        if not name:
            yield InputError(field_name, "have a name", "has none")
        elif name in header[:place]:
            yield InputError(field_name, "stand once", "stands twice")
        elif name in OF_RESULTS:
            must = "differ from the columns of the tables of results"
            yield InputError(field_name, must, "is one of them", "Give the covariate another name.")
        elif name not in COLUMNS and (near := suggest(name, set(COLUMNS) - set(header))):
            must = f"be one of {', '.join(COLUMNS)}, or the name of a covariate"
            yield InputError(field_name, must, "is almost one of them", near)


def _row(
    where: str, values: Mapping[str, str], folder: Path, defaults: Defaults, errors: list[InputError]
) -> dict[str, Any] | None:
    """Return what a row says, besides covariates; what is wrong with it is added to the errors."""
    before = len(errors)

    def read(name: str, take: Any, otherwise: object) -> Any:  # noqa: ANN401 - each column has its own type
        text = values.get(name, "")
        try:
            return take(f"{where}, {name}", text) if text else otherwise
        except InputError as error:
            errors.append(error)
            return None

    path = read("map", lambda name, text: _file(name, folder / text), None)
    if path is None and len(errors) == before:
        errors.append(InputError(f"{where}, map", "name a file", "is empty"))
    config = read("config", lambda name, text: _file(name, folder / text), defaults.config)
    if config is None and not values.get("config"):
        must = "name a configuration, or one be given for all"
        errors.append(InputError(f"{where}, config", must, "is empty", "Give it by --config."))
    row = {
        "map": path,
        "config": config,
        "name": read("name", _name, None),
        "signal": read("signal", lambda name, text: _whole(name, text, 2**31), defaults.signal),
        "method": read("method", lambda name, text: check_choice(name, text, METHODS), defaults.method),
        "seed": read("seed", lambda name, text: _whole(name, text, HIGHEST_SEED), defaults.seed),
    }
    if path is not None and row["name"] is None and not values.get("name"):
        # A map's own name may be one that no folder can have.
        row["name"] = read("map", lambda name, _: _name(name, path.stem), None)
    return row if len(errors) == before else None


def _file(field_name: str, path: Path) -> Path:
    if not check_path(field_name, path).exists():
        raise InputError(field_name, "be a file that is there", f'"{path}" is not')
    return path.absolute()


def _name(field_name: str, text: str) -> str:
    if _ODD.search(text) or len(text) > _LONGEST_NAME:
        remedy = "Give it by a column `name`." if field_name.endswith("map") else ""
        raise InputError(field_name, "be usable as the name of a folder", f"is {shown(text)}", remedy)
    return text


def _whole(field_name: str, text: str, high: int) -> int:
    number = _number(text, decimal_comma=False)
    return check_integer(field_name, text if number is None else number, low=0, high=high)


def _twice(rows: Iterable[tuple[str, MapRow]]) -> Iterator[InputError]:
    """Yield every row whose output folder is that of one before; some file systems do not tell capitals apart."""
    seen: dict[str, str] = {}
    for where, row in rows:
        first = seen.setdefault(row.name.casefold(), where)
        if first != where:
            remedy = "Tell them apart by a column `name`."
            raise_name = f"{where}, name"
            yield InputError(raise_name, "differ from all others", f'is "{row.name}", as in {first}', remedy)


def _covariates(
    names: Sequence[str], given: Sequence[Mapping[str, str]], decimal_comma: bool
) -> list[dict[str, float | str]]:
    """Return the covariates of every row: numbers where a whole column is."""
    columns: dict[str, list[float | str]] = {}
    for name in names:
        texts = [values.get(name, "") for values in given]
        numbers = [_number(text, decimal_comma=decimal_comma) if text else math.nan for text in texts]
        known = [number for number in numbers if number is not None]
        columns[name] = [*known] if len(known) == len(texts) and any(texts) else [*texts]
    return [{name: columns[name][place] for name in names} for place in range(len(given))]


def _number(text: str, *, decimal_comma: bool) -> float | None:
    try:
        number = float(text.replace(",", ".") if decimal_comma else text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
