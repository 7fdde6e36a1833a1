"""Table ``[simulate]`` and what it reads of ``[[phases]]``: the map that ``bayesunmix simulate`` draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from bayesunmix.config.phase import MOST_PHASES, Name, Phase, unnamed
from bayesunmix.config.region import beside_file
from bayesunmix.config.validated import validated
from bayesunmix.config.values import Flag, Pair, Whole, by_element, check_table, checked_by
from bayesunmix.core.errors import InputError, check_integer, check_positive, shown
from bayesunmix.core.limits import Between

# Share of a simulated map's counts that a stray element has where nothing is said: visible, and no main peak.
DEFAULT_STRAY_SHARE = 0.01
# Compositions and fractions are written with a few digits; a sum this close to 1 is meant to be 1.
SUM_TOLERANCE = 0.005


def _check_shape(field: str, value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise InputError(field, "be two whole numbers, pixels along y and x", f"is {shown(value)}")
    return value


_Side = Annotated[int, Whole(1, 16_384, both=True)]


@validated("simulate")
@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Table ``[simulate]``: the map that ``bayesunmix simulate`` draws; ``unmix`` ignores it.

    Parameters
    ----------
    shape
        Pixels along y and x, at most 16 384 each.
    counts_per_pixel
        Expected counts in a pixel, averaged over the map; at most 1e7.
    layout
        How phases are spread over the map: as ``grains`` in a matrix.
    seed
        Seed of the draw.
    calibration_error
        Draw the line strengths and the film's mass thickness from their priors, so that the map differs from the line
        model as a real one does.
    offset_keV, step_keV, channels
        Centre of the first channel, width of a channel and number of channels.
    continuum
        Share of the map's counts that belongs to the continuum.
    stray
        Share of the map's counts of each element of `sample.stray`; one that is not named has `DEFAULT_STRAY_SHARE`.
    thickness_variation
        Relative sd of the film thickness over the map.
    wedge
        Difference of the film's thickness between the map's right and left edge, relative to its mean.

    Notes
    -----
    The defaults of axis, continuum and thickness variation are those of a map of a lower-mantle sample recrystallised
    at 71 GPa (file ``71GPa_subsolidus.hspy`` in the history of https://github.com/adriente/espm).
    """

    shape: Annotated[tuple[_Side, _Side], checked_by(_check_shape)] = (64, 64)
    counts_per_pixel: Annotated[float, checked_by(check_positive, low=1e-6, high=1e7)] = 100.0
    layout: Literal["grains"] = "grains"
    seed: Annotated[int, Whole(0, 2**32 - 1, both=True)] = 0
    calibration_error: Flag = False
    # Limits in keV: they catch an axis given in eV.
    offset_keV: Annotated[float, Between(-5.0, 100.0)] = 0.818
    step_keV: Annotated[float, Between(1e-4, 1.0)] = 0.01
    channels: Annotated[int, Whole(2, 100_000, both=True)] = 1918
    continuum: Annotated[float, Between(0.0, 0.9)] = 0.2
    stray: Annotated[dict[str, Annotated[float, Between(0.0, 1.0)]], by_element("{Cu = 0.05}")] = field(
        default_factory=dict
    )
    thickness_variation: Annotated[float, Between(0.0, 0.9)] = 0.08
    wedge: Annotated[float, Between(-1.8, 1.8)] = 0.0

    def __post_init__(self) -> None:
        left = 1.0 - self.continuum - sum(self.stray.values())
        if left <= 0.0:
            raise InputError("continuum and simulate.stray", "leave counts for the phases", f"leave {left:g}")


def _scaled(composition: Mapping[str, float]) -> dict[str, float]:
    total = sum(composition.values())
    if composition and abs(total - 1.0) > SUM_TOLERANCE:
        raise InputError("", "sum to 1", f"sums to {total:g}")
    return {element: amount / total for element, amount in composition.items()}


_Amount = Annotated[float, checked_by(check_positive, allow_zero=True)]
_EXAMPLE = "{Mg = 0.5, Si = 0.5}"
_Amounts = Annotated[dict[str, _Amount], by_element(_EXAMPLE)]
_Fraction = Annotated[float, Between(0.0, 1.0)]


