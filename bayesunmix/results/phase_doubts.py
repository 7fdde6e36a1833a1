"""What a run says of its phases: whether the counts show them, and what they leave open of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bayesunmix.config.overlap import LEAST_GAINED, OverlapChoice
from bayesunmix.core.rounding import main_elements_text, percent_text
from bayesunmix.core.severity import IDENTIFIABILITY, OVERLAP, PHOTONS, PRESENCE, Distrust, Reservation, join
from bayesunmix.core.shares import NOTHING, ratio_of
from bayesunmix.fit.search import TRACES
from bayesunmix.results.tables import ABSENT, STATED

if TYPE_CHECKING:
    import pandas as pd

    from bayesunmix.checks.outcomes import NonIdentifiable
    from bayesunmix.checks.robust import Robust
    from bayesunmix.fit.setup import Setup
    from bayesunmix.results.record_parts import FurtherPhase, PhaseNumber, Presence

FloatArray = npt.NDArray[np.float64]


# An interval wider than this, in atom fractions, says nothing of an element.
TELLS_NOTHING = 0.5
# A fraction of one half among so many photons has a 95 % interval of plus or minus ten per cent.
FEWEST_PHOTONS = 100.0
# Of so many it is known to a per cent: what is open then, more of them would leave open.
MANY_PHOTONS = 1e4
# An interval wider than this, in atom fractions, and so many times as wide as the model's: what is declared decides.
LEFT_OPEN, FAR_WIDER = 0.15, 2.0
# Amounts that one may know, from this atom fraction on and to this relative error, and the share of another one's
# variance that is worth it.
KNOWN_FROM, KNOWN_SD, TELLS_MUCH = 0.05, 0.05, 0.5
# Standard errors by which held-out counts ask for a further phase beyond doubt.
BEYOND_DOUBT = 4.0
# Share of the counts from which a phase that was not counted, as it fits as a mixture, is worth a doubt.
LARGE_SHARE = 0.05


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
                f"{row['element']} in {phase}, {percent_text(row['lower'])} to {percent_text(row['upper'])} at%"
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


def not_supported(found: Sequence[Presence]) -> list[str]:
    """Return a sentence on each phase that may be none; of two that may be one phase, one."""
    standing = {one.phase: one.standing for one in found}
    said: list[str] = []
    told: set[str] = set()
    for one in found:
        gain = f"held-out counts gain {one.gain:.0f} ± {one.gain_se:.0f} nats from it"
        apart = f"{percent_text(min(one.apart, one.shown))} %"
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


def one_more(found: FurtherPhase) -> list[str]:
    """Return the sentence on a phase that nobody asked for."""
    most = max(one.lines for one in found.phases)
    supports = [one.lines < TRACES * most for one in found.phases]
    made_of = [
        "next to no element of the sample" if support else main_elements_text(one.composition)
        for one, support in zip(found.phases, supports, strict=True)
    ]
    listed = join(
        f"{what} ({percent_text(one.share)} % of the counts)"
        for what, one in zip(made_of, found.phases, strict=True)
    )
    sure = found.gain > BEYOND_DOUBT * found.gain_se
    be_it = ', be it a film, a hole or stray signal (`kind = "support"`)' if any(supports) else ""
    text = (
        f"The map {'holds' if sure else 'may hold'} more than the phases asked for: held-out counts gain "
        f"{found.gain:,.0f} ± {found.gain_se:,.0f} nats from one more, which is neither a variation nor a mixture of "
        "the others. Without it, phases have the compositions of mixtures. A first fit with it, to half of the counts, "
        f"has {listed}. Declare the one that is missing{be_it}, run again with `phases = {len(found.phases)}`, or "
        'leave the number to the counts (`phases = "auto"`).'
    )
    return [(Distrust if sure else Reservation)(text, PRESENCE)]


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


def left_open(
    setup: Setup,
    fractions: FloatArray,
    summary: pd.DataFrame,
    robust: Robust,
    told: Sequence[NonIdentifiable],
) -> list[str]:
    """Sentences on phases whose draws were rotated and are far wider for it, or were too wide before: what decides.

    Parameters
    ----------
    setup : Setup
    fractions : (draw, phase, element)
        Atom fractions of the draws with nominal calibration factors.
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
            f"{join(remedies, 'or')}."
        )
        said.append(Reservation(text, IDENTIFIABILITY))
    return said


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
