"""The whole configuration of a run: TOML in, frozen dataclasses out; each table has a file of its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator
from pydantic.json_schema import SkipJsonSchema

from bayesunmix.config.compute import ComputeConfig
from bayesunmix.config.endmembers import ENDMEMBERS
from bayesunmix.config.inference import InferenceConfig
from bayesunmix.config.instrument import InstrumentConfig
from bayesunmix.config.map import MapConfig
from bayesunmix.config.names import MethodName
from bayesunmix.config.output import OutputConfig
from bayesunmix.config.phase import Phase, check_nothing_declared, check_phases
from bayesunmix.config.priors import Priors
from bayesunmix.config.sample import DEFAULT_DENSITY_G_CM3, DEFAULT_THICKNESS_NM, SampleConfig
from bayesunmix.config.simulation import (
    SUM_TOLERANCE,
    PhasesInFile,
    SimulateConfig,
    SimulatedPhase,
    read_phases,
)
from bayesunmix.config.toml_file import read_toml
from bayesunmix.config.validated import plain_values, python_values, read_tables, unknown_key, validated
from bayesunmix.config.xray import XrayConfig
from bayesunmix.core.errors import InputError, shown


@validated("")
@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole configuration of a run.

    Parameters
    ----------
    sample, map, instrument, xray, inference, output, compute, priors
        One table of the file each.
    phases
        The declared phases, or ``auto`` to infer how many there are.
    simulate
        The map to simulate; None where the file does not say.
    simulated_phases
        Truth of the phases of a simulated map; empty where the file does not say.

    Raises
    ------
    InputError
        If two phases share a name, or what a phase declares does not fit the elements of the sample.

    Examples
    --------
    >>> config = RunConfig.from_dict({"sample": {"elements": ["Mg", "Si"]}, "phases": 2})
    >>> [phase.name for phase in config.phases], config.inference.draws
    (['phase 1', 'phase 2'], 500)
    """

    map: MapConfig = field(default_factory=MapConfig)
    sample: SampleConfig
    instrument: InstrumentConfig = field(default_factory=InstrumentConfig)
    xray: XrayConfig = field(default_factory=XrayConfig)
    phases: Annotated[
        tuple[Phase, ...] | Literal["auto"], BeforeValidator(lambda phases: phases, PhasesInFile)
    ]
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    priors: Priors = field(default_factory=Priors)
    simulate: SimulateConfig | None = None
    simulated_phases: SkipJsonSchema[tuple[SimulatedPhase, ...]] = ()

    def __post_init__(self) -> None:
        names = None
        if self.phases != "auto":
            names = [phase.name for phase in self.phases if not phase.is_support]
        self.output.check(self.sample.elements, self.sample.oxygen, names)
        _check_factors(self.xray, self.sample)
        if self.phases == "auto":
            return
        kind = ENDMEMBERS[self.inference.endmembers]
        if not kind.knows_elements:
            check_nothing_declared(self.phases, kind.words)
        check_phases(self.phases, self.sample.elements)
        phases = {phase.name: phase for phase in self.phases}
        for truth in self.simulated_phases:
            truth.check(phases[truth.name], self.sample.elements)

    @classmethod
    def from_toml(cls, path: str | Path, method: MethodName | None = None) -> Self:
        """Read a TOML file; relative files that it names are looked for beside it.

        Parameters
        ----------
        path
            The file. What it sets and its method does not read is warned of.
        method
            Replaces `inference.method`.

        Raises
        ------
        InputError
            If the file cannot be read, is no TOML, or says something that cannot be used.
        """
        path = Path(path)
        data = read_toml(path)
        config = cls.from_dict(data, folder=path.parent)
        config.output.warn_of_unread(data.get("output", {}))
        if method is not None:
            return dataclasses.replace(config, inference=dataclasses.replace(config.inference, method=method))
        config.inference.warn_of_unread(data.get("inference", {}))
        return config

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], folder: Path | None = None) -> Self:
        """Build the configuration from nested dictionaries with the keys of the TOML file.

        Parameters
        ----------
        data
            Tables as `tomllib` reads them.
        folder
            Where relative files are looked for; None for the working directory.

        Raises
        ------
        InputError
            If a key is unknown, missing, or its value cannot be used.
        """
        if not isinstance(data, Mapping):
            raise InputError("config", "be a table of tables", f"is {shown(data)}")
        data = python_values(data)
        known = [entry.name for entry in dataclasses.fields(cls) if entry.name != "simulated_phases"]
        for key in data:
            if key not in known:
                raise unknown_key(key, known)
        for required in ("sample", "phases"):
            if required not in data:
                inside = next((name for name in data if required in _keys(data[name])), None)
                got = "is missing" if inside is None else f"stands in [{inside}]"
                remedy = "" if inside is None else f"Write it above the first table, [{next(iter(data))}]."
                raise InputError(required, "be given", got, remedy)
        phases, truths = read_phases(data["phases"], folder)
        return read_tables(cls, {**data, "phases": phases, "simulated_phases": truths}, folder)

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of plain values that `from_dict` reads back; what is not given is left out."""
        tables = plain_values(self)
        truths = {truth["name"]: truth for truth in tables.pop("simulated_phases")}
        if self.phases != "auto":
            tables["phases"] = [phase | truths.get(phase["name"], {}) for phase in tables["phases"]]
        return tables

    def assumptions(self) -> tuple[str, ...]:
        """Sentences on what the run takes for granted because the configuration does not say."""
        sentences = []
        if self.sample.thickness_nm is None:
            mean, sd = DEFAULT_THICKNESS_NM
            sentences.append(
                f"The film thickness was not given: {mean:g} ± {sd:g} nm was assumed; "
                "set `sample.thickness_nm = [mean, sd]` if it is known."
            )
        if self.sample.density_g_cm3 is None:
            mean, sd = DEFAULT_DENSITY_G_CM3
            sentences.append(
                f"The density was not given: {mean:g} ± {sd:g} g/cm3 was assumed; "
                "set `sample.density_g_cm3 = [mean, sd]` if it is known."
            )
        return tuple(sentences)

    def truth(self) -> tuple[SimulateConfig, tuple[SimulatedPhase, ...]]:
        """Return what to simulate: the ``[simulate]`` table, or its defaults, and the truth of every phase.

        Raises
        ------
        InputError
            If a phase has no composition, or the fractions of the phases do not sum to 1.
        """
        if self.phases == "auto":
            raise InputError("phases", "be tables with a composition each to simulate a map", 'is "auto"')
        known = {truth.name: truth for truth in self.simulated_phases}
        for phase in self.phases:
            if phase.name not in known:
                raise InputError(
                    f"phases.{phase.name}.composition",
                    "be given to simulate a map",
                    "is missing",
                    "Write {Mg = 0.5, ...}.",
                )
        total = sum(truth.fraction for truth in self.simulated_phases)
        if abs(total - 1.0) > SUM_TOLERANCE:
            raise InputError("phases.fraction", "sum to 1 over the phases", f"sums to {total:g}")
        return self.simulate or SimulateConfig(), tuple(known[phase.name] for phase in self.phases)


def _check_factors(xray: XrayConfig, sample: SampleConfig) -> None:
    """Refuse measured factors of elements that the map does not hold: they would have no effect."""
    known = [*sample.elements, *sample.stray]
    for field_name in ("k_factors", "zeta_factors"):
        for key in getattr(xray, field_name):
            # Silicon is the reference, in the sample or not.
            if key.split("_")[0] not in [*known, "Si"]:
                must = f"be of the elements declared ({', '.join(known)})"
                remedy = "Declare it in `sample.elements`, or take the factor out."
                raise InputError(f"xray.{field_name}.{key}", must, "is of another", remedy)


def _keys(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}
