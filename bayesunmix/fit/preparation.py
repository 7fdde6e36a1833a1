"""What is settled before inference begins: energies, physics, the energy axis, and bins.

map + configuration -> energy range -> line table and detector -> response fitted to the sum spectrum -> bins and
blocks
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from bayesunmix.config.overlap import Overlap, declared_overlap, freer_overlaps
from bayesunmix.config.phase import Phase
from bayesunmix.config.priors import DEFAULT_PRIORS, Priors
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.disk_array import Picked, Rows
from bayesunmix.core.errors import InputError, warn
from bayesunmix.core.memory import check_maps
from bayesunmix.core.severity import UNDECLARED, Reservation, join
from bayesunmix.core.threads import single_thread
from bayesunmix.data.binning import BinnedCounts, bin_channels, bin_image, channel_bins, pixel_bins
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.map_bins import map_hash
from bayesunmix.fit.energy_axis import EnergyAxis, fitted_axis, given_axis, searched_axis
from bayesunmix.fit.known_pixels import known_pixels
from bayesunmix.fit.pixel_choice import LeftOut, choose_pixels
from bayesunmix.fit.reference_fit import ReferenceComposition, reference_composition
from bayesunmix.fit.reference_spectrum import (
    absent_notes,
    reference_config,
    reference_image,
    reference_notes,
)
from bayesunmix.forward.flanks import shown_flanks
from bayesunmix.forward.line_shapes import line_shapes
from bayesunmix.forward.line_table import line_table, with_factors
from bayesunmix.forward.pixel_thickness import PixelThickness, pixel_thickness
from bayesunmix.forward.spectra import Film, ForwardModel, forward_model, main_family
from bayesunmix.inference.sandwich import tile_labels
from bayesunmix.xray import Detector, LineTable, Refinement, fit_axis, refine, thin_film_factor
from bayesunmix.xray.atomic import FAMILIES
from bayesunmix.xray.refinement import merge_channels

FloatArray = npt.NDArray[np.float64]

# Bins of this share of the FWHM near lines cost under 5 % of the information on a weak peak, and half the time of
# finer ones.
BIN_FRACTION = 0.45
WEAK_LINE = 0.03
COUNTS_PER_BLOCK = 1000.0
# Below this energy there are no lines that the detector resolves from its zero peak.
LOWEST_ENERGY_KEV = 0.2
NOMINAL_RESOLUTION_EV = 130.0
# A beam that excites whatever has lines at all.
HIGH_BEAM_KEV = 300.0
# Tiles of the map whose differences say how certain a sum over it is.
N_TILES = 36


@dataclasses.dataclass(frozen=True)
class BinnedPixels:
    """Counts of every pixel in the fitted bins, binned when they are first asked for and not again."""

    image: SpectrumImage
    boundaries: npt.NDArray[np.int64]

    @cached_property
    def counts(self) -> Rows:
        """Counts (pixel, bin)."""
        return bin_channels(self.image, self.boundaries)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setup:
    """Everything that is settled before inference begins.

    Attributes
    ----------
    image : SpectrumImage
        Cropped to the fitted energies.
    axis_keV : (energy,)
        Energy axis of the whole map.
    axis : EnergyAxis
        Where that comes from.
    forward : ForwardModel
    spectrum : Refinement
        What the sum spectrum says about spectrometer, lines and continuum.
    blocks : BinnedCounts
    pixels : BinnedPixels
        Of the same bins; the pixels' pass and the checks share them.
    phases : tuple of Phase
        Empty where their number is yet to be inferred.
    mean_composition : (element,)
        Atom fractions of the whole map, from its sum spectrum.
    thickness : PixelThickness
        What the map's counts say about thickness from pixel to pixel.
    warnings : tuple of str
        What the user should know; all have been given as warnings too.
    left_out : tuple of LeftOut
        Pixels that take no part, and why.
    widths : Priors
        Of the model's priors.
    known : (y, x) int, optional
        Phase that a pixel is declared to hold alone, -1 where none is.
    aside : (y, x) bool, optional
        Pixels that the endmembers are not fitted to, since no mixture of the phases explains them: see
        `bayesunmix.fit.set_aside`. Their abundances are asked for all the same.
    max_overlap : int or ``auto``
        As in the configuration.
    chosen_overlap : Overlap, optional
        Which phases may share a pixel, once the mode's search has settled that.
    map_hash : str
        Tells the map as it was given, from `bayesunmix.data.map_bins.map_hash`.
    references : tuple of ReferenceComposition
        What the spectra of phases alone say, of those that were declared with one.
    """

    image: SpectrumImage
    axis_keV: FloatArray
    axis: EnergyAxis
    forward: ForwardModel
    spectrum: Refinement
    blocks: BinnedCounts
    pixels: BinnedPixels
    phases: tuple[Phase, ...]
    mean_composition: FloatArray
    thickness: PixelThickness
    warnings: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    widths: Priors = DEFAULT_PRIORS
    known: npt.NDArray[np.int64] | None = None
    aside: npt.NDArray[np.bool_] | None = None
    max_overlap: int | Literal["auto"] = "auto"
    chosen_overlap: Overlap | None = None
    map_hash: str = ""
    references: tuple[ReferenceComposition, ...] = ()

    @property
    def overlap(self) -> Overlap:
        """Which phases may share a pixel: what was settled, or what the search begins with."""
        return self.chosen_overlap or declared_overlap(self.max_overlap, self.phases)

    @property
    def alternatives(self) -> tuple[Overlap, ...]:
        """Freer ones that the counts are asked of; none once it is settled."""
        return () if self.chosen_overlap else freer_overlaps(self.overlap, self.phases)

    @property
    def hosts(self) -> npt.NDArray[np.bool_]:
        """Phases one of which every pixel of several phases holds, shape (phase,); none where any may meet."""
        return self.overlap.hosts(self.phases)

    @property
    def pixel_counts(self) -> Rows:
        """Counts of every pixel in the fitted bins, (pixel, bin)."""
        return self.pixels.counts

    @property
    def fitted(self) -> npt.NDArray[np.bool_]:
        """Pixels (y, x) that the endmembers are fitted to: those that take part, and are not set aside."""
        used = self.image.used
        return used if self.aside is None else used & ~self.aside

    @property
    def fitted_counts(self) -> Rows:
        """Counts of those pixels in the fitted bins, (pixel, bin)."""
        return used_rows(self.pixel_counts, self.fitted)

    @property
    def fitted_totals(self) -> npt.NDArray[np.int64]:
        """Counts of each pixel (y, x), none where it is set aside."""
        totals = self.image.total_counts
        return totals if self.aside is None else np.where(self.aside, 0, totals)

    @cached_property
    def fitted_spectrum(self) -> npt.NDArray[np.int64]:
        """Counts of each channel (energy,), summed over the pixels that are not set aside."""
        total = self.image.sum_spectrum()
        if self.aside is None:
            return total
        lines = np.flatnonzero(self.aside.any(axis=1))
        for part, band in self.image.bands((int(lines[0]), int(lines[-1]) + 1)) if lines.size else ():
            total -= band[self.aside[part]].sum(axis=0, dtype=np.int64)
        return total


def used_rows(pixels: Rows, used: npt.NDArray[np.bool_]) -> Rows:
    """Return the rows of the `used` pixels (y, x) among those of all pixels (pixel, ...), without a copy."""
    return pixels if used.all() else Picked(pixels, np.flatnonzero(used))


def prepare(
    image: SpectrumImage, config: RunConfig, progress: Callable[[float], None] | None = None
) -> Setup:
    """Check map against configuration, fit the energy axis and bin the counts.

    Parameters
    ----------
    image, config
        Map and configuration.
    progress
        Told the share of the map that is binned.

    Raises
    ------
    InputError
        If they do not go together.
    """
    with single_thread():
        setup = with_references(_prepared(image, config, progress), config)
    for note in setup.warnings:
        if note not in image.warnings:
            warn(note)
    return setup


def with_references(setup: Setup, config: RunConfig) -> Setup:
    """Fit the spectra of phases alone, each as a map of one pixel with physics and energies of the map."""
    found, notes = [], list(setup.warnings)
    facts = setup.image.acquisition
    for phase in setup.phases:
        if phase.reference is None:
            continue
        field = f"phases.{phase.name}.reference"
        spectrum = reference_image(phase.reference, field)
        told = reference_config(phase.reference, spectrum, config, setup.forward, facts, field)
        try:
            own = _prepared(spectrum, told, None)
        except InputError as error:
            raise error.about(field) from None
        one = reference_composition(
            phase=phase.name,
            counts=own.blocks.counts.sum(axis=0, dtype=np.float64),
            forward=own.forward,
            refined=own.spectrum,
            start=own.mean_composition,
            of_map=setup.forward,
            tolerance=phase.reference.tolerance,
        )
        found.append(one)
        notes += reference_notes(phase.name, own.image, facts, own.spectrum.shown)
        notes += absent_notes(one, phase.absent)
    return dataclasses.replace(setup, references=tuple(found), warnings=tuple(dict.fromkeys(notes)))


def _prepared(image: SpectrumImage, config: RunConfig, progress: Callable[[float], None] | None) -> Setup:
    notes, given = [*image.warnings, *config.assumptions()], map_hash(image)
    image, beam = _with_instrument(image, config)
    image, sample = given_axis(image, config.map), config.sample
    image, left_out = _chosen(image, config)
    film = _film(config, image, notes)
    detector = Detector.from_resolution(image.acquisition.resolution_eV or NOMINAL_RESOLUTION_EV)
    table = line_table(config, beam, detector)
    _check_emitting(sample.elements, table, config, beam)
    table = _with_stray(table, sample.stray, beam, notes)
    image, moved, doubts = searched_axis(image, config, beam, table, detector)
    low, high = _range(image, config, beam)
    check_maps(image.n_pixels, 1 if isinstance(config.phases, str) else len(config.phases))
    cropped = _checked_crop(image, low, high)
    edges = cropped.channel_edges_keV
    low, high = float(edges[0]), float(edges[-1])
    bound = film.oxygen and "O" in table.elements and "O" not in sample.stray
    hidden = ["O"] if bound and table.families("O", low, high) else []
    stray = [element for element in sample.stray if _has_lines(element, table, low, high, notes)]
    sources = [*sample.elements, *hidden]
    refined = _refined(
        cropped=cropped,
        elements=sample.elements,
        sources=sources,
        stray=stray,
        table=table,
        detector=detector,
        film=film,
        beam=beam,
    )
    axis = fitted_axis(image, config.map, moved, refined)
    seen = _on_axis(refined, (low, high))
    off = axis.note()
    notes += [*doubts, *([off] if off else [])]
    if refined.found:
        notes += _undeclared_notes(refined, _main_families(seen, sample.elements, table, detector))
    # Refined ratios inside a family keep its total; a factor of the alpha line is one of that line.
    table = with_factors(refined.table, config, detector)
    lines = _line_energies((*sources, *stray), table)
    boundaries = channel_bins(edges, refined.response.fwhm_keV, lines, BIN_FRACTION)
    side = pixel_bins(cropped.total_counts, COUNTS_PER_BLOCK, mask=cropped.mask)
    blocks = bin_image(cropped, boundaries, side, progress)
    forward = forward_model(
        sample.elements,
        stray,
        table=table,
        detector=detector,
        response=refined.response,
        film=film,
        beam_energy_keV=beam,
        edges_keV=blocks.edges_keV,
        seen_oxygen=bool(hidden),
        flanks=_flanks(cropped, refined, table),
        undeclared=refined.found,
        continuum=refined.continuum,
    )
    mean = mean_composition(seen, sample.elements, table, detector)
    forward = dataclasses.replace(forward, response_uncertainty=line_shapes(forward, refined, mean))
    thickness = pixel_thickness(blocks, forward, refined, mean)
    blocks = dataclasses.replace(blocks, counts=blocks.counts[blocks.total_counts > 0])
    phases = () if isinstance(config.phases, str) else config.phases
    said = tuple(dict.fromkeys(notes))
    left_out = (*left_out, *_empty(cropped))
    return Setup(
        image=cropped,
        axis_keV=image.energy_keV,
        axis=axis,
        forward=forward,
        spectrum=refined,
        blocks=blocks,
        pixels=BinnedPixels(cropped, boundaries),
        phases=phases,
        mean_composition=mean,
        thickness=thickness,
        warnings=said,
        left_out=left_out,
        widths=config.priors,
        known=known_pixels(cropped, phases),
        max_overlap=config.inference.max_overlap,
        map_hash=given,
    )


def _on_axis(refined: Refinement, ends: tuple[float, float]) -> dict[str, float]:
    """Return the counts of families with lines on the axis: those with but a flank say nothing of amounts."""
    return {
        name: counts
        for name, counts in refined.counts.items()
        if "+" in name or name.split("_")[1] in refined.table.families(name.split("_")[0], *ends)
    }


def _flanks(image: SpectrumImage, refined: Refinement, table: LineTable) -> dict[tuple[str, str], float]:
    """Families off the axis whose flanks the sum spectrum shows."""
    observed = image.sum_spectrum().astype(np.float64)
    declared = {name: n for name, n in refined.counts.items() if name.split("_")[0] not in refined.found}
    return shown_flanks(declared, observed, image.channel_edges_keV, table, refined.response)


def _chosen(image: SpectrumImage, config: RunConfig) -> tuple[SpectrumImage, tuple[LeftOut, ...]]:
    """Leave out the pixels that the configuration does not want, and say which these are."""
    mask, left_out = choose_pixels(image, config.map)
    same = np.array_equal(mask, ~image.kept)
    return (image if same else image.masked(mask)), left_out


def _empty(cropped: SpectrumImage) -> list[LeftOut]:
    """Say how many pixels hold no count at the fitted energies."""
    empty = int(np.count_nonzero(cropped.kept & ~cropped.used))
    return [LeftOut("without counts", empty)] if empty else []


def _with_instrument(image: SpectrumImage, config: RunConfig) -> tuple[SpectrumImage, float]:
    """Let the configuration overrule what the map says of the instrument; return the beam energy in keV, too."""
    given = {k: v for k, v in dataclasses.asdict(config.instrument).items() if v is not None}
    image = image.replace_facts(**given) if given else image
    if image.acquisition.excitation == "photons":
        raise InputError(
            "MAP",
            "be excited by electrons, whose physics this is",
            "was excited by photons (X-ray fluorescence)",
            "Where the file is wrong about that, set instrument.microscope.",
        )
    beam = image.acquisition.beam_energy_keV
    if beam is None:
        raise InputError(
            "instrument.beam_energy_keV",
            "be known",
            "is missing from map and configuration",
            "Set it in the configuration.",
        )
    return image, beam


def _refined(
    cropped: SpectrumImage,
    elements: Sequence[str],
    sources: Sequence[str],
    stray: Sequence[str],
    table: LineTable,
    detector: Detector,
    film: Film,
    beam: float,
) -> Refinement:
    """Fit what the sum spectrum can tell: first the axis, then all of the detector and the lines."""
    total, edges = cropped.sum_spectrum().astype(np.float64), cropped.channel_edges_keV
    merged = merge_channels(total, edges, detector.response)
    rough = fit_axis(*merged, table, sources, stray, beam_energy_keV=beam, detector=detector)
    counted = dict(zip(rough.components, rough.weights.tolist(), strict=True))
    first = mean_composition(counted, elements, table, detector)
    return refine(
        counts=total,
        channel_edges_keV=edges,
        table=table,
        elements=sources,
        stray=stray,
        axis_fit=rough,
        beam_energy_keV=beam,
        detector=detector,
        transmission=lambda energy_keV: thin_film_factor(film.depth(elements, first, energy_keV)),
    )


def _range(image: SpectrumImage, config: RunConfig, beam: float) -> tuple[float, float]:
    """Return the configured energies in keV, or all that can hold lines."""
    edges = image.channel_edges_keV
    if config.map.energy_range is not None:
        low, high = config.map.energy_range
        if high > beam:
            raise InputError(
                "map.energy_range", f"end below the beam energy of {beam:g} keV", f"ends at {high:g} keV"
            )
        return low, high
    low, high = max(edges[0], LOWEST_ENERGY_KEV), min(edges[-1], 0.98 * beam)
    if not low < high:
        raise InputError(
            "energy_keV",
            f"reach between {LOWEST_ENERGY_KEV:g} keV and the beam energy",
            f"ends at {edges[-1]:.3g}",
        )
    return float(low), float(high)


def _checked_crop(image: SpectrumImage, low_keV: float, high_keV: float) -> SpectrumImage:
    """Crop the map, and refuse a range in which it holds nothing."""
    inside = (image.energy_keV >= low_keV) & (image.energy_keV <= high_keV)
    if inside.any() and not image.sum_spectrum()[inside].any():
        raise InputError(
            "map.energy_range", "hold counts", f"there is none between {low_keV:.3g} and {high_keV:.3g} keV"
        )
    try:
        return image.crop_energy(low_keV, high_keV)
    except InputError as error:
        raise error.about("map.energy_range") from None


def _film(config: RunConfig, image: SpectrumImage, notes: list[str]) -> Film:
    """Describe the specimen as an absorber, and note what is assumed about it."""
    sample, angle = config.sample, image.acquisition.takeoff_angle_deg
    if angle is None:
        text = "The take-off angle is unknown: absorption in the film was left out; set `instrument.takeoff_angle_deg`."
        notes.append(Reservation(text))
    return Film(
        thickness_nm=sample.thickness_prior_nm,
        density_g_cm3=sample.density_prior_g_cm3,
        takeoff_angle_deg=angle,
        oxygen=sample.oxygen == "stoichiometry",
        absorption_sd=config.xray.absorption_sd,
    )


def _check_emitting(elements: Sequence[str], table: LineTable, config: RunConfig, beam: float) -> None:
    """Refuse elements of which there are no lines, and name what is at fault: the table, the beam or the element."""
    dark = [element for element in elements if element not in table.elements]
    if not dark:
        return
    if config.xray.table is not None:
        raise InputError("xray.table", f"hold lines of {', '.join(dark)}", f"has none ({table.source})")
    excited = LineTable.built_in(HIGH_BEAM_KEV, dark).elements
    if not excited:
        must = f"name elements with lines above {LOWEST_ENERGY_KEV:g} keV"
        raise InputError("sample.elements", must, f"holds {dark[0]}")
    if config.instrument.beam_energy_keV is None:
        must = f"name elements that the map's beam of {beam:g} keV excites"
        raise InputError("sample.elements", must, f"holds {excited[0]}")
    must = f"excite {', '.join(excited)} of `sample.elements`"
    raise InputError("instrument.beam_energy_keV", must, f"is {beam:g}")


def _with_stray(
    table: LineTable, stray: Sequence[str], beam_energy_keV: float, notes: list[str]
) -> LineTable:
    """Add built-in lines of stray elements that a table lacks: their amounts are free, so units do not matter."""
    missing = [element for element in stray if element not in table.elements]
    built_in = LineTable.built_in(beam_energy_keV, missing)
    if not built_in.elements:
        return table
    notes.append(
        f"The line table holds no lines of {', '.join(built_in.elements)}: as stray signal they were fitted with "
        "built-in lines."
    )
    return dataclasses.replace(table, entries=(*table.entries, *built_in.entries))


def _line_energies(elements: Sequence[str], table: LineTable) -> FloatArray:
    """Energies around which bins are fine: lines that carry a share of their element's counts."""
    energies: list[float] = []
    for element in elements:
        lines = table.lines(element)
        strongest = max(line.strength for line in lines)
        energies += [line.energy_keV for line in lines if line.strength > WEAK_LINE * strongest]
    return np.array(energies)


