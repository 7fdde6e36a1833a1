"""Draws of several results on common phases and elements, with calibration factors in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xarray as xr

from bayesunmix.analysis.matching import check_phase

FloatArray = npt.NDArray[np.float64]

INTERVAL, UPPER, LOWER, UNDETERMINED = "interval", "upper", "lower", "undetermined"


@dataclass(frozen=True)
class Covariate:
    """What a series runs over, such as pressure.

    Attributes
    ----------
    name : str
        With its unit, e.g. ``pressure_GPa``.
    values : tuple of float
        One for each result.
    """

    name: str
    values: tuple[float, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class CommonDraws:
    """What is drawn and known of phases and elements that several results hold.

    Attributes
    ----------
    names : tuple of str
        Name of each result.
    phases, elements : tuple of str
        What all results hold, as the first result calls it.
    nominal : list of (draw, phase, element)
        Atom fractions at nominal calibration factors, own draws of each result.
    factors : list of (draw, element)
        Common draws of the log calibration factors.
    draws : DataArray (result, draw, phase, element)
        Atom fractions with the common factors.
    kinds : (result, phase, element)
        ``interval`` for an amount that is resolved from zero (`bayesunmix.chemistry.ratios`), ``upper`` for one that is
        not, ``undetermined`` for one declared absent.
    detected_kinds : (result, phase, element)
        The same with detection in place of resolution: what a model of a series, which knows the likelihood of every
        amount, may take in.
    level : float
        Probability of the intervals.
    seed : int
    covariate : Covariate or None
    """

    names: tuple[str, ...]
    phases: tuple[str, ...]
    elements: tuple[str, ...]
    nominal: tuple[FloatArray, ...]
    factors: tuple[FloatArray, ...]
    draws: xr.DataArray
    kinds: npt.NDArray[np.str_]
    detected_kinds: npt.NDArray[np.str_]
    level: float
    seed: int
    covariate: Covariate | None = None

    def of_results(self, numbers: Sequence[int]) -> CommonDraws:
        """Return the same of some results; a covariate is left out."""
        chosen = list(numbers)
        return CommonDraws(
            names=tuple(self.names[number] for number in chosen),
            phases=self.phases,
            elements=self.elements,
            nominal=tuple(self.nominal[number] for number in chosen),
            factors=tuple(self.factors[number] for number in chosen),
            draws=self.draws.isel(result=chosen),
            kinds=self.kinds[chosen],
            detected_kinds=self.detected_kinds[chosen],
            level=self.level,
            seed=self.seed,
        )

    def composition(self) -> xr.DataArray:
        """Draws of the atom fractions, (result, draw, phase, element); calibration factors are common to all."""
        return self.draws

    def partition(self, numerator: str, denominator: str) -> xr.DataArray:
        """Draws of D = x(numerator) / x(denominator) by atom fraction, (result, draw, element).

        Raises
        ------
        InputError
            If a phase is unknown.
        """
        for field, name in (("numerator", numerator), ("denominator", denominator)):
            check_phase(field, name, self.phases)
        top, bottom = (self.draws.sel(phase=name, drop=True) for name in (numerator, denominator))
        return (top / bottom.where(bottom > 0)).rename(f"D({numerator}/{denominator})")

    def partition_kinds(
        self, numerator: str, denominator: str, *, detected: bool = False
    ) -> npt.NDArray[np.str_]:
        """Return whether D is an interval, a bound or undetermined, shape (result, element); see `detected_kinds`."""
        kinds = self.detected_kinds if detected else self.kinds
        top, bottom = (kinds[:, self.phases.index(name)] for name in (numerator, denominator))
        return np.array(
            [[ratio_kind(*pair) for pair in zip(*row, strict=True)] for row in zip(top, bottom, strict=True)]
        )


def ratio_kind(top: str, bottom: str) -> str:
    """Return what is known of a ratio from what is known of its two sides.

    Examples
    --------
    >>> ratio_kind("interval", "upper"), ratio_kind("upper", "lower"), ratio_kind("upper", "upper")
    ('lower', 'upper', 'undetermined')
    """
    if top == bottom == INTERVAL:
        return INTERVAL
    if top in (INTERVAL, UPPER) and bottom in (INTERVAL, LOWER):
        return UPPER
    if top in (INTERVAL, LOWER) and bottom in (INTERVAL, UPPER):
        return LOWER
    return UNDETERMINED
