"""The health of a run: every diagnostic with what was found, what it means, and what to do when it is bad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import numpy as np

from bayesunmix.core.rounding import odds_text, times_text
from bayesunmix.core.severity import (
    DEVIANCE,
    DIVERGENCES,
    ESS,
    IDENTIFIABILITY,
    MODES,
    OVERLAP,
    PHOTONS,
    PLACES,
    PRESENCE,
    RESIDUALS,
    RHAT,
    STEPS,
    UNDECLARED,
    VARIATION,
)
from bayesunmix.results.verdict import (
    ESS_PER_CHAIN,
    NOISE_CHANCE,
    RHAT_LIMIT,
    Finding,
)

if TYPE_CHECKING:
    from bayesunmix.checks.outcomes import (
        Goodness,
        Heterogeneity,
        Identifiability,
        SetAside,
        SpectralDiscrepancy,
        UnmodelledRegions,
    )
    from bayesunmix.config.overlap import OverlapChoice, OverlapScore
    from bayesunmix.results.record import RunRecord
    from bayesunmix.results.record_parts import (
        Binning,
        Diagnostics,
        FurtherPhase,
        Presence,
        Response,
        StartingPoint,
    )
    from bayesunmix.results.result import Result

# Vehtari et al., Bayesian Anal. 16 (2021) 667, doi:10.1214/20-BA1221.
_GOOD_ESS = 400.0
# A model without fault has a deviance of about one per degree of freedom.
_GOOD_DEVIANCE = 1.2


class Check(NamedTuple):
    """One diagnostic: name, what was found, its mark, what it means, what to do when it is not good.

    The mark is ``good``, ``note``, ``reservation`` or ``bad``, and never better than the verdict's findings about it.
    """

    name: str
    found: str
    verdict: str
    meaning: str
    remedy: str


def checks(result: Result) -> list[Check]:
    """Return every diagnostic in words, marked as the verdict says; none of draws where there are none."""
    found = [*_of_the_mode(result), *_notes(result.record)]
    if result.record.method != "map":
        found = [*_of_the_draws(result), *found]
    return [_agreeing(check, result.verdict.findings) for check in found]


def _agreeing(check: Check, findings: Sequence[Finding]) -> Check:
    """Mark a check as badly as the findings about it."""
    severities = {finding.severity for finding in findings if finding.about == check.name}
    if "distrust" in severities:
        return check._replace(verdict="bad")
    return check._replace(verdict="reservation") if severities and check.verdict != "bad" else check


def _of_the_draws(result: Result) -> list[Check]:
    """Convergence of the draws."""
    table = result.diagnostics()
    return [
        _rhat_check(table, result.record.method),
        _ess_check(table, result.tree["posterior"].dataset.sizes["chain"]),
        *_divergence_check(result),
        *_approximation_check(result.record.diagnostics),
    ]


def _of_the_mode(result: Result) -> list[Check]:
    """How well the mode is known, and how it fits."""
    record = result.record
    return [
        *_starts_check(record.starts),
        *_photons_check(record.photons),
        *_pinned_check(record.identifiability),
        *_deviance_check(record.fit),
        *_regions_check(record.fit),
        *_undeclared_check(record),
        *_places_check(record.unmodelled_regions, record.set_aside),
        *_presence_check(record.presence or (), record.further_phase),
        *_shared_pixels_check(record.shared_pixels),
        *_heterogeneity_check(record.heterogeneity),
        *_discrepancy_check(record.discrepancy),
    ]


def _notes(record: RunRecord) -> list[Check]:
    return [*_binning_note(record.binning), *_response_note(record.response)]


def _rhat_check(table: Any, method: str) -> Check:  # noqa: ANN401 - a table
    worst = _extreme(table["rhat"], largest=True)
    name = RHAT
    meaning = (
        "Compares the chains with each other. Above 1.01 they have not explored the same distribution, and means and "
        "intervals depend on where they started."
    )
    remedy = "Give more `warmup` and `draws`; if it stays high, declare what you know about the phases."
    if worst is None or method != "nuts":
        return Check(name, f"not needed: method {method} runs no chains", "note", meaning, remedy)
    verdict = "good" if worst[1] <= RHAT_LIMIT else "bad"
    return Check(
        name, f"at most {worst[1]:.3f} ({table['quantity'].iloc[worst[0]]})", verdict, meaning, remedy
    )


def _ess_check(table: Any, chains: int) -> Check:  # noqa: ANN401
    name = ESS
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
    enough = "note" if bulk[1] >= ESS_PER_CHAIN * chains else "bad"
    return Check(name, found, "good" if bulk[1] >= _GOOD_ESS else enough, meaning, remedy)


def _divergence_check(result: Result) -> list[Check]:
    if "sample_stats" not in result.tree or "diverging" not in result.tree["sample_stats"].dataset:
        return []
    diverging = result.tree["sample_stats"].dataset["diverging"]
    count, total = int(diverging.sum()), int(diverging.size)
    meaning = (
        "A divergence marks a corner of the posterior that the sampler could not follow; what lies behind it is "
        "missing from the draws."
    )
    remedy = "Give more `warmup`. If divergences stay, a phase may be superfluous or hardly present."
    verdict = "good" if count == 0 else "bad"
    return [Check(DIVERGENCES, f"{count} in {total} draws", verdict, meaning, remedy)]


def _approximation_check(diagnostics: Diagnostics) -> list[Check]:
    """Report what exact steps made of the draws of an approximation, and whether those could be reweighted."""
    steps = diagnostics.exact_steps
    if steps is None:
        return []
    found = (
        f"{100.0 * steps.acceptance:.0f}\u00a0% of the steps accepted; worst for {steps.worst_quantity}: moved by "
        f"{steps.shift_sd:+.2f} standard deviations, {steps.width_ratio:.2f} times as wide"
    )
    if diagnostics.pareto_k is not None:
        found += f"; Pareto k {diagnostics.pareto_k:.2f}"
    meaning = (
        "Some draws were moved by a sampler that leaves the exact posterior unchanged: what moves, or grows wider, was "
        "approximated wrongly. Moves below a quarter of a standard deviation and widths right to a seventh hardly "
        "change an interval. Pareto k says whether draws can be reweighted (below 0.7), no more."
    )
    verdict = "good" if steps.holds else "bad"
    return [Check(STEPS, found, verdict, meaning, 'Run `method = "nuts"` instead.')]


def _starts_check(starts: Sequence[StartingPoint]) -> list[Check]:
    if not starts:
        return []
    best = min(start.objective for start in starts)
    others = [start for start in starts if not start.same_mode]
    # What was not followed to its end was hopeless, or on its way to a mode that was.
    followed = [start.objective - best for start in others if start.followed]
    found = f"{len(starts) - len(others)} of {len(starts)} starting points, rotated ones included, reached the best one"
    if followed:
        found += f"; the odds of the second maximum are {odds_text(min(followed))}"
    meaning = (
        "The search for the best solution begins at several starting points, rotated ones (some of a phase moved into "
        "another) among them. A second maximum with odds below 1 to 10^43 is ignored; with odds above 1 to 22,000 the "
        "counts alone do not decide between the two, and the intervals have to hold both."
    )
    remedy = "Declare more: an element absent from a phase, a matrix phase, a stoichiometry."
    # How bad a second maximum is depends on whether the intervals hold it: the findings say so.
    return [Check(MODES, found, "good" if len(starts) > 1 else "note", meaning, remedy)]


def _deviance_check(fit: Goodness | None) -> list[Check]:
    if fit is None or not _finite(fit.deviance_per_dof_total):
        return []
    total = fit.deviance_per_dof_total
    known = [
        value
        for value in (fit.deviance_per_dof_segments, *(fit.deviance_per_dof_by_segment or ()))
        if _finite(value)
    ]
    found = f"{total:.2f} for the whole map"
    if known:
        found += f"; {', '.join(f'{value:.2f}' for value in known)} for the pixels labelled as each phase"
    meaning = "Misfit of sum spectra per degree of freedom: about 1 when only counting noise is left."
    remedy = "Look at the residuals below the sum spectrum: a peak is a missing element, a wave a wrong background."
    verdict = "good" if max([total, *known]) <= _GOOD_DEVIANCE else "note"
    return [Check(DEVIANCE, found, verdict, meaning, remedy)]


def _regions_check(fit: Goodness | None) -> list[Check]:
    scan = None if fit is None else fit.residuals
    if scan is None:
        return []
    regions, found, beyond = scan.regions, "none", 0
    if regions:
        worst = max(regions, key=lambda region: abs(region.sigma))
        beyond = sum(region.chance < NOISE_CHANCE for region in regions)
        found = (
            f"{len(regions)}, {beyond} of them beyond noise; the largest {worst.sigma:+.1f} σ at "
            f"{worst.energy_keV:.2f} keV in {worst.spectrum} (perhaps {worst.cause})"
        )
    meaning = (
        "Energy ranges in which counts, pooled over one width of the detector, differ from the fit by more than "
        f"{scan.threshold_sigma:g} σ; noise alone makes {scan.regions_expected_of_noise:.2g} of them."
    )
    remedy = "Declare the element that is named, or leave the range out with `map.energy_range`."
    mark = "reservation" if beyond else "note" if regions else "good"
    return [Check(RESIDUALS, found, mark, meaning, remedy)]


def _photons_check(photons: dict[str, float] | None) -> list[Check]:
    """Report how many photons each phase has."""
    if not photons:
        return []
    found = ", ".join(f"{name} {_counts(number)}" for name, number in photons.items())
    meaning = "Counts that belong to each phase, its lines and its continuum. They decide what can be known."
    remedy = "Measure longer, or sum maps; ask for fewer phases."
    return [Check(PHOTONS, found, "good", meaning, remedy)]


def _pinned_check(known: Identifiability | None) -> list[Check]:
    """Report phases that neither declarations nor pure pixels identify."""
    if known is None:
        return []
    pairs = ", ".join(f"{pair.phase} and {pair.other}" for pair in known.non_identifiable)
    meaning = (
        "A phase without pure pixels that holds every element of another one can give some of its counts to that one "
        "without any change in the fit: the two are non-identifiable. Declarations and pure pixels prevent that."
    )
    remedy = "Declare an element absent from the phase, or `matrix = true` where it has pure regions."
    found = (
        f"not, or weakly, identifiable: {pairs}" if pairs else "every phase, by declarations or pure pixels"
    )
    return [Check(IDENTIFIABILITY, found, "note" if pairs else "good", meaning, remedy)]


def _undeclared_check(record: RunRecord) -> list[Check]:
    if record.undeclared is None:
        return []
    elements = {element: f"{element} {_counts(number)}" for element, number in record.undeclared.items()}
    # Earlier versions took all of them as shown.
    shown = list(elements) if record.undeclared_shown is None else record.undeclared_shown
    sure = ", ".join(text for element, text in elements.items() if element in shown)
    unsure = ", ".join(text for element, text in elements.items() if element not in shown)
    found = "; ".join(part for part in (sure, unsure and f"perhaps {unsure}") if part) or "none"
    meaning = (
        "Undeclared elements whose lines the sum spectrum shows, with their counts; perhaps: their lines were fitted, "
        "but errors of line shapes and ratios can look the same."
    )
    remedy = "Declare those that are there in `sample.elements`, or in `sample.stray`."
    mark = "reservation" if sure else "note" if unsure else "good"
    return [Check(UNDECLARED, found, mark, meaning, remedy)]


def _places_check(search: UnmodelledRegions | None, aside: SetAside | None) -> list[Check]:
    if search is None:
        return []
    regions, found = search.regions, "none"
    if regions:
        largest = max(regions, key=lambda region: region.sigma)
        found = (
            f"{len(regions)}; the largest {largest.sigma:.0f} σ around row {largest.y:.0f}, column "
            f"{largest.x:.0f} ({largest.pixels} pixels)"
        )
        found += "" if aside is None else f"; {aside.pixels} pixels set aside"
    meaning = (
        "Pixels whose counts no mixture of the declared phases explains: an unmodelled phase, or a hole."
    )
    remedy = "Declare the missing phase, or leave these pixels out with `map.exclude_flagged`."
    return [Check(PLACES, found, "reservation" if regions else "good", meaning, remedy)]


def _presence_check(found: Sequence[Presence], further: FurtherPhase | None) -> list[Check]:
    if not found and further is None:
        return []
    gains = [f"{one.phase} {one.gain:+.0f} ± {one.gain_se:.0f}" for one in found]
    more = [] if further is None else [f"one more {further.gain:+.0f} ± {further.gain_se:.0f}"]
    said = ", ".join([*gains, *more])
    meaning = (
        "What held-out counts gain from each phase, in nats, judged without it and with it. A phase from which they "
        "gain little is not supported. Another one may still be a phase that varies, or a mixture: its counts by "
        "element are then less than 15 % apart from those of others, or less than 8 % where the map shows it. If the "
        "number of phases was given, one more is tried beside them, unless `inference.further_phase` is false."
    )
    remedy = "Leave out what is not supported, declare what is missing, or declare what tells phases apart."
    return [Check(PRESENCE, said, "good", meaning, remedy)]


def _shared_pixels_check(shared: OverlapChoice | None) -> list[Check]:
    if shared is None:
        return []
    found = "; ".join([shared.taken.words, *map(_compared, shared.comparisons)])
    meaning = (
        "Which phases share a pixel is read off held-out counts, by the logarithm of the probability that each "
        "alternative gives them. One that is higher by more than two standard errors is gone over to; from grains in a "
        "matrix to any two phases, by more than one. The fewer phases may share one, the more pins the solution; where "
        "more do, spectra of phases bend to hold them."
    )
    remedy = "Run again with another `inference.max_overlap`, and trust what both runs agree on."
    return [Check(OVERLAP, found, "good", meaning, remedy)]


def _compared(scores: Sequence[OverlapScore]) -> str:
    against, *freer = scores
    gains = " and ".join(f"{row.overlap.words} {row.gain:+.0f} ± {row.se:.0f}" for row in freer)
    return f"against {against.overlap.words}, {gains}"


def _counts(number: float) -> str:
    return f"{number / 1e6:.3g} million" if number >= 1e6 else f"{number:,.0f}"


def _heterogeneity_check(found: Heterogeneity | None) -> list[Check]:
    if found is None:
        return []
    meaning = (
        "Areas of the map are compared with each other. Where a phase is heterogeneous (zoning, a wedge), its mean is "
        "less certain than counting says, and the intervals are widened by what the areas differ; the model's own are "
        "in the columns sd_model, lower_model and upper_model of composition.csv."
    )
    return [Check(VARIATION, found.reason, "note", meaning, "")]


def _discrepancy_check(found: SpectralDiscrepancy | None) -> list[Check]:
    if found is None:
        return []
    if not found.regions:
        said = "The residuals show no error that all phases have in common: nothing was widened."
    else:
        places = ", ".join(
            f"{region.low_keV:.2f} to {region.high_keV:.2f}\u00a0keV ({region.percent:.2g}\u00a0%)"
            for region in found.regions
        )
        said = f"Spectra may be off by more than counting at {places}."
        widest = max(found.quantities, key=lambda one: one.sd_ratio, default=None)
        if widest is not None:
            said += (
                f" Most is added to {widest.element} of {widest.phase}: its standard deviation from counting and "
                f"unmixing is {times_text(widest.sd_ratio)} what it would be."
            )
    meaning = (
        "How far line shapes and continuum are off is learned from the residuals, region by region, and every number "
        "that rests on these energies is moved and widened by it; the budget has the share, and run.json every number. "
        "The error is taken to be common to all phases."
    )
    return [Check("Misfit of the spectra", said, "note", meaning, "")]


def _binning_note(binning: Binning | None) -> list[Check]:
    if binning is None:
        return []
    side, channels, blocks = binning.block_side, binning.channels, binning.blocks
    found = (
        f"{'?' if channels is None else channels} channels in {binning.bins} bins; {side} × {side} pixels to a block, "
        f"{'?' if blocks is None else blocks} blocks"
    )
    if _finite(binning.mean_counts_per_block):
        found += f" of {binning.mean_counts_per_block:.3g} counts on average"
    meaning = (
        "Compositions are inferred from merged channels and pixels. Sums of Poisson counts are Poisson counts, so "
        "this is exact; the maps are at full resolution."
    )
    return [Check("Binning", found, "note", meaning, "")]


def _response_note(response: Response | None) -> list[Check]:
    if response is None:
        return []
    labels = (
        ("gain", response.gain, 1.0, "{:.5f}"),
        ("offset", response.offset_keV, 1000.0, "{:.2f} eV"),
        ("noise", response.noise_eV, 1.0, "{:.1f} eV"),
        ("Fano factor", response.fano, 1.0, "{:.3f}"),
    )
    parts = [
        f"{label} {text.format(scale * value)}" for label, value, scale, text in labels if _finite(value)
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


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