def _has_lines(element: str, table: LineTable, low: float, high: float, notes: list[str]) -> bool:
    """Whether a stray element can be fitted; notes it when not."""
    if element in table.elements and table.families(element, low, high):
        return True
    notes.append(
        f"The stray element {element} has no line between {low:.3g} and {high:.3g} keV: it was left out."
    )
    return False


def _undeclared_notes(refined: Refinement, mains: dict[str, str]) -> list[str]:
    """Say which elements were found that nobody declared: those that are there, and those that may not be.

    Parameters
    ----------
    refined
        What was found, and what speaks for it.
    mains
        Main family of each element of the sample.
    """
    counted = {element: f"{element} ({counts:.0f} counts)" for element, counts in refined.found.items()}
    shown = [text for element, text in counted.items() if element in refined.shown]
    unsure = [element for element in counted if element not in refined.shown]
    said: list[str] = []
    if shown:
        text = (
            f"The sum spectrum shows lines of undeclared elements: {', '.join(shown)}. They were fitted together as "
            "stray signal. Name them in `sample.elements` if the sample holds them, else in `sample.stray`."
        )
        said.append(Reservation(text, UNDECLARED))
    if unsure:
        they, them = ("it", "it") if len(unsure) == 1 else ("they", "them")
        text = (
            "What the declared elements leave of the sum spectrum was fitted as stray signal of "
            f"{join(counted[element] for element in unsure)}. Errors of line shapes and line ratios can look the same, "
            f"so {they} may not be there."
        )
        swayed = {family for element in unsure for family in refined.evidence[element].sways}
        moved = [element for element, family in mains.items() if f"{element}_{family}" in swayed]
        doubt = (
            f"{text} Without {them}, the counts of {join(moved)} change by more than their error. If you know "
            f"{them} to be there, name {them} in `sample.elements` or `sample.stray`."
        )
        said.append(Reservation(doubt, UNDECLARED) if moved else text)
    return said


