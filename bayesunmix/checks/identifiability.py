"""What identifies each composition, and which endmembers are non-identifiable.

What could be taken out of a phase, or put into it, without the counts noticing:

A phase k without pure pixels is seen only in mixtures. If its spectrum contains every component of phase j, then

    s_k' = (s_k - t s_j) / (1 - t),     abundances a_k' = (1 - t) a_k,  a_j' = a_j + t a_k

fits every pixel as well, up to the t at which a component would turn negative, t_max = min_i w_ki / w_ji. An element
that is absent from k and present in j makes t_max zero: it identifies the phase. So does a declared matrix phase, whose
pure pixels show its spectrum. Where neither is the case, the composition hangs on the abundance prior alone, and its
interval does not say so. In the other direction, s_k' = (s_k + t s_j) / (1 + t), no component of j may be declared
absent from k, and t ends at the smallest a_j / a_k of any block: zero where k is pure.

Close to the mode the same is said by numbers: how wide a composition is because abundances are unknown, and what
becomes of it with one declaration less or one more (`bayesunmix.checks.declarations`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.linalg import eigh
from scipy.special import softmax

from bayesunmix.checks.declarations import Change, given_more, taken_back
from bayesunmix.checks.local_posterior import LocalPosterior, quadratic
from bayesunmix.checks.outcomes import (
    DeclarationEffect,
    FlatDirection,
    Identifiability,
    NonIdentifiable,
    PinnedComposition,
    Place,
)
from bayesunmix.config.phase import Phase, supports_of
from bayesunmix.core.severity import IDENTIFIABILITY, Distrust, Doubt, Reservation, join
from bayesunmix.fit.posterior import FittedPosterior

FloatArray = npt.NDArray[np.float64]

# A share of another phase below this moves compositions by no more than their usual intervals.
NOTICED = 0.05
# The same, where only scarce components say no: there the fit pays little for more.
NOTICED_OF_MAIN = 0.02
# A component with less than this share of the other phase's counts identifies a phase that is nowhere pure only weakly.
SCARCE = 0.05
# Pure pixels that hold more than this share of a phase show its spectrum.
PURE = 0.2
# Components with less than this share of a phase's counts cannot tell whether the phase is in another.
LEAST_SHARE = 1e-3
# A declaration identifies a composition when without it the composition would be so many times as uncertain.
IDENTIFIES = 1.1
# One more is worth naming when it takes at least this share off the sd.
GAINS = 0.05
# Directions of which the unknown abundances leave less than this share of the information.
FLAT = 0.5
MOST_DIRECTIONS = 3
# What a sentence calls a component that is no element.
SAID = {"undeclared": "elements that nobody declared", "continuum": "the continuum"}


def non_identifiable(
    phases: Sequence[Phase],
    weights: FloatArray,
    names: Sequence[str],
    *,
    pure: FloatArray | None = None,
    rotated: FloatArray | None = None,
) -> list[NonIdentifiable]:
    """Pairs of phases of which the first could hold some of the second, or lose it, at no cost or hardly any.

    Parameters
    ----------
    phases
        What was declared.
    weights : (phase, component)
        Mean share of every component in the counts of a phase.
    names
        Of the components.
    pure : (phase,), optional
        Share of each phase that lies in pixels of it alone: where there are enough, they show its spectrum.
    rotated : (phase, phase), optional
        Share of the second phase that draws take out of the counts of the first one, at the most. Where draws are
        rotated, the intervals hold what could be taken out, and no more than this could.

    Returns
    -------
    list of NonIdentifiable
        Where the largest t, their `share`, exceeds a few per cent, the largest first; those that scarce components
        pin weakly come last.
    """
    seen = np.zeros(len(phases)) if pure is None else pure
    found = []
    for k, phase in enumerate(phases):
        for j, other in enumerate(phases):
            # What a support holds is in no composition: how much of it a phase holds, changes none either.
            if k == j or phase.matrix or phase.is_support or other.is_support or seen[k] > PURE:
                continue
            held = weights[j] > LEAST_SHARE
            main = weights[j] > SCARCE if (weights[j] > SCARCE).any() else held
            share, without_scarce = (
                float(np.min(weights[k, part] / weights[j, part])) for part in (held, main)
            )
            scarce = [
                names[i]
                for i in np.flatnonzero(held & ~main).tolist()
                if weights[k, i] < without_scarce * weights[j, i]
            ]
            if share > NOTICED:
                scarce = []
            elif not (scarce and without_scarce > NOTICED_OF_MAIN):
                continue
            t = without_scarce if scarce else share
            if rotated is not None:
                t = min(t, float(rotated[k, j]))
                if t <= (NOTICED_OF_MAIN if scarce else NOTICED):
                    continue
            found.append(
                NonIdentifiable(
                    phase=phase.name,
                    other=other.name,
                    share=min(t, 1.0),
                    weakly_pinned_by=tuple(scarce),
                    in_intervals=rotated is not None,
                )
            )
    return sorted(found, key=lambda pair: (bool(pair.weakly_pinned_by), -pair.share))


def non_identifiable_sentences(
    pairs: Sequence[NonIdentifiable], phases: Sequence[Phase] = (), *, lines: bool = True
) -> list[str]:
    """Say of every phase in `pairs` once what does not identify it, and what would; alike ones share a sentence.

    Parameters
    ----------
    pairs : sequence of NonIdentifiable
    phases : sequence of Phase
        What was declared, which is not asked for again.
    lines : bool
        Whether the model knows of elements, so that something can be declared of them.
    """
    declared = {phase.name: phase for phase in phases}
    first: dict[str, NonIdentifiable] = {}
    for pair in pairs:
        first.setdefault(pair.phase, pair)
    said: list[str] = []
    for in_intervals in (True, False):
        alike = [
            pair for pair in first.values() if pair.in_intervals == in_intervals and not pair.weakly_pinned_by
        ]
        if alike:
            said.append(_non_identifiable(alike, declared, lines=lines))
    weak = [pair for pair in first.values() if pair.weakly_pinned_by]
    return [*said, *(_weakly_identifiable(pair, declared, lines=lines) for pair in weak)]


def _non_identifiable(
    pairs: Sequence[NonIdentifiable], declared: Mapping[str, Phase], *, lines: bool
) -> Doubt:
    """Say that phases could hold some of others, and what would mend it."""
    (one, *more), held = pairs, pairs[0].in_intervals
    names = join(pair.phase for pair in pairs)
    shares = join(
        [
            f"about {100.0 * one.share:.0f} % of {f'the counts of {one.phase}' if more else 'its counts'}, or more, "
            f"could belong to {one.other}",
            *(f"{100.0 * pair.share:.0f} % of those of {pair.phase} to {pair.other}" for pair in more),
        ]
    )
    theirs = "their" if more else "its"
    intervals = (
        f". {theirs.capitalize()} intervals include that and are as wide as it makes them."
        if held
        else f", and {theirs} intervals do not include that."
    )
    text = (
        f"{names} {'are' if more else 'is'} non-identifiable: {shares} without any change in the fit{intervals} "
        f"{_remedy(pairs, declared, lines=lines)}"
    )
    return (Reservation if held else Distrust)(text, IDENTIFIABILITY)


def _weakly_identifiable(pair: NonIdentifiable, declared: Mapping[str, Phase], *, lines: bool) -> Doubt:
    """Say that scarce elements alone show what a phase is not, and what would mend it."""
    phase, other = pair.phase, pair.other
    scarce = join(SAID.get(name, name) for name in pair.weakly_pinned_by)
    shows = "shows" if len(pair.weakly_pinned_by) == 1 else "show"
    text = (
        f"{phase} is weakly identifiable: only {scarce}, of which {other} has little, {shows} that it is not partly "
        f"{other}. About {100.0 * pair.share:.0f} % of its counts could be, or more, and its intervals "
        f"{'include' if pair.in_intervals else 'may not include'} that. {_remedy([pair], declared, lines=lines)}"
    )
    return Reservation(text, IDENTIFIABILITY)


def _remedy(pairs: Sequence[NonIdentifiable], declared: Mapping[str, Phase], *, lines: bool) -> str:
    """Say what can be declared of phases that was not declared of all of them."""
    some = [declared.get(pair.phase, Phase(pair.phase)) for pair in pairs]
    one = pairs[0] if len(pairs) == 1 else None
    name, other = (one.phase, one.other) if one else ("one", "the other")
    pure = f"`matrix = true` {'if' if one else 'where'} {name} has pure regions"
    if not lines:
        return f"Declare {pure}, or unmix by endmembers made of lines."
    formula = "" if all(phase.stoichiometry for phase in some) else ", its formula (`stoichiometry`)"
    reference = "" if all(phase.reference for phase in some) else " or a spectrum of it alone (`reference`)"
    return (
        f"Declare {'' if one else 'what tells them apart: '}an element of {other} absent from {name}{formula}, an "
        f"amount that you know (`composition`){reference}, or {pure}."
    )


class Known(NamedTuple):
    """What the fit alone says, before there are draws.

    Attributes
    ----------
    local : LocalPosterior
    less : list of Change
        Compositions with one declaration less.
    """

    local: LocalPosterior
    less: list[Change]

    @classmethod
    def of(cls, fitted: FittedPosterior, phases: Sequence[Phase], elements: Sequence[str]) -> Known:
        """Describe a fit; this compiles for some seconds where anything was declared absent."""
        local = LocalPosterior.of(fitted)
        return cls(local, taken_back(local, phases, elements))


def identifiability(
    known: Known,
    phases: Sequence[Phase],
    elements: Sequence[str],
    counting: xr.DataArray,
    budget: xr.Dataset,
    present: npt.NDArray[np.bool_],
    calibration_sd: FloatArray,
    oxides: bool,
) -> Identifiability:
    """Collect what identifies every composition; which phases are not identifiable, `non_identifiable` says.

    Parameters
    ----------
    known : Known
    phases, elements : sequences
        What was declared.
    counting : DataArray (chain, draw, phase, element)
        Draws of the one solution that was found, with nominal calibration.
    budget : Dataset
        From `bayesunmix.checks.budget.uncertainty_budget`.
    present : (phase, element)
        Elements that nobody would declare absent.
    calibration_sd : (element,)
        Relative errors of the line strengths.
    oxides : bool
        Whether formulas of oxides are asked for.
    """
    local, less = known
    more = given_more(local, phases, elements, present, calibration_sd, oxides=oxides)
    return Identifiability(
        compositions=tuple(
            composition_records(
                local, phases, elements, counting=counting, budget=budget, less=less, more=more
            )
        ),
        declarations=tuple(_strongest(change, local, phases, elements) for change in less),
        flat_directions=tuple(flat_directions(local, phases, elements)),
    )


def composition_records(
    local: LocalPosterior,
    phases: Sequence[Phase],
    elements: Sequence[str],
    counting: xr.DataArray,
    budget: xr.Dataset,
    less: Sequence[Change],
    more: Sequence[Change],
) -> list[PinnedComposition]:
    """One entry for every composition that was not declared zero."""
    sd = np.sqrt(quadratic(local.slopes(), local.covariance[local.lines, local.lines]))
    low, high = rotated_range(local, phases)
    flat = np.sqrt(budget["composition"].sel(source="unmixing").values)
    drawn = counting.std(["chain", "draw"]).values
    # The linear scale gives ratios; the draws, where there are any, give the sd itself.
    unit = np.divide(drawn, sd, out=np.ones_like(sd), where=(sd > 0) & (drawn > 0))
    rows = []
    for k, phase in enumerate(phases):
        for i, element in enumerate(elements):
            if phase.is_support or element in phase.absent or sd[k, i] == 0.0:
                continue
            without = [float(np.hypot(np.sqrt(change.variance[k, i]), change.shift[k, i])) for change in less]
            # That an element is absent tells its own amount, which is no gain.
            own = [change.phase == phase.name and element in change.elements for change in more]
            with_ = [
                np.inf if itself else float(np.sqrt(change.variance[k, i]))
                for change, itself in zip(more, own, strict=True)
            ]
            worst = int(np.argmax(without)) if without else -1
            best = int(np.argmin(with_)) if with_ else -1
            pinned = worst >= 0 and without[worst] > IDENTIFIES * sd[k, i]
            gain = best >= 0 and with_[best] < (1.0 - GAINS) * sd[k, i]
            rows.append(
                PinnedComposition(
                    phase=phase.name,
                    element=element,
                    at_frac=float(local.atom_fractions[k, i]),
                    sd=float(unit[k, i] * sd[k, i]),
                    flat_sd=float(flat[k, i]),
                    flat_low=float(low[k, i]),
                    flat_high=float(high[k, i]),
                    pinned_by=_named(less[worst]) if pinned else "",
                    sd_without=float(unit[k, i]) * without[worst] if pinned else None,
                    would_gain=_named(more[best]) if gain else "",
                    sd_with=float(unit[k, i]) * with_[best] if gain else None,
                )
            )
    return rows


def rotated_range(local: LocalPosterior, phases: Sequence[Phase]) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest atom fractions along the exact rotations that declarations and pixels allow.

    Returns
    -------
    Two arrays (phase, element); both are the atom fractions at the mode where nothing can move.
    """
    weights, yields = local.weights, np.asarray(local.data.yields)
    allowed = np.asarray(local.data.basis.allowed)
    spans = [local.atom_fractions]
    for k, phase in enumerate(phases):
        for j in range(len(phases)):
            held = weights[j] > LEAST_SHARE
            if k == j:
                continue
            out = 0.0 if phase.matrix else float(np.min(weights[k, held] / weights[j, held]))
            into = _least_beside(local, k, j) if allowed[k, held].all() else 0.0
            for share in (-min(out, 1.0), into):
                turned = local.atom_fractions.copy()
                atoms = (
                    np.maximum(weights[k] + share * weights[j], 0.0)[: yields.shape[1]]
                    * allowed[k, : yields.shape[1]]
                )
                atoms = atoms / yields[k]
                if atoms.sum() > 0:
                    turned[k] = atoms / atoms.sum()
                    spans.append(turned)
    return np.min(spans, axis=0), np.max(spans, axis=0)


