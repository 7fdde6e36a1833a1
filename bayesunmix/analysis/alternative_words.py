"""What is said of several runs of one map: how they are ranked, what they agree on, and what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bayesunmix.analysis.alternatives import Alternatives
from bayesunmix.analysis.common_draws import INTERVAL, UNDETERMINED, UPPER
from bayesunmix.analysis.declarations import NOT_DECLARED
from bayesunmix.analysis.ranking import BEST, WORSE
from bayesunmix.core.rounding import bound_text, interval_text

# Quantities that a printed comparison lists.
_PRINTED = 8


def sentences(one: Alternatives) -> list[str]:
    """Sentences on the runs, what they agree on first."""
    names = ", ".join(one.names)
    said = [
        f"{names} are runs of one map: alternatives of the same counts, not samples. Nothing is pooled; they are "
        "ranked by how well each predicts a part of the map from the rest, with the standard error of the difference."
    ]
    said += _agreed_lines(one)
    said += [one.unranked] if one.ranking is None else _ranked_lines(one)
    return said + _differing_lines(one) + _declared_lines(one)


def _ranked_lines(one: Alternatives) -> list[str]:
    assert one.ranking is not None
    table = one.ranking.table
    said = ["How well they predict, and their weight in the stacked answer:"]
    for row in table.itertuples():
        weight = f"weight {row.weight:.2f}"
        if row.standing == BEST:
            said.append(f"  {row.result}: best, {weight}")
            continue
        less = f"log density {row.difference:.1f} ± {row.difference_se:.1f}"
        what = "predicts worse" if row.standing == WORSE else "not distinguishable from the best"
        said.append(f"  {row.result}: {what} ({less}), {weight}")
    bad = [
        f"{row.result} ({row.unreliable_areas} of {row.areas})"
        for row in table.itertuples()
        if row.unreliable_areas
    ]
    if bad:
        said.append(
            f"Leave-one-out is not reliable (Pareto k) on some areas of {', '.join(bad)}; these count too much."
        )
    if not (table["standing"] == WORSE).any():
        said.append("The counts do not tell these declarations apart.")
    return said


def _agreed_lines(one: Alternatives) -> list[str]:
    table = one.agreement
    if table.empty:
        return ["No amount is known to any of them."]
    once = table.drop_duplicates("quantity")
    held = once[once["agree"]]["quantity"].tolist()
    said = [
        f"All agree on {len(held)} of {len(once)} quantities, the {100 * one.common.level:g} % interval of each "
        f"holding the median of every other{': ' if held else '.'}{_listed(held)}"
    ]
    return said + _kept_lines(one)


def _differing_lines(one: Alternatives) -> list[str]:
    table = one.agreement
    once = table.drop_duplicates("quantity")
    differ = once[~once["agree"].astype(bool)]
    if differ.empty:
        return []
    said = [f"They differ on {len(differ)}:"]
    for row in differ.head(_PRINTED).itertuples():
        own = table[table["quantity"] == row.quantity]
        parts = [f"{run.result} {_shown(run)}" for run in own.itertuples()]
        with_it = f"; goes with {row.goes_with}" if row.goes_with else ""
        said.append(f"  {row.quantity}: {', '.join(parts)}{with_it}")
    return [*said, *(["  ..."] if len(differ) > _PRINTED else [])]


def _kept_lines(one: Alternatives) -> list[str]:
    """Say what those runs agree on that do not predict worse than the best, where that is not all of them."""
    if one.ranking is None:
        return []
    ranked = one.ranking.table
    kept = ranked[ranked["standing"] != WORSE]["result"].tolist()
    if len(kept) in (1, len(one.names)):
        return []
    own = [one.names.index(name) for name in one.names if name in kept]
    part = Alternatives(
        common=one.common.of_results(own),
        results=tuple(one.results[run] for run in own),
        ranking=None,
        unranked="",
    ).agreement.drop_duplicates("quantity")
    names = ", ".join(one.names[run] for run in own)
    return [f"Those that predict no worse ({names}) agree on {part['agree'].sum()} of {len(part)}."]


def _declared_lines(one: Alternatives) -> list[str]:
    table = one.declarations
    if table.empty:
        return ["They declare the same."]
    said = ["Declarations that differ:"]
    for row in table.to_dict("records"):
        parts = [f"{name} {'not declared' if row[name] == NOT_DECLARED else row[name]}" for name in one.names]
        said.append(f"  {row['declaration']}: {', '.join(parts)}")
    return said


def _shown(row: Any) -> str:  # noqa: ANN401 - a row of a table
    """Write what one run has for a quantity."""
    scale = 1.0 if row.denominator else 100.0
    unit = "" if row.denominator else "at%"
    if row.kind == INTERVAL:
        return interval_text(scale * row.median, scale * row.lower, scale * row.upper, unit)
    if row.kind == UPPER:
        return bound_text(scale * row.upper, unit=unit)
    return "not known" if row.kind == UNDETERMINED else bound_text(scale * row.lower, ">", unit)


def _listed(names: Sequence[str], most: int = 12) -> str:
    """List some names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
