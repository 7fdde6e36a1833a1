"""From declared elements and acquisition facts to the arrays that the model mixes: templates, ratios and yields.

The detected counts per atom of family f of element e in phase k are

    y_kf = sum_l strength_l * efficiency(E_l) * A_k(E_l) * share_l

over the family's lines l, A_k being the film's absorption and share_l the part of the line inside the fitted energy
range. One family of each element, the best calibrated of those with enough counts, carries the element's amplitude
(its main family); the others follow it in the ratio of their yields, up to a fitted factor with a prior of both
families' calibration errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bayesunmix.core.errors import InputError
from bayesunmix.core.shares import ratio_of, shares_of
from bayesunmix.models.endmember import EndmemberBasis
from bayesunmix.models.response import KNOWN_RESPONSE, ResponseUncertainty
from bayesunmix.xray import (
    Detector,
    LineTable,
    Response,
    absorption_depth,
    as_oxides,
    atomic_weight,
    mass_absorption_coefficient,
    thin_film_factor,
    weight_fractions,
)
from bayesunmix.xray.absorption import absorption_slope, oxygen_per_cation
from bayesunmix.xray.absorption_errors import coefficient_doubt
from bayesunmix.xray.continuum import NO_CORRECTION, ContinuumCorrection, bremsstrahlung, hat_functions
from bayesunmix.xray.lines import Line

FloatArray = npt.NDArray[np.float64]

CONTINUUM_KNOTS = 7
# A main family must hold at least this share of the counts of the element's strongest family.
MAIN_SHARE = 0.2
# A family weaker than this, relative to the main one, is left out.
WEAKEST_FAMILY = 1e-3
# A family with less than this share of its strength inside the energy range shows only a tail: its counts would be
# arbitrary. See `bayesunmix.forward.flanks`.
FEWEST_INSIDE = 0.1
# Names of the components of what belongs to no declared element inside the range.
FLANKS, UNDECLARED = "flanks", "undeclared"
# Overlap (Bhattacharyya coefficient) of two detected families from which on they count as one.
SAME_PEAKS = 0.92
# The film's thickness is the one absorption parameter; draws are read off this grid of multiples of its mean.
THICKNESS_GRID = np.linspace(0.0, 4.0, 33)


@dataclass(frozen=True, kw_only=True)
class Film:
    """The specimen as an absorber.

    Attributes
    ----------
    thickness_nm, density_g_cm3 : (mean, sd)
    takeoff_angle_deg : float or None
        None when unknown: absorption is then left out.
    oxygen : bool
        The declared elements are bound to oxygen by stoichiometry.
    absorption_sd : float
        Relative sd of the mass absorption coefficients above 1 keV and away from edges; see `coefficient_doubt`.
    coefficient_errors : dict of str to float
        Errors of the tabulated coefficients in standard deviations by absorbing element; 0 where none is given.
    """

    thickness_nm: tuple[float, float]
    density_g_cm3: tuple[float, float]
    takeoff_angle_deg: float | None
    oxygen: bool
    absorption_sd: float = 0.0
    coefficient_errors: Mapping[str, float] = field(default_factory=dict)

    @property
    def mass_thickness_sd(self) -> float:
        """Relative sd of the mass thickness."""
        parts = (self.thickness_nm, self.density_g_cm3)
        return float(np.sqrt(sum((sd / mean) ** 2 for mean, sd in parts)))

    @property
    def relative_sd(self) -> float:
        """Relative sd of the absorption depth: of mass thickness and mass absorption coefficients together."""
        return float(np.hypot(self.mass_thickness_sd, self.absorption_sd))

    def absorbers(self, elements: Sequence[str]) -> tuple[str, ...]:
        """Elements that absorb: those declared, and the oxygen that they bind."""
        return tuple(elements) + (("O",) if self.oxygen and "O" not in elements else ())

    def depth(
        self, elements: Sequence[str], atom_fractions: FloatArray, energy_keV: FloatArray
    ) -> FloatArray:
        """Absorption depth chi at the mean thickness, shape of `energy_keV`."""
        return np.asarray(self.depths(elements, atom_fractions, energy_keV).sum(axis=0))

    def depths(
        self, elements: Sequence[str], atom_fractions: FloatArray, energy_keV: FloatArray
    ) -> FloatArray:
        """Return what each absorbing element adds to the absorption depth, shape (absorber, energy)."""
        names = self.absorbers(elements)
        if self.takeoff_angle_deg is None:
            return np.zeros((len(names), *np.shape(energy_keV)))
        atoms = {e: float(x) for e, x in zip(elements, atom_fractions, strict=True) if x > 0}
        if not atoms:
            # A support, or a hole: no atom of the sample absorbs there.
            return np.zeros((len(names), *np.shape(energy_keV)))
        fractions = weight_fractions(as_oxides(atoms) if self.oxygen else atoms)
        parts = np.zeros((len(names), *np.shape(energy_keV)))
        for place, name in enumerate(names):
            if name in fractions:
                error = self.coefficient_errors.get(name, 0.0) * self.absorption_sd
                factor = np.exp(error * coefficient_doubt(name, energy_keV)) if error else 1.0
                parts[place] = fractions[name] * factor * mass_absorption_coefficient(name, energy_keV)
        return absorption_depth(parts, self.density_g_cm3[0], self.thickness_nm[0], self.takeoff_angle_deg)


@dataclass(frozen=True, kw_only=True)
class Family:
    """One line family in the fit."""

    element: str
    family: str
    component: int
    main: bool
    stray: bool = False
    tied: bool = False  # follows its component's main family in a fixed ratio
    amount: float = 1.0  # atoms, where families of several elements make one component

    @property
    def name(self) -> str:
        """Element and family, as in Fe_K."""
        return f"{self.element}_{self.family}"


@dataclass(frozen=True, kw_only=True)
class ForwardModel:
    """What is known about the physics of a run, independent of the phases' compositions.

    Attributes
    ----------
    elements : tuple of str
        Declared elements, reported.
    components : tuple of str
        Elements, oxygen where it is seen but not reported, stray families, the flanks of families off the axis
        together, elements that nobody declared together, and the continuum last.
    families : tuple of Family
    table, detector, response, film
        Physics.
    beam_energy_keV : float
    edges_keV : (energy + 1,)
        Edges of the fitted bins.
    continuum : ContinuumCorrection
        Smooth factor on the physical continuum.
    response_uncertainty : ResponseUncertainty
        What is open about the line shapes.
    """

    elements: tuple[str, ...]
    components: tuple[str, ...]
    families: tuple[Family, ...]
    table: LineTable
    detector: Detector
    response: Response
    film: Film
    beam_energy_keV: float
    edges_keV: FloatArray
    continuum: ContinuumCorrection = NO_CORRECTION
    response_uncertainty: ResponseUncertainty = KNOWN_RESPONSE

    @property
    def owner(self) -> npt.NDArray[np.int64]:
        """Component of each family, shape (family,)."""
        return np.array([family.component for family in self.families])

    @property
    def calibration_sd(self) -> FloatArray:
        """Relative sd of each element's main-family strength, shape (element,)."""
        mains = {
            family.element: family.family for family in self.families if family.main and not family.stray
        }
        return np.array([self.table.calibration_sd(element, mains[element]) for element in self.elements])

    def ratio_sd(self) -> FloatArray:
        """Prior sd of each family's log ratio to its main family, 0 for main families, shape (family,)."""
        sd = {f.component: self.table.calibration_sd(f.element, f.family) for f in self.families if f.main}
        return np.array(
            [
                0.0
                if f.main or f.tied
                else np.hypot(sd[f.component], self.table.calibration_sd(f.element, f.family))
                for f in self.families
            ]
        )

    @property
    def mass_per_mole(self) -> FloatArray:
        """Mass of a mole of each element with the oxygen that it binds, in g, shape (element,)."""
        bound = [
            oxygen_per_cation(element) if self.film.oxygen and element != "O" else 0.0
            for element in self.elements
        ]
        own = np.array([atomic_weight(element) for element in self.elements])
        return np.asarray(own + np.array(bound) * atomic_weight("O"))

    @property
    def strength_unit(self) -> float:
        """Detected strength of the strongest line, in cm2 for an absolute table: 1 in spectra and yields."""
        lines = [line for part in self.lines() for line in part]
        energy = np.array([line.energy_keV for line in lines])
        strength = np.array([line.strength for line in lines])
        return float((strength * self.detector.efficiency(energy)).max())

    def family_spectra(self, atom_fractions: FloatArray, edges_keV: FloatArray | None = None) -> FloatArray:
        """Return the detected spectrum per atom of every family in every phase, shape (phase, family, energy).

        Parameters
        ----------
        atom_fractions : (phase, element)
            Compositions that absorb.
        edges_keV : (energy + 1,), optional
            Bin edges; the fitted ones by default.
        """
        edges = self.edges_keV if edges_keV is None else edges_keV
        lines = self.lines()
        group = np.repeat(np.arange(len(lines)), [len(part) for part in lines])
        energy, emitted = self.emitted(lines)
        return np.stack(
            [
                self.response.columns(
                    energy, emitted * self.transmitted(fractions, energy), group, len(lines), edges
                )
                for fractions in atom_fractions
            ]
        )

    def lines(self) -> list[tuple[Line, ...]]:
        """Lines of each family."""
        return [self.table.lines(family.element, family.family) for family in self.families]

    def emitted(self, lines: list[tuple[Line, ...]]) -> tuple[FloatArray, FloatArray]:
        """Return energies in keV and photons per atom, absorption left out, of all families' lines in a row, (line,).

        Photons are in `strength_unit`: strengths are of order 1e-22 cm2, and scaled to order 1 weights are too.
        """
        energy = np.array([line.energy_keV for part in lines for line in part])
        strength = np.array([line.strength for part in lines for line in part])
        amount = np.repeat([family.amount for family in self.families], [len(part) for part in lines])
        return energy, strength * (self.detector.efficiency(energy) * amount) / self.strength_unit

    def transmitted(self, atom_fractions: FloatArray, energy_keV: FloatArray) -> FloatArray:
        """Share of the photons that leave a film of this composition, shape of `energy_keV`."""
        return np.asarray(thin_film_factor(self.film.depth(self.elements, atom_fractions, energy_keV)))

    def continuum_spectra(
        self, atom_fractions: FloatArray, edges_keV: FloatArray | None = None
    ) -> FloatArray:
        """Physical continuum split by hat functions, shape (phase, knot, energy), each phase summing to 1."""
        edges = self.edges_keV if edges_keV is None else edges_keV
        centre = 0.5 * (edges[1:] + edges[:-1])
        shape = bremsstrahlung(edges, self.beam_energy_keV, self.detector.efficiency) * self.continuum(centre)
        absorbed = np.stack([shape * self.transmitted(x, centre) for x in atom_fractions])
        # The hats' logarithm ends at one bin where the axis reaches zero.
        lowest = max(self.edges_keV[0], self.edges_keV[1] - self.edges_keV[0])
        hats = hat_functions(centre, lowest, self.edges_keV[-1], CONTINUUM_KNOTS)
        pieces = absorbed[:, None, :] * hats
        return shares_of(pieces, axis=(1, 2))

    def basis(
        self, atom_fractions: FloatArray, allowed: npt.NDArray[np.bool_]
    ) -> tuple[EndmemberBasis, FloatArray]:
        """Arrays of the model and the yields of the main families.

        Parameters
        ----------
        atom_fractions : (phase, element)
            Compositions that absorb.
        allowed : (phase, element) bool
            False where an element is declared absent.

        Returns
        -------
        EndmemberBasis and the detected counts per atom, shape (phase, element).
        """
        spectra = self.family_spectra(atom_fractions)
        area = np.maximum(spectra.sum(axis=2), 1e-300)
        main = np.array([family.main for family in self.families])
        main_area = np.zeros((len(area), len(self.components)))
        main_area[:, self.owner[main]] = area[:, main]
        continuum = self.continuum_spectra(atom_fractions)
        every = np.ones((len(area), len(self.components)), bool)
        every[:, : len(self.elements)] = allowed
        basis = EndmemberBasis(
            allowed=every,
            family_templates=spectra / area[:, :, None],
            family_owner=self.owner,
            family_ratio=area / main_area[:, self.owner],
            ratio_sd=self.ratio_sd(),
            continuum_templates=shares_of(continuum),
            continuum_area=continuum.sum(axis=2),
            floor=np.full(continuum.shape[2], 1.0 / continuum.shape[2]),
        )
        return basis, main_area[:, : len(self.elements)]

    def _main_lines(self) -> Iterator[tuple[int, FloatArray, FloatArray]]:
        """Yield of each element's main family the element's place, and energies and strengths of the lines."""
        for family in self.families:
            if family.main and not family.stray and family.element in self.elements:
                lines = self.table.lines(family.element, family.family)
                energy = np.array([line.energy_keV for line in lines])
                emitted = np.array([line.strength for line in lines]) * self.detector.efficiency(energy)
                yield self.elements.index(family.element), energy, emitted

    def yield_change(self, atom_fractions: FloatArray) -> FloatArray:
        """Yield of each element at multiples `THICKNESS_GRID` of the mean thickness over that at the mean.

        Returns
        -------
        (thickness, phase, element)
        """
        change = np.ones((len(THICKNESS_GRID), len(atom_fractions), len(self.elements)))
        for place, energy, emitted in self._main_lines():
            for phase, fractions in enumerate(atom_fractions):
                depth = self.film.depth(self.elements, fractions, energy)
                detected = thin_film_factor(THICKNESS_GRID[:, None] * depth) @ emitted
                here = thin_film_factor(depth) @ emitted
                change[:, phase, place] = detected / here if here > 0.0 else 1.0
        return change

    def absorber_slopes(self, atom_fractions: FloatArray) -> FloatArray:
        """Return d ln yield / d ln (mass absorption coefficient), shape (phase, element, absorber, 2).

        With chi_a the depth that absorber a adds to chi, d ln A / d ln mu_a = (d ln A / d ln chi) chi_a / chi. The
        first is by the coefficient, and so by the absorber's weight fraction; the second by an error of the coefficient
        above 1 keV and away from edges, which at a line is `coefficient_doubt` times as large.
        """
        absorbers = self.film.absorbers(self.elements)
        slopes = np.zeros((len(atom_fractions), len(self.elements), len(absorbers), 2))
        for place, energy, emitted in self._main_lines():
            doubt = np.array([coefficient_doubt(absorber, energy) for absorber in absorbers])
            for phase, fractions in enumerate(atom_fractions):
                parts = self.film.depths(self.elements, fractions, energy)
                depth = parts.sum(axis=0)
                detected = emitted * thin_film_factor(depth)
                per_depth = detected * absorption_slope(depth) / np.maximum(depth, 1e-300)
                slopes[phase, place] = ratio_of(
                    np.stack([parts, doubt * parts]) @ per_depth, detected.sum()
                ).T
        return slopes

    def absorber_weights(self, atom_fractions: FloatArray) -> FloatArray:
        """Weight fractions of the absorbing elements, (..., absorber), from atom fractions (..., element).

        Zeros where there are no atoms.
        """
        weights = atom_fractions * np.array([atomic_weight(element) for element in self.elements])
        if len(self.film.absorbers(self.elements)) > len(self.elements):
            bound = np.array([oxygen_per_cation(element) for element in self.elements])
            oxygen = (atom_fractions * bound).sum(axis=-1, keepdims=True) * atomic_weight("O")
            weights = np.concatenate([weights, oxygen], axis=-1)
        return shares_of(weights)


