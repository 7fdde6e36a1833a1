"""Maps of known truth, drawn from the physics that the unmixing assumes.

The counts of channel c in pixel p are drawn from

    y_pc ~ Poisson( t_p sum_k b_pk m_kc A_kc(t_p) / A_kc(1) )

with t the film's relative thickness, b the abundances of the phases in atoms and m_k the counts per atom of phase k
where the film is as thick as its mean: the lines of its elements (and of the oxygen bound to them), absorbed in a film
of that phase by A_k; stray lines, alike per atom in all phases; and a continuum that goes with the mean square of the
atomic number. The detector's response is slightly off nominal, so that a fit of the energy axis has something to find.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.simulation import DEFAULT_STRAY_SHARE, SimulateConfig, SimulatedPhase
from bayesunmix.core.disk_array import DiskArray
from bayesunmix.core.errors import InputError
from bayesunmix.core.memory import check_simulation, held_in_memory
from bayesunmix.core.summary import Summarised, Summary
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.counts import Compact, Growing, ReadCounts
from bayesunmix.data.image import HyperSpySignal, SpectrumImage
from bayesunmix.forward.line_table import line_table
from bayesunmix.forward.quantify import THINNEST
from bayesunmix.forward.spectra import THICKNESS_GRID, Film
from bayesunmix.simulation.phantom import grain_layout, phantom_config, smooth_field
from bayesunmix.xray import (
    Detector,
    LineTable,
    Response,
    atomic_number,
    bremsstrahlung,
    channel_edges,
    thin_film_factor,
)
from bayesunmix.xray.absorption import oxygen_per_cation
from bayesunmix.xray.response import STRAIGHT, TYPICAL_RESOLUTION_EV

__all__ = [
    "KnownComposition",
    "SimulateConfig",
    "SimulatedMap",
    "SimulatedPhase",
    "Source",
    "Truth",
    "grain_layout",
    "load_truth",
    "phantom_config",
    "simulate_map",
]

FloatArray = npt.NDArray[np.float64]

# Where the configuration does not say: the microscope of the 71 GPa map.
BEAM_ENERGY_KEV = 200.0
TAKEOFF_ANGLE_DEG = 22.0
# The simulated detector, as fitted to the 71 GPa map: axis 0.15 % and 8 eV off, noise half a percent above nominal.
GAIN, OFFSET_KEV, NOISE_FACTOR = 0.9985, 0.008, 1.005
# The detector stands between the tilt axes, as in the microscopes with four detectors.
AZIMUTH_DEG = 45.0
PIXEL_NM = 1.7
# Grains of the thickness map are wider than those of the phases.
THICKNESS_WIDTH = 0.15
LEAST_THICKNESS = 0.05
THICKNESS_STEP = 0.02
# Counts are drawn in batches of about this many entries.
BATCH_ENTRIES = 2_000_000
# Where a signal's original metadata keep the truth.
TRUTH_KEY = "bayesunmix_truth"


@dataclass(frozen=True, eq=False)
class KnownComposition:
    """Compositions that a result can be judged by.

    Parameters
    ----------
    phases, elements
        Names, in the order of the array.
    composition
        Atom fractions among the declared elements, shape (phase, element).
    """

    phases: tuple[str, ...]
    elements: tuple[str, ...]
    composition: FloatArray

    def partition(self, numerator: str, denominator: str) -> dict[str, float]:
        """Return the ratio of two phases' atom fractions by element; NaN where both are zero."""
        top = self.composition[self.phases.index(numerator)]
        bottom = self.composition[self.phases.index(denominator)]
        with np.errstate(divide="ignore", invalid="ignore"):
            return dict(zip(self.elements, (top / bottom).tolist(), strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class Truth(KnownComposition):
    """What a simulated map was drawn from, besides compositions.

    Parameters
    ----------
    abundances
        Share of each phase in the atoms of the declared elements, shape (y, x, phase).
    endmembers
        Spectrum of each phase with stray lines and continuum, adding up to 1, shape (phase, energy).
    counts_per_atom
        Relative counts per atom of each phase on the whole axis, shape (phase,).
    thickness
        Relative thickness with mean 1, shape (y, x).
    line_factors
        Strength of each line family over that of the line table, keyed like ``Fe_K``.
    mass_thickness_factor
        Mass thickness of the film over the mean of its prior.
    response
        Response of the detector.
    seed
        Seed of the draw.
    """

    abundances: FloatArray
    endmembers: FloatArray
    counts_per_atom: FloatArray
    thickness: FloatArray
    line_factors: Mapping[str, float]
    mass_thickness_factor: float
    response: Response
    seed: int

    def to_metadata(self) -> dict[str, Any]:
        """Return the truth as a dictionary of lists, numbers and arrays, which a HyperSpy file can hold."""
        plain = dataclasses.asdict(self)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> Truth:
        """Return the truth of a signal's original metadata, given as nested dictionaries.

        Raises
        ------
        InputError
            If they hold none.
        """
        if TRUTH_KEY not in metadata:
            raise InputError("MAP", "be a map drawn by `bayesunmix simulate`", "holds no truth")
        stored = dict(metadata[TRUTH_KEY])
        arrays = ("composition", "abundances", "endmembers", "counts_per_atom", "thickness")
        stored.update({name: np.asarray(stored[name], dtype=np.float64) for name in arrays})
        stored.update({name: tuple(str(entry) for entry in stored[name]) for name in ("phases", "elements")})
        stored["line_factors"] = {key: float(value) for key, value in dict(stored["line_factors"]).items()}
        stored["response"] = _stored_response(dict(stored["response"]))
        stored["mass_thickness_factor"] = float(stored["mass_thickness_factor"])
        stored["seed"] = int(stored["seed"])
        return cls(**stored)


def _stored_response(stored: dict[str, Any]) -> Response:
    """Return a response as a file holds it: numbers, and pairs as nested lists."""
    bend = tuple(np.ravel(stored.pop("bend_eV", STRAIGHT)).astype(float).tolist())
    pairs = np.reshape(np.asarray(stored.pop("pile_up", ()), float), (-1, 2)).tolist()
    numbers = {key: float(value) for key, value in stored.items()}
    return Response(**numbers, bend_eV=bend, pile_up=tuple((energy, share) for energy, share in pairs))


@dataclass(frozen=True, eq=False, repr=False)
class SimulatedMap(Summarised):
    """A simulated map and what it was drawn from.

    Parameters
    ----------
    image
        The map.
    truth
        Its truth.
    """

    image: SpectrumImage
    truth: Truth

    def _summary(self) -> Summary:
        truth = self.truth
        shares = 100.0 * truth.abundances.mean(axis=(0, 1))
        phases = [f"{name} {share:.3g} %" for name, share in zip(truth.phases, shares, strict=True)]
        rows = (("phases", f"{', '.join(phases)} of the atoms"), ("elements", ", ".join(truth.elements)))
        return Summary(f"Simulated map, seed {truth.seed}", rows, (repr(self.image),))

    def to_signal(self) -> HyperSpySignal:
        """Return the map as a HyperSpy ``EDSTEMSpectrum`` whose original metadata hold the truth."""
        signal = self.image.to_signal()
        signal.original_metadata.add_dictionary({TRUTH_KEY: self.truth.to_metadata()})
        return signal


def load_truth(path: str | Path) -> Truth:
    """Return the truth that a saved simulation (.hspy) carries.

    Raises
    ------
    InputError
        If the file does not exist or carries none.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError("MAP", "be an existing file", f'"{file}" does not exist')
    from rsciio.hspy import file_reader

    (entry, *_) = file_reader(str(file), lazy=True)
    return Truth.from_metadata(entry["original_metadata"])


def simulate_map(
    config: RunConfig | Mapping[str, Any],
    seed: int,
    *,
    abundances: npt.ArrayLike | None = None,
    departure: Callable[[Source], Source] | None = None,
) -> SimulatedMap:
    """Draw a map of known truth.

    Parameters
    ----------
    config
        Sample, instrument, phases with ``composition`` and ``fraction``, and the table ``[simulate]``; also as nested
        dictionaries like the tables of a file.
    seed
        Seed of layout, thickness, calibration error and counts; `SimulateConfig.seed` is not looked at.
    abundances
        Share of each phase in the atoms of each pixel, shape (y, x, phase), such as those of a measured map; they say
        then how large the map is and how much there is of a phase, and `[simulate] shape` and ``fraction`` are not
        looked at. Drawn when left out.
    departure
        Changes the physics that the counts are drawn from, after the calibration error: what no configuration can say,
        such as another law of the peak widths.

    Returns
    -------
    SimulatedMap

    Raises
    ------
    InputError
        If the configuration lacks the truth of a phase, an element has no line on the energy axis, or the abundances
        are not shares of that many phases.
    """
    config = RunConfig.from_dict(config) if isinstance(config, Mapping) else config
    plan, phases = config.truth()
    check_simulation(plan.shape, len(phases))
    layout, depth, errors, photons = (
        np.random.default_rng(part) for part in np.random.SeedSequence(seed).spawn(4)
    )
    if abundances is None:
        matrix = [phase.matrix for phase in config.phases if not isinstance(phase, str)]
        abundances = grain_layout(plan.shape, [phase.fraction for phase in phases], matrix, layout)
    else:
        abundances = _given_abundances(abundances, len(phases))
        plan = dataclasses.replace(plan, shape=abundances.shape[:2])
    thickness = _thickness(plan, depth)
    elements = config.sample.elements
    composition = np.array(
        [[phase.composition.get(element, 0.0) for element in elements] for phase in phases]
    )
    source = Source.of(config, plan)
    if plan.calibration_error:
        source = source.with_errors(errors)
    if departure is not None:
        source = departure(source)
    atoms = (thickness[:, :, None] * abundances).mean(axis=(0, 1))
    spectra = source.counts_per_atom(composition, atoms, plan)
    truth = Truth(
        phases=tuple(phase.name for phase in phases),
        elements=elements,
        composition=composition,
        abundances=abundances,
        endmembers=spectra / spectra.sum(axis=1, keepdims=True),
        counts_per_atom=spectra.sum(axis=1),
        thickness=thickness,
        line_factors=source.factors,
        mass_thickness_factor=source.mass_thickness,
        response=source.response,
        seed=seed,
    )
    per_atom = spectra * (plan.counts_per_pixel / float((atoms @ spectra).sum()))
    counts = _draw(abundances, thickness, per_atom, source.absorption_depth(composition), photons)
    image = SpectrumImage(
        counts=counts if isinstance(counts, np.ndarray) else ReadCounts(counts, None, 0),  # type: ignore[arg-type]
        energy_keV=_axis(plan),
        acquisition=_acquisition(config),
        pixel_size=(PIXEL_NM, PIXEL_NM),
        pixel_unit="nm",
        name=f"simulated, seed {seed}",
    )
    return SimulatedMap(image, truth)


def _given_abundances(abundances: npt.ArrayLike, n_phases: int) -> FloatArray:
    """Return abundances that add up to 1 in every pixel, or say what is wrong with them."""
    shares = np.asarray(abundances, dtype=np.float64)
    must = f"be non-negative, of shape (y, x, {n_phases}), and add up to 1 in every pixel"
    if shares.ndim != 3 or shares.shape[2] != n_phases:
        raise InputError("abundances", must, f"have the shape {shares.shape}")
    total = shares.sum(axis=2, keepdims=True)
    # Maps are often stored in single precision.
    if not (shares.min() >= 0.0 and np.allclose(total, 1.0, atol=1e-4)):
        raise InputError(
            "abundances",
            must,
            f"are down to {shares.min():g}, with sums from {total.min():g} to {total.max():g}",
        )
    return np.asarray(shares / total)


@dataclass(frozen=True, kw_only=True)
class Source:
    """The physics that one simulated map is drawn from.

    Parameters
    ----------
    elements, stray
        Elements of the compositions, and those that belong to no phase.
    oxygen
        Draw the lines of the oxygen that the elements bind.
    table, detector, response
        Line strengths, detector efficiency, and what becomes of photon energies on the axis.
    film
        The specimen as an absorber.
    beam_energy_keV
        Energy of the electrons in keV.
    edges
        Edges of the channels in keV, shape (energy + 1,).
    factors
        Strength of each line family over that of the table, keyed like ``Fe_K``.
    mass_thickness
        Mass thickness of the film over the mean of its prior; `film` holds it already.
    """

    elements: tuple[str, ...]
    stray: tuple[str, ...]
    oxygen: bool
    table: LineTable
    detector: Detector
    response: Response
    film: Film
    beam_energy_keV: float
    edges: FloatArray
    factors: dict[str, float]
    mass_thickness: float

    @classmethod
    def of(cls, config: RunConfig, plan: SimulateConfig) -> Source:
        """Collect the physics with nominal line strengths."""
        sample, facts = config.sample, _acquisition(config)
        detector = Detector.from_resolution(_given(facts.resolution_eV))
        beam, nominal = _given(facts.beam_energy_keV), detector.response
        table = line_table(config, beam, detector)
        edges = channel_edges(_axis(plan))
        foreign = [element for element in plan.stray if element not in sample.stray]
        if foreign:
            raise InputError("simulate.stray", "name elements of `sample.stray`", f"holds {foreign[0]}")
        _check_lines("sample.elements", sample.elements, table, edges)
        _check_lines("sample.stray", sample.stray, table, edges)
        bound = sample.oxygen == "stoichiometry"
        density = sample.density_prior_g_cm3
        return cls(
            elements=sample.elements,
            stray=sample.stray,
            oxygen=bound and "O" in table.elements,
            table=table,
            detector=detector,
            response=Response(
                gain=GAIN, offset_keV=OFFSET_KEV, noise_eV=NOISE_FACTOR * nominal.noise_eV, fano=nominal.fano
            ),
            film=Film(
                thickness_nm=sample.thickness_prior_nm,
                density_g_cm3=density,
                takeoff_angle_deg=facts.takeoff_angle_deg,
                oxygen=bound,
                absorption_sd=config.xray.absorption_sd,
            ),
            beam_energy_keV=beam,
            edges=edges,
            factors={
                f"{element}_{family}": 1.0 for element in table.elements for family in table.families(element)
            },
            mass_thickness=1.0,
        )

    def with_errors(self, rng: np.random.Generator) -> Source:
        """Return the same physics, strengths, mass thickness and absorption off by draws of the inference's priors."""
        sd = [self.table.calibration_sd(*name.split("_")) for name in self.factors]
        factors = dict(zip(self.factors, np.exp(rng.normal(0.0, sd)).tolist(), strict=True))
        drawn = abs(1.0 + self.film.mass_thickness_sd * rng.standard_normal())
        relative = float(np.clip(drawn, THINNEST, THICKNESS_GRID[-1]))
        mean, spread = self.film.thickness_nm
        absorbers = self.film.absorbers(self.elements)
        errors = rng.standard_normal(len(absorbers))
        film = dataclasses.replace(
            self.film,
            thickness_nm=(mean * relative, spread),
            coefficient_errors=dict(zip(absorbers, errors.tolist(), strict=True)),
        )
        return dataclasses.replace(self, factors=factors, film=film, mass_thickness=relative)

    def counts_per_atom(self, composition: FloatArray, atoms: FloatArray, plan: SimulateConfig) -> FloatArray:
        """Return the counts per atom of each phase up to one common factor, shape (phase, energy).

        Parameters
        ----------
        composition
            (phase, element)
        atoms
            Atoms of each phase on the map, shape (phase,).
        plan
            Shares of continuum and stray elements in the map's counts.
        """
        lines = self.line_counts(composition, self._atoms_of(composition))
        stray_shares = np.array([plan.stray.get(element, DEFAULT_STRAY_SHARE) for element in self.stray])
        share = 1.0 - plan.continuum - stray_shares.sum()
        if share <= 0.0:
            raise InputError("simulate.stray", "leave counts for the phases", f"leaves a share of {share:g}")
        total = float((atoms @ lines).sum()) / share
        for element, part in zip(self.stray, stray_shares, strict=True):
            one = self.line_counts(composition, {element: np.ones(len(composition))})
            lines = lines + part * total / float((atoms @ one).sum()) * one
        continuum = self.continuum(composition)
        return np.asarray(lines + plan.continuum * total / float((atoms @ continuum).sum()) * continuum)

    def absorption_depth(self, composition: FloatArray) -> FloatArray:
        """Return the absorption depth of each phase's film at its mean thickness, shape (phase, energy)."""
        centre = np.maximum(0.5 * (self.edges[1:] + self.edges[:-1]), self.edges[1] - self.edges[0])
        return np.stack([self.film.depth(self.elements, x, centre) for x in composition])

    def _atoms_of(self, composition: FloatArray) -> dict[str, FloatArray]:
        """Atoms of each emitting element per declared atom, by element of shape (phase,)."""
        atoms = dict(zip(self.elements, composition.T, strict=True))
        if self.oxygen:
            atoms["O"] = composition @ np.array([oxygen_per_cation(element) for element in self.elements])
        return atoms

    def line_counts(self, composition: FloatArray, atoms: Mapping[str, FloatArray]) -> FloatArray:
        """Return the lines detected of some elements in every phase, absorbed in a film of it, shape (phase, energy).

        Parameters
        ----------
        composition
            (phase, element), of the film that absorbs.
        atoms
            Atoms of each emitting element in each phase, shape (phase,) each.
        """
        lines = [line for element in atoms for line in self.table.lines(element)]
        energy = np.array([line.energy_keV for line in lines])
        factor = np.array([self.factors.get(f"{line.element}_{line.family}", 1.0) for line in lines])
        strength = np.array([line.strength for line in lines]) * factor * self.detector.efficiency(energy)
        amount = np.stack([atoms[line.element] for line in lines], axis=1)
        absorbed = thin_film_factor(
            np.stack([self.film.depth(self.elements, x, energy) for x in composition])
        )
        areas = amount * strength * absorbed
        return np.stack([self.response.spectrum(energy, area, self.edges) for area in areas])

    def continuum(self, composition: FloatArray) -> FloatArray:
        """Bremsstrahlung per atom, which goes with the square of the atomic number, shape (phase, energy).

        Notes
        -----
        The Z² law is that of Bethe and Heitler, Proc. R. Soc. A 146 (1934) 83, doi:10.1098/rspa.1934.0140.
        """
        atoms = self._atoms_of(composition)
        carbon = (composition.sum(axis=1) == 0.0) * float(atomic_number("C") ** 2)  # a support
        square = sum((amount * atomic_number(element) ** 2 for element, amount in atoms.items()), carbon)
        shape = bremsstrahlung(self.edges, self.beam_energy_keV, self.detector.efficiency)
        centre = 0.5 * (self.edges[1:] + self.edges[:-1])
        factors = [thin_film_factor(self.film.depth(self.elements, x, centre)) for x in composition]
        return np.asarray(np.reshape(square, (-1, 1)) * shape * np.stack(factors))


def _axis(plan: SimulateConfig) -> FloatArray:
    return np.asarray(plan.offset_keV + plan.step_keV * np.arange(plan.channels), dtype=np.float64)


def _given(value: float | None) -> float:
    """Return a fact that `_acquisition` has filled in."""
    if value is None:
        raise TypeError("the facts of a simulated map are complete")
    return value


def _check_lines(name: str, elements: Sequence[str], table: LineTable, edges: FloatArray) -> None:
    """Refuse an element none of whose lines lies on the axis."""
    for element in elements:
        if element not in table.elements or not table.families(element, edges[0], edges[-1]):
            must = f"have lines on the axis from {edges[0]:.4g} to {edges[-1]:.4g} keV"
            raise InputError(
                name, must, f"{element} has none", "Change `simulate.offset_keV`, `step_keV` or `channels`."
            )


def _thickness(plan: SimulateConfig, rng: np.random.Generator) -> FloatArray:
    """Relative thickness (y, x) of mean 1, varying smoothly, on a wedge along x where there is one."""
    columns = plan.shape[1]
    slope = plan.wedge * (np.arange(columns) - 0.5 * (columns - 1)) / columns
    raw = 1.0 + slope + plan.thickness_variation * smooth_field(plan.shape, rng, THICKNESS_WIDTH)
    positive = np.maximum(raw, LEAST_THICKNESS)
    return np.asarray(positive / positive.mean())


def _acquisition(config: RunConfig) -> Acquisition:
    """Facts of the simulated microscope: what the configuration says, completed."""
    instrument = config.instrument
    angle = instrument.takeoff_angle_deg or TAKEOFF_ANGLE_DEG
    return Acquisition(
        beam_energy_keV=instrument.beam_energy_keV or BEAM_ENERGY_KEV,
        takeoff_angle_deg=angle,
        resolution_eV=instrument.resolution_eV or TYPICAL_RESOLUTION_EV,
        azimuth_deg=AZIMUTH_DEG,
        elevation_deg=angle,
        tilt_deg=0.0,
        microscope="TEM",
        elements=config.sample.elements,
    )


def _draw(
    abundances: FloatArray,
    thickness: FloatArray,
    per_atom: FloatArray,
    depth: FloatArray,
    rng: np.random.Generator,
) -> Compact | DiskArray:
    """Draw Poisson counts (y, x, energy), batch by batch, onto the disk where memory does not take them with ease.

    Parameters
    ----------
    abundances, thickness
        (y, x, phase) and (y, x).
    per_atom, depth
        Counts per atom and absorption depth of each phase at the mean thickness, (phase, energy).
    rng
        Source of randomness.
    """
    rows, columns, phases = abundances.shape
    shares, thick = abundances.reshape(-1, phases), thickness.ravel()
    # Spectra at steps of thickness so fine that absorption changes by less than a count could tell.
    level = np.round(thick / THICKNESS_STEP).astype(int)
    spectra = {
        step: per_atom * thin_film_factor(step * THICKNESS_STEP * depth) / thin_film_factor(depth)
        for step in np.unique(level).tolist()
    }
    size = len(shares) * per_atom.shape[1]
    drawn = Growing((len(shares), per_atom.shape[1]), on_disk=not held_in_memory(size))
    batch = max(1, BATCH_ENTRIES // per_atom.shape[1])
    for first in range(0, len(shares), batch):
        part = slice(first, first + batch)
        weights, levels = shares[part] * thick[part, None], level[part]
        expected = np.empty((len(levels), per_atom.shape[1]))
        for step in np.unique(levels).tolist():
            expected[levels == step] = weights[levels == step] @ spectra[step]
        drawn.put((part,), rng.poisson(expected))
    counts, shape = drawn.counts, (rows, columns, per_atom.shape[1])
    return counts.reshaped(*shape) if isinstance(counts, DiskArray) else counts.reshape(shape)
