"""What is settled before inference begins: energies, physics, the energy axis, and bins.

map + configuration -> energy range -> line table and detector -> response fitted to the sum spectrum -> bins and
blocks
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from bayesunmix.chemistry.given_names import GivenNames
from bayesunmix.config.compounds import all_compounds
from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError, warn
from bayesunmix.core.memory import check_maps
from bayesunmix.core.severity import Reservation
from bayesunmix.core.threads import single_thread
from bayesunmix.data.binning import bin_image, channel_bins, pixel_bins
from bayesunmix.data.channels import OddChannels
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.map_bins import map_hash
from bayesunmix.fit.energy_axis import fitted_axis, given_axis, searched_axis
from bayesunmix.fit.known_pixels import known_pixels
from bayesunmix.fit.pixel_choice import LeftOut, choose_pixels
from bayesunmix.fit.reference_fit import reference_composition
from bayesunmix.fit.reference_spectrum import (
    absent_notes,
    few_notes,
    read_hash,
    reference_config,
    reference_image,
    reference_notes,
    unfitted_notes,
)
from bayesunmix.fit.sample_lines import (
    LOWEST_ENERGY_KEV,
    MOST_OF_BEAM,
    check_emitting,
    film_of,
    has_lines,
    line_energies,
    main_families,
    mean_composition,
    undeclared_notes,
    with_stray,
)
from bayesunmix.fit.setup import BinnedPixels, Setup
from bayesunmix.forward.flanks import shown_flanks
from bayesunmix.forward.line_shapes import line_shapes
from bayesunmix.forward.line_table import line_table, with_factors
from bayesunmix.forward.pixel_thickness import pixel_thickness
from bayesunmix.forward.spectra import Film, forward_model
from bayesunmix.inspection.oxygen import no_oxides
from bayesunmix.inspection.peaks import SumSpectrum
from bayesunmix.xray import Detector, LineTable, Refinement, Response, fit_axis, refine, thin_film_factor
from bayesunmix.xray.refinement import merge_channels

FloatArray = npt.NDArray[np.float64]

# Bins of this share of the FWHM near lines cost under 5 % of the information on a weak peak, and half the time of
# finer ones.
BIN_FRACTION = 0.45
COUNTS_PER_BLOCK = 1000.0
NOMINAL_RESOLUTION_EV = 130.0


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
        told, energies = reference_config(phase.reference, spectrum, config, setup.forward, facts, field)
        try:
            own = _prepared(spectrum, told, None, within_keV=energies)
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
        found.append(dataclasses.replace(one, read_hash=read_hash(spectrum)))
        notes += reference_notes(phase.name, own.image, facts, own.spectrum.shown)
        notes += absent_notes(one, phase.absent)
        notes += [*unfitted_notes(one, own.blocks.n_bins), *few_notes(one)]
    return dataclasses.replace(setup, references=tuple(found), warnings=tuple(dict.fromkeys(notes)))


def _prepared(
    image: SpectrumImage,
    config: RunConfig,
    progress: Callable[[float], None] | None,
    within_keV: tuple[float, float] = (0.0, np.inf),
) -> Setup:
    """Prepare a map, or the spectrum of a phase, of which no energies beyond the map's are fitted."""
    notes, given = [*image.warnings, *config.assumptions()], map_hash(image)
    image, beam = _with_instrument(image, config)
    image, sample = given_axis(image, config.map), config.sample
    image, left_out = _chosen(image, config)
    film = film_of(config, image, notes)
    detector = Detector.from_resolution(image.acquisition.resolution_eV or NOMINAL_RESOLUTION_EV)
    table = line_table(config, beam, detector)
    check_emitting(sample.elements, table, config, beam)
    table = with_stray(table, sample.stray, beam, notes)
    odd = OddChannels.of_map(image, detector.fwhm_keV)
    image = image.with_replaced(odd.replaced)
    image, moved, doubts = searched_axis(image, config, beam, table, detector)
    low, high = _range(image, config, beam, within_keV)
    check_maps(image.n_pixels, 1 if isinstance(config.phases, str) else len(config.phases))
    cropped = _checked_crop(image, low, high)
    edges = cropped.channel_edges_keV
    first = int(np.searchsorted(image.energy_keV, edges[0]))
    notes += odd.doubts(first, first + cropped.n_channels)
    low, high = float(edges[0]), float(edges[-1])
    bound = film.oxygen and "O" in table.elements and "O" not in sample.stray
    hidden = ["O"] if bound and table.families("O", low, high) else []
    stray = [element for element in sample.stray if has_lines(element, table, low, high, notes)]
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
    if film.oxygen and "O" not in (*sample.elements, *stray):
        notes += _taken_for_oxides(image, refined, detector, beam, sample.elements, stray)
    axis = fitted_axis(image, config.map, moved, refined)
    seen = _on_axis(refined, (low, high))
    off = axis.note()
    notes += [*doubts, *([off] if off else [])]
    if refined.found:
        notes += undeclared_notes(refined, main_families(seen, sample.elements, table, detector))
    # Refined ratios inside a family keep its total; a factor of the alpha line is one of that line.
    table = with_factors(refined.table, config, detector)
    lines = line_energies((*sources, *stray), table)
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
        replaced=odd.replaced,
        widths=config.priors,
        known=known_pixels(cropped, phases),
        given=GivenNames.of(
            [phase.name for phase in phases],
            all_compounds(config.output.compounds) if phases else (),
            forward.elements,
            sample.stray,
            sample.oxygen != "none",
        ),
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


def _taken_for_oxides(
    image: SpectrumImage,
    refined: Refinement,
    detector: Detector,
    beam: float,
    elements: Sequence[str],
    stray: Sequence[str],
) -> list[str]:
    """Sentence on elements to which oxygen was bound, where the whole spectrum shows that there is none."""
    response = refined.response
    spectrum = SumSpectrum(
        counts=image.sum_spectrum().astype(np.float64),
        edges_keV=(image.channel_edges_keV - response.offset_keV) / response.gain,
        response=Response(noise_eV=response.noise_eV, fano=response.fano),
        table=LineTable.built_in(beam),
        beam_energy_keV=beam,
        efficiency=detector.efficiency,
    )
    every = (*elements, *stray, *refined.found)
    found = no_oxides(spectrum, every, elements, image.acquisition.microscope)
    if found is None:
        return []
    return [
        Reservation(
            f"The elements were taken for oxides, but O Kα has at most {found.most:,.0f} counts where oxides of these "
            f'elements would show about {found.asked:,.0f}. Set `sample.oxygen = "none"`, or "measured".'
        )
    ]


def _range(
    image: SpectrumImage, config: RunConfig, beam: float, within_keV: tuple[float, float]
) -> tuple[float, float]:
    """Return the configured energies in keV, or all that can hold lines."""
    edges = image.channel_edges_keV
    if config.map.energy_range is not None:
        low, high = config.map.energy_range
        if high > beam:
            raise InputError(
                "map.energy_range", f"end below the beam energy of {beam:g} keV", f"ends at {high:g} keV"
            )
        return low, high
    low, high = (
        max(edges[0], LOWEST_ENERGY_KEV, within_keV[0]),
        min(edges[-1], MOST_OF_BEAM * beam, within_keV[1]),
    )
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
