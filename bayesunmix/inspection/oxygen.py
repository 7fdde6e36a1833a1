"""Whether a sum spectrum shows that a sample holds no oxygen: its line would stand out if the elements were oxides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayesunmix.inspection.peaks import Decomposition, SumSpectrum
from bayesunmix.inspection.stray import LIGHT, rough_atoms
from bayesunmix.xray import bremsstrahlung
from bayesunmix.xray.absorption import oxygen_per_cation

# A specimen may absorb all but one in so many of the photons of oxygen; the bulk samples of an SEM absorb more.
MOST_ABSORBED = {"TEM": 5.0, "SEM": 20.0}
# The line is looked for within this share of a width, and counts this many standard errors more than it shows.
WINDOW_FWHM, ERRORS = 0.6, 5.0
# A detector that sees less of the continuum than this share has a window that is opaque there.
LEAST_SEEN, CONTINUUM_KEV = 0.2, (1.5, 3.0)


@dataclass(frozen=True)
class OxygenCounts:
    """Counts in the K line of oxygen.

    Parameters
    ----------
    asked
        Of a thin film of the elements' oxides.
    most
        That can be there at most, whatever else lies at that energy.
    """

    asked: float
    most: float


def no_oxides(
    spectrum: SumSpectrum, elements: Sequence[str], sample: Sequence[str], microscope: str | None
) -> OxygenCounts | None:
    """Return the counts of oxygen where they show that a sample is no oxide; for the others see `oxygen_counts`.

    Parameters
    ----------
    microscope
        ``TEM`` or ``SEM``; a TEM where it is not known.
    """
    counts = oxygen_counts(spectrum, elements, [element for element in sample if element != "O"])
    if counts is None or counts.most * MOST_ABSORBED[microscope or "TEM"] >= counts.asked:
        return None
    return counts


def oxygen_counts(
    spectrum: SumSpectrum, elements: Sequence[str], sample: Sequence[str]
) -> OxygenCounts | None:
    """Compare the oxygen that a sum spectrum shows with what the oxides of a sample would.

    Parameters
    ----------
    spectrum
        On its fitted axis.
    elements
        All elements whose lines are in it.
    sample
        Those of the sample.

    Returns
    -------
    OxygenCounts or None
        None where the line of oxygen does not lie on the axis, or the detector cannot see it.
    """
    line = next((group for group in spectrum.groups if (group.element, group.family) == ("O", "K")), None)
    if line is None or line.energy_keV - spectrum.fwhm_keV(line.energy_keV) < spectrum.edges_keV[0]:
        return None
    inside = np.abs(spectrum.centres_keV - line.energy_keV) <= WINDOW_FWHM * spectrum.fwhm_keV(
        line.energy_keV
    )
    parts = spectrum.decompose([*elements, "O"])
    there = float(spectrum.counts[inside].sum())
    continuum = bremsstrahlung(spectrum.edges_keV, spectrum.beam_energy_keV, spectrum.efficiency)
    low, high = (spectrum.centres_keV > limit for limit in CONTINUUM_KEV)
    scale = parts.continuum[low & ~high].sum() / max(continuum[low & ~high].sum(), 1e-300)
    if there <= 0.0 or there < LEAST_SEEN * scale * continuum[inside].sum():
        return None
    # Lines of others there are not subtracted: soft lines take what is oxygen's.
    above = max(there - float(parts.continuum[inside].sum()), 0.0) + ERRORS * np.sqrt(there)
    share = parts.line_columns[parts.families.index(("O", "K"))][inside].sum()
    return OxygenCounts(_asked(spectrum, parts, sample), float(above / share))


def _asked(spectrum: SumSpectrum, parts: Decomposition, sample: Sequence[str]) -> float:
    """Return the counts of oxygen of a thin film of the sample's oxides."""
    atoms = rough_atoms(spectrum, parts)
    cations = [element for element in sample if element not in LIGHT]
    bound = sum(atoms.get(element, 0.0) * oxygen_per_cation(element) for element in cations)
    return bound * spectrum.detected_strength("O", "K")
