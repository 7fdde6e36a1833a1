"""What speaks against the numbers of a run, in sentences; `bayesunmix.results.verdict` decides what they come to.

`everything_said` collects them with those of the map and of the preparation, what matters most first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayesunmix.checks.identifiability import non_identifiable_sentences
from bayesunmix.config.endmembers import ENDMEMBERS
from bayesunmix.config.overlap import LEAST_GAINED, OverlapChoice
from bayesunmix.core.rounding import main_elements_text, odds_text
from bayesunmix.core.severity import (
    DEVIANCE,
    DIVERGENCES,
    ESS,
    IDENTIFIABILITY,
    MODES,
    OVERLAP,
    PHOTONS,
    PRESENCE,
    RESIDUALS,
    RHAT,
    STEPS,
    VARIATION,
    Distrust,
    Reservation,
    join,
)
from bayesunmix.core.shares import NOTHING, ratio_of
from bayesunmix.data.image import WHOLE_MAP
from bayesunmix.fit.model_data import nominal_fractions
from bayesunmix.inference.importance import PARETO_K_LIMIT
from bayesunmix.results.declared import broken_statements, exchangeable, impure_regions
from bayesunmix.results.names import against_given
from bayesunmix.results.tables import ABSENT, STATED
from bayesunmix.results.verdict import (
    ESS_PER_CHAIN,
    NEAR_NATS,
    NOISE_CHANCE,
    POINT_ESTIMATE,
    RHAT_LIMIT,
    RIVAL_NATS,
)

FloatArray = npt.NDArray[np.float64]

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from bayesunmix.checks.misfit import Misfit
    from bayesunmix.checks.outcomes import Goodness, NonIdentifiable, SpectralDiscrepancy
    from bayesunmix.checks.robust import Robust
    from bayesunmix.config.run_config import RunConfig
    from bayesunmix.fit.draws import Draws
    from bayesunmix.fit.posterior import FittedPosterior, Mode
    from bayesunmix.fit.sampling import Drawn
    from bayesunmix.fit.setup import Setup
    from bayesunmix.results.record import RunRecord
    from bayesunmix.results.record_parts import Diagnostics, PhaseNumber, Presence

WHITENED_GRADIENT_LIMIT = 0.1
# A deviance per degree of freedom above this is more than counting noise and small change.
MISFIT = 1.5
# Where the model has more of the counts than this elsewhere, errors of main elements are no small change either.
MISPLACED = 0.05
# Modes whose compositions differ by less, in atom fractions, are told as one.
SAME_FRACTIONS = 0.01
# An interval wider than this, in atom fractions, says nothing of an element.
TELLS_NOTHING = 0.5
# A fraction of one half among so many photons has a 95 % interval of plus or minus ten per cent.
FEWEST_PHOTONS = 100.0
# Of so many it is known to a per cent: what is open then, more of them would leave open.
MANY_PHOTONS = 1e4
MAIN_ELEMENT = 0.05
# An interval wider than this, in atom fractions, and so many times as wide as the model's: what is declared decides.
LEFT_OPEN, FAR_WIDER = 0.15, 2.0
# Amounts that one may know, from this atom fraction on and to this relative error, and the share of another one's
# variance that is worth it.
KNOWN_FROM, KNOWN_SD, TELLS_MUCH = 0.05, 0.05, 0.5
# So many times as uncertain is all that is said.
MOST_TIMES = 100
# Share of the counts from which a phase that was not counted, as it fits as a mixture, is worth a doubt.
LARGE_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What is known of a run when it is judged.

    Attributes
    ----------
    setup, config, fitted, robust
        Of the run; `robust` holds the draws.
    record : RunRecord
        Diagnostics and what the checks found included.
    misfit : Misfit
        Regions of significant residual.
    maps : Dataset
        Abundances of the pixels.
    summary : DataFrame
        Compositions, as in ``composition.csv``.
    budget : Dataset or None
        Variances by source, where the line model made the mode.
    mass_thickness : str or None
        Sentence on a mass thickness that contradicts what was declared.
    """

    setup: Setup
    config: RunConfig
    fitted: FittedPosterior
    robust: Robust
    record: RunRecord
    misfit: Misfit
    maps: xr.Dataset
    summary: pd.DataFrame
    budget: xr.Dataset | None
    mass_thickness: str | None = None


