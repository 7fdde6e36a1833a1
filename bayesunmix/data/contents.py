"""What a file holds besides, or instead of, one map that can be unmixed: its signals, each in a line."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bayesunmix.core.errors import InputError
from bayesunmix.data.image import HyperSpySignal
from bayesunmix.data.signals import is_calibrated, is_spectra, kind_of, rivals, unit_of

CHOOSE = "`--signal N` (signal=N in Python) chooses one."
# Values are whole where none is farther from a whole number than this.
_WHOLE = 1e-3
# Values of a signal larger than this, in bytes, are not looked at: some minutes of reading.
MOST_READ = 3e10


@dataclass(frozen=True, kw_only=True)
class Held:
    """One signal of a file.

    Parameters
    ----------
    kind, title, shape
        What it is: ``EDS_TEM``, ``EELS``, ``spectra``, ``picture``.
    rival
        Whether it is one of those that the map is chosen from.
    unit, first, last, calibrated
        Its axis, where it is one of spectra, and whether that is an energy.
    least, total
        Smallest value and sum of the finite ones; None where they are no real numbers over an axis.
    whole
        Whether all values are whole numbers.
    looked_at
        Whether the values were read; the three before say nothing where they were not.
    """

    kind: str
    title: str
    shape: tuple[int, ...]
    rival: bool = False
    unit: str = ""
    first: float = 0.0
    last: float = 0.0
    calibrated: bool = False
    least: float | None = None
    total: float | None = None
    whole: bool = True
    looked_at: bool = True

    @property
    def spectra(self) -> bool:
        """Whether these are real numbers over one axis."""
        return self.total is not None

    @property
    def counts(self) -> bool:
        """Whether these may be numbers of photons."""
        return self.whole and (self.least or 0.0) >= 0.0

    @property
    def numbers(self) -> tuple[float, float] | None:
        """Number of the first channel and width of one, where only their unit is missing; None for channel numbers."""
        channels = self.shape[-1] if self.shape else 0
        if self.unit or not self.spectra or channels < 2:
            return None
        step = (self.last - self.first) / (channels - 1)
        counted = self.first == 0.0 and abs(step - 1.0) < 1e-9
        return None if counted or not step > 0.0 else (self.first, step)

    def line(self) -> str:
        """Say what it is."""
        shape = " x ".join(str(size) for size in self.shape)
        text = f'{self.kind} "{self.title}" {shape}'
        if self.total is None:
            return text
        axis = f"{self.first:.4g} to {self.last:.4g} {self.unit or '(no unit)'}"
        held = f"{self.total:,.0f} counts" if self.counts else f"no counts: {self._fault}"
        held = held if self.looked_at else "too large to be read through"
        return f"{text}, axis {axis}{'' if self.calibrated else ', not calibrated'}, {held}"

    @property
    def _fault(self) -> str:
        negative = f"as low as {self.least:.4g}"
        return negative if self.whole else f"values that are not whole, {negative}"


def contents(signals: Sequence[HyperSpySignal]) -> tuple[Held, ...]:
    """Describe every signal of a file; reads the values of all spectra."""
    among = rivals(signals)
    return tuple(_held(signal, number in among) for number, signal in enumerate(signals))


def _held(signal: HyperSpySignal, rival: bool) -> Held:
    title = str(signal.metadata.get_item("General.title") or "untitled")
    shape = tuple(int(size) for size in signal.data.shape)
    if not is_spectra(signal):
        return Held(kind=kind_of(signal), title=title, shape=shape)
    axis = signal.axes_manager.signal_axes[0]
    looked_at = signal.data.nbytes <= MOST_READ
    least, total, whole = _looked_at(signal.data) if looked_at else (0.0, 0.0, True)
    return Held(
        kind=kind_of(signal),
        title=title,
        shape=shape,
        rival=rival,
        unit=unit_of(axis),
        first=float(axis.axis[0]),
        last=float(axis.axis[-1]),
        calibrated=is_calibrated(axis),
        least=least,
        total=total,
        whole=whole,
        looked_at=looked_at,
    )


def _looked_at(data: Any) -> tuple[float, float, bool]:  # noqa: ANN401 - NumPy's or dask's
    """Return the smallest value, the sum, and whether all values are whole, piece by piece."""
    # dask ships no types.
    da: Any = importlib.import_module("dask.array")
    values = da.asarray(data)
    finite = da.where(da.isfinite(values), values, 0) if values.dtype.kind == "f" else values
    off = abs(finite - da.rint(finite)).max() if values.dtype.kind == "f" else da.zeros(())
    total = finite.sum(dtype=np.float64 if values.dtype.kind == "f" else None)
    least, total, off = (float(value) for value in da.compute(finite.min(), total, off))
    return least, total, off <= _WHOLE


def contents_text(file: Path, held: Sequence[Held], signal: int | None, refused: InputError) -> str:
    """Describe a file that holds spectra, none of which is a map as it is.

    Parameters
    ----------
    file, held
        The file and its signals.
    signal
        Which one the user chose.
    refused
        Why it, or the file, is no map.

    Raises
    ------
    InputError
        As `refused`, where there are no spectra, or such without a photon or with negative counts.
    """
    among = _among(held, signal)
    chosen = [held[n] for n in among]
    if not chosen or (len(chosen) == 1 and not _worth_describing(chosen[0])):
        raise refused
    several = sum(one.spectra for one in held) > 1
    lines = [f"File      {file}", f"Signals   {len(held)}{'. ' + CHOOSE if several else ''}"]
    lines += [f"{number:>8}  {one.line()}" for number, one in enumerate(held)]
    if len(chosen) > 1:
        numbers = ", ".join(str(number) for number in among)
        lines.append(f"Map       may be any of {numbers}; `inspect` and `unmix` need to be told which.")
    else:
        lines.append(f"No map    {refused}")
    return "\n".join(lines)


def the_map(held: Sequence[Held], signal: int | None) -> Held | None:
    """Return the only signal that may be meant, None where there is none or more than one."""
    among = _among(held, signal)
    return held[among[0]] if len(among) == 1 else None


def _among(held: Sequence[Held], signal: int | None) -> list[int]:
    return [n for n, one in enumerate(held) if (one.rival if signal is None else n == signal and one.spectra)]


def _worth_describing(one: Held) -> bool:
    return not one.looked_at or (bool(one.total) and (one.counts or not one.whole))
