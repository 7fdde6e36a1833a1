"""What a file holds, in words: the map, the facts of its measurement, and what its peaks may be."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.image import SpectrumImage
from bayesunmix.data.io import load
from bayesunmix.data.peak_sources import USUAL_STRAY, Candidate, PeakSources
from bayesunmix.data.peaks import LOWEST_KEV, LineGroup, Peak, SumSpectrum
from bayesunmix.errors import BayesUnmixWarning, InputError
from bayesunmix.xray import POLYMER_WINDOW, WINDOWLESS, Calibration, Detector, LineTable, Response, calibrate
from bayesunmix.xray.refinement import merge_channels
from bayesunmix.xray.response import MN_K_ALPHA_KEV, TYPICAL_RESOLUTION_EV

# Where a file does not say its beam energy, for the relative strengths of K, L and M lines alone.
ASSUMED_BEAM_KEV = {"TEM": 200.0, "SEM": 20.0}
# A fitted axis farther off than this, relative and in keV, is the fit's fault and not the axis'.
MOST_GAIN, MOST_OFFSET_KEV = 0.01, 0.05
# Candidates of a peak are listed down to this probability, at most so many.
LEAST_SHOWN, MOST_SHOWN = 0.02, 4
_UNITS = {"keV": "keV", "deg": "°", "eV": "eV", "s": "s", "nA": "nA"}


@dataclass(frozen=True)
class Reading:
    """A sum spectrum read with a set of elements.

    Parameters
    ----------
    spectrum
        The spectrum on its fitted axis, with its peaks.
    named
        Elements that the user or the file names and that have lines on the axis; `off_axis`: those that have none.
    given
        Whether the user named them.
    elements
        Named ones, and those that most probably made the peaks that these do not explain.
    made_by
        Line group that makes most of each peak in a fit of `elements`, None where none does.
    fit
        Fit of the axis; None where there is too little to fit.
    """

    spectrum: SumSpectrum
    named: tuple[str, ...]
    given: bool
    off_axis: tuple[str, ...]
    elements: tuple[str, ...]
    made_by: dict[Peak, LineGroup | None]
    fit: Calibration | None

    @property
    def found(self) -> tuple[str, ...]:
        """Elements that were added to the named ones."""
        return tuple(element for element in self.elements if element not in self.named)

    @cached_property
    def candidates(self) -> dict[Peak, list[Candidate]]:
        """Possible sources of each peak, likeliest first, with probabilities that add up to 1."""
        sources = PeakSources(self.spectrum, self.named)
        return {peak: sources.candidates(peak, self.elements) for peak in self.spectrum.peaks}

    def unexplained(self, peak: Peak) -> bool:
        """Whether named elements, their pile-up and escape peaks are together less likely than all else."""
        expected = (*self.named, "pile-up", "escape")
        return sum(one.probability for one in self.candidates[peak] if one.name in expected) < 0.5


def inspect_map(
    path: str | os.PathLike[str], elements: Sequence[str] | None = None, signal: int | None = None
) -> str:
    """Describe a file: map, axes, counts, facts and the peaks of the sum spectrum with candidate elements.

    Parameters
    ----------
    path
        Any file that HyperSpy reads as a spectrum image.
    elements
        Elements whose lines are looked for first; those that the file names when left out.
    signal
        Which signal of the file is the map, where there is more than one.

    Returns
    -------
    str
        Readable text of several paragraphs that ends with lines for a configuration.

    Raises
    ------
    InputError
        If the file cannot be read as a map.

    Notes
    -----
    Probabilities are those of `bayesunmix.data.peak_sources`: they follow from the positions and relative heights of
    peaks and from how often an element is met, and are not identifications.
    """
    with warnings.catch_warnings():
        # The text itself holds what is odd about the map.
        warnings.simplefilter("ignore", BayesUnmixWarning)
        image = load(path, signal)
    return f"File      {path}\n{describe(image, elements)}"


def describe(image: SpectrumImage, elements: Sequence[str] | None = None) -> str:
    """Describe a map as `inspect_map` does a file's."""
    reading = read_peaks(image, tuple(elements or ()))
    parts = [
        _map_text(image),
        _facts_text(image.acquisition),
        _peaks_text(reading),
        _proposal(reading),
    ]
    return "\n\n".join(parts)


