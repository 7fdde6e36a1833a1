"""What a run says of what was declared: that the counts contradict it, or that it does not tell phases apart."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import xarray as xr
from scipy.sparse.csgraph import connected_components
from scipy.stats import chi2, norm

from bayesunmix.chemistry.given_names import NO_NAMES, GivenNames
from bayesunmix.config.phase import UNNAMED, Phase
from bayesunmix.core.severity import IDENTIFIABILITY, Reservation, join
from bayesunmix.core.shares import shares_of
from bayesunmix.models.statements import KEYS, Statements, chosen, missed, statements_log_density
from bayesunmix.results.tables import DETECTED, UNTESTED

if TYPE_CHECKING:
    from bayesunmix.fit.setup import Setup

FloatArray = npt.NDArray[np.float64]

# Atom fraction up to which a mode alone, without a test of detection, does not say that an element is there.
LITTLE = 0.01
# Statements missed by so many standard deviations: the counts and the declaration disagree.
BROKEN_SDS = 2.5
# Share of the draws that must be so far off, and draws that are asked.
SURELY, MOST_ASKED = 0.9, 200
# Mean abundance in a region that is declared to hold a phase alone: counting alone takes a few per cent off.
NEARLY_PURE = 0.85
# Logarithm of the smallest tail of a distribution that is a number.
LEAST_LOG = -700.0
# Nats by which what is declared softly tells two names apart.
TELLS_APART = 3.0
TELLING = (
    "what one has and the other has not (`absent`, `rich`, `composition`, `stoichiometry` or `reference`)"
)


def exchangeable(
    phases: Sequence[Phase], summary: pd.DataFrame, statements: Statements, given: GivenNames = NO_NAMES
) -> list[str]:
    """Sentences on phases whose names say more than what was declared of them: the fit may have exchanged them.

    Parameters
    ----------
    phases : sequence of Phase
    summary : DataFrame
        Compositions, as in ``composition.csv``.
    statements : Statements
        What is declared softly.
    given : GivenNames
        What the names stand for.
    """
    named = [phase for phase in phases if not UNNAMED.fullmatch(phase.name)]
    if not named:
        return []
    holds = (summary["detected"] == DETECTED) | (
        (summary["detected"] == UNTESTED) & (summary["mean"] > LITTLE)
    )
    held = {
        phase.name: set(summary.loc[holds & (summary["phase"] == phase.name), "element"]) for phase in named
    }
    # Which phase could bear which name: those that can be exchanged round about are one group.
    costs = _exchange_costs(phases, summary, statements, given)
    places = [phases.index(phase) for phase in named]
    could = np.array(
        [
            [
                _could_be(held[phase.name], phase, other) and costs[k, j] < TELLS_APART
                for j, other in zip(places, named, strict=True)
            ]
            for k, phase in zip(places, named, strict=True)
        ]
    )
    count, group = connected_components(could, connection="strong")
    said: list[str] = []
    for number in range(count):
        members = [phase for phase, own in zip(named, group.tolist(), strict=True) if own == number]
        if len(members) < 2:
            continue
        names = join(phase.name for phase in members)
        alike = all(phase.declared_as(members[0]) for phase in members)
        text = (
            f"The same is declared of {names}, so that their names are in an arbitrary order. Tell them apart by their "
            f"compositions, or declare {TELLING}."
            if alike
            else f"The names of {names} may be exchanged: what is declared of one is true of another as well. Tell "
            f"them apart by their compositions, or declare {TELLING}."
        )
        said.append(Reservation(text, IDENTIFIABILITY))
    return said


def _could_be(held: set[str], phase: Phase, other: Phase) -> bool:
    """Whether a phase that holds some elements is all that was declared of another one."""
    return phase.kind == other.kind and held.isdisjoint(other.absent)


def _exchange_costs(
    phases: Sequence[Phase], summary: pd.DataFrame, statements: Statements, given: GivenNames
) -> FloatArray:
    """Nats that what is said softly of the second phase, by its name, too, loses with the first one's composition."""
    costs = np.zeros((len(phases), len(phases)))
    if not len(statements.key) and not given.meant:
        return costs
    order = summary["element"].unique()
    table = summary.pivot(index="phase", columns="element", values="mean")
    fractions = table.reindex(index=[phase.name for phase in phases], columns=order).fillna(0.0).to_numpy()
    for k, j in itertools.permutations(range(len(phases)), 2):
        places = np.arange(len(phases))
        places[[k, j]] = j, k
        own = chosen(statements, statements.phase == j)
        before, after = (float(statements_log_density(own, each)) for each in (fractions, fractions[places]))
        costs[k, j] = before - after
    against = given.against([phase.name for phase in phases], fractions)
    costs += against - np.diag(against)
    return costs


