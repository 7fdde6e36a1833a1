"""Spectra of phases alone as maps of one pixel: read, and with the configuration by which they are fitted."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from bayesunmix.config.instrument import InstrumentConfig
from bayesunmix.config.map import NARROWEST_RANGE_KEV
from bayesunmix.config.phase import unnamed
from bayesunmix.config.reference import Reference
from bayesunmix.config.run_config import RunConfig
from bayesunmix.config.sample import SampleConfig
from bayesunmix.config.xray import XrayConfig
from bayesunmix.core.errors import InputError
from bayesunmix.core.rounding import percent_text
from bayesunmix.core.severity import UNDECLARED, Reservation, join
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.counts import compact_counts
from bayesunmix.data.files import check_format
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.reader import read_apart
from bayesunmix.data.signals import GivenFacts
from bayesunmix.fit.reference_fit import ENOUGH, ReferenceComposition
from bayesunmix.fit.sample_lines import MOST_OF_BEAM
from bayesunmix.forward.spectra import FEWEST_INSIDE, ForwardModel

# Facts that decide how lines are weighted, what they are called, their unit, and how far two values are the same.
COMPARED = (
    ("beam_energy_keV", "beam energy", "keV", 0.02),
    ("takeoff_angle_deg", "take-off angle", "degrees", 0.1),
)
# What a map's remedies name, and what is to be written of a spectrum in their place.
REMEDIES = {
    "--signal": 'Choose one: {file = "...", signal = N}.',
    "[map]": 'Write {file = "...", energy_offset_keV = 0.0, energy_scale_keV = 0.01}, with its own numbers.',
}
FACTS = ("beam_energy_keV", "takeoff_angle_deg", "resolution_eV", "microscope")
# A spectrum that is not fitted: its deviance per degree of freedom, and how much of a typical bin's counts is off.
POOR_DEVIANCE, POOR_FIT = 4.0, 0.25
# The main element of a spectrum that says little is uncertain by this atom fraction.
LITTLE_SAID = 0.08
# An element that is declared absent, and is there: by so many standard deviations, and so large an atom fraction.
PRESENT_SDS, PRESENT = 4.0, 0.01


def reference_image(reference: Reference, field: str) -> SpectrumImage:
    """Return the spectrum as a map of one pixel, with what its file says of the measurement.

    Raises
    ------
    InputError
        If the file cannot be read as a spectrum, or holds no counts.
    """
    try:
        return _counted(reference) if reference.file is None else _read(reference, reference.file)
    except InputError as error:
        remedy = next((own for said, own in REMEDIES.items() if said in error.remedy), error.remedy)
        raise InputError(field, error.must, error.got, remedy) from None


def _read(reference: Reference, file: Path) -> SpectrumImage:
    """Return the spectrum, or the sum of the map, that a file holds."""
    offset, scale = reference.energy_offset_keV, reference.energy_scale_keV
    check_format(file)
    image = read_apart(file, reference.signal, GivenFacts(energy_offset_keV=offset, energy_scale_keV=scale))
    return SpectrumImage(
        counts=compact_counts(image.sum_spectrum()[None, None]),
        energy_keV=image.energy_keV,
        acquisition=image.acquisition,
        name=str(reference),
    )


def _counted(reference: Reference) -> SpectrumImage:
    """Return the spectrum that the configuration holds."""
    assert reference.counts is not None
    assert reference.energy_offset_keV is not None
    assert reference.energy_scale_keV is not None
    counts = compact_counts(np.array(reference.counts, np.int64)[None, None])
    channels = np.arange(counts.size, dtype=np.float64)
    return SpectrumImage(
        counts=counts,
        energy_keV=reference.energy_offset_keV + reference.energy_scale_keV * channels,
        name=str(reference),
    )


def reference_config(
    reference: Reference,
    image: SpectrumImage,
    config: RunConfig,
    forward: ForwardModel,
    facts: Acquisition,
    field: str,
) -> tuple[RunConfig, tuple[float, float]]:
    """Return the configuration by which the spectrum is read, that of the run where it concerns spectra, and energies.

    The energies in keV are those that its filed axis has in common with the map's; its axis may turn out to be off.

    Parameters
    ----------
    reference, image
        What was declared, and the spectrum.
    config
        Of the run.
    forward, facts
        Of its map: fitted energies and elements, and what is known of the measurement.
    field
        What the user knows the spectrum as.

    Raises
    ------
    InputError
        If the axes of spectrum and map hardly meet, or no element of the sample has a line where they do.
    """
    instrument = _instrument(reference, image.acquisition, facts)
    beam = instrument.beam_energy_keV or forward.beam_energy_keV
    low, high = _common_energies(image, forward, beam, field)
    seen = [one for one in forward.elements if forward.table.families(one, low, high, FEWEST_INSIDE)]
    if not seen:
        must = "show lines of an element of `sample.elements`"
        raise InputError(field, must, f"has none of them between {low:.4g} and {high:.4g} keV")
    sample = config.sample
    told = RunConfig(
        sample=SampleConfig(
            elements=tuple(seen),
            stray=sample.stray,
            # Oxygen that is off the axis here is not measured here.
            oxygen="none" if sample.oxygen == "measured" and "O" not in seen else sample.oxygen,
            thickness_nm=reference.thickness_nm or sample.thickness_nm,
            density_g_cm3=sample.density_g_cm3,
        ),
        instrument=instrument,
        xray=_factors_of(config.xray, {*seen, *sample.stray, "Si"}),
        phases=unnamed(1),
        priors=config.priors,
    )
    return told, (low, high)


def read_hash(image: SpectrumImage) -> str:
    """Return a hash (hexadecimal) of a spectrum and of what is known of its measurement, as they were read."""
    return hashlib.sha256(f"{image.count_hash()} {image.acquisition}".encode()).hexdigest()


def _common_energies(
    image: SpectrumImage, forward: ForwardModel, beam_energy_keV: float, field: str
) -> tuple[float, float]:
    """Return the energies in keV that are on the spectrum's axis and fitted in the map."""
    edges, fitted = image.channel_edges_keV, forward.edges_keV
    low = float(max(edges[0], fitted[0], 0.0))
    high = float(min(edges[-1], fitted[-1], MOST_OF_BEAM * beam_energy_keV))
    if high - low < NARROWEST_RANGE_KEV:
        must = f"reach into the fitted energies from {fitted[0]:.4g} to {fitted[-1]:.4g} keV"
        raise InputError(field, must, f"reaches from {edges[0]:.4g} to {edges[-1]:.4g} keV")
    return low, high


