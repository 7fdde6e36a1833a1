"""The verdict on a run, in sentences: problems, for which its numbers are not to be trusted, and warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bayesunmix.inference.importance import PARETO_K_LIMIT

if TYPE_CHECKING:
    from bayesunmix.config import RunConfig
    from bayesunmix.fit.posterior import FittedPosterior
    from bayesunmix.fit.preparation import Setup
    from bayesunmix.fit.sampling import Drawn

RHAT_LIMIT = 1.01
ESS_PER_CHAIN = 100.0
# A mode this close to the best one could hold a share of the posterior.
RIVAL_NATS = 10.0
# One this close fits nearly as well, as far as a part of the blocks on coarse atoms can tell: the user should know it.
NEAR_NATS = 100.0
WHITENED_GRADIENT_LIMIT = 0.1
# Sites this many standard deviations off a declared formula: the counts and the declaration disagree.
BROKEN_SDS = 2.5
# A deviance per degree of freedom of the total spectrum above this is more than counting noise and small change.
MISFIT = 1.5


def problems(run: dict[str, Any], config: RunConfig, fitted: FittedPosterior, drawn: Drawn) -> list[str]:
    """Sentences that say why not to trust the result."""
    diagnostics, inference = run["diagnostics"], config.inference
    problems = []
    if diagnostics["whitened_gradient_norm"] > WHITENED_GRADIENT_LIMIT:
        distance = diagnostics["whitened_gradient_norm"]
        problems.append(f"The search ended {distance:.2g} posterior standard deviations from the mode.")
    if diagnostics["smallest_curvature"] <= 0:
        problems.append(
            "The posterior has a direction without curvature at the mode: something is not identified."
        )
    rivals = [m for m in fitted.modes[1:] if m.followed and not m.same_mode and m.objective < RIVAL_NATS]
    if rivals:
        nats = min(mode.objective for mode in rivals)
        held = ""
        if fitted.rival is not None and inference.method != "map":
            held = f" Of the draws {100 * fitted.rival.share:.0f} % are its own, so that intervals hold both."
        problems.append(
            f"Another mode lies only {nats:.1f} nats above the best one: the starts disagree.{held} "
            "Declare more about the phases."
        )
    if inference.method == "nuts":
        if diagnostics["divergences"]:
            problems.append(
                f"{diagnostics['divergences']} of the draws diverged: the sampler missed part of the posterior."
            )
        if diagnostics.get("rhat_max", 1.0) > RHAT_LIMIT:
            worst = diagnostics["rhat_max"]
            problems.append(
                f"The chains disagree: the largest R-hat is {worst:.3f}, more than {RHAT_LIMIT}; draw more."
            )
        wanted = ESS_PER_CHAIN * inference.chains
        if diagnostics.get("ess_bulk_min", wanted) < wanted:
            fewest = diagnostics["ess_bulk_min"]
            problems.append(
                f"Too few effective draws: {fewest:.0f} for the worst quantity, less than {wanted:.0f}; draw more."
            )
    return problems


def engine_problems(config: RunConfig, setup: Setup, drawn: Drawn) -> list[str]:
    """Sentences on an approximation that is not to be trusted."""
    if drawn.trust is None:
        return []
    inference = config.inference
    engine = "Laplace" if inference.method == "laplace" else f"variational ({inference.guide})"
    names = [phase.name for phase in setup.phases], list(setup.forward.elements)
    problems = drawn.trust.problems(engine, *names)
    if not drawn.facts.get("svi_converged", True):
        problems.append(
            "The variational fit had not converged: its bound was still rising when the rounds ran out."
        )
    return problems


def rival_modes(setup: Setup, fitted: FittedPosterior) -> list[str]:
    """Sentences on other modes that fit nearly as well, each with the composition that differs most."""
    best, sentences = fitted.modes[0], []
    for mode in fitted.modes[1:]:
        if not mode.followed or mode.same_mode or mode.objective > NEAR_NATS:
            continue
        change = np.abs(mode.atom_fractions - best.atom_fractions)
        k, i = np.unravel_index(int(change.argmax()), change.shape)
        phase, element = setup.phases[k].name, setup.forward.elements[i]
        here, there = 100.0 * best.atom_fractions[k, i], 100.0 * mode.atom_fractions[k, i]
        sentences.append(
            f"Another solution fits nearly as well ({mode.objective:.0f} nats worse): it has {there:.3g} at% {element} "
            f"in {phase} where this one has {here:.3g}. What you declare about {phase} decides between them."
        )
    return sentences


def broken_stoichiometry(setup: Setup, fitted: FittedPosterior) -> list[str]:
    """Sentences on phases whose sites, at the mode, are far off the formula that was declared for them."""
    balance, sentences = fitted.data.balance, []
    for k, phase in enumerate(setup.phases):
        if phase.stoichiometry is None or balance.inverse_sd[k] == 0:
            continue
        on_a, on_b = (float(site[k] @ fitted.atom_fractions[k]) for site in (balance.a_site, balance.b_site))
        ratio, wanted = on_a / max(on_b, 1e-300), float(np.exp(balance.log_target[k]))
        off = (np.log(max(ratio, 1e-300)) - balance.log_target[k]) * balance.inverse_sd[k]
        if abs(off) > BROKEN_SDS:
            sentences.append(
                f"{phase.name} was declared as {phase.stoichiometry}, and has {ratio:.2f} cations of the first site to "
                f"one of the second where the formula has {wanted:.2g}: {abs(off):.1f} standard deviations of the "
                "declaration away. The formula is wrong, a phase is missing, or two phases together make up a third."
            )
    return sentences


def misfit_sentence(deviance: float) -> str:
    """Sentence on a total spectrum that the model does not fit within counting noise."""
    return (
        f"The total spectrum misses the fit by more than counting noise (deviance {deviance:.2g} per degree of "
        "freedom): intervals hold for the model as it stands. "
        "Look at the residuals; an element or a stray line may be missing."
    )


def not_resampled(config: RunConfig, drawn: Drawn) -> list[str]:
    """Sentence on draws that could not be resampled though that was asked for."""
    if drawn.trust is None or not config.inference.resample or drawn.trust.resampled:
        return []
    return [
        f"The draws were not resampled: the Pareto shape of their importance ratios is {drawn.trust.pareto_k:.2f}, and "
        f"weights can be relied upon below {PARETO_K_LIMIT}."
    ]
