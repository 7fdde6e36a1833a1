"""A result in words: what was found, how far to trust it, and how to read it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesunmix.config.phase import MOST_COUNTED
from bayesunmix.config.pixels import span_text
from bayesunmix.core.rounding import composition_text, main_elements_text, percent_text, times_text
from bayesunmix.core.severity import join
from bayesunmix.fit.phase_distance import LEAST_APART, LEAST_SHOWN
from bayesunmix.plot.misfit import outlined, searched
from bayesunmix.plot.style import element_order
from bayesunmix.report.supports import supports_note
from bayesunmix.results.tables import STATED, UNTESTED, counted_share, share_texts

if TYPE_CHECKING:
    from bayesunmix.checks.outcomes import SetAside, UnmodelledRegions
    from bayesunmix.results.record_parts import (
        CountedPhase,
        PhaseConfig,
        PhaseNumber,
        ReferenceSpectrum,
        UncountedPhase,
    )
    from bayesunmix.results.result import Result

_METHODS = {
    "nuts": "sampled with the No-U-Turn sampler",
    "laplace": "approximated by a Gaussian around its maximum (Laplace)",
    "svi": "approximated by variational inference",
    "map": "reduced to its maximum: the numbers have no intervals",
}
# Elements below this atom fraction count as traces in the summary.
_TRACE = 0.01
# Elements of a reference spectrum that are told: a tenth of an atom per cent, and more than counting may make.
_SHOWN = 1e-3
# Windows of a map without fault scatter up to this much more than counting explains.
_WIDE_SPREAD = 1.5


def _left_out(result: Result) -> list[str]:
    """Say how many pixels take no part, and why."""
    entries = result.record.map.left_out
    if not entries:
        return []
    total = sum(entry.pixels for entry in entries)
    parts = [f"{entry.pixels} {entry.reason}" for entry in entries]
    verb = "takes" if total == 1 else "take"
    return [f"{total} {'pixel' if total == 1 else 'pixels'} {verb} no part: {join(parts)}."]


def headline(result: Result) -> list[str]:
    """Return the sentences that open the report: data, phases and method."""
    counts = result.tree["constant_data"].dataset["total_counts"].values
    maps = result.tree["maps"].dataset
    shape = maps["label"].shape
    kept = ~maps["left_out"].values if "left_out" in maps else np.ones(shape, bool)
    count = len(result.phases)
    listed = join(f"{phase} ({share})" for phase, share in _shares(result).items())
    where = {1: "a single spectrum", max(shape): f"a line of {max(shape)} pixels"}.get(
        shape[0] * shape[1], f"a map of {shape[0]} × {shape[1]} pixels"
    )
    return [
        f"{_number_word(count)} {'phase' if count == 1 else 'phases'} in {where} "
        f"({_large(float(counts.sum()))} counts, {float(counts[kept].mean()):.3g} per pixel): {listed}. "
        f"The percentages are shares of the atoms in the map.{supports_note(result)}",
        *_left_out(result),
        f"The posterior was {_METHODS.get(result.record.method, 'computed')}{_effort(result)}.",
    ]


def _shares(result: Result) -> dict[str, str]:
    """Return the share of every phase as text: of the atoms with its interval, of a support of the counts."""
    held = share_texts(result.tables.phase_shares())
    return {
        phase: f"{100.0 * counted_share(result.tree, phase):.3g}\u00a0%\u00a0of the counts"
        if phase in result.supports
        else held[phase].replace(" ", "\u00a0")
        for phase in result.phases
    }


def findings(result: Result) -> list[tuple[str, str]]:
    """Return per phase its name and a sentence with its main elements, its traces and what was not found."""
    table = result.summary()
    traces = (
        "Traces, not tested for detection: " if UNTESTED in set(table["detected"]) else "Traces detected: "
    )
    found = []
    for phase in result.phases:
        if phase in result.supports:
            found.append(
                (
                    phase,
                    "A support: it holds no element of the sample, and its abundance is a share of counts.",
                )
            )
            continue
        rows = {str(row.element): row for row in table[table["phase"] == phase].itertuples(index=False)}
        ordered = [rows[element] for element in element_order(rows)]
        seen = [row for row in ordered if row.detected in STATED]
        main = sorted((row for row in seen if row.mean >= _TRACE), key=lambda row: -row.mean)
        sentences = [
            _listed("", main),
            _listed(traces, [row for row in seen if row.mean < _TRACE]),
            _listed("Not detected: ", [row for row in ordered if row.detected == "false"]),
        ]
        absent = [row.element for row in ordered if row.detected == "declared_absent"]
        if absent:
            sentences.append(f"Declared absent: {', '.join(absent)}.")
        found.append((phase, " ".join(sentence for sentence in sentences if sentence)))
    return found


def assumptions(result: Result) -> list[str]:
    """Return the sentences on what the result takes for granted."""
    config = result.record.config
    sentences = [
        "Every pixel is a mixture of the phases listed, each of one composition everywhere.",
        "The sample is a thin film: X-rays are absorbed a little, and secondary fluorescence is negligible.",
    ]
    oxygen = {
        "stoichiometry": "Oxygen is not measured: each cation brings the oxygen of its usual oxide.",
        "measured": "Oxygen is measured by its own line, like every other element.",
        "none": "The sample holds no oxygen.",
    }
    sentences.append(oxygen[config.sample.oxygen])
    if config.sample.stray:
        sentences.append(
            f"Lines of {join(config.sample.stray)} come from grid, ion beam or column; they are in no composition."
        )
    for phase in config.phases:
        sentences += _declared(phase)
    sentences += [_of_reference(one) for one in result.record.references]
    return list(dict.fromkeys(sentences))


class MisfitWords(NamedTuple):
    """A paragraph on the search for regions of significant residual, and a sentence for each."""

    paragraph: str
    regions: list[str]


def misfit_words(found: UnmodelledRegions) -> MisfitWords:
    """Return a paragraph on the search for regions of significant residual, and a sentence for each."""
    regions, spread = found.regions, found.spread
    many = "a region" if len(regions) == 1 else f"{_number_word(len(regions)).lower()} regions"
    hollow = bool(regions) and all(region.kind == "hole" for region in regions)
    opening = (
        f"There {'is' if len(regions) == 1 else 'are'} {many} "
        f"{'far thinner than what is around' if hollow else 'that no mixture of the phases explains'}. "
        f"{100 * (found.false_alarm or math.nan):g} % of maps without an unmodelled phase exceed the threshold of "
        f"{found.threshold:.2g} sigma anywhere."
    )
    if spread > _WIDE_SPREAD:
        opening += (
            f" The whole map scatters up to {times_text(spread)} as much as counting explains (zoning, thickness); "
            "regions are measured against that scatter."
        )
    return MisfitWords(
        opening, [f"{number}: {region.sentence()}." for number, region in enumerate(regions, 1)]
    )


def misfit_key(result: Result) -> str:
    """Say what is drawn over the map of residuals, or the line of them."""
    sigma, found = result.tree["maps"].dataset["misfit"].values, searched(result)
    threshold = f"the threshold of {found.threshold:.2g} sigma"
    if min(sigma.shape) == 1:
        return f"Dashed: {threshold}."
    said = [
        f"Outlined: above {threshold}"
        if outlined(sigma, found.threshold)
        else f"Nothing is above {threshold}"
    ]
    if found.regions:
        holes = any(region.kind == "hole" for region in found.regions)
        said.append(f"numbers are those of the list{', holes included' if holes else ''}")
    return f"{'; '.join(said)}."


def aside_words(found: SetAside) -> list[str]:
    """Return the sentences on what the phases were not fitted to."""
    places = len(found.places)
    where = join(f"row {place.y:.0f}, column {place.x:.0f} ({place.pixels} pixels)" for place in found.places)
    said = [
        f"{_number_word(places)} {'place was' if places == 1 else 'places were'} set aside, the regions with what is "
        f"around them: {where}. Their {found.pixels} pixels, {percent_text(found.share_of_counts)} % of the counts, "
        "took no part in the fit of the phases, which would be bent by them. In the maps each has a spectrum of its "
        "own beside the phases; what is mostly that has no label."
    ]
    if not found.settled:
        said.append(
            "The fit without them still leaves regions that no mixture of the declared phases explains: see the list."
        )
    return said


def phase_number_words(found: PhaseNumber) -> list[str]:
    """Return the sentences on how many phases were chosen, why, what was not counted, and what would be next."""
    tried = len(found.curve)
    said = [
        f"The number of phases was inferred: {found.chosen}. One to {tried} phases were fitted to half of the counts "
        "of each block and scored by the other half, by the logarithm of its probability in nats. A phase counts where "
        "that score gains more than 10 nats and two standard errors from it, and where its counts by element differ "
        f"from every mixture of the others, by more than {100 * LEAST_APART:.0f} % in its spectrum, unless it is pure "
        f"in many pixels, and by more than {100 * LEAST_SHOWN:.0f} % as the map shows it."
        if tried > 1
        else "The number of phases was inferred: 1. The map is too small for more."
    ]
    if len(found.phases) > 1:
        listed = "; ".join(
            f"{main_elements_text(one.composition)} ({_share_and_gain(one)})" for one in found.phases
        )
        said.append(
            "Counted, with the gain in that score, and with preliminary compositions, from half of the counts: "
            f"{listed}."
        )
    alike = [one for one in found.left_out if one.reason != "unsupported"]
    if alike:
        listed = "; ".join(map(_uncounted, alike))
        said.append(f"Not counted: {listed}.")
    after = next((one for one in found.left_out if one.reason == "unsupported"), None)
    if after is not None:
        said.append(
            f"{'A further phase' if alike else 'One phase more'} would hold {percent_text(after.share)} % of the "
            f"counts ({main_elements_text(after.composition)}) and change the score by {after.gain:+.1f} ± "
            f"{after.gain_se:.1f}, which is not significant."
        )
    elif found.chosen == MOST_COUNTED:
        said.append(f"More than {MOST_COUNTED} phases are not tried: there may be more.")
    return said


def _share_and_gain(one: CountedPhase | UncountedPhase) -> str:
    """Say what a phase holds of the counts, and what the score gains from it."""
    share = f"{percent_text(one.share)} % of the counts"
    return share if one.gain is None else f"{share}, {one.gain:+.0f} ± {one.gain_se:.0f}"


def _uncounted(left: UncountedPhase) -> str:
    """Say what one that was not counted is, and why."""
    said = f"{main_elements_text(left.composition)} ({_share_and_gain(left)})"
    nearest = max(left.like, key=lambda part: part.share, default=None)
    if nearest is None:
        return said
    if left.reason == "variation":
        return f"{said}, a variation of {main_elements_text(nearest.composition)}"
    parts = [f"{main_elements_text(part.composition)} ({percent_text(part.share)} %)" for part in left.like]
    return f"{said}, which fits as a mixture of {join(parts)}"


def _declared(phase: PhaseConfig) -> list[str]:
    name, sentences = phase.name, []
    if phase.matrix:
        sentences.append(f"{name} is the matrix: some pixels hold nothing else (declared).")
    if phase.region:
        sentences.append(f"{region_text(phase.region)} hold {name} alone (declared).")
    if phase.absent:
        sentences.append(f"{name} contains no {join(phase.absent)} (declared).")
    if phase.stoichiometry:
        sentences.append(f"{name} is close to {phase.stoichiometry} (declared, a soft prior).")
    if phase.soft_composition:
        sentences.append(f"{name} has {fractions_text(phase.soft_composition)} (declared, a soft prior).")
    if phase.reference:
        sentences.append(
            f"{name} has the composition of {reference_text(phase.reference)} (declared, a soft prior)."
        )
    for key in ("rich", "poor"):
        if getattr(phase, key):
            more = {"rich": "more", "poor": "less"}[key]
            sentences.append(f"{name} has {more} {join(getattr(phase, key))} than other phases (declared).")
    return sentences


def region_text(region: Mapping[str, Any]) -> str:
    """Say where a declared region is.

    Examples
    --------
    >>> region_text({"rows": (10, 20), "columns": (30, None)}), region_text({"file": "grain.npy"})
    ('Pixels of rows 10:20 and columns 30:', 'Pixels of grain.npy')
    """
    if region.get("file"):
        return f"Pixels of {Path(str(region['file'])).name}"
    spans = [(name, region[name]) for name in ("rows", "columns") if region.get(name)]
    return f"Pixels of {join(f'{name} {span_text(span)}' for name, span in spans)}"


def reference_text(reference: Mapping[str, Any]) -> str:
    """Say what a reference spectrum is.

    Examples
    --------
    >>> reference_text({"file": "data/grain.msa"}), reference_text({"counts": [3, 1]})
    ('the reference spectrum grain.msa', 'a reference spectrum')
    """
    file = reference.get("file")
    return f"the reference spectrum {Path(str(file)).name}" if file else "a reference spectrum"


def _of_reference(found: ReferenceSpectrum) -> str:
    """Say what a reference spectrum was read as."""
    listed = {
        element: (max(fraction, 0.0), found.sd[element])
        for element, fraction in found.atom_fractions.items()
        if fraction > max(_SHOWN, found.counting_sd[element])
    }
    return (
        f"The reference spectrum of {found.phase} ({_large(found.counts)} counts) has {fractions_text(listed)}, by the "
        "line strengths by which the map is read."
    )


def fractions_text(composition: Mapping[str, tuple[float, float]]) -> str:
    """Say atom fractions and their errors.

    Examples
    --------
    >>> fractions_text({"Al": (0.15, 0.03), "Ti": (0.02, 0.01)})
    '15 ± 3 at% Al and 2 ± 1 at% Ti'
    """
    return join(
        f"{100.0 * mean:.3g} ± {100.0 * sd:.2g} at% {name}" for name, (mean, sd) in composition.items()
    )


def _listed(opening: str, rows: list[Any]) -> str:
    if not rows:
        return ""
    parts = [f"{row.element} {composition_text(row)}" for row in rows]
    parts[-1] += " at%."
    # An element stays with its number at the end of a line.
    return opening + ", ".join(part.replace(" ", "\u00a0") for part in parts)


def _number_word(count: int) -> str:
    words = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine")
    return words[count] if count < len(words) else str(count)


def _large(number: float) -> str:
    return f"{number / 1e6:.3g} million" if number >= 1e6 else f"{number:,.0f}"


def _effort(result: Result) -> str:
    if result.record.method != "nuts":
        return ""
    sizes = result.tree["posterior"].dataset.sizes
    return f" ({sizes['chain']} chains of {sizes['draw']} draws)"