def forward_model(
    elements: Sequence[str],
    stray: Sequence[str],
    *,
    table: LineTable,
    detector: Detector,
    response: Response,
    film: Film,
    beam_energy_keV: float,
    edges_keV: FloatArray,
    seen_oxygen: bool,
    flanks: Mapping[tuple[str, str], float] | None = None,
    undeclared: Mapping[str, float] | None = None,
    continuum: ContinuumCorrection = NO_CORRECTION,
) -> ForwardModel:
    """Choose families and components for the declared elements.

    Parameters
    ----------
    elements, stray : sequences of str
    table, detector, response, film, beam_energy_keV
        Physics; `response` is the one fitted to the map.
    edges_keV : (energy + 1,)
        Edges of the fitted bins.
    seen_oxygen : bool
        Fit oxygen's lines, where they are in range, without reporting oxygen.
    flanks : mapping of (element, family) to float, optional
        Families off the axis whose flanks the sum spectrum shows, and their counts there: together one component, in
        these proportions.
    undeclared : mapping of str to float, optional
        Elements found in the sum spectrum and their counts there: one component as well.
    continuum : ContinuumCorrection
        Smooth factor on the physical continuum.

    Raises
    ------
    InputError
        If a declared element has no line in the energy range.
    """
    low, high = float(edges_keV[0]), float(edges_keV[-1])
    hidden = (
        ["O"]
        if seen_oxygen and "O" not in elements and "O" not in stray and table.families("O", low, high)
        else []
    )
    components: list[str] = []
    families: list[Family] = []
    for element in (*elements, *hidden):
        found = table.families(element, low, high, FEWEST_INSIDE)
        if not found:
            raise InputError(
                "sample.elements", f"have lines between {low:.4g} and {high:.4g} keV", f"{element} has none"
            )
        main = main_family(element, found, table, detector)
        least = WEAKEST_FAMILY * table.detected_strength(element, main, detector.efficiency)
        for name in found:
            if table.detected_strength(element, name, detector.efficiency) >= least:
                families.append(
                    Family(element=element, family=name, component=len(components), main=name == main)
                )
        components.append(element)
    for group in _alike(
        [(e, name) for e in stray for name in table.families(e, low, high, FEWEST_INSIDE)], table, response
    ):
        for place, (element, name) in enumerate(group):
            families.append(
                Family(
                    element=element,
                    family=name,
                    component=len(components),
                    main=place == 0,
                    stray=True,
                    tied=place > 0,
                )
            )
        components.append("+".join(f"{element}_{name}" for element, name in group))
    if flanks:
        shown = [(element, (family,), counts) for (element, family), counts in flanks.items()]
        families += _together(shown, len(components), table, detector)
        components.append(FLANKS)
    if undeclared:
        found_ = [(element, table.families(element, low, high), n) for element, n in undeclared.items()]
        families += _together(found_, len(components), table, detector)
        components.append(UNDECLARED)
    return ForwardModel(
        elements=tuple(elements),
        components=(*components, "continuum"),
        families=tuple(families),
        table=table,
        detector=detector,
        response=response,
        film=film,
        beam_energy_keV=beam_energy_keV,
        edges_keV=np.asarray(edges_keV, float),
        continuum=continuum,
    )


