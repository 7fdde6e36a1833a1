"""Key ``reference`` of a phase: a spectrum of it alone, taken on the instrument of the map."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from bayesunmix.config.validated import validated
from bayesunmix.config.values import Pair, Whole, beside, checked_by, mean_and_sd
from bayesunmix.core.errors import InputError, shown
from bayesunmix.core.limits import Between, Must
from bayesunmix.data.acquisition import FACT_LIMITS, REMEDIES
from bayesunmix.data.image import AXIS_LIMITS_KEV, SpectrumImage

# By which a phase differs from its standard where nobody says more: a declared formula is trusted to 3 %, and within it
# grains of one phase differ by solid solution.
DEFAULT_TOLERANCE = 0.05
_FORMS = 'Write "grain.msa", or {file = "grain.msa", tolerance = 0.05}.'
_PAIR = "Write (counts, energy_keV): of each channel its counts, and the energy of its centre in keV."
_COUNTED = ("energy_offset_keV", "energy_scale_keV")


def _fact(name: str) -> Between:
    return Between(*FACT_LIMITS[name], remedy=REMEDIES.get(name, ""))


@validated("phases.reference")
@dataclass(frozen=True, kw_only=True)
class Reference:
    """A spectrum of a phase alone, of a standard or of a pure grain, taken on the instrument of the map.

    Parameters
    ----------
    file
        Any file that HyperSpy reads: a spectrum, or a map whose sum is meant.
    signal
        Which of the file's signals it is, from 0; needed only where the file holds more than one.
    tolerance
        By how much the phase may differ from what was measured: relative, from 0.001 to 1, for elements of more than
        10 at%; those of less vary as much as one of 10 at%.
    thickness_nm
        Mean and sd of its thickness; left out, as for the map.
    beam_energy_keV, takeoff_angle_deg
        How it was measured, where its file does not say or says it wrongly; what nobody says is as for the map.
    energy_offset_keV, energy_scale_keV
        Energy of the first channel's centre and width of a channel, in the place of the file's.
    counts
        Instead of a file: the counts of each channel, on the axis of these two.
    """

    file: Annotated[Path, Must("be a text"), BeforeValidator(beside)] | None = None
    signal: Annotated[int, Whole(0, 9999)] | None = None
    tolerance: Annotated[float, Between(1e-3, 1.0, remedy="Give 0.05 for 5 %.")] = DEFAULT_TOLERANCE
    thickness_nm: Annotated[Pair, mean_and_sd(0.1, 100_000.0)] | None = None
    beam_energy_keV: Annotated[float, _fact("beam_energy_keV")] | None = None
    takeoff_angle_deg: Annotated[float, _fact("takeoff_angle_deg")] | None = None
    energy_offset_keV: Annotated[float, Between(*AXIS_LIMITS_KEV["energy_offset_keV"])] | None = None
    energy_scale_keV: Annotated[float, Between(*AXIS_LIMITS_KEV["energy_scale_keV"])] | None = None
    counts: Annotated[
        tuple[Annotated[int, Whole(0, 2**53)], ...] | None, BeforeValidator(lambda counts: _listed(counts))
    ] = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if (self.file is None) == (self.counts is None):
            raise InputError(
                "", "name a file", "names none" if self.counts is None else "holds counts, too", _FORMS
            )
        if self.counts is None:
            return
        if self.signal is not None:
            raise InputError("signal", "belong to a file", "stands beside counts")
        for key in _COUNTED:
            if getattr(self, key) is None:
                raise InputError(key, "be given with counts", "is missing")

    def __str__(self) -> str:
        return "a spectrum" if self.file is None else self.file.name


def _listed(counts: object) -> object:
    """Return the numbers of an array, of whatever library, as a list."""
    return np.asarray(counts).tolist() if _is_array(counts) and not isinstance(counts, list) else counts


def _check_reference(field_: str, value: object) -> object:
    """Take a file's name, a table, or what holds a spectrum in Python: a map, a signal, counts and energies."""
    if isinstance(value, Reference | Mapping):
        return value
    if isinstance(value, str | os.PathLike) and str(value):
        return {"file": value}
    image = _spectrum_of(value)
    if image is not None:
        return table_of(image)
    if _is_array(value) and not (isinstance(value, list) and any(isinstance(one, str) for one in value)):
        pair = value if isinstance(value, list) and len(value) == 2 else []
        got = " and ".join(map(_called, pair)) or "counts alone"
        raise InputError(field_, "be one spectrum, or a pair of counts and energies", f"is {got}", _PAIR)
    given = value if isinstance(value, bool | int | float | str) else type(value).__name__
    raise InputError(field_, "be the name of a file, or a table", f"is {shown(given)}", _FORMS)


def _called(part: object) -> str:
    """Say what a part of a pair is."""
    if isinstance(part, SpectrumImage):
        return "a map"
    if hasattr(part, "axes_manager"):
        return "a HyperSpy signal"
    return "an array" if _is_array(part) else f"a {type(part).__name__}"


def _is_array(part: object) -> bool:
    """Whether something holds numbers in rows: a list, or an array of NumPy, Dask, xarray or another library."""
    return isinstance(part, list) or (hasattr(part, "__array__") and not hasattr(part, "axes_manager"))


def _spectrum_of(value: object) -> SpectrumImage | None:
    """Return what holds a spectrum as a map, None where it is none."""
    if isinstance(value, SpectrumImage):
        return value
    if hasattr(value, "axes_manager"):
        from bayesunmix.data.signals import GivenFacts, image_of_signal

        return image_of_signal(value, GivenFacts())
    if not (isinstance(value, list) and len(value) == 2 and all(map(_is_array, value))):
        return None
    try:
        counts, energy_keV = (np.asarray(part) for part in value)
    except (TypeError, ValueError):
        # Rows of different lengths, say.
        return None
    if energy_keV.ndim != 1 or counts.ndim == 0:
        return None
    try:
        # What nobody says of it is as for the map.
        return SpectrumImage(
            counts=counts.reshape((1,) * (3 - counts.ndim) + counts.shape), energy_keV=energy_keV
        )
    except InputError as error:
        # Of what are no energies, as two spectra, the remedies for the axis of a map say nothing.
        remedy = _PAIR if error.field == "energy_keV" else error.remedy
        raise InputError(error.field, error.must, error.got, remedy) from None


def table_of(image: SpectrumImage) -> dict[str, Any]:
    """Return the sum of a map as a table: a configuration with it in reads no file."""
    told = {name: image.acquisition.told(name) for name in ("beam_energy_keV", "takeoff_angle_deg")}
    known = {name: fact for name, fact in told.items() if fact is not None}
    axis = (float(image.energy_keV[0]), image.energy_step_keV)
    return {"counts": image.sum_spectrum().tolist(), **dict(zip(_COUNTED, axis, strict=True)), **known}


AnyReference = Annotated[Reference, checked_by(_check_reference, takes=str | Reference)]
