"""What the phases of a map may be, by their compositions: probabilities of the entries of a library, and of none.

    P(e | counts) is proportional to  sum_g P(g) P(e | g) m_k(e) prod_(other phases l) [ ... ],

m the likelihoods of `compound_evidence`, of phase k. g is the kind of sample, deep mantle or superalloy, which the
phases of a map share and which is not known. Before anything is seen, a phase is none of the entries with probability
`NONE`; else, with probability 1 - `ELSEWHERE`, one that occurs in g, and one of all otherwise, by their weights. A
kind of sample is as probable as the weights of its entries that the declared elements allow, so that for a single
phase weights alone count before its composition is seen, and in how many kinds an entry occurs. What the phases share
besides (calibration) is left out.

Entries of one composition in the declared elements (polymorphs, or oxide and metal where oxygen is not measured) get
the same likelihood: they share the probability by what is known beforehand, and `Candidate.alike` says so.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from bayesunmix.chemistry.compound_evidence import Evidence, evidence, mean_evidence, none_log_likelihood
from bayesunmix.chemistry.compounds import Compound, kinds_of
from bayesunmix.chemistry.endmember_mixing import LIGHT, Mixing, mixing
from bayesunmix.chemistry.open_composition import even_draws
from bayesunmix.chemistry.smoothed_composition import SmoothedComposition

FloatArray = npt.NDArray[np.float64]

NONE = 0.2
ELSEWHERE = 0.1
STRAY = 0.1
"""Part of its weight that an entry keeps which needs an element that was declared stray: it is taken for no phase's."""
ONE_ENDED = 0.1
"""Part that is left of a solid solution of which a main end member is not declared: brass without zinc."""
ALIKE = 3.0
"""Entries whose likelihoods differ by less than this factor are alike: less is "not worth more than a bare mention".

Kass, R. E., Raftery, A. E., J. Am. Stat. Assoc. 90 (1995) 773, doi:10.1080/01621459.1995.10476572.
"""
# A main end member gives its name to the phase from this share on.
_NAMES = 0.5


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What a phase may be.

    Attributes
    ----------
    compound
        The entry.
    probability
        Given the draws.
    member
        Main end member that it lies nearest to, with its share; empty where there is one only.
    unmeasured
        Elements of it that the map does not measure.
    alike
        Names of other entries that its composition does not tell from it.
    """

    compound: Compound
    probability: float
    member: str
    unmeasured: tuple[str, ...]
    alike: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Names:
    """What one phase may be.

    Attributes
    ----------
    phase
        Its name.
    candidates
        Entries, the most probable first.
    none
        Probability that it is none of the library's.
    open
        Elements whose amounts the map leaves open.
    """

    phase: str
    candidates: tuple[Candidate, ...]
    none: float
    open: tuple[str, ...] = ()


def names_of_phases(
    draws: Mapping[str, FloatArray],
    elements: Sequence[str],
    compounds: Sequence[Compound],
    *,
    hidden: Collection[str] = (),
    oxygen: bool = True,
    kind: str | None = None,
    least: float = 0.005,
    one_solution: Mapping[str, FloatArray] | None = None,
) -> tuple[Names, ...]:
    """Return what each phase may be.

    Parameters
    ----------
    draws
        Atom fractions (draw, element) by phase; a single one is a point without errors, for which usual ones are taken.
    elements
        The declared elements.
    compounds
        The library.
    hidden
        Elements that a phase may hold unseen, as they are fitted as stray signal.
    oxygen
        Whether the sample may hold any.
    kind
        Kind of sample, where it is known.
    least
        Candidates below this probability are left out.
    one_solution
        Atom fractions of all phases in the same draws before they were rotated by what the map leaves open, where they
        were.

    Examples
    --------
    >>> from bayesunmix.chemistry.compounds import library
    >>> x = np.random.default_rng(0).normal([0.666, 0.334], 0.02, (200, 2))
    >>> names_of_phases({"A": x}, ["Ti", "Al"], library())[0].candidates[0].compound.name
    'MAX phase Ti2AlC'
    """
    if not draws:
        return ()
    entries = [one for one in (mixing(c, elements, hidden, oxygen) for c in compounds) if one is not None]
    drawn = [_drawn(name, x, one_solution or {}, elements) for name, x in draws.items()]
    found = [_evidence_of_all(entries, one) for one in drawn]
    none = np.array([by_none for _, by_none in found])
    likelihood = np.array([[one.log_likelihood for one in row] for row, _ in found]).reshape(
        len(found), len(entries)
    )
    joint, by_none = posterior(likelihood, none, [_weighted(one) for one in entries], kind)
    return tuple(
        Names(
            phase=phase,
            candidates=_candidates(entries, row, weight, log_m, least),
            none=float(rest),
            open=one.open,
        )
        for phase, one, (row, _), weight, log_m, rest in zip(
            draws, drawn, found, joint, likelihood, by_none, strict=True
        )
    )


@dataclass(frozen=True)
class _Drawn:
    """Draws of a phase in cells of equal volume, and the elements that are open."""

    cells: tuple[SmoothedComposition, ...]
    open: tuple[str, ...] = ()


def _drawn(
    phase: str, x: FloatArray, one_solution: Mapping[str, FloatArray], elements: Sequence[str]
) -> _Drawn:
    """Smooth the draws of a phase: even over what is feasible where the map leaves it open, else as they are."""
    x = np.asarray(x, dtype=np.float64)
    even = None
    if phase in one_solution:
        every = np.stack(list(one_solution.values()), axis=1)
        even = even_draws(x, every, list(one_solution).index(phase))
    if even is None:
        return _Drawn((SmoothedComposition.of(x),))
    cells = tuple(SmoothedComposition.of(cell, spread=True) for cell in even.cells)
    is_open = tuple(element for element, wide in zip(elements, even.open, strict=True) if wide)
    return _Drawn(cells, is_open)


def _evidence_of_all(entries: Sequence[Mixing], drawn: _Drawn) -> tuple[list[Evidence], float]:
    """Return what speaks for each entry, and for none of them: means over the cells."""
    none = np.array([none_log_likelihood(cell) for cell in drawn.cells])
    by_none = float(logsumexp(none) - np.log(len(none)))
    # An entry that is far below none of them in all cells together is not followed in any.
    least = np.maximum(none, by_none)
    found = [
        mean_evidence(
            [_impure_or_not(entry, cell, low) for cell, low in zip(drawn.cells, least, strict=True)]
        )
        for entry in entries
    ]
    return found, by_none


def _impure_or_not(entry: Mixing, drawn: SmoothedComposition, least: float) -> Evidence:
    """Return what speaks for an entry, with or without the minor end members that are hardly there, each as probable.

    A pure metal is then as likely by an entry that allows for impurities as by one that does not.
    """
    full = evidence(entry, drawn, least)
    pure = entry.without(drawn.hardly)
    if pure is entry:
        return full
    both = np.logaddexp(full.log_likelihood, evidence(pure, drawn, least).log_likelihood) - np.log(2.0)
    shares = full.shares if np.isfinite(full.log_likelihood) else np.eye(1, len(full.shares))[0]
    return Evidence(float(both), shares)


def _weighted(entry: Mixing) -> Compound:
    """Return the entry with the weight that it has where its elements are stray, or an end of it cannot be there."""
    weight = entry.compound.weight
    if not set(entry.unmeasured) <= set(LIGHT):
        weight *= STRAY
    if entry.n_main < len(entry.compound.main):
        weight *= ONE_ENDED
    return replace(entry.compound, weight=weight)


def posterior(
    likelihood: FloatArray, none: FloatArray, compounds: Sequence[Compound], kind: str | None = None
) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities of the entries, (phase, entry), and of none of them, (phase,).

    Parameters
    ----------
    likelihood, none
        Log likelihoods, (phase, entry) and (phase,).
    compounds
        The entries.
    kind
        Kind of sample, where it is known.
    """
    if not compounds:
        return np.zeros((len(none), 0)), np.ones(len(none))
    prior, kinds = _priors(compounds, kind)
    with np.errstate(divide="ignore"):
        log_prior = np.log(prior)
    # (kind, phase, entry), and none of them as one entry more.
    each = np.log1p(-NONE) + log_prior[:, None, :] + likelihood
    rest = np.broadcast_to((np.log(NONE) + none)[None, :, None], (len(kinds), len(none), 1))
    both = np.concatenate([each, rest], axis=2)
    by_phase = logsumexp(both, axis=2, keepdims=True)
    of_kind = np.log(kinds) + by_phase.sum(axis=(1, 2))
    weight = np.exp(of_kind - logsumexp(of_kind))
    joint = np.tensordot(weight, np.exp(both - by_phase), axes=1)
    return joint[:, :-1], joint[:, -1]