def broken_statements(setup: Setup, statements: Statements, draws: FloatArray) -> list[str]:
    """Sentences on phases that are far off what was declared of their compositions, wherever the posterior has them.

    Parameters
    ----------
    setup : Setup
    statements : Statements
    draws : (draw, phase, element)
        Atom fractions as they are reported, with nominal calibration factors.
    """
    if not len(statements.key):
        return []
    some = draws[:: -(-len(draws) // MOST_ASKED)]
    each = np.abs([missed(statements, one) for one in some])
    off = np.quantile(each, 1.0 - SURELY, axis=0)
    fractions = np.median(some, axis=0)
    said: list[str] = []
    for k, key in dict.fromkeys(zip(statements.phase.tolist(), statements.key.tolist(), strict=True)):
        own = np.flatnonzero((statements.phase == k) & (statements.key == key))
        worst = int(own[np.argmax(off[own])])
        sds = float(off[worst])
        if KEYS[key] == "reference":
            # One spectrum gives a statement for each direction of a composition: all of them together are judged.
            sds = float(np.quantile(in_one(each[:, own]), 1.0 - SURELY))
        if sds > BROKEN_SDS:
            found = _found_instead(setup, statements, worst, fractions)
            text = (
                f"{setup.phases[k].name} contradicts its declared {found} ({sds:.1f} standard deviations off). "
                "Check what was declared; else a phase is missing, or one phase stands for a mixture of two."
            )
            said.append(Reservation(text))
    return said


def in_one(off: FloatArray) -> FloatArray:
    """Return by how many sd one statement is off that is as improbable as several together (..., statement), (...)."""
    squares = (off**2).sum(axis=-1)
    log_tail = np.asarray(chi2.logsf(squares, off.shape[-1]))
    # Beyond the range of numbers the distance itself is hardly longer.
    one = norm.isf(0.5 * np.exp(np.maximum(log_tail, LEAST_LOG)))
    return np.asarray(np.where(log_tail > LEAST_LOG, one, np.sqrt(squares)))


def impure_regions(setup: Setup, abundances: xr.Dataset) -> list[str]:
    """Sentences on regions that are declared to hold a phase alone, and do not.

    Parameters
    ----------
    setup : Setup
    abundances : Dataset (phase, y, x)
        ``abundance_mean`` of each pixel, for which any mixture was possible.
    """
    said: list[str] = []
    for k, phase in enumerate(setup.phases):
        inside = np.asarray(setup.known == k)
        if phase.region is None or not inside.any():
            continue
        mean = abundances["abundance_mean"].isel(phase=k).values[inside].mean()
        if mean < NEARLY_PURE:
            text = (
                f"The pixels that were declared to hold {phase.name} alone hold {100.0 * mean:.0f} % of it: they are a "
                "mixture, or another phase. Check the region, declare a smaller one, or none."
            )
            said.append(Reservation(text, IDENTIFIABILITY))
    return said


def _found_instead(setup: Setup, statements: Statements, row: int, fractions: FloatArray) -> str:
    """Say what a statement was, and what was found."""
    k, key = int(statements.phase[row]), KEYS[int(statements.key[row])]
    phase, elements = setup.phases[k], setup.forward.elements
    if key == "reference":
        return _unlike_reference(setup, k, fractions[k])
    above, below = (float((part[row] * fractions).sum()) for part in (statements.above, statements.below))
    of = [elements[i] for i in np.flatnonzero(statements.above[row].any(axis=0))]
    if key == "composition":
        mean, sd = phase.composition[of[0]]
        wanted = f"{100.0 * mean:.3g} ± {100.0 * sd:.2g}"
        return f"composition: it has {100.0 * above:.3g} at% {of[0]}, and {wanted} was said"
    if key in ("rich", "poor"):
        amounts = statements.below[row] if key == "rich" else statements.above[row]
        other = setup.phases[int(np.flatnonzero(amounts.any(axis=1))[0])].name
        more = "more" if key == "rich" else "less"
        return f'{key} = ["{of[0]}"]: {other} has {more} {of[0]}'
    ratio, edges = above / max(below, 1e-300), np.exp([statements.low[row], statements.high[row]])
    wanted = edges[0] if ratio < edges[0] else edges[1]
    under = [elements[i] for i in np.flatnonzero(statements.below[row].any(axis=0))]
    return (
        f"formula {phase.stoichiometry}: the ratio of {join(of)} to {join(under)} is {ratio:.2f}, and that of the "
        f"formula {wanted:.2g}"
    )


def _unlike_reference(setup: Setup, k: int, fractions: FloatArray) -> str:
    """Say of which element a phase is farthest from its reference spectrum."""
    phase, elements = setup.phases[k], setup.forward.elements
    told = next(one for one in setup.references if one.phase == phase.name)
    shares = shares_of(fractions[[elements.index(element) for element in told.elements]])
    i = int(np.argmax(np.abs(shares - told.atom_fractions) / told.sd))
    mean, sd = max(float(told.atom_fractions[i]), 0.0), float(told.sd[i])
    return (
        f"reference spectrum ({phase.reference}): it has {100.0 * shares[i]:.3g} at% {told.elements[i]}, and the "
        f"spectrum {100.0 * mean:.3g} ± {100.0 * sd:.2g}"
    )
