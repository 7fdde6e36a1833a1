"""Configuration of a run: TOML in, frozen dataclasses out; the tables are in `bayesunmix.config.settings`."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np

from bayesunmix.chemistry.stoichiometry import site_weights
from bayesunmix.config.output_settings import OutputConfig
from bayesunmix.config.phase import Phase, unnamed
from bayesunmix.config.pixel_settings import resolve_files
from bayesunmix.config.priors import Priors
from bayesunmix.config.settings import (
    DEFAULT_DENSITY_G_CM3,
    DEFAULT_THICKNESS_NM,
    LAYOUTS,
    METHODS,
    OXYGEN,
    SUM_TOLERANCE,
    InferenceConfig,
    InstrumentConfig,
    MapConfig,
    SampleConfig,
    SimulateConfig,
    SimulatedPhase,
    XrayConfig,
    is_list,
)
from bayesunmix.core.errors import InputError, check_integer, shown, suggest

__all__ = [
    "DEFAULT_DENSITY_G_CM3",
    "DEFAULT_THICKNESS_NM",
    "LAYOUTS",
    "METHODS",
    "OXYGEN",
    "InferenceConfig",
    "InstrumentConfig",
    "MapConfig",
    "OutputConfig",
    "Priors",
    "RunConfig",
    "SampleConfig",
    "SimulateConfig",
    "SimulatedPhase",
    "XrayConfig",
]

MOST_PHASES = 20
# No value stands in more tables and lists, one inside the other, than this.
DEEPEST = 6
# A configuration with everything in it has some 20 kB.
LARGEST_FILE = 200_000
# Keys of a phase table that only a simulation reads.
_TRUTH_KEYS = ("composition", "fraction")
_Table = TypeVar("_Table")


@dataclass(frozen=True)
class RunConfig:
    """The whole configuration of a run.

    Parameters
    ----------
    sample, map, instrument, xray, inference, output, priors
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

    sample: SampleConfig
    phases: tuple[Phase, ...] | Literal["auto"]
    map: MapConfig = field(default_factory=MapConfig)
    instrument: InstrumentConfig = field(default_factory=InstrumentConfig)
    xray: XrayConfig = field(default_factory=XrayConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    simulate: SimulateConfig | None = None
    simulated_phases: tuple[SimulatedPhase, ...] = ()
    output: OutputConfig = field(default_factory=OutputConfig)
    priors: Priors = field(default_factory=Priors)

    def __post_init__(self) -> None:
        names = None
        if self.phases != "auto":
            names = [phase.name for phase in self.phases if not phase.is_support]
        self.output.check(self.sample.elements, self.sample.oxygen, names)
        _check_factors(self.xray, self.sample)
        if self.phases == "auto":
            return
        object.__setattr__(self, "phases", tuple(self.phases))
        if not self.phases:
            raise InputError("phases", "hold at least one phase", "is empty")
        if len(self.phases) > MOST_PHASES:
            raise InputError("phases", f"hold at most {MOST_PHASES} phases", f"holds {len(self.phases)}")
        names = [phase.name for phase in self.phases]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise InputError("phases.name", "differ from phase to phase", f'"{repeated}" appears twice')
        if all(phase.is_support for phase in self.phases):
            raise InputError(
                "phases.kind",
                "leave at least one phase with elements of the sample",
                'is "support" in every one',
            )
        for phase in self.phases:
            _check_declared(phase, self.sample.elements)
            declared = {
                "absent": phase.absent,
                "stoichiometry": phase.stoichiometry,
                "kind": phase.is_support,
            }
            given = next((key for key, value in declared.items() if value), None)
            if self.inference.endmembers == "free" and given is not None:
                raise InputError(
                    f"phases.{phase.name}.{given}",
                    "be left out with free-form endmembers, which know no elements",
                    "is given",
                )
        _check_together(self.phases, self.sample.elements)
        for truth in self.simulated_phases:
            self._check_truth(truth)

    @classmethod
    def from_toml(cls, path: str | Path) -> Self:
        """Read a TOML file; relative files that it names are looked for beside it.

        Raises
        ------
        InputError
            If the file cannot be read, is no TOML, or says something that cannot be used.
        """
        path = Path(path)
        return cls.from_dict(_read_toml(path), folder=path.parent)

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
        _check_keys(
            "",
            data,
            ("map", "sample", "instrument", "xray", "phases", "inference", "output", "priors", "simulate"),
        )
        for required in ("sample", "phases"):
            if required not in data:
                inside = next((name for name in data if required in _keys(data[name])), None)
                got = "is missing" if inside is None else f"stands in [{inside}]"
                remedy = "" if inside is None else f"Write it above the first table, [{next(iter(data))}]."
                raise InputError(required, "be given", got, remedy)
        phases, truths = _phases(data["phases"])
        return cls(
            sample=_table(SampleConfig, "sample", data, _resolve_oxygen),
            phases=phases,
            map=_table(MapConfig, "map", data, lambda values: resolve_files(values, folder)),
            instrument=_table(InstrumentConfig, "instrument", data),
            xray=_table(XrayConfig, "xray", data, lambda values: _resolve_path(values, folder)),
            inference=_table(InferenceConfig, "inference", data),
            output=_table(OutputConfig, "output", data),
            priors=_table(Priors, "priors", data),
            simulate=_table(SimulateConfig, "simulate", data) if "simulate" in data else None,
            simulated_phases=truths,
        )

    def to_dict(self) -> dict[str, Any]:
        """Nested dictionaries of plain values that `from_dict` reads back; what is not given is left out."""
        tables = {
            name: _plain(dataclasses.asdict(getattr(self, name)))
            for name in ("map", "sample", "instrument", "xray", "inference", "output", "priors", "simulate")
            if getattr(self, name) is not None
        }
        if self.phases == "auto":
            return {**tables, "phases": "auto"}
        truths = {truth.name: _plain(dataclasses.asdict(truth)) for truth in self.simulated_phases}
        phases = [
            {**_plain(dataclasses.asdict(phase)), **truths.get(phase.name, {})} for phase in self.phases
        ]
        return {**tables, "phases": phases}

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

    def _check_truth(self, truth: SimulatedPhase) -> None:
        phase = next(phase for phase in self.phases if isinstance(phase, Phase) and phase.name == truth.name)
        if phase.is_support == bool(truth.composition):
            must = (
                "be left out for a support" if phase.is_support else "be a table such as {Mg = 0.5, Si = 0.5}"
            )
            raise InputError(f"phases.{truth.name}.composition", must, f"is {truth.composition!r}")
        for element, amount in truth.composition.items():
            path = f"phases.{truth.name}.composition.{element}"
            if element not in self.sample.elements:
                raise InputError(path, "be one of `sample.elements`", "is not declared there")
            if element in phase.absent and amount > 0:
                raise InputError(path, f"be 0, since {element} is declared absent", f"is {amount:g}")


def _phases(value: object) -> tuple[tuple[Phase, ...] | Literal["auto"], tuple[SimulatedPhase, ...]]:
    """Read phases and their simulated truths from a number, ``auto`` or a list of tables."""
    if value == "auto":
        return "auto", ()
    if isinstance(value, int) and not isinstance(value, bool):
        number = check_integer("phases", value, low=1, high=MOST_PHASES)
        return unnamed(number), ()
    listed = [{"name": one} if isinstance(one, str) else one for one in value] if is_list(value) else []
    tables = [table for table in listed if isinstance(table, Mapping)]
    if not is_list(value) or len(tables) < len(value):
        raise InputError("phases", 'be [[phases]] tables, names, a number or "auto"', f"is {shown(value)}")
    pairs = [_phase(index, dict(table)) for index, table in enumerate(tables, start=1)]
    return tuple(phase for phase, _ in pairs), tuple(truth for _, truth in pairs if truth is not None)


def _phase(index: int, values: dict[str, Any]) -> tuple[Phase, SimulatedPhase | None]:
    """Read one ``[[phases]]`` table: what is declared, and the truth of a simulation where it is given."""
    if "name" not in values:
        raise InputError(f"phases[{index}].name", "be given", "is missing")
    path = f"phases.{values['name']}"
    known = [entry.name for entry in dataclasses.fields(Phase)]
    _check_keys(f"{path}.", values, [*known, *_TRUTH_KEYS])
    phase = Phase(**{key: entry for key, entry in values.items() if key in known})
    if phase.is_support and "fraction" in values:
        values = {"composition": {}, **values}
    missing = [key for key in _TRUTH_KEYS if key not in values]
    if len(missing) == len(_TRUTH_KEYS):
        return phase, None
    if missing:
        raise InputError(f"{path}.{missing[0]}", "be given with the other simulation key", "is missing")
    return phase, SimulatedPhase(phase.name, **{key: values[key] for key in _TRUTH_KEYS})


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


def _check_declared(phase: Phase, elements: Sequence[str]) -> None:
    """Refuse a phase whose absent elements or stoichiometry do not fit the declared elements."""
    path = f"phases.{phase.name}"
    for element in phase.absent:
        if element not in elements:
            raise InputError(
                f"{path}.absent",
                "name elements of `sample.elements`",
                f"holds {element}",
                suggest(element, elements),
            )
    present = [element for element in elements if element not in phase.absent]
    if not present:
        remedy = 'A phase without any of them is declared by `kind = "support"`.'
        raise InputError(
            f"{path}.absent", "leave at least one element in the phase", "names all of them", remedy
        )
    if phase.stoichiometry is not None:
        site_weights(phase.stoichiometry, present, f"{path}.stoichiometry")


def _check_together(phases: Sequence[Phase], elements: Sequence[str]) -> None:
    """Refuse declarations that contradict each other: an element that no phase has, two phases that cannot differ.

    Of a single element all phases are made, but for those that turn out to be supports.
    """
    phases = [phase for phase in phases if not phase.is_support]
    nowhere = [element for element in elements if all(element in phase.absent for phase in phases)]
    if nowhere:
        raise InputError(
            "phases.absent",
            "leave every element of `sample.elements` in a phase",
            f"{', '.join(nowhere)} {'is' if len(nowhere) == 1 else 'are'} absent from all of them",
            "Remove what no phase holds from `sample.elements`; name it in `sample.stray` if the map shows its lines.",
        )
    pure: dict[str, Phase] = {}
    for phase in phases if len(elements) > 1 else ():
        present = [element for element in elements if element not in phase.absent]
        if len(present) != 1:
            continue
        if present[0] in pure:
            raise InputError(
                f"phases.{phase.name}.absent",
                "leave it something to differ by from the other phases",
                f'leaves {present[0]} alone, as in "{pure[present[0]].name}"',
                "Declare one phase for both.",
            )
        pure[present[0]] = phase


def _read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file, or raise `InputError`."""
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE or not (path.is_file() or path.is_dir()):
            got = f'"{path}" has {size / 1e3:.0f} kB' if path.is_file() else f'"{path}" is none'
            raise InputError("config", f"be a file of at most {LARGEST_FILE // 1000} kB", got)
        # Some editors put a byte order mark at the beginning.
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except InputError:
        raise
    except OSError as error:
        raise InputError("config", "be a readable file", f'"{path}": {error.strerror}') from None
    except UnicodeDecodeError:
        raise InputError("config", "be a TOML text in UTF-8", f'"{path}" is not') from None
    except RecursionError:
        raise InputError("config", "be valid TOML", f'"{path}" is nested too deeply') from None
    except (
        ValueError
    ) as error:  # tomllib's own error, whole numbers of thousands of digits, days such as 2026-02-30
        raise InputError("config", "be valid TOML", f'"{path}" is not: {error}') from None


def _table(
    cls: Callable[..., _Table],
    name: str,
    data: Mapping[str, Any],
    prepare: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> _Table:
    """Build one table's dataclass after checking its keys."""
    values = data.get(name, {})
    if not isinstance(values, Mapping):
        raise InputError(name, "be a table", f"is {shown(values)}", f"Write [{name}] and its keys below.")
    entries = dataclasses.fields(cls)  # type: ignore[arg-type]
    _check_keys(f"{name}.", values, [entry.name for entry in entries])
    for entry in entries:
        needed = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if needed and entry.name not in values:
            raise InputError(f"{name}.{entry.name}", "be given", "is missing")
    return cls(**prepare(dict(values)))


def _check_keys(prefix: str, values: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse an unknown key and name the nearest one that exists."""
    for key in values:
        if key not in known:
            raise InputError(
                f"{prefix}{key}", f"be one of {', '.join(known)}", "is an unknown key", suggest(key, known)
            )


def _resolve_oxygen(values: dict[str, Any]) -> dict[str, Any]:
    """Take O as measured where it is declared and `oxygen` is not."""
    elements = values.get("elements")
    if "oxygen" not in values and is_list(elements) and "O" in elements:
        values["oxygen"] = "measured"
    return values


def _resolve_path(values: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    if isinstance(values.get("table"), str):
        values["table"] = (folder or Path()) / values["table"]
    return values


def _keys(value: object) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, Mapping) else ()


def python_values(value: object, depth: int = DEEPEST) -> Any:  # noqa: ANN401 - a tree of whatever is given
    """Return NumPy's arrays and numbers, down to a depth below which no value has a place, as Python's."""
    if depth and isinstance(value, Mapping):
        return {key: python_values(entry, depth - 1) for key, entry in value.items()}
    if depth and isinstance(value, tuple | list):
        return [python_values(entry, depth - 1) for entry in value]
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _plain(value: object) -> Any:  # noqa: ANN401 - a tree of whatever TOML holds
    """Turn dataclass contents into what JSON and TOML hold; None is left out."""
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items() if entry is not None}
    if isinstance(value, tuple | list):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value