def _main_families(
    counts: dict[str, float], elements: Sequence[str], table: LineTable, detector: Detector
) -> dict[str, str]:
    """Return the main family of each element that has one among the counts, which are keyed ``Fe_K``."""
    seen = {e: [family for family in FAMILIES if f"{e}_{family}" in counts] for e in elements}
    return {e: main_family(e, families, table, detector) for e, families in seen.items() if families}


def mean_composition(
    counts: dict[str, float], elements: Sequence[str], table: LineTable, detector: Detector
) -> FloatArray:
    """Atom fractions of a sum spectrum from the counts of its families, absorption left out, shape (element,).

    Even ones where the spectrum shows none of the elements.

    Parameters
    ----------
    counts
        Counts of each family, keyed ``Fe_K``; an element's main one is read.
    elements, table, detector
        As declared.
    """
    atoms = []
    mains = _main_families(counts, elements, table, detector)
    for element in elements:
        main = mains.get(element)
        strength = table.detected_strength(element, main, detector.efficiency) if main else 1.0
        atoms.append(counts.get(f"{element}_{main}", 0.0) / strength)
    # Every element absorbs a little: none is known to be missing.
    relative = np.maximum(np.array(atoms), 1e-6 * max(atoms)) if max(atoms) > 0.0 else np.ones(len(atoms))
    return np.asarray(relative / relative.sum())