def everything_said(outcome: RunOutcome) -> list[str]:
    """Collect every sentence on a run, what matters most first."""
    setup, config, fitted, record = outcome.setup, outcome.config, outcome.fitted, outcome.record
    drawn = outcome.robust.drawn
    return [
        *(Reservation(POINT_ESTIMATE) for _ in range(config.inference.method == "map")),
        *too_few_photons(record.photons or {}, outcome.summary),
        *search_doubts(record.diagnostics),
        *other_modes(setup, fitted, outcome.robust),
        *chain_doubts(record.diagnostics, config),
        *engine_doubts(config, setup, drawn),
        *outcome.misfit.warnings(record.set_aside),
        *non_identifiable_sentences(
            _non_identifiable(record),
            setup.phases,
            lines=ENDMEMBERS[config.inference.endmembers].knows_elements,
        ),
        *left_open(setup, fitted, outcome.summary, outcome.robust, _non_identifiable(record)),
        *exchangeable(setup.phases, outcome.summary, fitted.data.statements),
        *(shared_pixels_against(record.shared_pixels) if record.shared_pixels else ()),
        *(left_out_mixtures(record.phase_number) if record.phase_number else ()),
        *not_supported(record.presence or ()),
        *(against_given(record, setup.forward.elements) if record.names else ()),
        *variation(outcome.robust),
        *broken_statements(setup, fitted.data.statements, _nominal(fitted, drawn.draws)),
        *impure_regions(setup, outcome.maps),
        *(misfit_of_spectra(record.fit, record.discrepancy) if record.fit else ()),
        *([Reservation(outcome.mass_thickness)] if outcome.mass_thickness else []),
        *unknown_absorption(config, setup, outcome.budget),
        *not_resampled(config, drawn),
        *setup.warnings,
    ]


def shared_pixels_against(found: OverlapChoice) -> list[str]:
    """Return one sentence where counts show that more phases share a pixel than a setting lets, or leave it open."""
    # Beyond the freest one that was gone over to, nothing has been compared.
    if not found.comparisons or found.comparisons[-1][0].overlap != found.taken:
        return []
    freer = max(found.comparisons[-1][1:], key=lambda row: row.gain)
    more = f"their held-out log score is higher by {freer.gain:.0f} ± {freer.se:.0f}"
    bent = "Compositions of phases without pure pixels may be off by more than their intervals."
    if found.taken != found.shown:
        text = (
            f"`inference.max_overlap = {found.taken.most}` lets {found.taken.words} share a pixel, but counts show "
            f"that more do: of {freer.overlap.words}, {more}. {bent} Leave the setting out, and the counts choose."
        )
    elif freer.gain > max(freer.se, LEAST_GAINED):
        text = (
            f"The counts do not settle which phases share a pixel. The fit lets {found.taken.words} share one; if "
            f"{freer.overlap.words} may, {more}, which is no proof. {bent} Run again with `inference.max_overlap = "
            f"{freer.overlap.most}`, and trust what both runs agree on."
        )
    else:
        return []
    return [Reservation(text, OVERLAP)]


def left_out_mixtures(number: PhaseNumber) -> list[str]:
    """Return a sentence where a phase was not counted that held-out counts ask for: it may lie between others."""
    doubtful = [one for one in number.left_out if one.reason == "mixture" and one.share > LARGE_SHARE]
    if not doubtful:
        return []
    listed = join(
        [
            f"{main_elements_text(one.composition)} ({one.gain:+.0f} ± {one.gain_se:.0f} nats)"
            for one in doubtful
        ]
    )
    text = (
        f"`phases` counts {number.chosen}, but held-out counts gain from more: {listed}. By composition these fit as "
        f"mixtures of the others, yet a phase may lie between others. Run again with `phases = "
        f"{number.chosen + len(doubtful)}` and trust what both runs agree on."
    )
    return [Reservation(text, PRESENCE)]


