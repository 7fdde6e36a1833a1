"""The record of a run: everything that a result says besides its arrays. ``run.json`` is its JSON.

The layout has a number, `FORMAT`; folders that earlier versions wrote are read through
`bayesunmix.results.earlier_layouts`. ``run.schema.json`` beside this file is the layout as a JSON
Schema.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails

from bayesunmix.checks.outcomes import (
    Goodness,
    Heterogeneity,
    Identifiability,
    SetAside,
    SpectralDiscrepancy,
    UnmodelledRegions,
)
from bayesunmix.config.names import MethodName
from bayesunmix.config.overlap import OverlapChoice
from bayesunmix.core.costs import Cost
from bayesunmix.results.earlier_layouts import FORMAT, upgraded
from bayesunmix.results.record_parts import (
    Axis,
    Binning,
    Budget,
    Config,
    Diagnostics,
    Film,
    FurtherPhase,
    LineShapes,
    Map,
    MassThickness,
    Part,
    PhaseNames,
    PhaseNumber,
    PixelThickness,
    Presence,
    ProgramUse,
    ReferenceSpectrum,
    Response,
    Rotations,
    StartingPoint,
)
from bayesunmix.results.verdict import Finding, Level, Verdict

# The layout as a JSON Schema; `write_schema` writes it anew, and a test holds file and types equal.
SCHEMA = Path(__file__).with_name("run.schema.json")


class DamagedError(ValueError):
    """A file of an output folder that no run wrote; the message says in a few words what is wrong with it."""


class RunRecord(Part):
    """What was measured, asked, computed and found in one run.

    What a method does not have, or an earlier version did not record, is missing from ``run.json`` and ``None`` or
    empty here.
    """

    format: int = FORMAT
    """Number of this layout."""
    version: str = ""
    """Of bayesunmix."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Of everything that decides the numbers."""
    time: str = ""
    """When the run ended, UTC."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    method: MethodName
    hash: str = ""
    """SHA-256 of the counts."""
    map: Map = Map()
    config: Config
    depends_on: dict[str, Any] = Field(default_factory=dict)
    """All that the numbers depend on: two runs for which it is the same give the same numbers."""
    timings: dict[str, float] = Field(default_factory=dict)
    """Seconds that each stage took that is kept for an interrupted run."""
    costs: dict[str, Cost] = Field(default_factory=dict)
    """What every stage took in the process that finished the run, in their order."""
    programs: tuple[ProgramUse, ...] = ()
    """What was compiled, or read from those that earlier runs had kept, in the process that finished the run."""
    resumed: tuple[str, ...] = ()
    """Stages that an interrupted run had finished before."""
    binning: Binning | None = None
    energy_axis: Axis | None = None
    response: Response | None = None
    line_ratios: dict[str, float] = Field(default_factory=dict)
    """Strengths of lines relative to their family's, over those of the table."""
    lines: str = ""
    """Where the line strengths come from."""
    undeclared: dict[str, float] | None = None
    """Counts of elements that nobody declared."""
    undeclared_shown: tuple[str, ...] | None = None
    """Those of them whose lines the sum spectrum shows beyond doubt."""
    film: Film | None = None
    references: tuple[ReferenceSpectrum, ...] = ()
    """What spectra of phases alone say, where any were declared."""
    components: tuple[str, ...] = ()
    """Of the endmembers: elements, declared and stray, and what was added to them."""
    supports: tuple[str, ...] = ()
    """Phases that hold no element of the sample."""
    starts: tuple[StartingPoint, ...] = ()
    second_maximum_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    """Share of the posterior's mass, and of the draws, that belongs to a second maximum."""
    diagnostics: Diagnostics = Diagnostics()
    fit: Goodness | None = None
    photons: dict[str, float] | None = None
    """Counts of the map that belong to each phase."""
    heterogeneity: Heterogeneity | None = None
    discrepancy: SpectralDiscrepancy | None = None
    """How far the spectra are off where they do not fit, and what that does to the intervals."""
    unmodelled_regions: UnmodelledRegions | None = None
    set_aside: SetAside | None = None
    """What the endmembers were not fitted to, where something was found that no mixture of the phases explains."""
    shared_pixels: OverlapChoice | None = None
    """Which phases may share a pixel, where the search has asked the counts."""
    presence: tuple[Presence, ...] | None = None
    """What speaks for each phase that has a composition, where there are several."""
    names: tuple[PhaseNames, ...] | None = None
    """What each phase may be, where it has a composition that counts support."""
    pixel_thickness: PixelThickness | None = None
    line_shapes: LineShapes | None = None
    mass_thickness: MassThickness | None = None
    rotations: Rotations | None = None
    """What the map leaves open; none where declarations and counts pin every phase."""
    budget: Budget | None = None
    identifiability: Identifiability | None = None
    phase_number: PhaseNumber | None = None
    """Where the number of phases was inferred."""
    further_phase: FurtherPhase | None = None
    """A phase that nobody asked for, where held-out counts do."""
    verdict: Level
    """What the result is worth."""
    findings: tuple[Finding, ...]
    """What speaks against it, the most serious first."""
    verdict_inferred: bool = False
    """Whether the run's version gave no verdict, so that it is read from what was recorded."""
    warnings: tuple[str, ...] = ()
    """What was said besides the findings that forbid trust: reservations, and notes on what was assumed."""
    checksums: dict[Literal["posterior.nc"], str] = Field(default_factory=dict)
    files: tuple[str, ...] = ()
    """Everything that the run wrote."""

    def judgement(self) -> Verdict:
        """Return the verdict with its findings."""
        return Verdict(self.verdict, self.findings, self.verdict_inferred)

    def with_judgement(self, verdict: Verdict, said: Iterable[str]) -> RunRecord:
        """Return the record of a run that has been judged by all that was said of it."""
        problems = verdict.texts("distrust")
        notes = tuple(str(text) for text in dict.fromkeys(said) if text not in problems)
        judged = {"verdict": verdict.level, "findings": verdict.findings, "warnings": notes}
        return self.model_copy(update=judged)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values as ``run.json`` holds them; what is not known is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    @classmethod
    def of(cls, plain: object) -> RunRecord:
        """Read a record of this or an earlier layout.

        Parameters
        ----------
        plain
            What ``run.json`` holds.

        Raises
        ------
        DamagedError
            If a part is missing or of another kind.
        """
        if not isinstance(plain, Mapping):
            raise DamagedError("run.json is not a table")
        number = plain.get("format")
        if isinstance(number, int) and number > FORMAT:
            raise DamagedError(f"run.json has a layout ({number}) of a later version of bayesunmix")
        try:
            return cls.model_validate_json(json.dumps(upgraded(plain)))
        except ValidationError as error:
            raise DamagedError(_said(error.errors(include_url=False))) from None
        except RecursionError:
            raise DamagedError(_UNREADABLE) from None


