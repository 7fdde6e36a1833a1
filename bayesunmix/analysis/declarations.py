"""How the configurations of several runs differ: what was declared, key by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from bayesunmix.results.result import Result

# Tables that change no number but for rounding, and what names the phases.
_NO_DECLARATION = ("compute", "output")
NOT_DECLARED = "-"
# More values than this are a spectrum, and are not listed.
MOST_LISTED = 100


def declared(result: Result) -> dict[str, str]:
    """Return everything that a run declared, as ``phases.Fp.absent`` and the like with its value in words."""
    tables = result.record.config.model_dump(mode="json", exclude_none=True)
    found: dict[str, str] = {}
    for table, value in tables.items():
        if table == "phases":
            for phase in value:
                name = f"phases.{phase['name']}"
                found[name] = "declared"
                found |= {f"{name}.{key}": _text(one) for key, one in phase.items() if key != "name" and one}
        elif isinstance(value, Mapping):
            if table not in _NO_DECLARATION:
                found |= {f"{table}.{key}": _text(one) for key, one in value.items()}
        else:
            found[table] = _text(value)
    return found


def differences(names: Sequence[str], results: Sequence[Result]) -> pd.DataFrame:
    """Return the keys whose values are not the same in all runs: ``declaration``, and a column for each run."""
    every = [declared(result) for result in results]
    keys = dict.fromkeys(key for one in every for key in one)
    rows = [
        {"declaration": key}
        | {name: one.get(key, NOT_DECLARED) for name, one in zip(names, every, strict=True)}
        for key in keys
        if len({one.get(key, NOT_DECLARED) for one in every}) > 1
    ]
    # What a phase was declared with says nothing more where the phase itself is missing in a run.
    missing = {
        row["declaration"] for row in rows if NOT_DECLARED in row.values() and "declared" in row.values()
    }
    kept = [row for row in rows if row["declaration"].rpartition(".")[0] not in missing]
    return pd.DataFrame(kept, columns=["declaration", *names])


def goes_with(table: pd.DataFrame, apart: Sequence[str]) -> list[str]:
    """Name the declarations that some runs have and none of the others, or the other way round.

    Parameters
    ----------
    table
        From `differences`.
    apart
        Names of the runs that differ from the others.
    """
    others = [name for name in table.columns[1:] if name not in apart]
    found = []
    for row in table.to_dict("records"):
        if not {row[name] for name in apart} & {row[name] for name in others}:
            found.append(str(row["declaration"]))
    return found


def _text(value: Any) -> str:  # noqa: ANN401 - whatever a configuration holds
    """Write a value in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_text(one)}" for key, one in value.items())
    if isinstance(value, list | tuple) and len(value) > MOST_LISTED:
        return f"{len(value)} numbers of sum {sum(value):g}"
    if isinstance(value, list | tuple):
        return " ".join(_text(one) for one in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