def not_supported(found: Sequence[Presence]) -> list[str]:
    """Return a sentence on each phase that may be none; of two that may be one phase, one."""
    standing = {one.phase: one.standing for one in found}
    said: list[str] = []
    told: set[str] = set()
    for one in found:
        gain = f"held-out counts gain {one.gain:.0f} ± {one.gain_se:.0f} nats from it"
        apart = f"{100.0 * min(one.apart, one.shown):.2g} %"
        nearest = max(one.like, key=lambda name: one.like[name], default="")
        if one.standing == "unsupported":
            said.append(
                f"{one.phase} is not supported by the counts: {gain}, which noise can do. Nothing counts as detected "
                "in it. Leave it out of `phases`, or measure longer if you know it to be there."
            )
        elif one.standing == "variation" and nearest not in told:
            alike = (
                "the two may be one phase that varies"
                if standing.get(nearest) == "variation"
                else "it may be that"
            )
            said.append(
                f"{one.phase} may be no phase of its own: {gain}, but where the map shows it, its counts by element "
                f"differ from those of {nearest} by no more than {apart}, and {alike}. Try without it, or declare what "
                "tells them apart."
            )
        elif one.standing == "mixture":
            parts = join([f"{name} ({100.0 * share:.0f} %)" for name, share in one.like.items()])
            said.append(
                f"{one.phase} may be no phase of its own: {gain}, but where the map shows it, its counts by element "
                f"differ from those of a mixture of {parts} by no more than {apart}, and it is hardly ever pure: it "
                "may be where these meet. Try without it, or declare what tells them apart."
            )
        told |= {one.phase} if one.standing == "variation" else set()
    return [Reservation(text, PRESENCE) for text in said]


def search_doubts(diagnostics: Diagnostics) -> list[str]:
    """Sentences on a search that did not end at a mode."""
    said: list[str] = []
    distance, curvature = diagnostics.whitened_gradient_norm, diagnostics.smallest_curvature
    if distance is not None and distance > WHITENED_GRADIENT_LIMIT:
        text = (
            f"The search stopped {distance:.2g} posterior standard deviations short of the maximum, more than the "
            f"{WHITENED_GRADIENT_LIMIT:g} allowed. Run again with more `inference.starts`, or declare more."
        )
        said.append(Distrust(text, MODES))
    if curvature is not None and curvature <= 0:
        text = (
            "The model is non-identifiable: in one direction the posterior is flat at its maximum. Declare an absent "
            "element, a matrix phase or a stoichiometry, or ask for fewer phases."
        )
        said.append(Distrust(text, MODES))
    return said


def too_few_photons(photons: Mapping[str, float], summary: pd.DataFrame) -> list[str]:
    """Sentences on phases of which the counts say next to nothing.

    A phase is said to be unknown where it has fewer photons than a fraction of one half is known by to within ten per
    cent, or where none of its elements is detected.

    Parameters
    ----------
    photons : mapping
        Counts of each phase.
    summary : DataFrame
        Compositions, as in ``composition.csv``.
    """
    unknown, nothing, wide, fewest = list[str](), list[str](), list[str](), np.inf
    for phase, rows in summary.groupby("phase", sort=False):
        possible = rows[rows["detected"] != ABSENT]
        seen = possible["detected"].isin(STATED).any()
        counts = f"{phase} ({photons[phase]:,.0f} counts"
        if photons[phase] < FEWEST_PHOTONS:
            unknown.append(counts + (")" if seen else ", no element detected)"))
            continue
        if not seen:
            nothing.append(f"{counts})")
            continue
        width = possible["upper"] - possible["lower"]
        if len(possible) > 1 and width.max() > TELLS_NOTHING:
            row = possible.loc[width.idxmax()]
            fewest = min(fewest, photons[phase])
            wide.append(
                f"{row['element']} in {phase}, {100 * row['lower']:.2g} to {100 * row['upper']:.2g} at%"
            )
    said: list[str] = []
    if unknown:
        text = (
            f"The map has too few counts to say what a phase is made of: {', '.join(unknown)}. Measure longer, sum "
            "maps, or ask for fewer phases."
        )
        said.append(Distrust(text, PHOTONS))
    if nothing:
        text = (
            f"No element is detected for certain in {', '.join(nothing)}: the counts do not say what such a phase is "
            "made of. Ask for fewer phases if you gave their number; else measure longer, or declare what you know."
        )
        said.append(Distrust(text, PHOTONS))
    if wide:
        text = (
            f"Some elements are all but unknown, with an interval of more than {100 * TELLS_NOTHING:.0f} at%: "
            f"{'; '.join(wide)}. {'Measure longer, or declare' if fewest < MANY_PHOTONS else 'Declare'} what is known "
            "of the phase."
        )
        said.append(Reservation(text, PHOTONS if fewest < MANY_PHOTONS else IDENTIFIABILITY))
    return said


def _non_identifiable(record: RunRecord) -> Sequence[NonIdentifiable]:
    return record.identifiability.non_identifiable if record.identifiability else ()