@validated("phases", named=True)
@dataclass(frozen=True)
class SimulatedPhase:
    """What a simulated phase is made of: keys ``composition`` and ``fraction`` of a phase table.

    Parameters
    ----------
    name
        Name of the phase.
    composition
        Atom fraction of each element; elements that are not named are zero. Scaled to a sum of 1. Empty for a support,
        which emits stray lines and the continuum of carbon.
    fraction
        Abundance in atoms, averaged over the map; of a support in as many atoms of carbon.
    """

    name: Name
    composition: Annotated[_Amounts, AfterValidator(_scaled)]
    fraction: _Fraction

    def check(self, phase: Phase, elements: Sequence[str]) -> None:
        """Refuse a composition that does not fit what is declared of the phase and the sample."""
        field = f"phases.{self.name}.composition"
        if phase.is_support == bool(self.composition):
            must = "be left out for a support" if phase.is_support else f"be a table such as {_EXAMPLE}"
            raise InputError(field, must, f"is {self.composition!r}")
        for element, amount in self.composition.items():
            if element not in elements:
                must = "be one of `sample.elements`"
                raise InputError(f"{field}.{element}", must, "is not declared there")
            if element in phase.absent and amount > 0:
                must = f"be 0, since {element} is declared absent"
                raise InputError(f"{field}.{element}", must, f"is {amount:g}")


def _check_stated(field: str, value: object) -> dict[str, Any]:
    """Take amounts as they are: `PhaseTable.parted` knows what they must be."""
    return dict(check_table(field, value, _EXAMPLE))


_Stated = Annotated[dict[str, Any], checked_by(_check_stated, dict[str, _Fraction | Pair])]


@validated("phases", named=True)
@dataclass(frozen=True, kw_only=True)
class PhaseTable(Phase):
    """One ``[[phases]]`` table of the file: a phase, and what it is made of where a map of it is simulated.

    Parameters
    ----------
    composition
        Atom fraction of each element: mean and sd of a soft prior, e.g. ``{Al = [0.15, 0.03]}``, or, where a map is
        simulated, what the phase is made of, e.g. ``{Mg = 0.5, Si = 0.5}``.
    fraction
        Abundance of the phase in a simulated map, in atoms.
    """

    composition: _Stated = field(default_factory=dict)
    fraction: _Fraction | None = None

    def parted(self) -> tuple[Phase, SimulatedPhase | None]:
        """Return what is declared, and what is simulated where the file says it."""
        declared = {entry.name: getattr(self, entry.name) for entry in fields(Phase)}
        if self.fraction is None:
            for element, amount in self.composition.items():
                if isinstance(amount, int | float):
                    must = "be [mean, sd] unless a `fraction` says that the map is simulated"
                    raise InputError(f"phases.{self.name}.composition.{element}", must, f"is {shown(amount)}")
            return Phase(**declared), None
        made_of = declared.pop("composition")
        phase = Phase(**declared)
        if not (made_of or self.is_support):
            must = "be given with the fraction of a simulated map"
            raise InputError(f"phases.{self.name}.composition", must, "is missing")
        return phase, SimulatedPhase(name=self.name, composition=made_of, fraction=self.fraction)


PhasesInFile = Annotated[int, Whole(1, MOST_PHASES)] | Literal["auto"] | list[str | PhaseTable]


def read_phases(
    value: object, folder: Path | None = None
) -> tuple[tuple[Phase, ...] | Literal["auto"], tuple[SimulatedPhase, ...]]:
    """Read phases, and the truths of those that are simulated, from a number, ``auto`` or a list of tables.

    Parameters
    ----------
    value
        As it stands in the file.
    folder
        Where relative files are looked for; None for the working directory.

    Raises
    ------
    InputError
        If it is none of these, or a table cannot be used.
    """
    if value == "auto":
        return "auto", ()
    if isinstance(value, int) and not isinstance(value, bool):
        return unnamed(check_integer("phases", value, low=1, high=MOST_PHASES)), ()
    if not isinstance(value, list) or not all(isinstance(one, str | Mapping) for one in value):
        raise InputError("phases", 'be [[phases]] tables, names, a number or "auto"', f"is {shown(value)}")
    tables = [{"name": one} if isinstance(one, str) else one for one in value]
    for index, table in enumerate(tables, start=1):
        if "name" not in table:
            raise InputError(f"phases[{index}].name", "be given", "is missing")
    parts = [PhaseTable(**beside_file(table, folder)).parted() for table in tables]
    return tuple(phase for phase, _ in parts), tuple(truth for _, truth in parts if truth is not None)