def read_peaks(image: SpectrumImage, given: tuple[str, ...] = ()) -> Reading:
    """Find peaks and elements twice: on the axis as it is, and on the one fitted with the first round's elements.

    Parameters
    ----------
    image
        A map.
    given
        Elements whose lines are looked for first; those that the map names when left out.
    """
    facts = image.acquisition
    beam = facts.beam_energy_keV or ASSUMED_BEAM_KEV[facts.microscope or "TEM"]
    table = LineTable.built_in(beam)
    edges = image.channel_edges_keV
    wanted = given or facts.elements
    on_axis = [
        e for e in wanted if e in table.elements and table.families(e, max(edges[0], LOWEST_KEV), edges[-1])
    ]
    detector = _detector(facts)
    merged = merge_channels(image.sum_spectrum().astype(np.float64), edges, detector.response)
    spectrum = SumSpectrum(*merged, detector.response, table, beam, detector.efficiency)
    named = tuple(on_axis)
    fit = _fit(spectrum, PeakSources(spectrum, named).guess(named), detector)
    if fit is not None:
        spectrum = dataclasses.replace(spectrum, response=fit.response)
    chosen = PeakSources(spectrum, named).guess(named)
    off_axis = tuple(element for element in wanted if element not in on_axis)
    return Reading(spectrum, named, bool(given), off_axis, chosen, spectrum.explained(chosen), fit)


def _detector(facts: Acquisition) -> Detector:
    try:
        response = Response.from_resolution(facts.resolution_eV or TYPICAL_RESOLUTION_EV)
    except InputError:
        # Some files hold a resolution at another line, or none that silicon can have.
        response = Response.from_resolution(TYPICAL_RESOLUTION_EV)
    return Detector(POLYMER_WINDOW if facts.microscope == "SEM" else WINDOWLESS, response=response)


def _fit(spectrum: SumSpectrum, elements: Sequence[str], detector: Detector) -> Calibration | None:
    """Fit the axis; None where there is nothing to fit or the answer is no plausible axis."""
    first = int(np.searchsorted(spectrum.edges_keV, LOWEST_KEV))
    counts, edges = spectrum.counts[first:], spectrum.edges_keV[first:]
    if not elements or not counts.any():
        return None
    fit = calibrate(
        counts, edges, spectrum.table, elements, beam_energy_keV=spectrum.beam_energy_keV, detector=detector
    )
    plausible = abs(fit.response.gain - 1.0) < MOST_GAIN and abs(fit.response.offset_keV) < MOST_OFFSET_KEV
    return fit if fit.converged and plausible else None


def _map_text(image: SpectrumImage) -> str:
    rows, columns, channels = image.shape
    totals = image.total_counts
    filled = np.count_nonzero(image.counts) / image.counts.size
    unit = image.pixel_unit or "(no unit)"
    lines = [
        f"EDS map   {image.name!r}, {rows} x {columns} pixels of {image.pixel_size[0]:.4g} x"
        f" {image.pixel_size[1]:.4g} {unit}",
        f"Energy    {channels} channels of {1e3 * image.energy_step_keV:.4g} eV, {image.energy_keV[0]:.4g} to"
        f" {image.energy_keV[-1]:.4g} keV",
        f"Counts    {totals.sum():,} in all, {totals.mean():.4g} in a pixel ({totals.min():,} to {totals.max():,}),"
        f" {filled:.2%} of the entries non-zero",
    ]
    sizes = {name: " x ".join(str(size) for size in picture.shape) for name, picture in image.images.items()}
    shown = [name if size in name else f"{name} ({size})" for name, size in sizes.items()]
    lines.append(f"Images    {', '.join(shown) or 'none beside the map'}")
    lines += [f"Note      {message}" for message in image.warnings]
    return "\n".join(lines)


def _facts_text(facts: Acquisition) -> str:
    known = [
        _fact(entry.name, getattr(facts, entry.name))
        for entry in dataclasses.fields(facts)
        if entry.name != "elements" and getattr(facts, entry.name) is not None
    ]
    named = " ".join(facts.elements) or "none"
    # A second tilt is known of few microscopes and missed on none.
    missing = ", ".join(_fact(name, None) for name in facts.missing if name != "tilt_beta_deg") or "nothing"
    return f"Measured  {', '.join(known) or 'nothing is said'}\nMissing   {missing}\nNamed     {named}"


