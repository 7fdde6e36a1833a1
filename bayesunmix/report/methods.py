"""The methods paragraph of a paper, written from the record of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bayesunmix.core.severity import join

if TYPE_CHECKING:
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
    run = result.run
    sentences = [
        *_map(run),
        *_model(result),
        *_declared(run),
        *_computed(result),
        *_uncertainty(result),
        *_doubts(result),
        _versions(run),
    ]
    return " ".join(" ".join(sentence.split()) for sentence in sentences if sentence)


def _map(run: dict[str, Any]) -> list[str]:
    found = run.get("map", {})
    shape = found.get("shape", [])
    if len(shape) != 3:
        return []
    parts = [f"A STEM-EDS map of {shape[0]} × {shape[1]} pixels and {shape[2]} channels"]
    tem = found.get("acquisition", {}).get("Acquisition_instrument", {}).get("TEM", {})
    given = run.get("config", {}).get("instrument", {})
    beam = given.get("beam_energy_keV", tem.get("beam_energy"))
    angle = given.get("takeoff_angle_deg", tem.get("Detector", {}).get("EDS", {}).get("elevation_angle"))
    if beam:
        parts.append(f"taken at {beam:g} kV")
    if angle:
        parts.append(f"with a take-off angle of {angle:g}°")
    limits = run.get("config", {}).get("map", {}).get("energy_range") or found.get("energy_keV")
    text = f"{' '.join(parts)} was unmixed with bayesunmix {run.get('version', '')}"
    return [f"{text} between {limits[0]:.3g} and {limits[1]:.3g} keV." if limits else f"{text}."]


def _model(result: Result) -> list[str]:
    run = result.run
    sentences = [
        "The counts of each pixel were modelled as Poisson with a mean that is a mixture of phase spectra; the "
        "abundances of the phases in each pixel were integrated out over a discrete prior with learned weights.",
        f"Phase spectra were built from the X-ray lines of {join(result.elements)}"
        + (f" (line strengths: {run['lines']})" if run.get("lines") else "")
        + ", absorption in the film, a detector response fitted to the map, and a smooth continuum.",
    ]
    binning = run.get("binning", {})
    if binning:
        sentences.append(
            f"For the spectra, channels were merged into {binning['bins']} bins and pixels into blocks of "
            f"{binning['block_side']} × {binning['block_side']}, which leaves the counts Poisson."
        )
    sample = run.get("config", {}).get("sample", {})
    if sample.get("stray"):
        sentences.append(f"Lines of {join(sample['stray'])} were fitted as stray and are in no composition.")
    oxygen = {
        "stoichiometry": "Oxygen was taken by stoichiometry.",
        "measured": "Oxygen was measured by its K line.",
        "none": "The sample holds no oxygen.",
    }
    sentences.append(oxygen.get(sample.get("oxygen", ""), ""))
    for name, words in (
        ("thickness_nm", "film thickness of {} nm"),
        ("density_g_cm3", "density of {} g/cm3"),
    ):
        if sample.get(name):
            mean, sd = sample[name]
            sentences.append(
                f"A {words.format(f'{mean:g} ± {sd:g}')} was assumed (mean and sd of the prior)."
            )
    return sentences


def _declared(run: dict[str, Any]) -> list[str]:
    phases = run.get("config", {}).get("phases", [])
    if not isinstance(phases, list):
        return ["The number of phases was inferred."]
    said = []
    for phase in phases:
        facts = ["the matrix, with pure pixels"] if phase.get("matrix") else []
        if phase.get("absent"):
            facts.append(f"free of {join(phase['absent'])}")
        if phase.get("stoichiometry"):
            facts.append(f"close to {phase['stoichiometry']} (soft prior on the site ratio)")
        said.append(f"{phase['name']} ({'; '.join(facts)})" if facts else str(phase["name"]))
    return [f"Declared phases: {join(said)}."]


def _computed(result: Result) -> list[str]:
    run = result.run
    config, diagnostics = run.get("config", {}).get("inference", {}), run.get("diagnostics", {})
    starts = (
        f" The maximum was searched from {len(run['starts'])} starting points." if run.get("starts") else ""
    )
    if run.get("rival_share"):
        starts += (
            f" A second maximum holds {100.0 * run['rival_share']:.2g} % of the posterior, and of the draws."
        )
    method = run.get("method")
    if method == "nuts":
        text = (
            f"The posterior was sampled with the No-U-Turn sampler, {config.get('chains', '?')} chains of "
            f"{config.get('draws', '?')} draws after {config.get('warmup', '?')} of warm-up"
        )
        worst = diagnostics.get("rhat_max")
        fewest = diagnostics.get("ess_bulk_min")
        if worst is not None and fewest is not None:
            text += (
                f" ({diagnostics.get('divergences', 0)} divergences, R-hat at most {worst:.3f}, effective sample size "
                f"at least {fewest:.0f})"
            )
        return [f"{text}.{starts}"]
    words = {
        "laplace": "The posterior was approximated by a normal around its maximum (Laplace), truncated at zero.",
        "map": "The maximum of the posterior is reported, without intervals.",
        "svi": "The posterior was approximated by variational inference.",
    }
    return [words.get(str(method), "") + starts]


def _uncertainty(result: Result) -> list[str]:
    if result.run.get("method") == "map":
        return []
    xray = result.run.get("config", {}).get("xray", {})
    factors = [name for name in ("k_factors", "zeta_factors") if xray.get(name)]
    source = {
        "k_factors": "with the errors of the measured k-factors where given",
        "zeta_factors": "with the errors of the measured zeta-factors where given",
    }
    measured = f" {source[factors[0]]} and" if factors else ""
    return [
        f"Calibration factors of the line families were drawn{measured} from priors (K 5 %, L 10 %, M 20 %), once per "
        "posterior draw and shared by all phases, as was the mass thickness of the film; the map does not update them "
        "(a cut posterior). They widen compositions and cancel to first order in partition coefficients.",
        f"Intervals are equal-tailed {100.0 * result.level:g} % credible intervals computed draw by draw. Detection "
        "follows ISO 11929 with 5 % false decisions of either kind; what was not detected is given as an upper bound "
        f"of {100.0 * result.level:g} % probability. A ratio is given as an interval where both sides are resolved "
        "from zero, with allowance for their having been selected by detection, as a bound where one is, and not at "
        "all where none is.",
    ]


def _doubts(result: Result) -> list[str]:
    """Say what the program itself doubts."""
    verdict = result.verdict
    if not verdict.findings:
        return []
    said = " ".join(finding.text for finding in verdict.findings)
    return [f"The program's own verdict on this result is \u201c{verdict.words}\u201d: {said}"]


def _versions(run: dict[str, Any]) -> str:
    known = run.get("versions", {})
    libraries = [f"{name} {known[name]}" for name in _LIBRARIES if name in known]
    software = [f"bayesunmix {run.get('version', '')}", *libraries]
    if "python" in known:
        software.append(f"Python {known['python']}")
    seed = f" Seed {run['seed']}." if "seed" in run else ""
    counts = f" SHA-256 of the counts: {run['hash']}." if run.get("hash") else ""
    return f"Software: {', '.join(software)}.{seed}{counts}"