def _least_beside(local: LocalPosterior, k: int, j: int) -> float:
    """Smallest a_j / a_k of any support point of the mixture that holds a block."""
    prior = local.data.prior
    points = np.asarray(prior.support_points)
    start = local.places["abundance_xi"]
    share = softmax(prior.mean + prior.factor @ local.z[start])
    blocks = float(local.data.pixels.present.sum())
    used = (share * blocks > 1.0) & (points[:, k] > 0.0)
    return float((points[used, j] / points[used, k]).min()) if used.any() else 0.0


def flat_directions(
    local: LocalPosterior, phases: Sequence[Phase], elements: Sequence[str]
) -> list[FlatDirection]:
    """Directions of the compositions that the counts hold least, the flattest first.

    They solve V^-1 u = kept I_c u: ``kept`` is the share of the information with known abundances that is left.
    """
    marginal = np.linalg.inv(local.covariance[local.lines, local.lines])
    kept, vectors = eigh(0.5 * (marginal + marginal.T), local.complete)
    found = []
    for share, vector in zip(kept[:MOST_DIRECTIONS], vectors.T, strict=False):
        if share > FLAT:
            break
        unit = vector / np.sqrt(vector @ marginal @ vector)
        moved = np.where(supports_of(phases)[:, None], 0.0, local.slopes() @ unit)
        k, i = divmod(int(np.abs(moved).argmax()), moved.shape[1])
        found.append(
            FlatDirection(
                kept=float(max(share, 0.0)),
                phase=phases[k].name,
                element=elements[i],
                change=float(abs(moved[k, i])),
            )
        )
    return found


def _strongest(
    change: Change, local: LocalPosterior, phases: Sequence[Phase], elements: Sequence[str]
) -> DeclarationEffect:
    """Effect of one declaration: where it does most, relative to the sd that is there with it."""
    sd = np.sqrt(quadratic(local.slopes(), local.covariance[local.lines, local.lines]))
    times = np.divide(
        np.hypot(np.sqrt(change.variance), change.shift), sd, out=np.ones_like(sd), where=sd > 0
    )
    k, i = divmod(int(times.argmax()), times.shape[1])
    return DeclarationEffect(
        phase=change.phase,
        declaration=change.declaration,
        does_most_for=Place(phase=phases[k].name, element=elements[i]),
        sd_times_without=float(times[k, i]),
        shift_without=float(change.shift[k, i]),
    )


def _named(change: Change) -> str:
    return f"{change.phase}: {change.declaration}"
