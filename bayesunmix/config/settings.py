"""Tables of the configuration: one frozen dataclass each, which checks its own fields.

A table built in Python is therefore refused with the same words as one read from a file. The field named in a message
is its path in the file, e.g. `inference.level`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeGuard

from bayesunmix.chemistry.stoichiometry import SYMBOLS, check_elements
from bayesunmix.config.pixel_settings import MaskRule, Span, check_span, mask_rules
from bayesunmix.core.errors import (
    InputError,
    check_between,
    check_choice,
    check_fraction,
    check_integer,
    check_number,
    check_path,
    check_positive,
    shown,
)
from bayesunmix.data.acquisition import check_fact
from bayesunmix.data.image import AXIS_LIMITS_KEV

METHODS = ("nuts", "laplace", "svi", "map")
GUIDES = ("mean_field", "low_rank", "full_rank", "flow")
ENDMEMBERS = ("physics", "free")
# Methods that draw free-form endmembers, which have a thousand parameters.
FREE_METHODS = ("laplace", "map")
# Hydrogen and helium emit no X-rays.
WITHOUT_LINES = ("H", "He")
OXYGEN = ("stoichiometry", "measured", "none")
LAYOUTS = ("grains",)
# Most lamellae prepared for STEM-EDS are 20 to 200 nm thick.
DEFAULT_THICKNESS_NM = (100.0, 50.0)
# Silicates and oxides have 2.6 to 5.9 g/cm3.
DEFAULT_DENSITY_G_CM3 = (4.0, 1.0)
# Relative sd of mass absorption coefficients. For solids, Chantler 2000 (doi:10.1063/1.1321055, table 2) gives 1 %
# well above an edge, 10 to 20 % within a tenth above a K edge, 5 to 20 % from 0.5 to 1 keV; good tables differ by 6 %.
DEFAULT_ABSORPTION_SD = 0.06
# Share of a simulated map's counts that a stray element has where nothing is said: visible, and no main peak.
DEFAULT_STRAY_SHARE = 0.01
# Compositions and fractions are written with a few digits; a sum this close to 1 is meant to be 1.
SUM_TOLERANCE = 0.005

# Limits of what is accepted, far beyond what is sensible. They catch slips of unit and digits before anything is
# computed with them; each is named in the documentation of its field.
NARROWEST_RANGE_KEV = 0.2
THICKNESS_LIMITS_NM = (0.1, 100_000.0)
DENSITY_LIMITS_G_CM3 = (0.01, 50.0)
K_FACTOR_LIMITS = (1e-3, 1e3)
ZETA_FACTOR_LIMITS = (1e-3, 1e9)
COUNT_LIMITS = {
    # R-hat splits each chain in two halves of at least two draws.
    "chains": (1, 64),
    "draws": (4, 100_000),
    "warmup": (1, 100_000),
    "starts": (1, 1000),
    "max_overlap": (1, 20),
}

_FACTOR = re.compile(r"([A-Z][a-z]?)_([KLM]a?)")


@dataclass(frozen=True)
class MapConfig:
    """Table ``[map]``: which part of the map is used.

    Parameters
    ----------
    energy_range
        Lowest and highest energy in keV, at least 0.2 keV apart; None for the whole axis.
    energy_offset_keV, energy_scale_keV
        Energy of the first channel's centre and width of a channel, in the place of the file's; None for the file's.
    rows, columns
        First and one after the last row or column that is used, counted from 0; negative ones from the end.
    mask
        What leaves pixels out: the name of a file, a table, or a list of them; see `MaskRule`.
    exclude_flagged
        Output folder of an earlier run of the map: the regions of significant residual that it flagged are left out.
    """

    energy_range: tuple[float, float] | None = None
    energy_offset_keV: float | None = None
    energy_scale_keV: float | None = None
    rows: Span | None = None
    columns: Span | None = None
    mask: tuple[MaskRule, ...] = ()
    exclude_flagged: Path | None = None

    def __post_init__(self) -> None:
        for name, limits in AXIS_LIMITS_KEV.items():
            if getattr(self, name) is not None:
                _set(self, **{name: check_between(f"map.{name}", getattr(self, name), *limits)})
        _set(self, rows=check_span("map.rows", self.rows), columns=check_span("map.columns", self.columns))
        _set(self, mask=mask_rules(self.mask))
        if self.exclude_flagged is not None:
            _set(self, exclude_flagged=check_path("map.exclude_flagged", self.exclude_flagged))
        if self.energy_range is None:
            return
        low, high = _pair(
            "map.energy_range", self.energy_range, "be two energies in keV, the lower one first"
        )
        if not 0.0 <= low < high:
            raise InputError(
                "map.energy_range", "be two energies in keV, the lower one first", f"is [{low:g}, {high:g}]"
            )
        if high - low < NARROWEST_RANGE_KEV:
            must = f"span at least {NARROWEST_RANGE_KEV:g} keV, the width of a peak"
            raise InputError("map.energy_range", must, f"is [{low:g}, {high:g}]")
        _set(self, energy_range=(low, high))


@dataclass(frozen=True)
class SampleConfig:
    """Table ``[sample]``: what the specimen is made of.

    Parameters
    ----------
    elements
        Elements of the composition.
    stray
        Elements whose lines are fitted and that belong to no phase (grid, ion beam, column).
    oxygen
        ``stoichiometry``: not measured, each cation brings its own; ``measured``: from its line, and then O is one of
        the elements; ``none``: the sample has none.
    thickness_nm
        Mean and sd of the film thickness, the mean from 0.1 nm to 0.1 mm; None for the default prior
        `DEFAULT_THICKNESS_NM`.
    density_g_cm3
        Mean and sd of the density, the mean from 0.01 to 50 g/cm3; None for the default prior `DEFAULT_DENSITY_G_CM3`.
    bulk_wt_pct
        What went into the sample, in weight per cent by element or oxide, each a number or [value, sd]: the mass
        balance is held against it.
    """

    elements: tuple[str, ...]
    stray: tuple[str, ...] = ()
    oxygen: str = "stoichiometry"
    thickness_nm: tuple[float, float] | None = None
    density_g_cm3: tuple[float, float] | None = None
    bulk_wt_pct: Mapping[str, float | Sequence[float]] | None = None

    def __post_init__(self) -> None:
        elements = check_elements("sample.elements", self.elements)
        stray = check_elements("sample.stray", self.stray)
        if not elements:
            raise InputError("sample.elements", "name at least one element", "is empty")
        both = [element for element in elements if element in stray]
        if both:
            raise InputError(
                "sample.stray", "name elements that are not in `sample.elements`", f"holds {both[0]}"
            )
        check_choice("sample.oxygen", self.oxygen, OXYGEN)
        if self.oxygen == "measured" and "O" not in elements:
            elements = (*elements, "O")
        if self.oxygen != "measured" and "O" in elements:
            raise InputError(
                "sample.elements",
                f'not hold O where `sample.oxygen` is "{self.oxygen}"',
                "holds O",
                'Remove it, or set `sample.oxygen` to "measured".',
            )
        _set(self, elements=elements, stray=stray)
        lightless = [element for element in (*elements, *stray) if element in WITHOUT_LINES]
        if lightless:
            table = "elements" if lightless[0] in elements else "stray"
            raise InputError(f"sample.{table}", "name elements with X-ray lines", f"holds {lightless[0]}")
        for name, limits in (("thickness_nm", THICKNESS_LIMITS_NM), ("density_g_cm3", DENSITY_LIMITS_G_CM3)):
            if getattr(self, name) is not None:
                _set(self, **{name: _mean_sd(f"sample.{name}", getattr(self, name), *limits)})
        if self.bulk_wt_pct is not None:
            # Atomic weights come from a library that loads slowly.
            from bayesunmix.chemistry.mass_balance import check_bulk

            check_bulk(self.bulk_wt_pct, elements)

    @property
    def thickness_prior_nm(self) -> tuple[float, float]:
        """Mean and sd of the thickness that the run uses."""
        return self.thickness_nm or DEFAULT_THICKNESS_NM

    @property
    def density_prior_g_cm3(self) -> tuple[float, float]:
        """Mean and sd of the density that the run uses."""
        return self.density_g_cm3 or DEFAULT_DENSITY_G_CM3


@dataclass(frozen=True)
class InstrumentConfig:
    """Table ``[instrument]``: overrides what the file says; None leaves the file's value.

    Parameters
    ----------
    beam_energy_keV, takeoff_angle_deg
        Beam energy in keV, from 1 to 3000, and take-off angle in degrees, from 0 to 90.
    resolution_eV
        Full width at half maximum of the detector at Mn K-alpha, in eV, from 1 to 1000.
    beam_current_nA, live_time_s
        Current of the beam in nA and live time of the whole map in s: the dose, which zeta-factors need. From 1e-6 to
        1e6 nA, and from 1e-9 to 1e9 s.
    microscope
        ``"TEM"`` or ``"SEM"``, where the file's reader takes one for the other or for X-ray fluorescence.
    """

    beam_energy_keV: float | None = None
    takeoff_angle_deg: float | None = None
    resolution_eV: float | None = None
    beam_current_nA: float | None = None
    live_time_s: float | None = None
    microscope: Literal["TEM", "SEM"] | None = None

    def __post_init__(self) -> None:
        if self.microscope is not None:
            check_choice("instrument.microscope", self.microscope, ("TEM", "SEM"))
        names = ("beam_energy_keV", "takeoff_angle_deg", "resolution_eV", "beam_current_nA", "live_time_s")
        for name in names:
            if getattr(self, name) is not None:
                _set(self, **{name: check_fact(name, getattr(self, name), f"instrument.{name}")})


@dataclass(frozen=True)
class XrayConfig:
    """Table ``[xray]``: measured line strengths.

    Parameters
    ----------
    table
        JSON file that replaces the built-in line strengths.
    k_factors
        Cliff-Lorimer factors: value and sd, by element and family (``Fe_K``, relative to Si_K) or alpha line
        (``Fe_Ka``, relative to Si_Ka). From 0.001 to 1000, with an sd of at most the value.
    zeta_factors
        Instead: zeta-factors in kg electron / (photon m2), keyed alike; with the dose they give the mass thickness.
        From 0.001 to 1e9.
    absorption_sd
        Relative sd of the mass absorption coefficients of each absorbing element, above 1 keV and away from its edges;
        0 for coefficients that are known.
    """

    table: Path | None = None
    k_factors: dict[str, tuple[float, float]] = field(default_factory=dict)
    zeta_factors: dict[str, tuple[float, float]] = field(default_factory=dict)
    absorption_sd: float = DEFAULT_ABSORPTION_SD

    def __post_init__(self) -> None:
        if self.table is not None:
            if not isinstance(self.table, str | Path):
                raise InputError("xray.table", "be the name of a JSON file", f"is {shown(self.table)}")
            table = check_path("xray.table", self.table)
            if not table.is_file():
                raise InputError("xray.table", "be an existing JSON file", f'"{table}" is not there')
            _set(self, table=table)
        for name, limits in (("k_factors", K_FACTOR_LIMITS), ("zeta_factors", ZETA_FACTOR_LIMITS)):
            _set(self, **{name: _factors(f"xray.{name}", getattr(self, name), *limits)})
        for key in ("Si_K", "Si_Ka"):
            value, _ = self.k_factors.get(key, (1.0, 0.0))
            if value != 1.0:
                raise InputError(
                    f"xray.k_factors.{key}", f"be 1, because factors are relative to {key}", f"is {value:g}"
                )
        if self.k_factors and self.zeta_factors:
            raise InputError(
                "xray.zeta_factors", "be given instead of `xray.k_factors`", "stands beside them", "Keep one."
            )
        remedy = "Give 0.06 for 6 %."
        _set(
            self,
            absorption_sd=check_between("xray.absorption_sd", self.absorption_sd, 0.0, 1.0, remedy=remedy),
        )


def _factors(path: str, value: object, low: float, high: float) -> dict[str, tuple[float, float]]:
    """Read a table of measured factors: value and sd by line family or alpha line."""
    if not isinstance(value, Mapping):
        raise InputError(path, "be a table such as {Fe_K = [1.21, 0.03]}", f"is {shown(value)}")
    for key in value:
        line = _FACTOR.fullmatch(str(key))
        if line is None or line.group(1) not in SYMBOLS:
            must = "name an element and a family, such as Fe_K, or its alpha line, such as Fe_Ka"
            raise InputError(path, must, f"holds {shown(key)}")
    factors = {str(key): _mean_sd(f"{path}.{key}", entry, low, high) for key, entry in value.items()}
    for key, (factor, sd) in factors.items():
        if sd > factor:
            raise InputError(f"{path}.{key} (sd)", f"be at most the factor of {factor:g}", f"is {sd:g}")
    return factors


@dataclass(frozen=True)
class InferenceConfig:
    """Table ``[inference]``: how the posterior is computed.

    Parameters
    ----------
    method
        One of `METHODS`.
    chains, draws, warmup
        Independent chains, at most 64, and draws kept (from 4) and discarded in each, at most 100 000.
    level
        Probability that an interval holds.
    starts
        Starting points of the search for the best mode, at least; two for each phase beyond the second if that is more.
        At most 1000.
    max_overlap
        Most phases that overlap in one pixel.
    endmembers
        ``physics``: made of lines; ``free``: channel by channel, compositions read off them by the line model.
    spatial
        Let the maps of abundance, and nothing else, learn from neighbouring pixels.
    guide
        Family of densities that ``svi`` fits, one of `GUIDES`; see `bayesunmix.inference.guides`.
    resample
        Pick the draws of ``laplace`` and ``svi`` anew by their importance weights, where these are reliable.
    """

    method: str = "nuts"
    chains: int = 2
    draws: int = 500
    warmup: int = 500
    level: float = 0.95
    starts: int = 4
    max_overlap: int = 2
    endmembers: str = "physics"
    spatial: bool = False
    guide: str = "low_rank"
    resample: bool = False

    def __post_init__(self) -> None:
        check_choice("inference.method", self.method, METHODS)
        check_choice("inference.guide", self.guide, GUIDES)
        check_choice("inference.endmembers", self.endmembers, ENDMEMBERS)
        if self.endmembers == "free" and self.method not in FREE_METHODS:
            raise InputError(
                "inference.method", 'be "laplace" or "map" for free-form endmembers', f'is "{self.method}"'
            )
        _check_bool("inference.resample", self.resample)
        for name, (low, high) in COUNT_LIMITS.items():
            number = check_integer(f"inference.{name}", getattr(self, name), low=low)
            _set(self, **{name: check_integer(f"inference.{name}", number, high=high)})
        _check_bool("inference.spatial", self.spatial)
        remedy = "Give 0.95 for a 95 % interval."
        _set(self, level=check_fraction("inference.level", self.level, remedy=remedy))


@dataclass(frozen=True)
class SimulateConfig:
    """Table ``[simulate]``: the map that ``bayesunmix simulate`` draws; ``unmix`` ignores it.

    Parameters
    ----------
    shape
        Pixels along y and x, at most 16 384 each.
    counts_per_pixel
        Expected counts in a pixel, averaged over the map; at most 1e7.
    layout
        How phases are spread over the map, one of `LAYOUTS`.
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

    Notes
    -----
    The defaults of axis, continuum and thickness variation are those of a map of a lower-mantle sample recrystallised
    at 71 GPa (file ``71GPa_subsolidus.hspy`` in the history of https://github.com/adriente/espm).
    """

    shape: tuple[int, int] = (64, 64)
    counts_per_pixel: float = 100.0
    layout: str = "grains"
    seed: int = 0
    calibration_error: bool = False
    offset_keV: float = 0.818
    step_keV: float = 0.01
    channels: int = 1918
    continuum: float = 0.2
    stray: dict[str, float] = field(default_factory=dict)
    thickness_variation: float = 0.08

    def __post_init__(self) -> None:
        if not is_list(self.shape) or len(self.shape) != 2:
            raise InputError(
                "simulate.shape", "be two whole numbers, pixels along y and x", f"is {shown(self.shape)}"
            )
        _set(
            self,
            shape=tuple(check_integer("simulate.shape", size, low=1, high=16_384) for size in self.shape),
        )
        counts = check_positive("simulate.counts_per_pixel", self.counts_per_pixel, low=1e-6, high=1e7)
        _set(self, counts_per_pixel=counts)
        check_choice("simulate.layout", self.layout, LAYOUTS)
        _set(self, seed=check_integer("simulate.seed", self.seed, low=0, high=2**32 - 1))
        _check_bool("simulate.calibration_error", self.calibration_error)
        self._check_axis()
        self._check_background()

    def _check_axis(self) -> None:
        # Limits in keV: they catch an axis given in eV.
        _set(self, offset_keV=check_between("simulate.offset_keV", self.offset_keV, -5.0, 100.0))
        _set(self, step_keV=check_between("simulate.step_keV", self.step_keV, 1e-4, 1.0))
        _set(self, channels=check_integer("simulate.channels", self.channels, low=2, high=100_000))

    def _check_background(self) -> None:
        for name in ("continuum", "thickness_variation"):
            _set(self, **{name: check_between(f"simulate.{name}", getattr(self, name), 0.0, 0.9)})
        if not isinstance(self.stray, Mapping):
            raise InputError("simulate.stray", "be a table such as {Cu = 0.05}", f"is {shown(self.stray)}")
        check_elements("simulate.stray", list(self.stray))
        shares = {
            key: check_fraction(f"simulate.stray.{key}", self.stray[key], inclusive=True)
            for key in self.stray
        }
        if self.continuum + sum(shares.values()) >= 1.0:
            got = f"leave {1.0 - self.continuum - sum(shares.values()):g}"
            raise InputError("simulate.continuum and simulate.stray", "leave counts for the phases", got)
        _set(self, stray=shares)


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

    name: str
    composition: dict[str, float]
    fraction: float

    def __post_init__(self) -> None:
        path = f"phases.{self.name}.composition"
        if not isinstance(self.composition, Mapping):
            raise InputError(path, "be a table such as {Mg = 0.5, Si = 0.5}", f"is {shown(self.composition)}")
        check_elements(path, list(self.composition))
        amounts = {
            element: check_positive(f"{path}.{element}", amount, allow_zero=True)
            for element, amount in self.composition.items()
        }
        total = sum(amounts.values())
        if self.composition and abs(total - 1.0) > SUM_TOLERANCE:
            raise InputError(path, "sum to 1", f"sums to {total:g}")
        _set(self, composition={element: amount / total for element, amount in amounts.items()})
        _set(self, fraction=check_fraction(f"phases.{self.name}.fraction", self.fraction, inclusive=True))


def _mean_sd(path: str, value: object, low: float, high: float) -> tuple[float, float]:
    mean, sd = _pair(path, value, "be [value, sd]")
    mean = check_positive(path, mean, low=low, high=high)
    return mean, check_positive(f"{path} (sd)", sd, allow_zero=True, high=high)


def _pair(path: str, value: object, must: str) -> tuple[float, float]:
    """Return two numbers, or raise `InputError`."""
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != 2 or any(isinstance(x, bool) or not isinstance(x, int | float) for x in numbers):
        raise InputError(path, must, f"is {shown(value)}")
    return check_number(path, numbers[0], must=must), check_number(path, numbers[1], must=must)


def _check_bool(path: str, value: object) -> None:
    if not isinstance(value, bool):
        raise InputError(path, "be true or false", f"is {shown(value)}")


def _set(config: object, **values: object) -> None:
    """Store checked values in a frozen dataclass while it is being made."""
    for name, value in values.items():
        object.__setattr__(config, name, value)


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray)