def left_open(
    setup: Setup,
    fitted: FittedPosterior,
    summary: pd.DataFrame,
    robust: Robust,
    told: Sequence[NonIdentifiable],
) -> list[str]:
    """Sentences on phases whose draws were rotated and are far wider for it, or were too wide before: what decides.

    Parameters
    ----------
    setup : Setup
    fitted : FittedPosterior
    summary : DataFrame
        Compositions, as in ``composition.csv``.
    robust : Robust
    told : sequence of NonIdentifiable
        Pairs whose first phase has a sentence already.
    """
    if robust.rotations is None:
        return []
    turned = robust.rotations.rotated
    drawn, elements = robust.drawn.draws, setup.forward.elements
    own, reported = (draws.component_shares.std(axis=(0, 1)) for draws in (robust.own, drawn))
    wider = ratio_of(reported, own)
    fractions = _nominal(fitted, drawn)
    said: list[str] = []
    for k in np.flatnonzero(turned).tolist():
        phase = setup.phases[k]
        rows = summary[(summary["phase"] == phase.name) & np.isfinite(summary["upper"])]
        # Of a phase with a single element nothing is open.
        alone = len(phase.absent) >= len(elements) - 1
        if phase.is_support or alone or rows.empty or any(pair.phase == phase.name for pair in told):
            continue
        widths = (rows["upper"] - rows["lower"]).to_numpy()
        row = rows.iloc[int(widths.argmax())]
        if widths.max() < LEFT_OPEN or wider[k].max() < FAR_WIDER:
            continue
        telling = telling_element(fractions[:, k], elements, str(row["element"]))
        remedies = [
            *(["its formula (`stoichiometry`)"] if phase.stoichiometry is None else []),
            *([f"how much {telling} it has (`composition`)"] if telling else []),
            *(["a spectrum of it alone (`reference`)"] if phase.reference is None else []),
            "an element that it lacks (`absent`)",
            *(["that some pixels hold it alone (`matrix = true`)"] if not phase.matrix else []),
        ]
        text = (
            f"The counts leave open how much of the other phases' spectra belongs to {phase.name}: it may hold "
            f"{100.0 * row['lower']:.0f} to {100.0 * row['upper']:.0f} at% of {row['element']}, and its intervals "
            f"include that. What you know of it decides, if you declare it: "
            f"{', '.join(remedies[:-1])} or {remedies[-1]}."
        )
        said.append(Reservation(text, IDENTIFIABILITY))
    return said


def _nominal(fitted: FittedPosterior, draws: Draws) -> FloatArray:
    """Atom fractions of all draws with nominal calibration factors, (draw, phase, element)."""
    fractions = nominal_fractions(draws.weights, np.asarray(fitted.data.yields))
    return fractions.reshape(-1, *fractions.shape[2:])


def telling_element(fractions: FloatArray, elements: Sequence[str], open_: str) -> str:
    """Return the main element whose amount would tell most of another one's, if it were known; none if none does much.

    Of draws that scatter along a line, as rotated ones do, each amount tells the others: knowing x_i to the sd s leaves
    var(x_j) - cov(x_i, x_j)^2 / (var(x_i) + s^2).

    Parameters
    ----------
    fractions : (draw, element)
        Of a phase.
    elements
    open_
        The element that is asked about.
    """
    covariance, mean, j = np.atleast_2d(np.cov(fractions.T)), fractions.mean(axis=0), elements.index(open_)
    told = covariance[j] ** 2 / (np.diag(covariance) + (KNOWN_SD * mean) ** 2 + NOTHING)
    told[(mean < KNOWN_FROM) | (np.arange(len(elements)) == j)] = 0.0
    best = int(told.argmax())
    return elements[best] if told[best] > TELLS_MUCH * covariance[j, j] else ""


def unknown_absorption(config: RunConfig, setup: Setup, budget: xr.Dataset | None) -> list[str]:
    """Sentence on a film that was assumed where absorption is the largest part of a main element's uncertainty."""
    sample = config.sample
    missing = [name for name in ("thickness_nm", "density_g_cm3") if getattr(sample, name) is None]
    if budget is None or not missing:
        return []
    variance = budget["composition"]
    share = (variance.sel(source="absorption") / variance.sum("source")).values
    mean = setup.mean_composition
    doubtful = np.argwhere((np.nan_to_num(share) > 0.5) & (mean[None, :] > MAIN_ELEMENT))
    if not len(doubtful):
        return []
    k, i = max(doubtful.tolist(), key=lambda place: float(share[place[0], place[1]]))
    return [
        Reservation(
            f"Absorption makes {100.0 * share[k, i]:.0f} % of the variance of {setup.forward.elements[i]} in "
            f"{setup.phases[k].name}, because {_assumed(missing)} assumed, not given. Set "
            f"{' and '.join(f'`sample.{name}`' for name in missing)}."
        )
    ]


