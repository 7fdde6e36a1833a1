"""Names that the phases of a result may have, by their compositions, beside the names that the user gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from bayesunmix.chemistry.compounds import NONE_OF_THESE, Compound, called
from bayesunmix.chemistry.endmember_mixing import mixing
from bayesunmix.chemistry.naming import names_of_phases
from bayesunmix.config.compounds import all_compounds, check_kind
from bayesunmix.core.errors import InputError
from bayesunmix.core.severity import Reservation, join
from bayesunmix.core.threads import single_thread
from bayesunmix.results.record_parts import PhaseNames, ProposedName

if TYPE_CHECKING:
    from bayesunmix.results.record import RunRecord
    from bayesunmix.results.result import Result

FloatArray = npt.NDArray[np.float64]

COLUMNS = (
    "phase",
    "rank",
    "name",
    "member",
    "formula",
    "group",
    "probability",
    "unmeasured",
    "alike",
    "source",
)
# A phase that was given a name is told from it where its own name has less than the first of these, another more than
# the second.
_HARDLY, _CLEARLY = 0.05, 0.9
# From this probability on there is nothing to decide.
_CERTAIN = 0.95
# More entries than these are a group, which is told by its name.
_MOST_LISTED = 4


def proposed_names(
    result: Result, compounds: object = None, occurs_in: str | None = None
) -> tuple[PhaseNames, ...]:
    """Return what every phase with a composition that counts support may be.

    Parameters
    ----------
    result
        The result of a run.
    compounds
        File of further compounds; left out, that of the configuration, where it can still be read.
    occurs_in
        Kind of sample; left out, that of the configuration.

    Raises
    ------
    InputError
        If the file cannot be used, or the kind of sample is unknown.
    """
    config = result.record.config
    entries = (
        _entries(config.output.compounds) if compounds is None else all_compounds(compounds, "compounds")
    )
    kind = config.output.occurs_in
    if occurs_in is not None:
        kind = check_kind("occurs_in", occurs_in, entries)
    known = {
        name: x
        for name, x in _pooled(result, "composition").items()
        if name not in result.unsupported and _is_composition(x)
    }
    one_solution = None
    if "composition_one_solution" in result.draws:
        one_solution = _pooled(result, "composition_one_solution")
        # Free-form endmembers without line strengths have no composition.
        if not all(_is_composition(x) for x in one_solution.values()):
            one_solution = None
    with single_thread():
        found = names_of_phases(
            known,
            result.elements,
            entries,
            hidden=config.sample.stray,
            oxygen=config.sample.oxygen != "none",
            kind=kind,
            one_solution=one_solution,
        )
    return tuple(
        PhaseNames(
            phase=one.phase,
            none=one.none,
            open=one.open,
            proposed=tuple(
                ProposedName(
                    name=candidate.compound.name,
                    formula=candidate.compound.formula,
                    group=candidate.compound.group,
                    probability=candidate.probability,
                    member=candidate.member,
                    unmeasured=candidate.unmeasured,
                    alike=candidate.alike,
                    source=candidate.compound.source,
                )
                for candidate in one.candidates
            ),
        )
        for one in found
    )


def _pooled(result: Result, variable: str) -> dict[str, FloatArray]:
    """Atom fractions by phase of the sample, (draw, element) through all chains."""
    draws = result.draws[variable].transpose("chain", "draw", "phase", "element")
    return {
        name: draws.sel(phase=name).values.reshape(-1, draws.sizes["element"])
        for name in result.sample_phases
    }


def _is_composition(x: FloatArray) -> bool:
    return bool(x.size and np.isfinite(x).all() and (x.sum(axis=1) > 0.0).all())


def name_table(names: Sequence[PhaseNames]) -> pd.DataFrame:
    """Return the columns of ``names.csv``: names of each phase and none of these, the most probable first."""
    rows = []
    for one in names:
        none = ProposedName(name=NONE_OF_THESE, formula="", probability=one.none)
        ranked = sorted([*one.proposed, none], key=lambda row: -row.probability)
        for rank, row in enumerate(ranked, 1):
            listed = {"unmeasured": " ".join(row.unmeasured), "alike": ", ".join(row.alike)}
            rows.append({"phase": one.phase, "rank": rank, **row.model_dump(), **listed})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def what_decides(one: PhaseNames) -> str:
    """Say what would tell the first name from the others; empty where nothing is known that would.

    What a map leaves open decides where the first one is not nearly certain. Of those that the composition does not
    tell from the first it is what the map does not measure, or the structure.
    """
    if not one.proposed:
        return ""
    first = one.proposed[0]
    means = []
    if one.open and first.probability < _CERTAIN:
        means.append(
            f"the amount of {join(one.open)}, which the map leaves open: declare what is known of it"
        )
    others = [row for row in one.proposed if row.name in first.alike]
    sets = [set(row.unmeasured) for row in (first, *others)]
    differ = [element for element in dict.fromkeys(e for row in (first, *others) for e in row.unmeasured)]
    differ = [element for element in differ if not all(element in held for held in sets)]
    if differ:
        means.append(f"{join(differ)}, not measured")
    if any(held == sets[0] for held in sets[1:]):
        means.append("the structure (diffraction)")
    return "; or ".join(means) if one.open else " or ".join(means)


def against_given(record: RunRecord, elements: Sequence[str]) -> list[str]:
    """Return a sentence on each phase whose name is one of the library's and whose composition is another's."""
    output, sample = record.config.output, record.config.sample
    entries = _entries(output.compounds)
    said: list[str] = []
    for one in record.names or ():
        own = [
            entry.name
            for entry in called(one.phase, entries)
            if mixing(entry, elements, sample.stray, sample.oxygen != "none") is not None
        ]
        # Of a group many are meant.
        meant = join(own) if len(own) <= _MOST_LISTED else f"any {one.phase}"
        share = sum(row.probability for row in one.proposed if row.name in own)
        if not own or share >= _HARDLY:
            continue
        if one.none >= _CLEARLY:
            said.append(
                f"The phase called {one.phase} has the composition of no compound of the library ({one.none:.2f}), "
                f"{meant} included. See `names.csv`."
            )
        first = one.proposed[0] if one.proposed else None
        if first is None or set(own) & set(first.alike):
            continue
        alike = sum(row.probability for row in one.proposed if row.name in (first.name, *first.alike))
        if alike >= _CLEARLY:
            said.append(
                Reservation(
                    f"The phase called {one.phase} has the composition of {first.name} (probability "
                    f"{first.probability:.2f}{_or(first)}), not that of {meant} ({share:.2f}). Check the name, "
                    "and what was declared of the phase."
                )
            )
    return said


def _or(first: ProposedName) -> str:
    return f", or of {join(first.alike)}" if first.alike else ""


def _entries(path: str | None) -> tuple[Compound, ...]:
    """Return the library, with the entries of a run's own file as long as it can be read."""
    try:
        return all_compounds(path)
    except InputError:
        # The folder of a result travels without the files of its configuration.
        return all_compounds()