def schema() -> dict[str, Any]:
    """Return the layout of ``run.json`` as a JSON Schema."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return about | RunRecord.model_json_schema(mode="serialization")


def write_schema(path: Path = SCHEMA) -> None:
    """Write the layout of ``run.json``, as the package ships it."""
    path.write_text(json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_UNREADABLE = "run.json holds what cannot be read"
# What a value of each kind is called; what is not here is said in the library's words.
_KINDS = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "dataclass_type": "a table",
}


def _said(errors: list[ErrorDetails]) -> str:
    """Say in a few words what is wrong first."""
    error = errors[0]
    if error["type"] == "json_invalid":
        return _UNREADABLE
    kind, place, context = error["type"], error["loc"], error.get("ctx", {})
    if place and place[-1] == "[key]":
        return f"{_of(place[:-2])} has an unknown {place[-2]}"
    if kind == "missing" and isinstance(place[-1], str):
        return f"{_of(place[:-1])} has no {place[-1]}"
    if kind == "missing":
        lacking = [one["loc"][-1] for one in errors if one["loc"][:-1] == place[:-1]]
        return f"{_of(place[:-1])} is not a list of {1 + max(int(index) for index in lacking)}"
    if kind == "too_long":
        return f"{_of(place)} is not a list of {context['max_length']}"
    if kind == "too_short":
        return f"{_of(place)} is empty"
    return f"{_of(place)} is not {_KINDS.get(kind) or error['msg'].removeprefix('Input should be ')}"


def _of(place: tuple[int | str, ...]) -> str:
    """Name a place of the record, as ``fit.residuals.regions[1] of run.json``."""
    parts = (f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in place)
    name = "".join(parts).removeprefix(".")
    return f"{name} of run.json" if name else "run.json"