def main_family(element: str, families: Sequence[str], table: LineTable, detector: Detector) -> str:
    """Return the best calibrated of an element's families with enough counts."""
    strength = {name: table.detected_strength(element, name, detector.efficiency) for name in families}
    enough = [name for name in families if strength[name] >= MAIN_SHARE * max(strength.values())]
    return min(enough, key=lambda name: (table.calibration_sd(element, name), -strength[name]))


def _together(
    counted: Sequence[tuple[str, Sequence[str], float]],
    component: int,
    table: LineTable,
    detector: Detector,
) -> list[Family]:
    """Families of several elements as one component, the first of the one with most counts as its main one.

    Parameters
    ----------
    counted
        Element, families and counts of them together, on the axis and off it.
    """
    found: list[Family] = []
    for element, names, counts in sorted(counted, key=lambda one: -one[2]):
        detected = sum(table.detected_strength(element, name, detector.efficiency) for name in names)
        for name in names:
            main = not found
            found.append(
                Family(
                    element=element,
                    family=name,
                    component=component,
                    main=main,
                    stray=True,
                    tied=not main,
                    amount=counts / detected,
                )
            )
    return found


def _alike(stray: list[tuple[str, str]], table: LineTable, response: Response) -> list[list[tuple[str, str]]]:
    """Group stray families whose peaks the detector cannot tell apart (Pt M and Zr L): together they are one component.

    Their split is not reported, and as separate parameters they would make a ridge of the posterior that says nothing.
    """
    groups: list[list[tuple[str, str]]] = []
    spectra: list[FloatArray] = []
    edges = np.arange(0.1, 60.0, 0.01)
    for element, name in stray:
        lines = table.lines(element, name)
        spectrum = response.spectrum(
            [line.energy_keV for line in lines], [line.strength for line in lines], edges
        )
        root = np.sqrt(spectrum / spectrum.sum())
        twin = next((i for i, other in enumerate(spectra) if root @ other > SAME_PEAKS), None)
        if twin is None:
            groups.append([(element, name)])
            spectra.append(root)
        else:
            groups[twin].append((element, name))
    return groups
