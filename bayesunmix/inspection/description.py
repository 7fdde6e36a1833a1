"""What a file holds, in words: the map, the facts of its measurement, and what its peaks may be."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from bayesunmix.core.errors import BayesUnmixWarning, InputError, check_integer, check_path
from bayesunmix.data.acquisition import Acquisition
from bayesunmix.data.contents import contents_text, the_map
from bayesunmix.data.image import SpectrumImage, on_axis
from bayesunmix.data.io import load
from bayesunmix.data.reader import contents_apart
from bayesunmix.inspection.axis_guess import GuessedAxis, guess_axis
from bayesunmix.inspection.axis_search import ORDINARY_KEV
from bayesunmix.inspection.oxygen import no_oxides
from bayesunmix.inspection.peak_reading import CERTAIN, LIGHT_KEV, Reading, odd_channels, read_peaks
from bayesunmix.inspection.peaks import Peak
from bayesunmix.inspection.stray import ORIGINS, StrayEvidence, origins
from bayesunmix.xray.response import MN_K_ALPHA_KEV

# Candidates of a peak are listed down to this probability, at most so many.
LEAST_SHOWN, MOST_SHOWN = 0.02, 4
_NO_AXIS = (
    "Axis      looked for in the sum spectrum and not found: no usual energy axis explains it alone. Give the"
    " energy of the first channel and the width of a channel (--energy-offset-keV, --energy-scale-keV)."
)
_COPY_AXIS = "What follows is on it; check it, and put it into the configuration:"
_UNITS = {"keV": "keV", "deg": "°", "eV": "eV", "s": "s", "nA": "nA"}


def inspect_map(
    path: str | os.PathLike[str],
    elements: Sequence[str] | None = None,
    signal: int | None = None,
    *,
    energy_offset_keV: float | None = None,
    energy_scale_keV: float | None = None,
) -> str:
    """Describe a file: map, axes, counts, facts and the peaks of the sum spectrum with candidate elements.

    Parameters
    ----------
    path
        Any file that HyperSpy reads as a spectrum image.
    elements
        Elements whose lines are looked for first; those that the file names when left out.
    signal
        Which signal of the file is the map, where there is more than one; all are listed when left out.
    energy_offset_keV, energy_scale_keV
        Energy of the first channel's centre and width of a channel, in place of the file's.

    Returns
    -------
    str
        Readable text of several paragraphs that ends with lines for a configuration.

    Raises
    ------
    InputError
        If the file holds no spectra, or such without a photon or with negative counts, or cannot be read.

    Notes
    -----
    Probabilities are those of `bayesunmix.inspection.peak_sources`: they follow from the positions and relative
    heights of peaks and from how often an element is met, and are not identifications.
    """
    file = check_path("MAP", path)
    signal = None if signal is None else check_integer("signal", signal)
    with warnings.catch_warnings():
        # The text itself holds what is odd about the map.
        warnings.simplefilter("ignore", BayesUnmixWarning)
        try:
            image = load(file, signal, energy_offset_keV=energy_offset_keV, energy_scale_keV=energy_scale_keV)
        except InputError as refused:
            return _what_is_there(file, elements, signal, refused)
    return f"File      {path}\n{describe(image, elements)}"


def _what_is_there(
    file: Path, elements: Sequence[str] | None, signal: int | None, refused: InputError
) -> str:
    """Describe a file that holds no map, or several, as far as it can be."""
    if not file.exists():
        raise refused
    try:
        held = contents_apart(file)
    except InputError:
        raise refused from None
    text = contents_text(file, held, signal, refused)
    chosen = the_map(held, signal)
    if chosen is None or not (chosen.counts and chosen.looked_at) or chosen.calibrated:
        return text
    # Any axis will do to get at the counts.
    image = load(file, signal, energy_offset_keV=0.0, energy_scale_keV=0.001)
    axis = guess_axis(image, tuple(elements or ()), chosen.numbers)
    if axis is None:
        return f"{text}\n{_NO_AXIS}"
    known = on_axis(image, axis.offset_keV, axis.scale_keV)
    return (
        f"{text}\nAxis      {_why_axis(axis)} {_COPY_AXIS}\n[map]\nenergy_offset_keV = {axis.offset_keV:.4f}\n"
        f"energy_scale_keV = {axis.scale_keV:.7f}\n\n{describe(known, elements)}"
    )


def _why_axis(axis: GuessedAxis) -> str:
    """Say in a sentence what speaks for an axis."""
    doubt = f"with {' '.join(axis.elements)} and a misfit of {axis.misfit:.2g}"
    if axis.unit and axis.certain:
        return f"only the unit is missing: in {axis.unit}, the file's numbers explain the sum spectrum."
    if axis.unit:
        return f"a candidate in doubt: only the unit may be missing, {axis.unit} ({doubt})."
    if axis.certain:
        return "one usual energy axis alone explains the sum spectrum."
    return f"a candidate in doubt: one usual energy axis explains more than all others ({doubt})."


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


def _map_text(image: SpectrumImage) -> str:
    rows, columns, channels = image.shape
    totals = image.total_counts
    unit = image.pixel_unit or "(no unit)"
    lines = [
        f"EDS map   {image.name!r}, {rows} x {columns} pixels of {image.pixel_size[0]:.4g} x"
        f" {image.pixel_size[1]:.4g} {unit}",
        f"Energy    {channels} channels of {1e3 * image.energy_step_keV:.4g} eV, {image.energy_keV[0]:.4g} to"
        f" {image.energy_keV[-1]:.4g} keV",
        f"Counts    {totals.sum():,} in all, {totals.mean():.4g} in a pixel ({totals.min():,} to {totals.max():,}),"
        f" {image.filled:.2%} of the entries non-zero",
    ]
    sizes = {name: " x ".join(str(size) for size in picture.shape) for name, picture in image.images.items()}
    shown = [name if size in name else f"{name} ({size})" for name, size in sizes.items()]
    lines.append(f"Images    {', '.join(shown) or 'none beside the map'}")
    odd = odd_channels(image).doubts()
    lines += [f"Note      {message}" for message in (*image.warnings, *odd)]
    return "\n".join(lines)


def _facts_text(facts: Acquisition) -> str:
    known = [
        _fact(entry.name, getattr(facts, entry.name)) + _source(facts.sources.get(entry.name, "file"))
        for entry in dataclasses.fields(facts)
        if entry.name not in ("elements", "sources") and getattr(facts, entry.name) is not None
    ]
    named = f"{' '.join(facts.elements)} (by the file)" if facts.elements else "none"
    # A second tilt is known of few microscopes and missed on none.
    missing = ", ".join(_fact(name, None) for name in facts.missing if name != "tilt_beta_deg") or "nothing"
    return f"Measured  {', '.join(known) or 'nothing is said'}\nMissing   {missing}\nNamed     {named}"


def _source(source: str) -> str:
    """Name the source of a fact where it is not the file."""
    return "" if source == "file" else f" ({source})"


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
    if reading.hidden:
        lines.append(f"Without a peak of their own, hidden or not there: {' '.join(reading.hidden)}")
    if reading.off_axis:
        lines.append(f"Without a line on this energy axis: {' '.join(reading.off_axis)}")
    return "\n".join(lines)


def _axis_text(reading: Reading) -> str:
    axis = reading.axis
    lines = []
    shift = axis.shift_keV(axis.typical_keV)
    if abs(shift) > ORDINARY_KEV:
        lines.append(
            f"Axis      the file's axis is off by {1e3 * shift:+.0f} eV at {axis.typical_keV:.2f} keV"
        )
    if axis.fit is None:
        lines += ["Axis      taken as the file says; too little to fit it with"]
    else:
        width = 1e3 * float(axis.fit.response.fwhm_keV(MN_K_ALPHA_KEV))
        lines.append(
            f"Axis      fitted gain {axis.gain:.4f}, offset {1e3 * axis.offset_keV:+.1f} eV, width {width:.0f} eV"
            f" at Mn Kα (deviance per degree of freedom {axis.fit.deviance_per_dof:.2g})"
        )
    if axis.moved is not None:
        lines.append("          energies below are corrected")
    if axis.rival is not None:
        lines.append(
            f"Doubt     an axis with offset {1e3 * axis.rival.offset_keV:+.0f} eV and gain {axis.rival.gain:.4f}"
            f" explains the spectrum nearly as well, with {' '.join(axis.rival.elements)}; --elements may decide"
        )
    return "\n".join(lines)


def _peak_line(reading: Reading, peak: Peak) -> str:
    mark = "*" if reading.named and reading.unexplained(peak) else " "
    shown = [one for one in reading.candidates[peak] if one.probability >= LEAST_SHOWN][:MOST_SHOWN]
    text = "; ".join(f"{one.label} {_percent(one.probability)}" for one in shown)
    return f"{mark} {peak.energy_keV:7.3f}  {peak.net_counts:11,.0f}  {peak.significance:6.0f}  {text}"


def _percent(probability: float) -> str:
    """Write a probability; none is quite certain."""
    return "> 99 %" if probability > 0.99 else f"{100.0 * probability:.0f} %"


def _proposal(reading: Reading) -> str:
    """Lines for a configuration: elements of the sample, what looks like stray and why, and the axis if it is off."""
    if not reading.elements:
        return "No elements to propose."
    known = origins(reading.image, reading.spectrum, reading.elements, reading.named)
    elements = list(reading.named)
    stray: list[str] = []
    unsure: list[str] = []
    soft = [element for element in reading.found if reading.only_soft(element)]
    for element in reading.found:
        if element in soft:
            continue
        if element in known:
            (stray if known[element].stray else elements).append(element)
        else:
            certain = not reading.named or reading.certainty(element) >= CERTAIN
            (elements if certain else unsure).append(element)
    absent = _no_oxygen_note(reading, elements) if "O" not in reading.named else ""
    # Too little for oxides everywhere, but not as stray signal lies: a part of the map is an oxide.
    partly = bool(absent) and "O" in elements and known["O"].varies
    absent = "" if partly else absent
    # Where the sample's elements are named, oxygen follows from their valences unless it is said to be measured.
    bound = reading.named and "O" in reading.found and not absent and not partly
    if absent or bound:
        elements, stray = ([element for element in part if element != "O"] for part in (elements, stray))
    if absent and "O" in reading.found:
        stray.append("O")
    # Something must be the sample.
    elements, stray = elements or stray, stray if elements else []
    notes = ["# A proposal to check: move to stray what belongs to grid, holder, column or ion beam."]
    notes += [_origin_note(known[one], one in stray) for one in known if one in elements or one in stray]
    added = [element for element in elements if element not in reading.named]
    if reading.named and added:
        notes.append(f"# Not named, but their peaks are there: {' '.join(added)}.")
    if reading.hidden and not reading.given:
        notes.append(
            f"# Named by the file alone, without a peak of their own: {' '.join(reading.hidden)}. Leave out what is not"
            " there."
        )
    if unsure:
        notes.append(
            f"# Not named, and seldom stray: {' '.join(unsure)}. Move them to elements if they are of the sample."
        )
    doubts = {element: reading.doubt(element) for element in reading.found}
    said = [f"{element} ({why})" for element, why in doubts.items() if why and element not in soft]
    if said:
        notes.append(f"# In doubt, check before they are copied: {', '.join(said)}.")
    if soft:
        notes.append(
            f"# Left out, since they have no peak of their own above {LIGHT_KEV:.0f} keV: {' '.join(soft)}."
        )
    if oxygen := absent or _oxygen_note(reading, elements):
        notes.append(oxygen)
    listed = {"elements": elements, "stray": [*stray, *unsure]}
    rows = [f"{name} = [{', '.join(_quoted(symbols))}]" for name, symbols in listed.items()]
    if "O" in elements:
        rows.append('oxygen = "measured"')
    elif absent:
        rows.append('oxygen = "none"')
    return "\n".join(["For a configuration", *notes, *_axis_lines(reading), "[sample]", *rows])


def _oxygen_note(reading: Reading, proposed: Sequence[str]) -> str:
    """Say where the oxygen of a sample that may be an oxide comes from; empty where it has no line in the spectrum."""
    if "O" in proposed:
        return "# O is measured from its own line; left out here, it would follow from the cations' valences."
    if reading.named and "O" in reading.found:
        return '# O has a line, and follows from the cations\' valences: oxygen = "measured" reads it from the line.'
    if "O" in reading.off_axis:
        return "# O has no line on the axis: it follows from the cations' valences."
    return ""


def _no_oxygen_note(reading: Reading, sample: Sequence[str]) -> str:
    """Say that the sample is no oxide, where its line of oxygen is missing; empty where it may be one."""
    counts = no_oxides(reading.spectrum, reading.elements, sample, reading.image.acquisition.microscope)
    if counts is None:
        return ""
    return (
        f"# No oxides: O Kα has at most {counts.most:,.0f} counts where oxides of these elements would show about"
        f" {counts.asked:,.0f}."
    )


def _origin_note(origin: StrayEvidence, stray: bool) -> str:
    """Say where an element that may be stray was put, and why."""
    place = "stray" if stray else "elements"
    doubt = " In doubt." if origin.doubtful else ""
    source = f" ({ORIGINS[origin.element]})" if stray else ""
    return f"# {origin.element} under {place}{source}: {origin.reason}.{doubt}"


def _axis_lines(reading: Reading) -> list[str]:
    """Table of the configuration that puts the corrected axis in the place of the file's."""
    axis = reading.axis
    if abs(axis.shift_keV(axis.typical_keV)) <= ORDINARY_KEV:
        return []
    image, fit = reading.image, reading.axis.fit
    first, step = float(image.energy_keV[0]), image.energy_step_keV
    if fit is not None:
        first, step = (first - fit.response.offset_keV) / fit.response.gain, step / fit.response.gain
    return [
        "[map]",
        "# The corrected axis, in the place of the file's.",
        f"energy_offset_keV = {first:.5f}",
        f"energy_scale_keV = {step:.7f}",
    ]


def _quoted(symbols: Sequence[str]) -> list[str]:
    return [f'"{symbol}"' for symbol in symbols]
