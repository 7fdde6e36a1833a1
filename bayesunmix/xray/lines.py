"""The line table: which X-rays an atom emits under the beam, and how uncertain their strengths are.

The strength of a line is its emission cross-section, photons per atom and per electron of unit areal density,

    s = n_i omega_i p_i,

with n_i the holes in the sub-shell after the cascade (`relaxation.vacancies`), omega_i its fluorescence
yield and p_i the line's share. It holds before absorption and detection.
"""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError, check_positive, suggest
from bayesunmix.xray.atomic import FAMILIES, atomic_number, atomic_symbol, atomic_weight
from bayesunmix.xray.evaluated import LIGHT_LANTHANIDE_M
from bayesunmix.xray.ionisation import ionisation_cross_section, shells
from bayesunmix.xray.priors import DEFAULT_XRAY_PRIORS, XrayPriors
from bayesunmix.xray.relaxation import (
    branching,
    fluorescence_yield,
    line_energy_keV,
    vacancies,
)
from bayesunmix.xray.spread import ratio_spread, strength_spread

LOWEST_LINE_KEV = 0.2
# A line weaker than this share of its family's strongest one is left out.
WEAKEST_SHARE = 1e-4
HEAVIEST_BUILT_IN = 95

AVOGADRO = 6.02214076e23  # 1/mol, exact in the SI
REFERENCE = ("Si", "K")
# From here on core electrons emit K-beta, lighter elements have it from the valence band.
LIGHTEST_CORE_K_BETA = 20
# The lines that the Siegbahn names Ka, La and Ma mean for an X-ray detector, which does not resolve the two of each
# (Jenkins, R., et al., X-Ray Spectrom. 20 (1991) 149, doi:10.1002/xrs.1300200308).
ALPHA_LINES = {"K": ("KL3", "KL2"), "L": ("L3M5", "L3M4"), "M": ("M5N7", "M5N6")}