def _factors_of(xray: XrayConfig, elements: Set[str]) -> XrayConfig:
    """Return the measured line strengths of some elements."""
    k_factors, zeta_factors = (
        {key: value for key, value in factors.items() if key.split("_")[0] in elements}
        for factors in (xray.k_factors, xray.zeta_factors)
    )
    return replace(xray, k_factors=k_factors, zeta_factors=zeta_factors)


def _instrument(reference: Reference, own: Acquisition, of_map: Acquisition) -> InstrumentConfig:
    """Take each fact as it is declared of the spectrum, as its file has it, or as it is of the map."""
    taken = {}
    for name in FACTS:
        taken[name] = getattr(reference, name, None) or own.told(name) or getattr(of_map, name)
    return InstrumentConfig(**taken)


def reference_notes(phase: str, image: SpectrumImage, of_map: Acquisition, shown: Sequence[str]) -> list[str]:
    """Sentences on what map and spectrum do not have in common.

    Parameters
    ----------
    phase
        Name of the phase.
    image
        The spectrum, with the facts by which it was read.
    of_map
        Facts of the map.
    shown
        Elements that the spectrum shows and nobody declared.
    """
    said: list[str] = []
    own = image.acquisition
    differ = [
        f"{words} of {mine:g} {unit} where the map's is {theirs:g}"
        for name, words, unit, alike in COMPARED
        if (mine := getattr(own, name)) is not None
        and (theirs := getattr(of_map, name)) is not None
        and abs(mine - theirs) > alike * theirs
    ]
    if differ:
        text = (
            f"The reference spectrum of {phase} has a {join(differ)}: each was read with its own. Line strengths are "
            "those of one instrument all the less."
        )
        said.append(Reservation(text))
    if own.microscope == "SEM":
        text = (
            f"The reference spectrum of {phase} was taken in an SEM: it was read as that of a thin film, and what a "
            "bulk sample absorbs and excites by fluorescence is taken for composition."
        )
        said.append(Reservation(text))
    if shown:
        text = (
            f"The reference spectrum of {phase} shows lines of {join(shown)}, which nobody declared: they were fitted "
            "as stray signal. Name them in `sample.elements` if the phase holds them."
        )
        said.append(Reservation(text, UNDECLARED))
    return said


def unfitted_notes(found: ReferenceComposition, n_bins: int) -> list[str]:
    """Sentence on a spectrum that no lines of the declared elements explain, with so many fitted bins."""
    relative = float(np.sqrt(found.deviance_per_dof * n_bins / max(found.counts, 1)))
    if found.deviance_per_dof < POOR_DEVIANCE or relative < POOR_FIT:
        return []
    text = (
        f"The reference spectrum of {found.phase} is not explained by lines of the declared elements: a typical bin is "
        f"off by {percent_text(relative)} % of its counts (deviance {found.deviance_per_dof:.2g} per degree of "
        "freedom). What it says of the phase is not to be trusted. Check that it is the spectrum you mean."
    )
    return [Reservation(text)]


def few_notes(found: ReferenceComposition) -> list[str]:
    """Sentence on a spectrum of so few counts that it says next to nothing of the phase."""
    main = int(np.argmax(found.atom_fractions))
    sd = float(found.counting_sd[main])
    if sd < LITTLE_SAID:
        return []
    text = (
        f"The reference spectrum of {found.phase} says little: its {found.counts} "
        f"{'count leaves' if found.counts == 1 else 'counts leave'} {found.elements[main]} uncertain by "
        f"{100.0 * min(sd, 1.0):.0f} at%. Sum more pixels, or a longer measurement: some {ENOUGH} counts tell."
    )
    return [Reservation(text)]


def absent_notes(found: ReferenceComposition, absent: Sequence[str]) -> list[str]:
    """Sentence on elements that are declared absent from the phase, and that its spectrum shows."""
    places = [
        i
        for i, element in enumerate(found.elements)
        if element in absent and found.atom_fractions[i] > max(PRESENT, PRESENT_SDS * found.counting_sd[i])
    ]
    if not places:
        return []
    listed = join(f"{percent_text(found.atom_fractions[i])} at% {found.elements[i]}" for i in places)
    text = (
        f"The reference spectrum of {found.phase} shows {listed}, declared absent from it. Check which of the two is "
        "right for this phase."
    )
    return [Reservation(text)]
