"""What a run says of its search and its draws: whether they are the posterior's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from bayesunmix.config.run_config import RunConfig
from bayesunmix.core.rounding import odds_text
from bayesunmix.core.severity import DIVERGENCES, ESS, MODES, RHAT, STEPS, Distrust, Reservation, join
from bayesunmix.inference.importance import PARETO_K_LIMIT
from bayesunmix.results.verdict import ESS_PER_CHAIN, NEAR_NATS, RHAT_LIMIT, RIVAL_NATS

if TYPE_CHECKING:
    from bayesunmix.checks.robust import Robust
    from bayesunmix.fit.posterior import FittedPosterior, Mode
    from bayesunmix.fit.sampling import Drawn
    from bayesunmix.fit.setup import Setup
    from bayesunmix.results.record_parts import Diagnostics


WHITENED_GRADIENT_LIMIT = 0.1
# Modes whose compositions differ by less, in atom fractions, are told as one.
SAME_FRACTIONS = 0.01
# A phase with a smaller share of the counts holds next to nothing.
SCANT = 0.005


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
    beyond = robust.missed(fitted.data.yields, np.array([other.atom_fractions for other in near]))
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
    excluding = [
        f"an absent element of {phase}",
        *(["its formula"] if setup.phases[k].stoichiometry is None else []),
        *(["a matrix"] if not any(one.matrix for one in setup.phases) else []),
    ]
    remedy = f"Check which is plausible, and declare what excludes the other: {join(excluding, 'or')}."
    # Those that the intervals hold may be more probable.
    which = "a second" if mode is near[0] else "another"
    opening = f"The posterior has {which} maximum, with odds of {odds} by the counts and what was declared."
    if missed is None:
        return [Reservation(f"{opening} {differs}{more} The intervals include it. {remedy}", MODES)]
    if mode.objective >= RIVAL_NATS:
        doubt = "Errors of line shapes can outweigh such odds."
        return [Reservation(f"{opening} {differs}{more} {doubt} {remedy}", MODES)]
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


def engine_doubts(config: RunConfig, setup: Setup, drawn: Drawn, photons: Mapping[str, float]) -> list[str]:
    """Sentences on an approximation that is not to be trusted.

    Parameters
    ----------
    config : RunConfig
    setup : Setup
    drawn : Drawn
    photons : mapping
        Counts of each phase.
    """
    if drawn.trust is None:
        return []
    inference = config.inference
    engine = "Laplace" if inference.method == "laplace" else f"variational ({inference.guide})"
    names = [phase.name for phase in setup.phases], list(setup.forward.elements)
    scant = [name for name, counts in photons.items() if counts < SCANT * sum(photons.values())]
    said: list[str] = [Distrust(text, STEPS) for text in drawn.trust.problems(engine, *names, scant)]
    if not drawn.facts.get("svi_converged", True):
        text = (
            "The variational fit did not converge: its bound was still rising at the last round. Run "
            '`method = "laplace"` or "nuts" instead.'
        )
        said.append(Distrust(text))
    return said


def not_resampled(config: RunConfig, drawn: Drawn) -> list[str]:
    """Sentence on draws that could not be resampled though that was asked for: they are as without asking."""
    if drawn.trust is None or not config.inference.resample or drawn.trust.resampled:
        return []
    return [
        f"The draws were not resampled: the Pareto shape of their importance ratios is {drawn.trust.pareto_k:.2f}, and "
        f"weights are reliable below {PARETO_K_LIMIT}. They are those of the approximation; for exact ones run "
        '`method = "nuts"`.'
    ]