def block_positions(setup: Setup) -> tuple[npt.NDArray[np.int64], tuple[int, int]]:
    """Cell of each block in the grid of blocks, empty ones left out as in the counts, and the grid's shape."""
    index = setup.blocks.block_index
    counts = np.bincount(index.ravel(), weights=setup.fitted_totals.ravel())
    across = int(index[0, -1]) + 1
    return np.flatnonzero(counts > 0), (len(counts) // across, across)


def known_blocks(setup: Setup) -> npt.NDArray[np.int64] | None:
    """Phase that each block is declared to hold alone, (block,): where all of its pixels are; -1 for the others."""
    if setup.known is None:
        return None
    index, held = setup.blocks.block_index, setup.fitted_totals > 0
    least, most = np.full((2, int(index.max()) + 1), -1)
    least[:] = np.iinfo(np.int64).max
    np.minimum.at(least, index[held], setup.known[held])
    np.maximum.at(most, index[held], setup.known[held])
    positions, _ = block_positions(setup)
    return np.where(least == most, most, -1)[positions]


def block_tiles(setup: Setup, n_tiles: int = N_TILES) -> npt.NDArray[np.int64]:
    """Tile of each block, (block,); tiles cover what blocks with counts cover, not rows and columns left out."""
    position, (_, across) = block_positions(setup)
    down, along = np.divmod(position, across)
    down, along = down - down.min(), along - along.min()
    labels = tile_labels((int(down.max()) + 1, int(along.max()) + 1), n_tiles)[down, along]
    return np.asarray(np.unique(labels, return_inverse=True)[1], np.int64)
