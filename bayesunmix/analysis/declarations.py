"""How the configurations of several runs differ: what was declared, key by key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from bayesunmix.config.phase import UNNAMED

if TYPE_CHECKING:
    from bayesunmix.results.record_parts import PhaseConfig
    from bayesunmix.results.result import Result

# Tables that change no number but for rounding, what names the phases, and the truth of a map that was simulated.
_NO_DECLARATION = ("compute", "output", "simulate")
NOT_DECLARED = "-"
# More values than this are a spectrum, and are not listed.
MOST_LISTED = 100


def declared(result: Result) -> dict[str, str]:
    """Return everything that a run declared, as ``phases.Fp.absent`` and the like with its value in words.

    Phases that the program numbered were not declared: of them ``phases`` tells the number, or ``auto``.
    """
    config = result.record.config
    tables = config.model_dump(mode="json", exclude_none=True, exclude={"phases"})
    found: dict[str, str] = {}
    for table, value in tables.items():
        if table in _NO_DECLARATION:
            continue
        if isinstance(value, Mapping):
            found |= {f"{table}.{key}": _text(one) for key, one in value.items()}
        else:
            found[table] = _text(value)
    said = {phase.name: _said(phase) for phase in config.phases}
    if result.record.phase_number is not None:
        return found | {"phases": "auto"}
    if not any(said.values()) and all(UNNAMED.fullmatch(name) for name in said):
        return found | {"phases": str(len(said))}
    found["phases"] = "by name"
    for name, statements in said.items():
        listed = ", ".join(f"{key} = {value}" for key, value in statements.items())
        found[f"phases.{name}"] = listed or "nothing but its name"
        found |= {f"phases.{name}.{key}": value for key, value in statements.items()}
    return found


def differences(names: Sequence[str], results: Sequence[Result]) -> pd.DataFrame:
    """Return the keys whose values are not the same in all runs: ``declaration``, and a column for each run.

    A phase that all runs declare has a row for each key that differs; one that some run does not has a single row, with
    all that the others say of it.
    """
    every = [declared(result) for result in results]
    phases = dict.fromkeys(
        f"phases.{phase.name}" for result in results for phase in result.record.config.phases
    )
    everywhere = [phase for phase in phases if all(phase in one for one in every)]
    somewhere = [phase for phase in phases if phase not in everywhere]
    keys = dict.fromkeys(key for one in every for key in one)

    def of_phase(key: str) -> str | None:
        """Tell the phase that a key is said of; its name may hold dots, as keys do."""
        return max((phase for phase in phases if key.startswith(f"{phase}.")), key=len, default=None)

    rows = [
        {"declaration": key}
        | {name: one.get(key, NOT_DECLARED) for name, one in zip(names, every, strict=True)}
        for key in keys
        if len({one.get(key, NOT_DECLARED) for one in every}) > 1
        and key not in everywhere
        and of_phase(key) not in somewhere
    ]
    return pd.DataFrame(rows, columns=["declaration", *names])


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


def _said(phase: PhaseConfig) -> dict[str, str]:
    """Return what is declared of a phase beside its name, in words: neither defaults nor the truth of a simulation."""
    given = phase.model_dump(mode="json", exclude_none=True, exclude={"name", "composition", "fraction"})
    given["composition"] = dict(phase.soft_composition)
    return {key: _text(value) for key, value in given.items() if value and value != "phase"}


def _text(value: Any) -> str:  # noqa: ANN401 - whatever a configuration holds
    """Write a value in one line, another one for every other value."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {_text(one)}" for key, one in value.items()) or NOT_DECLARED
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        # Of elements, or of files of a mask, the order says nothing.
        value = sorted(value)
    if isinstance(value, list | tuple) and len(value) > MOST_LISTED:
        checksum = hashlib.sha256(repr(list(value)).encode()).hexdigest()[:8]
        numbers = all(isinstance(one, int | float) for one in value)
        return (
            f"{len(value)} {f'numbers of sum {sum(value):g}' if numbers else 'values'} (checksum {checksum})"
        )
    if isinstance(value, list | tuple):
        return " ".join(_text(one) for one in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if isinstance(value, float) else str(value)
