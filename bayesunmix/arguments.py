"""What Python callers hand over, in whatever form, as a map and a configuration, or refused with a remedy."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.config.compute import ComputeConfig
from bayesunmix.config.inference import InferenceConfig
from bayesunmix.config.instrument import InstrumentConfig
from bayesunmix.config.map import MapConfig
from bayesunmix.config.methods import Method, inference_keys
from bayesunmix.config.output import OutputConfig
from bayesunmix.config.phase import Phase
from bayesunmix.config.priors import Priors
from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.sample import SampleConfig
from bayesunmix.config.validated import python_values
from bayesunmix.config.xray import XrayConfig
from bayesunmix.core.errors import InputError, shown, unknown_keyword
from bayesunmix.core.memory import limited
from bayesunmix.data.image import HyperSpySignal, SpectrumImage
from bayesunmix.data.signals import GivenFacts

# A map in any of these forms is as good as a SpectrumImage: a file's name, a HyperSpy signal, counts with energies.
AnyImage = SpectrumImage | str | os.PathLike[str] | tuple[npt.ArrayLike, npt.ArrayLike] | HyperSpySignal
AnyPhases = Sequence[Phase | Mapping[str, Any] | str] | int | str

TABLES = {
    "map": MapConfig,
    "sample": SampleConfig,
    "instrument": InstrumentConfig,
    "xray": XrayConfig,
    "inference": InferenceConfig,
    "output": OutputConfig,
    "compute": ComputeConfig,
    "priors": Priors,
}
"""Tables of the configuration that are keyword arguments."""

ARGUMENT = {"MAP": "image"}
"""What Python callers call the map, of which complaints say ``MAP``."""
_FORMS = "be a map: a SpectrumImage, the name of a file, a HyperSpy signal, or (counts, energy_keV)"


def image_of(
    value: AnyImage,
    config: RunConfig | None = None,
    signal: int | None = None,
    progress: Callable[[float], None] | None = None,
) -> SpectrumImage:
    """Return the map that is meant.

    Parameters
    ----------
    value
        A `SpectrumImage`, the name of a file, a HyperSpy signal, or a pair of counts (y, x, energy) and channel centres
        in keV (energy,).
    config
        What it says of instrument and axis wins over what a file or signal says.
    signal
        Which signal of a file is the map, where there is more than one.
    progress
        Told the share of a file that is read.

    Raises
    ------
    InputError
        If it is none of these, or the map cannot be used.
    """
    if isinstance(value, SpectrumImage):
        return value
    with limited(None if config is None else config.compute.memory_limit_GB):
        return _image_of(value, config, signal, progress)


def _image_of(
    value: AnyImage, config: RunConfig | None, signal: int | None, progress: Callable[[float], None] | None
) -> SpectrumImage:
    given = InstrumentConfig() if config is None else config.instrument
    facts: dict[str, Any] = {
        name: getattr(given, name) for name in ("beam_energy_keV", "takeoff_angle_deg", "resolution_eV")
    }
    if isinstance(value, tuple | list) and len(value) == 2:
        counts, energy_keV = value
        return SpectrumImage.from_array(counts, energy_keV, **facts)
    axis = MapConfig() if config is None else config.map
    facts |= {"microscope": given.microscope}
    facts |= {name: getattr(axis, name) for name in ("energy_offset_keV", "energy_scale_keV")}
    if isinstance(value, str | os.PathLike):
        from bayesunmix.data.io import read

        return read(value, signal, GivenFacts(**facts), progress=progress)
    if hasattr(value, "axes_manager"):
        from bayesunmix.data.signals import map_of_signal

        return map_of_signal(value, **facts)
    remedy = "Write (counts, energy_keV)." if isinstance(value, np.ndarray) else ""
    raise InputError("image", _FORMS, f"is a {type(value).__name__}", remedy)


def configuration(
    elements: object, phases: object, stray: object, method: object, tables: Mapping[str, Any]
) -> RunConfig:
    """Build the configuration of a run from the arguments of `bayesunmix.unmix`.

    Raises
    ------
    InputError
        If something cannot be used; a keyword that is the key of a table is told so.
    """
    for key, table in tables.items():
        if key not in TABLES:
            raise _unknown(key, table)
        if not isinstance(table, Mapping | Priors):
            raise InputError(key, "be a dictionary of the table's keys", f"is {shown(table)}")
    given = {key: _entries(table) for key, table in tables.items()}
    named = {"elements": listed(elements), "stray": listed(stray)}
    data = {
        **given,
        "sample": {**given.get("sample", {}), **named},
        "inference": _inference(method, given.get("inference", {})),
        "phases": _phases(phases),
    }
    return RunConfig.from_dict(data)


def keys_of(tables: Mapping[str, Mapping[str, Any] | Priors], name: str) -> tuple[str, ...]:
    """Return the keys that were given of one of the tables."""
    return tuple(_entries(tables.get(name, {})))


def _entries(table: Mapping[str, Any] | Priors) -> dict[str, Any]:
    """Return a table as a file holds it."""
    entries = dataclasses.asdict(table) if isinstance(table, Priors) else table
    return {str(name): entry for name, entry in entries.items()}


def _inference(method: object, table: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table ``[inference]`` with the method, by its name or with its settings."""
    if not isinstance(method, Method):
        return {**table, "method": method}
    keys, name = inference_keys(method), type(method).__name__
    for key in keys:
        if key in table and key != "method":
            must = f"be left out beside the settings of bu.{name}"
            raise InputError(f"inference.{key}", must, "is given", f"Write bu.{name}({key}=...).")
    return {**table, **keys}


def _unknown(key: str, value: object) -> InputError:
    """Say where an unknown keyword belongs."""
    homes = [name for name, table in TABLES.items() if key in {one.name for one in dataclasses.fields(table)}]
    if not homes:
        names = ["elements", "phases", "stray", "method", "seed", "progress", *TABLES]
        return unknown_keyword(key, names)
    example = shown(value) if isinstance(value, int | float | str | list | tuple | dict) else "..."
    return InputError(
        key,
        f"stand in its table, {' or '.join(homes)}",
        "stands by itself",
        f"It belongs to {homes[0]}: {homes[0]}={{'{key}': {example}}}.",
    )


def _phases(value: object) -> object:
    """Return the phases as the configuration holds them: a number, ``auto``, or tables."""
    value = python_values(value)
    if isinstance(value, str):
        if value == "auto":
            return value
        raise InputError(
            "phases", 'be a list of phases, a number or "auto"', f"is {shown(value)}", "Write [...]."
        )
    if isinstance(value, Phase | Mapping):
        raise InputError(
            "phases", "be a list of phases", f"is a single {type(value).__name__}", "Write [...]."
        )
    if isinstance(value, Iterable):
        return [_phase(index, one) for index, one in enumerate(value, start=1)]
    return value


def _phase(index: int, value: object) -> Mapping[str, Any]:
    if isinstance(value, Phase):
        return {key: entry for key, entry in dataclasses.asdict(value).items() if entry is not None}
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping):
        return {str(key): entry for key, entry in value.items()}
    must = "be a name, a dictionary or a Phase"
    raise InputError(f"phases[{index}]", must, f"is {shown(value)}")


def listed(value: object) -> object:
    """Return a list of what can be listed; a text stays one, and is refused as such."""
    value = python_values(value)
    return list(value) if isinstance(value, Iterable) and not isinstance(value, str | Mapping) else value
