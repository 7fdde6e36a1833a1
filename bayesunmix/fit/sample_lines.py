"""The lines that a map is fitted with: those of the sample in its film, stray ones, and those that nobody declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.errors import InputError
from bayesunmix.core.severity import UNDECLARED, Reservation, join
from bayesunmix.data.image import SpectrumImage
from bayesunmix.forward.spectra import Film, main_family
from bayesunmix.xray import Detector, LineTable, Refinement
from bayesunmix.xray.atomic import FAMILIES

FloatArray = npt.NDArray[np.float64]

# Below this energy there are no lines that the detector resolves from its zero peak.
LOWEST_ENERGY_KEV = 0.2
# Above this share of its energy a beam makes next to no photons.
MOST_OF_BEAM = 0.98
# Lines of less than this share of their element's strongest ask for no fine bins.
WEAK_LINE = 0.03
# A beam that excites whatever has lines at all.
HIGH_BEAM_KEV = 300.0


def film_of(config: RunConfig, image: SpectrumImage, notes: list[str]) -> Film:
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


def check_emitting(elements: Sequence[str], table: LineTable, config: RunConfig, beam: float) -> None:
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


def with_stray(table: LineTable, stray: Sequence[str], beam_energy_keV: float, notes: list[str]) -> LineTable:
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


def line_energies(elements: Sequence[str], table: LineTable) -> FloatArray:
    """Energies around which bins are fine: lines that carry a share of their element's counts."""
    energies: list[float] = []
    for element in elements:
        lines = table.lines(element)
        strongest = max(line.strength for line in lines)
        energies += [line.energy_keV for line in lines if line.strength > WEAK_LINE * strongest]
    return np.array(energies)


def has_lines(element: str, table: LineTable, low: float, high: float, notes: list[str]) -> bool:
    """Whether a stray element can be fitted; notes it when not."""
    if element in table.elements and table.families(element, low, high):
        return True
    notes.append(
        f"The stray element {element} has no line between {low:.3g} and {high:.3g} keV: it was left out."
    )
    return False


def undeclared_notes(refined: Refinement, mains: dict[str, str]) -> list[str]:
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


def main_families(
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
    mains = main_families(counts, elements, table, detector)
    for element in elements:
        main = mains.get(element)
        strength = table.detected_strength(element, main, detector.efficiency) if main else 1.0
        atoms.append(counts.get(f"{element}_{main}", 0.0) / strength)
    # Every element absorbs a little: none is known to be missing.
    relative = np.maximum(np.array(atoms), 1e-6 * max(atoms)) if max(atoms) > 0.0 else np.ones(len(atoms))
    return np.asarray(relative / relative.sum())