# Of a user's table: a complete one has 0.3 MB, the K lines of fermium lie at 142 keV, and units of strengths are free.
_LARGEST_TABLE = 20_000_000
_HIGHEST_LINE_KEV = 200.0
_LARGEST_STRENGTH = 1e60

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One X-ray line of one element.

    Parameters
    ----------
    element
        Chemical symbol.
    line
        IUPAC name, e.g. ``KL3`` for K-alpha1.
    family
        K, L or M: the shell with the hole.
    energy_keV
        Photon energy in keV.
    strength
        Emission cross-section in cm2 per atom (or proportional to it, for a user's table).
    """

    element: str
    line: str
    family: str
    energy_keV: float
    strength: float


@dataclass(frozen=True)
class LineTable:
    """Lines of many elements, with the relative uncertainty of each family's strength.

    Parameters
    ----------
    entries
        All lines.
    source
        Where they come from, for the record of a run.
    measured_sd
        Relative standard deviation of the families that a measured k-factor fixes, keyed (element, family).
    priors
        Widths of the priors on everything that is not measured.
    """

    entries: tuple[Line, ...]
    source: str
    measured_sd: tuple[tuple[tuple[str, str], float], ...] = ()
    priors: XrayPriors = DEFAULT_XRAY_PRIORS

    @classmethod
    def built_in(cls, beam_energy_keV: float, elements: Iterable[str] | None = None) -> LineTable:
        """Calculate the lines above 0.2 keV at a beam energy.

        Parameters
        ----------
        beam_energy_keV
            Energy of the electrons in keV.
        elements
            Symbols wanted; all from Li to Am when left out.

        Raises
        ------
        InputError
            If the energy is not positive or an element is unknown.
        """
        energy = check_positive("instrument.beam_energy_keV", beam_energy_keV)
        wanted = [atomic_symbol(z) for z in range(3, HEAVIEST_BUILT_IN + 1)] if elements is None else elements
        entries = [line for element in dict.fromkeys(wanted) for line in _element_lines(element, energy)]
        source = (
            f"built-in at {energy:g} keV: Bote-Salvat ionisation (doi:10.1016/j.adt.2009.08.001), relaxation "
            "from xraylib (doi:10.1016/j.sab.2011.09.011), M yields and rates of EADL (doi:10.2172/10121422), single "
            "values of Krause (1979), Elam et al. (2002) and Salem et al. (1974), M lines of La to Eu after Bearden "
            "(1967)"
        )
        return cls(tuple(entries), source)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> LineTable:
        """Read a user's table: element to list of {line, family, energy_keV, strength}.

        Raises
        ------
        InputError
            If the file cannot be read as such; the message names element, line and key.
        """
        try:
            size = Path(path).stat().st_size
            if size > _LARGEST_TABLE:
                must = f"have at most {_LARGEST_TABLE / 1e6:.0f} MB"
                raise InputError("xray.table", must, f"{path} has {size / 1e6:.0f} MB")
            table = json.loads(Path(path).read_text(encoding="utf-8-sig"))
        except InputError:
            raise
        except OSError as error:
            got = f"{path} gives: {error.strerror}"
            raise InputError("xray.table", "name a readable file", got) from error
        except RecursionError:
            raise InputError(
                "xray.table", "be a JSON file of lines", f"{path} is nested too deeply"
            ) from None
        except ValueError as error:
            raise InputError("xray.table", "be a JSON file", f"{path} is not: {error}") from error
        if not isinstance(table, dict) or not table:
            raise InputError("xray.table", "map elements to lists of lines", f"{path} holds {_kind(table)}")
        entries = [line for element, rows in table.items() for line in _parse_element(element, rows)]
        return cls(tuple(entries), f"file {Path(path).name}")

    @property
    def elements(self) -> tuple[str, ...]:
        """Elements of the table, in its order."""
        return tuple(dict.fromkeys(line.element for line in self.entries))

    def lines(self, element: str, family: str | None = None) -> tuple[Line, ...]:
        """Return the lines of an element, or of one of its families.

        Raises
        ------
        InputError
            If the table has no such element.
        """
        found = [line for line in self.entries if line.element == element]
        if not found:
            atomic_number(element)
            raise InputError("xray.table", f"hold lines of {element}", f"has none ({self.source})")
        return tuple(line for line in found if family in (None, line.family))

    def families(
        self, element: str, low_keV: float = 0.0, high_keV: float = math.inf, min_share: float = 0.01
    ) -> tuple[str, ...]:
        """Return the families with at least `min_share` of their strength between two energies."""
        found = []
        for family in FAMILIES:
            lines = self.lines(element, family)
            inside = sum(line.strength for line in lines if low_keV <= line.energy_keV <= high_keV)
            if inside > 0.0 and inside >= min_share * sum(line.strength for line in lines):
                found.append(family)
        return tuple(found)

    def calibration_sd(self, element: str, family: str) -> float:
        """Return the relative standard deviation of a family's strength.

        Measured k-factors carry their own; all others have what sources differ by for this element
        (`bayesunmix.xray.spread`) and what `priors` has for the family, in quadrature.
        """
        measured = dict(self.measured_sd)
        if (element, family) in measured:
            return measured[element, family]
        if family == "M" and atomic_number(element) in LIGHT_LANTHANIDE_M:
            return self.priors.line_strength_light_lanthanide_m_sd
        return math.hypot(self.priors.line_strength_sd(family), strength_spread(element, family))

    def ratio_sd(self, element: str, family: str, group: str, strongest: str) -> float:
        """Return the standard deviation of the log ratio of two groups of lines of a family (`line_group`).

        What sources differ by for this element and what `priors` has for the family, in quadrature. Of K-beta that
        valence electrons emit `priors` has all.
        """
        if family == "K" and atomic_number(element) < LIGHTEST_CORE_K_BETA:
            return self.priors.line_ratio_valence_k_sd
        return math.hypot(self.priors.line_ratio_sd(family), ratio_spread(element, group, strongest))

    def detected_strength(
        self, element: str, family: str, efficiency: Callable[[Array], Array], *, alpha: bool = False
    ) -> float:
        """Return the detected photons per atom of a family or its alpha lines: sum of strength times efficiency."""
        lines = self.lines(element, family)
        if alpha:
            lines = tuple(line for line in lines if line.line in ALPHA_LINES[family])
        energies = np.array([line.energy_keV for line in lines])
        return float(np.array([line.strength for line in lines]) @ efficiency(energies)) if lines else 0.0

    def with_k_factors(
        self, k_factors: Mapping[str, tuple[float, float]], efficiency: Callable[[Array], Array]
    ) -> LineTable:
        """Return the table rescaled so that measured Cliff-Lorimer factors to silicon hold.

        A factor k is defined by weight and on detected intensities I before absorption in the specimen,

            C_X / C_Si = k I_X / I_Si   =>   sum_X(strength x efficiency) = (M_X / M_Si) sum_Si(...) / k,

        M the atomic weights. The sums run over whole families where the factor is keyed by a family (``Fe_K``, to
        Si K), and over the alpha lines where it is keyed by these (``Fe_Ka``, to Si Ka). All lines of the family of X
        are scaled alike. Silicon keeps its strengths and, as the reference, has no error of its own: it is in the
        errors of the factors, whether measured or calculated.

        Parameters
        ----------
        k_factors
            ``{"Fe_K": (value, standard deviation), "Pt_La": ..., ...}``. Silicon may stand among them with 1.
        efficiency
            Detector efficiency as a function of energies in keV (`Detector.efficiency`): the factors hold
            for the detector they were measured with.

        Raises
        ------
        InputError
            If a key names neither a family nor an alpha line of the table, two keys name the same family, or a number
            is not positive.
        """
        scales: dict[tuple[str, str], float] = {}
        measured = dict(self.measured_sd) | ({REFERENCE: 0.0} if k_factors else {})
        for key, value in k_factors.items():
            element, family, alpha = self._check_key("xray.k_factors", key)
            sd_may_be_zero = key.startswith("_".join(REFERENCE))
            k, sd = _check_factor(f"xray.k_factors.{key}", value, allow_zero=sd_may_be_zero)
            if (element, family) == REFERENCE:
                _check_reference(key, k)
                continue
            if (element, family) in scales:
                raise InputError(
                    "xray.k_factors", f"hold one factor for {element} {family}", f"has {key} too"
                )
            wanted = atomic_weight(element) / atomic_weight(REFERENCE[0]) / k
            detected = self.detected_strength(element, family, efficiency, alpha=alpha)
            scales[element, family] = wanted * self._reference(efficiency, alpha) / detected
            measured[element, family] = sd / k
        source = self._source_with("k-factors", k_factors) if k_factors else self.source
        return LineTable(self._scaled(scales, 1.0), source, tuple(measured.items()), self.priors)

    def with_zeta_factors(
        self, zeta_factors: Mapping[str, tuple[float, float]], efficiency: Callable[[Array], Array]
    ) -> LineTable:
        """Return the table rescaled so that measured zeta-factors hold, with strengths in absolute units.

        A zeta-factor is defined by the mass thickness rho t of a film, the weight fraction C of the element, its
        detected intensity I before absorption and the number of electrons D,

            rho t = zeta I / (C D)   =>   sum(strength x efficiency) = M / (N_A zeta),

        M the atomic weight and N_A Avogadro's number: photons detected per atom and electron of unit areal density,
        in cm2 per atom, the detector's solid angle included. The sum runs over the family or its alpha lines as in
        `with_k_factors`. Families without a factor keep their ratio to the measured ones, on average.

        Parameters
        ----------
        zeta_factors
            ``{"Si_K": (value, standard deviation), "Fe_Ka": ...}`` in kg electron / (photon m2).
        efficiency
            Detector efficiency as a function of energies in keV (`Detector.efficiency`).

        Raises
        ------
        InputError
            If there is no factor, a key names neither a family nor an alpha line of the table, two keys name the same
            family, or a number is not positive.

        References
        ----------
        Watanabe, M. and Williams, D. B., J. Microsc. 221 (2006) 89, doi:10.1111/j.1365-2818.2006.01549.x.
        """
        field = "xray.zeta_factors"
        if not zeta_factors:
            raise InputError(field, "hold a factor of an element of the sample", "has none")
        scales: dict[tuple[str, str], float] = {}
        measured = dict(self.measured_sd)
        precision = []
        for key, value in zeta_factors.items():
            element, family, alpha = self._check_key(field, key)
            zeta, sd = _check_factor(f"{field}.{key}", value)
            if (element, family) in scales:
                raise InputError(field, f"hold one factor for {element} {family}", f"has {key} too")
            # g/mol over kg/m2 is 10 cm2/mol.
            wanted = 10.0 * atomic_weight(element) / (AVOGADRO * zeta)
            scales[element, family] = wanted / self.detected_strength(
                element, family, efficiency, alpha=alpha
            )
            precision.append(1.0 / (self.calibration_sd(element, family) ** 2 + (sd / zeta) ** 2))
            measured[element, family] = sd / zeta
        common = math.exp(float(np.average(np.log(list(scales.values())), weights=precision)))
        source = self._source_with("zeta-factors", zeta_factors)
        return LineTable(self._scaled(scales, common), source, tuple(measured.items()), self.priors)

    def with_ratios(
        self, factors: Mapping[tuple[str, str, str], float], efficiency: Callable[[Array], Array]
    ) -> LineTable:
        """Return the table with other ratios of line groups inside families, whose detected totals stay.

        Parameters
        ----------
        factors
            ``{("Cu", "K", "beta"): 1.1, ...}``, groups as `line_group` names them; 1 where left out.
        efficiency
            Detector efficiency as a function of energies in keV.
        """
        scales: dict[tuple[str, str], float] = {}
        for element, family in dict.fromkeys(key[:2] for key in factors):
            lines = self.lines(element, family)
            seen = np.array([line.strength for line in lines])
            seen *= efficiency(np.array([line.energy_keV for line in lines]))
            changed = seen * [factors.get((element, family, line_group(line)), 1.0) for line in lines]
            scales[element, family] = float(seen.sum() / changed.sum())
        entries = tuple(
            replace(
                line,
                strength=line.strength
                * factors.get((line.element, line.family, line_group(line)), 1.0)
                * scales.get((line.element, line.family), 1.0),
            )
            for line in self.entries
        )
        return replace(self, entries=entries)

    def with_bonding(self, shift_keV: float, elements: Collection[str]) -> LineTable:
        """Return the table with the lines moved that valence electrons of some elements emit.

        Parameters
        ----------
        shift_keV
            Energy that is added.
        elements
            Those whose bonding differs from what the table holds.
        """
        entries = tuple(
            replace(line, energy_keV=line.energy_keV + shift_keV)
            if line.element in elements and emitted_by_valence(line)
            else line
            for line in self.entries
        )
        return replace(self, entries=entries)

    def _source_with(self, kind: str, factors: Iterable[str]) -> str:
        """Add measured factors to the source, once."""
        note = f"; measured {kind} of {', '.join(factors)}"
        return self.source if self.source.endswith(note) else self.source + note

    def _scaled(self, scales: Mapping[tuple[str, str], float], others: float) -> tuple[Line, ...]:
        """Return all lines with their families' strengths scaled."""
        return tuple(
            replace(line, strength=line.strength * scales.get((line.element, line.family), others))
            for line in self.entries
        )

    def _reference(self, efficiency: Callable[[Array], Array], alpha: bool) -> float:
        """Return the detected strength of Si K or Ka, which a user's table must hold itself."""
        known = REFERENCE[0] in self.elements
        strength = self.detected_strength(*REFERENCE, efficiency, alpha=alpha) if known else 0.0
        if strength == 0.0:
            lines = "Si K-alpha lines (KL3, KL2)" if alpha else "Si K lines"
            raise InputError("xray.table", f"hold {lines} when k-factors are given", "has none")
        return strength

    def _check_key(self, field: str, key: str) -> tuple[str, str, bool]:
        """Split ``Fe_K`` or ``Fe_Ka`` into element, family and whether alpha is meant; the table must hold it."""
        known: dict[str, tuple[str, str, bool]] = {}
        for element in self.elements:
            for family in self.families(element):
                names = {line.line for line in self.lines(element, family) if line.strength > 0.0}
                known[f"{element}_{family}"] = (element, family, False)
                if names.intersection(ALPHA_LINES[family]):
                    known[f"{element}_{family}a"] = (element, family, True)
        if key not in known:
            remedy = (
                suggest(key.title(), known) or "Write Fe_K for a whole family, Fe_Ka for its alpha lines."
            )
            must = "be keyed by an element and a family, or its alpha line, of the line table"
            raise InputError(field, must, f"has {key!r}", remedy)
        return known[key]


def line_group(line: Line) -> str:
    """Return the group of a line inside its family: alpha or beta for K, else the sub-shell with the hole.

    Examples
    --------
    >>> copper = Line(element="Cu", line="KM3", family="K", energy_keV=8.905, strength=1.0)
    >>> neodymium = Line(element="Nd", line="L2M4", family="L", energy_keV=5.722, strength=1.0)
    >>> line_group(copper), line_group(neodymium)
    ('beta', 'L2')
    """
    if line.family == "K":
        return "alpha" if line.line.startswith(("KL", "Ka")) else "beta"
    return line.line[:2]


def emitted_by_valence(line: Line) -> bool:
    """Return whether valence electrons emit a line: K-beta of the light elements, whose energy depends on bonding.

    Examples
    --------
    >>> silicon = Line(element="Si", line="KM3", family="K", energy_keV=1.836, strength=1.0)
    >>> iron = Line(element="Fe", line="KM3", family="K", energy_keV=7.058, strength=1.0)
    >>> emitted_by_valence(silicon), emitted_by_valence(iron)
    (True, False)
    """
    light = atomic_number(line.element) < LIGHTEST_CORE_K_BETA
    return light and line.family == "K" and line_group(line) == "beta"


def _check_factor(field: str, value: tuple[float, float], *, allow_zero: bool = False) -> tuple[float, float]:
    """Return value and standard deviation of a factor as floats, both positive."""
    try:
        factor, sd = value
    except (TypeError, ValueError):
        raise InputError(field, "be [value, standard deviation]", f"is {value!r}") from None
    sd = check_positive(f"{field} standard deviation", sd, allow_zero=allow_zero)
    return check_positive(f"{field} value", factor), sd


def _check_reference(key: str, k: float) -> None:
    if k != 1.0:
        raise InputError(f"xray.k_factors.{key}", f"be 1, because factors are relative to {key}", f"is {k:g}")


@cache
def _element_lines(element: str, beam_energy_keV: float) -> tuple[Line, ...]:
    """Calculate the lines of one element; energies are those of `relaxation.line_energy_keV`."""
    primary = {s: float(ionisation_cross_section(element, s, beam_energy_keV)) for s in shells(element)}
    holes = vacancies(element, primary)
    found = []
    for shell, number in holes.items():
        photons = number * fluorescence_yield(element, shell)
        for name, share in branching(element, shell).items():
            found.append(
                Line(
                    element=element,
                    line=name,
                    family=shell[0],
                    energy_keV=line_energy_keV(element, name),
                    strength=photons * share,
                )
            )
    visible = [line for line in found if line.energy_keV >= LOWEST_LINE_KEV]
    return tuple(line for line in visible if line.strength > WEAKEST_SHARE * _strongest(found, line.family))


def _strongest(lines: list[Line], family: str) -> float:
    return max(line.strength for line in lines if line.family == family)


def _parse_element(element: str, rows: object) -> list[Line]:
    """Read the lines of one element of a user's table."""
    atomic_number(element, "xray.table")
    if not isinstance(rows, list):
        raise InputError(f"xray.table {element}", "be a list of lines", f"is {_kind(rows)}")
    lines = [_parse_line(element, index, row) for index, row in enumerate(rows)]
    for name, times in Counter(line.line for line in lines).items():
        if times > 1:
            raise InputError(f"xray.table {element}", "hold every line once", f"holds {name} twice")
    return lines


def _parse_line(element: str, index: int, row: object) -> Line:
    """Read one line of a user's table; `index` names it as long as its own name is unknown."""
    field = f"xray.table {element} line {index + 1}"
    keys = ("line", "family", "energy_keV", "strength")
    if not isinstance(row, dict):
        raise InputError(field, f"be a table with the keys {', '.join(keys)}", f"is {_kind(row)}")
    for key in keys:
        if key not in row:
            raise InputError(field, f"have the key {key}", f"has {', '.join(map(str, row)) or 'none'}")
    for key in row:
        if key not in keys:
            raise InputError(field, f"have no keys but {', '.join(keys)}", f"has {key}", suggest(key, keys))
    name, family = row["line"], row["family"]
    if not isinstance(name, str) or not name:
        raise InputError(f"{field} line", "be a name such as KL3", f"is {name!r}")
    field = f"xray.table {element} {name}"
    if not isinstance(family, str) or family not in FAMILIES:
        raise InputError(f"{field} family", "be K, L or M", f"is {family!r}")
    energy = check_positive(f"{field} energy_keV", row["energy_keV"], high=_HIGHEST_LINE_KEV)
    strength = check_positive(f"{field} strength", row["strength"], allow_zero=True, high=_LARGEST_STRENGTH)
    return Line(element=element, line=name, family=family, energy_keV=energy, strength=strength)


def _kind(value: object) -> str:
    """Name the JSON kind of a value in a message."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number") if value else "empty"