def _assumed(missing: list[str]) -> str:
    """Name what is missing of the film, as the subject of a sentence in the past."""
    if len(missing) > 1:
        return "its thickness and density were"
    return f"its {missing[0].split('_')[0]} was"


def other_modes(setup: Setup, fitted: FittedPosterior, robust: Robust) -> list[str]:
    """Sentence on the second maximum: its odds, a composition that is another, and how many more there are.

    One that the intervals hold comes last: nothing is missing.
    """
    best = fitted.modes[0]
    near: list[Mode] = []
    for found in sorted(fitted.modes[1:], key=lambda other: other.objective):
        # Starts that ended in one place are one mode.
        known = any(np.abs(found.atom_fractions - one.atom_fractions).max() < SAME_FRACTIONS for one in near)
        if found.followed and not found.same_mode and found.objective < NEAR_NATS and not known:
            near.append(found)
    if not near:
        return []
    beyond = [robust.missed(fitted.data.yields, other.atom_fractions) for other in near]
    missed = next((number for number, off in enumerate(beyond) if off.any()), None)
    mode = near[missed or 0]
    # What the intervals miss most, or what differs most.
    told = np.abs(mode.atom_fractions - best.atom_fractions) if missed is None else beyond[missed]
    k, i = np.unravel_index(int(told.argmax()), told.shape)
    phase, element = setup.phases[k].name, setup.forward.elements[i]
    here, there = 100.0 * best.atom_fractions[k, i], 100.0 * mode.atom_fractions[k, i]
    odds = odds_text(mode.objective)
    differs = f"It has {there:.3g} at% {element} in {phase} where the best one has {here:.3g}."
    others = len(near) - 1
    more = (
        f" {others} more {'maximum was' if others == 1 else 'maxima were'} found (`run.json` lists all)."
        if others
        else ""
    )
    # Those that the intervals hold may be more probable.
    which = "a second" if mode is near[0] else "another"
    remedy = f"Check which is plausible, and declare what excludes the other: an absent element of {phase}, a matrix."
    if missed is None:
        text = (
            f"The posterior has {which} maximum, with odds of {odds} by the counts. {differs}{more} The intervals "
            f"include it. {remedy}"
        )
        return [Reservation(text, MODES)]
    if mode.objective >= RIVAL_NATS:
        text = (
            f"The posterior has {which} maximum, with odds of {odds} by the counts. {differs}{more} Errors of line "
            f"shapes can outweigh such odds. {remedy}"
        )
        return [Reservation(text, MODES)]
    held = ""
    if robust.second_share:
        held = f" {100 * robust.second_share:.0f} % of the draws are from it, so that the intervals include both."
    opening = f"The counts do not exclude a second maximum of the posterior: its odds are {odds}."
    text = f"{opening} {differs}{held}{more} {remedy}"
    return [Distrust(text, MODES)]


def chain_doubts(diagnostics: Diagnostics, config: RunConfig) -> list[str]:
    """Sentences on chains that diverged, disagree, or are too short."""
    if config.inference.method != "nuts":
        return []
    said: list[str] = []
    if diagnostics.divergences:
        text = (
            f"{diagnostics.divergences} draws diverged: the sampler missed part of the posterior. Give more "
            "`inference.warmup`; if divergences stay, ask for fewer phases."
        )
        said.append(Distrust(text, DIVERGENCES))
    worst = diagnostics.rhat_max
    if worst is not None and worst > RHAT_LIMIT:
        text = (
            f"The chains disagree: the largest R-hat is {worst:.3f}, more than {RHAT_LIMIT}. Give more "
            "`inference.warmup` and `inference.draws`."
        )
        said.append(Distrust(text, RHAT))
    wanted = ESS_PER_CHAIN * config.inference.chains
    fewest = diagnostics.ess_bulk_min
    if fewest is not None and fewest < wanted:
        text = (
            f"The effective sample size of the worst quantity is {fewest:.0f}, less than {wanted:.0f}. Give more "
            "`inference.draws`."
        )
        said.append(Distrust(text, ESS))
    return said