def _priors(compounds: Sequence[Compound], kind: str | None) -> tuple[FloatArray, FloatArray]:
    """Return the prior of the entries by kind of sample, (kind, entry), and that of the kinds, (kind,)."""
    usual = np.array([one.weight for one in compounds])
    names = (kind,) if kind is not None else kinds_of(compounds) or ("",)
    occurs = np.array([[not one.occurs_in or name in one.occurs_in for one in compounds] for name in names])
    inside = occurs * usual
    sums = inside.sum(axis=1)
    # Of a kind that none of them occurs in, nothing is known.
    inside = np.where(sums[:, None] > 0.0, inside, usual)
    prior = (1.0 - ELSEWHERE) * inside / inside.sum(axis=1, keepdims=True) + ELSEWHERE * usual / usual.sum()
    return prior, inside.sum(axis=1) / inside.sum()


def _candidates(
    entries: Sequence[Mixing],
    found: Sequence[Evidence],
    probability: FloatArray,
    log_m: FloatArray,
    least: float,
) -> tuple[Candidate, ...]:
    finite = np.where(np.isfinite(log_m), log_m, -1e300)
    ranked = [int(place) for place in np.argsort(-probability, kind="stable") if probability[place] >= least]
    return tuple(
        Candidate(
            compound=entries[place].compound,
            probability=float(probability[place]),
            member=_member(entries[place], found[place].shares),
            unmeasured=entries[place].unmeasured,
            alike=tuple(
                entries[other].compound.name
                for other in ranked
                if other != place and abs(finite[other] - finite[place]) < np.log(ALIKE)
            ),
        )
        for place in ranked
    )


def _member(entry: Mixing, shares: FloatArray) -> str:
    """Name the end member that makes up most of a solid solution with several, and its share of the main ones."""
    main = shares[: entry.n_main]
    if len(entry.compound.main) < 2 or main.sum() <= 0.0:
        return ""
    share, place = float(main.max() / main.sum()), int(np.argmax(main))
    return f"{entry.endmembers[place].name} {share:.2f}" if share >= _NAMES else ""
