"""A result in words: what was found, how far to trust it, and how to read it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bayesunmix.checks.regions import Region
from bayesunmix.plot.style import element_order
from bayesunmix.rounding import composition_text

if TYPE_CHECKING:
    from bayesunmix.result import Result

_METHODS = {
    "nuts": "sampled with the No-U-Turn sampler",
    "laplace": "approximated by a Gaussian around its maximum (Laplace)",
    "svi": "approximated by variational inference",
    "map": "reduced to its maximum: the numbers carry no intervals",
}
# Elements below this atom fraction count as traces in the summary.
_TRACE = 0.01
# Elements from this atom fraction on say what a phase is.
_MAIN = 0.02
# Vehtari et al., Bayesian Anal. 16 (2021) 667, doi:10.1214/20-BA1221: R-hat at most 1.01, effective sample size 400.
_GOOD_RHAT = 1.01
_GOOD_ESS = 400.0
_LEAST_ESS_PER_CHAIN = 100.0
# Another solution worse by less than this still holds an appreciable part of the posterior.
_RIVAL_NATS = 10.0
# Windows of a map without fault scatter up to this much more than counting explains.
_WIDE_SPREAD = 1.5
# A model without fault has a deviance of about one per degree of freedom.
_GOOD_DEVIANCE = 1.2


class Check(NamedTuple):
    """One diagnostic: name, what was found, ``good``, ``bad`` or ``note``, what it means, what to do when it is bad."""

    name: str
    found: str
    verdict: str
    meaning: str
    remedy: str


def headline(result: Result) -> list[str]:
    """Return the sentences that open the report: data, phases and method."""
    counts = result.tree["constant_data"].dataset["total_counts"].values
    shape = result.tree["maps"].dataset["label"].shape
    abundance = result.tree["maps"].dataset["abundance_mean"].values
    shares = [float(np.mean(values)) for values in abundance]
    count = len(result.phases)
    listed = join(
        f"{phase} ({100.0 * share:.3g}\u00a0%)" for phase, share in zip(result.phases, shares, strict=True)
    )
    where = {1: "a single spectrum", max(shape): f"a line of {max(shape)} pixels"}.get(
        shape[0] * shape[1], f"a map of {shape[0]} × {shape[1]} pixels"
    )
    return [
        f"{_number_word(count)} {'phase' if count == 1 else 'phases'} in {where} "
        f"({_large(float(counts.sum()))} counts, {float(counts.mean()):.3g} per pixel): {listed}. "
        "The percentages are mean abundances over the pixels, in atoms.",
        f"The posterior was {_METHODS.get(result.run.get('method', ''), 'computed')}{_effort(result)}.",
    ]


def findings(result: Result) -> list[tuple[str, str]]:
    """Return per phase its name and a sentence with its main elements, its traces and what was not found."""
    table = result.summary()
    found = []
    for phase in result.phases:
        rows = {str(row.element): row for row in table[table["phase"] == phase].itertuples(index=False)}
        ordered = [rows[element] for element in element_order(rows)]
        seen = [row for row in ordered if row.detected == "true"]
        main = sorted((row for row in seen if row.mean >= _TRACE), key=lambda row: -row.mean)
        sentences = [
            _listed("", main),
            _listed("Traces detected: ", [row for row in seen if row.mean < _TRACE]),
            _listed("Not detected: ", [row for row in ordered if row.detected == "false"]),
        ]
        absent = [row.element for row in ordered if row.detected == "declared_absent"]
        if absent:
            sentences.append(f"Declared absent: {', '.join(absent)}.")
        found.append((phase, " ".join(sentence for sentence in sentences if sentence)))
    return found


def checks(result: Result) -> list[Check]:
    """Return every diagnostic in words."""
    table = result.diagnostics()
    return [
        _rhat_check(table, result.run.get("method", "")),
        _ess_check(table, result.tree["posterior"].dataset.sizes["chain"]),
        *_divergence_check(result),
        *_starts_check(result.run.get("starts", [])),
        *_deviance_check(result),
        *_regions_check(result.run.get("fit", {})),
        *_robust_check(result.run.get("robust", {})),
        *_binning_note(result.run.get("binning", {})),
        *_response_note(result.run.get("response", {})),
    ]


def assumptions(result: Result) -> list[str]:
    """Return the sentences on what the result takes for granted."""
    config = result.run.get("config", {})
    sample = config.get("sample", {})
    sentences = [
        "Every pixel is a mixture of the phases listed, each of one composition everywhere.",
        "The sample is a thin film: X-rays are absorbed a little, and secondary fluorescence is negligible.",
    ]
    oxygen = {
        "stoichiometry": "Oxygen is not measured: each cation brings the oxygen of its usual oxide.",
        "measured": "Oxygen is measured by its own line, like every other element.",
        "none": "The sample holds no oxygen.",
    }
    if sample.get("oxygen") in oxygen:
        sentences.append(oxygen[sample["oxygen"]])
    if sample.get("stray"):
        sentences.append(
            f"Lines of {join(sample['stray'])} come from grid, ion beam or column; they are in no composition."
        )
    declared = config.get("phases", [])
    for phase in declared if isinstance(declared, list) else []:
        sentences += _declared(phase)
    sentences += [str(sentence) for sentence in result.run.get("assumptions", [])]
    return list(dict.fromkeys(sentences))


def misfit_words(run: dict[str, Any]) -> tuple[str, list[str]]:
    """Return a paragraph on the search for places that do not fit, and a sentence for each place."""
    search = run.get("misfit_search", {})
    regions = [Region(**entry) for entry in run.get("misfit", [])]
    opening = (
        f"{_number_word(len(regions))} {'place is' if len(regions) == 1 else 'places are'} no mixture of the declared "
        f"phases. The threshold of {search.get('threshold', math.nan):.2g} sigma is passed anywhere by "
        f"{100 * search.get('false_alarm', math.nan):g} of 100 maps without fault."
    )
    spread = search.get("spread", 1.0)
    if spread > _WIDE_SPREAD:
        opening += (
            f" The whole map scatters up to {spread:.2g} times as much as counting explains (zoning, thickness); "
            "places are measured against that scatter."
        )
    return opening, [f"{number}: {region.sentence()}." for number, region in enumerate(regions, 1)]


def phase_number_words(facts: dict[str, Any]) -> list[str]:
    """Return the sentences on how many phases were chosen, why, and what the next one would be."""
    chosen, curve = int(facts["chosen"]), facts["curve"]
    best = max(curve, key=lambda row: row["score"])
    said = [
        f"The number of phases was inferred: {chosen}. Half of the counts of each block were kept out of the fit; "
        f"{best['k']} {'phase predicts' if best['k'] == 1 else 'phases predict'} them best; {chosen} is "
        f"{facts['rule']}."
    ]
    after = facts["next_phase"]
    if after is not None:
        main = sorted(after["composition"].items(), key=lambda pair: -pair[1])
        listed = ", ".join(f"{element} {100 * value:.2g} at%" for element, value in main if value >= _MAIN)
        said.append(
            f"One phase more would hold {100 * after['share']:.2g} % of the counts ({listed}) and change the held-out "
            f"score by {after['gain']:+.1f} ± {after['gain_se']:.1f} nats."
        )
    return said


def join(parts: Iterable[str]) -> str:
    """Join words as in a sentence.

    Examples
    --------
    >>> join(["Nd", "Sm", "U"])
    'Nd, Sm and U'
    """
    words = list(parts)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}" if words else ""


def _declared(phase: dict[str, Any]) -> list[str]:
    name, absent = phase.get("name", "?"), phase.get("absent", ())
    sentences = []
    if phase.get("matrix"):
        sentences.append(f"{name} is the matrix: some pixels hold nothing else (declared).")
    if absent:
        sentences.append(f"{name} contains no {join(absent)} (declared).")
    if phase.get("stoichiometry"):
        sentences.append(f"{name} is close to {phase['stoichiometry']} (declared, a soft prior).")
    return sentences


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
    if result.run.get("method") != "nuts":
        return ""
    sizes = result.tree["posterior"].dataset.sizes
    return f" ({sizes['chain']} chains of {sizes['draw']} draws)"


def _rhat_check(table: Any, method: str) -> Check:  # noqa: ANN401 - a table
    worst = _extreme(table["rhat"], largest=True)
    name = "R-hat"
    meaning = (
        "Compares the chains with each other. Above 1.01 they have not yet explored the same distribution, and means "
        "and intervals depend on where they happened to start."
    )
    remedy = "Give more `warmup` and `draws`; if it stays high, declare what you know about the phases."
    if worst is None or method != "nuts":
        return Check(name, f"not needed: method {method} runs no chains", "note", meaning, remedy)
    verdict = "good" if worst[1] <= _GOOD_RHAT else "bad"
    return Check(
        name, f"at most {worst[1]:.3f} ({table['quantity'].iloc[worst[0]]})", verdict, meaning, remedy
    )


def _ess_check(table: Any, chains: int) -> Check:  # noqa: ANN401
    name = "Effective sample size"
    meaning = (
        "How many independent draws the chains are worth. Below 400 the ends of the intervals are uncertain in their "
        "last digits."
    )
    remedy = "Give more `draws`."
    bulk, tail = (_extreme(table[column], largest=False) for column in ("ess_bulk", "ess_tail"))
    if bulk is None:
        return Check(name, "not defined: the draws are independent", "note", meaning, remedy)
    found = f"bulk at least {bulk[1]:.0f} ({table['quantity'].iloc[bulk[0]]})"
    if tail is not None:
        found += f", tails at least {tail[1]:.0f}"
    enough = "note" if bulk[1] >= _LEAST_ESS_PER_CHAIN * chains else "bad"
    return Check(name, found, "good" if bulk[1] >= _GOOD_ESS else enough, meaning, remedy)


def _divergence_check(result: Result) -> list[Check]:
    if "sample_stats" not in result.tree or "diverging" not in result.tree["sample_stats"].dataset:
        return []
    diverging = result.tree["sample_stats"].dataset["diverging"]
    count, total = int(diverging.sum()), int(diverging.size)
    meaning = (
        "A divergence marks a place of the posterior that the sampler could not follow; what lies behind it "
        "is missing."
    )
    remedy = "Give more `warmup`. If divergences stay, a phase may be superfluous or hardly present."
    verdict = "good" if count == 0 else "bad"
    return [Check("Divergences", f"{count} in {total} draws", verdict, meaning, remedy)]


def _starts_check(starts: list[dict[str, Any]]) -> list[Check]:
    if not starts:
        return []
    best = min(start["objective"] for start in starts)
    others = [start["objective"] - best for start in starts if not start.get("same_mode")]
    found = f"{len(starts) - len(others)} of {len(starts)} reached the best solution"
    if others:
        found += f"; the nearest other one fits {min(others):.3g} nats worse"
    meaning = (
        "The search for the best solution begins at several places. Another solution many nats worse can be ignored; "
        "one within a few nats fits as well, and the data alone cannot choose between the two."
    )
    remedy = "Declare more: an element absent from a phase, a matrix phase, a stoichiometry."
    verdict = "bad" if min(others, default=math.inf) < _RIVAL_NATS else "good" if len(starts) > 1 else "note"
    return [Check("Starts and modes", found, verdict, meaning, remedy)]


def _deviance_check(result: Result) -> list[Check]:
    fit = result.run.get("fit", {})
    total, segments = fit.get("deviance_per_dof_total"), fit.get("deviance_per_dof_segments")
    if not _finite(total):
        return []
    each = segments if isinstance(segments, list) else [segments]
    known = [value for value in each if _finite(value)]
    found = f"{total:.2f} for the whole map"
    if known:
        found += f"; {', '.join(f'{value:.2f}' for value in known)} for the pixels labelled as each phase"
    meaning = "Misfit of the summed spectra per degree of freedom: about 1 when only counting noise is left."
    remedy = (
        "Look at the residuals below the sum spectrum: a peak there is a missing element, "
        "a wave a wrong background."
    )
    verdict = "good" if max([total, *known]) <= _GOOD_DEVIANCE else "note"
    return [Check("Deviance per degree of freedom", found, verdict, meaning, remedy)]


def _regions_check(fit: dict[str, Any]) -> list[Check]:
    if "residual_scan" not in fit:
        return []
    scan, regions = fit["residual_scan"], fit["residual_regions"]
    found = "none"
    if regions:
        worst = max(regions, key=lambda region: abs(region["sigma"]))
        found = (
            f"{len(regions)}; the largest {worst['sigma']:+.1f} σ at {worst['energy_keV']:.2f} keV in "
            f"{worst['spectrum']} (perhaps {worst['cause']})"
        )
    meaning = (
        f"Places where counts pooled over one width of the detector leave the fit by more than "
        f"{scan['threshold_sigma']:g} σ; noise alone makes {scan['regions_expected_of_noise']:.2g} of them."
    )
    remedy = "Declare the element that is named, or cut the region off with `energy_range`."
    beyond = any(abs(region["sigma"]) > scan["global_threshold_sigma"] for region in regions)
    return [Check("Residuals", found, "note" if beyond else "good", meaning, remedy)]


def _robust_check(robust: dict[str, Any]) -> list[Check]:
    if not robust:
        return []
    meaning = (
        "Parts of the map are compared with each other. Where a phase varies (zoning, a wedge), its mean is less "
        "certain than counting says, and the intervals are widened by what the parts differ; the model's own are in "
        "the columns sd_model, lower_model and upper_model of composition.csv."
    )
    return [Check("Variation over the map", str(robust["reason"]), "note", meaning, "")]


def _binning_note(binning: dict[str, Any]) -> list[Check]:
    if not binning:
        return []
    side = binning.get("block_side", 1)
    found = (
        f"{binning.get('channels', '?')} channels in {binning.get('bins', '?')} bins; {side} × {side} pixels to a "
        f"block, {binning.get('blocks', '?')} blocks"
    )
    if _finite(binning.get("mean_counts_per_block")):
        found += f" of {binning['mean_counts_per_block']:.3g} counts on average"
    meaning = (
        "Compositions are inferred from merged channels and pixels. Sums of Poisson counts are Poisson counts, so "
        "this is exact; the maps are at full resolution."
    )
    return [Check("Binning", found, "note", meaning, "")]


def _response_note(response: dict[str, Any]) -> list[Check]:
    if not response:
        return []
    labels = (
        ("gain", "gain", 1.0, "{:.5f}"),
        ("offset_keV", "offset", 1000.0, "{:.2f} eV"),
        ("noise_eV", "noise", 1.0, "{:.1f} eV"),
        ("fano", "Fano factor", 1.0, "{:.3f}"),
    )
    parts = [
        f"{label} {text.format(scale * response[key])}"
        for key, label, scale, text in labels
        if _finite(response.get(key))
    ]
    meaning = (
        "Energy scale and peak width, fitted to the map itself. A gain far from 1 or an offset of more than a few "
        "tens of eV means that the energy axis of the file is off."
    )
    return [Check("Detector response", ", ".join(parts), "note", meaning, "")]


def _extreme(values: Any, *, largest: bool) -> tuple[int, float] | None:  # noqa: ANN401 - a column of a table
    """Position and value of the largest or smallest finite entry; None when there is none."""
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).any():
        return None
    place = int(np.nanargmax(numbers) if largest else np.nanargmin(numbers))
    return place, float(numbers[place])


def _finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
