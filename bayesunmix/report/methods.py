"""The methods paragraph of a paper, written from the record of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bayesunmix.core.rounding import percent_text
from bayesunmix.core.severity import join
from bayesunmix.report.words import fractions_text, reference_text, region_text

if TYPE_CHECKING:
    from bayesunmix.results.record import RunRecord
    from bayesunmix.results.result import Result

# Those whose versions a reader needs to repeat the numbers.
_LIBRARIES = ("jax", "numpyro", "numpy", "scipy", "xraylib")


def methods_paragraph(result: Result) -> str:
    """Return the paragraph: what was measured, modelled, declared and assumed, how it was computed, and the versions.

    Parameters
    ----------
    result
        The result of a run; what its record does not say is left out.
    """
    record = result.record
    sentences = [
        *_map(record),
        *_model(result),
        *_declared(record),
        *_computed(result),
        *_uncertainty(result),
        *_doubts(result),
        _versions(record),
    ]
    return " ".join(" ".join(sentence.split()) for sentence in sentences if sentence)


def _map(record: RunRecord) -> list[str]:
    found, shape = record.map, record.map.shape
    if shape is None:
        return []
    parts = [f"A STEM-EDS map of {shape[0]} × {shape[1]} pixels and {shape[2]} channels"]
    given = record.config.instrument
    beam = given.beam_energy_keV or found.acquisition.beam_energy_keV
    angle = given.takeoff_angle_deg or found.acquisition.takeoff_angle_deg
    if beam:
        parts.append(f"taken at {beam:g} kV")
    if angle:
        parts.append(f"with a take-off angle of {angle:g}°")
    limits = record.config.map.energy_range or found.energy_keV
    text = f"{' '.join(parts)} was unmixed with bayesunmix {record.version}"
    return [f"{text} between {limits[0]:.3g} and {limits[1]:.3g} keV." if limits else f"{text}."]


def _model(result: Result) -> list[str]:
    record = result.record
    sentences = [
        "The counts of each pixel were modelled as Poisson with a mean that is a mixture of phase spectra; the "
        "abundances of the phases in each pixel were integrated out over a discrete prior with learned weights.",
        f"Phase spectra were built from the X-ray lines of {join(result.elements)}"
        + (f" (line strengths: {record.lines})" if record.lines else "")
        + ", absorption in the film, a detector response fitted to the map, and a smooth continuum.",
    ]
    binning, sample = record.binning, record.config.sample
    if binning:
        sentences.append(
            f"For the spectra, channels were merged into {binning.bins} bins and pixels into blocks of "
            f"{binning.block_side} × {binning.block_side}, which leaves the counts Poisson."
        )
    if sample.stray:
        sentences.append(f"Lines of {join(sample.stray)} were fitted as stray and are in no composition.")
    oxygen = {
        "stoichiometry": "Oxygen was taken by stoichiometry.",
        "measured": "Oxygen was measured by its K line.",
        "none": "The sample holds no oxygen.",
    }
    sentences.append(oxygen[sample.oxygen])
    for given, words in (
        (sample.thickness_nm, "film thickness of {} nm"),
        (sample.density_g_cm3, "density of {} g/cm3"),
    ):
        if given is not None:
            mean, sd = given
            sentences.append(
                f"A {words.format(f'{mean:g} ± {sd:g}')} was assumed (mean and sd of the prior)."
            )
    return sentences


def _declared(record: RunRecord) -> list[str]:
    said = []
    for phase in record.config.phases:
        facts = ["the matrix, with pure pixels"] if phase.matrix else []
        if phase.region:
            facts.append(f"alone in {region_text(phase.region)[0].lower()}{region_text(phase.region)[1:]}")
        if phase.absent:
            facts.append(f"free of {join(phase.absent)}")
        if phase.stoichiometry:
            facts.append(f"close to {phase.stoichiometry} (soft prior on the site ratio)")
        if phase.soft_composition:
            facts.append(f"{fractions_text(phase.soft_composition)} (soft prior)")
        if phase.reference:
            facts.append(f"like {reference_text(phase.reference)} (soft prior)")
        facts += [
            f"{key} in {join(getattr(phase, key))} (soft prior)"
            for key in ("rich", "poor")
            if getattr(phase, key)
        ]
        said.append(f"{phase.name} ({'; '.join(facts)})" if facts else phase.name)
    inferred = record.phase_number is not None
    names = join([phase.name for phase in record.config.phases])
    if said == [phase.name for phase in record.config.phases]:
        told = f"Nothing was declared of the phases ({names})"
    else:
        told = f"Declared phases: {join(said)}"
    return [f"{told}; their number was inferred from held-out counts." if inferred else f"{told}."]


def _computed(result: Result) -> list[str]:
    record, diagnostics = result.record, result.record.diagnostics
    config = record.config.inference
    starts = f" The maximum was searched from {len(record.starts)} starting points." if record.starts else ""
    if record.second_maximum_share:
        share = percent_text(record.second_maximum_share)
        starts += f" A second maximum holds {share} % of the posterior, and of the draws."
    if record.method == "nuts":
        text = (
            f"The posterior was sampled with the No-U-Turn sampler, {_or_unknown(config.chains)} chains of "
            f"{_or_unknown(config.draws)} draws after {_or_unknown(config.warmup)} of warm-up"
        )
        worst, fewest = diagnostics.rhat_max, diagnostics.ess_bulk_min
        if worst is not None and fewest is not None:
            text += (
                f" ({diagnostics.divergences or 0} divergences, R-hat at most {worst:.3f}, effective sample size "
                f"at least {fewest:.0f})"
            )
        return [f"{text}.{starts}"]
    words = {
        "laplace": "The posterior was approximated by a normal around its maximum (Laplace), truncated at zero.",
        "map": "The maximum of the posterior is reported, without intervals.",
        "svi": "The posterior was approximated by variational inference.",
    }
    return [words.get(record.method, "") + starts]


def _uncertainty(result: Result) -> list[str]:
    if result.record.method == "map":
        return []
    xray = result.record.config.xray
    factors = "k-factors" if xray.k_factors else "zeta-factors" if xray.zeta_factors else ""
    measured = f" with the errors of the measured {factors} where given and" if factors else ""
    return [
        f"Calibration factors of the line families were drawn{measured} from priors as wide as sources of atomic data "
        "differ for each element (some 5 % for K, 11 % for L, 15 to 21 % for M lines, 50 % for M of La to Eu), once "
        "per posterior draw and shared by all phases, as was the mass thickness of the film; the map does not update "
        "them (a cut posterior). They widen compositions and cancel to first order in partition coefficients.",
        *_rotations(result.record),
        f"Intervals are equal-tailed {100.0 * result.level:g} % credible intervals computed draw by draw. Detection "
        "follows ISO 11929 with 5 % false decisions of either kind; what was not detected is given as an upper bound "
        f"of {100.0 * result.level:g} % probability. A ratio is given as an interval where both sides are resolved "
        "from zero, with allowance for their having been selected by detection, as a bound where one is, and not at "
        "all where none is.",
    ]


def _rotations(record: RunRecord) -> list[str]:
    """Say what the draws hold of solutions that fit as well."""
    found = record.rotations
    if found is None or not found.rotated:
        return []
    return [
        f"The counts leave open how {join(found.rotated)} mix with other phases: draws were rotated to all solutions "
        f"that fit as well, {100.0 * found.pure:.0f} % of them to where some pixel of a phase is pure, "
        f"{100.0 * found.absent:.0f} % to where an element of another phase is absent from it, the others evenly "
        "between."
    ]


def _doubts(result: Result) -> list[str]:
    """Say what the program itself doubts."""
    verdict = result.verdict
    if not verdict.findings:
        return []
    said = " ".join(finding.text for finding in verdict.findings)
    return [f"The program's own verdict on this result is \u201c{verdict.words}\u201d: {said}"]


def _versions(record: RunRecord) -> str:
    known = record.versions
    libraries = [f"{name} {known[name]}" for name in _LIBRARIES if name in known]
    software = [f"bayesunmix {record.version}", *libraries]
    if "python" in known:
        software.append(f"Python {known['python']}")
    counts = f" SHA-256 of the counts: {record.hash}." if record.hash else ""
    return f"Software: {', '.join(software)}. Seed {record.seed}.{counts}"


def _or_unknown(number: int | None) -> str:
    return "?" if number is None else str(number)