def engine_doubts(config: RunConfig, setup: Setup, drawn: Drawn) -> list[str]:
    """Sentences on an approximation that is not to be trusted."""
    if drawn.trust is None:
        return []
    inference = config.inference
    engine = "Laplace" if inference.method == "laplace" else f"variational ({inference.guide})"
    names = [phase.name for phase in setup.phases], list(setup.forward.elements)
    said: list[str] = [Distrust(text, STEPS) for text in drawn.trust.problems(engine, *names)]
    if not drawn.facts.get("svi_converged", True):
        text = (
            "The variational fit did not converge: its bound was still rising at the last round. Run "
            '`method = "laplace"` or "nuts" instead.'
        )
        said.append(Distrust(text))
    return said


def variation(robust: Robust) -> list[str]:
    """Sentence on spatial heterogeneity, where intervals were widened for it."""
    found = robust.heterogeneity
    return [Reservation(found.reason, VARIATION)] if found.widened else []


def misfit_of_spectra(fit: Goodness, discrepancy: SpectralDiscrepancy | None = None) -> list[str]:
    """Sentences on spectra that the model does not fit within counting noise, as a whole and in a region."""
    said: list[str] = []
    included, much = _included(discrepancy)
    total, segments = fit.deviance_per_dof_total or 0.0, fit.deviance_per_dof_segments or 0.0
    misplaced = fit.misplaced or 0.0
    if misplaced > MISPLACED:
        text = (
            f"The model does not describe the sum spectrum: {100.0 * misplaced:.0f} % of its counts lie elsewhere than "
            "the model has them. No interval holds such an error. Look at the residuals (`fit.png`), and let "
            "`bayesunmix inspect` check the energy axis and the declared elements."
        )
        said.append(Distrust(text, DEVIANCE))
    elif max(total, segments) > MISFIT:
        which, deviance = (
            ("the sum spectrum", total) if total > MISFIT else ("the spectra of the segments", segments)
        )
        text = (
            f"The model does not describe {which} within counting noise: the deviance is {deviance:.2g} "
            f"per degree of freedom, and 1 is expected. The intervals {included}{much}. Look at the residuals "
            "(`fit.png`) for an undeclared element or stray line."
        )
        said.append(Reservation(text, DEVIANCE))
    regions = fit.residuals.regions if fit.residuals else ()
    beyond = [region for region in regions if region.chance < NOISE_CHANCE]
    if beyond:
        worst = max(beyond, key=lambda region: abs(region.sigma))
        touched = dict.fromkeys(element for region in beyond for element in region.elements)
        whose = f"The intervals of {join(touched)}" if touched else "The intervals"
        many = "one energy range" if len(beyond) == 1 else f"{len(beyond)} energy ranges"
        text = (
            f"The spectra have significant residuals in {many}, the largest of {abs(worst.sigma):.0f} sigma at "
            f"{worst.energy_keV:.2f} keV in {_named(worst.spectrum)} (possible cause: {worst.cause}). {whose} "
            f"{included}{'' if said else much}. Declare the element if one is missing, or leave the range out with "
            "`map.energy_range`."
        )
        said.append(Reservation(text, RESIDUALS))
    return said


def _included(discrepancy: SpectralDiscrepancy | None) -> tuple[str, str]:
    """Say whether the intervals include a misfit of the spectra, and how much of it."""
    if discrepancy is None or not discrepancy.quantities:
        return "do not include this", ""
    widest = max(discrepancy.quantities, key=lambda one: one.sd_ratio)
    # An amount that the model was sure of, such as none, has no width to compare with.
    times = f"{widest.sd_ratio:.2g}" if widest.sd_ratio < MOST_TIMES else f"more than {MOST_TIMES}"
    much = (
        ", as far as an error that all phases have in common makes it: counting and unmixing leave "
        f"{widest.element} of {widest.phase} {times} times as uncertain, and all others less"
    )
    return "include this", much


def _named(spectrum: str) -> str:
    """Name the spectrum of a residual in a sentence."""
    return "the sum spectrum" if spectrum == WHOLE_MAP else f"the spectrum of {spectrum}"


def not_resampled(config: RunConfig, drawn: Drawn) -> list[str]:
    """Sentence on draws that could not be resampled though that was asked for: they are as without asking."""
    if drawn.trust is None or not config.inference.resample or drawn.trust.resampled:
        return []
    return [
        f"The draws were not resampled: the Pareto shape of their importance ratios is {drawn.trust.pareto_k:.2f}, and "
        f"weights are reliable below {PARETO_K_LIMIT}. They are those of the approximation; for exact ones run "
        '`method = "nuts"`.'
    ]