def _fact(name: str, value: object) -> str:
    """Write ``beam_energy_keV`` as "beam energy 200 keV"."""
    words = name.split("_")
    unit = _UNITS.get(words[-1], "")
    title = " ".join(words[:-1] if unit else words).replace("takeoff", "take-off")
    if value is None:
        return title
    number = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{title} {number}{'' if unit == '°' or not unit else ' '}{unit}"


def _peaks_text(reading: Reading) -> str:
    spectrum = reading.spectrum
    lines = [_axis_text(reading)]
    if not spectrum.peaks:
        return "\n".join([*lines, "No peak stands out of the sum spectrum."])
    source = "given" if reading.given else "named in the file"
    lines.append(
        "Peaks of the sum spectrum, with the probability of each possible source: candidates, not identifications."
    )
    if reading.named:
        lines.append(
            f"* marks peaks that no element {source} explains, nor pile-up of strong peaks, nor their escape peaks."
        )
    lines.append(f"  {'keV':>7}  {'net counts':>11}  {'sigma':>6}  candidates")
    lines += [_peak_line(reading, peak) for peak in spectrum.peaks]
    own = {group.element for group in reading.made_by.values() if group is not None}
    hidden = [element for element in reading.named if element not in own]
    if hidden:
        lines.append(f"Without a peak of their own, hidden or not there: {' '.join(hidden)}")
    if reading.off_axis:
        lines.append(f"Without a line on this energy axis: {' '.join(reading.off_axis)}")
    return "\n".join(lines)


def _axis_text(reading: Reading) -> str:
    if reading.fit is None:
        return "Axis      taken as the file says; too little to fit it with"
    response = reading.fit.response
    width = 1e3 * float(response.fwhm_keV(MN_K_ALPHA_KEV))
    return (
        f"Axis      fitted gain {response.gain:.4f}, offset {1e3 * response.offset_keV:+.1f} eV, width {width:.0f} eV"
        f" at Mn Kα (deviance per degree of freedom {reading.fit.deviance_per_dof:.2g})"
    )


def _peak_line(reading: Reading, peak: Peak) -> str:
    mark = "*" if reading.named and reading.unexplained(peak) else " "
    shown = [one for one in reading.candidates[peak] if one.probability >= LEAST_SHOWN][:MOST_SHOWN]
    text = "; ".join(f"{one.label} {_percent(one.probability)}" for one in shown)
    return f"{mark} {peak.energy_keV:7.3f}  {peak.net_counts:11,.0f}  {peak.significance:6.0f}  {text}"


def _percent(probability: float) -> str:
    """Write a probability; none is quite certain."""
    return "> 99 %" if probability > 0.99 else f"{100.0 * probability:.0f} %"


def _proposal(reading: Reading) -> str:
    """Lines for a configuration: the named elements, or the found ones, and what looks like stray."""
    if not reading.elements:
        return "No elements to propose."
    if reading.named:
        elements, stray = list(reading.named), list(reading.found)
    else:
        elements = [element for element in reading.found if element not in USUAL_STRAY] or list(reading.found)
        stray = [element for element in reading.found if element not in elements]
    notes = ["# A proposal to check: move to stray what belongs to grid, holder, column or ion beam."]
    unusual = [element for element in stray if element not in USUAL_STRAY]
    if unusual:
        notes.append(
            f"# Not named, and seldom stray: {' '.join(unusual)}. Move them to elements if they are of the sample."
        )
    if "O" in elements:
        notes.append(
            "# O is measured from its own line; left out here, it would follow from the cations' valences."
        )
    elif "O" in reading.off_axis:
        notes.append("# O has no line on the axis: it follows from the cations' valences.")
    listed = {"elements": elements, "stray": stray}
    rows = [f"{name} = [{', '.join(_quoted(symbols))}]" for name, symbols in listed.items()]
    return "\n".join(["For a configuration", *notes, "[sample]", *rows])


def _quoted(symbols: Sequence[str]) -> list[str]:
    return [f'"{symbol}"' for symbol in symbols]
